//! Each way to misbehave, asked for by the model's name.

use serde_json::json;

use super::super::Fault;
use super::{Answer, Options, begin, chat, load, post, server, until};

const CHAT: &str = "/v1/chat/completions";

#[test]
fn before_the_answer() {
    let sim = server(Options::default());
    let ask = |model: &str| post(sim.addr, CHAT, &chat(model, "hi", true));
    for status in [429, 500, 503] {
        let answer = ask(&format!("fault-{status}"));
        assert!(answer.status == status && answer.whole, "{answer:?}");
        assert!(answer.json()["error"]["message"].is_string());
    }
    let reset = ask("fault-reset");
    assert!(reset.reset && reset.status == 0, "{reset:?}");
    let closed = ask("fault-close");
    assert!(!closed.reset && closed.status == 0 && closed.head.is_empty(), "{closed:?}");
    let cut = ask("fault-cut-head");
    assert!(cut.status == 0 && cut.head.starts_with("HTTP/1.1 200"), "{cut:?}");
    let hanging = begin(sim.addr, CHAT, &chat("fault-hang", "hi", true));
    until("it hangs", || load(&sim.stats.generating) == 1);
    drop(hanging);
    until("it is freed", || load(&sim.stats.cancelled) == 1 && sim.stats.is_quiet());
    assert_eq!(ask("fault-unheard-of").status, 404);
    sim.stop();
}

#[test]
fn the_first_requests_only() {
    let sim = server(Options { fault: Fault::StatusFirst(503, 2), ..Options::default() });
    let statuses: Vec<_> =
        (0..4).map(|_| post(sim.addr, CHAT, &chat("mistral", "hi", true)).status).collect();
    assert_eq!(statuses, [503, 503, 200, 200]);
    sim.stop();
}

/// Words that came whole in a stream of either dialect.
fn words(answer: &Answer) -> usize {
    answer.text().matches("\"content\":\"").count() - answer.text().matches("\"content\":\"\"").count()
}

#[test]
fn inside_of_a_stream() {
    let sim = server(Options { fault_after: 2, tokens: 9, ..Options::default() });
    for path in [CHAT, "/api/chat"] {
        let ask = |model: &str| post(sim.addr, path, &chat(model, "hi", true));
        let end = if path == CHAT { "[DONE]" } else { "\"done\":true" };
        for (model, whole, ended, at_least) in [
            ("fault-cut", false, false, 2),
            ("fault-nodone", true, false, 9),
            ("fault-error-event", true, false, 2),
            ("fault-garbage", true, true, 9),
            ("fault-wrong-length", false, false, 2),
            ("fault-chunk-garbage", false, false, 2),
            ("fault-none", true, true, 9),
        ] {
            let answer = ask(model);
            assert_eq!((answer.status, answer.whole), (200, whole), "{path} {model} {answer:?}");
            assert!(words(&answer) >= at_least, "{path} {model} {answer:?}");
            if whole {
                assert_eq!(answer.text().contains(end), ended, "{path} {model} {answer:?}");
            }
        }
        assert!(!ask("fault-nodone").text().contains("\"stop\""));
        assert!(ask("fault-error-event").text().contains("\"error\""));
        assert!(ask("fault-garbage").text().contains("{oops:\n"));
    }
    sim.stop();
}

#[test]
fn inside_of_a_whole_answer() {
    let sim = server(Options::default());
    let ask = |model: &str| post(sim.addr, CHAT, &chat(model, "hi", false));
    assert!(!ask("fault-cut").whole);
    assert!(!ask("fault-wrong-length").whole);
    assert!(!ask("fault-chunk-garbage").whole);
    let garbage = ask("fault-garbage");
    assert!(garbage.whole && serde_json::from_slice::<serde_json::Value>(&garbage.body).is_err());
    assert_eq!(ask("fault-error-event").status, 500);
    let native = post(sim.addr, "/api/chat", &chat("fault-500", "hi", false));
    assert_eq!(native.json(), json!({ "error": "simulated failure" }));
    sim.stop();
}
