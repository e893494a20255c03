//! `/proc/PID` and `/proc/PID/task/TID`.

use crate::mounts::{self, MountsText};
use crate::node::{Directory, Entry, Target, Text, directory, link, number, special, text};
use crate::options::HidePid;
use crate::tree::number_of;
use crate::{Owner, Proc, fds, idmaps, mem, memory, ns, status};
use abi::Errno;
use ctx::Ctx;
use std::any::Any;
use std::sync::Arc;
use task::Task;
use vfs::{FileType, Inode, Link, VfsPath};

/// The directory of a process, or of one of its threads.
pub(crate) struct ProcessDir {
    pub(crate) task: Arc<Task>,
    pub(crate) thread: bool,
}

/// Name and how the text is made.
type TextFile = (
    &'static str,
    u32,
    fn(&Proc, &Task) -> Result<Vec<u8>, Errno>,
);

const TEXTS: &[TextFile] = &[
    ("auxv", 0o400, memory::auxv),
    // In version 2 alone, and at the top of what a container sees of it.
    ("cgroup", 0o444, |_, _| Ok(b"0::/\n".to_vec())),
    ("cmdline", 0o444, memory::cmdline),
    ("comm", 0o644, status::comm),
    ("coredump_filter", 0o644, status::coredump_filter),
    ("environ", 0o400, memory::environ),
    ("io", 0o400, status::io),
    ("limits", 0o444, status::limits),
    ("maps", 0o444, memory::maps),
    ("oom_score", 0o444, status::oom_score),
    ("oom_score_adj", 0o644, status::oom_score_adj),
    ("personality", 0o400, status::personality),
    ("schedstat", 0o444, status::schedstat),
    ("smaps", 0o444, memory::smaps),
    ("smaps_rollup", 0o444, memory::smaps_rollup),
    ("stat", 0o444, status::stat),
    ("statm", 0o444, memory::statm),
    ("wchan", 0o444, |_, _| Ok(b"0".to_vec())),
];

/// Those of them that only who may look into the process can open.
const PRIVATE: &[&str] = &[
    "auxv",
    "environ",
    "io",
    "maps",
    "personality",
    "smaps",
    "smaps_rollup",
];

/// `io` of a thread alone.
static THREAD_IO: TextFile = ("io", 0o400, |_, task| {
    Ok(status::io_text(task.io().counts()))
});

const LINKS: &[(&str, Place)] = &[
    ("cwd", Place::Cwd),
    ("exe", Place::Exe),
    ("root", Place::Root),
];

impl Directory for ProcessDir {
    fn check(&self, proc: &Proc, cx: &dyn Ctx) -> Result<(), Errno> {
        proc.check_alive(&self.task)?;
        match proc.hides(cx, &self.task, HidePid::NoAccess) {
            true => Err(Errno::EPERM),
            false => Ok(()),
        }
    }

    fn find(&self, proc: &Arc<Proc>, _cx: &dyn Ctx, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let owner = Owner::Task(self.task.clone());
        let ino = number(self.task.tid(), name);
        let thread_io = Some(&THREAD_IO).filter(|_| self.thread && name == b"io");
        let file = TEXTS.iter().find(|(n, ..)| n.as_bytes() == name);
        if let Some(file) = thread_io.or(file) {
            return Ok(text(
                proc,
                ino,
                owner,
                Arc::new(TaskText {
                    task: self.task.clone(),
                    file,
                }),
            ));
        }
        if let Some(file) = idmaps::find(&self.task, name) {
            return Ok(special(proc, ino, owner, file));
        }
        if name == b"status" {
            let task = self.task.clone();
            return Ok(text(proc, ino, owner, Arc::new(Status(task))));
        }
        if let Some((_, kind)) = mounts::NAMES.iter().find(|(n, _)| n.as_bytes() == name) {
            let text_of = MountsText {
                task: self.task.clone(),
                kind: *kind,
            };
            return Ok(text(proc, ino, owner, Arc::new(text_of)));
        }
        if let Some((_, place)) = LINKS.iter().find(|(n, _)| n.as_bytes() == name) {
            let target = TaskLink {
                task: self.task.clone(),
                place: *place,
            };
            return Ok(link(proc, ino, owner, Arc::new(target)));
        }
        if name == b"mem" {
            let file = Arc::new(mem::MemoryFile {
                task: self.task.clone(),
            });
            return Ok(special(proc, ino, owner, file));
        }
        let dir: Arc<dyn Directory> = match name {
            b"fd" => Arc::new(fds::FdDir {
                task: self.task.clone(),
                info: false,
            }),
            b"fdinfo" => Arc::new(fds::FdDir {
                task: self.task.clone(),
                info: true,
            }),
            b"ns" => Arc::new(ns::NsDir {
                task: self.task.clone(),
            }),
            b"task" if !self.thread => Arc::new(Threads {
                task: self.task.clone(),
            }),
            _ => return Err(Errno::ENOENT),
        };
        Ok(directory(proc, ino, owner, dir))
    }

    fn process(&self) -> Option<&Arc<Task>> {
        (!self.thread).then_some(&self.task)
    }

