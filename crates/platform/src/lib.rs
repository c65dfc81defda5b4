//! The operating system: limits, sockets handed from process to
//! process, the service manager.
//!
//! In: paths, file descriptors. Out: the same, changed. Never: configuration, protocol, policy.

mod announce;
mod auto_nat;
mod command;
mod handover;
mod keep;
mod listeners;
mod network;
mod private;
mod realtime;
mod redirect;
mod serial;
mod service_manager;
mod sockets;
mod transparency;
mod vrrp;
mod wake;

pub use announce::Announcer;
pub use auto_nat::set_auto_nat;
pub use command::{run, stop_merging};
pub use handover::{HandoverError, Package, receive, send};
pub use keep::{Forward, Silence, forward, stop_forwarding};
pub use listeners::Listeners;
pub use network::{Interface, Network, NetworkChanges, OwnAddress, Route, WayTo, follow_interfaces};
pub use private::listen_private;
pub use realtime::run_first;
pub use redirect::{add_redirects, redirects, remove_redirects};
pub use serial::SerialLine;
pub use service_manager::{
    forget_socket, given_unix_listener, has_service_manager, notify_service_manager, store_socket,
    stored_sockets,
};
pub use sockets::{addresses_in_use, end_connections};
pub use transparency::{remove_transparency, set_up_transparency, transparency_is_set_up};
pub use vrrp::{VrrpPacket, VrrpSocket};
pub use wake::Waker;

/// The program that runs, for parts of it in processes of their own: also after an update has put another file in
/// the place of its own, whose parts it may not understand.
pub const THIS_PROGRAM: &str = "/proc/self/exe";

/// A MAC address as people write it.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Raises the limit of open files to what the system allows; the limit now in force.
pub fn raise_file_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(u64::MAX).max(1_048_576);
    for try_limit in [wanted, limit.maximum.unwrap_or(wanted)] {
        let raised = Rlimit { current: Some(try_limit), maximum: limit.maximum.map(|m| m.max(try_limit)) };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            return try_limit;
        }
    }
    limit.current.unwrap_or(u64::MAX)
}

/// A UDP socket on an address that the next process may open while this one still has it.
pub fn shared_udp(address: std::net::SocketAddr) -> std::io::Result<std::net::UdpSocket> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}
