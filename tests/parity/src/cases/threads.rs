//! Threads of one process.

use crate::out::Out;
use crate::sys::{child, count, on};
use crate::util::{
    anon, bit, in_child, mask, mask_text, pending, pipe, read, sleep_ms, wait_text, write,
};
use crate::{cases, k, say, sys, tell};
use libc::*;
use std::cell::Cell;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Condvar, Mutex, RwLock, mpsc};
use std::thread;

cases!(
    start_and_join,
    many_threads,
    a_thousand_woken_at_once,
    locals_are_apart,
    ids_of_threads,
    shared_memory_and_files,
    mutex_contention,
    condition_variable,
    channels,
    barrier_and_rwlock,
    exit_group_ends_all,
    exit_of_leader_first,
    last_thread_ends_process,
    exec_from_other_thread,
    fork_from_thread,
    signal_to_one_thread,
    signal_to_process_any_thread,
    mask_per_thread,
    pending_per_thread,
    fatal_signal_ends_all,
    stop_stops_all,
    names_of_threads,
    clear_child_tid,
    credentials_per_thread,
    task_directory,
    detached_threads,
    thread_local_after_exec,
    affinity,
    threads_touching_memory,
    unmap_while_others_run,
    rlimit_nproc,
    clone_argument_errors,
    wait_from_other_thread,
    signal_mask_inherited,
);

fn start_and_join(o: Out) {
    let t = thread::spawn(|| 41 + 1);
    tell!(o, "value" => t.join().unwrap_or(-1));
}

fn many_threads(o: Out) {
    let sum = Arc::new(AtomicU64::new(0));
    for _ in 0..5 {
        let all: Vec<_> = (0..40u64)
            .map(|i| {
                let s = sum.clone();
                thread::spawn(move || {
                    s.fetch_add(i, SeqCst);
                })
            })
            .collect();
        all.into_iter().for_each(|t| {
            let _ = t.join();
        });
    }
    tell!(o, "sum" => sum.load(SeqCst));
}

thread_local! { static MINE: Cell<u64> = const { Cell::new(5) }; }

fn a_thousand_woken_at_once(o: Out) {
    const THREADS: u32 = 1024;
    let at = anon(4096);
    let (go, waiting, woken) = (sys::word(at), sys::word(at + 64), sys::word(at + 128));
    let start = |_| {
        let body = move || {
            waiting.fetch_add(1, SeqCst);
            while go.load(SeqCst) == 0 {
                k!(SYS_futex, at, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, 0);
            }
            woken.fetch_add(1, SeqCst);
        };
        thread::Builder::new().stack_size(64 << 10).spawn(body).ok()
    };
    let all: Vec<_> = (0..THREADS).filter_map(start).collect();
    while waiting.load(SeqCst) < all.len() as u32 {
        k!(SYS_sched_yield);
    }
    let tasks = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    go.store(1, SeqCst);
    k!(SYS_futex, at, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, i32::MAX);
    let joined = all.into_iter().filter_map(|t| t.join().ok()).count();
    tell!(o, "tasks" => tasks, "joined" => joined, "woken" => woken.load(SeqCst));
}

fn locals_are_apart(o: Out) {
    MINE.set(1);
    let all: Vec<_> = (0..8)
        .map(|i| {
            thread::spawn(move || {
                let was = MINE.get();
                MINE.set(i * 10);
                thread::yield_now();
                (was, MINE.get())
            })
        })
        .collect();
    let seen: Vec<_> = all.into_iter().filter_map(|t| t.join().ok()).collect();
    tell!(o, "theirs" => format!("{seen:?}"), "mine" => MINE.get());
}

fn ids_of_threads(o: Out) {
    let pid = k!(SYS_getpid);
    let tid = k!(SYS_gettid);
    let (same, apart, parent) = thread::spawn(move || {
        (
            k!(SYS_getpid) == pid,
            k!(SYS_gettid) != tid,
            k!(SYS_getppid),
        )
    })
    .join()
    .unwrap_or((false, false, sys::R(0)));
    tell!(o, "leader" => pid == tid, "same process" => same, "other thread" => apart, "same parent" => parent == k!(SYS_getppid));
}

