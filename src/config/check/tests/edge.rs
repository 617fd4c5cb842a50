//! TLS, browsers, limits and keys: each rule by a text that breaks it, what each key means, and the way back.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::super::super::Secret;
use super::super::super::edge::{Certificate, Cors, KeySecret, LimitedRoute, Limits, Tls, Zone, ZoneKey};
use super::rules::{assert_rules, assert_section};
use super::{Config, ONE, effective, example, load, parse, problems, with_endpoint};

const CERT: &str = "cert = 'c'\nkey = 'k'\n";
const ZONE: &str = "[[limits.zones]]\nname = 'z'\nrate = '1r/s'\n";
const KEY: &str = "[[keys]]\nname = 'k'\nsecret = 'secret-of-k'\n";
const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

pub(super) fn good(text: &str) -> Config {
    parse(&with_endpoint(text)).unwrap_or_else(|problems| panic!("{text}\n{problems}"))
}

/// Reads `text`, and asserts that its effective form is read as the same.
pub(super) fn there_and_back(text: &str) -> Config {
    let config = good(text);
    let written = effective(&config);
    let back = parse(&written).unwrap_or_else(|problems| panic!("{problems}\n{written}"));
    assert_eq!(back, config, "{written}");
    config
}

fn path(text: &str) -> PathBuf {
    PathBuf::from(text)
}

fn route(path: &str, burst: u32, delay: Option<u32>, concurrent_per_client: Option<u32>) -> LimitedRoute {
    LimitedRoute { path: path.to_owned(), burst, delay, concurrent_per_client }
}

#[test]
fn nothing_said_is_open_and_unlimited() {
    let config = parse(ONE).unwrap();
    let server = &config.server;
    assert_eq!((&server.tls, &server.admin_token), (&None, &None));
    assert_eq!((server.gzip, server.gzip_bytes_min.0, server.messages_max), (false, 1024, 2048));
    let day = Duration::from_secs(86_400);
    assert_eq!(server.cors, Cors { origins: vec!["*".to_owned()], credentials: false, max_age: day });
    let limits = Limits {
        concurrent_per_client: 0,
        reject_status: 429,
        ipv6_prefix: 64,
        entries_max: 65_536,
        zones: Vec::new(),
    };
    assert_eq!((&config.limits, config.keys.len()), (&limits, 0));
    assert_eq!(good("[limits]").limits, limits);
    assert_eq!(config.endpoints[0].ca, None);
}

#[test]
fn the_edge_example_says_what_the_guides_nginx_does() {
    let config = load(&example("edge.toml")).unwrap();
    let tls = config.server.tls.as_ref().unwrap();
    assert_eq!(tls.listen, ["0.0.0.0:8443".parse().unwrap()]);
    assert_eq!((tls.redirect_http, tls.redirect_status, tls.redirect_port), (true, 308, Some(443)));
    assert_eq!((config.server.headers.len(), config.server.gzip), (6, true));
    let limits = &config.limits;
    assert_eq!((limits.concurrent_per_client, limits.reject_status), (10, 429));
    let rates: Vec<(&str, u32, &ZoneKey)> =
        limits.zones.iter().map(|zone| (zone.name.as_str(), zone.rate, &zone.key)).collect();
    let ip = &ZoneKey::ClientIp;
    assert_eq!(rates, [("chat", 5000, ip), ("api", 10_000, ip), ("health", 30_000, ip)]);
    let chat = ["/v1/chat/completions", "/chat/completions", "/api/chat"];
    assert_eq!(limits.zones[0].routes, chat.map(|path| route(path, 20, None, None)));
    assert_eq!(
        limits.zones[1].routes,
        [
            route("/v1/completions", 30, None, None),
            route("/v1/embeddings", 50, None, Some(15)),
            route("/v1/models", 10, None, None),
            route("/", 20, None, None),
        ]
    );
    assert_eq!(limits.zones[2].routes, [route("/health", 10, None, None)]);
    assert_eq!(config.keys.len(), 2);
}

