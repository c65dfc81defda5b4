//! Texts as numbers, and what is made of them.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    And,
    Or,
    Xor,
}

pub fn integer(bytes: &[u8]) -> Option<i64> {
    std::str::from_utf8(bytes).ok()?.trim().parse().ok()
}

pub fn calculated(bytes: &[u8], kind: Arithmetic, with: i64) -> Vec<u8> {
    let Some(value) = integer(bytes) else { return Vec::new() };
    let result = match kind {
        Arithmetic::Add => value.saturating_add(with),
        Arithmetic::Sub => value.saturating_sub(with),
        Arithmetic::Mul => value.saturating_mul(with),
        Arithmetic::Div => value.checked_div(with).unwrap_or(i64::MAX),
        Arithmetic::Mod => value.checked_rem(with).unwrap_or(0),
        Arithmetic::And => value & with,
        Arithmetic::Or => value | with,
        Arithmetic::Xor => value ^ with,
    };
    result.to_string().into_bytes()
}

/// The number that a text begins with, 0 where it begins with none.
pub fn leading(bytes: &[u8]) -> i64 {
    let (negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        all => (false, all),
    };
    let end = digits.iter().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len());
    let number = digits[..end]
        .iter()
        .fold(0i64, |number, digit| number.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    if negative { -number } else { number }
}

/// A time as HTTP writes it (RFC 9110 section 5.6.7).
pub fn http_date(seconds: i64) -> String {
    let seconds = seconds.clamp(0, 253_402_300_799);
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let week_day = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][(days % 7) as usize];
    // Days in years from March on, so that the leap day is the last of one.
    let from_march = days + 719_468;
    let era = from_march / 146_097;
    let of_era = from_march % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let names = ["Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb"];
    let year = year_of_era + era * 400 + i64::from(month >= 10);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let name = names[month as usize];
    format!("{week_day}, {day:02} {name} {year} {hour:02}:{minute:02}:{second:02} GMT")
}

/// The number that hexadecimal digits are; none where there is another sign, or more than 16 digits.
pub fn of_hex(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok().filter(|text| !text.starts_with('+'))?;
    u64::from_str_radix(text, 16).ok().map(|number| number as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_texts_begin_with() {
        let check = |text: &str, expect: i64| assert_eq!(leading(text.as_bytes()), expect, "{text:?}");
        check("17", 17);
        check("-5", -5);
        check("12abc", 12);
        check("abc", 0);
        check("", 0);
        check("-", 0);
        check("99999999999999999999", i64::MAX);
    }

    #[test]
    fn times_of_http() {
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(http_date(i64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
