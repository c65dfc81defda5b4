//! Verifiers against certificates that OpenSSL made.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_trust::{Anyone, Authorities, Revoked, has_key};
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, SupportedProtocolVersion};

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
    let servers = authorities.of_servers(Revoked::default(), provider.clone(), true).unwrap();
    let built =
        WebPkiClientVerifier::builder_with_provider(authorities.roots(), provider.clone()).build().unwrap();
    let clients = authorities.of_clients(built, Revoked::default(), provider).unwrap();
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

/// An authority, another one, an intermediate one, and what they signed: `NAME.crt` with `NAME.key`.
const SIGNED: &str = r#"
root() { openssl req -x509 -newkey rsa:2048 -nodes -days 9 -keyout $1.key -out $1.crt -subj "/CN=$1"; }
signed() { # NAME AUTHORITY SUBJECT EXTENSIONS MORE…
    name=$1 by=$2 subject=$3; printf "$4" > $name.ext; shift 4
    openssl req -newkey rsa:2048 -nodes -keyout $name.key -out $name.csr -subj "$subject"
    extensions=; test ! -s $name.ext || extensions="-extfile $name.ext"
    openssl x509 -req -in $name.csr -CA $by.crt -CAkey $by.key -CAcreateserial -days 9 $extensions "$@" -out $name.crt
}
root ca; root other
signed between ca /CN=between 'basicConstraints=critical,CA:TRUE\n'
signed old ca /CN=in.example.test ''
signed old-of-other other /CN=in.example.test ''
signed old-of-between between /CN=in.example.test ''
signed old-sha1 ca /CN=in.example.test '' -sha1
signed common-name ca /CN=in.example.test 'basicConstraints=CA:FALSE\n'
signed other-name ca /CN=in.example.test 'subjectAltName=DNS:other.example.test\n'
signed address ca /CN=in.example.test 'subjectAltName=IP:192.0.2.1\n'
signed unknown ca /CN=in.example.test '1.2.3.4.5=critical,ASN1:UTF8String:x\nsubjectAltName=DNS:in.example.test\n'
openssl x509 -in old.crt -noout -text | grep -q 'Version: 1'
: > index.txt; echo 01 > crlnumber
printf '[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=crlnumber\ndefault_md=sha256\ndefault_crl_days=9\n' > crl.conf
openssl ca -config crl.conf -cert ca.crt -keyfile ca.key -revoke old.crt
openssl ca -config crl.conf -cert ca.crt -keyfile ca.key -revoke common-name.crt
openssl ca -config crl.conf -cert ca.crt -keyfile ca.key -gencrl -out crl.pem
grep -v crlnumber crl.conf > crl-old.conf
openssl ca -config crl-old.conf -cert ca.crt -keyfile ca.key -gencrl -out crl-old.pem
openssl ca -config crl-old.conf -cert other.crt -keyfile other.key -gencrl -out crl-strange.pem
"#;

/// What a server and a client with these certificates are told; nothing where they are trusted.
const TRUSTED: [(&str, &str, &str); 9] = [
    ("old", "", ""),
    ("old-of-other", "of X.509 version 1 and none", "of X.509 version 1 and none"),
    ("old-of-between", "of X.509 version 1 and none", "of X.509 version 1 and none"),
    ("old-sha1", "of X.509 version 1 and none", "of X.509 version 1 and none"),
    ("common-name", "", ""),
    ("other-name", "not valid for name", ""),
    // An address is no name of a host: the subject's counts.
    ("address", "", ""),
    ("unknown", "UnsupportedCriticalExtension", "UnsupportedCriticalExtension"),
    ("between", "CaUsedAsEndEntity", "CaUsedAsEndEntity"),
];

