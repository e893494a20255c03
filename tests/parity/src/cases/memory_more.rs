//! Memory beyond mapping: locking, residency, advice, seals, growth, limits, accounts.

use crate::out::Out;
use crate::sys::{self, Access, peek, poke, touch};
use crate::util::{
    PAGE, anon, as_user, close, in_child, map, map_file, open, shared, signal_name, write,
};
use crate::{cases, k, say, tell};
use libc::*;

cases!(
    populate_is_resident,
    resident_without_a_touch,
    advice_populates,
    advice_populate_refusals,
    advice_hints,
    advice_wipe_on_fork,
    advice_dont_fork,
    advice_remove,
    advice_locked,
    lock_limit,
    lock_all_limit,
    lock_on_fault,
    remap_dontunmap,
    remap_dontunmap_refusals,
    remap_shared_twice,
    remap_limits,
    grows_down_mapping,
    grows_down_wall,
    huge_pages_refused,
    seals_are_kept,
    seal_write_and_mappings,
    seal_future_write,
    seal_grow_and_shrink,
    memfd_flags,
    memfd_is_a_file,
    shared_file_coherence,
    truncate_and_calls,
    data_limit,
    stack_limit,
    overcommit,
    resident_size,
    peak_resident_size,
    oom_score_adjust,
    process_limit,
    many_threads,
    many_pipes,
    many_files,
);

const RW: i32 = PROT_READ | PROT_WRITE;
const ANON: i32 = MAP_PRIVATE | MAP_ANONYMOUS;

fn try_at(addr: usize, access: Access) -> String {
    let f = touch(addr, access);
    match f.signal {
        0 => "fine".into(),
        s => format!("{} code {}", signal_name(s), f.code),
    }
}

/// Which pages are there, one digit each; or the error.
fn core(a: usize, pages: usize) -> String {
    let mut v = vec![0u8; pages];
    let r = k!(SYS_mincore, a, pages * PAGE, v.as_mut_slice());
    if !r.ok() {
        return r.to_string();
    }
    v.iter().map(|b| char::from(b'0' + (b & 1))).collect()
}

fn resident_without_a_touch(o: Out) {
    // What another process made, and what was written to a file.
    let a = map(0, 4 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS).addr();
    let child = in_child(|| {
        poke(a + 2 * PAGE, 1);
        tell!(o, "its own" => core(a, 4));
        0
    });
    tell!(o, "child" => child, "here" => core(a, 4), "a part" => core(a + PAGE, 2));
    let fd = k!(SYS_memfd_create, c"x", 0).int();
    k!(SYS_pwrite64, fd, &[1u8; 100], 100, PAGE);
    k!(SYS_pwrite64, fd, &[1u8; 100], 100, 5 * PAGE);
    let m = k!(SYS_mmap, 0, 6 * PAGE, PROT_READ, MAP_SHARED, fd, 0).addr();
    let p = k!(SYS_mmap, 0, 2 * PAGE, RW, MAP_PRIVATE, fd, 4 * PAGE).addr();
    tell!(o, "file" => core(m, 6), "private" => core(p, 2));
    tell!(o, "hole" => k!(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE, PAGE), "then" => core(m, 6));
    // What others do with a file is for who may write to it.
    k!(SYS_pwrite64, fd, &[1u8; 100], 100, PAGE);
    for mode in [0o666, 0o644] {
        k!(SYS_fchmod, fd, mode);
        let user = as_user(|| {
            let m = k!(SYS_mmap, 0, 6 * PAGE, PROT_READ, MAP_SHARED, fd, 0).addr();
            tell!(o, "another's" => core(m, 6));
        });
        tell!(o, "user" => user);
    }
}

fn populate_is_resident(o: Out) {
    let a = map(0, 6 * PAGE, RW, ANON | MAP_POPULATE).addr();
    tell!(o, "populated" => core(a, 6), "zero" => peek(a + 5 * PAGE), "dontneed" => k!(SYS_madvise, a + PAGE, 2 * PAGE, MADV_DONTNEED), "then" => core(a, 6));
    let s = k!(
        SYS_mmap,
        0,
        4 * PAGE,
        RW,
        MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE,
        -1,
        0
    )
    .addr();
    tell!(o, "shared" => core(s, 4), "none" => core(map(0, 4 * PAGE, RW, ANON).addr(), 4));
    let n = map(0, 4 * PAGE, PROT_NONE, ANON | MAP_POPULATE);
    tell!(o, "inaccessible" => n.ok(), "not there" => core(n.addr(), 4));
}

fn advice_populates(o: Out) {
    let a = anon(6 * PAGE);
    tell!(o, "write" => k!(SYS_madvise, a + PAGE, 2 * PAGE, MADV_POPULATE_WRITE), "there" => core(a, 6), "again" => k!(SYS_madvise, a, 6 * PAGE, MADV_POPULATE_WRITE), "all" => core(a, 6));
    poke(a, 5);
    tell!(o, "kept" => { k!(SYS_madvise, a, 6 * PAGE, MADV_POPULATE_WRITE); peek(a) });
    let fd = open(c"f", O_CREAT | O_RDWR, 0o644).int();
    write(fd, &[7; 3 * PAGE]);
    let f = map_file(fd, 3 * PAGE, RW, MAP_SHARED, 0).addr();
    tell!(o, "file" => k!(SYS_madvise, f, 3 * PAGE, MADV_POPULATE_READ), "there" => core(f, 3), "for writing" => k!(SYS_madvise, f, 3 * PAGE, MADV_POPULATE_WRITE), "same" => peek(f));
}

