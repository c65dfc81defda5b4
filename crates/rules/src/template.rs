//! Texts with variables: `https://www.example.org{path}`.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::convert::{self, Converter, MapLoader};
use crate::evaluate::{Captures, Facts, LocalTime};
use crate::fetch::{COUNTERS, Fetch, NeedsHttp, VARIABLES};
use crate::parse::ParseError;

/// A text that was checked. `{{` and `}}` stand for the braces themselves. There is none that was not
/// parsed, and two are equal that are written alike.
#[derive(Clone)]
pub struct Template {
    source: Box<str>,
    parts: Vec<Part>,
}

crate::written_alike!(Template, source);

#[derive(Clone, Debug)]
enum Part {
    Text(Box<[u8]>),
    Text1(Fetch, Box<str>),
    /// Of several the last one.
    Last(Fetch, Box<str>),
    /// Path and query.
    Uri,
    /// The target as it came, whole where it was an address.
    Url,
    Uuid,
    HostName,
    /// A number of 32 bits.
    Random,
    UnixTime,
    Address(Fetch),
    Number(Fetch),
    Flag(Fetch),
    Capture(usize),
    /// What an entry of a table has counted: the table and the counter. What a pool has now, or one of its servers.
    Counted(Fetch, Vec<String>),
    /// How many there are of a name: values of lists, or headers and cookies.
    Count {
        fetch: Fetch,
        name: Box<str>,
        listed: bool,
    },
    /// One of several, counted from 1, or from the end below 0. A condition asks each where it is 0.
    Nth {
        fetch: Fetch,
        name: Box<str>,
        listed: bool,
        at: i64,
    },
    /// All there are, with commas between.
    Joined(Fetch),
    Converted(Box<Part>, Vec<Converter>),
}

