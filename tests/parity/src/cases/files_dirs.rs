//! Directories: making, listing, removing, renaming, linking.

use crate::out::Out;
use crate::util::{AT, cat, close, mk, open, stat_at, stat_text};
use crate::{cases, k, say, tell};
use libc::*;
use std::ffi::CStr;

cases!(
    mkdir_and_rmdir,
    mkdir_errors,
    rmdir_errors,
    unlink_errors,
    unlinkat_flags,
    hard_links,
    hard_link_errors,
    symbolic_links,
    readlink_sizes,
    rename_files,
    rename_directories,
    rename_errors,
    rename_flags,
    rename_same_file,
    listing,
    listing_in_pieces,
    listing_types,
    listing_rewind,
    listing_while_removing,
    listing_bad,
    many_entries,
    device_nodes,
    removed_working_directory,
    chdir_and_getcwd,
    fchdir_call,
);

fn mkdir_and_rmdir(o: Out) {
    k!(SYS_umask, 0o022);
    tell!(o, "mkdir" => k!(SYS_mkdir, c"d", 0o1777), "stat" => stat_text(c"d", 0), "slash" => k!(SYS_mkdir, c"e/", 0o755),
        "slashes" => k!(SYS_mkdir, c"g///", 0o700), "rmdir" => k!(SYS_rmdir, c"d"), "gone" => stat_text(c"d", 0), "rmdir slash" => k!(SYS_rmdir, c"e/"),
        "at" => k!(SYS_mkdirat, AT, c"g/h", 0o700), "setuid bits" => k!(SYS_mkdir, c"i", 0o6777), "stat" => stat_text(c"i", 0));
}

fn mkdir_errors(o: Out) {
    mk(c"f", b"");
    k!(SYS_symlink, c"gone", c"l");
    tell!(o, "exists" => k!(SYS_mkdir, c"f", 0o755), "dot" => k!(SYS_mkdir, c".", 0o755), "dotdot" => k!(SYS_mkdir, c"..", 0o755),
        "no parent" => k!(SYS_mkdir, c"no/d", 0o755), "below file" => k!(SYS_mkdir, c"f/d", 0o755), "root" => k!(SYS_mkdir, c"/", 0o755),
        "dangling" => k!(SYS_mkdir, c"l", 0o755), "dangling slash" => k!(SYS_mkdir, c"l/", 0o755), "empty" => k!(SYS_mkdir, c"", 0o755));
}

fn rmdir_errors(o: Out) {
    mk(c"f", b"");
    k!(SYS_mkdir, c"d", 0o755);
    mk(c"d/x", b"");
    k!(SYS_symlink, c"d", c"l");
    tell!(o, "file" => k!(SYS_rmdir, c"f"), "not empty" => k!(SYS_rmdir, c"d"), "link" => k!(SYS_rmdir, c"l"), "dot" => k!(SYS_rmdir, c"d/."),
        "dotdot" => k!(SYS_rmdir, c"d/.."), "missing" => k!(SYS_rmdir, c"no"), "root" => k!(SYS_rmdir, c"/"), "proc" => k!(SYS_rmdir, c"/proc"));
}

fn unlink_errors(o: Out) {
    k!(SYS_mkdir, c"d", 0o755);
    mk(c"f", b"");
    tell!(o, "directory" => k!(SYS_unlink, c"d"), "missing" => k!(SYS_unlink, c"no"), "slash" => k!(SYS_unlink, c"f/"), "dir slash" => k!(SYS_unlink, c"d/"),
        "dot" => k!(SYS_unlink, c"."), "empty" => k!(SYS_unlink, c""), "below file" => k!(SYS_unlink, c"f/x"));
}

