//! The HTTP/2 guard: the same verdict at every cut, and no more of anything than its budget holds.
//!
//! The first byte chooses the budget and whether the preface is part of the input. The rest are frames; the reserved
//! bit of a frame's stream says that we sent it, and the seven bits below are a time that passes before, in steps of
//! 10 ms. What is left at the end is half a frame of the client.

use corelane::wire::h2::{
    ANSWER_GIVES, Abuse, Budget, DATA_GIVES, Guard, PREFACE, REQUEST_GIVES, Rate, SIDE_DATA_BYTES,
};

use super::cut;

/// A frame with its time, and whether we sent it.
struct Step {
    bytes: Vec<u8>,
    now_us: u64,
    ours: bool,
}

/// Feeds `data`, in pieces of many lengths.
pub fn target(data: &[u8]) {
    let (choice, rest) = cut::choice(data);
    // Letters: "a" a poor budget, "b" the default one; "c" and "d" the same without a preface of ours.
    let (budget, begun) = (if choice % 2 == 1 { poor() } else { Budget::default() }, (choice + 3) % 4 < 2);
    let mut steps = Vec::new();
    if begun {
        steps.push(Step { bytes: PREFACE.to_vec(), now_us: 0, ours: false });
    }
    frames(rest, &mut steps);
    let whole = run(budget, &steps, usize::MAX);
    for piece in [1, 2, 3, 8, 9, 10, 64] {
        assert_eq!(run(budget, &steps, piece), whole, "in pieces of {piece}");
    }
    if begun {
        let passed = whole.map_or(steps.len(), |(at, _)| at);
        order(budget, &steps[1..passed.max(1)]);
        amounts(budget, &steps[1..passed.max(1)]);
    }
}

/// Cuts `rest` into frames.
fn frames(mut rest: &[u8], steps: &mut Vec<Step>) {
    let mut now_us = 0;
    while rest.len() >= 9 {
        let length = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
        let (bytes, after) = rest.split_at(rest.len().min(9 + length));
        let mut bytes = bytes.to_vec();
        now_us += u64::from(bytes[5] & 0x7f) * 10_000;
        let ours = bytes[5] & 0x80 != 0;
        bytes[5] &= 0x80;
        steps.push(Step { bytes, now_us, ours });
        rest = after;
    }
    steps.push(Step { bytes: rest.to_vec(), now_us, ours: false });
}

/// The rule broken and the step that broke it, if one was.
fn run(budget: Budget, steps: &[Step], piece: usize) -> Option<(usize, Abuse)> {
    let mut guard = Guard::new(budget);
    for (at, step) in steps.iter().enumerate() {
        for part in step.bytes.chunks(piece) {
            if step.ours {
                guard.outgoing(part, step.now_us);
            } else if let Err(abuse) = guard.incoming(part, step.now_us) {
                assert_eq!(guard.incoming(&[], step.now_us), Err(abuse), "what is refused stays refused");
                assert_eq!(guard.broken(), Some(abuse));
                return Some((at, abuse));
            }
        }
    }
    guard.broken().map(|abuse| (steps.len(), abuse))
}

/// Frames that passed are in order: RFC 9113 sections 3.4, 4.2 and 6.10.
fn order(budget: Budget, passed: &[Step]) {
    let mut block: Option<(u32, usize, usize)> = None;
    for (at, step) in passed.iter().filter(|step| !step.ours && step.bytes.len() >= 9).enumerate() {
        let (kind, flags, stream, length) = head(&step.bytes);
        assert!(at > 0 || (kind == 4 && flags & 1 == 0), "the first is SETTINGS");
        assert!(length <= budget.frame_bytes_max as usize, "too long");
        assert_ne!(kind, 5, "PUSH_PROMISE");
        match block {
            Some((open, count, bytes)) => {
                assert_eq!((kind, stream), (9, open), "inside of a header block");
                assert!(count < budget.continuations_max as usize);
                assert!(bytes + length <= budget.header_block_bytes_max as usize);
                block = (flags & 4 == 0).then_some((open, count + 1, bytes + length));
            }
            None => {
                assert_ne!(kind, 9, "outside of a header block");
                block = (kind == 1 && flags & 4 == 0).then_some((stream, 0, length));
            }
        }
    }
}

/// What passed of each kind is at most the burst, what time adds, and what was given for it.
fn amounts(budget: Budget, passed: &[Step]) {
    let (mut control, mut side, mut resets, mut opens, mut empty) = (0, 0, 0, 0, 0);
    let (mut frames_sent, mut gives_side, mut answers, mut full, mut acks, mut last) = (0, 0, 0, 0, 0, 0);
    for step in passed.iter().filter(|step| step.bytes.len() >= 9) {
        let (kind, flags, stream, length) = head(&step.bytes);
        let bytes = u64::try_from(length).unwrap_or(u64::MAX) / u64::from(SIDE_DATA_BYTES) + 1;
        match (step.ours, kind) {
            (true, 0) if length > 0 => {
                (frames_sent, gives_side) = (frames_sent + 1, gives_side + u64::from(DATA_GIVES) + bytes)
            }
            (true, 1) => (answers, gives_side) = (answers + 1, gives_side + u64::from(ANSWER_GIVES)),
            (true, 3) if length >= 4 && step.bytes.len() >= 13 => {
                let code =
                    u32::from_be_bytes([step.bytes[9], step.bytes[10], step.bytes[11], step.bytes[12]]);
                resets += u64::from(matches!(code, 1 | 3 | 5 | 6 | 7 | 11));
            }
            (true, 4 | 6) => (acks, gives_side) = (acks + u64::from(flags & 1), gives_side + 1),
            (true, _) => {}
            (false, 0) if length == 0 && flags & 1 == 0 => empty += 1,
            (false, 0) => (full, gives_side) = (full + 1, gives_side + bytes),
            (false, 1) if stream > last => {
                (opens, gives_side, last) = (opens + 1, gives_side + u64::from(REQUEST_GIVES), stream)
            }
            (false, 3) => resets += 1,
            (false, 4 | 6) if flags & 1 == 0 => control += 1,
            (false, 9) => {}
            (false, _) => side += 1,
        }
    }
    let seconds = passed.last().map_or(0, |step| step.now_us / 1_000_000 + 1);
    let most = |rate: Rate, given: u64| u64::from(rate.burst) + u64::from(rate.per_second) * seconds + given;
    assert!(control <= most(budget.control, answers + frames_sent), "PING and SETTINGS");
    assert!(control <= acks + u64::from(budget.unanswered_max), "not answered");
    assert!(side <= most(budget.side, gives_side), "WINDOW_UPDATE and the like");
    assert!(resets <= most(budget.resets, answers), "resets");
    assert!(opens <= most(budget.opens, answers), "streams");
    assert!(empty <= most(budget.empty_data, full), "DATA without data");
}

/// Type, flags, stream and length.
fn head(bytes: &[u8]) -> (u8, u8, u32, usize) {
    let stream = u32::from_be_bytes([bytes[5] & 0x7f, bytes[6], bytes[7], bytes[8]]);
    (bytes[3], bytes[4], stream, u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize)
}

/// A budget that short inputs use up.
fn poor() -> Budget {
    let rate = |burst| Rate { burst, per_second: 3 };
    Budget {
        frame_bytes_max: 1000,
        header_block_bytes_max: 300,
        continuations_max: 2,
        header_table_bytes_max: 100_000,
        unanswered_max: 3,
        small_data_bytes: 10,
        empty_data: rate(2),
        small_data: rate(4),
        control: rate(5),
        side: rate(8),
        resets: rate(3),
        opens: rate(4),
    }
}
