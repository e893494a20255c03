//! Address spaces: mapping, protecting, moving, sharing.

use crate::out::Out;
use crate::sys::{Access, peek, poke, touch};
use crate::util::{PAGE, anon, in_child, map, shared, signal_name};
use crate::{cases, k, say, sys, tell};
use libc::*;

cases!(
    anonymous_is_zero,
    map_arguments,
    map_fixed_replaces,
    map_fixed_noreplace,
    map_hint,
    unmap_middle,
    unmap_arguments,
    protect_faults,
    protect_pieces,
    protect_arguments,
    execute_memory,
    remap_grow_in_place,
    remap_shrink,
    remap_move,
    remap_fixed,
    remap_arguments,
    remap_keeps_protection,
    brk_grow_and_shrink,
    copy_on_write_after_fork,
    shared_across_fork,
    fork_keeps_protection,
    unmap_in_child_only,
    advise_dontneed,
    advise_shared_dontneed,
    advise_arguments,
    resident,
    large_reservation,
    address_limit,
    maps_file,
    maps_merge,
    lock_pages,
    grows_down,
    shared_anonymous_remap,
    write_only_memory,
    many_mappings,
    touch_many_pages,
    process_vm_copy,
);

const RW: i32 = PROT_READ | PROT_WRITE;
const ANON: i32 = MAP_PRIVATE | MAP_ANONYMOUS;

/// How an access ended, with the distance of the reported address.
fn try_at(addr: usize, access: Access) -> String {
    let f = touch(addr, access);
    if f.signal == 0 {
        return "fine".into();
    }
    format!(
        "{} code {} at +{}",
        signal_name(f.signal),
        f.code,
        f.addr.wrapping_sub(addr)
    )
}

fn anonymous_is_zero(o: Out) {
    let a = anon(5 * PAGE);
    tell!(o, "aligned" => a.is_multiple_of(PAGE), "zero" => (0..5 * PAGE).all(|i| peek(a + i) == 0));
    poke(a + 2 * PAGE, 7);
    tell!(o, "kept" => peek(a + 2 * PAGE), "neighbour" => peek(a + 3 * PAGE));
}

fn map_arguments(o: Out) {
    tell!(o, "zero length" => map(0, 0, RW, ANON), "no type" => map(0, PAGE, RW, MAP_ANONYMOUS), "both types" => map(0, PAGE, RW, ANON | MAP_SHARED).yes(),
        "unaligned fixed" => map(0x10_0001, PAGE, RW, ANON | MAP_FIXED), "huge" => map(0, 1 << 62, RW, ANON), "wraps" => map(0, usize::MAX, RW, ANON), "closed fd" => k!(SYS_mmap, 0, PAGE, RW, MAP_PRIVATE, 99, 0),
        "unaligned offset" => k!(SYS_mmap, 0, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 5), "odd length" => map(0, 5, RW, ANON).ok(), "kernel half" => map(0xffff_8000_0000_0000, PAGE, RW, ANON | MAP_FIXED));
}

fn map_fixed_replaces(o: Out) {
    let a = anon(3 * PAGE);
    poke(a + PAGE, 9);
    let r = map(a + PAGE, PAGE, RW, ANON | MAP_FIXED);
    tell!(o, "there" => r.addr() == a + PAGE, "fresh" => peek(a + PAGE));
}

fn map_fixed_noreplace(o: Out) {
    let a = anon(3 * PAGE);
    k!(SYS_munmap, a + PAGE, PAGE);
    tell!(o, "free" => map(a + PAGE, PAGE, RW, ANON | MAP_FIXED_NOREPLACE).addr() == a + PAGE, "taken" => map(a, PAGE, RW, ANON | MAP_FIXED_NOREPLACE),
        "partly" => map(a - PAGE, 2 * PAGE, RW, ANON | MAP_FIXED_NOREPLACE));
}

fn map_hint(o: Out) {
    let a = anon(4 * PAGE);
    k!(SYS_munmap, a, 4 * PAGE);
    tell!(o, "free hint taken" => map(a, PAGE, RW, ANON).addr() == a, "used hint avoided" => map(a, PAGE, RW, ANON).addr() == a, "rounded" => map(a + 2 * PAGE + 5, PAGE, RW, ANON).addr() == a + 2 * PAGE);
}