#[test]
fn tls_is_read_and_written() {
    let tls = there_and_back(&format!("[server.tls]\n{CERT}")).server.tls.unwrap();
    let usual = Tls {
        listen: vec!["0.0.0.0:8443".parse().unwrap()],
        certificates: vec![Certificate { cert: path("c"), key: path("k") }],
        redirect_http: false,
        redirect_status: 308,
        redirect_port: None,
        client_ca: None,
        tls12: true,
        http2: true,
        handshake_timeout: Duration::from_secs(10),
        handshakes_max: 256,
    };
    assert_eq!(tls, usual);

    let all = r#"
[server]
listen = []
[server.tls]
listen = ["[::1]:443", "127.0.0.1:0", "127.0.0.1:0"]
cert = "a \"b\".pem"
key = "/k"
certificates = [{ cert = "c2", key = "k2" }, { cert = "c2", key = "k3" }]
redirect_status = 301
redirect_port = 443
client_ca = "ca.pem"
min_version = "1.3"
http2 = false
handshake_timeout = "1500ms"
handshakes_max = 1
"#;
    let server = there_and_back(all).server;
    assert!(server.listen.is_empty(), "TLS only");
    let tls = server.tls.unwrap();
    let certs: Vec<&str> = tls.certificates.iter().filter_map(|one| one.cert.to_str()).collect();
    assert_eq!(certs, ["a \"b\".pem", "c2", "c2"]);
    assert_eq!((tls.listen.len(), tls.redirect_status, tls.redirect_port), (3, 301, Some(443)));
    assert_eq!((tls.client_ca, tls.tls12, tls.http2), (Some(path("ca.pem")), false, false));
    assert_eq!((tls.handshake_timeout.as_millis(), tls.handshakes_max), (1500, 1));

    let only = there_and_back("[server.tls]\ncertificates = [{ cert = 'x', key = 'y' }]\nclient_ca = ''");
    assert_eq!(only.server.tls.unwrap().certificates, [Certificate { cert: path("x"), key: path("y") }]);
}

#[test]
fn tls_is_checked() {
    for (lines, at, message, hint) in [
        ("listen = []", ".listen", "0 listeners", "1 to 16"),
        ("listen = \"0.0.0.0:8443\"", ".listen", "expected an array", "[\"0.0.0.0:8000\"]"),
        ("listen = [\"0.0.0.0:8000\"]", ".listen", "takes the address of the data listener", "its own"),
        ("listen = [\"[::]:1\", \"127.0.0.1:8000\"]", ".listen", "127.0.0.1:8000 takes the address", ""),
        ("listen = [\"0.0.0.0:8001\"]", ".listen", "of the admin listener 127.0.0.1:8001", "its own"),
        ("listen = [\"[::1]:1\", \"[::1]:1\"]", ".listen[1]", "listed twice", "remove"),
        ("redirect_http = 1", ".redirect_http", "expected true or false", ""),
        ("redirect_status = 302", ".redirect_status", "302 is neither 301 nor 308", "308 keeps"),
        ("redirect_status = \"301\"", ".redirect_status", "expected a whole number", ""),
        ("redirect_port = 0", ".redirect_port", "out of range", "1 to 65535"),
        ("client_ca = \"ssl/\"", ".client_ca", "is no file", "cert.pem"),
        ("client_ca = \"a\\nb\"", ".client_ca", "is no file", ""),
        ("min_version = \"1.1\"", ".min_version", "not known", "1.2"),
        ("min_version = 1.2", ".min_version", "expected a string", "quotes"),
        ("handshake_timeout = \"0s\"", ".handshake_timeout", "out of range", "1ms"),
        ("handshakes_max = 0", ".handshakes_max", "out of range", "1 to 65536"),
        ("certificates = 5", ".certificates", "expected an array", ""),
        ("certificates = [5]", ".certificates[0]", "expected a table", ""),
        ("certificates = [{ cert = 'x' }]", ".certificates[0].key", "is missing", "PEM"),
        ("certificates = [{ cert = 'c', key = 'k' }]", ".certificates[0]", "listed twice", "remove"),
        ("certificate = 'x'", ".certificate", "unknown key", "did you mean"),
    ] {
        let text = with_endpoint(&format!("[server.tls]\n{lines}\n{CERT}"));
        assert_rules(&[(&text, &format!("server.tls{at}"), message, hint)]);
    }
    for (lines, at, message, hint) in [
        ("", "", "a certificate is needed", "cert = "),
        ("certificates = []", "", "a certificate is needed", "cert = "),
        ("cert = 'c'", ".key", "is missing", "key = "),
        ("key = 'k'", ".cert", "is missing", "cert = "),
        ("cert = ''\nkey = 'k'", ".cert", "is empty", "cert = "),
        ("cert = 'c'\nkey = 'ssl/'", ".key", "is no file", ""),
    ] {
        let text = with_endpoint(&format!("[server.tls]\n{lines}"));
        assert_rules(&[(&text, &format!("server.tls{at}"), message, hint)]);
    }
    let none = with_endpoint(&format!("[server]\nlisten = []\n[server.tls]\n{CERT}redirect_http = true"));
    assert_rules(&[(&none, "server.tls.redirect_http", "no plain listener", "listen")]);
    assert_rules(&[(&with_endpoint("server.tls = 5"), "server.tls", "expected a table", "")]);
    let same = with_endpoint(&format!("[server]\nadmin_listen = '127.0.0.1:8443'\n[server.tls]\n{CERT}"));
    assert_rules(&[(&same, "server.tls", "0.0.0.0:8443 takes the address of the admin listener", "")]);
    let many: String = (0..257).map(|index| format!("{{ cert = 'c{index}', key = 'k' }},")).collect();
    let many = with_endpoint(&format!("[server.tls]\ncertificates = [{many}]"));
    assert_rules(&[(&many, "server.tls", "257 certificates", "at most 256")]);
}

