//! The content of a regular file.
//!
//! Offsets are covered by *chunks* of frames, reserved in larger pieces as a file grows (a
//! reservation costs no memory). Which pages hold something is kept apart (`real`): it is what is
//! charged, what `st_blocks` shows and `SEEK_DATA` finds. A page that is not real reads as zero,
//! and its frames, where it has any, are untouched.

use crate::Tmpfs;
use crate::ranges::RangeSet;
use abi::Errno;
use abi::page::{PAGE_SIZE, Range, page_down, page_up};
use hostmem::{Frames, Placement};
use std::collections::BTreeMap;

/// Reserved at a time at the start of a file.
const FIRST_CHUNK: u64 = 32 << 10;
/// Reserved at a time further on, from here...
const MIN_CHUNK: u64 = 64 << 10;
/// ... up to here.
const MAX_CHUNK: u64 = 8 << 20;

#[derive(Default)]
pub(crate) struct Data {
    pub(crate) size: u64,
    chunks: BTreeMap<u64, Frames>,
    real: RangeSet,
}

fn pages(start: u64, end: u64) -> Result<Range, Errno> {
    Ok(Range::new(
        page_down(start),
        page_up(end).ok_or(Errno::EFBIG)?,
    ))
}

impl Data {
    /// Bytes that are charged.
    pub(crate) fn charged(&self) -> u64 {
        self.real.len()
    }

    fn chunk_at(&self, at: u64) -> Option<(u64, &Frames)> {
        let (&start, frames) = self.chunks.range(..=at).next_back()?;
        (at - start < frames.len()).then_some((start, frames))
    }

    /// The chunk around `at`, reserved if need be.
    fn make_chunk(&mut self, fs: &Tmpfs, at: u64) -> Result<(u64, &Frames), Errno> {
        if self.chunk_at(at).is_none() {
            let len = if at < FIRST_CHUNK {
                FIRST_CHUNK
            } else {
                let half = (at / 2).clamp(MIN_CHUNK, MAX_CHUNK);
                1 << half.ilog2()
            };
            let mut start = at & !(len - 1);
            let mut end = start.checked_add(len).ok_or(Errno::EFBIG)?;
            if let Some((before, frames)) = self.chunks.range(..=at).next_back() {
                start = start.max(before + frames.len());
            }
            if let Some((&behind, _)) = self.chunks.range(at..).next() {
                end = end.min(behind);
            }
            let behind = self
                .chunks
                .range(..start)
                .next_back()
                .map(|(_, frames)| frames.end());
            let place = behind.map_or(Placement::Anywhere, Placement::Behind);
            let frames = fs.memory().allocate(end - start, place)?;
            self.chunks.insert(start, frames);
        }
        self.chunk_at(at).ok_or(Errno::ENOMEM)
    }

    /// Copies from `at` into all of `buf`; what is not there is zero.
    pub(crate) fn read(&self, at: u64, buf: &mut [u8]) -> Result<(), Errno> {
        let mut done = 0;
        while done < buf.len() {
            let here = at.saturating_add(done as u64);
            let want = (buf.len() - done) as u64;
            let (real, len) = match self.real.around(here) {
                Some(r) => (true, (r.end - here).min(want)),
                None => (
                    false,
                    self.real
                        .next(here)
                        .map_or(want, |r| (r.start - here).min(want)),
                ),
            };
            let chunk = if real { self.chunk_at(here) } else { None };
            let len = chunk.map_or(len, |(start, frames)| len.min(start + frames.len() - here));
            let part = buf
                .get_mut(done..done + len as usize)
                .ok_or(Errno::EFAULT)?;
            match chunk {
                Some((start, frames)) => frames.read(here - start, part).map_err(|_| Errno::EIO)?,
                None => part.fill(0),
            }
            done += len as usize;
        }
        Ok(())
    }

    /// Makes the pages of `range` real.
    fn make_real(&mut self, fs: &Tmpfs, range: Range) -> Result<(), Errno> {
        let new = range.len() - self.real.overlap(range);
        if new > 0 {
            fs.charge(new)?;
            self.real.add(range);
        }
        Ok(())
    }

    /// Makes those pages of `range` real, from its start on, that there is room for; returns where
    /// they end. `ENOSPC` where there is none for the first.
    fn make_room(&mut self, fs: &Tmpfs, range: Range) -> Result<u64, Errno> {
        if self.make_real(fs, range).is_ok() {
            return Ok(range.end);
        }
        let mut at = range.start;
        while at < range.end {
            match self.make_real(fs, Range::new(at, at + PAGE_SIZE)) {
                Err(_) if at > range.start => break,
                made => made?,
            }
            at += PAGE_SIZE;
        }
        Ok(at)
    }

