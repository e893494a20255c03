//! Path walks.

use crate::common::*;
use abi::Errno;
use vfs::{LookupFlags, Start, walk};

#[test]
fn components_dots_and_slashes() {
    let w = World::new();
    let cx = &w.cx;
    mkdir(cx, "/a").unwrap();
    mkdir(cx, "a/b/").unwrap();
    put(cx, "/a/b/f", "x");
    for path in [
        "/a/b/f",
        "a//b/./f",
        "a/b/../b/f",
        "/../../a/b/f",
        "./a/b/f",
    ] {
        assert!(stat(cx, path).is_ok(), "{path}");
    }
    assert_eq!(stat(cx, "").err(), Some(Errno::ENOENT));
    assert_eq!(stat(cx, "/a/c").err(), Some(Errno::ENOENT));
    assert_eq!(stat(cx, "/a/c/d").err(), Some(Errno::ENOENT));
    assert_eq!(stat(cx, "/a/b/f/").err(), Some(Errno::ENOTDIR));
    assert_eq!(stat(cx, "/a/b/f/..").err(), Some(Errno::ENOTDIR));
    assert_eq!(stat(cx, &"x".repeat(256)).err(), Some(Errno::ENAMETOOLONG));
    assert_eq!(stat(cx, &"x".repeat(255)).err(), Some(Errno::ENOENT));
    assert_eq!(
        stat(cx, &"./".repeat(2048)).err(),
        Some(Errno::ENAMETOOLONG)
    );
    assert!(stat(cx, &"./".repeat(2047)).is_ok());
}

#[test]
fn symlinks_are_followed_where_they_should_be() {
    let w = World::new();
    let cx = &w.cx;
    mkdir(cx, "/d").unwrap();
    put(cx, "/d/f", "text");
    symlink(cx, "d", "/rel").unwrap();
    symlink(cx, "/d/f", "/abs").unwrap();
    symlink(cx, "../abs", "/d/up").unwrap();
    symlink(cx, "nowhere", "/dangling").unwrap();
    assert_eq!(get(cx, "/rel/f").unwrap(), "text");
    assert_eq!(get(cx, "/rel/up").unwrap(), "text");
    assert!(lplace(cx, "/rel").unwrap().kind() == vfs::FileType::Symlink);
    assert!(lplace(cx, "/rel/").unwrap().is_dir());
    assert_eq!(stat(cx, "/dangling").err(), Some(Errno::ENOENT));
    assert_eq!(stat(cx, "/abs/").err(), Some(Errno::ENOTDIR));
    assert_eq!(e(vfs::readlink(cx, Start::Cwd, b"/abs")).unwrap(), b"/d/f");
    assert_eq!(e(vfs::readlink(cx, Start::Cwd, b"/d")), Err(Errno::EINVAL));
}

#[test]
fn loops_end_at_forty_links() {
    let w = World::new();
    let cx = &w.cx;
    symlink(cx, "/loop", "/loop").unwrap();
    assert_eq!(stat(cx, "/loop").err(), Some(Errno::ELOOP));
    put(cx, "/l0", "");
    for i in 1..=41 {
        symlink(cx, &format!("l{}", i - 1), &format!("/l{i}")).unwrap();
    }
    assert!(stat(cx, "/l40").is_ok());
    assert_eq!(stat(cx, "/l41").err(), Some(Errno::ELOOP));
}

#[test]
fn confined_walks_stay_inside() {
    let w = World::new();
    let cx = &w.cx;
    for d in ["/jail", "/jail/sub", "/out"] {
        mkdir(cx, d).unwrap();
    }
    put(cx, "/out/secret", "");
    put(cx, "/jail/secret", "");
    symlink(cx, "/secret", "/jail/abs").unwrap();
    symlink(cx, "../../out/secret", "/jail/sub/rel").unwrap();
    let jail = place(cx, "/jail").unwrap();
    let go = |path: &str, flags| {
        let flags = flags | LookupFlags::FOLLOW;
        e(walk::resolve(
            cx,
            Start::At(jail.clone()),
            path.as_bytes(),
            flags,
        ))
        .map(|p| p.text())
    };
    assert_eq!(
        go("sub/../secret", LookupFlags::BENEATH),
        Ok(b"/jail/secret".to_vec())
    );
    for path in ["..", "sub/../..", "abs", "sub/rel", "/secret"] {
        assert_eq!(go(path, LookupFlags::BENEATH), Err(Errno::EXDEV), "{path}");
    }
    for path in ["/secret", "abs", "../../secret"] {
        assert_eq!(
            go(path, LookupFlags::IN_ROOT),
            Ok(b"/jail/secret".to_vec()),
            "{path}"
        );
    }
    assert_eq!(go("sub/rel", LookupFlags::IN_ROOT), Err(Errno::ENOENT));
    assert_eq!(go("abs", LookupFlags::NO_SYMLINKS), Err(Errno::ELOOP));
    w.mount_tmpfs("/jail/sub", vfs::MountFlags::empty());
    assert_eq!(go("sub", LookupFlags::NO_XDEV), Err(Errno::EXDEV));
}

#[test]
fn search_permission_is_asked_of_every_directory() {
    let w = World::new();
    mkdir(&w.cx, "/a").unwrap();
    mkdir(&w.cx, "/a/b").unwrap();
    put(&w.cx, "/a/b/f", "");
    let user = w.user(1000, 1000);
    assert!(stat(&user, "/a/b/f").is_ok());
    chmod(&w.cx, "/a", 0o744).unwrap();
    assert_eq!(stat(&user, "/a/b/f").err(), Some(Errno::EACCES));
    assert_eq!(stat(&user, "/a/b/nothing").err(), Some(Errno::EACCES));
    assert!(stat(&user, "/a").is_ok());
    assert!(stat(&w.cx, "/a/b/f").is_ok());
}

#[test]
fn the_root_of_a_chroot_is_its_top() {
    let mut w = World::new();
    mkdir(&w.cx, "/new").unwrap();
    put(&w.cx, "/new/f", "");
    let new = place(&w.cx, "/new").unwrap();
    let cwd = place(&w.cx, "/").unwrap();
    w.cx.set_root(new.clone());
    assert!(stat(&w.cx, "/f").is_ok());
    assert!(stat(&w.cx, "/../../f").is_ok());
    assert_eq!(cwd.path_from(&new), b"(unreachable)/");
    assert_eq!(place(&w.cx, "/f").unwrap().path_from(&new), b"/f");
}
