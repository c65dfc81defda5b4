//! One word too many behind every keyword: what HAProxy refuses then is refused, with the same word named.

use std::process::Command;

use evenkeel_testbed::{Place, require};

/// Lines that both take, and that one word more makes wrong.
const GLOBAL: &[&str] = &[
    "nbthread 2",
    "maxconn 5",
    "user root",
    "group root",
    "daemon",
    "ulimit-n 5000",
    "pidfile /tmp/x",
    "spread-checks 5",
    "tune.bufsize 16384",
    "node a",
    "maxpipes 5",
    "quiet",
    "noepoll",
    "tune.ssl.default-dh-param 2048",
    "crt-base /tmp",
    "ca-base /tmp",
    "log-tag a",
    "insecure-fork-wanted",
    "maxcompcpuusage 5",
    "maxcomprate 5",
    "max-spread-checks 5s",
    "busy-polling",
    "strict-limits",
    "tune.maxrewrite 1024",
    "tune.http.maxhdr 101",
];

const FRONTEND: &[&str] = &[
    "timeout client 5s",
    "timeout http-request 5s",
    "timeout http-keep-alive 5s",
    "timeout client-fin 5s",
    "timeout tarpit 5s",
    "maxconn 5",
    "mode http",
    "option httplog",
    "default_backend b",
    "http-request set-header A b",
    "http-request add-header A b",
    "http-request deny",
    "http-request del-header A",
    "http-response set-header A b",
    "http-response deny",
    "http-after-response set-header A b",
    "use_backend b",
    "backlog 5",
    "option tcpka",
    "option clitcpka",
    "option dontlognull",
    "option http-server-close",
    "option httpclose",
    "option http-keep-alive",
    "option contstats",
    "option logasap",
    "option http-ignore-probes",
    "option http-use-proxy-header",
    "option accept-invalid-http-request",
    "option tcp-smart-accept",
    "option socket-stats",
    "option nolinger",
    "option http-buffer-request",
    "option http-no-delay",
    "option log-separate-errors",
    "option dontlog-normal",
    "id 77",
    "tcp-request connection reject",
    "tcp-request connection accept",
    "tcp-request session accept",
    "tcp-request content accept",
    "tcp-request content reject",
    "log-format %ci",
    "enabled",
    "no option nolinger",
];

const BACKEND: &[&str] = &[
    "timeout server 5s",
    "timeout connect 5s",
    "timeout queue 5s",
    "timeout check 5s",
    "timeout tunnel 5s",
    "timeout server-fin 5s",
    "balance uri",
    "balance uri len 5",
    "balance url_param a",
    "balance hdr(A)",
    "retries 3",
    "option ssl-hello-chk",
    "option redis-check",
    "option ldap-check",
    "option tcp-check",
    "option persist",
    "option abortonclose",
    "option allbackups",
    "option log-health-checks",
    "option srvtcpka",
    "option prefer-last-server",
    "option http-pretend-keepalive",
    "option independent-streams",
    "option splice-auto",
    "option tcp-smart-connect",
    "fullconn 5",
    "http-reuse never",
    "stick on src table t",
    "stick store-request src table t",
    "tcp-response content accept",
    "stick-table type ip size 1k expire 1m store conn_cur nopurge",
    "stick-table type string len 9 size 1k",
    "http-check disable-on-404",
    "http-check send-state",
    "http-check send meth GET uri /a hdr A b",
    "option mysql-check",
    "option mysql-check user a",
    "option pgsql-check user a",
    "option tcp-check\n tcp-check connect port 5",
    "option tcp-check\n tcp-check send a",
    "option tcp-check\n tcp-check send-binary 00 comment a",
    "hash-type consistent",
    "hash-type consistent sdbm",
    "source 127.0.0.1",
];

fn config(part: usize, line: &str) -> String {
    let [mut global, mut front, mut back] = [const { String::new() }; 3];
    *[&mut global, &mut front, &mut back][part] = format!(" {line}\n");
    format!(
        "global\n{global}defaults\n mode http\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n\
         frontend f\n bind 127.0.0.1:8099\n{front} default_backend b\nbackend b\n{back} server s 127.0.0.1:80\n\
         backend t\n stick-table type ip size 1k expire 1m\n"
    )
}

#[test]
fn a_word_too_many_is_an_error() {
    if !require(&["haproxy"]) {
        return;
    }
    let place = Place::new("haproxy-arguments");
    let program = env!("CARGO_BIN_EXE_evenkeel");
    let both = |text: &str| {
        let file = place.write("haproxy.cfg", text);
        let run = |command: &mut Command| {
            let output = command.args(["-c", "-f"]).arg(&file).output().unwrap();
            (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        (run(&mut Command::new("haproxy")), run(Command::new(program).arg("haproxy")))
    };
    let mut wrong = Vec::new();
    for (part, lines) in [GLOBAL, FRONTEND, BACKEND].into_iter().enumerate() {
        for line in lines {
            let (theirs, ours) = both(&config(part, line));
            if !theirs.0 || !ours.0 {
                wrong.push(format!("{line}: {}{}", theirs.1, ours.1));
            }
            let (theirs, ours) = both(&config(part, &format!("{line} zzz")));
            if theirs.0 != ours.0 || !ours.0 && !ours.1.contains("zzz") && !ours.1.contains("argument") {
                wrong.push(format!("{line} zzz: HAProxy: {}\nEvenkeel: {}", theirs.1, ours.1));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
