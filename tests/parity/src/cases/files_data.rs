//! Reading, writing, seeking, truncating.

use crate::out::Out;
use crate::util::{AT, anon, cat, close, fstat, mk, open, pipe, read, show, stat_text, write};
use crate::{cases, k, say, tell};
use libc::*;

cases!(
    read_write_seek,
    read_at_end,
    read_zero_and_bad_buffer,
    partial_copy_at_fault,
    seek_errors,
    seek_data_and_hole,
    positional,
    vectors,
    vectors_bad,
    preadv2_flags,
    append_mode,
    append_two_writers,
    sparse_file,
    truncate_grow_and_shrink,
    truncate_errors,
    allocate,
    allocate_punch,
    copy_between_files,
    send_file,
    splice_pipe_file,
    file_size_limit,
    sync_calls,
    write_updates_size_for_others,
    unlinked_file_lives,
    large_offsets,
    flock_two_descriptions,
    record_locks,
    a_record_lock_that_comes_after_the_close,
    open_description_locks,
    readahead_and_advise,
);

fn read_write_seek(o: Out) {
    let fd = open(c"f", O_CREAT | O_RDWR, 0o644).int();
    tell!(o, "write" => write(fd, b"hello world"), "at" => k!(SYS_lseek, fd, 0, SEEK_CUR),
        "back" => k!(SYS_lseek, fd, -5, SEEK_END), "read" => read(fd, 99).1,
        "set" => k!(SYS_lseek, fd, 2, SEEK_SET), "read3" => read(fd, 3).1,
        "over" => write(fd, b"XY"), "cat" => cat(c"f"));
}

fn read_at_end(o: Out) {
    mk(c"f", b"abc");
    let fd = open(c"f", O_RDONLY, 0).int();
    tell!(o, "all" => read(fd, 10).0, "end" => read(fd, 10).0,
        "beyond" => k!(SYS_lseek, fd, 100, SEEK_SET), "none" => read(fd, 10).0,
        "position" => k!(SYS_lseek, fd, 0, SEEK_CUR));
}

fn read_zero_and_bad_buffer(o: Out) {
    mk(c"f", b"abc");
    let fd = open(c"f", O_RDWR, 0).int();
    tell!(o, "zero" => k!(SYS_read, fd, 0, 0), "null" => k!(SYS_read, fd, 0, 3),
        "wild" => k!(SYS_write, fd, 8usize, 3), "kernel" => k!(SYS_read, fd, usize::MAX - 100, 3),
        "huge" => k!(SYS_read, fd, 0, usize::MAX), "closed zero" => k!(SYS_read, 99, 0, 0),
        "position" => k!(SYS_lseek, fd, 0, SEEK_CUR));
}

fn partial_copy_at_fault(o: Out) {
    let base = anon(8192);
    k!(SYS_munmap, base + 4096, 4096);
    crate::sys::put(base + 4092, b"wxyz");
    let (r, w) = pipe();
    tell!(o, "write pipe across" => k!(SYS_write, w, base + 4092, 4),
        "read pipe" => read(r, 9).1,
        "write all bad" => k!(SYS_write, w, base + 4096, 4));
    let fd = open(c"f", O_CREAT | O_RDWR, 0o644).int();
    write(fd, b"0123456789");
    tell!(o, "seek" => k!(SYS_lseek, fd, 0, 0), "write file bad" => k!(SYS_write, fd, base + 4096, 4),
        "size" => fstat(fd).st_size);
}

fn seek_errors(o: Out) {
    mk(c"f", b"abc");
    let fd = open(c"f", O_RDONLY, 0).int();
    let (r, _) = pipe();
    tell!(o, "negative" => k!(SYS_lseek, fd, -1, SEEK_SET), "before start" => k!(SYS_lseek, fd, -9, SEEK_END),
        "whence" => k!(SYS_lseek, fd, 0, 17), "pipe" => k!(SYS_lseek, r, 0, SEEK_CUR),
        "overflow" => k!(SYS_lseek, fd, i64::MAX, SEEK_CUR), "more" => k!(SYS_lseek, fd, i64::MAX, SEEK_END),
        "closed" => k!(SYS_lseek, 99, 0, 0));
}

fn seek_data_and_hole(o: Out) {
    let fd = open(c"f", O_CREAT | O_RDWR, 0o644).int();
    k!(SYS_pwrite64, fd, b"x".as_slice(), 1, 1 << 20);
    tell!(o, "data" => k!(SYS_lseek, fd, 0, SEEK_DATA), "hole" => k!(SYS_lseek, fd, 0, SEEK_HOLE),
        "hole at end" => k!(SYS_lseek, fd, 1 << 20, SEEK_HOLE),
        "data beyond" => k!(SYS_lseek, fd, 2 << 20, SEEK_DATA));
}

