//! Guests that mean harm, many rounds of them: random registers, random instructions, code that
//! changes itself, jumps into the platform's own page, stores to where its tables are.
//!
//! `RINGFENCE_HOSTILE_ROUNDS` says how many rounds (a million is the measure of a release);
//! `RINGFENCE_HOSTILE_SEED` makes another run of them.

use platform_api::conformance::guest::{CODE, DATA, Guest, LEN, Memory, Random, map};
use platform_api::conformance::skip;
use platform_api::{Engine, Exit, Platform, Probe, Protection, Registers};
use platform_kvm::Kvm;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const ROUNDS: u64 = 3000;
/// The platform's own page, which guests can run, and its arena behind it.
const ENTRY: u64 = 0xffff_ff00_0000_0000;
const ARENA: u64 = ENTRY + (1 << 30);

fn number(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => otherwise,
    }
}

/// A guest of another container, with secrets in registers, vectors and memory.
struct Neighbour {
    guest: Guest,
    secret: u64,
    calls: u64,
}

impl Neighbour {
    fn new(engine: &Arc<dyn Engine>, secret: u64) -> Neighbour {
        // movq xmm7, r12; inc rbx; syscall; jmp
        let code = [
            0x66, 0x49, 0x0f, 0x6e, 0xfc, 0x48, 0xff, 0xc3, 0x0f, 0x05, 0xeb, 0xf4,
        ];
        let mut guest = Guest::new(engine, &code);
        let secrets: Vec<u8> = (0..512).flat_map(|_| secret.to_le_bytes()).collect();
        guest.memory.write(LEN, &secrets);
        for register in [
            &mut guest.regs.r12,
            &mut guest.regs.r13,
            &mut guest.regs.r14,
            &mut guest.regs.r15,
            &mut guest.regs.rbp,
            &mut guest.regs.rdx,
        ] {
            *register = secret;
        }
        Neighbour {
            guest,
            secret,
            calls: 0,
        }
    }

    fn check(&mut self) {
        self.guest.call();
        self.calls += 1;
        let r = self.guest.regs;
        assert_eq!(
            (r.rbx, r.r12, r.rbp),
            (self.calls, self.secret, self.secret)
        );
        assert_eq!(self.guest.memory.word(LEN + 8), self.secret);
        let mut state = Vec::new();
        self.guest
            .context
            .extended_state(&mut state)
            .expect("a state");
        assert_eq!(state[272..280], self.secret.to_le_bytes(), "xmm7");
    }
}

/// Values that matter to a CPU or to the platform.
fn odd(random: &mut Random) -> u64 {
    let odd = [
        0,
        1,
        0x33,
        CODE,
        CODE + 0x1000,
        DATA,
        DATA + LEN - 4,
        0x7fff_ffff_f000,
        0x8000_0000_0000,
        0xffff_8000_0000_0000,
        0xffff_ffff_ff60_0000,
        ENTRY,
        ENTRY + 0x80,
        DATA + LEN / 2,
        DATA + LEN - 512,
        // Where `syscall` of a mode that there is none of goes.
        0x40,
        ARENA,
        ARENA + random.word() % (2 << 20),
        // Physical addresses of the arena and of backing memory.
        0x20_0000 + random.word() % (2 << 20),
        4 << 30,
        u64::MAX,
    ];
    match random.word() % 3 {
        0 => random.word(),
        _ => odd[random.word() as usize % odd.len()],
    }
}

fn registers(random: &mut Random) -> Registers {
    let mut r = || odd(random);
    Registers {
        r15: r(),
        r14: r(),
        r13: r(),
        r12: r(),
        rbp: r(),
        rbx: r(),
        r11: r(),
        r10: r(),
        r9: r(),
        r8: r(),
        rax: r(),
        rcx: r(),
        rdx: r(),
        rsi: r(),
        rdi: r(),
        orig_rax: r(),
        rip: CODE,
        cs: 0x33,
        eflags: r(),
        rsp: r(),
        ss: 0x2b,
        fs_base: r(),
        gs_base: r(),
        ds: r(),
        es: r(),
        fs: r(),
        gs: r(),
    }
}

/// Instructions that reach for what is not the guest's.
const REACHING: [&[u8]; 38] = [
    &[0x0f, 0x05],                   // syscall
    &[0x0f, 0x34],                   // sysenter
    &[0x0f, 0x07],                   // sysret
    &[0x48, 0x0f, 0x07],             // sysretq
    &[0x48, 0xcf],                   // iretq
    &[0xcf],                         // iret
    &[0xcb],                         // retf
    &[0xcd, 0x80],                   // int 0x80
    &[0xcd, 0x0e],                   // int 14
    &[0xe6, 0xc0],                   // out to the platform's ports
    &[0xe6, 0xc1],                   //
    &[0xe4, 0xc0],                   // in
    &[0xf3, 0x6e],                   // rep outsb
    &[0x0f, 0x22, 0xd8],             // mov cr3, rax
    &[0x0f, 0x23, 0xf8],             // mov dr7, rax
    &[0x0f, 0x30],                   // wrmsr
    &[0x0f, 0x01, 0xc1],             // vmcall
    &[0x0f, 0x01, 0xd9],             // vmmcall
    &[0x48, 0x89, 0x07],             // mov [rdi], rax
    &[0xf0, 0x48, 0x0f, 0xb1, 0x0e], // lock cmpxchg [rsi], rcx
    &[0xf3, 0x48, 0xab],             // rep stosq
    &[0xf3, 0x48, 0xa5],             // rep movsq
    &[0x48, 0x0f, 0xae, 0x07],       // fxsave64 [rdi]
    &[0x48, 0x0f, 0xae, 0x0f],       // fxrstor64 [rdi]
    &[0xff, 0x2f],                   // jmp far [rdi]
    &[0xff, 0xe6],                   // jmp rsi
    &[0x0f, 0x01, 0x17],             // lgdt [rdi]
    &[0x0f, 0x01, 0x07],             // sgdt [rdi]
    &[0x0f, 0x01, 0xf8],             // swapgs
    &[0x0f, 0x01, 0xd1],             // xsetbv
    &[0x0f, 0x01, 0xef],             // wrpkru
    &[0x0f, 0x33],                   // rdpmc
    &[0x0f, 0xa2],                   // cpuid
    &[0xf3, 0x48, 0x0f, 0xae, 0xd0], // wrfsbase rax
    &[0x8e, 0xd0, 0xcc],             // mov ss, ax; int3
    &[0x9d],                         // popfq
    &[0xf1],                         // int1
    &[0x0f, 0x01, 0xda],             // vmload
];

