//! Arguments by their kind.

use crate::{flags, text};
use ctx::{Ctx, Iovec, SysErr, UserMemoryExt};
use syscalls::table::Kind;
use task::TaskCx;

/// Elements of an array that are shown.
const ELEMENTS: usize = 8;

/// What the guest gives as argument `i`; `None` for what the call fills in.
pub(crate) fn input(cx: &TaskCx, kind: Kind, args: &[u64; 6], i: usize) -> Option<String> {
    let v = args.get(i).copied().unwrap_or(0);
    let next = args.get(i + 1).copied().unwrap_or(0);
    let low = u64::from(v as u32);
    Some(match kind {
        Kind::Out | Kind::OutStr | Kind::FdPair | Kind::Stat | Kind::WaitStatus => return None,
        Kind::TimespecOut | Kind::TimevalOut | Kind::PollFds => return None,
        Kind::Int | Kind::Fd => (v as i32).to_string(),
        Kind::Uint => (v as u32).to_string(),
        Kind::Long => (v as i64).to_string(),
        Kind::Size => v.to_string(),
        Kind::Hex => format!("{v:#x}"),
        Kind::Ptr => pointer(v),
        Kind::DirFd if v as i32 == abi::libc::AT_FDCWD => "AT_FDCWD".to_owned(),
        Kind::DirFd => (v as i32).to_string(),
        Kind::Path => string(cx, v),
        Kind::In => bytes(cx, v, next),
        Kind::Iov => vectors(cx, v, next),
        Kind::Mode if low == 0 => "0".to_owned(),
        Kind::Mode => format!("0{:o}", v as u32),
        Kind::Id if v as u32 == u32::MAX => "-1".to_owned(),
        Kind::Id => (v as u32).to_string(),
        Kind::Open => open_flags(low),
        Kind::Fcntl => flags::one(low, flags::FCNTL),
        Kind::AtFlags => flags::set(low, flags::AT),
        Kind::Access if low == 0 => "F_OK".to_owned(),
        Kind::Access => flags::set(low, flags::ACCESS),
        Kind::Whence => flags::one(low, flags::WHENCE),
        Kind::Prot if low == 0 => "PROT_NONE".to_owned(),
        Kind::Prot => flags::set(low, flags::PROT),
        Kind::Map => flags::set(low, flags::MAP),
        Kind::Clone => clone_flags(v),
        Kind::Signal if v as i32 == 0 => "0".to_owned(),
        Kind::Signal => text::signal(v as i32),
        Kind::Sigset => read(cx, v, |bits: u64| text::signals(bits)),
        Kind::Sigaction => read(cx, v, sigaction),
        Kind::SigHow => flags::one(low, flags::SIG_HOW),
        Kind::Argv => argv(cx, v),
        Kind::Envp => envp(cx, v),
        Kind::WaitOptions => flags::set(low, flags::WAIT),
        Kind::Timespec => read(cx, v, |[sec, nsec]: [i64; 2]| {
            format!("{{tv_sec={sec}, tv_nsec={nsec}}}")
        }),
        Kind::Timeval => read(cx, v, |[sec, usec]: [i64; 2]| {
            format!("{{tv_sec={sec}, tv_usec={usec}}}")
        }),
        Kind::Clock => flags::one(low, flags::CLOCK),
        Kind::Futex => futex(low),
        Kind::Prctl => flags::one(low, flags::PRCTL),
        Kind::Rlimit => flags::one(low, flags::RLIMIT),
        Kind::EpollOp => flags::one(low, flags::EPOLL_OP),
        Kind::EpollEvent => read(cx, v, |e: abi::file::EpollEvent| {
            let [a, b] = e.data;
            let data = u64::from(a) | u64::from(b) << 32;
            format!(
                "{{events={}, data={data:#x}}}",
                flags::set(u64::from(e.events), flags::EPOLL)
            )
        }),
        Kind::Family => flags::one(low, flags::FAMILY),
        Kind::SockType => socket_type(low),
        Kind::MsgFlags => flags::set(low, flags::MSG),
        Kind::Sockaddr => sockaddr(cx, v, next),
    })
}

