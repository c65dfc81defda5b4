use std::io::Read;

use proptest::prelude::*;

use super::*;
use crate::h1::Body;
use crate::h1::Framing;

#[test]
fn the_coding_that_a_client_likes_best() {
    let check = |field: &str, expect: Option<&str>| {
        let names = ["gzip", "deflate"];
        let chosen = choose(std::iter::once(field.as_bytes()), &names).map(|at| names[at]);
        assert_eq!(chosen, expect, "{field}");
    };
    check("gzip", Some("gzip"));
    check("deflate, GZIP", Some("gzip"));
    check("*;q=0, gzip;q=0.500, deflate;q=0.750", Some("deflate"));
    check("gzip;q=0", None);
    check("gzip; q=0.0, *", Some("deflate"));
    check("br, *", Some("gzip"));
    check("identity, gzipped, x", None);
    check("gzip;q=zero", None);
    check("", None);
    assert_eq!(choose(std::iter::empty(), &["gzip"]), None);
}

#[test]
fn browsers_that_cannot() {
    assert!(is_broken_browser(b"Mozilla/4") && is_broken_browser(b"Mozilla/4.0 (compatible; MSIE 6.0; X)"));
    for agent in
        ["Mozilla/5.0", "Mozilla/4.0 (MSIE 6.0; SV1)", "Mozilla/4.0 (MSIE 7.0)", "Mozilla/4.0 (MSIE 10"]
    {
        assert!(!is_broken_browser(agent.as_bytes()), "{agent}");
    }
}

#[test]
fn heads_of_compressed_answers() {
    let types = ["text/*".to_owned(), "application/json".to_owned()];
    let offer = Offer { coding: Some("gzip"), types: &types, min_size: 10 };
    let becomes = |fields: &str| {
        let mut out = Vec::new();
        let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        rewrite(head.as_bytes(), &offer, &mut out).then(|| String::from_utf8(out).unwrap())
    };
    let check = |fields: &str, parts: &[&str]| {
        let head = becomes(fields).unwrap_or_else(|| panic!("{fields} stays"));
        for part in parts.iter().chain(&["Content-Encoding: gzip\r\n", "Transfer-Encoding: chunked\r\n\r\n"])
        {
            assert!(head.contains(part), "{part}: {head}");
        }
        assert!(!head.contains("Content-Length") && !head.contains("Accept-Ranges"), "{head}");
    };
    check(
        "Content-Type: text/css\r\nContent-Length: 10\r\nAccept-Ranges: bytes\r\n",
        &["Vary: Accept-Encoding\r\n"],
    );
    check("Content-Type: text/css; charset=x\r\nTransfer-Encoding: chunked\r\nA: b\r\n", &["\r\nA: b\r\n"]);
    check("content-type: APPLICATION/JSON\r\nVary: Other\r\n", &["Vary: Other,Accept-Encoding\r\n"]);
    check("content-type: text/a\r\nVary: A,accept-encoding\r\n", &["Vary: A,accept-encoding\r\n"]);
    check("content-type: text/a\r\nVary: A\r\nVary: *\r\n", &["Vary: A,*\r\n"]);
    check("content-type: text/a\r\nETag: \"1\"\r\n", &["ETag: W/\"1\"\r\n"]);
    check("content-type: text/a\r\nETag: W/\"1\"\r\n", &["ETag: W/\"1\"\r\n"]);
    for stays in [
        "",
        "Content-Type: image/png\r\n",
        "Content-Type: multipart/mixed; boundary=a\r\n",
        "Content-Type: text/a\r\nContent-Length: 9\r\n",
        "Content-Type: text/a\r\nContent-Encoding: br\r\n",
        "Content-Type: text/a\r\nCache-Control: public, No-Transform\r\n",
        "Content-Type: text/a\r\nContent-Range: bytes 0-1/2\r\n",
        "Content-Type: text/a\r\nETag: \"1\r\n",
        "Content-Type: text/a\r\nETag: \"1\"\r\nETag: \"2\"\r\n",
        "Content-Type: text/a\r\nTrailer: A\r\n",
    ] {
        assert_eq!(becomes(stays), None, "{stays}");
    }
    let mut out = Vec::new();
    for line in ["HTTP/1.1 206 Partial", "HTTP/1.1 404 No", "HTTP/1.0 200 OK", "HTTP/1.1 304 Same"] {
        let head = format!("{line}\r\nContent-Type: text/a\r\n\r\n");
        assert!(!rewrite(head.as_bytes(), &offer, &mut out), "{line}");
    }
    let all = ["*".to_owned()];
    let plain = Offer { coding: None, types: &all, min_size: 0 };
    assert!(rewrite(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"1\"\r\n\r\n", &plain, &mut out));
    assert_eq!(out, b"HTTP/1.1 200 OK\r\nETag: \"1\"\r\nTransfer-Encoding: chunked\r\n\r\n");
}

