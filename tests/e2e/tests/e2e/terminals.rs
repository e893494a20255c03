//! A person at a terminal: line editing, the keys that send signals, job control, window sizes,
//! and the terminal as it was afterwards.

use crate::case::{Result, Stop, cases, ensure, equal, exited, refused};
use crate::place::{Place, eventually, need};
use nix::sys::signal::Signal;
use std::process::Command;
use test_support::bundle::Bundle;
use test_support::terminal::{ConsoleSocket, Terminal};

cases!("terminals":
    lines_are_edited,
    interrupt_and_quit_keys,
    jobs_are_stopped_and_continued,
    the_window_size_follows,
    programs_see_a_terminal,
    a_bundle_with_a_terminal,
    a_terminal_over_a_console_socket,
    a_detached_run_over_a_console_socket,
    no_console_socket_is_an_error,
    a_hang_up_is_passed_on,
    the_terminal_is_restored,
    the_terminal_is_restored_after_a_kill,
);

const PROMPT: &str = "rf> ";
const ENV: [&str; 5] = [
    "env",
    "-i",
    "PS1=rf> ",
    "TERM=xterm",
    "PATH=/usr/bin:/usr/sbin",
];
const SHELL: [&str; 4] = ["bash", "--norc", "--noprofile", "-i"];

/// A job that says where it runs, when that changes and when it is continued: a shell names the
/// job that it brings to the foreground before it has done so, and what is typed in between is
/// the shell's. It makes no processes, since one that waits in vfork(2) does not stop.
const JOB: &str = "perl -MPOSIX -e '$|=1;$SIG{CONT}=sub{$l=\"\"};for(;;){\
    $w=tcgetpgrp(0)==getpgrp?\"fo\".(1+1).\"e\":\"ba\".(1+1).\"k\";\
    if($w ne$l){$l=$w;print\"$w\\n\"}select undef,undef,undef,.05}'";
const IN_FRONT: &str = "fo2e";
const BEHIND: &str = "ba2k";

/// What a person does and sees; what is typed never holds what is awaited.
struct Session(Terminal);

impl Session {
    /// Types a command, and waits for its answer and the next prompt.
    fn line(&mut self, text: &str, answer: &str) -> Result {
        self.keys(&format!("{text}\r"), answer)?;
        self.expect(PROMPT)
    }

    /// Types a command that goes on after its answer.
    fn begin(&mut self, text: &str, answer: &str) -> Result {
        self.keys(&format!("{text}\r"), answer)
    }

    /// Presses keys that bring back the prompt, after `answer`.
    fn back(&mut self, keys: &str, answer: &str) -> Result {
        self.keys(keys, answer)?;
        self.expect(PROMPT)
    }

    fn keys(&mut self, keys: &str, answer: &str) -> Result {
        self.0.keys(keys);
        self.expect(answer)
    }

    fn expect(&mut self, text: &str) -> Result {
        self.0.expect(text).map_err(Stop::Failed)
    }

    fn exit(mut self, command: &str, status: &str) -> Result {
        self.begin(command, "exit")?;
        equal("status", &self.0.finish(), &status.to_owned())
    }
}

/// An interactive bash, by `do`, at a terminal of 24 lines.
fn at_a_shell(place: &Place<'_>) -> Result<Session> {
    let mut command = place.runtime.command();
    command
        .args(["do", "--cwd", "/", "--root"])
        .arg(place.debian()?)
        .arg("--")
        .args(ENV)
        .args(SHELL);
    let mut session = Session(Terminal::start(&command, 24, 80)?);
    session.expect(PROMPT)?;
    Ok(session)
}

fn lines_are_edited(place: &Place<'_>) -> Result {
    let mut s = at_a_shell(place)?;
    s.line("echo a$((1+1))b", "a2b")?;
    // Three to the left, one erased.
    s.back("echo v$((40+9))w\x1b[D\x1b[D\x1b[D\x7f2\r", "v42w")?;
    // To the beginning, and all erased.
    s.back("nonsense\x01\x0becho k$((5*5))k\r", "k25k")?;
    s.back("\x1b[A\r", "k25k")?;
    s.back("ls /etc/debian_v\t | tr a-z A-Z\r", "/ETC/DEBIAN_VERSION")?;
    s.back("word\x17echo u$((3*3))u\r", "u9u")?;
    s.begin("{ echo r$((4+4))y; cat; } | tr a-z A-Z", "R8Y")?;
    s.keys("plain\x7f\x7fy\r", "plain")?;
    s.back("\x04", "PLAY")?;
    s.line("seq 30000 | tail -n 1 | tr 0 o", "3oooo")?;
    s.exit("exit 7", "exit 7")
}

