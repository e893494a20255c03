//! The limits that a container's configuration sets: what goes beyond them, and that the sandbox
//! outlives it and answers meanwhile.

use serde_json::json;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use test_support::bundle::{Bundle, Runtime};
use test_support::run::{self, Outcome};
use test_support::{build, is_root, rootfs};

const MIB: u64 = 1 << 20;
/// For what must happen and is not measured.
const SILENCE: Duration = Duration::from_secs(180);

struct Setup {
    dir: tempfile::TempDir,
    runtime: Runtime,
    /// Another for each container: its control group on the host is named after it.
    id: String,
}

/// `None` where a container cannot be run; the reason is printed.
fn setup() -> Option<Setup> {
    if !is_root() {
        println!("SKIPPED: the bundle needs root");
        return None;
    }
    let probes = build::static_program("parity-tests", "probes").unwrap();
    let dir = tempfile::Builder::new()
        .prefix("ringfence-limits.")
        .tempdir()
        .unwrap();
    rootfs::bare(&dir.path().join("root"), &[&probes]).unwrap();
    let runtime = Runtime {
        program: build::runtime().unwrap(),
        state: dir.path().join("state"),
        platform: build::platforms().first()?.clone(),
        debug_log: None,
    };
    let id = dir.path().file_name()?.to_string_lossy().into_owned();
    Some(Setup { dir, runtime, id })
}

fn bundle(dir: &Path, what: &[&str], memory: u64, pids: i64) -> Bundle {
    let args: Vec<&str> = ["/probes", "--child", "limits"]
        .iter()
        .chain(what)
        .copied()
        .collect();
    let mut bundle = Bundle::new(&dir.join("bundle"), &dir.join("root"), &args);
    bundle.config["linux"]["resources"] = json!({
        "memory": {"limit": memory},
        "pids": {"limit": pids},
    });
    bundle.write().unwrap();
    bundle
}

fn limited(what: &[&str], memory: u64, pids: i64) -> Option<Outcome> {
    let setup = setup()?;
    let bundle = bundle(setup.dir.path(), what, memory, pids);
    let mut command = setup.runtime.run(&bundle.dir, &setup.id);
    Some(run::run(&mut command, b"", SILENCE))
}

fn says(what: &[&str], expected: &str) {
    if let Some(outcome) = limited(what, 64 * MIB, 1000) {
        assert_eq!(outcome.out(), expected, "{}", outcome.err());
        assert_eq!(outcome.status, "exit 0");
    }
}

#[test]
fn a_hog_is_killed_and_others_go_on() {
    says(&["hog", "40"], "exited 0\nthen exited 0\n");
    says(&["hog", "200"], "killed by SIGKILL\nthen exited 0\n");
}

#[test]
fn a_hog_that_is_alone_ends_the_container() {
    if let Some(outcome) = limited(&["hog-alone", "200"], 64 * MIB, 1000) {
        assert_eq!(
            (outcome.out().as_str(), outcome.status.as_str()),
            ("", "exit 137")
        );
    }
}

#[test]
fn addresses_are_free_and_pages_are_not() {
    says(
        &["sparse", "2000"],
        "sparse\nkilled by SIGKILL\nthen exited 0\n",
    );
}

#[test]
fn files_in_memory_and_shared_memory_count() {
    says(&["shared", "200"], "killed by SIGKILL\nthen exited 0\n");
    // A file system that says no size has half of the memory, and is full before that is.
    says(&["tmpfs", "200"], "exited 1\nthen exited 0\n");
    let Some(setup) = setup() else { return };
    let mut bundle = bundle(setup.dir.path(), &["tmpfs", "200"], 64 * MIB, 1000);
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    let tmp = mounts
        .iter_mut()
        .find(|m| m["destination"] == "/tmp")
        .unwrap();
    tmp["options"] = json!(["mode=1777", "size=1g"]);
    bundle.write().unwrap();
    let mut command = setup.runtime.run(&bundle.dir, &setup.id);
    let outcome = run::run(&mut command, b"", SILENCE);
    assert_eq!(
        (outcome.out().as_str(), outcome.status.as_str()),
        ("killed by SIGKILL\nthen exited 0\n", "exit 0"),
        "{}",
        outcome.err()
    );
}

#[test]
fn copies_on_write_count() {
    says(&["fork", "24"], "copy exited 0\nexited 0\nthen exited 0\n");
    let Some(outcome) = limited(&["fork", "40"], 64 * MIB, 1000) else {
        return;
    };
    // Either of the two is as bad as the other.
    let text = outcome.out();
    assert!(
        text.contains("killed by SIGKILL\n") && text.ends_with("then exited 0\n"),
        "{text}"
    );
}

#[test]
fn who_asks_for_it_goes_first() {
    says(
        &["adjusted", "200"],
        "willing killed by SIGKILL\nlarge killed by SIGKILL\nthen exited 0\n",
    );
}

#[test]
fn there_are_as_many_tasks_as_there_may_be() {
    if let Some(outcome) = limited(&["forks"], 512 * MIB, 50) {
        assert_eq!(outcome.out(), "49 children, then -EAGAIN\nthen exited 0\n");
    }
}

#[test]
fn the_sandbox_answers_while_it_is_full() {
    let Some(setup) = setup() else { return };
    let bundle = bundle(setup.dir.path(), &["bomb"], 64 * MIB, 64);
    let mut container = setup
        .runtime
        .run(&bundle.dir, &setup.id)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let ask = |args: &[&str]| run::run_plain(setup.runtime.command().args(args));
    let end = Instant::now() + SILENCE;
    let tasks = loop {
        let tasks = ask(&["dump", &setup.id]).out().lines().count();
        if tasks >= 64 || Instant::now() > end {
            break tasks;
        }
    };
    let state = ask(&["state", &setup.id]);
    assert!(
        state.out().contains("\"running\""),
        "{} {}",
        state.out(),
        state.err()
    );
    assert!(tasks >= 64, "{tasks} tasks");
    assert_eq!(ask(&["kill", &setup.id, "KILL"]).status, "exit 0");
    assert_eq!(run::finish(&mut container, SILENCE), "exit 137");
}
