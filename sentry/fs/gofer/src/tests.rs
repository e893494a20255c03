//! Through vfs, against a gofer in a thread over a directory of the host.

use crate::node::Node;
use crate::{Options, connect};
use abi::Errno;
use auth::{CapSet, Creds};
use control::Channel;
use ctx::{Dst, Src, SysErr};
use memmap::{Mappable, Source};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use time::Clocks;
use vfs::{
    DeviceRegistry, File, KernelFsCtx, LookupFlags, MountNamespace, MountSpec, OpenFlags, Start,
    walk,
};

struct World {
    dir: tempfile::TempDir,
    cx: KernelFsCtx,
    /// How often the number of questions was looked at, which counts as one.
    asked: AtomicU64,
}

impl World {
    fn new(exclusive: bool) -> World {
        World::with(exclusive, |_| {})
    }

    fn with(exclusive: bool, prepare: impl FnOnce(&std::path::Path)) -> World {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let root: OwnedFd = std::fs::File::open(dir.path()).unwrap().into();
        let (ours, theirs) = Channel::pair().unwrap();
        let tree = gofer::TreeConfig {
            root,
            connection: theirs.into_socket(),
            readonly: false,
            name: "test".into(),
            below: false,
        };
        std::thread::spawn(move || {
            gofer::Server::new(vec![tree], gofer::Magic::unconfined(), 64)
                .unwrap()
                .run();
        });
        let options = Options {
            exclusive,
            readonly: false,
            devices: DeviceRegistry::new(),
        };
        let root = connect(ours.into_socket(), options).unwrap();
        let mounts = MountNamespace::new(MountSpec::new(root, "gofer"));
        let (uid, gid) = (
            nix::unistd::getuid().as_raw(),
            nix::unistd::getgid().as_raw(),
        );
        let creds = Creds {
            effective: CapSet::ALL,
            ..Creds::user(uid, gid)
        };
        let cx = KernelFsCtx::with_creds(Arc::new(Clocks::new()), mounts, Arc::new(creds));
        let asked = AtomicU64::new(0);
        World { dir, cx, asked }
    }

