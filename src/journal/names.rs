//! Names of segments, and which of the closed ones go.
//!
//! The open segment is the configured path. A closed one is `NAME-<UTC time>-<number>.EXT` beside it, with `.gz` behind
//! when it is compressed; its number grows by one with each, so that the order does not hang on the clock. Other files of
//! the folder are never touched.

use std::path::{Path, PathBuf};

use crate::telemetry::log::rfc3339;

/// Behind the name of a segment that is compressed.
pub const COMPRESSED: &str = ".gz";
/// Behind the name of one that is not complete yet.
pub const PART: &str = ".gz.part";

/// The path of the open segment, taken apart.
#[derive(Debug, Clone)]
pub struct Names {
    /// The open segment.
    pub path: PathBuf,
    /// Where it and the closed ones are.
    pub folder: PathBuf,
    stem: String,
    extension: String,
}

/// A closed segment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Closed {
    /// Which it is.
    pub number: u64,
    /// Its name in the folder.
    pub name: String,
}

impl Closed {
    /// Whether it is compressed.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.name.ends_with(COMPRESSED)
    }
}

impl Names {
    /// The names that belong to `path`.
    #[must_use]
    pub fn of(path: PathBuf) -> Self {
        let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let extension = text(path.extension());
        Self {
            folder: path.parent().unwrap_or(Path::new("/")).to_owned(),
            stem: text(path.file_stem()),
            extension: if extension.is_empty() { extension } else { format!(".{extension}") },
            path,
        }
    }

    /// The name of segment `number`, closed so many seconds after 1970.
    #[must_use]
    pub fn closed(&self, seconds: u64, number: u64) -> String {
        let time: String = rfc3339(seconds, 0)
            .chars()
            .take_while(|c| *c != '.')
            .filter(|c| !matches!(c, '-' | ':'))
            .collect();
        format!("{}-{time}Z-{number:06}{}", self.stem, self.extension)
    }

    /// Reads such a name; `None`: another file.
    #[must_use]
    pub fn read(&self, name: &str) -> Option<Closed> {
        let plain = name.strip_suffix(COMPRESSED).unwrap_or(name);
        let rest = plain.strip_prefix(self.stem.as_str())?.strip_suffix(self.extension.as_str())?;
        let (time, number) = rest.strip_prefix('-')?.split_once('-')?;
        let digits = |text: &str, at_least: usize| {
            text.len() >= at_least && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        let (day, hour) = time.strip_suffix('Z')?.split_once('T')?;
        let fits =
            day.len() == 8 && hour.len() == 6 && digits(day, 8) && digits(hour, 6) && digits(number, 6);
        let number = number.parse().ok().filter(|_| fits)?;
        Some(Closed { number, name: name.to_owned() })
    }

    /// The part of a compressed segment that a process before this one left behind: `NAME` of its source.
    #[must_use]
    pub fn source_of_part<'a>(&self, name: &'a str) -> Option<&'a str> {
        let source = name.strip_suffix(PART)?;
        self.read(source).map(|_| source)
    }
}

/// The number of the segment that is closed next.
#[must_use]
pub fn next_number(closed: &[Closed]) -> u64 {
    closed.iter().map(|one| one.number).max().map_or(1, |number| number.saturating_add(1))
}

/// Those that are too many, the oldest first.
#[must_use]
pub fn surplus(mut closed: Vec<Closed>, segments_max: usize) -> Vec<Closed> {
    closed.sort();
    closed.truncate(closed.len().saturating_sub(segments_max));
    closed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_and_read() {
        let names = Names::of("/var/log/access.log".into());
        let name = names.closed(1_795_356_880, 1);
        assert_eq!(name, "access-20261122T141440Z-000001.log");
        assert_eq!(names.read(&name), Some(Closed { number: 1, name: name.clone() }));
        assert!(names.read(&format!("{name}.gz")).unwrap().is_compressed());
        assert_eq!(names.source_of_part(&format!("{name}.gz.part")), Some(name.as_str()));
        assert_eq!(names.read(&names.closed(0, 12_345_678)).unwrap().number, 12_345_678);
        let bare = Names::of("/x/journal".into());
        assert_eq!(bare.closed(0, 7), "journal-19700101T000000Z-000007");
        assert_eq!(bare.read("journal-19700101T000000Z-000007").map(|one| one.number), Some(7));
        let dashed = Names::of("/x/a-b.c.log".into());
        assert_eq!(dashed.read(&dashed.closed(5, 3)).map(|one| one.number), Some(3));
    }

    #[test]
    fn other_files_are_left_alone() {
        let names = Names::of("/var/log/access.log".into());
        for other in [
            "access.log",
            "access.log.1",
            "access-old.log",
            "access-20261130.log",
            "access-20261130T140000Z-1.log",
            "access-20261130T140000Z-000001.log.1",
            "access-20261130T140000Z-000001.log.gz.part",
            "access-20261130T140000Z-00000x.log",
            "access-20261130T140000-000001.log",
            "access-2026113€T140000Z-000001.log",
            "error-20261130T140000Z-000001.log",
            "access-extra-20261130T140000Z-000001.log",
            "",
        ] {
            assert_eq!(names.read(other), None, "{other}");
        }
        assert_eq!(names.source_of_part("movie.gz.part"), None);
    }

    #[test]
    fn the_oldest_go_by_their_number() {
        let names = Names::of("/l/a.log".into());
        let closed = |number| names.read(&names.closed(1_000_000 - number, number)).unwrap();
        let all = vec![closed(3), closed(1), closed(12), closed(2)];
        assert_eq!(next_number(&all), 13);
        assert_eq!(next_number(&[]), 1);
        let gone: Vec<u64> = surplus(all.clone(), 2).into_iter().map(|one| one.number).collect();
        assert_eq!(gone, [1, 2], "whatever the clock said");
        assert_eq!(surplus(all, 4), []);
    }
}
