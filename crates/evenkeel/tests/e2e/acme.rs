//! Certificates from an authority: pebble, which refuses nonces, asks a DNS server of the test, and comes to
//! the challenges for real.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use evenkeel_testbed::{Authority, Place, Process, Scripted, command, eventually, require};
use rustix::process::Signal;
use serde_json::Value;

use crate::{service, start};

const PROGRAMS: &[&str] = &["pebble", "pebble-challtestsrv", "openssl", "curl"];
const LONG: Duration = Duration::from_secs(120);

/// A real authority with its DNS server, at an address.
pub struct Pebble {
    _process: Process,
    dns: Process,
    folder: std::path::PathBuf,
    address: String,
}

impl Pebble {
    /// `names` is where the authority finds every host name.
    fn start(place: &Place, address: &str, names: &str, more: &str) -> Pebble {
        let process = |program: &str| Command::new(program);
        Pebble::start_with(place, address, names, (8053, more, false), &process)
    }

    pub fn start_by(
        place: &Place,
        address: &str,
        names: &str,
        (asks, more): (u16, &str),
        process: &dyn Fn(&str) -> Command,
    ) -> Pebble {
        Pebble::start_with(place, address, names, (asks, more, false), process)
    }

    /// `external`: it wants accounts of its customers.
    fn start_with(
        place: &Place,
        address: &str,
        names: &str,
        (asks, more, external): (u16, &str, bool),
        process: &dyn Fn(&str) -> Command,
    ) -> Pebble {
        let ca = Authority::new(place, "directory-ca");
        let pem = std::fs::read_to_string(ca.server(place, "directory.pem", &[address])).unwrap();
        let key = pem.find("-----BEGIN PRIVATE KEY").unwrap();
        let (certificate, key) =
            (place.write("d-cert.pem", &pem[..key]), place.write("d-key.pem", &pem[key..]));
        let config = format!(
            "{{\"pebble\":{{\"listenAddress\":\"{address}:14000\",\"managementListenAddress\":\"{address}:15000\",\
             \"certificate\":\"{}\",\"privateKey\":\"{}\",\"httpPort\":5002,\"tlsPort\":5001,\
             \"externalAccountBindingRequired\":{external}{more}}}}}",
            certificate.display(),
            key.display()
        );
        let config = place.write("pebble.json", config).display().to_string();
        let log = |name: &str| std::fs::File::create(place.file(name)).unwrap();
        let dns_at = format!("{address}:8053");
        let management = format!("{address}:8055");
        let mut dns = process("pebble-challtestsrv");
        dns.args([
            "-defaultIPv4",
            names,
            "-defaultIPv6",
            "",
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
        ]);
        dns.args(["-dns01", &dns_at, "-management", &management]);
        let dns = Process::start(dns.stdout(log("dns.log")).stderr(Stdio::null()));
        let mut pebble = process("pebble");
        pebble.args(["-config", &config, "-dnsserver", &format!("{address}:{asks}")]);
        pebble
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", "25")
            .env("PEBBLE_AUTHZREUSE", "0");
        let process = Process::start(pebble.stdout(log("pebble.log")).stderr(log("pebble-errors.log")));
        let pebble =
            Pebble { _process: process, dns, folder: place.folder().to_owned(), address: address.into() };
        eventually("the authority listens", LONG, || pebble.log().contains("ACME directory available"));
        pebble
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("pebble.log")).unwrap_or_default()
    }

    /// Orders that were made.
    pub fn orders(&self) -> usize {
        self.log().matches("Added order").count()
    }

    /// `[[acme]]` for it.
    pub fn settings(&self, more: &str) -> String {
        let ca = self.folder.join("directory-ca.pem");
        format!(
            "[[acme]]\nname = \"pebble\"\ndirectory = \"https://{}:14000/dir\"\nca = \"{}\"\nhttp-port = 5002\ntls-port = 5001\n{more}\n",
            self.address,
            ca.display()
        )
    }

    /// Its root, of this start.
    fn root(&self) -> String {
        let url = format!("https://{}:15000/roots/0", self.address);
        let root = command("curl", &["-sS", "-k", &url]);
        let file = self.folder.join("root.pem");
        std::fs::write(&file, root.out).unwrap();
        file.display().to_string()
    }
}

/// The managed certificate of a list.
fn managed(all: &Value, name: &str) -> Value {
    let all = all.as_array().cloned().unwrap_or_default();
    all.into_iter().find(|one| one["managed"]["name"] == name).unwrap_or_default()
}

