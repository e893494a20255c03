//! Who may do what.

use crate::common::*;
use abi::Errno;
use auth::{CapSet, Capability, Creds};
use vfs::{LookupFlags, OpenFlags as O, SetTime, Start};

fn mode(w: &World, path: &str) -> u32 {
    stat(&w.cx, path).unwrap().mode & 0o7777
}

#[test]
fn mode_bits_by_class() {
    let w = World::new();
    put(&w.cx, "/f", "");
    chown(&w.cx, "/f", 1000, 100).unwrap();
    chmod(&w.cx, "/f", 0o640).unwrap();
    let owner = w.user(1000, 5);
    let member = w.with_creds(Creds {
        groups: vec![100],
        ..Creds::user(2000, 5)
    });
    let other = w.user(2000, 5);
    assert!(open(&owner, "/f", O::RDWR).is_ok());
    assert!(open(&member, "/f", O::RDONLY).is_ok());
    assert_eq!(open(&member, "/f", O::WRONLY).err(), Some(Errno::EACCES));
    assert_eq!(open(&other, "/f", O::RDONLY).err(), Some(Errno::EACCES));
    assert_eq!(open(&other, "/new", O::CREAT).err(), Some(Errno::EACCES));
    // The owner's bits hold for the owner even where others may more.
    chmod(&w.cx, "/f", 0o077).unwrap();
    assert_eq!(open(&owner, "/f", O::RDONLY).err(), Some(Errno::EACCES));
    assert!(open(&w.cx, "/f", O::RDWR).is_ok());
}

#[test]
fn umask_and_set_gid_directories() {
    let mut w = World::new();
    mkdir(&w.cx, "/d").unwrap();
    chown(&w.cx, "/d", 0, 77).unwrap();
    chmod(&w.cx, "/d", 0o2777).unwrap();
    w.cx.set_umask(0o027);
    mkdir(&w.cx, "/d/sub").unwrap();
    put(&w.cx, "/d/f", "");
    assert_eq!(mode(&w, "/d/sub"), 0o2750);
    assert_eq!(mode(&w, "/d/f"), 0o640);
    assert_eq!(stat(&w.cx, "/d/f").unwrap().gid, 77);
    assert_eq!(stat(&w.cx, "/d/sub").unwrap().gid, 77);
}

#[test]
fn sticky_directories_protect_names() {
    let w = World::new();
    mkdir(&w.cx, "/tmp").unwrap();
    chmod(&w.cx, "/tmp", 0o1777).unwrap();
    let (alice, bob) = (w.user(1, 1), w.user(2, 2));
    put(&alice, "/tmp/f", "");
    assert_eq!(unlink(&bob, "/tmp/f"), Err(Errno::EPERM));
    assert_eq!(rename(&bob, "/tmp/f", "/tmp/g", 0), Err(Errno::EPERM));
    symlink(&alice, "/tmp/f", "/tmp/l").unwrap();
    assert!(stat(&alice, "/tmp/l").is_ok());
    assert_eq!(stat(&bob, "/tmp/l").err(), Some(Errno::EACCES));
    assert_eq!(link(&bob, "/tmp/f", "/tmp/h"), Err(Errno::EPERM));
    unlink(&alice, "/tmp/f").unwrap();
}

#[test]
fn set_id_bits_are_lost() {
    let w = World::new();
    put(&w.cx, "/f", "");
    chown(&w.cx, "/f", 1000, 1000).unwrap();
    let owner = w.user(1000, 1000);
    chmod(&owner, "/f", 0o6755).unwrap();
    assert_eq!(mode(&w, "/f"), 0o6755);
    write(&owner, &open(&owner, "/f", O::WRONLY).unwrap(), b"x").unwrap();
    assert_eq!(mode(&w, "/f"), 0o755);
    chmod(&w.cx, "/f", 0o6755).unwrap();
    vfs::truncate(&owner, &place(&owner, "/f").unwrap(), 0).unwrap();
    assert_eq!(mode(&w, "/f"), 0o755);
    chmod(&w.cx, "/f", 0o6755).unwrap();
    chown(&w.cx, "/f", 1000, 1000).unwrap();
    assert_eq!(mode(&w, "/f"), 0o755);
    // Set-gid for a group that one is not in.
    chown(&w.cx, "/f", 1000, 55).unwrap();
    chmod(&owner, "/f", 0o2755).unwrap();
    assert_eq!(mode(&w, "/f"), 0o755);
    let capable = w.with_creds(Creds {
        effective: CapSet::EMPTY.with(Capability::Fsetid),
        ..Creds::user(1000, 1000)
    });
    chmod(&capable, "/f", 0o2755).unwrap();
    assert_eq!(mode(&w, "/f"), 0o2755);
}

#[test]
fn ownership_changes() {
    let w = World::new();
    put(&w.cx, "/f", "");
    chown(&w.cx, "/f", 1000, 1000).unwrap();
    let owner = w.with_creds(Creds {
        groups: vec![7],
        ..Creds::user(1000, 1000)
    });
    assert_eq!(chown(&owner, "/f", 1001, u32::MAX), Err(Errno::EPERM));
    assert_eq!(chown(&owner, "/f", 1000, 8), Err(Errno::EPERM));
    chown(&owner, "/f", 1000, 7).unwrap();
    assert_eq!(chown(&w.user(3, 7), "/f", u32::MAX, 7), Err(Errno::EPERM));
    assert_eq!(chmod(&w.user(3, 7), "/f", 0o777), Err(Errno::EPERM));
}

