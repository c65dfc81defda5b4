//! Certificates of real servers as companies make them, beside HAProxy, and files that change while they are used.

use std::process::{Command, Stdio};
use std::time::Duration;

use evenkeel_testbed::{Authority, Connection, Place, Process, eventually, require, within};

use crate::{service, start};

/// Made by OpenSSL: an authority, another one, and what they signed, each `NAME.pem` with its key.
const CERTIFICATES: &str = r#"
root() { openssl req -x509 -newkey rsa:2048 -nodes -days 9 -keyout $1.key -out $1.crt -subj "/CN=$1"; }
signed() { # NAME AUTHORITY EXTENSIONS MORE…
    name=$1 by=$2; printf "$3" > $name.ext; shift 3
    openssl req -newkey rsa:2048 -nodes -keyout $name.key -out $name.csr -subj /CN=a.example.test
    extensions=; test ! -s $name.ext || extensions="-extfile $name.ext"
    openssl x509 -req -in $name.csr -CA $by.crt -CAkey $by.key -CAcreateserial $extensions "$@" -out $name.crt
    cat $name.crt $name.key > $name.pem
}
root ca; root other
signed named ca 'subjectAltName=DNS:a.example.test\n' -days 9
signed common-name ca 'basicConstraints=CA:FALSE\n' -days 9
signed version-1 ca '' -days 9
signed wildcard ca 'extendedKeyUsage=serverAuth\nsubjectAltName=DNS:*.example.test\n' -days 9
signed address ca 'subjectAltName=IP:192.0.2.1\n' -days 9
signed unknown ca '1.2.3.4.5=critical,ASN1:UTF8String:x\nsubjectAltName=DNS:a.example.test\n' -days 9
signed strange other 'subjectAltName=DNS:a.example.test\n' -days 9
signed expired ca 'subjectAltName=DNS:a.example.test\n' -days -1
root own; openssl req -x509 -newkey rsa:2048 -nodes -days 9 -keyout own.key -out own.crt -subj /CN=a.example.test -addext subjectAltName=DNS:a.example.test
cat own.crt own.key > own.pem; cat own.crt >> ca.crt
cp wildcard.pem kinds.pem.rsa
"#;

const KINDS: [&str; 9] =
    ["named", "common-name", "version-1", "wildcard", "address", "unknown", "strange", "expired", "own"];

/// What a server line says of TLS.
const WORDS: [&str; 7] = [
    "verify none",
    "verify required ca-file FOLDER/ca.crt",
    "verify required ca-file FOLDER/ca.crt verifyhost a.example.test",
    "verify required ca-file FOLDER/ca.crt verifyhost b.example.test",
    "verify required ca-file FOLDER/ca.crt verifyhost b.other.test",
    "verify required ca-file FOLDER/ca.crt sni str(a.example.test)",
    "verify required ca-file FOLDER/ca.crt sni req.hdr(host)",
];

/// nginx with one listener for each certificate of a folder, from the port on.
fn nginx(place: &Place, certificates: &[&str], port: u16) -> Process {
    let folder = place.folder().display();
    let servers: String = certificates
        .iter()
        .enumerate()
        .map(|(i, name)| {
            let at = place.at(port + i as u16);
            format!(
                "server {{ listen {at} ssl; ssl_certificate {folder}/{name}.pem; ssl_certificate_key {folder}/{name}.pem; location / {{ return 200 \"{name} $ssl_client_s_dn\"; }} ssl_verify_client optional_no_ca; }}\n"
            )
        })
        .collect();
    let path = place.write(
        "nginx.conf",
        format!(
            "daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\nhttp {{ access_log off; client_body_temp_path {folder}/t; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/g;\n{servers} }}\n"
        ),
    );
    let process = Process::start(Command::new("nginx").arg("-c").arg(path).stderr(Stdio::null()));
    eventually("nginx listens", Duration::from_secs(10), || {
        std::net::TcpStream::connect(place.at(port)).is_ok()
    });
    process
}

