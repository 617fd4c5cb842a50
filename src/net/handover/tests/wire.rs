//! The stream: what arrives, what is refused, and that neither side can hang or leak.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddrV6, UdpSocket};
use std::thread;

use super::super::wire::{header, send_descriptors, take_within};
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const SHORT: Duration = Duration::from_millis(20);

fn addresses(sockets: &[Passed]) -> Vec<(Purpose, SocketAddr)> {
    sockets.iter().map(|passed| (passed.purpose, passed.address)).collect()
}

/// What [`take`] says to a header and batches of descriptors, then the end of the stream.
fn answer(header: &[u8], batches: &[&[RawFd]]) -> (io::ErrorKind, String) {
    let before = open_fds();
    let (old, new) = UnixStream::pair().unwrap();
    (&old).write_all(header).unwrap();
    for batch in batches {
        send_descriptors(&old, batch).unwrap();
    }
    drop(old);
    let said = message(take(&new));
    drop(new);
    assert_eq!(open_fds(), before, "{said:?}");
    said
}

/// What [`take`] says to one socket that is given as something that it may not be.
fn answer_to(address: SocketAddr, fd: OwnedFd) -> (io::ErrorKind, String) {
    let (old, new) = UnixStream::pair().unwrap();
    give(&old, &[Passed { purpose: Purpose::Data, address, socket: TcpListener::from(fd) }]).unwrap();
    message(take(&new))
}

#[test]
fn many_listeners_arrive_in_order_and_lose_no_client() {
    alone(|| {
        let purpose = |at: usize| Purpose::ALL[at % 3];
        let sockets: Vec<_> = (0..130).map(|at| passed(purpose(at), listener())).collect();
        let clients: Vec<_> = sockets.iter().map(|one| TcpStream::connect(one.address).unwrap()).collect();
        let sent = addresses(&sockets);
        let (old, new) = UnixStream::pair().unwrap();
        let taker = thread::spawn(move || take(&new).unwrap());
        give(&old, &sockets).unwrap();
        let taken = taker.join().unwrap();
        drop(sockets);
        assert_eq!(addresses(&taken), sent);
        for (one, client) in taken.iter().zip(&clients) {
            assert!(is_close_on_exec(&one.socket));
            assert!(accepts(&one.socket, client), "connected before, accepted after");
            let later = TcpStream::connect(one.address).unwrap();
            assert!(accepts(&one.socket, &later));
        }
    });
}

#[test]
fn whole_batches_and_none_arrive() {
    alone(|| {
        for count in [0, 1, 63, 64, 65, 128] {
            let sockets: Vec<_> = (0..count).map(|_| passed(Purpose::Data, listener())).collect();
            let (old, new) = UnixStream::pair().unwrap();
            give(&old, &sockets).unwrap();
            assert_eq!(addresses(&take(&new).unwrap()), addresses(&sockets));
        }
    });
}

#[test]
fn sockets_of_one_address_and_of_ipv6_arrive() {
    alone(|| {
        let one = listener();
        let six = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        let sockets = [
            passed(Purpose::Data, one.try_clone().unwrap()),
            passed(Purpose::Data, one),
            passed(Purpose::Admin, six),
        ];
        let (old, new) = UnixStream::pair().unwrap();
        give(&old, &sockets).unwrap();
        assert_eq!(addresses(&take(&new).unwrap()), addresses(&sockets));
    });
}

#[test]
fn a_scope_is_part_of_the_address() {
    let address = SocketAddrV6::new("fe80::1".parse().unwrap(), 80, 0, 3);
    let text = header([(Purpose::Tls, SocketAddr::V6(address))].into_iter()).unwrap();
    assert_eq!(text, "corelane-handover 00001 0000000019\ntls [fe80::1%3]:80\n");
}

#[test]
fn a_giver_that_dies_leaves_nothing_behind() {
    alone(|| {
        let sockets: Vec<_> = (0..130).map(|_| passed(Purpose::Data, listener())).collect();
        let fds: Vec<RawFd> = sockets.iter().map(|one| one.socket.as_raw_fd()).collect();
        let header = header(addresses(&sockets).into_iter()).unwrap();
        for length in (0..60).chain(header.len() - 60..=header.len()) {
            assert_eq!(answer(&header.as_bytes()[..length], &[]).0, io::ErrorKind::UnexpectedEof);
        }
        let batches: Vec<&[RawFd]> = fds.chunks(64).collect();
        for count in 0..batches.len() {
            let said = answer(header.as_bytes(), &batches[..count]);
            assert_eq!(said.0, io::ErrorKind::UnexpectedEof, "after {count} batches");
        }
        assert!(sockets.iter().all(|one| TcpStream::connect(one.address).is_ok()));
    });
}

