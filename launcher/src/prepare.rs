//! What a container gets of the host: its trees and their gofer, its streams or terminal, and the
//! description that goes with them. The same for one that starts a sandbox and one that joins it.

use crate::cgroup::Group;
use crate::config::{Config, Mount, Source, apply_mount_option, field};
use crate::confine::{CAPABILITIES_TO_CONFINE, GOFER_CAPABILITIES};
use crate::console::{self, Pair};
use crate::donation::Donations;
use crate::error::LaunchError;
use crate::id::ContainerId;
use crate::identity::IdMaps;
use crate::sandbox::{Console, Debug, Options, Overlay};
use crate::spawn::{Process, SpawnError, Spawner, Start, errno, host};
use crate::submounts::{self, Submount};
use crate::sys::{Atime, Found, TreePath};
use crate::{step, sys};
use control::ChannelError;
use control::boot::{
    ContainerSpec, FdIndex, MountFlags, MountSource, MountSpec, OverlayMode, ProcessSpec, RootSpec,
};
use control::gofer::{self, GoferArgs};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Most descriptors of the caller's that a container gets. With those of its trees and a dozen of
/// ours they fit into one message, which holds [`control::MAX_FDS`].
const MAX_PRESERVED: u32 = 100;
/// Most trees that one gofer serves, the root and the bind mounts: each takes two descriptors of
/// the message to it.
const MAX_TREES: usize = 120;

/// What the gofer is told of a tree.
struct Rest {
    directory: bool,
    below: bool,
    readonly: bool,
    name: String,
}

/// What the gofer serves, in the making.
struct Trees {
    paths: Vec<TreePath>,
    /// The rest of each, still without descriptors.
    trees: Vec<Rest>,
    /// The sandbox's ends.
    ends: Vec<OwnedFd>,
    gofer_ends: Vec<OwnedFd>,
}

impl Trees {
    fn add(&mut self, tree: Tree<'_>) -> Result<usize, LaunchError> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::Stream,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .map_err(host("make a socket pair"))?;
        let path = CString::new(tree.path.as_os_str().as_bytes())
            .map_err(|_| host("use a path with a NUL byte")(nix::errno::Errno::EINVAL))?;
        let name = tree.path.display().to_string();
        self.trees.push(Rest {
            directory: tree.directory,
            below: tree.found.is_some(),
            readonly: tree.readonly,
            name,
        });
        self.ends.push(ours);
        self.gofer_ends.push(theirs);
        self.paths.push(TreePath {
            path,
            found: tree.found,
            recursive: tree.recursive,
            atime: tree.atime,
        });
        Ok(self.ends.len() - 1)
    }

    /// Adds what `mount` binds, and what is mounted below it where that is bound, too, as mounts of
    /// their own after it, of which there is room for so many.
    fn bind(&mut self, mount: &Mount, room: usize) -> Result<Vec<Shown>, LaunchError> {
        let Source::Bind { path, recursive } = &mount.source else {
            return Ok(vec![Shown::named(mount, None)]);
        };
        let directory = path.is_dir();
        let found = match *recursive && directory {
            true => submounts::below(path),
            false => Ok(Vec::new()),
        };
        let unknown = found.is_err();
        let mut inner = found.unwrap_or_else(|e| {
            tracing::warn!(
                "what is mounted below {} is part of the mount on {}, with its options: the list \
                 of mounts cannot be read: {e}",
                path.display(),
                mount.destination
            );
            Vec::new()
        });
        let many = inner.len() > room;
        if many {
            tracing::warn!(
                "{} mounts are below {}, more than can be told apart: they are part of the one on \
                 {}, with its options",
                inner.len(),
                path.display(),
                mount.destination
            );
            inner.clear();
        }
        let tree = Tree {
            path,
            found: None,
            directory,
            readonly: mount.flags.readonly,
            recursive: many || unknown,
            atime: atime(&mount.flags, &MountFlags::default()),
        };
        let mut shown = vec![Shown::named(mount, Some(self.add(tree)?))];
        for Submount {
            path,
            below,
            flags: host,
            found,
            directory,
        } in inner
        {
            let mut flags = host;
            for option in &mount.recursive {
                apply_mount_option(&mut flags, option);
            }
            let tree = Tree {
                path: &path,
                found: Some(found),
                directory,
                readonly: flags.readonly,
                recursive: false,
                atime: atime(&flags, &host),
            };
            let tree = Some(self.add(tree)?);
            let mount = Mount {
                destination: format!("{}{below}", mount.destination.trim_end_matches('/')),
                source: Source::Bind {
                    path,
                    recursive: false,
                },
                flags,
                recursive: Vec::new(),
                propagation: Vec::new(),
                data: String::new(),
            };
            shown.push(Shown {
                mount,
                tree,
                brought: true,
            });
        }
        Ok(shown)
    }
}

