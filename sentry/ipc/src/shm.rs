//! Shared memory segments (shmget(2), shmat(2), shmctl(2)).

use crate::ids::{Ids, Object, Perm};
use crate::{Limits, PermWords, seconds};
use abi::Errno;
use abi::page::{PAGE_SIZE, Range, page_up};
use auth::{Capability, UserNamespace};
use ctx::{Ctx, Pid, PidSpace, Resource};
use hostmem::{Frames, MemoryFile, Placement};
use memmap::{Identity, Mappable, Mapping, Mappings, Space, Translation};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use sync::{Mutex, ranks};
use time::Clocks;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `SHM_HUGETLB`
const HUGE: i32 = 0o4000;
/// `SHM_DEST`
const DOOMED: u32 = 0o1000;
/// `SHM_LOCKED`
const LOCKED: u32 = 0o2000;

/// The segments of all namespaces that may be mapped, by the address of their `Mappable`: a
/// mapping outlives the stay in the namespace.
static ATTACHABLE: Mutex<BTreeMap<u64, Weak<Segment>>, ranks::Leaf> = Mutex::new(BTreeMap::new());

/// The segment that is mapped as object `object` (the address of its `Mappable`).
pub fn by_object(object: u64) -> Option<Arc<Segment>> {
    ATTACHABLE.lock().get(&object)?.upgrade()
}

/// `struct shmid64_ds`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
#[expect(missing_docs, reason = "shmctl(2) says what each is")]
pub struct SegmentWords {
    pub perm: PermWords,
    pub segsz: u64,
    pub atime: i64,
    pub dtime: i64,
    pub ctime: i64,
    pub cpid: i32,
    pub lpid: i32,
    pub nattch: u64,
    pub unused: [u64; 2],
}

const _: () = assert!(size_of::<SegmentWords>() == 112);

/// All segments of a sandbox.
pub struct Segments {
    ids: Ids<Segment>,
    memory: Arc<MemoryFile>,
    clocks: Arc<Clocks>,
    limits: Arc<Limits>,
    /// Of all segments, those included that are removed and still mapped.
    pages: AtomicU64,
    this: Weak<Segments>,
}

/// One segment.
pub struct Segment {
    id: i32,
    size: u64,
    frames: Frames,
    state: Mutex<State, ranks::Leaf>,
    mappings: Mappings,
    table: Weak<Segments>,
}

struct State {
    perm: Perm,
    atime: i64,
    dtime: i64,
    ctime: i64,
    cpid: Pid,
    lpid: Pid,
}

impl Object for Segment {
    fn perm(&self) -> Perm {
        self.state.lock().perm
    }
}

impl Segments {
    pub(crate) fn new(
        memory: &Arc<MemoryFile>,
        clocks: &Arc<Clocks>,
        limits: &Arc<Limits>,
    ) -> Arc<Segments> {
        Arc::new_cyclic(|this| Segments {
            ids: Ids::new(limits, |l| (&l.shmmni, &l.shm_next_id)),
            memory: memory.clone(),
            clocks: clocks.clone(),
            limits: limits.clone(),
            pages: AtomicU64::new(0),
            this: this.clone(),
        })
    }

    /// shmget(2).
    ///
    /// # Errors
    /// Those of shmget(2).
    pub fn get(&self, cx: &dyn Ctx, key: i32, size: u64, flags: i32) -> Result<i32, Errno> {
        let check = |segment: &Segment| {
            if size > segment.size {
                Err(Errno::EINVAL)
            } else {
                Ok(())
            }
        };
        let make = |id, perm| {
            if size == 0 || size > self.limits.shmmax() {
                return Err(Errno::EINVAL);
            }
            let pages = size.div_ceil(PAGE_SIZE);
            if self.pages.load(Ordering::Relaxed).saturating_add(pages) > self.limits.shmall() {
                return Err(Errno::ENOSPC);
            }
            // There is no reserve of huge pages.
            if flags & HUGE != 0 {
                return Err(Errno::ENOMEM);
            }
            let len = page_up(size).ok_or(Errno::ENOSPC)?;
            let frames = self.memory.allocate(len, Placement::Roomy)?;
            self.pages.fetch_add(pages, Ordering::Relaxed);
            Ok(Segment {
                id,
                size,
                frames,
                state: Mutex::new(State {
                    perm,
                    atime: 0,
                    dtime: 0,
                    ctime: seconds(&self.clocks),
                    cpid: cx.process_id(),
                    lpid: Pid::default(),
                }),
                mappings: Mappings::new(),
                table: self.this.clone(),
            })
        };
        self.ids.get_or_make(cx, key, flags, check, make)
    }

