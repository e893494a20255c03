//! What is for those alone who may look into a process (ptrace(2), "Ptrace access mode checking").

use crate::out::Out;
use crate::sys::{R, child, zeroed};
use crate::tracing::{CODE, finish, go, load, peek_word, pt, tracee};
use crate::util::{as_user, close, in_child, open, pipe, read, write};
use crate::{cases, k, say, tell};
use libc::*;
use std::ffi::CString;

cases!(
    ptrace_words_of_the_undumpable,
    ptrace_descriptors_shown,
    ptrace_compared_by_who_may,
);

/// Two stops: as a program that is dumpable, and as one that is not.
fn turns_undumpable() -> i32 {
    tracee(|| {
        load(&[0x90]);
        k!(SYS_kill, k!(SYS_getpid), SIGUSR1);
        k!(SYS_prctl, PR_SET_DUMPABLE, 0);
        k!(SYS_kill, k!(SYS_getpid), SIGUSR2);
        0
    })
}

fn words(o: Out, a: i32) {
    let mut r: user_regs_struct = zeroed();
    let mut buf = [0u8; 8];
    let to = [std::ptr::from_mut(&mut buf) as usize, 8];
    let from = [CODE, 8];
    let path = CString::new(format!("/proc/{a}/mem")).unwrap_or_default();
    let file = open(&path, O_RDONLY, 0);
    tell!(o, "peek" => peek_word(a, CODE).0, "poke" => pt(PTRACE_POKEDATA, a, CODE, 0x90), "text" => pt(PTRACE_PEEKTEXT, a, CODE, &raw mut buf as usize));
    tell!(o, "registers" => pt(PTRACE_GETREGS, a, 0, &raw mut r as usize), "user" => pt(PTRACE_PEEKUSER, a, 0, &raw mut buf as usize), "file" => file.yes(), "vector" => k!(SYS_process_vm_readv, a, &to, 1, &from, 1, 0));
    if file.ok() {
        let mut byte = [0u8; 1];
        tell!(o, "read" => k!(SYS_pread64, file, &mut byte, 1, CODE));
        close(file.int());
    }
}

fn ptrace_words_of_the_undumpable(o: Out) {
    let look = || {
        let a = turns_undumpable();
        tell!(o, "dumpable" => go(PTRACE_CONT, a, 0));
        words(o, a);
        tell!(o, "undumpable" => go(PTRACE_CONT, a, 0));
        words(o, a);
        tell!(o, "end" => finish(a));
    };
    look();
    let user = as_user(|| {
        // What an exec would have made it.
        k!(SYS_prctl, PR_SET_DUMPABLE, 1);
        look();
    });
    say!(o, "{user}");
}

/// Leaves the capabilities alone with which files are opened.
fn drop_all_but_files() -> R {
    const FILES: u32 = 1 << 1 | 1 << 2;
    k!(
        SYS_capset,
        &[0x2008_0522u32, 0],
        &[FILES, FILES, 0, 0, 0, 0]
    )
}

fn descriptors(o: Out, pid: i32, fd: i32) {
    let at = |name: &str| CString::new(format!("/proc/{pid}/{name}/{fd}")).unwrap_or_default();
    let (link, info) = (at("fd"), at("fdinfo"));
    let link = link.as_c_str();
    let mut buf = [0u8; 64];
    let mut st: stat = zeroed();
    tell!(o, "read" => k!(SYS_readlinkat, AT_FDCWD, link, &mut buf, 64).yes(), "open" => open(link, O_RDONLY, 0).yes(), "path" => open(link, O_PATH, 0).yes(), "follow" => k!(SYS_newfstatat, AT_FDCWD, link, &mut st, 0), "itself" => k!(SYS_newfstatat, AT_FDCWD, link, &mut st, AT_SYMLINK_NOFOLLOW), "mode" => format!("{:o}", st.st_mode));
    tell!(o, "info" => open(&info, O_RDONLY, 0).yes());
}

fn ptrace_descriptors_shown(o: Out) {
    let (theirs, give) = pipe();
    let start = |uid: i32, dumpable: i32| {
        let (ready, say_ready) = pipe();
        let pid = child(|| {
            k!(SYS_setresgid, uid, uid, uid);
            k!(SYS_setresuid, uid, uid, uid);
            k!(SYS_prctl, PR_SET_DUMPABLE, dumpable);
            write(say_ready, b"x");
            loop {
                k!(SYS_pause);
            }
        });
        read(ready, 1);
        close(ready);
        close(say_ready);
        pid
    };
    for (uid, dumpable) in [(0, 1), (0, 0), (1000, 1), (1000, 0)] {
        let pid = start(uid, dumpable);
        tell!(o, "of" => uid, "dumpable" => dumpable);
        descriptors(o, pid, theirs);
        let end = in_child(|| {
            tell!(o, "files alone" => drop_all_but_files());
            descriptors(o, pid, theirs);
            0
        });
        tell!(o, "end" => end);
        let end = as_user(|| descriptors(o, pid, theirs));
        tell!(o, "user" => end);
        k!(SYS_kill, pid, SIGKILL);
        tell!(o, "killed" => crate::util::wait_text(pid));
    }
    close(theirs);
    close(give);
}

fn ptrace_compared_by_who_may(o: Out) {
    let a = child(|| {
        loop {
            k!(SYS_pause);
        }
    });
    let ask = || {
        let (me, mut head, mut len) = (k!(SYS_getpid), 0u64, 0u64);
        let pair = |x: R, y: R| k!(SYS_kcmp, x, y, 2, 0, 0).yes();
        tell!(o, "first" => pair(R(i64::from(a)), me), "second" => pair(me, R(i64::from(a))), "own" => pair(me, me), "no kind" => k!(SYS_kcmp, a, a, 99, 0, 0), "list" => k!(SYS_get_robust_list, a, &mut head, &mut len));
    };
    ask();
    say!(o, "{}", as_user(ask));
    let end = in_child(|| {
        drop_all_but_files();
        ask();
        0
    });
    tell!(o, "fewer" => end, "end" => finish(a));
}
