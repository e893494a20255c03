//! Opening, closing, duplicating; flags of descriptors and descriptions.

use crate::out::Out;
use crate::util::{AT, cat, close, mk, open, pipe, read, stat_text, write};
use crate::{cases, k, say, sys, tell};
use libc::*;

cases!(
    open_creates_with_mode_and_umask,
    open_missing,
    open_exclusive,
    open_truncates,
    open_directory_flag,
    open_directory_for_writing,
    open_nofollow,
    open_excl_dangling_link,
    open_create_through_link,
    open_path_descriptor,
    open_tmpfile,
    open_bad_pointer,
    open_empty_path,
    open_access_modes,
    open_fifo_nonblocking,
    openat_relative,
    openat_bad_directory,
    openat2_resolve,
    creat_call,
    lowest_descriptor,
    dup_family,
    dup_shares_offset,
    fcntl_getfl_setfl,
    fcntl_cloexec,
    fcntl_dupfd,
    fcntl_bad,
    close_twice,
    close_range_call,
    descriptor_limit,
    proc_self_fd,
    dev_nodes,
    dev_fd_links,
    memfd,
    memfd_seals,
);

fn open_creates_with_mode_and_umask(o: Out) {
    k!(SYS_umask, 0o027);
    tell!(o, "open" => open(c"a", O_CREAT | O_WRONLY, 0o777).yes(), "stat" => stat_text(c"a", 0));
    k!(SYS_umask, 0);
    tell!(o, "open" => open(c"b", O_CREAT | O_RDWR, 0o6755).yes(), "stat" => stat_text(c"b", 0));
    k!(SYS_umask, 0o777);
    tell!(o, "open" => open(c"c", O_CREAT | O_RDWR, 0o666).yes(), "stat" => stat_text(c"c", 0));
    tell!(o, "umask" => k!(SYS_umask, 0o22));
}

fn open_missing(o: Out) {
    mk(c"file", b"");
    tell!(o,
        "missing" => open(c"none", O_RDONLY, 0),
        "missing parent" => open(c"none/x", O_RDONLY | O_CREAT, 0o644),
        "file as parent" => open(c"file/x", O_RDONLY, 0),
        "file with slash" => open(c"file/", O_RDONLY, 0),
        "create with slash" => open(c"new/", O_RDWR | O_CREAT, 0o644),
    );
}

fn open_exclusive(o: Out) {
    tell!(o,
        "first" => open(c"x", O_CREAT | O_EXCL | O_RDWR, 0o600).yes(),
        "second" => open(c"x", O_CREAT | O_EXCL | O_RDWR, 0o600),
        "directory" => open(c".", O_CREAT | O_EXCL | O_RDWR, 0o600),
        "without create" => open(c"x", O_EXCL | O_RDONLY, 0).yes(),
    );
}

fn open_truncates(o: Out) {
    mk(c"t", b"hello world");
    tell!(o,
        "plain" => open(c"t", O_WRONLY, 0).yes(), "size" => stat_text(c"t", 0),
        "trunc" => open(c"t", O_WRONLY | O_TRUNC, 0).yes(), "now" => stat_text(c"t", 0),
    );
}

fn open_directory_flag(o: Out) {
    mk(c"f", b"");
    tell!(o,
        "on a file" => open(c"f", O_RDONLY | O_DIRECTORY, 0),
        "on a directory" => open(c".", O_RDONLY | O_DIRECTORY, 0).yes(),
        "missing" => open(c"none", O_RDONLY | O_DIRECTORY, 0),
    );
}

fn open_directory_for_writing(o: Out) {
    k!(SYS_mkdir, c"d", 0o755);
    let fd = open(c"d", O_RDONLY, 0).int();
    tell!(o,
        "writable" => open(c"d", O_RDWR, 0),
        "write only" => open(c"d", O_WRONLY, 0),
        "create" => open(c"d", O_CREAT | O_RDONLY, 0o644),
        "truncate" => open(c"d", O_TRUNC | O_WRONLY, 0),
        "read" => read(fd, 4).0,
        "write" => write(fd, b"x"),
    );
}