fn interrupt_and_quit_keys(place: &Place<'_>) -> Result {
    let mut s = at_a_shell(place)?;
    // A line that is thrown away, of a shell whose handler leaves read(2) by itself: bash's line
    // editor misses a key that comes just before its read until the next one, natively as well.
    s.begin("PS1='d$((1+1))> ' sh -i", "d2> ")?;
    s.keys("garbage", "garbage")?;
    s.keys("\x03", "^C")?;
    s.expect("d2> ")?;
    s.keys("echo s$?s\r", "s130s")?;
    s.expect("d2> ")?;
    s.back("\x04", "\n")?;
    s.begin("sh -c 'echo r$((1+1))y; exec sleep 100'", "r2y")?;
    s.back("\x03", "^C")?;
    s.line("echo s$?s", "s130s")?;
    s.begin("sh -c 'echo r$((1+2))y; exec sleep 100'", "r3y")?;
    s.back("\x1c", "Quit")?;
    s.line("echo s$?s", "s131s")?;
    s.begin(
        "sh -c 'trap \"echo c$((2+2))t\" INT; echo r$((2+3))y; while :; do sleep 0.1; done'",
        "r5y",
    )?;
    s.keys("\x03", "c4t")?;
    s.back("\x1c", "Quit")?;
    // A pipeline is one job: all of it is interrupted.
    s.begin("sleep 99 | sleep 98 | sh -c 'echo r$((3+3))y; cat'", "r6y")?;
    s.back("\x03", "^C")?;
    // Its own: one of the loop above may have a tenth of a second to live.
    s.line("echo n$(pgrep -fc '^sleep 9')n", "n0n")?;
    s.0.keys("\x04");
    s.expect("exit")?;
    equal("status", &s.0.finish(), &"exit 0".to_owned())
}

fn jobs_are_stopped_and_continued(place: &Place<'_>) -> Result {
    let mut s = at_a_shell(place)?;
    s.begin(JOB, IN_FRONT)?;
    s.back("\x1a", "Stopped")?;
    s.line("echo s$?s", "s148s")?;
    s.line("jobs", "Stopped")?;
    s.begin("bg", BEHIND)?;
    s.line("jobs", "Running")?;
    s.begin("fg", IN_FRONT)?;
    s.back("\x1a", "Stopped")?;
    s.begin("fg %1", IN_FRONT)?;
    s.back("\x03", "^C")?;
    s.line("echo s$?s", "s130s")?;
    // One in the background that wants to read is stopped.
    s.line("cat & wait; jobs", "Stopped")?;
    // `wait` of a shell that has not seen the end yet would speak of the stop.
    s.line(
        "kill -9 $!; while kill -0 $!; do sleep 0.1; done 2>&-; wait $!; echo s$?s",
        "s137s",
    )?;
    s.line("(sleep 0.1; exit 5) & wait $!; echo s$?s", "s5s")?;
    s.exit("exit", "exit 0")
}

fn the_window_size_follows(place: &Place<'_>) -> Result {
    let mut s = at_a_shell(place)?;
    s.line("stty size", "24 80")?;
    s.begin(
        "sh -c 'trap \"stty size; exit 7\" WINCH; echo r$((3+1))y; while :; do sleep 0.1; done'",
        "r4y",
    )?;
    s.0.resize(40, 100)?;
    s.expect("40 100")?;
    s.expect(PROMPT)?;
    s.line("echo s$?s", "s7s")?;
    s.line("stty size; echo $((LINES+1))x$((COLUMNS+1))", "41x101")?;
    s.line("stty rows 10 cols 20; stty size | cat", "10 20")?;
    s.exit("exit", "exit 0")
}