#[test]
fn an_admin_listener_for_others_needs_no_token() {
    let config = good("[server]\nadmin_listen = '0.0.0.0:8001'");
    assert_eq!(config.server.admin_token, None);
    assert_eq!(good("[server]\nadmin_token = ''").server.admin_token, None);
    let config = good("[server]\nadmin_token = 'admin-0123456789'");
    assert_eq!(config.server.admin_token.as_ref().unwrap().expose(), "admin-0123456789");
    let written = effective(&config);
    assert!(written.contains("admin_token = \"…6789\"") && !written.contains("admin-0123"), "{written}");
    assert!(problems(&written)[0].message.contains("masked secret"));
}

#[test]
fn origins_are_read_and_checked() {
    let text = "[server.cors]\norigins = ['HTTPS://Chat.Example:443', 'http://localhost:3000']\n\
                credentials = true\nmax_age = '10m'";
    let cors = there_and_back(text).server.cors;
    assert_eq!(cors.origins, ["https://chat.example", "http://localhost:3000"]);
    assert_eq!((cors.credentials, cors.max_age.as_secs()), (true, 600));
    assert!(there_and_back("[server.cors]\norigins = []").server.cors.origins.is_empty());
    assert_section(
        "server.cors",
        &[
            ("origins = '*'", "origins", "expected an array", "brackets"),
            ("origins = [5]", "origins[0]", "expected a string", ""),
            ("origins = ['chat.example']", "origins[0]", "no origin", "scheme://"),
            ("origins = ['https://chat.example/']", "origins[0]", "ends behind its host", "scheme://"),
            ("origins = ['*', 'https://a']", "origins[0]", "others beside it", "remove"),
            ("origins = ['https://a', 'https://A:443']", "origins[1]", "listed twice", "remove"),
            ("credentials = true", "credentials", "not for every origin", "https://chat.example"),
            ("credentials = 'no'", "credentials", "expected true or false", ""),
            ("max_age = '25h'", "max_age", "out of range", "86400s"),
            ("origin = '*'", "origin", "unknown key", "did you mean `origins`?"),
        ],
    );
    let many = with_endpoint(&format!("[server.cors]\norigins = [{}]", "'http://a',".repeat(257)));
    assert_rules(&[(&many, "server.cors.origins", "257 origins", "at most 256")]);
}

