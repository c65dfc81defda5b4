//! The canonical form of a file: one layout, the same meaning, every comment kept.

use toml_edit::{Array, DocumentMut, Item, Table, Value};

use crate::problem::Problem;

/// Lays a file out anew. Fails only where the text is no TOML.
pub fn format(text: &str) -> Result<String, Problem> {
    let document: DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| {
        Problem::new(e.span().unwrap_or(0..0), e.message().replace('\n', ", "))
    })?;
    Ok(lay_out(document))
}

/// The text of a document in the canonical layout.
pub(crate) fn lay_out(mut document: DocumentMut) -> String {
    let trailing = comments(document.trailing().as_str().unwrap_or(""));
    format_table(document.as_table_mut(), 0);
    document.set_trailing(block(&trailing, 0, false));
    let formatted = document.to_string();
    let start = formatted.find(|c| c != '\n').unwrap_or(formatted.len());
    formatted[start..].to_owned()
}

/// The comments of white space between two things, `None` for a blank line between comments.
fn comments(raw: &str) -> Vec<Option<String>> {
    let mut lines: Vec<Option<String>> = Vec::new();
    for line in raw.lines() {
        match line.trim() {
            "" if matches!(lines.last(), Some(Some(_))) => lines.push(None),
            "" => {}
            comment => lines.push(Some(comment.to_owned())),
        }
    }
    lines
}

fn block(lines: &[Option<String>], indent: usize, blank_before: bool) -> String {
    let mut out = String::new();
    if blank_before {
        out.push('\n');
    }
    for (i, line) in lines.iter().enumerate() {
        match line {
            Some(comment) => out.push_str(&format!("{}{comment}\n", " ".repeat(indent))),
            None if i + 1 < lines.len() => out.push('\n'),
            None => {}
        }
    }
    out
}

/// The comment behind a value on its line.
fn trailing_comment(raw: &str) -> String {
    match raw.trim() {
        "" => String::new(),
        comment => format!("  {comment}"),
    }
}

fn format_table(table: &mut Table, depth: usize) {
    let indent = depth.saturating_sub(1) * 2;
    if depth > 0 {
        let before = comments(table.decor().prefix().and_then(|p| p.as_str()).unwrap_or(""));
        let after = trailing_comment(table.decor().suffix().and_then(|s| s.as_str()).unwrap_or(""));
        let mut prefix = block(&before, indent, true);
        prefix.push_str(&" ".repeat(indent));
        table.decor_mut().set_prefix(prefix);
        table.decor_mut().set_suffix(after);
    }
    let mut first = true;
    for (mut key, item) in table.iter_mut() {
        match item {
            Item::Value(value) => {
                let raw = key.leaf_decor().prefix().and_then(|p| p.as_str()).unwrap_or("").to_owned();
                let before = comments(&raw);
                let mut prefix = block(&before, indent, false);
                if !first && raw.starts_with('\n') && !before.is_empty() {
                    prefix.insert(0, '\n');
                }
                prefix.push_str(&" ".repeat(indent));
                key.leaf_decor_mut().set_prefix(prefix);
                key.leaf_decor_mut().set_suffix(" ");
                let after = value.decor().suffix().and_then(|s| s.as_str()).unwrap_or("").to_owned();
                format_value(value);
                value.decor_mut().set_prefix(" ");
                value.decor_mut().set_suffix(trailing_comment(&after));
                first = false;
            }
            Item::Table(inner) => format_table(inner, depth + 1),
            Item::ArrayOfTables(tables) => {
                tables.iter_mut().for_each(|inner| format_table(inner, depth + 1));
            }
            Item::None => {}
        }
    }
}

fn format_value(value: &mut Value) {
    match value {
        Value::Array(array) if !has_comments(array) => {
            for (i, item) in array.iter_mut().enumerate() {
                format_value(item);
                item.decor_mut().set_prefix(if i == 0 { "" } else { " " });
                item.decor_mut().set_suffix("");
            }
            array.set_trailing("");
            array.set_trailing_comma(false);
        }
        Value::InlineTable(table) => {
            let last = table.len().saturating_sub(1);
            for (i, (mut key, item)) in table.iter_mut().enumerate() {
                key.leaf_decor_mut().set_prefix(" ");
                key.leaf_decor_mut().set_suffix(" ");
                format_value(item);
                item.decor_mut().set_prefix(" ");
                item.decor_mut().set_suffix(if i == last { " " } else { "" });
            }
        }
        _ => {}
    }
}

/// Arrays that hold comments are left as they were written.
fn has_comments(array: &Array) -> bool {
    array.trailing().as_str().is_some_and(|t| t.contains('#'))
        || array.iter().any(|item| {
            let decor = item.decor();
            [decor.prefix(), decor.suffix()]
                .into_iter()
                .flatten()
                .any(|raw| raw.as_str().is_some_and(|t| t.contains('#')))
        })
}
