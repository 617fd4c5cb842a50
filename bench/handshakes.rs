//! A TLS client that only shakes hands: `handshakes ADDRESS CERTIFICATE SECONDS full|resumed`, one connection after the
//! other, for `scripts/edge`. Prints how many there were and how many of them were resumed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)] // a bench

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};

const REQUEST: &[u8] = b"GET /health/liveliness HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, certificate, seconds, kind] = &arguments[..] else {
        panic!("handshakes ADDRESS CERTIFICATE SECONDS full|resumed")
    };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    if kind == "full" {
        config.resumption = Resumption::disabled();
    }
    let config = Arc::new(config);
    let end = Instant::now() + Duration::from_secs_f64(seconds.parse().unwrap());
    let (mut all, mut resumed) = (0u64, 0u64);
    while Instant::now() < end {
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(Arc::clone(&config), name).unwrap();
        let mut stream = StreamOwned::new(session, TcpStream::connect(address).unwrap());
        stream.write_all(REQUEST).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer); // an end without close_notify is an error here, and no matter
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        all += 1;
        resumed += u64::from(stream.conn.handshake_kind() == Some(HandshakeKind::Resumed));
    }
    println!("{all} {resumed}");
}
