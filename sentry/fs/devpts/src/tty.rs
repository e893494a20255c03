//! A terminal: its modes, its buffers, and who may use it.

use crate::line::{Effect, Line};
use crate::output::Output;
use crate::termios::{Termios, Winsize};
use abi::{Errno, libc};
use ctx::{Ctx, Dst, GroupSignaller, Restart, SessionId, Src, SysResult, wait_for};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use sync::{Mutex, ranks};
use vfs::sigio::{Reason, Watchers};
use wait::{Events, Queue};

/// The side of a terminal away from the programs that use it as theirs.
pub(crate) trait OtherEnd: Send + Sync {
    /// There may be output to take ([`Tty::take_output`]), or packet-mode news.
    fn output_ready(&self, tty: &Tty);

    /// Comes back once nobody is in the middle of handing output on.
    fn settle(&self) {}
}

/// A terminal.
pub struct Tty {
    me: Weak<Tty>,
    /// The N of /dev/pts/N.
    pub(crate) index: u32,
    pub(crate) state: Mutex<State, ranks::Terminal>,
    /// Hears of input to read and of room to write, from the programs' side.
    pub(crate) queue: Queue,
    /// Who hears of input and of room by signals, from the programs' side and from the master's.
    pub(crate) watchers: Watchers,
    pub(crate) master_watchers: Watchers,
    other: Box<dyn OtherEnd>,
}

/// What changes of a terminal.
pub(crate) struct State {
    pub(crate) termios: Termios,
    pub(crate) winsize: Winsize,
    pub(crate) line: Line,
    pub(crate) output: Output,
    /// Session whose controlling terminal it is.
    pub(crate) session: Option<SessionId>,
    /// Foreground process group, of that session's kernel; 0 for none.
    pub(crate) foreground: i32,
    pub(crate) signaller: Option<Arc<dyn GroupSignaller>>,
    /// The other end is gone.
    pub(crate) hung_up: bool,
    /// `TIOCEXCL`
    pub(crate) exclusive: bool,
    /// The master has not unlocked it yet (`TIOCSPTLCK`).
    pub(crate) locked: bool,
    /// Open descriptions of the programs' side.
    pub(crate) opens: usize,
    /// Whether it has ever been opened: before that the master does not see a hang-up.
    pub(crate) was_open: bool,
    /// A write found no room for all: those who watch for it are to be told.
    pub(crate) crowded: bool,
    /// Packet mode: whether it is on, and what has happened (`TIOCPKT_*`).
    pub(crate) packet: Option<u8>,
}

/// Signals found out under the lock, sent after it.
type Pending = Vec<(i32, i32)>;

impl Tty {
    /// A terminal with the usual modes and no window size.
    pub(crate) fn new(
        index: u32,
        locked: bool,
        other: impl FnOnce(&Weak<Tty>) -> Box<dyn OtherEnd>,
    ) -> Arc<Tty> {
        Arc::new_cyclic(|me| Tty {
            me: me.clone(),
            index,
            other: other(me),
            queue: Queue::new(),
            watchers: Watchers::new(),
            master_watchers: Watchers::new(),
            state: Mutex::new(State {
                termios: Termios::default(),
                winsize: Winsize::default(),
                line: Line::default(),
                output: Output::default(),
                session: None,
                foreground: 0,
                signaller: None,
                hung_up: false,
                exclusive: false,
                locked,
                opens: 0,
                was_open: false,
                crowded: false,
                packet: None,
            }),
        })
    }

    /// A handle of its own.
    pub(crate) fn handle(&self) -> Arc<Tty> {
        // `self` is only ever made inside an `Arc`, and is alive here.
        self.me
            .upgrade()
            .unwrap_or_else(|| unreachable!("a live terminal has a handle"))
    }

    /// Its device number.
    pub fn device_number(&self) -> u64 {
        abi::stat::makedev(136 + self.index / 256, self.index % 256)
    }

    /// The N of /dev/pts/N.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Typed bytes from the other end: as many as there is room for.
    pub(crate) fn input(&self, data: &[u8]) -> usize {
        let mut pending: Pending = Vec::new();
        let mut taken = 0;
        let mut s = self.state.lock();
        if s.hung_up {
            return data.len();
        }
        let was_stopped = s.output.stopped;
        let output = s.output.bytes.len();
        for c in data {
            let State {
                termios,
                line,
                output,
                ..
            } = &mut *s;
            if line.room(termios) == 0 {
                break;
            }
            taken += 1;
            match line.input(termios, output, *c) {
                Some(Effect::Signal(sig)) => {
                    if s.termios.input(libc::IXON) {
                        s.set_stopped(false);
                    }
                    let group = s.foreground;
                    pending.push((group, sig));
                }
                Some(Effect::Stop) => s.set_stopped(true),
                Some(Effect::Start) => s.set_stopped(false),
                None => {
                    if s.output.stopped && s.termios.input(libc::IXANY) {
                        s.set_stopped(false);
                    }
                }
            }
        }
        let signaller = s.signaller.clone();
        let readable = s.line.readable(&s.termios);
        let started = was_stopped && !s.output.stopped;
        let echoed = s.output.bytes.len() > output;
        drop(s);
        if started {
            self.queue.notify_all(Events::WRITABLE);
        }
        if let Some(signaller) = signaller {
            for (group, signal) in pending.into_iter().filter(|(g, _)| *g != 0) {
                signaller.signal_group(group, signal);
            }
        }
        if readable {
            self.queue.notify(Events::READABLE);
            self.watchers.tell(Reason::In);
        }
        self.other.output_ready(self);
        if echoed {
            self.master_watchers.tell(Reason::In);
        }
        taken
    }

