//! glommio's part: whole blocks past the kernel's cache (`O_DIRECT`), by an io_uring of the journal's own.
//!
//! It earns its place under load: a flood of lines does not push the model files of a server on the same host out of the
//! page cache, and writeback does not stall anybody. It cannot write a part of a block, and its stream writer begins at
//! offset 0, pads the last block, and leaves the padding to be seen until the file is closed. So the blocks are written one
//! by one (`DmaFile::write_at`), and a block that a flush cuts is written by the kernel's cache, once, and completed that
//! way: no byte that is no line is ever in the file, its length is always right, an old file is appended to, and no page is
//! written both ways. With few lines that means the cache alone.
//!
//! glommio panics where io_uring is denied, and reads `/sys` without caution; the caller catches that. It polls a file for
//! completions that it can read, which costs a core: ours is opened for writing only. Cost: 6.5 MiB, 20 wake-ups a second.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::rc::Rc;
use std::time::Duration;

use glommio::io::{DmaFile, OpenOptions};
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, Task};

use super::buffered::{Buffered, Writer};
use super::plan;
use crate::net::runtime;

/// Memory for writes, registered with the kernel; see the module's cost.
const IO_MEMORY: usize = 256 * 1024;
/// Bytes of one write.
const CHUNK: usize = 128 * 1024;
/// Operations in flight: a write, a sync, a timer, and what glommio itself wants.
const RING_DEPTH: usize = 16;

/// The executor of this thread. It may panic.
///
/// # Errors
/// Why there is none.
pub fn executor(file: &File) -> Result<LocalExecutor, String> {
    if !runtime::has_uring() {
        return Err("the kernel denies io_uring".to_owned());
    }
    let data = file.metadata().map_err(|error| error.to_string())?;
    if !data.is_file() {
        return Err("it is no regular file".to_owned());
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if let Some(kind) = file_system(&mounts, data.dev()).filter(|kind| matches!(*kind, "tmpfs" | "ramfs")) {
        return Err(format!("{kind} is memory"));
    }
    let builder = LocalExecutorBuilder::new(Placement::Unbound).name("journal");
    builder.io_memory(IO_MEMORY).ring_depth(RING_DEPTH).make().map_err(|error| error.to_string())
}

/// The kind of the file system on device `dev`, by the lines of `mountinfo` (proc(5)).
fn file_system(mounts: &str, dev: u64) -> Option<&str> {
    let device = format!(
        "{}:{}",
        (dev >> 8) & 0xfff | (dev >> 32) & !0xfff,
        dev & 0xff | (dev >> 12) & !0xff & 0xffff_ffff
    );
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        (mount.split(' ').nth(2) == Some(device.as_str())).then(|| kind.split(' ').next())?
    })
}

/// A sync that runs, and whether it has ended.
type Syncing = (Task<io::Result<()>>, Rc<Cell<bool>>);

/// Past the kernel's cache.
#[derive(Default)]
pub struct Direct {
    /// `None`: this segment is written by the cache.
    file: Option<Rc<DmaFile>>,
    syncing: Option<Syncing>,
    cache: Buffered,
}

impl Writer for Direct {
    async fn open(&mut self, file: &File) -> io::Result<()> {
        self.file = None; // glommio closes the old one
        // By its descriptor: the path may be another's by now.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let direct = OpenOptions::new().write(true).dma_open(path).await.map_err(io::Error::from)?;
        if direct.align_up(1) > plan::BLOCK {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the disk has larger blocks than 4096"));
        }
        self.file = Some(Rc::new(direct));
        Ok(())
    }

    async fn write(&mut self, mut file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        let Some(direct) = &self.file else { return file.write_all(bytes) };
        let parts = plan::cut(bytes, at);
        file.write_all(parts.head)?;
        let mut at = at + parts.head.len() as u64;
        for chunk in parts.blocks.chunks(CHUNK) {
            let mut buffer = direct.alloc_dma_buffer(chunk.len());
            buffer.as_bytes_mut().copy_from_slice(chunk);
            let written = direct.write_at(buffer, at).await.map_err(io::Error::from)?;
            if written < chunk.len() {
                return Err(io::Error::new(io::ErrorKind::StorageFull, "the disk took a part of a write"));
            }
            at += written as u64;
        }
        file.write_all(parts.tail)
    }

    async fn sync(&mut self, file: &File, to_the_end: bool) -> io::Result<()> {
        let before = match self.syncing.take() {
            Some((task, done)) if !to_the_end && !done.get() => {
                self.syncing = Some((task, done));
                return Ok(());
            }
            Some((task, _)) => task.await,
            None => Ok(()),
        };
        let Some(direct) = self.file.clone() else {
            return before.and(self.cache.sync(file, to_the_end).await);
        };
        let done = Rc::new(Cell::new(false));
        let inside = Rc::clone(&done);
        let task = glommio::spawn_local(async move {
            let outcome = direct.fdatasync().await.map_err(io::Error::from);
            inside.set(true);
            outcome
        });
        if to_the_end {
            return before.and(task.await);
        }
        self.syncing = Some((task, done));
        before
    }

    async fn rest(&mut self, time: Duration) {
        glommio::timer::sleep(time).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_found_by_their_device() {
        let mounts = "21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                      40 21 0:37 / /run/x rw - tmpfs tmpfs rw,size=64k\n\
                      41 21 259:70000 / /data rw master:1 - xfs /dev/nvme0n1p2 rw\n";
        let dev = |major: u64, minor: u64| {
            (minor & 0xff) | (major & 0xfff) << 8 | (minor & !0xff) << 12 | (major & !0xfff) << 32
        };
        assert_eq!(file_system(mounts, dev(254, 0)), Some("ext4"));
        assert_eq!(file_system(mounts, dev(0, 37)), Some("tmpfs"));
        assert_eq!(file_system(mounts, dev(259, 70_000)), Some("xfs"));
        assert_eq!(file_system(mounts, dev(1, 1)), None);
    }
}
