//! Filters over system calls: seccomp(2) and its part of prctl(2).

use crate::out::Out;
use crate::sys::{R, on, seen};
use crate::util::{as_user, bit, in_child, mask, open, pipe, read, stat_text, write};
use crate::{cases, k, say, sys, tell};
use libc::*;
use std::sync::atomic::Ordering::SeqCst;

cases!(
    seccomp_modes_and_privilege,
    seccomp_bad_programs,
    seccomp_good_programs,
    seccomp_bad_requests,
    seccomp_available_actions,
    seccomp_errors,
    seccomp_endings,
    seccomp_trap,
    seccomp_trap_blocked,
    seccomp_nobody_to_ask,
    seccomp_precedence,
    seccomp_words_of_the_call,
    seccomp_arithmetic,
    seccomp_jumps,
    seccomp_not_made,
    seccomp_limit,
);

const LOAD: u32 = BPF_LD | BPF_W | BPF_ABS;
const RET: u32 = BPF_RET | BPF_K;
const JEQ: u32 = BPF_JMP | BPF_JEQ | BPF_K;
pub(super) const ALLOW: u32 = SECCOMP_RET_ALLOW;

fn op(code: u32, k: u32) -> sock_filter {
    jump(code, k, 0, 0)
}

fn jump(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

/// A program that answers `what` to call `nr` and allows all others.
pub(super) fn answer(nr: i64, what: u32) -> Vec<sock_filter> {
    vec![
        op(LOAD, 0),
        jump(JEQ, nr as u32, 0, 1),
        op(RET, what),
        op(RET, ALLOW),
    ]
}

/// As [`answer`], where the word at `offset` is `value`.
fn answer_if(nr: i64, offset: u32, value: u32, what: u32) -> Vec<sock_filter> {
    vec![
        op(LOAD, 0),
        jump(JEQ, nr as u32, 0, 3),
        op(LOAD, offset),
        jump(JEQ, value, 0, 1),
        op(RET, what),
        op(RET, ALLOW),
    ]
}

pub(super) fn install_with(program: &[sock_filter], flags: u64) -> R {
    let raw = sock_fprog {
        len: program.len() as u16,
        filter: program.as_ptr().cast_mut(),
    };
    k!(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw)
}

pub(super) fn install(program: &[sock_filter]) -> R {
    no_new_privs();
    install_with(program, 0)
}

pub(super) fn no_new_privs() -> R {
    k!(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}

pub(super) fn mode() -> R {
    k!(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0, 0)
}

/// The lines of /proc/self/status that are about this.
pub(super) fn status() -> String {
    let all = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let ours = |l: &&str| l.starts_with("Seccomp") || l.starts_with("NoNewPrivs");
    all.lines()
        .filter(ours)
        .collect::<Vec<_>>()
        .join(" ")
        .replace('\t', "")
}

/// What a call that is answered with the accumulator comes to.
fn computed(o: Out, name: &str, program: &[sock_filter]) {
    let how = in_child(|| {
        let mut all = vec![
            op(LOAD, 0),
            jump(JEQ, SYS_getppid as u32, 1, 0),
            op(RET, ALLOW),
        ];
        all.extend_from_slice(program);
        // The lower twelve bits as an error.
        all.extend([
            op(BPF_ALU | BPF_AND | BPF_K, 0xfff),
            op(BPF_ALU | BPF_OR | BPF_K, SECCOMP_RET_ERRNO),
            op(BPF_RET | BPF_A, 0),
        ]);
        let installed = install(&all);
        let r = k!(SYS_getppid);
        say!(o, "{name}: {installed} {}", r.0);
        0
    });
    if how != "exited 0" {
        say!(o, "{name}: {how}");
    }
}

fn seccomp_modes_and_privilege(o: Out) {
    let p = answer(SYS_getppid, SECCOMP_RET_ERRNO | 7);
    tell!(o, "mode" => mode(), "status" => status());
    as_user(|| {
        tell!(o, "without privilege" => install_with(&p, 0), "with" => { no_new_privs(); install_with(&p, 0) }, "mode" => mode(), "call" => k!(SYS_getppid), "status" => status(), "strict now" => k!(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, 0), "by prctl" => k!(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0), "another" => install_with(&p, 0), "status again" => status());
    });
    in_child(|| {
        tell!(o, "root" => install_with(&p, 0), "status" => status());
        0
    });
    in_child(|| {
        let raw = sock_fprog {
            len: p.len() as u16,
            filter: p.as_ptr().cast_mut(),
        };
        tell!(o, "prctl" => k!(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &raw, 0, 0), "further arguments" => k!(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &raw, 9, 9), "mode" => mode(), "call" => k!(SYS_getppid));
        0
    });
}

fn seccomp_bad_programs(o: Out) {
    no_new_privs();
    let end = op(RET, ALLOW);
    let alu = |what, k| vec![op(BPF_ALU | what | BPF_K, k), end];
    let mut cases: Vec<(&str, Vec<sock_filter>)> = vec![
        ("empty", vec![]),
        ("too long", vec![end; 4097]),
        ("no end", vec![op(LOAD, 0)]),
        ("ends in a jump", vec![end, op(BPF_JMP | BPF_JA, 0)]),
        ("unaligned", vec![op(LOAD, 2), end]),
        ("beyond", vec![op(LOAD, 64), end]),
        ("far beyond", vec![op(LOAD, 0xffff_f000), end]),
        ("half word", vec![op(BPF_LD | BPF_H | BPF_ABS, 0), end]),
        ("byte", vec![op(BPF_LD | BPF_B | BPF_ABS, 0), end]),
        ("indirect", vec![op(BPF_LD | BPF_W | BPF_IND, 0), end]),
        ("header length", vec![op(BPF_LDX | BPF_B | BPF_MSH, 0), end]),
        ("absolute to X", vec![op(BPF_LDX | BPF_W | BPF_ABS, 0), end]),
        ("ancillary", vec![op(LOAD, 0xffff_f000 + 4), end]),
        ("division by zero", alu(BPF_DIV, 0)),
        ("remainder", alu(BPF_MOD, 3)),
        (
            "remainder by X",
            vec![op(BPF_ALU | BPF_MOD | BPF_X, 0), end],
        ),
        ("shift by 32", alu(BPF_LSH, 32)),
        ("shift right by 99", alu(BPF_RSH, 99)),
        ("unknown operation", alu(0xf0, 1)),
        ("negation of X", vec![op(BPF_ALU | BPF_NEG | BPF_X, 0), end]),
        ("cell 16", vec![op(BPF_ST, 16), end]),
        ("cell unwritten", vec![op(BPF_LD | BPF_MEM, 3), end]),
        ("cell unwritten to X", vec![op(BPF_LDX | BPF_MEM, 3), end]),
        (
            "cell written on one way only",
            vec![
                jump(JEQ, 0, 0, 1),
                op(BPF_ST, 1),
                op(BPF_LD | BPF_MEM, 1),
                end,
            ],
        ),
        ("jump past the end", vec![jump(JEQ, 0, 1, 0), end]),
        ("false past the end", vec![jump(JEQ, 0, 0, 1), end]),
        ("far jump", vec![op(BPF_JMP | BPF_JA, 1), end]),
        ("jump backwards", vec![op(BPF_JMP | BPF_JA, u32::MAX), end]),
        ("jump to X", vec![op(BPF_JMP | BPF_JA | BPF_X, 0), end]),
        ("unknown jump", vec![op(BPF_JMP | 0x50, 0), end]),
        ("return X", vec![op(BPF_RET | BPF_X, 0)]),
        ("unknown class bits", vec![op(0x0700, 0), end]),
        ("high bits", vec![op(0x100 | LOAD, 0), end]),
        ("misc", vec![op(BPF_MISC | 0x20, 0), end]),
        ("store with size", vec![op(BPF_ST | BPF_B, 0), end]),
        ("immediate byte", vec![op(BPF_LD | BPF_B | BPF_IMM, 0), end]),
    ];
    cases.push(("last is not a return", vec![end, op(LOAD, 0)]));
    for (name, program) in &cases {
        say!(o, "{name}: {}", install(program));
    }
    tell!(o, "mode" => mode());
}

fn seccomp_good_programs(o: Out) {
    let end = op(RET, ALLOW);
    let cases: [(&str, Vec<sock_filter>); 8] = [
        ("one", vec![end]),
        ("longest", vec![end; 4096]),
        ("last word", vec![op(LOAD, 60), end]),
        (
            "lengths",
            vec![
                op(BPF_LD | BPF_W | BPF_LEN, 5),
                op(BPF_LDX | BPF_W | BPF_LEN, 5),
                end,
            ],
        ),
        ("return with offsets", vec![jump(RET, ALLOW, 200, 200)]),
        (
            "dead code",
            vec![op(BPF_JMP | BPF_JA, 1), op(BPF_LD | BPF_MEM, 3), end],
        ),
        (
            "cell written on both ways",
            vec![
                jump(JEQ, 0, 0, 2),
                op(BPF_ST, 1),
                op(BPF_JMP | BPF_JA, 1),
                op(BPF_STX, 1),
                op(BPF_LD | BPF_MEM, 1),
                end,
            ],
        ),
        ("shift by 31", vec![op(BPF_ALU | BPF_LSH | BPF_K, 31), end]),
    ];
    for (name, program) in &cases {
        in_child(|| {
            say!(o, "{name}: {} {}", install(program), status());
            0
        });
    }
}

fn seccomp_bad_requests(o: Out) {
    let p = answer(SYS_getppid, SECCOMP_RET_ERRNO);
    let null = sock_fprog {
        len: 4,
        filter: std::ptr::null_mut(),
    };
    let bad = sock_fprog {
        len: 4,
        filter: 16 as *mut sock_filter,
    };
    tell!(o, "operation" => k!(SYS_seccomp, 77, 0, 0), "strict with flags" => k!(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 1, 0), "strict with arguments" => k!(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, &p[0]), "flags" => install_with(&p, 1 << 20), "no program" => k!(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, 0), "bad address" => k!(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, 16usize), "flags come first" => k!(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 1u64 << 20, 16usize), "null code" => k!(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &null), "bad code" => k!(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &bad), "wait without listener" => install_with(&p, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV), "prctl mode" => k!(SYS_prctl, PR_SET_SECCOMP, 0, 0, 0, 0), "prctl unknown mode" => k!(SYS_prctl, PR_SET_SECCOMP, 9, 0, 0, 0), "prctl bad" => k!(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, 16usize, 0, 0));
    as_user(|| {
        tell!(o, "unprivileged, null code" => k!(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &null), "unprivileged, empty" => install_with(&[], 0), "unprivileged, bad" => k!(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, 16usize));
    });
    tell!(o, "mode" => mode());
}

fn seccomp_available_actions(o: Out) {
    for action in [
        SECCOMP_RET_KILL_PROCESS,
        SECCOMP_RET_KILL_THREAD,
        SECCOMP_RET_TRAP,
        SECCOMP_RET_ERRNO,
        SECCOMP_RET_TRACE,
        SECCOMP_RET_LOG,
        SECCOMP_RET_ALLOW,
        SECCOMP_RET_ERRNO | 1,
        0x1234_0000,
    ] {
        say!(
            o,
            "{action:#x}: {}",
            k!(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action)
        );
    }
    tell!(o, "flags" => k!(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 1, &0u32), "bad" => k!(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, 16usize));
}

fn seccomp_errors(o: Out) {
    for errno in [0u32, 1, 4, 38, 133, 134, 511, 4095, 4096, 0xffff] {
        in_child(|| {
            install(&answer(SYS_getppid, SECCOMP_RET_ERRNO | errno));
            say!(o, "{errno}: {}", k!(SYS_getppid).0);
            0
        });
    }
}

fn seccomp_endings(o: Out) {
    for (name, what) in [
        ("process", SECCOMP_RET_KILL_PROCESS),
        ("process with data", SECCOMP_RET_KILL_PROCESS | 9),
        ("thread", SECCOMP_RET_KILL_THREAD),
        ("unknown", 0x1234_0000),
        ("trap", SECCOMP_RET_TRAP | 5),
    ] {
        let how = in_child(|| {
            install(&answer(SYS_getppid, what));
            k!(SYS_getppid);
            say!(o, "{name}: still there");
            0
        });
        say!(o, "{name}: {how}");
    }
    // A handler does not help against the end.
    let how = in_child(|| {
        on(SIGSYS, 0);
        install(&answer(SYS_getppid, SECCOMP_RET_KILL_PROCESS));
        k!(SYS_getppid);
        0
    });
    say!(o, "with a handler: {how}");
}

fn trapped(o: Out, name: &str) {
    let s = seen(SIGSYS);
    let word = s.value.load(SeqCst) as u64;
    say!(
        o,
        "{name}: count {} code {} errno {} call {} arch {:#x} address {} rax {}",
        s.count.load(SeqCst),
        s.code.load(SeqCst),
        s.errno.load(SeqCst),
        word as u32,
        word >> 32,
        s.addr.load(SeqCst) != 0,
        s.result.load(SeqCst)
    );
}

fn seccomp_trap(o: Out) {
    on(SIGSYS, 0);
    install(&answer(SYS_getppid, SECCOMP_RET_TRAP | 0x1234));
    // The handler leaves the register with the number of the call.
    let r = k!(SYS_getppid);
    trapped(o, "first");
    tell!(o, "returns" => r.0, "arguments" => k!(SYS_getppid, 1, 2, 3).0);
    trapped(o, "second");
    install(&answer_if(
        0x4000_0000 | SYS_getpid,
        4,
        0xc000_003e,
        SECCOMP_RET_TRAP,
    ));
    tell!(o, "x32 number" => sys::call(0x4000_0000 | SYS_getpid, &[]).0);
    trapped(o, "third");
    tell!(o, "upper half of a number" => sys::call(0x5_0000_0000 | SYS_getppid, &[]).0);
    trapped(o, "fourth");
}

fn seccomp_trap_blocked(o: Out) {
    let blocked = in_child(|| {
        on(SIGSYS, 0);
        mask(SIG_BLOCK, bit(SIGSYS));
        install(&answer(SYS_getppid, SECCOMP_RET_TRAP));
        k!(SYS_getppid);
        say!(o, "went on");
        0
    });
    let ignored = in_child(|| {
        sys::set_handler(SIGSYS, SIG_IGN, 0);
        install(&answer(SYS_getppid, SECCOMP_RET_TRAP));
        k!(SYS_getppid);
        say!(o, "went on");
        0
    });
    tell!(o, "blocked" => blocked, "ignored" => ignored);
}

fn seccomp_nobody_to_ask(o: Out) {
    in_child(|| {
        install(&answer(SYS_getppid, SECCOMP_RET_TRACE | 3));
        tell!(o, "tracer" => k!(SYS_getppid));
        0
    });
    in_child(|| {
        install(&answer(SYS_getppid, SECCOMP_RET_USER_NOTIF | 3));
        tell!(o, "supervisor" => k!(SYS_getppid));
        0
    });
    in_child(|| {
        install(&answer(SYS_getppid, SECCOMP_RET_LOG | 3));
        tell!(o, "log" => k!(SYS_getppid).ok());
        0
    });
}

fn seccomp_precedence(o: Out) {
    let all = [
        ("allow", ALLOW | 9),
        ("log", SECCOMP_RET_LOG),
        ("trace", SECCOMP_RET_TRACE),
        ("errno 5", SECCOMP_RET_ERRNO | 5),
        ("errno 6", SECCOMP_RET_ERRNO | 6),
        ("kill thread", SECCOMP_RET_KILL_THREAD),
        ("kill process", SECCOMP_RET_KILL_PROCESS),
        ("unknown", 0x0001_0000),
        ("unknown high", 0x8001_0000),
    ];
    for (first, a) in all {
        for (second, b) in all {
            let how = in_child(|| {
                install(&answer(SYS_getpgrp, a));
                install(&answer(SYS_getpgrp, b));
                match k!(SYS_getpgrp) {
                    r if r.ok() => 1,
                    r => -r.int(),
                }
            });
            say!(o, "{first}, {second}: {how}");
        }
    }
}

fn seccomp_words_of_the_call(o: Out) {
    let value = |i: u64| 0x1111_0000_2222_0000u64 * (i + 1) + i;
    let args: Vec<usize> = (0..6).map(|i| value(i) as usize).collect();
    for i in 0..6u32 {
        for (half, shift) in [("low", 0), ("high", 32)] {
            let offset = 16 + 8 * i + shift / 8;
            let word = (value(u64::from(i)) >> shift) as u32;
            in_child(|| {
                install(&answer_if(
                    SYS_getppid,
                    offset,
                    word,
                    SECCOMP_RET_ERRNO | (50 + i),
                ));
                say!(o, "{half} {i}: {}", sys::call(SYS_getppid, &args));
                say!(o, "other: {}", sys::call(SYS_getppid, &[0; 6]).ok());
                0
            });
        }
    }
    in_child(|| {
        install(&answer_if(
            SYS_getppid,
            4,
            0xc000_003e,
            SECCOMP_RET_ERRNO | 60,
        ));
        tell!(o, "architecture" => k!(SYS_getppid));
        0
    });
    in_child(|| {
        install(&answer_if(SYS_getppid, 8, 0, SECCOMP_RET_ERRNO | 61));
        tell!(o, "address is not 0" => k!(SYS_getppid).ok());
        0
    });
    in_child(|| {
        on(SIGSYS, 0);
        install(&answer(SYS_getppid, SECCOMP_RET_TRAP));
        k!(SYS_getppid);
        let at = seen(SIGSYS).addr.load(SeqCst);
        let code = [sys::peek(at - 2), sys::peek(at - 1)];
        tell!(o, "the call is before it" => code == [0x0f, 0x05]);
        0
    });
}

fn seccomp_arithmetic(o: Out) {
    let a = |k| op(BPF_LD | BPF_IMM, k);
    let x = |k| op(BPF_LDX | BPF_IMM, k);
    let by_k = |what, k| op(BPF_ALU | what | BPF_K, k);
    let by_x = |what| op(BPF_ALU | what | BPF_X, 0);
    for (name, what) in [
        ("add", BPF_ADD),
        ("sub", BPF_SUB),
        ("mul", BPF_MUL),
        ("div", BPF_DIV),
        ("and", BPF_AND),
        ("or", BPF_OR),
        ("xor", BPF_XOR),
        ("lsh", BPF_LSH),
        ("rsh", BPF_RSH),
    ] {
        for (left, right) in [(1000u32, 7u32), (0xffff_ffff, 31), (0x8000_0001, 1), (3, 5)] {
            computed(
                o,
                &format!("{name} {left:#x} {right:#x}"),
                &[a(left), by_k(what, right)],
            );
            let top = by_k(BPF_RSH, 20);
            computed(o, "top", &[a(left), by_k(what, right), top]);
            computed(o, "by X", &[a(left), x(right), by_x(what)]);
        }
    }
    computed(o, "division by zero", &[a(5), x(0), by_x(BPF_DIV)]);
    computed(o, "shift by more", &[a(5), x(33), by_x(BPF_LSH)]);
    computed(o, "shift right by more", &[a(0x500), x(36), by_x(BPF_RSH)]);
    computed(o, "negation", &[a(5), op(BPF_ALU | BPF_NEG, 0)]);
    computed(
        o,
        "to X",
        &[a(5), op(BPF_MISC | BPF_TAX, 0), a(7), by_x(BPF_SUB)],
    );
    computed(o, "from X", &[x(9), op(BPF_MISC | BPF_TXA, 0)]);
    computed(o, "length", &[op(BPF_LD | BPF_W | BPF_LEN, 0)]);
    computed(
        o,
        "length in X",
        &[op(BPF_LDX | BPF_W | BPF_LEN, 0), op(BPF_MISC | BPF_TXA, 0)],
    );
    computed(o, "X at first", &[op(BPF_MISC | BPF_TXA, 0)]);
    let cells = [
        a(11),
        op(BPF_ST, 0),
        x(22),
        op(BPF_STX, 15),
        op(BPF_LD | BPF_MEM, 15),
        op(BPF_LDX | BPF_MEM, 0),
        by_x(BPF_SUB),
    ];
    computed(o, "cells", &cells);
}

fn seccomp_jumps(o: Out) {
    for (name, what) in [
        ("equal", BPF_JEQ),
        ("greater", BPF_JGT),
        ("not less", BPF_JGE),
        ("bits", BPF_JSET),
    ] {
        for (left, right) in [
            (5u32, 5u32),
            (4, 5),
            (6, 5),
            (0xffff_fff0, 5),
            (5, 0xffff_fff0),
        ] {
            let found = [
                op(BPF_LD | BPF_IMM, 1),
                op(BPF_JMP | BPF_JA, 1),
                op(BPF_LD | BPF_IMM, 2),
            ];
            let mut by_k = vec![
                op(BPF_LD | BPF_IMM, left),
                jump(BPF_JMP | what | BPF_K, right, 0, 2),
            ];
            by_k.extend(found);
            computed(o, &format!("{name} {left:#x} {right:#x}"), &by_k);
            let mut by_x = vec![
                op(BPF_LD | BPF_IMM, left),
                op(BPF_LDX | BPF_IMM, right),
                jump(BPF_JMP | what | BPF_X, 0, 0, 2),
            ];
            by_x.extend(found);
            computed(o, "X", &by_x);
        }
    }
    let mut far = vec![op(BPF_LD | BPF_IMM, 3), op(BPF_JMP | BPF_JA, 1000)];
    far.extend(vec![op(BPF_LD | BPF_IMM, 4); 1000]);
    computed(o, "far", &far);
}

fn seccomp_not_made(o: Out) {
    let (r, w) = pipe();
    install(&answer(SYS_mkdir, SECCOMP_RET_ERRNO));
    install(&answer_if(SYS_write, 16, w as u32, SECCOMP_RET_ERRNO | 77));
    tell!(o, "says it was made" => k!(SYS_mkdir, c"d", 0o755), "is not" => stat_text(c"d", 0), "write" => write(w, b"x").0, "other file" => write(open(c"/dev/null", O_WRONLY, 0).int(), b"x"));
    k!(SYS_close, w);
    tell!(o, "nothing came" => read(r, 5).0);
}

fn seccomp_limit(o: Out) {
    let count = |program: &[sock_filter]| {
        let mut n = 0;
        loop {
            let r = install(program);
            if !r.ok() {
                return format!("{n} {r}");
            }
            n += 1;
        }
    };
    let mut jumps = vec![op(LOAD, 0)];
    jumps.extend(vec![jump(JEQ, 0xffff_ffff, 0, 1); 1000]);
    jumps.extend(vec![jump(JEQ, 7, 1, 2); 500]);
    jumps.extend(vec![jump(BPF_JMP | BPF_JSET | BPF_K, 0x4000, 0, 1); 500]);
    jumps.extend(vec![op(RET, ALLOW); 3]);
    for (name, program) in [
        ("longest", vec![op(RET, ALLOW); 4096]),
        ("jumps", jumps),
        ("divisions", {
            let mut all = vec![op(BPF_ALU | BPF_DIV | BPF_X, 0); 900];
            all.insert(0, op(BPF_LDX | BPF_IMM, 1));
            all.push(op(BPF_LD | BPF_IMM, ALLOW));
            all.push(op(BPF_RET | BPF_A, 0));
            all
        }),
        (
            "middle",
            vec![op(LOAD, 0), op(BPF_JMP | BPF_JA, 100)]
                .into_iter()
                .chain(vec![op(RET, ALLOW); 200])
                .collect(),
        ),
    ] {
        in_child(|| {
            say!(o, "{name}: {}", count(&program));
            0
        });
    }
}
