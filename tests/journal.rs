//! Promise: access lines in a file are whole and in order, in segments of bounded length and number, and whatever
//! becomes of the disk, the gateway serves, counts what is lost, and recovers by itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods
)] // test code

#[path = "journal/disk.rs"]
mod disk;
#[path = "chaos/kernel.rs"]
#[allow(dead_code)]
mod kernel;
mod support;

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use disk::{Disk, Folder, numbers, texts};
use support::answer::Reader;
use support::fleet::{connect, until};
use support::{Gateway, get, metrics};

/// A gateway whose access log is `log`.
fn toml(log: &Path, journal: &str, server: &str, [listen, admin]: [&str; 2]) -> String {
    format!(
        "[server]\nlisten = [\"{listen}\"]\nadmin_listen = \"{admin}\"\nshards = 1\n{server}\
         [log]\naccess = \"{}\"\n[log.journal]\n{journal}\n[health]\nenabled = false\n\
         [[endpoints]]\nname = \"e\"\nurl = \"http://127.0.0.1:9\"\n[[models]]\nname = \"m\"\n",
        log.display()
    )
}

const ANY: [&str; 2] = ["127.0.0.1:0", "127.0.0.1:0"];

fn start(log: &Path, journal: &str) -> Gateway {
    Gateway::start(&toml(log, journal, "", ANY))
}

/// Asks for a page that is not there, whose path has `number` and is about `length` bytes long.
fn ask(reader: &mut Reader, number: u64, length: usize) -> u16 {
    let path = format!("/n/{number}/{}", "x".repeat(length));
    reader.stream().write_all(format!("GET {path} HTTP/1.1\r\nHost: gw\r\n\r\n").as_bytes()).unwrap();
    reader.answer(false, Instant::now() + Duration::from_secs(20)).expect("an answer").status
}

fn ask_all(gateway: &Gateway, numbers: std::ops::Range<u64>, length: usize) {
    let mut reader = connect(gateway.addr);
    numbers.for_each(|number| assert_eq!(ask(&mut reader, number, length), 404));
}

fn metric(gateway: &Gateway, name: &str) -> u64 {
    let page = metrics(gateway);
    let line = page.lines().find(|line| line.split(' ').next() == Some(name));
    line.unwrap_or_else(|| panic!("no {name} in\n{page}")).rsplit(' ').next().unwrap().parse().unwrap()
}

fn written(gateway: &Gateway, lines: u64) {
    until("lines written", || (metric(gateway, "corelane_journal_lines_total") == lines).then_some(()));
}

fn writer(gateway: &Gateway) -> &'static str {
    let page = metrics(gateway);
    let in_use = |name: &&str| page.contains(&format!("corelane_journal_writer_info{{writer=\"{name}\"}} 1"));
    ["direct", "buffered", "off"].into_iter().find(in_use).expect("a writer")
}

fn terminate(gateway: &mut Gateway) {
    kernel::signal(gateway.pid(), libc::SIGTERM);
    assert_eq!(until("the end", || gateway.exit_code()), 0, "{}", gateway.log());
}

/// The writers that this machine allows; where that is only one, the log must say why.
fn writers() -> Vec<&'static str> {
    let folder = Folder::make();
    let gateway = start(&folder.log(), "writer = \"auto\"");
    let in_use = writer(&gateway);
    let told = until("its word", || {
        let log = gateway.log();
        (in_use == "direct" || log.contains("the journal is written by the kernel's cache: ")).then_some(log)
    });
    println!("auto is {in_use}: {told}");
    if in_use == "direct" { vec!["direct", "buffered"] } else { vec!["buffered"] }
}

#[test]
fn lines_are_whole_and_in_order_over_segments() {
    for name in writers() {
        let folder = Folder::make();
        let settings = format!("writer = \"{name}\"\nsegment_bytes_max = \"1MiB\"\nsegments_max = 1000");
        let mut gateway = start(&folder.log(), &settings);
        assert_eq!(writer(&gateway), name);
        ask_all(&gateway, 0..900, 3000);
        terminate(&mut gateway); // what waits is written
        let texts = texts(&folder.log());
        assert!(texts.len() >= 3, "{} segments", texts.len());
        assert!(texts.iter().all(|text| text.len() <= 1 << 20 && text.ends_with('\n')));
        assert!(texts[..texts.len() - 1].iter().all(|text| text.len() > (1 << 20) - 16_384));
        assert_eq!(numbers(&texts.concat()), (0..900).collect::<Vec<_>>());
    }
}

#[test]
fn a_line_can_be_read_at_once() {
    for name in writers() {
        let folder = Folder::make();
        let gateway = start(&folder.log(), &format!("writer = \"{name}\"\nsync = \"0s\""));
        for number in 0..30 {
            ask_all(&gateway, number..number + 1, 700);
            let begin = Instant::now();
            until("the line", || {
                let text = fs::read_to_string(folder.log()).unwrap();
                assert!(!text.contains('\0'), "no padding is ever seen");
                (text.ends_with('\n') && numbers(&text).len() as u64 == number + 1).then_some(())
            });
            assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
        }
    }
}

