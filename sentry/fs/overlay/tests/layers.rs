//! Two tmpfs, one over the other, through vfs.

use abi::Errno;
use ctx::{Dst, Src, SysErr};
use fs_tmpfs::{Options, Tmpfs};
use hostmem::MemoryFile;
use std::sync::Arc;
use time::Clocks;
use vfs::{
    DeviceRegistry, File, FsCtx, Inode, KernelFsCtx, LookupFlags, MountNamespace, MountSpec,
    OpenFlags, Start, walk,
};

/// A tree seen from its root.
struct Tree(KernelFsCtx);

struct World {
    lower: Tree,
    upper: Tree,
    merged: Tree,
}

fn tree(root: Arc<dyn Inode>, clocks: &Arc<Clocks>) -> Tree {
    let mounts = MountNamespace::new(MountSpec::new(root, "test"));
    Tree(KernelFsCtx::new(clocks.clone(), mounts))
}

/// An overlay over what `prepare` makes.
fn world(prepare: impl FnOnce(&Tree)) -> World {
    let clocks = Arc::new(Clocks::new());
    let memory = MemoryFile::new().unwrap();
    let devices = DeviceRegistry::new();
    let make = || {
        let options = Options {
            mode: Some(0o755),
            ..Options::default()
        };
        Tmpfs::root(&memory, &devices, options, &clocks)
    };
    let (lower_root, upper_root) = (make(), make());
    let lower = tree(lower_root.clone(), &clocks);
    prepare(&lower);
    let merged = sentry_fs_overlay::mount(&lower.0, lower_root, upper_root.clone()).unwrap();
    World {
        lower,
        upper: tree(upper_root, &clocks),
        merged: tree(merged, &clocks),
    }
}

fn e<T>(r: Result<T, SysErr>) -> Result<T, Errno> {
    r.map_err(SysErr::errno)
}

impl Tree {
    fn open(&self, path: &str, flags: OpenFlags) -> Result<Arc<File>, Errno> {
        let path = path.as_bytes();
        e(vfs::open(
            &self.0,
            Start::Cwd,
            path,
            flags,
            0o644,
            LookupFlags::empty(),
        ))
    }

    fn write(&self, file: &File, text: &str) {
        assert_eq!(
            e(file.write(&self.0, &mut Src::ours(text.as_bytes()))),
            Ok(text.len())
        );
    }

    fn put(&self, path: &str, text: &str) {
        let flags = OpenFlags::CREAT | OpenFlags::TRUNC | OpenFlags::WRONLY;
        let file = self.open(path, flags).unwrap();
        self.write(&file, text);
    }

    fn read(&self, file: &File) -> String {
        let mut buf = vec![0; 1 << 20];
        let n = e(file.pread(&self.0, 0, &mut Dst::ours(&mut buf))).unwrap();
        String::from_utf8(buf[..n].to_vec()).unwrap()
    }

    fn get(&self, path: &str) -> Result<String, Errno> {
        Ok(self.read(&*self.open(path, OpenFlags::RDONLY)?))
    }

    fn stat(&self, path: &str) -> Result<abi::stat::Stat, Errno> {
        e(vfs::stat(
            &self.0,
            Start::Cwd,
            path.as_bytes(),
            LookupFlags::empty(),
        ))
    }

    fn mkdir(&self, path: &str) -> Result<(), Errno> {
        e(vfs::mkdir(&self.0, Start::Cwd, path.as_bytes(), 0o755))
    }

    fn unlink(&self, path: &str) -> Result<(), Errno> {
        e(vfs::unlink(&self.0, Start::Cwd, path.as_bytes()))
    }

    fn rmdir(&self, path: &str) -> Result<(), Errno> {
        e(vfs::rmdir(&self.0, Start::Cwd, path.as_bytes()))
    }

    fn link(&self, old: &str, new: &str) -> Result<(), Errno> {
        let old = (Start::Cwd, old.as_bytes(), LookupFlags::empty());
        e(vfs::link(&self.0, old, Start::Cwd, new.as_bytes()))
    }

