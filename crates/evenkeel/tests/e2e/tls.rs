//! TLS as clients and real servers speak it: curl and openssl before nginx.

use std::time::Duration;

use evenkeel_testbed::{Authority, Connection, Evenkeel, Place, Scripted, command, eventually, require};

use crate::{service, start};

/// `tls = { … }` with these certificates and further keys.
fn tls(certificates: &[&std::path::Path], keys: &str) -> String {
    let list: Vec<_> = certificates.iter().map(|c| format!("\"{}\"", c.display())).collect();
    format!("health-check = {{ type = \"none\" }}\ntls = {{ certificates = [{}]{keys} }}", list.join(", "))
}

/// curl to a host name that the service stands for; further arguments first.
fn curl(place: &Place, ca: &Authority, host: &str, arguments: &[&str]) -> evenkeel_testbed::Output {
    let vip = place.at(8443);
    let resolve = format!("{host}:{}:{}", vip.port(), vip.ip());
    let (url, ca) = (format!("https://{host}:{}/", vip.port()), ca.file.display().to_string());
    let mut all = vec!["-sS", "--max-time", "10", "--resolve", &resolve, "--cacert", &ca];
    all.extend(arguments);
    all.push(&url);
    command("curl", &all)
}

fn s_client(place: &Place, arguments: &[&str]) -> String {
    let vip = place.at(8443).to_string();
    let mut all = vec!["s_client", "-connect", &vip];
    all.extend(arguments);
    let output = command("openssl", &all);
    output.out + &output.err
}

#[test]
fn certificates_are_chosen_by_the_name_asked_for() {
    if !require(&["curl", "openssl"]) {
        return;
    }
    let place = Place::new("tls-sni");
    let ca = Authority::new(&place, "ca");
    let first = ca.server(&place, "a.pem", &["a.example"]);
    let wild = ca.server(&place, "more/wild.pem", &["*.b.example"]);
    let rsa = ca.server_rsa(&place, "c-rsa.pem", &["c.example"]);
    let ecdsa = ca.server(&place, "c-ec.pem", &["c.example"]);
    let _server = Scripted::named(place.at(9001), "s1");
    let keys = tls(&[&first, wild.parent().unwrap(), &rsa, &ecdsa], "");
    let _evenkeel = start(&place, &service("web", "http", place.at(8443), &[place.at(9001)], &keys));
    for host in ["a.example", "x.b.example", "c.example"] {
        let output = curl(&place, &ca, host, &[]);
        assert_eq!((output.out.as_str(), output.code), ("s1", 0), "{host}: {}", output.err);
    }
    // A label more than the wildcard has, and a name of no certificate: the first is shown.
    let other = curl(&place, &ca, "x.y.b.example", &[]);
    assert_ne!(other.code, 0, "{}", other.out);
    assert!(s_client(&place, &["-servername", "nobody.example"]).contains("CN = a.example"));
    // Old clients that know no elliptic curves in certificates get the RSA one.
    let ec = s_client(&place, &["-servername", "c.example"]);
    assert!(ec.contains("id-ecPublicKey"), "{ec}");
    let old =
        s_client(&place, &["-servername", "c.example", "-tls1_2", "-sigalgs", "RSA+SHA256:RSA-PSS+SHA256"]);
    assert!(old.contains("rsaEncryption") && old.contains("TLSv1.2"), "{old}");
}

#[test]
fn a_list_says_which_certificate_is_for_which_name() {
    if !require(&["openssl"]) {
        return;
    }
    let place = Place::new("tls-list");
    let ca = Authority::new(&place, "ca");
    for (file, name) in [("a.pem", "a.cert"), ("b.pem", "b.cert"), ("c.pem", "c.cert"), ("d.pem", "*.d.cert")]
    {
        ca.server(&place, file, &[name]);
    }
    let list = place.write(
        "certs.list",
        "# of the shop\na.pem first.example\n\nb.pem *.example !not.example x.other # and so on\nc.pem not.example\nd.pem\n",
    );
    let _server = Scripted::named(place.at(9001), "s1");
    let keys = format!(
        "health-check = {{ type = \"none\" }}\ntls = {{ certificate-list = \"{}\" }}",
        list.display()
    );
    let evenkeel = start(&place, &service("web", "http", place.at(8443), &[place.at(9001)], &keys));
    let shown = |name: &str| {
        let told = s_client(&place, &["-servername", name]);
        let subject = told.split("subject=CN = ").nth(1).unwrap_or("none");
        subject.lines().next().unwrap_or("").to_owned()
    };
    for (name, subject) in [
        ("first.example", "a.cert"),
        ("any.example", "b.cert"),
        ("x.other", "b.cert"),
        ("not.example", "c.cert"),
        ("y.d.cert", "*.d.cert"),
        ("b.cert", "a.cert"),
        ("nobody", "a.cert"),
    ] {
        assert_eq!(shown(name), subject, "{name}");
    }
    // Followed as it changes, like the certificates.
    std::fs::write(&list, "b.pem\na.pem any.example\n").unwrap();
    eventually("the changed list is used", Duration::from_secs(10), || shown("any.example") == "a.cert");
    assert_eq!(shown("nobody"), "b.cert");
    for (text, why) in [
        ("a.pem\nnone.pem\n", "certs.list: line 2: "),
        ("a.pem [alpn h2] x\n", "options of single certificates are not there"),
        ("# nothing\n", "names no certificate"),
    ] {
        std::fs::write(&list, text).unwrap();
        let told = evenkeel.cli(&["check", &evenkeel.config_path().display().to_string()]);
        assert!(told.code == 78 && told.err.contains(why), "{text}: {}", told.err);
    }
    assert_eq!(shown("any.example"), "a.cert", "what is wrong does not replace what is good");
}

