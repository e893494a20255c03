//! System V semaphores.

use crate::user::Args;
use abi::Errno;
use abi::time::Timespec;
use ctx::{Ctx, SysResult, UserMemoryExt};
use ipc::Control;
use ipc::sem::{Ask, SemOp, SetWords};
use std::time::{Duration, Instant};
use task::TaskCx;
use zerocopy::IntoBytes;

const GETPID: i32 = 11;
const GETVAL: i32 = 12;
const GETALL: i32 = 13;
const GETNCNT: i32 = 14;
const GETZCNT: i32 = 15;
const SETVAL: i32 = 16;
const SETALL: i32 = 17;
const STAT: i32 = 18;
const INFO: i32 = 19;
const STAT_ANY: i32 = 20;

pub(crate) fn semget(cx: &mut TaskCx, &[key, count, flags, ..]: &Args) -> SysResult<u64> {
    let sem = &cx.ipc().sem;
    Ok(sem.get(cx, key as i32, count as i32, flags as i32)? as u64)
}

pub(crate) fn semop(cx: &mut TaskCx, &[id, ops, count, ..]: &Args) -> SysResult<u64> {
    operate(cx, id as i32, ops, count, None)
}

pub(crate) fn semtimedop(cx: &mut TaskCx, &[id, ops, count, timeout, ..]: &Args) -> SysResult<u64> {
    let timeout = match timeout {
        0 => None,
        at => Some(cx.memory().read_obj::<Timespec>(at)?),
    };
    operate(cx, id as i32, ops, count, timeout)
}

fn operate(
    cx: &TaskCx,
    id: i32,
    addr: u64,
    count: u64,
    timeout: Option<Timespec>,
) -> SysResult<u64> {
    // An unsigned int to Linux.
    let count = u64::from(count as u32);
    if count > cx.ipc().limits.semopm.size() as u64 {
        return Err(Errno::E2BIG.into());
    }
    let mut ops = vec![SemOp::default(); count as usize];
    cx.memory().read(addr, ops.as_mut_bytes())?;
    if count < 1 || id < 0 {
        return Err(Errno::EINVAL.into());
    }
    let deadline = match timeout {
        None => None,
        Some(t) => Instant::now().checked_add(Duration::from_nanos(t.to_duration()?)),
    };
    cx.ipc().sem.operate(cx, id, &ops, deadline)?;
    Ok(0)
}

pub(crate) fn semctl(cx: &mut TaskCx, &[id, num, op, arg, ..]: &Args) -> SysResult<u64> {
    let (id, num, op) = (id as i32, num as i32, op as i32);
    if id < 0 {
        return Err(Errno::EINVAL.into());
    }
    let sem = &cx.ipc().sem;
    let memory = cx.memory();
    let ask = |what| Ok(sem.ask(cx, id, num, what)? as u64);
    match (Control::from_number(op), op) {
        (Some(Control::Info), _) | (_, INFO) => {
            let (words, highest) = sem.limits(op == INFO);
            memory.write_obj(arg, &words)?;
            Ok(u64::from(highest))
        }
        (Some(Control::Stat), _) => {
            let (_, words) = sem.stat(cx, id, false, true)?;
            memory.write_obj(arg, &words)?;
            Ok(0)
        }
        (_, STAT | STAT_ANY) => {
            let (id, words) = sem.stat(cx, id, true, op == STAT)?;
            memory.write_obj(arg, &words)?;
            Ok(id as u64)
        }
        (Some(Control::Set), _) => {
            let words: SetWords = memory.read_obj(arg)?;
            sem.set(cx, id, &words)?;
            Ok(0)
        }
        (Some(Control::Remove), _) => {
            sem.remove(cx, id)?;
            Ok(0)
        }
        (_, GETVAL) => ask(Ask::Value),
        (_, GETPID) => ask(Ask::Pid),
        (_, GETNCNT) => ask(Ask::WaitingForMore),
        (_, GETZCNT) => ask(Ask::WaitingForZero),
        (_, GETALL) => {
            let values = sem.all(cx, id)?;
            memory.write(arg, values.as_bytes())?;
            Ok(0)
        }
        (_, SETVAL) => {
            sem.set_value(cx, id, num, arg as i32)?;
            Ok(0)
        }
        (_, SETALL) => {
            let mut values = vec![0u16; sem.size_to_set(cx, id)?];
            memory.read(arg, values.as_mut_bytes())?;
            sem.set_all(cx, id, &values)?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}
