//! Who a request says that it is of: passwords and JSON Web Tokens.

use crate::case::Case;

// Tokens of one person, each signed by `openssl` with a key that is thrown away since.
const RSA: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbm4iLCJleHAiOjQxMDI0NDQ4MDAsInJvbGVzIjpbImEiLCJiIl0sIm8iOnsieCI6N30sImFkbWluIjp0cnVlfQ.NvL85BF-tGST_vkpNyTscE8_2ruKdI-RzFkp0yvhz93vZ3fz3DgE4LSN5pSQe9NavCFcp2DpcEmnk5itjfCEztowisyFn3s4fEvT0OdhXuip6vykleChzTN0O-u6OTzeY0GIqsU2LL7FOfEmxHMg4OLNlquIT2KNsVelI481iNcuzeW6pJCpPa3P1TXz--GFXZuKb5FjShblWquc6e15mbLucoetwOy4vztr1INVl9YHluixSAf6h7aHr0wSnW79uKSrhC0s1tFVtJ2nAgmZ8xXeQRqS2601IgRaIUPai9zQgGnSKwqRBeLTmaM2iiPZf6G11n2DBVSeK2QAk0hOdQ";
const CURVE: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbm4iLCJleHAiOjQxMDI0NDQ4MDAsInJvbGVzIjpbImEiLCJiIl0sIm8iOnsieCI6N30sImFkbWluIjp0cnVlfQ.EINUhse8JKZThe_bRKDHPn8O53FlQ72rMN0n6Amq3SXFPKrRzyQsCHugFme_DSJzeZyYoFLEuSADXbNSN9fYzg";
const SECRET: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbm4iLCJleHAiOjQxMDI0NDQ4MDAsInJvbGVzIjpbImEiLCJiIl0sIm8iOnsieCI6N30sImFkbWluIjp0cnVlfQ.fQY22XlScohHbjznr-K07ZX_xpG2eJQ1p66Dytyh2XY";
/// Nobody has signed it.
const NONE: &str = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJhbm4iLCJleHAiOjQxMDI0NDQ4MDAsInJvbGVzIjpbImEiLCJiIl0sIm8iOnsieCI6N30sImFkbWluIjp0cnVlfQ.";

pub const RSA_KEY: &str = "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAo/Z/G8/TMqGvChRCvSJg\nuJG++oiki/nDyQOE9xfcz4KuFpCDUfgXviVZGdwpptEChroi6MoYyKT8kDDaW81o\nvtbvwMIEqMx0zrNhy8jao/AwJnSiP0NHumr2oBD9raS1RN+Q6dKB8Augv8sIQMWS\nDvCGtta84qjkagq0OpnsBR0qGLNjLloAC7y+iJ85emURzRR2WRdA3rIJcPu+eT7X\nFaffSjea0vs/fZ5Yg1aNQPPbpRZFtnaF7Lc13j1fHbboS4UrFm/IvsB9Po/MXJ/+\noNdcO20zzqGVWq+yG+9eLjoXz8768QXokg+1vRu6hMMaUwl5MfI3EBPbaVQaxA2v\nmwIDAQAB\n-----END PUBLIC KEY-----\n";
pub const CURVE_KEY: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEs3NpVCOLvQd5+Cj6tRUILVMSDzMZ\nwjBvb1Gp/ZhSWeFlZ44YqRpe0AWqlmBTYr22cDsTGrICsPHxiLn6Ep/pFA==\n-----END PUBLIC KEY-----\n";

fn asks() -> Vec<String> {
    let mut all: Vec<String> = [RSA, CURVE, SECRET].map(|token| format!("Bearer {token}")).into();
    let bent = |token: &str, at: usize| {
        let mut bytes = token.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        format!("Bearer {}", String::from_utf8(bytes).unwrap())
    };
    all.extend([RSA, CURVE, SECRET].map(|token| bent(token, token.len() - 5)));
    all.extend([RSA, CURVE, SECRET].map(|token| bent(token, token.find('.').unwrap() + 5)));
    all.push(format!("bearer {SECRET}"));
    let odd = [
        "Bearer a.b",
        "Bearer a.b.c",
        "Bearer",
        "Basic YW5uOnB3OmVk",
        "basic YW5uOg==",
        "Basic YW5u",
        "Basic ?",
        "x y",
    ];
    all.extend(odd.map(str::to_owned));
    let all = all.iter().map(|value| format!("GET / | Authorization: {value}"));
    all.chain(["GET /".to_owned()]).collect()
}

