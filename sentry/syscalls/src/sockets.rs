//! Sockets, but for their messages: making, naming, connecting, options.

use crate::event_fds::{insert, insert_pair};
use crate::user::{Args, file};
use abi::Errno;
use abi::libc;
use ctx::{Ctx, SysResult, UserMemoryExt};
use net::{Identity, Shutdown, Socket, SocketFile, SocketKind, socket_of};
use net_unix::UnixSocket;
use std::sync::Arc;
use task::TaskCx;
use vfs::{File, OpenFlags};

/// `AF_MAX` and the last type of socket, as Linux bounds them.
const AF_MAX: i32 = 46;
const SOCK_PACKET: i32 = 10;
/// Bytes of `struct sockaddr_storage`.
pub(crate) const ADDRESS_MAX: i32 = 128;

/// The type argument with its two flags.
struct Type {
    kind: i32,
    nonblocking: bool,
    cloexec: bool,
}

impl Type {
    fn parse(word: u64) -> Result<Type, Errno> {
        const KIND: i32 = 0xf;
        let word = word as i32;
        if word & !(KIND | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) != 0 {
            return Err(Errno::EINVAL);
        }
        Ok(Type {
            kind: word & KIND,
            nonblocking: word & libc::SOCK_NONBLOCK != 0,
            cloexec: word & libc::SOCK_CLOEXEC != 0,
        })
    }

    fn open(&self, cx: &TaskCx, socket: Arc<dyn Socket>) -> Arc<File> {
        let mut flags = OpenFlags::RDWR;
        flags.set(OpenFlags::NONBLOCK, self.nonblocking);
        File::anonymous(cx, SocketFile::new(cx, socket), flags)
    }
}

/// Whether a Unix socket can be of that type and protocol.
fn unix_kind(domain: u64, kind: i32, protocol: u64) -> Result<SocketKind, Errno> {
    let domain = domain as i32;
    if !(0..AF_MAX).contains(&domain) {
        return Err(Errno::EAFNOSUPPORT);
    }
    if !(0..=SOCK_PACKET).contains(&kind) {
        return Err(Errno::EINVAL);
    }
    if domain != libc::AF_UNIX {
        return Err(Errno::EAFNOSUPPORT);
    }
    if protocol as i32 != 0 && protocol as i32 != libc::AF_UNIX {
        return Err(Errno::EPROTONOSUPPORT);
    }
    // unix(7): raw is taken for a datagram socket.
    let kind = if kind == libc::SOCK_RAW {
        libc::SOCK_DGRAM
    } else {
        kind
    };
    SocketKind::from_number(kind).ok_or(Errno::ESOCKTNOSUPPORT)
}

pub(crate) fn socket(cx: &mut TaskCx, &[domain, word, protocol, ..]: &Args) -> SysResult<u64> {
    let ty = Type::parse(word)?;
    let kind = unix_kind(domain, ty.kind, protocol)?;
    let socket = UnixSocket::new(kind, cx.net().unix_names());
    insert(cx, ty.open(cx, socket), ty.cloexec)
}

pub(crate) fn socketpair(
    cx: &mut TaskCx,
    &[domain, word, protocol, addr, ..]: &Args,
) -> SysResult<u64> {
    let ty = Type::parse(word)?;
    // Whether the two can be handed out is seen before the family is looked at.
    let there: [i32; 2] = cx.memory().read_obj(addr)?;
    cx.memory().write_obj(addr, &there)?;
    let kind = unix_kind(domain, ty.kind, protocol)?;
    let (a, b) = UnixSocket::pair(kind, cx.net().unix_names(), &Identity::of(cx));
    insert_pair(cx, [ty.open(cx, a), ty.open(cx, b)], ty.cloexec, addr)
}

/// An address the guest gives.
pub(crate) fn read_address(cx: &TaskCx, addr: u64, len: u64) -> Result<Vec<u8>, Errno> {
    let len = len as i32;
    if !(0..=ADDRESS_MAX).contains(&len) {
        return Err(Errno::EINVAL);
    }
    let mut raw = vec![0; len as usize];
    cx.memory().read(addr, &mut raw)?;
    Ok(raw)
}

/// Hands an address out, cut to the room there is; the length told is the true one.
pub(crate) fn write_address(
    cx: &TaskCx,
    raw: &[u8],
    addr: u64,
    len_addr: u64,
) -> Result<(), Errno> {
    let memory = cx.memory();
    let room: i32 = memory.read_obj(len_addr)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let n = room.min(raw.len());
    memory.write(addr, &raw[..n])?;
    memory.write_obj(len_addr, &(raw.len() as u32))
}

