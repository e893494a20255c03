//! Handlers, masks, queues.

use crate::out::Out;
use crate::sys::{child, count, log, on, on_masked, order, seen, set_handler};
use crate::util::{
    bit, in_child, mask, mask_text, pending, pipe, read, sleep_ms, wait_text, write,
};
use crate::{cases, k, say, sys, tell};
use libc::*;
use std::sync::atomic::Ordering::SeqCst;

cases!(
    handler_runs,
    handler_info_of_kill,
    handler_info_of_queue,
    handler_info_of_tgkill,
    handler_masks_itself,
    handler_no_defer,
    handler_blocks_others,
    handler_once,
    action_arguments,
    action_reads_back,
    ignored_is_dropped,
    default_of_ignored_pending,
    mask_and_pending,
    mask_arguments,
    unmaskable,
    standard_signals_merge,
    real_time_queue_in_order,
    real_time_before_and_after,
    delivery_order_of_many,
    suspend_takes_and_restores,
    pause_returns_eintr,
    timed_wait_takes,
    timed_wait_arguments,
    wait_info_order,
    alternate_stack,
    alternate_stack_arguments,
    alternate_stack_in_use,
    fork_keeps_handlers_and_mask,
    pending_not_inherited,
    mask_restored_after_handler,
);

fn me() -> i64 {
    k!(SYS_getpid).0
}

fn raise(signal: i32) -> sys::R {
    k!(SYS_kill, me(), signal)
}

/// `sigqueue(3)` of a value to `pid`.
fn queue(pid: i64, signal: i32, value: i32) -> sys::R {
    let mut info = [0i32; 32];
    info[0] = signal;
    info[2] = SI_QUEUE;
    info[4] = pid as i32;
    info[6] = value;
    k!(SYS_rt_sigqueueinfo, pid, signal, &info)
}

fn handler_runs(o: Out) {
    for s in [SIGHUP, SIGUSR1, SIGTERM, SIGCHLD, SIGWINCH, 34, 64] {
        on(s, 0);
        let r = raise(s);
        say!(o, "{s} {r} {}", count(s));
    }
}

fn handler_info_of_kill(o: Out) {
    on(SIGUSR1, 0);
    raise(SIGUSR1);
    let s = seen(SIGUSR1);
    tell!(o, "code" => s.code.load(SeqCst), "from me" => i64::from(s.pid.load(SeqCst)) == me());
    let parent = me();
    let kid = child(|| {
        k!(SYS_kill, parent, SIGUSR1);
        0
    });
    wait_text(kid);
    tell!(o, "count" => count(SIGUSR1), "from child" => s.pid.load(SeqCst) == kid);
}

fn handler_info_of_queue(o: Out) {
    on(40, 0);
    on(SIGUSR2, 0);
    for s in [40, SIGUSR2] {
        tell!(o, "queue" => queue(me(), s, 1234), "code" => seen(s).code.load(SeqCst), "value" => seen(s).value.load(SeqCst) as i32);
    }
    tell!(o, "nobody" => queue(999_999, 40, 1), "zero" => queue(me(), 0, 1), "range" => queue(me(), 65, 1));
    let mut info = [0i32; 32];
    info[2] = 0;
    tell!(o, "forged to a child" => { let c = child(|| { sleep_ms(2000); 0 }); let r = k!(SYS_rt_sigqueueinfo, c, 40, &info); k!(SYS_kill, c, SIGKILL); wait_text(c); r });
}

fn handler_info_of_tgkill(o: Out) {
    on(SIGUSR1, 0);
    tell!(o, "tgkill" => k!(SYS_tgkill, me(), me(), SIGUSR1), "code" => seen(SIGUSR1).code.load(SeqCst), "tkill" => k!(SYS_tkill, me(), SIGUSR1), "count" => count(SIGUSR1),
        "wrong group" => k!(SYS_tgkill, 1, me(), SIGUSR1), "no thread" => k!(SYS_tgkill, me(), 999_999, SIGUSR1), "zero" => k!(SYS_tgkill, 0, me(), SIGUSR1), "negative" => k!(SYS_tgkill, me(), -1, SIGUSR1),
        "null signal" => k!(SYS_tgkill, me(), me(), 0), "range" => k!(SYS_tgkill, me(), me(), 65), "kill range" => k!(SYS_kill, me(), 65), "kill negative" => k!(SYS_kill, me(), -1), "nobody" => k!(SYS_kill, 999_999, 0));
}

