//! Keys of routes and of the tables that they count in.

use super::{DAY_MS, Table, ValueKind, duration, key, line, required, word};

pub static TABLE: Table = Table {
    name: "table",
    doc: "What is counted of clients, for routes to act on: `track = \"NAME\"` counts, `rate(\"NAME\", \"requests\")` asks.",
    keys: &[
        required("name", ValueKind::Name, "The name that routes refer to."),
        key("key", ValueKind::Template, "{source}", "Whose entry it is."),
        key(
            "entries-of",
            ValueKind::Name,
            "",
            "A table before it whose entries are asked and counted in by this key as well; size, expire and period are that one's.",
        ),
        key("size", SIZE, "65536", "Entries at most; the oldest give way."),
        key("expire", duration(1, 365 * DAY_MS), "10m", "How long an entry stays after its last use."),
        key("period", duration(1, DAY_MS), "10s", "The time that rates are counted over."),
    ],
};

pub const SIZE: ValueKind = ValueKind::Integer { min: 16, max: 16_777_216 };
const STATUS: ValueKind = ValueKind::Integer { min: 200, max: 599 };

pub static ROUTE: Table = Table {
    name: "route",
    doc: "Which requests go to which pool or get which answer. Routes are tried in the written order; what one does is done in the order of this table, and the next ones see the request as it has become. `pool`, `pool-map`, `redirect`, `answer`, `deny` and `tarpit` end it, everything else goes on with the next route.",
    keys: &[
        key("name", ValueKind::Name, "", "The name in explanations and logs; `route-1`… when absent."),
        key("when", ValueKind::Condition, "", "The condition; a route without one holds always."),
        key("track", ValueKind::Name, "", "Count the request for its entry in this table."),
        key("count", ValueKind::Table(&COUNT), "", "Change a number of its entry in a table."),
        key("rate-limit", ValueKind::Table(&RATE_LIMIT), "", "Refuse a key that comes too often."),
        key(
            "concurrency-limit",
            ValueKind::Table(&CONCURRENCY_LIMIT),
            "",
            "Refuse a key that has too many requests at a time.",
        ),
        key("basic-auth", ValueKind::Table(&BASIC_AUTH), "", "Ask for a user name and a password."),
        key(
            "set-variable",
            ValueKind::Map(&ValueKind::Template),
            "",
            "Texts that later routes use as `{variable:NAME}`, for this request; names that begin with `sess.` for all requests of an HTTP/1 connection.",
        ),
        key(
            "capture",
            ValueKind::Map(&ValueKind::Template),
            "",
            "Texts for the log line: `{ name = \"text with {variables}\" }`.",
        ),
        key(
            "set-connection-source",
            ValueKind::Template,
            "",
            "The client's address for the connection, `{connection-source}`, and for the request; a text that is no address changes nothing.",
        ),
        key("set-connection-destination", ValueKind::Template, "", "The same of the address it came to."),
        key(
            "set-source",
            ValueKind::Template,
            "",
            "The client's address for this request: in conditions, texts, forwarded headers, PROXY headers and lines.",
        ),
        key("set-destination", ValueKind::Template, "", "The same of the address it came to."),
        key("set-source-port", ValueKind::Template, "", "The client's port for this request."),
        key("set-destination-port", ValueKind::Template, "", "The same of the port it came to."),
        key(
            "priority",
            ValueKind::Integer { min: -1000, max: 1000 },
            "0",
            "Place in the queue of a full server: smaller goes first.",
        ),
        key(
            "server",
            ValueKind::Name,
            "",
            "The real server that takes it, if it can, of the pool that it comes to: before persistence and scheduler.",
        ),
        key(
            "server-timeout",
            duration(1, 7 * DAY_MS),
            "that of the service",
            "How long a server may be silent: for reports and other requests that take their time.",
        ),
        key(
            "connect-timeout",
            duration(1, DAY_MS),
            "that of the service",
            "How long a connection to a server may take.",
        ),
        key("queue-timeout", duration(1, DAY_MS), "that of the service", "How long it may wait in a queue."),
        key(
            "log-level",
            LOG_LEVEL,
            "info",
            "The severity of its log line, which decides to which targets it goes; `silent`: it has none.",
        ),
        key(
            "retry",
            ValueKind::Flag,
            "true",
            "false: no other server is asked after one has had the request, whatever `retry-on` says, as with POST.",
        ),
        key(
            "rewrite-method",
            ValueKind::Token,
            "",
            "The request method for the real server; not HEAD or CONNECT.",
        ),
        key("rewrite-path", ValueKind::Template, "", "The path for the real server."),
        key("rewrite-query", ValueKind::Template, "", "The query for the real server, without `?`."),
        key("rewrite-uri", ValueKind::Template, "", "Path and query for the real server at once."),
        key("set-header", ValueKind::Map(&ValueKind::Template), "", "Request headers to replace or add."),
        key("add-header", ValueKind::Map(&ValueKind::Template), "", "Request headers to add."),
        key(
            "edit-header",
            ValueKind::Map(&ValueKind::Template),
            "",
            "What each request header of a name becomes, where there are such; `{1}` is what it was.",
        ),
        key(
            "remove-header",
            ValueKind::List(&ValueKind::Token),
            "",
            "Request headers to remove; `*` in a name stands for anything (`x-internal-*`).",
        ),
        key(
            "remove-header-matching",
            ValueKind::List(&ValueKind::Text { max: 256, lines: false }),
            "",
            "Request headers to remove whose names, in lower case, match one of these regular expressions.",
        ),
        key(
            "set-response-header",
            ValueKind::Map(&ValueKind::Template),
            "",
            "Response headers to replace or add; variables are of the request.",
        ),
        key("add-response-header", ValueKind::Map(&ValueKind::Template), "", "Response headers to add."),
        key(
            "remove-response-header",
            ValueKind::List(&ValueKind::Token),
            "",
            "Response headers to remove; `*` in a name stands for anything.",
        ),
        key("pool", ValueKind::Name, "", "The pool that takes it."),
        key("pool-map", ValueKind::Table(&POOL_MAP), "", "The pool that a map file names."),
        key("redirect", ValueKind::Table(&REDIRECT), "", "Send the client elsewhere."),
        key("answer", ValueKind::Table(&ANSWER), "", "Answer with a page."),
        key("deny", ValueKind::Table(&DENY), "", "Refuse."),
        key("tarpit", ValueKind::Table(&TARPIT), "", "Refuse after a while."),
    ],
};