    fn rename(&self, old: &str, new: &str, flags: u32) -> Result<(), Errno> {
        let (old, new) = ((Start::Cwd, old.as_bytes()), (Start::Cwd, new.as_bytes()));
        e(vfs::rename(&self.0, old, new, flags))
    }

    fn inode(&self, path: &str) -> Arc<dyn Inode> {
        let found = walk::resolve(&self.0, Start::Cwd, path.as_bytes(), LookupFlags::empty());
        e(found).unwrap().inode().clone()
    }

    fn list(&self, path: &str) -> Vec<String> {
        let dir = self.open(path, OpenFlags::DIRECTORY).unwrap();
        let names = dir.entries(&self.0).unwrap().into_iter();
        let mut names: Vec<String> = names.map(|(n, ..)| String::from_utf8(n).unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn a_file_is_copied_when_it_is_written() {
    let w = world(|l| {
        l.mkdir("d").unwrap();
        l.put("d/a", &"below".repeat(100_000));
    });
    let before = w.merged.stat("d/a").unwrap();
    let reader = w.merged.open("d/a", OpenFlags::RDONLY).unwrap();
    assert!(w.merged.read(&reader).starts_with("below"));
    assert_eq!(w.upper.list("."), Vec::<String>::new());
    let writer = w.merged.open("d/a", OpenFlags::RDWR).unwrap();
    w.merged.write(&writer, "above");
    assert!(w.merged.read(&reader).starts_with("abovebelow"));
    assert_eq!(w.merged.get("d/a").unwrap().len(), 500_000);
    assert!(w.lower.get("d/a").unwrap().starts_with("belowbelow"));
    let after = w.merged.stat("d/a").unwrap();
    assert_eq!(
        (before.dev, before.ino, before.nlink),
        (after.dev, after.ino, after.nlink)
    );
    assert_eq!(w.upper.list("d"), ["a"]);
}

#[test]
fn attributes_are_copied_with_the_file() {
    let w = world(|l| {
        l.put("a", "text");
        l.inode("a").set_xattr(&l.0, b"user.x", b"1", 0).unwrap();
    });
    let before = w.merged.stat("a").unwrap();
    let place = e(walk::resolve(
        &w.merged.0,
        Start::Cwd,
        b"a",
        LookupFlags::empty(),
    ))
    .unwrap();
    vfs::chmod(&w.merged.0, &place, 0o4711).unwrap();
    let after = w.merged.stat("a").unwrap();
    assert_eq!(after.mode & 0o7777, 0o4711);
    assert_eq!((before.mtime, before.size), (after.mtime, after.size));
    assert_eq!(w.lower.stat("a").unwrap().mode & 0o7777, 0o644);
    let inode = w.merged.inode("a");
    assert_eq!(inode.list_xattr(&w.merged.0).unwrap(), [b"user.x".to_vec()]);
    let ours = inode.get_xattr(&w.merged.0, b"trusted.overlay.origin");
    assert_eq!(ours, Err(Errno::ENODATA));
}

#[test]
fn what_is_removed_stays_removed() {
    let w = world(|l| {
        l.mkdir("d").unwrap();
        l.put("d/a", "a");
        l.put("d/b", "b");
        l.put("c", "c");
    });
    w.merged.unlink("c").unwrap();
    assert_eq!(w.merged.get("c"), Err(Errno::ENOENT));
    assert_eq!(w.merged.unlink("c"), Err(Errno::ENOENT));
    assert_eq!(w.merged.list("."), ["d"]);
    assert_eq!(w.merged.rmdir("d"), Err(Errno::ENOTEMPTY));
    w.merged.put("d/a", "changed");
    w.merged.put("d/new", "new");
    for name in ["d/a", "d/b", "d/new"] {
        w.merged.unlink(name).unwrap();
    }
    assert_eq!(w.merged.list("d"), Vec::<String>::new());
    w.merged.rmdir("d").unwrap();
    assert_eq!(w.merged.list("."), Vec::<String>::new());
    // What is made anew does not show what was there.
    w.merged.mkdir("d").unwrap();
    assert_eq!(w.merged.list("d"), Vec::<String>::new());
    w.merged.put("c", "new");
    assert_eq!(w.merged.get("c").unwrap(), "new");
    assert_eq!(w.lower.list("d"), ["a", "b"]);
    assert_eq!(w.merged.stat("d").unwrap().nlink, 2);
}

#[test]
fn both_layers_are_listed_once() {
    let w = world(|l| {
        l.mkdir("d").unwrap();
        for name in ["d/a", "d/b", "d/c"] {
            l.put(name, name);
        }
    });
    let dir = w.merged.open("d", OpenFlags::DIRECTORY).unwrap();
    w.merged.put("d/b", "changed");
    w.merged.put("d/new", "new");
    w.merged.unlink("d/c").unwrap();
    assert_eq!(w.merged.list("d"), ["a", "b", "new"]);
    assert_eq!(dir.entries(&w.merged.0).unwrap().len(), 3);
    for (name, ino, _) in dir.entries(&w.merged.0).unwrap() {
        let path = format!("d/{}", String::from_utf8(name).unwrap());
        assert_eq!(w.merged.stat(&path).unwrap().ino, ino, "{path}");
    }
}

#[test]
fn files_are_renamed_and_lower_directories_are_not() {
    let w = world(|l| {
        l.mkdir("d").unwrap();
        l.mkdir("empty").unwrap();
        l.put("d/a", "a");
        l.put("b", "b");
    });
    w.merged.rename("d/a", "b", 0).unwrap();
    assert_eq!(w.merged.get("b").unwrap(), "a");
    assert_eq!(w.merged.list("d"), Vec::<String>::new());
    assert_eq!(w.merged.rename("d", "dd", 0), Err(Errno::EXDEV));
    w.merged.mkdir("new").unwrap();
    w.merged.put("new/x", "x");
    w.merged.rename("new", "empty", 0).unwrap();
    assert_eq!(w.merged.get("empty/x").unwrap(), "x");
    assert_eq!(w.merged.list("."), ["b", "d", "empty"]);
    // The place of a lower directory taken by a new one shows nothing of it.
    w.merged.rmdir("d").unwrap();
    w.merged.rename("empty", "d", 0).unwrap();
    assert_eq!(w.merged.list("d"), ["x"]);
    assert_eq!(w.merged.list("."), ["b", "d"]);
    w.merged.put("y", "y");
    w.merged.rename("y", "b", vfs::rename::EXCHANGE).unwrap();
    assert_eq!(
        (w.merged.get("y").unwrap(), w.merged.get("b").unwrap()),
        ("a".into(), "y".into())
    );
    let there = w.merged.rename("y", "b", vfs::rename::NOREPLACE);
    assert_eq!(there, Err(Errno::EEXIST));
}

#[test]
fn the_names_of_a_lower_file_stay_names_of_one_file() {
    let w = world(|l| {
        l.put("a", "text");
        l.link("a", "b").unwrap();
    });
    assert_eq!(w.merged.stat("a").unwrap().nlink, 2);
    w.merged.put("a", "changed");
    assert_eq!(w.merged.get("b").unwrap(), "changed");
    assert_eq!(
        w.merged.stat("b").unwrap().ino,
        w.merged.stat("a").unwrap().ino
    );
    w.merged.link("b", "c").unwrap();
    assert_eq!(w.merged.stat("a").unwrap().nlink, 3);
    w.merged.rename("b", "d", 0).unwrap();
    w.merged.unlink("a").unwrap();
    assert_eq!(w.merged.stat("d").unwrap().nlink, 2);
    w.merged.put("d", "again");
    assert_eq!(w.merged.get("c").unwrap(), "again");
    assert_eq!(w.merged.list("."), ["c", "d"]);
}

#[test]
fn an_open_file_outlives_its_name_in_either_layer() {
    let w = world(|l| l.put("a", "below"));
    let reader = w.merged.open("a", OpenFlags::RDONLY).unwrap();
    w.merged.unlink("a").unwrap();
    assert_eq!(w.merged.read(&reader), "below");
    assert_eq!(reader.attr(&w.merged.0).unwrap().nlink, 0);
    // A change of what has no name any more makes none.
    vfs::chmod(&w.merged.0, reader.path().unwrap(), 0o600).unwrap();
    assert_eq!(reader.attr(&w.merged.0).unwrap().perm, 0o600);
    assert_eq!(w.merged.read(&reader), "below");
    assert_eq!(w.merged.list("."), Vec::<String>::new());
}

#[test]
fn holes_and_symlinks_are_copied_as_such() {
    let w = world(|l| {
        let sparse = l
            .open("sparse", OpenFlags::CREAT | OpenFlags::RDWR)
            .unwrap();
        e(sparse.pwrite(&l.0, 1 << 30, &mut Src::ours(b"end"))).unwrap();
        e(vfs::symlink(&l.0, b"sparse", Start::Cwd, b"link")).unwrap();
    });
    let file = w.merged.open("link", OpenFlags::RDWR).unwrap();
    let attr = file.attr(&w.merged.0).unwrap();
    assert_eq!(attr.size, (1 << 30) + 3);
    assert!(attr.blocks < 10_000, "{}", attr.blocks);
    w.merged.rename("link", "moved", 0).unwrap();
    assert_eq!(w.merged.stat("moved").unwrap().size, 6);
    assert_eq!(w.merged.list("."), ["moved", "sparse"]);
}

#[test]
fn many_below_each_other_are_as_fast_as_few_and_not_too_many() {
    let w = world(|lower| lower.put("/file", "lowest"));
    let clocks = Arc::new(Clocks::new());
    let memory = MemoryFile::new().unwrap();
    let devices = DeviceRegistry::new();
    let make = || Tmpfs::root(&memory, &devices, Options::default(), &clocks);
    let over = |below: &Tree| {
        let upper = make();
        tree(upper.clone(), &clocks).put("/own", "x");
        let root = below.0.mounts().root().inode().clone();
        sentry_fs_overlay::mount(&below.0, root, upper).map(|r| tree(r, &clocks))
    };
    let mut at = w.merged;
    for _ in 1..100 {
        at = over(&at).unwrap();
    }
    assert!(matches!(over(&at), Err(Errno::EINVAL)));
    // Of what is below alone, every level asks the next once.
    let deep = move || {
        let file = at.open("/file", OpenFlags::RDONLY).unwrap();
        let path = file.path().unwrap();
        assert_eq!(path.inode().attr(&at.0).unwrap().nlink, 1);
        at.put("/file", "highest");
    };
    // What a task has.
    let task = std::thread::Builder::new().stack_size(512 << 10);
    task.spawn(deep).unwrap().join().unwrap();
}

#[test]
fn files_of_different_trees_are_never_taken_for_each_other() {
    let clocks = Arc::new(Clocks::new());
    let memory = MemoryFile::new().unwrap();
    let devices = DeviceRegistry::new();
    // The same numbers in each.
    let make = |name: &str| {
        let root = Tmpfs::root(&memory, &devices, Options::default(), &clocks);
        tree(root.clone(), &clocks).put(name, name);
        root
    };
    let mut root = make("/0");
    for name in ["/1", "/2", "/3"] {
        let seen = tree(root.clone(), &clocks);
        root = sentry_fs_overlay::mount(&seen.0, root, make(name)).unwrap();
    }
    let seen = tree(root, &clocks);
    let mut known = Vec::new();
    for name in ["/0", "/1", "/2", "/3"] {
        let file = seen.open(name, OpenFlags::RDONLY).unwrap();
        let mut text = [0; 8];
        let n = e(file.read(&seen.0, &mut Dst::ours(&mut text))).unwrap();
        assert_eq!(&text[..n], name.as_bytes());
        let attr = file.path().unwrap().inode().attr(&seen.0).unwrap();
        known.push((attr.dev, attr.ino));
    }
    known.sort_unstable();
    known.dedup();
    assert_eq!(known.len(), 4);
}
