//! Commands on files of maps and lists: `show`, `get`, `add`, `set`, `del`, `clear`, `prepare` and `commit`.
//!
//! What is changed stands in for the file in memory alone, as HAProxy does it: the file is as it was, and a restart
//! reads it again. A content that the program cannot use is not taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use super::sample::Known;

/// Versions that wait for their commit.
const OPEN_AT_MOST: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    Acl,
    Map,
}

impl FileKind {
    pub fn of(word: &str) -> Option<FileKind> {
        match word {
            "map" => Some(FileKind::Map),
            "acl" => Some(FileKind::Acl),
            _ => None,
        }
    }

    fn word(self) -> &'static str {
        if self == FileKind::Map { "map" } else { "acl" }
    }
}

/// The files that rules ask, in the order of their numbers, and versions that are being written.
#[derive(Default)]
pub struct Maps {
    files: Vec<(FileKind, String)>,
    versions: Mutex<BTreeMap<(FileKind, String), Versions>>,
    /// One change at a time.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug, Default)]
struct Versions {
    current: u32,
    last: u32,
    open: BTreeMap<u32, Vec<String>>,
}

impl Maps {
    /// Those that the translation names.
    pub fn of(text: &str) -> Maps {
        let mut found: BTreeSet<(FileKind, String)> = BTreeSet::new();
        // A converter stands in a text that is quoted again.
        let plain = text.replace("\\\"", "\"");
        for (kind, before) in [
            (FileKind::Map, "|map(\""),
            (FileKind::Map, "pool-map = { file = \""),
            (FileKind::Acl, "\"@"),
            (FileKind::Acl, "|listed(\""),
        ] {
            for (at, _) in plain.match_indices(before) {
                let rest = &plain[at + before.len()..];
                let file = rest.split('"').next().unwrap_or_default();
                if file.starts_with('/') {
                    found.insert((kind, file.to_owned()));
                }
            }
        }
        Maps { files: found.into_iter().collect(), ..Maps::default() }
    }

    /// `FILE` or `#NUMBER`.
    fn file(&self, kind: FileKind, name: &str) -> Result<&str, String> {
        let found = match name.strip_prefix('#').map(str::parse::<usize>) {
            Some(number) => number.ok().and_then(|number| self.files.get(number)).filter(|f| f.0 == kind),
            None => self.files.iter().find(|(of, file)| *of == kind && file == name),
        };
        found.map(|(_, file)| file.as_str()).ok_or_else(|| {
            let what = if kind == FileKind::Map { "map" } else { "ACL" };
            format!("Unknown {what} identifier. Please use #<id> or <file>.\n")
        })
    }

