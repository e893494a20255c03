//! Namespaces of host names, IPC objects, networks and control groups: unshare(2), setns(2), their
//! files.

use crate::out::Out;
use crate::sys::{self, R, child};
use crate::util::{anon, as_user, cat, close, open, pipe, read, show, wait_text, write};
use crate::{cases, k, say, tell};
use libc::*;
use std::ffi::{CStr, CString};

cases!(
    host_names,
    host_names_of_clones,
    ipc_objects,
    ipc_tables,
    semaphores_are_undone,
    segments_stay_mapped,
    numbers_of_files,
    going_back,
    entering_by_files,
    entering_by_processes,
    entering_mounts,
    without_privilege,
    kept_by_files,
    questions_to_files,
    clone_flags,
    network_names,
    networks_of_clones,
    control_groups,
    without_privilege_for_more,
);

fn unshare(flags: i32) -> R {
    k!(SYS_unshare, flags)
}

fn host_name() -> String {
    let mut names = [0u8; 390];
    k!(SYS_uname, &mut names);
    let name = &names[65..130];
    show(name.split(|b| *b == 0).next().unwrap_or_default())
}

fn set_host_name(name: &[u8]) -> R {
    k!(SYS_sethostname, name, name.len())
}

fn domain_name() -> String {
    let mut names = [0u8; 390];
    k!(SYS_uname, &mut names);
    let name = &names[325..390];
    show(name.split(|b| *b == 0).next().unwrap_or_default())
}

/// What the link says.
fn link_text(path: &CStr) -> Vec<u8> {
    let mut text = vec![0u8; 64];
    let n = k!(SYS_readlinkat, AT_FDCWD, path, &mut text[..], 64);
    text.truncate(if n.ok() { n.addr() } else { 0 });
    text
}

fn ns(pid: i32, kind: &str) -> CString {
    CString::new(format!("/proc/{pid}/ns/{kind}")).unwrap_or_default()
}

fn me() -> i32 {
    k!(SYS_getpid).int()
}

const KINDS: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];

fn host_names(o: Out) {
    let before = host_name();
    let pid = child(|| {
        tell!(o, "unshare" => unshare(CLONE_NEWUTS), "as before" => host_name() == before, "set" => set_host_name(b"other"), "name" => host_name(), "domain" => k!(SYS_setdomainname, b"there".as_slice(), 5), "is" => domain_name());
        tell!(o, "proc" => cat(c"/proc/sys/kernel/hostname"), "proc domain" => cat(c"/proc/sys/kernel/domainname"));
        let grandchild = child(|| {
            tell!(o, "inherited" => host_name(), "again" => unshare(CLONE_NEWUTS), "set" => set_host_name(b"third"), "name" => host_name());
            0
        });
        tell!(o, "grandchild" => wait_text(grandchild), "mine" => host_name());
        0
    });
    tell!(o, "child" => wait_text(pid), "as before" => host_name() == before);
}

fn host_names_of_clones(o: Out) {
    let before = host_name();
    let pid = k!(SYS_clone, CLONE_NEWUTS | SIGCHLD, 0, 0, 0, 0);
    if pid.0 == 0 {
        tell!(o, "set" => set_host_name(b"clone"), "name" => host_name());
        k!(SYS_exit_group, 0);
    }
    tell!(o, "clone" => wait_text(pid.int()), "as before" => host_name() == before);
    let args = [
        (CLONE_NEWUTS | CLONE_NEWIPC) as u64,
        0,
        0,
        0,
        SIGCHLD as u64,
        0,
        0,
        0,
    ];
    let pid = k!(SYS_clone3, &args, 64);
    if pid.0 == 0 {
        tell!(o, "set" => set_host_name(b"clone3"), "name" => host_name());
        k!(SYS_exit_group, 0);
    }
    tell!(o, "clone3" => wait_text(pid.int()), "as before" => host_name() == before);
}

