//! mount(2) and umount2(2): types, flags, remounts, moves, and which error comes first.

use crate::cases::mount_help::{
    apart, bind, dirs, lines, mount, propagation, show_table, there, umount, with_trees, writable,
};
use crate::out::Out;
use crate::sys::{self, Arg, R};
use crate::util::{PAGE, as_user, close, fstat, in_child, map_file, mk, open, stat_text, write};
use crate::{cases, k, say, tell};
use libc::*;
use std::ffi::CStr;

cases!(
    types,
    errors_in_order,
    tmpfs_options,
    tmpfs_is_remounted,
    tmpfs_takes_what_fits,
    copies_between,
    whole_file_systems_read_only,
    flags_of_mounts,
    remounts_keep_access_times,
    binds,
    binds_of_files,
    whole_binds,
    unbindable,
    moves,
    moves_that_cannot_be,
    upon_each_other,
    unmounting,
    unmounting_errors,
    expiry,
    links_not_followed,
    busy_mounts,
    places_that_go,
    mounted_elsewhere,
    namespace_files,
    terminals_of_its_own,
    processes_hidden,
    processes_alone,
    the_unprivileged,
    whiteouts,
    made_by_a_clone,
);

fn types(o: Out) {
    apart(o, |o| {
        for kind in [c"tmpfs", c"proc", c"sysfs", c"mqueue", c"devpts"] {
            tell!(o, "mount" => mount(c"it", c"a", kind, 0, c""), "unmount" => umount(c"a", 0));
        }
        for kind in [c"ringfence_unknown", c"", c"tmpfs.sub", c"rootfs", c"bdev"] {
            say!(o, "{kind:?} {}", mount(c"it", c"a", kind, 0, c""));
        }
        tell!(o, "none" => k!(SYS_mount, c"it", c"a", 0, 0, 0), "listed" => ["tmpfs", "proc", "sysfs", "mqueue", "devpts", "overlay", "cgroup2"].iter().all(|t| lines(c"/proc/filesystems").contains(&format!("nodev\t{t}"))));
    });
}

fn errors_in_order(o: Out) {
    apart(o, |o| {
        mk(c"file", b"");
        tell!(o, "nowhere" => mount(c"x", c"nowhere", c"nosuch", 0, c""), "unknown" => mount(c"x", c"a", c"nosuch", 0, c"what"), "option" => mount(c"x", c"a", c"tmpfs", 0, c"what"), "on a file" => mount(c"x", c"file", c"tmpfs", 0, c""), "both wrong" => mount(c"x", c"file", c"tmpfs", 0, c"what"));
        tell!(o, "no type" => k!(SYS_mount, c"x", c"a", 0, 0, 0), "bad address" => k!(SYS_mount, c"x", c"a", 8, 0, 0), "bad data" => k!(SYS_mount, c"x", c"a", c"tmpfs", 0, 8), "bad source" => k!(SYS_mount, 8, c"a", c"tmpfs", 0, 0), "bad target" => k!(SYS_mount, c"x", 8, c"tmpfs", 0, 0), "bad all" => k!(SYS_mount, 8, c"nowhere", c"nosuch", 0, 0));
        tell!(o, "bind nothing" => mount(c"", c"a", c"", MS_BIND, c""), "bind null" => k!(SYS_mount, 0, c"a", 0, MS_BIND, 0), "bind nowhere" => bind(c"nowhere", c"a"), "to nowhere" => bind(c"a", c"nowhere"), "file on directory" => bind(c"file", c"a"), "directory on file" => bind(c"a", c"file"));
        tell!(o, "move nothing" => k!(SYS_mount, 0, c"a", 0, MS_MOVE, 0), "move nowhere" => mount(c"nowhere", c"a", c"", MS_MOVE, c""), "remount none" => mount(c"x", c"a", c"", MS_REMOUNT, c""), "rebind none" => mount(c"x", c"a", c"", MS_REMOUNT | MS_BIND, c""), "share none" => propagation(c"a", MS_SHARED), "two kinds" => propagation(c".", MS_SHARED | MS_PRIVATE), "with more" => propagation(c".", MS_SHARED | MS_RDONLY), "silent" => propagation(c".", MS_PRIVATE | MS_SILENT), "magic" => mount(c"x", c"a", c"tmpfs", 0xc0ed_0000, c""), "user" => mount(c"x", c"a", c"tmpfs", 1 << 31, c""));
        let long = std::ffi::CString::new(vec![b'x'; 5000]).unwrap_or_default();
        tell!(o, "long type" => mount(c"x", c"a", &long, 0, c""), "long source" => mount(&long, c"a", c"tmpfs", 0, c""), "long target" => mount(c"x", &long, c"tmpfs", 0, c""), "long data" => mount(c"x", c"a", c"tmpfs", 0, &long));
        k!(SYS_symlink, c"loop", c"loop");
        tell!(o, "loop" => mount(c"x", c"loop", c"tmpfs", 0, c""), "below a file" => mount(c"x", c"file/x", c"tmpfs", 0, c""));
    });
}

