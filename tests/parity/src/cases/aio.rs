//! Asynchronous I/O by its raw calls.

use crate::out::Out;
use crate::sys::{self, R, child};
use crate::util::{
    anon, as_user, bit, cat, close, mask_text, mk, open, pipe, pipe2, read, sleep_ms, wait_text,
    write,
};
use crate::{cases, k, say, tell};
use libc::*;

cases!(
    setting_up,
    set_up_arguments,
    the_ring,
    taken_in_user_space,
    files,
    vectors,
    appending_and_syncing,
    arguments_in_order,
    what_cannot,
    pipes_block,
    counted_by_eventfd,
    as_many_as_fit,
    getting_arguments,
    getting_waits,
    getting_is_interrupted,
    getting_with_a_mask,
    polling,
    polling_many,
    cancelling,
    destroyed_with_polls,
    moved_rings,
    forks_and_exits,
    counted_for_all,
    priorities,
);

#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Iocb {
    pub(super) data: u64,
    pub(super) key: u32,
    pub(super) rw_flags: i32,
    pub(super) op: u16,
    pub(super) prio: u16,
    pub(super) fd: i32,
    pub(super) buf: u64,
    pub(super) len: u64,
    pub(super) offset: i64,
    pub(super) reserved: u64,
    pub(super) flags: u32,
    pub(super) resfd: i32,
}

#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Event {
    pub(super) data: u64,
    pub(super) obj: u64,
    pub(super) res: i64,
    pub(super) res2: i64,
}

const IO_PGETEVENTS: i64 = 333;

macro_rules! pget {
    ($($a:expr),* $(,)?) => {
        sys::call(IO_PGETEVENTS, &[$(sys::Arg::arg($a)),*])
    };
}

const PREAD: u16 = 0;
const PWRITE: u16 = 1;
const FSYNC: u16 = 2;
const FDSYNC: u16 = 3;
pub(super) const POLL: u16 = 5;
const NOOP: u16 = 6;
const PREADV: u16 = 7;
const PWRITEV: u16 = 8;
pub(super) const RESFD: u32 = 1;
const IOPRIO: u32 = 2;

pub(super) fn setup(n: u32) -> u64 {
    let mut id = 0u64;
    k!(SYS_io_setup, n, &mut id);
    id
}

pub(super) fn request(op: u16, fd: i32, buf: usize, len: usize, offset: i64) -> Iocb {
    Iocb {
        data: 7,
        op,
        fd,
        buf: buf as u64,
        len: len as u64,
        offset,
        ..Iocb::default()
    }
}

pub(super) fn submit(id: u64, cb: &Iocb) -> R {
    let list = [std::ptr::from_ref(cb) as usize];
    k!(SYS_io_submit, id, 1, &list)
}

/// What is there, after 50 ms at most.
fn events(id: u64, min: usize) -> String {
    let wait = timespec {
        tv_sec: 0,
        tv_nsec: 50_000_000,
    };
    let mut got = [Event::default(); 16];
    let n = k!(SYS_io_getevents, id, min, 16, &mut got, &wait);
    if !n.ok() {
        return n.to_string();
    }
    let all: Vec<String> = got[..n.addr()]
        .iter()
        .map(|e| format!("{}:{}:{}", e.data, e.res, e.res2))
        .collect();
    format!("{} [{}]", n, all.join(" "))
}

fn done(id: u64, cb: &Iocb) -> String {
    let r = submit(id, cb);
    format!("{r} {}", events(id, r.ok().into()))
}

fn header(id: u64) -> [u32; 8] {
    let bytes = sys::get(id as usize, 32);
    std::array::from_fn(|i| u32::from_ne_bytes(std::array::from_fn(|j| bytes[i * 4 + j])))
}

fn file() -> i32 {
    mk(c"file", b"0123456789");
    open(c"file", O_RDWR, 0).int()
}

