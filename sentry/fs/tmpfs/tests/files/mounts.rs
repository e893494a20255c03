//! The mount tree.

use crate::common::*;
use abi::Errno;
use ctx::Ctx;
use sentry_fs_tmpfs::{Options, Tmpfs};
use vfs::{FsCtx, MountFlags, OpenFlags as O, Propagation};

/// A namespace's, of the first user.
fn counted() -> auth::Share {
    auth::Share::of(&auth::UserNamespace::default(), 0, auth::Counted::Mount).unwrap()
}

#[test]
fn mounts_cover_and_uncover() {
    let w = World::new();
    let cx = &w.cx;
    mkdir(cx, "/m").unwrap();
    put(cx, "/m/below", "");
    put(cx, "/f", "");
    w.mount_tmpfs("/m", MountFlags::empty());
    assert!(list(cx, "/m").is_empty());
    put(cx, "/m/above", "");
    assert_eq!(place(cx, "/m/above").unwrap().text(), b"/m/above");
    assert_eq!(place(cx, "/m/..").unwrap(), place(cx, "/").unwrap());
    assert_ne!(stat(cx, "/m").unwrap().dev, stat(cx, "/").unwrap().dev);
    // Twice on one place.
    w.mount_tmpfs("/m", MountFlags::RDONLY);
    assert_eq!(mkdir(cx, "/m/x"), Err(Errno::EROFS));
    // With the one at the bottom, which nobody sees.
    assert_eq!(w.mounts.list().len(), 4);
    w.mounts.umount(place(cx, "/m").unwrap(), false).unwrap();
    assert_eq!(list(cx, "/m"), ["above"]);
    let held = open(cx, "/m/above", O::RDONLY).unwrap();
    assert_eq!(
        w.mounts.umount(place(cx, "/m").unwrap(), false),
        Err(Errno::EBUSY)
    );
    w.mounts.umount(place(cx, "/m").unwrap(), true).unwrap();
    assert_eq!(list(cx, "/m"), ["below"]);
    assert_eq!(
        held.path().unwrap().path_from(&cx.root()),
        b"(unreachable)/above"
    );
    assert_eq!(
        w.mounts.umount(place(cx, "/f").unwrap(), false),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        w.mounts.umount(place(cx, "/").unwrap(), false),
        Err(Errno::EBUSY)
    );
}

#[test]
fn an_unmounted_tree_is_freed() {
    let w = World::new();
    let cx = &w.cx;
    mkdir(cx, "/m").unwrap();
    w.mount_tmpfs("/m", MountFlags::empty());
    mkdir(cx, "/m/d").unwrap();
    put(cx, "/m/d/f", "data");
    assert!(w.memory.usage() > 0);
    w.mounts.umount(place(cx, "/m").unwrap(), false).unwrap();
    assert_eq!(w.memory.usage(), 0);
}

#[test]
fn bind_mounts_show_the_same_files() {
    let w = World::new();
    let cx = &w.cx;
    for d in ["/src", "/src/inner", "/dst", "/rdst"] {
        mkdir(cx, d).unwrap();
    }
    put(cx, "/src/f", "x");
    put(cx, "/file", "");
    w.mount_tmpfs("/src/inner", MountFlags::empty());
    put(cx, "/src/inner/deep", "");
    let src = place(cx, "/src").unwrap();
    w.mounts
        .bind(&src, &place(cx, "/dst").unwrap(), false)
        .unwrap();
    w.mounts
        .bind(&src, &place(cx, "/rdst").unwrap(), true)
        .unwrap();
    assert_eq!(get(cx, "/dst/f").unwrap(), "x");
    assert!(list(cx, "/dst/inner").is_empty());
    assert_eq!(list(cx, "/rdst/inner"), ["deep"]);
    assert_eq!(rename(cx, "/dst/f", "/src/g", 0), Err(Errno::EXDEV));
    unlink(cx, "/dst/f").unwrap();
    assert_eq!(stat(cx, "/src/f").err(), Some(Errno::ENOENT));
    // A file on a file.
    put(cx, "/src/f", "bound");
    w.mounts
        .bind(
            &place(cx, "/src/f").unwrap(),
            &place(cx, "/file").unwrap(),
            false,
        )
        .unwrap();
    assert_eq!(get(cx, "/file").unwrap(), "bound");
    assert_eq!(place(cx, "/file").unwrap().text(), b"/file");
    let r = w.mounts.bind(&src, &place(cx, "/file").unwrap(), false);
    assert_eq!(r.err(), Some(Errno::ENOTDIR));
}