pub(crate) fn bind(cx: &mut TaskCx, &[fd, addr, len, ..]: &Args) -> SysResult<u64> {
    let file = file(cx, fd)?;
    let socket = socket_of(&file)?;
    let raw = read_address(cx, addr, len)?;
    socket.bind(cx, &raw)?;
    Ok(0)
}

pub(crate) fn connect(cx: &mut TaskCx, &[fd, addr, len, ..]: &Args) -> SysResult<u64> {
    let file = file(cx, fd)?;
    let raw = read_address(cx, addr, len)?;
    let socket = socket_of(&file)?;
    socket.connect(cx, &raw, file.nonblocking())?;
    Ok(0)
}

pub(crate) fn listen(cx: &mut TaskCx, &[fd, backlog, ..]: &Args) -> SysResult<u64> {
    let file = file(cx, fd)?;
    socket_of(&file)?.listen(cx, backlog as i32)?;
    Ok(0)
}

pub(crate) fn accept(cx: &mut TaskCx, &[fd, addr, len, ..]: &Args) -> SysResult<u64> {
    accept4(cx, &[fd, addr, len, 0, 0, 0])
}

pub(crate) fn accept4(cx: &mut TaskCx, &[fd, addr, len, word, ..]: &Args) -> SysResult<u64> {
    let listener = file(cx, fd)?;
    let word = word as i32;
    if word & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let accepted = socket_of(&listener)?.accept(cx, listener.nonblocking())?;
    let ty = Type {
        kind: 0,
        nonblocking: word & libc::SOCK_NONBLOCK != 0,
        cloexec: word & libc::SOCK_CLOEXEC != 0,
    };
    let peer = if addr != 0 {
        Some(accepted.peer_name()?)
    } else {
        None
    };
    let accepted = ty.open(cx, accepted);
    if let Some(peer) = peer {
        write_address(cx, &peer, addr, len)?;
    }
    insert(cx, accepted, ty.cloexec)
}

pub(crate) fn shutdown(cx: &mut TaskCx, &[fd, how, ..]: &Args) -> SysResult<u64> {
    let file = file(cx, fd)?;
    let socket = socket_of(&file)?;
    let how = match how as i32 {
        libc::SHUT_RD => Shutdown::Read,
        libc::SHUT_WR => Shutdown::Write,
        libc::SHUT_RDWR => Shutdown::Both,
        _ => return Err(Errno::EINVAL.into()),
    };
    socket.shutdown(how)?;
    Ok(0)
}

pub(crate) fn getsockname(cx: &mut TaskCx, &[fd, addr, len, ..]: &Args) -> SysResult<u64> {
    let file = file(cx, fd)?;
    let name = socket_of(&file)?.local_name()?;
    write_address(cx, &name, addr, len)?;
    Ok(0)
}

pub(crate) fn getpeername(cx: &mut TaskCx, &[fd, addr, len, ..]: &Args) -> SysResult<u64> {
    let file = file(cx, fd)?;
    let name = socket_of(&file)?.peer_name()?;
    write_address(cx, &name, addr, len)?;
    Ok(0)
}

/// Unix sockets have options of their own level alone, which is told before values are looked at.
fn own_level(level: u64) -> Result<(), Errno> {
    if level as i32 == libc::SOL_SOCKET {
        Ok(())
    } else {
        Err(Errno::EOPNOTSUPP)
    }
}

pub(crate) fn setsockopt(
    cx: &mut TaskCx,
    &[fd, level, name, value, len, _]: &Args,
) -> SysResult<u64> {
    let file = file(cx, fd)?;
    let socket = socket_of(&file)?;
    let len = usize::try_from(len as i32).map_err(|_| Errno::EINVAL)?;
    own_level(level)?;
    if len < size_of::<i32>() {
        return Err(Errno::EINVAL.into());
    }
    // No option of a family known here is longer than a page.
    let mut raw = vec![0; len.min(abi::page::PAGE_SIZE as usize)];
    cx.memory().read(value, &mut raw)?;
    socket.set_option(cx, level as i32, name as i32, &raw)?;
    Ok(0)
}

pub(crate) fn getsockopt(
    cx: &mut TaskCx,
    &[fd, level, name, value, len, _]: &Args,
) -> SysResult<u64> {
    let file = file(cx, fd)?;
    let socket = socket_of(&file)?;
    own_level(level)?;
    let memory = cx.memory();
    let room: i32 = memory.read_obj(len)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let raw = socket.option(cx, level as i32, name as i32)?;
    let n = room.min(raw.len());
    memory.write(value, &raw[..n])?;
    memory.write_obj(len, &(n as i32))?;
    Ok(0)
}