fn advice_populate_refusals(o: Out) {
    let a = anon(4 * PAGE);
    k!(SYS_mprotect, a, PAGE, PROT_READ);
    k!(SYS_mprotect, a + PAGE, PAGE, PROT_NONE);
    k!(SYS_munmap, a + 3 * PAGE, PAGE);
    let each = |advice| {
        (0..4)
            .map(|i| k!(SYS_madvise, a + i * PAGE, PAGE, advice).to_string())
            .collect::<Vec<_>>()
            .join(" ")
    };
    tell!(o, "read" => each(MADV_POPULATE_READ), "write" => each(MADV_POPULATE_WRITE), "across" => k!(SYS_madvise, a, 4 * PAGE, MADV_POPULATE_READ));
    let fd = open(c"f", O_CREAT | O_RDWR, 0o644).int();
    write(fd, b"x");
    let f = map_file(fd, 2 * PAGE, RW, MAP_SHARED, 0).addr();
    tell!(o, "beyond the end" => k!(SYS_madvise, f + PAGE, PAGE, MADV_POPULATE_READ), "for writing" => k!(SYS_madvise, f, 2 * PAGE, MADV_POPULATE_WRITE));
}

fn advice_hints(o: Out) {
    let a = anon(4 * PAGE);
    let s = shared(4 * PAGE);
    poke(a, 1);
    poke(s, 2);
    for (name, advice) in [
        ("normal", MADV_NORMAL),
        ("random", MADV_RANDOM),
        ("sequential", MADV_SEQUENTIAL),
        ("willneed", MADV_WILLNEED),
        ("cold", MADV_COLD),
        ("pageout", MADV_PAGEOUT),
        ("dontdump", MADV_DONTDUMP),
        ("dodump", MADV_DODUMP),
        ("keeponfork", MADV_KEEPONFORK),
        ("free", MADV_FREE),
        ("none", 7),
        ("soft offline", 101),
    ] {
        let hole = k!(SYS_madvise, 0x1000usize, PAGE, advice);
        if advice == 101 {
            say!(o, "{name}: nowhere {}", hole);
            continue;
        }
        say!(
            o,
            "{name}: private {} shared {} nowhere {hole}",
            k!(SYS_madvise, a + PAGE, PAGE, advice),
            k!(SYS_madvise, s + PAGE, PAGE, advice)
        );
    }
    tell!(o, "kept" => peek(a), "kept" => peek(s));
}

fn advice_wipe_on_fork(o: Out) {
    let a = anon(4 * PAGE);
    for i in 0..4 {
        poke(a + i * PAGE, 9);
    }
    let seen = || {
        in_child(|| {
            (0..4)
                .map(|i| i32::from(peek(a + i * PAGE) == 9) << i)
                .sum()
        })
    };
    tell!(o, "wipe" => k!(SYS_madvise, a + PAGE, 2 * PAGE, MADV_WIPEONFORK), "child" => seen(), "mine" => peek(a + PAGE));
    tell!(o, "grandchild" => in_child(|| { poke(a + PAGE, 9); in_child(|| i32::from(peek(a + PAGE))).len() as i32 }), "keep" => k!(SYS_madvise, a, 4 * PAGE, MADV_KEEPONFORK), "child" => seen());
    let s = shared(PAGE);
    let fd = open(c"f", O_CREAT | O_RDWR, 0o644).int();
    write(fd, b"x");
    let f = map_file(fd, PAGE, RW, MAP_PRIVATE, 0).addr();
    tell!(o, "shared" => k!(SYS_madvise, s, PAGE, MADV_WIPEONFORK), "file" => k!(SYS_madvise, f, PAGE, MADV_WIPEONFORK), "hole" => k!(SYS_madvise, 0x1000usize, PAGE, MADV_WIPEONFORK));
}

fn advice_dont_fork(o: Out) {
    let a = anon(3 * PAGE);
    poke(a + PAGE, 4);
    tell!(o, "dontfork" => k!(SYS_madvise, a + PAGE, PAGE, MADV_DONTFORK));
    in_child(|| {
        tell!(o, "child" => try_at(a + PAGE, Access::Read), "beside" => try_at(a, Access::Write), "maps there" => map(a + PAGE, PAGE, RW, ANON | MAP_FIXED_NOREPLACE).addr() == a + PAGE);
        0
    });
    tell!(o, "mine" => peek(a + PAGE), "dofork" => k!(SYS_madvise, a, 3 * PAGE, MADV_DOFORK), "child" => in_child(|| i32::from(peek(a + PAGE))));
}

fn advice_remove(o: Out) {
    let a = anon(2 * PAGE);
    let s = shared(3 * PAGE);
    for i in 0..3 {
        poke(s + i * PAGE, 7);
    }
    let ro = k!(SYS_mremap, s, 0, 3 * PAGE, MREMAP_MAYMOVE).addr();
    k!(SYS_mprotect, ro, 3 * PAGE, PROT_READ);
    tell!(o, "private" => k!(SYS_madvise, a, PAGE, MADV_REMOVE), "read-only" => k!(SYS_madvise, ro, PAGE, MADV_REMOVE), "shared" => k!(SYS_madvise, s + PAGE, PAGE, MADV_REMOVE),
        "left" => format!("{} {} {}", peek(s), peek(s + PAGE), peek(s + 2 * PAGE)), "by the other" => format!("{} {}", peek(ro), peek(ro + PAGE)));
}