fn programs_see_a_terminal(place: &Place<'_>) -> Result {
    let mut s = at_a_shell(place)?;
    s.line("test -t 0 -a -t 1 -a -t 2; echo s$?s", "s0s")?;
    s.line("tty | tr a-z A-Z", "/DEV/")?;
    s.line("echo to$((1+1)) > /dev/tty", "to2")?;
    s.line("stty -a | grep -c ' icanon'", "1")?;
    s.begin(
        "sh -c 'stty -echo; echo r$((1+2))y; read x; stty echo; echo $x$x'",
        "r3y",
    )?;
    s.keys("quiet\r", "\r\nquietquiet")?;
    s.expect(PROMPT)?;
    s.begin(
        "python3 -c 'import tty,sys;tty.setraw(0);print(\"re\"+\"ady\");print(ord(sys.stdin.read(1))*22)'",
        "ready",
    )?;
    s.back("\x03", "66")?;
    s.line("stty sane", "\n")?;
    s.exit("exit 0", "exit 0")
}

fn terminal_bundle(place: &Place<'_>, args: &[&str]) -> Result<Bundle> {
    crate::place::need_root()?;
    let mut bundle = Bundle::new(&place.dir.join("bundle"), place.debian()?, args);
    bundle.config["process"]["terminal"] = true.into();
    bundle.config["process"]["env"] = ["PS1=rf> ", "TERM=xterm", "PATH=/usr/bin:/usr/sbin"]
        .as_slice()
        .into();
    Ok(bundle)
}

fn a_bundle_with_a_terminal(place: &Place<'_>) -> Result {
    let bundle = terminal_bundle(place, &SHELL)?;
    bundle.write()?;
    let command = place.runtime.run(&bundle.dir, "at-a-terminal");
    let mut s = Session(Terminal::start(&command, 30, 70)?);
    s.expect(PROMPT)?;
    s.line("stty size; tty | tr a-z A-Z", "30 70\r\n/DEV/")?;
    s.begin(JOB, IN_FRONT)?;
    s.back("\x1a", "Stopped")?;
    s.begin("fg", IN_FRONT)?;
    s.back("\x03", "^C")?;
    s.line("echo $$ $(ps -o pgid=,sess= -p $$) .", "1 1 1 .")?;
    s.exit("exit 9", "exit 9")
}

/// What `create` and `run --detach` have in common.
fn over_a_socket(place: &Place<'_>, id: &str, begin: impl FnOnce(&[&str]) -> Result) -> Result {
    let mut bundle = terminal_bundle(place, &SHELL)?;
    bundle.config["process"]["consoleSize"] = serde_json::json!({"height": 33, "width": 66});
    bundle.write()?;
    let path = place.dir.join("console.sock");
    let socket = ConsoleSocket::bind(&path)?;
    let (dir, path) = (
        bundle.dir.to_string_lossy().into_owned(),
        path.to_string_lossy().into_owned(),
    );
    begin(&["--bundle", &dir, "--console-socket", &path, id])?;
    let (master, name) = socket.receive()?;
    ensure(name.starts_with("/dev/p"), || format!("name: {name}"))?;
    let mut s = Session(Terminal::attach(master)?);
    if place.status(id)? == "created" {
        exited(&place.ringfence(&["start", id]), 0)?;
    }
    s.expect(PROMPT)?;
    s.line("stty size", "33 66")?;
    s.begin(
        "sh -c 'trap \"stty size; exit 7\" WINCH; echo r$((3+1))y; while :; do sleep 0.1; done'",
        "r4y",
    )?;
    s.0.resize(40, 100)?;
    s.expect("40 100")?;
    s.expect(PROMPT)?;
    s.begin(JOB, IN_FRONT)?;
    s.back("\x1a", "Stopped")?;
    s.begin("fg", IN_FRONT)?;
    s.back("\x03", "^C")?;
    s.line("echo s$?s", "s130s")?;
    s.begin("exit 5", "exit")?;
    equal("the end", &s.0.finish(), &"hung up".to_owned())?;
    eventually("stopped container", || Ok(place.status(id)? == "stopped"))?;
    exited(&place.ringfence(&["delete", id]), 0)
}

fn a_terminal_over_a_console_socket(place: &Place<'_>) -> Result {
    over_a_socket(place, "created", |args| {
        exited(&place.ringfence(&[&["create"], args].concat()), 0)
    })
}

fn a_detached_run_over_a_console_socket(place: &Place<'_>) -> Result {
    over_a_socket(place, "detached", |args| {
        exited(&place.ringfence(&[&["run", "--detach"], args].concat()), 0)
    })
}

fn no_console_socket_is_an_error(place: &Place<'_>) -> Result {
    let bundle = terminal_bundle(place, &SHELL)?;
    bundle.write()?;
    let dir = bundle.dir.to_string_lossy().into_owned();
    let outcome = place.ringfence(&["create", "--bundle", &dir, "x"]);
    refused(&outcome, 128, &["--console-socket"])?;
    let outcome = place.ringfence(&["create", "--bundle", &dir, "--console-socket", "/no", "x"]);
    refused(&outcome, 128, &["/no"])?;
    place.nothing_left()
}

