//! Large pages and memory made ahead of its use, on the fake platform.

use crate::fake::Guest;
use crate::types::*;
use abi::libc;
use abi::page::PAGE_SIZE;
use hostmem::MemoryFile;
use platform_api::Op;

const P: u64 = PAGE_SIZE;
const RW: Prot = Prot::READ.union(Prot::WRITE);
const LARGE: u64 = 2 << 20;
/// An address at which a large page begins, and one at which none does.
const BASE: u64 = 0x4000_0000;
const ODD: u64 = BASE + 7 * P;

fn eager(at: u64, len: u64) -> Guest {
    let memory = MemoryFile::new().unwrap();
    let guest = Guest::eager(&memory);
    let request = MapRequest::anonymous(len, RW).fixed(at);
    guest.0.mmap(request, &MmLimits::default()).unwrap();
    guest
}

fn resident(g: &Guest, at: u64, len: u64) -> u64 {
    let pages = g.0.mincore(at, len, &auth::Creds::root()).unwrap();
    pages.iter().map(|page| u64::from(*page)).sum()
}

fn advise(g: &Guest, at: u64, len: u64, advice: i32) {
    g.0.madvise(at, len, advice).unwrap();
}

/// The stretches mapped since this was last asked: address, length, and offset in the file.
fn mapped(g: &Guest) -> Vec<(u64, u64, u64)> {
    let map = |op| match op {
        Op::Map {
            addr, len, backing, ..
        } => Some((addr, len, backing.offset)),
        _ => None,
    };
    g.ops().into_iter().filter_map(map).collect()
}

#[test]
fn large_pages_that_are_asked_for_are_there_as_a_whole() {
    let g = eager(ODD, 16 * LARGE);
    advise(&g, ODD, 16 * LARGE, libc::MADV_HUGEPAGE);
    let span = BASE + 3 * LARGE;
    g.store(span + 100 * P, 1).unwrap();
    assert_eq!(resident(&g, span, LARGE), 512);
    assert_eq!(resident(&g, ODD, 16 * LARGE), 512);
    let maps = mapped(&g);
    assert_eq!((maps[0].0, maps[0].1, maps[0].2 % LARGE), (span, LARGE, 0));
    // What is given back is gone, the rest is not.
    advise(&g, span + 5 * P, 3 * P, libc::MADV_DONTNEED);
    assert_eq!(resident(&g, span, LARGE), 509);
    assert_eq!(g.load(span + 100 * P), Ok(1));
    assert_eq!(g.load(span + 5 * P), Ok(0));
    // No room for a large one at the edge.
    g.store(ODD, 1).unwrap();
    assert_eq!(resident(&g, ODD, BASE + LARGE - ODD), 1);
    // The neighbour lies behind it in the file, so that both could be one.
    g.store(span + LARGE, 1).unwrap();
    assert_eq!(resident(&g, span + LARGE, LARGE), 512);
    let next = mapped(&g).into_iter().find(|m| m.0 == span + LARGE);
    assert_eq!(next, Some((span + LARGE, LARGE, maps[0].2 + LARGE)));
    g.check();
}

#[test]
fn without_advice_a_touch_makes_one_page() {
    for advice in [libc::MADV_NORMAL, libc::MADV_NOHUGEPAGE] {
        let g = eager(ODD, 16 * LARGE);
        advise(&g, ODD, 16 * LARGE, advice);
        for at in (0..16 * LARGE).step_by(LARGE as usize) {
            g.store(ODD + at, 1).unwrap();
        }
        assert_eq!(resident(&g, ODD, 16 * LARGE), 16);
        // All of it is aligned alike, whatever was touched first.
        for (addr, _, offset) in mapped(&g) {
            assert_eq!(addr % LARGE, offset % LARGE);
        }
        g.check();
    }
}

#[test]
fn what_is_used_in_order_is_made_ahead_as_long_as_it_is() {
    let g = eager(BASE, 32 * LARGE);
    let touch = |from: u64, to: u64| {
        let pages = (from..to).step_by(P as usize);
        pages.for_each(|at| g.store(BASE + at, 1).unwrap());
    };
    touch(0, LARGE);
    assert_eq!(resident(&g, BASE, 32 * LARGE), 512);
    // All but the last pages of the next.
    touch(LARGE, LARGE + P);
    assert_eq!(resident(&g, BASE, 32 * LARGE), 1024 - 16);
    touch(LARGE, 2 * LARGE + P);
    assert_eq!(resident(&g, BASE, 32 * LARGE), 3 * 512 - 16);
    // They are not touched: so it does not go on.
    g.store(BASE + 3 * LARGE, 1).unwrap();
    g.store(BASE + 3 * LARGE + 40 * LARGE / 64, 1).unwrap();
    assert_eq!(resident(&g, BASE, 32 * LARGE), 3 * 512 - 16 + 2);
    g.check();

    let g = eager(BASE, 32 * LARGE);
    advise(&g, BASE, 32 * LARGE, libc::MADV_NOHUGEPAGE);
    for at in (0..2 * LARGE + P).step_by(P as usize) {
        g.store(BASE + at, 1).unwrap();
    }
    assert_eq!(resident(&g, BASE, 32 * LARGE), 1025);
}

#[test]
fn populating_is_exact_and_maps() {
    let g = eager(ODD, 4 * LARGE);
    advise(&g, ODD + P, LARGE, libc::MADV_POPULATE_WRITE);
    assert_eq!(resident(&g, ODD, 4 * LARGE), 512);
    assert!(!mapped(&g).is_empty());
    g.store(ODD + 3 * P, 1).unwrap();
    assert!(mapped(&g).is_empty());
    g.check();
}

#[test]
fn copies_after_a_fork_take_what_was_there_and_no_more() {
    let g = eager(BASE, 8 * LARGE);
    advise(&g, BASE, 8 * LARGE, libc::MADV_HUGEPAGE);
    g.store(BASE, 1).unwrap();
    g.store(BASE + 5 * LARGE, 1).unwrap();
    advise(&g, BASE + 5 * LARGE + P, P, libc::MADV_DONTNEED);
    let child = g.fork();
    child.store(BASE + 9 * P, 2).unwrap();
    child.store(BASE + 5 * LARGE, 2).unwrap();
    for g in [&g, &child] {
        assert_eq!(resident(g, BASE, 8 * LARGE), 1023);
        g.check();
    }
    assert_eq!((g.load(BASE + 9 * P), child.load(BASE)), (Ok(0), Ok(1)));
}
