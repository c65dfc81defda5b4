//! The TLS keys of services and pools.

use evenkeel_model::{ClientAuth, Mode, ServerTls, TlsPolicy, TlsSettings, TlsVersion};

use crate::problem::Problem;
use crate::section::Section;

pub fn of_service(service: Section<'_>, mode: Mode, problems: &mut Vec<Problem>) -> Option<TlsSettings> {
    let table = service.section("tls")?;
    let listed = table.value("certificate-list").is_some() || table.value("acme").is_some();
    if !listed && table.list("certificates").next().is_none() {
        let place = table.span("certificates").or_else(|| service.span("tls")).unwrap_or(0..0);
        problems.push(
            Problem::new(place, "`tls` names no certificate").help(
                "`certificates` names PEM files and folders of them, `certificate-list` a file of them, `acme` an authority that gives one",
            ),
        );
    }
    let texts = |key: &str| table.list(key).filter_map(|v| v.get_ref().as_str());
    let client_auth = table.section("client-auth").and_then(|auth| {
        Some(ClientAuth {
            required: auth.text("mode") != Some("optional"),
            ca: auth.text("ca")?.into(),
            crl: auth.text("crl").map(Into::into),
            headers: auth.value("headers").is_none() || auth.flag("headers"),
        })
    });
    let alpn = match (table.value("alpn"), mode) {
        (Some(_), _) => texts("alpn").map(str::to_owned).collect(),
        (None, Mode::Http) => vec!["h2".to_owned(), "http/1.1".to_owned()],
        (None, _) => Vec::new(),
    };
    Some(TlsSettings {
        certificates: texts("certificates").map(Into::into).collect(),
        list: table.text("certificate-list").map(Into::into),
        managed: None,
        strict_sni: table.flag("strict-sni"),
        min_version: table.text("min-version").and_then(TlsVersion::parse).unwrap_or(TlsVersion::Tls12),
        policy: table.text("policy").and_then(TlsPolicy::parse).unwrap_or_default(),
        alpn,
        client_auth,
    })
}

pub fn of_servers(pool: Section<'_>) -> Option<ServerTls> {
    pool.section("server-tls").map(of_table)
}

pub fn of_table(table: Section<'_>) -> ServerTls {
    ServerTls {
        verify: table.value("verify").is_none() || table.flag("verify"),
        ca: table.text("ca").map(Into::into),
        sni: table.text("sni").map(str::to_owned),
        certificate: table.text("certificate").map(Into::into),
    }
}
