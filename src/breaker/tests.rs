use std::collections::BTreeMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::*;

const RULES: Rules = Rules {
    enabled: true,
    failures: 3,
    share_percent: 50,
    requests_min: 20,
    window_ms: 10_000,
    open_ms: 1000,
    open_max_ms: 30_000,
};
const OFF: Rules = Rules { enabled: false, ..RULES };

/// What is done to a breaker in a table.
#[derive(Debug, Clone, Copy)]
enum Step {
    Fail(Reason),
    FailOff(Reason),
    Success,
    Connected,
    Try(bool),
    Force(bool),
    OpenFor(u64, Reason),
    Dropped,
    Reset,
}

fn open(until_ms: u64, reason: Reason) -> State {
    State::Open { until_ms, reason }
}

fn half(reason: Reason) -> State {
    State::HalfOpen { reason }
}

/// Each step at its time, and the state after it.
fn play(title: &str, steps: &[(u64, Step, State)]) -> Breaker {
    let breaker = Breaker::default();
    for (at, &(now, step, want)) in steps.iter().enumerate() {
        let before = breaker.state(now);
        let place = format!("{title}, step {at}: {step:?} at {now} ms");
        match step {
            Step::Fail(reason) => {
                let opened = matches!(want, State::Open { .. }) && !matches!(before, State::Open { .. });
                assert_eq!(breaker.failure(now, reason, &RULES), opened, "{place}");
            }
            Step::FailOff(reason) => assert!(!breaker.failure(now, reason, &OFF), "{place}"),
            Step::Success => breaker.success(now),
            Step::Connected => breaker.connected(now),
            Step::Try(won) => assert_eq!(breaker.try_trial(now), won, "{place}"),
            Step::Force(won) => assert_eq!(breaker.force_trial(now), won, "{place}"),
            Step::OpenFor(for_ms, reason) => {
                let opened = !matches!(before, State::Open { .. });
                assert_eq!(breaker.open_for(now, for_ms, reason), opened, "{place}");
            }
            Step::Dropped => breaker.trial_dropped(now),
            Step::Reset => breaker.reset(),
        }
        assert_eq!(breaker.state(now), want, "{place}");
        assert_eq!(breaker.is_closed(), want == State::Closed, "{place}");
        let due = matches!(want, State::Open { until_ms, .. } if until_ms <= now);
        assert_eq!(breaker.is_due(now), due, "{place}");
    }
    breaker
}

#[test]
fn reasons_have_names() {
    use Reason::{Answers, Busy, Missing, None, Timeout, Unreachable};
    let names = [None, Unreachable, Answers, Timeout, Busy, Missing].map(|reason| {
        assert_eq!(Reason::decode(reason.code()), reason);
        reason.name()
    });
    assert_eq!(names, ["none", "unreachable", "answers", "timeout", "busy", "missing"]);
    assert_eq!(Reason::default(), None);
}

#[test]
fn a_run_opens_and_a_trial_decides() {
    use Reason::{Answers, Timeout};
    use State::Closed;
    use Step::{Dropped, Fail, Success, Try};
    play(
        "run",
        &[
            (0, Fail(Answers), Closed),
            (1, Fail(Answers), Closed),
            (2, Success, Closed), // ends the run
            (3, Fail(Answers), Closed),
            (4, Fail(Answers), Closed),
            (5, Fail(Timeout), open(1005, Timeout)),
            (1004, Try(false), open(1005, Timeout)),
            (1005, Dropped, open(1005, Timeout)), // no trial to drop
            (1005, Try(true), half(Timeout)),
            (1005, Try(false), half(Timeout)),
            (1050, Dropped, open(1050, Timeout)), // due at once
            (1050, Try(true), half(Timeout)),
            (1100, Fail(Answers), open(3100, Answers)), // level 1
            (3100, Try(true), half(Answers)),
            (3200, Fail(Timeout), open(7200, Timeout)), // level 2
            (9000, Try(true), half(Timeout)),
            (9001, Success, Closed),
            (9002, Dropped, Closed),
            (9003, Try(false), Closed),
            (9004, Fail(Answers), Closed),
            (9005, Fail(Answers), Closed),
            (9006, Fail(Answers), open(10_006, Answers)), // level 0 again
        ],
    );
}