#[test]
fn closed_segments_are_compressed_and_few() {
    let folder = Folder::make();
    let gateway = start(&folder.log(), "segment_bytes_max = \"1MiB\"\nsegments_max = 2\ncompress = true");
    ask_all(&gateway, 0..1500, 3000);
    written(&gateway, 1500);
    let closed = metric(&gateway, "corelane_journal_segments_closed_total");
    assert!(closed >= 4, "{closed}");
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let left = until("two compressed ones", || {
        let left = disk::closed(&folder.log());
        (left.len() == 2 && left.iter().all(|path| name(path).ends_with(".log.gz"))).then_some(left)
    });
    for (at, path) in left.iter().enumerate() {
        let end = format!("-{:06}.log.gz", closed - 1 + at as u64);
        assert!(name(path).starts_with("access-2") && name(path).ends_with(&end), "{path:?}, {end}");
    }
    let numbers = numbers(&texts(&folder.log()).concat());
    assert_eq!(numbers.last(), Some(&1499));
    assert!(numbers.len() > 600 && numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    assert_eq!(metric(&gateway, "corelane_journal_write_errors_total"), 0, "{}", gateway.log());
}

#[test]
fn a_segment_is_closed_by_age() {
    let folder = Folder::make();
    let gateway = start(&folder.log(), "segment_age_max = \"1s\"");
    ask_all(&gateway, 0..3, 10);
    until("the first is closed", || (disk::closed(&folder.log()).len() == 1).then_some(()));
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(disk::closed(&folder.log()).len(), 1, "an empty one is not");
    ask_all(&gateway, 3..5, 10);
    until("the second is closed", || (disk::closed(&folder.log()).len() == 2).then_some(()));
    until("the third is open", || folder.log().exists().then_some(()));
    let texts = texts(&folder.log());
    assert_eq!(
        texts.iter().map(|text| numbers(text)).collect::<Vec<_>>(),
        [vec![0, 1, 2], vec![3, 4], vec![]]
    );
}

#[test]
fn direct_writing_that_is_denied() {
    let folder = Folder::make();
    let denied = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command.env_remove("MONOIO_FORCE_LEGACY_DRIVER");
        kernel::deny_io_uring(&mut command, libc::EPERM);
        command
    };
    let gateway = Gateway::start_by(&toml(&folder.log(), "writer = \"auto\"", "", ANY), denied());
    assert_eq!(writer(&gateway), "buffered");
    ask_all(&gateway, 0..5, 10);
    written(&gateway, 5);
    assert_eq!(numbers(&fs::read_to_string(folder.log()).unwrap()), [0, 1, 2, 3, 4]);
    let log = until("its word", || Some(gateway.log()).filter(|log| log.contains("kernel's cache")));
    assert!(
        log.contains("the journal is written by the kernel's cache: ") && !log.contains("panicked"),
        "{log}"
    );
    drop(gateway);

    let path = folder.0.join("direct.toml");
    fs::write(&path, toml(&folder.log(), "writer = \"direct\"", "", ANY)).unwrap();
    let output = denied().arg("serve").arg("-c").arg(&path).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    let text = "log.journal.writer is direct, and that is denied: the kernel denies io_uring";
    assert!(told.contains(text) && told.contains("log.access") && !told.contains("panicked"), "{told}");
    assert_eq!(numbers(&fs::read_to_string(folder.log()).unwrap()).len(), 5, "nothing old is lost");
}

#[test]
fn a_disk_that_is_full_and_then_is_not() {
    for (disk, name) in [(Disk::tmpfs(), "buffered"), (Disk::ext4(), "direct")] {
        let Some(disk) = disk else {
            println!("{name}: mounting is not allowed here");
            continue;
        };
        if !writers().contains(&name) {
            continue;
        }
        let log = disk.path.join("access.log");
        let mut gateway = start(&log, &format!("writer = \"{name}\"\nsync = \"100ms\""));
        ask_all(&gateway, 0..50, 3000);
        written(&gateway, 50);
        disk.fill();
        // Enough that no room within the last block takes them.
        ask_all(&gateway, 50..400, 3000);
        until("it is noticed", || {
            (metric(&gateway, "corelane_journal_write_errors_total") > 1).then_some(())
        });
        let before = numbers(&fs::read_to_string(&log).unwrap());
        assert!(before.len() < 400, "whole lines at most, {} of them", before.len());
        ask_all(&gateway, 400..450, 3000);
        disk.free();
        written(&gateway, 450);
        assert_eq!(numbers(&fs::read_to_string(&log).unwrap()), (0..450).collect::<Vec<_>>(), "{name}");
        assert_eq!(metric(&gateway, "corelane_journal_lines_dropped_total"), 0);
        terminate(&mut gateway); // what it says comes after what it does
        let told = gateway.log();
        let count = |text: &str| told.matches(text).count();
        assert_eq!((count("the journal cannot be written"), count("written again")), (1, 1), "{told}");
    }
}

