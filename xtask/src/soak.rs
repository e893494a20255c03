//! `cargo xtask soak`: mixed work in one sandbox for a while, and what is left of it afterwards.
//!
//! The sandbox is a debug build, whose locks check their order. `ringfence debug --counters` says
//! how much there is of what it keeps, once after a first round, which fills caches and pools, and
//! again at the end, when all is at rest.

use crate::shell::cargo;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use test_support::bundle::{Bundle, Runtime};
use test_support::{build, is_root, rootfs, run, target_dir};

/// Run mixed work in one sandbox, and look for what is left of it
#[derive(Debug, clap::Args)]
pub(crate) struct Soak {
    /// How long the rounds go on; each is finished
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// How guest code is run; each that works here without
    #[arg(long)]
    platform: Option<String>,
    /// The tree that the work is done in, instead of the tests' own: git and a C compiler are used
    /// where it has them
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// The runtime, instead of a debug build of this tree
    #[arg(long, value_name = "FILE")]
    runtime: Option<PathBuf>,
}

/// What is run at the same time, each over and over: the parts of a round.
const WORK: &[(&str, &str, &str)] = &[
    ("files", "/bin/bash", include_str!("soak/files.sh")),
    ("processes", "/bin/bash", include_str!("soak/processes.sh")),
    ("python", "/usr/bin/python3", include_str!("soak/work.py")),
    ("tools", "/bin/bash", include_str!("soak/tools.sh")),
];
/// Most that a round may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long what has ended may take to be gone.
const REST: Duration = Duration::from_secs(60);
/// Bytes of memory that caches and allocators may keep more of than before.
const MEMORY: i64 = 16 << 20;
/// Threads, and descriptors with them, that pools may keep more of: as many as they keep at all.
const POOL: i64 = 32;

type Counters = BTreeMap<String, i64>;

impl Soak {
    pub(crate) fn run(self) -> Result<()> {
        if !is_root() {
            bail!("the bundle needs root");
        }
        let program = match &self.runtime {
            Some(program) => program.clone(),
            None => {
                crate::shell::run(&mut cargo(["build", "--quiet", "--package", "runtime-cli"]))?;
                target_dir().join("debug/ringfence")
            }
        };
        let root = match &self.root {
            Some(root) => root.clone(),
            None => rootfs::debian()?,
        };
        let platforms = match &self.platform {
            Some(platform) => vec![platform.clone()],
            None => build::platforms(),
        };
        let mut leaks = Vec::new();
        for platform in platforms {
            leaks.extend(self.on(&platform, &program, &root)?);
        }
        if !leaks.is_empty() {
            bail!("it leaks:\n{}", leaks.join("\n"));
        }
        Ok(())
    }

    /// What leaks on a platform.
    fn on(&self, platform: &str, program: &Path, root: &Path) -> Result<Vec<String>> {
        let dir = tempfile::Builder::new()
            .prefix("ringfence-soak.")
            .tempdir()?;
        let sandbox = Sandbox::start(dir.path(), platform, program, root)?;
        sandbox.round("warm-up")?;
        let before = sandbox.at_rest(None)?;
        println!("{platform}: before {}", json!(before));
        let end = Instant::now() + Duration::from_secs_f64(self.minutes * 60.0);
        let mut rounds = 0;
        while rounds == 0 || Instant::now() < end {
            rounds += 1;
            sandbox.round(&format!("round {rounds}"))?;
            println!("{platform}: round {rounds}: {}", json!(sandbox.counters()?));
        }
        let after = sandbox.at_rest(Some(&before))?;
        println!("{platform}: after {rounds} rounds {}", json!(after));
        sandbox.end()?;
        Ok(grown(&before, &after)
            .into_iter()
            .map(|leak| format!("{platform}: {leak}, after {rounds} rounds"))
            .collect())
    }
}

/// The container that all work is done in; it ends when this is dropped.
struct Sandbox {
    runtime: Runtime,
    dir: PathBuf,
    container: Child,
}

const ID: &str = "soak";

