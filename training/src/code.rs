//! Trains `src/guard/models/code.bin`: what a block of text is, by features that the scanner computes in the same way.
//!
//! Rows: `code.train` (licence P and S), prose and configuration of the other scanners' sets, and our own
//! `training/data/code_*.jsonl`. Answers are taken apart at their fences: the tag labels the block, the rest is prose.
//! Texts are cut as the scanner cuts them (8 lines, 400 bytes) and into a few lines each. The features kept are those
//! that say most about the class; then a multinomial logistic regression by `AdaGrad`, classes weighted by the root of
//! their size; weights rounded to 8 bits. One thread, one seed, no clock: the same bytes every time.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Error, Read, Write};
use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::Value;

#[path = "../../src/guard/scanners/no_code/features.rs"]
mod features;
#[path = "../../src/guard/scanners/no_code/languages.rs"]
mod languages;
#[path = "../../src/guard/scanners/no_code/model.rs"]
#[expect(dead_code, reason = "the scanner uses the rest")]
mod model;

use model::SLOTS;

use languages::{CLASS_COUNT, OTHER_CODE, PROGRAM_END, Tag, by_name, by_tag};

/// The first class that is not program code.
const PROSE: usize = PROGRAM_END;

const ROWS: usize = 8_000;
const EPOCHS: usize = 14;
const RATE: f32 = 0.4;
const DECAY: f32 = 2e-6;

struct Sample {
    class: usize,
    text: String,
}

/// Trains from `data_dir` and `training/data`, and writes the model to `out_path`.
///
/// # Errors
/// A file cannot be read or written.
pub fn train(data_dir: &Path, out_path: &Path, seed: u64) -> Result<(), Error> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    train_without(data_dir, &own, out_path, seed, &[])
}

/// As [`train`], leaving out some sources: to measure on them.
///
/// # Errors
/// A file cannot be read or written.
pub fn train_without(data: &Path, own: &Path, out: &Path, seed: u64, without: &[&str]) -> Result<(), Error> {
    let mut random = Random(seed);
    let samples = samples(&read(data, own, without)?, &mut random);
    let chosen = choose(&samples);
    let (table, kept) = place(&chosen);
    let rows: Vec<(usize, Vec<u32>)> =
        samples.iter().map(|sample| (sample.class, rows_of(&sample.text, &kept))).collect();
    let fitted = fit(&rows, kept.len(), &mut random);
    write(out, &table, kept.len(), &fitted)
}

fn lines(path: &Path) -> Result<Vec<Value>, Error> {
    let file = File::open(path)?;
    let reader: Box<dyn Read> = if path.extension().is_some_and(|end| end == "gz") {
        Box::new(GzDecoder::new(file))
    } else {
        Box::new(file)
    };
    BufReader::new(reader).lines().map(|line| serde_json::from_str(&line?).map_err(Error::from)).collect()
}

fn field<'a>(row: &'a Value, name: &str) -> &'a str {
    row.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Texts with their classes.
fn read(data: &Path, own: &Path, without: &[&str]) -> Result<Vec<Sample>, Error> {
    let mut texts = Vec::new();
    let allowed =
        |row: &Value| matches!(field(row, "lic"), "P" | "S") && !without.contains(&field(row, "source"));
    for row in lines(&data.join("code.train.jsonl.gz"))?.iter().filter(|row| allowed(row)) {
        let (text, label) = (field(row, "text"), row.get("label").and_then(Value::as_i64));
        if field(row, "source").starts_with("arena-hard") {
            answer(text, &mut texts);
        } else if label == Some(1) {
            let class = by_name(field(row, "lang")).unwrap_or(OTHER_CODE);
            texts.push(Sample { class, text: text.to_owned() });
        } else {
            answer(text, &mut texts);
        }
    }
    for (file, sources) in PROSE_SOURCES {
        for row in lines(&data.join(file))?.iter().filter(|row| allowed(row)) {
            let source = field(row, "source");
            if source == "lockfile-chunks" {
                let name = if field(row, "text").contains("\": ") { "JSON" } else { "YAML" };
                texts.push(Sample {
                    class: by_name(name).unwrap_or(PROSE),
                    text: field(row, "text").to_owned(),
                });
            } else if sources.contains(&source) {
                answer(field(row, "text"), &mut texts);
            }
        }
    }
    let mut files: Vec<_> = std::fs::read_dir(own)?.collect::<Result<Vec<_>, _>>()?;
    files.sort_by_key(std::fs::DirEntry::file_name);
    for file in files.iter().filter(|file| file.file_name().to_string_lossy().starts_with("code_")) {
        for row in lines(&file.path())? {
            let class = by_name(field(&row, "lang")).ok_or_else(|| {
                Error::other(format!("{}: no class {}", file.path().display(), field(&row, "lang")))
            })?;
            // Ours are few and chosen: they count more, prose that looks like code most of all.
            for _ in 0..if class == PROSE { 10 } else { 3 } {
                texts.push(Sample { class, text: field(&row, "text").to_owned() });
            }
        }
    }
    Ok(texts)
}

