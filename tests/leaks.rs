//! Promise: secrets and texts of clients stay where they belong. Canaries stand in every secret of the configuration,
//! in headers, bodies, queries and answers; then everything that the gateway has said to anyone else is searched for
//! them: its output, its logs at the level that says most, its pages, the answers of others. No log line can be forged.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

mod support;

use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::answer::Answer;
use support::fleet::{connect, until};
use support::upstream::{Record, Reply, Then, Upstream, echo, plain};

/// Secrets of the configuration.
const ENDPOINT: &str = "sk-canary-endpoint-7f3a91";
const TEAM_ENV: &str = "sk-canary-teamenv-52cc07";
const TEAM_FILE: &str = "sk-canary-teamfile-b81e44";
const ADMIN: &str = "canary-admin-token-0d9f62";
/// What clients send and endpoints answer.
const WRONG_KEY: &str = "sk-canary-wrongkey-e1a5b3";
const PROMPT: &str = "canaryprompt4410dd";
const ANSWER: &str = "canaryanswer91ab7c";
const UPSTREAM_ERROR: &str = "canaryupstreamerror6b2f";
const QUERY: &str = "canaryquery8e17c5";
const HEADER: &str = "canaryheader3d90aa";

const SECRETS: [&str; 4] = [ENDPOINT, TEAM_ENV, TEAM_FILE, ADMIN];
const TEXTS: [&str; 6] = [WRONG_KEY, PROMPT, ANSWER, UPSTREAM_ERROR, QUERY, HEADER];

/// A folder of this process's own.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("corelane-leaks-{}-{name}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A gateway whose whole output is kept.
struct Site {
    child: Child,
    folder: PathBuf,
    addr: SocketAddr,
    admin: SocketAddr,
    _upstream: Upstream,
}

impl Site {
    /// Starts it and waits until a request is served.
    fn start(name: &str) -> Site {
        let folder = folder(name);
        let upstream = Upstream::start("127.0.0.1:0".parse().unwrap(), misbehaving);
        fs::write(folder.join("team-file.key"), format!("{TEAM_FILE}\n")).unwrap();
        fs::write(folder.join("endpoint.key"), ENDPOINT).unwrap();
        let toml = configuration(&folder, upstream.addr);
        fs::write(folder.join("corelane.toml"), toml).unwrap();
        let child = command(&["serve", "-c", folder.join("corelane.toml").to_str().unwrap()])
            .stdin(Stdio::null())
            .stdout(File::create(folder.join("stdout")).unwrap())
            .stderr(File::create(folder.join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let mut site = Site {
            child,
            folder,
            addr: SocketAddr::from(([0, 0, 0, 0], 0)),
            admin: SocketAddr::from(([0, 0, 0, 0], 0)),
            _upstream: upstream,
        };
        let ready = until("the ready line", || {
            assert!(site.child.try_wait().unwrap().is_none(), "{}", site.read("stderr"));
            site.read("stdout").lines().find(|line| line.starts_with("ready ")).map(str::to_owned)
        });
        let address =
            |key: &str| ready.split(' ').find_map(|word| word.strip_prefix(key)?.parse().ok()).unwrap();
        (site.addr, site.admin) = (address("http="), address("admin="));
        until("the endpoint is known", || {
            (site.chat(&bearer(TEAM_ENV), &body("m", "fine", false)).status == 200).then_some(())
        });
        site
    }

    fn read(&self, file: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join(file)).unwrap_or_default()).into_owned()
    }

    /// One request on a connection of its own; `fields` are whole lines. `None`: no whole answer came.
    fn ask(&self, addr: SocketAddr, line: &str, fields: &str, body: &str) -> Option<Answer> {
        let mut reader = connect(addr);
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let request = format!("{line} HTTP/1.1\r\nHost: gw\r\n{fields}{length}\r\n{body}");
        let _ = reader.stream().write_all(request.as_bytes());
        reader.answer(false, Instant::now() + Duration::from_secs(10)).ok()
    }

    fn chat(&self, fields: &str, body: &Value) -> Answer {
        self.ask(self.addr, "POST /v1/chat/completions", fields, &body.to_string()).expect("an answer")
    }

