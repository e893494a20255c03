//! From rules, as a container's configuration has them, to a program.
//!
//! The numbers of all calls are cut into segments that have the same answer; a tree of comparisons
//! finds the segment, and only where arguments matter are there further tests. The answers are
//! those of runc with libseccomp: a rule without conditions counts before those with; a rule that
//! says what is said of all calls anyway is left out; unknown names are no error; and calls newer
//! than all that are named do not exist, so that programs fall back to older ones.

use crate::{Call, Instruction, MAX_INSTRUCTIONS};
use abi::{Errno, libc as b, nr};
use control::boot::{SeccompAction, SeccompCondition, SeccompOp, SeccompSpec};
use std::collections::BTreeMap;

/// The first number of the x32 calls, which do not exist here.
const X32: u32 = 0x4000_0000;

/// Why some rules make no program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The program would have more instructions than there may be.
    TooLarge,
    /// A condition on an argument that calls do not have.
    Argument(u32),
}

/// Makes a program of `spec`.
///
/// # Errors
/// See [`Unfit`].
pub fn compile(spec: &SeccompSpec) -> Result<Vec<Instruction>, Unfit> {
    let segments = segments(spec)?;
    let default = value(spec.default);
    let mut code = vec![
        load(word_of_arch()),
        test(b::BPF_JEQ, crate::ARCH, 1, 0),
        ret(b::SECCOMP_RET_KILL_THREAD),
        load(0),
    ];
    code.extend(tree(&segments, default));
    if code.len() > MAX_INSTRUCTIONS {
        return Err(Unfit::TooLarge);
    }
    Ok(code)
}

