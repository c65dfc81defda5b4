//! `compression` as the key of a service or a pool.

use super::proxy::{Proxy, Word};
use crate::draft::{Draft, Table};

const CODINGS: &[&str] = &["gzip", "deflate", "raw-deflate", "identity"];

/// Whether the line is about requests, which go on as they come.
pub fn is_of_requests(word: &Word) -> bool {
    match (word.arg(1), word.arg(2)) {
        ("direction", which) => which != "response",
        (what, _) => what.ends_with("-req"),
    }
}

impl Proxy {
    /// What the section says of its answers.
    pub fn compression(&self, table: &mut Table, draft: &mut Draft) {
        let (mut codings, mut types): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
        let mut more = Table::default();
        for word in self.all("compression").filter(|word| !is_of_requests(word)) {
            let values = word.words.get(2..).unwrap_or_default().iter().map(String::as_str);
            match word.arg(1) {
                "algo" | "algo-res" => {
                    for coding in values {
                        match CODINGS.contains(&coding) {
                            true => codings.push(coding),
                            false => {
                                let why = format!("'{coding}' is no algorithm: {}", CODINGS.join(", "));
                                draft.wrong(word.line, "compression", why);
                            }
                        }
                    }
                }
                "type" | "type-res" => types.extend(values),
                "minsize-res" => {
                    let size = word.arg(2).parse::<u64>().ok();
                    if let Some(size) = size {
                        more.text("min-size", &format!("{size}B"));
                    }
                }
                "offload" => more.set("offload", true),
                "direction" => {}
                other => {
                    let expected = "'algo', 'type', 'direction' or 'offload'";
                    draft.wrong(word.line, "compression", format!("'{other}': expects {expected}"));
                }
            }
        }
        if codings.is_empty() || !self.is_http() {
            return;
        }
        if types.is_empty() {
            types.push("*");
        }
        let mut keys = Table::default();
        keys.texts("codings", &codings);
        keys.texts("types", &types);
        keys.adopt(&more);
        table.set("compression", keys);
    }
}