fn advice_locked(o: Out) {
    let a = anon(3 * PAGE);
    poke(a, 3);
    poke(a + PAGE, 4);
    tell!(o, "lock" => k!(SYS_mlock, a + PAGE, PAGE), "dontneed" => k!(SYS_madvise, a, 3 * PAGE, MADV_DONTNEED), "first" => peek(a), "locked" => peek(a + PAGE), "insist" => k!(SYS_madvise, a, 3 * PAGE, MADV_DONTNEED_LOCKED), "gone" => peek(a + PAGE),
        "cold" => k!(SYS_madvise, a + PAGE, PAGE, MADV_COLD), "pageout" => k!(SYS_madvise, a + PAGE, PAGE, MADV_PAGEOUT), "free" => k!(SYS_madvise, a + PAGE, PAGE, MADV_FREE), "invalidate" => k!(SYS_msync, a, 3 * PAGE, MS_INVALIDATE));
}

fn limit(resource: u32, soft: u64) {
    let lim = rlimit {
        rlim_cur: soft,
        rlim_max: soft,
    };
    k!(SYS_prlimit64, 0, resource, &lim, 0);
}

/// A line of /proc/self/status, in kilobytes or so.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(name));
    line.and_then(|l| l.trim_matches(':').split_whitespace().next()?.parse().ok())
        .unwrap_or(u64::MAX)
}

fn lock_limit(o: Out) {
    let a = anon(64 * PAGE);
    limit(RLIMIT_MEMLOCK, 8 * PAGE as u64);
    let end = as_user(|| {
        tell!(o, "some" => k!(SYS_mlock, a, 4 * PAGE), "same again" => k!(SYS_mlock, a, 4 * PAGE), "up to it" => k!(SYS_mlock, a + 4 * PAGE, 4 * PAGE), "one more" => k!(SYS_mlock, a + 8 * PAGE, 1), "account" => status("VmLck"));
        tell!(o, "map locked" => map(0, PAGE, RW, ANON | MAP_LOCKED), "unlock" => k!(SYS_munlock, a, 6 * PAGE), "account" => status("VmLck"), "map locked" => map(0, PAGE, RW, ANON | MAP_LOCKED).ok(), "account" => status("VmLck"),
            "child's" => in_child(|| status("VmLck") as i32));
        let b = anon(8 * PAGE);
        k!(SYS_mlock, b, 2 * PAGE);
        tell!(o, "grows beyond" => k!(SYS_mremap, b, 2 * PAGE, 32 * PAGE, MREMAP_MAYMOVE), "hole" => { k!(SYS_munmap, b + 3 * PAGE, PAGE); k!(SYS_mlock, b + 2 * PAGE, 3 * PAGE) }, "wraps" => k!(SYS_mlock, usize::MAX - PAGE, 2 * PAGE), "nothing" => k!(SYS_mlock, b, 0));
        limit(RLIMIT_MEMLOCK, 0);
        tell!(o, "no limit left" => k!(SYS_mlock, a, PAGE), "all" => k!(SYS_mlockall, MCL_CURRENT), "map" => map(0, PAGE, RW, ANON | MAP_LOCKED));
    });
    tell!(o, "end" => end);
}

fn lock_all_limit(o: Out) {
    tell!(o, "zero" => k!(SYS_mlockall, 0), "onfault alone" => k!(SYS_mlockall, MCL_ONFAULT), "unknown" => k!(SYS_mlockall, 8), "future" => k!(SYS_mlockall, MCL_FUTURE));
    let before = status("VmLck");
    let a = anon(4 * PAGE);
    tell!(o, "account" => status("VmLck") - before, "there" => core(a, 4), "unlock" => k!(SYS_munlockall), "account" => status("VmLck"));
    k!(SYS_mlockall, MCL_FUTURE | MCL_ONFAULT);
    let b = anon(4 * PAGE);
    tell!(o, "on fault" => core(b, 4), "unlock" => k!(SYS_munlockall));
    limit(RLIMIT_MEMLOCK, 16 * PAGE as u64);
    as_user(|| {
        tell!(o, "too much" => k!(SYS_mlockall, MCL_CURRENT), "future" => k!(SYS_mlockall, MCL_FUTURE), "small" => map(0, PAGE, RW, ANON).ok(), "large" => map(0, 64 * PAGE, RW, ANON), "heap" => k!(SYS_brk, k!(SYS_brk, 0).addr() + 64 * PAGE).0 == k!(SYS_brk, 0).0);
    });
}

fn lock_on_fault(o: Out) {
    let a = anon(4 * PAGE);
    tell!(o, "bad" => k!(SYS_mlock2, a, PAGE, 2), "on fault" => k!(SYS_mlock2, a, 4 * PAGE, 1), "not there" => core(a, 4), "account" => status("VmLck"), "now" => k!(SYS_mlock2, a, 2 * PAGE, 0), "there" => core(a, 4), "protected" => { k!(SYS_mprotect, a + 3 * PAGE, PAGE, PROT_NONE); k!(SYS_mlock, a, 4 * PAGE) });
}

