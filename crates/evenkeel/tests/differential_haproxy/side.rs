//! One of the two programs with servers, log and folder of its own; both get the same text but for
//! their addresses.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evenkeel_testbed::{Connection, Place, Process, Scripted, eventually, within};

use crate::case::Case;

/// Where servers listen that every case may name: `S1`, `S2`, `S3`.
const SERVERS: [(&str, u16); 3] = [("S1", 9001), ("S2", 9002), ("S3", 9003)];
/// Nobody listens there.
const DEAD: u16 = 9009;
const LOG: u16 = 5140;
/// The first case's address, and that of its own server.
const FIRST: u16 = 10_000;
const FIRST_OWN: u16 = 20_000;

pub const COMMON: &str = "  mode http\n  log global\n  option httplog\n  timeout connect 2s\n  timeout client 8s\n  timeout server 8s\n";

pub struct Side {
    pub name: &'static str,
    pub place: Place,
    program: fn() -> Command,
    lines: Arc<Mutex<Vec<String>>>,
    /// What the servers that cases have of their own were asked.
    asked: Arc<Mutex<BTreeSet<(usize, String)>>>,
    servers: Vec<Scripted>,
    process: Option<Process>,
}

impl Side {
    pub fn new(name: &'static str, group: &str, program: fn() -> Command) -> Side {
        let place = Place::new(&format!("differential-{group}-{name}"));
        let servers = SERVERS.iter().map(|(_, port)| {
            let called = format!("s{}", port - 9000);
            Scripted::start(place.at(*port), move |stream| echo(stream, &called, |_| ()))
        });
        let servers = servers.collect();
        let lines = Arc::new(Mutex::new(Vec::new()));
        gather(&place, lines.clone());
        Side { name, program, lines, asked: Arc::default(), servers, process: None, place }
    }

    /// The whole text of these cases, and the lines that each has in it.
    pub fn text(&self, cases: &[(usize, &Case)]) -> (String, Vec<(usize, usize)>) {
        let log = self.place.at(LOG);
        let stats = self.place.file("stats.sock");
        let mut text = format!(
            "global\n  stats socket {} mode 600 level admin\n  log {log} local0\ndefaults\n{COMMON}",
            stats.display()
        );
        let mut ranges = Vec::new();
        for (number, case) in cases {
            let from = text.lines().count() + 1;
            text.push_str(&self.filled(*number, &case.config));
            if !text.ends_with('\n') {
                text.push('\n');
            }
            ranges.push((from, text.lines().count()));
            if case.config.contains("defaults") {
                text.push_str(&format!("defaults again{number}\n{COMMON}"));
            }
        }
        (text, ranges)
    }

    fn filled(&self, number: usize, config: &str) -> String {
        let mut text = config.replace("@@", &case_name(number));
        let at = |port: u16| self.place.at(port).to_string();
        text = text.replace("BIND2", &at(FIRST + 5000 + number as u16));
        text = text.replace("BIND", &at(FIRST + number as u16));
        text = text.replace("OWN", &at(FIRST_OWN + number as u16));
        text = text.replace("DEAD", &at(DEAD)).replace("FOLDER", &self.place.folder().display().to_string());
        for (token, port) in SERVERS {
            // A word of its own, not the one in HS256.
            text = text.split(token).fold(String::new(), |out, part| match out.chars().next_back() {
                None => part.to_owned(),
                Some(before) if before.is_ascii_alphanumeric() => out + token + part,
                Some(_) => out + &at(port) + part,
            });
        }
        text
    }

    pub fn command(&self) -> Command {
        let mut command = (self.program)();
        command.stdin(Stdio::null()).env("FOLDER", self.place.folder());
        command
    }