fn handler_masks_itself(o: Out) {
    on(SIGUSR1, 0);
    raise(SIGUSR1);
    tell!(o, "inside" => mask_text(seen(SIGUSR1).mask.load(SeqCst)), "after" => now_mask());
}

fn now_mask() -> String {
    let mut m = 0u64;
    k!(SYS_rt_sigprocmask, 0, 0, &mut m, 8);
    mask_text(m)
}

extern "C" fn nesting(sig: i32) {
    let n = seen(sig).count.fetch_add(1, SeqCst);
    log(n);
    if n < 3 {
        k!(SYS_kill, k!(SYS_getpid), sig);
    }
    log(-n);
}

fn handler_no_defer(o: Out) {
    set_handler(SIGUSR1, nesting as *const () as usize, SA_NODEFER);
    raise(SIGUSR1);
    set_handler(SIGUSR2, nesting as *const () as usize, 0);
    raise(SIGUSR2);
    tell!(o, "nested then flat" => format!("{:?}", order()));
}

fn handler_blocks_others(o: Out) {
    on_masked(SIGUSR1, 0, &[SIGUSR2, SIGTERM, 40]);
    raise(SIGUSR1);
    tell!(o, "inside" => mask_text(seen(SIGUSR1).mask.load(SeqCst)));
    on_masked(SIGUSR1, SA_NODEFER, &[SIGUSR2]);
    raise(SIGUSR1);
    tell!(o, "nodefer" => mask_text(seen(SIGUSR1).mask.load(SeqCst)));
    on_masked(SIGUSR1, 0, &[SIGKILL, SIGSTOP]);
    raise(SIGUSR1);
    tell!(o, "kill and stop" => mask_text(seen(SIGUSR1).mask.load(SeqCst)));
}

fn handler_once(o: Out) {
    on(SIGUSR1, SA_RESETHAND);
    raise(SIGUSR1);
    tell!(o, "first" => count(SIGUSR1), "then" => in_child(|| { raise(SIGUSR1); 0 }));
}

fn action_arguments(o: Out) {
    let act = [0usize; 4];
    let set = |s: i32| k!(SYS_rt_sigaction, s, &act, 0, 8);
    tell!(o, "kill" => set(SIGKILL), "stop" => set(SIGSTOP), "zero" => set(0), "65" => set(65), "negative" => set(-1), "64" => set(64),
        "size" => k!(SYS_rt_sigaction, SIGUSR1, &act, 0, 4), "bad new" => k!(SYS_rt_sigaction, SIGUSR1, 16usize, 0, 8), "bad old" => k!(SYS_rt_sigaction, SIGUSR1, 0, 16usize, 8), "read kill" => k!(SYS_rt_sigaction, SIGKILL, 0, 0, 8));
}

fn action_reads_back(o: Out) {
    on_masked(SIGUSR1, SA_RESTART | SA_NODEFER, &[SIGHUP, SIGKILL, 35]);
    let mut act = [0u64; 4];
    k!(SYS_rt_sigaction, SIGUSR1, 0, &mut act, 8);
    tell!(o, "handler" => act[0] > 1, "flags" => format!("{:#x}", act[1]), "restorer" => act[2] != 0, "mask" => mask_text(act[3]));
    let fresh = [1usize, 0x8000_0000_0000 | 0x0400_0000, 0, 0];
    k!(SYS_rt_sigaction, SIGUSR2, &fresh, 0, 8);
    k!(SYS_rt_sigaction, SIGUSR2, 0, &mut act, 8);
    tell!(o, "ignored" => act[0], "flags" => format!("{:#x}", act[1]));
}

fn ignored_is_dropped(o: Out) {
    set_handler(SIGUSR1, SIG_IGN, 0);
    raise(SIGUSR1);
    on(SIGUSR1, 0);
    tell!(o, "later handler" => count(SIGUSR1));
    mask(SIG_BLOCK, bit(SIGUSR1));
    raise(SIGUSR1);
    set_handler(SIGUSR1, SIG_IGN, 0);
    tell!(o, "ignoring discards" => mask_text(pending()));
    raise(SIGUSR1);
    tell!(o, "blocked and ignored" => mask_text(pending()));
}

