//! The scanners of one direction, and one text on its way through them.
//!
//! Every scanner reads the original text, never what another one made of it; redactions are applied once, at the end.
//! All of them take a text in pieces, so a stream and a whole text are the same thing, long texts are read in
//! slices, and where the cuts are changes nothing. A scanner that panics is a failure of that scanner alone.
//! Two foldings feed them: the strict one for the classifiers, and the one that BanSubstrings is set to.
//! What a request encodes is read decoded: classifiers see blanks in its place, because what an encoding looks like is no
//! evidence, and the decoded text beside it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::linear::{self, Classifiers, Head};
use super::scanners::ban_substrings::{self, BanSubstrings};
use super::scanners::malicious_urls::{self, MaliciousUrls};
use super::scanners::no_code::{self, NoCode};
use super::scanners::secrets::Secrets;
use super::scanners::token_limit::{self, TokenLimit};
use super::text::decode::{self, Decoded, Encoding};
use super::text::{Folded, Folder, Level};
use super::verdict::{Finding, Found};
use crate::config::guard::{Action, OnError, Scanner, ScannerName, Settings, StreamMode};

/// Scanners there are.
pub const SCANNERS: usize = ScannerName::ALL.len();
/// What stands in place of a phrase.
const REDACTED: &str = "[REDACTED]";

/// What becomes of a scanner's findings and failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Of a finding.
    pub action: Action,
    /// Of a failure.
    pub on_error: OnError,
    /// Whether a stream waits for it.
    pub holds: bool,
}

/// The scanners of a direction.
pub struct Chain {
    policies: [Option<Policy>; SCANNERS],
    ban: Option<BanSubstrings>,
    classifiers: Option<Classifiers>,
    secrets: Option<Secrets>,
    tokens: Option<TokenLimit>,
    urls: Option<MaliciousUrls>,
    code: Option<NoCode>,
    /// The first classifier that is on: the pass they share counts for it.
    first: ScannerName,
    /// Whether a stream waits for one of them.
    classifiers_hold: bool,
    now_ns: fn() -> u64,
}

/// One text on its way.
pub struct Reading {
    bytes: usize,
    ban: Option<(ban_substrings::State, Box<Fold>)>,
    classify: Option<(linear::State, Box<Fold>)>,
    urls: Option<malicious_urls::State>,
    code: Option<no_code::State>,
    /// What was found so far.
    pub found: Found,
    /// Scanners that failed on this text.
    pub failed: [bool; SCANNERS],
    /// Nanoseconds that each scanner took; the pass that classifiers share counts for the first of them.
    pub spent_ns: [u64; SCANNERS],
    pushes: u32,
    /// Text that the classifiers have not seen: they judge sentences, so they are given more than a word at a time.
    waiting: String,
    /// A sentence may have ended: the next character shows it.
    ended: bool,
}

struct Fold {
    folder: Folder,
    folded: Folded,
}

impl Fold {
    fn new(level: Level) -> Box<Self> {
        Box::new(Self { folder: Folder::new(level), folded: Folded::default() })
    }
}

/// Bytes that are searched for secrets at once: the search looks around itself, so small slices cost more.
const SECRETS_STEP: usize = 16 * 1024;
/// A text that is read at once is timed at every piece, one that comes in small pieces at every so many.
const TIMED_EVERY: u32 = 16;
const LARGE: usize = 512;
/// Pieces after which folded text is dropped.
const FORGET_EVERY: u32 = 16;
/// Bytes that are worth a call of the classifiers.
const ENOUGH: usize = 64;