impl Template {
    pub fn parse(text: &str) -> Result<Template, ParseError> {
        let mut parts: Vec<Part> = Vec::new();
        scan(text, &mut |at, piece| {
            match (piece, parts.last_mut()) {
                (Piece::Literal(more), Some(Part::Text(known))) => {
                    *known = [known, more.as_bytes()].concat().into();
                }
                (Piece::Literal(text), _) => parts.push(Part::Text(text.as_bytes().into())),
                (Piece::Variable(word), _) => {
                    let span = at..at + word.len() + 2;
                    parts.push(variable(word).map_err(|e| ParseError { span, ..e })?);
                }
            }
            Ok(())
        })?;
        Ok(Template { source: text.into(), parts })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    pub fn render(&self, facts: &dyn Facts, captures: &Captures, out: &mut Vec<u8>) {
        self.parts.iter().for_each(|part| {
            part.render(facts, captures, out);
        });
    }

    /// Renders it, and says whether all that its variables ask was there.
    pub fn fill(&self, facts: &dyn Facts, captures: &Captures, out: &mut Vec<u8>) -> bool {
        let mut there = true;
        for part in &self.parts {
            there &= part.render(facts, captures, out);
        }
        there
    }

    /// Renders it for a test, with whether all was there: once, or of several values (`each`) each until one will
    /// do.
    pub fn any(&self, facts: &dyn Facts, test: &mut dyn FnMut(&[u8], bool) -> bool) -> bool {
        let (captures, mut text) = (Captures::default(), Vec::new());
        let (part, converters) = match self.parts.as_slice() {
            [Part::Converted(source, converters)] => (&**source, converters.as_slice()),
            [part] => (part, &[][..]),
            _ => (&Part::Uuid, &[][..]),
        };
        if let Part::Nth { fetch, name, listed, at: 0 } = part {
            return each_value(facts, (*fetch, name), *listed, &mut |value| {
                text.clear();
                text.extend_from_slice(value);
                let there = converted(converters, facts, &captures, (&mut text, 0), true);
                test(&text, there)
            });
        }
        let there = self.fill(facts, &captures, &mut text);
        test(&text, there)
    }

    /// Renders what goes to a client, a server or a log: its path keeps the parameters of its segments,
    /// which decisions must not see.
    pub fn render_outward(&self, facts: &dyn Facts, captures: &Captures, out: &mut Vec<u8>) {
        self.render(&Outward(facts), captures, out);
    }

    /// The tables whose entries it asks.
    pub fn tables(&self) -> Vec<&str> {
        self.asked(&|fetch| matches!(fetch, Fetch::Rate | Fetch::Count))
    }

    /// The pools that it asks.
    pub fn pools(&self) -> Vec<&str> {
        self.asked(&|fetch| !matches!(fetch, Fetch::Rate | Fetch::Count))
    }

    fn asked(&self, which: &dyn Fn(Fetch) -> bool) -> Vec<&str> {
        let mut all = Vec::new();
        for part in &self.parts {
            if let Part::Counted(fetch, arguments) = part.source()
                && which(*fetch)
            {
                all.extend(arguments.first().map(String::as_str));
            }
            part.inner().for_each(|text| all.extend(text.asked(which)));
        }
        all
    }

    /// Whether it holds what a condition captured.
    pub fn has_captures(&self) -> bool {
        self.parts
            .iter()
            .any(|p| matches!(p.source(), Part::Capture(_)) || p.inner().any(Template::has_captures))
    }

    /// Hands on what its variables ask.
    pub(crate) fn visit(&self, each: &mut dyn FnMut(Fetch)) {
        for part in &self.parts {
            match part.source() {
                Part::Text1(fetch, _)
                | Part::Last(fetch, _)
                | Part::Address(fetch)
                | Part::Number(fetch)
                | Part::Count { fetch, .. }
                | Part::Nth { fetch, .. }
                | Part::Counted(fetch, _)
                | Part::Joined(fetch)
                | Part::Flag(fetch) => each(*fetch),
                Part::Uri | Part::Url => [Fetch::RawPath, Fetch::Query].into_iter().for_each(&mut *each),
                Part::Text(_)
                | Part::Uuid
                | Part::HostName
                | Part::Random
                | Part::UnixTime
                | Part::Capture(_)
                | Part::Converted(..) => {}
            }
            part.inner().for_each(|text| text.visit(each));
        }
    }

    /// Has the map files that its converters name loaded.
    pub fn load<E>(&mut self, load: &mut MapLoader<'_, E>) -> Result<(), E> {
        self.parts.iter_mut().try_for_each(|part| part.load(load))
    }

    /// The map files that its converters name.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut all = Vec::new();
        for part in &self.parts {
            if let Part::Converted(_, converters) = part {
                all.extend(converters.iter().filter_map(Converter::file).map(PathBuf::from));
            }
            part.inner().for_each(|text| all.extend(text.files()));
        }
        all
    }

    /// Whether it ends in the path, so that a query can follow.
    pub fn ends_in_path(&self) -> bool {
        matches!(self.parts.last(), Some(Part::Text1(Fetch::Path | Fetch::RawPath, _)))
    }

    /// Whether a request must have been read to render it.
    pub fn needs_http(&self) -> bool {
        let needs = |fetch: &Fetch| {
            let function = crate::FUNCTIONS.iter().find(|f| f.fetch == *fetch);
            function.is_some_and(|f| f.needs == NeedsHttp::Yes)
        };
        self.parts.iter().any(|part| {
            let own = match part.source() {
                Part::Uri | Part::Url => true,
                Part::Text1(fetch, _)
                | Part::Last(fetch, _)
                | Part::Joined(fetch)
                | Part::Count { fetch, .. }
                | Part::Nth { fetch, .. } => needs(fetch),
                _ => false,
            };
            own || part.inner().any(Template::needs_http)
        })
    }

