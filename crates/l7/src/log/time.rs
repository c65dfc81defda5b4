//! Local time for log lines, computed once a second.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// `20/Nov/2026:21:33:21` of the last second asked for.
pub struct LocalTime {
    zone: TimeZone,
    second: u64,
    text: String,
    syslog: String,
    utc: String,
    zoned: String,
    /// RFC 3339 to the second, and the distance of local time.
    iso: (String, String),
    /// 0 is Monday.
    weekday: u8,
    minute_of_day: u16,
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl LocalTime {
    pub fn new() -> LocalTime {
        LocalTime {
            zone: TimeZone::system(),
            second: u64::MAX,
            text: String::new(),
            syslog: String::new(),
            utc: String::new(),
            zoned: String::new(),
            iso: Default::default(),
            weekday: 0,
            minute_of_day: 0,
        }
    }

    fn refresh(&mut self, wall_ms: u64) {
        let second = wall_ms / 1_000;
        if second == self.second {
            return;
        }
        self.second = second;
        let stamp = Timestamp::from_second(second as i64).unwrap_or_default();
        let local = stamp.to_zoned(self.zone.clone());
        let with_zone = "%d/%b/%Y:%H:%M:%S %z";
        self.utc = stamp.to_zoned(TimeZone::UTC).strftime(with_zone).to_string();
        self.zoned = local.strftime(with_zone).to_string();
        self.iso = (local.strftime("%Y-%m-%dT%H:%M:%S").to_string(), local.strftime("%:z").to_string());
        let month = MONTHS[(local.month() as usize - 1) % 12];
        let (day, year) = (local.day(), local.year());
        let (hour, minute, second) = (local.hour(), local.minute(), local.second());
        self.text = format!("{day:02}/{month}/{year}:{hour:02}:{minute:02}:{second:02}");
        self.weekday = local.weekday().to_monday_zero_offset() as u8;
        self.minute_of_day = (i16::from(hour) * 60 + i16::from(minute)) as u16;
        self.syslog = format!("{month} {day:2} {hour:02}:{minute:02}:{second:02}");
    }

    /// `20/Nov/2026:21:33:21`, to which `.` and three digits of milliseconds are added.
    pub fn clf(&mut self, wall_ms: u64) -> &str {
        self.refresh(wall_ms);
        &self.text
    }

    /// `20/Nov/2026:20:33:21 +0000`.
    pub fn utc(&mut self, wall_ms: u64) -> &str {
        self.refresh(wall_ms);
        &self.utc
    }

    /// The same in local time, with its distance.
    pub fn zoned(&mut self, wall_ms: u64) -> &str {
        self.refresh(wall_ms);
        &self.zoned
    }

    /// The day of the week (0 is Monday) and the minute of the day.
    pub fn minute(&mut self, wall_ms: u64) -> (u8, u16) {
        self.refresh(wall_ms);
        (self.weekday, self.minute_of_day)
    }

    /// `2026-11-20T21:33:21.123000+01:00` (RFC 3339).
    pub fn rfc3339(&mut self, wall_ms: u64) -> String {
        self.refresh(wall_ms);
        let (second, distance) = &self.iso;
        format!("{second}.{:03}000{distance}", wall_ms % 1_000)
    }

    /// `Nov 20 21:33:21` (RFC 3164).
    pub fn syslog(&mut self, wall_ms: u64) -> &str {
        self.refresh(wall_ms);
        &self.syslog
    }
}

impl Default for LocalTime {
    fn default() -> LocalTime {
        LocalTime::new()
    }
}
