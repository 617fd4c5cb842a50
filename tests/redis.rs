//! Promise: the client of Redis answers with the server's answer to that very question, or says within its time that it
//! has none; whatever becomes of the server, of the connection, or of those who asked.
//!
//! Against real servers (Debian's `redis-server`, and a Valkey that a package of PyPI brings), and against fakes for what a real one does not do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

#[path = "redis/cluster.rs"]
mod cluster;
#[path = "redis/fakes.rs"]
mod fakes;
#[path = "redis/faults.rs"]
mod faults;
#[path = "redis/login.rs"]
mod login;
#[path = "redis/sentinel.rs"]
mod sentinel;
#[path = "redis/server.rs"]
mod server;
#[path = "redis/stage.rs"]
mod stage;
mod support;

use corelane::net::redis::{Breaker, Command, Failure, Reply, Script};

use server::Server;
use stage::{bytes, client, run, settings, until};

#[test]
fn commands_are_answered_in_every_kind() {
    kinds(&Server::start(&[]));
}

#[test]
fn valkey_answers_as_well() {
    let user = ["--user", "lane", "on", ">sesame-1234", "~*", "+@all"];
    let mut server = Server::valkey(&user);
    kinds(&server);
    scripts(&server);
    run(async {
        let more = "username = 'lane'\npassword = 'sesame-1234'";
        let redis = client(&settings(&format!("{}/5", server.url()), more));
        assert!(redis.call(&Command::new("SET").key("k").arg("v")).await.unwrap().is_ok());
        let info = redis.call(&Command::new("CLIENT").arg("INFO")).await.unwrap();
        let info = String::from_utf8_lossy(info.as_bytes().unwrap()).into_owned();
        assert!(
            info.contains(" db=5 ") && info.contains(" user=lane ") && info.contains(" resp=3"),
            "{info}"
        );
        server.kill();
        until("it is not asked any more", async || {
            (redis.call(&Command::new("PING")).await == Err(Failure::Open)).then_some(())
        })
        .await;
        server.start_again();
        until("it is asked again", async || redis.call(&Command::new("PING")).await.ok()).await;
    });
}

fn kinds(server: &Server) {
    run(async {
        let redis = client(&settings(&server.url(), ""));
        let set = Command::new("SET").key("k").arg([0, 13, 10, 255]);
        assert!(redis.call(&set).await.unwrap().is_ok());
        let get = Command::new("GET").key("k");
        assert_eq!(redis.call(&get).await, Ok(Reply::Bytes(vec![0, 13, 10, 255].into())));
        assert_eq!(redis.call(&Command::new("GET").key("none")).await, Ok(Reply::Nil));
        assert_eq!(redis.call(&Command::new("INCRBY").key("n").number(-7)).await, Ok(Reply::Int(-7)));
        let wrong = redis.call(&Command::new("INCR").key("k")).await.unwrap();
        assert_eq!(wrong.error_code(), Some("ERR"));
        let wrong = redis.call(&Command::new("HGET").key("k").arg("f")).await.unwrap();
        assert_eq!(wrong.error_code(), Some("WRONGTYPE"));
        redis.call(&Command::new("HSET").key("h").arg("f").arg("v")).await.unwrap();
        let map = redis.call(&Command::new("HGETALL").key("h")).await;
        assert_eq!(map, Ok(Reply::Map(vec![(bytes("f"), bytes("v"))])));
        redis.call(&Command::new("ZADD").key("z").arg("1.5").arg("m")).await.unwrap();
        let score = redis.call(&Command::new("ZSCORE").key("z").arg("m")).await;
        assert_eq!(score, Ok(Reply::Double(1.5)));
        let truth = Command::new("EVAL").arg("redis.setresp(3); return true").arg("0");
        assert_eq!(redis.call(&truth).await, Ok(Reply::Bool(true)));
        let state = redis.state();
        assert_eq!((state.breaker, state.connected, state.reconnects), (Breaker::Closed, 1, 0));
        assert_eq!((state.timeouts, state.waiting, state.last_error), (0, 0, None));
    });
}

#[test]
fn several_commands_are_answered_in_order() {
    let server = Server::start(&[]);
    run(async {
        let redis = client(&settings(&server.url(), ""));
        let commands: Vec<Command> = (0..500).map(|n| Command::new("ECHO").arg(n.to_string())).collect();
        let answers = redis.call_all(&commands).await.unwrap();
        assert_eq!(answers.len(), 500);
        for (number, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer.unwrap().as_int(), Some(number as i64));
        }
        let too_many: Vec<Command> = (0..1025).map(|_| Command::new("PING")).collect();
        assert_eq!(redis.call_all(&too_many).await, Err(Failure::Full));
        let too_large = Command::new("SET").key("k").arg(vec![b'x'; 16 << 20]);
        assert_eq!(redis.call(&too_large).await, Err(Failure::Full));
        assert_eq!(redis.state().breaker, Breaker::Closed, "what was not sent says nothing of the server");
        assert!(redis.call(&Command::new("PING")).await.is_ok());
    });
}

#[test]
fn large_values_go_both_ways() {
    let server = Server::start(&[]);
    run(async {
        let redis = client(&settings(&server.url(), "timeout = '5s'"));
        let value: Vec<u8> = (0..8 << 20).map(|n: u32| (n ^ (n >> 8)) as u8).collect();
        assert!(redis.call(&Command::new("SET").key("k").arg(&value)).await.unwrap().is_ok());
        let get = Command::new("GET").key("k");
        let answers = redis.call_all(&[get.clone(), Command::new("PING"), get]).await.unwrap();
        for answer in [&answers[0], &answers[2]] {
            assert!(answer.as_ref().unwrap().as_bytes() == Some(value.as_slice()), "not as it was");
        }
    });
}

static ADD: Script = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");

#[test]
fn scripts_are_sent_again_where_they_are_not_known() {
    scripts(&Server::start(&[]));
}

fn scripts(server: &Server) {
    let before = [calls(server, "evalsha"), calls(server, "eval")];
    run(async {
        let redis = client(&settings(&server.url(), ""));
        for round in 1..=6 {
            assert_eq!(redis.script(&ADD, &[b"sum"], &[b"2"]).await, Ok(Reply::Int(2 * round)));
            if round % 2 == 0 {
                redis.call(&Command::new("SCRIPT").arg("FLUSH")).await.unwrap();
            }
        }
        let more = [calls(server, "evalsha"), calls(server, "eval")];
        assert_eq!([more[0] - before[0], more[1] - before[1]], [6, 3]);
    });
}

/// How often the server has carried a command out.
fn calls(server: &Server, name: &str) -> u32 {
    let stats = server.cli(&["INFO", "commandstats"]);
    let line = stats.lines().find(|line| line.starts_with(&format!("cmdstat_{name}:calls=")));
    line.and_then(|line| line.split(['=', ',']).nth(1)?.parse().ok()).unwrap_or(0)
}
