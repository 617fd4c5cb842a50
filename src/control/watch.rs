//! `/ui/events`: a document a second for as long as somebody watches, as server-sent events.
//!
//! A reader that has not taken the last document gets no new one, and is cut after [`PATIENCE`] such seconds: what waits
//! for it is one document and never more. Ends with the connection, and when a drain begins, after a last document
//! that says so.

use std::future::Future as _;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::Control;
use super::live::Watching;
use crate::net::client::Line;
use crate::net::clock;

/// Between two documents.
const EVERY: Duration = Duration::from_secs(1);
/// Seconds that a reader may be behind.
const PATIENCE: u32 = 5;
/// Time for one write.
const WRITE_US: u64 = 5_000_000;

/// Writes documents behind a head that has been written; the connection is to be closed then.
pub async fn stream(control: &Control, client: &mut Line, watching: Watching<'_>) {
    client.watch();
    let mut behind = 0;
    let mut document: Option<Rc<str>> = None;
    while !client.gone() {
        // A reader that is behind hears nothing: neither a heartbeat nor a document would reach it.
        if client.unsent() > 0 {
            behind += 1;
            if behind > PATIENCE {
                break;
            }
            pause(client).await;
            continue;
        }
        behind = 0;
        let world = control.world();
        let draining = world.is_draining();
        let fresh = control.live.document(&world);
        drop(world);
        // The same document once more is only a sign of life.
        let same = document.as_ref().is_some_and(|last| Rc::ptr_eq(last, &fresh));
        let event = if same { ": alive\n\n".to_owned() } else { format!("data: {fresh}\n\n") };
        document = Some(fresh);
        client.timer().set(control.clock.now_us() + WRITE_US);
        if client.write(event.into_bytes()).await.is_err() {
            break;
        }
        client.timer().clear();
        if draining {
            break;
        }
        pause(client).await;
    }
    drop(watching);
}

/// Waits for the next document's time, or until the client leaves.
async fn pause(client: &Line) {
    let mut time = pin!(clock::sleep(EVERY));
    std::future::poll_fn(|cx| if client.gone() { Poll::Ready(()) } else { time.as_mut().poll(cx) }).await;
}
