//! The web UI: files that were built before this program was, compressed.

use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

struct File {
    path: &'static str,
    media: &'static str,
    /// gzip.
    bytes: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/ui.rs"));

const NOT_BUILT: &str = "<!doctype html><title>Evenkeel</title><h1>The web UI was not built</h1><p>This program was built without it. <code>make ui</code> (it needs Node.js and npm), then build the program again. The <a href=\"/api/v1/openapi.json\">REST API</a> and the command line are complete.";

pub fn is_built() -> bool {
    !FILES.is_empty()
}

pub async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    if path.starts_with("api/") {
        let why = "there is no such route; /api/v1/openapi.json has all of them";
        return crate::Refused::new(crate::FailureKind::NotFound, why).into_response();
    }
    if method != Method::GET && method != Method::HEAD {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    if !is_built() {
        return ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], NOT_BUILT).into_response();
    }
    // Every page of the UI is the same file; it looks at the address itself.
    let file = FILES.iter().find(|f| f.path == path);
    let file = file.or_else(|| FILES.iter().find(|f| f.path == "index.html" && !path.contains('.')));
    let Some(file) = file else { return StatusCode::NOT_FOUND.into_response() };
    let accepts = headers.get(header::ACCEPT_ENCODING).and_then(|v| v.to_str().ok()).unwrap_or("");
    // Names of the other files hold a hash of what is in them.
    let keep = if file.path == "index.html" { "no-cache" } else { "max-age=31536000, immutable" };
    let head = [
        (header::CONTENT_TYPE, file.media),
        (header::CACHE_CONTROL, keep),
        (header::VARY, "accept-encoding"),
    ];
    if takes_gzip(accepts) {
        return (head, [(header::CONTENT_ENCODING, "gzip")], file.bytes).into_response();
    }
    match plain(file.bytes) {
        Some(bytes) => (head, bytes).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// RFC 9110, 12.5.3: who names no coding gets none.
fn takes_gzip(accepts: &str) -> bool {
    accepts.split(',').any(|one| {
        let mut parts = one.split(';').map(str::trim);
        let named =
            parts.next().is_some_and(|n| ["gzip", "x-gzip", "*"].iter().any(|g| n.eq_ignore_ascii_case(g)));
        let never = |part: &str| {
            let weight = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
            weight.is_some_and(|q| q.trim().parse::<f32>().is_ok_and(|q| q == 0.0))
        };
        named && !parts.any(never)
    })
}

fn plain(gzip: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(gzip), &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_no_coding_gets_plain_bytes() {
        let check = |accepts: &str, expect| assert_eq!(takes_gzip(accepts), expect, "{accepts:?}");
        check("gzip", true);
        check("br, GZIP;q=0.5", true);
        check("*", true);
        check("", false);
        check("identity", false);
        check("br", false);
        check("gzip;q=0", false);
        check("gzip; q=0.000, br", false);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut packed, b"plain").unwrap();
        assert_eq!(plain(&packed.finish().unwrap()).unwrap(), b"plain");
        for file in FILES {
            assert!(plain(file.bytes).is_some(), "{}", file.path);
        }
    }
}
