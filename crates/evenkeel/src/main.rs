//! The one binary: the daemon and every command-line verb.

mod cli;

use evenkeel_haproxy as haproxy;

/// Gives memory back to the system after a peak, which that of the C library does not do where a few bytes
/// of a page are in use.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    evenkeel_l4::messages_to_log();
    if haproxy::is_called_so(std::env::args_os().next().as_ref()) {
        return haproxy::main(&texts(1));
    }
    if std::env::args_os().nth(1).is_some_and(|word| word == "haproxy") {
        return haproxy::main(&texts(2));
    }
    match cli::dispatch(cli::arguments()) {
        Ok(()) => cli::Exit::Done.code(),
        Err(failure) => {
            if !failure.message.is_empty() {
                eprintln!("evenkeel: {}", failure.message);
            }
            failure.exit.code()
        }
    }
}

/// The words of the command line from one on.
fn texts(from: usize) -> Vec<String> {
    std::env::args_os().skip(from).map(|word| word.to_string_lossy().into_owned()).collect()
}
