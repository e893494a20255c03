//! Contexts: a guest thread's machine state, on a vCPU while it has one.

use crate::admit::{self, USER_CS, USER32_CS, admit};
use crate::engine::Shared;
use crate::entry::{PORT_CALL, Way};
use crate::error::{host, misuse};
use crate::exits::{self, PAGE_FAULT, UNDEFINED, general_protection};
use crate::handle::Handle;
use crate::layout::{PAGE, VSYSCALL};
use crate::pool::{Seat, State};
use crate::space::{Behind, Core, Space};
use crate::vcpu::{self, End, Trap, Vcpu};
use platform_api::{AddressSpace, Context, Exit, Interrupter, PlatformError, Registers};
use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

const WHAT: &str = "running guest code";
/// `int n`
const INT: u8 = 0xcd;
/// Where the words that tell of features lie in an extended state, as ptrace shows it.
const FEATURES: std::ops::Range<usize> = 464..472;

/// What [`platform_api::Context`] is here.
pub(crate) struct KvmContext {
    shared: Arc<Shared>,
    seat: Arc<Seat>,
    /// Where it ran last.
    home: Option<Arc<Core>>,
    /// Interrupts go to the thread that made it.
    _thread: PhantomData<*const ()>,
}

impl KvmContext {
    pub(crate) fn new(shared: Arc<Shared>) -> KvmContext {
        let seat = shared.pool.seat(Arc::new(Handle::new()));
        KvmContext {
            shared,
            seat,
            home: None,
            _thread: PhantomData,
        }
    }

    fn move_to(&mut self, core: Option<&Arc<Core>>) {
        if let Some(old) = self.home.take() {
            old.detach(&self.seat.handle);
        }
        if let Some(core) = core {
            core.attach(&self.seat.handle);
            self.home = Some(core.clone());
        }
    }
}

impl Drop for KvmContext {
    fn drop(&mut self) {
        self.move_to(None);
        let vcpu = self.seat.state.lock().vcpu.take();
        self.shared.pool.put(vcpu);
    }
}

impl Context for KvmContext {
    fn switch(
        &mut self,
        space: &Arc<dyn AddressSpace>,
        regs: &mut Registers,
    ) -> Result<Exit, PlatformError> {
        let any: &dyn Any = &**space;
        let Some(Space(core)) = any.downcast_ref() else {
            return Err(misuse(WHAT, "the space is another platform's"));
        };
        if !self
            .home
            .as_ref()
            .is_some_and(|home| Arc::ptr_eq(home, core))
        {
            self.move_to(Some(core));
        }
        let seat = &*self.seat;
        let mut state = seat.state.lock();
        let exit = Switch {
            shared: &self.shared,
            seat,
            core,
        }
        .run(&mut state, regs);
        seat.handle.clear();
        self.shared.pool.let_go(&mut state)?;
        exit
    }

    fn extended_state(&mut self, into: &mut Vec<u8>) -> Result<(), PlatformError> {
        let state = self.seat.state.lock();
        let layout = &self.shared.layout;
        into.clear();
        match (&state.xstate, &state.vcpu) {
            (Some(state), _) => into.extend_from_slice(state),
            (None, Some(vcpu)) => vcpu.xsave(into)?,
            (None, None) => into.append(&mut layout.initial()),
        }
        let features = self.shared.cpu.components.to_ne_bytes();
        into[FEATURES].copy_from_slice(&features);
        into.truncate(layout.used());
        Ok(())
    }

    fn set_extended_state(&mut self, from: &[u8]) -> Result<(), PlatformError> {
        let state = self.shared.layout.admit(from)?;
        self.seat.state.lock().xstate = Some(state);
        Ok(())
    }

    fn interrupter(&self) -> Arc<dyn Interrupter> {
        self.seat.handle.clone()
    }
}

/// One switch.
struct Switch<'a> {
    shared: &'a Shared,
    seat: &'a Seat,
    core: &'a Core,
}

