//! What the control core asks the main thread for: reading the configuration again. The answer comes when it is there.

use std::future::poll_fn;
use std::sync::OnceLock;
use std::task::Poll;

use atomic_waker::AtomicWaker;

/// What a reload has changed, a line each, or why it was refused.
pub type Outcome = Result<Vec<String>, String>;

/// One reload that somebody waits for.
#[derive(Default)]
pub struct Errand {
    outcome: OnceLock<Outcome>,
    waker: AtomicWaker,
}

impl Errand {
    /// Says how it went; only the first word counts.
    pub fn done(&self, outcome: Outcome) {
        let _ = self.outcome.set(outcome);
        self.waker.wake();
    }

    /// Waits for the outcome. One task may.
    pub async fn outcome(&self) -> Outcome {
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            self.outcome.get().map_or(Poll::Pending, |outcome| Poll::Ready(outcome.clone()))
        })
        .await
    }
}
