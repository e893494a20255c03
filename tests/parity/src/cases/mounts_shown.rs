//! /proc/PID/mounts, mountinfo and mountstats.

use crate::cases::mount_help::{
    apart, bind, dirs, here, lines, mount, propagation, say_table, show_table, umount, with_trees,
    writable,
};
use crate::out::Out;
use crate::util::{close, in_child, open, read, stat_text};
use crate::{cases, k, say, tell};
use libc::*;

cases!(
    names_are_escaped,
    lines_of_mounts,
    lines_of_mountstats,
    parents,
    what_a_chroot_sees,
    changes_wake_pollers,
    changes_wake_epolls,
    no_changes,
    places_that_moved,
);

fn names_are_escaped(o: Out) {
    apart(o, |o| {
        dirs(&[
            c"sp ace",
            c"ta\tb",
            c"new\nline",
            c"back\\slash",
            c"ha#sh",
            c"\xc3\xa4\xff",
        ]);
        for path in [
            c"sp ace",
            c"ta\tb",
            c"new\nline",
            c"back\\slash",
            c"ha#sh",
            c"\xc3\xa4\xff",
        ] {
            tell!(o, "mount" => mount(path, path, c"tmpfs", 0, c""));
        }
        mount(c"", c"a", c"tmpfs", 0, c"");
        k!(SYS_mount, 0, c"b", c"tmpfs", 0, 0);
        show_table(o);
        let base = here();
        for line in lines(c"/proc/self/mounts")
            .iter()
            .filter(|l| l.contains(&base))
        {
            say!(o, "{}", line.replace(&base, "."));
        }
    });
}

fn lines_of_mounts(o: Out) {
    with_trees(o, |o| {
        mount(
            c"x",
            c"b",
            c"tmpfs",
            MS_RDONLY | MS_SYNCHRONOUS | MS_NOSUID | MS_NOATIME,
            c"size=1m,mode=700",
        );
        bind(c"a/sub", c"c");
        mount(c"x", c"c", c"", MS_REMOUNT | MS_BIND | MS_RDONLY, c"");
        let base = here();
        for line in lines(c"/proc/mounts").iter().filter(|l| l.contains(&base)) {
            say!(o, "{}", line.replace(&base, "."));
        }
        show_table(o);
        tell!(o, "modes" => stat_text(c"/proc/self/mounts", 0), "info" => stat_text(c"/proc/self/mountinfo", 0), "stats" => stat_text(c"/proc/self/mountstats", 0), "link" => stat_text(c"/proc/mounts", AT_SYMLINK_NOFOLLOW));
    });
}

fn lines_of_mountstats(o: Out) {
    with_trees(o, |o| {
        let base = here();
        for line in lines(c"/proc/self/mountstats")
            .iter()
            .filter(|l| l.contains(&base))
        {
            say!(o, "{}", line.replace(&base, "."));
        }
    });
}

fn parents(o: Out) {
    with_trees(o, |o| {
        mount(c"upon", c"a", c"tmpfs", 0, c"");
        let base = here();
        let all = lines(c"/proc/self/mountinfo");
        let word = |l: &str, n: usize| l.split(' ').nth(n).unwrap_or_default().to_owned();
        let name = |l: &str| word(l, 4).strip_prefix(&base).map(str::to_owned);
        for line in all.iter().filter(|l| name(l).is_some()) {
            let parent = all.iter().find(|l| word(l, 0) == word(line, 1));
            let parent = parent.and_then(|p| name(p));
            say!(o, "{:?} on {parent:?}", name(line));
        }
    });
}

fn what_a_chroot_sees(o: Out) {
    with_trees(o, |o| {
        dirs(&[c"a/proc"]);
        mount(c"proc", c"a/proc", c"proc", 0, c"");
        let text = in_child(|| {
            tell!(o, "chroot" => k!(SYS_chroot, c"a"));
            k!(SYS_chdir, c"/");
            for path in [c"/proc/self/mounts", c"/proc/self/mountstats"] {
                for line in lines(path) {
                    say!(o, "{line}");
                }
            }
            say_table(o, "");
            0
        });
        say!(o, "{text}");
        dirs(&[c"b/proc"]);
        mount(c"proc", c"b/proc", c"proc", 0, c"");
        let text = in_child(|| {
            tell!(o, "a directory" => k!(SYS_chroot, c"b"));
            k!(SYS_chdir, c"/");
            say_table(o, "");
            0
        });
        say!(o, "{text}");
    });
}

fn polled(fd: i32, events: i16) -> String {
    let mut item = pollfd {
        fd,
        events,
        revents: 0,
    };
    let r = k!(SYS_poll, &mut item, 1, 0);
    format!("{r} {:x}", item.revents)
}

