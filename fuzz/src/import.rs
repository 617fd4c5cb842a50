//! Files to import: never a panic; what comes of them is TOML, every entry says something and stands in the file, and a
//! refusal names a line.

use std::path::{Path, PathBuf};

use corelane::config;
use corelane::config::import::{Files, Sources, import};

/// One text under every name.
struct Text<'t>(&'t str);

impl Files for Text<'_> {
    fn read(&self, path: &Path) -> Result<String, String> {
        if path == Path::new("file") { Ok(self.0.to_owned()) } else { Err("is not there".to_owned()) }
    }

    fn glob(&self, _: &Path) -> Vec<PathBuf> {
        vec![PathBuf::from("file")]
    }

    fn variable(&self, name: &str) -> Option<String> {
        name.len().is_multiple_of(2).then(|| format!("http://{name}"))
    }
}

/// The first byte says what the text is: `n` nginx's, `e` an environment file, all others LiteLLM's.
pub fn target(data: &[u8]) {
    let Some((kind, text)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(text);
    let path = Some(PathBuf::from("file"));
    let sources = match kind {
        b'n' => Sources { nginx: path, ..Sources::default() },
        b'e' => Sources { env: path, ..Sources::default() },
        _ => Sources { litellm: path, ..Sources::default() },
    };
    // A carriage return alone ends a line of YAML.
    let lines = text.matches(['\n', '\r']).count() + 2;
    match import(&sources, &Text(&text)) {
        Ok(imported) => {
            for entry in imported.report.entries() {
                assert!(!entry.text.is_empty() && entry.origin.line as usize <= lines, "{entry}");
                assert!(!entry.to_string().contains('\n'), "an entry of several lines");
            }
            // A secret from a file would read the machine's files.
            if imported.toml.contains("\"file:") {
                return;
            }
            if let Err(problems) = config::parse(&imported.toml) {
                let told = problems.to_string();
                assert!(!told.contains("not valid TOML"), "{told}\n{}", imported.toml);
            }
        }
        Err(unreadable) => {
            assert!(unreadable.line as usize <= lines && !unreadable.message.is_empty(), "{unreadable}");
        }
    }
}
