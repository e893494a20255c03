//! ptrace(2): memory, registers, single steps.

use crate::out::Out;
use crate::sys::{child, jump, on, peek, put, seen, zeroed};
use crate::tracing::{
    CODE, finish, go, hex, info, load, peek_word, pt, regs, set_regs, stop, tracee,
};
use crate::util::{anon, as_user, close, map, map_file, mk, open, read, wait_text};
use crate::{cases, k, say, sys, tell};
use libc::*;
use std::ffi::CString;
use std::sync::atomic::Ordering::SeqCst;

cases!(
    ptrace_words,
    ptrace_words_of_a_file,
    ptrace_memory_file,
    ptrace_memory_file_access,
    ptrace_own_memory_file,
    ptrace_user_area,
    ptrace_user_area_refused,
    ptrace_register_sets,
    ptrace_float_registers,
    ptrace_bases,
    ptrace_steps,
    ptrace_steps_over_calls,
    ptrace_steps_over_flags,
    ptrace_steps_into_handlers,
    ptrace_breakpoints,
    ptrace_own_trap_flag,
    ptrace_steps_and_faults,
);

const DATA: usize = 0x2000_0000;

fn mapped(prot: i32) -> i32 {
    tracee(move || {
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
        map(DATA, 8192, PROT_READ | PROT_WRITE, flags);
        put(DATA, b"0123456789abcdef");
        k!(SYS_mprotect, DATA, 8192, prot);
        k!(SYS_kill, k!(SYS_getpid), SIGSTOP);
        k!(SYS_mprotect, DATA, 8192, PROT_READ);
        i32::from(peek(DATA))
    })
}

fn ptrace_words(o: Out) {
    for prot in [
        PROT_READ | PROT_WRITE,
        PROT_READ,
        PROT_NONE,
        PROT_READ | PROT_EXEC,
    ] {
        let a = mapped(prot);
        go(PTRACE_CONT, a, 0);
        let (r, word) = peek_word(a, DATA + 3);
        say!(o, "{prot} {r} {word:#x}");
        tell!(o, "poke" => pt(PTRACE_POKEDATA, a, DATA, 0x4142_4344_4546_4748), "read" => peek_word(a, DATA).1, "text" => pt(PTRACE_PEEKTEXT, a, DATA, 8));
        tell!(o, "cut off" => peek_word(a, DATA + 8190).0, "poke" => pt(PTRACE_POKETEXT, a, DATA + 8190, 1), "nowhere" => peek_word(a, 8).0, "high" => peek_word(a, 1 << 62).0, "top" => peek_word(a, usize::MAX - 3).0);
        tell!(o, "end" => go(PTRACE_CONT, a, 0));
    }
}

fn ptrace_words_of_a_file(o: Out) {
    mk(c"poked", b"contents of a file");
    for flags in [MAP_PRIVATE, MAP_SHARED] {
        let a = tracee(|| {
            let fd = open(c"poked", O_RDONLY, 0).int();
            let at = map_file(fd, 4096, PROT_READ, flags, 0).addr();
            k!(SYS_kill, k!(SYS_getpid), SIGSTOP, at);
            i32::from(peek(at))
        });
        go(PTRACE_CONT, a, 0);
        let at = regs(a).rdx as usize;
        tell!(o, "peek" => peek_word(a, at).1, "poke" => pt(PTRACE_POKEDATA, a, at, 0x58), "peek" => peek_word(a, at).1, "end" => go(PTRACE_CONT, a, 0));
        let fd = open(c"poked", O_RDONLY, 0).int();
        say!(o, "{}", read(fd, 30).1);
        close(fd);
    }
}

fn memory_of(pid: i32, flags: i32) -> sys::R {
    let path = CString::new(format!("/proc/{pid}/mem")).unwrap_or_default();
    open(&path, flags, 0)
}

