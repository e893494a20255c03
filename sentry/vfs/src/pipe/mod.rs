//! Pipes and FIFOs (pipe(7)).
//!
//! Bytes wait in segments. A writer fills a segment from guest memory before it takes the lock,
//! a reader empties one after it has let go of it: guest memory is never touched under the lock.

mod buffer;
mod end;

use buffer::{Segment, State};
pub use end::Fifo;
use end::PipeEnd;

use crate::anon::{anonymous_attr, next_ino};
use crate::{Attr, File, FileType, OpenFlags};
use abi::Errno;
use auth::Capability;
use ctx::{Ctx, Restart, SysResult, wait_for};
use std::sync::Arc;
use sync::{Mutex, ranks};
use wait::{Events, Queue};

/// Writes of up to so many bytes are atomic.
pub const PIPE_BUF: usize = 4096;
/// What a new pipe holds.
const DEFAULT_CAPACITY: usize = 65536;
/// What a pipe can be made to hold without `CAP_SYS_RESOURCE` (`fs.pipe-max-size`).
const MAX_CAPACITY: usize = 1 << 20;
/// What is taken from a writer's memory at a time.
const CHUNK: usize = 65536;
const SIGPIPE: i32 = 13;
const FIONREAD: u32 = 0x541b;

/// A pipe, apart from its ends.
pub struct Pipe {
    state: Mutex<State, ranks::Pipe>,
    queue: Queue,
    /// Attributes at its making; `None` for a FIFO, whose inode has them.
    attr: Option<Attr>,
}

impl Pipe {
    fn new(attr: Option<Attr>) -> Arc<Pipe> {
        let state = State::new(DEFAULT_CAPACITY);
        Arc::new(Pipe {
            state: Mutex::new(state),
            queue: Queue::new(),
            attr,
        })
    }

    /// pipe2(2): the reading and the writing end. `flags` may hold `NONBLOCK` and `DIRECT`.
    pub fn pair(cx: &dyn Ctx, flags: OpenFlags) -> [Arc<File>; 2] {
        let pipe = Pipe::new(Some(anonymous_attr(cx, FileType::Fifo, 0o600, next_ino())));
        let flags = flags & (OpenFlags::NONBLOCK | OpenFlags::DIRECT);
        let reader = PipeEnd::attach(&pipe, OpenFlags::RDONLY);
        let writer = PipeEnd::attach(&pipe, OpenFlags::WRONLY);
        [
            File::anonymous(cx, reader, flags - OpenFlags::DIRECT),
            File::anonymous(cx, writer, flags | OpenFlags::WRONLY),
        ]
    }

    /// The pipe that `file` is an end of.
    pub fn of(file: &File) -> Option<&Arc<Pipe>> {
        file.ops_as::<PipeEnd>().map(|end| &end.pipe)
    }

    /// Whether it stands behind a name: opening it waits for the other side.
    pub(crate) fn is_fifo(&self) -> bool {
        self.attr.is_none()
    }

    /// Bytes it can hold (F_GETPIPE_SZ).
    pub fn capacity(&self) -> usize {
        self.state.lock().capacity
    }

    /// Sets what it can hold, rounded up to a power of two of pages (F_SETPIPE_SZ); returns what
    /// it became.
    ///
    /// # Errors
    /// `EINVAL` beyond 2 GiB, `EPERM` beyond the limit without `CAP_SYS_RESOURCE`, `EBUSY` where
    /// more is in it.
    pub fn set_capacity(&self, cx: &dyn Ctx, capacity: u64) -> Result<usize, Errno> {
        if capacity > 1 << 31 {
            return Err(Errno::EINVAL);
        }
        let capacity = (capacity as usize).max(PIPE_BUF).next_power_of_two();
        let mut state = self.state.lock();
        if capacity > state.capacity
            && capacity > MAX_CAPACITY
            && !cx.creds().has(Capability::SysResource)
        {
            return Err(Errno::EPERM);
        }
        if capacity < state.len {
            return Err(Errno::EBUSY);
        }
        state.capacity = capacity;
        drop(state);
        self.queue.notify_all(Events::WRITABLE);
        Ok(capacity)
    }

    /// Bytes in it (`FIONREAD`).
    pub fn len(&self) -> usize {
        self.state.lock().len
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes some bytes, at most `max`; none when it is empty and has no writers.
    pub(crate) fn take(&self, cx: &dyn Ctx, max: usize, nonblocking: bool) -> SysResult<Vec<u8>> {
        let segment = self.take_segment(cx, max, nonblocking)?;
        Ok(segment.map_or_else(Vec::new, |mut s| s.bytes.split_off(s.start)))
    }

    /// Puts back what [`Pipe::take`] took and could not be used.
    pub(crate) fn untake(&self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.state.lock().unpop(Segment {
                bytes,
                start: 0,
                packet: false,
            });
            self.queue.notify(Events::READABLE);
        }
    }