fn unmap_middle(o: Out) {
    let a = anon(3 * PAGE);
    poke(a, 1);
    poke(a + 2 * PAGE, 3);
    tell!(o, "unmap" => k!(SYS_munmap, a + PAGE, PAGE), "first" => peek(a), "middle" => try_at(a + PAGE, Access::Read), "last" => peek(a + 2 * PAGE),
        "again" => k!(SYS_munmap, a + PAGE, PAGE), "all" => k!(SYS_munmap, a, 3 * PAGE), "first" => try_at(a, Access::Read));
}

fn unmap_arguments(o: Out) {
    let a = anon(PAGE);
    tell!(o, "unaligned" => k!(SYS_munmap, a + 1, PAGE), "zero" => k!(SYS_munmap, a, 0), "odd length" => k!(SYS_munmap, a, 1), "gone" => try_at(a, Access::Read), "beyond" => k!(SYS_munmap, 1usize << 63, PAGE),
        "nothing there" => k!(SYS_munmap, 0x1000usize, PAGE));
}

fn protect_faults(o: Out) {
    let a = anon(PAGE);
    for (name, prot) in [
        ("none", PROT_NONE),
        ("read", PROT_READ),
        ("write", PROT_WRITE),
        ("rw", RW),
        ("rx", PROT_READ | PROT_EXEC),
    ] {
        poke(k!(SYS_mprotect, a, PAGE, RW).addr() + a, 0xc3);
        k!(SYS_mprotect, a, PAGE, prot);
        say!(
            o,
            "{name}: read {}, write {}, execute {}",
            try_at(a + 8, Access::Read),
            try_at(a + 9, Access::Write),
            if prot == PROT_WRITE {
                "-".into()
            } else {
                try_at(a, Access::Execute)
            }
        );
    }
    tell!(o, "null" => try_at(0, Access::Read), "unmapped" => try_at(0x1234_5678, Access::Write));
    let f = touch(0x2000, Access::Write);
    say!(o, "write bit {}", f.err & 2 != 0);
    let f = touch(0x2000, Access::Read);
    say!(o, "write bit {}", f.err & 2 != 0);
}

fn protect_pieces(o: Out) {
    let a = anon(5 * PAGE);
    for i in 0..5 {
        poke(a + i * PAGE, i as u8 + 1);
    }
    tell!(o, "middle" => k!(SYS_mprotect, a + PAGE, 3 * PAGE, PROT_READ));
    for i in 0..5 {
        say!(
            o,
            "{i}: {} {}",
            peek(a + i * PAGE),
            try_at(a + i * PAGE + 1, Access::Write)
        );
    }
    tell!(o, "back" => k!(SYS_mprotect, a, 5 * PAGE, RW), "write" => try_at(a + 2 * PAGE, Access::Write));
}

fn protect_arguments(o: Out) {
    let a = anon(3 * PAGE);
    k!(SYS_munmap, a + PAGE, PAGE);
    tell!(o, "hole" => k!(SYS_mprotect, a, 3 * PAGE, PROT_READ), "before the hole" => try_at(a, Access::Write), "after" => try_at(a + 2 * PAGE, Access::Write), "unaligned" => k!(SYS_mprotect, a + 1, PAGE, RW),
        "zero" => k!(SYS_mprotect, a, 0, RW), "bad bits" => k!(SYS_mprotect, a, PAGE, 0x1000), "unmapped" => k!(SYS_mprotect, 0x1000usize, PAGE, RW));
}

fn execute_memory(o: Out) {
    let a = anon(PAGE);
    sys::put(a, &[0xb8, 42, 0, 0, 0, 0xc3]);
    tell!(o, "no x" => try_at(a, Access::Execute), "protect" => k!(SYS_mprotect, a, PAGE, PROT_READ | PROT_EXEC), "run" => sys::jump(a), "protect" => k!(SYS_mprotect, a, PAGE, RW));
    sys::put(a, &[0xb8, 43, 0, 0, 0, 0xc3]);
    tell!(o, "protect" => k!(SYS_mprotect, a, PAGE, RW | PROT_EXEC), "run changed" => sys::jump(a));
    sys::put(a, &[0xb8, 44, 0, 0, 0, 0xc3]);
    tell!(o, "run changed under rwx" => sys::jump(a));
}

