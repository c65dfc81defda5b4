//! Listening sockets. Each loop has its own, which the kernel lets a user's processes share
//! (SO_REUSEPORT): so whether somebody else has the address is asked before the first is opened.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::engine::BACKLOG;

/// A process that has just been killed closes its sockets within this time.
const CLOSING: Duration = Duration::from_secs(2);
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// Fails where another socket listens on this address, or on the same port of all addresses. With
/// `wait`, one that is being closed is waited for.
pub fn check_free(address: SocketAddr, not_here_yet: bool, wait: bool) -> std::io::Result<()> {
    let began = Instant::now();
    loop {
        // One that shares with nobody is refused the address where another listens. It is not listened on.
        match bound(address, not_here_yet, false) {
            Err(error)
                if wait && error.kind() == std::io::ErrorKind::AddrInUse && began.elapsed() < CLOSING =>
            {
                std::thread::sleep(ASK_AGAIN);
            }
            other => return other.map(drop),
        }
    }
}

/// Opens a listening TCP socket that shares its address with others of this program. The address of a
/// pair may be on the other node now.
pub fn listen(address: SocketAddr, not_here_yet: bool) -> std::io::Result<OwnedFd> {
    let fd = bound(address, not_here_yet, true)?;
    // Accepted connections inherit it.
    sockopt::set_tcp_nodelay(&fd, true)?;
    rustix::net::listen(&fd, BACKLOG)?;
    Ok(fd)
}

/// The largest segment that clients of a listening socket are told of; 0 is as the kernel has it. Sockets that are no
/// TCP's have none.
pub fn set_mss(fd: &OwnedFd, mss: u16) {
    let _ = socket2::SockRef::from(fd).set_tcp_mss(u32::from(mss));
}

fn bound(address: SocketAddr, not_here_yet: bool, shared: bool) -> std::io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    sockopt::set_socket_reuseport(&fd, shared)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    match address.is_ipv4() {
        true => sockopt::set_ip_freebind(&fd, not_here_yet)?,
        false => sockopt::set_ipv6_freebind(&fd, not_here_yet)?,
    }
    rustix::net::bind(&fd, &address)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use rustix::net::getsockname;

    use super::*;

    #[test]
    fn clients_are_told_of_segments_and_not_waited_for_without_end() {
        let listening = listen("127.0.0.1:0".parse().unwrap(), false).unwrap();
        set_mss(&listening, 1000);
        let address: SocketAddr = getsockname(&listening).unwrap().try_into().unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        let (accepted, _) =
            rustix::net::acceptfrom_with(&listening, SocketFlags::CLOEXEC).expect("it is connected");
        crate::reactor::user_timeout(&accepted, Duration::from_millis(2500));
        assert_eq!(sockopt::tcp_user_timeout(&accepted).unwrap(), 2500);
        let told = socket2::SockRef::from(&client).tcp_mss().unwrap();
        assert!((900..=1000).contains(&told), "{told}");
        set_mss(&listening, 0);
        let other = std::net::TcpStream::connect(address).unwrap();
        assert!(socket2::SockRef::from(&other).tcp_mss().unwrap() > 1000, "as the kernel has it");
    }

    #[test]
    fn an_address_that_somebody_has_is_not_free() {
        for (one, all) in [("127.0.0.1:0", "0.0.0.0"), ("[::1]:0", "[::]")] {
            let first = listen(one.parse().unwrap(), false).unwrap();
            let address: SocketAddr = getsockname(&first).unwrap().try_into().unwrap();
            let everywhere: SocketAddr = format!("{all}:{}", address.port()).parse().unwrap();
            for asked in [address, everywhere] {
                let error = check_free(asked, false, false).unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{asked}");
            }
            listen(address, false).expect("it shares with its own");
            let closing = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(50));
                drop(first);
            });
            check_free(address, false, true).expect("the sockets are closed meanwhile");
            closing.join().unwrap();
            check_free(everywhere, false, false).unwrap();
        }
    }
}
