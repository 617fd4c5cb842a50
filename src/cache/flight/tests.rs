use std::sync::atomic::AtomicBool;
use std::task::Wake;

use super::*;

/// Knows whether it was woken.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Task {
    follower: Follower,
    flag: Arc<Flag>,
}

impl Task {
    fn new(follower: Follower) -> Self {
        Self { follower, flag: Arc::default() }
    }

    fn next(&mut self) -> Option<Step> {
        self.flag.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&self.flag));
        match self.follower.poll_next(&Context::from_waker(&waker)) {
            Poll::Ready(step) => Some(step),
            Poll::Pending => None,
        }
    }

    fn is_woken(&self) -> bool {
        self.flag.0.load(Ordering::Relaxed)
    }
}

const KEY: Key = Key([5; 32]);

fn lead(flights: &Arc<Flights>) -> Lead {
    match flights.board(KEY) {
        Boarding::Lead(lead) => lead,
        Boarding::Follow(_) => panic!("somebody leads"),
    }
}

fn follow(flights: &Arc<Flights>) -> Task {
    match flights.board(KEY) {
        Boarding::Follow(follower) => Task::new(follower),
        Boarding::Lead(_) => panic!("nobody leads"),
    }
}

fn failure(text: &str) -> Failure {
    Failure::new(FailureKind::UpstreamBroken, text)
}

fn stored() -> Arc<Stored> {
    Arc::new(Stored {
        is_stream: false,
        content_type: [][..].into(),
        body: "answer".into(),
        usage: Usage::default(),
        made_ms: 0,
        ttl_ms: 1,
    })
}

#[test]
fn all_get_one_answer() {
    let flights = Flights::new(1000);
    let leader = lead(&flights);
    assert!(!leader.has_followers());
    let mut tasks: Vec<Task> = (0..1000).map(|_| follow(&flights)).collect();
    assert!(leader.has_followers());
    assert!(tasks.iter_mut().all(|task| task.next().is_none()));
    leader.whole(Head::default(), stored());
    assert_eq!(flights.count(), 0);
    for task in &mut tasks {
        assert!(task.is_woken());
        assert!(matches!(task.next(), Some(Step::Whole(_, answer)) if answer.body == "answer"));
    }
    let _ = lead(&flights); // it is over
}

#[test]
fn who_comes_late_gets_what_has_come() {
    let flights = Flights::new(1000);
    let leader = lead(&flights);
    let mut early = follow(&flights);
    assert!(early.next().is_none());
    leader.begin(Head { model: Some("m".into()), ..Head::default() });
    assert!(early.is_woken());
    assert!(matches!(early.next(), Some(Step::Begin(head)) if head.model.as_deref() == Some("m")));
    assert!(early.next().is_none());
    assert!(leader.push(b"one ") && leader.push(b"two "));
    let mut late = follow(&flights);
    let mut own = Task::new(leader.follow());
    assert!(matches!(late.next(), Some(Step::Begin(_))));
    assert!(matches!(late.next(), Some(Step::More(more)) if more == b"one two "));
    assert!(leader.push(b"three"));
    assert_eq!(leader.streamed().as_deref(), Some(&b"one two three"[..]));
    leader.done(Usage { output: 3, ..Usage::default() }, Said::default());
    assert!(matches!(early.next(), Some(Step::More(more)) if more == b"one two three"));
    for task in [&mut late, &mut own] {
        assert!(matches!(task.next(), Some(Step::More(more)) if more == b"three"));
    }
    for task in [&mut early, &mut late, &mut own] {
        assert!(matches!(task.next(), Some(Step::Done(usage, _)) if usage.output == 3));
    }
}

#[test]
fn a_leader_that_leaves_hands_over_once() {
    let flights = Flights::new(1000);
    let leader = lead(&flights);
    let mut tasks: Vec<Task> = (0..3).map(|_| follow(&flights)).collect();
    tasks.iter_mut().for_each(|task| assert!(task.next().is_none()));
    drop(leader);
    assert_eq!(tasks.iter().filter(|task| task.is_woken()).count(), 1);
    let woken = tasks.iter().position(Task::is_woken).unwrap();
    // The one that was called leaves at that moment: the next one is called.
    drop(tasks.remove(woken));
    assert_eq!(tasks.iter().filter(|task| task.is_woken()).count(), 1);
    tasks.sort_by_key(|task| !task.is_woken());
    let mut second = tasks.remove(0);
    let Some(Step::Lead(leader)) = second.next() else { panic!("it leads now") };
    drop(second);
    let mut third = tasks.remove(0);
    let mut fourth = follow(&flights);
    assert!(third.next().is_none() && fourth.next().is_none());
    drop(leader);
    assert!(matches!(third.next(), Some(Step::Alone)) && matches!(fourth.next(), Some(Step::Alone)));
    let _ = lead(&flights);
}

#[test]
fn nobody_is_left_to_hand_over_to() {
    let flights = Flights::new(1000);
    drop(lead(&flights));
    assert_eq!(flights.count(), 0);
    let leader = lead(&flights);
    let task = follow(&flights);
    drop(leader);
    drop(task);
    assert_eq!(flights.count(), 0);
}

