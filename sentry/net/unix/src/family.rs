//! The family's face towards the socket core.

use crate::socket::Connection;
use crate::{Address, UnixSocket};
use abi::{Errno, libc};
use ctx::{Ctx, Dst, Src, SysErr, SysResult};
use net::{Identity, Message, Received, RecvFlags, Shutdown, Socket, SocketKind};
use std::any::Any;
use std::sync::Arc;
use vfs::FsCtx;
use vfs::sigio::Watchers;
use wait::{Events, Queue};

impl Socket for UnixSocket {
    fn domain(&self) -> i32 {
        libc::AF_UNIX
    }
    fn kind(&self) -> SocketKind {
        self.kind
    }
    fn protocol(&self) -> i32 {
        0
    }
    fn bind(&self, cx: &dyn FsCtx, addr: &[u8]) -> Result<(), SysErr> {
        self.bind_to(cx, addr)
    }
    fn listen(&self, cx: &dyn Ctx, backlog: i32) -> Result<(), Errno> {
        self.start_listening(cx, backlog)
    }
    fn accept(&self, cx: &dyn Ctx, nonblocking: bool) -> SysResult<Arc<dyn Socket>> {
        Ok(self.accept_one(cx, nonblocking)?)
    }
    fn connect(&self, cx: &dyn FsCtx, addr: &[u8], nonblocking: bool) -> SysResult<()> {
        self.connect_to(cx, addr, nonblocking)
    }
    fn shutdown(&self, how: Shutdown) -> Result<(), Errno> {
        self.shut(how);
        Ok(())
    }
    fn local_name(&self) -> Result<Vec<u8>, Errno> {
        Ok(self.state.lock().address.to_raw())
    }
    fn peer_name(&self) -> Result<Vec<u8>, Errno> {
        match &self.state.lock().connection {
            Connection::To(_, name) | Connection::Gone(name) => Ok(name.to_raw()),
            Connection::None | Connection::Listening(_) => Err(Errno::ENOTCONN),
        }
    }

    fn send(&self, cx: &dyn Ctx, message: Message<'_>, src: &mut Src<'_>) -> SysResult {
        self.send_connected(cx, message, src)
    }

    fn send_to(&self, cx: &dyn FsCtx, message: Message<'_>, src: &mut Src<'_>) -> SysResult {
        let Some(to) = message.to else {
            return self.send_connected(cx, message, src);
        };
        if self.kind != SocketKind::Datagram {
            let connected = matches!(self.state.lock().connection, Connection::To(..));
            return match self.kind {
                SocketKind::SeqPacket => self.send_connected(cx, message, src),
                _ if connected => Err(Errno::EISCONN.into()),
                _ => Err(Errno::EOPNOTSUPP.into()),
            };
        }
        if message.flags.out_of_band {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let address = Address::parse(to)?;
        let peer = self.find(cx, &address)?;
        self.send_packet(cx, &peer, message, Identity::of(cx), src)
    }

    fn recv(&self, cx: &dyn Ctx, flags: RecvFlags, dst: &mut Dst<'_>) -> SysResult<Received> {
        self.receive(cx, flags, dst)
    }
    fn option(&self, cx: &dyn Ctx, level: i32, name: i32) -> Result<Vec<u8>, Errno> {
        self.get(cx, level, name)
    }
    fn set_option(&self, _cx: &dyn Ctx, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        self.set(level, name, value)
    }
    fn wants_credentials(&self) -> bool {
        self.state.lock().options.pass_creds
    }
    fn ready(&self) -> Events {
        self.ready_events()
    }
    fn queue(&self) -> &Queue {
        &self.queue
    }
    fn watchers(&self) -> &Watchers {
        &self.watchers
    }
    fn queued(&self) -> Result<(usize, usize), Errno> {
        let (own, listening) = {
            let s = self.state.lock();
            (
                match self.kind {
                    // Of datagrams, the next one's.
                    SocketKind::Datagram => s.inbox.first(),
                    SocketKind::Stream | SocketKind::SeqPacket => s.inbox.bytes(),
                },
                matches!(s.connection, Connection::Listening(_)),
            )
        };
        if listening {
            return Err(Errno::EINVAL);
        }
        let sent = self.peer().map_or(0, |p| p.state.lock().inbox.bytes());
        Ok((own, sent))
    }
    fn close(&self) {
        self.close_down();
    }
    fn ino(&self) -> u64 {
        self.ino
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
