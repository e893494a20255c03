//! A further container in a sandbox that runs: it joins instead of starting its own.
//!
//! It has a directory, a control group and a gofer of its own, and its connection to the sandbox is
//! its hand there, as that of an executed process is: when it closes, the container is ended and
//! all that it had inside is freed. So whatever fails on the way up, and whoever is killed, nothing
//! stays. Once it is up, a stand-in holds the connection, whose number callers watch, signal and
//! reap as the container's; attached, that is this process.

use crate::attach::{self, Signals, Terminal};
use crate::client::{Client, ClientError};
use crate::config::{Config, Joins};
use crate::console::Pair;
use crate::container::{
    Container, NewContainer, begin, check_program, run_early, run_late, run_poststop,
    start_created, write_pid,
};
use crate::donation::Donations;
use crate::error::LaunchError;
use crate::exec::{Executed, KILLED, stand_in};
use crate::id::ContainerId;
use crate::prepare::Prepared;
use crate::process_id::ProcessId;
use crate::sandbox::{Console, Options};
use crate::spawn::{Process, Spawner, host};
use crate::state::{Joined, Locked, Phase, State, StateError, StateRoot};
use control::message::{Failure, FailureKind, JoinSpec};
use std::path::Path;

/// A container that is up, in our hands. What is named last goes first when a step fails: processes
/// before their directory.
struct Member {
    lock: Locked,
    new: NewContainer,
    state: State,
    guest: Guest,
    terminal: Option<Pair>,
    gofer: Process,
    process: Executed,
}

/// A container's being in a sandbox. Dropped without [`Guest::stays`], it is ended there, and all
/// that it had is freed.
struct Guest {
    root: StateRoot,
    joined: Joined,
    id: String,
    stays: bool,
}

impl Guest {
    fn stays(mut self) {
        self.stays = true;
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if !self.stays
            && let Err(e) = leave(&self.root, &self.joined, &self.id)
        {
            tracing::warn!("{e}");
        }
    }
}

/// Creates a container in the sandbox it joins, and leaves it; starts it, too, when the options say
/// so.
pub(crate) fn create(
    root: &StateRoot,
    id: &ContainerId,
    config: &Config,
    joins: &Joins,
    options: &Options<'_>,
    pid_file: Option<&Path>,
) -> Result<(), LaunchError> {
    let Member {
        lock,
        new,
        mut state,
        guest,
        terminal,
        mut gofer,
        process,
    } = bring_up(root, id, config, joins, options)?;
    let signals = Signals::block_all().map_err(host("take signals as a descriptor"))?;
    let replica = terminal.map(|pair| pair.replica);
    let stand_in = stand_in(process, replica, &signals)?;
    let pid = stand_in.pid();
    if let Some(group) = &new.group {
        group.add(pid)?;
    }
    state.sandbox = ProcessId::of(pid);
    state.phase = Phase::Created;
    new.dir()?.save(&state)?;
    write_pid(pid_file, pid)?;
    if options.start {
        start_created(new.dir()?, &mut state)?;
        run_late("poststart", &state.poststart, &state);
    }
    drop(lock);
    stand_in.let_go();
    guest.stays();
    gofer.let_go();
    new.keep();
    Ok(())
}

/// Runs a container in the sandbox it joins, stays with it, and removes it. Its exit status.
pub(crate) fn run(
    root: &StateRoot,
    id: &ContainerId,
    config: &Config,
    joins: &Joins,
    options: &Options<'_>,
    pid_file: Option<&Path>,
    signals: &Signals,
) -> Result<i32, LaunchError> {
    let Member {
        lock,
        new,
        mut state,
        guest,
        terminal,
        mut gofer,
        mut process,
    } = bring_up(root, id, config, joins, options)?;
    let pid = std::process::id().cast_signed();
    state.sandbox = ProcessId::own();
    state.phase = Phase::Created;
    new.dir()?.save(&state)?;
    write_pid(pid_file, pid)?;
    start_created(new.dir()?, &mut state)?;
    drop(lock);
    run_late("poststart", &state.poststart, &state);
    let terminal = match terminal {
        Some(pair) if options.console == Console::Caller => Terminal::Held(pair.master),
        _ => Terminal::None,
    };
    let status = attach::attend(&mut process, terminal, signals);
    drop(process);
    drop(guest);
    gofer.end();
    drop(new);
    run_poststop(&mut state);
    Ok(status.unwrap_or(KILLED))
}

