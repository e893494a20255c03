//! What a program asks of its kernel.

use crate::sys::{self, Mapping};
use crate::talk;
use crate::timing::{best, best_of_own, best_shared};
use std::ffi::CStr;
use std::time::{Duration, Instant};

/// A measure: nanoseconds of one operation, taking about so long to find out.
pub(crate) type Measure = fn(Duration) -> f64;

/// All of them by name.
pub(crate) const ALL: &[(&str, Measure)] = &[
    ("getppid_1", |budget| best(budget, sys::getppid)),
    ("getppid_2", |_| best_shared(2, |_| sys::getppid)),
    ("getppid_4", |_| best_shared(4, |_| sys::getppid)),
    ("clock_gettime", |budget| best(budget, sys::clock)),
    ("read", read),
    ("write", write),
    ("open", |budget| {
        best(budget, || sys::close(sys::open(FILE)))
    }),
    ("stat", |budget| best(budget, || sys::stat(FILE))),
    ("pipe_processes", pipe_processes),
    ("pipe_threads", pipe_threads),
    ("futex_processes", talk::futex_processes),
    ("futex_threads", talk::futex_threads),
    ("unix", talk::unix),
    ("unix_throughput", talk::unix_throughput),
    ("thread", |budget| {
        best(budget, || {
            std::thread::spawn(|| {}).join().expect("it does nothing");
        })
    }),
    ("create", |budget| best(budget, create)),
    ("fork", |budget| {
        best(budget, || sys::reap(sys::fork(|| {})))
    }),
    ("exec", |budget| {
        best(budget, || sys::reap(sys::fork(sys::exec_nothing)))
    }),
    ("mmap", |budget| best(budget, map_touch_unmap)),
    ("touch_1", |_| touch(1)),
    ("touch_2", |_| touch(2)),
    ("touch_4", |_| touch(4)),
    ("touch_plain", |_| advised_touch(libc::MADV_NORMAL)),
    ("touch_huge", |_| advised_touch(libc::MADV_HUGEPAGE)),
];

/// In the tree that the probe runs in, and in the directory it is natively run in.
const FILE: &CStr = c"data/file";
/// Beside it, there for a moment.
const NEW: &CStr = c"data/new";
/// Bytes of the large mapping that each thread touches.
pub(crate) const LARGE: usize = 32 << 20;
/// Bytes of the small one.
const SMALL: usize = 16 * sys::PAGE;
/// How often the large one is touched.
pub(crate) const TOUCHES: u32 = 6;

fn read(budget: Duration) -> f64 {
    let zero = sys::open(c"/dev/zero");
    let mut byte = [1];
    let took = best(budget, || sys::read(zero, &mut byte));
    sys::close(zero);
    took
}

fn write(budget: Duration) -> f64 {
    let null = sys::open(c"/dev/null");
    let took = best(budget, || sys::write(null, &[0]));
    sys::close(null);
    took
}

/// A small file, made, written and removed.
fn create() {
    let file = sys::create(NEW);
    sys::write(file, &[1; 100]);
    sys::close(file);
    sys::unlink(NEW);
}

/// There and back between two processes.
fn pipe_processes(budget: Duration) -> f64 {
    let (there, back) = (sys::pipe(), sys::pipe());
    let child = sys::fork(|| {
        sys::close(there.1);
        echo(there.0, back.1);
    });
    sys::close(there.0);
    let took = ping(budget, there.1, back.0);
    sys::close(there.1);
    sys::reap(child);
    for end in [back.0, back.1] {
        sys::close(end);
    }
    took
}

/// There and back between two threads.
fn pipe_threads(budget: Duration) -> f64 {
    let (there, back) = (sys::pipe(), sys::pipe());
    let took = std::thread::scope(|scope| {
        scope.spawn(|| echo(there.0, back.1));
        let took = ping(budget, there.1, back.0);
        sys::close(there.1);
        took
    });
    for end in [there.0, back.0, back.1] {
        sys::close(end);
    }
    took
}

pub(crate) fn ping(budget: Duration, to: i32, from: i32) -> f64 {
    let mut byte = [0];
    best(budget, || {
        sys::write(to, &byte);
        sys::read(from, &mut byte);
    })
}

/// Sends back each byte until the other end is closed.
pub(crate) fn echo(from: i32, to: i32) {
    let mut byte = [0];
    while sys::try_read(from, &mut byte) == 1 {
        sys::write(to, &byte);
    }
}

fn map_touch_unmap() {
    Mapping::anonymous(SMALL).touch();
}

/// One page of a large fresh mapping, in each of `threads` threads at once.
fn touch(threads: usize) -> f64 {
    best_of_own(threads, TOUCHES, |_| {
        || timed_touch(&Mapping::anonymous(LARGE))
    })
}

/// The same in one thread, with other advice.
fn advised_touch(advice: i32) -> f64 {
    best_of_own(1, TOUCHES, |_| {
        move || timed_touch(&Mapping::advised(LARGE, advice))
    })
}

/// Nanoseconds for each page.
pub(crate) fn timed_touch(mapping: &Mapping) -> f64 {
    let start = Instant::now();
    mapping.touch();
    start.elapsed().as_secs_f64() * 1e9 / (LARGE / sys::PAGE) as f64
}
