//! The address space and its tables.

use crate::batch::Batch;
use crate::extent::{Extent, ExtentMap};
use crate::layout::{Layout, SearchHint};
use crate::types::{ExecInfo, MmLimits, platform_errno};
use crate::vma::{Vma, VmaSet};
use abi::Errno;
use abi::page::Range;
use hostmem::{Frames, MemoryFile};
use memmap::Space;
use platform_api::{AddressSpace, Engine, Limits};
use std::any::Any;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use sync::census::{Counted, Kind};
use sync::{Mutex, RwLock, ranks};

/// See [`Mm::companion`].
type Companion = Arc<dyn Any + Send + Sync>;

/// An address space.
pub struct Mm {
    // Lock order: copying -> state -> info.
    /// Held while a private file page is copied, so that two threads do not fill the same frames.
    pub(crate) copying: Mutex<(), ranks::MmCopy>,
    pub(crate) state: RwLock<State, ranks::Mm>,
    pub(crate) info: Mutex<Arc<ExecInfo>, ranks::Leaf>,
    /// Host reads straight into frames that are under way; fork waits for them.
    pub(crate) fills: AtomicU32,
    pub(crate) id: u64,
    pub(crate) memory: Arc<MemoryFile>,
    pub(crate) space: Arc<dyn AddressSpace>,
    pub(crate) bounds: Arc<Limits>,
    pub(crate) this: Weak<Mm>,
    /// See [`Mm::companion`].
    companion: Mutex<Option<Companion>, ranks::Leaf>,
    _counted: Counted,
}

/// What the lock guards.
pub(crate) struct State {
    pub(crate) vmas: VmaSet,
    pub(crate) extents: ExtentMap,
    pub(crate) layout: Layout,
    pub(crate) hint: SearchHint,
    pub(crate) limits: MmLimits,
    /// The heap of brk(2): from where it began to where it ends, byte-exact.
    pub(crate) heap: Range,
    /// mlockall(MCL_FUTURE)
    pub(crate) lock_future: bool,
    /// ... with MCL_ONFAULT: what is locked is not brought in.
    pub(crate) lock_on_fault: bool,
    /// Counts invalidations, so that a translation made without the lock is known to be stale.
    pub(crate) epoch: u64,
    /// Counts forks: what was unsealed before the last may be sealed now.
    pub(crate) forks: u64,
    /// After a fork: the next unsealing looks whether the other side is gone altogether.
    pub(crate) sweep: bool,
    pub(crate) peak_virtual: u64,
    pub(crate) peak_resident: u64,
    /// Bytes handed out since residency was looked at last.
    pub(crate) handed_out: u64,
    /// Address and count of faults that found everything in place already.
    pub(crate) spurious: (u64, u32),
    pub(crate) destroyed: bool,
}

impl State {
    pub(crate) fn fresh(layout: Layout) -> State {
        State {
            vmas: VmaSet::default(),
            extents: ExtentMap::default(),
            layout,
            hint: SearchHint::none(),
            limits: MmLimits::default(),
            heap: Range::new(0, 0),
            lock_future: false,
            lock_on_fault: false,
            epoch: 0,
            forks: 0,
            sweep: false,
            peak_virtual: 0,
            peak_resident: 0,
            handed_out: 0,
            spurious: (0, 0),
            destroyed: false,
        }
    }
}

/// Frames that go when this is dropped, all at once: to be dropped after the lock and after the
/// platform has forgotten them.
#[derive(Default)]
pub(crate) struct Garbage(pub(crate) Vec<Frames>);

impl Garbage {
    pub(crate) fn add(&mut self, extents: Vec<Extent>) {
        for extent in extents {
            extent.into_frames(&mut self.0);
        }
    }
}

impl Drop for Garbage {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            Frames::release_all(std::mem::take(&mut self.0));
        }
    }
}

impl std::fmt::Debug for Mm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mm({})", self.id)
    }
}

impl Mm {
    /// An empty space with a layout of its own.
    ///
    /// # Errors
    /// What the platform answers, as a rule `ENOMEM`.
    pub fn new(engine: &Arc<dyn Engine>, memory: &Arc<MemoryFile>) -> Result<Arc<Mm>, Errno> {
        let bounds = Arc::new(engine.limits());
        let layout = Layout::choose(&bounds, &MmLimits::default(), true);
        let space = engine.new_space().map_err(platform_errno)?;
        Ok(Mm::with(
            memory.clone(),
            space,
            bounds,
            ExecInfo::default(),
            |_| State::fresh(layout),
        ))
    }

