//! `fd` and `fdinfo`.

use crate::node::{Directory, Entry, Target, Text, link, number, text};
use crate::{Owner, Proc, locks};
use abi::{Errno, libc};
use ctx::Ctx;
use std::fmt::Write;
use std::sync::Arc;
use task::Task;
use vfs::{File, FileType, Inode, Link};

/// `/proc/PID/fd`, or `/proc/PID/fdinfo`.
pub(crate) struct FdDir {
    pub(crate) task: Arc<Task>,
    pub(crate) info: bool,
}

impl Directory for FdDir {
    fn find(&self, proc: &Arc<Proc>, _cx: &dyn Ctx, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let name_text = std::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let fd: i32 = name_text.parse().map_err(|_| Errno::ENOENT)?;
        if fd.to_string() != name_text {
            return Err(Errno::ENOENT);
        }
        let fds = self.task.fds().ok_or(Errno::ENOENT)?;
        let file = fds.get_path_ok(fd).map_err(|_| Errno::ENOENT)?;
        let owner = Owner::Task(self.task.clone());
        let ino = number(self.task.tid(), name);
        if self.info {
            let cloexec = fds.cloexec(fd).unwrap_or(false);
            let info = Info {
                file,
                cloexec,
                table: fds.id(),
            };
            return Ok(text(proc, ino, owner, Arc::new(info)));
        }
        Ok(link(proc, ino, owner, Arc::new(FdLink(file))))
    }

    fn list(&self, _proc: &Arc<Proc>, _cx: &dyn Ctx) -> Result<Vec<Entry>, Errno> {
        let fds = self.task.fds().ok_or(Errno::ENOENT)?;
        let kind = if self.info {
            FileType::Regular
        } else {
            FileType::Symlink
        };
        Ok(fds
            .list()
            .into_iter()
            .map(|(n, _)| Entry::numbered(n, kind))
            .collect())
    }

    fn perm(&self) -> u32 {
        if self.info { 0o555 } else { 0o500 }
    }
}

struct FdLink(Arc<File>);

impl Target for FdLink {
    fn text(&self, _proc: &Arc<Proc>, _cx: &dyn Ctx) -> Result<Vec<u8>, Errno> {
        Ok(self.0.name())
    }

    fn follow(&self, _proc: &Arc<Proc>, _cx: &dyn Ctx) -> Result<Link, Errno> {
        Ok(match self.0.path() {
            Some(place) => Link::Place(place.clone()),
            None => Link::File(self.0.clone()),
        })
    }

    fn takes_mounts(&self) -> bool {
        false
    }

    fn perm(&self) -> u32 {
        let flags = self.0.flags();
        0o100 | if flags.readable() { 0o400 } else { 0 } | if flags.writable() { 0o200 } else { 0 }
    }
}

struct Info {
    file: Arc<File>,
    cloexec: bool,
    /// The descriptor table it is in.
    table: u64,
}

impl Text for Info {
    fn read(&self, proc: &Arc<Proc>, cx: &dyn Ctx) -> Result<Vec<u8>, Errno> {
        let cloexec = if self.cloexec {
            libc::O_CLOEXEC as u32
        } else {
            0
        };
        let mount = self.file.path().map_or(0, |p| p.mount.id());
        let ino = self.file.attr(cx).map_or(0, |a| a.ino);
        let mut s = format!(
            "pos:\t{}\nflags:\t0{:o}\nmnt_id:\t{mount}\nino:\t{ino}\n",
            self.file.position_now(),
            self.file.flags().bits() | cloexec,
        );
        for (n, lock) in (1..).zip(vfs::locks_of(&self.file, self.table)) {
            let _ = write!(s, "lock:\t{}", locks::line(proc, cx, n, &lock));
        }
        match self.file.ops_as::<task::PidFd>() {
            Some(pidfd) => s.push_str(&pidfd.fdinfo(&proc.pids)),
            None => s.push_str(&self.file.ops().fdinfo()),
        }
        Ok(s.into_bytes())
    }

    fn takes_mounts(&self) -> bool {
        false
    }
}
