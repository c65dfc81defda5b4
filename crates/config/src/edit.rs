//! Edits of a file's text by place: comments, order and layout of everything else stay.

use serde_json::{Map, Value as Json};
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Key, Table, Value};

/// One edit. A place is a list of keys; in a list of tables a name, or a number from 0, says which.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Set { at: Vec<String>, value: Json },
    Remove { at: Vec<String> },
    Add { at: Vec<String>, value: Json },
    Move { at: Vec<String>, to: usize },
}

/// The text with every change made, in their order; or what is wrong with the first bad one.
pub fn edit(text: &str, changes: &[Change]) -> Result<String, String> {
    let mut document: DocumentMut =
        text.parse().map_err(|e: toml_edit::TomlError| format!("the text is no TOML: {}", e.message()))?;
    for change in changes {
        apply(document.as_table_mut(), change)?;
    }
    Ok(document.to_string())
}

/// A text as data; `null` where it is no TOML.
pub fn values(text: &str) -> Json {
    match text.parse::<DocumentMut>() {
        Ok(document) => table_json(document.iter()),
        Err(_) => Json::Null,
    }
}

fn apply(root: &mut Table, change: &Change) -> Result<(), String> {
    let (Change::Set { at, .. } | Change::Remove { at } | Change::Add { at, .. } | Change::Move { at, .. }) =
        change;
    let shown = || format!("{:?}", at.join("."));
    let Some((last, path)) = at.split_last() else { return Err("an edit needs a place".into()) };
    match change {
        Change::Set { value, .. } => {
            let place = walk(root, path, true)?;
            set(place, last, value).ok_or_else(|| format!("{} cannot hold that value", shown()))
        }
        Change::Add { value, .. } => {
            let place = walk(root, path, true)?;
            add(place, last, value).ok_or_else(|| format!("{} is no list of tables", shown()))
        }
        Change::Remove { .. } => {
            remove(root, path, last)?.then_some(()).ok_or_else(|| format!("there is no {}", shown()))
        }
        Change::Move { to, .. } => {
            let (list, path) = path.split_last().ok_or_else(|| format!("{} is in no list", shown()))?;
            let place = walk(root, path, false)?;
            let tables = place.get_mut(list).and_then(Item::as_array_of_tables_mut);
            let tables = tables.ok_or_else(|| format!("{list:?} is no list of tables"))?;
            let from = index_of(tables.iter().map(|t| name_of(t)), last);
            let from = from.ok_or_else(|| format!("there is no {}", shown()))?;
            move_table(tables, from, *to);
            Ok(())
        }
    }
}

type TableMut<'a> = &'a mut dyn toml_edit::TableLike;

fn name_of(table: &dyn toml_edit::TableLike) -> Option<String> {
    table.get("name").and_then(Item::as_str).map(str::to_owned)
}

fn index_of(names: impl Iterator<Item = Option<String>>, wanted: &str) -> Option<usize> {
    let names: Vec<_> = names.collect();
    let named = names.iter().position(|n| n.as_deref() == Some(wanted));
    named.or_else(|| wanted.parse().ok().filter(|at| *at < names.len()))
}

/// The table at a path. Tables that are missing are made where `make` says so.
fn walk<'a>(root: &'a mut Table, path: &[String], make: bool) -> Result<TableMut<'a>, String> {
    let mut place: TableMut<'a> = root;
    let mut path = path.iter();
    while let Some(key) = path.next() {
        let item = match (place.contains_key(key), make) {
            (true, _) => place.get_mut(key),
            (false, true) => Some(place.entry(key).or_insert(Item::Table(Table::new()))),
            (false, false) => None,
        };
        let item = item.ok_or_else(|| format!("there is no {key:?}"))?;
        let missing = |which: Option<&String>| match which {
            Some(which) => format!("{key:?} has no {which:?}"),
            None => format!("{key:?} is a list: which of it?"),
        };
        place = match item {
            Item::Table(table) => table,
            Item::Value(Value::InlineTable(table)) => table,
            Item::ArrayOfTables(tables) => {
                let which = path.next();
                let at = which.and_then(|w| index_of(tables.iter().map(|t| name_of(t)), w));
                at.and_then(|at| tables.get_mut(at)).ok_or_else(|| missing(which))?
            }
            Item::Value(Value::Array(array)) => {
                let which = path.next();
                let names = array.iter().map(|v| v.as_inline_table().and_then(|t| name_of(t)));
                let at = which.and_then(|w| index_of(names, w));
                let found = at.and_then(|at| array.get_mut(at)).and_then(Value::as_inline_table_mut);
                found.ok_or_else(|| missing(which))?
            }
            _ => return Err(format!("{key:?} is no table")),
        };
    }
    Ok(place)
}

