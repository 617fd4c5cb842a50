//! How connections are made.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use monoio::net::TcpStream;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::link::Link;
use super::secure::Session;
use super::watch::Watch;

/// How long a connection may take to be made, TLS included.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// What every connection of a run needs.
#[derive(Clone)]
pub struct Dial {
    /// Where to.
    pub addr: SocketAddr,
    /// TLS, and the name that the certificate must have.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Dial {
    /// Makes a connection; `now_us` is when it begins, `deadline_us` when it must be there.
    ///
    /// # Errors
    /// Nobody listens, or TLS failed, or it took too long.
    pub async fn connect(&self, watch: &Watch, now_us: u64, deadline_us: u64) -> io::Result<Link> {
        let micros = u64::try_from(CONNECT_MAX.as_micros()).unwrap_or(u64::MAX);
        let limit = Duration::from_micros(deadline_us.saturating_sub(now_us).clamp(1000, micros));
        #[expect(clippy::disallowed_methods, reason = "a connect is rare, and there is nothing to resume")]
        let connecting = monoio::time::timeout(limit, TcpStream::connect_addr(self.addr));
        let tcp = connecting.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        tcp.set_nodelay(true)?;
        let Some((config, name)) = &self.tls else { return Ok(Link::new(tcp, None)) };
        let mut link = Link::new(tcp, Some(Session::new(config, name.clone())?));
        watch.set(deadline_us.min(now_us.saturating_add(micros)));
        link.handshake(watch).await?;
        Ok(link)
    }
}
