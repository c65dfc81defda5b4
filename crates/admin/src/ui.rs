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
        return crate::Refused::new(crate::Kind::NotFound, why).into_response();
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
    if !accepts.contains("gzip") {
        return (StatusCode::NOT_ACCEPTABLE, "the web UI is sent with gzip only\n").into_response();
    }
    // Names of the other files hold a hash of what is in them.
    let keep = if file.path == "index.html" { "no-cache" } else { "max-age=31536000, immutable" };
    let head = [
        (header::CONTENT_TYPE, file.media),
        (header::CONTENT_ENCODING, "gzip"),
        (header::CACHE_CONTROL, keep),
    ];
    (head, file.bytes).into_response()
}
