//! PID namespaces: what everybody else is told of processes: procfs, descriptors, sockets, locks,
//! IPC objects, futexes.

use super::pid_namespaces::{await_signal, block, inside, me, mount_proc};
use crate::out::Out;
use crate::sys::{self, R, child};
use crate::util::{anon, cat, close, open, pipe, read, show, wait_text, write};
use crate::{cases, k, say, tell};
use libc::*;
use std::ffi::{CStr, CString};

cases!(
    files,
    file_questions,
    proc_inside,
    proc_of_outside,
    status_lines,
    pidfds,
    pidfds_from_inside,
    credentials_of_messages,
    credentials_of_peers,
    lock_owners,
    file_owners,
    ipc_numbers,
    capabilities_and_priorities,
    robust_words,
);

/// A line of /proc/PID/status.
fn status_line(path: &CStr, name: &str) -> String {
    let all = cat(path);
    let found = all
        .split("\\n")
        .find(|l| l.trim_start_matches('"').starts_with(name));
    found.unwrap_or("none").to_string()
}

/// The names in a directory that are numbers.
fn numbered(path: &CStr) -> Vec<i32> {
    let fd = open(path, O_RDONLY | O_DIRECTORY, 0);
    if !fd.ok() {
        return vec![fd.int()];
    }
    let mut found = Vec::new();
    let mut buf = vec![0u8; 32768];
    loop {
        let n = k!(SYS_getdents64, fd, &mut buf[..], buf.len());
        if n.0 <= 0 {
            break;
        }
        let mut at = 0;
        while at < n.addr() {
            let len = usize::from(buf[at + 16]) | usize::from(buf[at + 17]) << 8;
            let name = buf[at + 19..at + len].split(|b| *b == 0).next();
            let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
            found.extend(name.parse::<i32>());
            at += len;
        }
    }
    close(fd.int());
    found
}

fn link(path: &CStr) -> String {
    let mut text = vec![0u8; 64];
    let n = k!(SYS_readlinkat, AT_FDCWD, path, &mut text[..], 64);
    if !n.ok() {
        return n.to_string();
    }
    text.truncate(n.addr());
    show(&text)
}

/// Sends one byte with credentials, or without.
fn send(fd: i32, claim: Option<[u32; 3]>) -> R {
    let byte = [7u8];
    let iov = [byte.as_ptr() as usize, 1];
    let mut control = [0u64; 4];
    if let Some([pid, uid, gid]) = claim {
        control[0] = 28;
        control[1] = (SOL_SOCKET as u64) | (SCM_CREDENTIALS as u64) << 32;
        control[2] = u64::from(pid) | u64::from(uid) << 32;
        control[3] = u64::from(gid);
    }
    let len = if claim.is_some() { 32usize } else { 0 };
    let msg = [
        0usize,
        0,
        iov.as_ptr() as usize,
        1,
        control.as_ptr() as usize,
        len,
        0,
    ];
    k!(SYS_sendmsg, fd, &msg, 0)
}

/// Receives one byte: who sent it.
fn received(fd: i32) -> (i32, u32) {
    let mut byte = [0u8];
    let iov = [byte.as_mut_ptr() as usize, 1];
    let mut control = [0u64; 8];
    let mut msg = [
        0usize,
        0,
        iov.as_ptr() as usize,
        1,
        control.as_mut_ptr() as usize,
        64,
        0,
    ];
    let n = k!(SYS_recvmsg, fd, &mut msg, 0);
    if !n.ok() {
        return (n.int(), 0);
    }
    (control[2] as u32 as i32, (control[2] >> 32) as u32)
}

fn peer(fd: i32) -> i32 {
    let mut creds = [0i32; 3];
    let len = 12i32;
    k!(
        SYS_getsockopt,
        fd,
        SOL_SOCKET,
        SO_PEERCRED,
        &mut creds,
        &len
    );
    creds[0]
}

fn unsafe_bytes(words: &[usize]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_ne_bytes()).collect()
}

