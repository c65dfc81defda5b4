//! Connections of probes: plain or TLS, with a PROXY header where the server wants one.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use evenkeel_files::{Stamp, stamp};
use evenkeel_model::{Connect, HealthCheck, Probe, ProxyVersion, ServerTls};
use evenkeel_trust::{Anyone, Authorities, Revoked};
use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use crate::found::{Failure, Layer};

pub trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// A PROXY header, version 2, for a connection of the sender's own (LOCAL).
const LOCAL: &[u8; 16] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// Opens a connection as the check wants it; `alpn` is offered over TLS.
pub async fn open(
    check: &HealthCheck,
    address: SocketAddr,
    alpn: &[u8],
    reached: &Cell<Layer>,
) -> Result<Box<dyn Stream>, Failure> {
    let local = evenkeel_files::connect_local(address);
    let is_local = local.is_some();
    let mut stream = match (local, check.mark) {
        // Whatever kind of socket it is: it is read and written alike.
        (Some(local), _) => TcpStream::from_std(std::net::TcpStream::from(local?)),
        (None, 0) => TcpStream::connect(address).await,
        (None, mark) => connect_marked(address, mark).await,
    }?;
    // A bare connection leaves no socket in TIME_WAIT behind; conversations end in order.
    if check.probe == Probe::Tcp {
        let _ = socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
    }
    match check.send_proxy {
        None => {}
        Some(ProxyVersion::V1) if is_local => stream.write_all(b"PROXY UNKNOWN\r\n").await?,
        Some(ProxyVersion::V1) => {
            let line = text_header(stream.local_addr()?, stream.peer_addr()?);
            stream.write_all(line.as_bytes()).await?;
        }
        Some(ProxyVersion::V2) => stream.write_all(LOCAL).await?,
    }
    let Some(tls) = &check.tls else { return Ok(Box::new(stream)) };
    reached.set(Layer::Tls);
    // A check is no request that a name could be taken from: none is asked for, and none verified.
    let nameless = tls.sni_from.is_some() && tls.sni.is_none();
    let config = match nameless {
        true => config(&ServerTls { verify_name: false, ..tls.clone() }, alpn)?,
        false => config(tls, alpn)?,
    };
    let name = match &tls.sni {
        Some(name) => ServerName::try_from(name.clone()).map_err(|_| format!("{name:?} is no host name"))?,
        None => ServerName::IpAddress(address.ip().into()),
    };
    let stream = TlsConnector::from(config).connect(name, stream).await;
    stream.map(|s| Box::new(s) as Box<dyn Stream>).map_err(|e| format!("TLS: {e}").into())
}

/// Opens a further connection of a check that goes on elsewhere.
pub async fn open_again(
    check: &HealthCheck,
    connect: &Connect,
    mut address: SocketAddr,
    reached: &Cell<Layer>,
) -> Result<Box<dyn Stream>, Failure> {
    if let Some(ip) = connect.address {
        address.set_ip(ip);
    }
    if let Some(port) = connect.port {
        address.set_port(port);
    }
    let sni = connect.sni.clone();
    let again = HealthCheck {
        probe: Probe::Tls,
        tls: connect.tls.then(|| ServerTls { sni, ..ServerTls::with_anyone() }),
        send_proxy: connect.send_proxy,
        mark: check.mark,
        ..HealthCheck::default()
    };
    open(&again, address, b"", reached).await
}

/// A PROXY header, version 1. It has no way to say that nobody is behind the connection.
fn text_header(from: SocketAddr, to: SocketAddr) -> String {
    let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
    format!("PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port())
}

async fn connect_marked(address: SocketAddr, mark: u32) -> std::io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket2::SockRef::from(&socket).set_mark(mark)?;
    socket.connect(address).await
}

pub fn describe(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "host unreachable".into(),
        std::io::ErrorKind::NetworkUnreachable => "network unreachable".into(),
        _ => error.to_string(),
    }
}

/// What was made of settings and a protocol, and of files in this state.
type Configs = HashMap<(ServerTls, Vec<u8>), (Vec<Stamp>, Arc<ClientConfig>)>;