#[test]
fn failures_of_the_request_are_everybodys() {
    let flights = Flights::new(1000);
    let leader = lead(&flights);
    let mut task = follow(&flights);
    leader.refused(&failure("it is too long"));
    assert!(matches!(task.next(), Some(Step::Failed(failure)) if failure.message == "it is too long"));

    let leader = lead(&flights);
    let mut task = follow(&flights);
    leader.begin(Head::default());
    assert!(leader.push(b"half"));
    drop(leader);
    assert!(matches!(task.next(), Some(Step::Begin(_))));
    assert!(matches!(task.next(), Some(Step::More(more)) if more == b"half"));
    assert!(matches!(task.next(), Some(Step::Failed(_))), "never a silent end");
}

#[test]
fn what_is_held_has_a_bound() {
    let flights = Flights::new(100);
    let leader = lead(&flights);
    let (mut fast, mut slow) = (follow(&flights), follow(&flights));
    leader.begin(Head::default());
    assert!(matches!(fast.next(), Some(Step::Begin(_))) && matches!(slow.next(), Some(Step::Begin(_))));
    for _ in 0..10 {
        assert!(leader.push(&[b'x'; 30]));
        assert!(matches!(fast.next(), Some(Step::More(more)) if more.len() == 30));
        assert!(leader.bytes() <= 130, "{}", leader.bytes());
    }
    assert!(leader.streamed().is_none(), "it is too long to be kept");
    assert_eq!(flights.count(), 0, "nobody may join");
    assert!(matches!(slow.next(), Some(Step::Failed(failure)) if failure.message.contains("too slowly")));
    drop((fast, slow));
    assert!(!leader.push(b"x"), "nobody needs it");
    assert_eq!(leader.bytes(), 0);
}

#[test]
fn an_endpoint_is_read_as_the_fastest_takes_it() {
    let flights = Flights::new(1 << 20);
    let leader = lead(&flights);
    let (mut fast, _slow) = (follow(&flights), follow(&flights));
    leader.begin(Head::default());
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(Arc::clone(&flag));
    let wanted = || leader.poll_wanted(&Context::from_waker(&waker));
    assert_eq!(wanted(), Poll::Ready(true));
    assert!(leader.push(&vec![b'x'; 64 * 1024]));
    assert_eq!(wanted(), Poll::Pending);
    assert!(matches!(fast.next(), Some(Step::Begin(_))) && !flag.0.load(Ordering::Relaxed));
    assert!(matches!(fast.next(), Some(Step::More(_))) && flag.0.load(Ordering::Relaxed));
    assert_eq!(wanted(), Poll::Ready(true));
    drop((fast, _slow));
    assert_eq!(wanted(), Poll::Ready(false));
    assert_eq!(leader.poll_left(&Context::from_waker(&waker)), Poll::Ready(()));
}

/// Any order of joining, pushing, taking, leaving and failing: whoever stays gets every byte in order, or is told.
#[test]
fn any_order_loses_nothing() {
    for seed in 1..2000u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let flights = Flights::new(64);
        let mut leader = Some(lead(&flights));
        let mut tasks: Vec<(Task, Vec<u8>, bool)> = Vec::new();
        let (mut sent, mut begun) = (Vec::new(), false);
        for _ in 0..60 {
            match random(8) {
                0 | 1 if tasks.len() < 5 && leader.is_some() => match flights.board(KEY) {
                    Boarding::Follow(follower) => tasks.push((Task::new(follower), Vec::new(), false)),
                    Boarding::Lead(other) => drop(other),
                },
                2 if !tasks.is_empty() => {
                    let at = usize::try_from(random(tasks.len() as u64)).unwrap();
                    drop(tasks.swap_remove(at));
                }
                3 => {
                    if let Some(leader) = leader.as_ref().filter(|_| !begun) {
                        leader.begin(Head::default());
                        begun = true;
                    }
                }
                4 | 5 if begun => {
                    if let Some(leader) = &leader {
                        let more = format!("<{}>", sent.len()).into_bytes();
                        if leader.push(&more) {
                            sent.extend_from_slice(&more);
                        }
                    }
                }
                6 if random(10) == 0 => {
                    if let Some(leader) = leader.take() {
                        if begun { leader.done(Usage::default(), Said::default()) } else { drop(leader) }
                    }
                }
                _ => {
                    for (task, got, over) in tasks.iter_mut().filter(|(_, _, over)| !over) {
                        match task.next() {
                            Some(Step::More(more)) => got.extend_from_slice(&more),
                            Some(Step::Done(..)) => {
                                assert_eq!(got, &sent, "seed {seed}");
                                *over = true;
                            }
                            Some(Step::Failed(_) | Step::Alone) => *over = true,
                            Some(Step::Lead(next)) => {
                                assert!(leader.is_none() && !begun, "seed {seed}: two lead");
                                leader = Some(next);
                                *over = true;
                            }
                            Some(Step::Begin(_)) | None => {}
                            Some(Step::Whole(..)) => panic!("seed {seed}: nobody said so"),
                        }
                        assert!(sent.starts_with(got), "seed {seed}: {got:?} of {sent:?}");
                    }
                }
            }
        }
        drop((leader, tasks));
        assert_eq!(flights.count(), 0, "seed {seed}");
    }
}

#[test]
fn a_flight_is_given_up_only_where_nobody_follows() {
    let flights = Flights::new(1000);
    let leader = lead(&flights);
    leader.begin(Head::default());
    let task = follow(&flights);
    let leader = leader.retire().expect("somebody follows");
    drop(task);
    assert!(leader.retire().is_none());
    assert_eq!(flights.count(), 0);
    let _ = lead(&flights);
}
