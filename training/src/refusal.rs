//! Our own rows for the NoRefusal head: `refusal_<lang>.jsonl` grammars of the data directory.
//!
//! Categories: refusal (the answer declines what was asked), partial (it apologises or disclaims and goes
//! on to help: not a refusal), help (ordinary answers) and hard (answers that speak of inability, refusal
//! or regret and decline nothing).

use std::io;
use std::path::Path;

use crate::grammar::{Grammar, Made};
use crate::toxicity::files;

/// All rows; `own` is the directory of our grammars.
///
/// # Errors
/// When a grammar cannot be read.
pub fn rows(own: &Path, seed: u64) -> io::Result<Vec<Made>> {
    let mut all = Vec::new();
    for path in files(own, "refusal_")? {
        all.extend(Grammar::read(&path)?.rows(seed, &[]));
    }
    Ok(all)
}
