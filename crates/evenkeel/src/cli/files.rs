//! Verbs that need a file and no daemon.

use std::path::Path;

use evenkeel_api as api;
use evenkeel_config::{Problem, Report};

use super::{Exit, Failure, Outcome};

pub fn read(file: &Path) -> Result<String, Failure> {
    let fail = |why: String| Failure::new(Exit::Failed, format!("{}: {why}", file.display()));
    let bytes = std::fs::read(file).map_err(|e| fail(e.to_string()))?;
    String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        Failure::new(Exit::Configuration, format!("{}:{line}: error: the file is not UTF-8", file.display()))
    })
}

/// Problems as the API shows them.
pub fn describe(text: &str, problems: &[Problem]) -> Vec<api::Problem> {
    let report = Report { file: "", text, problems };
    let shown = problems.iter().map(|problem| {
        let (line, column) = report.place(problem.span.start);
        api::Problem { line, column, message: problem.message.clone(), help: problem.help.clone() }
    });
    shown.collect()
}

pub fn check(file: &Path, json: bool) -> Outcome {
    let text = read(file)?;
    let problems = evenkeel_config::read(&text).err().unwrap_or_default();
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

pub fn fmt(file: &Path, write: bool, check: bool) -> Outcome {
    let text = read(file)?;
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
        evenkeel_platform::write_atomically(file, formatted.as_bytes())?;
    }
    Ok(())
}

pub fn schema() -> Outcome {
    super::live::print_json(&evenkeel_config::json_schema())
}
