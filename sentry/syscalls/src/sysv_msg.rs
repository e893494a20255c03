//! System V message queues.

use crate::user::Args;
use abi::Errno;
use ctx::{Ctx, SysResult, UserMemoryExt};
use ipc::Control;
use ipc::msg::{Message, QueueWords};
use task::TaskCx;

const STAT: i32 = 11;
const INFO: i32 = 12;
const STAT_ANY: i32 = 13;
/// Where the text is in `struct msgbuf`.
const TEXT: u64 = 8;

pub(crate) fn msgget(cx: &mut TaskCx, &[key, flags, ..]: &Args) -> SysResult<u64> {
    let msg = &cx.ipc().msg;
    Ok(msg.get(cx, key as i32, flags as i32)? as u64)
}

pub(crate) fn msgsnd(cx: &mut TaskCx, &[id, buf, size, flags, ..]: &Args) -> SysResult<u64> {
    let kind: i64 = cx.memory().read_obj(buf)?;
    let id = id as i32;
    if size > cx.ipc().limits.msgmax.size() as u64 || id < 0 || kind < 1 {
        return Err(Errno::EINVAL.into());
    }
    let mut text = vec![0; size as usize];
    cx.memory().read(buf.wrapping_add(TEXT), &mut text)?;
    let message = Message {
        kind,
        text: text.into(),
    };
    cx.ipc().msg.send(cx, id, message, flags as i32)?;
    Ok(0)
}

pub(crate) fn msgrcv(cx: &mut TaskCx, &[id, buf, size, kind, flags, _]: &Args) -> SysResult<u64> {
    let id = id as i32;
    if id < 0 || (size as i64) < 0 {
        return Err(Errno::EINVAL.into());
    }
    let msg = &cx.ipc().msg;
    let message = msg.receive(cx, id, size, kind as i64, flags as i32)?;
    // A message that has been taken and does not arrive is lost, as on Linux.
    cx.memory().write_obj(buf, &message.kind)?;
    let len = message.text.len().min(size as usize);
    let text = message.text.get(..len).unwrap_or_default();
    cx.memory().write(buf.wrapping_add(TEXT), text)?;
    Ok(len as u64)
}

pub(crate) fn msgctl(cx: &mut TaskCx, &[id, op, buf, ..]: &Args) -> SysResult<u64> {
    let (id, op) = (id as i32, op as i32);
    if id < 0 || op < 0 {
        return Err(Errno::EINVAL.into());
    }
    let msg = &cx.ipc().msg;
    let memory = cx.memory();
    match (Control::from_number(op), op) {
        (Some(Control::Info), _) | (_, INFO) => {
            let (words, highest) = msg.limits(op == INFO);
            memory.write_obj(buf, &words)?;
            Ok(u64::from(highest))
        }
        (Some(Control::Stat), _) => {
            let (_, words) = msg.stat(cx, id, false, true)?;
            memory.write_obj(buf, &words)?;
            Ok(0)
        }
        (_, STAT | STAT_ANY) => {
            let (id, words) = msg.stat(cx, id, true, op == STAT)?;
            memory.write_obj(buf, &words)?;
            Ok(id as u64)
        }
        (Some(Control::Set), _) => {
            let words: QueueWords = memory.read_obj(buf)?;
            msg.set(cx, id, &words)?;
            Ok(0)
        }
        (Some(Control::Remove), _) => {
            msg.remove(cx, id)?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}
