#![allow(clippy::disallowed_methods)] // test code: threads beside the executor may sleep

use std::cell::{Cell, RefCell};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Context;
use std::thread;
use std::time::Duration;

use monoio::buf::IoBufMut;

use super::*;
use crate::net::buffer::Buffers;
use crate::net::clock;
use crate::net::handoff::Door;
use crate::net::listener::Role;

/// Runs `test` on an executor of its own, which then has to end with nothing under way.
fn on_ring<F: Future<Output = ()>>(test: impl FnOnce(Rc<Executor>) -> F) {
    let executor = Executor::new(64).expect("a ring");
    executor.block_on(test(Rc::clone(&executor)));
    assert!(executor.end(), "what was left has ended");
}

/// One end on the ring, the other a plain socket.
fn pair(executor: &Rc<Executor>) -> (Socket, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    (Socket::new(Rc::clone(executor), near.into()), far)
}

async fn read(socket: &Socket, bytes: usize) -> Vec<u8> {
    let (result, slice) = socket.read(Vec::with_capacity(bytes).slice_mut(0..bytes)).await;
    let mut read = slice.into_inner();
    read.truncate(result.unwrap());
    read
}

#[test]
fn bytes_go_both_ways_in_order() {
    on_ring(|executor| async move {
        let (socket, far) = pair(&executor);
        let (mut reading, mut writing) = (far.try_clone().unwrap(), far);
        let sent: Vec<u8> = (0..3_000_000u32).map(|at| (at % 251) as u8).collect();
        let expected = sent.clone();
        let reader = thread::spawn(move || {
            let mut came = vec![0; expected.len()];
            reading.read_exact(&mut came).unwrap();
            assert!(came == expected);
            writing.write_all(&came).unwrap();
        });
        // More than the socket takes: a write waits, and goes on.
        let mut at = 0;
        let mut rest = sent.clone();
        while !rest.is_empty() {
            let (result, back) = socket.write(rest).await;
            rest = back;
            at += result.unwrap();
            rest.drain(..rest.len() - (sent.len() - at));
        }
        let mut came = Vec::new();
        while came.len() < sent.len() {
            came.extend(read(&socket, 70_000).await);
        }
        assert!(came == sent);
        assert!(read(&socket, 10).await.is_empty(), "the other end is closed");
        reader.join().unwrap();
    });
}

#[test]
fn a_read_that_is_given_up_loses_nothing() {
    on_ring(|executor| async move {
        let (socket, mut far) = pair(&executor);
        for round in 0..200u32 {
            let mut reading = socket.read(vec![0u8; 64]);
            let begun =
                std::future::poll_fn(|cx| std::task::Poll::Ready(Pin::new(&mut reading).poll(cx))).await;
            assert!(begun.is_pending());
            if round % 2 == 0 {
                pass().await; // it is with the kernel
            }
            if round % 3 == 0 {
                far.write_all(&round.to_ne_bytes()).unwrap();
            }
            reading.cancel();
            let (result, bytes) = reading.await;
            match result {
                Ok(n) => assert_eq!(bytes[..n], round.to_ne_bytes(), "what had come"),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
                    if round % 3 == 0 {
                        assert_eq!(read(&socket, 64).await, round.to_ne_bytes(), "is still there");
                    }
                }
            }
        }
    });
}

#[test]
fn what_is_posted_comes_before_what_is_written() {
    on_ring(|executor| async move {
        let buffers = Rc::new(Buffers::default());
        let (socket, mut far) = pair(&executor);
        let mut expected = Vec::new();
        let reader = thread::spawn(move || {
            thread::sleep(Duration::from_millis(30)); // the socket fills meanwhile
            let mut came = Vec::new();
            far.read_to_end(&mut came).unwrap();
            came
        });
        for round in 0..400u32 {
            let mut bytes = buffers.large();
            bytes.resize(6000, (round % 251) as u8);
            expected.extend_from_slice(&bytes[100..]);
            if let Err(mut rest) = socket.post(bytes, 100, &buffers) {
                rest.drain(..100);
                while !rest.is_empty() {
                    let (result, back) = socket.write(rest).await;
                    rest = back;
                    rest.drain(..result.unwrap());
                }
            }
        }
        socket.sent().await;
        assert!(socket.has_sent());
        drop(socket);
        assert!(reader.join().unwrap() == expected);
    });
}

