//! What is told of two configurations, and what is not.

use super::super::parse;
use super::*;

const ONE: &str = "[[endpoints]]\nname = 'gpu-1'\nurl = 'http://h:1'\n";
const TWO: &str = "[[endpoints]]\nname = 'gpu-2'\nurl = 'http://h:2'\n";
const ZONE: &str =
    "[[limits.zones]]\nname = 'chat'\nrate = '5r/s'\nroutes = [{ path = '/v1/chat', burst = 20 }]\n";

fn config(text: &str) -> Config {
    parse(text).unwrap_or_else(|problems| panic!("{text}\n{problems}"))
}

fn told(old: &str, new: &str) -> Vec<String> {
    changes(&config(old), &config(new))
}

#[test]
fn the_same_is_nothing() {
    let text = format!("{ONE}api_key = 'sk-0123456789abcd'\n{ZONE}");
    assert_eq!(told(&text, &text), [""; 0]);
    assert_eq!(told(ONE, &format!("{ONE}weight = 1\n# the default")), [""; 0]);
}

#[test]
fn values_are_told_before_and_after() {
    let old = format!("server.listen = ['0.0.0.0:8000']\n{ONE}{ZONE}");
    let new = old.replace("0.0.0.0:8000", "127.0.0.1:80").replace("5r/s", "10r/s");
    assert_eq!(
        told(&old, &new),
        [
            "limits.zones.chat.rate: \"5r/s\" -> \"10r/s\"",
            "server.listen: [\"0.0.0.0:8000\"] -> [\"127.0.0.1:80\"]",
        ]
    );
    assert_eq!(
        told(&old, &old.replace("burst = 20", "burst = 30")),
        ["limits.zones.chat.routes.\"/v1/chat\".burst: 20 -> 30"]
    );
    let price = |price: &str| format!("{ONE}[[models]]\nname = 'ollama/a'\nprice.input_per_1k = {price}\n");
    assert_eq!(
        told(&price("1"), &price("1.5e-7")),
        ["models.\"ollama/a\".price.input_per_1k: 1.0 -> 1.5e-7"]
    );
    assert_eq!(
        told(ONE, &format!("server = {{ pin = true, watch = true }}\n{ONE}")),
        ["server.pin: unset -> true", "server.watch: false -> true"]
    );
    assert_eq!(told(&format!("health.path = '/x'\n{ONE}"), ONE), ["health.path: \"/x\" -> unset"]);
    let model = format!("{ONE}[[models]]\nname = 'a'\n");
    assert_eq!(
        told(&model, &format!("{model}fallbacks = ['b']\ntimeouts.total = '1s'")),
        ["models.a.fallbacks: [] -> [\"b\"]", "models.a.timeouts: added"]
    );
}

#[test]
fn tables_are_told_by_their_name() {
    let both = format!("{ONE}{TWO}");
    assert_eq!(told(ONE, &both), ["endpoints.gpu-2: added"]);
    assert_eq!(told(&both, ONE), ["endpoints.gpu-2: removed"]);
    assert_eq!(told(ONE, TWO), ["endpoints.gpu-1: removed", "endpoints.gpu-2: added"]);
    assert_eq!(told(&both, &format!("{TWO}{ONE}")), ["endpoints: order changed"]);
    assert_eq!(
        told(&both, &both.replace("h:2", "h:3")),
        ["endpoints.gpu-2.url: \"http://h:2\" -> \"http://h:3\""]
    );
    assert_eq!(told(ONE, &format!("{ONE}{ZONE}")), ["limits.zones.chat: added"]);
    assert_eq!(told(&format!("{ONE}{ZONE}"), ONE), ["limits.zones.chat: removed"]);
    let headers = format!("{ONE}[server.headers]\n'x-a' = '1'\n");
    assert_eq!(told(ONE, &headers), ["server.headers: added"]);
    assert_eq!(told(&headers, ONE), ["server.headers: removed"]);
    assert_eq!(told(&headers, &format!("{headers}'x-b' = '2'")), ["server.headers.x-b: unset -> \"2\""]);
}

