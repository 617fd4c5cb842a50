use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::archive::{self, Care};
use super::buffered::{self, Buffered, Writer};
use super::direct::{self, Direct};
use super::names::Names;
use super::queue::Queue;
use super::recorder::{self, Recorder, Rules, Tell};
use super::segment::{self, Segment};

const CARE: Care = Care { segments_max: 1000, compress: false, sync: false };
const RULES: Rules = Rules { bytes_max: 10_000, age_max_ms: 0, sync_ms: 1, care: CARE };

/// A folder for one test.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("corelane-journal-unit-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn names(&self) -> Names {
        Names::of(self.0.join("access.log"))
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }

    /// Texts of the closed segments in order, and of the open one.
    fn texts(&self) -> Vec<String> {
        let mut closed = segment::list(&self.names()).unwrap();
        closed.sort();
        closed.iter().map(|one| one.name.as_str()).chain(["access.log"]).map(|name| self.read(name)).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn tell() -> (Box<Tell>, Receiver<String>) {
    let (told, heard) = channel();
    (Box::new(move |_, text| told.send(text.to_string()).unwrap()), heard)
}

/// Lines of many lengths, each with its number.
fn lines(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("{at:06} {}", "x".repeat(at * 37 % 900))).collect()
}

fn queue(lines: &[String]) -> Queue {
    let queue = Queue::default();
    // As shards push: sometimes one, mostly several.
    lines.chunks(1 + lines.len() % 7).for_each(|some| queue.push((some.join("\n") + "\n").as_bytes()));
    queue
}

/// Runs until nothing waits.
async fn until_empty<W: Writer>(recorder: &mut Recorder<'_>, writer: &mut W) {
    writer.open(&recorder.segment.file).await.unwrap();
    recorder.run(writer, &AtomicBool::new(true)).await;
}

fn write(recorder: &mut Recorder<'_>) {
    buffered::run(until_empty(recorder, &mut Buffered::default()));
}

/// As `write`, by glommio; `false`: it is denied here.
fn write_directly(recorder: &mut Recorder<'_>) -> bool {
    match direct::executor(&recorder.segment.file) {
        Ok(executor) => executor.run(until_empty(recorder, &mut Direct::default())),
        Err(reason) => println!("direct writing is denied here: {reason}"),
    }
    recorder.segment.length > 0
}

fn first(names: &Names) -> Segment {
    Segment::first(names, recorder::now()).unwrap()
}

fn open(path: &Path) -> File {
    OpenOptions::new().append(true).open(path).unwrap()
}

#[test]
fn lines_are_whole_in_order_and_segments_short() {
    for directly in [false, true] {
        let (folder, (tell, heard)) = (Folder::make(), tell());
        let (names, lines) = (folder.names(), [lines(2000), vec!["y".repeat(30_000)], lines(100)].concat());
        let queue = queue(&lines);
        let mut recorder = Recorder::new(&queue, &*tell, &names, RULES, first(&names));
        if directly && !write_directly(&mut recorder) {
            continue;
        }
        write(&mut recorder);
        let texts = folder.texts();
        assert_eq!(texts.concat(), lines.join("\n") + "\n");
        assert!(texts.iter().all(|text| text.ends_with('\n')));
        let long = texts.iter().filter(|text| text.len() > 10_000).count();
        assert_eq!(long, 1, "but for the line that is longer than a segment");
        assert!(texts.len() > 80);
        let counts = &queue.counts;
        assert_eq!(counts.segments.load(Ordering::Relaxed), texts.len() as u64 - 1);
        assert_eq!(counts.lines.load(Ordering::Relaxed), lines.len() as u64);
        assert_eq!(counts.bytes.load(Ordering::Relaxed), texts.concat().len() as u64);
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), [""; 0]);
    }
}

#[test]
fn direct_writes_of_any_length_append_at_any_offset() {
    let (folder, (tell, _heard)) = (Folder::make(), tell());
    let (names, lines) = (folder.names(), lines(3000));
    let rules = Rules { bytes_max: 1 << 30, ..RULES };
    fs::write(&names.path, "an old line\nand one that was cut").unwrap();
    let mut at = 0;
    for (turn, count) in [1, 7, 30, 500, 2, 2000, 1, 300, 159].into_iter().enumerate() {
        let queue = queue(&lines[at..at + count]);
        at += count;
        let mut recorder = Recorder::new(&queue, &*tell, &names, rules, first(&names));
        assert_eq!(recorder.segment.is_cut, turn == 0);
        if !write_directly(&mut recorder) {
            return;
        }
        let expected = format!("an old line\nand one that was cut\n{}\n", lines[..at].join("\n"));
        assert_eq!(folder.read("access.log"), expected);
    }
    assert_eq!(at, lines.len());
}

