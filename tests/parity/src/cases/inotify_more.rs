//! inotify(7): files without names, programs, hard links, permissions, and the descriptor itself.

use super::inotify::{events, start, take, watch};
use crate::out::Out;
use crate::sys;
use crate::util::{AT, close, in_child, mk, open, write};
use crate::{cases, k, say, tell};
use libc::*;

cases!(
    unnamed_files,
    exec_of_a_watched_file,
    hard_links,
    permissions_of_watching,
    io_is_refused,
    information,
);

fn unnamed_files(o: Out) {
    let fd = start();
    watch(fd, c".", IN_ALL_EVENTS);
    let f = open(c".", O_TMPFILE | O_RDWR, 0o600);
    if !f.ok() {
        tell!(o, "tmpfile" => f);
        return;
    }
    write(f.int(), b"x");
    let mut all = take(fd);
    for e in &mut all {
        // The name is a number that differs.
        if let Some(at) = e.find('"') {
            e.truncate(at);
        }
    }
    say!(o, "{all:?}");
    let link = std::ffi::CString::new(format!("/proc/self/fd/{}", f.int())).unwrap_or_default();
    tell!(o, "link" => k!(SYS_linkat, AT, link.as_c_str(), AT, c"named", AT_SYMLINK_FOLLOW));
    events(o, "linked", fd);
}

fn exec_of_a_watched_file(o: Out) {
    let me = std::fs::read("/proc/self/exe").unwrap_or_default();
    std::fs::write("prog", &me).ok();
    k!(SYS_chmod, c"prog", 0o755);
    let fd = start();
    watch(fd, c"prog", IN_OPEN | IN_CLOSE);
    say!(
        o,
        "{}",
        in_child(|| {
            let argv = [
                c"prog".as_ptr(),
                c"--child".as_ptr(),
                c"exit".as_ptr(),
                c"3".as_ptr(),
                std::ptr::null(),
            ];
            let env = [std::ptr::null::<c_char>()];
            k!(SYS_execve, c"./prog", &argv, &env);
            9
        })
    );
    events(o, "run", fd);
}

fn hard_links(o: Out) {
    mk(c"f", b"");
    k!(SYS_mkdir, c"d", 0o755);
    k!(SYS_link, c"f", c"d/g");
    let fd = start();
    tell!(o, "f" => watch(fd, c"f", IN_ALL_EVENTS), "d" => watch(fd, c"d", IN_ALL_EVENTS));
    let f = open(c"d/g", O_WRONLY, 0).int();
    write(f, b"x");
    close(f);
    k!(SYS_unlink, c"d/g");
    let mut seen = take(fd);
    seen.retain(|e| e.starts_with('2'));
    say!(o, "{seen:?}");
}

fn permissions_of_watching(o: Out) {
    mk(c"secret", b"");
    k!(SYS_chmod, c"secret", 0o600);
    k!(SYS_mkdir, c"closed", 0o700);
    k!(SYS_chmod, c".", 0o755);
    let user = crate::util::as_user(|| {
        let fd = start();
        tell!(o, "unreadable" => watch(fd, c"secret", IN_OPEN), "below" => watch(fd, c"closed/x", IN_OPEN), "readable" => watch(fd, c".", IN_OPEN));
    });
    say!(o, "{user}");
}

fn io_is_refused(o: Out) {
    let fd = start();
    let mut st: stat = sys::zeroed();
    tell!(o, "write" => write(fd, b"x"), "ftruncate" => k!(SYS_ftruncate, fd, 0), "fsync" => k!(SYS_fsync, fd), "mmap" => crate::util::map_file(fd, 4096, PROT_READ, MAP_PRIVATE, 0).yes(),
        "flags" => k!(SYS_fcntl, fd, F_GETFL), "ioctl" => k!(SYS_ioctl, fd, TCGETS, &mut st), "size address" => k!(SYS_ioctl, fd, FIONREAD, 16));
    k!(SYS_fstat, fd, &mut st);
    tell!(o, "mode" => format!("{:o}", st.st_mode), "link" => link_of(fd));
}

fn link_of(fd: i32) -> String {
    std::fs::read_link(format!("/proc/self/fd/{fd}"))
        .map_or_else(|e| e.to_string(), |p| p.display().to_string())
}

fn information(o: Out) {
    mk(c"f", b"");
    let fd = start();
    watch(fd, c"f", IN_OPEN | IN_CLOSE_WRITE);
    watch(fd, c".", IN_CREATE | IN_ONESHOT);
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
    for line in text.lines().filter(|l| l.starts_with("inotify")) {
        let part = |name: &str| {
            let word = line.split(' ').find(|w| w.starts_with(name));
            word.unwrap_or_default().to_owned()
        };
        say!(
            o,
            "{} {} {}",
            part("wd:"),
            part("mask:"),
            part("ignored_mask:")
        );
        tell!(o, "ino" => part("ino:") == format!("ino:{:x}", crate::util::stat_at(if part("wd:") == "wd:1" { c"f" } else { c"." }, 0).map_or(0, |s| s.st_ino)));
    }
    for name in ["max_user_instances", "max_queued_events"] {
        let text = std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}"));
        say!(o, "{name} {:?}", text.map_err(|e| e.kind()));
    }
}
