//! Verbs that need a file and no daemon.

use std::path::Path;

use evenkeel_config::{Problem, Report};

use super::{Exit, Failure, Outcome, describe, read_file};

pub fn check(file: &Path, json: bool) -> Outcome {
    let text = read_file(file)?;
    let (problems, absent) = match evenkeel_config::read(&text) {
        Err(problems) => (problems, Vec::new()),
        Ok(snapshot) => {
            warn(&snapshot);
            let files = evenkeel_l7::check_files(&snapshot);
            // What is not on this machine may be on the one that the configuration is for.
            let (absent, wrong): (Vec<_>, Vec<_>) = files.into_iter().partition(|e| e.missing);
            (wrong.iter().map(|e| file_problem(&text, e)).collect(), absent)
        }
    };
    for error in absent {
        eprintln!("warning: {error}; `run` and `commit` need it");
    }
    if json {
        super::live::print_json(&describe(&text, &problems))?;
    } else if problems.is_empty() {
        println!("{}: no errors", file.display());
    } else {
        let name = file.display().to_string();
        eprint!("{}", Report { file: &name, text: &text, problems: &problems });
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::new(Exit::Configuration, "")) }
}

fn warn(snapshot: &evenkeel_model::Snapshot) {
    let lists = snapshot.services.iter().flat_map(|s| evenkeel_l7::unmatchable_lists(snapshot, s));
    for warning in evenkeel_config::warnings(snapshot).into_iter().chain(lists) {
        eprintln!("warning: {warning}");
    }
}

/// A problem with a file, shown where the configuration names it.
fn file_problem(text: &str, error: &evenkeel_l7::FileError) -> Problem {
    let path = error.file.display().to_string();
    let named = |path: &str| text.find(&format!("{path:?}")).map(|at| at..at + path.len() + 2);
    let folder = error.file.parent().map(|p| p.display().to_string()).unwrap_or_default();
    let folders = [format!("{folder}/"), folder];
    let place = named(&path).or_else(|| folders.iter().find_map(|f| named(f)));
    Problem::new(place.unwrap_or(0..0), error.to_string())
}

pub fn fmt(file: &Path, write: bool, check: bool) -> Outcome {
    let text = read_file(file)?;
    let formatted = evenkeel_config::format(&text).map_err(|problem| {
        let name = file.display().to_string();
        eprint!("{}", Report { file: &name, text: &text, problems: &[problem] });
        Failure::new(Exit::Configuration, "")
    })?;
    if check {
        let why = format!("{} is not in canonical form: run evenkeel fmt --write", file.display());
        return if formatted == text { Ok(()) } else { Err(Failure::new(Exit::Failed, why)) };
    }
    if !write {
        print!("{formatted}");
    } else if formatted != text {
        evenkeel_files::write_atomically(file, formatted.as_bytes())?;
    }
    Ok(())
}

pub fn schema() -> Outcome {
    super::live::print_json(&evenkeel_config::json_schema())
}
