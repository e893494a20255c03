//! Where one test works: a directory, a state directory, and a link to the binary that no other
//! test runs, by which its processes are known.

use crate::case::{Result, Stop};
use crate::world::World;
use serde_json::Value;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use test_support::bundle::{Bundle, Runtime};
use test_support::leftovers::Snapshot;
use test_support::native::Chroot;
use test_support::run::{self, Outcome};
use test_support::{is_root, which};

/// For what must happen and is not measured. It is to find what hangs: some programs take a quarter
/// of a minute where others keep the machine busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Place<'a> {
    world: &'a World,
    pub(crate) dir: PathBuf,
    pub(crate) runtime: Runtime,
    before: Snapshot,
}

impl<'a> Place<'a> {
    pub(crate) fn new(world: &'a World, name: &str) -> Result<Self> {
        let dir = world.base.path().join(name.replace('/', "."));
        std::fs::create_dir(&dir)?;
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755))?;
        let program = dir.join("ringfence");
        std::fs::hard_link(&world.program, &program)?;
        let state = dir.join("state");
        let before = Snapshot::take(&program, &state);
        let runtime = Runtime {
            program,
            state,
            platform: world.platform.clone(),
            debug_log: None,
        };
        Ok(Self {
            world,
            dir,
            runtime,
            before,
        })
    }

    /// Ends what is still there, and says what that was.
    pub(crate) fn close(self) -> String {
        let left = self.left();
        for entry in std::fs::read_dir(&self.runtime.state)
            .into_iter()
            .flatten()
            .flatten()
        {
            let mut delete = self.runtime.command();
            delete.args(["delete", "--force"]).arg(entry.file_name());
            run::run_plain(&mut delete);
        }
        let _base_goes_in_the_end = std::fs::remove_dir_all(&self.dir);
        left
    }

    /// What is there now and was not when the test began.
    pub(crate) fn left(&self) -> String {
        let mut left = self.before.left(Duration::ZERO);
        if !left.is_empty() {
            left = self.before.left(Duration::from_secs(5));
        }
        left
    }

    /// Fails if something is there now that was not when the test began.
    pub(crate) fn nothing_left(&self) -> Result {
        let left = self.left();
        crate::case::ensure(left.is_empty(), || format!("left behind:\n{left}"))
    }

    pub(crate) fn debian(&self) -> Result<&'a Path> {
        self.world.debian()
    }

    /// A busybox tree that is this test's alone.
    pub(crate) fn tree(&self) -> Result<PathBuf> {
        let to = self.dir.join("root");
        if !to.exists() {
            let mut copy = Command::new("cp");
            copy.arg("-a").arg(self.world.busybox()?).arg(&to);
            let outcome = run::run_plain(&mut copy);
            crate::case::exited(&outcome, 0)?;
        }
        Ok(to)
    }

    /// A control group of this test's own: the containers of all tests have the same id, after which
    /// a group is called that has no other name.
    pub(crate) fn group(&self) -> String {
        let name = self.dir.file_name().unwrap_or_default().to_string_lossy();
        format!("/ringfence-e2e-{}-{name}", std::process::id())
    }

    /// A bundle that runs `args` in [`Place::tree`]; not written yet.
    pub(crate) fn bundle(&self, args: &[&str]) -> Result<Bundle> {
        need_root()?;
        Ok(Bundle::new(&self.dir.join("bundle"), &self.tree()?, args))
    }

    /// Writes a bundle that runs `script` by busybox's shell, after `change`.
    pub(crate) fn shell(&self, script: &str, change: impl FnOnce(&mut Value)) -> Result<PathBuf> {
        let mut bundle = self.bundle(&["/bin/sh", "-c", script])?;
        change(&mut bundle.config);
        bundle.write()?;
        Ok(bundle.dir)
    }

    /// Runs `script` in a container `c` that is left running.
    pub(crate) fn started(&self, script: &str) -> Result {
        self.started_with(&[], script)
    }

    /// The same, by a runtime with `options`.
    pub(crate) fn started_with(&self, options: &[&str], script: &str) -> Result {
        let dir = self.shell(script, |_| {})?;
        let mut command = self.runtime.command();
        command
            .args(options)
            .args(["run", "--detach", "--bundle"])
            .arg(&dir)
            .arg("c");
        let mut run = self.spawn(&mut command)?;
        crate::case::equal("run --detach", &run.finish(), &"exit 0".to_owned())
    }

    /// Deletes the container `c`, of which nothing is left then.
    pub(crate) fn gone(&self) -> Result {
        crate::case::exited(&self.ringfence(&["delete", "--force", "c"]), 0)?;
        self.nothing_left()
    }

    /// The runtime with `args`.
    ///
    /// # Panics
    /// When it cannot be started: that is a broken test environment.
    pub(crate) fn ringfence(&self, args: &[&str]) -> Outcome {
        self.finish(self.runtime.command().args(args))
    }

    /// Runs `command` to its own end, with files for its output: what it leaves running may hold
    /// them longer.
    ///
    /// # Panics
    /// As [`Place::ringfence`].
    pub(crate) fn finish(&self, command: &mut Command) -> Outcome {
        let paths = ["stdout", "stderr"].map(|name| self.dir.join(name));
        let files = paths.each_ref().map(|path| {
            // A new file each time: a container that was left running still writes to its own.
            let _there_was_none = std::fs::remove_file(path);
            File::create(path).ok()
        });
        let [Some(stdout), Some(stderr)] = files else {
            panic!("cannot write into {}", self.dir.display());
        };
        let spawned = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => panic!("cannot start {command:?}: {error}"),
        };
        let status = run::finish(&mut child, PATIENCE);
        let [stdout, stderr] = paths.map(|path| std::fs::read(path).unwrap_or_default());
        Outcome {
            status,
            stdout,
            stderr,
        }
    }

    /// `run` of the bundle in `dir`.
    pub(crate) fn run(&self, dir: &Path, id: &str) -> Outcome {
        run::run(&mut self.runtime.run(dir, id), b"", PATIENCE)
    }

    /// Starts the runtime in the background, with nothing on standard input.
    pub(crate) fn spawn(&self, command: &mut Command) -> Result<Background> {
        let log = self.dir.join("background.log");
        let file = File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        Ok(Background { child, log })
    }

    /// Natively in a chroot.
    pub(crate) fn native(&self, root: &Path, args: &[&str], input: &[u8]) -> Result<Outcome> {
        need_root()?;
        Ok(run::run(
            &mut Chroot::new(root).command(args),
            input,
            PATIENCE,
        ))
    }

    /// The same sandboxed.
    pub(crate) fn sandboxed(&self, root: &Path, args: &[&str], input: &[u8]) -> Result<Outcome> {
        need_root()?;
        let bundle = Bundle::new(&self.dir.join("bundle"), root, args);
        bundle.write()?;
        let mut command = self.runtime.run(&bundle.dir, "program");
        Ok(run::run(&mut command, input, PATIENCE))
    }

    /// A container's status in the words of `state`.
    pub(crate) fn status(&self, id: &str) -> Result<String> {
        Ok(self.state(id)?["status"]
            .as_str()
            .unwrap_or_default()
            .to_owned())
    }

    /// What `state` prints.
    pub(crate) fn state(&self, id: &str) -> Result<Value> {
        let outcome = self.ringfence(&["state", id]);
        crate::case::exited(&outcome, 0)?;
        Ok(serde_json::from_slice(&outcome.stdout)?)
    }

    /// The recorded host pid of one of a container's processes: `sandbox` or `gofer`.
    pub(crate) fn pid(&self, id: &str, which: &str) -> Result<nix::unistd::Pid> {
        let text = std::fs::read(self.runtime.state.join(id).join("state.json"))?;
        let state: Value = serde_json::from_slice(&text)?;
        match state[which]["pid"].as_i64() {
            Some(pid) => Ok(nix::unistd::Pid::from_raw(i32::try_from(pid)?)),
            None => crate::case::failed(format!("state.json has no pid of the {which}")),
        }
    }
}