fn ipc_objects(o: Out) {
    let key = me();
    let made = k!(SYS_msgget, key, IPC_CREAT | 0o600);
    let pid = child(|| {
        tell!(o, "unshare" => unshare(CLONE_NEWIPC), "queue" => k!(SYS_msgget, key, 0), "by number" => k!(SYS_msgctl, made, IPC_STAT, anon(4096)));
        let own = k!(SYS_msgget, key, IPC_CREAT | IPC_EXCL | 0o600);
        let sem = k!(SYS_semget, key, 1, IPC_CREAT | IPC_EXCL | 0o600);
        let shm = k!(SYS_shmget, key, 4096, IPC_CREAT | IPC_EXCL | 0o600);
        let name = c"ns.queue";
        let queue = k!(SYS_mq_open, name, O_CREAT | O_EXCL | O_RDWR, 0o600, 0);
        tell!(o, "own" => own, "semaphores" => sem, "segment" => shm, "posix" => queue.yes());
        0
    });
    tell!(o, "child" => wait_text(pid), "not here" => k!(SYS_semget, key, 1, 0), "nor" => k!(SYS_shmget, key, 0, 0), "nor posix" => k!(SYS_mq_open, c"ns.queue", O_RDWR, 0, 0));
    tell!(o, "still" => k!(SYS_msgget, key, 0) == made, "remove" => k!(SYS_msgctl, made, IPC_RMID, 0));
}

fn ipc_tables(o: Out) {
    let lines = |path| cat(path).matches("\\n").count();
    let id = k!(SYS_shmget, IPC_PRIVATE, 4096, 0o600);
    let pid = child(|| {
        unshare(CLONE_NEWIPC);
        tell!(o, "none" => lines(c"/proc/sysvipc/shm"));
        k!(SYS_shmget, IPC_PRIVATE, 8192, 0o600);
        tell!(o, "one" => lines(c"/proc/sysvipc/shm"), "messages" => lines(c"/proc/sysvipc/msg"));
        0
    });
    tell!(o, "child" => wait_text(pid), "ours" => lines(c"/proc/sysvipc/shm") > 1, "remove" => k!(SYS_shmctl, id, IPC_RMID, 0));
}

fn semaphores_are_undone(o: Out) {
    let id = k!(SYS_semget, IPC_PRIVATE, 1, 0o600);
    let value = || k!(SYS_semctl, id, 0, GETVAL, 0);
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    let pid = child(|| {
        let up = [0u16, 3, SEM_UNDO as u16];
        tell!(o, "up" => k!(SYS_semop, id, &up, 1), "value" => value(), "unshare" => unshare(CLONE_NEWIPC));
        write(w, b"x");
        read(r2, 1);
        0
    });
    read(r, 1);
    tell!(o, "undone while it lives" => value(), "go" => write(w2, b"x"), "child" => wait_text(pid), "value" => value(), "remove" => k!(SYS_semctl, id, 0, IPC_RMID, 0));
}

fn segments_stay_mapped(o: Out) {
    let pid = child(|| {
        unshare(CLONE_NEWIPC);
        let id = k!(SYS_shmget, IPC_PRIVATE, 4096, 0o600);
        let at = k!(SYS_shmat, id, 0, 0).addr();
        sys::poke(at, 7);
        tell!(o, "unshare" => unshare(CLONE_NEWIPC), "byte" => sys::peek(at), "gone" => k!(SYS_shmctl, id, IPC_STAT, anon(4096)), "detach" => k!(SYS_shmdt, at), "again" => k!(SYS_shmdt, at));
        0
    });
    tell!(o, "child" => wait_text(pid));
}

fn numbers_of_files(o: Out) {
    let mine: Vec<Vec<u8>> = KINDS
        .iter()
        .map(|kind| link_text(&ns(me(), kind)))
        .collect();
    let pid = child(|| {
        unshare(CLONE_NEWUTS | CLONE_NEWIPC);
        for (kind, mine) in KINDS.iter().zip(&mine) {
            let path = ns(me(), kind);
            let now = link_text(&path);
            let st = crate::util::stat_at(&path, 0).map_or(0, |s| s.st_ino);
            let number = format!("{kind}:[{st}]").into_bytes();
            say!(
                o,
                "{kind}: same {} stat agrees {}",
                &now == mine,
                now == number
            );
        }
        0
    });
    tell!(o, "child" => wait_text(pid), "unchanged" => KINDS.iter().zip(&mine).all(|(kind, text)| link_text(&ns(me(), kind)) == *text));
}

