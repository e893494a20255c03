//! rename(2) and renameat2(2).

use crate::names::{Above, make_opaque};
use crate::node::Node;
use abi::Errno;
use ctx::Ctx;
use std::sync::Arc;
use vfs::rename::{EXCHANGE, NOREPLACE};

impl Node {
    /// Moves `name` of this directory to `new_name` of `to`.
    pub(crate) fn move_name(
        self: &Arc<Self>,
        cx: &dyn Ctx,
        name: &[u8],
        to: &Arc<Node>,
        new_name: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        if flags & !(EXCHANGE | NOREPLACE) != 0 {
            return Err(Errno::EINVAL);
        }
        let moved = self.find(cx, name)?.ok_or(Errno::ENOENT)?;
        let there = to.find(cx, new_name)?;
        if there.is_some() && flags & NOREPLACE != 0 {
            return Err(Errno::EEXIST);
        }
        if there.as_ref().is_some_and(|t| Arc::ptr_eq(t, &moved)) {
            // Two names of one file: both stay.
            return Ok(());
        }
        let stays = |n: &Arc<Node>| n.is_dir() && n.lower().is_some();
        if stays(&moved) {
            return Err(Errno::EXDEV);
        }
        if flags & EXCHANGE != 0 {
            let other = there.ok_or(Errno::ENOENT)?;
            if stays(&other) {
                return Err(Errno::EXDEV);
            }
            return self.exchange(cx, (name, &moved), to, (new_name, &other));
        }
        if let Some(there) = there.as_ref().filter(|t| t.is_dir())
            && !there.is_empty(cx)?
        {
            return Err(Errno::ENOTEMPTY);
        }
        let hide = self.below(cx, name)?.is_some();
        let upper = self.raise(cx, name, &moved)?;
        let from_dir = self.copy_up(cx, 0)?;
        let to_dir = to.copy_up(cx, 0)?;
        let covers = match to.above(cx, new_name)? {
            Above::Absent => false,
            Above::Whiteout => {
                to_dir.unlink(cx, new_name)?;
                true
            }
            Above::Found(old) => {
                if there.as_ref().is_some_and(|t| t.is_dir()) {
                    self.empty(cx, &old)?;
                }
                false
            }
        };
        if moved.is_dir() {
            make_opaque(cx, &upper)?;
        }
        from_dir
            .rename(cx, name, &to_dir, new_name, 0)
            .inspect_err(|_| {
                if covers && let Err(e) = to.put_whiteout(cx, &to_dir, new_name) {
                    tracing::warn!("overlay: a removed name shows again: {e}");
                }
            })?;
        if hide {
            self.put_whiteout(cx, &from_dir, name)?;
        }
        if let Some(there) = &there {
            there.name_gone(cx, to, new_name);
        }
        moved.set_place(Some((to.clone(), new_name.into())));
        Ok(())
    }

    fn exchange(
        self: &Arc<Self>,
        cx: &dyn Ctx,
        (name, one): (&[u8], &Arc<Node>),
        to: &Arc<Node>,
        (new_name, other): (&[u8], &Arc<Node>),
    ) -> Result<(), Errno> {
        for (dir, name, node) in [(self, name, one), (to, new_name, other)] {
            let upper = dir.raise(cx, name, node)?;
            if node.is_dir() {
                make_opaque(cx, &upper)?;
            }
        }
        let (from_dir, to_dir) = (self.copy_up(cx, 0)?, to.copy_up(cx, 0)?);
        from_dir.rename(cx, name, &to_dir, new_name, EXCHANGE)?;
        one.set_place(Some((to.clone(), new_name.into())));
        other.set_place(Some((self.clone(), name.into())));
        Ok(())
    }
}
