//! `unique-id-format`, `unique-id-header` and `option forwardfor` with conditions: rules of their own.

use super::proxy::Proxy;
use super::sample::{UNIQUE_ID, variables};
use crate::draft::{Draft, Table, also};
use crate::words::quoted;

/// What the moment, the process and its count of requests are made of; a UUID stands for them.
const MOMENTS: &[&str] = &["%Ts", "%ms", "%rt", "%pid", "%tr", "%t", "%T", "%H"];

/// The first rule: the request's own text, kept, and put into a header.
pub fn id(proxy: &Proxy, draft: &mut Draft) -> Option<Table> {
    let word = proxy.last("unique-id-format")?;
    let mut text = word.words[1..].join(" ");
    if let Some((flags, rest)) = text.strip_prefix("%{").and_then(|t| t.split_once("}o")) {
        if flags.contains("+X") {
            let note = "numbers and addresses are written as usual, not in hexadecimal";
            draft.note(word.line, "unique-id-format", note);
        }
        text = rest.trim_start().to_owned();
    }
    let first = MOMENTS.iter().filter_map(|moment| text.find(moment)).min();
    let mut end = "";
    if let Some(at) = first {
        let mut rest = text[at..].to_owned();
        MOMENTS.iter().for_each(|moment| rest = rest.replace(moment, ""));
        if rest.contains('%') {
            draft.left(word.line, "unique-id-format", "times and counts stand at its end");
            return None;
        }
        draft.note(word.line, "unique-id-format", "a UUID stands for the time, the process and its count");
        text.truncate(at);
        end = "{uuid}";
    }
    let template = match variables(&text) {
        Ok(template) => template + end,
        Err(why) => {
            draft.left(word.line, &word.words.join(" "), why);
            return None;
        }
    };
    let mut route = Table::default();
    route.text("name", "unique-id");
    route.set("set-variable", format!("{{ {} = {} }}", quoted(UNIQUE_ID), quoted(&template)));
    if let Some(header) = proxy.last("unique-id-header") {
        let value = format!("{{variable:{UNIQUE_ID}}}");
        route.set("set-header", format!("{{ {} = {} }}", quoted(header.arg(1)), quoted(&value)));
    }
    Some(route)
}

/// `option originalto [except NETWORK] [header NAME]`: the address that the client came to.
pub fn original_to(proxy: &Proxy, draft: &mut Draft) -> Option<Table> {
    let word = proxy.option("originalto")?;
    let mut route = Table::default();
    route.text("name", "original-to");
    let mut header = "X-Original-To";
    let mut rest = word.words[2..].iter().map(String::as_str);
    while let Some(option) = rest.next() {
        match option {
            "header" => header = rest.next().unwrap_or(header),
            "except" => {
                let network = rest.next().unwrap_or("");
                also(&mut route, &format!("!destination({})", quoted(network)));
            }
            other => draft.left(word.line, "option originalto", format!("{other}: not carried over")),
        }
    }
    route.set("add-header", format!("{{ {} = \"{{destination}}\" }}", quoted(header)));
    Some(route)
}

/// `option forwardfor [except NETWORK] [header NAME] [if-none]`.
pub fn forwarded_for(proxy: &Proxy, draft: &mut Draft) -> Option<Table> {
    let word = proxy.option("forwardfor").filter(|w| w.words.len() > 2)?;
    let (mut header, mut except, mut absent) = ("X-Forwarded-For", None, false);
    let mut rest = word.words[2..].iter().map(String::as_str);
    while let Some(option) = rest.next() {
        match option {
            "header" => header = rest.next().unwrap_or(header),
            "except" => except = rest.next(),
            "if-none" => absent = true,
            other => draft.left(word.line, "option forwardfor", format!("{other}: not carried over")),
        }
    }
    let mut route = Table::default();
    route.text("name", "forwarded-for");
    if let Some(network) = except {
        also(&mut route, &format!("!source({})", quoted(network)));
    }
    if absent {
        also(&mut route, &format!("!header({})", quoted(header)));
    }
    route.set("add-header", format!("{{ {} = \"{{source}}\" }}", quoted(header)));
    Some(route)
}
