//! What a writer does for the journal, and the plain one: `write(2)` by the kernel's cache.
//!
//! A sync may take as long as the disk likes, and the queue holds less than a second at full rate: it runs on a thread of
//! its own, one at a time.

use std::fs::File;
use std::future::Future;
use std::io::{self, Write as _};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How bytes get into the open segment.
pub trait Writer {
    /// Another segment is written from now on.
    async fn open(&mut self, file: &File) -> io::Result<()>;
    /// Appends `bytes` to a file that has `at` bytes. After an error any part of them may stand there.
    async fn write(&mut self, file: &File, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Makes durable what was written, without waiting for it, or, for the last time, `to_the_end`. Tells what became
    /// of the one before.
    async fn sync(&mut self, file: &File, to_the_end: bool) -> io::Result<()>;
    /// Leaves the thread alone for `time`.
    async fn rest(&mut self, time: Duration);
}

/// By the kernel's cache.
#[derive(Debug, Default)]
pub struct Buffered {
    syncing: Option<JoinHandle<io::Result<()>>>,
}

impl Writer for Buffered {
    async fn open(&mut self, _file: &File) -> io::Result<()> {
        Ok(())
    }

    async fn write(&mut self, mut file: &File, bytes: &[u8], _at: u64) -> io::Result<()> {
        file.write_all(bytes)
    }

    async fn sync(&mut self, file: &File, to_the_end: bool) -> io::Result<()> {
        let before = match self.syncing.take() {
            Some(running) if !to_the_end && !running.is_finished() => {
                self.syncing = Some(running);
                return Ok(());
            }
            Some(running) => joined(running),
            None => Ok(()),
        };
        if to_the_end {
            return before.and(file.sync_data());
        }
        let file = file.try_clone()?;
        let thread = thread::Builder::new().name("journal-sync".to_owned());
        self.syncing = Some(thread.spawn(move || file.sync_data())?);
        before
    }

    async fn rest(&mut self, time: Duration) {
        thread::park_timeout(time);
    }
}

fn joined(running: JoinHandle<io::Result<()>>) -> io::Result<()> {
    running.join().unwrap_or_else(|_| Err(io::Error::other("the sync has panicked")))
}

/// Runs a future that never waits but by blocking its thread: any of [`Buffered`].
pub fn run<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
    }
}
