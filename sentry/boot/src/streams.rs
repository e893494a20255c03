//! What a process of the container's has open when it starts: descriptors of the host, or a
//! terminal.

use crate::error::BootError;
use crate::process::DonatedFds;
use control::boot::FdIndex;
use fs_devpts::{SlaveFile, Tty};
use fs_host::{HostFile, Reactor};
use std::sync::Arc;
use vfs::{FdTable, File, FileOps, KernelFsCtx, OpenFlags};

/// As the launcher names them.
pub(crate) struct Streams<'a> {
    pub(crate) stdio: &'a [Option<FdIndex>; 3],
    pub(crate) preserved: &'a [FdIndex],
    pub(crate) terminal: Option<&'a Arc<Tty>>,
}

impl Streams<'_> {
    /// Descriptors 0, 1 and 2, and the preserved ones after them.
    pub(crate) fn open(
        &self,
        fds: &mut DonatedFds,
        cx: &KernelFsCtx,
        reactor: &Arc<Reactor>,
    ) -> Result<Arc<FdTable>, BootError> {
        let table = FdTable::new();
        let put = |n: i32, file: Arc<File>| {
            table
                .replace(n, file, false, u64::MAX)
                .map(drop)
                .map_err(BootError::guest("open the standard streams of", "/"))
        };
        if let Some(tty) = self.terminal {
            let file = terminal_file(cx, tty)
                .map_err(|e| BootError::guest("open the terminal", "/dev/pts/0")(e.errno()))?;
            for n in 0..3 {
                put(n, file.clone())?;
            }
        }
        let named = (0..3)
            .map(|n| self.stdio[n as usize])
            .chain(self.preserved.iter().map(|f| Some(*f)));
        // What is one description outside is one inside: the launcher names it by one index.
        let mut files: Vec<(_, Arc<File>)> = Vec::new();
        for (n, index) in (0..).zip(named) {
            let same = index.and_then(|i| files.iter().find(|(known, _)| *known == i));
            if let Some((_, file)) = same {
                put(n, file.clone())?;
                continue;
            }
            let (Some(index), Some(fd)) =
                (index, fds.take_opt(index, "a stream of the container")?)
            else {
                continue;
            };
            let host = HostFile::new(reactor, fd).map_err(|e| {
                BootError::Kernel(format!("cannot use the container's descriptor {n}: {e}"))
            })?;
            let flags = OpenFlags::from_guest(host.host_flags() as u32) - OpenFlags::NONBLOCK;
            let file = File::anonymous(cx, host, flags);
            files.push((index, file.clone()));
            put(n, file)?;
        }
        Ok(table)
    }
}

/// The terminal by its name in the container, so that ttyname(3) finds it; without a name where
/// the container has no devpts.
fn terminal_file(cx: &KernelFsCtx, tty: &Arc<Tty>) -> Result<Arc<File>, ctx::SysErr> {
    let flags = OpenFlags::RDWR | OpenFlags::NOCTTY;
    let name = format!("/dev/pts/{}", tty.index());
    match vfs::open(
        cx,
        vfs::Start::Cwd,
        name.as_bytes(),
        flags,
        0,
        vfs::LookupFlags::empty(),
    ) {
        Ok(file) => Ok(file),
        Err(_) => {
            let opened = SlaveFile::open(cx, tty, flags)?;
            Ok(File::anonymous(cx, opened as Arc<dyn FileOps>, flags))
        }
    }
}
