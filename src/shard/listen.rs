//! What a shard accepts from: follows the newest configuration, and ends with the gateway.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use super::{Core, serve};
use crate::net::listener::{Listener, Rest};
use crate::net::task;
use crate::world::Socket;

/// The sockets that are accepted from, and their listeners.
#[derive(Default)]
pub struct Listening {
    running: RefCell<Vec<(Socket, Rc<Listener>)>>,
}

impl Core {
    /// Accepts from what the newest world names, and from nothing else.
    ///
    /// # Errors
    /// A socket cannot be taken into this core, for want of descriptors. The next call tries again.
    pub fn listen(self: &Rc<Self>) -> io::Result<()> {
        let shard = self.shard();
        let wanted = shard.world.bound.sockets.get(self.index).map_or(&[][..], Vec::as_slice);
        let mut running = self.listening.running.borrow_mut();
        running.retain(|(socket, listener)| {
            let kept = wanted.iter().find(|(other, _)| other.ptr_eq(socket));
            match kept {
                Some((_, role)) => listener.set_role(*role),
                None => listener.close(Rest::Accepted),
            }
            kept.is_some()
        });
        for (socket, role) in wanted {
            if running.iter().any(|(known, _)| known.ptr_eq(socket)) {
                continue;
            }
            if let Some(held) = socket.upgrade() {
                let listener = Rc::new(Listener::new(held.try_clone()?, *role)?);
                running.push((socket.clone(), Rc::clone(&listener)));
                task::spawn(&self.tasks, serve::accept(Rc::clone(self), listener));
            }
        }
        Ok(())
    }

    /// Accepts from nothing any more.
    pub fn stop_listening(&self, rest: Rest) {
        self.listening.running.borrow_mut().drain(..).for_each(|(_, listener)| listener.close(rest));
    }
}