#[test]
fn zones_are_read_and_written() {
    let text = format!(
        r#"
[limits]
concurrent_per_client = 10
reject_status = 503
ipv6_prefix = 128
entries_max = 16_777_216
[[limits.zones]]
name = "all"
rate = "10r/m"
[[limits.zones]]
name = "slow"
key = "header:X-Tenant"
rate = "1r/s"
burst = 20
nodelay = false
delay = 5
concurrent_per_client = 3
routes = [
    "/a",
    {{ path = "/b", burst = 268_000 }},
    {{ path = "/c", nodelay = true, concurrent_per_client = 0 }},
    {{ path = "/d", delay = 7 }},
]
[[limits.zones]]
name = "fast"
key = "everyone"
rate = "1000000r/s"
routes = [{{ path = "/e", nodelay = false }}, {{ path = "/a", nodelay = false, delay = 1, burst = 2 }}]
[[limits.zones]]
name = "caller"
key = "api_key"
rate = "1r/m"
[[keys]]
name = "k"
sha256 = "{ZEROS}"
"#
    );
    let limits = there_and_back(&text).limits;
    assert_eq!((limits.concurrent_per_client, limits.reject_status), (10, 503));
    assert_eq!((limits.ipv6_prefix, limits.entries_max), (128, 16_777_216));
    let all = Zone {
        name: "all".to_owned(),
        key: ZoneKey::ClientIp,
        rate: 166,
        routes: vec![route("/", 0, None, None)],
    };
    assert_eq!(limits.zones[0], all);
    let slow = &limits.zones[1];
    assert_eq!((&slow.key, slow.rate), (&ZoneKey::Header("x-tenant".to_owned()), 1000));
    assert_eq!(
        slow.routes,
        [
            route("/a", 20, Some(5), Some(3)),
            route("/b", 268_000, Some(5), Some(3)),
            route("/c", 20, None, Some(0)),
            route("/d", 20, Some(7), Some(3)),
        ]
    );
    let fast = &limits.zones[2];
    assert_eq!((&fast.key, fast.rate), (&ZoneKey::Everyone, 1_000_000_000));
    assert_eq!(fast.routes, [route("/e", 0, Some(0), None), route("/a", 2, Some(1), None)]);
    assert_eq!((&limits.zones[3].key, limits.zones[3].rate), (&ZoneKey::ApiKey, 16));
}

#[test]
fn every_rate_comes_back() {
    for number in (1..=100).chain([999, 1000, 1001, 59_999, 60_000, 1_000_000]) {
        for (per, rate) in [("r/s", number * 1000), ("r/m", number * 1000 / 60)] {
            let text = format!("[[limits.zones]]\nname = 'z'\nrate = '{number}{per}'");
            assert_eq!(there_and_back(&text).limits.zones[0].rate, rate, "{number}{per}");
        }
    }
}

