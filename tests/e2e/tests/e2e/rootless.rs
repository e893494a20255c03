//! An ordinary user.

use crate::case::{Result, Stop, cases, ensure, equal, exited, refused, said};
use crate::place::{Place, eventually, need, need_device, need_root};
use nix::sys::stat::{Mode, SFlag, mknod};
use serde_json::{Value, json};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use test_support::run::{self, Outcome};

cases!("rootless":
    a_command_with_and_without_a_runtime_directory,
    a_command_on_a_tree,
    a_bundle_runs_and_writes,
    the_example_runs,
    the_life_of_a_container,
    what_the_user_may_not,
    a_device_that_the_user_may_not_open,
    a_user_at_a_terminal,
);

/// Nobody on this machine, each test another one.
struct User {
    id: u32,
    /// Owned by the user.
    home: PathBuf,
    runtime_dir: Option<PathBuf>,
    /// Where the platform's device is, if not at its usual place.
    device: Option<PathBuf>,
}

impl User {
    fn new(place: &Place<'_>, id: u32) -> Result<Self> {
        need_root()?;
        let home = place.dir.join("home");
        let runtime_dir = home.join("xdg");
        for dir in [&home, &runtime_dir] {
            std::fs::create_dir(dir)?;
            chown(dir, Some(id), Some(id))?;
        }
        std::fs::set_permissions(&runtime_dir, PermissionsExt::from_mode(0o700))?;
        let device = match place.runtime.platform.as_str() {
            "kvm" => Self::own_device(Path::new("/dev/kvm"), id, &home)?,
            _ => None,
        };
        Ok(Self {
            id,
            home,
            runtime_dir: Some(runtime_dir),
            device,
        })
    }

    /// A node of the user's own for a device that this machine keeps from its users.
    fn own_device(device: &Path, id: u32, home: &Path) -> Result<Option<PathBuf>> {
        let data = device.metadata()?;
        if data.permissions().mode() & 0o006 == 0o006 {
            return Ok(None);
        }
        let own = home.join("device");
        let mode = Mode::from_bits_truncate(0o600);
        if let Err(error) = mknod(&own, SFlag::S_IFCHR, mode, data.rdev()) {
            let why = format!(
                "users may not open {} here; mknod: {error}",
                device.display()
            );
            return Err(Stop::Skipped(why));
        }
        chown(&own, Some(id), Some(id))?;
        Ok(Some(own))
    }

    fn without_runtime_dir(&mut self) {
        self.runtime_dir = None;
    }

    fn state(&self) -> PathBuf {
        match &self.runtime_dir {
            Some(dir) => dir.join("ringfence"),
            None => format!("/tmp/ringfence-{}", self.id).into(),
        }
    }

    /// The runtime, started by the user in the home directory.
    fn command(&self, place: &Place<'_>, args: &[&str]) -> Result<Command> {
        let id = self.id.to_string();
        let mut command = Command::new(need("setpriv")?);
        command
            .args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"])
            .arg(&place.runtime.program)
            .args(["--platform", &place.runtime.platform]);
        if let Some(device) = &self.device {
            command.arg("--platform-device").arg(device);
        }
        command
            .args(args)
            .current_dir(&self.home)
            .env_clear()
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
        if let Some(dir) = &self.runtime_dir {
            command.env("XDG_RUNTIME_DIR", dir);
        }
        Ok(command)
    }

    fn ringfence(&self, place: &Place<'_>, args: &[&str]) -> Result<Outcome> {
        let outcome = place.finish(&mut self.command(place, args)?);
        if outcome.err().contains("forbids user namespaces") {
            return Err(Stop::Skipped(outcome.err()));
        }
        Ok(outcome)
    }

    /// A bundle of the user's own, in whose tree the user may write.
    fn bundle(&self, place: &Place<'_>, script: &str) -> Result<PathBuf> {
        let dir = place.shell(script, |c| {
            c["process"]["rlimits"] = json!([]);
        })?;
        let mut give = Command::new("chown");
        give.args(["-R", "-h", &format!("{0}:{0}", self.id)])
            .arg(place.tree()?)
            .arg(&dir);
        exited(&run::run_plain(&mut give), 0)?;
        Ok(dir)
    }

    /// No file of the state directory is left.
    fn nothing_left(&self, place: &Place<'_>) -> Result {
        place.nothing_left()?;
        let names: Vec<_> = std::fs::read_dir(self.state())?
            .flatten()
            .map(|e| e.file_name())
            .filter(|name| name != ".platform.json")
            .collect();
        ensure(names.is_empty(), || format!("left: {names:?}"))
    }
}

