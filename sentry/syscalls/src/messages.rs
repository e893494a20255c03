//! Messages of sockets, with what travels beside the bytes (cmsg(3)).

use crate::sockets::{ADDRESS_MAX, read_address, write_address};
use crate::user::{Args, MAX_RW_COUNT, file, iovecs, user_range};
use abi::Errno;
use abi::libc;
use abi::socket::{CmsgHdr, MmsgHdr, MsgHdr};
use abi::time::Timespec;
use auth::Capability;
use ctx::{Ctx, Dst, Iovec, Resource, Src, SysErr, SysResult, UserMemoryExt};
use net::{Control, Identity, Message, Received, RecvFlags, SendFlags, Ucred, socket_of};
use std::sync::Arc;
use std::time::{Duration, Instant};
use task::TaskCx;
use vfs::{File, FsCtx};
use zerocopy::{FromBytes, IntoBytes};

/// Descriptors in one message, at most (`SCM_MAX_FD`).
const MAX_RIGHTS: usize = 253;
/// Bytes of ancillary data that a sender may give (`net.core.optmem_max`).
const MAX_CONTROL: u64 = 131_072;
/// Messages in one sendmmsg(2) or recvmmsg(2), at most.
const MAX_BATCH: u64 = 1024;
const CMSG_HEADER: usize = size_of::<CmsgHdr>();

fn send_flags(flags: i32, file: &File) -> SendFlags {
    SendFlags {
        nonblocking: file.nonblocking() || flags & libc::MSG_DONTWAIT != 0,
        no_signal: flags & libc::MSG_NOSIGNAL != 0,
        out_of_band: flags & libc::MSG_OOB != 0,
    }
}

fn recv_flags(flags: i32, file: &File) -> RecvFlags {
    RecvFlags {
        nonblocking: file.nonblocking() || flags & libc::MSG_DONTWAIT != 0,
        peek: flags & libc::MSG_PEEK != 0,
        wait_all: flags & libc::MSG_WAITALL != 0,
        out_of_band: flags & libc::MSG_OOB != 0,
    }
}

pub(crate) fn sendto(cx: &mut TaskCx, &[fd, buf, len, flags, to, to_len]: &Args) -> SysResult<u64> {
    let len = len.min(MAX_RW_COUNT);
    user_range(buf, len)?;
    let file = file(cx, fd)?;
    let socket = socket_of(&file)?;
    let to = if to == 0 || to_len as i32 == 0 {
        None
    } else {
        Some(read_address(cx, to, to_len)?)
    };
    let message = Message {
        to: to.as_deref(),
        control: Control::default(),
        flags: send_flags(flags as i32, &file),
    };
    let mut src = Src::guest(cx.memory(), buf, len);
    let n = if message.to.is_some() {
        socket.send_to(cx, message, &mut src)?
    } else {
        socket.send(cx, message, &mut src)?
    };
    Ok(n as u64)
}

pub(crate) fn recvfrom(
    cx: &mut TaskCx,
    &[fd, buf, len, flags, from, from_len]: &Args,
) -> SysResult<u64> {
    let len = len.min(MAX_RW_COUNT);
    user_range(buf, len)?;
    let file = file(cx, fd)?;
    let socket = socket_of(&file)?;
    let mut dst = Dst::guest(cx.memory(), buf, len);
    let got = socket.recv(cx, recv_flags(flags as i32, &file), &mut dst)?;
    if from != 0 {
        write_address(cx, got.from.as_deref().unwrap_or(&[]), from, from_len)?;
    }
    Ok(told(&got, flags as i32) as u64)
}

/// The length told: with `MSG_TRUNC` the message's own.
fn told(got: &Received, flags: i32) -> usize {
    if flags & libc::MSG_TRUNC != 0 {
        got.full.max(got.count)
    } else {
        got.count
    }
}

pub(crate) fn sendmsg(cx: &mut TaskCx, &[fd, msg, flags, ..]: &Args) -> SysResult<u64> {
    let file = file(cx, fd)?;
    socket_of(&file)?;
    let hdr: MsgHdr = cx.memory().read_obj(msg)?;
    send_one(cx, &file, &hdr, flags as i32)
}