/// A container's terminal hangs up with that of the person at it: a program that hears of
/// it ends as it likes, one that does not finds its terminal gone, and nothing stays behind.
fn a_hang_up_is_passed_on(place: &Place<'_>) -> Result {
    let typist = need("script")?;
    need("setsid")?;
    for (script, said) in [
        (
            "trap 'echo hung up > /end; exit' HUP; echo r$((1+1))y; while :; do sleep 0.1; done",
            "hung up",
        ),
        (
            "trap '' HUP; echo r$((1+1))y; while echo more; do sleep 0.1; done; echo eio > /end",
            "eio",
        ),
    ] {
        let dir = place.shell(script, |c| c["process"]["terminal"] = true.into())?;
        let run = place.runtime.run(&dir, "left-alone");
        // In a session of its own the launcher is not sent SIGHUP: it sees the end of its
        // terminal alone.
        let words: Vec<_> = std::iter::once(run.get_program())
            .chain(run.get_args())
            .map(|w| format!("'{}'", w.display()))
            .collect();
        let mut command = Command::new(&typist);
        command
            .args(["-qfc", &format!("setsid -w {}", words.join(" "))])
            .arg("/dev/null");
        let mut at_it = place.spawn(&mut command)?;
        at_it.wait_for("r2y")?;
        at_it.signal(Signal::SIGKILL)?;
        eventually("end of all", || Ok(place.left().is_empty()))?;
        let end = place.tree()?.join("end");
        equal(
            "what it left",
            &std::fs::read_to_string(&end)?.trim().to_owned(),
            &said.to_owned(),
        )?;
        std::fs::remove_file(end)?;
    }
    Ok(())
}

/// A shell at a terminal that compares the terminal's settings before and after.
fn around(place: &Place<'_>, args: &[&str]) -> Result<Terminal> {
    let mut command = Command::new("/bin/sh");
    let script = "a=$(stty -g); \"$@\"; echo \"s${?}s\"; \
                  [ \"$a\" = \"$(stty -g)\" ] && echo re${a:+stored} || stty -a; exit 4";
    let run = place.runtime.command();
    command
        .args(["-c", script, "sh"])
        .arg(run.get_program())
        .args(run.get_args())
        .args(["do", "--root"])
        .arg(place.tree()?)
        .arg("--")
        .args(args);
    Ok(Terminal::start(&command, 24, 80)?)
}

fn the_terminal_is_restored(place: &Place<'_>) -> Result {
    for (args, status) in [
        (
            &["/bin/sh", "-c", "stty raw -echo; exit 3"] as &[&str],
            "s3s",
        ),
        (&["/nosuch"], "s127s"),
        (
            &["/bin/sh", "-c", "stty -echo; (sleep 100 &) ; kill -9 $$"],
            "s137s",
        ),
    ] {
        let mut s = Session(around(place, args)?);
        s.expect(status)?;
        s.expect("restored")?;
        equal("status", &s.0.finish(), &"exit 4".to_owned())?;
    }
    Ok(())
}

fn the_terminal_is_restored_after_a_kill(place: &Place<'_>) -> Result {
    let script = "trap '' INT; echo r$((1+1))y; while :; do sleep 0.1; done";
    let mut s = Session(around(place, &["/bin/sh", "-c", script])?);
    s.expect("r2y")?;
    let ids = place.ringfence(&["list", "-q"]).out();
    let id = ids.trim();
    let launcher = place.pid(id, "launcher")?;
    nix::sys::signal::kill(launcher, Signal::SIGTERM)?;
    s.expect("s143s")?;
    s.expect("restored")?;
    equal("status", &s.0.finish(), &"exit 4".to_owned())?;
    // The sandbox process is killed.
    let mut s = Session(around(place, &["/bin/sh", "-c", script])?);
    s.expect("r2y")?;
    let ids = place.ringfence(&["list", "-q"]).out();
    let sandbox = place.pid(ids.trim(), "sandbox")?;
    nix::sys::signal::kill(sandbox, Signal::SIGKILL)?;
    s.expect("s137s")?;
    s.expect("restored")?;
    equal("status", &s.0.finish(), &"exit 4".to_owned())
}
