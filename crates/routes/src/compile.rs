//! Routes as they are walked: conditions with their lists, steps with what stands behind them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use evenkeel_balance::Counter;
use evenkeel_model::{
    Action, AddressKind, Answers, HeaderEdit, LogFormat, LogLevel, Name, Normalize, RateRule, Route as Rule,
    Secret, VirtualService,
};
use evenkeel_rules::{
    Expression, Fetch, FieldNames, FirstBytes, ListForm, Map, MapForm, MapMatch, NetworkSet, PathGate,
    PatternSet, Template, Wants, is_named, is_unclear_path,
};

use crate::changes::path_of;
use crate::client_address::ClientAddress;
use crate::index::Index;

/// What stands behind the steps of routes. The event loops have live tables and limits there, `explain`
/// what it needs for words.
pub trait Resources {
    /// A table that routes count in.
    type Table;
    /// So many requests in a time.
    type Rate;
    /// So many requests at once.
    type Concurrency;
    /// Who may come in.
    type Accounts;
    /// The page of an answer.
    type Page;
}

/// Gets what the files of a configuration hold, and what stands behind the steps.
pub trait Loader<R: Resources> {
    /// Why something cannot be used.
    type Error;

    /// A list of patterns.
    fn patterns(&mut self, file: &Path, form: ListForm) -> Result<Arc<PatternSet>, Self::Error>;
    /// A list of networks.
    fn networks(&mut self, file: &Path) -> Result<Arc<NetworkSet>, Self::Error>;
    /// A map from texts to texts, or a list.
    fn map(&mut self, file: &Path, form: MapForm) -> Result<Arc<Map>, Self::Error>;
    /// A table, with the text of its keys.
    fn table(&mut self, name: &Name) -> Result<(R::Table, Template), Self::Error>;
    /// `place` is the same for the same limit of the next configuration.
    fn rate(&mut self, place: &str, rule: &RateRule) -> Result<R::Rate, Self::Error>;
    /// `place` is the same for the same limit of the next configuration.
    fn concurrency(&mut self, place: &str, max: u32) -> Result<R::Concurrency, Self::Error>;
    /// Names with the hashes of their passwords, of a file and of the configuration itself.
    fn accounts(
        &mut self,
        users: Option<&Path>,
        own: &[(String, Secret)],
    ) -> Result<R::Accounts, Self::Error>;
    /// The page of [`Action::Answer`], and its body where that is a text with variables.
    fn page(&mut self, answer: &Action) -> Result<(R::Page, Option<Template>), Self::Error>;
    /// A map names a pool that is not there.
    fn unknown_pool(&mut self, file: &Path, name: &str) -> Self::Error;
}

/// The routes of one service.
pub struct Routes<R: Resources> {
    /// What is done with requests or connections, in the written order.
    pub list: Vec<Route<R>>,
    /// What is done with answers.
    pub answers: Vec<AnswerRoute<R>>,
    /// Tables that routes count in or ask.
    pub tables: Vec<RouteTable<R>>,
    /// Names of pools, by the number that steps use; the first is the service's.
    pub pools: Vec<Name>,
    /// The same by name.
    numbers: HashMap<Name, usize>,
    /// Which of many routes can hold for a request.
    pub(crate) index: Option<Index>,
    /// The same of routes of answers.
    pub(crate) answer_index: Option<Index>,
    /// What conditions, texts, keys and log lines ask.
    pub wants: Wants,
    /// A route is for certain paths alone.
    pub reads_path: bool,
    /// Which first bytes of a connection conditions ask for.
    pub first_bytes: FirstBytes,
    /// Paths and hosts are looked at in their normal form.
    pub normalizes: bool,
    /// A path that servers may read differently is passed on all the same.
    pub unclear_paths: bool,
    /// Who is believed about a client's address.
    pub client_address: Option<ClientAddress>,
}

impl<R: Resources> Routes<R> {
    /// Whether the path of a target may mean another thing to the server than to the routes that look
    /// at it. Such a request is not walked.
    pub fn refuses(&self, target: &[u8]) -> bool {
        self.reads_path && self.normalizes && !self.unclear_paths && is_unclear_path(path_of(target))
    }

