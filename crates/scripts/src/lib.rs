//! Programs of the user's own: checks, alerts, notices of a pair's role.
//!
//! In: what to run. Out: how it ended. They never run as a user that owns this program's socket, keys
//! or configuration: root becomes `nobody`; any other user asks the runner, a service of its own
//! (`evenkeel scripts`), and where none answers nothing is run. They inherit neither environment,
//! groups nor capabilities, and end with everything that they have started, whatever it has done to
//! live on.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getuid, kill_process_group, prlimit};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};

mod strays;

/// Where the runner listens.
pub const RUNNER: &str = "/run/evenkeel-scripts.sock";

const OUTPUT_AT_MOST: u64 = 4096;
const MEMORY_AT_MOST: u64 = 1 << 30;
const SECONDS_AT_MOST: u64 = 30;
const NOBODY: u32 = 65_534;
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
/// Of a question to the runner, and how long it may take to come.
const QUESTION_AT_MOST: u64 = 4 << 20;
const QUESTION_WITHIN: Duration = Duration::from_secs(10);
/// Questions that the runner works on at a time; others wait.
const AT_ONCE: usize = 1024;

/// What to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    pub command: PathBuf,
    pub arguments: Vec<String>,
    /// Beside `PATH`, which it always gets.
    pub environment: Vec<(String, String)>,
    /// Its standard input.
    pub input: String,
    /// Nothing: whoever asks gives up by dropping the question.
    pub limit: Option<Duration>,
    /// What it prints is wanted, and its memory and processor time are bounded.
    pub is_check: bool,
}

/// How it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Nothing where a signal ended it.
    pub code: Option<i32>,
    pub output: String,
}

impl Ended {
    /// For people.
    pub fn in_words(&self) -> String {
        self.code.map_or_else(|| "ended by a signal".into(), |code| format!("exit status {code}"))
    }
}

/// Runs a program to its end. When dropped, the program and its children are ended.
pub async fn run(job: &Job) -> Result<Ended, String> {
    match getuid().is_root() {
        true => here(job).await,
        false => by_runner(job, Path::new(RUNNER)).await,
    }
}

/// The same, for a thread without a runtime.
pub fn run_and_wait(job: &Job) -> Result<Ended, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| e.to_string())?.block_on(run(job))
}

/// Ends the whole group of processes when dropped, however the program ended.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// As a child of this process.
async fn here(job: &Job) -> Result<Ended, String> {
    let failed = |e: std::io::Error| format!("{} cannot be run: {e}", job.command.display());
    let mut command = Command::new(&job.command);
    command.args(&job.arguments).env_clear().env("PATH", PATH).current_dir("/");
    command.envs(job.environment.iter().map(|(name, value)| (name, value)));
    command.stdin(if job.input.is_empty() { Stdio::null() } else { Stdio::piped() });
    command.stdout(if job.is_check { Stdio::piped() } else { Stdio::null() });
    command.stderr(Stdio::null()).process_group(0).kill_on_drop(true);
    if getuid().is_root() {
        // Supplementary groups go with it.
        command.uid(NOBODY).gid(NOBODY);
    }
    let (mut child, _marked) = strays::spawn_marked(&mut command).map_err(failed)?;
    let pid = child.id().and_then(|id| Pid::from_raw(id as i32));
    let group = Group(pid);
    if job.is_check {
        let limit = |most: u64| Rlimit { current: Some(most), maximum: Some(most) };
        let _ = prlimit(pid, Resource::As, limit(MEMORY_AT_MOST));
        let _ = prlimit(pid, Resource::Cpu, limit(SECONDS_AT_MOST));
        let _ = prlimit(pid, Resource::Core, limit(0));
    }
    let ended = match job.limit {
        None => to_its_end(&mut child, &job.input).await,
        Some(limit) => match tokio::time::timeout(limit, to_its_end(&mut child, &job.input)).await {
            Ok(ended) => ended,
            Err(_) => return Err(format!("ended after {} s", limit.as_secs_f32())),
        },
    };
    drop(group);
    ended.map_err(|e| e.to_string())
}

async fn to_its_end(child: &mut Child, input: &str) -> std::io::Result<Ended> {
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    // A program that reads nothing must not hold this up.
    let write = async {
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        std::future::pending::<()>().await;
    };
    let rest = async {
        let mut output = Vec::new();
        if let Some(stdout) = stdout {
            let _ = stdout.take(OUTPUT_AT_MOST).read_to_end(&mut output).await;
        }
        let code = child.wait().await?.code();
        Ok(Ended { code, output: String::from_utf8_lossy(&output).into_owned() })
    };
    tokio::select! {
        ended = rest => ended,
        () = write => unreachable!("it never ends"),
    }
}

