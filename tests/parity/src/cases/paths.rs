//! The walk from a path to a file: limits, loops, dots, mounts.

use crate::out::Out;
use crate::util::{AT, cat, mk, open, stat_at, stat_text};
use crate::{cases, k, say, tell};
use libc::*;
use std::ffi::CString;

cases!(
    symlink_loop,
    symlink_chain_limit,
    name_too_long,
    path_too_long,
    dots_and_slashes,
    trailing_slashes,
    not_a_directory,
    link_to_absolute,
    dotdot_of_root,
    proc_self_links,
    proc_self_shape,
    proc_files,
    mounts_are_busy,
    chroot_call,
    names_with_odd_bytes,
    deep_tree,
    umask_call,
    dentry_after_recreate,
    negative_lookup_then_create,
    file_becomes_directory,
);

fn text(s: String) -> CString {
    CString::new(s).unwrap_or_default()
}

fn symlink_loop(o: Out) {
    k!(SYS_symlink, c"b", c"a");
    k!(SYS_symlink, c"a", c"b");
    k!(SYS_symlink, c"self", c"self");
    tell!(o, "open" => open(c"a", O_RDONLY, 0), "stat" => stat_text(c"b", 0), "self" => stat_text(c"self", 0), "lstat" => stat_text(c"self", AT_SYMLINK_NOFOLLOW),
        "below" => stat_text(c"a/x", 0), "create" => open(c"a", O_CREAT | O_RDWR, 0o644), "mkdir" => k!(SYS_mkdir, c"self", 0o755), "chdir" => k!(SYS_chdir, c"a"));
}

fn symlink_chain_limit(o: Out) {
    mk(c"l0", b"end");
    for i in 1..=45 {
        k!(
            SYS_symlink,
            text(format!("l{}", i - 1)).as_c_str(),
            text(format!("l{i}")).as_c_str()
        );
    }
    tell!(o, "39" => cat(c"l39"), "40" => cat(c"l40"), "41" => cat(c"l41"), "45" => cat(c"l45"));
}

fn name_too_long(o: Out) {
    let ok = text("n".repeat(255));
    let long = text("n".repeat(256));
    tell!(o, "255" => open(&ok, O_CREAT | O_RDWR, 0o644).yes(), "256" => open(&long, O_CREAT | O_RDWR, 0o644), "stat" => stat_text(&long, 0), "mkdir" => k!(SYS_mkdir, long.as_c_str(), 0o755),
        "symlink" => k!(SYS_symlink, c"x", long.as_c_str()), "rename" => k!(SYS_rename, ok.as_c_str(), long.as_c_str()), "parent" => stat_text(&text(format!("{}/x", "n".repeat(256))), 0));
}

fn path_too_long(o: Out) {
    mk(c"f", b"x");
    let fits = text(format!("{}f", "./".repeat(2046)));
    let long = text(format!("{}f", "./".repeat(2048)));
    tell!(o, "4093" => cat(&fits), "4097" => cat(&long), "symlink" => k!(SYS_symlink, text("t".repeat(4096)).as_c_str(), c"l"));
}

fn dots_and_slashes(o: Out) {
    k!(SYS_mkdir, c"d", 0o755);
    mk(c"d/f", b"found");
    tell!(o, "dot" => cat(c"./d/./f"), "dotdot" => cat(c"d/../d/f"), "slashes" => cat(c"d////f"), "missing dotdot" => cat(c"no/../d/f"), "file dotdot" => cat(c"d/f/../f"));
    k!(SYS_symlink, c"d", c"l");
    mk(c"side", b"side");
    tell!(o, "link dotdot" => cat(c"l/../side"));
}

fn trailing_slashes(o: Out) {
    mk(c"f", b"");
    k!(SYS_mkdir, c"d", 0o755);
    k!(SYS_symlink, c"d", c"ld");
    k!(SYS_symlink, c"f", c"lf");
    for p in [c"f/", c"d/", c"ld/", c"lf/", c"no/"] {
        say!(
            o,
            "{p:?} stat {} lstat {} open {}",
            stat_text(p, 0),
            stat_text(p, AT_SYMLINK_NOFOLLOW),
            open(p, O_RDONLY, 0).yes()
        );
    }
    tell!(o, "unlink link slash" => k!(SYS_unlink, c"ld/"), "rmdir link slash" => k!(SYS_rmdir, c"ld/"), "rename dir" => k!(SYS_rename, c"d/", c"e/"));
}