/// How the host is to keep access times where `flags` are asked for, unless it does so.
fn atime(flags: &MountFlags, host: &MountFlags) -> Option<Atime> {
    let of = |f: &MountFlags| (f.noatime, f.strictatime, f.nodiratime);
    (of(flags) != of(host)).then_some(Atime {
        never: flags.noatime,
        always: flags.strictatime,
        not_of_directories: flags.nodiratime,
    })
}

/// A tree that is to be served.
struct Tree<'a> {
    path: &'a Path,
    /// Of a mount that config.json does not name.
    found: Option<Found>,
    directory: bool,
    readonly: bool,
    recursive: bool,
    atime: Option<Atime>,
}

struct Shown {
    mount: Mount,
    /// The tree it shows, if it shows one.
    tree: Option<usize>,
    /// Whether it came along with the bind mount before it.
    brought: bool,
}

impl Shown {
    /// One that config.json names.
    fn named(mount: &Mount, tree: Option<usize>) -> Shown {
        Shown {
            mount: mount.clone(),
            tree,
            brought: false,
        }
    }
}

/// A container's share of the host, in the making.
pub(crate) struct Prepared {
    /// What goes to the sandbox with the description.
    pub(crate) donations: Donations,
    trees: Trees,
    mounts: Vec<Shown>,
    pub(crate) terminal: Option<Pair>,
}

impl Prepared {
    pub(crate) fn new(
        config: &Config,
        options: &Options<'_>,
        donations: Donations,
    ) -> Result<Prepared, LaunchError> {
        // What the gofer serves: the root first.
        let mut trees = Trees {
            paths: vec![],
            trees: vec![],
            ends: vec![],
            gofer_ends: vec![],
        };
        // Below an overlay the container's own files are never written.
        let below = options.overlay != Overlay::None;
        trees.add(Tree {
            path: &config.root,
            found: None,
            directory: true,
            readonly: config.root_readonly || below,
            recursive: true,
            atime: None,
        })?;
        let bind = |mount: &&Mount| matches!(mount.source, Source::Bind { .. });
        let mut binds = config.mounts.iter().filter(bind).count();
        if binds >= MAX_TREES {
            let problem = format!(
                "{binds} bind mounts are more than can be served; at most {} are possible",
                MAX_TREES - 1
            );
            return Err(field("mounts", problem).into());
        }
        let mut mounts = Vec::new();
        for mount in &config.mounts {
            let room = MAX_TREES - trees.ends.len() - binds;
            mounts.extend(trees.bind(mount, room)?);
            binds -= usize::from(bind(&mount));
        }
        Ok(Prepared {
            donations,
            trees,
            mounts,
            terminal: terminal(config, options)?,
        })
    }

    /// Starts the gofer, in `group`.
    pub(crate) fn start_gofer(
        &mut self,
        spawner: &Spawner,
        config: &Config,
        options: &Options<'_>,
        group: Option<&Group>,
    ) -> Result<Process, LaunchError> {
        let gofer = spawner.start(gofer_start(options, config, &mut self.trees))?;
        step::reached("create-gofer-cloned");
        if let Some(group) = group {
            group.add(gofer.pid)?;
        }
        gofer.admit(gofer_maps(options, config).as_ref())?;
        step::reached("create-gofer-admitted");
        Ok(gofer)
    }