fn remap_dontunmap(o: Out) {
    let keep = MREMAP_MAYMOVE | 4;
    let a = anon(3 * PAGE);
    for i in 0..3 {
        poke(a + i * PAGE, i as u8 + 1);
    }
    let b = k!(SYS_mremap, a, 3 * PAGE, 3 * PAGE, keep, 0);
    tell!(o, "moved" => b.ok() && b.addr() != a, "new" => (0..3).map(|i| peek(b.addr() + i * PAGE)).sum::<u8>(), "old" => (0..3).map(|i| peek(a + i * PAGE)).sum::<u8>());
    poke(a, 50);
    tell!(o, "apart" => format!("{} {}", peek(a), peek(b.addr())));
    let t = anon(2 * PAGE);
    let c = k!(SYS_mremap, a, PAGE, PAGE, keep | MREMAP_FIXED, t);
    tell!(o, "to a place" => c.addr() == t, "there" => peek(t), "old" => peek(a), "beside" => peek(t + PAGE));
    let s = shared(PAGE);
    poke(s, 9);
    let d = k!(SYS_mremap, s, PAGE, PAGE, keep, 0);
    tell!(o, "shared" => d.ok());
    if d.ok() {
        tell!(o, "new" => peek(d.addr()), "old" => peek(s));
    }
    let fd = open(c"f", O_CREAT | O_RDWR, 0o644).int();
    write(fd, b"file");
    let f = map_file(fd, PAGE, RW, MAP_PRIVATE, 0).addr();
    poke(f, b'F');
    let g = k!(SYS_mremap, f, PAGE, PAGE, keep, 0);
    tell!(o, "private file" => g.ok());
    if g.ok() {
        tell!(o, "new" => peek(g.addr()), "old" => peek(f));
    }
}

fn remap_dontunmap_refusals(o: Out) {
    let a = anon(3 * PAGE);
    tell!(o, "no maymove" => k!(SYS_mremap, a, PAGE, PAGE, 4, 0), "grows" => k!(SYS_mremap, a, PAGE, 2 * PAGE, MREMAP_MAYMOVE | 4, 0), "shrinks" => k!(SYS_mremap, a, 2 * PAGE, PAGE, MREMAP_MAYMOVE | 4, 0), "onto itself" => k!(SYS_mremap, a, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | 4, a),
        "nothing" => k!(SYS_mremap, 0x1000usize, PAGE, PAGE, MREMAP_MAYMOVE | 4, 0), "unaligned" => k!(SYS_mremap, a, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, a + 5 * PAGE + 1),
        "beyond" => k!(SYS_mremap, a, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, 1usize << 47), "absurd" => k!(SYS_mremap, a, PAGE, 1usize << 47, MREMAP_MAYMOVE), "wraps" => k!(SYS_mremap, a, PAGE, usize::MAX, MREMAP_MAYMOVE), "old wraps" => k!(SYS_mremap, a, usize::MAX - PAGE, PAGE, MREMAP_MAYMOVE));
}

fn remap_shared_twice(o: Out) {
    let fd = open(c"f", O_CREAT | O_RDWR, 0o644).int();
    write(fd, &[b'q'; 2 * PAGE]);
    let a = map_file(fd, 2 * PAGE, RW, MAP_SHARED, 0).addr();
    let b = k!(SYS_mremap, a, 0, PAGE, MREMAP_MAYMOVE);
    poke(b.addr() + 3, b'!');
    tell!(o, "second view" => b.ok() && b.addr() != a, "same" => peek(a + 3), "in place" => k!(SYS_mremap, a, 0, PAGE, 0), "longer than the file" => k!(SYS_mremap, b.addr(), PAGE, 4 * PAGE, MREMAP_MAYMOVE).ok());
    let mut buf = [0u8; 5];
    k!(SYS_pread64, fd, &mut buf, 5, 0);
    tell!(o, "file" => crate::util::show(&buf));
}

fn remap_limits(o: Out) {
    let a = anon(PAGE);
    limit(RLIMIT_AS, 1 << 30);
    tell!(o, "beyond" => k!(SYS_mremap, a, PAGE, 2usize << 30, MREMAP_MAYMOVE), "within" => k!(SYS_mremap, a, PAGE, 1usize << 20, MREMAP_MAYMOVE).ok());
}

fn grows_down_mapping(o: Out) {
    let room = map(0, 600 * PAGE, PROT_NONE, ANON).addr();
    k!(SYS_munmap, room, 600 * PAGE);
    let a = map(
        room + 590 * PAGE,
        2 * PAGE,
        RW,
        ANON | MAP_GROWSDOWN | MAP_FIXED,
    );
    let a = a.addr();
    poke(a, 1);
    tell!(o, "one below" => try_at(a - PAGE, Access::Write), "next" => try_at(a - 2 * PAGE, Access::Write), "a jump" => try_at(a - 40 * PAGE, Access::Write), "kept" => peek(a), "between" => peek(a - 20 * PAGE));
    tell!(o, "kernel writes below" => { let (r, w) = crate::util::pipe(); write(w, b"z"); k!(SYS_read, r, a - 60 * PAGE, 1) }, "there" => peek(a - 60 * PAGE));
    tell!(o, "protect down" => k!(SYS_mprotect, a, PAGE, PROT_READ | PROT_GROWSDOWN), "all of it" => try_at(a - 30 * PAGE, Access::Write), "others" => k!(SYS_mprotect, anon(PAGE), PAGE, PROT_READ | PROT_GROWSDOWN), "up" => k!(SYS_mprotect, a, PAGE, PROT_READ | PROT_GROWSUP));
}

