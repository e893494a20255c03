//! Bringing a container's processes up: the gofer, and the sandbox process with a kernel in it.
//!
//! The order: the container's directory and control socket; descriptors; both processes, in
//! parallel; their id maps; one message to each; then the sandbox's answer. Every step is undone,
//! last first, when a later one fails: each is held by a value that undoes it when dropped.

use crate::attach::Signals;
use crate::cgroup::Group;
use crate::client;
use crate::config::{Config, Source, field};
use crate::confine::{CAPABILITIES_TO_CONFINE, GOFER_CAPABILITIES};
use crate::console::{self, Pair};
use crate::donation::Donations;
use crate::error::LaunchError;
use crate::identity::{IdMaps, Identity, NOBODY};
use crate::spawn::{Process, SpawnError, Spawner, Start, errno, host};
use crate::state::ContainerDir;
use crate::{seccomp, step, sys};
use control::ChannelError;
use control::boot::{
    BootArgs, BootReply, DebugSpec, FdIndex, LET_GO, MountSource, MountSpec, OverlayMode,
    ProcessSpec, RootSpec,
};
use control::gofer::{GoferArgs, Tree};
use control::message::Failure;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use platform_api::{HostRule, Platform};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Most descriptors of the caller's that a container gets. With those of its trees and a dozen of
/// ours they fit into one message, which holds [`control::MAX_FDS`].
const MAX_PRESERVED: u32 = 100;
/// Most trees that one gofer serves, the root and the bind mounts: each takes two descriptors of
/// the message to it.
const MAX_TREES: usize = 120;

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

/// What the gofer serves, in the making.
struct Trees {
    paths: Vec<CString>,
    /// The rest of each, still without descriptors.
    trees: Vec<(bool, bool, String)>,
    /// The sandbox's ends.
    ends: Vec<OwnedFd>,
    gofer_ends: Vec<OwnedFd>,
}

