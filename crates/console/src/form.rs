//! A form: fields that are typed into, and what they mean as edits of the configuration.

use evenkeel_api::Edit;
use serde_json::{Value, json};

use crate::facts::Facts;

#[derive(Clone, Debug)]
pub struct Form {
    pub title: String,
    pub kind: FormKind,
    pub fields: Vec<Field>,
    pub at: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormKind {
    Interface,
    Machine,
    Ping,
    Lookup,
    WhoHas,
    Password,
    Shell,
}

#[derive(Clone, Debug)]
pub struct Field {
    /// The key of the configuration, where it has one.
    pub key: &'static str,
    pub label: &'static str,
    pub help: &'static str,
    pub value: String,
    pub kind: FieldKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    Text,
    /// Several, with spaces or commas between them.
    List,
    Number,
    Choice(&'static [&'static str]),
    /// Shown as stars.
    Hidden,
}

const DHCP: &[&str] = &["no", "ipv4", "ipv6", "both"];
const MODES: &[&str] = &["", "active-backup", "802.3ad", "balance-rr", "balance-xor"];
/// What a line can hold.
const LENGTH_AT_MOST: usize = 1024;

impl Form {
    fn new(title: String, kind: FormKind, fields: Vec<Field>) -> Form {
        Form { title, kind, fields, at: 0 }
    }

    pub fn interface(facts: &Facts, name: Option<&str>) -> Form {
        let set = name.and_then(|name| facts.interface(name));
        let value = |key: &str| set.and_then(|table| table.get(key)).map(shown).unwrap_or_default();
        let field = |key, label, help, kind| Field { key, label, help, value: value(key), kind };
        let mut fields = vec![
            field("name", "Name", "the interface; a new VLAN or bond gets this name", FieldKind::Text),
            field("dhcp", "DHCP", "space changes it", FieldKind::Choice(DHCP)),
            field("addresses", "Addresses", "192.0.2.10/24 2001:db8::10/64", FieldKind::List),
            field("gateways", "Gateways", "one of IPv4, one of IPv6", FieldKind::List),
            field("mtu", "MTU", "empty: that of the driver", FieldKind::Number),
            field("vlan", "VLAN number", "1 to 4094, for a VLAN", FieldKind::Number),
            field("on", "VLAN on", "the interface that carries it", FieldKind::Text),
            field("bond", "Bond of", "interfaces that it bundles", FieldKind::List),
            field("bond-mode", "Bond mode", "space changes it", FieldKind::Choice(MODES)),
        ];
        if let Some(name) = name {
            fields[0].value = name.to_owned();
        }
        if fields[1].value.is_empty() {
            fields[1].value = "no".into();
        }
        // What the machine has by other means is a beginning for what it shall have.
        if set.is_none() {
            let own = facts
                .addresses()
                .into_iter()
                .filter(|(of, a)| Some(of.as_str()) == name && !a.ends_with(')'));
            fields[2].value = own.map(|(_, address)| address).collect::<Vec<_>>().join(" ");
            let routes = facts.machine.iter().flat_map(|m| &m.routes);
            let default = routes.filter(|r| r.to == "default" && Some(r.interface.as_str()) == name);
            fields[3].value = default.filter_map(|r| r.by.clone()).collect::<Vec<_>>().join(" ");
        }
        let title = name.map_or("New VLAN or bond".into(), |name| format!("Interface {name}"));
        Form { at: usize::from(name.is_some()), ..Form::new(title, FormKind::Interface, fields) }
    }

    pub fn machine(facts: &Facts) -> Form {
        let value = |key: &str| facts.node(key).map(shown).unwrap_or_default();
        let field = |key, label, help, kind| Field { key, label, help, value: value(key), kind };
        let mut fields = vec![
            field("host-name", "Host name", "empty: not set here", FieldKind::Text),
            field("time-zone", "Time zone", "Europe/Berlin", FieldKind::Text),
            field("ntp", "Time servers", "names or addresses", FieldKind::List),
            field("dns", "Name servers", "addresses", FieldKind::List),
            field("search", "Search domains", "example.net", FieldKind::List),
            field("proxy", "Proxy", "http://HOST:PORT, for packages", FieldKind::Text),
        ];
        if fields[0].value.is_empty() {
            fields[0].value = facts.machine.as_ref().map(|m| m.host.clone()).unwrap_or_default();
        }
        Form::new("Name, time and name servers".into(), FormKind::Machine, fields)
    }

    pub fn one(title: &str, kind: FormKind, label: &'static str, help: &'static str) -> Form {
        let field = Field { key: "", label, help, value: String::new(), kind: FieldKind::Text };
        Form::new(title.into(), kind, vec![field])
    }

    pub fn password() -> Form {
        let field = |label, help, kind| Field { key: "", label, help, value: String::new(), kind };
        let fields = vec![
            field("Name", "of the administrator", FieldKind::Text),
            field("New password", "", FieldKind::Hidden),
            field("Once more", "", FieldKind::Hidden),
        ];
        Form::new("New password of an administrator".into(), FormKind::Password, fields)
    }

    pub fn shell() -> Form {
        let field = |label, help, kind| Field { key: "", label, help, value: String::new(), kind };
        let fields = vec![
            field("Name", "of an administrator", FieldKind::Text),
            field("Password", "", FieldKind::Hidden),
            field("Code", "of the second factor, if there is one", FieldKind::Text),
        ];
        Form::new("Shell: prove that you are an administrator".into(), FormKind::Shell, fields)
    }

    pub fn value(&self, at: usize) -> &str {
        self.fields.get(at).map_or("", |field| field.value.as_str())
    }