fn positional(o: Out) {
    let fd = open(c"f", O_CREAT | O_RDWR, 0o644).int();
    let mut buf = [0u8; 8];
    let (r, _) = pipe();
    tell!(o, "pwrite" => k!(SYS_pwrite64, fd, b"abcdef".as_slice(), 6, 4), "size" => fstat(fd).st_size,
        "pread" => k!(SYS_pread64, fd, &mut buf, 8, 2), "got" => show(&buf),
        "offset" => k!(SYS_lseek, fd, 0, SEEK_CUR), "negative" => k!(SYS_pread64, fd, &mut buf, 8, -1),
        "pipe" => k!(SYS_pread64, r, &mut buf, 8, 0), "at end" => k!(SYS_pread64, fd, &mut buf, 8, 10));
}

fn vec_of(parts: &[(usize, usize)]) -> Vec<iovec> {
    parts
        .iter()
        .map(|(a, l)| iovec {
            iov_base: *a as *mut c_void,
            iov_len: *l,
        })
        .collect()
}

fn vectors(o: Out) {
    let fd = open(c"f", O_CREAT | O_RDWR, 0o644).int();
    let m = anon(4096);
    crate::sys::put(m, b"onetwothree");
    let out = vec_of(&[(m, 3), (m + 3, 3), (0, 0), (m + 6, 5)]);
    tell!(o, "writev" => k!(SYS_writev, fd, out.as_ptr(), out.len()), "cat" => cat(c"f"));
    k!(SYS_lseek, fd, 1, SEEK_SET);
    let into = vec_of(&[(m + 100, 4), (m + 200, 100)]);
    tell!(o, "readv" => k!(SYS_readv, fd, into.as_ptr(), into.len()),
        "first" => show(&crate::sys::get(m + 100, 5)), "second" => show(&crate::sys::get(m + 200, 8)),
        "preadv" => k!(SYS_preadv, fd, into.as_ptr(), 1, 3, 0), "got" => show(&crate::sys::get(m + 100, 4)),
        "pwritev" => k!(SYS_pwritev, fd, out.as_ptr(), 1, 20, 0), "cat" => cat(c"f"));
}

fn vectors_bad(o: Out) {
    let fd = open(c"f", O_CREAT | O_RDWR, 0o644).int();
    let m = anon(4096);
    let v = vec_of(&[(m, usize::MAX), (m, 10)]);
    let many = vec_of(&vec![(m, 1); 1025]);
    let faulty = vec_of(&[(m, 2), (1, 2)]);
    tell!(o, "none" => k!(SYS_writev, fd, v.as_ptr(), 0), "negative" => k!(SYS_writev, fd, v.as_ptr(), -1),
        "too many" => k!(SYS_writev, fd, many.as_ptr(), 1025), "1024" => k!(SYS_writev, fd, many.as_ptr(), 1024),
        "bad length" => k!(SYS_writev, fd, v.as_ptr(), 1), "bad array" => k!(SYS_readv, fd, 16usize, 2),
        "second bad" => k!(SYS_readv, fd, faulty.as_ptr(), 2));
}

fn preadv2_flags(o: Out) {
    mk(c"f", b"abcdef");
    let fd = open(c"f", O_RDWR, 0).int();
    let m = anon(4096);
    let v = vec_of(&[(m, 3)]);
    tell!(o, "current offset" => k!(SYS_preadv2, fd, v.as_ptr(), 1, -1, 0, 0), "moved" => k!(SYS_lseek, fd, 0, SEEK_CUR),
        "bad flag" => k!(SYS_preadv2, fd, v.as_ptr(), 1, 0, 0, 0x8000),
        "append" => k!(SYS_pwritev2, fd, v.as_ptr(), 1, 0, 0, RWF_APPEND), "cat" => cat(c"f"));
}

fn append_mode(o: Out) {
    mk(c"f", b"start");
    let fd = open(c"f", O_RDWR | O_APPEND, 0).int();
    tell!(o, "offset" => k!(SYS_lseek, fd, 0, SEEK_CUR), "write" => write(fd, b"+a"),
        "offset after" => k!(SYS_lseek, fd, 0, SEEK_CUR), "rewind" => k!(SYS_lseek, fd, 0, SEEK_SET),
        "write2" => write(fd, b"+b"), "pwrite appends" => k!(SYS_pwrite64, fd, b"+c".as_slice(), 2, 0), "cat" => cat(c"f"));
}