    /// The number of a pool that they name.
    pub fn pool_number(&self, name: &str) -> Option<usize> {
        self.numbers.get(name).copied()
    }

    /// The number of a pool, which gets one where it has none.
    fn pool(&mut self, name: &Name) -> usize {
        let Routes { pools, numbers, .. } = self;
        *numbers.entry(name.clone()).or_insert_with(|| {
            pools.push(name.clone());
            pools.len() - 1
        })
    }
}

impl<R: Resources> Default for Routes<R> {
    fn default() -> Routes<R> {
        Routes {
            list: Vec::new(),
            answers: Vec::new(),
            tables: Vec::new(),
            pools: Vec::new(),
            numbers: HashMap::new(),
            index: None,
            answer_index: None,
            wants: Wants::default(),
            reads_path: false,
            first_bytes: FirstBytes::default(),
            normalizes: false,
            unclear_paths: false,
            client_address: None,
        }
    }
}

/// A table as the routes of a service use it.
pub struct RouteTable<R: Resources> {
    /// Its name in the configuration.
    pub name: Name,
    /// Whose entry it is.
    pub key: Template,
    /// Where it is counted.
    pub table: R::Table,
}

/// A route.
pub struct Route<R: Resources> {
    /// Its name in the configuration.
    pub name: Name,
    /// Always, when absent.
    pub when: Option<Expression>,
    /// The paths that the condition can hold for.
    pub gate: Option<PathGate>,
    /// A text of the route uses what the condition captured.
    pub captures: bool,
    /// Later routes may see another host.
    pub(crate) changes_host: bool,
    /// What is done, in this order.
    pub steps: Vec<RouteAction<R>>,
}

/// A route of answers.
pub struct AnswerRoute<R: Resources> {
    /// What it asks and does.
    pub route: Route<R>,
    /// Whose answers it is for.
    pub of: Answers,
    /// Later ones do not see an answer for which this one holds.
    pub stop: bool,
}

/// What a route does. Pools and tables are named by their number in [`Routes`].
pub enum RouteAction<R: Resources> {
    /// Counts the request for its entry in a table.
    Track {
        /// Its number.
        table: usize,
    },
    /// Changes a number of its entry in a table.
    Count {
        /// Its number.
        table: usize,
        /// Which of them.
        counter: Counter,
        /// How much: texts that are no number from 0 change nothing.
        value: Template,
        /// It is the new number, and not added.
        keeps: bool,
    },
    /// So many in a time.
    RateLimit {
        /// Who is limited.
        key: Template,
        /// How many are left.
        limit: R::Rate,
        /// Of the refusal.
        status: u16,
    },
    /// So many at once.
    ConcurrencyLimit {
        /// Who is limited.
        key: Template,
        /// How many there are now.
        limit: R::Concurrency,
        /// Of the refusal.
        status: u16,
    },
    /// A name and a password are needed.
    BasicAuth {
        /// What they are for.
        realm: String,
        /// Who may come in.
        accounts: R::Accounts,
    },
    /// Keeps a text for later routes.
    SetVariable {
        /// `sess.` before it: for all requests of the connection.
        name: Box<str>,
        /// The text.
        value: Template,
    },
    /// Puts a text into the log line.
    Capture {
        /// What it is called in the configuration.
        name: String,
        /// The text.
        value: Template,
    },
    /// The client's address is another one.
    SetAddress {
        /// What of it.
        which: AddressKind,
        /// The text.
        value: Template,
    },
    /// In the queue.
    Priority(i16),
    /// Milliseconds that the server has.
    ServerTimeout(u64),
    /// Milliseconds that a connection to it may take.
    ConnectTimeout(u64),
    /// Milliseconds in queues.
    QueueTimeout(u64),
    /// How the log line is marked, or whether there is one.
    LogLevel(LogLevel),
    /// No other server is asked after one has had it.
    Once,
    /// The server that takes it, if it can.
    Server(Name),
    /// Another path; the query stays.
    RewritePath(Template),
    /// Another query; the path stays.
    RewriteQuery(Template),
    /// Another method.
    RewriteMethod(Arc<[u8]>),
    /// Another path and query.
    RewriteUri(Template),
    /// Changes the head of the request.
    Header(Edit),
    /// Changes the head of the answer.
    ResponseHeader(Edit),
    /// Another status of the answer.
    Status(u16),
    /// Ends in a pool.
    Pool(usize),
    /// Ends in the pool that a map names, in the default, or not at all.
    PoolMap {
        /// What is looked up.
        key: Template,
        /// Where the map was read from.
        file: PathBuf,
        /// Names of pools.
        map: Arc<Map>,
        /// What is looked up is in lower case first.
        folds: bool,
        /// For what the map has not.
        default: Option<usize>,
    },
    /// Ends in a redirect.
    Redirect {
        /// Where to.
        location: Template,
        /// Of the answer.
        status: u16,
        /// The query follows the location.
        keep_query: bool,
    },
    /// Ends in a page.
    Answer {
        /// Of the answer.
        status: u16,
        /// The page as it was configured.
        page: R::Page,
        /// Its body, where that has variables.
        text: Option<Template>,
    },
    /// Ends without any answer.
    Silence {
        /// Without a packet that says so.
        vanish: bool,
    },
    /// Ends in a refusal.
    Deny {
        /// Of the answer.
        status: u16,
    },
    /// The same after a while.
    Tarpit {
        /// How long the client waits.
        delay: Duration,
        /// Of the answer.
        status: u16,
    },
}

