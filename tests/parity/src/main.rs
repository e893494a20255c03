//! `probes`: prints how the kernel below it behaves.
//!
//! `probes FAMILY` runs the cases of one family, each in a process of its own,
//! and frames what each said. The output holds no address, process number or
//! time, so that a run on Linux and a run in a sandbox can be compared by byte.

#![expect(
    unreachable_pub,
    reason = "one program: `pub` here says what a module offers"
)]

mod cases;
mod children;
mod dice;
mod limits;
mod out;
mod sys;
mod tracing;
mod util;

use out::Out;
use std::ffi::CString;

/// One case: a name and what it does.
#[derive(Clone, Copy)]
pub struct Case {
    /// The name in the frame.
    pub name: &'static str,
    /// Says what it sees.
    pub run: fn(Out),
}

/// Makes a table of cases from the names of functions.
#[macro_export]
macro_rules! cases {
    ($($f:ident),* $(,)?) => {
        /// The cases of this file.
        pub const CASES: &[$crate::Case] =
            &[$($crate::Case { name: stringify!($f), run: $f }),*];
    };
}

/// Where the case's pipe stands, out of the way of the numbers it will print.
const OUT_FD: i32 = 200;
/// After so many seconds a case is killed: many times what the longest takes on a machine with
/// nothing else to do.
const LIMIT: i32 = 30;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("--child") => std::process::exit(children::run(&args[2..])),
        Some("--list") => {
            for (family, files) in cases::FAMILIES {
                for case in files.iter().flat_map(|f| f.iter()) {
                    println!("{family} {}", case.name);
                }
            }
        }
        Some(family) => {
            let value = |flag: &str| {
                let at = args.iter().position(|a| a == flag)?;
                args.get(at + 1).cloned()
            };
            run_family(family, value("--dir"), value("--after"), value("--only"));
        }
        None => {
            eprintln!("usage: probes FAMILY [--dir DIR] [--after CASE] [--only CASE] | --list");
            std::process::exit(2);
        }
    }
}

fn run_family(family: &str, dir: Option<String>, after: Option<String>, only: Option<String>) {
    let dir = dir.unwrap_or_else(|| "/tmp".into());
    let Some((_, files)) = cases::FAMILIES.iter().find(|(name, _)| *name == family) else {
        eprintln!("no such family: {family}");
        std::process::exit(2);
    };
    start_afresh();
    let all: Vec<&Case> = files.iter().flat_map(|f| f.iter()).collect();
    let from = after.map_or(0, |a| {
        all.iter().position(|c| c.name == a).map_or(0, |i| i + 1)
    });
    for case in &all[from..] {
        if only.as_deref().is_none_or(|o| o == case.name) {
            run_case(case, &dir);
        }
    }
}

/// What the starter of this process left is none of the cases' business:
/// further descriptors, blocked and ignored signals, the umask.
fn start_afresh() {
    k!(SYS_close_range, 3, u32::MAX, 0);
    k!(SYS_umask, 0o022);
    k!(SYS_rt_sigprocmask, libc::SIG_SETMASK, &0u64, 0, 8);
    for signal in 1..=64 {
        let mut action = [0usize; 4];
        let read = k!(SYS_rt_sigaction, signal, 0, &mut action, 8);
        if read.ok() && action[0] == libc::SIG_IGN && signal != libc::SIGPIPE {
            k!(SYS_rt_sigaction, signal, &[0usize; 4], 0, 8);
        }
    }
}

/// Runs one case in a child with an empty directory of its own.
fn run_case(case: &Case, dir: &str) {
    let scratch = format!("{dir}/case.{}", case.name);
    let path = CString::new(scratch.clone()).unwrap_or_default();
    k!(SYS_mkdir, path.as_c_str(), 0o755);
    let mut ends = [0i32; 2];
    k!(SYS_pipe2, &mut ends, libc::O_CLOEXEC);
    let run = case.run;
    let pid = sys::child(|| {
        k!(SYS_setpgid, 0, 0);
        k!(SYS_chdir, path.as_c_str());
        k!(SYS_dup2, ends[1], OUT_FD);
        k!(SYS_fcntl, OUT_FD, libc::F_SETFD, libc::FD_CLOEXEC);
        k!(SYS_close, ends[0]);
        k!(SYS_close, ends[1]);
        k!(SYS_alarm, LIMIT);
        run(Out::new(OUT_FD));
        0
    });
    k!(SYS_close, ends[1]);
    let status = util::wait_text(pid);
    k!(SYS_kill, -pid, libc::SIGKILL);
    // What orphans of the case still hold open must not keep the runner.
    k!(SYS_fcntl, ends[0], libc::F_SETFL, libc::O_NONBLOCK);
    let mut said = Vec::new();
    loop {
        let mut buf = [0u8; 4096];
        let n = k!(SYS_read, ends[0], &mut buf, buf.len());
        if n.0 <= 0 {
            break;
        }
        said.extend_from_slice(&buf[..n.addr()]);
    }
    k!(SYS_close, ends[0]);
    // Reap what was left to this process, where it is init.
    while k!(SYS_wait4, -1, 0, libc::WNOHANG, 0).0 > 0 {}
    let mut frame = format!("=== {}\n", case.name).into_bytes();
    frame.extend_from_slice(&said);
    frame.extend_from_slice(format!("--- {status}\n").as_bytes());
    let mut at = 0;
    while at < frame.len() {
        let n = k!(SYS_write, 1, &frame[at..], frame.len() - at);
        if n.0 <= 0 {
            std::process::exit(3);
        }
        at += n.addr();
    }
    let _ = std::fs::remove_dir_all(&scratch);
}