    /// Whether there must be an answer to render it.
    pub fn needs_answer(&self) -> bool {
        let of_answers = [
            Fetch::Status,
            Fetch::AnswerHeader,
            Fetch::Server,
            Fetch::AnswerCookieName,
            Fetch::ServerCertificate,
        ];
        self.parts.iter().any(|part| {
            let own = match part.source() {
                Part::Text1(fetch, _)
                | Part::Last(fetch, _)
                | Part::Joined(fetch)
                | Part::Count { fetch, .. }
                | Part::Nth { fetch, .. }
                | Part::Number(fetch) => of_answers.contains(fetch),
                _ => false,
            };
            own || part.inner().any(Template::needs_answer)
        })
    }

    /// The text, where no variable is in it.
    pub fn constant(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            [] => Some(&[]),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }
}

impl Part {
    fn load<E>(&mut self, load: &mut MapLoader<'_, E>) -> Result<(), E> {
        let Part::Converted(source, converters) = self else { return Ok(()) };
        source.load(load)?;
        converters.iter_mut().try_for_each(|converter| converter.load(load))
    }

    /// Writes it, and says whether it was there at all.
    fn render(&self, facts: &dyn Facts, captures: &Captures, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let mut written = |text: std::fmt::Arguments<'_>| {
            let _ = std::io::Write::write_fmt(out, text);
            true
        };
        match self {
            Part::Text(text) => out.extend_from_slice(text),
            Part::Text1(fetch, name) => return append(facts, *fetch, name, out),
            Part::Last(fetch, name) => {
                let mut found = false;
                facts.texts(*fetch, name, &mut |value| {
                    out.truncate(start);
                    out.extend_from_slice(value);
                    found = true;
                    false
                });
                return found;
            }
            Part::Joined(fetch) => {
                facts.texts(*fetch, "", &mut |value| {
                    if out.len() > start {
                        out.push(b',');
                    }
                    out.extend_from_slice(value);
                    false
                });
                return out.len() > start;
            }
            Part::Uri => return append(facts, Fetch::Uri, "", out),
            Part::Url => return append(facts, Fetch::Url, "", out),
            Part::Address(fetch) => {
                return facts.address(*fetch).is_some_and(|a| written(format_args!("{}", a.to_canonical())));
            }
            Part::Number(fetch) => {
                return facts.number(*fetch, &[]).is_some_and(|n| written(format_args!("{n}")));
            }
            Part::Counted(fetch, arguments) => {
                return facts.number(*fetch, arguments).is_some_and(|n| written(format_args!("{n}")));
            }
            Part::Flag(fetch) => out.push(if facts.flag(*fetch) { b'1' } else { b'0' }),
            Part::Uuid => uuid(facts.random(), out),
            Part::HostName => out.extend_from_slice(facts.host_name()),
            Part::Random => return written(format_args!("{}", facts.random() as u32)),
            Part::UnixTime => return written(format_args!("{}", facts.local_time().unix_s)),
            Part::Capture(number) => out.extend_from_slice(captures.get(*number)),
            Part::Count { fetch, name, listed } => {
                let mut count = 0;
                each_value(facts, (*fetch, name), *listed, &mut |_| {
                    count += 1;
                    false
                });
                return written(format_args!("{count}"));
            }
            Part::Nth { fetch, name, listed, at } => {
                return nth(facts, (*fetch, name), *listed, *at, out);
            }
            Part::Converted(source, converters) => {
                let there = source.render(facts, captures, out);
                return converted(converters, facts, captures, (out, start), there);
            }
        }
        true
    }

    /// Texts with variables that converters have.
    fn inner(&self) -> impl Iterator<Item = &Template> {
        let converters = match self {
            Part::Converted(_, converters) => converters.as_slice(),
            _ => &[],
        };
        converters.iter().flat_map(Converter::texts)
    }

    /// What it begins with, before anything is made of it.
    fn source(&self) -> &Part {
        match self {
            Part::Converted(source, _) => source.source(),
            part => part,
        }
    }
}

/// Facts as texts have them that leave this program.
struct Outward<'a>(&'a dyn Facts);

