//! Equal requests at the same time.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::answer::Answer;
use super::support::fleet::{connect, send, until};
use super::support::{assert_gauges_zero, metrics};
use super::{CHAT, Stand, completion, hi, numbered, said, status, streamed, with};
use crate::support::upstream::{Reply, Then, plain};

const MODEL: &str = "[[models]]\nname = \"m\"\n";

/// Holds an endpoint back until the test opens it.
#[derive(Clone, Default)]
struct Gate(Arc<AtomicBool>);

impl Gate {
    fn open(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn pass(&self) {
        until("the test opens it", || self.0.load(Ordering::SeqCst).then_some(()));
    }
}

fn stream() -> Value {
    with(&hi(), "stream", json!(true))
}

/// Asks from `count` connections at once.
fn crowd(stand: &Stand, count: usize, body: &Value) -> Vec<thread::JoinHandle<Answer>> {
    let (addr, body) = (stand.gateway.addr, body.to_string());
    let ask = |_| {
        let body = body.clone();
        let asking = move || {
            let mut reader = connect(addr);
            send(&mut reader, CHAT, &body);
            reader.answer(false, Instant::now() + Duration::from_secs(30)).expect("an answer")
        };
        thread::Builder::new().stack_size(128 * 1024).spawn(asking).unwrap()
    };
    (0..count).map(ask).collect()
}

fn sum(stand: &Stand, part: &str) -> f64 {
    let page = metrics(&stand.gateway);
    let lines = page.lines().filter(|line| line.starts_with(part));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

fn waiting(stand: &Stand, count: usize) {
    until("all wait", || (sum(stand, "corelane_exchanges_in_flight{") as usize == count).then_some(()));
}

#[test]
fn a_thousand_ask_the_model_once() {
    let gate = Gate::default();
    let held = gate.clone();
    let stand = Stand::answering("", MODEL, move |number, _| {
        held.pass();
        numbered(number)
    });
    let all = crowd(&stand, 1000, &hi());
    waiting(&stand, 1000);
    gate.open();
    let answers: Vec<Answer> = all.into_iter().map(|one| one.join().unwrap()).collect();
    assert_eq!(stand.asked(), 1);
    let expected = completion("answer 0");
    let mut words = std::collections::BTreeMap::new();
    for answer in &answers {
        assert_eq!(serde_json::from_slice::<Value>(&answer.body).unwrap(), expected);
        *words.entry(answer.field("x-corelane-cache").unwrap()).or_insert(0) += 1;
    }
    assert_eq!(words, [("miss", 1), ("shared", 999)].into());
    assert_eq!(sum(&stand, "litellm_tokens_used{model=\"m\",type=\"output\"}"), 5.0, "one pays");
    assert_eq!(stand.used("", &hi()), "hit");
    assert_gauges_zero(&stand.gateway);
    assert_eq!(sum(&stand, "corelane_cache_flights "), 0.0);
}

#[test]
fn streams_are_shared_from_wherever_they_are() {
    let texts: Vec<String> = (0..120).map(|number| format!("{number} ")).collect();
    let whole = texts.concat();
    let stand = Stand::answering("", MODEL, move |_, _| streamed(&texts, true));
    let first = crowd(&stand, 5, &stream());
    thread::sleep(Duration::from_millis(200)); // about a third has come
    let late = crowd(&stand, 40, &stream());
    for one in first.into_iter().chain(late) {
        let answer = one.join().unwrap();
        assert_eq!(said(&answer), (whole.clone(), true), "{:?}", answer.field("x-corelane-cache"));
    }
    assert_eq!(stand.asked(), 1);
    let hit = stand.chat(&stream());
    assert_eq!((hit.field("x-corelane-cache"), said(&hit)), (Some("hit"), (whole, true)));
    assert_eq!(sum(&stand, "litellm_tokens_used{model=\"m\",type=\"output\"}"), 5.0, "one pays");
    assert_gauges_zero(&stand.gateway);
}

#[test]
fn who_leads_may_leave() {
    let gate = Gate::default();
    let held = gate.clone();
    let stand = Stand::answering("", "", move |number, _| {
        if number == 0 {
            held.pass();
        }
        numbered(number)
    });
    let mut leader = connect(stand.gateway.addr);
    send(&mut leader, CHAT, &hi().to_string());
    until("it leads", || (stand.asked() == 1).then_some(()));
    let others = crowd(&stand, 50, &hi());
    waiting(&stand, 51);
    drop(leader);
    for other in others {
        let answer = other.join().unwrap();
        assert_eq!((answer.status, answer.body), (200, completion("answer 1").to_string().into_bytes()));
    }
    assert_eq!(stand.asked(), 2);
    gate.open();
    assert_gauges_zero(&stand.gateway);
}

#[test]
fn who_leads_may_fail() {
    let gate = Gate::default();
    let held = gate.clone();
    let rest = "[retry]\nattempts = 1\n[breaker]\nenabled = false\n";
    let stand = Stand::answering("", rest, move |number, _| {
        held.pass();
        if number < 2 { status(500) } else { numbered(number) }
    });
    let all = crowd(&stand, 6, &hi());
    waiting(&stand, 6);
    gate.open();
    let answers: Vec<u16> = all.into_iter().map(|one| one.join().unwrap().status).collect();
    // Two have led and failed; then each went on alone, or found the answer of one that had.
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 4, "{answers:?}");
    assert!((3..=6).contains(&stand.asked()), "{} asked", stand.asked());
    // What is wrong with the request is wrong with all of them.
    let stand = {
        let gate = Gate::default();
        let held = gate.clone();
        let stand = Stand::answering("", rest, move |_, _| {
            held.pass();
            status(400)
        });
        let all = crowd(&stand, 20, &hi());
        waiting(&stand, 20);
        gate.open();
        assert!(all.into_iter().all(|one| one.join().unwrap().status == 400));
        stand
    };
    assert_eq!(stand.asked(), 1);
    assert_gauges_zero(&stand.gateway);
}

#[test]
fn a_stream_goes_on_for_those_who_stay() {
    let texts: Vec<String> = (0..100).map(|number| format!("{number} ")).collect();
    let whole = texts.concat();
    let stand = Stand::answering("", "", move |_, _| streamed(&texts, true));
    let mut leader = connect(stand.gateway.addr);
    send(&mut leader, CHAT, &stream().to_string());
    until("it leads", || (stand.asked() == 1).then_some(()));
    let others = crowd(&stand, 3, &stream());
    thread::sleep(Duration::from_millis(150));
    drop(leader);
    for other in others {
        assert_eq!(said(&other.join().unwrap()), (whole.clone(), true));
    }
    assert_eq!(stand.asked(), 1);
    assert_eq!(stand.used("", &stream()), "hit");
    assert_gauges_zero(&stand.gateway);
}

#[test]
fn an_endpoint_that_nobody_waits_for_is_left() {
    let texts: Vec<String> = (0..2000).map(|number| format!("{number} ")).collect();
    let stand = Stand::answering("", "", move |_, _| streamed(&texts, true));
    let mut clients: Vec<_> = (0..3)
        .map(|_| {
            let mut client = connect(stand.gateway.addr);
            send(&mut client, CHAT, &stream().to_string());
            client
        })
        .collect();
    for client in &mut clients {
        let mut some = [0; 300];
        client.stream().read_exact(&mut some).unwrap();
    }
    thread::sleep(Duration::from_millis(100));
    let begin = Instant::now();
    drop(clients);
    assert_gauges_zero(&stand.gateway);
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(stand.asked(), 1);
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody() {
    let texts: Vec<String> = (0..40).map(|_| "x".repeat(60_000)).collect();
    let whole = texts.concat();
    let stand =
        Stand::answering("memory_bytes_max = \"64MiB\"\nanswer_bytes_max = \"8MiB\"", "", move |_, _| {
            streamed(&texts, true)
        });
    let mut leader = connect(stand.gateway.addr);
    send(&mut leader, CHAT, &stream().to_string());
    until("it leads", || (stand.asked() == 1).then_some(()));
    thread::sleep(Duration::from_millis(100)); // its buffers fill; it reads nothing
    let others = crowd(&stand, 3, &stream());
    for other in others {
        let (said, done) = said(&other.join().unwrap());
        assert!(done && said == whole, "{} bytes", said.len());
    }
    // It reads at last, and has lost nothing.
    let answer = leader.answer(false, Instant::now() + Duration::from_secs(20)).unwrap();
    let (said, done) = said(&answer);
    assert!(done && said == whole, "{} bytes", said.len());
    assert_eq!(stand.asked(), 1);
    drop(leader);
    assert_gauges_zero(&stand.gateway);
}

#[test]
fn a_stream_that_breaks_breaks_for_all_and_visibly() {
    let texts: Vec<String> = (0..60).map(|number| format!("{number} ")).collect();
    let stand = Stand::answering("", "", move |_, _| streamed(&texts, false));
    let addr = stand.gateway.addr;
    let ask = move || {
        let mut client = connect(addr);
        let body = stream().to_string();
        let length = body.len();
        let request = format!("POST {CHAT} HTTP/1.1\r\nHost: gw\r\nContent-Length: {length}\r\n\r\n{body}");
        client.stream().write_all(request.as_bytes()).unwrap();
        let mut all = Vec::new();
        let _ = client.stream().read_to_end(&mut all);
        String::from_utf8_lossy(&all).into_owned()
    };
    let all: Vec<_> = (0..4).map(|_| thread::spawn(ask)).collect();
    for one in all {
        let text = one.join().unwrap();
        assert!(text.contains("59 ") && text.contains("\"error\"") && !text.contains("[DONE]"), "{text}");
        assert!(!text.ends_with("0\r\n\r\n"), "no proper end");
    }
    assert_eq!(stand.asked(), 1);
    assert_gauges_zero(&stand.gateway);
}

#[test]
fn without_coalescing_each_asks() {
    let gate = Gate::default();
    let held = gate.clone();
    let stand = Stand::answering("coalesce = false", "", move |number, _| {
        held.pass();
        Reply { writes: vec![plain(&completion(&format!("{number}")).to_string())], then: Then::Keep }
    });
    let all = crowd(&stand, 10, &hi());
    until("all are asked", || (stand.asked() == 10).then_some(()));
    gate.open();
    for one in all {
        assert_eq!(one.join().unwrap().field("x-corelane-cache"), Some("miss"));
    }
    assert_eq!(stand.used("", &hi()), "hit");
}

/// Whoever leads leaves at any moment of the stream: those who stay lose no byte of it.
#[test]
fn no_byte_is_lost_whenever_the_leader_leaves() {
    let stand = Stand::answering("", "", move |number, _| {
        let texts: Vec<String> = (0..40).map(|at| format!("{number}.{at} ")).collect();
        streamed(&texts, true)
    });
    for round in 0..40usize {
        let body = with(&stream(), "seed", json!(round));
        let mut leader = connect(stand.gateway.addr);
        send(&mut leader, CHAT, &body.to_string());
        until("it leads", || (stand.asked() == round + 1).then_some(()));
        let other = crowd(&stand, 1, &body);
        waiting(&stand, 2);
        // Let in is not yet on board: who is there when the leader leaves has 10 ms to be.
        thread::sleep(Duration::from_micros(10_000 + 4_937 * round as u64 % 150_000));
        drop(leader);
        let whole: String = (0..40).map(|at| format!("{round}.{at} ")).collect();
        for one in other {
            assert_eq!(said(&one.join().unwrap()), (whole.clone(), true), "round {round}");
        }
    }
    assert_eq!(stand.asked(), 40);
    assert_gauges_zero(&stand.gateway);
}

#[test]
fn each_has_its_own_deadline() {
    let texts: Vec<String> = (0..500).map(|number| format!("{number} ")).collect();
    let whole = texts.concat();
    let stand = Stand::answering("", "", move |_, _| streamed(&texts, true));
    let hurried = with(&stream(), "timeout", json!(1));
    let first = crowd(&stand, 1, &stream());
    until("it leads", || (stand.asked() == 1).then_some(()));
    let addr = stand.gateway.addr;
    let cut = thread::spawn(move || {
        let mut client = connect(addr);
        send(&mut client, CHAT, &hurried.to_string());
        let mut all = Vec::new();
        let _ = client.stream().read_to_end(&mut all);
        String::from_utf8_lossy(&all).into_owned()
    });
    let text = cut.join().unwrap();
    assert!(
        text.contains("time limit") && !text.contains("[DONE]"),
        "{}",
        &text[text.len().saturating_sub(300)..]
    );
    for one in first {
        assert_eq!(said(&one.join().unwrap()), (whole.clone(), true));
    }
    // The same where the one that leads is in a hurry.
    let leader = with(&with(&stream(), "seed", json!(1)), "timeout", json!(1));
    let mut hurried = connect(addr);
    send(&mut hurried, CHAT, &leader.to_string());
    until("it leads", || (stand.asked() == 2).then_some(()));
    let other = crowd(&stand, 1, &with(&stream(), "seed", json!(1)));
    for one in other {
        assert_eq!(said(&one.join().unwrap()), (whole.clone(), true));
    }
    assert_eq!(stand.asked(), 2);
    drop(hurried);
    assert_gauges_zero(&stand.gateway);
}

#[test]
fn who_asked_first_pays_for_what_comes_after_it_has_left() {
    let texts: Vec<String> = (0..60).map(|number| format!("{number} ")).collect();
    let rest = "[[models]]\nname = \"m\"\nprice = { input_per_1k = 1.0, output_per_1k = 2.0 }\n";
    let stand = Stand::answering("", rest, move |_, _| streamed(&texts, true));
    let mut leader = connect(stand.gateway.addr);
    send(&mut leader, CHAT, &stream().to_string());
    until("it leads", || (stand.asked() == 1).then_some(()));
    let others = crowd(&stand, 2, &stream());
    thread::sleep(Duration::from_millis(100));
    drop(leader);
    others.into_iter().for_each(|one| assert!(said(&one.join().unwrap()).1));
    until("all is charged once", || {
        let output = sum(&stand, "litellm_tokens_used{model=\"m\",type=\"output\"}");
        let cost = sum(&stand, "corelane_cost_total{model=\"m\"}");
        // Five of the endpoint's count, or more where the one that left was estimated higher.
        (output >= 5.0 && cost >= 0.02 - 1e-9).then_some(())
    });
    assert!(sum(&stand, "corelane_cost_total{model=\"m\"}") < 0.2);
}

#[test]
fn a_stand_ins_answer_is_shared_with_those_who_may_use_it() {
    let gate = Gate::default();
    let held = gate.clone();
    let key = |name: &str, models: &str| {
        format!(
            "[[keys]]\nname = \"{name}\"\nsecret = \"secret-of-{name}\"\nmodels = {models}\ncache_group = \"g\"\n"
        )
    };
    let rest = [
        "[retry]\nattempts = 1\n[breaker]\nenabled = false\n[[models]]\nname = \"m\"\nfallbacks = [\"big\"]\n[[models]]\nname = \"big\"\n".to_owned(),
        key("a", "[\"m\", \"big\"]"),
        key("b", "[\"m\"]"),
    ];
    let stand = Stand::answering("", &rest.concat(), move |number, record| {
        if record.json().unwrap()["model"] == "m" {
            return status(500);
        }
        held.pass();
        numbered(number)
    });
    let addr = stand.gateway.addr;
    let ask = move |name: &'static str| {
        thread::spawn(move || {
            let mut client = connect(addr);
            let body = hi().to_string();
            let length = body.len();
            let request = format!(
                "POST {CHAT} HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer secret-of-{name}\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            client.stream().write_all(request.as_bytes()).unwrap();
            client.answer(false, Instant::now() + Duration::from_secs(20)).unwrap()
        })
    };
    let first = ask("a");
    until("the stand-in is asked", || (stand.asked() == 2).then_some(()));
    let (second, third) = (ask("a"), ask("b"));
    waiting(&stand, 3);
    gate.open();
    let [first, second, third] = [first, second, third].map(|one| one.join().unwrap());
    assert_eq!((first.status, first.field("x-corelane-model")), (200, Some("big")));
    assert_eq!((second.status, second.field("x-corelane-model")), (200, Some("big")));
    assert_eq!(second.body, first.body);
    assert_eq!(third.status, 500, "its own failure: {}", String::from_utf8_lossy(&third.body));
}
