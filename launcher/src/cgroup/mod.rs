//! The control group of a sandbox: made before its processes do anything, removed when they are
//! gone.
//!
//! What is mounted is found and limits are set through cgroups-rs (`docs/adr/0001-cgroups-rs.md`).
//! Directories are made and removed here, so that a failure has its cause, and their paths are in
//! the container's state, so that any later command can remove them.

mod block;
mod limits;
mod place;

pub(crate) use block::stats as block_stats;
pub use block::{BlockCount, BlockStats};
pub(crate) use limits::weight;

use crate::config::Resources;
use cgroups_rs::cgroup::{UNIFIED_MOUNTPOINT, get_cgroups_relative_paths};
use cgroups_rs::{Cgroup, CgroupPid, Hierarchy, hierarchies};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use place::Place;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// A group that could not be made, joined or limited.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// `cgroupsPath` cannot be one.
    #[error("config.json: linux.cgroupsPath `{path}`: {problem}")]
    Path {
        /// As given.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// Somebody is in it.
    #[error(
        "the control group {path} has processes in it already; give this container a \
         linux.cgroupsPath of its own"
    )]
    Busy {
        /// Of its directory.
        path: PathBuf,
    },
    /// The host did not let us.
    #[error("cannot {what} the control group {path}: {answer}{}", advice(asked))]
    Refused {
        /// make, join
        what: &'static str,
        /// Of its directory.
        path: String,
        /// The host's answer.
        answer: String,
        /// The limits that need it.
        asked: Vec<&'static str>,
    },
    /// A limit needs what the host has not got.
    #[error(
        "config.json has a limit that needs the control group controller `{name}`, which this \
         host does not offer here; see /proc/cgroups, or take the limit out of linux.resources"
    )]
    Controller {
        /// Its name.
        name: &'static str,
    },
    /// `unified` is for version 2.
    #[error(
        "config.json: linux.resources.unified needs control groups of version 2, and this host \
         has version 1; use memory, cpu and pids instead"
    )]
    Unified,
    /// A limit was not taken.
    #[error("the host refuses linux.resources.{what} = {value}: {answer}")]
    Set {
        /// The field.
        what: String,
        /// As given.
        value: String,
        /// The host's answer.
        answer: String,
    },
    /// A limit on a block device that is not there.
    #[error(
        "linux.resources.{what} = {value}: this host has no whole disk of that number (a partition has \
         no limits of its own); `lsblk -d` lists them"
    )]
    BlockDevice {
        /// The field.
        what: String,
        /// Number and limit.
        value: String,
    },
    /// There is no group to be changed.
    #[error(
        "{} can only be changed in a control group, and the container has {what}; memory.limit and \
         pids.limit can be changed without", asked.join(", ")
    )]
    None {
        /// Why.
        what: &'static str,
        /// What would need one.
        asked: Vec<&'static str>,
    },
}

fn advice(asked: &[&'static str]) -> String {
    match asked {
        [] => String::new(),
        asked => format!(
            "; linux.resources asks for {}, which takes a control group: run as root, have the \
             group delegated to this user (systemd: Delegate=yes), or take the limits out",
            asked.join(", ")
        ),
    }
}

/// Why cgroups-rs failed, without its prose.
fn cause(error: &cgroups_rs::error::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// A group that is to be made.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    group: Cgroup,
    /// Its directory in each hierarchy.
    dirs: Vec<PathBuf>,
    /// Of a version 2 tree that stands beside version 1.
    beside: Option<PathBuf>,
    asked: &'a Resources,
}

/// The group of a container. Removed when dropped, unless it was kept.
#[derive(Debug)]
pub(crate) struct Group {
    group: Cgroup,
    dirs: Vec<PathBuf>,
    beside: Option<PathBuf>,
    asked: Vec<&'static str>,
    kept: bool,
}

/// The group that `asked` is about; none when the host has no control groups and nothing is to be
/// limited.
pub(crate) fn plan<'a>(
    asked: &'a Resources,
    id: &str,
    systemd: bool,
) -> Result<Option<Plan<'a>>, CgroupError> {
    if !asked.group {
        return Ok(None);
    }
    let place = place::of(asked.path.as_deref(), id, systemd)?;
    if !asked.ignored.is_empty() {
        let names = asked.ignored.join(", ");
        tracing::warn!("config.json: linux.resources has {names}, which are not applied");
    }
    let plan = Plan::new(hierarchies::auto(), &place, asked);
    if plan.dirs.is_empty() && asked.limits().is_empty() {
        tracing::warn!("no control groups are mounted here: the container gets none");
        return Ok(None);
    }
    Ok(Some(plan))
}

