//! Core files: when a process leaves one, and what is in it.

use super::seccomp::{answer, install};
use crate::out::Out;
use crate::sys::{R, child, child_info, on};
use crate::util::{bit, close, in_child, mask, mk, open, signal_name, stat_text};
use crate::{cases, k, say, sys, tell};
use libc::*;
use std::sync::atomic::Ordering::SeqCst;

cases!(
    core_by_signal,
    core_limit,
    core_not_dumpable,
    core_of_another_user,
    core_place_taken,
    core_of_a_fault,
    core_told_to_the_parent,
    core_notes,
    core_memory,
    core_filter,
    core_filter_text,
    core_of_threads,
    core_of_a_forbidden_call,
);

fn limit(bytes: u64) -> R {
    k!(SYS_setrlimit, RLIMIT_CORE, &[bytes, u64::MAX])
}

/// How a child ends that does `f`, with the word on the core, and what it leaves.
fn dies(f: impl FnOnce()) -> String {
    let pid = child(|| {
        f();
        0
    });
    let mut status = 0i32;
    k!(SYS_wait4, pid, &mut status, 0, 0);
    let left = stat_text(c"core", AT_SYMLINK_NOFOLLOW);
    let left = left.split(" size").next().unwrap_or_default().to_string();
    format!("{}, {left}", crate::util::status_text(status))
}

fn kill_me(signal: i32) {
    k!(SYS_kill, k!(SYS_getpid), signal);
}

fn clean() {
    k!(SYS_unlinkat, AT_FDCWD, c"core", 0);
}

fn core_by_signal(o: Out) {
    limit(u64::MAX);
    for signal in (1..=31).chain([34, 64]) {
        if [SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU].contains(&signal) {
            continue;
        }
        tell!(o, "signal" => signal_name(signal), "how" => dies(|| kill_me(signal)));
        clean();
    }
}

fn core_limit(o: Out) {
    for bytes in [0, 1, 4095, 4096, 65536] {
        let how = dies(|| {
            limit(bytes);
            kill_me(SIGABRT);
        });
        tell!(o, "limit" => bytes, "how" => how);
        clean();
    }
}

fn core_not_dumpable(o: Out) {
    limit(u64::MAX);
    for yes in [0, 1] {
        tell!(o, "dumpable" => yes, "how" => dies(|| { k!(SYS_prctl, PR_SET_DUMPABLE, yes); kill_me(SIGABRT) }));
        clean();
    }
}

fn core_of_another_user(o: Out) {
    limit(u64::MAX);
    k!(SYS_fchmodat, AT_FDCWD, c".", 0o777);
    let become_user = || {
        k!(SYS_setresgid, 1000, 1000, 1000);
        k!(SYS_setresuid, 1000, 1000, 1000);
    };
    tell!(o, "changed" => dies(|| { become_user(); kill_me(SIGABRT) }));
    clean();
    tell!(o, "dumpable again" => dies(|| { become_user(); k!(SYS_prctl, PR_SET_DUMPABLE, 1); kill_me(SIGABRT) }));
    tell!(o, "upon another's" => dies(|| kill_me(SIGABRT)));
    clean();
    k!(SYS_fchmodat, AT_FDCWD, c".", 0o755);
    tell!(o, "not allowed to write" => dies(|| { become_user(); k!(SYS_prctl, PR_SET_DUMPABLE, 1); kill_me(SIGABRT) }));
}

fn core_place_taken(o: Out) {
    limit(u64::MAX);
    let dump = || dies(|| kill_me(SIGABRT));
    let make = |mode: u32| {
        close(open(c"core", O_CREAT | O_RDWR, mode).int());
        k!(SYS_fchmodat, AT_FDCWD, c"core", mode);
    };
    for mode in [0o600, 0o644, 0o400, 0o700] {
        make(mode);
        tell!(o, "mode" => format!("{mode:o}"), "how" => dump());
        clean();
    }
    make(0o600);
    k!(SYS_linkat, AT_FDCWD, c"core", AT_FDCWD, c"other", 0);
    tell!(o, "linked" => dump());
    clean();
    k!(SYS_symlinkat, c"other", AT_FDCWD, c"core");
    tell!(o, "symbolic" => dump());
    clean();
    k!(SYS_mkdirat, AT_FDCWD, c"core", 0o755);
    tell!(o, "directory" => dump());
    k!(SYS_unlinkat, AT_FDCWD, c"core", AT_REMOVEDIR);
    k!(SYS_mknodat, AT_FDCWD, c"core", S_IFIFO | 0o600, 0);
    tell!(o, "fifo" => dies(|| { let _r = open(c"core", O_RDWR, 0); kill_me(SIGABRT) }));
}

fn core_of_a_fault(o: Out) {
    limit(u64::MAX);
    tell!(o, "read" => dies(|| { sys::peek(8); }));
    clean();
    tell!(o, "undefined" => dies(|| sys::trap(sys::Trap::Undefined)));
    clean();
    tell!(o, "blocked" => dies(|| { mask(SIG_BLOCK, bit(SIGSEGV)); sys::peek(8); }));
}