    pub fn field(&mut self) -> Option<&mut Field> {
        self.fields.get_mut(self.at)
    }

    pub fn next(&mut self) {
        self.at = (self.at + 1) % self.fields.len().max(1);
    }

    pub fn previous(&mut self) {
        self.at = (self.at + self.fields.len().max(1) - 1) % self.fields.len().max(1);
    }

    /// What the form changes in the configuration; or what is wrong with it.
    pub fn edits(&self, facts: &Facts) -> Result<Vec<Edit>, String> {
        match self.kind {
            FormKind::Interface => self.interface_edits(facts),
            FormKind::Machine => {
                let host = facts.machine.as_ref().map_or("", |m| m.host.as_str());
                let there = |key: &str| facts.node(key);
                let mut edits = self.changes(&["node".into()], &there)?;
                // The name that the machine has anyway is no wish.
                let unnamed = there("host-name").is_none() && self.value(0) == host;
                edits.retain(|e| {
                    !(unnamed && matches!(e, Edit::Set { at, .. } if at.ends_with(&["host-name".into()])))
                });
                Ok(edits)
            }
            _ => Ok(Vec::new()),
        }
    }

    fn interface_edits(&self, facts: &Facts) -> Result<Vec<Edit>, String> {
        let name = self.value(0).trim().to_owned();
        if name.is_empty() {
            return Err("the interface needs a name".into());
        }
        let set = facts.interface(&name);
        if set.is_some() {
            let at = ["node".to_owned(), "interface".to_owned(), name];
            return self.changes(&at, &|key| set?.get(key));
        }
        let mut table = serde_json::Map::new();
        for field in &self.fields {
            if let Some(value) = field.json()? {
                table.insert(field.key.into(), value);
            }
        }
        Ok(vec![Edit::Add { at: vec!["node".into(), "interface".into()], value: Value::Object(table) }])
    }

    fn changes<'f>(
        &self,
        place: &[String],
        there: &dyn Fn(&str) -> Option<&'f Value>,
    ) -> Result<Vec<Edit>, String> {
        let mut edits = Vec::new();
        for field in &self.fields {
            let at = [place, &[field.key.to_owned()]].concat();
            match (there(field.key), field.json()?) {
                (Some(before), Some(value)) if *before == value => {}
                (_, Some(value)) => edits.push(Edit::Set { at, value }),
                (Some(_), None) => edits.push(Edit::Remove { at }),
                (None, None) => {}
            }
        }
        Ok(edits)
    }
}

impl Field {
    /// As the configuration has it; nothing where the field is empty.
    fn json(&self) -> Result<Option<Value>, String> {
        let text = self.value.trim();
        if text.is_empty() || (self.key == "dhcp" && text == "no") {
            return Ok(None);
        }
        Ok(Some(match self.kind {
            FieldKind::Number => {
                let number = text.parse::<u32>();
                json!(number.map_err(|_| format!("{}: {text:?} is no number", self.label))?)
            }
            FieldKind::List => {
                let words = text.split([' ', ',']).filter(|word| !word.is_empty());
                json!(words.collect::<Vec<_>>())
            }
            FieldKind::Text | FieldKind::Choice(_) | FieldKind::Hidden => json!(text),
        }))
    }

    pub fn typed(&mut self, letter: char) {
        match self.kind {
            FieldKind::Choice(words) => {
                let at = words.iter().position(|word| *word == self.value).unwrap_or(0);
                self.value = words.get((at + 1) % words.len()).copied().unwrap_or("").into();
            }
            _ if letter.is_control() || self.value.len() >= LENGTH_AT_MOST => {}
            _ => self.value.push(letter),
        }
    }

    pub fn deleted(&mut self) {
        match self.kind {
            FieldKind::Choice(_) => {}
            _ => drop(self.value.pop()),
        }
    }
}

/// A value as it is typed.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(values: Value) -> Facts {
        Facts { values, ..Facts::default() }
    }

    #[test]
    fn a_form_changes_only_what_was_changed() {
        let facts = facts(json!({"node": {"interface": [
            {"name": "e0", "dhcp": "ipv4", "mtu": 1500}, {"name": "e1", "addresses": ["10.0.0.1/8"]}]}}));
        let mut form = Form::interface(&facts, Some("e0"));
        assert!(form.edits(&facts).unwrap().is_empty());
        form.fields[1].value = "no".into();
        form.fields[2].value = "192.0.2.10/24, 2001:db8::1/64".into();
        let place = |key: &str| vec!["node".to_owned(), "interface".into(), "e0".into(), key.into()];
        assert_eq!(
            form.edits(&facts).unwrap(),
            [
                Edit::Remove { at: place("dhcp") },
                Edit::Set { at: place("addresses"), value: json!(["192.0.2.10/24", "2001:db8::1/64"]) },
            ]
        );
        form.fields[4].value = "many".into();
        assert!(form.edits(&facts).unwrap_err().contains("no number"));
    }

    #[test]
    fn a_new_interface_is_added() {
        let facts = facts(json!({}));
        let mut form = Form::interface(&facts, None);
        assert!(form.edits(&facts).is_err(), "it needs a name");
        (form.fields[0].value, form.fields[5].value, form.fields[6].value) =
            ("v7".into(), "7".into(), "e0".into());
        assert_eq!(
            form.edits(&facts).unwrap(),
            [Edit::Add {
                at: vec!["node".into(), "interface".into()],
                value: json!({"name": "v7", "vlan": 7, "on": "e0"}),
            }]
        );
    }
}
