//! Bodies in a coding: the same text or the same refusal at every cut and in every step, never above the bound; and
//! what is encoded comes back. The first byte chooses: two bits the coding, two the bound, two the step, one whether the
//! rest is decoded or encoded.

use corelane::wire::coding::{self, Broken, Coding, Decoder, Encoder};

use super::cut;

/// Codings, in an order that the corpus relies on.
const CODINGS: [Coding; 4] = [Coding::Gzip, Coding::Deflate, Coding::Zstd, Coding::Identity];
/// Bounds of the output, and the steps it is made in.
const BOUNDS: [usize; 4] = [1 << 20, 0, 61, 5000];
const STEPS: [usize; 4] = [4096, 1, 61, 1 << 20];

/// Halves at this many places, more or less: a decoder is not made for nothing.
const CUTS: usize = 12;

/// Decodes or encodes `data`.
pub fn target(data: &[u8]) {
    let (choice, body) = cut::choice(data);
    let (coding, bound, step) = (CODINGS[choice % 4], BOUNDS[choice / 4 % 4], STEPS[choice / 16 % 4]);
    let _ = coding::accepts_gzip(body);
    assert!(Coding::read(body).is_none() || body.trim_ascii().len() <= 8);
    if choice & 0x40 != 0 {
        return round_trip(body, step);
    }
    let (verdict, text) = decoded(coding, &[body], 4096, bound);
    // A large text in small steps is slow and shows nothing that a small one does not.
    let step = if text.len() > 20_000 { 4096 } else { step };
    let halves = cut::places(body.len()).step_by(1 + body.len().min(128) / CUTS).map(|at| body.split_at(at));
    for (first, second) in halves {
        let again = decoded(coding, &[first, second], step, bound);
        assert!(again == (verdict, text.clone()), "cut after {}: {:?}", first.len(), again.0);
    }
    let bytes: Vec<&[u8]> = body.chunks(1).collect();
    assert!(decoded(coding, &bytes, step, bound) == (verdict, text.clone()), "byte by byte");
    if verdict.is_ok() {
        assert_eq!(decoded(coding, &[body], step, text.len()).0, Ok(()), "in a bound that is exact");
    }
}

/// The verdict on a body that comes in `parts`, and its text.
fn decoded(
    coding: Coding,
    parts: &[&[u8]],
    step_bytes: usize,
    bound: usize,
) -> (Result<(), Broken>, Vec<u8>) {
    let (mut decoder, mut out) = (Decoder::new(coding, bound), Vec::new());
    for part in parts {
        let mut rest = *part;
        loop {
            let before = out.len();
            let step = match decoder.step(rest, &mut out, step_bytes) {
                Ok(step) => step,
                Err(broken) => {
                    assert!(out.len() <= bound, "{} bytes", out.len());
                    assert_eq!(decoder.finish(), Err(broken));
                    return (Err(broken), out);
                }
            };
            let wrote = out.len() - before;
            assert!(out.len() <= bound && wrote <= step_bytes && step.used <= step_bytes);
            // A step that moves nothing may only find the end of what the one before it wrote.
            assert!(step.used > 0 || wrote > 0 || !step.again, "no progress");
            rest = &rest[step.used..];
            if !step.again {
                assert!(rest.is_empty());
                break;
            }
        }
    }
    (decoder.finish(), out)
}

/// Encodes `body` in two ways, and reads both back.
fn round_trip(body: &[u8], step_bytes: usize) {
    let mut whole = Vec::new();
    assert!(coding::gzip(body, &mut whole));
    let (mut encoder, mut steps) = (Encoder::default(), Vec::new());
    let (first, second) = body.split_at(body.len() / 2);
    for (mut rest, last) in [(first, false), (second, true)] {
        loop {
            let step = encoder.step(rest, last, &mut steps, step_bytes).unwrap();
            rest = &rest[step.used..];
            if !step.again {
                assert_eq!((rest.len(), step.done), (0, last));
                break;
            }
        }
    }
    for encoded in [whole, steps] {
        assert!(decoded(Coding::Gzip, &[&encoded], 4096, body.len()) == (Ok(()), body.to_vec()));
    }
}
