//! Makes this machine as `[node]` has it: files that belong to Evenkeel, and the programs that read them.
//!
//! In: checked settings. Out: what was wrong. Never: a file that is not its own, but for the host name, the time
//! zone and whether the SSH server runs; what those were before is kept, and comes back when they are no longer
//! named.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use evenkeel_model::{InterfaceKind, NodeSettings};
use evenkeel_node::{FilePlace, NodeFile, OWN_PLACES, files, restarts};

/// What the machine had before, in lines `KEY=VALUE`.
const FORMER: &str = "/var/lib/evenkeel-node/former";
const LOCK: &str = "/run/evenkeel-node.lock";

#[derive(Clone, Debug)]
pub struct Machine {
    root: PathBuf,
    /// Programs of the system are run; in a folder for tests they are written into a file.
    is_real: bool,
}

/// What changed on the disk.
#[derive(Debug, Default)]
struct Changed {
    places: Vec<FilePlace>,
    /// Interfaces whose device is made anew or goes.
    gone_devices: Vec<String>,
    /// Addresses in files that are gone: (interface, address).
    gone_addresses: Vec<(String, String)>,
}

impl Machine {
    pub fn here() -> Machine {
        Machine { root: "/".into(), is_real: true }
    }

    /// A folder in place of `/`.
    pub fn below(root: PathBuf) -> Machine {
        Machine { root, is_real: false }
    }

    fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// Whether it could be applied. Changes nothing.
    pub fn check(&self, node: &NodeSettings) -> Result<(), String> {
        let made: Vec<&str> = node
            .interfaces
            .iter()
            .filter(|i| i.kind != InterfaceKind::Present)
            .map(|i| i.name.as_str())
            .collect();
        for interface in &node.interfaces {
            let needed: Vec<&String> = match &interface.kind {
                InterfaceKind::Present => vec![&interface.name],
                InterfaceKind::Vlan { on, .. } => vec![on],
                InterfaceKind::Bond { members, .. } => members.iter().collect(),
            };
            for name in needed {
                if !made.contains(&name.as_str()) && !self.path("/sys/class/net").join(name).exists() {
                    return Err(format!("there is no interface {name} on this machine"));
                }
                self.managed_by_others(name)?;
            }
        }
        let needs = |wanted: bool, path: &str, what: &str| match !wanted || self.path(path).exists() {
            true => Ok(()),
            false => Err(format!("{what}; {path} is missing")),
        };
        let names = node.dns.is_some() || node.search.is_some();
        needs(
            !node.interfaces.is_empty(),
            "/lib/systemd/systemd-networkd",
            "interfaces are set by systemd-networkd",
        )?;
        needs(
            names,
            "/lib/systemd/systemd-resolved",
            "name servers are set by systemd-resolved: apt install systemd-resolved",
        )?;
        needs(
            node.ntp.is_some(),
            "/lib/systemd/systemd-timesyncd",
            "time servers are set by systemd-timesyncd: apt install systemd-timesyncd",
        )?;
        let has_keys = node.ssh_keys.as_ref().is_some_and(|keys| !keys.is_empty());
        needs(has_keys, "/usr/sbin/sshd", "SSH keys need the SSH server: apt install openssh-server")?;
        if let Some(zone) = &node.time_zone {
            needs(true, &format!("/usr/share/zoneinfo/{zone}"), "there is no such time zone here")?;
        }
        Ok(())
    }

    /// Two that write to one interface undo each other's work.
    fn managed_by_others(&self, interface: &str) -> Result<(), String> {
        let mut texts = vec![self.path("/etc/network/interfaces")];
        if let Ok(more) = fs::read_dir(self.path("/etc/network/interfaces.d")) {
            texts.extend(more.flatten().map(|entry| entry.path()));
        }
        for path in texts {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let names_it = |line: &str| {
                let mut words = line.split_whitespace();
                words.next() == Some("iface") && words.next() == Some(interface)
            };
            if text.lines().any(names_it) {
                return Err(format!("{interface} is set in {}: take it out there first", path.display()));
            }
        }
        if self.path("/run/NetworkManager/devices").exists() {
            return Err("NetworkManager runs on this machine, and sets its interfaces".into());
        }
        Ok(())
    }

