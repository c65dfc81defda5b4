//! The routes of a service, walked for one request or connection: what is changed, counted and
//! refused on the way, and where it ends.

use std::cell::RefCell;
use std::sync::Arc;

use evenkeel_balance::{ConcurrencyLimit, Counter, Key};
use evenkeel_model::{Answers, Name};
use evenkeel_rules::{
    Captures, Facts, Fetch, PathStart, Template, is_named, is_named_alike, writable_target,
};

use super::facts::{Answer, Asked, Hello, Variables};
use super::session::Client;
use super::{ServiceView, account};
use crate::auth;
use crate::h1::request::Request;
use crate::h1::response::Response;
use crate::log::Record;
use crate::routing::{CompiledEdit, CompiledRoute, Page, Step, TableSpec};
use crate::worker::{Busy, Worker};

/// Where the routes lead.
pub enum Verdict {
    /// The pool of this number in the service's list.
    Pool(usize),
    Redirect {
        status: u16,
        location: Vec<u8>,
    },
    Answer {
        status: u16,
        page: Arc<Page>,
    },
    Refuse(Refusal),
    /// The connection ends without a word.
    Silence,
    Tarpit {
        delay_ms: u64,
        status: u16,
    },
    /// A name and a password are wanted.
    Unauthorized {
        realm: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub retry_after_s: Option<u64>,
}

/// What routes have said of one request: changes to its head and to its answer's, what it is
/// counted for. Memory is used again for the next.
#[derive(Default)]
pub struct Changes {
    /// The new path with query, when it changes.
    pub target: Option<Vec<u8>>,
    /// The new method.
    pub method: Option<Arc<[u8]>>,
    pub request: HeadChanges,
    pub response: HeadChanges,
    /// Texts for the log line, divided by `|`.
    pub captured: Vec<u8>,
    pub captured_answer: Vec<u8>,
    /// What the line's format asked, and where each text ends.
    texts: Vec<u8>,
    text_ends: Vec<usize>,
    pub priority: i16,
    /// In place of the service's.
    pub server_timeout_ms: Option<u64>,
    /// The server that takes it, if it can.
    pub server: Option<Name>,
    tracked: Vec<Tracked>,
    places: Vec<Place>,
    captures: Captures,
    key: RefCell<Vec<u8>>,
    rendered: Vec<u8>,
    variables: Variables,
}

/// Fields to remove and lines to add.
#[derive(Default)]
pub struct HeadChanges {
    /// Names, each with a line break behind it: memory that is used again.
    drops: Vec<u8>,
    /// Whole lines, in their order.
    pub lines: Vec<u8>,
}

impl HeadChanges {
    pub fn is_empty(&self) -> bool {
        self.drops.is_empty() && self.lines.is_empty()
    }

    /// Whether a field of the original head stays behind.
    pub fn drops(&self, field: &[u8]) -> bool {
        self.dropped().any(|name| is_named(field, name))
    }

    /// Whether a field of a request stays behind. Names are one where servers take them for one.
    pub fn drops_of_request(&self, field: &[u8]) -> bool {
        self.dropped().any(|name| is_named_alike(field, name))
    }

    fn dropped(&self) -> impl Iterator<Item = &[u8]> {
        self.drops.split(|b| *b == b'\n').filter(|name| !name.is_empty())
    }

    /// `*` in the name stands for anything.
    pub fn drop_named(&mut self, name: &[u8]) {
        self.drops.extend_from_slice(name);
        self.drops.push(b'\n');
    }

    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        crate::h1::request::line(&mut self.lines, name, value);
    }

