//! The one binary: the daemon and every command-line verb.

mod cli;
mod daemon;

use clap::Parser;

fn main() -> std::process::ExitCode {
    let arguments = cli::Arguments::parse();
    match cli::dispatch(arguments) {
        Ok(()) => cli::Exit::Done.code(),
        Err(failure) => {
            if !failure.message.is_empty() {
                eprintln!("evenkeel: {}", failure.message);
            }
            failure.exit.code()
        }
    }
}
