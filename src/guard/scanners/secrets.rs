//! `Secrets`: credentials in a text.
//!
//! One pass of an automaton finds keywords; only where one stands, more is looked at: a vendor's shape
//! (`rules`), an assignment (`assignment`, judged by `generic`), a form of its own (`forms`).
//! Entropy, checksums and `allow` take back what only looks like a secret. Spans cover the secret
//! itself, every occurrence.
//!
//! What a keyword leads to depends on the text around it and on nothing found before, so that a text
//! scanned in slices gives the findings of the whole. All looks around are bounded: the cost is linear.
//! Nothing in a text switches the scanner off.

mod allow;
mod assignment;
mod forms;
mod generic;
mod invisible;
mod keywords;
mod lexicon;
mod names;
mod proof;
mod rules;
mod shape;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

use sha2::{Digest as _, Sha256};

use self::assignment::{Assignment, Operator};
use self::keywords::{Hit, Keywords};
use self::lexicon::Lexicon;
use self::names::Class;
use self::rules::{Anchor, Check, Rule};
use self::shape::Shapes;
use crate::config::guard::{RedactMode, ScannerName, Secrets as Settings};
use crate::guard::verdict::{FINDINGS_MAX, Finding, Found};

/// Rules that no table holds.
const OWN_RULES: &[&str] = &["generic-password", "generic-api-key"];
/// Bytes before and behind a slice that are looked at for secrets cut by zero-width characters: as far
/// as any rule looks.
const BEFORE: usize = 8 * 1024;
const AROUND: usize = 24 * 1024;

/// The scanner: immutable, shared by all.
#[derive(Debug)]
pub struct Secrets {
    rules: Vec<Rule>,
    shapes: Shapes,
    shape_of: Vec<usize>,
    /// Whether a rule's credentials may have dashes.
    dashed: Vec<bool>,
    keywords: Keywords,
    lexicon: Lexicon,
    disabled: Vec<String>,
    redact_mode: RedactMode,
}