/// Sets of the other scanners, and the sources there that are prose.
const PROSE_SOURCES: [(&str, &[&str]); 3] = [
    (
        "prompt_injection.train.jsonl.gz",
        &["tech-docs", "gsm8k", "cyberseceval-frr", "prompts-book", "fuzzyai-benign"],
    ),
    (
        "refusal.train.jsonl.gz",
        &["refusal-direction-harmless", "refusal-direction-harmful", "handwritten-refusals"],
    ),
    ("secrets.train.jsonl.gz", &["lockfile-chunks"]),
];

/// Takes an answer apart at its fences.
fn answer(text: &str, texts: &mut Vec<Sample>) {
    let mut class = Some(PROSE);
    let mut inside = false;
    let mut part = String::new();
    for line in text.split_inclusive('\n') {
        let Some(tag) = line.trim_start().strip_prefix("```") else {
            part.push_str(line);
            continue;
        };
        push_parts(class, inside, &part, texts);
        part.clear();
        inside = !inside;
        class = match by_tag(&tag.trim().to_ascii_lowercase()) {
            _ if !inside => Some(PROSE),
            Tag::Class(class) => Some(class),
            Tag::Silent => None,
        };
    }
    push_parts(class, inside, &part, texts);
}

fn push_parts(class: Option<usize>, inside: bool, part: &str, texts: &mut Vec<Sample>) {
    let Some(class) = class else { return };
    if inside {
        texts.push(Sample { class, text: part.to_owned() });
        return;
    }
    let blocks = part.split("\n\n").filter(|text| text.len() > 20 && !may_be_code(text));
    texts.extend(blocks.map(|text| Sample { class, text: text.to_owned() }));
}

/// Whether a paragraph outside of fences may be code all the same: then it teaches nothing.
fn may_be_code(text: &str) -> bool {
    let indented = text.lines().all(|line| line.starts_with("    ") || line.starts_with('\t'));
    let line_is_code = |line: &str| {
        let line = line.trim();
        line.ends_with([';', '{', '}'])
            || line.ends_with("):")
            || line.starts_with("import ") && line.len() < 30
    };
    indented || text.lines().any(line_is_code) || text.contains("def ") && text.contains("):")
}

/// Cuts texts as the scanner does, and into a few lines.
fn samples(texts: &[Sample], random: &mut Random) -> Vec<Sample> {
    let mut samples = Vec::new();
    for Sample { class, text } in texts {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let mut part = String::new();
        let mut count = 0;
        let mut parts = 0;
        for line in &lines {
            part.push_str(line);
            count += 1;
            if (count >= 8 || part.len() >= 400) && parts < 4 {
                samples.push(Sample { class: *class, text: cut(&part) });
                part.clear();
                (count, parts) = (0, parts + 1);
            }
        }
        if !part.trim().is_empty() && parts < 4 {
            samples.push(Sample { class: *class, text: cut(&part) });
        }
        if lines.len() > 2 {
            let first = random.below(lines.len() - 1);
            let end = (first + 1 + random.below(3)).min(lines.len());
            let few = lines[first..end].concat();
            if few.trim().len() > 12 {
                samples.push(Sample { class: *class, text: few });
            }
        }
    }
    samples
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(800)].to_owned()
}

/// Hashes of the features that tell most about the class, best first.
fn choose(samples: &[Sample]) -> Vec<u32> {
    let mut sizes = [0.0_f64; CLASS_COUNT];
    for sample in samples {
        sizes[sample.class] += 1.0;
    }
    let weights = sizes.map(|size| size.max(1.0).powf(-0.5));
    let mut counts: HashMap<u32, (u32, [f32; CLASS_COUNT])> = HashMap::new();
    let mut totals = [0.0_f64; CLASS_COUNT];
    for sample in samples {
        let mut hashes = Vec::new();
        features::features(sample.text.as_bytes(), |token| hashes.extend(token.hashes));
        hashes.sort_unstable();
        hashes.dedup();
        totals[sample.class] += weights[sample.class];
        for hash in hashes {
            let entry = counts.entry(hash).or_insert((0, [0.0; CLASS_COUNT]));
            entry.0 += 1;
            entry.1[sample.class] += weights[sample.class] as f32;
        }
    }
    let all: f64 = totals.iter().sum();
    let mut ranked: Vec<(f64, u32)> = counts
        .into_iter()
        .filter(|(_, (count, _))| *count >= 3)
        .map(|(hash, (_, by_class))| {
            let mass: f64 = by_class.iter().map(|value| f64::from(*value)).sum();
            let surprise: f64 = (0..CLASS_COUNT)
                .filter(|class| by_class[*class] > 0.0)
                .map(|class| {
                    let share = f64::from(by_class[class]) / mass;
                    share * (share / (totals[class] / all)).ln()
                })
                .sum();
            (mass * surprise, hash)
        })
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    ranked.into_iter().map(|(_, hash)| hash).collect()
}

