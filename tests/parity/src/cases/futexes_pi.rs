//! Futexes with owners, futex vectors, and the second futex API.

use crate::out::Out;
use crate::sys::{self, child, word};
use crate::util::{anon, now_ms, shared, sleep_ms, wait_text};
use crate::{cases, k, say, tell};
use libc::*;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

cases!(
    lock_and_unlock,
    lock_of_own,
    unlock_of_others,
    try_lock,
    contended_lock,
    handed_on_in_order,
    lock_times_out,
    owner_that_is_nobody,
    owner_dies,
    robust_owner_dies,
    deadlock,
    lock_over_processes,
    lock_goes_on_after_signal,
    requeue_to_a_lock,
    requeue_arguments,
    pi_mutual_exclusion,
    waitv_wakes,
    waitv_arguments,
    waitv_times_out,
    waitv_interrupted,
    second_api,
    second_requeue,
);

const P: i32 = FUTEX_PRIVATE_FLAG;
const LOCK_PI: i32 = 6;
const UNLOCK_PI: i32 = 7;
const TRYLOCK_PI: i32 = 8;
const WAIT_REQUEUE_PI: i32 = 11;
const CMP_REQUEUE_PI: i32 = 12;
const LOCK_PI2: i32 = 13;
const DIED: u32 = 0x4000_0000;
const WAITERS: u32 = 0x8000_0000;

fn futex(addr: usize, op: i32, val: u32, arg: usize, addr2: usize, val3: u32) -> sys::R {
    k!(SYS_futex, addr, op, val, arg, addr2, val3)
}

fn tid() -> u32 {
    k!(SYS_gettid).0 as u32
}

fn end(clock: i32, ms: i64) -> timespec {
    let mut t: timespec = sys::zeroed();
    k!(SYS_clock_gettime, clock, &mut t);
    t.tv_nsec += ms % 1000 * 1_000_000;
    t.tv_sec += ms / 1000 + t.tv_nsec / 1_000_000_000;
    t.tv_nsec %= 1_000_000_000;
    t
}

fn at<T>(t: &T) -> usize {
    std::ptr::from_ref(t) as usize
}

/// The word in terms of who owns it.
fn state(m: usize, me: u32) -> String {
    let v = word(m).load(SeqCst);
    let owner = match v & 0x3fff_ffff {
        0 => "nobody",
        t if t == me => "me",
        _ => "another",
    };
    format!(
        "{owner} waiters {} died {}",
        v & WAITERS != 0,
        v & DIED != 0
    )
}

fn lock_and_unlock(o: Out) {
    let m = anon(4096);
    tell!(o, "lock" => futex(m, LOCK_PI | P, 0, 0, 0, 0), "word" => state(m, tid()), "unlock" => futex(m, UNLOCK_PI | P, 0, 0, 0, 0), "word" => state(m, tid()));
    tell!(o, "lock2" => futex(m, LOCK_PI2 | P, 0, 0, 0, 0), "unlock" => futex(m, UNLOCK_PI | P, 0, 0, 0, 0), "shared" => futex(m, LOCK_PI, 0, 0, 0, 0), "unlock" => futex(m, UNLOCK_PI, 0, 0, 0, 0));
    word(m).store(DIED, SeqCst);
    tell!(o, "of a dead one" => futex(m, LOCK_PI | P, 0, 0, 0, 0), "word" => state(m, tid()), "unlock" => futex(m, UNLOCK_PI | P, 0, 0, 0, 0), "word" => state(m, tid()));
}

fn lock_of_own(o: Out) {
    let m = anon(4096);
    futex(m, LOCK_PI | P, 0, 0, 0, 0);
    tell!(o, "again" => futex(m, LOCK_PI | P, 0, 0, 0, 0), "try" => futex(m, TRYLOCK_PI | P, 0, 0, 0, 0), "unaligned" => futex(m + 2, LOCK_PI | P, 0, 0, 0, 0), "nowhere" => futex(8, LOCK_PI | P, 0, 0, 0, 0));
}

fn unlock_of_others(o: Out) {
    let m = anon(4096);
    tell!(o, "free" => futex(m, UNLOCK_PI | P, 0, 0, 0, 0));
    thread::scope(|s| {
        s.spawn(|| futex(m, LOCK_PI | P, 0, 0, 0, 0));
    });
    tell!(o, "another's" => futex(m, UNLOCK_PI | P, 0, 0, 0, 0), "nowhere" => futex(8, UNLOCK_PI | P, 0, 0, 0, 0));
}