fn a_command_with_and_without_a_runtime_directory(place: &Place<'_>) -> Result {
    let mut user = User::new(place, 61_001)?;
    for _ in 0..2 {
        let script = "id -u; id -g; echo x > made; cat made; touch /etc/x && ls /etc/x; exit 3";
        let outcome = user.ringfence(place, &["do", "--", "sh", "-c", script])?;
        let out = outcome.out();
        exited(&outcome, 3)?;
        ensure(out.starts_with("61001\n61001\nx\n"), || {
            format!("{out}{}", outcome.err())
        })?;
        ensure(!user.home.join("made").exists(), || {
            "it was written through".into()
        })?;
        let state = std::fs::metadata(user.state())?;
        equal("mode of the state", &(state.mode() & 0o777), &0o700)?;
        equal("owner of the state", &state.uid(), &61_001)?;
        user.nothing_left(place)?;
        let outcome = user.ringfence(place, &["do", "--", "/nosuch"])?;
        refused(&outcome, 127, &["/nosuch"])?;
        user.nothing_left(place)?;
        user.without_runtime_dir();
    }
    std::fs::remove_dir_all(user.state())?;
    // One that is named and is not there is as none.
    user.runtime_dir = Some("/nosuch/runtime/dir".into());
    said(
        &user.ringfence(place, &["do", "--", "sh", "-c", "exit 0"])?,
        0,
        "",
    )?;
    std::fs::remove_dir_all("/tmp/ringfence-61001")?;
    Ok(())
}

fn a_command_on_a_tree(place: &Place<'_>) -> Result {
    let user = User::new(place, 61_002)?;
    let tree = place.tree()?;
    let root = tree.to_string_lossy().into_owned();
    // Of root's files only those are there that the user may read.
    std::fs::write(tree.join("private"), "secret")?;
    std::fs::set_permissions(tree.join("private"), PermissionsExt::from_mode(0o600))?;
    std::fs::set_permissions(tree.join("tmp"), PermissionsExt::from_mode(0o1777))?;
    let script = "cat /private; rm -rf /bin/ls; echo $((6*7)) > /tmp/new; cat /tmp/new";
    let outcome = user.ringfence(
        place,
        &["do", "--root", &root, "--", "/bin/sh", "-c", script],
    )?;
    ensure(!outcome.out().contains("secret"), || outcome.out())?;
    ensure(outcome.out().contains("42"), || {
        outcome.out() + &outcome.err()
    })?;
    ensure(
        tree.join("bin/ls").exists() && !tree.join("tmp/new").exists(),
        || "written".into(),
    )?;
    user.nothing_left(place)
}

fn a_bundle_runs_and_writes(place: &Place<'_>) -> Result {
    let mut user = User::new(place, 61_003)?;
    for name in ["one", "two"] {
        let script =
            format!("id -u; echo made > /{name}; stat -c '%u %g' /{name}; mkdir /d{name}; exit 6");
        let dir = user.bundle(place, &script)?.to_string_lossy().into_owned();
        let outcome = user.ringfence(place, &["run", "--bundle", &dir, "c"])?;
        said(&outcome, 6, "0\n0 0\n")?;
        let made = std::fs::metadata(place.tree()?.join(name))?;
        equal(
            "owner on the host",
            &(made.uid(), made.gid()),
            &(61_003, 61_003),
        )?;
        user.nothing_left(place)?;
        user.without_runtime_dir();
    }
    std::fs::remove_dir_all("/tmp/ringfence-61003")?;
    Ok(())
}

fn the_example_runs(place: &Place<'_>) -> Result {
    let user = User::new(place, 61_004)?;
    user.bundle(place, "true")?;
    let dir = user.home.join("bundle");
    std::fs::create_dir(&dir)?;
    chown(&dir, Some(user.id), Some(user.id))?;
    let bundle = dir.to_string_lossy().into_owned();
    said(&user.ringfence(place, &["spec", "-b", &bundle])?, 0, "")?;
    std::fs::rename(place.tree()?, dir.join("rootfs"))?;
    let mut config: Value = serde_json::from_slice(&std::fs::read(dir.join("config.json"))?)?;
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = ["sh", "-c", "id -u; touch /x 2>/dev/null; echo $?"]
        .as_slice()
        .into();
    std::fs::write(dir.join("config.json"), config.to_string())?;
    let outcome = user.ringfence(place, &["run", "-b", &bundle, "c"])?;
    let writable = config["root"]["readonly"] != true;
    said(&outcome, 0, if writable { "0\n0\n" } else { "0\n1\n" })?;
    user.nothing_left(place)
}

