//! The tree alone, with processes that never run.

use super::*;
use crate::kernel::{CallTable, KernelConfig};
use crate::limits::Limits;
use crate::{Container, ContainerConfig, Kernel, Uts, UtsNamespace};
use platform_api::{AddressSpace, Context, Engine, PlatformError};
use signal::Actions;
use std::sync::Arc;

/// A platform that can do nothing.
struct Nothing;

fn refuse<T>() -> Result<T, PlatformError> {
    Err(PlatformError {
        what: "test".into(),
        answer: "no".into(),
        remedy: "none".into(),
        errno: None,
    })
}

impl Engine for Nothing {
    fn limits(&self) -> platform_api::Limits {
        platform_api::Limits {
            lowest: 0x10000,
            highest: 1 << 46,
            holes: Vec::new(),
            populates: false,
        }
    }
    fn new_space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        refuse()
    }
    fn new_context(&self) -> Result<Box<dyn Context>, PlatformError> {
        refuse()
    }
}

fn kernel() -> (Arc<Kernel>, Arc<Container>) {
    let memory = hostmem::MemoryFile::new().unwrap();
    let clocks = Arc::new(time::Clocks::new());
    let kernel = Kernel::new(KernelConfig {
        engine: Arc::new(Nothing),
        memory: memory.clone(),
        futexes: Arc::new(futex::Table::new()),
        clocks: clocks.clone(),
        timers: time::TimerQueue::new(),
        calls: CallTable::EMPTY,
        tracer: None,
        cpus: 1,
        possible_cpus: 1,
    })
    .unwrap();
    let config = ContainerConfig {
        ipc: Arc::new(ipc::Ipc::new(
            &memory,
            &clocks,
            auth::UserNamespace::default(),
        )),
        memory,
        memory_limit: 1 << 30,
        memory_cap: None,
        pids_limit: None,
        uts: Arc::new(UtsNamespace::new(
            Uts::default(),
            auth::UserNamespace::default(),
        )),
        network: vfs::nsfs::NamespaceId::new().get(),
        devices: vfs::DeviceRegistry::new(),
    };
    let container = Container::new(&kernel, config);
    (kernel, container)
}

struct World {
    kernel: Arc<Kernel>,
    container: Arc<Container>,
    tree: Tree,
}

impl World {
    fn new() -> World {
        let (kernel, container) = kernel();
        let mut w = World {
            kernel,
            container,
            tree: Tree::default(),
        };
        w.add(1, 0, 1, 1);
        w
    }

    fn add(&mut self, pid: i32, parent: i32, pgid: i32, sid: i32) {
        let group = ThreadGroup::new(
            &self.kernel,
            &self.container,
            pid,
            Arc::new(Actions::default()),
            Limits::default(),
        );
        self.tree.insert(group, parent, parent, pgid, sid, 17);
    }
}

#[test]
fn pids_in_use_by_groups_and_sessions_are_not_given_out() {
    let mut w = World::new();
    w.add(2, 1, 2, 2);
    w.add(4, 2, 2, 2);
    assert!(w.tree.remove(2).is_some());
    // 2 is still a process group and a session.
    assert_eq!(w.tree.allocate(), Ok(3));
    assert_eq!(w.tree.allocate(), Ok(5));
    assert!(w.tree.remove(4).is_some());
    assert!(!w.tree.groups.contains_key(&2));
    assert!(!w.tree.sessions.contains_key(&2));
    w.tree.closed = true;
    assert_eq!(w.tree.allocate(), Err(Errno::ENOMEM));
}

#[test]
fn a_group_is_orphaned_when_no_parent_of_its_session_is_outside() {
    let mut w = World::new();
    // A shell that leads a session, a job of two processes.
    w.add(2, 1, 2, 2);
    w.add(3, 2, 3, 2);
    w.add(4, 3, 3, 2);
    assert!(w.tree.is_orphaned(2, 0));
    assert!(!w.tree.is_orphaned(3, 0));
    // Were 3 to go, 4 would be init's child.
    assert!(w.tree.is_orphaned(3, 3));
    // A shell that is process 1 holds its jobs all the same.
    w.add(5, 1, 5, 1);
    assert!(!w.tree.is_orphaned(5, 0));
}

#[test]
fn a_new_session_leaves_group_and_session() {
    let mut w = World::new();
    w.add(2, 1, 1, 1);
    assert!(w.tree.new_session(2).is_none());
    let n = &w.tree.nodes[&2];
    assert_eq!((n.pgid, n.sid), (2, 2));
    assert_eq!(w.tree.sessions[&1].members, 1);
    assert_eq!(w.tree.groups[&2].sid, 2);
    assert_eq!(w.tree.members(1).len(), 1);
}

#[test]
fn orphans_go_to_the_nearest_subreaper() {
    let mut w = World::new();
    w.add(2, 1, 1, 1);
    w.add(3, 2, 1, 1);
    w.add(4, 3, 1, 1);
    assert_eq!(w.tree.reaper(4), 1);
    w.tree.nodes[&2].group.set_subreaper(true);
    assert_eq!(w.tree.reaper(4), 2);
    assert_eq!(w.tree.reaper(2), 1);
}