/// What the call filled in as argument `i`: an address where it failed.
pub(crate) fn output(
    cx: &TaskCx,
    kind: Kind,
    args: &[u64; 6],
    i: usize,
    result: &Result<u64, SysErr>,
) -> String {
    let v = args.get(i).copied().unwrap_or(0);
    let next = args.get(i + 1).copied().unwrap_or(0);
    let Ok(value) = result else {
        return if kind == Kind::PollFds {
            poll_fds(cx, v, next, false)
        } else {
            pointer(v)
        };
    };
    match kind {
        Kind::Out => bytes(cx, v, *value),
        Kind::OutStr => string(cx, v),
        Kind::FdPair => read(cx, v, |[a, b]: [i32; 2]| format!("[{a}, {b}]")),
        Kind::Stat => read(cx, v, |s: abi::stat::Stat| {
            format!("{{st_mode=0{:o}, st_size={}, ...}}", s.mode, s.size)
        }),
        Kind::WaitStatus if *value == 0 => pointer(v),
        Kind::WaitStatus => read(cx, v, |status: i32| format!("[{status:#x}]")),
        Kind::TimespecOut => read(cx, v, |[sec, nsec]: [i64; 2]| {
            format!("{{tv_sec={sec}, tv_nsec={nsec}}}")
        }),
        Kind::TimevalOut => read(cx, v, |[sec, usec]: [i64; 2]| {
            format!("{{tv_sec={sec}, tv_usec={usec}}}")
        }),
        Kind::PollFds => poll_fds(cx, v, next, true),
        _ => pointer(v),
    }
}

fn pointer(v: u64) -> String {
    if v == 0 {
        "NULL".to_owned()
    } else {
        format!("{v:#x}")
    }
}

/// A structure, or its address where it cannot be read.
fn read<T>(cx: &TaskCx, addr: u64, show: impl FnOnce(T) -> String) -> String
where
    T: zerocopy::FromBytes + zerocopy::IntoBytes,
{
    match cx.memory().read_obj::<T>(addr) {
        Ok(value) if addr != 0 => show(value),
        _ => pointer(addr),
    }
}

fn string(cx: &TaskCx, addr: u64) -> String {
    if addr == 0 {
        return pointer(addr);
    }
    match cx.memory().read_cstr(addr, 4095) {
        Ok(Some(s)) => text::quoted(&s, false),
        _ => pointer(addr),
    }
}

fn bytes(cx: &TaskCx, addr: u64, len: u64) -> String {
    let mut buf = [0u8; text::SHOWN];
    let want = len.min(text::SHOWN as u64) as usize;
    match cx.memory().read_some(addr, &mut buf[..want]) {
        Ok(n) => text::quoted(&buf[..n], len > n as u64),
        Err(_) => pointer(addr),
    }
}

fn vectors(cx: &TaskCx, addr: u64, count: u64) -> String {
    let mut parts = Vec::new();
    for i in 0..count.min(ELEMENTS as u64) {
        let Ok(v) = cx.memory().read_obj::<Iovec>(addr.wrapping_add(i * 16)) else {
            return pointer(addr);
        };
        parts.push(format!("{{{}, {}}}", bytes(cx, v.base, v.len), v.len));
    }
    list(parts, count > ELEMENTS as u64)
}

fn list(parts: Vec<String>, more: bool) -> String {
    format!("[{}{}]", parts.join(", "), if more { ", ..." } else { "" })
}

/// The strings of a NULL-terminated array of pointers.
fn argv(cx: &TaskCx, addr: u64) -> String {
    let mut parts = Vec::new();
    for i in 0..=ELEMENTS as u64 {
        match cx.memory().read_obj::<u64>(addr.wrapping_add(i * 8)) {
            Ok(0) => return list(parts, false),
            Ok(p) => parts.push(string(cx, p)),
            Err(_) => return pointer(addr),
        }
    }
    parts.truncate(ELEMENTS);
    list(parts, true)
}

