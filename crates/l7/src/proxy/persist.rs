//! Ways to keep a client on its real server: by what the client brings (a cookie that names the
//! server) or by a table that remembers it.

use evenkeel_balance::Key;
use evenkeel_model::{CookieMethod, CookiePersistence, Persistence, mask_address};

use super::facts::Hello;
use super::pick::{PickRequest, query_value};
use super::session::Client;
use super::{PoolRuntime, ServerRuntime};
use crate::h1::request::{Method, Request};
use crate::h1::response::{CookieEdit, Response};
use crate::log::{CookieRead, CookieSent, Record};
use crate::rdp;

/// The server that a client belongs to, by its place in the pool, if that can be told.
pub fn find(pool: &PoolRuntime, wish: &PickRequest, now_ms: u64) -> Option<usize> {
    let remembered = || {
        let server = pool.table()?.lookup(wish.entry.as_ref()?, now_ms)?;
        // It may have become a backup since.
        pool.index_of(server).filter(|index| pool.server(*index).is_some_and(|s| s.is_remembered()))
    };
    wish.named.or_else(remembered)
}

/// A client goes to this server from now on, unless persistence does not remember the server.
pub fn keep(pool: &PoolRuntime, wish: &PickRequest, server: &ServerRuntime, now_ms: u64) {
    if !server.is_remembered() {
        return;
    }
    if let (Some(table), Some(entry)) = (pool.table(), &wish.entry) {
        table.insert_or_get(entry, server.id, now_ms, |known| known == server.id);
    }
}

/// Remembers a key that an answer of this server gave its client.
pub fn learn(pool: &PoolRuntime, server: &ServerRuntime, key: &[u8], now_ms: u64) {
    let spec = pool.spec();
    if let (true, Some(table), Some(rule)) =
        (server.is_remembered(), pool.table(), spec.pool.persistence.table())
    {
        let expires_ms = now_ms + rule.expire.as_millis() as u64;
        table.set(&Key::text(key), Some(server.id), expires_ms, now_ms);
    }
}

/// The entry of a request in the pool's table.
pub fn entry_of_request(pool: &PoolRuntime, client: &Client, request: &Request, head: &[u8]) -> Option<Key> {
    match &pool.spec().pool.persistence {
        Persistence::Header { name, .. } => {
            let named = |f: &&crate::h1::field::Field| f.name.of(head).eq_ignore_ascii_case(name.as_bytes());
            let value = request.fields.iter().find(named)?.value.of(head);
            (!value.is_empty()).then(|| Key::text(value))
        }
        Persistence::Query { name, .. } => {
            let target = request.path(head);
            let begins = memchr::memchr(b'?', target)?;
            let value = query_value(&target[begins + 1..], name.as_bytes())?;
            (!value.is_empty()).then(|| Key::text(value))
        }
        Persistence::AppCookie { name, .. } => {
            request.cookie(head, name.as_bytes()).filter(|v| !v.is_empty()).map(Key::text)
        }
        _ => entry_of_client(pool, client),
    }
}

pub fn entry_of_client(pool: &PoolRuntime, client: &Client) -> Option<Key> {
    match &pool.spec().pool.persistence {
        Persistence::Source(rule) => {
            Some(Key::address(mask_address(client.address.ip(), rule.mask, rule.mask6)))
        }
        Persistence::Destination(_) => Some(Key::address(client.vip.ip().to_canonical())),
        _ => None,
    }
}

/// The entry of a connection whose first bytes were looked at, and the server that a token names.
pub fn of_first_bytes(
    pool: &PoolRuntime,
    client: &Client,
    first: &[u8],
    hello: Option<&Hello>,
) -> (Option<Key>, Option<usize>) {
    let by_address = || {
        let text = format!("source:{}", client.address.ip().to_canonical());
        Some(Key::text(text.as_bytes()))
    };
    match &pool.spec().pool.persistence {
        Persistence::RdpCookie(_) => {
            let request = rdp::parse(first).unwrap_or_default();
            let named = request.token.and_then(|address| pool.index_by_address(address));
            // The broker knows where this session is; that says nothing about others from its address.
            if named.is_some_and(|index| pool.takes_persistent(index)) {
                return (None, named);
            }
            let entry = request.user.map(|user| Key::text(&rdp::user_key(user)));
            (entry.or_else(by_address), None)
        }
        Persistence::TlsSessionId(_) => {
            let session = hello.map(|h| h.session_id.as_slice()).filter(|id| !id.is_empty());
            (session.map(Key::text), None)
        }
        _ => (entry_of_client(pool, client), None),
    }
}

/// What the persistence cookie of a request says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CookieFound {
    /// What it was; none where the pool has no such cookies.
    pub read: Option<CookieRead>,
    /// The server it names.
    pub server: Option<usize>,
    /// When it was first set, in seconds since 1970, where it tells.
    pub first_set: Option<u64>,
}

