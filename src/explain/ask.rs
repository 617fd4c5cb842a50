//! A question as it is posted to the admin listener: a path, who asks, and a body as the client would send it.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::api::Task;
use crate::limit::key;
use crate::route::{self, Route};
use crate::wire::http1::Method;

/// Members that a question may have.
const MEMBERS: [&str; 8] = ["path", "method", "key", "client", "headers", "model", "prompt", "body"];

/// What a short question is about where it names no path.
const SHORT_PATH: &str = "/v1/chat/completions";

/// A question, read.
#[derive(Debug, PartialEq)]
pub struct Asked {
    /// Method of the request.
    pub method: Method,
    /// Its path, without a query.
    pub path: String,
    /// Name of the caller's key.
    pub key: Option<String>,
    /// The peer.
    pub client: Option<IpAddr>,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// As the client would send it; `None`: there is none.
    pub body: Option<Vec<u8>>,
}

impl Asked {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let named = self.headers.iter().rev().find(|(known, _)| known == name);
        named.map(|(_, value)| value.as_bytes()).filter(|value| !value.is_empty())
    }

    /// The secret that its headers show.
    #[must_use]
    pub fn shown(&self) -> Option<&[u8]> {
        key::shown(key::HEADERS.map(|name| self.header(name)))
    }
}

/// Reads a question.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn parse(question: &[u8]) -> Result<Asked, String> {
    let value: Value =
        serde_json::from_slice(question).map_err(|error| format!("The body is not JSON: {error}."))?;
    let Value::Object(members) = value else { return Err("The body is not a JSON object.".to_owned()) };
    if let Some(other) = members.keys().find(|key| !MEMBERS.contains(&key.as_str())) {
        return Err(format!("'{other}' is not known; there are {}.", MEMBERS.join(", ")));
    }
    let text = |name: &str| match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("'{name}' must be a string.")),
    };
    let (model, prompt) = (text("model")?, text("prompt")?);
    let short = (model.is_some() || prompt.is_some()).then(|| SHORT_PATH.to_owned());
    let path = text("path")?.or(short).ok_or("'path' is missing.")?;
    let path = path.split('?').next().unwrap_or_default().to_owned();
    if !path.starts_with('/') {
        return Err("'path' must begin with '/'.".to_owned());
    }
    let body = body(&members, &path, model, prompt)?;
    let default = match route::find(Method::Get, &path) {
        Ok(_) => Method::Get,
        Err(_) => Method::Post,
    };
    let method = text("method")?.map_or(Ok(default), |name| method(&name))?;
    let client = text("client")?.map(|text| text.parse().map_err(|_| "'client' must be an IP address."));
    let asked = Asked {
        method,
        path,
        key: text("key")?,
        client: client.transpose()?,
        headers: headers(members.get("headers"))?,
        body,
    };
    if asked.key.is_some() && asked.shown().is_some() {
        return Err("Give 'key' or a header that shows a key, not both.".to_owned());
    }
    Ok(asked)
}

fn method(name: &str) -> Result<Method, String> {
    Ok(match name.to_ascii_uppercase().as_str() {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "PATCH" => Method::Patch,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        _ => return Err(format!("'method' {name} is not known.")),
    })
}

fn headers(value: Option<&Value>) -> Result<Vec<(String, String)>, String> {
    let members = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(members)) => members,
        Some(_) => return Err("'headers' must be an object of strings.".to_owned()),
    };
    let header = |(name, value): (&String, &Value)| match value {
        Value::String(value) => Ok((name.to_ascii_lowercase(), value.clone())),
        _ => Err(format!("The header '{name}' must be a string.")),
    };
    members.iter().map(header).collect()
}

