//! The ring of one thread, and the operations that are under way on it.
//!
//! Invariant: memory that the kernel may write to, and the descriptor, belong to the operation's entry or to whoever waits for
//! it, until its completion is here. What is dropped unfinished leaves its memory in the entry ([`Driver::leave`]).

use std::any::Any;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use slab::Slab;

use super::ahead::{self, Touched};
use super::group::{self, Group};
use super::socket::poll_first;
use crate::net::buffer::{self, Buffers};
use crate::net::calls;

/// `IORING_ENTER_GETEVENTS` (io_uring_enter(2)): run what was deferred.
const GET_EVENTS: u32 = 1;
/// The number of the ring's own buffers, of which there is one group.
const GROUP: u16 = 0;
/// Completions that nobody waits for.
const NOBODY: u64 = u64::MAX;
/// The completion that says that another thread has woken a task.
const WOKEN: u64 = u64::MAX - 1;
/// Completions that fit the ring are so many times its entries; more are kept by the kernel, at a cost.
const COMPLETIONS: u32 = 4;

/// One operation.
struct Operation {
    state: State,
    /// Open until it completes: a number that is used again must not be another's.
    fd: Rc<OwnedFd>,
}

enum State {
    /// With the kernel; who waits.
    Waiting(Waker),
    /// A send with the kernel that nobody has to wait for.
    Posted(Posted),
    /// A read with the kernel that has no buffer yet; who waits, where buffers come from, and what is touched when it has ended.
    Receiving(Waker, Rc<Buffers>, Touched),
    /// What it has come to.
    Received(i32, Vec<u8>),
    /// What the kernel has said.
    Done(i32),
    /// With the kernel, and nobody waits; what it works on.
    Left(#[expect(dead_code, reason = "kept until it completes")] Box<dyn Any>),
}

impl State {
    fn is_over(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Received(..))
    }
}

/// What is sent while its sender goes on.
struct Posted {
    bytes: Vec<u8>,
    start: usize,
    /// Where the memory goes.
    buffers: Rc<Buffers>,
    /// Who waits all the same.
    waker: Option<Waker>,
}

enum Grouped {
    /// Nobody has asked for them.
    Unasked,
    /// The kernel does not take them.
    Denied,
    /// The kernel has them. Dropped after the ring.
    There(Group),
}

/// The ring. Used by its own thread only.
pub(in crate::net) struct Driver {
    ring: IoUring,
    operations: Slab<Operation>,
    /// Buffers for reads that have none, once there was one.
    group: Grouped,
    /// Written to by other threads.
    event: OwnedFd,
    /// Whether a poll of `event` is with the kernel.
    is_armed: bool,
}

