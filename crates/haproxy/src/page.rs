//! The page of statistics, with its actions, as a server of its own on the loopback interface. Requests
//! come to it through the proxy, by a route that only this process makes.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use evenkeel_api as api;
use evenkeel_import::{Proxy, ProxyKind, StatsPage};

use super::commands::change_server;
use super::prometheus;
use super::sample::Known;
use super::statistics::{self, Row, RowKind, Selection};

pub struct Page {
    listener: tokio::net::TcpListener,
    secret: String,
}

struct Served {
    known: Arc<Known>,
    secret: String,
}

impl Page {
    pub fn new(listener: std::net::TcpListener, secret: String) -> Result<Page, String> {
        listener.set_nonblocking(true).map_err(|e| e.to_string())?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(|e| e.to_string())?;
        Ok(Page { listener, secret })
    }

    pub fn serve(self, known: Arc<Known>) {
        let served = Arc::new(Served { known, secret: self.secret });
        let router = Router::new().fallback(answer).with_state(served);
        tokio::spawn(async move { axum::serve(self.listener, router).await });
    }
}

/// What the address asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct PageQuery {
    csv: bool,
    json: bool,
    typed: bool,
    only_up: bool,
    no_refresh: bool,
    scope: String,
    /// How an action ended.
    told: String,
}

impl PageQuery {
    fn of(uri: &Uri) -> PageQuery {
        let text = uri.path_and_query().map_or("", |p| p.as_str());
        let mut asked = PageQuery::default();
        for part in text.split([';', '?', '&']).skip(1) {
            match part.split_once('=').unwrap_or((part, "")) {
                ("csv", _) => asked.csv = true,
                ("json", _) => asked.json = true,
                ("typed", _) => asked.typed = true,
                ("up", _) => asked.only_up = true,
                ("norefresh", _) => asked.no_refresh = true,
                ("scope", scope) => asked.scope = decoded(scope),
                ("st", told) => asked.told = decoded(told),
                _ => {}
            }
        }
        asked
    }
}

fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let code: Vec<u8> = bytes.by_ref().take(2).collect();
                let code = std::str::from_utf8(&code).ok().and_then(|c| u8::from_str_radix(c, 16).ok());
                code.unwrap_or(b'?')
            }
            byte => byte,
        });
    }
    String::from_utf8_lossy(&out).into_owned()
}

async fn answer(
    State(served): State<Arc<Served>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let asked = text("x-evenkeel-statistics").and_then(|value| page_of(value, &served.secret));
    if asked == Some(METRICS) {
        return metrics(&served.known, &method, &uri).await;
    }
    let number = asked.and_then(|number| number.parse::<usize>().ok());
    let Some(page) = number.and_then(|n| served.known.running.pages.get(n)) else {
        return (StatusCode::FORBIDDEN, "this page is only there through its proxy\n").into_response();
    };
    if method == Method::POST && is_foreign(text("origin"), text("sec-fetch-site"), text("host")) {
        return (StatusCode::FORBIDDEN, "another site has sent this\n").into_response();
    }
    if !is_known(page, text("authorization")) {
        let ask = format!("Basic realm=\"{}\"", page.realm.replace('"', ""));
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, ask)], "401 Unauthorized\n")
            .into_response();
    }
    let asked = PageQuery::of(&uri);
    if method == Method::POST {
        let told = match page.admin {
            true => act(&served.known, &String::from_utf8_lossy(&body)).await,
            false => "DENY",
        };
        let scope = if asked.scope.is_empty() {
            String::new()
        } else {
            format!(";scope={}", evenkeel_control::text::encoded(&asked.scope))
        };
        let to = format!("{};st={told}{scope}", page.uri);
        return (StatusCode::SEE_OTHER, [(header::LOCATION, to)], "").into_response();
    }
    if method != Method::GET && method != Method::HEAD {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let Some(status) = served.known.status().await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the process is stopping\n").into_response();
    };
    let selection = Selection {
        scope: Some(asked.scope.clone()).filter(|s| !s.is_empty()),
        names: page.scope.clone(),
        only_up: asked.only_up,
        ..Selection::default()
    };
    let rows = statistics::rows(&served.known, &status, &selection);
    let (kind, text) = if asked.csv {
        ("text/plain", statistics::csv(&rows))
    } else if asked.json {
        ("application/json", statistics::json(&rows))
    } else if asked.typed {
        ("text/plain", statistics::typed(&rows))
    } else {
        ("text/html; charset=utf-8", html(&served.known, page, &asked, &rows))
    };
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text).into_response()
}

/// The page of metrics, among the numbers of pages of statistics.
const METRICS: &str = "metrics";

async fn metrics(known: &Known, method: &Method, uri: &Uri) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let pairs = uri.query().unwrap_or("").split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let asked = match prometheus::MetricsQuery::of(pairs.map(|(key, value)| (decoded(key), decoded(value)))) {
        Ok(asked) => asked,
        Err(why) => return (StatusCode::BAD_REQUEST, why).into_response(),
    };
    let Some(status) = known.status().await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the process is stopping\n").into_response();
    };
    let kind = "text/plain; version=0.0.4";
    let text = prometheus::text(known, &status, &asked);
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text).into_response()
}