    /// Waits until the access log holds the line of a last request, so that all lines before it are there.
    fn settle(&self) {
        let mark = format!("settle-{:?}", Instant::now()).replace(|c: char| !c.is_ascii_alphanumeric(), "");
        self.ask(self.addr, "GET /v1/models", &format!("x-request-id: {mark}\r\n"), "").unwrap();
        until("the log has been written", || self.read("access.log").contains(&mark).then_some(()));
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.args(args).env("CORELANE_TEAM", TEAM_ENV).env("CORELANE_ADMIN", ADMIN);
    command
}

fn configuration(folder: &Path, upstream: SocketAddr) -> String {
    let folder = folder.display();
    let driver = match std::env::var("CORELANE_TEST_DRIVER") {
        Ok(driver) if !driver.is_empty() => format!("driver = \"{driver}\"\n"),
        _ => String::new(),
    };
    format!(
        r#"[server]
{driver}listen = ["127.0.0.1:0"]
admin_listen = "127.0.0.1:0"
shards = 1
body_bytes_max = "64KiB"
head_timeout = "1s"
admin_token = "env:CORELANE_ADMIN"
[log]
level = "debug"
access = "{folder}/access.log"
[health]
interval = "50ms"
timeout = "1s"
unhealthy_threshold = 1000
[retry]
attempts = 2
backoff = "1ms"
[timeouts]
first_byte = "300ms"
[guard.input]
scanners = ["BanSubstrings"]
[guard.scanner.BanSubstrings]
substrings = ["forbidden words"]
[[endpoints]]
name = "a"
url = "http://{upstream}"
kind = "openai"
api_key = "file:{folder}/endpoint.key"
[[endpoints]]
name = "dead"
url = "http://127.0.0.1:9"
kind = "openai"
[[models]]
name = "m"
endpoints = ["a"]
[[models]]
name = "plain"
endpoints = ["a"]
guard = "off"
[[models]]
name = "nowhere"
endpoints = ["dead"]
[[keys]]
name = "team-env"
secret = "env:CORELANE_TEAM"
models = ["m", "plain", "nowhere"]
[[keys]]
name = "team-file"
secret = "file:{folder}/team-file.key"
models = ["m"]
requests_per_minute = 1
"#
    )
}

/// An endpoint that does what the `user` of a request says; each answer has a canary.
fn misbehaving(record: &Record) -> Reply {
    let close = |text: String| Reply { writes: vec![text.into_bytes()], then: Then::Close };
    let status = |status: u16, body: String| {
        let head = format!(
            "HTTP/1.1 {status} X{UPSTREAM_ERROR}\r\nX-Debug: {UPSTREAM_ERROR}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Reply { writes: vec![head.into_bytes()], then: Then::Keep }
    };
    let error = |text: &str| {
        json!({"error": {"message": text, "type": UPSTREAM_ERROR, "code": UPSTREAM_ERROR}}).to_string()
    };
    let good = || {
        let mut body = support::upstream::completion("x");
        body["choices"][0]["message"]["content"] = json!(format!("the answer is {ANSWER}"));
        body.to_string()
    };
    let stream = |rest: &str| {
        let event = json!({"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{"index": 0, "delta": {"content": ANSWER}}]});
        close(format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {event}\n\n{rest}"))
    };
    match record.user().as_deref() {
        _ if record.method == "GET" => echo(record),
        Some("echo-key") => {
            let shown =
                record.fields.iter().find(|(name, _)| name == "authorization").map(|(_, v)| v.as_str());
            status(401, error(&format!("Incorrect API key provided: {}.", shown.unwrap_or_default())))
        }
        Some("text-error") => status(500, format!("Traceback: {UPSTREAM_ERROR}")),
        Some("malformed") => close(format!("HTTP/1.1 banana {UPSTREAM_ERROR}\r\n\r\n")),
        Some("bad-chunk") => close(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{UPSTREAM_ERROR}\r\n"
        )),
        Some("not-json") => Reply { writes: vec![plain(&format!("{UPSTREAM_ERROR} {{"))], then: Then::Keep },
        Some("cut") => close(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n{ANSWER}"
        )),
        Some("stream-error") => stream(&format!("data: {}\n\n", error(UPSTREAM_ERROR))),
        Some("stream-cut") => stream("data: {\"id\":"),
        Some("stream-garbage") => stream(&format!("data: {UPSTREAM_ERROR} not json\n\n")),
        Some("hang") => {
            std::thread::sleep(Duration::from_millis(600)); // longer than `first_byte`
            close(String::new())
        }
        Some(number) if number.parse::<u16>().is_ok() => {
            status(number.parse().unwrap(), error(UPSTREAM_ERROR))
        }
        _ => Reply { writes: vec![plain(&good())], then: Then::Keep },
    }
}

fn bearer(key: &str) -> String {
    format!("Authorization: Bearer {key}\r\n")
}

fn body(model: &str, user: &str, stream: bool) -> Value {
    json!({"model": model, "user": user, "stream": stream, "messages": [{"role": "user", "content": format!("secret plan: {PROMPT}")}]})
}

/// The canaries of `wanted` that `text` holds.
fn found<'a>(text: &str, wanted: &[&'a str]) -> Vec<&'a str> {
    let text = text.to_ascii_lowercase();
    let held = |canary: &&&str| {
        let whole = canary.to_ascii_lowercase();
        // Nor a recognisable part: all but the last four characters (which `Secret` may show) are enough.
        text.contains(&whole[..whole.len() - 4])
    };
    wanted.iter().filter(held).copied().collect()
}

