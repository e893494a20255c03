//! Mounts by descriptors, and tmpfs set up by them.

use crate::cases::mount_help::{
    bind, here, lines, mount, propagation, show_table, table_below, there, umount, with_trees,
    writable,
};
use crate::out::Out;
use crate::sys::{self, R, child};
use crate::util::{as_user, close, mk, open, pipe, read, wait_text, write};
use crate::{cases, k, say, tell};
use libc::*;
use std::ffi::CStr;

cases!(
    trees_are_cloned,
    whole_trees,
    trees_without_a_place,
    placing,
    placing_errors,
    opening_errors,
    setting_up,
    setting_up_errors,
    mounting_errors,
    attributes,
    attributes_of_trees,
    attribute_errors,
    unprivileged,
    messages,
    picking,
    picking_errors,
    beneath,
    beneath_errors,
    groups_are_set,
    trees_upon_trees,
    trees_of_others,
    attributes_of_new_trees,
    mapped_ids,
    open_for_writing,
    listed_mounts,
    mounts_told,
    mounts_told_errors,
    numbers_of_mounts,
    namespaces_as_mounts,
);

const EMPTY: i32 = AT_EMPTY_PATH;
const CLONE: i32 = 1;
const RECURSIVE: i32 = 0x8000;
const FROM_EMPTY: i32 = 4;
const TO_EMPTY: i32 = 0x40;

fn open_tree(path: &CStr, flags: i32) -> R {
    sys::call(
        428,
        &[AT_FDCWD as usize, path.as_ptr() as usize, flags as usize],
    )
}

fn move_mount(from: (i32, &CStr), to: (i32, &CStr), flags: i32) -> R {
    let (a, b) = (from.1.as_ptr() as usize, to.1.as_ptr() as usize);
    sys::call(429, &[from.0 as usize, a, to.0 as usize, b, flags as usize])
}

fn fsopen(name: &CStr, flags: i32) -> R {
    sys::call(430, &[name.as_ptr() as usize, flags as usize])
}

fn fsconfig(fd: i32, cmd: u32, key: Option<&CStr>, value: Option<&CStr>, aux: i32) -> R {
    let at = |s: Option<&CStr>| s.map_or(0, |s| s.as_ptr() as usize);
    sys::call(
        431,
        &[fd as usize, cmd as usize, at(key), at(value), aux as usize],
    )
}

fn fsmount(fd: i32, flags: i32, attrs: u32) -> R {
    sys::call(432, &[fd as usize, flags as usize, attrs as usize])
}

fn set_attr(path: &CStr, flags: i32, attr: &[u64; 4]) -> R {
    set_attr_at(AT_FDCWD, path, flags, attr, 32)
}

fn set_attr_at(dir: i32, path: &CStr, flags: i32, attr: &[u64; 4], size: usize) -> R {
    let (path, attr) = (path.as_ptr() as usize, attr.as_ptr() as usize);
    sys::call(442, &[dir as usize, path, flags as usize, attr, size])
}

fn made(o: Out, options: &[(&CStr, &CStr)]) -> i32 {
    let fd = fsopen(c"tmpfs", 1).int();
    for (key, value) in options {
        tell!(o, "set" => fsconfig(fd, 1, Some(key), Some(value), 0));
    }
    fsconfig(fd, 6, None, None, 0);
    fd
}

fn trees_are_cloned(o: Out) {
    with_trees(o, |o| {
        let tree = open_tree(c"a", CLONE | O_CLOEXEC);
        tell!(o, "tree" => tree.yes(), "cloexec" => k!(SYS_fcntl, tree, F_GETFD), "flags" => k!(SYS_fcntl, tree, F_GETFL).0 & i64::from(O_PATH) != 0);
        tell!(o, "file in it" => k!(SYS_openat, tree, c"file", O_RDONLY, 0).yes(), "move" => move_mount((tree.int(), c""), (AT_FDCWD, c"b"), FROM_EMPTY));
        tell!(o, "file" => there(c"b/file"), "below it" => there(c"b/sub/inner"), "again" => move_mount((tree.int(), c""), (AT_FDCWD, c"c"), FROM_EMPTY), "moved" => there(c"c/file"), "not" => there(c"b/file"));
        tell!(o, "unmount" => k!(SYS_umount2, c"c", 0), "busy" => k!(SYS_umount2, c"a", 0), "close" => close(tree.int()));
        tell!(o, "unmount" => k!(SYS_umount2, c"c", 0), "original" => there(c"a/file"));
    });
}

