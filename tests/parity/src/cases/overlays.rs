//! overlay, mounted by a program.

use crate::cases::mount_help::{
    apart, dirs, here, mount, say_table, show_table, table_below, umount, writable,
};
use crate::out::Out;
use crate::util::{as_user, cat, in_child, mk, open, stat_text, write};
use crate::{cases, k, say, tell};
use libc::*;
use std::ffi::CStr;

cases!(
    united,
    what_is_changed_goes_up,
    what_is_removed_leaves_a_whiteout,
    directories_are_merged,
    several_below,
    without_an_upper,
    mounted_again,
    seen_from_the_upper_side,
    options_and_errors,
    by_descriptors,
    trees_that_are_unmounted,
    whiteouts_in_it,
    as_a_root,
);

/// `l`, `m`, `u` and `w` in a tmpfs, with files in the first two.
fn with_layers(o: Out, f: impl FnOnce(Out)) {
    apart(o, |o| {
        dirs(&[c"l", c"m", c"u", c"w", c"l/dir", c"m/dir", c"l/only", c"o"]);
        mk(c"l/file", b"lower");
        mk(c"l/dir/one", b"1");
        mk(c"m/dir/two", b"2");
        mk(c"m/file", b"middle");
        mk(c"u/own", b"upper");
        f(o);
    });
}

fn united_on(at: &CStr, data: &CStr) -> crate::sys::R {
    mount(c"overlay", at, c"overlay", 0, data)
}

fn list(path: &CStr) -> String {
    let fd = open(path, O_RDONLY | O_DIRECTORY, 0);
    if !fd.ok() {
        return fd.to_string();
    }
    let mut buf = [0u8; 4096];
    let n = k!(SYS_getdents64, fd, &mut buf, buf.len());
    let mut names = Vec::new();
    let mut at = 0;
    while at < n.addr() {
        let len = usize::from(buf[at + 16]) | usize::from(buf[at + 17]) << 8;
        let name = &buf[at + 19..at + len];
        let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
        names.push(String::from_utf8_lossy(&name[..end]).into_owned());
        at += len;
    }
    crate::util::close(fd.int());
    names.sort();
    names.join(" ")
}

const LAYERS: &CStr = c"lowerdir=l,upperdir=u,workdir=w";

fn united(o: Out) {
    with_layers(o, |o| {
        tell!(o, "mount" => united_on(c"o", LAYERS), "all" => list(c"o"), "file" => cat(c"o/file"), "own" => cat(c"o/own"), "work" => list(c"w"), "work's" => stat_text(c"w/work", 0));
        show_table(o);
        let dev = |p: &CStr| crate::util::stat_at(p, 0).map_or(0, |s| s.st_dev);
        tell!(o, "one device" => dev(c"o") == dev(c"o/dir"), "another" => dev(c"o") != dev(c"u"));
        let mut st = [0u64; 16];
        k!(SYS_statfs, c"o", &mut st);
        tell!(o, "magic" => format!("{:x}", st[0]), "unmount" => umount(c"o", 0));
    });
}

fn append(path: &CStr, bytes: &[u8]) -> String {
    let fd = open(path, O_WRONLY | O_APPEND, 0);
    write(fd.int(), bytes);
    crate::util::close(fd.int());
    fd.yes()
}

fn what_is_changed_goes_up(o: Out) {
    with_layers(o, |o| {
        united_on(c"o", LAYERS);
        tell!(o, "append" => append(c"o/file", b"+"), "now" => cat(c"o/file"), "below" => cat(c"l/file"), "above" => cat(c"u/file"), "in a directory" => append(c"o/dir/one", b"+"), "above" => cat(c"u/dir/one"), "chmod" => k!(SYS_chmod, c"o/only", 0o700), "above" => stat_text(c"u/only", 0), "below" => stat_text(c"l/only", 0));
        mk(c"o/new", b"n");
        tell!(o, "new" => cat(c"u/new"), "link" => k!(SYS_link, c"o/file", c"o/link"), "links" => stat_text(c"o/link", 0), "symlink" => k!(SYS_symlink, c"new", c"o/sym"), "above" => cat(c"u/sym"));
    });
}

