//! `linux.seccomp`: system calls that a container may not make.

use crate::case::{Result, cases, ensure, equal, exited, refused, said};
use crate::place::Place;
use serde_json::{Value, json};

cases!("profiles":
    calls_fail_as_the_profile_says,
    conditions_on_arguments,
    further_processes_are_confined,
    calls_that_end_the_program,
    the_programs_own_execve,
    what_no_profile_can_ask,
    everything_but_what_is_named,
    programs_under_an_allow_list,
);

/// A profile that allows all but what `rules` say.
fn but(rules: Value) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
}

fn rule(names: &[&str], action: &str) -> Value {
    json!({"names": names, "action": action})
}

fn confined(place: &Place<'_>, script: &str, profile: Value) -> Result<test_support::run::Outcome> {
    let dir = place.shell(script, |c| c["linux"]["seccomp"] = profile)?;
    Ok(place.run(&dir, "c"))
}

fn calls_fail_as_the_profile_says(place: &Place<'_>) -> Result {
    let script = "for call in 'mkdir /d' 'ln -s a /l' 'mkfifo /f' 'chmod 1 /'; do $call 2>&1 | \
                  sed 's/.*: //'; done; ls / | grep -cx '[dlf]'; \
                  grep -E 'Seccomp|NoNew' /proc/self/status";
    let mut full = rule(&["mkdir", "mkdirat", "no_such_call"], "SCMP_ACT_ERRNO");
    full["errnoRet"] = 28.into();
    let profile = but(json!([
        full,
        rule(&["symlink", "symlinkat"], "SCMP_ACT_ERRNO"),
        rule(&["mknod", "mknodat"], "SCMP_ACT_TRACE"),
        rule(&["chmod", "fchmod", "fchmodat"], "SCMP_ACT_LOG"),
    ]));
    let want = "No space left on device\nOperation not permitted\nFunction not implemented\n0\n\
                NoNewPrivs:\t0\nSeccomp:\t2\nSeccomp_filters:\t1\n";
    said(&confined(place, script, profile)?, 0, want)?;
    // An ordinary user without no_new_privs is confined, too.
    let dir = place.shell(
        "grep -E 'Seccomp|NoNew' /proc/self/status; mkdir /tmp/d",
        |c| {
            c["process"]["user"] = json!({"uid": 1000, "gid": 1000});
            c["linux"]["seccomp"] = but(json!([rule(&["mkdir"], "SCMP_ACT_ERRNO")]));
        },
    )?;
    let want = "NoNewPrivs:\t0\nSeccomp:\t2\nSeccomp_filters:\t1\n";
    said(&place.run(&dir, "c"), 1, want)
}

fn conditions_on_arguments(place: &Place<'_>) -> Result {
    let script = "for s in 10 12 14; do trap : $s; done
                  for s in 10 12 14; do kill -$s $$ 2>/dev/null && echo -n $s,; done; echo";
    let cases = [
        ("SCMP_CMP_EQ", 12, None, "10,14,"),
        ("SCMP_CMP_NE", 12, None, "12,"),
        ("SCMP_CMP_LT", 12, None, "12,14,"),
        ("SCMP_CMP_LE", 12, None, "14,"),
        ("SCMP_CMP_GE", 12, None, "10,"),
        ("SCMP_CMP_GT", 12, None, "10,12,"),
        ("SCMP_CMP_MASKED_EQ", 6, Some(2), "12,14,"),
    ];
    for (op, value, two, want) in cases {
        let mut kill = rule(&["kill", "tkill", "tgkill"], "SCMP_ACT_ERRNO");
        kill["args"] = json!([{"index": 1, "value": value, "valueTwo": two, "op": op}]);
        let outcome = confined(place, script, but(json!([kill])))?;
        said(&outcome, 0, &format!("{want}\n"))?;
    }
    // Two on one argument are two rules; several arguments are one.
    let eq = |index: u32, value: u64| json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"});
    for (args, want) in [
        (json!([eq(1, 10), eq(1, 14)]), "12,"),
        (json!([eq(1, 10), eq(0, 1)]), "12,14,"),
        (json!([eq(1, 10), eq(0, 2)]), "10,12,14,"),
    ] {
        let mut kill = rule(&["kill"], "SCMP_ACT_ERRNO");
        kill["args"] = args;
        let outcome = confined(place, script, but(json!([kill])))?;
        said(&outcome, 0, &format!("{want}\n"))?;
    }
    Ok(())
}

fn further_processes_are_confined(place: &Place<'_>) -> Result {
    let dir = place.shell("exec sleep 1000", |c| {
        c["linux"]["seccomp"] = but(json!([rule(&["mkdir"], "SCMP_ACT_ERRNO")]));
    })?;
    let bundle = dir.to_string_lossy().into_owned();
    exited(
        &place.ringfence(&["run", "-d", "--bundle", &bundle, "c"]),
        0,
    )?;
    let outcome = place.ringfence(&["exec", "c", "sh", "-c", "mkdir /d 2>&1 | sed 's/.*: //'"]);
    said(&outcome, 0, "Operation not permitted\n")?;
    let file = place.dir.join("process.json");
    let process = json!({"args": ["/bin/mkdir", "/d"], "cwd": "/", "user": {"uid": 0, "gid": 0}});
    std::fs::write(&file, process.to_string())?;
    let path = file.to_string_lossy().into_owned();
    exited(&place.ringfence(&["exec", "--process", &path, "c"]), 1)?;
    place.gone()
}