fn whole_trees(o: Out) {
    with_trees(o, |o| {
        let tree = open_tree(c"a", CLONE | RECURSIVE);
        tell!(o, "move" => move_mount((tree.int(), c""), (AT_FDCWD, c"b"), FROM_EMPTY), "file" => there(c"b/file"), "inner" => there(c"b/sub/inner"), "unmount inner" => k!(SYS_umount2, c"b/sub", 0), "gone" => there(c"b/sub/inner"), "still" => there(c"a/sub/inner"));
        let part = open_tree(c"a/sub", CLONE).int();
        tell!(o, "part" => move_mount((part, c""), (AT_FDCWD, c"c"), FROM_EMPTY), "inner" => there(c"c/inner"));
        let file = open_tree(c"a/file", CLONE).int();
        tell!(o, "file on a directory" => move_mount((file, c""), (AT_FDCWD, c"c"), FROM_EMPTY), "on a file" => move_mount((file, c""), (AT_FDCWD, c"c/inner"), FROM_EMPTY));
    });
}

fn trees_without_a_place(o: Out) {
    with_trees(o, |o| {
        let plain = open_tree(c"a", 0);
        tell!(o, "plain" => plain.yes(), "file" => k!(SYS_openat, plain, c"file", O_RDONLY, 0).yes(), "move by it" => move_mount((plain.int(), c""), (AT_FDCWD, c"b"), FROM_EMPTY), "moved" => there(c"b/file"), "inner too" => there(c"b/sub/inner"));
        let tree = open_tree(c"b", CLONE).int();
        tell!(o, "unmount" => k!(SYS_umount2, c"b", MNT_DETACH), "lives" => k!(SYS_openat, tree, c"file", O_RDONLY, 0).yes(), "up" => k!(SYS_openat, tree, c"../file", O_RDONLY, 0).yes());
    });
}

fn placing(o: Out) {
    with_trees(o, |o| {
        let tree = open_tree(c"a", CLONE).int();
        let target = open(c"b", O_PATH | O_DIRECTORY, 0).int();
        tell!(o, "to a descriptor" => move_mount((tree, c""), (target, c""), FROM_EMPTY | TO_EMPTY), "file" => there(c"b/file"));
        tell!(o, "by names" => move_mount((AT_FDCWD, c"b"), (AT_FDCWD, c"c"), 0), "file" => there(c"c/file"), "not" => there(c"b/file"));
        k!(SYS_symlink, c"b", c"link");
        tell!(o, "to a link" => move_mount((AT_FDCWD, c"c"), (AT_FDCWD, c"link"), 0), "followed" => move_mount((AT_FDCWD, c"c"), (AT_FDCWD, c"link"), 0x10), "file" => there(c"b/file"), "from a link" => move_mount((AT_FDCWD, c"link"), (AT_FDCWD, c"c"), 0), "followed" => move_mount((AT_FDCWD, c"link"), (AT_FDCWD, c"c"), 1), "file" => there(c"c/file"));
    });
}

fn placing_errors(o: Out) {
    with_trees(o, |o| {
        let tree = open_tree(c"a", CLONE).int();
        tell!(o, "flags" => move_mount((tree, c""), (AT_FDCWD, c"nowhere"), 8), "nowhere" => move_mount((tree, c""), (AT_FDCWD, c"nowhere"), FROM_EMPTY), "empty" => move_mount((tree, c""), (AT_FDCWD, c"b"), 0), "bad descriptor" => move_mount((99, c""), (AT_FDCWD, c"b"), FROM_EMPTY), "no mount" => move_mount((AT_FDCWD, c"b"), (AT_FDCWD, c"c"), 0), "inside" => move_mount((tree, c"file"), (AT_FDCWD, c"b"), 0));
        tell!(o, "into itself" => move_mount((AT_FDCWD, c"a"), (AT_FDCWD, c"a/sub"), 0), "on a file" => move_mount((tree, c""), (AT_FDCWD, c"a/file"), FROM_EMPTY), "mount on a file" => move_mount((AT_FDCWD, c"a/sub"), (AT_FDCWD, c"a/file"), 0), "group" => move_mount((AT_FDCWD, c"a"), (AT_FDCWD, c"a/sub"), 0x100), "both" => move_mount((tree, c""), (AT_FDCWD, c"b"), 0x300 | FROM_EMPTY));
        tell!(o, "still good" => move_mount((tree, c""), (AT_FDCWD, c"b"), FROM_EMPTY));
    });
}

fn opening_errors(o: Out) {
    with_trees(o, |o| {
        tell!(o, "flags" => open_tree(c"a", 2), "recursive alone" => open_tree(c"a", RECURSIVE), "nowhere" => open_tree(c"nowhere", CLONE), "empty" => open_tree(c"", CLONE), "here" => open_tree(c"", EMPTY).yes(), "null" => sys::call(428, &[AT_FDCWD as usize, 0, 0]), "not followed" => open_tree(c"a", AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT).yes());
    });
}

