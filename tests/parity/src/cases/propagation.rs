//! What is mounted in one place and shows in others (sharedsubtree.rst, mount_namespaces(7)).

use crate::cases::mount_help::{
    apart, bind, dirs, mount, propagation, say_table, show_table, there, umount, with_trees,
};
use crate::out::Out;
use crate::util::{in_child, mk, pipe, read, wait_text, write};
use crate::{cases, k, say, tell};
use libc::*;
use std::ffi::CStr;

cases!(
    kinds,
    peers,
    masters_and_slaves,
    slaves_that_share,
    chains_of_slaves,
    masters_that_go,
    all_of_a_tree,
    bound_from_each_kind,
    mounted_on_each_kind,
    moved_onto_each_kind,
    unmounted_everywhere,
    unmounted_where_others_stand,
    put_under_what_stands,
    busy_through_a_peer,
    only_what_shows,
    across_namespaces,
    slaves_in_a_namespace,
    whole_trees_propagate,
    upon_itself,
    detached_trees,
    dominated,
);

/// `a`, which is shared, and `b`, a peer of it; both with the directories `x` and `y`.
fn with_peers(o: Out, f: impl FnOnce(Out)) {
    apart(o, |o| {
        mount(c"outer", c"a", c"tmpfs", 0, c"");
        propagation(c"a", MS_SHARED);
        dirs(&[c"a/x", c"a/y", c"a/x/deep"]);
        bind(c"a", c"b");
        f(o);
    });
}

fn kinds(o: Out) {
    with_trees(o, |o| {
        for kind in [
            MS_SHARED,
            MS_SLAVE,
            MS_PRIVATE,
            MS_UNBINDABLE,
            MS_SLAVE,
            MS_SHARED,
            MS_SHARED,
            MS_UNBINDABLE,
            MS_SHARED | MS_REC,
            MS_SLAVE | MS_REC,
            MS_PRIVATE | MS_REC,
        ] {
            say!(o, "{kind:x} {}", propagation(c"a", kind));
            show_table(o);
        }
        tell!(o, "on a file" => propagation(c"a/file", MS_SHARED), "nowhere" => propagation(c"nowhere", MS_SHARED), "by move" => propagation(c"a", MS_SHARED | MS_MOVE), "by bind" => propagation(c"a", MS_SHARED | MS_BIND));
        show_table(o);
    });
}

fn peers(o: Out) {
    with_peers(o, |o| {
        show_table(o);
        tell!(o, "mount" => mount(c"new", c"a/x", c"tmpfs", 0, c""));
        mk(c"a/x/file", b"");
        tell!(o, "there" => there(c"b/x/file"));
        show_table(o);
        tell!(o, "other way" => mount(c"more", c"b/y", c"tmpfs", 0, c""), "inside" => mount(c"third", c"b/x/file", c"tmpfs", 0, c""));
        show_table(o);
        tell!(o, "unmount there" => umount(c"b/x", 0), "here" => there(c"a/x/file"));
        show_table(o);
        tell!(o, "leave" => propagation(c"b", MS_PRIVATE), "unmount" => umount(c"a/y", 0));
        show_table(o);
    });
}

fn masters_and_slaves(o: Out) {
    with_peers(o, |o| {
        tell!(o, "slave" => propagation(c"b", MS_SLAVE));
        show_table(o);
        tell!(o, "master" => mount(c"new", c"a/x", c"tmpfs", 0, c""), "slave" => mount(c"own", c"b/y", c"tmpfs", 0, c""));
        show_table(o);
        tell!(o, "unmount at the slave" => umount(c"b/x", 0), "still" => umount(c"a/x", 0), "own" => umount(c"b/y", 0));
        show_table(o);
        tell!(o, "private" => propagation(c"b", MS_PRIVATE), "slave of none" => propagation(c"b", MS_SLAVE));
        show_table(o);
    });
}