#[test]
fn policies_decide_what_is_spoken() {
    if !require(&["openssl"]) {
        return;
    }
    let place = Place::new("tls-policy");
    let ca = Authority::new(&place, "ca");
    let pem = ca.server(&place, "a.pem", &["a.example"]);
    let _server = Scripted::named(place.at(9001), "s1");
    let config = |keys: &str| service("web", "http", place.at(8443), &[place.at(9001)], &tls(&[&pem], keys));
    let evenkeel = start(&place, &config(", strict-sni = true"));
    let spoken = |arguments: &[&str]| {
        let mut all = vec!["-servername", "a.example"];
        all.extend(arguments);
        let text = s_client(&place, &all);
        text.contains("Verify return code") && !text.contains("Cipher is (NONE)")
    };
    assert!(spoken(&["-tls1_3"]) && spoken(&["-tls1_2"]));
    assert!(!spoken(&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]));
    assert!(!spoken(&["-tls1_2", "-cipher", "AES128-SHA:AES128-GCM-SHA256"]), "no forward secrecy");
    assert!(s_client(&place, &["-noservername"]).contains("alert"), "strict-sni");
    for modern in [", policy = \"modern\"", ", min-version = \"1.3\""] {
        evenkeel.commit(&place, &config(modern));
        assert!(spoken(&["-tls1_3"]) && !spoken(&["-tls1_2"]), "{modern}");
    }
    let status = evenkeel.cli(&["status"]);
    assert_eq!(status.code, 0);
}

/// Authorities that vouch for clients, and that these are not told of.
#[test]
fn clients_of_further_authorities_are_let_in() {
    if !require(&["curl", "openssl"]) {
        return;
    }
    let place = Place::new("tls-further");
    let [ca, told, further] = ["ca", "told", "further"].map(|name| Authority::new(&place, name));
    let pem = ca.server(&place, "a.pem", &["a.example"]);
    let alice = further.client(&place, "alice.pem", "Alice", 7);
    let _server = Scripted::named(place.at(9001), "one");
    let auth = |more: &str| format!(", client-auth = {{ ca = \"{}\"{more} }}", told.file.display());
    let config = |more| service("web", "http", place.at(8443), &[place.at(9001)], &tls(&[&pem], &auth(more)));
    let evenkeel = start(&place, &config(""));
    let file = alice.display().to_string();
    let comes_in = || curl(&place, &ca, "a.example", &["--cert", &file]).code == 0;
    assert!(!comes_in(), "nobody vouches for it");
    evenkeel.commit(&place, &config(&format!(", verify-ca = \"{}\"", further.file.display())));
    assert!(comes_in(), "a further authority does");
    let asked = command("openssl", &["s_client", "-connect", &place.at(8443).to_string()]).out;
    assert!(asked.contains("CN = told") && !asked.contains("CN = further"), "{asked}");
}

#[test]
fn clients_show_certificates() {
    if !require(&["curl"]) {
        return;
    }
    let place = Place::new("tls-mutual");
    let ca = Authority::new(&place, "ca");
    let people = Authority::new(&place, "people");
    let strangers = Authority::new(&place, "strangers");
    let pem = ca.server(&place, "a.pem", &["a.example"]);
    let alice = people.client(&place, "alice.pem", "Alice", 0x0a0b);
    let mallory = people.client(&place, "mallory.pem", "Mallory", 66);
    let stranger = strangers.client(&place, "stranger.pem", "Alice", 0x0a0b);
    let crl = people.revocations(&place, "crl.pem", &[66]);
    let _server = Scripted::start(place.at(9001), |mut stream| {
        while let Some(head) = evenkeel_testbed::read_head(&mut stream) {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len());
            let _ = std::io::Write::write_all(&mut stream, answer.as_bytes());
        }
    });
    let config = |mode: &str| {
        let auth = format!(
            ", client-auth = {{ ca = \"{}\", crl = \"{}\", mode = \"{mode}\" }}",
            people.file.display(),
            crl.display()
        );
        let routes = "  [[virtual-service.route]]\n  when = 'client-cert-cn(\"Alice\") && client-cert() && tls-version(\"TLSv1.*\")'\n  set-header = { X-Known = \"{client-cert-cn} {tls-cipher}\" }\n";
        service("web", "http", place.at(8443), &[place.at(9001)], &tls(&[&pem], &auth)) + routes
    };
    // Another service with the same server, which asks for no certificate.
    let open = service("open", "http", place.at(8080), &[place.at(9001)], "");
    let config = |mode: &str| config(mode) + &open;
    let evenkeel = start(&place, &config("required"));
    let mut stranger_there = Connection::open(place.at(8080));
    stranger_there.send(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Client-Cert-CN: Forged\r\nx_client_cert_serial: Forged\r\n\r\n",
    );
    let got = stranger_there.answer().unwrap().text();
    assert!(got.starts_with("GET / ") && !got.contains("Forged"), "by another service: {got}");
    let with = |file: &std::path::Path| {
        curl(
            &place,
            &ca,
            "a.example",
            &["--cert", &file.display().to_string(), "-H", "X-Client-Cert-CN: Forged"],
        )
    };
    let known = with(&alice);
    for line in [
        "X-Client-Cert-CN: Alice\r\n",
        "X-Client-Cert-Serial: 0A0B\r\n",
        "OU=Sales",
        "X-Known: Alice TLS_AES_256_GCM_SHA384\r\n",
    ] {
        assert!(known.out.contains(line), "{line} in {}{}", known.out, known.err);
    }
    assert!(!known.out.contains("Forged"), "{}", known.out);
    assert_ne!(with(&mallory).code, 0, "revoked");
    assert_ne!(with(&stranger).code, 0, "of another authority");
    assert_ne!(curl(&place, &ca, "a.example", &[]).code, 0, "none at all");
    evenkeel.commit(&place, &config("optional"));
    let none = curl(&place, &ca, "a.example", &["-H", "X-Client-Cert-CN: Forged"]);
    assert!(none.out.starts_with("GET / ") && !none.out.contains("Forged"), "{}{}", none.out, none.err);
    assert_ne!(with(&mallory).code, 0, "a bad one is refused all the same");
}