fn setting_up(o: Out) {
    with_trees(o, |o| {
        let fd = fsopen(c"tmpfs", 1);
        tell!(o, "open" => fd.yes(), "cloexec" => k!(SYS_fcntl, fd, F_GETFD), "nothing to read" => crate::util::read(fd.int(), 100).0);
        let fd = fd.int();
        tell!(o, "source" => fsconfig(fd, 1, Some(c"source"), Some(c"mine"), 0), "mode" => fsconfig(fd, 1, Some(c"mode"), Some(c"750"), 0), "size" => fsconfig(fd, 1, Some(c"size"), Some(c"64k"), 0));
        tell!(o, "too early" => fsmount(fd, 0, 0), "create" => fsconfig(fd, 6, None, None, 0), "again" => fsconfig(fd, 6, None, None, 0), "late" => fsconfig(fd, 1, Some(c"mode"), Some(c"700"), 0));
        let tree = fsmount(fd, 1, 0x2 | 0x8);
        tell!(o, "mount" => tree.yes(), "once" => fsmount(fd, 0, 0), "cloexec" => k!(SYS_fcntl, tree, F_GETFD), "make in it" => k!(SYS_openat, tree, c"new", O_CREAT | O_WRONLY, 0o600).yes());
        tell!(o, "move" => move_mount((tree.int(), c""), (AT_FDCWD, c"b"), FROM_EMPTY), "new" => there(c"b/new"));
        let st = crate::util::stat_at(c"b", 0).map_or(0, |s| s.st_mode);
        let text = crate::util::cat(c"/proc/self/mounts");
        let line = text.split("\\n").find(|l| l.starts_with("mine "));
        let words: Vec<&str> = line.unwrap_or_default().split(' ').collect();
        tell!(o, "mode" => format!("{st:o}"), "kind" => words.get(2).unwrap_or(&"").to_string(), "options" => words.get(3).is_some_and(|w| w.contains("nosuid") && w.contains("noexec") && w.contains("size=64k")));
    });
}

fn setting_up_errors(o: Out) {
    with_trees(o, |o| {
        tell!(o, "unknown" => fsopen(c"nosuchfs", 0), "flags" => fsopen(c"tmpfs", 2), "null" => sys::call(430, &[0, 0]));
        let fd = fsopen(c"tmpfs", 0).int();
        let (k, v) = (Some(c"size"), Some(c"1m"));
        for (cmd, key, value, aux) in [
            (0, None, None, 0),
            (0, k, v, 0),
            (0, k, None, 1),
            (1, k, None, 0),
            (1, None, v, 0),
            (1, k, v, 1),
            (2, k, v, 0),
            (3, k, v, -1),
            (5, k, v, 0),
            (6, k, None, 0),
            (7, None, v, 0),
            (7, None, None, 0),
            (9, k, v, 0),
        ] {
            say!(
                o,
                "{cmd} {} {} {aux} => {}",
                key.is_some(),
                value.is_some(),
                fsconfig(fd, cmd, key, value, aux)
            );
        }
        tell!(o, "negative" => fsconfig(-1, 1, k, v, 0), "no such" => fsconfig(99, 1, k, v, 0), "other" => fsconfig(open(c"b", O_RDONLY, 0).int(), 1, k, v, 0), "first the command" => fsconfig(99, 9, k, v, 0));
        tell!(o, "parameter" => fsconfig(fd, 1, Some(c"nosuch"), v, 0), "value" => fsconfig(fd, 1, Some(c"size"), Some(c"many"), 0), "mode" => fsconfig(fd, 1, Some(c"mode"), Some(c"9"), 0), "source" => fsconfig(fd, 1, Some(c"source"), v, 0), "twice" => fsconfig(fd, 1, Some(c"source"), v, 0), "read-only" => fsconfig(fd, 0, Some(c"ro"), None, 0));
    });
}

fn mounting_errors(o: Out) {
    with_trees(o, |o| {
        let fd = made(o, &[(c"size", c"1m")]);
        tell!(o, "flags" => fsmount(fd, 2, 0), "attributes" => fsmount(fd, 0, 1 << 10), "access times" => fsmount(fd, 0, 0x30), "no such" => fsmount(99, 0, 0), "other" => fsmount(open(c"b", O_RDONLY, 0).int(), 0, 0), "good" => fsmount(fd, 0, 0).yes());
        let fd = made(o, &[]);
        let tree = fsmount(fd, 0, 1).int();
        tell!(o, "read-only" => k!(SYS_openat, tree, c"new", O_CREAT | O_WRONLY, 0o600), "move" => move_mount((tree, c""), (AT_FDCWD, c"b"), FROM_EMPTY), "still" => writable(c"b/new"));
    });
}

fn attributes(o: Out) {
    with_trees(o, |o| {
        tell!(o, "read-only" => set_attr(c"a", 0, &[1, 0, 0, 0]), "file" => writable(c"a/new"), "below" => writable(c"a/sub/new"));
        tell!(o, "writable" => set_attr(c"a", 0, &[0, 1, 0, 0]), "file" => writable(c"a/new"));
        tell!(o, "all" => set_attr(c"a", RECURSIVE, &[1, 0, 0, 0]), "file" => writable(c"a/new"), "below" => writable(c"a/sub/new"));
        tell!(o, "set and cleared" => set_attr(c"a", RECURSIVE, &[2, 3, 0, 0]), "file" => writable(c"a/new"), "below" => writable(c"a/sub/new"));
        tell!(o, "nothing" => set_attr(c"nowhere", 0, &[0, 0, 0, 9]), "propagation" => set_attr(c"a", RECURSIVE, &[0, 0, MS_PRIVATE, 0]));
    });
}

