//! How long heads may be: HAProxy has one buffer for a head, with some room for what is written into it.

/// What passes where nothing is said, and the longest that can be asked for.
const DEFAULT: usize = 16 << 10;
const AT_MOST: usize = 1 << 20;
/// Fields of one head that this program takes.
const FIELDS: usize = 128;

/// What is to be told of a line.
pub enum Consequence {
    Nothing,
    /// It changes nothing, or less than it says.
    Remark(&'static str),
    /// It asks for more than there is.
    Lost(&'static str),
}

/// What `global` says of it.
#[derive(Debug, Default)]
pub struct Heads {
    buffer: Option<usize>,
    rewrite: Option<usize>,
}

impl Heads {
    /// Reads a line of `global`, if it is about heads.
    pub fn line(&mut self, words: &[String]) -> Option<Consequence> {
        let number = words.get(1).and_then(|number| number.parse().ok());
        match words[0].as_str() {
            "tune.bufsize" => self.buffer = number,
            "tune.maxrewrite" => self.rewrite = number,
            "tune.http.maxhdr" if number.is_some_and(|fields| fields > FIELDS) => {
                return Some(Consequence::Lost("a head has 128 fields at most"));
            }
            "tune.http.maxhdr" => return Some(Consequence::Remark("heads of 128 fields pass")),
            _ => return None,
        }
        Some(match self.size() {
            Some(AT_MOST) => Consequence::Remark("heads are 1 MiB long at most: see head-size"),
            Some(_) => Consequence::Nothing,
            None => Consequence::Remark("heads of 16 KiB pass: see head-size"),
        })
    }

    /// How long heads may be, where that is more than passes by itself.
    pub fn size(&self) -> Option<usize> {
        let buffer = self.buffer?;
        let rewrite = self.rewrite.unwrap_or(1024).min(buffer / 2);
        Some((buffer - rewrite).min(AT_MOST)).filter(|size| *size > DEFAULT)
    }
}
