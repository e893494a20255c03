//! What the caller can get wrong, and machines that cannot do it: a message that says what to do,
//! a status, and nothing left behind.

use crate::case::{Result, Stop, cases, ensure, exited, refused};
use crate::place::{Place, need, need_root};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use test_support::bundle::Runtime;
use test_support::run;

cases!("bad_input":
    no_bundle,
    no_config,
    no_rootfs,
    a_program_that_is_not_there,
    a_program_that_cannot_be_executed,
    ids_that_are_none,
    a_state_directory_that_cannot_be,
    a_damaged_state_file,
    an_executable_that_others_may_not_run,
    no_more_user_namespaces,
    user_namespaces_are_forbidden,
    hidden_commands_are_not_for_users,
    standard_output_is_gone,
);

fn no_bundle(place: &Place<'_>) -> Result {
    let outcome = place.ringfence(&["run", "--bundle", "/nosuch/bundle", "c"]);
    refused(&outcome, 128, &["/nosuch/bundle", "--bundle"])?;
    let outcome = place.ringfence(&["create", "--bundle", "/etc/passwd", "c"]);
    refused(&outcome, 128, &["/etc/passwd", "--bundle"])?;
    place.nothing_left()
}

fn no_config(place: &Place<'_>) -> Result {
    let dir = place.dir.join("empty");
    std::fs::create_dir(&dir)?;
    let bundle = dir.to_string_lossy().into_owned();
    let words = ["config.json", "ringfence spec"];
    refused(&place.ringfence(&["run", "-b", &bundle, "c"]), 128, &words)?;
    std::fs::create_dir(dir.join("config.json"))?;
    refused(
        &place.ringfence(&["run", "-b", &bundle, "c"]),
        128,
        &["config.json"],
    )?;
    std::fs::remove_dir(dir.join("config.json"))?;
    symlink("config.json", dir.join("config.json"))?;
    refused(
        &place.ringfence(&["run", "-b", &bundle, "c"]),
        128,
        &["config.json"],
    )?;
    std::fs::remove_file(dir.join("config.json"))?;
    // Reading it must not wait for a writer.
    exited(
        &run::run_plain(Command::new("mkfifo").arg(dir.join("config.json"))),
        0,
    )?;
    refused(
        &place.ringfence(&["run", "-b", &bundle, "c"]),
        128,
        &["config.json"],
    )?;
    place.nothing_left()
}

fn no_rootfs(place: &Place<'_>) -> Result {
    for (path, words) in [
        ("nosuch", ["nosuch", "root.path"]),
        ("/etc/passwd", ["/etc/passwd", "root.path"]),
        ("", ["root", "root.path"]),
    ] {
        let dir = place.shell("true", |c| c["root"]["path"] = path.into())?;
        if path.is_empty() {
            // The bundle itself: there is no /bin/sh in it.
            exited(&place.run(&dir, "c"), 127)?;
        } else {
            refused(&place.run(&dir, "c"), 128, &words)?;
        }
    }
    place.nothing_left()
}

fn a_program_that_is_not_there(place: &Place<'_>) -> Result {
    for (program, cwd) in [
        ("/nosuch", "/"),
        // The directory is made, as runc makes it.
        ("nosuch", "/new/directory"),
        ("./nosuch", "/"),
        ("/bin/sh/x", "/"),
        ("", "/"),
    ] {
        let mut bundle = place.bundle(&[program])?;
        bundle.config["process"]["cwd"] = cwd.into();
        bundle.write()?;
        let outcome = place.run(&bundle.dir, "c");
        refused(&outcome, 127, &["cannot execute"])?;
        // In two steps it is the first that says it, and nothing has come of it.
        let dir = bundle.dir.to_string_lossy().into_owned();
        let outcome = place.ringfence(&["create", "-b", &dir, "c"]);
        refused(&outcome, 127, &["cannot execute"])?;
        refused(&place.ringfence(&["state", "c"]), 128, &["does not exist"])?;
    }
    place.nothing_left()
}

