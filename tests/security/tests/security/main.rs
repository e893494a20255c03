//! What docs/security.md promises of a running container, looked at from the host.
//!
//! `cargo test -p security-tests --test security`, as root; `RINGFENCE_TEST_RUNTIME` names the
//! binary.
#![forbid(unsafe_code)]

mod confined;
mod groups;
mod observed;
mod state;
mod world;

use std::process::ExitCode;
use test_support::is_root;
use test_support::report::Report;
use world::World;

/// A test: its name, and what it does in a world of its own.
type Test = (&'static str, fn(&World) -> anyhow::Result<()>);

const TESTS: &[Test] = &[
    (
        "every_thread_has_nothing",
        confined::every_thread_has_nothing,
    ),
    (
        "namespaces_root_and_environment",
        confined::namespaces_root_and_environment,
    ),
    (
        "each_descriptor_is_accounted_for",
        confined::each_descriptor_is_accounted_for,
    ),
    (
        "nothing_writable_is_executable",
        confined::nothing_writable_is_executable,
    ),
    (
        "a_group_holds_every_process",
        groups::a_group_holds_every_process,
    ),
    (
        "a_group_goes_after_a_crash",
        groups::a_group_goes_after_a_crash,
    ),
    (
        "a_refused_limit_leaves_nothing",
        groups::a_refused_limit_leaves_nothing,
    ),
    ("systemds_form_is_mapped", groups::systemds_form_is_mapped),
    (
        "files_of_others_are_left_alone",
        state::files_of_others_are_left_alone,
    ),
    (
        "a_silent_sandbox_holds_nobody_up",
        state::a_silent_sandbox_holds_nobody_up,
    ),
    (
        "names_of_processes_reach_no_terminal",
        observed::names_of_processes_reach_no_terminal,
    ),
    ("any_number_may_wait", observed::any_number_may_wait),
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if wanted.iter().any(|a| a == "--list") {
        return ExitCode::SUCCESS;
    }
    let mut report = Report::default();
    if !is_root() {
        report.skip(
            "security",
            "looking into the processes of a sandbox needs root",
        );
        return report.close("security");
    }
    let named = |name: &str| {
        let mut names = wanted.iter().filter(|a| !a.starts_with('-')).peekable();
        names.peek().is_none() || names.any(|a| name.contains(a.as_str()))
    };
    for (name, test) in TESTS.iter().filter(|(name, _)| named(name)) {
        match World::new().and_then(|world| test(&world)) {
            Ok(()) => report.pass_named(name),
            Err(e) => match e.downcast_ref::<world::Skip>() {
                Some(skip) => report.skip(name, &skip.0),
                None => report.fail(name, &format!("{e:#}")),
            },
        }
    }
    report.close("security")
}
