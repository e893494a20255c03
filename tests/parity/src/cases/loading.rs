//! Programs made byte by byte, with headers that lie.

use crate::out::Out;
use crate::sys::child;
use crate::util::{in_child, mk, wait_text};
use crate::{cases, k, say, sys, tell};
use libc::*;
use std::ffi::CStr;

cases!(
    smallest_program,
    segment_addresses,
    segment_sizes,
    segment_offsets,
    segment_permissions,
    segments_overlap,
    segments_out_of_order,
    no_segments,
    entry_points,
    interpreter_names,
    interpreter_kinds,
    interpreter_of_interpreter,
    interpreter_twice,
    stack_permissions,
    zeros_behind_data,
    shared_object_alone,
    late_failure_ends_threads,
    failed_load_keeps_program,
);

/// Where the smallest program lies.
const BASE: u64 = 0x40_0000;
/// Bytes of an ELF header and of a program header.
const EHDR: usize = 64;
const PHDR: usize = 56;

const X: u32 = 1;
const W: u32 = 2;
const R: u32 = 4;

#[derive(Clone, Copy)]
struct Segment {
    kind: u32,
    flags: u32,
    offset: u64,
    addr: u64,
    filesz: u64,
    memsz: u64,
    align: u64,
}

/// A loaded segment.
fn load(offset: u64, addr: u64, filesz: u64, memsz: u64, flags: u32) -> Segment {
    Segment {
        kind: PT_LOAD,
        flags,
        offset,
        addr,
        filesz,
        memsz,
        align: 4096,
    }
}

/// `exit(7)`.
const EXIT: [u8; 12] = [
    0xbf, 7, 0, 0, 0, // mov edi, 7
    0xb8, 60, 0, 0, 0, // mov eax, 60
    0x0f, 0x05, // syscall
];

/// A file of a page whose code is `code` at 0x800, with strings at 0xc00.
struct Elf {
    kind: u16,
    entry: u64,
    segments: Vec<Segment>,
    code: Vec<u8>,
    name: Vec<u8>,
    len: usize,
}

