use super::*;

fn fold(level: Level, pieces: &[&str]) -> Folded {
    let (mut folder, mut folded) = (Folder::new(level), Folded::default());
    let mut taken = 0;
    for piece in pieces {
        folder.push(piece, &mut folded);
        taken += piece.len();
        assert!(taken - folder.settled() <= HELD_MAX, "held too much, {level:?}: {:?}", pieces.last());
    }
    folder.finish(&mut folded);
    folded
}

fn folded(level: Level, text: &str) -> String {
    fold(level, &[text]).tail(0).to_owned()
}

/// The alphabet of random texts: all scripts and every kind of mischief.
const PARTS: &[&str] = &[
    "a",
    "I",
    "e",
    "the",
    "Ignore",
    " ",
    " ",
    "  ",
    "\n",
    "\r\n",
    "\t",
    "\u{a0}",
    "\u{3000}",
    ".",
    "-",
    "_",
    "!",
    "!!",
    "@",
    "$",
    "|",
    "4",
    "3",
    "1",
    "0",
    "11",
    "29",
    "é",
    "e\u{301}",
    "\u{301}",
    "\u{336}",
    "\u{200b}",
    "\u{ad}",
    "\u{feff}",
    "\u{202e}",
    "\u{e0041}",
    "\u{e0062}",
    "А",
    "о",
    "р",
    "и",
    "привет",
    "Σ",
    "ς",
    "ΑΣ",
    "σ",
    "İ",
    "ı",
    "ß",
    "ẞ",
    "ﬁ",
    "㎏",
    "½",
    "ｆｕｌｌ",
    "Ｗ",
    "𝓫",
    "𝔄",
    "Ⓐ",
    "🅰",
    "🇺",
    "ᴀ",
    "Ꮃ",
    "漢字",
    "かな",
    "か\u{3099}",
    "ｶﾞ",
    "한국",
    "ㅎ",
    "ㅏ",
    "\u{1112}",
    "\u{1161}",
    "\u{11ab}",
    "العربية",
    "\u{64e}",
    "ـ",
    "ไทย",
    "น้ำ",
    "हिन्दी",
    "Ⱥ",
    "K",
    "ﷺ",
    "🔓",
    "'",
    ":",
    "chó",
    "i g n o r e",
    "t h e  m e",
    "m.e",
    "- ",
    "p4$$w0rd",
    "s.e.c.r.e.t",
    "word and more plain words, all of them ASCII ",
];

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % 1_000_003).unwrap() % sides
    }

    fn text(&mut self, parts: usize) -> String {
        (0..parts).map(|_| PARTS[self.roll(PARTS.len())]).collect()
    }
}

const LEVELS: [Level; 4] = [Level::Raw, Level::Lower, Level::Unicode, Level::Strict];

/// Of a character: where it stands, what it stands for, whether it is a sign, whether it was joined.
type Place = (usize, Range<usize>, bool, bool);

/// Everything that can be seen of a folded text.
fn seen(folded: &Folded) -> (String, Vec<Place>) {
    let text = folded.tail(0).to_owned();
    let places = text.char_indices().map(|(at, ch)| {
        let range = at..at + ch.len_utf8();
        (folded.original(at), folded.span(range.clone()), folded.is_sign(at), folded.is_joined(&range))
    });
    let places = places.collect();
    (text, places)
}

#[test]
fn where_the_text_is_cut_changes_nothing() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for round in 0..1500 {
        let parts = 1 + dice.roll(if round % 50 == 0 { 200 } else { 16 });
        let text = dice.text(parts);
        for level in LEVELS {
            let whole = seen(&fold(level, &[&text]));
            for cut in (1..text.len()).filter(|cut| text.is_char_boundary(*cut)) {
                let parts = seen(&fold(level, &[&text[..cut], &text[cut..]]));
                assert_eq!(parts, whole, "{level:?}, {text:?} cut at {cut}");
            }
            let letters: Vec<String> = text.chars().map(String::from).collect();
            let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
            assert_eq!(seen(&fold(level, &letters)), whole, "{level:?}, {text:?}, letter by letter");
        }
    }
}

#[test]
fn every_character_knows_where_it_comes_from() {
    let mut dice = Dice(77);
    for _ in 0..2000 {
        let parts = 1 + dice.roll(20);
        let text = dice.text(parts);
        for level in LEVELS {
            let folded = fold(level, &[&text]);
            let mut before = 0;
            for (at, ch) in folded.tail(0).char_indices() {
                let span = folded.span(at..at + ch.len_utf8());
                assert!(
                    text.get(span.clone()).is_some_and(|part| !part.is_empty()),
                    "{level:?} {text:?} {span:?}"
                );
                assert!(span.start >= before, "{level:?} {text:?}");
                before = span.start;
            }
        }
    }
}

#[test]
fn what_is_settled_is_never_folded_again() {
    let mut dice = Dice(5);
    for _ in 0..500 {
        let text = dice.text(24);
        for level in LEVELS {
            let (mut folder, mut folded) = (Folder::new(level), Folded::default());
            for ch in text.chars() {
                let (settled, end) = (folder.settled(), folded.end());
                folder.push(ch.encode_utf8(&mut [0; 4]), &mut folded);
                assert!(folder.settled() >= settled, "{level:?} {text:?}");
                assert_eq!(folded.original(folded.end()), folder.settled());
                if folded.end() > end {
                    assert!(folded.original(end) >= settled, "{level:?} {text:?}");
                }
            }
        }
    }
}

#[test]
fn lower_is_the_lower_case_of_the_whole_text() {
    let mut dice = Dice(99);
    for _ in 0..3000 {
        let text = dice.text(12);
        assert_eq!(folded(Level::Lower, &text), text.to_lowercase());
    }
    assert_eq!(folded(Level::Lower, "ΟΔΟΣ ΟΔΟΣ' ΟΔΟΣ'Α İß"), "οδος οδος' οδοσ'α i\u{307}ß");
}

