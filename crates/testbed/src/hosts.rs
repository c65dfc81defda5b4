//! Hosts of their own: network namespaces on virtual switches, ended with the test.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::{Output, Place, Process, command};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A network of hosts. The switch is a namespace too, with a bridge for each segment.
pub struct Hosts {
    tag: String,
    hosts: Vec<&'static str>,
    segments: Vec<&'static str>,
}

impl Hosts {
    /// `None`, with a printed reason, where this machine or user has no namespaces.
    pub fn new() -> Option<Hosts> {
        if !rustix::process::getuid().is_root() {
            println!("SKIPPED: needs root and network namespaces");
            return None;
        }
        let number = NUMBER.fetch_add(1, Relaxed);
        let tag = format!("ek{}x{number}", std::process::id());
        let mut hosts = Hosts { tag, hosts: Vec::new(), segments: Vec::new() };
        if command("ip", &["netns", "add", &hosts.name("switch")]).code != 0 {
            assert!(std::env::var_os("CI").is_none(), "no namespaces as root");
            println!("SKIPPED: this machine has no network namespaces");
            return None;
        }
        hosts.hosts.push("switch");
        Some(hosts)
    }

    /// The namespace of a host.
    pub fn name(&self, host: &str) -> String {
        format!("{}{host}", self.tag)
    }