fn unlinkat_flags(o: Out) {
    k!(SYS_mkdir, c"d", 0o755);
    mk(c"f", b"");
    tell!(o, "file as dir" => k!(SYS_unlinkat, AT, c"f", AT_REMOVEDIR), "dir as file" => k!(SYS_unlinkat, AT, c"d", 0),
        "dir" => k!(SYS_unlinkat, AT, c"d", AT_REMOVEDIR), "flag" => k!(SYS_unlinkat, AT, c"f", 1), "file" => k!(SYS_unlinkat, AT, c"f", 0));
}

fn hard_links(o: Out) {
    mk(c"a", b"one");
    k!(SYS_symlink, c"a", c"l");
    tell!(o, "link" => k!(SYS_link, c"a", c"b"), "a" => stat_text(c"a", 0), "of link" => k!(SYS_link, c"l", c"m"),
        "m" => stat_text(c"m", AT_SYMLINK_NOFOLLOW), "follow" => k!(SYS_linkat, AT, c"l", AT, c"n", AT_SYMLINK_FOLLOW), "n" => stat_text(c"n", AT_SYMLINK_NOFOLLOW));
    let fd = open(c"b", O_WRONLY | O_TRUNC, 0).int();
    crate::util::write(fd, b"two");
    tell!(o, "through" => cat(c"a"), "unlink" => k!(SYS_unlink, c"a"), "rest" => stat_text(c"b", 0), "cat" => cat(c"n"));
}

fn hard_link_errors(o: Out) {
    mk(c"a", b"");
    mk(c"b", b"");
    k!(SYS_mkdir, c"d", 0o755);
    tell!(o, "exists" => k!(SYS_link, c"a", c"b"), "directory" => k!(SYS_link, c"d", c"e"), "missing" => k!(SYS_link, c"no", c"x"),
        "slash" => k!(SYS_link, c"a", c"x/"), "other fs" => k!(SYS_link, c"a", c"/proc/x"), "flag" => k!(SYS_linkat, AT, c"a", AT, c"x", 1),
        "from proc" => k!(SYS_link, c"/proc/version", c"x"));
}

fn symbolic_links(o: Out) {
    k!(SYS_mkdir, c"d", 0o755);
    mk(c"d/f", b"deep");
    tell!(o, "relative" => k!(SYS_symlink, c"d/f", c"l"), "cat" => cat(c"l"), "to dir" => k!(SYS_symlink, c"d", c"ld"), "through" => cat(c"ld/f"),
        "inside" => k!(SYS_symlink, c"../d/f", c"d/up"), "cat" => cat(c"d/up"), "exists" => k!(SYS_symlink, c"x", c"l"), "empty target" => k!(SYS_symlink, c"", c"e"),
        "slash" => k!(SYS_symlink, c"x", c"new/"), "lstat" => stat_text(c"l", AT_SYMLINK_NOFOLLOW), "dir slash" => stat_text(c"ld/", AT_SYMLINK_NOFOLLOW),
        "dangling" => k!(SYS_symlink, c"nowhere", c"dl"), "stat" => stat_text(c"dl", 0));
}

fn readlink_sizes(o: Out) {
    k!(SYS_symlink, c"0123456789", c"l");
    mk(c"f", b"");
    let mut b = [b'#'; 12];
    tell!(o, "whole" => k!(SYS_readlink, c"l", &mut b, 12), "bytes" => crate::util::show(&b), "cut" => k!(SYS_readlink, c"l", &mut b, 3),
        "zero" => k!(SYS_readlink, c"l", &mut b, 0), "file" => k!(SYS_readlink, c"f", &mut b, 12), "missing" => k!(SYS_readlink, c"no", &mut b, 12),
        "null" => k!(SYS_readlink, c"l", 0, 5), "path fd" => k!(SYS_readlinkat, open(c"l", O_PATH | O_NOFOLLOW, 0), c"", &mut b, 12));
}