#[test]
fn limits_are_checked() {
    assert_section(
        "limits",
        &[
            ("concurrent_per_client = -1", "concurrent_per_client", "out of range", "0 to 1000000"),
            ("reject_status = 500", "reject_status", "500 is neither 429 nor 503", "429"),
            ("ipv6_prefix = 0", "ipv6_prefix", "out of range", "1 to 128"),
            ("ipv6_prefix = 129", "ipv6_prefix", "out of range", "1 to 128"),
            ("entries_max = 1023", "entries_max", "out of range", "1024 to 16777216"),
            ("entries_max = 16_777_217", "entries_max", "out of range", "1024 to 16777216"),
            ("zones = 5", "zones", "expected an array", ""),
            ("zones = {}", "zones", "found a table", "write [[limits.zones]]"),
            ("zone = []", "zone", "unknown key", "did you mean `zones`?"),
        ],
    );
    for (lines, at, message, hint) in [
        ("key = 'ip'", ".key", "\"ip\" is not known", "client_ip, api_key, everyone, header:NAME"),
        ("key = 'api_key'", ".key", "no [[keys]]", "client_ip"),
        ("key = 'header:'", ".key", "no header name", "header:x-tenant"),
        ("key = 'header:a b'", ".key", "no header name", "header:x-tenant"),
        ("key = 'header:Connection'", ".key", "`connection` belongs to a connection", "x-tenant"),
        ("key = 'header:TE'", ".key", "`te` belongs to a connection", "x-tenant"),
        ("key = 'header:Authorization'", ".key", "`authorization` carries a secret", "api_key"),
        ("key = 'header:x-api-key'", ".key", "carries a secret", "api_key"),
        ("key = 'header:cookie'", ".key", "carries a secret", "api_key"),
        ("burst = 268_001", ".burst", "out of range", "0 to 268000"),
        ("burst = -1", ".burst", "out of range", "0 to 268000"),
        ("nodelay = 1", ".nodelay", "expected true or false", ""),
        ("delay = 5", ".delay", "only where `nodelay` is false", "nodelay = false"),
        ("nodelay = true\ndelay = 5", ".delay", "only where `nodelay` is false", "nodelay = false"),
        ("nodelay = false\ndelay = -1", ".delay", "out of range", "0 to 268000"),
        ("concurrent_per_client = -1", ".concurrent_per_client", "out of range", "0 to"),
        ("routes = []", ".routes", "0 routes", "left out: [\"/\"]"),
        ("routes = '/'", ".routes", "expected an array", "brackets"),
        ("routes = [5]", ".routes[0]", "expected a table", ""),
        ("routes = ['a']", ".routes[0]", "\"a\" is no path", "begins with `/`"),
        ("routes = ['/a?b']", ".routes[0]", "is no path", "without `?`"),
        ("routes = ['/a b']", ".routes[0]", "is no path", "ASCII"),
        ("routes = ['/a', '/b', '/a']", ".routes[2]", "\"/a\" is listed twice", "remove"),
        ("routes = ['/a', { path = '/a', burst = 5 }]", ".routes[1]", "listed twice", "remove"),
        ("routes = [{ burst = 5 }]", ".routes[0].path", "is missing", "path = "),
        ("routes = [{ path = 'a' }]", ".routes[0].path", "is no path", "begins with `/`"),
        ("routes = [{ path = '/a', rate = '1r/s' }]", ".routes[0].rate", "unknown key", "did you mean"),
        ("routes = [{ path = '/a', delay = 5 }]", ".routes[0].delay", "only where", "nodelay = false"),
    ] {
        let text = with_endpoint(&format!("{ZONE}{lines}"));
        assert_rules(&[(&text, &format!("limits.zones[0]{at}"), message, hint)]);
    }
    for (rate, message) in [
        ("0r/s", "out of range"),
        ("0r/m", "out of range"),
        ("1000001r/s", "out of range"),
        ("99999999999999999999r/s", "out of range"),
        ("5", "is no rate"),
        ("5r/h", "is no rate"),
        ("r/s", "is no rate"),
        ("-1r/s", "is no rate"),
        ("1.5r/s", "is no rate"),
        ("5 r/s", "is no rate"),
    ] {
        let text = with_endpoint(&format!("[[limits.zones]]\nname = 'z'\nrate = '{rate}'"));
        assert_rules(&[(&text, "limits.zones[0].rate", message, "r/m")]);
    }
}

#[test]
fn zones_do_not_contradict_each_other() {
    for (text, at, message, hint) in [
        ("[[limits.zones]]\nname = 'z'".to_owned(), "[0].rate", "is missing", "5r/s"),
        ("[[limits.zones]]\nrate = '1r/s'".to_owned(), "[0].name", "is missing", "chat"),
        (ZONE.replace("'z'", "'a b'"), "[0].name", "\"a b\" is no zone name", "letters"),
        (ZONE.repeat(2), "[1].name", "also the name of the zone in line 1", "its own"),
        (
            format!(
                "{ZONE}concurrent_per_client = 5\n{}concurrent_per_client = 6\n",
                ZONE.replace("'z'", "'y'")
            ),
            "[1]",
            "concurrent_per_client of \"/\" is 6 here and 5 in zone \"z\"",
            "one of the zones",
        ),
        (
            format!(
                "{ZONE}routes = [{{ path = '/a', concurrent_per_client = 1 }}]\n{}\
                 concurrent_per_client = 2\nroutes = ['/a']",
                ZONE.replace("'z'", "'y'")
            ),
            "[1].routes[0]",
            "is 2 here and 1 in zone",
            "one of the zones",
        ),
    ] {
        assert_rules(&[(&with_endpoint(&text), &format!("limits.zones{at}"), message, hint)]);
    }
    let agreed = format!("{ZONE}concurrent_per_client = 5\n{}", ZONE.replace("'z'", "'y'"));
    assert_eq!(there_and_back(&agreed).limits.zones.len(), 2, "one of them says it");
    let many: String = (0..65).map(|index| ZONE.replace("'z'", &format!("'z{index}'"))).collect();
    assert_rules(&[(&with_endpoint(&many), "limits.zones", "65 zones", "at most 64")]);
    let many: String = (0..65).map(|index| format!("'/{index}',")).collect();
    let many = with_endpoint(&format!("{ZONE}routes = [{many}]"));
    assert_rules(&[(&many, "limits.zones[0].routes", "65 routes", "1 to 64")]);
}