fn grows_down_wall(o: Out) {
    let room = map(0, 600 * PAGE, PROT_NONE, ANON).addr();
    k!(SYS_munmap, room, 600 * PAGE);
    let a = map(
        room + 590 * PAGE,
        2 * PAGE,
        RW,
        ANON | MAP_GROWSDOWN | MAP_FIXED,
    )
    .addr();
    let wall = map(room + 290 * PAGE, PAGE, RW, ANON | MAP_FIXED).addr();
    tell!(o, "wall" => wall == room + 290 * PAGE, "near the gap" => try_at(room + 550 * PAGE, Access::Write), "in the gap" => try_at(room + 300 * PAGE, Access::Write), "stays" => try_at(a, Access::Write));
    tell!(o, "hint below" => map(room + 400 * PAGE, PAGE, RW, ANON).addr() == room + 400 * PAGE);
}

fn huge_pages_refused(o: Out) {
    let huge = 2 << 20;
    tell!(o, "file" => k!(SYS_mmap, 0, huge, RW, MAP_PRIVATE | MAP_HUGETLB, open(c"f", O_CREAT | O_RDWR, 0o644), 0), "advice" => k!(SYS_madvise, anon(huge), huge, MADV_NORMAL));
}

fn memfd(flags: u32) -> i32 {
    k!(SYS_memfd_create, c"m", flags).int()
}

const ADD: i32 = F_ADD_SEALS;
const GET: i32 = F_GET_SEALS;

fn seals_are_kept(o: Out) {
    let plain = memfd(0);
    tell!(o, "unsealable" => k!(SYS_fcntl, plain, GET), "add" => k!(SYS_fcntl, plain, ADD, F_SEAL_GROW));
    let fd = memfd(MFD_ALLOW_SEALING);
    tell!(o, "none" => k!(SYS_fcntl, fd, GET), "unknown" => k!(SYS_fcntl, fd, ADD, 0x1000), "two" => k!(SYS_fcntl, fd, ADD, F_SEAL_GROW | F_SEAL_SHRINK), "get" => k!(SYS_fcntl, fd, GET), "again" => k!(SYS_fcntl, fd, ADD, F_SEAL_GROW), "seal" => k!(SYS_fcntl, fd, ADD, F_SEAL_SEAL), "more" => k!(SYS_fcntl, fd, ADD, F_SEAL_WRITE), "get" => k!(SYS_fcntl, fd, GET));
    let name = std::ffi::CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default();
    let ro = open(&name, O_RDONLY, 0);
    tell!(o, "opened again" => ro.ok(), "get" => k!(SYS_fcntl, ro, GET), "add by reader" => k!(SYS_fcntl, open(&std::ffi::CString::new(format!("/proc/self/fd/{}", memfd(MFD_ALLOW_SEALING))).unwrap_or_default(), O_RDONLY, 0), ADD, F_SEAL_GROW));
    let (r, _) = crate::util::pipe();
    tell!(o, "pipe" => k!(SYS_fcntl, r, GET), "file" => k!(SYS_fcntl, open(c"f", O_CREAT | O_RDWR, 0o644), GET).0 == -i64::from(EINVAL));
}

fn seal_write_and_mappings(o: Out) {
    let fd = memfd(MFD_ALLOW_SEALING);
    write(fd, &[b'm'; 2 * PAGE]);
    let a = map_file(fd, PAGE, RW, MAP_SHARED, 0).addr();
    tell!(o, "mapped" => k!(SYS_fcntl, fd, ADD, F_SEAL_WRITE), "read-only now" => { k!(SYS_mprotect, a, PAGE, PROT_READ); k!(SYS_fcntl, fd, ADD, F_SEAL_WRITE) }, "unmap" => k!(SYS_munmap, a, PAGE));
    let private = map_file(fd, PAGE, RW, MAP_PRIVATE, 0).addr();
    poke(private, b'P');
    tell!(o, "private mapping does not matter" => k!(SYS_fcntl, fd, ADD, F_SEAL_WRITE), "private store" => try_at(private, Access::Write));
    tell!(o, "write" => write(fd, b"x"), "pwrite" => k!(SYS_pwrite64, fd, b"x".as_slice(), 1, 0), "punch" => k!(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE), "truncate" => k!(SYS_ftruncate, fd, PAGE), "longer" => k!(SYS_ftruncate, fd, 3 * PAGE));
    let r = map_file(fd, PAGE, PROT_READ, MAP_SHARED, 0);
    tell!(o, "shared rw" => map_file(fd, PAGE, RW, MAP_SHARED, 0), "shared r" => r.ok(), "protect" => k!(SYS_mprotect, r, PAGE, RW), "private rw" => map_file(fd, PAGE, RW, MAP_PRIVATE, 0).ok(), "remove" => k!(SYS_madvise, r, PAGE, MADV_REMOVE));
}

fn seal_future_write(o: Out) {
    let fd = memfd(MFD_ALLOW_SEALING);
    write(fd, &[b'm'; 2 * PAGE]);
    let a = map_file(fd, PAGE, RW, MAP_SHARED, 0).addr();
    tell!(o, "seal" => k!(SYS_fcntl, fd, ADD, F_SEAL_FUTURE_WRITE), "old mapping" => try_at(a, Access::Write), "file" => { let mut b = [0u8; 1]; k!(SYS_pread64, fd, &mut b, 1, 0); b[0] }, "write" => k!(SYS_pwrite64, fd, b"x".as_slice(), 1, 0),
        "new shared rw" => map_file(fd, PAGE, RW, MAP_SHARED, 0), "old back and forth" => format!("{} {}", k!(SYS_mprotect, a, PAGE, PROT_READ), k!(SYS_mprotect, a, PAGE, RW)), "reader raised" => k!(SYS_mprotect, map_file(fd, PAGE, PROT_READ, MAP_SHARED, 0), PAGE, RW), "shrink" => k!(SYS_ftruncate, fd, PAGE));
}

