//! Directories, listed.

use crate::fs::{Overlay, is_whiteout};
use crate::node::Node;
use abi::Errno;
use ctx::Ctx;
use std::any::Any;
use std::collections::HashSet;
use std::sync::Arc;
use sync::{Mutex, ranks};
use vfs::{DirSink, File, FileOps, FileType, Inode, OpenFlags};

/// Positions 0 and 1 are `.` and `..`.
const FIRST: u64 = 2;

/// One entry: name, inode number, type.
pub(crate) type Entry = (Vec<u8>, u64, FileType);

/// Takes everything but `.` and `..`.
#[derive(Default)]
struct Gather(Vec<Entry>);

impl DirSink for Gather {
    fn entry(&mut self, name: &[u8], ino: u64, kind: FileType, _next: u64) -> bool {
        if name != b"." && name != b".." {
            self.0.push((name.to_vec(), ino, kind));
        }
        true
    }
}

impl Overlay {
    /// Everything in a directory of one of the two trees.
    pub(crate) fn list(&self, cx: &dyn Ctx, dir: &Arc<dyn Inode>) -> Result<Vec<Entry>, Errno> {
        let (ops, file) = self.open(cx, dir, OpenFlags::DIRECTORY)?;
        let mut all = Gather::default();
        let mut from = 0;
        loop {
            match ops.readdir(cx, &file, from, &mut all)? {
                next if next > from => from = next,
                _ => return Ok(all.0),
            }
        }
    }
}

impl Node {
    /// Everything in this directory, as the overlay shows it.
    fn merged(self: &Arc<Self>, cx: &dyn Ctx) -> Result<Vec<Entry>, Errno> {
        let mut names = HashSet::new();
        let mut all = Vec::new();
        if let Some(upper) = self.upper() {
            for (name, _, kind) in self.fs.list(cx, &upper)? {
                let gone = kind == FileType::CharDevice
                    && upper
                        .lookup(cx, &name)
                        .and_then(|found| is_whiteout(cx, &found))?;
                if !gone && let Some(child) = self.find(cx, &name)? {
                    all.push((name.clone(), child.identity.ino, kind));
                }
                names.insert(name);
            }
        }
        if let Some(lower) = self.lower() {
            let below = self.fs.list(cx, &lower)?;
            all.extend(below.into_iter().filter(|(name, ..)| !names.contains(name)));
        }
        Ok(all)
    }

    pub(crate) fn is_empty(self: &Arc<Self>, cx: &dyn Ctx) -> Result<bool, Errno> {
        Ok(self.merged(cx)?.is_empty())
    }
}

/// An open directory.
pub(crate) struct OpenDirectory {
    node: Arc<Node>,
    /// The lower directory, which lists itself as long as there is no upper one.
    lower: Option<Arc<dyn FileOps>>,
    /// What is listed since this was last at the start; `None` while the lower one lists itself.
    snapshot: Mutex<Option<Arc<[Entry]>>, ranks::Leaf>,
}

impl OpenDirectory {
    pub(crate) fn new(node: Arc<Node>, lower: Option<Arc<dyn FileOps>>) -> OpenDirectory {
        OpenDirectory {
            node,
            lower,
            snapshot: Mutex::default(),
        }
    }
}

impl FileOps for OpenDirectory {
    fn readdir(
        &self,
        cx: &dyn Ctx,
        file: &File,
        from: u64,
        sink: &mut dyn DirSink,
    ) -> Result<u64, Errno> {
        let mut snapshot = self.snapshot.lock().clone();
        if from == 0 {
            snapshot = match &self.lower {
                Some(_) if !self.node.is_copied() => None,
                _ => Some(self.node.merged(cx)?.into()),
            };
            let old = std::mem::replace(&mut *self.snapshot.lock(), snapshot.clone());
            drop(old);
        }
        let all = match (snapshot, &self.lower) {
            (Some(all), _) => all,
            (None, Some(lower)) => return lower.readdir(cx, file, from, sink),
            // Positioned by lseek(2) before it was ever read.
            (None, None) => {
                let all: Arc<[Entry]> = self.node.merged(cx)?.into();
                let old = self.snapshot.lock().replace(all.clone());
                drop(old);
                all
            }
        };
        let ino = self.node.identity.ino;
        if from < 1 && !sink.entry(b".", ino, FileType::Directory, 1) {
            return Ok(0);
        }
        if from < FIRST {
            let parent = file.path().map(|p| p.parent().attr(cx)).transpose()?;
            let parent = parent.map_or(ino, |a| a.ino);
            if !sink.entry(b"..", parent, FileType::Directory, FIRST) {
                return Ok(1);
            }
        }
        let mut at = from.max(FIRST);
        let skip = usize::try_from(at - FIRST).unwrap_or(usize::MAX);
        for (name, ino, kind) in all.iter().skip(skip) {
            if !sink.entry(name, *ino, *kind, at + 1) {
                break;
            }
            at += 1;
        }
        Ok(at)
    }

    fn size(&self, cx: &dyn Ctx) -> Result<u64, Errno> {
        Ok(self.node.attr(cx)?.size)
    }

    fn sync(&self, _cx: &dyn Ctx, _data_only: bool) -> Result<(), Errno> {
        // What changes is memory, and what is below does not change.
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
