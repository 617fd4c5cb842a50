use std::collections::HashMap;
use std::sync::Barrier;
use std::sync::atomic::AtomicU64;
use std::thread;

use super::*;

/// Well mixed numbers in a fixed order (splitmix64).
fn mixed(n: u64) -> u64 {
    let z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// Adds one to the client's state.
fn add(table: &Table, client: u64, rank: fn(u64) -> Rank) -> Result<u64, Full> {
    table.update(client, rank, |state| {
        let sum = state.unwrap_or(0) + 1;
        (Write::Put(sum), sum)
    })
}

fn clients(table: &Table) -> Vec<u64> {
    let mut clients: Vec<u64> = table.words().filter(|word| *word != 0).map(client_of).collect();
    clients.sort_unstable();
    clients
}

#[test]
fn room_is_rounded_up_to_sets_and_costs_16_bytes_an_entry() {
    for (entries_max, capacity) in [(0, 8), (1, 8), (8, 8), (9, 16), (100_000, 100_000)] {
        let table = Table::new(entries_max);
        assert_eq!(table.capacity(), capacity);
        assert_eq!(size_of_val(&*table.sets), capacity * 16);
    }
}

#[test]
fn states_are_kept_changed_and_freed() {
    let table = Table::new(64);
    assert_eq!(table.get(7), None);
    assert_eq!(table.update(7, |_| Rank::Held, |state| (Write::Keep, state)), Ok(None));
    assert_eq!(table.used(), 0, "an unknown client stays unknown");
    assert_eq!(table.update(7, |_| Rank::Held, |state| (Write::Put(u64::MAX), state)), Ok(None));
    assert_eq!(table.get(7), Some(u64::MAX));
    assert_eq!(table.update(7, |_| Rank::Held, |state| (Write::Put(0), state)), Ok(Some(u64::MAX)));
    assert_eq!(table.get(7), Some(0), "a state of zero is a state");
    assert_eq!(table.update(7, |_| Rank::Held, |state| (Write::Free, state)), Ok(Some(0)));
    assert_eq!((table.get(7), table.used()), (None, 0));
}

#[test]
fn the_zero_hash_is_a_client_like_any_other() {
    let table = Table::new(8);
    assert_eq!(add(&table, 0, |_| Rank::Held), Ok(1));
    assert_eq!(add(&table, 0, |_| Rank::Held), Ok(2));
    assert_eq!((table.get(0), table.used()), (Some(2), 1));
}

#[test]
fn hashes_tell_kinds_and_processes_apart() {
    let keys = Clients::new(RandomState::new());
    assert_eq!(keys.hash(1, b"203.0.113.7"), keys.clone().hash(1, b"203.0.113.7"));
    assert_ne!(keys.hash(1, b"203.0.113.7"), keys.hash(2, b"203.0.113.7"));
    assert_ne!(keys.hash(1, b"23"), keys.hash(1, b"2"));
    assert_ne!(keys.hash(1, b"a"), Clients::default().hash(1, b"a"), "keys are random");
    assert_eq!(remapped(0), 1);
}

#[test]
fn held_entries_stay_and_a_full_table_refuses() {
    let table = Table::new(16); // both sets are everybody's
    for n in 0..16 {
        assert_eq!(add(&table, mixed(n), |_| Rank::Held), Ok(1), "client {n}");
    }
    assert_eq!(add(&table, mixed(16), |_| Rank::Held), Err(Full));
    assert_eq!(add(&table, mixed(3), |_| Rank::Held), Ok(2), "known clients go on");
    assert_eq!(table.update(mixed(3), |_| Rank::Held, |_| (Write::Free, 0)), Ok(0));
    assert_eq!(add(&table, mixed(16), |_| Rank::Held), Ok(1));
}

#[test]
fn the_spent_go_first_then_the_one_idle_longest() {
    let table = Table::new(16);
    let put = |client: u64, state: u64| {
        let rank = |state: u64| if state == 100 { Rank::Spent } else { Rank::Idle(state) };
        table.update(client, rank, |_| (Write::Put(state), ()))
    };
    for n in 0..16 {
        put(mixed(n), if n == 5 { 100 } else { n + 1 }).unwrap();
    }
    put(mixed(16), 1).unwrap();
    assert_eq!(table.get(mixed(5)), None, "it was spent, though others had been idle longer");
    put(mixed(17), 1).unwrap();
    assert_eq!(table.get(mixed(15)), None, "the greatest number");
    put(mixed(18), 1).unwrap();
    assert_eq!(table.get(mixed(14)), None);
    assert_eq!(table.used(), 16);
}

#[test]
fn nobody_is_dropped_before_the_table_is_two_thirds_full() {
    for entries in [1000_usize, 10_000, 200_000] {
        for seed in 0..4_u64 {
            let table = Table::new(entries);
            let count = entries as u64 * 2 / 3;
            for n in 0..count {
                add(&table, mixed(seed << 32 | n), |_| Rank::Idle(0)).unwrap();
            }
            assert_eq!(table.used() as u64, count, "{entries} entries, seed {seed}");
        }
    }
}

#[test]
fn a_flood_of_clients_keeps_to_the_bound() {
    let table = Table::new(64);
    for n in 0..10_000 {
        add(&table, mixed(n), |_| Rank::Idle(0)).unwrap();
    }
    assert!(table.used() <= table.capacity());
    assert!(table.used() > 48, "and the room is used: {}", table.used());
}

#[test]
fn threads_that_bring_one_new_client_at_once_make_one_entry() {
    const THREADS: u64 = 8;
    let (table, barrier, wrong) = (Table::new(256), Barrier::new(THREADS as usize), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for round in 0..2000 {
                    barrier.wait();
                    let added = add(&table, mixed(round), |_| Rank::Spent);
                    barrier.wait();
                    let right = added.is_ok() && table.get(mixed(round)) == Some(THREADS);
                    wrong.fetch_add(u64::from(!right), Ordering::Relaxed);
                    barrier.wait();
                }
            });
        }
    });
    assert_eq!(
        wrong.into_inner(),
        0,
        "after the threads: one that fails would leave the others at the barrier"
    );
}

