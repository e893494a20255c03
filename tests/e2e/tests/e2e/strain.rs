//! Hosts in want of something, and many containers.

use crate::case::{Result, cases, ensure, equal, exited, refused, said};
use crate::place::{Background, Place, need, need_root};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use test_support::bundle::Runtime;
use test_support::run::{self, Outcome};

cases!("strain":
    a_read_only_state_directory,
    a_full_disk_below_the_state,
    fifty_are_created_at_once,
    many_in_a_row_leave_no_trace,
);

/// A small tmpfs in a mount namespace of its own, where no other test sees it. It goes with the
/// process that holds the namespace.
struct Disk {
    holder: Background,
    runtime: Runtime,
    nsenter: PathBuf,
}

impl Disk {
    fn new(place: &Place<'_>, options: &str) -> Result<Disk> {
        need_root()?;
        let nsenter = need("nsenter")?;
        let dir = place.dir.join("disk");
        std::fs::create_dir(&dir)?;
        let mut command = Command::new(need("unshare")?);
        let script = "mount -t tmpfs -o \"$1\" none \"$0\" && echo up && exec sleep 1000";
        command.args(["--mount", "sh", "-c", script]);
        command.arg(&dir).arg(options);
        let mut holder = place.spawn(&mut command)?;
        holder.wait_for("up")?;
        let state = dir.join("state");
        let runtime = Runtime {
            state,
            ..place.runtime.clone()
        };
        Ok(Disk {
            holder,
            runtime,
            nsenter,
        })
    }

    /// A program that sees it.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(&self.nsenter);
        let holder = self.holder.pid().to_string();
        command.args(["--mount", "--target", &holder]).arg(program);
        command
    }

    /// The runtime, with its state there.
    fn ringfence(&self, place: &Place<'_>, args: &[&str]) -> Outcome {
        let line = self.runtime.command();
        let mut command = self.command(line.get_program());
        place.finish(command.args(line.get_args()).args(args))
    }

    fn shell(&self, place: &Place<'_>, script: &str) -> Outcome {
        let mut command = self.command("sh");
        let dir = place.dir.join("disk");
        place.finish(command.arg("-c").arg(script).arg(dir))
    }
}

fn a_read_only_state_directory(place: &Place<'_>) -> Result {
    let disk = Disk::new(place, "size=1m,mode=755")?;
    let dir = place.shell("exec sleep 1000", |_| {})?;
    let bundle = dir.to_string_lossy().into_owned();
    let ringfence = |args: &[&str]| disk.ringfence(place, args);
    exited(&ringfence(&["run", "--detach", "-b", &bundle, "c"]), 0)?;
    exited(&disk.shell(place, "mount -o remount,ro \"$0\""), 0)?;
    let state = disk.runtime.state.to_string_lossy().into_owned();
    for line in [
        &["create", "-b", &bundle, "d"] as &[&str],
        &["run", "-b", &bundle, "d"],
    ] {
        refused(&ringfence(line), 128, &[&state, "ead-only"])?;
    }
    // What only looks works, and what must write says why not, and does not do half of it.
    let outcome = ringfence(&["state", "c"]);
    exited(&outcome, 0)?;
    ensure(outcome.out().contains("running"), || outcome.out())?;
    refused(&ringfence(&["pause", "c"]), 128, &["ead-only"])?;
    said(&ringfence(&["exec", "c", "echo", "on"]), 0, "on\n")?;
    exited(&disk.shell(place, "mount -o remount,rw \"$0\""), 0)?;
    exited(&ringfence(&["delete", "--force", "c"]), 0)?;
    drop(disk);
    place.nothing_left()
}

fn a_full_disk_below_the_state(place: &Place<'_>) -> Result {
    let disk = Disk::new(place, "size=64k,mode=755")?;
    let dir = place.shell("exec sleep 1000", |_| {})?;
    let bundle = dir.to_string_lossy().into_owned();
    let ringfence = |args: &[&str]| disk.ringfence(place, args);
    exited(&ringfence(&["run", "--detach", "-b", &bundle, "c"]), 0)?;
    exited(&disk.shell(place, "! yes > \"$0/filler\""), 0)?;
    for line in [
        &["create", "-b", &bundle, "d"] as &[&str],
        &["run", "-b", &bundle, "d"],
        &["run", "--detach", "-b", &bundle, "d"],
    ] {
        refused(&ringfence(line), 128, &["No space left"])?;
        exited(&disk.shell(place, "! test -e \"$0/state/d\""), 0)?;
    }
    said(&ringfence(&["list", "-q"]), 0, "c\n")?;
    refused(&ringfence(&["pause", "c"]), 128, &["No space left"])?;
    said(&ringfence(&["exec", "c", "echo", "on"]), 0, "on\n")?;
    exited(&ringfence(&["delete", "--force", "c"]), 0)?;
    drop(disk);
    place.nothing_left()
}

