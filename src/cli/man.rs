//! `corelane man`: the manual in the form that man(1) shows, made of the command line itself.
//!
//! One page a command; that of `corelane` also says what the command line does not know: signals, files, environment,
//! exit codes. No date is in them, so the same sources give the same bytes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use super::{FAILED, complain, page};

/// Where to.
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// A folder that all pages are written to: corelane.1, corelane-serve.1 and so on.
    #[arg(short, long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

/// What stands in the page of `corelane` before its version.
const MORE: &str = r#".SH SIGNALS
.TP
\fBTERM\fR, \fBINT\fR
Drain: take no new work, finish what runs, exit with 0.
.TP
\fBHUP\fR
Read the configuration again: all of it or nothing.
.TP
\fBUSR2\fR
Start the binary anew in this process's place, without losing a connection.
.SH FILES
.TP
\fI./corelane.toml\fR, \fI/etc/corelane/corelane.toml\fR
The configuration, where none is named: the first of them that is there.
.SH ENVIRONMENT
.TP
\fBLISTEN_FDS\fR, \fBLISTEN_PID\fR
Sockets of a \fB.socket\fR unit of systemd, taken by their addresses.
.TP
\fBNOTIFY_SOCKET\fR, \fBWATCHDOG_USEC\fR
Whom to tell of readiness, reloads and the end, and how often that all threads go on.
.TP
\fBSSL_CERT_FILE\fR, \fBSSL_CERT_DIR\fR
Authorities that endpoints over TLS are trusted by, in place of the system's.
.TP
\fBMONOIO_FORCE_LEGACY_DRIVER\fR
\fB1\fR: use epoll, never io_uring.
.SH EXIT STATUS
.TP
\fB0\fR
Fine.
.TP
\fB1\fR
Failed while running.
.TP
\fB2\fR
Bad usage or configuration.
"#;

/// Writes the page of `corelane` to standard output, or all pages into a folder.
#[must_use]
pub fn run(args: &ManArgs) -> ExitCode {
    let pages = pages(super::Args::command());
    let written = match (&args.output, pages) {
        (Some(folder), Ok(pages)) => save(folder, &pages),
        (None, Ok(pages)) => return page(pages.first().map(|(_, text)| text.as_slice()).unwrap_or_default()),
        (_, Err(error)) => Err(error),
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(FAILED)
        }
    }
}

fn save(folder: &Path, pages: &[(String, Vec<u8>)]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    pages.iter().try_for_each(|(name, text)| fs::write(folder.join(name), text))
}

/// Names of files and what is in them; that of `command` itself first.
fn pages(command: Command) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let shown = command.get_subcommands().filter(|one| !one.is_hide_set()).cloned();
    let all = std::iter::once(command.clone()).chain(shown).enumerate();
    all.map(|(at, command)| {
        let version = command.get_version().map(|version| format!("corelane {version}"));
        let page =
            Man::new(command).manual("Corelane").source(version.unwrap_or_else(|| "corelane".to_owned()));
        let mut text = Vec::new();
        page.render(&mut text)?;
        Ok((page.get_filename(), if at == 0 { with_more(&text) } else { text }))
    })
    .collect()
}

/// `text` with [`MORE`] before its last section.
fn with_more(text: &[u8]) -> Vec<u8> {
    let mark = b".SH VERSION";
    let at = text.windows(mark.len()).position(|window| window == mark).unwrap_or(text.len());
    let (before, after) = text.split_at(at);
    [before, MORE.as_bytes(), after].concat()
}