fn private(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|about| about.permissions().mode() & 0o077 == 0)
}

/// What a client sees: the serial number, verified by the root.
fn seen(place: &Place, root: &str, host: &str) -> Result<String, String> {
    let at = place.at(5001).to_string();
    let arguments =
        ["s_client", "-connect", &at, "-servername", host, "-verify_hostname", host, "-CAfile", root];
    let output = command("openssl", &[&arguments[..], &["-verify_return_error"]].concat());
    let Some(begin) = output.out.find("-----BEGIN CERTIFICATE") else { return Err(output.err) };
    if !output.out.contains("Verify return code: 0") {
        return Err(output.out + &output.err);
    }
    let end = output.out.find("-----END CERTIFICATE").unwrap_or(output.out.len());
    Ok(output.out[begin..end].to_owned())
}

#[test]
fn a_certificate_is_ordered_served_and_renewed() {
    if !require(PROGRAMS) {
        return;
    }
    let place = Place::new("acme");
    let ip = place.at(1).ip().to_string();
    let pebble = Pebble::start(&place, &ip, &ip, "");
    let _server = Scripted::named(place.at(9001), "s1");
    let tls = "health-check = { type = \"none\" }\ntls = { acme = \"pebble\", names = \"routes\" }\n\
               [[virtual-service.route]]\nwhen = 'host(\"www.example.org\", \"example.org\")'\nset-header = { X-A = \"1\" }\n";
    // Every request is refused, but not the authority's.
    let plain = "[[virtual-service.route]]\ndeny = {}\n";
    let plain = service("plain", "http", place.at(5002), &[place.at(9001)], plain);
    let secure = service("secure", "http", place.at(5001), &[place.at(9001)], tls);
    let config = format!(
        "{}{plain}{secure}",
        pebble.settings("contact = [\"a@example.org\"]\nchallenges = [\"http-01\"]")
    );
    let evenkeel = start(&place, &config);
    let list = || managed(&evenkeel.json(&["cert"]), "secure");
    eventually("the certificate is there", LONG, || list()["managed"]["state"] == "valid");
    let root = pebble.root();
    for host in ["www.example.org", "example.org"] {
        let mut why = String::new();
        eventually("it is served", LONG, || seen(&place, &root, host).map_err(|e| why = e).is_ok());
    }
    assert_eq!(pebble.orders(), 1, "{}", pebble.log());
    let folder = evenkeel.config_path().parent().unwrap().to_owned();
    let mut files = Vec::new();
    find(&folder, &mut files);
    let kept: Vec<_> = files.iter().filter(|f| f.parent().is_some_and(|p| p.ends_with("acme"))).collect();
    assert!(kept.len() >= 3 && kept.iter().all(|file| private(file)), "{kept:?}");
    let log = evenkeel.log();
    assert!(!log.contains("PRIVATE KEY"), "{log}");
    // Renewed while clients come: none fails.
    let before = seen(&place, &root, "example.org").unwrap();
    let again = evenkeel.ok(&["cert", "renew", "secure", "--now"]);
    assert!(again.contains("being ordered"), "{again}");
    let mut handshakes = 0;
    eventually("another certificate is served", LONG, || {
        handshakes += 1;
        let now = seen(&place, &root, "www.example.org").unwrap_or_else(|e| panic!("a client failed: {e}"));
        now != before
    });
    assert!(handshakes > 0);
    assert_eq!(pebble.orders(), 2, "{}", pebble.log());
    // Revoked: the next one comes by itself.
    let before = seen(&place, &root, "example.org").unwrap();
    evenkeel.ok(&["cert", "revoke", "secure"]);
    eventually("one after the revoked is served", LONG, || {
        seen(&place, &root, "example.org").is_ok_and(|now| now != before)
    });
    assert!(pebble.log().contains("revoke"), "{}", pebble.log());
    // What is there is not ordered again by a new start.
    let mut evenkeel = evenkeel;
    let orders = pebble.orders();
    evenkeel.start_again();
    eventually("the certificate is known", LONG, || {
        managed(&evenkeel.json(&["cert"]), "secure")["managed"]["state"] == "valid"
    });
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(pebble.orders(), orders);
}

fn find(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { find(&path, found) } else { found.push(path) }
    }
}