fn open_nofollow(o: Out) {
    mk(c"f", b"data");
    k!(SYS_symlink, c"f", c"l");
    tell!(o,
        "link" => open(c"l", O_RDONLY | O_NOFOLLOW, 0),
        "link followed" => open(c"l", O_RDONLY, 0).yes(),
        "link as directory" => open(c"l", O_RDONLY | O_NOFOLLOW | O_DIRECTORY, 0),
        "file" => open(c"f", O_RDONLY | O_NOFOLLOW, 0).yes(),
        "link as path" => open(c"l", O_PATH | O_NOFOLLOW, 0).yes(),
    );
}

fn open_excl_dangling_link(o: Out) {
    k!(SYS_symlink, c"nowhere", c"l");
    tell!(o,
        "exclusive" => open(c"l", O_CREAT | O_EXCL | O_RDWR, 0o644),
        "reading" => open(c"l", O_RDONLY, 0),
        "nowhere" => stat_text(c"nowhere", 0),
    );
}

fn open_create_through_link(o: Out) {
    k!(SYS_symlink, c"target", c"l");
    tell!(o,
        "create" => open(c"l", O_CREAT | O_RDWR, 0o640).yes(),
        "target" => stat_text(c"target", 0),
        "link" => stat_text(c"l", AT_SYMLINK_NOFOLLOW),
    );
}

fn open_path_descriptor(o: Out) {
    mk(c"f", b"data");
    let fd = open(c"f", O_PATH, 0).int();
    let mut st: stat = sys::zeroed();
    tell!(o,
        "read" => read(fd, 4).0,
        "write" => write(fd, b"x"),
        "fstat" => k!(SYS_fstat, fd, &mut st),
        "size" => st.st_size,
        "seek" => k!(SYS_lseek, fd, 0, 0),
        "fchmod" => k!(SYS_fchmod, fd, 0o600),
        "ftruncate" => k!(SYS_ftruncate, fd, 0),
        "getfl" => format!("{:#o}", k!(SYS_fcntl, fd, F_GETFL).0),
        "mmap" => k!(SYS_mmap, 0, 4096, PROT_READ, MAP_SHARED, fd, 0),
        "dup" => k!(SYS_dup, fd).yes(),
        "reopened" => k!(SYS_openat, AT, c"/proc/self/fd/3", O_RDONLY, 0).yes(),
        "empty path stat" => k!(SYS_newfstatat, fd, c"", &mut st, AT_EMPTY_PATH),
    );
}

fn open_tmpfile(o: Out) {
    let fd = open(c".", O_TMPFILE | O_RDWR, 0o600);
    tell!(o, "open" => fd.yes(), "write" => write(fd.int(), b"abc"));
    let st = crate::util::fstat(fd.int());
    tell!(o,
        "links" => st.st_nlink,
        "link by proc" => k!(SYS_linkat, AT, std::ffi::CString::new(
            format!("/proc/self/fd/{}", fd.int())).unwrap_or_default().as_c_str(),
            AT, c"named", AT_SYMLINK_FOLLOW),
        "named" => cat(c"named"),
        "read only" => open(c".", O_TMPFILE | O_RDONLY, 0o600),
    );
}

fn open_bad_pointer(o: Out) {
    tell!(o,
        "null" => k!(SYS_openat, AT, 0, O_RDONLY, 0),
        "wild" => k!(SYS_openat, AT, 0x10usize, O_RDONLY, 0),
        "kernel" => k!(SYS_openat, AT, 0xffff_8000_0000_0000usize, O_RDONLY, 0),
        "stat to null" => k!(SYS_newfstatat, AT, c".", 0, 0),
    );
}

fn open_empty_path(o: Out) {
    tell!(o, "open" => open(c"", O_RDONLY, 0), "create" => open(c"", O_CREAT | O_RDWR, 0o644),
        "stat" => stat_text(c"", 0));
}

