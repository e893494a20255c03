//! Signals that the processor causes.

use crate::out::Out;
use crate::sys::{
    Access, Trap, count, on, scribble, seen, set_handler, touch, trap, vector_survives,
};
use crate::util::{PAGE, anon, bit, in_child, map_file, mask, mk, open, signal_name};
use crate::{cases, k, say, sys, tell};
use libc::*;
use std::sync::atomic::Ordering::SeqCst;

cases!(
    undefined_instruction,
    breakpoint,
    divide_by_zero,
    privileged_instruction,
    non_canonical_address,
    fault_default_kills,
    fault_blocked_kills,
    fault_ignored_kills,
    fault_codes,
    fault_error_bits,
    bus_error_beyond_file,
    fault_in_child_only,
    vector_registers_in_handler,
    vector_registers_over_calls,
    stack_overflow_on_alternate_stack,
    handler_address_bad,
    fault_in_kernel_copy,
    repeated_faults,
    trap_then_continue,
    vsyscall_page,
    unknown_calls,
);

fn undefined_instruction(o: Out) {
    on(SIGILL, 0);
    trap(Trap::Undefined);
    tell!(o, "count" => count(SIGILL), "code" => seen(SIGILL).code.load(SeqCst), "addr" => seen(SIGILL).addr.load(SeqCst) != 0);
}

fn breakpoint(o: Out) {
    on(SIGTRAP, 0);
    trap(Trap::Breakpoint);
    tell!(o, "count" => count(SIGTRAP), "code" => seen(SIGTRAP).code.load(SeqCst));
}

fn divide_by_zero(o: Out) {
    on(SIGFPE, 0);
    trap(Trap::Divide);
    tell!(o, "count" => count(SIGFPE), "code" => seen(SIGFPE).code.load(SeqCst), "addr" => seen(SIGFPE).addr.load(SeqCst) != 0);
}

fn privileged_instruction(o: Out) {
    on(SIGSEGV, 0);
    trap(Trap::Privileged);
    tell!(o, "count" => count(SIGSEGV), "code" => seen(SIGSEGV).code.load(SeqCst), "addr" => seen(SIGSEGV).addr.load(SeqCst));
}

fn non_canonical_address(o: Out) {
    on(SIGSEGV, 0);
    trap(Trap::NonCanonical);
    tell!(o, "count" => count(SIGSEGV), "code" => seen(SIGSEGV).code.load(SeqCst), "addr" => seen(SIGSEGV).addr.load(SeqCst));
}

fn crash(which: Trap, signal: i32, prepare: impl FnOnce()) -> String {
    in_child(|| {
        set_handler(signal, SIG_DFL, 0);
        prepare();
        trap(which);
        0
    })
}

const EACH: [(Trap, i32); 5] = [
    (Trap::Undefined, SIGILL),
    (Trap::Breakpoint, SIGTRAP),
    (Trap::Divide, SIGFPE),
    (Trap::Privileged, SIGSEGV),
    (Trap::NonCanonical, SIGSEGV),
];

fn fault_default_kills(o: Out) {
    for (t, s) in EACH {
        say!(o, "{}", crash(t, s, || {}));
    }
}

fn fault_blocked_kills(o: Out) {
    for (t, s) in EACH {
        say!(
            o,
            "{}",
            crash(t, s, || {
                on(s, 0);
                mask(SIG_BLOCK, bit(s));
            })
        );
    }
}

fn fault_ignored_kills(o: Out) {
    for (t, s) in EACH {
        say!(o, "{}", crash(t, s, || set_handler(s, SIG_IGN, 0)));
    }
}

fn fault_codes(o: Out) {
    let a = anon(2 * PAGE);
    k!(SYS_mprotect, a, PAGE, PROT_NONE);
    k!(SYS_munmap, a + PAGE, PAGE);
    for (name, addr) in [
        ("protected", a + 5),
        ("unmapped", a + PAGE + 5),
        ("null", 0),
        ("kernel", 0xffff_8880_0000_0000),
    ] {
        for access in [Access::Read, Access::Write, Access::Execute] {
            let f = touch(addr, access);
            say!(
                o,
                "{name}: {} code {} exact {}",
                signal_name(f.signal),
                f.code,
                f.addr == addr
            );
        }
    }
}

fn fault_error_bits(o: Out) {
    let a = anon(PAGE);
    k!(SYS_mprotect, a, PAGE, PROT_READ);
    k!(SYS_munmap, 0x5000_0000, PAGE);
    for (name, addr, access) in [
        ("read", 0x5000_0000, Access::Read),
        ("write", 0x5000_0000, Access::Write),
        ("write to read-only", a, Access::Write),
    ] {
        let f = touch(addr, access);
        say!(
            o,
            "{name}: write {} user {}",
            f.err & 2 != 0,
            f.err & 4 != 0
        );
    }
}

fn bus_error_beyond_file(o: Out) {
    mk(c"f", b"short");
    let fd = open(c"f", O_RDWR, 0).int();
    for (name, flags) in [("shared", MAP_SHARED), ("private", MAP_PRIVATE)] {
        let m = map_file(fd, 3 * PAGE, PROT_READ | PROT_WRITE, flags, 0).addr();
        for (what, access) in [("read", Access::Read), ("write", Access::Write)] {
            let near = touch(m + 100, access);
            let far = touch(m + PAGE + 7, access);
            say!(
                o,
                "{name} {what}: {} / {} code {} exact {}",
                near.signal,
                signal_name(far.signal),
                far.code,
                far.addr == m + PAGE + 7
            );
        }
    }
}