fn attributes_of_trees(o: Out) {
    with_trees(o, |o| {
        let tree = open_tree(c"a", CLONE | RECURSIVE).int();
        tell!(o, "read-only" => set_attr_at(tree, c"", EMPTY | RECURSIVE, &[1, 0, 0, 0], 32), "original" => writable(c"a/new"));
        tell!(o, "move" => move_mount((tree, c""), (AT_FDCWD, c"b"), FROM_EMPTY), "file" => writable(c"b/new"), "below" => writable(c"b/sub/new"));
    });
}

fn attribute_errors(o: Out) {
    with_trees(o, |o| {
        tell!(o, "flags" => set_attr(c"a", 1, &[1, 0, 0, 0]), "no mount" => set_attr(c"b", 0, &[1, 0, 0, 0]), "nowhere" => set_attr(c"nowhere", 0, &[1, 0, 0, 0]), "unknown" => set_attr(c"a", 0, &[1 << 40, 0, 0, 0]), "unknown and nowhere" => set_attr(c"nowhere", 0, &[0, 1 << 40, 0, 0]));
        for attr in [
            [0x10u64, 0, 0, 0],
            [0, 0x10, 0, 0],
            [0x10, 0x70, 0, 0],
            [0x30, 0x70, 0, 0],
            [0, 0x70, 0, 0],
            [0x20, 0x70, 0, 0],
            [0, 0, MS_PRIVATE | MS_SHARED, 0],
            [0, 0, 1, 0],
        ] {
            say!(o, "{attr:x?} {}", set_attr(c"a", 0, &attr));
        }
        let attr = [1, 0, 0, 0];
        tell!(o, "small" => set_attr_at(AT_FDCWD, c"a", 0, &attr, 31), "none" => set_attr_at(AT_FDCWD, c"a", 0, &attr, 0), "large" => set_attr_at(AT_FDCWD, c"a", 0, &attr, 4097), "fault" => sys::call(442, &[AT_FDCWD as usize, c"a".as_ptr() as usize, 0, 8, 32]));
        let long = [0u64, 0, 0, 0, 5];
        tell!(o, "more than known" => sys::call(442, &[AT_FDCWD as usize, c"a".as_ptr() as usize, 0, long.as_ptr() as usize, 40]));
    });
}

fn unprivileged(o: Out) {
    let fd = fsopen(c"tmpfs", 0).int();
    let text = as_user(|| {
        tell!(o, "open" => fsopen(c"nosuchfs", 9), "clone" => open_tree(c"nowhere", CLONE), "plain" => open_tree(c".", 0).yes(), "wrong flags" => open_tree(c".", 2), "move" => move_mount((99, c""), (99, c""), 8), "attributes" => set_attr(c"nowhere", 0, &[1, 0, 0, 0]), "wrong flag" => set_attr(c"nowhere", 1, &[1, 0, 0, 0]), "small" => set_attr_at(99, c"", 0, &[1, 0, 0, 0], 3), "mount" => fsmount(99, 9, 9), "set" => fsconfig(fd, 1, Some(c"size"), Some(c"1m"), 0), "create" => fsconfig(fd, 6, None, None, 0));
    });
    say!(o, "{text}");
}

/// What a context has to say.
fn said(fd: i32) -> String {
    let (r, text) = crate::util::read(fd, 300);
    if r.ok() { text } else { r.to_string() }
}

fn set(fd: i32, key: &CStr, value: &CStr) -> R {
    fsconfig(fd, 1, Some(key), Some(value), 0)
}