    /// Values of the lines that were added under a name.
    pub fn lines_named<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let lines = self.lines.split(|b| *b == b'\n').filter_map(|line| {
            let at = memchr::memchr(b':', line)?;
            Some((&line[..at], line[at + 1..].trim_ascii()))
        });
        lines.filter(|(of, _)| of.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn clear(&mut self) {
        self.drops.clear();
        self.lines.clear();
    }

    fn apply(&mut self, edit: &CompiledEdit, value: &[u8]) {
        match edit {
            CompiledEdit::Remove { name } => {
                self.forget(edit);
                self.drop_named(name);
            }
            CompiledEdit::Set { name, .. } => {
                self.forget(edit);
                self.drop_named(name);
                self.add(name, value);
            }
            CompiledEdit::Add { name, .. } => self.add(name, value),
            // See `edited_each`, which knows what the headers were.
            CompiledEdit::Each { .. } => {}
        }
    }

    /// Other lines in the place of all those of a name.
    fn replace(&mut self, name: &[u8], lines: &[Vec<u8>]) {
        self.forget_named(|field| is_named(field, name));
        self.drop_named(name);
        lines.iter().for_each(|value| self.add(name, value));
    }

    /// Takes back lines that earlier routes added and a later one replaces.
    fn forget(&mut self, edit: &CompiledEdit) {
        self.forget_named(|field| edit.drops(field));
    }

    fn forget_named(&mut self, drops: impl Fn(&[u8]) -> bool) {
        let mut at = 0;
        while at < self.lines.len() {
            let end = memchr::memchr(b'\n', &self.lines[at..]).map_or(self.lines.len(), |n| at + n + 1);
            let name = self.lines[at..end].split(|b| *b == b':').next().unwrap_or(b"");
            match drops(name) {
                true => {
                    self.lines.drain(at..end);
                }
                false => at = end,
            }
        }
    }
}

/// A request that an entry of a table counts as going on.
struct Tracked {
    table: Arc<TableSpec>,
    key: Key,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.table.table.current(&self.key, -1, crate::reactor::now().mono_ms);
    }
}

/// One of the requests that a key may have at a time.
struct Place {
    limit: Arc<ConcurrencyLimit>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.limit.leave(self.number);
    }
}

impl Changes {
    pub fn clear(&mut self) {
        self.target = None;
        self.method = None;
        self.server_timeout_ms = None;
        self.server = None;
        self.request.clear();
        self.response.clear();
        self.captured.clear();
        self.captured_answer.clear();
        self.texts.clear();
        self.text_ends.clear();
        self.priority = 0;
        self.tracked.clear();
        self.places.clear();
        self.variables.end_request();
    }

    /// Counts for every tracked key, at the end.
    pub fn count(&mut self, worker: &Worker, record: &Record, http: bool) {
        let now_ms = worker.reactor.now_ms();
        for Tracked { table, key } in &self.tracked {
            let failed = if http {
                record.status >= 400 && record.status < 500
            } else {
                record.termination.cause != b'-'
            };
            let counts = [
                (Counter::Errors, u64::from(failed)),
                (Counter::BytesIn, record.bytes_in),
                (Counter::BytesOut, record.bytes_out),
            ];
            for (counter, amount) in counts {
                if amount > 0 {
                    table.table.count(key, counter, amount, now_ms);
                }
            }
        }
        self.tracked.clear();
        self.places.clear();
    }
}

/// Walks the routes of a service. `request` is the parsed request with its head, in mode http.
pub async fn walk(
    worker: &'static Worker,
    view: &ServiceView,
    client: &Client,
    request: Option<(&Request, &[u8])>,
    hello: Option<&Hello>,
    changes: &mut Changes,
) -> Verdict {
    let routes = &view.spec.routes;
    let mut asked = Asked::new(worker, view, client, request, hello, changes.key.take());
    asked.variables = std::mem::take(&mut changes.variables);
    asked.edits = std::mem::take(&mut changes.request);
    let mut verdict = Verdict::Pool(0);
    let mut start = PathStart::of(asked.path());
    'routes: for route in &routes.list {
        if !holds(route, &asked, start, &mut changes.captures) {
            continue;
        }
        for step in &route.steps {
            if let Some(found) = take(&mut asked, step, changes).await {
                verdict = found;
                break 'routes;
            }
        }
        if let Some(target) = asked.next_target.take() {
            asked.set_target(target);
            start = PathStart::of(asked.path());
        }
    }
    asked.target = asked.next_target.take().or(asked.target);
    if worker.log.is_wanted() {
        for text in view.spec.line.requests() {
            text.render_outward(&asked, &Captures::default(), &mut changes.texts);
            changes.text_ends.push(changes.texts.len());
        }
    }
    changes.key.replace(asked.key.take());
    changes.method = asked.method.take();
    (changes.variables, changes.request, changes.target) = (asked.variables, asked.edits, asked.target);
    verdict
}

