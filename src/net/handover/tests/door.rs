//! The door: who finds it, who is let in, and whose file it is.

use std::fs::Permissions;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::thread;

use super::super::door::{identity, withdraw};
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const SHORT: Duration = Duration::from_millis(20);

#[test]
fn a_door_is_found_used_and_gone() {
    alone(|| {
        let folder = Folder::new();
        let path = folder.path("door");
        let door = Door::bind(&path).unwrap();
        let file = fs::symlink_metadata(&path).unwrap();
        assert!(file.file_type().is_socket());
        assert_eq!(file.permissions().mode() & 0o7777, 0o600);
        assert_eq!(folder.names(), ["door"]);
        assert!(door.accept(SHORT).unwrap().is_none(), "nobody came");
        assert!(door.accept(Duration::ZERO).unwrap().is_none());

        let sockets = [passed(Purpose::Data, listener()), passed(Purpose::Admin, listener())];
        let client = TcpStream::connect(sockets[0].address).unwrap();
        let taker = thread::spawn(move || {
            let stream = connect(&path).unwrap();
            let taken = take(&stream).unwrap();
            say_ready(&stream).unwrap();
            taken
        });
        let stream = door.accept(10 * SECOND).unwrap().expect("somebody comes");
        assert!(is_close_on_exec(&stream));
        give(&stream, &sockets).unwrap();
        assert_eq!(await_ready(&stream, 10 * SECOND), Verdict::Ready);
        drop(sockets);
        assert!(accepts(&taker.join().unwrap()[0].socket, &client));
        drop(door);
        assert_eq!(folder.names(), Vec::<String>::new());
    });
}

#[test]
fn a_door_left_behind_is_replaced_and_a_live_one_is_not() {
    alone(|| {
        let folder = Folder::new();
        let path = folder.path("door");
        drop(UnixListener::bind(&path).unwrap());
        assert_eq!(folder.names(), ["door"], "left behind");
        let left = identity(&path).unwrap();
        let door = Door::bind(&path).unwrap();
        assert_ne!(identity(&path).unwrap(), left);
        let (kind, text) = message(Door::bind(&path));
        assert_eq!(kind, io::ErrorKind::AddrInUse);
        assert!(text.contains("another process answers"), "{text}");
        // What has looked is gone, which shows when something is sent.
        let looked = door.accept(10 * SECOND).unwrap().unwrap();
        assert!(give(&looked, &[]).is_err());
        assert!(connect(&path).is_ok(), "and the door is as it was");
        drop(door);
        assert_eq!(message(connect(&path)).0, io::ErrorKind::NotFound);
    });
}

#[test]
fn a_door_that_nobody_opens_is_still_a_live_one() {
    alone(|| {
        let folder = Folder::new();
        let path = folder.path("door");
        let busy = UnixListener::bind(&path).unwrap();
        // SAFETY: takes numbers only; shortens the queue of a socket that listens.
        assert_eq!(unsafe { libc::listen(busy.as_raw_fd(), 0) }, 0);
        let queued = connect(&path).unwrap();
        assert_eq!(message(connect(&path)).0, io::ErrorKind::WouldBlock, "does not wait");
        assert_eq!(message(Door::bind(&path)).0, io::ErrorKind::AddrInUse);
        drop(queued);
    });
}

