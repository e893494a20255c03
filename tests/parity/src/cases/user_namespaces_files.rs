//! Files, mounts and programs in user namespaces (user_namespaces(7), mount_namespaces(7)).

use super::user_namespaces::{as_dumpable, become_root, go, me, path, put, unshare, waiting};
use crate::out::Out;
use crate::sys::child;
use crate::util::{close, mk, open, pipe, read, stat_at, wait_text, write};
use crate::{cases, k, say, tell};
use libc::*;
use std::ffi::CStr;

cases!(
    others_files,
    what_becomes_of_owners,
    mounting_inside,
    mounts_are_locked,
    what_hides_goes_along,
    mounts_outside_keep_their_groups,
    flags_are_locked,
    devices_inside,
    set_user_id_programs,
    programs_inside,
    file_capabilities,
);

const PRIVATE: u64 = MS_REC | MS_PRIVATE;

/// A copy of this program.
fn copy_exe(to: &CStr, uid: u32, gid: u32, mode: u32) {
    let all = std::fs::read("/proc/self/exe").unwrap_or_default();
    mk(to, &all);
    k!(SYS_chown, to, uid, gid);
    k!(SYS_chmod, to, mode);
}

/// What a program says of its ids in a child after `before`.
fn output(program: &CStr, before: impl FnOnce()) -> String {
    told(program, c"ids", before)
}

/// What a program says of `what` in a child after `before`.
fn told(program: &CStr, what: &CStr, before: impl FnOnce()) -> String {
    let (r, w) = pipe();
    let pid = child(|| {
        close(r);
        before();
        k!(SYS_dup2, w, 1);
        let argv = [
            program.as_ptr() as usize,
            c"--child".as_ptr() as usize,
            what.as_ptr() as usize,
            0,
        ];
        let failed = k!(SYS_execve, program, &argv, 0);
        write(w, failed.to_string().as_bytes());
        0
    });
    close(w);
    let mut text = String::new();
    loop {
        let (n, more) = read(r, 4096);
        if n.0 <= 0 {
            break;
        }
        // It comes in as many pieces as it is written in.
        text.push_str(more.trim_matches('"'));
    }
    close(r);
    let text = text.split(" ppid").next().unwrap_or_default();
    format!("{text} {}", wait_text(pid))
}