impl Facts for Outward<'_> {
    fn texts(&self, fetch: Fetch, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let fetch = if fetch == Fetch::Path { Fetch::FullPath } else { fetch };
        self.0.texts(fetch, name, test)
    }

    fn address(&self, fetch: Fetch) -> Option<IpAddr> {
        self.0.address(fetch)
    }

    fn number(&self, fetch: Fetch, arguments: &[String]) -> Option<u64> {
        self.0.number(fetch, arguments)
    }

    fn flag(&self, fetch: Fetch) -> bool {
        self.0.flag(fetch)
    }

    fn local_time(&self) -> LocalTime {
        self.0.local_time()
    }

    fn random(&self) -> u128 {
        self.0.random()
    }

    fn host_name(&self) -> &[u8] {
        self.0.host_name()
    }
}

/// What a text with variables is made of.
pub(crate) enum Piece<'a> {
    Literal(&'a str),
    /// What stands between its braces.
    Variable(&'a str),
}

/// Hands on the pieces of a text with their places; `{{` and `}}` are braces of their own.
pub(crate) fn scan<'a>(
    text: &'a str,
    each: &mut dyn FnMut(usize, Piece<'a>) -> Result<(), ParseError>,
) -> Result<(), ParseError> {
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if ["{{", "}}"].iter().any(|brace| rest.starts_with(brace)) {
            each(at, Piece::Literal(&rest[..1]))?;
            at += 2;
        } else if rest.starts_with('{') {
            let Some(end) = end_of(rest) else {
                return Err(ParseError::at(at..text.len(), "`{` without `}`").help("`{{` writes a brace"));
            };
            each(at, Piece::Variable(&rest[1..end]))?;
            at += end + 1;
        } else {
            // A lone `}` stands for itself.
            let after = rest.starts_with('}') as usize;
            let length = rest[after..].find(['{', '}']).map_or(rest.len(), |found| after + found);
            each(at, Piece::Literal(&rest[..length]))?;
            at += length;
        }
    }
    Ok(())
}

/// The place of the `}` that ends a variable; one between quotes does not.
fn end_of(text: &str) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'}' && !quoted;
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        ends
    })
}

