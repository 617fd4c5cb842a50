//! Folders and small disks for a journal, and what stands in its files.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

fn fresh(what: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name =
        format!("corelane-journal-{what}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

/// A folder for one gateway; removed when dropped.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn make() -> Folder {
        Folder(fresh("test"))
    }

    /// The path of the access log.
    pub fn log(&self) -> PathBuf {
        self.0.join("access.log")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A small file system; unmounted when dropped.
pub struct Disk {
    /// Where it is mounted.
    pub path: PathBuf,
    image: Option<PathBuf>,
}

impl Disk {
    /// In memory. `None`: this user may not mount.
    pub fn tmpfs() -> Option<Disk> {
        let disk = Disk { path: fresh("tmpfs"), image: None };
        mount(&disk, &["-t", "tmpfs", "-o", "size=4m", "corelane-journal"]).then_some(disk)
    }

    /// In a file that is a block device, so that it can be written directly.
    pub fn ext4() -> Option<Disk> {
        let path = fresh("ext4");
        let image = path.with_extension("img");
        File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let disk = Disk { path, image: Some(image.clone()) };
        let image = image.to_str().unwrap();
        (run(Command::new("mkfs.ext4").args(["-q", "-F", image])) && mount(&disk, &["-o", "loop", image]))
            .then_some(disk)
    }

    /// Takes all space.
    pub fn fill(&self) {
        let mut filler = File::create(self.path.join("filler")).unwrap();
        for size in [1 << 16, 1 << 12, 1] {
            while filler.write_all(&vec![b'x'; size]).and_then(|()| filler.sync_data()).is_ok() {}
        }
    }

    /// Gives it back.
    pub fn free(&self) {
        fs::remove_file(self.path.join("filler")).unwrap();
    }
}

fn mount(disk: &Disk, arguments: &[&str]) -> bool {
    run(Command::new("mount").args(arguments).arg(&disk.path))
}

fn run(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

impl Drop for Disk {
    fn drop(&mut self) {
        run(Command::new("umount").arg("--lazy").arg(&self.path));
        let _ = fs::remove_dir(&self.path);
        if let Some(image) = &self.image {
            let _ = fs::remove_file(image);
        }
    }
}

/// The closed segments beside `log`, the oldest first.
pub fn closed(log: &Path) -> Vec<PathBuf> {
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let number = |path: &PathBuf| name(path).split(['-', '.']).nth(2).unwrap().parse::<u64>().unwrap();
    let files = fs::read_dir(log.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let mut closed: Vec<PathBuf> =
        files.filter(|path| name(path).starts_with("access-") && !name(path).ends_with(".part")).collect();
    closed.sort_by_key(number);
    closed
}

/// The texts of all segments in order, compressed or not.
pub fn texts(log: &Path) -> Vec<String> {
    let read = |path: &PathBuf| {
        let file = File::open(path).unwrap();
        let mut text = String::new();
        if path.extension().is_some_and(|extension| extension == "gz") {
            flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
        } else {
            (&file).read_to_string(&mut text).unwrap();
        }
        text
    };
    closed(log).iter().chain([&log.to_owned()]).map(read).collect()
}

/// The numbers that were asked for, by the lines of `text`, each of which is a JSON object.
pub fn numbers(text: &str) -> Vec<u64> {
    assert!(text.is_empty() || text.ends_with('\n'), "the last line is cut");
    let number = |line: &str| {
        let line: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        line["request"].as_str().unwrap().split('/').nth(2).unwrap().parse().unwrap()
    };
    text.lines().map(number).collect()
}
