//! The ioctls of a terminal (ioctl_tty(2)), for both of its sides.

use crate::Tty;
use crate::termios::{TERMIOS_LEN, Termio, Termios, Winsize};
use abi::{Errno, libc};
use ctx::{Ctx, SessionId, SysResult, UserMemoryExt};
use zerocopy::IntoBytes;

const TCGETS: u32 = 0x5401;
const TCSETS: u32 = 0x5402;
const TCSETSF: u32 = 0x5404;
const TCGETA: u32 = 0x5405;
const TCSETA: u32 = 0x5406;
const TCSETAF: u32 = 0x5408;
const TCSBRK: u32 = 0x5409;
const TCXONC: u32 = 0x540a;
const TCFLSH: u32 = 0x540b;
const TIOCEXCL: u32 = 0x540c;
const TIOCNXCL: u32 = 0x540d;
const TIOCSCTTY: u32 = 0x540e;
const TIOCGPGRP: u32 = 0x540f;
const TIOCSPGRP: u32 = 0x5410;
const TIOCOUTQ: u32 = 0x5411;
const TIOCGWINSZ: u32 = 0x5413;
const TIOCSWINSZ: u32 = 0x5414;
const FIONREAD: u32 = 0x541b;
const TIOCPKT: u32 = 0x5420;
const TIOCNOTTY: u32 = 0x5422;
const TCSBRKP: u32 = 0x5425;
const TIOCGSID: u32 = 0x5429;
const TCGETS2: u32 = 0x802c_542a;
const TCSETS2: u32 = 0x402c_542b;
const TCSETSF2: u32 = 0x402c_542d;
const TIOCGPTN: u32 = 0x8004_5430;
const TIOCSPTLCK: u32 = 0x4004_5431;
const TIOCGPKT: u32 = 0x8004_5438;
const TIOCGPTLCK: u32 = 0x8004_5439;
const TIOCGEXCL: u32 = 0x8004_5440;
const TIOCSIG: u32 = 0x4004_5436;

const TIOCPKT_FLUSHREAD: u8 = 1;
const TIOCPKT_NOSTOP: u8 = 0x10;
const TIOCPKT_DOSTOP: u8 = 0x20;
const TIOCPKT_IOCTL: u8 = 0x40;

/// Which side of a pair a call comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Master,
    Slave,
}

/// What the caller calls a group or a session of the kernel that `session` is of; 0 for one of
/// another kernel than its own.
fn shown(cx: &dyn Ctx, session: SessionId, id: i32) -> i32 {
    let job = cx.job().filter(|j| j.session().space == session.space);
    job.map_or(0, |job| job.shown(id))
}

impl Tty {
    /// ioctl(2) on either side.
    pub(crate) fn ioctl(&self, cx: &dyn Ctx, side: Side, request: u32, arg: u64) -> SysResult<u64> {
        let mem = cx.memory();
        if side == Side::Slave && self.state.lock().hung_up {
            // Nothing is left that could be asked or set.
            return Err(match request {
                TIOCSPGRP => Errno::ENOTTY,
                _ => Errno::EIO,
            }
            .into());
        }
        match request {
            TCGETS => {
                let t = self.state.lock().termios;
                mem.write(arg, &t.as_bytes()[..TERMIOS_LEN])?;
            }
            TCGETS2 => {
                let t = self.state.lock().termios;
                mem.write_obj(arg, &t)?;
            }
            TCGETA => {
                let t = self.state.lock().termios;
                mem.write_obj(arg, &Termio::of(&t))?;
            }
            TCSETA..=TCSETAF => {
                let mut new = self.state.lock().termios;
                mem.read_obj::<Termio>(arg)?.put_into(&mut new);
                self.set_modes(cx, side, new, request - TCSETA)?;
            }
            TCSETS..=TCSETSF => {
                let mut new = self.state.lock().termios;
                mem.read(arg, &mut new.as_mut_bytes()[..TERMIOS_LEN])?;
                self.set_modes(cx, side, new, request - TCSETS)?;
            }
            TCSETS2..=TCSETSF2 => {
                let new: Termios = mem.read_obj(arg)?;
                self.set_modes(cx, side, new, request - TCSETS2)?;
            }
            TCSBRK | TCSBRKP => {
                if side == Side::Slave {
                    self.check_background_change(cx)?;
                }
                self.kick();
            }
            TCXONC => self.flow(cx, side, arg)?,
            TCFLSH => self.flush_queues(cx, side, arg)?,
            TIOCEXCL => self.state.lock().exclusive = true,
            TIOCNXCL => self.state.lock().exclusive = false,
            TIOCGEXCL => mem.write_obj(arg, &i32::from(self.state.lock().exclusive))?,
            TIOCSCTTY if side == Side::Slave => self.set_controlling(cx, arg == 1)?,
            TIOCNOTTY if side == Side::Slave => self.give_up(cx)?,
            TIOCGPGRP => {
                self.check_seen(cx, side)?;
                let (session, group) = self.foreground_group();
                let group = session.map_or(0, |session| shown(cx, session, group));
                mem.write_obj(arg, &group)?;
            }
            TIOCSPGRP => {
                let group: i32 = mem.read_obj(arg)?;
                self.set_foreground(cx, group)?;
            }
            TIOCGSID => {
                self.check_seen(cx, side)?;
                let session = self.state.lock().session.ok_or(Errno::ENOTTY)?;
                mem.write_obj(arg, &shown(cx, session, session.number))?;
            }
            TIOCGWINSZ => {
                let w = self.state.lock().winsize;
                mem.write_obj(arg, &w)?;
            }
            TIOCSWINSZ => {
                let w: Winsize = mem.read_obj(arg)?;
                self.resize(w);
            }
            TIOCOUTQ => {
                let n = match side {
                    Side::Slave => self.state.lock().output.bytes.len(),
                    Side::Master => 0,
                };
                mem.write_obj(arg, &(n as i32))?;
            }
            FIONREAD => {
                let s = self.state.lock();
                let n = match side {
                    Side::Slave => s.line.available(&s.termios),
                    Side::Master => s.output.bytes.len(),
                };
                drop(s);
                mem.write_obj(arg, &(n as i32))?;
            }
            _ if side == Side::Master => return self.master_ioctl(cx, request, arg),
            _ => return Err(Errno::ENOTTY.into()),
        }
        Ok(0)
    }