#[test]
fn odd_certificates_are_trusted_where_an_authority_signed_them() {
    let folder = made("odd", SIGNED);
    let authorities = Authorities::new(vec![certificate(&folder, "ca.crt")]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let servers = authorities.of_servers(Revoked::default(), provider.clone(), true).unwrap();
    let any_name = authorities.of_servers(Revoked::default(), provider.clone(), false).unwrap();
    let clients = |revoked: Vec<CertificateRevocationListDer<'static>>| {
        let revoked = Revoked::new(revoked);
        let mut built = WebPkiClientVerifier::builder_with_provider(authorities.roots(), provider.clone());
        if !revoked.lists.is_empty() {
            built = built.with_crls(revoked.lists.clone());
        }
        authorities.of_clients(built.build().unwrap(), revoked, provider.clone())
    };
    let all = |lists| clients(lists).unwrap();
    let name = ServerName::try_from("in.example.test").unwrap();
    let told = |result: Result<(), rustls::Error>| result.err().map_or_else(String::new, |e| e.to_string());
    let holds = |told: &str, expect: &str| told.contains(expect) && expect.is_empty() == told.is_empty();
    for (which, at_server, at_client) in TRUSTED {
        let der = certificate(&folder, &format!("{which}.crt"));
        let others = [certificate(&folder, "between.crt")];
        let server = servers.verify_server_cert(&der, &others, &name, &[], UnixTime::now()).map(|_| ());
        let client = all(Vec::new()).verify_client_cert(&der, &others, UnixTime::now()).map(|_| ());
        let (server, client) = (told(server), told(client));
        assert!(holds(&server, at_server), "{which}, a server: {server:?}");
        let any = any_name.verify_server_cert(&der, &others, &name, &[], UnixTime::now()).map(|_| ());
        let without_name = if at_server == "not valid for name" { "" } else { at_server };
        assert!(holds(&told(any), without_name), "{which}, a server of any name");
        assert!(holds(&client, at_client), "{which}, a client: {client:?}");
    }
    let old = certificate(&folder, "old.crt");
    let named = certificate(&folder, "common-name.crt");
    for (file, lists) in [("crl.pem", 1), ("crl-old.pem", 0)] {
        let crl = CertificateRevocationListDer::from_pem_file(folder.join(file)).unwrap();
        assert_eq!(Revoked::new(vec![crl.clone()]).lists.len(), lists, "{file}");
        for der in [&old, &named] {
            let revoked = all(vec![crl.clone()]).verify_client_cert(der, &[], UnixTime::now()).map(|_| ());
            assert!(told(revoked).contains("Revoked"), "{file}");
            let revoked = Revoked::new(vec![crl.clone()]);
            let servers = authorities.of_servers(revoked, provider.clone(), false).unwrap();
            let revoked = servers.verify_server_cert(der, &[], &name, &[], UnixTime::now()).map(|_| ());
            assert!(told(revoked).contains("Revoked"), "{file}, a server");
        }
        let other = certificate(&folder, "other-name.crt");
        assert!(all(vec![crl]).verify_client_cert(&other, &[], UnixTime::now()).is_ok());
    }
    let strange = CertificateRevocationListDer::from_pem_file(folder.join("crl-strange.pem")).unwrap();
    let of_servers = authorities.of_servers(Revoked::new(vec![strange.clone()]), provider.clone(), true);
    assert!(of_servers.is_err_and(|why| why.contains("none of the authorities")));
    assert!(clients(vec![strange.clone()]).is_err_and(|why| why.contains("none of the authorities")));
    // Beside a list of the authorities' own it says nothing.
    let own = CertificateRevocationListDer::from_pem_file(folder.join("crl-old.pem")).unwrap();
    let revoked = all(vec![strange, own]).verify_client_cert(&old, &[], UnixTime::now()).map(|_| ());
    assert!(told(revoked).contains("Revoked"));
    let later = UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs() + 20 * 86_400));
    let expired = all(Vec::new()).verify_client_cert(&old, &[], later).map(|_| ());
    assert!(told(expired).contains("Expired"));
    std::fs::remove_dir_all(folder).unwrap();
}

/// Handshakes until both sides are done.
fn handshake(client: ClientConfig, server: ServerConfig) -> Result<(), rustls::Error> {
    let name = ServerName::try_from("in.example.test").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets()?;
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

/// Both sides of a handshake over one version of TLS, with the certificates of a folder.
struct Handshakes {
    folder: PathBuf,
    provider: Arc<CryptoProvider>,
    version: &'static SupportedProtocolVersion,
    /// Servers are not asked who vouches for them, clients for no certificate.
    anyone: bool,
}

impl Handshakes {
    fn authorities(&self) -> Authorities {
        Authorities::new(vec![certificate(&self.folder, "ca.crt")]).unwrap()
    }

    /// What a side shows that has the certificate of one and the key of another.
    fn shown(&self, certificate_of: &str, key_of: &str) -> Arc<SingleCertAndKey> {
        let key = PrivateKeyDer::from_pem_file(self.folder.join(format!("{key_of}.key"))).unwrap();
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
        let chain = vec![certificate(&self.folder, &format!("{certificate_of}.crt"))];
        assert_eq!(has_key(&chain[0], key.as_ref()), certificate_of == key_of);
        Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)))
    }

    fn server(&self, shown: Arc<SingleCertAndKey>) -> ServerConfig {
        let server = ServerConfig::builder_with_provider(self.provider.clone());
        let server = server.with_protocol_versions(&[self.version]).unwrap();
        if self.anyone {
            return server.with_no_client_auth().with_cert_resolver(shown);
        }
        let authorities = self.authorities();
        let built = WebPkiClientVerifier::builder_with_provider(authorities.roots(), self.provider.clone());
        let clients = authorities
            .of_clients(built.build().unwrap(), Revoked::default(), self.provider.clone())
            .unwrap();
        server.with_client_cert_verifier(clients).with_cert_resolver(shown)
    }

    fn client(&self, shown: Arc<SingleCertAndKey>) -> ClientConfig {
        let verifier: Arc<dyn ServerCertVerifier> = match self.anyone {
            true => Arc::new(Anyone(self.provider.clone())),
            false => self.authorities().of_servers(Revoked::default(), self.provider.clone(), true).unwrap(),
        };
        let client = ClientConfig::builder_with_provider(self.provider.clone());
        let client = client.with_protocol_versions(&[self.version]).unwrap();
        client.dangerous().with_custom_certificate_verifier(verifier).with_client_cert_resolver(shown)
    }
}

/// A key signs the handshake: the right one is taken and another one refused, whatever the certificate is like.
#[test]
fn signatures_of_handshakes_are_looked_at_with_odd_certificates() {
    let folder = made("handshakes", SIGNED);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let wrong = |result: &Result<(), rustls::Error>| format!("{result:?}").contains("BadSignature");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (which, anyone) in [("old", false), ("old", true), ("common-name", false), ("unknown", true)] {
            let sides = Handshakes { folder: folder.clone(), provider: provider.clone(), version, anyone };
            let (right, strange) = (sides.shown(which, which), sides.shown(which, "other"));
            let done = handshake(sides.client(right.clone()), sides.server(right.clone()));
            assert!(done.is_ok(), "{which} {version:?}: {done:?}");
            let server = handshake(sides.client(right.clone()), sides.server(strange.clone()));
            assert!(wrong(&server), "{which} {version:?}: {server:?}");
            let client = handshake(sides.client(strange), sides.server(right));
            assert!(anyone || wrong(&client), "{which} {version:?}: {client:?}");
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}