fn append_two_writers(o: Out) {
    let a = open(c"f", O_CREAT | O_WRONLY | O_APPEND, 0o644).int();
    let b = open(c"f", O_WRONLY | O_APPEND, 0).int();
    for i in 0..3u8 {
        write(a, &[b'a' + i]);
        write(b, &[b'A' + i]);
    }
    tell!(o, "cat" => cat(c"f"));
}

fn sparse_file(o: Out) {
    let fd = open(c"f", O_CREAT | O_RDWR, 0o644).int();
    tell!(o, "seek" => k!(SYS_lseek, fd, 1i64 << 32, SEEK_SET), "write" => write(fd, b"z"), "size" => fstat(fd).st_size,
        "sparse" => fstat(fd).st_blocks < 1000, "hole" => k!(SYS_pread64, fd, &mut [1u8; 4], 4, 12345));
    let mut buf = [7u8; 4];
    k!(SYS_pread64, fd, &mut buf, 4, 4096);
    say!(o, "{buf:?}");
}

fn truncate_grow_and_shrink(o: Out) {
    mk(c"f", b"0123456789");
    let fd = open(c"f", O_RDWR, 0).int();
    tell!(o, "shrink" => k!(SYS_ftruncate, fd, 4), "cat" => cat(c"f"), "grow" => k!(SYS_truncate, c"f", 8),
        "zeros" => cat(c"f"), "zero" => k!(SYS_truncate, c"f", 0), "stat" => stat_text(c"f", 0));
}

fn truncate_errors(o: Out) {
    mk(c"f", b"x");
    let r = open(c"f", O_RDONLY, 0).int();
    let (p, _) = pipe();
    tell!(o, "negative" => k!(SYS_truncate, c"f", -1), "directory" => k!(SYS_truncate, c".", 0),
        "missing" => k!(SYS_truncate, c"none", 0), "read only fd" => k!(SYS_ftruncate, r, 0),
        "pipe" => k!(SYS_ftruncate, p, 0), "closed" => k!(SYS_ftruncate, 99, 0), "negative fd" => k!(SYS_ftruncate, r, -1));
}

fn allocate(o: Out) {
    let fd = open(c"f", O_CREAT | O_RDWR, 0o644).int();
    tell!(o, "grow" => k!(SYS_fallocate, fd, 0, 0, 8192), "size" => fstat(fd).st_size,
        "keep" => k!(SYS_fallocate, fd, FALLOC_FL_KEEP_SIZE, 0, 65536), "size2" => fstat(fd).st_size,
        "zero length" => k!(SYS_fallocate, fd, 0, 0, 0), "negative" => k!(SYS_fallocate, fd, 0, -1, 5),
        "directory" => k!(SYS_fallocate, open(c".", O_RDONLY, 0), 0, 0, 5));
}

fn allocate_punch(o: Out) {
    let fd = open(c"f", O_CREAT | O_RDWR, 0o644).int();
    write(fd, &[b'x'; 12288]);
    let mut buf = [1u8; 4];
    tell!(o, "punch" => k!(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096),
        "size" => fstat(fd).st_size, "pread" => k!(SYS_pread64, fd, &mut buf, 4, 4094), "bytes" => show(&buf),
        "without keep" => k!(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE, 0, 4096));
}

fn copy_between_files(o: Out) {
    mk(c"a", b"copy this text");
    let a = open(c"a", O_RDONLY, 0).int();
    let b = open(c"b", O_CREAT | O_RDWR, 0o644).int();
    let mut off = 5i64;
    tell!(o, "copy" => k!(SYS_copy_file_range, a, &mut off, b, 0, 100, 0), "off" => off, "cat" => cat(c"b"),
        "at end" => k!(SYS_copy_file_range, a, &mut off, b, 0, 100, 0),
        "flags" => k!(SYS_copy_file_range, a, 0, b, 0, 1, 9), "to reader" => k!(SYS_copy_file_range, b, 0, a, 0, 1, 0));
}

fn send_file(o: Out) {
    mk(c"a", b"send this text");
    let a = open(c"a", O_RDONLY, 0).int();
    let b = open(c"b", O_CREAT | O_RDWR, 0o644).int();
    let (r, w) = pipe();
    let mut off = 5i64;
    tell!(o, "to file" => k!(SYS_sendfile, b, a, &mut off, 4), "off" => off, "cat" => cat(c"b"),
        "to pipe" => k!(SYS_sendfile, w, a, 0, 4), "pipe" => read(r, 10).1, "moved" => k!(SYS_lseek, a, 0, SEEK_CUR));
}

