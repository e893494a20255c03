//! A trace: spans of what tasks do, for a while, as Chrome's trace events, which Perfetto opens.
//!
//! While there is none it costs one relaxed load for each system call, fault and sleep
//! ([`Watch`]). Times are those that the CPU clock keeps anyway, so that a sleep which began before
//! the trace is in it. Events are put together on the stack and go through one bounded buffer; what
//! cannot be written is counted and dropped.

use crate::cpu::Phase;
use crate::kernel::Kernel;
use crate::{Task, TaskCx};
use ctx::SysErr;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

/// What is gathered before it is written.
const CHUNK: usize = 64 << 10;
/// Most bytes of an event.
const LINE: usize = 512;

/// Who wants to know of system calls: one byte, read once for each.
#[derive(Debug, Default)]
pub(crate) struct Watch(AtomicU8);

/// What [`Watch`] said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watched(u8);

const STRACE: u8 = 1;
const TRACE: u8 = 2;

impl Watch {
    #[inline]
    pub(crate) fn get(&self) -> Watched {
        Watched(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, bit: u8, on: bool) {
        match on {
            true => self.0.fetch_or(bit, Ordering::SeqCst),
            false => self.0.fetch_and(!bit, Ordering::SeqCst),
        };
    }

    pub(crate) fn set_strace(&self, on: bool) {
        self.set(STRACE, on);
    }
}

impl Watched {
    #[inline]
    pub(crate) fn strace(self) -> bool {
        self.0 & STRACE != 0
    }

    #[inline]
    pub(crate) fn trace(self) -> bool {
        self.0 & TRACE != 0
    }
}

/// The trace of a kernel.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// Held for reading while an event is put in, so that the end comes after all events.
    sink: RwLock<Option<Sink>>,
}

#[derive(Debug)]
struct Sink {
    file: File,
    buffer: Mutex<Vec<u8>>,
    /// Nanoseconds since the kernel's epoch.
    began: u64,
    events: AtomicU64,
    lost: AtomicU64,
    /// The file takes no more.
    failed: AtomicBool,
}

/// An event in the making; what does not fit is cut off, and the event with it.
struct Line {
    bytes: [u8; LINE],
    len: usize,
}

impl fmt::Write for Line {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let end = self.len + s.len();
        let room = self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?;
        room.copy_from_slice(s.as_bytes());
        self.len = end;
        Ok(())
    }
}

impl Sink {
    /// Writes a whole event.
    fn put(&self, event: fmt::Arguments<'_>) {
        let mut line = Line {
            bytes: [0; LINE],
            len: 0,
        };
        if line.write_fmt(event).is_err() || self.failed.load(Ordering::Relaxed) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let full = {
            let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
            let first = self.events.fetch_add(1, Ordering::Relaxed) == 0;
            buffer.extend_from_slice(if first { b"\n" } else { b",\n" });
            buffer.extend_from_slice(line.bytes.get(..line.len).unwrap_or_default());
            (buffer.len() > CHUNK - 2 * LINE)
                .then(|| std::mem::replace(&mut *buffer, Vec::with_capacity(CHUNK)))
        };
        if let Some(chunk) = full {
            self.write(&chunk);
        }
    }

    fn write(&self, chunk: &[u8]) {
        if (&self.file).write_all(chunk).is_err() {
            self.failed.store(true, Ordering::Relaxed);
            let events = chunk.iter().filter(|b| **b == b'\n').count() as u64;
            self.lost.fetch_add(events, Ordering::Relaxed);
        }
    }

    /// A span of `task` from `start` to `end`, in nanoseconds since the kernel's epoch; `args` is
    /// the inside of a JSON object.
    fn span(&self, task: &Task, kind: &str, name: &str, at: (u64, u64), args: fmt::Arguments<'_>) {
        let start = at.0.max(self.began);
        let (ts, dur) = (start - self.began, at.1.saturating_sub(start));
        self.put(format_args!(
            r#"{{"ph":"X","cat":"{kind}","name":"{name}","ts":{},"dur":{},"pid":{},"tid":{},"args":{{{args}}}}}"#,
            Micros(ts),
            Micros(dur),
            task.tgid(),
            task.tid(),
        ));
    }

    /// What a task and its process are called.
    fn name(&self, task: &Task) {
        let (pid, tid, name) = (task.tgid(), task.tid(), task.name());
        let name = String::from_utf8_lossy(&name);
        let kinds: &[&str] = match pid == tid {
            true => &["process_name", "thread_name"],
            false => &["thread_name"],
        };
        for kind in kinds {
            self.put(format_args!(
                r#"{{"ph":"M","name":"{kind}","pid":{pid},"tid":{tid},"args":{{"name":"{}"}}}}"#,
                Escaped(&name)
            ));
        }
    }
}

/// Nanoseconds as microseconds.
struct Micros(u64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// The inside of a JSON string.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '"' | '\\' => write!(f, "\\{c}"),
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c)),
            c => f.write_char(c),
        })
    }
}

/// A call's result.
struct Outcome<'a>(&'a Result<u64, SysErr>);

