//! getdents64(2) and getdents(2).

use crate::notify::{self, Happened};
use crate::{DirSink, File, FileType};
use abi::Errno;
use ctx::{Ctx, Dst, SysResult};

/// The layout of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirentFormat {
    /// `struct linux_dirent`: the type is the record's last byte.
    Old,
    /// `struct linux_dirent64`.
    New,
}

/// A listing is gathered here first, so that no guest memory is touched under a file system's
/// locks.
struct Gather {
    format: DirentFormat,
    room: usize,
    bytes: Vec<u8>,
    full: bool,
}

impl DirSink for Gather {
    fn entry(&mut self, name: &[u8], ino: u64, kind: FileType, next: u64) -> bool {
        let header = match self.format {
            DirentFormat::Old => 18,
            DirentFormat::New => 19,
        };
        // Name and NUL, and the type of the old format behind them.
        let tail = match self.format {
            DirentFormat::Old => 2,
            DirentFormat::New => 1,
        };
        let len = (header + name.len() + tail).next_multiple_of(8);
        if self.bytes.len() + len > self.room {
            self.full = true;
            return false;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&ino.to_ne_bytes());
        self.bytes.extend_from_slice(&next.to_ne_bytes());
        self.bytes.extend_from_slice(&(len as u16).to_ne_bytes());
        if self.format == DirentFormat::New {
            self.bytes.push(kind.dirent_type());
        }
        self.bytes.extend_from_slice(name);
        self.bytes.resize(start + len, 0);
        if self.format == DirentFormat::Old
            && let Some(last) = self.bytes.last_mut()
        {
            *last = kind.dirent_type();
        }
        true
    }
}

impl File {
    /// Lists entries from the position on into `dst`; 0 bytes at the end.
    ///
    /// # Errors
    /// `EBADF`, `ENOTDIR`; `ENOENT` where the directory was removed; `EINVAL` where not even the
    /// first entry fits.
    pub fn getdents(&self, cx: &dyn Ctx, format: DirentFormat, dst: &mut Dst<'_>) -> SysResult {
        // What is no directory is told even where it cannot be read.
        let Some(path) = self.path().filter(|p| p.is_dir()) else {
            return Err(Errno::ENOTDIR.into());
        };
        if path.dentry.is_deleted() {
            return Err(Errno::ENOENT.into());
        }
        let room = dst.remaining().min(64 * 1024);
        let mut position = self.position.lock();
        let mut sink = Gather {
            format,
            room,
            bytes: Vec::with_capacity(room.min(4096)),
            full: false,
        };
        let next = self.ops().readdir(cx, self, *position, &mut sink)?;
        notify::file(self, Happened::ACCESS);
        if sink.bytes.is_empty() && sink.full {
            return Err(Errno::EINVAL.into());
        }
        if dst.put(&sink.bytes)? < sink.bytes.len() {
            return Err(Errno::EFAULT.into());
        }
        *position = next;
        Ok(sink.bytes.len())
    }

    /// Every entry but `.` and `..`, for code of ours: name, inode number, type.
    pub fn entries(&self, cx: &dyn Ctx) -> Result<Vec<(Vec<u8>, u64, FileType)>, Errno> {
        struct All(Vec<(Vec<u8>, u64, FileType)>, bool);
        impl DirSink for All {
            fn entry(&mut self, name: &[u8], ino: u64, kind: FileType, _next: u64) -> bool {
                self.1 = true;
                if name != b"." && name != b".." {
                    self.0.push((name.to_vec(), ino, kind));
                }
                true
            }
        }
        let mut all = All(Vec::new(), false);
        let mut at = 0;
        loop {
            all.1 = false;
            at = self.ops().readdir(cx, self, at, &mut all)?;
            if !all.1 {
                return Ok(all.0);
            }
        }
    }
}
