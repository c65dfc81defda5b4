//! Full transparency between hosts of their own: client, load balancer and real server are network
//! namespaces, the real server's gateway is the load balancer.

use std::process::{Command, Stdio};
use std::time::Duration;

use evenkeel_testbed::{Authority, Place, Process, command, eventually, require, skip};

/// Namespaces that end with the test.
struct Hosts(Vec<String>);

impl Hosts {
    fn new() -> Option<Hosts> {
        let id = std::process::id();
        let names: Vec<String> = ["c", "l", "s"].iter().map(|n| format!("ek{n}{id}")).collect();
        let hosts = Hosts(names);
        for name in &hosts.0 {
            if command("ip", &["netns", "add", name]).code != 0 {
                return None;
            }
            hosts.ip(name, &["link", "set", "lo", "up"]);
        }
        let [c, l, s] = [&hosts.0[0], &hosts.0[1], &hosts.0[2]];
        for (host, network, own) in [(c, 1, 2), (s, 2, 2)] {
            let (a, b) = (format!("a{network}{id}"), format!("b{network}{id}"));
            command(
                "ip",
                &["link", "add", &a, "netns", host, "type", "veth", "peer", "name", &b, "netns", l],
            );
            hosts.ip(host, &["addr", "add", &format!("10.97.{network}.{own}/24"), "dev", &a]);
            hosts.ip(host, &["link", "set", &a, "up"]);
            hosts.ip(l, &["addr", "add", &format!("10.97.{network}.1/24"), "dev", &b]);
            hosts.ip(l, &["link", "set", &b, "up"]);
            hosts.ip(host, &["route", "add", "default", "via", &format!("10.97.{network}.1")]);
        }
        Some(hosts)
    }

    fn ip(&self, host: &str, arguments: &[&str]) {
        let output = command("ip", &[&["-n", host], arguments].concat());
        assert_eq!(output.code, 0, "{arguments:?}: {}", output.err);
    }

    fn run(&self, host: usize, program: &str, arguments: &[&str]) -> evenkeel_testbed::Output {
        command("ip", &[&["netns", "exec", &self.0[host], program], arguments].concat())
    }

    fn start(&self, host: usize, program: &str, arguments: &[&str], log: &std::path::Path) -> Process {
        let log = std::fs::File::create(log).unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0[host], program]).args(arguments);
        Process::start(command.stdout(Stdio::null()).stderr(log))
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in &self.0 {
            command("ip", &["netns", "del", name]);
        }
    }
}

/// A client, a load balancer and a real server; nothing without root.
fn hosts() -> Option<Hosts> {
    let hosts = rustix::process::getuid().is_root().then(Hosts::new).flatten();
    if hosts.is_none() {
        skip("root and network namespaces");
    }
    hosts
}

/// A real server that says whom it sees.
fn server(hosts: &Hosts, place: &Place) -> Process {
    let nginx = format!(
        "daemon off; pid {0}/pid; error_log {0}/error.log; events {{}}\nhttp {{ access_log off; client_body_temp_path {0}/t; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/g;\nserver {{ listen 10.97.2.2:80; location / {{ return 200 \"$remote_addr\"; }} }} }}\n",
        place.folder().display()
    );
    let nginx = place.write("nginx.conf", nginx).display().to_string();
    hosts.start(2, "nginx", &["-c", &nginx], &place.file("nginx.log"))
}

#[test]
fn real_servers_see_the_clients_own_address() {
    if !require(&["ip", "nft", "curl", "nginx"]) {
        return;
    }
    let Some(hosts) = hosts() else { return };
    let place = Place::new("transparency");
    let ca = Authority::new(&place, "ca");
    let pem = ca.server(&place, "a.pem", &["a.example"]);
    let _nginx = server(&hosts, &place);
    let service = |name: &str, mode: &str, port: u16, keys: &str| {
        format!(
            "[[virtual-service]]\nname = \"{name}\"\nvip = [\"10.97.1.1:{port}\"]\nmode = \"{mode}\"\npool = \"p\"\n{keys}\n"
        )
    };
    let config = format!(
        "[admin]\nsocket = \"{0}/admin.sock\"\n[state]\ndirectory = \"{0}/state\"\n[[pool]]\nname = \"p\"\nsource = \"client\"\n[[pool.real-server]]\nname = \"s\"\naddress = \"10.97.2.2:80\"\n",
        place.folder().display()
    ) + &service("http", "http", 80, "")
        + &service("tcp", "tcp", 81, "")
        + &service("tls", "http", 443, &format!("tls = {{ certificates = [\"{}\"] }}", pem.display()));
    let file = place.write("evenkeel.toml", config).display().to_string();
    let log = place.file("daemon.log");
    let program = env!("CARGO_BIN_EXE_evenkeel");
    let daemon = hosts.start(1, program, &["run", "--config", &file], &log);
    let ask = |url: &str, more: &[&str]| {
        hosts.run(0, "curl", &[&["-sS", "-k", "--max-time", "5"], more, &[url]].concat())
    };
    eventually("the server sees the client", Duration::from_secs(15), || {
        ask("http://10.97.1.1/", &[]).out == "10.97.1.2"
    });
    for url in ["http://10.97.1.1:81/", "https://10.97.1.1/", "http://10.97.1.1/"] {
        for _ in 0..5 {
            let answer = ask(url, &[]);
            assert_eq!(answer.out, "10.97.1.2", "{url}: {}", answer.err);
        }
    }
    // What somebody removes comes back.
    hosts.run(1, "nft", &["delete", "table", "inet", "evenkeel_transparency"]);
    eventually("the rules are back", Duration::from_secs(20), || {
        ask("http://10.97.1.1/", &[]).out == "10.97.1.2"
    });
    daemon.signal(rustix::process::Signal::TERM);
    eventually("the rules are gone with the program", Duration::from_secs(40), || {
        !hosts.run(1, "nft", &["list", "tables"]).out.contains("evenkeel")
            && !hosts.run(1, "ip", &["rule"]).out.contains("17739")
    });
}