impl Sandbox {
    fn start(dir: &Path, platform: &str, program: &Path, root: &Path) -> Result<Sandbox> {
        let mut bundle = Bundle::new(&dir.join("bundle"), root, &["/bin/sleep", "infinity"]);
        // What nobody waits for any more is reaped.
        let first = "$SIG{CHLD} = 'IGNORE'; sleep 1000 while 1";
        bundle.config["process"]["args"] = json!(["/usr/bin/perl", "-e", first]);
        bundle.config["root"]["readonly"] = true.into();
        let work = dir.join("work");
        fs::create_dir(&work)?;
        for (name, _, script) in WORK {
            fs::write(work.join(name), script)?;
        }
        fs::create_dir(dir.join("scratch"))?;
        if let Some(mounts) = bundle.config["mounts"].as_array_mut() {
            let bind = |to: &str, from: &Path, how: &str| json!({"destination": to, "type": "bind", "source": from, "options": ["bind", how]});
            mounts.push(bind("/mnt", &work, "ro"));
            mounts.push(bind("/srv", &dir.join("scratch"), "rw"));
        }
        bundle.write()?;
        let runtime = Runtime {
            program: program.to_owned(),
            state: dir.join("state"),
            platform: platform.to_owned(),
            debug_log: Some(dir.join("log")),
        };
        let mut command = runtime.run(&bundle.dir, ID);
        let container = command
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let sandbox = Sandbox {
            runtime,
            dir: dir.to_owned(),
            container,
        };
        let end = Instant::now() + PATIENCE;
        while sandbox.counters().is_err() {
            if Instant::now() > end {
                bail!("the sandbox does not come up");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(sandbox)
    }

    /// All work once, side by side.
    fn round(&self, name: &str) -> Result<()> {
        let mut parts = Vec::new();
        for (part, interpreter, _) in WORK {
            let log = self.dir.join(format!("{part}.out"));
            let file = File::create(&log)?;
            let mut command = self.runtime.command();
            command.args(["exec", "--cwd", "/tmp", ID, interpreter]);
            command.arg(format!("/mnt/{part}"));
            command.stdin(Stdio::null());
            command.stdout(file.try_clone()?).stderr(file);
            parts.push((part, log, command.spawn()?));
        }
        let mut failed = Vec::new();
        for (part, log, mut child) in parts {
            let end = run::finish(&mut child, PATIENCE);
            if end != "exit 0" {
                let output = fs::read_to_string(&log).unwrap_or_default();
                failed.push(format!("{name}: {part}: {end}: {output}"));
            }
        }
        if !failed.is_empty() {
            bail!("{}", failed.join("\n"));
        }
        Ok(())
    }

    fn counters(&self) -> Result<Counters> {
        let outcome = run::run_plain(self.runtime.command().args(["debug", "--counters", ID]));
        let all: Value = serde_json::from_slice(&outcome.stdout)
            .with_context(|| format!("counters: {} {}", outcome.status, outcome.err()))?;
        let all = all.as_object().into_iter().flatten();
        Ok(all
            .filter_map(|(name, n)| Some((name.clone(), n.as_i64()?)))
            .collect())
    }

    /// The counters once nothing is above `before`, or does not get lower any more; and without
    /// it, once they stay.
    fn at_rest(&self, before: Option<&Counters>) -> Result<Counters> {
        let end = Instant::now() + REST;
        let mut last = self.counters()?;
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let now = self.counters()?;
            let good = match before {
                Some(before) => grown(before, &now).is_empty(),
                None => last == now && now.get("tasks") == Some(&1),
            };
            if good || Instant::now() > end {
                return Ok(now);
            }
            last = now;
        }
    }

    fn end(mut self) -> Result<()> {
        let kill = run::run_plain(self.runtime.command().args(["kill", ID, "KILL"]));
        if kill.code() != Some(0) {
            bail!("cannot end the sandbox: {}", kill.err());
        }
        match run::finish(&mut self.container, PATIENCE).as_str() {
            "exit 137" => Ok(()),
            end => bail!("the sandbox ended with {end}"),
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _gone = self.container.kill();
        let _reaped = self.container.wait();
    }
}

/// What there is more of than before, where it should not be.
fn grown(before: &Counters, after: &Counters) -> Vec<String> {
    let get = |counters: &Counters, name: &str| counters.get(name).copied().unwrap_or(0);
    let mut grown = Vec::new();
    let mut look = |name: &str, before: i64, after: i64, slack: i64| {
        if after > before + slack {
            grown.push(format!("{name} {before} -> {after}"));
        }
    };
    let used = |c: &Counters| get(c, "dentries") - get(c, "cached_dentries");
    // What is cached holds what it is below of.
    look("dentries in use", used(before), used(after), 0);
    for name in after.keys() {
        let slack = match name.as_str() {
            "dentries" | "cached_dentries" => continue,
            "memory" => MEMORY,
            "host_threads" | "host_descriptors" | "gofer_descriptors" | "host_processes" => POOL,
            _ => 0,
        };
        look(name, get(before, name), get(after, name), slack);
    }
    grown
}