#[test]
fn moves_and_copies() {
    let w = World::new();
    let cx = &w.cx;
    for d in ["/a", "/b"] {
        mkdir(cx, d).unwrap();
    }
    w.mount_tmpfs("/a", MountFlags::empty());
    mkdir(cx, "/a/sub").unwrap();
    let a = place(cx, "/a").unwrap();
    assert_eq!(
        w.mounts
            .move_mount(&a, &place(cx, "/a/sub").unwrap(), false, &cx.root()),
        Err(Errno::ELOOP)
    );
    let (sub, b) = (place(cx, "/a/sub").unwrap(), place(cx, "/b").unwrap());
    assert_eq!(
        w.mounts.move_mount(&sub, &b, false, &cx.root()),
        Err(Errno::EINVAL)
    );
    w.mounts.move_mount(&a, &b, false, &cx.root()).unwrap();
    assert!(list(cx, "/a").is_empty());
    assert_eq!(place(cx, "/b/sub").unwrap().text(), b"/b/sub");

    let mut cwd = place(cx, "/b").unwrap();
    let copy = w.mounts.copy(w.mounts.owner(), counted(), &mut [&mut cwd]);
    let own = vfs::KernelFsCtx::new(w.clocks.clone(), copy.clone());
    assert_eq!(list(&own, "/b"), ["sub"]);
    copy.umount(place(&own, "/b").unwrap(), true).unwrap();
    assert!(list(&own, "/b").is_empty());
    assert_eq!(list(cx, "/b"), ["sub"]);
}

#[test]
fn deep_trees_end_without_recursion() {
    let mut w = World::new();
    for _ in 0..30_000 {
        mkdir(&w.cx, "d").unwrap();
        let next = place(&w.cx, "d").unwrap();
        w.cx.set_cwd(next);
    }
    let root = w.cx.root();
    w.cx.set_cwd(root);
}

#[test]
fn what_ends_frees_its_mounts() {
    let w = World::new();
    let cx = &w.cx;
    for d in ["/a", "/b"] {
        mkdir(cx, d).unwrap();
    }
    let a = place(cx, "/a").unwrap();
    let before = w.memory.usage();
    // A namespace, with mounts in it that know each other.
    let copy = w.mounts.copy(w.mounts.owner(), counted(), &mut []);
    let own = vfs::KernelFsCtx::new(w.clocks.clone(), copy.clone());
    let spec = Tmpfs::mount_spec(
        &w.memory,
        &w.devices,
        Options::default(),
        &w.clocks,
        MountFlags::empty(),
    );
    copy.mount(&place(&own, "/a").unwrap(), spec).unwrap();
    put(&own, "/a/f", "data");
    let shared = place(&own, "/a").unwrap();
    copy.set_propagation(&cx.creds(), &shared, Propagation::Shared, false)
        .unwrap();
    copy.bind(&shared, &place(&own, "/b").unwrap(), true)
        .unwrap();
    assert!(w.memory.usage() > before);
    drop((shared, own, copy));
    assert_eq!(w.memory.usage(), before);
    // A tree that a descriptor would hold.
    w.mount_tmpfs("/a", MountFlags::empty());
    put(cx, "/a/f", "data");
    let tree = w
        .mounts
        .clone_tree(&place(cx, "/a").unwrap(), true)
        .unwrap();
    w.mounts.umount(place(cx, "/a").unwrap(), false).unwrap();
    assert!(w.memory.usage() > before);
    drop(tree);
    assert_eq!(w.memory.usage(), before);
    assert_eq!(place(cx, "/a").unwrap(), a);
}

