//! The life of a container, as OCI has it: create, start, state, kill, delete; and all at once,
//! run.

use crate::attach::{self, Attended, Signals, Terminal};
use crate::cgroup;
use crate::client::{Client, ClientError};
use crate::config::{Config, Hooks, Resources};
use crate::error::LaunchError;
use crate::exec;
use crate::hooks::{self, Hook};
use crate::id::ContainerId;
use crate::pod;
use crate::process_id::ProcessId;
use crate::sandbox::{self, Options, Sandbox};
use crate::spawn::Process;
use crate::state::{self, ContainerDir, Locked, Phase, State, StateError, StateRoot};
use crate::step;
use crate::sys;
use control::boot::{Limits, ProcessSpec};
use control::message::{ProcessInfo, Stats, WindowSize};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use serde_json::json;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// The version of the runtime specification that is followed.
pub const OCI_VERSION: &str = "1.2.0";
/// How long a killed process may take to be gone.
const DEATH: u16 = 10_000;

/// A container that is there.
pub struct Container {
    dir: ContainerDir,
    state: State,
}

/// A directory and a control group that go again unless the container came up. Its processes must
/// go before.
pub(crate) struct NewContainer {
    dir: Option<ContainerDir>,
    pub(crate) group: Option<cgroup::Group>,
}

impl NewContainer {
    pub(crate) fn dir(&self) -> Result<&ContainerDir, LaunchError> {
        self.dir.as_ref().ok_or(LaunchError::Ended {
            who: "launcher",
            how: String::new(),
        })
    }

    /// Leaves both.
    pub(crate) fn keep(mut self) {
        self.dir = None;
        if let Some(group) = self.group.take() {
            group.keep();
        }
    }
}

impl Drop for NewContainer {
    fn drop(&mut self) {
        self.group = None;
        if let Some(dir) = self.dir.take()
            && let Err(e) = dir.remove()
        {
            tracing::warn!("{e}");
        }
    }
}

/// Makes and locks a new container's directory, with its first state and its control group.
pub(crate) fn begin(
    root: &StateRoot,
    id: &ContainerId,
    config: &Config,
    options: &Options<'_>,
) -> Result<(NewContainer, State, Locked), LaunchError> {
    root.collect();
    let plan = cgroup::plan(&config.resources, id.as_str(), options.systemd_cgroup)?;
    let (mut new, lock) = reserve(root, id)?;
    step::reached("create-reserved");
    let state = State {
        id: id.to_string(),
        bundle: config.bundle.clone(),
        rootfs: config.root.clone(),
        phase: Phase::Creating,
        created: state::now(),
        owner: options.identity.uid,
        attached: options.attached,
        launcher: ProcessId::own(),
        sandbox: None,
        joined: None,
        gofer: None,
        cgroup: plan.as_ref().map(cgroup::Plan::dirs).unwrap_or_default(),
        resources: config.resources.clone(),
        platform: options.platform.name().to_owned(),
        annotations: config.annotations.clone(),
        start_container: config.hooks.start_container.clone(),
        poststart: config.hooks.poststart.clone(),
        poststop: config.hooks.poststop.clone(),
        process: config.process.clone(),
    };
    new.dir()?.save(&state)?;
    step::reached("create-named");
    // The state names it by now: should we be killed, the next command removes it.
    new.group = plan.map(cgroup::Plan::make).transpose()?.flatten();
    Ok((new, state, lock))
}

