//! Each fuzz target that needs no kernel runs over mutations of small examples. How long:
//! `EVENKEEL_FUZZ_SECONDS` a target, else a fixed number of runs.

#![allow(unused_attributes, reason = "the targets are crates of their own under libFuzzer")]

use libfuzzer_sys::{drive, effort, seed};

macro_rules! target {
    ($name:ident, $path:literal, $runs:literal, $examples:expr) => {
        #[path = $path]
        mod $name;

        #[test]
        fn $name() {
            let examples: &[&[u8]] = $examples;
            let runs = drive(examples, seed(), effort($runs), $name::run);
            println!("{runs} inputs");
            assert!(runs > examples.len() as u64);
        }
    };
}

target!(
    chunked,
    "../../../fuzz/fuzz_targets/chunked.rs",
    50_000,
    &[
        b"\x035\r\nhello\r\n0\r\n\r\n",
        b"\x01A;name=value\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n",
        b"\x07FFFFFFFFFFFFFFFF\r\n",
    ]
);

target!(
    coding,
    "../../../fuzz/fuzz_targets/coding.rs",
    30_000,
    &[
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nETag: \"a\"\r\nVary: A\r\nContent-Length: 9\r\n\r\n",
        b"HTTP/1.1 203 N\r\nVary: a, *\r\nCache-Control: x, no-transform\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"gzip;q=0.5, *;q=0, deflate",
        b"Mozilla/4.0 (compatible; MSIE 6.0; SV1)",
    ]
);

target!(config, "../../../fuzz/fuzz_targets/config.rs", 2_000, &[
    b"[[virtual-service]]\nname = \"web\"\nvip = [\"127.0.0.1:80\"]\nmode = \"http\"\n[[virtual-service.real-server]]\nname = \"a\"\naddress = \"127.0.0.1:81\"\n",
    b"[[virtual-service]]\nname='t'\nvip=['[::1]:1-9,70']\nmode='tcp'\ntimeouts={connect='4s'}\npersistence={type='source',mask=24}\nfallback={server='127.0.0.1:9'}\n",
    b"[[pool]]\nname='p'\nscheduler='maglev'\n[[pool.real-server]]\nname='a'\naddress='[::1]:2'\nweight=3\n",
]);

target!(cookie, "../../../fuzz/fuzz_targets/cookie.rs", 50_000, &[b"a=b; S=x; T=\"y\"", b"S=;S ; =S;T"]);

target!(discovered, "../../../fuzz/fuzz_targets/discovered.rs", 20_000, &[
    b"\x00\x07\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00\x01a\x04test\x00\x00\x01\x00\x01\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x0a\x00\x00\x01",
    b"\x00\x07\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00\x01a\x04test\x00\x00\x21\x00\x01\xc0\x0c\x00\x21\x00\x01\x00\x00\x00\x05\x00\x08\x00\x01\x00\x02\x00\x50\xc0\x0c",
    b"10.0.0.1 a.test b # c\nnameserver 10.0.0.1\nsearch a b\noptions ndots:2\n",
    b"- targets: [10.0.0.1:80, 'a.test:81']\n  labels: { weight: 5 }\n",
    b"[{\"targets\":[\"10.0.0.1:80\",\"a.test:81\"],\"labels\":{\"weight\":\"5\",\"backup\":\"true\"}}]",
]);

target!(
    expression,
    "../../../fuzz/fuzz_targets/expression.rs",
    10_000,
    &[
        b"path(\"/api/*\") && method(\"GET\", \"POST\") || !host(\"a.example\")",
        b"header(\"x\", regex(\"^a.*b$\")) && source(\"10.0.0.0/8\")",
        b"https://www.example.org{path}?{query|lower}",
        b"key value\n# comment\nother thing\n",
    ]
);

target!(first_message, "../../../fuzz/fuzz_targets/first_message.rs", 50_000, &[
    b"\x03\x00\x00\x2b\x26\xe0\x00\x00\x00\x00\x00Cookie: mstshash=user\r\n\x01\x00\x08\x00\x03\x00\x00\x00",
    b"\x16\x03\x01\x00\x34\x01\x00\x00\x30\x03\x030123456789abcdef0123456789abcdef\x00\x00\x02\x13\x01\x01\x00\x00\x05\x00\x00\x00\x01a",
]);

target!(h2_connection, "../../../fuzz/fuzz_targets/h2_connection.rs", 3_000, &[
    b"\x00\x00\x03\x01\x05\x00\x00\x00\x01\x82\x84\x87",
    b"\x00\x00\x03\x01\x04\x00\x00\x00\x01\x83\x84\x87\x00\x00\x02\x00\x01\x00\x00\x00\x01ab\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x08",
    b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00\x08\x06\x00\x00\x00\x00\x0001234567",
    b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00",
]);

target!(
    health_response,
    "../../../fuzz/fuzz_targets/health_response.rs",
    10_000,
    &[
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ]
);

target!(
    hpack,
    "../../../fuzz/fuzz_targets/hpack.rs",
    20_000,
    &[
        b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4",
        b"\x40\x0acustom-key\x0dcustom-header\x10\x08password\x06secret\x3f\xe1\x1f\xbe",
    ]
);

target!(http1_request, "../../../fuzz/fuzz_targets/http1_request.rs", 50_000, &[
    b"GET /a?b HTTP/1.1\r\nHost: a.example:80\r\nConnection: keep-alive, x\r\nX: y\r\n\r\n",
    b"POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nCookie: a=b; S=c\r\n\r\n0\r\n\r\n",
    b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n",
]);

target!(
    http1_response,
    "../../../fuzz/fuzz_targets/http1_response.rs",
    50_000,
    &[
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\nSet-Cookie: a=b\r\n\r\nabc",
        b"HTTP/1.0 304 Not Modified\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ]
);

target!(
    pair_messages,
    "../../../fuzz/fuzz_targets/pair_messages.rs",
    10_000,
    &[
        b"\x31\x33\x64\x01\x00\x64\x00\x00\x0a\x00\x00\x05",
        b"EKS10123456789abcdef0123456789abcdef0123456789abcdef",
    ]
);

target!(
    proxy_header,
    "../../../fuzz/fuzz_targets/proxy_header.rs",
    50_000,
    &[
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65535\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x00\x01\x00\x02",
        b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00",
    ]
);
