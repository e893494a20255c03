//! Two that talk to each other: by futexes, and over Unix sockets.

use crate::measures::{echo, ping};
use crate::sys::{self, Futex};
use crate::timing::best;
use std::time::Duration;

/// Whose turn it is, or that it is over.
const OURS: u32 = 0;
const THEIRS: u32 = 1;
const OVER: u32 = 2;
/// Bytes of a large message.
const LARGE: usize = 64 << 10;

/// The turn there and back between two threads.
pub(crate) fn futex_threads(budget: Duration) -> f64 {
    let turn = Futex::private();
    std::thread::scope(|scope| {
        scope.spawn(|| answer(&turn));
        ask(budget, &turn)
    })
}

/// The same between two processes.
pub(crate) fn futex_processes(budget: Duration) -> f64 {
    let turn = Futex::shared();
    let child = sys::fork(|| answer(&turn));
    let took = ask(budget, &turn);
    sys::reap(child);
    took
}

fn ask(budget: Duration, turn: &Futex) -> f64 {
    let took = best(budget, || {
        turn.set(THEIRS);
        turn.wait_while(THEIRS);
    });
    turn.set(OVER);
    took
}

fn answer(turn: &Futex) {
    turn.wait_while(OURS);
    while turn.get() != OVER {
        turn.set(OURS);
        turn.wait_while(OURS);
    }
}

/// A byte there and back between two processes.
pub(crate) fn unix(budget: Duration) -> f64 {
    let (ours, theirs) = sys::socketpair();
    let child = sys::fork(|| {
        sys::close(ours);
        echo(theirs, theirs);
    });
    sys::close(theirs);
    let took = ping(budget, ours, ours);
    sys::close(ours);
    sys::reap(child);
    took
}

/// A large message to another process.
pub(crate) fn unix_throughput(budget: Duration) -> f64 {
    let (ours, theirs) = sys::socketpair();
    let child = sys::fork(|| {
        sys::close(ours);
        let mut bytes = vec![0; LARGE];
        while sys::try_read(theirs, &mut bytes) > 0 {}
    });
    sys::close(theirs);
    let message = vec![1; LARGE];
    let took = best(budget, || sys::write(ours, &message));
    sys::close(ours);
    sys::reap(child);
    took
}
