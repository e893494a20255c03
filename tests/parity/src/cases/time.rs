//! Clocks, sleeping, timers.

use crate::out::Out;
use crate::sys::{count, on, seen};
use crate::util::{bit, in_child, mask, now_ms, sleep_ms, wait_text};
use crate::{cases, k, say, sys, tell};
use libc::*;
use std::sync::atomic::Ordering::SeqCst;

cases!(
    clocks_exist,
    clocks_go_forward,
    clocks_agree,
    clock_resolution,
    library_calls,
    clock_set_refused,
    cpu_clocks,
    sleep_lengths,
    sleep_arguments,
    sleep_absolute,
    sleep_on_cpu_time,
    interval_timer,
    interval_timer_reads,
    interval_timer_arguments,
    virtual_timers,
    timer_descriptor,
    timer_descriptor_repeats,
    timer_descriptor_absolute,
    timer_descriptor_poll,
    timer_descriptor_arguments,
    posix_timer_signal,
    posix_timer_repeats_and_overruns,
    posix_timer_overruns_are_bounded,
    posix_timer_set_anew_takes_its_signal_back,
    posix_timer_none_and_get,
    posix_timer_arguments,
    posix_timer_not_inherited,
    timers_across_exec_and_fork,
    time_of_day,
);

fn clock(id: i32) -> i64 {
    let mut t: timespec = sys::zeroed();
    k!(SYS_clock_gettime, id, &mut t);
    t.tv_sec * 1_000_000_000 + t.tv_nsec
}

fn ms(n: i64) -> timespec {
    timespec {
        tv_sec: n / 1000,
        tv_nsec: n % 1000 * 1_000_000,
    }
}

fn clocks_exist(o: Out) {
    let mut t: timespec = sys::zeroed();
    for id in 0..12 {
        say!(o, "{id} {}", k!(SYS_clock_gettime, id, &mut t));
    }
    tell!(o, "99" => k!(SYS_clock_gettime, 99, &mut t), "null" => k!(SYS_clock_gettime, 0, 0), "negative" => k!(SYS_clock_gettime, -1, &mut t).ok());
}

fn clocks_go_forward(o: Out) {
    for id in [
        CLOCK_MONOTONIC,
        CLOCK_MONOTONIC_RAW,
        CLOCK_BOOTTIME,
        CLOCK_MONOTONIC_COARSE,
    ] {
        let mut last = clock(id);
        let mut back = 0;
        for _ in 0..2000 {
            let now = clock(id);
            back += i32::from(now < last);
            last = now;
        }
        let before = clock(id);
        sleep_ms(30);
        let went = clock(id) - before;
        say!(
            o,
            "{id} back {back} went {}",
            (20_000_000..1_000_000_000).contains(&went)
        );
    }
}

fn clocks_agree(o: Out) {
    let (m, b) = (clock(CLOCK_MONOTONIC), clock(CLOCK_BOOTTIME));
    let (r, c) = (clock(CLOCK_REALTIME), clock(CLOCK_REALTIME_COARSE));
    let library = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos() as i64);
    tell!(o, "boot is later" => b + 1_000_000_000 >= m, "coarse" => (r - c).abs() < 100_000_000, "library" => (library - r).abs() < 1_000_000_000, "this century" => r > 1_700_000_000_000_000_000, "tai" => (clock(CLOCK_TAI) - r).abs() < 100_000_000_000);
    let a = std::time::Instant::now();
    let k1 = clock(CLOCK_MONOTONIC);
    sleep_ms(20);
    let (d, e) = (a.elapsed().as_nanos() as i64, clock(CLOCK_MONOTONIC) - k1);
    tell!(o, "same pace" => (d - e).abs() < 10_000_000);
}

fn clock_resolution(o: Out) {
    for id in [
        CLOCK_REALTIME,
        CLOCK_MONOTONIC,
        CLOCK_PROCESS_CPUTIME_ID,
        CLOCK_THREAD_CPUTIME_ID,
        CLOCK_BOOTTIME,
    ] {
        let mut t: timespec = sys::zeroed();
        let r = k!(SYS_clock_getres, id, &mut t);
        say!(o, "{id} {r} {} {}", t.tv_sec, t.tv_nsec);
    }
    tell!(o, "null" => k!(SYS_clock_getres, CLOCK_REALTIME, 0), "bad" => k!(SYS_clock_getres, 99, 0));
}