fn what_is_removed_leaves_a_whiteout(o: Out) {
    with_layers(o, |o| {
        united_on(c"o", LAYERS);
        tell!(o, "unlink" => k!(SYS_unlink, c"o/file"), "gone" => cat(c"o/file"), "above" => stat_text(c"u/file", 0).starts_with("char 0000"), "number" => crate::util::stat_at(c"u/file", 0).map_or(9, |s| s.st_rdev), "below" => cat(c"l/file"), "rmdir" => k!(SYS_rmdir, c"o/only"), "above" => stat_text(c"u/only", 0).starts_with("char 0000"), "not empty" => k!(SYS_rmdir, c"o/dir"), "upper's own" => k!(SYS_unlink, c"o/own"), "above" => stat_text(c"u/own", 0), "all" => list(c"o"));
        mk(c"o/file", b"again");
        tell!(o, "again" => cat(c"o/file"), "above" => cat(c"u/file"), "directory again" => k!(SYS_mkdir, c"o/only", 0o755), "in it" => list(c"o/only"), "rename" => k!(SYS_rename, c"o/file", c"o/moved"), "left" => stat_text(c"u/file", 0).starts_with("char 0000"), "lower directory" => k!(SYS_rename, c"o/dir", c"o/dir2"));
    });
}

fn directories_are_merged(o: Out) {
    with_layers(o, |o| {
        dirs(&[c"u/dir"]);
        mk(c"u/dir/three", b"3");
        tell!(o, "mount" => united_on(c"o", c"lowerdir=m:l,upperdir=u,workdir=w"), "dir" => list(c"o/dir"), "file" => cat(c"o/file"), "links" => stat_text(c"o/dir", 0));
    });
}

fn several_below(o: Out) {
    with_layers(o, |o| {
        tell!(o, "mount" => united_on(c"o", c"lowerdir=l:m,upperdir=u,workdir=w"), "dir" => list(c"o/dir"), "file" => cat(c"o/file"), "remove" => k!(SYS_unlink, c"o/file"), "gone" => cat(c"o/file"), "two" => k!(SYS_unlink, c"o/dir/two"), "dir" => list(c"o/dir"));
        show_table(o);
    });
}

fn without_an_upper(o: Out) {
    with_layers(o, |o| {
        tell!(o, "one alone" => united_on(c"o", c"lowerdir=l"), "two" => united_on(c"o", c"lowerdir=l:m"), "dir" => list(c"o/dir"), "file" => cat(c"o/file"), "write" => writable(c"o/x"), "append" => append(c"o/file", b"x"), "remount" => mount(c"x", c"o", c"", MS_REMOUNT, c""));
        // Of the options, some depend on how the kernel was built.
        let table = table_below(&here());
        tell!(o, "read-only" => table.iter().any(|l| l.contains("overlay overlay ro,lowerdir=l:m")));
    });
}

fn mounted_again(o: Out) {
    with_layers(o, |o| {
        united_on(c"o", LAYERS);
        append(c"o/file", b"+");
        k!(SYS_unlink, c"o/dir/one");
        k!(SYS_rmdir, c"o/only");
        k!(SYS_mkdir, c"o/only", 0o755);
        tell!(o, "unmount" => umount(c"o", 0), "again" => united_on(c"o", LAYERS), "file" => cat(c"o/file"), "dir" => list(c"o/dir"), "only" => list(c"o/only"));
        umount(c"o", 0);
        mk(c"l/only/late", b"");
        tell!(o, "opaque" => united_on(c"o", LAYERS), "only" => list(c"o/only"));
        umount(c"o", 0);
        k!(SYS_mknodat, AT_FDCWD, c"u/file2", S_IFCHR, 0);
        mk(c"l/file2", b"");
        tell!(o, "hidden by hand" => united_on(c"o", LAYERS), "file" => cat(c"o/file2"), "all" => list(c"o"));
    });
}

fn seen_from_the_upper_side(o: Out) {
    with_layers(o, |o| {
        tell!(o, "none yet" => stat_text(c"u/late", 0), "and" => stat_text(c"u/dir/in", 0));
        united_on(c"o", LAYERS);
        mk(c"o/late", b"1");
        mk(c"o/dir/in", b"2");
        tell!(o, "now" => cat(c"u/late"), "and" => cat(c"u/dir/in"), "same" => list(c"u"), "remove" => k!(SYS_unlink, c"o/late"), "gone" => stat_text(c"u/late", 0));
    });
}