fn send_one(cx: &TaskCx, file: &Arc<File>, hdr: &MsgHdr, flags: i32) -> SysResult<u64> {
    let socket = socket_of(file)?;
    let to = match (hdr.name, hdr.namelen) {
        (0, _) | (_, 0) => None,
        // Unlike those of other calls, one that is too long is cut.
        (addr, len) => {
            let len = (len as i32).min(ADDRESS_MAX);
            Some(read_address(cx, addr, len as u64)?)
        }
    };
    let list = vectors(cx, hdr)?;
    let control = if hdr.controllen == 0 {
        Control::default()
    } else {
        read_control(cx, hdr.control, hdr.controllen)?
    };
    let message = Message {
        to: to.as_deref(),
        control,
        flags: send_flags(flags, file),
    };
    let mut src = Src::vectors(cx.memory(), &list);
    let n = if message.to.is_some() {
        socket.send_to(cx, message, &mut src)?
    } else {
        socket.send(cx, message, &mut src)?
    };
    Ok(n as u64)
}

/// The vectors of a message: too many are `EMSGSIZE` here.
fn vectors(cx: &TaskCx, hdr: &MsgHdr) -> Result<Vec<Iovec>, Errno> {
    if hdr.name != 0 && (hdr.namelen as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    if hdr.iovlen > libc::UIO_MAXIOV as u64 {
        return Err(Errno::EMSGSIZE);
    }
    iovecs(cx, hdr.iov, hdr.iovlen)
}

/// What a sender gives beside the bytes.
fn read_control(cx: &TaskCx, addr: u64, len: u64) -> Result<Control, Errno> {
    if len > MAX_CONTROL {
        return Err(Errno::ENOBUFS);
    }
    let mut bytes = vec![0; len as usize];
    cx.memory().read(addr, &mut bytes)?;
    let mut control = Control::default();
    let mut rest = bytes.as_slice();
    while rest.len() >= CMSG_HEADER {
        let Ok((hdr, _)) = CmsgHdr::read_from_prefix(rest) else {
            break;
        };
        let len = usize::try_from(hdr.len).map_err(|_| Errno::EINVAL)?;
        let data = rest.get(CMSG_HEADER..len).ok_or(Errno::EINVAL)?;
        if hdr.level == libc::SOL_SOCKET {
            match hdr.kind {
                libc::SCM_RIGHTS => take_rights(cx, data, &mut control)?,
                libc::SCM_CREDENTIALS => control.creds = Some(take_credentials(cx, data)?),
                _ => return Err(Errno::EINVAL),
            }
        }
        rest = rest.get(len.next_multiple_of(8)..).unwrap_or(&[]);
    }
    Ok(control)
}

fn take_rights(cx: &TaskCx, data: &[u8], control: &mut Control) -> Result<(), Errno> {
    let fds = cx.fd_table();
    for raw in data.chunks_exact(size_of::<i32>()) {
        if control.rights.len() >= MAX_RIGHTS {
            return Err(Errno::EINVAL);
        }
        let fd = i32::read_from_bytes(raw).map_err(|_| Errno::EINVAL)?;
        control.rights.push(fds.get_path_ok(fd)?);
    }
    Ok(())
}

/// Credentials that one may claim to have (unix(7)).
fn take_credentials(cx: &TaskCx, data: &[u8]) -> Result<Identity, Errno> {
    let claimed = Ucred::read_from_bytes(data).map_err(|_| Errno::EINVAL)?;
    let creds = cx.creds();
    let ns = &creds.user_ns;
    let (Some(uid), Some(gid)) = (ns.uid(claimed.uid), ns.gid(claimed.gid)) else {
        return Err(Errno::EINVAL);
    };
    let pid_ok =
        claimed.pid == cx.pid() || creds.has_in(cx.pid_namespace().owner(), Capability::SysAdmin);
    let uid_ok =
        [creds.ruid, creds.euid, creds.suid].contains(&uid) || creds.has_own(Capability::Setuid);
    let gid_ok =
        [creds.rgid, creds.egid, creds.sgid].contains(&gid) || creds.has_own(Capability::Setgid);
    if !pid_ok || !uid_ok || !gid_ok {
        return Err(Errno::EPERM);
    }
    Ok(Identity {
        pid: match claimed.pid == cx.pid() {
            true => cx.process_id(),
            false => cx.pid_called(claimed.pid).ok_or(Errno::ESRCH)?,
        },
        uid,
        gid,
    })
}

pub(crate) fn recvmsg(cx: &mut TaskCx, &[fd, msg, flags, ..]: &Args) -> SysResult<u64> {
    let file = file(cx, fd)?;
    socket_of(&file)?;
    let mut hdr: MsgHdr = cx.memory().read_obj(msg)?;
    let n = recv_one(cx, &file, &mut hdr, flags as i32)?;
    put_back(cx, msg, &hdr)?;
    Ok(n)
}

/// Stores what the call changes of a header, and nothing else of it.
fn put_back(cx: &TaskCx, addr: u64, hdr: &MsgHdr) -> Result<(), Errno> {
    let memory = cx.memory();
    if hdr.name != 0 {
        memory.write_obj(addr.wrapping_add(8), &hdr.namelen)?;
    }
    memory.write_obj(addr.wrapping_add(40), &hdr.controllen)?;
    memory.write_obj(addr.wrapping_add(48), &hdr.flags)
}

fn recv_one(cx: &TaskCx, file: &Arc<File>, hdr: &mut MsgHdr, flags: i32) -> SysResult<u64> {
    let socket = socket_of(file)?;
    let list = vectors(cx, hdr)?;
    let mut dst = Dst::vectors(cx.memory(), &list);
    let got = socket.recv(cx, recv_flags(flags, file), &mut dst)?;
    let mut out = flags & libc::MSG_CMSG_CLOEXEC;
    if got.full > got.count {
        out |= libc::MSG_TRUNC;
    }
    if hdr.name != 0 {
        let from = got.from.as_deref().unwrap_or(&[]);
        let n = from.len().min(hdr.namelen as usize);
        cx.memory().write(hdr.name, from.get(..n).unwrap_or(&[]))?;
        hdr.namelen = from.len() as u32;
    }
    let (used, cut) = write_control(cx, hdr, &got.control, socket.wants_credentials(), flags)?;
    if cut {
        out |= libc::MSG_CTRUNC;
    }
    hdr.controllen = used;
    hdr.flags = out as u32;
    Ok(told(&got, flags) as u64)
}

/// Hands out what came beside the bytes; returns the bytes used, and whether something had to be
/// left out.
fn write_control(
    cx: &TaskCx,
    hdr: &MsgHdr,
    control: &Control,
    creds: bool,
    flags: i32,
) -> Result<(u64, bool), Errno> {
    let mut out = ControlBuffer {
        cx,
        at: hdr.control,
        left: hdr.controllen,
        used: 0,
        cut: false,
    };
    if creds {
        let from = control.creds.as_ref().map(|from| from.seen_by(cx));
        let own = &cx.creds_ref().user_ns;
        let from = from.unwrap_or(Ucred {
            pid: 0,
            uid: own.shown_uid(auth::NO_ID),
            gid: own.shown_gid(auth::NO_ID),
        });
        out.put(libc::SCM_CREDENTIALS, from.as_bytes())?;
    }
    if !control.rights.is_empty() {
        let room = out.left.saturating_sub(CMSG_HEADER as u64) / 4;
        let fit = control.rights.len().min(room as usize);
        out.cut |= fit < control.rights.len();
        let cloexec = flags & libc::MSG_CMSG_CLOEXEC != 0;
        let mut numbers = Vec::with_capacity(fit);
        for file in control.rights.iter().take(fit) {
            match cx
                .fds()
                .insert(file.clone(), cloexec, 0, cx.limit(Resource::Nofile))
            {
                Ok(fd) => numbers.push(fd),
                Err(_) => {
                    out.cut = true;
                    break;
                }
            }
        }
        if !numbers.is_empty() {
            out.put(libc::SCM_RIGHTS, numbers.as_slice().as_bytes())?;
        }
    }
    Ok((out.used, out.cut))
}

struct ControlBuffer<'a> {
    cx: &'a TaskCx,
    at: u64,
    left: u64,
    used: u64,
    cut: bool,
}

