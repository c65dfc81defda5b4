//! `evenkeel import`: what people have, as a configuration of Evenkeel.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::CommandFactory;
use evenkeel_import::{Severity, Source, SourceKind, import};

use super::{Exit, Failure, Outcome, place};

/// `KIND FILE... [KIND FILE...]`
pub fn run(words: &[String], strict: bool, json: bool) -> Outcome {
    let mut sources = Vec::new();
    let mut kind: Option<SourceKind> = None;
    for word in words {
        // A word that is a kind and no file says whose the next files are.
        match SourceKind::ALL.into_iter().find(|k| k.as_str().eq_ignore_ascii_case(word)) {
            Some(next) if !PathBuf::from(word).exists() || kind.is_none() => kind = Some(next),
            _ => {
                let Some(kind) = kind else {
                    let kinds = SourceKind::ALL.map(SourceKind::as_str).join(", ");
                    let why = format!(
                        "{word} is no kind of configuration: name its kind first ({kinds}), such as: evenkeel import haproxy {word}"
                    );
                    return Err(Failure::new(Exit::Failed, why));
                };
                let text = super::read_file(&PathBuf::from(word))?;
                sources.push(Source { kind, file: word.clone(), text });
            }
        }
    }
    if sources.is_empty() {
        let why = "name a file behind the kind, such as: evenkeel import haproxy haproxy.cfg";
        super::Arguments::command().error(clap::error::ErrorKind::MissingRequiredArgument, why).exit();
    }
    let variables: BTreeMap<String, String> = std::env::vars().collect();
    let imported = import(&sources, &variables);
    if json {
        let left = imported.left.iter().map(|l| {
            serde_json::json!({ "file": l.file, "line": l.line, "gravity": l.severity.as_str(), "keyword": l.keyword, "consequence": l.consequence })
        });
        super::live::print_json(
            &serde_json::json!({ "configuration": imported.text, "left": left.collect::<Vec<_>>() }),
        )?;
    } else {
        super::live::say(imported.text.trim_end())?;
        for left in &imported.left {
            eprintln!("{}: {}: {}", place(&left.file, left.line), left.keyword, left.consequence);
        }
    }
    let wrong = imported.left.iter().filter(|l| l.severity == Severity::Invalid).count();
    if wrong > 0 {
        let why = format!("the source has {} that only you can mend, named above", count(wrong, "error"));
        return Err(Failure::new(Exit::Configuration, why));
    }
    if !imported.left.is_empty() && !json {
        let (left, were) = (imported.left.len(), if imported.left.len() == 1 { "was" } else { "were" });
        eprintln!(
            "{} {were} not carried over as {}",
            count(left, "line"),
            if left == 1 { "it was" } else { "they were" }
        );
    }
    let grave: Vec<_> = imported.left.iter().filter(|l| l.severity == Severity::Critical).collect();
    if let Some(first) = grave.first() {
        let why = format!(
            "{} would let somebody in who was kept off, or leave a service without a server; the first is {}:{}: {}",
            count(grave.len(), "omission"),
            first.file,
            first.line,
            first.keyword
        );
        return Err(Failure::new(Exit::Failed, why));
    }
    match strict && !imported.left.is_empty() {
        true => Err(Failure::new(Exit::Failed, "--strict: something was left")),
        false => Ok(()),
    }
}

/// `1 line`, `2 lines`
fn count(number: usize, what: &str) -> String {
    super::counted(number as u64, what, &format!("{what}s"))
}
