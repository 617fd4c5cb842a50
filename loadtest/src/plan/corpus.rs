//! Texts of prompts: a long text for each language, of which a prompt is a part.
//!
//! The sentences of `data/*.txt` (one a line, in our own words, such as no guard objects to) are put one after the
//! other in an order that follows from the seed. A prompt is a run of words in it: one copy, whatever its length.
//! Invariant: no text has a quote, a backslash or a control, so that it stands in JSON as it is, and words are
//! separated by single spaces (scripts without spaces have them between sentences and parts of sentences).

use crate::chance::Chance;

/// Languages that there are texts of.
pub const LANGUAGES: [&str; 7] = ["ar", "en", "ja", "ko", "ru", "vi", "zh"];

const TEXTS: [&str; LANGUAGES.len()] = [
    include_str!("../../data/ar.txt"),
    include_str!("../../data/en.txt"),
    include_str!("../../data/ja.txt"),
    include_str!("../../data/ko.txt"),
    include_str!("../../data/ru.txt"),
    include_str!("../../data/vi.txt"),
    include_str!("../../data/zh.txt"),
];

const HITS: &str = include_str!("../../data/hits.txt");

/// Words of a language's text beyond the longest prompt: places where a prompt may begin.
const WORDS: usize = 4096;

/// The text of one language.
#[derive(Debug, Clone)]
pub struct Text {
    text: String,
    /// Where words begin.
    words: Vec<u32>,
}

impl Text {
    /// The text of a language with at least so many words behind every place where a prompt may begin; English if the
    /// language is unknown.
    #[must_use]
    pub fn new(language: &str, longest: u32, seed: u64) -> Self {
        let at = LANGUAGES.iter().position(|name| *name == language).unwrap_or(1);
        let sentences: Vec<&str> = lines(TEXTS[at]).collect();
        let mut chance = Chance::new(seed, u64::MAX - at as u64);
        let (mut text, mut words) = (String::new(), Vec::new());
        while words.len() <= WORDS + longest as usize {
            let sentence = sentences.get(chance.below(sentences.len())).copied().unwrap_or("word");
            for word in sentence.split_ascii_whitespace() {
                if !text.is_empty() {
                    text.push(' ');
                }
                words.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
                text.push_str(word);
            }
        }
        Self { text, words }
    }

    /// So many words, from a place of chance on.
    #[must_use]
    pub fn part(&self, words: u32, chance: &mut Chance) -> &str {
        let first = chance.below(WORDS);
        let begin = self.words.get(first).map_or(0, |&at| at as usize);
        let behind = self.words.get(first + words as usize).map_or(self.text.len() + 1, |&at| at as usize);
        self.text.get(begin..behind.saturating_sub(1)).unwrap_or_default()
    }
}

/// Texts that a guard must refuse.
pub fn hits() -> impl Iterator<Item = &'static str> {
    lines(HITS)
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stand_in_json_as_they_are() {
        for (language, text) in LANGUAGES.iter().zip(TEXTS).chain([(&"hits", HITS)]) {
            assert!(lines(text).count() >= 10, "{language}");
            for line in lines(text) {
                assert!(!line.chars().any(|c| c.is_control() || c == '"' || c == '\\'), "{language}: {line}");
            }
        }
    }

    #[test]
    fn parts_have_their_words() {
        for language in LANGUAGES {
            let text = Text::new(language, 900, 3);
            let mut chance = Chance::new(1, 9);
            for words in [1, 2, 17, 900] {
                let part = text.part(words, &mut chance);
                assert_eq!(part.split(' ').count(), words as usize, "{language} {part:?}");
                assert!(part.split(' ').all(|word| !word.is_empty()), "{language} {part:?}");
            }
        }
    }
}
