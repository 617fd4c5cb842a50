//! Where a new process finds the old one: a unix socket at a path, for this user and root only.
//!
//! Invariants: the socket file has mode 0600 before anybody can reach it, and it listens before it has its
//! name (it is made in a folder of mode 0700 beside the path, then renamed; the umask of the process is not
//! touched). A path that is something else than a socket is never removed, nor a socket that is answered,
//! except by [`Door::take_over`]. The file goes with its door, but only if it is still the door's own: the
//! socket keeps its inode, so the number means it.
//!
//! Two processes that bind one path in the same moment may both succeed; the last one has the path.

use std::ffi::{CString, OsStr};
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{check_peer, end_of};
use crate::net::clock;

/// A socket file's device and inode.
type Identity = (u64, u64);

/// The old process's side: a listening unix socket. Dropped, its file is removed if it is still its own.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    path: PathBuf,
    identity: Identity,
}

impl Door {
    /// Makes a door at `path`. A socket file that nobody answers is replaced.
    ///
    /// # Errors
    /// `AddrInUse`: somebody answers there, or it cannot be told. `AlreadyExists`: it is no socket.
    /// `InvalidInput`: the path is longer than 107 bytes, or its folder's than 96. Otherwise the folder
    /// cannot be written.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if is_socket(path)? {
            let used =
                |why: &str| io::Error::new(io::ErrorKind::AddrInUse, format!("{}: {why}", path.display()));
            match dial(path) {
                Ok(_) => return Err(used("another process answers there")),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {} // left behind
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(used(&format!("another process may be there: {error}"))),
            }
        }
        Self::place(path)
    }

    /// Makes a door at `path` in place of the old process's, in one step; for the new process once it has
    /// taken over.
    ///
    /// # Errors
    /// As [`Door::bind`], but for a socket that is answered.
    pub fn take_over(path: &Path) -> io::Result<Self> {
        is_socket(path)?;
        Self::place(path)
    }

    fn place(path: &Path) -> io::Result<Self> {
        address(path)?; // its name in the folder may be shorter
        let folder = Folder::beside(path)?;
        let inside = folder.inside();
        address(&inside)?; // or longer
        let listener = UnixListener::bind(&inside)?;
        listener.set_nonblocking(true)?;
        fs::set_permissions(&inside, Permissions::from_mode(0o600))?;
        let identity = identity(&inside)?;
        fs::rename(&inside, path)?;
        Ok(Self { listener, path: path.to_owned(), identity })
    }

    /// The next process that asks, at most `limit` from now; `None`: nobody came. A peer may leave at any
    /// time: one that only looked whether somebody answers ([`Door::bind`]) is found out when something is
    /// sent.
    ///
    /// # Errors
    /// `PermissionDenied`: somebody else's process asked, and was refused; the door stays open. Otherwise the
    /// system is out of something, such as descriptors.
    pub fn accept(&self, limit: Duration) -> io::Result<Option<UnixStream>> {
        let end = end_of(limit);
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    check_peer(&stream)?;
                    stream.set_nonblocking(false)?;
                    return Ok(Some(stream));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if !self.readable(end)? {
                return Ok(None);
            }
        }
    }

    /// Waits until somebody asks or a signal comes; `false`: the time is over.
    fn readable(&self, end: Instant) -> io::Result<bool> {
        let left_us = end.saturating_duration_since(clock::now()).as_micros();
        let millis = libc::c_int::try_from(left_us.div_ceil(1000)).unwrap_or(libc::c_int::MAX);
        let mut wanted = libc::pollfd { fd: self.listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the pointer is to one pollfd, and the count says so.
        match unsafe { libc::poll(&raw mut wanted, 1, millis) } {
            0 => Ok(clock::now() < end), // a limit that poll cannot hold is waited for in parts
            1.. => Ok(true),
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(true),
                error => Err(error),
            },
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|there| there == self.identity) {
            let _ = withdraw(&self.path, self.identity); // what stays is replaced by the next bind
        }
    }
}

/// Connects to an old process's door. Does not wait.
///
/// # Errors
/// `NotFound`, `ConnectionRefused`: there is none. `WouldBlock`: its process does not get to it.
/// `PermissionDenied`: it is another user's, or belongs to a process that is neither this user's nor root's.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let stream = dial(path)?;
    check_peer(&stream)?;
    Ok(stream)
}

/// Removes the file at `path`, which was `own` a moment ago. It is moved away, looked at, and put back if a
/// successor's has come in between: looking first and removing then could take the successor's.
pub(super) fn withdraw(path: &Path, own: Identity) -> io::Result<()> {
    let folder = Folder::beside(path)?;
    fs::rename(path, folder.inside())?;
    if identity(&folder.inside())? != own {
        fs::hard_link(folder.inside(), path)?; // fails if there is a newer one, which is right
    }
    Ok(())
}

pub(super) fn identity(path: &Path) -> io::Result<Identity> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Whether there is a socket; `false`: nothing is there.
fn is_socket(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => Ok(true),
        Ok(_) => {
            let message = format!("{} is there and is no socket", path.display());
            Err(io::Error::new(io::ErrorKind::AlreadyExists, message))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A folder that only this user can enter, beside a path, for one file; both go when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn beside(path: &Path) -> io::Result<Self> {
        let template = path.with_file_name(".hXXXXXX").into_os_string().into_vec();
        let template = CString::new(template).map_err(io::Error::from)?.into_raw();
        // SAFETY: a string of ours that ends in NUL; the call changes its last six letters in place.
        let made = !unsafe { libc::mkdtemp(template) }.is_null();
        let error = io::Error::last_os_error();
        // SAFETY: it comes from into_raw above, and its length has not changed.
        let name = unsafe { CString::from_raw(template) };
        if made { Ok(Self(OsStr::from_bytes(name.as_bytes()).into())) } else { Err(error) }
    }

    fn inside(&self) -> PathBuf {
        self.0.join("s")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.inside()); // mostly it was renamed
        let _ = fs::remove_dir(&self.0);
    }
}

/// A path as the kernel takes it.
fn address(path: &Path) -> io::Result<libc::sockaddr_un> {
    let bytes = path.as_os_str().as_bytes();
    // SAFETY: all zero is a valid sockaddr_un.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    let max = address.sun_path.len() - 1;
    if bytes.is_empty() || bytes.contains(&0) || bytes.len() > max {
        let message = format!("{}: a socket's path has 1 to {max} bytes and no NUL", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    Ok(address)
}

/// Connects without waiting: a process that does not accept must not hold this one.
fn dial(path: &Path) -> io::Result<UnixStream> {
    let address = address(path)?;
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::socket(libc::AF_UNIX, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and owned here only.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: the pointer is to a sockaddr_un that outlives the call, and the length is its own.
    let done = unsafe { libc::connect(fd, (&raw const address).cast(), length) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}