thread_local! {
    /// Reading authorities takes longer than a probe: once for each setting, and again when a file changes.
    static CONFIGS: RefCell<Configs> = RefCell::default();
}

/// Settings that are kept at most: those of configurations that are gone are forgotten with the others.
const CONFIGS_AT_MOST: usize = 1_000;

const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The state of each file that the settings name, without reading it.
fn stamps(tls: &ServerTls) -> Vec<Stamp> {
    let authorities = tls.ca.as_deref().unwrap_or(Path::new(SYSTEM_AUTHORITIES));
    let verified = [Some(authorities), tls.crl.as_deref()].into_iter().flatten().filter(|_| tls.verify);
    let files = verified.chain(tls.certificate.as_deref());
    files.map(stamp).collect()
}

fn config(tls: &ServerTls, alpn: &[u8]) -> Result<Arc<ClientConfig>, String> {
    let key = (tls.clone(), alpn.to_vec());
    // Looked at before they are read: what changes meanwhile is read once more.
    let stamps = stamps(tls);
    let same = |(then, made): &(Vec<Stamp>, Arc<ClientConfig>)| (*then == stamps).then(|| made.clone());
    if let Some(known) = CONFIGS.with_borrow(|all| all.get(&key).and_then(same)) {
        return Ok(known);
    }
    let made = Arc::new(make(tls, alpn)?);
    CONFIGS.with_borrow_mut(|all| {
        if all.len() >= CONFIGS_AT_MOST {
            all.clear();
        }
        all.insert(key, (stamps, made.clone()))
    });
    Ok(made)
}

fn make(tls: &ServerTls, alpn: &[u8]) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
    let verifier: Arc<dyn ServerCertVerifier> = match (tls.verify, &tls.ca) {
        (false, _) => Arc::new(Anyone(provider)),
        (true, ca) => {
            let file = ca.as_deref().unwrap_or(Path::new(SYSTEM_AUTHORITIES));
            let unusable = |why: String| format!("{}: {why}", file.display());
            let pem = read(file).map_err(|e| unusable(e.to_string()))?;
            let known: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
            let known = Authorities::new(known.map_err(|_| unusable("is no PEM".into()))?);
            let known = known.ok_or_else(|| unusable("holds no certificate of an authority".into()))?;
            let revoked = tls.crl.as_deref().map_or_else(|| Ok(Revoked::default()), revoked)?;
            known.of_servers(revoked, provider, tls.verify_name).map_err(unusable)?
        }
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match &tls.certificate {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let unusable = |why: String| format!("{}: {why}", file.display());
            let pem = read(file).map_err(|e| unusable(e.to_string()))?;
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
            let chain = chain.map_err(|_| unusable("is no PEM".into()))?;
            let key = PrivateKeyDer::from_pem_slice(&pem)
                .map_err(|_| unusable("holds no private key that can be used".into()))?;
            builder.with_client_cert_resolver(evenkeel_trust::shown(chain, &key).map_err(unusable)?)
        }
    };
    if !alpn.is_empty() {
        config.alpn_protocols = vec![alpn.to_vec()];
    }
    Ok(config)
}

/// Lists in PEM, or one in DER.
fn revoked(file: &Path) -> Result<Revoked, String> {
    let bytes = read(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
    let mut lists = lists.map_err(|_| format!("{}: is no PEM", file.display()))?;
    if lists.is_empty() {
        lists.push(bytes.into());
    }
    Ok(Revoked::new(lists))
}

fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    evenkeel_files::read(file, evenkeel_files::PEM_AT_MOST)
}

#[cfg(test)]
mod tests {
    use super::text_header;

    #[test]
    fn the_first_version_names_the_probes_addresses() {
        let header = |from: &str, to: &str| text_header(from.parse().unwrap(), to.parse().unwrap());
        assert_eq!(header("192.0.2.1:5", "192.0.2.2:80"), "PROXY TCP4 192.0.2.1 192.0.2.2 5 80\r\n");
        assert_eq!(
            header("[2001:db8::1]:5", "[2001:db8::2]:80"),
            "PROXY TCP6 2001:db8::1 2001:db8::2 5 80\r\n"
        );
    }
}
