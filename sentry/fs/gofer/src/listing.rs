//! An open directory.

use crate::client::nonsense;
use crate::directory::FIRST;
use crate::node::Node;
use abi::Errno;
use control::fs::{Reply, Request};
use ctx::Ctx;
use std::any::Any;
use std::sync::Arc;
use sync::{Mutex, ranks};
use vfs::{DirSink, File, FileOps, FileType, Inode};

/// A directory as one description sees it.
pub(crate) struct OpenDirectory {
    node: Arc<Node>,
    /// What the host said when this was last at the start, where no listing is kept: a reader
    /// sees each name once, as rewinddir(3) has it.
    snapshot: Mutex<Option<Arc<[Name]>>, ranks::Leaf>,
}

struct Name {
    name: Vec<u8>,
    ino: u64,
    kind: FileType,
}

impl OpenDirectory {
    pub(crate) fn new(node: Arc<Node>) -> OpenDirectory {
        OpenDirectory {
            node,
            snapshot: Mutex::default(),
        }
    }

    fn take_snapshot(&self) -> Result<Arc<[Name]>, Errno> {
        let mut all = Vec::new();
        let mut from = 0;
        loop {
            let request = Request::ReadDir {
                dir: self.node.id,
                from,
                nodes: false,
            };
            let Reply::Entries { list, next } = self.node.fs.client.ask(request)?.reply else {
                return nonsense();
            };
            all.extend(list.into_iter().map(|e| {
                let kind = FileType::from_mode(u32::from(e.kind) << 12);
                Name {
                    name: e.name,
                    ino: e.ino,
                    kind: kind.unwrap_or(FileType::Regular),
                }
            }));
            match next {
                Some(next) if next != from => from = next,
                _ => return Ok(all.into()),
            }
        }
    }

    fn list_snapshot(&self, from: u64, sink: &mut dyn DirSink) -> Result<u64, Errno> {
        let old = self.snapshot.lock().clone();
        let all = match old {
            Some(all) if from > FIRST => all,
            _ => {
                let all = self.take_snapshot()?;
                // The host has noted the access.
                self.node.touched();
                let old = self.snapshot.lock().replace(all.clone());
                drop(old);
                all
            }
        };
        let mut at = from.max(FIRST);
        let skip = usize::try_from(at - FIRST).unwrap_or(usize::MAX);
        for e in all.iter().skip(skip) {
            if !sink.entry(&e.name, e.ino, e.kind, at + 1) {
                break;
            }
            at += 1;
        }
        Ok(at)
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
        let node = &self.node;
        if from < 1 && !sink.entry(b".", node.key.ino, FileType::Directory, 1) {
            return Ok(0);
        }
        if from < FIRST {
            let parent = file.path().map(|p| p.parent().attr(cx)).transpose()?;
            let ino = parent.map_or(node.key.ino, |a| a.ino);
            if !sink.entry(b"..", ino, FileType::Directory, FIRST) {
                return Ok(1);
            }
        }
        if node.fs.options.exclusive && node.list_all()? {
            let listed = node.with_listing(|listing| {
                let mut next = from.max(FIRST);
                for (at, name, child) in listing.from(from) {
                    if !sink.entry(name, child.key.ino, child.kind, at + 1) {
                        break;
                    }
                    next = at + 1;
                }
                next
            });
            if let Some(next) = listed {
                return Ok(next);
            }
        }
        self.list_snapshot(from, sink)
    }

    fn sync(&self, _cx: &dyn Ctx, _data_only: bool) -> Result<(), Errno> {
        match self
            .node
            .fs
            .client
            .ask(Request::Sync { node: self.node.id })?
            .reply
        {
            Reply::Done => Ok(()),
            _ => nonsense(),
        }
    }

    fn size(&self, cx: &dyn Ctx) -> Result<u64, Errno> {
        Ok(self.node.attr(cx)?.size)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
