//! What a switch costs, beside the bare loop of `KVM_RUN` and a port write that it stands on.
//!
//! `cargo run --release -p platform-kvm --example kvm_round_trip -- [THREADS] [ROUNDS]`

use platform_api::conformance::guest::{Guest, SYSCALL};
use platform_api::{Platform, Probe};
use platform_kvm::Kvm;
use std::time::{Duration, Instant};

fn main() {
    let mut args = std::env::args().skip(1);
    let mut number = |otherwise| {
        args.next()
            .and_then(|a| a.parse().ok())
            .unwrap_or(otherwise)
    };
    let (threads, rounds) = (number(1), number(20_000));
    let Probe::Ready { round_trip: before } = Kvm.probe(None) else {
        eprintln!("{:?}", Kvm.probe(None));
        return;
    };
    let device = Kvm.open_device(None).expect("the probe opened it");
    let engine = Kvm.boot(device).expect("the probe booted it");
    let mut all: Vec<Duration> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    // syscall; jmp
                    let code = [SYSCALL[0], SYSCALL[1], 0xeb, 0xfc];
                    let mut guest = Guest::new(&engine, &code);
                    let times = (0..rounds).map(|_| {
                        let start = Instant::now();
                        guest.call();
                        start.elapsed()
                    });
                    let times: Vec<_> = times.collect();
                    guest.end();
                    times
                })
            })
            .collect();
        let joined = threads.into_iter().map(|t| t.join().expect("no panic"));
        joined.flatten().collect()
    });
    let Probe::Ready { round_trip: after } = Kvm.probe(None) else {
        return;
    };
    let bare = before.min(after);
    all.sort_unstable();
    let at = |percent: usize| all[all.len() * percent / 100];
    println!(
        "bare {bare:.1?}; a switch {:.1?} at best, {:.1?} at the tenth percentile, {:.1?} median; \
         best to best {:.2}",
        all[0],
        at(10),
        at(50),
        all[0].as_secs_f64() / bare.as_secs_f64()
    );
}
