//! `[redis]`: the server that gateways share their state by.
//!
//! Messages never repeat the URL: it may hold a password.

use std::path::PathBuf;
use std::time::Duration;

use super::super::Secret;
use super::super::address::{Mistake, mistake, parse_authority};
use super::super::fleet::Fleet;
use super::super::problem::quote;
use super::super::reader::{Table, Value};
use super::super::shared::{Redis, Server, Servers};
use super::endpoints::{read_path, read_secret};

/// Times that one question may be given.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(5);
/// What one question gets if the file does not say it.
const TIMEOUT: Duration = Duration::from_millis(20);
/// What keys begin with if the file does not say it.
const PREFIX: &str = "corelane:";
/// Longest beginning of keys, and longest name of a user or a master.
const NAME_BYTES_MAX: usize = 256;
/// Servers that one URL may name.
const SERVERS_MAX: usize = 64;
/// Largest number of a database.
const DATABASE_MAX: u32 = 65_535;
/// Ports that are meant where the URL names none.
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26_379;
const HINT: &str = r#"e.g. "redis://127.0.0.1:6379/0""#;

/// The section; `None`: there is no such server. `short` is the URL that another section gives in place of it.
pub(super) fn read(root: &mut Table<'_>, short: Option<&Value<'_>>) -> Option<Redis> {
    let section = root.take("redis").and_then(|value| value.as_section(|table| read_table(table, short)));
    match (section, short) {
        (Some(redis), _) => redis,
        (None, Some(short)) => read_url(short).map(|parts| redis(parts, None, None)),
        (None, None) => None,
    }
}

/// What a URL says.
#[derive(Debug, PartialEq, Eq)]
struct Parts {
    servers: Servers,
    tls: bool,
    database: u32,
    username: Option<String>,
    password: Option<Secret>,
}

/// `[fleet]`; what gateways share they share by Redis.
pub(super) fn read_fleet(table: &mut Table<'_>, has_redis: bool) -> Fleet {
    let default = Fleet::default();
    let enabled = table.take("enabled");
    let fleet = Fleet {
        enabled: enabled.as_ref().and_then(Value::flag).unwrap_or(default.enabled),
        limits: table.flag("limits", default.limits),
        budgets: table.flag("budgets", default.budgets),
        in_flight: table.flag("in_flight", default.in_flight),
    };
    if let Some(value) = enabled.filter(|_| fleet.enabled && !has_redis && table.report.is_clean()) {
        value.wrong(
            "gateways share their state by Redis, and none is named",
            r#"add url = "redis://127.0.0.1:6379/0" under [redis]"#,
        );
    }
    fleet
}

fn redis(parts: Parts, username: Option<String>, password: Option<Secret>) -> Redis {
    let Parts { servers, tls, database, .. } = parts;
    Redis {
        servers,
        tls,
        database,
        username: parts.username.or(username),
        password: parts.password.or(password),
        ca: None,
        timeout: TIMEOUT,
        prefix: PREFIX.to_owned(),
    }
}

