//! Pipes and FIFOs (pipe(7)).
//!
//! Bytes wait in segments. A writer fills a segment from guest memory before it takes the lock,
//! a reader empties one after it has let go of it: guest memory is never touched under the lock.

mod buffer;
mod end;

use buffer::{Kind, Segment, State};
pub use end::Fifo;
use end::PipeEnd;

use crate::anon::{anonymous_attr, next_ino};
use crate::sigio::{Reason, Watchers};
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
/// What is taken from a writer's memory at a time.
const CHUNK: usize = 65536;
const SIGPIPE: i32 = 13;
const FIONREAD: u32 = 0x541b;

/// A pipe, apart from its ends.
pub struct Pipe {
    state: Mutex<State, ranks::Pipe>,
    queue: Queue,
    /// Who hears of bytes, and who of room, by signals.
    readers: Watchers,
    writers: Watchers,
    /// Attributes; `None` for a FIFO, whose inode has them.
    attr: Option<Mutex<Attr, ranks::Leaf>>,
}

impl Pipe {
    fn new(attr: Option<Attr>) -> Arc<Pipe> {
        let state = State::new(DEFAULT_CAPACITY);
        Arc::new(Pipe {
            state: Mutex::new(state),
            queue: Queue::new(),
            readers: Watchers::new(),
            writers: Watchers::new(),
            attr: attr.map(Mutex::new),
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
        self.state.lock().capacity()
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
        if capacity > state.capacity()
            && capacity > sysctl::PIPE_MAX_SIZE.size()
            && !cx.creds().has(Capability::SysResource)
        {
            return Err(Errno::EPERM);
        }
        if !state.resize(capacity) {
            return Err(Errno::EBUSY);
        }
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

    /// Takes some bytes, at most `max`; none when it is empty and has no writers. Also whether
    /// that made room.
    pub(crate) fn take(
        &self,
        cx: &dyn Ctx,
        max: usize,
        nonblocking: bool,
    ) -> SysResult<(Vec<u8>, bool)> {
        Ok(match self.take_with(cx, nonblocking, |s| s.pop(max))? {
            Some((mut segment, room)) => (segment.bytes.split_off(segment.start), room),
            None => (Vec::new(), false),
        })
    }

    /// Those who watch for bytes are told that some came.
    pub(crate) fn tell_readers(&self) {
        self.readers.tell(Reason::In);
    }

    /// Those who watch for room are told that there is some.
    pub(crate) fn tell_writers(&self) {
        self.writers.tell(Reason::Out);
    }

    /// Puts back what [`Pipe::take`] took and could not be used.
    pub(crate) fn untake(&self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.state.lock().unpop(Segment::new(bytes, Kind::Piece));
            self.queue.notify(Events::READABLE);
        }
    }

    fn take_segment(
        &self,
        cx: &dyn Ctx,
        max: usize,
        nonblocking: bool,
    ) -> SysResult<Option<Segment>> {
        let taken = self.take_with(cx, nonblocking, |state| state.pop(max))?;
        Ok(taken.map(|(segment, _)| segment))
    }

    fn take_with(
        &self,
        cx: &dyn Ctx,
        nonblocking: bool,
        pop: impl Fn(&mut State) -> Option<Segment>,
    ) -> SysResult<Option<(Segment, bool)>> {
        let attempt = || {
            let mut state = self.state.lock();
            let (was_full, room) = (!state.writable(), state.room());
            match pop(&mut state) {
                Some(segment) => Ok(Some(Some((segment, was_full, state.room() > room)))),
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
        let Some((segment, was_full, made_room)) = taken else {
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
        Ok(Some((segment, made_room)))
    }

    /// Moves what is in one slot, or `max` bytes of it, to `other`, which has room; how many
    /// those were, and whether that made room. None where it is empty and has no writers.
    pub(crate) fn move_slot(
        &self,
        cx: &dyn Ctx,
        other: &Pipe,
        max: usize,
        nonblocking: bool,
    ) -> SysResult<(usize, bool)> {
        let taken = self.take_with(cx, nonblocking, |state| state.pop_slot(max))?;
        let Some((segment, made_room)) = taken else {
            return Ok((0, false));
        };
        let n = segment.left();
        other.state.lock().push(segment);
        other.queue.notify(Events::READABLE);
        Ok((n, made_room))
    }

    /// Copies of what would be read next, slot by slot: at most `max` bytes of at most as many
    /// slots as `room` bytes fill. Blocks for the first.
    pub(crate) fn peek(
        &self,
        cx: &dyn Ctx,
        max: usize,
        room: usize,
        nonblocking: bool,
    ) -> SysResult<Vec<Vec<u8>>> {
        let attempt = || {
            let state = self.state.lock();
            if state.len == 0 {
                return match (state.writers, nonblocking) {
                    (0, _) => Ok(Some(Vec::new())),
                    (_, true) => Err(Errno::EAGAIN.into()),
                    (_, false) => Ok(None),
                };
            }
            Ok(Some(state.peek(max, room / PIPE_BUF)))
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

    /// Waits for a free slot; how many bytes fit into those there are.
    pub(crate) fn wait_room(&self, cx: &dyn Ctx, nonblocking: bool) -> SysResult {
        self.when_writable(cx, nonblocking, |state| match state.room() {
            0 => None,
            room => Some(room),
        })
    }

    /// Adds bytes, room or not (the caller has waited for it).
    pub(crate) fn push(&self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.state.lock().push(Segment::new(bytes, Kind::Piece));
            self.queue.notify(Events::READABLE);
        }
    }

    /// Adds as much of `bytes` as fits (see [`State::write`]); blocks until at least something
    /// did.
    fn add(
        &self,
        cx: &dyn Ctx,
        bytes: &mut Vec<u8>,
        odd: &mut usize,
        last: bool,
        nonblocking: bool,
    ) -> SysResult {
        let n = self.when_writable(cx, nonblocking, |state| {
            match state.write(bytes, odd, last) {
                0 => None,
                n => Some(n),
            }
        })?;
        self.written();
        Ok(n)
    }

    /// Adds all of `bytes`, no more than fit into a slot, as one packet.
    fn add_packet(&self, cx: &dyn Ctx, bytes: &mut Vec<u8>, nonblocking: bool) -> SysResult {
        let n = self.when_writable(cx, nonblocking, |state| {
            let n = bytes.len();
            state.writable().then(|| {
                state.push(Segment::new(std::mem::take(bytes), Kind::Packet));
                n
            })
        })?;
        self.written();
        Ok(n)
    }

    /// Waits until `put` has put something in.
    fn when_writable(
        &self,
        cx: &dyn Ctx,
        nonblocking: bool,
        mut put: impl FnMut(&mut State) -> Option<usize>,
    ) -> SysResult {
        let mut told = false;
        let attempt = || {
            let mut state = self.state.lock();
            if state.readers == 0 {
                drop(state);
                cx.raise(SIGPIPE);
                return Err(Errno::EPIPE.into());
            }
            match put(&mut state) {
                Some(n) => Ok(Some(n)),
                None if nonblocking => Err(Errno::EAGAIN.into()),
                None => {
                    drop(state);
                    // What is in it may be what it waits for somebody to read.
                    if !std::mem::replace(&mut told, true) {
                        self.tell_readers();
                    }
                    Ok(None)
                }
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

    fn written(&self) {
        self.queue.notify(Events::READABLE);
        if self.state.lock().writable() {
            // The next writer, likewise.
            self.queue.pass_on(Events::WRITABLE);
        }
    }
}