    fn host(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn open(&self, path: &str, flags: OpenFlags) -> Result<Arc<File>, Errno> {
        let path = path.as_bytes();
        e(vfs::open(
            &self.cx,
            Start::Cwd,
            path,
            flags,
            0o640,
            LookupFlags::empty(),
        ))
    }

    fn put(&self, path: &str, text: &str) {
        let file = self
            .open(path, OpenFlags::CREAT | OpenFlags::WRONLY)
            .unwrap();
        self.write(&file, text);
    }

    fn write(&self, file: &File, text: &str) {
        let n = e(file.write(&self.cx, &mut Src::ours(text.as_bytes()))).unwrap();
        assert_eq!(n, text.len());
    }

    fn read(&self, file: &File) -> String {
        let mut buf = [0; 100];
        let n = e(file.pread(&self.cx, 0, &mut Dst::ours(&mut buf))).unwrap();
        String::from_utf8(buf[..n].to_vec()).unwrap()
    }

    fn get(&self, path: &str) -> Result<String, Errno> {
        Ok(self.read(&*self.open(path, OpenFlags::RDONLY)?))
    }

    fn stat(&self, path: &str) -> Result<abi::stat::Stat, Errno> {
        e(vfs::stat(
            &self.cx,
            Start::Cwd,
            path.as_bytes(),
            LookupFlags::empty(),
        ))
    }

    fn node(&self, path: &str) -> Arc<Node> {
        let path = path.as_bytes();
        let found = walk::resolve(&self.cx, Start::Cwd, path, LookupFlags::empty());
        let inode = e(found).unwrap().inode().clone();
        let node: &Node = inode.as_any().downcast_ref().unwrap();
        node.me.upgrade().unwrap()
    }

    /// How often the gofer was asked so far.
    fn questions(&self) -> u64 {
        self.node("/").fs.client.now().count() - self.asked.fetch_add(1, Ordering::Relaxed)
    }

    fn has_descriptor(&self, path: &str) -> bool {
        self.node(path).any_handle().is_some()
    }

    fn list(&self, path: &str) -> Vec<String> {
        let dir = self.open(path, OpenFlags::DIRECTORY).unwrap();
        let names = dir.entries(&self.cx).unwrap().into_iter();
        let mut names: Vec<String> = names.map(|(n, ..)| String::from_utf8(n).unwrap()).collect();
        names.sort();
        names
    }

    fn rename(&self, old: &str, new: &str, flags: u32) -> Result<(), Errno> {
        let (old, new) = ((Start::Cwd, old.as_bytes()), (Start::Cwd, new.as_bytes()));
        e(vfs::rename(&self.cx, old, new, flags))
    }

    fn unlink(&self, path: &str) -> Result<(), Errno> {
        e(vfs::unlink(&self.cx, Start::Cwd, path.as_bytes()))
    }
}

fn e<T>(r: Result<T, SysErr>) -> Result<T, Errno> {
    r.map_err(SysErr::errno)
}

#[test]
fn what_is_written_is_on_the_host_and_in_the_attributes() {
    for exclusive in [true, false] {
        let w = World::new(exclusive);
        let file = w
            .open("a", OpenFlags::CREAT | OpenFlags::EXCL | OpenFlags::RDWR)
            .unwrap();
        w.write(&file, "hello ");
        assert_eq!(w.stat("a").unwrap().size, 6);
        w.write(&file, "world");
        assert_eq!(w.stat("a").unwrap().size, 11);
        assert_eq!(w.read(&file), "hello world");
        assert_eq!(std::fs::read(w.host("a")).unwrap(), b"hello world");
        let host = std::fs::metadata(w.host("a")).unwrap();
        assert_eq!(
            (host.mode() & 0o7777, host.ino()),
            (0o640, w.stat("a").unwrap().ino)
        );
        assert_eq!(host.mtime(), w.stat("a").unwrap().mtime.sec);
        drop(file);
        let file = w.open("a", OpenFlags::TRUNC | OpenFlags::WRONLY).unwrap();
        assert_eq!(w.stat("a").unwrap().size, 0);
        drop(file);
        assert_eq!(w.get("a").unwrap(), "");
    }
}

#[test]
fn appends_go_to_the_end_whoever_wrote_last() {
    let w = World::new(false);
    w.put("log", "one\n");
    let log = w
        .open("log", OpenFlags::WRONLY | OpenFlags::APPEND)
        .unwrap();
    w.write(&log, "two\n");
    use std::io::Write;
    let mut host = std::fs::File::options()
        .append(true)
        .open(w.host("log"))
        .unwrap();
    host.write_all(b"host\n").unwrap();
    w.write(&log, "three\n");
    assert_eq!(log.position(), 19);
    assert_eq!(w.get("log").unwrap(), "one\ntwo\nhost\nthree\n");
}

#[test]
fn names_come_and_go() {
    for exclusive in [true, false] {
        let w = World::with(exclusive, |dir| {
            std::fs::create_dir(dir.join("d")).unwrap();
            std::fs::write(dir.join("d/old"), "old").unwrap();
            symlink("d/old", dir.join("s")).unwrap();
        });
        assert_eq!(w.get("s").unwrap(), "old");
        for name in ["x", "y", "z", "v", "w"] {
            assert_eq!(w.stat(name).err(), Some(Errno::ENOENT));
        }
        assert_eq!(w.list("."), ["d", "s"]);
        w.put("new", "new");
        w.put("d/more", "more");
        assert_eq!(w.list("."), ["d", "new", "s"]);
        w.rename("new", "d/old", 0).unwrap();
        assert_eq!(w.get("s").unwrap(), "new");
        assert_eq!(w.list("d"), ["more", "old"]);
        w.rename("d/old", "d/more", vfs::rename::EXCHANGE).unwrap();
        assert_eq!(w.get("d/more").unwrap(), "new");
        assert_eq!(w.get("d/old").unwrap(), "more");
        assert_eq!(
            w.rename("d/old", "d/more", vfs::rename::NOREPLACE),
            Err(Errno::EEXIST)
        );
        w.rename("d", "dd", 0).unwrap();
        assert_eq!(w.get("dd/old").unwrap(), "more");
        assert_eq!(
            e(vfs::rmdir(&w.cx, Start::Cwd, b"dd")),
            Err(Errno::ENOTEMPTY)
        );
        w.unlink("dd/old").unwrap();
        w.unlink("dd/more").unwrap();
        e(vfs::rmdir(&w.cx, Start::Cwd, b"dd")).unwrap();
        assert_eq!(w.list("."), ["s"]);
        assert_eq!(std::fs::read_dir(w.dir.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_listing_is_an_access() {
    for exclusive in [true, false] {
        let w = World::with(exclusive, |dir| {
            for n in 0..20 {
                std::fs::create_dir(dir.join(n.to_string())).unwrap();
            }
        });
        for n in 0..20 {
            let name = n.to_string();
            w.stat(&name).unwrap();
            w.list(&name);
            let seen = w.stat(&name).unwrap();
            let host = std::fs::metadata(w.host(&name)).unwrap();
            let seen = (seen.atime.sec, seen.atime.nsec);
            assert_eq!(seen, (host.atime(), host.atime_nsec()));
        }
    }
}

#[test]
fn an_open_file_outlives_its_name() {
    for exclusive in [true, false] {
        let w = World::new(exclusive);
        w.put("a", "data");
        let file = w.open("a", OpenFlags::RDONLY).unwrap();
        w.unlink("a").unwrap();
        assert_eq!(w.read(&file), "data");
        assert_eq!(file.attr(&w.cx).unwrap().nlink, 0);
        w.put("a", "another");
        assert_eq!(w.read(&file), "data");
        assert_ne!(w.stat("a").unwrap().ino, file.attr(&w.cx).unwrap().ino);
    }
}

#[test]
fn two_names_are_one_file() {
    for exclusive in [true, false] {
        let w = World::new(exclusive);
        w.put("a", "data");
        let old = (Start::Cwd, &b"a"[..], LookupFlags::empty());
        e(vfs::link(&w.cx, old, Start::Cwd, b"b")).unwrap();
        let (a, b) = (w.stat("a").unwrap(), w.stat("b").unwrap());
        assert_eq!((a.ino, a.nlink), (b.ino, 2));
        let place = |path: &str| {
            let flags = LookupFlags::empty();
            e(walk::resolve(&w.cx, Start::Cwd, path.as_bytes(), flags)).unwrap()
        };
        assert!(Arc::ptr_eq(place("a").inode(), place("b").inode()));
        vfs::chmod(&w.cx, &place("a"), 0o4755).unwrap();
        assert_eq!(w.stat("b").unwrap().mode & 0o7777, 0o4755);
        w.unlink("a").unwrap();
        assert_eq!(w.stat("b").unwrap().nlink, 1);
    }
}

#[test]
fn a_shared_tree_shows_what_the_host_does() {
    let w = World::new(false);
    assert_eq!(w.get("a"), Err(Errno::ENOENT));
    std::fs::write(w.host("a"), "first").unwrap();
    assert_eq!(w.get("a").unwrap(), "first");
    assert_eq!(w.list("."), ["a"]);
    std::fs::write(w.host("b"), "second").unwrap();
    std::fs::rename(w.host("b"), w.host("a")).unwrap();
    assert_eq!(w.get("a").unwrap(), "second");
    std::fs::remove_file(w.host("a")).unwrap();
    assert_eq!(w.get("a"), Err(Errno::ENOENT));
    assert_eq!(w.list("."), Vec::<String>::new());
}

#[test]
fn mappings_are_of_the_hosts_file() {
    let w = World::new(true);
    w.put("a", "data");
    let file = w.open("a", OpenFlags::RDONLY).unwrap();
    let mapped: Arc<dyn Mappable> = file.ops().mappable(&w.cx, &file).unwrap();
    let t = mapped.translate(0, 1 << 20, false).unwrap();
    assert_eq!(t.len, 4096);
    assert!(matches!(t.source, Source::Host { offset: 0, .. }));
    assert_eq!(
        mapped.translate(4096, 4096, false).err(),
        Some(Errno::EFAULT)
    );
    assert_eq!(mapped.identity().path, b"/a");
    assert!(mapped.translate(0, 4096, true).is_ok());
}

#[test]
fn many_entries_are_listed_once_each() {
    for exclusive in [true, false] {
        let w = World::with(exclusive, |dir| {
            for i in 0..3000 {
                std::fs::write(dir.join(format!("file-with-a-long-name-{i}")), "").unwrap();
            }
        });
        let names = w.list(".");
        assert_eq!(names.len(), 3000);
        assert!(names.windows(2).all(|w| w[0] != w[1]));
        assert!(w.stat("file-with-a-long-name-2999").is_ok());
        assert_eq!(w.stat("no").err(), Some(Errno::ENOENT));
    }
}

#[test]
fn going_through_a_tree_asks_about_twice_for_each_directory() {
    const DIRECTORIES: u64 = 30;
    let w = World::with(true, |dir| {
        for d in 0..DIRECTORIES {
            std::fs::create_dir(dir.join(format!("{d}"))).unwrap();
            for f in 0..50 {
                std::fs::write(dir.join(format!("{d}/{f}")), "text").unwrap();
            }
        }
    });
    let before = w.questions();
    for d in 0..DIRECTORIES {
        for f in 0..50 {
            assert_eq!(w.stat(&format!("{d}/{f}")).unwrap().size, 4);
        }
        assert_eq!(w.stat(&format!("{d}/no")).err(), Some(Errno::ENOENT));
    }
    let asked = w.questions() - before;
    assert!(asked < 3 * DIRECTORIES + 60, "{asked} questions");
}

#[test]
fn files_that_nobody_opens_are_not_opened_with_their_look_up() {
    let w = World::with(true, |dir| {
        for d in 0..200 {
            std::fs::create_dir(dir.join(format!("{d}"))).unwrap();
            std::fs::write(dir.join(format!("{d}/f")), "text").unwrap();
        }
    });
    let donated = || {
        (0..200)
            .filter(|d| w.has_descriptor(&format!("{d}/f")))
            .count()
    };
    for d in 0..200 {
        w.stat(&format!("{d}/f")).unwrap();
    }
    let first = donated();
    assert!((1..100).contains(&first), "{first} descriptors of 200");
    // One that is of use brings them back.
    let used = (0..200).find(|d| w.has_descriptor(&format!("{d}/f")));
    let before = w.questions();
    assert_eq!(w.get(&format!("{}/f", used.unwrap())).unwrap(), "text");
    assert_eq!(w.questions(), before);
    std::fs::write(w.host("0/late"), "text").unwrap();
    w.stat("0/late").unwrap();
    assert!(w.has_descriptor("0/late"));
}

#[test]
fn special_files_are_the_sandboxes_own() {
    let w = World::new(true);
    e(vfs::mknod(&w.cx, Start::Cwd, b"fifo", 0o010644, 0)).unwrap();
    let reader = w
        .open("fifo", OpenFlags::RDONLY | OpenFlags::NONBLOCK)
        .unwrap();
    let writer = w
        .open("fifo", OpenFlags::WRONLY | OpenFlags::NONBLOCK)
        .unwrap();
    w.write(&writer, "through");
    let mut buf = [0; 20];
    assert_eq!(e(reader.read(&w.cx, &mut Dst::ours(&mut buf))), Ok(7));
    let device = vfs::mknod(
        &w.cx,
        Start::Cwd,
        b"null",
        0o020666,
        abi::stat::makedev(1, 3),
    );
    assert_eq!(e(device), Err(Errno::EPERM));
    let endpoint = Arc::new(5u32);
    e(vfs::bind_socket(
        &w.cx,
        Start::Cwd,
        b"sock",
        0o755,
        endpoint,
    ))
    .unwrap();
    let flags = LookupFlags::empty();
    let place = e(walk::resolve(&w.cx, Start::Cwd, b"sock", flags)).unwrap();
    let found = place.inode().socket().unwrap().downcast::<u32>().unwrap();
    assert_eq!(*found, 5);
    assert_eq!(w.open("sock", OpenFlags::RDONLY).err(), Some(Errno::ENXIO));
}

#[test]
fn a_file_without_a_name_can_get_one() {
    let w = World::new(true);
    let file = w.open(".", OpenFlags::TMPFILE | OpenFlags::RDWR).unwrap();
    w.write(&file, "text");
    assert_eq!(w.list("."), Vec::<String>::new());
    let target = file.path().unwrap().inode().clone();
    let dir = w.open(".", OpenFlags::DIRECTORY).unwrap();
    dir.path()
        .unwrap()
        .inode()
        .link(&w.cx, b"named", &target)
        .unwrap();
    assert_eq!(w.get("named").unwrap(), "text");
}
