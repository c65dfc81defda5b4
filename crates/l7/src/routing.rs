//! Routes as the event loops use them: what stands behind the steps of compiled routes, and the
//! lists, maps and pages that stand in files.
//!
//! In: checked routes, files. Out: [`Routes`]. Never: a request.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use evenkeel_balance::{ConcurrencyLimit, RateLimit, Table};
use evenkeel_files::{Stamp, stamp};
use evenkeel_model::{Action, Name, RateRule, Secret, TableRule, VirtualService, counted};
use evenkeel_routes::{Loader, Resources};
use evenkeel_rules::{
    ListForm, Map, MapForm, NetworkSet, PatternSet, Template, read_networks, read_patterns,
};

use crate::auth::Users;
use crate::file_error::FileError;

/// What stands behind the steps of routes in the event loops.
pub struct Live;

impl Resources for Live {
    type Table = Arc<TableSpec>;
    type Rate = Arc<RateLimit>;
    type Concurrency = Arc<ConcurrencyLimit>;
    type Accounts = Users;
    type Page = Page;
}

/// The routes of one service.
pub type Routes = evenkeel_routes::Routes<Live>;

/// A table that routes count in.
pub struct TableSpec {
    pub rule: Arc<TableRule>,
    pub table: Arc<Table>,
}

/// A page with its type.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub content_type: String,
    /// What the client is told in the place of the status that it is for.
    pub status: Option<u16>,
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

/// The files that the routes of a service were made of.
#[derive(Default)]
pub struct RouteFiles(Vec<(PathBuf, Stamp)>);

impl RouteFiles {
    fn note(&mut self, file: &Path) {
        self.0.push((file.to_owned(), stamp(file)));
    }

    /// Whether a list, map or page has changed on disk.
    pub fn changed(&self) -> bool {
        self.0.iter().any(|(path, before)| stamp(path) != *before)
    }
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

/// Lists and maps of files; what several routes name is read once.
#[derive(Default)]
pub struct ListFiles {
    patterns: HashMap<(PathBuf, ListForm), Arc<PatternSet>>,
    networks: HashMap<PathBuf, Arc<NetworkSet>>,
    maps: HashMap<(PathBuf, MapForm), Arc<Map>>,
    /// Lists with lines that nothing matches.
    unmatchable: Vec<String>,
}

impl ListFiles {
    pub fn patterns(&mut self, path: &Path, form: ListForm) -> Result<Arc<PatternSet>, FileError> {
        let key = (path.to_owned(), form);
        if let Some(known) = self.patterns.get(&key) {
            return Ok(known.clone());
        }
        let (set, unmatchable) = read_patterns(&text(path)?, form);
        // What stands there is not told: a file that was meant for something else may hold secrets.
        if let (Some(line), Some(fetch)) = (unmatchable.first(), form.normal) {
            let others = match unmatchable.len() - 1 {
                0 => String::new(),
                more => format!(", nor {}", counted(more, "other line", "other lines")),
            };
            let what =
                evenkeel_rules::FUNCTIONS.iter().find(|f| f.fetch == fetch).map_or("value", |f| f.name);
            let file = path.display();
            self.unmatchable
                .push(format!("{file}, line {line}: no {what} in the normal form matches it{others}"));
        }
        let set = Arc::new(set);
        self.patterns.insert(key, set.clone());
        Ok(set)
    }

    pub fn networks(&mut self, path: &Path) -> Result<Arc<NetworkSet>, FileError> {
        if let Some(known) = self.networks.get(path) {
            return Ok(known.clone());
        }
        let wrong =
            |line: usize| FileError::new(path, format!("line {line}: expected an address or a network"));
        let set = Arc::new(read_networks(&text(path)?).map_err(wrong)?);
        self.networks.insert(path.to_owned(), set.clone());
        Ok(set)
    }

    pub fn map(&mut self, file: &Path, form: MapForm) -> Result<Arc<Map>, FileError> {
        let key = (file.to_owned(), form);
        if let Some(map) = self.maps.get(&key) {
            return Ok(map.clone());
        }
        let map = Map::read(&text(file)?, form);
        let map = Arc::new(map.map_err(|e| FileError::new(file, format!("line {}: {}", e.line, e.why)))?);
        self.maps.insert(key, map.clone());
        Ok(map)
    }
}

/// A map names a pool that the configuration has not.
pub fn unknown_pool(file: &Path, name: &str) -> FileError {
    let shown: String = name.chars().take(80).collect();
    FileError::new(file, format!("names the pool {shown:?}, which is not there"))
}

/// Compiles the routes of services; lists that several name are read once.
pub struct Compiler<'a> {
    tables: &'a [Arc<TableSpec>],
    limits: &'a mut Limits,
    lists: ListFiles,
    /// Those of the service at hand.
    files: RouteFiles,
}

