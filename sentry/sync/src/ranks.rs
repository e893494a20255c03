//! The one list of lock ranks, outermost first.
//!
//! To add a lock, put its name between the locks it is taken under and the locks taken under it.

/// A place in the order of locks.
pub trait Rank {
    /// Higher is taken later.
    const RANK: u32;
    /// For the panic message.
    const NAME: &'static str;
}

macro_rules! ranks {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        #[derive(Clone, Copy)]
        enum Order { $($name,)* }
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub enum $name {}
            impl Rank for $name {
                const RANK: u32 = Order::$name as u32;
                const NAME: &'static str = stringify!($name);
            }
        )*
    };
}

ranks! {
    /// Boot and control state of a sandbox.
    Control,
    /// Position of an open file (`f_pos`): held while the file does its part, which may be
    /// anything (reading /proc/mounts takes the mount table).
    FilePosition,
    /// The rename lock of a filesystem: topology changes across directories.
    Rename,
    /// Flags and options of a mounted file system: held while it takes others.
    SuperBlock,
    /// Mount tree of a mount namespace.
    Mounts,
    /// One directory's children (taken nested, parent before child).
    Directory,
    /// Which epolls contain which: held while one epoll is put into another.
    EpollTopology,
    /// Epoll instance (taken nested, outer before inner).
    Epoll,
    /// The host's end of a terminal: held while bytes go from the terminal to the host.
    TerminalHost,
    /// Terminal pair.
    Terminal,
    /// Unix sockets: the bound-name table.
    SocketNames,
    /// Sockets that are on the way in others: held while their inboxes are looked through.
    Flight,
    /// Unix socket (taken nested by number).
    Socket,
    /// Pipe buffer.
    Pipe,
    /// A file's byte-range and flock locks.
    FileLocks,
    /// Appending to one file, one at a time (guest memory is read under it).
    Append,
    /// Taking events out of a ring of asynchronous I/O (guest memory is written under it).
    AioReaders,
    /// Upper/lower state of an overlay inode.
    Overlay,
    /// Data of one regular file or directory inode.
    Inode,
    /// Task tree: parents, children, thread groups, sessions, pid tables.
    TaskTree,
    /// One thread group's shared signal state.
    ThreadGroup,
    /// Who is called what in a nested PID namespace.
    PidNumbers,
    /// One task's own state.
    Task,
    /// What is kept of a task because it is traced.
    Tracee,
    /// Pending signals of a task or group.
    Signals,
    /// Signal actions of a process.
    Actions,
    /// File descriptor table.
    Fds,
    /// Filesystem context: cwd, root, umask.
    FsContext,
    /// Futex bucket: the word is looked at under it.
    Futex,
    /// The copying of a private file page in an address space, one at a time.
    MmCopy,
    /// Address space: vmas and extents.
    Mm,
    /// Weak back references from a mappable to spaces.
    Mappings,
    /// Dentry cache.
    DentryCache,
    /// Timer queue.
    Timers,
    /// The mounts of a namespace: where each stands is looked at under it.
    MountTable,
    /// A small lock that guards plain data and under which nothing but a wait queue or a
    /// frame allocator is ever taken.
    Leaf,
    /// Connection to the gofer.
    Gofer,
    /// Wait queue (taken nested: an epoll's own queue is told from a file's).
    WaitQueue,
    /// Epoll ready list: filled by what a wait queue notifies.
    EpollReady,
    /// What is under way in a context of asynchronous I/O, and its ring: completed by what a wait
    /// queue notifies.
    AioRing,
    /// The count of an eventfd: raised by such a completion.
    EventCount,
    /// Host frame allocator.
    Frames,
}