fn open_access_modes(o: Out) {
    mk(c"f", b"data");
    let r = open(c"f", O_RDONLY, 0).int();
    let w = open(c"f", O_WRONLY, 0).int();
    let n = open(c"f", O_ACCMODE, 0).int();
    tell!(o,
        "write to reader" => write(r, b"x"),
        "read from writer" => read(w, 1).0,
        "read from neither" => read(n, 1).0,
        "write to neither" => write(n, b"x"),
        "truncate reader" => k!(SYS_ftruncate, r, 0),
        "map reader shared for writing" =>
            k!(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, r, 0),
        "map writer" => k!(SYS_mmap, 0, 4096, PROT_READ, MAP_PRIVATE, w, 0),
    );
}

fn open_fifo_nonblocking(o: Out) {
    tell!(o, "mkfifo" => k!(SYS_mknodat, AT, c"p", S_IFIFO | 0o644, 0),
        "stat" => stat_text(c"p", 0),
        "writer alone" => open(c"p", O_WRONLY | O_NONBLOCK, 0));
    let r = open(c"p", O_RDONLY | O_NONBLOCK, 0).int();
    tell!(o, "read without writer" => read(r, 4).0);
    let w = open(c"p", O_WRONLY | O_NONBLOCK, 0).int();
    tell!(o, "read empty" => read(r, 4).0, "write" => write(w, b"abcd"), "read" => read(r, 8).1);
    close(w);
    tell!(o, "read after close" => read(r, 4).0, "seek" => k!(SYS_lseek, r, 0, 0));
}

fn openat_relative(o: Out) {
    k!(SYS_mkdir, c"d", 0o755);
    mk(c"d/f", b"inner");
    let d = open(c"d", O_RDONLY | O_DIRECTORY, 0).int();
    let fd = k!(SYS_openat, d, c"f", O_RDONLY, 0).int();
    tell!(o, "read" => read(fd, 16).1,
        "up" => k!(SYS_openat, d, c"../d/f", O_RDONLY, 0).yes(),
        "absolute ignores it" => k!(SYS_openat, d, c"/proc", O_RDONLY, 0).yes(),
        "bad but absolute" => k!(SYS_openat, 999, c"/proc", O_RDONLY, 0).yes());
    k!(SYS_rename, c"d", c"e");
    tell!(o, "after rename" => k!(SYS_openat, d, c"f", O_RDONLY, 0).yes());
}

fn openat_bad_directory(o: Out) {
    mk(c"f", b"");
    let f = open(c"f", O_RDONLY, 0).int();
    tell!(o, "closed" => k!(SYS_openat, 999, c"f", O_RDONLY, 0),
        "a file" => k!(SYS_openat, f, c"f", O_RDONLY, 0),
        "negative" => k!(SYS_openat, -5, c"f", O_RDONLY, 0));
}

fn openat2_resolve(o: Out) {
    k!(SYS_mkdir, c"d", 0o755);
    mk(c"f", b"out");
    mk(c"d/g", b"in");
    k!(SYS_symlink, c"g", c"d/l");
    k!(SYS_symlink, c"../f", c"d/up");
    let d = open(c"d", O_RDONLY, 0).int();
    let try_it = |path: &std::ffi::CStr, resolve: u64| {
        let how: [u64; 3] = [O_RDONLY as u64, 0, resolve];
        k!(SYS_openat2, d, path, &how, 24).yes()
    };
    tell!(o,
        "plain" => try_it(c"g", 0),
        "beneath, dotdot" => try_it(c"../f", RESOLVE_BENEATH),
        "beneath, inside" => try_it(c"l", RESOLVE_BENEATH),
        "beneath, link out" => try_it(c"up", RESOLVE_BENEATH),
        "beneath, absolute" => try_it(c"/proc", RESOLVE_BENEATH),
        "no links" => try_it(c"l", RESOLVE_NO_SYMLINKS),
        "in root" => try_it(c"/g", RESOLVE_IN_ROOT),
        "in root, dotdot" => try_it(c"../../g", RESOLVE_IN_ROOT),
        "bad bit" => try_it(c"g", 1 << 40),
    );
    let how: [u64; 4] = [O_RDONLY as u64, 0, 0, 1];
    tell!(o, "short" => k!(SYS_openat2, d, c"g", &how, 8),
        "long with rubbish" => k!(SYS_openat2, d, c"g", &how, 32));
}