/// A change of a head.
#[derive(Debug)]
pub enum Edit {
    /// Replaces every field of the name.
    Set {
        /// As it is written.
        name: Box<[u8]>,
        /// The new value.
        value: Template,
    },
    /// Adds a field.
    Add {
        /// As it is written.
        name: Box<[u8]>,
        /// Its value.
        value: Template,
    },
    /// Makes a text of each field of the name.
    Each {
        /// As it is written.
        name: Box<[u8]>,
        /// The new value; `{1}` is what it was.
        value: Template,
    },
    /// Removes every field of the name.
    Remove {
        /// `*` stands for anything.
        name: Box<[u8]>,
    },
    /// Removes every field whose name matches.
    RemoveMatching(FieldNames),
}

impl Edit {
    fn of(edit: &HeaderEdit) -> Edit {
        let bytes = |name: &str| name.as_bytes().into();
        match edit {
            HeaderEdit::Set { name, value } => Edit::Set { name: bytes(name), value: value.clone() },
            HeaderEdit::Add { name, value } => Edit::Add { name: bytes(name), value: value.clone() },
            HeaderEdit::Each { name, value } => Edit::Each { name: bytes(name), value: value.clone() },
            HeaderEdit::Remove { name } => Edit::Remove { name: bytes(name) },
            HeaderEdit::RemoveMatching(names) => Edit::RemoveMatching(names.clone()),
        }
    }

    /// The value that it writes.
    pub fn value(&self) -> Option<&Template> {
        match self {
            Edit::Set { value, .. } | Edit::Add { value, .. } | Edit::Each { value, .. } => Some(value),
            Edit::Remove { .. } | Edit::RemoveMatching(_) => None,
        }
    }

    fn value_mut(&mut self) -> Option<&mut Template> {
        match self {
            Edit::Set { value, .. } | Edit::Add { value, .. } | Edit::Each { value, .. } => Some(value),
            Edit::Remove { .. } | Edit::RemoveMatching(_) => None,
        }
    }

    /// Whether it adds or removes fields of this name.
    fn touches(&self, field: &[u8]) -> bool {
        self.drops(field) || matches!(self, Edit::Add { name, .. } if name.eq_ignore_ascii_case(field))
    }