fn remap_grow_in_place(o: Out) {
    let a = anon(4 * PAGE);
    k!(SYS_munmap, a + PAGE, 3 * PAGE);
    poke(a, 5);
    tell!(o, "grow" => k!(SYS_mremap, a, PAGE, 3 * PAGE, 0).addr() == a, "old" => peek(a), "new" => peek(a + 2 * PAGE));
    let b = map(a + 3 * PAGE, PAGE, PROT_READ, ANON | MAP_FIXED);
    tell!(o, "wall" => b.ok(), "cannot" => k!(SYS_mremap, a, 3 * PAGE, 5 * PAGE, 0), "same size" => k!(SYS_mremap, a, 3 * PAGE, 3 * PAGE, 0).addr() == a);
}

fn remap_shrink(o: Out) {
    let a = anon(4 * PAGE);
    poke(a + PAGE, 6);
    tell!(o, "shrink" => k!(SYS_mremap, a, 4 * PAGE, 2 * PAGE, 0).addr() == a, "kept" => peek(a + PAGE), "gone" => try_at(a + 2 * PAGE, Access::Read));
}

fn remap_move(o: Out) {
    let a = anon(2 * PAGE);
    poke(a, 1);
    poke(a + PAGE, 2);
    map(a + 2 * PAGE, PAGE, PROT_NONE, ANON | MAP_FIXED);
    let b = k!(SYS_mremap, a, 2 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
    tell!(o, "moved" => b.ok() && b.addr() != a, "first" => peek(b.addr()), "second" => peek(b.addr() + PAGE), "rest" => peek(b.addr() + 63 * PAGE), "old" => try_at(a, Access::Read));
}

fn remap_fixed(o: Out) {
    let a = anon(2 * PAGE);
    let b = anon(4 * PAGE);
    poke(a, 11);
    poke(b, 22);
    let fixed = MREMAP_MAYMOVE | MREMAP_FIXED;
    tell!(o, "to" => k!(SYS_mremap, a, 2 * PAGE, 2 * PAGE, fixed, b).addr() == b, "there" => peek(b), "old" => try_at(a, Access::Read), "beyond kept" => peek(b + 2 * PAGE),
        "overlap" => k!(SYS_mremap, b, 4 * PAGE, 4 * PAGE, fixed, b + PAGE), "without maymove" => k!(SYS_mremap, b, PAGE, PAGE, MREMAP_FIXED, a));
    let c = k!(SYS_mremap, b, PAGE, PAGE, MREMAP_MAYMOVE | 4, 0);
    tell!(o, "dontunmap" => c.ok() && c.addr() != b, "moved value" => peek(c.addr()), "old is zero" => peek(b));
}

fn remap_arguments(o: Out) {
    let a = anon(2 * PAGE);
    tell!(o, "unaligned" => k!(SYS_mremap, a + 1, PAGE, PAGE, 0), "zero new" => k!(SYS_mremap, a, PAGE, 0, 0), "unmapped" => k!(SYS_mremap, 0x1000usize, PAGE, 2 * PAGE, MREMAP_MAYMOVE),
        "nothing to nowhere" => k!(SYS_mremap, 0x1000usize, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, 0),
        "flags" => k!(SYS_mremap, a, PAGE, PAGE, 16), "zero old of private" => k!(SYS_mremap, a, 0, PAGE, MREMAP_MAYMOVE), "across" => { k!(SYS_munmap, a + PAGE, PAGE); k!(SYS_mremap, a, 2 * PAGE, 3 * PAGE, MREMAP_MAYMOVE) });
}

fn remap_keeps_protection(o: Out) {
    let a = anon(2 * PAGE);
    poke(a, 3);
    k!(SYS_mprotect, a, 2 * PAGE, PROT_READ);
    let b = k!(SYS_mremap, a, 2 * PAGE, 32 * PAGE, MREMAP_MAYMOVE).addr();
    tell!(o, "read" => peek(b), "write" => try_at(b, Access::Write), "write new" => try_at(b + 20 * PAGE, Access::Write));
}

fn brk_grow_and_shrink(o: Out) {
    let start = k!(SYS_brk, 0).addr();
    let up = k!(SYS_brk, start + 3 * PAGE).addr();
    tell!(o, "grew" => up - start, "zero" => peek(start + 2 * PAGE));
    poke(start + 2 * PAGE, 9);
    tell!(o, "shrank" => k!(SYS_brk, start + PAGE).addr() - start, "gone" => try_at((start + 2 * PAGE + PAGE - 1) & !(PAGE - 1), Access::Read), "again" => k!(SYS_brk, start + 3 * PAGE).addr() - start,
        "zero again" => peek(start + 2 * PAGE), "odd" => k!(SYS_brk, start + 5).addr() - start, "below" => k!(SYS_brk, 16usize).addr() == start + 5, "absurd" => k!(SYS_brk, 1usize << 62).addr() == start + 5);
}

fn copy_on_write_after_fork(o: Out) {
    let a = anon(8 * PAGE);
    for i in 0..8 {
        poke(a + i * PAGE, i as u8);
    }
    let s = in_child(|| {
        let inherited = (0..8).all(|i| peek(a + i * PAGE) == i as u8);
        for i in 0..8 {
            poke(a + i * PAGE, 100);
        }
        i32::from(inherited)
    });
    tell!(o, "child saw" => s, "untouched" => (0..8).all(|i| peek(a + i * PAGE) == i as u8));
    poke(a, 55);
    let s = in_child(|| {
        i32::from(peek(a))
            + in_child(|| {
                poke(a, 1);
                0
            })
            .len() as i32
    });
    tell!(o, "nested" => s, "mine" => peek(a));
}

fn shared_across_fork(o: Out) {
    let a = shared(2 * PAGE);
    tell!(o, "child" => in_child(|| { poke(a, 33); poke(a + PAGE, 44); 0 }), "seen" => format!("{} {}", peek(a), peek(a + PAGE)));
    poke(a, 66);
    tell!(o, "other way" => in_child(|| i32::from(peek(a))));
}

fn fork_keeps_protection(o: Out) {
    let a = anon(3 * PAGE);
    k!(SYS_mprotect, a, PAGE, PROT_READ);
    k!(SYS_munmap, a + PAGE, PAGE);
    in_child(|| {
        tell!(o, "read" => try_at(a, Access::Read), "write" => try_at(a, Access::Write), "hole" => try_at(a + PAGE, Access::Read), "rest" => try_at(a + 2 * PAGE, Access::Write));
        0
    });
}

fn unmap_in_child_only(o: Out) {
    let a = anon(PAGE);
    poke(a, 8);
    tell!(o, "child" => in_child(|| k!(SYS_munmap, a, PAGE).int()), "mine" => peek(a), "child faults" => in_child(|| { k!(SYS_munmap, a, PAGE); i32::from(peek(a)) }));
}

fn advise_dontneed(o: Out) {
    let a = anon(4 * PAGE);
    for i in 0..4 {
        poke(a + i * PAGE, 9);
    }
    tell!(o, "advise" => k!(SYS_madvise, a + PAGE, 2 * PAGE, MADV_DONTNEED));
    say!(
        o,
        "{:?}",
        (0..4).map(|i| peek(a + i * PAGE)).collect::<Vec<_>>()
    );
    poke(a + PAGE, 4);
    tell!(o, "usable" => peek(a + PAGE));
}

fn advise_shared_dontneed(o: Out) {
    let a = shared(2 * PAGE);
    poke(a, 9);
    tell!(o, "advise" => k!(SYS_madvise, a, 2 * PAGE, MADV_DONTNEED), "kept" => peek(a), "remove" => k!(SYS_madvise, a, PAGE, MADV_REMOVE), "zero" => peek(a));
}

fn advise_arguments(o: Out) {
    let a = anon(3 * PAGE);
    k!(SYS_munmap, a + PAGE, PAGE);
    tell!(o, "unaligned" => k!(SYS_madvise, a + 1, PAGE, MADV_DONTNEED), "unknown" => k!(SYS_madvise, a, PAGE, 9999), "hole" => k!(SYS_madvise, a, 3 * PAGE, MADV_DONTNEED), "zero" => k!(SYS_madvise, a, 0, MADV_DONTNEED),
        "willneed" => k!(SYS_madvise, a, PAGE, MADV_WILLNEED), "free" => k!(SYS_madvise, a, PAGE, MADV_FREE), "hugepage" => k!(SYS_madvise, a, PAGE, MADV_NORMAL), "dontfork" => k!(SYS_madvise, a, PAGE, MADV_DONTFORK),
        "child" => in_child(|| i32::from(try_at(a, Access::Read) == "fine")));
}

fn resident(o: Out) {
    let a = anon(4 * PAGE);
    let mut v = [9u8; 4];
    poke(a, 1);
    poke(a + 2 * PAGE, 1);
    tell!(o, "mincore" => k!(SYS_mincore, a, 4 * PAGE, &mut v), "touched" => v[0] & 1, "touched" => v[2] & 1, "unaligned" => k!(SYS_mincore, a + 1, PAGE, &mut v), "unmapped" => k!(SYS_mincore, 0x1000usize, PAGE, &mut v));
}

fn large_reservation(o: Out) {
    let size = 1usize << 38;
    let a = map(0, size, PROT_NONE, ANON | MAP_NORESERVE);
    tell!(o, "reserved" => a.ok(), "commit a piece" => k!(SYS_mprotect, a.addr() + (size / 2), PAGE, RW), "write" => try_at(a.addr() + size / 2, Access::Write), "beside" => try_at(a.addr() + size / 2 + PAGE, Access::Read), "unmap" => k!(SYS_munmap, a, size));
    let b = map(0, 1 << 36, RW, ANON | MAP_NORESERVE);
    tell!(o, "sparse" => b.ok());
    for i in [0usize, 1 << 30, 1 << 35] {
        poke(b.addr() + i, 7);
    }
    tell!(o, "far" => peek(b.addr() + (1 << 35)), "fork" => in_child(|| i32::from(peek(b.addr() + (1 << 30)))));
}

fn address_limit(o: Out) {
    let lim = rlimit {
        rlim_cur: 1 << 30,
        rlim_max: RLIM_INFINITY,
    };
    k!(SYS_prlimit64, 0, RLIMIT_AS, &lim, 0);
    tell!(o, "small" => map(0, 1 << 20, RW, ANON).ok(), "large" => map(0, 2 << 30, RW, ANON), "brk" => k!(SYS_brk, k!(SYS_brk, 0).addr() + (2 << 30)).0 == k!(SYS_brk, 0).0);
}

/// The lines of the maps file that lie in a range, without addresses.
fn maps_in(from: usize, to: usize) -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let hex = |s: &str| usize::from_str_radix(s, 16).unwrap_or(0);
    text.lines()
        .filter_map(|l| {
            let (range, rest) = l.split_once(' ')?;
            let (a, b) = range.split_once('-')?;
            let (a, b) = (hex(a), hex(b));
            (a >= from && b <= to).then(|| {
                let w: Vec<_> = rest.split_whitespace().collect();
                format!(
                    "+{} {} {} {} {}",
                    (a - from) / PAGE,
                    (b - a) / PAGE,
                    w[0],
                    w[1],
                    w.get(4).unwrap_or(&"")
                )
            })
        })
        .collect()
}

