//! A gateway that speaks TLS, simulated servers behind it, and raw HTTP/2 clients over rustls.
//!
//! Shared by `tests/http2.rs` and `tests/http2_abuse.rs`. The certificate is made for each gateway and its files are
//! removed with it.
#![allow(dead_code)] // each test file uses its own part of this module

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use corelane::sim::Options;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::support::fleet::{Fleet, configuration};
use super::support::h2::{Client, Event, tcp};
use super::support::{Gateway, metrics};

/// A client over TLS.
pub type H2 = Client<StreamOwned<ClientConnection, TcpStream>>;

/// A certificate for `localhost` and 127.0.0.1 in files of its own.
pub struct Certificate {
    folder: PathBuf,
    client: Arc<ClientConfig>,
}

impl Certificate {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("corelane-h2-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
        fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"h2".to_vec()];
        Self { folder, client: Arc::new(client) }
    }

    /// The chain, for clients that are told whom to trust.
    pub fn path(&self) -> PathBuf {
        self.folder.join("cert.pem")
    }

    /// The `[server.tls]` table.
    pub fn table(&self) -> String {
        let (cert, key) = (self.folder.join("cert.pem"), self.folder.join("key.pem"));
        format!("[server.tls]\nlisten = [\"127.0.0.1:0\"]\ncert = {cert:?}\nkey = {key:?}\n")
    }

    /// A connection after its handshake; nothing of HTTP/2 has been said.
    pub fn shaken(&self, addr: SocketAddr) -> H2 {
        let mut stream = tcp(addr);
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut session = ClientConnection::new(Arc::clone(&self.client), name).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut stream).expect("a TLS handshake");
        }
        assert_eq!(session.alpn_protocol(), Some(b"h2".as_slice()));
        stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        let mut client = Client::over(StreamOwned::new(session, stream));
        client.scheme = "https".to_owned();
        client
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A gateway behind TLS.
pub struct Edge {
    pub fleet: Fleet,
    pub certificate: Certificate,
}

impl Edge {
    /// As `Fleet::start`, and ready. One shard, unless `server` says otherwise.
    pub fn start(options: Vec<Options>, server: &str, rest: &str) -> Edge {
        let certificate = Certificate::new();
        let shards = if server.contains("shards") { "" } else { "shards = 1\n" };
        let server = format!("{shards}{server}\n{}", certificate.table());
        Edge { fleet: Fleet::start(options, &server, rest).ready(), certificate }
    }

    pub fn addr(&self) -> SocketAddr {
        self.fleet.gateway.tls.expect("a TLS listener")
    }

    /// A connection that has sent the preface and `parameters`.
    pub fn connect_with(&self, parameters: &[(u16, u32)]) -> H2 {
        let mut client = self.certificate.shaken(self.addr());
        client.start(parameters).expect("send the preface");
        client
    }

    /// One with nothing special.
    pub fn connect(&self) -> H2 {
        self.connect_with(&[])
    }

    /// One that has only shaken hands.
    pub fn shaken(&self) -> H2 {
        self.certificate.shaken(self.addr())
    }

    /// Requests that the first server has got of models.
    pub fn asked(&self) -> u64 {
        self.fleet.shares()[0]
    }
}

/// A gateway behind TLS whose one endpoint is `upstream`: model `m`.
pub fn in_front_of(upstream: SocketAddr, server: &str, rest: &str) -> (Gateway, Certificate) {
    let certificate = Certificate::new();
    let server = format!("shards = 1\n{server}\n{}", certificate.table());
    let rest = format!("[health]\nenabled = false\n[[models]]\nname = \"m\"\n{rest}");
    let text = configuration(&[upstream], &server, &rest).replace("\"\nurl", "\"\nkind = \"openai\"\nurl");
    (Gateway::start(&text), certificate)
}

/// Ten seconds from now.
pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// Opens a POST and sends its body as the windows allow.
pub fn post(client: &mut H2, path: &str, body: &str) -> u32 {
    let length = body.len().to_string();
    let fields = [("content-type", "application/json"), ("content-length", length.as_str())];
    let stream = client.open("POST", path, &fields, false).expect("send a head");
    client.send_body(stream, body.as_bytes(), soon()).expect("send a body");
    stream
}

/// Reads events until DATA of this stream has come; its bytes.
pub fn data(client: &mut H2, wanted: u32) -> Vec<u8> {
    loop {
        match client.event(soon()).expect("data") {
            Event::Data { stream, bytes, .. } if stream == wanted && !bytes.is_empty() => return bytes,
            Event::Reset { stream, code } if stream == wanted => panic!("reset by code {code}"),
            _ => {}
        }
    }
}

/// The sum of a metric's samples.
pub fn metric(gateway: &Gateway, name: &str) -> f64 {
    let page = metrics(gateway);
    let own = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
    };
    page.lines().filter(own).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Resident memory of the gateway in KiB.
pub fn resident_kib(gateway: &Gateway) -> u64 {
    resident_kib_of(gateway.pid())
}

/// That of a process; 0 if it has ended.
pub fn resident_kib_of(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or_default()
}

/// Its open descriptors.
pub fn descriptors(gateway: &Gateway) -> usize {
    fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().count()
}

/// Sends a signal.
pub fn signal(gateway: &Gateway, name: &str) {
    let pid = gateway.pid().to_string();
    assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
}

/// Whether an error of the writer only says that the other side is gone.
pub fn is_gone(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted)
}
