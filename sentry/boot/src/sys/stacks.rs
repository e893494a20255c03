//! What each thread of this process does, told by itself.
//!
//! A reserved signal makes a thread write its registers and its stack into a file, by calls that a
//! signal handler may make: nothing is allocated, no lock is taken, and where the stack's end is
//! not known it is the host that notices, not a fault. What the frames are is worked out by the
//! asker. The handler is installed with the first request: a sandbox that nobody looks into pays
//! nothing.
// UNSAFETY: a signal handler, the sending of its signal, and the reading of the loaded objects'
// program headers and notes.
#![expect(
    unsafe_code,
    reason = "signals and the dynamic linker's list have no safe wrapper"
)]

use control::debug::{MAX_STACK, Module, SLOT, STACK_SIGNAL, SlotHead};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the threads may take. One that does not answer is left out.
const PATIENCE: Duration = Duration::from_secs(2);

/// One request at a time.
static REQUEST: Mutex<()> = Mutex::new(());
/// Where stacks are written to; none between requests.
static FILE: AtomicI32 = AtomicI32::new(-1);
/// Told of each stack that was written.
static NEWS: AtomicI32 = AtomicI32::new(-1);
/// The next free slot, and how many there are.
static NEXT: AtomicU32 = AtomicU32::new(0);
static SLOTS: AtomicU32 = AtomicU32::new(0);
/// How many were written.
static WRITTEN: AtomicU64 = AtomicU64::new(0);
/// How many threads are in the handler. It is entered before [`FILE`] is looked at.
static INSIDE: AtomicU32 = AtomicU32::new(0);

/// Writes the stacks of `threads` into `file`, which has a slot for each. How many answered.
pub(crate) fn write(file: BorrowedFd<'_>, threads: &[i32]) -> Result<u64, Errno> {
    let _one = REQUEST.lock().unwrap_or_else(PoisonError::into_inner);
    install()?;
    let news = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    NEXT.store(0, SeqCst);
    WRITTEN.store(0, SeqCst);
    SLOTS.store(u32::try_from(threads.len()).unwrap_or(u32::MAX), SeqCst);
    NEWS.store(news.as_fd().as_raw_fd(), SeqCst);
    FILE.store(file.as_raw_fd(), SeqCst);
    let mut asked = 0;
    for &thread in threads {
        // SAFETY: numbers only; a thread that is gone, or is none of ours, is an error.
        let sent = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, STACK_SIGNAL) };
        asked += u64::from(sent == 0);
    }
    let deadline = Instant::now() + PATIENCE;
    while WRITTEN.load(SeqCst) < asked {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(news.as_fd(), PollFlags::POLLIN)], left) {
            Ok(0) => break,
            // What it counts is of no interest; it may have been taken already.
            Ok(_) => drop(news.read()),
            // By our own signal, for one.
            Err(_) => {}
        }
    }
    FILE.store(-1, SeqCst);
    // The descriptors are given back only when no handler can hold their numbers any more. What
    // a handler does is short and waits for nobody.
    while INSIDE.load(SeqCst) > 0 {
        std::thread::yield_now();
    }
    Ok(WRITTEN.load(SeqCst))
}

fn install() -> Result<(), Errno> {
    // SAFETY: the handler allocates nothing, takes no lock, and makes only async-signal-safe calls.
    unsafe { super::handle(STACK_SIGNAL, on_signal) }
}

