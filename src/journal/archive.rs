//! What happens to closed segments: made durable, compressed, and the oldest deleted, on a thread of its own.
//!
//! A job looks at the whole folder, so what a process before this one has left undone is done too. A segment whose lock
//! another process holds is left to it and looked at again. A compressed segment is written under another name and
//! renamed when it is complete; only then its source goes. Cost: one gzip stream (some 300 KiB) while it runs, at a priority
//! below that of the shards.

use std::fs::{self, File};
use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::names::{COMPRESSED, Names, PART, surplus};
use super::plan::Every;
use super::segment::{list, lock};
use crate::net::{clock, cpu};

/// Pause before what was left undone is tried again.
const AGAIN_MS: u64 = 10_000;
/// How long the end of a process waits for a job. What is not done then, the next process does.
const LAST: Duration = Duration::from_secs(2);

/// What becomes of closed segments.
#[derive(Debug, Clone, Copy)]
pub struct Care {
    /// How many are kept.
    pub segments_max: usize,
    /// Whether they are compressed.
    pub compress: bool,
    /// Whether they are made durable.
    pub sync: bool,
}

/// Closed segments, and the job that cares for them.
#[derive(Debug)]
pub struct Archive {
    names: Names,
    care: Care,
    closed: Vec<File>,
    wanted: bool,
    again: Every,
    job: Option<JoinHandle<Tidied>>,
}

/// What a job did.
#[derive(Debug, Default)]
pub struct Tidied {
    /// What failed.
    pub errors: Vec<String>,
    /// Whether a segment is another process' still.
    pub is_busy: bool,
}

impl Archive {
    /// Nothing is closed yet; the folder is looked at once.
    #[must_use]
    pub fn new(names: Names, care: Care) -> Self {
        Self { names, care, closed: Vec::new(), wanted: true, again: Every::default(), job: None }
    }

    /// Takes a segment that is written to no more.
    pub fn take(&mut self, file: File) {
        self.closed.push(file);
        self.wanted = true;
        self.again = Every::default();
    }

    /// Begins a job if there is work and none runs; tells what failed in one that has ended.
    pub fn step(&mut self, now_ms: u64) -> Option<Vec<String>> {
        let mut told = None;
        if let Some(job) = self.job.take_if(|job| job.is_finished()) {
            let tidied = joined(job);
            self.wanted |= tidied.is_busy || !tidied.errors.is_empty();
            told = Some(tidied.errors);
        }
        if self.wanted && self.job.is_none() && self.again.is_due(now_ms, AGAIN_MS) {
            self.wanted = false;
            let (names, care, closed) = (self.names.clone(), self.care, std::mem::take(&mut self.closed));
            let thread = thread::Builder::new().name("journal-archive".to_owned());
            let job = thread.spawn(move || {
                cpu::give_way();
                tidy(&names, care, closed)
            });
            match job {
                Ok(job) => self.job = Some(job),
                Err(error) => {
                    self.wanted = true; // what was closed is closed, and in the folder
                    told = Some(vec![format!("no thread: {error}")]);
                }
            }
        }
        told
    }

    /// Makes durable what was closed last, and waits a little for a job that runs.
    pub fn finish(mut self) -> Vec<String> {
        let syncs = self.closed.iter().filter(|_| self.care.sync).map(File::sync_data);
        let mut errors: Vec<String> =
            syncs.filter_map(Result::err).map(|error| format!("sync of a closed segment: {error}")).collect();
        let end = clock::now() + LAST;
        if let Some(job) = self.job.take() {
            while !job.is_finished() && clock::now() < end {
                thread::park_timeout(Duration::from_millis(5));
            }
            if job.is_finished() {
                errors.extend(joined(job).errors);
            }
        }
        errors
    }
}

fn joined(job: JoinHandle<Tidied>) -> Tidied {
    job.join().unwrap_or_else(|_| Tidied { errors: vec!["the job has panicked".to_owned()], is_busy: false })
}

/// All of the work, once.
pub fn tidy(names: &Names, care: Care, closed: Vec<File>) -> Tidied {
    let mut tidied = Tidied::default();
    for file in closed.iter().filter(|_| care.sync) {
        tidied.note("sync of a closed segment", file.sync_data());
    }
    drop(closed); // gives their locks up
    let keep = delete_surplus(names, care, &mut tidied);
    tidied.note("reading the folder", keep);
    if care.compress {
        let listed = list(names).unwrap_or_default(); // the line above has told
        for one in listed.into_iter().filter(|one| !one.is_compressed()) {
            let outcome = compress(names, &one.name, care.sync);
            if matches!(outcome, Ok(false)) {
                tidied.is_busy = true;
            }
            tidied.note(&format!("compressing {}", one.name), outcome.map(drop));
        }
    }
    tidied
}

impl Tidied {
    fn note(&mut self, what: &str, outcome: io::Result<()>) {
        if let Err(error) = outcome {
            self.errors.push(format!("{what}: {error}"));
        }
    }
}

/// Deletes the oldest segments that are too many, and parts whose source is gone.
fn delete_surplus(names: &Names, care: Care, tidied: &mut Tidied) -> io::Result<()> {
    for one in surplus(list(names)?, care.segments_max) {
        let path = names.folder.join(&one.name);
        let outcome = match File::open(&path) {
            Ok(file) if !lock(&file) => {
                tidied.is_busy = true;
                continue;
            }
            _ => fs::remove_file(&path),
        };
        tidied.note(&format!("deleting {}", one.name), absent_is_fine(outcome));
    }
    for entry in fs::read_dir(&names.folder)? {
        let name = entry?.file_name();
        let source = name.to_str().and_then(|name| names.source_of_part(name));
        if source.is_some_and(|source| !names.folder.join(source).exists()) {
            let outcome = fs::remove_file(names.folder.join(&name));
            tidied.note("deleting a part", absent_is_fine(outcome));
        }
    }
    Ok(())
}

/// Another process may tidy too.
fn absent_is_fine(outcome: io::Result<()>) -> io::Result<()> {
    outcome.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Compresses a closed segment; `false`: another process writes to it, or compresses it.
fn compress(names: &Names, name: &str, sync: bool) -> io::Result<bool> {
    let path = names.folder.join(name);
    let mut source = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        source => source?,
    };
    if !lock(&source) {
        return Ok(false);
    }
    if !path.exists() {
        return Ok(true); // another has compressed it since it was opened
    }
    let part = names.folder.join(format!("{name}{PART}"));
    let written = write_gzip(&mut source, &part, sync)
        .and_then(|()| fs::rename(&part, names.folder.join(format!("{name}{COMPRESSED}"))));
    if written.is_err() {
        let _ = fs::remove_file(&part); // gives the space back; the source stays
    }
    written.and_then(|()| fs::remove_file(&path)).map(|()| true)
}

fn write_gzip(source: &mut File, part: &std::path::Path, sync: bool) -> io::Result<()> {
    let file = File::create(part)?;
    file.set_permissions(source.metadata()?.permissions())?;
    let mut encoder = GzEncoder::new(file, Compression::fast());
    io::copy(source, &mut encoder)?;
    let file = encoder.finish()?;
    if sync { file.sync_all() } else { Ok(()) }
}