    /// The description, whose descriptors are among the donations from then on.
    pub(crate) fn spec(
        &mut self,
        id: &ContainerId,
        config: &Config,
        options: &Options<'_>,
    ) -> Result<ContainerSpec, LaunchError> {
        let donations = &mut self.donations;
        let connections: Vec<FdIndex> = std::mem::take(&mut self.trees.ends)
            .into_iter()
            .map(|end| donations.give("gofer connection", end))
            .collect();
        let connection = |n: usize| connections.get(n).copied().unwrap_or(FdIndex(u32::MAX));
        let directories: Vec<bool> = self.trees.trees.iter().map(|t| t.directory).collect();
        let mounts = std::mem::take(&mut self.mounts).into_iter();
        let mounts = mounts.map(
            |Shown {
                 mount,
                 tree: n,
                 brought,
             }| MountSpec {
                destination: mount.destination,
                source: match mount.source {
                    Source::Bind { path, .. } => MountSource::Bind {
                        connection: connection(n.unwrap_or(usize::MAX)),
                        directory: n.and_then(|n| directories.get(n).copied()).unwrap_or(true),
                        path: path.display().to_string(),
                    },
                    Source::Kernel { fstype, device } => MountSource::Kernel { fstype, device },
                },
                flags: mount.flags,
                data: mount.data,
                propagation: mount.propagation,
                brought,
            },
        );
        let mounts = mounts.collect();
        let overlay = match options.overlay {
            Overlay::None => OverlayMode::None,
            Overlay::Memory => OverlayMode::Memory,
            Overlay::SelfBacked => OverlayMode::SelfBacked(
                donations.give("overlay file", overlay_file(&config.bundle)?),
            ),
        };
        let mut stdio = [None; 3];
        let mut console = None;
        if let Some(pair) = &self.terminal {
            console = Some(donations.give("terminal", share_replica(pair)?));
        } else if !config.process.terminal {
            stdio = donations
                .stdio()
                .map_err(|e| host("share stdio")(errno(&e)))?;
        }
        let preserved = preserve(donations, options.preserve_fds)?;
        let terminal = self.terminal.as_ref();
        Ok(ContainerSpec {
            id: id.to_string(),
            hostname: config.hostname.clone(),
            domainname: config.domainname.clone(),
            process: ProcessSpec {
                console_size: terminal.and_then(|pair| console::size(pair.replica.as_fd())),
                // Of those that `exec` runs.
                affinity: None,
                ..config.process.clone()
            },
            root: RootSpec {
                connection: connection(0),
                overlay,
                readonly: config.root_readonly,
                propagation: config.root_propagation,
            },
            mounts,
            devices: config.devices.clone(),
            masked_paths: config.masked_paths.clone(),
            readonly_paths: config.readonly_paths.clone(),
            sysctls: config.sysctls.clone(),
            limits: config.resources.shown(),
            possible_cpus: crate::config::possible_cpus(),
            stdio,
            console,
            preserved,
        })
    }

    /// Tells the gofer what it serves.
    pub(crate) fn send_to_gofer(
        &mut self,
        id: &ContainerId,
        config: &Config,
        options: &Options<'_>,
        gofer: &mut Process,
    ) -> Result<(), LaunchError> {
        send_to_gofer(id, config, options, gofer, &mut self.trees)
    }

    /// Gives the terminal's master to the one who is to have it: the caller's comes back.
    pub(crate) fn hand_out_terminal(
        self,
        options: &Options<'_>,
    ) -> Result<Option<Pair>, LaunchError> {
        if let (Some(pair), Console::Socket(path)) = (&self.terminal, &options.console) {
            pair.send_master(path)?;
        }
        Ok(self.terminal)
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

pub(crate) fn talked(
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
    id: &ContainerId,
    config: &Config,
    options: &Options<'_>,
    gofer: &mut Process,
    trees: &mut Trees,
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
        let open = |tree: TreePath| sys::open_tree(tree).map_err(host("open a tree for the gofer"));
        let paths = std::mem::take(&mut trees.paths);
        paths.into_iter().map(open).collect::<Result<_, _>>()?
    };
    let mut donations = Donations::new("gofer");
    let ends = std::mem::take(&mut trees.gofer_ends);
    let parts = std::mem::take(&mut trees.trees)
        .into_iter()
        .zip(roots)
        .zip(ends);
    let trees = parts
        .map(|((rest, root), end)| gofer::Tree {
            root: donations.give("tree", root),
            connection: donations.give("sandbox connection", end),
            directory: rest.directory,
            below: rest.below,
            readonly: rest.readonly,
            name: rest.name,
        })
        .collect();
    let log = log_file(&options.debug, "gofer")?.map(|f| donations.give("log", f.into()));
    let coverage = coverage::file_for("gofer").map(|f| donations.give("coverage", f.into()));
    let args = GoferArgs {
        container: id.to_string(),
        trees,
        seccomp: Vec::new(),
        log,
        coverage,
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
pub(crate) fn log_file(debug: &Debug, process: &str) -> Result<Option<File>, LaunchError> {
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
