//! The guest's physical memory behind mappings: parts of backing files.
//!
//! A file is cut into chunks of a size chosen by its own; a chunk that something maps is mapped
//! into this process and is a slot of the VM. Chunks lie in blocks of physical memory, all chunks
//! of a block being of one size. Slots that nobody maps any more are kept for a while, since
//! taking one away makes some hosts forget all that they know of the VM's tables.

use crate::layout::{BLOCK, BLOCKS_PHYS, PAGE};
use crate::sys::map::Region;
use crate::sys::vm::Slot;
use kvm_ioctls::VmFd;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque, hash_map};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};

/// Unmapped chunks that are kept, and how many are left when there are more.
const IDLE_MOST: usize = 64;
const IDLE_KEPT: usize = 32;
/// Smallest chunk.
const CHUNK_LEAST: u64 = 64 << 10;

/// See the module.
pub(crate) struct Memory {
    vm: Arc<VmFd>,
    inner: Mutex<Inner>,
}

struct Inner {
    files: HashMap<usize, Known>,
    blocks: Vec<Block>,
    /// Blocks with room for one more chunk, by their chunks' size.
    roomy: HashMap<u64, Vec<u32>>,
    empty: Vec<u32>,
    /// Most blocks that the physical address space has room for.
    blocks_most: u64,
    slots: SlotNumbers,
    idle: VecDeque<Place>,
    scratch: OwnedFd,
}

/// A file that is known, by the address of what the sentry holds it with.
struct Known {
    /// Keeps that address from being used for another, though not the file open.
    _pin: Weak<OwnedFd>,
    writable: bool,
    chunk_len: u64,
    chunks: HashMap<u64, Place>,
}

/// Where a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    block: u32,
    index: u32,
}

struct Block {
    chunk_len: u64,
    chunks: Vec<Option<Chunk>>,
    used: u32,
}

struct Chunk {
    slot: Slot<Arc<Region>>,
    /// How many page table entries lead to it.
    refs: u64,
    idle: bool,
    file: usize,
    number: u64,
}

struct SlotNumbers {
    next: u32,
    end: u32,
    free: Vec<u32>,
}

impl SlotNumbers {
    fn take(&mut self) -> io::Result<u32> {
        if let Some(number) = self.free.pop() {
            return Ok(number);
        }
        if self.next == self.end {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        self.next += 1;
        Ok(self.next - 1)
    }
}

fn phys_of(place: Place, chunk_len: u64) -> u64 {
    BLOCKS_PHYS + u64::from(place.block) * BLOCK + u64::from(place.index) * chunk_len
}

impl Memory {
    /// For a VM with slots of these numbers and so many bits of physical addresses.
    pub(crate) fn new(
        vm: &Arc<VmFd>,
        slots: std::ops::Range<u32>,
        bits: u32,
    ) -> io::Result<Memory> {
        let top = 1u64 << bits.clamp(36, 52);
        Ok(Memory {
            vm: vm.clone(),
            inner: Mutex::new(Inner {
                files: HashMap::new(),
                blocks: Vec::new(),
                roomy: HashMap::new(),
                empty: Vec::new(),
                blocks_most: (top - BLOCKS_PHYS) / BLOCK,
                slots: SlotNumbers {
                    next: slots.start,
                    end: slots.end,
                    free: Vec::new(),
                },
                idle: VecDeque::new(),
                scratch: crate::sys::map::scratch()?,
            }),
        })
    }

