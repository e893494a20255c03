//! Executing programs: what they get, and what goes wrong.

use crate::out::Out;
use crate::sys::child;
use crate::util::{AT, bit, close, mask, mk, open, pipe, wait_text};
use crate::{cases, k, say, sys, tell};
use libc::*;
use std::ffi::{CStr, CString};

cases!(
    exec_arguments,
    exec_environment,
    exec_empty_argv,
    exec_errors,
    exec_permissions,
    exec_script,
    exec_script_argument,
    exec_script_nested,
    exec_script_missing_interpreter,
    exec_script_odd_lines,
    exec_text_without_shebang,
    exec_truncated_elf,
    exec_lying_elf,
    exec_interpreter_loop,
    exec_too_big,
    exec_closes_on_exec,
    exec_resets_handlers,
    exec_keeps_mask_and_pending,
    exec_keeps_pid,
    exec_name,
    exec_auxv,
    execveat_forms,
    exec_by_descriptor,
    exec_set_user_id,
    exec_no_new_privs_set_user_id,
    exec_no_new_privs_capabilities,
    exec_sharing_directories,
    exec_writable_file_busy,
    exec_deleted_file,
    exec_from_memfd,
    exec_after_vfork_failure,
);

const EXE: &CStr = c"/proc/self/exe";

/// Runs a program in a child and gives what it printed, and how it ended.
fn run(path: &CStr, argv: &[&CStr], env: &[&CStr]) -> String {
    run_with(|| exec(path, argv, env))
}