    fn take_segment(
        &self,
        cx: &dyn Ctx,
        max: usize,
        nonblocking: bool,
    ) -> SysResult<Option<Segment>> {
        let attempt = || {
            let mut state = self.state.lock();
            let was_full = !state.writable();
            match state.pop(max) {
                Some(segment) => Ok(Some(Some((segment, was_full)))),
                None if state.writers == 0 => Ok(Some(None)),
                None if nonblocking => Err(Errno::EAGAIN.into()),
                None => Ok(None),
            }
        };
        let taken = wait_for(
            cx,
            &self.queue,
            Events::READABLE,
            None,
            Restart::Sys,
            attempt,
        )?
        .flatten();
        let Some((segment, was_full)) = taken else {
            return Ok(None);
        };
        // A pipe that could be written to before is no news.
        if was_full {
            self.queue.notify(Events::WRITABLE);
        } else {
            self.queue.pass_on(Events::WRITABLE);
        }
        // One reader was woken for what may be enough for two.
        if !self.is_empty() {
            self.queue.pass_on(Events::READABLE);
        }
        Ok(Some(segment))
    }

    /// A copy of what would be read next, at most `max` bytes, blocking for the first.
    pub(crate) fn peek(&self, cx: &dyn Ctx, max: usize, nonblocking: bool) -> SysResult<Vec<u8>> {
        let attempt = || {
            let state = self.state.lock();
            if state.len == 0 {
                return match (state.writers, nonblocking) {
                    (0, _) => Ok(Some(Vec::new())),
                    (_, true) => Err(Errno::EAGAIN.into()),
                    (_, false) => Ok(None),
                };
            }
            let mut out = Vec::with_capacity(state.len.min(max));
            for s in &state.segments {
                let left = s.bytes.get(s.start..).unwrap_or_default();
                out.extend_from_slice(left.get(..max - out.len()).unwrap_or(left));
            }
            Ok(Some(out))
        };
        Ok(wait_for(
            cx,
            &self.queue,
            Events::READABLE,
            None,
            Restart::Sys,
            attempt,
        )?
        .unwrap_or_default())
    }

    /// Waits for room; how much there is.
    pub(crate) fn wait_room(&self, cx: &dyn Ctx, nonblocking: bool) -> SysResult {
        let attempt = || {
            let state = self.state.lock();
            if state.readers == 0 {
                cx.raise(SIGPIPE);
                return Err(Errno::EPIPE.into());
            }
            match (state.room(), nonblocking) {
                (0, true) => Err(Errno::EAGAIN.into()),
                (0, false) => Ok(None),
                (room, _) => Ok(Some(room)),
            }
        };
        Ok(wait_for(
            cx,
            &self.queue,
            Events::WRITABLE,
            None,
            Restart::Sys,
            attempt,
        )?
        .unwrap_or(0))
    }

    /// Adds bytes, room or not (the caller has waited for it).
    pub(crate) fn push(&self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.state.lock().push(bytes, false);
            self.queue.notify(Events::READABLE);
        }
    }

    /// Adds as much of `chunk` as fits, all or nothing where `atomic`; blocks until at least
    /// something did.
    fn add(
        &self,
        cx: &dyn Ctx,
        chunk: &mut Vec<u8>,
        atomic: bool,
        packet: bool,
        nonblocking: bool,
    ) -> SysResult {
        let attempt = || {
            let mut state = self.state.lock();
            if state.readers == 0 {
                drop(state);
                cx.raise(SIGPIPE);
                return Err(Errno::EPIPE.into());
            }
            let slots_full = packet && state.segments.len() >= state.capacity / PIPE_BUF;
            let room = if slots_full { 0 } else { state.room() };
            let n = match chunk.len() {
                all if all <= room => all,
                _ if atomic => 0,
                _ => room,
            };
            if n == 0 {
                return if nonblocking {
                    Err(Errno::EAGAIN.into())
                } else {
                    Ok(None)
                };
            }
            let rest = chunk.split_off(n);
            state.push(std::mem::replace(chunk, rest), packet);
            Ok(Some(n))
        };
        let n = wait_for(
            cx,
            &self.queue,
            Events::WRITABLE,
            None,
            Restart::Sys,
            attempt,
        )?
        .unwrap_or(0);
        self.queue.notify(Events::READABLE);
        if self.state.lock().writable() {
            // The next writer, likewise.
            self.queue.pass_on(Events::WRITABLE);
        }
        Ok(n)
    }
}
