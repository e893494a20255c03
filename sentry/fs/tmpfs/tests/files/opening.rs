//! open(2).

use crate::common::*;
use abi::Errno;
use vfs::{DenyWrite, LookupFlags, MountFlags, OpenFlags as O, Start};

#[test]
fn creation_flags() {
    let w = World::new();
    let cx = &w.cx;
    assert_eq!(open(cx, "/f", O::RDWR).err(), Some(Errno::ENOENT));
    open(cx, "/f", O::CREAT | O::EXCL | O::RDWR).unwrap();
    assert_eq!(
        open(cx, "/f", O::CREAT | O::EXCL | O::RDWR).err(),
        Some(Errno::EEXIST)
    );
    put(cx, "/f", "text");
    open(cx, "/f", O::CREAT | O::RDWR).unwrap();
    assert_eq!(stat(cx, "/f").unwrap().size, 4);
    open(cx, "/f", O::TRUNC | O::WRONLY).unwrap();
    assert_eq!(stat(cx, "/f").unwrap().size, 0);
    assert_eq!(open(cx, "/f/", O::CREAT).err(), Some(Errno::EISDIR));
    assert_eq!(open(cx, "/new/", O::CREAT).err(), Some(Errno::EISDIR));
    assert_eq!(open(cx, "/f", O::DIRECTORY).err(), Some(Errno::ENOTDIR));
    assert_eq!(
        open(cx, "/x", O::CREAT | O::DIRECTORY).err(),
        Some(Errno::EINVAL)
    );
}

#[test]
fn directories_are_read_only_by_listing() {
    let w = World::new();
    let cx = &w.cx;
    mkdir(cx, "/d").unwrap();
    assert_eq!(open(cx, "/d", O::WRONLY).err(), Some(Errno::EISDIR));
    assert_eq!(open(cx, "/d", O::CREAT).err(), Some(Errno::EISDIR));
    assert_eq!(open(cx, "/", O::CREAT).err(), Some(Errno::EISDIR));
    let d = open(cx, "/d", O::RDONLY).unwrap();
    assert_eq!(read(cx, &d, 10), Err(Errno::EISDIR));
    assert_eq!(write(cx, &d, b"x"), Err(Errno::EBADF));
}

#[test]
fn links_in_the_last_place() {
    let w = World::new();
    let cx = &w.cx;
    symlink(cx, "target", "/l").unwrap();
    assert_eq!(open(cx, "/l", O::RDONLY).err(), Some(Errno::ENOENT));
    assert_eq!(open(cx, "/l", O::NOFOLLOW).err(), Some(Errno::ELOOP));
    assert_eq!(
        open(cx, "/l", O::CREAT | O::NOFOLLOW).err(),
        Some(Errno::ELOOP)
    );
    assert_eq!(
        open(cx, "/l", O::CREAT | O::EXCL).err(),
        Some(Errno::EEXIST)
    );
    open(cx, "/l", O::CREAT | O::RDWR).unwrap();
    assert!(stat(cx, "/target").is_ok());
    let p = open(cx, "/l", O::PATH | O::NOFOLLOW).unwrap();
    assert_eq!(p.path().unwrap().kind(), vfs::FileType::Symlink);
    assert_eq!(read(cx, &p, 1), Err(Errno::EBADF));
}

#[test]
fn access_modes_hold() {
    let w = World::new();
    let cx = &w.cx;
    put(cx, "/f", "0123");
    let r = open(cx, "/f", O::RDONLY).unwrap();
    let wr = open(cx, "/f", O::WRONLY).unwrap();
    let none = open(cx, "/f", O::WRONLY | O::RDWR).unwrap();
    assert_eq!(write(cx, &r, b"x"), Err(Errno::EBADF));
    assert_eq!(read(cx, &wr, 1), Err(Errno::EBADF));
    assert_eq!(read(cx, &none, 1), Err(Errno::EBADF));
    assert_eq!(write(cx, &none, b"x"), Err(Errno::EBADF));
    assert_eq!(r.flags(), O::LARGEFILE);
}

