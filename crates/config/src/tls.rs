//! The TLS keys of services and pools.

use evenkeel_model::{
    CertificateFault, ClientAuth, Host, Mode, PortRange, PortSet, ServerSpeaks, ServerTls, SniFrom,
    TlsPolicy, TlsSettings, TlsVersion, Vip,
};

use crate::problem::Problem;
use crate::section::{Section, integer};

/// What is overlooked in the certificates of clients.
fn ignored(auth: Section<'_>) -> Vec<CertificateFault> {
    let words: Vec<&str> = auth.list("ignore").filter_map(|v| v.get_ref().as_str()).collect();
    match words.contains(&"all") {
        true => CertificateFault::ALL.to_vec(),
        false => words.into_iter().filter_map(CertificateFault::parse).collect(),
    }
}

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
            verify_ca: auth.text("verify-ca").map(Into::into),
            crl: auth.text("crl").map(Into::into),
            headers: auth.value("headers").is_none() || auth.flag("headers"),
            ignore: ignored(auth),
        })
    });
    let alpn = match (table.value("alpn"), mode) {
        (Some(_), _) => texts("alpn").map(str::to_owned).collect(),
        (None, Mode::Http) => vec!["h2".to_owned(), "http/1.1".to_owned()],
        (None, _) => Vec::new(),
    };
    let version = |key: &str| table.text(key).and_then(TlsVersion::parse);
    let policy = table.text("policy").and_then(TlsPolicy::parse).unwrap_or_default();
    let min_version = version("min-version").unwrap_or(TlsVersion::Tls12);
    let max_version = version("max-version").unwrap_or(TlsVersion::Tls13);
    let oldest = if policy == TlsPolicy::Modern { TlsVersion::Tls13 } else { min_version };
    if max_version < oldest {
        let place = table.span("max-version").unwrap_or(0..0);
        let message = "`max-version` leaves no version of TLS to speak".to_owned();
        problems.push(Problem::new(place, message).help("`policy = \"modern\"` is TLS 1.3 alone"));
    }
    let (vips, plain) = vips(service, table, problems);
    Some(TlsSettings {
        certificates: texts("certificates").map(Into::into).collect(),
        list: table.text("certificate-list").map(Into::into),
        managed: None,
        strict_sni: table.flag("strict-sni"),
        min_version,
        max_version,
        policy,
        alpn,
        client_auth,
        ports: ports(service, table, problems),
        vips,
        plain,
    })
}

/// The VIPs that speak TLS, each of which is one of the service or a part of it, and those that do not.
fn vips(service: Section<'_>, table: Section<'_>, problems: &mut Vec<Problem>) -> (Vec<Vip>, Vec<Vip>) {
    let parsed = |value: &toml::Spanned<toml::de::DeValue<'_>>| {
        value.get_ref().as_str().and_then(|text| Vip::parse_all(text).ok()).unwrap_or_default()
    };
    let all: Vec<Vip> = service.list("vip").flat_map(parsed).collect();
    let mut vips = Vec::new();
    for value in table.list("vips") {
        for vip in parsed(value) {
            let within = |other: &Vip| {
                let covers = |r: &PortRange| other.ports.contains(r.first) && other.ports.contains(r.last);
                vip.address == other.address && vip.ports.ranges().iter().all(covers)
            };
            if !all.iter().any(within) {
                let message = format!("`vips`: {vip} is no `vip` of this service");
                problems.push(
                    Problem::new(value.span(), message).help("`vips` are those of `vip` that speak TLS"),
                );
            }
            vips.push(vip);
        }
    }
    if !vips.is_empty() && table.value("ports").is_some() {
        let place = table.span("ports").unwrap_or(0..0);
        problems
            .push(Problem::new(place, "`ports` and `vips` both say who speaks TLS").help("keep one of them"));
    }
    let plain =
        if vips.is_empty() { Vec::new() } else { all.into_iter().filter(|v| !vips.contains(v)).collect() };
    (vips, plain)
}

/// The ports that speak TLS, each of which a VIP must have.
fn ports(service: Section<'_>, table: Section<'_>, problems: &mut Vec<Problem>) -> Vec<u16> {
    let vips = service.list("vip").filter_map(|vip| vip.get_ref().as_str());
    let all: Vec<PortSet> = vips.filter_map(|vip| PortSet::parse(vip.rsplit_once(':')?.1).ok()).collect();
    let mut ports = Vec::new();
    for value in table.list("ports") {
        let Some(port) = integer(value.get_ref()).and_then(|port| u16::try_from(port).ok()) else { continue };
        let listens = all.iter().flat_map(PortSet::ranges).any(|r| (r.first..=r.last).contains(&port));
        if !listens {
            let message = format!("`ports`: no `vip` of this service has port {port}");
            problems
                .push(Problem::new(value.span(), message).help("`ports` are those of `vip` that speak TLS"));
        }
        ports.push(port);
    }
    ports
}

pub fn of_servers(pool: Section<'_>) -> Option<ServerTls> {
    pool.section("server-tls").map(of_table)
}

/// What one real server speaks, where that is not as its pool says. One that is written by name is verified
/// by that name, where nothing else is said.
pub fn of_server(
    common: Option<ServerTls>,
    server: Section<'_>,
    host: Option<&Host>,
) -> Option<ServerSpeaks> {
    let own = server.section("server-tls");
    if own.is_some_and(|own| own.value("enabled").is_some() && !own.flag("enabled")) {
        return common.map(|_| ServerSpeaks::Plain);
    }
    let mut tls = match (own, common.clone()) {
        (None, None) => return None,
        (None, Some(common)) => common,
        (Some(own), None) => of_table(own),
        (Some(own), Some(common)) => {
            let mine = of_table(own);
            ServerTls {
                verify: if own.value("verify").is_some() { mine.verify } else { common.verify },
                verify_name: match own.value("verify-name") {
                    Some(_) => mine.verify_name,
                    None => common.verify_name,
                },
                ca: mine.ca.or(common.ca),
                crl: mine.crl.or(common.crl),
                sni: mine.sni.clone().or(common.sni.filter(|_| mine.sni_from.is_none())),
                sni_from: mine.sni_from.or(common.sni_from.filter(|_| mine.sni.is_none())),
                certificate: mine.certificate.or(common.certificate),
            }
        }
    };
    if tls.verifies_name() && tls.sni.is_none() && tls.sni_from.is_none() {
        tls.sni = host.map(|host| host.name.as_str().to_owned());
    }
    (common.as_ref() != Some(&tls)).then_some(ServerSpeaks::Tls(tls))
}

pub fn of_table(table: Section<'_>) -> ServerTls {
    let sni = table.text("sni");
    let sni_from = match sni {
        Some("{host}") => Some(SniFrom::Host),
        Some("{sni}") => Some(SniFrom::ClientSni),
        _ => None,
    };
    ServerTls {
        verify: table.value("verify").is_none() || table.flag("verify"),
        verify_name: table.value("verify-name").is_none() || table.flag("verify-name"),
        ca: table.text("ca").map(Into::into),
        crl: table.text("crl").map(Into::into),
        sni: sni.filter(|_| sni_from.is_none()).map(str::to_owned),
        sni_from,
        certificate: table.text("certificate").map(Into::into),
    }
}
