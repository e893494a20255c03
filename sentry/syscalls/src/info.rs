//! The system: names, sizes, randomness.

use crate::control::{PER_LINUX32, PER_MASK, UNAME26};
use crate::user::{Args, MAX_RW_COUNT};
use abi::Errno;
use abi::libc;
use abi::system::{Sysinfo, Utsname};
use auth::Capability;
use ctx::{Ctx, SysResult, UserMemoryExt};
use task::TaskCx;

/// Bytes of a host or domain name, at most.
const NAME_MAX: i32 = 64;

fn padded(text: &[u8]) -> [u8; 65] {
    let mut field = [0; 65];
    let n = text.len().min(64);
    field[..n].copy_from_slice(&text[..n]);
    field
}

/// A release as programs are told it that know of version 2 alone: `6.6.0-x` is `2.6.66-x`.
fn as_version_two(release: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(release);
    let mut dots = 0;
    let numbers = text.find(|c: char| {
        dots += usize::from(c == '.');
        dots >= 3 || !(c.is_ascii_digit() || c == '.')
    });
    let (numbers, rest) = text.split_at(numbers.unwrap_or(text.len()));
    let minor = numbers.split('.').nth(1).and_then(|n| n.parse().ok());
    let minor = minor.unwrap_or(0u32).saturating_add(60);
    format!("2.6.{minor}{rest}").into_bytes()
}

#[test]
fn releases_as_of_version_two() {
    let told = |release: &str| String::from_utf8(as_version_two(release.as_bytes())).unwrap();
    assert_eq!(told("6.6.0-ringfence"), "2.6.66-ringfence");
    assert_eq!(told("6.6.7.8"), "2.6.66.8");
    assert_eq!(told("6.6"), "2.6.66");
    assert_eq!(told("x"), "2.6.60x");
}

pub(crate) fn uname(cx: &mut TaskCx, &[buf, ..]: &Args) -> SysResult<u64> {
    let uts = cx.uts().get();
    let persona = cx.personality();
    let name = Utsname {
        sysname: padded(&uts.sysname),
        nodename: padded(&uts.nodename),
        release: match persona & UNAME26 {
            0 => padded(&uts.release),
            _ => padded(&as_version_two(&uts.release)),
        },
        version: padded(&uts.version),
        machine: match persona & PER_MASK {
            PER_LINUX32 => padded(b"i686"),
            _ => padded(&uts.machine),
        },
        domainname: padded(&uts.domainname),
    };
    cx.memory().write_obj(buf, &name)?;
    Ok(0)
}

/// A new name, for the capable.
fn new_name(cx: &TaskCx, addr: u64, len: u64) -> Result<Vec<u8>, Errno> {
    if !cx.creds().has_in(cx.uts().owner(), Capability::SysAdmin) {
        return Err(Errno::EPERM);
    }
    let len = len as i32;
    if !(0..=NAME_MAX).contains(&len) {
        return Err(Errno::EINVAL);
    }
    let mut name = vec![0; len as usize];
    cx.memory().read(addr, &mut name)?;
    Ok(name)
}

pub(crate) fn sethostname(cx: &mut TaskCx, &[name, len, ..]: &Args) -> SysResult<u64> {
    let name = new_name(cx, name, len)?;
    cx.uts().update(|uts| uts.nodename = name);
    Ok(0)
}

pub(crate) fn setdomainname(cx: &mut TaskCx, &[name, len, ..]: &Args) -> SysResult<u64> {
    let name = new_name(cx, name, len)?;
    cx.uts().update(|uts| uts.domainname = name);
    Ok(0)
}

pub(crate) fn sysinfo(cx: &mut TaskCx, &[buf, ..]: &Args) -> SysResult<u64> {
    let kernel = cx.kernel();
    let tasks = kernel.task_count();
    let (total, used) = (cx.container().memory_limit(), cx.container().memory_used());
    let info = Sysinfo {
        uptime: cx.clocks().uptime().as_secs() as i64,
        // Fixed-point numbers with 16 bits behind the point.
        loads: cx.container().load().map(|l| (l * 65536.0) as u64),
        totalram: total,
        freeram: total.saturating_sub(used),
        procs: u16::try_from(tasks).unwrap_or(u16::MAX),
        mem_unit: 1,
        ..Sysinfo::default()
    };
    cx.memory().write_obj(buf, &info)?;
    Ok(0)
}

pub(crate) fn getrandom(cx: &mut TaskCx, &[buf, len, flags, ..]: &Args) -> SysResult<u64> {
    let flags = flags as u32;
    let known = libc::GRND_NONBLOCK | libc::GRND_RANDOM | libc::GRND_INSECURE;
    let both = libc::GRND_RANDOM | libc::GRND_INSECURE;
    if flags & !known != 0 || flags & both == both {
        return Err(Errno::EINVAL.into());
    }
    let len = len.min(MAX_RW_COUNT);
    crate::user::user_range(buf, len)?;
    let mut chunk = [0u8; 1024];
    let mut done = 0;
    while done < len {
        let part = &mut chunk[..(len - done).min(1024) as usize];
        fill_random(part)?;
        let at = buf.wrapping_add(done);
        match cx.memory().write_some(at, part) {
            Ok(n) => {
                done += n as u64;
                if n < part.len() {
                    break;
                }
            }
            Err(e) if done == 0 => return Err(e.into()),
            Err(_) => break,
        }
        if cx.interrupted() && done < len {
            break;
        }
    }
    Ok(done)
}

/// The host's randomness.
fn fill_random(buf: &mut [u8]) -> Result<(), Errno> {
    let mut filled = 0;
    while filled < buf.len() {
        match rustix::rand::getrandom(&mut buf[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Errno::from_host(e.raw_os_error())),
        }
    }
    Ok(())
}

/// A log without lines.
pub(crate) fn syslog(cx: &mut TaskCx, &[kind, buf, len, ..]: &Args) -> SysResult<u64> {
    const CLOSE: i32 = 0;
    const OPEN: i32 = 1;
    const READ: i32 = 2;
    const READ_ALL: i32 = 3;
    const READ_CLEAR: i32 = 4;
    const CONSOLE_LEVEL: i32 = 8;
    const SIZE_UNREAD: i32 = 9;
    const SIZE_BUFFER: i32 = 10;
    const BUFFER: u64 = 1 << 17;
    let kind = kind as i32;
    // Reading everything and asking for the size is everybody's (dmesg_restrict is off).
    if !matches!(kind, READ_ALL | SIZE_BUFFER) && !cx.creds().has(Capability::Syslog) {
        return Err(Errno::EPERM.into());
    }
    match kind {
        CLOSE | OPEN | SIZE_UNREAD => Ok(0),
        READ | READ_ALL | READ_CLEAR if buf == 0 || (len as i32) < 0 => Err(Errno::EINVAL.into()),
        READ_ALL => Ok(0),
        // Reading waits for a line, and none comes.
        READ if len as i32 == 0 => Ok(0),
        READ => loop {
            if cx.park(None) == ctx::Wake::Interrupted {
                return Err(ctx::Restart::Sys.into());
            }
        },
        CONSOLE_LEVEL if !(1..=8).contains(&(len as i32)) => Err(Errno::EINVAL.into()),
        // Clearing, and the console's level.
        4..=8 => Ok(0),
        SIZE_BUFFER => Ok(BUFFER),
        _ => Err(Errno::EINVAL.into()),
    }
}
