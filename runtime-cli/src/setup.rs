//! From the command line to what the launcher takes.

use crate::args::{Cli, Command, Global, Network, Overlay, Rootless, Switch};
use crate::{Build, command, debug, exec, features, help, lifecycle, list, observe};
use crate::{platform_list, update};
use launcher::identity::Identity;
use launcher::sandbox::{self, Console, Debug, Options};
use launcher::{EXIT_FAILURE, LaunchError, StateRoot};
use std::path::{Path, PathBuf};

/// Why a command failed, and with which status.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) text: String,
    pub(crate) code: i32,
}

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Failure {
        Failure {
            text: text.into(),
            code: EXIT_FAILURE,
        }
    }
}

impl<E: Into<LaunchError>> From<E> for Failure {
    fn from(error: E) -> Failure {
        let error = error.into();
        Failure {
            text: error.to_string(),
            code: error.exit_code(),
        }
    }
}

/// The caller's world.
pub(crate) struct Setup {
    pub(crate) global: Global,
    pub(crate) identity: Identity,
    root: Option<PathBuf>,
}

/// Runs the command. The exit status.
pub(crate) fn dispatch(build: &Build, cli: Cli) -> Result<i32, Failure> {
    let forced = cli.global.rootless == Rootless::True;
    let identity = Identity::current(forced);
    if identity.uid != 0 && cli.global.rootless == Rootless::False {
        return Err(Failure::new(
            "an ordinary user cannot do without --rootless; leave --rootless=false out, or be root",
        ));
    }
    let setup = Setup {
        global: cli.global,
        identity,
        root: cli.root,
    };
    match cli.command {
        Command::Run(run) => lifecycle::run(&setup, &run),
        Command::Do(run) => command::run(&setup, run),
        Command::Create(create) => lifecycle::create(&setup, &create),
        Command::Start(id) => lifecycle::start(&setup, &id.id),
        Command::Exec(exec) => exec::run(&setup, exec),
        Command::State(id) => lifecycle::state(&setup, &id.id),
        Command::Update(update) => update::run(&setup, &update),
        Command::Pause(id) => lifecycle::pause(&setup, &id.id),
        Command::Resume(id) => lifecycle::resume(&setup, &id.id),
        Command::Checkpoint(image) => lifecycle::checkpoint(&setup, &image.id),
        Command::Restore(_) => Err(Failure::new("restore is not supported yet")),
        Command::Features => features::run(build),
        Command::Kill(kill) => lifecycle::kill(&setup, &kill),
        Command::Delete(delete) => lifecycle::delete(&setup, &delete),
        Command::Debug(what) => debug::run(&setup, &what),
        Command::Dump(id) => lifecycle::dump(&setup, &id.id),
        Command::List(how) => list::run(&setup, &how),
        Command::Ps(ps) => observe::ps(&setup, &ps),
        Command::Events(events) => observe::events(&setup, &events),
        Command::Wait(id) => observe::wait(&setup, &id.id),
        Command::Spec(spec) => lifecycle::spec(&setup, &spec),
        Command::Platforms => platform_list::run(setup.global.platform_device.as_deref()),
        Command::Help(topic) => help::run(build, &topic.topic),
    }
}

impl Setup {
    /// The directory of state.
    pub(crate) fn state_root(&self) -> Result<StateRoot, LaunchError> {
        let default;
        let path: &Path = match &self.root {
            Some(path) => path,
            None => {
                default = self.identity.default_state_root();
                &default
            }
        };
        Ok(StateRoot::open(path)?)
    }

    /// How a container is brought up.
    pub(crate) fn options(
        &self,
        root: &StateRoot,
        overlay: sandbox::Overlay,
    ) -> Result<Options<'static>, Failure> {
        if self.global.network != Network::None {
            return Err(Failure::new(format!(
                "--network {} is not there yet; only `none` is: a loopback interface and nothing \
                 else",
                if self.global.network == Network::Host {
                    "host"
                } else {
                    "sandbox"
                }
            )));
        }
        let overlay = match self.global.overlay {
            None => overlay,
            Some(Overlay::None) => sandbox::Overlay::None,
            Some(Overlay::Memory) => sandbox::Overlay::Memory,
            Some(Overlay::SelfBacked) => sandbox::Overlay::SelfBacked,
        };
        Ok(Options {
            identity: self.identity,
            platform: launcher::platform::choose(
                &self.global.platform,
                self.global.platform_device.as_deref(),
                root,
            )?,
            platform_device: self.global.platform_device.clone(),
            sentry_rules: boot::seccomp::sentry_rules(),
            profile_rules: self.global.profile.then(boot::seccomp::profile_rules),
            overlay,
            attached: true,
            start: true,
            console: Console::Caller,
            preserve_fds: 0,
            platform_named: self.global.platform != "auto",
            systemd_cgroup: self.global.systemd_cgroup,
            debug: Debug {
                dir: self.global.debug_log.clone(),
                verbose: self.global.debug,
                json: self.global.log_format == crate::args::LogFormat::Json,
                strace: self.global.strace == Some(Switch::On),
            },
        })
    }
}