/// The page that a proxy asks for, behind the word that only this process knows.
fn page_of<'a>(value: &'a str, secret: &str) -> Option<&'a str> {
    let (word, page) = value.split_at_checked(secret.len())?;
    let known = aws_lc_rs::constant_time::verify_slices_are_equal(word.as_bytes(), secret.as_bytes());
    known.ok().map(|()| page.trim())
}

/// A browser sends the password of the page with what other sites make it send.
fn is_foreign(origin: Option<&str>, site: Option<&str>, host: Option<&str>) -> bool {
    if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return true;
    }
    let Some(origin) = origin else { return false };
    let own = origin.split_once("://").map(|(_, own)| own);
    !own.zip(host).is_some_and(|(own, host)| own.eq_ignore_ascii_case(host))
}

fn is_known(page: &StatsPage, authorization: Option<&str>) -> bool {
    if page.users.is_empty() {
        return true;
    }
    let given = authorization.and_then(|a| a.strip_prefix("Basic "));
    let given = given.and_then(|text| evenkeel_rules::unbase64(text.trim().as_bytes(), false));
    let Some(given) = given else { return false };
    // Every user is compared, each in the same time.
    page.users.iter().fold(false, |found, user| {
        found | aws_lc_rs::constant_time::verify_slices_are_equal(user.as_bytes(), &given).is_ok()
    })
}

/// An action of the form: `s=SERVER&…&action=ACTION&b=BACKEND`; how it ended, in HAProxy's four letters.
async fn act(known: &Known, body: &str) -> &'static str {
    let (mut servers, mut action, mut backend) = (Vec::new(), String::new(), String::new());
    for (name, value) in body.split('&').filter_map(|p| p.split_once('=')) {
        match name {
            "s" => servers.push(decoded(value)),
            "action" => action = decoded(value),
            "b" => backend = decoded(value),
            _ => return "UNKN",
        }
    }
    let state = match action.as_str() {
        "ready" | "enable" => "online",
        "drain" | "soft" => "draining",
        "maint" | "disable" => "halted",
        _ => return "ERRP",
    };
    let proxies = known.running.proxies.iter().filter(|p| p.kind != ProxyKind::Frontend);
    let found = proxies
        .into_iter()
        .find(|p| p.name == backend || backend.strip_prefix('#').is_some_and(|n| n == p.id.to_string()));
    let Some(proxy) = found else { return "ERRP" };
    let (mut done, mut failed) = (0, 0);
    for name in &servers {
        let server = super::servers::server(known, proxy, name);
        let change = api::ServerChange { admin_state: Some(state.into()), ..api::ServerChange::default() };
        match server {
            Some(server) if change_server(known, proxy, &server, change).await.is_ok() => done += 1,
            _ => failed += 1,
        }
    }
    match (done, failed) {
        (0, 0) => "NONE",
        (_, 0) => "DONE",
        (0, _) => "ERRP",
        _ => "PART",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const STYLE: &str = "body{font:14px/1.4 system-ui,sans-serif;margin:1.5rem;color:#1b1f24;background:#fff}\
table{border-collapse:collapse;margin:.5rem 0 1.5rem;width:100%}th,td{border:1px solid #d5d9de;padding:.2rem .5rem;text-align:right}\
th{background:#eef1f4}td:first-child,th:first-child{text-align:left}caption{text-align:left;font-weight:600;font-size:1.1rem;padding:.3rem 0}\
.up{background:#d9f2dc}.down{background:#f8d2d2}.maint{background:#d6e4f7}.plain{background:#f2f3f5}.told{padding:.5rem;background:#fdf3cf}\
@media(prefers-color-scheme:dark){body{color:#e6e8ea;background:#15181b}th{background:#22272c}th,td{border-color:#3a4047}\
.up{background:#1d3b22}.down{background:#4c2224}.maint{background:#1d3350}.plain{background:#1d2125}.told{background:#433a15}}";

fn told(word: &str) -> Option<&'static str> {
    Some(match word {
        "DONE" => "The action was carried out.",
        "PART" => "The action was carried out for some of the servers.",
        "NONE" => "Nothing was changed: no server was chosen.",
        "DENY" => "Nothing was changed: this page may not change anything.",
        "ERRP" | "UNKN" => "Nothing was changed: the request was not understood.",
        _ => return None,
    })
}

