//! What to write in the place of words that are not carried over.

use crate::draft::Draft;

/// Words of sections and options, rules by their verb, options of servers.
const REMEDIES: &[(&str, &str)] = &[
    ("error-log-format", "lines of connections that fail have the format of all: write log-format"),
    (
        "ca-ignore-err",
        "an authority that does not verify vouches for nobody: leave it out; see crt-ignore-err",
    ),
    ("rate-limit", "see rate-limit of routes"),
    ("compression", "answers are compressed, requests go on as they come: leave it out"),
    ("declare", "name the text in the rule: http-response capture SAMPLE len N"),
    ("capture cookie", "write http-request capture req.cook(NAME) len N"),
    ("dynamic-cookie-key", "give each server its cookie: cookie VALUE on its line"),
    ("http-send-name-header", "servers have the same head: name the pool by set-header"),
    ("max-session-srv-conns", "connections are kept by the pool: see connection-reuse"),
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
    ("sc-inc-gpc", "tables count eight numbers of one's own: gpc(N) and gpt(N) together"),
    ("sc-inc-gpc0", "store gpc0 or gpc(N) at the table that is tracked"),
    ("sc-inc-gpc1", "store gpc1 or gpc(N) at the table that is tracked"),
    ("sc-add-gpc", "tables count eight numbers of one's own: gpc(N) and gpt(N) together"),
    ("sc-set-gpt", "tables count eight numbers of one's own: gpc(N) and gpt(N) together"),
    ("sc-set-gpt0", "store gpt0 or gpt(N) at the table that is tracked"),
    ("healthcheck", "checks are a section's own: write option httpchk there"),
    ("be-unpublished", "leave out the rules that lead to it"),
    ("ssl-f-use", "name each file of a certificate at bind, by crt or crt-list"),
    ("no-strict-sni", "leave strict-sni out of ssl-default-bind-options"),
    ("http-err-codes", "which answers tables count as errors is fixed"),
    ("http-fail-codes", "which answers tables count as failures is fixed"),
    ("jwt.allow_none_alg", "a token without a signature proves nothing"),
    ("jwt.decrypt_alg_list", "encrypted tokens are not read: let the servers check them"),
    ("jwt.decrypt_enc_list", "encrypted tokens are not read: let the servers check them"),
];