#[test]
fn a_tls_service_answers_by_its_own_handshake() {
    if !require(PROGRAMS) {
        return;
    }
    let place = Place::new("acme-alpn");
    let ip = place.at(1).ip().to_string();
    let pebble = Pebble::start(&place, &ip, &ip, "");
    let _server = Scripted::named(place.at(9001), "s1");
    // Its clients show certificates; the authority has none.
    let ca = Authority::new(&place, "clients");
    let tls = format!(
        "health-check = {{ type = \"none\" }}\ntls = {{ acme = \"pebble\", names = [\"a.example.org\", \"{ip}\"], client-auth = {{ ca = \"{}\" }} }}",
        ca.file.display()
    );
    let secure = service("secure", "tcp", place.at(5001), &[place.at(9001)], &tls);
    let settings = pebble.settings("challenges = [\"tls-alpn-01\"]\nkey-type = \"ecdsa-p384\"");
    let evenkeel = start(&place, &format!("{settings}{secure}"));
    let state = || managed(&evenkeel.json(&["cert"]), "secure");
    eventually("the certificate is there", LONG, || state()["managed"]["state"] == "valid");
    let names = state()["names"].to_string();
    assert!(names.contains("a.example.org") && names.contains(&ip), "{names}");
    // Another kind of key is another certificate.
    let settings = pebble.settings("challenges = [\"tls-alpn-01\"]\nkey-type = \"rsa-2048\"");
    evenkeel.commit(&place, &format!("{settings}{secure}"));
    let pem = || std::fs::read_to_string(state()["file"].as_str().unwrap()).unwrap();
    eventually("it is there", LONG, || {
        command(
            "openssl",
            &["x509", "-noout", "-text", "-in", &place.write("now.pem", pem()).display().to_string()],
        )
        .out
        .contains("rsaEncryption")
    });
}

#[test]
fn an_authority_that_refuses_is_told_of_and_left_alone() {
    if !require(PROGRAMS) {
        return;
    }
    let place = Place::new("acme-refused");
    let ip = place.at(1).ip().to_string();
    // Host names lead to where nobody is.
    let pebble = Pebble::start(&place, &ip, "127.255.255.254", "");
    let tls = "health-check = { type = \"none\" }\ntls = { acme = \"pebble\", names = [\"a.example.org\"] }";
    let secure = service("secure", "http", place.at(5001), &[place.at(9001)], tls);
    let config = format!("{}{secure}", pebble.settings(""));
    let mut evenkeel = start(&place, &config);
    let plan = evenkeel.commit(&place, &config);
    assert!(!plan.contains("is ordered from"), "{plan}");
    let list = |evenkeel: &evenkeel_testbed::Evenkeel| managed(&evenkeel.json(&["cert"]), "secure");
    eventually("the refusal is known", LONG, || list(&evenkeel)["managed"]["state"] == "failed");
    let one = list(&evenkeel);
    let why = one["managed"]["last-error"].as_str().unwrap_or("").to_owned();
    assert!(why.contains("a.example.org") && why.contains("127.255.255.254"), "{one}");
    assert_eq!(one["managed"]["stand-in"], true);
    let events = evenkeel.ok(&["events"]);
    assert!(events.contains("no certificate for a.example.org"), "{events}");
    // A self-signed one is served meanwhile, and a new start does not spend another attempt.
    let at = place.at(5001).to_string();
    let shown = command("openssl", &["s_client", "-connect", &at, "-servername", "a.example.org"]).out;
    assert!(shown.contains("stand-in"), "{shown}");
    let orders = pebble.orders();
    assert_eq!(orders, 1, "{}", pebble.log());
    evenkeel.start_again();
    eventually("the failure is still known", LONG, || list(&evenkeel)["managed"]["state"] == "failed");
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(pebble.orders(), orders);
    // The listener for the challenge is gone, and a service may have its address.
    let plain = service("plain", "http", place.at(5002), &[place.at(9001)], "");
    evenkeel.commit(&place, &format!("{config}{plain}"));
}

