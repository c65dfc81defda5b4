//! Asks name servers: over UDP, over TCP what is cut off, one after another until one answers.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use evenkeel_model::HostName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::known::{Answer, Failure};
use evenkeel_dns::{Kind, Reply, Service, question, reply};

/// Datagrams that are no answer, of one question: whoever floods gets no more attention.
const STRANGE: usize = 64;
/// Names that lead to another name.
const ALIASES: usize = 8;

/// Who is asked, and how.
#[derive(Clone, Debug)]
pub struct Asking {
    pub servers: Vec<SocketAddr>,
    pub timeout: Duration,
    /// Rounds through the servers.
    pub rounds: u32,
    pub udp_size: u16,
    pub counts: Counts,
}

/// What became of the questions to one name server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuestionCounts {
    pub sent: u64,
    /// They could not be sent, or their answer could not be received.
    pub failed: u64,
    pub valid: u64,
    /// Another name, of which nothing was said.
    pub alias: u64,
    /// The name exists and has nothing of the kind.
    pub nothing: u64,
    pub no_name: u64,
    pub timeout: u64,
    pub refused: u64,
    pub other: u64,
    pub invalid: u64,
    /// Cut off over TCP, too.
    pub truncated: u64,
}

/// By name server; it has one writer.
pub type Counts = Arc<Mutex<BTreeMap<SocketAddr, QuestionCounts>>>;

fn count(asking: &Asking, server: SocketAddr, answer: &std::io::Result<Reply>) {
    let mut all = asking.counts.lock().unwrap_or_else(PoisonError::into_inner);
    let asked = all.entry(server).or_default();
    asked.sent += 1;
    *match answer {
        Ok(Reply::Addresses { .. } | Reply::Services { .. }) => &mut asked.valid,
        Ok(Reply::Alias { .. }) => &mut asked.alias,
        Ok(Reply::Nothing) => &mut asked.nothing,
        Ok(Reply::NoName) => &mut asked.no_name,
        Ok(Reply::Refused) => &mut asked.refused,
        Ok(Reply::Failed) => &mut asked.other,
        Ok(Reply::Truncated) => &mut asked.truncated,
        Err(error) => match error.kind() {
            std::io::ErrorKind::TimedOut => &mut asked.timeout,
            std::io::ErrorKind::InvalidData => &mut asked.invalid,
            _ => &mut asked.failed,
        },
    } += 1;
}

/// Both kinds of addresses of the first of these names that has any.
pub async fn addresses(asking: &Rc<Asking>, names: &[HostName]) -> Result<Answer, Failure> {
    let mut failure = Failure::NoName;
    for name in names {
        let (four, six) =
            tokio::join!(of_kind(asking, name.clone(), Kind::A), of_kind(asking, name.clone(), Kind::Aaaa));
        let whole = [&four, &six].iter().all(|a| matches!(a, Ok(_) | Err(Failure::NoName)));
        match (four, six) {
            (Ok((mut all, ttl)), Ok((more, other))) => {
                all.extend(more);
                return Ok(Answer { addresses: all, ttl: ttl.min(other), whole });
            }
            (Ok((addresses, ttl)), Err(_)) | (Err(_), Ok((addresses, ttl))) => {
                return Ok(Answer { addresses, ttl, whole });
            }
            // What failed otherwise may exist: the next name would be another server.
            (Err(one), Err(other)) if whole => failure = if one == Failure::NoName { one } else { other },
            (Err(one), Err(other)) => return Err(if one == Failure::NoName { other } else { one }),
        }
    }
    Err(failure)
}

/// The targets of a service.
pub async fn services(asking: &Asking, name: &HostName) -> Result<(Vec<Service>, Duration), Failure> {
    let mut name = name.clone();
    for _ in 0..ALIASES {
        match ask(asking, &name, Kind::Srv).await? {
            Reply::Services { services, ttl } => return Ok((services, Duration::from_secs(ttl.into()))),
            Reply::Alias { name: to, .. } => name = to,
            _ => return Err(Failure::NoName),
        }
    }
    Err(Failure::Other)
}

async fn of_kind(asking: &Asking, name: HostName, kind: Kind) -> Result<(Vec<IpAddr>, Duration), Failure> {
    let (mut name, mut shortest) = (name, u32::MAX);
    for _ in 0..ALIASES {
        match ask(asking, &name, kind).await? {
            Reply::Addresses { addresses, ttl } => {
                return Ok((addresses, Duration::from_secs(ttl.min(shortest).into())));
            }
            Reply::Alias { name: to, ttl } => (name, shortest) = (to, shortest.min(ttl)),
            _ => return Err(Failure::NoName),
        }
    }
    Err(Failure::Other)
}

/// Asks one server after another. That a name does not exist is an answer.
async fn ask(asking: &Asking, name: &HostName, kind: Kind) -> Result<Reply, Failure> {
    let mut failure = Failure::Timeout;
    for _ in 0..asking.rounds {
        for server in &asking.servers {
            let answer = ask_one(asking, *server, name, kind).await;
            count(asking, *server, &answer);
            match answer {
                Ok(Reply::Refused) => failure = Failure::Refused,
                Ok(Reply::Failed | Reply::Truncated) => failure = Failure::Other,
                Ok(answer) => return Ok(answer),
                // What a server has said tells more than another's silence.
                Err(_) => {}
            }
        }
    }
    Err(failure)
}

async fn ask_one(asking: &Asking, server: SocketAddr, name: &HostName, kind: Kind) -> std::io::Result<Reply> {
    let id = random()?;
    let message = question(id, name, kind, asking.udp_size);
    let answer = limited(asking.timeout, over_udp(asking, server, &message, id, name, kind)).await?;
    match answer {
        Reply::Truncated => limited(asking.timeout, over_tcp(server, &message, id, name, kind)).await,
        answer => Ok(answer),
    }
}

async fn limited<T>(limit: Duration, what: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    tokio::time::timeout(limit, what).await?
}

/// From a port that the kernel picks, so that a forger has to guess it beside the id.
async fn over_udp(
    asking: &Asking,
    server: SocketAddr,
    message: &[u8],
    id: u16,
    name: &HostName,
    kind: Kind,
) -> std::io::Result<Reply> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(message).await?;
    let mut buffer = vec![0; usize::from(asking.udp_size).max(512)];
    for _ in 0..STRANGE {
        let length = socket.recv(&mut buffer).await?;
        if let Ok(answer) = reply(&buffer[..length], id, name, kind) {
            return Ok(answer);
        }
    }
    Err(std::io::ErrorKind::InvalidData.into())
}

async fn over_tcp(
    server: SocketAddr,
    message: &[u8],
    id: u16,
    name: &HostName,
    kind: Kind,
) -> std::io::Result<Reply> {
    let mut stream = TcpStream::connect(server).await?;
    let mut framed = (message.len() as u16).to_be_bytes().to_vec();
    framed.extend(message);
    stream.write_all(&framed).await?;
    let length = usize::from(stream.read_u16().await?);
    let mut buffer = vec![0; length];
    stream.read_exact(&mut buffer).await?;
    reply(&buffer, id, name, kind).map_err(|_| std::io::ErrorKind::InvalidData.into())
}

fn random() -> std::io::Result<u16> {
    let mut bytes = [0; 2];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| std::io::Error::other("no random numbers"))?;
    Ok(u16::from_be_bytes(bytes))
}
