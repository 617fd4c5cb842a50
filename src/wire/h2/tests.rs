#![allow(clippy::unwrap_used, clippy::panic)] // test code

use super::frames::PRIORITY;
use super::*;

const SECOND: u64 = 1_000_000;

/// Bytes in one direction at a time.
#[derive(Clone)]
enum Step {
    In(Vec<u8>, u64),
    Out(Vec<u8>, u64),
}

use Step::{In, Out};

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn ping() -> Vec<u8> {
    frame(PING, 0, 0, &[7; 8])
}

fn pong() -> Vec<u8> {
    frame(PING, ACK, 0, &[7; 8])
}

fn update(stream: u32) -> Vec<u8> {
    frame(8, 0, stream, &[0, 0, 64, 0])
}

fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// A request without a body.
fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &[0x82, 0x84, 0x86])
}

/// The head of a request with a body, or of an answer with one.
fn head(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &[0x88])
}

fn settings(parameters: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = parameters
        .iter()
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(SETTINGS, 0, 0, &payload)
}

/// What curl says first, and our answers.
fn opening() -> Vec<Step> {
    vec![
        Out(settings(&[(3, 128), (5, 16_384)]), 0),
        In(PREFACE.to_vec(), 0),
        In(settings(&[(3, 100), (4, 10_485_760), (2, 0)]), 0),
        In(update(0), 0),
        Out(frame(SETTINGS, ACK, 0, &[]), 0),
        In(frame(SETTINGS, ACK, 0, &[]), 0),
    ]
}

/// `opening`, then `then`.
fn opened(then: impl IntoIterator<Item = Step>) -> Vec<Step> {
    opening().into_iter().chain(then).collect()
}

/// Feeds the steps in pieces; the rule broken and the step that broke it.
fn run(budget: Budget, steps: &[Step], piece: usize) -> Option<(usize, Abuse)> {
    let mut guard = Guard::new(budget);
    for (at, step) in steps.iter().enumerate() {
        match step {
            In(bytes, now) => {
                for part in bytes.chunks(piece) {
                    if let Err(abuse) = guard.incoming(part, *now) {
                        assert_eq!(guard.incoming(&[], *now), Err(abuse), "what is refused stays refused");
                        return Some((at, abuse));
                    }
                }
            }
            Out(bytes, now) => bytes.chunks(piece).for_each(|part| guard.outgoing(part, *now)),
        }
    }
    guard.broken().map(|abuse| (steps.len(), abuse))
}

/// The verdict, which is the same however the bytes are cut.
fn verdict(steps: &[Step]) -> Option<(usize, Abuse)> {
    let whole = run(Budget::default(), steps, usize::MAX);
    let bytes: usize = steps.iter().map(|(In(bytes, _) | Out(bytes, _))| bytes.len()).sum();
    let pieces = if bytes < 200_000 { &[1, 2, 5, 9, 10, 13][..] } else { &[7, 1000] };
    for &piece in pieces {
        assert_eq!(run(Budget::default(), steps, piece), whole, "in pieces of {piece}");
    }
    whole
}

#[track_caller]
fn honest(steps: impl IntoIterator<Item = Step>) {
    assert_eq!(verdict(&opened(steps)), None);
}

/// `steps` behind an opening are refused at the step numbered `at`, which counts from 1.
#[track_caller]
fn refused(steps: impl IntoIterator<Item = Step>, at: usize, abuse: Abuse) {
    let begin = opening().len() - 1;
    assert_eq!(verdict(&opened(steps)).map(|(step, abuse)| (step - begin, abuse)), Some((at, abuse)));
}

/// Odd numbers.
fn ids(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|n| 2 * n + 1)
}

#[test]
fn a_guard_is_small() {
    assert!(size_of::<Guard>() <= 200, "{} bytes", size_of::<Guard>());
}

