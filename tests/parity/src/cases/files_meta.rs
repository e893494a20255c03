//! What files tell about themselves, and who may do what to them.

use crate::out::Out;
use crate::util::{AT, as_user, cat, fstat, kind_text, mk, open, stat_at, stat_text};
use crate::{cases, k, say, sys, tell};
use libc::*;

cases!(
    stat_of_each_kind,
    stat_times_move,
    stat_same_inode,
    fstat_of_pipe,
    statx_fields,
    statx_errors,
    access_as_root,
    access_as_user,
    chmod_bits,
    chmod_errors,
    fchmodat_link,
    chown_as_root,
    chown_clears_setid,
    chown_as_user,
    permission_search,
    permission_create,
    permission_open,
    sticky_directory,
    setgid_directory,
    utimens,
    utimens_errors,
    statfs_calls,
    xattr_user,
    mode_kept_after_write,
    directory_sizes_and_links,
);

fn stat_of_each_kind(o: Out) {
    mk(c"f", b"12345");
    k!(SYS_mkdir, c"d", 0o750);
    k!(SYS_symlink, c"f", c"l");
    k!(SYS_mknodat, AT, c"p", S_IFIFO | 0o620, 0);
    for p in [c"f", c"d", c"l", c"p"] {
        say!(
            o,
            "{p:?} {} / {}",
            stat_text(p, AT_SYMLINK_NOFOLLOW),
            stat_text(p, 0)
        );
    }
    tell!(o, "through stat(2)" => k!(SYS_stat, c"l", &mut sys::zeroed::<stat>()),
        "lstat(2)" => k!(SYS_lstat, c"none", &mut sys::zeroed::<stat>()), "bad flag" => stat_text(c"f", 0x10),
        "uid" => stat_at(c"f", 0).map_or(99, |s| s.st_uid));
}

fn stat_times_move(o: Out) {
    mk(c"f", b"a");
    k!(SYS_mkdir, c"d", 0o755);
    let old = [
        timespec {
            tv_sec: 1000,
            tv_nsec: 5,
        },
        timespec {
            tv_sec: 2000,
            tv_nsec: 7,
        },
    ];
    let reset = || {
        k!(SYS_utimensat, AT, c"f", &old, 0);
        k!(SYS_utimensat, AT, c"d", &old, 0);
    };
    let moved = |p| {
        stat_at(p, 0).map_or((false, false), |s| {
            (s.st_mtime != 2000, s.st_ctime > 100_000)
        })
    };
    reset();
    say!(
        o,
        "set {:?}",
        stat_at(c"f", 0).map_or((0, 0, 0, 0), |s| (
            s.st_atime,
            s.st_atime_nsec,
            s.st_mtime,
            s.st_mtime_nsec
        ))
    );
    let fd = open(c"f", O_WRONLY | O_APPEND, 0).int();
    crate::util::write(fd, b"b");
    say!(o, "write {:?}", moved(c"f"));
    reset();
    k!(SYS_chmod, c"f", 0o600);
    say!(o, "chmod {:?}", moved(c"f"));
    reset();
    k!(SYS_truncate, c"f", 0);
    say!(o, "truncate {:?}", moved(c"f"));
    mk(c"d/x", b"");
    say!(o, "create in dir {:?}", moved(c"d"));
    reset();
    k!(SYS_unlink, c"d/x");
    say!(o, "unlink in dir {:?}", moved(c"d"));
}

fn stat_same_inode(o: Out) {
    mk(c"a", b"");
    k!(SYS_link, c"a", c"b");
    mk(c"c", b"");
    let ino = |p| stat_at(p, 0).map_or((0, 0), |s| (s.st_dev, s.st_ino));
    let fd = open(c"a", O_RDONLY, 0).int();
    tell!(o, "linked" => ino(c"a") == ino(c"b"), "other" => ino(c"a") == ino(c"c"),
        "by fd" => (fstat(fd).st_dev, fstat(fd).st_ino) == ino(c"a"), "stable" => ino(c"a") == ino(c"./a"));
    k!(SYS_rename, c"a", c"z");
    tell!(o, "after rename" => ino(c"z") == ino(c"b"));
}