impl Trees {
    fn add(&mut self, path: &Path, readonly: bool) -> Result<usize, LaunchError> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::Stream,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .map_err(host("make a socket pair"))?;
        let bytes = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| host("use a path with a NUL byte")(nix::errno::Errno::EINVAL))?;
        self.paths.push(bytes);
        self.trees
            .push((path.is_dir(), readonly, path.display().to_string()));
        self.ends.push(ours);
        self.gofer_ends.push(theirs);
        Ok(self.ends.len() - 1)
    }
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

    // What the gofer serves: the root first.
    let mut trees = Trees {
        paths: vec![],
        trees: vec![],
        ends: vec![],
        gofer_ends: vec![],
    };
    // Below an overlay the container's own files are never written.
    let below = options.overlay != Overlay::None;
    trees.add(&config.root, config.root_readonly || below)?;
    let mut bound = Vec::new();
    for mount in &config.mounts {
        bound.push(match &mount.source {
            Source::Bind(path) => Some(trees.add(path, mount.flags.readonly)?),
            Source::Kernel { .. } => None,
        });
    }
    if trees.ends.len() > MAX_TREES {
        let problem = format!(
            "{} bind mounts are more than can be served; at most {} are possible",
            trees.ends.len() - 1,
            MAX_TREES - 1
        );
        return Err(field("mounts", problem).into());
    }
    let directories: Vec<bool> = trees.trees.iter().map(|t| t.0).collect();

    let terminal = terminal(config, options)?;
    // The sandbox process first: it has more to do before the two meet.
    let mut process = spawner.start(sandbox_start(options, terminal.as_ref()))?;
    step::reached("create-sandbox-cloned");
    // Into the group before they do anything: what they start is born into it.
    if let Some(group) = group {
        group.add(process.pid)?;
    }
    process.admit(Some(&IdMaps::sandbox(&options.identity)))?;
    step::reached("create-sandbox-admitted");
    let mut gofer = spawner.start(gofer_start(options, config, &mut trees))?;
    step::reached("create-gofer-cloned");
    if let Some(group) = group {
        group.add(gofer.pid)?;
    }
    gofer.admit(gofer_maps(options, config).as_ref())?;
    step::reached("create-gofer-admitted");

    // The message to the sandbox process.
    let connections: Vec<FdIndex> = std::mem::take(&mut trees.ends)
        .into_iter()
        .map(|end| donations.give("gofer connection", end))
        .collect();
    let connection = |n: usize| connections.get(n).copied().unwrap_or(FdIndex(u32::MAX));
    let mounts = config
        .mounts
        .iter()
        .zip(&bound)
        .map(|(mount, n)| MountSpec {
            destination: mount.destination.clone(),
            source: match (&mount.source, n) {
                (Source::Bind(path), Some(n)) => MountSource::Bind {
                    connection: connection(*n),
                    directory: directories.get(*n).copied().unwrap_or(true),
                    path: path.display().to_string(),
                },
                (Source::Bind(path), None) => MountSource::Inside {
                    path: path.display().to_string(),
                },
                (Source::Kernel { fstype, device }, _) => MountSource::Kernel {
                    fstype: fstype.clone(),
                    device: device.clone(),
                },
            },
            flags: mount.flags,
            data: mount.data.clone(),
        });
    let mounts = mounts.collect();
    let overlay = match options.overlay {
        Overlay::None => OverlayMode::None,
        Overlay::Memory => OverlayMode::Memory,
        Overlay::SelfBacked => {
            OverlayMode::SelfBacked(donations.give("overlay file", overlay_file(&config.bundle)?))
        }
    };
    let mut stdio = [None; 3];
    let mut console = None;
    if let Some(pair) = &terminal {
        console = Some(donations.give("terminal", share_replica(pair)?));
    } else if !config.process.terminal {
        stdio = donations
            .stdio()
            .map_err(|e| host("share stdio")(errno(&e)))?;
    }
    let preserved = preserve(&mut donations, options.preserve_fds)?;
    let device = options
        .platform
        .open_device(options.platform_device.as_deref())?
        .map(|fd| donations.give("device", fd));
    let log = log_file(&options.debug, "boot")?.map(|f| donations.give("log", f.into()));
    let mut rules = options.sentry_rules.clone();
    rules.extend(options.platform.host_rules());
    let args = BootArgs {
        container: container.id().to_string(),
        hostname: config.hostname.clone(),
        domainname: config.domainname.clone(),
        process: ProcessSpec {
            console_size: terminal
                .as_ref()
                .and_then(|pair| console::size(pair.replica.as_fd())),
            ..config.process.clone()
        },
        root: RootSpec {
            connection: connection(0),
            overlay,
            readonly: config.root_readonly,
        },
        mounts,
        masked_paths: config.masked_paths.clone(),
        readonly_paths: config.readonly_paths.clone(),
        sysctls: config.sysctls.clone(),
        platform: options.platform.name().to_owned(),
        device,
        cpus: config.cpus,
        memory_limit: config.memory_limit,
        pids_limit: config.pids_limit,
        stdio,
        console,
        preserved,
        control: Some(control),
        seccomp: seccomp::compile(&rules, options.debug.verbose)?,
        attached: options.attached,
        start: options.start,
        debug: DebugSpec {
            log,
            verbose: options.debug.verbose,
            json: options.debug.json,
            strace: options.debug.strace,
        },
    };
    let sent = process.channel.send(&args, &donations.borrow());
    talked("sandbox process", sent, &mut process)?;
    step::reached("create-sandbox-told");
    send_to_gofer(container, config, options, &mut gofer, trees)?;
    step::reached("create-gofer-told");
    if let (Some(pair), Console::Socket(path)) = (&terminal, &options.console) {
        pair.send_master(path)?;
    }
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

/// A second descriptor of a terminal's replica.
pub(crate) fn share_replica(pair: &Pair) -> Result<OwnedFd, SpawnError> {
    let replica = pair.replica.try_clone();
    replica.map_err(|e| host("share the terminal")(errno(&e)))
}

/// Donates our descriptors from 3 on.
pub(crate) fn preserve(donations: &mut Donations, count: u32) -> Result<Vec<FdIndex>, LaunchError> {
    if count > MAX_PRESERVED {
        return Err(LaunchError::ManyPreserved {
            asked: count,
            most: MAX_PRESERVED,
        });
    }
    let one = |number: u32| {
        let fd = i32::try_from(number)
            .ok()
            .and_then(|n| sys::inherited(n).ok());
        let fd = fd.ok_or(LaunchError::PreservedFd { number })?;
        let given = donations.share("preserved descriptor", fd);
        Ok(given.map_err(|e| host("share a descriptor")(errno(&e)))?)
    };
    (3..3 + count).map(one).collect()
}

fn talked(
    who: &'static str,
    sent: Result<(), ChannelError>,
    process: &mut Process,
) -> Result<(), LaunchError> {
    match sent {
        Ok(()) => Ok(()),
        Err(ChannelError::Closed) => Err(LaunchError::Ended {
            who,
            how: process.last_words(),
        }),
        Err(source) => Err(LaunchError::Talk { who, source }),
    }
}

