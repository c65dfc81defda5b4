//! How a message gets to its receiver. Blocking, and bounded in time.

use std::io::Write;
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_model::{Delivery, EmailSettings, MailSecurity, Transport};
use evenkeel_scripts::Job;
use lettre::message::{Mailbox, header};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{Message as Mail, SmtpTransport, Transport as _};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;

use crate::group::{Happening, Message};

const PATIENCE: Duration = Duration::from_secs(20);

/// What was said by the receiver, or why it was not delivered.
pub fn deliver(how: &Delivery, node: &str, message: &Message) -> Result<String, String> {
    match how {
        Delivery::Email(settings) => email(settings, message),
        Delivery::Webhook { url, slack, ca } => webhook(url.expose(), *slack, ca.as_deref(), node, message),
        Delivery::Script { command, timeout } => script(command, *timeout, node, message),
        Delivery::Syslog { server, transport, ca, facility } => {
            let lines = message.happenings.iter().map(|h| syslog_line(node, *facility, h));
            syslog(server, *transport, ca.as_deref(), &lines.collect::<Vec<_>>())
        }
        Delivery::Snmp { agentx } => crate::snmp::notify(agentx, node, &message.happenings),
    }
}

fn email(settings: &EmailSettings, message: &Message) -> Result<String, String> {
    let said = |what: &str, e: &dyn std::fmt::Display| format!("{what}: {e}");
    let mailbox = |text: &str| text.parse::<Mailbox>().map_err(|e| said(text, &e));
    let mut mail = Mail::builder()
        .from(mailbox(&settings.from)?)
        .subject(message.title.clone())
        .date_now()
        .message_id(None)
        .header(header::ContentType::TEXT_PLAIN);
    for to in &settings.to {
        mail = mail.to(mailbox(to)?);
    }
    let mail = mail.body(message.text.clone()).map_err(|e| said("the message", &e))?;
    let parameters = || -> Result<TlsParameters, String> {
        let mut parameters = TlsParameters::builder(settings.host.clone());
        if let Some(file) = &settings.ca {
            let pem = evenkeel_files::read(file, evenkeel_files::PEM_AT_MOST)
                .map_err(|e| said(&file.display().to_string(), &e))?;
            let known = Certificate::from_pem(&pem).map_err(|_| not_pem(file))?;
            parameters = parameters.add_root_certificate(known);
        }
        parameters.build_rustls().map_err(|e| said("TLS", &e))
    };
    let tls = match settings.security {
        MailSecurity::StartTls => Tls::Required(parameters()?),
        MailSecurity::Tls => Tls::Wrapper(parameters()?),
        MailSecurity::None => Tls::None,
    };
    let mut transport = SmtpTransport::builder_dangerous(settings.host.clone())
        .port(settings.port)
        .tls(tls)
        .timeout(Some(PATIENCE));
    if let (Some(name), Some(file)) = (&settings.username, &settings.password_file) {
        let text = evenkeel_files::read_text(file, evenkeel_files::TEXT_AT_MOST)
            .map_err(|e| said(&file.display().to_string(), &e))?;
        let password = text.lines().next().unwrap_or("").to_owned();
        transport = transport.credentials(Credentials::new(name.clone(), password));
    }
    let answer = transport.build().send(&mail).map_err(|e| e.to_string())?;
    Ok(format!("{} {}", answer.code(), answer.first_line().unwrap_or("accepted")))
}

/// Without what the file holds.
fn not_pem(file: &Path) -> String {
    format!("{}: is no PEM with a certificate", file.display())
}

fn generic(node: &str, message: &Message) -> serde_json::Value {
    let happenings = message.happenings.iter().map(|h| {
        json!({ "time-ms": h.time_ms, "kind": h.kind, "level": h.level, "subject": h.subject, "text": h.text })
    });
    json!({ "node": node, "title": message.title, "text": message.text, "happenings": happenings.collect::<Vec<_>>() })
}