fn a_program_that_cannot_be_executed(place: &Place<'_>) -> Result {
    let root = place.tree()?;
    std::fs::write(root.join("plain"), "#!/bin/sh\n")?;
    std::fs::write(root.join("nothing"), "")?;
    std::fs::write(root.join("binary"), [0u8; 300])?;
    for name in ["nothing", "binary"] {
        std::fs::set_permissions(root.join(name), PermissionsExt::from_mode(0o755))?;
    }
    for program in ["/plain", "/nothing", "/binary", "/etc", "/dev/null"] {
        let bundle = place.bundle(&[program])?;
        bundle.write()?;
        refused(
            &place.run(&bundle.dir, "c"),
            126,
            &["cannot execute", program],
        )?;
        // In two steps `create` says what can be seen, and `start` the rest.
        let dir = bundle.dir.to_string_lossy().into_owned();
        let mut outcome = place.ringfence(&["create", "-b", &dir, "c"]);
        if ["/nothing", "/binary"].contains(&program) {
            exited(&outcome, 0)?;
            outcome = place.ringfence(&["start", "c"]);
            exited(&place.ringfence(&["delete", "-f", "c"]), 0)?;
        }
        refused(&outcome, 126, &["cannot execute", program])?;
    }
    place.nothing_left()
}

fn ids_that_are_none(place: &Place<'_>) -> Result {
    let dir = place.shell("true", |_| {})?;
    let bundle = dir.to_string_lossy().into_owned();
    let long = "x".repeat(256);
    for id in [
        "",
        "a/b",
        "/",
        "..",
        ".",
        "../x",
        "a b",
        "a\nb",
        "é",
        "a\u{1b}[31m",
        &long,
    ] {
        for command in [
            &["run", "-b", &bundle, "--", id] as &[&str],
            &["create", "-b", &bundle, "--", id],
            &["start", "--", id],
            &["state", "--", id],
            &["kill", "--", id],
            &["delete", "--", id],
        ] {
            let outcome = place.ringfence(command);
            refused(&outcome, 128, &["container id", "letters"])?;
            ensure(!outcome.err().contains('\u{1b}'), || "escape".into())?;
        }
    }
    place.nothing_left()?;
    // The longest there is, and one that looks like a file of ours.
    for id in ["x".repeat(255).as_str(), "state.json", "...", "-"] {
        exited(&place.ringfence(&["run", "-b", &bundle, "--", id]), 0)?;
    }
    place.nothing_left()
}

fn a_state_directory_that_cannot_be(place: &Place<'_>) -> Result {
    let with = |root: &str, args: &[&str]| {
        let mut command = Command::new(&place.runtime.program);
        run::run_plain(command.args(["--root", root]).args(args))
    };
    for root in ["/proc/nosuch", "/etc/passwd/x", "/dev/null"] {
        refused(&with(root, &["list"]), 128, &[root, "--root"])?;
        refused(&with(root, &["do", "true"]), 128, &[root, "--root"])?;
    }
    let outcome = with("/etc/passwd/x", &["state", "c"]);
    refused(&outcome, 128, &["/etc/passwd/x"])
}

fn a_damaged_state_file(place: &Place<'_>) -> Result {
    let dir = place.runtime.state.join("c");
    std::fs::create_dir_all(&dir)?;
    std::fs::set_permissions(&place.runtime.state, PermissionsExt::from_mode(0o700))?;
    std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o700))?;
    std::fs::write(dir.join("state.json"), "{ not json")?;
    refused(
        &place.ringfence(&["state", "c"]),
        128,
        &["state.json", "damaged", "remove"],
    )?;
    refused(&place.ringfence(&["kill", "c"]), 128, &["damaged"])?;
    refused(&place.ringfence(&["delete", "c"]), 128, &["damaged"])?;
    // The others are listed all the same.
    exited(&place.ringfence(&["list"]), 0)?;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

