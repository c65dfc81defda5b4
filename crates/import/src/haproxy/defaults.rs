//! What rules of a `defaults` section must name, since they have no proxy of their own to mean.

use super::proxy::Word;

/// Why a rule cannot stand in the defaults of this name: servers and tables are those of a proxy that is named.
pub fn unnamed(defaults: &str, word: &Word) -> Option<String> {
    let tracks = word.words.iter().find(|w| w.starts_with("track-sc"));
    if let Some(tracks) = tracks.filter(|_| !word.words.iter().any(|w| w == "table")) {
        return Some(format!("unable to find table '{defaults}' referenced by {tracks}"));
    }
    let mut names = word.words.iter().skip(1).flat_map(|text| calls(text));
    names.find_map(|(name, argument)| {
        let first = argument.and_then(|a| a.split(',').next()).unwrap_or("").trim();
        if name.starts_with("srv_") && argument.is_some() && !first.contains('/') {
            return Some(format!("a backend must be named in arg 1 of '{name}' in proxy '{defaults}'"));
        }
        let of_table = name.starts_with("table_") || name == "in_table";
        let counted =
            name.strip_prefix("src_").is_some_and(|rest| COUNTED.iter().any(|c| rest.starts_with(c)));
        ((of_table || counted) && first.is_empty())
            .then(|| format!("a table must be named in arg 1 of '{name}' in proxy '{defaults}'"))
    })
}

/// What is counted of a source, and asked for by `src_…`.
const COUNTED: [&str; 9] = ["bytes", "clr_gpc", "conn", "get_gp", "glitch", "gpc", "http", "inc_gpc", "sess"];

/// The names in a text, such as those of fetches and converters, each with what stands in brackets behind it.
fn calls(text: &str) -> Vec<(&str, Option<&str>)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_name) {
        rest = &rest[start..];
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (name, behind) = rest.split_at(end);
        let argument = behind.strip_prefix('(').map(|inner| inner.split(')').next().unwrap_or(inner));
        found.push((name, argument));
        rest = behind;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As HAProxy 2.6 takes and refuses them.
    #[test]
    fn servers_and_tables_are_named() {
        let why = |line: &str| {
            let words = line.split(' ').map(str::to_owned).collect();
            unnamed("d", &Word::new(1, words, Vec::new()))
        };
        for line in [
            "http-request track-sc0 src",
            "tcp-request content track-sc1 src",
            "http-request set-header x %[srv_conn(www)]",
            "http-request deny if { srv_is_up(www) }",
            "http-request set-header x %[src,table_http_req_rate]",
            "http-request set-header x %[src,in_table]",
            "http-request set-header x %[table_cnt]",
            "http-request deny if { src_http_req_rate gt 20 }",
        ] {
            assert!(why(line).is_some(), "{line}");
        }
        for line in [
            "http-request track-sc0 src table be",
            "http-request deny if { sc_http_req_rate(0) gt 20 }",
            "http-request deny if { sc0_http_req_rate gt 20 }",
            "http-request deny if { src_http_req_rate(be) gt 20 }",
            "http-request set-header x %[srv_conn(be/www)]",
            "http-request set-header x %[srv_name]-%[nbsrv]-%[src_port]",
            "http-request sc-inc-gpc0(0)",
        ] {
            assert_eq!(why(line), None, "{line}");
        }
    }
}
