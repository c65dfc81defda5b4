//! `evenkeel haproxy -f haproxy.cfg`: HAProxy's command line, configuration, stats socket and page.
//!
//! The configuration is translated into Evenkeel's own and run by the daemon; everything here only
//! speaks HAProxy's words. What could not be translated is an error, unless nothing is lost.

mod arguments;
mod certificates;
mod commands;
mod journal;
mod maps;
mod master;
mod messages;
mod page;
mod process;
mod prometheus;
mod sample;
mod servers;
mod sockets;
mod ssl;
mod statistics;
mod stick_table;
mod talk;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_import::{Running, Severity, Source, SourceKind};
use evenkeel_model::Snapshot;

use arguments::{Arguments, USAGE};
use evenkeel_control as control;
use messages::Messages;
use sample::Known;

/// Whose configurations are understood, and whose words are spoken.
pub const VERSION: &str = "2.6.0";

/// Under this name the program takes HAProxy's command line.
pub fn is_called_so(program: Option<&std::ffi::OsString>) -> bool {
    let name = program.map(Path::new).and_then(Path::file_name);
    name.is_some_and(|name| name == "haproxy")
}

pub fn main(words: &[String]) -> ExitCode {
    let arguments = match arguments::parse(words) {
        Ok(arguments) => arguments,
        Err(why) => {
            eprint!("{why}\n{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    if arguments.help || words.is_empty() {
        print!("{USAGE}");
        return ExitCode::from(u8::from(words.is_empty()));
    }
    if let Some(level) = arguments.version {
        print_version(level);
        return ExitCode::SUCCESS;
    }
    // The process before has told what differs.
    let again = process::is_worker() || process::is_background();
    let mut messages = Messages::new(arguments.quiet || again);
    let variables: BTreeMap<String, String> = std::env::vars().collect();
    if let Some(condition) = &arguments.condition {
        return match evenkeel_import::condition_holds(condition, &variables) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(why) => {
                messages.alert(&format!("config : -cc: {why}"));
                ExitCode::FAILURE
            }
        };
    }
    match start(&arguments, variables, &mut messages) {
        Ok(code) => code,
        Err(why) => {
            if !why.is_empty() {
                messages.alert(&why);
            }
            ExitCode::FAILURE
        }
    }
}

fn print_version(level: u8) {
    let own = env!("CARGO_PKG_VERSION");
    println!(
        "HAProxy version {VERSION}-evenkeel-{own} - Evenkeel {own}, which speaks HAProxy's configuration"
    );
    if level > 1 {
        println!("Status: configurations of HAProxy 2.6 and before are translated and run by Evenkeel.");
        println!("What is not supported is refused with its line; see docs/haproxy.md.");
        println!("Available services : none\nAvailable filters : none");
    }
}

/// Reads, translates, and either checks or runs.
fn start(
    arguments: &Arguments,
    mut variables: BTreeMap<String, String>,
    messages: &mut Messages,
) -> Result<ExitCode, String> {
    if let Some(folder) = &arguments.directory {
        process::change_folder(folder)?;
    }
    let sources = read(&arguments.files)?;
    if sources.is_empty() {
        eprint!("{USAGE}");
        return Err(String::new());
    }
    let names: Vec<&str> = sources.iter().map(|s| s.file.as_str()).collect();
    variables.insert("HAPROXY_CFGFILES".into(), names.join(";"));
    let local = arguments.local_peer.clone().unwrap_or_else(process::host_name);
    variables.insert("HAPROXY_LOCALPEER".into(), local);
    variables.entry("HAPROXY_STARTUP_VERSION".into()).or_insert_with(|| VERSION.into());

    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let _inside = runtime.enter();
    let secret = process::random_word();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    let stats = listener.local_addr().map_err(|e| e.to_string())?;
    let mut sockets = sockets::Sockets::default();
    let places = sockets.places(&sources, &variables, (stats, secret.clone()), arguments.check)?;
    let mut running = evenkeel_import::running(&sources, &variables, places);
    print_changes(&running, messages);
    let folder = process::folder(std::process::id());
    finish_text(&mut running, arguments, &folder);
    // What lacks a line that was refused has no fault of its own.
    let snapshot = if messages.alerts > 0 { None } else { checked(&running, messages) };
    let failed =
        messages.alerts > 0 || (arguments.strict || running.process.zero_warning) && messages.warnings > 0;
    let snapshot = match snapshot {
        Some(snapshot) if !failed => snapshot,
        _ => {
            for file in &names {
                messages.alert(&format!("config : Error(s) found in configuration file : {file}"));
            }
            messages.alert("config : Fatal errors found in configuration.");
            return Ok(ExitCode::FAILURE);
        }
    };
    if arguments.check {
        if messages.warnings > 0 && !arguments.quiet {
            println!("Warnings were found.");
        }
        if !arguments.quiet {
            println!("Configuration file is valid");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let background = arguments.daemon || running.process.daemon && !arguments.foreground;
    if (arguments.master_worker || running.process.master_worker) && !process::is_worker() {
        drop(listener);
        return process::run_master(arguments, &runtime, background, running.process.pidfile.as_deref());
    }
    if background && !process::is_background() && !process::is_worker() {
        drop(listener);
        return process::go_to_background(arguments, running.process.pidfile.as_deref());
    }
    if process::is_worker() {
        process::end_with_the_master();
    }
    sockets.open_listeners()?;
    let page = page::Page::new(listener, secret)?;
    run(arguments, &runtime, running, snapshot, sockets, page, folder)
}

/// Every file, and those that end in `.cfg` of every folder, in the order of their names.
fn read(files: &[PathBuf]) -> Result<Vec<Source>, String> {
    let mut all = Vec::new();
    for file in files {
        let failed = |e: std::io::Error| {
            format!("config : Could not open configuration file {} : {e}", file.display())
        };
        if !file.is_dir() {
            all.push(file.clone());
            continue;
        }
        let mut found: Vec<PathBuf> = std::fs::read_dir(file)
            .map_err(failed)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "cfg"))
            .collect();
        found.sort();
        all.extend(found);
    }
    all.iter()
        .map(|file| {
            let text = std::fs::read(file).map_err(|e| {
                format!("config : Could not open configuration file {} : {e}", file.display())
            })?;
            let text = String::from_utf8_lossy(&text).into_owned();
            Ok(Source { kind: SourceKind::Haproxy, file: file.display().to_string(), text })
        })
        .collect()
}

/// What is wrong, lost or different, in HAProxy's form.
fn print_changes(running: &Running, messages: &mut Messages) {
    for left in &running.left {
        let place = format!("config : parsing [{}]", evenkeel_control::text::place(&left.file, left.line));
        match left.severity {
            Severity::Invalid => messages.alert(&format!("{place} : {}", left.consequence)),
            // Nothing to warn of, and -dW counts warnings.
            Severity::Remark => {
                messages.notice(&format!("{place} : '{}' : {}.", left.keyword, left.consequence))
            }
            Severity::Unsupported | Severity::Critical => messages.alert(&format!(
                "{place} : '{}' is known but not supported by Evenkeel: {}.",
                left.keyword, left.consequence
            )),
            Severity::Note => {
                messages.warning(&format!("{place} : '{}' : {}.", left.keyword, left.consequence))
            }
        }
    }
}

/// What the configuration of a process of its own needs beside the services.
fn finish_text(running: &mut Running, arguments: &Arguments, folder: &Path) {
    let quoted = |path: &Path| serde_json::Value::from(path.display().to_string()).to_string();
    let extra = format!(
        "\n[admin]\nsocket = {}\n\n[state]\ndirectory = {}\n\n[graphs]\nsize = \"0\"\n",
        quoted(&folder.join("admin.sock")),
        quoted(&folder.join("state"))
    );
    let memory = arguments.memory_mb.map(|m| ("buffer-memory", format!("\"{}MiB\"", m.max(1))));
    let maxconn = arguments.maxconn.map(|n| ("max-connections", n.to_string()));
    let limits: Vec<(&str, String)> = memory.into_iter().chain(maxconn).collect();
    if !limits.is_empty() && !running.text.contains("\n[limits]\n") {
        running.text.insert_str(0, "\n[limits]\n");
    }
    for (key, value) in limits {
        running.text = with_key(&running.text, key, &format!("{key} = {value}"));
    }
    running.text = format!("{extra}\n{}", running.text);
}

/// The `[limits]` table of a text with one key set.
fn with_key(text: &str, key: &str, line: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for old in text.lines() {
        if old.starts_with('[') {
            inside = old == "[limits]";
        }
        if inside && old.trim_start().starts_with(key) {
            continue;
        }
        out.push_str(old);
        out.push('\n');
        if old == "[limits]" {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// The configuration, and files that it names.
fn checked(running: &Running, messages: &mut Messages) -> Option<Snapshot> {
    let mut snapshot = match evenkeel_config::read(&running.text) {
        Ok(snapshot) => snapshot,
        Err(problems) => {
            for problem in evenkeel_control::text::describe(&running.text, &problems) {
                messages.alert(&format!("config : {}{}", problem.message, near(&running.text, problem.line)));
            }
            return None;
        }
    };
    // HAProxy listens where the machine has an address, and gives it none.
    snapshot.addresses.own_vips = Some(false);
    for error in evenkeel_l7::check_files(&snapshot) {
        messages.alert(&format!("config : {error}"));
    }
    Some(snapshot)
}

/// The line of the translation that has a problem, since the reader knows another text.
fn near(text: &str, line: usize) -> String {
    text.lines().nth(line.saturating_sub(1)).map_or_else(String::new, |l| format!(" (in: {})", l.trim()))
}

fn run(
    arguments: &Arguments,
    runtime: &tokio::runtime::Runtime,
    running: Running,
    snapshot: Snapshot,
    mut sockets: sockets::Sockets,
    page: page::Page,
    folder: PathBuf,
) -> Result<ExitCode, String> {
    // Standard output may be the access log.
    let level = if arguments.debug || arguments.verbose { "info" } else { "warn" };
    messages::log_to_standard_error(level);
    process::make_folder(&folder)?;
    let config = folder.join("evenkeel.toml");
    evenkeel_files::write_atomically(&config, running.text.as_bytes()).map_err(|e| e.to_string())?;
    let (finish, terminate) = process::others(arguments);
    let pids: Vec<u32> = finish.iter().chain(&terminate).copied().collect();
    let predecessor = process::predecessor(arguments, &pids);
    let mut doors = sockets.open_doors(&running.sockets)?;
    if process::is_worker() {
        doors.push((
            sockets.open_private(&master::worker_socket(std::process::id()))?,
            commands::Level::Admin,
        ));
    }
    let text = running.text.clone();
    let adopted = std::mem::take(&mut sockets.adopted);
    let known = Arc::new(Known::new(running, &snapshot));
    let pidfile =
        arguments.pidfile.clone().or_else(|| known.running.process.pidfile.clone().map(PathBuf::from));
    // The master or the parent writes it for its children.
    let pidfile = pidfile
        .filter(|_| !process::is_worker() && !process::is_background() && known.running.process.daemon);
    let watcher = journal::watcher(&known.running.proxies);
    let own = known.clone();
    let published = sockets.to_publish();
    // Who asks from now on is answered by this process, as soon as it serves.
    let about_to_serve = move || {
        if let Err(error) = published.publish() {
            tracing::error!(%error, "a socket's file cannot get its name");
        }
    };
    let ready = move |handle: evenkeel_admin::Handle| {
        own.begin(handle.clone());
        for (door, level) in doors {
            commands::serve(door, level, own.clone());
        }
        page.serve(own.clone());
        if let Some(file) = &pidfile {
            let written = std::fs::write(file, format!("{}\n", std::process::id()));
            if let Err(error) = written {
                tracing::error!(%error, file = %file.display(), "the pid cannot be written");
            }
        }
        process::end_others(&finish, &terminate);
        process::say_ready();
        Ok(())
    };
    let start = control::Start {
        config,
        text,
        snapshot,
        no_take_over: false,
        drain_timeout: Duration::ZERO,
        ends_with_input: None,
        signals: control::Signals::Haproxy,
        adopted,
        shares_ports: !pids.is_empty(),
        predecessor,
        about_to_serve: Some(Box::new(about_to_serve)),
        ready: Some(Box::new(ready)),
        watcher,
    };
    let outcome = runtime.block_on(control::serve(start));
    drop(sockets);
    process::remove_folder(&folder);
    outcome.map(|()| ExitCode::SUCCESS).map_err(|failure| failure.message)
}
