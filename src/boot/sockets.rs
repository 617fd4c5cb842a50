//! The listening sockets of the process: one per shard for each address, kept over reloads, and passed on to the process
//! that takes this one's place.
//!
//! A socket is closed when nobody holds it any more: neither this list nor the shards that accept from it. An address that a reload keeps has the same sockets before and after, so nothing that waits in them is lost.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use crate::config::{Config, Level, Server};
use crate::net::handover::{Passed, Purpose};
use crate::net::listener::{self, Role};
use crate::telemetry::log::Log;
use crate::world::{Bound, Socket};

/// All of them.
pub struct Sockets {
    data: Vec<Held>,
    tls: Vec<Held>,
    admin: Held,
    /// Addresses of inherited sockets that the configuration does not name.
    unnamed: Vec<SocketAddr>,
}

/// One address.
#[derive(Clone)]
struct Held {
    /// As the configuration has it; port 0 lets the kernel choose.
    configured: SocketAddr,
    /// As it is.
    bound: SocketAddr,
    sockets: Vec<Arc<TcpListener>>,
}

impl Sockets {
    /// Binds what the configuration names, `shards` sockets an address; those of `inherited` that fit are taken first.
    ///
    /// # Errors
    /// An address is taken, by another gateway too where none of its sockets are passed on, or not ours.
    pub fn open(server: &Server, shards: usize, inherited: Vec<Passed>) -> io::Result<Self> {
        if inherited.is_empty() {
            let data = server.listen.iter().map(|&address| (address, Purpose::Data));
            let tls = tls_addresses(server).iter().map(|&address| (address, Purpose::Tls));
            for (address, purpose) in data.chain(tls).chain([(server.admin_listen, Purpose::Admin)]) {
                listener::is_free(address).map_err(|error| unbound(address, purpose, &error))?;
            }
        }
        let mut inherited: Vec<Option<Passed>> = inherited.into_iter().map(Some).collect();
        let mut held = |address: SocketAddr, purpose, count| {
            let sockets = take(&mut inherited, address, purpose);
            if sockets.is_empty() { Held::bind(address, purpose, count) } else { Held::of(address, sockets) }
        };
        let mut all = |addresses: &[SocketAddr], purpose| {
            addresses.iter().map(|&address| held(address, purpose, shards)).collect::<io::Result<Vec<_>>>()
        };
        let data = all(&server.listen, Purpose::Data)?;
        let tls = all(tls_addresses(server), Purpose::Tls)?;
        let admin = held(server.admin_listen, Purpose::Admin, 1)?;
        let unnamed = inherited.iter().flatten().map(|passed| passed.address).collect();
        Ok(Self { data, tls, admin, unnamed })
    }

    /// The sockets of another configuration: those of addresses that it still has, and new ones.
    ///
    /// # Errors
    /// An address is taken or not ours; nothing has changed then.
    pub fn reopened(&self, server: &Server, shards: usize) -> io::Result<Self> {
        let data = self.data.iter().map(|held| (Purpose::Data, held));
        let mut left: Vec<_> = data.chain(self.tls.iter().map(|held| (Purpose::Tls, held))).collect();
        let mut all = |addresses: &[SocketAddr], purpose| -> io::Result<Vec<Held>> {
            let mut held = |&address: &SocketAddr| {
                // An address may change its purpose; port 0 is another one each time it is named.
                let same = |(other, held): &(Purpose, &Held)| {
                    (held.configured == address || held.bound == address)
                        && (*other == purpose || address.port() != 0)
                };
                match left.iter().position(same) {
                    Some(at) => Ok(left.remove(at).1.clone()),
                    None => Held::bind(address, purpose, shards),
                }
            };
            addresses.iter().map(&mut held).collect()
        };
        let data = all(&server.listen, Purpose::Data)?;
        let tls = all(tls_addresses(server), Purpose::Tls)?;
        Ok(Self { data, tls, admin: self.admin.clone(), unnamed: Vec::new() })
    }

    /// Says which sockets of systemd the configuration does not name: it goes on to hold them, so that clients connect and
    /// nobody ever answers.
    pub fn warn_of_unnamed(&self, log: &Log) {
        for address in &self.unnamed {
            log.write(
                Level::Warn,
                format_args!("systemd's socket {address} is none of server.listen: nobody answers there"),
            );
        }
    }