fn fault_in_child_only(o: Out) {
    let a = anon(PAGE);
    tell!(o, "child" => in_child(|| { k!(SYS_munmap, a, PAGE); i32::from(touch(a, Access::Write).signal == SIGSEGV) }), "mine" => touch(a, Access::Write).signal);
}

fn timer(us: i64) {
    let it = itimerval {
        it_interval: sys::zeroed(),
        it_value: timeval {
            tv_sec: 0,
            tv_usec: us,
        },
    };
    k!(SYS_setitimer, ITIMER_REAL, &it, 0);
}

fn vector_registers_in_handler(o: Out) {
    set_handler(SIGALRM, scribble as *const () as usize, 0);
    let mut fine = 0;
    for _ in 0..5 {
        seen(SIGALRM).count.store(0, SeqCst);
        timer(20_000);
        fine += i32::from(vector_survives(SIGALRM));
    }
    tell!(o, "survived" => fine);
}

fn vector_registers_over_calls(o: Out) {
    // Two processes with values of their own, handed over to each other.
    let (r, w) = crate::util::pipe();
    let kid = sys::child(|| {
        set_handler(SIGALRM, scribble as *const () as usize, 0);
        timer(60_000);
        let ok = vector_survives(SIGALRM);
        crate::util::write(w, b"x");
        i32::from(ok)
    });
    set_handler(SIGALRM, scribble as *const () as usize, 0);
    timer(60_000);
    let ok = vector_survives(SIGALRM);
    tell!(o, "mine" => ok, "read" => crate::util::read(r, 1).1, "child's" => crate::util::wait_text(kid));
}

#[expect(unconditional_recursion, reason = "it is meant to run out of stack")]
fn deeper(n: u64) -> u64 {
    let room = std::hint::black_box([n; 512]);
    deeper(n + 1) + room[(n % 512) as usize]
}

extern "C" fn leave(_: i32) {
    k!(SYS_exit_group, 42);
}

fn stack_overflow_on_alternate_stack(o: Out) {
    let small = rlimit {
        rlim_cur: 256 * 1024,
        rlim_max: RLIM_INFINITY,
    };
    let end = in_child(|| {
        k!(SYS_prlimit64, 0, RLIMIT_STACK, &small, 0);
        let m = anon(65536);
        k!(
            SYS_sigaltstack,
            &stack_t {
                ss_sp: m as *mut c_void,
                ss_flags: 0,
                ss_size: 65536
            },
            0
        );
        set_handler(SIGSEGV, leave as *const () as usize, SA_ONSTACK);
        deeper(0) as i32
    });
    tell!(o, "handled" => end);
    let end = in_child(|| {
        k!(SYS_prlimit64, 0, RLIMIT_STACK, &small, 0);
        k!(
            SYS_sigaltstack,
            &stack_t {
                ss_sp: std::ptr::null_mut(),
                ss_flags: SS_DISABLE,
                ss_size: 0
            },
            0
        );
        set_handler(SIGSEGV, leave as *const () as usize, 0);
        deeper(0) as i32
    });
    tell!(o, "no room for the frame" => end);
}

fn handler_address_bad(o: Out) {
    tell!(o, "end" => in_child(|| { set_handler(SIGUSR1, 0x1000, 0); k!(SYS_kill, k!(SYS_getpid), SIGUSR1); 0 }));
}

fn fault_in_kernel_copy(o: Out) {
    // A bad pointer to a system call is an error, never a signal.
    on(SIGSEGV, 0);
    let a = anon(PAGE);
    k!(SYS_mprotect, a, PAGE, PROT_NONE);
    let fd = open(c"/dev/zero", O_RDWR, 0).int();
    tell!(o, "read" => k!(SYS_read, fd, a, 10), "pipe" => k!(SYS_pipe2, a, 0), "stat" => k!(SYS_newfstatat, AT_FDCWD, c".", a, 0), "path" => k!(SYS_chdir, a), "uname" => k!(SYS_uname, a), "signals" => count(SIGSEGV));
}

fn repeated_faults(o: Out) {
    let a = anon(64 * PAGE);
    k!(SYS_mprotect, a, 64 * PAGE, PROT_NONE);
    let mut right = 0;
    for i in 0..640 {
        let at = a + (i % 64) * PAGE + i % 8;
        let f = touch(
            at,
            if i % 2 == 0 {
                Access::Read
            } else {
                Access::Write
            },
        );
        right += i32::from(f.signal == SIGSEGV && f.addr == at && f.code == 2);
    }
    tell!(o, "right" => right);
}

fn trap_then_continue(o: Out) {
    on(SIGTRAP, 0);
    for _ in 0..50 {
        trap(Trap::Breakpoint);
    }
    tell!(o, "count" => count(SIGTRAP));
}

fn vsyscall_page(o: Out) {
    // Its data cannot be read by kernels of today.
    let f = touch(0xffff_ffff_ff60_1000, Access::Read);
    tell!(o, "beyond" => signal_name(f.signal), "code" => f.code);
}

fn unknown_calls(o: Out) {
    for nr in [340, 400, 600, 1000, 100_000, -1, i64::from(i32::MAX)] {
        say!(o, "{nr} {}", sys::call(nr, &[]));
    }
    // The upper half of the number is not looked at.
    say!(
        o,
        "{}",
        sys::call(SYS_getppid | 1 << 40, &[]) == k!(SYS_getppid)
    );
}