/// Every kind of certificate with all that a server line says of TLS, without checks and with them: who is served.
#[test]
fn certificates_of_servers_are_trusted_as_haproxy_trusts_them() {
    if !require(&["haproxy", "nginx", "openssl"]) {
        return;
    }
    let place = Place::new("server-tls-haproxy");
    let made = Command::new("sh").args(["-ec", CERTIFICATES]).current_dir(place.folder()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let _servers = nginx(&place, &KINDS, 9400);
    let checks = ["", " check inter 500ms fall 1 rise 1"];
    let words = || WORDS.iter().flat_map(|words| checks.map(|check| format!("{words}{check}")));
    let cases: Vec<(usize, &str, String)> =
        KINDS.iter().enumerate().flat_map(|(i, kind)| words().map(move |words| (i, *kind, words))).collect();
    let run = |mut program: Command, first: u16| {
        let mut text = String::from(
            "defaults\n  mode http\n  retries 0\n  timeout connect 2s\n  timeout client 8s\n  timeout server 8s\n",
        );
        for (number, (server, _, words)) in cases.iter().enumerate() {
            let (vip, at) = (place.at(first + number as u16), place.at(9400 + *server as u16));
            text.push_str(&format!("listen l{number}\n  bind {vip}\n  server s {at} ssl {words}\n"));
        }
        let text = text.replace("FOLDER", &place.folder().display().to_string());
        let file = place.write(&format!("{first}.cfg"), text);
        let log = std::fs::File::create(place.file(&format!("{first}.log"))).unwrap();
        let process =
            Process::start(program.arg("-db").arg("-f").arg(file).stdout(Stdio::null()).stderr(log));
        let last = place.at(first + cases.len() as u16 - 1);
        eventually("it listens", Duration::from_secs(30), || std::net::TcpStream::connect(last).is_ok());
        process
    };
    let _theirs = run(Command::new("haproxy"), 10_000);
    let mut ours = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    ours.arg("haproxy");
    let _ours = run(ours, 11_000);
    // Checks have their say.
    std::thread::sleep(Duration::from_millis(1500));
    let status = |port: u16| {
        let mut connection = Connection::open(place.at(port));
        connection.send("GET / HTTP/1.1\r\nHost: a.example.test\r\nConnection: close\r\n\r\n");
        connection.answer().map_or(0, |answer| answer.status)
    };
    let both = |number: usize| (status(10_000 + number as u16), status(11_000 + number as u16));
    let mut seen = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        // A check on a busy machine may take its servers away for a moment.
        let agree = within(Duration::from_secs(5), || {
            seen.push(both(number));
            seen.last().is_some_and(|(theirs, ours)| theirs == ours)
        });
        assert!(agree, "{case:?}: HAProxy's status, then ours: {:?}", seen.last());
    }
    assert!(seen.contains(&(200, 200)) && seen.contains(&(503, 503)));
}

/// What files of authorities and certificates hold is taken up when they change, by traffic and by checks.
#[test]
fn changed_files_of_tls_with_servers_are_taken_up() {
    if !require(&["nginx", "openssl"]) {
        return;
    }
    let place = Place::new("server-tls-files");
    let (old, new) = (Authority::new(&place, "old"), Authority::new(&place, "new"));
    new.server(&place, "s.pem", &["s.example"]);
    let _servers = nginx(&place, &["s"], 9400);
    let trusted = place.write("trusted.pem", std::fs::read(&old.file).unwrap());
    let shown = old.client(&place, "shown.pem", "old-name", 7);
    let keys = format!(
        "retries = 0\nserver-tls = {{ ca = {trusted:?}, sni = \"s.example\", certificate = {shown:?} }}\nhealth-check = {{ type = \"http\", path = \"/\", interval = \"200ms\", rise = 1, fall = 1 }}"
    );
    let unchecked =
        keys.split("health-check").next().unwrap().to_owned() + "health-check = { type = \"none\" }";
    let config = service("checked", "http", place.at(8080), &[place.at(9400)], &keys)
        + &service("unchecked", "http", place.at(8081), &[place.at(9400)], &unchecked);
    let evenkeel = start(&place, &config);
    let ask = |port: u16| {
        let answer = Connection::open(place.at(port)).get("/");
        (answer.status, answer.text())
    };
    eventually("the server is down", Duration::from_secs(10), || {
        evenkeel.server("checked", "s1")["state"] == "down"
    });
    assert_eq!((ask(8080).0, ask(8081).0), (503, 503));
    // Who signed the server's certificate is trusted from now on, and another one is shown to it.
    std::fs::write(&trusted, std::fs::read(&new.file).unwrap()).unwrap();
    for port in [8080, 8081] {
        eventually("the authority is trusted", Duration::from_secs(20), || {
            ask(port).0 == 200 && ask(port).1.contains("CN=old-name")
        });
    }
    new.client(&place, "shown.pem", "new-name", 8);
    for port in [8080, 8081] {
        eventually("the other certificate is shown", Duration::from_secs(20), || {
            ask(port).1.contains("CN=new-name")
        });
    }
    // What cannot be used changes nothing and is told.
    std::fs::write(&trusted, "nothing").unwrap();
    eventually("the log tells", Duration::from_secs(20), || evenkeel.log().contains("trusted.pem"));
    assert_eq!(ask(8081).0, 200);
}