fn maps_file(o: Out) {
    let a = anon(6 * PAGE);
    k!(SYS_mprotect, a + PAGE, PAGE, PROT_READ);
    k!(SYS_mprotect, a + 2 * PAGE, PAGE, PROT_NONE);
    map(a + 3 * PAGE, PAGE, PROT_READ | PROT_EXEC, ANON | MAP_FIXED);
    k!(SYS_munmap, a + 4 * PAGE, PAGE);
    k!(SYS_mprotect, a + 5 * PAGE, PAGE, PROT_READ);
    for l in maps_in(a, a + 6 * PAGE) {
        say!(o, "{l}");
    }
    let text = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for name in ["[heap]", "[stack]", "[vdso]"] {
        say!(
            o,
            "{name} {}",
            text.lines().filter(|l| l.ends_with(name)).count()
        );
    }
    let stack = text
        .lines()
        .find(|l| l.ends_with("[stack]"))
        .unwrap_or_default();
    say!(o, "{}", stack.split_whitespace().nth(1).unwrap_or_default());
}

fn maps_merge(o: Out) {
    let a = anon(6 * PAGE);
    k!(SYS_mprotect, a, 6 * PAGE, PROT_READ);
    k!(SYS_mprotect, a + 2 * PAGE, 2 * PAGE, PROT_READ | PROT_EXEC);
    say!(o, "{:?}", maps_in(a, a + 6 * PAGE));
}

