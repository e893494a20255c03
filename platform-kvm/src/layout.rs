//! Where things lie in a guest's addresses, virtual and physical.
//!
//! The lower half of virtual addresses is the guest's. Of the upper half one entry of the root
//! table is ours, the same in all spaces: the entry page, and a gigabyte behind it the arena.

/// Bytes of a page.
pub(crate) const PAGE: u64 = 4096;
/// Entries of a table.
pub(crate) const ENTRIES: u64 = 512;

/// Lowest address a guest can use: the usual `vm.mmap_min_addr`.
pub(crate) const LOWEST: u64 = 0x1_0000;
/// One past the last user address with four-level page tables.
pub(crate) const USER_END: u64 = 0x7fff_ffff_f000;

/// Entry of the root table that is ours.
pub(crate) const KERNEL_ENTRY: u64 = 510;
/// The entry page, which guest code can read and run.
pub(crate) const ENTRY: u64 = 0xffff_ff00_0000_0000;
/// The arena, for the guest's ring 0 alone.
pub(crate) const ARENA: u64 = ENTRY + (1 << 30);

/// Bytes by which the arena grows.
pub(crate) const ARENA_CHUNK: u64 = 2 << 20;
/// Most chunks of it: what one table of large pages maps.
pub(crate) const ARENA_CHUNKS: u64 = ENTRIES;
/// Physical address of the arena.
pub(crate) const ARENA_PHYS: u64 = 2 << 20;
/// Physical address of the first block of backing memory; below it, PCs have odd things.
pub(crate) const BLOCKS_PHYS: u64 = 4 << 30;
/// Bytes of a block: of the largest chunk of a file.
pub(crate) const BLOCK: u64 = 64 << 20;

/// Where the host may put what it needs on CPUs without real mode for guests (`KVM_SET_TSS_ADDR`).
pub(crate) const HOST_TSS: usize = 0xfffb_d000;

/// The page at whose three entries old programs call.
pub(crate) const VSYSCALL: u64 = 0xffff_ffff_ff60_0000;
