//! Where user namespaces, PID namespaces and ptrace(2) meet: namespaces of the unprivileged, whose
//! they are, and tracers outside.

use super::pid_namespaces::inside;
use super::user_namespaces::{as_dumpable, become_root, me, path, put, unshare};
use crate::out::Out;
use crate::sys::{R, child, zeroed};
use crate::tracing::{go, message, pt, status_line, stop};
use crate::util::{cat, close, open, pipe, read, wait_text, write};
use crate::{cases, k, say, tell};
use libc::*;

cases!(
    all_at_once,
    by_clone,
    not_without_pids,
    whose_they_are,
    pids_of_an_inner_user,
    entering_anothers,
    chosen_by_the_unprivileged,
    credentials_of_others,
    tracing_what_is_inside,
    tracing_inside_from_there,
    attaching_to_the_first,
    first_ends_while_others_are_traced,
    first_ends_and_traces,
    tracing_an_inner_user,
);

const NS_GET_USERNS: u32 = 0xb701;
const ALL: i32 = CLONE_NEWUSER
    | CLONE_NEWPID
    | CLONE_NEWNS
    | CLONE_NEWNET
    | CLONE_NEWCGROUP
    | CLONE_NEWUTS
    | CLONE_NEWIPC;

/// Root inside, with these beside the namespace of users.
fn become_root_with(flags: i32) -> R {
    let made = unshare(CLONE_NEWUSER | flags);
    put(me(), "uid_map", b"0 1000 1");
    put(me(), "setgroups", b"deny");
    put(me(), "gid_map", b"0 1000 1");
    made
}

fn mount_proc() -> R {
    k!(SYS_mount, c"none", c"/", 0, MS_REC | MS_PRIVATE, 0);
    k!(SYS_mount, c"proc", c"/proc", c"proc", 0, 0)
}

/// The numbers that /proc lists.
fn listed() -> Vec<i32> {
    let names = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = names.filter_map(|e| e.file_name().to_str()?.parse().ok());
    let mut numbers: Vec<i32> = numbers.collect();
    numbers.sort_unstable();
    numbers
}

fn all_at_once(o: Out) {
    let text = as_dumpable(|| {
        tell!(o, "unshare" => become_root_with(ALL & !CLONE_NEWUSER), "again" => unshare(CLONE_NEWPID));
        let pid = child(|| {
            tell!(o, "pid" => me(), "parent" => k!(SYS_getppid), "uid" => k!(SYS_getuid), "mount" => mount_proc(), "self" => cat(c"/proc/self/uid_map"), "sysfs" => k!(SYS_mount, c"sysfs", c"/sys", c"sysfs", 0, 0).yes());
            say!(o, "listed {:?}", listed());
            tell!(o, "name" => k!(SYS_sethostname, b"x".as_slice(), 1), "deeper" => unshare(CLONE_NEWPID));
            let deep = child(me);
            tell!(o, "there" => wait_text(deep), "number" => deep);
            0
        });
        tell!(o, "wait" => wait_text(pid));
    });
    say!(o, "{text}");
}

fn by_clone(o: Out) {
    let text = as_dumpable(|| {
        let pid = k!(SYS_clone, ALL | SIGCHLD, 0, 0, 0, 0);
        if pid.0 == 0 {
            tell!(o, "pid" => me(), "mount" => mount_proc());
            say!(o, "listed {:?}", listed());
            k!(SYS_exit_group, 0);
        }
        tell!(o, "wait" => wait_text(pid.int()), "clone" => pid.ok());
    });
    say!(o, "{text}");
}

fn not_without_pids(o: Out) {
    let text = as_dumpable(|| {
        tell!(o, "unshare" => become_root_with(CLONE_NEWNS), "proc" => mount_proc(), "sysfs" => k!(SYS_mount, c"sysfs", c"/sys", c"sysfs", 0, 0), "groups" => k!(SYS_mount, c"cgroup2", c"/sys", c"cgroup2", 0, 0));
    });
    say!(o, "{text}");
}

fn number(file: &str) -> String {
    let link = std::fs::read_link(file).unwrap_or_default();
    link.to_string_lossy().into_owned()
}

/// Whether the namespace of users that owns one is the caller's.
fn owned(o: Out, kind: &str) {
    let fd = open(&path(&format!("/proc/self/ns/{kind}")), O_RDONLY, 0);
    let owner = k!(SYS_ioctl, fd.int(), NS_GET_USERNS);
    let own = number("/proc/self/ns/user");
    match owner.ok() {
        true => say!(
            o,
            "{kind} {}",
            number(&format!("/proc/self/fd/{}", owner.int())) == own
        ),
        false => say!(o, "{kind} {owner}"),
    }
}

