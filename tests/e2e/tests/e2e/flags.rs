//! The options: what runc's callers pass is accepted, and what an option promises is kept.

use crate::case::{Result, cases, ensure, equal, exited, refused, said};
use crate::place::{Place, need, need_device};
use serde_json::{Value, json};
use std::process::Command;
use test_support::run;
use test_support::workspace;

cases!("flags":
    what_callers_of_runc_pass_is_accepted,
    each_is_in_the_docs,
    the_log_has_errors_as_text_or_json,
    debug_logs_are_written,
    calls_are_logged,
    overlays_keep_the_tree_as_it_is,
    what_is_mounted_below_a_bind_mount,
    the_hosts_kernel_below_a_bind_mount_is_not_served,
    descriptors_are_preserved,
    networks_that_are_not_there,
    rootless_by_word,
    a_platform_by_name,
    a_device_that_is_none,
);

fn what_callers_of_runc_pass_is_accepted(place: &Place<'_>) -> Result {
    let dir = place.shell("exit 3", |_| {})?;
    let bundle = dir.to_string_lossy().into_owned();
    let log = place.dir.join("log").to_string_lossy().into_owned();
    for line in [
        "--systemd-cgroup run --no-pivot --no-new-keyring --bundle B c",
        "--log L --log-format json --log-level info --criu /usr/sbin/criu run --bundle B c",
        "--log-level=debug --log L --rootless=auto run -b B --no-subreaper c",
        "--rootless=false --debug --log L run -b B c",
        "--network none --overlay none run -b B c",
        "run --network=none -b B c --systemd-cgroup --log-format text",
    ] {
        let args: Vec<&str> = line
            .split(' ')
            .map(|word| match word {
                "B" => bundle.as_str(),
                "L" => log.as_str(),
                word => word,
            })
            .collect();
        let outcome = place.ringfence(&args);
        said(&outcome, 3, "")?;
        equal("standard error", &outcome.err(), &String::new())?;
    }
    Ok(())
}

/// Those that do nothing, or not what runc does, are explained.
fn each_is_in_the_docs(_: &Place<'_>) -> Result {
    let text = std::fs::read_to_string(workspace().join("docs/command-line.md"))?;
    for flag in [
        "--systemd-cgroup",
        "--criu",
        "--no-pivot",
        "--no-new-keyring",
        "--no-subreaper",
        "--log-level",
        "--rootless",
        "--preserve-fds",
        "--root",
        "--debug-log",
        "--debug",
    ] {
        ensure(text.contains(flag), || {
            format!("{flag} is not in docs/command-line.md")
        })?;
    }
    Ok(())
}

fn the_log_has_errors_as_text_or_json(place: &Place<'_>) -> Result {
    let log = place.dir.join("log");
    let path = log.to_string_lossy().into_owned();
    for format in ["json", "text"] {
        let args = ["--log", &path, "--log-format", format, "state", "nosuch"];
        refused(&place.ringfence(&args), 128, &["nosuch"])?;
    }
    let text = std::fs::read_to_string(&log)?;
    let lines: Vec<&str> = text.lines().collect();
    equal("lines", &lines.len(), &2)?;
    // What containerd and podman look for.
    let first: Value = serde_json::from_str(lines[0])?;
    equal("level", &first["level"], &"error".into())?;
    let message = first["msg"].as_str().unwrap_or_default();
    ensure(message.contains("`nosuch` does not exist"), || text.clone())?;
    ensure(first["time"].is_string(), || text.clone())?;
    ensure(
        lines[1].contains("level=error msg=\"container `nosuch`"),
        || text.clone(),
    )?;
    let outcome = place.ringfence(&["--log", "/nosuch/log", "list"]);
    refused(&outcome, 128, &["/nosuch/log"])
}

fn debug_logs_are_written(place: &Place<'_>) -> Result {
    let dir = place.shell("true", |_| {})?;
    let (bundle, logs) = (dir.to_string_lossy().into_owned(), place.dir.join("logs"));
    let path = logs.to_string_lossy().into_owned();
    said(
        &place.ringfence(&["--debug-log", &path, "run", "-b", &bundle, "c"]),
        0,
        "",
    )?;
    for file in ["launcher.log", "boot.log", "gofer.log"] {
        let there = logs.join(file).is_file();
        ensure(there, || format!("no {file}"))?;
    }
    let boot = std::fs::read_to_string(logs.join("boot.log"))?;
    ensure(boot.contains("booting"), || boot.clone())?;
    let outcome = place.ringfence(&["--debug-log", "/proc/nosuch", "do", "true"]);
    refused(&outcome, 128, &["/proc/nosuch", "--debug-log"])
}

fn calls_are_logged(place: &Place<'_>) -> Result {
    let dir = place.shell("echo word; exit 3", |_| {})?;
    let (bundle, logs) = (dir.to_string_lossy().into_owned(), place.dir.join("logs"));
    let path = logs.to_string_lossy().into_owned();
    let args = ["--strace", "--debug-log", &path, "run", "-b", &bundle, "c"];
    said(&place.ringfence(&args), 3, "word\n")?;
    let text = std::fs::read_to_string(logs.join("boot.log"))?;
    for call in ["write(1, \"word\\n\"", "exit_group(3)"] {
        ensure(text.contains(call), || format!("no {call} in\n{text}"))?;
    }
    // Without a place for it, it would be lost.
    exited(
        &place.ringfence(&["--strace", "run", "-b", &bundle, "c"]),
        2,
    )
}

