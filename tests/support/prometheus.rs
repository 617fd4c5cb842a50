//! A real Prometheus, and its tool. `scripts/test` installs both.

use std::fs::{self, File};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long Prometheus may take to start and to have two scrapes of every series, one a second.
const DATA_DEADLINE: Duration = Duration::from_secs(30);

/// `promtool check metrics` must not say a word.
pub fn lint(page: &str) {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool: run scripts/test, which installs it");
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success() && said.is_empty(),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&said)
    );
}

/// The value of one series of an instant vector; NaN for what is no number.
pub fn number(series: &Value) -> f64 {
    series["value"][1].as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}

/// A running Prometheus that scrapes one address every second; killed, and its files removed, when dropped.
pub struct Prometheus {
    child: Child,
    folder: PathBuf,
    addr: SocketAddr,
}

impl Prometheus {
    /// With nothing but the scrape of `target`.
    pub fn start(target: SocketAddr) -> Prometheus {
        Prometheus::configured(
            &format!(
                "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
                 scrape_configs: [{{job_name: corelane, static_configs: [{{targets: [\"{target}\"]}}]}}]\n"
            ),
            &[],
        )
    }

    /// With this configuration, and files that it names beside it.
    pub fn configured(text: &str, beside: &[&Path]) -> Prometheus {
        // the kernel's choice, free again by the time Prometheus binds it
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let folder = std::env::temp_dir().join(format!("corelane-prometheus-{}", addr.port()));
        fs::create_dir_all(&folder).unwrap();
        for file in beside {
            fs::copy(file, folder.join(file.file_name().unwrap())).unwrap();
        }
        let config = folder.join("prometheus.yml");
        fs::write(&config, text).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={addr}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("log")).unwrap())
            .spawn()
            .expect("prometheus: run scripts/test, which installs it");
        Prometheus { child, folder, addr }
    }

    /// The instant vector of a query; `None` while Prometheus does not listen or starts.
    pub fn query(&self, query: &str) -> Option<Vec<Value>> {
        let answer = self.api(&format!("query?query={}", escaped(query)))?;
        assert_eq!(answer["resultType"], "vector", "{query}: {answer}");
        answer["result"].as_array().cloned()
    }

    /// What a path below `/api/v1/` answers; `None` while Prometheus does not listen or starts.
    pub fn api(&self, path: &str) -> Option<Value> {
        TcpStream::connect(self.addr).ok()?;
        let (status, _, body) = super::get(self.addr, &format!("/api/v1/{path}"));
        if status == 503 {
            return None;
        }
        let text = String::from_utf8_lossy(&body);
        assert_eq!(status, 200, "{path}: {text}");
        let answer: Value = serde_json::from_slice(&body).expect("JSON");
        Some(answer["data"].clone())
    }

    /// Asks until the result is `enough`.
    pub fn until(&self, what: &str, query: &str, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + DATA_DEADLINE;
        loop {
            let result = self.query(query);
            if let Some(result) = &result
                && enough(result)
            {
                return result.clone();
            }
            let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "not {what} after 30 s: {query}: {result:?}\n{}", log());
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// As the value in a URL's query.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
