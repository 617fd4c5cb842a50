//! What TLS costs without its socket: `cargo bench --bench tls` prints µs of the server's side, a client in the same
//! thread left out. Records are of an event's size.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods)] // a bench

use std::hint::black_box;
use std::time::{Duration, Instant};

use corelane::config::edge::{Certificate, Tls};
use corelane::net::tls::{Acceptor, Connector, Session};

const RECORD: [u8; 180] = [b'x'; 180];
const ROUNDS: usize = 101;

fn main() {
    let folder = std::env::temp_dir().join(format!("corelane-bench-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tls = Tls {
        listen: Vec::new(),
        certificates: vec![Certificate { cert: cert.clone(), key }],
        redirect_http: false,
        redirect_status: 308,
        redirect_port: None,
        client_ca: None,
        tls12: true,
        http2: false,
        handshake_timeout: Duration::from_secs(10),
        handshakes_max: 1,
    };
    let acceptor = Acceptor::new(&tls).unwrap();
    let full: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            shake(&acceptor, &mut Connector::new("localhost", Some(&cert)).unwrap().session().unwrap()).0
        })
        .collect();
    let connector = Connector::new("localhost", Some(&cert)).unwrap();
    let resumed: Vec<f64> =
        (0..=ROUNDS).map(|_| shake(&acceptor, &mut connector.session().unwrap()).0).skip(1).collect();
    println!("full handshake        {:8.1} µs", median(full));
    println!("resumed handshake     {:8.1} µs", median(resumed));
    let mut client = connector.session().unwrap();
    let (_, mut server) = shake(&acceptor, &mut client);
    let mut sealed = Vec::new();
    println!(
        "record of 180 B: seal {:8.2} µs",
        median(per_call(&mut || {
            sealed.clear();
            server.seal(black_box(&RECORD), &mut sealed).unwrap();
        }))
    );
    let mut records = Vec::new();
    for _ in 0..ROUNDS * 100 {
        let mut record = Vec::new();
        client.seal(&RECORD, &mut record).unwrap();
        records.push(record);
    }
    let (mut records, mut plain) = (records.into_iter(), Vec::new());
    let (_, mut server) = (client, server);
    println!(
        "record of 180 B: open {:8.2} µs",
        median(per_call(&mut || {
            plain.clear();
            server.receive(records.next().unwrap(), &mut plain).unwrap();
        }))
    );
    let _ = std::fs::remove_dir_all(folder);
}

/// µs of a call, in rounds of 100.
fn per_call(call: &mut dyn FnMut()) -> Vec<f64> {
    let mut round = || {
        let begin = Instant::now();
        (0..100).for_each(|_| call());
        begin.elapsed().as_secs_f64() * 1e6 / 100.0
    };
    (0..ROUNDS).map(|_| round()).collect()
}

/// A handshake, and the µs that the server's side took of it, the ticket it sends included.
fn shake(acceptor: &Acceptor, client: &mut Session) -> (f64, Session) {
    let mut nothing = Vec::new();
    client.receive(Vec::new(), &mut nothing).unwrap();
    let mut spent = Duration::ZERO;
    let begin = Instant::now();
    let mut server = acceptor.session().unwrap();
    spent += begin.elapsed();
    loop {
        let up = client.take_outgoing();
        let begin = Instant::now();
        if !up.is_empty() {
            server.receive(up, &mut nothing).unwrap();
        }
        let down = server.take_outgoing();
        spent += begin.elapsed();
        if down.is_empty() {
            return (spent.as_secs_f64() * 1e6, server);
        }
        client.receive(down, &mut nothing).unwrap();
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
