//! Ends TCP connections of addresses that leave this machine, so that their clients hear of it: the
//! kernel sends each a reset (SOCK_DESTROY of sock_diag(7)). Once the address is gone it could not.
//!
//! In: addresses. Out: how many connections were ended. Never: sockets that listen.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use netlink_sys::{Socket, SocketAddr, constants::NETLINK_SOCK_DIAG};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const HEADER: usize = 16;
/// What comes before a socket's addresses in a question, and in an answer.
const QUESTION: usize = 8;
const ANSWER: usize = 4;
/// `struct inet_diag_sockid`.
const ID: usize = 48;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TCP: u8 = 6;
/// Connections that have a client: not TIME-WAIT (6), CLOSE (7), LISTEN (10).
const STATES: u32 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11;
/// Messages of one system call.
const BATCH: usize = 200;

/// Ends the connections whose own end is one of these addresses, for no longer than a time.
pub fn end_connections(addresses: &BTreeSet<IpAddr>, within: Duration) -> io::Result<usize> {
    let until = Instant::now() + within;
    let mut ended = 0;
    for family in [AF_INET, AF_INET6] {
        let found = connections(family, addresses, until)?;
        let socket = open()?;
        for some in found.chunks(BATCH) {
            if Instant::now() >= until {
                return Ok(ended);
            }
            let messages: Vec<u8> =
                some.iter().flat_map(|id| message(SOCK_DESTROY, NLM_F_REQUEST, family, id)).collect();
            socket.send(&messages, 0)?;
            ended += some.len();
        }
        // Without an answer there was no error; one that is gone already is none.
        socket.set_non_blocking(true)?;
        if let Ok((answer, _)) = socket.recv_from_full()
            && let Some(error) = error_of(&answer)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
    }
    Ok(ended)
}

/// Which of these addresses are the own end of a TCP connection that is open.
pub fn addresses_in_use(addresses: &BTreeSet<IpAddr>, within: Duration) -> io::Result<BTreeSet<IpAddr>> {
    let until = Instant::now() + within;
    let mut used = BTreeSet::new();
    for family in [AF_INET, AF_INET6] {
        if addresses.iter().any(|a| a.is_ipv4() == (family == AF_INET)) {
            used.extend(connections(family, addresses, until)?.iter().map(|id| own_address(family, id)));
        }
    }
    Ok(used)
}

fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// The kernel's names of the connections of these addresses.
fn connections(family: u8, addresses: &BTreeSet<IpAddr>, until: Instant) -> io::Result<Vec<[u8; ID]>> {
    let socket = open()?;
    socket.send(&message(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, family, &[0; ID]), 0)?;
    let mut found = Vec::new();
    while Instant::now() < until {
        let (received, _) = socket.recv_from_full()?;
        let mut rest = received.as_slice();
        while rest.len() >= HEADER {
            let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            if length < HEADER || length > rest.len() {
                break;
            }
            match u16::from_ne_bytes([rest[4], rest[5]]) {
                NLMSG_DONE => return Ok(found),
                NLMSG_ERROR => return Err(error_of(rest).unwrap_or_else(|| io::Error::other("sock_diag"))),
                _ => {
                    let id = rest.get(HEADER + ANSWER..HEADER + ANSWER + ID);
                    let id: Option<&[u8; ID]> = id.and_then(|id| id.try_into().ok());
                    found.extend(id.filter(|id| addresses.contains(&own_address(family, id))));
                }
            }
            rest = &rest[length.next_multiple_of(4).min(rest.len())..];
        }
    }
    Ok(found)
}

fn own_address(family: u8, id: &[u8; ID]) -> IpAddr {
    // Two ports come before it.
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&id[4..20]);
    match family {
        AF_INET => IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])),
        _ => IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical(),
    }
}

fn message(kind: u16, flags: u16, family: u8, id: &[u8; ID]) -> [u8; HEADER + QUESTION + ID] {
    let mut bytes = [0; HEADER + QUESTION + ID];
    bytes[..4].copy_from_slice(&((HEADER + QUESTION + ID) as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    (bytes[HEADER], bytes[HEADER + 1]) = (family, TCP);
    bytes[HEADER + 4..HEADER + 8].copy_from_slice(&STATES.to_ne_bytes());
    bytes[HEADER + QUESTION..].copy_from_slice(id);
    bytes
}

/// The error of an answer that holds one.
fn error_of(answer: &[u8]) -> Option<io::Error> {
    let kind = answer.get(4..6)?;
    let code: [u8; 4] = answer.get(HEADER..HEADER + 4)?.try_into().ok()?;
    let code = i32::from_ne_bytes(code);
    let is_error = u16::from_ne_bytes([kind[0], kind[1]]) == NLMSG_ERROR && code != 0;
    is_error.then(|| io::Error::from_raw_os_error(code.wrapping_neg()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    /// A client that waits, and the other end, which nobody closes.
    fn connection(address: &str) -> (TcpStream, TcpStream, TcpListener) {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        (client, listener.accept().unwrap().0, listener)
    }

    #[test]
    fn clients_of_an_address_that_goes_are_reset_and_no_others() {
        let (mut gone, _server, listener) = connection("127.0.9.77");
        let (mut stays, _other, _other_listener) = connection("127.0.9.78");
        let addresses = BTreeSet::from(["127.0.9.77".parse().unwrap()]);
        match end_connections(&addresses, Duration::from_secs(5)) {
            Ok(ended) => assert!(ended >= 1),
            // Without the right to, or in a kernel that cannot.
            Err(error) => return eprintln!("not tested: {error}"),
        }
        let error = gone.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
        let error = stays.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
        TcpStream::connect(listener.local_addr().unwrap()).expect("what listens goes on");
    }

    #[test]
    fn strange_answers_are_no_error() {
        assert!(error_of(&[]).is_none());
        assert!(error_of(&[0; 7]).is_none());
        let mut answer = [0; 36];
        answer[4] = NLMSG_ERROR as u8;
        assert!(error_of(&answer).is_none(), "an acknowledgement");
        answer[HEADER..HEADER + 4].copy_from_slice(&(-1i32).to_ne_bytes());
        assert_eq!(error_of(&answer).unwrap().kind(), io::ErrorKind::PermissionDenied);
    }
}