fn setting_up(o: Out) {
    let mut id = 0u64;
    let r = k!(SYS_io_setup, 100, &mut id);
    let [_, nr, head, tail, magic, compat, incompat, length] = header(id);
    tell!(o, "setup" => r, "nr" => nr, "head" => head, "tail" => tail, "magic" => format!("{magic:x}"), "features" => compat, "not" => incompat, "length" => length);
    let maps = cat(c"/proc/self/maps");
    let line = maps.split("\\n").find(|l| l.contains("aio"));
    let words: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
    tell!(o, "perms" => words.get(1).unwrap_or(&"").to_string(), "offset" => words.get(2).unwrap_or(&"").to_string(), "name" => words.get(5..).unwrap_or(&[]).join(" "));
    let second = setup(1);
    tell!(o, "numbers" => header(id)[0], "second" => header(second)[0]);
    tell!(o, "destroy" => k!(SYS_io_destroy, id), "again" => k!(SYS_io_destroy, id), "gone" => k!(SYS_msync, id, 4096, MS_ASYNC));
    tell!(o, "number again" => header(setup(3))[0], "third" => header(setup(3))[0]);
}

fn set_up_arguments(o: Out) {
    let mut used = 5u64;
    tell!(o, "used" => k!(SYS_io_setup, 1, &mut used), "nowhere" => k!(SYS_io_setup, 1, 8), "none" => k!(SYS_io_setup, 0, &mut 0u64));
    for n in [
        65537u32,
        4194304,
        4194305,
        1 << 31,
        u32::MAX,
        i32::MAX as u32,
    ] {
        let mut id = 0u64;
        say!(o, "{n} => {} {}", k!(SYS_io_setup, n, &mut id), id);
    }
    let page = anon(4096);
    k!(SYS_mprotect, page, 4096, PROT_READ);
    tell!(o, "read-only" => k!(SYS_io_setup, 1, page));
    for id in [0u64, 8, page as u64, u64::MAX] {
        tell!(o, "destroy" => k!(SYS_io_destroy, id), "submit" => k!(SYS_io_submit, id, 0, 0), "get" => k!(SYS_io_getevents, id, 0, 0, 0, 0));
    }
}

fn the_ring(o: Out) {
    let (id, fd) = (setup(100), file());
    let buf = anon(4096);
    for i in 0..3 {
        submit(id, &request(PREAD, fd, buf, 2, i));
    }
    let [_, _, head, tail, ..] = header(id);
    let event = sys::get(id as usize + 32 + 32, 32);
    tell!(o, "head" => head, "tail" => tail, "second" => format!("{} {}", event[0], event[16]));
    tell!(o, "two" => k!(SYS_io_getevents, id, 1, 2, buf, 0), "head" => header(id)[2]);
    tell!(o, "one" => k!(SYS_io_getevents, id, 1, 2, buf, 0), "head" => header(id)[2]);
    // All around.
    let nr = header(id)[1];
    let mut seen = 0;
    for _ in 0..nr * 2 {
        submit(id, &request(PREAD, fd, buf, 2, 0));
        seen += k!(SYS_io_getevents, id, 1, 2, buf, 0).0;
    }
    let [_, _, head, tail, ..] = header(id);
    tell!(o, "seen" => seen == i64::from(nr) * 2, "head" => head, "tail" => tail);
}

fn taken_in_user_space(o: Out) {
    let (id, fd) = (setup(100), file());
    let buf = anon(4096);
    for i in 0..3 {
        submit(id, &request(PREAD, fd, buf, 2, i));
    }
    sys::put(id as usize + 8, &2u32.to_ne_bytes());
    tell!(o, "left" => events(id, 1), "head" => header(id)[2]);
    sys::put(id as usize + 8, &(header(id)[1] + 1).to_ne_bytes());
    tell!(o, "too far" => events(id, 1), "head" => header(id)[2]);
    sys::put(id as usize, &77u32.to_ne_bytes());
    tell!(o, "other number" => events(id, 0), "submit" => submit(id, &request(PREAD, fd, buf, 2, 0)));
    sys::put(id as usize, &0u32.to_ne_bytes());
    sys::put(id as usize + 4, &[0; 4]);
    sys::put(id as usize + 16, &[0; 16]);
    tell!(o, "scribbled" => done(id, &request(PREAD, fd, buf, 2, 0)));
    k!(SYS_munmap, id, 4096);
    k!(SYS_munmap, id + 4096, 4096);
    tell!(o, "unmapped" => events(id, 0), "destroy" => k!(SYS_io_destroy, id));
}

