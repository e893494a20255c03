//! The vDSO's pages in guest memory, and the time they tell.

use abi::Errno;
use abi::page::PAGE_SIZE;
use hostmem::{Frames, MemoryFile, Placement};
use memmap::{Identity, Mappable, Translation};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use sync::{Mutex, ranks};
use time::{ClockId, Clocks};
use vdso::{HostTime, Params, Timekeeper};

/// How the vDSO is to be.
#[derive(Clone, Copy, Debug)]
pub struct VdsoSpec {
    /// Virtual CPUs.
    pub cpus: u32,
}

/// Parameters and image, one copy for all address spaces.
pub struct VdsoPages {
    keeper: Mutex<Timekeeper, ranks::Leaf>,
    params: Arc<Fixed>,
    image: Arc<Fixed>,
    seq: AtomicU32,
}

impl VdsoPages {
    pub(crate) fn new(memory: &Arc<MemoryFile>, spec: &VdsoSpec) -> Result<VdsoPages, Errno> {
        let params = memory.allocate(PAGE_SIZE, Placement::Anywhere)?;
        let image = memory.allocate(vdso::IMAGE_PAGES * PAGE_SIZE, Placement::Anywhere)?;
        image.write(0, vdso::image())?;
        let keeper = Timekeeper::new(spec.cpus);
        params.write(
            0,
            &Params {
                cpus: spec.cpus,
                ..Params::default()
            }
            .bytes(0),
        )?;
        let pages = VdsoPages {
            keeper: Mutex::new(keeper),
            params: Arc::new(Fixed(params)),
            image: Arc::new(Fixed(image)),
            seq: AtomicU32::new(0),
        };
        Ok(pages)
    }

    /// The page of parameters.
    pub fn params(&self) -> Arc<dyn Mappable> {
        self.params.clone()
    }

    /// The shared object.
    pub fn image(&self) -> Arc<dyn Mappable> {
        self.image.clone()
    }

    /// How fast the time stamp counter counts, in counts a second, once that is known.
    pub fn counter_rate(&self, clocks: &Clocks) -> Option<u64> {
        // A first sample, or the second that it takes.
        self.now(clocks, ClockId::Monotonic);
        match self.keeper.lock().params().mult {
            0 => None,
            mult => Some(((1_000_000_000u128 << 32) / u128::from(mult)) as u64),
        }
    }

    /// Makes `getcpu` a system call from now on: a task has been bound to some of the CPUs.
    pub(crate) fn forget_cpus(&self) {
        let mut keeper = self.keeper.lock();
        if keeper.params().cpus != 0 {
            keeper.set_cpus(0);
            self.publish(*keeper.params());
        }
    }

    pub(crate) fn now(&self, clocks: &Clocks, clock: ClockId) -> i64 {
        let offset = |p: &Params| match clock {
            ClockId::Realtime | ClockId::RealtimeCoarse | ClockId::RealtimeAlarm => {
                Some(p.realtime_offset)
            }
            ClockId::Monotonic | ClockId::MonotonicCoarse => Some(0),
            ClockId::Boottime | ClockId::BoottimeAlarm => Some(p.boottime_offset),
            ClockId::MonotonicRaw | ClockId::Tai => None,
        };
        let mut keeper = self.keeper.lock();
        let (Some(_), Some(tsc)) = (offset(keeper.params()), vdso::time_stamp()) else {
            drop(keeper);
            return clocks.now(clock);
        };
        if keeper.params().mult == 0 || keeper.params().monotonic_at(tsc).is_none() {
            let line = *keeper.sample(sample(clocks));
            self.publish(line);
        }
        let line = *keeper.params();
        drop(keeper);
        match vdso::time_stamp().and_then(|tsc| line.monotonic_at(tsc)) {
            Some(ns) => ns.wrapping_add(offset(&line).unwrap_or(0)) as i64,
            None => clocks.now(clock),
        }
    }

    /// Stores a new line: marked as changing, changed, marked as good. The keeper is locked.
    fn publish(&self, line: Params) {
        let seq = self.seq.load(Ordering::Relaxed);
        let changing = seq.wrapping_add(1);
        let done = seq.wrapping_add(2);
        let bytes = line.bytes(done);
        // x86-64 keeps the order of these stores; each is a call the compiler does not see into.
        let stored = self
            .params
            .0
            .write(0, &changing.to_le_bytes())
            .and_then(|()| self.params.0.write(4, &bytes[4..]))
            .and_then(|()| self.params.0.write(0, &done.to_le_bytes()));
        if stored.is_ok() {
            self.seq.store(done, Ordering::Relaxed);
        }
    }
}

/// The host's clocks at one moment: of a few tries, the one that took the least time.
fn sample(clocks: &Clocks) -> HostTime {
    let read = |clock| clocks.now(clock) as u64;
    let mut best = (
        u64::MAX,
        HostTime {
            tsc: 0,
            monotonic: 0,
            realtime: 0,
            boottime: 0,
        },
    );
    for _ in 0..4 {
        let before = vdso::time_stamp().unwrap_or(0);
        let monotonic = read(ClockId::Monotonic);
        let tsc = vdso::time_stamp().unwrap_or(0);
        // The offsets of the others change rarely; reading them a little later is no matter, as
        // long as each is measured against its own reading of the first.
        let realtime =
            monotonic.wrapping_add(read(ClockId::Realtime).wrapping_sub(read(ClockId::Monotonic)));
        let boottime =
            monotonic.wrapping_add(read(ClockId::Boottime).wrapping_sub(read(ClockId::Monotonic)));
        let width = tsc.saturating_sub(before);
        if width < best.0 {
            best = (
                width,
                HostTime {
                    tsc,
                    monotonic,
                    realtime,
                    boottime,
                },
            );
        }
    }
    best.1
}

/// Frames that are always there.
struct Fixed(Frames);

impl Mappable for Fixed {
    fn identity(&self) -> Identity {
        Identity::default()
    }

    fn translate(&self, offset: u64, len: u64, write: bool) -> Result<Translation, Errno> {
        if write {
            return Err(Errno::EACCES);
        }
        Translation::of_frames(&self.0, offset, len)
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(self.0.len())
    }
}