/// The body: `body` as it is, a string byte for byte, or one made of `model` and `prompt` for the path.
fn body(
    members: &Map<String, Value>,
    path: &str,
    model: Option<String>,
    prompt: Option<String>,
) -> Result<Option<Vec<u8>>, String> {
    let short = model.is_some() || prompt.is_some();
    match members.get("body") {
        Some(Value::Null) | None if !short => Ok(None),
        Some(Value::Null) | None => {
            let prompt = prompt.unwrap_or_default();
            let mut made = made(path, &prompt);
            if let Some(model) = model {
                made["model"] = json!(model);
            }
            Ok(Some(made.to_string().into_bytes()))
        }
        Some(_) if short => Err("Give 'body', or 'model' and 'prompt', not both.".to_owned()),
        Some(Value::String(text)) => Ok(Some(text.clone().into_bytes())),
        Some(body) => Ok(Some(body.to_string().into_bytes())),
    }
}

/// A body that says `prompt` on `path`.
fn made(path: &str, prompt: &str) -> Value {
    match route::find(Method::Post, path) {
        Ok(Route::Model(Task::Chat | Task::Messages | Task::CountTokens | Task::NativeChat)) => {
            json!({"messages": [{"role": "user", "content": prompt}]})
        }
        Ok(Route::Model(Task::Completions | Task::NativeGenerate | Task::NativeEmbeddings)) => {
            json!({"prompt": prompt})
        }
        Ok(Route::Model(Task::NativeShow)) => json!({}),
        _ => json!({"input": prompt}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(question: &str) -> Result<Asked, String> {
        parse(question.as_bytes())
    }

    #[test]
    fn a_short_question_becomes_the_body_of_its_path() {
        for (path, inside) in [
            ("/v1/chat/completions", r#"{"messages":[{"role":"user","content":"hi"}],"model":"m"}"#),
            ("/api/generate", r#"{"prompt":"hi","model":"m"}"#),
            ("/v1/embeddings", r#"{"input":"hi","model":"m"}"#),
        ] {
            let asked = of(&format!(r#"{{"path":"{path}?x=1","model":"m","prompt":"hi"}}"#)).unwrap();
            assert_eq!((asked.path.as_str(), asked.method), (path, Method::Post));
            assert_eq!(asked.body.as_deref(), Some(inside.as_bytes()), "{path}");
        }
        for question in
            [r#"{"model":"m","prompt":"hi"}"#, r#"{"path":null,"model":"m"}"#, r#"{"prompt":"hi"}"#]
        {
            let asked = of(question).unwrap();
            assert_eq!((asked.path.as_str(), asked.method), ("/v1/chat/completions", Method::Post));
        }
        let listing = of(r#"{"path":"/v1/models"}"#).unwrap();
        assert_eq!((listing.method, listing.body), (Method::Get, None));
    }

    #[test]
    fn a_body_is_taken_as_it_is() {
        let asked = of(r#"{"path":"/v1/x","body":"{not json"}"#).unwrap();
        assert_eq!(asked.body.as_deref(), Some(&b"{not json"[..]));
        let asked = of(r#"{"path":"/v1/x","body":{"b":1,"a":[2]},"headers":{"X-Api-Key":"s"}}"#).unwrap();
        assert_eq!(asked.body.as_deref(), Some(&br#"{"b":1,"a":[2]}"#[..]), "in its order");
        assert_eq!(asked.shown(), Some(&b"s"[..]));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (question, words) in [
            ("", "not JSON"),
            ("[]", "not a JSON object"),
            ("{}", "'path' is missing"),
            (r#"{"body":{"model":"m"}}"#, "'path' is missing"),
            (r#"{"path":"v1"}"#, "begin with"),
            (r#"{"path":1}"#, "'path' must be a string"),
            (r#"{"path":"/","modell":"m"}"#, "'modell' is not known"),
            (r#"{"path":"/","client":"here"}"#, "IP address"),
            (r#"{"path":"/","headers":[]}"#, "object of strings"),
            (r#"{"path":"/","headers":{"a":1}}"#, "'a' must be a string"),
            (r#"{"path":"/","method":"BREW"}"#, "BREW is not known"),
            (r#"{"path":"/","model":"m","body":{}}"#, "not both"),
            (r#"{"path":"/","key":"a","headers":{"api-key":"s"}}"#, "not both"),
        ] {
            let error = of(question).unwrap_err();
            assert!(error.contains(words), "{question}: {error}");
        }
    }
}