fn splice_pipe_file(o: Out) {
    mk(c"a", b"spliced");
    let a = open(c"a", O_RDONLY, 0).int();
    let b = open(c"b", O_CREAT | O_RDWR, 0o644).int();
    let (r, w) = pipe();
    tell!(o, "in" => k!(SYS_splice, a, 0, w, 0, 100, 0), "out" => k!(SYS_splice, r, 0, b, 0, 100, 0), "cat" => cat(c"b"),
        "two files" => k!(SYS_splice, a, 0, b, 0, 10, 0), "offset of pipe" => k!(SYS_splice, r, &mut 0i64, b, 0, 1, 0));
}

fn file_size_limit(o: Out) {
    let fd = open(c"f", O_CREAT | O_RDWR, 0o644).int();
    let lim = rlimit {
        rlim_cur: 10,
        rlim_max: RLIM_INFINITY,
    };
    k!(SYS_prlimit64, 0, RLIMIT_FSIZE, &lim, 0);
    crate::sys::on(SIGXFSZ, 0);
    tell!(o, "part" => write(fd, b"0123456789abc"), "signals" => crate::sys::count(SIGXFSZ),
        "none" => write(fd, b"x"), "signals" => crate::sys::count(SIGXFSZ), "truncate" => k!(SYS_ftruncate, fd, 100),
        "signals" => crate::sys::count(SIGXFSZ));
}

fn sync_calls(o: Out) {
    let fd = open(c"f", O_CREAT | O_RDWR, 0o644).int();
    let (r, _) = pipe();
    tell!(o, "fsync" => k!(SYS_fsync, fd), "fdatasync" => k!(SYS_fdatasync, fd), "pipe" => k!(SYS_fsync, r),
        "closed" => k!(SYS_fsync, 99), "directory" => k!(SYS_fsync, open(c".", O_RDONLY, 0)),
        "syncfs" => k!(SYS_syncfs, fd), "range" => k!(SYS_sync_file_range, fd, 0, 0, 0));
}

fn write_updates_size_for_others(o: Out) {
    let a = open(c"f", O_CREAT | O_RDWR, 0o644).int();
    let b = open(c"f", O_RDONLY, 0).int();
    tell!(o, "b end" => read(b, 4).0, "a" => write(a, b"new"), "b" => read(b, 4).1, "size" => fstat(b).st_size,
        "child writes" => crate::util::in_child(|| write(a, b"more").int()), "b" => read(b, 9).1);
}

fn unlinked_file_lives(o: Out) {
    let fd = open(c"f", O_CREAT | O_RDWR, 0o644).int();
    tell!(o, "unlink" => k!(SYS_unlink, c"f"), "links" => fstat(fd).st_nlink, "write" => write(fd, b"ghost"),
        "pread" => k!(SYS_pread64, fd, &mut [0u8; 9], 9, 0), "path" => stat_text(c"f", 0),
        "same name" => open(c"f", O_CREAT | O_EXCL | O_RDWR, 0o644).yes(), "other size" => stat_text(c"f", 0),
        "truncate" => k!(SYS_ftruncate, fd, 2), "size" => fstat(fd).st_size);
}

fn large_offsets(o: Out) {
    let fd = open(c"f", O_CREAT | O_RDWR, 0o644).int();
    let far = (1i64 << 40) + 7;
    let mut b = [0u8; 4];
    tell!(o, "pwrite" => k!(SYS_pwrite64, fd, b"far".as_slice(), 3, far), "size" => fstat(fd).st_size,
        "pread" => k!(SYS_pread64, fd, &mut b, 4, far), "got" => show(&b), "max" => k!(SYS_pwrite64, fd, b"x".as_slice(), 1, i64::MAX));
}

fn flock_two_descriptions(o: Out) {
    mk(c"f", b"");
    let a = open(c"f", O_RDWR, 0).int();
    let b = open(c"f", O_RDWR, 0).int();
    let nb = LOCK_NB;
    tell!(o, "a shared" => k!(SYS_flock, a, LOCK_SH), "b shared" => k!(SYS_flock, b, LOCK_SH | nb),
        "b exclusive" => k!(SYS_flock, b, LOCK_EX | nb), "a unlock" => k!(SYS_flock, a, LOCK_UN),
        "b again" => k!(SYS_flock, b, LOCK_EX | nb), "a" => k!(SYS_flock, a, LOCK_SH | nb));
    close(b);
    tell!(o, "after close" => k!(SYS_flock, a, LOCK_EX | nb), "bad" => k!(SYS_flock, a, 77), "closed" => k!(SYS_flock, 99, LOCK_SH));
}

