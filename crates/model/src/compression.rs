//! Answers that are compressed on their way to a client.

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compression {
    /// Those that clients are offered; the first is taken where a client likes several the same.
    pub codings: Vec<Coding>,
    /// Types of answers; a `*` at the end stands for anything.
    pub types: Vec<String>,
    /// Answers that say they are shorter stay as they are.
    pub min_size: u64,
    /// Servers do not see what the client takes, so that they leave it to this program.
    pub offload: bool,
}

/// A coding of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Gzip,
    Deflate,
    /// `deflate` without its wrapper, as some old browsers read it.
    RawDeflate,
    /// No coding at all: the answer comes in chunks. For tests.
    Identity,
}

impl Coding {
    pub const ALL: [(&str, Coding); 4] = [
        ("gzip", Coding::Gzip),
        ("deflate", Coding::Deflate),
        ("raw-deflate", Coding::RawDeflate),
        ("identity", Coding::Identity),
    ];

    pub fn parse(word: &str) -> Option<Coding> {
        Coding::ALL.iter().find(|(name, _)| *name == word).map(|(_, coding)| *coding)
    }

    /// What the field of HTTP calls it.
    pub fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate | Coding::RawDeflate => "deflate",
            Coding::Identity => "identity",
        }
    }
}

impl Compression {
    /// What is compressed where no types are named.
    pub const TYPES: [&str; 8] = [
        "text/*",
        "application/json",
        "application/javascript",
        "application/xml",
        "application/manifest+json",
        "application/wasm",
        "image/svg+xml",
        "font/ttf",
    ];
}
