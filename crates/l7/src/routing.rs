//! Routes as the event loops use them: compiled once for each configuration, with the lists and
//! maps that stand in files.
//!
//! In: checked routes, files. Out: [`Routes`]. Never: a request.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use evenkeel_balance::{ConcurrencyLimit, RateLimit, Table};
use evenkeel_model::{
    Action, Answers, ErrorPage, HeaderEdit, LogFormat, Name, Route, TableRule, VirtualService,
};
use evenkeel_rules::{
    Expression, Fetch, FirstBytes, Map, MapMatch, NetworkSet, PathGate, PatternSet, Template, Wants,
    is_named, read_networks, read_patterns,
};

use crate::auth::Users;
use crate::file_error::FileError;

/// The routes of one service.
#[derive(Default)]
pub struct Routes {
    pub list: Vec<CompiledRoute>,
    /// What is done with answers.
    pub answers: Vec<CompiledAnswerRoute>,
    /// Tables that conditions ask.
    pub tables: Vec<Arc<TableSpec>>,
    /// Names of pools, by the number that steps and conditions use; the first is the service's.
    pub pools: Vec<Name>,
    /// What conditions, texts, keys and log lines ask.
    pub wants: Wants,
    /// A route is for certain paths alone.
    pub reads_path: bool,
    pub first_bytes: FirstBytes,
    files: Vec<(PathBuf, Stamp)>,
}

/// A table that routes count in, with the text that makes its keys.
pub struct TableSpec {
    pub rule: Arc<TableRule>,
    pub key: Template,
    pub table: Arc<Table>,
}

pub struct CompiledRoute {
    pub name: Name,
    pub when: Option<Expression>,
    /// The paths that the condition can hold for.
    pub gate: Option<PathGate>,
    /// A text of the route uses what the condition captured.
    pub captures: bool,
    pub steps: Vec<Step>,
}

pub struct CompiledAnswerRoute {
    pub route: CompiledRoute,
    pub of: Answers,
    pub stop: bool,
}

pub enum Step {
    Track(Arc<TableSpec>),
    RateLimit {
        key: Template,
        limit: Arc<RateLimit>,
        status: u16,
    },
    ConcurrencyLimit {
        key: Template,
        limit: Arc<ConcurrencyLimit>,
        status: u16,
    },
    BasicAuth {
        realm: String,
        users: Arc<Users>,
    },
    SetVariable {
        name: Box<str>,
        value: Template,
    },
    Capture {
        name: String,
        value: Template,
    },
    Priority(i16),
    ServerTimeout(u64),
    Server(Name),
    RewritePath(Template),
    RewriteQuery(Template),
    RewriteMethod(Arc<[u8]>),
    RewriteUri(Template),
    Header(CompiledEdit),
    ResponseHeader(CompiledEdit),
    Status(u16),
    Pool(usize),
    PoolMap {
        key: Template,
        map: Arc<Map>,
        /// What is looked up is in lower case first.
        folds: bool,
        default: Option<usize>,
    },
    Redirect {
        location: Template,
        status: u16,
        keep_query: bool,
    },
    /// `text`: the body, where it has variables.
    Answer {
        status: u16,
        page: Arc<Page>,
        text: Option<Template>,
    },
    /// No answer at all.
    Silence,
    Deny {
        status: u16,
    },
    Tarpit {
        delay: Duration,
        status: u16,
    },
}

pub enum CompiledEdit {
    Set {
        name: Box<[u8]>,
        value: Template,
    },
    Add {
        name: Box<[u8]>,
        value: Template,
    },
    /// `{1}` is what the header was.
    Each {
        name: Box<[u8]>,
        value: Template,
    },
    /// `*` stands for anything.
    Remove {
        name: Box<[u8]>,
    },
}

impl CompiledEdit {
    fn of(edit: &HeaderEdit) -> CompiledEdit {
        let name = |name: &str| name.as_bytes().into();
        match edit {
            HeaderEdit::Set { name: n, value } => CompiledEdit::Set { name: name(n), value: value.clone() },
            HeaderEdit::Add { name: n, value } => CompiledEdit::Add { name: name(n), value: value.clone() },
            HeaderEdit::Each { name: n, value } => CompiledEdit::Each { name: name(n), value: value.clone() },
            HeaderEdit::Remove { name: n } => CompiledEdit::Remove { name: name(n) },
        }
    }

