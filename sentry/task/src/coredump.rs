//! Core files (core(5)): what is left of a process that a signal ends badly.
//!
//! The thread that takes the signal writes the file, once all others of the process have said what
//! is in their registers and gone. The name is `core`, in the working directory. Which mappings are
//! written is the process's to say ([`DumpFilter`]); at first all that are private or anonymous, of
//! others the first page of what is executed. Pages that nobody has touched are holes.

use crate::send::begin_exit;
use crate::{ExitStatus, TaskCx, ThreadGroup};
use abi::Errno;
use abi::page::PAGE_SIZE;
use ctx::{Ctx, Resource, Src, SysErr, UserMemory};
use memmap::Identity;
use mm::{MapsEntry, Prot};
use platform_api::Registers;
use signal::{SigInfo, Signal};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vfs::{File, LookupFlags, OpenFlags, Start};
use zerocopy::IntoBytes;

bitflags::bitflags! {
    /// Which mappings go into a process's core file (core(5), /proc/PID/coredump_filter).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DumpFilter: u32 {
        /// Private ones, as far as they hold anything of their own.
        const ANON_PRIVATE = 1 << 0;
        /// Shared ones without a name.
        const ANON_SHARED = 1 << 1;
        /// Private ones of files.
        const FILE_PRIVATE = 1 << 2;
        /// Shared ones of files.
        const FILE_SHARED = 1 << 3;
        /// The first page of programs and libraries.
        const ELF_HEADERS = 1 << 4;
        /// Of huge pages and of memory that lasts: there are none.
        const OTHERS = 0b1111 << 5;
    }
}

impl DumpFilter {
    /// That of a container's first process.
    pub(crate) const FIRST: u32 = 0x33;
}

impl ThreadGroup {
    /// What goes into its core file.
    pub fn dump_filter(&self) -> DumpFilter {
        DumpFilter::from_bits_truncate(self.dump_filter.load(Ordering::Relaxed))
    }

    /// Sets it.
    pub fn set_dump_filter(&self, filter: DumpFilter) {
        self.dump_filter.store(filter.bits(), Ordering::Relaxed);
    }
}

/// What a process that dumps keeps with its state.
#[derive(Default)]
pub(crate) struct Dump {
    /// The thread that writes.
    pub(crate) writer: i32,
    others: Vec<Thread>,
    /// It is to be no file after all: the process is being killed.
    pub(crate) stopped: bool,
}

/// A thread, as the file tells of it.
struct Thread {
    tid: i32,
    registers: Registers,
    extended: Vec<u8>,
    pending: u64,
    blocked: u64,
    /// Nanoseconds in user code and in the kernel.
    time: (u64, u64),
}

/// As /proc/sys/kernel/core_pattern says.
const NAME: &[u8] = b"core";
const EM_X86_64: u16 = 62;
const ET_CORE: u16 = 4;
const HEADER: u64 = 64;
const SEGMENT: u64 = 56;
/// Bytes written at a time.
const CHUNK: usize = 64 * 1024;
/// Segments beyond this number would need another way to say so.
const MAX_SEGMENTS: usize = 0xfffd;

impl TaskCx {
    /// Ends the process by `signal`, with a core file where that is wanted and can be had.
    pub(crate) fn die_and_dump(&mut self, signal: Signal, info: &SigInfo) {
        let limit = self.limit(Resource::Core);
        if self.mm().exec_info().dumpable != 1 || limit < PAGE_SIZE {
            return self.die(signal);
        }
        let me = self.task().clone();
        {
            let mut st = me.group().state.lock();
            if st.exit.is_some() {
                drop(st);
                return self.die(signal);
            }
            st.dump = Some(Dump {
                writer: me.tid(),
                ..Dump::default()
            });
            begin_exit(&mut st, ExitStatus::Killed { signal });
        }
        while me.group().state.lock().threads.len() > 1 {
            self.sleep(None);
        }
        let mut threads = vec![self.thread_state()];
        if let Some(dump) = &mut me.group().state.lock().dump {
            threads.append(&mut dump.others);
        }
        let status = match self.write_core(&threads, info, limit) {
            Ok(()) => ExitStatus::Dumped { signal },
            Err(e) => {
                tracing::debug!(pid = me.tgid(), "no core file: {e:?}");
                ExitStatus::Killed { signal }
            }
        };
        let mut st = me.group().state.lock();
        st.dump = None;
        st.exit = Some(status);
        drop(st);
        self.exit = Some(status);
    }

    /// Whether the process is being killed while it writes.
    fn is_dump_stopped(&self) -> bool {
        let task = self.task();
        let st = task.group().state.lock();
        let killed = st.pending.set().has(Signal::KILL) || task.pending().has(Signal::KILL);
        killed || st.dump.as_ref().is_some_and(|d| d.stopped)
    }

