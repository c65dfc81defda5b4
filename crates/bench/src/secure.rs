//! Idle connections over TLS: handshakes are made one after the other, and the connections kept.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use evenkeel_trust::Anyone;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// Opens so many, has a request answered on each, says so, and keeps them for a time.
pub fn hold(address: SocketAddr, path: &str, connections: usize, seconds: f64) -> anyhow::Result<()> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        // TLS 1.3 is measured.
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    let config = Arc::new(config);
    let name = ServerName::try_from("localhost")?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n");
    let mut held = Vec::with_capacity(connections);
    for _ in 0..connections {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut tls = StreamOwned::new(ClientConnection::new(config.clone(), name.clone())?, stream);
        tls.write_all(request.as_bytes())?;
        let mut answer = [0; 4096];
        let count = tls.read(&mut answer)?;
        anyhow::ensure!(answer[..count].starts_with(b"HTTP/1.1 200"), "no answer over TLS");
        // What a client keeps is not measured: the socket alone stays.
        held.push(tls.sock);
    }
    println!("holding");
    std::thread::sleep(Duration::from_secs_f64(seconds));
    drop(held);
    Ok(())
}
