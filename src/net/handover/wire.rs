//! What goes over the stream: a header of text, the descriptors in batches, then "ready" and its
//! acknowledgement.
//!
//! ```text
//! old → new   corelane-handover 00001 0000000042\n        version, bytes of what follows
//!             data 127.0.0.1:8080\n                       a line a socket: purpose, address
//!             admin 127.0.0.1:9090\n
//!             one byte n, with n descriptors (SCM_RIGHTS) again and again, n ≤ 64, in the order of the lines
//! new → old   ready\n
//! old → new   yours\n    or leave\n: the old one has given up on the new one and goes on serving
//! ```
//! A batch is one byte, which a stream cannot split, and the kernel never joins two batches in one recvmsg
//! (unix(7)). Bounds: [`SOCKETS_MAX`] lines of at most [`LINE_BYTES_MAX`], read after their length was
//! checked. A descriptor that comes with other bytes than a batch's is closed by the kernel, as nobody asks
//! for it.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::{Passed, Purpose, SOCKETS_MAX, end_of, invalid, listening};
use crate::net::{calls, clock};

const MAGIC: &str = "corelane-handover";
const VERSION: u32 = 1;
/// Bytes of the first line, which is as long in every version.
const FIRST_BYTES: usize = MAGIC.len() + " 00001 0000000042\n".len();

/// Longest line of a socket: `admin`, an IPv4-mapped address with a scope, a port.
const LINE_BYTES_MAX: usize = 80;

/// Descriptors of one message; the kernel's own limit is 253.
const BATCH: usize = 64;

const READY: &[u8; 6] = b"ready\n";
const YOURS: &[u8; 6] = b"yours\n";
const LEAVE: &[u8; 6] = b"leave\n";

/// Time for all of [`give`], [`take`] or [`say_ready`]: the other side has nothing else to do.
const LIMIT: Duration = Duration::from_secs(10);

/// Sends all of `sockets`, in this order. They stay open here: drop them after [`Verdict::Ready`].
///
/// # Errors
/// `InvalidInput`: more than [`SOCKETS_MAX`], nothing was sent. `TimedOut`: the peer does not read for 10 s.
/// Otherwise the peer has ended. The handover has failed, and nothing has changed here.
pub fn give(stream: &UnixStream, sockets: &[Passed]) -> io::Result<()> {
    let header = header(sockets.iter().map(|passed| (passed.purpose, passed.address)))?;
    let timed = Timed::new(stream, LIMIT)?;
    timed.write_all(header.as_bytes())?;
    for batch in sockets.chunks(BATCH) {
        let descriptors: Vec<RawFd> = batch.iter().map(|passed| passed.socket.as_raw_fd()).collect();
        timed.send_batch(&descriptors)?;
    }
    Ok(())
}

/// Receives what the peer gives, in its order; each is a listening TCP socket at the address that it is said
/// to have, and close-on-exec. Whether it blocks is as in the old process: the flag is shared.
///
/// # Errors
/// `InvalidData`: the peer speaks another version, or sends what it should not. `TimedOut`: 10 s are over.
/// `UnexpectedEof` and others: the peer has ended. All that was received is closed.
pub fn take(stream: &UnixStream) -> io::Result<Vec<Passed>> {
    take_within(stream, LIMIT)
}

pub(super) fn take_within(stream: &UnixStream, limit: Duration) -> io::Result<Vec<Passed>> {
    let timed = Timed::new(stream, limit)?;
    let announced = timed.read_header()?;
    let mut taken = Vec::with_capacity(announced.len());
    for batch in announced.chunks(BATCH) {
        for (&(purpose, address), fd) in batch.iter().zip(timed.receive_batch(batch.len())?) {
            let wrong =
                |what: String| invalid(format!("what was given as {} {address} {what}", purpose.name()));
            let socket = listening(fd).map_err(|error| wrong(error.to_string()))?;
            let bound = socket.local_addr()?;
            if !same(bound, address) {
                return Err(wrong(format!("listens on {bound}")));
            }
            taken.push(Passed { purpose, address: bound, socket });
        }
    }
    Ok(taken)
}

/// Tells the old process that this one serves, and waits until it has agreed to stop accepting.
///
/// # Errors
/// `ConnectionRefused`: the old process has given up on this one and goes on serving, so this one must end.
/// `TimedOut`: it has not answered for 10 s. Otherwise it is gone without a word: nobody else serves, so this
/// one should go on.
pub fn say_ready(stream: &UnixStream) -> io::Result<()> {
    let timed = Timed::new(stream, LIMIT)?;
    let said = timed.write_all(READY); // fails if the old process has ended it, with or without a word
    let mut answer = [0; YOURS.len()];
    timed.read_exact(&mut answer)?;
    match &answer {
        YOURS => said,
        LEAVE => {
            let message = "the old process has given up on this one and goes on serving";
            Err(io::Error::new(io::ErrorKind::ConnectionRefused, message))
        }
        _ => Err(invalid("the old process answers something else than yours or leave")),
    }
}

