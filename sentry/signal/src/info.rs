//! `siginfo_t`.

use crate::Signal;
use abi::libc;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The kernel's `siginfo_t`: 128 bytes, of which what the code calls for is filled in.
///
/// The union is kept as words: word 0 is `si_pid` and `si_uid` (or the low and high half of
/// `si_addr`), and so on.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SigInfo {
    /// `si_signo`
    pub signo: i32,
    /// `si_errno`
    pub errno: i32,
    /// `si_code`
    pub code: i32,
    /// Padding to programs. While a POSIX timer's signal is queued, which setting of the timer sent
    /// it; 0 for other signals.
    setting: u32,
    union: [u64; 14],
}

impl SigInfo {
    /// With a code and nothing else.
    pub fn new(signal: Signal, code: i32) -> SigInfo {
        SigInfo {
            signo: signal.number(),
            errno: 0,
            code,
            setting: 0,
            union: [0; 14],
        }
    }

    /// Sent by the kernel (`SI_KERNEL`).
    pub fn kernel(signal: Signal) -> SigInfo {
        SigInfo::new(signal, libc::SI_KERNEL)
    }

    /// Sent by a process: kill(2) with `SI_USER`, tgkill(2) with `SI_TKILL`.
    pub fn user(signal: Signal, code: i32, pid: i32, uid: u32) -> SigInfo {
        let mut i = SigInfo::new(signal, code);
        i.union[0] = u64::from(pid as u32) | u64::from(uid) << 32;
        i
    }

    /// A fault at `addr`.
    pub fn fault(signal: Signal, code: i32, addr: u64) -> SigInfo {
        let mut i = SigInfo::new(signal, code);
        i.union[0] = addr;
        i
    }

    /// About a child: `CLD_EXITED` and so on. Times are in clock ticks.
    pub fn child(
        signal: Signal,
        code: i32,
        pid: i32,
        uid: u32,
        status: i32,
        utime: i64,
        stime: i64,
    ) -> SigInfo {
        let mut i = SigInfo::user(signal, code, pid, uid);
        i.union[1] = u64::from(status as u32);
        i.union[2] = utime as u64;
        i.union[3] = stime as u64;
        i
    }

    /// Of a POSIX timer, in its `setting`th.
    pub fn timer(signal: Signal, id: i32, setting: u32, overrun: i32, value: u64) -> SigInfo {
        let mut i = SigInfo::new(signal, libc::SI_TIMER);
        i.setting = setting;
        i.union[0] = u64::from(id as u32) | u64::from(overrun as u32) << 32;
        i.union[1] = value;
        i
    }

    /// Of a POSIX message queue (mq_notify(2)): who sent the message, and the value asked for.
    pub fn message(signal: Signal, pid: i32, uid: u32, value: u64) -> SigInfo {
        let mut i = SigInfo::user(signal, libc::SI_MESGQ, pid, uid);
        i.union[1] = value;
        i
    }

    /// Of a file that has become ready (fcntl(2), F_SETSIG): events of poll(2) and the descriptor.
    pub fn ready(signal: Signal, code: i32, band: u64, fd: i32) -> SigInfo {
        let mut i = SigInfo::new(signal, code);
        i.union[0] = band;
        i.union[1] = u64::from(fd as u32);
        i
    }

    /// Of a system call that a filter forbids (seccomp(2)): where it was made, its number, the
    /// architecture whose number that is, and what the filter says.
    pub fn forbidden_call(ip: u64, nr: u32, arch: u32, data: i32) -> SigInfo {
        /// `SYS_SECCOMP`
        const CODE: i32 = 1;
        let mut i = SigInfo::new(Signal::SYS, CODE);
        i.errno = data;
        i.union[0] = ip;
        i.union[1] = u64::from(nr) | u64::from(arch) << 32;
        i
    }

    /// Takes up that the POSIX timer which sent it has expired again, with `new`: as an overrun, or
    /// in the place of what an earlier setting of it sent. False for signals that it did not send.
    pub fn expired_again(&mut self, new: &SigInfo) -> bool {
        if self.setting == 0 || self.pid() != new.pid() {
            return false;
        }
        if self.setting == new.setting {
            let more = new.overrun().saturating_add(1);
            self.set_overrun(self.overrun().saturating_add(more));
        } else {
            *self = *new;
        }
        true
    }

    /// Which setting of a POSIX timer sent it, and forgets that: nothing of the kernel's own is
    /// left in it.
    pub fn take_setting(&mut self) -> u32 {
        std::mem::take(&mut self.setting)
    }

    /// `si_pid` (or `si_timerid`).
    pub fn pid(&self) -> i32 {
        self.union[0] as u32 as i32
    }

    /// `si_uid` (or `si_overrun`).
    pub fn uid(&self) -> u32 {
        (self.union[0] >> 32) as u32
    }

    /// `si_overrun`
    pub fn overrun(&self) -> i32 {
        self.uid() as i32
    }

    /// Whether it is about a file that has become ready.
    pub fn is_ready(&self) -> bool {
        /// The highest of `POLL_IN` and so on.
        const LAST: i32 = 6;
        let other = |n| Signal::new(n).is_ok_and(|s| s != Signal::IO && s.has_codes_of_its_own());
        self.code == libc::SI_SIGIO || ((1..=LAST).contains(&self.code) && !other(self.signo))
    }

    /// `si_band` and `si_fd`.
    pub fn band_and_fd(&self) -> (u64, i32) {
        (self.union[0], self.union[1] as u32 as i32)
    }

    /// Who gets it does not see who sent it: `si_pid` is 0, where it has one.
    pub fn hide_sender(&mut self) {
        if self.from_user() && self.code != libc::SI_TIMER && !self.is_ready() {
            self.union[0] &= !0xffff_ffff;
        }
    }

    /// Replaces `si_overrun`.
    pub fn set_overrun(&mut self, overrun: i32) {
        self.set_uid(overrun as u32);
    }

    /// Replaces `si_uid`.
    pub fn set_uid(&mut self, uid: u32) {
        self.union[0] = (self.union[0] & 0xffff_ffff) | u64::from(uid) << 32;
    }

    /// Whether `si_pid` and `si_uid` say something.
    pub fn says_who(&self) -> bool {
        let of_child = self.signo == Signal::CHLD.number() && (1..=6).contains(&self.code);
        of_child || (self.from_user() && ![libc::SI_TIMER, libc::SI_SIGIO].contains(&self.code))
    }

    /// `si_addr`.
    pub fn addr(&self) -> u64 {
        self.union[0]
    }

    /// `si_status` of a child.
    pub fn status(&self) -> i32 {
        self.union[1] as u32 as i32
    }

    /// `si_value`.
    pub fn value(&self) -> u64 {
        self.union[1]
    }

    /// `si_utime` and `si_stime`, in clock ticks.
    pub fn times(&self) -> (u64, u64) {
        (self.union[2], self.union[3])
    }

    /// Whether it says that a process sent it (`SI_FROMUSER`).
    pub fn from_user(&self) -> bool {
        self.code <= 0
    }
}

impl std::fmt::Debug for SigInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "SigInfo {{ signo: {}, code: {}, .. }}",
            self.signo, self.code
        )
    }
}

const _: () = assert!(size_of::<SigInfo>() == 128);
