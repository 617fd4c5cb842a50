//! The model servers of this machine, for `corelane serve` without a configuration.
//!
//! Asked are the usual addresses of Ollama, vLLM and llama.cpp, and the one that `OLLAMA_HOST` names, all at once, each for its
//! list of models and never for a completion. Who has not answered within [`WITHIN`] is not there. The names and addresses
//! found are as good as a file's: the probes take over from here.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::pin::{Pin, pin};
use std::sync::mpsc::sync_channel;
use std::task::Poll;
use std::time::Duration;

use serde_json::Value;

use crate::config::{Driver, Kind, Url};
use crate::net::runtime::Runtime;
use crate::net::tls::Connector;
use crate::net::{clock, fetch};

/// Time for all of it; a name is looked up for as long at most.
const WITHIN: Duration = Duration::from_millis(700);
/// Largest list of models, in bytes.
const LIST_BYTES_MAX: usize = 8 << 20;
/// Operations in flight at once.
const ENTRIES: u32 = 64;
/// The port of Ollama.
const OLLAMA_PORT: u16 = 11434;
/// The port of vLLM, which is the gateway's own by default too.
pub const VLLM_PORT: u16 = 8000;
/// The port of llama.cpp.
const LLAMA_CPP_PORT: u16 = 8080;

/// A place where a server may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Who usually is there.
    pub who: &'static str,
    /// Which API it would speak.
    pub kind: Kind,
    /// Where.
    pub url: Url,
}

/// A server that has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name as an endpoint.
    pub name: String,
    /// Which API it speaks.
    pub kind: Kind,
    /// Where it is.
    pub url: Url,
    /// The models it has, as it spells them.
    pub models: Vec<String>,
}

/// Where to look; `host` is the value of `OLLAMA_HOST`.
#[must_use]
pub fn places(host: Option<&str>) -> Vec<Place> {
    let local = |port| Url { tls: false, host: "127.0.0.1".to_owned(), port, path: String::new() };
    let named = host.and_then(ollama_host);
    let usual = [
        ("Ollama", Kind::Ollama, local(OLLAMA_PORT)),
        ("vLLM", Kind::Openai, local(VLLM_PORT)),
        ("llama.cpp", Kind::Openai, local(LLAMA_CPP_PORT)),
    ];
    let named = named.map(|url| ("Ollama", Kind::Ollama, url));
    let mut places: Vec<Place> = Vec::new();
    for (who, kind, url) in named.into_iter().chain(usual) {
        if !places.iter().any(|place| place.url == url) {
            places.push(Place { who, kind, url });
        }
    }
    places
}

/// Reads `OLLAMA_HOST` as Ollama does: scheme, host and port may each be left out. An address that means every interface
/// is this machine.
fn ollama_host(text: &str) -> Option<Url> {
    let text = text.trim().trim_matches(['"', '\'']);
    let (tls, usual, rest) = match text.split_once("://") {
        Some(("https", rest)) => (true, 443, rest),
        Some((_, rest)) => (false, 80, rest),
        None => (false, OLLAMA_PORT, text),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let bare_v6 = authority.matches(':').count() > 1 && !authority.starts_with('[');
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !bare_v6 && !port.contains(']') => (host, port.parse().ok()?),
        _ => (authority, usual),
    };
    let host = match host.trim_matches(['[', ']']) {
        "" | "0.0.0.0" | "localhost" => "127.0.0.1",
        "::" => "::1",
        host => host,
    };
    let path = path.trim_end_matches('/').to_owned();
    (!text.is_empty() && port > 0).then(|| Url { tls, host: host.to_owned(), port, path })
}

