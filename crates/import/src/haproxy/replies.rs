//! Answers that HAProxy gives by itself: `errorfile` and its like, `return`, `deny`, `tarpit`.

use std::collections::BTreeMap;

use super::condition::Acls;
use super::proxy::Proxy;
use super::sample::variables;
use crate::draft::{Draft, ErrorFiles, Table};
use crate::words::quoted;

/// The file of those who want no answer at all.
const NOTHING: &str = "/dev/null";

/// What a rule answers with.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub status: String,
    /// The keys of `answer` but the status; none where the service's page for the status is meant.
    pub keys: Option<Vec<String>>,
    /// `NAME = VALUE` of headers.
    pub headers: Vec<String>,
    /// An empty error file: the connection closes.
    pub silent: bool,
}

impl Reply {
    /// The words behind `return`, `deny` or `tarpit`.
    pub fn read(words: &[&str], status: &str, acls: &Acls) -> Result<Reply, String> {
        let mut reply = Reply { status: status.into(), ..Reply::default() };
        let (mut keys, mut named) = (Vec::new(), None);
        let (mut content, mut pages) = (false, false);
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            let mut value = || rest.next().copied().unwrap_or("");
            match *word {
                "status" | "deny_status" => reply.status = value().into(),
                "string" => keys.push(format!("body = {}", quoted(value()))),
                "lf-string" => keys.extend(with_variables(value())?),
                "file" => keys.push(format!("file = {}", quoted(value()))),
                "errorfile" => {
                    let file = value();
                    reply.silent = file == NOTHING;
                    keys.push(format!("file = {}", quoted(file)));
                }
                "lf-file" => {
                    let file = value();
                    let text = acls.files.get(file).ok_or(
                        "a file with variables has other variables here: see `answer`, or `evenkeel haproxy`",
                    )?;
                    keys.extend(with_variables(text)?);
                }
                "errorfiles" => named = Some(value()),
                "default-errorfiles" => pages = true,
                "content-type" => keys.push(format!("content-type = {}", quoted(value()))),
                "hdr" => {
                    let name = value();
                    reply.headers.push(format!("{} = {}", quoted(name), quoted(&variables(value())?)));
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
            keys.extend(file.map(|(_, file)| format!("file = {}", quoted(file))));
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
    pub fn returned(&self, words: &[&str]) -> (&'static str, String) {
        let own = words.contains(&"default-errorfiles") || words.contains(&"errorfiles");
        match &self.keys {
            _ if self.silent => ("deny", "{ silent = true }".into()),
            // The service's page for the status.
            None if own => ("deny", format!("{{ status = {} }}", self.status)),
            _ => ("answer", self.answer()),
        }
    }

    pub fn add_headers(&self, key: &str, route: &mut Table) {
        if !self.headers.is_empty() {
            route.set(key, format!("{{ {} }}", self.headers.join(", ")));
        }
    }

    /// As the value of `answer`.
    pub fn answer(&self) -> String {
        let status = format!("status = {}", self.status);
        let keys = self.keys.iter().flatten().cloned();
        format!("{{ {} }}", std::iter::once(status).chain(keys).collect::<Vec<_>>().join(", "))
    }
}

fn with_variables(text: &str) -> Result<[String; 2], String> {
    Ok([format!("body = {}", quoted(&variables(text)?)), "variables = true".into()])
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

    /// The files of its own answers, by status; the last word on each counts. One that begins with a brace
    /// is written out, as `error-answers` has it.
    pub fn pages(&self, draft: &mut Draft) -> BTreeMap<String, String> {
        let mut pages = BTreeMap::new();
        for word in &self.words {
            let words: Vec<&str> = word.words.iter().map(String::as_str).collect();
            let section = |name: &str, only: &[&str]| {
                let files =
                    draft.errors.get(name).ok_or_else(|| format!("there is no http-errors {name}"))?;
                let wanted = files.iter().filter(|(s, _)| only.is_empty() || only.contains(&s.as_str()));
                Ok(wanted.cloned().collect::<Vec<_>>())
            };
            let found = match words.as_slice() {
                ["errorfile", status, file] => Ok(vec![((*status).to_owned(), (*file).to_owned())]),
                ["errorfiles", name, only @ ..] => section(name, only),
                ["http-error", "status", status, "errorfile", file] => {
                    Ok(vec![((*status).to_owned(), (*file).to_owned())])
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
                Err(why) => draft.left(word.line, &words.join(" "), why),
            }
        }
        pages
    }
}

type Written = Result<Vec<(String, String)>, String>;

fn redirected(status: &str, place: &str, with: u16) -> Written {
    let page = format!("{{ status = {with}, headers = {{ Location = {} }} }}", quoted(place));
    Ok(vec![(status.to_owned(), page)])
}

/// `http-error` with its content.
fn written(status: &str, words: &[&str]) -> Written {
    let (mut keys, mut headers) = (Vec::new(), Vec::new());
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().copied().unwrap_or("");
        let constant = |text: &str| match text.contains('%') {
            true => {
                Err("pages of errors have no variables: write a rule with return, or a constant text"
                    .to_owned())
            }
            false => Ok(quoted(text)),
        };
        match *word {
            "content-type" => keys.push(format!("content-type = {}", quoted(value()))),
            "string" => keys.push(format!("body = {}", quoted(value()))),
            "lf-string" => keys.push(format!("body = {}", constant(value())?)),
            "hdr" => {
                let name = value();
                headers.push(format!("{} = {}", quoted(name), constant(value())?));
            }
            other => return Err(format!("{other}: write the page as errorfile, a whole HTTP answer")),
        }
    }
    // One that says nothing is an answer all the same.
    if keys.is_empty() && headers.is_empty() {
        headers.push("Cache-Control = \"no-cache\"".to_owned());
    }
    if !headers.is_empty() {
        keys.push(format!("headers = {{ {} }}", headers.join(", ")));
    }
    Ok(vec![(status.to_owned(), format!("{{ {} }}", keys.join(", ")))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_are_written_out() {
        let page =
            |words: &str| written("503", &words.split(' ').collect::<Vec<_>>()).map(|p| p[0].1.clone());
        assert_eq!(
            page("content-type text/plain string d hdr X-A b").as_deref(),
            Ok("{ content-type = \"text/plain\", body = \"d\", headers = { \"X-A\" = \"b\" } }")
        );
        assert!(page("lf-string %[path]").is_err() && page("file /x").is_err());
        let (status, page) = &redirected("503", "/s", 302).unwrap()[0];
        assert_eq!((status.as_str(), page.contains("Location = \"/s\"")), ("503", true), "{page}");
    }

    #[test]
    fn what_a_rule_answers_with() {
        let mut acls = Acls::default();
        acls.errors.insert("e".into(), vec![("404".into(), "/e/404.http".into())]);
        acls.files.insert("/f".into(), "at %[path]".into());
        let read = |words: &str, status: &str| {
            Reply::read(&words.split(' ').collect::<Vec<_>>(), status, &acls).map(|r| r.answer())
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
