//! The spec's seccomp profile, as the sandbox compiles it.

use super::{ConfigError, field};
use control::boot::{SeccompAction, SeccompCondition, SeccompOp, SeccompRule, SeccompSpec};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg,
    LinuxSeccompFilterFlag as Flag, LinuxSeccompOperator as Operator,
};

/// System calls have so many arguments.
const ARGUMENTS: usize = 6;

/// The actions that are honoured, by their names in the specification.
pub const ACTIONS: &[Action] = &[
    Action::ScmpActAllow,
    Action::ScmpActErrno,
    Action::ScmpActKill,
    Action::ScmpActKillProcess,
    Action::ScmpActKillThread,
    Action::ScmpActLog,
    Action::ScmpActTrace,
    Action::ScmpActTrap,
];
/// The comparisons that are.
pub const OPERATORS: &[Operator] = &[
    Operator::ScmpCmpEq,
    Operator::ScmpCmpGe,
    Operator::ScmpCmpGt,
    Operator::ScmpCmpLe,
    Operator::ScmpCmpLt,
    Operator::ScmpCmpMaskedEq,
    Operator::ScmpCmpNe,
];
/// The architectures whose calls a container can make, or is told that there are none.
pub const ARCHITECTURES: &[Arch] = &[Arch::ScmpArchX86_64, Arch::ScmpArchX32];
/// The flags that are taken.
pub const FLAGS: &[Flag] = &[
    Flag::SeccompFilterFlagLog,
    Flag::SeccompFilterFlagSpecAllow,
    Flag::SeccompFilterFlagTsync,
];

/// Checks and converts. A profile that allows everything is none.
pub(super) fn convert(profile: &LinuxSeccomp) -> Result<Option<SeccompSpec>, ConfigError> {
    let errno = profile.default_errno_ret();
    let default = action(
        profile.default_action(),
        errno,
        "linux.seccomp.defaultAction",
    )?;
    if profile.listener_path().is_some() {
        return Err(no_listener("linux.seccomp.listenerPath"));
    }
    let rules = profile
        .syscalls()
        .iter()
        .flatten()
        .map(|call| {
            let action = action(call.action(), call.errno_ret(), "linux.seccomp.syscalls")?;
            let args = call.args().iter().flatten();
            Ok(SeccompRule {
                calls: call.names().clone(),
                action,
                conditions: args.map(condition).collect::<Result<_, _>>()?,
            })
        })
        .collect::<Result<Vec<_>, ConfigError>>()?;
    if default == SeccompAction::Allow && rules.is_empty() {
        return Ok(None);
    }
    let flags = profile.flags().as_deref().unwrap_or_default();
    let archs = profile.architectures().as_deref().unwrap_or_default();
    Ok(Some(SeccompSpec {
        default,
        rules,
        x32: archs.contains(&Arch::ScmpArchX32),
        log: flags.contains(&Flag::SeccompFilterFlagLog),
    }))
}

fn no_listener(name: &'static str) -> ConfigError {
    let problem = "it asks for a supervisor that decides on calls (SCMP_ACT_NOTIFY), which is not \
                   supported; give those calls another action";
    field(name, problem)
}

fn action(
    action: Action,
    errno: Option<u32>,
    name: &'static str,
) -> Result<SeccompAction, ConfigError> {
    // What fits into a filter's answer, as runc cuts it.
    let data = errno.unwrap_or(libc::EPERM as u32) as u16;
    Ok(match action {
        Action::ScmpActKill | Action::ScmpActKillThread => SeccompAction::KillThread,
        Action::ScmpActKillProcess => SeccompAction::KillProcess,
        Action::ScmpActTrap => SeccompAction::Trap,
        Action::ScmpActErrno => SeccompAction::Errno(data),
        Action::ScmpActTrace => SeccompAction::Trace(data),
        Action::ScmpActLog => SeccompAction::Log,
        Action::ScmpActAllow => SeccompAction::Allow,
        Action::ScmpActNotify => return Err(no_listener(name)),
    })
}

fn condition(arg: &LinuxSeccompArg) -> Result<SeccompCondition, ConfigError> {
    if arg.index() >= ARGUMENTS {
        let problem = format!("there is no argument {}: they are 0 to 5", arg.index());
        return Err(field("linux.seccomp.syscalls.args.index", problem));
    }
    let (op, value) = match arg.op() {
        Operator::ScmpCmpEq => (SeccompOp::Equal, arg.value()),
        Operator::ScmpCmpNe => (SeccompOp::NotEqual, arg.value()),
        Operator::ScmpCmpLt => (SeccompOp::Less, arg.value()),
        Operator::ScmpCmpLe => (SeccompOp::LessEqual, arg.value()),
        Operator::ScmpCmpGt => (SeccompOp::Greater, arg.value()),
        Operator::ScmpCmpGe => (SeccompOp::GreaterEqual, arg.value()),
        Operator::ScmpCmpMaskedEq => (
            SeccompOp::MaskedEqual(arg.value()),
            arg.value_two().unwrap_or(0),
        ),
    };
    Ok(SeccompCondition {
        arg: arg.index() as u32,
        op,
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(json: &str) -> Result<Option<SeccompSpec>, ConfigError> {
        convert(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_profile_is_read_whole() {
        let got = profile(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,
                "architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X32"],
                "flags":["SECCOMP_FILTER_FLAG_LOG"],
                "syscalls":[{"names":["read","write"],"action":"SCMP_ACT_ALLOW"},
                {"names":["clone"],"action":"SCMP_ACT_TRACE","args":[
                {"index":1,"value":7,"valueTwo":3,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#,
        );
        let got = got.unwrap().unwrap();
        assert_eq!(got.default, SeccompAction::Errno(38));
        assert!(got.x32 && got.log);
        assert_eq!(got.rules[0].calls, ["read", "write"]);
        assert_eq!(got.rules[1].action, SeccompAction::Trace(1));
        let condition = SeccompCondition {
            arg: 1,
            op: SeccompOp::MaskedEqual(7),
            value: 3,
        };
        assert_eq!(got.rules[1].conditions, [condition]);
    }

    #[test]
    fn what_cannot_be_had_is_refused_by_name() {
        let cases = [
            (r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, "SCMP_ACT_NOTIFY"),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/agent.sock"}"#,
                "listenerPath",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],
                "action":"SCMP_ACT_KILL","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#,
                "argument 6",
            ),
        ];
        for (json, word) in cases {
            let text = profile(json).unwrap_err().to_string();
            assert!(text.contains(word), "{text} should name {word}");
        }
        assert_eq!(
            profile(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#).unwrap(),
            None
        );
    }
}