fn text(answer: &Answer) -> String {
    let fields: String = answer.fields.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    format!("{}\n{fields}\n{}", answer.status, String::from_utf8_lossy(&answer.body))
}

/// Every way to fail, and some to succeed. Returns what the callers were told.
fn provoke(site: &Site) -> Vec<(String, Answer)> {
    let mut told: Vec<(String, Answer)> = Vec::new();
    let good = bearer(TEAM_ENV);
    for user in [
        "fine",
        "echo-key",
        "text-error",
        "malformed",
        "bad-chunk",
        "not-json",
        "cut",
        "hang",
        "400",
        "401",
        "403",
        "404",
        "408",
        "409",
        "413",
        "422",
        "429",
        "500",
        "502",
        "503",
        "504",
        "529",
        "301",
        "stream-error",
        "stream-cut",
        "stream-garbage",
    ] {
        for model in ["m", "plain"] {
            let stream = user.starts_with("stream");
            let body = body(model, user, stream).to_string();
            if let Some(answer) = site.ask(site.addr, "POST /v1/chat/completions", &good, &body) {
                told.push((format!("{model} {user}"), answer));
            }
        }
    }
    told.push(("connect".into(), site.chat(&good, &body("nowhere", "x", false))));
    told.push(("unknown model".into(), site.chat(&good, &body("no-such-model", "x", false))));
    told.push(("not its model".into(), site.chat(&bearer(TEAM_FILE), &body("plain", "x", false))));
    told.push(("first".into(), site.chat(&bearer(TEAM_FILE), &body("m", "x", false))));
    told.push(("over its rate".into(), site.chat(&bearer(TEAM_FILE), &body("m", "x", false))));
    let mut banned = body("m", "x", false);
    banned["messages"][0]["content"] = json!(format!("these forbidden words and {PROMPT}"));
    told.push(("guard".into(), site.chat(&good, &banned)));
    for spelling in [
        "Authorization: Bearer ",
        "Authorization: ",
        "x-api-key: ",
        "api-key: ",
        "Cookie: session=",
        "Proxy-Authorization: Basic ",
    ] {
        let fields = format!("{spelling}{WRONG_KEY}\r\n");
        told.push((spelling.to_owned(), site.chat(&fields, &body("m", "x", false))));
    }
    let raw = |line: &str, fields: &str, body: &str| {
        let answer = site.ask(site.addr, line, fields, body);
        answer.map(|answer| (format!("{line} {}", &fields[..fields.len().min(30)]), answer))
    };
    let post = "POST /v1/chat/completions";
    let odd = [
        raw(&format!("{post}?api_key={QUERY}"), &good, &body("m", "x", false).to_string()),
        raw(&format!("GET /v1/models?key={QUERY}"), &good, ""),
        raw(&format!("GET /nothing?key={QUERY}"), &good, ""),
        raw(&format!("POST /v1/embeddings?key={QUERY}"), &good, "{}"),
        raw(post, &good, &format!("{{\"model\": \"m\", \"messages\": {PROMPT}")),
        raw(post, &good, &format!("[\"{PROMPT}\"]")),
        raw(post, &good, &format!("{{\"model\":\"m\",\"messages\":\"{PROMPT}\"}}")),
        raw(
            post,
            &good,
            &format!(
                "{{\"model\":\"m\",\"messages\":[{{\"role\":\"{PROMPT}\"}}],\"max_tokens\":\"{PROMPT}\"}}"
            ),
        ),
        raw(post, &good, &format!("{{\"model\":\"m\",\"x\":\"{PROMPT}\u{1}\"}}")),
        raw(post, &format!("{good}Content-Encoding: gzip\r\n"), PROMPT),
        raw(post, &format!("{good}Content-Encoding: {HEADER}\r\n"), PROMPT),
        raw(post, &format!("{good}Content-Length: {HEADER}\r\n"), ""),
        raw(post, &format!("{good}Transfer-Encoding: {HEADER}\r\n"), ""),
        raw(post, &format!("{good}Expect: {HEADER}\r\n"), PROMPT),
        raw(post, &format!("{good}Bad Name {HEADER}: x\r\n"), PROMPT),
        raw(post, &format!("{good}X: \u{7}{HEADER}\r\n"), PROMPT),
        raw(&format!("{HEADER} /"), &good, ""),
        raw(&format!("GET {HEADER}"), &good, ""),
        raw(post, &format!("{good}X-Big: {}\r\n", HEADER.repeat(2000)), PROMPT),
        raw(post, &good, &format!("{{\"model\":\"m\",\"x\":\"{}\"}}", PROMPT.repeat(5000))),
        raw(
            post,
            &format!(
                "{good}X-Forwarded-For: {HEADER}\r\nOrigin: {HEADER}\r\nx-litellm-timeout: {HEADER}\r\n"
            ),
            &body("m", "x", false).to_string(),
        ),
    ];
    told.extend(odd.into_iter().flatten());
    let mut slow = connect(site.addr);
    slow.stream()
        .write_all(format!("POST /v1/chat/completions HTTP/1.1\r\n{good}X-Slow: {HEADER}").as_bytes())
        .unwrap();
    told.push((
        "slow head".into(),
        slow.answer(false, Instant::now() + Duration::from_secs(5)).expect("408"),
    ));
    told
}