fn files(o: Out) {
    let outside = link(c"/proc/self/ns/pid");
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    let pid = inside(|| {
        write(w, b"x");
        read(r2, 1);
        mount_proc();
        let own = link(c"proc-inside/self/ns/pid");
        tell!(o, "same for children" => own == link(c"proc-inside/self/ns/pid_for_children"));
        let other = child(|| {
            tell!(o, "child's" => own == link(c"proc-inside/self/ns/pid"));
            0
        });
        say!(o, "{}", wait_text(other));
        0
    });
    read(r, 1);
    let path = CString::new(format!("/proc/{pid}/ns/pid")).unwrap_or_default();
    let inner = link(&path);
    tell!(o, "another" => inner != outside, "named" => inner.starts_with("\"pid:["), "ours stays" => link(c"/proc/self/ns/pid") == outside);
    write(w2, b"x");
    tell!(o, "wait" => wait_text(pid));
}

fn file_questions(o: Out) {
    const GET_PARENT: u32 = 0xb702;
    const GET_NSTYPE: u32 = 0xb703;
    const PID_FROM: u32 = 0x8004_b706;
    const TGID_FROM: u32 = 0x8004_b707;
    const PID_IN: u32 = 0x8004_b708;
    const TGID_IN: u32 = 0x8004_b709;
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    let pid = inside(|| {
        inside(|| {
            write(w, b"x");
            read(r2, 1);
            0
        });
        read(r2, 1);
        0
    });
    read(r, 1);
    let path = CString::new(format!("/proc/{pid}/ns/pid")).unwrap_or_default();
    let fd = open(&path, O_RDONLY, 0).int();
    let up = k!(SYS_ioctl, fd, GET_PARENT, 0);
    let same = crate::util::fstat(up.int()).st_ino
        == crate::util::stat_at(c"/proc/self/ns/pid", 0).map_or(0, |s| s.st_ino);
    tell!(o, "kind" => k!(SYS_ioctl, fd, GET_NSTYPE, 0), "parent" => up.yes(), "is ours" => same, "above that" => k!(SYS_ioctl, up, GET_PARENT, 0));
    let first = k!(SYS_ioctl, fd, PID_FROM, 1);
    let second = k!(SYS_ioctl, fd, TGID_FROM, 2);
    tell!(o, "first" => first.0 == i64::from(pid), "second" => second.int() > pid, "none" => k!(SYS_ioctl, fd, PID_FROM, 9));
    tell!(o, "in" => k!(SYS_ioctl, fd, PID_IN, pid), "second in" => k!(SYS_ioctl, fd, TGID_IN, second), "not in" => k!(SYS_ioctl, fd, PID_IN, me()), "nobody" => k!(SYS_ioctl, fd, TGID_IN, 0x3f_ffff));
    let uts = open(c"/proc/self/ns/uts", O_RDONLY, 0);
    tell!(o, "of names" => k!(SYS_ioctl, uts, PID_IN, 1), "parent" => k!(SYS_ioctl, uts, GET_PARENT, 0));
    // From inside the one below is seen, and nothing above.
    let viewer = child(|| {
        k!(SYS_setns, fd, CLONE_NEWPID);
        let inner = child(|| {
            let deep = open(
                &CString::new(format!("/proc/{}/ns/pid", second.int())).unwrap_or_default(),
                O_RDONLY,
                0,
            );
            let up = k!(SYS_ioctl, deep, GET_PARENT, 0);
            tell!(o, "deep" => deep.yes(), "its parent" => up.yes(), "and its" => k!(SYS_ioctl, up, GET_PARENT, 0), "its first is" => k!(SYS_ioctl, deep, PID_FROM, 1), "it is there" => k!(SYS_ioctl, deep, PID_IN, 2));
            0
        });
        say!(o, "{}", wait_text(inner));
        0
    });
    tell!(o, "viewer" => wait_text(viewer), "go" => write(w2, b"xx"), "wait" => wait_text(pid));
}

