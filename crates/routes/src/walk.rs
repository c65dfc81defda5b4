//! The walk: routes in their written order, each asked whether it holds, each step of one that does
//! carried out, until one ends it.

use evenkeel_balance::Counter;
use evenkeel_model::Answers;
use evenkeel_rules::{Captures, Facts, Fetch, PathStart, Template, writable_target};

use crate::changes::{Changes, path_of};
use crate::compile::{Edit, Resources, Route, RouteAction, Routes};
use crate::index::Index;
use crate::view::{Source, View};

/// Where the routes lead.
pub enum Verdict<'r, R: Resources> {
    /// The pool of this number in the service's list.
    Pool(usize),
    /// Another address is named to the client.
    Redirect {
        /// Of the answer.
        status: u16,
        /// Its `Location`.
        location: Vec<u8>,
    },
    /// A page is the answer.
    Answer {
        /// Of the answer.
        status: u16,
        /// The page as it was configured.
        page: &'r R::Page,
        /// The body in place of the page's, where it has variables.
        body: Option<Vec<u8>>,
    },
    /// It is refused.
    Refuse {
        /// Of the answer.
        status: u16,
        /// When it may be tried again, where that is known.
        retry_after_s: Option<u64>,
    },
    /// The connection ends without a word.
    Silence {
        /// Without a packet that says so.
        vanish: bool,
    },
    /// It is refused after a while.
    Tarpit {
        /// How long the client waits.
        delay_ms: u64,
        /// Of the answer.
        status: u16,
    },
    /// A name and a password are wanted. Who checks them says so; the walk itself never does.
    Unauthorized {
        /// What they are for.
        realm: &'r str,
    },
}

/// How far a walk has come.
pub enum Next<'r, R: Resources> {
    /// To its end.
    End(Verdict<'r, R>),
    /// A name and a password have to be checked, which may take long. [`Walk::run`] goes on where they
    /// are right.
    Password {
        /// What they are for.
        realm: &'r str,
        /// Who may come in.
        accounts: &'r R::Accounts,
    },
}

/// What happens on a walk beside the changes of the request: counting, limits. The methods with a body
/// are for those who tell what happens.
pub trait Effects<R: Resources> {
    /// Counts the request for a key of a table.
    fn track(&mut self, table: &R::Table, key: &[u8]);
    /// Adds to a number of a key's entry in a table, or gives it another (`keeps`).
    fn count(&mut self, table: &R::Table, key: &[u8], counter: Counter, amount: u64, keeps: bool);
    /// Takes one of so many in a time; otherwise when to try again, in milliseconds.
    fn take(&mut self, limit: &R::Rate, key: &[u8]) -> Result<(), u64>;
    /// Takes one of so many places; whether there was one.
    fn enter(&mut self, limit: &R::Concurrency, key: &[u8]) -> bool;

    /// Every route is asked, also those that cannot hold.
    fn asks_all(&self) -> bool {
        false
    }

    /// A route was asked whether it holds.
    fn asked(&mut self, route: &Route<R>, holds: bool, facts: &dyn Facts) {
        let _ = (route, holds, facts);
    }

    /// A route of answers is for those of others.
    fn passed_over(&mut self, route: &Route<R>) {
        let _ = route;
    }

    /// A step was carried out. `text` is what it rendered, as it is used: of a rewrite the whole new
    /// target. `pool` is where it leads.
    fn done(&mut self, step: &RouteAction<R>, text: &[u8], pool: Option<usize>) {
        let _ = (step, text, pool);
    }
}

/// One walk over the routes of requests or connections.
pub struct Walk<'r, R: Resources> {
    routes: &'r Routes<R>,
    route: usize,
    step: usize,
    /// The current route holds and its steps are carried out.
    holds: bool,
    start: PathStart,
}

impl<'r, R: Resources> Walk<'r, R> {
    /// Before the first route.
    pub fn new<S: Source<R>>(routes: &'r Routes<R>, source: &S, changes: &mut Changes) -> Walk<'r, R> {
        changes.status = None;
        changes.begin(source.target(), source.host(), source.method(), routes.normalizes);
        let start = begin(routes, routes.index.as_ref(), source, changes);
        Walk { routes, route: 0, step: 0, holds: false, start }
    }

    /// The route at which it has stopped; none behind the last.
    pub fn route(&self) -> Option<&'r Route<R>> {
        self.routes.list.get(self.route)
    }

