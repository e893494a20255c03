//! Names that come, go and move.

use crate::common::*;
use abi::Errno;
use vfs::rename::{EXCHANGE, NOREPLACE, WHITEOUT};
use vfs::{MountFlags, OpenFlags as O, Start};

#[test]
fn making_and_removing() {
    let w = World::new();
    let cx = &w.cx;
    mkdir(cx, "/d").unwrap();
    assert_eq!(mkdir(cx, "/d"), Err(Errno::EEXIST));
    assert_eq!(mkdir(cx, "/"), Err(Errno::EEXIST));
    assert_eq!(mkdir(cx, "/d/."), Err(Errno::EEXIST));
    put(cx, "/d/f", "");
    assert_eq!(rmdir(cx, "/d"), Err(Errno::ENOTEMPTY));
    assert_eq!(rmdir(cx, "/d/f"), Err(Errno::ENOTDIR));
    assert_eq!(rmdir(cx, "/d/."), Err(Errno::EINVAL));
    assert_eq!(rmdir(cx, "/d/.."), Err(Errno::ENOTEMPTY));
    assert_eq!(rmdir(cx, "/"), Err(Errno::EBUSY));
    assert_eq!(unlink(cx, "/d"), Err(Errno::EISDIR));
    assert_eq!(unlink(cx, "/d/f/"), Err(Errno::ENOTDIR));
    assert_eq!(unlink(cx, "/d/g"), Err(Errno::ENOENT));
    unlink(cx, "/d/f").unwrap();
    assert_eq!(stat(cx, "/d").unwrap().nlink, 2);
    let root_links = stat(cx, "/").unwrap().nlink;
    rmdir(cx, "/d/").unwrap();
    assert_eq!(stat(cx, "/").unwrap().nlink, root_links - 1);
    assert_eq!(stat(cx, "/d").err(), Some(Errno::ENOENT));
}

#[test]
fn what_is_unlinked_lives_while_open() {
    let w = World::new();
    let cx = &w.cx;
    put(cx, "/f", "still");
    let f = open(cx, "/f", O::RDONLY).unwrap();
    unlink(cx, "/f").unwrap();
    assert_eq!(read(cx, &f, 10).unwrap(), b"still");
    assert_eq!(vfs::fstat(cx, &f).unwrap().nlink, 0);
    assert_eq!(f.name(), b"/f (deleted)");
    assert!(w.memory.usage() > 0);
    drop(f);
    assert_eq!(w.memory.usage(), 0);
}

#[test]
fn hard_links_share_the_file() {
    let w = World::new();
    let cx = &w.cx;
    put(cx, "/a", "1");
    mkdir(cx, "/d").unwrap();
    link(cx, "/a", "/d/b").unwrap();
    assert_eq!(stat(cx, "/a").unwrap().nlink, 2);
    assert_eq!(stat(cx, "/a").unwrap().ino, stat(cx, "/d/b").unwrap().ino);
    put(cx, "/d/b", "two");
    assert_eq!(get(cx, "/a").unwrap(), "two");
    assert_eq!(link(cx, "/a", "/d/b"), Err(Errno::EEXIST));
    assert_eq!(link(cx, "/d", "/e"), Err(Errno::EPERM));
    assert_eq!(link(cx, "/none", "/e"), Err(Errno::ENOENT));
    // Two names of one file: nothing happens.
    rename(cx, "/a", "/d/b", 0).unwrap();
    assert!(stat(cx, "/a").is_ok());
    unlink(cx, "/a").unwrap();
    assert_eq!(stat(cx, "/d/b").unwrap().nlink, 1);
}

#[test]
fn renaming_moves_and_replaces() {
    let w = World::new();
    let cx = &w.cx;
    for d in ["/a", "/a/sub", "/b", "/b/full"] {
        mkdir(cx, d).unwrap();
    }
    put(cx, "/b/full/x", "");
    put(cx, "/f", "f");
    put(cx, "/g", "g");
    let g = open(cx, "/g", O::RDONLY).unwrap();
    rename(cx, "/f", "/g", 0).unwrap();
    assert_eq!(get(cx, "/g").unwrap(), "f");
    assert_eq!(read(cx, &g, 10).unwrap(), b"g");
    assert_eq!(stat(cx, "/f").err(), Some(Errno::ENOENT));

    assert_eq!(rename(cx, "/a", "/a/sub/x", 0), Err(Errno::EINVAL));
    assert_eq!(rename(cx, "/a/sub", "/a", 0), Err(Errno::ENOTEMPTY));
    assert_eq!(rename(cx, "/a/sub", "/b/full", 0), Err(Errno::ENOTEMPTY));
    assert_eq!(rename(cx, "/a", "/g", 0), Err(Errno::ENOTDIR));
    assert_eq!(rename(cx, "/g", "/a", 0), Err(Errno::EISDIR));
    assert_eq!(rename(cx, "/g", "/h/", 0), Err(Errno::ENOTDIR));
    assert_eq!(rename(cx, "/a/.", "/h", 0), Err(Errno::EBUSY));
    assert_eq!(rename(cx, "/g", "/b", NOREPLACE), Err(Errno::EEXIST));
    assert_eq!(
        rename(cx, "/g", "/h", EXCHANGE | NOREPLACE),
        Err(Errno::EINVAL)
    );

    let sub = place(cx, "/a/sub").unwrap();
    rename(cx, "/a/sub", "/b/moved", 0).unwrap();
    assert_eq!(sub.text(), b"/b/moved");
    assert_eq!(sub.parent(), place(cx, "/b").unwrap());
    assert_eq!(
        (stat(cx, "/a").unwrap().nlink, stat(cx, "/b").unwrap().nlink),
        (2, 4)
    );
    put(cx, "/b/moved/new", "");
    assert_eq!(list(cx, "/b"), ["full", "moved"]);
}

