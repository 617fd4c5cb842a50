//! Which of seven languages a text is in, from its scripts.
//!
//! A histogram of scripts over the first [`LETTERS_MAX`] characters: kana beats Han, the letters of Vietnamese beat
//! plain Latin, and another script than Latin wins above a third of the letters. Ukrainian, Belarusian and Serbian are told from
//! Russian, and Persian and Urdu from Arabic, by letters that the other does not have; like every language that has
//! no messages here they are answered in English. A single word without any mark of its language is English.
//! Cost: about 2 ns a character that is looked at, nothing for ASCII but the check that it is; words are compared only where
//! letters leave it open.

use crate::config::guard::Language;

/// Characters that are looked at.
const LETTERS_MAX: usize = 400;

/// Letters counted by script.
#[derive(Debug, Default, Clone, Copy)]
struct Scripts {
    latin: u32,
    /// Letters that only Vietnamese has.
    vietnamese: u32,
    /// Letters that Vietnamese shares with others: à, ê, õ.
    marked: u32,
    han: u32,
    kana: u32,
    hangul: u32,
    cyrillic: u32,
    /// Cyrillic letters that Russian lacks.
    not_russian: u32,
    /// Cyrillic letters that Ukrainian lacks.
    russian: u32,
    arabic: u32,
    /// Letters of the Arabic script that Arabic lacks.
    not_arabic: u32,
    /// Letters of the Arabic script that Persian hardly has.
    only_arabic: u32,
    other: u32,
}

/// The language of `text`; English where nothing says otherwise.
#[must_use]
pub fn detect(text: &str) -> Language {
    if text.is_ascii() {
        return Language::En;
    }
    let scripts = Scripts::count(text);
    match scripts.decide() {
        Language::En if scripts.marked > 0 && has_words(text, &VIETNAMESE, 4) => Language::Vi,
        Language::Ru if scripts.russian == 0 && has_words(text, &UKRAINIAN, 10) => Language::En,
        Language::Ar if scripts.only_arabic == 0 && has_words(text, &PERSIAN, 10) => Language::En,
        language => language,
    }
}

impl Scripts {
    fn count(text: &str) -> Self {
        let mut scripts = Self::default();
        for c in text.chars().take(LETTERS_MAX) {
            scripts.add(c);
        }
        scripts
    }

    fn add(&mut self, c: char) {
        match c {
            'a'..='z' | 'A'..='Z' => self.latin += 1,
            '\0'..='\u{bf}' | '×' | '÷' => {}
            'Ă' | 'ă' | 'Đ' | 'đ' | 'Ĩ' | 'ĩ' | 'Ũ' | 'ũ' => {
                self.latin += 1;
                self.marked += 1;
            }
            'Ơ' | 'ơ' | 'Ư' | 'ư' | '\u{1ea0}'..='\u{1ef9}' => {
                self.latin += 1;
                self.vietnamese += 1;
            }
            // A dot below, a hook above or a horn, written apart from its letter.
            '\u{309}' | '\u{31b}' | '\u{323}' => self.vietnamese += 1,
            '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}' => {
                self.latin += 1;
                self.marked += u32::from(is_shared_vowel(c));
            }
            '\u{300}' | '\u{301}' | '\u{302}' | '\u{303}' | '\u{306}' => self.marked += 1,
            '\u{400}'..='\u{52f}' => {
                self.cyrillic += 1;
                match c {
                    'і' | 'ї' | 'є' | 'ґ' | 'ў' | 'ђ' | 'ј' | 'љ' | 'њ' | 'ћ' | 'џ' | 'І' | 'Ї' | 'Є'
                    | 'Ґ' | 'Ў' | 'Ђ' | 'Ј' | 'Љ' | 'Њ' | 'Ћ' | 'Џ' => self.not_russian += 1,
                    'ы' | 'э' | 'ъ' | 'ё' | 'Ы' | 'Э' | 'Ъ' | 'Ё' => self.russian += 1,
                    _ => {}
                }
            }
            '\u{600}'..='\u{6ff}'
            | '\u{750}'..='\u{77f}'
            | '\u{fb50}'..='\u{fdff}'
            | '\u{fe70}'..='\u{fefc}' => {
                self.add_arabic(c);
            }
            '\u{3041}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{ff66}'..='\u{ff9f}' => {
                self.kana += u32::from(c != '\u{30fb}' && c != '\u{30fc}'); // a dot and a long vowel are no letters
            }
            '\u{3400}'..='\u{4dbf}'
            | '\u{4e00}'..='\u{9fff}'
            | '\u{f900}'..='\u{faff}'
            | '\u{20000}'..='\u{323af}' => {
                self.han += 1;
            }
            '\u{ac00}'..='\u{d7a3}' | '\u{1100}'..='\u{11ff}' | '\u{3130}'..='\u{318f}' => self.hangul += 1,
            c if c.is_alphabetic() => self.other += 1,
            _ => {}
        }
    }