    fn master_ioctl(&self, cx: &dyn Ctx, request: u32, arg: u64) -> SysResult<u64> {
        let mem = cx.memory();
        match request {
            TIOCGPTN => mem.write_obj(arg, &self.index)?,
            TIOCSPTLCK => {
                let lock: i32 = mem.read_obj(arg)?;
                self.state.lock().locked = lock != 0;
            }
            TIOCGPTLCK => mem.write_obj(arg, &i32::from(self.state.lock().locked))?,
            TIOCPKT => {
                let on: i32 = mem.read_obj(arg)?;
                let mut s = self.state.lock();
                s.packet = match (on != 0, s.packet) {
                    (true, None) => Some(0),
                    (true, some) => some,
                    (false, _) => None,
                };
            }
            TIOCGPKT => mem.write_obj(arg, &i32::from(self.state.lock().packet.is_some()))?,
            TIOCSIG => {
                let signal = arg as i32;
                if ![libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP].contains(&signal) {
                    return Err(Errno::EINVAL.into());
                }
                let (group, signaller) = {
                    let s = self.state.lock();
                    (s.foreground, s.signaller.clone())
                };
                if let Some(signaller) = signaller.filter(|_| group != 0) {
                    signaller.signal_group(group, signal);
                }
            }
            _ => return Err(Errno::ENOTTY.into()),
        }
        Ok(0)
    }

    /// `TIOCGPGRP` and `TIOCGSID`: for the one whose terminal it is, and for the master.
    fn check_seen(&self, cx: &dyn Ctx, side: Side) -> Result<(), Errno> {
        if side == Side::Master || self.controls(cx) {
            Ok(())
        } else {
            Err(Errno::ENOTTY)
        }
    }

    /// `how` is 0 for now, 1 after draining output, 2 after draining and flushing input. Output
    /// is drained by handing it to the other end, which never refuses it for good.
    fn set_modes(&self, cx: &dyn Ctx, side: Side, new: Termios, how: u32) -> SysResult<()> {
        if side == Side::Slave {
            self.check_background_change(cx)?;
        }
        let mut s = self.state.lock();
        let old = s.termios;
        if how == 2 {
            s.line.flush();
        }
        s.line.modes_change(&old, &new);
        s.termios = new;
        if !new.input(libc::IXON) {
            s.set_stopped(false);
        }
        let flow = |t: &Termios| {
            t.input(libc::IXON) && t.cc[libc::VSTART] == 0x11 && t.cc[libc::VSTOP] == 0x13
        };
        if let Some(packet) = &mut s.packet {
            if flow(&old) != flow(&new) {
                *packet = (*packet & !(TIOCPKT_NOSTOP | TIOCPKT_DOSTOP))
                    | if flow(&new) {
                        TIOCPKT_DOSTOP
                    } else {
                        TIOCPKT_NOSTOP
                    };
            }
            if new.local(libc::EXTPROC) || old.local(libc::EXTPROC) {
                *packet |= TIOCPKT_IOCTL;
            }
        }
        let readable = s.line.readable(&s.termios);
        drop(s);
        if readable {
            self.queue.notify(wait::Events::READABLE);
        }
        self.queue.notify(wait::Events::WRITABLE);
        self.kick();
        Ok(())
    }

    /// tcflow(3)
    fn flow(&self, cx: &dyn Ctx, side: Side, arg: u64) -> SysResult<()> {
        if side == Side::Slave {
            self.check_background_change(cx)?;
        }
        let mut s = self.state.lock();
        match arg as i32 {
            libc::TCOOFF => s.set_stopped(true),
            libc::TCOON => s.set_stopped(false),
            libc::TCIOFF | libc::TCION => {
                let which = if arg as i32 == libc::TCIOFF {
                    libc::VSTOP
                } else {
                    libc::VSTART
                };
                let c = s.termios.cc[which];
                if c != 0 {
                    s.output.bytes.push_back(c);
                }
            }
            _ => return Err(Errno::EINVAL.into()),
        }
        drop(s);
        self.kick();
        self.queue.notify(wait::Events::WRITABLE);
        Ok(())
    }

    /// tcflush(3). What one side calls its input is the other's output.
    fn flush_queues(&self, cx: &dyn Ctx, side: Side, arg: u64) -> SysResult<()> {
        if side == Side::Slave {
            self.check_background_change(cx)?;
        }
        let (input, output) = match arg as i32 {
            libc::TCIFLUSH => (true, false),
            libc::TCOFLUSH => (false, true),
            libc::TCIOFLUSH => (true, true),
            _ => return Err(Errno::EINVAL.into()),
        };
        let (line, out) = if side == Side::Slave {
            (input, output)
        } else {
            (output, input)
        };
        let mut s = self.state.lock();
        if line {
            s.line.flush();
            if let Some(packet) = &mut s.packet {
                *packet |= TIOCPKT_FLUSHREAD;
            }
        }
        if out {
            s.output.clear();
        }
        drop(s);
        self.kick();
        self.queue.notify(wait::Events::WRITABLE);
        Ok(())
    }
}
