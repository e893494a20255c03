//! `/proc/PID/mem`: the memory of a process as a file, for who may trace it.

use crate::Proc;
use crate::node::Special;
use abi::Errno;
use abi::page::PAGE_SIZE;
use ctx::{Ctx, Dst, Src, SysResult};
use mm::Mm;
use std::any::Any;
use std::sync::Arc;
use task::Task;
use vfs::{File, FileOps, OpenFlags, Written};

pub(crate) struct MemoryFile {
    pub(crate) task: Arc<Task>,
}

impl Special for MemoryFile {
    fn open(
        &self,
        proc: &Arc<Proc>,
        cx: &dyn Ctx,
        _flags: OpenFlags,
    ) -> Result<Arc<dyn FileOps>, Errno> {
        proc.check_alive(&self.task)?;
        let mm = proc.look(cx, &self.task, || self.task.mm())?;
        let mm = mm.ok_or(Errno::ESRCH)?;
        Ok(Arc::new(Open(mm)))
    }

    fn perm(&self) -> u32 {
        0o600
    }
}

/// Of the program that ran when it was opened, also when another has taken its place.
struct Open(Arc<Mm>);

impl Open {
    /// Whether the program has gone, and its memory with it.
    fn is_gone(&self) -> bool {
        self.0.usage().virtual_ == 0
    }
}

/// Page by page, as Linux does: what is there before a gap counts. `step` moves a piece of at most
/// so many bytes at an address; 0 where there is nothing.
fn by_pages(
    addr: u64,
    len: usize,
    mut step: impl FnMut(u64, usize) -> Result<usize, Errno>,
) -> SysResult {
    let mut done = 0;
    while done < len {
        let at = addr.checked_add(done as u64).ok_or(Errno::EIO)?;
        let n = step(at, (len - done).min(PAGE_SIZE as usize))?;
        if n == 0 {
            return match done {
                0 => Err(Errno::EIO.into()),
                _ => Ok(done),
            };
        }
        done += n;
    }
    Ok(done)
}

impl FileOps for Open {
    fn read(&self, _cx: &dyn Ctx, _file: &File, offset: u64, dst: &mut Dst<'_>) -> SysResult {
        if self.is_gone() {
            return Ok(0);
        }
        let mut page = vec![0; PAGE_SIZE as usize];
        by_pages(offset, dst.remaining(), |at, len| {
            let piece = page.get_mut(..len).unwrap_or_default();
            match self.0.read_forced(at, piece) {
                Ok(n) => dst.put(&piece[..n]),
                Err(_) => Ok(0),
            }
        })
    }

    fn write(
        &self,
        _cx: &dyn Ctx,
        _file: &File,
        offset: u64,
        _append: bool,
        src: &mut Src<'_>,
    ) -> SysResult<Written> {
        if self.is_gone() {
            return Ok(Written {
                count: 0,
                end: offset,
            });
        }
        let mut page = vec![0; PAGE_SIZE as usize];
        let count = by_pages(offset, src.remaining(), |at, len| {
            let piece = page.get_mut(..len).unwrap_or_default();
            let n = src.take(piece)?;
            Ok(self.0.write_forced(at, &piece[..n]).unwrap_or(0))
        })?;
        Ok(Written {
            count,
            end: offset.saturating_add(count as u64),
        })
    }

    fn seeks_from_end(&self) -> bool {
        false
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
