//! poll(2), ppoll(2), select(2), pselect6(2).

use crate::control::STICKY_TIMEOUTS;
use crate::user::{Args, sigset};
use abi::Errno;
use abi::file::PollFd;
use abi::time::{Timespec, Timeval};
use ctx::{Ctx, Resource, Restart, SysErr, SysResult, UserMemoryExt};
use std::time::{Duration, Instant};
use task::TaskCx;
use vfs::{PollItem, Polled, poll_wait};
use wait::Events;

/// What a timeout argument says.
#[derive(Clone, Copy)]
enum Timeout {
    Never,
    /// `None` where the clock cannot tell so late a time.
    At(Option<Instant>),
}

impl Timeout {
    fn after(wait: Duration) -> Timeout {
        Timeout::At(Instant::now().checked_add(wait))
    }

    fn from_timespec(cx: &TaskCx, addr: u64) -> Result<Timeout, Errno> {
        if addr == 0 {
            return Ok(Timeout::Never);
        }
        let t: Timespec = cx.memory().read_obj(addr)?;
        Ok(Timeout::after(Duration::from_nanos(t.to_duration()?)))
    }

    fn deadline(self) -> Option<Instant> {
        match self {
            Timeout::Never => None,
            Timeout::At(at) => at,
        }
    }

    /// What is left of it.
    fn left(self) -> Duration {
        self.deadline().map_or(Duration::ZERO, |at| {
            at.saturating_duration_since(Instant::now())
        })
    }
}

pub(crate) fn poll(cx: &mut TaskCx, &[fds, count, timeout, ..]: &Args) -> SysResult<u64> {
    let timeout = match u64::try_from(timeout as i32) {
        Ok(ms) => Timeout::after(Duration::from_millis(ms)),
        Err(_) => Timeout::Never,
    };
    poll_until(cx, fds, count, timeout)
}

/// Polls, and goes on with what is left of the time when a signal without a handler came between.
fn poll_until(cx: &mut TaskCx, fds: u64, count: u64, timeout: Timeout) -> SysResult<u64> {
    match do_poll(cx, fds, count, timeout)? {
        Some(n) => Ok(n),
        None => cx.restart_with(Box::new(move |cx: &mut TaskCx| {
            poll_until(cx, fds, count, timeout)
        })),
    }
}

pub(crate) fn ppoll(
    cx: &mut TaskCx,
    &[fds, count, timeout, mask, size, _]: &Args,
) -> SysResult<u64> {
    let until = Timeout::from_timespec(cx, timeout)?;
    if let Some(mask) = sigset(cx, mask, size)? {
        cx.set_temporary_mask(mask);
    }
    let result = do_poll(cx, fds, count, until);
    give_back_timespec(cx, timeout, until);
    result?.ok_or(SysErr::Restart(Restart::NoHandler))
}

/// Whether timeouts are left as they are (personality(2)).
fn sticky(cx: &TaskCx) -> bool {
    cx.personality() & STICKY_TIMEOUTS != 0
}

/// Stores what is left of the time, if it can be stored.
fn give_back_timespec(cx: &TaskCx, addr: u64, until: Timeout) {
    if addr != 0 && !sticky(cx) {
        let left = Timespec::from_nanos(until.left().as_nanos() as i64);
        // A timeout in read-only memory is no error.
        let _ = cx.memory().write_obj(addr, &left);
    }
}

/// `None` where a signal came first.
fn do_poll(cx: &TaskCx, addr: u64, count: u64, timeout: Timeout) -> SysResult<Option<u64>> {
    let count = u64::from(count as u32);
    if count > cx.limit(Resource::Nofile) {
        return Err(Errno::EINVAL.into());
    }
    crate::user::user_range(addr, count * size_of::<PollFd>() as u64)?;
    let memory = cx.memory();
    let mut list = vec![PollFd::default(); count as usize];
    memory.read(addr, zerocopy::IntoBytes::as_mut_bytes(list.as_mut_slice()))?;
    let fds = cx.fd_table();
    let mut items: Vec<PollItem> = list
        .iter()
        .map(|p| {
            let wanted = Events::from_bits_truncate(u32::from(p.events as u16));
            if p.fd < 0 {
                return PollItem::new(None, wanted);
            }
            match fds.get(p.fd) {
                Ok(file) => PollItem::new(Some(file), wanted),
                Err(_) => PollItem {
                    file: None,
                    wanted,
                    ready: Events::NVAL,
                },
            }
        })
        .collect();
    let n = match poll_wait(cx, &mut items, timeout.deadline())? {
        Polled::Ready(n) => n as u64,
        Polled::TimedOut => 0,
        Polled::Interrupted => return Ok(None),
    };
    for (i, (p, item)) in list.iter_mut().zip(&items).enumerate() {
        p.revents = item.ready.bits() as u16 as i16;
        // Only revents is ours to store.
        let at = addr.wrapping_add(i as u64 * size_of::<PollFd>() as u64 + 6);
        memory.write_obj(at, &p.revents)?;
    }
    Ok(Some(n))
}