fn reserve(root: &StateRoot, id: &ContainerId) -> Result<(NewContainer, Locked), LaunchError> {
    loop {
        let made = root
            .create(id)
            .and_then(|dir| dir.lock().map(|lock| (dir, lock)));
        match made {
            Ok((dir, lock)) => {
                let new = NewContainer {
                    dir: Some(dir),
                    group: None,
                };
                return Ok((new, lock));
            }
            // Another command took the fresh directory for a left-over and removed it.
            Err(StateError::Missing { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Brings a container up. Its processes end when the returned sandbox is dropped before it is let
/// go.
fn bring_up(
    root: &StateRoot,
    id: &ContainerId,
    config: &Config,
    options: &Options<'_>,
    pid_file: Option<&Path>,
    signals: Option<&Signals>,
) -> Result<(NewContainer, State, Sandbox), LaunchError> {
    let (new, mut state, lock) = begin(root, id, config, options)?;
    let dir = new.dir()?;
    let booting = sandbox::boot(dir, config, options, new.group.as_ref())?;
    // While the sandbox boots.
    state.sandbox = ProcessId::of(booting.sandbox.process.pid);
    state.gofer = ProcessId::of(booting.sandbox.gofer.pid);
    dir.save(&state)?;
    step::reached("create-recorded");
    let sandbox = booting.finish(signals)?;
    step::reached("create-up");
    let ready = run_early(&config.hooks, &state).and_then(|()| match options.start {
        true => Ok(()),
        false => check_program(dir, &state),
    });
    if let Err(e) = ready {
        drop(lock);
        return Err(given_up(new, state, sandbox, e));
    }
    state.phase = if options.start {
        Phase::Running
    } else {
        Phase::Created
    };
    dir.save(&state)?;
    step::reached("create-marked");
    write_pid(pid_file, sandbox.process.pid)?;
    drop(lock);
    step::reached("create-unlocked");
    Ok((new, state, sandbox))
}

/// The same, and starts it where booting has not.
fn bring_up_started(
    root: &StateRoot,
    id: &ContainerId,
    config: &Config,
    options: &Options<'_>,
    pid_file: Option<&Path>,
    signals: Option<&Signals>,
) -> Result<(NewContainer, State, Sandbox), LaunchError> {
    let (new, mut state, sandbox) = bring_up(root, id, config, options, pid_file, signals)?;
    if !options.start
        && let Err(e) = start_created(new.dir()?, &mut state)
    {
        return Err(given_up(new, state, sandbox, e));
    }
    run_late("poststart", &state.poststart, &state);
    Ok((new, state, sandbox))
}

/// Whether the container's program is there, when there is one: after the hooks, one of which may
/// have brought it. Callers expect to hear of it from `create`, as with other runtimes.
pub(crate) fn check_program(dir: &ContainerDir, state: &State) -> Result<(), LaunchError> {
    match state.process.args.is_empty() {
        true => Ok(()),
        false => Ok(connect(dir, state)?.check()?),
    }
}

/// Takes a container back that was up and could not be started.
fn given_up(
    new: NewContainer,
    mut state: State,
    mut sandbox: Sandbox,
    why: LaunchError,
) -> LaunchError {
    // The processes go before their directory does.
    sandbox.end();
    drop(new);
    run_poststop(&mut state);
    why
}

/// Writes the number of the process that callers watch.
pub(crate) fn write_pid(file: Option<&Path>, pid: i32) -> Result<(), LaunchError> {
    let Some(path) = file else {
        return Ok(());
    };
    let written = state::write_atomically(path, pid.to_string().as_bytes());
    written.map_err(|source| LaunchError::Write {
        path: path.to_owned(),
        source,
    })
}

/// A connection to the sandbox, for requests about the container.
pub(crate) fn connect(dir: &ContainerDir, state: &State) -> Result<Client, LaunchError> {
    let Some(joined) = &state.joined else {
        return Ok(Client::connect(dir)?);
    };
    let mut client = pod::connect(&dir.root()?, joined)?;
    client.select(&state.id)?;
    Ok(client)
}

/// Creates a container and leaves it.
pub fn create(
    root: &StateRoot,
    id: &ContainerId,
    config: &Config,
    options: &Options<'_>,
    pid_file: Option<&Path>,
) -> Result<(), LaunchError> {
    if let Some(joins) = &config.joins {
        return pod::create(root, id, config, joins, options, pid_file);
    }
    let (new, _state, mut sandbox) = bring_up(root, id, config, options, pid_file, None)?;
    sandbox.let_go();
    step::reached("create-let-go");
    new.keep();
    Ok(())
}

/// Creates and starts a container, stays with it, and removes it. Its exit status.
pub fn run(
    root: &StateRoot,
    id: &ContainerId,
    config: &Config,
    options: &Options<'_>,
    pid_file: Option<&Path>,
) -> Result<i32, LaunchError> {
    let signals = Signals::block().map_err(crate::spawn::host("take signals as a descriptor"))?;
    if let Some(joins) = &config.joins {
        return pod::run(root, id, config, joins, options, pid_file, &signals);
    }
    let (new, mut state, mut sandbox) =
        bring_up_started(root, id, config, options, pid_file, Some(&signals))?;
    let dir = new.dir()?;
    let terminal = match sandbox.terminal.take() {
        // The sandbox holds the replica; the end of its hold must be ours to see.
        Some(pair) => Terminal::Held(pair.master),
        None => Terminal::None,
    };
    let mut attached = Attached {
        dir,
        process: &mut sandbox.process,
    };
    let status = attach::attend(&mut attached, terminal, &signals);
    let words = sandbox.process.words();
    sandbox.gofer.end();
    drop(new);
    run_poststop(&mut state);
    match status {
        Some(status) if !words.is_empty() => Err(LaunchError::Crashed { status, words }),
        Some(status) => Ok(status),
        None => Err(LaunchError::Ended {
            who: "sandbox process",
            how: "somebody else took its exit status".to_owned(),
        }),
    }
}

/// A container whose launcher stays.
struct Attached<'a> {
    dir: &'a ContainerDir,
    process: &'a mut Process,
}

impl Attended for Attached<'_> {
    fn poll_end(&mut self) -> Option<Option<i32>> {
        self.process.poll_end()
    }

    fn news(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn signal(&mut self, signal: Signal) {
        let sent = Client::connect(self.dir).and_then(|mut c| c.signal(None, signal as i32, false));
        // One that cannot take it any more is about to end anyway.
        if let Err(e) = sent {
            tracing::debug!("{signal} was not handed on: {e}");
        }
    }

    /// The sandbox process hears of it from its terminal.
    fn resize(&mut self, _: WindowSize) {}

    fn kill(&mut self) {
        self.process.kill();
    }
}

/// Creates and starts a container and leaves it.
pub fn run_detached(
    root: &StateRoot,
    id: &ContainerId,
    config: &Config,
    options: &Options<'_>,
    pid_file: Option<&Path>,
) -> Result<(), LaunchError> {
    if let Some(joins) = &config.joins {
        return pod::create(root, id, config, joins, options, pid_file);
    }
    let (new, _state, mut sandbox) = bring_up_started(root, id, config, options, pid_file, None)?;
    sandbox.let_go();
    new.keep();
    Ok(())
}

pub(crate) fn start_created(dir: &ContainerDir, state: &mut State) -> Result<(), LaunchError> {
    let text = oci_state(state);
    for hook in &state.start_container {
        exec::hook(connect(dir, state)?, hook, &state.process, &text)?;
    }
    let mut client = connect(dir, state)?;
    step::reached("start-connected");
    client.start()?;
    step::reached("start-started");
    state.phase = Phase::Running;
    dir.save(state)?;
    step::reached("start-marked");
    Ok(())
}

/// The hooks of a container that is up and not yet started, but for those inside. The first failure
/// ends it.
pub(crate) fn run_early(hooks: &Hooks, state: &State) -> Result<(), LaunchError> {
    for (kind, list) in [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
    ] {
        hooks::run(kind, list, &oci_state(state))?;
    }
    Ok(())
}

/// As the spec says, the failure of one of these is warned of, and the others are run.
pub(crate) fn run_late(kind: &'static str, list: &[Hook], state: &State) {
    let text = match kind {
        // The program may have ended by now; the hook is to see what it comes after.
        "poststart" => oci_value(state, "running").to_string(),
        _ => oci_state(state),
    };
    for hook in list {
        if let Err(e) = hooks::run(kind, std::slice::from_ref(hook), &text) {
            tracing::warn!("{e}");
        }
    }
}

pub(crate) fn run_poststop(state: &mut State) {
    state.sandbox = None;
    run_late("poststop", &state.poststop, state);
}

/// The state as OCI wants it printed.
pub(crate) fn oci_state(state: &State) -> String {
    oci_value(state, state.status()).to_string()
}

fn oci_value(state: &State, status: &str) -> serde_json::Value {
    let pid = state
        .sandbox
        .filter(|_| status != "stopped")
        .map_or(0, |p| p.pid);
    json!({
        "ociVersion": OCI_VERSION,
        "id": state.id,
        "status": status,
        "pid": pid,
        "bundle": state.bundle,
        "annotations": state.annotations,
    })
}

/// All containers, as `list` prints them; damaged ones are logged and left out.
pub fn list(root: &StateRoot) -> Result<Vec<Container>, LaunchError> {
    root.collect();
    let load = |id: ContainerId| match Container::open(root, &id) {
        Ok(container) => Some(container),
        Err(LaunchError::State(StateError::Missing { .. })) => None,
        Err(e) => {
            tracing::warn!("{e}");
            None
        }
    };
    Ok(root.ids()?.into_iter().filter_map(load).collect())
}

impl Container {
    /// The container called `id`.
    pub fn open(root: &StateRoot, id: &ContainerId) -> Result<Container, LaunchError> {
        let dir = root.open_container(id)?;
        let state = match dir.load() {
            // It is just being made, or removed.
            Err(StateError::File { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                return Err(StateError::Missing {
                    id: id.clone(),
                    root: root.path().to_owned(),
                }
                .into());
            }
            other => other?,
        };
        Ok(Container { dir, state })
    }

    /// What is known of it.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// As OCI's `state` command prints it, with what runc's adds.
    pub fn to_json(&self) -> serde_json::Value {
        let mut value = oci_value(&self.state, self.state.status());
        value["rootfs"] = json!(self.state.rootfs);
        value["created"] = json!(state::rfc3339(self.state.created));
        value["owner"] = json!(self.state.owner_name());
        value
    }

    /// Its pid, 0 when it is stopped.
    pub fn pid(&self) -> i32 {
        self.state
            .sandbox
            .filter(ProcessId::alive)
            .map_or(0, |p| p.pid)
    }

    /// The pid of its gofer; 0 where there is none.
    pub(crate) fn gofer_pid(&self) -> i32 {
        self.state.gofer.as_ref().map_or(0, |p| p.pid)
    }

    /// The pid of the sandbox process it is in, which for one that joined is another's; 0 when it is
    /// stopped.
    pub(crate) fn sandbox_pid(&self) -> i32 {
        match &self.state.joined {
            Some(joined) if joined.process.alive() => joined.process.pid,
            Some(_) => 0,
            None => self.pid(),
        }
    }

    /// Starts the root process of a created container.
    pub fn start(&mut self) -> Result<(), LaunchError> {
        let _lock = self.dir.lock()?;
        self.state = self.dir.load()?;
        let status = self.state.status();
        if status != "created" {
            let hint = match status {
                "running" => "; it was started already",
                "stopped" => "; `ringfence delete` it and create it again",
                _ => "",
            };
            return Err(self.status_error("start", status, hint));
        }
        match start_created(&self.dir, &mut self.state) {
            Err(LaunchError::Client(ClientError::Channel(source))) => {
                // It ended in the middle; what remains to be said is in its log.
                Err(LaunchError::Talk {
                    who: "sandbox process",
                    source,
                })
            }
            Err(e) if e.is_of_program() || matches!(e, LaunchError::Hook(_)) => {
                // There is nothing left to be started, and whoever watches the sandbox process is
                // to see an end.
                self.kill_processes();
                Err(e)
            }
            other => other,
        }?;
        run_late("poststart", &self.state.poststart, &self.state);
        Ok(())
    }

    /// A connection to its sandbox, for requests about it.
    pub(crate) fn client(&self) -> Result<Client, LaunchError> {
        connect(&self.dir, &self.state)
    }

    fn status_error(
        &self,
        what: &'static str,
        status: &'static str,
        hint: &'static str,
    ) -> LaunchError {
        LaunchError::Status {
            what,
            id: self.state.id.clone(),
            status,
            hint,
        }
    }

    /// Sends a signal to the process numbered `pid` inside.
    pub fn kill_process(&self, pid: i32, signal: i32) -> Result<(), LaunchError> {
        self.must_live("signal a process of")?;
        Ok(self.client()?.signal(Some(pid), signal, false)?)
    }

    /// Sends a signal to the root process, or to all. When all are killed, it waits for their end.
    pub fn kill(&mut self, signal: i32, all: bool) -> Result<(), LaunchError> {
        if self.state.status() == "creating" {
            // Its launcher may have started the program already, and is about to say so.
            let _lock = self.dir.lock()?;
            self.state = self.dir.load()?;
        }
        let status = self.state.status();
        match status {
            "created" | "running" | "paused" => {}
            // runc, too, lets `kill --all` of a stopped container pass.
            "stopped" if all => return Ok(()),
            _ => {
                let hint = "; only a created or running one can get signals";
                return Err(self.status_error("kill", status, hint));
            }
        }
        if status == "created" {
            // There is no process yet that could handle it.
            if signal == Signal::SIGKILL as i32 || signal == Signal::SIGTERM as i32 {
                self.kill_processes();
            }
            return Ok(());
        }
        match self
            .client()
            .and_then(|mut c| Ok(c.signal(None, signal, all)?))
        {
            Ok(()) => {
                if all && signal == Signal::SIGKILL as i32 {
                    self.await_end();
                }
                Ok(())
            }
            // It ended while we asked.
            Err(_) if self.pid() == 0 => Ok(()),
            // One that does not answer any more can still be killed.
            Err(e) if signal == Signal::SIGKILL as i32 => {
                tracing::warn!("{e}; killing its processes");
                self.kill_processes();
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    /// Waits until the sandbox process is gone.
    fn await_end(&self) {
        let Some(process) = self.state.sandbox else {
            return;
        };
        if let Ok(handle) = sys::pidfd_open(process.pid)
            && process.alive()
        {
            let mut fds = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
            let _late = poll(&mut fds, PollTimeout::from(DEATH));
        }
    }

    /// Ends our processes and waits until they are gone.
    fn kill_processes(&self) {
        for process in [self.state.sandbox, self.state.gofer].into_iter().flatten() {
            let Ok(handle) = sys::pidfd_open(process.pid) else {
                continue;
            };
            // The handle is of the process that has the number now.
            if !process.alive() {
                continue;
            }
            let _gone = sys::pidfd_send_signal(handle.as_fd(), Signal::SIGKILL as i32);
            let mut fds = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
            let _late = poll(&mut fds, PollTimeout::from(DEATH));
        }
    }

    /// Removes a stopped container; with `force`, one that is not stopped, too.
    pub fn delete(mut self, force: bool) -> Result<(), LaunchError> {
        let lock = self.dir.lock()?;
        self.state = self.dir.load()?;
        let status = self.state.status();
        // The spec has `created` be an error; runc kills and removes it, and tools rely on that.
        if !force && !matches!(status, "stopped" | "created") {
            let hint = "; stop it first (`ringfence kill ID KILL`), or give --force";
            return Err(self.status_error("delete", status, hint));
        }
        step::reached("delete-locked");
        if let Some(joined) = self.state.joined.clone() {
            match self
                .dir
                .root()
                .map_err(LaunchError::from)
                .and_then(|root| pod::leave(&root, &joined, &self.state.id))
            {
                Err(e) if !force => return Err(e),
                left => left.unwrap_or_else(|e| tracing::warn!("{e}; it is killed")),
            }
        }
        self.kill_processes();
        step::reached("delete-killed");
        cgroup::remove(&self.state.cgroup);
        self.dir.remove()?;
        step::reached("delete-removed");
        drop(lock);
        run_poststop(&mut self.state);
        Ok(())
    }

    pub(crate) fn must_live(&self, what: &'static str) -> Result<(), LaunchError> {
        match self.state.status() {
            "created" | "running" | "paused" => Ok(()),
            status => Err(self.status_error(what, status, "; it has no processes")),
        }
    }

    /// Pauses all its tasks.
    pub fn pause(&mut self) -> Result<(), LaunchError> {
        let _lock = self.dir.lock()?;
        self.state = self.dir.load()?;
        let status = self.state.status();
        if status != "running" {
            let hint = "; only a running one can be paused";
            return Err(self.status_error("pause", status, hint));
        }
        let mut client = self.client()?;
        client.pause()?;
        self.state.phase = Phase::Paused;
        if let Err(e) = self.dir.save(&self.state) {
            client.resume()?;
            return Err(e.into());
        }
        Ok(())
    }

    /// Lets the tasks of a paused container go on.
    pub fn resume(&mut self) -> Result<(), LaunchError> {
        let _lock = self.dir.lock()?;
        self.state = self.dir.load()?;
        let status = self.state.status();
        if status != "paused" {
            return Err(self.status_error("resume", status, "; only a paused one can go on"));
        }
        self.client()?.resume()?;
        self.state.phase = Phase::Running;
        Ok(self.dir.save(&self.state)?)
    }

    /// Changes its limits: what `asked` leaves out, or has as 0, stays as it is, and -1 takes a
    /// limit away. Either all of it is done or, where that fails, nothing.
    pub fn update(&mut self, asked: &Resources) -> Result<(), LaunchError> {
        let _lock = self.dir.lock()?;
        self.state = self.dir.load()?;
        self.must_live("change the limits of")?;
        let old = &self.state.resources;
        let new = old.changed_by(asked);
        let group = cgroup::Standing::find(&self.state.cgroup, asked, old, &new)?;
        let (before, after) = (old.shown(), new.shown());
        let mut client = self.client()?;
        let memory = |limits: &Limits| limits.memory.unwrap_or(u64::MAX);
        if memory(&after) >= memory(&before) {
            group.update()?;
            client.update(after)?;
        } else {
            // The host's limit stands above the sandbox's own: it goes down last.
            client.update(after)?;
            if let Err(e) = group.update() {
                client.update(before)?;
                return Err(e.into());
            }
        }
        self.state.resources = new;
        Ok(self.dir.save(&self.state)?)
    }

    /// Writes its state down, to go on from it later: not supported yet, and refused by the
    /// sandbox.
    pub fn checkpoint(&self) -> Result<(), LaunchError> {
        self.must_live("checkpoint")?;
        Ok(self.client()?.checkpoint()?)
    }

    /// Runs a further process in it; see [`exec`].
    pub fn exec(&self, options: &exec::Options) -> Result<i32, LaunchError> {
        match self.state.status() {
            "running" => exec::run(self, options),
            "paused" if options.ignore_paused => exec::run(self, options),
            status => {
                let hint = match status {
                    "created" => "; `ringfence start` it first",
                    "paused" => "; `ringfence resume` it first, or give --ignore-paused",
                    _ => "; only a running one can run further processes",
                };
                Err(self.status_error("execute in", status, hint))
            }
        }
    }

    /// What its own process was, for [`exec::Options`] to change.
    pub fn process(&self) -> &ProcessSpec {
        &self.state.process
    }

    /// Its processes.
    pub fn processes(&self) -> Result<Vec<ProcessInfo>, LaunchError> {
        self.must_live("list the processes of")?;
        Ok(self.client()?.processes()?)
    }

    /// What it uses.
    pub fn stats(&self) -> Result<Stats, LaunchError> {
        self.must_live("measure")?;
        Ok(self.client()?.stats()?)
    }

    /// What its processes on the host did to block devices, as the host counts in its control group.
    pub fn block_stats(&self) -> cgroup::BlockStats {
        cgroup::block_stats(&self.state.cgroup)
    }

    /// Waits for the end of its first process; the exit status, 128 + n for a signal.
    pub fn wait(&self) -> Result<i32, LaunchError> {
        self.must_live("wait for")?;
        let status = self.client()?.wait()?;
        Ok(state::exit_code(status))
    }

    /// A report of what the tasks inside do.
    pub fn dump(&self) -> Result<String, LaunchError> {
        Ok(self.client()?.dump()?)
    }
}