fn user() {
    k!(SYS_setgroups, 0, 0);
    k!(SYS_setresgid, 1000, 1000, 1000);
    k!(SYS_setresuid, 1000, 1000, 1000);
    k!(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
}

fn others_files(o: Out) {
    mk(c"theirs", b"x");
    k!(SYS_chmod, c"theirs", 0o600);
    k!(SYS_mkdir, c"dir", 0o700);
    k!(SYS_chmod, c".", 0o777);
    mk(c"mine", b"x");
    k!(SYS_chown, c"mine", 1000, 1000);
    mk(c"half", b"x");
    k!(SYS_chown, c"half", 1000, 0);
    k!(SYS_chmod, c"half", 0o060);
    let text = as_dumpable(|| {
        become_root(1000, 1000);
        tell!(o, "read" => open(c"theirs", O_RDONLY, 0), "chmod" => k!(SYS_chmod, c"theirs", 0o666), "chown" => k!(SYS_chown, c"theirs", 0, 0), "access" => k!(SYS_access, c"theirs", R_OK), "search" => open(c"dir/x", O_RDONLY, 0), "utimes" => k!(SYS_utimensat, AT_FDCWD, c"theirs", 0, 0), "unlink" => k!(SYS_unlink, c"theirs"));
        tell!(o, "mine" => open(c"mine", O_RDWR, 0).yes(), "no mode" => k!(SYS_chmod, c"mine", 0), "still" => open(c"mine", O_RDWR, 0).yes(), "chown" => k!(SYS_chown, c"mine", 0, 0), "away" => k!(SYS_chown, c"mine", 1, 0), "set-group" => k!(SYS_chmod, c"mine", 0o2775));
        // Of two ids only one has a name: no capability helps.
        tell!(o, "half" => open(c"half", O_RDONLY, 0), "chmod" => k!(SYS_chmod, c"half", 0o2060), "group" => k!(SYS_chown, c"half", -1, 0), "mode" => stat_at(c"half", 0).map_or(0, |s| s.st_mode));
    });
    say!(o, "{text}");
}

fn what_becomes_of_owners(o: Out) {
    k!(SYS_chmod, c".", 0o777);
    let it = waiting(o, || {
        k!(SYS_setresgid, 2, 2, 2);
        k!(SYS_setresuid, 3, 3, 3);
        tell!(o, "make" => open(c"made", O_CREAT | O_WRONLY, 0o644).yes(), "directory" => k!(SYS_mkdir, c"dir", 0o755));
        let inside = stat_at(c"made", 0).map_or((9, 9), |s| (s.st_uid, s.st_gid));
        say!(o, "inside {inside:?}");
    });
    tell!(o, "users" => put(it.0, "uid_map", b"0 3000 10"), "groups" => put(it.0, "gid_map", b"0 4000 10"));
    go(o, it);
    let outside = stat_at(c"made", 0).map_or((9, 9), |s| (s.st_uid, s.st_gid));
    say!(o, "outside {outside:?}");
}

fn mounting_inside(o: Out) {
    k!(SYS_mkdir, c"at", 0o777);
    k!(SYS_chmod, c".", 0o777);
    let text = as_dumpable(|| {
        tell!(o, "unshare" => unshare(CLONE_NEWUSER | CLONE_NEWNS), "before a map" => k!(SYS_mount, c"none", c"at", c"tmpfs", 0, 0), "unmount" => k!(SYS_umount2, c"at", 0));
        put(me(), "uid_map", b"0 1000 1");
        put(me(), "setgroups", b"deny");
        put(me(), "gid_map", b"0 1000 1");
        tell!(o, "private" => k!(SYS_mount, c"none", c"/", 0, PRIVATE, 0), "tmpfs" => k!(SYS_mount, c"none", c"at", c"tmpfs", 0, c"mode=755"), "owner" => stat_at(c"at", 0).map_or(9, |s| s.st_uid), "make" => open(c"at/f", O_CREAT | O_RDWR, 0o644).yes(), "bind" => k!(SYS_mount, c"at", c"at", 0, MS_BIND, 0), "read-only" => k!(SYS_mount, c"none", c"at", 0, MS_REMOUNT | MS_BIND | MS_RDONLY, 0), "write" => open(c"at/g", O_CREAT | O_RDWR, 0o644), "and back" => k!(SYS_mount, c"none", c"at", 0, MS_REMOUNT | MS_BIND, 0), "unmount" => k!(SYS_umount2, c"at", 0), "again" => k!(SYS_umount2, c"at", 0), "no more" => k!(SYS_umount2, c"at", 0));
        tell!(o, "option" => k!(SYS_mount, c"none", c"at", c"tmpfs", 0, c"uid=0"), "outside" => k!(SYS_mount, c"none", c"at", c"tmpfs", 0, c"uid=5"), "queues" => k!(SYS_mount, c"none", c"at", c"mqueue", 0, 0), "proc" => k!(SYS_mount, c"none", c"at", c"proc", 0, 0), "none such" => k!(SYS_mount, c"none", c"at", c"nosuchfs", 0, 0), "ipc" => unshare(CLONE_NEWIPC), "queues" => k!(SYS_mount, c"none", c"at", c"mqueue", 0, 0));
    });
    say!(o, "{text}");
}

/// What a descriptor from outside leads to stays as who administers it wants it.
fn mounts_outside_keep_their_groups(o: Out) {
    k!(SYS_mkdir, c"at", 0o755);
    k!(SYS_mkdir, c"own", 0o755);
    let pid = child(|| {
        tell!(o, "unshare" => unshare(CLONE_NEWNS));
        k!(SYS_mount, c"none", c"/", 0, PRIVATE, 0);
        k!(SYS_mount, c"none", c"at", c"tmpfs", 0, 0);
        k!(SYS_mount, c"at", c"own", 0, MS_BIND, 0);
        tell!(o, "shared" => k!(SYS_mount, c"none", c"at", 0, MS_SHARED, 0));
        let outer = open(c"at", O_PATH | O_DIRECTORY, 0).int();
        let private = open(c"own", O_PATH | O_DIRECTORY, 0).int();
        user();
        become_root(1000, 1000);
        unshare(CLONE_NEWNS);
        let theirs = path(&format!("/proc/self/fd/{private}"));
        let theirs = theirs.as_c_str();
        for kind in [MS_SHARED, MS_PRIVATE, MS_SLAVE, MS_UNBINDABLE] {
            tell!(o, "theirs" => k!(SYS_mount, c"none", theirs, 0, kind, 0), "with all" => k!(SYS_mount, c"none", theirs, 0, kind | MS_REC, 0), "mine" => k!(SYS_mount, c"none", c"own", 0, kind, 0));
        }
        k!(SYS_mount, c"none", c"own", 0, MS_PRIVATE, 0);
        // MOVE_MOUNT_SET_GROUP, with both by descriptor.
        let groups = |from: i32, to: i32| k!(SYS_move_mount, from, c"", to, c"", 0x144);
        let mine = open(c"own", O_PATH | O_DIRECTORY, 0).int();
        let copy = open(c"at", O_PATH | O_DIRECTORY, 0).int();
        tell!(o, "of theirs" => groups(outer, mine), "to theirs" => groups(copy, private), "among theirs" => groups(outer, private), "among mine" => groups(copy, mine));
        0
    });
    tell!(o, "child" => wait_text(pid));
}

fn mounts_are_locked(o: Out) {
    let pid = child(|| {
        unshare(CLONE_NEWNS);
        k!(SYS_mount, c"none", c"/", 0, PRIVATE, 0);
        k!(SYS_mkdir, c"at", 0o755);
        k!(SYS_mkdir, c"to", 0o755);
        k!(SYS_mount, c"none", c"at", c"tmpfs", 0, 0);
        k!(SYS_mkdir, c"at/below", 0o755);
        k!(SYS_mount, c"none", c"at/below", c"tmpfs", 0, 0);
        tell!(o, "unshare" => unshare(CLONE_NEWUSER | CLONE_NEWNS), "unmount" => k!(SYS_umount2, c"at/below", 0), "lazily" => k!(SYS_umount2, c"at", MNT_DETACH), "move" => k!(SYS_mount, c"at/below", c"to", 0, MS_MOVE, 0), "bind one" => k!(SYS_mount, c"at", c"to", 0, MS_BIND, 0), "what hides nothing" => k!(SYS_mount, c"at/below", c"to", 0, MS_BIND, 0), "unmount" => k!(SYS_umount2, c"to", 0), "bind all" => k!(SYS_mount, c"at", c"to", 0, MS_BIND | MS_REC, 0), "below it" => k!(SYS_umount2, c"to/below", 0), "it" => k!(SYS_umount2, c"to", MNT_DETACH), "over" => k!(SYS_mount, c"none", c"at/below", c"tmpfs", 0, 0), "away" => k!(SYS_umount2, c"at/below", 0), "but not" => k!(SYS_umount2, c"at/below", 0));
        k!(SYS_umount2, c"to", MNT_DETACH);
        k!(SYS_mount, c"none", c"to", c"tmpfs", 0, 0);
        // MOVE_MOUNT_BENEATH
        tell!(o, "beneath it" => k!(SYS_move_mount, AT_FDCWD, c"to", AT_FDCWD, c"at/below", 0x200), "to be left out" => k!(SYS_mount, c"none", c"at/below", 0, MS_UNBINDABLE, 0), "bind all but it" => k!(SYS_mount, c"at", c"to", 0, MS_BIND | MS_REC, 0), "as a tree" => k!(SYS_open_tree, AT_FDCWD, c"at", 0x8001));
        0
    });
    tell!(o, "child" => wait_text(pid));
    let pid = child(|| {
        become_root(0, 0);
        unshare(CLONE_NEWNS);
        k!(SYS_mount, c"none", c"/", 0, PRIVATE, 0);
        k!(SYS_mount, c"none", c"at", c"tmpfs", 0, 0);
        tell!(o, "of equals" => unshare(CLONE_NEWNS), "unmount" => k!(SYS_umount2, c"at", 0));
        0
    });
    tell!(o, "child" => wait_text(pid));
}

/// What is unmounted with all that is mounted below it still hides what it hid.
fn what_hides_goes_along(o: Out) {
    k!(SYS_mkdir, c"at", 0o755);
    k!(SYS_mkdir, c"to", 0o755);
    let pid = child(|| {
        unshare(CLONE_NEWNS);
        k!(SYS_mount, c"none", c"/", 0, PRIVATE, 0);
        k!(SYS_mount, c"none", c"at", c"tmpfs", 0, 0);
        k!(SYS_mkdir, c"at/below", 0o755);
        mk(c"at/below/secret", b"x");
        k!(SYS_mount, c"none", c"at/below", c"tmpfs", 0, 0);
        mk(c"at/below/seen", b"x");
        k!(SYS_mkdir, c"at/below/deep", 0o755);
        mk(c"at/below/deep/secret", b"x");
        k!(SYS_mount, c"none", c"at/below/deep", c"tmpfs", 0, 0);
        tell!(o, "unshare" => unshare(CLONE_NEWUSER | CLONE_NEWNS), "copy" => k!(SYS_mount, c"at", c"to", 0, MS_BIND | MS_REC, 0));
        let inside = open(c"to", O_RDONLY | O_DIRECTORY, 0).int();
        let tree = k!(SYS_open_tree, AT_FDCWD, c"to", 0x8001).int();
        let tree_inside = k!(SYS_openat, tree, c".", O_RDONLY | O_DIRECTORY, 0).int();
        tell!(o, "unmount" => k!(SYS_umount2, c"to", MNT_DETACH));
        let seen = |fd: i32| {
            let at = |name: &CStr| k!(SYS_openat, fd, name, O_RDONLY, 0).yes();
            (
                at(c"below/secret"),
                at(c"below/seen"),
                at(c"below/deep/secret"),
                at(c"below/deep"),
            )
        };
        say!(o, "unmounted {:?}", seen(inside));
        close(tree);
        say!(o, "tree {:?}", seen(tree_inside));
        // And where the namespace has ended that it was in.
        let old = open(c"at", O_RDONLY | O_DIRECTORY, 0).int();
        tell!(o, "leave" => unshare(CLONE_NEWNS));
        say!(o, "ended {:?}", seen(old));
        0
    });
    tell!(o, "child" => wait_text(pid));
}

fn flags_are_locked(o: Out) {
    let pid = child(|| {
        unshare(CLONE_NEWNS);
        k!(SYS_mount, c"none", c"/", 0, PRIVATE, 0);
        k!(SYS_mkdir, c"at", 0o755);
        k!(
            SYS_mount,
            c"none",
            c"at",
            c"tmpfs",
            MS_NOSUID | MS_NODEV | MS_NOATIME,
            0
        );
        k!(
            SYS_mount,
            c"none",
            c"at",
            0,
            MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOATIME,
            0
        );
        unshare(CLONE_NEWUSER | CLONE_NEWNS);
        let all = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOATIME;
        for flags in [
            all,
            all | MS_NOEXEC,
            all & !MS_RDONLY,
            all & !MS_NOSUID,
            all & !MS_NODEV,
            all & !MS_NOATIME,
            all & !MS_NOATIME | MS_RELATIME,
            all & !MS_NOATIME | MS_STRICTATIME,
            all | MS_NODIRATIME,
        ] {
            say!(
                o,
                "{flags:x} {} {}",
                k!(
                    SYS_mount,
                    c"none",
                    c"at",
                    0,
                    MS_REMOUNT | MS_BIND | flags,
                    0
                ),
                k!(SYS_mount, c"none", c"at", 0, MS_REMOUNT | flags, 0)
            );
        }
        k!(SYS_mkdir, c"to", 0o755);
        tell!(o, "bind" => k!(SYS_mount, c"at", c"to", 0, MS_BIND, 0), "its flags" => k!(SYS_mount, c"none", c"to", 0, MS_REMOUNT | MS_BIND, 0));
        0
    });
    tell!(o, "child" => wait_text(pid));
}

fn devices_inside(o: Out) {
    let pid = child(|| {
        become_root(0, 0);
        unshare(CLONE_NEWNS);
        k!(SYS_mount, c"none", c"/", 0, PRIVATE, 0);
        k!(SYS_mkdir, c"at", 0o755);
        tell!(o, "tmpfs" => k!(SYS_mount, c"none", c"at", c"tmpfs", 0, 0), "device" => k!(SYS_mknodat, AT_FDCWD, c"at/null", S_IFCHR | 0o666, 0x103), "fifo" => k!(SYS_mknodat, AT_FDCWD, c"at/fifo", S_IFIFO | 0o666, 0), "bind target" => open(c"at/dev", O_CREAT | O_WRONLY, 0o644).yes(), "bind" => k!(SYS_mount, c"/dev/null", c"at/dev", 0, MS_BIND, 0), "use" => open(c"at/dev", O_RDWR, 0).yes());
        0
    });
    tell!(o, "child" => wait_text(pid));
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    let pid = child(|| {
        k!(SYS_setresgid, 1000, 1000, 1000);
        k!(SYS_setresuid, 1000, 1000, 1000);
        k!(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
        become_root(1000, 1000);
        unshare(CLONE_NEWNS);
        k!(SYS_mount, c"none", c"at", c"tmpfs", 0, c"mode=777");
        k!(SYS_chdir, c"at");
        write(w, b"x");
        read(r2, 1);
        let fd = open(c"null", O_RDWR, 0);
        tell!(o, "from inside" => fd);
        0
    });
    read(r, 1);
    let at = |name: &str| path(&format!("/proc/{pid}/cwd/{name}"));
    tell!(o, "no name there" => open(&at("f"), O_CREAT | O_WRONLY, 0o644), "nor device" => k!(SYS_mknodat, AT_FDCWD, &at("null"), S_IFCHR | 0o666, 0x103));
    let as_they = child(|| {
        k!(SYS_setfsgid, 1000);
        k!(SYS_setfsuid, 1000);
        tell!(o, "as they" => open(&at("f"), O_CREAT | O_WRONLY, 0o644).yes());
        0
    });
    tell!(o, "who" => wait_text(as_they));
    write(w2, b"x");
    tell!(o, "child" => wait_text(pid));
}

fn set_user_id_programs(o: Out) {
    k!(SYS_chmod, c".", 0o755);
    copy_exe(c"root", 0, 0, 0o4755);
    copy_exe(c"group", 1000, 0, 0o2755);
    copy_exe(c"mine", 1000, 1000, 0o6755);
    for program in [c"root", c"group", c"mine"] {
        let text = output(program, || {
            user();
            become_root(1000, 1000);
        });
        say!(o, "{program:?} {text}");
    }
    // On a mount of another namespace it has no effect either.
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    k!(SYS_mkdir, c"at", 0o755);
    let pid = child(|| {
        become_root(0, 0);
        unshare(CLONE_NEWNS);
        k!(SYS_mount, c"none", c"/", 0, PRIVATE, 0);
        k!(SYS_mount, c"none", c"at", c"tmpfs", 0, c"mode=755");
        copy_exe(c"at/su", 0, 0, 0o4755);
        k!(SYS_chdir, c"at");
        write(w, b"x");
        read(r2, 1);
        0
    });
    read(r, 1);
    let there = path(&format!("/proc/{pid}/cwd/su"));
    let fd = open(&there, O_PATH, 0).int();
    let link = path(&format!("/proc/self/fd/{fd}"));
    say!(o, "foreign {}", output(&link, user));
    write(w2, b"x");
    tell!(o, "child" => wait_text(pid));
}

fn programs_inside(o: Out) {
    k!(SYS_chmod, c".", 0o755);
    copy_exe(c"p", 0, 0, 0o755);
    let mapped = output(c"p", || {
        user();
        become_root(1000, 1000);
    });
    let unmapped = output(c"p", || {
        user();
        unshare(CLONE_NEWUSER);
    });
    let other = output(c"p", || {
        user();
        unshare(CLONE_NEWUSER);
        put(me(), "uid_map", b"5 1000 1");
    });
    tell!(o, "mapped" => mapped, "unmapped" => unmapped, "another" => other);
    // Capabilities survive an exec for who is root there, and for nobody else.
    for uid in ["0", "5"] {
        let text = told(c"p", c"caps", || {
            user();
            unshare(CLONE_NEWUSER);
            put(me(), "uid_map", format!("{uid} 1000 1").as_bytes());
        });
        say!(o, "{uid} {text}");
    }
}

fn file_capabilities(o: Out) {
    mk(c"f", b"x");
    k!(SYS_chown, c"f", 1000, 1000);
    mk(c"theirs", b"x");
    let name = c"security.capability";
    let version_2 = [0x0200_0001u32, 1 << 10, 0, 0, 0];
    let get = |file: &CStr| {
        let mut value = [0u32; 6];
        let n = k!(SYS_getxattr, file, name, &mut value, 24);
        format!("{n} {value:x?}")
    };
    let set = |file: &CStr, value: &[u32]| {
        let bytes: Vec<u8> = value.iter().flat_map(|w| w.to_le_bytes()).collect();
        k!(SYS_setxattr, file, name, &bytes[..], bytes.len(), 0)
    };
    let text = as_dumpable(|| {
        become_root(1000, 1000);
        tell!(o, "not a value" => set(c"f", &[1, 2]), "theirs" => set(c"theirs", &version_2), "mine" => set(c"f", &version_2), "get" => get(c"f"), "other root" => set(c"f", &[0x0300_0000, 1, 0, 0, 0, 7]), "remove theirs" => k!(SYS_removexattr, c"theirs", name), "another" => k!(SYS_setxattr, c"f", c"security.x", b"1".as_slice(), 1, 0));
    });
    say!(o, "{text}");
    tell!(o, "from outside" => get(c"f"));
    let pid = child(|| {
        unshare(CLONE_NEWUSER);
        tell!(o, "from elsewhere" => get(c"f"));
        0
    });
    tell!(o, "child" => wait_text(pid));
}
