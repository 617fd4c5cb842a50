use super::*;

fn bells(shards: usize) -> Arc<[Bell]> {
    (0..shards).map(|_| Bell::default()).collect()
}

/// One that nobody else waits for.
fn thing() -> &'static Flow {
    Box::leak(Box::default())
}

/// Shards in one thread: waiters are numbers, and whoever is called takes its place at once.
struct Hosts {
    hall: Hall,
    places: Arc<Places>,
    lines: Vec<Line<usize>>,
}

impl Hosts {
    fn new(shards: usize, max: u32) -> Self {
        let places = Places::new(max, bells(shards));
        Self { hall: Hall::default(), places, lines: (0..shards).map(|_| Line::default()).collect() }
    }
}

#[test]
fn flows_that_always_wait_get_equal_shares() {
    for (shards, rates) in [(1, vec![1, 2, 8]), (3, vec![1, 1, 1, 30]), (2, vec![5, 20])] {
        let mut hosts = Hosts::new(shards, 1);
        let flows: Vec<Flow> = rates.iter().map(|_| Flow::default()).collect();
        let mut tickets: Vec<Option<(Ticket<'_>, usize, Key, usize)>> = Vec::new();
        let mut served = vec![0u32; rates.len()];
        let (hall, mut held) = (&hosts.hall, hosts.places.take());
        for now in 0..3000u64 {
            for (flow, rate) in rates.iter().enumerate() {
                for turn in 0..*rate {
                    let Some(ticket) = hall.enter(&flows[flow], thing(), 64, now) else { continue };
                    let shard = (flow + turn + now as usize) % shards;
                    let wants = vec![Arc::clone(&hosts.places)];
                    let key = hosts.lines[shard].join(shard, ticket.tag(), 0, wants, tickets.len());
                    tickets.push(Some((ticket, shard, key, flow)));
                }
            }
            drop(held.take());
            let shard = hosts.places.next_shard().unwrap();
            let number = hosts.lines[shard].next(shard, |_| true).unwrap();
            let (ticket, shard, key, flow) = tickets[number].take().unwrap();
            held = Some(hosts.places.take().unwrap());
            hosts.lines[shard].leave(shard, key);
            ticket.served(now);
            served[flow] += 1;
        }
        let (sum, squares) =
            served.iter().fold((0.0, 0.0), |(s, q), &n| (s + f64::from(n), q + f64::from(n) * f64::from(n)));
        let jain = sum * sum / (served.len() as f64 * squares);
        assert!(jain > 0.99, "{shards} shards, rates {rates:?}: {served:?}, Jain {jain}");
    }
}

#[test]
fn one_flow_leaves_room_for_another() {
    let (hall, greedy, rare) = (Hall::default(), Flow::default(), Flow::default());
    let held: Vec<_> = std::iter::from_fn(|| hall.enter(&greedy, thing(), 90, 0)).take(200).collect();
    assert_eq!(held.len(), 60, "two thirds");
    let other = hall.enter(&rare, thing(), 90, 0).unwrap();
    assert_eq!(other.tag(), 0, "it waits for nobody's backlog");
    assert_eq!(held.last().unwrap().tag(), 59);
    drop(held);
    drop(other);
    assert_eq!((hall.waiting(), greedy.waiting.load(Ordering::Relaxed)), (0, 0));
    assert!(hall.enter(&greedy, thing(), 0, 0).is_none());
    assert_eq!(hall.waiting(), 0, "a refusal leaves nothing");
}

#[test]
fn who_gives_up_leaves_its_turn_to_its_flow() {
    let (hall, flow) = (Hall::default(), Flow::default());
    for _ in 0..100 {
        drop(hall.enter(&flow, thing(), 10, 0).unwrap());
    }
    assert_eq!(hall.enter(&flow, thing(), 10, 0).unwrap().tag(), 0);
}

#[test]
fn the_wait_is_told_as_it_goes() {
    let (hall, flow) = (Hall::default(), Flow::default());
    assert_eq!(hall.wait_ms(), 0, "nothing is known");
    for now in 1..50u64 {
        let first = hall.enter(&flow, thing(), 10, (now - 1) * 200_000).unwrap();
        let _second = hall.enter(&flow, thing(), 10, now * 200_000).unwrap();
        first.served(now * 200_000);
    }
    assert_eq!(hall.wait_ms(), 200);
    let _waiting: Vec<_> = (0..3).map(|_| hall.enter(&flow, thing(), 10, 50 * 200_000).unwrap()).collect();
    assert_eq!(hall.wait_ms(), 800);
}

#[test]
fn places_are_exact_under_threads_and_nobody_is_forgotten() {
    const SHARDS: usize = 4;
    let bells = bells(SHARDS);
    let places = Places::new(3, Arc::clone(&bells));
    let (hall, served, most) = (Hall::default(), AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for shard in 0..SHARDS {
            let (bells, places, hall, served, most) = (&bells, &places, &hall, &served, &most);
            scope.spawn(move || {
                let (flow, mut line) = (Flow::default(), Line::default());
                for _ in 0..2000u64 {
                    let ticket = hall.enter(&flow, thing(), 1000, 0).unwrap();
                    let key = line.join(shard, ticket.tag(), 0, vec![Arc::clone(places)], ());
                    let place = loop {
                        if line.next(shard, |()| true).is_some()
                            && let Some(place) = places.take()
                        {
                            break place;
                        }
                        while !bells[shard].rung.swap(false, Ordering::AcqRel) && !places.has_room() {
                            std::thread::yield_now();
                        }
                    };
                    line.leave(shard, key);
                    ticket.served(0);
                    most.fetch_max(places.taken(), Ordering::Relaxed);
                    drop(place);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!((served.into_inner(), places.taken(), hall.waiting()), (8000, 0, 0));
    assert!(!places.is_waited_for() && places.next_shard().is_none());
    assert!(most.into_inner() >= 1);
}

#[test]
fn who_declines_stands_in_nobodys_way() {
    let all = bells(2);
    let (p, q) = (Places::new(4, Arc::clone(&all)), Places::new(1, Arc::clone(&all)));
    let held = q.take().unwrap();
    let (mut first, mut second) = (Line::default(), Line::default());
    // The first shard's waiters have the least tags and cannot use `p`; the second shard's wants nothing else.
    let keys: Vec<Key> =
        (0..3).map(|tag| first.join(0, tag, 7, vec![Arc::clone(&p), Arc::clone(&q)], tag)).collect();
    let other = second.join(1, 9, 8, vec![Arc::clone(&p)], 9);
    assert_eq!((first.next(0, |_| true), second.next(1, |_| true)), (Some(0), None), "in the order of tags");
    first.decline(0, keys[0]);
    assert_eq!(first.next(0, |_| true), None, "nor can others of its kind");
    assert!(all[1].rung.load(Ordering::Relaxed), "the other shard hears of it");
    assert_eq!(second.next(1, |_| true), Some(9));
    second.leave(1, other);
    drop(held);
    assert!(all[0].rung.load(Ordering::Relaxed), "what they still wait for has come");
    assert_eq!(first.next(0, |_| true), Some(0));
    first.refresh(0);
    assert_eq!((p.next_shard(), first.next(0, |&tag| tag != 0)), (Some(0), Some(1)), "all anew");
    keys.into_iter().for_each(|key| first.leave(0, key));
    assert!(p.next_shard().is_none() && !p.is_waited_for() && !q.is_waited_for());
}

#[test]
fn one_thing_leaves_room_for_another() {
    let (hall, model, flows) = (Hall::default(), Flow::default(), [(); 200].map(|()| Flow::default()));
    let held: Vec<_> = flows.iter().map_while(|flow| hall.enter(flow, &model, 90, 0)).collect();
    assert_eq!(held.len(), 88, "nearly all, though each is alone");
    assert!(hall.enter(&flows[100], thing(), 90, 0).is_some());
}

#[test]
fn a_look_at_the_line_says_who_may_join_it() {
    let (hall, flows, things) = (Hall::default(), [Flow::default(), Flow::default()], [thing(), thing()]);
    let mut held = Vec::new();
    for turn in 0..200usize {
        let (flow, thing) = (&flows[turn % 3 % 2], things[turn % 5 % 2]);
        let room = hall.has_room(flow, thing, 30);
        let waiting = hall.waiting();
        let ticket = hall.enter(flow, thing, 30, 0);
        assert_eq!(ticket.is_some(), room, "turn {turn}, {waiting} wait");
        held.extend(ticket);
        if turn % 7 == 0 {
            held.pop();
        }
    }
    assert!(!held.is_empty() && held.len() <= 30);
}
