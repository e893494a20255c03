//! Bringing a file from below to the upper tree.
//!
//! A copy gets its name when it is complete. What fails half way leaves nothing behind.

use crate::fs::{ORIGIN, PRIVATE};
use crate::node::Node;
use abi::Errno;
use ctx::{Ctx, Dst, Src, SysErr};
use std::sync::Arc;
use vfs::{Attr, FileOps, FileType, Inode, Link, NewFile, NewKind, OpenFlags, SetAttr};

/// Bytes copied at a time.
const CHUNK: usize = 256 << 10;

impl Node {
    /// The upper file, copied where there was none. `len` is how much of the content is wanted.
    pub(crate) fn copy_up(&self, cx: &dyn Ctx, len: u64) -> Result<Arc<dyn Inode>, Errno> {
        if let Some(upper) = self.upper() {
            return Ok(upper);
        }
        // The directories above first, from the top: the root has always been there.
        let mut chain = Vec::new();
        let mut above = self.place();
        while let Some((dir, _)) = above {
            if dir.is_copied() {
                break;
            }
            above = dir.place();
            chain.push(dir);
        }
        for dir in chain.into_iter().rev() {
            dir.copy_alone(cx, 0)?;
        }
        self.copy_alone(cx, len)
    }

    /// As [`Node::copy_up`], where the directory above is there.
    fn copy_alone(&self, cx: &dyn Ctx, len: u64) -> Result<Arc<dyn Inode>, Errno> {
        let _once = self.copying.lock();
        if let Some(upper) = self.upper() {
            return Ok(upper);
        }
        let lower = self.lower().ok_or(Errno::ESTALE)?;
        let attr = lower.attr(cx)?;
        let place = self.place();
        let dir = match &place {
            Some((dir, _)) => dir.upper().ok_or(Errno::ESTALE)?,
            None if self.kind == FileType::Regular => {
                // Its name is gone; the copy never has one.
                let hidden = self.fs.root_upper().ok_or(Errno::ESTALE)?;
                let upper = self.copy_regular(cx, &hidden, &lower, &attr, len)?;
                return Ok(self.copied(upper, &attr));
            }
            None => return Err(Errno::ENOENT),
        };
        let name = place.map(|(_, name)| name).unwrap_or_default();
        let times = dir.attr(cx)?;
        let upper = match self.kind {
            FileType::Regular => {
                let upper = self.copy_regular(cx, &dir, &lower, &attr, len)?;
                dir.link(cx, &name, &upper)?;
                upper
            }
            _ => {
                let upper = dir.create(cx, &name, self.special(cx, &lower, &attr)?, &new(&attr))?;
                self.copy_attributes(cx, &lower, &upper, &attr)
                    .inspect_err(|_| {
                        let _undone = match self.kind {
                            FileType::Directory => dir.rmdir(cx, &name),
                            _ => dir.unlink(cx, &name),
                        };
                    })?;
                upper
            }
        };
        // That the file is elsewhere now is no change of its directory.
        let (atime, mtime) = (Some(times.atime), Some(times.mtime));
        dir.set_attr(
            cx,
            &SetAttr {
                atime,
                mtime,
                ..SetAttr::default()
            },
        )?;
        Ok(self.copied(upper, &attr))
    }

    fn copied(&self, upper: Arc<dyn Inode>, attr: &Attr) -> Arc<dyn Inode> {
        self.set_upper(upper.clone());
        if self.kind != FileType::Directory
            && attr.nlink > 1
            && let Some(me) = self.me.upgrade()
        {
            self.fs.keep(&me);
        }
        upper
    }

    fn special(&self, cx: &dyn Ctx, lower: &Arc<dyn Inode>, attr: &Attr) -> Result<NewKind, Errno> {
        Ok(match self.kind {
            FileType::Regular => NewKind::Regular,
            FileType::Directory => NewKind::Directory,
            FileType::Symlink => match lower.readlink(cx)? {
                Link::Path(target) => NewKind::Symlink(target),
                Link::Place(_) | Link::File(_) => return Err(Errno::EINVAL),
            },
            FileType::Fifo => NewKind::Fifo,
            // In no tree, and so not in a lower one.
            FileType::Anonymous => return Err(Errno::EINVAL),
            FileType::CharDevice | FileType::BlockDevice => NewKind::Device(self.kind, attr.rdev),
            FileType::Socket => NewKind::Socket(lower.socket().unwrap_or_else(|| Arc::new(()))),
        })
    }