    pub fn value(&self) -> Option<&Template> {
        match self {
            CompiledEdit::Set { value, .. }
            | CompiledEdit::Add { value, .. }
            | CompiledEdit::Each { value, .. } => Some(value),
            CompiledEdit::Remove { .. } => None,
        }
    }

    fn value_mut(&mut self) -> Option<&mut Template> {
        match self {
            CompiledEdit::Set { value, .. }
            | CompiledEdit::Add { value, .. }
            | CompiledEdit::Each { value, .. } => Some(value),
            CompiledEdit::Remove { .. } => None,
        }
    }

    /// Whether a field of this name does not go on.
    pub fn drops(&self, field: &[u8]) -> bool {
        match self {
            CompiledEdit::Set { name, .. }
            | CompiledEdit::Each { name, .. }
            | CompiledEdit::Remove { name } => is_named(field, name),
            CompiledEdit::Add { .. } => false,
        }
    }
}

/// A page with its type.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    pub content_type: String,
    /// More lines of the head, of a file that is a whole HTTP answer.
    pub lines: Vec<u8>,
    pub body: Vec<u8>,
}

impl Page {
    /// An empty file in place of an error: the connection closes without a word.
    pub fn is_silence(&self) -> bool {
        self.body.is_empty() && self.lines.is_empty()
    }
}

type Stamp = Option<(u64, SystemTime)>;

fn stamp(path: &Path) -> Stamp {
    let about = std::fs::metadata(path).ok()?;
    Some((about.len(), about.modified().ok()?))
}

/// Limits outlive configurations: what clients have used up stays used up.
#[derive(Default)]
pub struct Limits {
    rates: HashMap<String, Arc<RateLimit>>,
    places: HashMap<String, Arc<ConcurrencyLimit>>,
}

impl Limits {
    /// Forgets those that no configuration uses any more.
    pub fn prune(&mut self) {
        self.rates.retain(|_, limit| Arc::strong_count(limit) > 1);
        self.places.retain(|_, limit| Arc::strong_count(limit) > 1);
    }
}

/// Compiles the routes of services; lists that several name are read once.
pub struct Compiler<'a> {
    pub tables: &'a [Arc<TableSpec>],
    pub limits: &'a mut Limits,
    patterns: HashMap<(PathBuf, bool), Arc<PatternSet>>,
    networks: HashMap<PathBuf, Arc<NetworkSet>>,
    maps: HashMap<(PathBuf, MapMatch), Arc<Map>>,
}