#[test]
fn what_is_mounted_shows_where_it_is_heard_of() {
    let w = World::new();
    let cx = &w.cx;
    for d in ["/a", "/peer", "/slave"] {
        mkdir(cx, d).unwrap();
    }
    w.mount_tmpfs("/a", MountFlags::empty());
    mkdir(cx, "/a/x").unwrap();
    let m = &w.mounts;
    let share =
        |at: &str, kind| m.set_propagation(&cx.creds(), &place(cx, at).unwrap(), kind, false);
    share("/a", Propagation::Shared).unwrap();
    for d in ["/peer", "/slave"] {
        m.bind(&place(cx, "/a").unwrap(), &place(cx, d).unwrap(), false)
            .unwrap();
    }
    share("/slave", Propagation::Slave).unwrap();
    let count = m.list().len();
    w.mount_tmpfs("/peer/x", MountFlags::empty());
    put(cx, "/a/x/f", "");
    assert_eq!(m.list().len(), count + 3);
    assert_eq!(list(cx, "/slave/x"), ["f"]);
    // A copy of the namespace hears too, and what goes goes everywhere.
    let copy = m.copy(m.owner(), counted(), &mut []);
    assert_eq!(copy.list().len(), count + 3);
    m.umount(place(cx, "/a/x").unwrap(), false).unwrap();
    assert_eq!((m.list().len(), copy.list().len()), (count, count));
    // What is mounted at a slave is its own.
    w.mount_tmpfs("/slave/x", MountFlags::empty());
    assert_eq!((m.list().len(), copy.list().len()), (count + 1, count));
}

#[test]
fn the_root_is_left_and_taken_off() {
    let w = World::new();
    let mut cx = w.root();
    mkdir(&cx, "/new").unwrap();
    w.mount_tmpfs("/new", MountFlags::empty());
    mkdir(&cx, "/new/old").unwrap();
    let (root, new) = (cx.root(), place(&cx, "/new").unwrap());
    let old = place(&cx, "/new/old").unwrap();
    assert_eq!(w.mounts.pivot(&root, &root, &old), Err(Errno::EBUSY));
    w.mounts.pivot(&root, &new, &old).unwrap();
    cx.set_root(new.clone());
    cx.set_cwd(new);
    assert_eq!(list(&cx, "/old"), ["new"]);
    assert_eq!(w.mounts.root(), place(&cx, "/").unwrap());
    drop(root);
    w.mounts.umount(place(&cx, "/old").unwrap(), true).unwrap();
    assert!(list(&cx, "/old").is_empty());
}

#[test]
fn what_left_a_bind_mount_has_no_parent_there() {
    let mut w = World::new();
    for d in ["/s", "/s/d", "/s/d/e", "/s/d/e/f", "/out", "/m"] {
        mkdir(&w.cx, d).unwrap();
    }
    let (from, at) = (place(&w.cx, "/s/d").unwrap(), place(&w.cx, "/m").unwrap());
    w.mounts.bind(&from, &at, false).unwrap();
    let inside = place(&w.cx, "/m/e").unwrap();
    w.cx.set_cwd(inside);
    assert_eq!(place(&w.cx, "..").unwrap(), place(&w.cx, "/m").unwrap());
    rename(&w.cx, "/s/d/e", "/out/e", 0).unwrap();
    assert_eq!(place(&w.cx, "f/..").unwrap_err(), Errno::ENOENT);
    assert_eq!(place(&w.cx, "..").unwrap_err(), Errno::ENOENT);
    assert_eq!(place(&w.cx, "../..").unwrap_err(), Errno::ENOENT);
}