fn messages(o: Out) {
    with_trees(o, |o| {
        let fd = fsopen(c"tmpfs", 1).int();
        tell!(o, "none" => said(fd), "unknown" => set(fd, c"nosuch", c"1"), "says" => said(fd), "none" => said(fd));
        tell!(o, "value" => set(fd, c"size", c"many"), "says" => said(fd), "flag" => fsconfig(fd, 0, Some(c"size"), None, 0), "says" => said(fd));
        tell!(o, "text for a flag" => set(fd, c"inode64", c"1"), "says" => said(fd), "choice" => set(fd, c"huge", c"perhaps"), "says" => said(fd));
        tell!(o, "mode" => set(fd, c"mode", c"8"), "says" => said(fd), "empty" => set(fd, c"uid", c""), "says" => said(fd));
        tell!(o, "source" => set(fd, c"source", c"x"), "twice" => set(fd, c"source", c"x"), "says" => said(fd), "flag" => fsconfig(fd, 0, Some(c"source"), None, 0), "says" => said(fd));
        tell!(o, "unknown" => set(fd, c"nosuch", c"1"), "short" => crate::util::read(fd, 4).0, "says" => said(fd));
        for n in 0..10 {
            let key = std::ffi::CString::new(format!("no{n}")).unwrap_or_default();
            set(fd, &key, c"1");
        }
        let all: Vec<String> = (0..10).map(|_| said(fd)).collect();
        tell!(o, "the last" => all.join(" "), "create" => fsconfig(fd, 6, None, None, 0), "write" => crate::util::write(fd, b"x"), "seek" => k!(SYS_lseek, fd, 0, 0));
        let fd = fsopen(c"mqueue", 1).int();
        tell!(o, "takes none" => set(fd, c"size", c"1"), "says" => said(fd), "file" => fsconfig(fd, 5, Some(c"size"), None, fd), "says" => said(fd), "path" => fsconfig(fd, 3, Some(c"size"), Some(c"a"), AT_FDCWD), "says" => said(fd));
    });
}

fn options_of(name: &str) -> String {
    let table = table_below(&here());
    let line = table
        .iter()
        .find(|l| l.contains(&format!("- {name} ")) || l.contains(&format!("tmpfs {name} ")));
    line.cloned().unwrap_or_else(|| "not there".into())
}

fn picking(o: Out) {
    with_trees(o, |o| {
        let fd = k!(SYS_fspick, AT_FDCWD, c"a", 1).int();
        tell!(o, "create" => fsconfig(fd, 6, None, None, 0), "size" => set(fd, c"size", c"1m"), "change" => fsconfig(fd, 7, None, None, 0), "now" => options_of("outer"));
        tell!(o, "read-only" => fsconfig(fd, 0, Some(c"ro"), None, 0), "change" => fsconfig(fd, 7, None, None, 0), "now" => options_of("outer"), "file" => writable(c"a/new"));
        tell!(o, "writable" => fsconfig(fd, 0, Some(c"rw"), None, 0), "change" => fsconfig(fd, 7, None, None, 0), "file" => writable(c"a/new"), "mount it" => fsmount(fd, 0, 0));
        tell!(o, "unknown" => set(fd, c"nosuch", c"1"), "says" => said(fd), "again" => fsconfig(fd, 7, None, None, 0));
        let made = made(o, &[(c"source", c"mine")]);
        let tree = fsmount(made, 0, 0).int();
        tell!(o, "move" => move_mount((tree, c""), (AT_FDCWD, c"b"), FROM_EMPTY), "changed by what made it" => set(made, c"size", c"64k"), "change" => fsconfig(made, 7, None, None, 0), "now" => options_of("mine"));
    });
}

fn picking_errors(o: Out) {
    with_trees(o, |o| {
        let pick = |path: &CStr, flags: i32| k!(SYS_fspick, AT_FDCWD, path, flags);
        tell!(o, "no root" => pick(c"a/file", 0), "nowhere" => pick(c"nowhere", 0), "flags" => pick(c"nowhere", 16), "empty" => pick(c"", 0), "null" => k!(SYS_fspick, AT_FDCWD, 0, 0));
        let fd = open(c"a", O_PATH, 0).int();
        tell!(o, "by descriptor" => k!(SYS_fspick, fd, c"", 8).yes());
        k!(SYS_symlink, c"a", c"link");
        tell!(o, "link" => pick(c"link", 0).yes(), "not followed" => pick(c"link", 2));
        let text = as_user(|| {
            tell!(o, "user" => pick(c"nowhere", 16));
        });
        say!(o, "{text}");
    });
}

fn beneath(o: Out) {
    with_trees(o, |o| {
        let fd = made(o, &[(c"source", c"under")]);
        let tree = fsmount(fd, 0, 0).int();
        k!(SYS_openat, tree, c"lower", O_CREAT | O_WRONLY, 0o600);
        tell!(o, "beneath" => move_mount((tree, c""), (AT_FDCWD, c"a/sub"), FROM_EMPTY | 0x200), "still on top" => there(c"a/sub/inner"));
        show_table(o);
        tell!(o, "unmount" => umount(c"a/sub", 0), "now" => there(c"a/sub/lower"), "again" => umount(c"a/sub", 0), "nothing" => umount(c"a/sub", 0));
    });
}

fn beneath_errors(o: Out) {
    with_trees(o, |o| {
        let tree = open_tree(c"a/sub", CLONE).int();
        tell!(o, "no mount" => move_mount((tree, c""), (AT_FDCWD, c"b"), FROM_EMPTY | 0x200), "the root" => move_mount((tree, c""), (AT_FDCWD, c"/"), FROM_EMPTY | 0x200), "a file" => move_mount((tree, c""), (AT_FDCWD, c"a/file"), FROM_EMPTY | 0x200), "below itself" => move_mount((AT_FDCWD, c"a/sub"), (AT_FDCWD, c"a"), 0x200), "itself" => move_mount((AT_FDCWD, c"a"), (AT_FDCWD, c"a"), 0x200));
        show_table(o);
    });
}