fn seal_grow_and_shrink(o: Out) {
    let fd = memfd(MFD_ALLOW_SEALING);
    k!(SYS_ftruncate, fd, 2 * PAGE);
    k!(SYS_fcntl, fd, ADD, F_SEAL_GROW);
    tell!(o, "longer" => k!(SYS_ftruncate, fd, 3 * PAGE), "same" => k!(SYS_ftruncate, fd, 2 * PAGE), "write at the end" => k!(SYS_pwrite64, fd, b"x".as_slice(), 1, 2 * PAGE), "write across" => k!(SYS_pwrite64, fd, [1u8; 10].as_slice(), 10, 2 * PAGE - 5), "inside" => k!(SYS_pwrite64, fd, b"x".as_slice(), 1, 5),
        "allocate" => k!(SYS_fallocate, fd, 0, 0, 3 * PAGE), "keep size" => k!(SYS_fallocate, fd, FALLOC_FL_KEEP_SIZE, 0, 3 * PAGE), "shorter" => k!(SYS_ftruncate, fd, PAGE));
    k!(SYS_fcntl, fd, ADD, F_SEAL_SHRINK);
    tell!(o, "shorter" => k!(SYS_ftruncate, fd, 5), "size" => crate::util::fstat(fd).st_size);
}

fn memfd_flags(o: Out) {
    for flags in [0u32, 1, 2, 3, 8, 0x10, 0x18, 0x20, 0x8000_0000] {
        let r = k!(SYS_memfd_create, c"m", flags);
        if r.ok() {
            say!(
                o,
                "{flags:#x}: seals {} mode {:o} cloexec {}",
                k!(SYS_fcntl, r, GET),
                crate::util::fstat(r.int()).st_mode & 0o777,
                k!(SYS_fcntl, r, F_GETFD)
            );
        } else {
            say!(o, "{flags:#x}: {r}");
        }
    }
    let long = [b'n'; 260];
    let named = |n: usize| {
        let name = std::ffi::CString::new(&long[..n]).unwrap_or_default();
        k!(SYS_memfd_create, name.as_c_str(), 0).ok()
    };
    tell!(o, "249" => named(249), "250" => named(250), "bad name" => k!(SYS_memfd_create, 16usize, 0));
    let x = memfd(0x10);
    tell!(o, "exec seal" => { let s = memfd(MFD_ALLOW_SEALING); k!(SYS_fcntl, s, ADD, 0x20) }, "chmod" => k!(SYS_fchmod, x, 0o600));
}

fn memfd_is_a_file(o: Out) {
    let fd = memfd(0);
    write(fd, b"0123456789");
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}"));
    let st = crate::util::fstat(fd);
    tell!(o, "name" => link.map(|l| l.display().to_string()).unwrap_or_default(), "size" => st.st_size, "links" => st.st_nlink, "kind" => crate::util::kind_text(st.st_mode), "seek" => k!(SYS_lseek, fd, -3, SEEK_END));
    tell!(o, "read" => crate::util::read(fd, 10).1, "child" => in_child(|| { k!(SYS_pwrite64, fd, b"X".as_slice(), 1, 0); 0 }), "seen" => { let mut b = [0u8; 2]; k!(SYS_pread64, fd, &mut b, 2, 0); crate::util::show(&b) }, "close" => close(fd));
}

fn shared_file_coherence(o: Out) {
    let fd = open(c"f", O_CREAT | O_RDWR | O_TRUNC, 0o644).int();
    k!(SYS_ftruncate, fd, 3 * PAGE + 100);
    let a = map_file(fd, 4 * PAGE, RW, MAP_SHARED, 0).addr();
    let b = map_file(fd, 4 * PAGE, PROT_READ, MAP_PRIVATE, 0).addr();
    let mut bad = 0;
    for round in 0..200usize {
        let at = (round * 1237) % (3 * PAGE + 90);
        let value = round as u8;
        let mut got = [0u8; 1];
        if round % 2 == 0 {
            poke(a + at, value);
        } else {
            k!(SYS_pwrite64, fd, [value].as_slice(), 1, at);
        }
        k!(SYS_pread64, fd, &mut got, 1, at);
        bad += usize::from(got[0] != value || peek(a + at) != value || peek(b + at) != value);
    }
    tell!(o, "differences" => bad, "tail is zero" => (3 * PAGE + 100..4 * PAGE).all(|i| peek(a + i) == 0));
    let seen = in_child(|| {
        let mine = open(c"f", O_RDWR, 0).int();
        k!(SYS_pwrite64, mine, b"child".as_slice(), 5, PAGE);
        0
    });
    tell!(o, "other opening" => seen, "shared" => crate::util::show(&sys::get(a + PAGE, 5)), "private" => crate::util::show(&sys::get(b + PAGE, 5)));
}

