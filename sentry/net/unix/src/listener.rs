//! bind, listen, accept, connect.

use crate::socket::{Backlog, Connection};
use crate::{Address, UnixSocket};
use abi::Errno;
use ctx::{Ctx, Restart, SysErr, SysResult, wait_for};
use net::{Identity, SocketKind, timeout};
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use vfs::{FsCtx, LookupFlags, Start};
use wait::Events;

impl UnixSocket {
    pub(crate) fn bind_to(&self, cx: &dyn FsCtx, addr: &[u8]) -> Result<(), SysErr> {
        let address = Address::parse(addr)?;
        let has_one = self.state.lock().address != Address::Unnamed;
        let bound = match address {
            // Autobind is for those that have no address yet.
            Address::Unnamed if has_one => return Ok(()),
            Address::Unnamed => Address::Abstract(self.names.bind_auto(&self.handle())?),
            Address::Abstract(_) if has_one => return Err(Errno::EINVAL.into()),
            Address::Abstract(name) => {
                self.names.bind(&name, &self.handle())?;
                Address::Abstract(name)
            }
            Address::Path(path) => {
                vfs::bind_socket(cx, Start::Cwd, &path, 0o777, self.handle())?;
                Address::Path(path)
            }
        };
        let mut s = self.state.lock();
        if s.address == Address::Unnamed {
            s.address = bound;
            return Ok(());
        }
        drop(s);
        // Another thread was quicker; or, with a path, it is found out only now, as on Linux,
        // which says first whether the name can be made at all.
        match bound {
            Address::Path(path) => vfs::unlink(cx, Start::Cwd, &path)?,
            Address::Abstract(name) => self.names.release(&name, self),
            Address::Unnamed => {}
        }
        Err(Errno::EINVAL.into())
    }

    pub(crate) fn start_listening(&self, cx: &dyn Ctx, backlog: i32) -> Result<(), Errno> {
        if self.kind == SocketKind::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        let limit = backlog.clamp(0, sysctl::SOMAXCONN.get() as i32) as usize;
        let mut s = self.state.lock();
        if s.address == Address::Unnamed {
            return Err(Errno::EINVAL);
        }
        let creds = Identity::of(cx);
        match &mut s.connection {
            Connection::Listening(b) => b.limit = limit,
            Connection::None => {
                s.connection = Connection::Listening(Backlog {
                    limit,
                    waiting: VecDeque::new(),
                    creds: creds.clone(),
                });
                s.peer_creds = Some(creds);
            }
            Connection::To(..) | Connection::Gone(_) => return Err(Errno::EINVAL),
        }
        drop(s);
        self.queue.notify_all(Events::WRITABLE);
        Ok(())
    }

    pub(crate) fn accept_one(&self, cx: &dyn Ctx, nonblocking: bool) -> SysResult<Arc<UnixSocket>> {
        if self.kind == SocketKind::Datagram {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let deadline = timeout(self.state.lock().options.receive_timeout);
        let accepted = wait_for(
            cx,
            &self.queue,
            Events::READABLE,
            deadline,
            Restart::Sys,
            || {
                let mut s = self.state.lock();
                let shut = s.read_shut;
                let Connection::Listening(b) = &mut s.connection else {
                    return Err(Errno::EINVAL.into());
                };
                match b.waiting.pop_front() {
                    Some(socket) => Ok(Some(socket)),
                    None if shut => Err(Errno::EINVAL.into()),
                    None if nonblocking => Err(Errno::EAGAIN.into()),
                    None => Ok(None),
                }
            },
        )?;
        // Those who wait for room in the backlog wait on our queue.
        self.queue.notify(Events::WRITABLE);
        let accepted = accepted.ok_or(Errno::EAGAIN)?;
        accepted.state.lock().listener = Weak::new();
        Ok(accepted)
    }

    /// The socket that listens or receives at `address`.
    pub(crate) fn find(
        &self,
        cx: &dyn FsCtx,
        address: &Address,
    ) -> Result<Arc<UnixSocket>, SysErr> {
        let found = match address {
            Address::Unnamed => return Err(Errno::EINVAL.into()),
            Address::Abstract(name) => self.names.find(name),
            Address::Path(path) => {
                let place = vfs::walk::resolve(cx, Start::Cwd, path, LookupFlags::FOLLOW)?;
                vfs::access::permission(cx, &cx.creds(), &place, vfs::access::WRITE)?;
                place
                    .inode()
                    .socket()
                    .and_then(|endpoint| endpoint.downcast::<UnixSocket>().ok())
            }
        };
        let found = found
            .filter(|s| !s.state.lock().closed)
            .ok_or(Errno::ECONNREFUSED)?;
        if found.kind != self.kind {
            return Err(Errno::EPROTOTYPE.into());
        }
        Ok(found)
    }

    pub(crate) fn connect_to(
        &self,
        cx: &dyn FsCtx,
        addr: &[u8],
        nonblocking: bool,
    ) -> SysResult<()> {
        if self.kind == SocketKind::Datagram {
            return self.connect_datagram(cx, addr);
        }
        let address = Address::parse(addr)?;
        let listener = self.find(cx, &address)?;
        let deadline = timeout(self.state.lock().options.send_timeout);
        let client = self.state.lock().address.clone();
        let connected = wait_for(
            cx,
            &listener.queue,
            Events::WRITABLE,
            deadline,
            Restart::Sys,
            || {
                match &self.state.lock().connection {
                    Connection::None => {}
                    Connection::Listening(_) => return Err(Errno::EINVAL.into()),
                    Connection::To(..) | Connection::Gone(_) => return Err(Errno::EISCONN.into()),
                }
                let server = UnixSocket::new(self.kind, &self.names);
                let mut l = listener.state.lock();
                let (closed, name) = (l.closed || l.read_shut, l.address.clone());
                let Connection::Listening(backlog) = &mut l.connection else {
                    return Err(Errno::ECONNREFUSED.into());
                };
                if closed {
                    return Err(Errno::ECONNREFUSED.into());
                }
                if backlog.waiting.len() > backlog.limit {
                    return if nonblocking {
                        Err(Errno::EAGAIN.into())
                    } else {
                        Ok(None)
                    };
                }
                let listener_creds = backlog.creds.clone();
                // Lock order: listener -> server, which nobody else knows yet.
                {
                    let mut s = server.state.lock_nested();
                    s.address = name.clone();
                    s.listener = Arc::downgrade(&listener);
                    s.connection = Connection::To(self.me.clone(), client.clone());
                    s.peer_creds = Some(Identity::of(cx));
                }
                backlog.waiting.push_back(server.clone());
                drop(l);
                let mut s = self.state.lock();
                s.connection = Connection::To(Arc::downgrade(&server), name);
                s.peer_creds = Some(listener_creds);
                Ok(Some(()))
            },
        )?;
        if connected.is_none() {
            return Err(Errno::EAGAIN.into());
        }
        listener.queue.notify(Events::READABLE);
        listener.tell_data();
        self.queue.notify_all(Events::WRITABLE);
        Ok(())
    }

    fn connect_datagram(&self, cx: &dyn FsCtx, addr: &[u8]) -> SysResult<()> {
        // AF_UNSPEC dissolves the association.
        if addr.get(..2) == Some(&[0, 0]) {
            self.state.lock().connection = Connection::None;
            return Ok(());
        }
        let address = Address::parse(addr)?;
        let peer = self.find(cx, &address)?;
        self.state.lock().connection = Connection::To(Arc::downgrade(&peer), address);
        Ok(())
    }
}