    /// Makes it so, as far as that goes; says what went wrong. What is so already is not touched.
    pub fn apply(&self, node: Option<&NodeSettings>) -> Result<(), String> {
        let _lock = self.lock();
        let none = NodeSettings::default();
        let node = node.unwrap_or(&none);
        let mut wrong = Vec::new();
        let mut former = self.former();
        self.note_addresses(node, &mut former);
        let changed = self.write(&files(node), &mut wrong);
        self.tell_network(node, &changed, &former, &mut wrong);
        former.retain(|key, _| {
            node.interfaces.iter().any(|i| *key == addresses_key(&i.name)) || !is_addresses(key)
        });
        let mut restarted: Vec<&str> = changed.places.iter().filter_map(|p| restarts(*p)).collect();
        restarted.dedup();
        restarted.into_iter().for_each(|unit| self.run("systemctl", &["restart", unit], &mut wrong));
        self.name_host(node, &mut former, &mut wrong);
        self.set_zone(node, &mut former, &mut wrong);
        self.switch_ssh(node, &changed, &mut former, &mut wrong);
        if let Err(why) = self.keep_former(&former) {
            wrong.push(why);
        }
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(wrong.join("; ")),
        }
    }

    /// One at a time; gone when dropped.
    fn lock(&self) -> Option<fs::File> {
        let file = fs::File::create(self.path(LOCK)).ok()?;
        file.lock().ok()?;
        Some(file)
    }

    /// The files as they shall be, and none of ours beside them.
    fn write(&self, wanted: &[NodeFile], wrong: &mut Vec<String>) -> Changed {
        let mut changed = Changed::default();
        for (place, folder, prefix) in OWN_PLACES {
            let there = fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
            for entry in there {
                let Ok(name) = entry.file_name().into_string() else { continue };
                let path = format!("{folder}/{name}");
                let is_ours = name.starts_with(prefix) && entry.path().is_file();
                if !is_ours || wanted.iter().any(|file| file.path == path) {
                    continue;
                }
                changed.note_removed(&name, prefix, &fs::read_to_string(entry.path()).unwrap_or_default());
                match fs::remove_file(entry.path()) {
                    Ok(()) => changed.places.push(*place),
                    Err(e) => wrong.push(format!("{path} cannot be removed: {e}")),
                }
            }
        }
        for file in wanted {
            let path = self.path(&file.path);
            let before = fs::read_to_string(&path).ok();
            if before.as_deref() == Some(file.text.as_str()) {
                continue;
            }
            if before.is_some() && file.path.ends_with(".netdev") {
                changed.note_device(&file.path);
            }
            match put(&path, &file.text) {
                Ok(()) => changed.places.push(file.place),
                Err(e) => wrong.push(format!("{} cannot be written: {e}", file.path)),
            }
        }
        changed.places.sort_unstable();
        changed.places.dedup();
        changed
    }

    /// What an interface has when it is named for the first time is not ours to take away later.
    fn note_addresses(&self, node: &NodeSettings, former: &mut BTreeMap<String, String>) {
        for interface in &node.interfaces {
            let own = format!("/etc/systemd/network/05-evenkeel-{}.network", interface.name);
            if self.path(&own).exists() {
                continue;
            }
            let shown = match self.is_real {
                true => evenkeel_platform::run("ip", &["-o", "address", "show", "dev", &interface.name], ""),
                false => Ok(fs::read_to_string(self.path("/shown-by-ip")).unwrap_or_default()),
            };
            let shown = shown.unwrap_or_default();
            let addresses = shown.lines().filter_map(|line| {
                let mut words = line.split_whitespace().skip_while(|word| !word.starts_with("inet"));
                words.nth(1)
            });
            former.insert(addresses_key(&interface.name), addresses.collect::<Vec<_>>().join(" "));
        }
    }

    fn tell_network(
        &self,
        node: &NodeSettings,
        changed: &Changed,
        former: &BTreeMap<String, String>,
        wrong: &mut Vec<String>,
    ) {
        if !changed.places.contains(&FilePlace::Network) {
            return;
        }
        for device in &changed.gone_devices {
            self.run("networkctl", &["delete", device], &mut Vec::new());
        }
        // Where no other file has the interface, nobody would take them away.
        for (interface, address) in &changed.gone_addresses {
            let before = former.get(&addresses_key(interface)).map_or("", String::as_str);
            if before.split(' ').any(|known| known == address) {
                continue;
            }
            self.run("ip", &["address", "delete", address, "dev", interface], &mut Vec::new());
        }
        if !node.interfaces.is_empty() {
            self.run("systemctl", &["enable", "--now", "systemd-networkd.service"], wrong);
        }
        self.run("networkctl", &["reload"], wrong);
    }

    fn name_host(&self, node: &NodeSettings, former: &mut BTreeMap<String, String>, wrong: &mut Vec<String>) {
        let now = fs::read_to_string(self.path("/etc/hostname")).unwrap_or_default().trim().to_owned();
        if let Some(name) = following("host-name", node.host_name.as_ref(), &now, former)
            && name != now
        {
            self.run("hostnamectl", &["set-hostname", &name], wrong);
        }
    }

    fn set_zone(&self, node: &NodeSettings, former: &mut BTreeMap<String, String>, wrong: &mut Vec<String>) {
        let link = fs::read_link(self.path("/etc/localtime")).unwrap_or_default();
        let link = link.to_string_lossy();
        let now = link.split_once("zoneinfo/").map_or("UTC", |(_, zone)| zone).to_owned();
        if let Some(zone) = following("time-zone", node.time_zone.as_ref(), &now, former)
            && zone != now
        {
            self.run("timedatectl", &["set-timezone", &zone], wrong);
        }
    }

    /// The server runs where there is a key; without one it is as it was.
    fn switch_ssh(
        &self,
        node: &NodeSettings,
        changed: &Changed,
        former: &mut BTreeMap<String, String>,
        wrong: &mut Vec<String>,
    ) {
        let wanted = node.ssh_keys.as_ref().is_some_and(|keys| !keys.is_empty());
        if wanted && !former.contains_key("ssh") {
            let enabled = self.path("/etc/systemd/system/multi-user.target.wants/ssh.service").exists();
            former.insert("ssh".into(), if enabled { "on" } else { "off" }.into());
            if !enabled {
                self.run("systemctl", &["enable", "--now", "ssh.service"], wrong);
                return;
            }
        }
        if !wanted && former.remove("ssh").as_deref() == Some("off") {
            self.run("systemctl", &["disable", "--now", "ssh.service"], wrong);
        } else if changed.places.contains(&FilePlace::Ssh) {
            // Where it does not run it reads the file when it starts.
            self.run("systemctl", &["try-reload-or-restart", "ssh.service"], wrong);
        }
    }

    fn former(&self) -> BTreeMap<String, String> {
        let text = fs::read_to_string(self.path(FORMER)).unwrap_or_default();
        text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect()
    }

    fn keep_former(&self, former: &BTreeMap<String, String>) -> Result<(), String> {
        let path = self.path(FORMER);
        if *former == self.former() {
            return Ok(());
        }
        let text: String = former.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        put(&path, &text).map_err(|e| format!("{FORMER} cannot be written: {e}"))
    }

    fn run(&self, program: &str, arguments: &[&str], wrong: &mut Vec<String>) {
        if !self.is_real {
            let line = format!("{program} {}\n", arguments.join(" "));
            let path = self.path("/commands");
            let before = fs::read_to_string(&path).unwrap_or_default();
            let _ = fs::write(path, before + &line);
            return;
        }
        if let Err(why) = evenkeel_platform::run(program, arguments, "") {
            wrong.push(why);
        }
    }
}