fn calls_that_end_the_program(place: &Place<'_>) -> Result {
    for action in [
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_TRAP",
    ] {
        let profile = but(json!([rule(&["mkdir"], action)]));
        let outcome = confined(place, "mkdir /d 2>/dev/null; echo $?", profile.clone())?;
        said(&outcome, 0, "159\n")?;
        // Process 1 itself.
        let dir = place.shell("", |c| {
            c["process"]["args"] = json!(["mkdir", "/d"]);
            c["linux"]["seccomp"] = profile;
        })?;
        exited(&place.run(&dir, "c"), 159)?;
    }
    place.nothing_left()
}

fn the_programs_own_execve(place: &Place<'_>) -> Result {
    let profile = but(json!([rule(&["execve"], "SCMP_ACT_ERRNO")]));
    let outcome = confined(place, "echo must not run", profile)?;
    refused(&outcome, 126, &["/bin/sh", "operation not permitted"])?;
    place.nothing_left()
}

fn what_no_profile_can_ask(place: &Place<'_>) -> Result {
    let mut listener = but(json!([]));
    listener["listenerPath"] = "/run/agent".into();
    let mut argument = rule(&["read"], "SCMP_ACT_ERRNO");
    argument["args"] = json!([{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]);
    let six: Vec<Value> = (0..6)
        .map(|n| json!({"index": n, "value": 1, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}))
        .collect();
    let large = json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": six});
    let cases = [
        (
            but(json!([rule(&["read"], "SCMP_ACT_NOTIFY")])),
            "SCMP_ACT_NOTIFY",
        ),
        (listener, "linux.seccomp.listenerPath"),
        (but(json!([argument])), "no argument 6"),
        (but(vec![large; 120].into()), "4096 instructions"),
        (
            but(json!([rule(&["read"], "SCMP_ACT_MAYBE")])),
            "SCMP_ACT_MAYBE",
        ),
    ];
    for (profile, word) in cases {
        refused(
            &confined(place, "echo must not run", profile)?,
            128,
            &[word],
        )?;
        place.nothing_left()?;
    }
    Ok(())
}

fn everything_but_what_is_named(place: &Place<'_>) -> Result {
    // With nothing allowed, not even the program itself.
    let profile = json!({"defaultAction": "SCMP_ACT_ERRNO"});
    let outcome = confined(place, "echo must not run", profile)?;
    refused(&outcome, 126, &["operation not permitted"])?;
    // An empty profile is none.
    let outcome = confined(place, "grep Seccomp: /proc/self/status", but(json!([])))?;
    said(&outcome, 0, "Seccomp:\t0\n")
}

/// What ordinary programs need, as the profiles of container engines have it.
const ORDINARY: &str = "accept accept4 access alarm arch_prctl bind brk capget capset chdir chmod \
    chown clock_getres clock_gettime clock_nanosleep close close_range connect copy_file_range \
    creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd \
    eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fallocate fchdir fchmod \
    fchmodat fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fork fstat fstatfs fsync \
    ftruncate futex getcpu getcwd getdents getdents64 getegid geteuid getgid getgroups getitimer \
    getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresuid getrlimit \
    getrusage getsid getsockname getsockopt gettid gettimeofday getuid getxattr ioctl kill lchown \
    lgetxattr link linkat listen lseek lstat madvise membarrier memfd_create mincore mkdir mkdirat \
    mlock mmap mprotect mremap msync munmap nanosleep newfstatat open openat openat2 pause pipe \
    pipe2 poll ppoll prctl pread64 preadv prlimit64 pselect6 pwrite64 pwritev read readlink \
    readlinkat readv recvfrom recvmsg rename renameat renameat2 restart_syscall rmdir rseq \
    rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend \
    rt_sigtimedwait sched_getaffinity sched_getparam sched_getscheduler sched_setaffinity \
    sched_yield select sendfile sendmsg sendto set_robust_list set_tid_address setgid setgroups \
    setitimer setpgid setresgid setresuid setsid setsockopt setuid shutdown sigaltstack socket \
    socketpair splice stat statfs statx symlink symlinkat sysinfo tgkill time timer_create \
    timer_delete timer_settime times truncate umask uname unlink unlinkat utime utimensat vfork \
    wait4 waitid write writev";

fn programs_under_an_allow_list(place: &Place<'_>) -> Result {
    let names: Vec<&str> = ORDINARY.split_whitespace().collect();
    // New namespaces are refused by clone's flags; the C library falls back from clone3 to it.
    let namespaces = json!([{"index": 0, "value": 0x7e02_0000, "valueTwo": 0,
        "op": "SCMP_CMP_MASKED_EQ"}]);
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            rule(&names, "SCMP_ACT_ALLOW"),
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": namespaces},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        ],
    });
    let script = "import ctypes, os, subprocess, threading
print(subprocess.run(['ls', '/bin/sh'], capture_output=True, text=True).stdout, end='')
t = threading.Thread(target=lambda: print('thread')); t.start(); t.join()
libc = ctypes.CDLL(None, use_errno=True)
for nr in (165, 272, 435, 500):
    print(nr, libc.syscall(nr, 0, 0, 0, 0, 0), os.strerror(ctypes.get_errno()))
try: os.unshare(os.CLONE_NEWNS)
except (AttributeError, OSError) as e: print('no unshare')
print(sum(range(1000)))
";
    let root = place.debian()?;
    let mut bundle = place.bundle(&["python3", "-c", script])?;
    bundle.config["root"]["path"] = json!(root);
    bundle.config["linux"]["seccomp"] = profile;
    bundle.write()?;
    let want = "/bin/sh\nthread\n165 -1 Operation not permitted\n\
                272 -1 Operation not permitted\n435 -1 Function not implemented\n\
                500 -1 Function not implemented\nno unshare\n499500\n";
    let outcome = place.run(&bundle.dir, "c");
    ensure(outcome.err().is_empty(), || outcome.err())?;
    equal("standard output", &outcome.out(), &want.to_owned())
}