impl Driver {
    /// A ring of `entries` for the calling thread.
    ///
    /// # Errors
    /// The kernel denies it, or lacks `DEFER_TASKRUN` (Linux 6.1).
    pub fn new(entries: u32) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all();
        let ring = builder.setup_cqsize(entries * COMPLETIONS).build(entries)?;
        // SAFETY: the call takes no memory; what it returns is a new descriptor or an error.
        let event = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if event < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as above; nobody else owns it.
        let event = unsafe { OwnedFd::from_raw_fd(event) };
        Ok(Self { ring, operations: Slab::new(), group: Grouped::Unasked, event, is_armed: false })
    }

    /// What other threads write to.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn event(&self) -> io::Result<OwnedFd> {
        self.event.try_clone()
    }

    /// Hands `entry` to the kernel with the next [`Driver::turn`]; its key.
    ///
    /// # Safety
    /// The memory that it names stays where it is until its completion: the caller keeps it, or gives it to [`Driver::leave`].
    pub unsafe fn begin(&mut self, entry: squeue::Entry, fd: &Rc<OwnedFd>, cx: &Context<'_>) -> usize {
        let state = State::Waiting(cx.waker().clone());
        let key = self.operations.insert(Operation { state, fd: Rc::clone(fd) });
        self.push(&entry.user_data(key as u64));
        key
    }

    /// Hands all of `bytes[start..]` to the kernel with the next [`Driver::turn`]; the key of it, which is to be polled or left.
    /// The memory goes to `buffers`. If not all of it can be sent the connection is shut down, and so whoever reads from it
    /// finds out.
    pub fn post(&mut self, bytes: Vec<u8>, start: usize, fd: &Rc<OwnedFd>, buffers: &Rc<Buffers>) -> usize {
        let rest = bytes.get(start..).unwrap_or_default();
        let (at, length) = (rest.as_ptr(), u32::try_from(rest.len()).unwrap_or(u32::MAX));
        let send = opcode::Send::new(types::Fd(fd.as_raw_fd()), at, length);
        let entry = send.flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL).build();
        let posted = Posted { bytes, start, buffers: Rc::clone(buffers), waker: None };
        let key = self.operations.insert(Operation { state: State::Posted(posted), fd: Rc::clone(fd) });
        self.push(&entry.user_data(key as u64));
        key
    }

    /// Reads from `fd` with the next [`Driver::turn`] into one of the ring's own buffers, which comes with the result; its key.
    /// `None`: there are none.
    pub fn receive(
        &mut self,
        fd: &Rc<OwnedFd>,
        buffers: &Rc<Buffers>,
        touched: Touched,
        cx: &Context<'_>,
    ) -> Option<usize> {
        if matches!(self.group, Grouped::Unasked) {
            let mut group = Group::new();
            // SAFETY: the memory is the group's, which lives as long as the ring.
            let taken =
                unsafe { self.ring.submitter().register_buf_ring(group.address(), group::ENTRIES, GROUP) };
            group.grow(buffers);
            self.group = if taken.is_ok() { Grouped::There(group) } else { Grouped::Denied };
        }
        if matches!(self.group, Grouped::Denied) {
            return None;
        }
        let receive =
            opcode::Recv::new(types::Fd(fd.as_raw_fd()), std::ptr::null_mut(), buffer::SMALL as u32);
        let entry = receive.buf_group(GROUP).build().flags(squeue::Flags::BUFFER_SELECT);
        let state = State::Receiving(cx.waker().clone(), Rc::clone(buffers), touched);
        let key = self.operations.insert(Operation { state, fd: Rc::clone(fd) });
        self.push(&poll_first(entry).user_data(key as u64));
        Some(key)
    }

    /// What [`Driver::receive`] has come to, with the buffer; its key is free then.
    pub fn poll_received(&mut self, key: usize, touched: Touched, cx: &Context<'_>) -> Poll<(i32, Vec<u8>)> {
        match self.operations.get_mut(key).map(|operation| &mut operation.state) {
            Some(State::Receiving(waker, _, known)) => {
                *known = touched;
                if !waker.will_wake(cx.waker()) {
                    waker.clone_from(cx.waker());
                }
                Poll::Pending
            }
            Some(State::Received(..)) => match self.operations.remove(key).state {
                State::Received(result, bytes) => Poll::Ready((result, bytes)),
                _ => Poll::Ready((-libc::EBADF, Vec::new())),
            },
            _ => Poll::Ready((-libc::EBADF, Vec::new())),
        }
    }

    /// What [`Driver::receive`] has come to, for who does not wait for it yet.
    pub fn received(&self, key: usize) -> Option<i32> {
        match self.operations.get(key).map(|operation| &operation.state) {
            Some(State::Received(result, _)) => Some(*result),
            Some(_) => None,
            None => Some(-libc::EBADF),
        }
    }

    /// Whether operation `key` has completed; its key is free then.
    pub fn has_ended(&mut self, key: usize) -> bool {
        match self.operations.get(key).map(|operation| &operation.state) {
            Some(State::Done(_)) => self.operations.try_remove(key).is_some(),
            Some(_) => false,
            None => true,
        }
    }

    /// What the kernel has said of operation `key`, whose key is free then.
    pub fn poll(&mut self, key: usize, cx: &Context<'_>) -> Poll<i32> {
        let Some(operation) = self.operations.get_mut(key) else { return Poll::Ready(-libc::EBADF) };
        match &mut operation.state {
            State::Done(result) => {
                let result = *result;
                self.operations.remove(key);
                Poll::Ready(result)
            }
            State::Waiting(waker) => {
                if !waker.will_wake(cx.waker()) {
                    waker.clone_from(cx.waker());
                }
                Poll::Pending
            }
            State::Posted(posted) => {
                posted.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            State::Left(_) | State::Receiving(..) | State::Received(..) => Poll::Pending,
        }
    }

    /// Asks the kernel to give operation `key` up. It completes all the same, with what had come or `ECANCELED`.
    pub fn cancel(&mut self, key: usize) {
        if self.operations.get(key).is_some_and(|operation| !operation.state.is_over()) {
            self.push(&opcode::AsyncCancel::new(key as u64).build().user_data(NOBODY));
        }
    }

    /// Nobody waits for operation `key` any more: it is given up, and `memory` is kept until it has completed.
    pub fn leave(&mut self, key: usize, memory: impl FnOnce() -> Box<dyn Any>) {
        self.cancel(key);
        let Some(operation) = self.operations.get_mut(key) else { return };
        match std::mem::replace(&mut operation.state, State::Done(0)) {
            State::Done(_) | State::Received(..) => drop(self.operations.remove(key)),
            State::Posted(posted) => operation.state = State::Left(Box::new(posted.bytes)),
            State::Waiting(_) | State::Receiving(..) | State::Left(_) => {
                operation.state = State::Left(memory());
            }
        }
    }

    /// Submits what has been begun, lets the kernel do what it deferred, and takes completions; waits up to `wait` for one, or
    /// not at all.
    pub fn turn(&mut self, wait: Option<Duration>) {
        self.arm();
        let result = match wait {
            None => self.flush(),
            Some(time) => {
                let time = types::Timespec::from(time);
                self.ring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&time))
            }
        };
        // Over time, interrupted, or with completions that must be taken first: what is there is taken, the rest next time.
        drop(result);
        self.take();
    }

    /// Operations that have not completed.
    pub fn under_way(&self) -> usize {
        self.operations.iter().filter(|(_, operation)| !operation.state.is_over()).count()
    }

    /// Gives up all that is under way.
    pub fn cancel_all(&mut self) {
        let keys: Vec<usize> = self.operations.iter().map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| self.cancel(key));
    }

    fn flush(&mut self) -> io::Result<usize> {
        let entries = u32::try_from(self.ring.submission().len()).unwrap_or(u32::MAX);
        // SAFETY: the arguments are as the manual wants them: no mask.
        unsafe { self.ring.submitter().enter::<libc::sigset_t>(entries, 0, GET_EVENTS, None) }
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: by the contract of `begin`; other entries name no memory.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            drop(self.flush()); // it fails where completions must be taken first
            self.take();
        }
    }

    /// Lets other threads wake this one.
    fn arm(&mut self) {
        if !self.is_armed {
            self.is_armed = true;
            let fd = types::Fd(self.event.as_raw_fd());
            let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32).build();
            self.push(&entry.user_data(WOKEN));
        }
    }

    fn take(&mut self) {
        let Self { ring, operations, group, event, is_armed } = self;
        for entry in ring.completion() {
            match entry.user_data() {
                NOBODY => {}
                WOKEN => {
                    let mut count = [0u8; 8];
                    // SAFETY: the pointer and length describe `count`; the descriptor is ours.
                    unsafe { libc::read(event.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
                    *is_armed = false;
                }
                key => completed(operations, group, key as usize, &entry),
            }
        }
    }
}

fn completed(operations: &mut Slab<Operation>, group: &mut Grouped, key: usize, entry: &cqueue::Entry) {
    let result = entry.result();
    let number = cqueue::buffer_select(entry.flags()).map(usize::from);
    let Some(operation) = operations.get_mut(key) else { return };
    match std::mem::replace(&mut operation.state, State::Done(result)) {
        State::Waiting(waker) => waker.wake(),
        State::Posted(Posted { bytes, start, buffers, waker }) => {
            if usize::try_from(result).ok() != bytes.len().checked_sub(start) {
                calls::shutdown(operation.fd.as_raw_fd());
            }
            buffers.give(bytes);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        State::Receiving(waker, buffers, touched) => {
            touched.into_iter().for_each(ahead::of);
            let mut bytes = Vec::new();
            if let Grouped::There(group) = group {
                match number {
                    Some(number) => {
                        bytes = group.take(number, usize::try_from(result).unwrap_or(0), &buffers)
                    }
                    None if result == -libc::ENOBUFS => group.grow(&buffers),
                    None => {}
                }
            }
            operation.state = State::Received(result, bytes);
            waker.wake();
        }
        State::Left(_) => {
            if let (Grouped::There(group), Some(number)) = (group, number) {
                group.give_back(number);
            }
            drop(operations.remove(key));
        }
        State::Done(_) | State::Received(..) => {}
    }
}