fn addresses_key(interface: &str) -> String {
    format!("addresses.{interface}")
}

fn is_addresses(key: &str) -> bool {
    key.starts_with("addresses.")
}

impl Changed {
    fn note_device(&mut self, path: &str) {
        let name = path.rsplit('/').next().unwrap_or(path);
        let name = name.trim_start_matches("05-evenkeel-").trim_end_matches(".netdev");
        self.gone_devices.push(name.to_owned());
    }

    fn note_removed(&mut self, file: &str, prefix: &str, text: &str) {
        let name = file.strip_prefix(prefix).unwrap_or(file);
        if name.ends_with(".netdev") {
            self.note_device(file);
        } else if let Some(interface) = name.strip_suffix(".network") {
            let addresses = text.lines().filter_map(|line| line.strip_prefix("Address="));
            self.gone_addresses.extend(addresses.map(|address| (interface.to_owned(), address.to_owned())));
        }
    }
}

/// What a value shall be: the named one, or the one that was there before the first was named.
fn following(
    key: &str,
    wanted: Option<&String>,
    now: &str,
    former: &mut BTreeMap<String, String>,
) -> Option<String> {
    match wanted {
        Some(wanted) => {
            former.entry(key.into()).or_insert_with(|| now.to_owned());
            Some(wanted.clone())
        }
        None => former.remove(key).filter(|value| !value.is_empty()),
    }
}

