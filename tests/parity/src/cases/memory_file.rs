//! Files in memory: private and shared mappings, ends of files.

use crate::out::Out;
use crate::sys::{Access, get, peek, poke, put, touch};
use crate::util::{PAGE, cat, close, in_child, map_file, mk, open, show, signal_name, stat_text};
use crate::{cases, k, say, sys, tell};
use libc::*;

cases!(
    private_file,
    private_write_stays_private,
    private_sees_later_writes,
    shared_file_writes_through,
    shared_between_processes,
    shared_two_mappings,
    file_offset,
    tail_of_page_is_zero,
    beyond_end_is_bus,
    truncate_under_mapping,
    grow_under_mapping,
    mapping_outlives_descriptor,
    mapping_outlives_name,
    read_only_file_shared,
    protect_shared_of_reader,
    map_directory_and_pipe,
    map_dev_zero,
    map_dev_zero_of_reader,
    map_memfd_shared,
    remap_file,
    unmap_part_of_file,
    read_into_own_mapping,
    msync_file,
    executable_file_mapping,
    advise_dontneed_private_file,
    fork_private_file,
    maps_names_file,
    fallocate_hole_under_mapping,
);

const RW: i32 = PROT_READ | PROT_WRITE;

fn file(pages: usize) -> i32 {
    let fd = open(c"f", O_CREAT | O_RDWR | O_TRUNC, 0o644).int();
    for i in 0..pages {
        crate::util::write(fd, &[b'a' + i as u8; PAGE]);
    }
    fd
}

fn text(addr: usize, len: usize) -> String {
    show(&get(addr, len))
}

fn try_at(addr: usize, access: Access) -> String {
    let f = touch(addr, access);
    if f.signal == 0 {
        "fine".into()
    } else {
        format!(
            "{} code {} at +{}",
            signal_name(f.signal),
            f.code,
            f.addr.wrapping_sub(addr)
        )
    }
}

fn private_file(o: Out) {
    let fd = file(3);
    let a = map_file(fd, 3 * PAGE, PROT_READ, MAP_PRIVATE, 0).addr();
    tell!(o, "first" => text(a, 2), "second" => text(a + PAGE - 1, 2), "third" => text(a + 3 * PAGE - 2, 2), "write" => try_at(a, Access::Write));
}

fn private_write_stays_private(o: Out) {
    let fd = file(2);
    let a = map_file(fd, 2 * PAGE, RW, MAP_PRIVATE, 0).addr();
    let b = map_file(fd, 2 * PAGE, PROT_READ, MAP_SHARED, 0).addr();
    poke(a + 1, b'Z');
    tell!(o, "mine" => text(a, 3), "file" => text(b, 3), "pread" => { let mut x = [0u8; 3]; k!(SYS_pread64, fd, &mut x, 3, 0); show(&x) });
}

fn private_sees_later_writes(o: Out) {
    let fd = file(2);
    let a = map_file(fd, 2 * PAGE, RW, MAP_PRIVATE, 0).addr();
    tell!(o, "before" => text(a, 2));
    k!(SYS_pwrite64, fd, b"NEW".as_slice(), 3, 0);
    tell!(o, "untouched page follows" => text(a, 3));
    poke(a, b'!');
    k!(SYS_pwrite64, fd, b"OLD".as_slice(), 3, 0);
    tell!(o, "broken page stays" => text(a, 3));
}

fn shared_file_writes_through(o: Out) {
    let fd = file(2);
    let a = map_file(fd, 2 * PAGE, RW, MAP_SHARED, 0).addr();
    put(a + 10, b"hello");
    let mut b = [0u8; 7];
    k!(SYS_pread64, fd, &mut b, 7, 9);
    tell!(o, "pread" => show(&b));
    k!(SYS_pwrite64, fd, b"world".as_slice(), 5, 20);
    tell!(o, "seen" => text(a + 19, 7));
}