/// Encodes pieces through a buffer of so many bytes; the body without its chunks.
fn encoded(encoder: &mut Encoder, pieces: &[(Vec<u8>, bool)], room: usize) -> Vec<u8> {
    let (mut out, mut sent) = (vec![0; room], Vec::new());
    let mut all = |encoder: &mut Encoder, mut bytes: &[u8], input: Input| {
        loop {
            let (taken, range) = encoder.encode(bytes, input, &mut out);
            bytes = &bytes[taken..];
            sent.extend_from_slice(&out[range.clone()]);
            if range.is_empty() && bytes.is_empty() || encoder.has_ended() {
                break;
            }
        }
    };
    for (bytes, rests) in pieces {
        all(encoder, bytes, if *rests { Input::Rests } else { Input::Goes });
        assert!(!rests || !encoder.holds());
    }
    all(encoder, b"", Input::Ends);
    assert!(encoder.has_ended());
    let mut body = Body::new(Framing::Chunked);
    assert_eq!(body.feed(&sent).unwrap(), sent.len());
    assert!(body.is_complete());
    let mut chunks = crate::h1::chunked::Chunked::default();
    let (_, kept) = chunks.extract(&mut sent).unwrap();
    sent.truncate(kept);
    sent
}

fn decoded(wrapper: Wrapper, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match wrapper {
        Wrapper::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out),
        Wrapper::Zlib => flate2::read::ZlibDecoder::new(bytes).read_to_end(&mut out),
        Wrapper::Raw => flate2::read::DeflateDecoder::new(bytes).read_to_end(&mut out),
        Wrapper::Plain => (&mut &bytes[..]).read_to_end(&mut out),
    }
    .unwrap();
    out
}

proptest! {
    #[test]
    fn what_is_compressed_is_read_again(
        pieces in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..3_000), any::<bool>(), 1usize..9), 0..8),
        room in 100usize..5_000,
    ) {
        let pieces: Vec<(Vec<u8>, bool)> =
            pieces.into_iter().map(|(bytes, rests, times)| (bytes.repeat(times), rests)).collect();
        let whole = pieces.iter().flat_map(|(bytes, _)| bytes.clone()).collect::<Vec<_>>();
        let mut encoder = Encoder::new(Wrapper::Plain);
        for wrapper in [Wrapper::Gzip, Wrapper::Zlib, Wrapper::Raw, Wrapper::Plain, Wrapper::Gzip] {
            encoder.restart(wrapper);
            let sent = encoded(&mut encoder, &pieces, room);
            prop_assert_eq!(decoded(wrapper, &sent), whole.clone());
        }
    }
}

#[test]
fn what_rests_can_be_read_at_once() {
    let mut encoder = Encoder::new(Wrapper::Raw);
    let mut out = vec![0; 4096];
    let (taken, range) = encoder.encode(b"data: one\n\n", Input::Rests, &mut out);
    assert_eq!(taken, 11);
    let mut chunk = out[range].to_vec();
    let mut chunks = crate::h1::chunked::Chunked::default();
    let (_, kept) = chunks.extract(&mut chunk).unwrap();
    let mut read = [0; 64];
    let mut inflate = flate2::Decompress::new(false);
    inflate.decompress(&chunk[..kept], &mut read, flate2::FlushDecompress::Sync).unwrap();
    assert_eq!(&read[..inflate.total_out() as usize], b"data: one\n\n");
    assert!(encoder.encode(b"", Input::Rests, &mut out).1.is_empty());
}
