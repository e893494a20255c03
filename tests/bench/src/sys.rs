//! The probe's edge to the kernel.
//!
//! Each function is one operation that is measured, or sets one up; a failure of any ends the
//! probe, since its figures would mean nothing.
// UNSAFETY: raw system calls are what a probe is for; it runs alone in a process of its own.
#![expect(unsafe_code, reason = "a probe makes raw system calls")]

use std::ffi::CStr;
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) const PAGE: usize = 4096;

fn check(what: &str, result: i64) -> i64 {
    if result < 0 {
        panic!("{what}: {}", std::io::Error::last_os_error());
    }
    result
}

/// The cheapest system call there is: the C library keeps no copy of its answer.
pub(crate) fn getppid() {
    // SAFETY: no arguments.
    unsafe { libc::syscall(libc::SYS_getppid) };
}

/// The C library's clock_gettime, which asks the vDSO.
pub(crate) fn clock() {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is valid for writing.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    std::hint::black_box(&now);
}

pub(crate) fn open(path: &CStr) -> i32 {
    // SAFETY: a terminated string.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    check("open", fd.into()) as i32
}

/// A file that was not there.
pub(crate) fn create(path: &CStr) -> i32 {
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_CLOEXEC;
    // SAFETY: a terminated string.
    let fd = unsafe { libc::open(path.as_ptr(), flags, 0o644) };
    check("creating a file", fd.into()) as i32
}

pub(crate) fn unlink(path: &CStr) {
    // SAFETY: a terminated string.
    check("unlink", unsafe { libc::unlink(path.as_ptr()) }.into());
}

pub(crate) fn close(fd: i32) {
    // SAFETY: a descriptor the caller made and gives up.
    check("close", unsafe { libc::close(fd) }.into());
}

pub(crate) fn stat(path: &CStr) {
    // SAFETY: all zeros is a valid `stat`.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: a terminated string, and room for the answer.
    check(
        "stat",
        unsafe { libc::stat(path.as_ptr(), &raw mut stat) }.into(),
    );
}

pub(crate) fn read(fd: i32, into: &mut [u8]) {
    assert_eq!(try_read(fd, into), into.len(), "read");
}

/// How many bytes came; none at the end.
pub(crate) fn try_read(fd: i32, into: &mut [u8]) -> usize {
    // SAFETY: the buffer is valid for its length.
    check(
        "read",
        unsafe { libc::read(fd, into.as_mut_ptr().cast(), into.len()) } as i64,
    ) as usize
}

pub(crate) fn write(fd: i32, from: &[u8]) {
    // SAFETY: the buffer is valid for its length.
    let n = unsafe { libc::write(fd, from.as_ptr().cast(), from.len()) };
    assert_eq!(check("write", n as i64) as usize, from.len(), "write");
}

/// Reading end and writing end.
pub(crate) fn pipe() -> (i32, i32) {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    check(
        "pipe",
        unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }.into(),
    );
    (ends[0], ends[1])
}

/// Two Unix stream sockets that are connected.
pub(crate) fn socketpair() -> (i32, i32) {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    let made = unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) };
    check("socketpair", made.into());
    (ends[0], ends[1])
}