fn shared_between_processes(o: Out) {
    let fd = file(1);
    let a = map_file(fd, PAGE, RW, MAP_SHARED, 0).addr();
    tell!(o, "child" => in_child(|| {
        let own = open(c"f", O_RDWR, 0).int();
        let b = map_file(own, PAGE, RW, MAP_SHARED, 0).addr();
        put(b, b"child");
        0
    }), "seen" => text(a, 6), "file" => show(&cat(c"f").as_bytes()[..7]));
}

fn shared_two_mappings(o: Out) {
    let fd = file(2);
    let a = map_file(fd, 2 * PAGE, RW, MAP_SHARED, 0).addr();
    let b = map_file(fd, PAGE, RW, MAP_SHARED, PAGE).addr();
    put(b, b"two");
    tell!(o, "alias" => text(a + PAGE, 4));
}

fn file_offset(o: Out) {
    let fd = file(3);
    let a = map_file(fd, PAGE, PROT_READ, MAP_PRIVATE, 2 * PAGE);
    tell!(o, "third" => text(a.addr(), 2), "unaligned" => map_file(fd, PAGE, PROT_READ, MAP_PRIVATE, 100), "beyond" => map_file(fd, PAGE, PROT_READ, MAP_PRIVATE, 100 * PAGE).ok());
}

fn tail_of_page_is_zero(o: Out) {
    mk(c"t", b"short");
    let fd = open(c"t", O_RDWR, 0).int();
    let a = map_file(fd, PAGE, RW, MAP_SHARED, 0).addr();
    tell!(o, "tail" => text(a, 8), "far" => peek(a + PAGE - 1));
    put(a + 5, b"XXX");
    tell!(o, "file unchanged" => cat(c"t"), "size" => stat_text(c"t", 0));
}

fn beyond_end_is_bus(o: Out) {
    let fd = file(1);
    for (name, flags) in [("shared", MAP_SHARED), ("private", MAP_PRIVATE)] {
        let a = map_file(fd, 3 * PAGE, RW, flags, 0).addr();
        say!(
            o,
            "{name} read {} write {} inside {}",
            try_at(a + PAGE, Access::Read),
            try_at(a + 2 * PAGE + 5, Access::Write),
            try_at(a + 5, Access::Read)
        );
        tell!(o, "as buffer" => k!(SYS_getcwd, a + PAGE, 100), "fatal" => in_child(|| { sys::set_handler(SIGBUS, SIG_DFL, 0); i32::from(peek(a + PAGE)) }));
    }
}

fn truncate_under_mapping(o: Out) {
    let fd = file(3);
    let a = map_file(fd, 3 * PAGE, RW, MAP_SHARED, 0).addr();
    let p = map_file(fd, 3 * PAGE, RW, MAP_PRIVATE, 0).addr();
    poke(p + 2 * PAGE, b'P');
    tell!(o, "before" => text(a + 2 * PAGE, 1), "truncate" => k!(SYS_ftruncate, fd, PAGE + 10), "gone" => try_at(a + 2 * PAGE, Access::Read), "zeroed tail" => text(a + PAGE + 8, 4), "private copy" => try_at(p + 2 * PAGE, Access::Read),
        "grow again" => k!(SYS_ftruncate, fd, 3 * PAGE), "zero" => text(a + 2 * PAGE, 2));
}

fn grow_under_mapping(o: Out) {
    let fd = file(1);
    let a = map_file(fd, 2 * PAGE, RW, MAP_SHARED, 0).addr();
    tell!(o, "before" => try_at(a + PAGE, Access::Read), "grow" => k!(SYS_ftruncate, fd, 2 * PAGE), "after" => try_at(a + PAGE, Access::Read), "zero" => peek(a + PAGE));
    k!(SYS_pwrite64, fd, b"q".as_slice(), 1, PAGE);
    tell!(o, "written" => text(a + PAGE, 1));
}

fn mapping_outlives_descriptor(o: Out) {
    let fd = file(1);
    let a = map_file(fd, PAGE, RW, MAP_SHARED, 0).addr();
    close(fd);
    put(a, b"late");
    tell!(o, "file" => show(&cat(c"f").as_bytes()[..6]));
}