/// Both nodes of a pair, before an authority on a host of its own.
#[test]
fn a_pair_orders_once_whatever_becomes_of_the_active_node() {
    if !require(PROGRAMS) {
        return;
    }
    let Some(mut lab) = crate::pair::lab("acme-pair") else { return };
    let place = Place::new("acme-pair-authority");
    let of_host = |program: &str| {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &lab.hosts.name("d"), program]);
        command
    };
    let pebble = Pebble::start_by(&place, "10.77.0.8", "10.77.0.100", (8053, ""), &of_host);
    let service = |names: &str| {
        let tls =
            format!("health-check = {{ type = \"none\" }}\ntls = {{ acme = \"pebble\", names = [{names}] }}");
        let text = crate::layer4::service("secure", "10.77.0.100:5001", "http", &tls, crate::pair::FRONT);
        format!("{}{text}", pebble.settings("challenges = [\"http-01\"]"))
    };
    lab.start_pair("", &service("\"a.example.org\""));
    let state = |lab: &evenkeel_testbed::pair::PairLab, node| {
        let one = managed(&lab.json(node, &["cert"]), "secure");
        one["managed"]["state"].as_str().unwrap_or("").to_owned()
    };
    let file = |lab: &evenkeel_testbed::pair::PairLab, node: usize, name: &str| {
        std::fs::read_to_string(lab.folder(node).join("state/acme").join(name)).unwrap_or_default()
    };
    let both = |lab: &evenkeel_testbed::pair::PairLab| {
        let (one, other) = (file(lab, 0, "secure.pem"), file(lab, 1, "secure.pem"));
        !one.is_empty() && one == other
    };
    eventually("the certificate is on both nodes", LONG, || both(&lab));
    eventually("the active one uses it", LONG, || state(&lab, 0) == "valid");
    assert_eq!(state(&lab, 1), "passive");
    assert_eq!(file(&lab, 0, "pebble.account"), file(&lab, 1, "pebble.account"));
    let refused = lab.cli(1, &["cert", "renew", "secure"]);
    assert!(refused.code != 0 && refused.err.contains("the other node is active"), "{}", refused.err);
    // The authority does not come to an end while its DNS says nothing: the order is open when the node dies.
    let orders = pebble.orders();
    pebble.dns.signal(Signal::STOP);
    let again = lab.cli(0, &["cert", "renew", "secure"]);
    assert_eq!(again.code, 0, "{}", again.err);
    let open =
        |lab: &evenkeel_testbed::pair::PairLab, node| file(lab, node, "secure.order").contains("http-01");
    eventually("the order is open on both nodes", LONG, || open(&lab, 0) && open(&lab, 1));
    let before = file(&lab, 1, "secure.pem");
    lab.nodes[0].as_mut().unwrap().signal(Signal::KILL);
    lab.await_role(1, "active");
    pebble.dns.signal(Signal::CONT);
    eventually("the other node has another certificate", LONG, || {
        let now = file(&lab, 1, "secure.pem");
        now != before && state(&lab, 1) == "valid"
    });
    let refused = || pebble.log().matches("set INVALID by invalid authz").count();
    let made = pebble.orders() - orders;
    // Unless the authority has come while the address was nowhere.
    assert_eq!(made, 1 + refused(), "the order was not taken over:\n{}\n{}", lab.log(1), pebble.log());
    // The node that comes back takes what the other has.
    lab.nodes[0] = None;
    lab.start(0);
    eventually("both have it", LONG, || both(&lab));
    // A switch-over by plan in the middle of an order.
    let active = usize::from(lab.role(1) == "active");
    eventually("the nodes know their roles", LONG, || {
        lab.role(active) == "active" && lab.role(1 - active) == "passive"
    });
    let before = file(&lab, active, "secure.pem");
    let before_refused = refused();
    let orders = pebble.orders();
    pebble.dns.signal(Signal::STOP);
    let again = lab.cli(active, &["cert", "renew", "secure"]);
    assert_eq!(again.code, 0, "{}", again.err);
    eventually("the order is open on both nodes", LONG, || open(&lab, 0) && open(&lab, 1));
    let switched = lab.cli(active, &["pair", "switch-over"]);
    assert_eq!(switched.code, 0, "{}{}", switched.out, switched.err);
    lab.await_role(1 - active, "active");
    pebble.dns.signal(Signal::CONT);
    eventually("both have another one", LONG, || both(&lab) && file(&lab, active, "secure.pem") != before);
    assert_eq!(pebble.orders() - orders, 1 + refused() - before_refused, "{}\n{}", lab.log(0), lab.log(1));
}

