//! TLS as tests need it: certificates of an authority of their own, a rustls client, and `openssl s_client`.
//!
//! [`Ca`] is a folder with an authority and what it has signed; it goes with its value. [`dial`] gives a connection
//! whose handshake is done; [`connect`] puts a plain socket in front of one, so that everything that speaks to
//! a `TcpStream` speaks TLS unchanged ([`bridge`] does so for every connection to an address).

#![allow(clippy::disallowed_types)] // both directions of a client's connection share its state

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, Connection, ConnectionCommon, HandshakeKind, RootCertStore, ServerConfig,
    ServerConnection, SideData, StreamOwned,
};

use super::answer::Reader;

/// How long a read of a test's connection may wait.
const PATIENCE: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3600);

/// A server's connection.
pub type Served = StreamOwned<ServerConnection, TcpStream>;

/// A client's connection.
pub type Conn = StreamOwned<ClientConnection, TcpStream>;

/// An authority, and a folder with its certificate (`ca.pem`) and all that it has signed.
pub struct Ca {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate chain and its key, as PEM files.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The chain.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Pair {
    /// As members of a TOML table.
    pub fn toml(&self) -> String {
        format!("cert = {:?}\nkey = {:?}\n", self.cert, self.key)
    }

    /// As an inline table.
    pub fn inline(&self) -> String {
        format!("{{ cert = {:?}, key = {:?} }}", self.cert, self.key)
    }

    /// Overwrites these files by another pair's.
    pub fn replace(&self, other: &Pair) {
        fs::copy(&other.cert, &self.cert).unwrap();
        fs::copy(&other.key, &self.key).unwrap();
    }
}

impl Ca {
    /// A fresh authority.
    pub fn new() -> Ca {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("corelane-ca-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(&name);
        fs::create_dir_all(&folder).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let ca = Ca { folder, issuer };
        fs::write(ca.file(), ca.issuer.pem()).unwrap();
        ca
    }

    /// The authority's certificate.
    pub fn file(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// A file of the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A certificate for these names, the first of which is its common name, with an ECDSA key.
    pub fn issue(&self, stem: &str, names: &[&str]) -> Pair {
        self.sign(stem, names, &KeyPair::generate().unwrap(), true)
    }

    /// As [`Ca::issue`], with an RSA key of 2048 bits.
    pub fn issue_rsa(&self, stem: &str, names: &[&str]) -> Pair {
        let arguments = ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
        let made = Command::new("openssl").args(arguments).stderr(Stdio::null()).output().expect("openssl");
        let key = KeyPair::from_pem(std::str::from_utf8(&made.stdout).unwrap()).unwrap();
        self.sign(stem, names, &key, true)
    }

    /// As [`Ca::issue`], but an hour too old.
    pub fn issue_expired(&self, stem: &str, names: &[&str]) -> Pair {
        self.sign(stem, names, &KeyPair::generate().unwrap(), false)
    }

    fn sign(&self, stem: &str, names: &[&str], key: &KeyPair, valid: bool) -> Pair {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        let now = rcgen::date_time_ymd(1970, 1, 1) + SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        params.not_before = now - 48 * HOUR;
        params.not_after = if valid { now + 90 * 24 * HOUR } else { now - HOUR };
        params.distinguished_name.push(DnType::CommonName, names[0].as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let cert = params.signed_by(key, &self.issuer).unwrap();
        let pair = Pair { cert: self.path(&format!("{stem}.pem")), key: self.path(&format!("{stem}.key")) };
        fs::write(&pair.cert, cert.pem()).unwrap();
        fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }

    /// A client that trusts this authority.
    pub fn client(&self) -> Client {
        Client { roots: self.file(), versions: rustls::ALL_VERSIONS, alpn: &[], identity: None }
    }
}

impl Drop for Ca {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// How a client speaks.
#[derive(Clone)]
pub struct Client {
    /// The authorities that it trusts.
    pub roots: PathBuf,
    /// Versions of TLS that it speaks.
    pub versions: &'static [&'static rustls::SupportedProtocolVersion],
    /// Protocols that it offers.
    pub alpn: &'static [&'static str],
    /// Its own certificate.
    pub identity: Option<Pair>,
}

/// TLS 1.2 alone.
pub const ONLY_12: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
/// TLS 1.3 alone.
pub const ONLY_13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

impl Client {
    /// With these versions only.
    pub fn versions(self, versions: &'static [&'static rustls::SupportedProtocolVersion]) -> Client {
        Client { versions, ..self }
    }

    /// With these protocols.
    pub fn alpn(self, alpn: &'static [&'static str]) -> Client {
        Client { alpn, ..self }
    }

    /// With this certificate.
    pub fn identity(self, pair: &Pair) -> Client {
        Client { identity: Some(pair.clone()), ..self }
    }

