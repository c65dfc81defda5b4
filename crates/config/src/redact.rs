//! A configuration as those may see it who may not read all of it.
//!
//! What a key holds is told by the schema: texts are secrets unless they are named here as open, so that
//! a new key is hidden until somebody has thought about it.

use serde_json::Value as Json;

use crate::schema::{Key, ROOT, ValueKind, Variant};

/// Texts that let nobody in.
const OPEN: &[&str] = &[
    "content-type",
    "expect",
    "expect-headers",
    "expect-hex",
    "expect-regex",
    "from",
    "host",
    "interface",
    "interfaces",
    "method",
    "name",
    "realm",
    "server",
    "service",
    "tag",
    "to",
];

/// A text that is shown in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// A condition of a route.
    Condition(&'a str),
    /// A path, or a text with variables.
    Text(&'a str),
    /// A query without its `?`.
    Query(&'a str),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Visibility {
    Open,
    Condition,
    Text,
    Query,
    Secret,
}

fn visibility(key: &Key) -> Visibility {
    match key.kind {
        ValueKind::Text { .. }
        | ValueKind::List(ValueKind::Text { .. })
        | ValueKind::Map(ValueKind::Text { .. }) => {
            if OPEN.contains(&key.name) {
                Visibility::Open
            } else {
                Visibility::Secret
            }
        }
        ValueKind::Map(ValueKind::Template) => Visibility::Secret,
        ValueKind::Condition => Visibility::Condition,
        ValueKind::Template if key.name == "rewrite-query" => Visibility::Query,
        ValueKind::Template | ValueKind::HttpPath => Visibility::Text,
        _ => Visibility::Open,
    }
}

/// Replaces the secrets in the values of a configuration by `left_out`; `part` says what remains of a
/// text that is shown in part.
pub fn redact(values: &mut Json, left_out: &str, part: &dyn Fn(Part<'_>) -> String) {
    Redaction { left_out, part }.table(ROOT.keys, values);
}

struct Redaction<'a> {
    left_out: &'a str,
    part: &'a dyn Fn(Part<'_>) -> String,
}

impl Redaction<'_> {
    fn table(&self, keys: &[Key], value: &mut Json) {
        let Json::Object(map) = value else { return };
        for (name, value) in map.iter_mut() {
            match keys.iter().find(|key| key.name == name) {
                Some(key) => self.key(key, value),
                None if name == "type" => {}
                None => self.hide(value),
            }
        }
    }

    fn key(&self, key: &Key, value: &mut Json) {
        match key.kind {
            ValueKind::Table(table) => self.table(table.keys, value),
            ValueKind::Tables(table) => {
                if let Json::Array(all) = value {
                    all.iter_mut().for_each(|one| self.table(table.keys, one));
                }
            }
            ValueKind::Typed(variants) => self.typed(variants, value),
            _ => match visibility(key) {
                Visibility::Open => {}
                Visibility::Secret => self.hide(value),
                Visibility::Condition => self.partly(value, |text| (self.part)(Part::Condition(text))),
                Visibility::Text => self.partly(value, |text| (self.part)(Part::Text(text))),
                Visibility::Query => self.partly(value, |text| (self.part)(Part::Query(text))),
            },
        }
    }

    fn typed(&self, variants: &[Variant], value: &mut Json) {
        let word = value.get("type").and_then(Json::as_str);
        let keys = variants.iter().find(|v| Some(v.word) == word).map_or(&[][..], |v| v.keys);
        self.table(keys, value);
    }

    /// Names stay, values go.
    fn hide(&self, value: &mut Json) {
        match value {
            Json::Object(map) => map.values_mut().for_each(|value| self.hide(value)),
            Json::Array(all) => all.iter_mut().for_each(|value| self.hide(value)),
            Json::Bool(_) | Json::Null => {}
            other => *other = Json::String(self.left_out.to_owned()),
        }
    }

    fn partly(&self, value: &mut Json, shown: impl Fn(&str) -> String) {
        match value {
            Json::String(text) => *text = shown(text),
            other => self.hide(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    /// A value for every key that holds a text, with a marker of its own in each.
    fn planted(keys: &[Key], depth: usize, count: &mut usize) -> Json {
        let mut map = Map::new();
        for key in keys {
            let mut text = || {
                *count += 1;
                json!(format!("MARKER{count}X"))
            };
            let value = match key.kind {
                ValueKind::Table(table) | ValueKind::Tables(table) if depth > 6 => json!({ table.name: 1 }),
                ValueKind::Table(table) => planted(table.keys, depth + 1, count),
                ValueKind::Tables(table) => json!([planted(table.keys, depth + 1, count)]),
                ValueKind::Typed(_) => continue,
                ValueKind::Map(_) => json!({ "name": text() }),
                ValueKind::List(_) => json!([text()]),
                _ => text(),
            };
            map.insert(key.name.to_owned(), value);
        }
        Json::Object(map)
    }

    fn secrets(keys: &[Key], value: &Json, found: &mut Vec<String>) {
        for key in keys {
            let Some(value) = value.get(key.name) else { continue };
            match key.kind {
                ValueKind::Table(table) => secrets(table.keys, value, found),
                ValueKind::Tables(table) => {
                    value.as_array().into_iter().flatten().for_each(|v| secrets(table.keys, v, found));
                }
                ValueKind::Typed(_) => {}
                _ if visibility(key) == Visibility::Open => {}
                _ => found.push(value.to_string()),
            }
        }
    }

    fn check(keys: &[Key], redact: &dyn Fn(&mut Json)) {
        let mut count = 0;
        let mut values = planted(keys, 0, &mut count);
        let mut planted_in = Vec::new();
        secrets(keys, &values, &mut planted_in);
        redact(&mut values);
        let text = values.to_string();
        for one in planted_in {
            let marker = &one[one.find("MARKER").unwrap()..];
            let marker = &marker[..=marker.find('X').unwrap()];
            assert!(!text.contains(marker), "{one} is in {text}");
        }
    }

    #[test]
    fn no_secret_of_any_key_is_shown() {
        let part = |_: Part<'_>| "(part)".to_owned();
        let redaction = Redaction { left_out: "(left out)", part: &part };
        check(ROOT.keys, &|values| redact(values, "(left out)", &part));
        // Kinds of health checks, and whatever else has a type.
        fn typed(keys: &'static [Key], found: &mut Vec<&'static Variant>, depth: usize) {
            for key in keys.iter().filter(|_| depth < 6) {
                match key.kind {
                    ValueKind::Table(table) | ValueKind::Tables(table) => typed(table.keys, found, depth + 1),
                    ValueKind::Typed(variants) => found.extend(variants),
                    _ => {}
                }
            }
        }
        let mut variants = Vec::new();
        typed(ROOT.keys, &mut variants, 0);
        assert!(variants.iter().any(|v| v.word == "radius"));
        for variant in variants {
            check(variant.keys, &|values| {
                values["type"] = json!(variant.word);
                redaction.typed(std::slice::from_ref(variant), values);
            });
        }
    }

    #[test]
    fn names_and_places_are_shown() {
        let mut values = json!({
            "virtual-service": [{
                "name": "shop", "vip": ["192.0.2.1:80"], "mode": "http", "unknown": "x",
                "route": [{ "name": "r", "when": "c", "set-header": { "X-Key": "v" } }],
                "health-check": { "type": "http", "headers": { "Authorization": "v" }, "expect": "fine" },
            }],
        });
        redact(&mut values, "-", &|part| format!("{part:?}"));
        let service = &values["virtual-service"][0];
        assert_eq!((&service["name"], &service["vip"][0]), (&json!("shop"), &json!("192.0.2.1:80")));
        assert_eq!(service["route"][0]["when"], "Condition(\"c\")");
        assert_eq!(service["route"][0]["set-header"]["X-Key"], "-");
        assert_eq!(service["health-check"]["headers"]["Authorization"], "-");
        assert_eq!(service["health-check"]["expect"], "fine");
        assert_eq!(service["unknown"], "-");
    }
}
