//! What OpenSSL writes, read again.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Found, Made};

/// A root, an intermediate authority and a certificate of each kind of key, in every form that OpenSSL writes.
const SCRIPT: &str = r#"
subject() { openssl req -new -newkey $2 ${3:-} -nodes -keyout $1.key -subj "/CN=$1" -out $1.csr 2>/dev/null; }
sign() { printf "$3" > $1.ext; openssl x509 -req -in $1.csr -CA $2.crt -CAkey $2.key -CAcreateserial -days 30 -extfile $1.ext -out $1.crt 2>/dev/null; }
openssl req -x509 -newkey rsa:2048 -nodes -days 90 -keyout root.key -out root.crt -subj /CN=root 2>/dev/null
subject middle rsa:2048; sign middle root "basicConstraints=critical,CA:TRUE"
subject leaf rsa:2048; sign leaf middle "subjectAltName=DNS:leaf.test"
subject curve ec "-pkeyopt ec_paramgen_curve:prime256v1"; sign curve middle "subjectAltName=DNS:curve.test"
openssl x509 -req -in leaf.csr -CA root.crt -CAkey root.key -CAcreateserial -days 30 -out old.crt 2>/dev/null
openssl x509 -in leaf.crt -outform DER -out leaf.der
openssl pkcs8 -topk8 -nocrypt -in leaf.key -outform DER -out leaf.key.der
openssl rsa -in leaf.key -traditional -out leaf.pkcs1 2>/dev/null
openssl ec -in curve.key -out curve.sec1 2>/dev/null
openssl pkcs8 -topk8 -in leaf.key -passout pass:secret -out leaf.locked
openssl pkcs8 -topk8 -in leaf.key -passout pass:secret -v2 des3 -v2prf hmacWithSHA1 -out leaf.locked3
openssl pkcs8 -topk8 -in leaf.key -passout pass:secret -outform DER -out leaf.locked.der
openssl rsa -in leaf.key -aes128 -passout pass:secret -traditional -out leaf.ancient 2>/dev/null
openssl x509 -in leaf.crt -trustout -out leaf.trusted
cat middle.crt root.crt > chain.crt
openssl pkcs12 -export -in leaf.crt -inkey leaf.key -certfile chain.crt -passout pass:secret -out new.p12
openssl pkcs12 -export -in leaf.crt -inkey leaf.key -certfile chain.crt -passout pass: -out open.p12
openssl pkcs12 -export -in leaf.crt -inkey leaf.key -certfile chain.crt -passout pass:secret -legacy -out old.p12 2>/dev/null || cp new.p12 old.p12
openssl crl2pkcs7 -nocrl -certfile chain.crt -out chain.p7b
cat root.crt leaf.key middle.crt leaf.crt | sed 's/$/\r/' > windows.pem
(printf '\357\273\277'; echo 'Bag Attributes: of some program'; cat leaf.crt; echo 'and so on'; cat leaf.key middle.crt) > text.pem
"#;

fn made() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("evenkeel-import-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let done = Command::new("bash").args(["-ec", SCRIPT]).current_dir(&folder).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    folder
}

fn import(folder: &Path, files: &[&str], passphrase: Option<&str>) -> Result<Made, String> {
    let mut found = Found::default();
    for file in files {
        found.take(&std::fs::read(folder.join(file)).unwrap(), passphrase)?;
    }
    found.made()
}

/// The blocks of a result, by what they hold.
fn blocks(pem: &str) -> Vec<&str> {
    pem.lines().filter_map(|l| l.strip_prefix("-----BEGIN ")?.strip_suffix("-----")).collect()
}