fn shared_memory_and_files(o: Out) {
    let fd = thread::spawn(|| {
        k!(SYS_chdir, c"/");
        k!(SYS_umask, 0o27);
        crate::util::open(c"/dev/null", O_RDONLY, 0).int()
    })
    .join()
    .unwrap_or(-1);
    let mut b = [0u8; 64];
    tell!(o, "descriptor" => k!(SYS_fcntl, fd, F_GETFD), "cwd" => { k!(SYS_getcwd, &mut b, 64); b[1] }, "umask" => k!(SYS_umask, 0));
}

fn mutex_contention(o: Out) {
    let m = Arc::new(Mutex::new(0u64));
    let all: Vec<_> = (0..4)
        .map(|_| {
            let m = m.clone();
            thread::spawn(move || {
                for _ in 0..5000 {
                    if let Ok(mut g) = m.lock() {
                        *g += 1;
                    }
                }
            })
        })
        .collect();
    all.into_iter().for_each(|t| {
        let _ = t.join();
    });
    tell!(o, "count" => m.lock().map_or(0, |g| *g));
}

fn condition_variable(o: Out) {
    let pair = Arc::new((Mutex::new(0), Condvar::new()));
    let all: Vec<_> = (0..6)
        .map(|i| {
            let p = pair.clone();
            thread::spawn(move || {
                let Ok(mut turn) = p.0.lock() else { return };
                while *turn != i {
                    turn = match p.1.wait(turn) {
                        Ok(t) => t,
                        Err(_) => return,
                    };
                }
                say!(o, "turn {i}");
                *turn += 1;
                p.1.notify_all();
            })
        })
        .collect();
    all.into_iter().for_each(|t| {
        let _ = t.join();
    });
}

fn channels(o: Out) {
    let (tx, rx) = mpsc::channel();
    for i in 0..4u64 {
        let tx = tx.clone();
        thread::spawn(move || {
            for n in 0..500 {
                let _ = tx.send(i * 1000 + n);
            }
        });
    }
    drop(tx);
    let mut all: Vec<u64> = rx.iter().collect();
    all.sort_unstable();
    tell!(o, "count" => all.len(), "sum" => all.iter().sum::<u64>());
}

fn barrier_and_rwlock(o: Out) {
    let b = Arc::new(Barrier::new(5));
    let l = Arc::new(RwLock::new(0));
    let all: Vec<_> = (0..5)
        .map(|_| {
            let (b, l) = (b.clone(), l.clone());
            thread::spawn(move || {
                let mut leaders = 0;
                for _ in 0..20 {
                    leaders += i32::from(b.wait().is_leader());
                    if let Ok(mut w) = l.write() {
                        *w += 1;
                    }
                }
                leaders
            })
        })
        .collect();
    let leaders: i32 = all.into_iter().filter_map(|t| t.join().ok()).sum();
    tell!(o, "leaders" => leaders, "writes" => l.read().map_or(0, |r| *r));
}

fn exit_group_ends_all(o: Out) {
    tell!(o, "end" => in_child(|| { for _ in 0..4 { thread::spawn(|| loop { sleep_ms(1000); }); } thread::spawn(|| { sleep_ms(20); k!(SYS_exit_group, 17); }); loop { k!(SYS_pause); } }));
}

fn exit_of_leader_first(o: Out) {
    let (r, w) = pipe();
    let pid = child(|| {
        thread::spawn(move || {
            sleep_ms(120);
            write(w, b"after");
            k!(SYS_exit_group, 23);
        });
        k!(SYS_exit, 5);
        0
    });
    sleep_ms(40);
    tell!(o, "not dead yet" => k!(SYS_wait4, pid, 0, WNOHANG, 0), "signalable" => k!(SYS_kill, pid, 0), "thread went on" => read(r, 9).1, "status" => wait_text(pid));
}

fn last_thread_ends_process(o: Out) {
    let pid = child(|| {
        thread::spawn(|| {
            sleep_ms(60);
            k!(SYS_exit, 9);
        });
        k!(SYS_exit, 6);
        0
    });
    tell!(o, "status is the last one's" => wait_text(pid));
}

