//! Letters and figures that look like Latin letters.
//!
//! The tables are after the idea of Unicode Technical Standard 39 (confusables), cut down to what a reader
//! takes for a Latin letter at a glance, and keyed by the lower case form.

use unicode_normalization::char::decompose_canonical;

use super::Item;

/// What a folded character of a word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A Latin letter.
    Latin,
    /// A Latin letter in an odd shape, and the letter it is.
    Odd(char),
    /// A letter of another script, the Latin letter it looks like, and whether it does so in lower case.
    Alike(char, bool),
    /// A letter of another script.
    Foreign,
    /// A figure that may stand for a letter.
    Figure,
    /// Another digit.
    Number,
}

/// What `ch`, folded, is.
pub(super) fn kind(ch: char) -> Kind {
    match ch {
        'a'..='z' => Kind::Latin,
        '0' | '1' | '3' | '4' | '5' | '7' | '@' | '$' | '!' | '|' => Kind::Figure,
        '0'..='9' => Kind::Number,
        _ if ch.is_ascii() => Kind::Figure,
        // Hebrew, Arabic, Thai, kana, Han, Hangul: a short way for most text.
        '\u{5d0}'..='\u{5ea}'
        | '\u{621}'..='\u{64a}'
        | '\u{e01}'..='\u{e4e}'
        | '\u{3041}'..='\u{30fe}'
        | '\u{4e00}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7a3}' => Kind::Foreign,
        _ => {
            if let Some(letter) = odd(ch) {
                Kind::Odd(letter)
            } else if let Some(letter) = alike(ch) {
                Kind::Alike(letter, true)
            } else if let Some(letter) = alike_in_capitals(ch) {
                Kind::Alike(letter, false)
            } else if is_latin(ch) {
                Kind::Latin
            } else if ch.is_numeric() {
                Kind::Number
            } else {
                Kind::Foreign
            }
        }
    }
}

/// The letter that the figure at `index` of `word` stands for.
pub(super) fn letter_of_figure(figure: char, word: &[Item], index: usize) -> Option<char> {
    let at = |index: Option<usize>| index.and_then(|index| word.get(index)).map(|item| item.ch);
    let (before, next) = (at(index.checked_sub(1)), at(index.checked_add(1)));
    match figure {
        '4' | '@' => Some('a'),
        '3' => Some('e'),
        '0' => Some('o'),
        '5' | '$' => Some('s'),
        '7' => Some('t'),
        // One stroke is an i; two are ll, and so is one behind an l at the end of the word.
        '1' if before == Some('1') || next == Some('1') || (before == Some('l') && next.is_none()) => {
            Some('l')
        }
        '1' | '!' => Some('i'),
        '|' => Some('l'),
        _ => None,
    }
}

/// `text` with every Latin letter without its marks ("ígnóré" is "ignore"); everything else stays.
#[must_use]
pub fn strip_marks(text: &str) -> String {
    text.chars().map(|ch| base_letter(ch).unwrap_or(ch)).collect()
}

/// The ASCII letter under the marks of a Latin letter.
#[must_use]
pub fn base_letter(ch: char) -> Option<char> {
    if ch.is_ascii() || !is_latin(ch) {
        return None;
    }
    let mut base = None;
    decompose_canonical(ch, |part| base = base.or(Some(part)));
    base.filter(char::is_ascii_alphabetic).or(match ch {
        'ø' | 'Ø' => Some('o'),
        'đ' | 'ð' => Some('d'),
        'ł' => Some('l'),
        'ħ' => Some('h'),
        'ŧ' => Some('t'),
        'ı' => Some('i'),
        _ => None,
    })
}

fn is_latin(ch: char) -> bool {
    matches!(ch, 'a'..='z' | 'A'..='Z' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{24f}'
        | '\u{1e00}'..='\u{1eff}')
}

