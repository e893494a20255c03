//! Reading, writing and seeking through a description.

use crate::notify::{self, Happened};
use crate::{CURRENT, File, FileType, OpenFlags, Pipe, Written};
use abi::Errno;
use ctx::{Ctx, Dst, Resource, Src, SysErr, SysResult, UserMemoryExt};

const SIGXFSZ: i32 = 25;
/// The largest offset of a file.
const MAX_OFFSET: u64 = i64::MAX as u64;

/// lseek(2)'s `whence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "lseek(2) says what each is")]
pub enum Whence {
    Set,
    Current,
    End,
    Data,
    Hole,
}

impl Whence {
    /// By its Linux number.
    pub fn from_number(n: u32) -> Result<Whence, Errno> {
        Ok(match n {
            0 => Whence::Set,
            1 => Whence::Current,
            2 => Whence::End,
            3 => Whence::Data,
            4 => Whence::Hole,
            _ => return Err(Errno::EINVAL),
        })
    }
}

/// `EINVAL` where `len` bytes from `at` on would end beyond every file's last offset.
#[inline]
fn check_end(at: u64, len: usize) -> Result<(), Errno> {
    if at.saturating_add(len as u64) > MAX_OFFSET {
        Err(Errno::EINVAL)
    } else {
        Ok(())
    }
}

impl File {
    /// read(2), readv(2).
    ///
    /// # Errors
    /// `EBADF` unless opened for reading, `EISDIR`, and what the file says.
    #[inline]
    pub fn read(&self, cx: &dyn Ctx, dst: &mut Dst<'_>) -> SysResult {
        self.check_read()?;
        if !self.moves() {
            let n = self.ops().read(cx, self, 0, dst)?;
            self.told(n, Happened::ACCESS);
            return Ok(n);
        }
        let mut position = self.position.lock();
        let at = self.start(*position, dst.remaining())?;
        let n = self.ops().read(cx, self, at, dst)?;
        *position = position.saturating_add(n as u64);
        drop(position);
        self.told(n, Happened::ACCESS);
        Ok(n)
    }

    /// write(2), writev(2).
    ///
    /// # Errors
    /// `EBADF` unless opened for writing; `EFBIG` (and `SIGXFSZ`) beyond RLIMIT_FSIZE; what the
    /// file says.
    #[inline]
    pub fn write(&self, cx: &dyn Ctx, src: &mut Src<'_>) -> SysResult {
        self.check_write()?;
        if !self.moves() {
            let n = self.ops().write(cx, self, 0, false, src)?.count;
            self.told(n, Happened::MODIFY);
            return Ok(n);
        }
        let append = self.flags().contains(OpenFlags::APPEND);
        let mut position = self.position.lock();
        let at = self.start(*position, src.remaining())?;
        let written = self.limited_write(cx, at, append, src)?;
        if written.count > 0 {
            *position = written.end;
        }
        drop(position);
        self.told(written.count, Happened::MODIFY);
        Ok(written.count)
    }

    /// pread64(2), preadv(2). The position stays.
    ///
    /// # Errors
    /// `ESPIPE` for streams; as [`File::read`].
    pub fn pread(&self, cx: &dyn Ctx, offset: u64, dst: &mut Dst<'_>) -> SysResult {
        if !self.seekable() {
            return Err(Errno::ESPIPE.into());
        }
        self.check_read()?;
        check_end(offset, dst.remaining())?;
        let n = self.ops().read(cx, self, offset, dst)?;
        self.told(n, Happened::ACCESS);
        Ok(n)
    }

    /// pwrite64(2), pwritev(2). The position stays. On an `O_APPEND` file it appends, as on
    /// Linux.
    ///
    /// # Errors
    /// `ESPIPE` for streams; as [`File::write`].
    pub fn pwrite(&self, cx: &dyn Ctx, offset: u64, src: &mut Src<'_>) -> SysResult {
        if !self.seekable() {
            return Err(Errno::ESPIPE.into());
        }
        self.check_write()?;
        check_end(offset, src.remaining())?;
        let append = self.flags().contains(OpenFlags::APPEND);
        let n = self.limited_write(cx, offset, append, src)?.count;
        self.told(n, Happened::MODIFY);
        Ok(n)
    }