fn creat_call(o: Out) {
    mk(c"f", b"old");
    let fd = k!(SYS_creat, c"f", 0o600).int();
    tell!(o, "read" => read(fd, 1).0, "write" => write(fd, b"n"), "cat" => cat(c"f"),
        "mode kept" => stat_text(c"f", 0));
}

fn lowest_descriptor(o: Out) {
    let a = open(c".", O_RDONLY, 0);
    let b = open(c".", O_RDONLY, 0);
    let c = open(c".", O_RDONLY, 0);
    say!(o, "{a} {b} {c}");
    close(b.int());
    tell!(o, "hole" => open(c".", O_RDONLY, 0), "next" => open(c".", O_RDONLY, 0));
}

fn dup_family(o: Out) {
    let fd = open(c".", O_RDONLY, 0).int();
    tell!(o,
        "dup" => k!(SYS_dup, fd),
        "dup2" => k!(SYS_dup2, fd, 20),
        "dup2 same" => k!(SYS_dup2, fd, fd),
        "dup2 same closed" => k!(SYS_dup2, 77, 77),
        "dup2 negative" => k!(SYS_dup2, fd, -1),
        "dup2 huge" => k!(SYS_dup2, fd, 1 << 30),
        "dup3 same" => k!(SYS_dup3, fd, fd, 0),
        "dup3 cloexec" => k!(SYS_dup3, fd, 21, O_CLOEXEC),
        "its flag" => k!(SYS_fcntl, 21, F_GETFD),
        "dup3 bad flag" => k!(SYS_dup3, fd, 22, O_APPEND),
        "dup closed" => k!(SYS_dup, 78),
    );
}

fn dup_shares_offset(o: Out) {
    mk(c"f", b"abcdefgh");
    let a = open(c"f", O_RDONLY, 0).int();
    let b = k!(SYS_dup, a).int();
    let c = open(c"f", O_RDONLY, 0).int();
    tell!(o, "a" => read(a, 2).1, "b" => read(b, 2).1, "c" => read(c, 2).1,
        "child" => crate::util::in_child(|| { read(a, 2); 0 }), "a again" => read(a, 2).1);
}

fn fcntl_getfl_setfl(o: Out) {
    let fd = open(c"f", O_CREAT | O_RDWR | O_CLOEXEC | O_TRUNC, 0o644).int();
    let fl = |fd: i32| format!("{:#o}", k!(SYS_fcntl, fd, F_GETFL).0);
    tell!(o, "new" => fl(fd), "append" => k!(SYS_fcntl, fd, F_SETFL, O_APPEND | O_NONBLOCK),
        "then" => fl(fd), "no change of mode" => k!(SYS_fcntl, fd, F_SETFL, O_WRONLY),
        "last" => fl(fd));
    let (r, w) = pipe();
    tell!(o, "pipe read end" => fl(r), "pipe write end" => fl(w));
    tell!(o, "directory" => fl(open(c".", O_RDONLY | O_DIRECTORY, 0).int()));
}

fn fcntl_cloexec(o: Out) {
    let fd = open(c".", O_RDONLY, 0).int();
    let gd = open(c".", O_RDONLY | O_CLOEXEC, 0).int();
    tell!(o, "plain" => k!(SYS_fcntl, fd, F_GETFD), "cloexec" => k!(SYS_fcntl, gd, F_GETFD),
        "set" => k!(SYS_fcntl, fd, F_SETFD, FD_CLOEXEC), "now" => k!(SYS_fcntl, fd, F_GETFD),
        "dup clears" => k!(SYS_fcntl, k!(SYS_dup, fd), F_GETFD),
        "ioctl" => k!(SYS_ioctl, gd, FIONCLEX), "cleared" => k!(SYS_fcntl, gd, F_GETFD));
}