impl ControlBuffer<'_> {
    fn put(&mut self, kind: i32, data: &[u8]) -> Result<(), Errno> {
        let header = CMSG_HEADER as u64;
        if self.left < header {
            self.cut = true;
            return Ok(());
        }
        let fits = (self.left - header).min(data.len() as u64);
        self.cut |= fits < data.len() as u64;
        let len = header + fits;
        let head = CmsgHdr {
            len,
            level: libc::SOL_SOCKET,
            kind,
        };
        self.cx.memory().write_obj(self.at, &head)?;
        self.cx.memory().write(
            self.at.wrapping_add(header),
            data.get(..fits as usize).unwrap_or(&[]),
        )?;
        let step = len.next_multiple_of(8).min(self.left);
        self.at = self.at.wrapping_add(step);
        self.left -= step;
        self.used += step;
        Ok(())
    }
}

/// Where element `i` of a batch lies.
fn element(base: u64, i: u64) -> u64 {
    base.wrapping_add(i * size_of::<MmsgHdr>() as u64)
}

pub(crate) fn sendmmsg(cx: &mut TaskCx, &[fd, vec, count, flags, ..]: &Args) -> SysResult<u64> {
    let file = file(cx, fd)?;
    socket_of(&file)?;
    let count = u64::from(count as u32).min(MAX_BATCH);
    let each = |i: u64| -> SysResult<()> {
        let at = element(vec, i);
        let msg: MmsgHdr = cx.memory().read_obj(at)?;
        let n = send_one(cx, &file, &msg.hdr, flags as i32)?;
        cx.memory().write_obj(at.wrapping_add(56), &(n as u32))?;
        Ok(())
    };
    batch(count, None, each)
}

