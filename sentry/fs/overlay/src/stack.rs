//! An overlay that a guest mounts: the trees that its options name.

use crate::fs::{LEVELS, depth_of, layered};
use abi::Errno;
use ctx::{Ctx, SysErr};
use std::sync::Arc;
use vfs::{FileSystem, FsCtx, Inode, LookupFlags, Start, SuperFlags, VfsPath};

/// How many overlays can be mounted upon each other (`FILESYSTEM_MAX_STACK_DEPTH`).
const DEPTH: u32 = 2;
/// File systems that are no layers: what they show depends on who looks, or when.
const UNFIT: &[&str] = &["proc", "sysfs", "cgroup2", "devpts", "mqueue"];

/// The trees, and what /proc/mounts says of them.
pub struct Stack {
    /// Uppermost first.
    lowers: Vec<VfsPath>,
    upper: Option<VfsPath>,
    /// Overlays upon each other, this included.
    depth: u32,
    text: String,
}

#[derive(Default)]
struct Named<'a> {
    lowers: Vec<String>,
    upper: Option<&'a str>,
    work: Option<&'a str>,
    /// Where it is not as usual.
    uuid: Option<&'a str>,
    others: Vec<String>,
}

impl Stack {
    /// Finds the trees that `parameters` name. What they are mounted by need not stay.
    ///
    /// # Errors
    /// `EINVAL` for what does not go together or is too much, `ELOOP` for trees of which one is in
    /// another, and those of walking.
    pub fn find(cx: &dyn FsCtx, parameters: &[(String, Option<String>)]) -> Result<Stack, Errno> {
        let named = named(parameters)?;
        let count = named.lowers.len();
        let alone = count == 1 && named.upper.is_none();
        let many = count as u64 > LEVELS + 1;
        if count == 0 || many || alone || (named.upper.is_some() && named.work.is_none()) {
            return Err(Errno::EINVAL);
        }
        let text = named.text();
        let lowers: Vec<VfsPath> = named
            .lowers
            .iter()
            .map(|name| directory(cx, name))
            .collect::<Result<_, _>>()?;
        let apart = |a: &VfsPath, b: &VfsPath| {
            !a.dentry.is_ancestor_of(&b.dentry) && !b.dentry.is_ancestor_of(&a.dentry)
        };
        let mut upper = None;
        if let (Some(name), Some(work)) = (named.upper, named.work) {
            let top = directory(cx, name)?;
            let work = directory(cx, work)?;
            // A file system that takes whiteouts, and their attributes.
            let fit = top.mount.fstype() == "tmpfs" && Arc::ptr_eq(&top.mount, &work.mount);
            if !fit || !apart(&top, &work) {
                return Err(Errno::EINVAL);
            }
            if top.mount.is_read_only() {
                return Err(Errno::EROFS);
            }
            if !lowers.iter().all(|lower| apart(lower, &top)) {
                return Err(Errno::ELOOP);
            }
            match vfs::mkdir(cx, Start::At(work), b"work", 0) {
                Ok(()) | Err(SysErr::Errno(Errno::EEXIST)) => {}
                Err(e) => return Err(e.errno()),
            }
            // Its names will change behind what is known of them.
            top.dentry.changes_elsewhere();
            upper = Some(top.apart());
        }
        let mut pairs = lowers.iter().enumerate();
        if !pairs.all(|(i, one)| lowers.iter().take(i).all(|other| apart(one, other))) {
            return Err(Errno::ELOOP);
        }
        let all = lowers.iter().chain(&upper);
        let depth = all.map(|at| depth_of(at.inode())).max().unwrap_or(0) + 1;
        if depth > DEPTH {
            return Err(Errno::EINVAL);
        }
        Ok(Stack {
            depth,
            lowers: lowers.iter().map(VfsPath::apart).collect(),
            upper,
            text,
        })
    }

    /// Whether nothing can be changed: there is no upper tree.
    pub fn are_fixed(&self) -> bool {
        self.upper.is_none()
    }

    /// The root of the whole.
    ///
    /// # Errors
    /// What the trees say.
    pub fn unite(&self, cx: &dyn Ctx) -> Result<Arc<dyn Inode>, Errno> {
        let mut upwards = self.lowers.iter().rev().chain(&self.upper);
        let bottom = upwards.next().ok_or(Errno::EINVAL)?;
        upwards.try_fold(bottom.inode().clone(), |below, above| {
            layered(cx, below, above.inode().clone(), self.depth)
        })
    }
}

impl FileSystem for Stack {
    fn options(&self) -> String {
        self.text.clone()
    }

    fn reconfigure(&self, _cx: &dyn Ctx, flags: SuperFlags, _options: &str) -> Result<(), Errno> {
        match self.are_fixed() && !flags.contains(SuperFlags::RDONLY) {
            true => Err(Errno::EROFS),
            false => Ok(()),
        }
    }
}

fn named(parameters: &[(String, Option<String>)]) -> Result<Named<'_>, Errno> {
    let mut named = Named::default();
    for (key, value) in parameters {
        let value = value.as_deref().unwrap_or_default();
        match key.as_str() {
            "lowerdir" => named.lowers = layers(value)?,
            "lowerdir+" => named.lowers.push(value.to_owned()),
            "upperdir" => named.upper = Some(value),
            "workdir" => named.work = Some(value),
            // What is so already, or makes no difference.
            _ => match (key.as_str(), value) {
                ("index" | "metacopy" | "nfs_export", "on") | ("redirect_dir", "on") => {
                    return Err(Errno::EINVAL);
                }
                ("volatile", _) => named.others.push("volatile".to_owned()),
                ("uuid", "off" | "null") => named.uuid = Some(value),
                _ => {}
            },
        }
    }
    Ok(named)
}

impl Named<'_> {
    fn text(&self) -> String {
        let lowers: Vec<String> = self
            .lowers
            .iter()
            .map(|l| l.replace('\\', "\\\\").replace(':', "\\:"))
            .collect();
        let mut all = vec![format!("lowerdir={}", lowers.join(":"))];
        for (name, value) in [("upperdir", self.upper), ("workdir", self.work)] {
            if let Some(value) = value {
                all.push(format!("{name}={value}"));
            }
        }
        if self.upper.is_some() || self.uuid.is_some() {
            all.push(format!("uuid={}", self.uuid.unwrap_or("on")));
        }
        all.extend(self.others.iter().cloned());
        all.join(",")
    }
}

/// The names between colons, of which `\:` is none.
fn layers(text: &str) -> Result<Vec<String>, Errno> {
    let mut all = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let last = all.last_mut().ok_or(Errno::EINVAL)?;
        match c {
            ':' => all.push(String::new()),
            '\\' => last.extend(chars.next()),
            c => last.push(c),
        }
    }
    match all.iter().any(String::is_empty) {
        true => Err(Errno::EINVAL),
        false => Ok(all),
    }
}

fn directory(cx: &dyn FsCtx, name: &str) -> Result<VfsPath, Errno> {
    match vfs::walk::resolve(cx, Start::Cwd, name.as_bytes(), LookupFlags::FOLLOW) {
        Ok(at) if !at.is_dir() || UNFIT.contains(&at.mount.fstype()) => Err(Errno::EINVAL),
        Ok(at) => Ok(at),
        Err(e) => Err(e.errno()),
    }
}