impl Chain {
    /// Builds what `scanners` ask for; `now_ns` is a monotonic clock.
    ///
    /// # Errors
    /// The name of a scanner, and what is wrong with its settings.
    pub fn new(
        scanners: &[Scanner],
        output: bool,
        now_ns: fn() -> u64,
    ) -> Result<Self, (ScannerName, String)> {
        let mut chain = Self {
            policies: [None; SCANNERS],
            ban: None,
            classifiers: None,
            secrets: None,
            tokens: None,
            urls: None,
            code: None,
            first: ScannerName::PromptInjection,
            classifiers_hold: false,
            now_ns,
        };
        let (mut injection, mut toxicity, mut refusal) = (None, None, None);
        for scanner in scanners {
            let name = scanner.settings.name();
            let wrong = |message: String| (name, message);
            chain.policies[name as usize] = Some(Policy {
                action: scanner.action,
                on_error: scanner.on_error,
                holds: scanner.stream == StreamMode::HoldBack && scanner.action != Action::Monitor,
            });
            match &scanner.settings {
                Settings::BanSubstrings(own) => chain.ban = Some(BanSubstrings::new(own, output)),
                Settings::PromptInjection(own) => injection = Some(own),
                Settings::Toxicity(own) => toxicity = Some(own),
                Settings::NoRefusal(own) => refusal = Some(own),
                Settings::Secrets(own) => chain.secrets = Some(Secrets::new(own).map_err(wrong)?),
                Settings::TokenLimit(own) => chain.tokens = Some(TokenLimit::new(own).map_err(wrong)?),
                Settings::MaliciousUrls(own) => chain.urls = Some(MaliciousUrls::new(own).map_err(wrong)?),
                Settings::NoCode(own) => chain.code = Some(NoCode::new(own).map_err(wrong)?),
            }
        }
        if injection.is_some() || toxicity.is_some() || refusal.is_some() {
            let classifiers = Classifiers::new(injection, toxicity, refusal);
            chain.classifiers =
                Some(classifiers.map_err(|error| (ScannerName::PromptInjection, error.to_string()))?);
        }
        let on = |head: &Head| chain.policy(head.scanner()).is_some();
        chain.first = Head::ALL.into_iter().find(on).map_or(chain.first, Head::scanner);
        let holds = |head: Head| chain.policy(head.scanner()).is_some_and(|policy| policy.holds);
        chain.classifiers_hold = Head::ALL.into_iter().any(holds);
        // Tables are made at their first use: better now than on a request's way.
        if let Some(classifiers) = &chain.classifiers {
            let _ = classifiers.score("Tables are made now.");
        }
        Folder::new(Level::Strict).push("", &mut Folded::default());
        Ok(chain)
    }

    /// The policy of a scanner that is on.
    #[must_use]
    pub fn policy(&self, name: ScannerName) -> Option<Policy> {
        self.policies.get(name as usize).copied().flatten()
    }

