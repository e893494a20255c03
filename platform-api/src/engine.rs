//! What a booted platform offers.

use crate::{Exit, Op, PlatformError, Registers};
use std::any::Any;
use std::sync::Arc;

/// Makes address spaces and contexts. One a sandbox process.
pub trait Engine: Send + Sync {
    /// What addresses guests can use.
    fn limits(&self) -> Limits;

    /// An address space with nothing mapped that the guest could use.
    fn new_space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError>;

    /// A context for the calling thread.
    ///
    /// A platform may bind the thread to a CPU from time to time. Threads it starts inherit that:
    /// those that are to have contexts are freed by this call, others should be started by a
    /// thread without one.
    ///
    /// # Postconditions
    /// The context stays on this thread for life (it is not `Send`); it may run guest code of
    /// many spaces, one after the other, and keeps what it can of its last space's resources.
    fn new_context(&self) -> Result<Box<dyn Context>, PlatformError>;

    /// What the instruction `cpuid` gives guests for a leaf: `eax`, `ebx`, `ecx` and `edx`. As it
    /// is on the host, unless a platform shows them another CPU.
    fn cpuid(&self, leaf: u32, index: u32) -> [u32; 4] {
        host_cpuid(leaf, index)
    }
}

/// What `cpuid` gives on the host: `eax`, `ebx`, `ecx` and `edx`.
pub fn host_cpuid(leaf: u32, index: u32) -> [u32; 4] {
    let answer = std::arch::x86_64::__cpuid_count(leaf, index);
    [answer.eax, answer.ebx, answer.ecx, answer.edx]
}

/// The addresses a guest may use, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Lowest address a guest mapping may have.
    pub lowest: u64,
    /// One past the highest address a guest mapping may have.
    pub highest: u64,
    /// Half-open ranges between the two that the platform keeps for itself, sorted.
    pub holes: Vec<(u64, u64)>,
    /// Whether [`AddressSpace::populate`] does anything: guests are told of huge pages then.
    pub populates: bool,
}

/// What a guest process sees as its memory. Shared by its threads' contexts.
pub trait AddressSpace: Send + Sync + Any {
    /// Changes mappings, in order.
    ///
    /// # Preconditions
    /// Addresses and lengths are page-aligned, non-empty, inside [`Limits`] and outside its
    /// holes. Descriptors stay open until the call returns (the platform duplicates what it
    /// needs for later).
    ///
    /// # Postconditions
    /// No guest code runs in this space, on any thread, without the change, once this returned.
    /// A platform may postpone host work until the next switch of each context as long as that
    /// holds; a failure of postponed work is reported as [`Exit::MapFailed`].
    fn apply(&self, ops: &[Op]) -> Result<(), PlatformError>;

    /// A second space with the same mappings.
    ///
    /// # Preconditions
    /// Called on a thread whose context last ran in this space.
    ///
    /// # Postconditions
    /// `before` has been applied to this space (as [`AddressSpace::apply`]) and the child has
    /// exactly the mappings that this space then has. Mappings of both refer to the same backing
    /// offsets.
    fn fork(&self, before: &[Op]) -> Result<Arc<dyn AddressSpace>, PlatformError>;

    /// Announces that one more context is going to run in this space.
    ///
    /// # Preconditions
    /// Called on a thread whose context last ran in this space. A space that has just been made
    /// is ready for one context without this call.
    fn reserve_context(&self) -> Result<(), PlatformError>;

    /// Makes the host provide pages for what is mapped writable in a page-aligned range, before
    /// guest code touches them one by one: for platforms where such a touch costs more than that.
    /// A hint: it may do nothing, and what the host does not have then is told by a fault later.
    fn populate(&self, _addr: u64, _len: u64) {}

    /// Drops all mappings and frees the platform's resources of the space (its host process, its
    /// page tables).
    ///
    /// # Preconditions
    /// No context runs guest code in this space, now or later.
    fn destroy(&self);
}

/// One guest thread's machine state, bound to the host thread that made it.
pub trait Context {
    /// Runs guest code in `space` from `regs` until it traps.
    ///
    /// # Preconditions
    /// Called on the thread that made the context.
    ///
    /// # Postconditions
    /// `regs` is the guest's state at the trap; for [`Exit::Syscall`] with `rip` past the
    /// instruction and `orig_rax` the number. Extended state is kept in the context. No value in
    /// `regs`, however hostile, harms anybody but the guest: what the CPU refuses comes back as a
    /// fault or an exception.
    fn switch(
        &mut self,
        space: &Arc<dyn AddressSpace>,
        regs: &mut Registers,
    ) -> Result<Exit, PlatformError>;

    /// Fetches the extended state (x87, SSE, AVX, …) in the standard XSAVE layout of ptrace's
    /// `NT_X86_XSTATE` and of signal frames.
    fn extended_state(&mut self, into: &mut Vec<u8>) -> Result<(), PlatformError>;

    /// Sets the extended state. An empty slice means that of a fresh program. Contents are the
    /// guest's word: what the CPU refuses is an error to the caller, never a fault of ours.
    fn set_extended_state(&mut self, from: &[u8]) -> Result<(), PlatformError>;

    /// Tells that the guest thread which this context ran has ended; the context may come to run
    /// another. Lets a platform keep what it holds for a next thread in the same space, instead
    /// of what [`AddressSpace::reserve_context`] set aside for it.
    fn retire(&mut self) {}

    /// A handle by which other threads end this context's switches.
    fn interrupter(&self) -> Arc<dyn Interrupter>;
}

/// Ends a context's switch from any thread.
pub trait Interrupter: Send + Sync {
    /// Makes the current switch, or else the next one, return [`Exit::Interrupted`] (or another
    /// exit that happened at the same time; then the interrupt is used up all the same).
    ///
    /// Never lost, never blocks, cheap when the context is not in guest code.
    fn interrupt(&self);
}
