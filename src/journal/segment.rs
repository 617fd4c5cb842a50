//! The open segment as a file: who holds it, whether it still stands at its path, and how it is closed.
//!
//! Whoever writes to a segment holds its lock (`flock`). That is what two processes of an upgrade, or a process and
//! a compressor, agree by: a successor finds the path locked, closes the segment of its predecessor by renaming it and opens
//! its own; the predecessor keeps its descriptor, finds the path locked in turn, and never touches it. Whatever a process
//! opens at the path, it appends to: nothing old is lost. Where a file system has no locks, everything counts as free.
//!
//! What is no regular file (`/dev/full`, a pipe) is written to and otherwise left alone.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::time::SystemTime;

use super::names::{Closed, Names, next_number};

/// How often the path is opened anew when it changes hands meanwhile.
const TRIES: usize = 16;

/// A segment that is written to.
#[derive(Debug)]
pub struct Segment {
    /// Opened for appending, and locked.
    pub file: File,
    /// Bytes of whole lines in it.
    pub length: u64,
    /// When its first line came, in milliseconds of the journal's time; `None`: it has none.
    pub begun_ms: Option<u64>,
    /// Whether it is a regular file.
    pub is_regular: bool,
    /// Whether its last line has no end: a process before this one was ended while it wrote.
    pub is_cut: bool,
    id: (u64, u64),
}

/// Both clocks, read together.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Milliseconds of the journal's own time, which never jumps.
    pub ms: u64,
    /// The wall clock, for names and the age of files found.
    pub wall: SystemTime,
}

impl Now {
    fn seconds(self) -> u64 {
        self.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
    }
}

impl Segment {
    /// Opens the path at the start of a process. A segment that another process writes to is closed by its new name.
    ///
    /// # Errors
    /// The path cannot be opened for appending, or the other's segment cannot be renamed.
    pub fn first(names: &Names, now: Now) -> io::Result<Self> {
        for _ in 0..TRIES {
            match Self::take(names, now)? {
                Some(segment) => return Ok(segment),
                None => rename_to_closed(names, now)?,
            }
        }
        Err(busy(names))
    }

    /// Opens the path; `None`: another process writes to what stands there.
    ///
    /// # Errors
    /// It cannot be opened for appending.
    pub fn take(names: &Names, now: Now) -> io::Result<Option<Self>> {
        for _ in 0..TRIES {
            let file = OpenOptions::new().append(true).create(true).open(&names.path)?;
            let segment = Self::of(file, now)?;
            if !segment.is_regular {
                return Ok(Some(segment));
            }
            if !lock(&segment.file) {
                return Ok(None);
            }
            if segment.stands_at(names) {
                return Ok(Some(segment.checked(names)));
            } // else it was renamed before it was locked
        }
        Err(busy(names))
    }

    /// Opens the segment that follows one that was closed: at the path, or, where another process has taken that, under the
    /// name of a closed one.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn next(names: &Names, now: Now) -> io::Result<Self> {
        if let Some(segment) = Self::take(names, now)? {
            return Ok(segment);
        }
        let path = names.folder.join(names.closed(now.seconds(), next_number(&list(names)?)));
        let segment = Self::of(OpenOptions::new().append(true).create_new(true).open(path)?, now)?;
        lock(&segment.file);
        Ok(segment)
    }

    fn of(file: File, now: Now) -> io::Result<Self> {
        let data = file.metadata()?;
        let age = data.created().or_else(|_| data.modified()).ok();
        let age = age.and_then(|made| now.wall.duration_since(made).ok()).unwrap_or_default();
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        Ok(Self {
            file,
            length: data.len(),
            begun_ms: (data.len() > 0).then(|| now.ms.saturating_sub(age_ms)),
            is_regular: data.is_file(),
            is_cut: false,
            id: (data.dev(), data.ino()),
        })
    }

    /// Looks whether the last line is whole; a file that may not be read counts as such.
    fn checked(mut self, names: &Names) -> Self {
        let mut last = [b'\n'];
        if self.length > 0
            && let Ok(file) = File::open(&names.path)
        {
            let _ = file.read_exact_at(&mut last, self.length - 1); // truncated meanwhile: nothing is cut
        }
        self.is_cut = last != *b"\n";
        self
    }

    /// Whether the path leads to this segment.
    #[must_use]
    pub fn stands_at(&self, names: &Names) -> bool {
        fs::metadata(&names.path).is_ok_and(|data| (data.dev(), data.ino()) == self.id)
    }

    /// Gives it the name of a closed one, if it stands at its path: else somebody has named it already.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn close(&self, names: &Names, now: Now) -> io::Result<()> {
        if self.is_regular && self.stands_at(names) { rename_to_closed(names, now) } else { Ok(()) }
    }

    /// Takes the file as it is now: somebody else has truncated it, or written to it.
    ///
    /// # Errors
    /// Its length cannot be read.
    pub fn measure(&mut self, now: Now) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        if length < self.length {
            self.begun_ms = (length > 0).then_some(now.ms);
        }
        self.length = length;
        Ok(())
    }
}

fn busy(names: &Names) -> io::Error {
    io::Error::new(
        io::ErrorKind::ResourceBusy,
        format!("{} changes hands all the time", names.path.display()),
    )
}

/// Locks `file`; `false`: another has it.
pub fn lock(file: &File) -> bool {
    !matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

fn rename_to_closed(names: &Names, now: Now) -> io::Result<()> {
    let closed = names.closed(now.seconds(), next_number(&list(names)?));
    match fs::rename(&names.path, names.folder.join(closed)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()), // somebody was faster
        outcome => outcome,
    }
}

/// The closed segments.
///
/// # Errors
/// The folder cannot be read.
pub fn list(names: &Names) -> io::Result<Vec<Closed>> {
    let mut closed = Vec::new();
    for entry in fs::read_dir(&names.folder)? {
        closed.extend(entry?.file_name().to_str().and_then(|name| names.read(name)));
    }
    Ok(closed)
}
