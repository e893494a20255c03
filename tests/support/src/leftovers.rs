//! What a sandbox may leave behind on its host: processes, mounts, files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Which platform was chosen on this host. It stays in the state directory on purpose.
const CHOICE: &str = ".platform.json";

/// What there was at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    processes: BTreeSet<String>,
    mounts: BTreeSet<String>,
    files: BTreeSet<PathBuf>,
    program: PathBuf,
    state: PathBuf,
}

impl Snapshot {
    /// Looks at the processes that run `program`, the mounts of this namespace,
    /// and the files below `state`.
    pub fn take(program: &Path, state: &Path) -> Self {
        let program = program
            .canonicalize()
            .unwrap_or_else(|_| program.to_owned());
        Self {
            processes: processes_of(&program),
            mounts: mounts(),
            files: files_below(state),
            program,
            state: state.to_owned(),
        }
    }

    /// What is there now and was not then, one a line; empty when all is gone.
    /// Processes that are just ending get `patience`.
    pub fn left(&self, patience: Duration) -> String {
        let end = Instant::now() + patience;
        loop {
            let now = Self::take(&self.program, &self.state);
            let mut text = String::new();
            for process in now.processes.difference(&self.processes) {
                text += &format!("process {process}\n");
            }
            for mount in now.mounts.difference(&self.mounts) {
                text += &format!("mount {mount}\n");
            }
            for file in now.files.difference(&self.files) {
                text += &format!("file {}\n", file.display());
            }
            if text.is_empty() || Instant::now() >= end {
                return text;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The ids and names of the processes whose executable is `program`: the
/// launcher, the sandbox process and its stubs, the gofer. Others may run the
/// same binary by another path meanwhile, and are not meant.
fn processes_of(program: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        let exe = std::fs::read_link(entry.path().join("exe"));
        let comm = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let ours = exe.is_ok_and(|e| {
            e.to_string_lossy().trim_end_matches(" (deleted)") == program.to_string_lossy()
        });
        if ours {
            found.insert(format!("{name} {}", comm.trim()));
        }
    }
    found
}

fn mounts() -> BTreeSet<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines()
        .map(|l| l.split(' ').skip(3).take(2).collect::<Vec<_>>().join(" "))
        .collect()
}

fn files_below(dir: &Path) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_name() == CHOICE {
                continue;
            }
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                open.push(entry.path());
            }
            all.insert(entry.path());
        }
    }
    all
}
