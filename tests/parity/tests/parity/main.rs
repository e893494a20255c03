//! Runs every case natively and under each platform and compares the bytes.
//!
//! `cargo test -p parity-tests -- FAMILY` or `-- CASE` runs a part;
//! `RINGFENCE_TEST_LOG=DIR` keeps the runtime's logs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use test_support::bundle::{Bundle, Runtime};
use test_support::native::Chroot;
use test_support::report::{Report, difference};
use test_support::{build, is_root, rootfs, run};

mod known;

/// A case says something at least this often; each is killed after thirty seconds.
const SILENCE: Duration = Duration::from_secs(60);
/// After so many ends of the sandbox within one family, the rest of it fails.
const RESTARTS: usize = 12;
/// How many differing cases of a family are given a second try by themselves.
const SECOND_TRIES: usize = 15;

/// A family's name and the directory its cases work in.
type Suite = (String, &'static str);

fn main() -> ExitCode {
    test_support::as_from_a_shell();
    let mut wanted: Vec<String> = std::env::args().skip(1).collect();
    if wanted.iter().any(|a| a == "--list") {
        return ExitCode::SUCCESS;
    }
    wanted.retain(|a| !a.starts_with('-'));
    let mut report = Report::default();
    if !is_root() {
        report.skip("parity", "both sides need root, for namespaces and ids");
        return report.close("parity");
    }
    match prepare() {
        Ok(parity) => parity.run_all(&wanted, &mut report),
        Err(error) => report.fail("parity", &format!("{error:#}")),
    }
    report.close("parity")
}

struct Parity {
    dir: tempfile::TempDir,
    runtime: PathBuf,
    suites: Vec<(Suite, Vec<String>)>,
}

fn prepare() -> anyhow::Result<Parity> {
    let probes = build::static_program("parity-tests", "probes")?;
    let dir = tempfile::Builder::new()
        .prefix("ringfence-parity.")
        // Where files are on a disk: those of a tmpfs have seals, which does not come through.
        .tempdir_in("/var/tmp")?;
    rootfs::bare(&dir.path().join("root"), &[&probes])?;
    let list = run::run_plain(std::process::Command::new(&probes).arg("--list"));
    let mut families: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut order = Vec::new();
    for line in list.out().lines() {
        if let Some((family, case)) = line.split_once(' ') {
            if !order.iter().any(|f| f == family) {
                order.push(family.to_owned());
            }
            families
                .entry(family.to_owned())
                .or_default()
                .push(case.to_owned());
        }
    }
    let mut suites = Vec::new();
    for family in order {
        let cases = families.remove(&family).unwrap_or_default();
        if ["files", "memory", "inotify"].contains(&family.as_str()) {
            // Through the gofer too, on the files of the container itself.
            suites.push(((family.clone(), "/data"), cases.clone()));
        }
        suites.push(((family, "/tmp"), cases));
    }
    let only_native = build::platforms().iter().all(|p| p == "native");
    let runtime = if only_native {
        PathBuf::new()
    } else {
        build::runtime()?
    };
    Ok(Parity {
        dir,
        runtime,
        suites,
    })
}

/// Why core files on this host are not those of a kernel that was left as it is.
fn no_core_files() -> Option<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    for (path, want) in [
        ("/proc/sys/kernel/core_pattern", "core"),
        ("/proc/sys/kernel/core_uses_pid", "0"),
    ] {
        let is = read(path);
        if is.trim() != want {
            return Some(format!("{path} says {:?}, not {want:?}", is.trim()));
        }
    }
    let limits = read("/proc/self/limits");
    let core = limits.lines().find(|l| l.starts_with("Max core file size"));
    let hard = core.and_then(|l| l.split_whitespace().nth(5));
    (hard != Some("unlimited")).then(|| format!("RLIMIT_CORE cannot be raised: {core:?}"))
}

/// What a case said, with how it ended; or that it never came to its end.
type Said = BTreeMap<String, String>;

impl Parity {
    fn run_all(&self, wanted: &[String], report: &mut Report) {
        let native = Side::Native(Chroot::new(&self.dir.path().join("root")));
        for ((family, dir), cases) in &self.suites {
            let chosen: Vec<&String> = cases
                .iter()
                .filter(|c| wanted.is_empty() || wanted.iter().any(|w| w == family || w == *c))
                .collect();
            if chosen.is_empty() {
                continue;
            }
            if family == "cores"
                && let Some(why) = no_core_files()
            {
                report.skip("parity/cores", &why);
                continue;
            }
            let only = if chosen.len() == 1 {
                Some(chosen[0].as_str())
            } else {
                None
            };
            let want = self.say(&native, family, dir, only, chosen.len());
            for platform in build::platforms() {
                let side = self.sandbox(&platform);
                let got = self.say(&side, family, dir, only, chosen.len());
                let tally = Tally {
                    parity: self,
                    family,
                    dir,
                    platform: &platform,
                };
                tally.compare(&chosen, (&native, &want), (&side, &got), report);
            }
        }
    }

    /// `native` compares Linux with itself: a check that the cases are stable.
    fn sandbox(&self, platform: &str) -> Side {
        if platform == "native" {
            return Side::Native(Chroot::new(&self.dir.path().join("root")));
        }
        Side::Sandbox(Runtime {
            program: self.runtime.clone(),
            state: self.dir.path().join("state"),
            platform: platform.to_owned(),
            debug_log: std::env::var_os("RINGFENCE_TEST_LOG").map(Into::into),
        })
    }