    /// Scanners that are on, in the order of their cost.
    pub fn scanners(&self) -> impl Iterator<Item = ScannerName> + '_ {
        ScannerName::ALL.into_iter().filter(|name| self.policy(*name).is_some())
    }

    /// Whether nothing is on.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.scanners().next().is_none()
    }

    /// Whether a finding may have its text replaced.
    #[must_use]
    pub fn redacts(&self) -> bool {
        self.policies.iter().flatten().any(|policy| policy.action == Action::Redact)
    }

    /// Whether a failure of `name` ends the exchange: one that only monitors never does.
    #[must_use]
    pub fn failure_blocks(&self, name: ScannerName) -> bool {
        self.policy(name)
            .is_some_and(|policy| policy.on_error == OnError::Block && policy.action != Action::Monitor)
    }

    /// Counts about `bytes` more of `text`; `true`: all of it is counted. `None`: the scanner failed.
    pub fn count(
        &self,
        state: &mut token_limit::State,
        text: &str,
        bytes: usize,
        found: &mut Found,
    ) -> Option<bool> {
        let tokens = self.tokens.as_ref()?;
        let mut failed = [false; SCANNERS];
        caught(&mut failed, ScannerName::TokenLimit, || tokens.count(state, text, bytes, found))
    }

    /// The scanner that counts tokens.
    #[must_use]
    pub fn tokens(&self) -> Option<&TokenLimit> {
        self.tokens.as_ref()
    }

    /// What findings of `name` in `found` lead to. Where there may be more than are kept, masking those is not enough.
    #[must_use]
    pub fn action(&self, name: ScannerName, found: &Found) -> Action {
        match self.policy(name).map(|policy| policy.action) {
            Some(Action::Redact) if found.is_full(name) => Action::Block,
            Some(action) => action,
            None => Action::Monitor,
        }
    }

    /// What stands in place of a finding's `text`.
    #[must_use]
    pub fn replacement(&self, finding: &Finding, text: &str) -> String {
        match (finding.scanner, &self.secrets) {
            (ScannerName::Secrets, Some(secrets)) => secrets.mask(text),
            _ => REDACTED.to_owned(),
        }
    }

    /// At the start of a text.
    #[must_use]
    pub fn start(&self) -> Reading {
        Reading {
            bytes: 0,
            ban: self.ban.as_ref().map(|ban| (ban.start(), Fold::new(ban.level()))),
            classify: self
                .classifiers
                .as_ref()
                .map(|classifiers| (classifiers.start(), Fold::new(Level::Strict))),
            urls: self.urls.as_ref().map(MaliciousUrls::start),
            code: self.code.as_ref().map(NoCode::start),
            found: Found::default(),
            failed: [false; SCANNERS],
            spent_ns: [0; SCANNERS],
            pushes: 0,
            waiting: String::new(),
            ended: false,
        }
    }

    /// Takes the next piece of a text.
    pub fn push(&self, reading: &mut Reading, piece: &str) {
        self.push_both(reading, piece, piece);
    }

    /// Takes the next piece of a text; `plain` is what classifiers see of it, byte for byte in its place.
    fn push_both(&self, reading: &mut Reading, piece: &str, plain: &str) {
        let mut meter = reading.meter(piece.len(), self.now_ns);
        reading.bytes += piece.len();
        self.push_classifiers(reading, plain, &mut meter);
        let Reading { found, failed, spent_ns, .. } = reading;
        if let (Some(ban), Some((state, fold))) = (&self.ban, &mut reading.ban) {
            caught(failed, ScannerName::BanSubstrings, || {
                fold.folder.push(piece, &mut fold.folded);
                ban.push(state, &fold.folded, found);
            });
            meter.lap(spent_ns, ScannerName::BanSubstrings);
        }
        if let (Some(urls), Some(state)) = (&self.urls, &mut reading.urls) {
            caught(failed, ScannerName::MaliciousUrls, || urls.push(state, piece, found));
            meter.lap(spent_ns, ScannerName::MaliciousUrls);
        }
        if let (Some(code), Some(state)) = (&self.code, &mut reading.code) {
            caught(failed, ScannerName::NoCode, || code.push(state, piece, found));
            meter.lap(spent_ns, ScannerName::NoCode);
        }
        if reading.pushes.is_multiple_of(FORGET_EVERY) || piece.len() >= LARGE {
            self.forget(reading);
        }
    }

    fn push_classifiers(&self, reading: &mut Reading, piece: &str, meter: &mut Meter) {
        let (Some(classifiers), Some((state, fold))) = (&self.classifiers, &mut reading.classify) else {
            return;
        };
        if classifiers.is_done(state) {
            return;
        }
        // Where a text is cut changes nothing, so it may wait for a sentence to end, or for a few words.
        reading.waiting.push_str(piece);
        let ended =
            std::mem::replace(&mut reading.ended, piece.len() < ENOUGH && piece.chars().any(ends_sentence));
        if reading.waiting.len() < ENOUGH && !ended && !reading.ended {
            return;
        }
        let (found, waiting) = (&mut reading.found, &mut reading.waiting);
        caught(&mut reading.failed, self.first, || {
            fold.folder.push(waiting, &mut fold.folded);
            classifiers.push(state, &fold.folded, found);
        });
        waiting.clear();
        meter.lap(&mut reading.spent_ns, self.first);
    }

    /// The text is over.
    pub fn finish(&self, reading: &mut Reading) {
        let mut meter = reading.meter(LARGE, self.now_ns);
        let Reading { found, failed, spent_ns, waiting, .. } = reading;
        if let (Some(ban), Some((state, fold))) = (&self.ban, &mut reading.ban) {
            caught(failed, ScannerName::BanSubstrings, || {
                fold.folder.finish(&mut fold.folded);
                ban.finish(state, &fold.folded, found);
            });
            meter.lap(spent_ns, ScannerName::BanSubstrings);
        }
        if let (Some(classifiers), Some((state, fold))) = (&self.classifiers, &mut reading.classify) {
            caught(failed, self.first, || {
                fold.folder.push(waiting, &mut fold.folded);
                fold.folder.finish(&mut fold.folded);
                classifiers.finish(state, &fold.folded, found);
            });
            waiting.clear();
            meter.lap(spent_ns, self.first);
        }
        if let (Some(urls), Some(state)) = (&self.urls, &mut reading.urls) {
            caught(failed, ScannerName::MaliciousUrls, || urls.finish(state, found));
            meter.lap(spent_ns, ScannerName::MaliciousUrls);
        }
        if let (Some(code), Some(state)) = (&self.code, &mut reading.code) {
            caught(failed, ScannerName::NoCode, || code.finish(state, found));
            meter.lap(spent_ns, ScannerName::NoCode);
        }
    }

    /// Bytes from the start of the text that no finding of a scanner that holds streams back can touch any more.
    #[must_use]
    pub fn settled(&self, reading: &Reading) -> usize {
        let holds = |name: ScannerName| {
            self.policy(name).is_some_and(|policy| policy.holds)
                && !reading.failed.get(name as usize).copied().unwrap_or(false)
        };
        let mut settled = reading.bytes;
        if let (Some(ban), Some((state, fold))) = (&self.ban, &reading.ban)
            && holds(ScannerName::BanSubstrings)
        {
            settled = settled.min(ban.settled(state, &fold.folded));
        }
        if let (Some(classifiers), Some((state, fold))) = (&self.classifiers, &reading.classify)
            && self.classifiers_hold
            && !reading.failed.get(self.first as usize).copied().unwrap_or(false)
            && !classifiers.is_done(state)
        {
            settled = settled.min(classifiers.settled(state, &fold.folded));
        }
        if let (Some(urls), Some(state)) = (&self.urls, &reading.urls)
            && holds(ScannerName::MaliciousUrls)
        {
            settled = settled.min(urls.settled(state));
        }
        if let (Some(code), Some(state)) = (&self.code, &reading.code)
            && holds(ScannerName::NoCode)
        {
            settled = settled.min(code.settled(state));
        }
        settled
    }

    /// Drops folded text that no scanner looks back at.
    fn forget(&self, reading: &mut Reading) {
        if let (Some(ban), Some((state, fold))) = (&self.ban, &mut reading.ban) {
            fold.folded.forget(ban.needs(state, &fold.folded));
        }
        if let (Some(classifiers), Some((state, fold))) = (&self.classifiers, &mut reading.classify) {
            fold.folded.forget(classifiers.needs(state, &fold.folded));
        }
    }

    /// Reads text that a request spells in another form, and finds in it as if it stood at `decoded.span`.
    fn read_decoded(&self, reading: &mut Reading, decoded: &Decoded) {
        let Some(classifiers) = &self.classifiers else { return };
        let mut meter = reading.meter(LARGE, self.now_ns);
        let mut fold = Fold::new(Level::Strict);
        let (mut state, mut found, first) = (classifiers.start(), Found::default(), self.first);
        let best = caught(&mut reading.failed, first, || {
            fold.folder.push(&decoded.text, &mut fold.folded);
            fold.folder.finish(&mut fold.folded);
            classifiers.finish(&mut state, &fold.folded, &mut found);
            classifiers.best(&state)
        });
        if let (Some(best), Some((state, _))) = (best, &mut reading.classify) {
            state.raise(best);
        }
        for finding in found.findings {
            reading.found.add(Finding { span: decoded.span.clone(), ..finding });
        }
        meter.lap(&mut reading.spent_ns, first);
    }

    fn scan_secrets(&self, reading: &mut Reading, text: &str, from: usize, to: usize) {
        let Some(secrets) = &self.secrets else { return };
        let mut meter = reading.meter(LARGE, self.now_ns);
        let found = &mut reading.found;
        caught(&mut reading.failed, ScannerName::Secrets, || secrets.scan(text, from, to, found));
        meter.lap(&mut reading.spent_ns, ScannerName::Secrets);
    }

    /// The scanners that share a failure with `name`.
    #[must_use]
    pub fn has_failed(&self, reading: &Reading, name: ScannerName) -> bool {
        let shared = Head::ALL.into_iter().any(|head| head.scanner() == name);
        let charged = if shared { self.first } else { name };
        reading.failed.get(charged as usize).copied().unwrap_or(false)
    }

    /// The highest score of a scanner on a text, 0 to 1; of rules 1 or 0.
    #[must_use]
    pub fn score(&self, reading: &Reading, name: ScannerName) -> f32 {
        let best = match (name, &self.classifiers, &reading.classify) {
            (ScannerName::NoCode, ..) => {
                self.code.as_ref().zip(reading.code.as_ref()).map(|(code, state)| code.best(state))
            }
            (_, Some(classifiers), Some((state, _))) => {
                let best = classifiers.best(state);
                let head = Head::ALL.into_iter().find(|head| head.scanner() == name);
                head.and_then(|head| best.get(head as usize).copied())
            }
            _ => None,
        };
        let found = reading.found.findings.iter().filter(|finding| finding.scanner == name);
        let found = found.map(|finding| finding.score).fold(0.0, f32::max);
        best.unwrap_or(0.0).max(found)
    }
}

