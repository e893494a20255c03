//! The probe's edge to the kernel: raw calls, guest memory, handlers.
//!
//! Every case goes through here, so that no case needs `unsafe` of its own and
//! no library stands between the case and the kernel whose answer it prints.
// UNSAFETY: raw system calls and deliberate faults are what a probe is for. The
// functions here are not sound for arbitrary arguments; their callers are test
// cases that live in short-lived processes of their own.
#![expect(
    unsafe_code,
    reason = "a probe makes raw system calls and provokes faults on purpose"
)]

use std::arch::asm;
use std::ffi::CStr;
use std::fmt;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, AtomicUsize, Ordering::SeqCst};

/// What the kernel returned: a value, or an errno negated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct R(pub i64);

impl R {
    /// Whether the call succeeded.
    pub fn ok(self) -> bool {
        !(-4095..0).contains(&self.0)
    }
    /// The value as a descriptor or other small number.
    pub fn int(self) -> i32 {
        self.0 as i32
    }
    /// The value as an address or a size.
    pub fn addr(self) -> usize {
        self.0 as usize
    }
    /// `ok`, or the error's name: for values that differ between runs.
    pub fn yes(self) -> String {
        if self.ok() {
            "ok".into()
        } else {
            self.to_string()
        }
    }
}

impl fmt::Display for R {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ok() {
            write!(f, "{}", self.0)
        } else {
            write!(f, "-{:?}", nix::errno::Errno::from_raw(-self.0 as i32))
        }
    }
}

/// What may stand in a system call's argument register.
pub trait Arg {
    /// The register's value.
    fn arg(self) -> usize;
}

macro_rules! int_args {
    ($($t:ty)*) => { $(impl Arg for $t { fn arg(self) -> usize { self as usize } })* };
}
int_args!(i32 i64 u32 u64 usize isize);

impl Arg for R {
    fn arg(self) -> usize {
        self.0 as usize
    }
}
impl Arg for &CStr {
    fn arg(self) -> usize {
        self.as_ptr() as usize
    }
}
impl Arg for &[u8] {
    fn arg(self) -> usize {
        self.as_ptr() as usize
    }
}
impl Arg for &mut [u8] {
    fn arg(self) -> usize {
        self.as_mut_ptr() as usize
    }
}
impl<T> Arg for &T {
    fn arg(self) -> usize {
        std::ptr::from_ref(self) as usize
    }
}
impl<T> Arg for &mut T {
    fn arg(self) -> usize {
        std::ptr::from_mut(self) as usize
    }
}
impl<T> Arg for *const T {
    fn arg(self) -> usize {
        self as usize
    }
}
impl<T> Arg for *mut T {
    fn arg(self) -> usize {
        self as usize
    }
}

/// Makes system call `nr` with up to six arguments.
pub fn call(nr: i64, args: &[usize]) -> R {
    let mut a = [0usize; 6];
    a[..args.len()].copy_from_slice(args);
    let ret: i64;
    // SAFETY: see the head of the module.
    unsafe {
        asm!("syscall", inlateout("rax") nr => ret,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _);
    }
    R(ret)
}

/// `k!(SYS_read, fd, &mut buf, 4)`: a raw system call.
#[macro_export]
macro_rules! k {
    ($nr:ident $(, $a:expr)* $(,)?) => {
        $crate::sys::call(libc::$nr, &[$($crate::sys::Arg::arg($a)),*])
    };
}

/// An all-zero C structure.
pub fn zeroed<T: Copy>() -> T {
    // SAFETY: used with plain C structures, for which zero is a value.
    unsafe { std::mem::zeroed() }
}

/// Reads a byte of memory, which may fault.
pub fn peek(addr: usize) -> u8 {
    // SAFETY: see the head of the module.
    unsafe { (addr as *const u8).read_volatile() }
}

/// Writes a byte of memory, which may fault.
pub fn poke(addr: usize, value: u8) {
    // SAFETY: see the head of the module.
    unsafe { (addr as *mut u8).write_volatile(value) }
}

/// A 32-bit word of memory as an atomic, for futexes in shared mappings.
pub fn word(addr: usize) -> &'static std::sync::atomic::AtomicU32 {
    // SAFETY: see the head of the module; the mapping outlives its users.
    unsafe { std::sync::atomic::AtomicU32::from_ptr(addr as *mut u32) }
}

/// Copies bytes into memory.
pub fn put(addr: usize, bytes: &[u8]) {
    for (i, b) in bytes.iter().enumerate() {
        poke(addr + i, *b);
    }
}