/// How a handover has ended, for the old process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The new process serves and knows that it does: stop accepting, drain.
    Ready,
    /// It does not, and was told to leave if it lives: go on as if nothing had been.
    Failed,
}

/// Waits until the new process says that it serves, at most `limit`. Its end, garbage and silence are
/// [`Verdict::Failed`]; then the peer is told to leave and the stream is shut down, so that a late "ready"
/// fails there.
#[must_use]
pub fn await_ready(stream: &UnixStream, limit: Duration) -> Verdict {
    let agreed = Timed::new(stream, limit).and_then(|timed| {
        let mut word = [0; READY.len()];
        timed.read_exact(&mut word)?;
        if &word != READY {
            return Err(invalid("something else than ready"));
        }
        timed.write_all(YOURS)
    });
    if agreed.is_ok() {
        return Verdict::Ready;
    }
    calls::send_now(stream.as_raw_fd(), LEAVE);
    let _ = stream.shutdown(Shutdown::Both); // fails if the peer is gone, which is as good
    Verdict::Failed
}

/// The first line and a line a socket.
pub(super) fn header(sockets: impl ExactSizeIterator<Item = (Purpose, SocketAddr)>) -> io::Result<String> {
    let count = sockets.len();
    if count > SOCKETS_MAX {
        let message = format!("{count} sockets, but a handover takes at most {SOCKETS_MAX}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let mut lines = String::new();
    for (purpose, address) in sockets {
        let _ = writeln!(lines, "{} {address}", purpose.name()); // a String takes everything
    }
    Ok(format!("{MAGIC} {VERSION:05} {:010}\n{lines}", lines.len()))
}

/// The length that a first line announces.
fn announced_bytes(first: &[u8]) -> io::Result<usize> {
    let words: Option<Vec<&str>> = str::from_utf8(first).ok().map(|text| text.split_whitespace().collect());
    let Some([MAGIC, version, bytes]) = words.as_deref() else {
        return Err(invalid("the peer does not speak the handover's language"));
    };
    if version.parse() != Ok(VERSION) {
        let message =
            format!("the peer speaks version {version} of the handover, this process version {VERSION}");
        return Err(invalid(message));
    }
    let bytes = bytes.parse().map_err(|_| invalid("the header's length is no number"))?;
    if bytes > SOCKETS_MAX * LINE_BYTES_MAX {
        return Err(invalid(format!("a header of {bytes} bytes is more than {SOCKETS_MAX} sockets need")));
    }
    Ok(bytes)
}

/// The sockets that the lines announce.
fn announced(lines: &[u8]) -> io::Result<Vec<(Purpose, SocketAddr)>> {
    let text = str::from_utf8(lines).map_err(|_| invalid("the header is no text"))?;
    let sockets = text.lines().map(|line| {
        let words = line.split_once(' ');
        let socket = words.and_then(|(name, address)| Some((Purpose::named(name)?, address.parse().ok()?)));
        socket.ok_or_else(|| invalid(format!("no purpose and address: {line:?}")))
    });
    let sockets = sockets.collect::<io::Result<Vec<_>>>()?;
    if sockets.len() > SOCKETS_MAX {
        return Err(invalid(format!("{} sockets announced, at most {SOCKETS_MAX} are taken", sockets.len())));
    }
    Ok(sockets)
}

/// Whether two addresses name the same place; an IPv6 flow label is not part of it.
fn same(one: SocketAddr, other: SocketAddr) -> bool {
    let scope = |address: SocketAddr| match address {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(address) => address.scope_id(),
    };
    one.ip() == other.ip() && one.port() == other.port() && scope(one) == scope(other)
}

/// The stream, with one deadline for all that is done through this.
struct Timed<'a> {
    stream: &'a UnixStream,
    end: Instant,
}

impl<'a> Timed<'a> {
    fn new(stream: &'a UnixStream, limit: Duration) -> io::Result<Self> {
        stream.set_nonblocking(false)?; // else SO_RCVTIMEO would not be waited for
        Ok(Self { stream, end: end_of(limit) })
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.end.saturating_duration_since(clock::now());
        let late = || io::Error::new(io::ErrorKind::TimedOut, "the other side of the handover is too slow");
        (!left.is_zero()).then_some(left).ok_or_else(late)
    }

    /// Runs a call that sends until it is neither interrupted nor out of its time.
    fn sending<T>(&self, mut call: impl FnMut(&UnixStream) -> io::Result<T>) -> io::Result<T> {
        loop {
            self.stream.set_write_timeout(Some(self.left()?))?;
            match call(self.stream) {
                Err(error) if passing(&error) => {} // the next look at the time ends it
                other => return other,
            }
        }
    }

    /// As [`Timed::sending`], for a call that receives.
    fn receiving<T>(&self, mut call: impl FnMut(&UnixStream) -> io::Result<T>) -> io::Result<T> {
        loop {
            self.stream.set_read_timeout(Some(self.left()?))?;
            match call(self.stream) {
                Err(error) if passing(&error) => {}
                other => return other,
            }
        }
    }

    fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = self.sending(|mut stream| stream.write(bytes))?;
            bytes = bytes.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    fn read_exact(&self, mut into: &mut [u8]) -> io::Result<()> {
        while !into.is_empty() {
            let got = self.receiving(|mut stream| stream.read(into))?;
            if got == 0 {
                return Err(ended());
            }
            into = into.get_mut(got..).unwrap_or_default();
        }
        Ok(())
    }

    fn read_header(&self) -> io::Result<Vec<(Purpose, SocketAddr)>> {
        let mut first = [0; FIRST_BYTES];
        self.read_exact(&mut first)?;
        let mut lines = vec![0; announced_bytes(&first)?];
        self.read_exact(&mut lines)?;
        announced(&lines)
    }

    fn send_batch(&self, descriptors: &[RawFd]) -> io::Result<()> {
        let sent = self.sending(|stream| send_descriptors(stream, descriptors))?;
        if sent == 1 { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    fn receive_batch(&self, wanted: usize) -> io::Result<Vec<OwnedFd>> {
        let Received { count, descriptors, cut } = self.receiving(receive_descriptors)?;
        if cut {
            let message = format!(
                "descriptors were cut off after {} of {wanted}: the limit of open files, or too many at once",
                descriptors.len()
            );
            return Err(invalid(message));
        }
        let count = count.ok_or_else(ended)?;
        if usize::from(count) != wanted || descriptors.len() != wanted {
            let got = descriptors.len();
            return Err(invalid(format!(
                "{got} descriptors came as a batch of {count}, {wanted} were announced"
            )));
        }
        Ok(descriptors)
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the other side of the handover has ended")
}

/// Whether a call is worth another try, as long as there is time.
fn passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

/// Bytes of control data that a batch takes, exactly: what is more is cut off.
// SAFETY: arithmetic on a length; unsafe only as all of the cmsg(3) macros are.
const CONTROL_BYTES: usize = unsafe { libc::CMSG_SPACE((BATCH * size_of::<RawFd>()) as u32) } as usize;

/// Control data, aligned as its first header needs it.
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

const _: () = assert!(align_of::<Control>() >= align_of::<libc::cmsghdr>());

/// Sends one byte, the count, with at most [`BATCH`] descriptors.
pub(super) fn send_descriptors(stream: &UnixStream, descriptors: &[RawFd]) -> io::Result<usize> {
    let descriptors = descriptors.get(..BATCH).unwrap_or(descriptors);
    let mut count = [descriptors.len() as u8];
    let mut part = libc::iovec { iov_base: count.as_mut_ptr().cast(), iov_len: count.len() };
    let mut control = Control([0; CONTROL_BYTES]);
    let bytes = size_of_val(descriptors) as u32;
    // SAFETY: a zeroed msghdr is valid. Its pointers are to locals that outlive the call. The control data
    // has room for one header and BATCH descriptors, and there are no more, so the first header exists and
    // the copy fits.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(bytes) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(bytes) as _;
        let data = libc::CMSG_DATA(header);
        std::ptr::copy_nonoverlapping(descriptors.as_ptr().cast::<u8>(), data, size_of_val(descriptors));
        libc::sendmsg(stream.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// What one message has brought.
struct Received {
    /// Its byte; `None`: the peer has ended.
    count: Option<u8>,
    /// All its descriptors, in order, close-on-exec.
    descriptors: Vec<OwnedFd>,
    /// There were more, for which there was no room.
    cut: bool,
}

/// Receives one byte and the descriptors that come with it.
fn receive_descriptors(stream: &UnixStream) -> io::Result<Received> {
    let mut count = [0u8];
    let mut part = libc::iovec { iov_base: count.as_mut_ptr().cast(), iov_len: count.len() };
    let mut control = Control([0; CONTROL_BYTES]);
    let mut descriptors = Vec::with_capacity(BATCH);
    // SAFETY: a zeroed msghdr is valid. Its pointers are to locals that outlive their use, with their true
    // lengths. The kernel has written the headers that the macros walk, and set msg_controllen to where they
    // end; a header of SCM_RIGHTS holds open descriptors that nobody else in this process knows, so each is
    // owned here once.
    let (got, flags) = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_BYTES as _;
        let got = libc::recvmsg(stream.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC);
        if got < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while let Some(&libc::cmsghdr { cmsg_len, cmsg_level, cmsg_type, .. }) = header.as_ref() {
            if cmsg_level == libc::SOL_SOCKET && cmsg_type == libc::SCM_RIGHTS {
                let length: usize = cmsg_len as _; // 32 bits wide with musl
                let bytes = length.saturating_sub(libc::CMSG_LEN(0) as usize);
                let data = libc::CMSG_DATA(header).cast::<RawFd>();
                for at in 0..bytes / size_of::<RawFd>() {
                    descriptors.push(OwnedFd::from_raw_fd(data.add(at).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
        (got, message.msg_flags)
    };
    let [byte] = count;
    let count = (got > 0).then_some(byte);
    Ok(Received { count, descriptors, cut: flags & libc::MSG_CTRUNC != 0 })
}