    /// Physical memory for a part of a file, in pieces: first address and bytes. Each page
    /// counts as mapped once more.
    ///
    /// # Errors
    /// `EACCES` for a writable mapping of a file that is not open for that, what mmap(2) or KVM
    /// answer, `ENOMEM` without room. Pieces that were handed out before stay counted.
    pub(crate) fn acquire(
        &self,
        file: &Arc<OwnedFd>,
        offset: u64,
        len: u64,
        write: bool,
        mut piece: impl FnMut(u64, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let key = inner.known(file)?;
        let mut at = offset;
        while at < offset + len {
            let entry = &inner.files[&key];
            if write && !entry.writable {
                return Err(io::Error::from_raw_os_error(libc::EACCES));
            }
            let chunk_len = entry.chunk_len;
            let place = match entry.chunks.get(&(at / chunk_len)) {
                Some(place) => *place,
                None => inner.chunk(&self.vm, file, key, at / chunk_len)?,
            };
            let within = at % chunk_len;
            let now = (chunk_len - within).min(offset + len - at);
            inner.chunk_at(place).refs += now / PAGE;
            piece(phys_of(place, chunk_len) + within, now)?;
            at += now;
        }
        Ok(())
    }

    /// Pages, by their first physical address and count, are mapped once more.
    pub(crate) fn hold(&self, runs: &[(u64, u64)]) {
        let mut inner = self.inner.lock();
        for (phys, pages) in runs {
            inner.each(*phys, *pages, |chunk, pages| chunk.refs += pages);
        }
    }

    /// Pages are mapped once less.
    pub(crate) fn release(&self, runs: &[(u64, u64)]) {
        if runs.is_empty() {
            return;
        }
        let mut inner = self.inner.lock();
        for (phys, pages) in runs {
            let mut unused = Vec::new();
            inner.each(*phys, *pages, |chunk, pages| {
                chunk.refs -= pages;
                if chunk.refs == 0 && !chunk.idle {
                    chunk.idle = true;
                    unused.push((chunk.file, chunk.number));
                }
            });
            for (file, number) in unused {
                let place = inner.files[&file].chunks[&number];
                inner.idle.push_back(place);
            }
        }
        if inner.idle.len() > IDLE_MOST {
            inner.evict(IDLE_KEPT, None);
        }
    }

    /// What is behind a run of pages: the region, offset and bytes of each part.
    pub(crate) fn parts(&self, phys: u64, pages: u64, into: &mut Vec<(Arc<Region>, u64, u64)>) {
        let mut inner = self.inner.lock();
        let mut at = phys;
        while at < phys + pages * PAGE {
            let (place, within) = inner.place(at);
            let len = inner.blocks[place.block as usize].chunk_len;
            let now = (len - within).min(phys + pages * PAGE - at);
            let region = inner.chunk_at(place).slot.memory().clone();
            into.push((region, within, now));
            at += now;
        }
    }

    /// Whether the page at a physical address can be had.
    pub(crate) fn alive(&self, phys: u64) -> bool {
        let mut inner = self.inner.lock();
        let (place, within) = inner.place(phys);
        inner.chunk_at(place).slot.memory().alive(within)
    }

    /// The first page behind the living ones of the chunk that a physical address lies in, and
    /// the chunk's end.
    pub(crate) fn dead_part(&self, phys: u64) -> (u64, u64) {
        let mut inner = self.inner.lock();
        let (place, within) = inner.place(phys);
        let start = phys - within;
        let len = inner.blocks[place.block as usize].chunk_len;
        let alive = inner.chunk_at(place).slot.memory().alive_pages();
        (start + alive * PAGE, start + len)
    }

    /// Copies bytes of one page out.
    pub(crate) fn read(&self, phys: u64, into: &mut [u8]) -> io::Result<()> {
        let inner = &mut *self.inner.lock();
        let (place, within) = inner.place(phys);
        let scratch: BorrowedFd<'_> = inner.scratch.as_fd();
        let chunk = inner.blocks[place.block as usize].chunks[place.index as usize].as_ref();
        chunk
            .expect("what is mapped is there")
            .slot
            .memory()
            .read(within, into, scratch)
    }
}

impl Inner {
    fn known(&mut self, file: &Arc<OwnedFd>) -> io::Result<usize> {
        let key = Arc::as_ptr(file) as usize;
        if let hash_map::Entry::Vacant(vacant) = self.files.entry(key) {
            let size = crate::sys::map::length(file.as_fd())?;
            vacant.insert(Known {
                _pin: Arc::downgrade(file),
                writable: writable(file.as_fd())?,
                chunk_len: size
                    .clamp(CHUNK_LEAST, BLOCK)
                    .next_power_of_two()
                    .min(BLOCK),
                chunks: HashMap::new(),
            });
        }
        Ok(key)
    }

    /// Makes the chunk of a number.
    fn chunk(
        &mut self,
        vm: &Arc<VmFd>,
        file: &Arc<OwnedFd>,
        key: usize,
        number: u64,
    ) -> io::Result<Place> {
        let entry = &self.files[&key];
        let (len, write) = (entry.chunk_len, entry.writable);
        let made = self.make(vm, file, number, len, write);
        let (place, slot) = match made {
            Ok(made) => made,
            Err(e) => {
                self.forget_unused(key);
                return Err(e);
            }
        };
        let block = &mut self.blocks[place.block as usize];
        block.used += 1;
        block.chunks[place.index as usize] = Some(Chunk {
            slot,
            refs: 0,
            idle: false,
            file: key,
            number,
        });
        if block.chunks.iter().all(Option::is_some)
            && let Some(roomy) = self.roomy.get_mut(&len)
        {
            roomy.retain(|b| *b != place.block);
        }
        if let Some(entry) = self.files.get_mut(&key) {
            entry.chunks.insert(number, place);
        }
        Ok(place)
    }