#[test]
fn a_log_that_takes_nothing() {
    let mut gateway = start(Path::new("/dev/full"), "");
    ask_all(&gateway, 0..5, 10);
    until("it is noticed", || (metric(&gateway, "corelane_journal_write_errors_total") > 1).then_some(()));
    assert_eq!((writer(&gateway), metric(&gateway, "corelane_journal_lines_total")), ("buffered", 0));
    terminate(&mut gateway);
    assert!(gateway.log().contains("5 lines of the journal are lost"), "{}", gateway.log());
}

#[test]
fn a_path_that_is_moved_away() {
    for name in writers() {
        let folder = Folder::make();
        let gateway = start(&folder.log(), &format!("writer = \"{name}\""));
        ask_all(&gateway, 0..5, 10);
        written(&gateway, 5);
        let moved = folder.0.join("access.log.1");
        fs::rename(folder.log(), &moved).unwrap();
        let begin = Instant::now();
        until("a new one", || folder.log().exists().then_some(()));
        assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
        ask_all(&gateway, 5..9, 10);
        written(&gateway, 9);
        assert_eq!(numbers(&fs::read_to_string(&moved).unwrap()), [0, 1, 2, 3, 4]);
        assert_eq!(numbers(&fs::read_to_string(folder.log()).unwrap()), [5, 6, 7, 8]);
    }
}

#[test]
fn a_start_with_an_old_file() {
    for name in writers() {
        let folder = Folder::make();
        let old = "{\"an\":\"old line\"}\n{\"one that was cu";
        fs::write(folder.log(), old).unwrap();
        let mut gateway = start(&folder.log(), &format!("writer = \"{name}\""));
        ask_all(&gateway, 0..3, 5000);
        terminate(&mut gateway);
        let text = texts(&folder.log()).concat();
        let rest = text.strip_prefix(old).and_then(|rest| rest.strip_prefix('\n')).expect("it is kept");
        assert_eq!(numbers(rest), [0, 1, 2]);
    }
}

#[test]
fn an_upgrade_in_place_loses_no_line() {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for name in writers() {
        let folder = Folder::make();
        let (listen, admin, door) = (free(), free(), folder.0.join("door.sock"));
        let server = format!("handover_socket = {door:?}\ndrain_timeout = \"5s\"\n");
        let settings = format!(
            "writer = \"{name}\"\nsegment_bytes_max = \"1MiB\"\nsegments_max = 10000\ncompress = true"
        );
        let toml = toml(&folder.log(), &settings, &server, [&listen, &admin]);
        let mut old = Gateway::start(&toml);
        let stop = AtomicBool::new(false);
        let asked = thread::scope(|scope| {
            let (address, stop) = (old.addr, &stop);
            let load = scope.spawn(move || load(address, stop));
            thread::sleep(Duration::from_millis(500));
            let mut shell = Command::new("sh");
            let script = format!("exec \"$0\" \"$@\" --take-over {door:?}");
            shell.args(["-c", &script, env!("CARGO_BIN_EXE_corelane")]);
            let mut new = Gateway::start_by(&toml, shell);
            assert_eq!(until("the old one's end", || old.exit_code()), 0, "{}", old.log());
            thread::sleep(Duration::from_millis(500));
            stop.store(true, Ordering::Relaxed);
            let asked = load.join().unwrap();
            terminate(&mut new);
            asked
        });
        let mut found = numbers(&texts(&folder.log()).concat());
        found.sort_unstable();
        assert!(asked > 10);
        assert_eq!(found, (0..asked).collect::<Vec<_>>(), "{name}: each answer has its line, once");
    }
}

/// Asks on connections of a few requests until `stop`; how often.
fn load(addr: SocketAddr, stop: &AtomicBool) -> u64 {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut reader = connect(addr);
        for _ in 0..5 {
            let path = format!("/n/{number}/{}", "x".repeat(3000));
            let request = format!("GET {path} HTTP/1.1\r\nHost: gw\r\n\r\n");
            reader.stream().write_all(request.as_bytes()).unwrap();
            let answer = reader.answer(false, Instant::now() + Duration::from_secs(20)).expect("an answer");
            number += 1;
            if answer.field("connection").is_some_and(|value| value.contains("close")) {
                break; // it drains
            }
        }
    }
    number
}

#[test]
fn without_a_file_there_is_no_journal() {
    let folder = Folder::make();
    let text = toml(&folder.log(), "", "", ANY);
    let text = text.replace(&format!("{:?}", folder.log().to_str().unwrap()), "\"stderr\"");
    let gateway = Gateway::start(&text);
    ask_all(&gateway, 0..3, 10);
    assert_eq!((writer(&gateway), metric(&gateway, "corelane_journal_lines_total")), ("off", 0));
    until("the lines", || (gateway.log().matches("/n/").count() >= 3).then_some(()));
    let status: serde_json::Value = serde_json::from_slice(&get(gateway.admin, "/status").2).unwrap();
    assert!(status["journal"].is_null());
}
