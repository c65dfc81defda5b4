//! Converters: what is made of a value before it is used (`{header:X-User|lower|sha256}`).

use aws_lc_rs::{digest, hmac};
use regex::bytes::Regex;

use std::path::Path;
use std::sync::Arc;

use crate::evaluate::{Captures, Facts};
use crate::hash::{self, Hash};
use crate::json::JsonPath;
use crate::map::{Content, Map, MapForm, MapMatch};
use crate::mask::Mask;
use crate::number::{self, Arithmetic};
use crate::parse::ParseError;
use crate::template::Template;
use crate::token::{self, Verified};
use crate::uri::{Normal, parameter};

mod words;

pub use words::{CONVERTERS, ConverterDoc};

/// Reads a map file, or has it.
pub type MapLoader<'a, E> = dyn FnMut(&Path, MapForm) -> Result<Arc<Map>, E> + 'a;

/// What a `+` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plus {
    Sign,
    Space,
    /// A space behind the first `?`.
    SpaceInQuery,
}

/// A text, and what stands for it.
type Choice = (Box<[u8]>, Box<[u8]>);

#[derive(Clone, Debug)]
pub enum Converter {
    Lower,
    Upper,
    Trim,
    Length,
    Base64 {
        url: bool,
    },
    Base64Decode {
        url: bool,
    },
    Hex,
    Chunks {
        separator: Box<[u8]>,
        size: usize,
        whole: bool,
        decimal: bool,
    },
    HexDecode,
    UrlEncode,
    UrlDecode(Plus),
    Digest(&'static digest::Algorithm),
    Hmac(Box<hmac::Key>),
    /// The key is known with the request.
    HmacWith(hmac::Algorithm, Template),
    /// A number made of it; `true`: mixed once more.
    Hash(Hash, bool),
    /// The number that it begins with.
    Integer,
    /// The bits of the number turned round.
    Complement,
    /// A time in seconds as HTTP writes it.
    HttpDate,
    /// Nothing more is made of what is not there.
    Present,
    JsonQuery(JsonPath),
    Normalize(Normal),
    /// The value of a parameter of a list that this sign divides.
    Parameter(Box<[u8]>, u8),
    Field {
        number: i64,
        signs: Box<[u8]>,
        merge: bool,
        /// 0: all there are in this direction.
        count: usize,
    },
    Bytes {
        offset: usize,
        length: usize,
    },
    Replace {
        regex: Box<Regex>,
        text: Box<[u8]>,
        all: bool,
    },
    Json,
    Default(Box<[u8]>),
    If {
        then: Box<[u8]>,
        other: Box<[u8]>,
    },
    /// Pairs of what it may be and what it becomes.
    Choose(Box<[Choice]>),
    Network(Mask),
    Arithmetic(Arithmetic, i64),
    /// The number is known with the request.
    ArithmeticWith(Arithmetic, Template),
    Append(Template),
    AppendItem {
        separator: Box<[u8]>,
        item: Template,
    },
    Equals(Template),
    Compare(Template),
    /// The map is there once it was loaded.
    Map {
        file: Box<str>,
        matching: MapMatch,
        default: Box<[u8]>,
        map: Option<Arc<Map>>,
    },
    /// Whether a token was signed by this algorithm with the private key of this file's public one, which
    /// is there once it was loaded.
    JwtVerify {
        algorithm: Template,
        file: Box<str>,
        key: Option<Arc<Map>>,
    },
    /// The same with a secret: the algorithm, and the secret.
    JwtVerifySecret(Box<[Template; 2]>),
    /// The number that its hexadecimal digits are.
    HexInteger,
    /// The list is there once it was loaded.
    Listed {
        file: Box<str>,
        form: MapForm,
        list: Option<Arc<Map>>,
    },
}

/// A word with its arguments, as it stands behind a `|`.
pub fn parse(text: &str) -> Result<Converter, ParseError> {
    let text = text.trim();
    let (name, arguments) = match text.split_once('(') {
        Some((name, rest)) => {
            let inner = rest.strip_suffix(')').ok_or_else(|| wrong(format!("`{name}(` has no `)`")))?;
            (name.trim(), arguments(inner)?)
        }
        None => (text, Vec::new()),
    };
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    build(name, &words)
}

fn matching(word: &str) -> Result<MapMatch, ParseError> {
    MapMatch::of(word).ok_or_else(|| {
        let words: Vec<&str> = MapMatch::WORDS.iter().map(|(word, _)| *word).collect();
        wrong(format!("keys of a file are compared by {}, not {word:?}", words.join(", ")))
    })
}

fn build(name: &str, words: &[&str]) -> Result<Converter, ParseError> {
    let number = |text: &str| text.parse::<i64>().map_err(|_| wrong(format!("{text:?} is no number")));
    let arithmetic = |kind, text: &str| {
        Ok::<_, ParseError>(match text.contains('{') {
            true => Converter::ArithmeticWith(kind, text_of(text)?),
            false => Converter::Arithmetic(kind, number(text)?),
        })
    };
    Ok(match (name, words) {
        ("lower", []) => Converter::Lower,
        ("upper", []) => Converter::Upper,
        ("trim", []) => Converter::Trim,
        ("length", []) => Converter::Length,
        ("base64", []) => Converter::Base64 { url: false },
        ("base64url", []) => Converter::Base64 { url: true },
        ("base64-decode", []) => Converter::Base64Decode { url: false },
        ("base64url-decode", []) => Converter::Base64Decode { url: true },
        ("hex", []) => Converter::Hex,
        ("hex-decode", []) => Converter::HexDecode,
        ("url-encode", []) => Converter::UrlEncode,
        ("url-decode", []) => Converter::UrlDecode(Plus::Sign),
        ("uri-decode", []) => Converter::UrlDecode(Plus::SpaceInQuery),
        ("form-decode", []) => Converter::UrlDecode(Plus::Space),
        ("sha1" | "sha224" | "sha256" | "sha384" | "sha512", []) => Converter::Digest(algorithm(name)?),
        ("hmac", [kind, key]) => {
            let algorithm = match *kind {
                "sha1" => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
                "sha224" => hmac::HMAC_SHA224,
                "sha256" => hmac::HMAC_SHA256,
                "sha384" => hmac::HMAC_SHA384,
                "sha512" => hmac::HMAC_SHA512,
                _ => return Err(wrong(format!("{kind:?} is no digest: sha1, sha256, sha384 or sha512"))),
            };
            let template = text_of(key)?;
            if template.constant().is_none() {
                return Ok(Converter::HmacWith(algorithm, template));
            }
            // A key that is no text may be written in hexadecimal digits.
            let raw = key.strip_prefix("hex:").and_then(unhex);
            let raw = raw.unwrap_or_else(|| key.as_bytes().to_vec());
            Converter::Hmac(Box::new(hmac::Key::new(algorithm, &raw)))
        }
        (
            "crc32" | "crc32c" | "djb2" | "sdbm" | "wt6" | "xxh32" | "xxh64" | "xxh3",
            rest @ ([] | ["mixed"] | [_]),
        ) => {
            let seed = || rest.first().map_or(Some(0), |seed| seed.parse::<u64>().ok());
            let is_mixed = rest == ["mixed"];
            let kind = match (name, seed()) {
                ("crc32", _) if rest.is_empty() || is_mixed => Hash::Crc32(0xedb8_8320),
                ("crc32c", _) if rest.is_empty() || is_mixed => Hash::Crc32(0x82f6_3b78),
                ("djb2", _) if rest.is_empty() || is_mixed => Hash::Djb2,
                ("sdbm", _) if rest.is_empty() || is_mixed => Hash::Sdbm,
                ("wt6", _) if rest.is_empty() || is_mixed => Hash::Wt6,
                ("xxh32", Some(seed)) if seed <= u64::from(u32::MAX) => Hash::Xxh32(seed as u32),
                ("xxh64", Some(seed)) => Hash::Xxh64(seed),
                ("xxh3", Some(seed)) => Hash::Xxh3(seed),
                _ => return Err(wrong(format!("`{name}` has a seed or `mixed`, or nothing in brackets"))),
            };
            Converter::Hash(kind, is_mixed)
        }
        ("integer", []) => Converter::Integer,
        ("hex-integer", []) => Converter::HexInteger,
        ("jwt-verify", [algorithm, file]) if !file.is_empty() => {
            let algorithm = token_algorithm(algorithm, token::has_public_key)?;
            Converter::JwtVerify { algorithm, file: (*file).into(), key: None }
        }
        ("jwt-verify-secret", [algorithm, secret]) if !secret.is_empty() => {
            let algorithm = token_algorithm(algorithm, token::has_secret)?;
            Converter::JwtVerifySecret(Box::new([algorithm, text_of(secret)?]))
        }
        ("cpl", []) => Converter::Complement,
        ("http-date", []) => Converter::HttpDate,
        ("present", []) => Converter::Present,
        ("json-query", [path]) => {
            Converter::JsonQuery(JsonPath::parse(path).ok_or_else(|| wrong(format!("{path:?} is no path")))?)
        }
        ("hex" | "decimal", [separator, size, rest @ ..]) if rest.is_empty() || rest == ["whole"] => {
            let decimal = name == "decimal";
            let size =
                number(size)?.try_into().ok().filter(|s| (1..=if decimal { 8 } else { 1024 }).contains(s));
            let size = size.ok_or_else(|| wrong("chunks have 1 to 1024 bytes, 8 as numbers"))?;
            Converter::Chunks {
                separator: separator.as_bytes().into(),
                size,
                whole: !rest.is_empty(),
                decimal,
            }
        }
        ("field" | "word", [at, signs, rest @ ..]) if rest.len() <= 1 => {
            let at = number(at)?;
            let count = rest.first().map_or(Ok(1), |count| number(count))?;
            let count = usize::try_from(count).map_err(|_| wrong("a count from 0"))?;
            if at == 0 || signs.is_empty() {
                return Err(wrong("parts are numbered from 1, and from -1 at the end; signs divide them"));
            }
            Converter::Field { number: at, signs: signs.as_bytes().into(), merge: name == "word", count }
        }
        ("bytes", [offset, rest @ ..]) if rest.len() <= 1 => {
            let length = rest.first().map_or(Ok(i64::MAX), |l| number(l))?;
            let unsigned = |n: i64| usize::try_from(n).map_err(|_| wrong("an offset and a length from 0"));
            Converter::Bytes { offset: unsigned(number(offset)?)?, length: unsigned(length)? }
        }
        ("replace", [regex, text, rest @ ..]) if rest.is_empty() || rest == ["all"] => {
            let regex = crate::regular::regex(regex, false)
                .map_err(|why| wrong(format!("the first is no regular expression: {why}")))?;
            Converter::Replace { regex: Box::new(regex), text: text.as_bytes().into(), all: !rest.is_empty() }
        }
        ("normalize", [word]) => {
            let words = || Normal::WORDS.map(|(word, _)| word).join(", ");
            let normal = Normal::of(word);
            Converter::Normalize(normal.ok_or_else(|| wrong(format!("{word:?} is none of {}", words())))?)
        }
        ("param", [name, rest @ ..]) if rest.len() <= 1 => {
            let sign = rest.first().copied().unwrap_or("&").as_bytes();
            let [sign] = sign else { return Err(wrong("one sign divides a list")) };
            Converter::Parameter(name.as_bytes().into(), *sign)
        }
        ("json", []) => Converter::Json,
        ("default", [text]) => Converter::Default(text.as_bytes().into()),
        ("if", [then, other]) => {
            Converter::If { then: then.as_bytes().into(), other: other.as_bytes().into() }
        }
        ("choose", pairs) if !pairs.is_empty() && pairs.len().is_multiple_of(2) => {
            let pair = |pair: &[&str]| (pair[0].as_bytes().into(), pair[1].as_bytes().into());
            Converter::Choose(pairs.chunks_exact(2).map(pair).collect())
        }
        ("network", [v4, rest @ ..]) if rest.len() <= 1 => {
            Converter::Network(Mask::parse(v4, rest.first().copied()).map_err(wrong)?)
        }
        ("add", [n]) => arithmetic(Arithmetic::Add, n)?,
        ("sub", [n]) => arithmetic(Arithmetic::Sub, n)?,
        ("mul", [n]) => arithmetic(Arithmetic::Mul, n)?,
        ("div", [n]) => arithmetic(Arithmetic::Div, n)?,
        ("mod", [n]) => arithmetic(Arithmetic::Mod, n)?,
        ("and", [n]) => arithmetic(Arithmetic::And, n)?,
        ("or", [n]) => arithmetic(Arithmetic::Or, n)?,
        ("xor", [n]) => arithmetic(Arithmetic::Xor, n)?,
        ("append", [text]) => Converter::Append(text_of(text)?),
        ("append-item", [separator, item]) => {
            Converter::AppendItem { separator: separator.as_bytes().into(), item: text_of(item)? }
        }
        ("equals", [text]) => Converter::Equals(text_of(text)?),
        ("compare", [text]) => Converter::Compare(text_of(text)?),
        ("map", [file, rest @ ..]) if rest.len() <= 2 && !file.is_empty() => {
            let matching = matching(rest.first().copied().unwrap_or("exact"))?;
            let default = rest.get(1).copied().unwrap_or("").as_bytes().into();
            Converter::Map { file: (*file).into(), matching, default, map: None }
        }
        ("listed", [file, word, rest @ ..]) if !file.is_empty() && matches!(rest, [] | ["fold"]) => {
            let form = MapForm { matching: matching(word)?, content: Content::List, folds: !rest.is_empty() };
            Converter::Listed { file: (*file).into(), form, list: None }
        }
        _ => {
            let why = match CONVERTERS.iter().find(|c| c.name == name) {
                Some(known) => format!("`{name}` has other arguments, such as in {}", known.example),
                None => format!("there is no converter {name:?}"),
            };
            let names: Vec<&str> = CONVERTERS.iter().map(|c| c.name).collect();
            return Err(wrong(why).help(format!("converters: {}", names.join(", "))));
        }
    })
}

/// The name of an algorithm, or a text with variables that says it.
fn token_algorithm(word: &str, fits: impl Fn(&[u8]) -> bool) -> Result<Template, ParseError> {
    let text = text_of(word)?;
    match text.constant() {
        Some(name) if !fits(name) => Err(wrong(format!(
            "{word:?} is no algorithm of a token's signature: jwt-verify has RS256 to RS512, PS256 to PS512 and ES256 to ES512, jwt-verify-secret HS256 to HS512"
        ))),
        _ => Ok(text),
    }
}

fn text_of(text: &str) -> Result<Template, ParseError> {
    Template::parse(text).map_err(|e| ParseError { span: 0..0, ..e })
}

fn wrong(why: impl Into<String>) -> ParseError {
    ParseError::at(0..0, why.into())
}

fn algorithm(name: &str) -> Result<&'static digest::Algorithm, ParseError> {
    Ok(match name {
        "sha1" => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        "sha224" => &digest::SHA224,
        "sha256" => &digest::SHA256,
        "sha384" => &digest::SHA384,
        "sha512" => &digest::SHA512,
        _ => return Err(wrong(format!("{name:?} is no digest"))),
    })
}