#[test]
fn requests_pass() {
    honest(
        ids(20_000)
            .flat_map(|id| [In(get(id), 0), Out(head(id), 0), Out(frame(DATA, END_STREAM, id, b"hello"), 0)]),
    );
    // A proxy's: the body in one small frame and an empty last one.
    honest(ids(20_000).flat_map(|id| {
        let body = [frame(DATA, 0, id, b"{}"), frame(DATA, END_STREAM, id, b"")].concat();
        [In(head(id), 0), In(body, 0), Out(head(id), 0), Out(frame(DATA, END_STREAM, id, b"hello"), 0)]
    }));
    // A browser's: a tree of priorities, then a priority and a window for each stream.
    let tree = (0..6).map(|n| In(frame(PRIORITY, 0, 2 * n + 3, &[0, 0, 0, 0, 1]), 0));
    honest(tree.chain(ids(5000).map(|n| n + 14).flat_map(|id| {
        let more =
            [frame(PRIORITY, 0, id, &[0, 0, 0, 0, 1]), update(id), frame(0x0b, 0, id, b"grease")].concat();
        [In(get(id), 0), In(more, 0), Out(head(id), 0), Out(frame(DATA, END_STREAM, id, &[1; 900]), 0)]
    })));
}

#[test]
fn answers_and_our_own_questions_pay() {
    let eight = [update(0), update(1), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]), frame(88, 0, 0, b"")]
        .concat()
        .repeat(2);
    honest(ids(2000).flat_map(|id| [In([get(id), eight.clone()].concat(), 0), Out(get(id), 0)]));
    honest((0..3000).flat_map(|_| [Out(ping(), 0), In(pong(), 0)]));
}

#[test]
fn downloads_pass() {
    // Two windows and a measuring PING for each frame of a stream of short events, in no time at all.
    honest([In(get(1), 0), Out(head(1), 0)].into_iter().chain((0..20_000).flat_map(|_| {
        [
            Out(frame(DATA, 0, 1, b"data: x\n\n"), 0),
            In([update(0), update(1), ping()].concat(), 0),
            Out(pong(), 0),
        ]
    })));
    // A reader of 1 KiB pieces widens both windows at each.
    honest([In(get(1), 0), Out(head(1), 0)].into_iter().chain((0..80).flat_map(|_| {
        [Out(frame(DATA, 0, 1, &[0; 16_384]), 0), In([update(0), update(1)].concat().repeat(9), 0)]
    })));
}

#[test]
fn uploads_pass() {
    honest([In(head(1), 0)].into_iter().chain(
        (0..80).flat_map(|_| [In(frame(DATA, 0, 1, &[0; 16_384]), 0), Out(update(0), 0), Out(update(1), 0)]),
    ));
    // Written by a serializer without a buffer: 100 KB in words of 30 bytes.
    honest([In(head(1), 0)].into_iter().chain((0..3500).map(|_| In(frame(DATA, 0, 1, &[b'a'; 30]), 0))));
    // A flush that sends an empty frame after each piece.
    honest([In(head(1), 0)].into_iter().chain(
        (0..1000).flat_map(|_| [In(frame(DATA, 0, 1, &[b'a'; 500]), 0), In(frame(DATA, 0, 1, b""), 0)]),
    ));
    // Priorities that change all the time, one for each KiB.
    let priority = frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9]);
    honest(
        [In(head(1), 0)]
            .into_iter()
            .chain((0..1200).map(|_| In([&frame(DATA, 0, 1, &[b'a'; 1024])[..], &priority].concat(), 0))),
    );
    // Padding hides lengths and is no flood.
    let padded = [&[200][..], &[b'a'; 300], &[0; 200]].concat();
    honest([In(head(1), 0)].into_iter().chain((0..1000).map(|_| In(frame(DATA, PADDED, 1, &padded), 0))));
}

#[test]
fn quiet_clients_pass() {
    // An hour of a PING a second, and one of an empty frame every two seconds.
    honest((0..3600).flat_map(|n| [In(ping(), n * SECOND), Out(pong(), n * SECOND)]));
    honest([In(head(1), 0)].into_iter().chain((0..1800).map(|n| In(frame(DATA, 0, 1, b""), 2 * n * SECOND))));
    // A hundred small frames a second.
    honest(
        [In(head(1), 0)].into_iter().chain((0..9000).map(|n| In(frame(DATA, 0, 1, b"x"), n * SECOND / 100))),
    );
    honest([In(frame(GOAWAY, 0, 0, &[0; 8]), 0), In(get(1), 0), Out(head(1), 0)]);
}