impl<'a> Plan<'a> {
    fn new(hierarchy: Box<dyn Hierarchy>, place: &Place, asked: &'a Resources) -> Plan<'a> {
        let v2 = hierarchy.v2();
        let root = hierarchy.root_or_default();
        let own = get_cgroups_relative_paths().unwrap_or_default();
        let group = match place {
            Place::Absolute(path) => Cgroup::load(hierarchy, path),
            Place::Relative(path) if v2 => {
                let above = own.get("").and_then(|own| Path::new(own).parent());
                let above = above.and_then(Path::to_str).unwrap_or_default();
                let path = format!("{}/{path}", above.trim_matches('/'));
                Cgroup::load(hierarchy, path.trim_start_matches('/'))
            }
            Place::Relative(path) => {
                // Where our own group is not to be seen (a group namespace), from the root.
                let mounts: Vec<(String, PathBuf)> = hierarchy
                    .subsystems()
                    .iter()
                    .map(|s| (s.controller_name(), s.to_controller().path().to_owned()))
                    .collect();
                let seen = |(name, path): &(String, String)| {
                    let mount = mounts.iter().find(|(n, _)| n == name);
                    mount.is_some_and(|(_, m)| m.join(path.trim_matches('/')).is_dir())
                };
                let own = own.into_iter().filter(seen).collect();
                Cgroup::load_with_relative_paths(hierarchy, path, own)
            }
        };
        let (mut dirs, mut beside) = (Vec::new(), None);
        if v2 {
            dirs.push(root.join(group.path()));
        } else {
            let subsystems = group.subsystems().iter();
            dirs.extend(subsystems.map(|s| s.to_controller().path().to_owned()));
            dirs.sort();
            dirs.dedup();
            // Controllers are of version 1; the tree of version 2 only says what belongs together.
            let unified = Path::new(UNIFIED_MOUNTPOINT).join("unified");
            let is_v2 = statfs(&unified).is_ok_and(|s| s.filesystem_type() == CGROUP2_SUPER_MAGIC);
            if let (true, Place::Absolute(path)) = (is_v2 && !dirs.is_empty(), place) {
                beside = Some(unified.join(path));
            }
        }
        Plan {
            group,
            dirs,
            beside,
            asked,
        }
    }

    /// What [`remove`] is to be told.
    pub(crate) fn dirs(&self) -> Vec<PathBuf> {
        self.dirs.iter().chain(&self.beside).cloned().collect()
    }

    /// Makes it, with its limits. None, with a warning, where the host does not let us and nothing
    /// is to be limited.
    pub(crate) fn make(self) -> Result<Option<Group>, CgroupError> {
        let asked = self.asked;
        let limits = asked.limits();
        let mut made = Group {
            group: self.group,
            dirs: Vec::new(),
            beside: None,
            asked: limits.clone(),
            kept: false,
        };
        if self.dirs.is_empty() {
            return Err(CgroupError::Refused {
                what: "make",
                path: asked.path.clone().unwrap_or_default(),
                answer: "no control groups are mounted here".to_owned(),
                asked: limits,
            });
        }
        for dir in self.dirs {
            if fs::read_to_string(dir.join("cgroup.procs")).is_ok_and(|procs| !procs.is_empty()) {
                return Err(CgroupError::Busy { path: dir });
            }
            let done = match made.group.v2() {
                true => made_below(&dir, &needed(asked)),
                false => fs::create_dir_all(&dir),
            };
            made.dirs.push(dir.clone());
            let Err(e) = done else { continue };
            if !limits.is_empty() {
                return Err(made.refused("make", &dir, &e));
            }
            tracing::warn!(
                "cannot make the control group {}: {e}; the container stays in the launcher's",
                dir.display()
            );
            return Ok(None);
        }
        if !made.group.v2() {
            // A new cpuset of version 1 is empty; this fills it from the one above.
            for subsystem in made.group.subsystems() {
                subsystem.to_controller().create();
            }
        }
        if let Some(beside) = self.beside {
            match fs::create_dir_all(&beside) {
                Ok(()) => made.beside = Some(beside),
                Err(e) => tracing::debug!("cannot make {}: {e}", beside.display()),
            }
        }
        let first = made.dirs.first().cloned().unwrap_or_default();
        limits::apply(&made.group, &first, asked, asked)?;
        Ok(Some(made))
    }
}

/// `root` of cgroups-rs panics where nothing is mounted.
trait RootOrDefault {
    fn root_or_default(&self) -> PathBuf;
}

impl RootOrDefault for Box<dyn Hierarchy> {
    fn root_or_default(&self) -> PathBuf {
        match self.v2() {
            true => self.root(),
            false => PathBuf::new(),
        }
    }
}

/// The version 2 controllers that the limits need.
fn needed(asked: &Resources) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for limit in asked.limits() {
        let name = match limit {
            "cpu.cpus" | "cpu.mems" => "cpuset",
            "blockIO" => "io",
            "unified" => continue,
            other => other.split('.').next().unwrap_or_default(),
        };
        names.push(name.to_owned());
    }
    names.extend(asked.unified.keys().filter_map(|file| {
        let name = file.split('.').next()?;
        (name != "cgroup").then(|| name.to_owned())
    }));
    names.sort();
    names.dedup();
    names
}

