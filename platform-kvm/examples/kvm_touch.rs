//! What guest code pays for memory on KVM, without a sentry: a first store to each page with the
//! mapping, stores to pages in order and loads at random, for pages mapped small and large; and the
//! same with the host's pages made ahead of it.
//!
//! `cargo run --release -p platform-kvm --example kvm_touch`

use platform_api::conformance::guest::{CODE, Guest, Memory, PAGE, RW, map};
use platform_api::{Engine, Platform, Registers};
use std::sync::Arc;

/// `mov [rdi], rbx; add rdi, 4096; cmp rdi, rsi; jb; syscall`
const STORES: [u8; 17] = [
    0x48, 0x89, 0x1f, 0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, 0x48, 0x39, 0xf7, 0x72, 0xf1, 0x0f,
    0x05,
];
/// Loads at `rdi` + a pseudo-random number from `r8` on within `r9`, `r10` times, then `syscall`.
const LOADS: [u8; 50] = [
    0x4c, 0x89, 0xc0, 0x48, 0xc1, 0xe0, 0x0d, 0x49, 0x31, 0xc0, // r8 ^= r8 << 13
    0x4c, 0x89, 0xc0, 0x48, 0xc1, 0xe8, 0x07, 0x49, 0x31, 0xc0, // r8 ^= r8 >> 7
    0x4c, 0x89, 0xc0, 0x48, 0xc1, 0xe0, 0x11, 0x49, 0x31, 0xc0, // r8 ^= r8 << 17
    0x4c, 0x89, 0xc0, 0x4c, 0x21, 0xc8, // rax = r8 & r9
    0x48, 0x03, 0x1c, 0x07, // rbx += [rdi + rax]
    0x49, 0x01, 0xd8, // r8 += rbx, which is 0: no load before the last one
    0x49, 0xff, 0xca, // dec r10
    0x75, 0xd0, // jnz
    0x0f, 0x05, // syscall
];
const LEN: u64 = 256 << 20;
const LARGE: u64 = 2 << 20;
const AT: u64 = 1 << 32;
const ACCESSES: u64 = 4_000_000;

/// CPU time of this thread, in nanoseconds: what else runs on the machine is to matter little.
fn spent() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("it is there");
    let first = text.split(' ').next().expect("a word");
    first.parse().expect("a number")
}

fn run(guest: &mut Guest, regs: Registers) -> f64 {
    guest.regs = Registers { rip: CODE, ..regs };
    let start = spent();
    guest.call();
    spent() - start
}

fn measure(engine: &Arc<dyn Engine>, shift: u64, ahead: bool) -> [f64; 3] {
    let memory = Memory::new(LEN + 2 * LARGE);
    let mut guest = Guest::new(engine, &STORES);
    let op = map(AT, LEN, memory.at(shift), RW);
    let start = spent();
    guest.space.apply(&[op]).expect("a mapping");
    if ahead {
        guest.space.populate(AT, LEN);
    }
    let mapped = spent() - start;
    let stores = Registers {
        rdi: AT,
        rsi: AT + LEN,
        ..Registers::user()
    };
    let pages = (LEN / PAGE) as f64;
    let first = (mapped + run(&mut guest, stores)) / pages;
    let second = run(&mut guest, stores) / pages;
    guest.load(&LOADS);
    let loads = Registers {
        rdi: AT,
        r8: 88_172_645_463_325_252,
        r9: (LEN - 1) & !7,
        r10: ACCESSES,
        ..Registers::user()
    };
    let random = run(&mut guest, loads) / ACCESSES as f64;
    guest.end();
    [first, second, random]
}

fn main() {
    let kvm = platform_kvm::Kvm;
    let device = kvm.open_device(None).expect("a device");
    let engine = kvm.boot(device).expect("a machine");
    println!(
        "{:<24}{:>10}{:>10}{:>10}",
        "ns", "first", "second", "random"
    );
    for _ in 0..2 {
        for (name, shift, ahead) in [
            ("small", PAGE, false),
            ("large", 0, false),
            ("small, made ahead", PAGE, true),
            ("large, made ahead", 0, true),
        ] {
            let [first, second, random] = measure(&engine, shift, ahead);
            println!("{name:<24}{first:>10.0}{second:>10.1}{random:>10.1}");
        }
    }
}