fn program(random: &mut Random) -> Vec<u8> {
    let mut code = Vec::new();
    while code.len() < 64 {
        match random.word() % 4 {
            0 => code.extend(random.word().to_le_bytes()),
            // mov word [rip + n], x: what comes next is not what was there.
            1 => {
                let n = random.word() % 32;
                code.extend([0x66, 0xc7, 0x05, n as u8, 0, 0, 0]);
                code.extend(&random.word().to_le_bytes()[..2]);
            }
            _ => code.extend(REACHING[random.word() as usize % REACHING.len()]),
        }
    }
    code
}

#[test]
fn hostile_guests_harm_nobody_and_learn_nothing() {
    if let Probe::Unavailable { reason, remedy } = Kvm.probe(None) {
        skip(&format!("platform kvm: {reason}; {remedy}"));
        return;
    }
    let device = Kvm.open_device(None).expect("the probe opened it");
    let engine = Kvm.boot(device).expect("the probe booted it");
    let rounds = number("RINGFENCE_HOSTILE_ROUNDS", ROUNDS);
    let mut random = Random::new(number("RINGFENCE_HOSTILE_SEED", 31) | 1);
    let secret = random.word() | 1 << 63;
    let mut neighbour = Neighbour::new(&engine, secret);
    let mut guest = hostile(&engine);
    let interrupter = guest.context.interrupter();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(3));
                interrupter.interrupt();
            }
        });
        let _end = Defer(&over);
        for round in 0..rounds {
            guest.memory.write(0, &program(&mut random));
            guest.regs = registers(&mut random);
            match round % 6 {
                0 | 3 => guest.regs.rip = ENTRY + random.word() % 4096,
                1 => guest.regs.rip = odd(&mut random),
                // Where far returns and pushes go.
                2 => guest.regs.rsp = DATA + random.word() % LEN,
                _ => {}
            }
            if round % 8 == 0 {
                frame(&guest, &mut random);
            }
            for _ in 0..3 {
                let exit = guest.run();
                assert!(!matches!(exit, Exit::MapFailed { .. }), "{exit:?}");
                keeps_secret(&mut guest, secret, round % 64 == 0);
                if exit == Exit::Interrupted {
                    break;
                }
            }
            if round % 16 == 0 {
                neighbour.check();
            }
            if round % 256 == 255 {
                // Its tables go and others come, of the same pages.
                std::mem::replace(&mut guest.space, space(&engine, &guest.memory)).destroy();
            }
        }
    });
    neighbour.check();
    neighbour.guest.end();
    guest.end();
}

/// Fills the guest's stack with what far returns take: selectors of ours, of the guest and of
/// nobody.
fn frame(guest: &Guest, random: &mut Random) {
    let selectors = [0, 0x10, 0x18, 0x23, 0x2b, 0x33, 0x40, 0x43, 0xfff8];
    let words = (0..64).map(|_| match random.word() % 3 {
        0 => selectors[random.word() as usize % selectors.len()],
        _ => odd(random),
    });
    let bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    guest.memory.write(LEN + LEN / 2, &bytes);
    guest.memory.write(2 * LEN - 512, &bytes);
}

fn hostile(engine: &Arc<dyn Engine>) -> Guest {
    let memory = Memory::new(3 * LEN);
    let space = space(engine, &memory);
    Guest::within(engine, memory, space)
}

fn space(engine: &Arc<dyn Engine>, memory: &Memory) -> Arc<dyn platform_api::AddressSpace> {
    let space = engine.new_space().expect("a space");
    space
        .apply(&[
            map(CODE, LEN, memory.at(0), Protection::all()),
            map(DATA, LEN, memory.at(LEN), Protection::all()),
        ])
        .expect("mappings");
    space
}

fn keeps_secret(guest: &mut Guest, secret: u64, also_state: bool) {
    let r = guest.regs;
    let all = [
        r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8, r.r9, r.r10, r.r11, r.r12,
        r.r13, r.r14, r.r15, r.fs_base, r.gs_base, r.rip,
    ];
    assert!(!all.contains(&secret), "{r:x?}");
    if also_state {
        let mut state = Vec::new();
        guest.context.extended_state(&mut state).expect("a state");
        let found = state.windows(8).any(|w| w == secret.to_le_bytes());
        assert!(!found, "another guest's vector register");
    }
}

struct Defer<'a>(&'a AtomicBool);

impl Drop for Defer<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
