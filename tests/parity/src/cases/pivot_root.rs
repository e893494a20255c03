//! pivot_root(2), as container runtimes and switch_root do it.

use crate::cases::mount_help::{
    apart, dirs, lines, mount, propagation, say_table, show_table, table_below, there, umount,
    writable,
};
use crate::out::Out;
use crate::util::{in_child, mk, pipe, read, stat_text, wait_text, write};
use crate::{cases, k, say, tell};
use libc::*;
use std::ffi::CStr;

cases!(
    with_a_place_for_the_old,
    upon_each_other_and_off,
    as_bubblewrap_does,
    what_cannot_be,
    what_is_shared,
    from_below_a_chroot,
    others_move_too,
    not_the_chrooted,
);

fn pivot(new: &CStr, old: &CStr) -> crate::sys::R {
    k!(SYS_pivot_root, new, old)
}

/// In a namespace of its own with a new root, a tmpfs, on `a`.
fn with_root(o: Out, f: impl FnOnce(Out)) {
    apart(o, |o| {
        mount(c"newroot", c"a", c"tmpfs", 0, c"");
        dirs(&[c"a/old", c"a/proc", c"a/dir"]);
        mk(c"a/mark", b"");
        mount(c"proc", c"a/proc", c"proc", 0, c"");
        f(o);
    });
}

fn with_a_place_for_the_old(o: Out) {
    with_root(o, |o| {
        tell!(o, "pivot" => pivot(c"a", c"a/old"), "root" => there(c"/mark"), "old" => stat_text(c"/old/tmp", 0), "cwd" => there(c"a/mark"));
        let table = table_below("/");
        for line in table
            .iter()
            .filter(|l| l.contains("newroot") || l.contains("on .proc"))
        {
            say!(o, "  {line}");
        }
        tell!(o, "busy" => umount(c"/old", 0), "lazily" => umount(c"/old", MNT_DETACH), "gone" => stat_text(c"/old/tmp", 0), "chdir" => k!(SYS_chdir, c"/"));
        say_table(o, "/");
        tell!(o, "up" => k!(SYS_chdir, c"/.."), "root" => stat_text(c"mark", 0), "again" => pivot(c"/dir", c"/old"));
    });
}

fn upon_each_other_and_off(o: Out) {
    with_root(o, |o| {
        tell!(o, "stand there" => k!(SYS_chdir, c"a"), "pivot" => pivot(c".", c"."), "off" => umount(c".", MNT_DETACH), "chdir" => k!(SYS_chdir, c"/"), "root" => there(c"/mark"));
        say_table(o, "/");
    });
}

