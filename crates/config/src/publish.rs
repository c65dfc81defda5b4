//! The schema for others: JSON Schema (draft 2020-12) for editors, Markdown for people.

use serde_json::{Map, Value, json};

use crate::schema::{Key, ROOT, Table, ValueKind};
use crate::validate::expectation;

pub fn json_schema() -> Value {
    let mut schema = object(ROOT.keys, &[]);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Evenkeel configuration");
    schema
}

fn object(keys: &[Key], tag: &[(&str, &str)]) -> Value {
    let mut properties = Map::new();
    for (name, word) in tag {
        properties.insert((*name).into(), json!({ "const": word }));
    }
    for key in keys {
        let mut value = kind(&key.kind);
        value["description"] = json!(key.doc);
        if !key.default.is_empty() && matches!(value["type"].as_str(), Some("string")) {
            value["default"] = json!(key.default);
        }
        properties.insert(key.name.into(), value);
    }
    let required: Vec<_> =
        tag.iter().map(|(name, _)| *name).chain(keys.iter().filter(|k| k.required).map(|k| k.name)).collect();
    json!({ "type": "object", "additionalProperties": false, "properties": properties, "required": required })
}

fn kind(of: &ValueKind) -> Value {
    match of {
        ValueKind::Flag => json!({ "type": "boolean" }),
        ValueKind::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        ValueKind::Choice(words) => {
            json!({ "type": "string", "enum": words.iter().map(|w| w.word).collect::<Vec<_>>() })
        }
        ValueKind::List(inner) => json!({ "type": "array", "items": kind(inner) }),
        ValueKind::CertificateNames => json!({ "anyOf": [
            { "type": "string", "enum": ["routes"] },
            { "type": "array", "items": { "type": "string" } },
        ] }),
        ValueKind::Table(table) => object(table.keys, &[]),
        ValueKind::Tables(table) => json!({ "type": "array", "items": object(table.keys, &[]) }),
        ValueKind::Map(inner) => json!({ "type": "object", "additionalProperties": kind(inner) }),
        ValueKind::Typed(variants) => {
            let each: Vec<_> = variants.iter().map(|v| object(v.keys, &[("type", v.word)])).collect();
            json!({ "oneOf": each })
        }
        ValueKind::Duration { .. } => {
            json!({ "type": "string", "pattern": "^([0-9]+(\\.[0-9]+)?(ms|s|m|h|d))+$" })
        }
        ValueKind::Name => json!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$" }),
        _ => json!({ "type": "string" }),
    }
}

/// The reference page of the configuration.
pub fn reference_markdown() -> String {
    let mut page = String::from(
        "# Configuration reference\n\nMade from the program's own schema (`evenkeel check` uses the same); a test fails when this page drifts.\n",
    );
    markdown_table(&mut page, "", &ROOT, false);
    page
}

fn markdown_table(page: &mut String, path: &str, table: &Table, many: bool) {
    if !path.is_empty() {
        let title = if many { format!("[[{path}]]") } else { format!("[{path}]") };
        page.push_str(&format!("\n## `{title}`\n{}\n", table.doc));
    }
    markdown_keys(page, table.keys);
    for key in table.keys {
        let inner = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
        match key.kind {
            ValueKind::Table(inner_table) => markdown_table(page, &inner, inner_table, false),
            ValueKind::Tables(inner_table) => markdown_table(page, &inner, inner_table, true),
            ValueKind::Typed(variants) => {
                for variant in variants {
                    page.push_str(&format!(
                        "\n### `{inner} = {{ type = \"{}\" }}`\n{}\n",
                        variant.word, variant.doc
                    ));
                    markdown_keys(page, variant.keys);
                }
            }
            _ => {}
        }
    }
}

fn markdown_keys(page: &mut String, keys: &[Key]) {
    page.push_str("\n| key | value | default | meaning |\n| --- | --- | --- | --- |\n");
    for key in keys {
        let default = match key.required {
            true => "required".into(),
            false if key.default.is_empty() => String::new(),
            false => format!("`{}`", key.default),
        };
        let value = expectation(&key.kind).replace('|', "\\|");
        page.push_str(&format!("| `{}` | {value} | {default} | {} |\n", key.name, key.doc));
    }
}

/// The reference page of the language of routes.
pub fn routes_markdown() -> String {
    let mut page = String::from(
        "# Conditions and variables of routes\n\nMade from the program's own table; a test fails when this page drifts, and parses every example.\n\n## Functions of conditions\n\n| function | asks | mode | example |\n| --- | --- | --- | --- |\n",
    );
    for function in evenkeel_rules::FUNCTIONS {
        let mode = match function.needs {
            evenkeel_rules::NeedsHttp::Yes => "http",
            evenkeel_rules::NeedsHttp::No if function.fetch.is_of_first_bytes() => "tcp",
            evenkeel_rules::NeedsHttp::No => "http, tcp",
            evenkeel_rules::NeedsHttp::Answer => "answers",
        };
        let example = function.example.replace('|', "\\|");
        page.push_str(&format!("| `{}` | {} | {mode} | `{example}` |\n", function.name, function.doc));
    }
    page.push_str("\n## Variables in texts\n\n| variable | stands for |\n| --- | --- |\n");
    for variable in evenkeel_rules::VARIABLES {
        page.push_str(&format!("| `{{{}}}` | {} |\n", variable.name, variable.doc));
    }
    page.push_str("\n## Lines of the access log\n\nWhat `format` of `[log]` and `log-format` of a service may hold beside these variables, which are asked when the routes have been walked.\n\n| field | stands for |\n| --- | --- |\n");
    for field in evenkeel_rules::LINE_FIELDS {
        page.push_str(&format!("| `{{{}}}` | {} |\n", field.name, field.doc));
    }
    page.push_str("\n`{{` and `}}` write the braces themselves.\n\n## Converters\n\nBehind `|`, several one after the other. Arguments may stand in double quotes.\n\n| converter | makes of a value | example |\n| --- | --- | --- |\n");
    for converter in evenkeel_rules::CONVERTERS {
        let example = converter.example.replace('|', "\\|");
        page.push_str(&format!("| `{}` | {} | `{example}` |\n", converter.name, converter.doc));
    }
    page
}
