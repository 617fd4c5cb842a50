//! Words under disguise: look-alike letters, leetspeak, letters that stand apart.
//!
//! A word is held until it ends, and a run of single letters with the same separator until another kind of
//! word comes; both at most [`LENGTH_MAX`] bytes. A word is changed only if it gives itself away: letters
//! of other scripts stand among Latin ones, or all of a word in Latin surroundings look Latin; figures
//! stand among letters. So Russian, Greek, numbers, hashes and ordinary punctuation stay as they are.

use super::lookalike::{Kind, kind, letter_of_figure};
use super::table::{self, table};
use super::{HELD_MAX, Item, Sink};

/// Bytes of the original in a word or run; one more character may be held in front of its marks.
pub(super) const LENGTH_MAX: usize = HELD_MAX / 2;
/// Letters apart that make a word.
pub(super) const APART_MIN: usize = 3;

/// State of the reading.
#[derive(Debug, Clone, Default)]
pub(super) struct Words {
    /// A run of single characters, each with its separator, then the word that has begun.
    held: Vec<Item>,
    /// Characters of the run that have a separator behind them.
    apart: usize,
    /// The separator of the run that was joined last, if nothing but separators came since.
    joined: Option<char>,
    /// Whether the last word with letters was Latin.
    latin: bool,
    /// Whether the word that has begun goes on after a part that was let go.
    goes_on: bool,
}

impl Words {
    /// Where the original is held back from.
    pub(super) fn held_from(&self) -> Option<usize> {
        self.held.first().map(|item| item.from)
    }

    /// Whether nothing is held and a word may begin.
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty() && !self.goes_on
    }

    /// Whether letters were joined right before, to which others may be joined.
    pub(super) fn has_joined(&self) -> bool {
        self.joined.is_some()
    }

    /// Whether the last word with letters was Latin.
    pub(super) fn latin(&self) -> bool {
        self.latin
    }

    /// Whole words were copied without being shown, the last of them with letters `latin` or not.
    pub(super) fn passed_words(&mut self, latin: bool) {
        self.latin = latin;
    }

    /// `plain` ASCII was copied without being shown.
    pub(super) fn passed(&mut self, plain: &str) {
        if plain.bytes().any(|byte| is_word(char::from(byte))) {
            self.joined = None;
        }
        self.latin = self.latin || plain.bytes().any(|byte| byte.is_ascii_alphabetic());
    }

    /// Takes the next character.
    pub(super) fn take(&mut self, item: Item, sink: &mut Sink<'_>) {
        if self.held.first().is_some_and(|first| item.to - first.from > LENGTH_MAX) {
            self.let_go(sink);
        }
        if is_part(item.ch) {
            self.held.push(item);
            if self.apart > 0 && self.word_length() > 1 {
                self.end_run(sink);
            }
            return;
        }
        if self.may_stand_apart(item.ch) {
            self.held.push(item);
            self.apart += 1;
            return;
        }
        self.end_run(sink);
        self.end_word(sink);
        self.goes_on = false;
        sink.put(item);
    }

    /// The text has got to `reached`: lets go what is held for too long.
    pub(super) fn reach(&mut self, reached: usize, sink: &mut Sink<'_>) {
        if self.held.first().is_some_and(|first| reached - first.from > HELD_MAX - 4) {
            self.let_go(sink);
        }
    }

    /// The text is over.
    pub(super) fn finish(&mut self, sink: &mut Sink<'_>) {
        self.end_run(sink);
        self.end_word(sink);
    }

    /// Characters held behind the run.
    fn word_length(&self) -> usize {
        self.held.len() - 2 * self.apart
    }

    /// Whether `separator` makes the one-character word that is held a part of the run.
    fn may_stand_apart(&self, separator: char) -> bool {
        let same = self.held.get(1).is_none_or(|first| self.apart == 0 || first.ch == separator);
        let single = self.word_length() == 1 && !self.goes_on;
        single
            && same
            && is_separator(separator)
            && self.held.last().is_some_and(|item| may_be_letter(item.ch))
    }

    /// What is held grows too long: hands it on in its present state; the word goes on.
    fn let_go(&mut self, sink: &mut Sink<'_>) {
        let run = self.apart > 0;
        self.end_run(sink);
        if !self.held.is_empty() {
            self.end_word(sink);
            self.goes_on = !run;
        }
    }

    /// The run is over: joins its letters if there are enough of them.
    fn end_run(&mut self, sink: &mut Sink<'_>) {
        if self.apart == 0 {
            return;
        }
        let whole = self.word_length() == 1;
        let count = self.apart + usize::from(whole);
        let run = self.held.len().min(2 * self.apart + usize::from(whole));
        let parts: Vec<Item> = self.held.drain(..run).collect();
        self.apart = 0;
        let letters: Vec<Item> = parts.iter().step_by(2).copied().collect();
        let real = letters.iter().filter(|item| item.ch.is_alphabetic()).count();
        let separator = parts.get(1).map(|item| item.ch);
        let least = if separator.is_some() && self.joined == separator { APART_MIN - 1 } else { APART_MIN };
        if count < least || 2 * real < count {
            self.joined = None;
            for part in parts {
                if is_part(part.ch) { self.put_word(&[part], sink) } else { sink.put(part) }
            }
            return;
        }
        self.joined = separator;
        let start = sink.folded.end();
        self.put_word(&letters, sink);
        sink.folded.joined.push(start..sink.folded.end());
        if let (false, Some(separator)) = (whole, parts.last()) {
            sink.put(*separator);
        }
    }

    /// The word is over.
    fn end_word(&mut self, sink: &mut Sink<'_>) {
        let word = std::mem::take(&mut self.held);
        if !word.is_empty() {
            self.joined = None;
        }
        self.put_word(&word, sink);
        self.held = word;
        self.held.clear();
    }

    /// Hands on `word` as it is meant.
    fn put_word(&mut self, word: &[Item], sink: &mut Sink<'_>) {
        let sight = Sight::of(word);
        let alike = sight.foreign == 0
            && sight.alike > 0
            && (sight.latin > 0
                || (self.latin && sight.plain_alike >= 3 && sight.plain_alike == sight.alike));
        let latin = sight.latin + if alike { sight.alike } else { 0 };
        let leet = sight.is_leet(latin) && (alike || sight.alike == 0) && !is_ordinal(word);
        if sight.letters() > 0 {
            self.latin = latin > 0;
        }
        let core = sight.core();
        for (index, item) in word.iter().enumerate() {
            let read = match kind(item.ch) {
                Kind::Odd(letter) if word.len() > 2 || !is_flag(item.ch) => Some(letter),
                Kind::Alike(letter, _) if alike => Some(letter),
                Kind::Figure if leet && core.contains(&index) => letter_of_figure(item.ch, word, index),
                _ => None,
            };
            if read.is_some() {
                let at = sink.folded.end();
                sink.folded.read.push((at, !item.ch.is_alphanumeric()));
            }
            sink.put(Item { ch: read.unwrap_or(item.ch), ..*item });
        }
    }
}

