//! Rows made from small grammars: sentence templates with slots, a language a file.
//!
//! A grammar file holds JSON lines of three kinds: a slot and its words (`{"slot","words"}`), templates and
//! how many rows they shall make (`{"label","category","rows","templates"}`), and finished rows
//! (`{"text","label",…}`), which are taken as they are. `{slot}` in a template stands for any of the slot's
//! words. Every word of a slot is used equally often, and every template too. The same seed gives the same
//! rows.
//!
//! What people type is not what dictionaries print, so some rows are respelled: marks dropped (Vietnamese),
//! letters unified (Arabic, Russian), letters starred out, replaced or drawn out. And what is meant badly
//! often stands among harmless sentences, so some rows are given one for company, which must not weigh in
//! either direction.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;

/// A text with what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The text.
    pub text: String,
    /// Whether the scanner should find something.
    pub label: u8,
    /// ISO 639-1.
    pub lang: String,
    /// A word of the head's own set.
    pub category: String,
}

/// A small generator of numbers that are random enough (SplitMix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Starts at `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Below `n`; zero if `n` is.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        if n == 0 { 0 } else { usize::try_from(mixed % n as u64).unwrap_or(0) }
    }

    /// Whether it happens that happens so many times in a hundred.
    pub fn percent(&mut self, share: usize) -> bool {
        self.below(100) < share
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Slot {
        slot: String,
        words: Vec<String>,
    },
    Templates {
        label: u8,
        category: String,
        rows: usize,
        templates: Vec<String>,
    },
    Row {
        text: String,
        label: u8,
        #[serde(default)]
        category: String,
    },
}

/// Words of a slot, dealt out in turn.
#[derive(Debug, Default)]
struct Deck {
    words: Vec<String>,
    next: usize,
}

impl Deck {
    fn draw(&mut self, dice: &mut Dice) -> &str {
        if self.next == 0 {
            for at in (1..self.words.len()).rev() {
                self.words.swap(at, dice.below(at + 1));
            }
        }
        let word = self.next;
        self.next = (self.next + 1) % self.words.len().max(1);
        self.words.get(word).map_or("", String::as_str)
    }
}

/// A grammar of one language.
pub struct Grammar {
    lang: String,
    decks: BTreeMap<String, Deck>,
    templates: Vec<(u8, String, usize, Vec<String>)>,
    rows: Vec<Made>,
}

impl Grammar {
    /// Reads `path`; the language is what follows the last `_` of the file's name.
    ///
    /// # Errors
    /// When the file cannot be read or a line is none of the three kinds.
    pub fn read(path: &Path) -> io::Result<Self> {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let lang = stem.rsplit('_').next().unwrap_or_default().to_owned();
        let mut grammar = Self { lang, decks: BTreeMap::new(), templates: Vec::new(), rows: Vec::new() };
        for line in fs::read_to_string(path)?.lines().filter(|line| !line.trim().is_empty()) {
            let lang = grammar.lang.clone();
            match serde_json::from_str(line)? {
                Line::Slot { slot, words } => grammar.words(&slot, words),
                Line::Templates { label, category, rows, templates } => {
                    grammar.templates.push((label, category, rows, templates));
                }
                Line::Row { text, label, category } => {
                    grammar.rows.push(Made { text, label, lang, category });
                }
            }
        }
        Ok(grammar)
    }

    /// Its language.
    #[must_use]
    pub fn lang(&self) -> &str {
        &self.lang
    }

    /// Adds words to a slot.
    pub fn words(&mut self, slot: &str, words: Vec<String>) {
        self.decks.entry(slot.to_owned()).or_default().words.extend(words);
    }

    /// Takes a slot out of the grammar and gives its words.
    pub fn take(&mut self, slot: &str) -> Vec<String> {
        self.decks.remove(slot).map(|deck| deck.words).unwrap_or_default()
    }

    /// All rows that it makes. `disguised` names the slots whose words may be respelled.
    pub fn rows(mut self, seed: u64, disguised: &[&str]) -> Vec<Made> {
        let mut dice = Dice::new(seed);
        let mut made = std::mem::take(&mut self.rows);
        for (label, category, rows, templates) in std::mem::take(&mut self.templates) {
            // Templates without slots make themselves, a few times: in other company each time.
            let rows =
                if templates.iter().any(|text| text.contains('{')) { rows } else { 3 * templates.len() };
            for at in 0..rows {
                let Some(template) = templates.get(at % templates.len().max(1)) else { break };
                let text = self.fill(template, label, disguised, &mut dice);
                made.push(Made { text, label, lang: self.lang.clone(), category: category.clone() });
            }
        }
        made
    }

