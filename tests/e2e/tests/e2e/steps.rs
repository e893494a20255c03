//! Each of our processes killed at each step of `create`, `start`, `exec` and `delete`: afterwards
//! `state` tells the truth, `delete --force` succeeds, and nothing is left.
//!
//! Debug builds stop at a step that the environment names (`launcher/src/step.rs`).

use crate::case::{Result, cases, ensure, equal, exited, failed};
use crate::faults;
use crate::place::{PATIENCE, Place, eventually, need_root};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;
use test_support::bundle::Runtime;
use test_support::run::{self, Outcome};

cases!("steps":
    killed_while_created,
    killed_while_started,
    killed_while_executing,
    killed_while_deleted,
);

const CREATE: &[&str] = &[
    "create-reserved",
    "create-named",
    "create-sandbox-cloned",
    "create-sandbox-admitted",
    "create-gofer-cloned",
    "create-gofer-admitted",
    "create-sandbox-told",
    "create-gofer-told",
    "create-recorded",
    "create-up",
    "create-marked",
    "create-unlocked",
    "create-let-go",
];
const START: &[&str] = &["start-connected", "start-started", "start-marked"];
const EXEC: &[&str] = &["exec-connected", "exec-running", "exec-stand-in"];
const DELETE: &[&str] = &["delete-locked", "delete-killed", "delete-removed"];

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Launcher,
    Sandbox,
    Gofer,
}

const VICTIMS: [Victim; 3] = [Victim::Launcher, Victim::Sandbox, Victim::Gofer];

/// The debug build at work in this place.
struct Scene<'a> {
    place: &'a Place<'a>,
    runtime: Runtime,
    bundle: String,
}