pub static ANSWER_ROUTE: Table = Table {
    name: "answer-route",
    doc: "What is done with answers on their way to the client. They are tried in the written order; later ones see the answer as it has become. Conditions and texts can ask what routes can ask of the request, and `status`, `answer-header` and `server` of the answer. Answers that switch protocols (101) and interim ones pass unseen.",
    keys: &[
        key("name", ValueKind::Name, "", "The name in explanations; `answer-route-1`… when absent."),
        key("when", ValueKind::Condition, "", "The condition; one without holds always."),
        key(
            "of",
            ValueKind::Choice(&[word("all"), word("servers"), word("own")]),
            "all",
            "Whose answers: of real servers, this program's own (pages, redirects, refusals, errors), or both.",
        ),
        key(
            "set-variable",
            ValueKind::Map(&ValueKind::Template),
            "",
            "Texts that later ones use as `{variable:NAME}`; names that begin with `sess.` stay for the connection.",
        ),
        key("capture", ValueKind::Map(&ValueKind::Template), "", "Texts for the log line."),
        key("status", STATUS, "", "Another status; the body stays."),
        key(
            "remove-header",
            ValueKind::List(&ValueKind::Token),
            "",
            "Headers to remove; `*` in a name stands for anything (`x-internal-*`).",
        ),
        key(
            "remove-header-matching",
            ValueKind::List(&ValueKind::Text { max: 256, lines: false }),
            "",
            "Headers to remove whose names, in lower case, match one of these regular expressions.",
        ),
        key("set-header", ValueKind::Map(&ValueKind::Template), "", "Headers to replace or add."),
        key("add-header", ValueKind::Map(&ValueKind::Template), "", "Headers to add."),
        key(
            "edit-header",
            ValueKind::Map(&ValueKind::Template),
            "",
            "What each header of a name becomes, where there are such: `Set-Cookie = \"{1}; Secure\"`; `{1}` is what it was.",
        ),
        key(
            "rewrite-location",
            ValueKind::Table(&REWRITE_LOCATION),
            "",
            "Places and cookies of real servers as clients know them: in Location, Content-Location, URI, Refresh and Set-Cookie.",
        ),
        key(
            "deny",
            ValueKind::Table(&DENY_ANSWER),
            "",
            "Do not let a real server's answer out: the client gets an error instead.",
        ),
        key("log-level", LOG_LEVEL, "info", "As in a route: the severity of the log line, or `silent`."),
        key(
            "redirect",
            ValueKind::Table(&REDIRECT),
            "",
            "Send the client elsewhere in the place of a real server's answer. What other answer-routes have said of its headers does not count; what this one says does.",
        ),
        key(
            "answer",
            ValueKind::Table(&ANSWER),
            "",
            "A page in the place of a real server's answer, with the headers that this answer-route adds.",
        ),
        key("stop", ValueKind::Flag, "false", "Later ones are not tried."),
    ],
};

