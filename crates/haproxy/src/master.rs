//! The master's own socket (`-S`): which processes there are, `reload`, and `@1 COMMAND` for the worker
//! (HAProxy's management guide, section 9.4).

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, oneshot};

use evenkeel_admin::connected::Conversation;

use super::sockets::Door;
use super::{process, talk};

/// Silence after which a client is let go.
const IDLE: Duration = Duration::from_secs(600);
/// How long a worker may take for an answer.
const ANSWER: Duration = Duration::from_secs(60);
/// A line, and a text behind `<<`.
const LONGEST: u64 = 1 << 20;
/// Clients at once.
const CLIENTS: usize = 32;

const HELP: &str = "The following commands are valid at this level:
  @!<pid> <command>                       : send a command to the <pid> process
  @<relative pid> <command>               : send a command to the <relative pid> process
  @master <command>                       : send a command to the master process
  help                                    : list the commands
  operator, user                          : taken; the socket's file says who may come
  prompt                                  : toggle interactive mode with prompt
  quit                                    : disconnect
  reload                                  : reload haproxy
  show cli level                          : display the level of the current CLI session
  show proc                               : show processes status
  show version                            : show version of the current process
";

/// A worker, since when it is there, and after how many reloads it was started.
#[derive(Clone, Copy, Debug)]
pub struct Worker {
    pub pid: u32,
    since: Instant,
    made_after: u32,
}

/// What the master knows of its workers.
#[derive(Debug)]
pub struct Workers {
    started: Instant,
    reloads: u32,
    current: Worker,
    old: Vec<Worker>,
}

impl Workers {
    pub fn of(pid: u32) -> Workers {
        let now = Instant::now();
        let current = Worker { pid, since: now, made_after: 0 };
        Workers { started: now, reloads: 0, current, old: Vec::new() }
    }

    /// A new worker serves.
    pub fn replaced(&mut self, pid: u32) {
        self.reloads += 1;
        let fresh = Worker { pid, since: Instant::now(), made_after: self.reloads };
        self.old.push(std::mem::replace(&mut self.current, fresh));
    }

    /// Old workers that are still there.
    pub fn keep(&mut self, pids: &[u32]) {
        self.old.retain(|worker| pids.contains(&worker.pid));
    }

    /// `show proc`.
    fn table(&self, master: u32) -> String {
        let version = format!("{}-evenkeel-{}", super::VERSION, env!("CARGO_PKG_VERSION"));
        let line = |pid: u32, kind: &str, reloads: u32, since: Instant| {
            let seconds = since.elapsed().as_secs();
            let (day, hour, minute) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
            let uptime = format!("{day}d{hour:02}h{minute:02}m{:02}s", seconds % 60);
            format!("{pid:<15} {kind:<15} {reloads:<15} {uptime:<15} {version:<15}\n")
        };
        let of = |worker: &Worker| {
            line(worker.pid, "worker", self.reloads.saturating_sub(worker.made_after), worker.since)
        };
        let mut out = format!(
            "#{:<14} {:<15} {:<15} {:<15} {:<15}\n",
            "<PID>", "<type>", "<reloads>", "<uptime>", "<version>"
        );
        out += &line(master, "master", self.reloads, self.started);
        out += "# workers\n";
        out += &of(&self.current);
        if !self.old.is_empty() {
            out += "# old workers\n";
            self.old.iter().for_each(|worker| out += &of(worker));
        }
        out + "# programs\n"
    }

    /// The process that `@1`, `@2` or `@!PID` means.
    fn named(&self, name: &str) -> Option<u32> {
        let all = || [self.current].into_iter().chain(self.old.iter().copied());
        match name.strip_prefix('!') {
            Some(pid) => all().map(|worker| worker.pid).find(|known| pid.parse() == Ok(*known)),
            None => (name.parse::<u32>() == Ok(1)).then_some(self.current.pid),
        }
    }
}

/// What sessions share with the loop that attends to the workers.
#[derive(Clone)]
pub struct Master {
    pub workers: Arc<Mutex<Workers>>,
    /// Wishes for a reload; each is told whether it came about.
    pub reload: mpsc::Sender<oneshot::Sender<bool>>,
}

/// Where a worker hears from its master.
pub fn worker_socket(pid: u32) -> PathBuf {
    process::folder(pid).join("worker.sock")
}

pub fn serve(door: Door, master: Master) {
    door.serve(CLIENTS, move |stream, conversation| {
        let master = master.clone();
        async move { session(stream, &master, &conversation).await }
    });
}

/// What a line asks of the master, and what of a worker.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Own(String),
    /// The process by its name, and all that it is to do.
    Worker(String, String),
}