fn exec_from_other_thread(o: Out) {
    let pid = child(|| {
        thread::spawn(|| {
            loop {
                sleep_ms(1000);
            }
        });
        let _ = thread::spawn(|| {
            let argv = [
                c"p".as_ptr(),
                c"--child".as_ptr(),
                c"thread-pid".as_ptr(),
                std::ptr::null(),
            ];
            k!(SYS_execve, c"/proc/self/exe", &argv, 0);
        })
        .join();
        77
    });
    tell!(o, "tid is pid" => wait_text(pid));
}

fn fork_from_thread(o: Out) {
    let s = thread::spawn(|| in_child(|| i32::from(k!(SYS_getpid) == k!(SYS_gettid))))
        .join()
        .unwrap_or_default();
    tell!(o, "child has one thread" => s);
}

/// Starts a thread that tells its id and then waits to be released.
fn waiting_thread(setup: fn()) -> (i64, mpsc::Sender<()>, thread::JoinHandle<u64>) {
    let (id_tx, id_rx) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let t = thread::spawn(move || {
        setup();
        let _ = id_tx.send(k!(SYS_gettid).0);
        let _ = wait.recv();
        HANDLED_BY.load(SeqCst) as u64
    });
    (id_rx.recv().unwrap_or(0), go, t)
}

static HANDLED_BY: AtomicI32 = AtomicI32::new(0);

extern "C" fn who(_: i32) {
    HANDLED_BY.store(k!(SYS_gettid).int(), SeqCst);
}

fn signal_to_one_thread(o: Out) {
    sys::set_handler(SIGUSR1, who as *const () as usize, SA_RESTART);
    let (tid, go, t) = waiting_thread(|| {});
    let pid = k!(SYS_getpid);
    tell!(o, "tgkill" => k!(SYS_tgkill, pid, tid, SIGUSR1));
    sleep_ms(50);
    tell!(o, "by that one" => i64::from(HANDLED_BY.load(SeqCst)) == tid);
    drop(go);
    let _ = t.join();
    sleep_ms(30);
    tell!(o, "after its end" => k!(SYS_tgkill, pid, tid, SIGUSR1));
}

fn signal_to_process_any_thread(o: Out) {
    sys::set_handler(SIGUSR1, who as *const () as usize, SA_RESTART);
    let (tid, go, t) = waiting_thread(|| {});
    mask(SIG_BLOCK, bit(SIGUSR1));
    k!(SYS_kill, k!(SYS_getpid), SIGUSR1);
    sleep_ms(50);
    tell!(o, "by the one that can" => i64::from(HANDLED_BY.load(SeqCst)) == tid);
    drop(go);
    let _ = t.join();
}

fn mask_per_thread(o: Out) {
    mask(SIG_SETMASK, bit(SIGHUP));
    let theirs = thread::spawn(|| {
        let mut before = 0u64;
        k!(SYS_rt_sigprocmask, 0, 0, &mut before, 8);
        mask(SIG_BLOCK, bit(SIGTERM));
        before
    })
    .join()
    .unwrap_or(0);
    let mut mine = 0u64;
    k!(SYS_rt_sigprocmask, 0, 0, &mut mine, 8);
    tell!(o, "inherited" => mask_text(theirs), "mine" => mask_text(mine));
}

fn pending_per_thread(o: Out) {
    mask(SIG_BLOCK, bit(SIGUSR1) | bit(SIGUSR2));
    let pid = k!(SYS_getpid);
    let s = thread::spawn(move || {
        k!(SYS_tgkill, pid, k!(SYS_gettid), SIGUSR1);
        k!(SYS_kill, pid, SIGUSR2);
        mask_text(pending())
    })
    .join()
    .unwrap_or_default();
    tell!(o, "thread sees" => s, "leader sees" => mask_text(pending()));
}

fn fatal_signal_ends_all(o: Out) {
    tell!(o, "end" => in_child(|| {
        for _ in 0..3 {
            thread::spawn(|| loop { sleep_ms(1000); });
        }
        let (tid, _go, _t) = waiting_thread(|| {});
        k!(SYS_tgkill, k!(SYS_getpid), tid, SIGTERM);
        sleep_ms(3000);
        0
    }));
}