#[test]
fn a_segment_of_another_process_is_closed_and_left_to_it() {
    let (folder, (tell, heard)) = (Folder::make(), tell());
    let names = folder.names();
    let old_queue = queue(&["old 1".to_owned()]);
    let mut old = Recorder::new(&old_queue, &*tell, &names, RULES, first(&names));
    write(&mut old);
    // Its successor starts.
    let new_queue = queue(&["new 1".to_owned()]);
    let care = Care { segments_max: 1, compress: true, sync: true };
    let mut new = Recorder::new(&new_queue, &*tell, &names, Rules { care, ..RULES }, first(&names));
    write(&mut new);
    assert_eq!(folder.texts(), ["old 1\n", "new 1\n"]);
    // The old one writes on, beyond the length of a segment, and never at the path.
    let more = lines(100);
    old_queue.push(format!("{}\n", more.join("\n")).as_bytes());
    write(&mut old);
    let texts = folder.texts();
    assert!(texts.len() > 3, "{}", texts.len());
    assert_eq!(texts.last().map(String::as_str), Some("new 1\n"));
    assert_eq!(texts[..texts.len() - 1].concat(), format!("old 1\n{}\n", more.join("\n")));
    // What it still has is neither compressed nor deleted by the other.
    let mut closed = segment::list(&names).unwrap();
    closed.sort();
    let last = closed.pop().unwrap().name;
    let tidied = archive::tidy(&names, care, Vec::new());
    assert!(tidied.is_busy && tidied.errors.is_empty(), "{tidied:?}");
    assert_eq!(segment::list(&names).unwrap().len(), 1);
    assert!(folder.0.join(&last).exists());
    drop(old);
    assert!(!archive::tidy(&names, care, Vec::new()).is_busy);
    assert!(!folder.0.join(&last).exists() && folder.0.join(format!("{last}.gz")).exists());
    // When the new one is gone, its path is free.
    drop(new);
    assert_eq!(first(&names).length, 6);
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn a_path_that_was_moved_or_truncated_is_noticed() {
    let (folder, (tell, heard)) = (Folder::make(), tell());
    let names = folder.names();
    let queue = queue(&["1".to_owned()]);
    let mut recorder = Recorder::new(&queue, &*tell, &names, RULES, first(&names));
    write(&mut recorder);
    fs::rename(&names.path, folder.0.join("moved")).unwrap();
    let mut recorder = Recorder::new(&queue, &*tell, &names, RULES, recorder.segment); // looks at once
    queue.push(b"2\n");
    write(&mut recorder);
    assert_eq!((folder.read("moved"), folder.read("access.log")), ("1\n".to_owned(), "2\n".to_owned()));
    assert_eq!(heard.try_iter().count(), 1);
    open(&names.path).set_len(0).unwrap();
    queue.push(b"3\n");
    write(&mut recorder);
    assert_eq!(folder.read("access.log"), "3\n");
    // Another file is there already, as logrotate's `create` makes it.
    fs::rename(&names.path, folder.0.join("moved again")).unwrap();
    File::create(&names.path).unwrap();
    let mut recorder = Recorder::new(&queue, &*tell, &names, RULES, recorder.segment);
    queue.push(b"4\n");
    write(&mut recorder);
    assert_eq!((folder.read("moved again"), folder.read("access.log")), ("3\n".to_owned(), "4\n".to_owned()));
}

#[test]
fn a_segment_is_closed_by_age() {
    let (folder, (tell, _heard)) = (Folder::make(), tell());
    let names = folder.names();
    let queue = queue(&["1".to_owned()]);
    let rules = Rules { age_max_ms: 1, ..RULES };
    let mut recorder = Recorder::new(&queue, &*tell, &names, rules, first(&names));
    write(&mut recorder);
    assert_eq!(folder.texts(), ["1\n"]);
    std::thread::park_timeout(Duration::from_millis(5));
    write(&mut recorder);
    assert_eq!(folder.texts(), ["1\n", ""], "without a line");
    write(&mut recorder);
    assert_eq!(folder.texts(), ["1\n", ""], "an empty one is never closed");
    // A file found is as old as it is.
    std::thread::park_timeout(Duration::from_millis(5));
    open(&names.path).write_all(b"2\n").unwrap();
    drop(recorder);
    let mut recorder = Recorder::new(&queue, &*tell, &names, rules, first(&names));
    write(&mut recorder);
    assert_eq!(folder.texts(), ["1\n", "2\n", ""]);
}

/// Fails so many times, each after a part of the bytes.
struct Failing(u32);

impl Writer for Failing {
    async fn open(&mut self, _file: &File) -> io::Result<()> {
        Ok(())
    }

    async fn write(&mut self, mut file: &File, bytes: &[u8], _at: u64) -> io::Result<()> {
        if self.0 > 0 {
            self.0 -= 1;
            file.write_all(&bytes[..bytes.len() / 2])?;
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        file.write_all(bytes)
    }

    async fn sync(&mut self, _file: &File, _to_the_end: bool) -> io::Result<()> {
        Ok(())
    }

    async fn rest(&mut self, time: Duration) {
        std::thread::park_timeout(time);
    }
}

#[test]
fn a_write_that_fails_is_cut_off_and_tried_again() {
    let (folder, (tell, heard)) = (Folder::make(), tell());
    let (names, lines) = (folder.names(), lines(20));
    let queue = queue(&lines);
    let mut recorder = Recorder::new(&queue, &*tell, &names, RULES, first(&names));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (stop, queue) = (&stop, &queue);
        scope.spawn(move || {
            while queue.counts.lines.load(Ordering::Relaxed) < 20 {
                std::thread::park_timeout(Duration::from_millis(2));
            }
            stop.store(true, Ordering::Release);
        });
        buffered::run(recorder.run(&mut Failing(3), stop));
    });
    assert_eq!(folder.texts().concat(), lines.join("\n") + "\n");
    let told: Vec<_> = heard.try_iter().collect();
    assert!(told[0].contains("cannot be written") && told[1].contains("written again"), "{told:?}");
    assert_eq!((told.len(), queue.counts.errors.load(Ordering::Relaxed)), (2, 3));
}

