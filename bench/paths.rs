//! The hot paths of a request, each one call that can be repeated: `bench/hot.rs` times them, `bench/instructions.rs` counts their instructions.
//!
//! A path is a function of its own that is never inlined, so that a profiler finds it by its name. What it needs is on the stage,
//! which is set once. The shapes are those of `scripts/compare`: a chat of 420 bytes, an answer of 612, events of 190.

use std::hint::black_box;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use corelane::api::answer::Answer;
use corelane::api::body::Scratch;
use corelane::api::speech::{self, Part};
use corelane::api::{Stream, Task, View};
use corelane::balance::Field;
use corelane::catalog::pick::{Look, Pick};
use corelane::config::{self, Kind, Strategy};
use corelane::guard::Guard;
use corelane::guard::chain::Chain;
use corelane::guard::verdict::Found;
use corelane::guard::window::Window;
use corelane::limit::bucket::{Use, Zone, decide};
use corelane::shard::access::Record;
use corelane::shard::answered::{Answered, Content};
use corelane::shard::head::Incoming;
use corelane::shard::reply::Manner;
use corelane::shard::{Core, Shard};
use corelane::telemetry::histogram::{EXCHANGE_US, Histogram};
use corelane::telemetry::log::Log;
use corelane::wire::Span;
use corelane::wire::http1::chunked::Chunked;
use corelane::wire::http1::request::HeadScan;
use corelane::wire::http1::{Limits, Request, Response};
use corelane::world::{Bound, Current, Process, World};
use corelane::{boot, net};

const HEAD: &[u8] = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Type: application/json\r\n\
    User-Agent: OpenAI/Python 3.54\r\nAccept: application/json\r\nAuthorization: Bearer none\r\nContent-Length: 417\r\n\r\n";
const ANSWER_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 30 Nov 2026 12:00:00 GMT\r\n\
    Content-Type: application/json\r\nContent-Length: 612\r\nConnection: keep-alive\r\n\r\n";
const PROSE: &str = "The ferry leaves the harbour at seven, and by the time the sun is over the hills most of the passengers have \
    found a seat on the upper deck. A teacher from the village school reads the newspaper aloud to two old men who pretend not \
    to listen; they disagree with the editor, with the weather report, and at last with each other. In the galley somebody is \
    frying onions. You can smell them before you see the open door. ";

