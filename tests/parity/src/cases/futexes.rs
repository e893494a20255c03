//! Futexes by their raw calls.

use crate::out::Out;
use crate::sys::{child, word};
use crate::util::{PAGE, anon, map, now_ms, shared, sleep_ms, wait_text};
use crate::{cases, k, sys, tell};
use libc::*;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

cases!(
    shared_words_that_cannot_be_read,
    wait_value_differs,
    wait_times_out,
    wake_counts,
    private_and_shared_are_apart,
    shared_between_processes,
    shared_by_file,
    bitsets,
    absolute_timeouts,
    requeue,
    compare_requeue,
    wake_operation,
    futex_arguments,
    robust_list,
    wake_order,
    waits_on_read_only_memory,
    ping_pong,
);

const P: i32 = FUTEX_PRIVATE_FLAG;

fn futex(addr: usize, op: i32, val: u32, arg: usize, addr2: usize, val3: u32) -> sys::R {
    k!(SYS_futex, addr, op, val, arg, addr2, val3)
}

fn ms(n: i64) -> timespec {
    timespec {
        tv_sec: n / 1000,
        tv_nsec: n % 1000 * 1_000_000,
    }
}

fn at(t: &timespec) -> usize {
    std::ptr::from_ref(t) as usize
}

/// Threads that wait at `m`, and how many of them had been woken when asked.
fn waiters(m: usize, n: usize, op: i32) -> Vec<thread::JoinHandle<i64>> {
    let all = (0..n)
        .map(|_| {
            thread::spawn(move || {
                let r = futex(m, op, 0, at(&ms(4000)), 0, u32::MAX);
                word(m + 2048).fetch_add(1, SeqCst);
                r.0
            })
        })
        .collect();
    sleep_ms(120);
    all
}

fn results(all: Vec<thread::JoinHandle<i64>>) -> String {
    let mut v: Vec<i64> = all.into_iter().filter_map(|t| t.join().ok()).collect();
    v.sort_unstable();
    format!("{v:?}")
}

fn wait_value_differs(o: Out) {
    let m = anon(4096);
    tell!(o, "differs" => futex(m, FUTEX_WAIT | P, 1, 0, 0, 0), "bitset" => futex(m, FUTEX_WAIT_BITSET | P, 1, 0, 0, 1), "nobody to wake" => futex(m, FUTEX_WAKE | P, 10, 0, 0, 0));
}

fn wait_times_out(o: Out) {
    let m = anon(4096);
    let t = now_ms();
    tell!(o, "wait" => futex(m, FUTEX_WAIT | P, 0, at(&ms(60)), 0, 0), "long enough" => now_ms() - t >= 60, "zero" => futex(m, FUTEX_WAIT | P, 0, at(&ms(0)), 0, 0),
        "negative" => futex(m, FUTEX_WAIT | P, 0, at(&timespec { tv_sec: -1, tv_nsec: 0 }), 0, 0), "nsec" => futex(m, FUTEX_WAIT | P, 0, at(&timespec { tv_sec: 0, tv_nsec: 1 << 30 }), 0, 0));
}

fn wake_counts(o: Out) {
    let m = anon(4096);
    let all = waiters(m, 5, FUTEX_WAIT | P);
    tell!(o, "two" => futex(m, FUTEX_WAKE | P, 2, 0, 0, 0));
    sleep_ms(60);
    tell!(o, "woken" => word(m + 2048).load(SeqCst), "rest" => futex(m, FUTEX_WAKE | P, i32::MAX as u32, 0, 0, 0), "results" => results(all));
}

fn private_and_shared_are_apart(o: Out) {
    let m = anon(4096);
    let all = waiters(m, 1, FUTEX_WAIT | P);
    tell!(o, "shared wake" => futex(m, FUTEX_WAKE, 1, 0, 0, 0), "private wake" => futex(m, FUTEX_WAKE | P, 1, 0, 0, 0), "results" => results(all));
}

fn shared_between_processes(o: Out) {
    let m = shared(4096);
    let kid = child(|| {
        let r = futex(m, FUTEX_WAIT, 0, at(&ms(4000)), 0, 0);
        i32::from(r.0 == 0)
    });
    sleep_ms(80);
    tell!(o, "private does not reach" => futex(m, FUTEX_WAKE | P, 1, 0, 0, 0), "wake" => futex(m, FUTEX_WAKE, 1, 0, 0, 0), "child" => wait_text(kid));
    let a = anon(4096);
    let kid = child(|| {
        let r = futex(a, FUTEX_WAIT, 0, at(&ms(150)), 0, 0);
        i32::from(r.0 == i64::from(-ETIMEDOUT))
    });
    sleep_ms(60);
    tell!(o, "not through private memory" => futex(a, FUTEX_WAKE, 1, 0, 0, 0), "child" => wait_text(kid));
}