/// What a configuration overlooks in a client's certificate is told to routes; everything else is refused.
#[test]
fn what_is_wrong_with_clients_certificates_can_be_overlooked() {
    if !require(&["curl"]) {
        return;
    }
    let place = Place::new("tls-overlooked");
    let (ca, people) = (Authority::new(&place, "ca"), Authority::new(&place, "people"));
    let (pem, others) = (ca.server(&place, "a.pem", &["a.example"]), Authority::new(&place, "others"));
    let good = people.client(&place, "good.pem", "Good", 7);
    let revoked = people.client(&place, "revoked.pem", "Revoked", 13);
    let stranger = others.client(&place, "stranger.pem", "Stranger", 8);
    let crl = people.revocations(&place, "crl.pem", &[13]);
    let _server = Scripted::start(place.at(9001), |mut stream| {
        while let Some(head) = evenkeel_testbed::read_head(&mut stream) {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len());
            let _ = std::io::Write::write_all(&mut stream, answer.as_bytes());
        }
    });
    let config = |ignore: &str| {
        let auth = format!(
            ", client-auth = {{ ca = \"{}\", crl = \"{}\", ignore = [{ignore}] }}",
            people.file.display(),
            crl.display()
        );
        let routes = "  [[virtual-service.route]]\n  set-header = { X-Found = \"<{client-certificate:verify} {client-certificate:verify-name}>\" }\n";
        service("web", "http", place.at(8443), &[place.at(9001)], &tls(&[&pem], &auth)) + routes
    };
    let evenkeel = start(&place, &config(""));
    let found = |file: &std::path::Path| {
        let told = curl(&place, &ca, "a.example", &["--cert", &file.display().to_string()]);
        let value = told.out.split("X-Found: <").nth(1).and_then(|rest| rest.split('>').next());
        (told.code == 0).then(|| value.unwrap_or("nothing").to_owned())
    };
    let all = || [&good, &revoked, &stranger].map(|file| found(file));
    let ok = || Some("0 X509_V_OK".to_owned());
    assert_eq!(all(), [ok(), None, None]);
    evenkeel.commit(&place, &config("\"revoked\", \"expired\""));
    let is_revoked = || Some("23 X509_V_ERR_CERT_REVOKED".to_owned());
    assert_eq!(all(), [ok(), is_revoked(), None]);
    let told = |file: &std::path::Path| {
        curl(&place, &ca, "a.example", &["--cert", &file.display().to_string()])
            .out
            .contains("X-Client-Cert-CN")
    };
    assert!(told(&good) && !told(&revoked), "servers are told of nobody who is not proven");
    // Dates and use are looked at before the chain: who is not of the authority stays out all the same.
    let day = Duration::from_secs(86_400);
    let of = |authority: &Authority, file: &str| authority.client_expired(&place, file, "Old", day);
    let old = [of(&people, "old.pem"), of(&others, "stranger-old.pem")];
    let wrong = [&people, &others].map(|authority| {
        let file = if std::ptr::eq(authority, &people) { "use.pem" } else { "stranger-use.pem" };
        authority.server(&place, file, &["a.example"])
    });
    let expired = Some("10 X509_V_ERR_CERT_HAS_EXPIRED".to_owned());
    assert_eq!(old.each_ref().map(|file| found(file)), [expired, None]);
    evenkeel.commit(&place, &config("\"wrong-use\""));
    assert_eq!(wrong.each_ref().map(|file| found(file)), [None, None]);
    evenkeel.commit(&place, &config("\"all\""));
    assert!(old.iter().chain(&wrong).all(|file| found(file).is_some()));
    let unknown = Some("20 X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY".to_owned());
    assert_eq!(all(), [ok(), is_revoked(), unknown]);
}