/// Whether a route is for this request or answer; what its condition captured. `start` is of the path.
fn holds(route: &CompiledRoute, asked: &Asked<'_>, start: PathStart, captures: &mut Captures) -> bool {
    if route.gate.as_ref().is_some_and(|gate| !gate.lets(asked.path(), start)) {
        return false;
    }
    captures.clear();
    captures.wanted = route.captures;
    route.when.as_ref().is_none_or(|when| when.holds(asked, captures))
}

/// What the routes of answers have said of one.
#[derive(Default)]
pub struct AnswerVerdict {
    /// Another status.
    pub status: Option<u16>,
    /// It does not go out.
    pub deny: Option<u16>,
}

/// An answer for `walk_answer`: the request with its head as it came, and the answer's own.
pub struct Answered<'a> {
    pub request: (&'a Request, &'a [u8]),
    pub response: (&'a Response, &'a [u8]),
    /// None where this program answers itself.
    pub server: Option<&'a str>,
}

/// Walks the routes of answers. What becomes of the head is in `changes.response` afterwards.
pub fn walk_answer(
    worker: &'static Worker,
    view: &ServiceView,
    client: &Client,
    answered: &Answered<'_>,
    changes: &mut Changes,
) -> AnswerVerdict {
    let key = changes.key.take();
    let mut asked = Asked::new(worker, view, client, Some(answered.request), None, key);
    asked.variables = std::mem::take(&mut changes.variables);
    asked.edits = std::mem::take(&mut changes.request);
    if let Some(target) = changes.target.take() {
        asked.set_target(target);
    }
    asked.method = changes.method.take();
    let (response, head) = answered.response;
    let edits = std::mem::take(&mut changes.response);
    asked.answer = Some(Answer { response, head, status: response.status, edits, server: answered.server });
    let mut verdict = AnswerVerdict::default();
    let start = PathStart::of(asked.path());
    for each in &view.spec.routes.answers {
        let wanted = match each.of {
            Answers::All => true,
            Answers::OfServers => answered.server.is_some(),
            Answers::Own => answered.server.is_none(),
        };
        if !wanted || !holds(&each.route, &asked, start, &mut changes.captures) {
            continue;
        }
        for step in &each.route.steps {
            take_answer(&mut asked, step, changes, &mut verdict);
        }
        if each.stop || verdict.deny.is_some() {
            break;
        }
    }
    changes.key.replace(asked.key.take());
    changes.response = asked.answer.map(|answer| answer.edits).unwrap_or_default();
    changes.method = asked.method.take();
    (changes.variables, changes.request, changes.target) = (asked.variables, asked.edits, asked.target);
    verdict
}

/// What each header of a name becomes. Only who writes `edit-header` pays for the copies.
fn edited_each(asked: &Asked<'_>, which: Fetch, name: &[u8], value: &Template) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    let name = String::from_utf8_lossy(name);
    asked.texts(which, &name, &mut |line| {
        lines.push(line.to_vec());
        false
    });
    let mut captures = Captures::default();
    for line in &mut lines {
        captures.only(line);
        line.clear();
        value.render_outward(asked, &captures, line);
    }
    lines
}

fn take_answer(asked: &mut Asked<'_>, step: &Step, changes: &mut Changes, verdict: &mut AnswerVerdict) {
    let mut rendered = std::mem::take(&mut changes.rendered);
    rendered.clear();
    match step {
        Step::SetVariable { name, value } => {
            value.render(asked, &changes.captures, &mut rendered);
            asked.variables.set(name, &rendered);
        }
        Step::Capture { value, .. } => {
            value.render_outward(asked, &changes.captures, &mut rendered);
            capture(&rendered, &mut changes.captured_answer);
        }
        Step::ResponseHeader(CompiledEdit::Each { name, value }) => {
            let lines = edited_each(asked, Fetch::AnswerHeader, name, value);
            if let Some(answer) = asked.answer.as_mut().filter(|_| !lines.is_empty()) {
                answer.edits.replace(name, &lines);
            }
        }
        Step::ResponseHeader(edit) => {
            if let Some(value) = edit.value() {
                value.render_outward(asked, &changes.captures, &mut rendered);
            }
            if let Some(answer) = &mut asked.answer {
                answer.edits.apply(edit, &rendered);
            }
        }
        Step::Status(status) => {
            verdict.status = Some(*status);
            if let Some(answer) = &mut asked.answer {
                answer.status = *status;
            }
        }
        Step::Deny { status } if asked.answer.as_ref().is_some_and(|a| a.server.is_some()) => {
            verdict.deny = Some(*status);
        }
        _ => {}
    }
    changes.rendered = rendered;
}