    fn with<T>(&self, kind: FileKind, file: &str, act: impl FnOnce(&mut Versions) -> T) -> T {
        let mut all = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        act(all.entry((kind, file.to_owned())).or_default())
    }
}

/// What a line of a file says: its key, and its value in a map.
fn entry(kind: FileKind, line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    Some(match (kind, line.split_once(char::is_whitespace)) {
        (FileKind::Map, Some((key, value))) => (key, value.trim_start()),
        _ => (line, ""),
    })
}

/// A line of a file, from the words of a command.
fn line_of(kind: FileKind, key: &str, value: Option<&str>) -> Result<String, String> {
    let odd = |text: &str| text.is_empty() || text.starts_with('#') || text.trim() != text;
    let line = match (kind, value) {
        (FileKind::Map, None) => {
            return Err("'add map' expects three parameters: map, key and value.\n".into());
        }
        (FileKind::Map, Some(value)) if !value.trim().is_empty() => format!("{key} {}", value.trim()),
        (FileKind::Map, Some(_)) => key.to_owned(),
        (FileKind::Acl, _) => key.to_owned(),
    };
    match odd(key)
        || kind == FileKind::Map && key.contains(char::is_whitespace)
        || line.contains(['\n', '\r'])
    {
        true => Err(format!("'{key}' cannot be kept: entries are lines of a file.\n")),
        false => Ok(line),
    }
}

/// Numbers of the lines that a key or `#REFERENCE` stands for.
fn lines_of(kind: FileKind, text: &str, key: &str) -> Vec<usize> {
    if let Some(digits) = key.strip_prefix("#0x") {
        let number = usize::from_str_radix(digits, 16).ok();
        let exists = |at: &usize| text.lines().nth(*at).is_some_and(|line| entry(kind, line).is_some());
        return number.and_then(|number| number.checked_sub(1)).filter(exists).into_iter().collect();
    }
    let is_it = |(at, line)| entry(kind, line).filter(|(known, _)| *known == key).map(|_| at);
    text.lines().enumerate().filter_map(is_it).collect()
}

fn shown(kind: FileKind, text: &str) -> String {
    let each = text.lines().enumerate().filter_map(|(at, line)| Some((at + 1, entry(kind, line)?)));
    each.map(|(number, (key, value))| match kind {
        FileKind::Map => format!("{number:#x} {key} {value}\n"),
        FileKind::Acl => format!("{number:#x} {key}\n"),
    })
    .collect()
}

/// `show map`, `show acl`.
pub async fn show(known: &Known, kind: FileKind, words: &[&str]) -> String {
    let done = match words {
        [] => Ok(listed(known, kind).await),
        [version, name] if version.starts_with('@') => show_version(known, kind, &version[1..], name).await,
        [name] => match known.maps.file(kind, name) {
            Ok(file) => read(file).await.map(|text| shown(kind, &text)),
            Err(why) => Err(why),
        },
        _ => Err(format!("'show {}' expects a file\n", kind.word())),
    };
    done.unwrap_or_else(|why| why)
}

async fn listed(known: &Known, kind: FileKind) -> String {
    let maps = &known.maps;
    let mut out = String::from("# id (file) description\n");
    for (number, (_, file)) in maps.files.iter().enumerate().filter(|(_, (of, _))| *of == kind) {
        let (current, last) = maps.with(kind, file, |v| (v.current, v.last.max(v.current)));
        let text = read(file).await.unwrap_or_default();
        let count = text.lines().filter(|line| entry(kind, line).is_some()).count();
        out += &format!(
            "{number} ({file}) pattern loaded from file '{file}' used by {}. curr_ver={current} next_ver={last} entry_cnt={count}\n",
            kind.word()
        );
    }
    out
}

async fn show_version(known: &Known, kind: FileKind, version: &str, name: &str) -> Result<String, String> {
    let file = known.maps.file(kind, name)?;
    let version = version.parse::<u32>().map_err(|_| "A version is a number.\n".to_owned())?;
    let (open, current) =
        known.maps.with(kind, file, |versions| (versions.open.get(&version).cloned(), versions.current));
    match open {
        Some(lines) => Ok(shown(kind, &joined(&lines))),
        None if version == current => read(file).await.map(|text| shown(kind, &text)),
        None => Ok(String::new()),
    }
}

/// `get map`, `get acl`: the entries of a key as it is written.
pub async fn get(known: &Known, kind: FileKind, name: &str, key: &str) -> String {
    let text = match known.maps.file(kind, name) {
        Ok(file) => read(file).await,
        Err(why) => Err(why),
    };
    let text = match text {
        Ok(text) => text,
        Err(why) => return why,
    };
    match lines_of(kind, &text, key).first().and_then(|at| entry(kind, text.lines().nth(*at)?)) {
        Some((key, value)) if kind == FileKind::Map => {
            format!("type=str, case=sensitive, found=yes, key=\"{key}\", val=\"{value}\", type=\"str\"\n")
        }
        Some((key, _)) => format!("type=str, case=sensitive, match=yes, key=\"{key}\"\n"),
        None if kind == FileKind::Map => "type=str, case=sensitive, found=no\n".into(),
        None => "type=str, case=sensitive, match=no\n".into(),
    }
}

/// What a file holds, or what stands in for it; one that cannot be read is never taken for an empty one. It is read
/// where nobody else waits for the disk.
async fn read(file: &str) -> Result<String, String> {
    let path = super::certificates::place(file);
    let read = move || evenkeel_files::read_text(&path, evenkeel_files::LIST_AT_MOST);
    let done = tokio::task::spawn_blocking(read).await;
    done.map_err(|_| "the process stops\n".to_owned())?.map_err(|error| format!("{file}: {error}\n"))
}

/// A command that changes a file, or a version of it.
pub async fn change(known: &Known, what: &str, kind: FileKind, words: &[&str], payload: &str) -> String {
    let words: Vec<&str> = words.iter().copied().filter(|word| *word != "<<").collect();
    let turn = known.maps.turn.lock().await;
    let done = changed(known, what, kind, &words, payload).await;
    drop(turn);
    done.unwrap_or_else(|why| why)
}

async fn changed(
    known: &Known,
    what: &str,
    kind: FileKind,
    words: &[&str],
    payload: &str,
) -> Result<String, String> {
    let maps = &known.maps;
    let version = words.first().and_then(|word| word.strip_prefix('@')).map(str::parse::<u32>);
    let version = version.transpose().map_err(|_| "A version is a number.\n".to_owned())?;
    let words = if version.is_some() { &words[1..] } else { words };
    let Some(name) = words.first() else { return Err(format!("'{what} {}' expects a file\n", kind.word())) };
    let file = maps.file(kind, name)?;
    match (what, version) {
        ("prepare", None) => return prepare(maps, kind, file),
        ("commit", Some(version)) => {
            let lines = maps.with(kind, file, |versions| versions.open.remove(&version));
            let lines = lines.ok_or("Version number out of range.\n")?;
            put(known, file, &joined(&lines)).await?;
            maps.with(kind, file, |versions| versions.current = version);
            return Ok(String::new());
        }
        ("commit", None) => return Err("A version is expected: @<ver>.\n".into()),
        ("clear" | "add", Some(version)) if maps.with(kind, file, |v| v.current != version) => {
            let new = if what == "add" { lines_to_add(kind, &words[1..], payload)? } else { Vec::new() };
            return maps.with(kind, file, |versions| {
                let lines = versions.open.get_mut(&version).ok_or("Version number out of range.\n")?;
                if what == "clear" {
                    lines.clear();
                }
                let size: usize = lines.iter().chain(&new).map(|line| line.len() + 1).sum();
                if size as u64 > evenkeel_files::LIST_AT_MOST {
                    return Err("the version is larger than a file may be: commit it, or clear it\n".into());
                }
                lines.extend(new);
                Ok(String::new())
            });
        }
        _ => {}
    }
    let text = read(file).await?;
    let new = edited(what, kind, &words[1..], payload, &text)?;
    put(known, file, &new).await?;
    Ok(String::new())
}

fn prepare(maps: &Maps, kind: FileKind, file: &str) -> Result<String, String> {
    let all = maps.versions.lock().unwrap_or_else(PoisonError::into_inner);
    let open: usize = all.values().map(|versions| versions.open.len()).sum();
    drop(all);
    if open >= OPEN_AT_MOST {
        return Err("too many versions wait: commit some\n".into());
    }
    let number = maps.with(kind, file, |versions| {
        versions.last = versions.last.max(versions.current) + 1;
        versions.open.insert(versions.last, Vec::new());
        versions.last
    });
    Ok(format!("New version created: {number}\n"))
}

fn lines_to_add(kind: FileKind, words: &[&str], payload: &str) -> Result<Vec<String>, String> {
    if let [key, rest @ ..] = words {
        let value = rest.join(" ");
        return line_of(kind, key, (!rest.is_empty()).then_some(value.as_str())).map(|line| vec![line]);
    }
    let lines = payload.lines().map(str::trim).filter(|line| !line.is_empty());
    let each = lines.map(|line| match (kind, line.split_once(char::is_whitespace)) {
        (FileKind::Map, Some((key, value))) => line_of(kind, key, Some(value.trim_start())),
        _ => line_of(kind, line, None),
    });
    let lines = each.collect::<Result<Vec<_>, _>>()?;
    match lines.is_empty() {
        true => Err(format!("'add {}' expects an entry\n", kind.word())),
        false => Ok(lines),
    }
}

fn joined(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// The text of a file after a command.
fn edited(what: &str, kind: FileKind, words: &[&str], payload: &str, text: &str) -> Result<String, String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let found = |key: &str| match lines_of(kind, text, key) {
        found if found.is_empty() => Err(format!("Key not found in the {}.\n", kind.word())),
        found => Ok(found),
    };
    match (what, words) {
        ("clear", []) => lines.retain(|line| entry(kind, line).is_none()),
        ("add", words) => lines.extend(lines_to_add(kind, words, payload)?),
        ("del", [key]) => {
            for at in found(key)?.into_iter().rev() {
                lines.remove(at);
            }
        }
        ("set", [key, value @ ..]) if kind == FileKind::Map && !value.is_empty() => {
            let value = value.join(" ");
            for at in found(key)? {
                let key = entry(kind, &lines[at]).map_or(String::new(), |(key, _)| key.to_owned());
                lines[at] = line_of(kind, &key, Some(&value))?;
            }
        }
        _ => return Err(format!("'{what} {}' expects a file and an entry\n", kind.word())),
    }
    Ok(joined(&lines))
}

/// Has a content used in the place of the file's; what cannot be used is taken back.
async fn put(known: &Known, file: &str, content: &str) -> Result<(), String> {
    if content.len() as u64 > evenkeel_files::LIST_AT_MOST {
        return Err("the file would be larger than a file may be\n".into());
    }
    super::certificates::hold(known, file, content.as_bytes()).await.map_err(|why| format!("{why}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_rules_ask() {
        let text = r#"
            when = 'header("x") == "@/l/b"'
            set-header = { A = "{path|map(\"/m/a\",begin)}" }
            when = 'text("{path|listed(\"/l/c\",begin)}", "1")'
            pool-map = { file = "/m/p", match = "begin", key = "{path}" }
        "#;
        let maps = Maps::of(text);
        assert_eq!(
            maps.files,
            [
                (FileKind::Acl, "/l/b".to_owned()),
                (FileKind::Acl, "/l/c".to_owned()),
                (FileKind::Map, "/m/a".to_owned()),
                (FileKind::Map, "/m/p".to_owned())
            ]
        );
        assert_eq!(maps.file(FileKind::Map, "#2"), Ok("/m/a"));
        assert_eq!(maps.file(FileKind::Map, "/m/p"), Ok("/m/p"));
        assert!(maps.file(FileKind::Map, "#0").is_err() && maps.file(FileKind::Acl, "/m/a").is_err());
    }

    #[test]
    fn files_after_commands() {
        let check =
            |what: &str, kind: FileKind, words: &[&str], payload: &str, expect: Result<&str, &str>| {
                let done = edited(what, kind, words, payload, "# about\na 1\nb 2 3\n\na 4\n");
                match (done, expect) {
                    (Ok(text), Ok(expect)) => assert_eq!(text, expect, "{what} {words:?}"),
                    (Err(why), Err(part)) => assert!(why.contains(part), "{what} {words:?}: {why}"),
                    (done, _) => panic!("{what} {words:?}: {done:?}"),
                }
            };
        let map = FileKind::Map;
        check("add", map, &["c", "5", "6"], "", Ok("# about\na 1\nb 2 3\n\na 4\nc 5 6\n"));
        check("add", map, &[], "c 5\n d  6 \n", Ok("# about\na 1\nb 2 3\n\na 4\nc 5\nd 6\n"));
        check("add", map, &["c"], "", Err("three"));
        check("add", map, &["c d", "5"], "", Err("lines"));
        check("add", map, &["#c", "5"], "", Err("lines"));
        check("set", map, &["a", "9"], "", Ok("# about\na 9\nb 2 3\n\na 9\n"));
        check("set", map, &["#0x5", "9"], "", Ok("# about\na 1\nb 2 3\n\na 9\n"));
        check("set", map, &["c", "9"], "", Err("not found"));
        check("del", map, &["a"], "", Ok("# about\nb 2 3\n\n"));
        check("del", map, &["#0x2"], "", Ok("# about\nb 2 3\n\na 4\n"));
        check("del", map, &["#0x1"], "", Err("not found"));
        check("clear", map, &[], "", Ok("# about\n\n"));
        let acl = FileKind::Acl;
        check("del", acl, &["b 2 3"], "", Ok("# about\na 1\n\na 4\n"));
        check("add", acl, &["c d"], "", Ok("# about\na 1\nb 2 3\n\na 4\nc d\n"));
        check("set", acl, &["a 1", "x"], "", Err("expects"));
        assert_eq!(shown(map, "# x\na 1\nb\n"), "0x2 a 1\n0x3 b \n");
        assert_eq!(shown(acl, "a 1\n"), "0x1 a 1\n");
    }
}
