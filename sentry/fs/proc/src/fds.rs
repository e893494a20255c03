//! `fd` and `fdinfo`.

use crate::node::{Directory, Entry, Target, Text, link, number, text};
use crate::{Owner, Proc, locks};
use abi::{Errno, libc};
use ctx::Ctx;
use std::fmt::Write;
use std::sync::Arc;
use task::Task;
use vfs::{FdTable, File, FileType, Inode, Link, OpenFlags};

/// `/proc/PID/fd`, or `/proc/PID/fdinfo`.
pub(crate) struct FdDir {
    pub(crate) task: Arc<Task>,
    pub(crate) info: bool,
}

fn file_of(task: &Task, fd: i32) -> Result<(Arc<FdTable>, Arc<File>), Errno> {
    let fds = task.fds().ok_or(Errno::ENOENT)?;
    let file = fds.get_path_ok(fd).map_err(|_| Errno::ENOENT)?;
    Ok((fds, file))
}

impl Directory for FdDir {
    fn check(&self, proc: &Proc, cx: &dyn Ctx) -> Result<(), Errno> {
        // The mode of the other says it.
        match self.info {
            true => proc.may_look(cx, &self.task),
            false => Ok(()),
        }
    }

    fn grants(&self, cx: &dyn Ctx) -> bool {
        // Its own descriptors a process sees, dumpable or not.
        !self.info && self.task.group().serial() == cx.process()
    }

    fn find(&self, proc: &Arc<Proc>, cx: &dyn Ctx, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let name_text = std::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let fd: i32 = name_text.parse().map_err(|_| Errno::ENOENT)?;
        if fd.to_string() != name_text {
            return Err(Errno::ENOENT);
        }
        let found = || file_of(&self.task, fd);
        let (fds, file) = match self.info {
            true => proc.look(cx, &self.task, found)?,
            false => found(),
        }?;
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
        let link_to = FdLink {
            task: self.task.clone(),
            fd,
            flags: file.flags(),
        };
        Ok(link(proc, ino, owner, Arc::new(link_to)))
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

struct FdLink {
    task: Arc<Task>,
    fd: i32,
    flags: OpenFlags,
}

impl FdLink {
    /// What the descriptor is of now, for who may look into the process.
    fn file(&self, proc: &Proc, cx: &dyn Ctx) -> Result<Arc<File>, Errno> {
        let found = proc.look(cx, &self.task, || file_of(&self.task, self.fd))?;
        found.map(|(_, file)| file)
    }
}

impl Target for FdLink {
    fn text(&self, proc: &Arc<Proc>, cx: &dyn Ctx) -> Result<Vec<u8>, Errno> {
        Ok(self.file(proc, cx)?.name())
    }

    fn follow(&self, proc: &Arc<Proc>, cx: &dyn Ctx) -> Result<Link, Errno> {
        let file = self.file(proc, cx)?;
        Ok(match file.path() {
            Some(place) => Link::Place(place.clone()),
            None => Link::File(file),
        })
    }

    fn takes_mounts(&self) -> bool {
        false
    }

    fn perm(&self) -> u32 {
        let flags = self.flags;
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