fn fstat_of_pipe(o: Out) {
    let (r, w) = crate::util::pipe();
    let (a, b) = (fstat(r), fstat(w));
    say!(
        o,
        "{} {:o} {} {}",
        kind_text(a.st_mode),
        a.st_mode & 0o777,
        a.st_size,
        a.st_nlink
    );
    tell!(o, "same" => a.st_ino == b.st_ino);
}

fn statx_fields(o: Out) {
    mk(c"f", b"12345");
    k!(SYS_link, c"f", c"g");
    let mut sx: statx = sys::zeroed();
    tell!(o, "statx" => k!(SYS_statx, AT, c"f", 0, STATX_BASIC_STATS, &mut sx));
    say!(
        o,
        "{} {:o} links {} size {} uid {} gid {}",
        kind_text(u32::from(sx.stx_mode)),
        sx.stx_mode & 0o7777,
        sx.stx_nlink,
        sx.stx_size,
        sx.stx_uid,
        sx.stx_gid
    );
    tell!(o, "has basic" => sx.stx_mask & STATX_BASIC_STATS == STATX_BASIC_STATS,
        "same inode" => Ok(sx.stx_ino) == stat_at(c"f", 0).map(|s| s.st_ino).map_err(|_| ()),
        "same time" => stat_at(c"f", 0).is_ok_and(|s| s.st_mtime == sx.stx_mtime.tv_sec));
    let fd = open(c"f", O_RDONLY, 0).int();
    tell!(o, "by fd" => k!(SYS_statx, fd, c"", AT_EMPTY_PATH, STATX_SIZE, &mut sx), "size" => sx.stx_size);
}

fn statx_errors(o: Out) {
    let mut sx: statx = sys::zeroed();
    tell!(o, "missing" => k!(SYS_statx, AT, c"no", 0, STATX_SIZE, &mut sx), "reserved" => k!(SYS_statx, AT, c".", 0, 0x8000_0000u32, &mut sx),
        "flags" => k!(SYS_statx, AT, c".", 0x7, STATX_SIZE, &mut sx), "both syncs" => k!(SYS_statx, AT, c".", 0x6000, STATX_SIZE, &mut sx),
        "null" => k!(SYS_statx, AT, c".", 0, STATX_SIZE, 0));
}

fn access_as_root(o: Out) {
    mk(c"f", b"");
    k!(SYS_chmod, c"f", 0);
    tell!(o, "read" => k!(SYS_access, c"f", R_OK), "write" => k!(SYS_access, c"f", W_OK), "execute" => k!(SYS_access, c"f", X_OK),
        "exists" => k!(SYS_access, c"f", F_OK), "missing" => k!(SYS_access, c"no", F_OK), "bad" => k!(SYS_access, c"f", 64));
    k!(SYS_chmod, c"f", 0o010);
    tell!(o, "some x" => k!(SYS_access, c"f", X_OK), "faccessat2" => k!(SYS_faccessat2, AT, c"f", R_OK, AT_EACCESS),
        "bad flag" => k!(SYS_faccessat2, AT, c"f", R_OK, 0x1));
}

fn access_as_user(o: Out) {
    mk(c"f", b"");
    k!(SYS_chmod, c".", 0o777);
    for mode in [0o000, 0o004, 0o440, 0o700, 0o007] {
        k!(SYS_chmod, c"f", mode);
        as_user(|| {
            say!(
                o,
                "{mode:03o} r {} w {} x {}",
                k!(SYS_access, c"f", R_OK),
                k!(SYS_access, c"f", W_OK),
                k!(SYS_access, c"f", X_OK)
            );
        });
    }
    k!(SYS_chown, c"f", 1000, 1000);
    k!(SYS_chmod, c"f", 0o077);
    as_user(|| {
        tell!(o, "owner without bits" => k!(SYS_access, c"f", R_OK));
    });
}

fn chmod_bits(o: Out) {
    mk(c"f", b"");
    for m in [0o0, 0o644, 0o7777, 0o4755, 0o170_644] {
        say!(o, "{m:o} {} {}", k!(SYS_chmod, c"f", m), stat_text(c"f", 0));
    }
    let fd = open(c"f", O_RDONLY, 0).int();
    tell!(o, "fchmod" => k!(SYS_fchmod, fd, 0o611), "stat" => stat_text(c"f", 0), "fchmodat" => k!(SYS_fchmodat, AT, c"f", 0o600),
        "then" => stat_text(c"f", 0));
}