/// Finds the server that the client's cookie names, and what the cookie was.
pub fn read_cookie(
    pool: &PoolRuntime,
    rule: &CookiePersistence,
    request: &Request,
    head: &[u8],
    wall_s: u64,
) -> CookieFound {
    let mut value = request.cookie(head, rule.name.as_bytes());
    if rule.method == CookieMethod::Prefix {
        value = value.and_then(|v| memchr::memchr(b'~', v).map(|at| &v[..at]));
    }
    let timed = rule.max_idle.is_some() || rule.max_life.is_some();
    let mut found = CookieFound::default();
    let mut old = false;
    if let (Some(whole), true) = (value, timed) {
        let mut parts = whole.split(|b| *b == b'|');
        value = parts.next();
        let mut time =
            || parts.next().and_then(|t| u64::from_str_radix(std::str::from_utf8(t).ok()?, 16).ok());
        let (last, first) = (time(), time());
        let age = |at: Option<u64>| at.map_or(u64::MAX, |at| wall_s.saturating_sub(at));
        old = rule.max_idle.is_some_and(|max| age(last) > max.as_secs())
            || rule.max_life.is_some_and(|max| age(first) > max.as_secs());
        found.first_set = first.filter(|_| !old);
    }
    let index = value.and_then(|value| pool.index_by_cookie(value)).filter(|_| !old);
    found.read = Some(match (value, index) {
        (None, _) => CookieRead::None,
        (Some(_), None) if old => CookieRead::Expired,
        (Some(_), None) => CookieRead::Invalid,
        (Some(_), Some(index)) if pool.takes_persistent(index) => CookieRead::Valid,
        (Some(_), Some(_)) => CookieRead::Down,
    });
    found.server = index;
    found
}

/// The cookie of persistence in an answer: the rule by which one is added (its text is in `text`), and what
/// becomes of the server's own.
pub fn answer_cookie<'a>(
    rule: &'a CookiePersistence,
    found: &CookieFound,
    (request, response, head): (&Request, &Response, &[u8]),
    server: &'a str,
    wall_ms: u64,
    record: &mut Record,
    text: &mut String,
) -> (Option<&'a CookiePersistence>, Option<(&'a [u8], CookieEdit<'a>)>) {
    let (mut inserted, mut cookie) = (None, None);
    let valid = found.read == Some(CookieRead::Valid);
    let posted = !rule.postonly || request.method == Method::Post;
    let own = response.sets_cookie(head, rule.name.as_bytes()).is_some();
    let name = rule.name.as_bytes();
    match rule.method {
        CookieMethod::Insert => {
            // The client has no cookie of the server that served it, or an old one.
            if posted && (!valid || rule.max_idle.is_some()) {
                set_cookie(rule, server, found.first_set, wall_ms / 1_000, text);
                inserted = Some(rule);
                let sent = if valid { CookieSent::Updated } else { CookieSent::Inserted };
                record.termination.cookie_sent = Some(sent);
            }
            cookie = (inserted.is_some() || rule.indirect).then_some((name, CookieEdit::Drop));
        }
        CookieMethod::Rewrite => cookie = Some((name, CookieEdit::Value(server.as_bytes()))),
        CookieMethod::Prefix => cookie = Some((name, CookieEdit::Prefix(server.as_bytes()))),
        CookieMethod::Passive => {}
    }
    match rule.method {
        CookieMethod::Rewrite | CookieMethod::Prefix if own => {
            record.termination.cookie_sent = Some(CookieSent::Rewritten)
        }
        CookieMethod::Passive if own => record.termination.cookie_sent = Some(CookieSent::Passed),
        _ => {}
    }
    (inserted, cookie)
}

/// The values of the `Set-Cookie` that name a server, one a line: one for each domain.
pub fn set_cookie(
    rule: &CookiePersistence,
    server: &str,
    first_set: Option<u64>,
    wall_s: u64,
    out: &mut String,
) {
    out.clear();
    match rule.domains.as_slice() {
        [] => set_one_cookie(rule, server, first_set, wall_s, None, out),
        domains => {
            for domain in domains {
                set_one_cookie(rule, server, first_set, wall_s, Some(domain), out);
                out.push('\n');
            }
        }
    }
}

fn set_one_cookie(
    rule: &CookiePersistence,
    server: &str,
    first_set: Option<u64>,
    wall_s: u64,
    domain: Option<&str>,
    out: &mut String,
) {
    use std::fmt::Write;
    out.push_str(&rule.name);
    out.push('=');
    out.push_str(server);
    if rule.max_idle.is_some() || rule.max_life.is_some() {
        let _ = write!(out, "|{wall_s:x}|{:x}", first_set.unwrap_or(wall_s));
    }
    out.push_str("; path=/");
    if let Some(domain) = domain {
        out.push_str("; domain=");
        out.push_str(domain);
    }
    if rule.httponly {
        out.push_str("; HttpOnly");
    }
    if rule.secure {
        out.push_str("; Secure");
    }
    if let Some(samesite) = rule.samesite {
        out.push_str("; SameSite=");
        out.push_str(samesite.as_str());
    }
}