fn whose_they_are(o: Out) {
    let text = as_dumpable(|| {
        become_root(1000, 1000);
        for kind in ["pid", "pid_for_children", "net", "cgroup"] {
            owned(o, kind);
        }
        tell!(o, "unshare" => unshare(CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP));
        let pid = child(|| {
            for kind in ["pid", "pid_for_children", "net", "cgroup"] {
                owned(o, kind);
            }
            0
        });
        tell!(o, "wait" => wait_text(pid));
    });
    say!(o, "{text}");
}

fn pids_of_an_inner_user(o: Out) {
    // Its children's namespace belongs to the outer user; one of an inner user can be in it.
    let text = as_dumpable(|| {
        become_root_with(CLONE_NEWPID);
        let pid = child(|| {
            tell!(o, "pid" => me(), "inner user" => unshare(CLONE_NEWUSER), "inner pids" => unshare(CLONE_NEWPID));
            let inner = child(|| {
                tell!(o, "pid" => me(), "user" => unshare(CLONE_NEWUSER));
                0
            });
            tell!(o, "wait" => wait_text(inner));
            0
        });
        tell!(o, "wait" => wait_text(pid));
    });
    say!(o, "{text}");
}

/// A process in user and PID namespaces of its own, root there, that waits; with what ends it.
fn waiting() -> (i32, i32) {
    let (r, w) = pipe();
    let pid = k!(
        SYS_clone,
        CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | SIGCHLD,
        0,
        0,
        0,
        0
    );
    if pid.0 == 0 {
        close(w);
        read(r, 1);
        k!(SYS_exit_group, 0);
    }
    put(pid.int(), "uid_map", b"0 1000 1");
    put(pid.int(), "setgroups", b"deny");
    put(pid.int(), "gid_map", b"0 1000 1");
    (pid.int(), w)
}

fn entering_anothers(o: Out) {
    let text = as_dumpable(|| {
        let (there, w) = waiting();
        let file = |kind: &str| open(&path(&format!("/proc/{there}/ns/{kind}")), O_RDONLY, 0).int();
        let (users, pids, net) = (file("user"), file("pid"), file("net"));
        let fd = k!(SYS_pidfd_open, there, 0).int();
        let pid = child(|| {
            tell!(o, "pids first" => k!(SYS_setns, pids, 0), "net" => k!(SYS_setns, net, CLONE_NEWNET), "users" => k!(SYS_setns, users, 0), "pids" => k!(SYS_setns, pids, CLONE_NEWPID), "net" => k!(SYS_setns, net, CLONE_NEWNET));
            let inside = child(|| {
                tell!(o, "pid" => me(), "uid" => k!(SYS_getuid), "the first" => k!(SYS_kill, 1, 0));
                0
            });
            tell!(o, "wait" => wait_text(inside));
            0
        });
        tell!(o, "by files" => wait_text(pid));
        let pid = child(|| {
            tell!(o, "some" => k!(SYS_setns, fd, CLONE_NEWPID), "all" => k!(SYS_setns, fd, CLONE_NEWUSER | CLONE_NEWPID));
            let inside = child(me);
            tell!(o, "wait" => wait_text(inside));
            0
        });
        tell!(o, "by process" => wait_text(pid), "go" => write(w, b"x"), "wait" => wait_text(there));
    });
    say!(o, "{text}");
}

fn clone_with(wanted: &[i32]) -> R {
    let args = [
        0,
        0,
        0,
        0,
        SIGCHLD as u64,
        0,
        0,
        0,
        wanted.as_ptr() as u64,
        wanted.len() as u64,
        0,
    ];
    let pid = k!(SYS_clone3, &args, 88);
    if pid.0 == 0 {
        k!(SYS_exit_group, me() & 0x7f);
    }
    pid
}

fn chosen_by_the_unprivileged(o: Out) {
    let text = as_dumpable(|| {
        tell!(o, "outside" => clone_with(&[300_000]));
        become_root_with(CLONE_NEWPID);
        tell!(o, "still outside" => clone_with(&[1, 300_000]), "of users" => clone_with(&[300_000, 1]));
        let pid = child(|| {
            let one = clone_with(&[77]);
            tell!(o, "inside" => one, "wait" => wait_text(one.int()), "both" => clone_with(&[78, 300_000]));
            k!(SYS_capset, &[0x2008_0522u32, 0], &[0u32; 6]);
            tell!(o, "without" => clone_with(&[79]));
            0
        });
        tell!(o, "wait" => wait_text(pid));
    });
    say!(o, "{text}");
}