fn as_bubblewrap_does(o: Out) {
    apart(o, |o| {
        mount(c"tmpfs", c"a", c"tmpfs", MS_NODEV | MS_NOSUID, c"");
        k!(SYS_chdir, c"a");
        dirs(&[c"newroot", c"oldroot"]);
        tell!(o, "bind" => mount(c"newroot", c"newroot", c"", MS_MGC_VAL | MS_BIND | MS_REC, c""), "pivot" => pivot(c".", c"oldroot"), "chdir" => k!(SYS_chdir, c"/"));
        dirs(&[c"newroot/proc", c"newroot/usr"]);
        tell!(o, "bind" => mount(c"oldroot/usr", c"newroot/usr", c"", MS_BIND | MS_REC, c""), "read-only" => mount(c"none", c"newroot/usr", c"", MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, c""), "proc" => mount(c"proc", c"newroot/proc", c"proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, c""));
        tell!(o, "private" => propagation(c"oldroot", MS_REC | MS_PRIVATE), "old off" => umount(c"oldroot", MNT_DETACH));
        let old = k!(SYS_openat, AT_FDCWD, c"/", O_DIRECTORY | O_RDONLY, 0).int();
        tell!(o, "chdir" => k!(SYS_chdir, c"/newroot"), "pivot" => pivot(c".", c"."), "to the old" => k!(SYS_fchdir, old), "off" => umount(c".", MNT_DETACH), "chdir" => k!(SYS_chdir, c"/"));
        let table = table_below("/");
        for line in table.iter().filter(|l| !l.contains("on .usr ")) {
            say!(o, "  {line}");
        }
        tell!(o, "usr" => stat_text(c"/usr/bin", 0).starts_with("dir"), "write" => writable(c"/usr/x"), "make" => writable(c"/x"));
    });
}

fn what_cannot_be(o: Out) {
    with_root(o, |o| {
        mk(c"file", b"");
        tell!(o, "nowhere" => pivot(c"nowhere", c"a/old"), "old nowhere" => pivot(c"a", c"a/nowhere"), "a file" => pivot(c"file", c"a/old"), "old a file" => pivot(c"a", c"a/mark"), "no mount" => pivot(c"b", c"b"), "old not below" => pivot(c"a", c"c"), "the root" => pivot(c"/", c"/"), "old on root" => pivot(c"a", c"/tmp"), "part" => pivot(c"a/dir", c"a/old"), "empty" => pivot(c"", c"a/old"), "bad address" => k!(SYS_pivot_root, 8, c"a/old"));
        mount(c"deep", c"a/dir", c"tmpfs", 0, c"");
        tell!(o, "old above" => pivot(c"a/dir", c"a/old"));
        show_table(o);
    });
}

fn what_is_shared(o: Out) {
    with_root(o, |o| {
        propagation(c"a", MS_SHARED);
        tell!(o, "old in shared" => pivot(c"a", c"a/old"), "private" => propagation(c"a", MS_PRIVATE), "parent" => propagation(c".", MS_SHARED), "new in shared" => pivot(c"a", c"a/old"), "private" => propagation(c".", MS_PRIVATE), "pivot" => pivot(c"a", c"a/old"));
    });
}

fn from_below_a_chroot(o: Out) {
    with_root(o, |o| {
        mount(c"inner", c"a/dir", c"tmpfs", 0, c"");
        dirs(&[c"a/dir/old", c"a/dir/plain"]);
        let text = in_child(|| {
            tell!(o, "chroot" => k!(SYS_chroot, c"a"), "chdir" => k!(SYS_chdir, c"/"), "pivot" => pivot(c"/dir", c"/dir/old"), "root" => stat_text(c"/old/mark", 0), "plain" => stat_text(c"/plain", 0));
            0
        });
        say!(o, "{text}");
        show_table(o);
        let text = in_child(|| {
            tell!(o, "chroot" => k!(SYS_chroot, c"a/dir/plain"), "not a mount" => pivot(c"/", c"/"));
            0
        });
        say!(o, "{text}");
    });
}

fn others_move_too(o: Out) {
    with_root(o, |o| {
        let (r, w) = pipe();
        k!(SYS_chdir, c"/");
        let at = crate::sys::child(|| {
            read(r, 1);
            tell!(o, "other's root" => there(c"/mark"), "other's cwd" => there(c"mark"));
            0
        });
        k!(SYS_fchdir, open_base());
        tell!(o, "pivot" => pivot(c"a", c"a/old"), "here" => there(c"/mark"));
        write(w, b"x");
        tell!(o, "other" => wait_text(at));
    });
}

/// The directory that [`apart`] made.
fn open_base() -> i32 {
    let info = lines(c"/proc/self/mountinfo");
    let line = info.iter().rev().find(|l| l.contains("- tmpfs base "));
    let point = line.and_then(|l| l.split(' ').nth(4)).unwrap_or("/");
    let point = std::ffi::CString::new(point).unwrap_or_default();
    crate::util::open(&point, O_PATH, 0).int()
}

fn not_the_chrooted(o: Out) {
    with_root(o, |o| {
        let (r, w) = pipe();
        let (r2, w2) = pipe();
        let other = crate::sys::child(|| {
            k!(SYS_chroot, c"a/dir");
            write(w2, b"x");
            read(r, 1);
            tell!(o, "chrooted" => stat_text(c"/mark", 0), "cwd" => there(c"a/mark"));
            0
        });
        read(r2, 1);
        tell!(o, "pivot" => pivot(c"a", c"a/old"));
        write(w, b"x");
        tell!(o, "other" => wait_text(other));
    });
}