/// A name server that takes updates for example.org, at port 8054.
fn knot(place: &Place, secret: &str) -> Process {
    let (folder, ip) = (place.folder().display().to_string(), place.at(1).ip().to_string());
    place.write(
        "zones/example.org.zone",
        "$ORIGIN example.org.\n$TTL 60\n@ SOA ns.example.org. admin.example.org. 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n",
    );
    std::fs::create_dir_all(place.file("db")).unwrap();
    let config = place.write(
        "knot.conf",
        format!(
            "server:\n  rundir: {folder}\n  listen: {ip}@8054\ndatabase:\n  storage: {folder}/db\n\
             log:\n  - target: stderr\n    any: info\n\
             key:\n  - id: evenkeel.\n    algorithm: hmac-sha256\n    secret: {secret}\n\
             acl:\n  - id: updates\n    action: update\n    key: evenkeel.\n\
             zone:\n  - domain: example.org\n    storage: {folder}/zones\n    file: example.org.zone\n    acl: updates\n"
        ),
    );
    let log = std::fs::File::create(place.file("knot.log")).unwrap();
    let mut command = Command::new("knotd");
    let process = Process::start(command.arg("-c").arg(config).stdout(Stdio::null()).stderr(log));
    let listens =
        || std::fs::read_to_string(place.file("knot.log")).unwrap_or_default().contains("server started");
    eventually("the name server runs", LONG, listens);
    process
}

#[test]
fn wildcards_come_by_records_in_the_dns() {
    if !require(PROGRAMS) || !require(&["knotd", "kdig"]) {
        return;
    }
    let place = Place::new("acme-dns");
    let ip = place.at(1).ip().to_string();
    let secret = "bXkgc2VjcmV0IG9mIHRoaXJ0eSB0d28gYnl0ZXMgISEhISE=";
    let _knot = knot(&place, secret);
    let process = |program: &str| Command::new(program);
    let pebble = Pebble::start_by(&place, &ip, &ip, (8054, ""), &process);
    let key = place.write("tsig", secret);
    let dns = |name: &str| {
        format!(
            "dns = {{ type = \"update\", server = \"{ip}:8054\", key-name = \"{name}\", key-file = \"{}\", wait = \"0s\" }}",
            key.display()
        )
    };
    let tls = "health-check = { type = \"none\" }\ntls = { acme = \"pebble\", names = [\"*.example.org\", \"example.org\"] }";
    let secure = service("secure", "http", place.at(5001), &[place.at(9001)], tls);
    let config = |name: &str| format!("{}{secure}", pebble.settings(&dns(name)));
    // A key that the name server does not know is said to be that.
    let evenkeel = start(&place, &config("nobody"));
    let state = || managed(&evenkeel.json(&["cert"]), "secure");
    eventually("the refusal is known", LONG, || state()["managed"]["state"] == "failed");
    assert!(
        state()["managed"]["last-error"].to_string().contains("the key is not known there"),
        "{}",
        state()
    );
    // What is mended is tried at once.
    evenkeel.commit(&place, &config("evenkeel"));
    eventually("the certificate is there", LONG, || state()["managed"]["state"] == "valid");
    let root = pebble.root();
    for host in ["any.example.org", "example.org"] {
        let mut why = String::new();
        eventually("it is served", LONG, || seen(&place, &root, host).map_err(|e| why = e).is_ok());
    }
    let left =
        command("kdig", &["+short", "-p", "8054", &format!("@{ip}"), "_acme-challenge.example.org", "TXT"]);
    assert_eq!((left.out.trim(), left.code), ("", 0), "{}", left.err);
}