fn default_of_ignored_pending(o: Out) {
    mask(SIG_BLOCK, bit(SIGWINCH) | bit(SIGCHLD) | bit(SIGCONT));
    for s in [SIGWINCH, SIGCHLD, SIGCONT] {
        raise(s);
    }
    tell!(o, "pending" => mask_text(pending()));
    set_handler(SIGWINCH, SIG_DFL, 0);
    tell!(o, "after default" => mask_text(pending()));
    on(SIGCHLD, 0);
    mask(SIG_UNBLOCK, bit(SIGWINCH) | bit(SIGCHLD) | bit(SIGCONT));
    tell!(o, "handled" => count(SIGCHLD), "left" => mask_text(pending()));
}

fn mask_and_pending(o: Out) {
    on(SIGUSR1, 0);
    mask(SIG_BLOCK, bit(SIGUSR1) | bit(SIGUSR2));
    raise(SIGUSR1);
    tell!(o, "held" => count(SIGUSR1), "pending" => mask_text(pending()), "mask" => now_mask());
    mask(SIG_UNBLOCK, bit(SIGUSR1));
    tell!(o, "then" => count(SIGUSR1), "pending" => mask_text(pending()), "mask" => now_mask());
    mask(SIG_SETMASK, bit(40));
    tell!(o, "set" => now_mask());
}

fn mask_arguments(o: Out) {
    let set = 0u64;
    let mut old = 0u64;
    tell!(o, "how" => k!(SYS_rt_sigprocmask, 7, &set, 0, 8), "how without set" => k!(SYS_rt_sigprocmask, 7, 0, &mut old, 8), "size" => k!(SYS_rt_sigprocmask, 0, &set, 0, 4), "bad set" => k!(SYS_rt_sigprocmask, 0, 16usize, 0, 8), "bad old" => k!(SYS_rt_sigprocmask, 0, 0, 16usize, 8),
        "pending size" => k!(SYS_rt_sigpending, &mut old, 16), "pending small" => k!(SYS_rt_sigpending, &mut old, 4), "pending bad" => k!(SYS_rt_sigpending, 16usize, 8), "suspend size" => k!(SYS_rt_sigsuspend, &set, 4));
}

fn unmaskable(o: Out) {
    mask(SIG_SETMASK, u64::MAX);
    tell!(o, "mask" => { let mut m = 0u64; k!(SYS_rt_sigprocmask, 0, 0, &mut m, 8); format!("{m:#x}") }, "kill" => in_child(|| { raise(SIGKILL); 0 }));
}

fn standard_signals_merge(o: Out) {
    on(SIGUSR1, 0);
    on(SIGTERM, 0);
    mask(SIG_BLOCK, bit(SIGUSR1) | bit(SIGTERM));
    for _ in 0..4 {
        raise(SIGUSR1);
        queue(me(), SIGTERM, 3);
    }
    mask(SIG_UNBLOCK, bit(SIGUSR1) | bit(SIGTERM));
    tell!(o, "usr1" => count(SIGUSR1), "term" => count(SIGTERM));
}

fn real_time_queue_in_order(o: Out) {
    for s in 34..=37 {
        on(s, 0);
    }
    let all = (34..=37).map(bit).sum();
    mask(SIG_BLOCK, all);
    for (i, s) in [36, 34, 35, 34, 37, 36].iter().enumerate() {
        queue(me(), *s, i as i32);
    }
    tell!(o, "pending" => mask_text(pending()));
    for s in 34..=37 {
        mask(SIG_UNBLOCK, bit(s));
    }
    tell!(o, "order" => format!("{:?}", order()));
}

fn real_time_before_and_after(o: Out) {
    // Handlers are stacked one over the other: the last set up runs first.
    for s in [SIGUSR1, 34, 35] {
        on_masked(s, 0, &[SIGUSR1, 34, 35]);
    }
    let all = bit(SIGUSR1) | bit(34) | bit(35);
    mask(SIG_BLOCK, all);
    queue(me(), 35, 1);
    raise(SIGUSR1);
    queue(me(), 34, 2);
    queue(me(), 34, 3);
    mask(SIG_UNBLOCK, all);
    tell!(o, "order" => format!("{:?}", order()));
}