fn files(o: Out) {
    let (id, fd) = (setup(100), file());
    let buf = anon(4096);
    tell!(o, "write" => done(id, &request(PWRITE, fd, b"hello".as_ptr() as usize, 5, 3)), "text" => cat(c"file"), "position" => k!(SYS_lseek, fd, 0, SEEK_CUR));
    tell!(o, "read" => done(id, &request(PREAD, fd, buf, 50, 2)), "got" => crate::util::show(&sys::get(buf, 8)));
    tell!(o, "end" => done(id, &request(PREAD, fd, buf, 50, 100)), "nothing" => done(id, &request(PREAD, fd, buf, 0, 0)));
    tell!(o, "negative" => done(id, &request(PREAD, fd, buf, 50, -1)), "too far" => done(id, &request(PREAD, fd, buf, 50, i64::MAX - 20)), "far" => done(id, &request(PREAD, fd, buf, 50, i64::MAX - 50)));
    tell!(o, "fault" => done(id, &request(PREAD, fd, 8, 50, 0)), "no address" => done(id, &request(PREAD, fd, usize::MAX - 7, 50, 0)), "fault in write" => done(id, &request(PWRITE, fd, 8, 50, 0)));
    let zero = open(c"/dev/zero", O_RDWR, 0).int();
    let null = open(c"/dev/null", O_RDWR, 0).int();
    tell!(o, "zero" => done(id, &request(PREAD, zero, buf, 50, 9)), "null" => done(id, &request(PREAD, null, buf, 50, 9)), "to null" => done(id, &request(PWRITE, null, buf, 50, 9)));
    let cb = Iocb {
        key: 99,
        ..request(PREAD, fd, buf, 5, 0)
    };
    submit(id, &cb);
    let key = sys::get(std::ptr::from_ref(&cb) as usize + 8, 4);
    tell!(o, "key" => key[0], "events" => events(id, 1));
    let mut many = [Event::default(); 4];
    let (a, b) = (Iocb { data: 1, ..cb }, Iocb { data: 2, ..cb });
    let list = [
        std::ptr::from_ref(&a) as usize,
        std::ptr::from_ref(&b) as usize,
        8,
    ];
    tell!(o, "two of three" => k!(SYS_io_submit, id, 3, &list), "two" => k!(SYS_io_getevents, id, 2, 4, &mut many, 0));
    tell!(o, "objects" => many[0].obj == list[0] as u64 && many[1].obj == list[1] as u64, "data" => format!("{} {}", many[0].data, many[1].data));
}

fn vectors(o: Out) {
    let (id, fd) = (setup(100), file());
    let buf = anon(4096);
    let parts = [[b"ab".as_ptr() as usize, 2], [b"cde".as_ptr() as usize, 3]];
    let at = std::ptr::from_ref(&parts) as usize;
    tell!(o, "write" => done(id, &request(PWRITEV, fd, at, 2, 1)), "text" => cat(c"file"));
    let parts = [[buf, 3], [buf + 100, 4]];
    let at = std::ptr::from_ref(&parts) as usize;
    tell!(o, "read" => done(id, &request(PREADV, fd, at, 2, 1)), "got" => crate::util::show(&[sys::get(buf, 3), sys::get(buf + 100, 4)].concat()));
    tell!(o, "none" => done(id, &request(PREADV, fd, at, 0, 1)), "too many" => done(id, &request(PREADV, fd, at, 1025, 1)), "nowhere" => done(id, &request(PREADV, fd, 8, 2, 1)));
    let parts = [[buf, usize::MAX]];
    let at = std::ptr::from_ref(&parts) as usize;
    tell!(o, "negative" => done(id, &request(PREADV, fd, at, 1, 1)));
}