    fn add_arabic(&mut self, c: char) {
        match c {
            // pe, che, zhe, gaf, the Persian kaf and yeh, and letters of Urdu
            'پ' | 'چ' | 'ژ' | 'گ' | 'ک' | 'ی' | 'ٹ' | 'ڈ' | 'ڑ' | 'ں' | 'ھ' | 'ہ' | 'ے' | 'ۓ' =>
            {
                self.arabic += 1;
                self.not_arabic += 1;
            }
            // hamza on and under alef, which Persian hardly writes
            'أ' | 'إ' | 'ؤ' => {
                self.arabic += 1;
                self.only_arabic += 1;
            }
            c if c.is_alphabetic() => self.arabic += 1,
            _ => {}
        }
    }

    fn decide(self) -> Language {
        let east = self.han + self.kana;
        // One character of these scripts says as much as a word of letters.
        let weights = [
            (3 * east, self.east()),
            (2 * self.hangul, Language::Ko),
            (self.cyrillic, self.slavic()),
            (self.arabic, self.semitic()),
            (self.other, Language::En),
        ];
        let total = self.latin + weights.iter().map(|(weight, _)| weight).sum::<u32>();
        let most = weights.into_iter().max_by_key(|(weight, _)| *weight);
        // Names and terms in Latin letters stand in texts of every language.
        most.filter(|(weight, _)| 3 * weight > total).map_or(self.roman(), |(_, language)| language)
    }

    /// Chinese names have the odd `の`, and Japanese headlines have little kana.
    fn east(self) -> Language {
        if self.kana >= 2 || 4 * self.kana > self.han { Language::Ja } else { Language::Zh }
    }

    fn slavic(self) -> Language {
        if 50 * self.not_russian > self.cyrillic { Language::En } else { Language::Ru }
    }

    fn semitic(self) -> Language {
        if 25 * self.not_arabic > self.arabic { Language::En } else { Language::Ar }
    }

    fn roman(self) -> Language {
        // Other languages of the same letters have a tenth of them (Yoruba's ẹ and ọ aside).
        if self.vietnamese > 0 && 40 * self.vietnamese >= self.latin { Language::Vi } else { Language::En }
    }
}

/// Short sentences may have none of the letters that tell; these words are in most of them, and not in the language
/// next to theirs.
const VIETNAMESE: [&str; 27] = [
    "không", "và", "có", "tôi", "bạn", "gì", "là", "cho", "đi", "đâu", "anh", "em", "xin", "chào", "nhà",
    "làm", "thì", "mà", "này", "sao", "đó", "cái", "thế", "trong", "con", "hà", "cô",
];
const UKRAINIAN: [&str; 22] = [
    "це",
    "що",
    "щоб",
    "якщо",
    "як",
    "та",
    "треба",
    "але",
    "або",
    "чи",
    "де",
    "дуже",
    "ще",
    "вже",
    "вона",
    "воно",
    "був",
    "була",
    "було",
    "бути",
    "ми",
    "й",
];
const PERSIAN: [&str; 16] = [
    "از", "را", "در", "است", "اين", "این", "هاي", "های", "ها", "مي", "می", "كه", "که", "براي", "برای", "شده",
];

/// Words that are compared.
const WORDS_MAX: usize = 40;

/// Whether at least one of `share` words is of `known`.
fn has_words(text: &str, known: &[&str], share: u32) -> bool {
    let (mut hits, mut words) = (0, 0);
    let all = text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
    for word in all.take(WORDS_MAX) {
        words += 1;
        let lower = || word.chars().flat_map(char::to_lowercase);
        hits += u32::from(word.len() <= 16 && known.iter().any(|known| lower().eq(known.chars())));
    }
    hits > 0 && share * hits >= words
}

/// Vowels of Vietnamese that other languages write too.
fn is_shared_vowel(c: char) -> bool {
    matches!(
        c,
        'à'..='ã' | 'è'..='ê' | 'ì' | 'í' | 'ò'..='õ' | 'ù' | 'ú' | 'ý' | 'À'..='Ã' | 'È'..='Ê' | 'Ì' | 'Í' | 'Ò'..='Õ' | 'Ù' | 'Ú' | 'Ý'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_of_another_script_does_not_decide() {
        for (text, language) in [
            ("Hello, how are you?", Language::En),
            ("The word 你好 means hello", Language::En),
            ("你好，请介绍一下 Rust", Language::Zh),
            ("東京の天気を教えてください", Language::Ja),
            ("安全", Language::Zh),
            ("오늘 날씨 어때요?", Language::Ko),
            ("Xin chào thế giới", Language::Vi),
            ("Anh đi đâu?", Language::Vi),
            ("Привет, как дела?", Language::Ru),
            ("Привіт, як справи?", Language::En),
            ("مرحبا كيف حالك", Language::Ar),
            ("سلام، حال شما چطور است؟", Language::En),
            ("C'est là que ça se passe, voilà", Language::En),
            ("Đorđe je došao kući", Language::En),
            ("operation moonlight에 대해 알려 주세요", Language::Ko),
            ("", Language::En),
            ("🙂🙂", Language::En),
        ] {
            assert_eq!(detect(text), language, "{text}");
        }
    }
}