#[test]
fn keys_are_read_and_written() {
    let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61F20015AD";
    let text = format!(
        r#"
[[keys]]
name = "team-a"
sha256 = "{sum}"
[[keys]]
name = "team-b"
sha256 = "{ZEROS}"
models = ["ollama/*", "llama3.2"]
guard = "strict"
requests_per_minute = 60
tokens_per_minute = 1_000_000_000
concurrent = 4
budget = 12.5
budget_period = "30d"
expires = 2030-01-01T07:00:00.25+07:00
[guard.profiles.strict]
enabled = true
"#
    );
    let keys = there_and_back(&text).keys;
    let KeySecret::Sha256(read) = keys[0].secret else { panic!("{:?}", keys[0].secret) };
    assert_eq!((read[0], read[31]), (0xba, 0xad));
    assert_eq!(
        (keys[0].models.as_slice(), keys[0].guard, keys[0].expires),
        (&["*".to_owned()][..], None, None)
    );
    assert_eq!((keys[0].requests_per_minute, keys[0].tokens_per_minute, keys[0].concurrent), (0, 0, 0));
    assert_eq!((keys[1].name.as_str(), keys[1].guard), ("team-b", Some(1)));
    assert_eq!(keys[1].models, ["ollama/*", "llama3.2"]);
    assert_eq!((keys[1].requests_per_minute, keys[1].tokens_per_minute), (60, 1_000_000_000));
    let moment = SystemTime::UNIX_EPOCH + Duration::from_millis(1_893_456_000_250);
    assert_eq!((keys[1].concurrent, keys[1].expires), (4, Some(moment)));
    let quoted = good(&format!("{KEY}expires = '2030-01-01T00:00:00.25Z'"));
    assert_eq!(quoted.keys[0].expires, Some(moment));
}

#[test]
fn a_keys_secret_shows_nowhere() {
    let config = good(KEY);
    assert_eq!(config.keys[0].secret, KeySecret::Plain(Secret::parse("secret-of-k").unwrap()));
    let config = good("[[keys]]\nname = 'k'\nsecret = 'sk-a-secret-0123'");
    let written = effective(&config);
    assert!(written.contains("secret = \"…0123\"") && !written.contains("sk-a"), "{written}");
    assert!(!format!("{config:?}").contains("sk-a"));
    assert!(problems(&written)[0].message.contains("masked secret"));
    let KeySecret::Plain(secret) = &good("[[keys]]\nname = 'k'\nsecret = 'env:PATH'").keys[0].secret else {
        panic!("not plain");
    };
    assert_eq!(secret.expose(), std::env::var("PATH").unwrap());
    for text in ["secret = 'hunter2'", "secret = 'hunter2 hunter2'", "sha256 = 'hunter2hunter2'"] {
        let report = problems(&with_endpoint(&format!("[[keys]]\nname = 'k'\n{text}")));
        assert!(!report[0].to_string().contains("hunter2"), "{report:?}");
    }
}

