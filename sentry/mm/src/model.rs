//! Random sequences of calls and accesses, against a model that knows pages and nothing else.

use crate::RemapFlags;
use crate::fake::{FakeFile, Guest};
use crate::types::*;
use abi::page::PAGE_SIZE;
use abi::{Errno, libc};
use ctx::UserMemory;
use hostmem::MemoryFile;
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

const P: u64 = PAGE_SIZE;
const BASE: u64 = 0x3000_0000;
/// Three chunks of copying and a bit.
const PAGES: u64 = 56;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Private,
    Shared,
    HostPrivate,
    HostShared,
    FramesPrivate,
    FramesShared,
}

#[derive(Clone, Debug)]
enum Action {
    Map(u64, u64, u8, Kind),
    Unmap(u64, u64),
    Protect(u64, u64, u8),
    Move(u64, u64, u64),
    Discard(u64, u64),
    Store(u64, u8),
    Load(u64),
    Write(u64, u64, u8),
    Read(u64),
    Fork,
    Exit(usize),
    Switch(usize),
}

#[derive(Clone)]
struct Page {
    prot: Prot,
    shared: bool,

    value: Rc<Cell<u8>>,
    /// What a private page falls back to when it is discarded.
    original: u8,
}

#[derive(Default)]
struct Process(BTreeMap<u64, Page>);

impl Process {
    fn fork(&self) -> Process {
        let copy = |p: &Page| {
            let mut p = p.clone();
            if !p.shared {
                p.value = Rc::new(Cell::new(p.value.get()));
            }
            p
        };
        Process(self.0.iter().map(|(at, p)| (*at, copy(p))).collect())
    }
}

fn prot(bits: u8) -> Prot {
    match bits % 4 {
        0 => Prot::empty(),
        1 => Prot::READ,
        _ => Prot::READ | Prot::WRITE,
    }
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let at = || 0..PAGES;
    let len = || prop_oneof![1..4u64, 1..40u64];
    let kind = prop_oneof![
        4 => Just(Kind::Private),
        1 => Just(Kind::Shared),
        2 => Just(Kind::HostPrivate),
        1 => Just(Kind::HostShared),
        2 => Just(Kind::FramesPrivate),
        1 => Just(Kind::FramesShared),
    ];
    let action = prop_oneof![
        4 => (at(), len(), any::<u8>(), kind).prop_map(|(a, l, p, k)| Action::Map(a, l, p, k)),
        1 => (at(), len()).prop_map(|(a, l)| Action::Unmap(a, l)),
        2 => (at(), len(), any::<u8>()).prop_map(|(a, l, p)| Action::Protect(a, l, p)),
        1 => (at(), len(), at()).prop_map(|(a, l, t)| Action::Move(a, l, t)),
        1 => (at(), len()).prop_map(|(a, l)| Action::Discard(a, l)),
        6 => (at(), any::<u8>()).prop_map(|(a, v)| Action::Store(a, v)),
        4 => at().prop_map(Action::Load),
        3 => (at(), 1..20u64, any::<u8>()).prop_map(|(a, l, v)| Action::Write(a, l, v)),
        2 => at().prop_map(Action::Read),
        1 => Just(Action::Fork),
        1 => (0..4usize).prop_map(Action::Exit),
        2 => (0..4usize).prop_map(Action::Switch),
    ];
    proptest::collection::vec(action, 1..80)
}

struct World {
    memory: Arc<MemoryFile>,
    files: [Arc<FakeFile>; 4],
    /// The values of the two files that are mapped shared.
    contents: [Vec<Rc<Cell<u8>>>; 2],
    processes: Vec<(Guest, Process)>,
    current: usize,
}

impl World {
    fn new() -> World {
        let memory = MemoryFile::new().unwrap();
        let files = [
            FakeFile::on_host(PAGES, true),
            FakeFile::in_frames(&memory, PAGES),
            FakeFile::on_host(PAGES, true),
            FakeFile::in_frames(&memory, PAGES),
        ];
        let contents = || {
            (0..PAGES)
                .map(|i| Rc::new(Cell::new(i as u8 + 1)))
                .collect()
        };
        let processes = vec![(Guest::new(&memory), Process::default())];
        World {
            memory,
            files,
            contents: [contents(), contents()],
            processes,
            current: 0,
        }
    }