fn html(known: &Known, page: &StatsPage, asked: &PageQuery, rows: &[Row]) -> String {
    let refresh = page.refresh.filter(|_| !asked.no_refresh);
    let refresh =
        refresh.map_or_else(String::new, |s| format!("<meta http-equiv=\"refresh\" content=\"{s}\">"));
    let version =
        if page.hide_version { String::new() } else { format!(", Evenkeel {}", env!("CARGO_PKG_VERSION")) };
    let uri = escaped(&page.uri);
    let uptime = known.started.elapsed().as_secs();
    let mut out = format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
<title>Statistics Report for HAProxy</title>{refresh}<style>{STYLE}</style></head><body><h1>Statistics Report for HAProxy</h1>\
<p>pid {}{version}, up {}d {}h{:02}m{:02}s &middot; <a href=\"{uri}\">refresh</a> &middot; <a href=\"{uri};csv\">CSV</a> &middot; <a href=\"{uri};json\">JSON</a></p>",
        std::process::id(),
        uptime / 86_400,
        uptime / 3600 % 24,
        uptime / 60 % 60,
        uptime % 60
    );
    if let Some(told) = told(&asked.told) {
        out.push_str(&format!("<p class=\"told\" role=\"status\">{told}</p>"));
    }
    let shown = known.running.proxies.iter().filter(|p| rows.iter().any(|r| r.get("pxname") == p.name));
    for proxy in shown {
        table(page, proxy, rows, &mut out);
    }
    out.push_str("</body></html>\n");
    out
}

const HEADS: &[(&str, &str)] = &[
    ("svname", "Name"),
    ("qcur", "Queue"),
    ("rate", "Rate"),
    ("rate_max", "Max"),
    ("scur", "Sessions"),
    ("smax", "Max"),
    ("stot", "Total"),
    ("bin", "Bytes in"),
    ("bout", "Bytes out"),
    ("dreq", "Denied"),
    ("ereq", "Errors req"),
    ("econ", "conn"),
    ("eresp", "resp"),
    ("status", "Status"),
    ("last_chk", "Last check"),
    ("weight", "Wght"),
    ("act", "Act"),
    ("bck", "Bck"),
];

fn table(page: &StatsPage, proxy: &Proxy, rows: &[Row], out: &mut String) {
    let name = escaped(&proxy.name);
    let admin = page.admin && proxy.kind != ProxyKind::Frontend && !proxy.servers.is_empty();
    if admin {
        out.push_str(&format!("<form method=\"post\" action=\"{}\">", escaped(&page.uri)));
    }
    out.push_str(&format!("<table><caption>{name}</caption><thead><tr>"));
    HEADS.iter().for_each(|(_, head)| out.push_str(&format!("<th>{head}</th>")));
    out.push_str("</tr></thead><tbody>");
    for row in rows.iter().filter(|r| r.get("pxname") == proxy.name) {
        let class = match row.get("status") {
            "UP" => "up",
            "DOWN" => "down",
            "MAINT" | "DRAIN" => "maint",
            _ => "plain",
        };
        out.push_str(&format!("<tr class=\"{class}\">"));
        for (column, _) in HEADS {
            let value = escaped(row.get(column));
            match (*column, row.kind) {
                ("svname", RowKind::Server) if admin => out.push_str(&format!(
                    "<td><label><input type=\"checkbox\" name=\"s\" value=\"{value}\"> {value}</label></td>"
                )),
                _ => out.push_str(&format!("<td>{value}</td>")),
            }
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table>");
    if admin {
        out.push_str(&format!(
            "<p>The chosen servers: <select name=\"action\"><option value=\"ready\">ready</option><option value=\"drain\">drain</option>\
<option value=\"maint\">maint</option></select> <input type=\"hidden\" name=\"b\" value=\"#{}\"><button>Apply</button></p></form>",
            proxy.id
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_words() {
        let asked = PageQuery::of(&"/haproxy?stats;csv;scope=b%31".parse().unwrap());
        assert!(asked.csv && asked.scope == "b1");
        assert!(PageQuery::of(&"/?;csv;scope=b1".parse().unwrap()).csv);
        assert_eq!(PageQuery::of(&"/s;st=DONE".parse().unwrap()).told, "DONE");
        assert_eq!(evenkeel_rules::unbase64(b"YWRtaW46cHc=", false).unwrap(), b"admin:pw");
        let page = StatsPage { users: vec!["admin:pw".into()], ..StatsPage::default() };
        assert!(is_known(&page, Some("Basic YWRtaW46cHc=")) && !is_known(&page, Some("Basic YWRtaW46cHg=")));
        assert!(!is_known(&page, None) && is_known(&StatsPage::default(), None));
    }

    #[test]
    fn pages_are_there_for_those_who_know_the_word() {
        let all = [("word 3", Some("3")), ("word3", Some("3")), ("word metrics", Some("metrics"))];
        for (value, page) in all.into_iter().chain([("wort 3", None), ("word", Some("")), ("w", None)]) {
            assert_eq!(page_of(value, "word"), page, "{value}");
        }
    }

    #[test]
    fn other_sites_cannot_act() {
        let check = |origin, site, foreign| {
            assert_eq!(is_foreign(origin, site, Some("lb.example:8404")), foreign, "{origin:?} {site:?}");
        };
        check(None, None, false);
        check(Some("http://lb.example:8404"), None, false);
        check(Some("https://LB.example:8404"), Some("same-origin"), false);
        check(Some("http://evil.example"), None, true);
        check(Some("http://lb.example"), None, true);
        check(Some("null"), None, true);
        check(None, Some("cross-site"), true);
        assert!(is_foreign(Some("http://lb.example"), None, None));
    }
}