/// Small capitals, letters of phonetics, letters in boxes, discs and flags.
fn odd(ch: char) -> Option<char> {
    let boxed = match ch {
        '\u{1f150}'..='\u{1f169}' => Some(0x1f150),
        '\u{1f170}'..='\u{1f189}' => Some(0x1f170),
        '\u{1f1e6}'..='\u{1f1ff}' => Some(0x1f1e6),
        _ => None,
    };
    if let Some(first) = boxed {
        return char::from_u32(u32::from(ch) - first + u32::from('a'));
    }
    Some(match ch {
        'ᴀ' | 'ɑ' | 'ɐ' | 'ꬰ' => 'a',
        'ʙ' | 'ɓ' | 'ƅ' => 'b',
        'ᴄ' | 'ɕ' => 'c',
        'ᴅ' | 'ɖ' | 'ɗ' => 'd',
        'ᴇ' | 'ɘ' | 'ɛ' | 'ⱻ' | 'ꬲ' => 'e',
        'ꜰ' | 'ꬵ' => 'f',
        'ɢ' | 'ɡ' | 'ɠ' | 'ᶃ' => 'g',
        'ʜ' | 'ɦ' | 'ɧ' => 'h',
        'ɪ' | 'ı' | 'ɩ' | 'ɨ' => 'i',
        'ᴊ' | 'ȷ' | 'ʝ' => 'j',
        'ᴋ' => 'k',
        'ʟ' | 'ɫ' | 'ɭ' | 'ɬ' => 'l',
        'ᴍ' | 'ɱ' => 'm',
        'ɴ' | 'ɲ' | 'ɳ' => 'n',
        'ᴏ' | 'ᴑ' => 'o',
        'ᴘ' => 'p',
        'ʠ' | 'ǫ' => 'q',
        'ʀ' | 'ɹ' | 'ɾ' | 'ɽ' => 'r',
        'ꜱ' | 'ʂ' => 's',
        'ᴛ' | 'ʈ' => 't',
        'ᴜ' | 'ʊ' | 'ʉ' => 'u',
        'ᴠ' | 'ʋ' => 'v',
        'ᴡ' | 'ɯ' => 'w',
        'ʏ' | 'ʎ' => 'y',
        'ᴢ' | 'ʐ' | 'ʑ' => 'z',
        _ => return None,
    })
}

/// Letters of other scripts that look Latin in lower case.
fn alike(ch: char) -> Option<char> {
    Some(match ch {
        'а' | 'α' | 'ӑ' | 'ӓ' => 'a',
        'ь' => 'b',
        'с' | 'ϲ' | 'ҫ' => 'c',
        'ԁ' => 'd',
        'е' | 'ё' | 'ҽ' | 'ө' => 'e',
        'ց' => 'g',
        'һ' | 'հ' | 'ի' => 'h',
        'і' | 'ї' | 'ι' | 'ί' | 'ӏ' => 'i',
        'ј' | 'ϳ' => 'j',
        'κ' | 'к' | 'қ' | 'ҝ' => 'k',
        'ո' | 'ռ' | 'η' => 'n',
        'о' | 'ο' | 'ό' | 'օ' | 'σ' | 'ӧ' => 'o',
        'р' | 'ρ' => 'p',
        'ԛ' | 'զ' | 'գ' => 'q',
        'г' => 'r',
        'ѕ' => 's',
        'τ' => 't',
        'υ' | 'ս' | 'μ' => 'u',
        'ν' | 'ѵ' => 'v',
        'ω' | 'ѡ' | 'ԝ' | 'ա' => 'w',
        'х' | 'χ' | 'ҳ' => 'x',
        'у' | 'γ' | 'ү' | 'ý' | 'ӯ' => 'y',
        _ => return None,
    })
}

/// Letters of other scripts that look Latin in upper case only, by their lower case form.
fn alike_in_capitals(ch: char) -> Option<char> {
    // Cherokee: the capitals are the look-alikes, the small letters their folded forms.
    let ch = match ch {
        '\u{ab70}'..='\u{abbf}' => char::from_u32(u32::from(ch) - 0xab70 + 0x13a0).unwrap_or(ch),
        '\u{13f8}'..='\u{13fd}' => char::from_u32(u32::from(ch) - 8).unwrap_or(ch),
        _ => ch,
    };
    Some(match ch {
        'в' | 'β' | 'Ᏼ' | 'Ᏸ' => 'b',
        'Ꮯ' => 'c',
        'Ꭰ' => 'd',
        'ε' | 'Ꭼ' => 'e',
        'Ꮐ' | 'Ᏻ' => 'g',
        'н' | 'Ꮋ' | 'Ꮒ' => 'h',
        'Ꭵ' => 'i',
        'Ꭻ' => 'j',
        'Ꮶ' => 'k',
        'լ' | 'Ꮮ' => 'l',
        'м' | 'Ꮇ' => 'm',
        'п' => 'n',
        'Ꮎ' => 'o',
        'Ꮲ' => 'p',
        'Ꭱ' | 'Ꮢ' => 'r',
        'Ꮪ' | 'Ꮥ' => 's',
        'т' | 'Ꭲ' => 't',
        'Ꮩ' | 'Ꮙ' => 'v',
        'Ꮃ' | 'Ꮤ' => 'w',
        'Ꭹ' | 'Ꮍ' => 'y',
        'ζ' | 'Ꮓ' => 'z',
        _ => return None,
    })
}