    fn make(
        &mut self,
        vm: &Arc<VmFd>,
        file: &Arc<OwnedFd>,
        number: u64,
        len: u64,
        write: bool,
    ) -> io::Result<(Place, Slot<Arc<Region>>)> {
        let region = Arc::new(Region::new(file.as_fd(), number * len, len, write)?);
        let slot = self.slots.take().or_else(|_| {
            self.evict(0, Some(Arc::as_ptr(file) as usize));
            self.slots.take()
        })?;
        // Only now: letting go of chunks empties blocks.
        let made = self.room(len).and_then(|place| {
            let given = Slot::new(vm, slot, phys_of(place, len), region, write)?;
            Ok((place, given))
        });
        if made.is_err() {
            self.slots.free.push(slot);
        }
        made
    }

    /// A free place for a chunk.
    fn room(&mut self, len: u64) -> io::Result<Place> {
        let roomy = self.roomy.entry(len).or_default();
        if let Some(block) = roomy.last() {
            let chunks = &self.blocks[*block as usize].chunks;
            let index = chunks.iter().position(Option::is_none);
            return Ok(Place {
                block: *block,
                index: index.map_or(0, |i| i as u32),
            });
        }
        let block = match self.empty.pop() {
            Some(block) => block,
            None if (self.blocks.len() as u64) < self.blocks_most => {
                self.blocks.push(Block {
                    chunk_len: len,
                    chunks: Vec::new(),
                    used: 0,
                });
                (self.blocks.len() - 1) as u32
            }
            None => return Err(io::Error::from_raw_os_error(libc::ENOMEM)),
        };
        let made = &mut self.blocks[block as usize];
        made.chunk_len = len;
        made.chunks.clear();
        made.chunks.resize_with((BLOCK / len) as usize, || None);
        roomy.push(block);
        Ok(Place { block, index: 0 })
    }

    /// Lets go of unmapped chunks until there are `keep`. The file `using` stays known, chunks or
    /// not.
    fn evict(&mut self, keep: usize, using: Option<usize>) {
        while self.idle.len() > keep
            && let Some(place) = self.idle.pop_front()
        {
            let chunk = self.chunk_at(place);
            chunk.idle = false;
            // Mapped again since.
            if chunk.refs > 0 {
                continue;
            }
            let block = &mut self.blocks[place.block as usize];
            let Some(chunk) = block.chunks[place.index as usize].take() else {
                continue;
            };
            block.used -= 1;
            let (len, used) = (block.chunk_len, block.used);
            let roomy = self.roomy.entry(len).or_default();
            if used == 0 {
                roomy.retain(|b| *b != place.block);
                self.empty.push(place.block);
            } else if !roomy.contains(&place.block) {
                roomy.push(place.block);
            }
            self.slots.free.push(chunk.slot.number());
            if let Some(entry) = self.files.get_mut(&chunk.file) {
                entry.chunks.remove(&chunk.number);
            }
            if using != Some(chunk.file) {
                self.forget_unused(chunk.file);
            }
        }
    }

    fn forget_unused(&mut self, key: usize) {
        if self.files.get(&key).is_some_and(|e| e.chunks.is_empty()) {
            self.files.remove(&key);
        }
    }

    fn chunk_at(&mut self, place: Place) -> &mut Chunk {
        self.blocks[place.block as usize].chunks[place.index as usize]
            .as_mut()
            .expect("what is mapped is there")
    }

    /// The chunk that a physical address lies in, and where in it.
    fn place(&self, phys: u64) -> (Place, u64) {
        let block = (phys - BLOCKS_PHYS) / BLOCK;
        let within = (phys - BLOCKS_PHYS) % BLOCK;
        let len = self.blocks[block as usize].chunk_len;
        let place = Place {
            block: block as u32,
            index: (within / len) as u32,
        };
        (place, within % len)
    }

    /// Goes through a run of pages, chunk by chunk.
    fn each(&mut self, mut phys: u64, mut pages: u64, mut f: impl FnMut(&mut Chunk, u64)) {
        while pages > 0 {
            let (place, within) = self.place(phys);
            let len = self.blocks[place.block as usize].chunk_len;
            let now = pages.min((len - within) / PAGE);
            f(self.chunk_at(place), now);
            phys += now * PAGE;
            pages -= now;
        }
    }
}

fn writable(file: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(crate::sys::map::open_flags(file)? & libc::O_ACCMODE == libc::O_RDWR)
}

#[cfg(test)]
mod tests {
    use crate::engine::KvmEngine;
    use platform_api::conformance::guest::{CODE, Guest, Memory, NOWHERE, PAGE, RW, SYSCALL, map};
    use platform_api::conformance::skip;
    use platform_api::{Engine, Exit, Op, Platform, Probe, Registers};
    use std::sync::Arc;