fn try_lock(o: Out) {
    let m = anon(4096);
    tell!(o, "free" => futex(m, TRYLOCK_PI | P, 0, 0, 0, 0), "word" => state(m, tid()));
    let t = thread::spawn(move || {
        (
            futex(m, TRYLOCK_PI | P, 0, 0, 0, 0).to_string(),
            state(m, 0),
        )
    });
    say!(o, "{:?}", t.join().unwrap_or_default());
    tell!(o, "unlock" => futex(m, UNLOCK_PI | P, 0, 0, 0, 0), "word" => state(m, tid()));
}

fn contended_lock(o: Out) {
    let m = anon(4096);
    futex(m, LOCK_PI | P, 0, 0, 0, 0);
    let t = thread::spawn(move || {
        let r = futex(m, LOCK_PI | P, 0, 0, 0, 0);
        let held = state(m, tid());
        let u = futex(m, UNLOCK_PI | P, 0, 0, 0, 0);
        format!("{r} {held} {u}")
    });
    sleep_ms(80);
    tell!(o, "word" => state(m, tid()), "unlock" => futex(m, UNLOCK_PI | P, 0, 0, 0, 0), "other" => t.join().unwrap_or_default(), "word" => state(m, tid()));
}

fn handed_on_in_order(o: Out) {
    let m = anon(4096);
    futex(m, LOCK_PI | P, 0, 0, 0, 0);
    let all: Vec<_> = (0..4u32)
        .map(|i| {
            let t = thread::spawn(move || {
                futex(m, LOCK_PI | P, 0, 0, 0, 0);
                let n = word(m + 64).fetch_add(1, SeqCst) as usize;
                word(m + 128 + n * 4).store(i, SeqCst);
                futex(m, UNLOCK_PI | P, 0, 0, 0, 0).0
            });
            sleep_ms(50);
            t
        })
        .collect();
    futex(m, UNLOCK_PI | P, 0, 0, 0, 0);
    let r: Vec<i64> = all.into_iter().filter_map(|t| t.join().ok()).collect();
    let order: Vec<u32> = (0..4).map(|i| word(m + 128 + i * 4).load(SeqCst)).collect();
    say!(o, "{r:?} {order:?} {}", state(m, tid()));
}

fn lock_times_out(o: Out) {
    let m = anon(4096);
    futex(m, LOCK_PI | P, 0, 0, 0, 0);
    let t = thread::spawn(move || {
        let t = now_ms();
        let real = futex(m, LOCK_PI | P, 0, at(&end(CLOCK_REALTIME, 60)), 0, 0);
        let long = now_ms() - t >= 55;
        let mono = futex(m, LOCK_PI2 | P, 0, at(&end(CLOCK_MONOTONIC, 60)), 0, 0);
        let past = futex(m, LOCK_PI | P, 0, at(&end(CLOCK_REALTIME, -1000)), 0, 0);
        let bad = futex(
            m,
            LOCK_PI | P,
            0,
            at(&timespec {
                tv_sec: 0,
                tv_nsec: -1,
            }),
            0,
            0,
        );
        let address = futex(m, LOCK_PI | P, 0, 16, 0, 0);
        format!("{real} {long} {mono} {past} {bad} {address}")
    });
    tell!(o, "other" => t.join().unwrap_or_default(), "word" => state(m, tid()), "unlock" => futex(m, UNLOCK_PI | P, 0, 0, 0, 0));
}

fn owner_that_is_nobody(o: Out) {
    let m = anon(4096);
    word(m).store(0x3fff_fff0, SeqCst);
    tell!(o, "lock" => futex(m, LOCK_PI | P, 0, 0, 0, 0), "try" => futex(m, TRYLOCK_PI | P, 0, 0, 0, 0));
    let gone = child(|| 0);
    wait_text(gone);
    word(m).store(gone as u32, SeqCst);
    tell!(o, "one that has ended" => futex(m, LOCK_PI | P, 0, 0, 0, 0));
}

fn owner_dies(o: Out) {
    let m = anon(4096);
    let t = thread::spawn(move || {
        futex(m, LOCK_PI | P, 0, 0, 0, 0);
        sleep_ms(120);
    });
    sleep_ms(50);
    tell!(o, "lock" => futex(m, LOCK_PI | P, 0, 0, 0, 0), "word" => state(m, tid()), "unlock" => futex(m, UNLOCK_PI | P, 0, 0, 0, 0), "word" => state(m, tid()));
    t.join().ok();
}

