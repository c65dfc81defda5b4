//! Places and cookies in answers of servers, as clients get them.

use std::io::Write;

use evenkeel_testbed::{Authority, Connection, Evenkeel, Place, Scripted, command, read_head, require};

use crate::{service, start};

#[test]
fn places_and_cookies_of_servers_are_as_clients_know_them() {
    let place = Place::new("routes-places");
    // Says the headers that the path asks for.
    let _server = Scripted::start(place.at(9001), |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let asked = head.lines().find_map(|line| line.strip_prefix("X-Say: ")).unwrap_or_default();
            let fields = asked.replace('~', "\r\n");
            let _ = write!(stream, "HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let rewriting = "[[virtual-service.answer-route]]\nof = \"servers\"\nrewrite-location = { from = [\"http://app.internal/app\", \"https://192.0.2.7:8443/app/\", \"/app\"], to = \"/shop\", cookie-domains = [{ from = \"app.internal\", to = \"www.example.org\" }, { from = \"old.internal\", to = \"\" }], cookie-paths = [{ from = \"/app\", to = \"/shop\" }, { from = \"/root\", to = \"/\" }] }\n[[virtual-service.answer-route]]\nof = \"servers\"\nrewrite-location = { from = [\"http://root.internal/in\"], to = \"/\" }\n";
    let config =
        service("web", "http", place.at(8080), &[place.at(9001)], "health-check = { type = \"none\" }")
            + rewriting;
    let _evenkeel = start(&place, &config);
    for (said, expect) in [
        ("Location: http://app.internal/app/login?a=b", "/shop/login?a=b"),
        ("Location: HTTP://App.Internal:80/app", "/shop"),
        ("Location: http://app.internal/app?x", "/shop?x"),
        ("Location: http://app.internal/apple", "http://app.internal/apple"),
        ("Location: http://app.internal.example/app", "http://app.internal.example/app"),
        ("Location: http://app.internal:81/app", "http://app.internal:81/app"),
        ("Location: https://192.0.2.7:8443/app/", "/shop/"),
        ("Location: https://192.0.2.7/app/", "https://192.0.2.7/app/"),
        ("Location: /app/x", "/shop/x"),
        ("Location: http://root.internal/in", "/"),
        ("Location: http://root.internal/in/x", "/x"),
        ("Content-Location: http://app.internal/app/c", "/shop/c"),
        ("URI: <http://app.internal/app/u>", "</shop/u>"),
        ("Refresh: 5; url=http://app.internal/app/r", "5; url=/shop/r"),
        ("Set-Cookie: a=1; Domain=.app.internal; Path=/app", "a=1; Domain=www.example.org; Path=/shop"),
        ("Set-Cookie: a=1; path=/app/x; HttpOnly", "a=1; path=/shop/x; HttpOnly"),
        ("Set-Cookie: a=1; path=/apple", "a=1; path=/apple"),
        ("Set-Cookie: a=domain=app.internal", "a=domain=app.internal"),
        ("Set-Cookie: a=1; domain=old.internal; Secure", "a=1; Secure"),
        ("Set-Cookie: a=1; Path=/root; Secure", "a=1; Path=/; Secure"),
        ("Set-Cookie: a=1; Path=/root/x", "a=1; Path=/x"),
        ("Set-Cookie: a=1~Set-Cookie: b=2; Path=/app", "a=1"),
    ] {
        let mut connection = Connection::open(place.at(8080));
        connection.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Say: {said}\r\n\r\n"));
        let answer = connection.answer().unwrap();
        let name = said.split(':').next().unwrap();
        assert_eq!(answer.field(name), Some(expect), "{said}");
    }
}

#[test]
fn a_port_speaks_tls_at_one_address_and_not_at_another() {
    if !require(&["curl"]) {
        return;
    }
    let (place, other) = (Place::new("vips-plain"), Place::new("vips-tls"));
    let certificate = Authority::new(&place, "authority").server(&place, "www.pem", &["www.example.org"]);
    let (plain, secret) = (place.at(8443), other.at(8443));
    let config = format!(
        "[[virtual-service]]\nname = \"site\"\nvip = [\"{plain}\", \"{secret}\"]\nmode = \"http\"\nhealth-check = {{ type = \"none\" }}\ntls = {{ certificates = [\"{}\"], vips = [\"{secret}\"] }}\n[[virtual-service.route]]\nname = \"to-https\"\nwhen = '!tls'\nredirect = {{ location = \"https://www.example.org{{path}}\", status = 301 }}\n[[virtual-service.route]]\nname = \"here\"\nanswer = {{ status = 200, body = \"served over TLS\" }}\n[[virtual-service.real-server]]\nname = \"s1\"\naddress = \"{}\"\n",
        certificate.display(),
        place.at(9001)
    );
    let evenkeel = start(&place, &config);
    let curl = |url: String| command("curl", &["-sS", "-k", "-i", "--max-time", "5", &url]).out;
    let sent = curl(format!("http://{plain}/a?b"));
    assert!(sent.contains("301") && sent.contains("ocation: https://www.example.org/a?b\r\n"), "{sent}");
    let served = curl(format!("https://{secret}/a"));
    assert!(served.contains("served over TLS"), "{served}");
    assert_eq!(curl(format!("https://{plain}/")), "", "no TLS there");
    assert!(!curl(format!("http://{secret}/")).contains("served"), "TLS alone there");
    let wrong = place.write(
        "wrong.toml",
        Evenkeel::complete(&place, &config.replace("vips = [", "vips = [\"192.0.2.1:1\", ")),
    );
    let told = evenkeel.cli(&["check", &wrong.display().to_string()]);
    assert!(told.err.contains("is no `vip` of this service"), "{}{}", told.out, told.err);
}
