//! Sockets of this machine (`AF_UNIX`) that are connected to by an address that stands for them, so that all else
//! has to do with addresses only.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// By the address that stands for it: a path, or `abns@NAME`.
static PLACES: RwLock<BTreeMap<SocketAddr, String>> = RwLock::new(BTreeMap::new());

/// The address that stands for a place, out of those that lead nowhere (RFC 6666).
pub fn stand_in(place: &str) -> SocketAddr {
    let mut hasher = DefaultHasher::new();
    place.hash(&mut hasher);
    let hash = hasher.finish();
    let part = |at: u32| (hash >> (16 * at)) as u16;
    let ip = Ipv6Addr::new(0x100, 0, 0, 0, part(0), part(1), part(2), part(3));
    SocketAddr::new(IpAddr::V6(ip), 1)
}

/// From now on connections to [`stand_in`] go to the place: `/PATH`, `unix@/PATH` or `abns@NAME`.
pub fn reach(place: &str) {
    let path = place.strip_prefix("unix@").unwrap_or(place);
    let mut places = PLACES.write().unwrap_or_else(PoisonError::into_inner);
    places.insert(stand_in(place), path.to_owned());
}

/// A connection to the place that an address stands for; `None` for all other addresses, which costs a look at
/// their first bytes.
pub fn connect_local(address: SocketAddr) -> Option<io::Result<OwnedFd>> {
    let IpAddr::V6(ip) = address.ip() else { return None };
    if address.port() != 1 || ip.segments()[..4] != [0x100, 0, 0, 0] {
        return None;
    }
    let place = PLACES.read().unwrap_or_else(PoisonError::into_inner).get(&address)?.clone();
    Some(open(&place))
}

fn open(place: &str) -> io::Result<OwnedFd> {
    let address = match place.strip_prefix("abns@") {
        Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes())?,
        None => SocketAddrUnix::new(Path::new(place))?,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // It is there at once, or its queue is full, which is as if nobody listened.
    connect(&fd, &address)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn addresses_that_stand_for_sockets_lead_there() {
        let folder = std::env::temp_dir();
        let path = folder.join(format!("evenkeel-local-{}", std::process::id())).display().to_string();
        let _ = std::fs::remove_file(&path);
        let name = format!("evenkeel-local-{}", std::process::id());
        let _file = UnixListener::bind(&path).unwrap();
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let _name = UnixListener::bind_addr(&address).unwrap();
        for place in [path.clone(), format!("unix@{path}"), format!("abns@{name}")] {
            assert!(connect_local(stand_in(&place)).is_none(), "nobody has asked for it");
            reach(&place);
            assert!(connect_local(stand_in(&place)).unwrap().is_ok(), "{place}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(connect_local(stand_in(&path)).unwrap().is_err());
        for other in ["127.0.0.1:1", "[::1]:1", "[100::1]:2"] {
            assert!(connect_local(other.parse().unwrap()).is_none());
        }
    }
}
