//! What all mounts of one file system share.

use crate::{Dentry, MountSpec, cache, notify};
use abi::Errno;
use auth::UserNamespace;
use ctx::Ctx;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use sync::{Mutex, ranks};

bitflags::bitflags! {
    /// Flags of a file system as a whole, with mount(2)'s values.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct SuperFlags: u32 {
        /// Nothing can be changed, through whichever mount.
        const RDONLY = 1;
        /// Writes go through at once.
        const SYNCHRONOUS = 1 << 4;
        /// Mandatory locks: taken and without effect, as in Linux.
        const MANDLOCK = 1 << 6;
        /// Changes of directories go through at once.
        const DIRSYNC = 1 << 7;
        /// Times are written late.
        const LAZYTIME = 1 << 25;
    }
}

impl SuperFlags {
    /// What a remount replaces (`MS_RMT_MASK`).
    pub const REMOUNT: SuperFlags = SuperFlags::RDONLY
        .union(SuperFlags::SYNCHRONOUS)
        .union(SuperFlags::MANDLOCK)
        .union(SuperFlags::LAZYTIME);

    /// As /proc/mounts has them: `rw,sync`.
    pub fn options(self) -> String {
        let mut s = String::from(if self.contains(SuperFlags::RDONLY) {
            "ro"
        } else {
            "rw"
        });
        s.push_str(&self.further());
        s
    }

    /// Those but for `rw` and `ro`, each after a comma.
    pub fn further(self) -> String {
        let mut s = String::new();
        for (flag, text) in [
            (SuperFlags::SYNCHRONOUS, ",sync"),
            (SuperFlags::DIRSYNC, ",dirsync"),
            (SuperFlags::MANDLOCK, ",mand"),
            (SuperFlags::LAZYTIME, ",lazytime"),
        ] {
            if self.contains(flag) {
                s.push_str(text);
            }
        }
        s
    }
}

/// What a file system can do as a whole.
pub trait FileSystem: Send + Sync {
    /// Its own options, comma-separated (`size=64k,mode=755`).
    fn options(&self) -> String {
        String::new()
    }

    /// Takes other options (`MS_REMOUNT`), of those that it knows, and is to have `flags`.
    ///
    /// # Errors
    /// `EINVAL` for what cannot be now.
    fn reconfigure(&self, _cx: &dyn Ctx, _flags: SuperFlags, _options: &str) -> Result<(), Errno> {
        Ok(())
    }
}

/// A file system whose options never change.
pub struct FixedOptions(pub String);

impl FileSystem for FixedOptions {
    fn options(&self) -> String {
        self.0.clone()
    }
}

/// A file system that is mounted.
pub struct SuperBlock {
    fstype: String,
    /// Where in the file system its tree begins, where that is a part of one.
    top: Vec<u8>,
    flags: AtomicU32,
    /// One change at a time.
    changing: Mutex<(), ranks::SuperBlock>,
    /// Open descriptions that write.
    writers: AtomicU32,
    tree: u64,
    fs: Arc<dyn FileSystem>,
    owner: UserNamespace,
}

impl SuperBlock {
    pub(crate) fn new(root: &Dentry, spec: MountSpec) -> Arc<SuperBlock> {
        Arc::new(SuperBlock {
            fstype: spec.fstype,
            top: spec.top,
            flags: AtomicU32::new(spec.super_flags.bits()),
            changing: Mutex::new(()),
            writers: AtomicU32::new(0),
            tree: root.tree(),
            fs: spec.fs,
            owner: spec.owner,
        })
    }

    /// Type, as /proc/mounts has it.
    pub fn fstype(&self) -> &str {
        &self.fstype
    }

    pub(crate) fn top(&self) -> &[u8] {
        &self.top
    }

    /// The user namespace that it was mounted in.
    #[inline]
    pub fn owner(&self) -> &UserNamespace {
        &self.owner
    }

    /// Its flags.
    #[inline]
    pub fn flags(&self) -> SuperFlags {
        SuperFlags::from_bits_truncate(self.flags.load(Ordering::Relaxed))
    }

    /// The file system behind it.
    pub fn fs(&self) -> &Arc<dyn FileSystem> {
        &self.fs
    }

    #[inline]
    pub(crate) fn add_writer(&self) {
        self.writers.fetch_add(1, Ordering::SeqCst);
    }

    #[inline]
    pub(crate) fn drop_writer(&self) {
        self.writers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Changes the flags in `mask`, after the file system has taken `options`.
    ///
    /// # Errors
    /// `EBUSY` where it is to be read-only and files are open for writing, and what the file
    /// system says.
    pub fn reconfigure(
        &self,
        cx: &dyn Ctx,
        flags: SuperFlags,
        mask: SuperFlags,
        options: Option<&str>,
    ) -> Result<(), Errno> {
        let _alone = self.changing.lock();
        let old = self.flags();
        let new = (old - mask) | (flags & mask);
        let set = |flags: SuperFlags| self.flags.store(flags.bits(), Ordering::SeqCst);
        // Read-only before it is asked, so that nobody begins to write unseen; writable only once
        // it has agreed.
        set(old | (new & SuperFlags::RDONLY));
        let busy =
            (new - old).contains(SuperFlags::RDONLY) && self.writers.load(Ordering::SeqCst) > 0;
        let done = match options {
            _ if busy => Err(Errno::EBUSY),
            Some(options) => self.fs.reconfigure(cx, new, options),
            None => Ok(()),
        };
        set(if done.is_ok() { new } else { old });
        done
    }
}

impl Drop for SuperBlock {
    fn drop(&mut self) {
        // Nobody can reach it any more: its dentries need not be kept.
        cache::forget_tree(self.tree);
        notify::unmounted(self.tree);
    }
}