    /// Whether a field of this name does not go on.
    pub fn drops(&self, field: &[u8]) -> bool {
        match self {
            Edit::Set { name, .. } | Edit::Each { name, .. } | Edit::Remove { name } => is_named(field, name),
            Edit::RemoveMatching(names) => names.matches(field),
            Edit::Add { .. } => false,
        }
    }
}

impl<R: Resources> RouteAction<R> {
    /// The text that it renders, but for the key of a table.
    pub fn text(&self) -> Option<&Template> {
        match self {
            RouteAction::RateLimit { key, .. }
            | RouteAction::ConcurrencyLimit { key, .. }
            | RouteAction::PoolMap { key, .. } => Some(key),
            RouteAction::Capture { value, .. }
            | RouteAction::Count { value, .. }
            | RouteAction::SetVariable { value, .. }
            | RouteAction::SetAddress { value, .. } => Some(value),
            RouteAction::RewritePath(text)
            | RouteAction::RewriteQuery(text)
            | RouteAction::RewriteUri(text) => Some(text),
            RouteAction::Answer { text, .. } => text.as_ref(),
            RouteAction::Redirect { location, .. } => Some(location),
            RouteAction::Header(edit) | RouteAction::ResponseHeader(edit) => edit.value(),
            _ => None,
        }
    }

    fn text_mut(&mut self) -> Option<&mut Template> {
        match self {
            RouteAction::RateLimit { key, .. }
            | RouteAction::ConcurrencyLimit { key, .. }
            | RouteAction::PoolMap { key, .. } => Some(key),
            RouteAction::Capture { value, .. }
            | RouteAction::Count { value, .. }
            | RouteAction::SetVariable { value, .. }
            | RouteAction::SetAddress { value, .. } => Some(value),
            RouteAction::RewritePath(text)
            | RouteAction::RewriteQuery(text)
            | RouteAction::RewriteUri(text) => Some(text),
            RouteAction::Answer { text, .. } => text.as_mut(),
            RouteAction::Redirect { location, .. } => Some(location),
            RouteAction::Header(edit) | RouteAction::ResponseHeader(edit) => edit.value_mut(),
            _ => None,
        }
    }

    /// Whether it is an answer of its own, a redirection or a page.
    pub fn is_answer(&self) -> bool {
        matches!(self, RouteAction::Redirect { .. } | RouteAction::Answer { .. })
    }

    /// Whether its text decides something, at once or later, rather than being sent. Such a text sees
    /// paths without the parameters of their segments.
    pub(crate) fn decides(&self) -> bool {
        matches!(
            self,
            RouteAction::Track { .. }
                | RouteAction::Count { .. }
                | RouteAction::RateLimit { .. }
                | RouteAction::ConcurrencyLimit { .. }
                | RouteAction::SetVariable { .. }
                | RouteAction::SetAddress { .. }
                | RouteAction::PoolMap { .. }
        )
    }
}

/// Compiles the routes of a service. `known` are the pools of the configuration.
pub fn compile<R: Resources, L: Loader<R>>(
    service: &VirtualService,
    known: &[Name],
    loader: &mut L,
) -> Result<Routes<R>, L::Error> {
    let routes = Routes {
        pools: vec![service.pool.clone()],
        numbers: HashMap::from([(service.pool.clone(), 0)]),
        normalizes: service.normalize != Normalize::Off,
        unclear_paths: service.unclear_paths,
        ..Routes::default()
    };
    let mut compiler = Compiler { service, known, loader, routes };
    for rule in &service.routes {
        let route = compiler.route(rule)?;
        compiler.routes.list.push(route);
    }
    for answer in &service.answer_routes {
        let route = compiler.route(&answer.route)?;
        compiler.routes.answers.push(AnswerRoute { route, of: answer.of, stop: answer.stop });
    }
    if let Some(rule) = &service.client_address {
        let files = rule.files.iter().map(|file| compiler.loader.networks(file));
        let files = files.collect::<Result<Vec<_>, _>>()?;
        compiler.routes.client_address = Some(ClientAddress::new(rule, files));
    }
    let mut routes = compiler.routes;
    routes.index = Index::new(routes.list.iter().map(|route| route.when.as_ref()));
    routes.answer_index = Index::new(routes.answers.iter().map(|answer| answer.route.when.as_ref()));
    if let LogFormat::Line(line) = &service.log_format {
        routes.wants.join(line.wants());
    }
    let first = [Fetch::FirstBytes, Fetch::FirstBytesHex, Fetch::FirstBytesLength];
    if first.into_iter().any(|fetch| routes.wants.has(fetch)) {
        routes.first_bytes.ask();
    }
    Ok(routes)
}