impl Switch<'_> {
    fn run(&self, state: &mut State, regs: &mut Registers) -> Result<Exit, PlatformError> {
        if let Some(exit) = admit(regs) {
            return Ok(exit);
        }
        loop {
            let vcpu = self.vcpu(state)?;
            if vcpu.seen != self.core.now()
                && let Some(failure) = self.core.settle(vcpu)?
            {
                return Ok(Exit::MapFailed {
                    addr: failure.addr,
                    len: failure.len,
                    errno: failure.errno,
                });
            }
            let end = self.once(vcpu, regs)?;
            let exit = match end {
                None | Some(End::Kicked) => None,
                Some(End::Way(way)) => self.way(vcpu, way, regs)?,
                Some(End::NoMemory) if self.core.bury() => None,
                // Not for want of a file: the host has no memory or no room on a disk, and does
                // not say for which address.
                Some(End::NoMemory) => Some(Exit::Fault {
                    addr: regs.rip,
                    access: platform_api::Access::Execute,
                    bus: true,
                }),
                Some(End::Refused) => Some(general_protection()),
            };
            if exit.is_some() {
                return Ok(exit.unwrap_or(Exit::Interrupted));
            }
            if self.seat.handle.asked() {
                return Ok(Exit::Interrupted);
            }
            if self.seat.handle.take_wanted() {
                self.shared.pool.let_go(state)?;
                std::thread::yield_now();
            }
        }
    }

    /// The vCPU, with the context's extended state.
    fn vcpu<'s>(&self, state: &'s mut State) -> Result<&'s mut Vcpu, PlatformError> {
        if state.vcpu.is_none() {
            let xstate = state.xstate.take();
            state.xstate = Some(xstate.unwrap_or_else(|| self.shared.layout.initial()));
            state.vcpu = Some(self.shared.pool.take(self.shared, self.seat)?);
        }
        let Some(vcpu) = &mut state.vcpu else {
            return Err(misuse(WHAT, "there is no virtual CPU"));
        };
        if let Some(xstate) = state.xstate.take() {
            vcpu.set_xsave(&xstate)
                .map_err(|e| host("setting the extended state", e))?;
        }
        Ok(vcpu)
    }

    /// Runs guest code, unless something came up before it could.
    #[inline]
    fn once(&self, vcpu: &mut Vcpu, regs: &mut Registers) -> Result<Option<End>, PlatformError> {
        let handle = &self.seat.handle;
        vcpu.load(regs, self.core.root());
        let seen = vcpu.seen;
        let end = {
            let armed = vcpu.arm();
            handle.enter(seen.1);
            let end = if handle.asked() || self.core.now() != seen {
                Ok(None)
            } else {
                vcpu::run_out(armed.vcpu).map(Some)
            };
            handle.leave();
            end
        };
        self.core.guest_left();
        if let Ok(Some(_)) = end {
            vcpu.store(regs);
        }
        end
    }

    /// What a way out of guest code means; `None`: nothing to the sentry.
    fn way(
        &self,
        vcpu: &mut Vcpu,
        way: Way,
        regs: &mut Registers,
    ) -> Result<Option<Exit>, PlatformError> {
        match way {
            Way::Call => {
                regs.rip = regs.rcx;
                regs.eflags = admit::flags(regs.r11);
                regs.cs = USER_CS;
                regs.orig_rax = regs.rax;
                Ok(Some(Exit::Syscall))
            }
            Way::Compat => Ok(Some(compat_call(regs))),
            Way::Vector(vector) => {
                let trap = vcpu.trap(&self.shared.arena, regs);
                if regs.cs & 3 == 0 {
                    // No code of ours raises one there: a host that interprets far returns took the
                    // selector of data for one of code, and `syscall` there to the entry of
                    // 32-bit code, less the upper half of its address.
                    return Ok(Some(compat_call(regs)));
                }
                if vector == PAGE_FAULT {
                    return Ok(self.page_fault(trap, regs));
                }
                if vector == UNDEFINED && self.byte(regs.rip) == Some(INT) {
                    // Hosts that run user code by software don't know `int`.
                    return Ok(Some(general_protection()));
                }
                let state = || {
                    let mut state = Vec::new();
                    vcpu.xsave(&mut state).ok().map(|()| state)
                };
                let before = || self.byte(regs.rip.wrapping_sub(1));
                Ok(Some(exits::exception(vector, regs, before, state)))
            }
            Way::Foreign => {
                vcpu.abandon();
                regs.rip = regs.rip.wrapping_sub(self.port_access_len(regs.rip));
                Ok(Some(general_protection()))
            }
            Way::Touched => Err(misuse(WHAT, "the guest's kernel code ran")),
        }
    }

    fn page_fault(&self, trap: Trap, regs: &mut Registers) -> Option<Exit> {
        if let Some(exit) = exits::by_key(trap) {
            return Some(exit);
        }
        if regs.rip == trap.addr
            && let Some(call) = exits::vsyscall(trap.addr.wrapping_sub(VSYSCALL))
            && let Some(back) = self.core.read_word(regs.rsp)
        {
            regs.rip = back;
            regs.rsp = regs.rsp.wrapping_add(8);
            (regs.rax, regs.orig_rax) = (call, call);
            return Some(Exit::Syscall);
        }
        let bus = match self.core.behind(trap.addr) {
            Behind::Something => return None,
            Behind::Nothing => true,
            Behind::Unknown => false,
        };
        Some(Exit::Fault {
            addr: trap.addr,
            access: exits::access(trap),
            bus,
        })
    }

    /// A byte of the guest's.
    fn byte(&self, addr: u64) -> Option<u8> {
        let word = self.core.read_word(addr & !7)?;
        Some((word >> (addr % 8 * 8)) as u8)
    }

    /// Bytes of the port access, but for prefixes, that ends at `rip`: the host has stepped over
    /// it.
    fn port_access_len(&self, rip: u64) -> u64 {
        match (
            self.byte(rip.wrapping_sub(2)),
            self.byte(rip.wrapping_sub(1)),
        ) {
            (Some(0xe4..=0xe7), Some(PORT_CALL)) => 2,
            (_, Some(0x6c..=0x6f | 0xec..=0xef)) => 1,
            _ => 0,
        }
    }
}

/// `syscall` in 32-bit code: general protection at the instruction, as on a kernel without the
/// 32-bit doors.
fn compat_call(regs: &mut Registers) -> Exit {
    regs.rip = regs.rcx.wrapping_sub(2) & u64::from(u32::MAX);
    regs.eflags = admit::flags(regs.r11);
    regs.cs = USER32_CS;
    general_protection()
}

const _: () = assert!(VSYSCALL.is_multiple_of(PAGE));
