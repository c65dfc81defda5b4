//! What to write in the place of words that are not carried over.

/// Words of sections and options, rules by their verb, options of servers.
const REMEDIES: &[(&str, &str)] = &[
    ("option httpslog", "write log-format with %sslv, %sslc and %[ssl_fc_sni]"),
    ("error-log-format", "lines of errors have the format of all: write log-format"),
    ("rate-limit", "see rate-limit of routes"),
    ("log-tag", "write tag in [log]"),
    ("compression", "servers compress what they send"),
    ("email-alert", "see [alerts]"),
    ("declare", "name the text in the rule: http-response capture SAMPLE len N"),
    ("capture cookie", "write http-request capture req.cook(NAME) len N"),
    ("external-check", "write health-check = { type = \"script\", command = … }"),
    ("http-send-name-header", "servers have the same head: name the pool by set-header"),
    ("max-session-srv-conns", "connections are kept by the pool: see connection-reuse"),
    ("set-log-level", "all lines have one level"),
    ("set-src", "the address of a client comes from a PROXY header: see proxy-protocol-from"),
    ("set-src-port", "the port of a client comes from a PROXY header: see proxy-protocol-from"),
    ("set-dst", "servers are those of pools: choose one by use_backend"),
    ("set-dst-port", "servers are those of pools: choose one by use_backend"),
    ("set-tos", "mark packets by rules of the kernel (nft)"),
    ("set-mark", "mark packets by rules of the kernel (nft)"),
    ("set-nice", "all requests have the same share: see set-priority-class"),
    ("use-service", "metrics are at the admin listener, /metrics"),
    ("cache-use", "there is no cache"),
    ("cache-store", "there is no cache"),
    ("set-map", "maps are files that are read anew with a reload"),
    ("del-map", "maps are files that are read anew with a reload"),
    ("add-acl", "lists are files that are read anew with a reload"),
    ("del-acl", "lists are files that are read anew with a reload"),
    ("do-resolve", "names of servers are looked up by themselves: write the name as the address"),
    ("early-hint", "hints are the servers' own"),
    ("normalize-uri", "conditions see paths in normal form: see normalize of the service"),
    ("sc-inc-gpc", "tables count requests, connections, errors and bytes: see rate-limit"),
    ("sc-inc-gpc0", "tables count requests, connections, errors and bytes: see rate-limit"),
    ("sc-inc-gpc1", "tables count requests, connections, errors and bytes: see rate-limit"),
    ("sc-add-gpc", "tables count requests, connections, errors and bytes: see rate-limit"),
    ("sc-set-gpt", "keep a text in a variable: set-var(txn.…)"),
    ("sc-set-gpt0", "keep a text in a variable: set-var(txn.…)"),
    ("maxqueue", "the queue is the pool's: write max-queue there"),
    ("minconn", "a server has one limit: write maxconn"),
];

/// The reason why a word is left, with what to write in its place where something is known.
pub fn of(words: &[&str]) -> String {
    let verb = words.iter().map(|word| word.split('(').next().unwrap_or(word)).collect::<Vec<_>>();
    let two = verb.get(..2).map(|two| two.join(" "));
    let known = REMEDIES
        .iter()
        .find(|(word, _)| two.as_deref() == Some(*word) || verb.iter().take(3).any(|verb| verb == word));
    known.map_or_else(|| "not carried over".to_owned(), |(_, remedy)| format!("not carried over: {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn words_that_are_left_name_what_to_write() {
        for (words, part) in [
            (&["option", "httpslog"][..], "log-format"),
            (&["http-request", "set-src", "hdr(x)"], "proxy-protocol-from"),
            (&["http-request", "sc-inc-gpc0(0)"], "rate-limit"),
            (&["tcp-request", "content", "set-dst", "dst"], "use_backend"),
            (&["maxqueue"], "max-queue"),
            (&["capture", "cookie", "A", "len", "5"], "req.cook"),
        ] {
            assert!(of(words).contains(part), "{words:?}: {}", of(words));
        }
        assert_eq!(of(&["what", "nobody", "knows"]), "not carried over");
    }
}
