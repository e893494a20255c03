//! From a guest's instructions to a program that can be run without a further look.

use crate::DATA_SIZE;
use crate::program::{Alu, CELLS, Instruction, MAX_INSTRUCTIONS, Op, Source, Test};
use abi::Errno;
use abi::libc as b;

/// The bits of a code. Linux knows no code with others.
const CLASS: u32 = 0x07;
const SOURCE: u32 = 0x08;
const OPERATION: u32 = 0xf0;
/// Bits in a word: shifts by as many or more are refused.
const WORD: u32 = 32;

/// Checks `code`.
///
/// # Errors
/// `EINVAL`
pub(crate) fn check(code: &[Instruction]) -> Result<Box<[Op]>, Errno> {
    if code.is_empty() || code.len() > MAX_INSTRUCTIONS {
        return Err(Errno::EINVAL);
    }
    let ops: Box<[Op]> = code
        .iter()
        .enumerate()
        .map(|(at, i)| decode(i, at, code.len()))
        .collect::<Result<_, _>>()?;
    match ops.last() {
        Some(Op::Return(_) | Op::ReturnA) => {}
        _ => return Err(Errno::EINVAL),
    }
    cells_are_written_first(&ops)?;
    Ok(ops)
}

fn decode(i: &Instruction, at: usize, len: usize) -> Result<Op, Errno> {
    let code = u32::from(i.code);
    let source = match code & SOURCE {
        b::BPF_K => Source::K(i.k),
        _ => Source::X,
    };
    let cell = || match usize::try_from(i.k) {
        Ok(k) if k < CELLS => Ok(k as u8),
        _ => Err(Errno::EINVAL),
    };
    let target = |distance: u32| -> Result<u16, Errno> {
        let to = at + 1 + distance as usize;
        if to < len {
            Ok(to as u16)
        } else {
            Err(Errno::EINVAL)
        }
    };
    const LOAD: u32 = b::BPF_LD | b::BPF_W;
    const LOAD_X: u32 = b::BPF_LDX | b::BPF_W;
    Ok(match code & CLASS {
        _ if i.code > 0xff => return Err(Errno::EINVAL),
        b::BPF_LD | b::BPF_LDX => match code {
            _ if code == LOAD | b::BPF_ABS && i.k < DATA_SIZE && i.k.is_multiple_of(4) => {
                Op::LoadCall((i.k / 4) as u8)
            }
            // The length of what is looked at.
            _ if code == LOAD | b::BPF_LEN => Op::LoadA(DATA_SIZE),
            _ if code == LOAD_X | b::BPF_LEN => Op::LoadX(DATA_SIZE),
            _ if code == LOAD | b::BPF_IMM => Op::LoadA(i.k),
            _ if code == LOAD_X | b::BPF_IMM => Op::LoadX(i.k),
            _ if code == LOAD | b::BPF_MEM => Op::LoadCellA(cell()?),
            _ if code == LOAD_X | b::BPF_MEM => Op::LoadCellX(cell()?),
            _ => return Err(Errno::EINVAL),
        },
        b::BPF_ST if code == b::BPF_ST => Op::StoreA(cell()?),
        b::BPF_STX if code == b::BPF_STX => Op::StoreX(cell()?),
        b::BPF_ALU => alu(code, source)?,
        b::BPF_JMP if code == b::BPF_JMP | b::BPF_JA => Op::Jump(target(i.k)?),
        b::BPF_JMP => Op::JumpIf {
            test: match code & OPERATION {
                b::BPF_JEQ => Test::Equal,
                b::BPF_JGT => Test::Greater,
                b::BPF_JGE => Test::GreaterEqual,
                b::BPF_JSET => Test::AnyBit,
                _ => return Err(Errno::EINVAL),
            },
            than: source,
            yes: target(u32::from(i.jt))?,
            no: target(u32::from(i.jf))?,
        },
        b::BPF_RET if code == b::BPF_RET | b::BPF_K => Op::Return(i.k),
        b::BPF_RET if code == b::BPF_RET | b::BPF_A => Op::ReturnA,
        b::BPF_MISC if code == b::BPF_MISC | b::BPF_TAX => Op::CopyToX,
        b::BPF_MISC if code == b::BPF_MISC | b::BPF_TXA => Op::CopyToA,
        _ => return Err(Errno::EINVAL),
    })
}

