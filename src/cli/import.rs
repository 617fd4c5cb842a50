//! `corelane import`: configurations of LiteLLM and nginx become one of ours, with a report of every line.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use super::{BAD_USAGE, FAILED, complain};
use crate::config::import::{FILE_BYTES_MAX, Fate, Files, Imported, Report, Sources, import};
use crate::config::{self, Problem};

/// Files that one pattern may find.
const GLOB_MAX: usize = 1000;

/// What to import, and where it goes.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// LiteLLM's configuration; the same as --litellm.
    #[arg(value_name = "LITELLM_YAML", conflicts_with = "litellm")]
    file: Option<PathBuf>,
    /// LiteLLM's configuration (YAML). Variables that it names are looked up in --env, then here.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["nginx", "file"])]
    litellm: Option<PathBuf>,
    /// nginx's configuration, or the part of it that stood in front of LiteLLM or the endpoints.
    #[arg(long, value_name = "FILE")]
    nginx: Option<PathBuf>,
    /// The environment of the old deployment: NAME=value a line.
    #[arg(long, value_name = "FILE")]
    env: Option<PathBuf>,
    /// Where the configuration goes; -: standard output. A file that is there is kept, unless --force.
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// Where the report goes besides standard error; -: standard output.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Exit with 1 when a line was changed or ignored, not only when one was refused.
    #[arg(long)]
    strict: bool,
    /// Overwrite the files of --output and --report.
    #[arg(long)]
    force: bool,
}

/// Exit code 0; 1 if a line was refused, with --strict if one is inexact, or if the result has mistakes; 2 for bad usage and
/// for files that cannot be read.
#[must_use]
pub fn run(args: &ImportArgs) -> ExitCode {
    let litellm = args.litellm.clone().or_else(|| args.file.clone());
    let sources = Sources { litellm, nginx: args.nginx.clone(), env: args.env.clone() };
    let stdout = Path::new("-");
    if args.output == stdout && args.report.as_deref() == Some(stdout) {
        complain("--output and --report cannot both go to standard output");
        return ExitCode::from(BAD_USAGE);
    }
    let imported = match import(&sources, &Disk) {
        Ok(imported) => imported,
        Err(unreadable) => {
            complain(&unreadable.to_string());
            return ExitCode::from(BAD_USAGE);
        }
    };
    let text = format!("{}\n", imported.report);
    let written = put(&args.output, &imported.toml, args.force);
    let written = written.and_then(|()| args.report.iter().try_for_each(|path| put(path, &text, args.force)));
    if let Err(message) = written {
        complain(&message);
        return ExitCode::from(BAD_USAGE);
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
    let sound = check(&imported);
    verdict(&imported.report, args.strict, sound)
}

fn verdict(report: &Report, strict: bool, sound: bool) -> ExitCode {
    let inexact = report.count(Fate::Changed) + report.count(Fate::Ignored);
    if report.count(Fate::Refused) > 0 || strict && inexact > 0 || !sound {
        return ExitCode::from(FAILED);
    }
    ExitCode::SUCCESS
}

/// Reads the result as `check` would, but for variables that only the gateway's process will have.
fn check(imported: &Imported) -> bool {
    let problems = match config::parse_with_warnings(&imported.toml) {
        Ok((_, warnings)) => {
            for warning in warnings {
                let _ = writeln!(std::io::stderr(), "warning: {warning}");
            }
            return true;
        }
        Err(problems) => problems.0,
    };
    let unset = |problem: &&Problem| {
        imported
            .variables
            .iter()
            .any(|name| problem.message.contains(&format!("variable {name:?} is not set")))
    };
    let (unset, wrong): (Vec<&Problem>, Vec<&Problem>) = problems.iter().partition(unset);
    for problem in unset {
        let _ = writeln!(std::io::stderr(), "before the start: {}", problem.message);
    }
    for problem in &wrong {
        complain(&format!("the result has a mistake: {problem}"));
    }
    wrong.is_empty()
}

fn put(path: &Path, text: &str, force: bool) -> Result<(), String> {
    if path == Path::new("-") {
        // A closed pipe is not our failure.
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
        return Ok(());
    }
    let told = |cause: std::io::Error| match cause.kind() {
        std::io::ErrorKind::AlreadyExists => {
            format!("{} is there already: --force overwrites it", path.display())
        }
        _ => format!("{} cannot be written: {cause} (hint: is its folder there, and yours?)", path.display()),
    };
    let mut options = OpenOptions::new();
    options.write(true).create(force).create_new(!force).truncate(force);
    // Keys may stand in it.
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).and_then(|mut file| file.write_all(text.as_bytes())).map_err(told)
}

/// The files of this machine.
struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> Result<String, String> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(|cause| format!("cannot be read: {cause}{}", unreadable(cause.kind())))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(format!("is larger than {FILE_BYTES_MAX} bytes"));
        }
        String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
    }

    fn glob(&self, pattern: &Path) -> Vec<PathBuf> {
        let mut found = vec![PathBuf::new()];
        for part in pattern.components() {
            let name = part.as_os_str().to_string_lossy().into_owned();
            let wild = matches!(part, Component::Normal(_)) && name.contains(['*', '?']);
            if !wild {
                found.iter_mut().for_each(|path| path.push(&name));
                continue;
            }
            let mut next: Vec<PathBuf> = found.iter().flat_map(|folder| entries(folder, &name)).collect();
            next.sort();
            next.truncate(GLOB_MAX);
            found = next;
        }
        found.retain(|path| path.is_file());
        found
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

/// What to do about a file that cannot be read.
fn unreadable(kind: std::io::ErrorKind) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    match kind {
        std::io::ErrorKind::NotFound => {
            format!(" (hint: relative paths begin in the working directory, {})", here.display())
        }
        std::io::ErrorKind::IsADirectory => " (hint: name the file in it)".to_owned(),
        std::io::ErrorKind::PermissionDenied => {
            " (hint: `sudo cat` it into a file of your own first)".to_owned()
        }
        _ => String::new(),
    }
}

/// What a folder holds that fits a pattern; hidden files do so only where the pattern begins with a dot.
fn entries(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(read) = fs::read_dir(folder) else { return Vec::new() };
    let names = read.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let fitting = names.filter(|name| fits(pattern.as_bytes(), name.as_bytes()));
    let shown = fitting.filter(|name| !name.starts_with('.') || pattern.starts_with('.'));
    shown.take(GLOB_MAX).map(|name| folder.join(name)).collect()
}

/// Whether a name fits a pattern of letters, `*` and `?`. Linear but for the last `*`.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while read < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(letter) if *letter == b'?' || Some(letter) == name.get(read) => {
                at += 1;
                read += 1;
            }
            _ => match star {
                Some((back, from)) => {
                    star = Some((back, from + 1));
                    at = back + 1;
                    read = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|letter| *letter == b'*')
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn patterns_fit_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.bak", false),
            ("?.conf", "ab.conf", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