fn set(place: TableMut<'_>, key: &str, json: &Json) -> Option<()> {
    let old = place.get(key);
    // A table that is written with a head of its own keeps it, and what it has in common.
    if let (Some(Item::Table(_)), Json::Object(map)) = (old, json) {
        let table = place.get_mut(key)?.as_table_mut()?;
        let gone: Vec<String> =
            table.iter().map(|(k, _)| k.to_owned()).filter(|k| !map.contains_key(k)).collect();
        gone.iter().for_each(|k| drop(table.remove(k)));
        return map.iter().try_for_each(|(k, v)| set(table, k, v));
    }
    if let Json::Array(all) = json
        && !all.is_empty()
        && all.iter().all(Json::is_object)
        && !matches!(old, Some(Item::Value(_)))
    {
        let tables: ArrayOfTables = all.iter().filter_map(Json::as_object).filter_map(table_of).collect();
        place.insert(key, Item::ArrayOfTables(tables));
        return Some(());
    }
    let mut value = value_of(json)?;
    match place.get_mut(key) {
        Some(Item::Value(old)) => {
            *value.decor_mut() = old.decor().clone();
            if value.decor().prefix().is_none() {
                value.decor_mut().set_prefix(" ");
            }
            *old = value;
        }
        _ => {
            let indent = first_prefix(place);
            place.insert(key, Item::Value(value));
            if let (Some(indent), Some(mut key)) = (indent, place.key_mut(key)) {
                key.leaf_decor_mut().set_prefix(indent);
            }
        }
    }
    Some(())
}

/// The white space before the first key of a table; comments are not it.
fn first_prefix(place: TableMut<'_>) -> Option<String> {
    let first = place.iter().find(|(_, item)| item.is_value()).map(|(k, _)| k.to_owned())?;
    let prefix = place.key(&first)?.leaf_decor().prefix()?.as_str()?;
    let indent = prefix.rsplit('\n').next().unwrap_or("");
    indent.chars().all(|c| c == ' ' || c == '\t').then(|| indent.to_owned())
}

fn add(place: TableMut<'_>, key: &str, json: &Json) -> Option<()> {
    let map = json.as_object()?;
    match place.get_mut(key) {
        Some(Item::ArrayOfTables(tables)) => {
            let mut table = table_of(map)?;
            // Laid out as its neighbour is.
            if let Some(last) = tables.iter().last() {
                let head = last.decor().prefix().and_then(|p| p.as_str()).unwrap_or("\n");
                let indent = head.rsplit('\n').next().unwrap_or("").to_owned();
                let inner = last.iter().find(|(_, i)| i.is_value()).and_then(|(k, _)| last.key(k));
                let inner = inner.and_then(|k| k.leaf_decor().prefix()?.as_str()).unwrap_or("");
                let inner = inner.rsplit('\n').next().unwrap_or("").to_owned();
                table.decor_mut().set_prefix(format!("\n{indent}"));
                for (mut key, item) in table.iter_mut() {
                    if item.is_value() {
                        key.leaf_decor_mut().set_prefix(inner.clone());
                    }
                }
            }
            tables.push(table);
        }
        Some(Item::Value(Value::Array(array))) => array.push(inline_of(map)?),
        Some(_) => return None,
        None => {
            let mut tables = ArrayOfTables::new();
            tables.push(table_of(map)?);
            place.insert(key, Item::ArrayOfTables(tables));
        }
    }
    Some(())
}

/// Whether there was something to remove.
fn remove(root: &mut Table, path: &[String], last: &str) -> Result<bool, String> {
    if let Some((list, before)) = path.split_last()
        && let Ok(place) = walk(root, before, false)
        && let Some(item) = place.get_mut(list)
    {
        let emptied = match item {
            Item::ArrayOfTables(tables) => {
                let Some(at) = index_of(tables.iter().map(|t| name_of(t)), last) else { return Ok(false) };
                tables.remove(at);
                tables.is_empty()
            }
            Item::Value(Value::Array(array)) => {
                let names = array.iter().map(|v| v.as_inline_table().and_then(|t| name_of(t)));
                let Some(at) = index_of(names, last) else { return Ok(false) };
                array.remove(at);
                false
            }
            _ => return Ok(walk(root, path, false)?.remove(last).is_some()),
        };
        if emptied {
            place.remove(list);
        }
        return Ok(true);
    }
    Ok(walk(root, path, false)?.remove(last).is_some())
}