    /// Called at a thread's end: where another one writes a core file, it tells of this one.
    pub(crate) fn tell_dump(&mut self) {
        let me = self.task().clone();
        let wanted = |d: &Dump| d.writer != me.tid();
        if !me.group().state.lock().dump.as_ref().is_some_and(wanted) {
            return;
        }
        let state = self.thread_state();
        if let Some(dump) = &mut me.group().state.lock().dump {
            dump.others.push(state);
        }
    }

    fn thread_state(&mut self) -> Thread {
        let mut extended = Vec::new();
        if let Err(e) = self.context.extended_state(&mut extended) {
            tracing::warn!("extended state for a core file: {e}");
        }
        let task = self.task();
        let time = task.cpu_time();
        Thread {
            tid: task.pid().own(),
            registers: self.regs,
            extended,
            pending: task.pending().bits(),
            blocked: task.blocked.load(Ordering::SeqCst),
            time: (time.user, time.system),
        }
    }

    fn write_core(&self, threads: &[Thread], info: &SigInfo, limit: u64) -> Result<(), SysErr> {
        let file = self.core_file()?;
        let mut maps = self.mm().maps();
        maps.truncate(MAX_SEGMENTS);
        let notes = self.notes(threads, info, &maps);
        let mut out = Writer {
            cx: self,
            file: &file,
            left: limit,
        };
        let notes_at = HEADER + SEGMENT * (maps.len() as u64 + 1);
        let mut at = (notes_at + notes.len() as u64).next_multiple_of(PAGE_SIZE);
        let mut head = header(maps.len() as u16 + 1);
        let note = [4, 0, notes_at, 0, 0, notes.len() as u64, 0, 4];
        put_segment(&mut head, note);
        let mut bodies = Vec::new();
        for map in &maps {
            let len = self.dumped(map);
            let flags = u64::from(map.prot.contains(Prot::EXECUTE))
                | u64::from(map.prot.contains(Prot::WRITE)) << 1
                | u64::from(map.prot.contains(Prot::READ)) << 2;
            let range = map.range;
            put_segment(
                &mut head,
                [1, flags, at, range.start, 0, len, range.len(), PAGE_SIZE],
            );
            bodies.push((range.start, len, at));
            at += len;
        }
        head.extend(notes);
        // What comes after the limit is cut off, and what is before it is a core file still.
        let written = out.put(0, &head).and_then(|()| {
            for (start, len, at) in bodies {
                self.write_memory(&mut out, start, len, at)?;
            }
            vfs::ftruncate(self, &file, at as i64).map_err(Into::into)
        });
        match written {
            Err(SysErr::Errno(Errno::EFBIG)) => Ok(()),
            other => other,
        }
    }

    /// The file, always a new one: what has its name is removed.
    fn core_file(&self) -> Result<Arc<File>, SysErr> {
        let _ = vfs::unlink(self, Start::Cwd, NAME);
        let flags = OpenFlags::CREAT
            | OpenFlags::EXCL
            | OpenFlags::RDWR
            | OpenFlags::NOFOLLOW
            | OpenFlags::LARGEFILE;
        let file = vfs::open(self, Start::Cwd, NAME, flags, 0o600, LookupFlags::empty())?;
        // The umask may have made it one that nobody can use.
        if file.attr(self)?.perm & 0o677 != 0o600 {
            return Err(Errno::EPERM.into());
        }
        Ok(file)
    }

    fn write_memory(
        &self,
        out: &mut Writer<'_>,
        start: u64,
        len: u64,
        at: u64,
    ) -> Result<(), SysErr> {
        let mut buf = vec![0; CHUNK];
        let mut done = 0;
        while done < len {
            // A look at so many pages at a time, since a mapping may be a reservation of terabytes.
            let stretch = (len - done).min(PAGE_SIZE << 20);
            let resident = self
                .mm()
                .mincore(start + done, stretch, self.creds_ref())
                .unwrap_or_default();
            for (page, _) in resident
                .iter()
                .enumerate()
                .filter(|(_, there)| **there != 0)
            {
                let from = done + page as u64 * PAGE_SIZE;
                let page = &mut buf[..PAGE_SIZE as usize];
                let Ok(n) = self.mm().read_forced(start + from, page) else {
                    continue;
                };
                if page[..n].iter().any(|b| *b != 0) {
                    out.put(at + from, &page[..n])?;
                }
            }
            done += stretch;
        }
        Ok(())
    }

