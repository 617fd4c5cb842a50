//! Servers that die, hang, and come back; callers that leave.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use corelane::net::clock;
use corelane::net::redis::{Breaker, Command, Failure, Redis, Reply};

use super::server::{Server, signal};
use super::stage::{Random, client, observed, run, settings, spawn, until};

/// Most that one call may take, of 20 ms that it has: other processes run beside the test.
const SLOW: Duration = Duration::from_millis(120);

/// What became of calls.
#[derive(Default)]
struct Tally {
    answered: Cell<u64>,
    /// Answered by another one's answer. A task's panic would be caught: it is counted instead.
    foreign: Cell<u64>,
    failed: Cell<u64>,
    left: Cell<u64>,
    slowest: Cell<Duration>,
    running: Cell<u64>,
}

fn count(cell: &Cell<u64>) {
    cell.set(cell.get() + 1);
}

/// Calls whose answer has to be their own number, until so many were answered; some leave before theirs.
async fn load(redis: Rc<Redis>, tally: Rc<Tally>, caller: u64, until: u64, leavers: bool) {
    let mut random = Random(caller * 7919 + 1);
    for number in 0.. {
        if tally.answered.get() >= until || tally.foreign.get() > 0 {
            break;
        }
        let own = format!("{caller}-{number}");
        let echo = Command::new("ECHO").arg(&own);
        let begin = clock::now();
        let mut call = Box::pin(redis.call(&echo));
        if leavers && random.below(4) == 0 {
            // Leaves when the command is on its way, or soon after.
            let patience = random.below(3);
            if patience > 0 {
                let patience = Duration::from_micros(200 * patience);
                match clock::within(patience, call.as_mut()).await {
                    Some(answer) => is_own(answer, &own, &tally),
                    None => count(&tally.left),
                }
            } else if poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending())).await {
                count(&tally.left);
            }
            continue;
        }
        let answer = call.await;
        let failed = answer.is_err();
        tally.slowest.set(tally.slowest.get().max(clock::now().duration_since(begin)));
        is_own(answer, &own, &tally);
        if failed {
            clock::sleep(Duration::from_millis(1)).await;
        }
    }
    tally.running.set(tally.running.get() - 1);
}

/// An answer is that of its own question, or none.
fn is_own(answer: Result<Reply, Failure>, own: &str, tally: &Tally) {
    match answer {
        Ok(reply) if reply.as_bytes() == Some(own.as_bytes()) => count(&tally.answered),
        Ok(_) => count(&tally.foreign),
        Err(_) => count(&tally.failed),
    }
}

fn begin_load(redis: &Rc<Redis>, callers: u64, answered: u64, leavers: bool) -> Rc<Tally> {
    let tally = Rc::new(Tally::default());
    tally.running.set(callers);
    for caller in 0..callers {
        spawn(load(Rc::clone(redis), Rc::clone(&tally), caller, answered, leavers));
    }
    tally
}

#[test]
fn late_answers_reach_nobody_else() {
    let server = Server::start(&[]);
    let (pid, over) = (server.pid(), Arc::new(AtomicBool::new(false)));
    let ended = Arc::clone(&over);
    // Hangs: most shorter than the 200 ms after which the connection is given up, some longer.
    let hangs = std::thread::spawn(move || {
        let (mut random, mut hangs) = (Random(5), 0);
        while !ended.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50 + random.below(200)));
            signal(pid, "STOP");
            std::thread::sleep(Duration::from_millis(
                10 + random.below(if hangs % 5 == 4 { 400 } else { 60 }),
            ));
            signal(pid, "CONT");
            hangs += 1;
        }
        hangs
    });
    run(async {
        let (redis, _, tasks) = observed(&settings(&server.url(), ""));
        let calls = std::env::var("CORELANE_REDIS_CALLS").ok().and_then(|text| text.parse().ok());
        let calls: u64 = calls.unwrap_or(100_000);
        let tally = begin_load(&redis, 48, calls, true);
        let begin = clock::now();
        while tally.running.get() > 0 {
            assert!(
                clock::now().duration_since(begin) < Duration::from_secs(300),
                "{}",
                tally.answered.get()
            );
            clock::sleep(Duration::from_millis(20)).await;
        }
        over.store(true, Ordering::Relaxed);
        let state = redis.state();
        println!(
            "{} answered, {} failed, {} left, slowest {:?}; {state:?}",
            tally.answered.get(),
            tally.failed.get(),
            tally.left.get(),
            tally.slowest.get()
        );
        assert_eq!(tally.foreign.get(), 0, "answers reached others");
        assert!(tally.answered.get() >= calls && tally.left.get() > 1000);
        assert!(state.timeouts > 0, "the hangs were not seen");
        assert_eq!(tasks.panicked.get(), 0);
        until("all is well again", async || redis.call(&Command::new("PING")).await.ok()).await;
        until("no slot is left", async || (redis.state().waiting == 0).then_some(())).await;
        drop(redis);
        until("the keeper ends", async || (tasks.live.get() == 0).then_some(())).await;
    });
    println!("{} hangs", hangs.join().unwrap());
}

