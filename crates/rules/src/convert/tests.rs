//! What converters make of values.

use super::*;

/// Nothing is known of it.
struct Nothing;

impl Facts for Nothing {
    fn texts(&self, _: crate::Fetch, _: &str, _: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        false
    }

    fn address(&self, _: crate::Fetch) -> Option<std::net::IpAddr> {
        None
    }

    fn number(&self, _: crate::Fetch, _: &[String]) -> Option<u64> {
        None
    }

    fn flag(&self, _: crate::Fetch) -> bool {
        false
    }

    fn local_time(&self) -> crate::LocalTime {
        crate::LocalTime::default()
    }

    fn random(&self) -> u128 {
        0
    }

    fn host_name(&self) -> &[u8] {
        b"lb1"
    }
}

fn converted(value: &str, chain: &[&str]) -> String {
    let mut out = b"before ".to_vec();
    out.extend_from_slice(value.as_bytes());
    for text in chain {
        parse(text).unwrap().apply(&Nothing, &Captures::default(), &mut out, 7, true);
    }
    assert!(out.starts_with(b"before "), "{chain:?}");
    String::from_utf8_lossy(&out[7..]).into_owned()
}

#[test]
fn what_is_made_of_values() {
    // RFC 4648 section 10, FIPS 180, RFC 4231 test case 2, zlib's check value.
    for (value, chain, expect) in [
        ("foob", &["base64"][..], "Zm9vYg=="),
        ("Zm9vYmE=", &["base64-decode"], "fooba"),
        ("fo?", &["base64url"], "Zm8_"),
        ("abc", &["sha1", "hex"], "a9993e364706816aba3e25717850c26c9cd0d89d"),
        ("abc", &["sha256", "hex", "bytes(0,8)", "upper"], "BA7816BF"),
        (
            "what do ya want for nothing?",
            &["hmac(sha256,\"Jefe\")", "hex", "bytes(0,16)"],
            "5bdcc146bf60754e",
        ),
        ("123456789", &["crc32"], "3421780262"),
        ("/a//b/c", &["field(3,\"/\")"], ""),
        ("/a//b/c", &["word(2,\"/\")"], "b"),
        ("/a//b/c", &["field(-1,/)"], "c"),
        // The HAProxy manual's examples.
        ("f1_f2_f3__f5", &["field(2,_,0)"], "f2_f3__f5"),
        ("f1_f2_f3__f5", &["field(2,_,2)"], "f2_f3"),
        ("f1_f2_f3__f5", &["field(-2,_,3)"], "f2_f3_"),
        ("f1_f2_f3__f5", &["field(-3,_,0)"], "f1_f2_f3"),
        ("f1_f2_f3__f5", &["word(3,_,0)"], "f3__f5"),
        ("f1_f2_f3__f5", &["word(-2,_,3)"], "f1_f2_f3"),
        ("f1_f2_f3__f5", &["word(-3,_,0)"], "f1_f2"),
        ("f1_f2_f3__f5", &["word(4,_)"], "f5"),
        ("a", &["field(2,_,3)"], ""),
        ("0123456789", &["hex(--,3)"], "303132--333435--363738--39"),
        ("0123456789", &["hex(.,3,whole)", "upper"], "303132.333435.363738"),
        ("0123456789", &["decimal(-,3)"], "3158322-3355701-3553080-57"),
        ("b", &["compare(a)"], "1"),
        ("b", &["compare(b)"], "0"),
        ("b", &["compare(\"bc\")"], "-1"),
        ("a%20b+c%zz", &["url-decode"], "a b+c%zz"),
        ("a%20b+c", &["form-decode"], "a b c"),
        ("/a+b?c=d+e%20", &["uri-decode"], "/a+b?c=d e "),
        ("a b/ä", &["url-encode"], "a%20b%2F%C3%A4"),
        ("say \"ü\"\n", &["json"], "say \\\"\\u00fc\\\"\\n"),
        ("", &["default(\"x, y\")"], "x, y"),
        ("0", &["if(a,b)"], "b"),
        ("192.0.2.77", &["network(24)"], "192.0.2.0"),
        ("2001:db8::1:2", &["network(24,32)"], "2001:db8::"),
        ("12", &["add(3)", "mul(-2)", "div(0)"], "9223372036854775807"),
        ("/v1/x/v2", &["replace(\"/v[0-9]+\",\"\",all)"], "/x"),
        ("ab", &["append(\"c\")", "length"], "3"),
        ("4a4B", &["hex-decode"], "JK"),
        ("zz", &["hex-decode"], ""),
        (" a ", &["trim"], "a"),
        ("abc", &["bytes(5,1)"], ""),
    ] {
        assert_eq!(converted(value, chain), expect, "{value:?} {chain:?}");
    }
    for bad in [
        "lowr",
        "field(0,\"/\")",
        "field(1)",
        "hmac(md4,\"k\")",
        "bytes(-1)",
        "field(1,_,-1)",
        "decimal(x,9)",
        "replace(\"(\",\"\")",
        "add(x)",
        "field(1,\"/",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
    for known in CONVERTERS {
        let text = known.example;
        assert!(crate::Template::parse(text).is_ok(), "{text}");
    }
}