#[test]
fn a_taker_that_dies_changes_nothing() {
    alone(|| {
        let sockets = [passed(Purpose::Data, listener())];
        let still_serves = || {
            let client = TcpStream::connect(sockets[0].address).unwrap();
            accepts(&sockets[0].socket, &client)
        };
        // Before anything is read.
        let (old, new) = UnixStream::pair().unwrap();
        drop(new);
        assert_eq!(message(give(&old, &sockets)).0, io::ErrorKind::BrokenPipe);
        assert_eq!(await_ready(&old, SECOND), Verdict::Failed);
        assert!(still_serves());
        // With all of it unread.
        let (old, new) = UnixStream::pair().unwrap();
        give(&old, &sockets).unwrap();
        drop(new);
        assert_eq!(await_ready(&old, SECOND), Verdict::Failed);
        assert!(still_serves());
        // With all of it taken.
        let (old, new) = UnixStream::pair().unwrap();
        give(&old, &sockets).unwrap();
        drop(take(&new).unwrap());
        drop(new);
        assert_eq!(await_ready(&old, SECOND), Verdict::Failed);
        assert!(still_serves());
        // With "ready" said, but not acknowledged.
        let (old, new) = UnixStream::pair().unwrap();
        (&new).write_all(b"ready\n").unwrap();
        drop(new);
        assert_eq!(await_ready(&old, SECOND), Verdict::Failed);
        assert!(still_serves());
    });
}

#[test]
fn ready_is_agreed_on() {
    alone(|| {
        let (old, new) = UnixStream::pair().unwrap();
        let there = thread::spawn(move || say_ready(&new));
        assert_eq!(await_ready(&old, 10 * SECOND), Verdict::Ready);
        there.join().unwrap().unwrap();
    });
}

#[test]
fn a_ready_that_comes_late_is_refused() {
    alone(|| {
        for limit in [SHORT, Duration::ZERO] {
            let (old, new) = UnixStream::pair().unwrap();
            assert_eq!(await_ready(&old, limit), Verdict::Failed);
            assert_eq!(message(say_ready(&new)).0, io::ErrorKind::ConnectionRefused, "old is still open");
            let mut rest = String::new();
            (&new).read_to_string(&mut rest).unwrap();
            assert_eq!(rest, "", "and says no more");
            let (old, new) = UnixStream::pair().unwrap();
            assert_eq!(await_ready(&old, limit), Verdict::Failed);
            drop(old);
            assert_eq!(message(say_ready(&new)).0, io::ErrorKind::ConnectionRefused, "or closed");
        }
    });
}