    /// The segment that shmat(2) is to map, with the permissions in `wanted`.
    ///
    /// # Errors
    /// `EINVAL`, `EIDRM`, `EACCES`.
    pub fn attachable(&self, cx: &dyn Ctx, id: i32, wanted: i32) -> Result<Arc<Segment>, Errno> {
        let segment = self.ids.get(id)?;
        segment
            .perm()
            .check(&cx.creds(), &self.limits.owner, wanted)?;
        let weak = Arc::downgrade(&segment);
        ATTACHABLE.lock().insert(segment.object(), weak);
        Ok(segment)
    }

    /// What `IPC_STAT` says of a segment; `SHM_STAT` names it by its place, and also wants its
    /// identifier. `checked` is false for `SHM_STAT_ANY`.
    ///
    /// # Errors
    /// `EINVAL`, `EIDRM`, `EACCES`.
    pub fn stat(
        &self,
        cx: &dyn Ctx,
        id: i32,
        by_place: bool,
        checked: bool,
    ) -> Result<(i32, SegmentWords), Errno> {
        let (id, segment) = if by_place {
            self.ids.at(id)?
        } else {
            (id, self.ids.get(id)?)
        };
        let words = segment.words(&cx.creds().user_ns, cx.pid_space());
        if checked {
            segment
                .perm()
                .check(&cx.creds(), &self.limits.owner, 0o444)?;
        }
        Ok((id, words))
    }

    /// `IPC_SET`.
    ///
    /// # Errors
    /// `EINVAL`, `EIDRM`, `EPERM`.
    pub fn set(&self, cx: &dyn Ctx, id: i32, words: &SegmentWords) -> Result<(), Errno> {
        let segment = self.ids.get(id)?;
        let mut st = segment.state.lock();
        st.perm.check_owner(&cx.creds(), &self.limits.owner)?;
        st.perm.set(&words.perm, &cx.creds().user_ns)?;
        st.ctime = seconds(&self.clocks);
        Ok(())
    }

    /// `IPC_RMID`: it goes once nobody has it attached any more.
    ///
    /// # Errors
    /// `EINVAL`, `EIDRM`, `EPERM`.
    pub fn remove(&self, cx: &dyn Ctx, id: i32) -> Result<(), Errno> {
        let segment = self.ids.get(id)?;
        let key = {
            let mut st = segment.state.lock();
            st.perm.check_owner(&cx.creds(), &self.limits.owner)?;
            st.perm.mode |= DOOMED;
            std::mem::replace(&mut st.perm.key, crate::PRIVATE)
        };
        self.ids.forget_key(key);
        segment.end_if_unused();
        Ok(())
    }

    /// `SHM_LOCK` and `SHM_UNLOCK`.
    ///
    /// # Errors
    /// `EINVAL`, `EIDRM`, `EPERM`.
    pub fn lock(&self, cx: &dyn Ctx, id: i32, locked: bool) -> Result<(), Errno> {
        let segment = self.ids.get(id)?;
        let creds = cx.creds();
        let mut st = segment.state.lock();
        if !creds.has_in(&self.limits.owner, Capability::IpcLock) {
            let owner = creds.euid == st.perm.uid || creds.euid == st.perm.cuid;
            if !owner || (locked && cx.limit(Resource::Memlock) == 0) {
                return Err(Errno::EPERM);
            }
        }
        if locked {
            st.perm.mode |= LOCKED;
        } else {
            st.perm.mode &= !LOCKED;
        }
        Ok(())
    }

    /// `IPC_INFO`: `struct shminfo64`, and the highest place in use.
    pub fn limits(&self) -> ([u64; 9], u32) {
        let mni = self.limits.shmmni.size() as u64;
        let (max, all) = (self.limits.shmmax(), self.limits.shmall());
        let words = [max, 1, mni, mni, all, 0, 0, 0, 0];
        (words, self.ids.highest())
    }