/// Whether something is decided by the text of a step, at once or later, rather than sent.
fn decides(step: &Step) -> bool {
    matches!(
        step,
        Step::Track(_)
            | Step::RateLimit { .. }
            | Step::ConcurrencyLimit { .. }
            | Step::SetVariable { .. }
            | Step::PoolMap { .. }
    )
}

async fn take(asked: &mut Asked<'_>, step: &Step, changes: &mut Changes) -> Option<Verdict> {
    let now_ms = asked.worker.reactor.now_ms();
    let mut rendered = std::mem::take(&mut changes.rendered);
    let decides = decides(step);
    let mut render = |text: &Template| {
        rendered.clear();
        match decides {
            true => text.render(asked, &changes.captures, &mut rendered),
            false => text.render_outward(asked, &changes.captures, &mut rendered),
        }
    };
    let refuse = |status, retry_after_s| Some(Verdict::Refuse(Refusal { status, retry_after_s }));
    let verdict = match step {
        Step::Track(table) => {
            render(&table.key);
            let key = Key::text(&rendered);
            let first = if asked.request.is_some() { Counter::Requests } else { Counter::Connections };
            if asked.client.requests <= 1 && first == Counter::Requests {
                table.table.count(&key, Counter::Connections, 1, now_ms);
            }
            table.table.count(&key, first, 1, now_ms);
            table.table.current(&key, 1, now_ms);
            changes.tracked.push(Tracked { table: table.clone(), key });
            None
        }
        Step::RateLimit { key, limit, status } => {
            render(key);
            match limit.take(&rendered, now_ms) {
                Ok(()) => None,
                Err(wait_ms) => refuse(*status, Some(wait_ms.div_ceil(1_000).max(1))),
            }
        }
        Step::ConcurrencyLimit { key, limit, status } => {
            render(key);
            match limit.enter(&rendered) {
                Some(number) => {
                    changes.places.push(Place { limit: limit.clone(), number });
                    None
                }
                None => refuse(*status, None),
            }
        }
        Step::BasicAuth { realm, users } => match knows(asked, users).await {
            Ok(true) => None,
            Ok(false) => Some(Verdict::Unauthorized { realm: realm.clone() }),
            Err(Busy) => refuse(503, Some(1)),
        },
        Step::SetVariable { name, value } => {
            render(value);
            asked.variables.set(name, &rendered);
            None
        }
        Step::Capture { value, .. } => {
            render(value);
            capture(&rendered, &mut changes.captured);
            None
        }
        Step::Server(name) => {
            changes.server = Some(name.clone());
            None
        }
        Step::ServerTimeout(time_ms) => {
            changes.server_timeout_ms = Some(*time_ms);
            None
        }
        Step::Priority(priority) => {
            changes.priority = *priority;
            None
        }
        Step::RewritePath(text) => {
            render(text);
            let now = asked.whole_target();
            let query = memchr::memchr(b'?', now).map_or(&[][..], |at| &now[at..]);
            let mut target = writable_target(&rendered, true);
            target.extend_from_slice(query);
            asked.next_target = Some(target);
            None
        }
        Step::RewriteQuery(text) => {
            render(text);
            let now = asked.whole_target();
            let mut target = now[..memchr::memchr(b'?', now).unwrap_or(now.len())].to_vec();
            if !rendered.is_empty() {
                target.push(b'?');
                target.extend(writable_target(&rendered, false));
            }
            asked.next_target = Some(target);
            None
        }
        Step::RewriteMethod(method) => {
            asked.method = Some(method.clone());
            None
        }
        Step::RewriteUri(text) => {
            render(text);
            let at = memchr::memchr(b'?', &rendered);
            let mut target = writable_target(&rendered[..at.unwrap_or(rendered.len())], true);
            if let Some(at) = at {
                target.push(b'?');
                target.extend(writable_target(&rendered[at + 1..], false));
            }
            asked.next_target = Some(target);
            None
        }
        Step::Header(CompiledEdit::Each { name, value }) => {
            let lines = edited_each(asked, Fetch::Header, name, value);
            if !lines.is_empty() {
                asked.edits.replace(name, &lines);
            }
            None
        }
        Step::Header(edit) | Step::ResponseHeader(edit) => {
            rendered.clear();
            if let Some(value) = edit.value() {
                value.render_outward(asked, &changes.captures, &mut rendered);
            }
            let head = if matches!(step, Step::Header(_)) { &mut asked.edits } else { &mut changes.response };
            head.apply(edit, &rendered);
            None
        }
        // Of answers.
        Step::Status(_) => None,
        Step::Pool(pool) => Some(Verdict::Pool(*pool)),
        Step::PoolMap { key, map, folds, default } => {
            render(key);
            if *folds {
                rendered.make_ascii_lowercase();
            }
            let named = map.get(&rendered);
            let pools = &asked.view.spec.routes.pools;
            let found = named.and_then(|name| pools.iter().position(|p| p.as_str() == name.as_ref()));
            found.or(*default).map(Verdict::Pool)
        }
        Step::Redirect { location, status, keep_query } => {
            render(location);
            let mut location = rendered.clone();
            let target = asked.whole_target();
            if *keep_query && let Some(at) = memchr::memchr(b'?', target) {
                location.extend_from_slice(&target[at..]);
            }
            Some(Verdict::Redirect { status: *status, location })
        }
        Step::Answer { status, page, text } => {
            let page = match text {
                None => page.clone(),
                Some(text) => {
                    render(text);
                    let (content_type, lines) = (page.content_type.clone(), page.lines.clone());
                    Arc::new(Page { content_type, lines, body: rendered.clone() })
                }
            };
            Some(Verdict::Answer { status: *status, page })
        }
        Step::Deny { status } => refuse(*status, None),
        Step::Silence => Some(Verdict::Silence),
        Step::Tarpit { delay, status } => {
            Some(Verdict::Tarpit { delay_ms: delay.as_millis() as u64, status: *status })
        }
    };
    changes.rendered = rendered;
    verdict
}