#[test]
fn stragglers_change_nothing_while_open() {
    use Reason::{Answers, Busy, Missing, Timeout, Unreachable};
    use Step::{Fail, FailOff, Force, OpenFor, Success, Try};
    for reason in [Answers, Timeout, Busy, Unreachable, Missing] {
        let breaker = play(
            "stragglers",
            &[
                (10, OpenFor(500, reason), open(510, reason)),
                (20, Success, open(510, reason)),
                (30, Fail(Answers), open(510, reason)),
                (40, FailOff(Answers), open(510, reason)),
                (600, Success, open(510, reason)), // due: still not closed without a trial
                (600, Fail(Answers), open(510, reason)),
                (600, Try(true), half(reason)),
                (601, Success, State::Closed),
                (602, Force(false), State::Closed),
            ],
        );
        assert_eq!(breaker.window.0.load(Ordering::Relaxed), 0, "nor were they counted");
    }
}

#[test]
fn a_connection_closes_what_was_unreachable_and_keeps_the_level() {
    use Reason::{Answers, Timeout, Unreachable};
    use State::Closed;
    use Step::{Connected, Fail, OpenFor, Success, Try};
    let unreachable = Fail(Unreachable);
    play(
        "flapping",
        &[
            (0, Connected, Closed),
            (0, unreachable, Closed),
            (0, unreachable, Closed),
            (0, Connected, Closed), // no success: the run goes on
            (0, unreachable, open(1000, Unreachable)),
            (400, Connected, Closed), // while open: a probe's, say
            (500, unreachable, Closed),
            (500, unreachable, Closed),
            (500, unreachable, open(2500, Unreachable)), // level 1
            (2500, Try(true), half(Unreachable)),
            (2501, Connected, Closed), // by the trial
            (2502, Fail(Answers), Closed),
            (2503, Fail(Answers), Closed),
            (2504, Fail(Answers), open(6504, Answers)), // level 2
            (6504, Connected, open(6504, Answers)),     // it always connected
            (6504, Try(true), half(Answers)),
            (6505, Connected, half(Answers)),
            (6506, unreachable, open(14_506, Unreachable)), // level 3
            (14_506, Connected, Closed),
            (14_507, Success, Closed), // forgets the level
            (14_508, Fail(Timeout), Closed),
            (14_508, Fail(Timeout), Closed),
            (14_508, Fail(Timeout), open(15_508, Timeout)),
        ],
    );
    play(
        "an order to wait is not a lack of connection",
        &[
            (0, OpenFor(100, Unreachable), open(100, Unreachable)),
            (1, OpenFor(200, Reason::Busy), open(201, Reason::Busy)),
            (2, Connected, open(201, Reason::Busy)),
        ],
    );
}

#[test]
fn open_for_never_shortens() {
    use Reason::{Answers, Busy, Missing};
    use State::Closed;
    use Step::{Fail, OpenFor, Reset, Try};
    play(
        "open_for",
        &[
            (0, OpenFor(5000, Busy), open(5000, Busy)),
            (100, OpenFor(1000, Missing), open(5000, Busy)),
            (100, OpenFor(4900, Missing), open(5000, Busy)), // ends at the same time
            (200, OpenFor(6000, Missing), open(6200, Missing)),
            (7000, OpenFor(100, Busy), open(7100, Busy)), // due, and not yet tried
            (7100, Try(true), half(Busy)),
            (7200, OpenFor(100, Busy), open(7300, Busy)), // the trial's verdict; the level stays
            (7300, Try(true), half(Busy)),
            (7300, Fail(Answers), open(9300, Answers)), // level 1
            (9300, Try(true), half(Answers)),
            (9300, OpenFor(0, Busy), open(9300, Busy)), // due at once
            (9300, Reset, Closed),
            (9301, OpenFor(u64::MAX, Busy), open(9301 + OPEN_MS_MAX, Busy)),
        ],
    );
}

