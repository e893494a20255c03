//! A platform for tests: it keeps a page table, and its guests load and store bytes.

use crate::extent::Backing;
use crate::types::{FaultSignal, Prot};
use crate::{MapFile, Mm};
use abi::Errno;
use abi::page::{PAGE_SIZE, Range, page_down};
use hostmem::{Frames, MemoryFile, Placement};
use memmap::{Identity, Mappable, Mapping, Mappings, Source, Space, Translation};
use nix::sys::uio::{pread, pwrite};
use platform_api::{Access, AddressSpace, Context, Engine, Limits, Op, PlatformError};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, Weak};

/// Whether its spaces make pages ahead of their use.
pub(crate) struct FakeEngine(bool);

type Table = BTreeMap<u64, (Arc<OwnedFd>, u64, Prot)>;

#[derive(Default)]
pub(crate) struct FakeSpace {
    pages: Mutex<Table>,
    ops: Mutex<Vec<Op>>,
    populates: bool,
}

fn refused() -> PlatformError {
    PlatformError {
        what: "a fake".into(),
        answer: "no".into(),
        remedy: "none".into(),
        errno: Some(12),
    }
}

impl Engine for FakeEngine {
    fn limits(&self) -> Limits {
        Limits {
            lowest: 0x10000,
            highest: abi::page::TASK_SIZE,
            holes: vec![(1 << 40, 1 << 41)],
            populates: self.0,
        }
    }
    fn new_space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        Ok(Arc::new(FakeSpace {
            populates: self.0,
            ..FakeSpace::default()
        }))
    }
    fn new_context(&self) -> Result<Box<dyn Context>, PlatformError> {
        Err(refused())
    }
}

impl AddressSpace for FakeSpace {
    fn apply(&self, ops: &[Op]) -> Result<(), PlatformError> {
        let mut pages = self.pages.lock().unwrap();
        for op in ops {
            match op {
                Op::Map {
                    addr,
                    len,
                    backing,
                    access,
                } => {
                    assert!(*len > 0 && addr % PAGE_SIZE == 0 && len % PAGE_SIZE == 0);
                    for at in (0..*len).step_by(PAGE_SIZE as usize) {
                        let entry = (backing.file.clone(), backing.offset + at, *access);
                        pages.insert(addr + at, entry);
                    }
                }
                Op::Unmap { addr, len } => {
                    pages.retain(|p, _| *p < *addr || *p >= addr + len);
                }
                Op::Protect { addr, len, access } => {
                    for (_, entry) in pages.range_mut(*addr..addr + len) {
                        entry.2 = *access;
                    }
                }
            }
        }
        self.ops.lock().unwrap().extend(ops.iter().cloned());
        Ok(())
    }
    fn fork(&self, before: &[Op]) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        self.apply(before)?;
        let pages = self.pages.lock().unwrap().clone();
        Ok(Arc::new(FakeSpace {
            pages: Mutex::new(pages),
            ops: Mutex::default(),
            populates: self.populates,
        }))
    }
    fn populate(&self, addr: u64, len: u64) {
        assert!(self.populates && addr.is_multiple_of(PAGE_SIZE) && len.is_multiple_of(PAGE_SIZE));
        let pages = self.pages.lock().unwrap();
        for (_, (file, offset, prot)) in pages.range(addr..addr + len) {
            if prot.contains(Prot::WRITE) {
                let mut byte = [0];
                pread(file, &mut byte, *offset as i64).unwrap();
                pwrite(file, &byte, *offset as i64).unwrap();
            }
        }
    }
    fn reserve_context(&self) -> Result<(), PlatformError> {
        Ok(())
    }
    fn destroy(&self) {
        if let Ok(mut pages) = self.pages.lock() {
            pages.clear();
        }
    }
}

/// A process without instructions: what it would load and store is said by the test.
pub(crate) struct Guest(pub(crate) Arc<Mm>);

impl Guest {
    pub(crate) fn new(memory: &Arc<MemoryFile>) -> Guest {
        Guest::on(memory, FakeEngine(false))
    }

    /// One whose platform makes pages ahead of their use.
    pub(crate) fn eager(memory: &Arc<MemoryFile>) -> Guest {
        Guest::on(memory, FakeEngine(true))
    }