fn core_told_to_the_parent(o: Out) {
    limit(u64::MAX);
    on(SIGCHLD, 0);
    let pid = child(|| {
        kill_me(SIGQUIT);
        0
    });
    let mut info: siginfo_t = sys::zeroed();
    while k!(SYS_waitid, P_PID, pid, &mut info, WEXITED, 0).0 == i64::from(-EINTR) {}
    tell!(o, "waitid" => child_info(&info, pid), "signal" => sys::seen(SIGCHLD).code.load(SeqCst), "status" => sys::seen(SIGCHLD).status.load(SeqCst));
}

/// The notes of ./core: name, type, content.
fn notes() -> Vec<(String, u32, Vec<u8>)> {
    let core = std::fs::read("core").unwrap_or_default();
    let word = |b: &[u8], at: usize| {
        u64::from_ne_bytes(
            b.get(at..at + 8)
                .and_then(|b| b.try_into().ok())
                .unwrap_or_default(),
        )
    };
    let half = |b: &[u8], at: usize| word(b, at) as u32;
    let at = word(&core, 64 + 8) as usize;
    let len = word(&core, 64 + 32) as usize;
    let all = core.get(at..at + len).unwrap_or_default();
    let mut found = Vec::new();
    let mut at = 0;
    while at + 12 <= all.len() {
        let (name, what) = (half(all, at) as usize, half(all, at + 4) as usize);
        let from = at + 12 + name.next_multiple_of(4);
        let text = String::from_utf8_lossy(all.get(at + 12..at + 11 + name).unwrap_or_default());
        let content = all.get(from..from + what).unwrap_or_default().to_vec();
        found.push((text.into_owned(), half(all, at + 8), content));
        at = from + what.next_multiple_of(4);
    }
    found
}

fn int(bytes: &[u8], at: usize) -> i32 {
    let four = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
    i32::from_ne_bytes(four.unwrap_or_default())
}

fn core_notes(o: Out) {
    limit(u64::MAX);
    let pid = child(|| {
        mask(SIG_BLOCK, bit(SIGUSR1) | bit(SIGUSR2));
        kill_me(SIGUSR1);
        kill_me(SIGABRT);
        0
    });
    let mut status = 0;
    k!(SYS_wait4, pid, &mut status, 0, 0);
    let core = std::fs::read("core").unwrap_or_default();
    tell!(o, "head" => format!("{:?}", core.get(..20)), "header" => format!("{:?}", core.get(20..56)), "first" => int(&core, 64));
    // Linux (6.12) says how extended state is laid out, too.
    for (name, kind, content) in notes().into_iter().filter(|n| n.1 != 0x205) {
        // How much of extended state there is, is the processor's.
        let len = if kind < 6 { content.len() } else { 0 };
        say!(o, "{name} {kind:#x} {len}");
        match kind {
            1 => {
                tell!(o, "signal" => int(&content, 12) as u16, "info" => format!("{:?}", &content[..12]), "pending" => format!("{:?}", &content[16..24]), "held" => format!("{:?}", &content[24..32]), "pid" => int(&content, 32) == pid, "parent" => int(&content, 36) == k!(SYS_getpid).int(), "call" => int(&content, 112 + 15 * 8), "result" => int(&content, 112 + 10 * 8), "segments" => format!("{} {}", int(&content, 112 + 17 * 8), int(&content, 112 + 20 * 8)));
            }
            3 => {
                tell!(o, "uid" => int(&content, 16), "pid" => int(&content, 24) == pid, "name" => content[40..56].escape_ascii());
            }
            0x5349_4749 => {
                tell!(o, "signal" => int(&content, 0), "code" => int(&content, 8), "sender" => int(&content, 16) == pid);
            }
            _ => {}
        }
    }
}

fn core_memory(o: Out) {
    limit(u64::MAX);
    k!(
        SYS_mmap,
        0x3_0000_0000u64,
        3 * 4096,
        PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
        -1,
        0
    );
    sys::put(0x3_0000_1000, b"what was in memory");
    k!(
        SYS_mmap,
        0x3_1000_0000u64,
        1u64 << 30,
        PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
        -1,
        0
    );
    sys::put(0x3_4000_0000, b"far away");
    // What a program asks to be left out.
    k!(SYS_madvise, 0x3_0000_2000u64, 4096, MADV_DONTDUMP);
    sys::put(0x3_0000_2000, b"secret");
    tell!(o, "how" => dies(|| kill_me(SIGABRT)));
    let fd = open(c"core", O_RDONLY, 0).int();
    let mut head = vec![0u8; 65536];
    k!(SYS_read, fd, &mut head[..], 65536);
    let word = |at: usize| {
        u64::from_ne_bytes(
            head.get(at..at + 8)
                .and_then(|b| b.try_into().ok())
                .unwrap_or_default(),
        )
    };
    let count = usize::from(u16::from_ne_bytes([head[56], head[57]]));
    for n in 1..count {
        let at = 64 + n * 56;
        let (flags, offset, addr) = (word(at) >> 32, word(at + 8), word(at + 16));
        if !(0x3_0000_0000..0x4_0000_0000).contains(&addr) {
            continue;
        }
        let inside = if addr < 0x3_1000_0000 {
            0x1000
        } else {
            0x3_4000_0000 - addr
        };
        let mut b = [0u8; 24];
        k!(SYS_pread64, fd, &mut b, 24, offset + inside);
        tell!(o, "address" => format!("{addr:#x}"), "flags" => flags, "in file" => word(at + 32), "in memory" => word(at + 40), "holds" => b.escape_ascii());
    }
    let mut st: stat = sys::zeroed();
    k!(SYS_fstat, fd, &mut st);
    tell!(o, "long" => st.st_size > 1 << 30, "not written" => st.st_blocks < 100_000);
}

