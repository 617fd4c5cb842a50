//! What connections to `https` endpoints need: whom to trust, and what name to ask for.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};

use super::accept::chain;
use super::{Session, provider};

/// Makes sessions for connections to one endpoint.
#[derive(Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Connector {
    /// For the endpoint `host`, trusted by the authorities in the file `ca`, or by the system's.
    ///
    /// # Errors
    /// The host is no name of a certificate, or there are no authorities to trust.
    pub fn new(host: &str, ca: Option<&Path>) -> Result<Self, String> {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| format!("{host}: {error}"))?;
        let mut roots = RootCertStore::empty();
        match ca {
            Some(path) => {
                for certificate in chain(path)? {
                    roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
                }
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
                if roots.is_empty() {
                    return Err("the system has no certificates of authorities; set `ca`".to_owned());
                }
            }
        }
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols.push(b"http/1.1".to_vec());
        Ok(Self { config: Arc::new(config), name })
    }

    /// The same for another host, without a protocol agreed on by ALPN: for what is not HTTP.
    ///
    /// # Errors
    /// The host is no name of a certificate.
    pub fn for_host(&self, host: &str) -> Result<Self, String> {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| format!("{host}: {error}"))?;
        let mut config = Arc::clone(&self.config);
        if !config.alpn_protocols.is_empty() {
            Arc::make_mut(&mut config).alpn_protocols.clear();
        }
        Ok(Self { config, name })
    }

    /// A session for a new connection.
    ///
    /// # Errors
    /// As [`Session::client`].
    pub fn session(&self) -> Result<Session, rustls::Error> {
        Session::client(Arc::clone(&self.config), self.name.clone())
    }
}