/// Routes demand a certificate for one host; a connection that was opened for another without one is of no
/// use there, by whichever protocol it is used again.
#[test]
fn connections_without_a_certificate_are_for_one_host() {
    if !require(&["curl"]) {
        return;
    }
    let place = Place::new("tls-misdirected");
    let (ca, people) = (Authority::new(&place, "ca"), Authority::new(&place, "people"));
    let pem = ca.server(&place, "a.pem", &["a.example", "b.example"]);
    let alice = people.client(&place, "alice.pem", "Alice", 7).display().to_string();
    let _server = Scripted::named(place.at(9001), "one");
    let config = |auth: &str| {
        let routes =
            "  [[virtual-service.route]]\n  when = 'host(\"b.example\") && !client-cert()'\n  deny = {}\n";
        service("web", "http", place.at(8443), &[place.at(9001)], &tls(&[&pem], auth)) + routes
    };
    let auth = format!(", client-auth = {{ ca = \"{}\", mode = \"optional\" }}", people.file.display());
    let evenkeel = start(&place, &config(&auth));
    let status = |host: &str, more: &[&str]| {
        let host = format!("Host: {host}");
        let own = ["-o", "/dev/null", "-w", "%{http_code}", "-H", &host];
        curl(&place, &ca, "a.example", &[&own, more].concat()).out
    };
    for version in ["--http1.1", "--http2"] {
        for same in ["a.example", "A.Example.", "a.example:8443"] {
            assert_eq!(status(same, &[version]), "200", "{version} {same}");
        }
        for other in ["b.example", "B.example.", "a.example.b", "b.example:443", "[::1]"] {
            assert_eq!(status(other, &[version]), "421", "{version} {other}");
        }
        assert_eq!(
            status("b.example", &[version, "--cert", &alice]),
            "200",
            "{version}: who she is is known"
        );
        let direct = curl(&place, &ca, "b.example", &[version, "-o", "/dev/null", "-w", "%{http_code}"]).out;
        assert_eq!(direct, "403", "{version}: the route decides");
    }
    // Where nobody is asked for a certificate, hosts share connections.
    evenkeel.commit(&place, &config(""));
    assert_eq!(status("c.example", &["--http2"]), "200");
}

#[test]
fn renewed_certificates_are_taken_up_and_sessions_are_resumed() {
    if !require(&["curl", "openssl"]) {
        return;
    }
    let place = Place::new("tls-renew");
    let ca = Authority::new(&place, "ca");
    let pem = ca.server(&place, "a.pem", &["a.example"]);
    let _server = Scripted::named(place.at(9001), "s1");
    let config = service("web", "http", place.at(8443), &[place.at(9001)], &tls(&[&pem], ""));
    let mut evenkeel = start(&place, &config);
    let session = place.file("session").display().to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        let request = format!(
            "printf 'GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n' | timeout 10 openssl s_client -connect {} {version} -ign_eof",
            place.at(8443)
        );
        let run = |more: &str| command("sh", &["-c", &format!("{request} {more} 2>&1")]).out;
        let first = run(&format!("-sess_out {session}"));
        assert!(first.contains("New, TLSv"), "{first}");
        assert!(run(&format!("-sess_in {session}")).contains("Reused, TLSv"), "{version}");
        let old = evenkeel.hand_over();
        drop(old);
        assert!(run(&format!("-sess_in {session}")).contains("Reused, TLSv"), "{version}, by the successor");
    }
    // A broken file changes nothing; a good one is taken up without a word to the daemon.
    let good = std::fs::read(&pem).unwrap();
    std::fs::write(&pem, &good[..good.len() / 2]).unwrap();
    eventually("the daemon has looked", Duration::from_secs(10), || {
        evenkeel.log().contains("changed files cannot be used")
    });
    assert_eq!(curl(&place, &ca, "a.example", &[]).out, "s1");
    ca.server(&place, "a.pem", &["renewed.example"]);
    eventually("the new certificate is shown", Duration::from_secs(10), || {
        curl(&place, &ca, "renewed.example", &[]).out == "s1"
    });
}

/// What `s_client` says of a request to a port, with further arguments.
fn request(place: &Place, port: u16, arguments: &str) -> String {
    let line = format!(
        "printf 'GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n' | timeout 10 openssl s_client -connect {} -servername a.example -ign_eof {arguments} 2>&1",
        place.at(port)
    );
    command("sh", &["-c", &line]).out
}

