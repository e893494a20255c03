//! The tree alone, with processes that never run.

use super::*;
use crate::kernel::{CallTable, KernelConfig};
use crate::limits::Limits;
use crate::{Container, ContainerConfig, Kernel, Uts, UtsNamespace};
use platform_api::{AddressSpace, Context, Engine, PlatformError};
use signal::Actions;
use std::sync::Arc;
use vfs::nsfs::NamespaceId;

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
            NamespaceId::new(),
            auth::UserNamespace::default(),
        )),
        memory,
        memory_limit: 1 << 30,
        memory_cap: None,
        pids_limit: None,
        uts: Arc::new(UtsNamespace::new(
            Uts::default(),
            NamespaceId::new(),
            auth::UserNamespace::default(),
        )),
        network: crate::NetNamespace::new(NamespaceId::new(), auth::UserNamespace::default()),
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

    fn allocate(&mut self) -> Result<i32, Errno> {
        let space = self.kernel.pid_namespace();
        let pid = self.tree.allocate(space, space, &[], &|_| false);
        pid.map(|pid| pid.id())
    }

    fn add(&mut self, pid: i32, parent: i32, pgid: i32, sid: i32) {
        let space = self.kernel.pid_namespace().clone();
        let pid = Pid::new(space.space(), pid);
        self.add_named(pid, &space, parent, pgid, sid);
    }

    fn add_named(&mut self, pid: Pid, space: &Arc<PidNamespace>, parent: i32, pgid: i32, sid: i32) {
        let actions = Arc::new(Actions::default());
        let named = (pid, space);
        let limits = Limits::default();
        let group = ThreadGroup::new(&self.kernel, &self.container, named, actions, limits);
        self.tree.insert(group, parent, parent, pgid, sid, 17);
    }

    /// A process in `space`; its id.
    fn add_inside(&mut self, space: &Arc<PidNamespace>, parent: i32) -> i32 {
        let outermost = self.kernel.pid_namespace();
        let pid = self
            .tree
            .allocate(outermost, space, &[], &|_| false)
            .unwrap();
        let id = pid.id();
        self.add_named(pid, space, parent, 1, 1);
        if space.numbers().init.is_none() {
            space.numbers().init = Some(id);
        }
        id
    }
}

#[test]
fn pids_in_use_by_groups_and_sessions_are_not_given_out() {
    let mut w = World::new();
    w.add(2, 1, 2, 2);
    w.add(4, 2, 2, 2);
    assert!(w.tree.remove(2).is_some());
    // 2 is still a process group and a session.
    assert_eq!(w.allocate(), Ok(3));
    assert_eq!(w.allocate(), Ok(5));
    assert!(w.tree.remove(4).is_some());
    assert!(!w.tree.groups.contains_key(&2));
    assert!(!w.tree.sessions.contains_key(&2));
    w.tree.closed = true;
    assert_eq!(w.allocate(), Err(Errno::ENOMEM));
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

#[test]
fn numbers_inside_are_kept_by_groups_and_given_back_at_last() {
    let mut w = World::new();
    let space =
        PidNamespace::nested(w.kernel.pid_namespace(), &auth::UserNamespace::default(), 0).unwrap();
    let first = w.add_inside(&space, 1);
    let second = w.add_inside(&space, first);
    let third = w.add_inside(&space, second);
    assert_eq!(w.tree.number_in(&space, third), 3);
    assert_eq!(
        (w.tree.id_in(&space, 2), w.tree.id_in(&space, 4)),
        (second, 0)
    );
    // Those outside have no number there.
    assert_eq!(w.tree.number_in(&space, 1), 0);
    w.tree.set_group(second, second);
    w.tree.set_group(third, second);
    assert!(w.tree.remove(second).is_some());
    assert_eq!(w.tree.id_in(&space, 2), second);
    assert!(w.tree.remove(third).is_some());
    assert_eq!((w.tree.id_in(&space, 2), w.tree.id_in(&space, 3)), (0, 0));
    assert!(w.tree.remove(first).is_some());
    assert!(w.tree.nested.is_empty());
    // With the first, it has ended.
    let outermost = w.kernel.pid_namespace();
    let next = w.tree.allocate(outermost, &space, &[], &|_| false);
    assert_eq!(next.map(|pid| pid.id()), Err(Errno::ENOMEM));
}

#[test]
fn orphans_stay_in_their_namespace() {
    let mut w = World::new();
    w.tree.nodes[&1].group.set_subreaper(true);
    let space =
        PidNamespace::nested(w.kernel.pid_namespace(), &auth::UserNamespace::default(), 0).unwrap();
    let first = w.add_inside(&space, 1);
    let second = w.add_inside(&space, first);
    let third = w.add_inside(&space, second);
    assert_eq!(w.tree.reaper(third), first);
    assert_eq!(w.tree.reaper(second), first);
    // One whose parent is outside goes to those outside.
    assert_eq!(w.tree.reaper(1), 1);
}
