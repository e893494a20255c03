//! The sandbox process, its stubs and the gofer: what they are, hold and see.

use crate::world::{World, status_in, threads};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// `CAP_CHOWN`, `CAP_DAC_OVERRIDE`, `CAP_FOWNER`, `CAP_FSETID`.
const GOFER: u64 = 0b11011;
const NOBODY: &str = "65534\t65534\t65534\t65534";

pub(crate) fn every_thread_has_nothing(world: &World) -> Result<()> {
    let running = world.start("c", &[], |_| {})?;
    let stubs = running.stubs()?;
    ensure!(
        stubs.is_empty() == (world.runtime.platform != "ptrace"),
        "stubs are ptrace's: {stubs:?}"
    );
    for pid in running.all()? {
        let gofer = pid == running.gofer;
        for thread in threads(pid)? {
            let name = fs::read_to_string(thread.join("comm")).unwrap_or_default();
            if world.runtime.platform == "kvm" && name.trim() == "kvm-nx-lpage-re" {
                // The host kernel's own worker for a virtual machine: it runs no user code.
                continue;
            }
            let is = |field: &str| {
                let value = status_in(&thread, field);
                value.with_context(|| format!("{} has no {field}", thread.display()))
            };
            let must = |field: &str, expected: &str| -> Result<()> {
                let value = is(field)?;
                let comm = fs::read_to_string(thread.join("comm")).unwrap_or_default();
                let comm = comm.trim();
                ensure!(
                    value == expected,
                    "{} ({comm}): {field} is {value:?}",
                    thread.display()
                );
                Ok(())
            };
            must("NoNewPrivs", "1")?;
            must("Seccomp", "2")?;
            let hex = |bits: u64| format!("{bits:016x}");
            for set in ["CapInh", "CapAmb"] {
                must(set, &hex(0))?;
            }
            for set in ["CapPrm", "CapEff", "CapBnd"] {
                must(set, &hex(if gofer { GOFER } else { 0 }))?;
            }
            must("Groups", "")?;
            if !gofer {
                must("Uid", NOBODY)?;
                must("Gid", NOBODY)?;
            }
        }
    }
    // What is not dumpable belongs to root in /proc, whoever runs it.
    for pid in [running.sandbox, running.gofer] {
        let owner = fs::metadata(format!("/proc/{pid}/environ"))?.uid();
        ensure!(owner == 0, "process {pid} is dumpable");
    }
    Ok(())
}

pub(crate) fn namespaces_root_and_environment(world: &World) -> Result<()> {
    let running = world.start("c", &[], |_| {})?;
    for pid in running.all()? {
        let gofer = pid == running.gofer;
        let kinds: &[&str] = match gofer {
            true => &["mnt", "ipc", "uts", "pid"],
            false => &["user", "mnt", "ipc", "uts", "net", "pid"],
        };
        for kind in kinds {
            let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}"));
            ensure!(
                of(&pid.to_string())? != of("self")?,
                "process {pid} is in our {kind} namespace"
            );
        }
        let root = format!("/proc/{pid}/root");
        ensure!(
            fs::read_dir(&root)?.next().is_none(),
            "the root of process {pid} is not empty"
        );
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
        ensure!(
            mounts.lines().count() == 1,
            "process {pid} sees mounts: {mounts}"
        );
        let options = mounts.split_whitespace().nth(5).unwrap_or_default();
        for option in ["ro", "nosuid", "nodev", "noexec"] {
            let has = options.split(',').any(|o| o == option);
            ensure!(has, "the root of process {pid} is not {option}: {options}");
        }
        let environment = fs::read(format!("/proc/{pid}/environ"))?;
        ensure!(environment.is_empty(), "process {pid} has an environment");
    }
    // Nothing in a sandbox's own network namespace, and nothing up.
    let links = fs::read_to_string(format!("/proc/{}/net/dev", running.sandbox))?;
    let names: Vec<&str> = links
        .lines()
        .skip(2)
        .filter_map(|l| l.split(':').next())
        .collect();
    ensure!(names.iter().all(|n| n.trim() == "lo"), "links: {names:?}");
    Ok(())
}

/// What a descriptor may lead to, by the beginning of its name.
fn accounted(target: &str, rootfs: &str, gofer: bool) -> bool {
    let both = ["/dev/null", "socket:[", "pipe:["];
    let sentry = [
        "anon_inode:[eventfd]",
        "anon_inode:[eventpoll]",
        "anon_inode:[signalfd]",
        "/memfd:",
    ];
    let own = match gofer {
        // Detached mounts have no path but their own.
        true => target == "/" || target.starts_with('/') && !target.starts_with("/dev/"),
        false => sentry.iter().any(|s| target.starts_with(s)) || target.starts_with(rootfs),
    };
    own || both.iter().any(|s| target.starts_with(s))
}

pub(crate) fn each_descriptor_is_accounted_for(world: &World) -> Result<()> {
    let running = world.start("c", &[], |_| {})?;
    // Of a detached mount the kernel shows the path below its root.
    let said = world.dir.path().join("said");
    let rootfs = world.rootfs.to_string_lossy();
    let mut bad = Vec::new();
    for pid in running.all()? {
        let gofer = pid == running.gofer;
        for fd in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
            let target = fs::read_link(fd.path())?;
            let target = target.to_string_lossy();
            let stdio = target == said.to_string_lossy();
            let below_root = !gofer
                && [&world.rootfs, &world.shared()]
                    .iter()
                    .any(|tree| is_file_of(&fd.path(), tree));
            // The donated device and what was made of it.
            let machine = !gofer
                && world.runtime.platform == "kvm"
                && (target == "/dev/kvm" || target.starts_with("anon_inode:kvm-v"));
            if !stdio && !below_root && !machine && !accounted(&target, &rootfs, gofer) {
                bad.push(format!(
                    "{pid}{} {} -> {target}",
                    if gofer { " (gofer)" } else { "" },
                    fd.path().display()
                ));
            }
            if !gofer && fs::metadata(fd.path()).is_ok_and(|m| m.is_dir()) {
                bad.push(format!("{pid} holds a directory: {target}"));
            }
        }
    }
    if bad.is_empty() {
        Ok(())
    } else {
        bail!("{}", bad.join("\n"))
    }
}

/// Whether a descriptor is of a file on the tree's own file system that lies in the tree.
fn is_file_of(fd: &Path, rootfs: &Path) -> bool {
    let Ok(target) = fs::read_link(fd) else {
        return false;
    };
    let inside = rootfs.join(target.strip_prefix("/").unwrap_or(&target));
    let same = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    match (fs::metadata(fd), fs::metadata(inside)) {
        (Ok(a), Ok(b)) => same(a, b),
        _ => false,
    }
}

pub(crate) fn nothing_writable_is_executable(world: &World) -> Result<()> {
    let running = world.start("c", &[], |_| {})?;
    for pid in [running.sandbox, running.gofer] {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        for line in maps.lines() {
            let access = line.split_whitespace().nth(1).unwrap_or_default();
            ensure!(
                !access.starts_with("rwx") && !access.starts_with("-wx"),
                "{pid}: {line}"
            );
        }
    }
    // A stub may not write to the pages that it shares with the sandbox process.
    for pid in running.stubs()? {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        for line in maps.lines().filter(|l| l.contains("memfd:ringfence-batch")) {
            ensure!(line.contains(" r--s "), "{pid}: {line}");
        }
    }
    Ok(())
}
