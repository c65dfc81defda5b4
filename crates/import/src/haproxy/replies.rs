//! Answers that HAProxy gives by itself: `errorfile` and its like, `return`, `deny`, `tarpit`.

use std::collections::BTreeMap;

use super::condition::Acls;
use super::proxy::Proxy;
use super::sample::variables;
use crate::draft::{Draft, ErrorFiles, Table, Value};

/// The file of those who want no answer at all.
pub const NOTHING: &str = "/dev/null";

/// What a rule answers with.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub status: String,
    /// The keys of `answer` but the status; none where the service's page for the status is meant.
    pub keys: Option<Table>,
    /// Names and values of headers.
    pub headers: Vec<(String, String)>,
    /// An empty error file: the connection closes.
    pub silent: bool,
}

impl Reply {
    /// The words behind `return`, `deny` or `tarpit`.
    pub fn read(words: &[&str], status: &str, acls: &Acls) -> Result<Reply, String> {
        let mut reply = Reply { status: status.into(), ..Reply::default() };
        let (mut keys, mut named) = (Table::default(), None);
        let (mut content, mut pages) = (false, false);
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            let mut value = || rest.next().copied().unwrap_or("");
            match *word {
                "status" | "deny_status" => reply.status = value().into(),
                "string" => keys.text("body", value()),
                "lf-string" => with_variables(&mut keys, value())?,
                "file" => keys.text("file", value()),
                "errorfile" => {
                    let file = value();
                    reply.silent = file == NOTHING;
                    keys.text("file", file);
                }
                "lf-file" => {
                    let file = value();
                    let text = acls.files.get(file).ok_or(
                        "a file with variables has other variables here: see `answer`, or `evenkeel haproxy`",
                    )?;
                    with_variables(&mut keys, text)?;
                }
                "errorfiles" => named = Some(value()),
                "default-errorfiles" => pages = true,
                "content-type" => keys.text("content-type", value()),
                "hdr" => {
                    let name = value().to_owned();
                    reply.headers.push((name, variables(value())?));
                }
                other => return Err(format!("{other} is not carried over")),
            }
            content |= *word != "status" && *word != "deny_status";
        }
        if let Some(name) = named {
            let files = acls.errors.get(name).ok_or_else(|| format!("there is no http-errors {name}"))?;
            // What a section does not have is as usual.
            let file = files.iter().rfind(|(status, _)| *status == reply.status);
            reply.silent = file.is_some_and(|(_, file)| file == NOTHING);
            if let Some((_, file)) = file {
                keys.text("file", file);
            }
            pages |= file.is_none();
        }
        if content && !pages {
            reply.keys = Some(keys);
        } else if let Some(words) = acls.pages.get(&reply.status).filter(|_| named.is_none()) {
            // A page with variables is written out where it is asked for.
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let page = Reply::read(&words, &reply.status.clone(), &Acls::default())?;
            reply.keys = page.keys;
            reply.headers.extend(page.headers);
        }
        Ok(reply)
    }

    /// What `return` with these words does: a key of a route, with its value.
    pub fn returned(&self, words: &[&str]) -> (&'static str, Table) {
        let own = words.contains(&"default-errorfiles") || words.contains(&"errorfiles");
        match &self.keys {
            _ if self.silent => ("deny", Table::default().with("silent", true)),
            // The service's page for the status.
            None if own => ("deny", self.only_status()),
            _ => ("answer", self.answer()),
        }
    }

    pub fn add_headers(&self, key: &str, route: &mut Table) {
        if !self.headers.is_empty() {
            route.set(key, Value::names(self.headers.iter().cloned()));
        }
    }

    /// As the value of `answer`.
    pub fn answer(&self) -> Table {
        let mut answer = self.only_status();
        self.keys.iter().for_each(|keys| answer.adopt(keys));
        answer
    }

    pub fn only_status(&self) -> Table {
        Table::default().with_number("status", &self.status)
    }
}

fn with_variables(keys: &mut Table, text: &str) -> Result<(), String> {
    keys.text("body", &variables(text)?);
    keys.set("variables", true);
    Ok(())
}

/// A line of an `http-errors` section.
pub fn line(words: &[String], files: &mut ErrorFiles) -> Result<(), String> {
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["errorfile", status, file] => {
            files.push(((*status).into(), (*file).into()));
            Ok(())
        }
        _ => Err("not carried over".into()),
    }
}

/// Statuses that rules alone answer with: their pages may have variables.
const OF_RULES: &[&str] = &["200", "401", "403", "404", "407", "410", "422", "425", "429"];

/// What a service answers by itself with a status.
#[derive(Clone, Debug, PartialEq)]
pub enum Page {
    /// A whole HTTP answer.
    File(String),
    /// Somewhere else, with a status.
    Redirect { status: u16, to: String },
    /// The keys of `error-answers`.
    Written(Table),
}

impl Page {
    /// As `error-answers` has it, but for files.
    pub fn answer(&self) -> Option<Table> {
        match self {
            Page::File(_) => None,
            Page::Redirect { status, to } => {
                let headers = Table::default().with_text("Location", to);
                Some(Table::default().with("status", *status).with("headers", headers))
            }
            Page::Written(keys) => Some(keys.clone()),
        }
    }
}

impl Proxy {
    /// `http-error` whose texts have variables, by status.
    pub fn pages_with_variables(&self) -> BTreeMap<String, Vec<String>> {
        let pages = self.words.iter().filter(|word| word.words[0] == "http-error" && word.arg(1) == "status");
        let pages = pages.filter(|word| OF_RULES.contains(&word.arg(2)));
        let mut all = BTreeMap::new();
        for word in pages {
            match word.words.iter().skip(3).any(|word| word.contains('%')) {
                true => all.insert(word.arg(2).to_owned(), word.words[3..].to_vec()),
                false => all.remove(word.arg(2)),
            };
        }
        all
    }