fn an_executable_that_others_may_not_run(place: &Place<'_>) -> Result {
    need_root()?;
    let program = place.dir.join("private");
    std::fs::copy(&place.runtime.program, &program)?;
    let runtime = Runtime {
        program: program.clone(),
        ..place.runtime.clone()
    };
    let dir = place.shell("true", |_| {})?;
    for mode in [0o700, 0o750, 0o744] {
        std::fs::set_permissions(&program, PermissionsExt::from_mode(mode))?;
        let outcome = run::run_plain(&mut runtime.run(&dir, "c"));
        let mode = format!("{mode:04o}");
        refused(&outcome, 128, &["private", &mode, "chmod o+"])?;
    }
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755))?;
    exited(&run::run_plain(&mut runtime.run(&dir, "c")), 0)?;
    place.nothing_left()
}

/// In a user namespace whose limit of further ones is 0, as on a kernel that is set up so.
fn no_more_user_namespaces(place: &Place<'_>) -> Result {
    let tree = place.tree()?;
    let mut command = Command::new(need("unshare")?);
    let run = place.runtime.command();
    command
        .args(["--user", "--map-root-user", "sh", "-c"])
        .arg("echo 0 > /proc/sys/user/max_user_namespaces || exit 99; exec \"$@\"")
        .arg("sh")
        .arg(run.get_program())
        .args(run.get_args())
        .args(["do", "--root"])
        .arg(tree)
        .arg("true");
    let outcome = run::run_plain(&mut command);
    if outcome.code() == Some(99) || outcome.err().contains("unshare") {
        return Err(Stop::Skipped(outcome.err()));
    }
    refused(&outcome, 128, &["namespaces", "max_"])?;
    place.nothing_left()
}

/// As inside a container whose filter refuses them.
fn user_namespaces_are_forbidden(place: &Place<'_>) -> Result {
    let python = need("python3")?;
    // A filter that answers clone with CLONE_NEWUSER by EPERM; written as data, for there is no
    // tool for it on a plain machine.
    let script = r"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def op(code, jt, jf, k): return struct.pack('HBBI', code, jt, jf, k)
CLONE, UNSHARE, NEWUSER = 56, 272, 0x10000000
program = b''.join([
    op(0x20, 0, 0, 0), op(0x15, 1, 0, CLONE), op(0x15, 0, 3, UNSHARE),
    op(0x20, 0, 0, 16), op(0x45, 0, 1, NEWUSER), op(0x06, 0, 0, 0x00050001), op(0x06, 0, 0, 0x7fff0000)])
buffer = ctypes.create_string_buffer(program)
fprog = struct.pack('HxxxxxxQ', len(program) // 8, ctypes.addressof(buffer))
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.create_string_buffer(fprog), 0, 0): sys.exit(99)
os.execv(sys.argv[1], sys.argv[1:])
";
    let run = place.runtime.command();
    let mut command = Command::new(python);
    command
        .args(["-c", script])
        .arg(run.get_program())
        .args(run.get_args())
        .args(["do", "--root"])
        .arg(place.tree()?)
        .arg("true");
    let outcome = run::run_plain(&mut command);
    if outcome.code() == Some(99) {
        return Err(Stop::Skipped("no filter can be set".into()));
    }
    refused(
        &outcome,
        128,
        &["namespaces", "unprivileged_userns_clone", "seccomp"],
    )?;
    place.nothing_left()
}

fn hidden_commands_are_not_for_users(place: &Place<'_>) -> Result {
    for role in ["boot", "gofer"] {
        let mut command = Command::new(&place.runtime.program);
        let outcome = run::run_plain(command.args([role, "attached"]));
        refused(&outcome, 2, &["ringfence help"])?;
    }
    place.nothing_left()
}

fn standard_output_is_gone(place: &Place<'_>) -> Result {
    let run = place.runtime.command();
    let mut command = Command::new("sh");
    command
        .args(["-c", "\"$@\" | true; echo done", "sh"])
        .arg(run.get_program())
        .args(run.get_args())
        .args(["help"]);
    let outcome = run::run_plain(&mut command);
    crate::case::said(&outcome, 0, "done\n")?;
    ensure(outcome.stderr.is_empty(), || outcome.err())
}