/// The same by what words begin with; the first that fits is it.
const BEGINNINGS: &[(&str, &str)] = &[
    ("section cache", "there is no cache: put one behind, or before"),
    ("section crt-store", "name each file of a certificate at bind, by crt or crt-list"),
    ("section fcgi-app", "FastCGI is not spoken: put a web server before such programs"),
    ("section healthcheck", "checks are a section's own: write option httpchk there"),
    ("section log-forward", "lines of others are not forwarded: that is a syslog server's work"),
    ("section log-profile", "lines have one format: write log-format"),
    ("section program", "other programs are started by the service manager of the machine"),
    ("section ring", "there are no rings: name a syslog server, a socket or stdout"),
    ("section traces", "see `evenkeel logs` and `evenkeel explain`"),
    ("section acme", "see [[acme]]"),
    ("acme", "see [[acme]]"),
    ("lua.", "Lua is not run: rules, and programs that answer, are what there is"),
    ("lua-", "Lua is not run: rules, and programs that answer, are what there is"),
    ("tune.lua", "Lua is not run: leave it out"),
    ("tune.quic", "HTTP/3 is not spoken: leave it out"),
    ("quic", "HTTP/3 is not spoken: leave it out"),
    ("use-fcgi-app", "FastCGI is not spoken: put a web server before such programs"),
    ("filter fcgi-app", "FastCGI is not spoken: put a web server before such programs"),
    ("filter spoe", "agents of SPOE are not asked: rules, lists and tables are what there is"),
    ("send-spoe-group", "agents of SPOE are not asked: rules, lists and tables are what there is"),
    ("option spop-check", "agents of SPOE are not asked: write option tcp-check"),
    ("filter cache", "there is no cache: put one behind, or before"),
    ("filter opentracing", "traces are not sent: pass the client's headers on, and log their names"),
    ("ot-group", "traces are not sent: pass the client's headers on, and log their names"),
    ("filter bwlim", "data is not slowed down: see rate-limit for requests and connections"),
    ("set-bandwidth-limit", "data is not slowed down: see rate-limit for requests and connections"),
    ("filter trace", "see `evenkeel logs` and `evenkeel explain`"),
    ("ssl-passphrase-cmd", "keys have no passphrase: store them without, readable for root alone"),
    ("issuers-chain-path", "chains are sent as their files have them: write the whole chain into the file"),
    ("key-base", "name the files of keys with their folder"),
    ("default-path", "name files with their folder"),
    ("generate-certificates", "certificates are not made of names that clients ask for: name them by crt"),
    ("ca-sign-", "certificates are not made of names that clients ask for: name them by crt"),
    ("npn", "protocols are agreed on by ALPN: write alpn"),
    ("namespace", "start the program inside the namespace, one process each"),
    ("interface", "write the address that the interface has"),
    ("tcp-md5sig", "the kernel's signatures of TCP are not used: leave it out"),
    ("set-fc-", "mark packets by rules of the kernel (nft)"),
    ("set-bc-", "mark packets by rules of the kernel (nft)"),
    ("do-log", "a request has one line: write log-format"),
    ("log-steps", "a request has one line: see option logasap for when it is written"),
    ("log-format-sd", "structured data of RFC 5424 is not written: put the fields into log-format"),
    ("option transparent", "name the servers; see source ADDRESS usesrc clientip for the client's address"),
    ("transparent", "name the servers; see source ADDRESS usesrc clientip for the client's address"),
    ("option forwarded", "write option forwardfor, or http-request set-header Forwarded"),
    (
        "option checkcache",
        "write http-response deny if { res.hdr(Set-Cookie) -m found } and what else it is about",
    ),
    ("option http-drop-", "trailers go on where request-trailers says so: leave it out"),
    (
        "option disable-h2-upgrade",
        "HTTP/2 without TLS is taken by its own preface: write a bind of its own for it",
    ),
    (
        "option accept-invalid-http-",
        "messages that can be read in two ways are refused: leave it out, and have them mended",
    ),
    (
        "option accept-unsafe-",
        "messages that can be read in two ways are refused: leave it out, and have them mended",
    ),
    ("force-persist", "a server in drain keeps its clients: write option persist nowhere, and drain it"),
    ("ignore-persist", "write use_backend to a pool without cookies for such requests"),
    ("localpeer", "the nodes of a pair are named in [pair]"),
    ("cluster-secret", "the nodes of a pair share a key: see [pair]"),
    ("h1-case-adjust", "names of headers keep the case that they came with: leave it out"),
    ("h1-do-not-close", "messages that can be read in two ways are refused: leave it out"),
    ("maxconnrate", "see rate-limit of routes"),
    ("maxsessrate", "see rate-limit of routes"),
    ("maxssl", "see rate-limit of routes"),
    ("nogetaddrinfo", "names are looked up by name servers: see resolvers"),
    ("dns-accept-family", "see resolve-prefer of a server"),
    ("accept-netscaler-cip", "the address of a client comes from a PROXY header: write accept-proxy"),
    ("expect-netscaler-cip", "the address of a client comes from a PROXY header: write expect-proxy layer4"),
    ("nbconn", "connections are not opened from the other side: name the servers"),
    ("attach-srv", "connections are not opened from the other side: name the servers"),
    ("switch-mode", "write the services apart: mode http, and mode tcp"),
    ("set-retries", "write retries in the section"),
    ("pause", "requests are not held back: see rate-limit"),
    ("wait-for-handshake", "early data is not taken, since it can be played again: leave it out"),
    ("harden.reject-privileged-ports", "write tcp-request connection reject if { src_port lt 1024 }"),
    ("hash-preserve-affinity", "a server that is full passes its clients on: leave it out"),
    ("force-be-switch", "a backend that is disabled takes no one: leave it out"),
];