impl<'a> Scene<'a> {
    fn new(place: &'a Place<'a>) -> Result<Scene<'a>> {
        need_root()?;
        let bundle = place.shell("exec sleep 1000", |_| {})?;
        let runtime = Runtime {
            debug_log: None,
            ..faults::debug_runtime(place)?
        };
        Ok(Scene {
            place,
            runtime,
            bundle: bundle.to_string_lossy().into_owned(),
        })
    }

    fn ringfence(&self, args: &[&str]) -> Outcome {
        self.place.finish(self.runtime.command().args(args))
    }

    fn create(&self) -> Result {
        exited(&self.ringfence(&["create", "-b", &self.bundle, "c"]), 0)
    }

    fn run(&self) -> Result {
        self.create()?;
        exited(&self.ringfence(&["start", "c"]), 0)
    }

    /// Processes of this build that were started as `role`, and live.
    fn processes(&self, role: &str) -> Vec<Pid> {
        let program = self.runtime.program.canonicalize().unwrap_or_default();
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let is = |path: &Path| {
            let exe = std::fs::read_link(path.join("exe")).is_ok_and(|e| e == program);
            let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
            exe && line.split(|b| *b == 0).nth(1) == Some(role.as_bytes())
        };
        entries
            .filter(|e| is(&e.path()))
            .filter_map(|e| e.file_name().to_str()?.parse().ok())
            .map(Pid::from_raw)
            .collect()
    }

    /// Runs the command up to `step`, kills the victim, and lets the command go on if that was
    /// another. Whether there was such a victim.
    fn kill_at(&self, args: &[&str], step: &str, victim: Victim) -> Result<bool> {
        let mut command = self.runtime.command();
        command.args(args).env("RINGFENCE_STEP", step);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut launcher = Launcher(child);
        let pid = launcher.pid();
        eventually(step, || match state_of(pid).as_str() {
            "T" => Ok(true),
            "Z" | "" => failed(format!("{args:?} ended before {step}")),
            _ => Ok(false),
        })?;
        // Who was told to boot meanwhile may have done so, and must not outlive a launcher that
        // never lets go of him.
        std::thread::sleep(Duration::from_millis(100));
        let victims = match victim {
            Victim::Launcher => vec![pid],
            Victim::Sandbox => self.processes("boot"),
            Victim::Gofer => self.processes("gofer"),
        };
        for victim in &victims {
            // A stub has the sandbox process's name, and goes with it.
            let _gone = kill(*victim, Signal::SIGKILL);
        }
        if victim != Victim::Launcher {
            kill(pid, Signal::SIGCONT)?;
        }
        let end = run::finish(&mut launcher.0, PATIENCE);
        ensure(end != "timeout", || format!("{args:?} hangs"))?;
        Ok(!victims.is_empty())
    }

    /// What `state` says agrees with what there is.
    fn truth_is_told(&self) -> Result {
        eventually("truth", || {
            let outcome = self.ringfence(&["state", "c"]);
            let alive = !self.processes("boot").is_empty();
            let Some(0) = outcome.code() else {
                ensure(outcome.err().contains("does not exist"), || outcome.err())?;
                return Ok(!alive);
            };
            let state: serde_json::Value = serde_json::from_slice(&outcome.stdout)?;
            let pid = state["pid"].as_i64().unwrap_or(-1);
            Ok(match state["status"].as_str() {
                Some("stopped") => pid == 0 && !alive,
                Some("created" | "running" | "creating") => {
                    pid == 0 || state_of(Pid::from_raw(i32::try_from(pid)?)) != ""
                }
                _ => false,
            })
        })
    }

    /// It can be deleted, and nothing is left then; the id is free again.
    fn all_goes(&self) -> Result {
        exited(&self.ringfence(&["delete", "--force", "c"]), 0)?;
        let left = || [self.processes("boot"), self.processes("gofer")].concat();
        eventually("end of all processes", || Ok(left().is_empty()))?;
        self.place.nothing_left()
    }

    /// One case: `before` has been done, `args` are broken off.
    fn each(&self, before: &dyn Fn() -> Result, args: &[&str], steps: &[&str]) -> Result {
        for step in steps {
            let mut killed = 0;
            for victim in VICTIMS {
                let one = || -> Result<bool> {
                    before()?;
                    let killed = self.kill_at(args, step, victim)?;
                    self.truth_is_told()?;
                    self.all_goes()?;
                    Ok(killed)
                };
                killed += u32::from(one().map_err(|stop| match stop {
                    crate::case::Stop::Failed(why) => {
                        crate::case::Stop::Failed(format!("{victim:?} at {step}: {why}"))
                    }
                    other => other,
                })?);
            }
            // The launcher at least is always there.
            ensure(killed > 0, || format!("nobody was killed at {step}"))?;
        }
        // After all that it works as ever.
        self.run()?;
        equal(
            "exec",
            &self.ringfence(&["exec", "c", "echo", "it"]).out(),
            &"it\n".to_owned(),
        )?;
        self.all_goes()
    }
}

/// Killed when dropped, also where it stands still.
struct Launcher(Child);

impl Launcher {
    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().cast_signed())
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// The letter of a process's state; empty when it is gone.
fn state_of(pid: Pid) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let letter = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.split(' ').nth(1));
    letter.unwrap_or_default().to_owned()
}

fn killed_while_created(place: &Place<'_>) -> Result {
    let scene = Scene::new(place)?;
    let args = ["create", "-b", &scene.bundle.clone(), "c"];
    scene.each(&|| Ok(()), &args, CREATE)
}

fn killed_while_started(place: &Place<'_>) -> Result {
    let scene = Scene::new(place)?;
    scene.each(&|| scene.create(), &["start", "c"], START)
}

fn killed_while_executing(place: &Place<'_>) -> Result {
    let scene = Scene::new(place)?;
    let args = ["exec", "--detach", "c", "sleep", "1000"];
    scene.each(&|| scene.run(), &args, EXEC)
}

fn killed_while_deleted(place: &Place<'_>) -> Result {
    let scene = Scene::new(place)?;
    scene.each(&|| scene.run(), &["delete", "--force", "c"], DELETE)
}