fn library_calls(o: Out) {
    // Through the vDSO, beside the same question as a system call.
    let mut fine = 0;
    for _ in 0..2000 {
        let a = clock(CLOCK_MONOTONIC);
        let b = sys::library_clock(CLOCK_MONOTONIC);
        let c = clock(CLOCK_MONOTONIC);
        fine += i32::from(a <= b && b <= c);
    }
    tell!(o, "in between" => fine);
    let mut fine = 0;
    for _ in 0..200 {
        let a = clock(CLOCK_REALTIME);
        let b = sys::library_clock(CLOCK_REALTIME);
        let c = clock(CLOCK_REALTIME);
        fine += i32::from(a <= b && b <= c);
    }
    tell!(o, "in between" => fine);
}

fn clock_set_refused(o: Out) {
    let t = timespec {
        tv_sec: 0,
        tv_nsec: 1 << 30,
    };
    tell!(o, "monotonic" => k!(SYS_clock_settime, CLOCK_MONOTONIC, &ms(1)), "bad value" => k!(SYS_clock_settime, CLOCK_REALTIME, &t), "as user" => crate::util::as_user(|| { tell!(o, "set" => k!(SYS_clock_settime, CLOCK_REALTIME, &ms(1000)), "settimeofday" => k!(SYS_settimeofday, &timeval { tv_sec: 1, tv_usec: 0 }, 0)); }));
}

fn cpu_clocks(o: Out) {
    let (p, t) = (
        clock(CLOCK_PROCESS_CPUTIME_ID),
        clock(CLOCK_THREAD_CPUTIME_ID),
    );
    let end = now_ms() + 60;
    while now_ms() < end {}
    let (p2, t2) = (
        clock(CLOCK_PROCESS_CPUTIME_ID),
        clock(CLOCK_THREAD_CPUTIME_ID),
    );
    tell!(o, "busy counts" => p2 - p > 10_000_000 && t2 - t > 10_000_000);
    sleep_ms(60);
    tell!(o, "sleep does not" => clock(CLOCK_PROCESS_CPUTIME_ID) - p2 < 40_000_000);
}

fn sleep_lengths(o: Out) {
    for n in [0, 1, 10, 40] {
        let t = clock(CLOCK_MONOTONIC);
        let r = k!(SYS_nanosleep, &ms(n), 0);
        let d = clock(CLOCK_MONOTONIC) - t;
        say!(o, "{n} {r} {}", d >= n * 1_000_000);
    }
}

fn sleep_arguments(o: Out) {
    tell!(o, "negative" => k!(SYS_nanosleep, &timespec { tv_sec: -1, tv_nsec: 0 }, 0), "nsec" => k!(SYS_nanosleep, &timespec { tv_sec: 0, tv_nsec: 1_000_000_000 }, 0), "negative nsec" => k!(SYS_nanosleep, &timespec { tv_sec: 0, tv_nsec: -1 }, 0), "null" => k!(SYS_nanosleep, 0, 0), "clock" => k!(SYS_clock_nanosleep, 99, 0, &ms(1), 0), "thread clock" => k!(SYS_clock_nanosleep, CLOCK_THREAD_CPUTIME_ID, 0, &ms(1), 0), "raw clock" => k!(SYS_clock_nanosleep, CLOCK_MONOTONIC_RAW, 0, &ms(1), 0), "realtime" => k!(SYS_clock_nanosleep, CLOCK_REALTIME, 0, &ms(1), 0), "boottime" => k!(SYS_clock_nanosleep, CLOCK_BOOTTIME, 0, &ms(1), 0));
}

fn sleep_absolute(o: Out) {
    for id in [CLOCK_MONOTONIC, CLOCK_REALTIME] {
        let at = clock(id) + 40_000_000;
        let t = timespec {
            tv_sec: at / 1_000_000_000,
            tv_nsec: at % 1_000_000_000,
        };
        tell!(o, "sleep" => k!(SYS_clock_nanosleep, id, TIMER_ABSTIME, &t, 0), "reached" => clock(id) >= at, "past" => k!(SYS_clock_nanosleep, id, TIMER_ABSTIME, &t, 0));
    }
}

