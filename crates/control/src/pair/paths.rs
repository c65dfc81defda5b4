//! The ways by which this node and its peer hear each other.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use evenkeel_model::{PairSettings, VrrpSettings};
use evenkeel_platform::{Interface, OwnAddress, SerialLine, VrrpSocket};
use evenkeel_vrrp::advert::{self, Advert, Malformed, Message};
use tracing::warn;

pub struct Path {
    pub name: String,
    kind: PathKind,
    pub heard_at: Option<Instant>,
    /// Why it does not work.
    pub trouble: Option<String>,
}

enum PathKind {
    Link {
        socket: UdpSocket,
        peer: SocketAddr,
    },
    Vrrp {
        socket: VrrpSocket,
        router: usize,
        router_id: u8,
        priority: u8,
        password: Option<advert::Password>,
    },
    Serial(SerialLine),
    /// Could not be opened; tried again.
    Closed(PathTarget),
}

#[derive(Clone)]
enum PathTarget {
    Link(SocketAddr, SocketAddr),
    Vrrp(usize, VrrpSettings),
    Serial(PathBuf),
}

/// Something that came in.
pub enum Received {
    Sealed(Vec<u8>),
    Advert { router: usize, advert: Advert, source: IpAddr, own: IpAddr },
    Malformed(Malformed),
}

pub fn paths_of(settings: &PairSettings) -> Vec<Path> {
    let mut wanted = Vec::new();
    if let Some(peer) = settings.peer {
        wanted.push((format!("link {peer}"), PathTarget::Link(settings.listen, peer)));
    }
    for (router, vrrp) in settings.routers.iter().enumerate() {
        let name = format!("vrrp {} {}", vrrp.interface, vrrp.router_id);
        wanted.push((name, PathTarget::Vrrp(router, vrrp.clone())));
    }
    if let Some(serial) = &settings.serial {
        wanted.push((format!("serial {}", serial.display()), PathTarget::Serial(serial.clone())));
    }
    let path = |(name, wanted)| Path { name, kind: PathKind::Closed(wanted), heard_at: None, trouble: None };
    wanted.into_iter().map(path).collect()
}

impl Path {
    /// Opens the path if it is not open.
    pub fn open(&mut self, own: &[OwnAddress], interfaces: &[Interface], bell: &Arc<OwnedFd>) {
        let PathKind::Closed(wanted) = &self.kind else { return };
        let opened = match wanted {
            PathTarget::Link(listen, peer) => open_link(*listen, *peer),
            PathTarget::Vrrp(router, vrrp) => open_vrrp(*router, vrrp, own, interfaces),
            PathTarget::Serial(path) => SerialLine::open(path, bell.clone())
                .map(PathKind::Serial)
                .map_err(|e| format!("{}: {e}", path.display())),
        };
        match opened {
            Ok(kind) => {
                self.kind = kind;
                self.trouble = None;
            }
            Err(why) => self.trouble = Some(why),
        }
    }

    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.kind {
            PathKind::Link { socket, .. } => Some(socket.as_fd()),
            PathKind::Vrrp { socket, .. } => Some(socket.as_fd()),
            // These ring the bell.
            PathKind::Serial(_) | PathKind::Closed(_) => None,
        }
    }

    pub fn router(&self) -> Option<usize> {
        match &self.kind {
            PathKind::Vrrp { router, .. } => Some(*router),
            _ => None,
        }
    }

    pub fn send_sealed(&mut self, message: &[u8]) {
        let sent = match &mut self.kind {
            PathKind::Link { socket, peer } => socket.send_to(message, *peer).map(drop),
            PathKind::Vrrp { socket, router_id, priority, .. } => {
                let source = socket.source;
                socket.send(|target| advert::encode_sealed(*router_id, *priority, message, source, target))
            }
            PathKind::Serial(line) => line.send(message),
            PathKind::Closed(_) => return,
        };
        self.note(sent);
    }

    pub fn send_advert(&mut self, advert: &Advert) {
        if let PathKind::Vrrp { socket, password, .. } = &self.kind {
            let source = socket.source;
            let sent = socket.send(|target| advert.encode(source, target, *password));
            self.note(sent);
        }
    }

    fn note(&mut self, sent: std::io::Result<()>) {
        self.trouble = match sent {
            Ok(()) => None,
            // The peer's port is closed, or a queue is full: that passes.
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::WouldBlock
                ) =>
            {
                None
            }
            Err(error) => Some(error.to_string()),
        };
    }

    /// All that has come in.
    pub fn receive(&mut self, into: &mut Vec<Received>) {
        const AT_ONCE: usize = 64;
        match &mut self.kind {
            PathKind::Link { socket, peer } => {
                let mut buffer = [0; 2048];
                for _ in 0..AT_ONCE {
                    let Ok((length, from)) = socket.recv_from(&mut buffer) else { return };
                    if from.ip().to_canonical() == peer.ip() {
                        into.push(Received::Sealed(buffer[..length].to_vec()));
                    }
                }
            }
            PathKind::Vrrp { socket, router, router_id, password, .. } => {
                for _ in 0..AT_ONCE {
                    let Some(packet) = socket.receive() else { return };
                    if packet.source == socket.source {
                        continue;
                    }
                    let (source, target) = (packet.source, packet.target);
                    match advert::parse(&packet.payload, source, target, packet.ttl, *password) {
                        Ok(Message::Sealed(id, body)) if id == *router_id => {
                            into.push(Received::Sealed(body))
                        }
                        Ok(Message::Advert(advert)) if advert.router_id == *router_id => {
                            let (source, own) = (packet.source, socket.source);
                            into.push(Received::Advert { router: *router, advert, source, own });
                        }
                        Ok(_) => {}
                        Err(why) => into.push(Received::Malformed(why)),
                    }
                }
            }
            PathKind::Serial(line) => into.extend(line.receive().map(Received::Sealed)),
            PathKind::Closed(_) => {}
        }
    }
}

