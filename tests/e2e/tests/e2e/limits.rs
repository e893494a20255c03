//! More of everything than is good: the guest gets what Linux gives it, and the sandbox goes on
//! answering.

use crate::case::{Result, Stop, cases, ensure, equal, exited, said};
use crate::place::{Background, Place, eventually};
use serde_json::{Value, json};
use test_support::bundle::Bundle;

cases!("limits":
    a_fork_bomb,
    sleepers_up_to_the_limit,
    a_memory_hog,
    a_hog_held_at_its_end,
    a_tracee_held_at_its_end,
    a_directory_of_a_hundred_thousand,
    a_hundred_thousand_files,
    a_thousand_threads,
    ten_thousand_pipes,
);

/// Runs `script` in a container `c` with these `linux.resources`.
fn started(place: &Place<'_>, resources: Value, script: &str) -> Result {
    let dir = place.shell(script, |config| {
        config["linux"]["resources"] = resources;
        config["linux"]["cgroupsPath"] = place.group().into();
    })?;
    let dir = dir.to_string_lossy().into_owned();
    let mut command = place.runtime.command();
    command.args(["run", "--detach", "--bundle", &dir, "c"]);
    let mut run = place.spawn(&mut command)?;
    let end = run.finish();
    ensure(end == "exit 0", || format!("{end}: {}", run.output()))
}

/// How many processes `ps` lists.
fn processes(place: &Place<'_>) -> Result<usize> {
    let outcome = place.ringfence(&["ps", "c"]);
    exited(&outcome, 0)?;
    Ok(outcome.out().lines().count() - 1)
}

/// Starts `args` in the Debian tree in a container `c`, with these `linux.resources`.
fn debian(place: &Place<'_>, resources: Value, args: &[&str]) -> Result<Background> {
    let mut bundle = Bundle::new(&place.dir.join("bundle"), place.debian()?, args);
    bundle.config["root"]["readonly"] = true.into();
    bundle.config["linux"]["resources"] = resources;
    bundle.config["linux"]["cgroupsPath"] = place.group().into();
    bundle.config["process"]["rlimits"] =
        json!([{"type": "RLIMIT_NOFILE", "soft": 20_000, "hard": 20_000}]);
    bundle.write()?;
    place.spawn(&mut place.runtime.run(&bundle.dir, "c"))
}

/// The sandbox answers all that can be asked of it. The signal is one that is ignored.
fn answers(place: &Place<'_>) -> Result {
    equal("status", &place.status("c")?, &"running".to_owned())?;
    said(
        &place.ringfence(&["exec", "c", "/bin/echo", "here"]),
        0,
        "here\n",
    )?;
    exited(&place.ringfence(&["events", "--stats", "c"]), 0)?;
    exited(&place.ringfence(&["kill", "c", "WINCH"]), 0)?;
    ensure(processes(place)? > 0, || "no processes".to_owned())
}

/// The sandbox answers while the container does what it is there for.
fn asked(place: &Place<'_>, run: &Background) -> Result {
    (0..3).try_for_each(|_| {
        answers(place).map_err(|stop| match stop {
            Stop::Failed(why) => Stop::Failed(format!("{why}; it wrote: {}", run.output())),
            other => other,
        })
    })
}

/// Waits as long as there is something new: `look` says whether it is over, and what there is.
fn progresses(what: &str, mut look: impl FnMut() -> Result<(bool, String)>) -> Result {
    let (mut over, mut last) = (false, String::new());
    while !over {
        eventually(what, || {
            let (is_over, now) = look()?;
            over = is_over;
            let moved = now != last;
            last = now;
            Ok(over || moved)
        })?;
    }
    Ok(())
}

/// Ends the container from outside, of which nothing is left then.
fn killed(place: &Place<'_>, mut run: Background) -> Result {
    exited(&place.ringfence(&["kill", "c", "KILL"]), 0)?;
    equal("run", &run.finish(), &"exit 137".to_owned())?;
    place.nothing_left()
}

