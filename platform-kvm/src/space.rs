//! A guest process's memory.
//!
//! Tables are changed at once. What the change takes away is of effect for a vCPU when it has
//! *settled*: it is then as of the space's new generation. A vCPU that enters guest code settles
//! first if there is something to settle; those in guest code at the time of a change are brought
//! out by the signal, and the caller waits for that.
//!
//! Lock order: a seat's state -> `Inner` -> the arena's, the memory's.

use crate::arena::Page;
use crate::engine::Shared;
use crate::error::{host, misuse};
use crate::handle::Handle;
use crate::layout::{LOWEST, PAGE, USER_END};
use crate::leaf::Entry;
use crate::tables::{self, Changes, LEAF_SPAN, Tables, Touch};
use crate::vcpu::Vcpu;
use parking_lot::{Condvar, Mutex, MutexGuard};
use platform_api::{AddressSpace, Op, PlatformError, Protection};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Retired pages that one settling touches beside its own.
const RETIRED_MOST: usize = 256;

/// What the contract calls a space; the rest holds its [`Core`].
pub(crate) struct Space(pub(crate) Arc<Core>);

/// The space itself.
pub(crate) struct Core {
    shared: Arc<Shared>,
    /// Unlike all others' of the engine, ever.
    id: u64,
    root: u64,
    generation: AtomicU64,
    /// How many threads wait for guest code to stop running.
    waiters: AtomicUsize,
    inner: Mutex<Inner>,
    /// Some guest code was left.
    left: Condvar,
}

struct Inner {
    tables: Tables,
    /// Where something was taken since a vCPU settled last.
    pending: Vec<Touch>,
    /// Retired pages that are touched on the way.
    retired: Vec<Page>,
    failed: Vec<Failure>,
    /// Contexts that run here.
    attached: Vec<Arc<Handle>>,
    destroyed: bool,
}

/// A mapping the host refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    pub(crate) addr: u64,
    pub(crate) len: u64,
    pub(crate) errno: i32,
}

/// What is behind an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    /// A mapping whose memory is gone.
    Nothing,
    /// It can be tried again.
    Something,
    /// No mapping that was ever without memory.
    Unknown,
}

impl Core {
    pub(crate) fn new(shared: &Arc<Shared>) -> Result<Core, PlatformError> {
        let tables = Tables::new(&shared.arena, shared.kernel.table)
            .map_err(|e| host("making a space", e))?;
        Ok(Core {
            shared: shared.clone(),
            id: shared.next_space(),
            root: tables.root().phys(),
            generation: AtomicU64::new(0),
            waiters: AtomicUsize::new(0),
            inner: Mutex::new(Inner {
                tables,
                pending: Vec::new(),
                retired: Vec::new(),
                failed: Vec::new(),
                attached: Vec::new(),
                destroyed: false,
            }),
            left: Condvar::new(),
        })
    }

    /// Physical address of the root table.
    #[inline]
    pub(crate) fn root(&self) -> u64 {
        self.root
    }

    /// What a vCPU has seen once it has settled here now.
    #[inline]
    pub(crate) fn now(&self) -> (u64, u64) {
        (self.id, self.generation.load(Ordering::SeqCst))
    }

    /// Brings a vCPU up to the present; a refused mapping to tell.
    pub(crate) fn settle(&self, vcpu: &mut Vcpu) -> Result<Option<Failure>, PlatformError> {
        let arena = &self.shared.arena;
        let mut inner = self.inner.lock();
        if let Some(failure) = inner.failed.pop() {
            return Ok(Some(failure));
        }
        let inner = &mut *inner;
        arena.retired(&mut inner.retired, RETIRED_MOST);
        let retired = inner.retired.iter().map(|page| Touch::Table(*page));
        inner.pending.extend(retired);
        vcpu.touch(arena, self.root, &inner.pending)?;
        inner.pending.clear();
        arena.free(&inner.retired);
        inner.retired.clear();
        vcpu.seen = self.now();
        Ok(None)
    }

    /// Wakes those who wait for guest code to stop; called after the handle has left.
    #[inline]
    pub(crate) fn guest_left(&self) {
        if self.waiters.load(Ordering::SeqCst) != 0 {
            let _inner = self.inner.lock();
            self.left.notify_all();
        }
    }