#[test]
fn a_session_of_another_service_lets_nobody_in() {
    if !require(&["openssl"]) {
        return;
    }
    let place = Place::new("tls-sessions");
    let (ca, people, others) =
        (Authority::new(&place, "ca"), Authority::new(&place, "people"), Authority::new(&place, "others"));
    let pem = ca.server(&place, "a.pem", &["a.example"]);
    let alice = people.client(&place, "alice.pem", "Alice", 7).display().to_string();
    let mallory = others.client(&place, "mallory.pem", "Mallory", 8).display().to_string();
    let _server = Scripted::named(place.at(9001), "s1");
    let crl = people.revocations(&place, "crl.pem", &[66]);
    let auth = |ca: &Authority, more: &str| {
        tls(&[&pem], &format!(", client-auth = {{ ca = \"{}\"{more} }}", ca.file.display()))
    };
    let revoking = format!(", crl = \"{}\"", crl.display());
    let each = [
        ("open", 8442, tls(&[&pem], "")),
        ("closed", 8443, auth(&people, &revoking)),
        ("others", 8444, auth(&others, "")),
    ];
    let config: String = each
        .iter()
        .map(|(name, port, keys)| service(name, "http", place.at(*port), &[place.at(9001)], keys))
        .collect();
    let mut evenkeel = start(&place, &config);
    let session = |name: &str| place.file(name).display().to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        let (open, other, own) = (session("open"), session("other"), session("own"));
        let served = |text: String| text.contains("200 OK");
        assert!(served(request(&place, 8442, &format!("{version} -sess_out {open}"))));
        assert!(!served(request(&place, 8443, &format!("{version} -sess_in {open}"))), "{version}: of none");
        let with = format!("{version} -cert {mallory} -key {mallory} -sess_out {other}");
        assert!(served(request(&place, 8444, &with)));
        assert!(
            !served(request(&place, 8443, &format!("{version} -sess_in {other}"))),
            "{version}: of others"
        );
        assert!(served(request(
            &place,
            8443,
            &format!("{version} -cert {alice} -key {alice} -sess_out {own}")
        )));
        let again = request(&place, 8443, &format!("{version} -sess_in {own}"));
        assert!(again.contains("Reused") && served(again), "{version}: its own");
    }
    // The keys of tickets go on to the process that takes over, and so does what a ticket means.
    let old = evenkeel.hand_over();
    let refused = |name: &str| {
        let text = request(&place, 8443, &format!("-tls1_3 -sess_in {}", session(name)));
        !text.contains("200 OK")
    };
    assert!(refused("open") && refused("other"), "a session of another service, by the successor");
    let again = request(&place, 8443, &format!("-tls1_3 -sess_in {}", session("own")));
    assert!(again.contains("Reused") && again.contains("200 OK"), "its own, by the successor: {again}");
    drop(old);
    // Whoever is revoked resumes nothing.
    people.revocations(&place, "crl.pem", &[7]);
    eventually("the session is good no more", Duration::from_secs(10), || {
        !request(&place, 8443, &format!("-tls1_3 -sess_in {}", session("own"))).contains("200 OK")
    });
    drop(evenkeel);
}

#[test]
fn clients_of_other_protocols_are_served() {
    if !require(&["openssl"]) {
        return;
    }
    let place = Place::new("tls-alpn");
    let ca = Authority::new(&place, "ca");
    let pem = ca.server(&place, "a.pem", &["a.example"]);
    let _server = Scripted::named(place.at(9001), "s1");
    let _evenkeel =
        start(&place, &service("web", "http", place.at(8443), &[place.at(9001)], &tls(&[&pem], "")));
    for (offered, agreed) in [("http/1.0", "No ALPN negotiated"), ("x,http/1.1", "ALPN protocol: http/1.1")] {
        let text = request(&place, 8443, &format!("-alpn {offered}"));
        assert!(text.contains(agreed) && text.contains("200 OK"), "{offered}: {text}");
    }
}

#[test]
fn ocsp_answers_are_stapled() {
    if !require(&["openssl"]) {
        return;
    }
    let place = Place::new("tls-ocsp");
    let ca = Authority::new(&place, "ca");
    let pem = ca.server(&place, "a.pem", &["a.example"]);
    // Not an answer that would verify: what is stapled is passed on as it is.
    place.write("a.pem.ocsp", b"\x30\x03\x0a\x01\x06");
    let _server = Scripted::named(place.at(9001), "s1");
    let _evenkeel =
        start(&place, &service("web", "http", place.at(8443), &[place.at(9001)], &tls(&[&pem], "")));
    let text = s_client(&place, &["-status"]);
    assert!(text.contains("OCSP Response Status: unauthorized (0x6)"), "{text}");
}