/// What is in a file of the container; nothing before it is there.
fn log(place: &Place<'_>) -> Result<String> {
    Ok(std::fs::read_to_string(place.tree()?.join("log")).unwrap_or_default())
}

fn a_fork_bomb(place: &Place<'_>) -> Result {
    // Those that cannot fork try again, so there are always as many as there may be.
    let script = "f() { f | f & }; f; while :; do wait; sleep 1000; done";
    let limit = json!({"pids": {"limit": 100}});
    let mut run = debian(place, limit, &["/bin/bash", "-c", script])?;
    run.wait_for("fork: retry: Resource temporarily unavailable")?;
    asked(place, &run)?;
    eventually("as many as there may be", || Ok(processes(place)? == 100))?;
    killed(place, run)
}

fn sleepers_up_to_the_limit(place: &Place<'_>) -> Result {
    // This shell ends when it cannot fork; if it were the first, the container would with it.
    // What comes after it reaps those whose parent is gone.
    let script = r#"(while :; do sleep 1000 & done); echo $?
        exec perl -e '$SIG{CHLD} = "IGNORE"; $| = 1; print "up\n"; sleep 1000'"#;
    let limit = json!({"pids": {"limit": 100}});
    let mut run = debian(place, limit, &["/bin/sh", "-c", script])?;
    run.wait_for("Cannot fork\n2\nup\n")?;
    asked(place, &run)?;
    equal("processes", &processes(place)?, &99)?;
    // A further process comes in, and there is room for one more.
    let two = "/bin/true & /bin/true & wait; echo not reached";
    let outcome = place.ringfence(&["exec", "c", "/bin/sh", "-c", two]);
    ensure(
        outcome.code() == Some(2) && outcome.err().contains("Cannot fork"),
        || format!("{} {} {}", outcome.status, outcome.out(), outcome.err()),
    )?;
    let all = &["exec", "c", "/bin/sh", "-c", "kill -9 -1"];
    exited(&place.ringfence(all), 0)?;
    eventually("one process", || Ok(processes(place)? == 1))?;
    killed(place, run)
}

fn a_memory_hog(place: &Place<'_>) -> Result {
    // One line without an end.
    let script = "tail -n 1 /dev/zero; echo $? > /log; exec sleep 1000";
    started(place, json!({"memory": {"limit": 64 << 20}}), script)?;
    eventually("status of the hog", || {
        answers(place)?;
        Ok(log(place)?.ends_with('\n'))
    })?;
    equal("status", &log(place)?, &"137\n".to_owned())?;
    equal("processes", &processes(place)?, &1)?;
    place.gone()
}

/// Perl that traces a child, which does `work` once it is asked to hold at its end.
fn traced(work: &str) -> String {
    let script = r#"$| = 1; sub pt { syscall(101, @_) }
        pipe R, W; $p = fork; if (!$p) { pt(0, 0, 0, 0); kill STOP => $$; WORK; exit 7 }
        waitpid($p, 0); pt(0x4200, $p, 0, 0x40); pt(7, $p, 0, 0);"#;
    script.replace("WORK", work)
}

/// Perl that waits for that child and says how it stopped: 605 at its end.
const HELD: &str = r#"waitpid($p, 0); printf "%x\n", ${^CHILD_ERROR_NATIVE} >> 8;"#;

fn a_hog_held_at_its_end(place: &Place<'_>) -> Result {
    // It has most of the memory, and does not give it back: another goes for want of it, be it the
    // tracer itself.
    let hog = r#"$n = 80 << 20; $x = "x" x $n; syswrite W, "x"; sleep 1000"#;
    let more = r#"sysread R, $b, 1; kill KILL => $p;"#;
    let script = format!(
        r#"if (!fork) {{ {} {more} {HELD} $n = 100 << 20; $y = "y" x $n; exit 9 }}
        wait; print "end $?\n"; exec qw(sleep 1000)"#,
        traced(hog)
    );
    let limit = json!({"memory": {"limit": 128 << 20}});
    let mut run = debian(place, limit, &["/usr/bin/perl", "-e", &script])?;
    run.wait_for("605\nend 9\n")?;
    answers(place)?;
    killed(place, run)
}