fn lock_pages(o: Out) {
    let a = anon(3 * PAGE);
    tell!(o, "lock" => k!(SYS_mlock, a, PAGE), "unlock" => k!(SYS_munlock, a, PAGE), "unmapped" => k!(SYS_mlock, 0x1000usize, PAGE), "all" => k!(SYS_mlockall, 77), "sync" => k!(SYS_msync, a, PAGE, MS_SYNC), "sync both" => k!(SYS_msync, a, PAGE, MS_SYNC | MS_ASYNC),
        "sync unaligned" => k!(SYS_msync, a + 1, PAGE, MS_SYNC), "sync hole" => k!(SYS_msync, 0x1000usize, PAGE, MS_SYNC));
}

fn grows_down(o: Out) {
    fn deep(n: u32) -> u32 {
        let mut pad = [n as u8; 2048];
        std::hint::black_box(&mut pad);
        if n == 0 {
            u32::from(pad[5])
        } else {
            deep(n - 1) + u32::from(pad[100] > 0)
        }
    }
    tell!(o, "deep stack" => deep(1000), "overflow" => in_child(|| { deep(20_000_000); 0 }));
}

fn shared_anonymous_remap(o: Out) {
    let a = shared(2 * PAGE);
    poke(a, 12);
    let b = k!(SYS_mremap, a, 0, 2 * PAGE, MREMAP_MAYMOVE);
    tell!(o, "duplicate" => b.ok() && b.addr() != a, "same" => peek(b.addr()));
    poke(b.addr() + PAGE, 34);
    tell!(o, "both ways" => peek(a + PAGE));
}

