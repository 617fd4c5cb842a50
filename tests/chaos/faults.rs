//! Endpoints that fail, one each second: no request is lost before its first byte, and what had begun is cut where
//! that can be seen.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::endpoint::{Fault, Process, Program, Script, Target};
use super::scene::{Dose, Storm, alone, anywhere, assert_at_rest, at_rest, scripts, storm, wait_probed};
use crate::support::fleet::until;
use crate::support::open_loop::{Event, Plan, Sample};
use crate::support::{Gateway, get};

/// Of an answer that lets others catch up.
const SLOW: Duration = Duration::from_millis(300);

/// At most a fifth more attempts than requests.
pub fn assert_attempts(storm: &Storm) {
    let (attempts, sent) = (storm.attempts().expect("these endpoints count"), storm.report.samples.len());
    assert!(attempts * 10 <= sent * 12, "{attempts} attempts for {sent} requests");
}

/// The connection of a client is no business of an endpoint: none is closed behind a request.
pub fn assert_kept(storm: &Storm) {
    assert_eq!(storm.report.reconnected(), 0, "{}", storm.report.explain(&storm.events));
}

fn processes() -> Vec<Process> {
    (0..3).map(|_| Process::start(Program::Script)).collect()
}

/// A fault that strikes before any answer: nothing may be seen of it.
fn unseen<T: Target>(name: &str, fault: Fault, endpoints: &[T]) {
    let storm = storm(name, fault, Dose::small(), endpoints);
    storm.assert_sound(&[]);
    assert_kept(&storm);
    assert_attempts(&storm);
}

#[test]
fn kill_9_of_endpoints() {
    let _alone = alone();
    let storm = storm("kill -9", Fault::Kill, Dose::small(), &processes());
    storm.assert_sound(&["broken"]); // streams that had begun
    assert_kept(&storm);
    assert_attempts(&storm);
}

#[test]
fn kill_9_of_simulated_servers() {
    let _alone = alone();
    let servers: Vec<Process> = (0..3).map(|_| Process::start(Program::Sim)).collect();
    let storm = storm("kill -9 corelane sim", Fault::Kill, Dose::small(), &servers);
    storm.assert_sound(&["broken"]);
    assert_kept(&storm);
}

#[test]
fn endpoints_that_are_stopped() {
    let _alone = alone();
    unseen("SIGSTOP", Fault::Stop, &processes());
}

#[test]
fn connections_that_are_reset() {
    let _alone = alone();
    unseen("reset", Fault::Reset, &scripts());
}

#[test]
fn errors_of_endpoints() {
    let _alone = alone();
    unseen("500", Fault::Status, &scripts());
}

#[test]
fn endpoints_that_hang() {
    let _alone = alone();
    let storm = storm("hang, first byte 1 s", Fault::Hang, Dose::small(), &scripts());
    storm.assert_sound(&[]);
    assert_kept(&storm);
    assert_attempts(&storm);
    let p99 = storm.report.quantile("ok", 0.99);
    println!("hang: p99 {p99:.0} ms; the goal is 1200");
    assert!(p99 < 4000.0, "p99 {p99:.0} ms");
}

#[test]
fn endpoints_that_refuse() {
    let _alone = alone();
    unseen("refuse", Fault::Refuse, &scripts());
}

#[test]
fn endpoints_that_do_not_accept() {
    let _alone = alone();
    unseen("slow connect", Fault::SlowConnect, &scripts());
}

#[test]
fn answers_without_content() {
    let _alone = alone();
    unseen("empty 200", Fault::Empty, &scripts());
}

#[test]
fn answers_cut_in_the_middle() {
    let _alone = alone();
    let storm = storm("cut in mid-answer", Fault::Cut, Dose::small(), &scripts());
    storm.assert_sound(&["broken"]);
    assert!(storm.report.count("broken") > 0, "streams were cut, and it shows");
    assert_attempts(&storm);
}

#[test]
fn answers_with_broken_chunks() {
    let _alone = alone();
    let storm = storm("broken chunks", Fault::BadChunk, Dose::small(), &scripts());
    storm.assert_sound(&["broken"]);
    assert!(storm.report.count("broken") > 0, "streams were cut, and it shows");
    assert_attempts(&storm);
}

/// One of three has a name that nobody knows: it costs no request, and the others serve.
#[test]
fn names_that_do_not_resolve() {
    let _alone = alone();
    let endpoints = scripts();
    let addresses: Vec<SocketAddr> = endpoints.iter().map(Target::addr).collect();
    let (there, gone) = (addresses[2].to_string(), format!("gone.invalid:{}", addresses[2].port()));
    let mut gateway =
        Gateway::start(&anywhere(&addresses, "", "[[models]]\nname = \"m\"\n").replace(&there, &gone));
    until("two endpoints have been probed", || {
        let body = String::from_utf8(get(gateway.admin, "/status").2).unwrap();
        (body.matches("\"healthy\"").count() == 2).then_some(())
    });
    let before = at_rest(gateway.pid(), gateway.admin);
    let dose = Dose::small();
    let report = Plan::new(gateway.addr, dose.per_second, dose.time).start(Instant::now()).join();
    let seen = Some(endpoints.iter().map(|endpoint| endpoint.seen().unwrap()).collect());
    let storm = Storm { report, events: Vec::new(), seen };
    storm.print("name gone");
    storm.assert_sound(&[]);
    assert_kept(&storm);
    assert_attempts(&storm);
    assert!(endpoints[2].seen().unwrap().is_empty(), "nobody can have come to a server without an address");
    assert!(gateway.alive());
    assert_at_rest(gateway.pid(), gateway.admin, before);
}

