//! ELF segments into an address space.

use crate::elf::{Load, SegmentFlags};
use crate::program::Object;
use abi::Errno;
use abi::page::{PAGE_SIZE, page_down, page_up};
use ctx::UserMemory;
use memmap::Mappable;
use mm::{MapFile, MapFlags, MapRequest, Mm, MmLimits, Prot};
use std::sync::Arc;
use vfs::FsCtx;

/// Where an object is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At the first suitable address from here on.
    Near(u64),
    /// Where mmap(2) would put it.
    Anywhere,
    /// Likewise; but one that cannot be moved takes its place from what is there: a program's
    /// interpreter, which may be told to lie over it.
    Over,
}

/// Where an object went. Addresses include the bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapped {
    /// What is added to the file's addresses.
    pub(crate) bias: u64,
    /// Where execution begins.
    pub(crate) entry: u64,
    /// Where its program headers are.
    pub(crate) table: u64,
    pub(crate) code: (u64, u64),
    pub(crate) data: (u64, u64),
    /// One past its last byte.
    pub(crate) end: u64,
}

/// Maps all segments of `object`.
///
/// # Errors
/// `EINVAL` for headers that lie, `EEXIST` where something is in the way, `ENOMEM`, `ENODEV` for
/// a file that cannot be mapped, `EFAULT` where the file ends too early.
pub(crate) fn map(
    cx: &dyn FsCtx,
    mm: &Mm,
    limits: &MmLimits,
    object: &Object,
    place: Place,
) -> Result<Mapped, Errno> {
    let file = &object.file.file;
    let mappable = file.ops().mappable(cx, file)?;
    let segments = &object.segments;
    let bias = reserve(mm, limits, object, place)?;
    let mut out = Mapped {
        bias,
        entry: object.header.entry.wrapping_add(bias),
        table: segments.table_address(&object.header).wrapping_add(bias),
        code: (u64::MAX, 0),
        data: (0, 0),
        end: 0,
    };
    for load in &segments.loads {
        let load = load.placed(bias)?;
        map_one(mm, limits, &mappable, &load)?;
        let file_end = load.vaddr.saturating_add(load.file_size);
        if load.flags.execute {
            out.code = (out.code.0.min(load.vaddr), out.code.1.max(file_end));
        }
        out.data = (out.data.0.max(load.vaddr), out.data.1.max(file_end));
        out.end = out.end.max(load.vaddr.saturating_add(load.memory_size));
    }
    if out.entry >= abi::page::TASK_SIZE {
        return Err(Errno::EINVAL);
    }
    Ok(out)
}

/// Finds room for all segments together, and says what is to be added to their addresses.
fn reserve(mm: &Mm, limits: &MmLimits, object: &Object, place: Place) -> Result<u64, Errno> {
    let (low, len) = object.segments.span()?;
    let mut request = MapRequest::anonymous(len, Prot::empty());
    request.flags = MapFlags::NORESERVE;
    if !object.header.relocatable {
        request.addr = low;
        request.flags |= match place {
            Place::Over => MapFlags::FIXED,
            Place::Near(_) | Place::Anywhere => MapFlags::FIXED_NOREPLACE,
        };
        let at = mm.mmap(request, limits)?;
        mm.munmap(at, len)?;
        return Ok(0);
    }
    let align = object.segments.alignment();
    // With this much more there is an aligned stretch in it, wherever it begins.
    let padded = len.checked_add(align - PAGE_SIZE).ok_or(Errno::ENOMEM)?;
    request.len = padded;
    request.addr = match place {
        Place::Near(addr) => addr,
        Place::Anywhere | Place::Over => 0,
    };
    let at = mm.mmap(request, limits)?;
    mm.munmap(at, page_up(padded).ok_or(Errno::ENOMEM)?)?;
    let aligned = at.checked_next_multiple_of(align).ok_or(Errno::ENOMEM)?;
    Ok(aligned.wrapping_sub(low))
}

fn prot_of(flags: SegmentFlags) -> Prot {
    let mut prot = Prot::empty();
    prot.set(Prot::READ, flags.read);
    prot.set(Prot::WRITE, flags.write);
    prot.set(Prot::EXECUTE, flags.execute);
    prot
}

/// Maps one segment: the part in the file, and zeros behind it.
fn map_one(
    mm: &Mm,
    limits: &MmLimits,
    mappable: &Arc<dyn Mappable>,
    load: &Load,
) -> Result<(), Errno> {
    let start = page_down(load.vaddr);
    let end = load
        .vaddr
        .checked_add(load.memory_size)
        .ok_or(Errno::EINVAL)?;
    let mut zeros_from = start;
    if load.file_size > 0 {
        let offset = load.offset.wrapping_sub(load.skew());
        let file_end = load
            .vaddr
            .checked_add(load.file_size)
            .ok_or(Errno::EINVAL)?;
        let request = MapRequest {
            addr: start,
            len: file_end - start,
            prot: prot_of(load.flags),
            flags: MapFlags::FIXED,
            file: Some(MapFile {
                mappable: mappable.clone(),
                offset,
                max_prot: Prot::all(),
            }),
            name: None,
        };
        mm.mmap(request, limits)?;
        zeros_from = page_up(file_end).ok_or(Errno::EINVAL)?;
        if load.memory_size > load.file_size {
            let tail = [0; PAGE_SIZE as usize];
            let tail = tail
                .get(..(zeros_from - file_end) as usize)
                .unwrap_or(&tail);
            // A segment that cannot be written keeps what the file has there, as on Linux.
            if load.flags.write {
                mm.write(file_end, tail)?;
            }
        }
    }
    let zeros_to = page_up(end).ok_or(Errno::EINVAL)?;
    if load.memory_size > load.file_size && zeros_to > zeros_from {
        let mut prot = Prot::READ | Prot::WRITE;
        prot.set(Prot::EXECUTE, load.flags.execute);
        let request = MapRequest::anonymous(zeros_to - zeros_from, prot).fixed(zeros_from);
        mm.mmap(request, limits)?;
    }
    Ok(())
}
