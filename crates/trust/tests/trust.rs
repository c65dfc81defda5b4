//! Verifiers against certificates that OpenSSL made.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_trust::{Authorities, too_old};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;

/// A folder of its own with what the script made there.
fn made(name: &str, script: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("evenkeel-trust-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let done = Command::new("sh").args(["-ec", script]).current_dir(&folder).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    folder
}

fn certificate(folder: &Path, name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(folder.join(name)).unwrap()
}

#[test]
fn a_certificate_that_is_its_own_authority_is_trusted_as_it_is() {
    let folder = made(
        "own",
        "for n in a b; do openssl req -x509 -newkey rsa:2048 -nodes -days 9 -keyout $n.key -out $n.crt -subj /CN=in.test -addext subjectAltName=DNS:in.test; done",
    );
    let (known, stranger) = (certificate(&folder, "a.crt"), certificate(&folder, "b.crt"));
    let authorities = Authorities::new(vec![known.clone()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let servers = authorities.of_servers(provider.clone()).unwrap();
    let built = WebPkiClientVerifier::builder_with_provider(authorities.roots(), provider).build().unwrap();
    let clients = authorities.of_clients(built);
    let check = |der: &CertificateDer<'_>, name: &'static str, days: u64, expect: &str| {
        let name = ServerName::try_from(name).unwrap();
        let now = UnixTime::now().as_secs() - 86_400 + days * 86_400;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        let server = servers.verify_server_cert(der, &[], &name, &[], now).map(|_| ());
        let told = server.err().map_or_else(String::new, |e| e.to_string());
        assert!(
            if expect.is_empty() { told.is_empty() } else { told.contains(expect) },
            "{told:?} {expect:?}"
        );
        let client = clients.verify_client_cert(der, &[], now).map(|_| ());
        assert_eq!(client.is_ok(), expect.is_empty() || expect.contains("not valid for name"), "{client:?}");
    };
    check(&known, "in.test", 1, "");
    check(&known, "other.test", 1, "not valid for name");
    check(&known, "in.test", 20, "Expired");
    check(&known, "in.test", 0, "NotValidYet");
    check(&stranger, "in.test", 1, "invalid peer certificate");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_certificate_of_version_1_is_refused_by_its_name() {
    let folder = made(
        "old",
        "openssl req -x509 -newkey rsa:2048 -nodes -days 9 -keyout ca.key -out ca.crt -subj /CN=ca; openssl req -newkey rsa:2048 -nodes -keyout c.key -out c.csr -subj /CN=joe; openssl x509 -req -in c.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 9 -out c.crt",
    );
    let (ca, old) = (certificate(&folder, "ca.crt"), certificate(&folder, "c.crt"));
    assert!(too_old(&ca).is_none() && too_old(&old).is_some());
    let authorities = Authorities::new(vec![ca]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let built = WebPkiClientVerifier::builder_with_provider(authorities.roots(), provider).build().unwrap();
    let refused = authorities.of_clients(built).verify_client_cert(&old, &[], UnixTime::now()).unwrap_err();
    assert!(refused.to_string().contains("X.509 version 1"), "{refused}");
    std::fs::remove_dir_all(folder).unwrap();
}