/// A whole file, readable by everybody as those of the system are.
fn put(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    evenkeel_files::write_atomically(path, text.as_bytes())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let folder = std::env::temp_dir().join(format!("evenkeel-node-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            for path in ["sys/class/net/e0", "lib/systemd", "run", "etc/network"] {
                fs::create_dir_all(folder.join(path)).unwrap();
            }
            fs::write(folder.join("lib/systemd/systemd-networkd"), "").unwrap();
            fs::write(folder.join("etc/hostname"), "before\n").unwrap();
            Folder(folder)
        }

        /// The programs that were run since this was asked last.
        fn commands(&self) -> Vec<String> {
            let path = self.0.join("commands");
            let text = fs::read_to_string(&path).unwrap_or_default();
            let _ = fs::remove_file(path);
            text.lines().map(str::to_owned).collect()
        }

        fn apply(&self, text: &str) -> Vec<String> {
            let node = evenkeel_config::read(text).unwrap().node;
            Machine::below(self.0.clone()).apply(node.as_ref()).unwrap();
            self.commands()
        }

        fn check(&self, text: &str) -> Result<(), String> {
            let node = evenkeel_config::read(text).unwrap().node.unwrap();
            Machine::below(self.0.clone()).check(&node)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const ADDRESS: &str = "[[node.interface]]\nname = \"e0\"\naddresses = [\"192.0.2.10/24\"]\n";

    #[test]
    fn files_come_and_go_and_others_stay() {
        let folder = Folder::new("files");
        let network = folder.0.join("etc/systemd/network");
        fs::create_dir_all(&network).unwrap();
        fs::write(network.join("10-other.network"), "other").unwrap();
        assert_eq!(
            folder.apply(ADDRESS),
            ["systemctl enable --now systemd-networkd.service", "networkctl reload"]
        );
        let own = network.join("05-evenkeel-e0.network");
        assert!(fs::read_to_string(&own).unwrap().contains("Address=192.0.2.10/24"));
        assert_eq!(folder.apply(ADDRESS), Vec::<String>::new(), "what is so is not touched");
        assert_eq!(
            folder.apply(""),
            ["ip address delete 192.0.2.10/24 dev e0", "networkctl reload"],
            "the address that we put there goes"
        );
        assert!(!own.exists());
        assert_eq!(fs::read_to_string(network.join("10-other.network")).unwrap(), "other");
        assert_eq!(folder.apply(""), Vec::<String>::new());
    }

    #[test]
    fn an_address_that_was_there_before_stays() {
        let folder = Folder::new("addresses");
        let shown = "2: e0    inet 192.0.2.10/24 brd 192.0.2.255 scope global e0\\       valid_lft forever\n";
        fs::write(folder.0.join("shown-by-ip"), shown).unwrap();
        let two = ADDRESS.replace("/24\"]", "/24\", \"192.0.2.11/24\"]");
        folder.apply(&two);
        assert_eq!(folder.apply(""), ["ip address delete 192.0.2.11/24 dev e0", "networkctl reload"]);
    }

    #[test]
    fn what_was_before_comes_back() {
        let folder = Folder::new("former");
        assert_eq!(folder.apply("[node]\nhost-name = \"lb1\"\n"), ["hostnamectl set-hostname lb1"]);
        fs::write(folder.0.join("etc/hostname"), "lb1\n").unwrap();
        assert_eq!(folder.apply("[node]\nhost-name = \"lb2\"\n"), ["hostnamectl set-hostname lb2"]);
        fs::write(folder.0.join("etc/hostname"), "lb2\n").unwrap();
        assert_eq!(folder.apply("[node]\n"), ["hostnamectl set-hostname before"]);
        let key = format!("[node]\nssh-keys = [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5{}\"]\n", "A".repeat(48));
        assert_eq!(folder.apply(&key), ["systemctl enable --now ssh.service"]);
        let without = folder.apply("[node]\nssh-keys = []\n");
        assert_eq!(without, ["systemctl disable --now ssh.service"], "the last key was taken away");
        assert_eq!(
            fs::read_to_string(folder.0.join("etc/ssh/evenkeel-keys/root")).unwrap().lines().count(),
            1
        );
    }

    #[test]
    fn a_device_that_changes_is_made_anew() {
        let folder = Folder::new("device");
        let vlan =
            |id: u16| format!("{ADDRESS}[[node.interface]]\nname = \"v7\"\nvlan = {id}\non = \"e0\"\n");
        folder.apply(&vlan(7));
        let again = folder.apply(&vlan(8));
        assert!(again.contains(&"networkctl delete v7".to_owned()), "{again:?}");
        let gone = folder.apply(ADDRESS);
        assert!(gone.contains(&"networkctl delete v7".to_owned()), "{gone:?}");
    }

    #[test]
    fn what_cannot_be_is_said_before() {
        let folder = Folder::new("check");
        assert_eq!(folder.check(ADDRESS), Ok(()));
        let missing = folder.check(&ADDRESS.replace("e0", "e9")).unwrap_err();
        assert!(missing.contains("no interface e9"), "{missing}");
        let dns = folder.check("[node]\ndns = [\"192.0.2.53\"]\n").unwrap_err();
        assert!(dns.contains("apt install systemd-resolved"), "{dns}");
        let zone = folder.check("[node]\ntime-zone = \"Mars/Olympus\"\n").unwrap_err();
        assert!(zone.contains("no such time zone"), "{zone}");
        fs::write(folder.0.join("etc/network/interfaces"), "auto e0\niface e0 inet dhcp\n").unwrap();
        let other = folder.check(ADDRESS).unwrap_err();
        assert!(other.contains("/etc/network/interfaces: take it out"), "{other}");
        assert!(folder.commands().is_empty(), "a check runs nothing");
    }
}