    /// Walks to the end, or to a password.
    pub fn run<S: Source<R>>(
        &mut self,
        source: &S,
        effects: &mut impl Effects<R>,
        changes: &mut Changes,
    ) -> Next<'r, R> {
        let index = self.routes.index.as_ref().filter(|_| !effects.asks_all());
        loop {
            if !self.holds && index.is_some() {
                self.route = changes.candidates.next(self.route);
            }
            let Some(route) = self.routes.list.get(self.route) else { break };
            if !self.holds {
                self.holds = holds(self.routes, route, source, self.start, changes);
                effects.asked(route, self.holds, &View { source, routes: self.routes, changes });
            }
            while self.holds
                && let Some(step) = route.steps.get(self.step)
            {
                self.step += 1;
                if let RouteAction::BasicAuth { realm, accounts } = step {
                    return Next::Password { realm, accounts };
                }
                if let Some(verdict) = take(self.routes, step, source, effects, changes) {
                    self.end(changes);
                    return Next::End(verdict);
                }
            }
            let held = self.holds;
            (self.route, self.step, self.holds) = (self.route + 1, 0, false);
            // A later route may see another path or host.
            if changes.settle(self.routes.normalizes) | (held && route.changes_host) {
                self.start = begin(self.routes, index, source, changes);
            }
        }
        Next::End(Verdict::Pool(0))
    }

    /// What the last route has made of path and query counts. Who ends a walk at a password calls it.
    pub fn end(&self, changes: &mut Changes) {
        changes.settle(self.routes.normalizes);
    }
}

/// Looks at path and host as they are now: how the path begins, and which routes can hold.
fn begin<R: Resources, S: Source<R>>(
    routes: &Routes<R>,
    index: Option<&Index>,
    source: &S,
    changes: &mut Changes,
) -> PathStart {
    let mut candidates = std::mem::take(&mut changes.candidates);
    let view = View { source, routes, changes };
    let start = PathStart::of(view.path());
    if let Some(index) = index {
        index.look_up(view.path(), view.host(), &mut candidates);
    }
    changes.candidates = candidates;
    start
}

/// Whether a route is for this request or answer; what its condition captured. `start` is of the path.
fn holds<R: Resources, S: Source<R>>(
    routes: &Routes<R>,
    route: &Route<R>,
    source: &S,
    start: PathStart,
    changes: &mut Changes,
) -> bool {
    let mut captures = std::mem::take(&mut changes.captures);
    captures.clear();
    captures.wanted = route.captures;
    let view = View { source, routes, changes };
    let holds = route.gate.as_ref().is_none_or(|gate| gate.lets(view.path(), start))
        && route.when.as_ref().is_none_or(|when| when.holds(&view, &mut captures));
    changes.captures = captures;
    holds
}

/// Renders the text of a step into `changes.rendered`, taken out of it.
fn render<R: Resources, S: Source<R>>(
    routes: &Routes<R>,
    text: Option<&Template>,
    decides: bool,
    source: &S,
    changes: &mut Changes,
) -> Vec<u8> {
    let mut out = std::mem::take(&mut changes.rendered);
    out.clear();
    if let Some(text) = text {
        let view = View { source, routes, changes };
        match decides {
            true => text.render(&view, &changes.captures, &mut out),
            false => text.render_outward(&view, &changes.captures, &mut out),
        }
    }
    out
}

/// What each field of a name becomes. Only who writes `edit-header` pays for the copies.
fn edited_each<R: Resources, S: Source<R>>(
    routes: &Routes<R>,
    which: Fetch,
    edit: &Edit,
    source: &S,
    changes: &Changes,
) -> Vec<Vec<u8>> {
    let Edit::Each { name, value } = edit else { return Vec::new() };
    let view = View { source, routes, changes };
    let mut values: Vec<Vec<u8>> = Vec::new();
    view.texts(which, &String::from_utf8_lossy(name), &mut |text| {
        values.push(text.to_vec());
        false
    });
    let mut captures = Captures::default();
    for text in &mut values {
        captures.only(text);
        text.clear();
        value.render_outward(&view, &captures, text);
    }
    values
}