#[test]
fn a_forced_trial_keeps_its_gap() {
    use Reason::Busy;
    use Step::{Dropped, Fail, Force, OpenFor, Try};
    let busy = |until_ms| open(until_ms, Busy);
    play(
        "forced",
        &[
            (64, OpenFor(60_000, Busy), busy(60_064)),
            (64, Force(false), busy(60_064)),
            (191, Force(false), busy(60_064)), // from the first tick not before 164
            (191, Try(false), busy(60_064)),
            (192, Force(true), half(Busy)),
            (192, Force(false), half(Busy)),
            (500, Fail(Busy), busy(2500)), // level 1
            (639, Force(false), busy(2500)),
            (640, Force(true), half(Busy)),
            (650, Dropped, busy(650)),
            (650, Force(true), half(Busy)), // due: no gap
            (651, OpenFor(60, Busy), busy(711)),
            (710, Force(false), busy(711)),
            (711, Force(true), half(Busy)), // its time has passed before the gap
            (800, OpenFor(1000, Busy), busy(1800)),
            (850, OpenFor(1000, Busy), busy(1850)), // extended: the gap begins anew
            (959, Force(false), busy(1850)),
            (960, Force(true), half(Busy)),
        ],
    );
}

#[test]
fn the_gap_is_at_least_its_length_and_less_than_a_tick_longer() {
    for opened in 0..200 {
        for for_ms in [0, 1, 50, 63, 64, 65, 99, 100, 101, 163, 164, 165, 1000, OPEN_MS_MAX] {
            let breaker = Breaker::default();
            breaker.open_for(opened, for_ms, Reason::Busy);
            let first = (opened..).find(|&now| breaker.force_trial(now)).unwrap() - opened;
            let (least, most) = (for_ms.min(TRIAL_GAP_MS), for_ms.min(TRIAL_GAP_MS + TICK_MS - 1));
            assert!((least..=most).contains(&first), "{opened}, {for_ms}: after {first} ms");
        }
    }
}

#[test]
fn rules_that_are_off_open_nothing() {
    use Reason::{Answers, Busy};
    use State::Closed;
    use Step::{Fail, FailOff, OpenFor, Try};
    let mut steps = vec![(0, FailOff(Answers), Closed); 100];
    steps.extend([
        (1, OpenFor(100, Busy), open(101, Busy)),
        (101, Try(true), half(Busy)),
        (102, FailOff(Answers), Closed), // a failed trial closes
        (103, Fail(Answers), Closed),
        (104, Fail(Answers), Closed),
        (105, Fail(Answers), open(1105, Answers)),
    ]);
    play("off", &steps);
}

#[test]
fn a_share_of_the_window_opens() {
    let rules = Rules { failures: 1000, ..RULES };
    let breaker = Breaker::default();
    for now in 0..100 {
        breaker.success(now); // no window runs: not counted
    }
    let mut opened_at = None;
    for now in 100..200 {
        if now % 2 == 0 {
            breaker.success(now);
        } else if breaker.failure(now, Reason::Answers, &rules) {
            opened_at = Some(now);
            break;
        }
    }
    // Failures at 101, 103, …: at the 11th, 11 of 21 attempts failed, and before it 10 of 19 were too few.
    assert_eq!(opened_at, Some(121));
    assert_eq!(breaker.state(121), open(1121, Reason::Answers));

    // One in three is not enough, however many.
    let breaker = Breaker::default();
    for now in 0..3000 {
        if now % 3 == 0 {
            assert!(!breaker.failure(now, Reason::Answers, &rules), "at {now} ms");
        } else {
            breaker.success(now);
        }
    }
}

#[test]
fn a_window_ends() {
    let rules = Rules { failures: 1000, share_percent: 100, requests_min: 4, ..RULES };
    let fail = |breaker: &Breaker, now| breaker.failure(now, Reason::Answers, &rules);
    // 10 000 ms after 64 is 10 064, the next tick 10 112.
    for (last, opens) in [(10_111, true), (10_112, false)] {
        let breaker = Breaker::default();
        assert!(!fail(&breaker, 64) && !fail(&breaker, 65) && !fail(&breaker, 10_000));
        assert_eq!(fail(&breaker, last), opens, "at {last} ms");
    }
    // A success that finds it ended clears it, so that no count is left for when ticks have wrapped.
    let breaker = Breaker::default();
    fail(&breaker, 64);
    breaker.success(10_111);
    assert_eq!(Counts::unpack(breaker.window.0.load(Ordering::Relaxed)).attempts, 2);
    breaker.success(10_112);
    assert_eq!(breaker.window.0.load(Ordering::Relaxed), 0);
}

#[test]
fn a_window_has_a_greatest_length() {
    let rules = Rules { failures: 1000, share_percent: 100, requests_min: 2, window_ms: u64::MAX, ..RULES };
    for (last, opens) in [(WINDOW_MS_MAX - 1, true), (WINDOW_MS_MAX, false)] {
        let breaker = Breaker::default();
        assert!(!breaker.failure(0, Reason::Answers, &rules));
        assert_eq!(breaker.failure(last, Reason::Answers, &rules), opens, "at {last} ms");
    }
}