/// Pages for operators and for anybody with a key.
fn pages(site: &Site) -> Vec<(String, Answer)> {
    let mut pages = Vec::new();
    for path in ["/metrics", "/status", "/health", "/nothing", "/drain", "/endpoints/a/disable"] {
        for fields in [String::new(), bearer(ADMIN), bearer(WRONG_KEY), bearer(TEAM_ENV)] {
            pages.push((
                format!("admin {path}"),
                site.ask(site.admin, &format!("GET {path}"), &fields, "").unwrap(),
            ));
        }
    }
    for path in [
        "/metrics",
        "/health",
        "/health/readiness",
        "/model/info",
        "/model_group/info",
        "/v1/models",
        "/v1/models/m",
        "/api/tags",
        "/api/ps",
        "/api/version",
        "/",
    ] {
        for fields in [String::new(), bearer(TEAM_ENV)] {
            pages.push((
                format!("data {path}"),
                site.ask(site.addr, &format!("GET {path}"), &fields, "").unwrap(),
            ));
        }
    }
    pages
}

#[test]
fn canaries_are_nowhere_but_with_those_they_belong_to() {
    let site = Site::start("canaries");
    let told = provoke(&site);
    let statuses: std::collections::BTreeSet<u16> = told.iter().map(|(_, answer)| answer.status).collect();
    for status in [200, 400, 401, 403, 404, 408, 413, 415, 417, 429, 431, 500, 501, 502, 503, 504] {
        assert!(statuses.contains(&status), "{status} was not provoked: {statuses:?}");
    }
    for (what, answer) in &told {
        // Words of the endpoint and of the request may go to the caller who asked; credentials never.
        let mine = [&SECRETS[..], &[WRONG_KEY, QUERY]].concat();
        assert_eq!(found(&text(answer), &mine), [""; 0], "{what}: {}", text(answer));
    }
    let served = told.iter().find(|(what, _)| what == "m fine").unwrap();
    assert_eq!(found(&text(&served.1), &[ANSWER]), [ANSWER], "the search works, and the answer came");
    let everything = [&SECRETS[..], &TEXTS].concat();
    for (what, answer) in pages(&site) {
        assert_eq!(found(&text(&answer), &everything), [""; 0], "{what}: {}", text(&answer));
    }
    site.settle();
    for file in ["stdout", "stderr", "access.log"] {
        let text = site.read(file);
        let lines: Vec<&str> = text.lines().filter(|line| !found(line, &everything).is_empty()).collect();
        assert_eq!(lines, [""; 0], "{file}");
    }
    assert!(site.read("access.log").lines().count() > told.len() / 2, "exchanges are logged");
}

