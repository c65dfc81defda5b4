//! The console of the appliance: a text interface for the person at the machine, on its screen or a serial line.
//!
//! In: keys, and the daemon's answers. Out: a screen, and changes that go through the daemon as all others do:
//! planned, committed, confirmed or taken back. `state` decides, `draw` shows, `work` carries out; this file has
//! the terminal. Never: a setting of the machine that is not in the configuration.

mod draw;
mod facts;
mod form;
mod state;
mod terminal;
mod work;

use std::io::{self, Stdout};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use ratatui::Terminal;

use state::{Action, Answer, Console};
use terminal::{Ansi, Keys, Pressed, Raw, size};
pub use work::Daemon;
use work::{Done, perform};

const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Between two looks at the keys; an Escape alone is known as one after it.
const KEYS_EVERY: Duration = Duration::from_millis(200);

type Screen = Terminal<Ansi<Stdout>>;

/// Runs until it is left with Ctrl-C, or for ever where `stays` says so.
pub fn run(daemon: impl Daemon + Send + 'static, stays: bool) -> io::Result<()> {
    let (work, orders) = channel::<Action>();
    let (tell, answers) = channel::<Done>();
    std::thread::Builder::new().name("work".into()).spawn(move || {
        for action in orders {
            if tell.send(perform(action, &daemon)).is_err() {
                return;
            }
        }
    })?;
    let mut seat = Seat {
        console: Console::default(),
        work,
        answers,
        look_at: Instant::now(),
        looking: false,
        plain: is_plain(|name| std::env::var(name).ok()),
    };
    seat.sit(stays)
}

/// The person at the terminal, and who works for them.
struct Seat {
    console: Console,
    work: Sender<Action>,
    answers: Receiver<Done>,
    look_at: Instant,
    /// One look at a time: a daemon that hangs is not asked again and again.
    looking: bool,
    plain: bool,
}

impl Seat {
    fn sit(&mut self, stays: bool) -> io::Result<()> {
        let mut raw = Raw::new()?;
        let mut screen = open()?;
        let mut keys = Keys::default();
        loop {
            if Instant::now() >= self.look_at && !self.looking {
                self.look_at = Instant::now() + LOOK_EVERY;
                self.looking = self.work.send(Action::Look).is_ok();
            }
            if self.take_answers() {
                drop(raw);
                shell();
                raw = Raw::new()?;
                screen = open()?;
                let title = "The shell has ended".into();
                self.console.heard(Answer::Told { title, lines: Vec::new() });
            }
            if screen.size()? != size() {
                screen = open()?;
            }
            screen.draw(|frame| draw::draw(&self.console, frame, self.plain))?;
            for pressed in keys.wait(KEYS_EVERY)? {
                match pressed {
                    Pressed::End if !stays => return Ok(()),
                    Pressed::End => {}
                    Pressed::Redraw => screen.clear()?,
                    Pressed::Key(key) => {
                        if let Some(action) = self.console.key(key) {
                            let _ = self.work.send(action);
                        }
                    }
                }
            }
        }
    }

    /// Takes the answers that have come; whether a shell is to be opened.
    fn take_answers(&mut self) -> bool {
        while let Ok(done) = self.answers.try_recv() {
            let Done::Answer(answer) = done else { return true };
            self.looking &= !matches!(answer, Answer::Facts(_));
            if self.console.heard(answer).is_some() {
                self.look_at = Instant::now();
            }
        }
        false
    }
}

fn open() -> io::Result<Screen> {
    let mut screen = Terminal::new(Ansi::new(io::stdout(), size()))?;
    screen.clear()?;
    Ok(screen)
}

fn shell() {
    println!("Leave the shell with `exit`.");
    let ended = std::process::Command::new("/bin/bash").arg("-l").current_dir("/").status();
    if let Err(error) = ended {
        println!("/bin/bash cannot be run: {error}");
    }
}

/// Whether a terminal shows ASCII alone: of a serial line nobody knows more.
fn is_plain(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    let terminal = set("TERM").unwrap_or_default();
    if terminal.starts_with("vt") || terminal == "dumb" || terminal.is_empty() {
        return true;
    }
    let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    !(locale.contains("utf-8") || locale.contains("utf8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_line_gets_ascii() {
        let with = |terminal: &'static str, lang: &'static str| {
            is_plain(move |name| match name {
                "TERM" => Some(terminal.to_owned()),
                "LANG" => Some(lang.to_owned()),
                _ => None,
            })
        };
        assert!(with("vt100", "C.UTF-8") && with("vt220", "de_DE.UTF-8") && with("linux", "C"));
        assert!(!with("linux", "C.UTF-8") && !with("xterm", "de_DE.utf8"));
        assert!(with("", "C.UTF-8"), "a terminal that does not say what it is");
    }
}