#[test]
fn a_restart_in_the_middle_is_survived() {
    let mut server = Server::start(&[]);
    run(async {
        let (redis, lines, _) = observed(&settings(&server.url(), ""));
        for round in 0..3 {
            let tally = begin_load(&redis, 16, 4000, false);
            until("the load runs", async || (tally.answered.get() > 500).then_some(())).await;
            server.kill();
            until("it is not asked any more", async || {
                (redis.call(&Command::new("PING")).await == Err(Failure::Open)).then_some(())
            })
            .await;
            assert!(redis.state().last_error.is_some());
            // Refused at once while it is away.
            let begin = clock::now();
            for _ in 0..1000 {
                assert_eq!(redis.call(&Command::new("PING")).await, Err(Failure::Open));
            }
            assert!(clock::now().duration_since(begin) < Duration::from_millis(200));
            server.start_again();
            until("the load ends", async || (tally.running.get() == 0).then_some(())).await;
            println!("round {round}: {} failed, slowest {:?}", tally.failed.get(), tally.slowest.get());
            assert_eq!(tally.foreign.get(), 0, "answers reached others");
            assert!(tally.slowest.get() < SLOW, "{:?}", tally.slowest.get());
            assert_eq!(redis.state().breaker, Breaker::Closed);
        }
        assert!(redis.state().reconnects >= 3, "{:?}", redis.state());
        assert!(
            lines.borrow().iter().any(|line| line.contains("not asked any more")),
            "{:?}",
            lines.borrow()
        );
    });
}

#[test]
fn a_hung_server_costs_the_time_of_a_call_and_then_none() {
    let server = Server::start(&[]);
    run(async {
        let redis = client(&settings(&server.url(), "timeout = '10ms'"));
        assert!(redis.call(&Command::new("PING")).await.is_ok());
        signal(server.pid(), "STOP");
        for _ in 0..5 {
            let begin = clock::now();
            assert_eq!(redis.call(&Command::new("PING")).await, Err(Failure::Timeout));
            let took = clock::now().duration_since(begin);
            assert!(took >= Duration::from_millis(9) && took < SLOW, "{took:?}");
        }
        assert_eq!(redis.call(&Command::new("PING")).await, Err(Failure::Open));
        // The connection is given up, and none comes about: a stopped process accepts and says nothing.
        until("it is given up", async || (redis.state().connected == 0).then_some(())).await;
        let error = redis.state().last_error.unwrap();
        assert!(error.contains("no answer"), "{error}");
        signal(server.pid(), "CONT");
        until("it is asked again", async || redis.call(&Command::new("PING")).await.ok()).await;
    });
}