pub(crate) fn recvmmsg(
    cx: &mut TaskCx,
    &[fd, vec, count, flags, timeout, _]: &Args,
) -> SysResult<u64> {
    let file = file(cx, fd)?;
    socket_of(&file)?;
    let deadline = match timeout {
        0 => None,
        addr => {
            let t: Timespec = cx.memory().read_obj(addr)?;
            Instant::now().checked_add(Duration::from_nanos(t.to_duration()?))
        }
    };
    let count = u64::from(count as u32).min(MAX_BATCH);
    let first_only = flags as i32 & libc::MSG_WAITFORONE != 0;
    let base = flags as i32 & !libc::MSG_WAITFORONE;
    let each = |i: u64| -> SysResult<()> {
        let at = element(vec, i);
        let mut msg: MmsgHdr = cx.memory().read_obj(at)?;
        let flags = if first_only && i > 0 {
            base | libc::MSG_DONTWAIT
        } else {
            base
        };
        let n = recv_one(cx, &file, &mut msg.hdr, flags)?;
        put_back(cx, at, &msg.hdr)?;
        cx.memory().write_obj(at.wrapping_add(56), &(n as u32))?;
        Ok(())
    };
    batch(count, deadline, each)
}

/// As many as go; an error counts only for the first.
fn batch(
    count: u64,
    deadline: Option<Instant>,
    mut each: impl FnMut(u64) -> Result<(), SysErr>,
) -> SysResult<u64> {
    for i in 0..count {
        match each(i) {
            Ok(()) => {}
            Err(e) if i == 0 => return Err(e),
            Err(_) => return Ok(i),
        }
        if deadline.is_some_and(|d| d <= Instant::now()) {
            return Ok(i + 1);
        }
    }
    Ok(count)
}