/// Tables are printed in the order of their positions: those of all the list's tables, and of the
/// tables in them, are dealt out anew.
fn move_table(tables: &mut ArrayOfTables, from: usize, to: usize) {
    let mut all: Vec<Table> = tables.iter().cloned().collect();
    let mut positions = Vec::new();
    all.iter_mut().for_each(|table| each_table(table, &mut |t| positions.extend(t.position())));
    positions.sort_unstable();
    let moved = all.remove(from);
    all.insert(to.min(all.len()), moved);
    let mut next = positions.into_iter();
    for table in &mut all {
        let mut own = Vec::new();
        each_table(table, &mut |t| own.extend(t.position()));
        own.sort_unstable();
        let dealt: Vec<_> = own.iter().map(|old| (*old, next.next())).collect();
        each_table(table, &mut |t| {
            let new = dealt.iter().find(|(old, _)| Some(*old) == t.position());
            if let Some((_, Some(new))) = new {
                t.set_position(Some(*new));
            }
        });
    }
    *tables = all.into_iter().collect();
}

fn each_table(table: &mut Table, visit: &mut impl FnMut(&mut Table)) {
    visit(table);
    for (_, item) in table.iter_mut() {
        match item {
            Item::Table(inner) => each_table(inner, visit),
            Item::ArrayOfTables(tables) => tables.iter_mut().for_each(|inner| each_table(inner, visit)),
            _ => {}
        }
    }
}

fn table_of(map: &Map<String, Json>) -> Option<Table> {
    let mut table = Table::new();
    table.decor_mut().set_prefix("\n");
    let is_tables =
        |json: &Json| json.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(Json::is_object));
    for (key, json) in map.iter().filter(|(_, json)| !is_tables(json) && !json.is_null()) {
        table.insert_formatted(&Key::new(key), Item::Value(value_of(json)?));
    }
    for (key, json) in map.iter().filter(|(_, json)| is_tables(json)) {
        let inner = json.as_array()?.iter().filter_map(Json::as_object).map(table_of);
        table.insert(key, Item::ArrayOfTables(inner.collect::<Option<ArrayOfTables>>()?));
    }
    Some(table)
}

fn inline_of(map: &Map<String, Json>) -> Option<Value> {
    let mut table = InlineTable::new();
    for (key, json) in map.iter().filter(|(_, json)| !json.is_null()) {
        table.insert(key, value_of(json)?);
    }
    Some(Value::InlineTable(table))
}

fn value_of(json: &Json) -> Option<Value> {
    Some(match json {
        Json::Null => return None,
        Json::Bool(flag) => Value::from(*flag),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::from(whole),
            None => Value::from(number.as_f64()?),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(all) => Value::Array(all.iter().map(value_of).collect::<Option<Array>>()?),
        Json::Object(map) => inline_of(map)?,
    })
}

fn table_json<'a>(items: impl Iterator<Item = (&'a str, &'a Item)>) -> Json {
    Json::Object(items.map(|(key, item)| (key.to_owned(), item_json(item))).collect())
}

fn item_json(item: &Item) -> Json {
    match item {
        Item::None => Json::Null,
        Item::Table(table) => table_json(table.iter()),
        Item::ArrayOfTables(tables) => tables.iter().map(|t| table_json(t.iter())).collect(),
        Item::Value(value) => value_json(value),
    }
}

