//! Bringing a container's processes up: the gofer, and the sandbox process with a kernel in it.
//!
//! The order: the container's directory and control socket; descriptors; both processes, in
//! parallel; their id maps; one message to each; then the sandbox's answer. Every step is undone,
//! last first, when a later one fails: each is held by a value that undoes it when dropped.

use crate::attach::Signals;
use crate::cgroup::Group;
use crate::client;
use crate::config::Config;
use crate::confine::CAPABILITIES_TO_CONFINE;
use crate::console::Pair;
use crate::donation::Donations;
use crate::error::LaunchError;
use crate::identity::{IdMaps, Identity, NOBODY};
use crate::prepare::{self, Prepared, log_file};
use crate::seccomp;
use crate::spawn::{Process, Spawner, Start, host};
use crate::state::ContainerDir;
use crate::step;
use control::ChannelError;
use control::boot::{BootArgs, BootReply, DebugSpec, LET_GO};
use control::message::Failure;
use platform_api::{HostRule, Platform};
use std::os::fd::AsFd;
use std::path::PathBuf;

/// What stands above the container's own files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlay {
    /// Nothing.
    None,
    /// A throw-away layer in memory.
    Memory,
    /// A throw-away layer in a file of the bundle's directory, without a name.
    SelfBacked,
}

/// Who holds the container's terminal, when it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Console {
    /// The one who listens at this socket gets it.
    Socket(PathBuf),
    /// The caller gets it back.
    Caller,
    /// Nobody: such a container is refused.
    Nobody,
}

/// Debugging aids.
#[derive(Clone, Debug, Default)]
pub struct Debug {
    /// Directory for one log file for each process.
    pub dir: Option<PathBuf>,
    /// More of it; and forbidden host calls are reported before they kill.
    pub verbose: bool,
    /// As JSON.
    pub json: bool,
    /// Log each system call of the guest.
    pub strace: bool,
}

/// How a container is brought up.
pub struct Options<'a> {
    /// The caller.
    pub identity: Identity,
    /// How guest code is run.
    pub platform: &'a dyn Platform,
    /// Where its device is, if not at the usual path.
    pub platform_device: Option<PathBuf>,
    /// The host calls the sentry makes; the platform's own are added.
    pub sentry_rules: Vec<HostRule>,
    /// Those that it makes beside to profile itself; without them it refuses to. They widen the
    /// filter for good.
    pub profile_rules: Option<Vec<HostRule>>,
    /// What stands above the container's files.
    pub overlay: Overlay,
    /// Whether it ends with this process.
    pub attached: bool,
    /// Whether the root process is started at once.
    pub start: bool,
    /// Who holds its terminal.
    pub console: Console,
    /// How many of our descriptors, from 3 on, it gets.
    pub preserve_fds: u32,
    /// Whether the caller named the platform, rather than let one be chosen.
    pub platform_named: bool,
    /// Whether `cgroupsPath` has systemd's form.
    pub systemd_cgroup: bool,
    /// Debugging aids.
    pub debug: Debug,
}

/// The processes of a container that just came up. Dropped without being let go, they are
/// killed.
pub struct Sandbox {
    pub(crate) process: Process,
    pub(crate) gofer: Process,
    /// The terminal, with [`Console::Caller`].
    pub(crate) terminal: Option<Pair>,
}

/// The processes run, and the sandbox process boots.
pub(crate) struct Booting {
    pub(crate) sandbox: Sandbox,
}