    /// How many bytes [`Tty::input`] would take now.
    pub(crate) fn input_room(&self) -> usize {
        let s = self.state.lock();
        if s.hung_up {
            usize::MAX
        } else {
            s.line.room(&s.termios)
        }
    }

    /// Output for the other end, at most `max` bytes.
    pub(crate) fn take_output(&self, max: usize) -> Vec<u8> {
        let mut s = self.state.lock();
        let n = s.output.bytes.len().min(max);
        let taken: Vec<u8> = s.output.bytes.drain(..n).collect();
        let room = !taken.is_empty() && s.output.has_room();
        let awaited = room && std::mem::take(&mut s.crowded);
        drop(s);
        if room {
            self.queue.notify(Events::WRITABLE);
        }
        if awaited {
            self.watchers.tell(Reason::Out);
        }
        taken
    }

    /// Puts back what the other end could not take after all.
    pub(crate) fn return_output(&self, data: &[u8]) {
        let mut s = self.state.lock();
        for b in data.iter().rev() {
            s.output.bytes.push_front(*b);
        }
    }

    /// The other end is gone: reads end, writes fail, the session's leader hears of it. The
    /// foreground group does when the leader ends.
    pub(crate) fn hang_up(&self) {
        let mut s = self.state.lock();
        s.hung_up = true;
        s.line.flush();
        let (session, foreground, signaller) = s.leave_session();
        drop(s);
        if let (Some(signaller), Some(session)) = (signaller, session) {
            signaller.signal_session_leader(session.number, libc::SIGHUP);
            signaller.signal_session_leader(session.number, libc::SIGCONT);
            signaller.drop_terminal(session.number, foreground);
        }
        self.queue
            .notify_all(Events::READABLE | Events::WRITABLE | Events::HUP | Events::ERR);
    }

    /// A new window size; the foreground group gets `SIGWINCH` when it is one.
    pub fn resize(&self, size: Winsize) {
        let mut s = self.state.lock();
        if s.winsize == size {
            return;
        }
        s.winsize = size;
        let (group, signaller) = (s.foreground, s.signaller.clone());
        drop(s);
        if let Some(signaller) = signaller.filter(|_| group != 0) {
            signaller.signal_group(group, libc::SIGWINCH);
        }
    }

    /// Whether everything that programs wrote has been handed on, or can never be.
    pub fn is_drained(&self) -> bool {
        self.other.settle();
        let s = self.state.lock();
        s.hung_up || s.output.bytes.is_empty()
    }

    /// Hears of output that was handed on, and of the hang-up.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Tells the other end that output or packet-mode news may be there.
    pub(crate) fn kick(&self) {
        self.other.output_ready(self);
    }

    /// read(2) of the programs' side.
    pub(crate) fn read(&self, cx: &dyn Ctx, nonblocking: bool, dst: &mut Dst<'_>) -> SysResult {
        self.check_background_read(cx)?;
        let max = dst.remaining();
        if max == 0 {
            return Ok(0);
        }
        let mut first_at: Option<Instant> = None;
        loop {
            let (vmin, vtime, canonical) = self.read_mode();
            // How long to wait for the next byte (termios(3), "Canonical and noncanonical mode").
            let deadline = match (canonical, vtime) {
                (true, _) | (_, 0) => None,
                _ if vmin == 0 => Some(Instant::now() + vtime_span(vtime)),
                _ => first_at.map(|_| Instant::now() + vtime_span(vtime)),
            };
            let want = if canonical { 1 } else { vmin.min(max).max(1) };
            let seen = self.available();
            let outcome = wait_for(
                cx,
                &self.queue,
                Events::READABLE,
                deadline,
                Restart::Sys,
                || {
                    let s = self.state.lock();
                    if s.hung_up {
                        return Ok(Some(true));
                    }
                    let have = s.line.available(&s.termios);
                    let enough = if s.termios.local(libc::ICANON) {
                        s.line.readable(&s.termios)
                    } else {
                        have >= want || (vtime > 0 && vmin > 0 && have > seen)
                    };
                    if enough {
                        return Ok(Some(false));
                    }
                    if !canonical && vmin == 0 && vtime == 0 {
                        return Ok(Some(have == 0));
                    }
                    if nonblocking {
                        return if have > 0 && !canonical {
                            Ok(Some(false))
                        } else {
                            Err(Errno::EAGAIN.into())
                        };
                    }
                    Ok(None)
                },
            )?;
            let timed_out = outcome.is_none();
            if outcome == Some(true) {
                return Ok(0);
            }
            let have = self.available();
            if !canonical && vtime > 0 && vmin > 0 && have < want && !timed_out {
                first_at = Some(Instant::now());
                continue;
            }
            let mut s = self.state.lock();
            let State { termios, line, .. } = &mut *s;
            let data = line.take(termios, max);
            let room_again = line.room(termios) > 0;
            let more = line.readable(termios);
            drop(s);
            if more {
                // The next who waits to read was not woken for what is left.
                self.queue.pass_on(Events::READABLE);
            }
            if room_again {
                self.other.output_ready(self);
            }
            return Ok(dst.put(&data)?);
        }
    }

