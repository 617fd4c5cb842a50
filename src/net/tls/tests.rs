use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;
use crate::config::edge::{Certificate, Tls};

/// A folder with certificates, gone with its value.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("corelane-tls-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// A certificate for `names`, signed by `authority`.
    fn signed(&self, names: &[&str], authority: &CertifiedIssuer<'_, KeyPair>) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let certificate = CertificateParams::new(names.clone()).unwrap().signed_by(&key, authority).unwrap();
        let stem = names[0].replace('*', "star");
        Certificate {
            cert: self.write(&format!("{stem}.pem"), &certificate.pem()),
            key: self.write(&format!("{stem}.key"), &key.serialize_pem()),
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn settings(certificates: Vec<Certificate>) -> Tls {
    Tls {
        listen: Vec::new(),
        certificates,
        redirect_http: false,
        redirect_status: 308,
        redirect_port: None,
        client_ca: None,
        tls12: true,
        http2: true,
        handshake_timeout: std::time::Duration::from_secs(10),
        handshakes_max: 256,
    }
}

/// Carries what one side has to say to the other, `at_once` bytes at a time, until neither has anything more.
fn carry(client: &mut Session, server: &mut Session, at_once: usize) -> Result<(), rustls::Error> {
    let mut nothing = Vec::new();
    client.receive(Vec::new(), &mut nothing)?;
    loop {
        let (up, down) = (client.take_outgoing(), server.take_outgoing());
        if up.is_empty() && down.is_empty() {
            assert!(nothing.is_empty());
            return Ok(());
        }
        for part in up.chunks(at_once) {
            server.receive(part.to_vec(), &mut nothing)?;
        }
        for part in down.chunks(at_once) {
            client.receive(part.to_vec(), &mut nothing)?;
        }
    }
}

fn pair(acceptor: &Acceptor, host: &str, ca: &Path) -> (Session, Session) {
    (Connector::new(host, Some(ca)).unwrap().session().unwrap(), acceptor.session().unwrap())
}

#[test]
fn data_passes_both_ways_at_any_split() {
    let (files, authority) = (Files::new("split"), authority());
    let ca = files.write("ca.pem", &authority.pem());
    let acceptor = Acceptor::new(&settings(vec![files.signed(&["localhost"], &authority)])).unwrap();
    for at_once in [1, 2, 7, 1000, 1 << 20] {
        let (mut client, mut server) = pair(&acceptor, "localhost", &ca);
        carry(&mut client, &mut server, at_once).unwrap();
        assert_eq!((client.stage(), server.stage()), (Stage::Open, Stage::Open), "{at_once}");
        assert_eq!(server.protocol(), Some(&b"http/1.1"[..]));
        for bytes in [1, 180, 16 * 1024, 16 * 1024 + 1, 100_000] {
            let plain: Vec<u8> = (0..bytes).map(|n: usize| (n * 31 % 251) as u8).collect();
            let (mut sealed, mut opened) = (Vec::new(), Vec::new());
            server.seal(&plain, &mut sealed).unwrap();
            assert!(sealed.len() <= plain.len() + (bytes / (16 * 1024) + 1) * session::RECORD_OVERHEAD);
            for part in sealed.chunks(at_once) {
                client.receive(part.to_vec(), &mut opened).unwrap();
            }
            assert_eq!(opened, plain, "{bytes} down by {at_once}");
            let (mut sealed, mut opened) = (Vec::new(), Vec::new());
            client.seal(&plain, &mut sealed).unwrap();
            for part in sealed.chunks(at_once) {
                server.receive(part.to_vec(), &mut opened).unwrap();
            }
            assert_eq!(opened, plain, "{bytes} up by {at_once}");
        }
        let mut nothing = Vec::new();
        client.receive(server.close_notify(), &mut nothing).unwrap();
        assert_eq!(client.stage(), Stage::Ended);
    }
}

#[test]
fn damaged_records_fail_and_say_so() {
    let (files, authority) = (Files::new("damage"), authority());
    let ca = files.write("ca.pem", &authority.pem());
    let acceptor = Acceptor::new(&settings(vec![files.signed(&["localhost"], &authority)])).unwrap();
    let mut said = 0;
    // Byte 2 is the lower half of a version that no one reads (RFC 8446 section 5.1).
    for at in (0..60).filter(|&at| at != 2) {
        let (mut client, mut server) = pair(&acceptor, "localhost", &ca);
        carry(&mut client, &mut server, 1 << 20).unwrap();
        let (mut sealed, mut opened) = (Vec::new(), Vec::new());
        client.seal(b"forty bytes of a message for the server.", &mut sealed).unwrap();
        sealed[at] ^= 0x10;
        let result = server.receive(sealed, &mut opened);
        assert!(opened.is_empty(), "byte {at}");
        said += usize::from(result.is_err() && server.has_outgoing());
    }
    assert!(said > 40, "alerts: {said}");
    let mut server = acceptor.session().unwrap();
    assert!(server.receive(b"GET / HTTP/1.1\r\n\r\n".to_vec(), &mut Vec::new()).is_err());
}

#[test]
fn the_certificate_is_that_of_the_name() {
    let (files, authority) = (Files::new("names"), authority());
    let ca = files.write("ca.pem", &authority.pem());
    let first = files.signed(&["first.example"], &authority);
    let wild = files.signed(&["*.wild.example", "wild.example"], &authority);
    let acceptor = Acceptor::new(&settings(vec![first.clone(), wild, first])).unwrap();
    assert_eq!(acceptor.expiries().len(), 2, "a file that is named twice is told once");
    for (host, trusted) in [
        ("first.example", true),
        ("FIRST.example", true),
        ("wild.example", true),
        ("a.wild.example", true),
        ("a.b.wild.example", false),
        ("other.example", false),
    ] {
        let (mut client, mut server) = pair(&acceptor, host, &ca);
        assert_eq!(carry(&mut client, &mut server, 1 << 20).is_ok(), trusted, "{host}");
    }
}

#[test]
fn a_reload_is_for_new_connections_and_a_bad_one_for_none() {
    let (files, authority) = (Files::new("reload"), authority());
    let ca = files.write("ca.pem", &authority.pem());
    let mut tls = settings(vec![files.signed(&["old.example"], &authority)]);
    let old = Acceptor::new(&tls).unwrap();
    let (mut client, mut server) = pair(&old, "old.example", &ca);
    carry(&mut client, &mut server, 1 << 20).unwrap();

    tls.certificates = vec![files.signed(&["new.example"], &authority)];
    let acceptor = old.renewed(&tls).unwrap();
    let files_of =
        |acceptor: &Acceptor| acceptor.expiries().iter().map(|one| one.file.clone()).collect::<Vec<_>>();
    assert!(
        files_of(&old)[0].ends_with("old.example.pem") && files_of(&acceptor)[0].ends_with("new.example.pem")
    );
    let (mut sealed, mut opened) = (Vec::new(), Vec::new());
    server.seal(b"still here", &mut sealed).unwrap();
    client.receive(sealed, &mut opened).unwrap();
    assert_eq!(opened, b"still here");
    let (mut client, mut server) = pair(&acceptor, "new.example", &ca);
    carry(&mut client, &mut server, 1 << 20).unwrap();

    tls.certificates[0].key = files.signed(&["third.example"], &authority).key;
    let unfit = acceptor.renewed(&tls).err().unwrap();
    assert_eq!(unfit, [Unfit::new("server.tls.key", "is not the key of the certificate")]);
    tls.certificates[0].cert = files.0.join("missing.pem");
    assert_eq!(acceptor.renewed(&tls).err().unwrap()[0].path, "server.tls.cert");
    let (mut client, mut server) = pair(&acceptor, "new.example", &ca);
    carry(&mut client, &mut server, 1 << 20).unwrap();
}

#[test]
fn clients_without_a_certificate_stay_out_where_one_is_asked_for() {
    let (files, authority) = (Files::new("client-ca"), authority());
    let ca = files.write("ca.pem", &authority.pem());
    let mut tls = settings(vec![files.signed(&["localhost"], &authority)]);
    tls.client_ca = Some(ca.clone());
    let acceptor = Acceptor::new(&tls).unwrap();
    let (mut client, mut server) = pair(&acceptor, "localhost", &ca);
    assert!(carry(&mut client, &mut server, 1 << 20).is_err());
}
