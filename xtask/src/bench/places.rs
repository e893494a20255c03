//! Where the probe runs: natively, in ours, in theirs.

use super::{compile, git, lifecycle};
use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use test_support::bundle::Bundle;
use test_support::native::default_env;
use test_support::run::run;
use test_support::which;

/// A peer that has not run `true` by then does not work here.
const PATIENCE: Duration = Duration::from_secs(8);

/// Python, which then ends at once.
const PYTHON: [&str; 3] = ["/usr/bin/python3", "-c", "pass"];

/// Directories of one run of the bench.
#[derive(Debug)]
pub(crate) struct Site<'a> {
    /// For bundles and state.
    pub(crate) work: &'a Path,
    /// The tree with the probe in it.
    pub(crate) tree: PathBuf,
    /// A Debian.
    pub(crate) debian: PathBuf,
    /// One with git and a repository.
    pub(crate) git: Option<PathBuf>,
    /// One with a C compiler.
    pub(crate) compiler: Option<PathBuf>,
}

/// Whose place it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Native,
    Ours,
    Theirs,
}

/// One place.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// The runtime with its global options; none natively.
    runtime: Vec<PathBuf>,
    work: PathBuf,
    tree: PathBuf,
    debian: PathBuf,
    git: Option<PathBuf>,
    compiler: Option<PathBuf>,
    /// How many containers there have been.
    count: Cell<u32>,
}

/// crun starts nothing where cgroups of both versions are mounted. So in a mount namespace of our
/// own, the second version's are taken off; nobody else here needs them.
pub(crate) fn one_kind_of_cgroups() -> Result<()> {
    const UNIFIED: &str = "/sys/fs/cgroup/unified";
    if !Path::new(UNIFIED).exists() {
        return Ok(());
    }
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).context("making a mount namespace")?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
        .context("making the mounts private")?;
    umount2(UNIFIED, MntFlags::MNT_DETACH).with_context(|| format!("unmounting {UNIFIED}"))
}

/// All places there are. What is left out is said.
pub(crate) fn all(
    site: &Site<'_>,
    program: &Path,
    platforms: &[String],
    peers: bool,
) -> Result<Vec<Place>> {
    let mut places = vec![Place::new(site, "native", Kind::Native, &[])?];
    let ready = ready(program)?;
    let chosen = if platforms.is_empty() {
        &ready
    } else {
        platforms
    };
    for platform in chosen {
        if !ready.contains(platform) {
            bail!("platform {platform} is not ready here: `ringfence platforms` tells why");
        }
        let runtime = [program.to_owned(), "--platform".into(), platform.into()];
        let name = format!("ringfence/{platform}");
        places.push(Place::new(site, &name, Kind::Ours, &runtime)?);
    }
    if !peers {
        return Ok(places);
    }
    let kvm = Path::new("/dev/kvm").exists();
    let gvisor = ["--network=none", "--ignore-cgroups"];
    for (name, program, options) in [
        ("runc", "runc", vec![]),
        ("crun", "crun", vec!["--cgroup-manager=disabled"]),
        (
            "runsc/ptrace",
            "runsc",
            [&gvisor[..], &["--platform=ptrace"]].concat(),
        ),
        (
            "runsc/systrap",
            "runsc",
            [&gvisor[..], &["--platform=systrap"]].concat(),
        ),
        (
            "runsc/kvm",
            "runsc",
            [&gvisor[..], &["--platform=kvm"]].concat(),
        ),
    ] {
        let Some(path) = which(program) else {
            println!("SKIPPED {name}: {program} is not on the PATH");
            continue;
        };
        if name == "runsc/kvm" && !kvm {
            println!("SKIPPED {name}: there is no /dev/kvm");
            continue;
        }
        let mut runtime = vec![path];
        runtime.extend(options.into_iter().map(PathBuf::from));
        let place = Place::new(site, name, Kind::Theirs, &runtime)?;
        let outcome = run(&mut place.run("start")?, b"", PATIENCE);
        if outcome.code() == Some(0) {
            places.push(place);
        } else {
            place.clean_up();
            let text = outcome.err();
            let said = text.lines().last().unwrap_or("it said nothing");
            println!(
                "SKIPPED {name}: it does not work here ({}: {said})",
                outcome.status
            );
        }
    }
    Ok(places)
}