    /// Adds a host with interfaces e0, e1, … in these segments, each with its addresses.
    pub fn add(&mut self, host: &'static str, links: &[(&'static str, &[&str])]) {
        let (own, switch) = (self.name(host), self.name("switch"));
        self.must("ip", &["netns", "add", &own]);
        self.hosts.push(host);
        self.ip(host, &["link", "set", "lo", "up"]);
        for (number, (segment, addresses)) in links.iter().enumerate() {
            if !self.segments.contains(segment) {
                self.ip("switch", &["link", "add", segment, "type", "bridge"]);
                self.ip("switch", &["link", "set", segment, "up"]);
                self.segments.push(segment);
            }
            let (inner, outer) = (format!("e{number}"), format!("{host}{number}"));
            let pair = ["type", "veth", "peer", "name", &outer, "netns", &switch];
            self.must("ip", &[&["link", "add", &inner, "netns", &own][..], &pair].concat());
            self.ip("switch", &["link", "set", &outer, "master", segment, "up"]);
            // Virtual interfaces leave checksums and segmenting to hardware that is not there.
            for (name, end) in [(&own, &inner), (&switch, &outer)] {
                let off = ["tx", "off", "tso", "off", "gso", "off", "gro", "off"];
                command("ip", &[&["netns", "exec", name, "ethtool", "-K", end][..], &off].concat());
            }
            for address in *addresses {
                let nodad: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
                self.ip(host, &[&["addr", "add", address, "dev", &inner][..], nodad].concat());
            }
            self.ip(host, &["link", "set", &inner, "up"]);
        }
    }

    /// A cable between two hosts, without a switch: an interface of the same name at both ends.
    pub fn join(&self, link: &str, ends: [(&str, &[&str]); 2]) {
        let [(one, _), (other, _)] = ends;
        let (one, other) = (self.name(one), self.name(other));
        let pair = ["type", "veth", "peer", "name", link, "netns", &other];
        self.must("ip", &[&["link", "add", link, "netns", &one][..], &pair].concat());
        for (host, addresses) in ends {
            for address in addresses {
                self.ip(host, &["addr", "add", address, "dev", link]);
            }
            self.ip(host, &["link", "set", link, "up"]);
        }
    }

    /// Does something on a thread that is in a host's namespace.
    pub fn inside<T: Send>(&self, host: &str, act: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.name(host));
        std::thread::scope(|scope| {
            let there = scope.spawn(move || {
                let namespace = std::fs::File::open(path).unwrap();
                let kind = rustix::thread::LinkNameSpaceType::Network;
                rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(kind)).unwrap();
                act()
            });
            there.join().unwrap()
        })
    }

    /// Lets frames that a host's driver sends back out pass on the switch's end: native XDP on a
    /// virtual pair needs a program on both.
    pub fn allow_native(&self, place: &Place, host: &str, links: usize) {
        let object = self.passing(place);
        for number in 0..links {
            let end = format!("{host}{number}");
            self.ip("switch", &["link", "set", &end, "xdpdrv", "object", &object, "section", "xdp"]);
        }
    }

    /// The same for one end of a cable.
    pub fn take_native(&self, place: &Place, host: &str, link: &str) {
        let object = self.passing(place);
        self.ip(host, &["link", "set", link, "xdpdrv", "object", &object, "section", "xdp"]);
    }

    fn passing(&self, place: &Place) -> String {
        let source = "int pass(void *context) __attribute__((section(\"xdp\")));\nint pass(void *context) { return 2; }\nchar LICENSE[] __attribute__((section(\"license\"))) = \"GPL\";\n";
        let source = place.write("pass.c", source).display().to_string();
        let object = place.file("pass.o").display().to_string();
        self.must("clang", &["-O2", "-target", "bpf", "-g", "-c", &source, "-o", &object]);
        object
    }

    pub fn ip(&self, host: &str, arguments: &[&str]) {
        self.must("ip", &[&["-n", &self.name(host)], arguments].concat());
    }

    /// Ends every process in a host's namespace, by pid: also those that processes of a test started and
    /// left, such as a daemon's successor and its guard.
    fn end_processes(&self, host: &str) {
        for _ in 0..100 {
            let listed = command("ip", &["netns", "pids", &self.name(host)]).out;
            let own = std::process::id() as i32;
            let pids: Vec<i32> = listed.lines().filter_map(|l| l.trim().parse().ok()).collect();
            let others: Vec<_> = pids.into_iter().filter(|pid| *pid != own).collect();
            if others.is_empty() {
                return;
            }
            for pid in others.into_iter().filter_map(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    fn must(&self, program: &str, arguments: &[&str]) {
        let output = command(program, arguments);
        assert_eq!(output.code, 0, "{program} {arguments:?}: {}{}", output.out, output.err);
    }

    pub fn run(&self, host: &str, program: &str, arguments: &[&str]) -> Output {
        command("ip", &[&["netns", "exec", &self.name(host), program], arguments].concat())
    }

    pub fn start(&self, host: &str, program: &str, arguments: &[&str], log: &Path) -> Process {
        let log = std::fs::File::create(log).unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(host), program]).args(arguments);
        let output = log.try_clone().unwrap();
        Process::start(command.stdin(Stdio::null()).stdout(output).stderr(log))
    }

    /// nginx that answers `HOST CLIENT-ADDRESS PORT` on these ports of every address, takes uploads
    /// and serves a large file, at /slow in six seconds, at /drip in minutes.
    pub fn nginx(&self, place: &Place, host: &str, ports: &[u16]) -> Process {
        let folder: PathBuf = place.folder().join(format!("nginx-{host}"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("large"), vec![b'x'; 4 << 20]).unwrap();
        let listen: String = ports.iter().map(|p| format!("listen {p}; listen [::]:{p};")).collect();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("{kind}_temp_path {}/{kind};", folder.display()))
            .collect();
        let text = format!(
            "daemon off; user root; pid {0}/pid; error_log {0}/error.log; events {{}}\nhttp {{ access_log off; client_max_body_size 0; keepalive_requests 1000000; {temporary}\nserver {{ {listen} root {0}; location = / {{ return 200 \"{host} $remote_addr $server_port\"; }} location = /slow {{ alias {0}/large; limit_rate 700k; }} location = /drip {{ alias {0}/large; limit_rate 20k; }} location = /upload {{ proxy_pass http://127.0.0.1:1; proxy_request_buffering on; error_page 502 = /done; }} location = /done {{ return 200 \"took $request_length\"; }} }} }}\n",
            folder.display()
        );
        let file = folder.join("nginx.conf");
        std::fs::write(&file, text).unwrap();
        self.start(host, "nginx", &["-c", &file.display().to_string()], &folder.join("log"))
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in &self.hosts {
            self.end_processes(host);
            command("ip", &["netns", "del", &self.name(host)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_processes_left_behind_in_a_namespace_ends_with_it() {
        let Some(mut hosts) = Hosts::new() else { return };
        hosts.add("h", &[]);
        let started = hosts.run("h", "sh", &["-c", "setsid sleep 600 >/dev/null 2>&1 & echo $!"]);
        let status = format!("/proc/{}/status", started.out.trim());
        assert!(std::fs::read_to_string(&status).unwrap().contains("Name:"));
        drop(hosts);
        // An ended process that nobody has waited for yet is a zombie.
        let is_over = std::fs::read_to_string(&status).map_or(true, |text| text.contains("State:\tZ"));
        assert!(is_over);
    }
}