#[test]
fn every_form_becomes_one_file() {
    let folder = made();
    let plain = ["CERTIFICATE", "CERTIFICATE", "PRIVATE KEY"];
    let secret = Some("secret");
    /// Files, their passphrase, the blocks of the result, and what its certificate is of.
    type Case<'a> = (&'a [&'a str], Option<&'a str>, &'a [&'a str], &'a str);
    let cases: &[Case<'_>] = &[
        (&["leaf.crt", "chain.crt", "leaf.key"], None, &plain, "CN=leaf"),
        (&["leaf.key", "root.crt", "middle.crt", "leaf.crt"], None, &plain, "CN=leaf"),
        (&["leaf.der", "leaf.key.der", "chain.crt"], None, &plain, "CN=leaf"),
        (&["windows.pem"], None, &plain, "CN=leaf"),
        (&["text.pem"], None, &plain, "CN=leaf"),
        (&["leaf.trusted", "leaf.key", "chain.crt"], None, &plain, "CN=leaf"),
        (
            &["leaf.crt", "middle.crt", "leaf.pkcs1"],
            None,
            &["CERTIFICATE", "CERTIFICATE", "RSA PRIVATE KEY"],
            "CN=leaf",
        ),
        (
            &["curve.crt", "middle.crt", "curve.sec1"],
            None,
            &["CERTIFICATE", "CERTIFICATE", "EC PRIVATE KEY"],
            "CN=curve",
        ),
        (&["curve.crt", "curve.key"], None, &["CERTIFICATE", "PRIVATE KEY"], "CN=curve"),
        // Of version 1.
        (&["old.crt", "leaf.key"], None, &["CERTIFICATE", "PRIVATE KEY"], "CN=leaf"),
        (&["root.crt", "root.key"], None, &["CERTIFICATE", "PRIVATE KEY"], "CN=root"),
        (&["leaf.crt", "leaf.locked", "chain.crt"], secret, &plain, "CN=leaf"),
        (&["leaf.crt", "leaf.locked3", "chain.crt"], secret, &plain, "CN=leaf"),
        (&["leaf.der", "leaf.locked.der", "chain.crt"], secret, &plain, "CN=leaf"),
        (&["new.p12"], secret, &plain, "CN=leaf"),
        (&["old.p12"], secret, &plain, "CN=leaf"),
        (&["open.p12"], None, &plain, "CN=leaf"),
    ];
    for (files, passphrase, expected, subject) in cases {
        let made = import(&folder, files, *passphrase).unwrap_or_else(|why| panic!("{files:?}: {why}"));
        assert_eq!((blocks(&made.pem).as_slice(), made.subject.as_str()), (*expected, *subject), "{files:?}");
        // What a service takes: the certificate of the key comes first.
        evenkeel_admin::tls(&made.pem, false).map(|_| ()).unwrap_or_else(|e| panic!("{files:?}: {e}"));
    }
    let refused: &[(&[&str], Option<&str>, &str)] = &[
        (&["leaf.crt", "leaf.locked"], None, "--passphrase-file"),
        (&["leaf.crt", "leaf.locked"], Some("wrong"), "passphrase is not the one"),
        (&["new.p12"], None, "--passphrase-file"),
        (&["new.p12"], Some("wrong"), "passphrase is not the one"),
        (&["leaf.crt", "leaf.ancient"], secret, "openssl pkey"),
        (&["leaf.crt", "curve.key"], None, "of none of the certificates, which are of CN=leaf"),
        (&["leaf.crt"], None, "no private key to CN=leaf"),
        (&["leaf.key"], None, "no certificate"),
        (&["leaf.crt", "leaf.key", "curve.key"], None, "2 private keys"),
        (&["chain.p7b"], None, "PKCS#7"),
        (&["leaf.csr"], None, "neither certificate nor private key"),
        (&["leaf.ext"], None, "neither PEM nor DER"),
    ];
    for (files, passphrase, expected) in refused {
        let why = import(&folder, files, *passphrase).expect_err("refused");
        assert!(why.contains(expected), "{files:?}: {why}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_text_of_other_encodings() {
    let wide: Vec<u8> = [0xff, 0xfe]
        .into_iter()
        .chain("-----BEGIN X-----".encode_utf16().flat_map(u16::to_le_bytes))
        .collect();
    assert_eq!(super::text_of(&wide).as_deref(), Some("-----BEGIN X-----"));
    for bytes in [&b"\xff\xfe"[..], b"\xfe\xff\x00", b"", b"0"] {
        assert_eq!(super::text_of(bytes), None);
    }
}