#[test]
fn a_busy_server_that_answers_late_is_probed_and_asked_again() {
    let server = Server::start(&["--enable-debug-command", "yes"]);
    run(async {
        let redis = client(&settings(&server.url(), "timeout = '10ms'"));
        assert!(redis.call(&Command::new("PING")).await.is_ok());
        // Busy for 150 ms: five calls give up, the connection stays.
        let sleep = Command::new("DEBUG").arg("SLEEP").arg("0.15");
        let _ = redis.call(&sleep).await;
        for _ in 0..4 {
            assert_eq!(redis.call(&Command::new("PING")).await, Err(Failure::Timeout));
        }
        assert_eq!(redis.call(&Command::new("PING")).await, Err(Failure::Open));
        until("it is asked again", async || redis.call(&Command::new("PING")).await.ok()).await;
        assert_eq!(redis.state().reconnects, 0, "{:?}", redis.state());
    });
}

#[test]
fn a_shard_that_was_held_is_no_slow_server() {
    let server = Server::start(&["--enable-debug-command", "yes"]);
    run(async {
        let redis = client(&settings(&server.url(), ""));
        let set = Command::new("SET").key("k").arg(vec![b'x'; 100 << 10]);
        assert!(redis.call(&set).await.unwrap().is_ok());
        let late = [Command::new("DEBUG").arg("SLEEP").arg("0.005"), Command::new("GET").key("k")];
        for _ in 0..10 {
            // The answers come after 5 ms, while the shard does something else for 60 ms. They take several reads.
            spawn(async {
                clock::sleep(Duration::from_millis(2)).await;
                std::thread::sleep(Duration::from_millis(60));
            });
            let answers = redis.call_all(&late).await.unwrap();
            let length = answers[1].as_ref().map(|reply| reply.as_bytes().unwrap_or_default().len());
            assert_eq!(length, Ok(100 << 10));
        }
        assert_eq!(redis.state().timeouts, 0);
    });
}

#[test]
fn many_commands_of_one_call_are_one_failure() {
    let server = Server::start(&[]);
    run(async {
        let redis = client(&settings(&server.url(), ""));
        assert!(redis.call(&Command::new("PING")).await.is_ok());
        signal(server.pid(), "STOP");
        let pings: Vec<Command> = (0..100).map(|_| Command::new("PING")).collect();
        let answers = redis.call_all(&pings).await.unwrap();
        assert!(answers.iter().all(|answer| *answer == Err(Failure::Timeout)));
        let state = redis.state();
        assert_eq!((state.breaker, state.timeouts), (Breaker::Closed, 1));
        signal(server.pid(), "CONT");
        until("it is asked again", async || redis.call(&Command::new("PING")).await.ok()).await;
    });
}

#[test]
fn a_server_that_closes_idle_connections_costs_nothing() {
    let server = Server::start(&["--timeout", "1"]);
    run(async {
        let redis = client(&settings(&server.url(), "timeout = '100ms'"));
        redis.start();
        for round in 1..4 {
            until("it is closed, and made again", async || (redis.state().reconnects >= round).then_some(()))
                .await;
            assert!(redis.call(&Command::new("PING")).await.is_ok());
        }
    });
}

#[test]
fn a_server_that_forgets_us_is_logged_in_to_again() {
    let server = Server::start(&["--requirepass", "sesame-1234"]);
    run(async {
        let redis = client(&settings(&server.url(), "password = 'sesame-1234'"));
        assert_eq!(redis.call(&Command::new("RESET")).await, Ok(Reply::Text("RESET".to_owned())));
        let refused = redis.call(&Command::new("PING")).await;
        assert!(matches!(&refused, Err(Failure::Refused(text)) if text.contains("NOAUTH")), "{refused:?}");
        until("it lets us in", async || redis.call(&Command::new("PING")).await.ok()).await;
        assert_eq!(redis.state().reconnects, 1);
    });
}

#[test]
fn a_server_that_was_never_there_is_refused_at_once_soon() {
    run(async {
        let redis = client(&settings(&format!("redis://127.0.0.1:{}", super::server::free_port()), ""));
        let begin = clock::now();
        let mut failures = 0;
        until("the breaker opens", async || {
            let failure = redis.call(&Command::new("PING")).await.unwrap_err();
            failures += 1;
            (failure == Failure::Open).then_some(())
        })
        .await;
        let took = clock::now().duration_since(begin);
        assert!(failures <= 6 && took < Duration::from_secs(1), "{failures} in {took:?}");
    });
}
