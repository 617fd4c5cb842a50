//! A Lua script and the name that the server knows it by.

use std::fmt::Write;
use std::sync::OnceLock;

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::wire::resp::Command;

/// A script, made as a `static`.
#[derive(Debug)]
pub struct Script {
    text: &'static str,
    sum: OnceLock<String>,
}

impl Script {
    /// A script with this text.
    #[must_use]
    pub const fn new(text: &'static str) -> Self {
        Self { text, sum: OnceLock::new() }
    }

    /// The SHA-1 of its text, as `EVALSHA` wants it.
    #[must_use]
    pub fn sum(&self) -> &str {
        self.sum.get_or_init(|| {
            let mut text = String::with_capacity(40);
            for byte in digest(&SHA1_FOR_LEGACY_USE_ONLY, self.text.as_bytes()).as_ref() {
                let _ = write!(text, "{byte:02x}"); // a `String` cannot fail
            }
            text
        })
    }

    /// Runs it by its name.
    pub(super) fn by_sum(&self, keys: &[&[u8]], args: &[&[u8]]) -> Command {
        with(Command::new("EVALSHA").arg(self.sum()), keys, args)
    }

    /// Runs it by its text, which the server then knows.
    pub(super) fn by_text(&self, keys: &[&[u8]], args: &[&[u8]]) -> Command {
        with(Command::new("EVAL").arg(self.text), keys, args)
    }
}

fn with(command: Command, keys: &[&[u8]], args: &[&[u8]]) -> Command {
    let command = command.arg(keys.len().to_string());
    let command = keys.iter().fold(command, |command, key| command.key(key));
    args.iter().fold(command, |command, argument| command.arg(argument))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_redis() {
        static ONE: Script = Script::new("return 1");
        assert_eq!(ONE.sum(), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
        assert_eq!(ONE.by_sum(&[b"k"], &[b"a"]).slot(), Command::new("GET").key("k").slot());
    }
}