    /// Its own answers, by status; the last word on each counts.
    pub fn pages(&self, draft: &mut Draft) -> BTreeMap<String, Page> {
        let mut pages = BTreeMap::new();
        for word in &self.words {
            let words: Vec<&str> = word.words.iter().map(String::as_str).collect();
            let section = |name: &str, only: &[&str]| {
                let files =
                    draft.errors.get(name).ok_or_else(|| format!("there is no http-errors {name}"))?;
                let wanted = files.iter().filter(|(s, _)| only.is_empty() || only.contains(&s.as_str()));
                let page = |(status, file): &(String, String)| (status.clone(), Page::File(file.clone()));
                Ok(wanted.map(page).collect::<Vec<_>>())
            };
            let found = match words.as_slice() {
                ["errorfile", status, file] => {
                    Ok(vec![((*status).to_owned(), Page::File((*file).to_owned()))])
                }
                ["errorfiles", name, only @ ..] => section(name, only),
                ["http-error", "status", status, "errorfile", file] => {
                    Ok(vec![((*status).to_owned(), Page::File((*file).to_owned()))])
                }
                ["http-error", "status", status, "errorfiles", name] => section(name, &[status]),
                ["http-error", "status", status, "default-errorfiles"] => {
                    pages.remove(*status);
                    Ok(Vec::new())
                }
                ["errorloc" | "errorloc302", status, place] => redirected(status, place, 302),
                ["errorloc303", status, place] => redirected(status, place, 303),
                // See `pages_with_variables`.
                ["http-error", "status", status, rest @ ..]
                    if OF_RULES.contains(status) && rest.iter().any(|word| word.contains('%')) =>
                {
                    Ok(Vec::new())
                }
                ["http-error", "status", status, rest @ ..] => written(status, rest),
                ["errorfile" | "errorloc" | "errorloc302" | "errorloc303" | "http-error", ..] => {
                    Err("a status and an answer are needed".to_owned())
                }
                _ => continue,
            };
            match found {
                Ok(found) => pages.extend(found),
                Err(why) => draft.left(word.line, &word.written, why),
            }
        }
        pages
    }
}

type Written = Result<Vec<(String, Page)>, String>;

fn redirected(status: &str, place: &str, with: u16) -> Written {
    Ok(vec![(status.to_owned(), Page::Redirect { status: with, to: place.to_owned() })])
}

/// `http-error` with its content.
fn written(status: &str, words: &[&str]) -> Written {
    let (mut keys, mut headers) = (Table::default(), Vec::new());
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().copied().unwrap_or("");
        let constant = |text: &str| match text.contains('%') {
            true => {
                Err("pages of errors have no variables: write a rule with return, or a constant text"
                    .to_owned())
            }
            false => Ok(text.to_owned()),
        };
        match *word {
            "content-type" => keys.text("content-type", value()),
            "string" => keys.text("body", value()),
            "lf-string" => keys.text("body", &constant(value())?),
            "hdr" => {
                let name = value().to_owned();
                headers.push((name, constant(value())?));
            }
            other => return Err(format!("{other}: write the page as errorfile, a whole HTTP answer")),
        }
    }
    // One that says nothing is an answer all the same.
    if keys.lines.is_empty() && headers.is_empty() {
        keys.set("headers", Table::default().with_text("Cache-Control", "no-cache"));
    }
    if !headers.is_empty() {
        keys.set("headers", Value::names(headers));
    }
    Ok(vec![(status.to_owned(), Page::Written(keys))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_are_written_out() {
        let page = |words: &str| {
            written("503", &words.split(' ').collect::<Vec<_>>()).map(|p| p[0].1.answer().unwrap().inline())
        };
        assert_eq!(
            page("content-type text/plain string d hdr X-A b").as_deref(),
            Ok("{ content-type = \"text/plain\", body = \"d\", headers = { \"X-A\" = \"b\" } }")
        );
        assert!(page("lf-string %[path]").is_err() && page("file /x").is_err());
        let (status, page) = &redirected("503", "/s", 302).unwrap()[0];
        let page = page.answer().unwrap().inline();
        assert_eq!((status.as_str(), page.contains("Location = \"/s\"")), ("503", true), "{page}");
    }

    #[test]
    fn what_a_rule_answers_with() {
        let mut acls = Acls::default();
        acls.errors.insert("e".into(), vec![("404".into(), "/e/404.http".into())]);
        acls.files.insert("/f".into(), "at %[path]".into());
        let read = |words: &str, status: &str| {
            Reply::read(&words.split(' ').collect::<Vec<_>>(), status, &acls).map(|r| r.answer().inline())
        };
        for (words, expect) in [
            ("status 404 errorfiles e", "{ status = 404, file = \"/e/404.http\" }"),
            ("deny_status 429", "{ status = 429 }"),
            ("errorfile /x.http", "{ status = 403, file = \"/x.http\" }"),
            ("lf-file /f", "{ status = 403, body = \"at {path}\", variables = true }"),
            (
                "string no content-type text/plain",
                "{ status = 403, body = \"no\", content-type = \"text/plain\" }",
            ),
        ] {
            assert_eq!(read(words, "403").as_deref(), Ok(expect), "{words}");
        }
        let plain = |words: &str| {
            Reply::read(&words.split(' ').collect::<Vec<_>>(), "403", &acls).unwrap().keys.is_none()
        };
        assert!(plain("deny_status 500") && plain("errorfiles e") && plain("default-errorfiles"));
        assert!(read("errorfiles none", "403").is_err() && read("lf-file /none", "403").is_err());
    }
}