fn rename_files(o: Out) {
    mk(c"a", b"A");
    mk(c"b", b"B");
    k!(SYS_mkdir, c"d", 0o755);
    tell!(o, "over" => k!(SYS_rename, c"a", c"b"), "b" => cat(c"b"), "a" => cat(c"a"), "into" => k!(SYS_rename, c"b", c"d/b"), "d/b" => cat(c"d/b"));
    let fd = open(c"d/b", O_RDONLY, 0).int();
    mk(c"c", b"C");
    tell!(o, "over open" => k!(SYS_rename, c"c", c"d/b"), "new" => cat(c"d/b"), "old" => crate::util::read(fd, 9).1, "links" => crate::util::fstat(fd).st_nlink);
    k!(SYS_symlink, c"zzz", c"l");
    tell!(o, "link itself" => k!(SYS_rename, c"l", c"m"), "m" => stat_text(c"m", AT_SYMLINK_NOFOLLOW), "slash" => k!(SYS_rename, c"d/b", c"q/"));
}

fn rename_directories(o: Out) {
    k!(SYS_mkdir, c"a", 0o755);
    k!(SYS_mkdir, c"b", 0o755);
    mk(c"a/x", b"x");
    tell!(o, "over empty" => k!(SYS_rename, c"a", c"b"), "moved" => cat(c"b/x"), "a" => stat_text(c"a", 0));
    k!(SYS_mkdir, c"c", 0o755);
    tell!(o, "over full" => k!(SYS_rename, c"c", c"b"), "into itself" => k!(SYS_rename, c"b", c"b/y"), "below" => k!(SYS_rename, c"b", c"c/b"),
        "read" => cat(c"c/b/x"), "dotdot" => stat_at(c"c/b/..", 0).map_or(0, |s| s.st_ino) == stat_at(c"c", 0).map_or(1, |s| s.st_ino));
}

fn rename_errors(o: Out) {
    mk(c"f", b"");
    k!(SYS_mkdir, c"d", 0o755);
    tell!(o, "file over dir" => k!(SYS_rename, c"f", c"d"), "dir over file" => k!(SYS_rename, c"d", c"f"), "missing" => k!(SYS_rename, c"no", c"x"),
        "dot" => k!(SYS_rename, c"d/.", c"x"), "to dotdot" => k!(SYS_rename, c"f", c"d/.."), "other fs" => k!(SYS_rename, c"f", c"/proc/x"), "root" => k!(SYS_rename, c"/", c"x"),
        "no parent" => k!(SYS_rename, c"f", c"no/x"), "busy" => k!(SYS_rename, c"/proc", c"/proc2"));
}

fn rename_flags(o: Out) {
    mk(c"a", b"A");
    mk(c"b", b"B");
    k!(SYS_mkdir, c"d", 0o755);
    let r = |a: &CStr, b: &CStr, f: u32| k!(SYS_renameat2, AT, a, AT, b, f);
    tell!(o, "noreplace" => r(c"a", c"b", RENAME_NOREPLACE), "noreplace new" => r(c"a", c"n", RENAME_NOREPLACE), "exchange" => r(c"n", c"b", RENAME_EXCHANGE),
        "n" => cat(c"n"), "b" => cat(c"b"), "exchange dir" => r(c"n", c"d", RENAME_EXCHANGE), "d" => stat_text(c"d", 0), "n" => stat_text(c"n", 0), "exchange missing" => r(c"n", c"zz", RENAME_EXCHANGE),
        "both" => r(c"a", c"b", RENAME_EXCHANGE | RENAME_NOREPLACE), "unknown" => r(c"b", c"c", 128));
}

fn rename_same_file(o: Out) {
    mk(c"a", b"A");
    k!(SYS_link, c"a", c"b");
    tell!(o, "to itself" => k!(SYS_rename, c"a", c"a"), "to its link" => k!(SYS_rename, c"a", c"b"), "both stay" => stat_text(c"a", 0), "b" => stat_text(c"b", 0));
}