fn tmpfs_options(o: Out) {
    apart(o, |o| {
        for data in [
            c"size=1m",
            c"size=4097",
            c"size=0",
            c"size=5k,nr_inodes=10",
            c"nr_blocks=3",
            c"mode=700",
            c"mode=01777",
            c"mode=0",
            c"uid=5,gid=6",
            c"size=1M,,mode=711,",
            c"ro",
            c"sync",
            c"size=1k,size=8k",
            c"size=1q",
            c"size=-1",
            c"size=",
            c"size",
            c"mode=8",
            c"mode",
            c"uid=x",
            c"uid=-1",
            c"uid=4294967295",
            c"uid=0x10",
            c"uid=010",
            c"nr_inodes=2k",
            c"nr_inodes=1%",
            c"huge=never",
            c"huge=maybe",
            c"source=y",
            c"=x",
            c"noswap",
            c"defaults",
        ] {
            let r = mount(c"x", c"a", c"tmpfs", 0, data);
            say!(o, "{data:?} {r} {}", stat_text(c"a", 0));
            if r.ok() {
                show_table(o);
                umount(c"a", 0);
            }
        }
        mount(c"x", c"a", c"tmpfs", 0, c"size=8k,nr_inodes=3");
        mk(c"a/one", &[1; 4096]);
        mk(c"a/two", &[1; 4096]);
        tell!(o, "third" => writable(c"a/three"), "size" => stat_text(c"a/two", 0));
    });
}

fn copies_between(o: Out) {
    apart(o, |o| {
        mount(c"x", c"a", c"tmpfs", 0, c"");
        mount(c"y", c"b", c"tmpfs", 0, c"");
        mk(c"a/from", b"abc");
        mk(c"b/from", b"abc");
        let to = open(c"b/to", O_CREAT | O_RDWR, 0o644).int();
        for path in [c"a/from", c"b/from"] {
            let copy = |n: usize, flags: i32| {
                let from = open(path, O_RDONLY, 0).int();
                let done = k!(SYS_copy_file_range, from, 0, to, 0, n, flags);
                close(from);
                done
            };
            tell!(o, "copy" => copy(3, 0), "nothing" => copy(0, 0), "flags" => copy(3, 1));
        }
        let memory = k!(SYS_memfd_create, c"x", 0).int();
        let more = k!(SYS_memfd_create, c"y", 0).int();
        k!(SYS_pwrite64, memory, b"abc", 3, 0);
        tell!(o, "memory" => k!(SYS_copy_file_range, memory, 0, more, 0, 3, 0), "and a file" => k!(SYS_copy_file_range, more, 0, to, 0, 3, 0));
    });
}