    /// What the program says of a text without running it: the end and the messages.
    pub fn check(&self, text: &str) -> (bool, String) {
        let file = self.place.write("checked.cfg", text);
        let output = self.command().arg("-c").arg("-f").arg(file).output().expect("it runs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), error)
    }

    pub fn start(&mut self, cases: &[(usize, &Case)]) {
        for (number, case) in cases {
            if case.config.contains("OWN") {
                let (number, asked) = (*number, self.asked.clone());
                let address = self.place.at(FIRST_OWN + number as u16);
                let heard = move |head: &str| {
                    asked.lock().expect("unpoisoned").insert((number, head.to_owned()));
                };
                self.servers.push(Scripted::start(address, move |stream| echo(stream, "own", &heard)));
            }
        }
        let (text, _) = self.text(cases);
        let file = self.place.write("run.cfg", text);
        let log = std::fs::File::create(self.place.file("output.log")).expect("a log");
        let mut command = self.command();
        command.arg("-db").arg("-f").arg(file).stdout(Stdio::null()).stderr(log);
        self.process = Some(Process::start(&mut command));
        let last = cases.last().map_or(0, |(number, _)| *number);
        let limit = Duration::from_secs(60);
        eventually(&format!("{} serves", self.name), limit, || {
            let served = TcpStream::connect(self.place.at(FIRST + last as u16)).is_ok();
            let ended = self.process.as_mut().is_some_and(Process::has_ended);
            let said = || std::fs::read_to_string(self.place.file("output.log")).unwrap_or_default();
            assert!(!ended, "{} ended: {}", self.name, said());
            served && self.place.file("stats.sock").exists()
        });
    }

    /// What clients of a case get, one answer a request.
    pub fn answers(&self, number: usize, case: &Case) -> Vec<String> {
        let address = self.place.at(FIRST + number as u16);
        let mut connection: Option<Connection> = None;
        let each = case.asks.iter().map(|ask| {
            let ask = ask.replace("BIND", &address.to_string());
            let method = ask.split(' ').next().unwrap_or("GET").to_owned();
            let mut open = connection.take().unwrap_or_else(|| Connection::open(address));
            open.send(&ask);
            let answer = open.answer_to(&method);
            let Some(answer) = answer else { return "no answer".to_owned() };
            // A connection for each request unless the case is about them.
            if case.keeps && !answer.head.to_ascii_lowercase().contains("connection: close") {
                connection = Some(open);
            }
            let head = self.head(&answer.head);
            let body = answer.text();
            if head.contains("\nx-server: ")
                || body.split("\r\n").next().is_some_and(|l| l.contains(" HTTP/1."))
            {
                return self.plain(&format!("{head}\n{}", self.head(&body)));
            }
            self.plain(&of_itself(&head, &answer.text()))
        });
        each.collect()
    }

    /// A head whose order of fields and case of names do not matter.
    fn head(&self, text: &str) -> String {
        let Some((first, rest)) = text.split_once("\r\n") else { return text.to_owned() };
        let (fields, body) = rest.split_once("\r\n\r\n").unwrap_or((rest, ""));
        let mut fields: Vec<String> = fields
            .lines()
            .filter_map(|line| {
                let (name, value) = line.split_once(':')?;
                Some(format!("{}: {}", name.to_ascii_lowercase(), value.trim()))
            })
            .filter(|line| {
                !["content-length: ", "connection: ", "transfer-encoding: "]
                    .iter()
                    .any(|name| line.starts_with(name))
            })
            .collect();
        fields.sort_by(|a, b| a.split(':').next().cmp(&b.split(':').next()));
        // Whole addresses of proxies' clients go on without their scheme and host, and 1.0 as 1.1.
        let path = |target: &str| match target.strip_prefix("http://") {
            Some(rest) => rest[rest.find('/').unwrap_or(rest.len())..].to_owned(),
            None => target.to_owned(),
        };
        let first = first.split(' ').take(2).map(path).collect::<Vec<_>>().join(" ");
        format!("{first}\n{}\n{body}", fields.join("\n"))
    }

    /// A text without what differs between the sides anyhow.
    fn plain(&self, text: &str) -> String {
        let address = self.place.at(1).ip().to_string();
        text.replace(&address, "HERE").replace(&self.place.folder().display().to_string(), "FOLDER")
    }

    /// What the servers of its own were asked, each kind of request once.
    pub fn asked(&self, number: usize) -> Vec<String> {
        let asked = self.asked.lock().expect("unpoisoned");
        let heads = asked.iter().filter(|(n, _)| *n == number).map(|(_, head)| self.plain(&self.probe(head)));
        heads.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// What a check asks: each program names itself, and one of them its server's address.
    fn probe(&self, head: &str) -> String {
        let (proxy, head) = match head.split_once("\r\n") {
            Some((first, rest)) if first.starts_with("PROXY ") => ("PROXY\n", rest),
            _ => ("", head),
        };
        let own = format!("host: {}", self.place.at(1).ip());
        let head = self.head(head);
        let kept = head.lines().filter(|line| {
            !["user-agent: ", "accept: ", own.as_str()].iter().any(|name| line.starts_with(name))
                && !line.is_empty()
        });
        format!("{proxy}{}", kept.collect::<Vec<_>>().join("\n"))
    }

    /// The parts of the log's lines of a case that do not depend on time.
    pub fn logged(&self, number: usize, count: usize) -> Vec<String> {
        let marks = [format!(" {} ", case_name(number)), format!(" {}~ ", case_name(number))];
        let found = || {
            let lines = self.lines.lock().expect("unpoisoned");
            let of_case = |line: &&String| marks.iter().any(|mark| line.contains(mark));
            let of_requests =
                |line: &&String| !line.contains("<BADREQ>") && !line.contains("has no server available");
            let own = lines.iter().filter(of_case).filter(of_requests);
            let mut own: Vec<String> = own.map(|line| self.plain(&stable(line))).collect();
            own.sort();
            own
        };
        within(Duration::from_secs(3), || found().len() >= count);
        found()
    }

    /// Asks the stats socket.
    pub fn ask(&self, command: &str) -> String {
        let mut stream = UnixStream::connect(self.place.file("stats.sock")).expect("a stats socket");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
        writeln!(stream, "{command}").expect("it is asked");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("it answers");
        text
    }
}

pub fn case_name(number: usize) -> String {
    format!("c{number:03}x")
}

/// An answer that no server gave: both programs have pages and fields of their own.
fn of_itself(head: &str, body: &str) -> String {
    let head = head.replacen("HTTP/1.0", "HTTP/1.1", 1);
    let status = head.split([' ', '\n']).nth(1).unwrap_or("");
    let page = body.trim_start().starts_with("<html><body><h1>")
        || body.trim_start().starts_with(&format!("{status} "))
        || body.trim().is_empty() && head.contains("\nlocation: ");
    let own =
        |line: &&str| line.starts_with("cache-control: no-") || page && line.starts_with("content-type: ");
    let kept: Vec<&str> = head.lines().filter(|line| !own(line) && !line.is_empty()).collect();
    format!("{}\n{}", kept.join("\n"), if page { "" } else { body })
}

/// Lines of the log as they come.
fn gather(place: &Place, lines: Arc<Mutex<Vec<String>>>) {
    let socket = UdpSocket::bind(place.at(LOG)).expect("a socket for the log");
    // The thread ends with the test's process.
    std::thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok(count) = socket.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            lines.lock().expect("unpoisoned").push(text);
        }
    });
}

