//! Sending and receiving.

use crate::flight;
use crate::inbox::{Inbox, Packet};
use crate::socket::Connection;
use crate::{Address, UnixSocket};
use abi::{Errno, libc};
use ctx::{Ctx, Dst, Restart, Src, SysErr, SysResult, wait_for};
use net::{Control, Identity, Message, Received, RecvFlags, SendFlags, SocketKind, timeout};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use vfs::sigio::Reason;
use wait::Events;

/// A stream is cut into pieces of at most this many bytes, so that a large write does not wait
/// for as large a room.
const PIECE: usize = 32 * 1024;

/// The longest message that a buffer of `limit` bytes lets through.
fn longest(limit: usize) -> usize {
    limit.saturating_sub(256)
}

impl UnixSocket {
    pub(crate) fn send_connected(
        &self,
        cx: &dyn Ctx,
        message: Message<'_>,
        src: &mut Src<'_>,
    ) -> SysResult {
        if message.flags.out_of_band {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let peer = match self.destination(src.remaining()) {
            Ok(p) => p,
            Err(e) => return Err(self.broken(cx, message.flags, e)),
        };
        let sender = Identity::of(cx);
        if self.is_stream() {
            self.send_stream(cx, &peer, message, sender, src)
        } else {
            self.send_packet(cx, &peer, message, sender, src)
        }
    }

    /// Who gets what is sent on a connected socket. What is told first is Linux's order, another
    /// for each type: a stream does not tell of an error before, a datagram's length comes before
    /// whom it is for.
    fn destination(&self, len: usize) -> Result<Arc<UnixSocket>, Errno> {
        let mut s = self.state.lock();
        let unconnected = matches!(s.connection, Connection::None | Connection::Listening(_));
        if self.is_stream() {
            if unconnected {
                return Err(Errno::ENOTCONN);
            }
        } else {
            if self.kind == SocketKind::SeqPacket {
                if let Some(e) = s.error.take() {
                    return Err(e);
                }
                if unconnected {
                    return Err(Errno::ENOTCONN);
                }
            }
            if len > longest(s.options.send_buffer) {
                return Err(Errno::EMSGSIZE);
            }
            if let Some(e) = s.error.take() {
                return Err(e);
            }
        }
        if s.write_shut {
            return Err(Errno::EPIPE);
        }
        let peer = match &s.connection {
            Connection::To(peer, _) => peer.upgrade(),
            Connection::Gone(_) => return Err(Errno::EPIPE),
            Connection::None | Connection::Listening(_) => return Err(Errno::ENOTCONN),
        };
        drop(s);
        peer.ok_or_else(|| self.lost())
    }

    /// The peer of a connected socket is found to be gone. A datagram socket is connected no more,
    /// and loses what the peer had sent.
    fn lost(&self) -> Errno {
        if self.kind != SocketKind::Datagram {
            return Errno::EPIPE;
        }
        let mut s = self.state.lock();
        s.connection = Connection::None;
        let unread = s.inbox.clear();
        drop(s);
        // Outside the lock: what is closed may be sockets themselves.
        flight::discard(unread);
        Errno::ECONNREFUSED
    }

    fn broken(&self, cx: &dyn Ctx, flags: SendFlags, e: Errno) -> SysErr {
        if e == Errno::EPIPE && !flags.no_signal && self.is_stream() {
            cx.raise(libc::SIGPIPE);
        }
        e.into()
    }

    fn send_stream(
        &self,
        cx: &dyn Ctx,
        peer: &Arc<UnixSocket>,
        message: Message<'_>,
        sender: Identity,
        src: &mut Src<'_>,
    ) -> SysResult {
        let Message {
            mut control, flags, ..
        } = message;
        let sockets = flight::has_sockets(&control.rights);
        let mut total = 0;
        let mut buf = vec![0u8; src.remaining().min(PIECE)];
        loop {
            let n = src.take(&mut buf)?;
            if n == 0 {
                return Ok(total);
            }
            let mut put = 0;
            while put < n {
                let step = self.with_room(cx, peer, flags, |inbox, limit| {
                    let room = inbox.room(limit);
                    if room == 0 {
                        return false;
                    }
                    let len = room.min(n - put);
                    inbox.push_stream(Packet {
                        data: buf[put..put + len].to_vec(),
                        taken: 0,
                        control: std::mem::take(&mut control),
                        sender: sender.clone(),
                        from: Address::Unnamed,
                    });
                    put += len;
                    true
                });
                match step {
                    // They went with the first piece.
                    Ok(()) if sockets && total + put > 0 => flight::landed(peer),
                    Ok(()) => {}
                    Err(_) if total + put > 0 => return Ok(total + put),
                    Err(SysErr::Errno(e)) => return Err(self.broken(cx, flags, e)),
                    Err(e) => return Err(e),
                }
            }
            total += n;
        }
    }

    /// Sends one message whole.
    pub(crate) fn send_packet(
        &self,
        cx: &dyn Ctx,
        peer: &Arc<UnixSocket>,
        message: Message<'_>,
        sender: Identity,
        src: &mut Src<'_>,
    ) -> SysResult {
        let (from, limit) = {
            let s = self.state.lock();
            (s.address.clone(), s.options.send_buffer)
        };
        if src.remaining() > longest(limit) {
            return Err(Errno::EMSGSIZE.into());
        }
        let mut data = vec![0u8; src.remaining()];
        let n = src.take(&mut data)?;
        data.truncate(n);
        let len = data.len();
        let sockets = flight::has_sockets(&message.control.rights);
        let mut packet = Some(Packet {
            data,
            taken: 0,
            control: message.control,
            sender,
            from,
        });
        let sent = self.with_room(cx, peer, message.flags, |inbox, limit| {
            if inbox.room(limit) < len.max(1) && !inbox.is_empty() {
                return false;
            }
            if let Some(p) = packet.take() {
                inbox.push(p);
            }
            true
        });
        match sent {
            Ok(()) => {
                if sockets {
                    flight::landed(peer);
                }
                Ok(len)
            }
            Err(SysErr::Errno(e)) => Err(self.broken(cx, message.flags, e)),
            Err(e) => Err(e),
        }
    }

    /// Runs `push` on the peer's inbox, blocking until it says that there was room.
    fn with_room(
        &self,
        cx: &dyn Ctx,
        peer: &Arc<UnixSocket>,
        flags: SendFlags,
        mut push: impl FnMut(&mut Inbox, usize) -> bool,
    ) -> SysResult<()> {
        let (limit, deadline) = {
            let s = self.state.lock();
            (s.options.send_buffer, timeout(s.options.send_timeout))
        };
        let done = wait_for(
            cx,
            &self.queue,
            Events::WRITABLE,
            deadline,
            Restart::Sys,
            || {
                let mut p = peer.state.lock();
                if p.closed {
                    drop(p);
                    return Err(self.refused_by(peer).into());
                }
                if p.read_shut {
                    return Err(Errno::EPIPE.into());
                }
                let pushed = push(&mut p.inbox, limit);
                drop(p);
                if pushed {
                    peer.queue.notify(Events::READABLE);
                    peer.tell_data();
                    return Ok(Some(()));
                }
                self.crowded.store(true, Ordering::Relaxed);
                // A datagram's receiver does not know who waits for it; it remembers.
                if flags.nonblocking {
                    Err(Errno::EAGAIN.into())
                } else {
                    Ok(None)
                }
            },
        )?;
        done.ok_or(Errno::EAGAIN.into())
    }

    /// `peer` is closed: that of a connection, or where a datagram was sent to.
    fn refused_by(&self, peer: &Arc<UnixSocket>) -> Errno {
        let own = self.peer().is_some_and(|p| Arc::ptr_eq(&p, peer));
        match self.kind {
            SocketKind::Datagram if !own => Errno::ECONNREFUSED,
            _ => self.lost(),
        }
    }

    pub(crate) fn receive(
        &self,
        cx: &dyn Ctx,
        flags: RecvFlags,
        dst: &mut Dst<'_>,
    ) -> SysResult<Received> {
        if flags.out_of_band {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let deadline = timeout(self.state.lock().options.receive_timeout);
        if matches!(
            self.state.lock().connection,
            Connection::None | Connection::Listening(_)
        ) && self.kind != SocketKind::Datagram
        {
            return Err(match self.is_stream() {
                true => Errno::EINVAL.into(),
                false => Errno::ENOTCONN.into(),
            });
        }
        if flags.peek && self.is_stream() {
            let max = dst.remaining();
            let seen = self.with_inbox(cx, flags, deadline, |inbox, pass_creds| {
                inbox.look(max, pass_creds)
            })?;
            let Some((data, control)) = seen.ok_or(Errno::EAGAIN)? else {
                return Ok(Received::default());
            };
            let count = dst.put(&data)?;
            return Ok(Received {
                count,
                full: count,
                from: None,
                control,
            });
        }
        let mut total = Received::default();
        loop {
            let step = self.with_inbox(cx, flags, deadline, |inbox, _| inbox.pop());
            let packet = match step {
                Ok(Some(Some(p))) => p,
                Ok(Some(None)) => return Ok(total),
                Ok(None) if total.count > 0 => return Ok(total),
                Ok(None) => return Err(Errno::EAGAIN.into()),
                Err(_) if total.count > 0 => return Ok(total),
                Err(e) => return Err(e),
            };
            if !self.is_stream() {
                return self.deliver_packet(cx, flags, packet, dst);
            }
            let more = self.deliver_stream(packet, dst, &mut total)?;
            let again = more || (flags.wait_all && dst.remaining() > 0);
            let have_more = !self.state.lock().inbox.is_empty();
            let blocked = !have_more && !flags.wait_all;
            if !again || blocked || dst.remaining() == 0 || !total.control.rights.is_empty() {
                if have_more {
                    // The next who waits to read was not woken for what is left.
                    self.queue.pass_on(Events::READABLE);
                }
                return Ok(total);
            }
        }
    }

    /// Runs `take` on the inbox, given whether credentials are asked for, blocking until it finds
    /// something. `None` inside is the end of what is sent, outside that the deadline has passed.
    fn with_inbox<T>(
        &self,
        cx: &dyn Ctx,
        flags: RecvFlags,
        deadline: Option<Instant>,
        mut take: impl FnMut(&mut Inbox, bool) -> Option<T>,
    ) -> SysResult<Option<Option<T>>> {
        let mut waited = false;
        let result = wait_for(
            cx,
            &self.queue,
            Events::READABLE,
            deadline,
            Restart::Sys,
            || {
                let mut s = self.state.lock();
                let pass_creds = s.options.pass_creds;
                // Of messages, an error is told before those that are still there.
                if !self.is_stream()
                    && let Some(e) = s.error.take()
                {
                    return Err(e.into());
                }
                if let Some(found) = take(&mut s.inbox, pass_creds) {
                    return Ok(Some(Some(found)));
                }
                if let Some(e) = s.error.take() {
                    return Err(e.into());
                }
                let ended = s.read_shut || matches!(s.connection, Connection::Gone(_));
                // As Linux: who would not wait for a datagram is not told that none will come.
                if ended && !(flags.nonblocking && self.kind == SocketKind::Datagram) {
                    return Ok(Some(None));
                }
                if flags.nonblocking {
                    return Err(Errno::EAGAIN.into());
                }
                if self.is_stream() {
                    waited = true;
                    self.awaited.store(true, Ordering::Relaxed);
                }
                Ok(None)
            },
        );
        if waited {
            self.awaited.store(false, Ordering::Relaxed);
        }
        result
    }

    fn deliver_packet(
        &self,
        _cx: &dyn Ctx,
        flags: RecvFlags,
        mut packet: Packet,
        dst: &mut Dst<'_>,
    ) -> SysResult<Received> {
        let result = dst.put(&packet.data);
        let pass_creds = self.state.lock().options.pass_creds;
        let received = result.map(|count| Received {
            count,
            full: packet.data.len(),
            from: match (&packet.from, self.kind) {
                (_, SocketKind::SeqPacket) => None,
                (a, _) => Some(a.to_raw()),
            },
            control: Control {
                rights: match flags.peek {
                    true => packet.control.rights.clone(),
                    false => std::mem::take(&mut packet.control.rights),
                },
                creds: pass_creds.then(|| packet.identity().clone()),
            },
        });
        if flags.peek {
            self.put_back(packet);
        } else {
            self.made_room();
        }
        Ok(received?)
    }

    /// Takes what fits of one piece of a stream. Returns whether the next piece may follow in the
    /// same call: not, for one who asks for credentials, across a change of sender. Descriptors
    /// come with the first byte of theirs, and end the call.
    fn deliver_stream(
        &self,
        mut packet: Packet,
        dst: &mut Dst<'_>,
        total: &mut Received,
    ) -> SysResult<bool> {
        let pass_creds = self.state.lock().options.pass_creds;
        let starts = total.count == 0;
        let sender = packet.identity().clone();
        if !starts && pass_creds && total.control.creds.as_ref() != Some(&sender) {
            self.put_back(packet);
            return Ok(false);
        }
        let put = match dst.put(packet.rest()) {
            Ok(n) => n,
            Err(e) => {
                self.put_back(packet);
                return if starts { Err(e.into()) } else { Ok(false) };
            }
        };
        if pass_creds {
            total.control.creds = Some(sender);
        }
        total.count += put;
        total.full += put;
        total.control.rights.append(&mut packet.control.rights);
        packet.taken += put;
        let whole = packet.rest().is_empty();
        if !whole {
            self.state.lock().inbox.unpop(packet);
        }
        self.made_room();
        Ok(whole)
    }

    /// What was taken from the inbox is not wanted yet.
    fn put_back(&self, packet: Packet) {
        let sockets = flight::has_sockets(&packet.control.rights);
        self.state.lock().inbox.unpop(packet);
        if sockets {
            flight::landed(self);
        }
    }

    /// Those who watch `peer`, which found no room here, are told once there is plenty: when what
    /// waits is down to a quarter.
    fn tell_room(&self, peer: &UnixSocket) {
        if !peer.crowded.load(Ordering::Relaxed) {
            return;
        }
        let limit = peer.state.lock().options.send_buffer;
        let waiting = self.state.lock().inbox.cost();
        if waiting <= limit / 4 && peer.crowded.swap(false, Ordering::Relaxed) {
            peer.watchers.tell(Reason::Out);
        }
    }

    /// Whoever sends to this socket may go on.
    fn made_room(&self) {
        match self.peer() {
            Some(peer) => {
                peer.queue.notify(Events::WRITABLE);
                self.tell_room(&peer);
            }
            None => self.queue.notify(Events::WRITABLE),
        }
    }
}