fn stop_stops_all(o: Out) {
    let m = crate::util::shared(4096);
    let kid = child(|| {
        for _ in 0..2 {
            thread::spawn(move || {
                loop {
                    sys::word(m).fetch_add(1, SeqCst);
                    sleep_ms(2);
                }
            });
        }
        loop {
            k!(SYS_pause);
        }
    });
    sleep_ms(50);
    k!(SYS_kill, kid, SIGSTOP);
    k!(SYS_wait4, kid, 0, WUNTRACED, 0);
    let a = sys::word(m).load(SeqCst);
    sleep_ms(50);
    let b = sys::word(m).load(SeqCst);
    k!(SYS_kill, kid, SIGCONT);
    sleep_ms(50);
    let c = sys::word(m).load(SeqCst);
    k!(SYS_kill, kid, SIGKILL);
    tell!(o, "ran" => a > 0, "stood" => a == b, "ran on" => c > b, "end" => wait_text(kid));
}

fn names_of_threads(o: Out) {
    k!(SYS_prctl, PR_SET_NAME, c"leader", 0, 0, 0);
    let (own, inherited) = thread::spawn(|| {
        let get = || {
            let mut b = [0u8; 16];
            k!(SYS_prctl, PR_GET_NAME, &mut b, 0, 0, 0);
            crate::util::show(&b[..8])
        };
        let inherited = get();
        k!(SYS_prctl, PR_SET_NAME, c"worker", 0, 0, 0);
        (get(), inherited)
    })
    .join()
    .unwrap_or_default();
    tell!(o, "inherited" => inherited, "own" => own, "leader's" => crate::util::cat(c"/proc/self/comm"));
}

extern "C" fn plain_body(_: *mut c_void) -> i32 {
    sleep_ms(30);
    k!(SYS_exit, 0);
    0
}

fn clear_child_tid(o: Out) {
    let m = anon(4096);
    sys::word(m).store(1, SeqCst);
    let stack = anon(65536) + 65536;
    let flags = CLONE_VM
        | CLONE_FS
        | CLONE_FILES
        | CLONE_SIGHAND
        | CLONE_THREAD
        | CLONE_SYSVSEM
        | CLONE_CHILD_CLEARTID;
    let tid = sys::clone_thread(flags, stack, plain_body, m);
    tell!(o, "made" => tid > 0, "wait" => k!(SYS_futex, m, FUTEX_WAIT, 1, 0, 0, 0), "cleared" => sys::word(m).load(SeqCst), "not a child" => k!(SYS_wait4, tid, 0, __WALL, 0));
}

fn credentials_per_thread(o: Out) {
    // The kernel's calls change one thread; the C library does the rest.
    let theirs = thread::spawn(|| {
        k!(SYS_setresuid, 1000, 1000, 1000);
        k!(SYS_getuid)
    })
    .join()
    .unwrap_or(sys::R(-1));
    tell!(o, "theirs" => theirs, "mine" => k!(SYS_getuid));
}

fn task_directory(o: Out) {
    let n = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    let before = n();
    let (_tid, go, t) = waiting_thread(|| {});
    let during = n();
    drop(go);
    let _ = t.join();
    sleep_ms(30);
    tell!(o, "before" => before, "during" => during, "after" => n());
}

fn detached_threads(o: Out) {
    static DONE: AtomicI32 = AtomicI32::new(0);
    for _ in 0..20 {
        thread::spawn(|| {
            DONE.fetch_add(1, SeqCst);
        });
    }
    for _ in 0..200 {
        if DONE.load(SeqCst) == 20 {
            break;
        }
        sleep_ms(5);
    }
    tell!(o, "done" => DONE.load(SeqCst));
}

fn thread_local_after_exec(o: Out) {
    let base = |which: i32| {
        let mut v = 0u64;
        k!(SYS_arch_prctl, which, &mut v);
        v
    };
    tell!(o, "fs set" => base(0x1003) != 0, "gs" => base(0x1004), "set gs" => k!(SYS_arch_prctl, 0x1001, 0x1234_5000), "gs" => base(0x1004), "bad" => k!(SYS_arch_prctl, 0x1001, 1usize << 63), "unknown" => k!(SYS_arch_prctl, 0x77, 0));
}

