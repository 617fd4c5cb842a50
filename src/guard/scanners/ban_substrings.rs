//! `BanSubstrings`: phrases that may not occur.
//!
//! With `normalize = none` what is found is what LLM Guard finds: containment after Python's `lower()`, or
//! `\b` on both sides of the phrase, which turns round at phrases that begin or end with no word character.
//! Only the spans differ: in word mode they respect the borders too. The other settings fold both sides
//! ([`Level`]); borders are then between letters or digits of scripts that put spaces between words, and
//! case never counts.
//!
//! All phrases are one automaton. Under `strict` it walks a second time, over the text without the marks on
//! Latin letters, from the first such mark until both walks agree again: "ígnóré" is "ignore", but only for
//! long phrases in ASCII, since short ones are words of other languages ("chó" is not "cho").

use std::ops::Range;

use crate::config::guard::{self as config, Normalize, PhraseMatch, ScannerName};
use crate::guard::literal::{Hit, Literals, Walk};
use crate::guard::text::decode::{self, Encoding};
use crate::guard::text::{Folded, Folder, Level, lookalike};
use crate::guard::verdict::{FINDINGS_MAX, Finding, Found};

mod python;
mod stock;
#[cfg(test)]
mod tests;

/// Bytes of a phrase from which on it is found under marks.
const MARKED_MIN: usize = 5;

/// The scanner: shared by all texts.
#[derive(Debug)]
pub struct BanSubstrings {
    level: Level,
    words: bool,
    contains_all: bool,
    /// As configured.
    phrases: Vec<String>,
    /// What the automaton looks for.
    patterns: Vec<Pattern>,
    literals: Option<Literals>,
}

/// Bytes of a phrase up to which it is found in disguise as a whole word only.
const SHORT_MAX: usize = 5;

/// A form of a phrase.
#[derive(Debug)]
struct Pattern {
    phrase: usize,
    /// Without its spaces: counts only where letters that stood apart were joined.
    joined: bool,
    /// Whether it is found under marks.
    marked: bool,
    first: char,
    last: char,
}

/// What a scanner knows of one text.
#[derive(Debug, Clone)]
pub struct State {
    /// Through the folded text.
    walk: Option<Walk>,
    /// Through the folded text without marks, where that differs.
    bare: Option<Walk>,
    /// Occurrences at the end of the text so far that wait for the next character.
    waiting: Vec<(Hit, bool)>,
    /// Which phrases are there, and the findings, until all are.
    present: Vec<bool>,
    kept: Vec<Finding>,
    count: usize,
    empty_seen: bool,
    finished: bool,
    /// Whether phrases count as whole words only, whatever the settings.
    whole: bool,
}

impl BanSubstrings {
    /// A scanner of these settings; `output` decides between the stock lists.
    #[must_use]
    pub fn new(settings: &config::BanSubstrings, output: bool) -> Self {
        let stock: &[&str] = if output { &stock::OUTPUT } else { &stock::INPUT };
        let phrases =
            settings.substrings.clone().unwrap_or_else(|| stock.iter().map(ToString::to_string).collect());
        let level = match settings.normalize {
            Normalize::None if settings.case_sensitive => Level::Raw,
            Normalize::None => Level::Lower,
            Normalize::Unicode => Level::Unicode,
            Normalize::Strict => Level::Strict,
        };
        let (mut texts, mut patterns) = (Vec::new(), Vec::new());
        for (phrase, text) in phrases.iter().enumerate() {
            for (form, joined) in forms(text, level) {
                let (Some(first), Some(last)) = (form.chars().next(), form.chars().next_back()) else {
                    continue;
                };
                let marked = level == Level::Strict && !joined && form.is_ascii() && form.len() >= MARKED_MIN;
                patterns.push(Pattern { phrase, joined, marked, first, last });
                texts.push(form);
            }
        }
        let words = settings.match_type == PhraseMatch::Word;
        let joined = |index: usize| patterns.get(index).is_some_and(|pattern: &Pattern| pattern.joined);
        let literals = Literals::with_dormant(&texts, &joined);
        Self { level, words, contains_all: settings.contains_all, phrases, patterns, literals }
    }

    /// How the text must be folded.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// At the start of a text.
    #[must_use]
    pub fn start(&self) -> State {
        State {
            walk: self.literals.as_ref().map(Literals::start),
            bare: None,
            waiting: Vec::new(),
            present: if self.contains_all { vec![false; self.phrases.len()] } else { Vec::new() },
            kept: Vec::new(),
            count: 0,
            empty_seen: false,
            finished: false,
            whole: false,
        }
    }

