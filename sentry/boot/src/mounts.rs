//! The container's file tree, from the launcher's message.

use crate::error::BootError;
use crate::filesystems;
use crate::process::DonatedFds;
use crate::update::{self, Current};
use abi::Errno;
use abi::stat::makedev;
use control::boot::{
    ContainerSpec, DeviceKind, DeviceSpec, MountSource, MountSpec as WireMount, OverlayMode,
    Propagate, Propagation as WirePropagation,
};
use control::message::{Failure, FailureKind};
use ctx::Ctx;
use fs_devpts::{DevPts, Tty};
use hostmem::MemoryFile;
use std::cell::RefCell;
use std::sync::Arc;
use syscalls::{FileSystemType, MountArgs, MountMaker, Services};
use task::{Container, Kernel, TaskCx};
use time::Clocks;
use vfs::{
    DeviceRegistry, FileType, Inode, KernelFsCtx, LookupFlags, Mount, MountFlags, MountNamespace,
    MountSpec, NewFile, NewKind, OpenFlags, Propagation, Start, SuperFlags, VfsPath,
};

/// What every file system is made of.
pub(crate) struct Parts {
    pub(crate) memory: Arc<MemoryFile>,
    pub(crate) devices: Arc<DeviceRegistry>,
    pub(crate) clocks: Arc<Clocks>,
    /// Bytes the guest sees as the machine's memory: default size of a tmpfs is half of it.
    pub(crate) memory_limit: u64,
}

/// The root file system, with its overlay where one was asked for.
pub(crate) fn root(
    args: &ContainerSpec,
    fds: &mut DonatedFds,
    parts: &Parts,
) -> Result<Arc<MountNamespace>, BootError> {
    let socket = fds.take(
        args.root.connection,
        "the root file system's gofer connection",
    )?;
    let overlaid = args.root.overlay != OverlayMode::None;
    let options = fs_gofer::Options {
        exclusive: true,
        readonly: overlaid || args.root.readonly,
        devices: parts.devices.clone(),
    };
    let lower = fs_gofer::connect(socket, options)
        .map_err(BootError::guest("open the container's root directory", "/"))?;
    let memory =
        match args.root.overlay {
            // A root that cannot be written has no room for mount points it lacks: they are made in a
            // layer above it, which is read-only to the container like the rest.
            OverlayMode::None if args.root.readonly => Some(parts.memory.clone()),
            OverlayMode::None => None,
            OverlayMode::Memory => Some(parts.memory.clone()),
            OverlayMode::SelfBacked(fd) => {
                let file = fds.take(fd, "the overlay's file")?;
                Some(MemoryFile::from_file(file).map_err(|e| {
                    BootError::Kernel(format!("cannot use the overlay's file: {e}"))
                })?)
            }
        };
    let (root, fstype) = match memory {
        None => (lower, "ringfence"),
        Some(memory) => {
            let options = fs_tmpfs::Options::parse("mode=755", parts.memory_limit)
                .map_err(BootError::guest("prepare the overlay", "/"))?;
            let upper = fs_tmpfs::Tmpfs::root(&memory, &parts.devices, options, &parts.clocks);
            let cx = ctx::KernelCtx::new(parts.clocks.clone());
            let united = fs_overlay::mount(&cx, lower, upper)
                .map_err(BootError::guest("put the overlay over", "/"))?;
            (united, "overlay")
        }
    };
    Ok(MountNamespace::new(MountSpec::new(root, fstype)))
}

/// File systems of which a container has one.
pub(crate) struct Trees {
    pub(crate) proc: MountSpec,
    pub(crate) sysfs: Arc<dyn Inode>,
    pub(crate) cgroup: Arc<dyn Inode>,
    pub(crate) mqueue: Arc<dyn Inode>,
}

impl Trees {
    /// Those that show `container`.
    pub(crate) fn new(kernel: &Arc<Kernel>, container: &Arc<Container>, limits: &Current) -> Trees {
        // What is shown keeps no tree alive: those are with the mounts, and these with the tasks.
        let used = {
            let container = container.clone();
            Arc::new(move || container.memory_used())
        };
        let (all, counted) = (container.clone(), container.clone());
        let clocks = kernel.clocks();
        // What is shown keeps no kernel alive, either.
        let weak = Arc::downgrade(kernel);
        let machine = fs_sys::Machine {
            possible_cpus: kernel.possible_cpus(),
            cpus: Arc::new(move || weak.upgrade().map_or(1, |kernel| kernel.cpus())),
            huge_pages: kernel.engine().limits().populates,
        };
        let limits = limits.clone();
        let group = fs_sys::Group {
            limits: Arc::new(move || update::shown(&limits)),
            memory: used,
            processes: Arc::new(move || {
                let processes = all.processes();
                processes.iter().map(|p| p.pid().clone()).collect()
            }),
            tasks: Arc::new(move || counted.task_count()),
        };
        Trees {
            proc: fs_proc::mount_spec(
                kernel,
                container,
                kernel.pid_namespace(),
                fs_proc::Options::default(),
            ),
            sysfs: machine.sysfs(clocks),
            cgroup: group.cgroup2(clocks),
            mqueue: container.ipc().mqueues.root(),
        }
    }
}

