//! Many servers with a share of the keys each.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

use corelane::net::clock;
use corelane::net::redis::{Breaker, Command, Failure, Redis, Reply, Script};

use super::server::{Server, cli, free_port};
use super::stage::{bytes, client, run, settings, until};

/// Masters of a cluster, each with a third of the slots.
fn scene() -> Vec<Server> {
    let masters: Vec<Server> = (0..3).map(|_| server()).collect();
    let places: Vec<String> = masters.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
    let mut create = vec!["--cluster", "create"];
    create.extend(places.iter().map(String::as_str));
    create.push("--cluster-yes");
    let told = masters[0].cli(&create);
    assert!(told.contains("All 16384 slots covered"), "{told}");
    soon("all agree", || {
        masters.iter().all(|server| server.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok"))
    });
    masters
}

/// A server of a cluster of its own; its second port is the first one and 10 000, so the first one has to be low.
fn server() -> Server {
    let port = std::iter::repeat_with(free_port).map(|port| 10_000 + port % 40_000);
    let free = |port: &u16| {
        [*port, *port + 10_000].iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
    };
    let port = port.into_iter().find(free).unwrap();
    Server::start_at(
        port,
        &[
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "1000",
            "--cluster-require-full-coverage",
            "no",
        ],
    )
}

fn soon(what: &str, mut done: impl FnMut() -> bool) {
    let begin = clock::now();
    while !done() {
        assert!(clock::now().duration_since(begin) < Duration::from_secs(30), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn url(servers: &[Server]) -> String {
    let list: Vec<String> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
    format!("redis+cluster://{}", list.join(","))
}

fn id(server: &Server) -> String {
    server.cli(&["CLUSTER", "MYID"])
}

async fn call(redis: &Rc<Redis>, words: &[&str]) -> Result<Reply, Failure> {
    let command = Command::new(words[0]).key(words[1]);
    redis.call(&words[2..].iter().fold(command, Command::arg)).await
}

/// The place in `servers` of the one that has the key.
fn owner(servers: &[Server], key: &str) -> usize {
    servers.iter().position(|server| !server.cli(&["GET", key]).starts_with("MOVED")).unwrap()
}

static OWN: Script = Script::new("redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])");

#[test]
fn keys_go_to_their_masters_and_answers_come_in_order() {
    let servers = scene();
    run(async {
        let redis = client(&settings(&url(&servers[1..2]), "timeout = '200ms'"));
        let sets: Vec<Command> =
            (0..300).map(|n| Command::new("SET").key(format!("k{n}")).arg(n.to_string())).collect();
        for answer in redis.call_all(&sets).await.unwrap() {
            assert!(answer.unwrap().is_ok());
        }
        let gets: Vec<Command> = (0..300).map(|n| Command::new("GET").key(format!("k{n}"))).collect();
        for (number, answer) in redis.call_all(&gets).await.unwrap().into_iter().enumerate() {
            assert_eq!(answer.unwrap().as_int(), Some(number as i64));
        }
        for number in 0..30 {
            let (key, value) = (format!("s{number}"), number.to_string());
            let reply = redis.script(&OWN, &[key.as_bytes()], &[value.as_bytes()]).await;
            assert_eq!(reply, Ok(bytes(&value)));
        }
        assert!(redis.call(&Command::new("PING")).await.is_ok());
        let state = redis.state();
        assert_eq!((state.servers, state.connected, state.breaker), (3, 3, Breaker::Closed), "{state:?}");
    });
    let kept: u32 = servers.iter().map(|server| server.cli(&["DBSIZE"]).parse::<u32>().unwrap()).sum();
    assert_eq!(kept, 330);
}

#[test]
fn a_slot_on_its_way_is_followed() {
    let servers = scene();
    let from = owner(&servers, "{tag}");
    let to = (from + 1) % 3;
    let slot = servers[0].cli(&["CLUSTER", "KEYSLOT", "{tag}"]);
    let (from, to) = (&servers[from], &servers[to]);
    run(async {
        let redis = client(&settings(&url(&servers), "timeout = '200ms'"));
        assert!(call(&redis, &["SET", "{tag}old", "1"]).await.unwrap().is_ok());
        assert_eq!(to.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)]), "OK");
        assert_eq!(from.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]), "OK");
        // What is there stays there; what is not is asked for at its new place.
        assert_eq!(call(&redis, &["GET", "{tag}old"]).await, Ok(bytes("1")));
        assert!(call(&redis, &["SET", "{tag}new", "2"]).await.unwrap().is_ok());
        assert_eq!(call(&redis, &["GET", "{tag}new"]).await, Ok(bytes("2")));
        assert!(from.cli(&["GET", "{tag}new"]).starts_with("ASK"));
        let moved = from.cli(&["MIGRATE", "127.0.0.1", &to.port.to_string(), "{tag}old", "0", "2000"]);
        assert_eq!(moved, "OK");
        assert_eq!(call(&redis, &["GET", "{tag}old"]).await, Ok(bytes("1")));
        for server in [to, from] {
            assert_eq!(server.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &id(to)]), "OK");
        }
        assert!(from.cli(&["GET", "{tag}old"]).starts_with("MOVED"));
        let gets = [Command::new("GET").key("{tag}old"), Command::new("GET").key("{tag}new")];
        assert_eq!(redis.call_all(&gets).await.unwrap(), [Ok(bytes("1")), Ok(bytes("2"))]);
        // From now on it is asked at once.
        let moved = || {
            from.cli(&["INFO", "errorstats"]).lines().find(|line| line.contains("MOVED")).map(str::to_owned)
        };
        let before = moved();
        for _ in 0..20 {
            assert_eq!(call(&redis, &["GET", "{tag}old"]).await, Ok(bytes("1")));
        }
        assert_eq!(moved(), before, "it is sent on each time");
        assert_eq!(redis.state().breaker, Breaker::Closed);
    });
}