/// `httplog` or `tcplog` without client, date, times, bytes and counts of connections.
fn stable(line: &str) -> String {
    let text = line.split_once("]: ").map_or(line, |(_, text)| text).trim();
    let words: Vec<&str> = text.split_once("] ").map_or(Vec::new(), |(_, rest)| rest.split(' ').collect());
    if let [frontend, target, times, _, ending, _, _] = words[..]
        && times.matches('/').count() == 2
    {
        return format!("{frontend} {target} {ending}");
    }
    if words.len() < 10 {
        return text.to_owned();
    }
    let times: Vec<&str> = words[2].split('/').map(|t| if t == "-1" { "-1" } else { "T" }).collect();
    let retries = words[8].rsplit('/').next().unwrap_or("");
    // Who refused is told by one letter or another, and without a server under one name or another.
    let target = if words[1].ends_with("/<NOSRV>") { "<NOSRV>" } else { words[1] };
    let ending = words[7].replacen("LR", "PR", 1);
    let times = if ending.starts_with("PH") { String::new() } else { times.join("/") };
    let tail = words[10..].join(" ");
    format!(
        "{} {target} {times} {} {} {} {ending} retries={retries} {tail}",
        words[0], words[3], words[5], words[6]
    )
}

/// Answers with the request as it came; `X-Want` says with which status, `X-Answer` with which field.
fn echo(mut stream: TcpStream, name: &str, heard: impl Fn(&str)) {
    let _ = stream.set_nodelay(true);
    let mut rest: Vec<u8> = Vec::new();
    loop {
        let Some(end) = rest.windows(4).position(|w| w == b"\r\n\r\n") else {
            let mut buffer = [0; 16_384];
            match stream.read(&mut buffer) {
                Ok(count) if count > 0 => rest.extend_from_slice(&buffer[..count]),
                _ => return,
            }
            continue;
        };
        let head = String::from_utf8_lossy(&rest[..end + 4]).into_owned();
        rest.drain(..end + 4);
        heard(&head);
        let fields = |wanted: &str| {
            let own = head.lines().filter_map(|line| line.split_once(':'));
            let own = own.filter(|(n, _)| n.eq_ignore_ascii_case(wanted)).map(|(_, v)| v.trim().to_owned());
            own.collect::<Vec<_>>()
        };
        let length = fields("content-length").first().and_then(|l| l.parse::<usize>().ok()).unwrap_or(0);
        while rest.len() < length {
            let mut buffer = [0; 16_384];
            match stream.read(&mut buffer) {
                Ok(count) if count > 0 => rest.extend_from_slice(&buffer[..count]),
                _ => return,
            }
        }
        let body: Vec<u8> = rest.drain(..length).collect();
        let text = format!("{head}{}", String::from_utf8_lossy(&body));
        let status = fields("x-want").first().cloned().unwrap_or_else(|| "200".into());
        let extra: String = fields("x-answer").iter().map(|field| format!("{field}\r\n")).collect();
        let empty = ["204", "304"].contains(&status.as_str()) || head.starts_with("HEAD");
        let shown = if empty { "" } else { &text };
        let length =
            if status == "204" { String::new() } else { format!("Content-Length: {}\r\n", text.len()) };
        let answer = format!("HTTP/1.1 {status} Told\r\nX-Server: {name}\r\n{extra}{length}\r\n{shown}");
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