static REWRITE_LOCATION: Table = Table {
    name: "rewrite-location",
    doc: "Places and cookies of real servers as clients know them: what Apache has as ProxyPassReverse, ProxyPassReverseCookieDomain and -CookiePath, and nginx as proxy_redirect, proxy_cookie_domain and proxy_cookie_path.",
    keys: &[
        key(
            "from",
            ValueKind::List(&line(512)),
            "[]",
            "What servers say: `http://192.0.2.21:8080/app`, `/app`. What follows it, behind a `/`, `?` or `#`, stays.",
        ),
        key(
            "to",
            line(512),
            "",
            "What clients get in its place: `https://www.example.org/shop`, or `/shop` at the host that they asked for.",
        ),
        key("cookie-domains", ValueKind::Tables(&COOKIE_DOMAIN), "[]", "Domains of cookies."),
        key("cookie-paths", ValueKind::Tables(&COOKIE_PATH), "[]", "Paths of cookies, and those below."),
    ],
};

static COOKIE_DOMAIN: Table = Table {
    name: "cookie-domains",
    doc: "A domain of cookies.",
    keys: &[
        required("from", line(255), "What servers say; a dot before it makes no difference."),
        required(
            "to",
            line(255),
            "What clients get; an empty text leaves the cookie to the host that they asked.",
        ),
    ],
};

static COOKIE_PATH: Table = Table {
    name: "cookie-paths",
    doc: "A path of cookies.",
    keys: &[
        required("from", line(255), "What servers say: `/app`."),
        required("to", line(255), "What clients get: `/shop`."),
    ],
};

static DENY_ANSWER: Table = Table {
    name: "deny",
    doc: "Do not let the answer out.",
    keys: &[
        key("status", STATUS, "502", "Status of the error that the client gets."),
        key("silent", ValueKind::Flag, "false", "End the client's connection without an answer."),
    ],
};

static COUNT: Table = Table {
    name: "count",
    doc: "Change a number of the request's entry in a table: conditions ask it by `count(\"TABLE\", \"number-1\")` and, where it is added to, by `rate`.",
    keys: &[
        required("table", ValueKind::Name, "The table."),
        required(
            "number",
            ValueKind::Choice(&[
                word("number-1"),
                word("number-2"),
                word("number-3"),
                word("number-4"),
                word("number-5"),
                word("number-6"),
                word("number-7"),
                word("number-8"),
            ]),
            "Which of the entry's numbers.",
        ),
        key("add", ValueKind::Template, "1", "How much is added."),
        key("set", ValueKind::Template, "", "The new number instead; a text that is none changes nothing."),
    ],
};

static RATE_LIMIT: Table = Table {
    name: "rate-limit",
    doc: "Refuse a key that comes too often.",
    keys: &[
        required("rate", ValueKind::Rate, "So many in a time, such as `100/10s`; as many at once."),
        key("key", ValueKind::Template, "{source}", "What is limited."),
        key("status", STATUS, "429", "Status of the refusal, which has Retry-After."),
    ],
};

