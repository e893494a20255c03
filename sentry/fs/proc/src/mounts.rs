//! `mounts`, `mountinfo` and `mountstats`: what a process sees mounted, from its root.

use crate::Proc;
use crate::node::Text;
use abi::{Errno, libc};
use ctx::Ctx;
use std::io::Write;
use std::sync::Arc;
use task::Task;
use vfs::{Mount, MountFlags, MountNamespace, SuperFlags, VfsPath};

/// Which of them.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Mounts,
    Info,
    Stats,
}

/// Their names.
pub(crate) const NAMES: &[(&str, Kind)] = &[
    ("mountinfo", Kind::Info),
    ("mounts", Kind::Mounts),
    ("mountstats", Kind::Stats),
];

/// One of them.
pub(crate) struct MountsText {
    pub(crate) task: Arc<Task>,
    pub(crate) kind: Kind,
}

impl Text for MountsText {
    fn check(&self, proc: &Arc<Proc>, _cx: &dyn Ctx) -> Result<(), Errno> {
        proc.check_alive(&self.task)?;
        self.task.mounts().map(drop).ok_or(Errno::EINVAL)
    }

    fn read(&self, proc: &Arc<Proc>, cx: &dyn Ctx) -> Result<Vec<u8>, Errno> {
        proc.check_alive(&self.task)?;
        let mounts = self.task.mounts().ok_or(Errno::EINVAL)?;
        let root = self.task.fs().ok_or(Errno::ENOENT)?.root();
        let mut text = Vec::new();
        for mount in mounts.list() {
            // What cannot be reached from the root is left out.
            let Some(point) = mount.root_path().path_below(&root) else {
                continue;
            };
            let line = match self.kind {
                Kind::Mounts => as_mounted(&mut text, &mount, &point),
                Kind::Info => as_info(&mut text, cx, &mount, &point, &root),
                Kind::Stats => as_stats(&mut text, &mount, &point),
            };
            line.map_err(|_| Errno::ENOMEM)?;
        }
        Ok(text)
    }

    fn perm(&self) -> u32 {
        match self.kind {
            Kind::Stats => 0o400,
            Kind::Mounts | Kind::Info => 0o444,
        }
    }

    fn watched(&self) -> Option<Arc<MountNamespace>> {
        match self.kind {
            Kind::Mounts | Kind::Info => self.task.mounts(),
            Kind::Stats => None,
        }
    }
}

/// Bytes that would end a field as octal, as getmntent(3) expects them; those in `more` too.
fn escaped(name: &[u8], more: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(name.len());
    for b in name {
        if b" \t\n\\".contains(b) || more.contains(b) {
            text.extend_from_slice(format!("\\{b:03o}").as_bytes());
        } else {
            text.push(*b);
        }
    }
    text
}

fn source(mount: &Mount) -> Vec<u8> {
    escaped(mount.source(), b"#")
}

/// A mount's own flags, but for `ro`, each after a comma.
fn further(flags: MountFlags) -> String {
    let all = flags.options();
    all.get(2..).unwrap_or_default().to_owned()
}

fn own_options(mount: &Mount) -> String {
    match mount.options() {
        options if options.is_empty() => options,
        options => format!(",{options}"),
    }
}

fn as_mounted(text: &mut Vec<u8>, mount: &Mount, point: &[u8]) -> std::io::Result<()> {
    text.write_all(&source(mount))?;
    text.write_all(b" ")?;
    text.write_all(&escaped(point, b""))?;
    writeln!(
        text,
        " {} {}{}{}{} 0 0",
        mount.fstype(),
        if mount.is_read_only() { "ro" } else { "rw" },
        mount.superblock().flags().further(),
        further(mount.flags()),
        own_options(mount),
    )
}

fn as_info(
    text: &mut Vec<u8>,
    cx: &dyn Ctx,
    mount: &Mount,
    point: &[u8],
    root: &VfsPath,
) -> std::io::Result<()> {
    let parent = mount.mountpoint().map_or(mount.id(), |p| p.mount.id());
    let device = mount.device(cx);
    let (major, minor) = (libc::major(device), libc::minor(device));
    write!(text, "{} {parent} {major}:{minor} ", mount.id())?;
    text.write_all(&escaped(&mount.place(), b""))?;
    if mount.root().is_deleted() {
        text.write_all(b"//deleted")?;
    }
    text.write_all(b" ")?;
    text.write_all(&escaped(point, b""))?;
    write!(text, " {}", mount.flags().options())?;
    if let Some(group) = mount.shared_id() {
        write!(text, " shared:{group}")?;
    }
    if let Some(master) = mount.master_id() {
        write!(text, " master:{master}")?;
        if let Some(from) = mount.propagate_from(root) {
            write!(text, " propagate_from:{from}")?;
        }
    }
    if mount.is_unbindable() {
        text.write_all(b" unbindable")?;
    }
    write!(text, " - {} ", mount.fstype())?;
    text.write_all(&source(mount))?;
    let flags: SuperFlags = mount.superblock().flags();
    writeln!(text, " {}{}", flags.options(), own_options(mount))
}

fn as_stats(text: &mut Vec<u8>, mount: &Mount, point: &[u8]) -> std::io::Result<()> {
    text.write_all(b"device ")?;
    text.write_all(&source(mount))?;
    text.write_all(b" mounted on ")?;
    text.write_all(&escaped(point, b""))?;
    writeln!(text, " with fstype {}", mount.fstype())
}