#[test]
fn windows_run_over_the_end_of_the_ticks() {
    let wrap_ms = (TICKS_MASK + 1) * TICK_MS;
    for window_ms in [1000, 3_600_000, WINDOW_MS_MAX] {
        for start in [wrap_ms - 500, wrap_ms - 64, wrap_ms, 5 * wrap_ms - 1] {
            let counts = Counts::new(start, window_ms).plus(1);
            let end = (start + window_ms).next_multiple_of(TICK_MS);
            assert!(counts.is_running(start) && counts.is_running(end - 1), "{window_ms} from {start}");
            assert!(counts.is_running(start - 60_000), "another thread's clock may lag");
            assert!(!counts.is_running(end) && !counts.is_running(end + wrap_ms / 2));
        }
    }
}

#[test]
fn words_keep_their_fields_at_the_limits() {
    let reasons = [Reason::None, Reason::Unreachable, Reason::Answers, Reason::Timeout, Reason::Busy];
    for reason in [reasons.as_slice(), &[Reason::Missing]].concat() {
        for level in [0, 1, LEVEL_MAX] {
            let mut words = vec![Word::HalfOpen { level, reason }];
            words.extend([0, 1, u32::MAX].map(|run| Word::Closed { level, run }));
            for until_ms in [0, 1, 1 << 40, TIME_MAX] {
                let last = until_ms.div_ceil(TICK_MS);
                for early in [0, 1, EARLY_MAX] {
                    let forced_ms = last.saturating_sub(early) * TICK_MS;
                    words.push(Word::Open { level, reason, until_ms, forced_ms });
                }
            }
            for word in words {
                assert_eq!(Word::unpack(word.pack()), word);
            }
        }
    }
    for end in [0, TICKS_MASK] {
        for (attempts, failures) in [(1, 0), (1, 1), (COUNT_MAX, 0), (COUNT_MAX, COUNT_MAX)] {
            let counts = Counts { end, attempts, failures };
            assert_eq!(Counts::unpack(counts.pack()), counts);
        }
    }
}

#[test]
fn late_times_and_high_levels_saturate() {
    for start in [1 << 40, TIME_MAX - 1, TIME_MAX, u64::MAX] {
        let breaker = Breaker::default();
        let mut now: u64 = start;
        for level in 0..40u32 {
            let before = now.min(TIME_MAX);
            while !breaker.failure(now, Reason::Timeout, &RULES) {}
            let State::Open { until_ms, reason } = breaker.state(now) else { panic!("not open") };
            let time = 30_000.min(1000 << level.min(20));
            assert_eq!((until_ms, reason), ((before + time).min(TIME_MAX), Reason::Timeout));
            assert_eq!(breaker.word().level(), level.min(LEVEL_MAX));
            now = now.saturating_add(time);
            assert!(breaker.try_trial(now), "level {level} from {start}");
            assert_eq!(breaker.state(now), half(Reason::Timeout));
        }
        breaker.success(now);
        assert_eq!(breaker.state(now), State::Closed);
    }
    let endless = Rules { open_ms: u64::MAX, open_max_ms: u64::MAX, window_ms: u64::MAX, ..RULES };
    let breaker = Breaker::default();
    while !breaker.failure(7, Reason::Timeout, &endless) {}
    assert_eq!(breaker.state(7), open(7 + OPEN_MS_MAX, Reason::Timeout));
}

#[test]
fn runs_and_counts_saturate() {
    let rules = Rules { failures: u32::MAX, share_percent: 100, requests_min: u32::MAX, ..RULES };
    let breaker = Breaker::default();
    let run = |run| Word::Closed { level: 7, run }.pack();
    breaker.state.store(run(u32::MAX - 2), Ordering::Relaxed);
    assert!(!breaker.failure(5, Reason::Answers, &rules));
    assert_eq!(breaker.word(), Word::Closed { level: 7, run: u32::MAX - 1 });
    assert!(breaker.failure(5, Reason::Answers, &rules));
    assert_eq!(breaker.word().level(), 7);

    // The window: 131 071 is the greatest least number of attempts; halves keep the share.
    let window = Window::default();
    let reached = (1..=200_000).find(|_| window.failure(0, &rules));
    assert_eq!(reached, Some(u64::from(REQUESTS_MIN_MAX)));
    let at = |window: &Window| Counts::unpack(window.0.load(Ordering::Relaxed));
    for _ in 0..2 * COUNT_MAX {
        window.failure(0, &rules);
        let counts = at(&window);
        assert!(counts.failures == counts.attempts && counts.attempts <= COUNT_MAX, "{counts:?}");
        assert!(window.failure(0, &rules), "{counts:?}");
    }
    let before = at(&window);
    for _ in 0..4 * COUNT_MAX {
        window.success(0);
    }
    let after = at(&window);
    assert!(after.end == before.end && after.attempts > COUNT_MAX / 2, "{after:?}");
    assert!(after.failures * 8 < after.attempts, "{after:?}");
}