fn robust_owner_dies(o: Out) {
    for waiting in [false, true] {
        let m = shared(4096);
        let kid = child(|| {
            sys::put(m + 1024, &(m + 256 + 1).to_ne_bytes());
            sys::put(m + 1032, &8usize.to_ne_bytes());
            sys::put(m + 1040, &0usize.to_ne_bytes());
            sys::put(m + 256, &(m + 1024).to_ne_bytes());
            futex(m + 264, LOCK_PI, 0, 0, 0, 0);
            k!(SYS_set_robust_list, m + 1024, 24);
            sleep_ms(if waiting { 150 } else { 0 });
            0
        });
        if waiting {
            sleep_ms(70);
        } else {
            say!(o, "{} {}", wait_text(kid), state(m + 264, tid()));
        }
        tell!(o, "lock" => futex(m + 264, LOCK_PI, 0, 0, 0, 0), "word" => state(m + 264, tid()));
        if waiting {
            say!(o, "{}", wait_text(kid));
        }
        tell!(o, "unlock" => futex(m + 264, UNLOCK_PI, 0, 0, 0, 0));
    }
}

fn deadlock(o: Out) {
    let m = anon(4096);
    futex(m, LOCK_PI | P, 0, 0, 0, 0);
    let t = thread::spawn(move || {
        futex(m + 64, LOCK_PI | P, 0, 0, 0, 0);
        let r = futex(m, LOCK_PI | P, 0, at(&end(CLOCK_REALTIME, 4000)), 0, 0);
        futex(m + 64, UNLOCK_PI | P, 0, 0, 0, 0);
        r.0
    });
    sleep_ms(80);
    tell!(o, "circle" => futex(m + 64, LOCK_PI | P, 0, at(&end(CLOCK_REALTIME, 1000)), 0, 0), "unlock" => futex(m, UNLOCK_PI | P, 0, 0, 0, 0), "other" => t.join().unwrap_or(-1));
}

fn lock_over_processes(o: Out) {
    let m = shared(4096);
    futex(m, LOCK_PI, 0, 0, 0, 0);
    let kid = child(|| {
        let r = futex(m, LOCK_PI, 0, 0, 0, 0);
        let mine = state(m, tid()) == "me waiters true died false";
        futex(m, UNLOCK_PI, 0, 0, 0, 0);
        i32::from(r.0 != 0) + 2 * i32::from(!mine)
    });
    sleep_ms(80);
    tell!(o, "private does not reach" => futex(m, FUTEX_WAKE | P, 1, 0, 0, 0), "unlock" => futex(m, UNLOCK_PI, 0, 0, 0, 0), "child" => wait_text(kid), "word" => state(m, tid()));
}

fn lock_goes_on_after_signal(o: Out) {
    let m = shared(4096);
    let kid = child(|| {
        futex(m, LOCK_PI, 0, 0, 0, 0);
        sleep_ms(250);
        futex(m, UNLOCK_PI, 0, 0, 0, 0);
        0
    });
    sleep_ms(60);
    sys::on(SIGALRM, 0);
    let it = [0i64, 0, 0, 60_000];
    k!(SYS_setitimer, ITIMER_REAL, &it, 0);
    tell!(o, "lock" => futex(m, LOCK_PI, 0, 0, 0, 0), "handled" => sys::count(SIGALRM), "child" => wait_text(kid));
}

fn requeue_to_a_lock(o: Out) {
    for held in [false, true] {
        let m = anon(4096);
        let all: Vec<_> = (0..3)
            .map(|_| {
                let t = thread::spawn(move || {
                    let r = futex(m, WAIT_REQUEUE_PI | P, 0, 0, m + 64, 0);
                    let mine = state(m + 64, tid()).starts_with("me");
                    let u = futex(m + 64, UNLOCK_PI | P, 0, 0, 0, 0);
                    format!("{r} {mine} {u}")
                });
                sleep_ms(50);
                t
            })
            .collect();
        if held {
            futex(m + 64, LOCK_PI | P, 0, 0, 0, 0);
        }
        tell!(o, "plain wake" => futex(m, FUTEX_WAKE | P, 1, 0, 0, 0), "differs" => futex(m, CMP_REQUEUE_PI | P, 1, 9, m + 64, 5), "requeue" => futex(m, CMP_REQUEUE_PI | P, 1, 9, m + 64, 0));
        if held {
            tell!(o, "unlock" => futex(m + 64, UNLOCK_PI | P, 0, 0, 0, 0));
        }
        let r: Vec<String> = all.into_iter().filter_map(|t| t.join().ok()).collect();
        say!(o, "{r:?} {}", state(m + 64, tid()));
    }
}

