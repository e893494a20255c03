//! The host primitives that a sandbox cannot beat: what its figures are held against.

use crate::kvm::Machine;
use crate::measures::{LARGE, Measure, TOUCHES, timed_touch};
use crate::sys::{Memfd, Traced};
use crate::timing::{best, best_of_own, best_shared};

/// All of them by name.
pub(crate) const ALL: &[(&str, Measure)] = &[
    ("ptrace_1", |budget| {
        let traced = Traced::on(0);
        best(budget, || traced.round_trip())
    }),
    ("ptrace_2", |_| ptrace(2)),
    ("ptrace_4", |_| ptrace(4)),
    ("kvm_1", |budget| {
        let mut machine = Machine::new();
        best(budget, || machine.round_trip())
    }),
    ("kvm_2", |_| kvm(2)),
    ("kvm_4", |_| kvm(4)),
    ("memfd_1", |_| memfd(1)),
    ("memfd_2", |_| memfd(2)),
    ("memfd_4", |_| memfd(4)),
];

/// A system call of a traced process under PTRACE_SYSEMU, registers fetched and set, tracer and
/// tracee on one CPU; `threads` such pairs at once, spread over the CPUs.
fn ptrace(threads: usize) -> f64 {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    best_shared(threads, |index| {
        let traced = Traced::on(index % cpus);
        move || traced.round_trip()
    })
}

/// A system call in a virtual machine, registers fetched and set; `threads` machines at once.
fn kvm(threads: usize) -> f64 {
    best_shared(threads, |_| {
        let mut machine = Machine::new();
        move || machine.round_trip()
    })
}

/// One page of a fresh shared mapping of a memory file.
fn memfd(threads: usize) -> f64 {
    let file = Memfd::new(LARGE * threads);
    best_of_own(threads, TOUCHES, |index| {
        let file = &file;
        move || {
            let took = timed_touch(&file.map(index * LARGE, LARGE));
            file.empty(index * LARGE, LARGE);
            took
        }
    })
}