    /// `mov [rdi], rbx; syscall`
    const STORE: [u8; 5] = [0x48, 0x89, 0x1f, SYSCALL[0], SYSCALL[1]];
    const SLOTS: u64 = 40;

    fn store(guest: &mut Guest, addr: u64, word: u64) -> Exit {
        guest.regs = Registers {
            rip: CODE,
            rdi: addr,
            rbx: word,
            ..Registers::user()
        };
        guest.run()
    }

    /// Each file takes a slot. When there are none, a mapping is refused and told, the others stay,
    /// and what is unmapped makes room.
    #[test]
    fn files_beyond_the_slots_are_refused_until_others_go() {
        if let Probe::Unavailable { reason, .. } = crate::Kvm.probe(None) {
            skip(&reason);
            return;
        }
        let device = crate::Kvm.open_device(None).unwrap().unwrap();
        let engine = KvmEngine::with_limits(device, 4, SLOTS as u32).unwrap();
        let engine: Arc<dyn Engine> = Arc::new(engine);
        let mut guest = Guest::new(&engine, &STORE);
        let files: Vec<_> = (0..2 * SLOTS).map(|_| Memory::new(PAGE)).collect();
        let at = |i: u64| NOWHERE + i * PAGE;
        let mut mapped = Vec::new();
        for (i, file) in (0..).zip(&files) {
            let op = map(at(i), PAGE, file.at(0), RW);
            guest.space.apply(&[op]).unwrap();
            match store(&mut guest, at(i), i) {
                Exit::Syscall => mapped.push(i),
                exit => {
                    let told = Exit::MapFailed {
                        addr: at(i),
                        len: PAGE,
                        errno: libc::ENOMEM,
                    };
                    assert_eq!(exit, told, "file {i}");
                }
            }
        }
        // One is that of the guest's own memory.
        assert_eq!(mapped, (0..SLOTS - 1).collect::<Vec<_>>());
        // Those that there are still work; half of them go, and as many others find room.
        for i in &mapped {
            assert_eq!(store(&mut guest, at(*i), i + 100), Exit::Syscall);
            assert_eq!(files[*i as usize].word(0), i + 100);
        }
        let unmap = |guest: &Guest, addr| {
            let op = Op::Unmap { addr, len: PAGE };
            guest.space.apply(&[op]).unwrap();
        };
        for round in 0..6 {
            for i in (0..SLOTS / 2).map(|i| (i + round * 7) % (SLOTS - 1)) {
                for (gone, come) in [(i, SLOTS + i), (SLOTS + i, i)] {
                    unmap(&guest, at(gone));
                    let file = &files[come as usize];
                    let op = map(at(come), PAGE, file.at(0), RW);
                    guest.space.apply(&[op]).unwrap();
                    let exit = store(&mut guest, at(come), round);
                    assert_eq!(exit, Exit::Syscall, "round {round}, file {come}");
                    assert_eq!(file.word(0), round);
                }
            }
        }
        guest.end();
    }

    /// The last chunk of a file goes to make room for another one of it.
    #[test]
    fn a_file_stays_known_while_its_last_chunk_goes() {
        if let Probe::Unavailable { reason, .. } = crate::Kvm.probe(None) {
            skip(&reason);
            return;
        }
        let device = crate::Kvm.open_device(None).unwrap().unwrap();
        let engine = KvmEngine::with_limits(device, 4, 3).unwrap();
        let engine: Arc<dyn Engine> = Arc::new(engine);
        let mut guest = Guest::new(&engine, &STORE);
        let (file, other) = (Memory::new(2 * super::BLOCK), Memory::new(PAGE));
        let apply = |guest: &Guest, op| guest.space.apply(&[op]).unwrap();
        let unmap = |addr, len| Op::Unmap { addr, len };
        apply(&guest, map(NOWHERE, PAGE, file.at(0), RW));
        apply(&guest, unmap(NOWHERE, PAGE));
        apply(&guest, map(NOWHERE, PAGE, other.at(0), RW));
        for round in 0..4u64 {
            let offset = (round + 1) % 2 * super::BLOCK;
            let at = NOWHERE + 2 * PAGE;
            apply(&guest, map(at, PAGE, file.at(offset), RW));
            apply(&guest, map(at + PAGE, PAGE, file.at(offset + PAGE), RW));
            for (i, addr) in [(0, at), (1, at + PAGE)] {
                assert_eq!(store(&mut guest, addr, round + 7 * i), Exit::Syscall);
                assert_eq!(file.word(offset + i * PAGE), round + 7 * i);
            }
            assert_eq!(store(&mut guest, NOWHERE, round), Exit::Syscall);
            assert_eq!(other.word(0), round);
            apply(&guest, unmap(at, 2 * PAGE));
        }
        guest.end();
    }
}
