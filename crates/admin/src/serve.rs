//! Listeners: the Unix socket, HTTPS, plain HTTP. Bounds on how many, how slow and from where.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::App;
use crate::connected::Open;
use crate::leftover::drained;
use crate::routes::{metrics_router, secure_router, socket_router};

/// A request's head, and what a connection holds of answers that are not read.
const BYTES_A_CONNECTION: usize = 64 << 10;

/// How long a handshake, or the head of a request, may take.
const SLOWEST: Duration = Duration::from_secs(10);
/// How long an answer may take after its listener is gone.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// How often a connection is looked at.
const LOOK: Duration = Duration::from_secs(5);
const MOST_STREAMS: u32 = 100;

/// An address and the length of its prefix.
pub type Network = (IpAddr, u8);

/// A listener that runs; its connections end when this is dropped.
pub struct Listening(#[allow(dead_code)] watch::Sender<()>);

/// Replaced while connections use the old one.
pub type Tls = Arc<RwLock<Arc<ServerConfig>>>;

/// The TLS of the web UI, from a file with certificates and their key.
pub fn tls(pem: &str, only_13: bool) -> Result<Arc<ServerConfig>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let certificates = certificates.map_err(|_| "is no PEM".to_owned())?;
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| "holds no private key that can be used".to_owned())?;
    let versions: &[&rustls::SupportedProtocolVersion] = match only_13 {
        true => &[&rustls::version::TLS13],
        false => &[&rustls::version::TLS13, &rustls::version::TLS12],
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(versions).map_err(|e| e.to_string())?;
    let mut config =
        builder.with_no_client_auth().with_cert_resolver(evenkeel_trust::shown(certificates, &key)?);
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The Unix socket, which only its owner may open.
pub fn socket(listener: UnixListener, app: &App) -> Listening {
    let (stop, stopped) = watch::channel(());
    let router = socket_router(app);
    tokio::spawn(async move {
        let mut ended = stopped.clone();
        loop {
            let stream = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = ended.changed() => return,
            };
            match stream {
                Ok((stream, _)) => drop(tokio::spawn(converse(stream, router.clone(), stopped.clone()))),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    });
    Listening(stop)
}

/// HTTPS: web UI and API.
pub fn secure(listener: TcpListener, tls: Tls, allow: Vec<Network>, app: &App) -> Listening {
    let router = secure_router(app);
    listen(
        listener,
        allow,
        move |stream, router, stopped| {
            let config = tls.read().ok().map(|t| t.clone());
            async move {
                let Some(config) = config else { return };
                let handshake = TlsAcceptor::from(config).accept(stream);
                if let Ok(Ok(stream)) = tokio::time::timeout(SLOWEST, handshake).await {
                    converse(stream, router, stopped).await;
                }
            }
        },
        router,
    )
}

/// HTTP: `/metrics` and `/healthz` for some networks; everybody else is sent to HTTPS.
pub fn plain(listener: TcpListener, allow: Vec<Network>, https: Option<u16>, app: &App) -> Listening {
    let metrics = metrics_router(app);
    let serve = move |stream: tokio::net::TcpStream, _, stopped| {
        let peer = stream.peer_addr().map(|a| a.ip());
        let allowed = peer.is_ok_and(|peer| allow.iter().any(|n| contains(*n, peer)));
        let other =
            any(move |headers: HeaderMap, uri: Uri| async move { elsewhere(https, allowed, &headers, &uri) });
        let router = if allowed { metrics.clone() } else { Router::new() };
        converse(stream, router.fallback(other), stopped)
    };
    listen(listener, vec![], serve, Router::new())
}

/// What plain HTTP does not serve.
fn elsewhere(port: Option<u16>, allowed: bool, headers: &HeaderMap, uri: &Uri) -> Response {
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or("");
    let host = match host.rfind(':').filter(|at| host[*at..].len() < 7 && !host.ends_with(']')) {
        Some(at) => &host[..at],
        None => host,
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    match port {
        Some(port) if !host.is_empty() && host.chars().all(plain) => {
            let place = format!("https://{host}:{port}{}", uri.path());
            (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, place)]).into_response()
        }
        _ if allowed => (StatusCode::NOT_FOUND, "only /metrics and /healthz are here\n").into_response(),
        _ => (StatusCode::FORBIDDEN, "not in [admin] metrics-allow\n").into_response(),
    }
}

fn listen<S, F>(listener: TcpListener, allow: Vec<Network>, serve: S, router: Router) -> Listening
where
    S: Fn(tokio::net::TcpStream, Router, watch::Receiver<()>) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (stop, stopped) = watch::channel(());
    let mut open = Open::default();
    tokio::spawn(async move {
        let mut ended = stopped.clone();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = ended.changed() => return,
            };
            let Ok((stream, peer)) = accepted else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            if !allow.is_empty() && !allow.iter().any(|n| contains(*n, peer.ip())) {
                continue;
            }
            let Some((conversation, mut ended)) = open.admit(peer.ip()) else { continue };
            let router = router.clone().layer(Extension(ConnectInfo::<SocketAddr>(peer)));
            let talk = serve(stream, router.layer(Extension(conversation.clone())), stopped.clone());
            tokio::spawn(async move {
                tokio::pin!(talk);
                let stays = async {
                    while !conversation.is_over(Instant::now()) {
                        tokio::time::sleep(LOOK).await;
                    }
                };
                tokio::select! {
                    () = &mut talk => {}
                    Ok(()) = &mut ended => {}
                    () = stays => {}
                }
            });
        }
    });
    Listening(stop)
}

async fn converse<T>(stream: T, router: Router, mut stopped: watch::Receiver<()>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = router.layer(from_fn(drained));
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(SLOWEST).max_buf_size(BYTES_A_CONNECTION);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(32 << 10);
    let service = TowerToHyperService::new(router);
    let talk = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(talk);
    tokio::select! {
        _ = &mut talk => return,
        _ = stopped.changed() => {}
    }
    // Whoever closed the door gets the answer to that.
    talk.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(LAST_WORDS, talk).await;
}

fn contains((network, prefix): (IpAddr, u8), address: IpAddr) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(a) => (u128::from(u32::from(a)) << 96, 32),
        IpAddr::V6(a) => (u128::from(a), 128),
    };
    let ((network, length), (address, address_length)) = (bits(network), bits(address.to_canonical()));
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
    length == address_length && network & mask == address & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let check = |network: &str, prefix, address: &str, expect| {
            let network = (network.parse().unwrap(), prefix);
            assert_eq!(contains(network, address.parse().unwrap()), expect, "{network:?} {address}");
        };
        check("127.0.0.0", 8, "127.9.9.9", true);
        check("127.0.0.0", 8, "128.0.0.1", false);
        check("127.0.0.0", 8, "::ffff:127.0.0.1", true);
        check("0.0.0.0", 0, "8.8.8.8", true);
        check("0.0.0.0", 0, "::1", false);
        check("::1", 128, "::1", true);
        check("2001:db8::", 32, "2001:db8:1::", true);
    }
}
