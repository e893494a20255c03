//! Faults of our own: they end the one sandbox, with a report and a status by which they are known.

use crate::case::{Result, cases, ensure, equal, exited};
use crate::place::{PATIENCE, Place, eventually, need_root};
use std::path::PathBuf;
use test_support::bundle::{Bundle, Runtime};
use test_support::{build, run};

cases!("faults":
    a_panic_ends_the_sandbox,
    a_panic_ends_a_detached_sandbox,
    calls_that_are_not_there_are_logged_once,
    a_file_cut_on_the_host_is_a_bus_error,
);

/// A debug build, which can be made to panic, under a name of this test's own.
pub(crate) fn debug_runtime(place: &Place<'_>) -> Result<Runtime> {
    let program = place.dir.join("debug-ringfence");
    std::fs::copy(build::debug_runtime()?, &program)?;
    Ok(Runtime {
        program,
        debug_log: Some(place.dir.join("logs")),
        ..place.runtime.clone()
    })
}

/// Threads that sleep, spin and wait for each other, while one asks for the panic.
const PANICS: &str = r"
import ctypes, os, threading, time, subprocess
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
threading.Thread(target=lambda: [0 for _ in iter(int, 1)], daemon=True).start()
threading.Thread(target=lambda: os.read(os.pipe()[0], 1), daemon=True).start()
subprocess.Popen(['sleep', '1000'])
print('up', flush=True)
time.sleep(0.2)
ctypes.CDLL(None).syscall(0x70696e67)
print('it went on', flush=True)
";

fn panicking(place: &Place<'_>) -> Result<(Runtime, PathBuf)> {
    need_root()?;
    let runtime = debug_runtime(place)?;
    let args = ["python3", "-B", "-c", PANICS];
    let bundle = Bundle::new(&place.dir.join("bundle"), place.debian()?, &args);
    bundle.write()?;
    Ok((runtime, bundle.dir))
}

fn report_is_in_the_log(place: &Place<'_>) -> Result {
    let log = std::fs::read_to_string(place.dir.join("logs/boot.log"))?;
    ensure(
        log.contains("panic on thread") && log.contains("a guest asked for it"),
        || log.lines().rev().take(20).collect::<Vec<_>>().join("\n"),
    )
}

fn a_panic_ends_the_sandbox(place: &Place<'_>) -> Result {
    let (runtime, dir) = panicking(place)?;
    let outcome = run::run(&mut runtime.run(&dir, "c"), b"", PATIENCE);
    exited(&outcome, 70)?;
    equal("output", &outcome.out(), &"up\n".to_owned())?;
    let text = outcome.err();
    ensure(
        text.contains("error: ") && text.contains("panicked"),
        || text.clone(),
    )?;
    report_is_in_the_log(place)?;
    let left: Vec<_> = std::fs::read_dir(&runtime.state)?
        .flatten()
        .map(|e| e.file_name())
        .collect();
    ensure(left.iter().all(|name| name == ".platform.json"), || {
        format!("left: {left:?}")
    })
}

fn a_panic_ends_a_detached_sandbox(place: &Place<'_>) -> Result {
    let (runtime, dir) = panicking(place)?;
    let mut command = runtime.command();
    command
        .args(["run", "--detach", "--bundle"])
        .arg(&dir)
        .arg("c");
    exited(&place.finish(&mut command), 0)?;
    eventually("stopped container", || Ok(place.status("c")? == "stopped"))?;
    report_is_in_the_log(place)?;
    exited(&place.ringfence(&["delete", "c"]), 0)
}

fn calls_that_are_not_there_are_logged_once(place: &Place<'_>) -> Result {
    need_root()?;
    let script = "for (1..5) { for my $n (334, 999, 334) { print syscall($n, 0, 0), $!{ENOSYS} ? 'n' : 'y', ' ' } }";
    let bundle = Bundle::new(
        &place.dir.join("bundle"),
        place.debian()?,
        &["perl", "-e", script],
    );
    bundle.write()?;
    let runtime = Runtime {
        debug_log: None,
        ..place.runtime.clone()
    };
    let logs = place.dir.join("logs");
    let mut command = runtime.command();
    command
        .arg("--debug-log")
        .arg(&logs)
        .arg("run")
        .arg("-b")
        .arg(&bundle.dir)
        .arg("c");
    let outcome = run::run_plain(&mut command);
    crate::case::said(&outcome, 0, &"-1n ".repeat(15))?;
    let log = std::fs::read_to_string(logs.join("boot.log"))?;
    for call in ["rseq", "999"] {
        let lines: Vec<&str> = log
            .lines()
            .filter(|l| l.contains(call) && l.contains("not"))
            .collect();
        equal(call, &lines.len(), &1).map_err(|_| crate::case::Stop::Failed(log.clone()))?;
    }
    Ok(())
}

/// Reads and writes beyond the end that the host gave the file, by the program itself and by calls
/// of its; then the file has grown again.
const CUT: &str = r"
import mmap, os, time
f = os.open('/mnt/file', os.O_RDWR)
m = mmap.mmap(f, 4 * 4096)
def until(holds):
    while not holds(os.fstat(f).st_size): time.sleep(.02)
def ends(touch):
    pid = os.fork()
    if pid == 0:
        touch()
        os._exit(0)
    return os.WTERMSIG(os.waitpid(pid, 0)[1])
print('there', m[2 * 4096], m[3 * 4096], flush=True)
until(lambda size: size == 4096)
print('cut', m[0], ends(lambda: m[2 * 4096]), ends(lambda: m.__setitem__(3 * 4096, 1)))
try:
    os.write(os.pipe()[1], memoryview(m)[2 * 4096:2 * 4096 + 1])
except OSError as e:
    print(e.strerror)
print('again', m[0], ends(lambda: m[4096]), flush=True)
until(lambda size: size > 4096)
m[3 * 4096] = 7
print('grown', m[2 * 4096], m[3 * 4096], ends(lambda: m[4096]), flush=True)
";

/// Mapped memory whose file becomes shorter behind our back is SIGBUS, to the program that touches
/// it and to nobody else.
fn a_file_cut_on_the_host_is_a_bus_error(place: &Place<'_>) -> Result {
    need_root()?;
    let shared = place.dir.join("shared");
    std::fs::create_dir(&shared)?;
    let path = shared.join("file");
    std::fs::write(&path, [b'a'; 4 * 4096])?;
    let file = std::fs::File::options().write(true).open(&path)?;
    let args = ["python3", "-B", "-c", CUT];
    let mut bundle = Bundle::new(&place.dir.join("bundle"), place.debian()?, &args);
    if let Some(mounts) = bundle.config["mounts"].as_array_mut() {
        mounts.push(serde_json::json!({"destination": "/mnt", "type": "bind", "source": shared}));
    }
    bundle.write()?;
    let mut running = place.spawn(&mut place.runtime.run(&bundle.dir, "c"))?;
    running.wait_for("there 97 97")?;
    file.set_len(4096)?;
    running.wait_for("again")?;
    file.set_len(4 * 4096)?;
    running.wait_for("grown")?;
    equal("status", &running.finish(), &"exit 0".to_owned())?;
    let said = "there 97 97\ncut 97 7 7\nBad address\nagain 97 7\ngrown 0 7 0\n";
    equal("output", &running.output(), &said.to_owned())
}