/// Rows by slot and check.
type Kept = HashMap<(usize, u32), u32>;

/// Gives the best features a slot and a row: the table, and the rows.
fn place(ranked: &[u32]) -> (Vec<u32>, Kept) {
    let mut table = vec![0_u32; SLOTS];
    let mut kept = HashMap::new();
    let mut rows = 0_u32;
    for hash in ranked {
        let (slot, check) = model::place(*hash);
        if kept.contains_key(&(slot, check)) || rows as usize == ROWS {
            continue;
        }
        if let Some(free) = [slot, slot ^ 1].into_iter().find(|slot| table[*slot] == 0) {
            table[free] = check | rows << 16;
            kept.insert((slot, check), rows);
            rows += 1;
        }
    }
    (table, kept)
}

fn rows_of(text: &str, kept: &Kept) -> Vec<u32> {
    let mut rows = Vec::new();
    features::features(text.as_bytes(), |token| {
        rows.extend(token.hashes.iter().filter_map(|hash| kept.get(&model::place(*hash))));
    });
    rows.sort_unstable();
    rows.dedup();
    rows
}

struct Fitted {
    weights: Vec<[f32; CLASS_COUNT]>,
    bias: [f32; CLASS_COUNT],
}

fn fit(samples: &[(usize, Vec<u32>)], rows: usize, random: &mut Random) -> Fitted {
    let mut sizes = [0.0_f32; CLASS_COUNT];
    for (class, _) in samples {
        sizes[*class] += 1.0;
    }
    let mean = samples.len() as f32 / CLASS_COUNT as f32;
    let importance = sizes.map(|size| (mean / size.max(1.0)).sqrt());
    let mut fitted = Fitted { weights: vec![[0.0; CLASS_COUNT]; rows], bias: [0.0; CLASS_COUNT] };
    let mut squares = vec![[1e-3_f32; CLASS_COUNT]; rows];
    let mut bias_squares = [1e-3_f32; CLASS_COUNT];
    let mut order: Vec<usize> = (0..samples.len()).collect();
    for _ in 0..EPOCHS {
        for at in (1..order.len()).rev() {
            order.swap(at, random.below(at + 1));
        }
        for index in &order {
            let (class, rows) = &samples[*index];
            let size = 1.0 / (rows.len().max(1) as f32).sqrt();
            let mut gradient = errors(&fitted, *class, rows, size);
            for value in &mut gradient {
                *value *= importance[*class];
            }
            for row in rows {
                let row = *row as usize;
                step(&mut fitted.weights[row], &mut squares[row], &gradient, size, DECAY);
            }
            step(&mut fitted.bias, &mut bias_squares, &gradient, 0.3, 0.0);
        }
    }
    fitted
}

/// Probability less truth, for each class.
fn errors(fitted: &Fitted, class: usize, rows: &[u32], size: f32) -> [f32; CLASS_COUNT] {
    let mut scores = fitted.bias;
    for row in rows {
        for (score, weight) in scores.iter_mut().zip(&fitted.weights[*row as usize]) {
            *score += weight * size;
        }
    }
    let mut errors = model::probabilities(&scores);
    errors[class] -= 1.0;
    errors
}

fn step(
    weights: &mut [f32; CLASS_COUNT],
    squares: &mut [f32; CLASS_COUNT],
    gradient: &[f32; CLASS_COUNT],
    size: f32,
    decay: f32,
) {
    for ((weight, square), gradient) in weights.iter_mut().zip(squares).zip(gradient) {
        let gradient = gradient * size + *weight * decay;
        *square += gradient * gradient;
        *weight -= RATE * gradient / square.sqrt();
    }
}

fn write(out: &Path, table: &[u32], rows: usize, fitted: &Fitted) -> Result<(), Error> {
    let top = fitted.weights.iter().flatten().fold(0.0_f32, |top, weight| top.max(weight.abs()));
    let scale = top.min(8.0) / 127.0;
    let mut bytes = b"CLNC".to_vec();
    bytes.extend((table.len() as u32).to_le_bytes());
    bytes.extend((rows as u32).to_le_bytes());
    bytes.extend(scale.to_le_bytes());
    bytes.extend(fitted.bias.iter().flat_map(|value| value.to_le_bytes()));
    bytes.extend(table.iter().flat_map(|entry| entry.to_le_bytes()));
    let rounded = |weight: &f32| (weight / scale).round().clamp(-127.0, 127.0) as i8;
    bytes.extend(fitted.weights.iter().flatten().map(|weight| rounded(weight).cast_unsigned()));
    File::create(out)?.write_all(&bytes)?;
    Ok(())
}

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % end.max(1) as u64) as usize
    }
}