#[test]
fn what_is_no_door_is_left_alone() {
    alone(|| {
        let folder = Folder::new();
        let path = folder.path("door");
        fs::write(&path, "precious").unwrap();
        for refused in [Door::bind(&path), Door::take_over(&path)] {
            assert_eq!(message(refused).0, io::ErrorKind::AlreadyExists);
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let link = folder.path("link");
        symlink(folder.path("nowhere"), &link).unwrap();
        assert_eq!(message(Door::bind(&link)).0, io::ErrorKind::AlreadyExists);
        assert_eq!(message(Door::bind(&folder.0)).0, io::ErrorKind::AlreadyExists);
        let datagrams = folder.path("datagrams");
        let _socket = UnixDatagram::bind(&datagrams).unwrap();
        assert_eq!(message(Door::bind(&datagrams)).0, io::ErrorKind::AddrInUse);
        let long = folder.path(&"x".repeat(107));
        assert_eq!(message(Door::bind(&long)).0, io::ErrorKind::InvalidInput);
        assert_eq!(message(Door::bind(&folder.path("none/door"))).0, io::ErrorKind::NotFound);
        assert_eq!(folder.names(), ["datagrams", "door", "link"]);
    });
}

#[test]
fn a_successor_takes_the_path_and_keeps_it() {
    alone(|| {
        let folder = Folder::new();
        let path = folder.path("door");
        let old = Door::bind(&path).unwrap();
        let early = connect(&path).unwrap();
        let new = Door::take_over(&path).unwrap();
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let late = connect(&path).unwrap();
        assert!(old.accept(10 * SECOND).unwrap().is_some(), "who came early is not lost");
        assert!(old.accept(SHORT).unwrap().is_none());
        assert!(new.accept(10 * SECOND).unwrap().is_some());
        drop(old);
        assert_eq!(folder.names(), ["door"], "the file is the successor's");
        assert!(connect(&path).is_ok());
        drop((early, late));
        drop(new);
        assert_eq!(folder.names(), Vec::<String>::new());
        drop(Door::take_over(&path).unwrap());
        assert_eq!(folder.names(), Vec::<String>::new(), "nothing to take over is a door as well");
    });
}

#[test]
fn a_successor_that_comes_during_the_removal_is_put_back() {
    alone(|| {
        let folder = Folder::new();
        let path = folder.path("door");
        let new = Door::bind(&path).unwrap();
        let own = identity(&path).unwrap();
        withdraw(&path, (own.0, own.1 + 1)).unwrap();
        assert_eq!(identity(&path).unwrap(), own);
        assert_eq!(folder.names(), ["door"]);
        let _client = connect(&path).unwrap();
        assert!(new.accept(10 * SECOND).unwrap().is_some());
        fs::remove_file(&path).unwrap();
        drop(new); // the file is gone: nothing to remove, no harm
        assert_eq!(folder.names(), Vec::<String>::new());
    });
}

#[test]
fn other_users_are_refused() {
    alone(|| {
        // SAFETY: takes nothing.
        if unsafe { libc::geteuid() } != 0 {
            return; // only root can become somebody else; the rule itself is tested beside this
        }
        let folder = Folder::new();
        fs::set_permissions(&folder.0, Permissions::from_mode(0o755)).unwrap();
        let path = folder.path("door");
        let door = Door::bind(&path).unwrap();
        assert_eq!(message(as_nobody(path.clone())).0, io::ErrorKind::PermissionDenied, "by the mode");
        assert!(door.accept(SHORT).unwrap().is_none());
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        let stranger = as_nobody(path.clone()).unwrap();
        let (kind, text) = message(door.accept(10 * SECOND));
        assert_eq!(kind, io::ErrorKind::PermissionDenied);
        assert!(text.contains("user 65534"), "{text}");
        drop(stranger);
        let _root = connect(&path).unwrap();
        assert!(door.accept(10 * SECOND).unwrap().is_some(), "the door stays open");
    });
}

/// A connection made by a thread of user 65534: in Linux, a user id belongs to a thread.
fn as_nobody(path: PathBuf) -> io::Result<UnixStream> {
    let nobody = thread::spawn(move || {
        // SAFETY: takes numbers only, and changes this thread alone, which ends.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
        connect(&path)
    });
    nobody.join().unwrap()
}

#[test]
fn a_door_of_another_user_is_not_believed() {
    alone(|| {
        // SAFETY: takes nothing.
        if unsafe { libc::geteuid() } != 0 {
            return;
        }
        let folder = Folder::new();
        fs::set_permissions(&folder.0, Permissions::from_mode(0o777)).unwrap();
        let path = folder.path("door");
        let there = path.clone();
        let stranger = thread::spawn(move || {
            // SAFETY: as above.
            assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
            UnixListener::bind(there).unwrap()
        });
        let _stranger = stranger.join().unwrap();
        assert_eq!(message(connect(&path)).0, io::ErrorKind::PermissionDenied);
    });
}
