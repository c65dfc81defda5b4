//! What a condition can ask about, once: the parser, the reference page and the suggestions are
//! made from this table.

/// What a function looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fetch {
    Host,
    Path,
    /// In normal form as `Path`, but with the parameters of its segments (`;a=b`).
    FullPath,
    /// Path and query.
    Uri,
    /// The target as it came, whole where it was an address.
    Url,
    /// As it came, or as a route has written it.
    RawPath,
    Method,
    Query,
    Header,
    /// Of its values in a list each.
    HeaderValue,
    /// The number that each of them begins with.
    HeaderNumber,
    /// As far as it was waited for.
    Body,
    Cookie,
    /// Of each cookie.
    CookieName,
    Version,
    Scheme,
    Sni,
    Alpn,
    /// A value of the PROXY header that the connection began with.
    ProxyValue,
    /// What the client of mode tcp sends first.
    FirstBytes,
    FirstBytesHex,
    FirstBytesLength,
    TlsHello,
    TlsVersion,
    TlsCipher,
    ClientCertCn,
    ClientCertSubject,
    ClientCertIssuer,
    ClientCertSerial,
    ClientCertFingerprint,
    /// What a certificate says: of the client, of this program, of the real server.
    ClientCertificate,
    OwnCertificate,
    ServerCertificate,
    Source,
    Destination,
    /// Of the connection, whatever routes have made of it for the request.
    ConnectionSource,
    ConnectionDestination,
    Port,
    SourcePort,
    ContentLength,
    ServersUp,
    Connections,
    Queued,
    /// Of one server of a pool.
    ServerUp,
    ServerConnections,
    ServiceConnections,
    Rate,
    Count,
    /// Whether a table has an entry.
    InTable,
    Tls,
    TlsResumed,
    ClientCert,
    FirstRequest,
    Time,
    Weekday,
    Variable,
    /// Of an answer.
    Status,
    AnswerHeader,
    AnswerHeaderValue,
    /// Of each cookie that the answer sets.
    AnswerCookieName,
    Server,
    /// A text with variables, rendered.
    Text,
    /// Whether there is such a text, be it empty.
    Present,
    /// The same as a number.
    Number,
    /// The same as an address.
    Address,
}

impl Fetch {
    /// What a client sends first is asked of connections that are passed through.
    pub fn is_of_first_bytes(self) -> bool {
        matches!(self, F::FirstBytes | F::FirstBytesHex | F::FirstBytesLength | F::TlsHello)
    }

