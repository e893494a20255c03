//! `do`: a command without an image.

use crate::args::Do;
use crate::setup::{Failure, Setup};
use launcher::config::Command;
use launcher::sandbox::Overlay;
use launcher::{ContainerId, container, state};
use std::io::IsTerminal;

/// Runs it; its exit status.
pub(crate) fn run(setup: &Setup, run: Do) -> Result<i32, Failure> {
    let env = std::env::vars_os()
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_str()?, value.to_str()?)));
    let config = Command {
        args: run.command,
        root: run.root,
        cwd: run.cwd.or_else(|| std::env::current_dir().ok()),
        env: env.collect(),
        terminal: std::io::stdin().is_terminal() && std::io::stdout().is_terminal(),
        ids: (setup.identity.uid, setup.identity.gid),
        groups: nix::unistd::getgroups()
            .map(|groups| groups.into_iter().map(nix::unistd::Gid::as_raw).collect())
            .unwrap_or_default(),
        memory_limit: run.memory,
    };
    let config = config.config()?;
    let root = setup.state_root()?;
    let options = setup.options(&root, Overlay::Memory)?;
    let name = format!("do-{}-{}", std::process::id(), state::now().as_micros());
    let id = ContainerId::new(&name).map_err(launcher::LaunchError::from)?;
    Ok(container::run(&root, &id, &config, &options, None)?)
}