    fn notes(&self, threads: &[Thread], info: &SigInfo, maps: &[MapsEntry]) -> Vec<u8> {
        let mut notes = Vec::new();
        for (n, thread) in threads.iter().enumerate() {
            put_note(&mut notes, b"CORE\0", 1, &self.prstatus(thread, info));
            if n == 0 {
                put_note(&mut notes, b"CORE\0", 3, &self.prpsinfo());
                put_note(&mut notes, b"CORE\0", 0x5349_4749, info.as_bytes());
                put_note(&mut notes, b"CORE\0", 6, &self.mm().exec_info().auxv);
                if let Some(files) = files(maps) {
                    put_note(&mut notes, b"CORE\0", 0x4649_4c45, &files);
                }
            }
            /// Of the extended state, what FXSAVE has.
            const LEGACY: usize = 512;
            if let Some(legacy) = thread.extended.get(..LEGACY) {
                put_note(&mut notes, b"CORE\0", 2, legacy);
                put_note(&mut notes, b"LINUX\0", 0x202, &thread.extended);
            }
        }
        notes
    }

    /// `pid`, `ppid`, `pgrp`, `sid`
    fn relations(&self, id: i32) -> [i32; 4] {
        let job = ctx::JobControl::group(self);
        let session = ctx::JobControl::session(self).number;
        [
            id,
            self.parent(),
            self.number_of(job),
            self.number_of(session),
        ]
    }

    /// `struct elf_prstatus`
    fn prstatus(&self, thread: &Thread, info: &SigInfo) -> Vec<u8> {
        let mut s = Vec::with_capacity(336);
        for word in [info.signo, info.code, info.errno, info.signo] {
            s.extend(word.to_ne_bytes());
        }
        s.extend(thread.pending.to_ne_bytes());
        s.extend(thread.blocked.to_ne_bytes());
        for id in self.relations(thread.tid) {
            s.extend(id.to_ne_bytes());
        }
        for ns in [thread.time.0, thread.time.1, 0, 0] {
            s.extend((ns / 1_000_000_000).to_ne_bytes());
            s.extend((ns % 1_000_000_000 / 1000).to_ne_bytes());
        }
        let r = &thread.registers;
        let registers = [
            r.r15, r.r14, r.r13, r.r12, r.rbp, r.rbx, r.r11, r.r10, r.r9, r.r8, r.rax, r.rcx,
            r.rdx, r.rsi, r.rdi, r.orig_rax, r.rip, r.cs, r.eflags, r.rsp, r.ss, r.fs_base,
            r.gs_base, r.ds, r.es, r.fs, r.gs,
        ];
        for register in registers {
            s.extend(register.to_ne_bytes());
        }
        s.extend(1u64.to_ne_bytes());
        s
    }

    /// How much of a mapping is written.
    fn dumped(&self, map: &MapsEntry) -> u64 {
        let filter = self.group().dump_filter();
        let if_asked = |what: DumpFilter| match filter.contains(what) {
            true => map.range.len(),
            false => 0,
        };
        if map.name == Some("[vdso]") {
            return map.range.len();
        }
        if map.not_dumped {
            return 0;
        }
        if map.shared {
            // What other processes share and no file holds is no file's.
            let deleted = |file: &Identity| file.path.ends_with(b" (deleted)");
            return match map.identity.as_ref().is_none_or(deleted) {
                true => if_asked(DumpFilter::ANON_SHARED),
                false => if_asked(DumpFilter::FILE_SHARED),
            };
        }
        if filter.contains(DumpFilter::ANON_PRIVATE) && self.mm().has_own_memory(map.range) {
            return map.range.len();
        }
        if map.identity.is_none() {
            return 0;
        }
        if filter.contains(DumpFilter::FILE_PRIVATE) {
            return map.range.len();
        }
        // The head of a program or library tells which it is.
        let is_elf = || {
            let mut magic = [0; 4];
            let read = self.mm().read_forced(map.range.start, &mut magic);
            read.is_ok() && magic == *b"\x7fELF"
        };
        let head = map.offset == 0 && map.prot.contains(Prot::READ);
        if head
            && filter.contains(DumpFilter::ELF_HEADERS)
            && (map.prot.contains(Prot::EXECUTE) || is_elf())
        {
            PAGE_SIZE
        } else {
            0
        }
    }