/// Whether a sentence may end at `c`: then what waits for it must be judged.
fn ends_sentence(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | '\n' | ';' | ':') || c >= '\u{3000}' || matches!(c, '؟' | '۔' | '…' | '।')
}

/// Runs a scanner unless it has failed; a panic is its failure.
fn caught<T>(failed: &mut [bool; SCANNERS], name: ScannerName, scan: impl FnOnce() -> T) -> Option<T> {
    let failed = failed.get_mut(name as usize).filter(|failed| !**failed)?;
    let result = catch_unwind(AssertUnwindSafe(scan));
    *failed = result.is_err();
    result.ok()
}

/// Measures scanners one after the other.
struct Meter {
    now_ns: fn() -> u64,
    last_ns: u64,
    /// How many pushes this one stands for; 0: not measured.
    weight: u64,
}

impl Reading {
    fn meter(&mut self, bytes: usize, now_ns: fn() -> u64) -> Meter {
        let weight = if bytes >= LARGE {
            1
        } else if self.pushes.is_multiple_of(TIMED_EVERY) {
            u64::from(TIMED_EVERY)
        } else {
            0
        };
        self.pushes = self.pushes.wrapping_add(1);
        Meter { now_ns, last_ns: if weight > 0 { now_ns() } else { 0 }, weight }
    }
}

