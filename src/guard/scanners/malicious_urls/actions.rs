//! Links that are no addresses but do something: `javascript:`, `data:`, `file:`.

use super::names::floor_char;
use super::parse::{Host, Url, undo_percent};
use super::rules::{Case, is_near};

/// A script, unless it does nothing.
pub(super) fn script(url: &Url, case: &mut Case) {
    let code = undo_percent(&url.rest).to_ascii_lowercase();
    let code = code.trim().trim_end_matches(';').trim();
    let idle = matches!(
        code,
        "" | "//" | "void(0)" | "void 0" | "void(null)" | "void()" | "false" | "history.back()"
    ) || matches!(code, "history.go(-1)" | "window.history.back()" | "window.print()" | "print()");
    if !idle {
        case.add("script_target", 0.9);
    }
}

/// A document or a program inside the link.
pub(super) fn data(url: &Url, case: &mut Case) {
    let kind = url.rest.split([',', ';']).next().unwrap_or_default().trim().to_ascii_lowercase();
    let runs = || {
        let head = url.rest.get(..floor_char(&url.rest, 1024)).unwrap_or_default();
        let body = undo_percent(head).to_ascii_lowercase();
        body.contains("<script") || body.contains("onload") || body.contains("onerror")
    };
    match kind.as_str() {
        "text/html" | "application/xhtml+xml" | "text/xml" | "application/xml" => {
            case.add("data_target", 0.8)
        }
        "text/javascript" | "application/javascript" | "application/x-javascript" => {
            case.add("data_target", 0.7)
        }
        "application/octet-stream" | "application/x-msdownload" | "application/hta" => {
            case.add("data_target", 0.6)
        }
        "image/svg+xml" if runs() => case.add("data_target", 0.7),
        _ => {}
    }
}

/// A file of this machine, or a share of another one.
pub(super) fn file(url: &Url, case: &mut Case) {
    match &url.host {
        Host::Name(name) if name.is_empty() => {}
        host if is_near(host) => case.add("file_target", 0.2),
        // Opening it sends the user's credentials to a stranger's share.
        _ => case.add("file_target", 0.7),
    }
}