#[test]
fn a_post_that_fails_shuts_the_connection_down() {
    on_ring(|executor| async move {
        let buffers = Rc::new(Buffers::default());
        let (socket, far) = pair(&executor);
        let mut other = far.try_clone().unwrap();
        far.shutdown(std::net::Shutdown::Read).unwrap();
        assert!(socket.post(b"for nobody".to_vec(), 0, &buffers).is_ok());
        assert!(read(&socket, 64).await.is_empty(), "whoever reads finds out");
        assert!(socket.has_sent());
        assert_eq!(other.read(&mut [0; 8]).unwrap(), 0, "and so does the peer");
    });
}

#[test]
fn reads_without_a_buffer_get_what_has_come() {
    const READERS: usize = 300; // more than there are buffers
    on_ring(|executor| async move {
        let buffers = Rc::new(Buffers::default());
        let left = Rc::new(Cell::new(READERS));
        let mut ends = Vec::new();
        for at in 0..READERS {
            let (socket, far) = pair(&executor);
            ends.push(far);
            let (left, buffers) = (Rc::clone(&left), Rc::clone(&buffers));
            let task = async move {
                for round in 0..3 {
                    let (result, bytes) = socket.receive(None, &buffers).await;
                    assert_eq!(result.unwrap(), bytes.len());
                    assert_eq!(bytes, format!("{at} {round}").into_bytes());
                    buffers.give(bytes);
                }
                let (result, bytes) = socket.receive(None, &buffers).await;
                assert_eq!((result.unwrap(), bytes.len()), (0, 0), "its end");
                left.set(left.get() - 1);
            };
            assert!(spawn(task).is_ok());
        }
        for round in 0..3 {
            for (at, far) in ends.iter_mut().enumerate() {
                far.write_all(format!("{at} {round}").as_bytes()).unwrap();
            }
            for _ in 0..200 {
                pass().await;
            }
        }
        drop(ends);
        while left.get() > 0 {
            pass().await;
        }
    });
}

#[test]
fn reads_without_a_buffer_are_given_up() {
    on_ring(|executor| async move {
        let buffers = Rc::new(Buffers::default());
        let (socket, mut far) = pair(&executor);
        for round in 0..2000u32 {
            let mut reading = socket.receive(None, &buffers);
            let waker = Context::from_waker(std::task::Waker::noop());
            assert!(Pin::new(&mut reading).poll(&mut { waker }).is_pending());
            if round % 2 == 0 {
                pass().await; // it is with the kernel
            }
            match round % 4 {
                0 | 1 => drop(reading), // more often than there are buffers: none is lost
                _ => {
                    reading.cancel();
                    let (result, bytes) = reading.await;
                    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::ECANCELED));
                    assert!(bytes.is_empty());
                }
            }
        }
        far.write_all(b"still").unwrap();
        assert_eq!(socket.receive(None, &buffers).await.1, b"still");
    });
}

#[test]
fn who_listens_knows_what_has_come_and_loses_nothing() {
    on_ring(|executor| async move {
        let buffers = Rc::new(Buffers::default());
        let settle = async || {
            for _ in 0..3 {
                pass().await;
            }
        };
        let (socket, mut far) = pair(&executor);
        assert_eq!(socket.is_quiet(), None, "nobody listens");
        for _ in 0..600 {
            socket.listen(&buffers);
            settle().await;
            assert_eq!(socket.is_quiet(), Some(true));
            far.write_all(b"bytes").unwrap();
            settle().await;
            assert_eq!(socket.is_quiet(), Some(false));
            let (result, bytes) = socket.receive(None, &buffers).await;
            assert_eq!((result.unwrap(), bytes.as_slice()), (5, &b"bytes"[..]));
            assert_eq!(socket.is_quiet(), None);
            buffers.give(bytes);
        }
        socket.listen(&buffers);
        drop(far);
        settle().await;
        assert_eq!(socket.is_quiet(), Some(false), "its end has come");
        // Dropped while it listens; more of them than there are buffers.
        let mut ends = Vec::new();
        for _ in 0..600 {
            let (socket, far) = pair(&executor);
            socket.listen(&buffers);
            ends.push(far);
        }
        settle().await;
        drop(ends);
        settle().await;
    });
}

