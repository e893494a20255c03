//! Making processes, who they are, how they end.

use crate::out::Out;
use crate::sys::{child, peek, poke, vfork_like};
use crate::tracing::status_line;
use crate::util::{in_child, now_ms, pipe, read, shared, sleep_ms, wait_text, write};
use crate::{cases, k, say, sys, tell};
use libc::*;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

cases!(
    fork_returns_twice,
    exit_codes,
    exit_by_signal,
    exit_runs_no_more,
    vfork_suspends_parent,
    vfork_shares_memory,
    clone_vm_without_vfork,
    clone3_plain,
    clone3_arguments,
    clone_exit_signal,
    clone_settid,
    clone_files_shared,
    clone_fs_shared,
    clone_parent,
    getpid_and_parent,
    orphan_gets_new_parent,
    subreaper,
    parent_death_signal,
    credentials,
    credentials_of_user,
    saved_ids,
    groups,
    process_names,
    prctl_odds,
    many_children,
    no_child_sleeps_before_it_runs,
    deep_fork_chain,
    fork_copies_descriptors,
    resource_usage,
    rlimits,
    rlimit_errors,
    rlimit_nproc_inherit,
    no_new_privileges,
    capabilities,
    dumpable,
    nice_values,
    pidfd,
    kcmp_and_pid_errors,
);

fn fork_returns_twice(o: Out) {
    let pid = child(|| 5);
    tell!(o, "positive" => pid > 0, "status" => wait_text(pid), "again" => wait_text(pid));
    let m = shared(4096);
    in_child(|| {
        poke(m, 1);
        0
    });
    tell!(o, "child ran" => peek(m));
}

fn exit_codes(o: Out) {
    for c in [0, 1, 127, 255, 256, -1, 1000] {
        say!(o, "{c}: {}", in_child(|| c));
    }
    tell!(o, "exit of one thread" => in_child(|| { k!(SYS_exit, 9); 0 }));
}

fn exit_by_signal(o: Out) {
    for s in [
        SIGHUP, SIGINT, SIGKILL, SIGUSR1, SIGPIPE, SIGALRM, SIGTERM, SIGVTALRM, SIGPROF, SIGIO,
        SIGSTKFLT, SIGPWR, 34, 64,
    ] {
        say!(
            o,
            "{}",
            in_child(|| {
                sys::set_handler(s, SIG_DFL, 0);
                k!(SYS_kill, k!(SYS_getpid), s);
                0
            })
        );
    }
    for s in [SIGCHLD, SIGURG, SIGWINCH, SIGCONT] {
        say!(
            o,
            "ignored by default: {}",
            in_child(|| {
                k!(SYS_kill, k!(SYS_getpid), s);
                0
            })
        );
    }
}

fn exit_runs_no_more(o: Out) {
    let m = shared(4096);
    tell!(o, "exit_group" => in_child(|| { poke(m, 1); k!(SYS_exit_group, 3); poke(m, 2); 0 }), "stopped there" => peek(m));
}

static MARK: AtomicI32 = AtomicI32::new(0);

extern "C" fn vfork_body(_: *mut c_void) -> i32 {
    sleep_ms(80);
    MARK.store(7, SeqCst);
    4
}

fn vfork_suspends_parent(o: Out) {
    MARK.store(0, SeqCst);
    let pid = vfork_like(CLONE_VM | CLONE_VFORK | SIGCHLD, vfork_body);
    tell!(o, "seen at return" => MARK.load(SeqCst), "status" => wait_text(pid));
}

extern "C" fn vfork_exec(_: *mut c_void) -> i32 {
    let argv = [
        c"probes".as_ptr(),
        c"--child".as_ptr(),
        c"exit".as_ptr(),
        c"12".as_ptr(),
        std::ptr::null(),
    ];
    k!(SYS_execve, c"/proc/self/exe", &argv, 0);
    MARK.store(1, SeqCst);
    50
}

fn vfork_shares_memory(o: Out) {
    MARK.store(0, SeqCst);
    let pid = vfork_like(CLONE_VM | CLONE_VFORK | SIGCHLD, vfork_exec);
    tell!(o, "exec" => wait_text(pid), "mark" => MARK.load(SeqCst));
}