/// Whether the request names a user with the right password.
async fn knows(asked: &Asked<'_>, users: &auth::Users) -> Result<bool, Busy> {
    let Some((request, head)) = asked.request else { return Ok(false) };
    let named = |f: &&crate::h1::field::Field| f.name.of(head).eq_ignore_ascii_case(b"authorization");
    let field = request.fields.iter().find(named).map(|f| f.value.of(head));
    let Some((name, password)) = field.and_then(auth::credentials) else { return Ok(false) };
    match users.expected(&name) {
        Some(expected) => {
            let client = asked.client.address.ip();
            asked.worker.verify_password(client, &name, password, expected).await
        }
        None => Ok(false),
    }
}

/// A text for the log line.
fn capture(text: &[u8], captured: &mut Vec<u8>) {
    captured.extend_from_slice(&text[..text.len().min(256)]);
    // What is not there has its place all the same.
    captured.push(b'|');
}

/// Notes what was captured for the log line.
pub fn note(changes: &Changes, record: &mut Record) {
    record.captured.clone_from(&changes.captured);
    record.captured_answer.clone_from(&changes.captured_answer);
    record.texts.clone_from(&changes.texts);
    record.text_ends.clone_from(&changes.text_ends);
}

/// Counts a request that ended, with what its routes track.
pub fn finish(
    worker: &Worker,
    view: &ServiceView,
    client: &Client,
    changes: &mut Changes,
    record: &mut Record,
    http: bool,
) {
    let captured = !changes.captured.is_empty() || !changes.captured_answer.is_empty();
    if !changes.tracked.is_empty() || captured || !changes.text_ends.is_empty() {
        note(changes, record);
        changes.count(worker, record, http);
    }
    account::finish(worker, view, client, record, http);
    changes.clear();
}
