//! vCPUs and who has them.
//!
//! A context keeps its vCPU between switches, since moving one to another thread is dear. When
//! there are as many as there may be, a context that needs one takes it from one that is not in a
//! switch; when all are, it asks one of them to let go.
//!
//! Lock order: a seat's own state -> the pool's; another seat's state is only tried.

use crate::engine::Shared;
use crate::handle::Handle;
use crate::vcpu::Vcpu;
use parking_lot::{Condvar, Mutex};
use platform_api::PlatformError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How long a context waits for a vCPU before it asks another for one again.
const PATIENCE: Duration = Duration::from_millis(4);

/// A context's place for a vCPU.
pub(crate) struct Seat {
    pub(crate) handle: Arc<Handle>,
    /// Locked by the context for the whole of a switch.
    pub(crate) state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) vcpu: Option<Vcpu>,
    /// The extended state, where it is not the vCPU's.
    pub(crate) xstate: Option<Vec<u8>>,
}

impl State {
    /// Gives the vCPU away, keeping what is in it.
    fn part(&mut self) -> Result<Option<Vcpu>, PlatformError> {
        if let (Some(vcpu), None) = (&self.vcpu, &self.xstate) {
            let mut state = Vec::new();
            vcpu.xsave(&mut state)?;
            self.xstate = Some(state);
        }
        Ok(self.vcpu.take())
    }
}

/// See the module.
pub(crate) struct Pool {
    inner: Mutex<Inner>,
    returned: Condvar,
    waiting: AtomicU32,
}

struct Inner {
    free: Vec<Vcpu>,
    /// How many there are, and how many there may be.
    made: u32,
    most: u32,
    seats: Vec<Weak<Seat>>,
    /// Where to look next for one to take.
    hand: usize,
}

impl Pool {
    /// With one vCPU, and room for `most`.
    pub(crate) fn new(first: Vcpu, most: u32) -> Pool {
        let inner = Inner {
            free: vec![first],
            made: 1,
            most: most.max(1),
            seats: Vec::new(),
            hand: 0,
        };
        Pool {
            inner: Mutex::new(inner),
            returned: Condvar::new(),
            waiting: AtomicU32::new(0),
        }
    }

    /// A place for a context.
    pub(crate) fn seat(&self, handle: Arc<Handle>) -> Arc<Seat> {
        let seat = Arc::new(Seat {
            handle,
            state: Mutex::default(),
        });
        let mut inner = self.inner.lock();
        if inner.seats.len() == inner.seats.capacity() {
            inner.seats.retain(|s| s.strong_count() > 0);
        }
        inner.seats.push(Arc::downgrade(&seat));
        seat
    }

    /// A vCPU for the context whose seat is `mine`.
    pub(crate) fn take(&self, shared: &Shared, mine: &Seat) -> Result<Vcpu, PlatformError> {
        let mut inner = self.inner.lock();
        loop {
            if let Some(vcpu) = inner.free.pop() {
                return Ok(vcpu);
            }
            if inner.made < inner.most {
                let number = inner.made;
                match shared.new_vcpu(number) {
                    Ok(vcpu) => {
                        inner.made += 1;
                        return Ok(vcpu);
                    }
                    // Those that there are must do.
                    Err(_) => inner.most = inner.made,
                }
            }
            let (stolen, wanted) = inner.steal(mine)?;
            if let Some(vcpu) = stolen {
                return Ok(vcpu);
            }
            self.waiting.fetch_add(1, Ordering::SeqCst);
            if let Some(one) = wanted {
                one.handle.want();
            }
            self.returned.wait_for(&mut inner, PATIENCE);
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Gives the vCPU of a seat back if somebody waits for one.
    pub(crate) fn let_go(&self, state: &mut State) -> Result<(), PlatformError> {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.put(state.part()?);
        }
        Ok(())
    }

    /// A context is gone.
    pub(crate) fn put(&self, vcpu: Option<Vcpu>) {
        if let Some(vcpu) = vcpu {
            self.inner.lock().free.push(vcpu);
            self.returned.notify_one();
        }
    }
}

impl Inner {
    /// A vCPU of a context that is not in a switch, else a context that is, to be asked: another
    /// one at each call, since one that waits for a vCPU itself looks the same.
    fn steal(&mut self, mine: &Seat) -> Result<(Option<Vcpu>, Option<Arc<Seat>>), PlatformError> {
        let count = self.seats.len();
        let mut running = None;
        for _ in 0..count {
            self.hand = (self.hand + 1) % count;
            let Some(seat) = self.seats[self.hand].upgrade() else {
                continue;
            };
            if std::ptr::eq(&raw const *seat, mine) {
                continue;
            }
            match seat.state.try_lock() {
                Some(mut state) => {
                    if let Some(vcpu) = state.part()? {
                        return Ok((Some(vcpu), None));
                    }
                }
                None => {
                    running.get_or_insert((self.hand, seat.clone()));
                }
            }
        }
        Ok((
            None,
            running.map(|(at, seat)| {
                self.hand = at;
                seat
            }),
        ))
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::KvmEngine;
    use platform_api::conformance::guest::{Guest, SPIN};
    use platform_api::conformance::skip;
    use platform_api::{Engine, Exit, Platform, Probe};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    /// `paddd xmm0, xmm1; inc rbx; syscall; jmp`
    const COUNT: [u8; 11] = [
        0x66, 0x0f, 0xfe, 0xc1, 0x48, 0xff, 0xc3, 0x0f, 0x05, 0xeb, 0xf5,
    ];
    const ROUNDS: u32 = 300;

    #[test]
    fn more_contexts_than_vcpus_run_at_the_same_time() {
        if let Probe::Unavailable { reason, .. } = crate::Kvm.probe(None) {
            skip(&reason);
            return;
        }
        let device = crate::Kvm.open_device(None).unwrap().unwrap();
        let engine: Arc<dyn Engine> =
            Arc::new(KvmEngine::with_limits(device, 2, u32::MAX).unwrap());
        let (over, left) = (AtomicU32::new(0), AtomicU32::new(6));
        std::thread::scope(|scope| {
            // Two that never come out by themselves.
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut guest = Guest::new(&engine, &SPIN);
                    let interrupter = guest.context.interrupter();
                    std::thread::scope(|inner| {
                        inner.spawn(|| {
                            while left.load(Ordering::SeqCst) > 0 {
                                std::thread::sleep(Duration::from_millis(5));
                            }
                            interrupter.interrupt();
                        });
                        assert_eq!(guest.run(), Exit::Interrupted);
                    });
                    over.fetch_add(1, Ordering::SeqCst);
                });
            }
            for _ in 0..6 {
                scope.spawn(|| {
                    let mut guest = Guest::new(&engine, &COUNT);
                    guest.call();
                    let mut state = Vec::new();
                    guest.context.extended_state(&mut state).unwrap();
                    // xmm0 counts by xmm1.
                    state[160..176].fill(0);
                    state[176..192].fill(0);
                    state[176] = 1;
                    state[512] |= 2;
                    guest.context.set_extended_state(&state).unwrap();
                    (0..ROUNDS).for_each(|_| guest.call());
                    guest.context.extended_state(&mut state).unwrap();
                    assert_eq!(state[160..164], ROUNDS.to_le_bytes());
                    assert_eq!(guest.regs.rbx, u64::from(ROUNDS) + 1);
                    left.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        assert_eq!(over.load(Ordering::SeqCst), 2);
    }
}