/// What is called, and its name.
pub type Path = (&'static str, fn(&mut Stage));

/// All of them.
pub const ALL: [Path; 19] = [
    ("request_head", request_head),
    ("answer_head", answer_head),
    ("chunked_body", chunked_body),
    ("view_of_request", view_of_request),
    ("splice", splice),
    ("read_answer", read_answer),
    ("stream_event", stream_event),
    ("guard_literals", guard_literals),
    ("guard_secrets", guard_secrets),
    ("guard_classifiers", guard_classifiers),
    ("guard_tokens", guard_tokens),
    ("guard_event", guard_event),
    ("pick_least_busy", pick_least_busy),
    ("pick_weighted", pick_weighted),
    ("pick_endpoint", pick_endpoint),
    ("limit_decision", limit_decision),
    ("histogram_record", histogram_record),
    ("record_of_exchange", record_of_exchange),
    ("record_with_line", record_with_line),
];

/// What the paths need.
pub struct Stage {
    limits: Limits,
    request: Vec<u8>,
    answer: Vec<u8>,
    chunked: Vec<u8>,
    event: Vec<u8>,
    text: String,
    scratch: Scratch,
    view: View,
    out: Vec<u8>,
    stream: Stream,
    literals: Arc<Chain>,
    secrets: Arc<Chain>,
    classifiers: Arc<Chain>,
    tokens: Arc<Chain>,
    window: Window,
    parts: Vec<Part>,
    zones: [Zone; 2],
    client: u64,
    turn: AtomicUsize,
    turns: Vec<u16>,
    histogram: Histogram,
    silent: Exchange,
    logged: Exchange,
}

/// A shard and what its exchanges are made of.
struct Exchange {
    shard: Rc<Shard>,
    incoming: Incoming,
    manner: Manner,
    view: View,
    answered: Box<Answered>,
    peer: SocketAddr,
}

impl Stage {
    /// Builds everything: some seconds under a profiler.
    pub fn set() -> Self {
        let request = format!(
            r#"{{"model":"ollama/llama3.2","messages":[{{"role":"system","content":"You are a helpful assistant."}},{{"role":"user","content":"{}"}}],"temperature":0.7,"max_tokens":100000,"stream":false}}"#,
            "y".repeat(240)
        );
        let answer = format!(
            r#"{{"id":"chatcmpl-123","object":"chat.completion","created":1700000000,"model":"llama3.2","system_fingerprint":"fp_ollama","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":26,"completion_tokens":64,"total_tokens":90}}}}"#,
            "x".repeat(330)
        );
        let event = br#"{"id":"chatcmpl-123","object":"chat.completion.chunk","created":1700000000,"model":"llama3.2","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"content":" harbour"},"finish_reason":null}]}"#;
        let event = [b"data: ", &event[..], b"\n\n"].concat();
        let chunked =
            [format!("{:x}\r\n", event.len()).into_bytes(), event.clone(), b"\r\n0\r\n\r\n".to_vec()]
                .concat();
        let answers = chain(true, r#""BanSubstrings", "MaliciousURLs""#, "");
        let mut scratch = Scratch::default();
        let view = View::read(&mut scratch, request.as_bytes(), Task::Chat).unwrap();
        Self {
            limits: Limits::default(),
            silent: Exchange::set("off", &view, &answer),
            logged: Exchange::set("/nowhere/access.log", &view, &answer),
            request: request.into_bytes(),
            answer: answer.into_bytes(),
            chunked,
            event,
            text: PROSE.repeat(4),
            scratch,
            view,
            out: Vec::with_capacity(4096),
            stream: Stream::new(Task::Chat, false, b"\"ollama/llama3.2\"".to_vec(), true),
            literals: chain(
                false,
                r#""BanSubstrings""#,
                "[guard.scanner.BanSubstrings]\nsubstrings = [\"forbidden phrase\", \"another one\"]\n",
            ),
            secrets: chain(false, r#""Secrets""#, ""),
            classifiers: chain(false, r#""PromptInjection", "Toxicity""#, ""),
            tokens: chain(false, r#""TokenLimit""#, "[guard.scanner.TokenLimit]\nlimit = 1999\n"),
            window: Window::new(answers),
            parts: Vec::new(),
            zones: [Zone::new(u32::MAX, 10_000), Zone::new(u32::MAX, 10_000)],
            client: 0x1234_5678_9abc_def1,
            turn: AtomicUsize::new(0),
            turns: corelane::balance::weighted::turns(&[3, 1, 1, 2, 1, 1, 1, 4]),
            histogram: Histogram::new(&EXCHANGE_US),
        }
    }
}

fn chain(output: bool, scanners: &str, more: &str) -> Arc<Chain> {
    let (on, off) = if output { ("output", "input") } else { ("input", "output") };
    let text = format!(
        "[guard]\n[guard.{off}]\nscanners = []\n[guard.{on}]\nscanners = [{scanners}]\n{more}\n[[endpoints]]\nname = \"a\"\nurl = \"http://h:1\"\n"
    );
    let config = config::parse(&text).unwrap_or_else(|problems| panic!("{problems}"));
    let guard = Guard::new(&config.guard, net::clock::now_ns).unwrap_or_else(|unfit| panic!("{unfit:?}"));
    let profile = guard.profile(Some(0)).unwrap();
    Arc::clone(if output { &profile.output } else { &profile.input })
}

impl Exchange {
    fn set(access: &str, view: &View, answer: &str) -> Self {
        let mut text = format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin_listen = \"127.0.0.1:0\"\n[guard]\nenabled = false\n[log]\naccess = \"{access}\"\nformat = \"json\"\n"
        );
        for number in 0..8 {
            text += &format!(
                "[[endpoints]]\nname = \"gpu-{number}\"\nurl = \"http://127.0.0.1:1\"\nkind = \"openai\"\n"
            );
        }
        text += "[[models]]\nname = \"ollama/llama3.2\"\nupstream_model = \"llama3.2\"\n";
        text += "endpoints = [\"gpu-0\", \"gpu-1\", \"gpu-2\", \"gpu-3\", \"gpu-4\", \"gpu-5\", \"gpu-6\", \"gpu-7\"]\n";
        let config = config::parse(&text).unwrap_or_else(|problems| panic!("{problems}"));
        let process = Process::new(1, Log::new(config.log.level, &config.log.access));
        let made = boot::make(&config, None).unwrap();
        let admin = "127.0.0.1:1".parse().unwrap();
        let bound = Bound { listening: vec![], listening_tls: vec![], admin, sockets: vec![vec![]] };
        let current = Current::new(World::new(&process, config, made, bound, None));
        let shard = Core::new(0, process, current).shard();
        let incoming = Incoming::of_stream(&shard, HEAD.to_vec(), false).unwrap();
        let manner = Manner::of(&shard, &incoming, false);
        let mut answered = Answered::new(200, vec![], vec![], Arc::from(&b""[..]));
        answered.content = Content::Whole {
            buffer: answer.as_bytes().to_vec(),
            start: 0,
            answer: Answer::read(answer.as_bytes(), Task::Chat, None).unwrap(),
            model: vec![],
            base64: false,
        };
        let peer = "10.11.12.13:45678".parse().unwrap();
        Self { shard, incoming: *incoming, manner, view: view.clone(), answered, peer }
    }

    /// The record of an exchange that went well, from its head to its end.
    fn live(&self, body: &[u8]) {
        let shard = &self.shard;
        let deployment = shard.deployment(&self.view.model).unwrap();
        let mut record = Record::new(shard, &self.incoming, &self.manner, self.peer);
        record.body(body);
        record.request_ends(shard);
        record.model(&deployment, &self.view);
        record.attempt(shard, &deployment.candidates[0]);
        record.sent(shard);
        record.upstream_head(shard);
        record.content(shard, &self.answered);
        record.count(shard);
        record.status = 200;
        record.attempt_ends(shard, true);
        record.finish(shard, &self.manner.request_id);
    }
}

#[inline(never)]
fn request_head(stage: &mut Stage) {
    assert!(HeadScan::default().find(HEAD, &stage.limits).is_ok_and(|end| end.is_some()));
    assert!(black_box(Request::parse(HEAD, &stage.limits)).is_ok());
}

#[inline(never)]
fn answer_head(stage: &mut Stage) {
    assert!(black_box(Response::parse(ANSWER_HEAD, &stage.limits)).is_ok());
}

#[inline(never)]
fn chunked_body(stage: &mut Stage) {
    stage.out.clear();
    stage.out.extend_from_slice(&stage.chunked);
    assert!(Chunked::default().decode(&mut stage.out, 0).is_ok());
}

#[inline(never)]
fn view_of_request(stage: &mut Stage) {
    assert!(black_box(View::read(&mut stage.scratch, &stage.request, Task::Chat)).is_ok());
}

#[inline(never)]
fn splice(stage: &mut Stage) {
    stage.out.clear();
    stage.view.splice(&stage.request, "llama3.2", Kind::Openai, &mut stage.out);
    black_box(&stage.out);
}

#[inline(never)]
fn read_answer(stage: &mut Stage) {
    assert!(black_box(Answer::read(&stage.answer, Task::Chat, None)).is_ok());
}

#[inline(never)]
fn stream_event(stage: &mut Stage) {
    stage.out.clear();
    assert!(stage.stream.push(&stage.event, &mut stage.out).is_ok());
}

#[inline(never)]
fn guard_literals(stage: &mut Stage) {
    inspect(&stage.literals, &stage.text);
}

#[inline(never)]
fn guard_secrets(stage: &mut Stage) {
    inspect(&stage.secrets, &stage.text);
}

#[inline(never)]
fn guard_classifiers(stage: &mut Stage) {
    inspect(&stage.classifiers, &stage.text);
}

#[inline(never)]
fn guard_tokens(stage: &mut Stage) {
    let tokens = stage.tokens.tokens().unwrap();
    let (mut state, mut found) = (tokens.start(), Found::default());
    while !tokens.count(&mut state, &stage.text, usize::MAX, &mut found) {}
    black_box(&found);
}

fn inspect(chain: &Chain, text: &str) {
    let mut inspection = chain.inspect();
    while !chain.step(&mut inspection, text, 1 << 30) {}
    assert!(inspection.reading.found.findings.is_empty());
}

/// An event of an answer whose texts two scanners read.
#[inline(never)]
fn guard_event(stage: &mut Stage) {
    let data = &stage.event[6..stage.event.len() - 2];
    stage.out.clear();
    stage.parts.clear();
    speech::parts(Task::Chat, data, &mut |part| stage.parts.push(part));
    for part in &stage.parts {
        if let Part::Text(_, span) = part {
            stage.window.piece(0, Span { start: span.start + 6, end: span.end + 6 }).unwrap();
            let _ = stage.window.read(span.of_bytes(data));
        }
    }
    let _ = stage.window.event(&stage.event, &mut stage.out);
}

/// Of eight endpoints the one with the fewest exchanges.
#[inline(never)]
fn pick_least_busy(stage: &mut Stage) {
    choose(stage, Strategy::LeastBusy);
}

#[inline(never)]
fn pick_weighted(stage: &mut Stage) {
    choose(stage, Strategy::Weighted);
}

fn choose(stage: &Stage, strategy: Strategy) {
    let (eligible, load) = (|at: usize| at != 3, |at: usize| (at % 3) as u32);
    let field = Field { n: 8, eligible, load, cursor: &stage.turn, turns: &stage.turns };
    assert!(field.pick(strategy, 7).is_some());
}

/// The deployment of a model, an endpoint with its place, and the place given back.
#[inline(never)]
fn pick_endpoint(stage: &mut Stage) {
    let shard = &stage.silent.shard;
    let deployment = shard.deployment(&stage.silent.view.model).unwrap();
    let registry = &shard.world.registry;
    let look = Look { registry, task: Task::Chat, tried: &[], random: 7, now_ms: 1000, called: false };
    assert!(matches!(deployment.pick(look), Pick::Taken(_)));
}

/// A client that two zones let through.
#[inline(never)]
fn limit_decision(stage: &mut Stage) {
    let each = |zone| Use { zone, client: stage.client, burst: 268_000, delay: None };
    let [first, second] = &stage.zones;
    black_box(decide(&[each(first), each(second)], 1000));
}

#[inline(never)]
fn histogram_record(stage: &mut Stage) {
    stage.histogram.record(black_box(31_000 + stage.turn.fetch_add(1, Ordering::Relaxed) as u64));
}

/// All that is noted and counted of an exchange.
#[inline(never)]
fn record_of_exchange(stage: &mut Stage) {
    stage.silent.live(&stage.request);
}

/// The same with its JSON line, which waits in a queue.
#[inline(never)]
fn record_with_line(stage: &mut Stage) {
    stage.logged.live(&stage.request);
}
