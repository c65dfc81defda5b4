//! What `explain` says is what happens: a table of configurations, each asked both ways.

use std::io::Write;

use evenkeel_testbed::{Connection, Place, Scripted, read_head};

use crate::start;

/// Method, target, further fields.
type Request = (&'static str, &'static str, &'static str);

/// Routes of a service, and what is asked of it.
const TABLE: &[(&str, &[Request])] = &[
    ("", &[("GET", "/", ""), ("GET", "/a?b=c", "")]),
    (
        "[[virtual-service.route]]\nname = \"api\"\nwhen = 'path(\"/api/*\") && method(\"GET\")'\npool = \"other\"\n",
        &[("GET", "/api/x", ""), ("POST", "/api/x", ""), ("GET", "/%61pi//x", ""), ("GET", "/b%2Fapi", "")],
    ),
    (
        "[[virtual-service.route]]\nname = \"w\"\nwhen = 'query(\"to\", \"*\")'\nrewrite-path = \"{query:to}#x y?{1}\"\n",
        &[("GET", "/old?to=new&x", ""), ("GET", "/old", ""), ("GET", "/?to=/n/m", "")],
    ),
    (
        "[[virtual-service.route]]\nname = \"w\"\nrewrite-query = \"{header:X-Q}\"\nrewrite-method = \"PUT\"\n[[virtual-service.route]]\nname = \"two\"\nwhen = 'query(\"a\") && method(\"PUT\")'\npool = \"other\"\n",
        &[("GET", "/p?q", "X-Q: a=b c#"), ("GET", "/p?q", "")],
    ),
    (
        "[[virtual-service.route]]\nname = \"u\"\nrewrite-uri = \"{path}/é?{query}|\"\n",
        &[("GET", "/p?q", ""), ("GET", "/p", "")],
    ),
    (
        "client-address = { header = \"X-Q\", trusted = [\"127.0.0.0/8\"] }\n[[virtual-service.route]]\nname = \"c\"\nwhen = 'source(\"192.0.2.0/24\") && address(\"{connection-source}\", \"127.0.0.0/8\")'\npool = \"other\"\n",
        &[
            ("GET", "/", "X-Q: 192.0.2.7"),
            ("GET", "/", "X-Q: 192.0.2.7, 198.51.100.1"),
            ("GET", "/", "X-Q: ?"),
        ],
    ),
    (
        "client-address = { header = \"X-Q\", trusted = [\"198.51.100.0/24\"] }\n[[virtual-service.route]]\nname = \"c\"\nwhen = 'source(\"192.0.2.0/24\")'\npool = \"other\"\n",
        &[("GET", "/", "X-Q: 192.0.2.7"), ("GET", "/", "")],
    ),
    (
        "[[virtual-service.route]]\nname = \"h\"\nset-header = { Host = \"new.example:81\" }\n[[virtual-service.route]]\nname = \"i\"\nwhen = 'host(\"new.example\")'\npool = \"other\"\n",
        &[("GET", "/", "")],
    ),
    (
        "[[virtual-service.route]]\nname = \"r\"\nwhen = 'path(\"/r*\")'\nredirect = { location = \"https://www.example.org{path}\", status = 302 }\n[[virtual-service.route]]\nname = \"d\"\nwhen = 'path(\"/d*\")'\ndeny = { status = 403 }\n",
        &[("GET", "/r?keep=1", ""), ("GET", "/d", ""), ("GET", "/else", "")],
    ),
    (
        "[[virtual-service.route]]\nname = \"b\"\nwhen = 'path(\"/b*\")'\nbasic-auth = { users = \"USERS\", realm = \"R\" }\n",
        &[("GET", "/b", ""), ("GET", "/c", "")],
    ),
    (
        "[[virtual-service.route]]\nname = \"d\"\nwhen = 'path(\"/d*\")'\ndeny = { status = 403 }\n[[virtual-service.answer-route]]\nname = \"own\"\nof = \"own\"\nwhen = 'status == 403'\nstatus = 404\n[[virtual-service.answer-route]]\nname = \"theirs\"\nof = \"servers\"\nwhen = 'path(\"/t*\") && server(\"main1\")'\nstatus = 202\nstop = true\n[[virtual-service.answer-route]]\nname = \"late\"\nwhen = 'status == 200'\nstatus = 203\n",
        &[("GET", "/d", ""), ("GET", "/t", ""), ("GET", "/x", "")],
    ),
    (
        "[[virtual-service.answer-route]]\nname = \"no\"\nof = \"servers\"\nwhen = 'path(\"/t*\")'\ndeny = { status = 502 }\n[[virtual-service.answer-route]]\nname = \"own\"\nof = \"own\"\nwhen = 'status == 502 && !path(\"/ta\")'\nstatus = 504\n",
        &[("GET", "/t", ""), ("GET", "/ta", ""), ("GET", "/x", "")],
    ),
    (
        "[[virtual-service.route]]\nname = \"map\"\npool-map = { file = \"MAP\", key = \"{query:to}\" }\n",
        &[("GET", "/?to=a", ""), ("GET", "/?to=b", ""), ("GET", "/?to=c", "")],
    ),
    (
        "[[virtual-service.route]]\nname = \"map\"\npool-map = { file = \"MAP\", match = \"exact\", key = \"{header:X-Q}\", default = \"other\" }\n",
        &[("GET", "/", "X-Q: b"), ("GET", "/", "")],
    ),
    (
        "[[virtual-service.route]]\nname = \"add\"\nadd-header = { X-B = \"{method}-{query:q}\" }\n[[virtual-service.route]]\nname = \"two\"\nwhen = 'header(\"X-B\", \"GET-1\")'\npool = \"other\"\n",
        &[("GET", "/?q=1", ""), ("POST", "/?q=1", ""), ("GET", "/", "X-B: GET-1")],
    ),
    (
        "[[virtual-service.route]]\nname = \"less\"\nremove-header = [\"X-*\"]\n[[virtual-service.route]]\nname = \"two\"\nwhen = 'header(\"X-Q\")'\ndeny = {}\n",
        &[("GET", "/", "X-Q: 1"), ("GET", "/", "X_Q: 1"), ("GET", "/", "")],
    ),
    (
        "[[virtual-service.route]]\nname = \"set\"\nset-header = { X-M = \"{query:to|map(MAP)}\" }\n[[virtual-service.route]]\nname = \"two\"\nwhen = 'header(\"X-M\", \"other\")'\npool = \"other\"\n",
        &[("GET", "/?to=a", ""), ("GET", "/?to=z", "X-M: other")],
    ),
    (
        "[[virtual-service.route]]\nname = \"v\"\nset-variable = { v = \"{path|upper}\" }\ncapture = { v = \"{path}\" }\n[[virtual-service.route]]\nname = \"two\"\nwhen = 'variable(\"v\", \"/A*\")'\npool = \"other\"\n",
        &[("GET", "/abc;x=1", ""), ("GET", "/b", "")],
    ),
    (
        "[[virtual-service.route]]\nname = \"a\"\nanswer = { status = 404, body = \"{path} {header:X-Q}\", variables = true }\n",
        &[("GET", "/a", "X-Q: 1")],
    ),
    (
        "[[virtual-service.route]]\nname = \"t\"\nwhen = 'path(\"/t\")'\ntarpit = { delay = \"20ms\", status = 503 }\n",
        &[("GET", "/t", ""), ("GET", "/u", "")],
    ),
    (
        "[[virtual-service.route]]\nname = \"r\"\nwhen = 'path(\"/r/*/x\")'\nredirect = { location = \"/{1}?{header:X-Q}\", status = 307, drop-query = true }\n",
        &[("GET", "/r/7/x?a", "X-Q: b"), ("GET", "/r", "")],
    ),
    (
        "[[virtual-service.route]]\nname = \"w\"\nrewrite-query = \"n={query:q}\"\nredirect = { location = \"https://x.example{path}\", status = 308 }\n",
        &[("GET", "/a?q=1", ""), ("GET", "/a;b=1/c", "")],
    ),
    (
        "[[virtual-service.route]]\nname = \"limits\"\nrate-limit = { rate = \"500/1s\", key = \"{path}\" }\nconcurrency-limit = { max = 50, key = \"{header:X-Q}\" }\npool = \"other\"\n",
        &[("GET", "/", ""), ("GET", "/", "X-Q: 1")],
    ),
    (
        "[[virtual-service.route]]\nname = \"s\"\nserver = \"main2\"\nserver-timeout = \"9s\"\npriority = -3\n",
        &[("GET", "/", "")],
    ),
    (
        "[[virtual-service.route]]\nname = \"asked\"\nwhen = 'count(\"seen\", \"requests\") >= 1'\npool = \"other\"\n[[virtual-service.route]]\nname = \"track\"\ntrack = \"seen\"\n",
        &[("GET", "/", "X-Q: 1"), ("GET", "/", "X-Q: 1"), ("GET", "/", "X-Q: 2")],
    ),
    (
        "[[virtual-service.route]]\nname = \"b\"\nbasic-auth = { users = \"USERS\", realm = \"R\" }\nrewrite-path = \"/in\"\n",
        &[("GET", "/b", "Authorization: Basic YWxpY2U6c2VjcmV0"), ("GET", "/b", "")],
    ),
    (
        "[[virtual-service.route]]\nname = \"q\"\nwhen = 'text(\"{header:X-Q|lower}\", \"ab*\") && first-request'\npool = \"other\"\n",
        &[("GET", "/", "X-Q: ABc"), ("GET", "/", "X-Q: c")],
    ),
    (
        "log-format = \"{client} {path} {header:X-Q}\"\n[[virtual-service.route]]\nname = \"l\"\nrewrite-path = \"/l\"\n",
        &[("GET", "/", "X-Q: ABc")],
    ),
    (
        "normalize = \"forward\"\n[[virtual-service.route]]\nname = \"n\"\nwhen = 'path(\"/a/b\")'\nrewrite-path = \"/x/../y//z\"\n",
        &[("GET", "/a/./b", ""), ("GET", "/c/../d", "")],
    ),
    (
        "[[virtual-service.answer-route]]\nname = \"v\"\nset-variable = { v = \"{status}{server}\" }\ncapture = { c = \"{status}\" }\n[[virtual-service.answer-route]]\nname = \"two\"\nwhen = 'variable(\"v\", \"200main1\")'\nstatus = 206\n",
        &[("GET", "/", "")],
    ),
    (
        "[[virtual-service.answer-route]]\nname = \"h\"\nset-header = { X-S = \"{server}{query:q}\" }\nadd-header = { X-T = \"1\" }\nremove-header = [\"X-U\"]\n[[virtual-service.answer-route]]\nname = \"two\"\nwhen = 'answer-header(\"X-S\", \"main1z\") && answer-header(\"X-T\")'\nstatus = 207\n",
        &[("GET", "/?q=z", ""), ("GET", "/", "")],
    ),
    (
        "[[virtual-service.route]]\nname = \"r\"\nset-response-header = { X-R = \"{query:q}\" }\nadd-response-header = { X-T = \"{path}\" }\nremove-response-header = [\"X-U\"]\nrewrite-path = \"/r\"\n[[virtual-service.answer-route]]\nname = \"two\"\nwhen = 'answer-header(\"X-R\", \"z\") && path(\"/r\")'\nstatus = 208\n",
        &[("GET", "/?q=z", ""), ("GET", "/", "")],
    ),
];

#[test]
fn explain_says_what_happens() {
    let place = Place::new("explained");
    let named = |name: &'static str| {
        move |mut stream: std::net::TcpStream| {
            while let Some(head) = read_head(&mut stream) {
                let body = format!("{name} {}", head.lines().next().unwrap_or(""));
                let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            }
        }
    };
    let _main = Scripted::start(place.at(9001), named("main"));
    let _second = Scripted::start(place.at(9003), named("main"));
    let _other = Scripted::start(place.at(9002), named("other"));
    let pool = |name: &str, port: u16| {
        format!(
            "[[pool]]\nname = \"{name}\"\nhealth-check = {{ type = \"none\" }}\n[[pool.real-server]]\nname = \"{name}1\"\naddress = \"{}\"\n",
            place.at(port)
        )
    };
    // Of two servers, so that a route can name one; the other one waits.
    let second =
        format!("[[pool.real-server]]\nname = \"main2\"\naddress = \"{}\"\nbackup = true\n", place.at(9003));
    let table = "[[table]]\nname = \"seen\"\nkey = \"{header:X-Q}\"\n";
    let mut config = pool("main", 9001) + &second + &pool("other", 9002) + table;
    for (port, (routes, _)) in (8080..).zip(TABLE) {
        let vip = place.at(port);
        config += &format!(
            "[[virtual-service]]\nname = \"s{port}\"\nvip = [\"{vip}\"]\nmode = \"http\"\npool = \"main\"\n{routes}"
        );
    }
    let users = place.write("users", "alice:plain:secret\n");
    let map = place.write("map", "a other\nb main\n").display().to_string();
    let config = config.replace("USERS", &users.display().to_string()).replace("MAP", &map);
    let evenkeel = start(&place, &config);
    for (port, (routes, requests)) in (8080..).zip(TABLE) {
        for (method, target, field) in *requests {
            let about = format!("{method} {target} {field}\n{routes}");
            let url = format!("http://{}{target}", place.at(port));
            let mut arguments = vec!["explain", &url, "-X", method, "-H", "Host: a.example"];
            if !field.is_empty() {
                arguments.extend(["-H", field]);
            }
            let said = evenkeel.json(&arguments);
            let reasons: Vec<&str> =
                said["reasons"].as_array().unwrap().iter().flat_map(|r| r.as_str()).collect();
            let reason = |start: &str| reasons.iter().find_map(|r| r.strip_prefix(start));
            let line = if field.is_empty() { String::new() } else { format!("{field}\r\n") };
            let mut connection = Connection::open(place.at(port));
            connection.send(format!("{method} {target} HTTP/1.1\r\nHost: a.example\r\n{line}\r\n"));
            let answer = connection.answer().unwrap();
            let text = answer.text();
            let status = reason("the client gets status ").map(|s| s.parse::<u16>().unwrap());
            match said["pool"].as_str().filter(|pool| !pool.is_empty()) {
                Some(pool) => {
                    let gets = reason("the server gets ").map_or(format!("{method} {target}"), str::to_owned);
                    assert_eq!(answer.status, status.unwrap_or(200), "{about}{reasons:?}");
                    // Not where an error of the program's own stands in its place.
                    if answer.status < 500 {
                        assert_eq!(text, format!("{pool} {gets} HTTP/1.1"), "{about}{reasons:?}");
                    }
                }
                None => {
                    let ending = reason("a route ends it: ").expect(&about);
                    let said = status.map_or(ending.to_owned(), |status| status.to_string());
                    assert!(
                        said.contains(&answer.status.to_string()),
                        "{}: {about}{reasons:?}",
                        answer.status
                    );
                    if let Some(location) = answer.field("location") {
                        assert!(ending.ends_with(&format!(" to {location}")), "{location}: {ending}");
                    }
                }
            }
        }
    }
}
