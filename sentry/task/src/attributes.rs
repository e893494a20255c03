//! What prctl(2), sched_setaffinity(2), setpriority(2) and the like set and get.

use crate::{Kernel, Task, TaskCx};
use abi::{Errno, libc};
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;

/// What sched_setscheduler(2) sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// `SCHED_*`
    pub policy: i32,
    /// Real-time priority.
    pub priority: i32,
    /// `SCHED_RESET_ON_FORK`
    pub reset_on_fork: bool,
}

impl Scheduling {
    /// Checks a policy, and a priority against it.
    ///
    /// # Errors
    /// `EINVAL` for what is none; `EPERM` for deadlines, which need promises that nobody can keep
    /// here.
    pub fn new(policy: i32, priority: i32, reset_on_fork: bool) -> Result<Scheduling, Errno> {
        if policy == libc::SCHED_DEADLINE {
            return Err(Errno::EPERM);
        }
        if !Scheduling::priorities(policy)?.contains(&priority) {
            return Err(Errno::EINVAL);
        }
        Ok(Scheduling {
            policy,
            priority,
            reset_on_fork,
        })
    }

    /// The static priorities of a policy.
    ///
    /// # Errors
    /// `EINVAL` for what is none.
    pub fn priorities(policy: i32) -> Result<RangeInclusive<i32>, Errno> {
        match policy {
            libc::SCHED_FIFO | libc::SCHED_RR => Ok(1..=99),
            libc::SCHED_OTHER | libc::SCHED_BATCH | libc::SCHED_IDLE | libc::SCHED_DEADLINE => {
                Ok(0..=0)
            }
            _ => Err(Errno::EINVAL),
        }
    }
}

impl Task {
    /// Nice value, -20 to 19.
    pub fn nice(&self) -> i32 {
        self.state.lock().nice
    }

    /// Sets the nice value; the caller has checked it. It orders nothing: the host schedules.
    pub fn set_nice(&self, nice: i32) {
        self.state.lock().nice = nice.clamp(-20, 19);
    }

    /// Scheduling policy and priority.
    pub fn scheduling(&self) -> Scheduling {
        let st = self.state.lock();
        Scheduling {
            policy: st.policy,
            priority: st.priority,
            reset_on_fork: st.reset_on_fork,
        }
    }

    /// Sets policy and priority; the caller has checked them.
    pub fn set_scheduling(&self, s: Scheduling) {
        let mut st = self.state.lock();
        (st.policy, st.priority, st.reset_on_fork) = (s.policy, s.priority, s.reset_on_fork);
    }

    /// The virtual CPUs it may run on, of those that are there, as bits in whole words. Where what
    /// was set leaves none of them, all, as with Linux when a task's last CPU goes.
    pub fn affinity(&self) -> Vec<u8> {
        let there = crate::exec::all_cpus(self.kernel().cpus());
        let mut mask = self.state.lock().affinity.clone();
        let size = mask.len();
        for (i, bits) in mask.iter_mut().enumerate() {
            *bits &= there.get(i).copied().unwrap_or(0);
        }
        if mask.iter().all(|bits| *bits == 0) {
            mask = there;
            mask.resize(size, 0);
        }
        mask
    }

    /// Sets the virtual CPUs it may run on.
    ///
    /// # Errors
    /// `EINVAL` where that leaves none.
    pub fn set_affinity(&self, mask: &[u8]) -> Result<(), Errno> {
        let kernel = self.kernel();
        let all = crate::exec::all_cpus(kernel.possible_cpus());
        let bits = |i: usize| mask.get(i).copied().unwrap_or(0);
        let new: Vec<u8> = all.iter().enumerate().map(|(i, a)| a & bits(i)).collect();
        if !kernel.has_cpu_in(mask) {
            return Err(Errno::EINVAL);
        }
        if new != all {
            self.kernel().vdso().forget_cpus();
        }
        self.state.lock().affinity = new;
        Ok(())
    }

    /// A virtual CPU that it may be running on now (getcpu(2)).
    pub fn cpu(&self, host_cpu: u32) -> u32 {
        let cpus = self.kernel().cpus();
        let affinity = self.affinity();
        let allowed = |c: u32| {
            affinity
                .get(c as usize / 8)
                .is_some_and(|b| b & 1 << (c % 8) != 0)
        };
        let guess = host_cpu % cpus;
        if allowed(guess) {
            guess
        } else {
            (0..cpus).find(|c| allowed(*c)).unwrap_or(0)
        }
    }

    /// ioprio_get(2)
    pub fn io_priority(&self) -> i32 {
        self.state.lock().io_priority
    }

    /// ioprio_set(2)
    pub fn set_io_priority(&self, value: i32) {
        self.state.lock().io_priority = value;
    }
}

impl Kernel {
    /// Whether a task that may run on the virtual CPUs in `mask` may run anywhere.
    pub fn has_cpu_in(&self, mask: &[u8]) -> bool {
        let there = crate::exec::all_cpus(self.cpus());
        there.iter().zip(mask).any(|(t, m)| t & m != 0)
    }
}

impl Task {
    /// personality(2)
    pub fn personality(&self) -> u32 {
        self.state.lock().personality
    }
}

impl TaskCx {
    /// personality(2)
    pub fn personality(&self) -> u32 {
        self.task().personality()
    }

    /// Sets the personality; returns the former one.
    pub fn set_personality(&mut self, new: u32) -> u32 {
        std::mem::replace(&mut self.task().state.lock().personality, new)
    }

    /// prctl(PR_GET_PDEATHSIG)
    pub fn parent_death_signal(&self) -> i32 {
        self.task().state.lock().parent_death_signal
    }

    /// prctl(PR_SET_PDEATHSIG): 0 for none.
    ///
    /// # Errors
    /// `EINVAL` for what is no signal.
    pub fn set_parent_death_signal(&mut self, signal: i32) -> Result<(), Errno> {
        if !(0..=signal::Signal::MAX).contains(&signal) {
            return Err(Errno::EINVAL);
        }
        self.task().state.lock().parent_death_signal = signal;
        Ok(())
    }

    /// prctl(PR_GET_TIMERSLACK), in nanoseconds.
    pub fn timer_slack(&self) -> u64 {
        self.task().state.lock().timer_slack
    }

    /// prctl(PR_SET_TIMERSLACK): 0 is the default.
    pub fn set_timer_slack(&mut self, ns: u64) {
        let mut st = self.task().state.lock();
        st.timer_slack = if ns == 0 { st.default_slack } else { ns };
    }

    /// How many tasks have been made so far (/proc/stat).
    pub fn forks_total() -> u64 {
        crate::group::FORKS.load(Ordering::Relaxed)
    }
}
