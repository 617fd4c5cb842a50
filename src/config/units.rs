//! Sizes, times and secrets: how the file writes them, and how they are shown again.
//!
//! Invariants: `parse` of what `Display` or `time_text` printed gives the same value (times to the millisecond);
//! a `Secret` is visible ASCII without blanks, so it can stand in a header, and only `expose` shows it.

use std::fmt;
use std::io::Read;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::problem::quote;

/// A size in bytes; in the file `"20MiB"`, `"64KiB"`, `"1GB"` or a plain integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// Units that a size may have, in the order in which `Display` tries them.
const SIZES: [(&str, u64); 8] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("KB", 1000),
    ("B", 1),
];

/// Units that a time may have, in milliseconds.
const TIMES: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl Bytes {
    /// Reads `"20MiB"`; `None` if it is no whole number with a known unit, or above `u64::MAX` bytes.
    pub fn parse(text: &str) -> Option<Self> {
        scaled(text, &SIZES).map(Self)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |scale: u64| self.0 != 0 && self.0.is_multiple_of(scale);
        let (unit, scale) = SIZES.into_iter().find(|&(_, scale)| fits(scale)).unwrap_or(("B", 1));
        write!(out, "{}{unit}", self.0 / scale)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads `"30s"`, `"100ms"`, `"2m"`, `"1h"`; `None` if it is no whole number with a known unit.
pub(super) fn parse_time(text: &str) -> Option<Duration> {
    scaled(text, &TIMES).map(Duration::from_millis)
}

/// The file's form of a time: whole seconds, else milliseconds.
pub(super) fn time_text(time: Duration) -> String {
    match time.subsec_millis() {
        0 => format!("{}s", time.as_secs()),
        _ => format!("{}ms", time.as_millis()),
    }
}

/// A whole number and one of `units` behind it, without a blank, as the product of both.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

/// A key that must not appear in logs, errors or `corelane config`.
///
/// `Debug` and `Serialize` show the masked form; there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Longest secret in bytes: it has to fit into a request head.
const SECRET_BYTES_MAX: usize = 4096;

impl Secret {
    /// Takes a literal, or reads `"env:NAME"` or `"file:PATH"` (without the blanks around it).
    ///
    /// # Errors
    /// A sentence for the operator, without the value: variable missing, file unreadable, empty, too long, or a
    /// character that no header may carry.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_with(text, |name| std::env::var(name))
    }

    fn parse_with(
        text: &str,
        variable: impl Fn(&str) -> Result<String, std::env::VarError>,
    ) -> Result<Self, String> {
        let value = if let Some(name) = text.strip_prefix("env:") {
            variable(name).map_err(|cause| match cause {
                std::env::VarError::NotPresent => {
                    format!("environment variable {} is not set: export it before the start", quote(name))
                }
                std::env::VarError::NotUnicode(_) => {
                    format!("environment variable {} is not text", quote(name))
                }
            })?
        } else if let Some(path) = text.strip_prefix("file:") {
            read_secret_file(path).map_err(|cause| format!("file {} cannot be read: {cause}", quote(path)))?
        } else {
            text.to_owned()
        };
        Self::checked(&value)
    }

    /// Takes a literal, whatever it begins with.
    ///
    /// # Errors
    /// As those of [`Secret::parse`].
    pub(super) fn literal(text: &str) -> Result<Self, String> {
        Self::checked(text)
    }

    fn checked(value: &str) -> Result<Self, String> {
        if value.is_empty() {
            return Err("the secret is empty".to_owned());
        }
        if value.len() > SECRET_BYTES_MAX {
            return Err(format!("the secret is longer than {SECRET_BYTES_MAX} bytes"));
        }
        if value.starts_with('…') {
            return Err("this is a masked secret, as `corelane config` prints it".to_owned());
        }
        if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the secret holds a blank, a control character or one beyond ASCII".to_owned());
        }
        Ok(Self(value.to_owned()))
    }

    /// The secret itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `…` and the last four characters; `…` alone if there are fewer than twelve.
    pub fn masked(&self) -> String {
        let count = self.0.chars().count();
        let shown = if count < 12 { count } else { count - 4 };
        format!("…{}", self.0.chars().skip(shown).collect::<String>())
    }
}