#[test]
fn an_old_process_that_is_gone_does_not_refuse() {
    alone(|| {
        let (old, new) = UnixStream::pair().unwrap();
        drop(old);
        assert_eq!(message(say_ready(&new)).0, io::ErrorKind::UnexpectedEof);
        // With "ready" unread, so that the stream is reset.
        let (old, new) = UnixStream::pair().unwrap();
        let there = thread::spawn(move || say_ready(&new));
        let mut wanted = libc::pollfd { fd: old.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the pointer is to one pollfd, and the count says so.
        assert_eq!(unsafe { libc::poll(&raw mut wanted, 1, 10_000) }, 1);
        drop(old);
        assert_eq!(message(there.join().unwrap()).0, io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn garbage_is_not_ready() {
    alone(|| {
        for garbage in ["steady", "read", "READY\n", "\nready"] {
            let (old, new) = UnixStream::pair().unwrap();
            (&new).write_all(garbage.as_bytes()).unwrap();
            new.shutdown(Shutdown::Write).unwrap();
            assert_eq!(await_ready(&old, 10 * SECOND), Verdict::Failed, "{garbage:?}");
        }
        let (old, new) = UnixStream::pair().unwrap();
        (&old).write_all(b"other\n").unwrap();
        assert_eq!(message(say_ready(&new)).0, io::ErrorKind::InvalidData);
    });
}

#[test]
fn silence_ends_with_the_time() {
    alone(|| {
        let (old, new) = UnixStream::pair().unwrap();
        assert_eq!(message(take_within(&new, SHORT)).0, io::ErrorKind::TimedOut);
        let one = [passed(Purpose::Data, listener()), passed(Purpose::Data, listener())];
        (&old).write_all(header(addresses(&one).into_iter()).unwrap().as_bytes()).unwrap();
        new.set_nonblocking(true).unwrap(); // is set back
        assert_eq!(message(take_within(&new, SHORT)).0, io::ErrorKind::TimedOut, "between header and batch");
        // SAFETY: takes numbers only.
        let flags = unsafe { libc::fcntl(new.as_raw_fd(), libc::F_GETFL) };
        assert_eq!(flags & libc::O_NONBLOCK, 0, "waits, does not spin");
    });
}

#[test]
fn only_listeners_at_their_address_are_taken() {
    alone(|| {
        let socket = listener();
        let address = socket.local_addr().unwrap();
        let file: OwnedFd = File::open("/dev/null").unwrap().into();
        let (kind, text) = answer_to(address, file);
        assert_eq!(kind, io::ErrorKind::InvalidData);
        assert!(text.contains(&address.to_string()) && text.contains("is no socket"), "{text}");
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (_, text) = answer_to(udp.local_addr().unwrap(), udp.into());
        assert!(text.contains("is no TCP socket"), "{text}");
        let (unix, _other) = UnixStream::pair().unwrap();
        assert!(answer_to(address, unix.into()).1.contains("is no internet socket"));
        let connected = TcpStream::connect(address).unwrap();
        let (_, text) = answer_to(connected.local_addr().unwrap(), connected.into());
        assert!(text.contains("does not listen"), "{text}");
        let other = listener();
        let bound = other.local_addr().unwrap();
        let (_, text) = answer_to(address, other.into());
        assert!(text.contains(&format!("listens on {bound}")), "{text}");
    });
}

#[test]
fn one_wrong_descriptor_closes_all() {
    alone(|| {
        let good: Vec<_> = (0..100).map(|_| listener()).collect();
        let file = File::open("/dev/null").unwrap();
        let mut fds: Vec<RawFd> = good.iter().map(AsRawFd::as_raw_fd).collect();
        let announced: Vec<_> = good.iter().map(|one| (Purpose::Data, one.local_addr().unwrap())).collect();
        let header = header(announced.into_iter()).unwrap();
        for at in [0, 63, 64, 99] {
            let right = std::mem::replace(&mut fds[at], file.as_raw_fd());
            let (_, text) = answer(header.as_bytes(), &[&fds[..64], &fds[64..]]);
            assert!(text.contains("is no socket"), "{text}");
            fds[at] = right;
        }
    });
}

#[test]
fn batches_are_as_announced() {
    alone(|| {
        let socket = listener();
        let address = socket.local_addr().unwrap();
        let fds = [socket.as_raw_fd(); 64];
        let header_of = |count| header((0..count).map(|_| (Purpose::Data, address))).unwrap();
        for (count, sent, bytes) in [(2, 1, 1), (2, 3, 3), (1, 2, 2), (1, 64, 64), (70, 6, 6)] {
            let (_, text) = answer(header_of(count).as_bytes(), &[&fds[..sent]]);
            assert!(text.contains(&format!("{sent} descriptors came as a batch of {bytes}")), "{text}");
        }
        let bare = [header_of(1).as_bytes(), b"\x01"].concat();
        assert!(answer(&bare, &[]).1.contains("0 descriptors came as a batch of 1"));
        let early = [header_of(1).as_bytes(), b"\x02"].concat();
        assert_eq!(answer(&early, &[&fds[..1]]).0, io::ErrorKind::InvalidData, "out of step");
        for count in [0, 1, 3, 255] {
            let (old, new) = UnixStream::pair().unwrap();
            (&old).write_all(header_of(2).as_bytes()).unwrap();
            send_as(&old, count, &fds[..2]);
            let (_, text) = message(take(&new));
            assert!(text.contains(&format!("2 descriptors came as a batch of {count},")), "{text}");
        }
    });
}

#[test]
fn what_does_not_fit_is_closed() {
    alone(|| {
        let socket = listener();
        let address = socket.local_addr().unwrap();
        let header = header((0..64).map(|_| (Purpose::Data, address))).unwrap();
        let (old, new) = UnixStream::pair().unwrap();
        (&old).write_all(header.as_bytes()).unwrap();
        send_as(&old, 64, &[socket.as_raw_fd(); 200]);
        let before = open_fds();
        let (kind, text) = message(take(&new));
        assert_eq!(kind, io::ErrorKind::InvalidData);
        assert!(text.contains("cut off after 64"), "{text}");
        assert_eq!(open_fds(), before);
    });
}

/// A batch as a peer may send it that keeps no rules: any count, up to 200 descriptors.
fn send_as(stream: &UnixStream, count: u8, fds: &[RawFd]) {
    let mut byte = count;
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut control = [0u64; 128];
    let bytes = size_of_val(fds);
    // SAFETY: all pointers are to locals; the control data has 1024 bytes, the header and the descriptors
    // fewer.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(bytes as u32) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(bytes as u32) as _;
        std::ptr::copy_nonoverlapping(fds.as_ptr().cast(), libc::CMSG_DATA(header), bytes);
        libc::sendmsg(stream.as_raw_fd(), &raw const message, 0)
    };
    assert_eq!(sent, 1, "{}", io::Error::last_os_error());
}

#[test]
fn the_limit_of_open_files_is_an_error() {
    alone(|| {
        let socket = listener();
        let announced = (0..64).map(|_| (Purpose::Data, socket.local_addr().unwrap()));
        let (old, new) = UnixStream::pair().unwrap();
        (&old).write_all(header(announced).unwrap().as_bytes()).unwrap();
        send_descriptors(&old, &[socket.as_raw_fd(); 64]).unwrap();
        let before = open_fds();
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the pointer is to an rlimit.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
        limit.rlim_cur = 20;
        // SAFETY: as above.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
        let (_, text) = message(take(&new));
        assert!(text.contains("limit of open files"), "{text}");
        assert_eq!(open_fds(), before);
    });
}

#[test]
fn headers_are_judged_before_they_are_believed() {
    alone(|| {
        let many = "data 127.0.0.1:80\n".repeat(SOCKETS_MAX + 1);
        let many = format!("corelane-handover 00001 {:010}\n{many}", many.len());
        for (header, why) in [
            ("GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", "does not speak"),
            ("corelane-handover 00002 0000000000\n", "speaks version 00002"),
            ("corelane-handover 000x1 0000000000\n", "speaks version 000x1"),
            ("corelane-handover 00001 000000000x\n", "length is no number"),
            ("corelane-handover 00001 0000 00000\n", "does not speak"),
            ("corelane-handover 00001 9999999999\n", "more than 4096 sockets"),
            ("corelane-handover 00001 0000000018\nspam 127.0.0.1:80\n", "no purpose and address"),
            ("corelane-handover 00001 0000000015\ndata localhost\n", "no purpose and address"),
            ("corelane-handover 00001 0000000005\ndata\n", "no purpose and address"),
            ("corelane-handover 00001 0000000001\n\n", "no purpose and address"),
            (&many, "4097 sockets announced"),
        ] {
            let (kind, text) = answer(header.as_bytes(), &[]);
            assert_eq!(kind, io::ErrorKind::InvalidData, "{text}");
            assert!(text.contains(why), "{text:?} does not say {why:?}");
        }
        let binary = [b"corelane-handover 00001 0000000002\n".as_slice(), b"\xff\n"].concat();
        assert!(answer(&binary, &[]).1.contains("is no text"));
    });
}

#[test]
fn more_than_the_most_are_not_sent() {
    let socket = (Purpose::Data, SocketAddr::from((Ipv6Addr::from([0xffff; 8]), 65535)));
    let most = header((0..SOCKETS_MAX).map(|_| socket)).unwrap();
    assert_eq!(most.lines().count(), SOCKETS_MAX + 1);
    assert_eq!(message(header((0..SOCKETS_MAX + 1).map(|_| socket))).0, io::ErrorKind::InvalidInput);
}
