//! Decoded fields of one header block, and what RFC 9113 section 8 says of them.

/// The largest header list where nothing else is said, as RFC 9113 section 6.5.2 counts it: names, values and
/// 32 bytes for each field. SETTINGS announce it.
pub const LIST_AT_MOST: usize = 16 * 1024;
const COUNT_AT_MOST: usize = crate::h1::FIELDS;

/// The fields of one block, in one piece of memory that is used again.
pub struct Fields {
    bytes: Vec<u8>,
    /// Of each field: where its name begins, the lengths of name and value.
    places: Vec<(u32, u32, u32)>,
    /// The list was larger than it may be or had more fields than [`crate::h1::FIELDS`].
    pub too_many: bool,
    list_at_most: usize,
}

impl Default for Fields {
    fn default() -> Fields {
        Fields::new(LIST_AT_MOST)
    }
}

/// The message breaks a rule of section 8: its stream is reset (section 8.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Fields {
    /// For lists of so many bytes.
    pub fn new(list_at_most: usize) -> Fields {
        Fields { bytes: Vec::new(), places: Vec::new(), too_many: false, list_at_most }
    }

    /// The size of the largest list.
    pub fn list_at_most(&self) -> usize {
        self.list_at_most
    }

    /// Whether it holds more memory than a list that is no larger than most.
    pub fn is_large(&self) -> bool {
        self.bytes.capacity() > 2 * LIST_AT_MOST
    }

    /// Makes room for the next block.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
        self.too_many = false;
    }

    /// Adds a field, unless the list is too large with it.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let size = self.bytes.len() + name.len() + value.len() + 32 * (self.places.len() + 1);
        if size > self.list_at_most || self.places.len() >= COUNT_AT_MOST {
            self.too_many = true;
            return;
        }
        self.places.push((self.bytes.len() as u32, name.len() as u32, value.len() as u32));
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
    }

    /// Names and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.places.iter().map(|(start, name, value)| {
            let (start, name) = (*start as usize, *name as usize);
            let value = start + name..start + name + *value as usize;
            (&self.bytes[start..start + name], &self.bytes[value])
        })
    }
}

/// The pseudo-fields of a request.
#[derive(Default)]
pub struct Pseudo<'a> {
    pub method: Option<&'a [u8]>,
    pub scheme: Option<&'a [u8]>,
    pub authority: Option<&'a [u8]>,
    pub path: Option<&'a [u8]>,
    pub protocol: Option<&'a [u8]>,
    pub status: Option<&'a [u8]>,
}

/// Checks a block and finds its pseudo-fields. They must be known, come once each and before all other
/// fields. Names must be in lower case and no field of an HTTP/1 connection; values must not hold control
/// characters or white space at their ends.
pub fn check(fields: &Fields, trailers: bool) -> Result<Pseudo<'_>, Malformed> {
    let mut pseudo = Pseudo::default();
    let mut regular = false;
    for (name, value) in fields.iter() {
        if value.iter().any(|b| matches!(b, 0..=8 | 10..=31 | 127)) || !is_trimmed(value) {
            return Err(Malformed);
        }
        let Some(short) = name.strip_prefix(b":") else {
            regular = true;
            check_name(name, value)?;
            continue;
        };
        let slot = match short {
            b"method" => &mut pseudo.method,
            b"scheme" => &mut pseudo.scheme,
            b"authority" => &mut pseudo.authority,
            b"path" => &mut pseudo.path,
            b"protocol" => &mut pseudo.protocol,
            b"status" => &mut pseudo.status,
            _ => return Err(Malformed),
        };
        if regular || trailers || slot.replace(value).is_some() {
            return Err(Malformed);
        }
    }
    Ok(pseudo)
}

/// Whether no white space stands at either end.
fn is_trimmed(value: &[u8]) -> bool {
    let space = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    !space(value.first()) && !space(value.last())
}

fn check_name(name: &[u8], value: &[u8]) -> Result<(), Malformed> {
    let plain = |b: &u8| crate::h1::chunked::is_token(*b) && !b.is_ascii_uppercase();
    if name.is_empty() || !name.iter().all(plain) {
        return Err(Malformed);
    }
    match name {
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
            Err(Malformed)
        }
        b"te" if value != b"trailers" => Err(Malformed),
        _ => Ok(()),
    }
}
