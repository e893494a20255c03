//! What is ready, and what a close does.

use crate::Address;
use crate::UnixSocket;
use crate::flight;
use crate::socket::Connection;
use abi::Errno;
use net::{Shutdown, SocketKind};
use std::sync::atomic::Ordering;
use wait::Events;

impl UnixSocket {
    pub(crate) fn ready_events(&self) -> Events {
        let s = self.state.lock();
        let mut e = Events::empty();
        if s.error.is_some() {
            e |= Events::ERR;
        }
        let peer = match &s.connection {
            Connection::Listening(b) => {
                if !b.waiting.is_empty() {
                    e |= Events::READABLE;
                }
                return e;
            }
            Connection::To(peer, _) => peer.upgrade(),
            Connection::Gone(_) => None,
            Connection::None => {
                if !s.inbox.is_empty() || s.read_shut {
                    e |= Events::READABLE;
                }
                e.set(Events::RDHUP, s.read_shut);
                // As Linux: an unconnected stream is hung up and, oddly, writable.
                let hung_up = self.kind != SocketKind::Datagram || (s.read_shut && s.write_shut);
                e.set(Events::HUP, hung_up);
                return e | Events::WRITABLE;
            }
        };
        let gone = peer.is_none();
        if !s.inbox.is_empty() || s.read_shut || (gone && self.kind != SocketKind::Datagram) {
            e |= Events::READABLE;
        }
        if s.read_shut || (gone && self.kind != SocketKind::Datagram) {
            e |= Events::RDHUP;
        }
        if (s.read_shut && s.write_shut) || (gone && self.kind != SocketKind::Datagram) {
            e |= Events::HUP;
        }
        let limit = s.options.send_buffer;
        drop(s);
        let room = match peer {
            Some(p) => p.state.lock().inbox.room(limit) > 0,
            None => true,
        };
        if !room {
            self.crowded.store(true, Ordering::Relaxed);
        }
        if room {
            e |= Events::WRITABLE;
        }
        e
    }

    /// shutdown(2): of one that is not connected too, as Linux has it for this family.
    pub(crate) fn shut(&self, how: Shutdown) {
        let (read, write) = (how != Shutdown::Write, how != Shutdown::Read);
        let peer = {
            let mut s = self.state.lock();
            let peer = match &s.connection {
                Connection::To(p, _) => p.upgrade(),
                _ => None,
            };
            s.read_shut |= read;
            s.write_shut |= write;
            peer
        };
        if let Some(peer) = peer.filter(|_| self.kind != SocketKind::Datagram) {
            let mut p = peer.state.lock();
            p.read_shut |= write;
            p.write_shut |= read;
            drop(p);
            peer.queue
                .notify_all(Events::READABLE | Events::WRITABLE | Events::RDHUP);
            match how {
                Shutdown::Both => peer.tell_hang_up(),
                Shutdown::Write => peer.tell_data(),
                Shutdown::Read => {}
            }
        }
        self.queue
            .notify_all(Events::READABLE | Events::WRITABLE | Events::RDHUP | Events::HUP);
    }

    /// The last descriptor is gone.
    pub(crate) fn close_down(&self) {
        let mut s = self.state.lock();
        s.closed = true;
        let unread = s.inbox.resets();
        let connection = std::mem::replace(&mut s.connection, Connection::Gone(Address::Unnamed));
        let left = s.inbox.clear();
        let address = std::mem::replace(&mut s.address, Address::Unnamed);
        drop(s);
        // Outside the lock: what is closed may be sockets themselves.
        flight::discard(left);
        if let Address::Abstract(name) = &address {
            self.names.release(name, self);
        }
        match connection {
            Connection::To(peer, _) if self.kind != SocketKind::Datagram => {
                if let Some(peer) = peer.upgrade() {
                    peer.peer_closed(unread);
                }
            }
            Connection::To(peer, _) => {
                if let Some(peer) = peer.upgrade() {
                    peer.queue.notify_all(Events::WRITABLE);
                }
            }
            Connection::Listening(backlog) => {
                for waiting in backlog.waiting {
                    waiting.close_down();
                }
            }
            Connection::None | Connection::Gone(_) => {}
        }
        self.queue
            .notify_all(Events::READABLE | Events::WRITABLE | Events::HUP);
        flight::closed();
    }

    /// The other side closed; `unread` says that it left what we had sent unread, which Linux
    /// reports as a reset.
    fn peer_closed(&self, unread: bool) {
        let mut s = self.state.lock();
        if let Connection::To(_, name) = &s.connection {
            s.connection = Connection::Gone(name.clone());
        }
        s.read_shut = true;
        s.write_shut = true;
        if unread {
            s.error = Some(Errno::ECONNRESET);
        }
        drop(s);
        self.queue
            .notify_all(Events::READABLE | Events::WRITABLE | Events::HUP | Events::RDHUP);
        self.tell_hang_up();
    }
}