fn sleep_on_cpu_time(o: Out) {
    let busy = sys::child(|| {
        loop {
            std::hint::spin_loop();
        }
    });
    let id = (!busy << 3) | 2;
    let start = clock(id);
    tell!(o, "other" => k!(SYS_clock_nanosleep, id, 0, &ms(20), 0), "used" => clock(id) - start >= 20_000_000);
    let at = clock(id) + 20_000_000;
    let t = timespec {
        tv_sec: at / 1_000_000_000,
        tv_nsec: at % 1_000_000_000,
    };
    tell!(o, "absolute" => k!(SYS_clock_nanosleep, id, TIMER_ABSTIME, &t, 0), "reached" => clock(id) >= at, "past" => k!(SYS_clock_nanosleep, id, TIMER_ABSTIME, &t, 0));
    k!(SYS_kill, busy, SIGKILL);
    wait_text(busy);
    // One that sleeps on its own uses nothing.
    on(SIGALRM, 0);
    itimer(ITIMER_REAL, 20_000, 20_000);
    let mut left = ms(0);
    tell!(o, "own" => k!(SYS_clock_nanosleep, CLOCK_PROCESS_CPUTIME_ID, 0, &ms(9_500), &mut left), "left" => left.tv_sec, "nothing" => k!(SYS_clock_nanosleep, CLOCK_PROCESS_CPUTIME_ID, 0, &ms(0), 0),
        "own thread" => k!(SYS_clock_nanosleep, (!0 << 3) | 6, 0, &ms(1), 0), "nobody" => k!(SYS_clock_nanosleep, (!999_999 << 3) | 2, 0, &ms(1), 0), "not a time" => k!(SYS_clock_nanosleep, CLOCK_PROCESS_CPUTIME_ID, 0, &timespec { tv_sec: 0, tv_nsec: -1 }, 0));
}

fn itimer(which: i32, first: i64, every: i64) -> sys::R {
    let tv = |us: i64| timeval {
        tv_sec: us / 1_000_000,
        tv_usec: us % 1_000_000,
    };
    k!(
        SYS_setitimer,
        which,
        &itimerval {
            it_interval: tv(every),
            it_value: tv(first)
        },
        0
    )
}

fn interval_timer(o: Out) {
    on(SIGALRM, 0);
    tell!(o, "set" => itimer(ITIMER_REAL, 20_000, 20_000));
    while count(SIGALRM) < 4 {
        k!(SYS_pause);
    }
    tell!(o, "four" => count(SIGALRM) >= 4, "code" => seen(SIGALRM).code.load(SeqCst), "off" => itimer(ITIMER_REAL, 0, 0));
    let n = count(SIGALRM);
    sleep_ms(50);
    tell!(o, "quiet" => count(SIGALRM) == n);
}

fn interval_timer_reads(o: Out) {
    itimer(ITIMER_REAL, 50_000_000, 7_000_000);
    let mut v: itimerval = sys::zeroed();
    tell!(o, "get" => k!(SYS_getitimer, ITIMER_REAL, &mut v), "left" => (49..=50).contains(&v.it_value.tv_sec), "every" => v.it_interval.tv_sec);
    let mut old: itimerval = sys::zeroed();
    let none: itimerval = sys::zeroed();
    tell!(o, "replace" => k!(SYS_setitimer, ITIMER_REAL, &none, &mut old), "old" => old.it_interval.tv_sec, "get" => k!(SYS_getitimer, ITIMER_REAL, &mut v), "none" => v.it_value.tv_sec);
}

fn interval_timer_arguments(o: Out) {
    let mut v: itimerval = sys::zeroed();
    tell!(o, "which" => k!(SYS_getitimer, 5, &mut v), "set which" => k!(SYS_setitimer, -1, &v, 0), "usec" => itimer_raw(0, 1_000_000), "negative" => itimer_raw(-1, 0), "null" => k!(SYS_getitimer, 0, 0), "set null" => k!(SYS_setitimer, 0, 0, 0));
}

fn itimer_raw(sec: i64, usec: i64) -> sys::R {
    k!(
        SYS_setitimer,
        ITIMER_REAL,
        &itimerval {
            it_interval: sys::zeroed(),
            it_value: timeval {
                tv_sec: sec,
                tv_usec: usec
            }
        },
        0
    )
}

fn virtual_timers(o: Out) {
    for (which, s) in [(ITIMER_VIRTUAL, SIGVTALRM), (ITIMER_PROF, SIGPROF)] {
        on(s, 0);
        tell!(o, "set" => itimer(which, 20_000, 0));
        let end = now_ms() + 3000;
        let mut x = 1u64;
        while count(s) == 0 && now_ms() < end {
            for i in 0..200_000u64 {
                x = std::hint::black_box(x.wrapping_mul(i | 1));
            }
        }
        tell!(o, "fired" => count(s));
    }
}