/// Asks all of them at once. In the order of `places`, with names that differ.
///
/// # Errors
/// No runtime.
pub fn search(places: &[Place]) -> io::Result<Vec<Found>> {
    let mut runtime = Runtime::build(Driver::Auto, ENTRIES)?;
    let answers = runtime.block_on(async {
        let mut asked: Vec<_> = places.iter().map(|place| Box::pin(within(ask(place)))).collect();
        let mut answers: Vec<Option<Option<Listed>>> = places.iter().map(|_| None).collect();
        poll_fn(|context| {
            for (question, answer) in asked.iter_mut().zip(&mut answers) {
                if answer.is_none()
                    && let Poll::Ready(listed) = Pin::as_mut(question).poll(context)
                {
                    *answer = Some(listed);
                }
            }
            if answers.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        answers
    });
    let mut found: Vec<Found> = Vec::new();
    for (place, answer) in places.iter().zip(answers) {
        if let Some(listed) = answer.flatten().filter(|listed| !listed.is_ours) {
            let name = name(place, &listed, &found);
            found.push(Found { name, kind: place.kind, url: place.url.clone(), models: listed.models });
        }
    }
    Ok(found)
}

/// A name for it by what it says it is, with its port where that is taken.
fn name(place: &Place, listed: &Listed, found: &[Found]) -> String {
    let name = match (place.kind, listed.owner.as_deref()) {
        (Kind::Ollama, _) => "ollama".to_owned(),
        (_, Some("vllm")) => "vllm".to_owned(),
        (_, Some("llamacpp")) => "llama-cpp".to_owned(),
        _ => format!("local-{}", place.url.port),
    };
    let taken = found.iter().any(|other| other.name == name);
    if taken { format!("{name}-{}", place.url.port) } else { name }
}

/// A list of models.
struct Listed {
    models: Vec<String>,
    /// Whose the first one is said to be.
    owner: Option<String>,
    /// It is a gateway like this one.
    is_ours: bool,
}

async fn ask(place: &Place) -> Option<Listed> {
    let Url { tls, host, port, path } = &place.url;
    let address = resolved(host, *port)?;
    let connector = if *tls { Some(Connector::new(host, None).ok()?) } else { None };
    let (list, field, key) = match place.kind {
        Kind::Ollama => ("/api/tags", "models", "name"),
        Kind::Openai => ("/v1/models", "data", "id"),
    };
    let (path, authority) = (format!("{path}{list}"), address_text(host, *port));
    let target = fetch::Target {
        address,
        connector: connector.as_ref(),
        authority: &authority,
        path: &path,
        key: None,
    };
    let (status, body) = fetch::get(target, LIST_BYTES_MAX).await.ok()?;
    let value: Value = serde_json::from_slice(&body).ok().filter(|_| status == 200)?;
    let entries = value.get(field)?.as_array()?;
    let texts = |key: &str| -> Vec<String> {
        entries.iter().filter_map(|entry| Some(entry.get(key)?.as_str()?.to_owned())).collect()
    };
    let owners = texts("owned_by");
    let is_ours = !owners.is_empty() && owners.iter().all(|owner| owner == "corelane");
    Some(Listed { models: texts(key), owner: owners.into_iter().next(), is_ours })
}

fn address_text(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The address of a host; a name service is not waited for any longer than a server.
fn resolved(host: &str, port: u16) -> Option<SocketAddr> {
    if let Ok(ip) = host.parse() {
        return Some(SocketAddr::new(ip, port));
    }
    let (told, heard) = sync_channel(1);
    let name = host.to_owned();
    let lookup = move || {
        let _ = told.send((name.as_str(), port).to_socket_addrs().ok().and_then(|mut all| all.next()));
    };
    std::thread::Builder::new().name("lookup".to_owned()).spawn(lookup).ok()?;
    heard.recv_timeout(WITHIN).ok().flatten()
}

/// Gives up in time; what is dropped takes its socket with it.
async fn within<T>(question: impl Future<Output = Option<T>>) -> Option<T> {
    let (mut question, mut limit) = (pin!(question), pin!(clock::sleep(WITHIN)));
    poll_fn(|context| match question.as_mut().poll(context) {
        Poll::Ready(answer) => Poll::Ready(answer),
        Poll::Pending => limit.as_mut().poll(context).map(|()| None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_variable_as_ollama_does() {
        for (text, expected) in [
            ("127.0.0.1:11434", Some("http://127.0.0.1:11434")),
            ("0.0.0.0", Some("http://127.0.0.1:11434")),
            (":5000", Some("http://127.0.0.1:5000")),
            ("gpu-1", Some("http://gpu-1:11434")),
            ("http://gpu-1", Some("http://gpu-1:80")),
            ("http://gpu-1:5000/ollama/", Some("http://gpu-1:5000/ollama")),
            ("https://gpu.example", Some("https://gpu.example:443")),
            ("\"localhost:5000\"", Some("http://127.0.0.1:5000")),
            ("[::]:5000", Some("http://[::1]:5000")),
            ("::1", Some("http://[::1]:11434")),
            ("gpu-1:port", None),
            ("gpu-1:0", None),
            ("", None),
        ] {
            assert_eq!(ollama_host(text).map(|url| url.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn looks_at_no_place_twice() {
        let urls = |host| -> Vec<String> { places(host).iter().map(|place| place.url.to_string()).collect() };
        assert_eq!(urls(None).len(), 3);
        assert_eq!(urls(Some("0.0.0.0:11434")), urls(None));
        assert_eq!(urls(Some("gpu-1"))[0], "http://gpu-1:11434");
        assert_eq!(urls(Some("gpu-1")).len(), 4);
    }
}