fn going_back(o: Out) {
    let before = host_name();
    let pid = child(|| {
        let old = open(c"/proc/self/ns/uts", O_RDONLY, 0).int();
        unshare(CLONE_NEWUTS);
        set_host_name(b"elsewhere");
        let new = open(c"/proc/self/ns/uts", O_RDONLY, 0).int();
        tell!(o, "back" => k!(SYS_setns, old, CLONE_NEWUTS), "as before" => host_name() == before, "there again" => k!(SYS_setns, new, 0), "name" => host_name());
        0
    });
    tell!(o, "child" => wait_text(pid));
}

fn entering_by_files(o: Out) {
    let pid = child(|| {
        // Of mounts last: with it goes the root.
        let kinds = ["net", "uts", "ipc", "pid", "cgroup", "time", "user", "mnt"];
        let fds = kinds.map(|kind| open(&ns(me(), kind), O_RDONLY, 0).int());
        let file = open(c"/dev/null", O_RDONLY, 0).int();
        let path = open(c"/proc/self/ns/uts", O_PATH, 0).int();
        tell!(o, "no such" => k!(SYS_setns, 99, 0), "a file" => k!(SYS_setns, file, 0), "a path" => k!(SYS_setns, path, 0), "writing" => open(c"/proc/self/ns/uts", O_WRONLY, 0));
        for (kind, fd) in kinds.iter().zip(fds) {
            say!(
                o,
                "{kind} {} wrong {}",
                k!(SYS_setns, fd, 0),
                k!(SYS_setns, fd, CLONE_NEWUTS | CLONE_NEWIPC)
            );
        }
        0
    });
    tell!(o, "child" => wait_text(pid));
}

fn entering_by_processes(o: Out) {
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    let other = child(|| {
        unshare(CLONE_NEWUTS | CLONE_NEWIPC);
        set_host_name(b"theirs");
        k!(SYS_msgget, 77, IPC_CREAT | 0o600);
        write(w, b"x");
        read(r2, 1);
        0
    });
    read(r, 1);
    let pid = child(|| {
        let fd = k!(SYS_pidfd_open, other, 0).int();
        for flags in [
            0,
            CLONE_VM,
            CLONE_NEWUSER,
            CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP,
            1 << 31,
        ] {
            say!(o, "{flags:x} {}", k!(SYS_setns, fd, flags));
        }
        tell!(o, "names" => k!(SYS_setns, fd, CLONE_NEWUTS), "name" => host_name(), "queue" => k!(SYS_msgget, 77, 0));
        tell!(o, "all" => k!(SYS_setns, fd, CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNS), "queue" => k!(SYS_msgget, 77, 0).yes());
        0
    });
    tell!(o, "child" => wait_text(pid), "go" => write(w2, b"x"), "other" => wait_text(other));
    let fd = k!(SYS_pidfd_open, me(), 0);
    let gone = child(|| 0);
    let old = k!(SYS_pidfd_open, gone, 0).int();
    tell!(o, "gone" => wait_text(gone), "enter" => k!(SYS_setns, old, CLONE_NEWUTS), "close" => close(fd.int()));
}

fn entering_mounts(o: Out) {
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    k!(SYS_mkdir, c"at", 0o755);
    let mut here = vec![0u8; 4096];
    let n = k!(SYS_getcwd, &mut here[..], 4096);
    here.truncate(n.addr().saturating_sub(1));
    let other = child(|| {
        unshare(CLONE_NEWNS);
        k!(SYS_mount, c"none", c"/", 0, MS_REC | MS_PRIVATE, 0);
        tell!(o, "mount" => k!(SYS_mount, c"none", c"at", c"tmpfs", 0, 0), "made" => open(c"at/inside", O_CREAT | O_WRONLY, 0o600).yes());
        write(w, b"x");
        read(r2, 1);
        0
    });
    read(r, 1);
    let pid = child(|| {
        let fd = open(&ns(other, "mnt"), O_RDONLY, 0).int();
        tell!(o, "before" => open(c"at/inside", O_RDONLY, 0).yes(), "enter" => k!(SYS_setns, fd, CLONE_NEWNS), "same" => link_text(&ns(me(), "mnt")) == link_text(&ns(other, "mnt")));
        let mut cwd = [0u8; 8];
        let n = k!(SYS_getcwd, &mut cwd, 8);
        tell!(o, "cwd" => n, "is" => show(&cwd[..2]));
        0
    });
    tell!(o, "child" => wait_text(pid), "go" => write(w2, b"x"), "other" => wait_text(other));
    let sharing = child(|| {
        let fd = open(c"/proc/self/ns/mnt", O_RDONLY, 0).int();
        let pid = k!(SYS_clone, CLONE_FS | SIGCHLD, 0, 0, 0, 0);
        if pid.0 == 0 {
            tell!(o, "with a shared root" => k!(SYS_setns, fd, CLONE_NEWNS));
            k!(SYS_exit_group, 0);
        }
        wait_text(pid.int());
        0
    });
    tell!(o, "sharing" => wait_text(sharing));
}