#[test]
fn real_servers_speak_tls_and_are_verified() {
    if !require(&["nginx"]) {
        return;
    }
    let place = Place::new("tls-servers");
    let ca = Authority::new(&place, "ca");
    let other = Authority::new(&place, "other");
    let pem = ca.server(&place, "s.pem", &["s.example"]);
    let config = format!(
        "daemon off; pid {0}/pid; error_log {0}/error.log; events {{}}\nhttp {{ access_log off; client_body_temp_path {0}/t; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/g;\nserver {{ listen {1} ssl; ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {2}; ssl_certificate_key {2}; location / {{ return 200 \"$ssl_server_name $ssl_protocol\"; }} location /big {{ root {0}; }} }} }}\n",
        place.folder().display(),
        place.at(9443),
        pem.display()
    );
    place.write("big", vec![b'x'; 3_000_000]);
    let path = place.write("nginx.conf", config);
    let _nginx = evenkeel_testbed::Process::start(
        std::process::Command::new("nginx").arg("-c").arg(path).stderr(std::process::Stdio::null()),
    );
    eventually("nginx listens", Duration::from_secs(10), || {
        std::net::TcpStream::connect(place.at(9443)).is_ok()
    });
    let config = |keys: &str| {
        let keys = format!("health-check = {{ type = \"none\" }}\nretries = 0\nserver-tls = {{ {keys} }}");
        service("web", "http", place.at(8080), &[place.at(9443)], &keys)
    };
    let good = format!("ca = \"{}\", sni = \"s.example\"", ca.file.display());
    let evenkeel = start(&place, &config(&good));
    let mut connection = Connection::open(place.at(8080));
    for _ in 0..3 {
        assert_eq!(connection.get("/").text(), "s.example TLSv1.3");
    }
    assert_eq!(connection.get("/big").body.len(), 3_000_000);
    let server = &evenkeel.json(&["status"])["virtual-services"][0]["real-servers"][0];
    assert_eq!(server["total-connections"], 4);
    for (bad, why) in [
        (format!("ca = \"{}\", sni = \"s.example\"", other.file.display()), "UnknownIssuer"),
        (format!("ca = \"{}\", sni = \"t.example\"", ca.file.display()), "not valid for name"),
        (format!("ca = \"{}\"", ca.file.display()), "not valid for name"),
    ] {
        evenkeel.commit(&place, &config(&bad));
        assert_eq!(Connection::open(place.at(8080)).get("/").status, 503, "{bad}");
        eventually(why, Duration::from_secs(5), || evenkeel.log().contains(why));
    }
    evenkeel.commit(&place, &config("verify = false"));
    assert_eq!(Connection::open(place.at(8080)).get("/").status, 200);
}

/// Established connections to an address, as the kernel lists them for those who made them.
fn connections_to(address: std::net::SocketAddr) -> usize {
    let std::net::IpAddr::V4(ip) = address.ip() else { return 0 };
    let wanted = format!("{:08X}:{:04X}", u32::from(ip).swap_bytes(), address.port());
    let all = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let is_it = |line: &&str| {
        let mut words = line.split_whitespace().skip(2);
        words.next() == Some(&wanted) && words.next() == Some("01")
    };
    all.lines().filter(is_it).count()
}

/// Each name has its own connections to a server, and is what its certificate is verified against.
#[test]
fn real_servers_are_asked_for_the_name_of_each_request() {
    if !require(&["nginx", "curl"]) {
        return;
    }
    let place = Place::new("tls-names");
    let ca = Authority::new(&place, "ca");
    let pem = ca.server(&place, "s.pem", &["a.example", "b.example", "test"]);
    let listen = |port, keys: &str| {
        format!(
            "server {{ listen {} ssl{keys}; ssl_certificate {1}; ssl_certificate_key {1}; location / {{ return 200 \"$ssl_server_name $connection\"; }} }}\n",
            place.at(port),
            pem.display()
        )
    };
    let config = format!(
        "daemon off; pid {0}/pid; error_log {0}/error.log; events {{}}\nhttp {{ access_log off; client_body_temp_path {0}/t; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/g;\n{1}{2} }}\n",
        place.folder().display(),
        listen(9443, ""),
        listen(9444, " http2")
    );
    let path = place.write("nginx.conf", config);
    let _nginx = evenkeel_testbed::Process::start(
        std::process::Command::new("nginx").arg("-c").arg(path).stderr(std::process::Stdio::null()),
    );
    eventually("nginx listens", Duration::from_secs(10), || {
        std::net::TcpStream::connect(place.at(9444)).is_ok()
    });
    let common = format!("server-tls = {{ ca = \"{}\", sni = \"{{host}}\" }}", ca.file.display());
    let by_sni = common.replace("{host}", "{sni}");
    // The pools' checks are by TLS too, and know no name.
    let check = "health-check = { type = \"http\", interval = \"200ms\" }\nretries = 0\n";
    let tls_front = format!("tls = {{ certificates = [\"{}\"] }}\n", pem.display());
    let text = [
        service("h1", "http", place.at(8080), &[place.at(9443)], &format!("{check}{common}")),
        service(
            "h2",
            "http",
            place.at(8081),
            &[place.at(9444)],
            &format!("health-check = {{ type = \"none\" }}\nserver-http = \"2\"\nretries = 0\n{common}"),
        ),
        service(
            "many",
            "http",
            place.at(8082),
            &[place.at(9444)],
            "health-check = { type = \"none\" }\nserver-http = \"2\"\nserver-tls = { verify = false, sni = \"{host}\" }",
        ),
        service("sni", "http", place.at(8443), &[place.at(9443)], &format!("{check}{tls_front}{by_sni}")),
        service(
            "relay",
            "tcp",
            place.at(8444),
            &[place.at(9443)],
            &format!("health-check = {{ type = \"none\" }}\n{tls_front}{by_sni}"),
        ),
    ];
    let evenkeel = start(&place, &text.concat());
    eventually("the check passes", Duration::from_secs(10), || {
        evenkeel.json(&["status"])["virtual-services"][0]["real-servers"][0]["state"] == "up"
    });
    for port in [8080, 8081] {
        let mut client = Connection::open(place.at(port));
        let mut ask = |host: &str| {
            client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            let answer = client.answer().expect("an answer");
            (answer.status, answer.text().to_owned())
        };
        let (status, first) = ask("A.example:8080");
        assert_eq!((status, first.starts_with("a.example ")), (200, true), "{port} {first}");
        let (_, other) = ask("b.example");
        assert!(other.starts_with("b.example "), "{port} {other}");
        // Its own connection, and that one again.
        assert_ne!(first.split(' ').next_back(), other.split(' ').next_back(), "{port}");
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(ask("a.example"), (200, first), "{port}");
        assert_eq!(ask("b.example"), (200, other), "{port}");
        // The server's certificate is for none of that name.
        assert_eq!(ask("c.example").0, 503, "{port}");
    }
    // Whatever names a client makes up, few connections wait for each of them.
    let mut client = Connection::open(place.at(8082));
    for number in 0..200 {
        client.send(format!("GET / HTTP/1.1\r\nHost: n{number}.example\r\n\r\n"));
        let answer = client.answer().expect("an answer");
        assert!(answer.text().starts_with(&format!("n{number}.example ")), "{}", answer.text());
    }
    eventually("connections that nobody waits for end", Duration::from_secs(10), || {
        (1..=80).contains(&connections_to(place.at(9444)))
    });
    for (port, host) in [(8443, "a.example"), (8443, "b.example"), (8444, "b.example")] {
        let at = place.at(port);
        let resolve = format!("{host}:{}:{}", at.port(), at.ip());
        let url = format!("https://{host}:{}/", at.port());
        let file = ca.file.display().to_string();
        let asked =
            command("curl", &["-sS", "--max-time", "10", "--resolve", &resolve, "--cacert", &file, &url]);
        assert!(asked.out.starts_with(host), "{port} {host}: {asked:?}");
    }
    let refused = text.concat().replace("{sni}", "{host}");
    let path = place.write("refused.toml", refused);
    let checked = evenkeel.cli(&["check", &path.display().to_string()]);
    assert!(checked.err.contains("needs mode \"http\""), "{checked:?}");
}

