//! `evenkeel run`: the daemon in the foreground.

use std::io::IsTerminal;

use evenkeel_config::Report;
use evenkeel_control::{Signals, Start, serve};

use super::{Exit, Failure, Outcome, RunArguments, read_file};

pub fn run(arguments: &RunArguments) -> Outcome {
    // Standard output may be the access log.
    tracing_subscriber::fmt()
        .with_writer(evenkeel_control::program_log::Tee::default)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    let text = read_file(&arguments.config)?;
    let snapshot = evenkeel_config::read(&text).map_err(|problems| {
        let file = arguments.config.display().to_string();
        eprint!("{}", Report { file: &file, text: &text, problems: &problems });
        Failure::new(Exit::Configuration, "")
    })?;
    let start = Start {
        config: arguments.config.clone(),
        text,
        snapshot,
        no_take_over: arguments.no_take_over,
        drain_timeout: arguments.drain_timeout,
        ends_with_input: arguments.ends_with_input.clone(),
        signals: Signals::Own,
        adopted: Vec::new(),
        shares_ports: false,
        predecessor: None,
        about_to_serve: None,
        ready: None,
        watcher: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(start))
}
