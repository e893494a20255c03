//! Times a call of guest code to the platform's host side and back, beside the raw primitive: a
//! traced process under PTRACE_SYSEMU, with GETREGS and SETREGS, on one CPU with its tracer.
//!
//! Prints `name ratio` lines, with the times behind them.

// UNSAFETY: the raw side forks and traces by hand.
#![expect(unsafe_code, reason = "the raw primitive")]

use platform_api::ops::Protection;
use platform_api::{Backing, Engine, Exit, Op, Platform, Registers};
use platform_ptrace::Ptrace;
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

const ROUNDS: u32 = 10_000;
/// How often both sides are measured, in turn; the best of each counts, since what else runs on
/// the machine only ever makes them slower.
const TURNS: u32 = 7;
const CODE: u64 = 0x40_0000;
/// 1: mov eax, 110; syscall; jmp 1b
const GUEST: [u8; 9] = [0xb8, 0x6e, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

fn bind(pid: i32, cpu: usize) {
    // SAFETY: an empty set, one CPU added, handed over by its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(pid, size_of_val(&set), &raw const set);
    }
}

/// The primitive, on `cpu`.
fn raw(cpu: usize, start: &Barrier) -> Duration {
    bind(0, cpu);
    // SAFETY: the child makes only calls; the parent traces it with valid pointers.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
            libc::kill(libc::getpid(), libc::SIGSTOP);
            loop {
                libc::syscall(libc::SYS_getppid);
            }
        }
        let mut status = 0;
        libc::waitpid(pid, &raw mut status, 0);
        libc::ptrace(libc::PTRACE_SETOPTIONS, pid, 0, libc::PTRACE_O_EXITKILL);
        let mut regs: libc::user_regs_struct = std::mem::zeroed();
        let mut round = || {
            libc::ptrace(libc::PTRACE_SYSEMU, pid, 0, 0);
            libc::waitpid(pid, &raw mut status, libc::__WALL);
            libc::ptrace(libc::PTRACE_GETREGS, pid, 0, &raw mut regs);
            regs.rax = 1;
            regs.orig_rax = u64::MAX;
            libc::ptrace(libc::PTRACE_SETREGS, pid, 0, &raw const regs);
        };
        (0..ROUNDS / 10).for_each(|_| round());
        start.wait();
        let begin = Instant::now();
        (0..ROUNDS).for_each(|_| round());
        let took = begin.elapsed();
        libc::kill(pid, libc::SIGKILL);
        libc::waitpid(pid, &raw mut status, libc::__WALL);
        took / ROUNDS
    }
}

/// The platform, wherever the host puts us.
fn whole(engine: &Arc<dyn Engine>, file: &Arc<OwnedFd>, start: &Barrier) -> Duration {
    let space = engine.new_space().expect("a space");
    let backing = Backing {
        file: file.clone(),
        offset: 0,
    };
    let access = Protection::READ | Protection::EXECUTE;
    space
        .apply(&[Op::Map {
            addr: CODE,
            len: 4096,
            backing,
            access,
        }])
        .expect("a mapping");
    let mut context = engine.new_context().expect("a context");
    let mut regs = Registers {
        rip: CODE,
        ..Registers::user()
    };
    let mut round = || {
        let exit = context.switch(&space, &mut regs).expect("a switch");
        assert_eq!(exit, Exit::Syscall);
        regs.rax = 1;
    };
    (0..ROUNDS / 10).for_each(|_| round());
    start.wait();
    let begin = Instant::now();
    (0..ROUNDS).for_each(|_| round());
    let took = begin.elapsed() / ROUNDS;
    space.destroy();
    took
}

/// The mean of `threads` at once.
fn mean(threads: usize, one: impl Fn(usize, &Barrier) -> Duration + Sync) -> Duration {
    let start = Barrier::new(threads);
    let total: Duration = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|i| {
                let (one, start) = (&one, &start);
                scope.spawn(move || one(i, start))
            })
            .collect();
        all.into_iter().map(|t| t.join().expect("no panic")).sum()
    });
    total / threads as u32
}

fn main() {
    let engine = Ptrace.boot(None).expect("the platform boots");
    // SAFETY: a new descriptor.
    let file = unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"guest".as_ptr(), 0)) };
    let mut file = std::fs::File::from(file);
    file.write_all(&[GUEST.as_slice(), &[0; 4096]].concat())
        .expect("a guest");
    let file = Arc::new(OwnedFd::from(file));
    for threads in [1, 2, 4] {
        let (mut floor, mut ours) = (Duration::MAX, Duration::MAX);
        for _ in 0..TURNS {
            floor = floor.min(mean(threads, |i, start| raw(i % cpus(), start)));
            ours = ours.min(mean(threads, |_, start| whole(&engine, &file, start)));
        }
        let ratio = ours.as_secs_f64() / floor.as_secs_f64();
        println!("ptrace_round_trip_{threads} {ratio:.2}  ({ours:.2?} against {floor:.2?} raw)");
    }
}