fn read_table(table: &mut Table<'_>, short: Option<&Value<'_>>) -> Option<Redis> {
    let url = if short.is_none() { table.require("url", HINT) } else { table.take("url") };
    let parts = url.as_ref().or(short).and_then(read_url);
    if let (Some(url), Some(short), Some(parts)) = (&url, short, &parts)
        && read_url(short).is_some_and(|other| other != *parts)
    {
        url.wrong(format!("`{}` names another server", short.place.path), "remove one of them");
    }
    let own = table.take("username").filter(|value| value.as_text() != Some(""));
    let username = own.as_ref().and_then(|value| read_name(value, "user"));
    let secret = table.take("password").filter(|value| value.as_text() != Some(""));
    let password = secret.as_ref().and_then(read_secret);
    let ca = table.take("ca");
    let path = ca.as_ref().and_then(read_path);
    let timeout = table.time_within("timeout", TIMEOUT_MIN, TIMEOUT_MAX, TIMEOUT);
    let prefix = table.take("prefix").and_then(read_prefix).unwrap_or_else(|| PREFIX.to_owned());
    let parts = parts?;
    for value in own.iter().filter(|_| parts.username.is_some()) {
        value.wrong("the URL has a user too", "remove one of them");
    }
    for value in secret.iter().filter(|_| parts.password.is_some()) {
        value.wrong("the URL has a password too", "remove one of them");
    }
    if let Some(value) = own.as_ref().filter(|_| secret.is_none() && parts.password.is_none()) {
        value.wrong("a user without a password", r#"password = "env:REDIS_PASSWORD""#);
    }
    if let Some(value) = ca.as_ref().filter(|_| path.is_some() && !parts.tls) {
        value.wrong("`ca` is for TLS, and the URL says none", "remove ca, or write rediss:// in url");
    }
    Some(Redis { ca: path, timeout, prefix, ..redis(parts, username, password) })
}

fn read_name(value: &Value<'_>, what: &str) -> Option<String> {
    let text = value.text()?;
    if !is_name(text) {
        value.wrong(format!("{} is no {what}", quote(text)), "1 to 256 visible characters of ASCII");
    }
    Some(text.to_owned())
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Braces would put all keys into one slot of a cluster.
fn read_prefix(value: Value<'_>) -> Option<String> {
    let text = value.text()?;
    if !text.is_empty() && !is_name(text) || text.contains(['{', '}']) {
        let hint = r#"at most 256 visible characters of ASCII without braces, e.g. "corelane:""#;
        value.wrong(format!("{} is no beginning of keys", quote(text)), hint);
    }
    Some(text.to_owned())
}

fn read_url(value: &Value<'_>) -> Option<Parts> {
    parse(value.text()?).map_err(|mistake| value.wrong(mistake.message, mistake.hint)).ok()
}

fn parse(text: &str) -> Result<Parts, Mistake> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return mistake("the URL has no scheme", HINT);
    };
    if rest.contains('#') {
        return mistake("the URL has a fragment", "remove what begins with `#`; in a password it is `%23`");
    }
    let scheme = scheme.to_ascii_lowercase();
    let tls = scheme.starts_with("rediss");
    match scheme.as_str() {
        "unix" | "redis+unix" => parse_unix(rest),
        "redis" | "rediss" => parse_servers(rest, tls, Form::One),
        "redis+sentinel" | "rediss+sentinel" => parse_servers(rest, tls, Form::Sentinel),
        "redis+cluster" | "rediss+cluster" => parse_servers(rest, tls, Form::Cluster),
        _ => {
            let hint =
                "redis, rediss, unix, redis+sentinel, redis+cluster, rediss+sentinel or rediss+cluster";
            mistake("the URL's scheme is not known here", hint)
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    One,
    Sentinel,
    Cluster,
}

/// `[user:password@]host[:port][,…][/master][/database]`.
fn parse_servers(rest: &str, tls: bool, form: Form) -> Result<Parts, Mistake> {
    if rest.contains('?') {
        return mistake("the URL has a query", "remove what begins with `?`; in a password it is `%3F`");
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, hosts) =
        authority.rsplit_once('@').map_or((None, authority), |(user, rest)| (Some(user), rest));
    let (username, password) = user.map_or(Ok((None, None)), parse_user)?;
    let default = if form == Form::Sentinel { SENTINEL_PORT } else { PORT };
    let server =
        |text: &str| parse_authority(text).map(|(host, port)| Server { host, port: port.unwrap_or(default) });
    let (servers, database) = match form {
        Form::One => (Servers::One(server(hosts)?), path),
        Form::Cluster => (Servers::Cluster(parse_list(hosts, server)?), path),
        Form::Sentinel => {
            let (master, database) = path.split_once('/').unwrap_or((path, ""));
            if !is_name(master) {
                let hint = r#"e.g. "redis+sentinel://h1:26379,h2:26379/mymaster/0""#;
                return mistake("the URL does not say how the sentinels call the master", hint);
            }
            let sentinels = parse_list(hosts, server)?;
            (Servers::Sentinel { sentinels, master: master.to_owned() }, database)
        }
    };
    let database = parse_database(database)?;
    if form == Form::Cluster && database != 0 {
        return mistake("a cluster has one database", "remove its number from the URL");
    }
    Ok(Parts { servers, tls, database, username, password })
}

fn parse_list(hosts: &str, server: impl Fn(&str) -> Result<Server, Mistake>) -> Result<Vec<Server>, Mistake> {
    let servers: Vec<Server> = hosts.split(',').map(server).collect::<Result<_, _>>()?;
    if servers.len() > SERVERS_MAX {
        return mistake("the URL names too many servers", "at most 64: they know the others");
    }
    Ok(servers)
}

/// `/path[?db=0]`.
fn parse_unix(rest: &str) -> Result<Parts, Mistake> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !path.starts_with('/') || path.ends_with('/') || path.len() > 107 || path.chars().any(char::is_control)
    {
        let hint = r#"a path of at most 107 bytes, e.g. "unix:///run/redis/redis.sock?db=0""#;
        return mistake("the URL names no socket", hint);
    }
    let database = match query.strip_prefix("db=") {
        Some(number) => parse_database(number)?,
        None if query.is_empty() => 0,
        None => return mistake("the URL's query is not known here", "only `?db=0`"),
    };
    let servers = Servers::Unix(PathBuf::from(path));
    Ok(Parts { servers, tls: false, database, username: None, password: None })
}

fn parse_database(text: &str) -> Result<u32, Mistake> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if digits && number <= DATABASE_MAX => Ok(number),
        _ if text.is_empty() => Ok(0),
        _ => mistake("the URL's database is no number from 0 to 65535", HINT),
    }
}

