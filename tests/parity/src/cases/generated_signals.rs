//! Long sequences of sending, blocking and taking signals, chosen by a fixed seed: what comes, in
//! which order, and what is left.

use crate::dice::Dice;
use crate::out::Out;
use crate::util::{bit, mask, mask_text, pending};
use crate::{cases, k, say, sys};
use libc::*;

cases!(signals_1, signals_2, signals_3, signals_4);

const STEPS: usize = 400;
const SIGNALS: &[i32] = &[
    SIGHUP, SIGUSR1, SIGUSR2, SIGTERM, SIGCHLD, SIGURG, SIGCONT, 34, 35, 40, 64, 64,
];

fn run(o: Out, seed: u64) {
    let mut dice = Dice::new(seed);
    for signal in SIGNALS {
        sys::on(*signal, 0);
    }
    let fd = k!(SYS_signalfd4, -1, &u64::MAX, 8, SFD_NONBLOCK).int();
    for _ in 0..STEPS {
        let said = step(&mut dice, fd);
        let seen: Vec<String> = SIGNALS
            .iter()
            .filter_map(|s| {
                let n = sys::seen(*s)
                    .count
                    .swap(0, std::sync::atomic::Ordering::SeqCst);
                (n > 0).then(|| format!("{s}x{n}"))
            })
            .collect();
        say!(o, "{said} {}", seen.join(" "));
    }
}

fn set(dice: &mut Dice) -> u64 {
    (0..dice.roll(6)).fold(0, |all, _| all | bit(dice.pick(SIGNALS)))
}

fn step(dice: &mut Dice, fd: i32) -> String {
    let signal = dice.pick(SIGNALS);
    let me = k!(SYS_getpid).int();
    match dice.roll(14) {
        0..=1 => format!("kill {signal}: {}", k!(SYS_kill, me, signal)),
        2 => {
            let r = k!(SYS_tgkill, me, k!(SYS_gettid), signal);
            format!("tgkill {signal}: {r}")
        }
        3..=5 => {
            let (value, code) = (
                dice.roll(100) as i32,
                dice.pick(&[SI_QUEUE, SI_QUEUE, SI_TKILL, 0, SI_USER]),
            );
            let info = queued(signal, code, value);
            let r = if dice.roll(2) == 0 {
                k!(SYS_rt_sigqueueinfo, me, signal, &info)
            } else {
                k!(SYS_rt_tgsigqueueinfo, me, k!(SYS_gettid), signal, &info)
            };
            format!("queue {signal} {code} {value}: {r}")
        }
        6..=8 => {
            let how = dice.pick(&[SIG_BLOCK, SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK, 7]);
            let set = set(dice);
            format!("mask {how} {}: {}", mask_text(set), mask(how, set))
        }
        9..=10 => {
            let set = set(dice);
            let mut info = [0i32; 32];
            let now = timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            let r = k!(SYS_rt_sigtimedwait, &set, &mut info, &now, 8);
            format!(
                "take {}: {r} code {} value {}",
                mask_text(set),
                info[2],
                info[6]
            )
        }
        11 => {
            let mut info = [0u32; 32];
            let set = set(dice);
            let r = k!(SYS_signalfd4, fd, &set, 8, 0);
            let n = k!(SYS_read, fd, &mut info, 128);
            format!(
                "by descriptor {} {}: {n} {} code {} value {}",
                mask_text(set),
                r.yes(),
                info[0],
                info[2] as i32,
                info[11]
            )
        }
        12 => {
            let action = [
                if harmless(signal) && dice.roll(2) == 0 {
                    SIG_DFL
                } else {
                    SIG_IGN
                },
                0,
                0,
                0,
            ];
            if dice.roll(2) == 0 {
                let r = k!(SYS_rt_sigaction, signal, &action, 0, 8);
                format!("ignore {signal}: {r}")
            } else {
                sys::on(signal, 0);
                format!("handle {signal}")
            }
        }
        _ => format!("pending {}", mask_text(pending())),
    }
}

fn harmless(signal: i32) -> bool {
    matches!(signal, SIGCHLD | SIGURG | SIGCONT)
}

/// A `siginfo_t` as rt_sigqueueinfo(2) takes it.
fn queued(signal: i32, code: i32, value: i32) -> [i32; 32] {
    let mut info = [0i32; 32];
    (info[0], info[2], info[6]) = (signal, code, value);
    info
}

macro_rules! seeds {
    ($($name:ident: $seed:literal;)*) => { $(fn $name(o: Out) { run(o, $seed); })* };
}
seeds! {
    signals_1: 301;
    signals_2: 302;
    signals_3: 303;
    signals_4: 304;
}