/// On the host: a file system with two below it, one of which has another and hides a third.
const BELOW: &str = r#"
    mount -t tmpfs none . && cd "$PWD" && mkdir sub hidden && echo top >file && echo hidden >sub/file
    mount -t tmpfs -o nosuid,noatime none sub && mkdir 'sub/with space' && echo sub >sub/file
    mount -t tmpfs none 'sub/with space' && echo inner >'sub/with space/file'
    mount -t tmpfs none hidden && echo first >hidden/file
    mount -t tmpfs none hidden && echo second >hidden/file && ln -s file hidden/link
    touch one && mount --bind sub/file one
    cd / && exec "$@""#;

/// What a container has on /m, by bind mounts with `options` of that.
fn below(place: &Place<'_>, options: &[&str], script: &str, output: &str) -> Result {
    below_of(place, BELOW, options, script, output)
}

/// The same of what `made` mounts.
fn below_of(place: &Place<'_>, made: &str, options: &[&str], script: &str, output: &str) -> Result {
    let source = place.dir.join("source");
    std::fs::create_dir_all(&source)?;
    let dir = place.shell(script, |config| {
        let mount = json!({"destination": "/m/n", "source": source, "options": options});
        if let Some(mounts) = config["mounts"].as_array_mut() {
            mounts.push(mount);
        }
    })?;
    // In a mount namespace of its own, which goes with it.
    let mut command = std::process::Command::new("unshare");
    let wrapped = ["-m", "sh", "-ec", made, "sh"];
    command.current_dir(&source).args(wrapped);
    let run = place.runtime.run(&dir, "c");
    command.arg(run.get_program()).args(run.get_args());
    let outcome = run::run(&mut command, b"", std::time::Duration::from_secs(60));
    said(&outcome, 0, output)
}

fn what_is_mounted_below_a_bind_mount(place: &Place<'_>) -> Result {
    let show = "cd /m/n; cat file sub/file hidden/file one; cat 'sub/with space/file' 2>&1";
    // Of a plain one, nothing: what the mounts stand on is seen.
    let plain = "top\nhidden\ncat: can't open 'hidden/file': No such file or directory\n\
                 cat: can't open 'sub/with space/file': No such file or directory\n";
    below(place, &["bind"], &format!("exec 2>&1; {show}; true"), plain)?;
    let all = "top\nsub\nsecond\nsub\ninner\n";
    below(place, &["rbind"], show, all)?;
    let list = "grep -F ' /m/' /proc/self/mountinfo | cut -d ' ' -f 5,6";
    below(
        place,
        &["rbind"],
        list,
        "/m/n rw,relatime\n/m/n/hidden rw,relatime\n/m/n/one rw,nosuid,noatime\n\
         /m/n/sub rw,nosuid,noatime\n/m/n/sub/with\\040space rw,relatime\n",
    )?;
    let options = [
        "rbind",
        "ro",
        "noexec",
        "rnodev",
        "rstrictatime",
        "rsuid",
        "rnosymfollow",
    ];
    below(
        place,
        &options,
        &format!("{list}; cat /m/n/hidden/link 2>&1; echo new >/m/n/sub/new && cat /m/n/sub/new"),
        "/m/n ro,nodev,noexec,nosymfollow\n/m/n/hidden rw,nodev,nosymfollow\n\
         /m/n/one rw,nodev,nosymfollow\n/m/n/sub rw,nodev,nosymfollow\n\
         /m/n/sub/with\\040space rw,nodev,nosymfollow\n\
         cat: can't open '/m/n/hidden/link': Too many levels of symbolic links\nnew\n",
    )?;
    let script = "cd /m/n; for f in a sub/a 'sub/with space/a' hidden/a; do \
                  (echo >$f) 2>/dev/null || echo no; done";
    below(place, &["rbind", "rro"], script, "no\nno\nno\nno\n")?;
    below(place, &["rbind", "rro", "rw", "rrw"], script, "")?;
    place.nothing_left()
}

/// On the host: what talks to its kernel, with a mount inside and one beside it.
const KERNEL: &str = r#"
    mount -t tmpfs none . && cd "$PWD" && mkdir proc sys beside
    mount -t proc none proc && mount -t tmpfs none proc/tty && mount -t sysfs none sys
    mount -t tmpfs none beside && echo beside >beside/file
    cd / && exec "$@""#;

fn the_hosts_kernel_below_a_bind_mount_is_not_served(place: &Place<'_>) -> Result {
    let script = "exec 2>&1; cd /m/n; ls -d proc sys; cat proc/version sys/power/state; \
                  ls sys; ls proc/tty; (echo x >proc/sys/kernel/hostname); cat beside/file";
    let output = "proc\nsys\ncat: can't open 'proc/version': Permission denied\n\
                  cat: can't open 'sys/power/state': Permission denied\n\
                  ls: proc/tty: Permission denied\n\
                  /bin/sh: can't create proc/sys/kernel/hostname: Permission denied\nbeside\n";
    below_of(place, KERNEL, &["rbind"], script, output)?;
    place.nothing_left()
}