/// As a child of the runner.
async fn by_runner(job: &Job, socket: &Path) -> Result<Ended, String> {
    let none = |e: std::io::Error| {
        format!(
            "{} is not run: this program is not root, and no runner of scripts answers at {} ({e}): see `Scripts` in docs/operations.md",
            job.command.display(),
            socket.display()
        )
    };
    let broken = |e: std::io::Error| format!("the runner of scripts: {e}");
    let mut stream = UnixStream::connect(socket).await.map_err(none)?;
    let mut question = serde_json::to_vec(job).map_err(|e| e.to_string())?;
    question.push(b'\n');
    stream.write_all(&question).await.map_err(broken)?;
    let mut answer = Vec::new();
    // The connection stays open until the end: closing it ends the program.
    (&mut stream).take(QUESTION_AT_MOST).read_to_end(&mut answer).await.map_err(broken)?;
    let ended: Result<Ended, String> =
        serde_json::from_slice(&answer).map_err(|_| "the runner of scripts has ended".to_owned())?;
    ended
}

/// Is the runner: as root its programs are `nobody`'s, else its own user's, which owns nothing.
pub async fn serve(listener: UnixListener) -> std::io::Result<()> {
    strays::is_runner();
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return Ok(()) };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // A limit of this machine; the next try may find room.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        tokio::spawn(async move {
            let _place = place;
            answer(stream).await;
        });
    }
}

async fn answer(mut stream: UnixStream) {
    let Ok(Some(job)) = tokio::time::timeout(QUESTION_WITHIN, question(&mut stream)).await else { return };
    let (mut far, mut near) = stream.split();
    let mut byte = [0];
    let ended = tokio::select! {
        ended = here(&job) => ended,
        // Whoever asked has gone.
        _ = far.read(&mut byte) => return,
    };
    let text = serde_json::to_vec(&ended).unwrap_or_default();
    let _ = near.write_all(&text).await;
}

