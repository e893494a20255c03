//! Descriptors of processes (pidfd_open(2)).

use crate::{PidNamespace, TaskCx, ThreadGroup};
use abi::Errno;
use ctx::{Ctx, Resource};
use std::any::Any;
use std::sync::Arc;
use vfs::{Attr, File, FileOps, FileType, OpenFlags, anon};
use wait::{Events, Queue};

/// A process as a file: readable once it has ended.
pub struct PidFd {
    group: Arc<ThreadGroup>,
    ino: u64,
}

impl PidFd {
    /// The process.
    pub fn group(&self) -> &Arc<ThreadGroup> {
        &self.group
    }

    /// What a procfs of the PID namespace `space` tells of it in fdinfo.
    pub fn fdinfo(&self, space: &PidNamespace) -> String {
        if self.group.has_ended() {
            return "Pid:\t-1\nNSpid:\t-1\n".into();
        }
        let pid = self.group.pid();
        let below = pid.spaces_below(space.space());
        let numbers = below.iter().map(|s| format!("\t{}", pid.seen_from(*s)));
        let first = pid.seen_from(space.space());
        match first {
            0 => "Pid:\t0\nNSpid:\t0\n".into(),
            _ => format!("Pid:\t{first}\nNSpid:{}\n", numbers.collect::<String>()),
        }
    }
}

impl FileOps for PidFd {
    fn seekable(&self) -> bool {
        false
    }

    fn takes_reads(&self) -> bool {
        false
    }

    fn takes_writes(&self) -> bool {
        false
    }

    fn ready(&self, _file: &File) -> Events {
        if self.group.has_ended() {
            Events::READABLE
        } else {
            Events::empty()
        }
    }

    fn queue(&self) -> Option<&Queue> {
        Some(self.group.end_queue())
    }

    fn anonymous_attr(&self, cx: &dyn Ctx) -> Option<Attr> {
        Some(anon::anonymous_attr(
            cx,
            FileType::Anonymous,
            0o600,
            self.ino,
        ))
    }

    fn anonymous_name(&self) -> Option<Vec<u8>> {
        Some(b"anon_inode:[pidfd]".to_vec())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Gives `group` a descriptor in the table of `cx`.
pub(crate) fn install(
    cx: &TaskCx,
    group: Arc<ThreadGroup>,
    nonblocking: bool,
) -> Result<i32, Errno> {
    let ops = Arc::new(PidFd {
        group,
        ino: anon::next_ino(),
    });
    let mut flags = OpenFlags::RDWR;
    flags.set(OpenFlags::NONBLOCK, nonblocking);
    let file = File::anonymous(cx, ops, flags);
    cx.fd_table()
        .insert(file, true, 0, cx.limit(Resource::Nofile))
}

impl TaskCx {
    /// pidfd_open(2).
    ///
    /// # Errors
    /// `ESRCH`, `EINVAL` for a thread that is no process, `EMFILE`.
    pub fn pidfd_open(&mut self, pid: i32, nonblocking: bool) -> Result<i32, Errno> {
        if pid <= 0 {
            return Err(Errno::EINVAL);
        }
        let group = match self.process_called(pid) {
            Some(g) => g,
            None if self.task_called(pid).is_some() => return Err(Errno::EINVAL),
            None => return Err(Errno::ESRCH),
        };
        install(self, group, nonblocking)
    }

    /// The process behind a descriptor; `EBADF` for others.
    pub fn pidfd_group(&self, fd: i32) -> Result<Arc<ThreadGroup>, Errno> {
        let file = self.fd_table().get(fd)?;
        file.ops_as::<PidFd>()
            .map(|p| p.group.clone())
            .ok_or(Errno::EBADF)
    }
}