/// Carries out a step of a request; where it leads, if it ends the walk.
fn take<'r, R: Resources, S: Source<R>>(
    routes: &'r Routes<R>,
    step: &'r RouteAction<R>,
    source: &S,
    effects: &mut impl Effects<R>,
    changes: &mut Changes,
) -> Option<Verdict<'r, R>> {
    if let RouteAction::Header(edit @ Edit::Each { name, value }) = step {
        let values = edited_each(routes, Fetch::Header, edit, source, changes);
        if !values.is_empty() {
            changes.request.replace(name, &values);
        }
        effects.done(step, value.as_str().as_bytes(), None);
        return None;
    }
    if let RouteAction::Header(edit @ Edit::RemoveMatching(names)) = step {
        let mut found = Vec::new();
        source.request_names(&mut |name| found.extend(names.matches(name).then(|| name.to_vec())));
        changes.request.drop_each(&found, edit);
        effects.done(step, names.as_str().as_bytes(), None);
        return None;
    }
    if let RouteAction::Count { table, counter, value, keeps } = step {
        let text = render(routes, Some(value), true, source, changes);
        let amount = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse::<u64>().ok());
        effects.done(step, &text, None);
        changes.rendered = text;
        let (amount, table) = amount.zip(routes.tables.get(*table))?;
        let key = render(routes, Some(&table.key), true, source, changes);
        effects.count(&table.table, &key, *counter, amount, *keeps);
        changes.rendered = key;
        return None;
    }
    let text = match step {
        RouteAction::Track { table } => routes.tables.get(*table).map(|table| &table.key),
        step => step.text(),
    };
    let mut text = render(routes, text, step.decides(), source, changes);
    let target = View { source, routes, changes }.next_target();
    let rewritten = match step {
        RouteAction::RewritePath(_) => Some(with_path(target, &text)),
        RouteAction::RewriteQuery(_) => Some(with_query(target, &text)),
        RouteAction::RewriteUri(_) => Some(written_uri(&text)),
        RouteAction::PoolMap { folds: true, .. } => {
            text.make_ascii_lowercase();
            None
        }
        RouteAction::Redirect { keep_query: true, .. } => {
            text.extend_from_slice(&target[path_of(target).len()..]);
            None
        }
        _ => None,
    };
    let rewrites = rewritten.is_some();
    changes.next_target = rewritten.or(changes.next_target.take());
    let verdict = match step {
        step if change(step, &text, changes) => None,
        RouteAction::Track { .. } | RouteAction::RateLimit { .. } | RouteAction::ConcurrencyLimit { .. } => {
            count(routes, step, &text, effects)
        }
        step => ending(routes, step, &text),
    };
    let pool = match &verdict {
        Some(Verdict::Pool(pool)) => Some(*pool),
        _ => None,
    };
    let used = changes.next_target.as_deref().filter(|_| rewrites).unwrap_or(&text);
    effects.done(step, used, pool);
    changes.rendered = text;
    verdict
}

/// Another path before the query of a target.
fn with_path(target: &[u8], path: &[u8]) -> Vec<u8> {
    let mut new = writable_target(path, true);
    new.extend_from_slice(&target[path_of(target).len()..]);
    new
}

/// Another query behind the path of a target.
fn with_query(target: &[u8], query: &[u8]) -> Vec<u8> {
    let mut new = path_of(target).to_vec();
    if !query.is_empty() {
        new.push(b'?');
        new.extend(writable_target(query, false));
    }
    new
}

/// Path and query of a text; of a whole address what stands behind its host.
fn written_uri(text: &[u8]) -> Vec<u8> {
    let whole = text.strip_prefix(b"http://").or_else(|| text.strip_prefix(b"https://"));
    let text = whole.map_or(text, |rest| {
        let end = rest.iter().position(|byte| b"/?".contains(byte)).unwrap_or(rest.len());
        &rest[end..]
    });
    let path = path_of(text);
    let mut new = writable_target(path, true);
    if let Some(query) = text.get(path.len() + 1..) {
        new.push(b'?');
        new.extend(writable_target(query, false));
    }
    new
}