fn not_a_directory(o: Out) {
    mk(c"f", b"");
    for p in [c"f/x", c"f/.", c"f/..", c"f/x/y"] {
        say!(
            o,
            "{p:?} {} {}",
            stat_text(p, 0),
            open(p, O_CREAT | O_RDWR, 0o644)
        );
    }
    tell!(o, "device" => stat_text(c"/dev/null/x", 0));
}

fn link_to_absolute(o: Out) {
    k!(SYS_symlink, c"/proc/self", c"me");
    k!(SYS_symlink, c"/", c"root");
    tell!(o, "through" => stat_at(c"me/status", 0).is_ok(), "root" => stat_at(c"root", 0).map_or(0, |s| s.st_ino) == stat_at(c"/", 0).map_or(1, |s| s.st_ino), "missing" => stat_text(c"root/none-such", 0));
}

fn dotdot_of_root(o: Out) {
    let ino = |p| stat_at(p, 0).map_or(0, |s| s.st_ino);
    tell!(o, "same" => ino(c"/") == ino(c"/.."), "far" => ino(c"/") == ino(c"/../../../.."), "proc" => ino(c"/") == ino(c"/proc/.."), "path" => stat_at(c"/../proc/self/status", 0).is_ok());
}

fn proc_self_links(o: Out) {
    let link = |p: &std::ffi::CStr| {
        let mut b = [0u8; 256];
        let n = k!(SYS_readlink, p, &mut b, 256);
        if n.ok() {
            String::from_utf8_lossy(&b[..n.addr()]).into_owned()
        } else {
            n.to_string()
        }
    };
    let me = k!(SYS_getpid).to_string();
    tell!(o, "self" => link(c"/proc/self") == me, "thread-self" => link(c"/proc/thread-self") == format!("{me}/task/{me}"), "exe" => link(c"/proc/self/exe"), "root" => link(c"/proc/self/root"),
        "cwd" => link(c"/proc/self/cwd").rsplit('/').next().unwrap_or_default());
    k!(SYS_chdir, c"/proc");
    tell!(o, "cwd" => link(c"/proc/self/cwd"), "write" => open(c"/proc/self/exe", O_RDWR, 0), "missing" => stat_text(c"/proc/self/none", 0));
}

fn proc_self_shape(o: Out) {
    for p in [
        c"/proc/self",
        c"/proc/self/fd",
        c"/proc/self/task",
        c"/proc/self/maps",
        c"/proc/self/cmdline",
        c"/proc/self/environ",
        c"/proc/self/comm",
        c"/proc/self/status",
        c"/proc/self/stat",
        c"/proc/self/cwd",
    ] {
        say!(
            o,
            "{p:?} {}",
            stat_at(p, AT_SYMLINK_NOFOLLOW).map_or_else(
                |r| r.to_string(),
                |s| format!(
                    "{} {:o}",
                    crate::util::kind_text(s.st_mode),
                    s.st_mode & 0o777
                )
            )
        );
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        status
            .lines()
            .find(|l| l.starts_with(name))
            .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
            .unwrap_or_default()
    };
    for f in [
        "Name:", "State:", "Uid:", "Gid:", "Threads:", "SigBlk:", "SigPnd:", "SigCgt:",
    ] {
        say!(o, "{}", field(f));
    }
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    tell!(o, "stat fields" => stat.split_whitespace().count(), "pid first" => stat.starts_with(&k!(SYS_getpid).to_string()), "ppid" => field("PPid:") == format!("PPid: {}", k!(SYS_getppid)));
}

fn proc_files(o: Out) {
    for p in [
        "/proc/uptime",
        "/proc/loadavg",
        "/proc/meminfo",
        "/proc/cpuinfo",
        "/proc/stat",
        "/proc/version",
        "/proc/mounts",
        "/proc/filesystems",
    ] {
        say!(
            o,
            "{p} {}",
            std::fs::read_to_string(p)
                .map_or_else(|e| e.to_string(), |t| (!t.is_empty()).to_string())
        );
    }
    let m = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    tell!(o, "total" => m.starts_with("MemTotal:"), "cmdline" => std::fs::read("/proc/self/cmdline").map_or(0, |b| b.iter().filter(|c| **c == 0).count()) > 1,
        "up" => std::fs::read_to_string("/proc/uptime").map_or(0, |t| t.split_whitespace().count()), "size" => stat_at(c"/proc/version", 0).map_or(9, |s| s.st_size));
    tell!(o, "create" => open(c"/proc/new", O_CREAT | O_RDWR, 0o644), "mkdir" => k!(SYS_mkdir, c"/proc/new", 0o755), "unlink" => k!(SYS_unlink, c"/proc/version"), "write" => open(c"/proc/none/x", O_WRONLY, 0));
}

