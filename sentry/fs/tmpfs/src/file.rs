//! One file: open, and mapped.

use crate::memfd::{SEAL_FUTURE_WRITE, SEAL_GROW, SEAL_SHRINK, SEAL_WRITE};
use crate::node::{Body, Node, Regular};
use abi::Errno;
use abi::page::{Range, page_down, page_up};
use auth::Creds;
use ctx::{Ctx, Dst, Src, SysResult};
use memmap::{Identity, Mappable, Mapping, Source, Space, Translation};
use std::any::Any;
use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use vfs::access::{WRITE, check_mode, owner_or_capable};
use vfs::{Attr, DirSink, File, FileOps, FileType, Inode, Written, attributes};

/// Bytes moved at a time.
const CHUNK: usize = 64 << 10;

thread_local! {
    /// Where bytes stand between a file and guest memory, so that no lock is held while guest
    /// memory is touched.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Runs `f` with a buffer of at least `len` bytes (at most [`CHUNK`]).
fn with_buffer<T>(len: usize, f: impl FnOnce(&mut [u8]) -> T) -> T {
    let len = len.min(CHUNK);
    let mut buffer = BUFFER.take();
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
    let result = f(buffer.get_mut(..len).unwrap_or_default());
    BUFFER.set(buffer);
    result
}

impl Regular {
    pub(crate) fn sealed(&self, seals: u32) -> bool {
        self.seals.load(Ordering::Acquire) & seals != 0
    }
}

impl Node {
    /// Sets the length of a regular file, and tells who maps what is gone.
    pub(crate) fn resize(&self, size: u64) -> Result<(), Errno> {
        let r = self.regular()?;
        let mut data = r.data.write();
        let old = data.size;
        if (size > old && r.sealed(SEAL_GROW)) || (size < old && r.sealed(SEAL_SHRINK)) {
            return Err(Errno::EPERM);
        }
        let gone = data.truncate(&self.fs, size)?;
        drop(data);
        if size < old {
            let from = abi::page::page_up(size).unwrap_or(u64::MAX);
            r.mappings.invalidate(Range::new(from, u64::MAX), true);
        }
        drop(gone);
        Ok(())
    }

    /// Does what takes memory; where the memory limit has no room for `len` bytes, again when
    /// room has been made.
    fn with_room<T>(&self, len: u64, step: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
        match step() {
            Err(Errno::ENOMEM) => {
                self.fs.memory().make_room(page_up(len).unwrap_or(len))?;
                step()
            }
            done => done,
        }
    }

    fn accessed(&self, cx: &dyn Ctx, file: &File) {
        let Some(at) = file.path() else { return };
        let now = cx.clocks().wall();
        let mut meta = self.meta.lock();
        let kind = Inode::kind(self);
        let flags = file.flags();
        if !flags.contains(vfs::OpenFlags::NOATIME)
            && at
                .mount
                .wants_atime(kind, meta.atime, meta.mtime, meta.ctime, now)
        {
            meta.atime = now;
        }
    }

    fn written(&self, cx: &dyn Ctx) {
        let now = cx.clocks().wall();
        let mut meta = self.meta.lock();
        meta.mtime = now;
        meta.ctime = now;
        if meta.perm & 0o6000 == 0 {
            return;
        }
        let (perm, uid, gid) = (meta.perm, meta.uid, meta.gid);
        drop(meta);
        let attr = Attr {
            perm,
            uid,
            gid,
            ..vfs::anon::plain_attr(FileType::Regular, 0, 0, now)
        };
        if let Some(perm) = attributes::perm_after_write(&cx.creds(), &attr) {
            self.meta.lock().perm = perm;
        }
    }

    /// One step of a write; returns where it went, which may be less than all.
    fn write_part(&self, r: &Regular, at: u64, append: bool, bytes: &[u8]) -> Result<Range, Errno> {
        let mut data = r.data.write();
        let at = if append { data.size } else { at };
        let end = at
            .checked_add(bytes.len() as u64)
            .filter(|e| *e <= i64::MAX as u64);
        let mut end = end.ok_or(Errno::EFBIG)?;
        if r.sealed(SEAL_WRITE | SEAL_FUTURE_WRITE) {
            return Err(Errno::EPERM);
        }
        if end > data.size && r.sealed(SEAL_GROW) {
            // Page by page, as Linux writes: those that do not go beyond the end.
            end = page_down(data.size);
            if end <= at {
                return Err(Errno::EPERM);
            }
        }
        let bytes = bytes.get(..(end - at) as usize).unwrap_or(bytes);
        let end = data.write(&self.fs, at, bytes)?;
        Ok(Range::new(at, end))
    }
}

impl FileOps for Node {
    fn read(&self, cx: &dyn Ctx, file: &File, offset: u64, dst: &mut Dst<'_>) -> SysResult {
        let r = self.regular()?;
        let mut at = offset;
        let mut result: Result<(), Errno> = Ok(());
        while dst.remaining() > 0 && result.is_ok() {
            let step = with_buffer(dst.remaining(), |buffer| {
                let part = {
                    let data = r.data.read();
                    let left = usize::try_from(data.size.saturating_sub(at)).unwrap_or(usize::MAX);
                    let len = left.min(buffer.len());
                    let part = buffer.get_mut(..len).unwrap_or_default();
                    data.read(at, part)?;
                    part
                };
                if part.is_empty() {
                    return Ok((0, true));
                }
                let n = dst.put(part)?;
                Ok((n, n < part.len()))
            });
            match step {
                Ok((n, last)) => {
                    at += n as u64;
                    if last {
                        break;
                    }
                }
                Err(e) => result = Err(e),
            }
        }
        let done = (at - offset) as usize;
        self.accessed(cx, file);
        match result {
            Err(e) if done == 0 => Err(e.into()),
            _ => Ok(done),
        }
    }

    fn write(
        &self,
        cx: &dyn Ctx,
        _file: &File,
        offset: u64,
        append: bool,
        src: &mut Src<'_>,
    ) -> SysResult<Written> {
        let r = self.regular()?;
        let (mut end, mut count) = (offset, 0);
        let mut result: Result<(), Errno> = Ok(());
        let mut fits = true;
        while src.remaining() > 0 && result.is_ok() && fits {
            result = with_buffer(src.remaining(), |buffer| {
                let n = src.take(buffer)?;
                // What goes on behind its own first part is not appended anew.
                let bytes = buffer.get(..n).unwrap_or_default();
                let append = append && count == 0;
                let done = self.with_room(n as u64, || self.write_part(r, end, append, bytes))?;
                end = done.end;
                count += done.len() as usize;
                fits = done.len() == n as u64;
                Ok(())
            });
        }
        if count > 0 {
            self.written(cx);
        }
        match result {
            Err(e) if count == 0 => Err(e.into()),
            _ => Ok(Written { count, end }),
        }
    }

    fn size(&self, _cx: &dyn Ctx) -> Result<u64, Errno> {
        match &self.body {
            Body::Regular(r) => Ok(r.data.read().size),
            _ => Err(Errno::EINVAL),
        }
    }

    fn seek_data(&self, _cx: &dyn Ctx, offset: u64, hole: bool) -> Result<u64, Errno> {
        match &self.body {
            Body::Regular(r) => r.data.read().seek(offset, hole),
            _ => Err(Errno::EINVAL),
        }
    }

    fn readdir(
        &self,
        cx: &dyn Ctx,
        file: &File,
        from: u64,
        sink: &mut dyn DirSink,
    ) -> Result<u64, Errno> {
        let directory = self.directory()?;
        if from < 1 && !sink.entry(b".", self.ino, FileType::Directory, 1) {
            return Ok(0);
        }
        if from < 2 {
            // Asked before the lock: it may be a directory of another file system.
            let parent = file.path().map(|p| p.parent().attr(cx)).transpose()?;
            if !sink.entry(
                b"..",
                parent.map_or(self.ino, |a| a.ino),
                FileType::Directory,
                2,
            ) {
                return Ok(1);
            }
        }
        let mut next = from.max(2);
        for (at, name, node) in directory.read().list(from) {
            if !sink.entry(name, node.ino, Inode::kind(&**node), at + 1) {
                break;
            }
            next = at + 1;
        }
        self.accessed(cx, file);
        Ok(next)
    }

    fn mappable(&self, _cx: &dyn Ctx, file: &File) -> Result<Arc<dyn Mappable>, Errno> {
        let Body::Regular(r) = &self.body else {
            return Err(Errno::ENODEV);
        };
        let old = std::mem::replace(&mut *r.mapped_at.lock(), file.path().cloned());
        drop(old);
        let me = self.me.upgrade().ok_or(Errno::ENODEV)?;
        Ok(me)
    }

    fn sync(&self, _cx: &dyn Ctx, _data_only: bool) -> Result<(), Errno> {
        Ok(())
    }

    fn allocate(&self, cx: &dyn Ctx, mode: u32, offset: u64, len: u64) -> Result<(), Errno> {
        const KEEP_SIZE: u32 = 1;
        const PUNCH_HOLE: u32 = 2;
        let Body::Regular(r) = &self.body else {
            return Err(Errno::ENODEV);
        };
        let range = Range::sized(offset, len)?;
        match mode {
            m if m == PUNCH_HOLE | KEEP_SIZE => {
                if r.sealed(SEAL_WRITE | SEAL_FUTURE_WRITE) {
                    return Err(Errno::EPERM);
                }
                Mappable::punch(self, range)?;
            }
            0 | KEEP_SIZE => self.with_room(len, || {
                let mut data = r.data.write();
                if range.end > data.size && r.sealed(SEAL_GROW) {
                    return Err(Errno::EPERM);
                }
                data.reserve(&self.fs, range)?;
                if mode & KEEP_SIZE == 0 {
                    data.size = data.size.max(range.end);
                }
                Ok(())
            })?,
            _ => return Err(Errno::EOPNOTSUPP),
        }
        self.modified(cx.clocks().wall());
        Ok(())
    }

    fn seals(&self) -> Result<u32, Errno> {
        Ok(self.regular()?.seals.load(Ordering::Acquire))
    }

    fn add_seals(&self, file: &File, seals: u32) -> Result<(), Errno> {
        crate::memfd::add_seals(self.regular()?, file, seals)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Mappable for Node {
    fn identity(&self) -> Identity {
        let place = self.regular().ok().and_then(|r| r.mapped_at.lock().clone());
        let path = place.map(|p| p.text()).unwrap_or_default();
        Identity {
            dev: self.fs.dev(),
            ino: self.ino,
            path,
        }
    }

    fn translate(&self, offset: u64, len: u64, write: bool) -> Result<Translation, Errno> {
        let frames = self
            .regular()?
            .data
            .write()
            .frames(&self.fs, offset, len, write)?;
        Ok(Translation {
            len: frames.len(),
            source: Source::Frames(frames),
        })
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(self.regular()?.data.read().size)
    }

    fn attach(&self, mapping: Mapping) -> Result<(), Errno> {
        let r = self.regular()?;
        // What was mapped before SEAL_FUTURE_WRITE may be copied and moved.
        if mapping.shared_write && r.sealed(SEAL_WRITE) {
            return Err(Errno::EPERM);
        }
        r.mappings.attach(mapping);
        Ok(())
    }

    fn detach(&self, space: &Weak<dyn Space>, addr: u64, range: Range) {
        let Ok(r) = self.regular() else { return };
        r.mappings.detach(space, addr, range);
        if r.mappings.is_empty() {
            // The place leads back to us, and is not needed any more.
            let place = r.mapped_at.lock().take();
            drop(place);
        }
    }

    fn next_resident(&self, offset: u64) -> Option<Range> {
        self.regular().ok()?.data.read().next_real(offset)
    }

    fn may_be_watched(&self, creds: &Creds) -> bool {
        let attr = self.attributes();
        owner_or_capable(creds, &attr).is_ok() || check_mode(creds, &attr, WRITE).is_ok()
    }

    fn punch(&self, range: Range) -> Result<(), Errno> {
        // The frames stay where they are, so that who maps them sees zeros at once.
        self.regular()?.data.write().punch(&self.fs, range)
    }
}
