//! What people are told, in HAProxy's form: `[ALERT]    (1234) : config : …`.

use std::io::{IsTerminal, Write};

#[derive(Debug)]
pub struct Messages {
    quiet: bool,
    begun: bool,
    pub alerts: usize,
    pub warnings: usize,
}

impl Messages {
    pub fn new(quiet: bool) -> Messages {
        Messages { quiet, begun: false, alerts: 0, warnings: 0 }
    }

    pub fn alert(&mut self, text: &str) {
        self.alerts += 1;
        self.say("ALERT", text);
    }

    pub fn warning(&mut self, text: &str) {
        self.warnings += 1;
        if !self.quiet {
            self.say("WARNING", text);
        }
    }

    pub fn notice(&mut self, text: &str) {
        if !self.quiet {
            self.say("NOTICE", text);
        }
    }

    fn say(&mut self, level: &str, text: &str) {
        let process = std::process::id();
        if !self.begun {
            self.begun = true;
            let own = env!("CARGO_PKG_VERSION");
            let version = super::VERSION;
            say(&format!("[NOTICE]   ({process}) : haproxy version is {version}-evenkeel-{own}\n"));
        }
        // The level is padded to one width.
        say(&format!("{:<10} ({process}) : {text}\n", format!("[{level}]")));
    }
}

/// A line at once, for whoever reads along.
fn say(line: &str) {
    let _ = std::io::stderr().write_all(line.as_bytes());
}

pub fn log_to_standard_error(level: &str) {
    let level = level.parse().unwrap_or(tracing::level_filters::LevelFilter::WARN);
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_max_level(level)
        .init();
}