    fn fill(&mut self, template: &str, label: u8, disguised: &[&str], dice: &mut Dice) -> String {
        let mut text = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((slot, after)) = after.split_once('}') else { break };
            text.push_str(before);
            let word = self.decks.get_mut(slot).map_or_else(String::new, |deck| deck.draw(dice).to_owned());
            let hidden = label == 1 && disguised.contains(&slot) && dice.percent(8);
            text.push_str(&if hidden { disguise(&word, dice) } else { word });
            rest = after;
        }
        text.push_str(rest);
        respell(&text, &self.lang, dice)
    }
}

/// Gives a share of the rows a harmless row of the same language for company, in front or behind.
pub fn accompany(made: &mut [Made], dice: &mut Dice, share: usize) {
    let harmless: Vec<String> =
        made.iter().filter(|row| row.label == 0).map(|row| row.text.clone()).collect();
    for row in made.iter_mut() {
        if !dice.percent(if row.label == 1 { share } else { share / 2 }) {
            continue;
        }
        let Some(other) = harmless.get(dice.below(harmless.len())) else { continue };
        let dot = if other.ends_with(['.', '?', '!', '。', '？', '؟']) { " " } else { ". " };
        row.text = if dice.percent(50) {
            format!("{other}{dot}{}", row.text)
        } else {
            format!(
                "{}{} {other}",
                row.text,
                if row.text.ends_with(['.', '!', '?', '。']) { "" } else { "." }
            )
        };
    }
}

/// Spells one letter of a word otherwise, as people do to get past filters.
fn disguise(word: &str, dice: &mut Dice) -> String {
    let letters: Vec<char> = word.chars().collect();
    if letters.len() < 3 {
        return word.to_owned();
    }
    let at = 1 + dice.below(letters.len() - 2);
    let way = dice.below(4);
    let mut text = String::new();
    for (place, &letter) in letters.iter().enumerate() {
        match way {
            0 if place == at && letter.is_alphabetic() => text.push('*'),
            1 if place == at && letter.is_alphabetic() => text.extend([letter; 4]),
            2 => text.push(look_alike(letter)),
            3 if place == at && letter.is_alphabetic() => text.extend(['.', letter]),
            _ => text.push(letter),
        }
    }
    text
}

fn look_alike(letter: char) -> char {
    match letter {
        'a' => '@',
        'i' => '1',
        'o' | 'о' => '0',
        'e' => '3',
        's' => '$',
        'з' => '3',
        other => other,
    }
}

/// Spells a text as it is often typed.
fn respell(text: &str, lang: &str, dice: &mut Dice) -> String {
    match lang {
        "vi" if dice.percent(20) => text.chars().map(plain_vietnamese).collect(),
        "ru" if dice.percent(50) => text.replace('ё', "е"),
        "ar" if dice.percent(50) => text
            .chars()
            .map(|c| match c {
                'أ' | 'إ' | 'آ' => 'ا',
                'ة' => 'ه',
                'ى' => 'ي',
                c => c,
            })
            .collect(),
        _ => text.to_owned(),
    }
}

/// A Vietnamese letter without its marks.
fn plain_vietnamese(letter: char) -> char {
    const LETTERS: [(char, &str); 7] = [
        ('a', "àáảãạăằắẳẵặâầấẩẫậ"),
        ('e', "èéẻẽẹêềếểễệ"),
        ('i', "ìíỉĩị"),
        ('o', "òóỏõọôồốổỗộơờớởỡợ"),
        ('u', "ùúủũụưừứửữự"),
        ('y', "ỳýỷỹỵ"),
        ('d', "đ"),
    ];
    let small = letter.to_lowercase().next().unwrap_or(letter);
    let plain = LETTERS.iter().find(|(_, marked)| marked.contains(small)).map_or(letter, |(plain, _)| *plain);
    if letter.is_uppercase() && plain != letter { plain.to_ascii_uppercase() } else { plain }
}