#[test]
fn cancels_pass() {
    // Each after the head of its answer; Go sends a PING with the reset.
    honest(ids(5000).flat_map(|id| {
        [In(get(id), 0), Out(head(id), 0), In([reset(id, 8), ping()].concat(), 0), Out(pong(), 0)]
    }));
    // In waves of all the streams that may be open.
    honest((0..40).flat_map(|wave| {
        let all = move || ids(128).map(move |id| id + 256 * wave);
        let heads = all().map(|id| Out(head(id), 0));
        all()
            .map(|id| In(get(id), 0))
            .chain(heads)
            .chain(all().map(|id| In(reset(id, 8), 0)))
            .collect::<Vec<_>>()
    }));
    // All of them before their answers, once, and then twenty a second.
    honest(ids(128).flat_map(|id| [In(get(id), 0), In(reset(id, 8), 0)]));
    honest(ids(4000).flat_map(|id| {
        let now = u64::from(id / 2) * SECOND / 20;
        [In(get(id), now), In(reset(id, 8), now)]
    }));
    // Our own resets are nobody's fault.
    for code in [0, 2, 8] {
        honest(ids(400).flat_map(|id| [In(get(id), 0), Out(reset(id, code), 0)]));
    }
}

#[test]
fn long_heads_pass() {
    let long = [
        frame(HEADERS, END_STREAM, 1, &[0; 16_384]),
        frame(CONTINUATION, 0, 1, &[0; 16_384]),
        frame(CONTINUATION, END_HEADERS, 1, &[]),
    ]
    .concat();
    honest([In(long, 0), In(get(3), 0)]);
    let three = |id| {
        let more = frame(CONTINUATION, 0, id, &[0; 10_000]).repeat(2);
        [frame(HEADERS, 0, id, &[0; 10_000]), more, frame(CONTINUATION, END_HEADERS, id, &[0; 9])].concat()
    };
    honest(ids(5).map(|id| In(three(id), 0)));
    // The reserved bit of a stream means nothing.
    honest([
        In(frame(HEADERS, 0, 1, b"a"), 0),
        In(frame(CONTINUATION, 4, 0x8000_0001, b"b"), 0),
        In(get(3), 0),
    ]);
    let full = |n: u8| frame(CONTINUATION, if n == 2 { END_HEADERS } else { 0 }, 1, &[0; 16_384]);
    honest([In(frame(HEADERS, 0, 1, &[0; 16_384]), 0)].into_iter().chain((0..3).map(|n| In(full(n), 0))));
}

#[test]
fn what_is_not_http2_is_refused() {
    let first = |bytes: &[u8]| verdict(&[In(bytes.to_vec(), 0)]);
    assert_eq!(first(b"GET / HTTP/1.1\r\n"), Some((0, Abuse::Preface)));
    assert_eq!(first(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\t"), Some((0, Abuse::Preface)));
    assert_eq!(first(b"PRI * HTTP/2.0\r\n"), None);
    for wrong in [get(1), ping(), frame(SETTINGS, ACK, 0, &[]), update(0)] {
        assert_eq!(first(&[PREFACE.to_vec(), wrong].concat()), Some((0, Abuse::FirstFrame)));
    }
    refused([In(frame(DATA, 0, 1, &[0; 16_385]), 0)], 1, Abuse::FrameSize);
    refused([In(frame(99, 0, 1, &[0; 16_385]), 0)], 1, Abuse::FrameSize);
    refused(
        [In(get(1), 0), In(frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]), 0)],
        2,
        Abuse::PushPromise,
    );
    refused([In(settings(&[(4, 1 << 30), (1, 65_536), (1, 1_048_577)]), 0)], 1, Abuse::HeaderTable);
    honest([In(settings(&[(1, 1_048_576), (5, 1_048_577)]), 0)]);
}

#[test]
fn header_blocks_are_not_interleaved() {
    let open = || In(frame(HEADERS, 0, 1, &[0x82]), 0);
    let others =
        [get(3), get(1), ping(), settings(&[]), frame(DATA, 0, 1, b"x"), update(0), frame(77, 0, 0, &[])];
    for other in others {
        refused([open(), In(other, 0)], 2, Abuse::Interleaved);
    }
    refused([open(), In(frame(CONTINUATION, END_HEADERS, 3, &[0x84]), 0)], 2, Abuse::Interleaved);
    refused([In(get(1), 0), In(frame(CONTINUATION, END_HEADERS, 1, &[0x84]), 0)], 2, Abuse::Interleaved);
    refused([In(frame(CONTINUATION, 0, 0, &[0x84]), 0)], 1, Abuse::Interleaved);
}