/// The reason why a word is left, with what to write in its place where something is known.
/// Words that say how something is done and not what: without them the same clients get
/// the same answers. A file with them starts, and they are told.
const HARMLESS: &[(&str, &str)] = &[
    ("ssl-default-bind-curves", CURVES),
    ("ssl-default-bind-sigalgs", CURVES),
    ("ssl-default-bind-client-sigalgs", CURVES),
    ("ssl-default-server-curves", CURVES),
    ("ssl-default-server-sigalgs", CURVES),
    ("ssl-default-server-client-sigalgs", CURVES),
    ("client-sigalgs", CURVES),
    ("sigalgs", CURVES),
    ("curves", CURVES),
    ("prefer-client-ciphers", "ciphers are chosen by this program"),
    ("allow-0rtt", "early data is not taken, since it can be played again: clients send it once more"),
    ("tls-ticket-keys", "keys of tickets are made and changed by this program"),
    ("no-tls-tickets", "sessions are resumed by tickets"),
    ("tls-tickets", "sessions are resumed by tickets"),
    ("ssl-reuse", "sessions with servers are resumed"),
    ("no-ssl-reuse", "sessions with servers are resumed"),
    ("no-ca-names", "clients are told the names of the authorities"),
    ("ssl-engine", OWN_TLS),
    ("ssl-provider", OWN_TLS),
    ("ssl-provider-path", OWN_TLS),
    ("ssl-propquery", OWN_TLS),
    ("ktls", OWN_TLS),
    ("ech", "ECH is not spoken: names are asked for in clear"),
    ("ssl-load-extra-files", EXTRA_FILES),
    ("ssl-load-extra-del-ext", EXTRA_FILES),
    ("ocsp-update", "proofs of OCSP stand in FILE.ocsp beside each certificate"),
    ("tcp-ss", "the kernel's ways of TCP are set by sysctl"),
    ("cc", "the kernel's ways of TCP are set by sysctl"),
    ("option use-small-buffers", "buffers are this program's own"),
    ("guid", NAMES),
    ("guid-prefix", NAMES),
    ("server-state-file-name", "the state of servers is kept by this program's own file"),
    ("h2-workaround-bogus-websocket-clients", "websockets over HTTP/2 are offered to no client"),
    ("expose-fd", "the next process takes the sockets by itself"),
    ("severity-output", "commands answer without it"),
];

const CURVES: &str = "curves and signatures are those that are held to be good";
const OWN_TLS: &str = "TLS is this program's own";
const EXTRA_FILES: &str = "FILE.key and FILE.ocsp are read beside a certificate";
const NAMES: &str = "services and servers are named by their names";

/// Tells of words that are not carried over: a file starts with those that are harmless, and not with others.
pub fn diagnose(draft: &mut Draft, line: usize, told: &str, words: &[&str]) {
    let two = words.get(..2).map(|two| two.join(" "));
    let is_it = |word: &str| words.first() == Some(&word) || two.as_deref() == Some(word);
    match HARMLESS.iter().find(|(word, _)| is_it(word)) {
        Some((_, why)) => draft.remark(line, told, *why),
        None => draft.left(line, told, of(words)),
    }
}

pub fn of(words: &[&str]) -> String {
    let verb = words.iter().map(|word| word.split('(').next().unwrap_or(word)).collect::<Vec<_>>();
    let two = verb.get(..2).map(|two| two.join(" "));
    let known = REMEDIES
        .iter()
        .find(|(word, _)| two.as_deref() == Some(*word) || verb.iter().take(3).any(|verb| verb == word));
    let known = known.or_else(|| {
        let begins = |start: &str| {
            let two = two.as_ref().is_some_and(|two| two.starts_with(start));
            two || verb.iter().take(3).any(|verb| verb.starts_with(start) && !start.contains(' '))
        };
        BEGINNINGS.iter().find(|(start, _)| begins(start))
    });
    known.map_or_else(|| "not carried over".to_owned(), |(_, remedy)| format!("not carried over: {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn words_that_are_left_name_what_to_write() {
        for (words, part) in [
            (&["lua-load"][..], "Lua"),
            (&["tune.quic.retry-threshold"], "HTTP/3"),
            (&["section", "fcgi-app"], "FastCGI"),
            (&["http-request", "sc-inc-gpc0(0)"], "gpc0"),
            (&["http-request", "set-tos", "1"], "nft"),
            (&["capture", "cookie", "A", "len", "5"], "req.cook"),
        ] {
            assert!(of(words).contains(part), "{words:?}: {}", of(words));
        }
        assert_eq!(of(&["what", "nobody", "knows"]), "not carried over");
    }
}