/// What a word consists of.
#[derive(Default)]
struct Sight {
    length: usize,
    latin: usize,
    /// Letters of other scripts that look Latin; those that do so in lower case.
    alike: usize,
    plain_alike: usize,
    /// Letters of other scripts that do not.
    foreign: usize,
    /// Figures that may be letters; digits among them.
    figures: usize,
    digits: usize,
    /// Digits that are none.
    numbers: usize,
    /// Hexadecimal digits.
    hexadecimal: usize,
    /// Signs at the start and at the end that are punctuation.
    lead: usize,
    trail: usize,
}

impl Sight {
    fn of(word: &[Item]) -> Self {
        let mark = |item: &&Item| matches!(item.ch, '!' | '|');
        let trail = word.iter().rev().take_while(mark).count();
        let lead = word.iter().take_while(|item| item.ch == '|').count();
        let mut sight = Self { length: word.len(), lead, trail, ..Self::default() };
        for item in word.get(sight.core()).unwrap_or_default() {
            match kind(item.ch) {
                Kind::Latin | Kind::Odd(_) => sight.latin += 1,
                Kind::Alike(_, plain) => {
                    sight.alike += 1;
                    sight.plain_alike += usize::from(plain);
                }
                Kind::Foreign => sight.foreign += 1,
                Kind::Figure => {
                    sight.figures += 1;
                    sight.digits += usize::from(item.ch.is_ascii_digit());
                }
                Kind::Number => sight.numbers += 1,
            }
            sight.hexadecimal += usize::from(item.ch.is_ascii_hexdigit());
        }
        sight
    }

    fn core(&self) -> std::ops::Range<usize> {
        let end = self.length - self.trail;
        self.lead.min(end)..end
    }

    fn letters(&self) -> usize {
        self.latin + self.alike + self.foreign
    }

    /// Whether figures among `latin` letters stand for letters: not in numbers with a unit, names with a
    /// number that no letter looks like, hashes.
    fn is_leet(&self, latin: usize) -> bool {
        let length = self.core().len();
        let hash = self.hexadecimal == length && self.digits >= 2 && length >= 5;
        length >= 3
            && self.figures > 0
            && self.foreign == 0
            && self.numbers == 0
            && latin > 0
            && 2 * latin >= self.figures
            && !hash
    }
}

/// The same as [`is_word`], from the table.
fn is_part(ch: char) -> bool {
    let known = table().of(ch);
    if known.is_none() || known.is(table::CHANGES) { is_word(ch) } else { known.is(table::WORD) }
}

/// What words consist of here.
pub(super) fn is_word(ch: char) -> bool {
    ch.is_alphanumeric() || matches!(ch, '@' | '$' | '!' | '|') || is_flag(ch)
}

/// Whether `word` is an English ordinal number in figures.
fn is_ordinal(word: &[Item]) -> bool {
    let Some((figures, [one, two])) = word.split_last_chunk() else { return false };
    let ending = matches!((one.ch, two.ch), ('s', 't') | ('n', 'd') | ('r', 'd') | ('t', 'h'));
    ending && figures.iter().all(|item| item.ch.is_ascii_digit())
}

/// Letters that make flags in pairs.
fn is_flag(ch: char) -> bool {
    matches!(ch, '\u{1f1e6}'..='\u{1f1ff}')
}

/// What may stand for a letter apart. Syllables of Hangul are words.
pub(super) fn may_be_letter(ch: char) -> bool {
    (ch.is_alphanumeric() && !matches!(ch, '\u{ac00}'..='\u{d7a3}')) || matches!(ch, '@' | '$') || is_flag(ch)
}

/// What people put between the letters of a word.
pub(super) fn is_separator(ch: char) -> bool {
    matches!(ch, ' ' | '.' | '-' | '_' | '*' | '~' | '·' | '•' | '‐' | '–')
}
