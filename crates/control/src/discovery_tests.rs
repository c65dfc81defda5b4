//! Where servers are placed that are written by name, and which servers lists add.

use evenkeel_discover::Failure;

use super::*;

fn snapshot(servers: &str) -> Snapshot {
    let text = format!("[[pool]]\nname = \"p\"\n{servers}");
    evenkeel_config::read(&text).unwrap()
}

/// A discovery that knows these addresses of `a.test`, and nothing of the disk.
fn discovery(addresses: &[&str]) -> Discovery {
    let folder = std::env::temp_dir().join(format!("evenkeel-discovery-{}", std::process::id()));
    let mut discovery = Discovery::start(&folder).unwrap();
    let found = |failing| Found {
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        failing,
        by_hosts_file: false,
    };
    discovery.take(News::Name(HostName::new("a.test").unwrap(), found(None)));
    discovery
}

/// Nothing that people have changed live.
fn none() -> Overrides {
    Overrides::load(std::path::Path::new("/nonexistent"))
}

fn shown(snapshot: &Snapshot) -> String {
    let servers = snapshot.pools[0].real_servers.iter();
    servers.map(|s| format!("{}={}", s.name, s.address)).collect::<Vec<_>>().join(" ")
}

const TWO: &str = "real-server = [{ name = \"x\", address = \"a.test:80\" }, { name = \"y\", address = \"a.test:80\" }, { name = \"z\", address = \"10.0.0.3:80\" }]\n";

#[test]
fn servers_of_one_name_have_different_addresses_and_keep_them() {
    let configured = snapshot(TWO);
    let check = |addresses: &[&str], before: &Snapshot, expect: &str| {
        let settled = discovery(addresses).settle(&configured, before, &none());
        assert_eq!(shown(&settled), expect, "{addresses:?}");
        settled
    };
    let all = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "::9"];
    let first = check(&all, &configured, "x=10.0.0.1:80 y=10.0.0.2:80 z=10.0.0.3:80");
    // More answers, and fewer: who has an address keeps it.
    check(&["10.0.0.0", "10.0.0.1", "10.0.0.2"], &first, "x=10.0.0.1:80 y=10.0.0.2:80 z=10.0.0.3:80");
    let moved = check(&["10.0.0.2", "10.0.0.9"], &first, "x=10.0.0.9:80 y=10.0.0.2:80 z=10.0.0.3:80");
    let one = check(&["10.0.0.2"], &moved, "x=0.0.0.0:80 y=10.0.0.2:80 z=10.0.0.3:80");
    check(&["10.0.0.2", "::9"], &one, "x=[::9]:80 y=10.0.0.2:80 z=10.0.0.3:80");
    check(&[], &first, "x=0.0.0.0:80 y=0.0.0.0:80 z=10.0.0.3:80");
}

#[test]
fn the_address_before_the_first_answer() {
    let check = |init: &str, expect: &str| {
        let server = format!(
            "resolve = {{ init = {init} }}\nreal-server = [{{ name = \"x\", address = \"b.test:80\" }}]\n"
        );
        let configured = snapshot(&server);
        let mut discovery = discovery(&[]);
        discovery.last.insert("p/x".into(), "10.0.0.7".parse().unwrap());
        let settled = discovery.settle(&configured, &configured, &none());
        assert_eq!(shown(&settled), expect, "{init}");
    };
    check("[\"last\", \"lookup\"]", "x=10.0.0.7:80");
    check("[\"none\", \"last\"]", "x=0.0.0.0:80");
    check("[\"192.0.2.1\", \"last\"]", "x=192.0.2.1:80");
    check("[\"lookup\"]", "x=0.0.0.0:80");
    // An address that is given stays while look-ups fail.
    let server =
        "resolve = { init = [\"192.0.2.1\"] }\nreal-server = [{ name = \"x\", address = \"a.test:80\" }]\n";
    let configured = snapshot(server);
    assert_eq!(shown(&discovery(&[]).settle(&configured, &configured, &none())), "x=192.0.2.1:80");
    assert_eq!(shown(&discovery(&["10.0.0.1"]).settle(&configured, &configured, &none())), "x=10.0.0.1:80");
}

#[test]
fn lists_add_servers_beside_those_of_the_file() {
    let text = "discover = [{ type = \"file\", path = \"/x\" }]\nreal-server = [{ name = \"z\", address = \"10.0.0.3:80\" }]\n";
    let configured = snapshot(text);
    let mut discovery = discovery(&["10.0.0.4"]);
    let list = evenkeel_discover::file_sd(
        br#"[{"targets":["10.0.0.3:80","10.0.0.1:80","a.test:81","[2001:db8::1]:82"],"labels":{"weight":"7"}}]"#,
        10,
    );
    let discover = configured.pools[0].discover[0].clone();
    discovery.take(News::List(Arc::new(discover), Listed { list: list.ok(), trouble: None }));
    let settled = discovery.settle(&configured, &configured, &none());
    assert_eq!(
        shown(&settled),
        "z=10.0.0.3:80 10.0.0.1:80=10.0.0.1:80 ip6-2001:db8::1-82=[2001:db8::1]:82 a.test:81=10.0.0.4:81"
    );
    let server = &settled.pools[0].real_servers[1];
    assert_eq!((server.weight.get(), server.found_in.is_some()), (7, true));
    // Settling again changes nothing, and shares what did not change.
    let again = discovery.settle(&configured, &settled, &none());
    assert!(Arc::ptr_eq(&again.pools[0], &settled.pools[0]));
}

#[test]
fn why_a_server_has_no_address() {
    let mut discovery = discovery(&["10.0.0.1"]);
    let name = HostName::new("a.test").unwrap();
    assert!(discovery.why_not_placed(&name).contains("another server"));
    let found = Found { failing: Some(Failure::NoName), ..Found::default() };
    discovery.take(News::Name(name.clone(), found));
    assert!(discovery.why_not_placed(&name).contains("does not exist"));
    assert!(discovery.why_not_placed(&HostName::new("b.test").unwrap()).contains("being looked up"));
}