fn groups_are_set(o: Out) {
    with_trees(o, |o| {
        bind(c"a", c"b");
        let join = |from: &CStr, to: &CStr| move_mount((AT_FDCWD, from), (AT_FDCWD, to), 0x100);
        tell!(o, "private" => join(c"a", c"b"), "share" => propagation(c"a", MS_SHARED), "join" => join(c"a", c"b"), "again" => join(c"a", c"b"), "others" => join(c"a", c"a/sub"), "no mount" => join(c"a", c"c"), "from none" => join(c"c", c"b"));
        show_table(o);
        k!(SYS_mkdir, c"a/new", 0o755);
        tell!(o, "mount" => mount(c"new", c"a/new", c"tmpfs", 0, c""));
        show_table(o);
    });
}

fn trees_upon_trees(o: Out) {
    with_trees(o, |o| {
        let tree = open_tree(c"a", CLONE).int();
        let other = open_tree(c"a/sub", CLONE).int();
        tell!(o, "into a tree" => move_mount((other, c""), (tree, c"sub"), FROM_EMPTY), "seen" => k!(SYS_openat, tree, c"sub/inner", O_RDONLY, 0).yes(), "the same" => move_mount((tree, c""), (tree, c"sub"), FROM_EMPTY), "attached" => move_mount((AT_FDCWD, c"a/sub"), (tree, c"sub"), 0));
        tell!(o, "place" => move_mount((tree, c""), (AT_FDCWD, c"b"), FROM_EMPTY), "inner" => there(c"b/sub/inner"));
        show_table(o);
        let whole = open_tree(c"a", CLONE | RECURSIVE).int();
        tell!(o, "walked" => k!(SYS_openat, whole, c"sub/inner", O_RDONLY, 0).yes(), "copy of it" => sys::call(428, &[whole as usize, c"sub".as_ptr() as usize, CLONE as usize]).yes(), "part of it" => move_mount((whole, c"sub"), (AT_FDCWD, c"c"), 0), "unmount in it" => k!(SYS_umount2, c"/proc/self/fd/99", 0));
        tell!(o, "close" => close(whole));
    });
}

fn trees_of_others(o: Out) {
    with_trees(o, |o| {
        let mine = open(c"a", O_PATH, 0).int();
        let tree = open_tree(c"a", CLONE).int();
        let text = crate::util::in_child(|| {
            tell!(o, "unshare" => k!(SYS_unshare, CLONE_NEWNS));
            let empty = c"".as_ptr() as usize;
            tell!(o, "another's mount" => move_mount((mine, c""), (AT_FDCWD, c"b"), FROM_EMPTY), "copied" => sys::call(428, &[mine as usize, empty, (CLONE | EMPTY) as usize]), "another's tree" => move_mount((tree, c""), (AT_FDCWD, c"b"), FROM_EMPTY), "there" => there(c"b/file"));
            0
        });
        say!(o, "{text}");
        tell!(o, "here" => there(c"b/file"));
    });
}

fn attributes_of_new_trees(o: Out) {
    with_trees(o, |o| {
        let open = |flags: i32, attr: Option<&[u64; 4]>, size: usize| {
            let attr = attr.map_or(0, |a| a.as_ptr() as usize);
            sys::call(
                467,
                &[
                    AT_FDCWD as usize,
                    c"a".as_ptr() as usize,
                    flags as usize,
                    attr,
                    size,
                ],
            )
        };
        let tree = open(CLONE | RECURSIVE, Some(&[1 | 2, 0, MS_SHARED, 0]), 32);
        tell!(o, "made" => tree.yes(), "place" => move_mount((tree.int(), c""), (AT_FDCWD, c"b"), FROM_EMPTY));
        show_table(o);
        tell!(o, "none" => open(CLONE, None, 0).yes(), "size alone" => open(CLONE, None, 32), "small" => open(CLONE, Some(&[1, 0, 0, 0]), 8), "bad" => open(CLONE, Some(&[1 << 40, 0, 0, 0]), 32), "plain" => open(0, Some(&[4, 0, 0, 0]), 32).yes(), "flags" => open(2, None, 0));
        show_table(o);
    });
}

fn mapped_ids(o: Out) {
    const IDMAP: u64 = 0x10_0000;
    with_trees(o, |o| {
        let user = open(c"/proc/self/ns/user", O_RDONLY, 0).int() as u64;
        let mnt = open(c"/proc/self/ns/mnt", O_RDONLY, 0).int() as u64;
        let file = open(c"a/file", O_RDONLY, 0).int() as u64;
        for attr in [
            [IDMAP, 0, 0, 99],
            [IDMAP, 0, 0, u64::MAX],
            [IDMAP, 0, 0, user],
            [IDMAP, 0, 0, mnt],
            [IDMAP, 0, 0, file],
            [0, IDMAP, 0, user],
            [IDMAP, IDMAP, 0, user],
        ] {
            say!(o, "{} {}", attr[0] | attr[1], set_attr(c"a", 0, &attr));
        }
    });
}