/// Runs `inside` in a child that then exits. The caller has one thread.
pub(crate) fn fork(inside: impl FnOnce()) -> i32 {
    // SAFETY: nothing but the caller's thread is there to be cut off.
    let child = check("fork", unsafe { libc::fork() }.into()) as i32;
    if child == 0 {
        inside();
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
    child
}

/// Becomes this program again, to exit at once.
pub(crate) fn exec_nothing() {
    let argv = [
        c"bench-probe".as_ptr(),
        c"nothing".as_ptr(),
        std::ptr::null(),
    ];
    let envp = [std::ptr::null()];
    // SAFETY: terminated strings in terminated lists.
    unsafe { libc::execve(c"/proc/self/exe".as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    panic!("exec: {}", std::io::Error::last_os_error());
}

/// Waits for a child, which must have succeeded.
pub(crate) fn reap(child: i32) {
    let mut status = 0;
    // SAFETY: room for the status.
    check(
        "wait",
        unsafe { libc::waitpid(child, &raw mut status, 0) }.into(),
    );
    assert_eq!(status, 0, "a child");
}

/// Sleeps for ever.
pub(crate) fn pause() -> ! {
    loop {
        // SAFETY: no arguments.
        unsafe { libc::pause() };
    }
}

/// A mapping, readable and writable.
pub(crate) struct Mapping {
    at: *mut u8,
    len: usize,
}

impl Mapping {
    fn new(len: usize, flags: i32, fd: i32, offset: usize) -> Mapping {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                protection,
                flags,
                fd,
                offset as i64,
            )
        };
        check("mmap", at as i64);
        Mapping { at: at.cast(), len }
    }

    /// Private memory in small pages: huge ones, where the host gives them, would compare the
    /// host's setting and not the way of mapping.
    pub(crate) fn anonymous(len: usize) -> Mapping {
        Mapping::advised(len, libc::MADV_NOHUGEPAGE)
    }

    /// Private memory with advice on huge pages.
    pub(crate) fn advised(len: usize, advice: i32) -> Mapping {
        let new = Mapping::new(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
        // SAFETY: the mapping just made; a kernel without huge pages refuses, which is as good.
        unsafe { libc::madvise(new.at.cast(), len, advice) };
        new
    }

    /// Where it is.
    pub(crate) fn address(&self) -> u64 {
        self.at as u64
    }

    /// Copies `bytes` to its start.
    pub(crate) fn fill(&self, bytes: &[u8]) {
        assert!(bytes.len() <= self.len, "room for what is copied");
        // SAFETY: inside the mapping, which is no part of any object of this program.
        unsafe { self.at.copy_from(bytes.as_ptr(), bytes.len()) };
    }

    /// Writes one byte of each page.
    pub(crate) fn touch(&self) {
        for offset in (0..self.len).step_by(PAGE) {
            // SAFETY: inside the mapping.
            unsafe { self.at.add(offset).write_volatile(1) };
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and nothing points into it any more.
        check(
            "munmap",
            unsafe { libc::munmap(self.at.cast(), self.len) }.into(),
        );
    }
}

/// A word that one waits on for another to change it.
pub(crate) struct Futex {
    memory: Mapping,
    /// Of this process alone, or of all that map it.
    flags: i32,
}

impl Futex {
    /// Zero, between threads.
    pub(crate) fn private() -> Futex {
        Futex {
            memory: Mapping::new(PAGE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0),
            flags: libc::FUTEX_PRIVATE_FLAG,
        }
    }

    /// Zero, between this process and its children.
    pub(crate) fn shared() -> Futex {
        Futex {
            memory: Mapping::new(PAGE, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, 0),
            flags: 0,
        }
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: the start of a mapping, aligned, that lives as long as `self` and that nobody
        // reaches but by this word.
        unsafe { AtomicU32::from_ptr(self.memory.at.cast()) }
    }

    pub(crate) fn get(&self) -> u32 {
        self.word().load(Ordering::SeqCst)
    }

    /// Sets it and wakes who waits.
    pub(crate) fn set(&self, value: u32) {
        self.word().store(value, Ordering::SeqCst);
        self.call(libc::FUTEX_WAKE, 1);
    }

    /// Waits until it is something else.
    pub(crate) fn wait_while(&self, value: u32) {
        while self.get() == value {
            self.call(libc::FUTEX_WAIT, value);
        }
    }

    fn call(&self, operation: i32, value: u32) {
        let timeout: *const libc::timespec = std::ptr::null();
        // SAFETY: a word of ours, and no time limit.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.memory.at,
                operation | self.flags,
                value,
                timeout,
            )
        };
    }
}

// SAFETY: its memory is only reached as an atomic word, or by the kernel.
unsafe impl Sync for Futex {}

/// A memory file.
pub(crate) struct Memfd(i32);

impl Memfd {
    pub(crate) fn new(len: usize) -> Memfd {
        // SAFETY: a terminated name.
        let fd = unsafe { libc::memfd_create(c"bench".as_ptr(), libc::MFD_CLOEXEC) };
        let fd = check("memfd_create", fd.into()) as i32;
        // SAFETY: numbers only.
        check(
            "ftruncate",
            unsafe { libc::ftruncate(fd, len as i64) }.into(),
        );
        Memfd(fd)
    }

    /// Maps a part of it, shared.
    pub(crate) fn map(&self, offset: usize, len: usize) -> Mapping {
        Mapping::new(len, libc::MAP_SHARED, self.0, offset)
    }

    /// Gives a part's memory back.
    pub(crate) fn empty(&self, offset: usize, len: usize) {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: numbers only.
        let done = unsafe { libc::fallocate(self.0, mode, offset as i64, len as i64) };
        check("fallocate", done.into());
    }
}

impl Drop for Memfd {
    fn drop(&mut self) {
        close(self.0);
    }
}

/// A process that makes one system call after the other, traced by the thread that made it.
pub(crate) struct Traced(i32);

impl Traced {
    /// Both on `cpu`.
    pub(crate) fn on(cpu: usize) -> Traced {
        // SAFETY: an empty set, one CPU added, handed over by its size. The child makes only
        // calls; the parent traces it with valid pointers.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(cpu, &mut set);
            libc::sched_setaffinity(0, size_of_val(&set), &raw const set);
            let pid = libc::fork();
            if pid == 0 {
                libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
                libc::kill(libc::getpid(), libc::SIGSTOP);
                loop {
                    libc::syscall(libc::SYS_getppid);
                }
            }
            check("fork", pid.into());
            let mut status = 0;
            check("wait", libc::waitpid(pid, &raw mut status, 0).into());
            let options = libc::PTRACE_O_EXITKILL;
            check(
                "ptrace",
                libc::ptrace(libc::PTRACE_SETOPTIONS, pid, 0, options),
            );
            Traced(pid)
        }
    }

    /// Lets it run up to its next call, whose answer is put into its registers.
    pub(crate) fn round_trip(&self) {
        let mut status = 0;
        // SAFETY: our tracee, which stands still; room for status and registers.
        unsafe {
            let mut regs: libc::user_regs_struct = std::mem::zeroed();
            libc::ptrace(libc::PTRACE_SYSEMU, self.0, 0, 0);
            libc::waitpid(self.0, &raw mut status, libc::__WALL);
            libc::ptrace(libc::PTRACE_GETREGS, self.0, 0, &raw mut regs);
            regs.rax = 1;
            regs.orig_rax = u64::MAX;
            let set = libc::ptrace(libc::PTRACE_SETREGS, self.0, 0, &raw const regs);
            check("ptrace", set);
        }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        let mut status = 0;
        // SAFETY: our tracee.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, &raw mut status, libc::__WALL);
        }
    }
}