/// Divided by commas; in double quotes anything may stand, a quote and a backslash behind a backslash.
fn arguments(text: &str) -> Result<Vec<String>, ParseError> {
    let mut all = vec![String::new()];
    let mut quoted = false;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let last = all.len() - 1;
        match c {
            '"' => quoted = !quoted,
            '\\' if quoted => all[last].extend(chars.next()),
            ',' if !quoted => all.push(String::new()),
            c if c.is_whitespace() && !quoted => {}
            c => all[last].push(c),
        }
    }
    if quoted { Err(wrong("a quote does not end")) } else { Ok(all) }
}

impl Converter {
    /// Texts of its own that have variables.
    pub fn texts(&self) -> &[Template] {
        match self {
            Converter::HmacWith(_, text)
            | Converter::ArithmeticWith(_, text)
            | Converter::Append(text)
            | Converter::Equals(text)
            | Converter::Compare(text) => std::slice::from_ref(text),
            Converter::AppendItem { item: text, .. } | Converter::JwtVerify { algorithm: text, .. } => {
                std::slice::from_ref(text)
            }
            Converter::JwtVerifySecret(texts) => &texts[..],
            _ => &[],
        }
    }

    /// The file that it asks.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Converter::Map { file, .. }
            | Converter::Listed { file, .. }
            | Converter::JwtVerify { file, .. } => Some(Path::new(&**file)),
            _ => None,
        }
    }

    /// Has the map files that it names loaded.
    pub fn load<E>(&mut self, load: &mut MapLoader<'_, E>) -> Result<(), E> {
        match self {
            Converter::Map { file, matching, map, .. } => {
                *map = Some(load(Path::new(&**file), (*matching).into())?);
            }
            Converter::Listed { file, form, list } => *list = Some(load(Path::new(&**file), *form)?),
            Converter::JwtVerify { algorithm, file, key } => {
                algorithm.load(load)?;
                *key = Some(load(Path::new(&**file), MapForm::PUBLIC_KEY)?);
            }
            Converter::JwtVerifySecret(texts) => texts.iter_mut().try_for_each(|text| text.load(load))?,
            Converter::HmacWith(_, text)
            | Converter::ArithmeticWith(_, text)
            | Converter::Append(text)
            | Converter::Equals(text)
            | Converter::Compare(text)
            | Converter::AppendItem { item: text, .. } => text.load(load)?,
            _ => {}
        }
        Ok(())
    }

    /// Changes what stands in `out` from `start` on.
    /// Makes its value of what stands in `out` from `start` on; whether there is one, given that there was.
    pub fn apply(
        &self,
        facts: &dyn Facts,
        captures: &Captures,
        out: &mut Vec<u8>,
        start: usize,
        there: bool,
    ) -> bool {
        let found: Option<Vec<u8>> = match self {
            Converter::Base64Decode { url } => unbase64(&out[start..], *url),
            Converter::Map { default, map, .. } => {
                let found = map.as_ref().and_then(|map| map.get(&out[start..]));
                let otherwise = || (!default.is_empty()).then(|| default.to_vec());
                found.map(|value| value.into_owned().into_bytes()).or_else(otherwise)
            }
            Converter::JsonQuery(path) => path.find(&out[start..]),
            Converter::HexInteger => number::of_hex(&out[start..]).map(|n| n.to_string().into_bytes()),
            Converter::JwtVerify { algorithm, key, .. } => {
                let algorithm = rendered(algorithm, facts, captures);
                let key = key.as_ref().and_then(|file| file.public_key());
                let found = key.map_or(Verified::No, |key| key.verify(&out[start..], &algorithm));
                Some(found.as_str().into())
            }
            Converter::JwtVerifySecret(texts) => {
                let [algorithm, secret] = texts.each_ref().map(|text| rendered(text, facts, captures));
                let found = token::verified_by_secret(&out[start..], &algorithm, &secret);
                Some(found.as_str().into())
            }
            Converter::Choose(pairs) => {
                let found = pairs.iter().find(|(from, _)| **from == out[start..]);
                found.map(|(_, to)| to.to_vec())
            }
            Converter::Parameter(name, sign) => parameter(&out[start..], name, *sign).map(<[u8]>::to_vec),
            Converter::Field { number, signs, merge, count } => {
                part(&out[start..], *number, signs, *merge, *count).map(<[u8]>::to_vec)
            }
            _ => {
                let is_default = matches!(self, Converter::Default(_));
                self.convert(facts, captures, out, start);
                return there || is_default;
            }
        };
        out.truncate(start);
        let is_found = found.is_some();
        out.extend(found.unwrap_or_default());
        there && is_found
    }

    /// Those that change the text where it stands; whether it is one of them.
    fn in_place(&self, facts: &dyn Facts, captures: &Captures, out: &mut Vec<u8>, start: usize) -> bool {
        match self {
            Converter::Lower => out[start..].make_ascii_lowercase(),
            Converter::Upper => out[start..].make_ascii_uppercase(),
            Converter::Bytes { offset, length } => {
                let from = start + (*offset).min(out.len() - start);
                out.truncate(from.saturating_add(*length).min(out.len()));
                out.drain(start..from);
            }
            Converter::Append(text) => text.render(facts, captures, out),
            Converter::AppendItem { separator, item } => {
                let mut value = Vec::new();
                item.render(facts, captures, &mut value);
                if out.len() > start && !value.is_empty() {
                    out.extend_from_slice(separator);
                }
                out.extend_from_slice(&value);
            }
            Converter::Listed { list, .. } => {
                let fits = list.as_ref().is_some_and(|list| list.holds(&out[start..]));
                out.truncate(start);
                out.push(if fits { b'1' } else { b'0' });
            }
            Converter::Default(text) if out.len() == start => out.extend_from_slice(text),
            Converter::Default(_) => {}
            _ => return false,
        }
        true
    }

    /// The same of those that make something of anything.
    fn convert(&self, facts: &dyn Facts, captures: &Captures, out: &mut Vec<u8>, start: usize) {
        if self.in_place(facts, captures, out, start) {
            return;
        }
        let rendered = |text: &Template| rendered(text, facts, captures);
        let replaced: Vec<u8> = match self {
            Converter::Equals(text) => {
                let same = aws_lc_rs::constant_time::verify_slices_are_equal(&out[start..], &rendered(text));
                vec![if same.is_ok() { b'1' } else { b'0' }]
            }
            Converter::HmacWith(algorithm, key) => {
                hmac::sign(&hmac::Key::new(*algorithm, &rendered(key)), &out[start..]).as_ref().to_vec()
            }
            Converter::Trim => out[start..].trim_ascii().to_vec(),
            Converter::Length => (out.len() - start).to_string().into_bytes(),
            Converter::Base64 { url } => base64(&out[start..], *url),
            Converter::Hex => hex(&out[start..]),
            Converter::Chunks { separator, size, whole, decimal } => {
                chunks(&out[start..], separator, *size, *whole, *decimal)
            }
            Converter::Compare(text) => {
                (out[start..].cmp(rendered(text).as_slice()) as i8).to_string().into_bytes()
            }
            Converter::HexDecode => {
                std::str::from_utf8(&out[start..]).ok().and_then(unhex).unwrap_or_default()
            }
            Converter::UrlEncode => url_encoded(&out[start..]),
            Converter::UrlDecode(plus) => url_decoded(&out[start..], *plus),
            Converter::Digest(algorithm) => digest::digest(algorithm, &out[start..]).as_ref().to_vec(),
            Converter::Hmac(key) => hmac::sign(key, &out[start..]).as_ref().to_vec(),
            Converter::Hash(kind, mixed) => hash::text(*kind, *mixed, &out[start..]).into_bytes(),
            Converter::Integer => number::leading(&out[start..]).to_string().into_bytes(),
            Converter::Complement => (!number::leading(&out[start..])).to_string().into_bytes(),
            Converter::HttpDate => number::http_date(number::leading(&out[start..])).into_bytes(),
            // Those that may find nothing, and those that change the text where it stands, are above.
            Converter::Lower
            | Converter::Upper
            | Converter::Bytes { .. }
            | Converter::Append(_)
            | Converter::AppendItem { .. }
            | Converter::Default(_)
            | Converter::Present
            | Converter::Base64Decode { .. }
            | Converter::Map { .. }
            | Converter::Listed { .. }
            | Converter::JsonQuery(_)
            | Converter::HexInteger
            | Converter::JwtVerify { .. }
            | Converter::JwtVerifySecret(_)
            | Converter::Choose(_)
            | Converter::Parameter(..)
            | Converter::Field { .. } => return,
            Converter::Normalize(normal) => normal.apply(&out[start..]),
            Converter::Replace { regex, text, all } => {
                let limit = usize::from(!all);
                regex.replacen(&out[start..], limit, &**text).into_owned()
            }
            Converter::Json => json(&out[start..]),
            Converter::If { then, other } => {
                let value = &out[start..];
                if value.is_empty() || value == b"0" { other.to_vec() } else { then.to_vec() }
            }
            Converter::Network(mask) => mask.applied(&out[start..]),
            Converter::Arithmetic(kind, with) => number::calculated(&out[start..], *kind, *with),
            Converter::ArithmeticWith(kind, with) => match number::integer(&rendered(with)) {
                Some(with) => number::calculated(&out[start..], *kind, with),
                None => Vec::new(),
            },
        };
        out.truncate(start);
        out.extend_from_slice(&replaced);
    }
}