fn open_for_writing(o: Out) {
    with_trees(o, |o| {
        let fd = open(c"a/file", O_WRONLY, 0).int();
        tell!(o, "read-only" => set_attr(c"a", 0, &[1, 0, 0, 0]), "by remount" => k!(SYS_mount, 0, c"a", 0, MS_REMOUNT | MS_BIND | MS_RDONLY, 0), "the whole" => k!(SYS_mount, 0, c"a", 0, MS_REMOUNT | MS_RDONLY, 0), "with others" => set_attr(c"a", RECURSIVE, &[1 | 2, 0, 0, 0]));
        show_table(o);
        tell!(o, "close" => close(fd), "read-only" => set_attr(c"a", RECURSIVE, &[1, 0, 0, 0]));
        show_table(o);
    });
}

/// `struct mnt_id_req`.
fn request(id: u64, param: u64) -> [u64; 4] {
    [32, id, param, 0]
}

fn unique(path: &CStr) -> u64 {
    let mut st = [0u64; 32];
    k!(SYS_statx, AT_FDCWD, path, 0, 0x4000, &mut st);
    st[18]
}

fn listmount(id: u64, after: u64, count: usize, flags: i32) -> (R, Vec<u64>) {
    let mut ids = vec![0u64; 64];
    let r = sys::call(
        458,
        &[
            request(id, after).as_ptr() as usize,
            ids.as_mut_ptr() as usize,
            count,
            flags as usize,
        ],
    );
    ids.truncate(if r.ok() { r.addr() } else { 0 });
    (r, ids)
}

fn listed_mounts(o: Out) {
    with_trees(o, |o| {
        let (base, a, sub) = (unique(c"."), unique(c"a"), unique(c"a/sub"));
        let known = |ids: &[u64]| {
            let name = |id: &u64| {
                [(base, "base"), (a, "a"), (sub, "sub")]
                    .iter()
                    .find(|(i, _)| i == id)
                    .map_or("other", |(_, n)| n)
            };
            ids.iter().map(name).collect::<Vec<_>>().join(" ")
        };
        let (r, all) = listmount(base, 0, 10, 0);
        tell!(o, "below base" => r, "are" => known(&all));
        let (r, all) = listmount(base, 0, 10, 1);
        tell!(o, "reversed" => r, "are" => known(&all));
        let (r, all) = listmount(base, a, 10, 0);
        tell!(o, "after a" => r, "are" => known(&all));
        let (r, all) = listmount(base, 0, 1, 0);
        tell!(o, "one" => r, "is" => known(&all), "below sub" => listmount(sub, 0, 5, 0).0, "none" => listmount(a, 0, 0, 0).0);
        let (_, all) = listmount(u64::MAX, 0, 64, 0);
        tell!(o, "root has them" => [base, a, sub].iter().all(|id| all.contains(id)));
        tell!(o, "flags" => listmount(a, 0, 5, 2).0, "no such" => listmount((1 << 31) + (1 << 40), 0, 5, 0).0, "old number" => listmount(7, 0, 5, 0).0, "after an old number" => listmount(a, 7, 5, 0).0, "many" => listmount(a, 0, 1_000_001, 0).0);
    });
}

fn statmount(id: u64, mask: u64, buf: &mut [u64], len: usize) -> R {
    sys::call(
        457,
        &[
            request(id, mask).as_ptr() as usize,
            buf.as_mut_ptr() as usize,
            len,
            0,
        ],
    )
}

fn mounts_told(o: Out) {
    with_trees(o, |o| {
        propagation(c"a", MS_SHARED);
        k!(
            SYS_mount,
            0,
            c"a/sub",
            0,
            MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NOATIME | MS_RDONLY,
            0
        );
        for path in [c"a", c"a/sub"] {
            let mut buf = vec![0u64; 512];
            let r = statmount(
                unique(path),
                0x1 | 0x2 | 0x8 | 0x10 | 0x20 | 0x200,
                &mut buf,
                4096,
            );
            let word = |at: usize| (buf[at / 8] >> (at % 8 * 8)) as u32;
            let bytes: Vec<u8> = buf.iter().flat_map(|w| w.to_le_bytes()).collect();
            let text = |at: usize| {
                let from = &bytes[512 + word(at) as usize..];
                let end = from.iter().position(|b| *b == 0).unwrap_or(0);
                String::from_utf8_lossy(&from[..end]).into_owned()
            };
            let parent = [c".", c"a"].iter().position(|p| unique(p) == buf[6]);
            let st = crate::util::stat_at(path, 0).map_or(0, |s| s.st_dev);
            tell!(o, "status" => r, "mask" => format!("{:x}", buf[1]), "device" => makedev(word(16), word(20)) == st, "magic" => format!("{:x}", buf[3]), "flags" => word(32), "id" => buf[5] == unique(path), "parent" => format!("{parent:?}"), "attributes" => format!("{:x}", buf[8]), "propagation" => format!("{:x}", buf[9]), "group" => buf[10] != 0, "master" => buf[11]);
            tell!(o, "type" => text(36), "root" => text(104), "point" => text(108).strip_prefix(&here()).unwrap_or("elsewhere"), "source" => text(124));
        }
    });
}

