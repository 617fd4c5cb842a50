//! A page of the documentation as blocks: what is run, what is shown, and which files it writes.
//!
//! ```` ```sh ```` is run; `sh exit=1` must end so (`exit=0,1`: so or so); `sh serve` starts the gateway of the page; `sh no-run` is not run, and the
//! comment before it (`<!-- not run: … -->`) says why. A ```` ```text ```` block behind one is what it prints: `…` stands for
//! what varies, a line of `…` alone for any lines. `file=NAME` behind a language writes the block into the page's folder.

use std::fs;
use std::path::Path;

/// A fenced block.
#[derive(Debug, Clone)]
pub struct Block {
    /// Line of its fence.
    pub line: usize,
    /// Words behind the fence.
    pub info: Vec<String>,
    pub text: String,
    /// The comment right before it, if it says why it is not run.
    pub why: Option<String>,
    /// Nothing but blank lines stands between it and the block before.
    pub follows: bool,
}

impl Block {
    pub fn language(&self) -> &str {
        self.info.first().map_or("", String::as_str)
    }

    pub fn has(&self, word: &str) -> bool {
        self.info.iter().any(|known| known == word)
    }

    pub fn value(&self, key: &str) -> Option<&str> {
        self.info.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }
}

/// The pages: `README.md` and all of `docs/`, by name.
pub fn names() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let pages = entries.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(".md"));
    let mut names: Vec<String> = pages.map(|name| format!("docs/{name}")).collect();
    names.push("README.md".to_owned());
    names.sort();
    names
}

/// The blocks of a page.
pub fn blocks(name: &str) -> Vec<Block> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    parse(&text)
}

fn parse(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut open, mut why, mut follows): (Option<Block>, Option<String>, bool) = (None, None, false);
    for (at, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                let info = info.split_whitespace().map(str::to_owned).collect();
                open = Some(Block { line: at + 1, info, text: String::new(), why: why.take(), follows });
            }
            (Some(_), Some(_)) => {
                blocks.extend(open.take());
                follows = true;
            }
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) if line.trim().is_empty() => {}
            (None, None) => {
                let comment = line.strip_prefix("<!-- not run: ").and_then(|rest| rest.strip_suffix(" -->"));
                why = comment.map(str::to_owned);
                follows = false;
            }
        }
    }
    assert!(open.is_none(), "a block that does not end");
    blocks
}

/// Whether what was printed is what the page shows.
///
/// # Errors
/// The first line of the page that is not there.
pub fn matches(shown: &str, printed: &str) -> Result<(), String> {
    let mut printed = printed.lines().peekable();
    let mut any = false;
    for line in shown.lines() {
        if line.trim() == "…" {
            any = true;
            continue;
        }
        let found = if any {
            printed.any(|is| fits(line, is))
        } else {
            printed.next().is_some_and(|is| fits(line, is))
        };
        if !found {
            return Err(line.to_owned());
        }
        any = false;
    }
    match printed.next() {
        Some(more) if !any => Err(format!("(the end; there is also: {more})")),
        _ => Ok(()),
    }
}

/// One line, with `…` for anything.
fn fits(shown: &str, printed: &str) -> bool {
    let parts: Vec<&str> = shown.trim_end().split('…').collect();
    let mut rest = printed.trim_end();
    for (at, part) in parts.iter().enumerate() {
        let last = at + 1 == parts.len();
        let found = match at {
            0 if last => return rest == *part,
            0 => rest.starts_with(part).then_some(0),
            _ if last => rest.ends_with(part).then(|| rest.len() - part.len()),
            _ => rest.find(part),
        };
        let Some(found) = found else { return false };
        rest = &rest[found + part.len()..];
    }
    true
}

#[test]
fn pages_are_read_as_they_say() {
    let text = "a\n```sh\nb\n```\n\n```text\nc\n```\n<!-- not run: needs root -->\n```sh no-run\nd\n```\ne\n```toml file=x.toml\nf\n```\n";
    let blocks = parse(text);
    let seen: Vec<(usize, &str, &str, bool)> = blocks
        .iter()
        .map(|block| (block.line, block.language(), block.text.as_str(), block.follows))
        .collect();
    assert_eq!(
        seen,
        [
            (2, "sh", "b\n", false),
            (6, "text", "c\n", true),
            (10, "sh", "d\n", false),
            (14, "toml", "f\n", false)
        ]
    );
    assert_eq!(blocks[2].why.as_deref(), Some("needs root"));
    assert_eq!((blocks[3].value("file"), blocks[2].has("no-run")), (Some("x.toml"), true));

    assert!(matches("a\n…\nd", "a\nb\nc\nd").is_ok() && matches("a\n…", "a").is_ok());
    assert!(
        matches("x=…, y=2", "x=1, y=2").is_ok()
            && matches("…y", "x y").is_ok()
            && matches("a…b…c", "a1b2c").is_ok()
    );
    assert_eq!(matches("a\nb", "a\nc"), Err("b".to_owned()));
    assert!(matches("a", "a\nb").is_err() && matches("a…", "b").is_err() && matches("a", "").is_err());
}
