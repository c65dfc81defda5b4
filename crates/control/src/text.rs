//! What the daemon and the command line say alike: files, places, counts.

use std::io::Read;
use std::path::Path;

use evenkeel_api as api;
use evenkeel_config::{Problem, Report};

use crate::outcome::{Exit, Failure};

/// As long as what an admin may send to the API: a configuration of 100,000 services is some 20 MB.
const FILE_AT_MOST: u64 = 256 << 20;

/// A text that somebody names; it may come by a pipe, and a device without an end is refused.
pub fn read_file(file: &Path) -> Result<String, Failure> {
    read_bounded(file, FILE_AT_MOST)
}

fn read_bounded(file: &Path, at_most: u64) -> Result<String, Failure> {
    let fail = |why: String| Failure::new(Exit::Failed, format!("{}: {why}", file.display()));
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).map_err(|e| fail(e.to_string()))?;
    opened.take(at_most + 1).read_to_end(&mut bytes).map_err(|e| fail(e.to_string()))?;
    if bytes.len() as u64 > at_most {
        return Err(fail(format!("it is longer than {at_most} bytes")));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_end_is_refused() {
        let told = read_bounded(Path::new("/dev/zero"), 4096)
            .err()
            .map(|failure| failure.message)
            .unwrap_or_default();
        assert!(told.contains("/dev/zero: it is longer than 4096 bytes"), "{told}");
        assert!(read_bounded(Path::new("/dev/null"), 0).is_ok_and(|text| text.is_empty()));
    }
}