fn slaves_that_share(o: Out) {
    with_peers(o, |o| {
        propagation(c"b", MS_SLAVE);
        propagation(c"b", MS_SHARED);
        bind(c"b", c"c");
        show_table(o);
        tell!(o, "at the master" => mount(c"new", c"a/x", c"tmpfs", 0, c""));
        show_table(o);
        tell!(o, "at a slave" => mount(c"own", c"c/y", c"tmpfs", 0, c""));
        show_table(o);
        tell!(o, "slave again" => propagation(c"c", MS_SLAVE), "and" => propagation(c"b", MS_PRIVATE));
        show_table(o);
        tell!(o, "unmount" => umount(c"a/x", 0));
        show_table(o);
    });
}

fn chains_of_slaves(o: Out) {
    with_peers(o, |o| {
        propagation(c"b", MS_SLAVE);
        propagation(c"b", MS_SHARED);
        bind(c"b", c"c");
        propagation(c"c", MS_SLAVE);
        dirs(&[c"d", c"e"]);
        propagation(c"c", MS_SHARED);
        bind(c"c", c"d");
        propagation(c"d", MS_SLAVE);
        bind(c"a", c"e");
        show_table(o);
        tell!(o, "mount" => mount(c"new", c"e/x", c"tmpfs", 0, c""));
        show_table(o);
        tell!(o, "in the middle" => mount(c"own", c"c/y", c"tmpfs", 0, c""));
        show_table(o);
        tell!(o, "gone" => umount(c"e/x", 0));
        show_table(o);
    });
}

fn masters_that_go(o: Out) {
    with_peers(o, |o| {
        propagation(c"b", MS_SLAVE);
        tell!(o, "the last" => propagation(c"a", MS_PRIVATE));
        show_table(o);
        propagation(c"a", MS_SHARED);
        bind(c"a", c"c");
        dirs(&[c"d"]);
        bind(c"a", c"d");
        propagation(c"d", MS_SLAVE);
        show_table(o);
        tell!(o, "one of two" => propagation(c"a", MS_PRIVATE));
        show_table(o);
        tell!(o, "unmounted" => umount(c"c", 0));
        show_table(o);
    });
}

fn all_of_a_tree(o: Out) {
    with_trees(o, |o| {
        tell!(o, "share all" => propagation(c"a", MS_SHARED | MS_REC), "bind all" => mount(c"a", c"b", c"", MS_BIND | MS_REC, c""));
        show_table(o);
        tell!(o, "slaves" => propagation(c"b", MS_SLAVE | MS_REC));
        show_table(o);
        dirs(&[c"a/sub/new"]);
        tell!(o, "mount" => mount(c"new", c"a/sub/new", c"tmpfs", 0, c""));
        show_table(o);
    });
}

/// A mount of each kind: shared, slave, both, private.
fn each_kind(o: Out, f: impl Fn(Out, &CStr)) {
    apart(o, |o| {
        dirs(&[c"shared", c"slave", c"both", c"private", c"from"]);
        mount(c"outer", c"shared", c"tmpfs", 0, c"");
        propagation(c"shared", MS_SHARED);
        dirs(&[c"shared/x", c"shared/y"]);
        for (path, kinds) in [
            (c"slave", &[MS_SLAVE][..]),
            (c"both", &[MS_SLAVE, MS_SHARED]),
            (c"private", &[MS_PRIVATE]),
        ] {
            bind(c"shared", path);
            for kind in kinds {
                propagation(path, *kind);
            }
        }
        for path in [c"shared", c"slave", c"both", c"private"] {
            say!(o, "{path:?}");
            f(o, path);
        }
    });
}

fn bound_from_each_kind(o: Out) {
    each_kind(o, |o, path| {
        tell!(o, "bind" => bind(path, c"a"));
        show_table(o);
        tell!(o, "unmount" => umount(c"a", 0));
    });
}

fn mounted_on_each_kind(o: Out) {
    each_kind(o, |o, path| {
        let at = std::ffi::CString::new([path.to_bytes(), b"/x"].concat()).unwrap_or_default();
        tell!(o, "mount" => mount(c"new", &at, c"tmpfs", 0, c""));
        show_table(o);
        tell!(o, "unmount" => umount(&at, 0));
        show_table(o);
    });
}