/// An endpoint's words go to whoever asked; the gateway's own key to it is not theirs to read.
#[test]
fn an_endpoint_that_repeats_its_key_does_not_give_it_away() {
    let site = Site::start("repeats");
    let answer = site.chat(&bearer(TEAM_ENV), &body("plain", "echo-key", false));
    assert_eq!(answer.status, 401);
    assert_eq!(found(&text(&answer), &SECRETS), [""; 0], "{}", text(&answer));
    assert!(
        text(&answer).contains("Incorrect API key provided"),
        "its other words are kept: {}",
        text(&answer)
    );
}

#[test]
fn the_command_line_shows_no_secret() {
    let folder = folder("commands");
    fs::write(folder.join("team-file.key"), TEAM_FILE).unwrap();
    fs::write(folder.join("endpoint.key"), ENDPOINT).unwrap();
    let file = folder.join("corelane.toml");
    let good = configuration(&folder, "127.0.0.1:9".parse().unwrap());
    let run = |verb: &[&str], toml: &str| {
        fs::write(&file, toml).unwrap();
        let output = command(verb).arg(&file).output().unwrap();
        let both = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&both).into_owned())
    };
    for verb in [&["check"][..], &["config", "-c"]] {
        let (well, said) = run(verb, &good);
        assert!(well, "{said}");
        assert_eq!(found(&said, &SECRETS), [""; 0], "{said}");
    }
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    let key = format!("secret = \"file:{}/team-file.key\"", folder.display());
    let endpoint = format!("api_key = \"file:{}/endpoint.key\"", folder.display());
    let broken = [
        with(&endpoint, &format!("api_keyy = \"{ENDPOINT}\"")),
        with(&endpoint, &format!("api_key = [\"{ENDPOINT}\"]")),
        with(&endpoint, &format!("api_key = \"{ENDPOINT}\"\napi_key = \"{ENDPOINT}\"")),
        with(&endpoint, &format!("api_key = \"{ENDPOINT}")),
        with(&endpoint, &format!("api_key = \"{ENDPOINT}\" x")),
        with(&endpoint, &format!("api_key = \"{ENDPOINT}\u{e9}\"")),
        with(&endpoint, &format!("api_key = \"{ENDPOINT}\"\nweight = \"x\"")),
        with(&key, &format!("secret = \"{TEAM_FILE}\\n\"")),
        with(&key, &format!("secret = {{ value = \"{TEAM_FILE}\" }}")),
        with(&key, &format!("secrets = \"{TEAM_FILE}\"")),
        with(&key, &format!("sha256 = \"{TEAM_FILE}\"")),
        with(&key, &format!("secret = \"{TEAM_FILE}\"\nsha256 = \"{TEAM_FILE}\"")),
        with("admin_token = \"env:CORELANE_ADMIN\"", &format!("admin_tokn = \"{ADMIN}\"")),
        with("admin_token = \"env:CORELANE_ADMIN\"", &format!("admin_token = \"{ADMIN}\"\nlisten = 5")),
        with("admin_token = \"env:CORELANE_ADMIN\"", &format!("admin_token = \"{ADMIN}\u{1}\"")),
        with("secret = \"env:CORELANE_TEAM\"", &format!("secret = \"env:{TEAM_ENV}\"")),
        with("url = \"http://127.0.0.1:9\"", &format!("url = \"http://user:{ENDPOINT}@127.0.0.1:9\"")),
        with(
            "url = \"http://127.0.0.1:9\"\nkind",
            &format!("url = \"http://127.0.0.1:9/v1?key={ENDPOINT}\"\nkind"),
        ),
    ];
    let mut shown = Vec::new();
    for (at, toml) in broken.iter().enumerate() {
        let (well, said) = run(&["check"], toml);
        assert!(!well, "mistake {at} was not seen: {said}");
        let leaked = found(&said, &SECRETS);
        // A name of a variable is no secret, whatever it looks like.
        if !leaked.is_empty() && !toml.contains(&format!("env:{TEAM_ENV}")) {
            shown.push(format!("mistake {at} shows {leaked:?}:\n{said}"));
        }
    }
    let _ = fs::remove_dir_all(&folder);
    assert!(shown.is_empty(), "{}", shown.join("\n"));
}