const FILTER: &str = "/proc/self/coredump_filter";

/// Mappings of every kind, in a row.
fn mappings() {
    mk(c"file", &[7u8; 4096 * 2]);
    let fd = open(c"file", O_RDWR, 0).int();
    let both = PROT_READ | PROT_WRITE;
    let at = |n: u64| 0x3_0000_0000 + n * 0x10000;
    k!(
        SYS_mmap,
        at(0),
        4096,
        both,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
        -1,
        0
    );
    k!(
        SYS_mmap,
        at(1),
        4096,
        both,
        MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED,
        -1,
        0
    );
    k!(
        SYS_mmap,
        at(2),
        4096,
        PROT_READ,
        MAP_PRIVATE | MAP_FIXED,
        fd,
        4096
    );
    k!(
        SYS_mmap,
        at(3),
        4096,
        both,
        MAP_SHARED | MAP_FIXED,
        fd,
        4096
    );
    k!(
        SYS_mmap,
        at(4),
        4096,
        both,
        MAP_PRIVATE | MAP_FIXED,
        fd,
        4096
    );
    for n in [0, 1, 4] {
        sys::put(at(n) as usize, b"written");
    }
}

fn core_filter(o: Out) {
    limit(u64::MAX);
    mappings();
    for filter in [0u32, 1, 2, 4, 8, 0x33, 0x1ff] {
        let set = std::fs::write(FILTER, filter.to_string());
        tell!(o, "filter" => filter, "set" => set.is_ok(), "how" => dies(|| kill_me(SIGABRT)));
        let core = std::fs::read("core").unwrap_or_default();
        let word = |at: usize| {
            let bytes = core.get(at..at + 8).and_then(|b| b.try_into().ok());
            u64::from_ne_bytes(bytes.unwrap_or_default())
        };
        let count = core.get(56).copied().unwrap_or_default();
        for n in 1..usize::from(count) {
            let at = 64 + n * 56;
            if (0x3_0000_0000..0x4_0000_0000).contains(&word(at + 16)) {
                tell!(o, "mapping" => (word(at + 16) & 0xf_ffff) >> 16, "in file" => word(at + 32));
            }
        }
        clean();
    }
}

fn core_filter_text(o: Out) {
    let told = || std::fs::read_to_string(FILTER).unwrap_or_default();
    tell!(o, "first" => told());
    for text in [
        "0",
        "0x7f",
        "077",
        "511\n",
        "0xffffffff",
        "4294967296",
        "-1",
        "+3",
        "x",
        "",
        "8 ",
        "08",
        "0x",
    ] {
        let set = std::fs::write(FILTER, text).map_err(|e| e.raw_os_error());
        tell!(o, "text" => format!("{text:?}"), "set" => format!("{set:?}"), "now" => told());
    }
    let _ = std::fs::write(FILTER, "0x11");
    let kid = in_child(|| i32::from(told() == "00000011\n"));
    tell!(o, "child" => kid, "mode" => stat_text(c"/proc/self/coredump_filter", 0).split(' ').next().unwrap_or_default());
}

fn core_of_threads(o: Out) {
    limit(u64::MAX);
    let how = dies(|| {
        let all = std::sync::Barrier::new(4);
        std::thread::scope(|s| {
            for _ in 0..3 {
                s.spawn(|| {
                    all.wait();
                    k!(SYS_pause);
                });
            }
            all.wait();
            kill_me(SIGQUIT);
        });
    });
    let of = |kind| notes().iter().filter(|n| n.1 == kind).count();
    let mut ids: Vec<i32> = notes()
        .iter()
        .filter(|n| n.1 == 1)
        .map(|n| int(&n.2, 32))
        .collect();
    ids.sort_unstable();
    ids.dedup();
    tell!(o, "how" => how, "threads" => of(1), "floating point" => of(2), "different" => ids.len(), "process" => of(3));
}

fn core_of_a_forbidden_call(o: Out) {
    limit(u64::MAX);
    for what in [SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD] {
        tell!(o, "answer" => format!("{what:#x}"), "how" => dies(|| { install(&answer(SYS_getsid, what)); k!(SYS_getsid, 0); }));
        clean();
    }
}
