//! What the program does when a case executes it again.

use crate::k;
use crate::sys::{self};
use crate::util::{bit, mask_text, pending};

/// Runs `probes --child WHAT…`; what it prints goes to descriptor 1 unless the
/// first word names another.
pub fn run(args: &[String]) -> i32 {
    let what = args.first().map_or("", String::as_str);
    match what {
        "exit" => args.get(1).and_then(|a| a.parse().ok()).unwrap_or(99),
        "args" => {
            let all: Vec<Vec<u8>> = std::fs::read("/proc/self/cmdline")
                .unwrap_or_default()
                .split(|b| *b == 0)
                .map(<[u8]>::to_vec)
                .collect();
            println!(
                "cmdline {:?}",
                all.iter()
                    .map(|a| a.escape_ascii().to_string())
                    .collect::<Vec<_>>()
            );
            0
        }
        "caps" => {
            let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            for line in text.lines().filter(|l| l.starts_with("Cap")) {
                println!("{line}");
            }
            0
        }
        "limits" => crate::limits::run(&args[1..]),
        "env" => {
            let mut vars: Vec<_> = std::env::vars().collect();
            vars.sort();
            println!("{vars:?}");
            0
        }
        "signals" => {
            let mut blocked = 0u64;
            k!(SYS_rt_sigprocmask, 0, 0, &mut blocked, 8);
            let mut ignored = 0u64;
            for s in 1..=64 {
                let mut act = [0usize; 4];
                // SIGPIPE is ignored by this language's start-up.
                if s != libc::SIGPIPE && k!(SYS_rt_sigaction, s, 0, &mut act, 8).ok() && act[0] == 1
                {
                    ignored |= bit(s);
                }
            }
            println!(
                "blocked {} ignored {} pending {}",
                mask_text(blocked),
                mask_text(ignored),
                mask_text(pending())
            );
            0
        }
        "fds" => {
            let open: Vec<i32> = (0..64)
                .filter(|fd| k!(SYS_fcntl, *fd, libc::F_GETFD).ok())
                .collect();
            println!("open {open:?}");
            0
        }
        "ids" => {
            let mut r = [0u32; 3];
            let mut g = [0u32; 3];
            let [a, b, c] = &mut r;
            k!(SYS_getresuid, a, b, c);
            let [a, b, c] = &mut g;
            k!(SYS_getresgid, a, b, c);
            println!(
                "{r:?} {g:?} ppid {} no_new_privs {}",
                k!(SYS_getppid) != sys::R(0),
                k!(SYS_prctl, libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
            );
            0
        }
        "gained" => {
            let (mut r, mut g) = ([0u32; 3], [0u32; 3]);
            let [a, b, c] = &mut r;
            k!(SYS_getresuid, a, b, c);
            let [a, b, c] = &mut g;
            k!(SYS_getresgid, a, b, c);
            let mut sets = [0u32; 6];
            k!(SYS_capget, &[0x2008_0522u32, 0], &mut sets);
            let few = |low: u32, high: u32| (low & 0x21, low & !0x21 | high != 0);
            let secure = sys::auxv(libc::AT_SECURE);
            println!(
                "{r:?} {g:?} permitted {:?} effective {:?} secure {secure}",
                few(sets[1], sets[4]),
                few(sets[0], sets[3])
            );
            0
        }
        "name" => {
            let mut name = [0u8; 16];
            k!(SYS_prctl, libc::PR_GET_NAME, &mut name);
            println!("{}", String::from_utf8_lossy(&name).trim_end_matches('\0'));
            0
        }
        "auxv" => {
            let raw = std::fs::read("/proc/self/auxv").unwrap_or_default();
            let keys: Vec<u64> = raw
                .chunks_exact(16)
                .map(|c| u64::from_ne_bytes(c[..8].try_into().unwrap_or_default()))
                .collect();
            for wanted in [3u64, 4, 5, 6, 7, 9, 11, 12, 13, 14, 23, 25, 31] {
                println!("auxv {wanted} {}", keys.contains(&wanted));
            }
            0
        }
        "pid" => {
            println!("{}", k!(SYS_getpid));
            0
        }
        "sleep" => {
            crate::util::sleep_ms(3000);
            0
        }
        "exec-round" => {
            let number = |at: usize| args.get(at).and_then(|a| a.parse().ok()).unwrap_or(-1);
            crate::cases::exec_round(number(1), number(2))
        }
        "thread-pid" => i32::from(k!(SYS_gettid) != k!(SYS_getpid)),
        _ => 98,
    }
}
