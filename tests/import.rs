//! Promise: `corelane import` makes of LiteLLM's and nginx's files a configuration that does what they say, tells of every
//! line what became of it, prints no secret, and takes any bytes.
//!
//! `tests/data/import/guide/` are the deployment guide's files: its fragments put together, in the state in which they were deployed.
//! `tests/data/import/cases/` has a folder a case: what is imported, and what must come of it. `CORELANE_BLESS=1` writes the latter
//! anew; read the difference before it is committed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

#[path = "import/broken.rs"]
mod broken;
#[path = "import/command.rs"]
mod command;
mod support;
#[path = "import/wire.rs"]
mod wire;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use corelane::config;
use corelane::config::cache::Store;
use corelane::config::import::{Entry, Fate, Files, Imported, Sources, Unreadable, import};

/// The files below a folder, and no variable of this process.
struct Below(PathBuf);

impl Files for Below {
    fn read(&self, path: &Path) -> Result<String, String> {
        fs::read_to_string(self.0.join(path)).map_err(|_| "cannot be read".to_owned())
    }

    fn glob(&self, pattern: &Path) -> Vec<PathBuf> {
        let folder = pattern.parent().unwrap();
        let (start, end) = pattern.file_name().unwrap().to_str().unwrap().split_once('*').unwrap();
        let entries =
            fs::read_dir(self.0.join(folder)).into_iter().flatten().map(|entry| entry.unwrap().file_name());
        let names: BTreeSet<String> = entries.map(|name| name.into_string().unwrap()).collect();
        let fits = |name: &String| name.starts_with(start) && name.ends_with(end);
        names.iter().filter(|name| fits(name)).map(|name| folder.join(name)).collect()
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/import").join(name)
}

/// Imports what a folder has under these names.
fn import_folder(folder: &Path, names: [&str; 3]) -> Result<Imported, Unreadable> {
    let [litellm, nginx, env] = names.map(|name| folder.join(name).exists().then(|| PathBuf::from(name)));
    import(&Sources { litellm, nginx, env }, &Below(folder.to_owned()))
}

fn import_guide() -> Imported {
    import_folder(&data("guide"), ["litellm_config.yaml", "nginx-litellm.conf", "env"]).unwrap()
}

/// What is wrong with a result, but for secrets that are in no variable here.
fn mistakes(toml: &str) -> Vec<String> {
    let Err(problems) = config::parse(toml) else { return Vec::new() };
    problems.0.iter().filter(|one| !one.message.contains("is not set")).map(ToString::to_string).collect()
}

/// The text without a section.
fn without(toml: &str, header: &str) -> String {
    let start = toml.find(&format!("\n{header}\n")).unwrap_or_else(|| panic!("no {header}"));
    let end = toml[start + 1..].find("\n\n").map_or(toml.len(), |end| start + 1 + end);
    format!("{}{}", &toml[..start], &toml[end..])
}

/// Numbers of the lines that say something: those of a YAML file with a value, those of the others with a word.
fn telling_lines(text: &str) -> Vec<u32> {
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let bare = line.trim();
        let heading = bare.split(" #").next().unwrap().trim_end().ends_with(':');
        if !bare.is_empty() && !bare.starts_with('#') && !heading && bare != "}" && bare != "litellm_params:"
        {
            lines.push(number);
        }
    }
    lines
}

fn entries_of<'e>(entries: &'e [Entry], file: &str, line: u32) -> Vec<&'e Entry> {
    entries.iter().filter(|entry| &*entry.origin.file == file && entry.origin.line == line).collect()
}