extern "C" fn on_signal(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the address of this thread's errno, which the interrupted code may be about to read.
    let errno = unsafe { *libc::__errno_location() };
    INSIDE.fetch_add(1, SeqCst);
    let file = FILE.load(SeqCst);
    if file >= 0 {
        record(file, context.cast());
    }
    INSIDE.fetch_sub(1, SeqCst);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

fn record(file: i32, context: *const libc::ucontext_t) {
    let slot = NEXT.fetch_add(1, SeqCst);
    if slot >= SLOTS.load(SeqCst) {
        return;
    }
    // SAFETY: the kernel hands a whole ucontext_t to a SA_SIGINFO handler.
    let registers = unsafe { &(*context).uc_mcontext.gregs };
    let word = |n: i32| registers[n as usize].cast_unsigned();
    let sp = word(libc::REG_RSP);
    // The C library puts a thread's own block at the top of its stack. The first thread's is
    // elsewhere; there the host stops at the end of the mapping.
    // SAFETY: no arguments; gives the block's address.
    let top = unsafe { libc::pthread_self() };
    let most = match top.checked_sub(sp) {
        Some(depth) if depth < (64 << 20) => depth.min(MAX_STACK),
        _ => MAX_STACK,
    };
    let at = u64::from(slot) * SLOT;
    // SAFETY: the kernel copies what is there and stops where nothing is: nothing in this process
    // is read through the pointer. The offsets are below 2^31 times 2^17.
    let stack = unsafe {
        libc::pwrite(
            file,
            sp as *const libc::c_void,
            most as usize,
            (at + SlotHead::BYTES as u64).cast_signed(),
        )
    };
    let head = SlotHead {
        // SAFETY: no arguments.
        tid: u64::from(unsafe { libc::gettid() }.cast_unsigned()),
        ip: word(libc::REG_RIP),
        sp,
        bp: word(libc::REG_RBP),
        len: u64::try_from(stack).unwrap_or(0),
    }
    .to_bytes();
    // SAFETY: the buffers are ours and live through the calls. The descriptors are open: they are
    // closed only after this thread left the handler.
    unsafe {
        libc::pwrite(file, head.as_ptr().cast(), head.len(), at.cast_signed());
        WRITTEN.fetch_add(1, SeqCst);
        let one = 1u64.to_ne_bytes();
        libc::write(NEWS.load(SeqCst), one.as_ptr().cast(), one.len());
    }
}

/// What is loaded into this process.
pub(crate) fn modules() -> Vec<Module> {
    let mut modules: Vec<Module> = Vec::new();
    // SAFETY: the callback gets the very vector, and does not unwind: it allocates and no more.
    unsafe { libc::dl_iterate_phdr(Some(on_object), (&raw mut modules).cast()) };
    modules
}

unsafe extern "C" fn on_object(
    info: *mut libc::dl_phdr_info,
    _: libc::size_t,
    modules: *mut libc::c_void,
) -> i32 {
    // SAFETY: the linker hands a whole structure, with its headers and a C string, that live
    // through the call; `modules` is what `modules()` passed.
    let (info, modules, headers) = unsafe {
        let info = &*info;
        let headers = match info.dlpi_phdr.is_null() {
            true => &[],
            false => std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)),
        };
        (info, &mut *modules.cast::<Vec<Module>>(), headers)
    };
    let loaded = || headers.iter().filter(|h| h.p_type == libc::PT_LOAD);
    let notes = headers.iter().filter(|h| h.p_type == libc::PT_NOTE);
    let build_id = notes.filter_map(|note| {
        let start = info.dlpi_addr.wrapping_add(note.p_vaddr);
        // A note lies in a segment that is mapped readable.
        let mapped = loaded().any(|h| {
            h.p_flags & libc::PF_R != 0
                && h.p_vaddr <= note.p_vaddr
                && note.p_vaddr.saturating_add(note.p_memsz) <= h.p_vaddr.saturating_add(h.p_memsz)
        });
        // SAFETY: mapped, as just seen, and never written.
        let bytes = mapped.then(|| unsafe {
            std::slice::from_raw_parts(start as *const u8, note.p_memsz as usize)
        })?;
        build_id(bytes, note.p_align)
    });
    let build_id = { build_id }.next().unwrap_or_default();
    let name = match info.dlpi_name.is_null() {
        true => String::new(),
        // SAFETY: a C string, as above.
        false => unsafe { CStr::from_ptr(info.dlpi_name) }
            .to_string_lossy()
            .into_owned(),
    };
    modules.push(Module {
        name,
        base: info.dlpi_addr,
        start: info.dlpi_addr + loaded().map(|h| h.p_vaddr).min().unwrap_or(0),
        end: info.dlpi_addr + loaded().map(|h| h.p_vaddr + h.p_memsz).max().unwrap_or(0),
        build_id,
    });
    0
}

/// The build id among a segment's notes.
fn build_id(mut notes: &[u8], align: u64) -> Option<Vec<u8>> {
    const BUILD_ID: u32 = 3;
    let align = if align == 8 { 8 } else { 4 };
    loop {
        let (head, rest) = notes.split_at_checked(12)?;
        let word = |n: usize| {
            let bytes = head.get(4 * n..4 * n + 4)?.try_into().ok()?;
            Some(u32::from_ne_bytes(bytes))
        };
        let (name, value) = (word(0)? as usize, word(1)? as usize);
        let after = name.next_multiple_of(4);
        if word(2)? == BUILD_ID && rest.get(..name)? == b"GNU\0" {
            return rest.get(after..after + value).map(<[u8]>::to_vec);
        }
        notes = rest.get((after + value).next_multiple_of(align)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn threads_write_their_stacks() {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            let here = 0u8;
            tell.send((nix::unistd::gettid().as_raw(), (&raw const here) as u64))
                .unwrap();
            ended.recv().unwrap();
        });
        let (tid, local) = told.recv().unwrap();
        let file = tempfile::tempfile().unwrap();
        // One that is not there: nothing comes of it.
        let gone = 0x3fff_fff0;
        for _ in 0..3 {
            assert_eq!(write(file.as_fd(), &[gone, tid]).unwrap(), 1);
            let mut bytes = [0; SlotHead::BYTES];
            file.read_exact_at(&mut bytes, 0).unwrap();
            let head = SlotHead::from_bytes(bytes);
            assert_eq!(head.tid, u64::from(tid.cast_unsigned()));
            assert!((head.sp..head.sp + head.len).contains(&local), "{head:x?}");
            assert!(file.metadata().unwrap().len() <= SLOT);
        }
        end.send(()).unwrap();
        other.join().unwrap();
    }

    #[test]
    fn a_late_signal_does_nothing() {
        install().unwrap();
        // SAFETY: numbers only, to this very thread.
        unsafe { libc::raise(STACK_SIGNAL) };
    }

    #[test]
    fn the_test_program_is_among_the_modules() {
        let here = the_test_program_is_among_the_modules as *const () as u64;
        let modules = modules();
        let own = modules
            .iter()
            .find(|m| (m.start..m.end).contains(&here))
            .unwrap();
        assert_eq!(own.name, "");
        assert!(modules.iter().any(|m| m.name.contains("libc")));
    }

    #[test]
    fn a_build_id_is_found_behind_other_notes() {
        let note = |kind: u32, value: &[u8]| {
            let mut note = Vec::new();
            for word in [4, value.len() as u32, kind] {
                note.extend(word.to_ne_bytes());
            }
            note.extend(b"GNU\0");
            note.extend(value);
            note
        };
        let notes = [note(1, &[0; 16]), note(3, b"abcdefghijklmnopqrst")].concat();
        assert_eq!(build_id(&notes, 4).unwrap(), b"abcdefghijklmnopqrst");
        assert_eq!(build_id(&notes[..40], 4), None);
        let lies = [u32::MAX.to_ne_bytes(); 3].concat();
        assert_eq!(build_id(&lies, 4), None);
    }
}
