//! Where a page is played: a folder of its own, three simulated Ollama servers at the addresses that pages name, and the
//! gateway that the page starts, on ports of the kernel's choosing in the place of 8000, 8001 and 8443.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use corelane::sim::{self, Handle, Options};
use socket2::{Domain, Socket, Type};

use super::page::{self, Block};
use super::support;

/// Models of every simulated server.
const MODELS: [&str; 3] = ["llama3.2:latest", "mistral:latest", "nomic-embed-text:latest"];
/// Where pages have their servers.
const SERVERS: [(&str, usize); 5] = [
    ("192.168.1.2:11434", 0),
    ("192.168.1.11:11434", 1),
    ("192.168.1.20:11434", 2),
    ("127.0.0.1:11434", 0),
    ("localhost:11434", 0),
];
/// Where nothing answers: a server that is away, and a Redis.
const NOBODY: [&str; 2] = ["192.168.1.99:11434", "127.0.0.1:6379"];
/// The ports of the gateway in all pages.
const PORTS: [u16; 3] = [8000, 8001, 8443];
/// Seconds that a block may take; and the gateway to its ready line.
const BLOCK_S: &str = "60";
const READY: Duration = Duration::from_secs(60);
/// How long the first probes may take, where the page's gateway can be asked without TLS.
const PROBED: Duration = Duration::from_millis(1500);

pub struct Stage {
    folder: PathBuf,
    sims: Vec<Handle>,
    /// What a page says, and what stands for it here; the longest first.
    names: Vec<(String, String)>,
    /// Bound and not listening, so that nobody else gets these ports; the gateway's own sockets share them.
    _held: Vec<Socket>,
    gateway: Option<Child>,
    plain: SocketAddr,
}

impl Stage {
    pub fn set(page: &str) -> Self {
        let stem = page.replace(['/', '.'], "-");
        let folder = std::env::temp_dir().join(format!("corelane-docs-{}-{stem}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let options =
            || Options { models: MODELS.map(str::to_owned).into(), slots: 64, ..Options::default() };
        let sims: Vec<Handle> = (0..3).map(|_| sim::start(options()).unwrap()).collect();
        let mut names: Vec<(String, String)> =
            SERVERS.iter().map(|&(name, at)| (name.to_owned(), sims[at].addr.to_string())).collect();
        names.extend(NOBODY.map(|name| (name.to_owned(), closed_port().to_string())));
        names.push(("127.0.0.1:8002".to_owned(), closed_port().to_string()));
        let mut held = Vec::new();
        let mut plain = None;
        for port in PORTS {
            let (socket, address) = hold();
            plain.get_or_insert(address);
            held.push(socket);
            names.extend(
                ["127.0.0.1", "localhost"].map(|host| (format!("{host}:{port}"), address.to_string())),
            );
        }
        let stage = Self { folder, sims, names, _held: held, gateway: None, plain: plain.unwrap() };
        stage
            .copy_config(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config"), &stage.folder.join("config"));
        stage
    }

    /// The example files, with the addresses of this stage.
    fn copy_config(&self, from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                self.copy_config(&entry.path(), &target);
            } else {
                fs::write(target, self.here(&fs::read_to_string(entry.path()).unwrap())).unwrap();
            }
        }
    }

    /// A text of the page with the addresses of this stage.
    fn here(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (name, here)| text.replace(name, here))
    }

    /// Plays a page: files are written, commands run, and what they print compared.
    pub fn play(&mut self, name: &str) {
        let blocks = page::blocks(name);
        for (at, block) in blocks.iter().enumerate() {
            if let Some(file) = block.value("file") {
                fs::write(self.folder.join(file), self.here(&block.text)).unwrap();
            }
            if block.language() != "sh" || block.has("no-run") {
                continue;
            }
            let shown = blocks.get(at + 1).filter(|next| next.follows && next.language() == "text");
            let place = format!("{name}:{}", block.line);
            let printed =
                if block.has("serve") { self.serve(&place, block) } else { self.run(&place, block) };
            let result = shown.map(|shown| page::matches(&self.here(&shown.text), &printed));
            if let Some(Err(line)) = result {
                panic!(
                    "{place}: not as the page shows, at: {line}\n--- printed:\n{printed}--- the gateway says:\n{}",
                    self.log()
                );
            }
        }
    }