    /// What each shard accepts from, and where that is.
    #[must_use]
    pub fn bound(&self, config: &Config, shards: usize) -> Bound {
        let redirects = config.server.tls.as_ref().is_some_and(|tls| tls.redirect_http);
        let plain = if redirects { Role::Redirect } else { Role::Plain };
        let mut sockets: Vec<Vec<(Socket, Role)>> = (0..shards).map(|_| Vec::new()).collect();
        for (held, role) in
            self.data.iter().map(|held| (held, plain)).chain(self.tls.iter().map(|held| (held, Role::Tls)))
        {
            // A process before this one may have had more shards, or fewer: every socket is accepted from.
            for at in 0..held.sockets.len().max(shards) {
                let (Some(shard), Some(socket)) =
                    (sockets.get_mut(at % shards), held.sockets.get(at % held.sockets.len()))
                else {
                    continue;
                };
                shard.push((Arc::downgrade(socket), role));
            }
        }
        let addresses = |held: &[Held]| held.iter().map(|held| held.bound).collect();
        Bound {
            listening: addresses(&self.data),
            listening_tls: addresses(&self.tls),
            admin: self.admin.bound,
            sockets,
        }
    }

    /// Lets go of all but the admin listener's: what nobody accepts from any more is closed.
    pub fn close(&mut self) {
        self.data.clear();
        self.tls.clear();
    }

    /// The admin listener's socket.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn admin(&self) -> io::Result<TcpListener> {
        self.admin.sockets.first().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?.try_clone()
    }

    /// All of them, for another process.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn passed(&self) -> io::Result<Vec<Passed>> {
        let data = self.data.iter().map(|held| (held, Purpose::Data));
        let tls = self.tls.iter().map(|held| (held, Purpose::Tls));
        let all = data.chain(tls).chain([(&self.admin, Purpose::Admin)]);
        let each = all.flat_map(|(held, purpose)| {
            held.sockets
                .iter()
                .map(move |socket| Ok(Passed { purpose, address: held.bound, socket: socket.try_clone()? }))
        });
        each.collect()
    }
}

impl Held {
    /// Binds `count` sockets to `address`; port 0 is chosen once and shared.
    fn bind(address: SocketAddr, purpose: Purpose, count: usize) -> io::Result<Self> {
        let mut sockets = Vec::new();
        let mut bound = address;
        for _ in 0..count {
            let socket = listener::bind(bound).map_err(|error| unbound(address, purpose, &error))?;
            bound = socket.local_addr()?;
            sockets.push(Arc::new(socket));
        }
        Ok(Self { configured: address, bound, sockets })
    }

    fn of(configured: SocketAddr, sockets: Vec<TcpListener>) -> io::Result<Self> {
        let bound = sockets.first().map_or(Ok(configured), TcpListener::local_addr)?;
        Ok(Self { configured, bound, sockets: sockets.into_iter().map(Arc::new).collect() })
    }
}

/// Why nobody can be listened to there, and what to do about it.
fn unbound(address: SocketAddr, purpose: Purpose, error: &io::Error) -> io::Error {
    let key = match purpose {
        Purpose::Data => "server.listen",
        Purpose::Tls => "server.tls.listen",
        Purpose::Admin => "server.admin_listen",
    };
    let port = address.port();
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "`ss -ltnp 'sport = :{port}'` shows who listens there: end it, or set {key} to another address"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!(
                "`ip address` shows the addresses of this machine; {key} must be one of them, or 0.0.0.0 for all"
            )
        }
        io::ErrorKind::PermissionDenied => format!(
            "ports below 1024 are for root: set {key} to port 8443, say, or allow it: `sysctl net.ipv4.ip_unprivileged_port_start={port}`"
        ),
        _ => format!("set {key} to another address"),
    };
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error} (hint: {hint})"))
}

fn tls_addresses(server: &Server) -> &[SocketAddr] {
    server.tls.as_ref().map_or(&[], |tls| &tls.listen)
}

/// The inherited sockets of an address; of port 0 those of the first address that only differs by its port.
fn take(inherited: &mut [Option<Passed>], address: SocketAddr, purpose: Purpose) -> Vec<TcpListener> {
    let fits = |passed: &Passed| match address.port() {
        0 => passed.purpose == purpose && passed.address.ip() == address.ip(),
        _ => passed.address == address,
    };
    let Some(found) = inherited.iter().flatten().find(|passed| fits(passed)).map(|passed| passed.address)
    else {
        return Vec::new();
    };
    let taken = inherited.iter_mut().filter_map(|slot| slot.take_if(|passed| passed.address == found));
    taken.map(|passed| passed.socket).collect()
}
