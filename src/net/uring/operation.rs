//! One operation as a future: begun by its first poll, given up by being dropped.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::task::{Context, Poll};

use io_uring::squeue;

use super::Socket;

/// An operation on `socket`, and the memory that it works on.
pub(in crate::net) struct Pending<'a, T: 'static> {
    socket: &'a Socket,
    key: Option<usize>,
    memory: Option<T>,
}

impl<'a, T: 'static> Pending<'a, T> {
    /// Nothing is begun yet.
    pub fn new(socket: &'a Socket, memory: T) -> Self {
        Self { socket, key: None, memory: Some(memory) }
    }

    /// Begins the operation that `entry` makes of the memory, or looks for its end; it comes back with the memory.
    ///
    /// # Safety
    /// `entry` names no memory but what its argument owns and does not move with it.
    pub unsafe fn poll(
        &mut self,
        cx: &Context<'_>,
        entry: impl FnOnce(&mut T) -> squeue::Entry,
    ) -> Poll<(io::Result<usize>, T)> {
        let mut driver = self.socket.executor.driver.borrow_mut();
        let Some(key) = self.key else {
            if let Some(memory) = &mut self.memory {
                // SAFETY: by this function's contract; the memory goes to `leave` if we are dropped.
                self.key = Some(unsafe { driver.begin(entry(memory), &self.socket.fd, cx) });
            }
            return Poll::Pending;
        };
        match driver.poll(key, cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(result) => {
                self.key = None;
                let result = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
                self.memory.take().map_or(Poll::Pending, |memory| Poll::Ready((result, memory)))
            }
        }
    }

    /// The descriptor.
    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Asks for its end; it has still to be polled to it.
    pub fn cancel(&self) {
        if let Some(key) = self.key {
            self.socket.executor.driver.borrow_mut().cancel(key);
        }
    }
}

impl<T: 'static> Drop for Pending<'_, T> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let memory = self.memory.take();
            self.socket.executor.driver.borrow_mut().leave(key, || Box::new(memory));
        }
    }
}
