//! What calls need beyond the kernel.

use crate::fs_params::{Parameter, ParameterKind as K, parameter};
use abi::Errno;
use fs_tmpfs::{Memfds, Options, Tmpfs};
use std::collections::BTreeMap;
use std::sync::Arc;
use task::{Container, TaskCx};
use time::Clocks;
use vfs::{MountFlags, MountSpec};

/// What mount(2) and fsconfig(2) say to a file system.
pub struct MountArgs<'a> {
    /// What is mounted, where the file system wants to know.
    pub source: &'a [u8],
    /// Parameters, of those that it takes, with values of their kinds.
    pub parameters: &'a [(String, Option<String>)],
    /// The same, as mount(2) has them.
    pub options: &'a str,
}

/// Makes a file system. Flags and source of the mount are others' to say.
pub type MountMaker =
    Arc<dyn Fn(&TaskCx, &MountArgs<'_>) -> Result<MountSpec, Errno> + Send + Sync>;

/// A type of file systems that can be mounted.
pub struct FileSystemType {
    /// What it takes.
    pub parameters: &'static [Parameter],
    /// Whether mount(2)'s data has `\,` for a comma in a value.
    pub escapes: bool,
    /// Makes one.
    pub make: MountMaker,
}

/// What calls need beyond the kernel. One a container.
pub struct Services {
    pub(crate) memfds: Memfds,
    filesystems: BTreeMap<&'static str, Arc<FileSystemType>>,
}

impl Services {
    /// For `container`, with tmpfs as the one file system that mount(2) knows.
    pub fn new(container: &Container, clocks: &Arc<Clocks>) -> Services {
        let mut services = Services {
            memfds: Memfds::new(container.memory(), clocks),
            filesystems: BTreeMap::new(),
        };
        services.add_filesystem(
            "tmpfs",
            FileSystemType {
                parameters: TMPFS,
                escapes: false,
                make: Arc::new(tmpfs),
            },
        );
        services
    }

    /// Lets mount(2) know another file system.
    pub fn add_filesystem(&mut self, name: &'static str, kind: FileSystemType) {
        self.filesystems.insert(name, Arc::new(kind));
    }

    /// The type of that name.
    pub(crate) fn filesystem(&self, name: &[u8]) -> Option<Arc<FileSystemType>> {
        let name = std::str::from_utf8(name).ok()?;
        self.filesystems.get(name).cloned()
    }

    /// Hands them to the container. Without them, the calls that need them panic: boot does this
    /// before the first task.
    pub fn install(self, container: &Container) {
        container.set_services(Arc::new(self));
    }

    pub(crate) fn of(cx: &TaskCx) -> &Services {
        let installed = cx.container().services().and_then(|s| s.downcast_ref());
        installed
            .unwrap_or_else(|| unreachable!("boot installs the services before the first task"))
    }
}

/// tmpfs(5)
const TMPFS: &[Parameter] = &[
    parameter("gid", K::Id),
    parameter(
        "huge",
        K::One(&["never", "always", "within_size", "advise"]),
    ),
    parameter("inode32", K::Flag),
    parameter("inode64", K::Flag),
    parameter("mode", K::Mode),
    parameter("mpol", K::Text),
    parameter("noswap", K::Flag),
    parameter("nr_blocks", K::Size { percent: false }),
    parameter("nr_inodes", K::Size { percent: false }),
    parameter("size", K::Size { percent: true }),
    parameter("uid", K::Id),
];

fn tmpfs(cx: &TaskCx, args: &MountArgs<'_>) -> Result<MountSpec, Errno> {
    let container = cx.container();
    let creds = cx.creds_ref();
    let mut options = Options::parse(args.options, container.memory_limit())?;
    options.uid = Some(match options.uid {
        Some(id) => creds.user_ns.uid(id).ok_or(Errno::EINVAL)?,
        None => creds.fsuid,
    });
    options.gid = Some(match options.gid {
        Some(id) => creds.user_ns.gid(id).ok_or(Errno::EINVAL)?,
        None => creds.fsgid,
    });
    Ok(Tmpfs::mount_spec(
        container.memory(),
        container.devices(),
        options,
        cx.kernel().clocks(),
        MountFlags::empty(),
    ))
}
