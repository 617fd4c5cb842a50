//! Paths: every method and path has an answer, and percent-encoding is undone as RFC 3986 says and no further.

use corelane::route::{self, NoRoute, Route};
use corelane::wire::http1::Method;

const METHODS: [Method; 7] =
    [Method::Get, Method::Head, Method::Post, Method::Put, Method::Patch, Method::Delete, Method::Options];

/// Reads `data` as a path.
pub fn target(data: &[u8]) {
    let path = String::from_utf8_lossy(data);
    let _ = route::dialect(&path);
    for method in METHODS {
        match route::find(method, &path) {
            Ok(Route::Options) => assert_eq!(method, Method::Options),
            Ok(Route::Model(_)) => assert_eq!(method, Method::Post),
            Ok(Route::ModelById(id)) => {
                assert!(path.ends_with(id) && matches!(method, Method::Get | Method::Head))
            }
            Ok(_) => assert!(matches!(method, Method::Get | Method::Head)),
            Err(NoRoute::Method(allow)) => {
                let name = format!("{method:?}").to_uppercase();
                assert!(!allow.split(", ").any(|known| known == name), "{name} is allowed but refused");
            }
            Err(NoRoute::Unknown | NoRoute::Forbidden) => {}
        }
    }
    assert_eq!(route::find(Method::Get, &path), route::find(Method::Head, &path));
    assert_eq!(route::percent_decoded(&path), decoded(&path));
}

/// Only `%` and two hexadecimal digits are an encoding.
fn decoded(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    let digit = |at: usize| bytes.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