impl<'a> Compiler<'a> {
    pub fn new(tables: &'a [Arc<TableSpec>], limits: &'a mut Limits) -> Compiler<'a> {
        Compiler { tables, limits, patterns: HashMap::new(), networks: HashMap::new(), maps: HashMap::new() }
    }

    pub fn compile(&mut self, service: &VirtualService, known: &[Name]) -> Result<Routes, FileError> {
        let mut routes = Routes {
            list: Vec::new(),
            answers: Vec::new(),
            tables: Vec::new(),
            pools: vec![service.pool.clone()],
            wants: Wants::default(),
            reads_path: false,
            first_bytes: FirstBytes::default(),
            files: Vec::new(),
        };
        for route in &service.routes {
            let compiled = self.route(service, route, known, &mut routes)?;
            routes.list.push(compiled);
        }
        for answer in &service.answer_routes {
            let route = self.route(service, &answer.route, known, &mut routes)?;
            routes.answers.push(CompiledAnswerRoute { route, of: answer.of, stop: answer.stop });
        }
        for page in &service.error_pages {
            routes.note(&page.file);
        }
        routes.tables.iter().for_each(|table| routes.wants.join(table.key.wants()));
        if let LogFormat::Line(text) = &service.log_format {
            routes.wants.join(text.wants());
        }
        let first = [Fetch::FirstBytes, Fetch::FirstBytesHex, Fetch::FirstBytesLength];
        if first.into_iter().any(|fetch| routes.wants.has(fetch)) {
            routes.first_bytes.ask();
        }
        Ok(routes)
    }

    fn route(
        &mut self,
        service: &VirtualService,
        route: &Route,
        known: &[Name],
        routes: &mut Routes,
    ) -> Result<CompiledRoute, FileError> {
        let mut when = route.when.clone();
        if let Some(when) = &mut when {
            when.files().iter().for_each(|file| routes.note(file));
            let (patterns, networks) = (&mut self.patterns, &mut self.networks);
            when.load(&mut |path, folds| list(patterns, path, folds), &mut |path| {
                network_list(networks, path)
            })?;
            when.load_maps(&mut |file, matching| map(&mut self.maps, file, matching))?;
            routes.first_bytes.note(when);
            routes.reads_path |= when.wants().path();
            routes.wants.join(when.wants());
            for (fetch, arguments) in when.fetches() {
                let name = arguments.first().map_or("", String::as_str);
                match fetch {
                    Fetch::ServersUp | Fetch::Connections | Fetch::Queued => {
                        if let Some(pool) = known.iter().find(|p| p.as_str() == name) {
                            routes.pool(pool);
                        }
                    }
                    Fetch::Rate | Fetch::Count => {
                        routes
                            .tables
                            .extend(self.tables.iter().find(|t| t.rule.name.as_str() == name).cloned());
                    }
                    _ => {}
                }
            }
        }
        let (mut steps, mut captures) = (Vec::new(), false);
        for (number, action) in route.actions.iter().enumerate() {
            let place = format!("{}/{}/{number}/{action:?}", service.name, route.name);
            let mut step = self.step(action, &place, known, routes)?;
            if let Some(Step::Track(table)) = &step {
                routes.wants.join(table.key.wants());
            }
            for text in step.iter_mut().flat_map(Step::templates) {
                captures |= text.has_captures();
                routes.wants.join(text.wants());
                text.files().iter().for_each(|file| routes.note(file));
                text.load(&mut |file, matching| map(&mut self.maps, file, matching))?;
            }
            steps.extend(step);
        }
        let gate = when.as_ref().and_then(Expression::path_gate);
        Ok(CompiledRoute { name: route.name.clone(), when, gate, captures, steps })
    }

    fn step(
        &mut self,
        action: &Action,
        place: &str,
        known: &[Name],
        routes: &mut Routes,
    ) -> Result<Option<Step>, FileError> {
        Ok(Some(match action {
            Action::Track(name) => match self.tables.iter().find(|t| t.rule.name == *name) {
                Some(table) => Step::Track(table.clone()),
                None => return Ok(None),
            },
            Action::RateLimit(rule) => {
                let new = || Arc::new(RateLimit::new(rule.count, rule.period.as_millis() as u64));
                let limit = self.limits.rates.entry(place.to_owned()).or_insert_with(new).clone();
                Step::RateLimit { key: rule.key.clone(), limit, status: rule.status }
            }
            Action::ConcurrencyLimit { key, max, status } => {
                let new = || Arc::new(ConcurrencyLimit::new(*max));
                let limit = self.limits.places.entry(place.to_owned()).or_insert_with(new).clone();
                Step::ConcurrencyLimit { key: key.clone(), limit, status: *status }
            }
            Action::BasicAuth { realm, users, accounts } => {
                let mut all = Users::default();
                if let Some(file) = users {
                    routes.note(file);
                    all = Users::read(&text(file)?).map_err(|why| FileError::new(file, why))?;
                }
                for (name, hash) in accounts {
                    let place = Path::new("basic-auth");
                    all.add(name, hash).map_err(|why| FileError::new(place, why))?;
                }
                Step::BasicAuth { realm: realm.clone(), users: Arc::new(all) }
            }
            Action::SetVariable { name, value } => {
                Step::SetVariable { name: name.as_str().into(), value: value.clone() }
            }
            Action::Capture { name, value } => Step::Capture { name: name.clone(), value: value.clone() },
            Action::Priority(priority) => Step::Priority(*priority),
            Action::Server(name) => Step::Server(name.clone()),
            Action::ServerTimeout(time) => Step::ServerTimeout(time.as_millis() as u64),
            Action::RewritePath(text) => Step::RewritePath(text.clone()),
            Action::RewriteQuery(text) => Step::RewriteQuery(text.clone()),
            Action::RewriteMethod(method) => Step::RewriteMethod(method.as_bytes().into()),
            Action::RewriteUri(text) => Step::RewriteUri(text.clone()),
            Action::Header(edit) => Step::Header(CompiledEdit::of(edit)),
            Action::ResponseHeader(edit) => Step::ResponseHeader(CompiledEdit::of(edit)),
            Action::Status(status) => Step::Status(*status),
            Action::Pool(name) => Step::Pool(routes.pool(name)),
            Action::PoolMap { key, file, matching, default } => {
                let matching = *matching;
                routes.note(file);
                let map = map(&mut self.maps, file, matching)?;
                for value in map.values() {
                    match known.iter().find(|p| p.as_str() == value) {
                        Some(pool) => routes.pool(pool),
                        None => {
                            let shown: String = value.chars().take(80).collect();
                            return Err(FileError::new(
                                file,
                                format!("names the pool {shown:?}, which is not there"),
                            ));
                        }
                    };
                }
                routes.reads_path |= key.clone().wants().path();
                let default = default.as_ref().map(|name| routes.pool(name));
                Step::PoolMap { key: key.clone(), folds: matching == MapMatch::Stars, map, default }
            }
            Action::Redirect { location, status, drop_query } => {
                let location = location.clone();
                let keep_query = !drop_query && location.ends_in_path();
                Step::Redirect { location, status: *status, keep_query }
            }
            Action::Answer { status, content_type, body, file, variables, text } => {
                let mut page = match file {
                    None => {
                        let html = body.trim_start().starts_with('<');
                        let kind =
                            if html { "text/html; charset=utf-8" } else { "text/plain; charset=utf-8" };
                        Page { content_type: kind.into(), lines: Vec::new(), body: body.clone().into_bytes() }
                    }
                    Some(file) => {
                        routes.note(file);
                        read_page(file)?
                    }
                };
                if let Some(kind) = content_type {
                    page.content_type.clone_from(kind);
                }
                let text = match (variables, file) {
                    (false, _) => None,
                    (true, None) => text.clone(),
                    (true, Some(file)) => {
                        let text = String::from_utf8_lossy(&page.body);
                        Some(Template::parse(&text).map_err(|e| FileError::new(file, e.message))?)
                    }
                };
                Step::Answer { status: *status, page: Arc::new(page), text }
            }
            Action::Deny { silent: true, .. } => Step::Silence,
            Action::Deny { status, .. } => Step::Deny { status: *status },
            Action::Tarpit { delay, status } => Step::Tarpit { delay: *delay, status: *status },
        }))
    }
}