/// `user:password`, `user` empty for the default user; escaped where a URL has to be.
fn parse_user(text: &str) -> Result<(Option<String>, Option<Secret>), Mistake> {
    let hint = r#"redis://user:password@host; other characters as %XX, or set username and password instead"#;
    let Some((user, password)) = text.split_once(':') else {
        return mistake("the URL has a user without a password", hint);
    };
    let (Some(user), Some(password)) = (unescaped(user), unescaped(password)) else {
        return mistake("the URL's user or password is escaped wrongly", hint);
    };
    if !user.is_empty() && !is_name(&user) {
        return mistake("the URL's user is no name", hint);
    }
    // A literal: `env:` and `file:` belong to the key `password`.
    match Secret::literal(&password) {
        Ok(secret) => Ok((Some(user).filter(|user| !user.is_empty()), Some(secret))),
        Err(_) => mistake("the URL's password is empty, masked, or not of visible ASCII", hint),
    }
}

fn unescaped(text: &str) -> Option<String> {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        out.push(u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?);
        rest = rest.get(2..)?;
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::super::super::{changes, effective, parse as parse_file};
    use super::*;

    const ONE: &str = "[[endpoints]]\nname = 'a'\nurl = 'http://h:1'\n";

    fn file(redis: &str) -> String {
        format!("{ONE}[redis]\n{redis}\n")
    }

    #[test]
    fn urls_of_every_form_are_read_and_come_back() {
        for (text, shown) in [
            ("redis://127.0.0.1", "redis://127.0.0.1:6379/0"),
            ("redis://h:1/", "redis://h:1/0"),
            ("REDIS://h:1/3", "redis://h:1/3"),
            ("rediss://[::1]:7000/1", "rediss://[::1]:7000/1"),
            ("unix:///run/redis.sock", "unix:///run/redis.sock?db=0"),
            ("redis+unix:///run/redis.sock?db=4", "unix:///run/redis.sock?db=4"),
            ("redis+sentinel://a,b:1/main/2", "redis+sentinel://a:26379,b:1/main/2"),
            ("rediss+sentinel://a/main", "rediss+sentinel://a:26379/main/0"),
            ("redis+cluster://a,b:7001,[::1]:7002", "redis+cluster://a:6379,b:7001,[::1]:7002"),
            ("rediss+cluster://a/0", "rediss+cluster://a:6379"),
        ] {
            let config =
                parse_file(&file(&format!("url = '{text}'"))).unwrap_or_else(|problems| panic!("{problems}"));
            let redis = config.redis.clone().unwrap();
            assert_eq!(redis.url(), shown);
            assert_eq!((redis.timeout, redis.prefix.as_str()), (TIMEOUT, PREFIX));
            assert_eq!(parse_file(&effective(&config)).unwrap(), config, "{text}");
        }
        assert_eq!(parse_file(ONE).unwrap().redis, None);
    }

    #[test]
    fn every_key_is_read() {
        let text = "url = 'rediss://h'\nusername = 'lane'\npassword = 'sesame-sesame'\nca = 'ca.pem'\n\
                    timeout = '50ms'\nprefix = 'p:'";
        let redis = parse_file(&file(text)).unwrap().redis.unwrap();
        assert_eq!(redis.username.as_deref(), Some("lane"));
        assert_eq!(redis.password.as_ref().unwrap().expose(), "sesame-sesame");
        assert_eq!((redis.ca, redis.timeout.as_millis()), (Some(PathBuf::from("ca.pem")), 50));
        assert_eq!(redis.prefix, "p:");
        let redis = parse_file(&file("url = 'redis://us%40er:pa%3As%23s@h'")).unwrap().redis.unwrap();
        assert_eq!(redis.username.as_deref(), Some("us@er"));
        assert_eq!(redis.password.as_ref().unwrap().expose(), "pa:s#s");
        let redis = parse_file(&file("url = 'redis://:env:X@h'")).unwrap().redis.unwrap();
        assert_eq!((redis.username.as_deref(), redis.password.unwrap().expose()), (None, "env:X"));
    }

    #[test]
    fn mistakes_are_told_without_secrets() {
        for (text, path, part) in [
            ("", "redis.url", "is missing"),
            ("url = 'h:6379'", "redis.url", "no scheme"),
            ("url = 'http://h'", "redis.url", "scheme is not known"),
            ("url = 'redis://'", "redis.url", "host is missing"),
            ("url = 'redis://h:0'", "redis.url", "port"),
            ("url = 'redis://h/x'", "redis.url", "database"),
            ("url = 'redis://h/+1'", "redis.url", "database"),
            ("url = 'redis://h/70000'", "redis.url", "database"),
            ("url = 'redis://h?db=1'", "redis.url", "query"),
            ("url = 'redis://h#x'", "redis.url", "fragment"),
            ("url = 'redis://canary@h'", "redis.url", "user without a password"),
            ("url = 'redis://u:%zz-canary@h'", "redis.url", "escaped wrongly"),
            ("url = 'redis://u:@h'", "redis.url", "password is empty"),
            ("url = 'redis+cluster://a/1'", "redis.url", "one database"),
            ("url = 'redis+sentinel://a'", "redis.url", "call the master"),
            ("url = 'unix://run/x'", "redis.url", "no socket"),
            ("url = 'unix:///run/x?a=b'", "redis.url", "query"),
            ("url = 'redis://u:canary@h'\npassword = 'canary'", "redis.password", "has a password too"),
            ("url = 'redis://u:canary@h'\nusername = 'v'", "redis.username", "has a user too"),
            ("url = 'redis://h'\nusername = 'v'", "redis.username", "without a password"),
            ("url = 'redis://h'\nca = 'x.pem'", "redis.ca", "`ca` is for TLS"),
            ("url = 'redis://h'\ntimeout = '6s'", "redis.timeout", "out of range"),
            ("url = 'redis://h'\nprefix = 'a{b}'", "redis.prefix", "no beginning of keys"),
            ("url = 'redis://h'\npool = 3", "redis.pool", "unknown key"),
            ("url = 'redis://h'\npassword = 'env:CORELANE_NOT_SET'", "redis.password", "is not set"),
        ] {
            let problems = parse_file(&file(text)).expect_err(text);
            let found = problems.0.iter().find(|problem| problem.path == path);
            let found = found.unwrap_or_else(|| panic!("{text}: {problems}"));
            assert!(found.message.contains(part), "{text}: {found}");
            assert!(!problems.to_string().contains("canary"), "{problems}");
        }
    }

    #[test]
    fn a_password_is_hidden_and_its_change_told() {
        let with = |password: &str| parse_file(&file(&format!("url = 'redis://u:{password}@h'"))).unwrap();
        let (old, new) = (with("canary-secret-0000"), with("canary-SECRET-0000"));
        let shown = effective(&old);
        assert!(
            shown.contains("url = \"redis://h:6379/0\"\nusername = \"u\"\npassword = \"…0000\""),
            "{shown}"
        );
        assert_eq!(changes(&old, &new), ["redis.password: changed"]);
        assert_eq!(changes(&parse_file(ONE).unwrap(), &old), ["redis: added"]);
        let moved = parse_file(&file("url = 'redis://u:canary-secret-0000@i'")).unwrap();
        assert_eq!(changes(&old, &moved), ["redis.url: \"redis://h:6379/0\" -> \"redis://i:6379/0\""]);
    }
}
