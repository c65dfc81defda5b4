//! The terminal: raw mode, bytes as keys, cells as escape sequences that every terminal since the VT100 knows.

use std::io::{self, Read, Write};
use std::time::Duration;

use ratatui::backend::{Backend, ClearType, WindowSize};
use ratatui::buffer::Cell;
use ratatui::layout::{Position, Size};
use ratatui::style::Modifier;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::state::Key;

/// Terminals on a serial line do not say how large they are.
const SIZE: Size = Size::new(80, 24);
/// What a terminal that sends nonsense may fill.
const BYTES_AT_MOST: usize = 4096;

/// What was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressed {
    Key(Key),
    /// Ctrl-C.
    End,
    /// Ctrl-L: the screen is drawn anew, where others have written on it.
    Redraw,
}

/// Standard input without echo and lines; as before when dropped.
pub struct Raw(Termios);

impl Raw {
    pub fn new() -> io::Result<Raw> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Flush, &raw)?;
        // The screen that was there comes back at the end; no cursor.
        write_out("\x1b[?1049h\x1b[?25l\x1b[2J")?;
        Ok(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = write_out("\x1b[0m\x1b[?1049l\x1b[?25h");
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

fn write_out(text: &str) -> io::Result<()> {
    let mut output = io::stdout();
    output.write_all(text.as_bytes())?;
    output.flush()
}

pub fn size() -> Size {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => Size::new(size.ws_col, size.ws_row),
        _ => SIZE,
    }
}

/// Bytes that have come and are no whole key yet.
#[derive(Debug, Default)]
pub struct Keys(Vec<u8>);

impl Keys {
    /// What was pressed within a time. The end of the input is an error.
    pub fn wait(&mut self, time: Duration) -> io::Result<Vec<Pressed>> {
        let stdin = io::stdin();
        let mut ready = [PollFd::new(&stdin, PollFlags::IN)];
        let time = Timespec::try_from(time).map_err(io::Error::other)?;
        match poll(&mut ready, Some(&time)) {
            Ok(0) => return Ok(self.take(true)),
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        let mut bytes = [0; 256];
        let read = stdin.lock().read(&mut bytes)?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the terminal is gone"));
        }
        self.0.extend_from_slice(&bytes[..read]);
        self.0.truncate(BYTES_AT_MOST);
        Ok(self.take(false))
    }

    /// `idle`: nothing more comes at once, so that an Escape is the key.
    fn take(&mut self, idle: bool) -> Vec<Pressed> {
        let mut pressed = Vec::new();
        let mut at = 0;
        while let Some((length, found)) = first(&self.0[at..], idle) {
            at += length;
            pressed.extend(found);
        }
        self.0.drain(..at);
        pressed
    }
}

/// The first key of some bytes with its length; nothing where more must come.
fn first(bytes: &[u8], idle: bool) -> Option<(usize, Option<Pressed>)> {
    let key = |key| Some(Pressed::Key(key));
    match bytes {
        [] => None,
        [0x1b, b'[' | b'O', rest @ ..] => {
            let Some(end) = rest.iter().position(|b| (0x40..=0x7e).contains(b)) else {
                return idle.then_some((bytes.len(), None));
            };
            let found = match (&rest[..end], rest[end]) {
                (_, b'A') => key(Key::Up),
                (_, b'B') => key(Key::Down),
                (_, b'Z') => key(Key::Previous),
                (b"3", b'~') => key(Key::Delete),
                _ => None,
            };
            Some((2 + end + 1, found))
        }
        [0x1b] if !idle => None,
        [0x1b, ..] => Some((1, key(Key::Back))),
        // A line of a modem ends with both.
        [b'\r', b'\n', ..] => Some((2, key(Key::Enter))),
        [b'\r' | b'\n', ..] => Some((1, key(Key::Enter))),
        [b'\t', ..] => Some((1, key(Key::Next))),
        [0x08 | 0x7f, ..] => Some((1, key(Key::Delete))),
        [0x03, ..] => Some((1, Some(Pressed::End))),
        [0x0c, ..] => Some((1, Some(Pressed::Redraw))),
        [0..0x20, ..] => Some((1, None)),
        [byte, ..] => {
            let length = match byte {
                0..0x80 => 1,
                0xc0..0xe0 => 2,
                0xe0..0xf0 => 3,
                0xf0.. => 4,
                // Not the beginning of a letter.
                _ => return Some((1, None)),
            };
            let Some(letter) = bytes.get(..length) else {
                return idle.then_some((bytes.len(), None));
            };
            let letter = std::str::from_utf8(letter).ok().and_then(|text| text.chars().next());
            Some(letter.map_or((1, None), |letter| (length, key(Key::Letter(letter)))))
        }
    }
}

