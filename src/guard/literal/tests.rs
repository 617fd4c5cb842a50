use super::*;

fn hits(literals: &Literals, pieces: &[&str]) -> Vec<Hit> {
    let mut hits = Vec::new();
    let mut walk = literals.start();
    for piece in pieces {
        literals.walk(&mut walk, piece, &mut |hit| hits.push(hit));
    }
    hits
}

fn plain(phrases: &[String], text: &str) -> Vec<Hit> {
    let mut hits = Vec::new();
    for end in 1..=text.len() {
        for (phrase, words) in phrases.iter().enumerate() {
            if text.as_bytes()[..end].ends_with(words.as_bytes()) {
                hits.push(Hit { phrase, start: end - words.len(), end });
            }
        }
    }
    hits
}

fn sorted(mut hits: Vec<Hit>) -> Vec<Hit> {
    hits.sort_by_key(|hit| (hit.end, hit.start, hit.phrase));
    hits
}

fn strings(phrases: &[&str]) -> Vec<String> {
    phrases.iter().map(ToString::to_string).collect()
}

#[test]
fn every_occurrence_is_found_however_the_text_is_cut() {
    let filler =
        "quite an ordinary sentence that goes on and on, of which nothing is to be found. ".repeat(4);
    for phrases in
        [strings(&["abra", "bra", "a", "cadabra", "brac", "bra"]), strings(&["abracad", "xyz", "adab", "大"])]
    {
        let many: Vec<String> = (0..400).map(|index| format!("never said {index}")).collect();
        for phrases in [phrases.clone(), [phrases.clone(), many].concat()] {
            let literals = Literals::new(&phrases).unwrap();
            for text in
                ["abracadabra".to_owned(), format!("{filler}abracad大abra"), format!("xyz{filler}a{filler}")]
            {
                let want = sorted(plain(&phrases, &text));
                assert_eq!(sorted(hits(&literals, &[&text])), want);
                for cut in (1..text.len()).filter(|cut| text.is_char_boundary(*cut)) {
                    assert_eq!(sorted(hits(&literals, &[&text[..cut], &text[cut..]])), want, "cut at {cut}");
                }
            }
        }
    }
}

#[test]
fn leaps_miss_nothing() {
    let phrases: Vec<String> = (0..300).map(|index| format!("{index:03} never said")).collect();
    let literals = Literals::new(&phrases).unwrap();
    assert!(literals.quick.is_some());
    let filler = "he never said a word about 17 and 42 never sa ".repeat(3);
    for at in 0..20 {
        for phrase in [&phrases[7], &phrases[299]] {
            let text = format!("{}{phrase}{filler}", &filler[..80 + at]);
            assert_eq!(hits(&literals, &[&text]), plain(&phrases, &text));
        }
        assert_eq!(hits(&literals, &[&filler[at..]]), []);
    }
    // Many comparisons: the text is walked.
    let text = "001 never sai".repeat(100);
    assert_eq!(hits(&literals, &[&text]), []);
}

#[test]
fn what_is_pending_is_the_longest_beginning_of_a_phrase() {
    let phrases = strings(&["abracad", "rack", "大学"]);
    let literals = Literals::new(&phrases).unwrap();
    let text = format!("{}abrack abra大学abr", "nothing at all ".repeat(30));
    let mut walk = literals.start();
    for (index, ch) in text.char_indices() {
        literals.walk(&mut walk, ch.encode_utf8(&mut [0; 4]), &mut |_| {});
        let so_far = &text.as_bytes()[..index + ch.len_utf8()];
        let fits = |length: &usize| {
            phrases
                .iter()
                .any(|phrase| phrase.len() >= *length && so_far.ends_with(&phrase.as_bytes()[..*length]))
        };
        assert_eq!(literals.pending(&walk), (0..8).rev().find(fits).unwrap());
    }
    let mut whole = literals.start();
    literals.walk(&mut whole, &text, &mut |_| {});
    assert_eq!(whole, walk);
}

#[test]
fn nothing_to_look_for_is_no_automaton() {
    assert!(Literals::new(&[]).is_none());
    assert!(Literals::new(&strings(&["a", ""])).is_none());
}

#[test]
fn short_phrases_among_many_are_found() {
    let mut phrases: Vec<String> = (0..200).map(|index| format!("{index:03} never said")).collect();
    phrases.extend((0..100).map(|index| format!("q{index:02}")));
    phrases.extend(strings(&["zq", "zx", "大"]));
    let literals = Literals::new(&phrases).unwrap();
    assert!(literals.quick.is_some());
    let filler = "an ordinary sentence about the quick 17 and 42, of which nothing is found. ".repeat(3);
    assert_eq!(hits(&literals, &[&filler]), []);
    for phrase in ["q00", "q99", "zq", "zx", "大", "199 never said"] {
        for at in 0..8 {
            for text in
                [format!("{}{phrase}", &filler[at..]), format!("{phrase}{}{phrase}{filler}", &filler[at..])]
            {
                assert_eq!(sorted(hits(&literals, &[&text])), sorted(plain(&phrases, &text)), "{text}");
            }
        }
    }
}

#[test]
fn dormant_phrases_are_overlooked_only_if_asked() {
    let phrases = strings(&["ignore all", "ignoreall"]);
    let literals = Literals::with_dormant(&phrases, &|index| index == 1).unwrap();
    let filler = "an ordinary sentence, of which nothing is to be found. ".repeat(3);
    let count = |text: &str, all: bool| {
        let (mut count, mut walk) = (0, literals.start());
        literals.walk_for(&mut walk, text, all, &mut |_| count += 1);
        count
    };
    let text = format!("{filler}ignoreall {filler}");
    assert_eq!((count(&text, true), count(&text, false)), (1, 0));
    let text = format!("{filler}ignore all ignoreall {filler}");
    assert_eq!((count(&text, true), count(&text, false)), (2, 2));
}
