//! `corelane top`: what `/ui` shows, in a terminal, drawn anew every second.
//!
//! q, Ctrl-C and a signal end it, and the terminal is as it was before. With `--once`, and where standard output is no
//! terminal, one picture is written, without escape codes. No crate for it: a picture is some lines.

mod frame;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::talk::{self, Admin, Gateway};
use super::{FAILED, complain, say};
use crate::net::signal;
use crate::net::terminal::{self, Key, Raw};

use frame::Line;

/// Which gateway, and how long.
#[derive(Debug, Args)]
pub struct TopArgs {
    #[command(flatten)]
    admin: Admin,
    /// Write one picture without escape codes, and end.
    #[arg(long)]
    once: bool,
}

/// Columns where nobody says how many there are.
const COLUMNS: usize = 80;
/// Keys are looked for so often between two pictures.
const LOOKS: u32 = 10;
const LOOK_MS: u16 = 100;
/// The alternate screen without a cursor, and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Shows until somebody ends it; exit code 1 where no gateway answers at all, 2 for a configuration that is none.
#[must_use]
pub fn run(args: &TopArgs) -> ExitCode {
    let gateway = match args.admin.gateway() {
        Ok(gateway) => gateway,
        Err(code) => return code,
    };
    let document = match document(&gateway) {
        Ok(document) => document,
        Err(why) => {
            complain(&why);
            return ExitCode::from(FAILED);
        }
    };
    if args.once || !std::io::stdout().is_terminal() {
        let columns = terminal::size().map_or(COLUMNS, |(columns, _)| usize::from(columns));
        let lines = frame::lines(&document, columns);
        say(&lines.iter().map(Line::plain).collect::<Vec<_>>().join("\n"));
        return ExitCode::SUCCESS;
    }
    watch(&gateway, document);
    ExitCode::SUCCESS
}

fn watch(gateway: &Gateway, mut document: Value) {
    signal::block(); // a signal must not leave the terminal as it is now
    let raw = Raw::enter();
    let mut lost = None;
    let _ = write(ENTER);
    while draw(&document, lost.as_deref()).is_ok() && !ends(raw.is_some()) {
        match self::document(gateway) {
            Ok(fresh) => (document, lost) = (fresh, None),
            Err(why) => lost = Some(why),
        }
    }
    let _ = write(LEAVE);
    drop(raw);
}

/// Waits for the next picture's time; `true`: it is over.
fn ends(keys: bool) -> bool {
    for _ in 0..LOOKS {
        if signal::wait(if keys { 0 } else { u32::from(LOOK_MS) }).is_some() {
            return true;
        }
        match if keys { terminal::key(LOOK_MS) } else { Key::None } {
            Key::Pressed(b'q' | b'Q' | 3 | 4) | Key::Ended => return true,
            Key::Pressed(_) | Key::None => {}
        }
    }
    false
}

/// One picture over the one before it, as much as there is room for.
fn draw(document: &Value, lost: Option<&str>) -> std::io::Result<()> {
    let (columns, rows) = terminal::size().unwrap_or((COLUMNS as u16, 24));
    let mut lines = frame::lines(document, usize::from(columns));
    if let Some(why) = lost {
        lines.insert(0, Line::warning(why, usize::from(columns)));
    }
    let mut out = String::from("\x1b[H");
    for (at, line) in lines.iter().take(usize::from(rows)).enumerate() {
        out.push_str(if at == 0 { "" } else { "\r\n" });
        out.push_str(&line.coloured());
        out.push_str("\x1b[K");
    }
    out.push_str("\x1b[J");
    write(&out)
}

fn write(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn document(gateway: &Gateway) -> Result<Value, String> {
    let at = gateway.address;
    let answer = talk::ask(gateway, "GET", "/ui/live", Duration::from_secs(3));
    let (status, body) = answer.map_err(|error| format!("no gateway answers on {at}: {error}"))?;
    let value: Value = serde_json::from_str(&body).unwrap_or_default();
    match status {
        200 if value.is_object() => Ok(value),
        _ => {
            let why = value["error"].as_str().unwrap_or("it is none that knows /ui/live");
            Err(format!("the gateway on {at} answered {status}: {why}"))
        }
    }
}