fn write_only_memory(o: Out) {
    let a = map(0, PAGE, PROT_WRITE, ANON).addr();
    tell!(o, "write" => try_at(a, Access::Write), "read" => try_at(a, Access::Read), "call reads it" => k!(SYS_write, 2, a, 0));
}

fn many_mappings(o: Out) {
    let a = anon(2000 * PAGE);
    let mut ok = true;
    for i in (0..2000).step_by(2) {
        ok &= k!(SYS_mprotect, a + i * PAGE, PAGE, PROT_READ).ok();
        poke(a + (i + 1) * PAGE, 1);
    }
    tell!(o, "split" => ok, "pieces" => maps_in(a, a + 1990 * PAGE).len() > 1900, "child" => in_child(|| (0..2000).filter(|i| peek(a + i * PAGE) == 1).count() as i32 / 10), "join" => k!(SYS_mprotect, a, 2000 * PAGE, RW), "write" => try_at(a, Access::Write));
}

fn touch_many_pages(o: Out) {
    let n = 16 << 20;
    let a = anon(n);
    for i in (0..n).step_by(PAGE) {
        poke(a + i, (i / PAGE) as u8);
    }
    tell!(o, "kept" => (0..n).step_by(PAGE).all(|i| peek(a + i) == (i / PAGE) as u8), "backwards" => { let b = anon(n); (0..n).step_by(PAGE).rev().for_each(|i| poke(b + i, 1)); (0..n).step_by(PAGE).map(|i| usize::from(peek(b + i))).sum::<usize>() });
}

fn process_vm_copy(o: Out) {
    let a = anon(PAGE);
    sys::put(a, b"remote");
    let pid = k!(SYS_getpid).int();
    let mut buf = [0u8; 6];
    let local = iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: 6,
    };
    let remote = iovec {
        iov_base: a as *mut c_void,
        iov_len: 6,
    };
    tell!(o, "read" => k!(SYS_process_vm_readv, pid, &local, 1, &remote, 1, 0), "got" => crate::util::show(&buf), "flags" => k!(SYS_process_vm_readv, pid, &local, 1, &remote, 1, 1), "nobody" => k!(SYS_process_vm_readv, 999_999, &local, 1, &remote, 1, 0));
}