fn webhook(
    url: &str,
    slack: bool,
    ca: Option<&Path>,
    node: &str,
    message: &Message,
) -> Result<String, String> {
    use ureq::tls::{Certificate as Authority, RootCerts, TlsConfig};
    let body = match slack {
        // What Slack takes for control characters is written out.
        true => {
            let plain = |t: &str| t.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            json!({ "text": format!("*{}*\n{}", plain(&message.title), plain(&message.text)) })
        }
        false => generic(node, message),
    };
    let mut tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    if let Some(file) = ca {
        let pem = evenkeel_files::read(file, evenkeel_files::PEM_AT_MOST)
            .map_err(|e| format!("{}: {e}", file.display()))?;
        let known = Authority::from_pem(&pem).map_err(|_| not_pem(file))?;
        tls = tls.root_certs(RootCerts::new_with_certs(&[known]));
    }
    let agent = ureq::Agent::config_builder()
        .tls_config(tls.build())
        .timeout_global(Some(PATIENCE))
        // An answer that sends elsewhere might send secrets elsewhere.
        .max_redirects(0)
        .http_status_as_error(false)
        .build()
        .new_agent();
    let sent = agent.post(url).content_type("application/json").send(body.to_string());
    // The address may hold a secret: it is not repeated.
    let in_words = |error: ureq::Error| match error {
        ureq::Error::BadUri(_) => "its address is not understood".to_owned(),
        other => other.to_string().replace(url, "the webhook"),
    };
    let status = sent.map_err(in_words)?.status();
    match status.is_success() {
        true => Ok(format!("HTTP {}", status.as_u16())),
        false => Err(format!("HTTP {}", status.as_u16())),
    }
}

fn script(command: &Path, limit: Duration, node: &str, message: &Message) -> Result<String, String> {
    let job = Job {
        command: command.to_owned(),
        arguments: vec![message.title.clone()],
        input: generic(node, message).to_string(),
        limit: Some(limit),
        ..Job::default()
    };
    let ended = evenkeel_scripts::run_and_wait(&job)?;
    if ended.code == Some(0) { Ok(ended.in_words()) } else { Err(ended.in_words()) }
}

/// RFC 5424, section 6.
pub fn syslog_line(node: &str, facility: u8, happening: &Happening) -> String {
    let severity = match happening.level.as_str() {
        "bad" => 3,
        "warning" => 4,
        "good" => 5,
        _ => 6,
    };
    let at = i64::try_from(happening.time_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let time = at.map_or_else(|| "-".into(), |t| t.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string());
    let field = |text: &str| -> String {
        let printable = text.chars().filter(char::is_ascii_graphic).take(32).collect::<String>();
        if printable.is_empty() { "-".into() } else { printable }
    };
    let text: String =
        happening.text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1500).collect();
    format!(
        "<{}>1 {time} {} evenkeel {} {} [origin software=\"evenkeel\" swVersion=\"{}\"] {text}",
        u32::from(facility) * 8 + severity,
        field(node),
        std::process::id(),
        field(&happening.kind),
        env!("CARGO_PKG_VERSION"),
    )
}

fn syslog(server: &str, transport: Transport, ca: Option<&Path>, lines: &[String]) -> Result<String, String> {
    let failed = |e: std::io::Error| format!("{server}: {e}");
    let mut addresses = server.to_socket_addrs().map_err(failed)?;
    let address = addresses.next().ok_or_else(|| format!("{server} has no address"))?;
    if transport == Transport::Udp {
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).map_err(failed)?;
        for line in lines {
            socket.send_to(line.as_bytes(), address).map_err(failed)?;
        }
        return Ok("sent; nobody says whether it arrived".into());
    }
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    // Octet counting, RFC 6587 section 3.4.1 and RFC 5425 section 4.3.
    let framed: String = lines.iter().map(|line| format!("{} {line}", line.len())).collect();
    if transport == Transport::Tcp {
        stream.write_all(framed.as_bytes()).map_err(failed)?;
        return Ok("taken by TCP".into());
    }
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
    let config = tls_config(ca)?;
    let mut connection = rustls::ClientConnection::new(config, name).map_err(|e| e.to_string())?;
    let mut tls = rustls::Stream::new(&mut connection, &mut stream);
    tls.write_all(framed.as_bytes()).and_then(|()| tls.flush()).map_err(failed)?;
    connection.send_close_notify();
    connection.complete_io(&mut stream).map_err(failed)?;
    Ok("taken by TLS".into())
}

fn tls_config(ca: Option<&Path>) -> Result<Arc<rustls::ClientConfig>, String> {
    let mut roots = rustls::RootCertStore::empty();
    match ca {
        Some(file) => {
            let pem = evenkeel_files::read(file, evenkeel_files::PEM_AT_MOST)
                .map_err(|e| format!("{}: {e}", file.display()))?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate = certificate.map_err(|_| not_pem(file))?;
                roots.add(certificate).map_err(|e| format!("{}: {e}", file.display()))?;
            }
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_syslog() {
        let happening = Happening {
            time_ms: 1_700_000_000_123,
            kind: "server-down".into(),
            level: "bad".into(),
            subject: "web/web1".into(),
            text: "web/web1 is down:\n<13>forged".into(),
        };
        let line = syslog_line("lb 1", 3, &happening);
        let head = "<27>1 2023-11-14T22:13:20.123Z lb1 evenkeel ";
        assert!(line.starts_with(head) && line.ends_with("] web/web1 is down: <13>forged"), "{line}");
        assert!(!line.contains('\n'));
    }
}