fn ptrace_memory_file(o: Out) {
    let a = mapped(PROT_READ);
    go(PTRACE_CONT, a, 0);
    let fd = memory_of(a, O_RDWR);
    tell!(o, "open" => fd.yes());
    let mut buf = [0u8; 8];
    tell!(o, "pread" => k!(SYS_pread64, fd, &mut buf, 8, DATA), "bytes" => hex(&buf, 8));
    tell!(o, "pwrite" => k!(SYS_pwrite64, fd, b"ABCD".as_slice(), 4, DATA + 2), "seek" => k!(SYS_lseek, fd, DATA + 1, SEEK_SET), "read" => k!(SYS_read, fd, &mut buf, 8), "bytes" => hex(&buf, 8), "position" => k!(SYS_lseek, fd, 0, SEEK_CUR));
    tell!(o, "from end" => k!(SYS_lseek, fd, 0, SEEK_END), "data" => k!(SYS_lseek, fd, 0, SEEK_DATA));
    let mut big = vec![0u8; 5 * 4096];
    tell!(o, "up to a gap" => k!(SYS_pread64, fd, big.as_mut_ptr(), 5 * 4096, DATA + 100), "nothing" => k!(SYS_pread64, fd, &mut buf, 8, 16), "write nothing" => k!(SYS_pwrite64, fd, &buf, 8, 16), "none" => k!(SYS_pread64, fd, &mut buf, 0, 16), "bad" => k!(SYS_pread64, fd, 8usize, 8, DATA));
    tell!(o, "end" => go(PTRACE_CONT, a, 0), "after it" => k!(SYS_pread64, fd, &mut buf, 8, DATA), "write" => k!(SYS_pwrite64, fd, &buf, 8, DATA));
    close(fd.int());
}

fn ptrace_memory_file_access(o: Out) {
    let a = child(|| {
        loop {
            k!(SYS_pause);
        }
    });
    // Whoever may trace it need not.
    let fd = memory_of(a, O_RDONLY);
    let mut buf = [0u8; 8];
    let at = std::ptr::from_ref(&CODE) as usize;
    tell!(o, "open" => fd.yes(), "read" => k!(SYS_pread64, fd, &mut buf, 8, at), "write" => k!(SYS_pwrite64, fd, &buf, 8, at));
    close(fd.int());
    say!(
        o,
        "{}",
        as_user(|| {
            tell!(o, "user" => memory_of(a, O_RDONLY));
        })
    );
    tell!(o, "end" => finish(a));
}

fn ptrace_own_memory_file(o: Out) {
    let at = anon(4096);
    put(at, b"mine");
    k!(SYS_mprotect, at, 4096, PROT_READ);
    let fd = open(c"/proc/self/mem", O_RDWR, 0);
    let mut buf = [0u8; 4];
    tell!(o, "write" => k!(SYS_pwrite64, fd, b"Y".as_slice(), 1, at), "read" => k!(SYS_pread64, fd, &mut buf, 4, at), "bytes" => hex(&buf, 4), "seen" => peek(at));
    close(fd.int());
}

fn ptrace_user_area(o: Out) {
    let a = tracee(|| 0);
    for at in [
        0,
        8,
        112,
        120,
        136,
        144,
        160,
        216,
        224,
        848,
        856,
        896,
        904,
        912,
        920,
        4,
        928,
        936,
        usize::MAX,
    ] {
        let mut word = 0u64;
        let r = pt(PTRACE_PEEKUSER, a, at, &raw mut word as usize);
        let shown = if matches!(at, 0 | 8 | 112) { 0 } else { word };
        say!(o, "{at} {r} {shown:#x}");
    }
    let r = regs(a);
    let mut rip = 0u64;
    pt(PTRACE_PEEKUSER, a, 128, &raw mut rip as usize);
    tell!(o, "rip" => rip == r.rip, "poke" => pt(PTRACE_POKEUSER, a, 0, 77), "r15" => regs(a).r15);
    set_regs(a, &r);
    tell!(o, "end" => finish(a));
}