    fn on(memory: &Arc<MemoryFile>, engine: FakeEngine) -> Guest {
        let engine: Arc<dyn Engine> = Arc::new(engine);
        Guest(Mm::new(&engine, memory).unwrap())
    }

    pub(crate) fn fork(&self) -> Guest {
        Guest(self.0.fork().unwrap())
    }

    fn with<T>(&self, f: impl FnOnce(&FakeSpace) -> T) -> T {
        let space: &dyn std::any::Any = &*self.0.space;
        f(space.downcast_ref().unwrap())
    }

    /// The operations since this was last asked.
    pub(crate) fn ops(&self) -> Vec<Op> {
        self.with(|s| std::mem::take(&mut *s.ops.lock().unwrap()))
    }

    fn touch(
        &self,
        addr: u64,
        access: Access,
        mut go: impl FnMut(&OwnedFd, u64) -> bool,
    ) -> Result<(), FaultSignal> {
        for _ in 0..8 {
            let entry = self.with(|s| s.pages.lock().unwrap().get(&page_down(addr)).cloned());
            let need = match access {
                Access::Read => Prot::READ,
                Access::Write => Prot::WRITE,
                Access::Execute => Prot::EXECUTE,
            };
            let bus = match entry {
                Some((file, offset, prot)) if prot.contains(need) => {
                    if go(&file, offset + addr % PAGE_SIZE) {
                        return Ok(());
                    }
                    true
                }
                _ => false,
            };
            self.0.handle_fault(addr, access, bus)?;
        }
        panic!("a fault at {addr:#x} that never ends");
    }

    pub(crate) fn load(&self, addr: u64) -> Result<u8, FaultSignal> {
        let mut value = [0];
        self.touch(addr, Access::Read, |file, at| {
            let end = nix::sys::stat::fstat(file).unwrap().st_size as u64;
            let there = at < end.next_multiple_of(PAGE_SIZE);
            value = [0];
            pread(file, &mut value, at as i64).unwrap();
            there
        })?;
        Ok(value[0])
    }

    pub(crate) fn store(&self, addr: u64, value: u8) -> Result<(), FaultSignal> {
        self.touch(addr, Access::Write, |file, at| {
            let end = nix::sys::stat::fstat(file).unwrap().st_size as u64;
            if at < end {
                pwrite(file, &[value], at as i64).unwrap();
            }
            at < end.next_multiple_of(PAGE_SIZE)
        })
    }

    pub(crate) fn fetch(&self, addr: u64) -> Result<(), FaultSignal> {
        self.touch(addr, Access::Execute, |_, _| true)
    }

    /// That the platform has exactly what the tables say it has.
    pub(crate) fn check(&self) {
        let st = self.0.state.read();
        let mut expected = Table::new();
        for extent in st.extents.iter() {
            let r = extent.range;
            assert!(!r.is_empty());
            assert!(st.vmas.covers(r), "extent {r:?} without a mapping");
            let Some(access) = extent.installed else {
                continue;
            };
            for at in (r.start..r.end).step_by(PAGE_SIZE as usize) {
                let vma = st.vmas.find(at).unwrap();
                assert_eq!(access, extent.access(vma.prot), "access at {at:#x}");
                let skip = at - r.start;
                let entry = match &extent.backing {
                    Backing::Frames(f) => {
                        assert_eq!(f.len(), r.len());
                        (f.fd().clone(), f.start() + skip, access)
                    }
                    Backing::Host { file, offset, .. } => (file.clone(), offset + skip, access),
                    Backing::Zero => (self.0.memory.fd().clone(), u64::MAX, access),
                };
                expected.insert(at, entry);
            }
        }
        self.with(|s| {
            let pages = s.pages.lock().unwrap();
            let zero = self.0.memory.zero_range();
            assert_eq!(
                pages.keys().collect::<Vec<_>>(),
                expected.keys().collect::<Vec<_>>()
            );
            for (at, (file, offset, prot)) in pages.iter() {
                let e = &expected[at];
                assert!(Arc::ptr_eq(file, &e.0), "file at {at:#x}");
                assert_eq!(*prot, e.2, "access at {at:#x}");
                if e.1 == u64::MAX {
                    assert!(zero.contains(*offset) && !prot.contains(Prot::WRITE));
                } else {
                    assert_eq!(*offset, e.1, "offset at {at:#x}");
                }
            }
        });
    }
}