/// Carries out a step that changes the request or what becomes of it; whether it is one.
fn change<R: Resources>(step: &RouteAction<R>, text: &[u8], changes: &mut Changes) -> bool {
    match step {
        RouteAction::SetVariable { name, .. } => changes.variables.set(name, text),
        RouteAction::Capture { .. } => Changes::capture(text, &mut changes.captured),
        RouteAction::SetAddress { which, .. } => changes.addresses.set(*which, text),
        RouteAction::Server(name) => changes.server = Some(name.clone()),
        RouteAction::ServerTimeout(time_ms) => changes.server_timeout_ms = Some(*time_ms),
        RouteAction::ConnectTimeout(time_ms) => changes.connect_timeout_ms = Some(*time_ms),
        RouteAction::QueueTimeout(time_ms) => changes.queue_timeout_ms = Some(*time_ms),
        RouteAction::Once => changes.once = true,
        RouteAction::LogLevel(level) => changes.log_level = Some(*level),
        RouteAction::Priority(priority) => changes.priority = *priority,
        // Done already.
        RouteAction::RewritePath(_) | RouteAction::RewriteQuery(_) | RouteAction::RewriteUri(_) => {}
        RouteAction::RewriteMethod(method) => changes.method = Some(method.clone()),
        RouteAction::Header(edit) => changes.request.apply(edit, text),
        RouteAction::ResponseHeader(edit) => changes.response.apply(edit, text),
        // A status is that of an answer.
        RouteAction::Status(_) => {}
        _ => return false,
    }
    true
}

/// Counts, and refuses what is over a limit.
fn count<'r, R: Resources>(
    routes: &Routes<R>,
    step: &RouteAction<R>,
    key: &[u8],
    effects: &mut impl Effects<R>,
) -> Option<Verdict<'r, R>> {
    match step {
        RouteAction::Track { table } => {
            if let Some(table) = routes.tables.get(*table) {
                effects.track(&table.table, key);
            }
            None
        }
        RouteAction::RateLimit { limit, status, .. } => {
            let wait_ms = effects.take(limit, key).err()?;
            Some(Verdict::Refuse { status: *status, retry_after_s: Some(wait_ms.div_ceil(1_000).max(1)) })
        }
        RouteAction::ConcurrencyLimit { limit, status, .. } if !effects.enter(limit, key) => {
            Some(Verdict::Refuse { status: *status, retry_after_s: None })
        }
        _ => None,
    }
}

/// Where a step ends the walk, if it does.
fn ending<'r, R: Resources>(
    routes: &Routes<R>,
    step: &'r RouteAction<R>,
    text: &[u8],
) -> Option<Verdict<'r, R>> {
    Some(match step {
        RouteAction::Pool(pool) => Verdict::Pool(*pool),
        RouteAction::PoolMap { map, default, .. } => {
            let found = map.get(text);
            let found = found.and_then(|name| routes.pool_number(name.as_ref()));
            return found.or(*default).map(Verdict::Pool);
        }
        RouteAction::Redirect { status, .. } => {
            Verdict::Redirect { status: *status, location: text.to_vec() }
        }
        RouteAction::Answer { status, page, text: written } => {
            Verdict::Answer { status: *status, page, body: written.as_ref().map(|_| text.to_vec()) }
        }
        RouteAction::Deny { status } => Verdict::Refuse { status: *status, retry_after_s: None },
        RouteAction::Silence { vanish } => Verdict::Silence { vanish: *vanish },
        RouteAction::Tarpit { delay, status } => {
            Verdict::Tarpit { delay_ms: delay.as_millis() as u64, status: *status }
        }
        _ => return None,
    })
}