fn delivery_order_of_many(o: Out) {
    let list = [SIGUSR1, SIGUSR2, SIGHUP, SIGTERM, SIGALRM];
    let all = list.iter().map(|s| bit(*s)).sum();
    for s in list {
        on_masked(s, 0, &list);
    }
    mask(SIG_BLOCK, all);
    for s in list {
        raise(s);
    }
    mask(SIG_UNBLOCK, all);
    tell!(o, "order" => format!("{:?}", order()));
}

fn suspend_takes_and_restores(o: Out) {
    on(SIGUSR1, 0);
    mask(SIG_SETMASK, bit(SIGUSR1) | bit(SIGHUP));
    raise(SIGUSR1);
    let only = bit(SIGTERM);
    tell!(o, "suspend" => k!(SYS_rt_sigsuspend, &only, 8), "handled" => count(SIGUSR1), "mask inside" => mask_text(seen(SIGUSR1).mask.load(SeqCst)), "mask after" => now_mask());
}

fn pause_returns_eintr(o: Out) {
    for flags in [0, SA_RESTART] {
        on(SIGALRM, flags);
        let it = itimerval {
            it_interval: sys::zeroed(),
            it_value: timeval {
                tv_sec: 0,
                tv_usec: 20_000,
            },
        };
        k!(SYS_setitimer, ITIMER_REAL, &it, 0);
        tell!(o, "pause" => k!(SYS_pause));
    }
    tell!(o, "handled" => count(SIGALRM));
}

fn timed_wait(set: u64, ms: i64) -> String {
    let mut info = [0i32; 32];
    let ts = timespec {
        tv_sec: ms / 1000,
        tv_nsec: ms % 1000 * 1_000_000,
    };
    let r = k!(SYS_rt_sigtimedwait, &set, &mut info, &ts, 8);
    if r.ok() {
        format!(
            "{r} signo {} code {} value {}",
            info[0],
            info[2],
            if info[2] == SI_QUEUE { info[6] } else { 0 }
        )
    } else {
        r.to_string()
    }
}

fn timed_wait_takes(o: Out) {
    let set = bit(SIGUSR1) | bit(34) | bit(35);
    mask(SIG_BLOCK, set);
    tell!(o, "nothing" => timed_wait(set, 0), "time out" => timed_wait(set, 20));
    raise(SIGUSR1);
    queue(me(), 35, 5);
    queue(me(), 34, 6);
    queue(me(), 34, 7);
    for _ in 0..5 {
        say!(o, "{}", timed_wait(set, 0));
    }
    on(SIGUSR2, 0);
    let pid = me();
    let kid = child(|| {
        sleep_ms(40);
        k!(SYS_kill, pid, SIGUSR2);
        0
    });
    tell!(o, "other signal" => timed_wait(set, 3000), "handled" => count(SIGUSR2), "child" => wait_text(kid));
}

fn timed_wait_arguments(o: Out) {
    let set = bit(SIGUSR1);
    let bad = timespec {
        tv_sec: 0,
        tv_nsec: 1_000_000_000,
    };
    let neg = timespec {
        tv_sec: -1,
        tv_nsec: 0,
    };
    tell!(o, "nsec" => k!(SYS_rt_sigtimedwait, &set, 0, &bad, 8), "negative" => k!(SYS_rt_sigtimedwait, &set, 0, &neg, 8), "size" => k!(SYS_rt_sigtimedwait, &set, 0, 0, 4), "null set" => k!(SYS_rt_sigtimedwait, 0, 0, 0, 8));
}

fn wait_info_order(o: Out) {
    let set = bit(SIGTERM) | bit(SIGHUP) | bit(SIGSEGV) | bit(50);
    mask(SIG_BLOCK, set);
    for s in [50, SIGTERM, SIGSEGV, SIGHUP] {
        raise(s);
    }
    let order: Vec<_> = (0..4).map(|_| timed_wait(set, 0)).collect();
    tell!(o, "taken" => format!("{order:?}"));
}