    pub(crate) fn with(
        memory: Arc<MemoryFile>,
        space: Arc<dyn AddressSpace>,
        bounds: Arc<Limits>,
        info: ExecInfo,
        state: impl FnOnce(&Weak<Mm>) -> State,
    ) -> Arc<Mm> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Arc::new_cyclic(|this| Mm {
            copying: Mutex::new(()),
            state: RwLock::new(state(this)),
            info: Mutex::new(Arc::new(info)),
            fills: AtomicU32::new(0),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            memory,
            space,
            bounds,
            this: this.clone(),
            companion: Mutex::new(None),
            _counted: Counted::new(Kind::AddressSpace),
        })
    }

    /// Tells address spaces apart, for the whole life of the sandbox.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The platform's side, for `Context::switch`.
    pub fn space(&self) -> Arc<dyn AddressSpace> {
        self.space.clone()
    }

    /// The platform's side, borrowed.
    pub fn space_ref(&self) -> &Arc<dyn AddressSpace> {
        &self.space
    }

    /// Where its frames come from.
    pub fn memory_file(&self) -> &Arc<MemoryFile> {
        &self.memory
    }

    /// The addresses the platform lets guests use.
    pub fn bounds(&self) -> &Limits {
        &self.bounds
    }

    /// Where things go.
    pub fn layout(&self) -> Layout {
        self.state.read().layout
    }

    /// Chooses the layout anew, before anything is mapped: with the stack limit of `limits`, and
    /// without randomness for personality(2)'s `ADDR_NO_RANDOMIZE`.
    pub fn choose_layout(&self, limits: &MmLimits, randomize: bool) -> Layout {
        let mut st = self.state.write();
        st.limits = *limits;
        st.layout = Layout::choose(&self.bounds, limits, randomize);
        st.hint = SearchHint::none();
        st.layout
    }

    /// Notes changed resource limits, for growth of the stack. (Calls that map are given theirs.)
    pub fn set_limits(&self, limits: &MmLimits) {
        self.state.write().limits = *limits;
    }

    /// What execve(2) left.
    pub fn exec_info(&self) -> Arc<ExecInfo> {
        self.info.lock().clone()
    }

    /// Sets what execve(2) leaves.
    pub fn set_exec_info(&self, info: ExecInfo) {
        let new = Arc::new(info);
        // The old one may hold the last reference to a file: dropped without the lock.
        let old = std::mem::replace(&mut *self.info.lock(), new);
        drop(old);
    }

    /// Changes what execve(2) left (prctl(PR_SET_MM), PR_SET_DUMPABLE).
    pub fn update_exec_info(&self, change: impl FnOnce(&mut ExecInfo)) {
        let old = {
            // Read and written under one lock: of two changes neither is lost.
            let mut info = self.info.lock();
            let mut new = ExecInfo::clone(&info);
            change(&mut new);
            std::mem::replace(&mut *info, Arc::new(new))
        };
        // As above, without the lock.
        drop(old);
    }

    /// What callers keep beside the mappings: it is no child's, and goes when the space does.
    pub fn companion(&self) -> Option<Companion> {
        self.companion.lock().clone()
    }

    /// As [`Mm::companion`]; `fresh` where there is none yet.
    pub fn companion_or(&self, fresh: Companion) -> Companion {
        self.companion.lock().get_or_insert(fresh).clone()
    }

    /// This space as files know it.
    pub(crate) fn weak(&self) -> Weak<dyn Space> {
        self.this.clone()
    }

    /// Frees everything at once: the last task has left.
    ///
    /// No context may run in it now or later.
    pub fn destroy(&self) {
        let companion = self.companion.lock().take();
        drop(companion);
        let mut garbage = Garbage::default();
        {
            let mut st = self.state.write();
            if st.destroyed {
                return;
            }
            st.destroyed = true;
            for vma in st.vmas.iter() {
                self.detach(vma);
            }
            st.vmas = VmaSet::default();
            st.hint = SearchHint::none();
            garbage.add(st.extents.clear());
        }
        self.space.destroy();
        drop(garbage);
        self.set_exec_info(ExecInfo::default());
    }

    /// Takes back what a file noted of this mapping.
    pub(crate) fn detach(&self, vma: &Vma) {
        if let Some(file) = &vma.file {
            let range = Range {
                start: file.offset,
                end: file.offset.saturating_add(vma.range.len()),
            };
            file.mappable.detach(&self.weak(), vma.range.start, range);
        }
    }

    /// Tells the platform and only then lets go of frames.
    pub(crate) fn commit(&self, batch: Batch) -> Result<(), Errno> {
        batch.apply(&self.space)
    }
}

impl Drop for Mm {
    fn drop(&mut self) {
        self.destroy();
    }
}