/// Where cells are written to.
#[derive(Debug)]
pub struct Ansi<W: Write> {
    output: W,
    size: Size,
}

impl<W: Write> Ansi<W> {
    pub fn new(output: W, size: Size) -> Ansi<W> {
        Ansi { output, size }
    }
}

impl<W: Write> Backend for Ansi<W> {
    type Error = io::Error;

    fn draw<'a, I: Iterator<Item = (u16, u16, &'a Cell)>>(&mut self, content: I) -> io::Result<()> {
        let mut next = None;
        let mut style = None;
        for (x, y, cell) in content {
            if next != Some((x, y)) {
                write!(self.output, "\x1b[{};{}H", y + 1, x + 1)?;
            }
            next = Some((x + 1, y));
            let wanted = cell.modifier & (Modifier::BOLD | Modifier::REVERSED);
            if style != Some(wanted) {
                style = Some(wanted);
                let bold = if wanted.contains(Modifier::BOLD) { ";1" } else { "" };
                let reversed = if wanted.contains(Modifier::REVERSED) { ";7" } else { "" };
                write!(self.output, "\x1b[0{bold}{reversed}m")?;
            }
            self.output.write_all(cell.symbol().as_bytes())?;
        }
        self.output.write_all(b"\x1b[0m")
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        self.output.write_all(b"\x1b[?25l")
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.output.write_all(b"\x1b[?25h")
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(Position::ORIGIN)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        let Position { x, y } = position.into();
        write!(self.output, "\x1b[{};{}H", y + 1, x + 1)
    }

    fn clear(&mut self) -> io::Result<()> {
        self.output.write_all(b"\x1b[0m\x1b[2J")
    }

    fn clear_region(&mut self, kind: ClearType) -> io::Result<()> {
        let code: &[u8] = match kind {
            ClearType::All => b"\x1b[2J",
            ClearType::AfterCursor => b"\x1b[0J",
            ClearType::BeforeCursor => b"\x1b[1J",
            ClearType::CurrentLine => b"\x1b[2K",
            ClearType::UntilNewLine => b"\x1b[0K",
        };
        self.output.write_all(code)
    }

    fn size(&self) -> io::Result<Size> {
        Ok(self.size)
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: self.size, pixels: Size::ZERO })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;

    #[track_caller]
    fn check(parts: &[&[u8]], expected: &[Key]) {
        let mut keys = Keys::default();
        let mut pressed = Vec::new();
        for part in parts {
            keys.0.extend_from_slice(part);
            pressed.extend(keys.take(false));
        }
        pressed.extend(keys.take(true));
        assert_eq!(pressed, expected.iter().map(|key| Pressed::Key(*key)).collect::<Vec<_>>());
        assert!(keys.0.is_empty());
    }

    #[test]
    fn keys_of_screens_and_serial_lines() {
        check(&[b"a\x1b[A\x1bOB\r"], &[Key::Letter('a'), Key::Up, Key::Down, Key::Enter]);
        check(&[b"\x1b", b"[A"], &[Key::Up]);
        check(&[b"\x1b"], &[Key::Back]);
        check(&[b"\x1b[1;5A\x1b[3~\x1b[15~\x7f\x08"], &[Key::Up, Key::Delete, Key::Delete, Key::Delete]);
        check(&[b"\r\n\t\x1b[Z"], &[Key::Enter, Key::Next, Key::Previous]);
        check(&["ü".as_bytes()], &[Key::Letter('ü')]);
        check(&[&"ü".as_bytes()[..1], &"ü".as_bytes()[1..]], &[Key::Letter('ü')]);
        check(&[b"\xff\x80x", b"\xc3"], &[Key::Letter('x')]);
    }

    #[test]
    fn no_bytes_are_kept_or_break_it() {
        // Every pair of bytes, then nothing more.
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                let mut keys = Keys(vec![first, second]);
                keys.take(false);
                keys.take(true);
                assert!(keys.0.is_empty(), "{first:02x} {second:02x}");
            }
        }
    }

    #[test]
    fn only_what_changed_is_sent() {
        let mut sent = Vec::new();
        {
            let mut terminal = Terminal::new(Ansi::new(&mut sent, Size::new(20, 2))).unwrap();
            let mut show = |text: &str| {
                terminal.draw(|frame| frame.render_widget(text, frame.area())).map(|_| ()).unwrap();
            };
            show("first");
            show("fist!");
        }
        let text = String::from_utf8(sent).unwrap();
        assert!(text.contains("first") && text.contains("\u{1b}[1;3H") && text.contains("st!"), "{text:?}");
        assert!(!text.contains("fist!"), "{text:?}");
    }
}