fn truncate_and_calls(o: Out) {
    let fd = open(c"f", O_CREAT | O_RDWR | O_TRUNC, 0o644).int();
    write(fd, &[b'c'; 3 * PAGE]);
    let a = map_file(fd, 3 * PAGE, RW, MAP_SHARED, 0).addr();
    poke(a + 2 * PAGE, b'd');
    k!(SYS_ftruncate, fd, PAGE);
    let (r, w) = crate::util::pipe();
    write(w, b"abc");
    tell!(o, "write from beyond" => k!(SYS_write, w, a + PAGE, 10), "across" => k!(SYS_pwrite64, open(c"g", O_CREAT | O_RDWR, 0o644), a + PAGE - 4, 10, 0), "read to beyond" => k!(SYS_read, r, a + PAGE, 3), "fault" => try_at(a + 2 * PAGE, Access::Read), "core" => core(a, 1), "populate" => k!(SYS_madvise, a + PAGE, PAGE, MADV_POPULATE_READ));
    k!(SYS_ftruncate, fd, 3 * PAGE);
    tell!(o, "again" => peek(a + 2 * PAGE), "store" => try_at(a + 2 * PAGE, Access::Write));
}

fn data_limit(o: Out) {
    let start = k!(SYS_brk, 0).addr();
    limit(RLIMIT_DATA, 64 << 20);
    tell!(o, "large" => map(0, 128 << 20, RW, ANON), "not data" => map(0, 128 << 20, PROT_READ, ANON).ok(), "shared" => map(0, 128 << 20, RW, MAP_SHARED | MAP_ANONYMOUS).ok(), "brk" => k!(SYS_brk, start + (128 << 20)).addr() == start);
    let a = map(0, 128 << 20, PROT_READ, ANON);
    tell!(o, "made data" => k!(SYS_mprotect, a, 128 << 20, RW), "a little" => k!(SYS_mprotect, a, PAGE, RW));
}

fn stack_limit(o: Out) {
    let lim = rlimit {
        rlim_cur: 1 << 20,
        rlim_max: 8 << 20,
    };
    k!(SYS_prlimit64, 0, RLIMIT_STACK, &lim, 0);
    let here = &raw const lim as usize & !(PAGE - 1);
    tell!(o, "near" => try_at(here - (256 << 10), Access::Write), "far" => try_at(here - (2 << 20), Access::Write));
}

fn overcommit(o: Out) {
    tell!(o, "more than there is" => map(0, 1 << 46, RW, ANON), "not reserved" => map(0, 1 << 45, RW, ANON | MAP_NORESERVE).ok(), "inaccessible" => map(0, 1 << 45, PROT_NONE, ANON).ok(), "made writable" => {
        let a = map(0, 1 << 45, PROT_NONE, ANON);
        k!(SYS_mprotect, a, 1usize << 45, RW)
    });
}

/// Pages resident, by statm.
fn resident_pages() -> i64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split_whitespace()
        .nth(1)
        .and_then(|w| w.parse().ok())
        .unwrap_or(-1)
}

/// Huge pages and Linux's own counting per CPU make native numbers coarse.
const NEAR: i64 = 1200;

fn near(value: i64, wanted: i64) -> bool {
    (value - wanted).abs() < NEAR
}

fn resident_size(o: Out) {
    let n = 16_000;
    let before = resident_pages();
    let a = anon(n * PAGE);
    tell!(o, "reserved" => near(resident_pages() - before, 0));
    (0..n / 2).for_each(|i| poke(a + i * PAGE, 1));
    tell!(o, "half" => near(resident_pages() - before, n as i64 / 2), "status agrees" => near(status("VmRSS") as i64 / 4, resident_pages()));
    k!(SYS_madvise, a, n / 4 * PAGE, MADV_DONTNEED);
    tell!(o, "quarter" => near(resident_pages() - before, n as i64 / 4), "child" => in_child(|| i32::from(near(resident_pages() - before, n as i64 / 4))));
    k!(SYS_munmap, a, n * PAGE);
    tell!(o, "none" => near(resident_pages() - before, 0));
    let s = shared(n * PAGE);
    (0..n).for_each(|i| poke(s + i * PAGE, 1));
    tell!(o, "shared" => near(resident_pages() - before, n as i64));
}

fn peak_resident_size(o: Out) {
    let n = 8000;
    let touch_and_free = || {
        let a = anon(n * PAGE);
        (0..n).for_each(|i| poke(a + i * PAGE, 1));
        k!(SYS_munmap, a, n * PAGE);
    };
    let maxrss = |who: i32| {
        let mut u: rusage = sys::zeroed();
        k!(SYS_getrusage, who, &mut u);
        u.ru_maxrss / 4
    };
    let before = resident_pages();
    touch_and_free();
    tell!(o, "now" => near(resident_pages() - before, 0), "peak" => near(status("VmHWM") as i64 / 4 - before, n as i64), "usage" => near(maxrss(RUSAGE_SELF) - before, n as i64));
    let pid = sys::child(|| {
        let a = anon(2 * n * PAGE);
        (0..2 * n).for_each(|i| poke(a + i * PAGE, 1));
        k!(SYS_munmap, a, 2 * n * PAGE);
        0
    });
    let mut u: rusage = sys::zeroed();
    k!(SYS_wait4, pid, 0, 0, &mut u);
    tell!(o, "child's" => near(u.ru_maxrss / 4 - before, 2 * n as i64), "children's" => near(maxrss(RUSAGE_CHILDREN) - before, 2 * n as i64));
}

