//! membarrier(2).

use crate::user::Args;
use abi::Errno;
use ctx::SysResult;
use task::TaskCx;

const QUERY: i32 = 0;
const GLOBAL: i32 = 1;
const GLOBAL_EXPEDITED: i32 = 1 << 1;
const REGISTER_GLOBAL: i32 = 1 << 2;
const PRIVATE: i32 = 1 << 3;
const REGISTER_PRIVATE: i32 = 1 << 4;
const SYNC_CORE: i32 = 1 << 5;
const REGISTER_SYNC_CORE: i32 = 1 << 6;
const REGISTRATIONS: i32 = 1 << 9;
/// All but those for restartable sequences, of which there are none.
const KNOWN: i32 = GLOBAL
    | GLOBAL_EXPEDITED
    | REGISTER_GLOBAL
    | PRIVATE
    | REGISTER_PRIVATE
    | SYNC_CORE
    | REGISTER_SYNC_CORE
    | REGISTRATIONS;

pub(crate) fn membarrier(cx: &mut TaskCx, &[op, flags, ..]: &Args) -> SysResult<u64> {
    let op = op as i32;
    if flags as u32 != 0 {
        return Err(Errno::EINVAL.into());
    }
    let registered = |what: i32| cx.mm().exec_info().barriers & what as u32 != 0;
    match op {
        QUERY => return Ok(KNOWN as u64),
        GLOBAL | GLOBAL_EXPEDITED => cx.barrier(true),
        PRIVATE if registered(REGISTER_PRIVATE) => cx.barrier(false),
        SYNC_CORE if registered(REGISTER_SYNC_CORE) => cx.barrier(false),
        PRIVATE | SYNC_CORE => return Err(Errno::EPERM.into()),
        REGISTER_GLOBAL | REGISTER_PRIVATE | REGISTER_SYNC_CORE => {
            cx.mm().update_exec_info(|info| info.barriers |= op as u32);
        }
        REGISTRATIONS => return Ok(u64::from(cx.mm().exec_info().barriers)),
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}