/// A process in the background; killed when dropped.
pub(crate) struct Background {
    child: Child,
    log: PathBuf,
}

impl Background {
    pub(crate) fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.child.id().cast_signed())
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) -> Result {
        Ok(nix::sys::signal::kill(self.pid(), signal)?)
    }

    /// What it has written so far.
    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has written `text`.
    pub(crate) fn wait_for(&mut self, text: &str) -> Result {
        eventually(&format!("{text:?} in the output"), || {
            Ok(self.output().contains(text))
        })
        .map_err(|stop| match stop {
            Stop::Failed(why) => Stop::Failed(format!("{why}; it wrote: {}", self.output())),
            other => other,
        })
    }

    /// Whether it has not ended yet.
    pub(crate) fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// How it ended: `exit N` and so on.
    pub(crate) fn finish(&mut self) -> String {
        run::finish(&mut self.child, PATIENCE)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Waits until `holds`.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result {
    let end = Instant::now() + PATIENCE;
    while !holds()? {
        if Instant::now() > end {
            return crate::case::failed(format!("no {what} after {PATIENCE:?}"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Whether the platform under test works with a device.
pub(crate) fn need_device(place: &Place<'_>) -> Result {
    match place.runtime.platform.as_str() {
        "kvm" => Ok(()),
        _ => Err(Stop::Skipped("this platform has no device".into())),
    }
}

pub(crate) fn need_root() -> Result {
    if is_root() {
        return Ok(());
    }
    Err(Stop::Skipped("it needs root".into()))
}

/// The path of a program of this machine.
pub(crate) fn need(name: &str) -> Result<PathBuf> {
    which(name).ok_or_else(|| Stop::Skipped(format!("there is no {name} here")))
}
