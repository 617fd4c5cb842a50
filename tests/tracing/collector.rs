//! A collector of the test's own, and the spans that it was sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::answer::Answer;
use crate::support::fleet::connect;
use crate::support::upstream::{Record, Reply, Then, Upstream, plain};

/// How long spans may take to come: a second of lingering, and all tries of a batch before it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Listens for spans on loopback.
pub struct Collector {
    /// The server.
    pub server: Upstream,
    /// Requests, as they came.
    pub requests: Vec<Record>,
    /// Spans of the requests that were taken, with what they were sent by.
    pub spans: Vec<Value>,
    /// Statuses that it answers, by [`Collector::says`].
    status: Arc<AtomicU64>,
}

/// For [`Collector::says`]: the connection is closed without an answer.
pub const SILENT: u64 = 0;

impl Collector {
    /// Takes everything.
    pub fn start() -> Collector {
        let status = Arc::new(AtomicU64::new(200));
        let here = Arc::clone(&status);
        let server = Upstream::start("127.0.0.1:0".parse().unwrap(), move |record| {
            let status = here.load(Ordering::SeqCst);
            // A status with a wait is said once: `Collector::says_once`.
            let (status, wait) = (status % 1000, status / 1000);
            if wait > 0 {
                here.store(200, Ordering::SeqCst);
            }
            assert_eq!((record.method.as_str(), record.target.as_str()), ("POST", "/otel/v1/traces"));
            Reply { writes: answer(status, wait), then: Then::Close }
        });
        Collector { server, requests: Vec::new(), spans: Vec::new(), status }
    }

    /// Answers so from now on.
    pub fn says(&self, status: u64) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// Answers so to the next request, with a `Retry-After` of so many seconds, and then 200.
    pub fn says_once(&self, status: u64, wait_s: u64) {
        self.status.store(wait_s * 1000 + status, Ordering::SeqCst);
    }

    /// `[tracing]` for it.
    pub fn toml(&self, sample_percent: u32) -> String {
        let addr = self.server.addr;
        format!("[tracing]\notlp_endpoint = \"http://{addr}/otel\"\nsample_percent = {sample_percent}\n")
    }

    /// Waits until there are so many spans in all, and that those of the last request are told apart by nobody.
    ///
    /// # Panics
    /// With what there is, after [`PATIENCE`].
    pub fn until(&mut self, count: usize) -> &[Value] {
        let deadline = Instant::now() + PATIENCE;
        while self.spans.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.server.records.recv_timeout(left) {
                Ok(record) => self.take(record),
                Err(_) => panic!("{} spans of {count}:\n{:#?}", self.spans.len(), self.spans),
            }
        }
        assert_eq!(self.spans.len(), count, "{:#?}", self.spans);
        &self.spans
    }

    /// Takes what has come by now.
    pub fn drain(&mut self) {
        while let Ok(record) = self.server.records.try_recv() {
            self.take(record);
        }
    }

    fn take(&mut self, record: Record) {
        assert_eq!(record.faults, Vec::<String>::new());
        let body = record.json().unwrap_or_else(|| panic!("{}", record.summary()));
        for resource in body["resourceSpans"].as_array().unwrap() {
            for scope in resource["scopeSpans"].as_array().unwrap() {
                self.spans.extend(scope["spans"].as_array().unwrap().iter().cloned());
            }
        }
        self.requests.push(record);
    }

    /// Forgets what has come.
    pub fn clear(&mut self) {
        self.drain();
        self.spans.clear();
        self.requests.clear();
    }

    /// The span that another process began, or that nobody did.
    pub fn server_span(&self) -> &Value {
        self.of_kind(2)[0]
    }

    /// The spans of attempts, in order.
    pub fn client_spans(&self) -> Vec<&Value> {
        self.of_kind(3)
    }

    fn of_kind(&self, kind: u64) -> Vec<&Value> {
        self.spans.iter().filter(|span| span["kind"] == kind).collect()
    }
}

fn answer(status: u64, wait: u64) -> Vec<Vec<u8>> {
    match status {
        SILENT => Vec::new(),
        200 => vec![plain("{\"partialSuccess\":{}}")],
        _ => {
            let wait = if wait > 0 { format!("Retry-After: {wait}\r\n") } else { String::new() };
            vec![format!("HTTP/1.1 {status} No\r\n{wait}Content-Length: 0\r\n\r\n").into_bytes()]
        }
    }
}

/// The value of an attribute, whatever its type; null: it has none of that name.
pub fn attribute(span: &Value, key: &str) -> Value {
    let attributes = span["attributes"].as_array().unwrap();
    let found = attributes.iter().filter(|attribute| attribute["key"] == key).collect::<Vec<_>>();
    assert!(found.len() < 2, "{key} twice in {span:#}");
    let value = found.first().and_then(|attribute| attribute["value"].as_object()?.values().next());
    value.cloned().unwrap_or_default()
}

/// POSTs a chat with `fields` of its own.
pub fn ask(addr: std::net::SocketAddr, body: &str, fields: &[(&str, &str)]) -> Answer {
    use std::io::Write as _;
    let mut reader = connect(addr);
    let mut request =
        format!("POST /v1/chat/completions HTTP/1.1\r\nHost: gw\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in fields {
        request += &format!("{name}: {value}\r\n");
    }
    request += &format!("\r\n{body}");
    reader.stream().write_all(request.as_bytes()).unwrap();
    reader.answer(false, Instant::now() + Duration::from_secs(20)).expect("an answer")
}