/// Sends with credentials that claim a process.
fn claim(fd: i32, pid: i32) -> R {
    let ids: [i32; 3] = [pid, k!(SYS_getuid).int(), k!(SYS_getgid).int()];
    let mut control = [0u64; 4];
    (control[0], control[1]) = (
        28,
        u64::from(SOL_SOCKET as u32) | (SCM_CREDENTIALS as u64) << 32,
    );
    control[2] = ids[0] as u32 as u64 | (ids[1] as u32 as u64) << 32;
    control[3] = ids[2] as u32 as u64;
    let byte = [b"x".as_ptr() as u64, 1];
    let header = [
        0,
        0,
        byte.as_ptr() as u64,
        1,
        control.as_ptr() as u64,
        32,
        0,
    ];
    k!(SYS_sendmsg, fd, &header, 0)
}

fn credentials_of_others(o: Out) {
    let text = as_dumpable(|| {
        let mut pair = [0i32; 2];
        k!(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, &mut pair);
        become_root_with(CLONE_NEWPID);
        tell!(o, "another outside" => claim(pair[0], 1), "oneself" => claim(pair[0], me()));
        let pid = child(|| {
            let other = child(|| {
                tell!(o, "another" => claim(pair[0], 1), "nobody" => claim(pair[0], 900));
                k!(SYS_capset, &[0x2008_0522u32, 0], &[0u32; 6]);
                tell!(o, "without" => claim(pair[0], 1));
                0
            });
            tell!(o, "wait" => wait_text(other));
            0
        });
        tell!(o, "wait" => wait_text(pid));
    });
    say!(o, "{text}");
}

/// A process in a PID namespace that is traced by its parent and has stopped; then it runs `f`.
fn traced_inside(f: impl FnOnce() -> i32) -> i32 {
    let pid = inside(|| {
        pt(PTRACE_TRACEME, 0, 0, 0);
        k!(SYS_kill, me(), SIGSTOP);
        f()
    });
    stop(pid);
    pid
}

/// What it is told of its stop: number, code, sender.
fn sender(pid: i32) -> String {
    let mut i = [0i32; 32];
    let r = pt(PTRACE_GETSIGINFO, pid, 0, &raw mut i as usize);
    format!("{r} signal {} code {:#x} pid {}", i[0], i[2], i[4])
}

fn tracing_what_is_inside(o: Out) {
    let pid = traced_inside(|| {
        let mut info = [0i32; 32];
        let blocked = 1u64 << (SIGUSR2 - 1);
        k!(SYS_rt_sigprocmask, SIG_BLOCK, &blocked, 0, 8);
        tell!(o, "its number" => me(), "own" => k!(SYS_kill, me(), SIGUSR1), "status" => status_line(me(), "TracerPid"));
        let got = k!(SYS_rt_sigtimedwait, &blocked, &mut info, 0, 8);
        say!(o, "told {got} code {} pid {}", info[2], info[4]);
        let inner = child(|| 3);
        let ended = wait_text(inner);
        say!(o, "child {inner} {ended}");
        5
    });
    // The files of /proc are the outer ones.
    tell!(o, "stopped" => sender(pid), "tracer" => status_line(pid, "TracerPid") == format!("TracerPid:\\t{}", me()));
    let options = PTRACE_O_TRACEFORK | PTRACE_O_TRACEEXIT;
    tell!(o, "options" => pt(PTRACE_SETOPTIONS, pid, 0, options as usize), "go" => go(PTRACE_CONT, pid, 0), "its own" => sender(pid), "another" => go(PTRACE_CONT, pid, SIGUSR2));
    let made = message(pid) as i32;
    tell!(o, "outer number" => made > 3, "it" => stop(made), "goes on" => pt(PTRACE_CONT, pid, 0, 0), "to its end" => go(PTRACE_CONT, made, 0), "with" => message(made), "ended" => go(PTRACE_CONT, made, 0));
    tell!(o, "and the first" => stop(pid));
    let told = sender(pid);
    say!(o, "{told}");
    tell!(o, "goes on" => go(PTRACE_CONT, pid, SIGCHLD), "ended" => go(PTRACE_CONT, pid, 0));
}

