//! Scripts of letters, and the groups of texts that are calibrated apart.

use crate::config::guard::Language;

/// A script, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// Latin without marks.
    Latin,
    /// Latin with marks that Vietnamese shares with others.
    LatinMarked,
    /// Latin with marks that only Vietnamese has.
    Vietnamese,
    /// Chinese characters.
    Han,
    /// Hiragana and katakana.
    Kana,
    /// Korean syllables.
    Hangul,
    /// Cyrillic.
    Cyrillic,
    /// Arabic.
    Arabic,
    /// Any other.
    Other,
}

/// Groups that have a calibration of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "ISO 639-1 codes")]
pub enum Group {
    Zh,
    Vi,
    Ja,
    Ko,
    Ru,
    Ar,
    En,
    /// Latin script with marks: French, German, Spanish, …
    Latin,
    /// Any other script.
    Other,
}

impl Group {
    /// All of them, in the order of their calibrations.
    pub const ALL: [Self; 9] =
        [Self::Zh, Self::Vi, Self::Ja, Self::Ko, Self::Ru, Self::Ar, Self::En, Self::Latin, Self::Other];

    /// The language whose threshold it has; `None`: the one for all.
    #[must_use]
    pub fn language(self) -> Option<Language> {
        Some(match self {
            Self::Zh => Language::Zh,
            Self::Vi => Language::Vi,
            Self::Ja => Language::Ja,
            Self::Ko => Language::Ko,
            Self::Ru => Language::Ru,
            Self::Ar => Language::Ar,
            Self::En => Language::En,
            Self::Latin | Self::Other => return None,
        })
    }

    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        ["zh", "vi", "ja", "ko", "ru", "ar", "en", "latin", "other"]
            .get(self as usize)
            .copied()
            .unwrap_or("other")
    }
}

/// Whether `c` belongs to a script whose words are not told apart by spaces, or to Hangul.
#[must_use]
pub fn is_ideograph(c: char) -> bool {
    matches!(u32::from(c),
        0x0E00..=0x0EFF | 0x1000..=0x109F | 0x1780..=0x17FF | 0x3040..=0x30FF | 0x3400..=0x4DBF
        | 0x4E00..=0x9FFF | 0xAC00..=0xD7A3 | 0xF900..=0xFAFF | 0x2_0000..=0x3_FFFF)
        && !matches!(c, '・' | '๏')
}

/// The script of a letter.
#[must_use]
pub fn script(c: char) -> Script {
    match u32::from(c) {
        0..=0x7F => Script::Latin,
        0x102 | 0x103 | 0x110 | 0x111 | 0x128 | 0x129 | 0x168 | 0x169 | 0x1A0 | 0x1A1 | 0x1AF | 0x1B0 => {
            Script::Vietnamese
        }
        0x1EA0..=0x1EFF => Script::Vietnamese,
        0x80..=0x36F | 0x1E00..=0x1E9F => Script::LatinMarked,
        0x400..=0x52F => Script::Cyrillic,
        0x600..=0x6FF | 0x750..=0x77F | 0xFB50..=0xFDFF | 0xFE70..=0xFEFF => Script::Arabic,
        0x3040..=0x30FF => Script::Kana,
        0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x2_0000..=0x3_FFFF => Script::Han,
        0xAC00..=0xD7A3 => Script::Hangul,
        _ => Script::Other,
    }
}

/// Letters by script.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scripts([u32; 9]);

impl Scripts {
    /// So many letters more.
    #[inline]
    pub fn count(&mut self, script: Script, letters: u32) {
        if let Some(count) = self.0.get_mut(script as usize) {
            *count += letters;
        }
    }

    /// Adds another count.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum = sum.wrapping_add(more);
        }
    }

    /// What came since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut rest = *self;
        for (count, less) in rest.0.iter_mut().zip(earlier.0) {
            *count = count.wrapping_sub(less);
        }
        rest
    }

    /// The group of a text with these letters: the script that has a third of them, heaviest first.
    #[must_use]
    pub fn group(&self) -> Group {
        let [latin, marked, vietnamese, han, kana, hangul, cyrillic, arabic, other] = self.0;
        let spaced = latin + marked + vietnamese;
        let dense = 2 * (han + kana + hangul);
        let total = spaced + dense + cyrillic + arabic + other;
        let wins = |count: u32| total > 0 && 3 * count >= total;
        if wins(dense) {
            if hangul > han + kana {
                return Group::Ko;
            }
            return if 10 * kana >= han + kana { Group::Ja } else { Group::Zh };
        }
        if wins(cyrillic) {
            return Group::Ru;
        }
        if wins(arabic) {
            return Group::Ar;
        }
        if wins(other) {
            return Group::Other;
        }
        if 20 * vietnamese > spaced {
            return Group::Vi;
        }
        if 50 * (marked + vietnamese) > spaced { Group::Latin } else { Group::En }
    }
}
