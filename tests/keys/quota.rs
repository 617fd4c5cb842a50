//! A key's minute: requests, tokens, exchanges at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use corelane::sim::Options;

use super::support::answer::{Answer, Reader};
use super::support::fleet::{Fleet, chat, connect, json, model, quick, until};
use super::support::metrics;
use super::{CHAT, DEADLINE, SECRET, ask, bearer, key, message, number, read, write};

/// Waits until so many seconds of this minute are left.
pub fn room_in_minute(seconds: u64) {
    let left = || 60 - SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() % 60;
    while left() < seconds {
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn status_counts(answers: &[Answer]) -> (usize, usize) {
    let of = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!(of(200) + of(429), answers.len(), "only passes and refusals");
    (of(200), of(429))
}

/// Tokens left of a minute when the request was let in, its own reservation taken off.
fn left(answer: &Answer) -> u64 {
    number(answer, "x-ratelimit-remaining-tokens")
}

#[test]
fn requests_of_a_minute_are_exact_over_shards() {
    room_in_minute(8);
    let fleet = Fleet::start(quick(1), "shards = 2", &key("a", SECRET, "requests_per_minute = 50")).ready();
    let mut readers: Vec<Reader> = (0..400).map(|_| connect(fleet.gateway.addr)).collect();
    for reader in &mut readers {
        write(reader, "POST", CHAT, &bearer(SECRET), &chat("llama3.2", false));
    }
    let answers: Vec<Answer> = readers.iter_mut().map(read).collect();
    assert_eq!(status_counts(&answers), (50, 350));
    assert_eq!(fleet.shares(), [50]);
    for answer in &answers {
        assert_eq!(number(answer, "x-ratelimit-limit-requests"), 50);
        assert!(answer.field("x-ratelimit-reset-requests").unwrap().ends_with('s'));
        let seconds = answer.field("retry-after").map(|text| text.parse::<u64>().unwrap());
        assert!(answer.status == 200 || (1..=60).contains(&seconds.unwrap()), "{seconds:?}");
        assert!(answer.status == 200 || number(answer, "x-ratelimit-remaining-requests") == 0);
    }
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert!(message(refused).contains("50 requests per minute"), "{}", message(refused));
    assert_eq!(json(refused)["error"]["code"], "rate_limit_exceeded");
    let line = "corelane_limiter_refusals_total{zone=\"\",reason=\"key_requests\"} 350";
    assert!(metrics(&fleet.gateway).contains(line));
    let listing = ask(&fleet, "GET", "/v1/models", &bearer(SECRET), "");
    assert_eq!(listing.status, 200, "what needs no model is not counted");
    drop(readers);
    fleet.assert_quiet();
}

#[test]
fn tokens_of_a_minute_are_those_that_were_used() {
    room_in_minute(15);
    let budget = 20_000;
    let rest = key("a", SECRET, &format!("tokens_per_minute = {budget}"));
    let fleet = Fleet::start(quick_of(40), "shards = 2", &rest).ready();
    let used = AtomicU64::new(0);
    let addr = fleet.gateway.addr;
    // Eight clients ask without a pause, until each has been refused in a row as often as answers could be on the way.
    std::thread::scope(|scope| {
        for client in 0..8 {
            let used = &used;
            scope.spawn(move || {
                let mut reader = connect(addr);
                let (mut at, mut refused) = (client, 0);
                while refused < 30 {
                    at += 1;
                    let body = chat("llama3.2", false).replace("hi", &"word ".repeat(1 + at % 20));
                    write(&mut reader, "POST", CHAT, &bearer(SECRET), &body);
                    let answer = read(&mut reader);
                    if answer.status == 429 {
                        refused += 1;
                        assert!(message(&answer).contains("tokens per minute"), "{}", message(&answer));
                        assert!((1..=60).contains(&number(&answer, "retry-after")));
                        continue;
                    }
                    refused = 0;
                    assert_eq!(answer.status, 200);
                    let usage = &json(&answer)["usage"]["total_tokens"];
                    used.fetch_add(usage.as_u64().unwrap(), Ordering::Relaxed);
                }
            });
        }
    });
    let used = used.into_inner();
    println!("{used} of {budget} tokens used, {} requests", fleet.shares()[0]);
    assert!(used <= budget + budget / 100, "{used}");
    assert!(used >= budget * 95 / 100, "{used}: what is left is less than a request or two");
    fleet.assert_quiet();
}

fn quick_of(tokens: usize) -> Vec<Options> {
    quick(1).into_iter().map(|options| Options { tokens, ..options }).collect()
}

#[test]
fn what_never_ran_costs_nothing_and_what_was_cut_costs_what_came() {
    room_in_minute(15);
    let budget = 1_000_000;
    let guard = "[guard.input]\nscanners = [\"BanSubstrings\"]\n[guard.output]\nscanners = [\"BanSubstrings\"]\n\
        [guard.input.scanner.BanSubstrings]\nsubstrings = [\"moonlight\"]\n\
        [guard.output.scanner.BanSubstrings]\nsubstrings = [\"sunshine\"]\n";
    let rest = guard.to_owned()
        + "[retry]\nattempts = 1\n"
        + &model("fault", &["e0"], "upstream_model = \"fault-500\"")
        + &model("m", &["e0"], "upstream_model = \"llama3.2\"")
        + &model("off", &["e0"], "upstream_model = \"llama3.2\"\nguard = \"off\"")
        + &key("a", SECRET, &format!("tokens_per_minute = {budget}"));
    let options =
        Options { token_interval: Duration::from_millis(1), tokens: 5000, slots: 64, ..Options::default() };
    let fleet = Fleet::start(vec![options], "shards = 2", &rest).ready();
    let limited = |text: &str, model: &str, more: &str| {
        chat(model, false).replace("\"hi\"", &format!("\"{text}\"")).replacen(
            '{',
            &format!("{{\"max_tokens\":8,{more}"),
            1,
        )
    };
    // What has been used, as a small request is told: but for its own reservation and those few tokens that it costs.
    let used = || budget - left(&ask(&fleet, "POST", CHAT, &bearer(SECRET), &limited("hi", "m", "")));
    let small = 200;
    let cost = |what: &dyn Fn()| {
        let before = used();
        what();
        used().saturating_sub(before)
    };
    let status = |body: &str| ask(&fleet, "POST", CHAT, &bearer(SECRET), body).status;
    let long = "word ".repeat(2000);
    for _ in 0..3 {
        let used = cost(&|| assert_eq!(status(&limited(&long, "m", "")), 200));
        assert!(used.abs_diff(2008) < small, "what was used: {used}");
    }
    for (text, model, more, answered) in [
        (long.as_str(), "nothing", "", 404),
        (&long, "fault", "", 500),
        (&(long.clone() + "moonlight"), "m", "", 400), // the guard let nothing go
        (&long, "m", "\"messages\":3,", 400),
    ] {
        let used = cost(&|| assert_eq!(status(&limited(text, model, more)), answered));
        assert!(used < small, "{model} {answered}: {used}");
    }
    let talkative = limited(&(long.clone() + "sunshine"), "m", "").replace(":8", ":2100");
    let used = cost(&|| assert_eq!(status(&talkative), 400));
    assert!(used > 4000, "the model has worked, although its answer was not let go: {used}");
    // Streams that the client leaves after some tokens, or that the endpoint breaks.
    let stopped = |body: &str| {
        cost(&|| {
            let mut reader = connect(fleet.gateway.addr);
            write(&mut reader, "POST", CHAT, &bearer(SECRET), body);
            reader.head(Instant::now() + DEADLINE).unwrap();
            let sent = &fleet.servers[0].stats.tokens_sent;
            let before = sent.load(Ordering::Relaxed);
            until("200 tokens", || (sent.load(Ordering::Relaxed) > before + 200).then_some(()));
            drop(reader);
            fleet.assert_quiet();
        })
    };
    let short = stopped(&chat("off", true));
    assert!((200..3000).contains(&short), "what came was counted, what did not come was not: {short}");
    let read_much = stopped(&chat("off", true).replace("hi", &"word ".repeat(20_000)));
    assert!(read_much > 15_000, "the endpoint has read the whole prompt: {read_much}");
    fleet.assert_quiet();
}

#[test]
fn exchanges_at_once_of_a_key() {
    let rest = key("a", SECRET, "concurrent = 3") + &key("b", "sk-another-key", "");
    let slow = Options {
        token_interval: Duration::from_millis(5),
        tokens: 100_000,
        slots: 64,
        ..Options::default()
    };
    let fleet = Fleet::start(vec![slow], "shards = 2", &rest).ready();
    let begin = |secret: &str| {
        let mut reader = connect(fleet.gateway.addr);
        write(&mut reader, "POST", CHAT, &bearer(secret), &chat("llama3.2", true));
        let status = reader.head(Instant::now() + DEADLINE).unwrap().status;
        (reader, status)
    };
    let mut running: Vec<(Reader, u16)> = (0..3).map(|_| begin(SECRET)).collect();
    assert!(running.iter().all(|(_, status)| *status == 200));
    let refused = ask(&fleet, "POST", CHAT, &bearer(SECRET), &chat("llama3.2", false));
    assert_eq!(refused.status, 429);
    assert!(message(&refused).contains("3 requests at once"), "{}", message(&refused));
    assert!(number(&refused, "retry-after") >= 1);
    let another = begin("sk-another-key");
    assert_eq!(another.1, 200, "another key");
    assert_eq!(ask(&fleet, "GET", "/v1/models", &bearer(SECRET), "").status, 200);
    running.pop();
    until("a place is free", || {
        let (reader, status) = begin(SECRET);
        (status == 200).then(|| running.push((reader, status)))
    });
    assert_eq!(begin(SECRET).1, 429);
    drop((running, another));
    fleet.assert_quiet();
}

#[test]
fn moderations_are_requests_of_a_key() {
    room_in_minute(8);
    let guard = "[guard.input]\nscanners = [\"BanSubstrings\"]\n[guard.output]\nscanners = []\n\
        [guard.scanner.BanSubstrings]\nsubstrings = [\"moonlight\"]\n";
    let limits = "requests_per_minute = 3\ntokens_per_minute = 1000";
    let fleet = Fleet::start(quick(1), "shards = 2", &(guard.to_owned() + &key("a", SECRET, limits))).ready();
    let moderate = || ask(&fleet, "POST", "/v1/moderations", &bearer(SECRET), r#"{"input":"moonlight"}"#);
    let answers: Vec<Answer> = (0..5).map(|_| moderate()).collect();
    assert_eq!(status_counts(&answers), (3, 2), "as many as of any other request");
    assert_eq!(left(&answers[2]), 999, "what is reserved for it is the least, and comes back");
    assert_eq!(ask(&fleet, "POST", CHAT, &bearer(SECRET), &chat("llama3.2", false)).status, 429);
    fleet.assert_quiet();
}