fn changes_wake_pollers(o: Out) {
    with_trees(o, |o| {
        for path in [
            c"/proc/self/mounts",
            c"/proc/self/mountinfo",
            c"/proc/self/mountstats",
            c"/proc/self/status",
        ] {
            let fd = open(path, O_RDONLY, 0).int();
            tell!(o, "at first" => polled(fd, POLLIN | POLLPRI), "for errors" => polled(fd, POLLPRI));
            mount(c"x", c"b", c"tmpfs", 0, c"");
            tell!(o, "mounted" => polled(fd, POLLPRI), "told" => polled(fd, POLLPRI));
            umount(c"b", 0);
            tell!(o, "unmounted" => polled(fd, POLLIN), "told" => polled(fd, POLLIN));
            mount(c"x", c"a", c"", MS_REMOUNT | MS_BIND | MS_NOSUID, c"");
            tell!(o, "remounted" => polled(fd, POLLPRI));
            mount(c"x", c"a", c"", MS_REMOUNT, c"");
            tell!(o, "whole" => polled(fd, POLLPRI));
            propagation(c"a", MS_SHARED);
            tell!(o, "shared" => polled(fd, POLLPRI));
            propagation(c"a", MS_PRIVATE);
            tell!(o, "private" => polled(fd, POLLPRI));
            mount(c"a/sub", c"b", c"", MS_MOVE, c"");
            tell!(o, "moved" => polled(fd, POLLPRI));
            mount(c"b", c"a/sub", c"", MS_MOVE, c"");
            bind(c"a", c"c");
            tell!(o, "bound" => polled(fd, POLLPRI), "read" => read(fd, 3).0, "then" => polled(fd, POLLPRI));
            umount(c"c", MNT_DETACH);
            tell!(o, "detached" => polled(fd, POLLPRI), "close" => close(fd));
        }
    });
}

fn changes_wake_epolls(o: Out) {
    with_trees(o, |o| {
        let fd = open(c"/proc/self/mounts", O_RDONLY, 0).int();
        let ep = k!(SYS_epoll_create1, 0).int();
        let event = epoll_event {
            events: EPOLLPRI as u32,
            u64: 7,
        };
        let event: [u8; 12] = {
            let mut all = [0u8; 12];
            all[..4].copy_from_slice(&{ event.events }.to_le_bytes());
            all[4..].copy_from_slice(&{ event.u64 }.to_le_bytes());
            all
        };
        tell!(o, "add" => k!(SYS_epoll_ctl, ep, EPOLL_CTL_ADD, fd, &event[..]));
        let wait = || {
            let mut out = [0u8; 12];
            let r = k!(SYS_epoll_wait, ep, &mut out[..], 1, 0);
            format!(
                "{r} {:x}",
                u32::from_le_bytes([out[0], out[1], out[2], out[3]])
            )
        };
        tell!(o, "nothing" => wait(), "mount" => mount(c"x", c"b", c"tmpfs", 0, c""), "wakes" => wait(), "once" => wait(), "unmount" => umount(c"b", 0), "wakes" => wait(), "once" => wait());
        let pid = crate::sys::child(|| {
            crate::util::sleep_ms(30);
            mount(c"x", c"b", c"tmpfs", 0, c"");
            0
        });
        let mut item = pollfd {
            fd,
            events: POLLPRI,
            revents: 0,
        };
        let r = k!(SYS_poll, &mut item, 1, 10000);
        tell!(o, "waited" => r, "for" => format!("{:x}", item.revents), "child" => crate::util::wait_text(pid));
    });
}

fn no_changes(o: Out) {
    with_trees(o, |o| {
        let fd = open(c"/proc/self/mounts", O_RDONLY, 0).int();
        let text = in_child(|| {
            k!(SYS_unshare, CLONE_NEWNS);
            mount(c"x", c"b", c"tmpfs", 0, c"");
            tell!(o, "of the old namespace" => polled(fd, POLLPRI));
            0
        });
        say!(o, "{text}");
        tell!(o, "another's" => polled(fd, POLLPRI), "failed" => mount(c"x", c"b", c"tmpfs", 0, c"what"), "told" => polled(fd, POLLPRI), "failed" => umount(c"b", 0), "told" => polled(fd, POLLPRI));
    });
}

fn places_that_moved(o: Out) {
    with_trees(o, |o| {
        dirs(&[c"d", c"d/e"]);
        mount(c"x", c"d/e", c"tmpfs", 0, c"");
        tell!(o, "rename above" => k!(SYS_rename, c"d", c"f"));
        bind(c"a/file", c"f/e");
        dirs(&[c"b/gone"]);
        bind(c"b/gone", c"c");
        tell!(o, "remove what is bound" => k!(SYS_rmdir, c"b/gone"));
        show_table(o);
        tell!(o, "make there" => writable(c"c/x"), "bind it" => bind(c"c", c"b"), "mount on it" => mount(c"x", c"c", c"tmpfs", 0, c""));
    });
}