fn exec(path: &CStr, argv: &[&CStr], env: &[&CStr]) -> sys::R {
    let list = |l: &[&CStr]| -> Vec<*const c_char> {
        l.iter()
            .map(|s| s.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let (argv, env) = (list(argv), list(env));
    k!(SYS_execve, path, argv.as_ptr(), env.as_ptr())
}

/// Runs `f`, which does not return unless it fails, in a child with standard
/// output in a pipe.
fn run_with(f: impl FnOnce() -> sys::R) -> String {
    let (r, w) = pipe();
    let pid = child(|| {
        k!(SYS_dup2, w, 1);
        close(r);
        close(w);
        let e = f();
        let text = format!("failed: {e}");
        crate::util::write(1, text.as_bytes());
        200
    });
    close(w);
    let mut all = Vec::new();
    let mut buf = [0u8; 4096];
    loop {
        let n = k!(SYS_read, r, &mut buf, 4096);
        if n.0 <= 0 {
            break;
        }
        all.extend_from_slice(&buf[..n.addr()]);
    }
    close(r);
    format!(
        "{} / {}",
        String::from_utf8_lossy(&all)
            .trim_end()
            .replace('\n', " | "),
        wait_text(pid)
    )
}

fn exe(path: &CStr, bytes: &[u8]) {
    mk(path, bytes);
    k!(SYS_chmod, path, 0o755);
}

/// A copy of the first `len` bytes of this very program.
fn head(len: usize) -> Vec<u8> {
    let mut all = std::fs::read("/proc/self/exe").unwrap_or_default();
    all.truncate(len);
    all
}

fn exec_arguments(o: Out) {
    tell!(o, "args" => run(EXE, &[c"zero", c"--child", c"args", c"two words", c"", c"\xff\n"], &[]), "exit" => run(EXE, &[c"x", c"--child", c"exit", c"77"], &[]));
}

fn exec_environment(o: Out) {
    tell!(o, "env" => run(EXE, &[c"p", c"--child", c"env"], &[c"A=1", c"B=two words", c"A2="]), "none" => run(EXE, &[c"p", c"--child", c"env"], &[]));
    tell!(o, "null pointers" => run_with(|| { let argv = [c"p".as_ptr(), c"--child".as_ptr(), c"env".as_ptr(), std::ptr::null()]; k!(SYS_execve, EXE, &argv, 0) }));
}

fn exec_empty_argv(o: Out) {
    let s = run_with(|| k!(SYS_execve, c"/proc/self/exe", 0, 0));
    say!(o, "{}", s.contains("exited 2"));
}

fn exec_errors(o: Out) {
    mk(c"f", b"data");
    k!(SYS_symlink, c"loop", c"loop");
    let none: &[&CStr] = &[c"x"];
    tell!(o, "missing" => exec(c"no", none, &[]), "below file" => exec(c"f/x", none, &[]), "directory" => exec(c".", none, &[]), "not executable" => exec(c"f", none, &[]), "loop" => exec(c"loop", none, &[]), "empty" => exec(c"", none, &[]), "null path" => k!(SYS_execve, 0, 0, 0), "bad argv" => k!(SYS_execve, EXE, 16usize, 0), "device" => exec(c"/dev/null", none, &[]));
    let long = CString::new("n".repeat(300)).unwrap_or_default();
    tell!(o, "long" => exec(&long, none, &[]));
    exe(c"empty", b"");
    tell!(o, "empty file" => exec(c"empty", none, &[]));
}

fn exec_permissions(o: Out) {
    k!(SYS_chmod, c".", 0o755);
    exe(c"s", b"#!/proc/self/exe\n");
    for mode in [0o644, 0o700, 0o711, 0o754, 0o001] {
        k!(SYS_chmod, c"s", mode);
        crate::util::as_user(|| {
            let r = exec(c"s", &[c"s"], &[]);
            say!(o, "{mode:o} {r}");
        });
    }
}

fn exec_script(o: Out) {
    exe(c"s", b"#!/probes --child\nbody\n");
    tell!(o, "script" => run(c"./s", &[c"ignored", c"exit", c"7"], &[]));
    exe(c"a", b"#!/probes\n");
    tell!(o, "args" => run(c"a", &[c"ignored", c"one"], &[]));
}

fn exec_script_argument(o: Out) {
    // The whole rest of the line is one argument.
    exe(c"--child", b"#!/probes   a b  c  \n");
    tell!(o, "run" => run(c"./--child", &[c"z", c"args"], &[]).contains("exited 2"));
    exe(c"args", b"#!/probes --child\n");
    tell!(o, "shape" => run(c"args", &[c"zero", c"one", c"two"], &[]));
}

fn exec_script_nested(o: Out) {
    let here = std::env::current_dir().unwrap_or_default();
    exe(c"args", b"#!/probes --child\n");
    exe(
        c"outer",
        format!("#!{}/args x\n", here.display()).as_bytes(),
    );
    let s = run(c"outer", &[c"zero", c"one"], &[]);
    tell!(o, "nested" => s.replace(&here.display().to_string(), "HERE"));
    exe(c"l1", format!("#!{}/l2\n", here.display()).as_bytes());
    exe(c"l2", format!("#!{}/l3\n", here.display()).as_bytes());
    exe(c"l3", format!("#!{}/l4\n", here.display()).as_bytes());
    exe(c"l4", format!("#!{}/l5\n", here.display()).as_bytes());
    exe(c"l5", format!("#!{}/l6\n", here.display()).as_bytes());
    exe(c"l6", b"#!/probes --child\n");
    for p in [c"l6", c"l5", c"l4", c"l3", c"l2", c"l1"] {
        say!(o, "{p:?} {}", exec_only(p));
    }
}

/// The error of an exec, or how the program ended.
fn exec_only(path: &CStr) -> String {
    let pid = child(|| {
        let e = exec(path, &[c"a", c"exit", c"0"], &[]);
        (-e.0) as i32
    });
    wait_text(pid)
}

fn exec_script_missing_interpreter(o: Out) {
    exe(c"a", b"#!/none/such\n");
    exe(c"b", b"#!/dev/null\n");
    exe(c"c", b"#!/\n");
    for p in [c"a", c"b", c"c"] {
        say!(o, "{p:?} {}", exec(p, &[p], &[]));
    }
}

fn exec_script_odd_lines(o: Out) {
    exe(c"a", b"#!\n");
    exe(c"b", b"#!   \t \n");
    exe(c"c", b"#! \t /probes \t --child \t \n");
    exe(c"d", b"#!/probes --child");
    exe(c"e", b"#");
    exe(c"f", b"#!");
    exe(c"g", format!("#!/{}\n", "x".repeat(300)).as_bytes());
    exe(c"h", format!("#!/probes {}\n", "x".repeat(300)).as_bytes());
    for p in [c"a", c"b", c"c", c"d", c"e", c"f", c"g", c"h"] {
        say!(o, "{p:?} {}", exec_only(p));
    }
}

fn exec_text_without_shebang(o: Out) {
    exe(c"t", b"echo hello\n");
    exe(c"b", &[0u8; 4096]);
    tell!(o, "text" => exec(c"t", &[c"t"], &[]), "zeros" => exec(c"b", &[c"b"], &[]));
}

fn exec_truncated_elf(o: Out) {
    for len in [4, 16, 63, 64, 100] {
        exe(c"e", &head(len));
        say!(o, "{len} {}", exec_only(c"e"));
    }
}

fn exec_lying_elf(o: Out) {
    let patch = |at: usize, bytes: &[u8]| {
        let mut h = head(1 << 20);
        if h.len() > at + bytes.len() {
            h[at..at + bytes.len()].copy_from_slice(bytes);
        }
        exe(c"e", &h);
        exec_only(c"e")
    };
    tell!(o, "class" => patch(4, &[1]), "machine" => patch(18, &[0xb7, 0]), "type" => patch(16, &[9, 0]), "phentsize" => patch(54, &[1, 0]), "phnum zero" => patch(56, &[0, 0]), "phoff wild" => patch(32, &[0xff; 8]), "phnum huge" => patch(56, &[0xff, 0xff]));
}

fn exec_interpreter_loop(o: Out) {
    let here = std::env::current_dir().unwrap_or_default();
    exe(c"me", format!("#!{}/me\n", here.display()).as_bytes());
    tell!(o, "loop" => exec(c"me", &[c"me"], &[]));
}

fn exec_too_big(o: Out) {
    let big = CString::new(vec![b'x'; 131_071]).unwrap_or_default();
    let over = CString::new(vec![b'x'; 131_072]).unwrap_or_default();
    let try_it = |args: &[&CStr]| {
        let pid = child(|| (-exec(EXE, args, &[]).0) as i32);
        wait_text(pid)
    };
    tell!(o, "one string of 128K" => try_it(&[c"p", c"--child", c"exit", c"1", &big]), "one more byte" => try_it(&[c"p", c"--child", c"exit", c"1", &over]));
    let mut many: Vec<&CStr> = vec![c"p", c"--child", c"exit", c"1"];
    many.extend(std::iter::repeat_n(big.as_c_str(), 30));
    tell!(o, "four megabytes" => try_it(&many));
}

fn exec_closes_on_exec(o: Out) {
    for fd in 20..24 {
        k!(SYS_dup2, 0, fd);
    }
    k!(SYS_fcntl, 21, F_SETFD, FD_CLOEXEC);
    k!(SYS_fcntl, 23, F_SETFD, FD_CLOEXEC);
    tell!(o, "left" => run(EXE, &[c"p", c"--child", c"fds"], &[]));
}

fn exec_resets_handlers(o: Out) {
    sys::on(SIGUSR1, 0);
    sys::set_handler(SIGUSR2, SIG_IGN, 0);
    sys::set_handler(SIGQUIT, SIG_IGN, 0);
    tell!(o, "dispositions" => run(EXE, &[c"p", c"--child", c"signals"], &[]));
}

fn exec_keeps_mask_and_pending(o: Out) {
    let s = run_with(|| {
        mask(SIG_BLOCK, bit(SIGUSR1) | bit(SIGTERM) | bit(40));
        k!(SYS_kill, k!(SYS_getpid), SIGTERM);
        exec(EXE, &[c"p", c"--child", c"signals"], &[])
    });
    tell!(o, "kept" => s);
}

fn exec_keeps_pid(o: Out) {
    let (r, w) = pipe();
    let pid = child(|| {
        k!(SYS_dup2, w, 1);
        exec(EXE, &[c"p", c"--child", c"pid"], &[]);
        1
    });
    wait_text(pid);
    let mut b = [0u8; 32];
    let n = k!(SYS_read, r, &mut b, 32);
    tell!(o, "same" => String::from_utf8_lossy(&b[..n.addr()]).trim() == pid.to_string());
}

fn exec_name(o: Out) {
    k!(SYS_symlink, c"/probes", c"a-very-long-link-name");
    tell!(o, "by link" => run(c"./a-very-long-link-name", &[c"argv0", c"--child", c"name"], &[]), "by path" => run(c"/probes", &[c"argv0", c"--child", c"name"], &[]));
    exe(c"name", b"#!/probes --child\n");
    tell!(o, "script" => run(c"./name", &[c"argv0"], &[]));
}

fn exec_auxv(o: Out) {
    tell!(o, "auxv" => run(EXE, &[c"p", c"--child", c"auxv"], &[]));
}

fn execveat_forms(o: Out) {
    let argv = [
        c"p".as_ptr(),
        c"--child".as_ptr(),
        c"exit".as_ptr(),
        c"33".as_ptr(),
        std::ptr::null(),
    ];
    let root = open(c"/", O_RDONLY | O_DIRECTORY, 0).int();
    k!(SYS_symlink, c"/probes", c"l");
    let at = |dir: i32, path: &CStr, flags: i32| {
        wait_text(child(|| {
            (-k!(SYS_execveat, dir, path, &argv, 0, flags).0) as i32
        }))
    };
    tell!(o, "relative" => at(root, c"probes", 0), "absolute" => at(-1, c"/probes", 0), "link" => at(AT, c"l", 0), "nofollow" => at(AT, c"l", AT_SYMLINK_NOFOLLOW), "empty without flag" => at(root, c"", 0), "directory" => at(root, c"", AT_EMPTY_PATH), "flags" => at(root, c"probes", 0x10_0000));
}

fn exec_by_descriptor(o: Out) {
    let argv = [
        c"p".as_ptr(),
        c"--child".as_ptr(),
        c"exit".as_ptr(),
        c"34".as_ptr(),
        std::ptr::null(),
    ];
    for flags in [O_RDONLY, O_PATH, O_RDONLY | O_CLOEXEC] {
        let fd = open(c"/probes", flags, 0).int();
        say!(
            o,
            "{}",
            wait_text(child(
                || (-k!(SYS_execveat, fd, c"", &argv, 0, AT_EMPTY_PATH).0) as i32
            ))
        );
    }
    exe(c"exit", b"#!/probes --child\n");
    let fd = open(c"exit", O_RDONLY | O_CLOEXEC, 0).int();
    tell!(o, "script by cloexec fd" => wait_text(child(|| (-k!(SYS_execveat, fd, c"", &argv, 0, AT_EMPTY_PATH).0) as i32)));
}

/// A copy of this program with an owner and a mode; skipped parts are equal on
/// both sides, since both copy alike.
fn copy_exe(path: &CStr, uid: u32, mode: u32) {
    mk(path, &head(usize::MAX));
    k!(SYS_chown, path, uid, uid);
    k!(SYS_chmod, path, mode);
}

fn exec_set_user_id(o: Out) {
    k!(SYS_chmod, c".", 0o755);
    copy_exe(c"su", 0, 0o4755);
    copy_exe(c"sg", 7, 0o2755);
    let s = run_with(|| {
        k!(SYS_setresgid, 1000, 1000, 1000);
        k!(SYS_setresuid, 1000, 1000, 1000);
        exec(c"su", &[c"su", c"--child", c"ids"], &[])
    });
    say!(o, "{}", s.split(" ppid").next().unwrap_or_default());
    let s = run_with(|| {
        k!(SYS_setresgid, 1000, 1000, 1000);
        k!(SYS_setresuid, 1000, 1000, 1000);
        exec(c"sg", &[c"sg", c"--child", c"ids"], &[])
    });
    say!(o, "{}", s.split(" ppid").next().unwrap_or_default());
}

fn exec_no_new_privs_set_user_id(o: Out) {
    k!(SYS_chmod, c".", 0o755);
    copy_exe(c"su", 0, 0o4755);
    let s = run_with(|| {
        k!(SYS_setresgid, 1000, 1000, 1000);
        k!(SYS_setresuid, 1000, 1000, 1000);
        k!(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        exec(c"su", &[c"su", c"--child", c"ids"], &[])
    });
    say!(o, "{s}");
}

fn exec_no_new_privs_capabilities(o: Out) {
    let no_more = || k!(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    let keep = |few: u32| {
        let sets = [few, few, 0, 0, 0, 0];
        k!(SYS_capset, &[0x2008_0522u32, 0], &sets)
    };
    let gained = |before: &dyn Fn()| {
        run_with(|| {
            before();
            exec(EXE, &[c"x", c"--child", c"gained"], &[])
        })
    };
    let none = gained(&|| {
        keep(0);
        no_more();
    });
    let few = gained(&|| {
        keep(0x21);
        no_more();
    });
    let again = gained(&|| {
        keep(0);
    });
    let back = gained(&|| {
        k!(SYS_setresuid, 1000, 0, 0);
        keep(0x21);
        no_more();
    });
    let away = gained(&|| {
        k!(SYS_setresuid, 0, 1000, 1000);
        no_more();
    });
    tell!(o, "none" => none, "few" => few, "where it may gain" => again, "back to the real user" => back, "an effective user" => away);
}

fn exec_sharing_directories(o: Out) {
    k!(SYS_chmod, c".", 0o755);
    copy_exe(c"su", 3000, 0o4755);
    copy_exe(c"sg", 2000, 0o2755);
    for (name, root, shares) in [
        (c"su", true, false),
        (c"su", true, true),
        (c"su", false, false),
        (c"su", false, true),
        (c"sg", false, false),
        (c"sg", false, true),
    ] {
        let s = run_with(|| {
            k!(SYS_setgroups, 1, &[2000u32]);
            k!(SYS_setresgid, 1000, 1000, 1000);
            if !root {
                k!(SYS_setresuid, 1000, 1000, 1000);
            }
            let (r, _held) = pipe();
            if shares && k!(SYS_clone, CLONE_FS, 0, 0, 0, 0).0 == 0 {
                // There until the program has ended.
                k!(SYS_dup2, r, 0);
                k!(SYS_close_range, 1, u32::MAX, 0);
                k!(SYS_read, 0, &mut [0u8; 1], 1);
                k!(SYS_exit_group, 0);
            }
            exec(name, &[name, c"--child", c"gained"], &[])
        });
        say!(o, "{name:?} root {root} shares {shares}: {s}");
    }
}

fn exec_writable_file_busy(o: Out) {
    copy_exe(c"e", 0, 0o755);
    let w = open(c"e", O_WRONLY, 0).int();
    tell!(o, "open for writing" => exec_only(c"e"));
    close(w);
    let (r, p) = pipe();
    let pid = child(|| {
        k!(SYS_dup2, r, 0);
        exec(c"e", &[c"e", c"--child", c"exit", c"0"], &[]);
        1
    });
    close(p);
    tell!(o, "after" => wait_text(pid));
}

fn exec_deleted_file(o: Out) {
    copy_exe(c"e", 0, 0o755);
    let fd = open(c"e", O_RDONLY, 0).int();
    k!(SYS_unlink, c"e");
    let argv = [
        c"p".as_ptr(),
        c"--child".as_ptr(),
        c"exit".as_ptr(),
        c"35".as_ptr(),
        std::ptr::null(),
    ];
    tell!(o, "run" => wait_text(child(|| (-k!(SYS_execveat, fd, c"", &argv, 0, AT_EMPTY_PATH).0) as i32)));
}

fn exec_from_memfd(o: Out) {
    let fd = k!(SYS_memfd_create, c"program", MFD_CLOEXEC).int();
    let all = head(usize::MAX);
    let mut at = 0;
    while at < all.len() {
        let n = crate::util::write(fd, &all[at..]);
        if n.0 <= 0 {
            break;
        }
        at += n.addr();
    }
    let argv = [
        c"p".as_ptr(),
        c"--child".as_ptr(),
        c"args".as_ptr(),
        std::ptr::null(),
    ];
    tell!(o, "run" => run_with(|| k!(SYS_execveat, fd, c"", &argv, 0, AT_EMPTY_PATH)));
}

fn exec_after_vfork_failure(o: Out) {
    let pid = sys::vfork_like(CLONE_VM | CLONE_VFORK | SIGCHLD, failing);
    tell!(o, "child" => wait_text(pid), "parent lives" => k!(SYS_getpid).ok(), "at" => AT < 0);
}

extern "C" fn failing(_: *mut c_void) -> i32 {
    (-k!(SYS_execve, c"/none/such", 0, 0).0) as i32
}