/// Why a message of VRRP is refused; the log has each reason once.
pub fn told(refused: &BTreeMap<&'static str, u64>, why: Malformed) -> &'static str {
    let why = why.as_str();
    if !refused.contains_key(why) {
        warn!(why, "a message of VRRP is refused; `evenkeel pair status` counts them");
    }
    why
}

fn open_link(listen: SocketAddr, peer: SocketAddr) -> Result<PathKind, String> {
    let listen = match (listen.is_ipv4(), peer.is_ipv4()) {
        (true, false) => SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), listen.port()),
        _ => listen,
    };
    let open = || -> std::io::Result<UdpSocket> {
        let socket = evenkeel_platform::shared_udp(listen)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    match open() {
        Ok(socket) => Ok(PathKind::Link { socket, peer }),
        Err(error) => Err(format!("cannot listen on {listen}: {error}")),
    }
}

fn open_vrrp(
    router: usize,
    vrrp: &VrrpSettings,
    own: &[OwnAddress],
    interfaces: &[Interface],
) -> Result<PathKind, String> {
    let found = interfaces.iter().find(|i| i.name == vrrp.interface);
    let interface = found.ok_or_else(|| format!("there is no interface {}", vrrp.interface))?;
    let fits = |a: &IpAddr| match a {
        IpAddr::V4(_) => !vrrp.ipv6,
        // RFC 9568 §5.1.2.1
        IpAddr::V6(a) => vrrp.ipv6 && (a.is_unicast_link_local() || !vrrp.unicast.is_empty()),
    };
    let whole = |prefix: u8| prefix == 32 || prefix == 128;
    let source = own.iter().find(|o| o.interface == interface.index && fits(&o.address) && !whole(o.prefix));
    let family = if vrrp.ipv6 { "link-local IPv6" } else { "IPv4" };
    let source = source.ok_or_else(|| format!("{} has no {family} address", vrrp.interface))?.address;
    let group = if vrrp.ipv6 { advert::GROUP6.into() } else { advert::GROUP4.into() };
    let socket = VrrpSocket::open((&interface.name, interface.index), source, group, &vrrp.unicast)
        .map_err(|e| format!("VRRP on {}: {e}", vrrp.interface))?;
    let password = vrrp.password.as_ref().map(|text| advert::password(text.expose()));
    Ok(PathKind::Vrrp { socket, router, router_id: vrrp.router_id, priority: vrrp.priority, password })
}
