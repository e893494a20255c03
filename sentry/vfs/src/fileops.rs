//! What an open file can do: the operations behind a file description.

use abi::Errno;
use ctx::{Ctx, Dst, Src, SysErr, SysResult};
use memmap::Mappable;
use std::any::Any;
use std::sync::Arc;
use wait::{Events, Queue};

use crate::sigio::Watchers;
use crate::{Attr, File, FileType, SetAttr};

/// Where a listing puts its entries; `false` says there is no more room.
pub trait DirSink {
    /// Takes one entry. `next` is the position after it (`d_off`).
    fn entry(&mut self, name: &[u8], ino: u64, kind: FileType, next: u64) -> bool;
}

/// Lists a directory that is made up on the spot, from position `from` on: each entry's position is
/// its place among all. Returns where the listing stopped.
pub fn list_entries<N: AsRef<[u8]>>(
    entries: impl IntoIterator<Item = (N, u64, FileType)>,
    from: u64,
    sink: &mut dyn DirSink,
) -> u64 {
    let mut at = from;
    let skipped = usize::try_from(from).unwrap_or(usize::MAX);
    for (name, ino, kind) in entries.into_iter().skip(skipped) {
        if !sink.entry(name.as_ref(), ino, kind, at + 1) {
            break;
        }
        at += 1;
    }
    at
}

/// The offset that stands for the position where a file keeps it itself.
pub const CURRENT: u64 = u64::MAX;

/// A position that is not the description's alone: others, outside the sandbox, move it too.
pub trait Position {
    /// Where it is now.
    fn get(&self) -> u64;
    /// Moves it.
    fn set(&self, to: u64) -> Result<(), Errno>;
}

/// Operations of an open file. Shared by all descriptors of a file description.
///
/// The defaults are what Linux answers for a file that cannot do it.
pub trait FileOps: Send + Sync + Any {
    /// Whether it has positions: `lseek`, `pread`, `pwrite` work. Streams say `false`; they get
    /// offset 0 in `read` and `write`.
    fn seekable(&self) -> bool {
        true
    }

    /// Whether it can be read at all, however it was opened.
    fn takes_reads(&self) -> bool {
        true
    }

    /// Whether it can be written at all, however it was opened.
    fn takes_writes(&self) -> bool {
        true
    }

    /// Whether io_submit(2) reads it.
    fn takes_async_reads(&self) -> bool {
        self.takes_reads()
    }

    /// Whether io_submit(2) writes it.
    fn takes_async_writes(&self) -> bool {
        self.takes_writes()
    }

    /// The position, where the file keeps it itself. Then `read` and `write` get [`CURRENT`] for
    /// it, and move it.
    fn own_position(&self) -> Option<&dyn Position> {
        None
    }

    /// Whether lseek(2) is taken and leads nowhere: the position is always 0 (/dev/null, an
    /// eventfd). Such a file gets offset 0 in `read` and `write`.
    fn stays_at_start(&self) -> bool {
        false
    }

    /// lseek(2) is about to go to `offset`: `EINVAL` where that is more than a file there can
    /// have.
    fn check_offset(&self, _offset: u64) -> Result<(), Errno> {
        Ok(())
    }

    /// Reads at `offset`. 0 is the end of the file. Blocks unless the file is non-blocking
    /// (`file.nonblocking()`), then `EAGAIN`.
    fn read(&self, _cx: &dyn Ctx, _file: &File, _offset: u64, _dst: &mut Dst<'_>) -> SysResult {
        Err(Errno::EINVAL.into())
    }

    /// Writes at `offset`. For `O_APPEND` files that seek, `append` is true and `offset` is to be
    /// ignored; the position after the write is returned with the count, so that the description
    /// can follow.
    fn write(
        &self,
        _cx: &dyn Ctx,
        _file: &File,
        _offset: u64,
        _append: bool,
        _src: &mut Src<'_>,
    ) -> SysResult<Written> {
        Err(Errno::EINVAL.into())
    }

    /// `SEEK_END`'s base, and the data of `SEEK_DATA` and `SEEK_HOLE`: the size.
    fn size(&self, _cx: &dyn Ctx) -> Result<u64, Errno> {
        Err(Errno::ESPIPE)
    }

    /// Whether `SEEK_END`, `SEEK_DATA` and `SEEK_HOLE` are taken: not by a text that Linux makes
    /// up line by line.
    fn seeks_from_end(&self) -> bool {
        true
    }