/// What a `bind` line says of TLS behind its certificates, with clients of their own kinds.
const BINDS: [&str; 18] = [
    "",
    "crt FOLDER/kinds.pem",
    "ca-file FOLDER/ca.crt",
    "ca-file FOLDER/ca.crt verify none",
    "ca-file FOLDER/ca.crt verify optional",
    "ca-file FOLDER/ca.crt verify required",
    "verify required",
    "verify optional",
    "verify none",
    "verify maybe",
    "alpn h2,http/1.1",
    "alpn http/1.1",
    "ssl-min-ver TLSv1.3",
    "ssl-max-ver TLSv1.2",
    "force-tlsv12",
    "no-tls-tickets prefer-client-ciphers allow-0rtt",
    "curves P-256 ciphers ECDHE-RSA-AES256-GCM-SHA384",
    "strict-sni",
];

const CLIENTS: [&str; 9] = [
    "-servername a.example.test",
    "-servername b.example.test",
    "-noservername",
    "-servername a.example.test -tls1_2",
    "-servername a.example.test -tls1_3",
    "-servername a.example.test -alpn http/1.1",
    "-servername a.example.test -alpn other",
    "-servername a.example.test -cert FOLDER/common-name.pem",
    "-servername a.example.test -cert FOLDER/strange.pem",
];

/// Who is let in, over which version of TLS, and what rules see of it.
#[test]
fn binds_let_in_whom_haproxy_lets_in() {
    if !require(&["haproxy", "openssl"]) {
        return;
    }
    let place = Place::new("bind-tls-haproxy");
    let made = Command::new("sh").args(["-ec", CERTIFICATES]).current_dir(place.folder()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let folder = place.folder().display().to_string();
    let begin = "defaults\n  mode http\n  timeout connect 2s\n  timeout client 8s\n  timeout server 8s\n";
    let section = |number: usize, port: u16| {
        let at = place.at(port + number as u16);
        // What is offered where nothing is said differs between versions of HAProxy.
        let alpn = if BINDS[number].contains("alpn") { "" } else { " alpn http/1.1" };
        let seen = "%[ssl_fc_protocol] %[ssl_fc_sni] %[ssl_fc_alpn] %[ssl_c_used] %[ssl_c_s_dn(cn)] %[ssl_fc_has_crt]";
        let words = BINDS[number].replace("FOLDER", &folder);
        format!(
            "listen b{number}\n  bind {at} ssl crt {folder}/named.pem {words}{alpn}\n  http-request return status 200 hdr x-seen \"{seen}\"\n"
        )
    };
    let ours = || {
        let mut program = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
        program.arg("haproxy");
        program
    };
    let starts = |mut program: Command, number: usize| {
        let file = place.write("checked.cfg", format!("{begin}{}", section(number, 10_000)));
        program.arg("-c").arg("-f").arg(file).output().unwrap().status.success()
    };
    let all: Vec<usize> = (0..BINDS.len()).collect();
    let good: Vec<usize> = all.into_iter().filter(|n| starts(Command::new("haproxy"), *n)).collect();
    for (number, bind) in BINDS.iter().enumerate() {
        assert_eq!(good.contains(&number), starts(ours(), number), "{bind}");
    }
    let run = |mut program: Command, port: u16| {
        let text: String = good.iter().map(|number| section(*number, port)).collect();
        let file = place.write(&format!("{port}.cfg"), format!("{begin}{text}"));
        let log = std::fs::File::create(place.file(&format!("{port}.log"))).unwrap();
        let process =
            Process::start(program.arg("-db").arg("-f").arg(file).stdout(Stdio::null()).stderr(log));
        let last = place.at(port + *good.last().unwrap() as u16);
        eventually("it listens", Duration::from_secs(30), || std::net::TcpStream::connect(last).is_ok());
        process
    };
    let (_theirs, _ours) = (run(Command::new("haproxy"), 10_000), run(ours(), 11_000));
    let seen = |at: std::net::SocketAddr, client: &str| {
        let client = client.replace("FOLDER", &folder);
        let request = "printf 'GET / HTTP/1.1\\r\\nHost: a.example.test\\r\\nConnection: close\\r\\n\\r\\n'";
        let line = format!("{request} | timeout 10 openssl s_client -connect {at} -ign_eof {client} 2>&1");
        let output = Command::new("sh").args(["-c", &line]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = |begin: &str| {
            text.lines().find(|line| line.starts_with(begin)).map(|line| line.trim().to_owned())
        };
        (told("HTTP/1.1 "), told("x-seen: "), told("subject="), told("issuer="))
    };
    for number in &good {
        for client in CLIENTS {
            let at = |port: u16| place.at(port + *number as u16);
            let (theirs, ours) = (seen(at(10_000), client), seen(at(11_000), client));
            // One without a certificate that asked for another host is told to ask there: 421.
            let is_misdirected = ours.0.as_deref().is_some_and(|line| line.contains(" 421"));
            if !(BINDS[*number].contains("optional") && is_misdirected) {
                assert_eq!(theirs, ours, "bind {} with {client}", BINDS[*number]);
            }
        }
    }
}
