//! Files that are cut or changed at random: an answer, or a mistake with its line, and never a panic.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use corelane::config::import::{Files, Imported, Sources, Unreadable, import};

use super::data;

/// Files of these texts; every pattern finds one of them.
struct Texts(HashMap<PathBuf, String>);

impl Files for Texts {
    fn read(&self, path: &Path) -> Result<String, String> {
        self.0.get(path).cloned().ok_or_else(|| "is not there".to_owned())
    }

    fn glob(&self, _: &Path) -> Vec<PathBuf> {
        self.0.keys().take(1).cloned().collect()
    }

    fn variable(&self, name: &str) -> Option<String> {
        Some(format!("http://{name}"))
    }
}

fn run(kind: &str, text: String) -> Result<Imported, Unreadable> {
    let path = PathBuf::from("file");
    let named = |own: &str| (kind == own).then(|| path.clone());
    let sources = Sources { litellm: named("yaml"), nginx: named("conf"), env: named("env") };
    import(&sources, &Texts(HashMap::from([(path.clone(), text)])))
}

/// Takes a text and looks at what came of it.
fn take(kind: &str, text: &str) -> bool {
    match run(kind, text.to_owned()) {
        Ok(imported) => {
            let _ = imported.report.to_string();
            let parsed = corelane::config::parse(&imported.toml);
            let syntax = parsed
                .err()
                .map(|problems| problems.to_string())
                .filter(|text| text.contains("not valid TOML"));
            assert_eq!(syntax, None, "of {text:?} came\n{}", imported.toml);
            true
        }
        Err(unreadable) => {
            let lines = u32::try_from(text.lines().count()).unwrap() + 2;
            assert!(unreadable.line <= lines && !unreadable.message.is_empty(), "{unreadable:?}");
            false
        }
    }
}

fn guide() -> [(&'static str, String); 3] {
    let read = |name: &str| fs::read_to_string(data("guide").join(name)).unwrap();
    [("yaml", read("litellm_config.yaml")), ("conf", read("nginx-litellm.conf")), ("env", read("env"))]
}

/// All inputs of the cases, and the guide's.
fn inputs() -> Vec<(&'static str, String)> {
    let mut inputs: Vec<(&str, String)> = guide().into();
    let mut folders: Vec<PathBuf> =
        fs::read_dir(data("cases")).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    for folder in folders {
        for (kind, name) in [("yaml", "litellm.yaml"), ("conf", "nginx.conf"), ("env", "env")] {
            inputs.extend(fs::read_to_string(folder.join(name)).ok().map(|text| (kind, text)));
        }
    }
    inputs
}

#[test]
fn every_beginning_of_the_guides_files_is_taken() {
    for (kind, text) in guide() {
        let ends = (0..text.len()).filter(|end| text.is_char_boundary(*end));
        // Each end of the small files; of the large one one in three, and other ones where they were cut before.
        let taken =
            ends.step_by(if kind == "env" { 1 } else { 3 }).filter(|end| take(kind, &text[..*end])).count();
        assert!(taken > 10, "{kind}: {taken} beginnings could be read");
    }
}

/// A generator of numbers that are the same in each run (xorshift64*).
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap()
    }
}

/// What mutations put in.
const WORDS: [&str; 40] = [
    "\n",
    " ",
    "  ",
    "\t",
    ":",
    ": ",
    "- ",
    "#",
    "\"",
    "'",
    "{",
    "}",
    "[",
    "]",
    ",",
    "&a ",
    "*a",
    "<<: ",
    "|",
    ">",
    "?",
    "!",
    "%",
    "---\n",
    "~",
    "null",
    "-1",
    "1e999",
    "99999999999999999999",
    "0",
    ";",
    "\\",
    "$",
    "${",
    "os.environ/",
    "os.environ/X",
    "é",
    "\u{0}",
    "\u{feff}",
    "*",
];

fn mutated(text: &str, random: &mut Seeded) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    for _ in 0..=random.below(4) {
        let at = random.below(letters.len());
        match random.below(5) {
            0 => {
                let word = WORDS[random.below(WORDS.len())];
                letters.splice(at..at, word.chars());
            }
            1 => {
                let end = (at + random.below(20)).min(letters.len());
                letters.drain(at..end);
            }
            2 => {
                let end = (at + random.below(200)).min(letters.len());
                let copy: Vec<char> = letters[at..end].to_vec();
                let to = random.below(letters.len());
                letters.splice(to..to, copy);
            }
            3 => {
                let word = WORDS[random.below(WORDS.len())];
                let end = (at + word.chars().count()).min(letters.len());
                letters.splice(at..end, word.chars());
            }
            _ => letters.truncate(letters.len() - random.below(letters.len() / 4)),
        }
    }
    letters.into_iter().collect()
}

#[test]
fn mutations_of_all_files_are_taken() {
    let mut random = Seeded(0x9E37_79B9_7F4A_7C15);
    let inputs = inputs();
    let mut taken = 0;
    for round in 0..3000 {
        let (kind, text) = &inputs[round % inputs.len()];
        taken += usize::from(take(kind, &mutated(text, &mut random)));
    }
    assert!(taken > 500, "{taken} mutations could be read");
}

#[test]
fn bombs_are_mistakes() {
    let mut yaml = "model_list: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        yaml += &format!("a{level}: &a{level} [{}]\n", format!("*a{}, ", level - 1).repeat(10));
    }
    assert!(run("yaml", yaml).unwrap_err().message.contains("aliases expanded"));
    let wide: String = (0..9000).map(|key| format!("  k{key}: 1\n")).collect();
    let merges = format!("x: &x\n{wide}y:\n{}", "  - <<: *x\n".repeat(20_000));
    assert!(run("yaml", merges).unwrap_err().message.contains("aliases expanded"));
    let chain: String = (1..500).map(|level| format!("a{level}: &a{level} [*a{}]\n", level - 1)).collect();
    assert!(run("yaml", format!("a0: &a0 1\n{chain}")).is_err());
    let circle = run("conf", "include *.conf;\ninclude *.conf;\n".to_owned()).unwrap();
    assert!(circle.report.to_string().contains("too deep"));
}