fn bring_up(
    root: &StateRoot,
    id: &ContainerId,
    config: &Config,
    joins: &Joins,
    options: &Options<'_>,
) -> Result<Member, LaunchError> {
    let (sandbox, joined) = find(root, id, joins, options)?;
    let (new, mut state, lock) = begin(root, id, config, options)?;
    state.platform.clone_from(&sandbox.state().platform);
    state.joined = Some(joined.clone());
    let dir = new.dir()?;
    dir.save(&state)?;

    let client = sandbox.client()?;
    let mut prepared = Prepared::new(config, options, Donations::new("sandbox"))?;
    let group = new.group.as_ref();
    let mut gofer = prepared.start_gofer(&Spawner::new()?, config, options, group)?;
    state.gofer = ProcessId::of(gofer.pid);
    dir.save(&state)?;
    let container = prepared.spec(id, config, options)?;
    prepared.send_to_gofer(id, config, options, &mut gofer)?;
    let shared = joins.shared;
    let spec = JoinSpec { container, shared };
    let channel = client.join(spec, &prepared.donations.borrow());
    let process = Executed::new(channel.map_err(|e| explain(e, &gofer))?);
    let guest = Guest {
        root: root.clone(),
        joined,
        id: id.to_string(),
        stays: false,
    };
    let terminal = prepared.hand_out_terminal(options)?;
    let hooked = State {
        // Of its network namespace a hook takes hold by the number of a process in it.
        sandbox: Some(guest.joined.process),
        phase: Phase::Created,
        ..state.clone()
    };
    run_early(&config.hooks, &hooked)?;
    check_program(dir, &state)?;
    Ok(Member {
        lock,
        new,
        state,
        guest,
        terminal,
        gofer,
        process,
    })
}

/// The sandbox, when it can be joined.
fn find(
    root: &StateRoot,
    id: &ContainerId,
    joins: &Joins,
    options: &Options<'_>,
) -> Result<(Container, Joined), LaunchError> {
    let refuse = |problem: String| LaunchError::Join {
        id: id.to_string(),
        sandbox: joins.sandbox.to_string(),
        problem,
    };
    let sandbox = match Container::open(root, &joins.sandbox) {
        Err(LaunchError::State(StateError::Missing { root, .. })) => {
            return Err(refuse(format!(
                "it does not exist in {}; create and start it first, with the same --root",
                root.display()
            )));
        }
        other => other?,
    };
    let state = sandbox.state();
    if let Some(joined) = &state.joined {
        let problem = format!(
            "it is a container in sandbox `{}`; name that one",
            joined.id
        );
        return Err(refuse(problem));
    }
    if state.owner != options.identity.uid {
        let problem = format!(
            "it belongs to user {}, not {}; be that user",
            state.owner, options.identity.uid
        );
        return Err(refuse(problem));
    }
    if options.platform_named && state.platform != options.platform.name() {
        let problem = format!(
            "it runs on platform `{}`, not `{}`; leave --platform out",
            state.platform,
            options.platform.name()
        );
        return Err(refuse(problem));
    }
    let hint = match state.status() {
        "running" | "paused" => None,
        "created" => Some("`ringfence start` it first"),
        "creating" => Some("wait until it is there, and `ringfence start` it"),
        _ => Some("a sandbox that has ended cannot be joined; create a new one"),
    };
    if let Some(hint) = hint {
        return Err(refuse(format!("it is {}; {hint}", state.status())));
    }
    let process = state.sandbox.ok_or_else(|| refuse("it has ended".into()))?;
    let joined = Joined {
        id: joins.sandbox.to_string(),
        process,
    };
    Ok((sandbox, joined))
}

/// What the gofer said may be the cause.
fn explain(error: ClientError, gofer: &Process) -> LaunchError {
    let words = gofer.words();
    if !words.is_empty() {
        tracing::error!("the gofer said: {words}");
    }
    error.into()
}

/// A connection to a sandbox that was joined.
pub(crate) fn connect(root: &StateRoot, joined: &Joined) -> Result<Client, LaunchError> {
    let ended = || LaunchError::Ended {
        who: "sandbox process",
        how: format!("sandbox `{}` is gone", joined.id),
    };
    // Another one may have its id by now.
    if !joined.process.alive() {
        return Err(ended());
    }
    let sandbox = root.open_container(&ContainerId::new(&joined.id)?)?;
    Ok(Client::connect(&sandbox)?)
}

/// Has the sandbox end a container and free all that it had. One that has ended has freed all.
pub(crate) fn leave(root: &StateRoot, joined: &Joined, id: &str) -> Result<(), LaunchError> {
    let left = connect(root, joined).and_then(|mut client| Ok(client.destroy(id)?));
    match left {
        Err(_) if !joined.process.alive() => Ok(()),
        Err(LaunchError::Client(ClientError::Refused(Failure {
            kind: FailureKind::NoContainer,
            ..
        }))) => Ok(()),
        other => other,
    }
}