    /// The settings of connections; those made with the same value resume each other's sessions.
    pub fn config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        chain(&self.roots).into_iter().for_each(|certificate| roots.add(certificate).unwrap());
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(pair) => builder
                .with_client_auth_cert(chain(&pair.cert), PrivateKeyDer::from_pem_file(&pair.key).unwrap())
                .unwrap(),
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// The certificates of a PEM file.
pub fn chain(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path).unwrap().collect::<Result<_, _>>().unwrap()
}

/// The state of a connection to `name` before its first byte.
pub fn hello(config: &Arc<ClientConfig>, name: &str) -> ClientConnection {
    ClientConnection::new(Arc::clone(config), ServerName::try_from(name.to_owned()).unwrap()).unwrap()
}

/// What a connection has to say now.
pub fn outgoing<Side: SideData>(state: &mut ConnectionCommon<Side>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while state.wants_write() {
        state.write_tls(&mut bytes).unwrap();
    }
    bytes
}

fn pending(state: &mut Connection) -> Vec<u8> {
    match state {
        Connection::Client(state) => outgoing(state),
        Connection::Server(state) => outgoing(state),
    }
}

/// A connection whose handshake is done, as far as the client knows.
///
/// # Errors
/// The server refuses it, is not trusted, or closes.
pub fn dial(addr: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> io::Result<Conn> {
    let socket = TcpStream::connect(addr)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let mut conn = StreamOwned::new(hello(config, name), socket);
    while conn.conn.is_handshaking() {
        conn.conn.complete_io(&mut conn.sock)?;
    }
    Ok(conn)
}

/// A reader of answers over TLS.
pub fn connect(addr: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Reader {
    Reader::new(plain(dial(addr, config, name).unwrap()))
}

/// An address on which every connection becomes one to `addr` over TLS, for as long as the test runs.
pub fn bridge(addr: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap();
    let (config, name) = (Arc::clone(config), name.to_owned());
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            if let Ok(far) = dial(addr, &config, &name) {
                let (state, far) = far.into_parts();
                join(near, state.into(), far);
            }
        }
    });
    here
}

/// A plain socket whose other end is this connection. Its end of writing becomes `close_notify` and the end of the
/// TCP direction, its closing closes the connection; `close_notify` or an end of the connection closes it.
pub fn plain(conn: Conn) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    own.set_nodelay(true).unwrap();
    let (state, far) = conn.into_parts();
    join(listener.accept().unwrap().0, state.into(), far);
    own
}

/// Carries what comes on either side of TLS to the other, until both have ended.
fn join(near: TcpStream, mut state: Connection, far: TcpStream) {
    near.set_nodelay(true).unwrap();
    far.set_read_timeout(None).unwrap();
    let mut early = Vec::new();
    let _ = state.reader().read_to_end(&mut early); // "would block" behind what has come with the handshake
    let state = Arc::new(Mutex::new(state));
    let up = (near.try_clone().unwrap(), far.try_clone().unwrap(), Arc::clone(&state));
    thread::spawn(move || sealed(up.0, up.1, &up.2));
    thread::spawn(move || {
        if (&near).write_all(&early).is_ok() {
            opened(&near, &far, &state);
        }
        let _ = near.shutdown(Shutdown::Both);
        let _ = far.shutdown(Shutdown::Both);
    });
}

/// From the plain side to TLS.
fn sealed(mut near: TcpStream, mut far: TcpStream, state: &Mutex<Connection>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let came = near.read(&mut buffer);
        let mut state = state.lock().unwrap();
        let ended = !matches!(came, Ok(1..));
        match came {
            Ok(n) if n > 0 => state.writer().write_all(&buffer[..n]).unwrap(),
            _ => state.send_close_notify(),
        }
        let sent = far.write_all(&pending(&mut state));
        drop(state);
        if ended || sent.is_err() {
            let direction = if came.is_err() { Shutdown::Both } else { Shutdown::Write };
            let _ = far.shutdown(direction);
            return;
        }
    }
}

/// From TLS to the plain side, until either ends.
fn opened(mut near: &TcpStream, mut far: &TcpStream, state: &Mutex<Connection>) {
    let (mut buffer, mut plain) = (vec![0; 64 * 1024], Vec::new());
    loop {
        let Ok(n @ 1..) = far.read(&mut buffer) else { return };
        let mut unread = &buffer[..n];
        let mut state = state.lock().unwrap();
        let mut ended = false;
        while !unread.is_empty() {
            if state.read_tls(&mut unread).is_err() {
                return;
            }
            let Ok(progress) = state.process_new_packets() else { return };
            ended |= progress.peer_has_closed();
            let _ = state.reader().read_to_end(&mut plain);
        }
        let answers = pending(&mut state);
        if !answers.is_empty() && far.write_all(&answers).is_err() {
            return;
        }
        drop(state);
        if near.write_all(&plain).is_err() || ended {
            return;
        }
        plain.clear();
    }
}

