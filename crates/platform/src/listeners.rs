//! Who else listens where this program does. Programs of one user may share a port (`SO_REUSEPORT`), and the kernel
//! then deals connections out to all of them.
//!
//! In: the kernel's lists of sockets and of this process's files. Never: the cost of a look at connections, however
//! many there are; the kernel lists listening sockets first.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const LISTENING: &str = "0A";
/// A UDP socket that anybody may send to.
const UNCONNECTED: &str = "07";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Listener {
    udp: bool,
    address: SocketAddr,
    inode: u64,
}

/// Looks every now and then; remembers what it has seen.
#[derive(Default)]
pub struct Listeners {
    all: BTreeSet<Listener>,
    /// Sockets of others that this process had part in, as one that it was started by has left them.
    shared: BTreeSet<Listener>,
}

impl Listeners {
    /// Sentences about sockets of others on ports of this program that were there at the last look as well: a
    /// process that hands over and the next one may both have some for a moment.
    pub fn refresh(&mut self) -> Vec<String> {
        let all = listeners();
        if all != self.all {
            self.shared = of_others(&all, &own_sockets());
            let seen = std::mem::replace(&mut self.all, all);
            return self.shared.intersection(&seen).map(sentence).collect();
        }
        self.shared.iter().map(sentence).collect()
    }
}

fn of_others(all: &BTreeSet<Listener>, own: &BTreeSet<u64>) -> BTreeSet<Listener> {
    let (own, others): (Vec<Listener>, Vec<Listener>) = all.iter().partition(|l| own.contains(&l.inode));
    let meets = |a: &Listener, b: &Listener| {
        a.udp == b.udp && a.address.port() == b.address.port() && overlap(a.address.ip(), b.address.ip())
    };
    others.into_iter().filter(|other| own.iter().any(|one| meets(one, other))).collect()
}

/// Whether packets to one address may come to a socket on the other.
fn overlap(a: IpAddr, b: IpAddr) -> bool {
    let (a, b) = (a.to_canonical(), b.to_canonical());
    a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()))
}

fn sentence(of: &Listener) -> String {
    let protocol = if of.udp { "UDP" } else { "TCP" };
    let who = owner(of.inode).unwrap_or_else(|| "another program".into());
    let what = if of.udp { "messages" } else { "connections" };
    format!(
        "{who} listens on {protocol} {} beside this one and gets {what} that were meant for it",
        of.address
    )
}

/// The process that has a socket, where this one may look.
fn owner(inode: u64) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut numbers = processes.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    numbers.find_map(|process| {
        let mut files = std::fs::read_dir(format!("/proc/{process}/fd")).ok()?.flatten();
        files.find(|file| std::fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == &*wanted))?;
        let name = std::fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
        Some(format!("{} (process {process})", name.trim()))
    })
}

fn own_sockets() -> BTreeSet<u64> {
    let Ok(files) = std::fs::read_dir("/proc/self/fd") else { return BTreeSet::new() };
    let links = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
    let inode = |link: std::path::PathBuf| {
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()
    };
    links.filter_map(inode).collect()
}

fn listeners() -> BTreeSet<Listener> {
    let mut all = BTreeSet::new();
    for (name, udp, state) in [
        ("tcp", false, LISTENING),
        ("tcp6", false, LISTENING),
        ("udp", true, UNCONNECTED),
        ("udp6", true, UNCONNECTED),
    ] {
        let Ok(file) = File::open(format!("/proc/self/net/{name}")) else { continue };
        for line in BufReader::new(file).lines().map_while(Result::ok).skip(1) {
            let Some((address, in_state, inode)) = parse(&line) else { continue };
            if in_state == state {
                all.insert(Listener { udp, address, inode });
            } else if !udp {
                break;
            }
        }
    }
    all
}

/// A line of `/proc/net/tcp`: the local address, the state, the inode.
fn parse(line: &str) -> Option<(SocketAddr, &str, u64)> {
    let mut words = line.split_whitespace();
    let (address, state) = (words.nth(1)?, words.nth(1)?);
    let (address, port) = address.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok();
    // Words of the machine's byte order, each printed as a number.
    let ip: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?.to_ne_bytes()).into(),
        32 => {
            let mut bytes = [0; 16];
            for at in 0..4 {
                bytes[at * 4..at * 4 + 4].copy_from_slice(&word(at)?.to_ne_bytes());
            }
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    let port = u16::from_str_radix(port, 16).ok()?;
    Some((SocketAddr::new(ip, port), state, words.nth(5)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_read() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0000000000000000 100 0 0 10 0";
        assert_eq!(parse(line), Some(("127.0.0.1:8080".parse().unwrap(), "0A", 4242)));
        let line = "   1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7 1";
        assert_eq!(parse(line), Some(("[::1]:80".parse().unwrap(), "0A", 7)));
        for odd in ["", "a", "0: zz:1 x 0A", "0: 0100007F 0 0A 1 2 3 4 5 6"] {
            assert_eq!(parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn who_shares_a_port_is_found_and_own_sockets_are_not() {
        let listener = |text: &str, udp: bool, inode| Listener { udp, address: text.parse().unwrap(), inode };
        let check = |own: &str, other: &str, udp: bool, shared: bool| {
            let all = BTreeSet::from([listener(own, false, 1), listener(other, udp, 2)]);
            assert_eq!(of_others(&all, &BTreeSet::from([1])).len(), usize::from(shared), "{own} {other}");
            assert!(of_others(&all, &BTreeSet::from([1, 2])).is_empty(), "both are its own");
        };
        check("192.0.2.1:80", "192.0.2.1:80", false, true);
        check("192.0.2.1:80", "0.0.0.0:80", false, true);
        check("0.0.0.0:80", "192.0.2.1:80", false, true);
        check("[::]:80", "[2001:db8::1]:80", false, true);
        check("192.0.2.1:80", "[::ffff:192.0.2.1]:80", false, true);
        check("192.0.2.1:80", "192.0.2.1:80", true, false);
        check("192.0.2.1:80", "192.0.2.1:81", false, false);
        check("192.0.2.1:80", "192.0.2.2:80", false, false);
        check("0.0.0.0:80", "[2001:db8::1]:80", false, false);
    }

    #[test]
    fn own_listeners_are_seen() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = std::net::UdpSocket::bind("[::1]:0").unwrap();
        let (all, own) = (listeners(), own_sockets());
        for address in [listener.local_addr().unwrap(), socket.local_addr().unwrap()] {
            let seen = all.iter().find(|l| l.address == address).unwrap_or_else(|| panic!("{address}"));
            assert!(own.contains(&seen.inode));
            assert!(owner(seen.inode).is_some_and(|who| who.contains(&std::process::id().to_string())));
        }
    }
}