/// Copies `len` bytes out of memory.
pub fn get(addr: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| peek(addr + i)).collect()
}

/// Calls machine code at `addr` that returns a number.
pub fn jump(addr: usize) -> i64 {
    // SAFETY: see the head of the module.
    let f: extern "C" fn() -> i64 = unsafe { std::mem::transmute(addr) };
    f()
}

/// Forks; the child runs `f` and exits with its value.
pub fn child(f: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the probe is single-threaded when it forks.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let code = f();
        k!(SYS_exit_group, code);
    }
    pid
}

/// Runs `f` in a child that shares memory and suspends the caller, as vfork does.
pub fn vfork_like(flags: i32, f: extern "C" fn(*mut libc::c_void) -> i32) -> i32 {
    let mut stack = vec![0u8; 128 * 1024];
    let top = (stack.as_mut_ptr() as usize + stack.len()) & !15;
    // SAFETY: with CLONE_VFORK the stack is in use only until the call returns.
    unsafe { libc::clone(f, top as *mut libc::c_void, flags, std::ptr::null_mut()) }
}

/// What the general handler saw for one signal.
pub struct Seen {
    /// Deliveries.
    pub count: AtomicI32,
    /// `si_code` of the last one.
    pub code: AtomicI32,
    /// `si_pid` of the last one.
    pub pid: AtomicI32,
    /// `si_status` of the last one.
    pub status: AtomicI32,
    /// `si_value` of the last one.
    pub value: AtomicI64,
    /// `si_addr` of the last one.
    pub addr: AtomicUsize,
    /// `si_errno` of the last one.
    pub errno: AtomicI32,
    /// `rax` where the last one came.
    pub result: AtomicI64,
    /// The page fault error code's write bit and instruction bit.
    pub err: AtomicU64,
    /// The signals that were blocked inside the handler.
    pub mask: AtomicU64,
    /// An address on the stack that the handler ran on.
    pub stack: AtomicUsize,
}

impl Seen {
    const fn new() -> Self {
        Self {
            count: AtomicI32::new(0),
            code: AtomicI32::new(0),
            pid: AtomicI32::new(0),
            status: AtomicI32::new(0),
            value: AtomicI64::new(0),
            addr: AtomicUsize::new(0),
            errno: AtomicI32::new(0),
            result: AtomicI64::new(0),
            err: AtomicU64::new(0),
            mask: AtomicU64::new(0),
            stack: AtomicUsize::new(0),
        }
    }
}
static SEEN: [Seen; 65] = [const { Seen::new() }; 65];
static ORDER: [AtomicI32; 64] = [const { AtomicI32::new(0) }; 64];
static ORDER_LEN: AtomicUsize = AtomicUsize::new(0);
static RECOVER: AtomicUsize = AtomicUsize::new(0);

/// What the handler saw for `signal`.
pub fn seen(signal: i32) -> &'static Seen {
    &SEEN[signal as usize]
}

/// How often `signal` was handled.
pub fn count(signal: i32) -> i32 {
    seen(signal).count.load(SeqCst)
}

/// The handled signals in order, with `si_value` beside each.
pub fn order() -> Vec<i32> {
    let n = ORDER_LEN.load(SeqCst).min(64);
    ORDER[..n].iter().map(|a| a.load(SeqCst)).collect()
}

/// Adds to the order that [`order`] tells.
pub fn log(value: i32) {
    let at = ORDER_LEN.fetch_add(1, SeqCst);
    if let Some(slot) = ORDER.get(at) {
        slot.store(value, SeqCst);
    }
}

extern "C" fn note(sig: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let here = 0u8;
    let s = seen(sig);
    // SAFETY: the kernel passes both pointers to a SA_SIGINFO handler.
    let (info, context) = unsafe { (&*info, &mut *context.cast::<libc::ucontext_t>()) };
    s.count.fetch_add(1, SeqCst);
    s.code.store(info.si_code, SeqCst);
    s.errno.store(info.si_errno, SeqCst);
    // SAFETY: reads of union fields whose bytes are always there.
    unsafe {
        s.pid.store(info.si_pid(), SeqCst);
        s.status.store(info.si_status(), SeqCst);
        s.value.store(info.si_value().sival_ptr as i64, SeqCst);
        s.addr.store(info.si_addr() as usize, SeqCst);
    }
    let gregs = &mut context.uc_mcontext.gregs;
    s.result.store(gregs[libc::REG_RAX as usize], SeqCst);
    s.err.store(gregs[libc::REG_ERR as usize] as u64, SeqCst);
    s.stack.store(std::ptr::from_ref(&here) as usize, SeqCst);
    let mut mask = 0u64;
    k!(SYS_rt_sigprocmask, 0, 0, &mut mask, 8);
    s.mask.store(mask, SeqCst);
    let value = if sig >= 32 {
        sig * 100 + s.value.load(SeqCst) as i32
    } else {
        sig
    };
    log(value);
    if matches!(
        sig,
        libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL
    ) {
        let to = RECOVER.swap(0, SeqCst);
        if to != 0 {
            gregs[libc::REG_RIP as usize] = to as i64;
        }
    }
}