#[test]
fn continuation_floods_are_refused() {
    let flood = |size: usize| {
        let more = move |_| In(frame(CONTINUATION, 0, 1, &vec![0; size]), 0);
        [In(frame(HEADERS, 0, 1, &[0x82]), 0)].into_iter().chain((0..100).map(more))
    };
    refused(flood(1), 10, Abuse::Continuations);
    refused(flood(16_384), 5, Abuse::HeaderBlock);
    refused(flood(0), 2, Abuse::EmptyContinuation);
}

#[test]
fn data_floods_are_refused() {
    let flood =
        |bytes: Vec<u8>| [In(head(1), 0)].into_iter().chain((0..10_000).map(move |_| In(bytes.clone(), 0)));
    refused(flood(frame(DATA, 0, 1, b"")), 34, Abuse::EmptyData);
    refused(flood(frame(DATA, PADDED, 1, b"")), 34, Abuse::EmptyData);
    refused(flood(frame(DATA, PADDED, 1, &[0])), 34, Abuse::EmptyData);
    refused(flood(frame(DATA, PADDED, 1, &[&[255][..], &[0; 255]].concat())), 34, Abuse::EmptyData);
    // More padding than payload is the implementation's to refuse.
    refused(flood(frame(DATA, PADDED, 1, &[255, 0])), 34, Abuse::EmptyData);
    // One byte of data gives 1/256 back.
    refused(flood(frame(DATA, 0, 1, b"x")), 4017, Abuse::SmallData);
    refused(flood(frame(DATA, PADDED, 1, &[1, b'x', 0])), 4017, Abuse::SmallData);
    refused(flood(frame(DATA, END_STREAM, 1, b"")), 4002, Abuse::SmallData);
    // More last frames than streams; 100 bytes give 100/256 back.
    refused(flood(frame(DATA, END_STREAM, 1, &[b'a'; 100])), 6565, Abuse::SmallData);
    // A hundred requests pay for their own: one token is gone.
    let posts = ids(100).flat_map(|id| [In(head(id), 0), In(frame(DATA, END_STREAM, id, b"{}"), 0)]);
    let ends = (0..5000).map(|_| In(frame(DATA, END_STREAM, 1, b""), 0));
    refused(posts.chain(ends), 200 + 4000, Abuse::SmallData);
    // An empty one behind each byte.
    refused(flood([frame(DATA, 0, 1, b"x"), frame(DATA, 0, 1, b"")].concat()), 2005, Abuse::SmallData);
}

#[test]
fn control_floods_are_refused() {
    // Nobody reads our answers: the opening's SETTINGS are answered, 64 more wait.
    refused((0..100).map(|_| In(ping(), 0)), 65, Abuse::Unanswered);
    refused((0..100).map(|_| In(settings(&[(4, 1)]), 0)), 65, Abuse::Unanswered);
    // All are answered: 99 are left of the burst.
    refused((0..300).flat_map(|_| [In(ping(), 0), Out(pong(), 0)]), 199, Abuse::Control);
    let ack = || frame(SETTINGS, ACK, 0, &[]);
    refused((0..300).flat_map(|_| [In(settings(&[]), 0), Out(ack(), 0)]), 199, Abuse::Control);
    // Twelve a second are two too many: 50 seconds of grace.
    let slow = (0..5000).flat_map(|n| [In(ping(), n * SECOND / 12), Out(pong(), n * SECOND / 12)]);
    assert!(matches!(verdict(&opened(slow)), Some((1000..1300, Abuse::Control))));
}

#[test]
fn side_floods_are_refused() {
    // The opening took two of them and its SETTINGS gave none above the burst.
    for one in [update(0), frame(PRIORITY, 0, 5, &[0, 0, 0, 3, 1]), frame(200, 0, 0, b"?"), pong()] {
        refused((0..2000).map(|_| In(one.clone(), 0)), 999, Abuse::Side);
    }
    // Trailers again and again on a stream that was reset, which the implementation ignores.
    refused([In(get(1), 0)].into_iter().chain((0..2000).map(|_| In(get(1), 0))), 1002, Abuse::Side);
    // Ten thousand in one second, none the next.
    let fast = (0..10_000).map(|n| In(update(0), n * SECOND / 10_000));
    assert!(matches!(verdict(&opened(fast)), Some((1000..1020, Abuse::Side))));
}

