//! What is on disk about containers: `<root>/<id>/`, mode 0700, with `state.json` and the control
//! socket.
//!
//! The directory itself is what is locked (flock): whoever changes a container's state holds it.
//! `state.json` is replaced as a whole by rename, so that readers need no lock.

use crate::id::ContainerId;
use crate::process_id::ProcessId;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Uid, User};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const STATE_FILE: &str = "state.json";
const SOCKET_FILE: &str = "control.sock";

/// Trouble with the state directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The root could not be made or read.
    #[error("cannot use {path} to keep container state: {source}; choose another with --root")]
    Root {
        /// Of the root.
        path: PathBuf,
        /// The host's answer.
        source: io::Error,
    },
    /// Somebody else could change what is kept there.
    #[error(
        "{path} cannot keep container state: {problem}; choose a directory of your own with --root"
    )]
    Unsafe {
        /// Of the root, or of a container in it.
        path: PathBuf,
        /// Whose it is, or who may write to it.
        problem: String,
    },
    /// A container's directory has files that are not ours.
    #[error("{path} holds {name}, which is not ringfence's; it is left as it is")]
    Foreign {
        /// Of the directory.
        path: PathBuf,
        /// The first such file.
        name: String,
    },
    /// The id is taken.
    #[error("container `{0}` exists already; choose another id, or `ringfence delete {0}` first")]
    Exists(ContainerId),
    /// There is none of that id.
    #[error("container `{id}` does not exist in {}; `ringfence list` shows those that do", root.display())]
    Missing {
        /// As asked.
        id: ContainerId,
        /// Where it was looked for.
        root: PathBuf,
    },
    /// A file of a container's directory.
    #[error("cannot {what} {path}: {source}")]
    File {
        /// The operation.
        what: &'static str,
        /// Of the file.
        path: PathBuf,
        /// The host's answer.
        source: io::Error,
    },
    /// `state.json` is not what we write.
    #[error("{path} is damaged: {source}; remove its directory once nothing of it runs")]
    Damaged {
        /// Of the file.
        path: PathBuf,
        /// From the parser.
        source: serde_json::Error,
    },
}

/// How far a container came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Its launcher is at work.
    Creating,
    /// It can be started.
    Created,
    /// It was started.
    Running,
    /// It was started, and its tasks are paused.
    Paused,
}

/// What `state.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// The container's id.
    pub id: String,
    /// Absolute path of its bundle.
    pub bundle: PathBuf,
    /// Absolute path of its root file system.
    pub rootfs: PathBuf,
    /// How far it came.
    pub phase: Phase,
    /// Seconds and nanoseconds since 1970 of its creation.
    pub created: Duration,
    /// User who made it.
    pub owner: u32,
    /// Whether it ends with its launcher.
    pub attached: bool,
    /// The process that made it.
    pub launcher: Option<ProcessId>,
    /// The sandbox process. Of a container that joined one, the process that stands for it, and ends
    /// with it.
    pub sandbox: Option<ProcessId>,
    /// The sandbox that it joined; none when it started its own.
    #[serde(default)]
    pub joined: Option<Joined>,
    /// The file server.
    pub gofer: Option<ProcessId>,
    /// Directories of its control group, to be removed after its processes.
    #[serde(default)]
    pub cgroup: Vec<PathBuf>,
    /// What it may use now.
    #[serde(default)]
    pub resources: crate::config::Resources,
    /// Platform by name.
    pub platform: String,
    /// The spec's annotations.
    pub annotations: BTreeMap<String, String>,
    /// Hooks to run inside before its program is started, as in the spec.
    #[serde(default)]
    pub start_container: Vec<crate::hooks::Hook>,
    /// Hooks to run once it was.
    #[serde(default)]
    pub poststart: Vec<crate::hooks::Hook>,
    /// Hooks to run after it is gone, as in the spec.
    pub poststop: Vec<crate::hooks::Hook>,
    /// Its own process, from which `exec` takes what it is not told.
    #[serde(default)]
    pub process: control::boot::ProcessSpec,
}

/// The sandbox that a container joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Id of its root container.
    pub id: String,
    /// Its process.
    pub process: ProcessId,
}