/// Makes a version 2 group with `controllers`, which every group above it must hand down.
fn made_below(dir: &Path, controllers: &[String]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut above: Vec<&Path> = dir
        .ancestors()
        .skip(1)
        .take_while(|d| d.join("cgroup.controllers").exists())
        .collect();
    above.reverse();
    for (dir, name) in above
        .iter()
        .flat_map(|d| controllers.iter().map(move |c| (d, c)))
    {
        let file = dir.join("cgroup.subtree_control");
        let has = fs::read_to_string(&file).unwrap_or_default();
        if has.split_ascii_whitespace().any(|c| c == name) {
            continue;
        }
        // One that is missing is noticed when its limit is set.
        if let Err(e) = fs::write(&file, format!("+{name}")) {
            tracing::debug!("{}: +{name}: {e}", file.display());
        }
    }
    Ok(())
}

impl Group {
    fn refused(&self, what: &'static str, dir: &Path, e: &dyn std::fmt::Display) -> CgroupError {
        CgroupError::Refused {
            what,
            path: dir.display().to_string(),
            answer: e.to_string(),
            asked: self.asked.clone(),
        }
    }

    /// Puts a process in, with all its threads. Where that fails and nothing is limited, a
    /// warning.
    pub(crate) fn add(&self, pid: i32) -> Result<(), CgroupError> {
        let id = CgroupPid::from(u64::try_from(pid).unwrap_or(0));
        match self.group.add_task_by_tgid(id) {
            Err(e) if self.asked.is_empty() => {
                let (path, cause) = (self.group.path(), cause(&e));
                tracing::warn!("cannot put process {pid} into the control group {path}: {cause}");
            }
            joined => {
                let dir = self.dirs.first().cloned().unwrap_or_default();
                joined.map_err(|e| self.refused("join", &dir, &cause(&e)))?;
            }
        }
        if let Some(beside) = &self.beside
            && let Err(e) = fs::write(beside.join("cgroup.procs"), pid.to_string())
        {
            tracing::debug!("cannot put process {pid} into {}: {e}", beside.display());
        }
        Ok(())
    }