    fn list(&self, proc: &Arc<Proc>, _cx: &dyn Ctx) -> Result<Vec<Entry>, Errno> {
        proc.check_alive(&self.task).map_err(|_| Errno::ENOENT)?;
        let mut all: Vec<Entry> = TEXTS
            .iter()
            .map(|(n, ..)| Entry::new(*n, FileType::Regular))
            .collect();
        all.extend(idmaps::names().map(|n| Entry::new(n, FileType::Regular)));
        all.push(Entry::new("status", FileType::Regular));
        all.extend(
            mounts::NAMES
                .iter()
                .map(|(n, _)| Entry::new(*n, FileType::Regular)),
        );
        all.push(Entry::new("mem", FileType::Regular));
        all.extend(LINKS.iter().map(|(n, _)| Entry::new(*n, FileType::Symlink)));
        all.push(Entry::new("fd", FileType::Directory));
        all.push(Entry::new("fdinfo", FileType::Directory));
        all.push(Entry::new("ns", FileType::Directory));
        if !self.thread {
            all.push(Entry::new("task", FileType::Directory));
        }
        Ok(all)
    }
}

struct TaskText {
    task: Arc<Task>,
    file: &'static TextFile,
}

impl Text for TaskText {
    fn check(&self, proc: &Arc<Proc>, cx: &dyn Ctx) -> Result<(), Errno> {
        proc.check_alive(&self.task)?;
        match PRIVATE.contains(&self.file.0) {
            true => proc.may_look(cx, &self.task),
            false => Ok(()),
        }
    }

    fn read(&self, proc: &Arc<Proc>, cx: &dyn Ctx) -> Result<Vec<u8>, Errno> {
        proc.check_alive(&self.task)?;
        let text = || (self.file.2)(proc, &self.task);
        match PRIVATE.contains(&self.file.0) {
            true => proc.look(cx, &self.task, text)?,
            false => text(),
        }
    }

    fn has_end(&self) -> bool {
        // Those that Linux does not make line by line.
        ["auxv", "cmdline", "environ", "oom_score_adj"].contains(&self.file.0)
    }

    fn write(&self, _proc: &Arc<Proc>, cx: &dyn Ctx, data: &[u8]) -> Result<(), Errno> {
        match self.file.0 {
            "comm" if cx.process() == self.task.group().serial() => {
                // As it comes, with its newline if it has one.
                self.task.set_name(data);
                Ok(())
            }
            "comm" => Err(Errno::EINVAL),
            "coredump_filter" => status::set_coredump_filter(&self.task, data),
            "oom_score_adj" => status::set_oom_score_adj(&self.task, cx, data),
            _ => Err(Errno::EACCES),
        }
    }

    fn perm(&self) -> u32 {
        self.file.1
    }
}

/// `status`, which says ids as its reader calls them.
struct Status(Arc<Task>);

impl Text for Status {
    fn check(&self, proc: &Arc<Proc>, _cx: &dyn Ctx) -> Result<(), Errno> {
        proc.check_alive(&self.0)
    }

    fn read(&self, proc: &Arc<Proc>, cx: &dyn Ctx) -> Result<Vec<u8>, Errno> {
        self.check(proc, cx)?;
        status::status(proc, &self.0, &cx.creds().user_ns)
    }
}

#[derive(Clone, Copy)]
enum Place {
    Cwd,
    Exe,
    Root,
}

struct TaskLink {
    task: Arc<Task>,
    place: Place,
}

impl TaskLink {
    fn place(&self) -> Result<VfsPath, Errno> {
        let fs = || self.task.fs().ok_or(Errno::ENOENT);
        match self.place {
            Place::Cwd => Ok(fs()?.cwd()),
            Place::Root => Ok(fs()?.root()),
            Place::Exe => {
                let info = self.task.mm().ok_or(Errno::ENOENT)?.exec_info();
                let exe: &(dyn Any + Send + Sync) = &**info.exe.as_ref().ok_or(Errno::ENOENT)?;
                let exe = exe
                    .downcast_ref::<loader::Executable>()
                    .ok_or(Errno::ENOENT)?;
                exe.file.path().cloned().ok_or(Errno::ENOENT)
            }
        }
    }
}

impl Target for TaskLink {
    fn text(&self, proc: &Arc<Proc>, cx: &dyn Ctx) -> Result<Vec<u8>, Errno> {
        let place = proc.look(cx, &self.task, || self.place())?;
        Ok(place?.text())
    }
    fn follow(&self, proc: &Arc<Proc>, cx: &dyn Ctx) -> Result<Link, Errno> {
        let place = proc.look(cx, &self.task, || self.place())?;
        Ok(Link::Place(place?))
    }
}

/// `/proc/PID/task`
struct Threads {
    task: Arc<Task>,
}

impl Directory for Threads {
    fn find(&self, proc: &Arc<Proc>, _cx: &dyn Ctx, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let tid = number_of(name).ok_or(Errno::ENOENT)?;
        let task = proc
            .kernel
            .task_in(&proc.pids, tid)
            .filter(|t| t.tgid() == self.task.tgid())
            .ok_or(Errno::ENOENT)?;
        let dir = ProcessDir {
            task: task.clone(),
            thread: true,
        };
        Ok(directory(
            proc,
            number(task.tid(), b"task"),
            Owner::Task(task),
            Arc::new(dir),
        ))
    }

    fn list(&self, proc: &Arc<Proc>, _cx: &dyn Ctx) -> Result<Vec<Entry>, Errno> {
        let mut tids: Vec<i32> = self
            .task
            .group()
            .threads()
            .iter()
            .map(|t| proc.number(t.pid()))
            .collect();
        tids.sort_unstable();
        Ok(tids
            .into_iter()
            .map(|t| Entry::numbered(t, FileType::Directory))
            .collect())
    }

    fn links(&self) -> u64 {
        2 + self.task.group().threads().len() as u64
    }
}