#[test]
fn a_secret_is_never_told() {
    let text = |admin: &str, api: &str, key: &str| {
        format!(
            "server.admin_token = '{admin}'\n{ONE}api_key = '{api}'\n[[keys]]\nname = 'team-a'\nsecret = '{key}'\n"
        )
    };
    let old = text("admin-secret-0000", "api-secret-0000", "key-secret-0000");
    let hidden = told(&old, &text("admin-SECRET-0000", "api-SECRET-0000", "key-SECRET-0000"));
    assert_eq!(
        hidden,
        ["server.admin_token: changed", "endpoints.gpu-1.api_key: changed", "keys.team-a.secret: changed"]
    );
    let masked = told(&old, &text("admin-secret-1111", "api-secret-1111", "key-secret-1111"));
    assert_eq!(
        masked,
        [
            "endpoints.gpu-1.api_key: \"…0000\" -> \"…1111\"",
            "keys.team-a.secret: \"…0000\" -> \"…1111\"",
            "server.admin_token: \"…0000\" -> \"…1111\"",
        ]
    );
    let short = told(&format!("{ONE}api_key = 'short-1'"), &format!("{ONE}api_key = 'short-2'"));
    assert_eq!(short, ["endpoints.gpu-1.api_key: changed"]);
    assert_eq!(told(ONE, &format!("{ONE}api_key = 'short-2'")), ["endpoints.gpu-1.api_key: \"\" -> \"…\""]);

    let sum = |digit: &str| format!("{ONE}[[keys]]\nname = 'k'\nsha256 = '{}'\n", digit.repeat(64));
    assert_eq!(told(&sum("0"), &sum("1")), ["keys.k.sha256: changed"]);
    let plain = format!("{ONE}[[keys]]\nname = 'k'\nsecret = 'key-secret-0000'\n");
    assert_eq!(told(&sum("0"), &plain), ["keys.k.secret: unset -> \"…0000\"", "keys.k.sha256: changed"]);
}

#[test]
fn a_line_is_short_and_one_line() {
    let header = |value: &str| format!("{ONE}[server.headers]\na = '{value}'\n");
    let cut = format!("\"{}…", "x".repeat(59));
    assert_eq!(told(&header("y"), &header(&"x".repeat(100))), [format!("server.headers.a: \"y\" -> {cut}")]);
    let (old, new) = (header(&format!("{}1", "x".repeat(99))), header(&format!("{}2", "x".repeat(99))));
    assert_eq!(told(&old, &new), ["server.headers.a: changed"]);
    let phrase = "\"a\\nb\\u202E\\u001B\"";
    let guard = |phrases: &str| {
        format!(
            "{ONE}[guard.input]\nscanners = ['BanSubstrings']\n[guard.input.scanner.BanSubstrings]\nsubstrings = [{phrases}]\n"
        )
    };
    assert_eq!(
        told(&guard("'x'"), &guard(phrase)),
        ["guard.input.scanner.BanSubstrings.substrings: [\"x\"] -> [\"a\\nb\\u{202e}\\u{1b}\"]"]
    );
}

#[test]
fn what_needs_a_new_process_is_named() {
    let (old, all) =
        (config(ONE), "shards = 2\npin = true\ndriver = 'epoll'\nadmin_listen = '127.0.0.1:9'\n");
    let new = config(&format!("{ONE}[server]\n{all}[log]\naccess = 'off'\n"));
    let keys = ["server.shards", "server.pin", "server.driver", "server.admin_listen", "log.access"];
    assert_eq!(needs_restart(&old, &new), keys);
    for (line, key) in all.lines().zip(keys) {
        assert_eq!(needs_restart(&old, &config(&format!("{ONE}[server]\n{line}"))), [key]);
    }
    let fine = config(&format!(
        "{ONE}{TWO}[server]\nlisten = ['127.0.0.1:1']\nwatch = true\n[log]\nlevel = 'debug'\n"
    ));
    assert_eq!(needs_restart(&old, &fine), [""; 0]);
    assert!(!changes(&old, &fine).is_empty());
}