/// What the system calls need, with the file systems that mount(2) knows.
pub(crate) fn services(container: &Container, clocks: &Arc<Clocks>, limits: &Current) -> Services {
    let mut services = Services::new(container, clocks);
    for (name, parameters) in filesystems::TREES {
        let limits = limits.clone();
        let make: MountMaker = Arc::new(move |cx: &TaskCx, args: &MountArgs<'_>| {
            let trees = Trees::new(cx.kernel(), cx.container(), &limits);
            let root = match *name {
                "proc" => return filesystems::proc(cx, args),
                "sysfs" => trees.sysfs,
                "cgroup2" => trees.cgroup,
                _ => cx.ipc().mqueues.root(),
            };
            Ok(MountSpec::new(root, name))
        });
        let kind = FileSystemType {
            parameters,
            escapes: false,
            make,
        };
        services.add_filesystem(name, kind);
    }
    filesystems::add(&mut services);
    services
}

/// Everything that is mounted below the root, in the bundle's order.
pub(crate) struct Builder<'a> {
    pub(crate) parts: &'a Parts,
    pub(crate) cx: &'a KernelFsCtx,
    pub(crate) mounts: &'a Arc<MountNamespace>,
    pub(crate) trees: Trees,
    /// The container's own terminal, which gets the name /dev/pts/0.
    pub(crate) console: Option<Arc<Tty>>,
    /// The devpts mounted last, if there is any: where its name is.
    pub(crate) pts: RefCell<Option<Arc<DevPts>>>,
}

