//! What the daemon and the command line say alike: files, places, counts.

use std::path::Path;

use evenkeel_api as api;
use evenkeel_config::{Problem, Report};

use crate::outcome::{Exit, Failure};

pub fn read_file(file: &Path) -> Result<String, Failure> {
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

/// `FILE:LINE`; what concerns the file as a whole has no line.
pub fn place(file: &str, line: usize) -> String {
    if line == 0 { file.to_owned() } else { format!("{file}:{line}") }
}

pub use evenkeel_model::counted;

/// For a part of a URL.
pub fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    text.bytes().map(|b| if plain(&b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