fn shared_by_file(o: Out) {
    crate::util::mk(c"f", &[0u8; 8192]);
    let fd = crate::util::open(c"f", O_RDWR, 0).int();
    let map = || crate::util::map_file(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, 4096).addr();
    let (a, b) = (map(), map());
    let t = thread::spawn(move || futex(a + 8, FUTEX_WAIT, 0, at(&ms(4000)), 0, 0).0);
    sleep_ms(80);
    tell!(o, "by other mapping" => futex(b + 8, FUTEX_WAKE, 1, 0, 0, 0), "result" => t.join().unwrap_or(-1));
}

fn bitsets(o: Out) {
    let m = anon(4096);
    let start = |bits: u32| {
        let t = thread::spawn(move || {
            let mut end: timespec = sys::zeroed();
            k!(SYS_clock_gettime, CLOCK_MONOTONIC, &mut end);
            end.tv_sec += 4;
            futex(m, FUTEX_WAIT_BITSET | P, 0, at(&end), 0, bits).0
        });
        sleep_ms(60);
        t
    };
    let (a, b) = (start(1), start(6));
    tell!(o, "none" => futex(m, FUTEX_WAKE_BITSET | P, 9, 0, 0, 8), "second" => futex(m, FUTEX_WAKE_BITSET | P, 9, 0, 0, 2), "b" => b.join().unwrap_or(-1), "any" => futex(m, FUTEX_WAKE | P, 9, 0, 0, 0), "a" => a.join().unwrap_or(-1), "empty set" => futex(m, FUTEX_WAKE_BITSET | P, 1, 0, 0, 0), "empty wait" => futex(m, FUTEX_WAIT_BITSET | P, 0, 0, 0, 0));
}

fn absolute_timeouts(o: Out) {
    let m = anon(4096);
    for clock in [CLOCK_MONOTONIC, CLOCK_REALTIME] {
        let flag = if clock == CLOCK_REALTIME {
            FUTEX_CLOCK_REALTIME
        } else {
            0
        };
        let mut end: timespec = sys::zeroed();
        k!(SYS_clock_gettime, clock, &mut end);
        tell!(o, "past" => futex(m, FUTEX_WAIT_BITSET | P | flag, 0, at(&end), 0, u32::MAX));
        end.tv_nsec += 50_000_000;
        if end.tv_nsec >= 1_000_000_000 {
            end.tv_nsec -= 1_000_000_000;
            end.tv_sec += 1;
        }
        let t = now_ms();
        tell!(o, "soon" => futex(m, FUTEX_WAIT_BITSET | P | flag, 0, at(&end), 0, u32::MAX), "waited" => now_ms() - t >= 30);
    }
}

fn requeue(o: Out) {
    let m = anon(4096);
    let all = waiters(m, 4, FUTEX_WAIT | P);
    tell!(o, "wake one, move two" => futex(m, FUTEX_REQUEUE | P, 1, 2, m + 64, 0));
    sleep_ms(60);
    tell!(o, "woken" => word(m + 2048).load(SeqCst), "at first" => futex(m, FUTEX_WAKE | P, 9, 0, 0, 0), "at second" => futex(m + 64, FUTEX_WAKE | P, 9, 0, 0, 0), "results" => results(all));
}

fn compare_requeue(o: Out) {
    let m = anon(4096);
    let all = waiters(m, 3, FUTEX_WAIT | P);
    tell!(o, "differs" => futex(m, FUTEX_CMP_REQUEUE | P, 1, 9, m + 64, 5), "same" => futex(m, FUTEX_CMP_REQUEUE | P, 1, 9, m + 64, 0), "first" => futex(m, FUTEX_WAKE | P, 9, 0, 0, 0), "second" => futex(m + 64, FUTEX_WAKE | P, 9, 0, 0, 0), "results" => results(all));
}

fn wake_operation(o: Out) {
    let m = anon(4096);
    let all = waiters(m, 1, FUTEX_WAIT | P);
    word(m + 64).store(5, SeqCst);
    // *second += 3; wake the second too if it was 9 (it was not).
    let op = 1u32 << 28 | 3 << 12 | 9;
    tell!(o, "wake op" => futex(m, FUTEX_WAKE_OP | P, 1, 1, m + 64, op), "value" => word(m + 64).load(SeqCst), "results" => results(all), "bad op" => futex(m, FUTEX_WAKE_OP | P, 1, 1, m + 64, 7 << 28));
}