    /// Runs a family (or one case of it) to its end, going on after the case
    /// at which a sandbox ended or fell silent.
    fn say(
        &self,
        side: &Side,
        family: &str,
        dir: &str,
        only: Option<&str>,
        expected: usize,
    ) -> Said {
        let mut said = Said::new();
        let mut after: Option<String> = None;
        for _ in 0..=RESTARTS {
            let mut args = vec!["/probes", family, "--dir", dir];
            if let Some(after) = &after {
                args.extend(["--after", after]);
            }
            if let Some(only) = only {
                args.extend(["--only", only]);
            }
            let outcome = side.run(self.dir.path(), &args);
            let last = frames(&outcome.out(), &mut said);
            if said.len() >= expected || outcome.status == "exit 0" {
                break;
            }
            // The case after the last whole one was on when it ended.
            let Some(culprit) = self.next_case(family, last.as_deref().or(after.as_deref()), only)
            else {
                break;
            };
            let text = format!(
                "(no end: {} {})\n{}",
                side.name(),
                outcome.status,
                tail(&outcome.err(), 12)
            );
            said.insert(culprit.clone(), text);
            after = Some(culprit);
        }
        said
    }

    fn next_case(&self, family: &str, last: Option<&str>, only: Option<&str>) -> Option<String> {
        if let Some(only) = only {
            return Some(only.to_owned());
        }
        let (_, cases) = self.suites.iter().find(|((f, _), _)| f == family)?;
        let at = match last {
            Some(last) => cases.iter().position(|c| c == last)? + 1,
            None => 0,
        };
        cases.get(at).cloned()
    }
}

/// One comparison: which family, where, on what.
struct Tally<'a> {
    parity: &'a Parity,
    family: &'a str,
    dir: &'a str,
    platform: &'a str,
}

impl Tally<'_> {
    fn compare(
        &self,
        cases: &[&String],
        native: (&Side, &Said),
        side: (&Side, &Said),
        report: &mut Report,
    ) {
        let missing = "(did not run)".to_owned();
        let (mut passed, mut second, mut known) = (0, 0, 0);
        let mut tries = SECOND_TRIES;
        for case in cases {
            let want = native.1.get(*case).unwrap_or(&missing).clone();
            let got = side.1.get(*case).unwrap_or(&missing).clone();
            let name = format!(
                "parity/{}/{}{}/{case}",
                self.platform, self.family, self.dir
            );
            if let Some(reason) = known::reason(case) {
                if want == got {
                    report.fail(
                        &name,
                        &format!("is equal now: remove it from known.rs ({reason})"),
                    );
                } else {
                    known += 1;
                }
                continue;
            }
            if let Some(why) = known::too_new(case) {
                report.skip(&name, &why);
                continue;
            }
            if want == got && want != missing {
                passed += 1;
                report.pass();
                continue;
            }
            if tries > 0 {
                tries -= 1;
                let one = |s: &Side| self.parity.say(s, self.family, self.dir, Some(case), 1);
                let (again_want, again_got) = (one(native.0), one(side.0));
                if again_want
                    .get(*case)
                    .is_some_and(|w| again_got.get(*case) == Some(w))
                {
                    println!("second try: {name}");
                    passed += 1;
                    second += 1;
                    report.pass();
                    continue;
                }
            }
            report.fail(&name, &difference(&want, &got));
        }
        println!(
            "parity/{}/{}{}: {passed} of {} cases equal ({second} at the second try, {known} known to differ)",
            self.platform,
            self.family,
            self.dir,
            cases.len()
        );
    }
}

/// Where cases run.
enum Side {
    Native(Chroot),
    Sandbox(Runtime),
}

impl Side {
    fn name(&self) -> &str {
        match self {
            Self::Native(_) => "native",
            Self::Sandbox(runtime) => &runtime.platform,
        }
    }

    fn run(&self, dir: &Path, args: &[&str]) -> run::Outcome {
        match self {
            Self::Native(chroot) => run::run(&mut chroot.command(args), b"", SILENCE),
            Self::Sandbox(runtime) => {
                let bundle = Bundle::new(&dir.join("bundle"), &dir.join("root"), args);
                if let Err(error) = bundle.write() {
                    panic!("cannot write the bundle: {error}");
                }
                let outcome = run::run(&mut runtime.run(&bundle.dir, "parity"), b"", SILENCE);
                if outcome.status != "exit 0" {
                    run::run_plain(runtime.command().args(["delete", "--force", "parity"]));
                }
                outcome
            }
        }
    }
}

/// Reads `=== NAME`, lines, `--- STATUS`; gives the name of the last whole one.
fn frames(text: &str, into: &mut Said) -> Option<String> {
    let mut open: Option<(&str, String)> = None;
    let mut last = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("=== ") {
            open = Some((name, String::new()));
        } else if let Some((name, body)) = &mut open {
            body.push_str(line);
            body.push('\n');
            if line.starts_with("--- ") {
                last = Some((*name).to_owned());
                into.insert((*name).to_owned(), std::mem::take(body));
                open = None;
            }
        }
    }
    last
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