fn value_json(value: &Value) -> Json {
    match value {
        Value::String(text) => Json::from(text.value().as_str()),
        Value::Integer(number) => Json::from(*number.value()),
        Value::Float(number) => Json::from(*number.value()),
        Value::Boolean(flag) => Json::from(*flag.value()),
        Value::Datetime(time) => Json::from(time.value().to_string()),
        Value::Array(array) => array.iter().map(value_json).collect(),
        Value::InlineTable(table) => {
            Json::Object(table.iter().map(|(k, v)| (k.to_owned(), value_json(v))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TEXT: &str = "# the shop\n[[virtual-service]]\nname = \"web\" # keep\nvip = [\"127.0.0.1:80\"]\nscheduler = \"round-robin\"  # for now\n\n  # the first\n  [[virtual-service.real-server]]\n  name = \"a\"\n  address = \"127.0.0.1:81\"\n\n  [[virtual-service.real-server]]\n  name = \"b\"\n  address = \"127.0.0.1:82\"\n\n# mail\n[[virtual-service]]\nname = \"mail\"\npool = \"m\"\n\n[[pool]]\nname = \"m\"\nreal-server = [{ name = \"x\", address = \"127.0.0.1:1\" }]\n";

    fn at(path: &str) -> Vec<String> {
        path.split('/').map(str::to_owned).collect()
    }

    fn check(change: Change, lines_out: &[&str], lines_in: &[&str]) -> String {
        let edited = edit(TEXT, std::slice::from_ref(&change)).unwrap_or_else(|e| panic!("{change:?}: {e}"));
        let (old, new): (Vec<&str>, Vec<&str>) = (TEXT.lines().collect(), edited.lines().collect());
        let out: Vec<&str> = old.iter().filter(|l| !new.contains(l)).copied().collect();
        let r#in: Vec<&str> = new.iter().filter(|l| !old.contains(l)).copied().collect();
        assert_eq!((out.as_slice(), r#in.as_slice()), (lines_out, lines_in), "{change:?}:\n{edited}");
        edited
    }

    #[test]
    fn the_rest_stays_as_it_was_written() {
        let set = |path: &str, value: Json| Change::Set { at: at(path), value };
        check(
            set("virtual-service/web/scheduler", json!("first")),
            &["scheduler = \"round-robin\"  # for now"],
            &["scheduler = \"first\"  # for now"],
        );
        check(set("virtual-service/web/real-server/b/weight", json!(7)), &[], &["  weight = 7"]);
        check(
            set("virtual-service/0/name", json!("www")),
            &["name = \"web\" # keep"],
            &["name = \"www\" # keep"],
        );
        check(
            set("pool/m/real-server/x/weight", json!(3)),
            &["real-server = [{ name = \"x\", address = \"127.0.0.1:1\" }]"],
            &["real-server = [{ name = \"x\", address = \"127.0.0.1:1\" , weight = 3 }]"],
        );
        check(set("log/access", json!("stdout")), &[], &["[log]", "access = \"stdout\""]);
        check(
            set("virtual-service/web/health-check", json!({ "type": "tcp", "rise": 2 })),
            &[],
            &["health-check = { type = \"tcp\", rise = 2 }"],
        );
        check(
            Change::Remove { at: at("virtual-service/web/scheduler") },
            &["scheduler = \"round-robin\"  # for now"],
            &[],
        );
        check(
            Change::Remove { at: at("virtual-service/web/real-server/b") },
            &["  name = \"b\"", "  address = \"127.0.0.1:82\""],
            &[],
        );
        check(
            Change::Add {
                at: at("virtual-service/web/real-server"),
                value: json!({ "name": "c", "address": "127.0.0.1:83" }),
            },
            &[],
            &["  name = \"c\"", "  address = \"127.0.0.1:83\""],
        );
        let grown = check(
            Change::Add {
                at: at("virtual-service"),
                value: json!({ "name": "new", "vip": ["127.0.0.1:9"], "real-server": [{ "name": "n1", "address": "127.0.0.1:5" }] }),
            },
            &[],
            &[
                "name = \"new\"",
                "vip = [\"127.0.0.1:9\"]",
                "[[virtual-service.real-server]]",
                "name = \"n1\"",
                "address = \"127.0.0.1:5\"",
            ],
        );
        assert_eq!(values(&grown)["virtual-service"][2]["real-server"][0]["name"], "n1");
    }

    #[test]
    fn services_move_with_all_that_is_theirs() {
        let moved = edit(TEXT, &[Change::Move { at: at("virtual-service/mail"), to: 0 }]).unwrap();
        let names = |text: &str| -> Vec<String> {
            let all = values(text);
            all["virtual-service"]
                .as_array()
                .unwrap()
                .iter()
                .map(|s| s["name"].as_str().unwrap().into())
                .collect()
        };
        assert_eq!(names(&moved), ["mail", "web"], "{moved}");
        assert_eq!(values(&moved)["virtual-service"][1]["real-server"][1]["name"], "b", "{moved}");
        assert!(moved.contains("# the shop\n[[virtual-service]]\nname = \"web\""), "{moved}");
        let back = edit(&moved, &[Change::Move { at: at("virtual-service/mail"), to: 9 }]).unwrap();
        assert_eq!(values(&back), values(TEXT));
    }

    #[test]
    fn what_cannot_be_done_says_so() {
        for change in [
            Change::Set { at: vec![], value: json!(1) },
            Change::Set { at: at("virtual-service/none/name"), value: json!(1) },
            Change::Set { at: at("virtual-service"), value: Json::Null },
            Change::Remove { at: at("virtual-service/none") },
            Change::Remove { at: at("nothing") },
            Change::Add { at: at("virtual-service/web/name"), value: json!({}) },
            Change::Move { at: at("virtual-service/none"), to: 0 },
            Change::Set { at: at("virtual-service/web/name/deeper"), value: json!(1) },
        ] {
            assert!(edit(TEXT, std::slice::from_ref(&change)).is_err(), "{change:?}");
        }
        assert!(edit("[broken", &[]).is_err());
        assert_eq!(values("[broken"), Json::Null);
    }
}