async fn question(stream: &mut UnixStream) -> Option<Job> {
    let mut text = Vec::new();
    let mut limited = stream.take(QUESTION_AT_MOST);
    let mut some = [0; 4096];
    while text.last() != Some(&b'\n') {
        match limited.read(&mut some).await {
            Ok(count) if count > 0 => text.extend_from_slice(&some[..count]),
            _ => return None,
        }
    }
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A folder that everybody may read, with a script in it.
    fn script(test: &str, text: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("evenkeel-scripts-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        let file = folder.join("script");
        std::fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        file
    }

    fn check(command: PathBuf) -> Job {
        Job { command, is_check: true, ..Job::default() }
    }

    async fn run_here(job: &Job) -> Ended {
        // A file that another thread's child had open for writing in the moment of its start.
        loop {
            match here(job).await {
                Err(busy) if busy.contains("Text file busy") => tokio::task::yield_now().await,
                ended => return ended.unwrap(),
            }
        }
    }

    #[tokio::test]
    async fn a_script_has_nothing_of_this_program() {
        // A socket of this program's, and a secret of its user's.
        let _socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let file = script(
            "nothing",
            "id -u; id -G; env | grep -v '^_=' | cut -d= -f1 | sort | tr '\\n' ' '; echo; ls -l /proc/$$/fd | grep -c -E 'socket|secret'; pwd; cat \"$1\" && echo READ",
        );
        let secret = file.with_file_name("secret");
        std::fs::write(&secret, "key").unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        let _open = std::fs::File::open(&secret).unwrap();
        let mut job = check(file);
        job.arguments = vec![secret.display().to_string()];
        let ended = run_here(&job).await;
        let lines: Vec<&str> = ended.output.lines().collect();
        assert_eq!(lines[2..5], ["PATH PWD ", "0", "/"], "{ended:?}");
        if getuid().is_root() {
            assert_eq!((lines[0], lines[1]), ("65534", "65534"), "{ended:?}");
            assert!(!ended.output.contains("READ"), "{ended:?}");
        }
    }

    #[tokio::test]
    async fn the_runner_runs_and_ends_with_whoever_asked() {
        let file = script("runner", "echo \"$1 $WORD\"; cat; exit 7");
        let socket = file.with_file_name("runner.sock");
        let _ = std::fs::remove_file(&socket);
        let runner = tokio::spawn(serve(UnixListener::bind(&socket).unwrap()));
        let mut job = check(file.clone());
        job.arguments = vec!["first".into()];
        job.environment = vec![("WORD".into(), "second".into())];
        job.input = "third\nline".into();
        let ended = by_runner(&job, &socket).await.unwrap();
        assert_eq!(ended, Ended { code: Some(7), output: "first second\nthird\nline".into() });
        assert!(by_runner(&check("/nowhere".into()), &socket).await.unwrap_err().contains("/nowhere"));

        let fifo = file.with_file_name("fifo");
        let _ = std::fs::remove_file(&fifo);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
        std::fs::set_permissions(&fifo, std::fs::Permissions::from_mode(0o666)).unwrap();
        let slow = script("runner-slow", "exec 3>\"$1\"; echo >&3; sleep 600 & sleep 600");
        let mut job = check(slow);
        job.arguments = vec![fifo.display().to_string()];
        let asked = tokio::spawn(async move { by_runner(&job, &socket).await });
        // The script has the other end of the pipe while it lives: its end is this one's end of file.
        let mut pipe = tokio::net::unix::pipe::OpenOptions::new().open_receiver(&fifo).unwrap();
        let mut first = [0];
        while pipe.read(&mut first).await.unwrap() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        asked.abort();
        let mut rest = Vec::new();
        pipe.read_to_end(&mut rest).await.unwrap();
        runner.abort();
    }

    #[tokio::test]
    async fn without_a_runner_nothing_is_run() {
        let why = by_runner(&check("/bin/true".into()), Path::new("/nowhere.sock")).await.unwrap_err();
        assert!(why.starts_with("/bin/true is not run"), "{why}");
    }

    /// Each way of living on that a program of its own can find: a session of its own, a parent that has
    /// gone, deaf ears, no descriptors, limits as low as can be, and forking without an end.
    #[tokio::test]
    async fn what_a_script_leaves_behind_ends_with_it() {
        let ways = [
            ("setsid", "setsid sleep 600 <&- >&- 2>&- &"),
            ("orphan", "(setsid sleep 600 <&- >&- 2>&- &)"),
            ("deaf", "(setsid sh -c 'trap \"\" TERM HUP INT; while :; do sleep 600; done' <&- >&- 2>&- &)"),
            ("limits", "(ulimit -S -n 3; ulimit -t 1; setsid sleep 600 <&- >&- 2>&- &)"),
            ("tree", "(setsid sh -c '(setsid sleep 600 & ); setsid sleep 600' <&- >&- 2>&- &)"),
            ("comet", "(setsid sh -c 'f() { f & }; f; exec sleep 600' <&- >&- 2>&- &)"),
        ];
        for (name, way) in ways {
            for (end, limit) in [("exit 0", None), ("sleep 600", Some(Duration::from_millis(400)))] {
                let file = script(&format!("strays-{name}"), &format!("{way}\nsleep 0.1\n{end}"));
                let mut job = check(file);
                let word = format!("{name}-{}", std::process::id());
                job.environment = vec![("STRAY".into(), word.clone())];
                job.limit = limit;
                let seen =
                    tokio::spawn(async move { while here(&job).await.is_err_and(|e| e.contains("busy")) {} });
                tokio::time::sleep(Duration::from_millis(60)).await;
                let before = with_word(&word);
                seen.await.unwrap();
                let started = std::time::Instant::now();
                while with_word(&word) > 0 {
                    assert!(started.elapsed() < Duration::from_secs(5), "{name}, {end}: lives on");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                assert!(before > 0 || name == "comet", "{name}, {end}: has never lived");
            }
        }
    }

    /// Processes that have the word in their environment.
    fn with_word(word: &str) -> usize {
        let has = |environment: Vec<u8>| environment.windows(word.len()).any(|part| part == word.as_bytes());
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        processes.filter(|at| std::fs::read(at.path().join("environ")).is_ok_and(has)).count()
    }

    #[tokio::test]
    async fn a_script_that_ends_takes_nothing_of_others_along() {
        let short = script("others-short", "exit 0");
        let long = script("others-long", "(setsid sh -c 'sleep 0.5; echo late' &) ; sleep 0.8; echo done");
        let job = check(long);
        let long = tokio::spawn(async move { run_here(&job).await });
        let mut other = Command::new("sleep").arg("600").kill_on_drop(true).spawn().unwrap();
        for _ in 0..20 {
            run_here(&check(short.clone())).await;
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert!(other.try_wait().unwrap().is_none(), "no script");
        assert_eq!(long.await.unwrap().output, "late\ndone\n");
    }

    #[tokio::test]
    async fn one_that_reads_nothing_and_never_ends_is_ended() {
        let mut job = check(script("deaf", "sleep 600"));
        job.input = "x".repeat(1 << 20);
        job.limit = Some(Duration::from_millis(200));
        assert!(here(&job).await.unwrap_err().contains("ended after"));
    }
}