fn clone_vm_without_vfork(o: Out) {
    // The stack of the child must live on: leak it by mapping.
    let stack = crate::util::anon(65536);
    let pid = clone_on(stack + 65536, CLONE_VM | SIGCHLD);
    tell!(o, "status" => wait_text(pid), "mark" => MARK.load(SeqCst));
}

fn clone_on(top: usize, flags: i32) -> i32 {
    sys::clone_with(flags, top, vfork_body)
}

fn clone3(args: &[u64], size: usize) -> sys::R {
    k!(SYS_clone3, args.as_ptr(), size)
}

fn clone3_plain(o: Out) {
    let mut args = [0u64; 11];
    args[4] = SIGCHLD as u64;
    let r = clone3(&args, 88);
    if r.0 == 0 {
        k!(SYS_exit_group, 21);
    }
    tell!(o, "made" => r.0 > 0, "status" => wait_text(r.int()));
    let r = clone3(&args, 64);
    if r.0 == 0 {
        k!(SYS_exit_group, 22);
    }
    tell!(o, "first version" => wait_text(r.int()));
}

fn clone3_arguments(o: Out) {
    let mut a = [0u64; 11];
    tell!(o, "small" => clone3(&a, 8), "huge" => clone3(&a, 8192), "null" => k!(SYS_clone3, 0, 88));
    a[4] = 200;
    tell!(o, "signal" => clone3(&a, 88));
    a[4] = 0;
    a[0] = CLONE_SIGHAND as u64;
    tell!(o, "sighand alone" => clone3(&a, 88));
    a[0] = (CLONE_THREAD | CLONE_SIGHAND) as u64;
    tell!(o, "thread without vm" => clone3(&a, 88));
    a[0] = (CLONE_FS | CLONE_NEWNS) as u64;
    tell!(o, "fs and newns" => clone3(&a, 88));
    a[0] = CLONE_VM as u64;
    a[6] = 4096;
    tell!(o, "size without stack" => clone3(&a, 88));
}

fn clone_exit_signal(o: Out) {
    sys::on(SIGUSR1, 0);
    sys::on(SIGCHLD, 0);
    let r = k!(SYS_clone, SIGUSR1, 0, 0, 0, 0);
    if r.0 == 0 {
        k!(SYS_exit_group, 3);
    }
    let mut st = 0;
    tell!(o, "plain wait" => k!(SYS_wait4, r, 0, 0, 0), "with __WALL" => k!(SYS_wait4, r, &mut st, __WALL, 0).0 == r.0, "usr1" => sys::count(SIGUSR1), "chld" => sys::count(SIGCHLD));
}

fn clone_settid(o: Out) {
    let m = shared(4096);
    let mut parent = 0i32;
    let flags = CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD;
    let own = crate::util::anon(4096);
    let r = k!(SYS_clone, flags, 0, &mut parent, own, 0);
    if r.0 == 0 {
        let set = sys::word(own).load(SeqCst) as i64 == k!(SYS_getpid).0;
        poke(m, u8::from(set));
        k!(SYS_exit_group, 0);
    }
    tell!(o, "parent" => i64::from(parent) == r.0, "status" => wait_text(r.int()), "child" => peek(m));
}