    fn copy_regular(
        &self,
        cx: &dyn Ctx,
        dir: &Arc<dyn Inode>,
        lower: &Arc<dyn Inode>,
        attr: &Attr,
        len: u64,
    ) -> Result<Arc<dyn Inode>, Errno> {
        let upper = dir.create_unnamed(cx, &new(attr))?;
        let len = len.min(attr.size);
        if len > 0 {
            let (from, from_file) = self.fs.open(cx, lower, OpenFlags::RDONLY)?;
            let (to, to_file) = self.fs.open(cx, &upper, OpenFlags::RDWR)?;
            copy_data(cx, (&*from, &from_file), (&*to, &to_file), len)?;
        }
        if upper.attr(cx)?.size != len {
            upper.set_attr(
                cx,
                &SetAttr {
                    size: Some(len),
                    ..SetAttr::default()
                },
            )?;
        }
        self.copy_attributes(cx, lower, &upper, attr)?;
        Ok(upper)
    }

    /// Extended attributes, the identity, and, last, the times.
    fn copy_attributes(
        &self,
        cx: &dyn Ctx,
        lower: &Arc<dyn Inode>,
        upper: &Arc<dyn Inode>,
        attr: &Attr,
    ) -> Result<(), Errno> {
        let names = match lower.list_xattr(cx) {
            Ok(names) => names,
            Err(Errno::EOPNOTSUPP) => Vec::new(),
            Err(e) => return Err(e),
        };
        for name in names.iter().filter(|n| !n.starts_with(PRIVATE)) {
            let value = match lower.get_xattr(cx, name) {
                Ok(value) => value,
                // Gone meanwhile.
                Err(Errno::ENODATA) => continue,
                Err(e) => return Err(e),
            };
            upper.set_xattr(cx, name, &value, 0)?;
        }
        if self.kind != FileType::Directory {
            upper.set_xattr(cx, ORIGIN, &self.identity.to_bytes(), 0)?;
        }
        let (atime, mtime) = (Some(attr.atime), Some(attr.mtime));
        upper.set_attr(
            cx,
            &SetAttr {
                atime,
                mtime,
                ..SetAttr::default()
            },
        )
    }
}

fn new(attr: &Attr) -> NewFile {
    NewFile {
        perm: attr.perm,
        uid: attr.uid,
        gid: attr.gid,
    }
}

/// Copies the first `len` bytes; holes stay holes.
fn copy_data(
    cx: &dyn Ctx,
    (from, from_file): (&dyn FileOps, &vfs::File),
    (to, to_file): (&dyn FileOps, &vfs::File),
    len: u64,
) -> Result<(), Errno> {
    let mut buf = vec![0; CHUNK.min(usize::try_from(len).unwrap_or(CHUNK))];
    let mut at = 0;
    while at < len {
        match from.seek_data(cx, at, false) {
            Ok(data) => at = data,
            // A hole to the end.
            Err(Errno::ENXIO) => return Ok(()),
            Err(_) => {}
        }
        let hole = from.seek_data(cx, at, true).unwrap_or(len).clamp(at, len);
        // At least something: a file that changes below may say what it likes.
        let end = if hole > at { hole } else { len };
        while at < end {
            let want = buf
                .len()
                .min(usize::try_from(end - at).unwrap_or(usize::MAX));
            let part = buf.get_mut(..want).unwrap_or_default();
            let n = from
                .read(cx, from_file, at, &mut Dst::ours(part))
                .map_err(SysErr::errno)?;
            if n == 0 {
                return Ok(());
            }
            let mut src = Src::ours(part.get(..n).unwrap_or_default());
            while src.remaining() > 0 {
                let written = to.write(cx, to_file, at, false, &mut src);
                let written = written.map_err(SysErr::errno)?;
                if written.count == 0 {
                    return Err(Errno::ENOSPC);
                }
                at = written.end;
            }
        }
    }
    Ok(())
}
