//! A configuration that a program makes: typed values in sections, and its text in the canonical form.
//!
//! In: a tree. Out: TOML, laid out by what `fmt` uses. The only place where a text gets its quotes.
//! Never: an opinion on what the keys mean.

use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Key, Table};

/// What stands behind a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    /// A text in single quotes where it can be: conditions hold double quotes themselves.
    Literal(String),
    Number(i64),
    Flag(bool),
    List(Vec<Value>),
    /// Keys of the configuration's own.
    Table(Vec<(String, Value)>),
    /// Names that somebody else gave, such as those of headers: always in quotes.
    Names(Vec<(String, Value)>),
    /// A word where a number belongs. Whoever makes a tree takes them out and tells of them; one that is left
    /// is printed as a text, which no number's key takes.
    NoNumber(String),
}

impl Value {
    pub fn text(text: impl Into<String>) -> Value {
        Value::Text(text.into())
    }

    pub fn texts<S: AsRef<str>>(texts: impl IntoIterator<Item = S>) -> Value {
        Value::List(texts.into_iter().map(|text| Value::text(text.as_ref())).collect())
    }

    /// Names with a text each.
    pub fn names<N: Into<String>, T: Into<String>>(all: impl IntoIterator<Item = (N, T)>) -> Value {
        Value::Names(all.into_iter().map(|(name, text)| (name.into(), Value::text(text))).collect())
    }

    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) | Value::Literal(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_number(&self) -> Option<i64> {
        match self {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// What a table or names hold.
    pub fn entries(&self) -> &[(String, Value)] {
        match self {
            Value::Table(entries) | Value::Names(entries) => entries,
            _ => &[],
        }
    }

    pub fn items(&self) -> &[Value] {
        match self {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// All texts in it, names of tables among them.
    pub fn for_each_text(&self, each: &mut impl FnMut(&str)) {
        match self {
            Value::Text(text) | Value::Literal(text) => each(text),
            Value::Number(_) | Value::Flag(_) | Value::NoNumber(_) => {}
            Value::List(items) => items.iter().for_each(|item| item.for_each_text(each)),
            Value::Table(entries) | Value::Names(entries) => {
                for (key, value) in entries {
                    each(key);
                    value.for_each_text(each);
                }
            }
        }
    }

    /// Takes the words out that stand where numbers belong, each with its key.
    pub fn take_no_numbers(&mut self, taken: &mut Vec<(String, String)>) {
        match self {
            Value::Table(entries) | Value::Names(entries) => entries.retain_mut(|(key, value)| {
                value.take_no_numbers(taken);
                let Value::NoNumber(word) = value else { return true };
                taken.push((key.clone(), std::mem::take(word)));
                false
            }),
            Value::List(items) => items.iter_mut().for_each(|item| item.take_no_numbers(taken)),
            _ => {}
        }
    }

    /// A key that a table in it has twice, which TOML does not allow.
    pub fn repeated_key(&self) -> Option<&str> {
        let entries = self.entries();
        let twice =
            entries.iter().enumerate().find(|(at, (key, _))| entries[..*at].iter().any(|(k, _)| k == key));
        let inner = entries.iter().map(|(_, value)| value).chain(self.items());
        twice.map(|(_, (key, _))| key.as_str()).or_else(|| inner.into_iter().find_map(Value::repeated_key))
    }

    fn to_toml(&self) -> toml_edit::Value {
        match self {
            Value::Text(text) | Value::NoNumber(text) => string(text, false),
            Value::Literal(text) => string(text, true),
            Value::Number(number) => (*number).into(),
            Value::Flag(flag) => (*flag).into(),
            Value::List(items) => items.iter().map(Value::to_toml).collect::<Array>().into(),
            Value::Table(entries) => inline(entries, |key| Key::new(key)),
            Value::Names(entries) => {
                inline(entries, |key| basic(key).parse().unwrap_or_else(|_| Key::new(key)))
            }
        }
    }
}

fn inline(entries: &[(String, Value)], key: impl Fn(&str) -> Key) -> toml_edit::Value {
    let mut table = InlineTable::new();
    for (name, value) in entries {
        table.insert_formatted(&key(name), value.to_toml());
    }
    table.into()
}

macro_rules! numbers {
    ($($kind:ty)*) => { $(impl From<$kind> for Value {
        fn from(number: $kind) -> Value {
            Value::Number(number.into())
        }
    })* };
}

numbers!(i64 u32 u16 u8);

impl From<bool> for Value {
    fn from(flag: bool) -> Value {
        Value::Flag(flag)
    }
}

/// A text between double quotes (TOML 1.0, "String"): no sign in it ends it or breaks its line.
fn basic(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c.is_ascii_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The library would choose its own quotes, over several lines where a text has some. It takes a chosen
/// notation only as a token, which is read here.
fn string(text: &str, literal: bool) -> toml_edit::Value {
    let token = match literal && !text.contains('\'') && !text.contains(char::is_control) {
        true => format!("'{text}'"),
        false => basic(text),
    };
    token.parse().unwrap_or_else(|_| toml_edit::Value::from(text))
}

/// A key, its value, and what is said behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub key: String,
    pub value: Value,
    /// Without `#`; empty where nothing is said.
    pub comment: String,
}

impl Line {
    pub fn new(key: impl Into<String>, value: impl Into<Value>) -> Line {
        Line { key: key.into(), value: value.into(), comment: String::new() }
    }
}

/// `[a.b]`, or one entry of the list `[[a.b]]`.
#[derive(Clone, Debug, Default)]
pub struct Section<'a> {
    pub path: Vec<&'a str>,
    pub in_list: bool,
    /// Before it, without `#`.
    pub comments: Vec<String>,
    pub lines: Vec<Line>,
}

/// The text of these sections under some comments. A section belongs to the last one of each list that
/// its path goes through.
pub fn print(head: &[String], sections: &[Section<'_>]) -> String {
    let mut document = DocumentMut::new();
    let mut before = remarks(head);
    for section in sections {
        let table = made(section, &std::mem::take(&mut before));
        let Some((name, path)) = section.path.split_last() else { continue };
        let parent = path.iter().fold(document.as_table_mut(), |table, key| last_of(table, key));
        if section.in_list {
            let list = parent.entry(name).or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
            if let Item::ArrayOfTables(list) = list {
                list.push(table);
            }
        } else {
            parent.insert(name, Item::Table(table));
        }
    }
    if !before.is_empty() {
        document.set_trailing(before);
    }
    crate::format::lay_out(document)
}

/// The table of a key, the last one where it is a list.
fn last_of<'t>(table: &'t mut Table, key: &str) -> &'t mut Table {
    let implicit = || {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    };
    let item = table.entry(key).or_insert_with(implicit);
    if !item.is_table() && item.as_array_of_tables().is_none_or(ArrayOfTables::is_empty) {
        *item = implicit();
    }
    match item {
        Item::ArrayOfTables(list) => {
            let last = list.len().saturating_sub(1);
            list.get_mut(last).expect("a list with an entry")
        }
        item => item.as_table_mut().expect("a table"),
    }
}

fn made(section: &Section<'_>, before: &str) -> Table {
    let mut table = Table::new();
    let gap = if before.is_empty() { "" } else { "\n" };
    table.decor_mut().set_prefix(format!("{before}{gap}{}", remarks(&section.comments)));
    for line in &section.lines {
        let mut value = line.value.to_toml();
        if !line.comment.is_empty() {
            value.decor_mut().set_suffix(format!("# {}", one_line(&line.comment)));
        }
        // Keys of a table within are written with a dot.
        let (path, key) = line.key.rsplit_once('.').unwrap_or(("", &line.key));
        let place = path.split('.').filter(|key| !key.is_empty()).fold(&mut table, dotted);
        place.insert(key, Item::Value(value));
    }
    table
}

fn dotted<'t>(table: &'t mut Table, key: &str) -> &'t mut Table {
    let item = table.entry(key).or_insert_with(|| {
        let mut table = Table::new();
        table.set_dotted(true);
        Item::Table(table)
    });
    if !item.is_table() {
        *item = Item::Table(Table::new());
    }
    item.as_table_mut().expect("a table")
}