#[test]
fn what_cannot_be_written_at_the_end_is_counted() {
    let (folder, (tell, heard)) = (Folder::make(), tell());
    let (names, lines) = (folder.names(), lines(20));
    let queue = queue(&lines);
    let mut recorder = Recorder::new(&queue, &*tell, &names, RULES, first(&names));
    buffered::run(recorder.run(&mut Failing(u32::MAX), &AtomicBool::new(true)));
    let kept = folder.texts().concat();
    assert!((lines.join("\n") + "\n").starts_with(&kept), "{kept}");
    assert!(kept.is_empty() || kept.ends_with('\n'), "no part of a line is left: {kept}");
    let lost = 20 - kept.lines().count() as u64;
    assert!(lost > 0, "half of what is left is never all");
    assert_eq!(queue.counts.dropped.load(Ordering::Relaxed), lost);
    assert_eq!(queue.counts.lines.load(Ordering::Relaxed), 20 - lost);
    assert!(heard.try_iter().any(|text| text.contains(&format!("{lost} lines of the journal are lost"))));
}

#[test]
fn closed_segments_are_compressed_and_the_oldest_deleted() {
    let folder = Folder::make();
    let names = folder.names();
    for number in 1..=6 {
        fs::write(folder.0.join(names.closed(number, number)), format!("{number}\n").repeat(1000)).unwrap();
    }
    let part = folder.0.join(format!("{}.gz.part", names.closed(0, 99)));
    for other in [&part, &folder.0.join("access-notes.log"), &names.path] {
        fs::write(other, "x").unwrap();
    }
    let care = Care { segments_max: 3, compress: true, sync: true };
    let tidied = archive::tidy(&names, care, Vec::new());
    assert!(!tidied.is_busy && tidied.errors.is_empty(), "{tidied:?}");
    let mut left: Vec<_> = fs::read_dir(&folder.0)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    let gz = |number| format!("{}.gz", names.closed(number, number));
    assert_eq!(left, [gz(4), gz(5), gz(6), "access-notes.log".into(), "access.log".into()]);
    let mut text = String::new();
    let file = File::open(folder.0.join(gz(4))).unwrap();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    assert_eq!(text, "4\n".repeat(1000));
}
