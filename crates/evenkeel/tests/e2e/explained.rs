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
    let _other = Scripted::start(place.at(9002), named("other"));
    let pool = |name: &str, port: u16| {
        format!(
            "[[pool]]\nname = \"{name}\"\nhealth-check = {{ type = \"none\" }}\n[[pool.real-server]]\nname = \"{name}1\"\naddress = \"{}\"\n",
            place.at(port)
        )
    };
    let mut config = pool("main", 9001) + &pool("other", 9002);
    for (port, (routes, _)) in (8080..).zip(TABLE) {
        let vip = place.at(port);
        config += &format!(
            "[[virtual-service]]\nname = \"s{port}\"\nvip = [\"{vip}\"]\nmode = \"http\"\npool = \"main\"\n{routes}"
        );
    }
    // htpasswd -nbB alice secret, cost 5.
    let users = place.write("users", "alice:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC\n");
    let evenkeel = start(&place, &config.replace("USERS", &users.display().to_string()));
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
