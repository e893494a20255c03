//! What calls need beyond the kernel.

use abi::Errno;
use fs_tmpfs::{Memfds, Options, Tmpfs};
use net_unix::AbstractNames;
use std::collections::BTreeMap;
use std::sync::Arc;
use task::{Container, TaskCx};
use time::Clocks;
use vfs::{MountFlags, MountSpec};

/// What mount(2) says to a file system.
pub struct MountArgs<'a> {
    /// Its first argument.
    pub source: &'a [u8],
    /// Per-mount flags.
    pub flags: MountFlags,
    /// Options of the file system, comma-separated.
    pub options: &'a str,
}

/// Makes a mount of a file system.
pub type MountMaker =
    Arc<dyn Fn(&TaskCx, &MountArgs<'_>) -> Result<MountSpec, Errno> + Send + Sync>;

/// What calls need beyond the kernel. One a container.
pub struct Services {
    pub(crate) memfds: Memfds,
    pub(crate) unix_names: Arc<AbstractNames>,
    pub(crate) filesystems: BTreeMap<&'static str, MountMaker>,
}

impl Services {
    /// For `container`, whose network namespace has `unix_names`, with tmpfs as the one file system
    /// that mount(2) knows.
    pub fn new(
        container: &Container,
        clocks: &Arc<Clocks>,
        unix_names: Arc<AbstractNames>,
    ) -> Services {
        let mut services = Services {
            memfds: Memfds::new(container.memory(), clocks),
            unix_names,
            filesystems: BTreeMap::new(),
        };
        services.add_filesystem("tmpfs", Arc::new(tmpfs));
        services
    }

    /// Lets mount(2) know another file system.
    pub fn add_filesystem(&mut self, name: &'static str, maker: MountMaker) {
        self.filesystems.insert(name, maker);
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
    let spec = Tmpfs::mount_spec(
        container.memory(),
        container.devices(),
        options,
        cx.kernel().clocks(),
        args.flags,
    );
    Ok(MountSpec {
        source: args.source.to_vec(),
        ..spec
    })
}