fn read_secret_file(path: &str) -> std::io::Result<String> {
    let mut text = String::new();
    let limit = 2 * SECRET_BYTES_MAX as u64;
    std::fs::File::open(path)?.take(limit).read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.masked())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.masked())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown_again() {
        let cases = [("20MiB", 20 << 20), ("64KiB", 65536), ("1GB", 1_000_000_000), ("2GiB", 2 << 30)];
        for (text, bytes) in cases {
            assert_eq!(Bytes::parse(text), Some(Bytes(bytes)), "{text}");
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        assert_eq!(Bytes::parse("3KB"), Bytes::parse("3kB"));
        for bytes in [0, 1, 1000, 1001, 1023, 1024, 1_500_000, 123_456_789, u64::MAX] {
            assert_eq!(Bytes::parse(&Bytes(bytes).to_string()), Some(Bytes(bytes)));
        }
        assert_eq!(serde_json::to_string(&Bytes(1 << 20)).unwrap(), "\"1MiB\"");
    }

    #[test]
    fn bad_sizes_and_times_are_none() {
        for text in ["", "B", "20", "20m", "20 MiB", "-1MiB", "1.5MiB", "20mib", "99999999999GiB", "1é"] {
            assert_eq!(Bytes::parse(text), None, "{text}");
        }
        for text in ["", "30", "s", "30 s", "-1s", "1.5s", "1w", "1h30m", "99999999999999999999s", "9é"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_read_and_shown_again() {
        for (text, ms, shown) in [
            ("30s", 30_000, "30s"),
            ("100ms", 100, "100ms"),
            ("2m", 120_000, "120s"),
            ("1h", 3_600_000, "3600s"),
            ("30d", 2_592_000_000, "2592000s"),
        ] {
            let time = parse_time(text).unwrap();
            assert_eq!(time, Duration::from_millis(ms));
            assert_eq!(time_text(time), shown);
            assert_eq!(parse_time(shown), Some(time));
        }
        assert_eq!(time_text(Duration::from_millis(1500)), "1500ms");
        assert_eq!(time_text(Duration::ZERO), "0s");
    }

    #[test]
    fn a_secret_shows_its_last_four_characters_at_most() {
        let long = Secret::parse("sk-0123456789abcd").unwrap();
        assert_eq!(format!("{long:?}"), "…abcd");
        assert_eq!(serde_json::to_string(&long).unwrap(), "\"…abcd\"");
        assert_eq!(long.expose(), "sk-0123456789abcd");
        assert_eq!(Secret::parse("0123456789a").unwrap().masked(), "…");
        assert_eq!(Secret::parse("0123456789ab").unwrap().masked(), "…89ab");
    }

    #[test]
    fn a_secret_is_read_from_where_the_text_says() {
        let variable = |name: &str| match name {
            "KEY" => Ok("from-the-environment".to_owned()),
            "EMPTY" => Ok(String::new()),
            _ => Err(std::env::VarError::NotPresent),
        };
        assert_eq!(Secret::parse_with("env:KEY", variable).unwrap().expose(), "from-the-environment");
        assert!(Secret::parse_with("env:OTHER", variable).unwrap_err().contains("\"OTHER\" is not set"));
        assert!(Secret::parse_with("env:EMPTY", variable).unwrap_err().contains("empty"));

        let path = std::env::temp_dir().join(format!("corelane-secret-{}", std::process::id()));
        std::fs::write(&path, "  from-a-file\n").unwrap();
        assert_eq!(Secret::parse(&format!("file:{}", path.display())).unwrap().expose(), "from-a-file");
        std::fs::write(&path, "x".repeat(SECRET_BYTES_MAX + 1)).unwrap();
        assert!(Secret::parse(&format!("file:{}", path.display())).unwrap_err().contains("longer"));
        std::fs::remove_file(&path).unwrap();
        assert!(Secret::parse(&format!("file:{}", path.display())).unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn a_secret_no_header_may_carry_is_refused_without_showing_it() {
        for text in ["top secret", "line\r\nbreak", "schlüssel-geheim", "…abcd", "tab\tsecret"] {
            let message = Secret::parse(text).unwrap_err();
            assert!(!message.contains(text), "{message}");
        }
    }
}
