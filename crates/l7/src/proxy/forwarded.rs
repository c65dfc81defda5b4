//! Headers that tell the real server about the client, beside the two that every head can carry.

use std::io::Write;
use std::net::IpAddr;

use evenkeel_model::VirtualService;
use evenkeel_routes::HeadChanges;

use super::session::Client;
use crate::h1::request::Request;

/// Adds what the service wants told. What clients send under names that must be true goes.
pub fn add(
    service: &VirtualService,
    client: &Client,
    request: &Request,
    head: &[u8],
    changes: &mut HeadChanges,
) {
    let wants = &service.forwarded;
    if wants.x_forwarded_host {
        changes.drop_named(b"x-forwarded-host");
        changes.add(b"X-Forwarded-Host", request.host.of(head));
    }
    if wants.x_forwarded_port {
        changes.drop_named(b"x-forwarded-port");
        changes.add(b"X-Forwarded-Port", client.vip.port().to_string().as_bytes());
    }
    if wants.x_real_ip {
        changes.drop_named(b"x-real-ip");
        changes.add(b"X-Real-IP", client.address.ip().to_canonical().to_string().as_bytes());
    }
    if wants.forwarded {
        let mut value = Vec::new();
        // RFC 7239 section 6: IPv6 addresses stand in brackets and quotes.
        let _ = match client.address.ip().to_canonical() {
            IpAddr::V4(ip) => write!(value, "for={ip}"),
            IpAddr::V6(ip) => write!(value, "for=\"[{ip}]\""),
        };
        let _ = write!(value, ";proto={}", client.scheme());
        let host = request.host.of(head);
        if !host.is_empty() && !host.contains(&b'"') && !host.contains(&b'\\') {
            value.extend_from_slice(b";host=\"");
            value.extend_from_slice(host);
            value.push(b'"');
        }
        changes.drop_named(b"forwarded");
        changes.add(b"Forwarded", &value);
    }
    let tells = service.tls.as_ref().and_then(|tls| tls.client_auth.as_ref()).is_some_and(|a| a.headers);
    if service.hides_certificate_fields {
        changes.drop_named(b"x-client-cert-*");
    }
    // What nobody vouches for is not told as if somebody did.
    let proven = client.tls.as_ref().filter(|tls| tls.fault.is_none());
    if tells && let Some(peer) = proven.and_then(|tls| tls.peer.as_ref()) {
        changes.add(b"X-Client-Cert-Subject", peer.subject.as_bytes());
        changes.add(b"X-Client-Cert-Issuer", peer.issuer.as_bytes());
        changes.add(b"X-Client-Cert-CN", peer.common_name.as_bytes());
        changes.add(b"X-Client-Cert-Serial", peer.serial.as_bytes());
        changes.add(b"X-Client-Cert-Fingerprint", peer.fingerprint.as_bytes());
    }
}