#[test]
fn rapid_reset_is_refused() {
    refused(ids(1000).flat_map(|id| [In(get(id), 0), In(reset(id, 8), 0)]), 402, Abuse::Resets);
    // 160 000 a second, as measured against the bare implementation.
    let fast = ids(5000).flat_map(|id| {
        let now = u64::from(id / 2) * SECOND / 160_000;
        [In(get(id), now), In(reset(id, 8), now)]
    });
    assert!(matches!(verdict(&opened(fast)), Some((400..420, Abuse::Resets))));
}

#[test]
fn resets_that_we_are_made_to_send_are_refused() {
    for code in [1, 3, 5, 6, 7, 11] {
        // The 201st reset is seen when it is written, and the frame after it is refused.
        refused(ids(1000).flat_map(|id| [In(get(id), 0), Out(reset(id, code), 0)]), 403, Abuse::Resets);
    }
    // Both kinds share one budget.
    let both = ids(1000).flat_map(|id| [In(get(id), 0), In(reset(id, 8), 0), Out(reset(id, 5), 0)]);
    refused(both, 302, Abuse::Resets);
    // The client does not read, so that our resets are never written.
    refused(ids(1000).map(|id| In(get(id), 0)), 513, Abuse::Opens);
}

#[test]
fn a_broken_guard_says_goodbye() {
    let mut guard = Guard::new(Budget::default());
    assert_eq!((guard.goaway(), guard.midway()), (None, true));
    let begin = [&PREFACE[..], &settings(&[]), &get(7)].concat();
    assert_eq!(guard.incoming(&begin, 0), Ok(()));
    assert_eq!((guard.goaway(), guard.midway(), guard.last_stream()), (None, false, 7));
    guard.outgoing(&head(7), 0);
    assert_eq!(guard.incoming(&frame(HEADERS, 0, 9, &[0x82])[..5], 0), Ok(()));
    assert!(guard.midway(), "in a frame's head");
    assert_eq!(guard.incoming(&frame(HEADERS, 0, 9, &[0x82])[5..], 0), Ok(()));
    assert!(guard.midway(), "in a header block");
    assert_eq!(guard.incoming(&ping(), 0), Err(Abuse::Interleaved));
    assert_eq!(guard.goaway(), Some([0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1]));
    let half = frame(DATA, 0, 7, b"half");
    guard.outgoing(&half[..11], 0);
    assert_eq!(guard.goaway(), None, "inside of a frame");
    guard.outgoing(&half[11..], 0);
    assert!(guard.goaway().is_some());
}

#[test]
fn names_and_codes_are_distinct_and_known() {
    let names: std::collections::BTreeSet<_> = Abuse::ALL.iter().map(|abuse| abuse.name()).collect();
    assert_eq!(names.len(), Abuse::ALL.len());
    assert!(Abuse::ALL.iter().all(|abuse| [1, 6, 11].contains(&abuse.code())));
    assert!(Abuse::ALL.iter().enumerate().all(|(at, abuse)| *abuse as usize == at));
}

#[test]
fn time_does_not_go_back() {
    let mut guard = Guard::new(Budget::default());
    let begin = [&PREFACE[..], &settings(&[])].concat();
    assert_eq!(guard.incoming(&begin, u64::MAX), Ok(()));
    // A clock that jumps to and fro gives nothing.
    let refused = (0..2000).find(|n| guard.incoming(&update(0), (n % 2) * SECOND).is_err());
    assert_eq!(refused, Some(1000));
}

/// Marsaglia's xorshift64*, and the last stream opened in order.
struct Random(u64, u32);

impl Random {
    fn seeded(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, 9)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % end
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// A frame that may be odd in every respect.
    fn frame(&mut self) -> Vec<u8> {
        let (kind, stream) = (self.below(11) as u8, self.below(6) as u32);
        let flags = self.pick(&[0, 1, 4, 5, 8, 9, 12, 13, 255]);
        let length = self.pick(&[0, 1, 4, 5, 6, 7, 8, 12, 13, 63, 64, 300, 1200]);
        let payload: Vec<u8> = (0..length).map(|_| self.below(256) as u8 & self.below(256) as u8).collect();
        let mut bytes = frame(kind, flags, stream, &payload);
        if self.below(100) == 0 {
            let at = self.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << self.below(8);
        }
        bytes
    }