/// Sets the general handler for `signal` with `flags` (SA_SIGINFO is added).
pub fn on(signal: i32, flags: i32) {
    on_masked(signal, flags, &[]);
}

/// As [`on`], with further signals blocked while the handler runs.
pub fn on_masked(signal: i32, flags: i32, blocked: &[i32]) {
    let mut act: libc::sigaction = zeroed();
    act.sa_sigaction = note as *const () as usize;
    act.sa_flags = flags | libc::SA_SIGINFO;
    for b in blocked {
        // SAFETY: a set of our own.
        unsafe { libc::sigaddset(&mut act.sa_mask, *b) };
    }
    // SAFETY: the handler only touches atomics and makes raw calls.
    unsafe { libc::sigaction(signal, &act, std::ptr::null_mut()) };
}

/// Sets `handler` for `signal`: SIG_DFL, SIG_IGN or a function's address.
pub fn set_handler(signal: i32, handler: usize, flags: i32) {
    let mut act: libc::sigaction = zeroed();
    act.sa_sigaction = handler;
    act.sa_flags = flags;
    // SAFETY: the callers' handlers only touch atomics and make raw calls.
    unsafe { libc::sigaction(signal, &act, std::ptr::null_mut()) };
}

/// What a provoked fault brought.
#[derive(Clone, Copy)]
pub struct Fault {
    /// The signal, or 0 when the access went well.
    pub signal: i32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr`.
    pub addr: usize,
    /// The hardware's error code.
    pub err: u64,
}

/// Which access [`touch`] makes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Load one byte.
    Read,
    /// Store one byte (0x5a).
    Write,
    /// Call the address.
    Execute,
}

/// Accesses `addr` and tells which signal that brought, if any.
pub fn touch(addr: usize, access: Access) -> Fault {
    for s in [libc::SIGSEGV, libc::SIGBUS] {
        on(s, libc::SA_NODEFER);
        seen(s).count.store(0, SeqCst);
    }
    let recover = RECOVER.as_ptr();
    // SAFETY: the handler resumes at label 2 after a fault, and the registers
    // that the code in between can change are declared.
    unsafe {
        match access {
            Access::Read => asm!(
                "lea {t}, [rip + 2f]", "mov [{r}], {t}", "mov {t:l}, [{a}]", "2:",
                t = out(reg_abcd) _, r = in(reg) recover, a = in(reg) addr),
            Access::Write => asm!(
                "lea {t}, [rip + 2f]", "mov [{r}], {t}", "mov byte ptr [{a}], 0x5a", "2:",
                t = out(reg) _, r = in(reg) recover, a = in(reg) addr),
            Access::Execute => asm!(
                "mov r12, rsp", "lea rax, [rip + 2f]", "mov [rdi], rax",
                "call rsi", "2:", "mov rsp, r12",
                in("rdi") recover, in("rsi") addr, out("r12") _, clobber_abi("C")),
        }
    }
    RECOVER.store(0, SeqCst);
    for s in [libc::SIGSEGV, libc::SIGBUS] {
        if count(s) > 0 {
            let n = seen(s);
            return Fault {
                signal: s,
                code: n.code.load(SeqCst),
                addr: n.addr.load(SeqCst),
                err: n.err.load(SeqCst),
            };
        }
    }
    Fault {
        signal: 0,
        code: 0,
        addr: 0,
        err: 0,
    }
}

/// Instructions that raise an exception.
#[derive(Clone, Copy)]
pub enum Trap {
    /// `ud2`.
    Undefined,
    /// `int3`.
    Breakpoint,
    /// A division by zero.
    Divide,
    /// `hlt`, a privileged instruction.
    Privileged,
    /// A load from an address that is not canonical.
    NonCanonical,
}

/// Runs an instruction that traps; the handlers must have been set.
pub fn trap(which: Trap) {
    let recover = RECOVER.as_ptr();
    // SAFETY: as in `touch`.
    unsafe {
        match which {
            Trap::Undefined => asm!(
                "lea {t}, [rip + 2f]", "mov [{r}], {t}", "ud2", "2:",
                t = out(reg) _, r = in(reg) recover),
            Trap::Breakpoint => asm!("int3"),
            Trap::Divide => asm!(
                "lea rax, [rip + 2f]", "mov [{r}], rax", "xor eax, eax", "cdq", "xor ecx, ecx",
                "idiv ecx", "2:",
                r = in(reg) recover, out("rax") _, out("rdx") _, out("rcx") _),
            Trap::Privileged => asm!(
                "lea {t}, [rip + 2f]", "mov [{r}], {t}", "hlt", "2:",
                t = out(reg) _, r = in(reg) recover),
            Trap::NonCanonical => asm!(
                "lea {t}, [rip + 2f]", "mov [{r}], {t}", "mov {t}, [{a}]", "2:",
                t = out(reg) _, r = in(reg) recover, a = in(reg) 0x8000_0000_0000_0000u64),
        }
    }
}

/// Spins with known values in SSE registers until `signal` was handled, and
/// tells whether they survived.
pub fn vector_survives(signal: i32) -> bool {
    let flag = seen(signal).count.as_ptr();
    let (lo, hi): (u64, u64);
    // SAFETY: the loop only reads the flag that the handler sets.
    unsafe {
        asm!(
            "movq xmm7, {v}", "movq xmm15, {w}",
            "2:", "pause", "cmp dword ptr [{f}], 0", "je 2b",
            "movq {lo}, xmm7", "movq {hi}, xmm15",
            v = in(reg) 0x0123_4567_89ab_cdefu64, w = in(reg) 0xfedc_ba98_7654_3210u64,
            f = in(reg) flag, lo = lateout(reg) lo, hi = lateout(reg) hi,
            out("xmm7") _, out("xmm15") _);
    }
    (lo, hi) == (0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210)
}

/// A handler that destroys vector registers.
pub extern "C" fn scribble(sig: i32) {
    // SAFETY: clobbers are declared.
    unsafe {
        asm!("pcmpeqd xmm7, xmm7", "pcmpeqd xmm15, xmm15", out("xmm7") _, out("xmm15") _);
    }
    seen(sig).count.fetch_add(1, SeqCst);
}

/// Raw bytes of a plain C structure.
pub fn bytes_of<T>(value: &T) -> &[u8] {
    // SAFETY: used with plain C structures without padding that matters.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// Starts `f` in a new process or thread on the stack that ends at `top`.
pub fn clone_with(flags: i32, top: usize, f: extern "C" fn(*mut libc::c_void) -> i32) -> i32 {
    // SAFETY: the caller's stack lives until the child has ended.
    unsafe { libc::clone(f, top as *mut libc::c_void, flags, std::ptr::null_mut()) }
}

/// What `waitid` or SIGCHLD says of a child, in words.
pub fn child_info(i: &libc::siginfo_t, pid: i32) -> String {
    // SAFETY: reads of union fields whose bytes are always there.
    let (p, status, uid) = unsafe { (i.si_pid(), i.si_status(), i.si_uid()) };
    format!(
        "signo {} code {} pid {} status {status} uid {uid}",
        i.si_signo,
        i.si_code,
        p == pid
    )
}

/// As [`clone_with`], with the address of the thread's id to clear at its end.
pub fn clone_thread(
    flags: i32,
    top: usize,
    f: extern "C" fn(*mut libc::c_void) -> i32,
    clear: usize,
) -> i32 {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: as for `clone_with`.
    unsafe { libc::clone(f, top as *mut libc::c_void, flags, none, none, none, clear) }
}

/// The C library's `clock_gettime`, which may not enter the kernel; nanoseconds.
pub fn library_clock(id: i32) -> i64 {
    let mut t: libc::timespec = zeroed();
    // SAFETY: `t` is valid for writing.
    unsafe { libc::clock_gettime(id, &mut t) };
    t.tv_sec * 1_000_000_000 + t.tv_nsec
}

/// A value of those that the program was started with.
pub fn auxv(key: u64) -> u64 {
    // SAFETY: It only looks at what the C library has kept of them.
    unsafe { libc::getauxval(key) }
}