fn appending_and_syncing(o: Out) {
    let (id, fd) = (setup(100), file());
    let word = b"ABC".as_ptr() as usize;
    let flagged = |rw_flags| Iocb {
        rw_flags,
        ..request(PWRITE, fd, word, 3, 1)
    };
    tell!(o, "append" => done(id, &flagged(RWF_APPEND)), "text" => cat(c"file"));
    tell!(o, "synced" => done(id, &flagged(RWF_SYNC)), "data" => done(id, &flagged(RWF_DSYNC)), "text" => cat(c"file"));
    let appending = open(c"file", O_WRONLY | O_APPEND, 0).int();
    tell!(o, "by the file" => done(id, &request(PWRITE, appending, word, 3, 1)), "text" => cat(c"file"));
    for op in [FSYNC, FDSYNC] {
        tell!(o, "sync" => done(id, &request(op, fd, 0, 0, 0)), "offset" => done(id, &request(op, fd, 0, 0, 1)), "length" => done(id, &request(op, fd, 0, 1, 0)), "buffer" => done(id, &request(op, fd, 1, 0, 0)));
        tell!(o, "flags" => done(id, &Iocb { rw_flags: RWF_SYNC, ..request(op, fd, 0, 0, 0) }), "pipe" => done(id, &request(op, pipe().0, 0, 0, 0)));
    }
}

fn arguments_in_order(o: Out) {
    let (id, fd) = (setup(100), file());
    let buf = anon(4096);
    let good = request(PREAD, fd, buf, 5, 0);
    let bad = [
        (
            "reserved",
            Iocb {
                reserved: 1,
                fd: 99,
                ..good
            },
        ),
        (
            "length",
            Iocb {
                len: u64::MAX,
                fd: 99,
                ..good
            },
        ),
        (
            "descriptor",
            Iocb {
                fd: 99,
                op: 77,
                flags: RESFD,
                resfd: 98,
                ..good
            },
        ),
        (
            "eventfd",
            Iocb {
                op: 77,
                flags: RESFD,
                resfd: 98,
                ..good
            },
        ),
        (
            "no eventfd",
            Iocb {
                op: 77,
                flags: RESFD,
                resfd: fd,
                ..good
            },
        ),
        ("operation", Iocb { op: 77, ..good }),
        ("fsync before 2", Iocb { op: 4, ..good }),
        ("nothing", Iocb { op: NOOP, ..good }),
        (
            "flags",
            Iocb {
                rw_flags: 1 << 30,
                fd: open(c"file", O_WRONLY, 0).int(),
                ..good
            },
        ),
        (
            "not readable",
            Iocb {
                buf: u64::MAX,
                fd: open(c"file", O_WRONLY, 0).int(),
                ..good
            },
        ),
        (
            "path only",
            Iocb {
                fd: open(c"file", O_PATH, 0).int(),
                ..good
            },
        ),
        (
            "address",
            Iocb {
                buf: u64::MAX,
                offset: -1,
                ..good
            },
        ),
        ("unknown flag", Iocb { flags: 4, ..good }),
    ];
    for (name, cb) in bad {
        say!(o, "{name} => {}", done(id, &cb));
    }
    tell!(o, "count" => k!(SYS_io_submit, id, -1, 0), "nowhere" => k!(SYS_io_submit, id, 1, 8), "none" => k!(SYS_io_submit, id, 0, 8), "null" => submit_at(id, 0));
    // The key is stored before the operation is looked at.
    let page = anon(4096);
    sys::put(page, sys::bytes_of(&good));
    k!(SYS_mprotect, page, 4096, PROT_READ);
    tell!(o, "key" => submit_at(id, page), "left" => events(id, 0));
}

fn submit_at(id: u64, at: usize) -> R {
    k!(SYS_io_submit, id, 1, &[at])
}