#[test]
fn files_without_a_name_can_get_one() {
    let w = World::new();
    let cx = &w.cx;
    mkdir(cx, "/d").unwrap();
    assert_eq!(open(cx, "/d", O::TMPFILE).err(), Some(Errno::EINVAL));
    let f = open(cx, "/d", O::TMPFILE | O::RDWR).unwrap();
    write(cx, &f, b"text").unwrap();
    assert!(list(cx, "/d").is_empty());
    assert_eq!(vfs::fstat(cx, &f).unwrap().nlink, 0);
    assert!(f.name().ends_with(b" (deleted)"));
    let link = |f: &std::sync::Arc<vfs::File>, to: &[u8]| {
        let old = (Start::At(f.place()), &b""[..], LookupFlags::EMPTY);
        e(vfs::link(cx, old, Start::Cwd, to))
    };
    link(&f, b"/d/named").unwrap();
    assert_eq!(get(cx, "/d/named").unwrap(), "text");
    let f = open(cx, "/d", O::TMPFILE | O::EXCL | O::RDWR).unwrap();
    assert_eq!(link(&f, b"/d/other"), Err(Errno::ENOENT));
}

#[test]
fn programs_that_run_are_not_written() {
    let w = World::new();
    let cx = &w.cx;
    put(cx, "/prog", "");
    chmod(cx, "/prog", 0o755).unwrap();
    let writer = open(cx, "/prog", O::WRONLY).unwrap();
    let exec = || {
        e(vfs::open_exec(
            cx,
            Start::Cwd,
            b"/prog",
            LookupFlags::FOLLOW,
        ))
    };
    assert_eq!(exec().err(), Some(Errno::ETXTBSY));
    drop(writer);
    let (_file, deny) = exec().unwrap();
    let second = DenyWrite::new(deny.place()).unwrap();
    assert_eq!(open(cx, "/prog", O::WRONLY).err(), Some(Errno::ETXTBSY));
    assert_eq!(
        vfs::truncate(cx, &place(cx, "/prog").unwrap(), 0),
        Err(Errno::ETXTBSY.into())
    );
    assert!(open(cx, "/prog", O::RDONLY).is_ok());
    drop((deny, second));
    assert!(open(cx, "/prog", O::WRONLY).is_ok());
    chmod(cx, "/prog", 0o644).unwrap();
    assert_eq!(exec().err(), Some(Errno::EACCES));
}

#[test]
fn mount_flags_are_honoured() {
    let w = World::new();
    let cx = &w.cx;
    mkdir(cx, "/m").unwrap();
    w.mount_tmpfs("/m", MountFlags::empty());
    put(cx, "/m/f", "x");
    e(vfs::mknod(cx, Start::Cwd, b"/m/null", 0o020666, 0x103)).unwrap();
    let m = place(cx, "/m").unwrap();
    w.mounts
        .remount(
            &m,
            MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOEXEC,
        )
        .unwrap();
    assert_eq!(open(cx, "/m/f", O::WRONLY).err(), Some(Errno::EROFS));
    assert_eq!(open(cx, "/m/new", O::CREAT).err(), Some(Errno::EROFS));
    assert_eq!(open(cx, "/m/f", O::TRUNC).err(), Some(Errno::EROFS));
    assert!(open(cx, "/m/f", O::CREAT).is_ok());
    assert_eq!(open(cx, "/m/null", O::RDONLY).err(), Some(Errno::EACCES));
    assert_eq!(mkdir(cx, "/m/d"), Err(Errno::EROFS));
    assert_eq!(mkdir(cx, "/m/f"), Err(Errno::EEXIST));
    assert_eq!(unlink(cx, "/m/f"), Err(Errno::EROFS));
    assert_eq!(chmod(cx, "/m/f", 0o600), Err(Errno::EROFS));
    assert_eq!(rename(cx, "/m/f", "/m/g", 0), Err(Errno::EROFS));
    w.mounts.remount(&m, MountFlags::empty()).unwrap();
    // No driver is registered for it.
    assert_eq!(open(cx, "/m/null", O::RDONLY).err(), Some(Errno::ENXIO));
}
