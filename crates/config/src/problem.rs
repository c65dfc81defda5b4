//! What is wrong in a file: where, what was expected, what to write instead.

use std::fmt;
use std::ops::Range;

/// One mistake. `span` is in bytes of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub span: Range<usize>,
    pub message: String,
    pub help: Option<String>,
}

impl Problem {
    pub fn new(span: Range<usize>, message: impl Into<String>) -> Problem {
        Problem { span, message: message.into(), help: None }
    }

    pub fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }
}

/// Problems beside the text they are about, for people: file, line, column, caret, help.
#[derive(Debug)]
pub struct Report<'a> {
    pub file: &'a str,
    pub text: &'a str,
    pub problems: &'a [Problem],
}

impl Report<'_> {
    /// Line and column of a byte offset, both from 1; the column counts characters.
    pub fn place(&self, offset: usize) -> (usize, usize) {
        let offset = offset.min(self.text.len());
        let before = &self.text.as_bytes()[..offset];
        let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
        (line, column)
    }

    fn source_line(&self, offset: usize) -> (usize, &str) {
        let offset = offset.min(self.text.len());
        let start = self.text[..offset].rfind('\n').map_or(0, |i| i + 1);
        let end = self.text[start..].find('\n').map_or(self.text.len(), |i| start + i);
        (start, self.text[start..end].trim_end_matches('\r'))
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_AT_MOST: usize = 50;
        const WIDEST_LINE: usize = 160;
        for problem in self.problems.iter().take(SHOWN_AT_MOST) {
            let mut start = problem.span.start.min(self.text.len());
            while !self.text.is_char_boundary(start) {
                start -= 1;
            }
            let (line, column) = self.place(start);
            let (line_start, source) = self.source_line(start);
            writeln!(f, "{}:{line}:{column}: error: {}", self.file, problem.message)?;
            let shown: String =
                source.chars().take(WIDEST_LINE).map(|c| if c.is_control() { ' ' } else { c }).collect();
            let gutter = line.to_string();
            writeln!(f, "{gutter} | {shown}")?;
            let in_line = problem.span.end.min(line_start + source.len()).max(start);
            let width = self.text.get(start..in_line).map_or(1, |s| s.chars().count()).max(1);
            if column <= WIDEST_LINE {
                let (pad, carets) = (column - 1, width.min(WIDEST_LINE - column + 1));
                let blank = " ".repeat(gutter.len());
                writeln!(f, "{blank} | {}{}", " ".repeat(pad), "^".repeat(carets))?;
            }
            if let Some(help) = &problem.help {
                writeln!(f, "{} = help: {help}", " ".repeat(gutter.len()))?;
            }
        }
        match self.problems.len() {
            1 => writeln!(f, "1 error in {}", self.file),
            n if n > SHOWN_AT_MOST => {
                writeln!(f, "{n} errors in {}, the first {SHOWN_AT_MOST} are shown", self.file)
            }
            n => writeln!(f, "{n} errors in {}", self.file),
        }
    }
}
