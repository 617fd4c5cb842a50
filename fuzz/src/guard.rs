//! The guard: a text means the same wherever it is cut, and what was said to be settled is never found later.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use corelane::config;
use corelane::config::guard::ScannerName;
use corelane::guard::Guard;
use corelane::guard::chain::Chain;
use corelane::guard::verdict::Finding;

use super::cut;

/// Chains of requests and of answers, under each normalisation.
static CHAINS: LazyLock<Vec<(Arc<Chain>, Arc<Chain>)>> = LazyLock::new(|| {
    ["none", "unicode", "strict"]
        .into_iter()
        .map(|normalize| {
            let text = format!(
                "[guard]\n[guard.scanner.BanSubstrings]\nnormalize = \"{normalize}\"\nsubstrings = [\"ab\", \"secret plan\", \
                 \"größe\", \"漢字\", \"c++\", \"ignore\"]\n[guard.scanner.TokenLimit]\nlimit = 100000\n\
                 [[endpoints]]\nname = \"a\"\nurl = \"http://h:1\"\n"
            );
            let config = config::parse(&text).unwrap_or_else(|problems| panic!("{problems}"));
            let guard = Guard::new(&config.guard, || 0).unwrap_or_else(|unfit| panic!("{unfit:?}"));
            let profile = guard.profile(Some(0)).unwrap();
            (Arc::clone(&profile.input), Arc::clone(&profile.output))
        })
        .collect()
});

/// The first byte chooses direction and normalisation.
pub fn target(data: &[u8]) {
    let (choice, data) = cut::choice(data);
    let text = String::from_utf8_lossy(data);
    let (input, output) = &CHAINS[choice / 2 % CHAINS.len()];
    if choice % 2 == 0 { request(input, &text) } else { answer(output, &text) }
}

fn request(chain: &Chain, text: &str) {
    let whole = inspected(chain, text, usize::MAX / 2);
    for bytes in [4, 61] {
        assert_eq!(inspected(chain, text, bytes), whole, "slices of {bytes}");
    }
}

/// What is found, as a set: a slice may find a secret again that its neighbour found.
fn inspected(chain: &Chain, text: &str, bytes: usize) -> BTreeSet<(ScannerName, String, usize, usize)> {
    let mut inspection = chain.inspect();
    while !chain.step(&mut inspection, text, bytes) {}
    assert_eq!(inspection.reading.failed, [false; 8], "a scanner panicked");
    let findings = inspection.reading.found.findings.iter();
    findings
        .map(|finding| {
            check(text, &finding.span);
            (finding.scanner, finding.rule.to_string(), finding.span.start, finding.span.end)
        })
        .collect()
}

fn check(text: &str, span: &Range<usize>) {
    assert!(text.get(span.clone()).is_some(), "{span:?} is no part of the text");
}

fn answer(chain: &Chain, text: &str) {
    let whole = streamed(chain, text, &[text.len()]);
    let borders: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let some = borders.iter().step_by((borders.len() / 5).max(1));
    for &at in some {
        assert_eq!(streamed(chain, text, &[at, text.len()]), whole, "cut at {at}");
    }
    assert_eq!(streamed(chain, text, &borders), whole, "letter by letter");
}

fn streamed(chain: &Chain, text: &str, ends: &[usize]) -> Vec<(ScannerName, String, Range<usize>, f32)> {
    let mut reading = chain.start();
    let (mut at, mut settled, mut seen) = (0, 0, 0);
    let judge = |findings: &[Finding], settled: usize, seen: &mut usize| {
        for finding in &findings[*seen..] {
            check(text, &finding.span);
            assert!(finding.span.start >= settled, "{finding:?} touches what was settled up to {settled}");
        }
        *seen = findings.len();
    };
    for &end in ends {
        chain.push(&mut reading, &text[at..end]);
        at = end;
        judge(&reading.found.findings, settled, &mut seen);
        let now = chain.settled(&reading);
        assert!(now <= end, "{now} of {end} bytes are settled");
        settled = settled.max(now);
    }
    chain.finish(&mut reading);
    judge(&reading.found.findings, settled, &mut seen);
    assert_eq!(reading.failed, [false; 8], "a scanner panicked");
    let mut found: Vec<_> = reading
        .found
        .findings
        .into_iter()
        .map(|finding| (finding.scanner, finding.rule.to_string(), finding.span, finding.score))
        .collect();
    found.sort_by(|a, b| (a.0, a.2.start, a.2.end, &a.1).cmp(&(b.0, b.2.start, b.2.end, &b.1)));
    found
}