#[test]
fn haproxys_transparent_farm_is_as_it_was() {
    if !require(&["ip", "nft", "curl", "nginx", "haproxy"]) {
        return;
    }
    let Some(hosts) = hosts() else { return };
    let place = Place::new("transparent-farm");
    let nginx = server(&hosts, &place);
    let config = "global\n  maxconn 1000\ndefaults\n  mode http\n  timeout connect 4000\n  timeout client 42000\n  timeout server 43000\n  balance roundrobin\nlisten VIP_Name\n  bind 10.97.1.1:80\n  option forwardfor\n  source 0.0.0.0 usesrc clientip\n  cookie SERVERID insert nocache indirect\n  server RIP_Name 10.97.2.2:80 weight 1 cookie RIP_Name check inter 500 rise 1 fall 3\n  server backup 127.0.0.1:8081 backup source 0.0.0.0\n  option redispatch\n  option abortonclose\n";
    let file = place.write("haproxy.cfg", config).display().to_string();
    let ask = || {
        let answer = hosts.run(0, "curl", &["-sS", "-i", "--max-time", "5", "http://10.97.1.1/"]);
        let cookie = answer.out.lines().find(|l| l.to_lowercase().starts_with("set-cookie")).unwrap_or("");
        let cookie = cookie.split_once(": ").map_or("", |(_, value)| value).trim().to_owned();
        (answer.out.lines().last().unwrap_or("").to_owned(), cookie)
    };
    // HAProxy, with the rules that people set by hand for it.
    let by_hand = [
        "ip rule add fwmark 111 lookup 100",
        "ip route add local 0.0.0.0/0 dev lo table 100",
        "nft add table ip divert",
        "nft add chain ip divert prerouting { type filter hook prerouting priority mangle; }",
        "nft add rule ip divert prerouting meta l4proto tcp socket transparent 1 meta mark set 111 accept",
    ];
    for line in by_hand {
        let words: Vec<&str> = line.split(' ').collect();
        let done = hosts.run(1, words[0], &words[1..]);
        assert_eq!(done.code, 0, "{line}: {}", done.err);
    }
    let mut old = hosts.start(1, "haproxy", &["-db", "-f", &file], &place.file("haproxy.log"));
    let wanted = ("10.97.1.2".to_owned(), "SERVERID=RIP_Name; path=/".to_owned());
    eventually("the server behind HAProxy sees the client", Duration::from_secs(10), || ask() == wanted);
    old.kill();
    for line in ["ip rule del fwmark 111", "ip route flush table 100", "nft delete table ip divert"] {
        let words: Vec<&str> = line.split(' ').collect();
        hosts.run(1, words[0], &words[1..]);
    }
    // Evenkeel with the import, which sets what it needs by itself.
    let program = env!("CARGO_BIN_EXE_evenkeel");
    let imported = command(program, &["import", "haproxy", &file]);
    assert_eq!(imported.code, 0, "{}", imported.err);
    let own = format!(
        "[admin]\nsocket = \"{0}/admin.sock\"\n[state]\ndirectory = \"{0}/state\"\n",
        place.folder().display()
    );
    let ours = place.write("evenkeel.toml", own + &imported.out).display().to_string();
    let log = place.file("daemon.log");
    let _daemon = hosts.start(1, program, &["run", "--config", &ours], &log);
    let mut last = ask();
    for _ in 0..100 {
        if last == wanted {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
        last = ask();
    }
    let told = std::fs::read_to_string(&log).unwrap_or_default();
    assert_eq!(last, wanted, "{told}\n{}", imported.out);
    // The server is gone: the backup on the machine itself is reached from the machine's own address.
    let backup = place.write(
        "backup.conf",
        format!(
            "daemon off; pid {0}/bpid; error_log {0}/berror.log; events {{}}\nhttp {{ access_log off; client_body_temp_path {0}/t; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/g;\nserver {{ listen 127.0.0.1:8081; location / {{ return 200 \"$remote_addr\"; }} }} }}\n",
            place.folder().display()
        ),
    );
    let _backup = hosts.start(1, "nginx", &["-c", &backup.display().to_string()], &place.file("backup.log"));
    drop(nginx);
    eventually("the backup sees the load balancer", Duration::from_secs(15), || ask().0 == "127.0.0.1");
}
