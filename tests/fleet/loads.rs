//! What gateways see of each other's load.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::server::{Server, signal};
use super::support::assert_gauges_zero;
use super::support::fleet::{connect, until};
use super::support::upstream::{Upstream, echo};
use super::{ask, ask_on, gateway, others, sum, three};

/// An endpoint that takes so long, and counts how many it has at once and in all.
struct Slow {
    upstream: Upstream,
    now: Arc<AtomicU32>,
    most: Arc<AtomicU32>,
    all: Arc<AtomicU32>,
}

fn slow(time: Duration) -> Slow {
    let (now, most, all) =
        (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
    let (running, highest, total) = (Arc::clone(&now), Arc::clone(&most), Arc::clone(&all));
    let upstream = Upstream::start("127.0.0.1:0".parse().unwrap(), move |record| {
        let mine = running.fetch_add(1, Ordering::SeqCst) + 1;
        highest.fetch_max(mine, Ordering::SeqCst);
        total.fetch_add(1, Ordering::SeqCst);
        thread::sleep(time);
        running.fetch_sub(1, Ordering::SeqCst);
        echo(record)
    });
    Slow { upstream, now, most, all }
}

fn addresses(endpoints: &[Slow]) -> Vec<SocketAddr> {
    endpoints.iter().map(|one| one.upstream.addr).collect()
}

/// How far the shares are apart, of their mean, after `clients` have asked for `time`, in turn over `gateways`.
fn spread(endpoints: &[Slow], gateways: &[SocketAddr], clients: usize, time: Duration) -> f64 {
    endpoints.iter().for_each(|one| one.all.store(0, Ordering::SeqCst));
    let end = Instant::now() + time;
    let asking = (0..clients).map(|at| {
        let addr = gateways[at % gateways.len()];
        thread::spawn(move || {
            let mut reader = connect(addr);
            while Instant::now() < end {
                assert_eq!(ask_on(&mut reader, "").status, 200);
            }
        })
    });
    let asking: Vec<_> = asking.collect();
    asking.into_iter().for_each(|one| one.join().unwrap());
    let shares: Vec<f64> = endpoints.iter().map(|one| f64::from(one.all.load(Ordering::SeqCst))).collect();
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    let (most, least) =
        (shares.iter().copied().fold(0.0, f64::max), shares.iter().copied().fold(f64::MAX, f64::min));
    (most - least) / mean
}

#[test]
fn least_busy_spreads_as_one_gateway_would() {
    let redis = Server::start(&[]);
    let endpoints: Vec<Slow> = (0..4).map(|_| slow(Duration::from_millis(100))).collect();
    let rest = "[balance]\nstrategy = \"least_busy\"\n";
    let all = addresses(&endpoints);
    let one = gateway(&redis.url(), &all, "", rest);
    others(&one, 0.0);
    let single = spread(&endpoints, &[one.addr], 36, Duration::from_secs(6));
    drop(one);
    let gateways = three(&redis, &all, rest);
    let together: Vec<SocketAddr> = gateways.iter().map(|one| one.addr).collect();
    let fleet = spread(&endpoints, &together, 36, Duration::from_secs(6));
    assert!(fleet <= single + 0.10, "{fleet:.3}, one gateway {single:.3}");
    gateways.iter().for_each(assert_gauges_zero);
}

#[test]
fn load_of_others_counts() {
    let redis = Server::start(&[]);
    let endpoints: Vec<Slow> = (0..2).map(|_| slow(Duration::from_millis(1500))).collect();
    let all = addresses(&endpoints);
    let rest = "[balance]\nstrategy = \"least_busy\"\n";
    // One that knows only the first endpoint loads it; the other two then leave it alone.
    let heavy = gateway(&redis.url(), &all[..1], "", rest);
    let light = gateway(&redis.url(), &all, "", rest);
    others(&heavy, 1.0);
    others(&light, 1.0);
    let addr = heavy.addr;
    let load: Vec<_> = (0..6).map(|_| thread::spawn(move || ask(addr, "").status)).collect();
    until("it is heard of", || (sum(&light, "corelane_endpoint_in_flight_elsewhere{") == 6.0).then_some(()));
    let addr = light.addr;
    let more: Vec<_> = (0..4).map(|_| thread::spawn(move || ask(addr, "").status)).collect();
    for one in load.into_iter().chain(more) {
        assert_eq!(one.join().unwrap(), 200);
    }
    assert_eq!(endpoints[0].all.load(Ordering::SeqCst), 6);
    assert_eq!(endpoints[1].all.load(Ordering::SeqCst), 4);
    until("it ends", || (sum(&light, "corelane_endpoint_in_flight_elsewhere{") == 0.0).then_some(()));
}

#[test]
fn slots_are_the_fleets() {
    let redis = Server::start(&[]);
    let endpoint = slow(Duration::from_millis(1200));
    let first = gateway(&redis.url(), &[endpoint.upstream.addr], "", "# slots\n");
    let second = gateway(&redis.url(), &[endpoint.upstream.addr], "", "# slots\n");
    others(&first, 1.0);
    others(&second, 1.0);
    let addr = first.addr;
    let load: Vec<_> = (0..4).map(|_| thread::spawn(move || ask(addr, "").status)).collect();
    until("all four are taken", || (endpoint.now.load(Ordering::SeqCst) == 4).then_some(()));
    until("the other hears", || {
        (sum(&second, "corelane_endpoint_in_flight_elsewhere{") == 4.0).then_some(())
    });
    // It waits for its turn, and takes it when the other gateway's requests have ended.
    let begin = Instant::now();
    assert_eq!(ask(second.addr, "").status, 200);
    assert!(begin.elapsed() > Duration::from_millis(1300), "{:?}", begin.elapsed());
    assert_eq!(endpoint.most.load(Ordering::SeqCst), 4);
    assert!(load.into_iter().all(|one| one.join().unwrap() == 200));
    // A gateway that dies gives its places back.
    let load: Vec<_> =
        (0..4).map(|_| thread::spawn(move || std::panic::catch_unwind(|| ask(addr, "")).is_ok())).collect();
    until("the other hears", || {
        (sum(&second, "corelane_endpoint_in_flight_elsewhere{") == 4.0).then_some(())
    });
    signal(first.pid(), "KILL");
    until("it is forgotten", || {
        (sum(&second, "corelane_endpoint_in_flight_elsewhere{") == 0.0).then_some(())
    });
    assert_eq!(ask(second.addr, "").status, 200);
    load.into_iter().for_each(|one| drop(one.join()));
    assert_gauges_zero(&second);
}

#[test]
fn who_came_first_does_not_keep_all_slots() {
    let redis = Server::start(&[]);
    let endpoint = slow(Duration::from_millis(100));
    let first = gateway(&redis.url(), &[endpoint.upstream.addr], "", "# slots\n");
    let second = gateway(&redis.url(), &[endpoint.upstream.addr], "", "# slots\n");
    others(&first, 1.0);
    others(&second, 1.0);
    let end = Instant::now() + Duration::from_secs(8);
    let crowd = |addr: SocketAddr| -> Vec<thread::JoinHandle<u32>> {
        let asking = move || {
            let (mut reader, mut served) = (connect(addr), 0);
            while Instant::now() < end {
                assert_eq!(ask_on(&mut reader, "").status, 200);
                served += 1;
            }
            served
        };
        (0..8).map(|_| thread::spawn(asking)).collect()
    };
    let early = crowd(first.addr);
    thread::sleep(Duration::from_millis(800)); // it holds all four
    let late = crowd(second.addr);
    let count =
        |all: Vec<thread::JoinHandle<u32>>| -> u32 { all.into_iter().map(|one| one.join().unwrap()).sum() };
    let (early, late) = (count(early), count(late));
    assert!(late * 2 > early, "{early} of the first, {late} of the second");
    assert_gauges_zero(&second);
}
