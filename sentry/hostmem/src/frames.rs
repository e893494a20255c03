//! Counted handles to frames.

use crate::MemoryFile;
use abi::Errno;
use abi::page::{PAGE_SIZE, Range};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A handle to a page-aligned stretch of a memory file. Cloning counts one reference more for
/// each page; dropping one less, and what nobody holds any more is given back to the host.
///
/// Offsets in the methods count from the start of the stretch. Accesses outside of it are
/// `EFAULT`, as are pages the host cannot provide.
pub struct Frames {
    file: Arc<MemoryFile>,
    range: Range,
}

impl std::fmt::Debug for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frames({:?})", self.range)
    }
}

impl Clone for Frames {
    fn clone(&self) -> Frames {
        self.file.hold(self.range);
        Frames {
            file: self.file.clone(),
            range: self.range,
        }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        if !self.range.is_empty() {
            self.file.release([self.range]);
        }
    }
}

impl Frames {
    /// Takes over one reference.
    pub(crate) fn adopt(file: Arc<MemoryFile>, range: Range) -> Frames {
        Frames { file, range }
    }

    /// Drops many at once, which gives neighbours back to the host together.
    pub fn release_all(frames: Vec<Frames>) {
        let mut left = frames;
        while let Some(first) = left.first() {
            let file = first.file.clone();
            let (same, other): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|f| Arc::ptr_eq(&f.file, &file));
            file.release(same.into_iter().map(Frames::forget));
            left = other;
        }
    }

    /// The stretch, whose reference is the caller's now.
    fn forget(mut self) -> Range {
        let range = self.range;
        self.range = Range::new(range.start, range.start);
        range
    }

    /// The file they belong to.
    pub fn memory(&self) -> &Arc<MemoryFile> {
        &self.file
    }

    /// The host file, for the platform.
    pub fn fd(&self) -> &Arc<OwnedFd> {
        self.file.fd()
    }

    /// Offset into the file.
    pub fn start(&self) -> u64 {
        self.range.start
    }

    /// Offset into the file of the end.
    pub fn end(&self) -> u64 {
        self.range.end
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        self.range.len()
    }

    /// Never true for a handle one can get hold of.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    pub(crate) fn sub(&self, offset: u64, len: u64) -> Result<Range, Errno> {
        let start = self.range.start.checked_add(offset).ok_or(Errno::EFAULT)?;
        let end = start.checked_add(len).ok_or(Errno::EFAULT)?;
        if end > self.range.end {
            return Err(Errno::EFAULT);
        }
        Ok(Range::new(start, end))
    }

    /// A further handle to a part (page-aligned, not empty).
    ///
    /// # Errors
    /// `EFAULT` when that does not lie inside.
    pub fn slice(&self, offset: u64, len: u64) -> Result<Frames, Errno> {
        let range = self.sub(offset, len)?;
        if range.is_empty() || !offset.is_multiple_of(PAGE_SIZE) || !len.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EFAULT);
        }
        self.file.hold(range);
        Ok(Frames {
            file: self.file.clone(),
            range,
        })
    }

    /// Cuts in two at `offset`, keeping the first part and returning the second; `None` (and
    /// nothing cut) when one of the two would be empty.
    pub fn split_off(&mut self, offset: u64) -> Option<Frames> {
        let at = self.range.start.checked_add(offset)?;
        if !at.is_multiple_of(PAGE_SIZE) || at <= self.range.start || at >= self.range.end {
            return None;
        }
        let tail = Range::new(at, self.range.end);
        self.range.end = at;
        Some(Frames {
            file: self.file.clone(),
            range: tail,
        })
    }

    /// Whether `next` begins where these end.
    pub fn adjoins(&self, next: &Frames) -> bool {
        self.range.end == next.range.start && Arc::ptr_eq(&self.file, &next.file)
    }

    /// Joins `next` to the end; gives it back when it does not adjoin.
    pub fn join(&mut self, next: Frames) -> Result<(), Frames> {
        if !self.adjoins(&next) {
            return Err(next);
        }
        self.range.end = next.forget().end;
        Ok(())
    }

    /// Whether this is the only handle to every page.
    pub fn is_unique(&self) -> bool {
        self.file.is_unique(self.range)
    }

    /// The longest part around `offset` that has no other handle, by offsets; `None` when
    /// `offset` itself has one.
    pub fn unique_around(&self, offset: u64) -> Option<Range> {
        let at = self.sub(offset, 1).ok()?.start;
        let range = self.file.unique_around(self.range, at)?;
        Some(Range::new(
            range.start - self.range.start,
            range.end - self.range.start,
        ))
    }

    /// Copies out.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Errno> {
        let range = self.sub(offset, into.len() as u64)?;
        self.file.window().read(range.start, into)
    }

    /// Copies in.
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<(), Errno> {
        let range = self.sub(offset, from.len() as u64)?;
        self.file.window().write(range.start, from)
    }

    /// Stores zeros where there may be anything else; makes no page exist.
    pub fn zero(&self, offset: u64, len: u64) -> Result<(), Errno> {
        let range = self.sub(offset, len)?;
        let mut at = range.start;
        while at < range.end {
            // Residency is told by page; the part asked for may begin and end inside of one.
            let pages = Range::new(abi::page::page_down(at), range.end);
            let Some(data) = self.file.next_resident(pages) else {
                break;
            };
            let part = data.intersect(&Range::new(at, range.end));
            self.file.window().zero(part.start, part.len() as usize)?;
            at = data.end;
        }
        Ok(())
    }

    /// Copies those pages of `from` that exist; the destination must be untouched, and the two
    /// must not overlap. All page-aligned.
    pub fn copy_resident(
        &self,
        offset: u64,
        from: &Frames,
        from_offset: u64,
        len: u64,
    ) -> Result<(), Errno> {
        let dst = self.sub(offset, len)?;
        let src = from.sub(from_offset, len)?;
        let mut at = src.start;
        while let Some(data) = from.file.next_resident(Range::new(at, src.end)) {
            let to = dst.start + (data.start - src.start);
            let (window, other) = (self.file.window(), from.file.window());
            window.copy_from(to, other, data.start, data.len() as usize)?;
            at = data.end;
        }
        Ok(())
    }

    /// Loads a word atomically. `EINVAL` when it is not aligned.
    pub fn load_u32(&self, offset: u64) -> Result<u32, Errno> {
        self.file.window().load_u32(self.sub(offset, 4)?.start)
    }

    /// Compares and exchanges a word atomically; returns what was there before.
    pub fn cmpxchg_u32(&self, offset: u64, old: u32, new: u32) -> Result<u32, Errno> {
        self.file
            .window()
            .cmpxchg_u32(self.sub(offset, 4)?.start, old, new)
    }

    /// Gives pages back to the host; they read as zero afterwards, for every holder.
    pub fn decommit(&self, offset: u64, len: u64) -> Result<(), Errno> {
        let range = self.sub(offset, len)?;
        if range.is_empty() {
            Ok(())
        } else {
            self.file.decommit(range)
        }
    }

    /// Makes pages exist, as zeros where they do not yet.
    ///
    /// # Errors
    /// `ENOMEM` when the host has none.
    pub fn commit(&self, offset: u64, len: u64) -> Result<(), Errno> {
        let range = self.sub(offset, len)?;
        if range.is_empty() {
            Ok(())
        } else {
            self.file.commit(range)
        }
    }

    /// The first stretch of existing pages at or behind `offset`, by offsets.
    pub fn next_resident(&self, offset: u64) -> Option<Range> {
        let from = self.range.start.checked_add(offset)?.min(self.range.end);
        let data = self.file.next_resident(Range::new(from, self.range.end))?;
        Some(Range::new(
            data.start - self.range.start,
            data.end - self.range.start,
        ))
    }

    /// Bytes that exist on the host.
    pub fn resident_bytes(&self) -> u64 {
        let mut sum = 0;
        let mut at = 0;
        while let Some(data) = self.next_resident(at) {
            sum += data.len();
            at = data.end;
        }
        sum
    }

    /// Reads up to `len` bytes from a host descriptor, at `from` or at its own position.
    pub fn fill_from_host(
        &self,
        offset: u64,
        len: usize,
        fd: std::os::fd::BorrowedFd<'_>,
        from: Option<u64>,
    ) -> Result<usize, Errno> {
        crate::io::read(
            fd,
            from,
            &[crate::io::Slice {
                frames: self,
                offset,
                len,
            }],
        )
    }

    pub(crate) fn iovec(&self, offset: u64, len: usize) -> Option<libc::iovec> {
        let range = self.sub(offset, len as u64).ok()?;
        self.file.window().iovec(range.start, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Placement;
    use std::os::fd::AsFd;

    const P: u64 = PAGE_SIZE;

    fn frames(pages: u64) -> Frames {
        MemoryFile::new()
            .unwrap()
            .allocate(pages * P, Placement::Anywhere)
            .unwrap()
    }

    #[test]
    fn new_frames_are_zero_and_take_no_memory() {
        let f = frames(1 << 18);
        assert_eq!(f.memory().usage(), 0);
        f.write(5 * P + 1, b"hello").unwrap();
        assert_eq!(f.memory().usage(), P);
        assert_eq!(f.next_resident(0), Some(Range::new(5 * P, 6 * P)));
        assert_eq!(f.resident_bytes(), P);
        let mut buf = [1u8; 7];
        f.read(5 * P, &mut buf).unwrap();
        assert_eq!(&buf, b"\0hello\0");
    }

    #[test]
    fn committed_pages_are_resident_and_keep_what_they_hold() {
        let f = frames(8);
        f.write(2 * P, b"x").unwrap();
        f.commit(P, 4 * P).unwrap();
        assert_eq!(f.next_resident(0), Some(Range::new(P, 5 * P)));
        let mut b = [0];
        f.read(2 * P, &mut b).unwrap();
        assert_eq!(&b, b"x");
    }

    #[test]
    fn the_last_handle_gives_pages_back_empty() {
        let mut f = frames(4);
        let memory = f.memory().clone();
        f.write(0, &[1; 4 * 4096]).unwrap();
        let part = f.slice(P, P).unwrap();
        assert!(!f.is_unique());
        assert_eq!(f.unique_around(0), Some(Range::new(0, P)));
        assert_eq!(f.unique_around(P), None);
        let tail = f.split_off(2 * P).unwrap();
        drop(f);
        assert_eq!(memory.usage(), 3 * P);
        Frames::release_all(vec![part, tail]);
        assert_eq!(memory.usage(), 0);
        let again = memory.allocate(4 * P, Placement::Anywhere).unwrap();
        let mut buf = [1u8; 4];
        again.read(P, &mut buf).unwrap();
        assert_eq!(buf, [0; 4]);
    }

    #[test]
    fn copies_take_only_what_is_there() {
        let f = frames(8);
        let g = f.memory().allocate(8 * P, Placement::Roomy).unwrap();
        f.write(3 * P, b"x").unwrap();
        g.copy_resident(0, &f, 0, 8 * P).unwrap();
        assert_eq!(g.resident_bytes(), P);
        let mut b = [0];
        g.read(3 * P, &mut b).unwrap();
        assert_eq!(&b, b"x");
        g.zero(3 * P, 1).unwrap();
        g.read(3 * P, &mut b).unwrap();
        assert_eq!(b, [0]);
        g.zero(0, 8 * P).unwrap();
        assert_eq!(g.resident_bytes(), P);
    }

    #[test]
    fn outside_is_a_fault() {
        let f = frames(1);
        assert_eq!(f.write(P - 1, b"ab"), Err(Errno::EFAULT));
        assert_eq!(f.read(u64::MAX, &mut [0; 2]), Err(Errno::EFAULT));
        assert_eq!(f.load_u32(2), Err(Errno::EINVAL));
        assert!(f.slice(0, 2 * P).is_err());
    }

    #[test]
    fn host_io_goes_straight_into_frames() {
        let f = frames(2);
        let (r, w) = nix::unistd::pipe().unwrap();
        nix::unistd::write(&w, b"0123456789").unwrap();
        let slices = [
            crate::io::Slice {
                frames: &f,
                offset: P,
                len: 4,
            },
            crate::io::Slice {
                frames: &f,
                offset: 0,
                len: 100,
            },
        ];
        assert_eq!(crate::io::read(r.as_fd(), None, &slices).unwrap(), 10);
        let mut buf = [0; 4];
        f.read(P, &mut buf).unwrap();
        assert_eq!(&buf, b"0123");
        assert_eq!(crate::io::write(w.as_fd(), None, &slices[..1]).unwrap(), 4);
    }

    #[test]
    fn a_file_cut_short_is_a_fault_and_no_crash() {
        let f = frames(1);
        f.write(0, b"x").unwrap();
        nix::unistd::ftruncate(&**f.fd(), 0).unwrap();
        assert_eq!(f.read(0, &mut [0; 8]), Err(Errno::EFAULT));
        assert_eq!(f.write(0, &[0; 8]), Err(Errno::EFAULT));
        assert_eq!(f.load_u32(0), Err(Errno::EFAULT));
    }
}