    /// Reads what is new in `folded`.
    pub fn push(&self, state: &mut State, folded: &Folded, found: &mut Found) {
        let at = state.walk.map_or(0, |walk| walk.at());
        let new = folded.tail(at);
        if new.is_empty() {
            return;
        }
        if !state.empty_seen && (!self.words || new.chars().any(|ch| self.is_word(ch))) {
            self.report_empty(state, found);
        }
        for (hit, marked) in std::mem::take(&mut state.waiting) {
            self.take(state, hit, marked, folded, found);
        }
        let (Some(literals), Some(mut walk)) = (&self.literals, state.walk) else { return };
        if self.level == Level::Strict && (state.bare.is_some() || may_have_marks(new)) {
            self.push_marked(literals, state, folded, found);
            return;
        }
        let joined = folded.is_joined_from(at);
        literals.walk_for(&mut walk, new, joined, &mut |hit| self.take(state, hit, false, folded, found));
        state.walk = Some(walk);
    }

    /// The text is over; `folded` is, too.
    pub fn finish(&self, state: &mut State, folded: &Folded, found: &mut Found) {
        self.push(state, folded, found);
        state.finished = true;
        if !self.words && !state.empty_seen {
            self.report_empty(state, found);
        }
        for (hit, marked) in std::mem::take(&mut state.waiting) {
            self.take(state, hit, marked, folded, found);
        }
        if self.contains_all && state.present.iter().all(|present| *present) {
            state.kept.drain(..).for_each(|finding| found.add(finding));
        }
    }

    /// Bytes of the original that no finding to come touches.
    #[must_use]
    pub fn settled(&self, state: &State, folded: &Folded) -> usize {
        if self.contains_all && !state.finished { 0 } else { folded.original(self.open_from(state, folded)) }
    }

    /// The offset of the folded text before which the scanner needs nothing any more.
    #[must_use]
    pub fn needs(&self, state: &State, folded: &Folded) -> usize {
        let from = self.open_from(state, folded);
        from - folded.head(from).chars().next_back().map_or(0, char::len_utf8)
    }

    /// Looks into what is encoded in the whole `text`: under `strict` only.
    pub fn scan_decoded(&self, text: &str, found: &mut Found) {
        if self.level != Level::Strict {
            return;
        }
        decode::decoded(text, &mut |decoded| {
            let plain = self.phrases_in(text.get(decoded.span.clone()).unwrap_or_default(), false);
            // Text that only may be turned round holds short phrases by chance.
            let whole = matches!(decoded.kind, Encoding::Rot13 | Encoding::Reversed);
            for phrase in
                self.phrases_in(&decoded.text, whole).into_iter().filter(|phrase| !plain.contains(phrase))
            {
                found.add(self.finding(phrase, decoded.span.clone()));
            }
        });
    }

    /// The phrases found in a whole text, by index.
    fn phrases_in(&self, text: &str, whole: bool) -> Vec<usize> {
        let (mut folder, mut folded, mut found) =
            (Folder::new(self.level), Folded::default(), Found::default());
        let mut state = State { whole, ..self.start() };
        folder.push(text, &mut folded);
        folder.finish(&mut folded);
        self.finish(&mut state, &folded, &mut found);
        let rules = found.findings.iter().map(|finding| &finding.rule);
        let number = |rule: &str| rule.rsplit('-').next().and_then(|number| number.parse().ok());
        let mut phrases: Vec<usize> = rules.filter_map(|rule| number(rule)).collect();
        phrases.sort_unstable();
        phrases.dedup();
        phrases
    }

    /// Walks character by character, with and without marks.
    fn push_marked(&self, literals: &Literals, state: &mut State, folded: &Folded, found: &mut Found) {
        let Some(mut walk) = state.walk else { return };
        for ch in folded.tail(walk.at()).chars() {
            let mut bytes = [0; 4];
            let plain = ch.encode_utf8(&mut bytes);
            let mut bare = state.bare.unwrap_or(walk);
            literals.walk(&mut walk, plain, &mut |hit| self.take(state, hit, false, folded, found));
            let base = lookalike::base_letter(ch);
            if base.is_some() || state.bare.is_some() {
                let end = walk.at();
                let mut letter = [0; 4];
                let read = base.map_or(&*plain, |base| base.encode_utf8(&mut letter));
                literals.walk(&mut bare, read, &mut |hit| self.take_marked(state, hit, end, folded, found));
                state.bare = Some(bare).filter(|bare| !bare.is_like(&walk));
            }
        }
        state.walk = Some(walk);
    }

    /// An occurrence in the text without marks, which ends at `end` of the folded text.
    fn take_marked(&self, state: &mut State, hit: Hit, end: usize, folded: &Folded, found: &mut Found) {
        let length = hit.end - hit.start;
        if self.patterns.get(hit.phrase).is_none_or(|pattern| !pattern.marked) {
            return;
        }
        let start = end - back(folded.head(end), length);
        if end - start > length {
            self.take(state, Hit { start, end, ..hit }, true, folded, found);
        }
    }