fn stack_of(sp: usize, size: usize, flags: i32) -> stack_t {
    stack_t {
        ss_sp: sp as *mut c_void,
        ss_flags: flags,
        ss_size: size,
    }
}

fn stack_text() -> String {
    let mut s: stack_t = sys::zeroed();
    k!(SYS_sigaltstack, 0, &mut s);
    format!(
        "flags {} size {} set {}",
        s.ss_flags,
        s.ss_size,
        !s.ss_sp.is_null()
    )
}

fn alternate_stack(o: Out) {
    k!(SYS_sigaltstack, &stack_of(0, 0, SS_DISABLE), 0);
    tell!(o, "at first" => stack_text());
    let m = crate::util::anon(65536);
    tell!(o, "set" => k!(SYS_sigaltstack, &stack_of(m, 65536, 0), 0), "now" => stack_text());
    on(SIGUSR1, SA_ONSTACK);
    on(SIGUSR2, 0);
    raise(SIGUSR1);
    raise(SIGUSR2);
    let inside = |s: i32| (m..m + 65536).contains(&seen(s).stack.load(SeqCst));
    tell!(o, "on it" => inside(SIGUSR1), "not on it" => inside(SIGUSR2), "after" => stack_text());
    tell!(o, "off" => k!(SYS_sigaltstack, &stack_of(0, 0, SS_DISABLE), 0), "now" => stack_text());
    raise(SIGUSR1);
    tell!(o, "normal again" => inside(SIGUSR1));
}

fn alternate_stack_arguments(o: Out) {
    let m = crate::util::anon(65536);
    tell!(o, "small" => k!(SYS_sigaltstack, &stack_of(m, 100, 0), 0), "flags" => k!(SYS_sigaltstack, &stack_of(m, 65536, 8), 0), "autodisarm" => k!(SYS_sigaltstack, &stack_of(m, 65536, 1 << 31), 0), "now" => { let mut s: stack_t = sys::zeroed(); k!(SYS_sigaltstack, 0, &mut s); format!("{:#x}", s.ss_flags) },
        "bad new" => k!(SYS_sigaltstack, 16usize, 0), "bad old" => k!(SYS_sigaltstack, 0, 16usize), "child keeps" => in_child(|| i32::from(stack_text().contains("set true"))));
}

extern "C" fn on_stack(sig: i32) {
    let mut s: stack_t = sys::zeroed();
    k!(SYS_sigaltstack, 0, &mut s);
    log(s.ss_flags);
    let r = k!(SYS_sigaltstack, &stack_of(0, 0, SS_DISABLE), 0);
    log(r.int());
    seen(sig).count.fetch_add(1, SeqCst);
}

fn alternate_stack_in_use(o: Out) {
    let m = crate::util::anon(65536);
    k!(SYS_sigaltstack, &stack_of(m, 65536, 0), 0);
    set_handler(SIGUSR1, on_stack as *const () as usize, SA_ONSTACK);
    raise(SIGUSR1);
    tell!(o, "flags, change" => format!("{:?}", order()));
}

fn fork_keeps_handlers_and_mask(o: Out) {
    on(SIGUSR1, 0);
    mask(SIG_BLOCK, bit(SIGHUP));
    tell!(o, "child" => in_child(|| { raise(SIGUSR1); raise(SIGHUP); count(SIGUSR1) * 10 + i32::from(pending() == bit(SIGHUP)) }), "mine" => count(SIGUSR1));
}

fn pending_not_inherited(o: Out) {
    mask(SIG_BLOCK, bit(SIGUSR1));
    raise(SIGUSR1);
    let (r, w) = pipe();
    in_child(|| {
        write(w, mask_text(pending()).as_bytes());
        0
    });
    tell!(o, "child" => read(r, 50).1, "mine" => mask_text(pending()));
}

fn mask_restored_after_handler(o: Out) {
    on_masked(SIGUSR1, 0, &[SIGHUP]);
    mask(SIG_SETMASK, bit(SIGTERM));
    raise(SIGUSR1);
    tell!(o, "inside" => mask_text(seen(SIGUSR1).mask.load(SeqCst)), "after" => now_mask());
}