    /// `SHM_INFO`: `struct shm_info`, and the highest place in use.
    pub fn usage(&self) -> ([u64; 6], u32) {
        let all = self.ids.all();
        let pages = |bytes: u64| bytes / PAGE_SIZE;
        let total: u64 = all.iter().map(|(_, s)| pages(s.frames.len())).sum();
        let rss: u64 = all
            .iter()
            .map(|(_, s)| pages(s.frames.resident_bytes()))
            .sum();
        let words = [all.len() as u64, total, rss, 0, 0, 0];
        (words, self.ids.highest())
    }

    /// /proc/sysvipc/shm, as who is in `ns` and `space` sees it.
    pub fn table(&self, ns: &UserNamespace, space: PidSpace) -> String {
        let mut text = String::from(
            "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n",
        );
        for (id, s) in self.ids.all() {
            let w = s.words(ns, space);
            let p = &w.perm;
            let _ = writeln!(
                text,
                "{:10} {id:10}  {:4o} {:21} {:5} {:5}  {:5} {:5} {:5} {:5} {:5} {:10} {:10} {:10} {:21} {:21}",
                p.key,
                p.mode,
                w.segsz,
                w.cpid,
                w.lpid,
                w.nattch,
                p.uid,
                p.gid,
                p.cuid,
                p.cgid,
                w.atime,
                w.dtime,
                w.ctime,
                s.frames.resident_bytes(),
                0
            );
        }
        text
    }
}

impl Segment {
    /// Bytes, as asked for.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The number by which address spaces know it.
    pub fn object(self: &Arc<Self>) -> u64 {
        let mappable: Arc<dyn Mappable> = self.clone();
        Arc::as_ptr(&mappable).cast::<()>().addr() as u64
    }

    /// Notes who attached or detached it last.
    pub fn used_by(&self, pid: Pid) {
        let old = std::mem::replace(&mut self.state.lock().lpid, pid);
        drop(old);
    }

    fn words(&self, ns: &UserNamespace, space: PidSpace) -> SegmentWords {
        let nattch = self.mappings.count() as u64;
        let st = self.state.lock();
        SegmentWords {
            perm: st.perm.words(ns),
            segsz: self.size,
            atime: st.atime,
            dtime: st.dtime,
            ctime: st.ctime,
            cpid: st.cpid.seen_from(space),
            lpid: st.lpid.seen_from(space),
            nattch,
            ..SegmentWords::default()
        }
    }

    fn now(&self) -> Option<i64> {
        self.table.upgrade().map(|t| seconds(&t.clocks))
    }

    fn end_if_unused(&self) {
        let doomed = self.state.lock().perm.mode & DOOMED != 0;
        if doomed
            && self.mappings.is_empty()
            && let Some(table) = self.table.upgrade()
        {
            table.ids.remove(self.id);
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let object = std::ptr::from_ref(self).addr() as u64;
        let gone = ATTACHABLE.lock().remove(&object);
        drop(gone);
        if let Some(table) = self.table.upgrade() {
            let pages = self.size.div_ceil(PAGE_SIZE);
            table.pages.fetch_sub(pages, Ordering::Relaxed);
        }
    }
}

impl Mappable for Segment {
    fn identity(&self) -> Identity {
        let key = self.state.lock().perm.key;
        Identity {
            dev: 1,
            ino: self.id as u64,
            path: format!("/SYSV{key:08x} (deleted)").into_bytes(),
        }
    }

    fn translate(&self, offset: u64, len: u64, _write: bool) -> Result<Translation, Errno> {
        Translation::of_frames(&self.frames, offset, len)
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(self.frames.len())
    }

    fn attach(&self, mapping: Mapping) -> Result<(), Errno> {
        self.mappings.attach(mapping);
        if let Some(now) = self.now() {
            self.state.lock().atime = now;
        }
        Ok(())
    }

    fn detach(&self, space: &Weak<dyn Space>, addr: u64, range: Range) {
        self.mappings.detach(space, addr, range);
        if let Some(now) = self.now() {
            self.state.lock().dtime = now;
        }
        self.end_if_unused();
    }

    fn next_resident(&self, offset: u64) -> Option<Range> {
        self.frames.next_resident(offset)
    }

    fn punch(&self, range: Range) -> Result<(), Errno> {
        let range = range.intersect(&Range::new(0, self.frames.len()));
        self.frames.decommit(range.start, range.len())
    }
}
