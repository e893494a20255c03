//! What happens when there is no memory left: what was handed out and never used is taken back,
//! then a process goes (Linux's OOM killer).

use crate::{Container, ExitStatus, ThreadGroup};
use hostmem::{Relief, Victim};
use mm::Mm;
use signal::Signal;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use sync::{Mutex, ranks};

/// So long others wait for a victim to be gone before the next is chosen.
const GRACE: Duration = Duration::from_secs(2);
/// `oom_score_adj` of what is never chosen.
const NEVER: i32 = -1000;
/// Kills that are logged one by one; of further ones every so manieth is.
const LOGGED: u64 = 100;

thread_local! {
    /// The process whose guest this host thread runs and serves.
    static WORKING_FOR: RefCell<Weak<ThreadGroup>> = const { RefCell::new(Weak::new()) };
}

/// This thread serves a process from now on.
pub(crate) fn work_for(group: &Arc<ThreadGroup>) {
    WORKING_FOR.set(Arc::downgrade(group));
}

/// Who was chosen last, and how many there were.
#[derive(Default)]
pub(crate) struct Killer {
    last: Mutex<Option<(Weak<ThreadGroup>, Instant)>, ranks::Leaf>,
    kills: AtomicU64,
}

/// A process and what speaks for choosing it.
struct Candidate {
    group: Arc<ThreadGroup>,
    mm: Arc<Mm>,
    resident: u64,
    badness: i64,
}

impl Container {
    /// How many times a process was killed for want of memory.
    pub fn oom_kills(&self) -> u64 {
        self.killer.kills.load(Ordering::Relaxed)
    }

    /// /proc/PID/oom_score: from 0 for what is never chosen to 2000.
    pub fn oom_score(&self, group: &ThreadGroup) -> u64 {
        let Some(mm) = space_of(group) else { return 0 };
        let total = pages(self.memory_limit()).max(1);
        match badness(group, mm.usage().resident, total) {
            Some(points) => ((1000 + points * 1000 / total) * 2 / 3).max(0) as u64,
            None => 0,
        }
    }

    /// The living processes that have memory, one for each address space.
    fn with_memory(&self) -> BTreeMap<u64, (Arc<ThreadGroup>, Arc<Mm>)> {
        self.processes()
            .into_iter()
            .filter_map(|group| space_of(&group).map(|mm| (mm.id(), (group, mm))))
            .collect()
    }

    /// Who is chosen: the worst, and init only where it is alone. Who ends already and whom a tracer
    /// holds at that is passed over, or all would wait for that tracer.
    fn choose(&self) -> Option<Candidate> {
        let total = pages(self.memory_limit()).max(1);
        self.with_memory()
            .into_values()
            .filter(|(group, _)| !(group.is_ending() && is_held(group)))
            .filter_map(|(group, mm)| {
                let resident = mm.usage().resident;
                let badness = badness(&group, resident, total)?;
                Some(Candidate {
                    group,
                    mm,
                    resident,
                    badness,
                })
            })
            .max_by_key(|c| (c.group.tgid() != 1, c.badness))
    }

    fn kill_for_memory(&self, victim: &Candidate) {
        let kills = self.killer.kills.fetch_add(1, Ordering::Relaxed) + 1;
        let name = victim.group.any_thread().map(|t| t.name());
        if kills <= LOGGED || kills.is_multiple_of(LOGGED) {
            tracing::warn!(
                pid = victim.group.tgid(),
                name = %String::from_utf8_lossy(&name.unwrap_or_default()),
                resident = victim.resident,
                oom_score_adj = victim.group.oom_score_adj(),
                used = self.memory_used(),
                limit = self.memory_limit(),
                kills,
                "out of memory: a process of the container was killed"
            );
        }
        // Whoever else uses the same memory must go too, or it does not come free.
        for group in self.processes() {
            let shares = space_of(&group).is_some_and(|mm| mm.id() == victim.mm.id());
            if shares || Arc::ptr_eq(&group, &victim.group) {
                group.kill(ExitStatus::Killed {
                    signal: Signal::KILL,
                });
            }
        }
    }
}

impl Relief for Container {
    fn trim(&self, smallest: u64) {
        for (_, mm) in self.with_memory().into_values() {
            if let Err(e) = mm.trim(smallest) {
                tracing::debug!("unused memory is not taken back: {e}");
            }
        }
    }

    fn make_go(&self) -> Victim {
        let asker = WORKING_FOR.with_borrow(Weak::upgrade);
        if asker.as_ref().is_some_and(|g| g.is_ending()) {
            return Victim::Asker;
        }
        let is_asker = |g: &Arc<ThreadGroup>| asker.as_ref().is_some_and(|a| Arc::ptr_eq(a, g));
        // One at a time: who was told to go needs a moment.
        let last = self.killer.last.lock().clone();
        if let Some((group, since)) = last
            && group.upgrade().is_some_and(|g| !g.has_ended())
            && since.elapsed() < GRACE
        {
            return Victim::Other;
        }
        let Some(victim) = self.choose() else {
            return Victim::Nobody;
        };
        let group = victim.group.clone();
        let before = self
            .killer
            .last
            .lock()
            .replace((Arc::downgrade(&group), Instant::now()));
        drop(before);
        if !group.is_ending() {
            self.kill_for_memory(&victim);
        }
        match is_asker(&group) || asker.is_some_and(|a| a.is_ending()) {
            true => Victim::Asker,
            false => Victim::Other,
        }
    }
}

/// Whether a thread of it has stopped for a tracer.
fn is_held(group: &ThreadGroup) -> bool {
    group.threads().iter().any(|t| t.is_trapped())
}

fn space_of(group: &ThreadGroup) -> Option<Arc<Mm>> {
    group.threads().iter().find_map(|t| t.mm())
}

fn pages(bytes: u64) -> i64 {
    (bytes >> abi::page::PAGE_SHIFT) as i64
}

/// Pages it has, and what its `oom_score_adj` makes of that; `None` for what is never chosen.
fn badness(group: &ThreadGroup, resident: u64, total: i64) -> Option<i64> {
    match group.oom_score_adj() {
        NEVER => None,
        adj => Some(pages(resident) + i64::from(adj) * (total / 1000)),
    }
}