fn mounts_told_errors(o: Out) {
    with_trees(o, |o| {
        let a = unique(c"a");
        let mut buf = vec![0u64; 512];
        tell!(o, "nothing" => statmount(a, 0, &mut buf, 4096), "mask" => buf[1], "size" => buf[0] as u32, "small" => statmount(a, 0x2, &mut buf, 8), "strings" => statmount(a, 0x20, &mut buf, 512), "exactly" => statmount(a, 0x20, &mut buf, 518), "no such" => statmount((1 << 31) + (1 << 40), 2, &mut buf, 4096), "old number" => statmount(3, 2, &mut buf, 4096));
        let call = |req: &[u64; 4], flags: usize| {
            sys::call(
                457,
                &[req.as_ptr() as usize, buf.as_ptr() as usize, 4096, flags],
            )
        };
        tell!(o, "flags" => call(&request(a, 2), 1), "short" => call(&[16, a, 2, 0], 0), "spare" => call(&[24 | 1 << 32, a, 2, 0], 0), "first version" => call(&[24, a, 2, 0], 0), "long" => call(&[1 << 13, a, 2, 0], 0));
    });
}

fn numbers_of_mounts(o: Out) {
    with_trees(o, |o| {
        for path in [c".", c"a", c"a/sub", c"/proc"] {
            let mut st = [0u64; 32];
            k!(SYS_statx, AT_FDCWD, path, 0, 0x1000, &mut st);
            let st_dev = crate::util::stat_at(path, 0).map_or(0, |s| s.st_dev);
            let id = st[18].to_string();
            let info = lines(c"/proc/self/mountinfo");
            let line = info.iter().find(|l| l.split(' ').next() == Some(&id));
            let device = format!("{}:{}", major(st_dev), minor(st_dev));
            let fits = line.is_some_and(|l| l.split(' ').nth(2) == Some(&device));
            let mask = st[0] as u32 & 0x5000;
            let fd = open(path, O_RDONLY, 0).int();
            let fdinfo =
                std::ffi::CString::new(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
            let told = lines(&fdinfo)
                .iter()
                .any(|l| *l == format!("mnt_id:\t{id}"));
            tell!(o, "found" => line.is_some(), "device" => fits, "mask" => format!("{mask:x}"), "fdinfo" => told);
        }
        let (one, again) = (unique(c"a"), unique(c"a/file"));
        tell!(o, "unique" => one > 1 << 31, "the same below" => one == again);
    });
}

/// No namespace may be kept by itself, by whichever way its file is mounted.
fn namespaces_as_mounts(o: Out) {
    // Linux numbers namespaces by CPU, in portions: which is the younger is sure on one alone.
    k!(SYS_sched_setaffinity, 0, 8, &1u64);
    with_trees(o, |o| {
        mk(c"on", b"");
        mk(c"a/on", b"");
        let own = open_tree(c"/proc/self/ns/mnt", CLONE).int();
        tell!(o, "own" => move_mount((own, c""), (AT_FDCWD, c"on"), FROM_EMPTY));
        let other = open_tree(c"/proc/self/ns/uts", CLONE).int();
        tell!(o, "of another kind" => move_mount((other, c""), (AT_FDCWD, c"on"), FROM_EMPTY), "away" => umount(c"on", 0));
        let (ready, go) = (pipe(), pipe());
        let pid = child(|| {
            close(go.1);
            k!(SYS_unshare, CLONE_NEWNS);
            write(ready.1, b"x");
            read(go.0, 1);
            0
        });
        read(ready.0, 1);
        let file = std::ffi::CString::new(format!("/proc/{pid}/ns/mnt")).unwrap_or_default();
        tell!(o, "younger" => bind(&file, c"on"));
        // The copy of the namespace has no mount of it.
        let copy = child(|| {
            k!(SYS_unshare, CLONE_NEWNS);
            tell!(o, "in a copy" => umount(c"on", 0));
            0
        });
        tell!(o, "copy" => wait_text(copy), "here" => umount(c"on", 0));
        propagation(c"a", MS_SHARED);
        tell!(o, "shared" => bind(&file, c"a/on"), "away" => umount(c"a/on", 0), "peer" => bind(c"a", c"b"), "to a peer" => bind(&file, c"a/on"), "away" => umount(c"a/on", 0));
        close(go.1);
        tell!(o, "child" => wait_text(pid));
    });
}