fn timerfd(first: i64, every: i64, flags: i32) -> i32 {
    let fd = k!(SYS_timerfd_create, CLOCK_MONOTONIC, flags).int();
    k!(
        SYS_timerfd_settime,
        fd,
        0,
        &itimerspec {
            it_interval: ms(every),
            it_value: ms(first)
        },
        0
    );
    fd
}

fn ticks(fd: i32) -> String {
    let mut v = 0u64;
    let r = k!(SYS_read, fd, &mut v, 8);
    if r.0 == 8 {
        v.to_string()
    } else {
        r.to_string()
    }
}

fn timer_descriptor(o: Out) {
    let fd = timerfd(40, 0, TFD_NONBLOCK);
    tell!(o, "not yet" => ticks(fd));
    sleep_ms(70);
    tell!(o, "once" => ticks(fd), "then" => ticks(fd));
    let fd = timerfd(40, 0, 0);
    let t = now_ms();
    tell!(o, "blocks" => ticks(fd), "waited" => now_ms() - t >= 30);
}

fn timer_descriptor_repeats(o: Out) {
    let fd = timerfd(20, 20, 0);
    sleep_ms(130);
    let mut v = 0u64;
    k!(SYS_read, fd, &mut v, 8);
    let mut now: itimerspec = sys::zeroed();
    tell!(o, "some" => (4..=30).contains(&v), "get" => k!(SYS_timerfd_gettime, fd, &mut now), "every" => now.it_interval.tv_nsec, "left" => now.it_value.tv_nsec > 0 && now.it_value.tv_nsec <= 20_000_000);
    let none: itimerspec = sys::zeroed();
    let mut old: itimerspec = sys::zeroed();
    tell!(o, "disarm" => k!(SYS_timerfd_settime, fd, 0, &none, &mut old), "old" => old.it_interval.tv_nsec, "get" => k!(SYS_timerfd_gettime, fd, &mut now), "left" => now.it_value.tv_nsec);
}

fn timer_descriptor_absolute(o: Out) {
    for id in [CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME] {
        let fd = k!(SYS_timerfd_create, id, 0).int();
        let at = clock(id) + 40_000_000;
        let v = itimerspec {
            it_interval: ms(0),
            it_value: timespec {
                tv_sec: at / 1_000_000_000,
                tv_nsec: at % 1_000_000_000,
            },
        };
        tell!(o, "set" => k!(SYS_timerfd_settime, fd, TFD_TIMER_ABSTIME, &v, 0), "read" => ticks(fd), "reached" => clock(id) >= at);
        let v = itimerspec {
            it_interval: ms(0),
            it_value: ms(1),
        };
        tell!(o, "past" => k!(SYS_timerfd_settime, fd, TFD_TIMER_ABSTIME, &v, 0), "read" => ticks(fd));
    }
}

fn timer_descriptor_poll(o: Out) {
    let fd = timerfd(50, 0, 0);
    let mut p = pollfd {
        fd,
        events: POLLIN | POLLOUT,
        revents: 0,
    };
    tell!(o, "not yet" => k!(SYS_poll, &mut p, 1, 0), "wakes" => k!(SYS_poll, &mut p, 1, 3000), "revents" => p.revents, "read" => ticks(fd), "not now" => k!(SYS_poll, &mut p, 1, 0));
}

fn timer_descriptor_arguments(o: Out) {
    let fd = timerfd(0, 0, TFD_NONBLOCK);
    let mut b = [0u8; 8];
    let v: itimerspec = sys::zeroed();
    tell!(o, "clock" => k!(SYS_timerfd_create, 99, 0), "cpu clock" => k!(SYS_timerfd_create, CLOCK_PROCESS_CPUTIME_ID, 0), "flags" => k!(SYS_timerfd_create, CLOCK_MONOTONIC, 7), "disarmed" => ticks(fd), "short" => k!(SYS_read, fd, &mut b, 4), "write" => crate::util::write(fd, b"12345678"), "nsec" => k!(SYS_timerfd_settime, fd, 0, &itimerspec { it_interval: ms(0), it_value: timespec { tv_sec: 0, tv_nsec: 1 << 30 } }, 0), "set flags" => k!(SYS_timerfd_settime, fd, 99, &v, 0), "not one" => k!(SYS_timerfd_settime, 0, 0, &v, 0), "closed" => k!(SYS_timerfd_settime, 99, 0, &v, 0), "null" => k!(SYS_timerfd_settime, fd, 0, 0, 0));
}

