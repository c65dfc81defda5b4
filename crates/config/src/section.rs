//! Typed reading of a table that the validator has already judged: what it refused reads as absent.
//! A configuration with anything refused makes no snapshot, so nothing is built on such an absence.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use evenkeel_model::{HostName, ListenAddress, Name, parse_duration, parse_size};
use evenkeel_rules::{Expression, LineFormat, Template};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What the validator has parsed, by the place where it begins in the file. A text that it refused is
/// not among them.
#[derive(Default)]
pub struct Parsed {
    pub conditions: HashMap<usize, Expression>,
    pub templates: HashMap<usize, Template>,
    pub lines: HashMap<usize, LineFormat>,
}

#[derive(Clone, Copy)]
pub struct Section<'a> {
    pub table: &'a DeTable<'a>,
    pub parsed: &'a Parsed,
}

impl<'a> Section<'a> {
    pub fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.get(key)
    }

    pub fn span(&self, key: &str) -> Option<Range<usize>> {
        self.value(key).map(Spanned::span)
    }

    pub fn text(&self, key: &str) -> Option<&'a str> {
        self.value(key)?.get_ref().as_str()
    }

    pub fn condition(&self, key: &str) -> Option<Expression> {
        self.parsed.conditions.get(&self.span(key)?.start).cloned()
    }

    pub fn template(&self, key: &str) -> Option<Template> {
        self.parsed.templates.get(&self.span(key)?.start).cloned()
    }

    /// A text with variables in a table whose keys are the user's own.
    pub fn template_of(&self, value: &Spanned<DeValue<'_>>) -> Option<Template> {
        self.parsed.templates.get(&value.span().start).cloned()
    }

    pub fn line_format(&self, key: &str) -> Option<LineFormat> {
        self.parsed.lines.get(&self.span(key)?.start).cloned()
    }

    pub fn name(&self, key: &str) -> Option<Name> {
        Name::new(self.text(key)?).ok()
    }

    pub fn flag(&self, key: &str) -> bool {
        self.value(key).and_then(|v| v.get_ref().as_bool()).unwrap_or(false)
    }

    pub fn integer(&self, key: &str) -> Option<i64> {
        integer(self.value(key)?.get_ref())
    }

    pub fn number<T: TryFrom<i64>>(&self, key: &str, default: T) -> T {
        self.integer(key).and_then(|n| T::try_from(n).ok()).unwrap_or(default)
    }

    pub fn duration(&self, key: &str, default: Duration) -> Duration {
        self.text(key).and_then(|t| parse_duration(t).ok()).unwrap_or(default)
    }

    pub fn size(&self, key: &str, default: u64) -> u64 {
        self.text(key).and_then(|t| parse_size(t).ok()).unwrap_or(default)
    }

    pub fn listen(&self, key: &str) -> Option<SocketAddr> {
        Some(ListenAddress::parse(self.text(key)?).ok()?.0)
    }

    /// `ADDRESS:PORT`, or `NAME:PORT` with an unspecified address; port 0 where none is written.
    pub fn server(&self, key: &str) -> Option<(SocketAddr, Option<HostName>)> {
        let text = self.text(key)?;
        let bare = evenkeel_model::bare_address(text).map(|address| SocketAddr::new(address, 0));
        let address = bare.or_else(|| Some(ListenAddress::parse(text).ok()?.0));
        address.map(|address| (address, None)).or_else(|| {
            let (name, port) = HostName::with_port(text)?;
            Some((SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port), Some(name)))
        })
    }

    /// The entries of a table whose keys are the user's own, in their written order.
    pub fn entries(&self, key: &str) -> Vec<(&'a str, &'a Spanned<DeValue<'a>>)> {
        let table = self.value(key).and_then(|v| v.get_ref().as_table());
        let mut all: Vec<_> = table.into_iter().flat_map(|t| t.iter()).collect();
        all.sort_by_key(|(name, _)| name.span().start);
        all.into_iter().map(|(name, value)| (&**name.get_ref(), value)).collect()
    }

    pub fn section(&self, key: &str) -> Option<Section<'a>> {
        Some(Section { table: self.value(key)?.get_ref().as_table()?, ..*self })
    }

    /// The elements of an array with their places; nothing when the key is absent.
    pub fn list(&self, key: &str) -> impl Iterator<Item = &'a Spanned<DeValue<'a>>> + use<'a> {
        let array = self.value(key).and_then(|v| v.get_ref().as_array());
        array.into_iter().flat_map(|a| a.iter())
    }

    pub fn texts(&self, key: &str) -> Vec<String> {
        self.list(key).filter_map(|v| v.get_ref().as_str().map(str::to_owned)).collect()
    }

    pub fn sections(&self, key: &str) -> impl Iterator<Item = (Section<'a>, Range<usize>)> + use<'a> {
        let parsed = self.parsed;
        self.list(key)
            .filter_map(move |v| Some((Section { table: v.get_ref().as_table()?, parsed }, v.span())))
    }
}

/// `100/10s`: how many, in what time.
pub fn rate(text: &str) -> Option<(u32, Duration)> {
    let (count, period) = text.split_once('/')?;
    let count = count.trim().parse().ok().filter(|c| *c > 0)?;
    let period = period.trim();
    let whole = if period.starts_with(|c: char| c.is_ascii_digit()) {
        period.to_owned()
    } else {
        format!("1{period}")
    };
    let period = parse_duration(&whole).ok().filter(|p| !p.is_zero() && *p <= Duration::from_secs(86_400))?;
    Some((count, period))
}

pub fn integer(value: &DeValue<'_>) -> Option<i64> {
    let found = value.as_integer()?;
    i64::from_str_radix(found.as_str(), found.radix()).ok()
}

pub fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = text.split_once('/')?;
    let (address, prefix): (IpAddr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
    (prefix <= evenkeel_model::host_prefix(address)).then_some((address, prefix))
}