fn lock_of(kind: i32, start: i64, len: i64) -> flock {
    let mut l: flock = crate::sys::zeroed();
    l.l_type = kind as i16;
    l.l_start = start;
    l.l_len = len;
    l
}

fn record_locks(o: Out) {
    mk(c"f", b"0123456789");
    let fd = open(c"f", O_RDWR, 0).int();
    let set = |kind, start, len| k!(SYS_fcntl, fd, F_SETLK, &lock_of(kind, start, len));
    tell!(o, "mine" => set(F_WRLCK, 0, 5), "upgrade" => set(F_RDLCK, 2, 2));
    let other = crate::util::in_child(|| {
        let mut l = lock_of(F_WRLCK, 0, 0);
        tell!(o, "other write" => set(F_WRLCK, 0, 1), "other read in hole" => set(F_RDLCK, 2, 1),
            "other beyond" => set(F_WRLCK, 5, 5), "get" => k!(SYS_fcntl, fd, F_GETLK, &mut l));
        say!(o, "type {} start {} len {}", l.l_type, l.l_start, l.l_len);
        0
    });
    say!(o, "{other}");
    close(open(c"f", O_RDONLY, 0).int());
    tell!(o, "lost by any close" => crate::util::in_child(|| set(F_WRLCK, 0, 0).int()), "bad" => set(77, 0, 1),
        "negative" => set(F_WRLCK, -5, 2));
}

/// A thread waits for a lock by a descriptor that another thread closes meanwhile: it must not be
/// left with a lock that nobody can give back.
fn a_record_lock_that_comes_after_the_close(o: Out) {
    mk(c"f", b"");
    let fd = open(c"f", O_RDWR, 0).int();
    let (locked, lock_taken) = pipe();
    let (end, to_end) = pipe();
    let holder = crate::sys::child(|| {
        close(to_end);
        let r = k!(SYS_fcntl, fd, F_SETLK, &lock_of(F_WRLCK, 0, 0));
        crate::util::write(lock_taken, b"x");
        crate::util::read(end, 1);
        r.int()
    });
    crate::util::read(locked, 1);
    let (tell, told) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let _heard = tell.send(k!(SYS_gettid).int());
        k!(SYS_fcntl, fd, F_SETLKW, &lock_of(F_WRLCK, 0, 0))
    });
    let tid = told.recv().unwrap_or(0);
    let asleep = || {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat"));
        stat.is_ok_and(|s| s.contains(") S "))
    };
    while !asleep() {
        k!(SYS_sched_yield);
    }
    close(fd);
    close(to_end);
    let outcome = waiter.join().map_or("no outcome".into(), |r| r.to_string());
    say!(o, "{outcome}, holder {}", crate::util::wait_text(holder));
    let other = crate::util::in_child(|| {
        let fd = open(c"f", O_RDWR, 0).int();
        k!(SYS_fcntl, fd, F_SETLK, &lock_of(F_WRLCK, 0, 0)).int()
    });
    say!(o, "another afterwards: {other}");
}

fn open_description_locks(o: Out) {
    mk(c"f", b"0123456789");
    let a = open(c"f", O_RDWR, 0).int();
    let b = open(c"f", O_RDWR, 0).int();
    tell!(o, "a" => k!(SYS_fcntl, a, F_OFD_SETLK, &lock_of(F_WRLCK, 0, 4)),
        "b" => k!(SYS_fcntl, b, F_OFD_SETLK, &lock_of(F_WRLCK, 2, 4)),
        "b beyond" => k!(SYS_fcntl, b, F_OFD_SETLK, &lock_of(F_WRLCK, 4, 4)), "close" => close(a),
        "b again" => k!(SYS_fcntl, b, F_OFD_SETLK, &lock_of(F_WRLCK, 2, 4)));
}

fn readahead_and_advise(o: Out) {
    mk(c"f", b"abc");
    let fd = open(c"f", O_RDWR, 0).int();
    let (r, _) = pipe();
    tell!(o, "fadvise" => k!(SYS_fadvise64, fd, 0, 0, POSIX_FADV_SEQUENTIAL), "bad" => k!(SYS_fadvise64, fd, 0, 0, 99),
        "pipe" => k!(SYS_fadvise64, r, 0, 0, 0), "readahead" => k!(SYS_readahead, fd, 0, 100),
        "dirfd of at" => k!(SYS_faccessat, AT, c"f", R_OK, 0));
}
