use std::time::Duration;

use super::*;

fn plan(attempts: u32) -> Plan {
    Plan::new(&config::Retry {
        attempts,
        on_timeout: true,
        backoff: Duration::from_millis(100),
        budget_percent: 20,
        budget_min: 10,
    })
}

fn status(status: u16) -> Failure {
    Failure::of_upstream(status, b"", None)
}

#[test]
fn another_first_then_the_same_after_a_while() {
    let mut plan = plan(4);
    let left = |tried: &[usize]| tried.len() < 2;
    assert_eq!(plan.failed(0, status(500), left, || true), Next::Another);
    assert_eq!(plan.tried(), [0]);
    assert_eq!(plan.failed(1, status(502), left, || true), Next::After(200));
    assert_eq!(plan.tried(), [0usize; 0], "all of them may be asked again");
    assert_eq!(plan.failed(1, status(500), left, || true), Next::Another);
    assert_eq!(plan.failed(0, status(503), left, || true), Next::Over, "four attempts");
    let (last, unreachable) = plan.outcome();
    assert_eq!((last.unwrap().status, unreachable), (503, false));
}

#[test]
fn what_does_not_help_is_not_done() {
    for (failure, want) in [
        (status(400), Next::Over),
        (status(422), Next::Over),
        (status(401), Next::Another),
        (status(404), Next::Another),
        (status(429), Next::Another),
        (Failure::new(FailureKind::ConnectFailed, ""), Next::Another),
        (Failure::new(FailureKind::DeadlineExceeded, ""), Next::Over),
        (Failure::new(FailureKind::BufferFull, ""), Next::Over),
    ] {
        assert_eq!(plan(3).failed(0, failure.clone(), |_| true, || true), want, "{failure:?}");
        // What reached no endpoint has cost none any work.
        let spent = if failure.kind == FailureKind::ConnectFailed { Next::Another } else { Next::Over };
        assert_eq!(plan(3).failed(0, failure, |_| true, || false), spent, "the budget is spent");
    }
    for failure in [status(404), status(429), Failure::new(FailureKind::ConnectFailed, "")] {
        assert_eq!(plan(3).failed(0, failure, |_| false, || panic!("not asked")), Next::Over);
    }
    let timeout = || Failure::new(FailureKind::UpstreamTimeout, "");
    assert_eq!(plan(3).failed(0, timeout(), |_| true, || true), Next::Another);
    let mut strict = Plan { on_timeout: false, ..plan(3) };
    assert_eq!(strict.failed(0, timeout(), |_| true, || true), Next::Over);
}

#[test]
fn a_request_that_kills_is_tried_once_more() {
    let died = || Failure::new(FailureKind::UpstreamDied, "").with_retry(Class::OtherEndpoint);
    let mut killer = plan(10);
    assert_eq!(killer.failed(0, died(), |_| true, || true), Next::Another);
    assert_eq!(killer.failed(1, died(), |_| true, || true), Next::Over);
    let mut warm = plan(10);
    warm.died();
    assert_eq!(
        warm.failed(0, Failure::new(FailureKind::ConnectFailed, ""), |_| true, || true),
        Next::Another
    );
    assert_eq!(warm.failed(1, died(), |_| true, || true), Next::Over);
}

#[test]
fn blame_goes_where_it_belongs() {
    let missing = |text: &str| Failure::of_upstream(404, text.as_bytes(), None);
    for (failure, want) in [
        (Failure::new(FailureKind::ConnectFailed, ""), Blame::Endpoint(Reason::Unreachable)),
        (Failure::new(FailureKind::UpstreamDied, ""), Blame::Endpoint(Reason::Answers)),
        (Failure::new(FailureKind::UpstreamTimeout, ""), Blame::Endpoint(Reason::Timeout)),
        (status(500), Blame::Endpoint(Reason::Answers)),
        (status(504), Blame::Endpoint(Reason::Answers)),
        (status(501), Blame::Nobody),
        (status(400), Blame::Nobody),
        (status(401), Blame::Nobody),
        (Failure::of_upstream(503, b"", Some(7)), Blame::Model(Reason::Busy, Some(7000))),
        (status(429), Blame::Model(Reason::Busy, None)),
        (missing(r#"{"error":"model 'x' not found"}"#), Blame::Model(Reason::Missing, None)),
        (
            missing(r#"{"error":{"message":"The model `x` does not exist.","code":404}}"#),
            Blame::Model(Reason::Missing, None),
        ),
        (missing(r#"{"detail":"Not Found"}"#), Blame::Nobody),
        (missing("404 page not found"), Blame::Nobody),
        (Failure::new(FailureKind::DeadlineExceeded, ""), Blame::Nobody),
        (Failure::new(FailureKind::ResponseBlocked, ""), Blame::Nobody),
    ] {
        assert_eq!(blame(&failure), want, "{failure:?}");
    }
}

#[test]
fn fallbacks_go_deep_and_never_around() {
    let names = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut fallbacks = Fallbacks::new("a", 4);
    assert_eq!(fallbacks.next(&names("b c")).as_deref(), Some("b"));
    assert_eq!(fallbacks.next(&names("d a B")).as_deref(), Some("d"), "those of b come before c");
    assert_eq!(fallbacks.next(&[]).as_deref(), Some("c"));
    assert_eq!(fallbacks.next(&names("a b:latest")), None, "none twice");
    let mut bounded = Fallbacks::new("a", 1);
    assert!(bounded.next(&names("b c")).is_some() && bounded.next(&[]).is_none());
}

#[test]
fn no_fallback_for_what_another_model_would_refuse_too() {
    for status_code in [400, 413, 422] {
        assert!(!falls_back(&status(status_code)));
    }
    for kind in [FailureKind::PromptBlocked, FailureKind::BadRequest, FailureKind::DeadlineExceeded] {
        assert!(!falls_back(&Failure::new(kind, "")));
    }
    for kind in [FailureKind::NothingHealthy, FailureKind::SlotsTaken, FailureKind::UpstreamTimeout] {
        assert!(falls_back(&Failure::new(kind, "")));
    }
    assert!(falls_back(&status(500)) && falls_back(&status(429)));
}
