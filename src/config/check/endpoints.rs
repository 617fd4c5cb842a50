//! `[[endpoints]]`: who they are, where they are, and what they may be asked with.

use std::collections::HashMap;
use std::path::PathBuf;

use super::super::problem::quote;
use super::super::reader::{Place, Table, Value};
use super::super::render::KINDS;
use super::super::{Endpoint, Kind, Secret, Url};

/// Endpoints that a gateway may have.
const ENDPOINTS_MAX: usize = 1000;
/// Largest share under the `weighted` strategy.
pub(super) const WEIGHT_MAX: i64 = 1000;

/// Every endpoint in the file's order, also a wrong one, so that models can name it without a second complaint.
pub(super) fn read(root: &mut Table<'_>) -> Vec<Endpoint> {
    let mut first_lines: HashMap<String, u32> = HashMap::new();
    let present = root.take("endpoints").is_some_and(|value| !value.is_empty());
    let endpoints = root.sections("endpoints", |table| {
        let endpoint = read_endpoint(table);
        if !endpoint.name.is_empty()
            && let Some(line) = first_lines.insert(endpoint.name.clone(), table.place.line)
        {
            let message =
                format!("{} is also the name of the endpoint in line {line}", quote(&endpoint.name));
            let place = table.take("name").map_or_else(|| table.place.clone(), |value| value.place);
            table.report.add(&place, message, "give it a name of its own");
        }
        endpoint
    });
    let place = Place { path: "endpoints".to_owned(), line: 0 };
    if !present {
        let hint = r#"[[endpoints]] with name = "gpu-1" and url = "http://192.168.1.2:11434""#;
        root.report.add(&place, "at least one endpoint is needed", hint);
    } else if endpoints.len() > ENDPOINTS_MAX {
        root.report.add(&place, format!("{} endpoints", endpoints.len()), format!("at most {ENDPOINTS_MAX}"));
    }
    endpoints
}

fn read_endpoint(table: &mut Table<'_>) -> Endpoint {
    let nowhere = Url { tls: false, host: String::new(), port: 80, path: String::new() };
    let name = table.require("name", r#"e.g. name = "gpu-1""#);
    let url = table.require("url", r#"e.g. url = "http://192.168.1.2:11434""#);
    let url = url.and_then(read_url);
    Endpoint {
        name: name.and_then(|value| read_name(&value, "endpoint")).unwrap_or_default(),
        ca: table.take("ca").and_then(|value| read_ca(&value, url.as_ref())),
        url: url.unwrap_or(nowhere),
        kind: table.word("kind", &KINDS, Kind::Ollama),
        api_key: table.take("api_key").and_then(|value| read_secret(&value)),
        weight: table.integer("weight", 1, WEIGHT_MAX, 1),
        slots: table.integer("slots", 0, 1_000_000, 0),
    }
}

/// A name stands in metrics, headers and paths of the admin listener as it is. `what` is named by it.
pub(super) fn read_name(value: &Value<'_>, what: &str) -> Option<String> {
    let text = value.text()?;
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    let starts = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !starts || text.len() > 64 || !text.bytes().all(inside) {
        let hint = "1 to 64 letters, digits and `-_.:`, the first a letter or digit";
        value.wrong(format!("{} is no {what} name", quote(text)), hint);
    }
    Some(text.to_owned())
}

/// A server's address.
pub(super) fn read_url(value: Value<'_>) -> Option<Url> {
    Url::parse(value.text()?).map_err(|mistake| value.wrong(mistake.message, mistake.hint)).ok()
}

/// Authorities count for `https` only; the empty text is none. A wrong URL has been told of.
fn read_ca(value: &Value<'_>, url: Option<&Url>) -> Option<PathBuf> {
    let path = read_path(value)?;
    if url.is_some_and(|url| !url.tls) {
        value.wrong("`ca` is for https, and the URL says http", "remove ca, or write https:// in url");
    }
    Some(path)
}

/// A file's path as it stands in the file, relative to the working directory; `None`: empty, or none.
pub(super) fn read_path(value: &Value<'_>) -> Option<PathBuf> {
    let text = value.text().filter(|text| !text.is_empty())?;
    if text.chars().any(char::is_control) || text.ends_with('/') {
        value.wrong(format!("{} is no file", quote(text)), r#"e.g. "ssl/cert.pem""#);
        return None;
    }
    Some(PathBuf::from(text))
}

/// The empty text is no secret.
pub(super) fn read_secret(value: &Value<'_>) -> Option<Secret> {
    let text = value.text().filter(|text| !text.is_empty())?;
    let hint = r#"the secret itself, "env:NAME" or "file:PATH""#;
    Secret::parse(text).map_err(|message| value.wrong(message, hint)).ok()
}
