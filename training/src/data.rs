//! Rows: gzip-compressed and plain JSON lines.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use corelane::guard::linear::Head;
use flate2::read::GzDecoder;
use serde::Deserialize;

/// Whether a row makes weights, or only measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Makes weights.
    Train,
    /// Measures: the development split of a source that is trained on.
    Dev,
    /// Measures: nothing of its source is trained on.
    Unseen,
}

/// A labelled text.
#[derive(Debug, Clone)]
pub struct Row {
    pub text: String,
    pub label: bool,
    pub source: String,
    pub usage: Use,
    pub own: bool,
}

#[derive(Deserialize)]
struct Line {
    text: String,
    label: u8,
    source: Option<String>,
    lic: Option<String>,
    head: Option<String>,
}

/// All rows of `head`: those of `data` and our own.
pub fn load(data: &Path, own: &Path, head: Head, seed: u64) -> Result<Vec<Row>, String> {
    let stem = match head {
        Head::Injection => "prompt_injection",
        head => head.name(),
    };
    let mut rows = Vec::new();
    for (split, usage) in [("train", Use::Train), ("dev", Use::Dev)] {
        let path = data.join(format!("{stem}.{split}.jsonl.gz"));
        let file = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        read(GzDecoder::new(file), &path, head, usage, false, &mut rows)?;
    }
    let trained: std::collections::BTreeSet<String> =
        rows.iter().filter(|row| row.usage == Use::Train).map(|row| row.source.clone()).collect();
    for row in &mut rows {
        if row.usage == Use::Dev && !trained.contains(&row.source) {
            row.usage = Use::Unseen;
        }
    }
    match head {
        Head::Injection => {
            let mut paths = crate::toxicity::files(own, "injection_").map_err(|error| error.to_string())?;
            paths.extend(crate::toxicity::files(own, "injection2_").map_err(|error| error.to_string())?);
            for path in paths {
                let file = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                read(file, &path, head, Use::Train, true, &mut rows)?;
            }
            for path in
                crate::toxicity::files(own, "grammar_injection_").map_err(|error| error.to_string())?
            {
                let grammar = crate::grammar::Grammar::read(&path).map_err(|error| error.to_string())?;
                rows.extend(
                    grammar.rows(seed, &[]).into_iter().map(|made| Row {
                        source: format!("own:grammar_{}", made.lang),
                        ..own_row(made, head)
                    }),
                );
            }
            ordinary(data, own, seed, &mut rows)?;
        }
        Head::Toxicity => {
            harmless(data, &mut rows)?;
            let made = crate::toxicity::rows(own, &data.join("lexicons"), seed);
            rows.extend(made.map_err(|error| error.to_string())?.into_iter().map(|made| own_row(made, head)));
        }
        Head::Refusal => {
            let made = crate::refusal::rows(own, seed);
            rows.extend(made.map_err(|error| error.to_string())?.into_iter().map(|made| own_row(made, head)));
        }
    }
    talk(own, head, &mut rows)?;
    measured(&own.join("../eval"), head, &mut rows)?;
    Ok(rows)
}

/// Everyday talk, harmless for every head; for the others than injection also prompts that sound like attacks.
fn talk(own: &Path, head: Head, rows: &mut Vec<Row>) -> Result<(), String> {
    let stems: &[&str] = if head == Head::Injection { &["ordinary_"] } else { &["ordinary_", "injection_", "injection2_"] };
    for stem in stems {
        for path in crate::toxicity::files(own, stem).map_err(|error| error.to_string())? {
            let file = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let mut talk = Vec::new();
            read(file, &path, head, Use::Train, false, &mut talk)?;
            let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            rows.extend(talk.into_iter().filter(|row| !row.label).map(|row| Row {
                source: format!("own:talk_{name}"),
                usage: Use::Train,
                own: true,
                ..row
            }));
        }
    }
    Ok(())
}