fn ptrace_user_area_refused(o: Out) {
    let a = tracee(|| 0);
    let values = [
        (136, 0x33),
        (136, 0),
        (136, 0x10),
        (160, 0x2b),
        (160, 0),
        (168, 1 << 47),
        (168, 0x1000),
        (176, usize::MAX),
        (184, 0),
        (184, 1),
        (208, 0x2b),
        (144, 0x3f_ffff),
        (144, 0),
        (216, 1),
        (880, 1),
        (900, 1),
        (4, 1),
        (928, 0),
    ];
    for (at, value) in values {
        say!(o, "{at} {value:#x} {}", pt(PTRACE_POKEUSER, a, at, value));
    }
    say!(o, "{:#x}", regs(a).eflags);
    pt(PTRACE_POKEUSER, a, 144, 0x3f_ffff);
    say!(o, "{:#x}", regs(a).eflags);
    let mut r = regs(a);
    (r.r15, r.cs, r.rip) = (5, 0, 9);
    tell!(o, "set" => set_regs(a, &r), "up to it" => regs(a).r15, "not after" => regs(a).rip != 9, "end" => finish(a));
}

fn ptrace_register_sets(o: Out) {
    let a = tracee(|| 0);
    for kind in [0, 1, 2, 3, 4, 0x203, 0x300] {
        for len in [4096, 216, 512, 8, 0, 4] {
            let mut buf = vec![0u8; 4096];
            let mut iov = [buf.as_mut_ptr() as usize, len];
            let r = pt(PTRACE_GETREGSET, a, kind, iov.as_mut_ptr() as usize);
            say!(o, "{kind:#x} {len} {r} {}", iov[1]);
        }
    }
    let mut r = regs(a);
    r.r15 = 1234;
    let mut iov = [&raw mut r as usize, 8];
    tell!(o, "set one" => pt(PTRACE_SETREGSET, a, 1, iov.as_mut_ptr() as usize), "r15" => regs(a).r15, "len" => iov[1]);
    iov[1] = 4;
    tell!(o, "odd" => pt(PTRACE_SETREGSET, a, 1, iov.as_mut_ptr() as usize), "bad" => pt(PTRACE_SETREGSET, a, 1, 8), "end" => finish(a));
}

fn ptrace_float_registers(o: Out) {
    let a = tracee(|| {
        // movq xmm0, rax; ud2 is not reached: fld1; mov eax, 77; movd xmm1, eax; int3; movd eax, xmm1; ret
        load(&[
            0xd9, 0xe8, 0xb8, 77, 0, 0, 0, 0x66, 0x0f, 0x6e, 0xc8, 0xcc, 0x66, 0x0f, 0x7e, 0xc8,
            0xdd, 0xd8, 0xc3,
        ]);
        jump(CODE) as i32
    });
    tell!(o, "there" => go(PTRACE_CONT, a, 0));
    let mut f: user_fpregs_struct = zeroed();
    tell!(o, "get" => pt(PTRACE_GETFPREGS, a, 0, &raw mut f as usize), "control" => f.cwd, "mxcsr" => f.mxcsr, "st0" => hex(&f.st_space, 10), "xmm1" => f.xmm_space[4]);
    f.xmm_space[4] = 99;
    tell!(o, "set" => pt(PTRACE_SETFPREGS, a, 0, &raw const f as usize));
    f.mxcsr = u32::MAX;
    tell!(o, "bad" => pt(PTRACE_SETFPREGS, a, 0, &raw const f as usize));
    let mut state = vec![0u64; 1024];
    let mut iov = [state.as_mut_ptr() as usize, 8192];
    tell!(o, "extended" => pt(PTRACE_GETREGSET, a, 0x202, iov.as_mut_ptr() as usize), "xmm1" => state[22], "enough" => iov[1] >= 576);
    let whole = iov[1];
    iov[1] = 576;
    if whole != 576 {
        tell!(o, "part" => pt(PTRACE_SETREGSET, a, 0x202, iov.as_mut_ptr() as usize));
    }
    iov[1] = whole;
    state[22] = 55;
    tell!(o, "whole" => pt(PTRACE_SETREGSET, a, 0x202, iov.as_mut_ptr() as usize));
    state[65] = 1;
    tell!(o, "odd header" => pt(PTRACE_SETREGSET, a, 0x202, iov.as_mut_ptr() as usize), "end" => go(PTRACE_CONT, a, 0));
}