fn proc_inside(o: Out) {
    let pid = inside(|| {
        let mounted = mount_proc();
        let (r, w) = pipe();
        let other = child(|| {
            read(r, 1);
            0
        });
        tell!(o, "mount" => mounted, "processes" => format!("{:?}", numbered(c"proc-inside")), "self" => link(c"proc-inside/self"), "thread" => link(c"proc-inside/thread-self"), "threads" => format!("{:?}", numbered(c"proc-inside/self/task")));
        let stat = cat(c"proc-inside/2/stat");
        let fields: Vec<&str> = stat.split(' ').collect();
        say!(
            o,
            "stat {:?} parent {:?} group {:?} session {:?}",
            fields.first(),
            fields.get(3),
            fields.get(4),
            fields.get(5)
        );
        // The one outside tells of those outside.
        tell!(o, "old self" => link(c"/proc/self") != link(c"proc-inside/self"), "go" => write(w, b"x"), "wait" => wait_text(other), "after" => format!("{:?}", numbered(c"proc-inside")));
        let deep = inside(|| {
            tell!(o, "self of deeper" => link(c"proc-inside/self"), "its own" => mount_proc());
            tell!(o, "processes" => format!("{:?}", numbered(c"proc-inside")), "self" => link(c"proc-inside/self"));
            0
        });
        say!(o, "{deep} {}", wait_text(deep));
        0
    });
    say!(o, "{}", wait_text(pid));
}

fn proc_of_outside(o: Out) {
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    let pid = inside(|| {
        mount_proc();
        // A procfs of a namespace that one is not in.
        let seen = open(c"proc-inside", O_RDONLY | O_DIRECTORY, 0);
        k!(SYS_fcntl, seen, F_DUPFD, 100);
        write(w, b"x");
        read(r2, 1);
        0
    });
    read(r, 1);
    let fd = k!(SYS_pidfd_open, pid, 0);
    let dir = k!(SYS_pidfd_getfd, fd, 100, 0);
    let look = |name: &CStr| {
        let mut text = [0u8; 64];
        let n = k!(SYS_readlinkat, dir, name, &mut text[..], 64);
        n.yes()
    };
    let known = CString::new(me().to_string()).unwrap_or_default();
    tell!(o, "self" => look(c"self"), "thread" => look(c"thread-self"), "first" => k!(SYS_openat, dir, c"1/status", O_RDONLY, 0).yes(), "us" => k!(SYS_openat, dir, known.as_c_str(), O_RDONLY, 0));
    let file = k!(SYS_openat, dir, c"1/stat", O_RDONLY, 0);
    tell!(o, "stat" => read(file.int(), 3).1, "go" => write(w2, b"x"), "wait" => wait_text(pid), "gone" => k!(SYS_openat, dir, c"1/status", O_RDONLY, 0));
}

fn status_lines(o: Out) {
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    const NAMES: [&str; 8] = [
        "Tgid",
        "Pid",
        "PPid",
        "TracerPid",
        "NStgid",
        "NSpid",
        "NSpgid",
        "NSsid",
    ];
    let pid = inside(|| {
        k!(SYS_setsid);
        mount_proc();
        let (r3, w3) = pipe();
        let deep = inside(|| {
            write(w3, b"x");
            read(r2, 1);
            0
        });
        read(r3, 1);
        for name in NAMES {
            say!(
                o,
                "{:?} {:?}",
                status_line(c"proc-inside/1/status", name),
                status_line(c"proc-inside/2/status", name)
            );
        }
        write(w, b"y");
        read(r2, 1);
        say!(o, "{}", wait_text(deep));
        0
    });
    read(r, 1);
    // From outside there is one number more in each.
    let path = CString::new(format!("/proc/{pid}/status")).unwrap_or_default();
    for name in &NAMES[4..] {
        let line = status_line(&path, name);
        let numbers: Vec<&str> = line.split("\\t").skip(1).collect();
        say!(
            o,
            "{name} {} {:?} {}",
            numbers.len(),
            numbers.get(1),
            numbers.first() == Some(&pid.to_string().as_str())
        );
    }
    write(w2, b"xx");
    tell!(o, "wait" => wait_text(pid));
}