fn remarks(lines: &[String]) -> String {
    let remark = |line: &String| match line.is_empty() {
        true => "#\n".to_owned(),
        false => format!("# {}\n", one_line(line)),
    };
    lines.iter().map(remark).collect()
}

/// A comment ends with its line, and holds no control character (TOML 1.0, "Comment").
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_control() && c != '\t' { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: impl Into<Value>, expect: &str) {
        let lines = vec![Line::new("key", value)];
        let section = Section { path: vec!["a"], lines, ..Section::default() };
        let text = print(&[], &[section]);
        assert_eq!(text, format!("[a]\nkey = {expect}\n"));
        assert_eq!(crate::format(&text).unwrap(), text, "fmt changes it");
    }

    #[test]
    fn values_as_toml_has_them() {
        check(true, "true");
        check(7u16, "7");
        check(Value::text("plain"), "\"plain\"");
        check(Value::text("a\"b\\c\n\u{7f}"), "\"a\\\"b\\\\c\\n\\u007f\"");
        check(Value::Literal("host(\"a\")".into()), "'host(\"a\")'");
        check(Value::Literal("it's".into()), "\"it's\"");
        check(Value::texts(["a", "b"]), "[\"a\", \"b\"]");
        check(Value::names([("X-A", "1")]), "{ \"X-A\" = \"1\" }");
        let table = vec![("status".to_owned(), 503u16.into()), ("b c".to_owned(), Value::List(Vec::new()))];
        check(Value::Table(table), "{ status = 503, \"b c\" = [] }");
    }

    #[test]
    fn any_text_is_read_as_it_was() {
        for text in (0..0x200).filter_map(char::from_u32).map(|c| format!("a{c}'\"\\{c}")) {
            for value in [Value::text(&text), Value::Literal(text.clone())] {
                let names = Value::Names(vec![(text.clone(), value)]);
                let section = Section {
                    path: vec!["a"],
                    comments: vec![text.clone()],
                    lines: vec![Line { key: "k".into(), value: names, comment: text.clone() }],
                    ..Section::default()
                };
                let made = print(std::slice::from_ref(&text), &[section]);
                let read = crate::edit::values(&made);
                assert_eq!(read["a"]["k"], serde_json::json!({ text.as_str(): text.as_str() }), "{made}");
            }
        }
    }

    #[test]
    fn sections_stand_in_those_before_them() {
        let section = |path: &[&'static str], in_list| Section {
            path: path.to_vec(),
            in_list,
            comments: vec!["why".into(), String::new()],
            lines: vec![Line { comment: "because".into(), ..Line::new("n", 1u16) }],
        };
        let all = [
            section(&["pair"], false),
            section(&["pair", "vrrp"], true),
            section(&["pool"], true),
            section(&["pool", "real-server"], true),
            section(&["pool"], true),
        ];
        let text = print(&["head".into()], &all);
        assert_eq!(crate::format(&text).unwrap(), text);
        let heads: Vec<&str> = text.lines().map(str::trim).filter(|l| l.starts_with('[')).collect();
        assert_eq!(heads, ["[pair]", "[[pair.vrrp]]", "[[pool]]", "[[pool.real-server]]", "[[pool]]"]);
        assert!(text.starts_with("# head\n\n# why\n#\n[pair]\nn = 1  # because\n\n"), "{text}");
        assert!(text.contains("\n  # why\n  #\n  [[pool.real-server]]\n  n = 1  # because\n"), "{text}");
    }
}