fn terminal(config: &Config, options: &Options<'_>) -> Result<Option<Pair>, LaunchError> {
    if !config.process.terminal {
        return Ok(None);
    }
    if options.console == Console::Nobody {
        return Err(console::ConsoleError::Nobody.into());
    }
    let size = sys::borrow(0).ok().and_then(console::size);
    Ok(Some(Pair::new(config.process.console_size.or(size))?))
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

fn gofer_maps(options: &Options<'_>, config: &Config) -> Option<IdMaps> {
    match (options.identity.rootless, config.as_caller) {
        (true, true) => Some(IdMaps::rootless_self(&options.identity)),
        (true, false) => Some(IdMaps::rootless_container(&options.identity)),
        (false, _) => config.id_maps.clone(),
    }
}

fn gofer_start<'a>(options: &Options<'_>, config: &Config, trees: &mut Trees) -> Start<'a> {
    // Without a network namespace of its own: its filter knows no sockets but those it has.
    let mut namespaces =
        libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWPID;
    let maps = gofer_maps(options, config);
    let mut become_ids = None;
    if maps.is_some() {
        namespaces |= libc::CLONE_NEWUSER;
        // Inside, the caller or the spec's root.
        if !(options.identity.rootless && config.as_caller) {
            become_ids = Some((0, 0));
        }
    }
    // Only in a namespace that has them can mounts be opened; root has them here already, and
    // perhaps not there.
    let paths = match options.identity.rootless {
        true => std::mem::take(&mut trees.paths),
        false => Vec::new(),
    };
    Start {
        role: "gofer",
        attached: options.attached,
        namespaces,
        become_ids,
        drop_groups: !options.identity.rootless,
        keep: GOFER_CAPABILITIES | CAPABILITIES_TO_CONFINE,
        terminal: None,
        trees: paths,
    }
}

fn send_to_gofer(
    container: &ContainerDir,
    config: &Config,
    options: &Options<'_>,
    gofer: &mut Process,
    trees: Trees,
) -> Result<(), LaunchError> {
    let roots = if options.identity.rootless {
        match sys::receive_trees(gofer.channel.socket()) {
            Ok(roots) => roots,
            Err(_) => {
                return Err(LaunchError::Ended {
                    who: "gofer",
                    how: gofer.last_words(),
                });
            }
        }
    } else {
        let open = |path: &CString| sys::open_tree(path).map_err(host("open a tree for the gofer"));
        trees.paths.iter().map(open).collect::<Result<_, _>>()?
    };
    let mut donations = Donations::new("gofer");
    let parts = trees.trees.into_iter().zip(roots).zip(trees.gofer_ends);
    let trees = parts
        .map(|(((directory, readonly, name), root), end)| Tree {
            root: donations.give("tree", root),
            connection: donations.give("sandbox connection", end),
            directory,
            readonly,
            name,
        })
        .collect();
    let log = log_file(&options.debug, "gofer")?.map(|f| donations.give("log", f.into()));
    let args = GoferArgs {
        container: container.id().to_string(),
        trees,
        seccomp: Vec::new(),
        log,
        debug: options.debug.verbose,
        privileged: !(options.identity.rootless && config.as_caller),
    };
    let sent = gofer.channel.send(&args, &donations.borrow());
    talked("gofer", sent, gofer)
}

/// A file without a name in the bundle.
fn overlay_file(bundle: &Path) -> Result<OwnedFd, LaunchError> {
    let open = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .mode(0o600)
        .open(bundle);
    match open {
        Ok(file) => Ok(file.into()),
        Err(source) => Err(LaunchError::OverlayFile {
            path: bundle.to_owned(),
            source,
        }),
    }
}

/// The log file of one process, to append to.
fn log_file(debug: &Debug, process: &str) -> Result<Option<File>, LaunchError> {
    let Some(dir) = &debug.dir else {
        return Ok(None);
    };
    append_log(dir, process).map(Some)
}

/// The same in a given directory.
pub(crate) fn append_log(dir: &Path, process: &str) -> Result<File, LaunchError> {
    let path = dir.join(format!("{process}.log"));
    std::fs::create_dir_all(dir)
        .and_then(|()| File::options().create(true).append(true).open(&path))
        .map_err(|source| LaunchError::DebugLog { path, source })
}