    /// A context comes.
    pub(crate) fn attach(&self, handle: &Arc<Handle>) {
        self.inner.lock().attached.push(handle.clone());
    }

    /// A context goes.
    pub(crate) fn detach(&self, handle: &Arc<Handle>) {
        let attached = &mut self.inner.lock().attached;
        attached.retain(|h| !Arc::ptr_eq(h, handle));
    }

    /// Looks at the memory behind an address that faulted.
    pub(crate) fn behind(&self, addr: u64) -> Behind {
        if addr >= USER_END {
            return Behind::Unknown;
        }
        let arena = &self.shared.arena;
        let inner = self.inner.lock();
        let page = addr & !(PAGE - 1);
        let entry = inner.tables.entry(arena, page);
        let (Some(whole), Some(phys)) = (entry.revived(), entry.phys()) else {
            return Behind::Unknown;
        };
        if !self.shared.memory.alive(phys) {
            return Behind::Nothing;
        }
        let mut changes = Changes::default();
        inner
            .tables
            .update(arena, page, page + PAGE, &mut changes, |_, _, _| {
                Some(whole)
            });
        self.finish(inner, changes);
        Behind::Something
    }

    /// The host could not get at memory that guest code touched: makes faults of accesses to
    /// pages whose files have become shorter. Whether there were any.
    pub(crate) fn bury(&self) -> bool {
        let (arena, memory) = (&self.shared.arena, &self.shared.memory);
        let inner = self.inner.lock();
        let mut changes = Changes::default();
        let mut chunk = (0, 0, 0);
        let mut any = false;
        let mark = |_, old: Entry, _: &mut Changes| {
            let Some(phys) = old.phys() else {
                return Some(old);
            };
            if !(chunk.0..chunk.2).contains(&phys) {
                let (dead, end) = memory.dead_part(phys);
                chunk = (phys, dead, end);
            }
            if phys + old.pages() * PAGE <= chunk.1 {
                return Some(old);
            }
            let new = (phys >= chunk.1).then(|| old.dead());
            any |= new.is_some_and(|new| new != old);
            new
        };
        inner.tables.update(arena, 0, USER_END, &mut changes, mark);
        self.finish(inner, changes);
        any
    }

    /// Reads a word of the guest's.
    pub(crate) fn read_word(&self, addr: u64) -> Option<u64> {
        let page = addr & !(PAGE - 1);
        if !addr.is_multiple_of(8) || addr >= USER_END {
            return None;
        }
        let inner = self.inner.lock();
        let phys = inner.tables.entry(&self.shared.arena, page).phys()?;
        let mut bytes = [0; 8];
        let read = self.shared.memory.read(phys + addr % PAGE, &mut bytes);
        read.ok().map(|()| u64::from_le_bytes(bytes))
    }

    fn change(&self, inner: &mut Inner, op: &Op, changes: &mut Changes) {
        let arena = &self.shared.arena;
        let tables = &inner.tables;
        match op {
            Op::Map {
                addr,
                len,
                backing,
                access,
            } => {
                let mut at = *addr;
                let write = access.contains(Protection::WRITE);
                let done = self.shared.memory.acquire(
                    &backing.file,
                    backing.offset,
                    *len,
                    write,
                    |phys, bytes| {
                        let start = at;
                        at += bytes;
                        tables.map(arena, (start, at), phys, *access, changes)
                    },
                );
                if let Err(e) = done {
                    inner.failed.push(Failure {
                        addr: *addr,
                        len: *len,
                        errno: e.raw_os_error().unwrap_or(libc::EIO),
                    });
                    tables.clear(arena, *addr, addr + len, changes);
                }
            }
            Op::Unmap { addr, len } => tables.clear(arena, *addr, addr + len, changes),
            Op::Protect { addr, len, access } => {
                tables.update(arena, *addr, addr + len, changes, |_, old, _| {
                    Some(old.with(*access))
                });
            }
        }
    }

