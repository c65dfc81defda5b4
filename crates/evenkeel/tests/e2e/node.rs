//! The machine's own settings: written with a commit, taken back with it. A folder stands in for `/`, so that the
//! machine of the tests stays as it is.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use evenkeel_testbed::{Evenkeel, Place, eventually};

const LONG: Duration = Duration::from_secs(60);

fn interface(name: &str, address: &str) -> String {
    format!("[[node.interface]]\nname = \"{name}\"\naddresses = [\"{address}/24\"]\n")
}

#[test]
fn the_machine_follows_a_commit_and_goes_back_with_it() {
    let place = Place::new("node");
    let root = place.file("root");
    for folder in ["sys/class/net/e0", "lib/systemd", "run"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::fs::write(root.join("lib/systemd/systemd-networkd"), "").unwrap();
    let program = env!("CARGO_BIN_EXE_evenkeel");
    let script = format!("#!/bin/sh\nEVENKEEL_NODE_ROOT='{}' exec '{program}' \"$@\"\n", root.display());
    let wrapper = place.write("evenkeel.sh", script);
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let evenkeel = Evenkeel::start(&wrapper.display().to_string(), &place, "");
    let file = root.join("etc/systemd/network/05-evenkeel-e0.network");
    let holds = |address: &str| std::fs::read_to_string(&file).is_ok_and(|text| text.contains(address));
    let commit = |config: &str, more: &[&str]| {
        let path = place.write("next.toml", Evenkeel::complete(&place, config)).display().to_string();
        evenkeel.cli(&[&["commit", &path], more].concat())
    };

    let refused = commit(&interface("e9", "192.0.2.10"), &[]);
    assert!(refused.code != 0 && refused.err.contains("no interface e9"), "{refused:?}");
    assert!(!root.join("etc").exists(), "a commit that is refused writes nothing");

    let tried = commit(&interface("e0", "192.0.2.10"), &["--confirm", "5s"]);
    assert_eq!(tried.code, 0, "{tried:?}");
    assert!(tried.out.contains("may be cut"), "{tried:?}");
    eventually("the file is written", LONG, || holds("Address=192.0.2.10/24"));
    eventually("nobody confirms, and it is taken back", LONG, || !file.exists());

    assert_eq!(commit(&interface("e0", "192.0.2.11"), &[]).code, 0);
    eventually("the file is written", LONG, || holds("Address=192.0.2.11/24"));
    assert_eq!(commit("", &[]).code, 0);
    eventually("without the table the file goes", LONG, || !file.exists());
    evenkeel.ok(&["rollback"]);
    eventually("and comes back with the revision before", LONG, || holds("Address=192.0.2.11/24"));
}