fn clone_files_shared(o: Out) {
    let r = k!(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
    if r.0 == 0 {
        k!(SYS_dup2, 0, 50);
        k!(SYS_exit_group, 0);
    }
    tell!(o, "status" => wait_text(r.int()), "50 here" => k!(SYS_fcntl, 50, F_GETFD), "plain fork" => in_child(|| k!(SYS_dup2, 0, 51).int() - 51), "51 here" => k!(SYS_fcntl, 51, F_GETFD));
}

fn clone_fs_shared(o: Out) {
    k!(SYS_mkdir, c"d", 0o755);
    let r = k!(SYS_clone, CLONE_FS | SIGCHLD, 0, 0, 0, 0);
    if r.0 == 0 {
        k!(SYS_chdir, c"d");
        k!(SYS_umask, 0o77);
        k!(SYS_exit_group, 0);
    }
    tell!(o, "status" => wait_text(r.int()), "moved" => crate::util::stat_text(c"../d", 0), "umask" => format!("{:o}", k!(SYS_umask, 0).0));
}

fn clone_parent(o: Out) {
    let (r, w) = pipe();
    let me = k!(SYS_getpid).0;
    let mid = child(|| {
        let c = k!(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
        if c.0 == 0 {
            write(
                w,
                if k!(SYS_getppid).0 == me {
                    b"yes"
                } else {
                    b"no!"
                },
            );
            k!(SYS_exit_group, 6);
        }
        0
    });
    tell!(o, "middle" => wait_text(mid), "is mine" => read(r, 3).1, "reaped here" => wait_text(-1), "none left" => wait_text(-1));
}

fn getpid_and_parent(o: Out) {
    let me = k!(SYS_getpid);
    tell!(o, "tid" => k!(SYS_gettid) == me, "child's parent" => in_child(|| i32::from(k!(SYS_getppid) == me)), "child differs" => in_child(|| i32::from(k!(SYS_getpid) != me)), "pgrp" => k!(SYS_getpgrp) == me);
}

fn orphan_gets_new_parent(o: Out) {
    let (r, w) = pipe();
    let mid = child(|| {
        child(|| {
            sleep_ms(60);
            write(
                w,
                if k!(SYS_getppid).0 == 1 {
                    b"init"
                } else {
                    b"some"
                },
            );
            0
        });
        0
    });
    tell!(o, "middle" => wait_text(mid), "orphan's parent" => read(r, 4).1, "not mine" => wait_text(-1));
}

fn subreaper(o: Out) {
    let (r, w) = pipe();
    tell!(o, "set" => k!(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
    let me = k!(SYS_getpid).0;
    let mid = child(|| {
        child(|| {
            sleep_ms(60);
            write(
                w,
                if k!(SYS_getppid).0 == me {
                    b"me"
                } else {
                    b"no"
                },
            );
            9
        });
        0
    });
    let mut v = 0i32;
    tell!(o, "get" => k!(SYS_prctl, PR_GET_CHILD_SUBREAPER, &mut v, 0, 0, 0), "value" => v, "middle" => wait_text(mid), "parent" => read(r, 2).1, "adopted" => wait_text(-1));
}

fn parent_death_signal(o: Out) {
    let (r, w) = pipe();
    let mid = child(|| {
        child(|| {
            k!(SYS_prctl, PR_SET_PDEATHSIG, SIGUSR2, 0, 0, 0);
            sys::on(SIGUSR2, 0);
            write(w, b"r");
            for _ in 0..200 {
                if sys::count(SIGUSR2) > 0 {
                    break;
                }
                sleep_ms(10);
            }
            write(
                w,
                if sys::count(SIGUSR2) == 1 {
                    b"got"
                } else {
                    b"???"
                },
            );
            0
        });
        read(r, 1);
        0
    });
    tell!(o, "middle" => wait_text(mid), "signal" => read(r, 3).1, "bad" => k!(SYS_prctl, PR_SET_PDEATHSIG, 99, 0, 0, 0));
}

fn ids() -> String {
    let mut u = [0u32; 3];
    let mut g = [0u32; 3];
    let [a, b, c] = &mut u;
    k!(SYS_getresuid, a, b, c);
    let [a, b, c] = &mut g;
    k!(SYS_getresgid, a, b, c);
    format!("{u:?} {g:?}")
}

fn credentials(o: Out) {
    tell!(o, "start" => ids(), "euid" => k!(SYS_setreuid, -1, 1000), "now" => ids(), "back" => k!(SYS_setreuid, -1, 0), "gid" => k!(SYS_setgid, 5), "now" => ids(), "resgid" => k!(SYS_setresgid, 1, 2, 3), "now" => ids(),
        "regid" => k!(SYS_setregid, 7, -1), "now" => ids(), "setuid" => k!(SYS_setuid, 1000), "now" => ids(), "no way back" => k!(SYS_setuid, 0), "fsuid" => k!(SYS_setfsuid, 1000), "invalid" => k!(SYS_setuid, -1));
}

fn credentials_of_user(o: Out) {
    crate::util::as_user(|| {
        tell!(o, "ids" => ids(), "setuid" => k!(SYS_setuid, 1001), "setgid" => k!(SYS_setgid, 0), "setgroups" => k!(SYS_setgroups, 0, 0), "own" => k!(SYS_setuid, 1000), "resuid" => k!(SYS_setresuid, 0, -1, -1),
            "kill init" => k!(SYS_kill, 1, 0), "rlimit up" => k!(SYS_prlimit64, 0, RLIMIT_CORE, &rlimit { rlim_cur: 0, rlim_max: 0 }, 0), "hostname" => k!(SYS_sethostname, c"x", 1), "chroot" => k!(SYS_chroot, c"/"), "mknod" => k!(SYS_mknodat, AT_FDCWD, c"/tmp/dev", S_IFCHR | 0o600, 259));
    });
}

fn saved_ids(o: Out) {
    tell!(o, "set" => k!(SYS_setresuid, 10, 20, 30), "now" => ids(), "to saved" => k!(SYS_setresuid, -1, 30, -1), "now" => ids(), "to real" => k!(SYS_setreuid, -1, 10), "now" => ids(), "elsewhere" => k!(SYS_setresuid, -1, 40, -1), "swap" => k!(SYS_setreuid, 10, 10), "now" => ids());
}

fn groups(o: Out) {
    let set = [5u32, 1, 9, 5];
    let mut got = [0u32; 8];
    tell!(o, "set" => k!(SYS_setgroups, 4, &set), "count" => k!(SYS_getgroups, 0, 0), "get" => k!(SYS_getgroups, 8, &mut got), "list" => format!("{got:?}"), "small" => k!(SYS_getgroups, 1, &mut got), "too many" => k!(SYS_setgroups, 70000, &set),
        "negative" => k!(SYS_getgroups, -1, &mut got), "clear" => k!(SYS_setgroups, 0, 0), "none" => k!(SYS_getgroups, 8, &mut got));
}

fn process_names(o: Out) {
    let mut b = [0u8; 16];
    tell!(o, "set" => k!(SYS_prctl, PR_SET_NAME, c"a-name-longer-than-sixteen", 0, 0, 0), "get" => k!(SYS_prctl, PR_GET_NAME, &mut b, 0, 0, 0), "is" => crate::util::show(&b), "comm" => crate::util::cat(c"/proc/self/comm"), "child" => in_child(|| {
        let mut b = [0u8; 16];
        k!(SYS_prctl, PR_GET_NAME, &mut b, 0, 0, 0);
        i32::from(b.starts_with(b"a-name-longer"))
    }), "write" => { let fd = crate::util::open(c"/proc/self/comm", O_WRONLY, 0).int(); write(fd, b"via-file") }, "comm" => crate::util::cat(c"/proc/self/comm"), "null" => k!(SYS_prctl, PR_GET_NAME, 0, 0, 0, 0));
}

fn prctl_odds(o: Out) {
    tell!(o, "unknown" => k!(SYS_prctl, 0x7fff, 0, 0, 0, 0), "keepcaps" => k!(SYS_prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0), "get" => k!(SYS_prctl, PR_GET_KEEPCAPS, 0, 0, 0, 0), "bad" => k!(SYS_prctl, PR_SET_KEEPCAPS, 5, 0, 0, 0), "seccomp" => k!(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0, 0),
        "timerslack" => k!(SYS_prctl, PR_GET_TIMERSLACK, 0, 0, 0, 0), "set" => k!(SYS_prctl, PR_SET_TIMERSLACK, 70_000, 0, 0, 0), "child's default" => { let (r, w) = pipe(); in_child(|| { let mut seen = Vec::new(); for ns in [90_000, 0] { seen.push(k!(SYS_prctl, PR_GET_TIMERSLACK, 0, 0, 0, 0).0); k!(SYS_prctl, PR_SET_TIMERSLACK, ns, 0, 0, 0); } seen.push(k!(SYS_prctl, PR_GET_TIMERSLACK, 0, 0, 0, 0).0); write(w, format!("{seen:?}").as_bytes()); 0 }); read(r, 99).1 });
}

fn no_child_sleeps_before_it_runs(o: Out) {
    let mut asleep = 0;
    for _ in 0..200 {
        let pid = child(|| {
            loop {
                std::hint::spin_loop();
            }
        });
        asleep += i32::from(status_line(pid, "State").contains("S ("));
        k!(SYS_kill, pid, SIGKILL);
        wait_text(pid);
    }
    tell!(o, "asleep" => asleep);
}

fn many_children(o: Out) {
    let n = 60;
    let pids: Vec<i32> = (0..n).map(|i| child(|| i)).collect();
    let mut sum = 0;
    for p in &pids {
        let mut st = 0;
        k!(SYS_wait4, *p, &mut st, 0, 0);
        sum += WEXITSTATUS(st);
    }
    let mut distinct = pids.clone();
    distinct.sort_unstable();
    distinct.dedup();
    tell!(o, "sum" => sum, "distinct" => distinct.len(), "none left" => wait_text(-1));
}

fn deep_fork_chain(o: Out) {
    fn down(n: i32) -> i32 {
        if n == 0 {
            return 0;
        }
        let pid = child(|| down(n - 1));
        let mut st = 0;
        k!(SYS_wait4, pid, &mut st, 0, 0);
        WEXITSTATUS(st) + 1
    }
    tell!(o, "depth" => down(30));
}

fn fork_copies_descriptors(o: Out) {
    let (r, w) = pipe();
    k!(SYS_fcntl, w, F_SETFD, FD_CLOEXEC);
    tell!(o, "child closes" => in_child(|| { write(w, b"hi"); crate::util::close(w); crate::util::close(r); 0 }), "mine" => read(r, 2).1, "flag copied" => in_child(|| k!(SYS_fcntl, w, F_GETFD).int()), "write" => write(w, b"x"));
}

fn resource_usage(o: Out) {
    let mut u: rusage = sys::zeroed();
    let end = now_ms() + 30;
    while now_ms() < end {}
    tell!(o, "self" => k!(SYS_getrusage, RUSAGE_SELF, &mut u), "children" => k!(SYS_getrusage, RUSAGE_CHILDREN, &mut u), "thread" => k!(SYS_getrusage, 1, &mut u), "bad" => k!(SYS_getrusage, 77, &mut u), "null" => k!(SYS_getrusage, 0, 0));
    let mut t: tms = sys::zeroed();
    tell!(o, "times" => k!(SYS_times, &mut t).ok(), "null" => k!(SYS_times, 0).ok());
    let pid = child(|| 0);
    tell!(o, "wait4" => k!(SYS_wait4, pid, 0, 0, &mut u).0 == i64::from(pid));
}

fn rlimits(o: Out) {
    let set = |c, m| {
        k!(
            SYS_prlimit64,
            0,
            RLIMIT_CORE,
            &rlimit {
                rlim_cur: c,
                rlim_max: m
            },
            0
        )
    };
    let get = || {
        let mut l: rlimit = sys::zeroed();
        k!(SYS_getrlimit, RLIMIT_CORE, &mut l);
        format!("{} {}", l.rlim_cur, l.rlim_max)
    };
    tell!(o, "set" => set(100, 200), "get" => get(), "child inherits" => in_child(|| i32::from(get() == "100 200")), "lower" => set(50, 60), "root raises" => set(70, 80), "get" => get(), "setrlimit" => k!(SYS_setrlimit, RLIMIT_CORE, &rlimit { rlim_cur: 1, rlim_max: 2 }), "get" => get());
    let mut old: rlimit = sys::zeroed();
    tell!(o, "both" => k!(SYS_prlimit64, 0, RLIMIT_CORE, &rlimit { rlim_cur: 5, rlim_max: 6 }, &mut old), "old" => format!("{} {}", old.rlim_cur, old.rlim_max), "of child" => { let p = child(|| { k!(SYS_pause); 0 }); let r = k!(SYS_prlimit64, p, RLIMIT_CORE, 0, &mut old); k!(SYS_kill, p, SIGKILL); wait_text(p); r });
}

fn rlimit_errors(o: Out) {
    let mut l: rlimit = sys::zeroed();
    tell!(o, "unknown" => k!(SYS_getrlimit, 99, &mut l), "soft above hard" => k!(SYS_setrlimit, RLIMIT_CORE, &rlimit { rlim_cur: 9, rlim_max: 2 }), "null" => k!(SYS_getrlimit, 0, 0), "nobody" => k!(SYS_prlimit64, 999_999, 0, 0, &mut l));
    crate::util::as_user(|| {
        k!(
            SYS_setrlimit,
            RLIMIT_CORE,
            &rlimit {
                rlim_cur: 5,
                rlim_max: 10
            }
        );
        tell!(o, "user raises hard" => k!(SYS_setrlimit, RLIMIT_CORE, &rlimit { rlim_cur: 5, rlim_max: 20 }), "user raises soft" => k!(SYS_setrlimit, RLIMIT_CORE, &rlimit { rlim_cur: 10, rlim_max: 10 }));
    });
}

fn rlimit_nproc_inherit(o: Out) {
    let mut l: rlimit = sys::zeroed();
    k!(
        SYS_setrlimit,
        RLIMIT_STACK,
        &rlimit {
            rlim_cur: 4 << 20,
            rlim_max: RLIM_INFINITY
        }
    );
    k!(SYS_getrlimit, RLIMIT_STACK, &mut l);
    tell!(o, "stack" => l.rlim_cur, "infinite" => l.rlim_max == RLIM_INFINITY, "proc file" => std::fs::read_to_string("/proc/self/limits").is_ok_and(|t| t.lines().any(|l| l.starts_with("Max stack size") && l.contains("4194304"))));
}

fn no_new_privileges(o: Out) {
    tell!(o, "get" => k!(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0).ok(), "set" => k!(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "get" => k!(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), "unset" => k!(SYS_prctl, PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), "child" => in_child(|| k!(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0).int()));
}

fn capabilities(o: Out) {
    let head = [0x2008_0522u32, 0];
    let mut data = [0u32; 6];
    tell!(o, "get" => k!(SYS_capget, &head, &mut data), "chown among them" => data[0] & 1, "drop all" => k!(SYS_capset, &head, &[0u32; 6]), "get" => k!(SYS_capget, &head, &mut data), "effective" => data[0] | data[3], "chown" => { crate::util::mk(c"f", b""); k!(SYS_chown, c"f", 5, 5) }, "raise" => k!(SYS_capset, &head, &[1u32, 1, 0, 0, 0, 0]));
    let mut old = [0x1111u32, 0];
    tell!(o, "version" => k!(SYS_capget, &mut old, &mut data), "preferred" => format!("{:#x}", old[0]), "bounding" => k!(SYS_prctl, PR_CAPBSET_READ, 0, 0, 0, 0), "bad" => k!(SYS_prctl, PR_CAPBSET_READ, 99, 0, 0, 0));
}

fn dumpable(o: Out) {
    tell!(o, "get" => k!(SYS_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0), "clear" => k!(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0), "get" => k!(SYS_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0), "two" => k!(SYS_prctl, PR_SET_DUMPABLE, 2, 0, 0, 0));
}

fn nice_values(o: Out) {
    tell!(o, "get" => k!(SYS_getpriority, 0, 0), "set" => k!(SYS_setpriority, 0, 0, 5), "get" => k!(SYS_getpriority, 0, 0), "child" => in_child(|| k!(SYS_getpriority, 0, 0).int()), "too far" => k!(SYS_setpriority, 0, 0, 100), "get" => k!(SYS_getpriority, 0, 0), "which" => k!(SYS_getpriority, 9, 0), "nobody" => k!(SYS_getpriority, 0, 999_999));
}

fn pidfd(o: Out) {
    let pid = child(|| {
        k!(SYS_pause);
        0
    });
    let fd = k!(SYS_pidfd_open, pid, 0);
    let mut p = pollfd {
        fd: fd.int(),
        events: POLLIN,
        revents: 0,
    };
    tell!(o, "open" => fd.yes(), "poll" => k!(SYS_poll, &mut p, 1, 0), "signal" => k!(SYS_pidfd_send_signal, fd, SIGTERM, 0, 0), "ends" => k!(SYS_poll, &mut p, 1, 2000), "status" => wait_text(pid), "signal after" => k!(SYS_pidfd_send_signal, fd, 0, 0, 0), "nobody" => k!(SYS_pidfd_open, 999_999, 0), "flags" => k!(SYS_pidfd_open, k!(SYS_getpid), 7));
}

fn kcmp_and_pid_errors(o: Out) {
    tell!(o, "kill nobody" => k!(SYS_kill, 999_999, 0), "kill bad signal" => k!(SYS_kill, k!(SYS_getpid), 65), "getpgid nobody" => k!(SYS_getpgid, 999_999), "getsid nobody" => k!(SYS_getsid, 999_999), "getsid self" => k!(SYS_getsid, 0).ok(), "sched of nobody" => k!(SYS_sched_getscheduler, 999_999), "of self" => k!(SYS_sched_getscheduler, 0));
}
