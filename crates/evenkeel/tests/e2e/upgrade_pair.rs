//! `evenkeel upgrade --pair`: both nodes get a newer program by one command on either of them, and clients see nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use evenkeel_testbed::pair::{KEPT_CONNECTIONS, NEW_CONNECTIONS, PairLab};
use evenkeel_testbed::{Output, Place, command, eventually, require};

use crate::layer4::service;
use crate::upgrade::{bundle_of, key, package_of};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const PROGRAM: &str = env!("CARGO_BIN_EXE_evenkeel");

/// This program with another version in it: the same number of bytes, everywhere.
fn renamed(place: &Place, version: &str) -> PathBuf {
    assert_eq!(version.len(), VERSION.len());
    let file = place.file(&format!("evenkeel-{version}"));
    let script = format!(
        "strip -g -o {0} {PROGRAM} && LC_ALL=C sed -i 's/{1}/{version}/g' {0} && chmod 755 {0}",
        file.display(),
        VERSION.replace('.', "\\."),
    );
    assert_eq!(command("sh", &["-c", &script]).code, 0);
    file
}

/// A lab whose nodes have a program, a dpkg and keys of their own.
fn lab(test: &str) -> Option<PairLab> {
    if !require(&["minisign", "dpkg-deb", "dpkg", "strip"]) {
        return None;
    }
    let mut lab = crate::pair::lab(test)?;
    key(&lab.place);
    for node in 0..2 {
        let folder = lab.folder(node);
        let (bin, root) = (folder.join("bin"), folder.join("root/usr/sbin"));
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir_all(&root).unwrap();
        std::fs::copy(PROGRAM, root.join("evenkeel")).unwrap();
        // What dpkg would do to the whole machine; it fails while a file says so.
        let dpkg = format!(
            "#!/bin/sh\n[ \"$1\" = --print-architecture ] && exec /usr/bin/dpkg \"$1\"\n[ -e {0}/broken ] && {{ echo no space left >&2; exit 1; }}\nfor file; do :; done\nexec dpkg-deb -x \"$file\" {0}/root\n",
            folder.display()
        );
        std::fs::write(bin.join("dpkg"), dpkg).unwrap();
        assert_eq!(command("chmod", &["755", &bin.join("dpkg").display().to_string()]).code, 0);
    }
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = run ] || exec {PROGRAM} \"$@\"\nfolder=$(dirname \"$3\")\nexport EVENKEEL_UPGRADE_FOLDER=\"$folder/upgrade\" EVENKEEL_UPGRADE_KEYS={} PATH=\"$folder/bin:$PATH\"\nexec \"$folder/root/usr/sbin/evenkeel\" \"$@\"\n",
        lab.place.file("keys").display()
    );
    let program = lab.place.write("program.sh", script).display().to_string();
    assert_eq!(command("chmod", &["755", &program]).code, 0);
    lab.program = program;
    Some(lab)
}

