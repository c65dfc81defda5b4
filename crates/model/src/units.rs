//! Durations, sizes and weights as people write them.

use std::time::Duration;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnitError {
    #[error("expected a number and a unit, such as {0}")]
    Shape(&'static str),
    #[error("unknown unit {unit:?}, expected one of {expected}")]
    Unit { unit: String, expected: &'static str },
    #[error("the value is too large")]
    TooLarge,
    #[error("a weight is 0 to {max}, not {value}", max = Weight::MAX)]
    Weight { value: i64 },
}

/// `500ms`, `2s`, `1m30s`, `1.5h`, `7d`. Resolution: one millisecond.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    const UNITS: [(&str, u64); 5] =
        [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let millis = parse_units(text, &UNITS, "\"500ms\", \"2s\" or \"30m\"", "ms, s, m, h, d")?;
    Ok(Duration::from_millis(millis))
}

/// `512`, `64KiB`, `10MB`, `1GiB`, in bytes.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    const UNITS: [(&str, u64); 8] = [
        ("", 1),
        ("B", 1),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
    ];
    parse_units(text, &UNITS, "\"64KiB\" or \"10MB\"", "B, kB, KiB, MB, MiB, GB, GiB")
}

fn parse_units(
    text: &str,
    units: &[(&str, u64)],
    example: &'static str,
    expected: &'static str,
) -> Result<u64, UnitError> {
    let mut rest = text;
    let mut total: u64 = 0;
    if rest.is_empty() {
        return Err(UnitError::Shape(example));
    }
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let unit_end =
            rest[number_end..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |i| number_end + i);
        let (number, unit) = (&rest[..number_end], &rest[number_end..unit_end]);
        let scale = match units.iter().find(|(name, _)| *name == unit) {
            Some((_, scale)) => *scale,
            None if number.is_empty() || unit.is_empty() => return Err(UnitError::Shape(example)),
            None => return Err(UnitError::Unit { unit: unit.into(), expected }),
        };
        let part = scaled(number, scale).ok_or(UnitError::Shape(example))?;
        total = total.checked_add(part).filter(|t| *t < 1 << 50).ok_or(UnitError::TooLarge)?;
        rest = &rest[unit_end..];
    }
    Ok(total)
}

/// `1.5` times a scale, exact for up to six decimals; `None` when it is no plain number.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) || fraction.len() > 6 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let mut part = whole.checked_mul(scale)?;
    if !fraction.is_empty() {
        let digits: u64 = fraction.parse().ok()?;
        part = part.checked_add(digits * scale / 10u64.pow(fraction.len() as u32))?;
    }
    Some(part)
}

/// The shortest exact form that [`parse_duration`] reads back.
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, scale) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis != 0 && millis.is_multiple_of(scale) {
            return format!("{}{unit}", millis / scale);
        }
    }
    format!("{millis}ms")
}

/// The shortest exact form that [`parse_size`] reads back.
pub fn format_size(bytes: u64) -> String {
    for (unit, scale) in [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes != 0 && bytes.is_multiple_of(scale) {
            return format!("{}{unit}", bytes / scale);
        }
    }
    format!("{bytes}B")
}

/// A real server's share: 0 (no new clients) to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(u16);

impl Weight {
    pub const MAX: u16 = u16::MAX;
    pub const ZERO: Weight = Weight(0);

    pub fn new(value: i64) -> Result<Weight, UnitError> {
        u16::try_from(value).map(Weight).map_err(|_| UnitError::Weight { value })
    }

    pub fn get(self) -> u16 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Weight {
        Weight(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, millis: Option<u64>| {
            assert_eq!(parse_duration(text).ok(), millis.map(Duration::from_millis), "{text:?}");
        };
        check("500ms", Some(500));
        check("2s", Some(2_000));
        check("1m30s", Some(90_000));
        check("1.5s", Some(1_500));
        check("0s", Some(0));
        for bad in ["", "5", "s", "5 s", "-1s", "5sec", "1..5s", ".5s", "5.s", "99999999999999d"] {
            check(bad, None);
        }
        for text in ["1ms", "999ms", "1s", "90s", "2m", "3h", "7d", "0ms"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("10MB"), Ok(10_000_000));
        assert_eq!(parse_size("512"), Ok(512));
        assert!(parse_size("64Kib").is_err());
        assert!(parse_size("").is_err());
        assert_eq!(format_size(65_536), "64KiB");
    }
}