#[test]
fn who_was_overtaken_decides_anew() {
    let word = AtomicU64::new(1);
    let mut seen = Vec::new();
    let new = swap(&word, |old| {
        seen.push(old);
        if seen.len() < 3 {
            word.store(old * 10, Ordering::Relaxed); // another thread, between the look and the swap
        }
        Some(old + 1)
    });
    assert_eq!((new, word.load(Ordering::Relaxed)), (Some(101), 101));
    assert_eq!(seen.get(..3), Some([1, 10, 100].as_slice()));
    assert_eq!(swap(&word, |_| None), None);

    // A trial that was taken between the look and the swap is lost; so is one whose open time was extended.
    let breaker = Breaker::default();
    breaker.open_for(0, 0, Reason::Busy);
    assert!(!breaker.trial(|_, _| breaker.try_trial(0)));
    assert_eq!(breaker.state(0), half(Reason::Busy));
    breaker.trial_dropped(5);
    assert!(!breaker.trial(|_, _| {
        breaker.open_for(5, 1000, Reason::Missing);
        true
    }));
    assert_eq!(breaker.state(5), open(1005, Reason::Missing));
}

/// Runs it in eight threads that begin together.
fn together(work: impl Fn(u32) + Sync) {
    let barrier = Barrier::new(8);
    thread::scope(|scope| {
        for thread in 0..8 {
            let (barrier, work) = (&barrier, &work);
            scope.spawn(move || {
                barrier.wait();
                work(thread);
            });
        }
    });
}

#[test]
fn one_of_eight_threads_gets_the_trial() {
    let breaker = Breaker::default();
    let (barrier, winners) = (Barrier::new(8), AtomicU32::new(0));
    together(|thread| {
        for round in 0..400u64 {
            if thread == 0 {
                breaker.open_for(round * 1000, 500, Reason::Busy);
                winners.store(0, Ordering::Relaxed);
            }
            barrier.wait();
            let now = round * 1000 + 300 + round % 2 * 200; // by force, or due
            let force = thread % 2 == 0 || round % 2 == 0;
            let won = if force { breaker.force_trial(now) } else { breaker.try_trial(now) };
            winners.fetch_add(u32::from(won), Ordering::Relaxed);
            barrier.wait();
            assert_eq!(winners.load(Ordering::Relaxed), 1, "round {round}");
            assert_eq!(breaker.state(now), half(Reason::Busy));
            barrier.wait();
        }
    });
}

#[test]
fn never_two_trials_at_once() {
    let breaker = Breaker::default();
    let (running, trials) = (AtomicU32::new(0), AtomicU32::new(0));
    breaker.open_for(0, 0, Reason::Answers);
    together(|thread| {
        for _ in 0..50_000 {
            let won = if thread % 2 == 0 { breaker.try_trial(1) } else { breaker.force_trial(1) };
            if won {
                assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
                trials.fetch_add(1, Ordering::Relaxed);
                running.fetch_sub(1, Ordering::SeqCst);
                breaker.trial_dropped(1);
            }
        }
    });
    assert_eq!(breaker.state(1), open(1, Reason::Answers));
    assert!(trials.into_inner() > 0);
}

#[test]
fn threads_lose_no_failure_and_one_sees_it_open() {
    const EACH: u32 = 50_000;
    for (failures, opens) in [(8 * EACH, 1), (8 * EACH + 1, 0), (8, 1)] {
        let rules = Rules { failures, share_percent: 101, ..RULES };
        let (breaker, opened) = (Breaker::default(), AtomicU32::new(0));
        together(|_| {
            for _ in 0..EACH {
                let new = breaker.failure(0, Reason::Answers, &rules);
                opened.fetch_add(u32::from(new), Ordering::Relaxed);
            }
        });
        assert_eq!(opened.into_inner(), opens, "{failures}");
        assert_eq!(breaker.is_closed(), opens == 0);
    }
}