impl Routes {
    /// The number of a pool, which steps name it by.
    fn pool(&mut self, name: &Name) -> usize {
        match self.pools.iter().position(|p| p == name) {
            Some(at) => at,
            None => {
                self.pools.push(name.clone());
                self.pools.len() - 1
            }
        }
    }

    fn note(&mut self, file: &Path) {
        self.files.push((file.to_owned(), stamp(file)));
    }

    /// Whether a list, map or page has changed on disk.
    pub fn files_changed(&self) -> bool {
        self.files.iter().any(|(path, before)| stamp(path) != *before)
    }
}

impl Step {
    fn templates(&mut self) -> Vec<&mut Template> {
        match self {
            Step::RateLimit { key, .. } | Step::ConcurrencyLimit { key, .. } | Step::PoolMap { key, .. } => {
                vec![key]
            }
            Step::Capture { value, .. } | Step::SetVariable { value, .. } => vec![value],
            Step::RewritePath(text) | Step::RewriteQuery(text) | Step::RewriteUri(text) => vec![text],
            Step::Answer { text, .. } => text.iter_mut().collect(),
            Step::Redirect { location, .. } => vec![location],
            Step::Header(edit) | Step::ResponseHeader(edit) => edit.value_mut().into_iter().collect(),
            _ => Vec::new(),
        }
    }
}

/// Loads the lists and maps of one condition, for explanations.
pub fn load_lists(expression: &mut Expression) -> Result<(), FileError> {
    expression.load_maps(&mut |file, matching| read_map(file, matching).map(Arc::new))?;
    let (mut patterns, mut networks) = (HashMap::new(), HashMap::new());
    expression.load(&mut |path, folds| list(&mut patterns, path, folds), &mut |path| {
        network_list(&mut networks, path)
    })
}

/// What a map file says for a key.
pub fn look_up(file: &Path, matching: MapMatch, key: &[u8]) -> Result<Option<String>, FileError> {
    Ok(read_map(file, matching)?.get(key).map(Cow::into_owned))
}