fn alu(code: u32, source: Source) -> Result<Op, Errno> {
    let alu = match code & OPERATION {
        b::BPF_NEG if source != Source::X => return Ok(Op::Negate),
        b::BPF_ADD => Alu::Add,
        b::BPF_SUB => Alu::Sub,
        b::BPF_MUL => Alu::Mul,
        b::BPF_DIV if source != Source::K(0) => Alu::Div,
        b::BPF_AND => Alu::And,
        b::BPF_OR => Alu::Or,
        b::BPF_XOR => Alu::Xor,
        b::BPF_LSH | b::BPF_RSH if matches!(source, Source::K(k) if k >= WORD) => {
            return Err(Errno::EINVAL);
        }
        b::BPF_LSH => Alu::Shl,
        b::BPF_RSH => Alu::Shr,
        _ => return Err(Errno::EINVAL),
    };
    Ok(Op::Alu(alu, source))
}

/// On every way to a load from a scratch cell there must be a store to it.
fn cells_are_written_first(ops: &[Op]) -> Result<(), Errno> {
    let mut on_arrival = vec![u16::MAX; ops.len()];
    // What falls through from one instruction to the next has written these.
    let mut written = 0u16;
    for (at, op) in ops.iter().enumerate() {
        written &= on_arrival[at];
        match *op {
            Op::StoreA(cell) | Op::StoreX(cell) => written |= 1 << cell,
            Op::LoadCellA(cell) | Op::LoadCellX(cell) if written & 1 << cell == 0 => {
                return Err(Errno::EINVAL);
            }
            Op::Jump(to) => {
                on_arrival[usize::from(to)] &= written;
                written = u16::MAX;
            }
            Op::JumpIf { yes, no, .. } => {
                on_arrival[usize::from(yes)] &= written;
                on_arrival[usize::from(no)] &= written;
                written = u16::MAX;
            }
            _ => {}
        }
    }
    Ok(())
}

/// How many instructions Linux's own translation of `code` has. Its limit on the filters of a task
/// is on these, and so can be told from inside.
pub(crate) fn weight(code: &[Instruction]) -> usize {
    /// Clearing both registers and keeping the pointer to the call.
    const PROLOGUE: usize = 3;
    let one = |i: &Instruction| {
        let code = u32::from(i.code);
        match code & CLASS {
            // A value and a return.
            b::BPF_RET if code & SOURCE_OF_RETURN == b::BPF_K => 2,
            // With a look for zero.
            b::BPF_ALU if code == b::BPF_ALU | b::BPF_DIV | b::BPF_X => 5,
            b::BPF_JMP if code & OPERATION != b::BPF_JA => {
                // Immediate operands are signed there: larger ones are loaded first.
                let wide = code & SOURCE == b::BPF_K && (i.k as i32) < 0;
                let inverted = i.jt == 0 && code & OPERATION != b::BPF_JSET;
                1 + usize::from(wide) + usize::from(i.jf != 0 && !inverted)
            }
            _ => 1,
        }
    };
    /// `BPF_RVAL`
    const SOURCE_OF_RETURN: u32 = 0x18;
    PROLOGUE + code.iter().map(one).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, Call, Filter, Program};
    use proptest::prelude::*;

    /// Codes that there are, with small operands, so that many programs are accepted; and others.
    fn any_instruction() -> impl Strategy<Value = Instruction> {
        let codes = [
            0x20u16, 0x80, 0x81, 0x00, 0x01, 0x60, 0x61, 0x02, 0x03, 0x04, 0x0c, 0x14, 0x1c, 0x24,
            0x34, 0x3c, 0x54, 0x64, 0x6c, 0x74, 0x84, 0xa4, 0x05, 0x15, 0x1d, 0x25, 0x35, 0x45,
            0x06, 0x16, 0x07, 0x87,
        ];
        let code = prop_oneof![9 => proptest::sample::select(codes.to_vec()), 1 => any::<u16>()];
        let k = prop_oneof![4 => 0u32..8, 1 => Just(0x7fff_0000), 1 => any::<u32>()];
        (code, 0u8..4, 0u8..4, k).prop_map(|(code, jt, jf, k)| Instruction { code, jt, jf, k })
    }

    proptest! {
        #[test]
        fn what_is_accepted_ends_and_what_is_known_beforehand_is_true(
            mut code in proptest::collection::vec(any_instruction(), 0..12),
            nr in 0u32..8,
            args in proptest::array::uniform6(0u64..4),
        ) {
            code.push(Instruction { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 });
            if let Ok(program) = Program::check(&code) {
                let call = Call { nr, ip: 0, args };
                let value = program.run(&call);
                let verdict = Filter::new(program, None, false, None).unwrap().judge(&call).0;
                if verdict.action() == Action::Allow {
                    prop_assert_eq!(value >> 16, 0x7fff);
                } else {
                    prop_assert_eq!(u32::from(verdict.data()), value & 0xffff);
                }
            }
        }
    }
}