#[test]
fn connections_are_passed_through_by_name_unopened() {
    if !require(&["curl"]) {
        return;
    }
    let place = Place::new("tls-through");
    let ca = Authority::new(&place, "ca");
    let pem = ca.server(&place, "a.pem", &["a.example", "b.example"]);
    let _servers = [Scripted::named(place.at(9001), "A"), Scripted::named(place.at(9002), "B")];
    // Two services of the same program end the TLS; a third passes through to them.
    let end = |name: &str, port, server| {
        service(name, "http", place.at(port), &[place.at(server)], &tls(&[&pem], ""))
    };
    let pools = format!(
        "[[pool]]\nname = \"pa\"\nhealth-check = {{ type = \"none\" }}\n[[pool.real-server]]\nname = \"a\"\naddress = \"{}\"\n[[pool]]\nname = \"pb\"\nhealth-check = {{ type = \"none\" }}\n[[pool.real-server]]\nname = \"b\"\naddress = \"{}\"\n",
        place.at(7001),
        place.at(7002)
    );
    let map = place.write("names.map", "b.example pb\n.example pa\n");
    let mapped = format!(
        "[[virtual-service]]\nname = \"mapped\"\nvip = [\"{}\"]\nmode = \"tcp\"\npool = \"pa\"\n[[virtual-service.route]]\npool-map = {{ file = \"{}\", match = \"end\", key = \"{{sni|lower}}\" }}\n",
        place.at(8444),
        map.display()
    );
    let through = format!(
        "[[virtual-service]]\nname = \"through\"\nvip = [\"{}\"]\nmode = \"tcp\"\npool = \"pa\"\n[[virtual-service.route]]\nname = \"b\"\nwhen = 'sni(\"B.example\")'\npool = \"pb\"\n[[virtual-service.route]]\nwhen = '!sni(\"*.example\")'\ndeny = {{}}\n",
        place.at(8443)
    );
    let ends = end("ea", 7001, 9001) + &end("eb", 7002, 9002);
    let list = place.write("names.list", "# these alone\nb.Example\n");
    let listed = format!(
        "[[virtual-service]]\nname = \"listed\"\nvip = [\"{}\"]\nmode = \"tcp\"\npool = \"pb\"\n[[virtual-service.route]]\nset-variable = {{ asked = \"{{sni}}\" }}\n[[virtual-service.route]]\nwhen = '!text(\"{{variable:asked|listed(\\\"{}\\\",exact,fold)}}\", \"1\")'\ndeny = {{}}\n",
        place.at(8445),
        list.display()
    );
    let _evenkeel = start(&place, &(pools + &ends + &through + &mapped + &listed));
    // By a map, and a text with a converter: the hello is waited for as well.
    for (name, answer) in [("b.example", "B"), ("a.example", "A")] {
        let (vip, ca) = (place.at(8444), ca.file.display().to_string());
        let resolve = format!("{name}:{}:{}", vip.port(), vip.ip());
        let url = format!("https://{name}:{}/", vip.port());
        let told = command("curl", &["-sS", "--max-time", "5", "--resolve", &resolve, "--cacert", &ca, &url]);
        assert_eq!(told.out, answer, "{name}: {}", told.err);
    }
    // By a variable of the connection and a list in a file.
    for (name, answer) in [("B.example", "B"), ("a.example", "")] {
        let (vip, ca) = (place.at(8445), ca.file.display().to_string());
        let resolve = format!("{name}:{}:{}", vip.port(), vip.ip());
        let url = format!("https://{name}:{}/", vip.port());
        let told = command("curl", &["-sS", "--max-time", "5", "--resolve", &resolve, "--cacert", &ca, &url]);
        assert_eq!(told.out, answer, "{name}: {}", told.err);
    }
    assert_eq!(curl(&place, &ca, "a.example", &[]).out, "A");
    assert_eq!(curl(&place, &ca, "b.example", &[]).out, "B");
    assert_ne!(curl(&place, &ca, "c.other", &["-k"]).code, 0, "denied by its name");
    // A hello that comes in small pieces is waited for.
    let mut slow = Connection::open(place.at(8443));
    slow.send([0x16, 3]);
    std::thread::sleep(Duration::from_millis(50));
    slow.send("this is no TLS");
    assert!(slow.is_closed(), "no name: denied");
}

