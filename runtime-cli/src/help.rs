//! `help`

use crate::lifecycle::print;
use crate::setup::Failure;
use crate::{Build, args};

/// Prints help on a command, on `syscalls`, or in general.
pub(crate) fn run(build: &Build, topic: &[String]) -> Result<i32, Failure> {
    let mut whole = args::description(build);
    whole.build();
    match topic {
        [] => print(&format!("{}\n", whole.render_long_help())),
        [one] if one == "syscalls" => print(&boot::syscalls_help()),
        [one, ..] => match whole.find_subcommand_mut(one) {
            Some(command) => print(&format!("{}\n", command.render_long_help())),
            None => {
                return Err(Failure::new(format!(
                    "there is no command `{one}`; `ringfence help` lists them"
                )));
            }
        },
    }
    Ok(0)
}