fn affinity(o: Out) {
    let mut set = [0u64; 16];
    let n = k!(SYS_sched_getaffinity, 0, 128, &mut set);
    tell!(o, "get" => n.ok(), "first CPU" => set[0] & 1, "small" => k!(SYS_sched_getaffinity, 0, 3, &mut set), "nobody" => k!(SYS_sched_getaffinity, 999_999, 128, &mut set));
    let one = 1u64;
    let none = 0u64;
    tell!(o, "set" => k!(SYS_sched_setaffinity, 0, 8, &one), "none" => k!(SYS_sched_setaffinity, 0, 8, &none));
    set = [0; 16];
    k!(SYS_sched_getaffinity, 0, 128, &mut set);
    let mut cpu = 99u32;
    tell!(o, "now" => set[0], "getcpu" => k!(SYS_getcpu, &mut cpu, 0, 0), "cpu" => cpu);
}

fn threads_touching_memory(o: Out) {
    let m = anon(4 << 20);
    let all: Vec<_> = (0..4usize)
        .map(|i| {
            thread::spawn(move || {
                for p in 0..1024 {
                    sys::poke(m + p * 4096 + i, i as u8 + 1);
                }
            })
        })
        .collect();
    all.into_iter().for_each(|t| {
        let _ = t.join();
    });
    tell!(o, "all there" => (0..1024).all(|p| sys::get(m + p * 4096, 4) == [1, 2, 3, 4]));
}

fn unmap_while_others_run(o: Out) {
    let t = thread::spawn(|| {
        for _ in 0..300 {
            let m = anon(16384);
            sys::poke(m + 8000, 1);
            k!(SYS_munmap, m, 16384);
        }
    });
    for _ in 0..300 {
        let m = anon(8192);
        sys::poke(m, 2);
        k!(SYS_mprotect, m, 4096, PROT_READ);
        k!(SYS_munmap, m, 8192);
    }
    tell!(o, "joined" => t.join().is_ok());
}

fn rlimit_nproc(o: Out) {
    crate::util::as_user(|| {
        k!(
            SYS_prlimit64,
            0,
            RLIMIT_NPROC,
            &rlimit {
                rlim_cur: 0,
                rlim_max: 0
            },
            0
        );
        let r = k!(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        if r.0 == 0 {
            k!(SYS_exit_group, 0);
        }
        tell!(o, "fork at the limit" => r.yes());
    });
}

fn clone_argument_errors(o: Out) {
    let c = |f: i32| {
        let r = k!(SYS_clone, f, 0, 0, 0, 0);
        if r.0 == 0 {
            k!(SYS_exit_group, 0);
        }
        r.yes()
    };
    tell!(o, "thread alone" => c(CLONE_THREAD), "sighand alone" => c(CLONE_SIGHAND | SIGCHLD), "thread without vm" => c(CLONE_THREAD | CLONE_SIGHAND), "newns with fs" => c(CLONE_NEWNS | CLONE_FS), "clear and sighand" => c(CLONE_VM | CLONE_SIGHAND | CLONE_NEWUSER | CLONE_FS));
}

fn wait_from_other_thread(o: Out) {
    let kid = child(|| 4);
    tell!(o, "by a thread" => thread::spawn(move || wait_text(kid)).join().unwrap_or_default());
    let mut st = 0;
    let s = thread::spawn(|| child(|| 3)).join().unwrap_or(0);
    tell!(o, "made by a thread" => k!(SYS_wait4, s, &mut st, 0, 0).0 == i64::from(s));
    let s = thread::spawn(|| {
        let kid = child(|| {
            sleep_ms(50);
            3
        });
        (
            kid,
            k!(SYS_wait4, -1, 0, __WNOTHREAD, 0).0 == i64::from(kid),
        )
    })
    .join()
    .unwrap_or_default();
    tell!(o, "own only" => s.1);
}

fn signal_mask_inherited(o: Out) {
    on(SIGUSR2, 0);
    mask(SIG_BLOCK, bit(SIGUSR2));
    let (tid, go, t) = waiting_thread(|| {});
    k!(SYS_tgkill, k!(SYS_getpid), tid, SIGUSR2);
    sleep_ms(30);
    tell!(o, "held back" => count(SIGUSR2), "not mine" => mask_text(pending()));
    drop(go);
    let _ = t.join();
}