#[test]
fn what_cannot_be_used_is_named() {
    let place = Place::new("tls-files");
    let ca = Authority::new(&place, "ca");
    let pem = ca.server(&place, "a.pem", &["a.example"]);
    let other = ca.server(&place, "b.pem", &["b.example"]);
    let text = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
    let split = |text: &str| text.find("-----BEGIN PRIVATE").unwrap();
    let (certificate, key) = (text(&pem), text(&other));
    place.write("mixed.pem", format!("{}{}", &certificate[..split(&certificate)], &key[split(&key)..]));
    place.write("alone.pem", &certificate[..split(&certificate)]);
    place.write(
        "locked.pem",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    place.write("noise.pem", "hello");
    std::fs::create_dir(place.file("empty")).unwrap();
    let check = |file: &str, code: i32, expect: &str| {
        let path = place.file(file);
        let config = service("web", "http", place.at(8443), &[place.at(9001)], &tls(&[&path], ""));
        let config = place.write("check.toml", Evenkeel::complete(&place, &config));
        let output = command(env!("CARGO_BIN_EXE_evenkeel"), &["check", &config.display().to_string()]);
        assert_eq!(output.code, code, "{file}: {}", output.err);
        assert!(output.err.contains(expect), "{file}: {}", output.err);
    };
    check("mixed.pem", 78, "the private key belongs to no certificate of the file");
    check("mixed.pem", 78, "b.pem: CN=b.example");
    check("mixed.pem", 78, "check.toml:10:25");
    check("alone.pem", 78, "holds no private key");
    check("locked.pem", 78, "encrypted with a passphrase");
    check("noise.pem", 78, "holds no certificate");
    check("empty", 78, "holds no .pem or .crt file");
    check("absent.pem", 0, "warning");
    // Certbot's layout: the key stands beside.
    place.write("live/fullchain.pem", &certificate[..split(&certificate)]);
    place.write("live/privkey.pem", &certificate[split(&certificate)..]);
    check("live/fullchain.pem", 0, "");
    // What is not there stops a start, with its name.
    let config =
        service("web", "http", place.at(8443), &[place.at(9001)], &tls(&[&place.file("absent.pem")], ""));
    let config = place.write("start.toml", Evenkeel::complete(&place, &config));
    let output = command(env!("CARGO_BIN_EXE_evenkeel"), &["run", "--config", &config.display().to_string()]);
    assert!(output.code != 0 && output.err.contains("absent.pem"), "{}", output.err);
}

#[test]
fn handshakes_that_lie_or_stall_harm_nobody() {
    let place = Place::new("tls-hostile");
    let ca = Authority::new(&place, "ca");
    let pem = ca.server(&place, "a.pem", &["a.example"]);
    let _server = Scripted::named(place.at(9001), "s1");
    let keys = tls(&[&pem], "") + "\ntimeouts = { request = \"300ms\" }";
    let evenkeel = start(&place, &service("web", "http", place.at(8443), &[place.at(9001)], &keys));
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        &[0x16, 3, 1, 0xff, 0xff, 1, 0xff, 0xff, 0xff],
        &[0x16, 3, 1, 0, 4, 1, 0, 0, 0],
        &[0x80, 0x2e, 1, 3, 1],
        &[0; 2000],
    ] {
        let mut connection = Connection::open(place.at(8443));
        connection.send(bytes);
        while connection.read_some() {}
    }
    // Nothing, and half a record.
    let mut silent = Connection::open(place.at(8443));
    let mut half = Connection::open(place.at(8443));
    half.send([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]);
    assert!(silent.is_closed() && half.is_closed());
    assert_eq!(curl(&place, &ca, "a.example", &[]).out, "s1");
    let counted = &evenkeel.json(&["status"])["virtual-services"][0];
    assert_eq!(counted["current-connections"], 0);
}
