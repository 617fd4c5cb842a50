use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::*;

fn limit(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

#[test]
fn permits_are_counted_and_end_with_their_value() {
    let counts = Concurrency::new(8);
    let first = counts.acquire(1, limit(2)).unwrap();
    let second = counts.acquire(1, limit(2)).unwrap();
    assert!(counts.acquire(1, limit(2)).is_none());
    let other = counts.acquire(2, limit(2));
    assert!(other.is_some(), "clients do not count for each other");
    drop(first);
    assert_eq!(counts.count(1), 1);
    let third = counts.acquire(1, limit(2)).unwrap();
    drop((second, third, other));
    assert_eq!((counts.count(1), counts.table().used()), (0, 0), "an entry at zero is free");
}

#[test]
fn routes_share_the_count_and_have_their_own_limits() {
    let counts = Concurrency::new(8);
    let permits: Vec<Permit> = (0..5).map_while(|_| counts.acquire(9, limit(10))).collect();
    assert_eq!(permits.len(), 5);
    assert!(counts.acquire(9, limit(5)).is_none(), "five are going on elsewhere");
    assert!(counts.acquire(9, limit(6)).is_some());
    assert_eq!(counts.count(9), 5, "neither the refusal nor the permit that ended at once has left a trace");
}

#[test]
fn a_full_table_refuses_new_clients_until_one_is_gone() {
    let counts = Concurrency::new(16);
    let mut permits: Vec<Permit> = (1..=16).map_while(|n| counts.acquire(n << 40, limit(1))).collect();
    assert_eq!(permits.len(), 16);
    assert!(counts.acquire(17 << 40, limit(1)).is_none());
    permits.pop();
    assert!(counts.acquire(17 << 40, limit(1)).is_some());
    drop(permits);
    assert_eq!(counts.table().used(), 0);
}

#[test]
fn a_permit_keeps_its_table() {
    let counts = Concurrency::new(8);
    let permit = counts.acquire(1, limit(1)).unwrap();
    assert_eq!(size_of::<Permit>(), 16);
    let weak = Arc::downgrade(&counts);
    drop(counts);
    assert!(weak.upgrade().is_some());
    drop(permit);
    assert!(weak.upgrade().is_none());
}

#[test]
fn threads_never_pass_the_limit_and_end_at_zero() {
    const LIMIT: u32 = 3;
    let (counts, inside, most) = (Concurrency::new(64), AtomicU64::new(0), AtomicU64::new(0));
    let granted: u64 = thread::scope(|scope| {
        let run = || {
            let mut granted = 0;
            for n in 0..20_000 {
                let Some(permit) = counts.acquire(42, limit(LIMIT)) else { continue };
                let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                if n % 16 == 0 {
                    thread::yield_now(); // others shall find it taken
                }
                inside.fetch_sub(1, Ordering::SeqCst);
                drop(permit);
                granted += 1;
            }
            granted
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!(most.load(Ordering::SeqCst) <= u64::from(LIMIT), "{most:?} at once");
    assert!(granted >= u64::from(LIMIT));
    assert_eq!((counts.count(42), counts.table().used()), (0, 0));
}

#[test]
fn a_thousand_at_once_get_exactly_the_limit() {
    const THREADS: usize = 8;
    let barrier = Barrier::new(THREADS);
    for n in [1, 10, 999] {
        let counts = Concurrency::new(8);
        let permits: Vec<Permit> = thread::scope(|scope| {
            let run = || {
                barrier.wait();
                (0..125).filter_map(|_| counts.acquire(5, limit(n))).collect::<Vec<_>>()
            };
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(run)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!((permits.len(), counts.count(5)), (n as usize, u64::from(n)));
        drop(permits);
        assert_eq!(counts.table().used(), 0);
    }
}
