//! The load test of the deployment guide, on a real nginx and on the gateway. Needs `nginx` with its realip module, as
//! Debian's has; without it the test fails.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use corelane::sim::Options;

use super::support::answer::{Answer, Reader};
use super::support::fleet::{Fleet, chat, connect, model, quick, until};
use super::{BEHIND_PROXY, CHAT, passed, read, slow, write, zone};

/// A real nginx with the limits of the deployment guide; clients are told apart by a header, as behind a proxy.
struct Nginx {
    child: Child,
    folder: PathBuf,
    quick: SocketAddr,
    slow: SocketAddr,
}

impl Nginx {
    fn start(quick: SocketAddr, slow: SocketAddr) -> Nginx {
        let folder = std::env::temp_dir().join(format!("corelane-guide-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let here = folder.display();
        let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [to_quick, to_slow] = ports.map(|port| port.local_addr().unwrap());
        let server = |listen: SocketAddr, upstream: SocketAddr| {
            format!(
                "server {{ listen {listen}; location {CHAT} {{ limit_req zone=chat_limit burst=20 nodelay; \
                 limit_conn addr 10; limit_req_status 429; limit_conn_status 503; proxy_pass http://{upstream}; }} }}"
            )
        };
        let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {here}/{kind};"))
            .concat();
        let conf = format!(
            "daemon off; master_process off; pid {here}/pid; error_log {here}/error.log; events {{ }} http {{ \
             access_log off; {paths} limit_req_zone $binary_remote_addr zone=chat_limit:10m rate=5r/s; \
             limit_conn_zone $binary_remote_addr zone=addr:10m; set_real_ip_from 127.0.0.0/8; \
             real_ip_header X-Forwarded-For; {} {} }}",
            server(to_quick, quick),
            server(to_slow, slow)
        );
        std::fs::write(folder.join("nginx.conf"), conf).unwrap();
        let path = format!("{}:/usr/local/sbin:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("nginx");
        command.env("PATH", path).arg("-p").arg(&folder).arg("-c").arg(folder.join("nginx.conf"));
        let child = command.arg("-e").arg(folder.join("error.log")).stdin(Stdio::null()).spawn().unwrap();
        let nginx = Nginx { child, folder, quick: to_quick, slow: to_slow };
        until("nginx listens", || TcpStream::connect(to_slow).ok());
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The guide's load test: 60 calls one after the other in 0.1 s, then 30 long ones at once. How many passed of the
/// first, and how many of the second passed, were refused by the rate and by the count.
fn guides_load(quick: (SocketAddr, &str), slow: (SocketAddr, &str), net: u8) -> (usize, [usize; 3]) {
    // A client of its own for each try: one that was held up for so long that a token came back is no answer.
    let calls = (0..20).find_map(|host| {
        let mut reader = connect(quick.0);
        let began = Instant::now();
        let from = format!("10.{net}.1.{host}");
        let body = chat(quick.1, false);
        let mut one = || {
            write(&mut reader, "POST", CHAT, &format!("X-Forwarded-For: {from}\r\n"), &body);
            read(&mut reader)
        };
        let answers: Vec<Answer> = (0..60).map(|_| one()).collect();
        (began.elapsed() < Duration::from_millis(190)).then(|| passed(&answers))
    });
    let at_once = (0..20).find_map(|host| {
        let fields = format!("X-Forwarded-For: 10.{net}.2.{host}\r\n");
        let mut readers: Vec<Reader> = (0..30).map(|_| connect(slow.0)).collect();
        let began = Instant::now();
        readers.iter_mut().for_each(|reader| write(reader, "POST", CHAT, &fields, &chat(slow.1, false)));
        let mut kinds = [0; 3];
        for answer in readers.iter_mut().map(read) {
            let by_count = answer.status == 503 || String::from_utf8_lossy(&answer.body).contains("at once");
            kinds[if answer.status == 200 { 0 } else { 1 + usize::from(by_count) }] += 1;
        }
        let sent = began.elapsed().checked_sub(SLOW_ANSWER).unwrap_or_default();
        (sent < Duration::from_millis(190)).then_some(kinds)
    });
    (calls.expect("60 calls within 0.2 s"), at_once.expect("30 calls within 0.2 s"))
}

/// Longer than it takes to send 30 requests.
const SLOW_ANSWER: Duration = Duration::from_millis(400);

#[test]
fn the_guides_load_gets_nginxs_answers() {
    let limits = "[limits]\nconcurrent_per_client = 10\n".to_owned()
        + &zone("chat", "5r/s", "burst = 20\nnodelay = true", &format!("\"{CHAT}\""))
        + &model("quick", &["e0"], "upstream_model = \"llama3.2\"")
        + &model("slow", &["e1"], "upstream_model = \"llama3.2\"");
    let mut servers = quick(1);
    servers.push(Options { prefill: SLOW_ANSWER, ..slow(0, 2).remove(0) });
    let fleet = Fleet::start(servers, BEHIND_PROXY, &limits).ready();
    let nginx = Nginx::start(fleet.servers[0].addr, fleet.servers[1].addr);
    let theirs = guides_load((nginx.quick, "llama3.2"), (nginx.slow, "llama3.2"), 1);
    let addr = fleet.gateway.addr;
    let ours = guides_load((addr, "quick"), (addr, "slow"), 2);
    assert_eq!(theirs, (21, [10, 9, 11]), "passed; of 30 at once passed, by the rate, by the count");
    assert_eq!(ours, theirs, "as nginx");
    drop(nginx);
    fleet.assert_quiet();
}