    /// `SEEK_DATA` (`hole == false`) and `SEEK_HOLE`. The default has no holes.
    fn seek_data(&self, cx: &dyn Ctx, offset: u64, hole: bool) -> Result<u64, Errno> {
        let size = self.size(cx)?;
        if offset >= size {
            return Err(Errno::ENXIO);
        }
        Ok(if hole { size } else { offset })
    }

    /// Lists a directory from position `from` on (0 is the start); returns the position to go on
    /// from. `.` and `..` are the file system's to give.
    fn readdir(
        &self,
        _cx: &dyn Ctx,
        _file: &File,
        _from: u64,
        _sink: &mut dyn DirSink,
    ) -> Result<u64, Errno> {
        Err(Errno::ENOTDIR)
    }

    /// What is ready now.
    fn ready(&self, _file: &File) -> Events {
        Events::READABLE | Events::WRITABLE
    }

    /// The queue that hears of changes of [`FileOps::ready`]; `None` for files that are always
    /// ready (they cannot be put into an epoll: `EPERM`).
    fn queue(&self) -> Option<&Queue> {
        None
    }

    /// Who is to be told by signals (`O_ASYNC`) of what happens to it: none for what sends none,
    /// two for the ends of a pipe in one.
    fn watchers(&self) -> [Option<&Watchers>; 2] {
        [None, None]
    }

    /// The process group that gets those signals where nobody was named; 0 is the process that
    /// asks for them.
    fn signals_to(&self, _cx: &dyn Ctx) -> Option<i32> {
        None
    }

    /// ioctl(2). `ENOTTY` for what it does not know.
    fn ioctl(&self, _cx: &dyn Ctx, _file: &File, _request: u32, _arg: u64) -> SysResult<u64> {
        Err(Errno::ENOTTY.into())
    }

    /// What mmap(2) maps; `ENODEV` for what cannot be mapped.
    fn mappable(&self, _cx: &dyn Ctx, _file: &File) -> Result<Arc<dyn Mappable>, Errno> {
        Err(Errno::ENODEV)
    }

    /// Whether a mapping of it is a new piece of memory, as without a file (/dev/zero).
    fn maps_as_memory(&self) -> bool {
        false
    }

    /// fsync(2), fdatasync(2).
    fn sync(&self, _cx: &dyn Ctx, _data_only: bool) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    /// fallocate(2) with its mode bits.
    fn allocate(&self, _cx: &dyn Ctx, _mode: u32, _offset: u64, _len: u64) -> Result<(), Errno> {
        Err(Errno::ENODEV)
    }

    /// The seals of a memfd (F_GET_SEALS); `EINVAL` for files that have none.
    fn seals(&self) -> Result<u32, Errno> {
        Err(Errno::EINVAL)
    }

    /// Adds seals (F_ADD_SEALS).
    fn add_seals(&self, _file: &File, _seals: u32) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    /// Attributes of a file that has no inode in a tree (pipes, sockets, eventfds); `None` for
    /// all others, whose inode is asked.
    fn anonymous_attr(&self, _cx: &dyn Ctx) -> Option<Attr> {
        None
    }

    /// Changes what [`FileOps::anonymous_attr`] tells; `EOPNOTSUPP` for what all of its kind share.
    fn set_anonymous_attr(&self, _set: &SetAttr) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// The name that /proc/PID/fd shows for a file without a place: `pipe:[12]`,
    /// `anon_inode:[eventfd]`.
    fn anonymous_name(&self) -> Option<Vec<u8>> {
        None
    }

    /// Opens it again, from /proc/PID/fd/N of a file without a place.
    fn reopen(&self, _cx: &dyn Ctx, _flags: crate::OpenFlags) -> Result<Arc<dyn FileOps>, SysErr> {
        Err(Errno::ENXIO.into())
    }

    /// Flags of fcntl(F_SETFL) are about to change; `EINVAL` refuses.
    fn flags_changing(&self, _new: crate::OpenFlags) -> Result<(), Errno> {
        Ok(())
    }

    /// A descriptor of it was closed (close(2), not the last reference): for lock release and
    /// terminals.
    fn flush(&self, _cx: &dyn Ctx) -> Result<(), Errno> {
        Ok(())
    }

    /// Further lines of /proc/PID/fdinfo/N.
    fn fdinfo(&self) -> String {
        String::new()
    }

    /// For code that knows the concrete type (sockets, epoll, pipes, terminals).
    fn as_any(&self) -> &dyn Any;
}

/// Outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes.
    pub count: usize,
    /// Position after the last of them.
    pub end: u64,
}

/// Ends a blocking call of a non-blocking file.
pub fn would_block<T>() -> Result<T, SysErr> {
    Err(Errno::EAGAIN.into())
}