    /// write(2) with `RWF_APPEND`: at the end, without moving the position unless it is the
    /// file's own way.
    pub fn append(&self, cx: &dyn Ctx, src: &mut Src<'_>) -> SysResult {
        self.check_write()?;
        let n = if self.moves() {
            self.limited_write(cx, 0, true, src)?.count
        } else {
            self.ops().write(cx, self, 0, false, src)?.count
        };
        self.told(n, Happened::MODIFY);
        Ok(n)
    }

    /// Where a transfer of `len` bytes begins, given the description's position.
    #[inline]
    fn start(&self, position: u64, len: usize) -> Result<u64, Errno> {
        if self.shares_position() {
            return Ok(CURRENT);
        }
        check_end(position, len)?;
        Ok(position)
    }

    /// Tells those who watch the file, where anything was moved.
    #[inline]
    fn told(&self, moved: usize, what: Happened) {
        if moved > 0 {
            notify::file(self, what);
        }
    }

    #[inline]
    fn check_read(&self) -> Result<(), Errno> {
        if !self.flags().readable() {
            return Err(Errno::EBADF);
        }
        if self.is_dir() {
            return Err(Errno::EISDIR);
        }
        Ok(())
    }

    #[inline]
    fn check_write(&self) -> Result<(), Errno> {
        if self.flags().writable() {
            Ok(())
        } else {
            Err(Errno::EBADF)
        }
    }

    fn limited_write(
        &self,
        cx: &dyn Ctx,
        offset: u64,
        append: bool,
        src: &mut Src<'_>,
    ) -> SysResult<Written> {
        if self.kind() == Some(FileType::Regular) {
            let limit = cx.limit(Resource::Fsize).min(MAX_OFFSET);
            // Most processes have no limit, and then nothing need be asked of the file.
            let at = if append && limit < MAX_OFFSET {
                self.ops().size(cx)?
            } else if let (CURRENT, Some(position)) = (offset, self.ops().own_position()) {
                position.get()
            } else {
                offset
            };
            let end = at.saturating_add(src.remaining() as u64);
            if end > limit && src.remaining() > 0 {
                return self.write_up_to(cx, (offset, at), append, limit, src);
            }
        }
        self.ops().write(cx, self, offset, append, src)
    }

    /// A write that would cross `limit`: as much as still fits. `at` is what `offset` comes to.
    fn write_up_to(
        &self,
        cx: &dyn Ctx,
        (offset, at): (u64, u64),
        append: bool,
        limit: u64,
        src: &mut Src<'_>,
    ) -> SysResult<Written> {
        if at >= limit {
            if limit < MAX_OFFSET {
                cx.raise(SIGXFSZ);
            }
            return Err(Errno::EFBIG.into());
        }
        let room = usize::try_from(limit - at)
            .unwrap_or(usize::MAX)
            .min(1 << 20)
            .min(src.remaining());
        let mut part = vec![0; room];
        let got = src.take(&mut part)?;
        part.truncate(got);
        self.ops()
            .write(cx, self, offset, append, &mut Src::ours(&part))
    }

    /// lseek(2): the new position.
    ///
    /// # Errors
    /// `ESPIPE` for streams, `EINVAL` where the result is negative or too large, `ENXIO` for
    /// data and holes beyond the end.
    pub fn seek(&self, cx: &dyn Ctx, offset: i64, whence: Whence) -> Result<u64, Errno> {
        if self.is_path_only() {
            return Err(Errno::EBADF);
        }
        if self.ops().stays_at_start() {
            return Ok(0);
        }
        if !self.seekable() {
            return Err(Errno::ESPIPE);
        }
        let mut position = self.position.lock();
        let own = self.ops().own_position();
        let base = match whence {
            Whence::Set => 0,
            Whence::Current => own.map_or(*position, |own| own.get()),
            Whence::End | Whence::Data | Whence::Hole if !self.ops().seeks_from_end() => {
                return Err(Errno::EINVAL);
            }
            Whence::End => self.ops().size(cx)?,
            Whence::Data | Whence::Hole => {
                let from = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
                self.ops().seek_data(cx, from, whence == Whence::Hole)?
            }
        };
        let to = match whence {
            Whence::Data | Whence::Hole => Some(base),
            _ => base.checked_add_signed(offset).filter(|p| *p <= MAX_OFFSET),
        };
        let to = to.ok_or(Errno::EINVAL)?;
        self.ops().check_offset(to)?;
        if let Some(own) = own {
            own.set(to)?;
        }
        *position = to;
        Ok(*position)
    }