fn requeue_arguments(o: Out) {
    let m = anon(4096);
    tell!(o, "same" => futex(m, WAIT_REQUEUE_PI | P, 0, 0, m, 0), "differs" => futex(m, WAIT_REQUEUE_PI | P, 1, 0, m + 64, 0), "times out" => futex(m, WAIT_REQUEUE_PI | P, 0, at(&end(CLOCK_MONOTONIC, 50)), m + 64, 0),
        "wake two" => futex(m, CMP_REQUEUE_PI | P, 2, 1, m + 64, 0), "same" => futex(m, CMP_REQUEUE_PI | P, 1, 1, m, 0), "nobody" => futex(m, CMP_REQUEUE_PI | P, 1, 1, m + 64, 0));
    let t = thread::spawn(move || {
        futex(
            m,
            WAIT_REQUEUE_PI | P,
            0,
            at(&end(CLOCK_MONOTONIC, 300)),
            m + 64,
            0,
        )
        .0
    });
    sleep_ms(80);
    tell!(o, "another lock" => futex(m, CMP_REQUEUE_PI | P, 1, 1, m + 128, 0), "waiter" => t.join().unwrap_or(0));
}

fn pi_mutual_exclusion(o: Out) {
    let m = anon(4096);
    let all: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || {
                let me = tid();
                for _ in 0..200 {
                    if word(m).compare_exchange(0, me, SeqCst, SeqCst).is_err() {
                        futex(m, LOCK_PI | P, 0, 0, 0, 0);
                    }
                    let n = word(m + 64).load(SeqCst);
                    k!(SYS_sched_yield);
                    word(m + 64).store(n + 1, SeqCst);
                    if word(m).compare_exchange(me, 0, SeqCst, SeqCst).is_err() {
                        futex(m, UNLOCK_PI | P, 0, 0, 0, 0);
                    }
                }
            })
        })
        .collect();
    for t in all {
        t.join().ok();
    }
    tell!(o, "sum" => word(m + 64).load(SeqCst), "word" => state(m, tid()));
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Waitv {
    val: u64,
    uaddr: u64,
    flags: u32,
    reserved: u32,
}

fn on(addr: usize, val: u64) -> Waitv {
    Waitv {
        val,
        uaddr: addr as u64,
        flags: 2 | P as u32,
        reserved: 0,
    }
}

fn waitv(all: &[Waitv], until: usize, clock: i32) -> sys::R {
    sys::call(
        449,
        &[all.as_ptr() as usize, all.len(), 0, until, clock as usize],
    )
}

fn waitv_wakes(o: Out) {
    let m = anon(4096);
    let t = thread::spawn(move || {
        let all = [on(m, 0), on(m + 64, 0), on(m + 128, 0)];
        waitv(&all, at(&end(CLOCK_MONOTONIC, 4000)), CLOCK_MONOTONIC).0
    });
    sleep_ms(80);
    tell!(o, "wake the second" => futex(m + 64, FUTEX_WAKE | P, 1, 0, 0, 0), "index" => t.join().unwrap_or(-1), "nobody left" => futex(m, FUTEX_WAKE | P, 1, 0, 0, 0));
    let s = shared(4096);
    let kid = child(|| {
        let mut one = on(s, 0);
        one.flags = 2;
        waitv(
            &[on(s + 64, 0), one],
            at(&end(CLOCK_MONOTONIC, 4000)),
            CLOCK_MONOTONIC,
        )
        .int()
    });
    sleep_ms(80);
    tell!(o, "shared" => futex(s, FUTEX_WAKE, 1, 0, 0, 0), "child" => wait_text(kid));
}

fn waitv_arguments(o: Out) {
    let m = anon(4096);
    let bad = |f: fn(&mut Waitv)| {
        let mut w = on(m, 1);
        f(&mut w);
        waitv(&[w], 0, 0)
    };
    tell!(o, "none" => waitv(&[], 0, 0), "too many" => waitv(&[on(m, 1); 129], 0, 0), "most" => waitv(&[on(m, 1); 128], 0, 0), "differs" => waitv(&[on(m, 0), on(m + 64, 3)], 0, 0),
        "reserved" => bad(|w| w.reserved = 1), "flags" => bad(|w| w.flags = 2 | 64), "size" => bad(|w| w.flags = 0), "size" => bad(|w| w.flags = 3), "value" => bad(|w| w.val = 1 << 32), "unaligned" => bad(|w| w.uaddr += 2), "nowhere" => bad(|w| w.uaddr = 8),
        "call flags" => sys::call(449, &[at(&on(m, 1)), 1, 1, 0, 0]), "bad address" => sys::call(449, &[16, 1, 0, 0, 0]), "null" => sys::call(449, &[0, 1, 0, 0, 0]));
    let t = end(CLOCK_MONOTONIC, 10);
    tell!(o, "clock" => waitv(&[on(m, 0)], at(&t), CLOCK_BOOTTIME), "time address" => waitv(&[on(m, 0)], 16, CLOCK_MONOTONIC), "bad time" => waitv(&[on(m, 0)], at(&timespec { tv_sec: -1, tv_nsec: 0 }), CLOCK_MONOTONIC));
}