impl State {
    /// OCI's word for where the container stands.
    pub fn status(&self) -> &'static str {
        let alive = self.sandbox.is_some_and(|p| p.alive())
            && self.joined.as_ref().is_none_or(|j| j.process.alive());
        match self.phase {
            Phase::Creating if self.launcher.is_some_and(|p| p.alive()) => "creating",
            Phase::Created if alive => "created",
            Phase::Running if alive => "running",
            Phase::Paused if alive => "paused",
            _ => "stopped",
        }
    }

    /// The name of the user who made it, or the number where there is no name.
    pub fn owner_name(&self) -> String {
        let user = User::from_uid(Uid::from_raw(self.owner)).ok().flatten();
        user.map_or_else(|| self.owner.to_string(), |u| u.name)
    }

    /// Whether nobody will come back for it: its launcher was to remove it and is gone.
    fn abandoned(&self) -> bool {
        let launcher_gone = !self.launcher.is_some_and(|p| p.alive());
        let alive = [self.sandbox, self.gofer]
            .iter()
            .flatten()
            .any(ProcessId::alive);
        launcher_gone && !alive && (self.attached || self.phase == Phase::Creating)
    }
}

/// A wait status as an exit status: 128 + n for a signal.
pub(crate) fn exit_code(wait_status: i32) -> i32 {
    match wait_status & 0x7f {
        0 => (wait_status >> 8) & 0xff,
        signal => 128 + signal,
    }
}

/// The directory of all containers.
#[derive(Clone, Debug)]
pub struct StateRoot(PathBuf);

/// One container's directory.
#[derive(Debug)]
pub struct ContainerDir {
    id: ContainerId,
    path: PathBuf,
    dir: File,
}

/// The lock on a container's directory, until dropped.
#[derive(Debug)]
pub struct Locked(#[expect(dead_code, reason = "held, not used")] Flock<File>);

impl StateRoot {
    /// Makes the directory if need be. One that others could write to is refused: what lies in it
    /// says which processes are killed and which hooks are run.
    pub fn open(path: &Path) -> Result<StateRoot, StateError> {
        let failed = |source| StateError::Root {
            path: path.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed)?;
        // In a directory like /tmp somebody else may have put a link in its place.
        let named = fs::symlink_metadata(path).map_err(failed)?;
        if named.is_symlink() {
            check_owner(path, &named)?;
        }
        let path = path.canonicalize().map_err(failed)?;
        let metadata = fs::metadata(&path).map_err(failed)?;
        check_owner(&path, &metadata)?;
        if metadata.mode() & 0o022 != 0 {
            return Err(StateError::Unsafe {
                problem: format!(
                    "others may write to it (mode {:04o})",
                    metadata.mode() & 0o7777
                ),
                path,
            });
        }
        Ok(StateRoot(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes the directory of a new container.
    pub fn create(&self, id: &ContainerId) -> Result<ContainerDir, StateError> {
        let path = self.0.join(id.as_str());
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => self.open_container(id),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                Err(StateError::Exists(id.clone()))
            }
            Err(source) => Err(StateError::File {
                what: "make",
                path,
                source,
            }),
        }
    }

    /// The directory of a container that is there.
    pub fn open_container(&self, id: &ContainerId) -> Result<ContainerDir, StateError> {
        let path = self.0.join(id.as_str());
        match open_directory(&path) {
            Ok(dir) => {
                let metadata = dir.metadata().map_err(|source| StateError::File {
                    what: "look at",
                    path: path.clone(),
                    source,
                })?;
                check_owner(&path, &metadata)?;
                Ok(ContainerDir {
                    id: id.clone(),
                    path,
                    dir,
                })
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(StateError::Missing {
                id: id.clone(),
                root: self.0.clone(),
            }),
            Err(source) => Err(StateError::File {
                what: "open",
                path,
                source,
            }),
        }
    }

    /// The ids there are, sorted.
    pub fn ids(&self) -> Result<Vec<ContainerId>, StateError> {
        let failed = |source| StateError::Root {
            path: self.0.clone(),
            source,
        };
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.0).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                ids.extend(
                    entry
                        .file_name()
                        .to_str()
                        .and_then(|n| ContainerId::new(n).ok()),
                );
            }
        }
        ids.sort();
        Ok(ids)
    }

    /// Removes what launchers that were killed could not. Trouble is logged and left to the next
    /// command.
    pub fn collect(&self) {
        for id in self.ids().unwrap_or_default() {
            let Ok(container) = self.open_container(&id) else {
                continue;
            };
            // Somebody at work on it looks after it.
            let Ok(Some(_lock)) = container.try_lock() else {
                continue;
            };
            let mut cgroup = Vec::new();
            let stale = match container.load() {
                Ok(state) => {
                    let stale = state.abandoned();
                    cgroup = state.cgroup;
                    stale
                }
                // The launcher was killed before it wrote the file; a new one holds the lock. A
                // directory with anything else in it was never a container's.
                Err(StateError::File { source, .. }) => {
                    source.kind() == io::ErrorKind::NotFound && container.ours().is_ok()
                }
                Err(_) => false,
            };
            if stale {
                tracing::info!("removing what is left of container {id}");
                crate::cgroup::remove(&cgroup);
                if let Err(e) = container.remove() {
                    tracing::warn!("{e}");
                }
            }
        }
    }
}