fn chmod_errors(o: Out) {
    mk(c"f", b"");
    k!(SYS_symlink, c"gone", c"l");
    tell!(o, "missing" => k!(SYS_chmod, c"no", 0o644), "dangling" => k!(SYS_chmod, c"l", 0o644), "closed" => k!(SYS_fchmod, 99, 0o644),
        "through file" => k!(SYS_chmod, c"f/x", 0o644));
    k!(SYS_chmod, c".", 0o755);
    as_user(|| {
        tell!(o, "not owner" => k!(SYS_chmod, c"f", 0o777));
    });
}

fn fchmodat_link(o: Out) {
    mk(c"f", b"");
    k!(SYS_symlink, c"f", c"l");
    tell!(o, "through" => k!(SYS_fchmodat, AT, c"l", 0o640), "file" => stat_text(c"f", 0), "link" => stat_text(c"l", AT_SYMLINK_NOFOLLOW));
}

fn owner(path: &std::ffi::CStr) -> String {
    stat_at(path, AT_SYMLINK_NOFOLLOW)
        .map_or_else(|r| r.to_string(), |s| format!("{}:{}", s.st_uid, s.st_gid))
}

fn chown_as_root(o: Out) {
    mk(c"f", b"");
    k!(SYS_symlink, c"f", c"l");
    tell!(o, "new" => owner(c"f"), "chown" => k!(SYS_chown, c"f", 12, 34), "is" => owner(c"f"), "uid only" => k!(SYS_chown, c"f", 7, -1),
        "is" => owner(c"f"), "lchown" => k!(SYS_lchown, c"l", 1, 2), "link" => owner(c"l"), "file" => owner(c"f"),
        "through" => k!(SYS_fchownat, AT, c"l", 3, 4, 0), "file" => owner(c"f"), "fchown" => k!(SYS_fchown, open(c"f", O_RDONLY, 0), 5, 6),
        "file" => owner(c"f"), "empty path" => k!(SYS_fchownat, open(c"f", O_RDONLY, 0), c"", 8, 9, AT_EMPTY_PATH), "file" => owner(c"f"),
        "missing" => k!(SYS_chown, c"no", 1, 1));
}

fn chown_clears_setid(o: Out) {
    mk(c"f", b"");
    k!(SYS_chmod, c"f", 0o6755);
    k!(SYS_chown, c"f", 1000, 1000);
    tell!(o, "after chown" => stat_text(c"f", 0));
    k!(SYS_chmod, c"f", 0o6745);
    k!(SYS_chown, c"f", 0, 0);
    tell!(o, "no group x" => stat_text(c"f", 0));
}

fn chown_as_user(o: Out) {
    mk(c"f", b"");
    mk(c"g", b"");
    k!(SYS_chown, c"f", 1000, 1000);
    k!(SYS_chmod, c".", 0o755);
    as_user(|| {
        tell!(o, "give away" => k!(SYS_chown, c"f", 1001, -1), "own group" => k!(SYS_chown, c"f", -1, 1000), "other group" => k!(SYS_chown, c"f", -1, 5),
            "to self" => k!(SYS_chown, c"f", 1000, -1), "not mine" => k!(SYS_chown, c"g", 1000, -1));
    });
}

fn permission_search(o: Out) {
    k!(SYS_chmod, c".", 0o755);
    k!(SYS_mkdir, c"d", 0o700);
    mk(c"d/f", b"secret");
    as_user(|| {
        tell!(o, "stat" => stat_text(c"d/f", 0), "open" => open(c"d/f", O_RDONLY, 0), "list" => open(c"d", O_RDONLY, 0), "stat dir" => stat_text(c"d", 0),
            "missing inside" => stat_text(c"d/none", 0), "chdir" => k!(SYS_chdir, c"d"));
    });
    k!(SYS_chmod, c"d", 0o711);
    as_user(|| {
        tell!(o, "x only: file" => cat(c"d/f"), "list" => open(c"d", O_RDONLY, 0), "missing" => stat_text(c"d/none", 0));
    });
    k!(SYS_chmod, c"d", 0o744);
    as_user(|| {
        tell!(o, "r only: list" => open(c"d", O_RDONLY, 0).yes(), "file" => cat(c"d/f"));
    });
}

