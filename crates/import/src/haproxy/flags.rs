//! Flags of HAProxy's variables in texts.

/// What stands in the braces of `%{+Q}[…]`.
#[derive(Clone, Copy, Default)]
pub struct Flags {
    /// Said of it, or not.
    pub quoted: Option<bool>,
}

/// The flags that a text behind `%` begins with, and what follows them.
pub fn flags(text: &str) -> Result<(Flags, &str), String> {
    let Some(inside) = text.strip_prefix('{') else { return Ok((Flags::default(), text)) };
    let (words, after) = inside.split_once('}').ok_or("a %{ has no }")?;
    let mut flags = Flags::default();
    for word in words.split(',') {
        match word.trim() {
            "+Q" => flags.quoted = Some(true),
            "-Q" => flags.quoted = Some(false),
            // What these switch on is off anyway.
            "" | "-X" | "-M" | "-E" | "-bin" | "-json" | "-cbor" => {}
            other => return Err(format!("the flag {other} of %{{{words}}} is not carried over")),
        }
    }
    Ok((flags, after))
}

/// Where the first sample of a text begins, behind its `%[` or `%{+Q}[`.
pub fn begin_of(text: &str) -> Option<usize> {
    text.match_indices('[').map(|(at, _)| at).find_map(|at| {
        let before = &text[..at];
        let flagged = before.strip_suffix('}').and_then(|b| b.rsplit_once("%{"));
        let begins = before.ends_with('%') || flagged.is_some_and(|(_, flags)| !flags.contains(['}', '[']));
        begins.then_some(at + 1)
    })
}