#[test]
fn threads_lose_no_count_of_the_window() {
    let rules = Rules { failures: u32::MAX, share_percent: 100, ..RULES };
    let breaker = Breaker::default();
    breaker.failure(0, Reason::Answers, &rules);
    breaker.success(0);
    together(|thread| {
        for _ in 0..30_000 {
            if thread % 4 == 0 {
                breaker.failure(1, Reason::Answers, &rules);
            } else {
                breaker.success(1);
            }
        }
    });
    let counts = Counts::unpack(breaker.window.0.load(Ordering::Relaxed));
    assert_eq!((counts.attempts, counts.failures), (240_002, 60_001));
}

/// The same breaker, told plainly: no packing, every attempt of a window kept in a list.
#[derive(Debug)]
struct Model {
    mode: Mode,
    /// How often the open time has doubled, or will have when it opens.
    doublings: u32,
    run: u32,
    window: Option<(u64, Vec<bool>)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Closed,
    Open { since: u64, until: u64, reason: Reason },
    Half(Reason),
}

impl Model {
    fn close(&mut self, doublings: u32) {
        (self.mode, self.run, self.doublings) = (Mode::Closed, 0, doublings.min(15));
    }

    fn open(&mut self, since: u64, for_ms: u64, reason: Reason) {
        self.mode = Mode::Open { since, until: since + for_ms.min(1_800_000), reason };
    }

    fn open_doubled(&mut self, now: u64, reason: Reason, rules: &Rules) {
        let mut time = rules.open_ms;
        (0..self.doublings).for_each(|_| time *= 2);
        self.open(now, time.min(rules.open_max_ms), reason);
        self.window = None;
    }

    /// Adds to the window that runs, if one does.
    fn count(&mut self, now: u64, failed: bool) -> bool {
        self.window.take_if(|(end, _)| now >= *end);
        self.window.as_mut().is_some_and(|(_, attempts)| {
            attempts.push(failed);
            true
        })
    }

    fn success(&mut self, now: u64) {
        match self.mode {
            Mode::Open { .. } => {}
            Mode::Half(_) => self.close(0),
            Mode::Closed => {
                self.close(0);
                self.count(now, false);
            }
        }
    }

    /// Why it opened.
    fn failure(&mut self, now: u64, reason: Reason, rules: &Rules) -> Option<&'static str> {
        match self.mode {
            Mode::Open { .. } => None,
            Mode::Half(_) if !rules.enabled => {
                self.close(0);
                None
            }
            Mode::Half(_) => {
                self.doublings = (self.doublings + 1).min(15);
                self.open_doubled(now, reason, rules);
                Some("opened by a trial")
            }
            Mode::Closed if !rules.enabled => None,
            Mode::Closed => {
                if !self.count(now, true) {
                    self.window = Some(((now + rules.window_ms).next_multiple_of(64), vec![true]));
                }
                self.run += 1;
                let attempts = &self.window.as_ref().unwrap().1;
                let failed = attempts.iter().filter(|failed| **failed).count();
                let share = failed as f64 / attempts.len() as f64 >= f64::from(rules.share_percent) / 100.0;
                let why = if self.run >= rules.failures {
                    "opened by a run"
                } else if share && attempts.len() >= rules.requests_min as usize {
                    "opened by a share"
                } else {
                    return None;
                };
                self.open_doubled(now, reason, rules);
                Some(why)
            }
        }
    }

    fn connected(&mut self) -> bool {
        let closes = matches!(
            self.mode,
            Mode::Open { reason: Reason::Unreachable, .. } | Mode::Half(Reason::Unreachable)
        );
        if closes {
            self.close(self.doublings + 1);
        }
        closes
    }

    fn open_for(&mut self, now: u64, for_ms: u64, reason: Reason) -> bool {
        match self.mode {
            Mode::Open { until, .. } => {
                if now + for_ms > until {
                    self.open(now, for_ms, reason);
                }
                false
            }
            _ => {
                self.open(now, for_ms, reason);
                self.window = None;
                true
            }
        }
    }

    fn trial(&mut self, now: u64, force: bool) -> bool {
        let Mode::Open { since, until, reason } = self.mode else { return false };
        let wins = now >= until || force && now >= (since + 100).next_multiple_of(64);
        if wins {
            self.mode = Mode::Half(reason);
        }
        wins
    }

    fn state(&self) -> State {
        match self.mode {
            Mode::Closed => State::Closed,
            Mode::Open { until, reason, .. } => open(until, reason),
            Mode::Half(reason) => half(reason),
        }
    }
}