/// `@1; show info; show stat`: from a name on, commands are for that process. `bound` stays for later lines.
fn parts(line: &str, bound: &mut Option<String>) -> Vec<Part> {
    let mut out: Vec<Part> = Vec::new();
    for command in crate::commands::split_commands(line) {
        let command = command.trim();
        let (mut to, mut text) = (bound.clone(), command);
        if let Some(rest) = command.strip_prefix('@') {
            let (name, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            to = (name != "master" && name != "0").then(|| name.to_owned());
            text = after.trim();
            if text.is_empty() {
                bound.clone_from(&to);
            }
        }
        match (to, out.last_mut()) {
            _ if text.is_empty() => {}
            (Some(name), Some(Part::Worker(last, commands))) if *last == name => {
                commands.push(';');
                commands.push_str(text);
            }
            (Some(name), _) => out.push(Part::Worker(name, text.to_owned())),
            (None, _) => out.push(Part::Own(text.to_owned())),
        }
    }
    out
}

async fn session<S>(stream: S, master: &Master, conversation: &Conversation)
where
    S: AsyncRead + AsyncWrite,
{
    let (reader, mut writer) = tokio::io::split(stream);
    let mut reader = BufReader::new(reader);
    let (mut prompt, mut bound) = (false, None);
    loop {
        let mut line = Vec::new();
        let read = tokio::time::timeout(IDLE, (&mut reader).take(LONGEST).read_until(b'\n', &mut line)).await;
        if !matches!(read, Ok(Ok(count)) if count > 0) {
            return;
        }
        let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
        if talk::is_of_http(&text) {
            return;
        }
        let payload = match super::certificates::wants_payload(&text) {
            false => String::new(),
            // The worker knows its end by the empty line, too.
            true => match talk::payload(&mut reader, IDLE).await {
                Some(payload) => payload + "\n",
                None => return,
            },
        };
        conversation.prove();
        let under_way = conversation.begin();
        let (mut out, mut ended) = (Vec::new(), false);
        for part in parts(&text, &mut bound) {
            match part {
                Part::Own(command) if command == "prompt" => prompt = !prompt,
                Part::Own(command) if command == "quit" => ended = true,
                Part::Own(command) => out.extend_from_slice(own(&command, master).await.as_bytes()),
                Part::Worker(name, commands) => out.extend(forward(&name, &commands, &payload, master).await),
            }
        }
        if prompt && !ended {
            let name = bound.as_deref().unwrap_or("master");
            out.extend_from_slice(format!("{name}> ").as_bytes());
        }
        drop(under_way);
        if !talk::give(&mut writer, &out, IDLE).await || ended || !prompt {
            let _ = writer.shutdown().await;
            return;
        }
    }
}

/// Commands of the master itself.
async fn own(command: &str, master: &Master) -> String {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words.as_slice() {
        ["show", "proc", ..] => {
            let workers = master.workers.lock().unwrap_or_else(PoisonError::into_inner);
            workers.table(std::process::id()) + "\n"
        }
        ["reload"] => {
            let (done, told) = oneshot::channel();
            let asked = master.reload.send(done).await.is_ok();
            let good = asked && told.await.unwrap_or(false);
            format!("Success={}\n\n", u8::from(good))
        }
        ["show", "version"] => format!("{}-evenkeel-{}\n\n", super::VERSION, env!("CARGO_PKG_VERSION")),
        ["show", "cli", "level"] => "admin\n\n".to_owned(),
        ["operator" | "user" | "expert-mode" | "experimental-mode" | "mcli-debug-mode", ..] => {
            "\n".to_owned()
        }
        ["help", ..] => format!("{HELP}\n"),
        _ => format!("Unknown command: '{command}', but the command list is:\n{HELP}\n"),
    }
}

/// What a worker answers.
async fn forward(name: &str, commands: &str, payload: &str, master: &Master) -> Vec<u8> {
    let pid = master.workers.lock().unwrap_or_else(PoisonError::into_inner).named(name);
    let Some(pid) = pid else {
        return format!("Can't find the target PID matching the prefix '@{name}'\n\n").into();
    };
    let asked = async {
        let mut stream = tokio::net::UnixStream::connect(worker_socket(pid)).await?;
        stream.write_all(commands.as_bytes()).await?;
        stream.write_all(b"\n").await?;
        stream.write_all(payload.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(Ok(answer)) => answer,
        _ => b"Can't connect to the target CLI!\n\n".to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_go_to_the_process_that_is_named() {
        let own = |text: &str| Part::Own(text.into());
        let worker = |name: &str, text: &str| Part::Worker(name.into(), text.into());
        let mut bound = None;
        assert_eq!(
            parts("show proc; @1 show info", &mut bound),
            [own("show proc"), worker("1", "show info")]
        );
        assert_eq!(
            parts("@!12 show info; show proc", &mut bound),
            [worker("!12", "show info"), own("show proc")]
        );
        assert_eq!(parts("@1; show info; show stat", &mut bound), [worker("1", "show info;show stat")]);
        // What was named alone stays.
        assert_eq!(parts("show stat", &mut bound), [worker("1", "show stat")]);
        assert_eq!(parts("@master show proc", &mut bound), [own("show proc")]);
        assert_eq!(parts("@master; show proc; ;", &mut bound), [own("show proc")]);
        assert_eq!(bound, None);
    }

    #[test]
    fn processes_are_told_as_haproxy_tells_them() {
        let mut workers = Workers::of(20);
        workers.replaced(30);
        workers.replaced(40);
        workers.keep(&[20]);
        let text = workers.table(10);
        let rows: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
        assert_eq!(rows[0], ["#<PID>", "<type>", "<reloads>"]);
        assert_eq!(rows[1], ["10", "master", "2"]);
        assert_eq!(rows[3], ["40", "worker", "0"]);
        assert_eq!(rows[5], ["20", "worker", "2"]);
        assert_eq!(
            (workers.named("1"), workers.named("!20"), workers.named("!30")),
            (Some(40), Some(20), None)
        );
        assert_eq!((workers.named("2"), workers.named("x")), (None, None));
    }
}
