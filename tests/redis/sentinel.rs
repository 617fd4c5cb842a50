//! A master that changes.

use std::time::Duration;

use corelane::net::clock;
use corelane::net::redis::{Breaker, Command};

use super::server::{Server, free_port};
use super::stage::{client, run, settings, until};

/// A master, a replica of it, and three sentinels that know both.
fn scene() -> (Server, Server, Vec<Server>) {
    let master = Server::start(&[]);
    let replica = Server::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    let ready = |what: &str, done: &dyn Fn() -> bool| {
        let begin = clock::now();
        while !done() {
            assert!(clock::now().duration_since(begin) < Duration::from_secs(30), "in vain: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    ready("the replica follows", &|| replica.cli(&["INFO", "replication"]).contains("master_link_status:up"));
    let sentinels: Vec<Server> = (0..3).map(|_| Server::sentinel(master.port)).collect();
    ready("the sentinels know all", &|| {
        sentinels.iter().all(|sentinel| {
            let info = sentinel.cli(&["INFO", "sentinel"]);
            info.contains("slaves=1,sentinels=3")
        })
    });
    (master, replica, sentinels)
}

fn url(sentinels: &[Server]) -> String {
    let list: Vec<String> = sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
    format!("redis+sentinel://127.0.0.1:{},{}/main", free_port(), list.join(",")) // the first one is not there
}

#[test]
fn a_failover_is_followed() {
    let (mut master, replica, sentinels) = scene();
    run(async {
        let redis = client(&settings(&url(&sentinels), "timeout = '100ms'"));
        let set = |value: &str| Command::new("SET").key("k").arg(value);
        until("the master is found", async || redis.call(&set("before")).await.ok()).await;
        assert_eq!(redis.state().place, format!("127.0.0.1:{}", master.port));
        master.kill();
        let reply = until("the new master is found", async || redis.call(&set("after")).await.ok()).await;
        assert!(reply.is_ok(), "{reply:?}");
        assert_eq!(redis.state().place, format!("127.0.0.1:{}", replica.port));
        assert_eq!(redis.state().breaker, Breaker::Closed);
    });
    assert_eq!(replica.cli(&["GET", "k"]), "after");
}

#[test]
fn a_master_that_became_a_replica_is_left() {
    let (master, replica, sentinels) = scene();
    run(async {
        let redis = client(&settings(&url(&sentinels), "timeout = '100ms'"));
        let set = |value: &str| Command::new("SET").key("k").arg(value);
        until("the master is found", async || redis.call(&set("before")).await.ok()).await;
        assert_eq!(sentinels[0].cli(&["SENTINEL", "FAILOVER", "main"]), "OK");
        // The old one lives on, and takes no writes any more.
        until("the new master has it", async || {
            let _ = redis.call(&set("after")).await;
            let place = format!("127.0.0.1:{}", replica.port);
            (redis.state().place == place && replica.cli(&["GET", "k"]) == "after").then_some(())
        })
        .await;
        assert_ne!(master.port, replica.port);
        let reply = until("it is asked", async || redis.call(&set("later")).await.ok()).await;
        assert!(reply.is_ok(), "{reply:?}");
    });
}
