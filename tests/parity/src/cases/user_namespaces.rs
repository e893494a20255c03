//! User namespaces: maps, ids inside and out, capabilities, mounts (user_namespaces(7)).

use crate::out::Out;
use crate::sys::{self, R, child};
use crate::util::{as_user, cat, close, fstat, mk, open, pipe, read, stat_at, wait_text, write};
use crate::{cases, k, say, tell};
use libc::*;
use std::ffi::CString;

cases!(
    the_first,
    mapping_oneself,
    not_dumpable,
    maps_that_are_none,
    maps_by_the_parent,
    maps_by_strangers,
    maps_of_groups,
    long_maps,
    maps_as_others_see_them,
    ids_of_nobody,
    changing_ids,
    capabilities_inside,
    capabilities_outside,
    who_makes_what,
    by_clone,
    in_a_chroot,
    beside_a_thread,
    how_deep,
    signals_across,
    looking_in,
    entering,
    entering_by_process,
    questions,
    ipc_objects,
    sockets_across,
    process_limits,
);

pub(super) fn unshare(flags: i32) -> R {
    k!(SYS_unshare, flags)
}

pub(super) fn path(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

/// Writes to a file of a process in one go.
pub(super) fn put(pid: i32, file: &str, text: &[u8]) -> R {
    let fd = open(&path(&format!("/proc/{pid}/{file}")), O_WRONLY, 0);
    if !fd.ok() {
        return fd;
    }
    let wrote = write(fd.int(), text);
    close(fd.int());
    wrote
}

pub(super) fn me() -> i32 {
    k!(SYS_getpid).int()
}

/// As an ordinary user whose own files are its own.
pub(super) fn as_dumpable(f: impl FnOnce()) -> String {
    as_user(|| {
        k!(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
        f();
    })
}

/// In a namespace of its own, root inside.
pub(super) fn become_root(uid: u32, gid: u32) {
    unshare(CLONE_NEWUSER);
    put(me(), "uid_map", format!("0 {uid} 1").as_bytes());
    put(me(), "setgroups", b"deny");
    put(me(), "gid_map", format!("0 {gid} 1").as_bytes());
}

fn ids() -> String {
    let (mut u, mut g) = ([0u32; 3], [0u32; 3]);
    let [u1, u2, u3] = &mut u;
    k!(SYS_getresuid, u1, u2, u3);
    let [g1, g2, g3] = &mut g;
    k!(SYS_getresgid, g1, g2, g3);
    format!("{u:?} {g:?}")
}

/// A line of /proc/self/status.
fn status(field: &str) -> String {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with(field));
    line.unwrap_or_default().to_owned()
}

/// A child in a user namespace of its own that waits; with what lets it go.
pub(super) fn waiting(o: Out, f: impl FnOnce()) -> (i32, i32) {
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    let pid = child(|| {
        close(w2);
        tell!(o, "its namespace" => unshare(CLONE_NEWUSER));
        write(w, b"x");
        read(r2, 1);
        f();
        0
    });
    close(w);
    close(r2);
    read(r, 1);
    (pid, w2)
}

pub(super) fn go(o: Out, (pid, w): (i32, i32)) {
    write(w, b"x");
    tell!(o, "it ends" => wait_text(pid));
    close(w);
}

fn the_first(o: Out) {
    for file in ["uid_map", "gid_map", "projid_map", "setgroups"] {
        let name = path(&format!("/proc/self/{file}"));
        tell!(o, "text" => cat(&name), "write" => put(me(), file, b"0 0 1"), "empty" => put(me(), file, b""), "mode" => stat_at(&name, 0).map_or(0, |s| s.st_mode));
    }
    tell!(o, "allow" => put(me(), "setgroups", b"allow"), "deny" => put(me(), "setgroups", b"deny"));
    tell!(o, "overflow" => cat(c"/proc/sys/kernel/overflowuid"), "group" => cat(c"/proc/sys/kernel/overflowgid"), "fs" => cat(c"/proc/sys/fs/overflowuid"));
}

fn mapping_oneself(o: Out) {
    let text = as_dumpable(|| {
        tell!(o, "unshare" => unshare(CLONE_NEWUSER), "ids" => ids(), "effective" => status("CapEff"), "bounding" => status("CapBnd"), "inheritable" => status("CapInh"), "uids" => status("Uid"), "gids" => status("Gid"), "map" => cat(c"/proc/self/uid_map"));
        for bad in [
            "0 0 1",
            "0 1001 1",
            "0 1000 2",
            "0 1000 1\n1 1000 1",
            "0 1000 1\n1 1001 1",
            "0 1000 0",
        ] {
            say!(o, "{bad:?} {}", put(me(), "uid_map", bad.as_bytes()));
        }
        tell!(o, "right" => put(me(), "uid_map", b"0 1000 1\n"), "again" => put(me(), "uid_map", b"0 1000 1\n"), "ids" => ids(), "map" => cat(c"/proc/self/uid_map"));
        tell!(o, "group first" => put(me(), "gid_map", b"0 1000 1"), "setgroups" => cat(c"/proc/self/setgroups"));
        for word in ["", "den", "denyy", "deny x", "allow", "deny\n \t", "allow"] {
            say!(o, "{word:?} {}", put(me(), "setgroups", word.as_bytes()));
        }
        tell!(o, "now" => cat(c"/proc/self/setgroups"), "group" => put(me(), "gid_map", b"0 1000 1"), "ids" => ids(), "setgroups" => k!(SYS_setgroups, 0, 0), "uids" => status("Uid"), "effective" => status("CapEff"), "projects" => put(me(), "projid_map", b"0 5 10"), "map" => cat(c"/proc/self/projid_map"));
    });
    say!(o, "{text}");
}

fn not_dumpable(o: Out) {
    let text = as_user(|| {
        let owner = || stat_at(c"/proc/self/uid_map", 0).map_or(9, |s| s.st_uid);
        tell!(o, "dumpable" => k!(SYS_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0), "owner" => owner(), "unshare" => unshare(CLONE_NEWUSER), "dumpable" => k!(SYS_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0), "owner" => owner(), "write" => put(me(), "uid_map", b"0 1000 1"), "deny" => put(me(), "setgroups", b"deny"), "read" => cat(c"/proc/self/uid_map"));
    });
    say!(o, "{text}");
}

fn maps_that_are_none(o: Out) {
    let it = waiting(o, || {});
    let (pid, _) = it;
    for bad in [
        "",
        "\n",
        "0",
        "0 0",
        "0 0 ",
        "0 0 0",
        "0 0 1 1",
        "a 0 1",
        "0 0 1x",
        "-1 0 1",
        "0 -1 1",
        "4294967295 0 1",
        "0 4294967295 1",
        "4294967294 0 2",
        "0 4294967294 2",
        "0 0 4294967296",
        "0 0 1\n\n",
        "\n0 0 1",
        "0 0 1\n\n1 1 1",
        "0 0 2\n1 5 1",
        "0 5 2\n7 6 1",
        "0 0 1\n x",
        "0x0 0 1",
    ] {
        say!(o, "{bad:?} {}", put(pid, "uid_map", bad.as_bytes()));
    }
    let long = vec![b' '; 4096];
    tell!(o, "a page" => put(pid, "uid_map", &long), "less" => put(pid, "uid_map", &long[..4095]));
    let fd = open(&path(&format!("/proc/{pid}/uid_map")), O_RDWR, 0).int();
    let at = |offset: i32, text: &[u8]| {
        k!(SYS_lseek, fd, offset, SEEK_SET);
        write(fd, text)
    };
    tell!(o, "elsewhere" => at(1, b"0 0 1"), "nothing yet" => cat(&path(&format!("/proc/{pid}/uid_map"))));
    tell!(o, "spaces" => at(0, b" \t0   0\t9 \x0b\n"), "is" => cat(&path(&format!("/proc/{pid}/uid_map"))));
    tell!(o, "behind" => write(fd, b"0 0 1"), "again" => at(0, b"0 0 1"), "bad again" => at(0, b"x"));
    go(o, it);
}

fn maps_by_the_parent(o: Out) {
    let it = waiting(o, || {
        tell!(o, "ids" => ids(), "become" => k!(SYS_setresuid, 0, 0, 0), "group" => k!(SYS_setresgid, 0, 0, 0), "ids" => ids(), "other" => k!(SYS_setresuid, 5, 6, 7), "ids" => ids(), "too far" => k!(SYS_setresuid, 10, -1, -1), "nobody" => k!(SYS_setuid, 65534));
    });
    tell!(o, "map" => put(it.0, "uid_map", b"0 100000 10"), "groups" => put(it.0, "gid_map", b"0 200000 10\n100 0 1"), "setgroups" => put(it.0, "setgroups", b"deny"));
    go(o, it);
    let it = waiting(o, || {
        let list = [3u32, 4, 100];
        let mut got = [9u32; 4];
        tell!(o, "setgroups" => k!(SYS_setgroups, 3, &list), "unmapped" => k!(SYS_setgroups, 1, &[50u32]), "get" => k!(SYS_getgroups, 4, &mut got), "status" => status("Groups"));
        say!(o, "{got:?}");
    });
    tell!(o, "groups" => put(it.0, "gid_map", b"0 200000 10\n100 0 1"), "users" => put(it.0, "uid_map", b"0 0 1"));
    go(o, it);
}

fn maps_by_strangers(o: Out) {
    let it = waiting(o, || {});
    let map = path(&format!("/proc/{}/uid_map", it.0));
    let text = as_user(|| {
        tell!(o, "open" => open(&map, O_WRONLY, 0), "read" => cat(&map));
    });
    say!(o, "{text}");
    // Who opens it must be capable, not only who writes.
    let fd = open(&map, O_WRONLY, 0).int();
    let text = as_user(|| {
        tell!(o, "by another" => write(fd, b"0 0 1"));
    });
    say!(o, "{text}");
    let sibling = child(|| {
        unshare(CLONE_NEWUSER);
        tell!(o, "from a sibling" => write(fd, b"0 5 1"), "own" => put(me(), "uid_map", b"0 0 1"), "opened there" => put(it.0, "uid_map", b"0 0 1"));
        0
    });
    tell!(o, "sibling" => wait_text(sibling));
    go(o, it);
}

fn maps_of_groups(o: Out) {
    let it = waiting(o, || {
        tell!(o, "setgroups" => k!(SYS_setgroups, 0, 0), "file" => cat(c"/proc/self/setgroups"));
    });
    tell!(o, "deny" => put(it.0, "setgroups", b"deny"), "map" => put(it.0, "gid_map", b"0 0 5"));
    go(o, it);
    let it = waiting(o, || {
        tell!(o, "before" => unshare(CLONE_NEWUSER));
    });
    tell!(o, "deny" => put(it.0, "setgroups", b"deny"), "users" => put(it.0, "uid_map", b"0 0 5"), "groups" => put(it.0, "gid_map", b"0 0 5"));
    go(o, it);
    // What is forbidden stays so inside.
    let pid = child(|| {
        become_root(0, 0);
        tell!(o, "inner" => unshare(CLONE_NEWUSER), "setgroups" => cat(c"/proc/self/setgroups"), "allow" => put(me(), "setgroups", b"allow"));
        0
    });
    tell!(o, "nested" => wait_text(pid));
}

fn long_maps(o: Out) {
    let text = |n: u32| -> String {
        let lines = (0..n).map(|i| format!("{} {} 1\n", n - i, i + 1000));
        lines.collect()
    };
    for n in [5, 6, 340, 341] {
        let it = waiting(o, || {
            for id in [1, 2, n / 2, n, n + 1] {
                k!(SYS_setfsuid, id);
                say!(o, "{id} {}", k!(SYS_setfsuid, -1));
            }
        });
        let map = path(&format!("/proc/{}/uid_map", it.0));
        tell!(o, "write" => put(it.0, "uid_map", text(n).as_bytes()), "text" => cat(&map));
        go(o, it);
    }
}

fn maps_as_others_see_them(o: Out) {
    let pid = child(|| {
        unshare(CLONE_NEWUSER);
        let outer = me();
        let helper = child(|| 0);
        wait_text(helper);
        tell!(o, "ours" => put(outer, "uid_map", b"0 0 1"));
        put(outer, "setgroups", b"deny");
        put(outer, "gid_map", b"0 0 1");
        let (r, w) = pipe();
        let (r2, w2) = pipe();
        let inner = child(|| {
            tell!(o, "inner" => unshare(CLONE_NEWUSER), "map" => put(me(), "uid_map", b"7 0 1"), "own" => cat(c"/proc/self/uid_map"));
            tell!(o, "of the outer" => cat(&path(&format!("/proc/{outer}/uid_map"))), "of init" => cat(c"/proc/1/uid_map"));
            write(w, b"x");
            read(r2, 1);
            0
        });
        read(r, 1);
        tell!(o, "from outside" => cat(&path(&format!("/proc/{inner}/uid_map"))), "own" => cat(c"/proc/self/uid_map"));
        write(w2, b"x");
        tell!(o, "ends" => wait_text(inner));
        0
    });
    tell!(o, "child" => wait_text(pid));
}

fn ids_of_nobody(o: Out) {
    let st = |name| {
        stat_at(name, 0).map_or_else(|e| e.to_string(), |s| format!("{} {}", s.st_uid, s.st_gid))
    };
    mk(c"f", b"x");
    k!(SYS_chown, c"f", 1234, 5678);
    let pid = child(|| {
        tell!(o, "unshare" => unshare(CLONE_NEWUSER), "file" => st(c"f"), "mine" => st(c"/proc/self"), "root" => st(c"/"), "uid" => k!(SYS_getuid), "gid" => k!(SYS_getegid));
        let mut sx = [0u32; 64];
        k!(SYS_statx, AT_FDCWD, c"f", 0, 0x7ff, &mut sx);
        say!(o, "statx {} {}", sx[5], sx[6]);
        tell!(o, "chown" => k!(SYS_chown, c"f", 0, 0), "none" => k!(SYS_chown, c"f", -1, -1), "setuid" => k!(SYS_setuid, 0), "setgid" => k!(SYS_setgid, 0), "setfsuid" => k!(SYS_setfsuid, 0), "fsgid" => k!(SYS_setfsgid, 0), "resuid" => k!(SYS_setresuid, -1, -1, -1), "regid" => k!(SYS_setregid, -1, 0), "setgroups" => k!(SYS_setgroups, 0, 0), "groups" => k!(SYS_getgroups, 0, 0), "make" => open(c"g", O_CREAT | O_WRONLY, 0o644).yes(), "stat" => st(c"g"));
        0
    });
    tell!(o, "child" => wait_text(pid), "made" => st(c"g"));
}

fn changing_ids(o: Out) {
    let it = waiting(o, || {
        k!(SYS_setresgid, 0, 0, 0);
        tell!(o, "root" => k!(SYS_setresuid, 0, 0, 0), "down" => k!(SYS_setresuid, -1, 5, -1), "ids" => ids(), "effective" => status("CapEff"), "permitted" => status("CapPrm"), "up" => k!(SYS_setresuid, -1, 0, -1), "effective" => status("CapEff"), "away" => k!(SYS_setuid, 5), "permitted" => status("CapPrm"), "back" => k!(SYS_setuid, 0), "outside" => k!(SYS_setuid, 1005), "reuid" => k!(SYS_setreuid, 5, 20), "fs" => k!(SYS_setfsuid, 0), "fs is" => k!(SYS_setfsuid, -1));
    });
    tell!(o, "map" => put(it.0, "uid_map", b"0 1000 10"), "groups" => put(it.0, "gid_map", b"0 1000 10"));
    go(o, it);
}

fn capabilities_inside(o: Out) {
    let text = as_dumpable(|| {
        become_root(1000, 1000);
        let time = [1i64, 0];
        tell!(o, "host name" => k!(SYS_sethostname, b"x".as_slice(), 1), "chroot" => k!(SYS_chroot, c"/"), "time" => k!(SYS_clock_settime, 0, &time), "reboot" => k!(SYS_reboot, 0, 0, 0, 0), "nice" => k!(SYS_setpriority, 0, 0, -5), "device" => k!(SYS_mknodat, AT_FDCWD, c"/tmp/dev", S_IFCHR | 0o600, 0x103), "accounting" => k!(SYS_acct, 0), "real time" => k!(SYS_sched_setscheduler, 0, SCHED_FIFO, &1i32), "keep" => k!(SYS_prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0), "securebits" => k!(SYS_prctl, PR_SET_SECUREBITS, 1, 0, 0, 0), "bounding" => k!(SYS_prctl, PR_CAPBSET_DROP, 5, 0, 0, 0), "mount" => k!(SYS_mount, c"none", c"/tmp", c"tmpfs", 0, 0), "swap" => k!(SYS_swapon, c"/tmp", 0), "uts" => unshare(CLONE_NEWUTS), "host name" => k!(SYS_sethostname, b"x".as_slice(), 1), "domain" => k!(SYS_setdomainname, b"y".as_slice(), 1), "by file" => open(c"/proc/sys/kernel/hostname", O_WRONLY, 0));
    });
    say!(o, "{text}");
}

fn capabilities_outside(o: Out) {
    mk(c"f", b"x");
    k!(SYS_chmod, c"f", 0o600);
    // Root without root's file: it maps itself, but stays who it is.
    let pid = child(|| {
        become_root(0, 0);
        tell!(o, "own file" => open(c"f", O_RDWR, 0).yes(), "chown" => k!(SYS_chown, c"f", 0, 0), "to another" => k!(SYS_chown, c"f", 5, -1), "nice" => k!(SYS_setpriority, 0, 0, -5), "trusted" => k!(SYS_setxattr, c"f", c"trusted.x", b"1".as_slice(), 1, 0), "list" => k!(SYS_listxattr, c"f", 0, 0), "log" => k!(SYS_syslog, 6, 0, 0), "sysctl" => open(c"/proc/sys/fs/pipe-max-size", O_WRONLY, 0).yes(), "raise limit" => k!(SYS_prlimit64, 0, RLIMIT_CORE, &[0u64, 0], 0), "back" => k!(SYS_prlimit64, 0, RLIMIT_CORE, &[1u64, 1], 0));
        0
    });
    tell!(o, "child" => wait_text(pid));
}

fn who_makes_what(o: Out) {
    let text = as_user(|| {
        tell!(o, "uts" => unshare(CLONE_NEWUTS), "all" => unshare(CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNS), "name" => k!(SYS_sethostname, b"mine".as_slice(), 4));
    });
    say!(o, "{text}");
    let text = as_user(|| {
        tell!(o, "user" => unshare(CLONE_NEWUSER), "uts" => unshare(CLONE_NEWUTS), "without a name" => unshare(CLONE_NEWUSER));
    });
    say!(o, "{text}");
}

fn by_clone(o: Out) {
    for flags in [
        CLONE_NEWUSER | CLONE_FS,
        CLONE_NEWUSER | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM,
    ] {
        let r = k!(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
        if r.0 == 0 {
            k!(SYS_exit_group, 0);
        }
        say!(o, "{flags:x} {}", r.yes());
    }
    let text = as_user(|| {
        let pid = k!(
            SYS_clone,
            CLONE_NEWUSER | CLONE_NEWUTS | SIGCHLD,
            0,
            0,
            0,
            0
        );
        if pid.0 == 0 {
            tell!(o, "uid" => k!(SYS_getuid), "name" => k!(SYS_sethostname, b"c".as_slice(), 1), "effective" => status("CapEff"));
            k!(SYS_exit_group, 0);
        }
        tell!(o, "clone" => wait_text(pid.int()), "mine" => status("CapEff"));
        let args = [CLONE_NEWUSER as u64, 0, 0, 0, SIGCHLD as u64, 0, 0, 0];
        let pid = k!(SYS_clone3, &args, 64);
        if pid.0 == 0 {
            tell!(o, "uid" => k!(SYS_getuid), "name" => k!(SYS_sethostname, b"c".as_slice(), 1));
            k!(SYS_exit_group, 0);
        }
        tell!(o, "clone3" => wait_text(pid.int()));
    });
    say!(o, "{text}");
}

fn in_a_chroot(o: Out) {
    k!(SYS_mkdir, c"root", 0o755);
    let pid = child(|| {
        tell!(o, "chroot" => k!(SYS_chroot, c"root"), "unshare" => unshare(CLONE_NEWUSER), "clone" => k!(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0), "uid" => k!(SYS_getuid));
        0
    });
    tell!(o, "child" => wait_text(pid));
}

extern "C" fn sleeps(_: *mut c_void) -> i32 {
    crate::util::sleep_ms(20_000);
    0
}

fn beside_a_thread(o: Out) {
    let pid = child(|| {
        let stack = crate::util::anon(1 << 16) + (1 << 16);
        let flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
        sys::clone_with(flags, stack, sleeps);
        tell!(o, "unshare" => unshare(CLONE_NEWUSER), "with others" => unshare(CLONE_NEWUSER | CLONE_NEWUTS), "uid" => k!(SYS_getuid));
        k!(SYS_exit_group, 0);
        0
    });
    tell!(o, "child" => wait_text(pid));
}

fn how_deep(o: Out) {
    let pid = child(|| {
        for depth in 0.. {
            let r = unshare(CLONE_NEWUSER);
            if !r.ok() {
                say!(o, "{depth} {r}");
                break;
            }
            put(me(), "uid_map", b"0 0 1");
            put(me(), "setgroups", b"deny");
            put(me(), "gid_map", b"0 0 1");
        }
        0
    });
    tell!(o, "child" => wait_text(pid));
}

fn signals_across(o: Out) {
    let text = as_dumpable(|| {
        let (r, w) = pipe();
        let pid = child(|| {
            become_root(1000, 1000);
            crate::util::mask(SIG_BLOCK, crate::util::bit(SIGUSR1));
            write(w, b"x");
            let mut info = [0i32; 32];
            let got = k!(
                SYS_rt_sigtimedwait,
                &crate::util::bit(SIGUSR1),
                &mut info,
                0,
                8
            );
            tell!(o, "signal" => got, "from" => info[5], "to init" => k!(SYS_kill, 1, 0), "to parent" => k!(SYS_kill, k!(SYS_getppid), 0));
            info = [0; 32];
            info[0] = SIGUSR1;
            info[2] = SI_QUEUE;
            info[5] = 0;
            let parent = k!(SYS_getppid);
            tell!(o, "queue" => k!(SYS_rt_sigqueueinfo, parent, SIGUSR1, &info));
            0
        });
        crate::util::mask(
            SIG_BLOCK,
            crate::util::bit(SIGUSR1) | crate::util::bit(SIGCHLD),
        );
        read(r, 1);
        // The child tells from then on, until it is done.
        let sent = k!(SYS_kill, pid, SIGUSR1);
        let mut info = [0i32; 32];
        let got = k!(
            SYS_rt_sigtimedwait,
            &crate::util::bit(SIGUSR1),
            &mut info,
            0,
            8
        );
        let from = info[5];
        let gone = k!(
            SYS_rt_sigtimedwait,
            &crate::util::bit(SIGCHLD),
            &mut info,
            0,
            8
        );
        tell!(o, "sent" => sent, "queued" => got, "from" => from, "child" => gone, "who" => info[5]);
        let mut wait = [0i32; 32];
        tell!(o, "wait" => k!(SYS_waitid, P_PID, pid, &mut wait, WEXITED, 0), "uid" => wait[5]);
    });
    say!(o, "{text}");
    // Who owns the namespace may kill whatever is in it.
    let text = as_dumpable(|| {
        let (r, w) = pipe();
        let pid = child(|| {
            become_root(1000, 1000);
            write(w, b"x");
            loop {
                k!(SYS_pause);
            }
        });
        read(r, 1);
        tell!(o, "kill" => k!(SYS_kill, pid, SIGKILL), "ended" => wait_text(pid));
    });
    say!(o, "{text}");
    let it = waiting(o, || {
        tell!(o, "parent" => k!(SYS_setresuid, 0, 0, 0), "signal it" => k!(SYS_kill, k!(SYS_getppid), 0));
    });
    put(it.0, "uid_map", b"0 5000 1");
    go(o, it);
}

fn looking_in(o: Out) {
    let text = as_dumpable(|| {
        let parent = me();
        let (r, w) = pipe();
        let (r2, w2) = pipe();
        let pid = child(|| {
            become_root(1000, 1000);
            write(w, b"x");
            read(r2, 1);
            let fd = k!(SYS_pidfd_open, parent, 0);
            tell!(o, "outwards" => k!(SYS_pidfd_getfd, fd, 0, 0).yes(), "environ" => open(&path(&format!("/proc/{parent}/environ")), O_RDONLY, 0).yes(), "links" => k!(SYS_readlinkat, AT_FDCWD, &path(&format!("/proc/{parent}/cwd")), &mut [0u8; 64], 64).yes(), "compare" => k!(SYS_kcmp, me(), parent, 0, 0, 0), "limits" => k!(SYS_prlimit64, parent, RLIMIT_CORE, 0, 0));
            0
        });
        read(r, 1);
        let fd = k!(SYS_pidfd_open, pid, 0);
        tell!(o, "inwards" => k!(SYS_pidfd_getfd, fd, 0, 0).yes(), "environ" => open(&path(&format!("/proc/{pid}/environ")), O_RDONLY, 0).yes(), "root" => stat_at(&path(&format!("/proc/{pid}/root/")), 0).is_ok());
        // Another child of the same user has nothing over it.
        let sibling = child(|| {
            become_root(1000, 1000);
            tell!(o, "sidewards" => k!(SYS_kcmp, me(), pid, 0, 0, 0), "nice" => k!(SYS_setpriority, 0, pid, 5));
            0
        });
        tell!(o, "sibling" => wait_text(sibling));
        write(w2, b"x");
        tell!(o, "child" => wait_text(pid));
    });
    say!(o, "{text}");
}

fn entering(o: Out) {
    let first = open(c"/proc/self/ns/user", O_RDONLY, 0).int();
    let it = waiting(o, || {});
    put(it.0, "uid_map", b"0 0 2000");
    put(it.0, "gid_map", b"0 0 2000");
    let inner = open(&path(&format!("/proc/{}/ns/user", it.0)), O_RDONLY, 0).int();
    tell!(o, "own" => k!(SYS_setns, first, 0), "own by kind" => k!(SYS_setns, first, CLONE_NEWUSER), "wrong kind" => k!(SYS_setns, inner, CLONE_NEWUTS));
    let text = as_user(|| {
        tell!(o, "by another" => k!(SYS_setns, inner, 0));
    });
    say!(o, "{text}");
    let pid = child(|| {
        tell!(o, "in" => k!(SYS_setns, inner, CLONE_NEWUSER), "ids" => ids(), "effective" => status("CapEff"), "dumpable" => k!(SYS_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0), "again" => k!(SYS_setns, inner, 0), "back" => k!(SYS_setns, first, 0), "name" => k!(SYS_sethostname, b"x".as_slice(), 1));
        0
    });
    tell!(o, "child" => wait_text(pid));
    // Whose working directory is another's, too, cannot.
    let sharing = child(|| {
        let pid = k!(SYS_clone, CLONE_FS | SIGCHLD, 0, 0, 0, 0);
        if pid.0 == 0 {
            tell!(o, "shared" => k!(SYS_setns, inner, 0));
            k!(SYS_exit_group, 0);
        }
        wait_text(pid.int());
        0
    });
    tell!(o, "sharing" => wait_text(sharing));
    go(o, it);
}

fn entering_by_process(o: Out) {
    let text = as_dumpable(|| {
        let (r, w) = pipe();
        let (r2, w2) = pipe();
        let pid = child(|| {
            become_root(1000, 1000);
            unshare(CLONE_NEWUTS | CLONE_NEWNS | CLONE_NEWIPC);
            k!(SYS_sethostname, b"inside".as_slice(), 6);
            write(w, b"x");
            read(r2, 1);
            0
        });
        read(r, 1);
        let fd = k!(SYS_pidfd_open, pid, 0).int();
        let joining = child(|| {
            tell!(o, "names alone" => k!(SYS_setns, fd, CLONE_NEWUTS), "all" => k!(SYS_setns, fd, CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWNS | CLONE_NEWIPC), "uid" => k!(SYS_getuid), "set" => k!(SYS_sethostname, b"joined".as_slice(), 6), "again" => k!(SYS_setns, fd, CLONE_NEWUSER), "names" => k!(SYS_setns, fd, CLONE_NEWUTS));
            0
        });
        tell!(o, "joining" => wait_text(joining));
        let one_by_one = child(|| {
            for (kind, flag) in [
                ("uts", CLONE_NEWUTS),
                ("user", CLONE_NEWUSER),
                ("uts", CLONE_NEWUTS),
                ("mnt", CLONE_NEWNS),
            ] {
                let ns = open(&path(&format!("/proc/{pid}/ns/{kind}")), O_RDONLY, 0);
                say!(o, "{kind} {} {}", ns.yes(), k!(SYS_setns, ns, flag));
            }
            0
        });
        tell!(o, "one by one" => wait_text(one_by_one));
        write(w2, b"x");
        tell!(o, "child" => wait_text(pid));
    });
    say!(o, "{text}");
}

fn questions(o: Out) {
    const GET_USERNS: u32 = 0xb701;
    const GET_PARENT: u32 = 0xb702;
    const GET_NSTYPE: u32 = 0xb703;
    const GET_OWNER_UID: u32 = 0xb704;
    let ask = |fd: i32| {
        let mut uid = 99u32;
        let owner = k!(SYS_ioctl, fd, GET_USERNS, 0);
        let parent = k!(SYS_ioctl, fd, GET_PARENT, 0);
        let same =
            owner.ok() && parent.ok() && fstat(owner.int()).st_ino == fstat(parent.int()).st_ino;
        let first = parent.ok() && k!(SYS_ioctl, parent, GET_PARENT, 0).ok();
        say!(
            o,
            "type {} owner {} parent {} same {same} further {first} uid {} {uid}",
            k!(SYS_ioctl, fd, GET_NSTYPE, 0),
            owner.yes(),
            parent.yes(),
            k!(SYS_ioctl, fd, GET_OWNER_UID, &mut uid)
        );
    };
    let text = as_dumpable(|| {
        let first = open(c"/proc/self/ns/user", O_RDONLY, 0).int();
        become_root(1000, 1000);
        unshare(CLONE_NEWUTS);
        let mine = open(c"/proc/self/ns/user", O_RDONLY, 0).int();
        let names = open(c"/proc/self/ns/uts", O_RDONLY, 0).int();
        let mounts = open(c"/proc/self/ns/mnt", O_RDONLY, 0).int();
        for fd in [first, mine, names, mounts] {
            ask(fd);
        }
        let (r, w) = pipe();
        let pid = child(|| {
            unshare(CLONE_NEWUSER);
            write(w, b"x");
            loop {
                k!(SYS_pause);
            }
        });
        read(r, 1);
        ask(open(&path(&format!("/proc/{pid}/ns/user")), O_RDONLY, 0).int());
        k!(SYS_kill, pid, SIGKILL);
        wait_text(pid);
    });
    say!(o, "{text}");
}

fn ipc_objects(o: Out) {
    let id = k!(SYS_shmget, IPC_PRIVATE, 4096, 0o600);
    let owned = |id: R| {
        let mut ds = [0u32; 64];
        let r = k!(SYS_shmctl, id, IPC_STAT, &mut ds);
        format!("{r} {} {} {} {}", ds[1], ds[2], ds[3], ds[4])
    };
    let pid = child(|| {
        become_root(0, 0);
        tell!(o, "own" => owned(id), "attach" => k!(SYS_shmat, id, 0, 0).yes());
        0
    });
    tell!(o, "root" => wait_text(pid));
    let text = as_dumpable(|| {
        become_root(1000, 1000);
        tell!(o, "not mine" => owned(id), "remove" => k!(SYS_shmctl, id, IPC_RMID, 0), "unshare" => unshare(CLONE_NEWIPC));
        let mine = k!(SYS_shmget, IPC_PRIVATE, 4096, 0);
        let mut ds = [0u32; 64];
        k!(SYS_shmctl, mine, IPC_STAT, &mut ds);
        tell!(o, "mine" => owned(mine), "no mode" => k!(SYS_shmat, mine, 0, 0).yes());
        ds[1] = 7;
        tell!(o, "to nobody" => k!(SYS_shmctl, mine, IPC_SET, &ds));
        ds[1] = 0;
        tell!(o, "to me" => k!(SYS_shmctl, mine, IPC_SET, &ds), "limit" => open(c"/proc/sys/kernel/shmmni", O_WRONLY, 0).yes(), "not there" => open(c"/proc/sys/fs/pipe-max-size", O_WRONLY, 0));
    });
    say!(o, "{text}");
    k!(SYS_shmctl, id, IPC_RMID, 0);
}

fn sockets_across(o: Out) {
    let mut pair = [0i32; 2];
    k!(SYS_socketpair, AF_UNIX, SOCK_DGRAM, 0, &mut pair);
    let on = 1i32;
    k!(SYS_setsockopt, pair[0], SOL_SOCKET, SO_PASSCRED, &on, 4);
    let receive = |what: &str| {
        let mut data = [0u8; 8];
        let mut control = [0u32; 16];
        let vec = [data.as_mut_ptr() as usize, 8];
        let mut msg = [0usize; 7];
        (msg[2], msg[3], msg[4], msg[5]) =
            (vec.as_ptr() as usize, 1, control.as_mut_ptr() as usize, 64);
        let r = k!(SYS_recvmsg, pair[0], &mut msg, 0);
        say!(o, "{what} {r} {} {}", control[5], control[6]);
    };
    let text = as_dumpable(|| {
        become_root(1000, 1000);
        write(pair[1], b"x");
        let creds = |uid: u32, gid: u32| {
            let id = [me() as u32, uid, gid];
            let control = crate::util::control(SOL_SOCKET, SCM_CREDENTIALS, sys::bytes_of(&id));
            crate::util::send_message(pair[1], b"y", &control)
        };
        tell!(o, "as root" => creds(0, 0), "as nobody" => creds(5, 0), "by kernel's" => creds(1000, 1000));
        receive("inside");
    });
    say!(o, "{text}");
    receive("outside");
    let text = as_dumpable(|| {
        let mut pair = [0i32; 2];
        k!(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, &mut pair);
        let peer = || {
            let mut c = [0u32; 3];
            k!(
                SYS_getsockopt,
                pair[0],
                SOL_SOCKET,
                SO_PEERCRED,
                &mut c,
                &mut 12u32
            );
            format!("{} {}", c[1], c[2])
        };
        tell!(o, "before" => peer(), "unshare" => unshare(CLONE_NEWUSER), "unmapped" => peer(), "map" => put(me(), "uid_map", b"3 1000 1"), "mapped" => peer());
    });
    say!(o, "{text}");
}

fn process_limits(o: Out) {
    let it = waiting(o, || {});
    let text = as_user(|| {
        tell!(o, "of another" => k!(SYS_prlimit64, it.0, RLIMIT_CORE, 0, 0), "nice" => k!(SYS_setpriority, 0, it.0, 5));
    });
    say!(o, "{text}");
    let text = as_dumpable(|| {
        become_root(1000, 1000);
        tell!(o, "outwards" => k!(SYS_prlimit64, it.0, RLIMIT_CORE, 0, 0), "nice" => k!(SYS_setpriority, 0, it.0, 5), "affinity" => k!(SYS_sched_setaffinity, it.0, 8, &[1u64]), "io" => k!(SYS_ioprio_set, 1, it.0, 0));
        let inner = child(|| {
            crate::util::sleep_ms(0);
            0
        });
        tell!(o, "own child" => k!(SYS_prlimit64, inner, RLIMIT_CORE, 0, 0).yes());
        wait_text(inner);
    });
    say!(o, "{text}");
    go(o, it);
}