fn event(how: i32, signal: i32, value: usize) -> [usize; 8] {
    let mut e = [0usize; 8];
    e[0] = value;
    e[1] = signal as usize | (how as usize) << 32;
    e
}

fn create(clock: i32, event: &[usize; 8]) -> i32 {
    let mut id = -1i32;
    k!(SYS_timer_create, clock, event, &mut id);
    id
}

fn set(id: i32, first: i64, every: i64) -> sys::R {
    k!(
        SYS_timer_settime,
        id,
        0,
        &itimerspec {
            it_interval: ms(every),
            it_value: ms(first)
        },
        0
    )
}

fn posix_timer_signal(o: Out) {
    on(40, 0);
    let id = create(CLOCK_MONOTONIC, &event(SIGEV_SIGNAL, 40, 777));
    tell!(o, "id" => id, "set" => set(id, 30, 0));
    sleep_ms(80);
    tell!(o, "count" => count(40), "code" => seen(40).code.load(SeqCst), "value" => seen(40).value.load(SeqCst), "delete" => k!(SYS_timer_delete, id), "again" => k!(SYS_timer_delete, id));
    on(SIGALRM, 0);
    let mut id = -1i32;
    tell!(o, "default event" => k!(SYS_timer_create, CLOCK_REALTIME, 0, &mut id), "set" => set(id, 20, 0));
    sleep_ms(60);
    tell!(o, "alarm" => count(SIGALRM), "value is the id" => seen(SIGALRM).value.load(SeqCst) as i32 == id);
    let tid = k!(SYS_gettid).0 as usize;
    let mut e = event(SIGEV_THREAD_ID, 41, 5);
    e[2] = tid;
    on(41, 0);
    let id = create(CLOCK_MONOTONIC, &e);
    set(id, 20, 0);
    sleep_ms(60);
    tell!(o, "to a thread" => count(41));
}

fn posix_timer_repeats_and_overruns(o: Out) {
    on(40, 0);
    let id = create(CLOCK_MONOTONIC, &event(SIGEV_SIGNAL, 40, 1));
    mask(SIG_BLOCK, bit(40));
    set(id, 10, 10);
    sleep_ms(105);
    mask(SIG_UNBLOCK, bit(40));
    let over = k!(SYS_timer_getoverrun, id).0;
    tell!(o, "delivered" => (1..=2).contains(&count(40)), "overruns" => (5..=30).contains(&over));
    sleep_ms(60);
    tell!(o, "more" => count(40) >= 3);
}

fn posix_timer_overruns_are_bounded(o: Out) {
    mask(SIG_BLOCK, bit(40));
    for (every, late) in [(1, 4), (1_000_000_000, 3)] {
        let id = create(CLOCK_REALTIME, &event(SIGEV_SIGNAL, 40, 1));
        let mut new: itimerspec = sys::zeroed();
        k!(SYS_clock_gettime, CLOCK_REALTIME, &mut new.it_value);
        new.it_value.tv_sec -= late;
        new.it_interval.tv_nsec = every % 1_000_000_000;
        new.it_interval.tv_sec = every / 1_000_000_000;
        k!(SYS_timer_settime, id, TIMER_ABSTIME, &new, 0);
        let mut info = [0i32; 32];
        let set = bit(40);
        tell!(o, "taken" => k!(SYS_rt_sigtimedwait, &set, &mut info, 0, 8), "in the signal" => info[5], "asked" => k!(SYS_timer_getoverrun, id));
        k!(SYS_timer_delete, id);
        k!(SYS_rt_sigtimedwait, &set, 0, &sys::zeroed::<timespec>(), 8);
    }
    mask(SIG_UNBLOCK, bit(40));
}

