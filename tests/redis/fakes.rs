//! Servers that answer what no server should.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use corelane::net::clock;
use corelane::net::redis::{Command, Failure, Reply};

use super::stage::{client, observed, run, settings, until};

/// What the fake has to write after its login, once a command has come; then it is silent, or ends if `ends`.
struct Fake {
    url: String,
    connections: Arc<AtomicU32>,
}

impl Fake {
    /// `serve` gets each connection after its `HELLO`, which is answered.
    fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Fake {
        Self::raw(move |mut stream| {
            let mut buffer = [0; 4096];
            if stream.read(&mut buffer).is_ok_and(|n| n > 0)
                && stream.write_all(b"%1\r\n+proto\r\n:3\r\n").is_ok()
            {
                serve(stream);
            }
        })
    }

    fn raw(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let (connections, serve) = (Arc::new(AtomicU32::new(0)), Arc::new(serve));
        let counted = Arc::clone(&connections);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::Relaxed);
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(stream));
            }
        });
        Fake { url, connections }
    }

    fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Reads commands; each gets what `answer` writes.
fn each(mut stream: TcpStream, answer: impl Fn(&mut TcpStream)) {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).is_ok_and(|n| n > 0) {
        answer(&mut stream);
    }
}

#[test]
fn a_stream_out_of_step_is_closed_and_never_used_again() {
    let cases: [(&[u8], &str); 9] = [
        (b"+1\r\n+2\r\n", "no known kind"),
        (b"?", "no known kind"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no known kind"),
        (b">2\r\n+message\r\n+x\r\n", "a push"),
        (b"$3\r\nabcde", "without its end"),
        (b"$-5\r\n", "wrong length"),
        (b"*70000\r\n", "too many"),
        (b"$99999999\r\n", "too long"),
        (b":12x\r\n", "makes no sense"),
    ];
    for (bytes, part) in cases {
        let fake = Fake::start(move |stream| {
            each(stream, |stream| {
                let _ = stream.write_all(bytes);
            });
        });
        run(async {
            let redis = client(&settings(&fake.url, ""));
            let answer = redis.call(&Command::new("PING")).await;
            if bytes.starts_with(b"+1") {
                assert_eq!(answer, Ok(Reply::Text("1".to_owned())), "the first one is well");
            } else {
                assert_eq!(answer, Err(Failure::Gone), "{}", bytes.escape_ascii());
            }
            until("the connection is given up", async || redis.state().last_error).await;
            let error = redis.state().last_error.unwrap();
            assert!(error.contains("out of step") && error.contains(part), "{error}");
            until("there is a new one", async || (fake.connections() > 1).then_some(())).await;
        });
    }
}

#[test]
fn bytes_that_nobody_asked_for_end_the_connection() {
    let fake = Fake::start(|mut stream| {
        std::thread::sleep(Duration::from_millis(30));
        let _ = stream.write_all(b"+OK\r\n");
        std::thread::sleep(Duration::from_secs(2));
    });
    run(async {
        let (redis, lines, _) = observed(&settings(&fake.url, ""));
        redis.start();
        until("it is given up", async || redis.state().last_error).await;
        assert!(lines.borrow().iter().any(|line| line.contains("out of step")), "{:?}", lines.borrow());
    });
}

#[test]
fn half_answers_and_drops_are_no_answers() {
    // Half an answer, then the end; the next connection drips a whole one, byte by byte.
    let turn = AtomicU32::new(0);
    let fake = Fake::start(move |mut stream| {
        let mut buffer = [0; 4096];
        let _ = stream.read(&mut buffer);
        if turn.fetch_add(1, Ordering::Relaxed) == 0 {
            let _ = stream.write_all(b"$10\r\n01234");
            return;
        }
        loop {
            for byte in b"$10\r\n0123456789\r\n" {
                std::thread::sleep(Duration::from_millis(2));
                if stream.write_all(&[*byte]).is_err() {
                    return;
                }
            }
            if !stream.read(&mut buffer).is_ok_and(|n| n > 0) {
                return;
            }
        }
    });
    run(async {
        let redis = client(&settings(&fake.url, "timeout = '1s'"));
        let get = Command::new("GET").key("k");
        assert_eq!(redis.call(&get).await, Err(Failure::Gone));
        let whole = until("the next one", async || redis.call(&get).await.ok()).await;
        assert_eq!(whole.as_bytes(), Some(&b"0123456789"[..]));
        assert_eq!(redis.call(&get).await.unwrap().as_bytes(), Some(&b"0123456789"[..]));
    });
}

#[test]
fn a_drip_that_never_ends_is_given_up() {
    let fake = Fake::start(|stream| {
        each(stream, |stream| {
            let _ = stream.write_all(b"$1000000\r\n");
            while stream.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
    });
    run(async {
        let redis = client(&settings(&fake.url, ""));
        assert_eq!(redis.call(&Command::new("GET").key("k")).await, Err(Failure::Timeout));
        let begin = clock::now();
        until("it is given up", async || redis.state().last_error).await;
        let took = clock::now().duration_since(begin);
        assert!(took > Duration::from_millis(150) && took < Duration::from_millis(600), "{took:?}");
        assert!(redis.state().last_error.unwrap().contains("no answer for 200 ms"));
    });
}

#[test]
fn a_silent_server_fills_its_slots_and_no_more() {
    let fake = Fake::start(|stream| each(stream, |_| {}));
    run(async {
        let redis = client(&settings(&fake.url, "timeout = '300ms'"));
        redis.start();
        until("it is connected", async || (redis.state().connected == 1).then_some(())).await;
        let pings: Vec<Command> = (0..512).map(|_| Command::new("PING")).collect();
        for _ in 0..2 {
            // Left at once: the slots stay.
            let call = std::pin::pin!(redis.call_all(&pings));
            assert!(clock::within(Duration::from_millis(5), call).await.is_none());
        }
        assert_eq!(redis.state().waiting, 1024);
        let begin = clock::now();
        assert_eq!(redis.call(&Command::new("PING")).await, Err(Failure::Full));
        assert!(clock::now().duration_since(begin) < Duration::from_millis(20));
    });
}

#[test]
fn an_old_server_is_spoken_to_as_it_can_and_its_words_hide_the_password() {
    let fake = Fake::raw(|mut stream| {
        let mut buffer = [0; 4096];
        let mut question = || stream.read(&mut buffer).map(|n| buffer[..n].to_vec()).unwrap_or_default();
        let hello = String::from_utf8(question()).unwrap();
        assert!(hello.contains("HELLO") && hello.contains("canary-canary"), "{hello}");
        let _ = stream.write_all(
            b"-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `canary-canary`, \r\n",
        );
        let mut buffer = [0; 4096];
        let mut question = || stream.read(&mut buffer).map(|n| buffer[..n].to_vec()).unwrap_or_default();
        assert_eq!(question(), b"*2\r\n$4\r\nAUTH\r\n$13\r\ncanary-canary\r\n");
        let _ = stream.write_all(b"+OK\r\n");
        each(stream, |stream| {
            let _ = stream.write_all(b"*3\r\n$-1\r\n*-1\r\n:1\r\n");
        });
    });
    run(async {
        let redis = client(&settings(&fake.url, "password = 'canary-canary'"));
        let answer = redis.call(&Command::new("MGET").key("a").key("b")).await;
        assert_eq!(answer, Ok(Reply::Array(vec![Reply::Nil, Reply::Nil, Reply::Int(1)])));
    });
    let fake = Fake::raw(|stream| {
        each(stream, |stream| {
            let _ = stream
                .write_all(b"-ERR no such user with canary-canary, with args beginning with: canary\r\n");
        });
    });
    run(async {
        let (redis, lines, _) = observed(&settings(&fake.url, "password = 'canary-canary'"));
        assert!(redis.call(&Command::new("PING")).await.is_err());
        let told = format!("{:?} {:?}", lines.borrow(), redis.state());
        assert!(told.contains("no such user") && !told.contains("canary"), "{told}");
    });
}
