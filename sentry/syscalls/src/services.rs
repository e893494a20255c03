//! What calls need beyond the kernel.

use abi::Errno;
use fs_tmpfs::{Memfds, Options, Tmpfs};
use net_unix::AbstractNames;
use std::collections::BTreeMap;
use std::sync::Arc;
use task::{Kernel, TaskCx};
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

/// What calls need beyond the kernel. One a sandbox.
pub struct Services {
    pub(crate) memfds: Memfds,
    pub(crate) unix_names: Arc<AbstractNames>,
    pub(crate) filesystems: BTreeMap<&'static str, MountMaker>,
}

impl Services {
    /// For `kernel`, with tmpfs as the one file system that mount(2) knows.
    pub fn new(kernel: &Kernel) -> Services {
        let mut services = Services {
            memfds: Memfds::new(kernel.memory(), kernel.clocks()),
            unix_names: AbstractNames::new(),
            filesystems: BTreeMap::new(),
        };
        services.add_filesystem("tmpfs", Arc::new(tmpfs));
        services
    }

    /// Lets mount(2) know another file system.
    pub fn add_filesystem(&mut self, name: &'static str, maker: MountMaker) {
        self.filesystems.insert(name, maker);
    }

    /// Hands them to the kernel. Without them, the calls that need them panic: boot does this
    /// before the first task.
    pub fn install(self, kernel: &Kernel) {
        kernel.set_services(Arc::new(self));
    }

    pub(crate) fn of(cx: &TaskCx) -> &Services {
        let installed = cx.kernel().services().and_then(|s| s.downcast_ref());
        installed
            .unwrap_or_else(|| unreachable!("boot installs the services before the first task"))
    }
}

fn tmpfs(cx: &TaskCx, args: &MountArgs<'_>) -> Result<MountSpec, Errno> {
    let kernel = cx.kernel();
    let options = Options::parse(args.options, kernel.memory_limit())?;
    let spec = Tmpfs::mount_spec(
        kernel.memory(),
        kernel.devices(),
        options,
        kernel.clocks(),
        args.flags,
    );
    Ok(MountSpec {
        source: args.source.to_vec(),
        ..spec
    })
}
