//! A gateway with an upstream of its own, so that what the upstream sees belongs to the running case.
//!
//! `CORELANE_FRAMING_TARGETS` (`proxy>upstream,…`) puts other proxies in the place of the gateway, to
//! try the corpus itself: each must send its chat requests to the upstream address named for it.

use super::answer::{Answer, Reader, Trouble};
use super::upstream::{Record, Reply, Upstream};
use super::{Gateway, corpus};
use serde_json::Value;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long an answer may take.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// A gateway and its upstream.
pub struct Lane {
    /// Where the clients connect.
    pub addr: SocketAddr,
    /// What the gateway sends on.
    pub upstream: Upstream,
    /// The process; `None` for a proxy that is not ours.
    pub gateway: Option<Gateway>,
}

impl Lane {
    /// `count` lanes. `config` becomes the head of the configuration: its `[server]` table and others.
    pub fn start_all<F>(count: usize, config: &str, reply: F) -> Vec<Lane>
    where
        F: Fn(&Record) -> Reply + Send + Sync + Clone + 'static,
    {
        if let Ok(targets) = std::env::var("CORELANE_FRAMING_TARGETS") {
            let lane = |pair: &str| {
                let (addr, upstream) = pair.split_once('>').expect("proxy>upstream");
                let upstream = Upstream::start(upstream.parse().unwrap(), reply.clone());
                Lane { addr: addr.parse().unwrap(), upstream, gateway: None }
            };
            return targets.split(',').map(lane).collect();
        }
        (0..count).map(|_| Lane::start(config, reply.clone())).collect()
    }

    fn start<F>(config: &str, reply: F) -> Lane
    where
        F: Fn(&Record) -> Reply + Send + Sync + 'static,
    {
        let upstream = Upstream::start("127.0.0.1:0".parse().unwrap(), reply);
        let endpoint = format!("name = \"a\"\nurl = \"http://{}\"\nkind = \"openai\"", upstream.addr);
        let gateway = Gateway::start(&format!(
            "{config}\n[health]\nenabled = false\n[log]\naccess = \"off\"\n\
             [[endpoints]]\n{endpoint}\n[[models]]\nname = \"m\"\n"
        ));
        Lane { addr: gateway.addr, upstream, gateway: Some(gateway) }
    }

    /// A new connection.
    pub fn connect(&self) -> Reader {
        let stream = TcpStream::connect(self.addr).expect("connect to the gateway");
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        Reader::new(stream)
    }

    /// What the upstream saw since the last call, without the gateway's own questions for models.
    pub fn seen(&self) -> Vec<Record> {
        let own = |r: &Record| r.method == "GET" && r.target == "/v1/models" && r.body.is_empty();
        self.upstream.records.try_iter().filter(|r| !own(r)).collect()
    }

    /// Sends a clean request on this connection and reads its answer.
    ///
    /// # Errors
    /// What came instead of an answer.
    pub fn ask(&self, reader: &mut Reader, mark: &str, id: &str) -> Result<Answer, Trouble> {
        let _ = reader.stream().write_all(&corpus::follower(mark, id));
        reader.answer(false, Instant::now() + ANSWER_DEADLINE)
    }
}

/// The `id` of a JSON answer.
pub fn answer_id(answer: &Answer) -> Option<String> {
    let json: Value = serde_json::from_slice(&answer.body).ok()?;
    Some(json.get("id")?.as_str()?.to_owned())
}

/// A small generator of numbers (SplitMix64): a failure is repeated by its seed.
pub struct Random(pub u64);

impl Random {
    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % (bound.max(1) as u64)).unwrap_or(0)
    }
}