/// Starts both processes and sends them their messages.
pub(crate) fn boot(
    container: &ContainerDir,
    config: &Config,
    options: &Options<'_>,
    group: Option<&Group>,
) -> Result<Booting, LaunchError> {
    let spawner = Spawner::new()?;
    if !options.identity.rootless {
        spawner.check_permissions(options.platform)?;
    }
    let mut donations = Donations::new("sandbox");
    let control = client::listener(container).map_err(host("make the control socket"))?;
    let control = donations.give("control socket", control);
    let mut prepared = Prepared::new(config, options, donations)?;
    // The sandbox process first: it has more to do before the two meet.
    let mut process = spawner.start(sandbox_start(options, prepared.terminal.as_ref()))?;
    step::reached("create-sandbox-cloned");
    // Into the group before they do anything: what they start is born into it.
    if let Some(group) = group {
        group.add(process.pid)?;
    }
    process.admit(Some(&IdMaps::sandbox(&options.identity)))?;
    step::reached("create-sandbox-admitted");
    let mut gofer = prepared.start_gofer(&spawner, config, options, group)?;

    // The message to the sandbox process.
    let spec = prepared.spec(container.id(), config, options)?;
    let donations = &mut prepared.donations;
    let device = options
        .platform
        .open_device(options.platform_device.as_deref())?
        .map(|fd| donations.give("device", fd));
    let log = log_file(&options.debug, "boot")?.map(|f| donations.give("log", f.into()));
    let coverage = coverage::file_for("boot").map(|f| donations.give("coverage", f.into()));
    let mut rules = options.sentry_rules.clone();
    rules.extend(options.platform.host_rules());
    rules.extend(options.profile_rules.iter().flatten().cloned());
    let args = BootArgs {
        container: spec,
        platform: options.platform.name().to_owned(),
        device,
        control: Some(control),
        seccomp: seccomp::compile(&rules, options.debug.verbose)?,
        attached: options.attached,
        start: options.start,
        debug: DebugSpec {
            log,
            verbose: options.debug.verbose,
            json: options.debug.json,
            strace: options.debug.strace,
            profile: options.profile_rules.is_some(),
            coverage,
        },
    };
    let sent = process.channel.send(&args, &donations.borrow());
    prepare::talked("sandbox process", sent, &mut process)?;
    step::reached("create-sandbox-told");
    prepared.send_to_gofer(container.id(), config, options, &mut gofer)?;
    step::reached("create-gofer-told");
    let terminal = prepared.hand_out_terminal(options)?;
    let terminal = terminal.filter(|_| options.console == Console::Caller);
    Ok(Booting {
        sandbox: Sandbox {
            process,
            gofer,
            terminal,
        },
    })
}

impl Booting {
    /// Waits for the sandbox's answer, or for somebody who has had enough of it.
    pub(crate) fn finish(mut self, signals: Option<&Signals>) -> Result<Sandbox, LaunchError> {
        let sandbox = &mut self.sandbox;
        if let Some(signals) = signals
            && let Some(signal) = signals.wait_unless_ready(sandbox.process.channel.socket())
        {
            return Err(LaunchError::Interrupted { signal });
        }
        match sandbox.process.channel.recv::<BootReply>() {
            Ok((BootReply::Ready | BootReply::Started, _)) => Ok(self.sandbox),
            Ok((BootReply::Failed(failure), _)) => Err(sandbox.refused(failure)),
            Ok(_) => Err(sandbox.refused(Failure::new(
                control::message::FailureKind::Internal,
                "the sandbox gave an answer that this ringfence does not know",
            ))),
            Err(ChannelError::Closed | ChannelError::Short) => Err(LaunchError::Ended {
                who: "sandbox process",
                how: sandbox.explain(),
            }),
            Err(e) => Err(LaunchError::Talk {
                who: "sandbox process",
                source: e,
            }),
        }
    }
}

impl Sandbox {
    /// The boot failed with an answer; what the gofer said may be the cause.
    fn refused(&mut self, failure: Failure) -> LaunchError {
        let gofer = self.gofer.words();
        if !gofer.is_empty() {
            tracing::error!("the gofer said: {gofer}");
        }
        LaunchError::Refused(client::checked(failure))
    }

    /// What both processes left behind.
    fn explain(&mut self) -> String {
        let mut text = self.process.last_words();
        let gofer = self.gofer.words();
        if !gofer.is_empty() {
            text.push_str("; the gofer said: ");
            text.push_str(&gofer);
        }
        text
    }

    /// Ends both.
    pub(crate) fn end(&mut self) {
        self.process.end();
        self.gofer.end();
    }

    /// Lets both run on without us.
    pub(crate) fn let_go(&mut self) {
        // One that ended meanwhile is stopped, and no failure of ours.
        if let Err(e) = nix::unistd::write(self.process.channel.socket(), &[LET_GO]) {
            tracing::debug!("the sandbox does not hear that it is let go: {e}");
        }
        self.process.let_go();
        self.gofer.let_go();
    }
}

fn sandbox_start<'a>(options: &Options<'_>, terminal: Option<&'a Pair>) -> Start<'a> {
    let own = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWNET;
    let pid = if options.platform.requires_current_pidns() {
        0
    } else {
        libc::CLONE_NEWPID
    };
    Start {
        role: "boot",
        attached: options.attached,
        namespaces: own | pid,
        become_ids: Some((NOBODY, NOBODY)),
        drop_groups: !options.identity.rootless,
        keep: CAPABILITIES_TO_CONFINE,
        terminal: terminal.map(|t| t.replica.as_fd()),
        trees: Vec::new(),
    }
}