/// A text with its maps, for explanations.
pub fn loaded(text: &Template) -> Result<Template, FileError> {
    let mut text = text.clone();
    text.load(&mut |file, matching| read_map(file, matching).map(Arc::new))?;
    Ok(text)
}

fn read_map(file: &Path, matching: MapMatch) -> Result<Map, FileError> {
    let map = Map::read(&text(file)?, matching);
    map.map_err(|e| FileError::new(file, format!("line {}: {}", e.line, e.why)))
}

fn map(
    known: &mut HashMap<(PathBuf, MapMatch), Arc<Map>>,
    file: &Path,
    matching: MapMatch,
) -> Result<Arc<Map>, FileError> {
    let key = (file.to_owned(), matching);
    if let Some(map) = known.get(&key) {
        return Ok(map.clone());
    }
    let map = Arc::new(read_map(file, matching)?);
    known.insert(key, map.clone());
    Ok(map)
}

fn text(file: &Path) -> Result<String, FileError> {
    evenkeel_files::read_text(file, evenkeel_files::LIST_AT_MOST).map_err(|e| FileError::unreadable(file, &e))
}

fn list(
    read: &mut HashMap<(PathBuf, bool), Arc<PatternSet>>,
    path: &Path,
    folds: bool,
) -> Result<Arc<PatternSet>, FileError> {
    if let Some(known) = read.get(&(path.to_owned(), folds)) {
        return Ok(known.clone());
    }
    let set = Arc::new(read_patterns(&text(path)?, folds));
    read.insert((path.to_owned(), folds), set.clone());
    Ok(set)
}

fn network_list(
    read: &mut HashMap<PathBuf, Arc<NetworkSet>>,
    path: &Path,
) -> Result<Arc<NetworkSet>, FileError> {
    if let Some(known) = read.get(path) {
        return Ok(known.clone());
    }
    let wrong = |line: usize| FileError::new(path, format!("line {line}: expected an address or a network"));
    let set = Arc::new(read_networks(&text(path)?).map_err(wrong)?);
    read.insert(path.to_owned(), set.clone());
    Ok(set)
}

/// The pages of a service for statuses, by status.
pub fn error_pages(pages: &[ErrorPage]) -> Result<Vec<(u16, Page)>, FileError> {
    pages.iter().map(|page| Ok((page.status, read_page(&page.file)?))).collect()
}

/// A page from a file. One that begins as an HTTP answer does (as HAProxy's error files) gives
/// its body and its head, but for the status.
fn read_page(file: &Path) -> Result<Page, FileError> {
    let bytes = evenkeel_files::read(file, evenkeel_files::TEXT_AT_MOST)
        .map_err(|e| FileError::unreadable(file, &e))?;
    if bytes.starts_with(b"HTTP/") {
        let lines = memchr::memmem::find(&bytes, b"\r\n\r\n").map(|at| (at, at + 4));
        let found = lines.or_else(|| memchr::memmem::find(&bytes, b"\n\n").map(|at| (at, at + 2)));
        let (end, body) =
            found.ok_or_else(|| FileError::new(file, "is an HTTP answer without an empty line"))?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let (mut content_type, mut lines) = ("text/html".to_owned(), Vec::new());
        let fields = head.lines().enumerate().skip(1);
        for (at, (name, value)) in fields.filter_map(|(at, line)| Some((at, line.split_once(':')?))) {
            let value = value.trim();
            let good =
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
            match name.to_ascii_lowercase().as_str() {
                _ if !good || value.bytes().any(|b| b.is_ascii_control()) => {
                    return Err(FileError::new(file, format!("line {}: expected a header", at + 1)));
                }
                "content-type" => content_type = value.to_owned(),
                // The program sets these itself.
                "content-length" | "transfer-encoding" | "connection" | "keep-alive" | "date" => {}
                _ => crate::h1::request::line(&mut lines, name.as_bytes(), value.as_bytes()),
            }
        }
        return Ok(Page { content_type, lines, body: bytes[body..].to_vec() });
    }
    let content_type = match file.extension().and_then(|e| e.to_str()) {
        Some("html" | "htm" | "http") => "text/html; charset=utf-8",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("xml") => "application/xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        _ if bytes.trim_ascii_start().starts_with(b"<") => "text/html; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    };
    Ok(Page { content_type: content_type.to_owned(), lines: Vec::new(), body: bytes })
}
