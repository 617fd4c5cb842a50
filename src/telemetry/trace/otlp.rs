//! Spans as OTLP/HTTP has them in JSON (OTLP specification 1.x, "JSON Protobuf Encoding"): ids in hexadecimal, 64-bit
//! numbers as strings, enumerations as numbers, names in lowerCamelCase.

use std::fmt::Write as _;

use super::span::{Kind, Span, Value};
use crate::wire::json;

/// Bits of `flags` beside those of the W3C: whether `remote` is known, and what it is.
const REMOTE_KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;
/// The W3C's bit: every span that is here was sampled.
const SAMPLED: u32 = 1;

/// An `ExportTraceServiceRequest`.
#[must_use]
pub fn request(service: &str, spans: &[Box<Span>]) -> Vec<u8> {
    let mut out = String::with_capacity(512 + spans.len() * 1024);
    out.push_str(r#"{"resourceSpans":[{"resource":{"attributes":["#);
    let version = env!("CARGO_PKG_VERSION");
    let resource =
        [("service.name", Value::Text(service.to_owned())), ("service.version", Value::Word(version))];
    attributes(&resource, &mut out);
    let _ =
        write!(out, r#"]}},"scopeSpans":[{{"scope":{{"name":"corelane","version":"{version}"}},"spans":["#);
    for (at, span) in spans.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write_span(span, &mut out);
    }
    out.push_str("]}]}]}");
    out.into_bytes()
}

/// How many spans an `ExportTraceServiceResponse` says were refused; 0 where it is none.
#[must_use]
pub fn rejected(answer: &[u8]) -> u64 {
    let count = |value: &serde_json::Value| {
        let count = value.get("partialSuccess")?.get("rejectedSpans")?;
        count.as_u64().or_else(|| count.as_str()?.parse().ok())
    };
    serde_json::from_slice(answer).ok().as_ref().and_then(count).unwrap_or(0)
}

fn write_span(span: &Span, out: &mut String) {
    let _ = write!(out, r#"{{"traceId":"{:032x}","spanId":"{:016x}""#, span.trace_id, span.span_id);
    if let Some(parent) = span.parent {
        let _ = write!(out, r#","parentSpanId":"{parent:016x}""#);
    }
    if let Some(state) = &span.state {
        out.push_str(r#","traceState":"#);
        out.push_str(&quoted(state));
    }
    let flags = SAMPLED | REMOTE_KNOWN | if span.remote { REMOTE } else { 0 };
    let kind = match span.kind {
        Kind::Server => 2,
        Kind::Client => 3,
    };
    let _ = write!(out, r#","flags":{flags},"kind":{kind},"name":"#);
    out.push_str(&quoted(&span.name));
    let (start, end) = (span.start_ns, span.end_ns);
    let _ = write!(out, r#","startTimeUnixNano":"{start}","endTimeUnixNano":"{end}","attributes":["#);
    attributes(&span.attributes, out);
    out.push_str(if span.failed { r#"],"status":{"code":2}}"# } else { r#"],"status":{}}"# });
}

fn attributes(attributes: &[(&'static str, Value)], out: &mut String) {
    for (at, (key, value)) in attributes.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        let _ = write!(out, r#"{comma}{{"key":"{key}","value":{{"#);
        let _ = match value {
            Value::Word(word) => write!(out, r#""stringValue":{}"#, quoted(word)),
            Value::Text(text) => write!(out, r#""stringValue":{}"#, quoted(text)),
            Value::Number(number) => {
                let number = i64::try_from(*number).unwrap_or(i64::MAX);
                write!(out, r#""intValue":"{number}""#)
            }
            Value::Real(number) if number.is_finite() => write!(out, r#""doubleValue":{number}"#),
            Value::Real(_) => write!(out, r#""doubleValue":"NaN""#),
            Value::Flag(flag) => write!(out, r#""boolValue":{flag}"#),
        };
        out.push_str("}}");
    }
}

fn quoted(text: &str) -> String {
    String::from_utf8(json::quoted(text)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Span {
        Span {
            trace_id: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
            span_id: 0xab,
            parent: Some(0xb7ad_6b71_6920_3331),
            remote: true,
            state: Some("a=1,b=2".to_owned()),
            name: "POST /v1/chat/completions".to_owned(),
            kind: Kind::Server,
            start_ns: 1_800_000_000_000_000_001,
            end_ns: 1_800_000_000_500_000_000,
            attributes: vec![
                ("url.scheme", Value::Word("http")),
                ("corelane.request_id", Value::text("a\"b\n\u{2028}\u{7f}")),
                ("http.response.status_code", Value::Number(502)),
                ("corelane.time_to_first_token", Value::Real(0.25)),
                ("gen_ai.request.stream", Value::Flag(true)),
            ],
            failed: true,
        }
    }

    #[test]
    fn is_what_the_specification_shows() {
        let client = Span {
            span_id: 0xcd,
            parent: Some(0xab),
            remote: false,
            state: None,
            kind: Kind::Client,
            attributes: Vec::new(),
            failed: false,
            ..server()
        };
        let text = request("my \"gateway\"", &[Box::new(server()), Box::new(client)]);
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let resource = &value["resourceSpans"][0];
        let service = &resource["resource"]["attributes"][0];
        assert_eq!(
            (&service["key"], &service["value"]["stringValue"]),
            (&"service.name".into(), &"my \"gateway\"".into())
        );
        let spans = resource["scopeSpans"][0]["spans"].as_array().unwrap();
        let want = serde_json::json!({
            "traceId": "0af7651916cd43dd8448eb211c80319c",
            "spanId": "00000000000000ab",
            "parentSpanId": "b7ad6b7169203331",
            "traceState": "a=1,b=2",
            "flags": 0x301,
            "kind": 2,
            "name": "POST /v1/chat/completions",
            "startTimeUnixNano": "1800000000000000001",
            "endTimeUnixNano": "1800000000500000000",
            "attributes": [
                {"key": "url.scheme", "value": {"stringValue": "http"}},
                {"key": "corelane.request_id", "value": {"stringValue": "a\"b\n\u{2028}\u{7f}"}},
                {"key": "http.response.status_code", "value": {"intValue": "502"}},
                {"key": "corelane.time_to_first_token", "value": {"doubleValue": 0.25}},
                {"key": "gen_ai.request.stream", "value": {"boolValue": true}},
            ],
            "status": {"code": 2},
        });
        assert_eq!(spans[0], want);
        assert_eq!(spans[1]["parentSpanId"], spans[0]["spanId"]);
        assert_eq!((&spans[1]["flags"], &spans[1]["kind"]), (&0x101.into(), &3.into()));
        assert_eq!(
            (&spans[1]["status"], &spans[1]["attributes"]),
            (&serde_json::json!({}), &serde_json::json!([]))
        );
    }

    #[test]
    fn refused_spans_are_counted() {
        for (answer, count) in [
            (r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"x"}}"#, 3),
            (r#"{"partialSuccess":{"rejectedSpans":2}}"#, 2),
            (r#"{"partialSuccess":{}}"#, 0),
            ("{}", 0),
            ("", 0),
            ("\u{a}\u{3}", 0),
        ] {
            assert_eq!(rejected(answer.as_bytes()), count, "{answer:?}");
        }
    }
}