impl Meter {
    fn lap(&mut self, spent_ns: &mut [u64; SCANNERS], name: ScannerName) {
        if self.weight == 0 {
            return;
        }
        let now_ns = (self.now_ns)();
        if let Some(spent) = spent_ns.get_mut(name as usize) {
            *spent += now_ns.saturating_sub(self.last_ns) * self.weight;
        }
        self.last_ns = now_ns;
    }
}

/// A whole text that is read in slices, with everything that can be asked of a whole text.
pub struct Inspection {
    /// What was found so far.
    pub reading: Reading,
    at: usize,
    /// How far secrets are looked for.
    scanned: usize,
    begun: bool,
    over: bool,
    /// Decoded runs that are still to be read.
    decoded: Vec<Decoded>,
    /// The text with blanks for what is encoded, if anything is.
    plain: Option<String>,
}

impl Chain {
    /// At the start of a whole text.
    #[must_use]
    pub fn inspect(&self) -> Inspection {
        Inspection {
            reading: self.start(),
            at: 0,
            scanned: 0,
            begun: false,
            over: false,
            decoded: Vec::new(),
            plain: None,
        }
    }

    /// Reads about `bytes` more of `text`; `true`: all is read.
    pub fn step(&self, inspection: &mut Inspection, text: &str, bytes: usize) -> bool {
        if !std::mem::replace(&mut inspection.begun, true) {
            self.decode(inspection, text);
        }
        let Inspection { reading, at, scanned, over, decoded, plain, .. } = inspection;
        if *at < text.len() {
            let end = text.floor_char_boundary(at.saturating_add(bytes.max(4)));
            let piece = text.get(*at..end).unwrap_or_default();
            let plain = plain.as_ref().and_then(|plain| plain.get(*at..end)).unwrap_or(piece);
            self.push_both(reading, piece, plain);
            *at = end;
            if end - *scanned >= SECRETS_STEP || end == text.len() {
                self.scan_secrets(reading, text, *scanned, end);
                *scanned = end;
            }
            return false;
        }
        if !std::mem::replace(over, true) {
            self.finish(reading);
            if let Some(ban) = &self.ban {
                let (found, failed) = (&mut reading.found, &mut reading.failed);
                caught(failed, ScannerName::BanSubstrings, || ban.scan_decoded(text, found));
            }
            return decoded.is_empty();
        }
        if let Some(run) = decoded.pop() {
            self.read_decoded(reading, &run);
        }
        decoded.is_empty()
    }

    /// Finds what is encoded. Only what stands decoded beside the text is blanked out of it: a text that merely names
    /// rot13, or is read backwards, is still read as it is.
    fn decode(&self, inspection: &mut Inspection, text: &str) {
        if self.classifiers.is_none() {
            return;
        }
        let Inspection { reading, decoded, plain, .. } = inspection;
        caught(&mut reading.failed, self.first, || decode::decoded(text, &mut |run| decoded.push(run)));
        let mut bytes: Option<Vec<u8>> = None;
        for run in decoded.iter().filter(|run| !matches!(run.kind, Encoding::Rot13 | Encoding::Reversed)) {
            let bytes = bytes.get_or_insert_with(|| text.as_bytes().to_vec());
            if let Some(span) = bytes.get_mut(run.span.clone()) {
                span.fill(b' ');
            }
        }
        *plain = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    }
}

#[cfg(test)]
mod tests;