fn fcntl_dupfd(o: Out) {
    let fd = open(c".", O_RDONLY, 0).int();
    tell!(o, "from 30" => k!(SYS_fcntl, fd, F_DUPFD, 30), "again" => k!(SYS_fcntl, fd, F_DUPFD, 30),
        "cloexec" => k!(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 40), "flag" => k!(SYS_fcntl, 40, F_GETFD),
        "too high" => k!(SYS_fcntl, fd, F_DUPFD, 1 << 30),
        "negative" => k!(SYS_fcntl, fd, F_DUPFD, -1));
}

fn fcntl_bad(o: Out) {
    let fd = open(c".", O_RDONLY, 0).int();
    tell!(o, "closed" => k!(SYS_fcntl, 99, F_GETFD), "command" => k!(SYS_fcntl, fd, 9999),
        "pipe size of a directory" => k!(SYS_fcntl, fd, F_GETPIPE_SZ),
        "ioctl" => k!(SYS_ioctl, fd, TCGETS, 0), "ioctl closed" => k!(SYS_ioctl, 99, TCGETS, 0));
}

fn close_twice(o: Out) {
    let fd = open(c".", O_RDONLY, 0).int();
    tell!(o, "first" => close(fd), "second" => close(fd), "negative" => close(-1),
        "read" => read(fd, 1).0, "fstat" => k!(SYS_fstat, fd, &mut sys::zeroed::<stat>()));
}

fn close_range_call(o: Out) {
    for i in 30..40 {
        k!(SYS_dup2, 0, i);
    }
    tell!(o, "range" => k!(SYS_close_range, 32, 34, 0), "31" => k!(SYS_fcntl, 31, F_GETFD),
        "33" => k!(SYS_fcntl, 33, F_GETFD), "35" => k!(SYS_fcntl, 35, F_GETFD),
        "cloexec" => k!(SYS_close_range, 36, 150, 4), "37" => k!(SYS_fcntl, 37, F_GETFD),
        "reversed" => k!(SYS_close_range, 9, 3, 0), "bad flag" => k!(SYS_close_range, 3, 9, 64));
}

fn descriptor_limit(o: Out) {
    let lim = rlimit {
        rlim_cur: 10,
        rlim_max: 4096,
    };
    k!(SYS_prlimit64, 0, RLIMIT_NOFILE, &lim, 0);
    let mut last = sys::R(0);
    let mut opened = 0;
    while opened < 64 {
        last = open(c".", O_RDONLY, 0);
        if !last.ok() {
            break;
        }
        opened += 1;
    }
    tell!(o, "opened" => opened, "then" => last, "dup" => k!(SYS_dup, 0), "dup2" => k!(SYS_dup2, 0, 10),
        "fcntl" => k!(SYS_fcntl, 0, F_DUPFD, 10), "pipe" => k!(SYS_pipe2, &mut [0i32; 2], 0));
}

fn proc_self_fd(o: Out) {
    mk(c"f", b"via proc");
    let fd = open(c"f", O_RDONLY, 0).int();
    let link = |path: &std::ffi::CStr| {
        let mut buf = [0u8; 256];
        let n = k!(SYS_readlinkat, AT, path, &mut buf, buf.len());
        if !n.ok() {
            return n.to_string();
        }
        let text = String::from_utf8_lossy(&buf[..n.addr()]).into_owned();
        let text = text.rsplit('/').next().unwrap_or_default().to_string();
        text.split(':').next().unwrap_or_default().to_string()
    };
    say!(o, "fd {fd}");
    tell!(o, "file" => link(c"/proc/self/fd/3"), "through" => cat(c"/proc/self/fd/3"),
        "closed" => link(c"/proc/self/fd/99"));
    k!(SYS_unlink, c"f");
    tell!(o, "deleted" => link(c"/proc/self/fd/3"), "still" => cat(c"/proc/self/fd/3"));
    let (r, _) = pipe();
    say!(o, "pipe {r}");
    tell!(o, "pipe link" => link(c"/proc/self/fd/4"), "links are" =>
        stat_text(c"/proc/self/fd/3", AT_SYMLINK_NOFOLLOW).split(' ').next().unwrap_or_default());
}