/// A secret before it is told.
type Secret = (&'static str, Range<usize>);

impl Secrets {
    /// Of all rules.
    ///
    /// # Errors
    /// A disabled rule that doesn't exist.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let rules: Vec<Rule> = rules::TABLES.iter().flat_map(|table| table.iter().copied()).collect();
        let mut shapes = Shapes::default();
        let shape_of = rules.iter().map(|rule| shapes.add(rule.shape)).collect();
        let dashed = rules.iter().map(|rule| rule.shape.contains("-]")).collect();
        let keywords = Keywords::new(&rules)?;
        let disabled = settings.disabled_rules.clone();
        let (lexicon, redact_mode) = (Lexicon::new()?, settings.redact_mode);
        let scanner = Self { rules, shapes, shape_of, dashed, keywords, lexicon, disabled, redact_mode };
        match scanner.disabled.iter().find(|id| !scanner.rule_ids().any(|known| known == id.as_str())) {
            Some(unknown) => Err(scanner.hint(unknown)),
            None => Ok(scanner),
        }
    }

    /// Ids of all rules.
    pub fn rule_ids(&self) -> impl Iterator<Item = &'static str> {
        self.rules
            .iter()
            .map(|rule| rule.id)
            .chain(forms::RULES.iter().copied())
            .chain(OWN_RULES.iter().copied())
    }

    fn hint(&self, unknown: &str) -> String {
        let vendor = unknown.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
        let near: Vec<_> =
            self.rule_ids().filter(|id| !vendor.is_empty() && id.starts_with(&vendor)).take(8).collect();
        match near.as_slice() {
            [] => {
                format!("no rule is called {unknown:?}; ids look like \"github-pat\" or \"generic-password\"")
            }
            near => format!("no rule is called {unknown:?}; there are {}", near.join(", ")),
        }
    }

    /// Adds the secrets whose keyword begins in `from..to` of `text`; what surrounds that is looked at
    /// as well.
    ///
    /// The same secret may be told by two slices, and by two rules; a vendor's rule keeps the generic
    /// ones silent.
    pub fn scan(&self, text: &str, from: usize, to: usize, found: &mut Found) {
        let to = to.min(text.len());
        let mut tell = |rule, span: Range<usize>| self.tell(text, rule, span, found);
        self.scan_bytes(text.as_bytes(), from, to, &mut tell);
        let around = text.floor_char_boundary(from.saturating_sub(BEFORE))
            ..text.ceil_char_boundary(to.saturating_add(AROUND));
        if text.get(around.clone()).is_some_and(invisible::has) {
            let stripped = invisible::strip(text, around);
            let slice = stripped.here(from)..stripped.here(to);
            let mut tell = |rule, span: Range<usize>| {
                let last = stripped.original(span.end.saturating_sub(1));
                let original = stripped.original(span.start)..last + 1;
                let known = |known: &Finding| known.span == original && known.rule == rule;
                if !found.findings.iter().any(known) {
                    self.tell(text, rule, original, found);
                }
            };
            self.scan_bytes(stripped.text.as_bytes(), slice.start, slice.end, &mut tell);
        }
    }

    /// What stands in place of `secret`.
    #[must_use]
    pub fn mask(&self, secret: &str) -> String {
        match self.redact_mode {
            RedactMode::All => "******".to_owned(),
            RedactMode::Partial if secret.chars().count() < 8 => "******".to_owned(),
            RedactMode::Partial => {
                let first: String = secret.chars().take(2).collect();
                let last: Vec<char> = secret.chars().rev().take(2).collect();
                first + ".." + &last.iter().rev().collect::<String>()
            }
            RedactMode::Hash => {
                Sha256::digest(secret.as_bytes()).iter().take(16).fold(String::new(), |mut hex, byte| {
                    let _ = write!(hex, "{byte:02x}");
                    hex
                })
            }
        }
    }

    fn tell(&self, text: &str, rule: &'static str, span: Range<usize>, found: &mut Found) {
        if found.findings.len() >= FINDINGS_MAX || self.disabled.iter().any(|id| id == rule) {
            return;
        }
        let span = text.floor_char_boundary(span.start)..text.ceil_char_boundary(span.end);
        let mut known =
            found.findings.iter().rev().take(8).filter(|known| known.scanner == ScannerName::Secrets);
        if known.any(|known| known.span == span && known.rule == rule) {
            return;
        }
        let reason = format!("{rule}: {} bytes", span.len());
        found.add(Finding {
            scanner: ScannerName::Secrets,
            rule: Cow::Borrowed(rule),
            span,
            score: 1.0,
            reason,
        });
    }

    fn scan_bytes(
        &self,
        text: &[u8],
        from: usize,
        to: usize,
        tell: &mut impl FnMut(&'static str, Range<usize>),
    ) {
        let mut judged = usize::MAX;
        self.keywords.each(text, from, to, |hit| {
            for rule in &hit.trigger.tokens {
                if let Some((_, span)) = self.token(*rule, text, &hit)
                    && let Some((id, span)) = self.tokens_in(text, &span)
                {
                    tell(id, span);
                }
            }
            if let Some(form) = hit.trigger.form {
                forms::find(form, text, hit.start..hit.end, &self.lexicon, |id, span| {
                    if id == "private-key" || self.tokens_in(text, &span).is_none() {
                        tell(id, span);
                    }
                });
            }
            if (hit.trigger.class.is_some() || !hit.trigger.values.is_empty())
                && let Some(assignment) = assignment::parse(text, hit.start, hit.end)
                && judged != assignment.value.start
            {
                judged = assignment.value.start;
                if let Some((id, span)) = self.judge(text, &assignment) {
                    tell(id, span);
                }
            }
        });
    }

    /// The credential of rule `index` at `hit`.
    fn token(&self, index: usize, text: &[u8], hit: &Hit<'_>) -> Option<Secret> {
        let rule = self.rules.get(index)?;
        let start = match rule.anchor {
            Anchor::Keyword | Anchor::Value => hit.start,
            Anchor::Before(bytes) => hit.start.checked_sub(bytes)?,
            Anchor::Digits => {
                let head = text.get(hit.start.saturating_sub(16)..hit.start)?;
                hit.start - head.iter().rev().take_while(|byte| byte.is_ascii_digit()).count()
            }
        };
        let bounded = rule.inside || begins(text, start, self.dashed.get(index) == Some(&true));
        if !bounded && rule.check != Check::Crc32 {
            return None;
        }
        let end = self.shapes.end(*self.shape_of.get(index)?, text, start)?;
        let secret = text.get(start..end)?;
        let ends = !text.get(end).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        let cut = end - start == shape::LENGTH_MAX;
        let proved = (bounded && (ends || cut) || rule.check == Check::Crc32 && proof::checksum(secret))
            && proof::entropy(secret) >= rule.entropy
            && !allow::filler(secret)
            && !self.lexicon.recited(secret)
            && proof::passes(rule.check, secret);
        proved.then_some((rule.id, start..end))
    }

    /// The credential of a vendor that overlaps `span`: the longest, and of several the first in the
    /// tables.
    fn tokens_in(&self, text: &[u8], span: &Range<usize>) -> Option<Secret> {
        let mut best: Option<(usize, Secret)> = None;
        self.keywords.each(text, span.start, span.end, |hit| {
            for index in &hit.trigger.tokens {
                let Some((id, found)) = self.token(*index, text, &hit) else { continue };
                let better = best.as_ref().is_none_or(|(known, (_, longest))| {
                    found.len() > longest.len() || found.len() == longest.len() && index < known
                });
                if better && found.start < span.end && found.end > span.start {
                    best = Some((*index, (id, found)));
                }
            }
        });
        best.map(|(_, secret)| secret)
    }

    /// Whether the value of `assignment` is a secret, and of which rule: a vendor's before a generic
    /// one.
    fn judge(&self, text: &[u8], assignment: &Assignment) -> Option<Secret> {
        let value = text.get(assignment.value.clone())?;
        let head =
            text.get(assignment.value.start.saturating_sub(7)..assignment.value.start)?.to_ascii_lowercase();
        if head.ends_with(b"bearer ") || head.ends_with(b"basic ") {
            return None;
        }
        if value.len() < 4 || generic::is_name(value) || self.lexicon.refuses(value, assignment.quoted) {
            return None;
        }
        let span = assignment.name(text);
        let name = text.get(span.clone())?;
        let mut vendor: Option<usize> = None;
        let mut class: Option<(Class, Range<usize>)> = None;
        self.keywords.each(text, span.start, span.end, |hit| {
            if hit.end > span.end {
                return;
            }
            for rule in &hit.trigger.values {
                let fits = vendor.is_none_or(|best| *rule < best) && self.fits(*rule, text, assignment, name);
                vendor = if fits { Some(*rule) } else { vendor };
            }
            if let Some(found) = hit.trigger.class
                && class.as_ref().is_none_or(|(best, _)| found >= *best)
            {
                class = Some((found, hit.start..hit.end));
            }
        });
        if let Some(rule) = vendor.and_then(|index| self.rules.get(index)) {
            return self.alone(text, rule.id, &assignment.value);
        }
        let (class, word) = class?;
        let verb = text.get(word.clone())?.eq_ignore_ascii_case(b"pass");
        if verb && matches!(assignment.operator, Operator::Beside | Operator::Prose) {
            return None;
        }
        let head = text.get(assignment::identifier(text, word.start)..word.start)?;
        let tail = text.get(word.end..span.end)?;
        let tail_end = tail.iter().position(|byte| !assignment::is_word(*byte)).unwrap_or(tail.len());
        let tail = tail.get(..tail_end)?;
        if !names::holds(&self.lexicon, head, text.get(word)?, tail, class)
            || (class < Class::Password && self.lexicon.harmless(name))
        {
            return None;
        }
        let rule = if class == Class::Password { "generic-password" } else { "generic-api-key" };
        let secret = generic::secret(assignment, value, class);
        if secret { self.alone(text, rule, &assignment.value) } else { None }
    }

    /// A secret of `rule`, unless a vendor's shape is in it, which is told by itself.
    fn alone(&self, text: &[u8], rule: &'static str, span: &Range<usize>) -> Option<Secret> {
        self.tokens_in(text, span).is_none().then(|| (rule, span.clone()))
    }

    /// Whether rule `index` takes the value of `assignment`, all of it.
    fn fits(&self, index: usize, text: &[u8], assignment: &Assignment, name: &[u8]) -> bool {
        let (Some(rule), Some(shape)) = (self.rules.get(index), self.shape_of.get(index)) else {
            return false;
        };
        let value = text.get(assignment.value.clone()).unwrap_or_default();
        self.shapes.end(*shape, text, assignment.value.start) == Some(assignment.value.end)
            && value.iter().any(|byte| byte.is_ascii_digit() || *byte == b':')
            && proof::entropy(value) >= rule.entropy
            && proof::passes(rule.check, value)
            && !allow::filler(value)
            && !self.lexicon.harmless(name)
    }
}

/// Whether a credential may begin at `start`: not amid a word, but behind an escape such as `\n` or
/// `%3D`. A dash is part of the word if the credential may have dashes: no byte is looked at for many
/// beginnings.
fn begins(text: &[u8], start: usize, dashed: bool) -> bool {
    let before = |back: usize| start.checked_sub(back).and_then(|at| text.get(at)).copied().unwrap_or(b' ');
    let (last, second, third) = (before(1), before(2), before(3));
    let dash = dashed && last == b'-' && second.is_ascii_alphanumeric();
    !(last.is_ascii_alphanumeric() || last == b'_' || dash)
        || (second == b'\\' && matches!(last, b'n' | b'r' | b't'))
        || (third == b'%' && second.is_ascii_hexdigit() && last.is_ascii_hexdigit())
}