/// The texts of `folder`, which only measure: attacks and prompts that sound like some, and what people ask every day.
fn measured(folder: &Path, head: Head, rows: &mut Vec<Row>) -> Result<(), String> {
    let stems: &[&str] = if head == Head::Injection { &["injection_", "ordinary_"] } else { &["ordinary_"] };
    for stem in stems {
        for path in crate::toxicity::files(folder, stem).map_err(|error| error.to_string())? {
            let file = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let before = rows.len();
            read(file, &path, head, Use::Unseen, false, rows)?;
            let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            rows.iter_mut().skip(before).for_each(|row| row.source = format!("eval:{name}"));
        }
    }
    Ok(())
}

/// Lets a share of our handwritten rows measure instead of train.
pub fn hold(rows: &mut [Row], percent: u64) {
    for row in rows.iter_mut().filter(|row| row.own && row.source.starts_with("own:injection_")) {
        let hash =
            row.text.bytes().fold(0_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3));
        if (hash >> 32) % 100 < percent {
            row.usage = Use::Dev;
        }
    }
}

/// What the other heads call harmless is no injection either: questions, answers, talk; one in a few.
fn ordinary(data: &Path, own: &Path, seed: u64, rows: &mut Vec<Row>) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut made = crate::toxicity::rows(own, &data.join("lexicons"), seed).map_err(text)?;
    made.extend(crate::refusal::rows(own, seed).map_err(text)?);
    made.retain(|row| row.label == 0);
    rows.extend(
        made.into_iter().step_by(4).map(|made| Row {
            source: format!("own:ordinary_{}", made.lang),
            ..own_row(made, Head::Injection)
        }),
    );
    let mut others = Vec::new();
    for (stem, head) in [("toxicity", Head::Toxicity), ("refusal", Head::Refusal)] {
        let path = data.join(format!("{stem}.train.jsonl.gz"));
        let file = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        read(GzDecoder::new(file), &path, head, Use::Train, false, &mut others)?;
    }
    const TALK: [&str; 6] = [
        "COLD",
        "kocohub",
        "paradetox",
        "arena-hard-answers",
        "refusal-direction-harmless",
        "davidson-tweets",
    ];
    others.retain(|row| row.usage == Use::Train && !row.label && TALK.contains(&row.source.as_str()));
    rows.extend(
        others.into_iter().step_by(5).map(|row| Row { source: format!("talk:{}", row.source), ..row }),
    );
    Ok(())
}

/// What people ask models is harmless here whatever it tries; attacks themselves are left out.
fn harmless(data: &Path, rows: &mut Vec<Row>) -> Result<(), String> {
    let mut known: std::collections::BTreeSet<String> = rows.iter().map(|row| row.text.clone()).collect();
    for (split, usage) in [("train", Use::Train), ("dev", Use::Dev)] {
        let path = data.join(format!("prompt_injection.{split}.jsonl.gz"));
        let file = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut asked = Vec::new();
        read(GzDecoder::new(file), &path, Head::Toxicity, usage, false, &mut asked)?;
        asked.retain(|row| {
            let taken = !row.label && row.usage == usage && row.source != "awesome-prompts-zh";
            taken && known.insert(row.text.clone())
        });
        rows.extend(asked);
    }
    Ok(())
}

fn own_row(made: crate::grammar::Made, head: Head) -> Row {
    Row {
        text: made.text,
        label: made.label == 1,
        source: format!("own:{}_{}", head.name(), made.lang),
        usage: Use::Train,
        own: true,
    }
}

fn read(
    file: impl Read,
    path: &Path,
    head: Head,
    usage: Use,
    own: bool,
    rows: &mut Vec<Row>,
) -> Result<(), String> {
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(|error| format!("{}: {error}", path.display()))?;
        if line.trim().is_empty() {
            continue;
        }
        let line: Line = match serde_json::from_str(&line) {
            Ok(line) => line,
            Err(error) => {
                eprintln!("{}:{}: {error}: left out", path.display(), number + 1);
                continue;
            }
        };
        if own && line.head.as_deref() != Some(head.name()) {
            continue;
        }
        let free = own || matches!(line.lic.as_deref(), Some("P" | "S"));
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        rows.push(Row {
            text: line.text,
            label: line.label == 1,
            source: if own { format!("own:{name}") } else { line.source.unwrap_or(name) },
            usage: if free { usage } else { Use::Unseen },
            own,
        });
    }
    Ok(())
}