    /// The header that a value is one of.
    pub fn list(self) -> Option<Fetch> {
        match self {
            F::HeaderValue | F::HeaderNumber => Some(F::Header),
            F::AnswerHeaderValue => Some(F::AnswerHeader),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchKind {
    /// Patterns decide; without one: whether it is there.
    Text,
    /// Networks decide.
    Address,
    /// Compared with a number, or given the numbers that match.
    Number,
    Flag,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeedsHttp {
    Yes,
    No,
    /// And its answer.
    Answer,
}

#[derive(Debug)]
pub struct Function {
    pub name: &'static str,
    pub fetch: Fetch,
    pub kind: FetchKind,
    /// Arguments before the patterns: `NAME` of a header, `TABLE`, `POOL`.
    pub arguments: &'static [&'static str],
    pub needs: NeedsHttp,
    /// Upper and lower case are the same.
    pub folds: bool,
    pub doc: &'static str,
    pub example: &'static str,
}

const fn function(
    name: &'static str,
    fetch: Fetch,
    kind: FetchKind,
    needs: NeedsHttp,
    doc: &'static str,
    example: &'static str,
) -> Function {
    Function { name, fetch, kind, arguments: &[], needs, folds: false, doc, example }
}

const fn with(function: Function, arguments: &'static [&'static str]) -> Function {
    Function { arguments, ..function }
}

const fn folded(function: Function) -> Function {
    Function { folds: true, ..function }
}

use Fetch as F;
use FetchKind::{Address, Flag, Number, Text};
use NeedsHttp::{Answer, No, Yes};

pub static FUNCTIONS: &[Function] = &[
    folded(function(
        "host",
        F::Host,
        Text,
        Yes,
        "The host the request is for, without port.",
        r#"host("www.example.org", "*.example.net")"#,
    )),
    function(
        "path",
        F::Path,
        Text,
        Yes,
        "The path of the request, without the query, in normal form: `normalize` of the service says how.",
        r#"path("/api/*")"#,
    ),
    function(
        "raw-path",
        F::RawPath,
        Text,
        Yes,
        "The path as it came. Other spellings of the same path pass by: nothing is to be protected with it.",
        r#"raw-path("*%2F*")"#,
    ),
    function("method", F::Method, Text, Yes, "The request method.", r#"method("GET", "HEAD")"#),
    with(
        function(
            "query",
            F::Query,
            Text,
            Yes,
            "A parameter of the query, not decoded.",
            r#"query("lang", "de")"#,
        ),
        &["NAME"],
    ),
    with(
        function(
            "header",
            F::Header,
            Text,
            Yes,
            "A header of the request; of several the one that matches.",
            r#"header("User-Agent", "*bot*")"#,
        ),
        &["NAME"],
    ),
    with(
        function(
            "header-value",
            F::HeaderValue,
            Text,
            Yes,
            "A value of a header of the request whose values stand in a list, with commas between; of several the one that matches.",
            r#"header-value("Accept-Encoding", "br", "br;*")"#,
        ),
        &["NAME"],
    ),
    function(
        "body",
        F::Body,
        Text,
        Yes,
        "The body of the request, where the service has `wait-for-body`: what a buffer of 16 KiB holds beside the head.",
        r#"body("*<script>*")"#,
    ),
    with(
        function(
            "header-number",
            F::HeaderNumber,
            Number,
            Yes,
            "The number that a value of a header of the request begins with, else 0; of several the one that holds.",
            r#"header-number("Content-Length") > 1000"#,
        ),
        &["NAME"],
    ),
    with(
        function(
            "cookie",
            F::Cookie,
            Text,
            Yes,
            "A cookie of the request; of several of a name the one that matches.",
            r#"cookie("beta", "1")"#,
        ),
        &["NAME"],
    ),
    function(
        "cookie-name",
        F::CookieName,
        Text,
        Yes,
        "The name of a cookie of the request; of several the one that matches.",
        r#"cookie-name("session*")"#,
    ),
    function("version", F::Version, Text, Yes, "The HTTP version: `1.0`, `1.1` or `2`.", r#"version("1.0")"#),
    function(
        "scheme",
        F::Scheme,
        Text,
        Yes,
        "`https` when the client speaks TLS with this program, else `http`.",
        r#"scheme("http")"#,
    ),
    folded(function(
        "sni",
        F::Sni,
        Text,
        No,
        "The host name that a TLS client asks for; in mode tcp also of connections that are passed through unopened.",
        r#"sni("*.example.org")"#,
    )),
    function(
        "alpn",
        F::Alpn,
        Text,
        No,
        "The protocol agreed on by ALPN; passed through: the first one offered.",
        r#"alpn("h2")"#,
    ),
    function(
        "first-bytes",
        F::FirstBytes,
        Text,
        No,
        "In mode tcp: what the client sends first, up to 64 bytes. It is waited for, so the client must be the one that speaks first.",
        r#"first-bytes("SSH-2.0-*")"#,
    ),
    function(
        "first-bytes-hex",
        F::FirstBytesHex,
        Text,
        No,
        "The same in hexadecimal, small letters.",
        r#"first-bytes-hex("0300*")"#,
    ),
    function(
        "first-bytes-length",
        F::FirstBytesLength,
        Number,
        No,
        "In mode tcp: how many bytes have come when conditions are asked; as many as a condition names are waited for, up to 64.",
        r#"first-bytes-length >= 8"#,
    ),
    function(
        "tls-hello",
        F::TlsHello,
        Flag,
        No,
        "In mode tcp: the client begins a TLS handshake, which is passed through unopened.",
        "tls-hello()",
    ),
    function("tls-version", F::TlsVersion, Text, No, "`TLSv1.2` or `TLSv1.3`.", r#"tls-version("TLSv1.2")"#),
    function("tls-cipher", F::TlsCipher, Text, No, "The cipher suite.", r#"tls-cipher("*CHACHA20*")"#),
    function(
        "client-cert-cn",
        F::ClientCertCn,
        Text,
        No,
        "The common name of the client's certificate.",
        r#"client-cert-cn("admin-*")"#,
    ),
    function(
        "client-cert-subject",
        F::ClientCertSubject,
        Text,
        No,
        "The subject of the client's certificate.",
        r#"client-cert-subject("*OU=Sales*")"#,
    ),
    function(
        "client-cert-issuer",
        F::ClientCertIssuer,
        Text,
        No,
        "Who issued the client's certificate.",
        r#"client-cert-issuer("*CN=Our CA*")"#,
    ),
    folded(function(
        "client-cert-serial",
        F::ClientCertSerial,
        Text,
        No,
        "The serial number of the client's certificate, hexadecimal.",
        r#"client-cert-serial("0A1B")"#,
    )),
    folded(function(
        "client-cert-fingerprint",
        F::ClientCertFingerprint,
        Text,
        No,
        "SHA-256 of the client's certificate, hexadecimal.",
        r#"client-cert-fingerprint("9f86d081*")"#,
    )),
    with(
        function(
            "client-certificate",
            F::ClientCertificate,
            Text,
            No,
            CERTIFICATE_DOC,
            r#"client-certificate("sha1", "9F86D081*")"#,
        ),
        &["FIELD"],
    ),
    with(
        function(
            "own-certificate",
            F::OwnCertificate,
            Text,
            No,
            "The same of the certificate that this program has shown to the client.",
            r#"own-certificate("key-algorithm", "rsaEncryption")"#,
        ),
        &["FIELD"],
    ),
    with(
        function(
            "server-certificate",
            F::ServerCertificate,
            Text,
            Answer,
            "The same of the certificate that the real server has shown; in `answer-route` alone.",
            r#"server-certificate("sha1", "9F86D081*")"#,
        ),
        &["FIELD"],
    ),
    function(
        "source",
        F::Source,
        Address,
        No,
        "The client's address.",
        r#"source("10.0.0.0/8", "2001:db8::/32")"#,
    ),
    function(
        "destination",
        F::Destination,
        Address,
        No,
        "The address that the client connected to.",
        r#"destination("192.0.2.10")"#,
    ),
    function("port", F::Port, Number, No, "The port that the client connected to.", r#"port(80, 443)"#),
    function("source-port", F::SourcePort, Number, No, "The client's port.", r#"source-port < 1024"#),
    function(
        "status",
        F::Status,
        Number,
        Answer,
        "The status of the answer; in `answer-route` alone.",
        r#"status >= 500"#,
    ),
    with(
        function(
            "answer-header",
            F::AnswerHeader,
            Text,
            Answer,
            "A header of the answer; of several the one that matches. In `answer-route` alone.",
            r#"answer-header("Content-Type", "text/html*")"#,
        ),
        &["NAME"],
    ),
    with(
        function(
            "answer-header-value",
            F::AnswerHeaderValue,
            Text,
            Answer,
            "A value of a header of the answer whose values stand in a list; of several the one that matches. In `answer-route` alone.",
            r#"answer-header-value("Cache-Control", "private")"#,
        ),
        &["NAME"],
    ),
    function(
        "answer-cookie-name",
        F::AnswerCookieName,
        Text,
        Answer,
        "The name of a cookie that the answer sets; of several the one that matches. In `answer-route` alone.",
        r#"answer-cookie-name("session")"#,
    ),
    function(
        "server",
        F::Server,
        Text,
        Answer,
        "The real server that answered; none where this program did. In `answer-route` alone.",
        r#"server("web1")"#,
    ),
    function(
        "content-length",
        F::ContentLength,
        Number,
        Yes,
        "The length of the body in bytes, where it is known.",
        r#"content-length > 1000000"#,
    ),
    with(
        function(
            "servers-up",
            F::ServersUp,
            Number,
            No,
            "Real servers of a pool that can take clients.",
            r#"servers-up("web") < 2"#,
        ),
        &["POOL"],
    ),
    with(
        function(
            "connections",
            F::Connections,
            Number,
            No,
            "Requests (http) or connections (tcp) that a pool has now.",
            r#"connections("web") >= 500"#,
        ),
        &["POOL"],
    ),
    with(
        function(
            "queued",
            F::Queued,
            Number,
            No,
            "Clients that wait for a place in a pool.",
            r#"queued("web") > 20"#,
        ),
        &["POOL"],
    ),
    function(
        "service-connections",
        F::ServiceConnections,
        Number,
        No,
        "Connections of clients that this service has now.",
        r#"service-connections > 5000"#,
    ),
    with(
        function(
            "server-up",
            F::ServerUp,
            Flag,
            No,
            "A real server of a pool can take clients.",
            r#"server-up("web", "web1")"#,
        ),
        &["POOL", "SERVER"],
    ),
    with(
        function(
            "rate",
            F::Rate,
            Number,
            No,
            "What an entry of a table counted in its period: `connections`, `requests`, `errors` (answers of 400 to 499), `failures` (of 500 and more), `bytes-in`, `bytes-out`, or `number-1` to `number-8`, which routes count.",
            r#"rate("per-client", "requests") > 100"#,
        ),
        &["TABLE", "COUNTER"],
    ),
    with(
        function(
            "count",
            F::Count,
            Number,
            No,
            "What an entry of a table counted in its life, or `current` connections.",
            r#"count("per-client", "current") > 10"#,
        ),
        &["TABLE", "COUNTER"],
    ),
    with(
        function(
            "in-table",
            F::InTable,
            Flag,
            No,
            "A table has an entry for the key of this request.",
            r#"in-table("per-client")"#,
        ),
        &["TABLE"],
    ),
    function(
        "first-request",
        F::FirstRequest,
        Flag,
        Yes,
        "It is the first request of its client's connection; over HTTP/2 every one is.",
        "first-request()",
    ),
    function(
        "tls-resumed",
        F::TlsResumed,
        Flag,
        No,
        "The client's TLS session goes on from an earlier connection.",
        "tls-resumed()",
    ),
    function("tls", F::Tls, Flag, No, "The client speaks TLS with this program.", "!tls()"),
    function(
        "client-cert",
        F::ClientCert,
        Flag,
        No,
        "The client showed a certificate, which was verified.",
        "client-cert()",
    ),
    with(
        function(
            "time",
            F::Time,
            Flag,
            No,
            "The time of day of this machine; a span may pass midnight.",
            r#"time("22:00-06:00")"#,
        ),
        &["SPAN"],
    ),
    with(
        function(
            "weekday",
            F::Weekday,
            Flag,
            No,
            "The day of the week: `mon`, `tue`…, spans too.",
            r#"weekday("mon-fri")"#,
        ),
        &["DAYS"],
    ),
    with(
        function(
            "variable",
            F::Variable,
            Text,
            No,
            "What `set-variable` of an earlier route has kept.",
            r#"variable("user", "admin")"#,
        ),
        &["NAME"],
    ),
    with(
        function(
            "present",
            F::Present,
            Text,
            No,
            "Whether what a text asks is there, be it empty; with patterns also an empty text is compared.",
            r#"present("{query|param(name)}")"#,
        ),
        &["TEXT"],
    ),
    with(
        function(
            "text",
            F::Text,
            Text,
            No,
            "A text with variables and converters.",
            r#"text("{header:Host|lower|field(1,\".\")}", "www")"#,
        ),
        &["TEXT"],
    ),
    with(
        function(
            "number",
            F::Number,
            Number,
            No,
            "The same as a number; nothing holds where it is none.",
            r#"number("{path|length}") > 1000"#,
        ),
        &["TEXT"],
    ),
    with(
        function(
            "address",
            F::Address,
            Address,
            No,
            "The same as an address, with or without a port; nothing holds where it is none.",
            r#"address("{header:X-Real-IP}", "10.0.0.0/8")"#,
        ),
        &["TEXT"],
    ),
];

/// Counters of table entries.
pub const COUNTERS: [&str; 14] = [
    "connections",
    "requests",
    "errors",
    "bytes-in",
    "bytes-out",
    "failures",
    "number-1",
    "number-2",
    "number-3",
    "number-4",
    "number-5",
    "number-6",
    "number-7",
    "number-8",
];

/// What can be asked of a certificate.
pub const CERTIFICATE_FIELDS: [&str; 13] = [
    "der",
    "chain-der",
    "sha1",
    "serial",
    "subject",
    "issuer",
    "not-before",
    "not-after",
    "signature-algorithm",
    "key-algorithm",
    "version",
    "verify",
    "verify-name",
];

const CERTIFICATE_DOC: &str = "A field of the client's certificate, as OpenSSL writes it: `subject` and `issuer` (`/C=FR/CN=a`; `subject.CN` one part), `not-before` and `not-after` (`330917162600Z`), `signature-algorithm`, `key-algorithm`, `version`; `sha1`, `serial` and `der` in hexadecimal, and with those that vouch for it `chain-der`; of a client's, `verify` and `verify-name`: what was wrong with it and `ignore` overlooked, by OpenSSL's number and name, `0` and `X509_V_OK` of a good one and where none was shown.";

/// Whether a certificate has such a field; `subject.CN` is a part of one.
pub fn is_certificate_field(name: &str) -> bool {
    let part = ["subject.", "issuer."].iter().find_map(|of| name.strip_prefix(of));
    CERTIFICATE_FIELDS.contains(&name) || part.is_some_and(|part| !part.is_empty())
}

/// What may stand in braces in a text.
#[derive(Debug)]
pub struct Variable {
    pub name: &'static str,
    pub doc: &'static str,
}

pub static VARIABLES: &[Variable] = &[
    Variable { name: "host", doc: "the host the request is for, without port" },
    Variable {
        name: "path",
        doc: "the path, without the query, in normal form; `;a=b` stays where the text goes to a client, a server or a log",
    },
    Variable { name: "raw-path", doc: "the path as it came" },
    Variable { name: "query", doc: "the query, without `?`; `{query:NAME}` one parameter" },
    Variable { name: "uri", doc: "path and query as they came" },
    Variable { name: "url", doc: "the same, or the whole address where the client sent one" },
    Variable { name: "method", doc: "the request method" },
    Variable { name: "scheme", doc: "`http` or `https`" },
    Variable { name: "source", doc: "the client's address" },
    Variable { name: "source-port", doc: "the client's port" },
    Variable { name: "destination", doc: "the address that the client connected to" },
    Variable {
        name: "proxy-value:0xNN",
        doc: "the value of this kind in the PROXY header that the connection began with: `0x02` the host name, `0x05` an identity",
    },
    Variable {
        name: "connection-source",
        doc: "the client's address as the connection has it, whatever `set-source` says; `connection-destination` the same of the other end",
    },
    Variable { name: "port", doc: "the port that the client connected to" },
    Variable {
        name: "header:NAME",
        doc: "a header of the request; of several the first, with `last-header:NAME` the last",
    },
    Variable {
        name: "header-value:NAME,N",
        doc: "a value of the lists that headers of a name are, from 1, or from -1 (also without a number) at the end, or `each` in a condition, which holds where it does of one; `header-line:NAME,N` one of the headers, `answer-header-value` and `answer-header-line` of an answer",
    },
    Variable {
        name: "header-count:NAME",
        doc: "how many values the headers of a name have; `header-lines:NAME` how many headers, `cookie-count:NAME` cookies",
    },
    Variable {
        name: "cookie:NAME",
        doc: "a cookie of the request; of several the first, with `last-cookie:NAME` the last",
    },
    Variable { name: "cookie", doc: "the first cookie of the request, whatever its name" },
    Variable {
        name: "cookie-names",
        doc: "the names of all cookies with commas between; `{cookie-count}` how many there are, `{answer-cookie-names}` those that an answer sets",
    },
    Variable { name: "sni", doc: "the host name that the TLS client asked for" },
    Variable {
        name: "tls",
        doc: "`1` or `0`, as `{tls-resumed}`, `{client-cert}` and `{first-request}` are",
    },
    Variable { name: "tls-version", doc: "`TLSv1.2` or `TLSv1.3`" },
    Variable { name: "tls-cipher", doc: "the cipher suite" },
    Variable { name: "client-cert-cn", doc: "the common name of the client's certificate" },
    Variable { name: "client-cert-subject", doc: "its subject; `-issuer`, `-serial` and `-fingerprint` too" },
    Variable {
        name: "client-certificate:FIELD",
        doc: "a field of the client's certificate; `own-certificate:FIELD` of the one that this program has shown, `server-certificate:FIELD` (in `answer-route`) of the real server's",
    },
    Variable { name: "variable:NAME", doc: "what `set-variable` of an earlier route has kept" },
    Variable {
        name: "rate:TABLE,COUNTER",
        doc: "what the entry of a table counted in its period; `count:TABLE,COUNTER` in its life",
    },
    Variable {
        name: "connections:POOL",
        doc: "as the test of this name; `servers-up:POOL` and `queued:POOL` too, `server-connections:POOL,SERVER` of one real server, `service-connections` of this service",
    },
    Variable { name: "status", doc: "the status of the answer, in `answer-route`" },
    Variable {
        name: "answer-header:NAME",
        doc: "a header of the answer, in `answer-route`; `last-answer-header:NAME` too",
    },
    Variable { name: "server", doc: "the real server that answered, in `answer-route`" },
    Variable {
        name: "body",
        doc: "the body, with `wait-for-body`; `body:NAME` a field of a form, not decoded",
    },
    Variable { name: "random", doc: "a random number of 32 bits, another one each time" },
    Variable { name: "unix-time", doc: "the time in seconds since 1970" },
    Variable { name: "hostname", doc: "the name of this machine" },
    Variable { name: "uuid", doc: "a random UUID (version 4), another one each time" },
    Variable { name: "\"TEXT\"", doc: "a text itself, to be converted" },
    Variable { name: "1", doc: "what the first `*` or group of the route's condition matched, up to `9`" },
];