#[test]
fn log_lines_cannot_be_forged() {
    let site = Site::start("forged");
    site.settle();
    let (before, events) = (site.read("access.log").lines().count(), site.read("stderr").lines().count());
    let evil = "x\n{\"time\":\"forged\"}\r\n\u{1b}[31mred\u{7f}\u{85}\u{2028}\u{202e}\0end";
    let key = bearer(TEAM_ENV);
    let mut asked = 0;
    for model in [evil, "m"] {
        let mut chat = body(model, evil, false);
        chat["metadata"] = json!({"trace": evil});
        chat["messages"][0]["name"] = json!(evil);
        site.chat(&key, &chat);
        asked += 1;
    }
    for line in [
        "GET /%0a%7b%22time%22:%22forged%22%7d%0d%0a%1b[31mred%00",
        "GET /v1/models/x%0aforged%1b[31m",
        "GET /v1/models/%e2%80%a8%c2%85forged",
        "GET /\"},{\"time\":\"forged\"",
        "POST /v1/chat/completions?x=%0aforged",
    ] {
        site.ask(site.addr, line, &key, "").unwrap();
        asked += 1;
    }
    for field in [
        "x-request-id: a\u{1b}[31mforged",
        "x-request-id: \u{85}forged",
        "X-Forwarded-For: 1.2.3.4\tforged",
        "User-Agent: \u{9b}31mforged",
    ] {
        if let Some(answer) = site.ask(site.addr, "GET /v1/models", &format!("{key}{field}\r\n"), "") {
            asked += usize::from(answer.status == 200);
        }
    }
    site.settle();
    let log = site.read("access.log");
    let lines: Vec<&str> = log.lines().skip(before).collect();
    for line in &lines {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        assert!(value["time"].as_str().is_some_and(|time| time.starts_with("20")), "{line}");
        let control =
            line.chars().find(|c| c.is_control() || ['\u{2028}', '\u{2029}', '\u{202e}'].contains(c));
        assert_eq!(control, None, "{line:?}");
    }
    // One line an exchange, and the one that `settle` waits for; requests that were refused unread may have none.
    assert!(
        lines.len() <= asked + 1 && lines.len() > asked / 2,
        "{} lines for {asked} requests",
        lines.len()
    );
    for line in site.read("stderr").lines().skip(events) {
        assert!(line.starts_with("20") && !line.chars().any(char::is_control), "{line:?}");
    }
}

/// `docs/threat-model.md` names the test that holds each rule, as `file::name`: each must be there.
#[test]
fn the_threat_model_names_real_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/threat-model.md")).unwrap();
    let named: Vec<(&str, &str)> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|word| word.split_once(".rs::"))
        .filter(|(file, _)| file.starts_with("tests/") || file.starts_with("src/"))
        .collect();
    assert!(named.len() >= 30, "{} tests are named", named.len());
    let missing: Vec<String> = named
        .iter()
        .filter(|(file, name)| {
            let source = fs::read_to_string(root.join(format!("{file}.rs"))).unwrap_or_default();
            !source.contains(&format!("fn {name}("))
        })
        .map(|(file, name)| format!("{file}.rs::{name}"))
        .collect();
    assert_eq!(missing, [""; 0], "named, but not there");
    let (rules, empty): (Vec<&str>, Vec<&str>) = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| Rule") && line.contains("src/"))
        .partition(|line| line.contains(".rs::"));
    assert!(rules.len() >= 20, "{} rules", rules.len());
    assert_eq!(empty, [""; 0], "a rule without a test");
}
