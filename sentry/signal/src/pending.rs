//! Pending signals of a thread or of a process.

use crate::{SigInfo, SigSet, Signal};
use abi::libc;
use std::collections::VecDeque;

/// A real-time signal did not fit under `RLIMIT_SIGPENDING`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// What is pending. An ordinary signal is pending once at most; real-time ones queue.
#[derive(Debug, Default)]
pub struct Pending {
    set: SigSet,
    queue: VecDeque<(Signal, SigInfo)>,
}

impl Pending {
    /// Nothing pending.
    pub const fn new() -> Pending {
        Pending {
            set: SigSet::EMPTY,
            queue: VecDeque::new(),
        }
    }

    /// The signals pending.
    pub fn set(&self) -> SigSet {
        self.set
    }

    /// How many are queued.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Adds one. `limit` is the room left under `RLIMIT_SIGPENDING`. It does not hold for ordinary
    /// signals of the kernel and of kill(2); of others, one without room is pending without its
    /// details, and a real-time one sent with them is refused.
    pub fn add(&mut self, signal: Signal, info: SigInfo, limit: u64) -> Result<(), Full> {
        if !signal.is_realtime() && self.set.has(signal) {
            return Ok(());
        }
        let unlimited = signal.is_unblockable() || (!signal.is_realtime() && info.code >= 0);
        if limit == 0 && !unlimited {
            let from_kernel = info.code == libc::SI_KERNEL;
            if signal.is_realtime() && info.code != libc::SI_USER && !from_kernel {
                return Err(Full);
            }
            self.set = self.set.with(signal);
            return Ok(());
        }
        self.set = self.set.with(signal);
        self.queue.push_back((signal, info));
        Ok(())
    }

    /// Takes the next signal that is in `wanted`: synchronous ones first, then by number.
    pub fn take(&mut self, wanted: SigSet) -> Option<(Signal, SigInfo)> {
        let ready = self.set & wanted;
        let signal = (ready & Signal::SYNCHRONOUS).first().or(ready.first())?;
        let info = match self.queue.iter().position(|(s, _)| *s == signal) {
            Some(at) => self.queue.remove(at).map(|(_, i)| i),
            None => None,
        };
        if !self.queue.iter().any(|(s, _)| *s == signal) {
            self.set = self.set.without(signal);
        }
        Some((
            signal,
            info.unwrap_or_else(|| SigInfo::user(signal, 0, 0, 0)),
        ))
    }

    /// What is told of those that are queued, in order.
    pub fn infos(&self) -> impl Iterator<Item = SigInfo> {
        self.queue.iter().map(|(_, info)| *info)
    }

    /// Forgets all that are in `which`.
    pub fn discard(&mut self, which: SigSet) {
        if !(self.set & which).is_empty() {
            self.queue.retain(|(s, _)| !which.has(*s));
            self.set = self.set.minus(which);
        }
    }

    /// Whether an entry of `signal` is queued for which `pred` holds, which may change it.
    pub fn update(&mut self, signal: Signal, mut pred: impl FnMut(&mut SigInfo) -> bool) -> bool {
        self.queue.iter_mut().any(|(s, i)| *s == signal && pred(i))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_signals_merge_and_realtime_ones_queue() {
        let mut p = Pending::new();
        let rt = Signal::new(40).unwrap();
        for n in 0..3 {
            p.add(Signal::USR1, SigInfo::user(Signal::USR1, 0, n, 0), 10)
                .unwrap();
            p.add(rt, SigInfo::user(rt, -1, n, 0), 10).unwrap();
        }
        p.add(Signal::SEGV, SigInfo::kernel(Signal::SEGV), 10)
            .unwrap();
        assert_eq!(p.take(SigSet::ALL).unwrap().0, Signal::SEGV);
        assert_eq!(p.take(SigSet::ALL).unwrap().1.pid(), 0);
        for n in 0..3 {
            assert_eq!(p.take(SigSet::ALL).unwrap().1.pid(), n);
        }
        assert!(p.take(SigSet::ALL).is_none());
        assert!(p.is_empty());
    }

    #[test]
    fn a_full_queue_refuses_realtime_and_keeps_the_bit_of_others() {
        let mut p = Pending::new();
        let rt = Signal::new(40).unwrap();
        assert_eq!(p.add(rt, SigInfo::user(rt, -1, 1, 0), 0), Err(Full));
        let ready = SigInfo::ready(rt, 1, 0x41, 3);
        assert_eq!(p.add(rt, ready, 0), Err(Full));
        for (code, pid) in [(libc::SI_TKILL, 0), (libc::SI_USER, 1)] {
            p.add(Signal::TERM, SigInfo::user(Signal::TERM, code, 1, 0), 0)
                .unwrap();
            let (signal, info) = p.take(SigSet::ALL).unwrap();
            assert_eq!((signal, info.pid()), (Signal::TERM, pid));
            assert!(p.is_empty());
        }
    }
}