fn what_cannot(o: Out) {
    let id = setup(100);
    let buf = anon(4096);
    k!(SYS_mkdir, c"dir", 0o755);
    let count = k!(SYS_eventfd2, 5, EFD_NONBLOCK).int();
    let all = [
        ("directory", open(c"dir", O_RDONLY, 0).int()),
        ("epoll", k!(SYS_epoll_create1, 0).int()),
        ("eventfd", count),
        ("empty eventfd", count),
        ("inotify", k!(SYS_inotify_init1, IN_NONBLOCK).int()),
        ("writer", pipe().1),
    ];
    for (name, fd) in all {
        say!(
            o,
            "{name} => {} {}",
            done(id, &request(PREAD, fd, buf, 8, 0)),
            done(id, &request(PWRITE, fd, buf, 8, 0))
        );
    }
}

fn pipes_block(o: Out) {
    let id = setup(100);
    let buf = anon(4096);
    let (r, w) = pipe();
    let pid = child(|| {
        sleep_ms(50);
        write(w, b"late");
        0
    });
    // It is the submission that blocks.
    tell!(o, "read" => done(id, &request(PREAD, r, buf, 50, 9)), "child" => wait_text(pid));
    tell!(o, "negative" => done(id, &request(PREAD, r, buf, 50, -9)));
    let (r, w) = pipe2(O_NONBLOCK);
    tell!(o, "empty" => done(id, &request(PREAD, r, buf, 50, 0)), "write" => done(id, &request(PWRITE, w, buf, 5, 0)), "read" => done(id, &request(PREAD, r, buf, 50, 0)));
    close(r);
    k!(SYS_rt_sigaction, SIGPIPE, &[1usize, 0, 0, 0], 0, 8);
    tell!(o, "broken" => done(id, &request(PWRITE, w, buf, 5, 0)));
    let (r, _w) = pipe();
    sys::on(SIGALRM, SA_RESTART);
    alarm(50);
    tell!(o, "interrupted" => done(id, &request(PREAD, r, buf, 50, 0)), "seen" => sys::count(SIGALRM));
}

fn alarm(ms: i64) {
    let t = [0i64, 0, 0, ms * 1000];
    k!(SYS_setitimer, ITIMER_REAL, &t, 0);
}

fn counted_by_eventfd(o: Out) {
    let (id, fd) = (setup(100), file());
    let buf = anon(4096);
    let count = k!(SYS_eventfd2, 0, EFD_NONBLOCK).int();
    let cb = Iocb {
        flags: RESFD,
        resfd: count,
        ..request(PREAD, fd, buf, 5, 0)
    };
    tell!(o, "one" => submit(id, &cb), "two" => submit(id, &cb), "failed" => submit(id, &Iocb { buf: 8, ..cb }), "refused" => submit(id, &Iocb { op: 77, ..cb }));
    let mut n = 0u64;
    tell!(o, "read" => k!(SYS_read, count, &mut n, 8), "n" => n, "events" => events(id, 3));
    let (r, w) = pipe();
    let poll = Iocb {
        flags: RESFD,
        resfd: count,
        ..request(POLL, r, POLLIN as usize, 0, 0)
    };
    tell!(o, "poll" => submit(id, &poll), "empty" => k!(SYS_read, count, &mut n, 8), "write" => write(w, b"x"), "read" => k!(SYS_read, count, &mut n, 8), "n" => n);
    tell!(o, "events" => events(id, 1));
}

fn as_many_as_fit(o: Out) {
    let (id, fd) = (setup(20), file());
    let buf = anon(1 << 16);
    let cb = request(PREAD, fd, buf, 1, 0);
    let mut n = 0;
    while submit(id, &cb).ok() {
        n += 1;
    }
    tell!(o, "enough" => n >= 20, "no more than fit" => n < header(id)[1], "full" => submit(id, &cb), "not even a bad one" => submit(id, &Iocb { fd: 99, ..cb }), "reserved" => submit(id, &Iocb { reserved: 1, ..cb }));
    let all = k!(SYS_io_getevents, id, n, 1000, buf, 0);
    tell!(o, "all" => all.0 == i64::from(n), "again" => submit(id, &cb));
}