fn moved_onto_each_kind(o: Out) {
    each_kind(o, |o, path| {
        let at = std::ffi::CString::new([path.to_bytes(), b"/y"].concat()).unwrap_or_default();
        mount(c"moved", c"from", c"tmpfs", 0, c"");
        tell!(o, "move" => mount(c"from", &at, c"", MS_MOVE, c""));
        show_table(o);
        tell!(o, "unmount" => umount(&at, MNT_DETACH));
        show_table(o);
    });
}

fn unmounted_everywhere(o: Out) {
    with_peers(o, |o| {
        mount(c"new", c"a/x", c"tmpfs", 0, c"");
        dirs(&[c"a/x/in"]);
        mount(c"inner", c"b/x/in", c"tmpfs", 0, c"");
        show_table(o);
        tell!(o, "has others" => umount(c"a/x", 0), "lazily" => umount(c"a/x", MNT_DETACH));
        show_table(o);
    });
}

fn unmounted_where_others_stand(o: Out) {
    with_peers(o, |o| {
        mount(c"new", c"a/x", c"tmpfs", 0, c"");
        dirs(&[c"a/x/in"]);
        propagation(c"b/x", MS_PRIVATE);
        mount(c"inner", c"b/x/in", c"tmpfs", 0, c"");
        show_table(o);
        tell!(o, "unmount" => umount(c"a/x", 0));
        show_table(o);
        tell!(o, "inner" => umount(c"b/x/in", 0), "left" => umount(c"b/x", 0));
        show_table(o);
    });
}

fn put_under_what_stands(o: Out) {
    with_peers(o, |o| {
        propagation(c"b", MS_SLAVE);
        tell!(o, "own first" => mount(c"own", c"b/x", c"tmpfs", 0, c""));
        mk(c"b/x/own", b"");
        tell!(o, "then the master's" => mount(c"new", c"a/x", c"tmpfs", 0, c""), "own on top" => there(c"b/x/own"));
        show_table(o);
        tell!(o, "master's goes" => umount(c"a/x", 0), "own stays" => there(c"b/x/own"));
        show_table(o);
        tell!(o, "again" => mount(c"new", c"a/x", c"tmpfs", 0, c""), "own goes" => umount(c"b/x", 0), "under it" => umount(c"b/x", 0), "none" => umount(c"b/x", 0));
        show_table(o);
    });
}

fn busy_through_a_peer(o: Out) {
    with_peers(o, |o| {
        mount(c"new", c"a/x", c"tmpfs", 0, c"");
        mk(c"a/x/file", b"");
        let fd = crate::util::open(c"b/x/file", O_RDONLY, 0).int();
        tell!(o, "in use there" => umount(c"a/x", 0), "close" => crate::util::close(fd), "now" => umount(c"a/x", 0));
        show_table(o);
    });
}

fn only_what_shows(o: Out) {
    apart(o, |o| {
        mount(c"outer", c"a", c"tmpfs", 0, c"");
        propagation(c"a", MS_SHARED);
        dirs(&[c"a/x", c"a/x/deep", c"a/y"]);
        bind(c"a/x", c"b");
        tell!(o, "outside" => mount(c"one", c"a/y", c"tmpfs", 0, c""), "inside" => mount(c"two", c"a/x/deep", c"tmpfs", 0, c""), "the top" => mount(c"three", c"b", c"tmpfs", 0, c""));
        show_table(o);
        bind(c"a/y", c"c");
        show_table(o);
    });
}