fn permission_create(o: Out) {
    k!(SYS_chmod, c".", 0o755);
    k!(SYS_mkdir, c"d", 0o755);
    mk(c"d/f", b"");
    as_user(|| {
        tell!(o, "create" => open(c"d/n", O_CREAT | O_RDWR, 0o644), "create existing" => open(c"d/f", O_CREAT | O_RDONLY, 0o644).yes(),
            "mkdir" => k!(SYS_mkdir, c"d/x", 0o755), "mkdir existing" => k!(SYS_mkdir, c"d/f", 0o755), "unlink" => k!(SYS_unlink, c"d/f"),
            "rename" => k!(SYS_rename, c"d/f", c"d/g"), "link" => k!(SYS_link, c"d/f", c"d/h"), "symlink" => k!(SYS_symlink, c"f", c"d/s"),
            "unlink missing" => k!(SYS_unlink, c"d/none"), "rmdir" => k!(SYS_rmdir, c"d"));
    });
    k!(SYS_chmod, c"d", 0o777);
    as_user(|| {
        tell!(o, "writable: create" => open(c"d/n", O_CREAT | O_RDWR, 0o644).yes(), "owner" => owner(c"d/n"), "unlink root's" => k!(SYS_unlink, c"d/f"));
    });
}

fn permission_open(o: Out) {
    k!(SYS_chmod, c".", 0o755);
    for mode in [0o600, 0o604, 0o602, 0o606] {
        mk(c"f", b"x");
        k!(SYS_chmod, c"f", mode);
        as_user(|| {
            say!(
                o,
                "{mode:o} r {} w {} rw {} trunc {} path {}",
                open(c"f", O_RDONLY, 0).yes(),
                open(c"f", O_WRONLY, 0).yes(),
                open(c"f", O_RDWR, 0).yes(),
                open(c"f", O_RDONLY | O_TRUNC, 0).yes(),
                open(c"f", O_PATH, 0).yes()
            );
        });
        k!(SYS_unlink, c"f");
    }
    mk(c"f", b"");
    k!(SYS_chown, c"f", 0, 1000);
    k!(SYS_chmod, c"f", 0o040);
    as_user(|| {
        tell!(o, "group" => open(c"f", O_RDONLY, 0).yes());
    });
}

fn sticky_directory(o: Out) {
    k!(SYS_chmod, c".", 0o1777);
    mk(c"f", b"");
    mk(c"mine", b"");
    k!(SYS_chown, c"mine", 1000, 1000);
    as_user(|| {
        tell!(o, "unlink other's" => k!(SYS_unlink, c"f"), "rename other's" => k!(SYS_rename, c"f", c"g"), "rename over" => k!(SYS_rename, c"mine", c"f"),
            "unlink mine" => k!(SYS_unlink, c"mine"));
    });
}

fn setgid_directory(o: Out) {
    k!(SYS_chmod, c".", 0o777);
    k!(SYS_mkdir, c"d", 0o777);
    k!(SYS_chown, c"d", 0, 77);
    k!(SYS_chmod, c"d", 0o2777);
    mk(c"d/f", b"");
    k!(SYS_mkdir, c"d/sub", 0o755);
    tell!(o, "file" => owner(c"d/f"), "dir" => owner(c"d/sub"), "inherits" => stat_text(c"d/sub", 0));
    as_user(|| {
        open(c"d/u", O_CREAT | O_RDWR, 0o2755);
        tell!(o, "user's" => owner(c"d/u"), "mode" => stat_text(c"d/u", 0));
    });
}