fn rendered(text: &Template, facts: &dyn Facts, captures: &Captures) -> Vec<u8> {
    let mut value = Vec::new();
    text.render(facts, captures, &mut value);
    value
}

const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

const NO_SIGN: u8 = 64;

/// The value of each byte, as one of these signs.
const fn values_of(signs: &[u8; 64]) -> [u8; 256] {
    let mut values = [NO_SIGN; 256];
    let mut at = 0;
    while at < signs.len() {
        values[signs[at] as usize] = at as u8;
        at += 1;
    }
    values
}

pub(crate) fn base64(bytes: &[u8], url: bool) -> Vec<u8> {
    let signs = if url { URL_SIGNS } else { SIGNS };
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            match at <= three.len() {
                true => out.push(signs[(bits >> (18 - 6 * at) & 63) as usize]),
                false if !url => out.push(b'='),
                false => {}
            }
        }
    }
    out
}

/// The bytes of a text in Base64, with or without padding.
pub fn unbase64(text: &[u8], url: bool) -> Option<Vec<u8>> {
    const VALUES: [[u8; 256]; 2] = [values_of(SIGNS), values_of(URL_SIGNS)];
    let values = &VALUES[usize::from(url)];
    let end = text.iter().rposition(|b| *b != b'=').map_or(0, |at| at + 1);
    let (mut out, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for byte in &text[..end] {
        let value = values[usize::from(*byte)];
        if value == NO_SIGN {
            return None;
        }
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Some(out)
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|b| format!("{b:02x}").into_bytes()).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let pairs = digits.chunks_exact(2);
    let whole = pairs.remainder().is_empty();
    let each = pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    each.collect::<Option<Vec<u8>>>().filter(|_| whole)
}

fn url_encoded(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(*byte),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    out
}

fn url_decoded(bytes: &[u8], plus: Plus) -> Vec<u8> {
    let mut form = plus == Plus::Space;
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let code = after.get(..2).and_then(|d| std::str::from_utf8(d).ok());
        match (byte, code.and_then(|d| u8::from_str_radix(d, 16).ok())) {
            (b'%', Some(code)) => {
                out.push(code);
                rest = &after[2..];
            }
            (b'+', _) if form => out.push(b' '),
            (b'?', _) => {
                form |= plus == Plus::SpaceInQuery;
                out.push(b'?');
            }
            _ => out.push(*byte),
        }
    }
    out
}