fn getting_arguments(o: Out) {
    let (id, fd) = (setup(100), file());
    let buf = anon(4096);
    tell!(o, "more than room" => k!(SYS_io_getevents, id, 3, 2, buf, 0), "negative" => k!(SYS_io_getevents, id, -1, 2, buf, 0), "none" => k!(SYS_io_getevents, id, 0, 0, buf, 0), "negative room" => k!(SYS_io_getevents, id, 0, -1, buf, 0));
    tell!(o, "no time" => k!(SYS_io_getevents, id, 9, 2, buf, 8), "no set" => pget!(id, 9, 2, buf, 0, 8), "bad set" => pget!(id, 9, 2, buf, 0, &[buf, 4]), "no context" => k!(SYS_io_getevents, 0, 9, 2, buf, 8));
    submit(id, &request(PREAD, fd, buf, 1, 0));
    tell!(o, "fault" => k!(SYS_io_getevents, id, 1, 1, 8, 0), "still there" => events(id, 1));
    for i in 0..3 {
        submit(
            id,
            &Iocb {
                data: i,
                ..request(PREAD, fd, buf, 1, 0)
            },
        );
    }
    tell!(o, "at the end of a page" => k!(SYS_io_getevents, id, 1, 3, page_end() - 40, 0), "still there" => events(id, 1));
}

/// The end of a page with nothing behind.
fn page_end() -> usize {
    let two = anon(8192);
    k!(SYS_munmap, two + 4096, 4096);
    two + 4096
}

fn getting_waits(o: Out) {
    let id = setup(100);
    let buf = anon(4096);
    let none = timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let short = timespec {
        tv_sec: 0,
        tv_nsec: 20_000_000,
    };
    let odd = timespec {
        tv_sec: -1,
        tv_nsec: 1_020_000_000,
    };
    tell!(o, "now" => k!(SYS_io_getevents, id, 1, 1, buf, &none), "soon" => k!(SYS_io_getevents, id, 1, 1, buf, &short), "odd" => k!(SYS_io_getevents, id, 1, 1, buf, &odd));
    let (r, w) = pipe();
    submit(id, &request(POLL, r, POLLIN as usize, 0, 0));
    let pid = child(|| {
        sleep_ms(50);
        write(w, b"x");
        0
    });
    tell!(o, "comes" => k!(SYS_io_getevents, id, 1, 1, buf, 0), "child" => wait_text(pid));
    let fd = file();
    submit(id, &request(PREAD, fd, buf, 1, 0));
    tell!(o, "fewer than wanted" => k!(SYS_io_getevents, id, 5, 9, buf, &short));
    submit(id, &request(PREAD, fd, buf, 1, 0));
    tell!(o, "fewer at once" => k!(SYS_io_getevents, id, 5, 9, buf, &none), "none left" => k!(SYS_io_getevents, id, 0, 9, buf, 0));
}

fn getting_is_interrupted(o: Out) {
    let (id, fd) = (setup(100), file());
    let buf = anon(4096);
    for flags in [0, SA_RESTART] {
        sys::on(SIGALRM, flags);
        alarm(50);
        tell!(o, "none" => k!(SYS_io_getevents, id, 1, 1, buf, 0), "seen" => sys::count(SIGALRM));
        submit(id, &request(PREAD, fd, buf, 1, 0));
        alarm(50);
        tell!(o, "one of two" => k!(SYS_io_getevents, id, 2, 2, buf, 0), "seen" => sys::count(SIGALRM));
    }
}

fn getting_with_a_mask(o: Out) {
    let (id, fd) = (setup(100), file());
    let buf = anon(4096);
    sys::on(SIGUSR1, 0);
    crate::util::mask(SIG_BLOCK, bit(SIGUSR1));
    k!(SYS_kill, k!(SYS_getpid), SIGUSR1);
    let (empty, full) = (0u64, bit(SIGUSR1));
    let set = |m: &u64| [std::ptr::from_ref(m) as usize, 8];
    let none = timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    tell!(o, "blocked" => pget!(id, 1, 1, buf, &none, &set(&full)), "seen" => sys::count(SIGUSR1));
    submit(id, &request(PREAD, fd, buf, 1, 0));
    tell!(o, "event first" => pget!(id, 1, 1, buf, 0, &set(&empty)), "seen" => sys::count(SIGUSR1));
    tell!(o, "interrupted" => pget!(id, 1, 1, buf, 0, &set(&empty)).yes(), "seen" => sys::count(SIGUSR1), "mask" => mask_text(crate::util::pending()));
    tell!(o, "no set" => pget!(id, 0, 1, buf, 0, &[0usize, 0]), "null" => pget!(id, 0, 1, buf, 0, 0));
}

