//! A runtime, a bundle, and the processes of a container.

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};
use test_support::bundle::{Bundle, Runtime};
use test_support::{build, rootfs};

/// Why a test cannot be run here.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// One test's.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) runtime: Runtime,
    pub(crate) rootfs: PathBuf,
}

/// A process and its parent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    parent: i32,
}

/// The processes of a running container.
pub(crate) struct Running<'a> {
    world: &'a World,
    pub(crate) id: String,
    pub(crate) sandbox: i32,
    pub(crate) gofer: i32,
}

impl World {
    pub(crate) fn new() -> Result<World> {
        let dir = tempfile::Builder::new()
            .prefix("ringfence-security.")
            .tempdir()?;
        let platform = build::platforms().into_iter().next();
        Ok(World {
            runtime: Runtime {
                program: build::runtime()?,
                state: dir.path().join("state"),
                platform: platform.context("no platform is to be tested")?,
                debug_log: None,
            },
            rootfs: rootfs::busybox()?,
            dir,
        })
    }

    /// A directory that containers have as /root.
    pub(crate) fn shared(&self) -> PathBuf {
        self.dir.path().join("shared")
    }

    /// Writes a bundle that runs `script`.
    pub(crate) fn bundle(&self, script: &str, change: impl FnOnce(&mut Value)) -> Result<PathBuf> {
        let dir = self.dir.path().join("bundle");
        let mut bundle = Bundle::new(&dir, &self.rootfs, &["/bin/sh", "-c", script]);
        change(&mut bundle.config);
        bundle.write()?;
        Ok(dir)
    }

    /// Runs a command to its end, with a file for what it says: a container keeps the caller's
    /// streams, and a pipe would not end.
    pub(crate) fn ringfence(&self, arguments: &[&str]) -> Result<Output> {
        self.with_options(&[], arguments)
    }

    pub(crate) fn with_options(&self, options: &[&str], arguments: &[&str]) -> Result<Output> {
        let said = self.dir.path().join("said");
        let file = fs::File::create(&said)?;
        let status = self
            .runtime
            .command()
            .args(options)
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .status()?;
        Ok(Output {
            status,
            stdout: fs::read(said)?,
            stderr: Vec::new(),
        })
    }

    pub(crate) fn must(&self, arguments: &[&str]) -> Result<()> {
        let output = self.ringfence(arguments)?;
        if !output.status.success() {
            bail!(
                "{arguments:?}: {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stdout)
            );
        }
        Ok(())
    }

    /// A detached container whose program works with several processes, threads of the sentry and
    /// files, and then sleeps.
    pub(crate) fn start(
        &self,
        id: &str,
        options: &[&str],
        change: impl FnOnce(&mut Value),
    ) -> Result<Running<'_>> {
        let script = "ls -lR / >/dev/null 2>&1; echo x >/tmp/x; sleep 1000 & \
                      sleep 1000 | sleep 1000 & odd=$(printf '/tmp/a\\033[31mb'); \
                      printf '#!/bin/sh\nsleep 1000\n' >\"$odd\"; chmod +x \"$odd\"; \"$odd\" & \
                      echo ready >/root/ready; wait";
        let shared = self.shared();
        fs::create_dir_all(&shared)?;
        let mark = shared.join("ready");
        let mount = json!({
            "destination": "/root", "type": "bind", "source": shared, "options": ["rbind"],
        });
        let bundle = self.bundle(script, |config| {
            if let Some(mounts) = config["mounts"].as_array_mut() {
                mounts.push(mount);
            }
            change(config);
        })?;
        let bundle = bundle.to_string_lossy().into_owned();
        let output = self.with_options(options, &["run", "--detach", "--bundle", &bundle, id])?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stdout);
            if said.contains("cannot make the control group") {
                bail!(Skip(said.into_owned()));
            }
            bail!("run: {}: {said}", output.status);
        }
        let file = self.runtime.state.join(id).join("state.json");
        let state: Value = serde_json::from_slice(&fs::read(file)?)?;
        let pid = |who: &str| {
            let pid = state[who]["pid"].as_i64().context("no pid in state.json");
            pid.and_then(|p| Ok(i32::try_from(p)?))
        };
        let running = Running {
            world: self,
            id: id.to_owned(),
            sandbox: pid("sandbox")?,
            gofer: pid("gofer")?,
        };
        wait_for("the container's program", || mark.exists())?;
        running.settle()?;
        Ok(running)
    }
}

/// Until `done`, or an error after half a minute.
pub(crate) fn wait_for(what: &str, done: impl Fn() -> bool) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        if Instant::now() > end {
            bail!("{what} did not come to it");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

impl Running<'_> {
    /// All of it: sandbox process, stubs, gofer.
    pub(crate) fn all(&self) -> Result<Vec<i32>> {
        let mut all = vec![self.sandbox, self.gofer];
        all.extend(self.stubs()?);
        Ok(all)
    }

    /// The children of the sandbox process.
    pub(crate) fn stubs(&self) -> Result<Vec<i32>> {
        let stubs = processes()?
            .into_iter()
            .filter(|p| p.parent == self.sandbox);
        Ok(stubs.map(|p| p.pid).collect())
    }

    /// Until the last program has begun: a stub that is exchanged would be gone when it is looked
    /// at.
    fn settle(&self) -> Result<()> {
        let before = RefCell::new((Vec::new(), 0));
        wait_for("a quiet container", || {
            let now = self.stubs().unwrap_or_default();
            let mut before = before.borrow_mut();
            before.1 = if now == before.0 { before.1 + 1 } else { 0 };
            before.0 = now;
            before.1 > 50
        })
    }

    /// Kills both processes as a crash would.
    pub(crate) fn crash(&self) -> Result<()> {
        for pid in [self.sandbox, self.gofer] {
            kill(Pid::from_raw(pid), Signal::SIGKILL)?;
        }
        let dead = |pid: i32| status(pid, "State").is_none_or(|s| s.starts_with('Z'));
        wait_for("the end", || dead(self.sandbox) && dead(self.gofer))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _gone = self.world.ringfence(&["delete", "--force", &self.id]);
    }
}

fn processes() -> Result<Vec<Process>> {
    let entries = fs::read_dir("/proc")?.flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse().ok());
    let with_parent = |pid| {
        let parent = status(pid, "PPid")?.parse().ok()?;
        Some(Process { pid, parent })
    };
    Ok(pids.filter_map(with_parent).collect())
}

/// A field of a process's, or a thread's, status.
pub(crate) fn status(pid: i32, field: &str) -> Option<String> {
    status_in(Path::new(&format!("/proc/{pid}")), field)
}

pub(crate) fn status_in(dir: &Path, field: &str) -> Option<String> {
    let text = fs::read_to_string(dir.join("status")).ok()?;
    let rest = text
        .lines()
        .find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
    rest.map(|r| r.trim().to_owned())
}

/// The directories of a process's threads.
pub(crate) fn threads(pid: i32) -> Result<Vec<PathBuf>> {
    let list = fs::read_dir(format!("/proc/{pid}/task"))?;
    Ok(list.flatten().map(|e| e.path()).collect())
}