    /// Lets a change take effect and gives back what it freed.
    fn finish(&self, mut inner: MutexGuard<'_, Inner>, mut changes: Changes) {
        inner.failed.extend(changes.lost.iter().map(|addr| Failure {
            addr: *addr,
            len: LEAF_SPAN,
            errno: libc::ENOMEM,
        }));
        let news = !changes.touched.is_empty() || !inner.failed.is_empty();
        inner.pending.append(&mut changes.touched);
        if news {
            let generation = self.generation.fetch_add(1, Ordering::SeqCst) + 1;
            self.waiters.fetch_add(1, Ordering::SeqCst);
            loop {
                let mut running = false;
                for handle in &inner.attached {
                    if handle.in_guest_before(generation) {
                        handle.kick();
                        running = true;
                    }
                }
                if !running {
                    break;
                }
                self.left.wait(&mut inner);
            }
            self.waiters.fetch_sub(1, Ordering::SeqCst);
        }
        // What is retired is touched as such.
        changes.unlinked.sort_unstable();
        let kept = |touch: &Touch| changes.unlinked.binary_search(&touch.table()).is_err();
        inner.pending.retain(kept);
        self.shared.arena.retire(&mut changes.unlinked);
        self.shared.memory.release(&changes.released);
    }
}

/// Whether an operation keeps to the contract.
fn check(op: &Op) -> Result<(), PlatformError> {
    let (addr, len, offset) = match op {
        Op::Map {
            addr, len, backing, ..
        } => (*addr, *len, backing.offset),
        Op::Unmap { addr, len } | Op::Protect { addr, len, .. } => (*addr, *len, 0),
    };
    let aligned = (addr | len | offset).is_multiple_of(PAGE) && len != 0;
    let end = addr.checked_add(len);
    let inside = addr >= LOWEST && end.is_some_and(|end| end <= USER_END);
    if aligned && inside && offset.checked_add(len).is_some() {
        return Ok(());
    }
    Err(misuse(
        "changing mappings",
        &format!("{op:x?} is not aligned or outside of the limits"),
    ))
}

impl AddressSpace for Space {
    fn apply(&self, ops: &[Op]) -> Result<(), PlatformError> {
        ops.iter().try_for_each(check)?;
        let core = &self.0;
        let mut inner = core.inner.lock();
        if inner.destroyed {
            return Ok(());
        }
        let mut changes = Changes::default();
        for op in ops {
            core.change(&mut inner, op, &mut changes);
        }
        core.finish(inner, changes);
        Ok(())
    }

    fn fork(&self, before: &[Op]) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        self.apply(before)?;
        let core = &self.0;
        let child = Core::new(&core.shared)?;
        let mut held = Vec::new();
        {
            let inner = core.inner.lock();
            if let Some(failure) = inner.failed.last() {
                // The guest's next switch tells it; the caller knows that there is no child.
                let errno = io::Error::from_raw_os_error(failure.errno);
                return Err(host("changing mappings before a fork", errno));
            }
            let to = child.inner.lock();
            let mut note = |phys, pages| held.push((phys, pages));
            let copied = inner
                .tables
                .copy_to(&core.shared.arena, &to.tables, &mut note);
            // Also after a failure: the child's end gives back what it has.
            core.shared.memory.hold(&held);
            copied.map_err(|e| host("copying page tables", e))?;
        }
        Ok(Arc::new(Space(Arc::new(child))))
    }

    fn reserve_context(&self) -> Result<(), PlatformError> {
        Ok(())
    }

    fn populate(&self, addr: u64, len: u64) {
        let end = addr.saturating_add(len).min(USER_END);
        let (arena, memory) = (&self.0.shared.arena, &self.0.shared.memory);
        let mut runs = Vec::new();
        let inner = self.0.inner.lock();
        inner.tables.each(arena, addr, end, |entry| {
            if entry.is_writable() {
                tables::note(&mut runs, entry);
            }
        });
        let mut parts = Vec::new();
        for (phys, pages) in runs {
            memory.parts(phys, pages, &mut parts);
        }
        // What is being filled belongs to the caller, mapped or not.
        drop(inner);
        for (region, offset, len) in parts {
            region.populate(offset, len);
        }
    }

    fn destroy(&self) {
        self.0.destroy();
    }
}

impl Core {
    fn destroy(&self) {
        let mut inner = self.inner.lock();
        if inner.destroyed {
            return;
        }
        inner.destroyed = true;
        let mut changes = Changes::default();
        inner.tables.destroy(&self.shared.arena, &mut changes);
        self.finish(inner, changes);
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.destroy();
        let mut root = vec![self.inner.get_mut().tables.root()];
        self.shared.arena.retire(&mut root);
    }
}