    fn read_mode(&self) -> (usize, u8, bool) {
        let s = self.state.lock();
        let cc = &s.termios.cc;
        (
            usize::from(cc[libc::VMIN]),
            cc[libc::VTIME],
            s.termios.local(libc::ICANON),
        )
    }

    fn available(&self) -> usize {
        let s = self.state.lock();
        s.line.available(&s.termios)
    }

    /// write(2) of the programs' side.
    pub(crate) fn write(&self, cx: &dyn Ctx, nonblocking: bool, src: &mut Src<'_>) -> SysResult {
        self.check_background_write(cx)?;
        let mut total = 0;
        let mut chunk = [0u8; 1024];
        loop {
            let n = src.take(&mut chunk)?;
            if n == 0 {
                return Ok(total);
            }
            let mut put = 0;
            while put < n {
                let step = wait_for(
                    cx,
                    &self.queue,
                    Events::WRITABLE,
                    None,
                    Restart::Sys,
                    || {
                        let mut s = self.state.lock();
                        if s.hung_up {
                            return Err(Errno::EIO.into());
                        }
                        let before = put;
                        let State {
                            termios, output, ..
                        } = &mut *s;
                        while put < n && output.has_room() {
                            output.put(termios, chunk[put]);
                            put += 1;
                        }
                        if put > before {
                            return Ok(Some(()));
                        }
                        s.crowded = true;
                        if nonblocking {
                            Err(Errno::EAGAIN.into())
                        } else {
                            Ok(None)
                        }
                    },
                );
                self.other.output_ready(self);
                if step.is_ok() {
                    self.master_watchers.tell(Reason::In);
                }
                match step {
                    Ok(_) => {}
                    Err(_) if total + put > 0 => return Ok(total + put),
                    Err(e) => return Err(e),
                }
            }
            total += n;
        }
    }

    /// What is ready, from the programs' side.
    pub(crate) fn ready(&self) -> Events {
        let s = self.state.lock();
        if s.hung_up {
            return Events::READABLE | Events::WRITABLE | Events::HUP | Events::ERR;
        }
        let mut e = Events::empty();
        let cc = &s.termios.cc;
        let enough = if s.termios.local(libc::ICANON) {
            s.line.readable(&s.termios)
        } else {
            let min = if cc[libc::VTIME] == 0 {
                usize::from(cc[libc::VMIN]).max(1)
            } else {
                1
            };
            s.line.available(&s.termios) >= min
        };
        if enough {
            e |= Events::READABLE;
        }
        if s.output.has_room() {
            e |= Events::WRITABLE;
        }
        e
    }
}

impl State {
    /// It is nobody's any more: whose it was, and who signals them.
    pub(crate) fn leave_session(
        &mut self,
    ) -> (Option<SessionId>, i32, Option<Arc<dyn GroupSignaller>>) {
        let session = self.session.take();
        let foreground = std::mem::take(&mut self.foreground);
        (session, foreground, self.signaller.take())
    }

    /// Stops or restarts output, and tells packet mode of it.
    pub(crate) fn set_stopped(&mut self, stop: bool) {
        if self.output.stopped == stop {
            return;
        }
        self.output.set_stopped(stop);
        if let Some(packet) = &mut self.packet {
            // TIOCPKT_STOP is 4, TIOCPKT_START is 8.
            *packet = (*packet & !0x0c) | if stop { 0x04 } else { 0x08 };
        }
    }
}

fn vtime_span(tenths: u8) -> Duration {
    Duration::from_millis(u64::from(tenths) * 100)
}

impl std::fmt::Debug for Tty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tty(pts/{})", self.index)
    }
}