/// What is done with calls of some numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer<'a> {
    Always(u32),
    /// The first of these all of whose conditions hold; else the default.
    First(Vec<(&'a [SeccompCondition], u32)>),
}

/// The answers, each with the first number that it is for.
fn segments(spec: &SeccompSpec) -> Result<Vec<(u32, Answer<'_>)>, Unfit> {
    let default = value(spec.default);
    let numbers: BTreeMap<&str, u32> = (0..nr::COUNT)
        .filter_map(|n| nr::name(n).map(|name| (name, n as u32)))
        .collect();
    let mut named: BTreeMap<u32, Answer<'_>> = BTreeMap::new();
    let mut highest = None;
    for rule in &spec.rules {
        if let Some(c) = rule.conditions.iter().find(|c| c.arg > 5) {
            return Err(Unfit::Argument(c.arg));
        }
        let answer = value(rule.action);
        for number in rule.calls.iter().filter_map(|c| numbers.get(c.as_str())) {
            highest = highest.max(Some(*number));
            if answer == default {
                continue;
            }
            let known = named
                .entry(*number)
                .or_insert_with(|| Answer::First(Vec::new()));
            match known {
                Answer::Always(_) => {}
                _ if rule.conditions.is_empty() => *known = Answer::Always(answer),
                // As runc: two conditions on one argument are two rules.
                Answer::First(rules) if repeats(&rule.conditions) => {
                    rules.extend(rule.conditions.chunks(1).map(|c| (c, answer)));
                }
                Answer::First(rules) => rules.push((&rule.conditions, answer)),
            }
        }
    }
    let absent = b::SECCOMP_RET_ERRNO | Errno::ENOSYS.code() as u32;
    let lenient = matches!(
        spec.default,
        SeccompAction::Allow | SeccompAction::Log | SeccompAction::Trace(_)
    );
    let mut all = vec![(0, Answer::Always(default))];
    for (number, answer) in named {
        all.push((number, answer));
        all.push((number + 1, Answer::Always(default)));
    }
    if let Some(highest) = highest.filter(|_| !lenient) {
        all.push((highest + 1, Answer::Always(absent)));
    }
    let x32 = match spec.x32 {
        true => absent,
        false => b::SECCOMP_RET_KILL_THREAD,
    };
    all.push((X32, Answer::Always(x32)));
    // Of those for the same number the last counts; neighbours that say the same are one.
    let mut merged: Vec<(u32, Answer<'_>)> = Vec::with_capacity(all.len());
    for (from, answer) in all {
        while merged.last().is_some_and(|last| last.0 == from) {
            merged.pop();
        }
        if merged.last().is_none_or(|last| last.1 != answer) {
            merged.push((from, answer));
        }
    }
    Ok(merged)
}

fn repeats(conditions: &[SeccompCondition]) -> bool {
    let mut seen = 0u32;
    conditions.iter().any(|c| {
        let bit = 1u32.wrapping_shl(c.arg);
        let again = seen & bit != 0;
        seen |= bit;
        again
    })
}

/// What a filter returns for an action.
fn value(action: SeccompAction) -> u32 {
    match action {
        SeccompAction::KillThread => b::SECCOMP_RET_KILL_THREAD,
        SeccompAction::KillProcess => b::SECCOMP_RET_KILL_PROCESS,
        SeccompAction::Trap => b::SECCOMP_RET_TRAP,
        SeccompAction::Errno(e) => b::SECCOMP_RET_ERRNO | u32::from(e),
        SeccompAction::Trace(data) => b::SECCOMP_RET_TRACE | u32::from(data),
        SeccompAction::Log => b::SECCOMP_RET_LOG,
        SeccompAction::Allow => b::SECCOMP_RET_ALLOW,
    }
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

fn load(offset: u32) -> Instruction {
    instruction(b::BPF_LD | b::BPF_W | b::BPF_ABS, 0, 0, offset)
}

fn test(how: u32, k: u32, jt: u8, jf: u8) -> Instruction {
    instruction(b::BPF_JMP | how | b::BPF_K, jt, jf, k)
}

fn ret(value: u32) -> Instruction {
    instruction(b::BPF_RET | b::BPF_K, 0, 0, value)
}

/// Offset of `arch` in `struct seccomp_data`.
fn word_of_arch() -> u32 {
    4
}

/// Offset of the lower half of an argument; the upper is behind it.
fn word_of_arg(arg: u32) -> u32 {
    16 + 8 * arg
}

/// Finds the answer for the number in the accumulator.
fn tree(segments: &[(u32, Answer<'_>)], default: u32) -> Vec<Instruction> {
    let middle = segments.len() / 2;
    if middle == 0 {
        return match segments.first() {
            Some((_, Answer::First(rules))) => rules
                .iter()
                .flat_map(|(conditions, answer)| all_of(conditions, *answer))
                .chain([ret(default)])
                .collect(),
            Some((_, Answer::Always(answer))) => vec![ret(*answer)],
            None => vec![ret(default)],
        };
    }
    let (below, above) = segments.split_at(middle);
    let from = above.first().map_or(0, |s| s.0);
    let below = tree(below, default);
    let mut code = match u8::try_from(below.len()) {
        Ok(len) => vec![test(b::BPF_JGE, from, len, 0)],
        Err(_) => vec![
            test(b::BPF_JGE, from, 0, 1),
            instruction(b::BPF_JMP | b::BPF_JA, 0, 0, below.len() as u32),
        ],
    };
    code.extend(below);
    code.extend(tree(above, default));
    code
}

/// Where a test of a condition goes on.
#[derive(Clone, Copy)]
enum To {
    /// The next instruction.
    Next,
    /// The condition holds.
    Holds,
    /// It does not, and so the rule.
    Fails,
}

/// Returns `answer` if all `conditions` hold, else falls through.
fn all_of(conditions: &[SeccompCondition], answer: u32) -> Vec<Instruction> {
    let steps: Vec<Vec<(Instruction, To, To)>> = conditions.iter().map(steps).collect();
    let end = steps.iter().map(Vec::len).sum::<usize>() + 1;
    let mut code = Vec::with_capacity(end);
    for condition in steps {
        let holds = code.len() + condition.len();
        for (mut i, yes, no) in condition {
            let at = code.len();
            // Six conditions of six instructions at most: a distance is less than 256.
            let distance = |to| match to {
                To::Next => 0,
                To::Holds => (holds - at - 1) as u8,
                To::Fails => (end - at - 1) as u8,
            };
            (i.jt, i.jf) = (distance(yes), distance(no));
            code.push(i);
        }
    }
    code.push(ret(answer));
    code
}

/// The tests of one condition: of the upper half, then of the lower.
fn steps(c: &SeccompCondition) -> Vec<(Instruction, To, To)> {
    use To::{Fails, Holds, Next};
    let (low, high) = (c.value as u32, (c.value >> 32) as u32);
    let plain = |i| (i, Next, Next);
    let jump = |how, k, yes, no| (test(how, k, 0, 0), yes, no);
    let upper = plain(load(word_of_arg(c.arg) + 4));
    let lower = plain(load(word_of_arg(c.arg)));
    let mask = |k| plain(instruction(b::BPF_ALU | b::BPF_AND | b::BPF_K, 0, 0, k));
    let (eq, gt, ge) = (b::BPF_JEQ, b::BPF_JGT, b::BPF_JGE);
    match c.op {
        SeccompOp::Equal => vec![
            upper,
            jump(eq, high, Next, Fails),
            lower,
            jump(eq, low, Holds, Fails),
        ],
        SeccompOp::NotEqual => vec![
            upper,
            jump(eq, high, Next, Holds),
            lower,
            jump(eq, low, Fails, Holds),
        ],
        SeccompOp::Greater | SeccompOp::GreaterEqual => vec![
            upper,
            jump(gt, high, Holds, Next),
            jump(eq, high, Next, Fails),
            lower,
            match c.op {
                SeccompOp::Greater => jump(gt, low, Holds, Fails),
                _ => jump(ge, low, Holds, Fails),
            },
        ],
        SeccompOp::Less | SeccompOp::LessEqual => vec![
            upper,
            jump(gt, high, Fails, Next),
            jump(eq, high, Next, Holds),
            lower,
            match c.op {
                SeccompOp::Less => jump(ge, low, Fails, Holds),
                _ => jump(gt, low, Fails, Holds),
            },
        ],
        SeccompOp::MaskedEqual(bits) => vec![
            upper,
            mask((bits >> 32) as u32),
            jump(eq, high, Next, Fails),
            lower,
            mask(bits as u32),
            jump(eq, low, Holds, Fails),
        ],
    }
}

/// What the execve(2) that starts a container's program is to a filter.
pub fn first_exec() -> Call {
    Call {
        nr: nr::execve as u32,
        ip: 0,
        args: [0; 6],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, Filter, Program, Verdict};
    use control::boot::SeccompRule;
    use proptest::prelude::*;

    fn rule(calls: &[&str], action: SeccompAction, conditions: &[SeccompCondition]) -> SeccompRule {
        SeccompRule {
            calls: calls.iter().map(|c| (*c).to_owned()).collect(),
            action,
            conditions: conditions.to_vec(),
        }
    }

    fn spec(default: SeccompAction, rules: Vec<SeccompRule>) -> SeccompSpec {
        SeccompSpec {
            default,
            rules,
            x32: true,
            log: false,
        }
    }

    fn judge(spec: &SeccompSpec, nr: u32, args: [u64; 6]) -> Verdict {
        let program = Program::check(&compile(spec).unwrap()).unwrap();
        let filter = Filter::new(program, None, false, None).unwrap();
        filter.judge(&Call { nr, ip: 0, args }).0
    }

    const DENY: SeccompAction = SeccompAction::Errno(1);

    #[test]
    fn calls_are_told_apart_and_new_ones_do_not_exist() {
        let names = ["read", "write", "exit_group", "openat", "nonsense"];
        let s = spec(DENY, vec![rule(&names, SeccompAction::Allow, &[])]);
        let code = |nr| {
            let v = judge(&s, nr, [0; 6]);
            (v.action(), v.data())
        };
        assert_eq!(code(nr::read as u32), (Action::Allow, 0));
        assert_eq!(code(nr::openat as u32), (Action::Allow, 0));
        assert_eq!(code(nr::close as u32), (Action::Errno, 1));
        assert_eq!(code(nr::openat as u32 + 1), (Action::Errno, 38));
        assert_eq!(code(X32), (Action::Errno, 38));
        let mut without = s.clone();
        without.x32 = false;
        assert_eq!(judge(&without, X32, [0; 6]).action(), Action::KillThread);
    }

    #[test]
    fn rules_without_conditions_count_first_and_those_of_the_default_not_at_all() {
        let zero = SeccompCondition {
            arg: 0,
            op: SeccompOp::Equal,
            value: 0,
        };
        let s = spec(
            SeccompAction::Allow,
            vec![
                rule(&["read"], SeccompAction::Errno(5), &[zero]),
                rule(&["read"], SeccompAction::Errno(6), &[]),
                rule(&["write"], SeccompAction::Allow, &[]),
                rule(&["write"], SeccompAction::Errno(7), &[]),
                rule(&["close"], SeccompAction::Errno(8), &[zero]),
            ],
        );
        assert_eq!(judge(&s, nr::read as u32, [0; 6]).data(), 6);
        assert_eq!(judge(&s, nr::write as u32, [0; 6]).data(), 7);
        assert_eq!(judge(&s, nr::close as u32, [0; 6]).data(), 8);
        assert_eq!(judge(&s, nr::close as u32, [1; 6]), Verdict::ALLOW);
        assert_eq!(judge(&s, nr::COUNT as u32 + 5, [0; 6]), Verdict::ALLOW);
    }

    #[test]
    fn what_cannot_be_compiled_is_told() {
        let conditions: Vec<SeccompCondition> = (0..6)
            .map(|arg| SeccompCondition {
                arg,
                op: SeccompOp::MaskedEqual(u64::MAX),
                value: 1,
            })
            .collect();
        let many = vec![rule(&["read"], SeccompAction::Allow, &conditions); 120];
        assert_eq!(compile(&spec(DENY, many)), Err(Unfit::TooLarge));
        let mut bad = conditions[0];
        bad.arg = 6;
        let bad = vec![rule(&["read"], SeccompAction::Allow, &[bad])];
        assert_eq!(compile(&spec(DENY, bad)), Err(Unfit::Argument(6)));
    }

    fn any_op() -> impl Strategy<Value = SeccompOp> {
        prop_oneof![
            Just(SeccompOp::Equal),
            Just(SeccompOp::NotEqual),
            Just(SeccompOp::Less),
            Just(SeccompOp::LessEqual),
            Just(SeccompOp::Greater),
            Just(SeccompOp::GreaterEqual),
            any_value().prop_map(SeccompOp::MaskedEqual),
        ]
    }

    /// Few values, so that they meet, with all combinations of halves.
    fn any_value() -> impl Strategy<Value = u64> {
        let half = prop_oneof![
            Just(0u64),
            Just(1),
            Just(2),
            Just(0x8000_0000),
            Just(0xffff_ffff)
        ];
        (half.clone(), half).prop_map(|(h, l)| h << 32 | l)
    }

    fn holds(c: &SeccompCondition, args: &[u64; 6]) -> bool {
        let arg = args[c.arg as usize];
        match c.op {
            SeccompOp::Equal => arg == c.value,
            SeccompOp::NotEqual => arg != c.value,
            SeccompOp::Less => arg < c.value,
            SeccompOp::LessEqual => arg <= c.value,
            SeccompOp::Greater => arg > c.value,
            SeccompOp::GreaterEqual => arg >= c.value,
            SeccompOp::MaskedEqual(mask) => arg & mask == c.value,
        }
    }

    proptest! {
        #[test]
        fn programs_do_what_rules_say(
            rules in proptest::collection::vec(
                (0u32..30, 1u16..9, proptest::collection::btree_map(0u32..6, (any_op(), any_value()), 0..4)),
                0..30,
            ),
            calls in proptest::collection::vec((0u32..32, proptest::array::uniform6(any_value())), 20),
        ) {
            let rules: Vec<SeccompRule> = rules
                .into_iter()
                .map(|(number, answer, conditions)| {
                    let conditions: Vec<SeccompCondition> = conditions
                        .into_iter()
                        .map(|(arg, (op, value))| SeccompCondition { arg, op, value })
                        .collect();
                    let name = nr::name(number as usize).unwrap();
                    rule(&[name], SeccompAction::Errno(answer), &conditions)
                })
                .collect();
            let s = spec(SeccompAction::Allow, rules);
            let program = Program::check(&compile(&s).unwrap()).unwrap();
            let filter = Filter::new(program, None, false, None).unwrap();
            for (number, args) in calls {
                let name = nr::name(number as usize).unwrap();
                let of: Vec<&SeccompRule> =
                    s.rules.iter().filter(|r| r.calls[0] == name).collect();
                let wanted = of
                    .iter()
                    .find(|r| r.conditions.is_empty())
                    .or_else(|| of.iter().find(|r| r.conditions.iter().all(|c| holds(c, &args))));
                let (verdict, _) = filter.judge(&Call { nr: number, ip: 0, args });
                match wanted.map(|r| r.action) {
                    Some(SeccompAction::Errno(e)) => prop_assert_eq!(verdict.data(), e),
                    _ => prop_assert_eq!(verdict, Verdict::ALLOW),
                }
            }
        }
    }
}