    /// `struct elf_prpsinfo`
    fn prpsinfo(&self) -> Vec<u8> {
        /// Bytes of the arguments that are told.
        const ARGUMENTS: usize = 80;
        let task = self.task();
        let creds = self.creds_ref();
        let mut s = vec![0, b'R', 0, 0, 0, 0, 0, 0];
        s.extend(0u64.to_ne_bytes());
        s.extend(creds.user_ns.shown_uid(creds.ruid).to_ne_bytes());
        s.extend(creds.user_ns.shown_gid(creds.rgid).to_ne_bytes());
        for id in self.relations(task.group().pid().own()) {
            s.extend(id.to_ne_bytes());
        }
        let mut name = task.name();
        name.resize(16, 0);
        s.extend(name);
        let exec = self.mm().exec_info();
        let len = exec.arg_end.saturating_sub(exec.arg_start) as usize;
        let mut args = vec![0; len.min(ARGUMENTS - 1)];
        let n = self.mm().read_some(exec.arg_start, &mut args).unwrap_or(0);
        args.truncate(n);
        for b in args.iter_mut().filter(|b| **b == 0) {
            *b = b' ';
        }
        args.resize(ARGUMENTS, 0);
        s.extend(args);
        s
    }
}

/// Writes at places of a file, as much as the limit lets it.
struct Writer<'a> {
    cx: &'a TaskCx,
    file: &'a File,
    left: u64,
}

impl Writer<'_> {
    fn put(&mut self, at: u64, bytes: &[u8]) -> Result<(), SysErr> {
        if bytes.len() as u64 > self.left {
            return Err(Errno::EFBIG.into());
        }
        self.left -= bytes.len() as u64;
        let mut done = 0;
        while done < bytes.len() {
            if self.cx.is_dump_stopped() {
                return Err(Errno::EINTR.into());
            }
            let rest = &bytes[done..];
            let n = self
                .file
                .pwrite(self.cx, at + done as u64, &mut Src::ours(rest))?;
            if n == 0 {
                return Err(Errno::ENOSPC.into());
            }
            done += n;
        }
        Ok(())
    }
}

/// The ELF header of a core file with `segments`.
fn header(segments: u16) -> Vec<u8> {
    let mut h = b"\x7fELF\x02\x01\x01".to_vec();
    h.resize(16, 0);
    h.extend(ET_CORE.to_ne_bytes());
    h.extend(EM_X86_64.to_ne_bytes());
    h.extend(1u32.to_ne_bytes());
    for word in [0, HEADER, 0] {
        h.extend(word.to_ne_bytes());
    }
    h.extend(0u32.to_ne_bytes());
    for half in [HEADER as u16, SEGMENT as u16, segments, 0, 0, 0] {
        h.extend(half.to_ne_bytes());
    }
    h
}

/// A program header: type, flags, offset, address, physical address, sizes in the file and in
/// memory, alignment.
fn put_segment(out: &mut Vec<u8>, [kind, flags, rest @ ..]: [u64; 8]) {
    out.extend((kind as u32).to_ne_bytes());
    out.extend((flags as u32).to_ne_bytes());
    for word in rest {
        out.extend(word.to_ne_bytes());
    }
}

/// A note: `name` with its NUL.
fn put_note(out: &mut Vec<u8>, name: &[u8], kind: u32, what: &[u8]) {
    for word in [name.len() as u32, what.len() as u32, kind] {
        out.extend(word.to_ne_bytes());
    }
    for bytes in [name, what] {
        out.extend(bytes);
        out.resize(out.len().next_multiple_of(4), 0);
    }
}

/// `NT_FILE`: which files are mapped where; `None` where that would be more than Linux writes.
fn files(maps: &[MapsEntry]) -> Option<Vec<u8>> {
    const MOST: usize = 4 << 20;
    let mapped = || maps.iter().filter_map(|m| Some((m, m.identity.as_ref()?)));
    let mut out = Vec::new();
    for word in [mapped().count() as u64, PAGE_SIZE] {
        out.extend(word.to_ne_bytes());
    }
    for (map, _) in mapped() {
        for word in [map.range.start, map.range.end, map.offset / PAGE_SIZE] {
            out.extend(word.to_ne_bytes());
        }
    }
    for (_, identity) in mapped() {
        out.extend(&identity.path);
        out.push(0);
        if out.len() > MOST {
            return None;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_the_sizes_that_they_say() {
        let mut head = header(3);
        assert_eq!(head.len() as u64, HEADER);
        assert_eq!(&head[56..58], &3u16.to_ne_bytes());
        put_segment(&mut head, [1, 5, 4096, 0x40_0000, 0, 8192, 8192, 4096]);
        assert_eq!(head.len() as u64, HEADER + SEGMENT);
    }

    #[test]
    fn notes_are_aligned() {
        let mut notes = Vec::new();
        put_note(&mut notes, b"CORE\0", 6, &[1, 2, 3]);
        assert_eq!(notes.len(), 12 + 8 + 4);
        assert_eq!(&notes[..4], &5u32.to_ne_bytes());
        assert_eq!(&notes[20..], &[1, 2, 3, 0]);
    }
}
