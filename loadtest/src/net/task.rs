//! Tasks of a thread.

use std::future::Future;

/// Runs `future` on this thread.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    #[expect(clippy::disallowed_methods, reason = "this is the wrapper")]
    drop(monoio::spawn(future));
}

/// Lets the others run.
pub async fn turn() {
    let mut turned = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut turned, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