fn ptrace_bases(o: Out) {
    let a = tracee(|| 0);
    let mut base = 0u64;
    let at = &raw mut base as usize;
    tell!(o, "fs" => pt(30, a, at, 0x1003), "same" => base == regs(a).fs_base, "gs" => pt(30, a, 0x5000, 0x1001), "get" => pt(30, a, at, 0x1004), "is" => base, "bad" => pt(30, a, usize::MAX, 0x1001), "unknown" => pt(30, a, 0, 5), "end" => finish(a));
}

/// Steps `n` times and says where it is.
fn steps(o: Out, pid: i32, n: usize) {
    for _ in 0..n {
        let text = go(PTRACE_SINGLESTEP, pid, 0);
        let r = regs(pid);
        say!(
            o,
            "{text} {} at {:#x} flags {:#x}",
            info(pid),
            r.rip.wrapping_sub(CODE as u64) & 0xffff,
            r.eflags & 0x500
        );
    }
}

/// Runs machine code behind an `int3`, at which it has stopped.
fn at_code(code: &'static [u8]) -> i32 {
    let a = tracee(move || {
        load(&[&[0xcc], code, &[0xc3]].concat());
        jump(CODE) as i32
    });
    go(PTRACE_CONT, a, 0);
    a
}

fn ptrace_steps(o: Out) {
    // mov eax, 3; dec eax; jnz -4; cld; rep stosb of nothing; nop
    let a = at_code(&[
        0xb8, 3, 0, 0, 0, 0xff, 0xc8, 0x75, 0xfc, 0xfc, 0x31, 0xc9, 0xf3, 0xaa, 0x90,
    ]);
    say!(o, "{}", info(a));
    steps(o, a, 11);
    tell!(o, "end" => go(PTRACE_CONT, a, 0));
}

fn ptrace_steps_over_calls(o: Out) {
    // mov eax, 39; syscall; nop; mov eax, 39; syscall; xor eax, eax
    let a = at_code(&[
        0xb8, 39, 0, 0, 0, 0x0f, 5, 0x90, 0xb8, 39, 0, 0, 0, 0x0f, 5, 0x31, 0xc0,
    ]);
    pt(PTRACE_SETOPTIONS, a, 0, PTRACE_O_TRACESYSGOOD as usize);
    steps(o, a, 3);
    tell!(o, "result" => regs(a).rax == a as u64, "own flag" => regs(a).r11 & 0x100);
    tell!(o, "entry" => go(PTRACE_SYSCALL, a, 0));
    steps(o, a, 2);
    tell!(o, "end" => go(PTRACE_CONT, a, 0));
}

fn ptrace_steps_over_flags(o: Out) {
    // pushf; pop rax; pushf; popf; nop; pushf; or qword [rsp], 0x100; popf; nop; nop; pushf;
    // and qword [rsp], ~0x100; popf; nop; xor eax, eax
    let a = at_code(&[
        0x9c, 0x58, 0x9c, 0x9d, 0x90, 0x9c, 0x48, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d, 0x90, 0x90,
        0x9c, 0x48, 0x81, 0x24, 0x24, 0xff, 0xfe, 0xff, 0xff, 0x9d, 0x90, 0x31, 0xc0,
    ]);
    steps(o, a, 2);
    tell!(o, "pushed" => regs(a).rax & 0x100);
    steps(o, a, 13);
    tell!(o, "end" => go(PTRACE_CONT, a, 0));
}