impl fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(value) if *value > u64::from(u32::MAX) => write!(f, "{value:#x}"),
            Ok(value) => write!(f, "{value}"),
            Err(SysErr::Errno(errno)) => f.write_str(errno.name()),
            Err(SysErr::Restart(_)) => f.write_str("interrupted"),
        }
    }
}

impl Kernel {
    /// Begins a trace into a file, from its present position on; `false` when there is one already.
    ///
    /// # Errors
    /// The file's.
    pub fn begin_trace(&self, mut file: File) -> io::Result<bool> {
        let mut sink = self
            .trace
            .sink
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if sink.is_some() {
            return Ok(false);
        }
        file.write_all(b"[")?;
        *sink = Some(Sink {
            file,
            buffer: Mutex::new(Vec::with_capacity(CHUNK)),
            began: self.uptime(),
            events: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        });
        wait::note_wakes(true);
        self.watch.set(TRACE, true);
        Ok(true)
    }

    /// Ends the trace: how many events are in the file, and how many could not be written.
    pub fn end_trace(&self) -> (u64, u64) {
        self.watch.set(TRACE, false);
        // Those who still sleep, and what everybody is called.
        self.traced(|sink| {
            let now = self.uptime();
            for task in self.tasks() {
                if let Some(since) = task.cpu.in_phase(Phase::Parked) {
                    sink.span(&task, "sleep", "blocked", (since, now), format_args!(""));
                }
                sink.name(&task);
            }
        });
        let mut sink = self
            .trace
            .sink
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(sink) = sink.take() else {
            return (0, 0);
        };
        wait::note_wakes(false);
        let mut rest = sink.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        rest.extend_from_slice(b"\n]\n");
        sink.write(&rest);
        let (events, lost) = (
            sink.events.load(Ordering::Relaxed),
            sink.lost.load(Ordering::Relaxed),
        );
        (events.saturating_sub(lost), lost)
    }

    fn traced(&self, work: impl FnOnce(&Sink)) {
        let sink = self
            .trace
            .sink
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(sink) = &*sink {
            work(sink);
        }
    }

    /// Nanoseconds since its epoch.
    fn uptime(&self) -> u64 {
        u64::try_from(self.epoch().elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl TaskCx {
    /// A system call has ended that began at `start`.
    #[cold]
    pub(crate) fn trace_call(&self, nr: u64, start: u64, result: &Result<u64, SysErr>) {
        self.kernel().traced(|sink| {
            let at = (start, self.task.cpu.now());
            let name = self.kernel().call_name(nr);
            let result = Outcome(result);
            sink.span(
                &self.task,
                "syscall",
                name,
                at,
                format_args!(r#""result":"{result}""#),
            );
        });
    }

    /// A fault was handled that began at `start`.
    #[cold]
    pub(crate) fn trace_fault(&self, addr: u64, start: u64, good: bool) {
        self.kernel().traced(|sink| {
            let at = (start, self.task.cpu.now());
            let args = format_args!(r#""address":"{addr:#x}","handled":{good}"#);
            sink.span(&self.task, "fault", "fault", at, args);
        });
    }

    /// A sleep is over that began at `start`.
    #[cold]
    pub(crate) fn trace_sleep(&self, start: u64, woken: bool) {
        self.kernel().traced(|sink| {
            let now = self.task.cpu.now();
            let epoch = self.kernel().epoch();
            let since_epoch = |at: std::time::Instant| {
                u64::try_from(at.saturating_duration_since(epoch).as_nanos()).unwrap_or(u64::MAX)
            };
            // One that was woken before it slept has not slept.
            let woken_at = self.task.waker().woken_at().map(since_epoch);
            let woken_at = woken_at.filter(|at| woken && (start..=now).contains(at));
            let end = woken_at.unwrap_or(now);
            let how = if woken { "woken" } else { "timed out" };
            let args = format_args!(r#""end":"{how}""#);
            sink.span(&self.task, "sleep", "blocked", (start, end), args);
            if let Some(at) = woken_at {
                let args = format_args!("");
                sink.span(&self.task, "sleep", "wake-up", (at, now), args);
            }
        });
    }

    /// A task is about to end: its name goes with it.
    #[cold]
    pub(crate) fn trace_end(&self) {
        self.kernel().traced(|sink| sink.name(&self.task));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_json_and_times_are_microseconds() {
        assert_eq!(
            Escaped("a\"\\\n\u{1b}é").to_string(),
            "a\\\"\\\\\\u000a\\u001bé"
        );
        assert_eq!(Micros(1_234_005).to_string(), "1234.005");
    }

    #[test]
    fn an_event_that_does_not_fit_is_lost_whole() {
        let file = tempfile::tempfile().unwrap();
        let sink = Sink {
            file,
            buffer: Mutex::new(Vec::new()),
            began: 0,
            events: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        };
        sink.put(format_args!("{}", "x".repeat(LINE + 1)));
        sink.put(format_args!("{{}}"));
        sink.put(format_args!("{{}}"));
        assert_eq!(*sink.buffer.lock().unwrap(), b"\n{},\n{}");
        assert_eq!(sink.lost.load(Ordering::Relaxed), 1);
    }
}
