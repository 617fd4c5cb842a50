//! Texts as the pass sees them: segments with their features, and the windows that are scored.

use corelane::guard::linear::Head;
use corelane::guard::linear::features::{Pass, Segment, Shape, Sink};
use corelane::guard::linear::lexicon::Lexicon;
use corelane::guard::linear::script::{Group, Scripts};
use corelane::guard::linear::windows::Windows;
use corelane::guard::text::{Folded, Folder, Level};

use crate::data::{Row, Use};
use crate::solver::Random;

/// A segment's features.
#[derive(Debug, Clone, Default)]
pub struct Piece {
    pub features: Vec<u32>,
    pub rules: Vec<u16>,
    pub segment: Segment,
}

/// A text, read.
#[derive(Debug, Clone)]
pub struct Text {
    pub row: Row,
    pub pieces: Vec<Piece>,
    /// Stretches of pieces that are scored, first and last.
    pub windows: Vec<(usize, usize)>,
    pub group: Group,
    /// Made from another row.
    pub made: bool,
}

impl Sink for Piece {
    fn feature(&mut self, bucket: usize, _: Shape) {
        self.features.push(bucket as u32);
    }

    fn rule(&mut self, rule: usize) {
        self.rules.push(rule as u16);
    }
}

/// Reads a row.
pub fn read(row: Row) -> Text {
    let (mut folder, mut folded) = (Folder::new(Level::Strict), Folded::default());
    folder.push(&row.text, &mut folded);
    folder.finish(&mut folded);
    let lexicon = Lexicon::get();
    let (mut pass, mut open, mut pieces) = (Pass::default(), Piece::default(), Vec::new());
    for c in folded.tail(0).chars() {
        if pass.step(c, lexicon, &mut open) {
            open.segment = pass.take_segment();
            pieces.push(std::mem::take(&mut open));
        }
    }
    if !pass.is_empty() {
        pass.end(lexicon, &mut open);
        open.segment = pass.take_segment();
        pieces.push(open);
    }
    let (mut windows, mut starts): (Vec<(usize, usize)>, Windows<usize>) = (Vec::new(), Windows::default());
    let mut scripts = Scripts::default();
    for (last, piece) in pieces.iter().enumerate() {
        scripts.add(&piece.segment.scripts);
        for first in starts.close(piece.segment.units, last).into_iter().skip(1) {
            if windows.last() != Some(&(first, last)) {
                windows.push((first, last));
            }
        }
    }
    Text { row, pieces, windows, group: scripts.group(), made: false }
}

/// Reads all rows and makes more of those that train.
pub fn prepare(rows: Vec<Row>, head: Head, seed: u64) -> Vec<Text> {
    let mut random = Random::new(seed);
    let total = rows.len();
    let mut texts = Vec::with_capacity(total + total / 4);
    for (done, row) in rows.into_iter().enumerate() {
        if done % 2000 == 0 {
            crate::report::progress("reading", done, total);
        }
        texts.push(read(row));
    }
    crate::report::progress("reading", total, total);
    // The grammars of the other heads give their rows company themselves; more of it only blurs what is meant.
    if head == Head::Injection {
        let made = make(&texts, &mut random);
        texts.extend(made);
    }
    texts
}

/// Attacks inside other texts, and typing errors on both sides.
fn make(texts: &[Text], random: &mut Random) -> Vec<Text> {
    let mut benign: Vec<Vec<usize>> = vec![Vec::new(); Group::ALL.len()];
    for (index, text) in texts.iter().enumerate() {
        let length = text.row.text.len();
        let fits = !text.row.label && text.row.usage == Use::Train && (40..600).contains(&length);
        if let Some(group) = benign.get_mut(text.group as usize).filter(|_| fits) {
            group.push(index);
        }
    }
    let mut made = Vec::new();
    for text in texts.iter().filter(|text| text.row.usage == Use::Train) {
        let length = text.row.text.chars().count();
        let pool = benign.get(text.group as usize).filter(|pool| !pool.is_empty());
        if let Some(pool) = pool.filter(|_| text.row.label && length < 500 && random.below(100) < 25) {
            let other = pool.get(random.below(pool.len())).and_then(|index| texts.get(*index));
            let other = other.map(|text| text.row.text.clone()).unwrap_or_default();
            let glue = [" ", "\n", "\n\n", ". "].get(random.below(4)).copied().unwrap_or(" ");
            let joined = if random.below(3) > 0 {
                format!("{other}{glue}{}", text.row.text)
            } else {
                format!("{}{glue}{other}", text.row.text)
            };
            made.push(with(text, joined));
        }
        if length > 20 && random.below(100) < if text.row.label { 10 } else { 3 } {
            made.push(with(text, typos(&text.row.text, random)));
        }
    }
    made
}

fn with(text: &Text, changed: String) -> Text {
    let mut new = read(Row { text: changed, ..text.row.clone() });
    new.made = true;
    new
}

fn typos(text: &str, random: &mut Random) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    let count = 1 + letters.len() / 30;
    for _ in 0..count.min(12) {
        let at = random.below(letters.len().saturating_sub(1));
        match random.below(3) {
            0 => letters.swap(at, at + 1),
            1 => {
                letters.remove(at);
            }
            _ => {
                if let Some(letter) = letters.get(at).copied() {
                    letters.insert(at, letter);
                }
            }
        }
        if letters.len() < 2 {
            break;
        }
    }
    letters.into_iter().collect()
}
