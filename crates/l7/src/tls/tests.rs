use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::server::ProducesTickets;

use super::certificate::{self, Files};
use super::server::Resolver;
use super::ticket::{self, ServiceTickets, TicketKeys};

#[test]
fn tickets_open_until_their_key_has_gone() {
    let keys = Arc::new(TicketKeys::new(0));
    let service = ServiceTickets::new(keys.clone(), [1; 32]);
    let ticket = service.encrypt(b"state").unwrap();
    assert_eq!(service.decrypt(&ticket).as_deref(), Some(&b"state"[..]));
    let mut changed = ticket.clone();
    for at in 0..changed.len() {
        changed[at] ^= 1;
        assert_eq!(service.decrypt(&changed), None, "byte {at}");
        changed[at] ^= 1;
    }
    keys.rotate(10);
    assert_eq!(keys.secrets().keys.len(), 1, "too early for a new key");
    keys.rotate(ticket::ROTATION_SECONDS);
    assert!(service.decrypt(&ticket).is_some(), "the earlier key still reads");
    let successor = Arc::new(TicketKeys::new(5));
    successor.set(keys.secrets());
    let successor = ServiceTickets::new(successor, [1; 32]);
    assert!(successor.decrypt(&ticket).is_some(), "a successor reads what this one wrote");
    keys.rotate(2 * ticket::ROTATION_SECONDS);
    keys.rotate(3 * ticket::ROTATION_SECONDS);
    assert_eq!(service.decrypt(&ticket), None);
}

#[test]
fn tickets_open_only_where_they_mean_the_same() {
    let keys = Arc::new(TicketKeys::new(0));
    let [one, same, other] = [[1; 32], [1; 32], [2; 32]].map(|b| ServiceTickets::new(keys.clone(), b));
    let ticket = one.encrypt(b"who somebody is").unwrap();
    assert!(same.decrypt(&ticket).is_some());
    assert_eq!(other.decrypt(&ticket), None);
    // The same with a successor's or a peer's copy of the keys.
    let copy = Arc::new(TicketKeys::new(0));
    copy.set(keys.secrets());
    let [same, other] = [[1; 32], [2; 32]].map(|b| ServiceTickets::new(copy.clone(), b));
    assert!(same.decrypt(&ticket).is_some());
    assert_eq!(other.decrypt(&ticket), None);
}

/// A folder of the test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("evenkeel-l7-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let file = self.0.join(name);
        std::fs::write(&file, content).unwrap();
        file
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An authority's certificate, that of one below it, one of a host below that, with the host's key.
fn chain(host: &str) -> [String; 4] {
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    };
    let root = CertifiedIssuer::self_signed(authority("root"), KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let middle = CertifiedIssuer::signed_by(authority("middle"), key, &root).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, host);
    let leaf = params.signed_by(&key, &middle).unwrap();
    [root.as_ref().pem(), middle.as_ref().pem(), leaf.pem(), key.serialize_pem()]
}

fn loaded(file: &Path) -> Result<Vec<String>, String> {
    let all = certificate::load(file, &mut Files::default()).map_err(|e| e.to_string())?;
    Ok(all.iter().flat_map(|one| one.key.cert.iter()).map(|der| evenkeel_trust::subject(der)).collect())
}

#[test]
fn files_as_people_have_them() {
    let folder = Folder::new("kinds");
    let [root, middle, leaf, key] = chain("www.test");
    let [_, _, other, stranger] = chain("other.test");
    let whole = ["CN=www.test", "CN=middle", "CN=root"];
    let good: &[(&str, String, &[&str])] = &[
        ("in order", format!("{leaf}{middle}{key}"), &whole[..2]),
        ("with the root", format!("{leaf}{middle}{root}{key}"), &whole),
        ("turned round", format!("{key}{root}{middle}{leaf}"), &whole),
        ("Windows", format!("{leaf}{middle}{key}").replace('\n', "\r\n"), &whole[..2]),
        ("a mark and text", format!("\u{feff}{leaf}\nof us\n{middle}\nand this:\n{key}"), &whole[..2]),
        ("alone", format!("{leaf}{key}"), &whole[..1]),
    ];
    for (name, text, expected) in good {
        let found = loaded(&folder.write("www.pem", text)).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!(&found, expected, "{name}");
        // So does what is shown to real servers.
        let (shown, _) = certificate::one(&folder.0.join("www.pem")).unwrap();
        assert_eq!(evenkeel_trust::subject(&shown[0]), "CN=www.test", "{name}");
    }
    folder.write("theirs.pem", format!("{other}{stranger}"));
    let wide: Vec<u8> = format!("\u{feff}{leaf}{key}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let der = rustls::pki_types::CertificateDer::from_pem_slice(leaf.as_bytes()).unwrap();
    let bad: &[(&str, Vec<u8>, &[&str])] = &[
        (
            "a key of another",
            format!("{leaf}{middle}{stranger}").into(),
            &["CN=www.test; CN=middle", "theirs.pem: CN=other.test"],
        ),
        ("UTF-16", wide, &["UTF-16"]),
        ("DER", der.to_vec(), &["evenkeel cert import"]),
        (
            "with a passphrase",
            format!("{leaf}-----BEGIN ENCRYPTED PRIVATE KEY-----\n").into(),
            &["passphrase-file"],
        ),
        ("no key", leaf.clone().into(), &["no private key"]),
    ];
    for (name, bytes, expected) in bad {
        let why = loaded(&folder.write("www.pem", bytes)).expect_err(name);
        assert!(expected.iter().all(|e| why.contains(e)), "{name}: {why}");
    }
}

/// Of many certificates each is found by its name alone, and a change of one reads one.
#[test]
fn many_certificates() {
    const FILES: usize = 300;
    const NAMES: usize = 10_000;
    let folder = Folder::new("many");
    let [_, middle, leaf, key] = chain("www.test");
    let mut list = String::new();
    for i in 0..FILES {
        folder.write(&format!("{i}.pem"), format!("{leaf}{key}"));
        list += &format!("{i}.pem n{i}.test *.w{i}.test\n");
    }
    let list = folder.write("all.list", list);
    let mut files = Files::default();
    let all = certificate::load_list(&list, &mut files).unwrap();
    assert_eq!((all.len(), files.read), (FILES, FILES));
    let before = files.known;
    let mut again = Files::new(Some(&before));
    certificate::load_list(&list, &mut again).unwrap();
    assert_eq!(again.read, 0, "nothing has changed");
    folder.write("7.pem", format!("{leaf}{middle}{key}"));
    let mut changed = Files::new(Some(&before));
    let all = certificate::load_list(&list, &mut changed).unwrap();
    assert_eq!((changed.read, all[7].key.cert.len()), (1, 2));
    let template = &all[0];
    let many = (0..NAMES).map(|i| {
        let mut one = template.clone();
        one.info.names = vec![format!("n{i}.test"), format!("*.w{i}.test")];
        one
    });
    let resolver = Resolver::new(many.collect(), true);
    for i in 0..NAMES {
        // Those that are looked through for a kind of key: not one more with so many others.
        let count = |name: String| resolver.candidates(Some(&name)).len();
        assert_eq!((count(format!("n{i}.test")), count(format!("x.w{i}.test"))), (1, 1));
    }
    assert_eq!(resolver.candidates(Some("nobody.test")).len(), 0);
}
