//! Copying between address spaces: process_vm_readv(2) and process_vm_writev(2); advice
//! for others: process_madvise(2).

use crate::user::{Args, MAX_RW_COUNT, iovecs};
use abi::{Errno, libc};
use auth::Capability;
use ctx::{Ctx, Iovec, SysResult, UserMemory, UserMemoryExt};
use std::sync::Arc;
use task::{Ids, TaskCx};

/// Elements of an iovec array, at most.
const MAX_IOV: u64 = 1024;
/// Bytes copied at a time.
const CHUNK: u64 = 64 * 1024;

/// Which way the bytes go.
#[derive(Clone, Copy)]
enum Way {
    FromRemote,
    ToRemote,
}

pub(crate) fn process_vm_readv(cx: &mut TaskCx, args: &Args) -> SysResult<u64> {
    copy(cx, args, Way::FromRemote)
}

pub(crate) fn process_vm_writev(cx: &mut TaskCx, args: &Args) -> SysResult<u64> {
    copy(cx, args, Way::ToRemote)
}

/// Advice that is taken for another process.
const REMOTE_ADVICE: [i32; 4] = [
    libc::MADV_WILLNEED,
    libc::MADV_COLD,
    libc::MADV_PAGEOUT,
    libc::MADV_COLLAPSE,
];

pub(crate) fn process_madvise(
    cx: &mut TaskCx,
    &[pidfd, iov, count, advice, flags, _]: &Args,
) -> SysResult<u64> {
    if flags as u32 != 0 {
        return Err(Errno::EINVAL.into());
    }
    let ranges = iovecs(cx, iov, count)?;
    let group = cx.pidfd_group(crate::user::fd(pidfd))?;
    let task = group.any_thread().ok_or(Errno::ESRCH)?;
    task.mm().ok_or(Errno::ESRCH)?;
    let mm = task.look(cx, Ids::Real, || task.mm());
    let mm = mm.ok_or(Errno::EACCES)?.ok_or(Errno::ESRCH)?;
    let advice = advice as i32;
    if !Arc::ptr_eq(&mm, cx.mm()) {
        if !REMOTE_ADVICE.contains(&advice) {
            return Err(Errno::EINVAL.into());
        }
        if !cx.creds().has(Capability::SysNice) {
            return Err(Errno::EPERM.into());
        }
    }
    let mut done = 0;
    for range in ranges {
        match mm.madvise(range.base, range.len, advice) {
            Ok(()) => done += range.len,
            Err(_) if done > 0 => break,
            Err(e) => return Err(e.into()),
        }
    }
    Ok(done)
}

/// The other side's vectors: their addresses mean nothing here.
fn remote_vectors(cx: &TaskCx, addr: u64, count: u64) -> Result<Vec<Iovec>, Errno> {
    if count > MAX_IOV {
        return Err(Errno::EINVAL);
    }
    let at = |i: u64| {
        addr.checked_add(i * size_of::<Iovec>() as u64)
            .ok_or(Errno::EFAULT)
    };
    let list: Vec<Iovec> = (0..count)
        .map(|i| cx.memory().read_obj(at(i)?))
        .collect::<Result<_, Errno>>()?;
    if list.iter().any(|v| v.len > i64::MAX as u64) {
        return Err(Errno::EINVAL);
    }
    Ok(list)
}

fn copy(
    cx: &TaskCx,
    &[pid, local, local_count, remote, remote_count, flags]: &Args,
    way: Way,
) -> SysResult<u64> {
    if flags != 0 {
        return Err(Errno::EINVAL.into());
    }
    let local = iovecs(cx, local, local_count)?;
    if local.iter().all(|v| v.len == 0) {
        return Ok(0);
    }
    let remote = remote_vectors(cx, remote, remote_count)?;
    if remote.iter().all(|v| v.len == 0) {
        return Ok(0);
    }
    let task = cx.task_called(pid as i32).ok_or(Errno::ESRCH)?;
    let memory = task.look(cx, Ids::Real, || task.mm());
    let memory: Arc<dyn UserMemory> = memory.ok_or(Errno::EPERM)?.ok_or(Errno::ESRCH)?;
    let mut done = 0;
    let (mut ours, mut theirs) = (Walk::new(&local), Walk::new(&remote));
    while let (Some((mine, a)), Some((other, b))) = (ours.now(), theirs.now()) {
        let want = a.min(b).min(CHUNK).min(MAX_RW_COUNT - done);
        if want == 0 {
            break;
        }
        let (from, to): (&dyn UserMemory, &dyn UserMemory) = match way {
            Way::FromRemote => (&*memory, cx.memory()),
            Way::ToRemote => (cx.memory(), &*memory),
        };
        let (from_addr, to_addr) = match way {
            Way::FromRemote => (other, mine),
            Way::ToRemote => (mine, other),
        };
        let mut chunk = vec![0u8; want as usize];
        let moved = from
            .read_some(from_addr, &mut chunk)
            .and_then(|n| to.write_some(to_addr, chunk.get(..n).unwrap_or(&[])));
        match moved {
            Ok(n) => {
                done += n as u64;
                ours.step(n as u64);
                theirs.step(n as u64);
                if (n as u64) < want {
                    break;
                }
            }
            Err(e) if done == 0 => return Err(e.into()),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// A place in a list of vectors.
struct Walk<'a> {
    list: &'a [Iovec],
    skip: u64,
}

impl<'a> Walk<'a> {
    fn new(list: &'a [Iovec]) -> Walk<'a> {
        let mut walk = Walk { list, skip: 0 };
        walk.step(0);
        walk
    }

    /// Address and bytes left of the present vector.
    fn now(&self) -> Option<(u64, u64)> {
        let v = self.list.first()?;
        Some((v.base.wrapping_add(self.skip), v.len - self.skip))
    }

    /// Goes on by `n` bytes, which the present vector has.
    fn step(&mut self, n: u64) {
        self.skip += n;
        while let [first, rest @ ..] = self.list
            && self.skip >= first.len
        {
            self.list = rest;
            self.skip = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_vectors_are_passed_over() {
        let list = [
            Iovec { base: 1, len: 0 },
            Iovec { base: 16, len: 4 },
            Iovec { base: 64, len: 0 },
        ];
        let mut walk = Walk::new(&list);
        assert_eq!(walk.now(), Some((16, 4)));
        walk.step(3);
        assert_eq!(walk.now(), Some((19, 1)));
        walk.step(1);
        assert_eq!(walk.now(), None);
    }
}