    /// Judges an occurrence. What is found under marks or is short and in disguise must be a whole word:
    /// too many honest words hold such letters.
    fn take(&self, state: &mut State, hit: Hit, marked: bool, folded: &Folded, found: &mut Found) {
        let Some(pattern) = self.patterns.get(hit.phrase) else { return };
        let range = hit.start..hit.end;
        if pattern.joined && !folded.is_joined(&range) {
            return;
        }
        let short = hit.end - hit.start <= SHORT_MAX;
        if self.words || state.whole || marked || (short && folded.is_disguised(&range)) {
            if hit.end >= folded.end() && !state.finished {
                state.waiting.push((hit, marked));
                return;
            }
            let before = folded.head(hit.start).chars().next_back();
            let next = folded.tail(hit.end).chars().next();
            let before = before.filter(|ch| !folded.is_sign(hit.start - ch.len_utf8()));
            let next = next.filter(|_| !folded.is_sign(hit.end));
            if !self.is_border(before, pattern.first) || !self.is_border(next, pattern.last) {
                return;
            }
        }
        self.report(state, pattern.phrase, folded.span(range), found);
    }

    fn report(&self, state: &mut State, phrase: usize, span: Range<usize>, found: &mut Found) {
        if let Some(present) = state.present.get_mut(phrase) {
            *present = true;
        }
        if state.count >= FINDINGS_MAX {
            return;
        }
        state.count += 1;
        let finding = self.finding(phrase, span);
        if self.contains_all { state.kept.push(finding) } else { found.add(finding) }
    }

    fn finding(&self, phrase: usize, span: Range<usize>) -> Finding {
        Finding {
            scanner: ScannerName::BanSubstrings,
            rule: format!("phrase-{phrase}").into(),
            span,
            score: 1.0,
            reason: self.phrases.get(phrase).cloned().unwrap_or_default(),
        }
    }

    /// Empty phrases are in every text; between word borders, in every text with a word.
    fn report_empty(&self, state: &mut State, found: &mut Found) {
        state.empty_seen = true;
        for (phrase, _) in self.phrases.iter().enumerate().filter(|(_, text)| text.is_empty()) {
            self.report(state, phrase, 0..0, found);
        }
    }

    /// Whether a phrase whose outermost character is `edge` may stand beside `neighbour`.
    fn is_border(&self, neighbour: Option<char>, edge: char) -> bool {
        let beside = neighbour.is_some_and(|ch| self.is_word(ch));
        if self.is_python() { beside != python::is_word(edge) } else { !(beside && self.is_word(edge)) }
    }

    fn is_word(&self, ch: char) -> bool {
        if self.is_python() { python::is_word(ch) } else { ch.is_alphanumeric() && !is_spaceless(ch) }
    }

    fn is_python(&self) -> bool {
        matches!(self.level, Level::Raw | Level::Lower)
    }

    /// The offset of the folded text from which on findings may still come.
    fn open_from(&self, state: &State, folded: &Folded) -> usize {
        let (Some(literals), Some(walk)) = (&self.literals, &state.walk) else { return folded.end() };
        let at = walk.at();
        if state.finished {
            return at;
        }
        let mut from = at - literals.pending(walk);
        if let Some(bare) = &state.bare {
            from = from.min(at - back(folded.head(at), literals.pending(bare)));
        }
        state.waiting.iter().map(|(hit, _)| hit.start).fold(from, usize::min)
    }
}

/// How `phrase` is looked for in a text folded to `level`, and whether it is joined.
fn forms(phrase: &str, level: Level) -> Vec<(String, bool)> {
    let fold = |level| {
        let (mut folder, mut folded) = (Folder::new(level), Folded::default());
        folder.push(phrase, &mut folded);
        folder.finish(&mut folded);
        folded.tail(0).to_owned()
    };
    let mut forms = vec![(fold(level), false)];
    if level == Level::Strict {
        let plain = fold(Level::Unicode);
        let letters: String = fold(level).split(' ').collect();
        if plain.contains(' ') && letters.chars().all(char::is_alphanumeric) {
            forms.push((letters, true));
        }
        if forms.iter().all(|(form, _)| *form != plain) {
            forms.push((plain, false));
        }
    }
    forms
}

/// Bytes of the last characters of `text` that come to `length` bytes without their marks.
fn back(text: &str, length: usize) -> usize {
    let (mut left, mut bytes) = (length, 0);
    for ch in text.chars().rev() {
        if left == 0 {
            break;
        }
        left = left.saturating_sub(if lookalike::base_letter(ch).is_some() { 1 } else { ch.len_utf8() });
        bytes += ch.len_utf8();
    }
    bytes
}

/// Whether there may be Latin letters with marks in `text`: by the first bytes of their UTF-8 forms.
fn may_have_marks(text: &str) -> bool {
    let mark = |byte: &u8| matches!(byte, 0xc3..=0xc9 | 0xe1);
    !text.is_ascii() && text.bytes().any(|byte| mark(&byte))
}

/// Letters of scripts that put no spaces between words.
fn is_spaceless(ch: char) -> bool {
    matches!(ch,
        '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{2e80}'..='\u{30ff}'
        | '\u{3100}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}')
}
