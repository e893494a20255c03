//! The memory access of the instructions that nearly all faults stand at, told from opcode and
//! ModRM byte alone.
//!
//! The decoder proper knows every instruction, and pays for it with tables of half a megabyte that
//! it unpacks at its first use: more than a small program otherwise costs. Here are only
//! instructions of 64-bit code with exactly one memory operand, so that a fault which is not on
//! the instruction itself can only be on that.

use platform_api::Access;

/// How the instruction at the start of `code` accesses its one memory operand; `None` for
/// instructions that are not known here, or cut off.
pub(crate) fn access(code: &[u8]) -> Option<Access> {
    let mut rest = code.iter().copied();
    let mut byte = rest.next()?;
    let mut prefixed = false;
    // Operand size, repetition, segments. Address size and `lock` are left to the decoder.
    while matches!(
        byte,
        0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0x66 | 0xf2 | 0xf3
    ) {
        prefixed = true;
        byte = rest.next()?;
    }
    if byte & 0xf0 == 0x40 {
        byte = rest.next()?;
    } else if matches!(byte, 0x62 | 0xc4 | 0xc5) {
        return if prefixed { None } else { vector(byte, rest) };
    }
    match byte {
        0x0f => {
            let opcode = rest.next()?;
            in_memory(rest.next()?)?;
            match opcode {
                // movzx, movsx
                0xb6 | 0xb7 | 0xbe | 0xbf => Some(Access::Read),
                _ => vector_move(opcode),
            }
        }
        // stos, without a ModRM byte
        0xaa | 0xab => Some(Access::Write),
        _ => {
            let modrm = rest.next()?;
            in_memory(modrm)?;
            general(byte, modrm >> 3 & 7)
        }
    }
}

/// Whether the ModRM byte names memory.
fn in_memory(modrm: u8) -> Option<()> {
    (modrm >> 6 != 3).then_some(())
}

/// One-byte opcodes.
fn general(opcode: u8, extension: u8) -> Option<Access> {
    match opcode {
        // cmp, and the other arithmetic by its direction
        0x38..=0x3b => Some(Access::Read),
        0x00..=0x3f if opcode & 7 < 2 => Some(Access::Write),
        0x00..=0x3f if opcode & 7 < 4 => Some(Access::Read),
        // movsxd; test; mov from memory
        0x63 | 0x84 | 0x85 | 0x8a | 0x8b => Some(Access::Read),
        // arithmetic with a constant: all but cmp store
        0x80 | 0x81 | 0x83 if extension == 7 => Some(Access::Read),
        0x80 | 0x81 | 0x83 => Some(Access::Write),
        // mov to memory, of a register and a constant
        0x88 | 0x89 => Some(Access::Write),
        0xc6 | 0xc7 if extension == 0 => Some(Access::Write),
        // inc, dec
        0xfe | 0xff if extension < 2 => Some(Access::Write),
        _ => None,
    }
}

/// Moves between vector registers and memory: the same opcodes in all encodings.
fn vector_move(opcode: u8) -> Option<Access> {
    match opcode {
        0x10 | 0x28 | 0x6f => Some(Access::Read),
        0x11 | 0x29 | 0x7f => Some(Access::Write),
        _ => None,
    }
}

/// VEX and EVEX, in the opcode map of the moves.
fn vector(escape: u8, mut rest: impl Iterator<Item = u8>) -> Option<Access> {
    let first = rest.next()?;
    match escape {
        0xc5 => {}
        0xc4 if first & 0x1f == 1 => {
            rest.next()?;
        }
        0x62 if first & 0x0f == 1 => {
            rest.next()?;
            rest.next()?;
        }
        _ => return None,
    }
    let opcode = rest.next()?;
    in_memory(rest.next()?)?;
    vector_move(opcode)
}