fn mounts_are_busy(o: Out) {
    tell!(o, "rmdir" => k!(SYS_rmdir, c"/proc"), "unlink" => k!(SYS_unlink, c"/dev"), "link across" => k!(SYS_link, c"/proc/self/status", c"x"), "rename across" => k!(SYS_rename, c"/proc/version", c"x"));
}

fn chroot_call(o: Out) {
    k!(SYS_mkdir, c"r", 0o755);
    k!(SYS_mkdir, c"r/in", 0o755);
    mk(c"r/f", b"inside");
    k!(SYS_symlink, c"/f", c"r/in/l");
    tell!(o, "missing" => k!(SYS_chroot, c"no"), "file" => k!(SYS_chroot, c"r/f"));
    let text = crate::util::as_user(|| {
        tell!(o, "as user" => k!(SYS_chroot, c"r"));
    });
    say!(o, "{text}");
    tell!(o, "chroot" => k!(SYS_chroot, c"r"), "root" => cat(c"/f"), "dotdot" => cat(c"/../../f"), "absolute link" => cat(c"/in/l"), "cwd outside" => cat(c"r/f"), "proc gone" => stat_text(c"/proc", 0));
    k!(SYS_chdir, c"/in");
    let mut b = [0u8; 64];
    let n = k!(SYS_getcwd, &mut b, 64);
    say!(o, "{}", crate::util::show(&b[..n.0.clamp(0, 64) as usize]));
}

fn names_with_odd_bytes(o: Out) {
    for name in [
        &b"sp ace"[..],
        b"new\nline",
        b"\xff\xfe",
        b"\xc3\xa9",
        b"*?[",
        b"-rf",
        b"...",
        b"\\",
    ] {
        let p = CString::new(name).unwrap_or_default();
        say!(
            o,
            "{} {} {}",
            crate::util::show(name),
            open(&p, O_CREAT | O_EXCL | O_RDWR, 0o644).yes(),
            stat_text(&p, 0)
        );
    }
    let mut found: Vec<_> = std::fs::read_dir(".")
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| std::os::unix::ffi::OsStringExt::into_vec(e.file_name()))
        .collect();
    found.sort();
    for f in found {
        say!(o, "{}", crate::util::show(&f));
    }
}

fn deep_tree(o: Out) {
    let mut ok = 0;
    for _ in 0..60 {
        if k!(SYS_mkdir, c"deeper", 0o755).ok() && k!(SYS_chdir, c"deeper").ok() {
            ok += 1;
        }
    }
    mk(c"leaf", b"leaf");
    tell!(o, "levels" => ok, "cat" => cat(c"leaf"), "up 30" => cat(&text(format!("{}{}leaf", "../".repeat(30), "deeper/".repeat(30)))));
}

fn umask_call(o: Out) {
    tell!(o, "set" => format!("{:o}", k!(SYS_umask, 0o7777).0), "kept" => format!("{:o}", k!(SYS_umask, 0o27).0), "child" => crate::util::in_child(|| k!(SYS_umask, 0).int()),
        "mine" => format!("{:o}", k!(SYS_umask, 0o22).0));
}

fn dentry_after_recreate(o: Out) {
    for i in 0..5 {
        mk(c"f", format!("v{i}").as_bytes());
        say!(o, "{} {}", cat(c"f"), k!(SYS_unlink, c"f"));
        say!(o, "{}", cat(c"f"));
    }
}

fn negative_lookup_then_create(o: Out) {
    tell!(o, "none" => stat_text(c"n", 0), "by child" => crate::util::in_child(|| { mk(c"n", b"made"); 0 }), "seen" => cat(c"n"), "gone" => crate::util::in_child(|| k!(SYS_unlink, c"n").int()), "none" => cat(c"n"));
    tell!(o, "dir none" => stat_text(c"d/x", 0), "mkdir" => k!(SYS_mkdir, c"d", 0o755), "still none" => stat_text(c"d/x", 0));
}

fn file_becomes_directory(o: Out) {
    mk(c"x", b"");
    tell!(o, "file" => stat_text(c"x", 0), "unlink" => k!(SYS_unlink, c"x"), "mkdir" => k!(SYS_mkdir, c"x", 0o755), "dir" => stat_text(c"x", 0), "rmdir" => k!(SYS_rmdir, c"x"), "link" => k!(SYS_symlink, c"zz", c"x"),
        "is" => stat_text(c"x", AT_SYMLINK_NOFOLLOW), "at" => k!(SYS_faccessat, AT, c"x", F_OK));
}