/// Lists a directory with a buffer of `size` bytes at a time: name and type.
fn list(fd: i32, size: usize) -> Result<Vec<(String, u8)>, crate::sys::R> {
    let mut found = Vec::new();
    let mut buf = vec![0u8; size];
    loop {
        let n = k!(SYS_getdents64, fd, &mut buf[..], size);
        if !n.ok() {
            return Err(n);
        }
        if n.0 == 0 {
            return Ok(found);
        }
        let mut at = 0;
        while at < n.addr() {
            let len = usize::from(u16::from_ne_bytes([buf[at + 16], buf[at + 17]]));
            let name = &buf[at + 19..at + len];
            let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
            found.push((
                String::from_utf8_lossy(&name[..end]).into_owned(),
                buf[at + 18],
            ));
            at += len;
        }
    }
}

fn names(fd: i32, size: usize) -> String {
    match list(fd, size) {
        Err(r) => r.to_string(),
        Ok(mut l) => {
            l.sort();
            l.into_iter().map(|(n, _)| n).collect::<Vec<_>>().join(" ")
        }
    }
}

fn dir(path: &CStr) -> i32 {
    open(path, O_RDONLY | O_DIRECTORY, 0).int()
}

fn listing(o: Out) {
    for n in [c"one", c"two", c"three", c".hidden"] {
        mk(n, b"");
    }
    let d = dir(c".");
    tell!(o, "names" => names(d, 4096), "at end" => names(d, 4096));
    k!(SYS_mkdir, c"empty", 0o755);
    tell!(o, "empty" => names(dir(c"empty"), 4096));
}

fn listing_in_pieces(o: Out) {
    for i in 0..20 {
        mk(
            std::ffi::CString::new(format!("file{i:02}"))
                .unwrap_or_default()
                .as_c_str(),
            b"",
        );
    }
    tell!(o, "small" => names(dir(c"."), 48), "pieces" => names(dir(c"."), 100), "too small" => names(dir(c"."), 16));
}

fn listing_types(o: Out) {
    mk(c"f", b"");
    k!(SYS_mkdir, c"d", 0o755);
    k!(SYS_symlink, c"f", c"l");
    k!(SYS_mknodat, AT, c"p", S_IFIFO | 0o644, 0);
    let mut l = list(dir(c"."), 4096).unwrap_or_default();
    l.sort();
    say!(o, "{l:?}");
}

fn listing_rewind(o: Out) {
    mk(c"a", b"");
    let d = dir(c".");
    tell!(o, "first" => names(d, 4096));
    mk(c"b", b"");
    tell!(o, "rewind" => k!(SYS_lseek, d, 0, SEEK_SET), "second" => names(d, 4096), "other description" => names(dir(c"."), 4096));
}

fn listing_while_removing(o: Out) {
    for i in 0..50 {
        mk(
            std::ffi::CString::new(format!("file{i:02}"))
                .unwrap_or_default()
                .as_c_str(),
            b"",
        );
    }
    let d = dir(c".");
    let mut seen = 0;
    let mut buf = vec![0u8; 256];
    loop {
        let n = k!(SYS_getdents64, d, &mut buf[..], buf.len());
        if n.0 <= 0 {
            break;
        }
        let mut at = 0;
        while at < n.addr() {
            let len = usize::from(u16::from_ne_bytes([buf[at + 16], buf[at + 17]]));
            if buf[at + 19] == b'f' {
                seen += 1;
                k!(SYS_unlinkat, d, buf[at + 19..].as_ptr(), 0);
            }
            at += len;
        }
    }
    tell!(o, "seen" => seen, "left" => names(dir(c"."), 4096));
}

fn listing_bad(o: Out) {
    mk(c"f", b"");
    let d = dir(c".");
    tell!(o, "file" => names(open(c"f", O_RDONLY, 0).int(), 4096), "closed" => k!(SYS_getdents64, 99, 0, 4096), "null" => k!(SYS_getdents64, d, 0, 4096));
    k!(SYS_mkdir, c"gone", 0o755);
    let g = dir(c"gone");
    k!(SYS_rmdir, c"gone");
    tell!(o, "removed" => names(g, 4096));
}