impl ContainerDir {
    /// The container's id.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// The directory it is in.
    pub(crate) fn root(&self) -> Result<StateRoot, StateError> {
        StateRoot::open(self.path.parent().unwrap_or(&self.path))
    }

    /// Where the directory is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for the lock. Fails when the container was deleted meanwhile.
    pub fn lock(&self) -> Result<Locked, StateError> {
        self.take_lock(FlockArg::LockExclusive)?
            .ok_or_else(|| self.missing())
    }

    fn try_lock(&self) -> Result<Option<Locked>, StateError> {
        self.take_lock(FlockArg::LockExclusiveNonblock)
    }

    fn take_lock(&self, how: FlockArg) -> Result<Option<Locked>, StateError> {
        let file = open_directory(&self.path).map_err(|_| self.missing())?;
        let lock = match Flock::lock(file, how) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, e)) => return Err(self.failed("lock", e.into())),
        };
        // It may be another directory by now, or none.
        let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        match (lock.metadata(), fs::metadata(&self.path)) {
            (Ok(held), Ok(named)) if same(&held, &named) => Ok(Some(Locked(lock))),
            _ => Err(self.missing()),
        }
    }

    /// Reads `state.json`.
    pub fn load(&self) -> Result<State, StateError> {
        let path = self.path.join(STATE_FILE);
        let bytes = fs::read(&path).map_err(|source| StateError::File {
            what: "read",
            path: path.clone(),
            source,
        })?;
        serde_json::from_slice(&bytes).map_err(|source| StateError::Damaged { path, source })
    }

    /// Replaces `state.json`.
    pub fn save(&self, state: &State) -> Result<(), StateError> {
        let path = self.path.join(STATE_FILE);
        let bytes = serde_json::to_vec(state).map_err(|source| StateError::Damaged {
            path: path.clone(),
            source,
        })?;
        write_atomically(&path, &bytes).map_err(|source| StateError::File {
            what: "write",
            path,
            source,
        })
    }

    /// A path for the control socket that fits into a socket address, however long the real one.
    pub fn socket_path(&self) -> PathBuf {
        PathBuf::from(format!(
            "/proc/self/fd/{}/{SOCKET_FILE}",
            self.dir.as_raw_fd()
        ))
    }

    /// The files in the directory, all of them ours.
    fn ours(&self) -> Result<Vec<PathBuf>, StateError> {
        let failed = |source| self.failed("list", source);
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if !is_ours(&name) || entry.file_type().is_ok_and(|t| t.is_dir()) {
                return Err(StateError::Foreign {
                    path: self.path.clone(),
                    name: name.to_string_lossy().escape_debug().to_string(),
                });
            }
            files.push(entry.path());
        }
        Ok(files)
    }

    /// Removes the directory and what we put there; with anything else in it, nothing.
    pub fn remove(&self) -> Result<(), StateError> {
        let gone = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
        let files = match self.ours() {
            Err(StateError::File { source, .. }) if gone(&source) => return Ok(()),
            files => files?,
        };
        for file in files {
            match fs::remove_file(file) {
                Err(e) if !gone(&e) => return Err(self.failed("empty", e)),
                _ => {}
            }
        }
        match fs::remove_dir(&self.path) {
            Err(e) if !gone(&e) => Err(self.failed("remove", e)),
            _ => Ok(()),
        }
    }

    fn failed(&self, what: &'static str, source: io::Error) -> StateError {
        StateError::File {
            what,
            path: self.path.clone(),
            source,
        }
    }

    fn missing(&self) -> StateError {
        let root = self.path.parent().unwrap_or(&self.path).to_owned();
        StateError::Missing {
            id: self.id.clone(),
            root,
        }
    }
}

