//! A donated descriptor as an open file of the guest.

use crate::helper::Helper;
use crate::reactor::{Interest, Reactor, Token};
use abi::time::Timespec;
use abi::{Errno, libc};
use ctx::{Ctx, Dst, Restart, Src, SysErr, SysResult, UserMemoryExt, wait_for};
use nix::errno::Errno as HostErrno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use rustix::io::ReadWriteFlags;
use std::any::Any;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use vfs::{Attr, CURRENT, File, FileOps, FileType, Position, Written};
use wait::{Events, Queue};

/// How the host lets it be read without blocking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Never blocks; has a position, which is the host's own.
    Seekable,
    /// Pipes and sockets: `RWF_NOWAIT`.
    Stream,
    /// A terminal, or another device that may block.
    Helper,
}

/// What is appended in one piece; a longer write may have others' bytes in it.
const APPENDED_AT_ONCE: usize = 1 << 20;

/// A donated stream: a pipe, a file, a terminal of the caller's.
#[derive(Debug)]
pub struct HostFile {
    fd: Arc<OwnedFd>,
    kind: Kind,
    queue: Arc<Queue>,
    helper: Arc<Helper>,
    token: OnceLock<Token>,
}

impl HostFile {
    /// Takes `fd` in.
    pub fn new(reactor: &Arc<Reactor>, fd: OwnedFd) -> io::Result<Arc<HostFile>> {
        let stat = nix::sys::stat::fstat(&fd)?;
        let kind = match stat.st_mode & libc::S_IFMT {
            libc::S_IFREG | libc::S_IFBLK | libc::S_IFDIR => Kind::Seekable,
            libc::S_IFIFO | libc::S_IFSOCK => Kind::Stream,
            _ => Kind::Helper,
        };
        let fd = Arc::new(fd);
        let file = Arc::new(HostFile {
            fd: fd.clone(),
            kind,
            queue: Arc::default(),
            helper: Arc::default(),
            token: OnceLock::new(),
        });
        if kind != Kind::Seekable {
            let me: Arc<dyn Interest> = file.clone();
            // Some devices (/dev/null) are always ready and cannot be waited for.
            match reactor.register(fd.as_raw_fd() as u64, &fd, Arc::downgrade(&me)) {
                Ok(token) => drop(file.token.set(token)),
                Err(e) if e.raw_os_error() == Some(libc::EPERM) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(file)
    }

    /// The flags it was opened with on the host, as open(2) has them.
    pub fn host_flags(&self) -> i32 {
        nix::fcntl::fcntl(self.fd.as_fd(), nix::fcntl::FcntlArg::F_GETFL).unwrap_or(libc::O_RDWR)
    }

    fn arm(&self, events: Events) {
        if let Some(t) = self.token.get() {
            t.arm(events);
        }
    }

    /// A read that does not block: `None` where it would.
    fn try_read(&self, buf: &mut [u8]) -> Result<Option<usize>, Errno> {
        let mut iov = [IoSliceMut::new(buf)];
        match rustix::io::preadv2(&self.fd, &mut iov, u64::MAX, ReadWriteFlags::NOWAIT) {
            Ok(n) => Ok(Some(n)),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(e) => Err(Errno::from_host(e.raw_os_error())),
        }
    }

    fn try_write(&self, data: &[u8]) -> Result<Option<usize>, Errno> {
        if self.kind == Kind::Stream {
            let iov = [IoSlice::new(data)];
            return match rustix::io::pwritev2(&self.fd, &iov, u64::MAX, ReadWriteFlags::NOWAIT) {
                Ok(n) => Ok(Some(n)),
                Err(rustix::io::Errno::AGAIN) => Ok(None),
                Err(e) => Err(Errno::from_host(e.raw_os_error())),
            };
        }
        // A terminal that is ready takes some; one stopped with ^S is not ready.
        if !self
            .poll_now()
            .intersects(Events::OUT | Events::ERR | Events::HUP)
        {
            return Ok(None);
        }
        nix::unistd::write(self.fd.as_fd(), &data[..data.len().min(512)])
            .map(Some)
            .map_err(host)
    }

    /// Writes at the end, which the host finds: others may write there at the same time. Its own
    /// description need not have `O_APPEND`, which is the guest's to set and clear.
    fn append(&self, src: &mut Src<'_>) -> Result<usize, Errno> {
        let mut total = 0;
        let mut buf = vec![0u8; src.remaining().min(APPENDED_AT_ONCE)];
        loop {
            let n = match src.take(&mut buf) {
                Ok(0) => return Ok(total),
                Ok(n) => n,
                Err(_) if total > 0 => return Ok(total),
                Err(e) => return Err(e),
            };
            let iov = [IoSlice::new(&buf[..n])];
            match rustix::io::pwritev2(&self.fd, &iov, u64::MAX, ReadWriteFlags::APPEND) {
                Ok(put) => {
                    total += put;
                    if put < n {
                        return Ok(total);
                    }
                }
                Err(_) if total > 0 => return Ok(total),
                Err(e) => return Err(Errno::from_host(e.raw_os_error())),
            }
        }
    }

    fn poll_now(&self) -> Events {
        let mut p = [PollFd::new(
            self.fd.as_fd(),
            PollFlags::POLLIN | PollFlags::POLLOUT,
        )];
        match nix::poll::poll(&mut p, PollTimeout::ZERO) {
            Ok(_) => {
                let bits = p[0].revents().unwrap_or(PollFlags::empty()).bits();
                let mut e = Events::from_bits_truncate(bits as u32);
                if e.contains(Events::IN) {
                    e |= Events::READABLE;
                }
                if e.contains(Events::OUT) {
                    e |= Events::WRITABLE;
                }
                e
            }
            Err(_) => Events::ERR,
        }
    }
}

impl Position for HostFile {
    fn get(&self) -> u64 {
        nix::unistd::lseek(self.fd.as_fd(), 0, nix::unistd::Whence::SeekCur).map_or(0, |p| p as u64)
    }

    fn set(&self, to: u64) -> Result<(), Errno> {
        let at = i64::try_from(to).map_err(|_| Errno::EINVAL)?;
        nix::unistd::lseek(self.fd.as_fd(), at, nix::unistd::Whence::SeekSet).map_err(host)?;
        Ok(())
    }
}

/// The offset as the host's calls want it: `None` at the host's own position.
fn explicit(offset: u64) -> Option<u64> {
    (offset != CURRENT).then_some(offset)
}

impl Drop for HostFile {
    fn drop(&mut self) {
        self.helper.close();
    }
}

impl Interest for HostFile {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
    fn ready(&self, events: Events) {
        let mut events = events;
        if events.contains(Events::IN) {
            events |= Events::READABLE;
        }
        if events.contains(Events::OUT) {
            events |= Events::WRITABLE;
        }
        self.queue.notify(events);
    }
}

fn host(e: HostErrno) -> Errno {
    Errno::from_host(e as i32)
}

impl FileOps for HostFile {
    fn seekable(&self) -> bool {
        self.kind == Kind::Seekable
    }

    // The caller and those it started share the description: they and we go on where the other
    // stopped.
    fn own_position(&self) -> Option<&dyn Position> {
        (self.kind == Kind::Seekable).then_some(self)
    }

    fn read(&self, cx: &dyn Ctx, file: &File, offset: u64, dst: &mut Dst<'_>) -> SysResult {
        if self.kind == Kind::Seekable {
            let max = dst.remaining();
            return Ok(dst.put_from_host(self.fd.as_fd(), explicit(offset), max)?);
        }
        let mut buf = vec![0u8; dst.remaining().min(65536)];
        if buf.is_empty() {
            return Ok(0);
        }
        let got = wait_for(
            cx,
            &self.queue,
            Events::READABLE,
            None,
            Restart::Sys,
            || {
                let now: Option<Result<usize, SysErr>> = if self.kind == Kind::Stream {
                    self.try_read(&mut buf)?.map(Ok)
                } else {
                    self.helper.take(&self.fd, &self.queue, buf.len()).map(|r| {
                        let data = r.map_err(host)?;
                        buf[..data.len()].copy_from_slice(&data);
                        Ok(data.len())
                    })
                };
                match now {
                    Some(n) => n.map(Some),
                    None if file.nonblocking() => Err(Errno::EAGAIN.into()),
                    None => {
                        if self.kind == Kind::Stream {
                            self.arm(Events::IN);
                        }
                        Ok(None)
                    }
                }
            },
        )?;
        Ok(dst.put(&buf[..got.unwrap_or(0)])?)
    }

    fn write(
        &self,
        cx: &dyn Ctx,
        file: &File,
        offset: u64,
        append: bool,
        src: &mut Src<'_>,
    ) -> SysResult<Written> {
        if self.kind == Kind::Seekable {
            let count = if append {
                self.append(src)?
            } else {
                let max = src.remaining();
                src.take_to_host(self.fd.as_fd(), explicit(offset), max)?
            };
            return Ok(Written {
                count,
                end: offset.saturating_add(count as u64),
            });
        }
        let mut total = 0;
        let mut buf = vec![0u8; src.remaining().min(65536)];
        loop {
            let n = src.take(&mut buf)?;
            if n == 0 {
                return Ok(Written {
                    count: total,
                    end: 0,
                });
            }
            let mut put = 0;
            while put < n {
                let step = wait_for(
                    cx,
                    &self.queue,
                    Events::WRITABLE,
                    None,
                    Restart::Sys,
                    || match self.try_write(&buf[put..n])? {
                        Some(w) => Ok(Some(w)),
                        None if file.nonblocking() => Err(Errno::EAGAIN.into()),
                        None => {
                            self.arm(Events::OUT);
                            Ok(None)
                        }
                    },
                );
                match step {
                    Ok(w) => put += w.unwrap_or(0),
                    Err(_) if total + put > 0 => {
                        return Ok(Written {
                            count: total + put,
                            end: 0,
                        });
                    }
                    Err(SysErr::Errno(Errno::EPIPE)) => {
                        cx.raise(libc::SIGPIPE);
                        return Err(Errno::EPIPE.into());
                    }
                    Err(e) => return Err(e),
                }
            }
            total += n;
        }
    }

    fn size(&self, _cx: &dyn Ctx) -> Result<u64, Errno> {
        if self.kind != Kind::Seekable {
            return Err(Errno::ESPIPE);
        }
        Ok(nix::sys::stat::fstat(&*self.fd).map_err(host)?.st_size as u64)
    }

    fn ready(&self, _file: &File) -> Events {
        if self.kind == Kind::Seekable {
            return Events::READABLE | Events::WRITABLE;
        }
        let mut now = self.poll_now();
        if self.helper.has_data() {
            now |= Events::READABLE;
        }
        // Whoever asks may be about to wait: the reactor watches what is not ready.
        let missing = (Events::IN | Events::OUT) - now;
        if !missing.is_empty() {
            self.arm(missing);
        }
        now
    }

    fn queue(&self) -> Option<&Queue> {
        (self.kind != Kind::Seekable).then_some(&self.queue)
    }

    fn ioctl(&self, cx: &dyn Ctx, _file: &File, request: u32, arg: u64) -> SysResult<u64> {
        let mem = cx.memory();
        match u64::from(request) {
            libc::FIONREAD if self.kind == Kind::Stream => {
                let n = rustix::io::ioctl_fionread(&self.fd)
                    .map_err(|e| Errno::from_host(e.raw_os_error()))?;
                mem.write_obj(arg, &(n.min(i32::MAX as u64) as i32))?;
                Ok(0)
            }
            libc::TIOCGWINSZ if self.kind == Kind::Helper => {
                let w = rustix::termios::tcgetwinsize(&self.fd)
                    .map_err(|e| Errno::from_host(e.raw_os_error()))?;
                mem.write_obj(arg, &[w.ws_row, w.ws_col, w.ws_xpixel, w.ws_ypixel])?;
                Ok(0)
            }
            _ => Err(Errno::ENOTTY.into()),
        }
    }

    fn sync(&self, _cx: &dyn Ctx, _data_only: bool) -> Result<(), Errno> {
        if self.kind != Kind::Seekable {
            return Err(Errno::EINVAL);
        }
        nix::unistd::fsync(self.fd.as_fd()).map_err(host)
    }

    fn anonymous_attr(&self, _cx: &dyn Ctx) -> Option<Attr> {
        let s = nix::sys::stat::fstat(&*self.fd).ok()?;
        let kind = FileType::from_mode(s.st_mode)?;
        Some(Attr {
            dev: s.st_dev,
            ino: s.st_ino,
            kind,
            perm: s.st_mode & 0o7777,
            nlink: s.st_nlink,
            uid: 0,
            gid: 0,
            rdev: s.st_rdev,
            size: s.st_size as u64,
            blksize: s.st_blksize as u32,
            blocks: s.st_blocks as u64,
            atime: Timespec {
                sec: s.st_atime,
                nsec: s.st_atime_nsec,
            },
            mtime: Timespec {
                sec: s.st_mtime,
                nsec: s.st_mtime_nsec,
            },
            ctime: Timespec {
                sec: s.st_ctime,
                nsec: s.st_ctime_nsec,
            },
            btime: None,
        })
    }

    fn anonymous_name(&self) -> Option<Vec<u8>> {
        let s = nix::sys::stat::fstat(&*self.fd).ok()?;
        let label = match FileType::from_mode(s.st_mode)? {
            FileType::Fifo => "pipe",
            FileType::Socket => "socket",
            _ => "host",
        };
        Some(format!("{label}:[{}]", s.st_ino).into_bytes())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