fn mapping_outlives_name(o: Out) {
    let fd = file(1);
    let a = map_file(fd, PAGE, RW, MAP_SHARED, 0).addr();
    k!(SYS_unlink, c"f");
    close(fd);
    put(a, b"ghost");
    tell!(o, "still" => text(a, 6), "child" => in_child(|| i32::from(peek(a))));
}

fn read_only_file_shared(o: Out) {
    file(1);
    let fd = open(c"f", O_RDONLY, 0).int();
    tell!(o, "shared rw" => map_file(fd, PAGE, RW, MAP_SHARED, 0), "shared r" => map_file(fd, PAGE, PROT_READ, MAP_SHARED, 0).ok(), "private rw" => map_file(fd, PAGE, RW, MAP_PRIVATE, 0).ok());
}

fn protect_shared_of_reader(o: Out) {
    file(1);
    let fd = open(c"f", O_RDONLY, 0).int();
    let a = map_file(fd, PAGE, PROT_READ, MAP_SHARED, 0).addr();
    let p = map_file(fd, PAGE, PROT_READ, MAP_PRIVATE, 0).addr();
    tell!(o, "shared" => k!(SYS_mprotect, a, PAGE, RW), "private" => k!(SYS_mprotect, p, PAGE, RW), "write" => try_at(p, Access::Write));
}

fn map_directory_and_pipe(o: Out) {
    let d = open(c".", O_RDONLY, 0).int();
    let (r, _) = crate::util::pipe();
    tell!(o, "directory" => map_file(d, PAGE, PROT_READ, MAP_PRIVATE, 0), "pipe" => map_file(r, PAGE, PROT_READ, MAP_PRIVATE, 0), "null" => map_file(open(c"/dev/null", O_RDWR, 0).int(), PAGE, PROT_READ, MAP_PRIVATE, 0));
}

fn map_dev_zero(o: Out) {
    let z = open(c"/dev/zero", O_RDWR, 0).int();
    let p = map_file(z, PAGE, RW, MAP_PRIVATE, 0);
    let s = map_file(z, PAGE, RW, MAP_SHARED, 0);
    tell!(o, "private" => p.ok(), "zero" => peek(p.addr()), "shared" => s.ok(), "child" => in_child(|| { poke(s.addr(), 7); 0 }), "seen" => peek(s.addr()));
}

fn map_dev_zero_of_reader(o: Out) {
    let z = open(c"/dev/zero", O_RDONLY, 0).int();
    let protect = |addr: usize, prot: i32| k!(SYS_mprotect, addr, PAGE, prot);
    let s = map_file(z, PAGE, PROT_READ, MAP_SHARED, 0).addr();
    tell!(o, "writable at once" => map_file(z, PAGE, RW, MAP_SHARED, 0), "shared" => protect(s, RW), "executable" => protect(s, PROT_READ | PROT_EXEC), "store" => try_at(s, Access::Write).starts_with("SIGSEGV code 2"));
    let moved = k!(SYS_mremap, s, PAGE, 2 * PAGE, MREMAP_MAYMOVE).addr();
    tell!(o, "moved" => protect(moved, RW));
    let p = map_file(z, PAGE, PROT_READ, MAP_PRIVATE, 0).addr();
    tell!(o, "private" => protect(p, RW), "store" => try_at(p, Access::Write));
    let w = open(c"/dev/zero", O_WRONLY, 0).int();
    tell!(o, "of a writer" => map_file(w, PAGE, PROT_READ, MAP_SHARED, 0));
}

fn map_memfd_shared(o: Out) {
    let fd = k!(SYS_memfd_create, c"m", 0).int();
    k!(SYS_ftruncate, fd, 2 * PAGE);
    let a = map_file(fd, 2 * PAGE, RW, MAP_SHARED, 0).addr();
    put(a, b"mem");
    tell!(o, "read" => crate::util::read(fd, 3).1, "bus beyond" => { k!(SYS_ftruncate, fd, PAGE); try_at(a + PAGE, Access::Read) }, "child" => in_child(|| { poke(a, b'M'); 0 }), "seen" => text(a, 3));
}