fn posix_timer_set_anew_takes_its_signal_back(o: Out) {
    for signal in [40, SIGUSR1] {
        mask(SIG_BLOCK, bit(signal));
        for how in ["disarmed", "deleted", "later", "soon"] {
            let id = create(CLOCK_MONOTONIC, &event(SIGEV_SIGNAL, signal, 1));
            set(id, 1, 0);
            sleep_ms(30);
            let mut pending = 0u64;
            k!(SYS_rt_sigpending, &mut pending, 8);
            say!(o, "{signal} pending {}", pending & bit(signal) != 0);
            match how {
                "disarmed" => set(id, 0, 0),
                "deleted" => k!(SYS_timer_delete, id),
                "later" => set(id, 100_000, 0),
                _ => set(id, 1, 0),
            };
            sleep_ms(30);
            let (wanted, now) = (bit(signal), sys::zeroed::<timespec>());
            let take = || k!(SYS_rt_sigtimedwait, &wanted, 0, &now, 8);
            say!(o, "{how} {} {}", take(), take());
            k!(SYS_timer_delete, id);
        }
        mask(SIG_UNBLOCK, bit(signal));
    }
}

fn posix_timer_none_and_get(o: Out) {
    let id = create(CLOCK_MONOTONIC, &event(SIGEV_NONE, 0, 0));
    set(id, 50_000, 3000);
    let mut v: itimerspec = sys::zeroed();
    tell!(o, "get" => k!(SYS_timer_gettime, id, &mut v), "left" => (49..=50).contains(&v.it_value.tv_sec), "every" => v.it_interval.tv_sec, "disarm" => set(id, 0, 0), "get" => k!(SYS_timer_gettime, id, &mut v), "left" => v.it_value.tv_sec, "overrun" => k!(SYS_timer_getoverrun, id));
}

fn posix_timer_arguments(o: Out) {
    let mut id = 0i32;
    tell!(o, "clock" => k!(SYS_timer_create, 99, 0, &mut id), "signal" => k!(SYS_timer_create, 0, &event(SIGEV_SIGNAL, 99, 0), &mut id), "how" => k!(SYS_timer_create, 0, &event(77, 10, 0), &mut id), "thread" => k!(SYS_timer_create, 0, &{ let mut e = event(SIGEV_THREAD_ID, 10, 0); e[2] = 999_999; e }, &mut id), "null id" => k!(SYS_timer_create, 0, 0, 0), "no timer" => set(999, 1, 0), "get none" => k!(SYS_timer_gettime, 999, &mut sys::zeroed::<itimerspec>()), "delete none" => k!(SYS_timer_delete, -1), "overrun none" => k!(SYS_timer_getoverrun, 999));
    let id = create(CLOCK_MONOTONIC, &event(SIGEV_NONE, 0, 0));
    tell!(o, "nsec" => k!(SYS_timer_settime, id, 0, &itimerspec { it_interval: ms(0), it_value: timespec { tv_sec: 0, tv_nsec: -1 } }, 0), "null" => k!(SYS_timer_settime, id, 0, 0, 0));
}

fn posix_timer_not_inherited(o: Out) {
    let id = create(CLOCK_MONOTONIC, &event(SIGEV_NONE, 0, 0));
    tell!(o, "child" => in_child(|| (-k!(SYS_timer_delete, id).0) as i32), "mine" => k!(SYS_timer_delete, id));
}

fn timers_across_exec_and_fork(o: Out) {
    itimer(ITIMER_REAL, 50_000_000, 0);
    let mut v: itimerval = sys::zeroed();
    tell!(o, "fork clears" => in_child(|| { k!(SYS_getitimer, ITIMER_REAL, &mut v); v.it_value.tv_sec as i32 }));
    itimer(ITIMER_REAL, 0, 0);
    let kid = sys::child(|| {
        // Nothing handles it after the exec, and a sleep does not end it.
        itimer(ITIMER_REAL, 60_000, 0);
        let argv = [
            c"p".as_ptr(),
            c"--child".as_ptr(),
            c"sleep".as_ptr(),
            std::ptr::null(),
        ];
        k!(SYS_execve, c"/proc/self/exe", &argv, 0);
        1
    });
    tell!(o, "exec keeps" => wait_text(kid));
}

fn time_of_day(o: Out) {
    let mut tv: timeval = sys::zeroed();
    let mut t = 0i64;
    let mut zone = [9i32; 2];
    tell!(o, "gettimeofday" => k!(SYS_gettimeofday, &mut tv, &mut zone), "range" => (0..1_000_000).contains(&tv.tv_usec), "zone" => format!("{zone:?}"), "nulls" => k!(SYS_gettimeofday, 0, 0), "bad" => k!(SYS_gettimeofday, 16usize, 0), "time" => (k!(SYS_time, &mut t).0 - tv.tv_sec).abs() <= 1, "stored" => (t - tv.tv_sec).abs() <= 1, "null" => k!(SYS_time, 0).ok());
}