/// Whether this user, or root, is the owner.
fn check_owner(path: &Path, metadata: &fs::Metadata) -> Result<(), StateError> {
    let own = nix::unistd::geteuid().as_raw();
    if metadata.uid() == own || metadata.uid() == 0 {
        return Ok(());
    }
    Err(StateError::Unsafe {
        path: path.to_owned(),
        problem: format!("it belongs to user {}, not {own}", metadata.uid()),
    })
}

/// Whether a file of a container's directory has one of the names that are given here: the
/// socket, the state, or a state that was cut short in being written.
fn is_ours(name: &std::ffi::OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    let rest = name.strip_prefix(STATE_FILE);
    let cut_short = |rest: &str| {
        rest.strip_prefix('.')
            .is_some_and(|n| n.parse::<u32>().is_ok())
    };
    name == SOCKET_FILE || rest.is_some_and(|rest| rest.is_empty() || cut_short(rest))
}

fn open_directory(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(path)
}

/// Writes beside the file and renames: readers see the old or the new, whole. What has the name
/// beforehand, a link perhaps, is replaced and never written through.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(name);
    let create = || {
        File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
    };
    let mut file = match create() {
        // Of a process that had our number and was killed.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(&temporary)?;
            create()
        }
        file => file,
    }?;
    let written = file
        .write_all(bytes)
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _gone = fs::remove_file(&temporary);
    }
    written
}