#[test]
fn a_dead_master_costs_its_keys_until_its_replica_is_one() {
    let mut servers = scene();
    let replica = server();
    let first = servers[0].port.to_string();
    replica.cli(&["CLUSTER", "MEET", "127.0.0.1", &first]);
    let own = id(&servers[0]);
    soon("it is a replica", || replica.cli(&["CLUSTER", "REPLICATE", &own]) == "OK");
    soon("it follows", || replica.cli(&["INFO", "replication"]).contains("master_link_status:up"));
    let knows = |port: u16| {
        cli(port, &["CLUSTER", "NODES"]).lines().filter(|line| line.contains("slave")).count() == 1
    };
    soon("all know it", || servers.iter().all(|server| knows(server.port)));
    run(async {
        let redis = client(&settings(&url(&servers), ""));
        let keys: Vec<String> = (0..60).map(|n| format!("k{n}")).collect();
        for key in &keys {
            until("all is well", async || call(&redis, &["SET", key, "1"]).await.ok()).await;
        }
        let lost: Vec<&String> = keys.iter().filter(|key| owner(&servers, key) == 0).collect();
        assert!(!lost.is_empty() && lost.len() < 60);
        servers[0].kill();
        let mut refused = 0;
        until("its keys are refused at once", async || {
            refused += u32::from(call(&redis, &["GET", lost[0]]).await == Err(Failure::Open));
            (refused > 3).then_some(())
        })
        .await;
        for key in keys.iter().filter(|key| !lost.contains(key)) {
            assert_eq!(call(&redis, &["GET", key]).await, Ok(bytes("1")), "the others are well");
        }
        for key in lost {
            until("the replica has it", async || call(&redis, &["SET", key, "2"]).await.ok()).await;
        }
        until("all is well", async || (redis.state().breaker == Breaker::Closed).then_some(())).await;
        assert_eq!((redis.state().servers, redis.state().connected), (3, 3));
    });
}

#[test]
fn who_sends_in_circles_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(n) = stream.read(&mut buffer) {
                    let asked = String::from_utf8_lossy(&buffer[..n]).into_owned();
                    let answer = match () {
                        () if n == 0 => return,
                        () if asked.contains("HELLO") => "%1\r\n+proto\r\n:3\r\n".to_owned(),
                        () if asked.contains("SLOTS") => {
                            format!("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$0\r\n\r\n:{port}\r\n")
                        }
                        () => format!("-MOVED 1 :{port}\r\n"),
                    };
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    run(async {
        let redis = client(&settings(&format!("redis+cluster://127.0.0.1:{port}"), "timeout = '500ms'"));
        let refused = call(&redis, &["GET", "k"]).await;
        assert!(
            matches!(&refused, Err(Failure::Refused(text)) if text.contains("server to server")),
            "{refused:?}"
        );
    });
}

#[test]
fn a_cluster_that_is_not_there_is_refused_at_once() {
    run(async {
        let redis =
            client(&settings(&format!("redis+cluster://127.0.0.1:{}", free_port()), "timeout = '500ms'"));
        assert_eq!(call(&redis, &["GET", "k"]).await, Err(Failure::Gone));
        assert_eq!(call(&redis, &["GET", "k"]).await, Err(Failure::Open));
        assert_eq!(redis.state().breaker, Breaker::Open);
        assert!(redis.state().last_error.is_some());
    });
}
