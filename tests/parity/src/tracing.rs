//! What cases of ptrace(2) have in common.

use crate::k;
use crate::sys::{R, bytes_of, child, put, zeroed};
use crate::util::{cat, map, signal_name, status_text};
use libc::*;
use std::ffi::CString;

/// `PTRACE_O_TRACESYSGOOD`, with which system calls are told from other traps.
pub const GOOD: i32 = PTRACE_O_TRACESYSGOOD;

/// A request.
pub fn pt(op: u32, pid: i32, addr: usize, data: usize) -> R {
    k!(SYS_ptrace, op, pid, addr, data)
}

/// A child that is traced from its beginning and has stopped; then it runs `f`.
pub fn tracee(f: impl FnOnce() -> i32) -> i32 {
    let pid = child(|| {
        pt(PTRACE_TRACEME, 0, 0, 0);
        k!(SYS_kill, k!(SYS_getpid), SIGSTOP);
        f()
    });
    stop(pid);
    pid
}

/// A wait status in words, with what ptrace puts into it.
pub fn trap_text(status: i32) -> String {
    if !WIFSTOPPED(status) {
        return status_text(status & !0x80);
    }
    let (signal, event) = (status >> 8 & 0xff, status >> 16);
    let mut text = match signal & 0x80 {
        0 => format!("stopped by {}", signal_name(signal)),
        _ => "stopped by a call".into(),
    };
    if event != 0 {
        text += &format!(", event {event}");
    }
    text
}

/// Waits for one, and says how it stopped.
pub fn stop(pid: i32) -> String {
    let mut status = 0;
    let r = k!(SYS_wait4, pid, &mut status, __WALL, 0);
    match r.ok() {
        true => trap_text(status),
        false => r.to_string(),
    }
}

/// Has it go on, and waits for its next stop.
pub fn go(op: u32, pid: i32, signal: i32) -> String {
    let r = pt(op, pid, 0, signal as usize);
    match r.ok() {
        true => stop(pid),
        false => r.to_string(),
    }
}

/// Its registers.
pub fn regs(pid: i32) -> user_regs_struct {
    let mut r: user_regs_struct = zeroed();
    pt(PTRACE_GETREGS, pid, 0, &raw mut r as usize);
    r
}

/// Sets them.
pub fn set_regs(pid: i32, r: &user_regs_struct) -> R {
    pt(PTRACE_SETREGS, pid, 0, std::ptr::from_ref(r) as usize)
}

/// What it is told of its stop: number, code.
pub fn info(pid: i32) -> String {
    let mut i: siginfo_t = zeroed();
    let r = pt(PTRACE_GETSIGINFO, pid, 0, &raw mut i as usize);
    match r.ok() {
        true => format!("{} code {:#x}", signal_name(i.si_signo), i.si_code),
        false => r.to_string(),
    }
}

/// `PTRACE_GETEVENTMSG`
pub fn message(pid: i32) -> u64 {
    let mut m = 0u64;
    pt(PTRACE_GETEVENTMSG, pid, 0, &raw mut m as usize);
    m
}

/// A word of its memory.
pub fn peek_word(pid: i32, addr: usize) -> (R, u64) {
    let mut word = 0u64;
    let r = pt(PTRACE_PEEKDATA, pid, addr, &raw mut word as usize);
    (r, word)
}

/// A line of its `status` in /proc.
pub fn status_line(pid: i32, name: &str) -> String {
    let path = CString::new(format!("/proc/{pid}/status")).unwrap_or_default();
    let all = cat(&path);
    let line = all.split("\\n").find(|l| l.starts_with(name));
    line.unwrap_or("none").to_owned()
}

/// Ends it, whatever it does.
pub fn finish(pid: i32) -> String {
    k!(SYS_kill, pid, SIGKILL);
    loop {
        let text = stop(pid);
        if !text.starts_with("stopped") {
            return text;
        }
    }
}

/// Where machine code of the cases lies.
pub const CODE: usize = 0x1000_0000;

/// Puts machine code there.
pub fn load(code: &[u8]) {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    map(CODE, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, flags);
    put(CODE, code);
}

/// The bytes of a C structure in hexadecimal.
pub fn hex<T>(value: &T, len: usize) -> String {
    let bytes = bytes_of(value);
    bytes.iter().take(len).map(|b| format!("{b:02x}")).collect()
}