#[test]
fn random_runs_agree_with_the_model() {
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in 0..256 {
        random_run(seed, &mut seen);
    }
    for event in [
        "opened by a trial",
        "opened by a run",
        "opened by a share",
        "opened by order",
        "closed by a connection",
        "closed by a trial",
        "trial when due",
        "trial by force",
        "trial dropped",
        "straggler",
    ] {
        assert!(seen.get(event).is_some_and(|&times| times >= 100), "{event}: {seen:?}");
    }
}

fn random_run(seed: u64, seen: &mut BTreeMap<&str, u32>) {
    let mut random = Random(seed);
    let rules = random.rules();
    let failing = random.below(100);
    let breaker = Breaker::default();
    let mut model = Model { mode: Mode::Closed, doublings: 0, run: 0, window: None };
    let mut now = random.below(1 << 40);
    for step in 0..600 {
        now += match random.below(20) {
            0 => random.below(20_000),
            1..4 => random.below(500),
            _ => random.below(20),
        };
        let place = format!("seed {seed}, step {step} at {now} ms: {model:?}, {rules:?}");
        let before = model.mode;
        let reason = random.reason();
        let event = match random.below(100) {
            0..60 if random.below(100) < failing => {
                let why = model.failure(now, reason, &rules);
                assert_eq!(breaker.failure(now, reason, &rules), why.is_some(), "{place}");
                why
            }
            0..60 => {
                model.success(now);
                breaker.success(now);
                match before {
                    Mode::Half(_) => Some("closed by a trial"),
                    Mode::Open { .. } => Some("straggler"),
                    Mode::Closed => None,
                }
            }
            60..75 => {
                let won = model.trial(now, false);
                assert_eq!(breaker.try_trial(now), won, "{place}");
                won.then_some("trial when due")
            }
            75..85 => {
                let won = model.trial(now, true);
                assert_eq!(breaker.force_trial(now), won, "{place}");
                won.then_some("trial by force")
            }
            85..91 => {
                breaker.connected(now);
                model.connected().then_some("closed by a connection")
            }
            91..94 => {
                let for_ms = random.below(3000);
                let opened = model.open_for(now, for_ms, reason);
                assert_eq!(breaker.open_for(now, for_ms, reason), opened, "{place}");
                opened.then_some("opened by order")
            }
            94..99 => {
                breaker.trial_dropped(now);
                if let Mode::Half(reason) = before {
                    model.open(now, 0, reason);
                }
                matches!(before, Mode::Half(_)).then_some("trial dropped")
            }
            _ => {
                model = Model { mode: Mode::Closed, doublings: 0, run: 0, window: None };
                breaker.reset();
                None
            }
        };
        assert_eq!(breaker.state(now), model.state(), "{place}");
        assert_eq!(breaker.is_closed(), model.mode == Mode::Closed, "{place}");
        let due = matches!(model.mode, Mode::Open { until, .. } if until <= now);
        assert_eq!(breaker.is_due(now), due, "{place}");
        if let Some(event) = event {
            *seen.entry(event).or_default() += 1;
        }
    }
}

/// A seeded generator for tests (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    fn reason(&mut self) -> Reason {
        use Reason::{Answers, Busy, Missing, None, Timeout, Unreachable};
        self.pick(&[None, Unreachable, Unreachable, Answers, Timeout, Busy, Missing])
    }

    fn rules(&mut self) -> Rules {
        Rules {
            enabled: self.below(16) != 0,
            failures: self.pick(&[1, 2, 3, 5, 50]),
            share_percent: self.pick(&[1, 20, 50, 75, 100]),
            requests_min: self.pick(&[1, 4, 10, 20, 1000]),
            window_ms: self.pick(&[1000, 2500, 10_000]),
            open_ms: self.pick(&[100, 250, 1000]),
            open_max_ms: self.pick(&[1000, 5000, 600_000, 7_200_000]),
        }
    }
}