    fn run(&mut self, action: &Action) {
        let limits = MmLimits::default();
        let clip = |at: u64, len: u64| len.min(PAGES - at);
        let count = self.processes.len();
        let (guest, model) = &mut self.processes[self.current];
        let addr = |page: u64| BASE + page * P;
        match *action {
            Action::Map(at, len, bits, kind) => {
                let len = clip(at, len);
                let prot = prot(bits);
                let mut req = MapRequest::anonymous(len * P, prot).fixed(addr(at));
                let shared = matches!(kind, Kind::Shared | Kind::HostShared | Kind::FramesShared);
                req.flags.set(MapFlags::SHARED, shared);
                let file = match kind {
                    Kind::Private | Kind::Shared => None,
                    Kind::HostPrivate => Some(0),
                    Kind::FramesPrivate => Some(1),
                    Kind::HostShared => Some(2),
                    Kind::FramesShared => Some(3),
                };
                req.file = file.and_then(|f| self.files[f].map(at));
                guest.0.mmap(req, &limits).unwrap();
                for page in at..at + len {
                    let original = if file.is_some() { page as u8 + 1 } else { 0 };
                    let value = match file {
                        Some(f @ 2..) => self.contents[f - 2][page as usize].clone(),
                        _ => Rc::new(Cell::new(original)),
                    };
                    model.0.insert(
                        page,
                        Page {
                            prot,
                            shared,
                            value,
                            original,
                        },
                    );
                }
            }
            Action::Unmap(at, len) => {
                let len = clip(at, len);
                guest.0.munmap(addr(at), len * P).unwrap();
                model.0.retain(|p, _| *p < at || *p >= at + len);
            }
            Action::Protect(at, len, bits) => {
                let len = clip(at, len);
                let r = guest
                    .0
                    .mprotect(addr(at), len * P, prot(bits), false, &limits);
                let mut expected = Ok(());
                for page in at..at + len {
                    match model.0.get_mut(&page) {
                        Some(p) => p.prot = prot(bits),
                        None => {
                            expected = Err(Errno::ENOMEM);
                            break;
                        }
                    }
                }
                assert_eq!(r, expected);
            }
            Action::Move(at, len, to) => {
                let len = clip(at, len).min(PAGES - to);
                let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
                let r = guest
                    .0
                    .mremap(addr(at), len * P, len * P, flags, addr(to), &limits);
                match r {
                    Ok(_) => {
                        // Holes are not moved: what is at their new place stays.
                        for (old, new) in (at..at + len).zip(to..) {
                            if let Some(page) = model.0.remove(&old) {
                                model.0.insert(new, page);
                            }
                        }
                    }
                    // Overlap, or nothing at the start: nothing has happened.
                    Err(e) => assert!(e == Errno::EINVAL || e == Errno::EFAULT),
                }
            }
            Action::Discard(at, len) => {
                let len = clip(at, len);
                let r = guest.0.madvise(addr(at), len * P, libc::MADV_DONTNEED);
                let pages = model.0.range(at..at + len);
                assert_eq!(r.is_ok(), pages.clone().count() as u64 == len);
                for (_, p) in pages.filter(|(_, p)| !p.shared) {
                    p.value.set(p.original);
                }
            }
            Action::Store(at, value) => {
                let r = guest.store(addr(at) + 17, value);
                match model.0.get(&at) {
                    None => assert_eq!(r.unwrap_err().code, SEGV_MAPERR),
                    Some(p) if !p.prot.contains(Prot::WRITE) => {
                        assert_eq!(r.unwrap_err().code, SEGV_ACCERR);
                    }
                    Some(p) => {
                        r.unwrap();
                        p.value.set(value);
                    }
                }
            }
            Action::Load(at) => {
                let r = guest.load(addr(at) + 17);
                match model.0.get(&at) {
                    None => assert_eq!(r.unwrap_err().code, SEGV_MAPERR),
                    Some(p) if p.prot.is_empty() => {
                        assert_eq!(r.unwrap_err().code, SEGV_ACCERR);
                    }
                    Some(p) => assert_eq!(r.unwrap(), p.value.get()),
                }
            }
            Action::Write(at, len, value) => {
                let len = clip(at, len);
                let n = guest
                    .0
                    .write_some(addr(at), &vec![value; (len * P) as usize]);
                let mut done = 0;
                for page in at..at + len {
                    match model.0.get(&page) {
                        Some(p) if p.prot.contains(Prot::WRITE) => p.value.set(value),
                        _ => break,
                    }
                    done += P as usize;
                }
                assert_eq!(
                    n,
                    if done == 0 {
                        Err(Errno::EFAULT)
                    } else {
                        Ok(done)
                    }
                );
            }
            Action::Read(at) => {
                let mut buf = vec![0; ((PAGES - at) * P) as usize];
                let n = guest.0.read_some(addr(at), &mut buf).unwrap_or(0);
                let mut done = 0;
                for page in at..PAGES {
                    match model.0.get(&page) {
                        Some(p) if !p.prot.is_empty() => {
                            assert_eq!(buf[done + 17], p.value.get(), "page {page}");
                        }
                        _ => break,
                    }
                    done += P as usize;
                }
                assert_eq!(n, done);
            }
            Action::Fork => {
                if count < 4 {
                    let pair = (guest.fork(), model.fork());
                    self.processes.push(pair);
                }
            }
            Action::Exit(which) => {
                if self.processes.len() > 1 {
                    let which = which % self.processes.len();
                    self.processes.remove(which).0.0.destroy();
                    self.current = 0;
                }
            }
            Action::Switch(to) => self.current = to % self.processes.len(),
        }
    }

    fn check(&self) {
        for (guest, model) in &self.processes {
            guest.check();
            let told: BTreeMap<u64, (Prot, bool)> = guest
                .0
                .maps()
                .iter()
                .flat_map(|m| {
                    let pages = (m.range.start - BASE) / P..(m.range.end - BASE) / P;
                    pages.map(|p| (p, (m.prot, m.shared)))
                })
                .collect();
            let expected = model
                .0
                .iter()
                .map(|(p, page)| (*p, (page.prot, page.shared)));
            assert_eq!(told, expected.collect());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn pages_are_what_the_model_says(actions in actions()) {
        let mut world = World::new();
        for action in &actions {
            world.run(action);
            world.check();
        }
        // Everything once more, as each process sees it.
        for current in 0..world.processes.len() {
            world.current = current;
            for page in 0..PAGES {
                world.run(&Action::Load(page));
            }
        }
        for (guest, _) in world.processes.drain(..) {
            guest.0.destroy();
        }
        prop_assert!(world.files.iter().all(|f| !f.is_mapped()));
        // All that is left are the two files in frames.
        prop_assert!(world.memory.usage() <= 2 * PAGES * P);
    }
}