    /// Frames that are in order, mostly of one theme, so that budgets are reached.
    fn frames(&mut self, theme: u64) -> Vec<u8> {
        let (theme, stream) =
            (if self.below(4) == 0 { self.below(8) } else { theme }, self.below(9) as u32 + 1);
        match theme {
            0 => {
                self.1 += 2;
                get(self.1)
            }
            1 => self.pick(&[ping().as_slice(), &pong()]).to_vec(),
            2 => settings(&[(4, 9), (self.pick(&[1, 3, 6]), self.pick(&[0, 0, 0, 200_000_000]))]),
            3 => frame(DATA, self.pick(&[0, 0, 1]), stream, &[1; 40][..self.pick(&[0, 0, 1, 9, 40])]),
            4 => reset(stream, self.below(9) as u32),
            5 => update(stream),
            6 => {
                let mut block = frame(HEADERS, 0, stream, &[0; 200]);
                for _ in 0..self.below(3) {
                    block.extend(frame(CONTINUATION, 0, stream, &[0; 200][..self.pick(&[0, 1, 1, 200])]));
                }
                block.extend(frame(CONTINUATION, END_HEADERS, stream, b""));
                block
            }
            _ => self.frame(),
        }
    }
}

/// A budget so small that random traffic reaches every limit.
fn poor() -> Budget {
    let rate = |burst| Rate { burst, per_second: 3 };
    Budget {
        frame_bytes_max: 1000,
        header_block_bytes_max: 500,
        continuations_max: 2,
        header_table_bytes_max: 100_000_000,
        unanswered_max: 3,
        small_data_bytes: 10,
        empty_data: rate(2),
        small_data: rate(4),
        control: Rate { burst: 3, per_second: 1 },
        side: rate(8),
        resets: rate(3),
        opens: Rate { burst: 4, per_second: 1 },
    }
}

#[test]
fn random_traffic_is_judged_the_same_at_every_cut() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 1..=2000 {
        let mut random = Random::seeded(seed);
        let mut steps = vec![In(PREFACE.to_vec(), 0)];
        if random.below(20) > 0 {
            steps.push(In(settings(&[]), 0));
        }
        let (mut now, theme) = (0, random.below(8));
        for _ in 0..random.below(120) {
            now += random.below(SECOND / 2);
            let frames: Vec<u8> = (0..=random.below(3)).flat_map(|_| random.frames(theme)).collect();
            steps.push(if random.below(3) == 0 { Out(frames, now) } else { In(frames, now) });
        }
        let whole = run(poor(), &steps, usize::MAX);
        for piece in [1, 4, 9] {
            assert_eq!(run(poor(), &steps, piece), whole, "seed {seed} in pieces of {piece}");
        }
        seen.extend(whole.map(|(_, abuse)| abuse.name()));
    }
    let missing: Vec<_> =
        Abuse::ALL.iter().map(|abuse| abuse.name()).filter(|name| !seen.contains(name)).collect();
    assert_eq!(missing, ["preface"], "random traffic reaches every rule");
}

#[test]
fn random_bytes_do_not_panic_and_frames_are_walked_to_their_ends() {
    for seed in 1..=1000 {
        let mut random = Random::seeded(seed);
        let bytes: Vec<u8> = (0..random.below(400)).map(|_| random.below(256) as u8 & 15).collect();
        let mut guard = Guard::new(poor());
        let _ = guard.incoming(&[&PREFACE[..], &settings(&[]), &bytes].concat(), 0);
        guard.outgoing(&bytes, 0);
        // A second, simple walk over whole frames.
        let frames: Vec<Vec<u8>> = (0..random.below(20)).map(|_| random.frame()).collect();
        let (mut walk, mut heads, all) = (Frames::default(), 0, frames.concat());
        let (mut at, mut want) = (0, 0);
        while at + 9 <= all.len() {
            at += 9 + u32::from_be_bytes([0, all[at], all[at + 1], all[at + 2]]) as usize;
            want += 1;
        }
        for mut byte in all.chunks(1) {
            heads += u32::from(matches!(walk.next(&mut byte), Some(Part::Head(_))));
            assert!(byte.is_empty());
        }
        assert_eq!((heads, walk.between()), (want, at == all.len()), "seed {seed}");
    }
}
