//! How the guest touched memory, found out from the instruction it stands at.
//!
//! The host tells a tracer the address of a fault but not whether it was a load or a store.

use crate::common;
use crate::tracee::Stopped;
use iced_x86::{
    Decoder, DecoderError, DecoderOptions, Instruction, InstructionInfoFactory, OpAccess, Register,
};
use platform_api::{Access, Registers};

/// Longest x86 instruction.
const LONGEST: usize = 15;
const PAGE: u64 = 4096;
/// The code segment of 64-bit code.
const LONG_MODE: u64 = 0x33;

/// The access that faulted at `addr`.
pub(crate) fn access(stopped: &Stopped, regs: &Registers, addr: u64) -> Access {
    if addr == regs.rip {
        return Access::Execute;
    }
    let mut code = [0u8; 16];
    let mut have = 0;
    for at in [0u64, 8] {
        // Fails at a page that is not there: the instruction may be cut off by it.
        let Ok(word) = stopped.peek(regs.rip.wrapping_add(at)) else {
            have = read_up_to_page_end(stopped, regs.rip, &mut code).max(have);
            break;
        };
        code[have..have + 8].copy_from_slice(&word);
        have += 8;
        // A fault close behind may be of the instruction's own bytes.
        let elsewhere = addr.wrapping_sub(regs.rip) >= LONGEST as u64;
        if at == 0
            && elsewhere
            && regs.cs == LONG_MODE
            && let Some(access) = common::access(&word)
        {
            return access;
        }
        if whole(&code[..have], regs) {
            break;
        }
    }
    classify(&code[..have.min(LONGEST)], regs, addr)
}

/// Whether an instruction is all there.
fn whole(code: &[u8], regs: &Registers) -> bool {
    let mut decoder = decoder(code, regs);
    let _ = decoder.decode();
    decoder.last_error() != DecoderError::NoMoreBytes
}

fn decoder<'a>(code: &'a [u8], regs: &Registers) -> Decoder<'a> {
    let bits = if regs.cs == 0x23 { 32 } else { 64 };
    Decoder::with_ip(bits, code, regs.rip, DecoderOptions::NONE)
}

/// Reads the bytes up to the end of the page, which a word across its end would not give.
fn read_up_to_page_end(stopped: &Stopped, rip: u64, code: &mut [u8; 16]) -> usize {
    let left = ((PAGE - rip % PAGE) as usize).min(code.len());
    let end = rip + left as u64;
    let mut from = left;
    while from > 0 {
        let step = from.min(8);
        from -= step;
        // The eight bytes that end with this step: all on the page of rip or before it.
        let Ok(word) = stopped.peek((end - (left - from) as u64 + step as u64) - 8) else {
            return 0;
        };
        code[from..from + step].copy_from_slice(&word[8 - step..]);
    }
    left
}

/// As [`access`], from the bytes at `rip`.
fn classify(code: &[u8], regs: &Registers, addr: u64) -> Access {
    let instruction = decoder(code, regs).decode();
    if instruction.is_invalid() {
        // Cut off: the rest could not be fetched, when the address is where it would be.
        let behind = addr.wrapping_sub(regs.rip);
        let cut = behind < LONGEST as u64 && addr.is_multiple_of(PAGE);
        return if cut { Access::Execute } else { Access::Read };
    }
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(&instruction);
    let mut writes = false;
    let mut reads = false;
    let mut covering = None;
    for memory in info.used_memory() {
        let write = matches!(
            memory.access(),
            OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
        );
        writes |= write;
        reads |= !write && memory.access() != OpAccess::NoMemAccess;
        let start = memory
            .virtual_address(0, |register, _, _| Some(value(register, regs)))
            .filter(|_| !instruction.is_vsib());
        // Instructions that save or restore a whole state don't tell its size.
        let size = match memory.memory_size().size() as u64 {
            0 => PAGE,
            size => size,
        };
        if start.is_some_and(|start| addr.wrapping_sub(start) < size) {
            covering = Some(covering.unwrap_or(false) | write);
        }
    }
    match covering {
        Some(true) => Access::Write,
        Some(false) => Access::Read,
        None if fetches(&instruction, regs.rip, addr) => Access::Execute,
        None if writes && !reads => Access::Write,
        None => Access::Read,
    }
}

/// Whether `addr` is the start of a page that the instruction reaches into.
fn fetches(instruction: &Instruction, rip: u64, addr: u64) -> bool {
    addr.is_multiple_of(PAGE) && addr.wrapping_sub(rip) < instruction.len() as u64
}