fn dev_nodes(o: Out) {
    let null = open(c"/dev/null", O_RDWR, 0).int();
    let zero = open(c"/dev/zero", O_RDWR, 0).int();
    let full = open(c"/dev/full", O_RDWR, 0).int();
    let rand = open(c"/dev/urandom", O_RDONLY, 0).int();
    tell!(o, "null read" => read(null, 4).0, "null write" => write(null, b"abc"),
        "zero read" => read(zero, 3).1, "zero write" => write(zero, b"abc"),
        "full read" => read(full, 2).1, "full write" => write(full, b"abc"),
        "urandom" => read(rand, 16).0, "null seek" => k!(SYS_lseek, null, 5, 0),
        "null truncate" => k!(SYS_ftruncate, null, 0), "null stat" => kind(c"/dev/null"));
    for path in [
        c"/dev/null",
        c"/dev/zero",
        c"/dev/full",
        c"/dev/random",
        c"/dev/urandom",
        c"/dev/tty",
    ] {
        if let Ok(st) = crate::util::stat_at(path, 0) {
            say!(
                o,
                "{path:?} {}:{} {:04o}",
                major(st.st_rdev),
                minor(st.st_rdev),
                st.st_mode & 0o777
            );
        }
    }
}

fn kind(path: &std::ffi::CStr) -> &'static str {
    crate::util::stat_at(path, 0).map_or("error", |st| crate::util::kind_text(st.st_mode))
}

fn dev_fd_links(o: Out) {
    for (path, len) in [
        (c"/dev/fd", 32),
        (c"/dev/stdin", 32),
        (c"/dev/stdout", 32),
        (c"/dev/stderr", 32),
    ] {
        let mut buf = [0u8; 32];
        let n = k!(SYS_readlink, path, &mut buf, len);
        say!(
            o,
            "{path:?} {n} {}",
            crate::util::show(&buf[..n.0.clamp(0, 32) as usize])
        );
    }
}

fn memfd(o: Out) {
    let fd = k!(SYS_memfd_create, c"name", MFD_CLOEXEC).int();
    tell!(o, "cloexec" => k!(SYS_fcntl, fd, F_GETFD), "write" => write(fd, b"memory"),
        "pread" => k!(SYS_pread64, fd, &mut [0u8; 8], 8, 0), "size" => crate::util::fstat(fd).st_size,
        "mode" => format!("{:o}", crate::util::fstat(fd).st_mode & 0o777),
        "bad flag" => k!(SYS_memfd_create, c"x", 0x8000_0000u32),
        "seals off" => k!(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_WRITE),
        "grow" => k!(SYS_ftruncate, fd, 10000), "new size" => crate::util::fstat(fd).st_size);
    let long = std::ffi::CString::new(vec![b'n'; 250]).unwrap_or_default();
    tell!(o, "long name" => k!(SYS_memfd_create, long.as_c_str(), 0));
}

fn memfd_seals(o: Out) {
    let fd = k!(SYS_memfd_create, c"s", MFD_ALLOW_SEALING).int();
    write(fd, b"12345678");
    tell!(o, "none" => k!(SYS_fcntl, fd, F_GET_SEALS),
        "shrink" => k!(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_SHRINK),
        "smaller" => k!(SYS_ftruncate, fd, 4), "larger" => k!(SYS_ftruncate, fd, 16),
        "grow" => k!(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_GROW), "larger" => k!(SYS_ftruncate, fd, 32),
        "write" => k!(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_WRITE), "then" => write(fd, b"x"),
        "map shared" => k!(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0),
        "seal" => k!(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_SEAL),
        "more" => k!(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_GROW), "all" => k!(SYS_fcntl, fd, F_GET_SEALS));
}