/// So many parts from one on, towards the end; of a number below 0 towards the beginning.
fn part<'a>(bytes: &'a [u8], number: i64, signs: &[u8], merge: bool, count: usize) -> Option<&'a [u8]> {
    let divides = |b: &u8| signs.contains(b);
    let wanted = |p: &&[u8]| !merge || !p.is_empty();
    let index = (number.unsigned_abs() - 1) as usize;
    let all: &mut dyn Iterator<Item = &'a [u8]> = match number > 0 {
        true => &mut bytes.split(divides).filter(wanted),
        false => &mut bytes.rsplit(divides).filter(wanted),
    };
    let first = all.nth(index)?;
    let last = match count {
        0 => all.last(),
        1 => None,
        count => all.take(count - 1).last(),
    };
    // Both lie in `bytes`.
    let place = |part: &[u8]| part.as_ptr() as usize - bytes.as_ptr() as usize;
    let last = last.unwrap_or(first);
    let (from, to) = if number > 0 { (first, last) } else { (last, first) };
    bytes.get(place(from)..place(to) + to.len())
}

fn chunks(bytes: &[u8], separator: &[u8], size: usize, whole: bool, decimal: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in bytes.chunks(size).filter(|chunk| !whole || chunk.len() == size) {
        if !out.is_empty() {
            out.extend_from_slice(separator);
        }
        match decimal {
            true => {
                let number = chunk.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
                out.extend_from_slice(number.to_string().as_bytes());
            }
            false => out.extend(hex(chunk)),
        }
    }
    out
}

fn json(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for c in String::from_utf8_lossy(bytes).chars() {
        match c {
            '"' | '\\' | '/' => out.extend_from_slice(format!("\\{c}").as_bytes()),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            ' '..='~' => out.push(c as u8),
            c => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
