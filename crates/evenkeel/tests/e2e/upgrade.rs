//! A new version out of a signed bundle, as `scripts/bundle.sh` makes it: taken as a whole, with connections kept.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use evenkeel_testbed::{Connection, Evenkeel, Place, Scripted, eventually, require};

use crate::service;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A package with a program.
pub fn package_of(place: &Place, version: &str, program: &Path) -> PathBuf {
    let tree = place.file(&format!("tree-{version}"));
    std::fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    std::fs::create_dir_all(tree.join("usr/sbin")).unwrap();
    std::fs::copy(program, tree.join("usr/sbin/evenkeel")).unwrap();
    let architecture = run(Command::new("dpkg").arg("--print-architecture"));
    let control = format!(
        "Package: evenkeel\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: x <x@localhost>\nDescription: x\n"
    );
    std::fs::write(tree.join("DEBIAN/control"), control).unwrap();
    let file = place.file(&format!("evenkeel-{version}.deb"));
    run(Command::new("dpkg-deb").args(["--root-owner-group", "-Znone", "-b"]).arg(&tree).arg(&file));
    file
}

/// With this very program.
fn bundle(place: &Place, version: &str) -> PathBuf {
    let package = package_of(place, version, Path::new(env!("CARGO_BIN_EXE_evenkeel")));
    bundle_of(place, &package, version)
}

/// Who signs bundles.
pub fn key(place: &Place) {
    std::fs::create_dir_all(place.file("keys")).unwrap();
    run(Command::new("minisign")
        .args(["-G", "-W", "-f", "-p"])
        .arg(place.file("keys/maker.pub"))
        .arg("-s")
        .arg(place.file("secret.key")));
}

pub fn bundle_of(place: &Place, package: &Path, version: &str) -> PathBuf {
    let out = place.file(&format!("evenkeel-{version}.bundle"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/bundle.sh");
    run(Command::new("sh").arg(script).arg(&out).arg(place.file("secret.key")).arg(package));
    out
}

/// The command line, on a machine whose packages are unpacked into the place.
fn upgrade(evenkeel: &Evenkeel, place: &Place, arguments: &[&str]) -> (i32, String) {
    let path = format!("{}:{}", place.file("bin").display(), std::env::var("PATH").unwrap());
    let output = Command::new(env!("CARGO_BIN_EXE_evenkeel"))
        .env("PATH", path)
        .env("EVENKEEL_SOCKET", evenkeel.socket())
        .args(["upgrade", "--keys", &place.file("keys").display().to_string()])
        .args(arguments)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_bundle_is_installed_and_connections_are_kept() {
    if !require(&["minisign", "dpkg-deb", "dpkg"]) {
        return;
    }
    let place = Place::new("upgrade");
    std::fs::create_dir_all(place.file("bin")).unwrap();
    key(&place);
    // What dpkg would do to the whole machine.
    let root = place.file("root");
    let dpkg = format!(
        "#!/bin/sh\n[ \"$1\" = --print-architecture ] && exec /usr/bin/dpkg \"$1\"\nfor file; do :; done\necho \"$@\" >>{}\nexec dpkg-deb -x \"$file\" {}\n",
        place.file("dpkg.log").display(),
        root.display()
    );
    let file = place.write("bin/dpkg", dpkg);
    run(Command::new("chmod").arg("755").arg(file));
    let program = root.join("usr/sbin/evenkeel");
    std::fs::create_dir_all(program.parent().unwrap()).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_evenkeel"), &program).unwrap();
    let _server = Scripted::named(place.at(9001), "s1");
    let config = service("web", "tcp", place.at(8080), &[place.at(9001)], "");
    let evenkeel = Evenkeel::start(&program.display().to_string(), &place, &config);
    let touched = || place.file("dpkg.log").exists();

    let same = bundle(&place, VERSION).display().to_string();
    let next = bundle(&place, "99.0.0").display().to_string();
    let (code, said) = upgrade(&evenkeel, &place, &["--check", &next]);
    assert!(code == 0 && said.contains("99.0.0") && said.contains("maker.pub"), "{said}");
    let (code, said) = upgrade(&evenkeel, &place, &[&same]);
    assert!(code == 1 && said.contains("is not newer"), "{said}");
    // A byte of the package changes.
    let mut bytes = std::fs::read(&next).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let broken = place.write("broken.bundle", &bytes).display().to_string();
    let (code, said) = upgrade(&evenkeel, &place, &[&broken]);
    assert!(code == 1 && said.contains("not what was signed"), "{said}");
    assert!(!touched(), "nothing has changed");

    // The same version again is the only one that this test can build: the program knows its own.
    let mut connection = Connection::open(place.at(8080));
    assert_eq!(connection.get("/").status, 200);
    let starts = || evenkeel.log().matches("INFO running").count();
    assert_eq!(starts(), 1);
    let (code, said) = upgrade(&evenkeel, &place, &["--older", &same]);
    assert!(code == 0 && said.contains(&format!("this node runs {VERSION}")), "{said}\n{}", evenkeel.log());
    assert!(touched());
    assert_eq!(connection.get("/").status, 200, "the connection of before goes on");
    assert_eq!(evenkeel_testbed::get(place.at(8080), "/").status, 200, "new ones are served");
    eventually("a second process runs", Duration::from_secs(20), || starts() == 2);
    let log = evenkeel.log();
    let number = log.split("process=").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    let pid = rustix::process::Pid::from_raw(number.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}
