//! What becomes of stubs when things end, or are ended, that they depend on.
//!
//! Each scenario runs in a process of its own: this test binary again, as `scenario`.

use platform_api::conformance::guest::{DATA, Guest, SPIN};
use platform_api::{Exit, Platform};
use platform_ptrace::Ptrace;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROLE: &str = "PLATFORM_PTRACE_SCENARIO";
/// `mov [rdi], rbx; inc rbx; jmp`
const COUNT: [u8; 8] = [0x48, 0x89, 0x1f, 0x48, 0xff, 0xc3, 0xeb, 0xf8];

/// The helper process's part; nothing when run as a test.
#[test]
fn scenario() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let engine = Ptrace.boot(None).expect("the platform boots");
    let mut guest = Guest::new(&engine, &COUNT);
    guest.regs.rdi = DATA;
    let interrupter = guest.context.interrupter();
    interrupter.interrupt();
    assert_eq!(guest.run(), Exit::Interrupted);
    guest.space.reserve_context().expect("room for another");
    let _child = guest.space.fork(&[]).expect("a child");
    match role.as_str() {
        // The template, one that runs, one that is reserved, one of a fork.
        "tell and run" => {
            println!("stubs {}", children(std::process::id()).join(" "));
            let exit = guest.context.switch(&guest.space, &mut guest.regs);
            println!("exit {exit:?}");
        }
        "signals" => {
            for signal in [
                "TERM", "INT", "HUP", "USR1", "SEGV", "TRAP", "STOP", "CONT", "URG",
            ] {
                signal_all(&children(std::process::id()), signal);
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        std::thread::sleep(Duration::from_millis(5));
                        signal_all(&children(std::process::id()), signal);
                        signal_all(&children(std::process::id()), "CONT");
                        std::thread::sleep(Duration::from_millis(5));
                        interrupter.interrupt();
                    });
                    assert_eq!(guest.run(), Exit::Interrupted, "after SIG{signal}");
                });
                guest.space.reserve_context().expect("room for another");
            }
            guest.load(&SPIN);
            println!("fine");
        }
        other => panic!("{other}"),
    }
}

fn start(role: &str) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "scenario", "--nocapture"])
        .env(ROLE, role)
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program runs")
}

/// The line of a helper's output that begins with `word`, without it.
fn line(out: &mut impl BufRead, word: &str) -> String {
    for line in out.lines() {
        let line = line.expect("text");
        if let Some(rest) = line.split(word).nth(1) {
            return rest.trim().to_owned();
        }
    }
    panic!("the helper did not say `{word}`");
}

fn stat(pid: &str) -> Option<(String, String)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut rest = stat.rsplit(") ").next()?.split(' ');
    Some((rest.next()?.to_owned(), rest.next()?.to_owned()))
}

fn children(of: u32) -> Vec<String> {
    let of = of.to_string();
    std::fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|pid| stat(pid).is_some_and(|(_, parent)| parent == of))
        .collect()
}

fn signal_all(pids: &[String], signal: &str) {
    // Some, such as `kill` itself, are gone by now.
    let _ = Command::new("kill")
        .arg(format!("-{signal}"))
        .args(pids)
        .stderr(Stdio::null())
        .status();
}

fn wait_until_gone(pids: &[&str]) {
    let start = Instant::now();
    // A zombie that nobody reaps is gone as well.
    while let Some(pid) = pids
        .iter()
        .find(|pid| stat(pid).is_some_and(|(state, _)| state != "Z"))
    {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{pid} is still there"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn stubs_end_with_the_sandbox_process() {
    let mut helper = start("tell and run");
    let mut out = BufReader::new(helper.stdout.take().expect("a pipe"));
    let stubs = line(&mut out, "stubs ");
    let stubs: Vec<&str> = stubs.split(' ').collect();
    assert_eq!(stubs.len(), 4, "{stubs:?}");
    std::thread::sleep(Duration::from_millis(20));
    helper.kill().expect("it is ours");
    helper.wait().expect("it is ours");
    wait_until_gone(&stubs);
}

#[test]
fn a_stub_killed_from_outside_is_an_error_and_no_hang() {
    let mut helper = start("tell and run");
    let mut out = BufReader::new(helper.stdout.take().expect("a pipe"));
    let stubs = line(&mut out, "stubs ");
    std::thread::sleep(Duration::from_millis(20));
    let stubs: Vec<String> = stubs.split(' ').map(str::to_owned).collect();
    signal_all(&stubs, "KILL");
    let exit = line(&mut out, "exit ");
    assert!(exit.starts_with("Err(PlatformError"), "{exit}");
    helper.wait().expect("it is ours");
    wait_until_gone(&stubs.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn signals_from_outside_reach_no_guest() {
    let mut helper = start("signals");
    let mut out = BufReader::new(helper.stdout.take().expect("a pipe"));
    line(&mut out, "fine");
    assert!(helper.wait().expect("it is ours").success());
}