struct Compiler<'a, R: Resources, L> {
    service: &'a VirtualService,
    known: &'a [Name],
    loader: &'a mut L,
    routes: Routes<R>,
}

impl<R: Resources, L: Loader<R>> Compiler<'_, R, L> {
    fn route(&mut self, rule: &Rule) -> Result<Route<R>, L::Error> {
        let when = match &rule.when {
            Some(when) => Some(self.condition(when)?),
            None => None,
        };
        let (mut steps, mut captures) = (Vec::new(), false);
        for (number, action) in rule.actions.iter().enumerate() {
            let place = format!("{}/{}/{number}", self.service.name, rule.name);
            let mut step = self.step(action, &place)?;
            if let Some(text) = step.text_mut() {
                captures |= text.has_captures();
                self.routes.wants.join(text.wants());
                text.load(&mut |file, matching| self.loader.map(file, matching))?;
                for pool in self.known.iter().filter(|pool| text.pools().contains(&pool.as_str())) {
                    self.routes.pool(pool);
                }
                for name in text.tables().into_iter().filter_map(|name| Name::new(name).ok()) {
                    self.table(&name)?;
                }
            }
            steps.push(step);
        }
        let gate = when.as_ref().and_then(Expression::path_gate);
        let changes_host =
            steps.iter().any(|step| matches!(step, RouteAction::Header(edit) if edit.touches(b"host")));
        Ok(Route { name: rule.name.clone(), when, gate, captures, changes_host, steps })
    }

    /// A condition with its lists and maps; what it asks is noted.
    fn condition(&mut self, parsed: &Expression) -> Result<Expression, L::Error> {
        let mut when = parsed.clone();
        let loader = std::cell::RefCell::new(&mut *self.loader);
        when.load(&mut |path, form| loader.borrow_mut().patterns(path, form), &mut |path| {
            loader.borrow_mut().networks(path)
        })?;
        when.load_maps(&mut |file, matching| self.loader.map(file, matching))?;
        self.routes.first_bytes.note(&when);
        self.routes.reads_path |= when.wants().path();
        self.routes.wants.join(when.wants());
        for (fetch, arguments) in when.fetches() {
            let name = arguments.first().map_or("", String::as_str);
            match fetch {
                Fetch::ServersUp | Fetch::Connections | Fetch::Queued | Fetch::ServerUp => {
                    if let Some(pool) = self.known.iter().find(|p| p.as_str() == name) {
                        self.routes.pool(pool);
                    }
                }
                Fetch::Rate | Fetch::Count | Fetch::InTable => {
                    if let Ok(name) = Name::new(name) {
                        self.table(&name)?;
                    }
                }
                _ => {}
            }
        }
        Ok(when)
    }

    /// The number of a pool.
    fn pool(&mut self, name: &Name) -> usize {
        self.routes.pool(name)
    }

    /// The number of a table.
    fn table(&mut self, name: &Name) -> Result<usize, L::Error> {
        if let Some(at) = self.routes.tables.iter().position(|t| t.name == *name) {
            return Ok(at);
        }
        let (table, key) = self.loader.table(name)?;
        self.routes.wants.join(key.wants());
        self.routes.tables.push(RouteTable { name: name.clone(), key, table });
        Ok(self.routes.tables.len() - 1)
    }

    fn step(&mut self, action: &Action, place: &str) -> Result<RouteAction<R>, L::Error> {
        Ok(match action {
            Action::Track(name) => RouteAction::Track { table: self.table(name)? },
            Action::Count { table, number, value, keeps } => RouteAction::Count {
                table: self.table(table)?,
                counter: Counter::number(*number),
                value: value.clone(),
                keeps: *keeps,
            },
            Action::RateLimit(rule) => {
                let limit = self.loader.rate(&format!("{place}/{rule:?}"), rule)?;
                RouteAction::RateLimit { key: rule.key.clone(), limit, status: rule.status }
            }
            Action::ConcurrencyLimit { key, max, status } => {
                let limit = self.loader.concurrency(&format!("{place}/{action:?}"), *max)?;
                RouteAction::ConcurrencyLimit { key: key.clone(), limit, status: *status }
            }
            Action::BasicAuth { realm, users, accounts } => {
                let accounts = self.loader.accounts(users.as_deref(), accounts)?;
                RouteAction::BasicAuth { realm: realm.clone(), accounts }
            }
            Action::SetVariable { name, value } => {
                RouteAction::SetVariable { name: name.as_str().into(), value: value.clone() }
            }
            Action::Capture { name, value } => {
                RouteAction::Capture { name: name.clone(), value: value.clone() }
            }
            Action::SetAddress { which, value } => {
                RouteAction::SetAddress { which: *which, value: value.clone() }
            }
            Action::Priority(priority) => RouteAction::Priority(*priority),
            Action::Server(name) => RouteAction::Server(name.clone()),
            Action::ServerTimeout(time) => RouteAction::ServerTimeout(time.as_millis() as u64),
            Action::ConnectTimeout(time) => RouteAction::ConnectTimeout(time.as_millis() as u64),
            Action::Once => RouteAction::Once,
            Action::LogLevel(level) => RouteAction::LogLevel(*level),
            Action::QueueTimeout(time) => RouteAction::QueueTimeout(time.as_millis() as u64),
            Action::RewritePath(text) => RouteAction::RewritePath(text.clone()),
            Action::RewriteQuery(text) => RouteAction::RewriteQuery(text.clone()),
            Action::RewriteMethod(method) => RouteAction::RewriteMethod(method.as_bytes().into()),
            Action::RewriteUri(text) => RouteAction::RewriteUri(text.clone()),
            Action::Header(edit) => RouteAction::Header(Edit::of(edit)),
            Action::ResponseHeader(edit) => RouteAction::ResponseHeader(Edit::of(edit)),
            Action::Status(status) => RouteAction::Status(*status),
            Action::Pool(name) => RouteAction::Pool(self.pool(name)),
            Action::PoolMap { key, file, matching, default } => {
                self.pool_map(key, file, *matching, default.as_ref())?
            }
            Action::Redirect { location, status, drop_query } => {
                let keep_query = !drop_query && location.ends_in_path();
                RouteAction::Redirect { location: location.clone(), status: *status, keep_query }
            }
            Action::Answer { status, .. } => {
                let (page, text) = self.loader.page(action)?;
                RouteAction::Answer { status: *status, page, text }
            }
            Action::Deny { silent: true, vanish, .. } => RouteAction::Silence { vanish: *vanish },
            Action::Deny { status, .. } => RouteAction::Deny { status: *status },
            Action::Tarpit { delay, status } => RouteAction::Tarpit { delay: *delay, status: *status },
        })
    }

    fn pool_map(
        &mut self,
        key: &Template,
        file: &Path,
        matching: MapMatch,
        default: Option<&Name>,
    ) -> Result<RouteAction<R>, L::Error> {
        let map = self.loader.map(file, matching.into())?;
        for value in map.values() {
            match self.known.iter().find(|p| p.as_str() == value) {
                Some(pool) => self.pool(pool),
                None => return Err(self.loader.unknown_pool(file, value)),
            };
        }
        self.routes.reads_path |= key.wants().path();
        let default = default.map(|name| self.pool(name));
        let (key, folds) = (key.clone(), matching == MapMatch::Stars);
        Ok(RouteAction::PoolMap { key, file: file.to_owned(), map, folds, default })
    }
}
