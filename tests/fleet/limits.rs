//! Rates, minutes and budgets of several gateways.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::server::Server;
use super::support::fleet::{connect, until};
use super::support::upstream::{Upstream, echo};
use super::support::{Gateway, assert_gauges_zero};
use super::{ask, ask_on, gateway, others, sum, three};

const KEY: &str = "Authorization: Bearer secret-of-k\r\n";

fn endpoint() -> Upstream {
    Upstream::start("127.0.0.1:0".parse().unwrap(), echo)
}

fn key(more: &str) -> String {
    format!("[[keys]]\nname = \"k\"\nsecret = \"secret-of-k\"\n{more}\n")
}

/// Asks each gateway from two connections, without a pause, until `end`; how many were let through.
fn hammer(gateways: &[Gateway], lines: &'static str, end: Instant) -> u32 {
    let addresses: Vec<SocketAddr> = gateways.iter().map(|one| one.addr).collect();
    let asking = addresses.into_iter().flat_map(|addr| [addr, addr]).map(|addr| {
        thread::spawn(move || {
            let mut reader = connect(addr);
            let mut passed = 0;
            while Instant::now() < end {
                match ask_on(&mut reader, lines).status {
                    200 => passed += 1,
                    429 => thread::sleep(Duration::from_millis(2)),
                    other => panic!("{other}"),
                }
            }
            passed
        })
    });
    let asking: Vec<_> = asking.collect();
    asking.into_iter().map(|one| one.join().unwrap()).sum()
}

/// Waits until a minute has so much left.
fn with_time_in_this_minute(seconds: u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let left = 60 - now % 60;
    if left < seconds {
        thread::sleep(Duration::from_secs(left));
    }
}

#[test]
fn a_rate_is_one_over_all_gateways() {
    let (redis, endpoint) = (Server::start(&[]), endpoint());
    let zone = "[limits]\n[[limits.zones]]\nname = \"z\"\nkey = \"everyone\"\nrate = \"50r/s\"\nburst = 20\nroutes = [\"/v1/\"]\n";
    let gateways = three(&redis, &[endpoint.addr], zone);
    let begin = Instant::now();
    let passed = f64::from(hammer(&gateways, "", begin + Duration::from_secs(20)));
    let expected = 21.0 + 50.0 * begin.elapsed().as_secs_f64();
    assert!((passed - expected).abs() <= expected * 0.01, "{passed} passed, {expected} may");
    let refused = ask(gateways[0].addr, "");
    assert!(refused.status == 200 || refused.field("retry-after").is_some());
    let alone: f64 = gateways.iter().map(|one| sum(one, "corelane_fleet_limits_alone_total{")).sum();
    assert!(alone <= 2.0, "{alone} were decided alone");
    gateways.iter().for_each(assert_gauges_zero);
}

#[test]
fn a_keys_minute_is_one_over_all_gateways() {
    let (redis, endpoint) = (Server::start(&[]), endpoint());
    let gateways = three(&redis, &[endpoint.addr], &key("requests_per_minute = 300"));
    with_time_in_this_minute(15);
    let passed = hammer(&gateways, KEY, Instant::now() + Duration::from_secs(4));
    assert_eq!(passed, 300);
    for one in &gateways {
        let refused = ask(one.addr, KEY);
        assert_eq!(refused.status, 429);
        assert_eq!(refused.field("x-ratelimit-remaining-requests"), Some("0"));
        assert!(refused.field("retry-after").unwrap().parse::<u64>().unwrap() <= 60);
    }
}

#[test]
fn tokens_of_a_minute_are_counted_together() {
    let (redis, endpoint) = (Server::start(&[]), endpoint());
    // Each answer has two tokens; what is reserved beyond them comes back.
    let gateways = three(&redis, &[endpoint.addr], &key("tokens_per_minute = 3000"));
    with_time_in_this_minute(20);
    let passed = hammer(&gateways, KEY, Instant::now() + Duration::from_secs(8));
    let used = passed * 2;
    assert!((2900..=3030).contains(&used), "{used} of 3000 tokens");
    let left = redis.cli(&["--raw", "KEYS", "corelane:minute:*"]);
    let counted: u32 = redis.cli(&["--raw", "HGET", &left, "t"]).parse().unwrap();
    until("all is settled", || {
        let counted: u32 = redis.cli(&["--raw", "HGET", &left, "t"]).parse().unwrap();
        (counted == used).then_some(())
    });
    assert!(counted >= used);
}

#[test]
fn a_budget_is_one_and_outlives_processes() {
    let (redis, endpoint) = (Server::start(&[]), endpoint());
    let rest = format!(
        "{}[[models]]\nname = \"m\"\nprice = {{ input_per_1k = 1.0, output_per_1k = 1.0 }}\n",
        key("budget = 0.02")
    ); // ten requests of 0.002
    let mut gateways = three(&redis, &[endpoint.addr], &rest);
    for _ in 0..4 {
        assert_eq!(ask(gateways[0].addr, KEY).status, 200);
        assert_eq!(ask(gateways[1].addr, KEY).status, 200);
    }
    // The third hears of it, and of what it has spent itself.
    thread::sleep(Duration::from_millis(2500));
    let mut third = 0;
    while ask(gateways[2].addr, KEY).status == 200 {
        third += 1;
        assert!(third <= 2, "{third} beyond what the others have left");
    }
    assert_eq!(third, 2);
    until("the first hears of it too", || (ask(gateways[0].addr, KEY).status == 429).then_some(()));
    let refused = ask(gateways[0].addr, KEY);
    assert!(String::from_utf8_lossy(&refused.body).contains("insufficient_quota"));
    // All end; another one begins.
    for one in &mut gateways {
        super::server::signal(one.pid(), "TERM");
        assert_eq!(until("the end", || one.exit_code()), 0);
    }
    let again = gateway(&redis.url(), &[endpoint.addr], "", &rest);
    others(&again, 0.0);
    until("it knows", || (ask(again.addr, KEY).status == 429).then_some(()));
}

#[test]
fn without_redis_each_keeps_its_own_limits_and_says_so() {
    let (mut redis, endpoint) = (Server::start(&[]), endpoint());
    let gateways = three(&redis, &[endpoint.addr], &key("requests_per_minute = 100"));
    redis.kill();
    let told = |word: &'static str| {
        until(word, || gateways.iter().all(|one| one.log().contains(word)).then_some(()));
    };
    told("goes on alone");
    assert!(gateways.iter().all(|one| sum(one, "corelane_fleet_alone ") == 1.0));
    with_time_in_this_minute(15);
    let passed = hammer(&gateways, KEY, Instant::now() + Duration::from_secs(3));
    assert_eq!(passed, 300, "each its own hundred");
    redis.start_again();
    told("heard of again");
    gateways.iter().for_each(|one| others(one, 2.0));
    assert!(gateways.iter().all(|one| sum(one, "corelane_fleet_alone ") == 0.0));
}
