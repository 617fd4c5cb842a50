//! Dates with an offset, from the file and back to it (RFC 3339).
//!
//! Invariant: `parse` of what `text` printed gives the same moment, to the nanosecond.
//! Source: days of the proleptic Gregorian calendar after Howard Hinnant, "chrono-Compatible Low-Level Date
//! Algorithms" (`days_from_civil`, `civil_from_days`).

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use toml::value::{Datetime, Offset};

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// The moment that `time` names; `None`: its date, time of day or offset is missing, or it lies before 1970.
pub(super) fn parse(time: &Datetime) -> Option<SystemTime> {
    let (date, clock, offset) = (time.date?, time.time?, time.offset?);
    let offset_minutes = match offset {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    let day = (i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let time = (clock.hour.into(), clock.minute.into(), clock.second.unwrap_or_default().into());
    let seconds = seconds(day, time) - offset_minutes * 60;
    let since = Duration::new(u64::try_from(seconds).ok()?, clock.nanosecond.unwrap_or_default());
    UNIX_EPOCH.checked_add(since)
}

/// `time` in UTC, e.g. `2030-12-31T23:59:59Z`, with as many digits of the second as it needs.
pub(super) fn text(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    let (year, month, day) = civil_from_days(seconds.div_euclid(DAY_SECONDS));
    let clock = seconds.rem_euclid(DAY_SECONDS);
    let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
    let mut out = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if since.subsec_nanos() > 0 {
        let digits = format!("{:09}", since.subsec_nanos());
        // Writing to a `String` cannot fail.
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
    out.push('Z');
    out
}

/// Seconds from 1970 to year, month and day, and hour, minute and second, in UTC.
pub(crate) const fn seconds(date: (i64, i64, i64), clock: (i64, i64, i64)) -> i64 {
    days_from_civil(date.0, date.1, date.2) * DAY_SECONDS + clock.0 * 3600 + clock.1 * 60 + clock.2
}

/// Days from 1970-01-01 to a date.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day, so many days after 1970-01-01.
const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400;
    (if month <= 2 { year + 1 } else { year }, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<SystemTime> {
        parse(&text.parse().unwrap())
    }

    #[test]
    fn moments_are_read_and_shown_in_utc() {
        for (text_in, seconds, shown) in [
            ("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z"),
            ("2000-02-29T12:00:00Z", 951_825_600, "2000-02-29T12:00:00Z"),
            ("2026-01-01 00:00:00+07:00", 1_767_200_400, "2025-12-31T17:00:00Z"),
            ("2025-12-31T23:30:00-00:30", 1_767_225_600, "2026-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59Z", 253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            let moment = read(text_in).unwrap();
            assert_eq!(moment, UNIX_EPOCH + Duration::from_secs(seconds), "{text_in}");
            assert_eq!(text(moment), shown);
            assert_eq!(read(shown), Some(moment));
        }
        let fine = read("2030-06-01T00:00:00.123400001Z").unwrap();
        assert_eq!(text(fine), "2030-06-01T00:00:00.123400001Z");
        assert_eq!(text(read("2030-06-01T00:00:00.5Z").unwrap()), "2030-06-01T00:00:00.5Z");
    }

    #[test]
    fn what_names_no_moment_is_none() {
        for text in [
            "2030-06-01T00:00:00",
            "2030-06-01",
            "12:00:00",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+01:00",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_of_the_calendar_comes_back() {
        let mut before = (1969, 12, 31);
        for days in 0..days_from_civil(10_000, 1, 1) {
            let date = civil_from_days(days);
            assert_eq!(days_from_civil(date.0, date.1, date.2), days);
            assert!(date > before && (1..=12).contains(&date.1) && (1..=31).contains(&date.2), "{date:?}");
            before = date;
        }
        assert_eq!(before, (9999, 12, 31));
    }
}
