//! `[server.cors]`: which pages of browsers may call (Fetch standard, "CORS protocol").

use std::time::Duration;

use super::super::address::parse_origin;
use super::super::edge::Cors;
use super::super::reader::{Table, Value};

/// Origins that a request's is compared with.
const ORIGINS_MAX: usize = 256;

pub(super) fn read(table: &mut Table<'_>) -> Cors {
    let default = Cors::default();
    let origins = table.take("origins").map(|value| read_origins(&value)).unwrap_or(default.origins);
    Cors {
        credentials: read_credentials(table, &origins),
        origins,
        max_age: table.time("max_age", Duration::ZERO, default.max_age),
    }
}

fn read_origins(value: &Value<'_>) -> Vec<String> {
    let items = value.items().unwrap_or_default();
    if items.len() > ORIGINS_MAX {
        value.wrong(format!("{} origins", items.len()), format!("at most {ORIGINS_MAX}"));
        return Vec::new();
    }
    let count = items.len();
    let mut origins: Vec<String> = Vec::with_capacity(count);
    for item in items {
        let Some(text) = item.text() else { continue };
        let origin = match text {
            "*" if count > 1 => {
                item.wrong("`*` is every origin, and there are others beside it", "remove `*` or the others");
                continue;
            }
            "*" => text.to_owned(),
            _ => match parse_origin(text) {
                Ok(origin) => origin,
                Err(mistake) => {
                    item.wrong(mistake.message, mistake.hint);
                    continue;
                }
            },
        };
        if origins.contains(&origin) {
            item.wrong("this origin is listed twice", "remove one of them");
        }
        origins.push(origin);
    }
    origins
}

/// Browsers refuse the answer to a request with credentials that allows every origin.
fn read_credentials(table: &mut Table<'_>, origins: &[String]) -> bool {
    let Some(value) = table.take("credentials") else { return false };
    let credentials = value.flag().unwrap_or_default();
    if credentials && origins.iter().any(|origin| origin == "*") {
        let hint = r#"list the origins, e.g. origins = ["https://chat.example"]"#;
        value.wrong("credentials are not for every origin", hint);
    }
    credentials
}