fn across_namespaces(o: Out) {
    with_peers(o, |o| {
        let (r, w) = pipe();
        let (r2, w2) = pipe();
        let other = crate::sys::child(|| {
            k!(SYS_unshare, CLONE_NEWNS);
            show_table(o);
            write(w, b"x");
            read(r2, 1);
            tell!(o, "shows" => there(c"b/x/file"), "mount" => mount(c"theirs", c"a/y", c"tmpfs", 0, c""), "not shared" => mount(c"theirs", c"c", c"tmpfs", 0, c""));
            show_table(o);
            write(w, b"x");
            read(r2, 1);
            show_table(o);
            0
        });
        read(r, 1);
        mount(c"new", c"a/x", c"tmpfs", 0, c"");
        mk(c"a/x/file", b"");
        write(w2, b"x");
        read(r, 1);
        show_table(o);
        tell!(o, "unmount theirs" => umount(c"b/y", 0), "ours" => umount(c"a/x", 0));
        write(w2, b"x");
        tell!(o, "other" => wait_text(other));
        show_table(o);
    });
}

fn slaves_in_a_namespace(o: Out) {
    with_peers(o, |o| {
        let text = in_child(|| {
            k!(SYS_unshare, CLONE_NEWNS);
            propagation(c"/", MS_REC | MS_SLAVE);
            show_table(o);
            mount(c"theirs", c"a/y", c"tmpfs", 0, c"");
            show_table(o);
            0
        });
        say!(o, "{text}");
        show_table(o);
    });
}

fn whole_trees_propagate(o: Out) {
    with_peers(o, |o| {
        mount(c"one", c"c", c"tmpfs", 0, c"");
        dirs(&[c"c/in"]);
        mount(c"two", c"c/in", c"tmpfs", 0, c"");
        tell!(o, "bind" => mount(c"c", c"a/x", c"", MS_BIND | MS_REC, c""));
        show_table(o);
        tell!(o, "move" => mount(c"c", c"b/y", c"", MS_MOVE, c""));
        show_table(o);
        tell!(o, "out of it" => mount(c"a/x", c"c", c"", MS_MOVE, c""), "unmount" => umount(c"b/x", MNT_DETACH));
        show_table(o);
    });
}

fn upon_itself(o: Out) {
    with_peers(o, |o| {
        tell!(o, "bind" => bind(c"a", c"a"));
        show_table(o);
        tell!(o, "into itself" => bind(c"a", c"a/x"));
        show_table(o);
        tell!(o, "unmount" => umount(c"a/x", 0), "top" => umount(c"a", 0));
        show_table(o);
    });
}

fn detached_trees(o: Out) {
    with_peers(o, |o| {
        let tree = crate::sys::call(428, &[AT_FDCWD as usize, c"a".as_ptr() as usize, 1]).int();
        mount(c"new", c"a/x", c"tmpfs", 0, c"");
        mk(c"a/x/file", b"");
        tell!(o, "shows in the tree" => k!(SYS_openat, tree, c"x/file", O_RDONLY, 0).yes());
        let empty = c"".as_ptr() as usize;
        tell!(o, "place" => crate::sys::call(429, &[tree as usize, empty, AT_FDCWD as usize, c"c".as_ptr() as usize, 4]));
        show_table(o);
    });
}

fn dominated(o: Out) {
    with_peers(o, |o| {
        propagation(c"b", MS_SLAVE);
        propagation(c"b", MS_SHARED);
        bind(c"b", c"c");
        propagation(c"c", MS_SLAVE);
        show_table(o);
        umount(c"b", 0);
        show_table(o);
        dirs(&[c"d"]);
        bind(c"a", c"d");
        propagation(c"d", MS_SLAVE);
        propagation(c"d", MS_SHARED);
        dirs(&[c"jail", c"jail/m", c"jail/s"]);
        mount(c"proc", c"b", c"tmpfs", 0, c"");
        bind(c"d", c"jail/s");
        propagation(c"jail/s", MS_SLAVE);
        bind(c"a", c"jail/m");
        k!(SYS_mkdir, c"jail/proc", 0o755);
        mount(c"proc", c"jail/proc", c"proc", 0, c"");
        let text = in_child(|| {
            tell!(o, "chroot" => k!(SYS_chroot, c"jail"));
            k!(SYS_chdir, c"/");
            say_table(o, "/m");
            say_table(o, "/");
            0
        });
        say!(o, "{text}");
    });
}