fn utimens(o: Out) {
    mk(c"f", b"");
    let show = |o: Out| {
        if let Ok(s) = stat_at(c"f", 0) {
            let soon = |t: i64| {
                if t > 1_000_000_000 {
                    "now".into()
                } else {
                    t.to_string()
                }
            };
            say!(o, "a {} m {}", soon(s.st_atime), soon(s.st_mtime));
        }
    };
    let set = |a: (i64, i64), m: (i64, i64)| {
        let t = [
            timespec {
                tv_sec: a.0,
                tv_nsec: a.1,
            },
            timespec {
                tv_sec: m.0,
                tv_nsec: m.1,
            },
        ];
        k!(SYS_utimensat, AT, c"f", &t, 0)
    };
    tell!(o, "both" => set((1, 0), (2, 0)));
    show(o);
    tell!(o, "omit first" => set((9, UTIME_OMIT), (5, 0)));
    show(o);
    tell!(o, "now second" => set((7, 0), (0, UTIME_NOW)));
    show(o);
    tell!(o, "null" => k!(SYS_utimensat, AT, c"f", 0, 0));
    show(o);
    let tv = [
        timeval {
            tv_sec: 11,
            tv_usec: 3,
        },
        timeval {
            tv_sec: 12,
            tv_usec: 4,
        },
    ];
    tell!(o, "utimes" => k!(SYS_utimes, c"f", &tv), "nsec" => stat_at(c"f", 0).map_or(0, |s| s.st_mtime_nsec));
    show(o);
    let fd = open(c"f", O_RDONLY, 0).int();
    let t = [
        timespec {
            tv_sec: 21,
            tv_nsec: 0,
        },
        timespec {
            tv_sec: 22,
            tv_nsec: 0,
        },
    ];
    tell!(o, "by fd" => k!(SYS_utimensat, fd, 0, &t, 0));
    show(o);
}

fn utimens_errors(o: Out) {
    mk(c"f", b"");
    k!(SYS_chmod, c".", 0o755);
    let t = [
        timespec {
            tv_sec: 1,
            tv_nsec: 2_000_000_000,
        },
        timespec {
            tv_sec: 2,
            tv_nsec: 0,
        },
    ];
    let good = [timespec {
        tv_sec: 1,
        tv_nsec: 0,
    }; 2];
    tell!(o, "nsec" => k!(SYS_utimensat, AT, c"f", &t, 0), "missing" => k!(SYS_utimensat, AT, c"no", &good, 0), "flag" => k!(SYS_utimensat, AT, c"f", &good, 0x1));
    as_user(|| {
        tell!(o, "other's, set" => k!(SYS_utimensat, AT, c"f", &good, 0), "other's, now" => k!(SYS_utimensat, AT, c"f", 0, 0));
    });
}

fn statfs_calls(o: Out) {
    let mut s: statfs = sys::zeroed();
    tell!(o, "here" => k!(SYS_statfs, c".", &mut s), "name length" => s.f_namelen, "block size" => s.f_bsize > 0, "missing" => k!(SYS_statfs, c"no", &mut s),
        "proc" => k!(SYS_statfs, c"/proc", &mut s), "magic" => format!("{:#x}", s.f_type), "closed" => k!(SYS_fstatfs, 99, &mut s), "null" => k!(SYS_statfs, c".", 0));
}

fn xattr_user(o: Out) {
    mk(c"f", b"");
    let mut b = [0u8; 16];
    let set = |flags: i32| k!(SYS_setxattr, c"f", c"user.k", b"value".as_slice(), 5, flags);
    tell!(o, "get none" => k!(SYS_getxattr, c"f", c"user.k", &mut b, 16), "bad name" => k!(SYS_setxattr, c"f", c"nodot", b"v".as_slice(), 1, 0),
        "missing file" => k!(SYS_getxattr, c"no", c"user.k", &mut b, 16), "bad flags" => set(16));
}

fn mode_kept_after_write(o: Out) {
    mk(c"f", b"");
    k!(SYS_chmod, c"f", 0o6755);
    k!(SYS_chown, c"f", 1000, 1000);
    k!(SYS_chmod, c"f", 0o6755);
    k!(SYS_chmod, c".", 0o755);
    tell!(o, "root keeps" => { let fd = open(c"f", O_WRONLY, 0).int(); crate::util::write(fd, b"x") }, "mode" => stat_text(c"f", 0));
    as_user(|| {
        let fd = open(c"f", O_WRONLY, 0).int();
        tell!(o, "owner writes" => crate::util::write(fd, b"x"));
    });
    tell!(o, "mode" => stat_text(c"f", 0));
}

fn directory_sizes_and_links(o: Out) {
    k!(SYS_mkdir, c"d", 0o755);
    let links = || stat_at(c"d", 0).map_or(0, |s| s.st_nlink);
    let before = links();
    k!(SYS_mkdir, c"d/e", 0o755);
    tell!(o, "one more" => links() - before, "dot is it" => stat_at(c"d/.", 0).map_or(0, |s| s.st_ino) == stat_at(c"d", 0).map_or(1, |s| s.st_ino));
    k!(SYS_rmdir, c"d/e");
    tell!(o, "back" => links() == before);
}