/// The command on a node.
fn upgrade(lab: &PairLab, node: usize, bundle: &Path, arguments: &[&str]) -> Output {
    let folder = lab.folder(node);
    let path = format!("{}:{}", folder.join("bin").display(), std::env::var("PATH").unwrap());
    let output = Command::new(PROGRAM)
        .env("PATH", path)
        .args(["upgrade", "--pair", "--keys", &lab.place.file("keys").display().to_string()])
        .args(["--socket", &folder.join("admin.sock").display().to_string()])
        .args(arguments)
        .arg(bundle)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Output { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

fn versions(lab: &PairLab, node: usize) -> (String, String) {
    let pair = lab.json(node, &["pair", "status"]);
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("").to_owned();
    (text(&pair["version"]), text(&pair["link"]["peer-version"]))
}

fn shared() -> String {
    let check = "health-check = { type = \"tcp\", interval = \"1s\" }";
    service("web", "10.77.0.100:80", "http", check, crate::pair::FRONT)
}

#[test]
fn a_pair_is_upgraded_by_one_command_and_no_client_sees_it() {
    let Some(mut lab) = lab("upgrade-pair") else { return };
    let new = renamed(&lab.place, "9.9.9");
    let bundle = bundle_of(&lab.place, &package_of(&lab.place, "9.9.9", &new), "9.9.9");
    lab.start_pair("", &shared());
    eventually("servers are up", Duration::from_secs(10), || {
        lab.hosts.run("c", "curl", &["-sS", "--max-time", "2", "http://10.77.0.100/"]).out.starts_with('s')
    });
    let before = VERSION.to_owned();
    assert_eq!(versions(&lab, 0), (before.clone(), before.clone()));
    // What fails on the other node changes nothing, and is said.
    std::fs::write(lab.folder(1).join("broken"), "").unwrap();
    let failed = upgrade(&lab, 0, &bundle, &[]);
    assert!(failed.code != 0 && failed.err.contains("no space left"), "{failed:?}");
    assert!(
        failed.err.contains(&format!("this node (active) runs {VERSION}, the other one {VERSION}")),
        "{failed:?}"
    );
    assert_eq!((lab.role(0).as_str(), lab.role(1).as_str()), ("active", "passive"));
    std::fs::remove_file(lab.folder(1).join("broken")).unwrap();
    // The other one takes it, this one does not: it is taken up from there.
    std::fs::write(lab.folder(0).join("broken"), "").unwrap();
    let kept = lab.traffic("c", KEPT_CONNECTIONS, &["10.77.0.100", "80", "30", "100"]);
    let client = lab.traffic("c", NEW_CONNECTIONS, &["10.77.0.100", "80", "20"]);
    std::thread::sleep(Duration::from_millis(500));
    let failed = upgrade(&lab, 0, &bundle, &[]);
    assert!(failed.code != 0 && failed.err.contains("this node (passive)"), "{failed:?}\n{}", lab.log(1));
    assert_eq!(versions(&lab, 0), (before.clone(), "9.9.9".into()), "{failed:?}");
    assert_eq!((lab.role(0).as_str(), lab.role(1).as_str()), ("passive", "active"));
    std::fs::remove_file(lab.folder(0).join("broken")).unwrap();
    let done = upgrade(&lab, 0, &bundle, &[]);
    assert!(done.code == 0 && done.out.contains("both nodes run 9.9.9"), "{done:?}\n{}", lab.log(0));
    for node in 0..2 {
        assert_eq!(versions(&lab, node), ("9.9.9".into(), "9.9.9".into()));
    }
    let again = upgrade(&lab, 1, &bundle, &[]);
    assert!(again.code == 0 && again.out.contains("already"), "{again:?}");
    let (client, kept) = (client.end(), kept.end());
    assert_eq!(client["failed"], 0, "{client}");
    assert!(client["gap_ms"].as_u64().is_some_and(|gap| gap < 2_000), "{client}");
    // Kept ones of HTTP end behind an answer, as at every restart; none waits for one.
    assert_eq!((&kept["opened"], &kept["hung"]), (&30.into(), &0.into()), "{kept}");
    assert!(kept["ended_after_ms"].as_u64().is_some_and(|after| after < 100), "{kept}");
    end(&lab);
}

/// On the passive node: it comes first, takes the role, and the other one follows.
#[test]
fn the_passive_node_can_begin() {
    let Some(mut lab) = lab("upgrade-pair-passive") else { return };
    let new = renamed(&lab.place, "9.9.9");
    let bundle = bundle_of(&lab.place, &package_of(&lab.place, "9.9.9", &new), "9.9.9");
    lab.start_pair("", &shared());
    // Who signs is not known there.
    let strange = lab.place.write("strange.bundle", "EVENKEEL-BUNDLE 1 2 3\nxxxxx");
    let refused = upgrade(&lab, 1, &strange, &[]);
    assert_ne!(refused.code, 0, "{refused:?}");
    let done = upgrade(&lab, 1, &bundle, &[]);
    assert!(done.code == 0 && done.out.contains("both nodes run 9.9.9"), "{done:?}\n{}", lab.log(1));
    assert_eq!((lab.role(0).as_str(), lab.role(1).as_str()), ("passive", "active"));
    end(&lab);
}

/// Processes that have taken over are nobody's children here.
fn end(lab: &PairLab) {
    for node in 0..2 {
        let log = lab.log(node);
        let numbers = log.split("process=").skip(1).filter_map(|rest| rest.split_whitespace().next());
        for number in numbers.filter_map(|number| number.parse().ok()) {
            let Some(pid) = rustix::process::Pid::from_raw(number) else { continue };
            let ours = std::fs::read_link(format!("/proc/{number}/exe")).unwrap_or_default();
            if ours.starts_with(lab.folder(node)) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}