/// What `register` holds; for segments their base, as address arithmetic wants it.
fn value(register: Register, regs: &Registers) -> u64 {
    let mask = match register.size() {
        1 => 0xff,
        2 => 0xffff,
        4 => 0xffff_ffff,
        _ => u64::MAX,
    };
    let full = match register {
        Register::ES | Register::CS | Register::SS | Register::DS => return 0,
        Register::FS => return regs.fs_base,
        Register::GS => return regs.gs_base,
        Register::RIP | Register::EIP => regs.rip,
        other => match other.full_register() {
            Register::RAX => regs.rax,
            Register::RBX => regs.rbx,
            Register::RCX => regs.rcx,
            Register::RDX => regs.rdx,
            Register::RSI => regs.rsi,
            Register::RDI => regs.rdi,
            Register::RBP => regs.rbp,
            Register::RSP => regs.rsp,
            Register::R8 => regs.r8,
            Register::R9 => regs.r9,
            Register::R10 => regs.r10,
            Register::R11 => regs.r11,
            Register::R12 => regs.r12,
            Register::R13 => regs.r13,
            Register::R14 => regs.r14,
            Register::R15 => regs.r15,
            _ => 0,
        },
    };
    let high_byte = matches!(
        register,
        Register::AH | Register::BH | Register::CH | Register::DH
    );
    if high_byte {
        (full >> 8) & mask
    } else {
        full & mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regs() -> Registers {
        Registers {
            rip: 0x40_0000,
            rax: 0x5000,
            rdi: 0x6000,
            rsi: 0x7000,
            rcx: 8,
            rsp: 0x8000,
            fs_base: 0x9000,
            ..Registers::user()
        }
    }

    #[test]
    fn loads_and_stores_are_told_apart() {
        let cases: [(&[u8], u64, Access); 11] = [
            // mov rbx, [rax]; mov [rax], rbx
            (&[0x48, 0x8b, 0x18], 0x5000, Access::Read),
            (&[0x48, 0x89, 0x18], 0x5000, Access::Write),
            // the second half of a store across a page
            (&[0x48, 0x89, 0x58, 0xfc], 0x5000, Access::Write),
            // add [rax], rbx; lock cmpxchg [rax], rbx
            (&[0x48, 0x01, 0x18], 0x5000, Access::Write),
            (&[0xf0, 0x48, 0x0f, 0xb1, 0x18], 0x5000, Access::Write),
            // rep movsb: source, then destination
            (&[0xf3, 0xa4], 0x7000, Access::Read),
            (&[0xf3, 0xa4], 0x6000, Access::Write),
            // push rax
            (&[0x50], 0x7ff8, Access::Write),
            // mov rax, fs:[0]
            (
                &[0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0],
                0x9000,
                Access::Read,
            ),
            // vmovdqu [rdi], ymm0; vmovdqu64 [rdi], zmm0
            (&[0xc5, 0xfe, 0x7f, 0x07], 0x6010, Access::Write),
            (&[0x62, 0xf1, 0xfe, 0x48, 0x7f, 0x07], 0x6030, Access::Write),
        ];
        for (code, addr, want) in cases {
            assert_eq!(
                classify(code, &regs(), addr),
                want,
                "{code:x?} at {addr:#x}"
            );
        }
    }

    #[test]
    fn the_short_cut_agrees_with_the_decoder() {
        let mut known = 0;
        let mut check = |code: &[u8]| {
            let Some(access) = common::access(code) else {
                return;
            };
            let instruction = decoder(code, &regs()).decode();
            if instruction.is_invalid() {
                return;
            }
            known += 1;
            let mut factory = InstructionInfoFactory::new();
            let memory = factory.info(&instruction).used_memory();
            assert_eq!(memory.len(), 1, "{code:02x?} {instruction:?}");
            let write = matches!(
                memory[0].access(),
                OpAccess::Write
                    | OpAccess::CondWrite
                    | OpAccess::ReadWrite
                    | OpAccess::ReadCondWrite
            );
            let want = if write { Access::Write } else { Access::Read };
            assert_eq!(access, want, "{code:02x?} {instruction:?}");
        };
        let prefixes: [&[u8]; 7] = [
            &[],
            &[0x66],
            &[0xf2],
            &[0xf3],
            &[0x64],
            &[0x48],
            &[0x66, 0x4f],
        ];
        // The escapes of VEX and EVEX with the payloads of compilers and some others.
        let escapes: [&[u8]; 9] = [
            &[],
            &[0x0f],
            &[0xc5, 0xf8],
            &[0xc5, 0xfe],
            &[0xc4, 0xe1, 0x7d],
            &[0xc4, 0xe2, 0x7d],
            &[0x62, 0xf1, 0x7c, 0x48],
            &[0x62, 0xf1, 0xfe, 0x28],
            &[0x62, 0xf2, 0x7d, 0x48],
        ];
        for (prefix, escape) in prefixes
            .iter()
            .flat_map(|p| escapes.iter().map(move |e| (p, e)))
        {
            for opcode in 0..=255 {
                // Each mode and each register, all with RAX as the base.
                for modrm in (0..=255).filter(|m| m & 7 == 0) {
                    let mut code = [prefix, *escape, &[opcode, modrm]].concat();
                    code.resize(LONGEST, 0);
                    check(&code);
                }
            }
        }
        assert!(known > 1000, "{known} were known");
    }

    #[test]
    fn fetches_across_a_page_are_execution() {
        let regs = Registers {
            rip: 0x40_0ffe,
            ..regs()
        };
        // mov rbx, [rax] cut off after two bytes, and whole but on a page not executable
        assert_eq!(classify(&[0x48, 0x8b], &regs, 0x40_1000), Access::Execute);
        assert_eq!(
            classify(&[0x48, 0x8b, 0x18], &regs, 0x40_1000),
            Access::Execute
        );
        assert_eq!(classify(&[0x48, 0x8b, 0x18], &regs, 0x5000), Access::Read);
        assert_eq!(classify(&[], &regs, 0x1000), Access::Read);
    }
}