#[test]
fn keys_are_checked() {
    for (lines, at, message, hint) in [
        ("models = []", ".models", "0 models", "left out: [\"*\"]"),
        ("models = '*'", ".models", "expected an array", "brackets"),
        ("models = [5]", ".models[0]", "expected a string", ""),
        ("models = ['']", ".models[0]", "no model name", "1 to 256"),
        ("models = ['a*b']", ".models[0]", "`*` before its end", "only one"),
        ("models = ['a', 'a']", ".models[1]", "listed twice", "remove"),
        ("guard = 'off'", ".guard", "no guard profile \"off\"", "enabled = false"),
        ("guard = 'defualt'", ".guard", "no guard profile", "did you mean `default`?"),
        ("requests_per_minute = -1", ".requests_per_minute", "out of range", "0 to"),
        ("tokens_per_minute = 1_000_000_001", ".tokens_per_minute", "out of range", "0 to"),
        ("concurrent = 1_000_001", ".concurrent", "out of range", "0 to"),
        ("expires = 2030-01-01", ".expires", "no moment", "an offset"),
        ("expires = 2030-01-01T00:00:00", ".expires", "no moment", "an offset"),
        ("expires = 1969-01-01T00:00:00Z", ".expires", "no moment", "an offset"),
        ("expires = '2030-02-30T00:00:00Z'", ".expires", "no date and time", "2030-12-31"),
        ("expires = 'tomorrow'", ".expires", "no date and time", "2030-12-31"),
        ("expires = 5", ".expires", "expected a date and time", "2030-12-31"),
        ("budget = -1", ".budget", "out of range", "0 or more"),
        ("budget_period = '400d'", ".budget_period", "out of range", "from 0s"),
        ("budget = '5'", ".budget", "expected a number", ""),
        ("model = ['*']", ".model", "unknown key", "did you mean `models`?"),
        ("sha256 = 'x'", ".sha256", "both given", "remove one"),
    ] {
        let text = with_endpoint(&format!("{KEY}{lines}"));
        assert_rules(&[(&text, &format!("keys[0]{at}"), message, hint)]);
    }
    let short = &ZEROS[1..];
    for (lines, at, message, hint) in [
        ("name = 'k'".to_owned(), "", "`secret` or `sha256` is needed", "env:NAME"),
        ("name = 'k'\nsecret = ''".to_owned(), ".secret", "is empty", "env:NAME"),
        ("name = 'k'\nsecret = 'seven77'".to_owned(), ".secret", "shorter than 8", "openssl"),
        ("name = 'k'\nsecret = 5".to_owned(), ".secret", "expected a string", ""),
        ("name = 'k'\nsecret = 'env:CORELANE_NO_SUCH'".to_owned(), ".secret", "is not set", "env:NAME"),
        (format!("name = 'k'\nsha256 = '{short}'"), ".sha256", "no SHA-256", "sha256sum"),
        (format!("name = 'k'\nsha256 = '{short}g'"), ".sha256", "no SHA-256", "sha256sum"),
        (format!("name = 'k'\nsha256 = '{ZEROS}00'"), ".sha256", "no SHA-256", "sha256sum"),
        ("secret = '12345678'".to_owned(), ".name", "is missing", "team-a"),
        ("name = 'a b'\nsecret = '12345678'".to_owned(), ".name", "no key name", "letters"),
    ] {
        let text = with_endpoint(&format!("[[keys]]\n{lines}"));
        assert_rules(&[(&text, &format!("keys[0]{at}"), message, hint)]);
    }
    assert_rules(&[(&with_endpoint("[keys]\nname = 'a'"), "keys", "found a table", "write [[keys]]")]);
}

#[test]
fn no_two_keys_are_alike() {
    let other = KEY.replace("'k'", "'other'");
    let hash = "edb5eed5a9ed37c6ab1cdb85c4cdf8d7eafb0b3c2f22a3e9e11e6cb5b9b6b9f0";
    assert_rules(&[
        (
            &with_endpoint(&format!("{KEY}{}", KEY.replace("secret-of-k", "another-one"))),
            "keys[1].name",
            "also the name of the key in line 1",
            "its own",
        ),
        (
            &with_endpoint(&format!("{KEY}{other}")),
            "keys[1].secret",
            "the key in line 1 has the same secret",
            "its own",
        ),
    ]);
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let sums = format!("[[keys]]\nname = 'a'\nsha256 = '{abc}'\n[[keys]]\nname = 'b'\nsha256 = '{hash}'\n");
    assert_eq!(there_and_back(&sums).keys.len(), 2);
    let eight = "ef797c8118f02dfb649607dd5d3f8c7623048c9c063d532cc95c5ed7a898a64f";
    let both = format!("[[keys]]\nname = 'a'\nsecret = '12345678'\n[[keys]]\nname = 'b'\nsha256 = '{eight}'");
    assert_rules(&[(&with_endpoint(&both), "keys[1].sha256", "in line 1 has the same secret", "its own")]);
    let many: String =
        (0..10_001).map(|index| format!("[[keys]]\nname='k{index}'\nsecret='secret-{index}'\n")).collect();
    assert_rules(&[(&with_endpoint(&many), "keys", "10001 keys", "at most 10000")]);
}