fn tracing_inside_from_there(o: Out) {
    let pid = inside(|| {
        let tracee = child(|| {
            pt(PTRACE_TRACEME, 0, 0, 0);
            k!(SYS_kill, me(), SIGSTOP);
            child(|| 0)
        });
        tell!(o, "number" => tracee, "stopped" => stop(tracee), "by" => sender(tracee), "outside" => pt(PTRACE_ATTACH, 1000, 0, 0), "options" => pt(PTRACE_SETOPTIONS, tracee, 0, PTRACE_O_TRACEFORK as usize), "fork" => go(PTRACE_CONT, tracee, 0), "made" => message(tracee), "it" => stop(3));
        tell!(o, "go" => pt(PTRACE_CONT, 3, 0, 0), "ended" => stop(3), "told" => go(PTRACE_CONT, tracee, 0), "by" => sender(tracee), "end" => go(PTRACE_CONT, tracee, 0));
        0
    });
    tell!(o, "wait" => wait_text(pid));
}

fn attaching_to_the_first(o: Out) {
    let (r, w) = pipe();
    let pid = inside(|| {
        let other = child(|| {
            // What would end others does nothing to it, from inside.
            tell!(o, "attach" => pt(PTRACE_ATTACH, 1, 0, 0), "stopped" => stop(1), "a signal" => pt(PTRACE_CONT, 1, 0, SIGTERM as usize), "another" => k!(SYS_kill, 1, SIGUSR1), "shown" => stop(1), "delivered" => pt(PTRACE_CONT, 1, 0, SIGUSR1 as usize), "killed" => k!(SYS_kill, 1, SIGKILL), "by request" => pt(PTRACE_KILL, 1, 0, 0), "stop" => k!(SYS_kill, 1, SIGTSTP), "stopped" => stop(1), "detach" => pt(PTRACE_DETACH, 1, 0, SIGTSTP as usize));
            write(w, b"x");
            0
        });
        read(r, 1);
        tell!(o, "it" => wait_text(other));
        4
    });
    tell!(o, "wait" => wait_text(pid));
}

fn first_ends_while_others_are_traced(o: Out) {
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    let pid = inside(|| {
        let other = child(|| {
            write(w, b"x");
            loop {
                k!(SYS_pause);
            }
        });
        read(r2, 1);
        other
    });
    read(r, 1);
    // The second one by its outer number.
    let other = find_child(pid);
    tell!(o, "found" => other > 0, "attach" => pt(PTRACE_ATTACH, other, 0, 0), "stopped" => stop(other), "options" => pt(PTRACE_SETOPTIONS, other, 0, PTRACE_O_TRACEEXIT as usize), "end" => write(w2, b"x"));
    tell!(o, "its end" => stop(other), "the first waits" => k!(SYS_wait4, pid, 0, WNOHANG, 0), "ended" => go(PTRACE_CONT, other, 0), "wait" => wait_text(pid));
}

/// The child of a process, by what /proc says of all.
fn find_child(parent: i32) -> i32 {
    let line = format!("PPid:\\t{parent}");
    let mut all = listed().into_iter();
    all.find(|pid| status_line(*pid, "PPid") == line)
        .unwrap_or(0)
}

fn first_ends_and_traces(o: Out) {
    let pid = inside(|| {
        let other = child(|| {
            pt(PTRACE_TRACEME, 0, 0, 0);
            k!(SYS_kill, me(), SIGSTOP);
            0
        });
        tell!(o, "stopped" => stop(other), "options" => pt(PTRACE_SETOPTIONS, other, 0, PTRACE_O_TRACEEXIT as usize), "at its end" => go(PTRACE_CONT, other, 0));
        6
    });
    tell!(o, "wait" => wait_text(pid));
}

fn tracing_an_inner_user(o: Out) {
    let text = as_dumpable(|| {
        let (there, w) = waiting();
        tell!(o, "attach" => pt(PTRACE_ATTACH, there, 0, 0), "stopped" => stop(there), "detach" => pt(PTRACE_DETACH, there, 0, 0));
        let outside = me();
        let fd = k!(SYS_pidfd_open, there, 0).int();
        let entering = child(|| {
            k!(SYS_setns, fd, CLONE_NEWUSER | CLONE_NEWPID);
            let inside = child(|| {
                k!(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
                tell!(o, "the first" => pt(PTRACE_SEIZE, 1, 0, 0), "outside" => pt(PTRACE_SEIZE, outside, 0, 0));
                0
            });
            tell!(o, "wait" => wait_text(inside));
            0
        });
        let mut info: siginfo_t = zeroed();
        tell!(o, "entered" => wait_text(entering), "go" => write(w, b"x"), "ended" => k!(SYS_waitid, P_PID, there, &mut info, WEXITED, 0), "status" => info.si_code);
    });
    say!(o, "{text}");
}
