//! Calls that a container has no business with: refused as Linux refuses them to a task without
//! the capability.

use crate::user::Args;
use abi::Errno;
use ctx::SysResult;
use task::TaskCx;

pub(crate) fn eperm(_cx: &mut TaskCx, _args: &Args) -> SysResult<u64> {
    Err(Errno::EPERM.into())
}

pub(crate) fn acct(cx: &mut TaskCx, _args: &Args) -> SysResult<u64> {
    let capable = ctx::Ctx::creds(cx).has(auth::Capability::SysPacct);
    Err(if capable { Errno::ENOSYS } else { Errno::EPERM }.into())
}