fn envp(cx: &TaskCx, addr: u64) -> String {
    let mut count = 0u64;
    while count < 4096 {
        match cx.memory().read_obj::<u64>(addr.wrapping_add(count * 8)) {
            Ok(p) if p != 0 => count += 1,
            _ => break,
        }
    }
    format!("{} /* {count} vars */", pointer(addr))
}

fn open_flags(v: u64) -> String {
    let access = match v & 3 {
        0 => "O_RDONLY",
        1 => "O_WRONLY",
        2 => "O_RDWR",
        _ => "O_ACCMODE",
    };
    match v & !3 {
        0 => access.to_owned(),
        rest => format!("{access}|{}", flags::set(rest, flags::OPEN)),
    }
}

fn clone_flags(v: u64) -> String {
    let (signal, bits) = (v & 0xff, v & !0xff);
    let bits = flags::set(bits, flags::CLONE);
    if signal == 0 {
        bits
    } else {
        format!("{bits}|{}", text::signal(signal as i32))
    }
}

fn sigaction(a: signal::SigAction) -> String {
    let handler = match a.handler {
        0 => "SIG_DFL".to_owned(),
        1 => "SIG_IGN".to_owned(),
        addr => format!("{addr:#x}"),
    };
    format!(
        "{{sa_handler={handler}, sa_mask={}, sa_flags={:#x}}}",
        text::signals(a.mask.bits()),
        a.flags
    )
}

fn futex(v: u64) -> String {
    const MODIFIERS: u64 = 0x180;
    let op = flags::one(v & !MODIFIERS, flags::FUTEX);
    match v & MODIFIERS {
        0 => op,
        m => format!("{op}|{}", flags::set(m, flags::FUTEX_FLAGS)),
    }
}

fn socket_type(v: u64) -> String {
    let kind = flags::one(v & 0xf, flags::SOCKET);
    match v & !0xf {
        0 => kind,
        rest => format!("{kind}|{}", flags::set(rest, flags::SOCKET_FLAGS)),
    }
}

fn sockaddr(cx: &TaskCx, addr: u64, len: u64) -> String {
    let mut raw = [0u8; 110];
    let want = len.min(raw.len() as u64) as usize;
    let Ok(n) = cx.memory().read_some(addr, &mut raw[..want]) else {
        return pointer(addr);
    };
    match raw.get(..n) {
        Some([a, b, name @ ..]) => {
            let family = flags::one(u64::from(u16::from_ne_bytes([*a, *b])), flags::FAMILY);
            let end = match name {
                [0, ..] => name.len(),
                _ => name.iter().position(|c| *c == 0).unwrap_or(name.len()),
            };
            format!(
                "{{sa_family={family}, {}}}",
                text::quoted(name.get(..end).unwrap_or(&[]), false)
            )
        }
        _ => pointer(addr),
    }
}

fn poll_fds(cx: &TaskCx, addr: u64, count: u64, after: bool) -> String {
    let mut parts = Vec::new();
    for i in 0..count.min(ELEMENTS as u64) {
        let Ok(p) = cx
            .memory()
            .read_obj::<abi::file::PollFd>(addr.wrapping_add(i * 8))
        else {
            return pointer(addr);
        };
        let wanted = flags::set(u64::from(p.events as u16), flags::POLL);
        if after && p.revents != 0 {
            let there = flags::set(u64::from(p.revents as u16), flags::POLL);
            parts.push(format!("{{fd={}, events={wanted}, revents={there}}}", p.fd));
        } else {
            parts.push(format!("{{fd={}, events={wanted}}}", p.fd));
        }
    }
    list(parts, count > ELEMENTS as u64)
}
