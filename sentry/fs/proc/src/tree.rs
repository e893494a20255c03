//! The top directory.

use crate::ipc::SysvDir;
use crate::node::{Directory, Entry, Target, directory, link, number, text};
use crate::options::HidePid;
use crate::process::ProcessDir;
use crate::sys::SysDir;
use crate::system::SYSTEM;
use crate::{Owner, Proc};
use abi::Errno;
use ctx::Ctx;
use std::sync::Arc;
use vfs::{FileType, Inode};

/// `/proc`
pub(crate) struct Top;

impl Directory for Top {
    fn find(&self, proc: &Arc<Proc>, cx: &dyn Ctx, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let ino = number(0, name);
        let only = proc.options().processes_only;
        match name {
            b"self" => return Ok(link(proc, ino, Owner::Root, Arc::new(SelfLink))),
            b"thread-self" => return Ok(link(proc, ino, Owner::Root, Arc::new(ThreadLink))),
            _ if only && number_of(name).is_none() => return Err(Errno::ENOENT),
            b"mounts" => return Ok(link(proc, ino, Owner::Root, Arc::new(Fixed("self/mounts")))),
            b"sys" => {
                return Ok(directory(proc, ino, Owner::Root, Arc::new(SysDir::top())));
            }
            b"sysvipc" => return Ok(directory(proc, ino, Owner::Root, Arc::new(SysvDir))),
            _ => {}
        }
        if let Some((_, kind)) = SYSTEM.iter().find(|(n, _)| n.as_bytes() == name) {
            return Ok(text(proc, ino, Owner::Root, Arc::new(*kind)));
        }
        let pid = number_of(name).ok_or(Errno::ENOENT)?;
        let task = proc.kernel.task_in(&proc.pids, pid);
        let task = task.ok_or(Errno::ENOENT)?;
        if proc.hides(cx, &task, HidePid::Invisible) {
            return Err(Errno::ENOENT);
        }
        let dir = ProcessDir {
            task: task.clone(),
            thread: false,
        };
        Ok(directory(
            proc,
            number(task.tid(), b""),
            Owner::Task(task),
            Arc::new(dir),
        ))
    }

    fn list(&self, proc: &Arc<Proc>, cx: &dyn Ctx) -> Result<Vec<Entry>, Errno> {
        let only = proc.options().processes_only;
        let mut all: Vec<Entry> = match only {
            true => Vec::new(),
            false => SYSTEM
                .iter()
                .map(|(n, _)| Entry::new(*n, FileType::Regular))
                .collect(),
        };
        all.push(Entry::new("self", FileType::Symlink));
        all.push(Entry::new("thread-self", FileType::Symlink));
        if !only {
            all.push(Entry::new("mounts", FileType::Symlink));
            all.push(Entry::new("sys", FileType::Directory));
            all.push(Entry::new("sysvipc", FileType::Directory));
        }
        let seen = |pid: &i32| {
            let task = proc.kernel.task_in(&proc.pids, *pid);
            task.is_some_and(|t| !proc.hides(cx, &t, HidePid::Invisible))
        };
        all.extend(
            proc.kernel
                .pids_in(&proc.pids)
                .iter()
                .filter(|pid| seen(pid))
                .map(|p| Entry::numbered(*p, FileType::Directory)),
        );
        Ok(all)
    }
}

/// A decimal number without sign and leading zeros.
pub(crate) fn number_of(name: &[u8]) -> Option<i32> {
    let s = std::str::from_utf8(name).ok()?;
    let n: i32 = s.parse().ok()?;
    (n > 0 && n.to_string() == s).then_some(n)
}

struct SelfLink;

impl Target for SelfLink {
    fn text(&self, proc: &Arc<Proc>, cx: &dyn Ctx) -> Result<Vec<u8>, Errno> {
        match proc.number(&cx.process_id()) {
            0 => Err(Errno::ENOENT),
            pid => Ok(pid.to_string().into_bytes()),
        }
    }
}

struct ThreadLink;

impl Target for ThreadLink {
    fn text(&self, proc: &Arc<Proc>, cx: &dyn Ctx) -> Result<Vec<u8>, Errno> {
        match (proc.number(&cx.process_id()), proc.number(&cx.thread_id())) {
            (0, _) => Err(Errno::ENOENT),
            (pid, tid) => Ok(format!("{pid}/task/{tid}").into_bytes()),
        }
    }
}

struct Fixed(&'static str);

impl Target for Fixed {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn text(&self, _proc: &Arc<Proc>, _cx: &dyn Ctx) -> Result<Vec<u8>, Errno> {
        Ok(self.0.as_bytes().to_vec())
    }
}