#[test]
fn a_program_of_ones_own_writes_the_records() {
    if !require(PROGRAMS) {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new("acme-hook");
    let ip = place.at(1).ip().to_string();
    let pebble = Pebble::start(&place, &ip, &ip, "");
    // It speaks to the DNS server of the test, as it would to a provider.
    let hook = place.write(
        "hook",
        format!(
            "#!/bin/sh\ncase $1 in present) what=set-txt ;; *) what=clear-txt ;; esac\n\
             [ \"$CERTBOT_VALIDATION\" = \"$3\" ] || exit 3\n\
             exec curl -sSf -d \"{{\\\"host\\\":\\\"$2\\\",\\\"value\\\":\\\"$3\\\"}}\" http://{ip}:8055/$what\n"
        ),
    );
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let dns = format!("dns = {{ type = \"hook\", command = \"{}\", wait = \"0s\" }}", hook.display());
    let tls = "health-check = { type = \"none\" }\ntls = { acme = \"pebble\", names = [\"*.example.org\"] }";
    let secure = service("secure", "http", place.at(5001), &[place.at(9001)], tls);
    let evenkeel = start(&place, &format!("{}{secure}", pebble.settings(&dns)));
    let state = || managed(&evenkeel.json(&["cert"]), "secure");
    eventually("the certificate is there", LONG, || state()["managed"]["state"] == "valid");
}

#[test]
fn an_account_outside_is_bound() {
    if !require(PROGRAMS) {
        return;
    }
    let place = Place::new("acme-external");
    let ip = place.at(1).ip().to_string();
    let secret = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let keys = format!(",\"externalAccountMACKeys\":{{\"kid-1\":\"{secret}\"}}");
    let process = |program: &str| Command::new(program);
    let pebble = Pebble::start_with(&place, &ip, &ip, (8053, &keys, true), &process);
    let key = place.write("external-key", format!("{secret}\n"));
    let tls = "health-check = { type = \"none\" }\ntls = { acme = \"pebble\", names = [\"a.example.org\"] }";
    let secure = service("secure", "http", place.at(5001), &[place.at(9001)], tls);
    let evenkeel = start(&place, &format!("{}{secure}", pebble.settings("")));
    let state = || managed(&evenkeel.json(&["cert"]), "secure");
    eventually("what is missing is known", LONG, || state()["managed"]["state"] == "failed");
    assert!(state()["managed"]["last-error"].to_string().contains("external-account"), "{}", state());
    let external = format!("external-account = {{ key-id = \"kid-1\", key-file = \"{}\" }}", key.display());
    evenkeel.commit(&place, &format!("{}{secure}", pebble.settings(&external)));
    eventually("the certificate is there", LONG, || state()["managed"]["state"] == "valid");
}

/// Certificates of files, which only one node has: they go to the other with the configuration, or neither node
/// takes it.
#[test]
fn files_that_a_configuration_names_travel_with_it() {
    if !require(&["unshare", "mount", "openssl"]) {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let Some(mut lab) = crate::pair::lab("acme-files") else { return };
    let place = Place::new("acme-files-certificates");
    let ca = Authority::new(&place, "ca");
    let certificate = ca.server(&place, "here/www.pem", &["www.example.org"]);
    let beyond = ca.server(&place, "never/www.pem", &["www.example.org"]);
    let (here, never) = (certificate.parent().unwrap(), beyond.parent().unwrap());
    // The second node sees empty folders there, and cannot write into one of them.
    let mounts = format!(
        "mount -t tmpfs none {} && mount -t tmpfs -o ro none {} && exec \"$0\" \"$@\"",
        here.display(),
        never.display()
    );
    let program = lab.program.clone();
    let wrapper = place.write(
        "node",
        format!(
            "#!/bin/sh\ncase \"$*\" in run*lb2*) exec unshare -m sh -c '{mounts}' {program} \"$@\" ;; *) exec {program} \"$@\" ;; esac\n"
        ),
    );
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    lab.program = wrapper.display().to_string();
    let keys = "health-check = { type = \"none\" }\n";
    let plain = crate::layer4::service("web", "10.77.0.100:80", "http", keys, crate::pair::FRONT);
    lab.start_pair("", &plain);
    let tls = |file: &Path| {
        let keys = format!("{keys}tls = {{ certificates = [\"{}\"] }}", file.display());
        plain.clone()
            + &crate::layer4::service("secure", "10.77.0.100:443", "http", &keys, crate::pair::FRONT)
    };
    let commit = |lab: &evenkeel_testbed::pair::PairLab, shared: &str| {
        let file = place.write("next.toml", lab.config(0, "", shared)).display().to_string();
        lab.cli(0, &["commit", &file])
    };
    let done = commit(&lab, &tls(&certificate));
    assert!(
        done.code == 0 && !done.out.contains("NOT committed"),
        "{}{}\n{}",
        done.out,
        done.err,
        lab.log(1)
    );
    let root = format!("/proc/{}/root", lab.nodes[1].as_ref().unwrap().id());
    let there = std::path::PathBuf::from(format!("{root}{}", certificate.display()));
    assert_eq!(std::fs::read(&there).ok(), std::fs::read(&certificate).ok(), "{}", lab.log(1));
    assert!(private(&there));
    eventually("both run it", LONG, || {
        (0..2).all(|node| lab.json(node, &["cert"]).to_string().contains("www.example.org"))
    });
    let refused = commit(&lab, &tls(&beyond));
    assert!(
        refused.code != 0 && refused.err.contains("the other node refuses"),
        "{}{}",
        refused.out,
        refused.err
    );
}