fn the_life_of_a_container(place: &Place<'_>) -> Result {
    let user = User::new(place, 61_005)?;
    let dir = user
        .bundle(place, "exec sleep 1000")?
        .to_string_lossy()
        .into_owned();
    let pid_file = user.home.join("pid").to_string_lossy().into_owned();
    exited(
        &user.ringfence(place, &["create", "-b", &dir, "--pid-file", &pid_file, "c"])?,
        0,
    )?;
    let state = |word: &str| -> Result<bool> {
        let outcome = user.ringfence(place, &["state", "c"])?;
        exited(&outcome, 0)?;
        let state: Value = serde_json::from_slice(&outcome.stdout)?;
        Ok(state["status"] == word)
    };
    ensure(state("created")?, || "not created".into())?;
    let pid = std::fs::read_to_string(&pid_file)?;
    let owner = std::fs::metadata(Path::new("/proc").join(&pid))?.uid();
    equal("whose process", &owner, &user.id)?;
    exited(&user.ringfence(place, &["start", "c"])?, 0)?;
    ensure(state("running")?, || "not running".into())?;
    exited(&user.ringfence(place, &["kill", "c", "KILL"])?, 0)?;
    eventually("stopped container", || state("stopped"))?;
    exited(&user.ringfence(place, &["delete", "c"])?, 0)?;
    exited(
        &user.ringfence(place, &["run", "--detach", "-b", &dir, "c"])?,
        0,
    )?;
    let list = user.ringfence(place, &["list", "-q"])?;
    equal("list", &list.out(), &"c\n".to_owned())?;
    exited(&user.ringfence(place, &["delete", "--force", "c"])?, 0)?;
    user.nothing_left(place)
}

fn what_the_user_may_not(place: &Place<'_>) -> Result {
    let user = User::new(place, 61_006)?;
    let outcome = user.ringfence(place, &["--rootless=false", "do", "true"])?;
    refused(&outcome, 128, &["rootless"])?;
    let outcome = user.ringfence(place, &["--root", "/proc/1/x", "do", "true"])?;
    refused(&outcome, 128, &["--root"])?;
    // A bundle that the user may not enter.
    let dir = place.shell("true", |_| {})?;
    std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o700))?;
    let bundle = dir.to_string_lossy().into_owned();
    let outcome = user.ringfence(place, &["run", "-b", &bundle, "c"])?;
    refused(&outcome, 128, &["Permission denied"])?;
    // Someone else's tree can be read and not written.
    std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755))?;
    let dir = place.shell("touch /x 2>&1; echo $?", |c| {
        c["process"]["rlimits"] = json!([]);
    })?;
    let bundle = dir.to_string_lossy().into_owned();
    let outcome = user.ringfence(place, &["run", "-b", &bundle, "c"])?;
    said(&outcome, 0, "touch: /x: Permission denied\n1\n")?;
    ensure(!place.tree()?.join("x").exists(), || "it was made".into())?;
    user.nothing_left(place)
}

fn a_device_that_the_user_may_not_open(place: &Place<'_>) -> Result {
    need_device(place)?;
    let mut user = User::new(place, 61_008)?;
    let device = place.dir.join("device");
    std::fs::write(&device, "")?;
    std::fs::set_permissions(&device, PermissionsExt::from_mode(0o600))?;
    user.device = Some(device.clone());
    let outcome = user.ringfence(place, &["do", "true"])?;
    let words = [&device.to_string_lossy(), "Permission denied", "group"];
    refused(&outcome, 128, &words)?;
    user.nothing_left(place)
}

fn a_user_at_a_terminal(place: &Place<'_>) -> Result {
    let user = User::new(place, 61_007)?;
    let debian = place.tree()?.to_string_lossy().into_owned();
    let inner = user.command(place, &["do", "--root", &debian, "--", "/bin/sh"])?;
    // The terminal is the user's as after a login.
    let mut command = Command::new("sh");
    let own = format!("chown {} $(tty); cd /; exec \"$@\"", user.id);
    command
        .args(["-c", &own, "sh"])
        .arg(inner.get_program())
        .args(inner.get_args());
    if let Some(dir) = &user.runtime_dir {
        command.env("XDG_RUNTIME_DIR", dir);
    }
    let mut terminal = test_support::terminal::Terminal::start(&command, 24, 80)?;
    for (keys, answer) in [
        ("stty size\r", "24 80"),
        ("sh -c 'echo r$((1+1))y; exec sleep 100'\r", "r2y"),
        ("\x03", "^C"),
        ("echo s$?s\r", "s130s"),
        ("exit 4\r", "exit"),
    ] {
        terminal.keys(keys);
        terminal.expect(answer).map_err(Stop::Failed)?;
    }
    equal("end", &terminal.finish(), &"exit 4".to_owned())?;
    user.nothing_left(place)
}
