//! Mappings of a host file.

use crate::node::Node;
use abi::Errno;
use abi::page::{PAGE_SIZE, Range, is_page_aligned, page_up};
use control::fs::Access;
use memmap::{Identity, Mappable, Mapping, Source, Space, Translation};
use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::fdatasync;
use std::sync::Weak;

impl Mappable for Node {
    fn identity(&self) -> Identity {
        let place = self.mapped_at.lock().clone();
        let path = place.map(|p| p.text()).unwrap_or_default();
        let dev = self.known_dev();
        Identity {
            dev,
            ino: self.key.ino,
            path,
        }
    }

    fn translate(&self, offset: u64, len: u64, write: bool) -> Result<Translation, Errno> {
        if !is_page_aligned(offset) {
            return Err(Errno::EINVAL);
        }
        let end = page_up(self.length()?).ok_or(Errno::EFAULT)?;
        let left = end
            .checked_sub(offset)
            .filter(|left| *left > 0)
            .ok_or(Errno::EFAULT)?;
        let len = page_up(len.max(PAGE_SIZE)).unwrap_or(left).min(left);
        let access = if write {
            Access::ReadWrite
        } else {
            Access::Read
        };
        let handle = self.handle(access)?;
        if write {
            // What is written through the mapping shows in times and blocks.
            self.touched();
        }
        let source = Source::Host {
            file: handle.fd,
            offset,
            executable: handle.executable,
        };
        Ok(Translation { source, len })
    }

    fn size(&self) -> Result<u64, Errno> {
        self.length()
    }

    fn attach(&self, mapping: Mapping) -> Result<(), Errno> {
        self.mappings.attach(mapping);
        Ok(())
    }

    fn detach(&self, space: &Weak<dyn Space>, addr: u64, range: Range) {
        self.mappings.detach(space, addr, range);
        if self.mappings.is_empty() {
            // The place leads back to us, and is not needed any more.
            let place = self.mapped_at.lock().take();
            drop(place);
        }
    }

    fn punch(&self, range: Range) -> Result<(), Errno> {
        let handle = self.handle(Access::ReadWrite)?;
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let whole = |n: u64| i64::try_from(n).map_err(|_| Errno::EINVAL);
        fallocate(&*handle.fd, flags, whole(range.start)?, whole(range.len())?)
            .map_err(|e| Errno::from_host(e as i32))?;
        self.touched();
        Ok(())
    }

    fn sync(&self, _range: Range) -> Result<(), Errno> {
        let handle = self.handle(Access::Read)?;
        self.touched();
        fdatasync(&*handle.fd).map_err(|e| Errno::from_host(e as i32))
    }
}