impl Elf {
    fn new(segments: &[Segment]) -> Elf {
        Elf {
            kind: 2,
            entry: BASE + 0x800,
            segments: segments.to_vec(),
            code: EXIT.to_vec(),
            name: Vec::new(),
            len: 4096,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut f = vec![0u8; self.len.max(4096)];
        let mut put = |at: usize, bytes: &[u8]| f[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"\x7fELF\x02\x01\x01");
        put(16, &self.kind.to_le_bytes());
        put(18, &62u16.to_le_bytes());
        put(20, &1u32.to_le_bytes());
        put(24, &self.entry.to_le_bytes());
        put(32, &(EHDR as u64).to_le_bytes());
        put(52, &(EHDR as u16).to_le_bytes());
        put(54, &(PHDR as u16).to_le_bytes());
        put(56, &(self.segments.len() as u16).to_le_bytes());
        for (n, s) in self.segments.iter().enumerate() {
            let at = EHDR + n * PHDR;
            put(at, &s.kind.to_le_bytes());
            put(at + 4, &s.flags.to_le_bytes());
            for (i, v) in [s.offset, s.addr, s.addr, s.filesz, s.memsz, s.align]
                .iter()
                .enumerate()
            {
                put(at + 8 + i * 8, &v.to_le_bytes());
            }
        }
        put(0x800, &self.code);
        put(0xc00, &self.name);
        f.truncate(self.len);
        f
    }

    fn write(&self, path: &CStr) {
        mk(path, &self.bytes());
        k!(SYS_chmod, path, 0o755);
    }

    /// How it ends; an error of execve(2) is an exit with its number.
    fn run(&self) -> String {
        self.write(c"e");
        run(c"e")
    }
}

fn run(path: &CStr) -> String {
    let argv = [path.as_ptr(), std::ptr::null()];
    wait_text(child(|| {
        let e = k!(SYS_execve, path, &argv, 0);
        100 + (-e.0) as i32
    }))
}

fn whole() -> Segment {
    load(0, BASE, 4096, 4096, R | X)
}

fn smallest_program(o: Out) {
    tell!(o, "runs" => Elf::new(&[whole()]).run());
    let mut relative = Elf::new(&[load(0, 0, 4096, 4096, R | X)]);
    relative.kind = 3;
    relative.entry = 0x800;
    tell!(o, "relative" => relative.run());
    for kind in [0u16, 1, 4, 0xffff] {
        let mut e = Elf::new(&[whole()]);
        e.kind = kind;
        say!(o, "type {kind}: {}", e.run());
    }
    for len in [EHDR + PHDR - 1, EHDR + PHDR, 0x800, 0x80b] {
        let mut e = Elf::new(&[whole()]);
        e.len = len;
        say!(o, "cut to {len}: {}", e.run());
    }
}

fn segment_addresses(o: Out) {
    // Lower ones hang on vm.mmap_min_addr and a capability, and right below the last page
    // lies, now and then, the stack.
    for addr in [
        0x7fff_ffff_f000,
        0x8000_0000_0000,
        0xffff_8000_0000_0000,
        !0xfff,
    ] {
        say!(
            o,
            "{addr:#x}: {}",
            Elf::new(&[whole(), load(0, addr, 4096, 4096, R)]).run()
        );
    }
}

fn segment_sizes(o: Out) {
    let with = |filesz, memsz| Elf::new(&[whole(), load(0, 0x60_0000, filesz, memsz, R | W)]).run();
    tell!(o, "file more than memory" => with(4096, 100), "nothing" => with(0, 0), "no file" => with(0, 4096), "beyond file" => with(8192, 8192), "huge memory" => with(4096, 1 << 46), "wraps" => with(4096, u64::MAX - 4095), "huge file" => with(1 << 46, 1 << 46), "file wraps" => with(u64::MAX - 10, u64::MAX - 10));
}

fn segment_offsets(o: Out) {
    let with = |offset, addr| Elf::new(&[whole(), load(offset, addr, 16, 16, R)]).run();
    tell!(o, "odd both" => with(0x123, 0x60_0123), "odd offset" => with(0x123, 0x60_0000), "odd address" => with(0, 0x60_0123), "beyond end" => with(0x10_0000, 0x60_0000), "negative" => with(!0xfff, 0x60_0000), "largest" => with(i64::MAX as u64 & !0xfff, 0x60_0000));
}

fn segment_permissions(o: Out) {
    for flags in 0..8u32 {
        say!(
            o,
            "code with {flags}: {}",
            Elf::new(&[load(0, BASE, 4096, 4096, flags)]).run()
        );
    }
}

fn segments_overlap(o: Out) {
    let mut e = Elf::new(&[whole(), load(0, BASE, 4096, 4096, R)]);
    tell!(o, "the same place" => e.run());
    e.segments = vec![load(0, BASE, 4096, 4096, R), whole()];
    tell!(o, "turned around" => e.run());
    e.segments = vec![whole(), load(0x900, BASE + 0x900, 100, 0x4000, R | W | X)];
    tell!(o, "the same page" => e.run());
}

fn segments_out_of_order(o: Out) {
    let high = load(0, 0x80_0000, 4096, 4096, R);
    tell!(o, "low after high" => Elf::new(&[high, whole()]).run());
    let mut e = Elf::new(&[
        load(0, 0x10_0000, 4096, 4096, R),
        load(0, 0, 4096, 4096, R | X),
    ]);
    e.kind = 3;
    e.entry = 0x800;
    tell!(o, "relative" => e.run());
}

fn no_segments(o: Out) {
    let other = Segment {
        kind: PT_NOTE,
        ..whole()
    };
    tell!(o, "none loaded" => Elf::new(&[other]).run(), "none at all" => Elf::new(&[]).run());
}

fn entry_points(o: Out) {
    for entry in [0, BASE, 0x50_0000, 0x8000_0000_0000, u64::MAX] {
        let mut e = Elf::new(&[whole()]);
        e.entry = entry;
        say!(o, "{entry:#x}: {}", e.run());
    }
}

fn with_interpreter(name: &[u8], len: u64) -> Elf {
    let interp = Segment {
        kind: PT_INTERP,
        flags: R,
        offset: 0xc00,
        addr: BASE + 0xc00,
        filesz: len,
        memsz: len,
        align: 1,
    };
    let mut e = Elf::new(&[interp, whole()]);
    e.name = name.to_vec();
    e
}

fn interpreter_names(o: Out) {
    let by = |name: &[u8]| with_interpreter(name, name.len() as u64).run();
    tell!(o, "missing" => by(b"/none/such\0"), "no end" => by(b"/probes"), "empty" => by(b"\0"), "one byte" => by(b"x"), "none" => with_interpreter(b"", 0).run(), "relative" => by(b"nothing\0"), "directory" => by(b"/dev\0"), "device" => by(b"/dev/null\0"), "too long" => with_interpreter(b"/x\0", 5000).run(), "huge" => with_interpreter(b"/x\0", 1 << 40).run(), "two strings" => by(b"/none\0/probes\0"));
}

fn interpreter_kinds(o: Out) {
    let by = |what: &[u8], mode: u32| {
        mk(c"interp", what);
        k!(SYS_chmod, c"interp", mode);
        with_interpreter(b"interp\0", 7).run()
    };
    let good = {
        let mut e = Elf::new(&[load(0, 0, 4096, 4096, R | X)]);
        e.kind = 3;
        e.entry = 0x800;
        e.code[1] = 9;
        e.bytes()
    };
    tell!(o, "a good one" => by(&good, 0o755), "not executable" => by(&good, 0o644), "empty" => by(b"", 0o755), "short" => by(&good[..50], 0o755), "no headers" => by(&good[..EHDR], 0o755), "cut" => by(&good[..0x700], 0o755), "text" => by(&[b'x'; 200], 0o755), "script" => by(b"#!/probes --child\n                                                            \n", 0o755));
    let mut fixed = Elf::new(&[load(0, 0x70_0000, 4096, 4096, R | X)]);
    fixed.entry = 0x70_0800;
    fixed.code[1] = 11;
    tell!(o, "fixed place" => by(&fixed.bytes(), 0o755));
    fixed.segments = vec![whole()];
    fixed.entry = BASE + 0x800;
    tell!(o, "the program's place" => by(&fixed.bytes(), 0o755));
    let mut machine = good.clone();
    machine[18] = 3;
    tell!(o, "another machine" => by(&machine, 0o755));
}

fn interpreter_of_interpreter(o: Out) {
    // An interpreter's own interpreter is not looked at.
    let mut inner = with_interpreter(b"/none/such\0", 11);
    inner.segments[1] = load(0, 0, 4096, 4096, R | X);
    inner.kind = 3;
    inner.entry = 0x800;
    inner.code[1] = 12;
    inner.write(c"interp");
    tell!(o, "ignored" => with_interpreter(b"interp\0", 7).run());
    with_interpreter(b"me\0", 3).write(c"me");
    tell!(o, "itself" => run(c"me"));
    let mut me = with_interpreter(b"pie\0", 4);
    me.segments[1] = load(0, 0, 4096, 4096, R | X);
    me.kind = 3;
    me.entry = 0x800;
    me.write(c"pie");
    tell!(o, "itself, movable" => run(c"pie"));
}

fn interpreter_twice(o: Out) {
    let mut e = with_interpreter(b"/none/such\0", 11);
    let mut second = e.segments[0];
    second.filesz = 1 << 40;
    e.segments.push(second);
    tell!(o, "the first counts" => e.run());
}

fn stack_permissions(o: Out) {
    // Jumps to the stack, where a return instruction has been pushed first.
    let code = [
        0x6a, 0xc3_u8, // push -61 (its lowest byte is `ret`)
        0xff, 0xd4, // call rsp: returns behind itself when the stack may be executed
    ];
    for flags in [None, Some(R | W), Some(R | W | X)] {
        let mut e = Elf::new(&[whole()]);
        if let Some(flags) = flags {
            e.segments.push(Segment {
                kind: PT_GNU_STACK,
                flags,
                ..load(0, 0, 0, 0, flags)
            });
        }
        e.code = [&code[..], &EXIT].concat();
        say!(o, "{flags:?}: {}", e.run());
    }
}

fn zeros_behind_data(o: Out) {
    // Exits with the byte that lies right behind the data of the second segment: the file has
    // 0xaa there.
    let code = [
        0x0f, 0xb6, 0x3c, 0x25, 0x10, 0, 0x60, 0, // movzx edi, byte [0x600010]
        0xb8, 60, 0, 0, 0, 0x0f, 0x05, // exit
    ];
    for (memsz, flags) in [(0x2000, R | W), (0x2000, R), (16, R | W), (0x20, R)] {
        let mut e = Elf::new(&[whole(), load(0, 0x60_0000, 16, memsz, flags)]);
        e.code = code.to_vec();
        say!(o, "{memsz:#x} {flags}: {}", e.run());
    }
}

fn shared_object_alone(o: Out) {
    let mut e = Elf::new(&[load(0, 0x1_0000, 4096, 4096, R | X)]);
    e.kind = 3;
    e.entry = 0x1_0800;
    tell!(o, "not from zero" => e.run());
    for align in [0, 1, 3, 0x1000, 0x20_0000, 1 << 40] {
        e.segments[0].align = align;
        say!(o, "alignment {align:#x}: {}", e.run());
    }
}

/// A program that is found to be none only when the old one has been given up.
fn doomed() -> Elf {
    Elf::new(&[load(0, 0x8000_0000_0000, 4096, 4096, R | X)])
}

fn late_failure_ends_threads(o: Out) {
    doomed().write(c"e");
    tell!(o, "alone" => run(c"e"));
    let kid = child(|| {
        std::thread::spawn(|| {
            loop {
                k!(SYS_pause);
            }
        });
        crate::util::sleep_ms(20);
        // Handlers, masks and ignored signals do not help.
        sys::on(SIGSEGV, 0);
        crate::util::mask(SIG_BLOCK, !0);
        let argv = [c"e".as_ptr(), std::ptr::null()];
        k!(SYS_execve, c"e", &argv, 0).int()
    });
    tell!(o, "with a thread and a handler" => wait_text(kid));
    let vforked = in_child(|| {
        extern "C" fn go(_: *mut c_void) -> i32 {
            let argv = [c"e".as_ptr(), std::ptr::null()];
            k!(SYS_execve, c"e", &argv, 0).int()
        }
        let pid = sys::vfork_like(CLONE_VM | CLONE_VFORK | SIGCHLD, go);
        i32::from(wait_text(pid).starts_with("killed by SIGSEGV"))
    });
    tell!(o, "after vfork the parent lives" => vforked);
}

fn failed_load_keeps_program(o: Out) {
    let argv = [c"e".as_ptr(), std::ptr::null()];
    let mut e = Elf::new(&[whole()]);
    e.kind = 1;
    e.write(c"e");
    sys::on(SIGUSR1, 0);
    k!(SYS_fcntl, 0, F_SETFD, FD_CLOEXEC);
    tell!(o, "error" => k!(SYS_execve, c"e", &argv, 0), "handler is there" => { k!(SYS_kill, k!(SYS_getpid), SIGUSR1); sys::count(SIGUSR1) }, "descriptor too" => k!(SYS_fcntl, 0, F_GETFD));
}
