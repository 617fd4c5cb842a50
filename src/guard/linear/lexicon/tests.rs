use super::Lexicon;

#[test]
fn every_phrase_of_the_lists_is_taken() {
    let lexicon = Lexicon::get();
    assert!(lexicon.dropped().is_empty(), "{:?}", lexicon.dropped());
    assert!(lexicon.phrases() >= 300, "{}", lexicon.phrases());
}