fn without_privilege(o: Out) {
    let fds: Vec<i32> = KINDS
        .iter()
        .map(|kind| open(&ns(me(), kind), O_RDONLY, 0).int())
        .collect();
    let text = as_user(|| {
        for flags in [CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWNS] {
            say!(
                o,
                "{flags:x} {} {}",
                unshare(flags),
                k!(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0)
            );
        }
        for (kind, fd) in KINDS.iter().zip(&fds) {
            say!(o, "{kind} {}", k!(SYS_setns, *fd, 0));
        }
        let own = k!(SYS_pidfd_open, me(), 0);
        tell!(o, "by process" => k!(SYS_setns, own, CLONE_NEWUTS), "wrong first" => k!(SYS_setns, fds[0], CLONE_NEWUTS));
    });
    say!(o, "{text}");
}

fn kept_by_files(o: Out) {
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    let other = child(|| {
        unshare(CLONE_NEWUTS | CLONE_NEWIPC);
        set_host_name(b"kept");
        k!(SYS_msgget, 78, IPC_CREAT | 0o600);
        write(w, b"x");
        read(r2, 1);
        0
    });
    read(r, 1);
    let uts = open(&ns(other, "uts"), O_RDONLY, 0).int();
    let ipc = open(&ns(other, "ipc"), O_RDONLY, 0).int();
    write(w2, b"x");
    tell!(o, "other" => wait_text(other));
    let pid = child(|| {
        tell!(o, "names" => k!(SYS_setns, uts, 0), "name" => host_name(), "objects" => k!(SYS_setns, ipc, 0), "queue" => k!(SYS_msgget, 78, 0).yes());
        0
    });
    tell!(o, "child" => wait_text(pid));
}

fn questions_to_files(o: Out) {
    const GET_USERNS: u32 = 0xb701;
    const GET_PARENT: u32 = 0xb702;
    const GET_NSTYPE: u32 = 0xb703;
    const GET_OWNER_UID: u32 = 0xb704;
    for kind in KINDS {
        let fd = open(&ns(me(), kind), O_RDONLY, 0).int();
        let mut uid = 99u32;
        let owner = k!(SYS_ioctl, fd, GET_USERNS, 0);
        say!(
            o,
            "{kind} type {} parent {} owner {} uid {} {uid}",
            k!(SYS_ioctl, fd, GET_NSTYPE, 0),
            k!(SYS_ioctl, fd, GET_PARENT, 0),
            owner.yes(),
            k!(SYS_ioctl, fd, GET_OWNER_UID, &mut uid)
        );
        if owner.ok() {
            let same = crate::util::fstat(owner.int()).st_ino
                == crate::util::stat_at(c"/proc/self/ns/user", 0).map_or(0, |s| s.st_ino);
            tell!(o, "is ours" => same, "closed on exec" => k!(SYS_fcntl, owner, F_GETFD), "kind" => k!(SYS_ioctl, owner, GET_NSTYPE, 0));
            close(owner.int());
        }
        close(fd);
    }
}

