//! A runtime as a shard has it, and clients on it.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use corelane::config::{self, Level};
use corelane::net::clock;
use corelane::net::redis::{Redis, Reply};
use corelane::net::runtime::Runtime;
use corelane::net::task::{self, TaskCounts};

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `test` on a runtime with the driver that the tests are run with.
pub fn run<F: Future>(test: F) -> F::Output {
    let driver = match std::env::var("CORELANE_TEST_DRIVER").as_deref() {
        Ok("epoll") => config::Driver::Epoll,
        Ok("io_uring") => config::Driver::IoUring,
        _ => config::Driver::Auto,
    };
    Runtime::build(driver, 1024).unwrap().block_on(test)
}

/// `[redis]` with this URL and more keys.
pub fn settings(url: &str, more: &str) -> config::shared::Redis {
    let text = format!("[[endpoints]]\nname = 'a'\nurl = 'http://h:1'\n[redis]\nurl = '{url}'\n{more}\n");
    config::parse(&text).unwrap_or_else(|problems| panic!("{problems}")).redis.unwrap()
}

/// Lines that a client wrote for the log.
pub type Lines = Rc<RefCell<Vec<String>>>;

/// A client, its lines, and the counts of its tasks.
pub fn observed(settings: &config::shared::Redis) -> (Rc<Redis>, Lines, Rc<TaskCounts>) {
    let (lines, tasks) = (Lines::default(), Rc::new(TaskCounts::default()));
    let connector = Redis::connector(settings).unwrap();
    let there = Rc::clone(&lines);
    let tell = move |level: Level, text: &str| there.borrow_mut().push(format!("{level:?} {text}"));
    (Redis::new(settings, connector.as_ref(), &tasks, Box::new(tell)).unwrap(), lines, tasks)
}

/// A client.
pub fn client(settings: &config::shared::Redis) -> Rc<Redis> {
    observed(settings).0
}

/// A string reply.
pub fn bytes(text: &str) -> Reply {
    Reply::Bytes(text.as_bytes().to_vec().into())
}

/// Begins `work` beside the test.
pub fn spawn(work: impl Future<Output = ()> + 'static) {
    task::spawn(&Rc::default(), work);
}

/// Waits for `found` to find something.
pub async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let begin = clock::now();
    loop {
        if let Some(value) = found().await {
            return value;
        }
        assert!(clock::now().duration_since(begin) < PATIENCE, "in vain: {what}");
        clock::sleep(Duration::from_millis(5)).await;
    }
}

/// Numbers by chance, the same each time (Marsaglia's xorshift64*).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % end.max(1)
    }
}
