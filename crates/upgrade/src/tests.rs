use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use data_encoding::{BASE64, HEXLOWER};

use super::*;

/// A key of minisign's format and what it signs.
struct Key(Ed25519KeyPair);

impl Key {
    fn new(seed: u8) -> Key {
        Key(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    fn public(&self) -> String {
        let bytes = [b"Ed12345678".as_slice(), self.0.public_key().as_ref()].concat();
        format!("untrusted comment: a key\n{}\n", BASE64.encode(&bytes))
    }

    fn sign(&self, message: &[u8]) -> String {
        let signature = self.0.sign(message);
        let bytes = [b"Ed12345678".as_slice(), signature.as_ref()].concat();
        let comment = "a bundle";
        let global = self.0.sign(&[signature.as_ref(), comment.as_bytes()].concat());
        format!(
            "untrusted comment: signature\n{}\ntrusted comment: {comment}\n{}\n",
            BASE64.encode(&bytes),
            BASE64.encode(global.as_ref())
        )
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("evenkeel-upgrade-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("keys")).unwrap();
        Folder(folder)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let file = self.0.join(name);
        std::fs::write(&file, bytes).unwrap();
        file
    }

    fn keys(&self) -> PathBuf {
        self.0.join("keys")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn manifest(parts: &[(PartKind, &[u8])]) -> Vec<u8> {
    let sha256 = |bytes: &[u8]| HEXLOWER.encode(digest(&SHA256, bytes).as_ref());
    let part = |(kind, bytes): &(PartKind, &[u8])| Part {
        kind: *kind,
        size: bytes.len() as u64,
        sha256: sha256(bytes),
    };
    let parts = parts.iter().map(part).collect();
    serde_json::to_vec(&Manifest { version: "0.2.0".into(), architecture: "amd64".into(), parts }).unwrap()
}

fn bundle(key: &Key, manifest: &[u8], parts: &[(PartKind, &[u8])]) -> Vec<u8> {
    let signature = key.sign(manifest);
    let mut bytes = format!("EVENKEEL-BUNDLE 1 {} {}\n", manifest.len(), signature.len()).into_bytes();
    bytes.extend(manifest);
    bytes.extend(signature.as_bytes());
    parts.iter().for_each(|(_, part)| bytes.extend(*part));
    bytes
}

const PARTS: &[(PartKind, &[u8])] = &[(PartKind::Package, b"a package"), (PartKind::System, &[7; 5000])];

#[test]
fn a_bundle_is_taken_as_a_whole_or_not_at_all() {
    let folder = Folder::new("bundle");
    let key = Key::new(1);
    let open = |bytes: &[u8]| Bundle::open(&folder.write("bundle", bytes), &folder.keys());
    let good = bundle(&key, &manifest(PARTS), PARTS);
    assert!(open(&good).unwrap_err().contains("no key is known"), "without a key");
    folder.write("keys/another.pub", Key::new(2).public());
    assert!(open(&good).unwrap_err().contains("is not signed by the key"));
    folder.write("keys/maker.pub", key.public());
    let mut opened = open(&good).unwrap();
    assert_eq!((opened.manifest.version.as_str(), opened.signed_by.as_str()), ("0.2.0", "maker.pub"));
    let mut copied = Vec::new();
    opened.copy(PartKind::Package, &mut copied).unwrap();
    assert_eq!(copied, b"a package");
    // Every byte counts.
    for at in (0..good.len()).step_by(3) {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        // What minisign says of itself in the open is signed by nobody.
        let refused = open(&bytes);
        let comment = b"untrusted comment: signature";
        let start = good.windows(comment.len()).position(|w| w == comment).unwrap();
        assert!(refused.is_err() || (start..start + comment.len()).contains(&at), "byte {at}");
    }
    for length in [0, 10, 40, 200, good.len() - 5000, good.len() - 1] {
        assert!(open(&good[..length]).is_err(), "cut at {length}");
    }
    let longer = [good.as_slice(), b"x"].concat();
    assert!(open(&longer).unwrap_err().contains("not copied as a whole"));
}

#[test]
fn what_no_bundle_can_say_is_refused() {
    let folder = Folder::new("hostile");
    let key = Key::new(1);
    folder.write("keys/maker.pub", key.public());
    let check = |bytes: &[u8], why: &str| {
        let said = Bundle::open(&folder.write("bundle", bytes), &folder.keys()).unwrap_err();
        assert!(said.contains(why), "{said}");
    };
    check(b"!<arch>\n", "is no bundle");
    check(b"EVENKEEL-BUNDLE 2 1 1\n", "format 2");
    check(b"EVENKEEL-BUNDLE 1 99999999999 1\n", "impossible size");
    check(b"EVENKEEL-BUNDLE 1 -1 1\n", "impossible size");
    check(b"EVENKEEL-BUNDLE 1 100 100\nshort", "ends within");
    check(&[b'x'; 1 << 16], "is no bundle");
    let signed = |text: &str| bundle(&key, text.as_bytes(), &[]);
    check(&signed("{}"), "not understood");
    check(&signed("{\"version\":\"1\",\"architecture\":\"amd64\",\"parts\":[]}"), "no parts");
    let part = "{\"kind\":\"package\",\"size\":1,\"sha256\":\"\"}";
    check(
        &signed(&format!("{{\"version\":\"../1\",\"architecture\":\"amd64\",\"parts\":[{part}]}}")),
        "no version",
    );
    check(
        &signed(&format!("{{\"version\":\"1\",\"architecture\":\"amd64\",\"parts\":[{part},{part}]}}")),
        "two parts",
    );
    let huge = part.replace(":1,", ":18446744073709551615,");
    check(
        &signed(&format!("{{\"version\":\"1\",\"architecture\":\"amd64\",\"parts\":[{huge}]}}")),
        "too large",
    );
}

#[test]
fn versions_have_an_order() {
    for (older, newer) in [("0.1.0", "0.1.1"), ("0.9.0", "0.10.0"), ("1.0.0-rc1", "1.0.0"), ("1.0", "1.0.1")]
    {
        assert!(is_newer(newer, older) && !is_newer(older, newer), "{older} {newer}");
    }
    assert!(!is_newer("0.1.0", "0.1.0") && !is_newer("1.0", "1.0.0"));
}

/// As `grub-editenv FILE create` and `set system=a` make it.
fn environment() -> Vec<u8> {
    let mut text = "# GRUB Environment Block\nsystem=a\n".to_owned();
    text.push_str(&"#".repeat(1024 - text.len()));
    text.into_bytes()
}

fn boots(file: &Path) -> (String, Option<String>, Option<String>) {
    let environment = GrubEnvironment::parse(&std::fs::read(file).unwrap()).unwrap();
    let get = |name: &str| environment.get(name).map(str::to_owned);
    (get("system").unwrap(), get("next"), get("tries"))
}

#[test]
fn a_system_is_written_tried_once_and_kept() {
    let folder = Folder::new("system");
    let key = Key::new(1);
    folder.write("keys/maker.pub", key.public());
    let file = folder.write("bundle", bundle(&key, &manifest(PARTS), PARTS));
    let mut opened = Bundle::open(&file, &folder.keys()).unwrap();
    let small = folder.write("small", [0; 4999]);
    assert!(write_partition(&mut opened, &small).unwrap_err().contains("needs 5000"));
    assert_eq!(std::fs::read(&small).unwrap(), [0; 4999], "nothing is written where there is no room");
    let partition = folder.write("partition", [0; 8192]);
    write_partition(&mut opened, &partition).unwrap();
    let held = std::fs::read(&partition).unwrap();
    assert!(held[..5000] == [7; 5000] && held[5000..] == [0; 3192]);
    // The file changes after it was checked.
    let mut changed = std::fs::read(&file).unwrap();
    *changed.last_mut().unwrap() ^= 1;
    std::fs::write(&file, changed).unwrap();
    assert!(write_partition(&mut opened, &partition).unwrap_err().contains("not what was signed"));

    let grub = folder.write("grubenv", environment());
    let words = |a: &str, b: &str, c: &str| (a.to_owned(), Some(b.to_owned()), Some(c.to_owned()));
    let mut boot = Boot::read(&grub).unwrap();
    assert_eq!((boot.system(), boot.other()), ("a", "b"));
    boot.try_other().unwrap();
    assert_eq!(boots(&grub), words("a", "b", "1"));
    assert_eq!(std::fs::read(&grub).unwrap().len(), 1024);
    // It did not come up: the former one runs, and starts from now on.
    let mut boot = Boot::read(&grub).unwrap();
    assert!(!boot.keep("a").unwrap());
    assert_eq!(boots(&grub), ("a".into(), None, None));
    // It came up.
    boot.try_other().unwrap();
    let mut boot = Boot::read(&grub).unwrap();
    assert!(boot.keep("b").unwrap());
    assert_eq!(boots(&grub), ("b".into(), None, None));
    assert!(!Boot::read(&grub).unwrap().keep("b").unwrap(), "there is nothing to keep");
    for bad in [b"".as_slice(), b"# GRUB Environment Block\n", &[b'#'; 1024]] {
        assert!(Boot::read(&folder.write("bad", bad)).unwrap_err().contains("no environment block"));
    }
}