#[test]
fn access_uses_real_ids() {
    let w = World::new();
    put(&w.cx, "/f", "");
    chmod(&w.cx, "/f", 0o600).unwrap();
    let cx = w.with_creds(Creds {
        ruid: 1000,
        rgid: 1000,
        ..Creds::root()
    });
    let access = |mask, effective| {
        e(vfs::access(
            &cx,
            Start::Cwd,
            b"/f",
            mask,
            effective,
            LookupFlags::FOLLOW,
        ))
    };
    assert_eq!(access(4, false), Err(Errno::EACCES));
    assert_eq!(access(4, true), Ok(()));
    assert_eq!(access(0, false), Ok(()));
    assert_eq!(access(8, false), Err(Errno::EINVAL));
    // Nobody has execute permission: not even uid 0.
    assert_eq!(access(1, true), Err(Errno::EACCES));
}

#[test]
fn times_may_be_set_by_owners_and_touched_by_writers() {
    let w = World::new();
    put(&w.cx, "/f", "");
    chmod(&w.cx, "/f", 0o666).unwrap();
    let other = w.user(9, 9);
    let f = place(&other, "/f").unwrap();
    let old = abi::time::Timespec { sec: 5, nsec: 6 };
    assert_eq!(
        vfs::utimens(&other, &f, SetTime::At(old), SetTime::Omit),
        Err(Errno::EPERM)
    );
    vfs::utimens(&other, &f, SetTime::Now, SetTime::Now).unwrap();
    vfs::utimens(&w.cx, &f, SetTime::At(old), SetTime::Omit).unwrap();
    let s = stat(&w.cx, "/f").unwrap();
    assert_eq!(s.atime, old);
    assert!(s.mtime.sec > 5);
    chmod(&w.cx, "/f", 0o644).unwrap();
    assert_eq!(
        vfs::utimens(&other, &f, SetTime::Now, SetTime::Now),
        Err(Errno::EACCES)
    );
    let bad = abi::time::Timespec {
        sec: 5,
        nsec: 1_000_000_000,
    };
    assert_eq!(
        vfs::utimens(&w.cx, &f, SetTime::At(bad), SetTime::Omit),
        Err(Errno::EINVAL)
    );
}

#[test]
fn extended_attributes_by_namespace() {
    let w = World::new();
    put(&w.cx, "/f", "");
    chmod(&w.cx, "/f", 0o644).unwrap();
    let f = place(&w.cx, "/f").unwrap();
    let user = w.user(9, 9);
    vfs::set_xattr(&w.cx, &f, b"user.a", b"1", 0).unwrap();
    vfs::set_xattr(&w.cx, &f, b"trusted.b", b"2", 0).unwrap();
    assert_eq!(
        vfs::set_xattr(&w.cx, &f, b"user.a", b"1", 1),
        Err(Errno::EEXIST)
    );
    assert_eq!(
        vfs::set_xattr(&w.cx, &f, b"user.z", b"1", 2),
        Err(Errno::ENODATA)
    );
    assert_eq!(
        vfs::set_xattr(&w.cx, &f, b"nothing", b"1", 0),
        Err(Errno::EOPNOTSUPP)
    );
    assert_eq!(
        vfs::set_xattr(&user, &f, b"user.a", b"1", 0),
        Err(Errno::EACCES)
    );
    assert_eq!(vfs::get_xattr(&user, &f, b"user.a").unwrap(), b"1");
    assert_eq!(vfs::get_xattr(&user, &f, b"trusted.b"), Err(Errno::ENODATA));
    assert_eq!(vfs::list_xattr(&user, &f).unwrap(), [b"user.a"]);
    assert_eq!(vfs::list_xattr(&w.cx, &f).unwrap().len(), 2);
    vfs::remove_xattr(&w.cx, &f, b"user.a").unwrap();
    assert_eq!(vfs::get_xattr(&w.cx, &f, b"user.a"), Err(Errno::ENODATA));
    symlink(&w.cx, "f", "/l").unwrap();
    let l = lplace(&w.cx, "/l").unwrap();
    assert_eq!(
        vfs::set_xattr(&w.cx, &l, b"user.a", b"1", 0),
        Err(Errno::EPERM)
    );
}

#[test]
fn devices_need_a_capability() {
    let w = World::new();
    mkdir(&w.cx, "/d").unwrap();
    chmod(&w.cx, "/d", 0o777).unwrap();
    let user = w.user(9, 9);
    let mknod = |mode, path: &[u8]| e(vfs::mknod(&user, Start::Cwd, path, mode, 0x103));
    assert_eq!(mknod(0o020666, b"/d/null"), Err(Errno::EPERM));
    assert_eq!(mknod(0o010666, b"/d/fifo"), Ok(()));
    assert_eq!(mknod(0o666, b"/d/file"), Ok(()));
    assert_eq!(mknod(0o040777, b"/d/dir"), Err(Errno::EPERM));
    assert_eq!(mknod(0o120777, b"/d/link"), Err(Errno::EINVAL));
    assert_eq!(mknod(0o140777, b"/d/sock"), Ok(()));
    assert_eq!(open(&w.cx, "/d/sock", O::RDONLY).err(), Some(Errno::ENXIO));
}