#[test]
fn an_insertion_waits_for_another_of_the_same_client() {
    let (table, inside, done) = (Table::new(64), AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let slow = |state: Option<u64>| {
                inside.store(true, Ordering::SeqCst);
                // Time enough for the other, were there no lock.
                let turns = (0..20_000).take_while(|_| !done.load(Ordering::SeqCst));
                turns.for_each(|_| thread::yield_now());
                (Write::Put(state.unwrap_or(0) + 1), ())
            };
            table.update(7, |_| Rank::Held, slow).unwrap();
        });
        scope.spawn(|| {
            while !inside.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            add(&table, 7, |_| Rank::Held).unwrap();
            done.store(true, Ordering::SeqCst);
        });
    });
    assert_eq!((table.get(7), table.used()), (Some(2), 1));
}

#[test]
fn eviction_under_contention_leaves_one_entry_a_client() {
    for round in 0..200 {
        let (table, next) = (Table::new(64), AtomicU64::new(round << 32));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        add(&table, mixed(mixed(n) % 200), Rank::Idle).unwrap();
                    }
                });
            }
        });
        let all = clients(&table);
        let mut unique = all.clone();
        unique.dedup();
        assert_eq!(all, unique, "round {round}");
        assert!(all.len() <= table.capacity());
    }
}

#[test]
fn entries_that_come_and_go_lose_no_count() {
    let table = Table::new(32);
    let sums: Vec<HashMap<u64, i64>> = thread::scope(|scope| {
        let run = |thread: u64| {
            let mut own = HashMap::new();
            for n in 0..50_000 {
                let client = mixed(mixed(thread << 32 | n) % 20);
                let up = mixed(n ^ thread) & 1 == 0;
                let step = |state: Option<u64>| match (up, state.unwrap_or(0)) {
                    (true, count) => (Write::Put(count + 1), 1),
                    (false, 0) => (Write::Keep, 0),
                    (false, 1) => (Write::Free, -1),
                    (false, count) => (Write::Put(count - 1), -1),
                };
                *own.entry(client).or_insert(0) += table.update(client, |_| Rank::Held, step).unwrap();
            }
            own
        };
        let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || run(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut total: HashMap<u64, i64> = HashMap::new();
    sums.into_iter().flatten().for_each(|(client, sum)| *total.entry(client).or_insert(0) += sum);
    assert_eq!(total.len(), 20);
    for (client, sum) in total {
        assert_eq!(table.get(client).unwrap_or(0) as i64, sum);
    }
}