fn overlays_keep_the_tree_as_it_is(place: &Place<'_>) -> Result {
    let dir = place.shell(
        "echo new > /etc/new; rm /etc/group; cat /etc/new; ls /etc",
        |_| {},
    )?;
    let (bundle, root) = (dir.to_string_lossy().into_owned(), place.tree()?);
    for overlay in ["memory", "self", "none"] {
        let outcome = place.ringfence(&["--overlay", overlay, "run", "-b", &bundle, "c"]);
        said(&outcome, 0, "new\nnew\npasswd\n")?;
        let through = overlay == "none";
        equal(overlay, &root.join("etc/new").exists(), &through)?;
        equal(overlay, &!root.join("etc/group").exists(), &through)?;
        let names: Vec<_> = std::fs::read_dir(&dir)?
            .flatten()
            .map(|e| e.file_name())
            .collect();
        equal("files in the bundle", &names, &vec!["config.json".into()])?;
    }
    let dir = place.shell("echo x > /x; echo $?; echo y > /tmp/y && cat /tmp/y", |c| {
        c["root"]["readonly"] = true.into();
    })?;
    let outcome = place.run(&dir, "c");
    said(&outcome, 0, "1\ny\n")?;
    ensure(outcome.err().contains("Read-only file system"), || {
        outcome.err()
    })
}

fn descriptors_are_preserved(place: &Place<'_>) -> Result {
    let dir = place.shell("cat <&3; echo to4 >&4; ls /proc/self/fd | wc -l", |_| {})?;
    let run = place.runtime.command();
    let file = place.dir.join("four");
    let script = format!("\"$@\" 3<<E 4>{}\nfrom three\nE\n", file.display());
    let mut shell = Command::new(need("bash")?);
    shell
        .args(["-c", &script, "sh"])
        .arg(run.get_program())
        .args(run.get_args())
        .args(["run", "--preserve-fds", "2", "--bundle"])
        .arg(&dir)
        .arg("c");
    said(&run::run_plain(&mut shell), 0, "from three\n6\n")?;
    equal("4", &std::fs::read_to_string(&file)?, &"to4\n".to_owned())?;
    let bundle = dir.to_string_lossy().into_owned();
    let outcome = place.ringfence(&["run", "--preserve-fds", "900", "-b", &bundle, "c"]);
    refused(&outcome, 128, &["--preserve-fds"])
}

fn networks_that_are_not_there(place: &Place<'_>) -> Result {
    for network in ["host", "sandbox"] {
        let outcome = place.ringfence(&["--network", network, "do", "true"]);
        refused(&outcome, 128, &[network, "none"])?;
    }
    exited(&place.ringfence(&["--network", "nosuch", "do", "true"]), 2)
}

fn rootless_by_word(place: &Place<'_>) -> Result {
    for words in [
        &["--rootless"] as &[&str],
        &["--rootless=true"],
        &["--rootless=auto"],
    ] {
        let args = [words, &["do", "--", "sh", "-c", "echo $((1+1))"]].concat();
        said(&place.ringfence(&args), 0, "2\n")?;
    }
    exited(&place.ringfence(&["--rootless=maybe", "list"]), 2)
}

fn a_platform_by_name(place: &Place<'_>) -> Result {
    let name = place.runtime.platform.clone();
    said(
        &place.ringfence(&["do", "--platform", &name, "true"]),
        0,
        "",
    )?;
    let mut command = Command::new(&place.runtime.program);
    command.args(["--root"]).arg(&place.runtime.state);
    said(
        &run::run_plain(command.args(["--platform", "auto", "do", "true"])),
        0,
        "",
    )?;
    // A letter too many.
    let near = format!("{name}e");
    let mut command = Command::new(&place.runtime.program);
    command.arg("--root").arg(&place.runtime.state);
    let outcome = run::run_plain(command.args(["--platform", &near, "do", "true"]));
    refused(&outcome, 128, &[&near, &format!("did you mean `{name}`")])?;
    let mut command = Command::new(&place.runtime.program);
    command.arg("--root").arg(&place.runtime.state);
    let outcome = run::run_plain(command.args(["--platform", "zzzzzz", "do", "true"]));
    refused(&outcome, 128, &["zzzzzz", &name])
}

fn a_device_that_is_none(place: &Place<'_>) -> Result {
    need_device(place)?;
    for (device, answer) in [
        ("/dev/null", "no KVM device"),
        ("/nonexistent/kvm", "/nonexistent/kvm: No such file"),
    ] {
        let outcome = place.ringfence(&["--platform-device", device, "do", "true"]);
        refused(&outcome, 128, &[device, answer, "take another platform"])?;
        let listed = place.ringfence(&["--platform-device", device, "platforms"]);
        ensure(listed.out().contains(answer), || {
            format!("`platforms` does not tell of {device}: {}", listed.out())
        })?;
    }
    place.nothing_left()
}