impl<'a> Compiler<'a> {
    pub fn new(tables: &'a [Arc<TableSpec>], limits: &'a mut Limits) -> Compiler<'a> {
        Compiler { tables, limits, lists: ListFiles::default(), files: RouteFiles::default() }
    }

    /// What the files that were read say in vain.
    pub fn unmatchable(&self) -> &[String] {
        &self.lists.unmatchable
    }

    pub fn compile(
        &mut self,
        service: &VirtualService,
        known: &[Name],
    ) -> Result<(Routes, RouteFiles), FileError> {
        self.files = RouteFiles::default();
        let routes = evenkeel_routes::compile(service, known, self)?;
        service.error_pages.iter().for_each(|page| self.files.note(&page.file));
        Ok((routes, std::mem::take(&mut self.files)))
    }
}

impl Loader<Live> for Compiler<'_> {
    type Error = FileError;

    fn patterns(&mut self, file: &Path, form: ListForm) -> Result<Arc<PatternSet>, FileError> {
        self.files.note(file);
        self.lists.patterns(file, form)
    }

    fn networks(&mut self, file: &Path) -> Result<Arc<NetworkSet>, FileError> {
        self.files.note(file);
        self.lists.networks(file)
    }

    fn map(&mut self, file: &Path, form: MapForm) -> Result<Arc<Map>, FileError> {
        self.files.note(file);
        self.lists.map(file, form)
    }

    fn table(&mut self, name: &Name) -> Result<(Arc<TableSpec>, Template), FileError> {
        let found = self.tables.iter().find(|t| t.rule.name == *name);
        let table = found.ok_or_else(|| FileError::new(Path::new("table"), format!("there is no {name}")))?;
        Ok((table.clone(), table.rule.key.clone()))
    }

    fn rate(&mut self, place: &str, rule: &RateRule) -> Result<Arc<RateLimit>, FileError> {
        let new = || Arc::new(RateLimit::new(rule.count, rule.period.as_millis() as u64));
        Ok(self.limits.rates.entry(place.to_owned()).or_insert_with(new).clone())
    }

    fn concurrency(&mut self, place: &str, max: u32) -> Result<Arc<ConcurrencyLimit>, FileError> {
        let new = || Arc::new(ConcurrencyLimit::new(max));
        Ok(self.limits.places.entry(place.to_owned()).or_insert_with(new).clone())
    }

    fn accounts(&mut self, users: Option<&Path>, own: &[(String, Secret)]) -> Result<Users, FileError> {
        let mut all = Users::default();
        if let Some(file) = users {
            self.files.note(file);
            all = Users::read(&text(file)?).map_err(|why| FileError::new(file, why))?;
        }
        for (name, hash) in own {
            let place = Path::new("basic-auth");
            all.add(name, hash.expose()).map_err(|why| FileError::new(place, why))?;
        }
        Ok(all)
    }

    fn page(&mut self, answer: &Action) -> Result<(Page, Option<Template>), FileError> {
        let Action::Answer { content_type, body, file, variables, text, .. } = answer else {
            return Ok((Page::default(), None));
        };
        let mut page = match file {
            None => {
                let html = body.trim_start().starts_with('<');
                let kind = if html { "text/html; charset=utf-8" } else { "text/plain; charset=utf-8" };
                Page { content_type: kind.into(), body: body.clone().into_bytes(), ..Page::default() }
            }
            Some(file) => {
                self.files.note(file);
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
        Ok((page, text))
    }

    fn unknown_pool(&mut self, file: &Path, name: &str) -> FileError {
        unknown_pool(file, name)
    }
}

fn text(file: &Path) -> Result<String, FileError> {
    evenkeel_files::read_text(file, evenkeel_files::LIST_AT_MOST).map_err(|e| FileError::unreadable(file, &e))
}

/// The pages of a service for statuses, by status.
pub fn error_pages(service: &VirtualService) -> Result<Vec<(u16, Page)>, FileError> {
    let written = service.error_answers.iter().map(|answer| {
        let mut lines = Vec::new();
        for (name, value) in &answer.headers {
            crate::h1::request::line(&mut lines, name.as_bytes(), value.as_bytes());
        }
        let (content_type, body) = (answer.content_type.clone(), answer.body.clone().into_bytes());
        Ok((answer.of, Page { content_type, status: Some(answer.status), lines, body }))
    });
    let files = service.error_pages.iter().map(|page| Ok((page.status, read_page(&page.file)?)));
    written.chain(files).collect()
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
        return Ok(Page { content_type, status: None, lines, body: bytes[body..].to_vec() });
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
    Ok(Page { content_type: content_type.to_owned(), status: None, lines: Vec::new(), body: bytes })
}