/// A file whose bytes are frames (as tmpfs has them) or on the host.
pub(crate) struct FakeFile {
    source: Source,
    pages: Mutex<u64>,
    mappings: Mappings,
}

impl FakeFile {
    /// Page `i` holds the byte `i + 1` all over.
    pub(crate) fn in_frames(memory: &Arc<MemoryFile>, pages: u64) -> Arc<FakeFile> {
        let frames = memory
            .allocate(pages * PAGE_SIZE, Placement::Anywhere)
            .unwrap();
        for i in 0..pages {
            frames
                .write(i * PAGE_SIZE, &[i as u8 + 1; PAGE_SIZE as usize])
                .unwrap();
        }
        FakeFile::over(Source::Frames(frames), pages)
    }

    pub(crate) fn on_host(pages: u64, executable: bool) -> Arc<FakeFile> {
        let file = OwnedFd::from(tempfile::tempfile().unwrap());
        for i in 0..pages {
            pwrite(
                &file,
                &[i as u8 + 1; PAGE_SIZE as usize],
                (i * PAGE_SIZE) as i64,
            )
            .unwrap();
        }
        FakeFile::over(
            Source::Host {
                file: Arc::new(file),
                offset: 0,
                executable,
            },
            pages,
        )
    }

    fn over(source: Source, pages: u64) -> Arc<FakeFile> {
        Arc::new(FakeFile {
            source,
            pages: Mutex::new(pages),
            mappings: Mappings::new(),
        })
    }

    pub(crate) fn map(self: &Arc<Self>, page: u64) -> Option<MapFile> {
        let mappable = self.clone();
        Some(MapFile {
            mappable,
            offset: page * PAGE_SIZE,
            max_prot: Prot::all(),
        })
    }

    pub(crate) fn truncate(&self, pages: u64) {
        let old = std::mem::replace(&mut *self.pages.lock().unwrap(), pages);
        match &self.source {
            Source::Host { file, .. } => {
                nix::unistd::ftruncate(&**file, (pages * PAGE_SIZE) as i64).unwrap();
            }
            Source::Frames(f) if pages < old => {
                f.decommit(pages * PAGE_SIZE, (old - pages) * PAGE_SIZE)
                    .unwrap();
            }
            Source::Frames(_) => {}
        }
        if pages < old {
            self.mappings
                .invalidate(Range::new(pages * PAGE_SIZE, u64::MAX), true);
        }
    }

    pub(crate) fn is_mapped(&self) -> bool {
        !self.mappings.is_empty()
    }

    pub(crate) fn host(&self) -> &OwnedFd {
        match &self.source {
            Source::Host { file, .. } => file,
            Source::Frames(f) => f.fd(),
        }
    }

    pub(crate) fn frames(&self) -> Option<&Frames> {
        match &self.source {
            Source::Frames(f) => Some(f),
            Source::Host { .. } => None,
        }
    }
}

impl Mappable for FakeFile {
    fn identity(&self) -> Identity {
        Identity {
            dev: 1,
            ino: 2,
            path: b"/file".to_vec(),
        }
    }
    fn translate(&self, offset: u64, len: u64, _write: bool) -> Result<Translation, Errno> {
        let end = *self.pages.lock().unwrap() * PAGE_SIZE;
        let len = len.min(end.saturating_sub(offset));
        if len == 0 {
            return Err(Errno::EFAULT);
        }
        let source = match &self.source {
            Source::Frames(f) => Source::Frames(f.slice(offset, len)?),
            Source::Host {
                file, executable, ..
            } => Source::Host {
                file: file.clone(),
                offset,
                executable: *executable,
            },
        };
        Ok(Translation { source, len })
    }
    fn size(&self) -> Result<u64, Errno> {
        Ok(*self.pages.lock().unwrap() * PAGE_SIZE)
    }
    fn attach(&self, mapping: Mapping) -> Result<(), Errno> {
        self.mappings.attach(mapping);
        Ok(())
    }
    fn detach(&self, space: &Weak<dyn Space>, addr: u64, range: Range) {
        self.mappings.detach(space, addr, range);
    }
}