/// Now, since 1970.
pub fn now() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// RFC 3339, in UTC, as OCI tools print times.
pub fn rfc3339(time: Duration) -> String {
    let (days, second) = (time.as_secs() / 86_400, time.as_secs() % 86_400);
    // Days to civil date: eras of 400 years that begin on 1 March.
    let shifted = days + 719_468;
    let era_day = shifted % 146_097;
    let era_year = (era_day - era_day / 1_460 + era_day / 36_524 - era_day / 146_096) / 365;
    let year_day = era_day - (365 * era_year + era_year / 4 - era_year / 100);
    let shifted_month = (5 * year_day + 2) / 153;
    let day = year_day - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era_year + shifted / 146_097 * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        time.subsec_nanos()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(id: &str) -> State {
        State {
            id: id.to_owned(),
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            phase: Phase::Creating,
            created: now(),
            owner: 0,
            attached: false,
            launcher: ProcessId::own(),
            sandbox: None,
            joined: None,
            gofer: None,
            cgroup: Vec::new(),
            resources: Default::default(),
            platform: "p".into(),
            annotations: BTreeMap::new(),
            start_container: Vec::new(),
            poststart: Vec::new(),
            poststop: Vec::new(),
            process: Default::default(),
        }
    }

    fn root() -> (tempfile::TempDir, StateRoot) {
        let dir = tempfile::tempdir().unwrap();
        let root = StateRoot::open(&dir.path().join("state")).unwrap();
        (dir, root)
    }

    #[test]
    fn an_id_is_taken_once_and_its_directory_is_private() {
        let (_dir, root) = root();
        let id = ContainerId::new("a").unwrap();
        let container = root.create(&id).unwrap();
        assert!(matches!(root.create(&id), Err(StateError::Exists(_))));
        assert_eq!(
            fs::metadata(container.path()).unwrap().mode() & 0o777,
            0o700
        );
        container.remove().unwrap();
        assert!(matches!(
            root.open_container(&id),
            Err(StateError::Missing { .. })
        ));
        assert!(matches!(container.lock(), Err(StateError::Missing { .. })));
    }

    #[test]
    fn a_reader_never_sees_half_a_state() {
        let (_dir, root) = root();
        let container = root.create(&ContainerId::new("a").unwrap()).unwrap();
        let mut state = sample("a");
        container.save(&state).unwrap();
        std::thread::scope(|s| {
            s.spawn(|| {
                for n in 0..200 {
                    state.platform = "x".repeat(n * 50);
                    container.save(&state).unwrap();
                }
            });
            for _ in 0..200 {
                container.load().unwrap();
            }
        });
        assert_eq!(fs::read_dir(container.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_lock_is_exclusive() {
        let (_dir, root) = root();
        let container = root.create(&ContainerId::new("a").unwrap()).unwrap();
        let held = container.lock().unwrap();
        assert!(container.try_lock().unwrap().is_none());
        drop(held);
        assert!(container.try_lock().unwrap().is_some());
    }

    #[test]
    fn only_abandoned_containers_are_collected() {
        let (_dir, root) = root();
        let dead = Some(ProcessId {
            pid: 1,
            started: u64::MAX,
        });
        let put = |id: &str, change: fn(&mut State)| {
            let container = root.create(&ContainerId::new(id).unwrap()).unwrap();
            let mut state = sample(id);
            change(&mut state);
            state.sandbox = dead;
            container.save(&state).unwrap();
        };
        put("creating", |_| {});
        put("killed-while-creating", |s| s.launcher = None);
        put("stopped", |s| {
            s.launcher = None;
            s.phase = Phase::Running;
        });
        put("attached", |s| {
            s.launcher = None;
            s.phase = Phase::Running;
            s.attached = true;
        });
        root.create(&ContainerId::new("empty").unwrap()).unwrap();
        root.collect();
        let ids: Vec<String> = root
            .ids()
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(ids, ["creating", "stopped"]);
    }

    #[test]
    fn what_is_not_ours_is_never_removed() {
        let (dir, root) = root();
        // As if somebody had named a directory of his own with --root.
        for path in ["state/home/letters", "state/bin", "state/etc"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        fs::write(dir.path().join("state/etc/passwd"), "root").unwrap();
        fs::write(dir.path().join("state/bin/state.json.sh"), "").unwrap();
        root.collect();
        for path in ["home/letters", "bin/state.json.sh", "etc/passwd"] {
            assert!(root.path().join(path).exists(), "{path}");
        }
        let etc = root.open_container(&ContainerId::new("etc").unwrap());
        let error = etc.unwrap().remove().unwrap_err();
        assert!(matches!(error, StateError::Foreign { name, .. } if name == "passwd"));
        // What was cut short is.
        let cut = root.create(&ContainerId::new("cut").unwrap()).unwrap();
        fs::write(cut.path().join("state.json.4711"), "{").unwrap();
        root.collect();
        assert!(!cut.path().exists());
    }

    #[test]
    fn a_root_that_others_can_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        let error = StateRoot::open(&open).unwrap_err().to_string();
        assert!(
            error.contains("0777") && error.contains("--root"),
            "{error}"
        );
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root can make another user's directory");
            return;
        }
        let other = dir.path().join("other");
        fs::create_dir(&other).unwrap();
        std::os::unix::fs::chown(&other, Some(1234), Some(1234)).unwrap();
        let error = StateRoot::open(&other).unwrap_err().to_string();
        assert!(error.contains("user 1234"), "{error}");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert!(StateRoot::open(&link).is_ok());
        std::os::unix::fs::lchown(&link, Some(1234), Some(1234)).unwrap();
        assert!(StateRoot::open(&link).is_err());
    }

    #[test]
    fn a_link_in_the_way_is_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, file) = (dir.path().join("victim"), dir.path().join("pid"));
        fs::write(&victim, "dear").unwrap();
        let temporary = dir.path().join(format!("pid.{}", std::process::id()));
        std::os::unix::fs::symlink(&victim, &temporary).unwrap();
        std::os::unix::fs::symlink(&victim, &file).unwrap();
        write_atomically(&file, b"12").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"dear");
        assert_eq!(fs::read(&file).unwrap(), b"12");
        assert!(!file.is_symlink() && !temporary.is_symlink());
    }

    #[test]
    fn times_are_calendar_dates() {
        assert_eq!(rfc3339(Duration::ZERO), "1970-01-01T00:00:00.000000000Z");
        let leap = Duration::new(1_709_210_096, 5);
        assert_eq!(rfc3339(leap), "2024-02-29T12:34:56.000000005Z");
        assert_eq!(
            rfc3339(Duration::from_secs(1_735_689_599)),
            "2024-12-31T23:59:59.000000000Z"
        );
    }
}
