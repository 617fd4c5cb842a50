//! A gateway with all processes that take its place, in a folder of its own: one configuration file, one log.

use std::fs::{self, File, OpenOptions};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::kernel;
use super::scripted::{Gate, Journal, config, good};
use super::support::fleet::{model, until};
use super::support::{configured, get};

/// All of it; every process is killed, and the folder removed, when dropped.
pub struct Family {
    /// Where everything is.
    pub folder: PathBuf,
    /// The data listener.
    pub addr: SocketAddr,
    /// The admin listener.
    pub admin: SocketAddr,
    /// The first process.
    pub first: u32,
    /// Who asks for the model `held` waits for this.
    pub gate: Gate,
    server: SocketAddr,
}

/// A port that is free now.
pub fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Family {
    /// Starts a process that calls itself `name`, with more settings of `[server]`, and waits until it serves.
    pub fn start(name: &str, server: &str) -> Family {
        let mut family = Family::unstarted();
        family.write(name, server);
        family.first = family.spawn(family.command());
        until("the ready line", || (family.ready_lines() == 1).then_some(()));
        family
    }

    /// Without a process.
    pub fn unstarted() -> Family {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        kernel::adopt_orphans();
        let name = format!("corelane-hand-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let (gate, journal) = (Gate::default(), Journal::default());
        let inside = gate.clone();
        let server = journal.server("a", move |ask| {
            if ask.model == "held" {
                inside.pass();
            }
            good(ask)
        });
        Family { folder, addr: free(), admin: free(), first: 0, gate, server }
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.join("corelane.toml")
    }

    /// The handover socket.
    pub fn door(&self) -> PathBuf {
        self.folder.join("door.sock")
    }

    /// Writes the configuration of a process that calls itself `name`.
    pub fn write(&self, name: &str, server: &str) {
        let server = format!("handover_socket = {:?}\n{server}", self.door());
        let rest = format!(
            "[server.headers]\nx-who = \"{name}\"\n[log]\naccess = \"off\"\n{}{}",
            model("m", &["a"], ""),
            model("held", &["a"], "")
        );
        let toml = config(&[("a", self.server)], &server, &rest);
        let toml = toml.replacen("127.0.0.1:0", &self.addr.to_string(), 1);
        let toml = toml.replacen("127.0.0.1:0", &self.admin.to_string(), 1);
        fs::write(self.config(), configured(&toml)).unwrap();
    }

    /// `corelane serve` with the configuration.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command.arg("serve").arg("-c").arg(self.config());
        command
    }

    /// Starts it, with what it says going to the family's files.
    pub fn spawn(&self, mut command: Command) -> u32 {
        let append = |name: &str| -> File {
            OpenOptions::new().create(true).append(true).open(self.folder.join(name)).unwrap()
        };
        command.stdin(Stdio::null()).stdout(append("stdout")).stderr(append("stderr"));
        command.spawn().expect("spawn the gateway").id()
    }

    /// Starts one that takes over by the door, calls itself `name`, and waits until it serves.
    pub fn take_over(&self, name: &str, server: &str) -> u32 {
        self.write(name, server);
        let ready = self.ready_lines();
        let mut command = self.command();
        command.arg("--take-over").arg(self.door());
        let pid = self.spawn(command);
        until("its ready line", || (self.ready_lines() > ready).then_some(()));
        pid
    }

    /// Has the process `pid` replaced by USR2, and waits until its successor serves.
    pub fn upgrade(&self, pid: u32) -> u32 {
        let (before, ready) = (self.alive(), self.ready_lines());
        kernel::signal(pid, libc::SIGUSR2);
        until("the successor serves", || {
            let newest = self.alive().into_iter().find(|one| !before.contains(one))?;
            (self.ready_lines() > ready).then_some(newest)
        })
    }

    /// How often a process has said that it serves.
    pub fn ready_lines(&self) -> usize {
        let text = fs::read_to_string(self.folder.join("stdout")).unwrap_or_default();
        text.lines().filter(|line| line.starts_with("ready ")).count()
    }

    /// What all of them wrote to stderr.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join("stderr")).unwrap_or_default()).into_owned()
    }

    /// Processes alive, the oldest first; those that have ended and were not waited for are none.
    pub fn alive(&self) -> Vec<u32> {
        kernel::with_argument(self.config().to_str().unwrap())
    }

    /// How a process has ended, if it has.
    pub fn exit_of(&self, pid: u32) -> Option<i32> {
        kernel::reap(pid)
    }

    /// Waits for its end.
    pub fn ended(&self, pid: u32) -> i32 {
        until(&format!("the end of {pid}; they wrote:\n{}", self.log()), || kernel::reap(pid))
    }

    /// The status page of whoever answers.
    pub fn status(&self) -> Value {
        serde_json::from_slice(&get(self.admin, "/status").2).unwrap()
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        for pid in self.alive() {
            kernel::signal(pid, libc::SIGKILL);
            until("its end", || (kernel::reap(pid).is_some() || !self.alive().contains(&pid)).then_some(()));
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}