const SAMPLES: &[&str] = &[
    "http_auth_bearer",
    "http_auth_bearer,length",
    "http_auth_bearer(authorization)",
    "http_auth_type",
    "http_auth_user",
    "http_auth_pass",
    "http_auth_bearer,jwt_header_query('$.alg')",
    "http_auth_bearer,jwt_header_query",
    "http_auth_bearer,jwt_payload_query('$.sub')",
    "http_auth_bearer,jwt_payload_query('$.exp','int')",
    "http_auth_bearer,jwt_payload_query('$.roles')",
    "http_auth_bearer,jwt_payload_query('$.o.x')",
    "http_auth_bearer,jwt_payload_query('$.admin')",
    "http_auth_bearer,jwt_payload_query('$.none')",
    "http_auth_bearer,jwt_payload_query",
    "http_auth_bearer,jwt_verify(RS256,FOLDER/rsa.pem)",
    "http_auth_bearer,jwt_verify(RS384,FOLDER/rsa.pem)",
    "http_auth_bearer,jwt_verify(PS256,FOLDER/rsa.pem)",
    "http_auth_bearer,jwt_verify(ES256,FOLDER/curve.pem)",
    "http_auth_bearer,jwt_verify(HS256,secret)",
    "http_auth_bearer,jwt_verify(HS256,other)",
    "http_auth_bearer,jwt_verify(HS512,secret)",
];

/// As guides have it: the algorithm is the token's own, and compared first.
const GUIDES: &[&str] = &[
    "http-request set-var(txn.alg) http_auth_bearer,jwt_header_query('$.alg')\nhttp-request deny deny_status 401 unless { var(txn.alg) -m str RS256 }\nhttp-request deny deny_status 403 unless { http_auth_bearer,jwt_verify(txn.alg,FOLDER/rsa.pem) 1 }",
    "http-request set-var(txn.bearer) http_auth_bearer\nhttp-request set-var(txn.sub) var(txn.bearer),jwt_payload_query('$.sub')\nhttp-request deny deny_status 401 unless { var(txn.bearer),jwt_verify(HS256,secret) -m int 1 }\nhttp-request deny deny_status 403 unless { var(txn.sub) -m str ann }",
    "http-request set-var(txn.exp) http_auth_bearer,jwt_payload_query('$.exp','int')\nhttp-request set-var(txn.now) date()\nhttp-request deny deny_status 401 if { var(txn.exp),sub(txn.now) -m int lt 0 }",
    "http-request set-var(txn.key) str(secret)\nhttp-request deny deny_status 401 unless { http_auth_bearer,jwt_verify(HS256,txn.key) 1 }",
];

/// HAProxy 2.6 gives nothing where no path is named, other than its manual says, nor for a list, and looks into what names a person
/// before it says how somebody came.
pub const KNOWN: &[&str] = &["jwt_header_query]", "jwt_payload_query]", "[http_auth_type]", "$.roles"];

pub fn all() -> Vec<Case> {
    let asks = asks();
    let asks: Vec<&str> = asks.iter().map(String::as_str).collect();
    let said = "http-request return status 200 content-type text/plain";
    let of_sample = |sample: &&str| {
        let config = format!("listen @@\n  bind BIND\n  {said} lf-string <%[{sample}]>\n");
        Case::new(config, &asks)
    };
    let of_guide = |rules: &&str| Case::web(&format!("{rules}\n{said} string in"), &asks);
    SAMPLES.iter().map(of_sample).chain(GUIDES.iter().map(of_guide)).collect()
}

/// A token without a signature lets nobody in, whatever the rules before say of its algorithm: HAProxy 2.6 takes it for
/// signed where the variable says `none`. The text of a file's name is no secret either.
#[test]
fn a_token_that_nobody_signed_lets_nobody_in() {
    let rules = "http-request set-var(txn.alg) http_auth_bearer,jwt_header_query('$.alg')\n  http-request deny deny_status 403 unless { http_auth_bearer,jwt_verify(txn.alg,FOLDER/rsa.pem) 1 }";
    let place = evenkeel_testbed::Place::new("tokens");
    crate::prepare(&place);
    let rules = rules.replace("FOLDER", &place.folder().display().to_string());
    let _server = evenkeel_testbed::Scripted::named(place.at(9001), "in");
    let text = format!(
        "defaults\n  mode http\n  timeout connect 2s\n  timeout client 5s\n  timeout server 5s\nlisten a\n  bind {}\n  {rules}\n  server s {}\n",
        place.at(8080),
        place.at(9001)
    );
    let file = place.write("tokens.cfg", text);
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    let _process = evenkeel_testbed::Process::start(program.args(["haproxy", "-db", "-f"]).arg(file));
    let long = std::time::Duration::from_secs(20);
    evenkeel_testbed::eventually("it serves", long, || std::net::TcpStream::connect(place.at(8080)).is_ok());
    for (token, status) in [(RSA, 200), (NONE, 403), (SECRET, 403), (CURVE, 403)] {
        let mut client = evenkeel_testbed::Connection::open(place.at(8080));
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"));
        assert_eq!(client.answer().map(|answer| answer.status), Some(status), "{token}");
    }
}
