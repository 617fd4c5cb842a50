//! What TLS listeners need: certificates, tickets, and the rules of the handshake, as one value that a reload
//! replaces while connections go on with what they began with.
//!
//! Tickets are stateless and their keys shared by all shards, so a client that comes back resumes wherever it lands;
//! no session is stored. Early data is never accepted: it could be replayed (RFC 8446 section 8).

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};

use super::{Session, Unfit, provider, validity};
use crate::config::edge::{Certificate, Tls};

/// Makes sessions for accepted connections.
pub struct Acceptor {
    config: Arc<ServerConfig>,
    expiries: Vec<Expiry>,
}

/// The end of a certificate's time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// Its file, as the configuration has it; no two are the same.
    pub file: String,
    /// `notAfter` of the server's own certificate, in seconds since 1970.
    pub not_after_s: u64,
}

impl Acceptor {
    /// Reads the files that `tls` names.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn new(tls: &Tls) -> Result<Self, Vec<Unfit>> {
        let (config, expiries) = server_config(tls)?;
        Ok(Self { config: Arc::new(config), expiries })
    }

    /// Reads the files that `tls` names, to take the place of this one. Tickets made before stay good unless clients have
    /// to show certificates.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn renewed(&self, tls: &Tls) -> Result<Self, Vec<Unfit>> {
        let (mut fresh, expiries) = server_config(tls)?;
        if tls.client_ca.is_none() {
            fresh.ticketer = Arc::clone(&self.config.ticketer);
        }
        Ok(Self { config: Arc::new(fresh), expiries })
    }

    /// A session for a connection that has just come.
    ///
    /// # Errors
    /// As [`Session::server`].
    pub fn session(&self) -> Result<Session, rustls::Error> {
        Session::server(Arc::clone(&self.config))
    }

    /// Until when the certificates are good, as they were read.
    #[must_use]
    pub fn expiries(&self) -> &[Expiry] {
        &self.expiries
    }
}

fn server_config(tls: &Tls) -> Result<(ServerConfig, Vec<Expiry>), Vec<Unfit>> {
    let mut unfit = Vec::new();
    let certificates = Certificates::read(&tls.certificates, &mut unfit);
    let versions: &[_] = if tls.tls12 { &[&TLS13, &TLS12] } else { &[&TLS13] };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(|error| vec![Unfit::new("server.tls", error)])?;
    let verifier = match &tls.client_ca {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(path) => match client_verifier(path) {
            Ok(verifier) => verifier,
            Err(message) => {
                unfit.push(Unfit::new("server.tls.client_ca", message));
                return Err(unfit);
            }
        },
    };
    if !unfit.is_empty() {
        return Err(unfit);
    }
    let expiries = certificates.expiries(&tls.certificates);
    let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(Arc::new(certificates));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer =
        rustls::crypto::ring::Ticketer::new().map_err(|error| vec![Unfit::new("server.tls", error)])?;
    config.send_tls13_tickets = 1;
    if tls.http2 {
        config.alpn_protocols.push(b"h2".to_vec());
    }
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Ok((config, expiries))
}

fn client_verifier(path: &Path) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(path)? {
        roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// The certificates of a PEM file, at least one.
pub(super) fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(chain) if chain.is_empty() => Err(format!("{}: holds no certificate", path.display())),
        Ok(chain) => Ok(chain),
        Err(error) => Err(unread(path, &error)),
    }
}

/// Why a PEM file gives nothing, and what to do about it.
fn unread(path: &Path, error: &pem::Error) -> String {
    let hint = match error {
        pem::Error::Io(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let here = std::env::current_dir().unwrap_or_default();
            format!(" (hint: relative paths begin in the working directory, {})", here.display())
        }
        pem::Error::Io(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            " (hint: the gateway's user must be able to read it)".to_owned()
        }
        pem::Error::NoItemsFound => " (hint: it must be PEM, with -----BEGIN lines)".to_owned(),
        _ => String::new(),
    };
    format!("{}: {error}{hint}", path.display())
}

/// Certificates by the names they are made for. With several for one name the first that the client's algorithms
/// allow is taken: an ECDSA and an RSA certificate may stand side by side.
struct Certificates {
    all: Vec<Arc<CertifiedKey>>,
    /// Lower case; `*.` for every name one level below.
    names: HashMap<String, Vec<usize>>,
    /// The first of all, and those that share a name with it: for clients that name no host, or an unknown one.
    others: Vec<usize>,
}

impl Certificates {
    fn read(files: &[Certificate], unfit: &mut Vec<Unfit>) -> Self {
        let mut certificates = Self { all: Vec::new(), names: HashMap::new(), others: vec![0] };
        for (at, files) in files.iter().enumerate() {
            let path = |key: &str| match at {
                0 => format!("server.tls.{key}"),
                _ => format!("server.tls.certificates[{}].{key}", at - 1),
            };
            let chain = chain(&files.cert).map_err(|message| unfit.push(Unfit::new(path("cert"), message)));
            let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| {
                unfit.push(Unfit::new(path("key"), unread(&files.key, &error)));
            });
            let (Ok(chain), Ok(key)) = (chain, key) else { continue };
            if let Err((key, message)) = certificates.add(chain, key) {
                unfit.push(Unfit::new(path(key), message));
            }
        }
        let beside_first = certificates.names.values().filter(|all| all.contains(&0));
        certificates.others.extend(beside_first.flatten().filter(|at| **at != 0));
        certificates.others.sort_unstable();
        certificates.others.dedup();
        certificates
    }

    fn add(
        &mut self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), (&'static str, String)> {
        let at = self.all.len();
        let key = rustls::crypto::ring::sign::any_supported_type(&key)
            .map_err(|error| ("key", error.to_string()))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                return Err(("key", "is not the key of the certificate".to_owned()));
            }
            Err(error) => return Err(("cert", error.to_string())),
        }
        let own = certified.end_entity_cert().map_err(|error| ("cert", error.to_string()))?;
        let own = webpki::EndEntityCert::try_from(own).map_err(|error| ("cert", error.to_string()))?;
        for name in own.valid_dns_names() {
            self.names.entry(name.to_ascii_lowercase()).or_default().push(at);
        }
        self.all.push(Arc::new(certified));
        Ok(())
    }

    /// When each ends; `files` are what all of them were read from.
    fn expiries(&self, files: &[Certificate]) -> Vec<Expiry> {
        let mut expiries: Vec<Expiry> = Vec::new();
        for (files, certified) in files.iter().zip(&self.all) {
            let file = files.cert.display().to_string();
            let own = certified.end_entity_cert().ok();
            if let Some(not_after_s) = own.and_then(|own| validity::not_after_s(own))
                && expiries.iter().all(|known| known.file != file)
            {
                expiries.push(Expiry { file, not_after_s });
            }
        }
        expiries
    }

    /// Those for a host: of its name, else of the wildcard above it, else the first of all and those beside it.
    fn of(&self, host: Option<&str>) -> &[usize] {
        let found = host.and_then(|host| {
            let host = host.to_ascii_lowercase();
            let above = host.split_once('.').map(|(_, above)| format!("*.{above}"));
            self.names.get(&host).or_else(|| self.names.get(&above?))
        });
        found.unwrap_or(&self.others)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fitting = self.of(hello.server_name());
        let can_sign = |at: &&usize| {
            self.all.get(**at).is_some_and(|one| one.key.choose_scheme(hello.signature_schemes()).is_some())
        };
        let at = fitting.iter().find(can_sign).or_else(|| fitting.first())?;
        self.all.get(*at).cloned()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("names", &self.names.keys()).finish_non_exhaustive()
    }
}