/// A write ends where the room does; where there is none at all, it fails.
fn tmpfs_takes_what_fits(o: Out) {
    apart(o, |o| {
        let bytes = vec![7u8; 300_000];
        mk(c"whole", &bytes);
        let from = open(c"whole", O_RDONLY, 0).int();
        let mut pipe = [0i32; 2];
        k!(SYS_pipe2, &mut pipe, 0);
        k!(SYS_fcntl, pipe[0], F_SETPIPE_SZ, 1 << 20);
        let afresh = || {
            umount(c"a", MNT_DETACH);
            mount(c"x", c"a", c"tmpfs", 0, c"size=100k");
            open(c"a/file", O_CREAT | O_RDWR, 0o644).int()
        };
        let told = |what: &str, fd: i32, done: R| {
            let at = k!(SYS_lseek, fd, 0, SEEK_CUR);
            let st = fstat(fd);
            say!(
                o,
                "{what} {done} at {at} size {} blocks {}",
                st.st_size,
                st.st_blocks
            );
        };
        for len in [102_400, 102_401, 200_000, 300_000] {
            let fd = afresh();
            told("write", fd, write(fd, &bytes[..len]));
            told("more", fd, write(fd, b"x"));
            k!(SYS_lseek, fd, 50, SEEK_SET);
            told("what is there", fd, write(fd, &bytes[..len]));
            close(fd);
        }
        let fd = afresh();
        let two = [(&bytes[..90_000]).arg(), 90_000, (&bytes[..]).arg(), 60_000];
        told("pwritev", fd, k!(SYS_pwritev, fd, &two, 2, 5000, 0));
        k!(SYS_ftruncate, fd, 6000);
        told("writev", fd, k!(SYS_writev, fd, &two, 2));
        k!(SYS_ftruncate, fd, 0);
        told("allocate", fd, k!(SYS_fallocate, fd, 0, 0, 102_401));
        told(
            "behind",
            fd,
            k!(SYS_pwrite64, fd, &bytes[..], 300_000, 1 << 20),
        );
        told(
            "in front",
            fd,
            k!(SYS_pwrite64, fd, &bytes[..], 9, (1 << 20) - 5),
        );
        k!(SYS_ftruncate, fd, 0);
        k!(SYS_lseek, fd, 0, SEEK_SET);
        told("sendfile", fd, k!(SYS_sendfile, fd, from, 0, 300_000));
        told("from", from, k!(SYS_sendfile, fd, from, 0, 300_000));
        k!(SYS_ftruncate, fd, 0);
        k!(SYS_lseek, fd, 0, SEEK_SET);
        let from = open(c"a/hole", O_CREAT | O_RDWR, 0o644).int();
        k!(SYS_ftruncate, from, 300_000);
        told(
            "copy",
            fd,
            k!(SYS_copy_file_range, from, 0, fd, 0, 300_000, 0),
        );
        told(
            "from",
            from,
            k!(SYS_copy_file_range, from, 0, fd, 0, 300_000, 0),
        );
        k!(SYS_ftruncate, fd, 0);
        k!(SYS_lseek, fd, 0, SEEK_SET);
        tell!(o, "pipe" => write(pipe[1], &bytes));
        told("splice", fd, k!(SYS_splice, pipe[0], 0, fd, 0, 300_000, 0));
        told("again", fd, k!(SYS_splice, pipe[0], 0, fd, 0, 300_000, 0));
        let mut left = 0i32;
        k!(SYS_ioctl, pipe[0], FIONREAD, &mut left);
        tell!(o, "left" => left);
        close(fd);
        // Of a mapping, the pages that are written.
        umount(c"a", MNT_DETACH);
        mount(c"x", c"a", c"tmpfs", 0, c"size=12k");
        let fd = open(c"a/file", O_CREAT | O_RDWR, 0o644).int();
        k!(SYS_ftruncate, fd, 1 << 20);
        let map = map_file(fd, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
        for at in [0, 40, 80, 120].map(|page| page * PAGE) {
            let text = in_child(|| {
                sys::poke(map.addr() + at, 1);
                0
            });
            say!(o, "{} {text}", at / PAGE);
        }
        told("mapped", fd, write(fd, b"x"));
    });
}

fn tmpfs_is_remounted(o: Out) {
    apart(o, |o| {
        mount(c"x", c"a", c"tmpfs", 0, c"size=64k,mode=700,nr_inodes=20");
        mk(c"a/file", &[1; 40000]);
        for data in [
            c"size=128k",
            c"size=8k",
            c"mode=777",
            c"nr_inodes=30",
            c"nr_inodes=1",
            c"uid=4",
            c"size=0",
            c"size=64k",
            c"what",
            c"",
        ] {
            say!(
                o,
                "{data:?} {} {}",
                mount(c"y", c"a", c"", MS_REMOUNT, data),
                stat_text(c"a", 0)
            );
            show_table(o);
        }
    });
}

fn whole_file_systems_read_only(o: Out) {
    apart(o, |o| {
        mount(c"x", c"a", c"tmpfs", 0, c"");
        bind(c"a", c"b");
        tell!(o, "remount" => mount(c"x", c"a", c"", MS_REMOUNT | MS_RDONLY, c""), "there" => writable(c"a/x"), "and here" => writable(c"b/x"));
        show_table(o);
        tell!(o, "one writable" => mount(c"x", c"b", c"", MS_REMOUNT | MS_BIND, c""), "still" => writable(c"b/x"), "the whole" => mount(c"x", c"b", c"", MS_REMOUNT, c""), "here" => writable(c"b/x"), "there" => writable(c"a/y"));
        show_table(o);
        tell!(o, "new" => mount(c"x", c"c", c"tmpfs", MS_RDONLY | MS_SYNCHRONOUS | MS_DIRSYNC | MS_LAZYTIME, c""));
        show_table(o);
        tell!(o, "with options" => mount(c"x", c"c", c"", MS_REMOUNT, c"rw,sync"));
        show_table(o);
    });
}

fn flags_of_mounts(o: Out) {
    apart(o, |o| {
        for flags in [
            MS_NOSUID,
            MS_NODEV | MS_NOEXEC,
            MS_NOATIME,
            MS_NODIRATIME,
            MS_RELATIME,
            MS_STRICTATIME,
            MS_STRICTATIME | MS_NOATIME,
            256,
            MS_SILENT,
            MS_POSIXACL,
            MS_MANDLOCK,
            MS_I_VERSION,
        ] {
            say!(o, "{flags:x} {}", mount(c"x", c"a", c"tmpfs", flags, c""));
            show_table(o);
            let mut st = [0u64; 16];
            k!(SYS_statfs, c"a", &mut st);
            tell!(o, "statfs" => format!("{:x}", st[10]), "unmount" => umount(c"a", 0));
        }
    });
}

fn remounts_keep_access_times(o: Out) {
    apart(o, |o| {
        mount(
            c"x",
            c"a",
            c"tmpfs",
            MS_NOATIME | MS_NODIRATIME | MS_NOSUID,
            c"",
        );
        for flags in [
            MS_NODEV,
            MS_RELATIME,
            MS_NODEV | MS_NOEXEC,
            MS_STRICTATIME,
            MS_NODIRATIME,
            0,
            MS_NOATIME,
        ] {
            say!(
                o,
                "{flags:x} {}",
                mount(c"x", c"a", c"", MS_REMOUNT | MS_BIND | flags, c"")
            );
            show_table(o);
            say!(
                o,
                "whole {}",
                mount(c"x", c"a", c"", MS_REMOUNT | flags, c"")
            );
            show_table(o);
        }
    });
}

fn binds(o: Out) {
    with_trees(o, |o| {
        tell!(o, "bind" => bind(c"a", c"b"), "file" => there(c"b/file"), "inner" => there(c"b/sub/inner"), "flags are not taken" => mount(c"a", c"c", c"nosuch", MS_BIND | MS_RDONLY | MS_NOSUID, c"what"));
        show_table(o);
        tell!(o, "part" => bind(c"a/sub", c"b/sub"), "inner" => there(c"b/sub/inner"), "not there" => there(c"c/sub/inner"));
        k!(SYS_mkdir, c"a/deep", 0o755);
        k!(SYS_mkdir, c"a/deep/er", 0o755);
        tell!(o, "a directory" => bind(c"a/deep/er", c"a/deep"), "upon itself" => bind(c"a/sub", c"a/sub"));
        show_table(o);
        tell!(o, "up" => stat_text(c"a/deep/../file", 0), "rename" => k!(SYS_rename, c"a/deep", c"a/deeper"), "across" => k!(SYS_rename, c"a/file", c"b/file2"), "link" => k!(SYS_link, c"a/file", c"b/file2"));
    });
}

fn binds_of_files(o: Out) {
    with_trees(o, |o| {
        mk(c"one", b"1");
        mk(c"two", b"2");
        tell!(o, "bind" => bind(c"one", c"two"), "reads" => crate::util::cat(c"two"), "unlink" => k!(SYS_unlink, c"two"), "rename" => k!(SYS_rename, c"two", c"three"), "over" => k!(SYS_rename, c"one", c"two"), "remount" => mount(c"x", c"two", c"", MS_REMOUNT | MS_BIND | MS_RDONLY, c""), "write" => open(c"two", O_WRONLY, 0), "the other" => open(c"one", O_WRONLY, 0).yes());
        show_table(o);
        k!(SYS_symlink, c"one", c"link");
        tell!(o, "through a link" => bind(c"two", c"link"), "unmount" => umount(c"one", 0), "and" => umount(c"two", 0), "again" => umount(c"two", 0), "back" => crate::util::cat(c"two"));
        tell!(o, "device" => bind(c"/dev/null", c"two"), "is" => stat_text(c"two", 0).starts_with("char"));
    });
}

fn whole_binds(o: Out) {
    with_trees(o, |o| {
        dirs(&[c"a/sub/more"]);
        mount(c"third", c"a/sub/more", c"tmpfs", 0, c"");
        tell!(o, "bind" => mount(c"a", c"b", c"", MS_BIND | MS_REC, c""), "inner" => there(c"b/sub/inner"));
        tell!(o, "part" => mount(c"a/sub", c"c", c"", MS_BIND | MS_REC, c""));
        show_table(o);
        tell!(o, "into itself" => mount(c"a", c"a/sub/more", c"", MS_BIND | MS_REC, c""), "unmount" => umount(c"b", 0), "lazily" => umount(c"b", MNT_DETACH));
        show_table(o);
    });
}

fn unbindable(o: Out) {
    with_trees(o, |o| {
        propagation(c"a/sub", MS_UNBINDABLE);
        tell!(o, "it" => bind(c"a/sub", c"b"), "above" => bind(c"a", c"b"), "with all" => mount(c"a", c"c", c"", MS_BIND | MS_REC, c""));
        show_table(o);
        propagation(c"b", MS_SHARED);
        tell!(o, "move into shared" => mount(c"a", c"b/sub", c"", MS_MOVE, c""), "move" => mount(c"a/sub", c"c", c"", MS_MOVE, c""), "slave" => propagation(c"c", MS_SLAVE));
        show_table(o);
        tell!(o, "shared" => propagation(c"c", MS_SHARED));
        show_table(o);
    });
}

fn moves(o: Out) {
    with_trees(o, |o| {
        tell!(o, "move" => mount(c"a", c"b", c"", MS_MOVE, c""), "file" => there(c"b/file"), "inner" => there(c"b/sub/inner"), "left" => there(c"a/file"));
        show_table(o);
        tell!(o, "out" => mount(c"b/sub", c"c", c"", MS_MOVE, c""), "upon" => mount(c"c", c"b", c"", MS_MOVE, c""), "covers" => there(c"b/inner"));
        show_table(o);
        tell!(o, "uncover" => umount(c"b", 0), "file" => there(c"b/file"));
    });
}

fn moves_that_cannot_be(o: Out) {
    with_trees(o, |o| {
        mk(c"f", b"");
        tell!(o, "no mount" => mount(c"b", c"c", c"", MS_MOVE, c""), "inside" => mount(c"a", c"a/sub", c"", MS_MOVE, c""), "upon itself" => mount(c"a", c"a", c"", MS_MOVE, c""), "on a file" => mount(c"a", c"f", c"", MS_MOVE, c""), "part" => mount(c"a/file", c"f", c"", MS_MOVE, c""), "root" => mount(c"/", c"b", c"", MS_MOVE, c""));
        propagation(c"a", MS_SHARED);
        tell!(o, "below shared" => mount(c"a/sub", c"b", c"", MS_MOVE, c""), "shared itself" => mount(c"a", c"b", c"", MS_MOVE, c""));
        show_table(o);
    });
}

fn upon_each_other(o: Out) {
    apart(o, |o| {
        for (n, source) in [c"one", c"two", c"three"].iter().enumerate() {
            tell!(o, "mount" => mount(source, c"a", c"tmpfs", 0, c""));
            k!(
                SYS_mkdir,
                std::ffi::CString::new(format!("a/{n}"))
                    .unwrap_or_default()
                    .as_c_str(),
                0o755
            );
        }
        show_table(o);
        tell!(o, "up" => stat_text(c"a/../b", 0), "top" => there(c"a/2"), "not" => there(c"a/1"));
        tell!(o, "off" => umount(c"a", 0), "next" => there(c"a/1"), "lazily" => umount(c"a", MNT_DETACH), "last" => there(c"a/0"), "off" => umount(c"a", 0), "none" => umount(c"a", 0));
    });
}

fn unmounting(o: Out) {
    with_trees(o, |o| {
        let file = open(c"a/file", O_RDONLY, 0).int();
        tell!(o, "has others" => umount(c"a", 0), "inner" => umount(c"a/sub", 0), "in use" => umount(c"a", 0), "lazily" => umount(c"a", MNT_DETACH), "gone" => there(c"a/file"), "reads" => crate::util::read(file, 5).1);
        mount(c"new", c"a", c"tmpfs", 0, c"");
        k!(SYS_chdir, c"a");
        tell!(o, "stands there" => umount(c"../a", 0), "lazily" => umount(c"../a", MNT_DETACH));
        let mut cwd = [0u8; 64];
        let n = k!(SYS_getcwd, &mut cwd, 64);
        tell!(o, "cwd" => n, "is" => crate::util::show(&cwd[..n.addr().min(64)]), "up" => k!(SYS_chdir, c".."), "make" => writable(c"here"), "reached" => there(c"../c"));
    });
}

fn unmounting_errors(o: Out) {
    with_trees(o, |o| {
        tell!(o, "no mount" => umount(c"b", 0), "nowhere" => umount(c"nowhere", 0), "file" => umount(c"a/file", 0), "flags" => umount(c"nowhere", 16), "no mount, lazily" => umount(c"b", MNT_DETACH), "empty" => umount(c"", 0), "bad address" => k!(SYS_umount2, 8, 0), "force" => umount(c"a/sub", MNT_FORCE));
        tell!(o, "expire and detach" => umount(c"a", MNT_EXPIRE | MNT_DETACH), "expire and force" => umount(c"a", MNT_EXPIRE | MNT_FORCE), "expire none" => umount(c"b", MNT_EXPIRE | MNT_DETACH));
    });
}

fn expiry(o: Out) {
    with_trees(o, |o| {
        tell!(o, "has others" => umount(c"a", MNT_EXPIRE), "first" => umount(c"a/sub", MNT_EXPIRE), "used" => there(c"a/sub/inner"), "first again" => umount(c"a/sub", MNT_EXPIRE), "second" => umount(c"a/sub", MNT_EXPIRE), "gone" => umount(c"a/sub", MNT_EXPIRE));
        let file = open(c"a/file", O_RDONLY, 0).int();
        tell!(o, "in use" => umount(c"a", MNT_EXPIRE), "close" => close(file), "first" => umount(c"a", MNT_EXPIRE), "now" => umount(c"a", 0));
    });
}

fn links_not_followed(o: Out) {
    with_trees(o, |o| {
        k!(SYS_symlink, c"a/sub", c"link");
        tell!(o, "not followed" => umount(c"link", UMOUNT_NOFOLLOW), "on the way" => k!(SYS_symlink, c"a", c"way"), "last is none" => umount(c"way/sub", UMOUNT_NOFOLLOW), "followed" => umount(c"way", 0));
    });
}

fn busy_mounts(o: Out) {
    with_trees(o, |o| {
        tell!(o, "unlink" => k!(SYS_rmdir, c"a/sub"), "rename" => k!(SYS_rename, c"a/sub", c"a/other"), "over" => k!(SYS_rename, c"b", c"a"), "exchange" => k!(SYS_renameat2, AT_FDCWD, c"a", AT_FDCWD, c"b", 2));
        bind(c"a", c"b");
        tell!(o, "what is mounted on elsewhere" => k!(SYS_rmdir, c"b/sub"));
    });
}

fn places_that_go(o: Out) {
    with_trees(o, |o| {
        let text = crate::util::in_child(|| {
            tell!(o, "unshare" => k!(SYS_unshare, CLONE_NEWNS), "mount" => mount(c"mine", c"c", c"tmpfs", 0, c""));
            mk(c"c/inside", b"");
            let (pid, mut status) = (crate::sys::child(|| 0), 0i32);
            k!(SYS_wait4, pid, &mut status, 0, 0);
            tell!(o, "here" => k!(SYS_rmdir, c"c"));
            0
        });
        say!(o, "{text}");
        let (r, w) = crate::util::pipe();
        let (r2, w2) = crate::util::pipe();
        let other = crate::sys::child(|| {
            k!(SYS_unshare, CLONE_NEWNS);
            mount(c"mine", c"c", c"tmpfs", 0, c"");
            mk(c"c/inside", b"");
            mk(c"b/under", b"");
            bind(c"a/file", c"b/under");
            crate::util::write(w, b"x");
            crate::util::read(r2, 1);
            tell!(o, "there" => there(c"c/inside"), "and" => there(c"b/under"));
            show_table(o);
            0
        });
        crate::util::read(r, 1);
        tell!(o, "removed here" => k!(SYS_rmdir, c"c"), "and the file" => k!(SYS_unlink, c"b/under"));
        crate::util::write(w2, b"x");
        tell!(o, "other" => crate::util::wait_text(other));
    });
}

fn mounted_elsewhere(o: Out) {
    with_trees(o, |o| {
        let here = open(c".", O_PATH, 0).int();
        let text = crate::util::in_child(|| {
            k!(SYS_unshare, CLONE_NEWNS);
            mount(c"mine", c"c", c"tmpfs", 0, c"");
            mk(c"c/inside", b"");
            k!(SYS_fchdir, here);
            tell!(o, "in the other's mounts" => there(c"c/inside"), "mount there" => mount(c"x", c"c", c"tmpfs", 0, c""), "unmount there" => umount(c"a", MNT_DETACH), "bind from there" => bind(c"a", c"/tmp"), "share there" => propagation(c".", MS_SHARED), "remount there" => mount(c"x", c".", c"", MS_REMOUNT | MS_BIND, c""), "move there" => mount(c"a", c"b", c"", MS_MOVE, c""), "whole" => mount(c"x", c".", c"", MS_REMOUNT, c""));
            0
        });
        say!(o, "{text}");
    });
}

fn namespace_files(o: Out) {
    apart(o, |o| {
        mk(c"ns", b"");
        mk(c"mnt", b"");
        tell!(o, "bind" => bind(c"/proc/self/ns/uts", c"ns"), "mounts" => bind(c"/proc/self/ns/mnt", c"mnt"));
        let same =
            |a: &CStr, b: &CStr| match (crate::util::stat_at(a, 0), crate::util::stat_at(b, 0)) {
                (Ok(a), Ok(b)) => a.st_ino == b.st_ino && a.st_dev == b.st_dev,
                _ => false,
            };
        tell!(o, "same" => same(c"ns", c"/proc/self/ns/uts"), "unshare" => k!(SYS_unshare, CLONE_NEWUTS), "other" => same(c"ns", c"/proc/self/ns/uts"));
        let fd = open(c"ns", O_RDONLY, 0);
        tell!(o, "open" => fd.yes(), "enter" => k!(SYS_setns, fd, CLONE_NEWUTS), "same" => same(c"ns", c"/proc/self/ns/uts"), "unmount" => umount(c"ns", MNT_DETACH), "gone" => stat_text(c"ns", 0));
        k!(SYS_symlink, c"/proc/self/fd/0", c"link");
        tell!(o, "a pipe" => bind(c"/proc/self/fd/200", c"ns"), "upon a descriptor" => k!(SYS_mount, c"ns", c"/proc/self/fd/200", 0, MS_BIND, 0));
        let link = k!(
            SYS_openat,
            AT_FDCWD,
            c"/proc/self/fd/200",
            O_PATH | O_NOFOLLOW,
            0
        )
        .int();
        let name = std::ffi::CString::new(format!("/proc/self/fd/{link}")).unwrap_or_default();
        tell!(o, "upon a link" => bind(c"ns", &name), "upon fdinfo" => bind(c"ns", c"/proc/self/fdinfo/200"), "upon status" => bind(c"ns", c"/proc/self/status"), "reads" => crate::util::cat(c"/proc/self/status"));
    });
}

fn terminals_of_its_own(o: Out) {
    apart(o, |o| {
        tell!(o, "mount" => mount(c"pts", c"a", c"devpts", 0, c"newinstance,ptmxmode=666,mode=620,gid=5"), "bad" => mount(c"pts", c"b", c"devpts", 0, c"what"), "bad mode" => mount(c"pts", c"b", c"devpts", 0, c"mode=9"));
        show_table(o);
        let fd = open(c"a/ptmx", O_RDWR | O_NOCTTY, 0);
        let mut n = 99i32;
        tell!(o, "open" => fd.yes(), "number" => k!(SYS_ioctl, fd, 0x8004_5430u32, &mut n), "is" => n, "there" => stat_text(c"a/0", 0), "unlock" => k!(SYS_ioctl, fd, 0x4004_5431, &0i32), "slave" => open(c"a/0", O_RDWR | O_NOCTTY, 0).yes(), "ptmx" => stat_text(c"a/ptmx", 0));
        tell!(o, "another" => mount(c"pts", c"b", c"devpts", 0, c"newinstance"), "empty" => stat_text(c"b/0", 0));
        k!(SYS_mkdir, c"c/pts", 0o755);
        tell!(o, "beside a node" => mount(c"pts", c"c/pts", c"devpts", 0, c"newinstance,ptmxmode=666"), "node" => k!(SYS_mknodat, AT_FDCWD, c"c/ptmx", S_IFCHR | 0o666, makedev(5, 2)), "open" => open(c"c/ptmx", O_RDWR | O_NOCTTY, 0).yes(), "there" => stat_text(c"c/pts/0", 0));
    });
}

fn processes_hidden(o: Out) {
    apart(o, |o| {
        let me = k!(SYS_getpid).0;
        for data in [
            c"hidepid=0",
            c"hidepid=1",
            c"hidepid=2",
            c"hidepid=invisible",
            c"hidepid=ptraceable",
            c"hidepid=3",
            c"gid=1000,hidepid=2",
            c"hidepid",
        ] {
            let r = mount(c"p", c"a", c"proc", 0, data);
            say!(o, "{data:?} {r}");
            if !r.ok() {
                continue;
            }
            show_table(o);
            let status = std::ffi::CString::new(format!("a/{me}/status")).unwrap_or_default();
            let dir = std::ffi::CString::new(format!("a/{me}")).unwrap_or_default();
            as_user(|| {
                tell!(o, "user" => there(&status), "directory" => stat_text(&dir, 0), "own" => there(c"a/self/status"));
            });
            tell!(o, "root" => there(&status));
            umount(c"a", 0);
        }
    });
}

fn processes_alone(o: Out) {
    apart(o, |o| {
        tell!(o, "mount" => mount(c"p", c"a", c"proc", 0, c"subset=pid"), "self" => there(c"a/self/status"), "mounts" => there(c"a/mounts"), "meminfo" => there(c"a/meminfo"), "sys" => stat_text(c"a/sys", 0), "thread" => there(c"a/thread-self/status"), "bad" => mount(c"p", c"b", c"proc", 0, c"subset=all"));
        show_table(o);
    });
}

fn the_unprivileged(o: Out) {
    with_trees(o, |o| {
        let text = as_user(|| {
            tell!(o, "mount" => mount(c"x", c"b", c"nosuch", 0, c""), "nowhere" => mount(c"x", c"nowhere", c"tmpfs", 0, c""), "bind" => bind(c"a", c"b"), "remount" => mount(c"x", c"a", c"", MS_REMOUNT, c""), "share" => propagation(c"b", MS_SHARED), "move" => mount(c"a", c"b", c"", MS_MOVE, c""), "unmount" => umount(c"a", 0), "no mount" => umount(c"b", 0), "nowhere" => umount(c"nowhere", 0), "flags" => umount(c"a", 64), "pivot" => k!(SYS_pivot_root, c"nowhere", c"nowhere"), "user flag" => mount(c"x", c"b", c"tmpfs", 1 << 31, c""));
        });
        say!(o, "{text}");
    });
}

fn whiteouts(o: Out) {
    apart(o, |o| {
        mk(c"one", b"1");
        let whiteout = |from: &CStr, to: &CStr, flags: i32| {
            k!(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags)
        };
        tell!(o, "rename" => whiteout(c"one", c"two", 4), "moved" => stat_text(c"two", 0), "left" => stat_text(c"one", 0), "number" => crate::util::stat_at(c"one", 0).map_or(9, |s| s.st_rdev), "open" => open(c"one", O_RDONLY, 0), "onto it" => whiteout(c"two", c"one", 4), "now" => stat_text(c"one", 0), "left" => stat_text(c"two", 0), "exchange" => whiteout(c"one", c"two", 6), "no replace" => whiteout(c"one", c"three", 5), "three" => stat_text(c"three", 0), "make" => k!(SYS_mknodat, AT_FDCWD, c"four", S_IFCHR, 0), "is" => stat_text(c"four", 0), "remove" => k!(SYS_unlink, c"four"));
        k!(SYS_mkdir, c"dir", 0o755);
        tell!(o, "directory" => whiteout(c"dir", c"dir2", 4), "left" => stat_text(c"dir", 0));
        k!(SYS_chmod, c".", 0o777);
        let text = as_user(|| {
            tell!(o, "make" => k!(SYS_mknodat, AT_FDCWD, c"five", S_IFCHR, 0), "rename" => whiteout(c"five", c"six", 4), "another device" => k!(SYS_mknodat, AT_FDCWD, c"seven", S_IFCHR, makedev(1, 3)));
        });
        say!(o, "{text}");
    });
}

fn made_by_a_clone(o: Out) {
    with_trees(o, |o| {
        propagation(c"a", MS_SHARED);
        propagation(c"a/sub", MS_UNBINDABLE);
        let pid = k!(SYS_clone, CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0).int();
        if pid == 0 {
            show_table(o);
            dirs(&[c"a/new"]);
            tell!(o, "mount" => mount(c"new", c"a/new", c"tmpfs", 0, c""), "private" => mount(c"new", c"b", c"tmpfs", 0, c""));
            k!(SYS_exit_group, 0);
        }
        tell!(o, "child" => crate::util::wait_text(pid));
        show_table(o);
    });
}
