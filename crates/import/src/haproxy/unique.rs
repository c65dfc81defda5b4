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
            // Samples are texts for the most part.
            match rest.split('%').skip(1).all(|part| part.starts_with('[')) {
                true => draft.remark(word.line, "unique-id-format", note),
                false => draft.note(word.line, "unique-id-format", note),
            }
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
            draft.left(word.line, &word.written, why);
            return None;
        }
    };
    let mut route = Table::default();
    route.text("name", "unique-id");
    route.named("set-variable", UNIQUE_ID, &template);
    if let Some(header) = proxy.last("unique-id-header") {
        let value = format!("{{variable:{UNIQUE_ID}}}");
        route.named("set-header", header.arg(1), &value);
    }
    Some(route)
}

/// `option forwardfor` and `option originalto` of a frontend and the backend that its requests come to.
/// `plain`: the service says it of all its requests already.
pub fn forwarded(front: &Proxy, back: Option<&Proxy>, plain: bool, draft: &mut Draft) -> Vec<Table> {
    let mut all = Vec::new();
    for (option, header, value) in
        [("forwardfor", "X-Forwarded-For", "source"), ("originalto", "X-Original-To", "destination")]
    {
        if plain && option == "forwardfor" {
            continue;
        }
        let mut route = Table::default();
        route.text("name", if option == "forwardfor" { "forwarded-for" } else { "original-to" });
        let (mut name, mut asked, mut unless) = (header, 0, 0);
        for word in [Some(front), back].into_iter().flatten().filter_map(|proxy| proxy.option(option)) {
            asked += 1;
            let mut rest = word.words[2..].iter().map(String::as_str);
            while let Some(flag) = rest.next() {
                match flag {
                    "header" => name = rest.next().unwrap_or(header),
                    "except" => {
                        let network = rest.next().unwrap_or("");
                        also(&mut route, &format!("!{value}({})", quoted(network)));
                    }
                    "if-none" if option == "forwardfor" => unless += 1,
                    other => draft.left(
                        word.line,
                        &format!("option {option}"),
                        format!("{other}: not carried over"),
                    ),
                }
            }
        }
        if asked == 0 {
            continue;
        }
        // One that must be told is told.
        if unless == asked {
            also(&mut route, &format!("!header({})", quoted(name)));
        }
        route.named("add-header", name, &format!("{{{value}}}"));
        all.push(route);
    }
    all
}