#[test]
fn what_is_dropped_keeps_its_memory_and_its_descriptor() {
    on_ring(|executor| async move {
        for _ in 0..100 {
            let (socket, mut far) = pair(&executor);
            let number = socket.as_raw_fd();
            {
                let mut reading = pin!(socket.read(vec![0u8; 4096]));
                let waker = std::task::Waker::noop();
                assert!(reading.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
            }
            drop(socket);
            // Not handed to the kernel yet: the number must not be another's.
            let (other, mut peer) = pair(&executor);
            assert_ne!(other.as_raw_fd(), number);
            let _ = far.write_all(b"for nobody");
            peer.write_all(b"mine").unwrap();
            assert_eq!(read(&other, 64).await, b"mine");
        }
        while executor.driver.borrow().under_way() > 0 {
            executor.driver.borrow_mut().turn(Some(Duration::from_millis(1)));
        }
    });
}

#[test]
fn other_threads_wake_tasks() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let door = std::sync::Arc::new(Door::default());
    let pushing = std::sync::Arc::clone(&door);
    let pusher = thread::spawn(move || {
        for round in 0..300 {
            if round % 7 == 0 {
                thread::sleep(Duration::from_millis(1)); // the other is asleep
            }
            let socket = TcpStream::connect(addr).unwrap();
            while pushing.push((socket.try_clone().unwrap(), addr, Role::Plain)).is_err() {
                thread::yield_now();
            }
            drop(listener.accept().unwrap());
        }
    });
    on_ring(|_| async move {
        for _ in 0..300 {
            drop(door.pop().await);
        }
    });
    pusher.join().unwrap();
}

#[test]
fn sleeps_end_in_order_and_not_early() {
    on_ring(|executor| async move {
        let order = Rc::new(RefCell::new(Vec::new()));
        let left = Rc::new(Cell::new(5));
        for time_ms in [25u64, 5, 15, 1, 10] {
            let (order, left, executor) = (Rc::clone(&order), Rc::clone(&left), Rc::clone(&executor));
            let begin_ns = clock::now_ns();
            let task = async move {
                let time = Duration::from_millis(time_ms);
                Sleep::new(executor, time).await;
                assert!(clock::now_ns() - begin_ns >= time_ms * 1_000_000, "not early");
                order.borrow_mut().push(time_ms);
                left.set(left.get() - 1);
            };
            assert!(spawn(task).is_ok());
        }
        for _ in 0..50 {
            // One that is dropped leaves nothing to fire.
            let mut sleep = pin!(Sleep::new(Rc::clone(&executor), Duration::from_secs(3600)));
            assert!(sleep.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending());
        }
        while left.get() > 0 {
            Sleep::new(Rc::clone(&executor), Duration::from_millis(1)).await;
        }
        assert_eq!(*order.borrow(), [1, 5, 10, 15, 25]);
    });
}

#[test]
fn a_task_that_wakes_itself_lets_others_run() {
    on_ring(|executor| async move {
        let (socket, mut far) = pair(&executor);
        let is_over = Rc::new(Cell::new(false));
        let theirs = Rc::clone(&is_over);
        let task = async move {
            assert_eq!(read(&socket, 8).await, b"now");
            theirs.set(true);
        };
        assert!(spawn(task).is_ok());
        far.write_all(b"now").unwrap();
        let mut turns = 0;
        while !is_over.get() {
            pass().await;
            turns += 1;
            assert!(turns < 10_000, "the read has its turn");
        }
    });
}

#[test]
fn an_end_with_work_under_way_waits_for_it() {
    let dropped = Rc::new(Cell::new(0));
    struct Counted(Rc<Cell<u32>>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let executor = Executor::new(8).unwrap(); // fewer than are begun: the ring is flushed meanwhile
    let mut ends = Vec::new();
    executor.block_on(async {
        for _ in 0..100 {
            let (socket, far) = pair(&executor);
            ends.push(far);
            let counted = Counted(Rc::clone(&dropped));
            let task = async move {
                let _counted = counted;
                read(&socket, 64).await;
            };
            assert!(spawn(task).is_ok());
        }
        pass().await;
        pass().await;
        assert_eq!(executor.driver.borrow().under_way(), 100);
    });
    assert!(executor.end());
    assert_eq!(dropped.get(), 100);
}

#[test]
fn connects_are_refused_and_given_up() {
    on_ring(|executor| async move {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let socket = Socket::connect(Rc::clone(&executor), addr).await.unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        accepted.write_all(b"hello").unwrap();
        assert_eq!(read(&socket, 64).await, b"hello");
        drop(listener);
        let refused = Socket::connect(Rc::clone(&executor), addr).await;
        assert_eq!(refused.err().map(|error| error.kind()), Some(std::io::ErrorKind::ConnectionRefused));
        let nowhere = Socket::connect_unix(Rc::clone(&executor), std::path::Path::new("/nowhere/here")).await;
        assert_eq!(nowhere.err().map(|error| error.kind()), Some(std::io::ErrorKind::NotFound));
        for _ in 0..20 {
            // Nobody answers there.
            let mut connecting = pin!(Socket::connect(Rc::clone(&executor), "192.0.2.1:9".parse().unwrap()));
            let polled = connecting.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop()));
            assert!(polled.is_pending());
        }
    });
}