/// A server that speaks TLS, for endpoints; its threads end with the connections.
pub struct Terminator {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Connections that came, handshakes that succeeded, and those of them that resumed a session.
    pub counts: Arc<[AtomicUsize; 3]>,
}

impl Terminator {
    /// Listens with this certificate and these versions, and gives each connection to `handler` after its handshake.
    pub fn start<F>(
        pair: &Pair,
        versions: &'static [&'static rustls::SupportedProtocolVersion],
        handler: F,
    ) -> Terminator
    where
        F: Fn(Served) + Send + Sync + 'static,
    {
        let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth();
        let key = PrivateKeyDer::from_pem_file(&pair.key).unwrap();
        let config = Arc::new(builder.with_single_cert(chain(&pair.cert), key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let counts = Arc::new([const { AtomicUsize::new(0) }; 3]);
        let (handler, counted) = (Arc::new(handler), Arc::clone(&counts));
        thread::spawn(move || {
            for mut socket in listener.incoming().map_while(Result::ok) {
                let (config, handler, counts) =
                    (Arc::clone(&config), Arc::clone(&handler), Arc::clone(&counted));
                counts[0].fetch_add(1, Ordering::Relaxed);
                thread::spawn(move || {
                    let _ = socket.set_nodelay(true);
                    let mut state = ServerConnection::new(config).unwrap();
                    while state.is_handshaking() {
                        if state.complete_io(&mut socket).is_err() {
                            return;
                        }
                    }
                    counts[1].fetch_add(1, Ordering::Relaxed);
                    if state.handshake_kind() == Some(HandshakeKind::Resumed) {
                        counts[2].fetch_add(1, Ordering::Relaxed);
                    }
                    handler(StreamOwned::new(state, socket));
                });
            }
        });
        Terminator { addr, counts }
    }

    /// In front of a plain server.
    pub fn before(
        server: SocketAddr,
        pair: &Pair,
        versions: &'static [&'static rustls::SupportedProtocolVersion],
    ) -> Terminator {
        Terminator::start(pair, versions, move |served| {
            if let Ok(near) = TcpStream::connect(server) {
                let (state, far) = served.into_parts();
                join(near, state.into(), far);
            }
        })
    }

    /// Connections that came.
    pub fn connections(&self) -> usize {
        self.counts[0].load(Ordering::Relaxed)
    }

    /// Handshakes that succeeded.
    pub fn handshakes(&self) -> usize {
        self.counts[1].load(Ordering::Relaxed)
    }

    /// Handshakes that resumed a session.
    pub fn resumed(&self) -> usize {
        self.counts[2].load(Ordering::Relaxed)
    }
}

/// Writes a request and reads until the server closes; whether it said so by `close_notify`.
pub fn ask(conn: &mut Conn, request: &str) -> (String, io::Result<usize>) {
    let mut text = Vec::new();
    let done = conn.write_all(request.as_bytes()).and_then(|()| conn.read_to_end(&mut text));
    (String::from_utf8_lossy(&text).into_owned(), done)
}

/// What a program wrote and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; `None`: it did not end in time and was stopped.
    pub code: Option<i32>,
    /// What it wrote to both outputs, the errors last.
    pub text: String,
}

impl Ran {
    /// Asserts that its output holds this.
    pub fn says(&self, what: &str) {
        assert!(self.text.contains(what), "no {what:?} in (exit {:?}):\n{}", self.code, self.text);
    }

    /// Asserts that its output does not hold this.
    pub fn never_says(&self, what: &str) {
        assert!(!self.text.contains(what), "{what:?} in (exit {:?}):\n{}", self.code, self.text);
    }
}

/// `openssl s_client` to `addr` with these arguments and this input. It ends when the server closes, or when
/// `patience` is over.
pub fn s_client(addr: SocketAddr, arguments: &[&str], input: &str, patience: Duration) -> Ran {
    let addr = addr.to_string();
    let mut all = vec!["s_client", "-connect", &addr];
    all.extend(arguments);
    run("openssl", &all, input, patience)
}

/// Runs a program. Its input stays open until it ends.
///
/// # Panics
/// When there is no such program.
pub fn run(program: &str, arguments: &[&str], input: &str, patience: Duration) -> Ran {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
    let gather = |mut from: Box<dyn Read + Send>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = from.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let out = gather(Box::new(child.stdout.take().unwrap()));
    let err = gather(Box::new(child.stderr.take().unwrap()));
    let mut stdin = child.stdin.take().unwrap();
    let _ = stdin.write_all(input.as_bytes()); // it may have ended already
    let deadline = Instant::now() + patience;
    let code = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status.code(),
            None if Instant::now() > deadline => {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    drop(stdin);
    let mut text = out.join().unwrap();
    let _ = write!(text, "{}", err.join().unwrap());
    Ran { code, text }
}
