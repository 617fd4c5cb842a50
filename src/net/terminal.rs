//! The terminal that a person sits at: its size, and its keys as they are pressed.
//!
//! [`Raw`] gives the terminal back as it was when it is dropped. While it lives Ctrl-C is a key like others.

use std::mem::MaybeUninit;

/// The terminal of standard input, without lines and echo.
pub struct Raw {
    before: libc::termios,
}

/// What standard input has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Nothing was pressed in time.
    None,
    /// One byte.
    Pressed(u8),
    /// Nothing more will come.
    Ended,
}

impl Raw {
    /// `None`: standard input is no terminal.
    #[must_use]
    pub fn enter() -> Option<Self> {
        let mut before = MaybeUninit::<libc::termios>::uninit();
        // SAFETY: the call fills the structure or fails.
        if unsafe { libc::tcgetattr(libc::STDIN_FILENO, before.as_mut_ptr()) } != 0 {
            return None;
        }
        // SAFETY: the call has filled it.
        let before = unsafe { before.assume_init() };
        let mut raw = before;
        raw.c_lflag &= !(libc::ICANON | libc::ECHO | libc::ISIG);
        raw.c_cc[libc::VMIN] = 1;
        raw.c_cc[libc::VTIME] = 0;
        set(&raw).then_some(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        set(&self.before);
    }
}

fn set(state: &libc::termios) -> bool {
    // SAFETY: the call reads the structure.
    unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, state) == 0 }
}

/// Columns and rows of the terminal of standard output.
#[must_use]
pub fn size() -> Option<(u16, u16)> {
    // SAFETY: all zeros is a size, and the call writes one.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    let done = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) } == 0;
    (done && size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// The next key, waited for at most `millis`.
#[must_use]
pub fn key(millis: u16) -> Key {
    let mut asked = libc::pollfd { fd: libc::STDIN_FILENO, events: libc::POLLIN, revents: 0 };
    // SAFETY: one descriptor, as the length says.
    if unsafe { libc::poll(&raw mut asked, 1, libc::c_int::from(millis)) } <= 0 {
        return Key::None;
    }
    let mut byte = 0u8;
    // SAFETY: the buffer is one byte and the length says so.
    match unsafe { libc::read(libc::STDIN_FILENO, (&raw mut byte).cast(), 1) } {
        1 => Key::Pressed(byte),
        _ => Key::Ended,
    }
}
