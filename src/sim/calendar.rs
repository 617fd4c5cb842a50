//! Wall-clock time as the dialects write it; the text of a second is made once.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The date of the current second, as text.
#[derive(Debug, Default)]
pub struct Calendar {
    second: Cell<u64>,
    iso: RefCell<String>,
    http: RefCell<String>,
}

impl Calendar {
    /// Seconds since 1970.
    pub fn unix(&self) -> u64 {
        self.now().as_secs()
    }

    /// Appends the time as `2026-01-31T12:00:00.123456789Z`.
    pub fn iso(&self, out: &mut Vec<u8>) {
        let nanos = self.now().subsec_nanos();
        out.extend_from_slice(self.iso.borrow().as_bytes());
        let _ = write!(out, ".{nanos:09}Z");
    }

    /// Appends the time as HTTP writes it.
    pub fn http(&self, out: &mut Vec<u8>) {
        self.now();
        out.extend_from_slice(self.http.borrow().as_bytes());
    }

    fn now(&self) -> Duration {
        let time = SystemTime::now();
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if since.as_secs() != self.second.get() {
            self.second.set(since.as_secs());
            *self.iso.borrow_mut() = iso(since.as_secs());
            *self.http.borrow_mut() = httpdate::fmt_http_date(time);
        }
        since
    }
}

/// `2026-01-31T12:00:00` of seconds since 1970 (civil from days, Howard Hinnant).
pub fn iso(unix: u64) -> String {
    let (days, rest) = (unix / 86_400, unix % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn writes_civil_dates() {
        assert_eq!(super::iso(0), "1970-01-01T00:00:00");
        assert_eq!(super::iso(951_782_400), "2000-02-29T00:00:00");
        assert_eq!(super::iso(1_767_225_599), "2025-12-31T23:59:59");
    }
}