#[test]
fn exchange_and_whiteout() {
    let w = World::new();
    let cx = &w.cx;
    put(cx, "/f", "f");
    mkdir(cx, "/d").unwrap();
    put(cx, "/d/g", "g");
    rename(cx, "/f", "/d/g", EXCHANGE).unwrap();
    assert_eq!(
        (get(cx, "/f").unwrap(), get(cx, "/d/g").unwrap()),
        ("g".into(), "f".into())
    );
    rename(cx, "/f", "/d", EXCHANGE).unwrap();
    assert_eq!(get(cx, "/f/g").unwrap(), "f");
    assert_eq!(rename(cx, "/f", "/none", EXCHANGE), Err(Errno::ENOENT));
    rename(cx, "/d", "/e", WHITEOUT).unwrap();
    let s = stat(cx, "/d").unwrap();
    assert_eq!((s.mode & 0o170000, s.rdev), (0o020000, 0));
    assert_eq!(get(cx, "/e").unwrap(), "g");
}

#[test]
fn mount_points_stay() {
    let w = World::new();
    let cx = &w.cx;
    mkdir(cx, "/m").unwrap();
    mkdir(cx, "/p").unwrap();
    w.mount_tmpfs("/m", MountFlags::empty());
    assert_eq!(rmdir(cx, "/m"), Err(Errno::EBUSY));
    assert_eq!(rename(cx, "/m", "/n", 0), Err(Errno::EBUSY));
    assert_eq!(rename(cx, "/p", "/m", 0), Err(Errno::EBUSY));
    put(cx, "/f", "");
    assert_eq!(rename(cx, "/f", "/m/f", 0), Err(Errno::EXDEV));
    assert_eq!(link(cx, "/f", "/m/f"), Err(Errno::EXDEV));
}

#[test]
fn listings_survive_changes() {
    let w = World::new();
    let cx = &w.cx;
    mkdir(cx, "/d").unwrap();
    for i in 0..100 {
        put(cx, &format!("/d/{i}"), "");
    }
    let dir = open(cx, "/d", O::DIRECTORY).unwrap();
    let mut seen = 0;
    let mut buf = [0; 256];
    loop {
        let n = e(dir.getdents(cx, vfs::DirentFormat::New, &mut ctx::Dst::ours(&mut buf))).unwrap();
        if n == 0 {
            break;
        }
        let mut at = 0;
        while at < n {
            let len = u16::from_ne_bytes([buf[at + 16], buf[at + 17]]) as usize;
            let name: Vec<u8> = buf[at + 19..at + len]
                .iter()
                .copied()
                .take_while(|b| *b != 0)
                .collect();
            if name != b"." && name != b".." {
                seen += 1;
                unlink(cx, &format!("/d/{}", String::from_utf8(name).unwrap())).unwrap();
            }
            at += len;
        }
    }
    assert_eq!(seen, 100);
    rmdir(cx, "/d").unwrap();
    let r = dir.getdents(cx, vfs::DirentFormat::New, &mut ctx::Dst::ours(&mut buf));
    assert_eq!(e(r), Err(Errno::ENOENT));
    assert_eq!(open(cx, "/d/x", O::CREAT).err(), Some(Errno::ENOENT));
}

#[test]
fn nothing_is_made_in_a_removed_directory() {
    let mut w = World::new();
    mkdir(&w.cx, "/d").unwrap();
    let d = place(&w.cx, "/d").unwrap();
    w.cx.set_cwd(d.clone());
    rmdir(&w.cx, "/d").unwrap();
    assert_eq!(open(&w.cx, "f", O::CREAT).err(), Some(Errno::ENOENT));
    assert_eq!(mkdir(&w.cx, "x"), Err(Errno::ENOENT));
    assert_eq!(d.text(), b"/d (deleted)");
    assert!(stat(&w.cx, ".").is_ok());
    assert!(stat(&w.cx, "..").is_ok());
}

#[test]
fn many_threads_rename_without_deadlock() {
    let w = World::new();
    for d in ["/a", "/b", "/a/c"] {
        mkdir(&w.cx, d).unwrap();
    }
    std::thread::scope(|s| {
        for t in 0..4 {
            let cx = || w.root();
            s.spawn(move || {
                let cx = cx();
                let name = format!("f{t}");
                for i in 0..300 {
                    let dirs = ["/a", "/b", "/a/c", ""];
                    let (from, to) = (dirs[(i + t) % 4], dirs[(i + 2 * t + 1) % 4]);
                    let (from, to) = (format!("{from}/{name}"), format!("{to}/{name}"));
                    // Others move the directories about meanwhile.
                    let _ = open(&cx, &from, O::CREAT);
                    let _ = rename(&cx, &from, &to, 0);
                    let _ = rename(&cx, "/a/c", "/b/c", 0);
                    let _ = rename(&cx, "/b/c", "/a/c", 0);
                    let _ = e(vfs::unlink(&cx, Start::Cwd, to.as_bytes()));
                    let _ = mkdir(&cx, "/a/c");
                }
            });
        }
    });
}
