//! Users, databases, TLS and sockets of the file system.

use std::time::Duration;

use corelane::net::clock;
use corelane::net::redis::{Breaker, Command, Failure, Reply};

use super::server::{Server, cli, folder, free_port};
use super::stage::{bytes, client, observed, run, settings, until};
use super::support::tls::Ca;

const USER: [&str; 6] = ["--user", "lane", "on", ">sesame-1234", "~corelane:*", "+@all"];

#[test]
fn a_user_logs_in_with_its_rights_and_its_database() {
    let server = Server::start(&USER);
    run(async {
        for (url, more) in [
            (server.url() + "/3", "username = 'lane'\npassword = 'sesame-1234'"),
            (server.url().replace("://", "://lane:sesame-1234@") + "/3", ""),
        ] {
            let redis = client(&settings(&url, more));
            assert!(redis.call(&Command::new("SET").key("corelane:k").arg("v")).await.unwrap().is_ok());
            let me = redis.call(&Command::new("ACL").arg("WHOAMI")).await;
            assert_eq!(me, Ok(bytes("lane")));
            let foreign = redis.call(&Command::new("GET").key("other:k")).await.unwrap();
            assert_eq!(foreign.error_code(), Some("NOPERM"));
            let info = redis.call(&Command::new("CLIENT").arg("INFO")).await.unwrap();
            let info = String::from_utf8_lossy(info.as_bytes().unwrap()).into_owned();
            assert!(info.contains(" name=corelane ") && info.contains(" db=3 "), "{info}");
            assert!(info.contains(" resp=3"), "{info}");
        }
    });
    assert_eq!(server.cli(&["-n", "3", "GET", "corelane:k"]), "v");
}

#[test]
fn the_default_user_has_a_password_too() {
    let server = Server::start(&["--requirepass", "sesame-1234"]);
    run(async {
        let redis = client(&settings(&server.url(), "password = 'sesame-1234'"));
        assert_eq!(redis.call(&Command::new("PING")).await, Ok(Reply::Text("PONG".to_owned())));
        let redis = client(&settings(&server.url(), ""));
        let refused = redis.call(&Command::new("PING")).await;
        assert!(matches!(&refused, Err(Failure::Refused(text)) if text.contains("NOAUTH")), "{refused:?}");
    });
}

#[test]
fn a_wrong_password_is_told_once_and_without_it() {
    let server = Server::start(&USER);
    run(async {
        let wrong = "username = 'lane'\npassword = 'canary-canary'";
        let (redis, lines, _) = observed(&settings(&server.url(), wrong));
        let refused = redis.call(&Command::new("PING")).await;
        assert!(matches!(&refused, Err(Failure::Refused(text)) if text.contains("WRONGPASS")), "{refused:?}");
        until("the breaker opens", async || {
            let answer = redis.call(&Command::new("PING")).await;
            assert!(matches!(answer, Err(Failure::Refused(_) | Failure::Open)), "{answer:?}");
            (answer == Err(Failure::Open)).then_some(())
        })
        .await;
        clock::sleep(Duration::from_millis(700)).await;
        let told = lines.borrow().iter().filter(|line| line.contains("WRONGPASS")).count();
        assert!(told <= 2, "once, and once with the breaker: {:?}", lines.borrow());
        assert!(
            !format!("{:?} {:?}", lines.borrow(), redis.state()).contains("canary"),
            "{:?}",
            redis.state()
        );
        assert_ne!(redis.state().breaker, Breaker::Closed);
        // It heals by itself.
        server.cli(&["ACL", "SETUSER", "lane", ">canary-canary"]);
        until("it is let in", async || redis.call(&Command::new("PING")).await.ok()).await;
        assert_eq!(redis.state().breaker, Breaker::Closed);
    });
}

#[test]
fn a_database_that_does_not_exist_is_told() {
    let server = Server::start(&[]);
    run(async {
        let redis = client(&settings(&format!("{}/99", server.url()), ""));
        let refused = redis.call(&Command::new("PING")).await;
        let told = matches!(&refused, Err(Failure::Refused(text)) if text.contains("SELECT") && text.contains("DB index"));
        assert!(told, "{refused:?}");
    });
}

#[test]
fn tls_is_spoken_with_those_who_are_trusted() {
    let (ca, other) = (Ca::new(), Ca::new());
    let pair = ca.issue("redis", &["localhost"]);
    let (port, authority) = (free_port(), ca.file());
    let port_text = port.to_string();
    let files = [&pair.cert, &pair.key, &authority].map(|path| path.display().to_string());
    let server = Server::start(&[
        "--tls-port",
        &port_text,
        "--tls-cert-file",
        &files[0],
        "--tls-key-file",
        &files[1],
        "--tls-ca-cert-file",
        &files[2],
        "--tls-auth-clients",
        "no",
    ]);
    run(async {
        let trusting = |host: &str, ca: &Ca| {
            settings(&format!("rediss://{host}:{port}/1"), &format!("ca = {:?}\ntimeout = '5s'", ca.file()))
        };
        let redis = client(&trusting("localhost", &ca));
        let value = vec![b'v'; 3 << 20];
        assert!(redis.call(&Command::new("SET").key("k").arg(&value)).await.unwrap().is_ok());
        let commands: Vec<Command> = (0..300).map(|_| Command::new("STRLEN").key("k")).collect();
        let lengths = redis.call_all(&commands).await.unwrap();
        assert!(lengths.iter().all(|length| *length == Ok(Reply::Int(3 << 20))));
        let got = redis.call(&Command::new("GET").key("k")).await.unwrap();
        assert!(got.as_bytes() == Some(value.as_slice()));
        for (host, ca, part) in
            [("localhost", &other, "UnknownIssuer"), ("127.0.0.1", &ca, "not valid for name")]
        {
            let (redis, _, _) = observed(&trusting(host, ca));
            assert_eq!(redis.call(&Command::new("PING")).await, Err(Failure::Gone));
            let error = redis.state().last_error.unwrap();
            assert!(error.contains(part), "{error}");
        }
    });
    assert_eq!(server.cli(&["-n", "1", "STRLEN", "k"]), (3 << 20).to_string());
}

#[test]
fn a_socket_of_the_file_system_serves_as_well() {
    let folder = folder();
    let socket = folder.join("redis.sock").display().to_string();
    let server = Server::start_in(folder, &["--unixsocket", &socket]);
    run(async {
        let redis = client(&settings(&format!("unix://{socket}?db=2"), ""));
        assert!(redis.call(&Command::new("SET").key("k").arg("v")).await.unwrap().is_ok());
        assert_eq!(redis.state().place, socket);
    });
    assert_eq!(cli(server.port, &["-n", "2", "GET", "k"]), "v");
}

#[test]
fn names_are_resolved_and_others_told() {
    let server = Server::start(&[]);
    run(async {
        let redis = client(&settings(&format!("redis://localhost:{}", server.port), "timeout = '1s'"));
        assert!(redis.call(&Command::new("PING")).await.is_ok());
        let redis = client(&settings("redis://no-such-host.invalid", "timeout = '5s'"));
        let gone = redis.call(&Command::new("PING")).await;
        assert_eq!(gone, Err(Failure::Gone));
        assert!(redis.state().last_error.is_some());
    });
}
