//! A traced stub by its state: what may be asked of it when.
//!
//! `Running::wait` gives a [`Stopped`] or tells of its end; `Stopped::resume…` gives a
//! [`Running`]. A request on a running stub does not compile.

use crate::stub::Stub;
use crate::sys::calls::{self, SigInfo};
use platform_api::Registers;
use std::io;
use std::sync::Arc;

/// A stub of ours that stands still.
#[derive(Debug)]
pub(crate) struct Stopped {
    stub: Arc<Stub>,
}

/// A stub of ours that runs.
#[derive(Debug)]
pub(crate) struct Running {
    stub: Arc<Stub>,
}

/// Why it stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// At a call that was not executed.
    Syscall,
    /// A signal is about to be delivered, unless it is resumed without.
    Signal(i32),
    /// Something of ptrace's own.
    Event,
}

/// What waiting found.
pub(crate) enum Waited {
    /// It stands still.
    Stopped(Stopped, Stop),
    /// It is gone; the raw wait status.
    Ended(i32),
}

impl Running {
    /// Makes the calling thread the tracer of a stub that waits in its parking loop.
    pub(crate) fn seize(stub: Arc<Stub>) -> io::Result<Running> {
        calls::seize(stub.pid())?;
        Ok(Running { stub })
    }

    /// Asks it to stop.
    pub(crate) fn interrupt(&self) -> io::Result<()> {
        calls::interrupt(self.stub.pid())
    }

    /// Waits until it stops or ends.
    pub(crate) fn wait(self) -> io::Result<Waited> {
        let status = calls::wait(self.stub.pid())?;
        Ok(match status.stop() {
            None => {
                self.stub.has_ended(status.0);
                Waited::Ended(status.0)
            }
            Some(stop) => {
                let stop = match stop {
                    s if s == libc::SIGTRAP | 0x80 => Stop::Syscall,
                    s if s > 0xff => Stop::Event,
                    s => Stop::Signal(s),
                };
                Waited::Stopped(Stopped { stub: self.stub }, stop)
            }
        })
    }
}

impl Stopped {
    /// The stub.
    pub(crate) fn stub(&self) -> &Arc<Stub> {
        &self.stub
    }

    /// Lets guest code run up to its next call.
    pub(crate) fn resume_guest(self) -> io::Result<Running> {
        calls::sysemu(self.stub.pid())?;
        Ok(Running { stub: self.stub })
    }

    /// Lets the stub's own code run.
    pub(crate) fn resume_stub(self) -> io::Result<Running> {
        calls::cont(self.stub.pid())?;
        Ok(Running { stub: self.stub })
    }

    /// Lets it go; its registers must stand in the parking loop.
    pub(crate) fn detach(self) -> io::Result<()> {
        calls::detach(self.stub.pid())
    }

    /// Reads the general registers.
    pub(crate) fn registers(&self, into: &mut Registers) -> io::Result<()> {
        calls::get_registers(self.stub.pid(), into)
    }

    /// Writes the general registers.
    pub(crate) fn set_registers(&self, from: &Registers) -> io::Result<()> {
        calls::set_registers(self.stub.pid(), from)
    }

    /// Writes them but for segment bases and data segments.
    pub(crate) fn set_registers_without_bases(&self, from: &Registers) -> io::Result<()> {
        calls::set_registers_without_bases(self.stub.pid(), from)
    }

    /// Reads the extended state; the length there is.
    pub(crate) fn xstate(&self, into: &mut [u8]) -> io::Result<usize> {
        calls::get_xstate(self.stub.pid(), into)
    }

    /// Writes the extended state.
    pub(crate) fn set_xstate(&self, from: &[u8]) -> io::Result<()> {
        calls::set_xstate(self.stub.pid(), from)
    }

    /// The signal it stopped for.
    pub(crate) fn siginfo(&self) -> io::Result<SigInfo> {
        calls::get_siginfo(self.stub.pid())
    }

    /// Eight bytes of its memory.
    pub(crate) fn peek(&self, addr: u64) -> io::Result<[u8; 8]> {
        calls::peek(self.stub.pid(), addr)
    }

    /// Whether the call it stopped at came in by the 64-bit door.
    pub(crate) fn is_64bit_call(&self) -> io::Result<bool> {
        Ok(calls::syscall_arch(self.stub.pid())? == crate::filter::ARCH_X86_64)
    }
}