fn ptrace_steps_into_handlers(o: Out) {
    let a = tracee(|| {
        on(SIGUSR1, SA_SIGINFO);
        load(&[0xcc, 0x90, 0x90, 0x31, 0xc0, 0xc3]);
        let r = jump(CODE) as i32;
        say!(o, "handled {}", seen(SIGUSR1).count.load(SeqCst));
        r
    });
    go(PTRACE_CONT, a, 0);
    k!(SYS_tgkill, a, a, SIGUSR1);
    tell!(o, "shown" => go(PTRACE_SINGLESTEP, a, 0), "info" => info(a), "where" => regs(a).rip as usize - CODE);
    tell!(o, "handler" => go(PTRACE_SINGLESTEP, a, SIGUSR1), "info" => info(a), "argument" => regs(a).rdi, "flag" => regs(a).eflags & 0x100);
    tell!(o, "inside" => go(PTRACE_SINGLESTEP, a, 0), "info" => info(a), "end" => go(PTRACE_CONT, a, 0));
}

fn ptrace_breakpoints(o: Out) {
    let a = at_code(&[0x90, 0x90, 0x90, 0x31, 0xc0]);
    let (_, word) = peek_word(a, CODE + 2);
    tell!(o, "plant" => pt(PTRACE_POKETEXT, a, CODE + 2, (word as usize & !0xff) | 0xcc), "hit" => go(PTRACE_CONT, a, 0), "info" => info(a), "where" => regs(a).rip as usize - CODE);
    pt(PTRACE_POKETEXT, a, CODE + 2, word as usize);
    let mut r = regs(a);
    r.rip -= 1;
    set_regs(a, &r);
    steps(o, a, 2);
    tell!(o, "end" => go(PTRACE_CONT, a, 0));
}

fn ptrace_own_trap_flag(o: Out) {
    // Without a tracer: pushf; or qword [rsp], 0x100; popf; nop; mov eax, 39; syscall; nop; pushf;
    // and qword [rsp], ~0x100; popf; xor eax, eax; ret
    let code = [
        0x9c, 0x48, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d, 0x90, 0xb8, 39, 0, 0, 0, 0x0f, 5, 0x90,
        0x9c, 0x48, 0x81, 0x24, 0x24, 0xff, 0xfe, 0xff, 0xff, 0x9d, 0x31, 0xc0, 0xc3,
    ];
    let a = child(|| {
        on(SIGTRAP, SA_SIGINFO);
        load(&code);
        jump(CODE);
        let s = seen(SIGTRAP);
        tell!(o, "traps" => s.count.load(SeqCst), "code" => s.code.load(SeqCst));
        0
    });
    tell!(o, "alone" => wait_text(a));
    let a = tracee(move || {
        load(&code);
        jump(CODE) as i32
    });
    for _ in 0..9 {
        let text = go(PTRACE_CONT, a, 0);
        if !text.starts_with("stopped") {
            say!(o, "{text}");
            return;
        }
        let r = regs(a);
        say!(
            o,
            "{text} {} at {:#x} {:#x}",
            info(a),
            r.rip as usize - CODE,
            r.eflags & 0x100
        );
    }
    tell!(o, "end" => finish(a));
}

fn ptrace_steps_and_faults(o: Out) {
    // mov al, [0x2000_0000]; nop; ud2
    let a = at_code(&[0x8a, 0x04, 0x25, 0, 0, 0, 0x20, 0x90, 0x0f, 0x0b]);
    steps(o, a, 2);
    tell!(o, "stays" => pt(PTRACE_CONT, a, 0, 0), "again" => stop(a));
    let mut r = regs(a);
    r.rip = CODE as u64 + 8;
    set_regs(a, &r);
    steps(o, a, 2);
    tell!(o, "end" => go(PTRACE_CONT, a, SIGILL));
}