fn pidfds(o: Out) {
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    let pid = inside(|| {
        mount_proc();
        let own = k!(SYS_pidfd_open, 1, 0).int();
        let path = CString::new(format!("proc-inside/self/fdinfo/{own}")).unwrap_or_default();
        tell!(o, "inside" => status_line(&path, "Pid"), "all" => status_line(&path, "NSpid"));
        block(SIGUSR1);
        write(w, b"x");
        read(r2, 1);
        say!(o, "{:?}", await_signal(SIGUSR1));
        7
    });
    read(r, 1);
    let fd = k!(SYS_pidfd_open, pid, 0).int();
    let path = CString::new(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
    let numbers = status_line(&path, "NSpid");
    tell!(o, "two" => numbers.split("\\t").count(), "inner" => numbers.ends_with("\\t1"), "send" => k!(SYS_pidfd_send_signal, fd, SIGUSR1, 0, 0));
    write(w2, b"x");
    let mut info = [0i32; 32];
    tell!(o, "wait" => k!(SYS_waitid, P_PIDFD, fd, &mut info, WEXITED, 0), "is it" => info[3] == pid, "status" => info[5], "gone" => status_line(&path, "NSpid"));
}

fn pidfds_from_inside(o: Out) {
    let outside = k!(SYS_pidfd_open, me(), 0);
    let pid = inside(|| {
        let mut info = [0i32; 32];
        let path = CString::new(format!("/proc/self/fdinfo/{}", outside.int())).unwrap_or_default();
        tell!(o, "signal" => k!(SYS_pidfd_send_signal, outside, 0, 0, 0), "wait" => k!(SYS_waitid, P_PIDFD, outside, &mut info, WEXITED | WNOHANG, 0), "file" => k!(SYS_pidfd_getfd, outside, 0, 0).yes());
        mount_proc();
        let path2 =
            CString::new(format!("proc-inside/self/fdinfo/{}", outside.int())).unwrap_or_default();
        tell!(o, "by the one outside" => status_line(&path, "NSpid").split("\\t").count(), "inside" => status_line(&path2, "Pid"), "all" => status_line(&path2, "NSpid"));
        0
    });
    say!(o, "{}", wait_text(pid));
}

fn credentials_of_messages(o: Out) {
    let mut ends = [0i32; 2];
    k!(SYS_socketpair, AF_UNIX, SOCK_DGRAM, 0, &mut ends);
    let on = 1i32;
    for end in ends {
        k!(SYS_setsockopt, end, SOL_SOCKET, SO_PASSCRED, &on, 4);
    }
    let outside = me();
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    let pid = inside(|| {
        let other = child(|| {
            tell!(o, "plain" => send(ends[0], None), "own" => send(ends[0], Some([2, 0, 0])), "first" => send(ends[0], Some([1, 0, 0])), "nobody" => send(ends[0], Some([99, 0, 0])), "outside" => send(ends[0], Some([outside.max(300) as u32, 0, 0])));
            // To somebody here.
            send(ends[1], None);
            read(r, 1);
            0
        });
        say!(o, "from a child {:?}", received(ends[0]));
        write(w2, b"x");
        say!(o, "from outside {:?}", received(ends[0]));
        write(w, b"x");
        say!(o, "{}", wait_text(other));
        0
    });
    let all = [received(ends[1]), received(ends[1]), received(ends[1])];
    read(r2, 1);
    send(ends[1], None);
    say!(o, "{}", wait_text(pid));
    say!(
        o,
        "plain {} own {} first {}",
        all[0].0 > pid,
        all[1] == all[0],
        all[2].0 == pid
    );
}

fn credentials_of_peers(o: Out) {
    let listener = k!(SYS_socket, AF_UNIX, SOCK_STREAM, 0).int();
    let mut address = [0u8; 16];
    address[0] = AF_UNIX as u8;
    address[2..6].copy_from_slice(b"peer");
    tell!(o, "bind" => k!(SYS_bind, listener, &address, 7), "listen" => k!(SYS_listen, listener, 5));
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    let pid = inside(|| {
        let connected = |name: &str| {
            let fd = k!(SYS_socket, AF_UNIX, SOCK_STREAM, 0).int();
            say!(
                o,
                "{name} {} peer {}",
                k!(SYS_connect, fd, &address, 7),
                peer(fd)
            );
            fd
        };
        connected("first");
        let other = child(|| {
            connected("second");
            write(w, b"x");
            read(r2, 1);
            0
        });
        say!(o, "{}", wait_text(other));
        let mut ends = [0i32; 2];
        k!(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, &mut ends);
        say!(o, "pair {}", peer(ends[0]));
        0
    });
    read(r, 1);
    let a = k!(SYS_accept4, listener, 0, 0, 0).int();
    let b = k!(SYS_accept4, listener, 0, 0, 0).int();
    let (first, second) = (peer(a), peer(b));
    write(w2, b"x");
    let ended = wait_text(pid);
    tell!(o, "first" => first == pid, "second" => second > pid, "wait" => ended, "kept" => peer(b) == second);
}

fn lock_owners(o: Out) {
    let file = open(c"locked", O_CREAT | O_RDWR, 0o600).int();
    let lock = |file: i32, command: i32, kind: i32| {
        let mut l: flock = sys::zeroed();
        l.l_type = kind as i16;
        let at = (&raw mut l) as usize;
        (k!(SYS_fcntl, file, command, at), l.l_type, l.l_pid)
    };
    say!(o, "mine {:?}", lock(file, F_SETLK, F_WRLCK).0.int());
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    let pid = inside(|| {
        say!(o, "outside {:?}", lock(file, F_GETLK, F_WRLCK).2);
        write(w, b"x");
        read(r2, 1);
        let own = lock(file, F_SETLK, F_WRLCK).0;
        let other = child(|| {
            say!(o, "first's {:?}", lock(file, F_GETLK, F_WRLCK).2);
            0
        });
        say!(o, "{own} {}", wait_text(other));
        write(w, b"x");
        read(r2, 1);
        0
    });
    read(r, 1);
    lock(file, F_SETLK, F_UNLCK);
    write(w2, b"x");
    read(r, 1);
    tell!(o, "inside's" => lock(file, F_GETLK, F_WRLCK).2 == pid, "go" => write(w2, b"x"), "wait" => wait_text(pid));
}

fn file_owners(o: Out) {
    let (r, _w) = pipe();
    k!(SYS_fcntl, r, F_SETOWN, me());
    let pid = inside(|| {
        let mut ex = [0i32; 2];
        tell!(o, "outside's" => k!(SYS_fcntl, r, F_GETOWN), "more" => k!(SYS_fcntl, r, 16, &mut ex), "kind" => ex[0], "id" => ex[1]);
        tell!(o, "ours" => k!(SYS_fcntl, r, F_SETOWN, 1), "is" => k!(SYS_fcntl, r, F_GETOWN));
        k!(SYS_setpgid, 0, 0);
        tell!(o, "group" => k!(SYS_fcntl, r, F_SETOWN, -1), "is" => k!(SYS_fcntl, r, F_GETOWN).0);
        0
    });
    say!(o, "{}", wait_text(pid));
}

fn ipc_numbers(o: Out) {
    let shm = k!(SYS_shmget, IPC_PRIVATE, 4096, 0o600);
    let sem = k!(SYS_semget, IPC_PRIVATE, 1, 0o600);
    let msg = k!(SYS_msgget, IPC_PRIVATE, 0o600);
    // cpid and lpid of a segment, lspid and lrpid of a queue.
    let pids = |what: &str| {
        let mut fields = [0u64; 64];
        let (told, at) = match what {
            "shm" => (k!(SYS_shmctl, shm, IPC_STAT, &mut fields), 10),
            _ => (k!(SYS_msgctl, msg, IPC_STAT, &mut fields), 12),
        };
        let [first, second] = [fields[at] as u32 as i32, (fields[at] >> 32) as i32];
        (told.yes(), first, second)
    };
    k!(SYS_semctl, sem, 0, SETVAL, 1);
    let text = [1u64, 0];
    k!(SYS_msgsnd, msg, &text, 8, 0);
    let pid = inside(|| {
        tell!(o, "shm" => format!("{:?}", pids("shm")), "sem" => k!(SYS_semctl, sem, 0, GETPID, 0), "msg" => format!("{:?}", pids("msg")));
        let other = child(|| {
            k!(SYS_shmat, shm, 0, 0);
            let op = [0u16, 1, 0];
            k!(SYS_semop, sem, &op, 1);
            let mut got = [0u64; 2];
            k!(SYS_msgrcv, msg, &mut got, 8, 0, 0);
            0
        });
        say!(o, "{}", wait_text(other));
        tell!(o, "shm" => format!("{:?}", pids("shm")), "sem" => k!(SYS_semctl, sem, 0, GETPID, 0), "msg" => format!("{:?}", pids("msg")));
        0
    });
    tell!(o, "wait" => wait_text(pid));
    let (_, cpid, lpid) = pids("shm");
    tell!(o, "made by us" => cpid == me(), "used inside" => lpid > pid, "sem" => k!(SYS_semctl, sem, 0, GETPID, 0).int() == lpid, "received" => pids("msg").2 == lpid);
    tell!(o, "remove" => k!(SYS_shmctl, shm, IPC_RMID, 0), "sem" => k!(SYS_semctl, sem, 0, IPC_RMID, 0), "msg" => k!(SYS_msgctl, msg, IPC_RMID, 0));
}

fn capabilities_and_priorities(o: Out) {
    let pid = inside(|| {
        let (r, w) = pipe();
        let other = child(|| {
            read(r, 1);
            0
        });
        let mut header = [0x2008_0522u32, 2];
        let mut caps = [0u32; 6];
        let mut limit = [0u64; 2];
        tell!(o, "capabilities" => k!(SYS_capget, &mut header, &mut caps), "set" => k!(SYS_setpriority, PRIO_PROCESS, 2, 5), "get" => k!(SYS_getpriority, PRIO_PROCESS, 2), "limits" => k!(SYS_prlimit64, 2, RLIMIT_NOFILE, 0, &mut limit), "scheduler" => k!(SYS_sched_getscheduler, 2), "affinity" => k!(SYS_sched_getaffinity, 2, 128, anon(4096)).yes());
        header[1] = 1;
        tell!(o, "own" => k!(SYS_capget, &mut header, &mut caps), "io" => k!(SYS_ioprio_get, 1, 2), "compare" => k!(SYS_kcmp, 1, 2, 0, 0, 0).yes());
        let clock = !2i64 << 3 | 2;
        let mut time = [0i64; 2];
        tell!(o, "clock" => k!(SYS_clock_gettime, clock, &mut time), "go" => write(w, b"x"), "wait" => wait_text(other));
        0
    });
    say!(o, "{}", wait_text(pid));
}

fn robust_words(o: Out) {
    let pid = inside(|| {
        let at = crate::util::shared(4096);
        let other = child(|| {
            // head: list, offset, pending; the entry at +64 with its word at +80.
            let head = [at + 64, 16, 0];
            crate::sys::put(at, unsafe_bytes(&head).as_slice());
            crate::sys::put(at + 64, unsafe_bytes(&[at]).as_slice());
            sys::word(at + 80).store(
                k!(SYS_gettid).int() as u32,
                std::sync::atomic::Ordering::SeqCst,
            );
            say!(o, "set {}", k!(SYS_set_robust_list, at, 24));
            0
        });
        say!(
            o,
            "{} word {:x}",
            wait_text(other),
            sys::word(at + 80).load(std::sync::atomic::Ordering::SeqCst)
        );
        // A lock with an owner, by the numbers of here.
        let lock = at + 96;
        say!(
            o,
            "lock {} is {}",
            k!(SYS_futex, lock, FUTEX_LOCK_PI, 0, 0, 0, 0),
            sys::word(lock).load(std::sync::atomic::Ordering::SeqCst)
        );
        let other = child(|| {
            say!(
                o,
                "try {}",
                k!(SYS_futex, lock, FUTEX_TRYLOCK_PI, 0, 0, 0, 0)
            );
            say!(
                o,
                "unlock {}",
                k!(SYS_futex, lock, FUTEX_UNLOCK_PI, 0, 0, 0, 0)
            );
            say!(o, "wait {}", k!(SYS_futex, lock, FUTEX_LOCK_PI, 0, 0, 0, 0));
            say!(
                o,
                "owns {:x}",
                sys::word(lock).load(std::sync::atomic::Ordering::SeqCst) & 0x3fff_ffff
            );
            0
        });
        // Once somebody waits.
        while sys::word(lock).load(std::sync::atomic::Ordering::SeqCst) & 0x8000_0000 == 0 {
            k!(SYS_sched_yield);
        }
        say!(
            o,
            "unlock {} {}",
            k!(SYS_futex, lock, FUTEX_UNLOCK_PI, 0, 0, 0, 0),
            wait_text(other)
        );
        0
    });
    say!(o, "{}", wait_text(pid));
}