/// The variable and its converters.
fn pieces(text: &str) -> Vec<&str> {
    let mut all = Vec::new();
    let (mut quoted, mut escaped, mut from) = (false, false, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'|' if !quoted => {
                all.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    all.push(&text[from..]);
    all
}

fn append(facts: &dyn Facts, fetch: Fetch, name: &str, out: &mut Vec<u8>) -> bool {
    facts.texts(fetch, name, &mut |value| {
        out.extend_from_slice(value);
        true
    })
}

/// RFC 9562, section 5.4.
fn uuid(random: u128, out: &mut Vec<u8>) {
    let bits = random & !(0xf << 76 | 3 << 62) | 4 << 76 | 2 << 62;
    let digits = format!("{bits:032x}");
    for (number, span) in [0..8, 8..12, 12..16, 16..20, 20..32].into_iter().enumerate() {
        if number > 0 {
            out.push(b'-');
        }
        out.extend_from_slice(&digits.as_bytes()[span]);
    }
}

/// Hands on each text of a name, or each value of the lists that they are.
fn each_value(
    facts: &dyn Facts,
    (fetch, name): (Fetch, &str),
    listed: bool,
    each: &mut dyn FnMut(&[u8]) -> bool,
) -> bool {
    facts.texts(fetch, name, &mut |text| match listed {
        true => crate::evaluate::values(text).any(&mut *each),
        false => each(text),
    })
}

/// What converters make of the end of a text; whether there is anything.
fn converted(
    converters: &[Converter],
    facts: &dyn Facts,
    captures: &Captures,
    (out, start): (&mut Vec<u8>, usize),
    mut there: bool,
) -> bool {
    for converter in converters {
        if !there && matches!(converter, Converter::Present) {
            break;
        }
        there = converter.apply(facts, captures, out, start, there);
    }
    there
}

/// Writes one of several, counted from 1, or from the end below 0.
fn nth(facts: &dyn Facts, of: (Fetch, &str), listed: bool, at: i64, out: &mut Vec<u8>) -> bool {
    let at = if at == 0 { -1 } else { at };
    let mut wanted = at.unsigned_abs();
    if at < 0 {
        let mut count = 0u64;
        each_value(facts, of, listed, &mut |_| {
            count += 1;
            false
        });
        let Some(from_start) = (count + 1).checked_sub(wanted) else { return false };
        wanted = from_start;
    }
    let mut number = 0;
    each_value(facts, of, listed, &mut |value| {
        number += 1;
        if number == wanted {
            out.extend_from_slice(value);
        }
        number == wanted
    })
}

fn variable(text: &str) -> Result<Part, ParseError> {
    let pieces = pieces(text);
    let (word, converters) = pieces.split_first().map_or((text, &[][..]), |(word, rest)| (word.trim(), rest));
    let source = source(word)?;
    if converters.is_empty() {
        return Ok(source);
    }
    let converters = converters.iter().map(|text| convert::parse(text)).collect::<Result<_, _>>()?;
    Ok(Part::Converted(Box::new(source), converters))
}

fn source(word: &str) -> Result<Part, ParseError> {
    if let Some(text) = word.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
        return Ok(Part::Text(text.replace("\\\"", "\"").replace("\\\\", "\\").into_bytes().into()));
    }
    if let Some((kind @ ("rate" | "count"), rest)) = word.split_once(':') {
        let (table, counter) = rest.split_once(',').ok_or_else(|| unknown(word))?;
        let counter = counter.trim();
        if !COUNTERS.contains(&counter) && (kind, counter) != ("count", "current") {
            return Err(ParseError::at(0..0, format!("{counter:?} is no counter of a table"))
                .help(format!("counters: {}", COUNTERS.join(", "))));
        }
        let fetch = if kind == "rate" { Fetch::Rate } else { Fetch::Count };
        return Ok(Part::Counted(fetch, vec![table.trim().to_owned(), counter.to_owned()]));
    }
    if let Some((kind, name)) = word.split_once(':')
        && let Some(fetch) = of_pool(kind)
    {
        let arguments: Vec<String> = name.split(',').map(|word| word.trim().to_owned()).collect();
        let wanted = if fetch == Fetch::ServerConnections { 2 } else { 1 };
        return match arguments.len() == wanted && !arguments.iter().any(String::is_empty) {
            true => Ok(Part::Counted(fetch, arguments)),
            false => Err(unknown(word)),
        };
    }
    if let Some((kind, name)) = word.split_once(':') {
        let fetch = match kind {
            "header" => Fetch::Header,
            "cookie" => Fetch::Cookie,
            "query" => Fetch::Query,
            "body" => Fetch::Body,
            "variable" => Fetch::Variable,
            "proxy-value" => {
                let digits = name.strip_prefix("0x").filter(|d| d.len() == 2);
                let kind = digits.and_then(|d| u8::from_str_radix(d, 16).ok());
                kind.ok_or_else(|| ParseError::at(0..0, "a kind is written as 0x05"))?;
                Fetch::ProxyValue
            }
            "header-count" | "header-lines" | "last-header" | "header-value" | "header-line" => Fetch::Header,
            "last-cookie" | "cookie-count" => Fetch::Cookie,
            "client-certificate" | "own-certificate" | "server-certificate" => {
                if !crate::fetch::is_certificate_field(name) {
                    let why = format!("a certificate has no field {name:?}");
                    let fields = crate::fetch::CERTIFICATE_FIELDS.join(", ");
                    return Err(ParseError::at(0..0, why).help(format!("fields: {fields}, subject.CN")));
                }
                match kind {
                    "client-certificate" => Fetch::ClientCertificate,
                    "own-certificate" => Fetch::OwnCertificate,
                    _ => Fetch::ServerCertificate,
                }
            }
            "answer-header"
            | "last-answer-header"
            | "answer-header-value"
            | "answer-header-line"
            | "answer-header-count"
            | "answer-header-lines" => Fetch::AnswerHeader,
            _ => return Err(unknown(word)),
        };
        let listed = kind.ends_with("-value") || kind.ends_with("header-count");
        let (name, at) = match name.split_once(',') {
            Some((name, at)) if kind.ends_with("-value") || kind.ends_with("-line") => (name, at.trim()),
            _ => (name, "-1"),
        };
        let at = if at == "each" { Some(0) } else { at.parse::<i64>().ok().filter(|at| *at != 0) };
        let at =
            at.ok_or_else(|| ParseError::at(0..0, "values are counted from 1, or from -1 at the end"))?;
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~[]".contains(&b);
        let good = !name.is_empty() && name.len() <= 128 && name.bytes().all(token);
        if good && (kind.ends_with("-count") || kind.ends_with("-lines")) {
            return Ok(Part::Count { fetch, name: name.into(), listed });
        }
        return match good {
            true if kind.ends_with("-value") || kind.ends_with("-line") => {
                Ok(Part::Nth { fetch, name: name.into(), listed, at })
            }
            true if kind.starts_with("last-") => Ok(Part::Last(fetch, name.into())),
            true => Ok(Part::Text1(fetch, name.into())),
            false => Err(ParseError::at(0..0, format!("{name:?} is no name"))),
        };
    }
    if let Ok(number @ 1..=9) = word.parse::<usize>() {
        return Ok(Part::Capture(number));
    }
    Ok(match word {
        "uri" => Part::Uri,
        "url" => Part::Url,
        "cookie" => Part::Text1(Fetch::Cookie, "".into()),
        "cookie-names" => Part::Joined(Fetch::CookieName),
        "answer-cookie-names" => Part::Joined(Fetch::AnswerCookieName),
        "cookie-count" => Part::Count { fetch: Fetch::CookieName, name: "".into(), listed: false },
        "uuid" => Part::Uuid,
        "hostname" => Part::HostName,
        "random" => Part::Random,
        "unix-time" => Part::UnixTime,
        "source" => Part::Address(Fetch::Source),
        "destination" => Part::Address(Fetch::Destination),
        "connection-source" => Part::Address(Fetch::ConnectionSource),
        "connection-destination" => Part::Address(Fetch::ConnectionDestination),
        "port" => Part::Number(Fetch::Port),
        "source-port" => Part::Number(Fetch::SourcePort),
        "status" => Part::Number(Fetch::Status),
        "service-connections" => Part::Number(Fetch::ServiceConnections),
        _ => {
            let kinds = [crate::fetch::FetchKind::Text, crate::fetch::FetchKind::Flag];
            let known = crate::FUNCTIONS.iter().find(|f| f.name == word && kinds.contains(&f.kind));
            match known {
                Some(function) if function.kind == crate::fetch::FetchKind::Flag => {
                    Part::Flag(function.fetch)
                }
                Some(function) if function.fetch == Fetch::Query || function.arguments.is_empty() => {
                    Part::Text1(function.fetch, "".into())
                }
                _ => return Err(unknown(word)),
            }
        }
    })
}

/// What is asked of pools and servers by their names.
fn of_pool(kind: &str) -> Option<Fetch> {
    Some(match kind {
        "servers-up" => Fetch::ServersUp,
        "connections" => Fetch::Connections,
        "queued" => Fetch::Queued,
        "server-connections" => Fetch::ServerConnections,
        _ => return None,
    })
}

fn unknown(word: &str) -> ParseError {
    let names: Vec<_> = VARIABLES.iter().map(|v| format!("{{{}}}", v.name)).collect();
    ParseError::at(0..0, format!("there is no variable {{{word}}}"))
        .help(format!("variables: {}", names.join(", ")))
}