fn clone_flags(o: Out) {
    for flags in [CLONE_NEWIPC | CLONE_SYSVSEM, CLONE_NEWNS | CLONE_FS] {
        let r = k!(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
        if r.0 == 0 {
            k!(SYS_exit_group, 0);
        }
        say!(o, "{flags:x} {}", r.yes());
    }
    let text = as_user(|| {
        say!(
            o,
            "{}",
            k!(
                SYS_clone,
                CLONE_NEWIPC | CLONE_SYSVSEM | SIGCHLD,
                0,
                0,
                0,
                0
            )
        );
    });
    say!(o, "{text}");
}

/// An abstract name, and a socket to use it with.
fn abstract_name(name: &[u8]) -> (Vec<u8>, i32) {
    let mut address = (AF_UNIX as u16).to_ne_bytes().to_vec();
    address.push(0);
    address.extend_from_slice(name);
    (address, k!(SYS_socket, AF_UNIX, SOCK_STREAM, 0).int())
}

fn bind_name(name: &[u8]) -> R {
    let (address, fd) = abstract_name(name);
    let bound = k!(SYS_bind, fd, &address[..], address.len());
    k!(SYS_listen, fd, 4);
    bound
}

fn connect_name(name: &[u8]) -> R {
    let (address, fd) = abstract_name(name);
    k!(SYS_connect, fd, &address[..], address.len())
}

fn network_names(o: Out) {
    let name = format!("parity net {}", me()).into_bytes();
    tell!(o, "bind" => bind_name(&name), "taken" => bind_name(&name));
    let outside = link_text(&ns(me(), "net"));
    let pid = child(|| {
        let old = open(c"/proc/self/ns/net", O_RDONLY, 0).int();
        let (address, before) = abstract_name(&name);
        let mut pair = [0i32; 2];
        k!(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, &mut pair);
        tell!(o, "unshare" => unshare(CLONE_NEWNET), "another" => link_text(&ns(me(), "net")) != outside, "nobody" => connect_name(&name), "bind" => bind_name(&name), "connect" => connect_name(&name));
        tell!(o, "of before" => k!(SYS_connect, before, &address[..], address.len()), "pair" => write(pair[0], b"x"), "came" => read(pair[1], 1).0);
        let grandchild = child(|| {
            tell!(o, "inherited" => connect_name(&name));
            0
        });
        tell!(o, "grandchild" => wait_text(grandchild), "back" => k!(SYS_setns, old, CLONE_NEWNET), "is" => link_text(&ns(me(), "net")) == outside, "taken" => bind_name(&name));
        0
    });
    tell!(o, "child" => wait_text(pid), "ours" => connect_name(&name));
}

fn networks_of_clones(o: Out) {
    let name = format!("parity clone {}", me()).into_bytes();
    bind_name(&name);
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    let pid = k!(
        SYS_clone,
        CLONE_NEWNET | CLONE_NEWCGROUP | SIGCHLD,
        0,
        0,
        0,
        0
    );
    if pid.0 == 0 {
        tell!(o, "nobody" => connect_name(&name), "bind" => bind_name(b"inside"));
        write(w, b"x");
        read(r2, 1);
        k!(SYS_exit_group, 0);
    }
    read(r, 1);
    let fd = k!(SYS_pidfd_open, pid, 0).int();
    let entering = child(|| {
        tell!(o, "not here" => connect_name(b"inside"), "enter" => k!(SYS_setns, fd, CLONE_NEWNET | CLONE_NEWCGROUP), "there" => connect_name(b"inside"), "same" => link_text(&ns(me(), "cgroup")) == link_text(&ns(pid.int(), "cgroup")));
        0
    });
    tell!(o, "entering" => wait_text(entering), "go" => write(w2, b"x"), "wait" => wait_text(pid.int()));
}

fn control_groups(o: Out) {
    let outside = link_text(&ns(me(), "cgroup"));
    let pid = child(|| {
        let old = open(c"/proc/self/ns/cgroup", O_RDONLY, 0).int();
        tell!(o, "unshare" => unshare(CLONE_NEWCGROUP), "another" => link_text(&ns(me(), "cgroup")) != outside, "back" => k!(SYS_setns, old, 0), "is" => link_text(&ns(me(), "cgroup")) == outside);
        0
    });
    tell!(o, "child" => wait_text(pid));
}

fn without_privilege_for_more(o: Out) {
    let text = as_user(|| {
        for flags in [CLONE_NEWNET, CLONE_NEWCGROUP, CLONE_NEWPID] {
            say!(
                o,
                "{flags:x} {} {}",
                unshare(flags),
                k!(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0)
            );
        }
    });
    say!(o, "{text}");
}