#[test]
fn every_case_becomes_what_it_should() {
    let bless = std::env::var_os("CORELANE_BLESS").is_some();
    let mut folders: Vec<PathBuf> =
        fs::read_dir(data("cases")).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 15, "{folders:?}");
    for folder in folders {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let imported = import_folder(&folder, ["litellm.yaml", "nginx.conf", "env"]).unwrap();
        let report = format!("{}\n", imported.report);
        for (file, made) in [("expected.toml", &imported.toml), ("expected.report", &report)] {
            if bless {
                fs::write(folder.join(file), made).unwrap();
            }
            let expected = fs::read_to_string(folder.join(file)).unwrap();
            assert_eq!(*made, expected, "{name}/{file}");
        }
        assert!(!report.contains("not read"), "{name}: a reader forgot a line\n{report}");
        for secret in ["never-shown", "never shown", "never-in-the-report"] {
            assert!(!report.contains(secret), "{name}: a secret in the report\n{report}");
        }
        assert!(!imported.toml.contains("never-shown"), "{name}: a secret in the result\n{}", imported.toml);
        let found = mistakes(&imported.toml);
        let expected_mistake = name == "refused" || name == "access";
        assert!(found.is_empty() || expected_mistake, "{name}: {found:?}\n{}", imported.toml);
    }
}

#[test]
fn of_the_guide_every_line_is_told_and_none_is_refused() {
    let imported = import_guide();
    let entries = imported.report.entries();
    let refused: Vec<String> =
        entries.iter().filter(|entry| entry.fate == Fate::Refused).map(ToString::to_string).collect();
    assert_eq!(refused, Vec::<String>::new());
    for file in ["litellm_config.yaml", "nginx-litellm.conf", "env"] {
        let text = fs::read_to_string(data("guide").join(file)).unwrap();
        for line in telling_lines(&text) {
            let told = entries_of(&entries, file, line);
            assert!(
                !told.is_empty(),
                "{file}:{line} is told of nowhere: {}",
                text.lines().nth(line as usize - 1).unwrap()
            );
            assert!(told.iter().all(|entry| !entry.text.is_empty() && entry.text != "not read"), "{told:?}");
        }
    }
    let text = imported.report.to_string();
    assert!(
        !text.contains("never-tell-this-password") && !imported.toml.contains("never-tell-this-password")
    );
    assert_eq!(mistakes(&imported.toml), Vec::<String>::new());
}

#[test]
fn the_guides_numbers_are_in_the_result() {
    let toml = import_guide().toml;
    let config = config::parse(&toml).unwrap();
    assert_eq!((config.cache.store, config.cache.ttl.as_secs()), (Store::Redis, 3600));
    assert_eq!(config.redis.as_ref().unwrap().url(), "redis://redis:6379/0");
    let zone = |name: &str| config.limits.zones.iter().find(|zone| zone.name == name).unwrap();
    let routes = |name: &str| -> Vec<(&str, u32)> {
        zone(name).routes.iter().map(|route| (route.path.as_str(), route.burst)).collect()
    };
    assert_eq!(zone("chat_limit").rate, 5000);
    assert_eq!(routes("chat_limit"), [("/v1/chat/completions", 20), ("/api/chat", 20)]);
    assert_eq!(zone("api_limit").rate, 10_000);
    let api = [("/v1/models", 10), ("/v1/completions", 30), ("/v1/embeddings", 50), ("/", 20)];
    assert_eq!(routes("api_limit"), api);
    assert_eq!((zone("health_limit").rate, routes("health_limit")), (30_000, vec![("/health", 10)]));
    assert_eq!((config.limits.concurrent_per_client, config.limits.reject_status), (10, 503));
    assert_eq!(zone("api_limit").routes[2].concurrent_per_client, Some(15));
    assert_eq!(config.server.body_bytes_max.0, 20 << 20);
    assert_eq!(config.server.headers.len(), 6);
    assert_eq!((config.retry.attempts, config.retry.backoff.as_secs()), (3, 1));
    assert_eq!((config.timeouts.first_byte.as_secs(), config.timeouts.idle.as_secs()), (300, 300));
    assert_eq!(config.endpoints.len(), 3);
    let names: Vec<&str> = config.models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["ollama/llama3.2", "ollama/mistral", "ollama/neural-chat", "ollama/nomic-embed-text"]);
    let guard = &config.guard.profiles[0];
    assert!(
        guard.enabled
            && guard.localized_errors
            && guard.input.scanners.len() == 5
            && guard.output.scanners.len() == 5
    );
    let tls = config.server.tls.as_ref().unwrap();
    assert!(tls.redirect_http && tls.http2 && tls.tls12 && tls.redirect_status == 301);
}