impl Builder<'_> {
    /// Mounts all of `args.mounts`, and makes, hides and seals in them what `args` says.
    pub(crate) fn all(&self, args: &ContainerSpec, fds: &mut DonatedFds) -> Result<(), BootError> {
        let root = args.root.propagation;
        // What is mounted on a shared mount becomes shared by that, and then what it says itself.
        let all_shared = root.is_some_and(|p| p.recursive && p.kind == WirePropagation::Shared);
        if all_shared {
            self.root_propagates(root)?;
        }
        for group in args.mounts.chunk_by(|_, next| next.brought) {
            let mut top = None;
            for mount in group {
                let made = self.one(mount, fds)?;
                top.get_or_insert((mount, made));
            }
            if let Some((mount, made)) = top {
                self.propagates(&made, &mount.propagation, &mount.destination)?;
            }
        }
        self.devices(&args.devices)?;
        self.mask(&args.masked_paths)?;
        self.read_only(&args.readonly_paths)?;
        if !all_shared {
            self.root_propagates(root)?;
        }
        Ok(())
    }

    fn root_propagates(&self, how: Option<Propagate>) -> Result<(), BootError> {
        self.propagates(&self.mounts.root().mount, how.as_slice(), "/")
    }

    fn propagates(
        &self,
        mount: &Arc<Mount>,
        changes: &[Propagate],
        path: &str,
    ) -> Result<(), BootError> {
        for change in changes {
            let kind = match change.kind {
                WirePropagation::Shared => Propagation::Shared,
                WirePropagation::Slave => Propagation::Slave,
                WirePropagation::Private => Propagation::Private,
                WirePropagation::Unbindable => Propagation::Unbindable,
            };
            let (creds, top) = (self.cx.creds(), mount.root_path());
            self.mounts
                .set_propagation(&creds, &top, kind, change.recursive)
                .map_err(BootError::guest("set the propagation of", path))?;
        }
        Ok(())
    }

    fn one(&self, mount: &WireMount, fds: &mut DonatedFds) -> Result<Arc<Mount>, BootError> {
        let dest = mount.destination.as_str();
        let failed = |what| BootError::guest(what, dest);
        let (mut spec, directory) = match &mount.source {
            MountSource::Kernel { fstype, device } => {
                self.plain(fstype, dest)?;
                let mut spec = self.kernel(fstype, &mount.data).map_err(failed("mount"))?;
                spec.source = device.clone().into_bytes();
                // Of its own file system, read-only is the whole.
                spec.super_flags
                    .set(SuperFlags::RDONLY, mount.flags.readonly);
                (spec, true)
            }
            MountSource::Bind {
                connection,
                directory,
                path,
            } => {
                let socket = fds.take(*connection, "a bind mount's gofer connection")?;
                let options = fs_gofer::Options {
                    exclusive: false,
                    readonly: mount.flags.readonly,
                    devices: self.parts.devices.clone(),
                };
                let root = fs_gofer::connect(socket, options).map_err(failed("bind"))?;
                let mut spec = MountSpec::new(root, "ringfence");
                spec.source = path.clone().into_bytes();
                spec.top = spec.source.clone();
                (spec, *directory)
            }
        };
        spec.flags |= flags(mount);
        let at = self
            .point(dest, directory)
            .map_err(failed("make the mount point"))?;
        self.mounts.mount(&at, spec).map_err(failed("mount"))
    }

    /// Refuses a link, or a file, where a file system is to stand that others rely on finding there.
    fn plain(&self, fstype: &str, dest: &str) -> Result<(), BootError> {
        if !matches!(fstype, "proc" | "sysfs") {
            return Ok(());
        }
        let flags = LookupFlags::empty();
        let there = vfs::walk::resolve(self.cx, Start::Cwd, dest.as_bytes(), flags);
        if there.is_ok_and(|at| !at.is_dir()) {
            // runc's words, which callers know.
            let text = format!(
                "cannot mount on {dest} in the container: filesystem {fstype:?} must be mounted on \
                 ordinary directory"
            );
            return Err(Failure::new(FailureKind::Invalid, text).into());
        }
        Ok(())
    }

    /// A file system of the sentry's own.
    fn kernel(&self, fstype: &str, data: &str) -> Result<MountSpec, Errno> {
        let tmpfs = |data: &str| -> Result<MountSpec, Errno> {
            let options = fs_tmpfs::Options::parse(data, self.parts.memory_limit)?;
            let p = self.parts;
            let none = MountFlags::empty();
            Ok(fs_tmpfs::Tmpfs::mount_spec(
                &p.memory, &p.devices, options, &p.clocks, none,
            ))
        };
        match fstype {
            "proc" => Ok(self.trees.proc.clone()),
            "tmpfs" | "devtmpfs" => tmpfs(data),
            "devpts" => {
                let pts = DevPts::new(self.cx, data)?;
                fs_dev::register_terminals(&self.parts.devices, &pts, self.console.clone());
                if let Some(console) = &self.console {
                    pts.adopt(self.cx, console);
                }
                self.pts.replace(Some(pts.clone()));
                let mut spec = MountSpec::new(pts.root(), "devpts");
                spec.fs = pts;
                Ok(spec)
            }
            "mqueue" => Ok(MountSpec::new(self.trees.mqueue.clone(), "mqueue")),
            "sysfs" => Ok(MountSpec::new(self.trees.sysfs.clone(), "sysfs")),
            // Of either version: a container of today expects the second.
            "cgroup" | "cgroup2" => {
                let mut spec = MountSpec::new(self.trees.cgroup.clone(), "cgroup2");
                spec.flags |= MountFlags::RDONLY;
                spec.super_flags |= SuperFlags::RDONLY;
                Ok(spec)
            }
            _ => Err(Errno::ENODEV),
        }
    }

    /// Makes the root file system read-only, once every mount point stands.
    pub(crate) fn seal_root(&self) {
        let root = self.mounts.root().mount;
        root.set_flags(root.flags() | MountFlags::RDONLY);
    }

    /// Fills /dev, once it and what lies below are mounted, and makes `more` nodes.
    fn devices(&self, more: &[DeviceSpec]) -> Result<(), BootError> {
        let advice = "device nodes are not made in a tree of the host: mount a tmpfs on /dev in \
                      config.json, or start the container with --overlay memory";
        let failed = BootError::advised("fill", "/dev", advice);
        let dev = self
            .point("/dev", true)
            .map_err(BootError::guest("make", "/dev"))?;
        fs_dev::populate(self.cx, dev.inode(), self.console.is_some()).map_err(failed)?;
        for device in more {
            self.device(device)
                .map_err(BootError::guest("make the device", &device.path))?;
        }
        Ok(())
    }

    fn device(&self, device: &DeviceSpec) -> Result<(), Errno> {
        let kind = match device.kind {
            DeviceKind::Char(major, minor) => {
                NewKind::Device(FileType::CharDevice, makedev(major, minor))
            }
            DeviceKind::Block(major, minor) => {
                NewKind::Device(FileType::BlockDevice, makedev(major, minor))
            }
            DeviceKind::Fifo => NewKind::Fifo,
        };
        let owner = NewFile {
            perm: device.perm,
            uid: device.uid,
            gid: device.gid,
        };
        let (parent, name) = device.path.rsplit_once('/').ok_or(Errno::EINVAL)?;
        let parent = self.point(if parent.is_empty() { "/" } else { parent }, true)?;
        match parent
            .inode()
            .create(self.cx, name.as_bytes(), kind, &owner)
        {
            // One of those that every container has.
            Err(Errno::EEXIST) => Ok(()),
            made => made.map(drop),
        }
    }

    fn find(&self, path: &str) -> Result<VfsPath, Errno> {
        vfs::walk::resolve(self.cx, Start::Cwd, path.as_bytes(), LookupFlags::FOLLOW)
            .map_err(|e| e.errno())
    }

    /// The place of a mount; directories on the way, and the place itself, are made when they are
    /// missing. Symbolic links of the image are followed inside the image alone: this walk knows
    /// no other tree.
    pub(crate) fn point(&self, path: &str, directory: bool) -> Result<VfsPath, Errno> {
        match self.find(path) {
            Ok(at) => return Ok(at),
            Err(Errno::ENOENT) => {}
            Err(e) => return Err(e),
        }
        if let Some((parent, _)) = path.trim_end_matches('/').rsplit_once('/')
            && !parent.is_empty()
        {
            self.point(parent, true)?;
        }
        let path_bytes = path.as_bytes();
        if directory {
            vfs::mkdir(self.cx, Start::Cwd, path_bytes, 0o755).map_err(|e| e.errno())?;
        } else {
            let flags = OpenFlags::CREAT | OpenFlags::RDONLY;
            vfs::open(
                self.cx,
                Start::Cwd,
                path_bytes,
                flags,
                0o644,
                LookupFlags::empty(),
            )
            .map_err(|e| e.errno())?;
        }
        self.find(path)
    }

    /// Hides `paths`: an empty read-only directory, or /dev/null, over each that is there.
    fn mask(&self, paths: &[String]) -> Result<(), BootError> {
        for path in paths {
            let failed = |what| BootError::guest(what, path.as_str());
            let Ok(at) = self.find(path) else { continue };
            let mut spec = if at.is_dir() {
                self.kernel("tmpfs", "mode=755,size=0")
                    .map_err(failed("hide"))?
            } else {
                let null = NewKind::Device(FileType::CharDevice, makedev(1, 3));
                let dir = self
                    .kernel("tmpfs", "size=64k")
                    .map_err(failed("hide"))?
                    .root;
                let owner = NewFile {
                    perm: 0o666,
                    uid: 0,
                    gid: 0,
                };
                let node = dir
                    .create(self.cx, b"null", null, &owner)
                    .map_err(failed("hide"))?;
                MountSpec::new(node, "tmpfs")
            };
            spec.flags |= MountFlags::RDONLY;
            self.mounts.mount(&at, spec).map_err(failed("hide"))?;
        }
        Ok(())
    }

    /// Makes `paths` read-only by binding each upon itself.
    fn read_only(&self, paths: &[String]) -> Result<(), BootError> {
        for path in paths {
            let failed = |what| BootError::guest(what, path.as_str());
            let Ok(at) = self.find(path) else { continue };
            let bound = self
                .mounts
                .bind(&at, &at, true)
                .map_err(failed("make read-only"))?;
            bound.set_flags(at.mount.flags() | MountFlags::RDONLY);
        }
        Ok(())
    }
}

fn flags(mount: &WireMount) -> MountFlags {
    let f = mount.flags;
    let mut flags = MountFlags::empty();
    flags.set(MountFlags::RDONLY, f.readonly);
    flags.set(MountFlags::NOSUID, f.nosuid);
    flags.set(MountFlags::NODEV, f.nodev);
    flags.set(MountFlags::NOEXEC, f.noexec);
    flags.set(MountFlags::NOATIME, f.noatime);
    flags.set(MountFlags::NODIRATIME, f.nodiratime);
    flags.set(MountFlags::STRICTATIME, f.strictatime);
    flags.set(MountFlags::NOSYMFOLLOW, f.nosymfollow);
    flags
}
