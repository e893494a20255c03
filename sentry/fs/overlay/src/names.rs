//! The names in a directory: found, hidden, made.

use crate::fs::{OPAQUE, absent_is_none, is_whiteout};
use crate::node::{Layers, Node};
use abi::Errno;
use ctx::Ctx;
use std::sync::Arc;
use vfs::{FileType, Inode, NewFile, NewKind};

/// What a directory's upper part says of a name.
pub(crate) enum Above {
    /// Nothing.
    Absent,
    /// It is gone, whatever is below.
    Whiteout,
    /// This.
    Found(Arc<dyn Inode>),
}

impl Node {
    /// What the upper part of this directory says of `name`.
    pub(crate) fn above(&self, cx: &dyn Ctx, name: &[u8]) -> Result<Above, Errno> {
        let Some(dir) = self.upper() else {
            return Ok(Above::Absent);
        };
        Ok(match absent_is_none(dir.lookup(cx, name))? {
            None => Above::Absent,
            Some(found) if is_whiteout(cx, &found)? => Above::Whiteout,
            Some(found) => Above::Found(found),
        })
    }

    /// What the lower part of this directory has under `name`.
    pub(crate) fn below(&self, cx: &dyn Ctx, name: &[u8]) -> Result<Option<Arc<dyn Inode>>, Errno> {
        match self.lower() {
            Some(dir) => absent_is_none(dir.lookup(cx, name)),
            None => Ok(None),
        }
    }

    /// Finds `name`; `None` where there is none.
    pub(crate) fn find(
        self: &Arc<Self>,
        cx: &dyn Ctx,
        name: &[u8],
    ) -> Result<Option<Arc<Node>>, Errno> {
        let (identity, kind, layers) = match self.above(cx, name)? {
            Above::Whiteout => return Ok(None),
            Above::Absent => {
                let Some(lower) = self.below(cx, name)? else {
                    return Ok(None);
                };
                let identity = self.fs.below(&lower.attr(cx)?);
                (
                    identity,
                    lower.kind(),
                    Layers {
                        lower: Some(lower),
                        upper: None,
                    },
                )
            }
            Above::Found(upper) if upper.kind() == FileType::Directory => {
                let shows = !is_opaque(cx, &upper);
                let lower = if shows { self.below(cx, name)? } else { None };
                let lower = lower.filter(|l| l.kind() == FileType::Directory);
                let identity = match &lower {
                    Some(lower) => self.fs.below(&lower.attr(cx)?),
                    None => self.fs.above(cx, &upper)?,
                };
                (
                    identity,
                    FileType::Directory,
                    Layers {
                        lower,
                        upper: Some(upper),
                    },
                )
            }
            Above::Found(upper) => {
                let identity = self.fs.above(cx, &upper)?;
                (
                    identity,
                    upper.kind(),
                    Layers {
                        lower: None,
                        upper: Some(upper),
                    },
                )
            }
        };
        let place = (self.clone(), name.into());
        let found = self.fs.intern(identity, kind, layers, Some(place.clone()));
        if found.place().is_none() {
            found.set_place(Some(place));
        }
        Ok(Some(found))
    }

    /// Makes `name` free in the upper part `dir`, of which the overlay shows that it is; returns
    /// whether there was a whiteout.
    pub(crate) fn clear_whiteout(
        &self,
        cx: &dyn Ctx,
        dir: &Arc<dyn Inode>,
        name: &[u8],
    ) -> Result<bool, Errno> {
        match self.above(cx, name)? {
            Above::Absent => Ok(false),
            Above::Found(_) => Err(Errno::EEXIST),
            Above::Whiteout => dir.unlink(cx, name).map(|()| true),
        }
    }

    /// The upper file of `child`, under `name` in the upper part of this directory: `child` may
    /// have been copied under another name that it has below.
    pub(crate) fn raise(
        self: &Arc<Self>,
        cx: &dyn Ctx,
        name: &[u8],
        child: &Arc<Node>,
    ) -> Result<Arc<dyn Inode>, Errno> {
        let upper = child.copy_up(cx, u64::MAX)?;
        let dir = self.copy_up(cx, 0)?;
        if let Above::Absent = self.above(cx, name)? {
            dir.link(cx, name, &upper)?;
        }
        Ok(upper)
    }

    /// Hides `name` of the lower part.
    pub(crate) fn put_whiteout(
        &self,
        cx: &dyn Ctx,
        dir: &Arc<dyn Inode>,
        name: &[u8],
    ) -> Result<(), Errno> {
        let new = NewFile {
            perm: 0,
            uid: 0,
            gid: 0,
        };
        dir.create(cx, name, NewKind::Device(FileType::CharDevice, 0), &new)
            .map(drop)
    }

    /// Runs `make`, which makes `name` in the upper part `dir`, in the place of a whiteout.
    pub(crate) fn in_place<T>(
        &self,
        cx: &dyn Ctx,
        dir: &Arc<dyn Inode>,
        name: &[u8],
        make: impl FnOnce(bool) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let hidden = self.clear_whiteout(cx, dir, name)?;
        make(hidden).inspect_err(|_| {
            if hidden && let Err(e) = self.put_whiteout(cx, dir, name) {
                tracing::warn!("overlay: a removed name shows again: {e}");
            }
        })
    }

    /// Removes `name`, which leads to `child`.
    pub(crate) fn remove(
        self: &Arc<Self>,
        cx: &dyn Ctx,
        name: &[u8],
        child: &Arc<Node>,
    ) -> Result<(), Errno> {
        let hide = self.below(cx, name)?.is_some();
        // Whoever goes down from `child` must not find a name that is gone.
        let dir = self.copy_up(cx, 0)?;
        if let Above::Found(upper) = self.above(cx, name)? {
            match upper.kind() {
                FileType::Directory => {
                    self.empty(cx, &upper)?;
                    dir.rmdir(cx, name)?;
                }
                _ => dir.unlink(cx, name)?,
            }
        }
        if hide {
            self.put_whiteout(cx, &dir, name)?;
        }
        child.name_gone(cx, self, name);
        Ok(())
    }

    /// `name` of `dir` does not lead here any more.
    pub(crate) fn name_gone(&self, cx: &dyn Ctx, dir: &Node, name: &[u8]) {
        self.add_links(-1);
        if self.stands_at(dir, name) {
            self.set_place(None);
        }
        if self.is_dir() || self.lower().is_none() {
            return;
        }
        if self.attr(cx).is_ok_and(|a| a.nlink == 0) {
            self.fs.let_go(self);
        } else if let Some(me) = self.me.upgrade() {
            // How many names are left is known here alone.
            self.fs.keep(&me);
        }
    }

    /// Removes the whiteouts that are all that is left in a directory of the upper tree.
    pub(crate) fn empty(&self, cx: &dyn Ctx, upper: &Arc<dyn Inode>) -> Result<(), Errno> {
        for (name, _, kind) in self.fs.list(cx, upper)? {
            if kind != FileType::CharDevice || !is_whiteout(cx, &upper.lookup(cx, &name)?)? {
                return Err(Errno::ENOTEMPTY);
            }
            upper.unlink(cx, &name)?;
        }
        Ok(())
    }
}

fn is_opaque(cx: &dyn Ctx, upper: &Arc<dyn Inode>) -> bool {
    upper.get_xattr(cx, OPAQUE).is_ok_and(|v| v == b"y")
}

/// Nothing below shows through this directory of the upper tree.
pub(crate) fn make_opaque(cx: &dyn Ctx, upper: &Arc<dyn Inode>) -> Result<(), Errno> {
    upper.set_xattr(cx, OPAQUE, b"y", 0)
}
