//! Socket options (socket(7), unix(7)).

use crate::UnixSocket;
use crate::socket::Connection;
use abi::time::Timeval;
use abi::{Errno, libc};
use ctx::Ctx;
use net::Ucred;
use std::time::Duration;
use zerocopy::{FromBytes, IntoBytes};

/// Smallest buffers that Linux grants (`SOCK_MIN_SNDBUF`, `SOCK_MIN_RCVBUF`).
const SEND_LEAST: usize = 4608;
const RECEIVE_LEAST: usize = 2304;

impl UnixSocket {
    pub(crate) fn get(&self, cx: &dyn Ctx, level: i32, name: i32) -> Result<Vec<u8>, Errno> {
        if level != libc::SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut s = self.state.lock();
        let number = match name {
            libc::SO_TYPE => self.kind as i32,
            libc::SO_DOMAIN => libc::AF_UNIX,
            libc::SO_PROTOCOL => 0,
            libc::SO_ERROR => s.error.take().map_or(0, Errno::code),
            libc::SO_ACCEPTCONN => i32::from(matches!(s.connection, Connection::Listening(_))),
            libc::SO_PASSCRED => i32::from(s.options.pass_creds),
            libc::SO_SNDBUF => s.options.send_buffer as i32,
            libc::SO_RCVBUF => s.options.receive_buffer as i32,
            libc::SO_REUSEADDR => i32::from(s.options.reuse_address),
            libc::SO_KEEPALIVE => i32::from(s.options.keep_alive),
            libc::SO_BROADCAST => i32::from(s.options.broadcast),
            libc::SO_PRIORITY => s.options.priority,
            libc::SO_RCVLOWAT => s.options.receive_low_water,
            libc::SO_SNDLOWAT => 1,
            libc::SO_DONTROUTE | libc::SO_OOBINLINE | libc::SO_TIMESTAMP | libc::SO_DEBUG => 0,
            libc::SO_LINGER => {
                let (on, seconds) = s.options.linger;
                return Ok([on, seconds].as_bytes().to_vec());
            }
            libc::SO_PEERCRED => {
                let none = Ucred {
                    pid: 0,
                    uid: u32::MAX,
                    gid: u32::MAX,
                };
                let peer = s.peer_creds.as_ref().map(|peer| peer.seen_by(cx));
                return Ok(peer.unwrap_or(none).as_bytes().to_vec());
            }
            libc::SO_SNDTIMEO => return Ok(timeval(s.options.send_timeout)),
            libc::SO_RCVTIMEO => return Ok(timeval(s.options.receive_timeout)),
            _ => return Err(Errno::ENOPROTOOPT),
        };
        Ok(number.as_bytes().to_vec())
    }

    pub(crate) fn set(&self, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        if level != libc::SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP);
        }
        let number = || {
            i32::read_from_prefix(value)
                .map(|v| v.0)
                .map_err(|_| Errno::EINVAL)
        };
        let on = || number().map(|n| n != 0);
        let buffer = |most: &sysctl::Knob, least: usize| {
            // Too much is as much as possible, and so is less than nothing; doubled for
            // bookkeeping, as socket(7) says.
            let most = most.size().min(i32::MAX as usize / 2);
            let wanted = (number()? as u32 as usize).min(most);
            Ok::<usize, Errno>((wanted * 2).max(least))
        };
        let mut s = self.state.lock();
        match name {
            libc::SO_PASSCRED => s.options.pass_creds = on()?,
            libc::SO_SNDBUF => s.options.send_buffer = buffer(&sysctl::WMEM_MAX, SEND_LEAST)?,
            libc::SO_RCVBUF => s.options.receive_buffer = buffer(&sysctl::RMEM_MAX, RECEIVE_LEAST)?,
            libc::SO_REUSEADDR => s.options.reuse_address = on()?,
            libc::SO_KEEPALIVE => s.options.keep_alive = on()?,
            libc::SO_BROADCAST => s.options.broadcast = on()?,
            libc::SO_PRIORITY => s.options.priority = number()?,
            libc::SO_RCVLOWAT => s.options.receive_low_water = number()?.max(1),
            libc::SO_LINGER => {
                let (v, _) = <[i32; 2]>::read_from_prefix(value).map_err(|_| Errno::EINVAL)?;
                s.options.linger = (i32::from(v[0] != 0), v[1]);
            }
            libc::SO_SNDTIMEO => s.options.send_timeout = duration(value)?,
            libc::SO_RCVTIMEO => s.options.receive_timeout = duration(value)?,
            libc::SO_DONTROUTE | libc::SO_OOBINLINE | libc::SO_TIMESTAMP => {
                number()?;
            }
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }
}

fn timeval(d: Option<Duration>) -> Vec<u8> {
    let d = d.unwrap_or_default();
    Timeval {
        sec: d.as_secs() as i64,
        usec: i64::from(d.subsec_micros()),
    }
    .as_bytes()
    .to_vec()
}

fn duration(value: &[u8]) -> Result<Option<Duration>, Errno> {
    let (t, _) = Timeval::read_from_prefix(value).map_err(|_| Errno::EINVAL)?;
    if !(0..1_000_000).contains(&t.usec) {
        return Err(Errno::EDOM);
    }
    if t.sec < 0 || (t.sec == 0 && t.usec == 0) {
        return Ok(None);
    }
    Ok(Some(Duration::new(t.sec as u64, t.usec as u32 * 1000)))
}
