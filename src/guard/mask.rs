//! Masks what bodies in the log must not show: secrets, e-mail addresses, phone numbers and card numbers.
//!
//! Secrets are those of the Secrets scanner, all rules. The rest are patterns: addresses after the WHATWG's rule for
//! `<input type=email>`; phone numbers in international form, or with separators between groups as people write them; card numbers
//! by their length and the check digit of ISO/IEC 7812 (Luhn). What is found is replaced whole by a word for its kind.
//! A text that might hold more secrets than are kept is not shown at all: nothing leaves that was not looked at.
//!
//! Cost: linear, about that of the Secrets scanner. Memory: its tables, once a configuration.

use std::ops::Range;

use regex_automata::meta::Regex;

use super::scanners::secrets::Secrets;
use super::verdict::Found;
use super::window::merge;
use crate::config::guard::{self, RedactMode, ScannerName};

/// What stands for each kind.
const SECRET: &str = "[SECRET]";
const EMAIL: &str = "[EMAIL]";
const PHONE: &str = "[PHONE]";
const CARD: &str = "[CARD]";
/// What stands for a text that cannot be masked surely.
const WITHHELD: &str = "[NOT SHOWN: too many secrets]";

/// Digits of a phone number (E.164 allows 15), and of a card.
const PHONE_DIGITS: Range<usize> = 8..16;
const CARD_DIGITS: Range<usize> = 12..20;

/// Finds and replaces. Immutable; shared by all shards.
pub struct Masker {
    secrets: Secrets,
    email: Regex,
    digits: Regex,
}

impl Masker {
    /// With all rules.
    ///
    /// # Errors
    /// A pattern cannot be built; never happens with those above.
    pub fn new() -> Result<Self, String> {
        let settings = guard::Secrets { redact_mode: RedactMode::All, disabled_rules: Vec::new() };
        let regex = |pattern: &str| Regex::new(pattern).map_err(|error| error.to_string());
        Ok(Self {
            secrets: Secrets::new(&settings)?,
            email: regex(
                r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)+",
            )?,
            digits: regex(r"\+?\(?[0-9](?:[ \t./()-]{0,2}[0-9]){6,22}")?,
        })
    }

    /// `text` with everything of the kinds above replaced; `None`: there is nothing.
    #[must_use]
    pub fn mask(&self, text: &str) -> Option<String> {
        let mut found = Found::default();
        self.secrets.scan(text, 0, text.len(), &mut found);
        if found.is_full(ScannerName::Secrets) {
            return Some(WITHHELD.to_owned());
        }
        let secrets = found.findings.iter().map(|finding| (finding.span.clone(), SECRET.to_owned()));
        let mut spans: Vec<(Range<usize>, String)> = secrets.collect();
        spans.extend(self.email.find_iter(text).map(|found| (found.range(), EMAIL.to_owned())));
        for found in self.digits.find_iter(text) {
            spans.extend(number(text, found.range()).map(|kind| (found.range(), kind.to_owned())));
        }
        if spans.is_empty() {
            return None;
        }
        merge(&mut spans);
        let (mut out, mut at) = (String::with_capacity(text.len()), 0);
        for (span, word) in spans {
            out.push_str(text.get(at..span.start).unwrap_or_default());
            out.push_str(&word);
            at = span.end;
        }
        out.push_str(text.get(at..).unwrap_or_default());
        Some(out)
    }
}

/// Whether digits with separators are a card's or a phone's number. Digits of a longer word or number are neither.
fn number(text: &str, span: Range<usize>) -> Option<&'static str> {
    let part = text.get(span.clone())?;
    let near = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if near(text.get(..span.start)?.chars().next_back()) || near(text.get(span.end..)?.chars().next()) {
        return None;
    }
    let digits: Vec<u32> = part.chars().filter_map(|c| c.to_digit(10)).collect();
    if CARD_DIGITS.contains(&digits.len()) && luhn(&digits) {
        return Some(CARD);
    }
    let groups = part.split(|c: char| !c.is_ascii_digit()).filter(|group| !group.is_empty());
    let groups: Vec<usize> = groups.map(str::len).collect();
    let written_as_one = part.starts_with('+') || (groups.len() >= 3 && groups.iter().all(|n| *n <= 4));
    let is_date = matches!(groups[..], [4, 2, 2] | [2, 2, 4]) || (part.contains('.') && groups.len() == 4);
    (PHONE_DIGITS.contains(&digits.len()) && written_as_one && !is_date).then_some(PHONE)
}

/// The check digit of ISO/IEC 7812-1, annex B.
fn luhn(digits: &[u32]) -> bool {
    let doubled = |digit: u32| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let places = digits.iter().rev().enumerate();
    let sum: u32 = places.map(|(at, digit)| if at % 2 == 1 { doubled(*digit) } else { *digit }).sum();
    sum.is_multiple_of(10) && digits.iter().any(|digit| *digit != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_masked() {
        let masker = Masker::new().unwrap();
        for (text, want) in [
            ("write to Ann.Lee+x@mail.example.org, please", "write to [EMAIL], please"),
            ("call +49 30 1234567 now", "call [PHONE] now"),
            ("call (555) 010-9999-12", "call [PHONE]"),
            ("555-010-9999", "[PHONE]"),
            ("card 4111 1111 1111 1111.", "card [CARD]."),
            ("5500005555555559", "[CARD]"),
            ("ghp_16C7e42F292c6912E7710c838347Ae178B4a", "[SECRET]"),
            ("a@b.co and c@d.org", "[EMAIL] and [EMAIL]"),
        ] {
            assert_eq!(masker.mask(text).as_deref(), Some(want), "{text}");
        }
    }

    #[test]
    fn ordinary_numbers_stay() {
        let masker = Masker::new().unwrap();
        for text in [
            "on 2026-11-30 at 12:30:15",
            "30.11.2026",
            "192.168.100.200",
            "order 123456789",
            "pi is 3.14159265358979",
            "id 4111111111111112",
            "x4111111111111111",
            "version 1.2.3",
            "meet @ noon",
        ] {
            assert_eq!(masker.mask(text), None, "{text}");
        }
    }

    #[test]
    fn too_many_secrets_withhold_the_text() {
        let masker = Masker::new().unwrap();
        let text = (0..600).map(|n| format!("ghp_16C7e42F292c6912E7710c838347Ae{n:06} ")).collect::<String>();
        assert_eq!(masker.mask(&text).as_deref(), Some(WITHHELD));
    }
}
