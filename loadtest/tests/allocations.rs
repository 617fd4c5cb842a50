//! Promise: once its buffers are warm, a request allocates nothing: the load test measures the server, not its own allocator.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test code

mod support;

use std::alloc::System;

use corelane_load::answer::http1::Reader;
use corelane_load::answer::judge::Judge;
use corelane_load::outcome::Outcome;
use corelane_load::plan::{Plan, Request, Target};
use corelane_load::scenario::Scenario;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::{Process, chunked, events, run, whole};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const WORK: &str = "about = ''\n[load]\nmode = 'closed'\ntime = '2s'\nconnections = 8\n\
    [[work]]\nname = 'chat'\nkind = 'chat'\nmodel = 'llama3.2'\nwords = { law = 'uniform', min = 5, max = 60 }\nanswer_tokens = 20\n\
    [[work]]\nname = 'stream'\nkind = 'stream'\nmodel = 'llama3.2'\nwords = { law = 'uniform', min = 5, max = 60 }\nanswer_tokens = 20\n";

/// One after the other: what others allocate meanwhile would be counted too.
#[test]
fn a_request_allocates_nothing() {
    a_request_written_and_read();
    a_run_of_a_second();
}

fn a_request_written_and_read() {
    let plan = Plan::new(Scenario::parse(WORK).unwrap(), Target::parse("http://x").unwrap());
    let mut request = Request::default();
    let mut answers = Vec::new();
    for index in 0..200 {
        plan.write(index, &mut request);
        let body = serde_json::from_slice(request.body()).unwrap();
        let streams = request.work == 1;
        answers.push(if streams { chunked(&events(&body), true) } else { whole(&body) });
    }
    let longest = answers.iter().map(String::len).max().unwrap();
    let mut body = Vec::with_capacity(longest);
    let region = Region::new(COUNTED);
    for (index, answer) in answers.iter().enumerate() {
        plan.write(index as u64, &mut request);
        let (mut reader, mut judge) = (Reader::default(), Judge::new(request.expected));
        body.clear();
        let used = reader.feed(answer.as_bytes(), &mut body).unwrap();
        assert!(used == answer.len() && reader.is_done());
        if judge.streams(reader.status()) {
            judge.read_events(&mut body, request.text());
        }
        assert!(judge.end(reader.status(), &body, request.text(), &[]) == Outcome::Ok);
    }
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations), (0, 0));
}

fn a_run_of_a_second() {
    let (_sim, address) = Process::sim(&["--any-host"]);
    let region = Region::new(COUNTED);
    let (_, run) = run(WORK, address.parse().unwrap(), 1);
    let change = region.change();
    let requests = run.measures.count(Outcome::Ok);
    assert!(requests > 500, "{requests}");
    assert_eq!(requests, run.measures.count_if(|_| true));
    // What there is belongs to the start, to the eight connections and to the seconds of the report.
    let each = (change.allocations + change.reallocations) as f64 / requests as f64;
    assert!(each < 0.5, "{each} for each of {requests} requests");
}