fn waitv_times_out(o: Out) {
    let m = anon(4096);
    for clock in [CLOCK_MONOTONIC, CLOCK_REALTIME] {
        let t = now_ms();
        tell!(o, "timed out" => waitv(&[on(m, 0), on(m + 64, 0)], at(&end(clock, 60)), clock), "long enough" => now_ms() - t >= 55);
    }
}

fn waitv_interrupted(o: Out) {
    let m = anon(4096);
    sys::on(SIGALRM, 0);
    let it = [0i64, 0, 0, 60_000];
    k!(SYS_setitimer, ITIMER_REAL, &it, 0);
    tell!(o, "interrupted" => waitv(&[on(m, 0)], 0, 0));
    sys::on(SIGALRM, SA_RESTART);
    k!(SYS_setitimer, ITIMER_REAL, &it, 0);
    tell!(o, "restarted" => waitv(&[on(m, 0)], at(&end(CLOCK_MONOTONIC, 150)), CLOCK_MONOTONIC), "handled" => sys::count(SIGALRM));
}

fn second_api(o: Out) {
    let m = anon(4096);
    let private = 2 | P as usize;
    let wake = |mask: usize, n: usize, flags: usize| sys::call(454, &[m, mask, n, flags]);
    let wait = |val: usize, mask: usize, flags: usize, until: usize| {
        sys::call(455, &[m, val, mask, flags, until, CLOCK_MONOTONIC as usize])
    };
    tell!(o, "nobody" => wake(1, 1, private), "no mask" => wake(0, 1, private), "size" => wake(1, 1, 0), "flags" => wake(1, 1, private | 64), "wide mask" => wake(1 << 32, 1, private),
        "differs" => wait(1, 1, private, 0), "no mask" => wait(0, 0, private, 0), "size" => wait(0, 1, 1, 0), "wide" => wait(1 << 32, 1, private, 0), "times out" => wait(0, 1, private, at(&end(CLOCK_MONOTONIC, 50))));
    let t = thread::spawn(move || {
        let until = end(CLOCK_MONOTONIC, 4000);
        sys::call(
            455,
            &[m, 0, 6, private, at(&until), CLOCK_MONOTONIC as usize],
        )
        .0
    });
    sleep_ms(80);
    tell!(o, "other mask" => wake(1, 9, private), "none wanted" => wake(2, 0, private), "woken" => wake(2, 9, private), "waiter" => t.join().unwrap_or(-1));
}

fn second_requeue(o: Out) {
    let m = anon(4096);
    let all: Vec<_> = (0..3)
        .map(|_| {
            let t = thread::spawn(move || {
                let until = end(CLOCK_MONOTONIC, 4000);
                sys::call(
                    455,
                    &[
                        m,
                        0,
                        1,
                        2 | P as usize,
                        at(&until),
                        CLOCK_MONOTONIC as usize,
                    ],
                )
                .0
            });
            sleep_ms(30);
            t
        })
        .collect();
    let two = |val| [on(m, val), on(m + 64, 0)];
    let requeue = |val, flags: usize, wake: i64, n: i64| {
        let two = two(val);
        sys::call(456, &[at(&two), flags, wake as usize, n as usize])
    };
    tell!(o, "differs" => requeue(1, 0, 1, 1), "flags" => requeue(0, 1, 1, 1), "negative" => requeue(0, 0, -1, 1), "null" => sys::call(456, &[0, 0, 1, 1]), "one and one" => requeue(0, 0, 1, 1));
    sleep_ms(50);
    tell!(o, "at second" => futex(m + 64, FUTEX_WAKE | P, 9, 0, 0, 0), "at first" => futex(m, FUTEX_WAKE | P, 9, 0, 0, 0));
    let r: Vec<i64> = all.into_iter().filter_map(|t| t.join().ok()).collect();
    say!(o, "{r:?}");
}
