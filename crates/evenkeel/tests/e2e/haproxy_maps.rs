//! Maps and lists that the stats socket changes while the program runs, beside HAProxy.

use std::process::Command;
use std::time::Duration;

use evenkeel_testbed::{Place, eventually, get, has_program};

use crate::haproxy::{ask, ours, run};

fn walk(name: &str, command: Command) {
    let place = Place::new(&format!("maps-{name}"));
    let map = place.write("names.map", "# names\n/a one\n/b two words\n");
    let list = place.write("paths.lst", "/secret\n");
    let (map, list) = (map.display().to_string(), list.display().to_string());
    let socket = place.file("stats.sock");
    let text = format!(
        "global\n  stats socket {} mode 600 level admin\ndefaults\n  mode http\n  timeout connect 2s\n  timeout client 5s\n  timeout server 5s\nlisten l\n  bind {}\n  http-request deny if {{ path -f {list} }}\n  http-request return status 200 content-type text/plain lf-string \"%[path,map({map},none)]\"\n",
        socket.display(),
        place.at(8080),
    );
    let _process = run(&place, command, &text);
    let limit = Duration::from_secs(30);
    eventually("it serves", limit, || {
        std::net::TcpStream::connect(place.at(8080)).is_ok() && socket.exists()
    });
    let is = |path: &str, expect: &str| {
        let answer = get(place.at(8080), path);
        let said = if answer.status == 403 { "403".to_owned() } else { answer.text() };
        assert_eq!(said, expect, "{name}: {path}");
    };
    let does = |command: &str, expect: &str| {
        let said = ask(&socket, command);
        assert!(said.contains(expect), "{name}: {command}: {said:?}");
        assert!(!expect.is_empty() || said.trim().is_empty(), "{name}: {command}: {said:?}");
    };
    is("/a", "one");
    is("/c", "none");
    is("/secret", "403");
    does("show map", &format!("({map})"));
    does("show acl", &format!("({list})"));
    does(&format!("show map {map}"), " /b two words\n");
    does(&format!("get map {map} /a"), "found=yes");
    does(&format!("get map {map} /z"), "found=no");
    // What is changed is there with the answer.
    does(&format!("add map {map} /c three"), "");
    is("/c", "three");
    does(&format!("set map {map} /c four"), "");
    is("/c", "four");
    does(&format!("set map {map} /c five"), "");
    is("/c", "five");
    does(&format!("del map {map} /a"), "");
    is("/a", "none");
    does(&format!("add map {map} <<\n/d 6\n/e 7\n"), "");
    is("/e", "7");
    does(&format!("set map {map} /nowhere x"), "not found");
    does("add map /no/such.map a b", "Unknown map identifier");
    does(&format!("add acl {list} /c"), "");
    is("/c", "403");
    does(&format!("get acl {list} /c"), "match=yes");
    does(&format!("del acl {list} /c"), "");
    is("/c", "five");
    does(&format!("clear acl {list}"), "");
    is("/secret", "none");
    // A whole new version comes at once.
    does(&format!("prepare map {map}"), "New version created: 1");
    does(&format!("add map @1 {map} /v new"), "");
    is("/v", "none");
    does(&format!("show map @1 {map}"), " /v new\n");
    does(&format!("commit map @1 {map}"), "");
    is("/v", "new");
    is("/d", "none");
    does(&format!("add map {map} <<\n{}\n", "/w 8"), "");
    is("/w", "8");
    // The files are as they were, and what reads them again has what they hold.
    assert_eq!(std::fs::read_to_string(&map).expect("the file"), "# names\n/a one\n/b two words\n", "{name}");
    assert_eq!(std::fs::read_to_string(&list).expect("the file"), "/secret\n", "{name}");
}

#[test]
fn maps_and_lists_change_by_the_stats_socket() {
    if has_program("haproxy") {
        walk("haproxy", Command::new("haproxy"));
    }
    walk("evenkeel", ours());
}
