//! How many namespaces there may be (`/proc/sys/user` in namespaces(7)).

use super::user_namespaces::{become_root, path, unshare};
use crate::out::Out;
use crate::sys::{R, child, zeroed};
use crate::util::{cat, close, in_child, open, wait_text, write};
use crate::{cases, k, say, tell};
use libc::*;

cases!(
    each_kind_is_counted,
    limits_of_those_around,
    the_ended_have_none
);

const KINDS: [(&str, i32); 7] = [
    ("cgroup", CLONE_NEWCGROUP),
    ("ipc", CLONE_NEWIPC),
    ("mnt", CLONE_NEWNS),
    ("net", CLONE_NEWNET),
    ("pid", CLONE_NEWPID),
    ("user", CLONE_NEWUSER),
    ("uts", CLONE_NEWUTS),
];

fn put(kind: &str, text: &str) -> R {
    let fd = open(&file(kind), O_WRONLY, 0);
    if !fd.ok() {
        return fd;
    }
    let done = write(fd.int(), text.as_bytes());
    close(fd.int());
    done
}

fn file(kind: &str) -> std::ffi::CString {
    path(&format!("/proc/sys/user/max_{kind}_namespaces"))
}

/// Runs `f` as the root of a user namespace of its own.
fn inside(o: Out, f: impl FnOnce()) {
    let text = in_child(|| {
        become_root(0, 0);
        f();
        0
    });
    say!(o, "{text}");
}

fn each_kind_is_counted(o: Out) {
    for (kind, flag) in KINDS {
        inside(o, || {
            say!(o, "{kind} {}", cat(&file(kind)));
            for text in ["-1", "2147483648", "x", "", "0x2"] {
                say!(o, "{text:?} {} {}", put(kind, text), cat(&file(kind)));
            }
            let fork = || in_child(|| i32::from(!unshare(flag).ok()));
            // No more than these: Linux may give back what ended a while later.
            say!(o, "{} {}", fork(), fork());
            tell!(o, "none" => put(kind, "0"), "refused" => unshare(flag));
            let child = k!(SYS_clone, flag | SIGCHLD, 0, 0, 0, 0);
            if child.0 == 0 {
                k!(SYS_exit_group, 0);
            }
            tell!(o, "clone" => child);
        });
    }
}

fn limits_of_those_around(o: Out) {
    inside(o, || {
        tell!(o, "one" => put("uts", "1"));
        inside(o, || {
            // Its own are without a limit, and yet those outside hold.
            say!(o, "{}", cat(&file("uts")));
            tell!(o, "first" => unshare(CLONE_NEWUTS));
            let more = in_child(|| {
                tell!(o, "second" => unshare(CLONE_NEWUTS));
                0
            });
            say!(o, "{more}");
            tell!(o, "in place of it" => unshare(CLONE_NEWUTS));
        });
        // Both were given back.
        tell!(o, "afterwards" => unshare(CLONE_NEWUTS));
        // A file is of the namespace that it was opened in.
        let fd = open(&file("ipc"), O_RDWR, 0);
        inside(o, || {
            tell!(o, "write" => write(fd.int(), b"5"));
            say!(o, "{}", cat(&file("ipc")));
        });
        say!(o, "{}", cat(&file("ipc")));
    });
}

fn the_ended_have_none(o: Out) {
    inside(o, || {
        tell!(o, "one" => put("uts", "1"));
        let child = child(|| i32::from(!unshare(CLONE_NEWUTS).ok()));
        let mut i: siginfo_t = zeroed();
        tell!(o, "ended" => k!(SYS_waitid, P_PID, child, &mut i, WEXITED | WNOWAIT, 0), "status" => i.si_signo);
        // It has not been waited for, and yet its namespaces are gone, be it a moment later.
        let mut again = unshare(CLONE_NEWUTS);
        while again.0 == -i64::from(ENOSPC) {
            k!(SYS_sched_yield);
            again = unshare(CLONE_NEWUTS);
        }
        tell!(o, "again" => again);
        for kind in ["uts", "ipc", "net", "cgroup", "mnt", "user", "pid"] {
            let mut text = [0u8; 64];
            let link = path(&format!("/proc/{child}/ns/{kind}"));
            say!(o, "{kind} {}", k!(SYS_readlink, &link, &mut text, 64).yes());
        }
        tell!(o, "child" => wait_text(child));
    });
}