    /// Stores as many of `bytes` at `at` as there is room for, and makes the file longer where they
    /// end behind it. Returns where they end.
    pub(crate) fn write(&mut self, fs: &Tmpfs, at: u64, bytes: &[u8]) -> Result<u64, Errno> {
        let end = at.checked_add(bytes.len() as u64).ok_or(Errno::EFBIG)?;
        let end = end.min(self.make_room(fs, pages(at, end)?)?);
        let bytes = bytes.get(..(end - at) as usize).unwrap_or(bytes);
        let mut done = 0;
        while done < bytes.len() {
            let here = at + done as u64;
            let (start, frames) = self.make_chunk(fs, here)?;
            let len = (start + frames.len() - here).min((bytes.len() - done) as u64) as usize;
            let part = bytes.get(done..done + len).ok_or(Errno::EFAULT)?;
            let whole = pages(here - start, here - start + len as u64)?;
            frames.charge(whole.start, whole.len())?;
            // The host has no page.
            frames
                .write(here - start, part)
                .map_err(|_| Errno::ENOMEM)?;
            done += len;
        }
        self.size = self.size.max(end);
        Ok(end)
    }

    /// The frames behind the page at `at`, at most `len` bytes. For writing, the pages become
    /// real.
    pub(crate) fn frames(
        &mut self,
        fs: &Tmpfs,
        at: u64,
        len: u64,
        write: bool,
    ) -> Result<Frames, Errno> {
        let end = page_up(self.size).ok_or(Errno::EFAULT)?;
        if at >= end {
            return Err(Errno::EFAULT);
        }
        let (start, frames) = self.make_chunk(fs, at)?;
        let len = len.min(end - at).min(start + frames.len() - at);
        let len = page_down(len).max(PAGE_SIZE);
        let part = frames.slice(at - start, len)?;
        if write {
            self.make_real(fs, Range::new(at, at + len))?;
        }
        Ok(part)
    }

    /// Sets the size. Returns what is to be dropped once the lock is gone.
    pub(crate) fn truncate(&mut self, fs: &Tmpfs, size: u64) -> Result<Vec<Frames>, Errno> {
        let keep = page_up(size).ok_or(Errno::EFBIG)?;
        // What lies behind the end in its page may have been written through a mapping, and must
        // not come to light when the file grows.
        let last = self.size.min(size);
        let rest = page_up(last).unwrap_or(last) - last;
        self.zero(last, rest)?;
        let mut gone = Vec::new();
        if size < self.size {
            if let Some((&start, frames)) = self.chunks.range_mut(..keep).next_back() {
                gone.extend(frames.split_off(keep - start));
            }
            gone.extend(self.chunks.split_off(&keep).into_values());
            fs.uncharge(self.real.remove(Range::new(keep, u64::MAX)));
        }
        self.size = size;
        Ok(gone)
    }

    /// Zeroes a part of one page.
    fn zero(&mut self, at: u64, len: u64) -> Result<(), Errno> {
        if len > 0
            && self.real.around(at).is_some()
            && let Some((start, frames)) = self.chunk_at(at)
        {
            frames.zero(at - start, len).map_err(|_| Errno::EIO)?;
        }
        Ok(())
    }

    /// Makes a hole.
    pub(crate) fn punch(&mut self, fs: &Tmpfs, range: Range) -> Result<(), Errno> {
        let first = page_up(range.start).unwrap_or(u64::MAX);
        let last = page_down(range.end);
        if first > last {
            return self.zero(range.start, range.len());
        }
        self.zero(range.start, first.min(range.end) - range.start)?;
        if last < range.end {
            self.zero(last, range.end - last)?;
        }
        let whole = Range::new(first, last);
        let mut at = first;
        while at < last {
            let Some(real) = self.real.around(at).or_else(|| self.real.next(at)) else {
                break;
            };
            let part = real.intersect(&Range::new(at, last));
            if part.is_empty() {
                break;
            }
            let (start, frames) = self.chunk_at(part.start).ok_or(Errno::EIO)?;
            let end = part.end.min(start + frames.len());
            frames.decommit(part.start - start, end - part.start)?;
            at = end;
        }
        fs.uncharge(self.real.remove(whole));
        Ok(())
    }

    /// fallocate(2): all of `range` is charged, and stays zero where it was.
    pub(crate) fn reserve(&mut self, fs: &Tmpfs, range: Range) -> Result<(), Errno> {
        let range = pages(range.start, range.end)?;
        self.make_real(fs, range)?;
        let mut at = range.start;
        while at < range.end {
            let (start, frames) = self.make_chunk(fs, at)?;
            let end = range.end.min(start + frames.len());
            frames.charge(at - start, end - at)?;
            at = end;
        }
        Ok(())
    }

    /// The first stretch of real pages at or behind `at`.
    pub(crate) fn next_real(&self, at: u64) -> Option<Range> {
        let found = self.real.around(at).or_else(|| self.real.next(at))?;
        Some(Range::new(found.start.max(at), found.end))
    }

    /// `SEEK_DATA` and `SEEK_HOLE`.
    pub(crate) fn seek(&self, at: u64, hole: bool) -> Result<u64, Errno> {
        if at >= self.size {
            return Err(Errno::ENXIO);
        }
        match (self.real.around(at), hole) {
            (Some(_), false) | (None, true) => Ok(at),
            (Some(r), true) => Ok(r.end.min(self.size)),
            (None, false) => match self.real.next(at) {
                Some(r) if r.start < self.size => Ok(r.start),
                _ => Err(Errno::ENXIO),
            },
        }
    }
}
