//! What cases about mounts have in common: a mount namespace of their own, and mountinfo as text
//! that does not depend on numbers.

use crate::out::Out;
use crate::sys::R;
use crate::util::{close, in_child, mk, open};
use crate::{k, say, tell};
use libc::*;
use std::ffi::CStr;

/// mount(2).
pub fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: u64, data: &CStr) -> R {
    k!(SYS_mount, source, target, kind, flags, data)
}

/// A bind mount.
pub fn bind(source: &CStr, target: &CStr) -> R {
    mount(source, target, c"", MS_BIND, c"")
}

/// Changes the propagation of a mount.
pub fn propagation(target: &CStr, flags: u64) -> R {
    k!(SYS_mount, c"none", target, 0, flags, 0)
}

/// umount2(2).
pub fn umount(target: &CStr, flags: i32) -> R {
    k!(SYS_umount2, target, flags)
}

/// Runs `f` in a mount namespace of its own, with nothing shared, in an empty tmpfs with the
/// directories `a`, `b` and `c`.
pub fn apart(o: Out, f: impl FnOnce(Out)) {
    let text = in_child(|| {
        tell!(o, "unshare" => k!(SYS_unshare, CLONE_NEWNS));
        propagation(c"/", MS_REC | MS_PRIVATE);
        k!(SYS_mkdir, c"base", 0o755);
        tell!(o, "base" => mount(c"base", c"base", c"tmpfs", 0, c"mode=755"));
        k!(SYS_chdir, c"base");
        for dir in [c"a", c"b", c"c"] {
            k!(SYS_mkdir, dir, 0o755);
        }
        f(o);
        0
    });
    say!(o, "{text}");
}

/// As [`apart`], where `a` is a tmpfs with a file, and with a directory that has another on it.
pub fn with_trees(o: Out, f: impl FnOnce(Out)) {
    apart(o, |o| {
        mount(c"outer", c"a", c"tmpfs", 0, c"");
        mk(c"a/file", b"x");
        k!(SYS_mkdir, c"a/sub", 0o755);
        mount(c"inner", c"a/sub", c"tmpfs", 0, c"");
        mk(c"a/sub/inner", b"y");
        f(o);
    });
}

/// Whether a file can be opened.
pub fn there(path: &CStr) -> String {
    let fd = open(path, O_RDONLY, 0);
    close(fd.int());
    fd.yes()
}

/// Whether a file can be made.
pub fn writable(path: &CStr) -> String {
    let fd = open(path, O_WRONLY | O_CREAT, 0o600);
    close(fd.int());
    fd.yes()
}

/// Makes directories.
pub fn dirs(all: &[&CStr]) {
    for dir in all {
        k!(SYS_mkdir, *dir, 0o755);
    }
}

/// The working directory's name.
pub fn here() -> String {
    let mut text = [0u8; 4096];
    let n = k!(SYS_getcwd, &mut text, text.len());
    String::from_utf8_lossy(&text[..n.addr().saturating_sub(1)]).into_owned()
}

/// All of a file as lines.
pub fn lines(path: &CStr) -> Vec<String> {
    let fd = open(path, O_RDONLY, 0);
    let mut all = Vec::new();
    let mut part = vec![0u8; 65536];
    loop {
        let n = k!(SYS_read, fd, &mut part[..], part.len());
        if n.0 <= 0 {
            break;
        }
        all.extend_from_slice(&part[..n.addr()]);
    }
    close(fd.int());
    let text = String::from_utf8_lossy(&all).into_owned();
    text.lines().map(str::to_owned).collect()
}

/// The lines of mountinfo of what is at `base` and below, with names from there, the names of
/// groups in the order they are found, and without numbers.
pub fn table_below(base: &str) -> Vec<String> {
    let mut groups: Vec<String> = Vec::new();
    let mut name_of = |id: &str| {
        let known = groups.iter().position(|g| g == id);
        let at = known.unwrap_or_else(|| {
            groups.push(id.to_owned());
            groups.len() - 1
        });
        format!("G{at}")
    };
    let mut all = Vec::new();
    for line in lines(c"/proc/self/mountinfo") {
        let words: Vec<&str> = line.split(' ').collect();
        let Some(point) = words.get(4).and_then(|p| p.strip_prefix(base)) else {
            continue;
        };
        let dash = words.iter().position(|w| *w == "-").unwrap_or(words.len());
        let mut tags = Vec::new();
        for tag in words.get(6..dash).unwrap_or_default() {
            tags.push(match tag.split_once(':') {
                Some((kind, id)) => format!("{kind}:{}", name_of(id)),
                None => (*tag).to_owned(),
            });
        }
        let rest = words.get(dash + 1..).unwrap_or_default().join(" ");
        all.push(format!(
            "{} on .{point} {} [{}] {rest}",
            words[3],
            words[5],
            tags.join(" ")
        ));
    }
    all
}

/// Says those of the working directory.
pub fn show_table(o: Out) {
    say_table(o, &here());
}

/// Says those of `base`.
pub fn say_table(o: Out, base: &str) {
    for line in table_below(base) {
        say!(o, "  {line}");
    }
}
