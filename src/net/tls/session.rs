//! One TLS connection without its socket.
//!
//! The owner feeds what it read ([`Session::receive`]), takes the plaintext, seals what it writes
//! ([`Session::seal`]), and sends what [`Session::take_outgoing`] holds before anything else. Bound: at most one
//! record (16 KiB) of ciphertext waits for its end, less than 64 KiB of an unfinished handshake.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{ClientConfig, Error, ServerConfig};

/// What a record adds to its data: header, type, tag, and the explicit nonce of TLS 1.2.
pub const RECORD_OVERHEAD: usize = 5 + 1 + 16 + 8;

/// Most ciphertext that may wait: a record, or a handshake message over several.
const WAITING_MAX: usize = 64 * 1024;

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The handshake needs bytes of the peer.
    Handshake,
    /// Data may pass.
    Open,
    /// The peer has said that it sends no more.
    Ended,
}

enum Side {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// State of one connection.
pub struct Session {
    side: Side,
    /// Received, not opened yet: an unfinished record.
    waiting: Vec<u8>,
    /// To be sent before anything else.
    outgoing: Vec<u8>,
    stage: Stage,
    failed: bool,
    /// Data has come since [`Session::take_spoken`].
    spoken: bool,
}

/// What one look at the state asked for.
enum Next {
    Again,
    Stop(Stage),
    Failed,
}

impl Session {
    /// The server's side, waiting for a ClientHello.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self::new(Side::Server(UnbufferedServerConnection::new(config)?)))
    }

    /// The client's side; its ClientHello is in [`Session::take_outgoing`] after the first [`Session::receive`].
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Error> {
        Ok(Self::new(Side::Client(UnbufferedClientConnection::new(config, name)?)))
    }

    fn new(side: Side) -> Self {
        Self {
            side,
            waiting: Vec::new(),
            outgoing: Vec::new(),
            stage: Stage::Handshake,
            failed: false,
            spoken: true,
        }
    }

    /// How far it is.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The protocol that was agreed on (ALPN).
    #[must_use]
    pub fn protocol(&self) -> Option<&[u8]> {
        match &self.side {
            Side::Server(session) => session.alpn_protocol(),
            Side::Client(session) => session.alpn_protocol(),
        }
    }

    /// Takes what has to be sent before anything else; empty if nothing has.
    pub fn take_outgoing(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outgoing)
    }

    /// Whether [`Session::take_outgoing`] has something.
    #[must_use]
    pub fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether the handshake has ended or data has come since the last call: records without data count for nothing.
    pub fn take_spoken(&mut self) -> bool {
        std::mem::take(&mut self.spoken)
    }

    /// Takes bytes of the peer and appends their plaintext to `plain`. A buffer that is not needed any more comes back.
    ///
    /// # Errors
    /// The peer broke the protocol or is not trusted: the connection is to be closed, after what
    /// [`Session::take_outgoing`] holds (an alert) has been sent.
    pub fn receive(&mut self, bytes: Vec<u8>, plain: &mut Vec<u8>) -> Result<Option<Vec<u8>>, Error> {
        self.check()?;
        let mut spare = None;
        if self.waiting.is_empty() {
            self.waiting = bytes;
        } else {
            self.waiting.extend_from_slice(&bytes);
            spare = Some(bytes);
        }
        let before = plain.len();
        self.advance(plain)?;
        self.spoken |= plain.len() > before;
        if self.waiting.len() > WAITING_MAX {
            self.failed = true;
            return Err(Error::General("too much unfinished ciphertext".to_owned()));
        }
        if self.waiting.is_empty() && spare.is_none() {
            spare = Some(std::mem::take(&mut self.waiting));
        } else if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
        Ok(spare)
    }

    /// Appends `plain` to `out` as records. Call only when [`Stage::Open`] or [`Stage::Ended`].
    ///
    /// # Errors
    /// The session has failed, or its keys are worn out.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        self.check()?;
        let mut late = Vec::new();
        self.advance(&mut late)?; // answers that the peer waits for go first
        if !late.is_empty() {
            return Err(Error::General("data was left unopened".to_owned())); // `receive` opens all that is whole
        }
        out.append(&mut self.outgoing);
        let Self { side, waiting, .. } = self;
        match side {
            Side::Server(session) => seal(session.process_tls_records(waiting), plain, out),
            Side::Client(session) => seal(session.process_tls_records(waiting), plain, out),
        }
    }

    /// The alert that says that no more will come; empty if it cannot be said.
    pub fn close_notify(&mut self) -> Vec<u8> {
        let mut out = self.take_outgoing();
        if self.failed || self.stage == Stage::Handshake {
            return out;
        }
        let Self { side, waiting, .. } = self;
        match side {
            Side::Server(session) => close_notify(session.process_tls_records(waiting), &mut out),
            Side::Client(session) => close_notify(session.process_tls_records(waiting), &mut out),
        }
        out
    }

    /// Looks at the state until it wants bytes of the peer, or rests.
    fn advance(&mut self, plain: &mut Vec<u8>) -> Result<(), Error> {
        let mut used = 0;
        loop {
            let Self { side, waiting, outgoing, .. } = self;
            let unread = waiting.get_mut(used..).unwrap_or_default();
            let (discard, next) = match side {
                Side::Server(session) => step(session.process_tls_records(unread), plain, outgoing),
                Side::Client(session) => step(session.process_tls_records(unread), plain, outgoing),
            };
            used += discard;
            match next {
                Ok(Next::Again) => {}
                Ok(Next::Stop(stage)) => {
                    if self.stage != Stage::Ended {
                        self.stage = stage;
                    }
                    waiting.drain(..used.min(waiting.len()));
                    return Ok(());
                }
                Ok(Next::Failed) => {
                    self.failed = true;
                    return Err(Error::General("the session has no more states".to_owned()));
                }
                Err(error) => {
                    waiting.drain(..used.min(waiting.len()));
                    self.failed = true;
                    self.gather_alert();
                    return Err(error);
                }
            }
        }
    }

    /// After an error: the alert that tells the peer, if there is one, behind what was to be sent before it (each is
    /// a step of its own). The state must not be asked for more: it would look at the same bytes again, and does not
    /// expect that.
    fn gather_alert(&mut self) {
        let Self { side, waiting, outgoing, .. } = self;
        let mut nothing = Vec::new();
        match side {
            Side::Server(session) => {
                while session.wants_write() {
                    let _ = step(session.process_tls_records(waiting), &mut nothing, outgoing);
                }
            }
            Side::Client(session) => {
                while session.wants_write() {
                    let _ = step(session.process_tls_records(waiting), &mut nothing, outgoing);
                }
            }
        }
    }

    fn check(&self) -> Result<(), Error> {
        if self.failed { Err(Error::General("the session has failed".to_owned())) } else { Ok(()) }
    }
}

fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &mut Vec<u8>,
    outgoing: &mut Vec<u8>,
) -> (usize, Result<Next, Error>) {
    let UnbufferedStatus { discard, state } = status;
    let next = match state {
        Err(error) => Err(error),
        Ok(ConnectionState::ReadTraffic(mut read)) => {
            let mut result = Ok(Next::Again);
            while let Some(record) = read.next_record() {
                match record {
                    Ok(record) => plain.extend_from_slice(record.payload),
                    Err(error) => result = Err(error),
                }
            }
            result
        }
        Ok(ConnectionState::EncodeTlsData(mut encode)) => {
            grown(outgoing, 0, |room| {
                encode.encode(room).map_err(|error| match error {
                    EncodeError::InsufficientSize(need) => Some(need.required_size),
                    EncodeError::AlreadyEncoded => None,
                })
            });
            Ok(Next::Again)
        }
        Ok(ConnectionState::TransmitTlsData(transmit)) => {
            transmit.done();
            Ok(Next::Again)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Next::Stop(Stage::Handshake)),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Next::Stop(Stage::Open)),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Ok(Next::Stop(Stage::Ended)),
        Ok(_) => Ok(Next::Failed), // early data, which is never accepted
    };
    (discard, next)
}

/// Lets `write` write behind `out`, with `guess` bytes of room, and with as many as it asks for if that is too little.
fn grown(
    out: &mut Vec<u8>,
    guess: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> bool {
    let start = out.len();
    let mut room = guess;
    for _ in 0..2 {
        out.resize(start + room, 0);
        match write(out.get_mut(start..).unwrap_or_default()) {
            Ok(written) => {
                out.truncate(start + written);
                return true;
            }
            Err(Some(need)) => room = need,
            Err(None) => break,
        }
    }
    out.truncate(start);
    false
}

fn seal<Data>(status: UnbufferedStatus<'_, '_, Data>, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let mut traffic = match status.state? {
        ConnectionState::WriteTraffic(traffic) => traffic,
        _ => return Err(Error::HandshakeNotComplete),
    };
    let mut exhausted = false;
    let guess = plain.len() + (plain.len() / (16 * 1024) + 1) * RECORD_OVERHEAD;
    let sealed = grown(out, guess, |room| {
        traffic.encrypt(plain, room).map_err(|error| match error {
            EncryptError::InsufficientSize(need) => Some(need.required_size),
            EncryptError::EncryptExhausted => {
                exhausted = true;
                None
            }
        })
    });
    match (sealed, exhausted) {
        (true, _) => Ok(()),
        (false, true) => Err(Error::EncryptError),
        (false, false) => Err(Error::General("a record did not fit its room".to_owned())),
    }
}

fn close_notify<Data>(status: UnbufferedStatus<'_, '_, Data>, out: &mut Vec<u8>) {
    if let Ok(ConnectionState::WriteTraffic(mut traffic)) = status.state {
        grown(out, RECORD_OVERHEAD + 2, |room| {
            traffic.queue_close_notify(room).map_err(|error| match error {
                EncryptError::InsufficientSize(need) => Some(need.required_size),
                EncryptError::EncryptExhausted => None,
            })
        });
    }
}