    /// The position.
    pub fn position(&self) -> u64 {
        let position = self.position.lock();
        self.ops().own_position().map_or(*position, |own| own.get())
    }

    /// Moves the position back over what was read but not used.
    pub(crate) fn unread(&self, bytes: usize) -> Result<(), Errno> {
        let mut position = self.position.lock();
        let own = self.ops().own_position();
        *position = own
            .map_or(*position, |own| own.get())
            .saturating_sub(bytes as u64);
        own.map_or(Ok(()), |own| own.set(*position))
    }

    /// The position for /proc/PID/fdinfo; 0 while the file is being read or written, which may
    /// be what asks.
    pub fn position_now(&self) -> u64 {
        self.position.try_lock().map_or(0, |p| *p)
    }

    /// ioctl(2), but for `FIOCLEX` and `FIONCLEX`, which are the descriptor's.
    pub fn ioctl(&self, cx: &dyn Ctx, request: u32, arg: u64) -> Result<u64, SysErr> {
        const FIONREAD: u32 = 0x541b;
        const FIONBIO: u32 = 0x5421;
        match request {
            FIONBIO => {
                let yes: i32 = cx.memory().read_obj(arg)?;
                self.set_nonblocking(yes != 0);
                Ok(0)
            }
            FIONREAD if self.kind() == Some(FileType::Regular) => {
                let left = self.ops().size(cx)?.saturating_sub(self.position());
                cx.memory()
                    .write_obj(arg, &(left.min(i32::MAX as u64) as i32))?;
                Ok(0)
            }
            _ => self.ops().ioctl(cx, self, request, arg),
        }
    }

    /// fsync(2) and fdatasync(2).
    pub fn sync(&self, cx: &dyn Ctx, data_only: bool) -> Result<(), Errno> {
        self.ops().sync(cx, data_only)
    }

    /// fallocate(2).
    ///
    /// # Errors
    /// `EBADF` unless opened for writing, `ESPIPE` for pipes, `ENODEV` for what is not a regular
    /// file, `EFBIG` beyond the limits, `EINVAL` for an empty or negative range.
    pub fn allocate(&self, cx: &dyn Ctx, mode: u32, offset: i64, len: i64) -> Result<(), Errno> {
        if offset < 0 || len <= 0 {
            return Err(Errno::EINVAL);
        }
        const KEEP_SIZE: u32 = 1;
        const PUNCH_HOLE: u32 = 2;
        if mode & !0xfb != 0 || mode & (KEEP_SIZE | PUNCH_HOLE) == PUNCH_HOLE {
            return Err(Errno::EOPNOTSUPP);
        }
        self.check_write()?;
        match self.kind() {
            Some(FileType::Regular) => {}
            Some(FileType::Directory) => return Err(Errno::EISDIR),
            Some(FileType::Fifo) => return Err(Errno::ESPIPE),
            None if Pipe::of(self).is_some() => return Err(Errno::ESPIPE),
            _ => return Err(Errno::ENODEV),
        }
        let (offset, len) = (offset as u64, len as u64);
        let end = offset
            .checked_add(len)
            .filter(|e| *e <= MAX_OFFSET)
            .ok_or(Errno::EFBIG)?;
        if mode & KEEP_SIZE == 0 && end > cx.limit(Resource::Fsize) {
            cx.raise(SIGXFSZ);
            return Err(Errno::EFBIG);
        }
        self.ops().allocate(cx, mode, offset, len)?;
        notify::file(self, Happened::MODIFY);
        Ok(())
    }
}