fn remap_file(o: Out) {
    let fd = file(4);
    let a = map_file(fd, 2 * PAGE, PROT_READ, MAP_PRIVATE, PAGE).addr();
    let b = k!(SYS_mremap, a, 2 * PAGE, 3 * PAGE, MREMAP_MAYMOVE).addr();
    tell!(o, "first" => text(b, 1), "third" => text(b + 2 * PAGE, 1));
}

fn unmap_part_of_file(o: Out) {
    let fd = file(3);
    let a = map_file(fd, 3 * PAGE, PROT_READ, MAP_SHARED, 0).addr();
    k!(SYS_munmap, a, PAGE);
    tell!(o, "first" => try_at(a, Access::Read), "second" => text(a + PAGE, 1), "third" => text(a + 2 * PAGE, 1));
}

fn read_into_own_mapping(o: Out) {
    let fd = file(2);
    let a = map_file(fd, 2 * PAGE, RW, MAP_SHARED, 0).addr();
    tell!(o, "pread into itself" => k!(SYS_pread64, fd, a, 16, PAGE), "now" => text(a, 4), "pwrite from itself" => k!(SYS_pwrite64, fd, a + PAGE, 16, 100), "then" => text(a + 99, 4));
}

fn msync_file(o: Out) {
    let fd = file(1);
    let a = map_file(fd, PAGE, RW, MAP_SHARED, 0).addr();
    put(a, b"sync");
    tell!(o, "sync" => k!(SYS_msync, a, PAGE, MS_SYNC), "async" => k!(SYS_msync, a, PAGE, MS_ASYNC), "invalidate" => k!(SYS_msync, a, PAGE, MS_INVALIDATE), "bad" => k!(SYS_msync, a, PAGE, 99), "cat" => show(&cat(c"f").as_bytes()[..6]));
}

fn executable_file_mapping(o: Out) {
    mk(c"code", &[0xb8, 77, 0, 0, 0, 0xc3]);
    let fd = open(c"code", O_RDONLY, 0).int();
    let a = map_file(fd, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, 0);
    tell!(o, "map" => a.ok(), "run" => crate::sys::jump(a.addr()));
}

fn advise_dontneed_private_file(o: Out) {
    let fd = file(1);
    let a = map_file(fd, PAGE, RW, MAP_PRIVATE, 0).addr();
    poke(a, b'#');
    tell!(o, "changed" => text(a, 1), "advise" => k!(SYS_madvise, a, PAGE, MADV_DONTNEED), "from file again" => text(a, 1));
}

fn fork_private_file(o: Out) {
    let fd = file(2);
    let a = map_file(fd, 2 * PAGE, RW, MAP_PRIVATE, 0).addr();
    poke(a, b'1');
    tell!(o, "child" => in_child(|| {
        let ok = peek(a) == b'1' && peek(a + PAGE) == b'b';
        poke(a, b'2');
        poke(a + PAGE, b'3');
        i32::from(ok)
    }), "mine" => text(a, 1), "second" => text(a + PAGE, 1));
}

fn maps_names_file(o: Out) {
    let fd = file(2);
    let a = map_file(fd, PAGE, PROT_READ, MAP_SHARED, PAGE).addr();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let line = maps
        .lines()
        .find(|l| l.starts_with(&format!("{a:x}-")))
        .unwrap_or_default();
    let w: Vec<_> = line.split_whitespace().collect();
    if w.len() > 5 {
        say!(
            o,
            "{} {} {}",
            w[1],
            w[2],
            w[5].rsplit('/').next().unwrap_or_default()
        );
        tell!(o, "inode" => w[4] == crate::util::fstat(fd).st_ino.to_string());
    }
    k!(SYS_unlink, c"f");
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    tell!(o, "deleted" => maps.lines().any(|l| l.starts_with(&format!("{a:x}-")) && l.ends_with("(deleted)")));
}

fn fallocate_hole_under_mapping(o: Out) {
    let fd = file(3);
    let a = map_file(fd, 3 * PAGE, RW, MAP_SHARED, 0).addr();
    tell!(o, "before" => text(a + PAGE, 1), "punch" => k!(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE, PAGE), "after" => text(a + PAGE, 1), "beside" => text(a + 2 * PAGE, 1));
}