fn many_entries(o: Out) {
    k!(SYS_mkdir, c"m", 0o755);
    for i in 0..700 {
        let p = std::ffi::CString::new(format!("m/entry-{i:04}")).unwrap_or_default();
        close(open(&p, O_CREAT | O_WRONLY, 0o644).int());
    }
    let mut l = list(dir(c"m"), 2048).unwrap_or_default();
    l.sort();
    l.dedup();
    tell!(o, "entries" => l.len(), "first" => l[2].0, "last" => l[l.len() - 1].0);
}

fn device_nodes(o: Out) {
    tell!(o, "regular" => k!(SYS_mknodat, AT, c"r", S_IFREG | 0o640, 0), "stat" => stat_text(c"r", 0), "no type" => k!(SYS_mknodat, AT, c"n", 0o600, 0),
        "stat" => stat_text(c"n", 0), "directory" => k!(SYS_mknodat, AT, c"d", S_IFDIR | 0o755, 0), "exists" => k!(SYS_mknodat, AT, c"r", S_IFIFO | 0o644, 0),
        "bad type" => k!(SYS_mknodat, AT, c"x", 0o150_000 | 0o644, 0), "socket" => k!(SYS_mknodat, AT, c"s", S_IFSOCK | 0o644, 0), "stat" => stat_text(c"s", 0));
}

fn removed_working_directory(o: Out) {
    k!(SYS_mkdir, c"d", 0o755);
    k!(SYS_chdir, c"d");
    k!(SYS_rmdir, c"../d");
    let mut b = [0u8; 256];
    tell!(o, "getcwd" => k!(SYS_getcwd, &mut b, 256), "create" => open(c"x", O_CREAT | O_RDWR, 0o644), "mkdir" => k!(SYS_mkdir, c"y", 0o755),
        "stat dot" => stat_text(c".", 0), "dotdot" => stat_text(c"..", 0));
}

fn chdir_and_getcwd(o: Out) {
    k!(SYS_mkdir, c"d", 0o755);
    k!(SYS_symlink, c"d", c"l");
    mk(c"f", b"");
    let tail = |o: Out| {
        let mut b = [0u8; 256];
        let n = k!(SYS_getcwd, &mut b, 256);
        let text = String::from_utf8_lossy(&b[..n.0.clamp(1, 256) as usize - 1]).into_owned();
        say!(
            o,
            "{} {}",
            n.ok(),
            text.rsplit('/').next().unwrap_or_default()
        );
    };
    tell!(o, "link" => k!(SYS_chdir, c"l"));
    tail(o);
    tell!(o, "up" => k!(SYS_chdir, c".."));
    tail(o);
    tell!(o, "file" => k!(SYS_chdir, c"f"), "missing" => k!(SYS_chdir, c"no"), "small" => k!(SYS_getcwd, &mut [0u8; 4], 2), "null" => k!(SYS_getcwd, 0, 100), "root" => k!(SYS_chdir, c"/"));
    tail(o);
    tell!(o, "above root" => k!(SYS_chdir, c"../../.."));
    tail(o);
}

fn fchdir_call(o: Out) {
    k!(SYS_mkdir, c"d", 0o755);
    mk(c"d/f", b"there");
    mk(c"f", b"");
    tell!(o, "fchdir" => k!(SYS_fchdir, dir(c"d")), "cat" => cat(c"f"), "file" => k!(SYS_fchdir, open(c"f", O_RDONLY, 0)), "closed" => k!(SYS_fchdir, 99),
        "path" => k!(SYS_fchdir, open(c"..", O_PATH, 0)), "child apart" => crate::util::in_child(|| k!(SYS_chdir, c"/").int()), "cat" => cat(c"d/f"));
}
