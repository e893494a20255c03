//! Where things lie in a stub's address space.
//!
//! Everything below [`STUB_BASE`] is the guest's. From there to the end of user space nothing is
//! mapped but the stub's code and the batch pages, which the guest can read and run but not write.

/// First address of the stub region, and one past the guest's last.
pub(crate) const STUB_BASE: u64 = 0x7fff_fff0_0000;
/// The stub's code: one page, read and execute.
pub(crate) const CODE_LEN: u64 = 0x1000;
/// Where a space's batch pages are mapped, read-only.
pub(crate) const BATCH_ADDR: u64 = STUB_BASE + CODE_LEN;
/// Bytes of batch pages a space has.
pub(crate) const BATCH_LEN: u64 = 0x4000;
/// One past the stub region's last mapping.
pub(crate) const STUB_END: u64 = BATCH_ADDR + BATCH_LEN;
/// One past the last user address with four-level page tables.
pub(crate) const USER_END: u64 = 0x7fff_ffff_f000;
/// Lowest address a guest can use: the usual `vm.mmap_min_addr`.
pub(crate) const LOWEST: u64 = 0x1_0000;

/// Words of one operation in a batch: the call's number, six arguments, one spare.
pub(crate) const OP_WORDS: usize = 8;
/// Operations a batch can hold.
pub(crate) const BATCH_OPS: usize = BATCH_LEN as usize / (OP_WORDS * 8);

/// Flags of the call that makes one more stub in the same space. Its own process, so that it can
/// be waited for and killed alone; a child of the sandbox process, as its maker is.
pub(crate) const CLONE_THREAD_STUB: u64 =
    (libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_FS | libc::CLONE_PARENT) as u64;
/// Flags of the call that makes a stub with a copy of the space.
pub(crate) const CLONE_SPACE_STUB: u64 = (libc::CLONE_FILES | libc::CLONE_PARENT) as u64;

/// The signal that brings a stub out of guest code. Its default is to be ignored, so that it is
/// harmless when it comes too late.
pub(crate) const KICK: i32 = libc::SIGURG;