/// What the routes of answers have said of one. Its head is in [`Changes::response`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerVerdict {
    /// Another status.
    pub status: Option<u16>,
    /// It does not go out; an error with this status stands in its place.
    pub deny: Option<u16>,
    /// It does not go out; the redirection or page of this route and step stands in its place, with
    /// [`Changes::replacement`] and the header changes of that route alone.
    pub instead: Option<(usize, usize)>,
    /// It does not go out, and the connection ends without a word.
    pub silent: bool,
}

/// Walks the routes of answers. They see the request as those of requests have left it. `status` is the
/// answer's own.
pub fn walk_answer<R: Resources, S: Source<R>>(
    routes: &Routes<R>,
    source: &S,
    status: u16,
    effects: &mut impl Effects<R>,
    changes: &mut Changes,
) -> AnswerVerdict {
    changes.status = Some(status);
    changes.begin(source.target(), source.host(), source.method(), routes.normalizes);
    let mut verdict = AnswerVerdict::default();
    let index = routes.answer_index.as_ref().filter(|_| !effects.asks_all());
    let start = begin(routes, index, source, changes);
    let of_server = source.server().is_some();
    let mut at = 0;
    loop {
        if index.is_some() {
            at = changes.candidates.next(at);
        }
        let Some(each) = routes.answers.get(at) else { break };
        at += 1;
        let wanted = match each.of {
            Answers::All => true,
            Answers::OfServers => of_server,
            Answers::Own => !of_server,
        };
        if !wanted {
            effects.passed_over(&each.route);
            continue;
        }
        let holds = holds(routes, &each.route, source, start, changes);
        effects.asked(&each.route, holds, &View { source, routes, changes });
        if !holds {
            continue;
        }
        // What others have made of the answer goes with it.
        if of_server && each.route.steps.iter().any(RouteAction::is_answer) {
            changes.response.clear();
        }
        for (number, step) in each.route.steps.iter().enumerate() {
            if let RouteAction::ResponseHeader(edit @ Edit::Each { name, value }) = step {
                let values = edited_each(routes, Fetch::AnswerHeader, edit, source, changes);
                if !values.is_empty() {
                    changes.response.replace(name, &values);
                }
                effects.done(step, value.as_str().as_bytes(), None);
                continue;
            }
            if let RouteAction::ResponseHeader(edit @ Edit::RemoveMatching(names)) = step {
                let mut found = Vec::new();
                source.answer_names(&mut |name| found.extend(names.matches(name).then(|| name.to_vec())));
                changes.response.drop_each(&found, edit);
                effects.done(step, names.as_str().as_bytes(), None);
                continue;
            }
            let text = render(routes, step.text(), step.decides(), source, changes);
            if of_server && step.is_answer() {
                changes.replacement.clone_from(&text);
                if matches!(step, RouteAction::Redirect { keep_query: true, .. }) {
                    let target = source.target();
                    changes.replacement.extend_from_slice(&target[path_of(target).len()..]);
                }
                verdict.instead = Some((at - 1, number));
                effects.done(step, &text, None);
            } else if take_answer(step, &text, of_server, changes, &mut verdict) {
                effects.done(step, &text, None);
            }
            changes.rendered = text;
        }
        if each.stop || verdict.deny.is_some() || verdict.instead.is_some() || verdict.silent {
            break;
        }
    }
    changes.status = None;
    verdict
}

/// Carries out a step of an answer; whether it is one that an answer has.
fn take_answer<R: Resources>(
    step: &RouteAction<R>,
    text: &[u8],
    of_server: bool,
    changes: &mut Changes,
    verdict: &mut AnswerVerdict,
) -> bool {
    match step {
        RouteAction::SetVariable { name, .. } => changes.variables.set(name, text),
        RouteAction::Capture { .. } => Changes::capture(text, &mut changes.captured_answer),
        RouteAction::ResponseHeader(edit) => changes.response.apply(edit, text),
        RouteAction::LogLevel(level) => changes.log_level = Some(*level),
        RouteAction::Status(status) => {
            verdict.status = Some(*status);
            changes.status = Some(*status);
        }
        // This program's own answers are not denied.
        RouteAction::Deny { status } if of_server => verdict.deny = Some(*status),
        RouteAction::Silence { .. } if of_server => verdict.silent = true,
        _ => return false,
    }
    true
}