pub(crate) fn select(cx: &mut TaskCx, &[n, r, w, e, timeout, _]: &Args) -> SysResult<u64> {
    let until = match timeout {
        0 => Timeout::Never,
        addr => {
            let t: Timeval = cx.memory().read_obj(addr)?;
            // Seconds beyond their range of microseconds are carried, as Linux does.
            let sec = t
                .sec
                .checked_add(t.usec.div_euclid(1_000_000))
                .filter(|s| *s >= 0)
                .ok_or(Errno::EINVAL)?;
            if t.sec < 0 || t.usec < 0 {
                return Err(Errno::EINVAL.into());
            }
            let micros = t.usec.rem_euclid(1_000_000) as u64;
            Timeout::after(
                Duration::from_secs(sec as u64).saturating_add(Duration::from_micros(micros)),
            )
        }
    };
    let result = do_select(cx, n, [r, w, e], until);
    if timeout != 0 && !sticky(cx) {
        let left = until.left();
        let left = Timeval {
            sec: left.as_secs() as i64,
            usec: i64::from(left.subsec_micros()),
        };
        let _ = cx.memory().write_obj(timeout, &left);
    }
    result?.ok_or(SysErr::Restart(Restart::NoHandler))
}

pub(crate) fn pselect6(cx: &mut TaskCx, &[n, r, w, e, timeout, packed]: &Args) -> SysResult<u64> {
    let mask = match packed {
        0 => None,
        addr => {
            let [mask, size]: [u64; 2] = cx.memory().read_obj(addr)?;
            Some((mask, size))
        }
    };
    let until = Timeout::from_timespec(cx, timeout)?;
    if let Some((mask, size)) = mask
        && let Some(mask) = sigset(cx, mask, size)?
    {
        cx.set_temporary_mask(mask);
    }
    let result = do_select(cx, n, [r, w, e], until);
    give_back_timespec(cx, timeout, until);
    result?.ok_or(SysErr::Restart(Restart::NoHandler))
}

/// What makes a descriptor readable, writable and exceptional to select(2).
const CLASSES: [Events; 3] = [
    Events::IN
        .union(Events::RDNORM)
        .union(Events::RDBAND)
        .union(Events::HUP)
        .union(Events::ERR),
    Events::OUT
        .union(Events::WRNORM)
        .union(Events::WRBAND)
        .union(Events::ERR),
    Events::PRI,
];

/// Words of a set that hold `n` descriptors.
fn words(n: usize) -> usize {
    n.div_ceil(64)
}

/// A set of descriptors; a null pointer is none.
fn read_set(cx: &TaskCx, addr: u64, n: usize) -> Result<Vec<u64>, Errno> {
    let mut set = vec![0u64; words(n)];
    if addr != 0 {
        cx.memory()
            .read(addr, zerocopy::IntoBytes::as_mut_bytes(set.as_mut_slice()))?;
    }
    Ok(set)
}

fn has(set: &[u64], fd: usize) -> bool {
    set.get(fd / 64).is_some_and(|w| w & (1 << (fd % 64)) != 0)
}

/// `None` where a signal came first.
fn do_select(cx: &TaskCx, n: u64, addrs: [u64; 3], timeout: Timeout) -> SysResult<Option<u64>> {
    let n = usize::try_from(n as i32).map_err(|_| Errno::EINVAL)?;
    let fds = cx.fd_table();
    // Beyond the table's end no descriptor can be open: nothing there is looked at.
    let n = n.min(fds.size());
    let mut sets: [Vec<u64>; 3] = Default::default();
    for (set, addr) in sets.iter_mut().zip(addrs) {
        *set = read_set(cx, addr, n)?;
    }
    let mut items = Vec::new();
    let mut numbers = Vec::new();
    for fd in 0..n {
        let mut wanted = Events::empty();
        for (set, class) in sets.iter().zip(CLASSES) {
            if has(set, fd) {
                wanted |= class;
            }
        }
        if !wanted.is_empty() {
            items.push(PollItem::new(Some(fds.get(fd as i32)?), wanted));
            numbers.push(fd);
        }
    }
    // An error on a descriptor watched for exceptions alone is reported to poll, not to select.
    let deadline = timeout.deadline();
    let mut count = 0;
    let mut out: [Vec<u64>; 3] = std::array::from_fn(|_| vec![0; words(n)]);
    match poll_wait(cx, &mut items, deadline)? {
        Polled::Interrupted => return Ok(None),
        Polled::TimedOut => {}
        Polled::Ready(_) => {
            for (item, fd) in items.iter().zip(&numbers) {
                for ((set, out), class) in sets.iter().zip(&mut out).zip(CLASSES) {
                    if has(set, *fd)
                        && item.ready.intersects(class)
                        && let Some(word) = out.get_mut(fd / 64)
                    {
                        *word |= 1 << (fd % 64);
                        count += 1;
                    }
                }
            }
        }
    }
    for (out, addr) in out.iter().zip(addrs) {
        if addr != 0 {
            cx.memory()
                .write(addr, zerocopy::IntoBytes::as_bytes(out.as_slice()))?;
        }
    }
    Ok(Some(count))
}