/// All endpoints fail for three seconds, and come back one after the other.
fn all_down(name: &str, fault: Fault) -> (Vec<Script>, Storm) {
    let endpoints = scripts();
    let addresses: Vec<SocketAddr> = endpoints.iter().map(Target::addr).collect();
    // Probes play no part: what brings an endpoint back is a request that tries it.
    let rest = "[health]\ninterval = \"600s\"\ntimeout = \"1s\"\n[[models]]\nname = \"m\"\n";
    let mut gateway = Gateway::start(&anywhere(&addresses, "", rest));
    wait_probed(gateway.admin);
    let before = at_rest(gateway.pid(), gateway.admin);
    let epoch = Instant::now();
    let load = Plan::new(gateway.addr, 60, Duration::from_secs(9)).start(epoch);
    let (mut events, mut up_at) = (Vec::new(), Vec::new());
    let mut note = |what: String| {
        events.push(Event { at: epoch.elapsed(), what });
        epoch.elapsed()
    };
    thread::sleep(Duration::from_secs(1));
    endpoints.iter().for_each(|endpoint| endpoint.set_whole(SLOW)); // so that a stampede is seen
    endpoints.iter().for_each(|endpoint| endpoint.strike(fault));
    let down_at = note("all down".into());
    thread::sleep(Duration::from_millis(2000));
    endpoints.iter().for_each(Script::watch_trial); // by now everybody knows
    thread::sleep(Duration::from_millis(1000));
    for (at, endpoint) in endpoints.iter().enumerate() {
        endpoint.heal(fault);
        up_at.push(note(format!("e{at} is up")));
        thread::sleep(Duration::from_millis(1000));
    }
    let report = load.join();
    let seen = Some(endpoints.iter().map(|endpoint| endpoint.seen().unwrap()).collect());
    let storm = Storm { report, events, seen };
    storm.print(name);
    let samples = || storm.report.samples.iter();
    let again = samples().filter(|s| s.outcome.name() == "ok" && s.due > down_at + Duration::from_secs(2));
    let again = again.map(Sample::ended).min().expect("it serves again").saturating_sub(up_at[0]);
    println!(
        "{name}: served again {again:?} after the first one was up; refusals p50 {:.1} ms, p99 {:.1} ms",
        storm.report.quantile("refused", 0.5),
        storm.report.quantile("refused", 0.99)
    );
    println!("{name}: trials at once {:?}", endpoints.iter().map(Script::trial_max).collect::<Vec<_>>());
    storm.assert_sound(&["refused", "broken"]);
    let refused: Vec<&Sample> = samples().filter(|sample| sample.outcome.name() == "refused").collect();
    assert!(refused.iter().all(|sample| sample.ended() > down_at), "refused while all was well");
    assert!(!refused.is_empty(), "it cannot have served");
    assert!(
        refused.iter().all(|sample| sample.status != 503 || sample.retry_after),
        "503 without Retry-After"
    );
    assert!(again < Duration::from_secs(3), "{again:?} until it serves again");
    assert!(gateway.alive());
    endpoints.iter().for_each(|endpoint| endpoint.set_whole(Duration::from_millis(30)));
    assert_at_rest(gateway.pid(), gateway.admin, before);
    (endpoints, storm)
}

#[test]
fn all_away_and_back_again() {
    let _alone = alone();
    let (_, storm) = all_down("all refuse, then serve", Fault::Refuse);
    let samples = || storm.report.samples.iter();
    let refused = |sample: &&Sample| sample.outcome.name() == "refused";
    assert!(samples().filter(refused).all(|sample| sample.status == 503), "nobody is there: 503");
    // A trial of each endpoint at a time, ten times a second: the others are told at once.
    let at = |what: &str| storm.events.iter().find(|event| event.what == what).expect("noted").at;
    let (from, to) = (at("all down") + Duration::from_secs(1), at("e0 is up"));
    let away: Vec<&Sample> = samples().filter(refused).filter(|s| s.due > from && s.ended() < to).collect();
    let attempts: u128 = away.iter().filter_map(|sample| sample.told.1.parse::<u128>().ok()).sum();
    let most = 3 * ((to - from).as_millis() / 100 + 2);
    println!("all away: {attempts} trials for {} requests in {:?}, at most {most}", away.len(), to - from);
    assert!(!away.is_empty() && attempts <= most, "{attempts} trials, at most {most}");
}

/// What answers is asked, though it fails: only probing by requests tells when it is well again.
#[test]
fn all_failing_and_well_again() {
    let _alone = alone();
    let (_, storm) = all_down("all answer 500, then 200", Fault::SlowStatus);
    let bad = storm.report.samples.iter().filter(|sample| sample.outcome.name() == "refused");
    assert!(bad.into_iter().all(|sample| matches!(sample.status, 500 | 502 | 503)));
}