    fn shell(&self, script: &str) -> Command {
        let own = Path::new(env!("CARGO_BIN_EXE_corelane")).parent().unwrap().display().to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("bash");
        command
            .args(["-c", script])
            .current_dir(&self.folder)
            .env_clear() // no proxy, key or address of the machine's own
            .env("PATH", format!("{own}:{path}"))
            .env("HOME", &self.folder)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
        if let Ok(legacy) = std::env::var("MONOIO_FORCE_LEGACY_DRIVER") {
            command.env("MONOIO_FORCE_LEGACY_DRIVER", legacy);
        }
        command
    }

    /// Runs a block in a shell that knows what the blocks before it have exported.
    fn run(&self, place: &str, block: &Block) -> String {
        let session = "exec 2>&1\n[ -f .session ] && . ./.session\nset -euo pipefail\ntrap 'export -p > .session' EXIT\n";
        let script = format!("{session}{}", self.here(&block.text));
        let mut command = self.shell("exec timeout \"$0\" bash -c \"$1\"");
        let output = command.args([BLOCK_S, &script]).output().expect("bash and timeout");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let wanted: Vec<&str> = block.value("exit").unwrap_or("0").split(',').collect();
        let code = output.status.code().map(|code| code.to_string()).unwrap_or_default();
        assert!(
            wanted.contains(&code.as_str()),
            "{place}: exit code {code}, not {wanted:?}: {}\n--- printed:\n{printed}--- the gateway says:\n{}",
            block.text,
            self.log()
        );
        printed
    }

    /// Starts the page's gateway in the place of the one before.
    fn serve(&mut self, place: &str, block: &Block) -> String {
        self.stop();
        let file =
            block.text.split_whitespace().skip_while(|word| *word != "-c").nth(1).unwrap_or("corelane.toml");
        let file = self.folder.join(file);
        let text = fs::read_to_string(&file).unwrap_or_else(|_| BUILTIN.to_owned());
        let text = with_addresses(&text.replace("0.0.0.0:", "127.0.0.1:"));
        fs::write(&file, support::configured(&self.here(&text))).unwrap();
        let script = format!("[ -f .session ] && . ./.session\nexec {}", self.here(block.text.trim()));
        let (out, log) = (self.folder.join("gateway.out"), self.folder.join("gateway.log"));
        let mut command = self.shell(&script);
        let child = command.stdout(File::create(&out).unwrap()).stderr(File::create(&log).unwrap()).spawn();
        self.gateway = Some(child.expect("bash"));
        let deadline = Instant::now() + READY;
        loop {
            let printed = fs::read_to_string(&out).unwrap_or_default();
            if printed.lines().any(|line| line.starts_with("ready ")) {
                self.wait_for_probes();
                return printed;
            }
            let ended = self.gateway.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
            assert!(
                !ended && Instant::now() < deadline,
                "{place}: no ready line; the gateway says:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Until something is known to be healthy, or for as long as probes take.
    fn wait_for_probes(&self) {
        let deadline = Instant::now() + PROBED;
        let healthy = || {
            let (_, _, body) = support::get(self.plain, "/health");
            !String::from_utf8_lossy(&body).contains("\"healthy_count\":0")
        };
        while Instant::now() < deadline && std::net::TcpStream::connect(self.plain).is_ok() && !healthy() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("gateway.log")).unwrap_or_default()
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.gateway.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What `serve` does without a file, on addresses that can be told apart.
const BUILTIN: &str = "[server]\nlisten = [\"127.0.0.1:8000\"]\nadmin_listen = \"127.0.0.1:8001\"\n\
                       [[endpoints]]\nname = \"ollama\"\nurl = \"http://127.0.0.1:11434\"\n";

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop();
        self.sims.drain(..).for_each(|sim| sim.stop());
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A configuration that names both listeners: their defaults are not for tests.
fn with_addresses(text: &str) -> String {
    let says = |key: &str| text.lines().any(|line| line.starts_with(key));
    let mut own = String::new();
    if !says("listen") {
        own.push_str("listen = [\"127.0.0.1:8000\"]\n");
    }
    if !says("admin_listen") {
        own.push_str("admin_listen = \"127.0.0.1:8001\"\n");
    }
    match text.contains("[server]\n") {
        true => text.replacen("[server]\n", &format!("[server]\n{own}"), 1),
        false => format!("[server]\n{own}{text}"),
    }
}

/// A port that is ours as long as the socket lives, and that our gateways can share.
fn hold() -> (Socket, SocketAddr) {
    let bind = || -> io::Result<(Socket, SocketAddr)> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        let address = socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("no IP address"))?;
        Ok((socket, address))
    };
    bind().expect("a port")
}

/// An address where nothing listens.
fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
