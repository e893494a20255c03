//! `exec`: a further program in a running container.

use crate::args::Exec;
use crate::lifecycle::open;
use crate::setup::{Failure, Setup};
use launcher::sandbox::Console;
use launcher::{ProcessSpec, config, exec};

/// Runs it; its exit status.
pub(crate) fn run(setup: &Setup, exec: Exec) -> Result<i32, Failure> {
    exec.cgroup.iter().try_for_each(|path| own_group(path))?;
    let container = open(setup, &exec.id)?;
    let process = match &exec.process {
        Some(path) => ProcessSpec {
            // The container's, whatever runs in it.
            seccomp: container.process().seccomp.clone(),
            personality: container.process().personality,
            ..config::load_process(path)?
        },
        None => process(&exec, container.process())?,
    };
    let console = match (exec.console_socket, exec.detach) {
        (Some(_), false) => {
            return Err(Failure::new(
                "--console-socket gives the terminal away, which --detach must go with; leave it \
                 out to use this terminal",
            ));
        }
        (Some(_), true) if !process.terminal => {
            return Err(Failure::new(
                "--console-socket is for a terminal, and the process has none; give --tty, or set \
                 `terminal` in --process's file",
            ));
        }
        (Some(path), true) => Console::Socket(path),
        (None, true) => Console::Nobody,
        (None, false) => Console::Caller,
    };
    Ok(container.exec(&exec::Options {
        process,
        console,
        detach: exec.detach,
        pid_file: exec.pid_file,
        preserve_fds: exec.preserve_fds,
        ignore_paused: exec.ignore_paused,
    })?)
}

/// Refuses all groups but the container's own, of which its programs see nothing but a root without
/// groups below.
fn own_group(path: &str) -> Result<(), Failure> {
    if path.split('/').all(|name| matches!(name, "" | ".")) {
        return Ok(());
    }
    Err(Failure::new(match path.split_once(':') {
        Some((controllers, _)) => format!(
            "--cgroup {path}: there is no hierarchy `{controllers}` in the container, which sees \
             control groups of version 2; give --cgroup / or leave it out"
        ),
        None => format!(
            "--cgroup {path}: the container has no such control group: its own has none below it, \
             and others it cannot join; give --cgroup / or leave it out"
        ),
    }))
}

/// What was asked for, and the rest as the container's own process has it.
fn process(exec: &Exec, own: &ProcessSpec) -> Result<ProcessSpec, Failure> {
    if exec.command.is_empty() {
        return Err(Failure::new(
            "say what to run: `ringfence exec ID PROGRAM [ARGUMENT…]`, or --process FILE",
        ));
    }
    let mut process = own.clone();
    process.args.clone_from(&exec.command);
    process.terminal = exec.tty;
    process.console_size = None;
    process.mortal = false;
    for variable in &exec.env {
        let Some((name, _)) = variable.split_once('=') else {
            return Err(Failure::new(format!(
                "--env {variable} is no variable; give NAME=VALUE"
            )));
        };
        process
            .env
            .retain(|e| e.split_once('=').is_none_or(|(n, _)| n != name));
        process.env.push(variable.clone());
    }
    if let Some(cwd) = &exec.cwd {
        if !cwd.starts_with('/') {
            return Err(Failure::new(format!(
                "--cwd {cwd} is not an absolute path inside the container"
            )));
        }
        process.cwd.clone_from(cwd);
    }
    if let Some(user) = &exec.user {
        let (uid, gid) = user
            .split_once(':')
            .map_or((&**user, None), |(u, g)| (u, Some(g)));
        let number = |text: &str| {
            text.parse::<u32>().map_err(|_| {
                Failure::new(format!(
                    "--user {user} is not UID or UID:GID in numbers; names are the image's business"
                ))
            })
        };
        process.uid = number(uid)?;
        if let Some(gid) = gid {
            process.gid = number(gid)?;
        }
    }
    process.groups.extend(&exec.additional_gids);
    for name in &exec.cap {
        if !config::add_capability(&mut process.capabilities, name) {
            return Err(Failure::new(format!(
                "--cap {name} is no capability; give a name such as CAP_NET_RAW"
            )));
        }
    }
    process.no_new_privs |= exec.no_new_privs;
    Ok(process)
}