fn polling(o: Out) {
    let (id, fd) = (setup(100), file());
    let poll = |fd: i32, events: i16| request(POLL, fd, events as u16 as usize, 0, 0);
    tell!(o, "file" => done(id, &poll(fd, POLLIN)), "never" => done(id, &poll(fd, POLLPRI)), "bits" => done(id, &request(POLL, fd, 1 << 16, 0, 0)), "length" => done(id, &request(POLL, fd, 1, 1, 0)), "offset" => done(id, &request(POLL, fd, 1, 0, 1)));
    let (r, w) = pipe();
    tell!(o, "wait" => submit(id, &poll(r, POLLIN)), "nothing" => events(id, 0), "write" => write(w, b"x"), "event" => events(id, 1));
    tell!(o, "ready" => done(id, &poll(r, POLLIN | POLLPRI)), "nothing asked" => submit(id, &poll(r, 0)), "and none" => events(id, 0), "close" => close(w), "hung up" => events(id, 1));
    let (r, w) = pipe();
    tell!(o, "wait" => submit(id, &poll(r, POLLIN)), "close" => close(w), "hung up" => events(id, 1));
    let count = k!(SYS_eventfd2, 0, 0).int();
    tell!(o, "wait" => submit(id, &poll(count, POLLIN)), "write" => write(count, &1u64.to_ne_bytes()), "event" => events(id, 1), "out" => done(id, &poll(count, POLLOUT)));
    let (r, w) = pipe();
    tell!(o, "wait" => submit(id, &poll(r, POLLIN)), "gone" => close(r), "write" => write(w, b"x"), "still" => events(id, 1));
}

fn polling_many(o: Out) {
    let id = setup(100);
    let (r, w) = pipe();
    let cbs: Vec<Iocb> = (0..20)
        .map(|data| Iocb {
            data,
            ..request(POLL, r, POLLIN as usize, 0, 0)
        })
        .collect();
    for cb in &cbs {
        submit(id, cb);
    }
    write(w, b"x");
    let mut got = [Event::default(); 32];
    tell!(o, "all" => k!(SYS_io_getevents, id, 20, 32, &mut got, 0));
    let mut seen: Vec<u64> = got[..20].iter().map(|e| e.data).collect();
    seen.sort_unstable();
    tell!(o, "each once" => seen == (0..20).collect::<Vec<u64>>(), "res" => got[..20].iter().all(|e| e.res & 1 == 1));
}

fn cancelling(o: Out) {
    let id = setup(100);
    let mut result = Event::default();
    let (r, w) = pipe();
    let cb = request(POLL, r, POLLIN as usize, 0, 0);
    submit(id, &cb);
    tell!(o, "other" => k!(SYS_io_cancel, id, &request(POLL, r, 1, 0, 0), &mut result), "no context" => k!(SYS_io_cancel, 8, &cb, &mut result), "nowhere" => k!(SYS_io_cancel, id, 8, &mut result), "key" => k!(SYS_io_cancel, id, &Iocb { key: 1, ..cb }, &mut result));
    tell!(o, "cancel" => k!(SYS_io_cancel, id, &cb, &mut result), "event" => events(id, 1), "again" => k!(SYS_io_cancel, id, &cb, &mut result), "result" => result.obj);
    write(w, b"x");
    tell!(o, "nothing more" => events(id, 0), "again" => done(id, &cb), "done" => k!(SYS_io_cancel, id, &cb, 0));
}