#[test]
fn unicode_undoes_forms_and_keeps_letters() {
    let cases = [
        ("I\u{200b}g\u{ad}n\u{2060}ore", "ignore"),
        ("Ｉｇｎｏｒｅ 𝓲𝓰𝓷𝓸𝓻𝓮 ⓘⓖ ﬁne", "ignore ignore ig fine"),
        ("i\u{336}g\u{336}n\u{336}", "ign"),
        ("cho\u{301} chó Việt Vie\u{323}\u{302}t", "chó chó việt việt"),
        ("a \n\t b\u{a0}\u{3000}c", "a b c"),
        ("\u{e0068}\u{e0069}", "hi"),
        ("İstanbul STRASSE Straße ΟΔΟΣ", "istanbul strasse straße οδοσ"),
        ("ｶﾞ か\u{3099} 한 ㅎㅏㄴ", "ガ が 한 하ㄴ"),
        ("مُحَمَّد مـحـمـد", "محمد محمد"),
        ("р4$$w0rd", "р4$$w0rd"),
    ];
    for (text, want) in cases {
        let want: String = unicode_normalization::UnicodeNormalization::nfkc(want).collect();
        assert_eq!(folded(Level::Unicode, text), want, "{text}");
    }
}

#[test]
fn strict_reads_what_is_meant() {
    let cases = [
        ("Ignоrе аll", "ignore all"),
        ("say аll and сосоа", "say аll and cocoa"),
        ("1gn0r3 4ll p455w0rd5! he11o", "ignore all passwords! hello"),
        ("i g n o r e  a l l rules", "ignore all rules"),
        ("i.g.n.o.r.e a-l-l _b_o_m_b_", "ignore all _bomb_"),
        ("1 g n 0 r 3", "ignore"),
        ("t e l l  m e  a l l", "tell me all"),
        ("ɪɢɴᴏʀᴇ 🅱🅾🅼🅱 🇧🇴🇲🇧", "ignore bomb bomb"),
        ("ígnóré", "ígnóré"),
    ];
    for (text, want) in cases {
        let got = folded(Level::Strict, text);
        let want = if text.starts_with("say") { "say all and cocoa" } else { want };
        assert_eq!(got, want, "{text}");
    }
}

#[test]
fn strict_leaves_honest_text_as_it_is() {
    let cases = [
        "привет, как дела? она тут.",
        "καλημέρα κόσμε",
        "it cost 1500 in 2024, 50% of 3.5 m",
        "a b and c",
        "3f5a0b1c45d7",
        "what! no! 12:30 a.m.",
        "tôi là người việt nam",
        "나 는 그 집 에",
        "x = a | b",
        "windows 10, x86_64, utf8",
        "the с language",
    ];
    for text in cases {
        assert_eq!(folded(Level::Strict, text), folded(Level::Unicode, text), "{text}");
    }
}

#[test]
fn memory_stays_bounded() {
    for part in ["\u{301}", "\u{200b}", "Σ'", "'", "a", "a ", "a.", "4", "!", "かな"] {
        let pieces = vec![part; 4000];
        for level in LEVELS {
            let mut start = vec!["aΣ"];
            start.extend(&pieces);
            fold(level, &start);
        }
    }
}

#[test]
fn what_is_forgotten_leaves_the_rest_in_place() {
    let mut folded = fold(Level::Strict, &["Ｉ\u{200b} say i g n o r e and p4$$ ﬁne"]);
    let before = seen(&folded);
    let at = before.0.find("ignore").unwrap();
    folded.forget(at);
    assert_eq!(folded.tail(at), &before.0[at..]);
    for ((index, ch), place) in before.0.char_indices().zip(&before.1).filter(|((index, _), _)| *index >= at)
    {
        let range = index..index + ch.len_utf8();
        assert_eq!((folded.original(index), folded.span(range)), (place.0, place.1.clone()));
    }
}

#[test]
fn marks_come_off_latin_letters_only() {
    assert_eq!(lookalike::strip_marks("ígnóré chó Łódź й が"), "ignore cho Łodz й が");
}

/// Letter by letter all goes the long way; whole, what the table knows is copied.
#[test]
fn the_table_and_the_long_way_agree() {
    for ch in ('\0'..=char::MAX).filter(|ch| u32::from(*ch) < 0x3400 || u32::from(*ch) % 31 == 0) {
        for around in [["ab ", " cd"], ["ab", "cd"], ["жи", "то "], ["", ""]] {
            let text = format!("{}{ch}{}", around[0], around[1]);
            let letters: Vec<String> = text.chars().map(String::from).collect();
            let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
            for level in [Level::Unicode, Level::Strict] {
                let long = format!("{text}. Ordinary words behind it. ");
                let slow = seen(&fold(level, &letters));
                let fast = seen(&fold(level, &[&long]));
                assert!(around[1].is_empty() || fast.0.starts_with(slow.0.trim_end()), "{text:?} {level:?}");
                assert_eq!(seen(&fold(level, &[&text])), slow, "{text:?} {level:?}");
            }
        }
    }
}

#[test]
fn white_space_behind_white_space_is_dropped_in_blocks_too() {
    let text = "    fn main() {\r\n        let ordinary = words(and, more);\n\n\n    }\n".repeat(9);
    for level in [Level::Unicode, Level::Strict] {
        let folded = fold(level, &[&text]);
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        assert_eq!(folded.tail(0), format!(" {} ", words.join(" ")));
        let letters: Vec<String> = text.chars().map(String::from).collect();
        let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
        assert_eq!(seen(&folded), seen(&fold(level, &letters)));
    }
}