fn options_and_errors(o: Out) {
    with_layers(o, |o| {
        mk(c"f", b"");
        mount(c"other", c"c", c"tmpfs", 0, c"");
        dirs(&[c"c/w", c"c/u"]);
        for data in [
            c"",
            c"lowerdir=l",
            c"upperdir=u,workdir=w",
            c"lowerdir=l,upperdir=u",
            c"lowerdir=nowhere,upperdir=u,workdir=w",
            c"lowerdir=l,upperdir=nowhere,workdir=w",
            c"lowerdir=l,upperdir=u,workdir=nowhere",
            c"lowerdir=f,upperdir=u,workdir=w",
            c"lowerdir=l,upperdir=f,workdir=w",
            c"lowerdir=l,upperdir=u,workdir=u",
            c"lowerdir=l,upperdir=u,workdir=u/own",
            c"lowerdir=l,upperdir=u,workdir=c/w",
            c"lowerdir=l,upperdir=c/u,workdir=c/w",
            c"lowerdir=l:,upperdir=u,workdir=w",
            c"lowerdir=l,upperdir=u,workdir=w,what",
            c"lowerdir=l,upperdir=u,workdir=w,xino=off",
            c"lowerdir=l,upperdir=u,workdir=w,index=maybe",
            c"lowerdir=l,workdir=w",
            c"lowerdir=l:m,workdir=w",
            c"lowerdir=,upperdir=u,workdir=w",
        ] {
            let r = united_on(c"o", data);
            say!(o, "{data:?} {r}");
            if r.ok() {
                umount(c"o", 0);
            }
        }
        tell!(o, "on a file" => united_on(c"f", LAYERS));
        let text = as_user(|| {
            tell!(o, "user" => united_on(c"o", LAYERS));
        });
        say!(o, "{text}");
        dirs(&[c"l:x", c"l,y"]);
        mk(c"l:x/colon", b"");
        mk(c"l,y/comma", b"");
        tell!(o, "colon" => united_on(c"o", c"lowerdir=l\\:x,upperdir=u,workdir=w"), "all" => list(c"o"), "unmount" => umount(c"o", 0), "comma" => united_on(c"o", c"lowerdir=l\\,y,upperdir=u,workdir=w"), "all" => list(c"o"));
    });
}

fn by_descriptors(o: Out) {
    with_layers(o, |o| {
        let fd = crate::sys::call(430, &[c"overlay".as_ptr() as usize, 0]).int();
        let set = |key: &CStr, value: &CStr| k!(SYS_fsconfig, fd, 1, key, value, 0);
        tell!(o, "open" => fd > 0, "lower" => set(c"lowerdir+", c"l"), "another" => set(c"lowerdir+", c"m"), "upper" => set(c"upperdir", c"u"), "work" => set(c"workdir", c"w"), "unknown" => set(c"nosuch", c"x"), "create" => k!(SYS_fsconfig, fd, 6, 0, 0, 0));
        let tree = k!(SYS_fsmount, fd, 0, 0).int();
        tell!(o, "file" => k!(SYS_openat, tree, c"file", O_RDONLY, 0).yes(), "move" => k!(SYS_move_mount, tree, c"", AT_FDCWD, c"o", 4), "all" => list(c"o"), "dir" => list(c"o/dir"));
    });
}

fn trees_that_are_unmounted(o: Out) {
    apart(o, |o| {
        mount(c"x", c"a", c"tmpfs", 0, c"");
        dirs(&[c"a/l", c"a/u", c"a/w"]);
        mk(c"a/l/file", b"x");
        tell!(o, "mount" => united_on(c"b", c"lowerdir=a/l,upperdir=a/u,workdir=a/w"), "unmount" => umount(c"a", 0), "file" => cat(c"b/file"), "write" => append(c"b/file", b"y"), "now" => cat(c"b/file"), "off" => umount(c"b", 0));
    });
}

fn whiteouts_in_it(o: Out) {
    with_layers(o, |o| {
        united_on(c"o", LAYERS);
        tell!(o, "rename" => k!(SYS_renameat2, AT_FDCWD, c"o/file", AT_FDCWD, c"o/x", 4), "make" => k!(SYS_mknodat, AT_FDCWD, c"o/w", S_IFCHR, 0), "device" => k!(SYS_mknodat, AT_FDCWD, c"o/null", S_IFCHR | 0o666, makedev(1, 3)), "exchange" => k!(SYS_renameat2, AT_FDCWD, c"o/file", AT_FDCWD, c"o/own", 2), "file" => cat(c"o/file"));
    });
}

fn as_a_root(o: Out) {
    with_layers(o, |o| {
        united_on(c"o", LAYERS);
        dirs(&[c"o/old", c"o/proc"]);
        mount(c"proc", c"o/proc", c"proc", 0, c"");
        let text = in_child(|| {
            tell!(o, "pivot" => k!(SYS_pivot_root, c"o", c"o/old"), "chdir" => k!(SYS_chdir, c"/"), "off" => umount(c"/old", MNT_DETACH), "file" => cat(c"/file"));
            say_table(o, "/");
            0
        });
        say!(o, "{text}");
    });
}
