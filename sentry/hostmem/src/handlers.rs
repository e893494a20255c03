//! The signal handler behind the copies that survive faults.
// UNSAFETY: sigaction, and a handler that edits the interrupted context.
#![expect(unsafe_code, reason = "signal handlers have no safe wrapper")]

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::Once;

static INSTALL: Once = Once::new();
static PREVIOUS: [Previous; 2] = [Previous::none(), Previous::none()];

/// The action that was there before ours. Written once, before ours is installed.
struct Previous(UnsafeCell<MaybeUninit<libc::sigaction>>);

// SAFETY: written before the handler that reads it is installed, and never after.
unsafe impl Sync for Previous {}

impl Previous {
    const fn none() -> Previous {
        // All zero bytes are SIG_DFL with no flags.
        Previous(UnsafeCell::new(MaybeUninit::zeroed()))
    }
}

const SIGNALS: [libc::c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// Installs the handler for `SIGSEGV` and `SIGBUS`, once for the process. What is not a fault of
/// a copy goes on to whoever handled these signals before.
pub fn install() {
    INSTALL.call_once(|| {
        for (signal, previous) in SIGNALS.into_iter().zip(&PREVIOUS) {
            // SAFETY: all-zero is a valid sigaction; `handle` only uses what is async-signal-safe;
            // `previous` is not read before the second call has installed `handle`.
            unsafe {
                libc::sigaction(signal, std::ptr::null(), previous.0.get().cast());
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = handle
                    as extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void)
                    as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                libc::sigaction(signal, &raw const action, std::ptr::null_mut());
            }
        }
    });
}

extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands a whole ucontext to a SA_SIGINFO handler, ours while it runs.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let rip = registers[libc::REG_RIP as usize];
    if let Some(out) = crate::copy::fixup(rip as usize) {
        registers[libc::REG_RIP as usize] = out as i64;
        return;
    }
    let at = usize::from(signal == libc::SIGBUS);
    // SAFETY: written before this handler was installed, and never after.
    let previous = unsafe { (*PREVIOUS[at].0.get()).assume_init_ref() };
    match previous.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => {
            // A fault of ours, then: let it happen again with the default action.
            // SAFETY: all-zero is SIG_DFL.
            unsafe {
                let default: libc::sigaction = std::mem::zeroed();
                libc::sigaction(signal, &raw const default, std::ptr::null_mut());
            }
        }
        handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: SA_SIGINFO says that the handler has this signature.
            unsafe {
                let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                    std::mem::transmute(handler);
                handler(signal, info, context);
            }
        }
        handler => {
            // SAFETY: without SA_SIGINFO the handler takes the number alone.
            unsafe {
                let handler: extern "C" fn(libc::c_int) = std::mem::transmute(handler);
                handler(signal);
            }
        }
    }
}