#[test]
fn a_key_names_models_that_are_served() {
    let served = |models: &[&str], wanted: &str| {
        let models: String = models.iter().map(|name| format!("[[models]]\nname = '{name}'\n")).collect();
        format!("{KEY}models = ['{wanted}']\n{ONE}{models}")
    };
    let two = &["ollama/llama3.2", "Mistral:latest"];
    for wanted in ["ollama/llama3.2", "LLAMA3.2", "mistral", "ollama/mistral", "ollama/*", "llama*", "*"] {
        assert!(parse(&served(two, wanted)).is_ok(), "{wanted}");
    }
    for (wanted, hint) in [
        ("llama3", "did you mean `llama3.2`?"),
        ("ollama/mistral:latst", "did you mean `Mistral:latest`?"),
        ("gpt*", "known: llama3.2, Mistral:latest"),
    ] {
        assert_rules(&[(&served(two, wanted), "keys[0].models[0]", "no model is called", hint)]);
    }
    let wild = &["local/*", "x"];
    for wanted in ["local/phi", "Local/*", "local/phi-*", "loc*", "x"] {
        assert!(parse(&served(wild, wanted)).is_ok(), "{wanted}");
    }
    assert_rules(&[(&served(wild, "remote/phi"), "keys[0].models[0]", "no model is called", "known")]);
    assert!(parse(&served(&[], "anything")).is_ok(), "without [[models]] every name may be served");
}

#[test]
fn endpoints_may_be_behind_tls() {
    let text = "[[endpoints]]\nname = 'o'\nurl = 'https://api.example/v1'\nkind = 'openai'\nca = 'ssl/ca.pem'\n\
                [[endpoints]]\nname = 'p'\nurl = 'https://h:8443'\nca = ''";
    let config = parse(text).unwrap();
    assert_eq!(parse(&effective(&config)).unwrap(), config);
    let shown: Vec<String> = config.endpoints.iter().map(|endpoint| endpoint.url.to_string()).collect();
    assert_eq!(shown, ["https://api.example:443", "https://h:8443"]);
    assert!(config.endpoints.iter().all(|endpoint| endpoint.url.tls));
    assert_eq!(config.endpoints[0].ca, Some(path("ssl/ca.pem")));
    assert_eq!(config.endpoints[1].ca, None);
}

#[test]
fn all_mistakes_of_the_edge_are_told_at_once() {
    let text = "[server.tls]\ncert = 'c'\nhttp3 = true\n[server.cors]\ncredentials = true\n[limits]\n\
                reject_status = 1\n[[limits.zones]]\nname = 'z'\nrate = 'x'\nkey = 'y'\n[[keys]]\nname = 'k'\n\
                budget = -1\n[[endpoints]]\nname = 'a'\nurl = 'http://h'\nca = 'c'\n";
    let found: Vec<(u32, String)> =
        problems(text).into_iter().map(|problem| (problem.line, problem.path)).collect();
    let expected = [
        (1, "server.tls.key"),
        (3, "server.tls.http3"),
        (5, "server.cors.credentials"),
        (7, "limits.reject_status"),
        (10, "limits.zones[0].rate"),
        (11, "limits.zones[0].key"),
        (12, "keys[0]"),
        (14, "keys[0].budget"),
        (18, "endpoints[0].ca"),
    ];
    assert_eq!(found, expected.map(|(line, path)| (line, path.to_owned())));
}
