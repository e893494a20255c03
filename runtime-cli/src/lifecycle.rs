//! The commands on containers.

use crate::args::{Create, Delete, Kill, Run, Spec};
use crate::setup::{Failure, Setup};
use launcher::sandbox::{Console, Options, Overlay};
use launcher::state::StateError;
use launcher::{Container, ContainerId, LaunchError, StateRoot, config, container};
use nix::sys::signal::Signal;
use std::io::Write;
use std::str::FromStr;

/// `run`
pub(crate) fn run(setup: &Setup, run: &Run) -> Result<i32, Failure> {
    let create = &run.create;
    let (id, config, root) = prepare(setup, create)?;
    let mut options = options(setup, create, &root)?;
    // With hooks there is something to be done between create and start.
    options.start = !config.hooks.before_start();
    let pid_file = create.pid_file.as_deref();
    if run.detach {
        options.attached = false;
        if options.console == Console::Caller {
            options.console = Console::Nobody;
        }
        container::run_detached(&root, &id, &config, &options, pid_file)?;
        return Ok(0);
    }
    Ok(container::run(&root, &id, &config, &options, pid_file)?)
}

/// `create`
pub(crate) fn create(setup: &Setup, create: &Create) -> Result<i32, Failure> {
    let (id, config, root) = prepare(setup, create)?;
    let mut options = options(setup, create, &root)?;
    options.attached = false;
    options.start = false;
    if options.console == Console::Caller {
        options.console = Console::Nobody;
    }
    container::create(&root, &id, &config, &options, create.pid_file.as_deref())?;
    Ok(0)
}

fn prepare(
    setup: &Setup,
    create: &Create,
) -> Result<(ContainerId, config::Config, StateRoot), Failure> {
    let id = ContainerId::new(&create.id).map_err(LaunchError::from)?;
    let config = config::load(&create.bundle)?;
    Ok((id, config, setup.state_root()?))
}

fn options(setup: &Setup, create: &Create, root: &StateRoot) -> Result<Options<'static>, Failure> {
    let mut options = setup.options(root, Overlay::None)?;
    options.preserve_fds = create.preserve_fds;
    if let Some(path) = &create.console_socket {
        options.console = Console::Socket(path.clone());
    }
    Ok(options)
}

pub(crate) fn open(setup: &Setup, id: &str) -> Result<Container, LaunchError> {
    let id = ContainerId::new(id)?;
    let root = setup.state_root()?;
    root.collect();
    Container::open(&root, &id)
}

/// `start`
pub(crate) fn start(setup: &Setup, id: &str) -> Result<i32, Failure> {
    open(setup, id)?.start()?;
    Ok(0)
}

/// `state`
pub(crate) fn state(setup: &Setup, id: &str) -> Result<i32, Failure> {
    let state = open(setup, id)?.to_json();
    print(&format!("{state:#}\n"));
    Ok(0)
}

/// `pause`
pub(crate) fn pause(setup: &Setup, id: &str) -> Result<i32, Failure> {
    open(setup, id)?.pause()?;
    Ok(0)
}

/// `resume`
pub(crate) fn resume(setup: &Setup, id: &str) -> Result<i32, Failure> {
    open(setup, id)?.resume()?;
    Ok(0)
}

/// `checkpoint`
pub(crate) fn checkpoint(setup: &Setup, id: &str) -> Result<i32, Failure> {
    open(setup, id)?.checkpoint()?;
    Ok(0)
}

/// `kill`
pub(crate) fn kill(setup: &Setup, kill: &Kill) -> Result<i32, Failure> {
    let Some(signal) = signal_number(&kill.signal) else {
        return Err(Failure::new(format!(
            "`{}` is no signal; give a name such as TERM or SIGTERM, or a number from 1 to 64",
            kill.signal
        )));
    };
    let mut container = open(setup, &kill.id)?;
    match kill.pid {
        Some(pid) => container.kill_process(pid, signal)?,
        None => container.kill(signal, kill.all)?,
    }
    Ok(0)
}

/// `delete`
pub(crate) fn delete(setup: &Setup, delete: &Delete) -> Result<i32, Failure> {
    match open(setup, &delete.id) {
        Err(LaunchError::State(StateError::Missing { .. })) if delete.force => {}
        container => container?.delete(delete.force)?,
    }
    Ok(0)
}

/// `dump`
pub(crate) fn dump(setup: &Setup, id: &str) -> Result<i32, Failure> {
    print(&open(setup, id)?.dump()?);
    Ok(0)
}

/// `spec`
pub(crate) fn spec(setup: &Setup, spec: &Spec) -> Result<i32, Failure> {
    let path = spec.bundle.join("config.json");
    let failed = |e: &dyn std::fmt::Display| {
        Failure::new(format!(
            "cannot write {}: {e}; choose a directory with --bundle",
            path.display()
        ))
    };
    let text = config::example(setup.identity.rootless).map_err(|e| failed(&e))?;
    // One that is there is somebody's work.
    std::fs::File::create_new(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|e| failed(&e))?;
    Ok(0)
}

/// To standard output; a reader that is gone is no failure.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _unread = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn signal_number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Some(n) = name
        .strip_prefix("RTMIN+")
        .and_then(|n| n.parse::<i32>().ok())
    {
        return (0..=30).contains(&n).then_some(34 + n);
    }
    Signal::from_str(&format!("SIG{name}"))
        .ok()
        .map(|s| s as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_go_by_name_and_number() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("64", 64),
        ] {
            assert_eq!(signal_number(text), Some(number), "{text}");
        }
        assert_eq!(signal_number("RTMIN+1"), Some(35));
        for text in ["0", "65", "-1", "", "SIGNONE"] {
            assert_eq!(signal_number(text), None, "{text}");
        }
    }
}