fn destroyed_with_polls(o: Out) {
    let id = setup(100);
    let count = k!(SYS_eventfd2, 0, EFD_NONBLOCK).int();
    let (r, w) = pipe();
    for _ in 0..3 {
        submit(
            id,
            &Iocb {
                flags: RESFD,
                resfd: count,
                ..request(POLL, r, POLLIN as usize, 0, 0)
            },
        );
    }
    let mut n = 0u64;
    tell!(o, "destroy" => k!(SYS_io_destroy, id), "told" => k!(SYS_read, count, &mut n, 8), "n" => n, "write" => write(w, b"x"), "no more" => k!(SYS_read, count, &mut n, 8), "data" => read(r, 9).1);
}

fn moved_rings(o: Out) {
    let (id, fd) = (setup(20), file());
    let (buf, to) = (anon(4096), anon(4096));
    let len = 4096;
    let moved = k!(SYS_mremap, id, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to);
    let new = moved.0 as u64;
    tell!(o, "moved" => moved.addr() == to, "old" => events(id, 0), "new" => done(new, &request(PREAD, fd, buf, 5, 0)), "grown" => k!(SYS_mremap, new, len, 2 * len, MREMAP_MAYMOVE), "destroy" => k!(SYS_io_destroy, new), "gone" => k!(SYS_msync, new, 4096, MS_ASYNC));
}

fn forks_and_exits(o: Out) {
    let (id, fd) = (setup(100), file());
    let buf = anon(4096);
    let count = k!(SYS_eventfd2, 0, 0).int();
    let (r, _w) = pipe();
    submit(id, &request(PREAD, fd, buf, 5, 0));
    let pid = child(|| {
        tell!(o, "tail seen" => header(id)[3], "submit" => submit(id, &request(PREAD, fd, buf, 5, 0)), "get" => events(id, 0), "destroy" => k!(SYS_io_destroy, id));
        let own = setup(100);
        tell!(o, "own" => header(own)[0], "works" => done(own, &request(PREAD, fd, buf, 5, 0)));
        submit(
            own,
            &Iocb {
                flags: RESFD,
                resfd: count,
                ..request(POLL, r, POLLIN as usize, 0, 0)
            },
        );
        3
    });
    let mut n = 0u64;
    tell!(o, "child" => wait_text(pid), "told" => k!(SYS_read, count, &mut n, 8), "n" => n, "ours" => events(id, 1));
}

fn counted_for_all(o: Out) {
    let number = || -> i64 {
        let text = cat(c"/proc/sys/fs/aio-nr");
        text.trim_matches(['"', '\\', 'n']).parse().unwrap_or(-1)
    };
    let before = number();
    let id = setup(123);
    tell!(o, "more" => number() - before);
    k!(SYS_io_destroy, id);
    tell!(o, "as before" => number() - before, "most" => cat(c"/proc/sys/fs/aio-max-nr"));
    let pid = child(|| {
        setup(77);
        0
    });
    tell!(o, "child" => wait_text(pid), "as before" => number() - before);
    tell!(o, "not writable" => write(open(c"/proc/sys/fs/aio-nr", O_WRONLY, 0).int(), b"5").ok());
    tell!(o, "as user" => as_user(|| {
        tell!(o, "open" => open(c"/proc/sys/fs/aio-max-nr", O_WRONLY, 0));
    }));
}

fn priorities(o: Out) {
    let (id, fd) = (setup(100), file());
    let buf = anon(4096);
    let with = |prio: u16| Iocb {
        flags: IOPRIO,
        prio,
        ..request(PREAD, fd, buf, 5, 0)
    };
    let all = |o: Out| {
        for prio in [0, 3, 1 << 13, 2 << 13 | 7, 3 << 13, 4 << 13, u16::MAX] {
            say!(o, "{prio:x} => {}", done(id, &with(prio)));
        }
    };
    all(o);
    tell!(o, "without the flag" => done(id, &Iocb { flags: 0, ..with(u16::MAX) }));
    let text = as_user(|| {
        let id = setup(100);
        tell!(o, "realtime" => done(id, &with(1 << 13)), "both wrong" => done(id, &Iocb { rw_flags: 1 << 30, ..with(1 << 13) }));
    });
    say!(o, "{text}");
}
