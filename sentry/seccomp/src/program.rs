//! A checked program, and running it.

use crate::{Call, check};
use abi::{Errno, nr};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `BPF_MAXINSNS`
pub const MAX_INSTRUCTIONS: usize = 4096;
/// Scratch cells (`BPF_MEMWORDS`).
pub(crate) const CELLS: usize = 16;

/// `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "the fields are Linux's own names")]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// Where an operand comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    K(u32),
    X,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alu {
    Add,
    Sub,
    Mul,
    Div,
    And,
    Or,
    Xor,
    Shl,
    Shr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    Equal,
    Greater,
    GreaterEqual,
    AnyBit,
}

/// An instruction that has been checked. Where it goes is the index of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// A word of the call.
    LoadCall(u8),
    LoadA(u32),
    LoadX(u32),
    LoadCellA(u8),
    LoadCellX(u8),
    StoreA(u8),
    StoreX(u8),
    CopyToX,
    CopyToA,
    Alu(Alu, Source),
    Negate,
    Jump(u16),
    JumpIf {
        test: Test,
        than: Source,
        yes: u16,
        no: u16,
    },
    Return(u32),
    ReturnA,
}

/// A program that ends and looks at nothing but the call.
#[derive(Debug)]
pub struct Program {
    ops: Box<[Op]>,
    /// What the guest gave.
    source: Box<[Instruction]>,
    weight: usize,
    allowed: Allowed,
}

/// The calls that a program allows whatever their arguments are, a bit each.
pub(crate) type Allowed = [u64; nr::COUNT.div_ceil(64)];

impl Program {
    /// Checks what a guest gave, as Linux does.
    ///
    /// # Errors
    /// `EINVAL` for anything that is not a filter.
    pub fn check(code: &[Instruction]) -> Result<Program, Errno> {
        let mut program = Program {
            ops: check::check(code)?,
            source: code.into(),
            weight: check::weight(code),
            allowed: Allowed::default(),
        };
        program.allowed = program.allows_always();
        Ok(program)
    }

    /// The instructions it was made of.
    pub fn instructions(&self) -> &[Instruction] {
        &self.source
    }

    /// How many instructions Linux's translation of it has: what its limit counts.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    pub(crate) fn allowed(&self) -> &Allowed {
        &self.allowed
    }

    /// Its return value for `call`.
    pub fn run(&self, call: &Call) -> u32 {
        self.interpret(|index| Some(call.word(index))).unwrap_or(0)
    }

    fn allows_always(&self) -> Allowed {
        let mut all = Allowed::default();
        for number in 0..nr::COUNT {
            let known = |index| match index {
                0 => Some(number as u32),
                1 => Some(crate::ARCH),
                _ => None,
            };
            if self.interpret(known) == Some(abi::libc::SECCOMP_RET_ALLOW) {
                all[number / 64] |= 1 << (number % 64);
            }
        }
        all
    }

    /// Runs it on a call of which `word` tells the words; `None` when it looks at one that is not
    /// told.
    #[inline]
    fn interpret(&self, word: impl Fn(usize) -> Option<u32>) -> Option<u32> {
        let (mut a, mut x, mut cells) = (0u32, 0u32, [0u32; CELLS]);
        let mut at = 0;
        while let Some(op) = self.ops.get(at) {
            at += 1;
            let value = |source: Source, x: u32| match source {
                Source::K(k) => k,
                Source::X => x,
            };
            match *op {
                Op::LoadCall(index) => a = word(usize::from(index))?,
                Op::LoadA(k) => a = k,
                Op::LoadX(k) => x = k,
                Op::LoadCellA(cell) => a = cells[usize::from(cell) % CELLS],
                Op::LoadCellX(cell) => x = cells[usize::from(cell) % CELLS],
                Op::StoreA(cell) => cells[usize::from(cell) % CELLS] = a,
                Op::StoreX(cell) => cells[usize::from(cell) % CELLS] = x,
                Op::CopyToX => x = a,
                Op::CopyToA => a = x,
                Op::Alu(alu, source) => {
                    let v = value(source, x);
                    a = match alu {
                        Alu::Add => a.wrapping_add(v),
                        Alu::Sub => a.wrapping_sub(v),
                        Alu::Mul => a.wrapping_mul(v),
                        // Division by zero ends a program with 0.
                        Alu::Div => match a.checked_div(v) {
                            Some(quotient) => quotient,
                            None => return Some(0),
                        },
                        Alu::And => a & v,
                        Alu::Or => a | v,
                        Alu::Xor => a ^ v,
                        Alu::Shl => a.wrapping_shl(v),
                        Alu::Shr => a.wrapping_shr(v),
                    };
                }
                Op::Negate => a = a.wrapping_neg(),
                Op::Jump(to) => at = usize::from(to),
                Op::JumpIf {
                    test,
                    than,
                    yes,
                    no,
                } => {
                    let v = value(than, x);
                    let holds = match test {
                        Test::Equal => a == v,
                        Test::Greater => a > v,
                        Test::GreaterEqual => a >= v,
                        Test::AnyBit => a & v != 0,
                    };
                    at = usize::from(if holds { yes } else { no });
                }
                Op::Return(k) => return Some(k),
                Op::ReturnA => return Some(a),
            }
        }
        // Not reached: the last instruction returns.
        Some(0)
    }
}
