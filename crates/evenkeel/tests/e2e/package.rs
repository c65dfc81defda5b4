//! The Debian package, in a clean Debian.

use std::path::Path;
use std::process::{Command, Output};

use evenkeel_testbed::{Place, eventually, require, skip};

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}\n{}{}", text(&output.stdout), text(&output.stderr));
    output
}

#[test]
fn it_is_installed_started_and_removed_in_a_clean_debian() {
    if !require(&["debootstrap", "dpkg-deb", "unshare"]) {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return skip("root, for debootstrap");
    }
    let place = Place::new("package");
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let made = run(Command::new("sh")
        .arg(project.join("scripts/deb.sh"))
        .arg(place.folder())
        .arg(env!("CARGO_BIN_EXE_evenkeel")));
    let package = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    let root = place.file("root");
    let bootstrap = Command::new("debootstrap")
        .args(["--variant=minbase", "--include=libelf1,curl", "bookworm"])
        .arg(&root)
        .arg("http://deb.debian.org/debian")
        .output()
        .unwrap();
    if !bootstrap.status.success() {
        return skip("Debian's mirror, for debootstrap");
    }
    std::fs::copy(&package, root.join("evenkeel.deb")).unwrap();
    // Its own network, processes and mounts: nothing outlives the shell in it.
    let inside = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child"]).arg("chroot").arg(&root);
        command.args(["sh", "-ec", &format!("mount -t proc proc /proc; {script}")]);
        String::from_utf8_lossy(&run(&mut command).stdout).into_owned()
    };
    inside("dpkg -i /evenkeel.deb");
    for file in [
        "usr/sbin/evenkeel",
        "lib/systemd/system/evenkeel.service",
        "usr/share/man/man1/evenkeel.1.gz",
        "usr/share/man/man1/evenkeel-commit.1.gz",
        "usr/share/bash-completion/completions/evenkeel",
        "usr/share/doc/evenkeel/configuration.md",
    ] {
        assert!(root.join(file).exists(), "{file}");
    }
    let told = inside(
        "evenkeel check /etc/evenkeel/evenkeel.toml; ip link set lo up 2>/dev/null || true; \
         evenkeel run & p=$!; until evenkeel status >/dev/null 2>&1; do sleep 0.1; done; \
         echo 'correct horse battery' | evenkeel user add ann --role admin --password-stdin; \
         evenkeel --json status; evenkeel cert; kill $p; wait $p",
    );
    assert!(
        told.contains("ann") && told.contains("\"revision\": 1") && told.contains("the web UI"),
        "{told}"
    );
    // The configuration is the administrator's; all else goes.
    std::fs::write(root.join("etc/evenkeel/evenkeel.toml"), "# mine\n").unwrap();
    inside("dpkg -i /evenkeel.deb");
    assert_eq!(std::fs::read_to_string(root.join("etc/evenkeel/evenkeel.toml")).unwrap(), "# mine\n");
    inside("dpkg -P evenkeel");
    eventually("all is gone", std::time::Duration::from_secs(1), || {
        !root.join("usr/sbin/evenkeel").exists()
            && !root.join("var/lib/evenkeel").exists()
            && !root.join("etc/evenkeel/evenkeel.toml").exists()
    });
}