fn futex_arguments(o: Out) {
    let m = anon(4096);
    tell!(o, "unaligned" => futex(m + 1, FUTEX_WAIT | P, 0, 0, 0, 0), "unaligned wake" => futex(m + 2, FUTEX_WAKE | P, 1, 0, 0, 0), "null" => futex(0, FUTEX_WAIT | P, 0, 0, 0, 0), "unmapped shared wake" => futex(0x10000, FUTEX_WAKE, 1, 0, 0, 0), "unmapped private wake" => futex(0x10000, FUTEX_WAKE | P, 1, 0, 0, 0),
        "unknown" => futex(m, 77, 0, 0, 0, 0), "bad timeout" => futex(m, FUTEX_WAIT | P, 0, 16, 0, 0), "negative requeue" => futex(m, FUTEX_REQUEUE | P, u32::MAX, 1, m + 64, 0), "kernel address" => futex(usize::MAX - 4095, FUTEX_WAIT, 0, 0, 0, 0));
}

fn robust_list(o: Out) {
    let m = shared(4096);
    let kid = child(|| {
        // One lock in the list: head at m+1024, entry at m+256, word at m+264.
        let tid = k!(SYS_gettid).0 as u32;
        sys::put(m + 1024, &(m + 256).to_ne_bytes());
        sys::put(m + 1032, &8usize.to_ne_bytes());
        sys::put(m + 1040, &0usize.to_ne_bytes());
        sys::put(m + 256, &(m + 1024).to_ne_bytes());
        word(m + 264).store(tid | FUTEX_WAITERS, SeqCst);
        let r = k!(SYS_set_robust_list, m + 1024, 24);
        if !r.ok() {
            return 9;
        }
        sleep_ms(100);
        0
    });
    sleep_ms(40);
    let was = word(m + 264).load(SeqCst);
    tell!(o, "wait" => futex(m + 264, FUTEX_WAIT, was, at(&ms(4000)), 0, 0), "child" => wait_text(kid), "owner died" => word(m + 264).load(SeqCst) & FUTEX_OWNER_DIED != 0, "size" => k!(SYS_set_robust_list, m, 16));
}

fn wake_order(o: Out) {
    let m = anon(4096);
    let mut all = Vec::new();
    for i in 0..3u32 {
        all.push(thread::spawn(move || {
            let r = futex(m, FUTEX_WAIT | P, 0, at(&ms(4000)), 0, 0);
            say_order(m, i);
            r.0
        }));
        sleep_ms(60);
    }
    for _ in 0..3 {
        futex(m, FUTEX_WAKE | P, 1, 0, 0, 0);
        sleep_ms(40);
    }
    tell!(o, "results" => results(all), "order" => format!("{:?}", sys::get(m + 1024, 3)));
}

fn say_order(m: usize, i: u32) {
    let n = word(m + 2048).fetch_add(1, SeqCst) as usize;
    sys::poke(m + 1024 + n.min(9), i as u8);
}

fn waits_on_read_only_memory(o: Out) {
    let m = anon(4096);
    sys::poke(m, 0);
    k!(SYS_mprotect, m, 4096, PROT_READ);
    tell!(o, "private" => futex(m, FUTEX_WAIT | P, 0, at(&ms(10)), 0, 0));
    k!(SYS_mprotect, m, 4096, PROT_NONE);
    tell!(o, "no access" => futex(m, FUTEX_WAIT | P, 0, at(&ms(10)), 0, 0));
}

fn ping_pong(o: Out) {
    let m = shared(4096);
    let turn = |me: u32| {
        for _ in 0..300 {
            while word(m).load(SeqCst) != me {
                futex(m, FUTEX_WAIT, 1 - me, at(&ms(4000)), 0, 0);
            }
            word(m + 4).fetch_add(1, SeqCst);
            word(m).store(1 - me, SeqCst);
            futex(m, FUTEX_WAKE, 1, 0, 0, 0);
        }
    };
    let kid = child(|| {
        turn(1);
        0
    });
    turn(0);
    tell!(o, "child" => wait_text(kid), "turns" => word(m + 4).load(SeqCst));
}

fn shared_words_that_cannot_be_read(o: Out) {
    let kept = map(
        0,
        2 * PAGE,
        PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_ANONYMOUS,
    )
    .addr();
    let closed = kept + PAGE;
    k!(SYS_mprotect, closed, PAGE, PROT_NONE);
    let fd = k!(SYS_memfd_create, c"m", 0).int();
    k!(SYS_ftruncate, fd, PAGE);
    let beyond =
        crate::util::map_file(fd, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 0).addr() + PAGE;
    for (what, at) in [("kept", kept), ("closed", closed), ("beyond", beyond)] {
        for flag in [0, P] {
            tell!(o, "word" => format!("{what} {flag}"), "wake" => futex(at, FUTEX_WAKE | flag, 1, 0, 0, 0), "requeue" => futex(kept, FUTEX_REQUEUE | flag, 1, 1, at, 0), "from" => futex(at, FUTEX_REQUEUE | flag, 1, 1, kept, 0), "op" => futex(at, FUTEX_WAKE_OP | flag, 1, 1, kept, 0));
        }
    }
    k!(SYS_mprotect, kept, PAGE, PROT_READ);
    tell!(o, "read only" => futex(kept, FUTEX_WAKE, 1, 0, 0, 0));
}