fn fifty_are_created_at_once(place: &Place<'_>) -> Result {
    let dir = place.shell("exit 0", |c| {
        c["root"]["readonly"] = true.into();
    })?;
    let ids: Vec<String> = (0..50).map(|n| format!("c{n}")).collect();
    let spawn = |args: &[&str], id: &str| -> Result<std::process::Child> {
        let mut command = place.runtime.command();
        command.args(args).arg(id).stdin(Stdio::null());
        Ok(command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?)
    };
    let all = |args: &[&str]| -> Result {
        let mut children = Vec::new();
        for id in &ids {
            children.push((id, spawn(args, id)?));
        }
        for (id, mut child) in children {
            let end = run::finish(&mut child, crate::place::PATIENCE);
            equal(&format!("{args:?} {id}"), &end, &"exit 0".to_owned())?;
        }
        Ok(())
    };
    let bundle = dir.to_string_lossy().into_owned();
    all(&["create", "-b", &bundle])?;
    let listed = place.ringfence(&["list", "-q"]);
    equal("containers", &listed.out().lines().count(), &ids.len())?;
    for id in &ids {
        equal("status", &place.status(id)?, &"created".to_owned())?;
    }
    // The same id twice at once is one container.
    let twice: Vec<_> = (0..4)
        .map(|_| spawn(&["create", "-b", &bundle], "same"))
        .collect::<Result<_>>()?;
    let made = twice
        .into_iter()
        .map(|mut child| run::finish(&mut child, crate::place::PATIENCE))
        .filter(|end| end == "exit 0");
    equal("containers of one id", &made.count(), &1)?;
    exited(&place.ringfence(&["delete", "--force", "same"]), 0)?;
    all(&["delete", "--force"])?;
    place.nothing_left()
}

/// How many the tests start by default, and the name of a variable that says another number.
const IN_A_ROW: usize = 60;
const COUNT: &str = "RINGFENCE_TEST_IN_A_ROW";

/// How many files there are below a directory.
fn files(dir: &Path) -> Result<usize> {
    let found = Command::new("find").arg(dir).output()?.stdout;
    Ok(found.iter().filter(|b| **b == b'\n').count())
}

/// What there is of this test's: others of this machine mount things meanwhile.
fn ours(place: &Place<'_>) -> Vec<String> {
    let dir = place.dir.to_string_lossy();
    let is = |l: &&str| !l.starts_with("mount ") || l.contains(&*dir);
    let left = place.left();
    left.lines().filter(is).map(str::to_owned).collect()
}

/// A neighbour runs all the while, in which nothing may gather either.
fn many_in_a_row_leave_no_trace(place: &Place<'_>) -> Result {
    let count = std::env::var(COUNT).ok().and_then(|n| n.parse().ok());
    place.started("exec sleep 1000")?;
    let dir = place.dir.join("bundle");
    let bundle = dir.to_string_lossy().into_owned();
    let sandbox = place.pid("c", "sandbox")?;
    let descriptors = |pid: nix::unistd::Pid| -> Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
    };
    let threads =
        || -> Result<usize> { Ok(std::fs::read_dir(format!("/proc/{sandbox}/task"))?.count()) };
    let once = || -> Result {
        exited(&place.ringfence(&["create", "-b", &bundle, "d"]), 0)?;
        exited(&place.ringfence(&["start", "d"]), 0)?;
        // In the neighbour, connections, a process and its descriptors come and go.
        exited(&place.ringfence(&["exec", "c", "true"]), 0)?;
        exited(&place.ringfence(&["delete", "--force", "d"]), 0)
    };
    let gofer = place.pid("c", "gofer")?;
    // Pools and caches fill once.
    for _ in 0..5 {
        once()?;
    }
    let before = (files(&place.dir)?, ours(place));
    let settled = (descriptors(sandbox)?, descriptors(gofer)?, threads()?);
    for _ in 0..count.unwrap_or(IN_A_ROW) {
        once()?;
    }
    equal("what is left", &(files(&place.dir)?, ours(place)), &before)?;
    // The last connection's thread may be about to end.
    crate::place::eventually("as many descriptors and threads as before", || {
        Ok(descriptors(sandbox)? <= settled.0
            && descriptors(gofer)? <= settled.1
            && threads()? <= settled.2)
    })?;
    place.gone()
}