fn a_tracee_held_at_its_end(place: &Place<'_>) -> Result {
    let script = format!("{} {HELD} sleep 1000", traced(""));
    let mut run = debian(place, json!({}), &["/usr/bin/perl", "-e", &script])?;
    run.wait_for("605\n")?;
    answers(place)?;
    killed(place, run)
}

fn a_directory_of_a_hundred_thousand(place: &Place<'_>) -> Result {
    let script = "mkdir /dev/shm/d; cd /dev/shm/d; n=0
        while [ $n -lt 100000 ]; do : > $n; n=$((n+1)); [ ${n%000} = $n ] || echo $n > /at; done
        echo $(ls | wc -l) $(ls | sort -n | tail -n 1) > /log
        rm [1-9]*; echo $(ls) >> /log; exec sleep 1000";
    started(place, json!({}), script)?;
    answers(place)?;
    let at = place.tree()?.join("at");
    progresses("further names", || {
        let now = log(place)?;
        let over = now.lines().count() == 2;
        Ok((
            over,
            now + &std::fs::read_to_string(&at).unwrap_or_default(),
        ))
    })?;
    equal("log", &log(place)?, &"100000 99999\n0\n".to_owned())?;
    place.gone()
}

/// Runs Python's `program`, which says that it begins, asks while it goes on, and waits until it
/// has written `said`, and dots between. It is killed as it then stands.
fn python(place: &Place<'_>, program: &str, said: &str) -> Result {
    let mut run = debian(place, json!({}), &["/usr/bin/python3", "-uc", program])?;
    run.wait_for("begin\n")?;
    asked(place, &run)?;
    progresses("further output", || {
        let output = run.output();
        let over = output.ends_with("end\n") || output.contains("Traceback");
        Ok((over, output))
    })?;
    let output = run.output().replace('.', "");
    equal("output", &output, &format!("begin\n{said}end\n"))?;
    answers(place)?;
    killed(place, run)
}

fn a_hundred_thousand_files(place: &Place<'_>) -> Result {
    let program = r#"
import os, time
print("begin")
for d in range(100):
    os.mkdir(f"/tmp/{d}")
    for f in range(1000):
        os.close(os.open(f"/tmp/{d}/{f}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    print(".", end="")
print(sum(os.stat(f"{d}/{f}").st_nlink for d, _, fs in os.walk("/tmp") for f in fs))
for d in range(100):
    for f in range(1000):
        os.unlink(f"/tmp/{d}/{f}")
    os.rmdir(f"/tmp/{d}")
    print(".", end="")
print(os.listdir("/tmp"))
print("end")
time.sleep(1000)
"#;
    python(place, program, "100000\n[]\n")
}

fn a_thousand_threads(place: &Place<'_>) -> Result {
    let program = r#"
import threading, time
print("begin")
threading.stack_size(65536)
end = threading.Event()
threads = [threading.Thread(target=end.wait) for n in range(1024)]
for t in threads:
    t.start()
    print(".", end="")
print(threading.active_count())
end.set()
for t in threads:
    t.join()
    print(".", end="")
print(threading.active_count())
print("end")
time.sleep(1000)
"#;
    python(place, program, "1025\n1\n")
}

fn ten_thousand_pipes(place: &Place<'_>) -> Result {
    let program = r#"
import os, time
print("begin")
pipes = []
try:
    while True: pipes.append(os.pipe())
except OSError as e: print(len(pipes), e.errno)
for r, w in pipes: os.write(w, b"x" * 4096)
print(sum(len(os.read(r, 65536)) for r, w in pipes))
print("end")
time.sleep(1000)
"#;
    python(place, program, "9998 24\n40951808\n")
}
