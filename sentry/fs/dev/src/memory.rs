//! /dev/null, /dev/zero, /dev/full, /dev/random, /dev/urandom (mem(4), random(4)).

use abi::Errno;
use abi::stat::makedev;
use ctx::{Ctx, Dst, Src, SysErr, SysResult, UserMemoryExt};
use std::any::Any;
use std::sync::Arc;
use vfs::sigio::Watchers;
use vfs::{DeviceRegistry, File, FileOps, FileType, OpenFlags, VfsPath, Written};

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Null,
    Zero,
    Full,
    Random,
}

/// Registers the drivers of the memory devices.
pub fn register_memory_devices(registry: &DeviceRegistry) {
    let all = [
        (3, Kind::Null),
        (5, Kind::Zero),
        (7, Kind::Full),
        (8, Kind::Random),
        (9, Kind::Random),
    ];
    for (minor, kind) in all {
        let open =
            move |_: &dyn Ctx, _: &VfsPath, _: OpenFlags| -> Result<Arc<dyn FileOps>, SysErr> {
                Ok(Arc::new(MemoryDevice(kind)))
            };
        registry.register(FileType::CharDevice, makedev(1, minor), Arc::new(open));
    }
}

/// Zeros that are put between two looks for a signal.
const ZEROS_AT_ONCE: usize = 1 << 20;

static RANDOM: Watchers = Watchers::new();

#[derive(Debug)]
struct MemoryDevice(Kind);

impl FileOps for MemoryDevice {
    fn stays_at_start(&self) -> bool {
        true
    }

    fn read(&self, cx: &dyn Ctx, _file: &File, _offset: u64, dst: &mut Dst<'_>) -> SysResult {
        match self.0 {
            Kind::Null => Ok(0),
            Kind::Zero | Kind::Full => fill(cx, dst, ZEROS_AT_ONCE, Dst::put_zeros),
            Kind::Random => {
                let mut buf = [0u8; 1024];
                fill(cx, dst, buf.len(), |dst, n| {
                    random(&mut buf[..n])?;
                    dst.put(&buf[..n])
                })
            }
        }
    }

    fn write(
        &self,
        _cx: &dyn Ctx,
        _file: &File,
        offset: u64,
        _append: bool,
        src: &mut Src<'_>,
    ) -> SysResult<Written> {
        let count = src.remaining();
        match self.0 {
            Kind::Full if count > 0 => Err(Errno::ENOSPC.into()),
            Kind::Random => {
                // Stirred into nothing of the host's, but read, so that a bad address is told.
                let mut buf = [0u8; 1024];
                let mut total = 0;
                loop {
                    let n = src.take(&mut buf)?;
                    total += n;
                    if n < buf.len() {
                        return Ok(Written {
                            count: total,
                            end: offset,
                        });
                    }
                }
            }
            _ => Ok(Written { count, end: offset }),
        }
    }

    fn size(&self, _cx: &dyn Ctx) -> Result<u64, Errno> {
        Ok(0)
    }

    fn maps_as_memory(&self) -> bool {
        self.0 == Kind::Zero
    }

    // Linux takes it, and tells when entropy is wanted: never.
    fn watchers(&self) -> [Option<&Watchers>; 2] {
        [(self.0 == Kind::Random).then_some(&RANDOM), None]
    }

    fn ioctl(&self, cx: &dyn Ctx, _file: &File, request: u32, arg: u64) -> SysResult<u64> {
        const RNDGETENTCNT: u32 = 0x8004_5200;
        match (self.0, request) {
            (Kind::Random, RNDGETENTCNT) => {
                cx.memory().write_obj(arg, &256i32)?;
                Ok(0)
            }
            (Kind::Random, _) => Err(Errno::EINVAL.into()),
            _ => Err(Errno::ENOTTY.into()),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Fills `dst` by `put`, at most `step` bytes at a time; less than all of it where memory ends, or
/// when a signal comes (random(4): a read beyond 256 bytes can be interrupted).
fn fill<'a>(
    cx: &dyn Ctx,
    dst: &mut Dst<'a>,
    step: usize,
    mut put: impl FnMut(&mut Dst<'a>, usize) -> Result<usize, Errno>,
) -> SysResult {
    let mut total = 0;
    while dst.remaining() > 0 {
        let n = dst.remaining().min(step);
        match put(dst, n) {
            Ok(done) => {
                total += done;
                if done < n {
                    break;
                }
            }
            Err(_) if total > 0 => break,
            Err(e) => return Err(e.into()),
        }
        if cx.interrupted() {
            break;
        }
    }
    Ok(total)
}

/// Bytes from the host's generator.
fn random(buf: &mut [u8]) -> Result<(), Errno> {
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