/// The platforms in `program` that say that they are ready.
fn ready(program: &Path) -> Result<Vec<String>> {
    let output = Command::new(program)
        .arg("platforms")
        .output()
        .with_context(|| format!("starting {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut name = "";
    let mut ready = Vec::new();
    for line in text.lines() {
        if !line.starts_with(' ') {
            name = line.split(' ').next().unwrap_or_default();
        } else if line.trim_start().starts_with("ready") {
            ready.push(name.to_owned());
        } else if line.trim_start().starts_with("not ready") {
            println!("SKIPPED ringfence/{name}: {}", line.trim());
        }
    }
    Ok(ready)
}

impl Place {
    fn new(site: &Site<'_>, name: &str, kind: Kind, runtime: &[PathBuf]) -> Result<Place> {
        let work = site.work.join(name.replace('/', "-"));
        std::fs::create_dir_all(work.join("state"))?;
        let place = Place {
            name: name.to_owned(),
            kind,
            runtime: runtime.to_vec(),
            work,
            tree: site.tree.clone(),
            debian: site.debian.clone(),
            git: site.git.clone(),
            compiler: site.compiler.clone(),
            count: Cell::new(0),
        };
        if kind != Kind::Native {
            place.bundle("start", &place.debian, &["/bin/true"])?;
            place.bundle("python", &place.debian, &PYTHON)?;
            if let Some(tree) = &place.git {
                place.bundle("git_status", tree, &git::STATUS)?;
            }
            if let Some(tree) = &place.compiler {
                place.bundle("compile", tree, &compile::COMPILE)?;
            }
            place.bundle(lifecycle::NAME, &place.debian, &["/bin/sleep", "1000"])?;
            place.bundle("idle", &place.tree, &["/bench-probe", "pause"])?;
        }
        Ok(place)
    }

    fn bundle(&self, name: &str, tree: &Path, args: &[&str]) -> Result<()> {
        let dir = self.work.join(name);
        let mut bundle = Bundle::new(&dir, tree, args);
        // Those of Docker that every runtime knows by name: older ones refuse newer names.
        let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
        bundle.config["process"]["capabilities"] =
            json!({"bounding": caps, "effective": caps, "permitted": caps});
        bundle
            .write()
            .with_context(|| format!("writing a bundle into {}", dir.display()))
    }

    /// The runtime, with its global options.
    pub(crate) fn base(&self) -> Command {
        let mut words = self.runtime.iter();
        let mut command = Command::new(words.next().map_or(Path::new("false"), |p| p.as_path()));
        command
            .arg("--root")
            .arg(self.work.join("state"))
            .args(words);
        command
    }

    /// Runs the bundle `name` as a container; natively, its command. `start`, `python`,
    /// `git_status`, `compile` and `idle` stand.
    pub(crate) fn run(&self, name: &str) -> Result<Command> {
        if self.kind == Kind::Native {
            if name == "start" {
                return Ok(Command::new(self.debian.join("bin/true")));
            }
            let mut command = Command::new(which("chroot").context("there is no chroot")?);
            match (name, &self.git, &self.compiler) {
                ("git_status", Some(tree), _) => command.arg(tree).args(git::STATUS),
                ("compile", _, Some(tree)) => command.arg(tree).args(compile::COMPILE),
                _ => command.arg(&self.debian).args(PYTHON),
            };
            return Ok(command);
        }
        let (dir, id) = self.next(name);
        let mut command = self.base();
        command.arg("run").arg("--bundle").arg(dir).arg(id);
        Ok(command)
    }

    /// The directory of the bundle `name`, and the id of a container that is to be made of it.
    pub(crate) fn next(&self, name: &str) -> (PathBuf, String) {
        self.count.set(self.count.get() + 1);
        (self.work.join(name), self.id())
    }

    /// Runs the probe with `args`.
    pub(crate) fn probe(&self, args: &[&str]) -> Result<Command> {
        if self.kind == Kind::Native {
            let mut command = Command::new(self.tree.join("bench-probe"));
            command
                .args(args)
                .env_clear()
                .envs(default_env())
                .current_dir(&self.tree);
            return Ok(command);
        }
        let args: Vec<&str> = ["/bench-probe"].iter().chain(args).copied().collect();
        self.bundle("probe", &self.tree, &args)?;
        self.run("probe")
    }

    /// The container that was started last.
    fn id(&self) -> String {
        format!("bench-{}-{}", std::process::id(), self.count.get())
    }

    /// Takes away what a container that was cut short left.
    pub(crate) fn clean_up(&self) {
        if self.kind != Kind::Native {
            let _nothing_left = self
                .base()
                .args(["delete", "--force"])
                .arg(self.id())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
    }
}
