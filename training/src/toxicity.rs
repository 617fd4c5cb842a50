//! Our own rows for the Toxicity head: `toxicity_<lang>.jsonl` grammars of the data directory, and the
//! public word lists (LDNOOBW, CC-BY 4.0) in their slot `L`, read where the public data lies and never
//! copied.
//!
//! Categories: insult, threat, obscene, identity_attack, sexual; of harmless rows: prompt (what people ask
//! models), chat, identity, praise, polite, mention (bad words talked about) and hard (words that look bad
//! and are not). Slot `L-` lists words that the word lists should not have had.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use crate::grammar::{Dice, Grammar, Made, accompany};

/// Slots whose words people respell to get past filters.
const DISGUISED: [&str; 7] = ["I", "Ip", "O", "T", "C", "A", "L"];

/// Rows in a hundred that stand among harmless sentences.
const ACCOMPANIED: usize = 35;

/// All rows; `own` is the directory of our grammars, `lexicons` that of the word lists, gzip-compressed.
///
/// # Errors
/// When a grammar cannot be read. A word list that is not there is an empty one.
pub fn rows(own: &Path, lexicons: &Path, seed: u64) -> io::Result<Vec<Made>> {
    let mut all = Vec::new();
    for path in files(own, "toxicity_")? {
        let mut grammar = Grammar::read(&path)?;
        let lang = grammar.lang().to_owned();
        let dropped = grammar.take("L-");
        let mut words = lexicon(&lexicons.join(format!("ldnoobw_{lang}.txt.gz"))).unwrap_or_default();
        words.retain(|word| !dropped.contains(word));
        grammar.words("L", words);
        let mut made = grammar.rows(seed, &DISGUISED);
        made.retain(|row| !row.text.trim().is_empty());
        accompany(&mut made, &mut Dice::new(seed ^ 1), ACCOMPANIED);
        all.extend(made);
    }
    // Assistants are polite, also when they refuse: what the other head learns from is harmless here.
    let polite = crate::refusal::rows(own, seed)?;
    all.extend(polite.into_iter().map(|row| Made { label: 0, category: "polite".to_owned(), ..row }));
    Ok(all)
}

/// Files of `directory` whose names begin with `prefix`, in order.
///
/// # Errors
/// When the directory cannot be read.
pub fn files(directory: &Path, prefix: &str) -> io::Result<Vec<std::path::PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(prefix) && name.ends_with(".jsonl") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn lexicon(path: &Path) -> io::Result<Vec<String>> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(fs::File::open(path)?).read_to_string(&mut text)?;
    Ok(text.lines().map(|line| line.trim().to_owned()).filter(|word| word.chars().count() > 1).collect())
}