fn oom_score_adjust(o: Out) {
    let path = c"/proc/self/oom_score_adj";
    let put = |text: &[u8]| {
        let fd = open(path, O_WRONLY, 0).int();
        let r = write(fd, text);
        close(fd);
        r
    };
    let score = || {
        std::fs::read_to_string("/proc/self/oom_score")
            .ok()
            .and_then(|s| s.trim().parse::<i64>().ok())
            .unwrap_or(-1)
    };
    let first = score();
    tell!(o, "raise" => put(b"500"), "read" => crate::util::cat(path), "score rose" => (score() - first) / 10, "child" => in_child(|| i32::from(crate::util::cat(path) == "\"500\\n\"")), "most" => put(b"1000\n"), "too much" => put(b"1001"), "no number" => put(b"x"), "never" => put(b"-1000"), "score" => score() / 50);
}

fn process_limit(o: Out) {
    let end = in_child(|| {
        limit(RLIMIT_NPROC, 6);
        k!(SYS_setresuid, 54_321, 54_321, 54_321);
        let (r, w) = crate::util::pipe();
        let mut children = Vec::new();
        let error = loop {
            let pid = k!(SYS_fork);
            if pid.0 == 0 {
                let mut b = [0u8; 1];
                close(w);
                k!(SYS_read, r, &mut b, 1);
                k!(SYS_exit_group, 0);
            }
            if !pid.ok() || children.len() > 50 {
                break pid;
            }
            children.push(pid.int());
        };
        say!(o, "{} children, then {error}", children.len());
        let t = std::thread::Builder::new().spawn(|| ());
        say!(o, "a thread: {}", t.is_ok());
        close(w);
        for pid in children {
            crate::util::wait_text(pid);
        }
        say!(o, "again: {}", in_child(|| 0));
        0
    });
    tell!(o, "end" => end);
}

fn many_threads(o: Out) {
    use std::sync::{Arc, Condvar, Mutex};
    const N: usize = 1024;
    // Two conditions: who arrives wakes the one that counts, not everyone who is there already.
    let gate = Arc::new((Mutex::new((0usize, false)), Condvar::new(), Condvar::new()));
    let all: Vec<_> = (0..N)
        .filter_map(|_| {
            let gate = gate.clone();
            let body = move || {
                let (state, arrived, opened) = &*gate;
                let Ok(mut s) = state.lock() else { return 0 };
                s.0 += 1;
                arrived.notify_one();
                while !s.1 {
                    let Ok(next) = opened.wait(s) else { return 0 };
                    s = next;
                }
                1
            };
            std::thread::Builder::new()
                .stack_size(32 << 10)
                .spawn(body)
                .ok()
        })
        .collect();
    say!(o, "{} started", all.len());
    let (state, arrived, opened) = &*gate;
    if let Ok(mut s) = state.lock() {
        while s.0 < all.len() {
            let Ok(next) = arrived.wait(s) else { return };
            s = next;
        }
        let dirs = std::fs::read_dir("/proc/self/task").map_or(0, |d| d.count());
        say!(o, "{dirs} in /proc, {} by status", status("Threads"));
        s.1 = true;
        opened.notify_all();
    }
    let done: usize = all.into_iter().filter_map(|t| t.join().ok()).sum();
    say!(o, "{done} joined");
}

fn many_pipes(o: Out) {
    const N: usize = 5000;
    let lim = rlimit {
        rlim_cur: 2 * N as u64 + 300,
        rlim_max: 2 * N as u64 + 300,
    };
    tell!(o, "limit" => k!(SYS_prlimit64, 0, RLIMIT_NOFILE, &lim, 0));
    let mut pipes = Vec::new();
    let error = loop {
        let mut ends = [0i32; 2];
        let r = k!(SYS_pipe2, &mut ends, 0);
        if !r.ok() || pipes.len() > 2 * N {
            break r;
        }
        write(ends[1], &[pipes.len() as u8]);
        pipes.push(ends);
    };
    let mut good = 0;
    for (i, ends) in pipes.iter().enumerate() {
        let mut b = [0u8; 2];
        good += usize::from(k!(SYS_read, ends[0], &mut b, 2).0 == 1 && b[0] == i as u8);
    }
    say!(
        o,
        "enough {}, then {error}, all good {}",
        pipes.len() > N,
        good == pipes.len()
    );
    tell!(o, "closed" => k!(SYS_close_range, pipes[0][0], pipes[pipes.len() - 1][1], 0), "again" => crate::util::pipe().0 == pipes[0][0]);
}

fn many_files(o: Out) {
    const N: usize = 1500;
    k!(SYS_mkdir, c"d", 0o755);
    let mut made = 0;
    for i in 0..N {
        let name = std::ffi::CString::new(format!("d/file-{i}")).unwrap_or_default();
        let fd = open(&name, O_CREAT | O_EXCL | O_WRONLY, 0o644);
        made += usize::from(fd.ok());
        close(fd.int());
    }
    let listed = std::fs::read_dir("d").map_or(0, |d| d.count());
    say!(o, "{made} made, {listed} listed");
    for i in (0..N).step_by(2) {
        let name = std::ffi::CString::new(format!("d/file-{i}")).unwrap_or_default();
        made -= usize::from(k!(SYS_unlink, name.as_c_str()).ok());
    }
    let listed = std::fs::read_dir("d").map_or(0, |d| d.count());
    say!(
        o,
        "{made} left, {listed} listed, not empty {}",
        k!(SYS_rmdir, c"d")
    );
}
