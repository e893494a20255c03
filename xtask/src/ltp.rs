//! `cargo xtask ltp`: the Linux Test Project's list of system calls, run on this
//! machine's kernel and in the sandbox. docs/ltp.md says how the tree is made.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use test_support::bundle::{Bundle, Runtime};
use test_support::native::Chroot;
use test_support::{build, is_root, run};

/// Run the Linux Test Project's system call tests natively and sandboxed, and compare
#[derive(Debug, clap::Args)]
pub(crate) struct Ltp {
    /// A tree with the tests installed under /opt/ltp
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Where outputs and results go; native results that are there are kept
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How guest code is run
    #[arg(long, default_value = "ptrace")]
    platform: String,
    /// Tests at a time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Only these tests; all without
    tests: Vec<String>,
}

/// What a test may take, on either side.
const LIMIT: Duration = Duration::from_secs(30);
/// Tests that set the machine's clock. They are not run natively, and counted
/// as if they passed there.
const SET_THE_CLOCK: &[&str] = &[
    "adjtimex0",
    "clock_adjtime0",
    "clock_settime0",
    "leapsec",
    "settimeofday0",
    "stime0",
];
/// What the native side has that a container has not: devices for the tests
/// that want a disk.
const DEVICES: &str = "mount -t sysfs sysfs /sys; \
    mknod /dev/loop-control c 10 237; \
    for i in 0 1 2 3 4 5 6 7; do mknod /dev/loop$i b 7 $i; done; ";

/// One side's answers: what a test ended with, by its name.
type Results = BTreeMap<String, String>;

impl Ltp {
    pub(crate) fn run(self) -> Result<()> {
        if !is_root() {
            bail!("both sides need root, for namespaces and ids");
        }
        let list = self.list()?;
        let runtime = Runtime {
            program: build::runtime()?,
            state: self.out.join("state"),
            platform: self.platform.clone(),
            debug_log: None,
        };
        let native = self.side("native", &list, |name, command| {
            if SET_THE_CLOCK.iter().any(|prefix| name.starts_with(prefix)) {
                return Ok(None);
            }
            let script = format!("{DEVICES}{}", script(command));
            Ok(Some(
                Chroot::new(&self.root).command(&["/bin/sh", "-c", &script]),
            ))
        })?;
        let sandbox = self.side(&self.platform, &list, |name, command| {
            let dir = self.out.join("bundles").join(name);
            let mut bundle = Bundle::new(&dir, &self.root, &["/bin/sh", "-c", &script(command)]);
            if let Some(mounts) = bundle.config["mounts"].as_array_mut() {
                mounts.push(serde_json::json!(
                    {"destination": "/sys", "type": "sysfs", "source": "sysfs"}
                ));
            }
            bundle.write()?;
            let mut command = runtime.command();
            command
                .args(["--overlay", "memory", "run", "--bundle"])
                .arg(&dir)
                .arg(format!("ltp-{}-{name}", std::process::id()));
            Ok(Some(command))
        })?;
        let _none_was_made = fs::remove_dir_all(self.out.join("bundles"));
        report(&native, &sandbox);
        Ok(())
    }

    /// The list that LTP installs: a name and a command a line.
    fn list(&self) -> Result<Vec<(String, String)>> {
        let file = self.root.join("opt/ltp/runtest/syscalls");
        let text =
            fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        Ok(text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(char::is_whitespace))
            .map(|(name, command)| (name.to_owned(), command.trim().to_owned()))
            .filter(|(name, _)| self.tests.is_empty() || self.tests.contains(name))
            .collect())
    }

    /// Runs what `list` names on one side, and keeps the answers in a file.
    fn side(
        &self,
        side: &str,
        list: &[(String, String)],
        command: impl Fn(&str, &str) -> Result<Option<Command>> + Sync,
    ) -> Result<Results> {
        let dir = self.out.join(side);
        fs::create_dir_all(&dir)?;
        let file = self.out.join(format!("{side}.tsv"));
        let mut results = read_results(&file);
        if side != "native" {
            results.retain(|name, _| !list.iter().any(|(n, _)| n == name));
        }
        let (next, results) = (Mutex::new(list.iter()), Mutex::new(results));
        thread::scope(|scope| {
            let one_of_the_jobs = || -> Result<()> {
                while let Some((name, line)) = lock(&next).next() {
                    if lock(&results).contains_key(name) {
                        continue;
                    }
                    let ended = match command(name, line)? {
                        Some(command) => one(command, &dir.join(name))?,
                        None => "exit 0".into(),
                    };
                    println!("{side}\t{name}\t{ended}");
                    let mut results = lock(&results);
                    results.insert(name.clone(), ended);
                    write_results(&file, &results)?;
                }
                Ok(())
            };
            let jobs: Vec<_> = (0..self.jobs)
                .map(|_| scope.spawn(one_of_the_jobs))
                .collect();
            jobs.into_iter().try_for_each(|job| match job.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })?;
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(results
            .into_iter()
            .filter(|(name, _)| list.iter().any(|(n, _)| n == name))
            .collect())
    }
}

/// What a shell does to run one test.
fn script(command: &str) -> String {
    format!(
        "export LTPROOT=/opt/ltp PATH=$PATH:/opt/ltp/testcases/bin TMPDIR=/tmp \
         KCONFIG_SKIP_CHECK=1; cd /tmp && exec </dev/null && {command}"
    )
}

/// Runs one test, with what it writes in `log`.
fn one(mut command: Command, log: &Path) -> Result<String> {
    let file = fs::File::create(log).with_context(|| format!("creating {}", log.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("starting {command:?}"))?;
    Ok(run::finish(&mut child, LIMIT))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_results(file: &Path) -> Results {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(name, ended)| (name.to_owned(), ended.to_owned()))
        .collect()
}

fn write_results(file: &Path, results: &Results) -> Result<()> {
    let text: String = results
        .iter()
        .map(|(name, ended)| format!("{name}\t{ended}\n"))
        .collect();
    fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}

/// How an end is called in the summary: LTP's words for its exit statuses.
fn word(ended: &str) -> &str {
    match ended {
        "exit 0" => "pass",
        "exit 2" => "broken",
        "exit 4" => "warned",
        "exit 32" => "not configured",
        // The runtime's own: a panic, a failure to start, a kill by its filter.
        "exit 70" | "exit 128" | "exit 159" => "sandbox died",
        other if other.starts_with("exit ") => "fail",
        other => other,
    }
}

fn report(native: &Results, sandbox: &Results) {
    let passed: Vec<&String> = native
        .iter()
        .filter(|(_, ended)| word(ended) == "pass")
        .map(|(name, _)| name)
        .collect();
    let mut by_word: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in &passed {
        let ended = sandbox.get(*name).map_or("not run", |ended| word(ended));
        by_word.entry(ended).or_default().push(name);
    }
    println!(
        "\n{} tests, {} pass natively; of these:",
        native.len(),
        passed.len()
    );
    for (ended, names) in &by_word {
        println!("{:5} {ended}", names.len());
    }
    for (ended, names) in by_word.iter().filter(|(ended, _)| **ended != "pass") {
        println!("\n{ended}:\n{}", names.join(" "));
    }
}