    /// Leaves it to be removed by [`remove`].
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.kept {
            remove(&self.dirs);
            remove(self.beside.as_slice());
        }
    }
}

/// The group of a container that is there, and a change of its limits.
pub(crate) struct Standing<'a> {
    /// None where there is none: then nothing is to be changed that would need one.
    group: Option<(Cgroup, PathBuf)>,
    asked: &'a Resources,
    before: &'a Resources,
    after: &'a Resources,
}

impl<'a> Standing<'a> {
    /// The group that is in `dirs`, of which `asked` is asked, so that what was limited as `before`
    /// says is limited as `after` does.
    pub(crate) fn find(
        dirs: &[PathBuf],
        asked: &'a Resources,
        before: &'a Resources,
        after: &'a Resources,
    ) -> Result<Standing<'a>, CgroupError> {
        if !asked.ignored.is_empty() {
            tracing::warn!(
                "{} cannot be changed: not applied",
                asked.ignored.join(", ")
            );
        }
        let group = open(hierarchies::auto(), dirs);
        if group.is_none() {
            let what = match dirs {
                [] => "none: its config.json had neither linux.cgroupsPath nor a limit",
                _ => "lost its own: somebody removed it",
            };
            let own = ["memory.limit", "pids.limit"];
            let mut needed = asked.limits();
            needed.retain(|l| !own.contains(l));
            if !needed.is_empty() {
                return Err(CgroupError::None {
                    what,
                    asked: needed,
                });
            }
            if !dirs.is_empty() {
                tracing::warn!("the container {what}; the limits are the sandbox's alone");
            }
        }
        Ok(Standing {
            group,
            asked,
            before,
            after,
        })
    }

    /// Does it; where something is refused, puts the rest back.
    pub(crate) fn update(&self) -> Result<(), CgroupError> {
        let Some((group, dir)) = &self.group else {
            return Ok(());
        };
        let done = limits::apply(group, dir, self.asked, self.after);
        if done.is_err() {
            let back = self.before.in_place_of(self.asked);
            if let Err(e) = limits::apply(group, dir, &back, self.before) {
                tracing::warn!("a refused change of limits is not undone: {e}");
            }
        }
        done
    }
}

/// The group in `dirs`, its directory in each hierarchy.
fn open(hierarchy: Box<dyn Hierarchy>, dirs: &[PathBuf]) -> Option<(Cgroup, PathBuf)> {
    let first = dirs.first().filter(|dir| dir.is_dir())?.clone();
    if hierarchy.v2() {
        let path = first.strip_prefix(hierarchy.root()).ok()?.to_owned();
        return Some((Cgroup::load(hierarchy, path), first));
    }
    let mut above = HashMap::new();
    for subsystem in hierarchy.subsystems() {
        let mount = subsystem.to_controller().path();
        if let Some(path) = dirs.iter().find_map(|dir| dir.strip_prefix(mount).ok()) {
            let parent = path.parent()?.to_str()?.to_owned();
            above.insert(subsystem.controller_name(), parent);
        }
    }
    let group = Cgroup::load_with_relative_paths(hierarchy, first.file_name()?, above);
    Some((group, first))
}

/// Removes a group's directories; its processes must be gone. What is not there, or has groups of
/// somebody else's in it, is left.
pub(crate) fn remove(dirs: &[PathBuf]) {
    for dir in dirs {
        let mut pause = Duration::from_millis(1);
        loop {
            match fs::remove_dir(dir) {
                // The last process is dead and not yet gone.
                Err(e) if e.raw_os_error() == Some(libc::EBUSY) && pause.as_millis() < 500 => {
                    thread::sleep(pause);
                    pause *= 2;
                }
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!("cannot remove the control group {}: {e}", dir.display());
                    break;
                }
                _ => break,
            }
        }
    }
}

#[cfg(test)]
mod tests;