static CONCURRENCY_LIMIT: Table = Table {
    name: "concurrency-limit",
    doc: "Refuse a key that has too many requests at a time.",
    keys: &[
        required("max", ValueKind::Integer { min: 1, max: 1_000_000 }, "Requests at a time."),
        key("key", ValueKind::Template, "{source}", "What is limited."),
        key("status", STATUS, "429", "Status of the refusal."),
    ],
};

static BASIC_AUTH: Table = Table {
    name: "basic-auth",
    doc: "Ask for a user name and a password (RFC 7617).",
    keys: &[
        key(
            "users",
            ValueKind::File,
            "",
            "Lines of `NAME:HASH`: bcrypt, as `htpasswd -B` writes it, or SHA-crypt (`$5$`, `$6$`), as `mkpasswd` does.",
        ),
        key(
            "accounts",
            ValueKind::Map(&line(256)),
            "{}",
            "Names with such hashes, in the configuration itself; `plain:PASSWORD` is one that everybody can read who reads the configuration.",
        ),
        key("realm", line(128), "restricted", "What the client is told it is asked for."),
    ],
};

static POOL_MAP: Table = Table {
    name: "pool-map",
    doc: "The pool that a map file names: lines of `KEY POOL`.",
    keys: &[
        required("file", ValueKind::File, "The map."),
        key(
            "match",
            ValueKind::Choice(&[
                word("stars"),
                word("exact"),
                word("begin"),
                word("end"),
                word("domain"),
                word("domain-in-order"),
                word("end-in-order"),
                word("contains"),
                word("regex"),
                word("network"),
            ]),
            "stars",
            "How keys are compared. `stars`: a `*` at a key's beginning or end stands for anything, and what is looked up is in lower case first. `begin`, `end`: the longest key that it begins or ends with. `domain`: the longest that is a part of it between dots. `contains`, `regex`: the first of the file. `network`: the narrowest.",
        ),
        key("key", ValueKind::Template, "{host}", "What is looked up."),
        key(
            "default",
            ValueKind::Name,
            "",
            "The pool for keys that are not in the map; without it the next route is tried.",
        ),
    ],
};

static REDIRECT: Table = Table {
    name: "redirect",
    doc: "Send the client elsewhere.",
    keys: &[
        required("location", ValueKind::Template, "Where to. One that ends in `{path}` keeps the query."),
        key("status", ValueKind::Integer { min: 301, max: 308 }, "302", "301, 302, 303, 307 or 308."),
        key("drop-query", ValueKind::Flag, "false", "Do not keep the query."),
    ],
};

static ANSWER: Table = Table {
    name: "answer",
    doc: "Answer with a page.",
    keys: &[
        key("status", STATUS, "200", "Status of the page."),
        key("body", ValueKind::Text { max: 65_536, lines: true }, "", "Body of the page."),
        key("file", ValueKind::File, "", "A file with the body instead, up to 1 MiB."),
        key("variables", ValueKind::Flag, "false", "The body is a text with `{variables}`."),
        key(
            "content-type",
            line(256),
            "",
            "Type of the page; by default that of the file's name, and `text/html` or `text/plain` of a body.",
        ),
    ],
};

const LOG_LEVEL: ValueKind = ValueKind::Choice(&[
    word("silent"),
    word("emerg"),
    word("alert"),
    word("crit"),
    word("err"),
    word("warning"),
    word("notice"),
    word("info"),
    word("debug"),
]);

static DENY: Table = Table {
    name: "deny",
    doc: "Refuse.",
    keys: &[
        key("status", STATUS, "403", "Status of the refusal."),
        key(
            "silent",
            ValueKind::Flag,
            "false",
            "End the connection (of HTTP/2: the stream) without an answer.",
        ),
        key(
            "vanish",
            ValueKind::Flag,
            "false",
            "The same, and the client is not told that its connection has ended: it waits until it gives up, or until it sends more: nobody knows the connection then, and the kernel says so. Without CAP_NET_ADMIN a reset is sent that the next router drops.",
        ),
    ],
};

static TARPIT: Table = Table {
    name: "tarpit",
    doc: "Refuse after a while, so that an attacker waits.",
    keys: &[
        key("delay", duration(1, 60_000), "10s", "How long the client waits."),
        key("status", STATUS, "500", "Status of the refusal."),
    ],
};
