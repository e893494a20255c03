//! File systems that are set up and changed by descriptors: fsopen(2), fsconfig(2), fsmount(2),
//! fspick(2).

use crate::event_fds::insert;
use crate::fs_params::Value;
use crate::fs_setup::{Setup, check_revealing};
use crate::mount::may_mount;
use crate::mount_trees::{Where, attributes, give_tree};
use crate::services::Services;
use crate::user::{Args, file, path_at};
use abi::Errno;
use ctx::{Ctx, Dst, SysResult};
use std::any::Any;
use std::sync::Arc;
use sync::{Mutex, ranks};
use task::TaskCx;
use vfs::{File, FileOps, FsCtx, Mount, MountFlags, OpenFlags, SuperBlock, SuperFlags};

const CLOEXEC: u64 = 1;
/// Bytes of a key, and of a value, with their NUL.
const TEXT_MAX: usize = 256;

/// A file system on its way.
struct FsContext {
    state: Mutex<State, ranks::Leaf>,
}

struct State {
    setup: Setup,
    phase: Phase,
    /// What was made, until it is mounted.
    made: Option<Arc<Mount>>,
    /// What was made or picked.
    superblock: Option<Arc<SuperBlock>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It takes parameters.
    New,
    /// There is a file system, to be mounted.
    Made,
    /// It takes parameters to be changed.
    Changing,
    /// Something went wrong.
    Failed,
}

impl FsContext {
    fn open(cx: &TaskCx, state: State, cloexec: bool) -> SysResult<u64> {
        let context = FsContext {
            state: Mutex::new(state),
        };
        let file = File::anonymous(cx, Arc::new(context), OpenFlags::RDWR);
        insert(cx, file, cloexec)
    }
}

impl FileOps for FsContext {
    fn seekable(&self) -> bool {
        false
    }

    /// The oldest message.
    fn read(&self, _cx: &dyn Ctx, _file: &File, _offset: u64, dst: &mut Dst<'_>) -> SysResult {
        let message = {
            let mut state = self.state.lock();
            let message = state.setup.message().ok_or(Errno::ENODATA)?.clone();
            if message.len() > dst.remaining() {
                return Err(Errno::EMSGSIZE.into());
            }
            state.setup.message_read();
            message
        };
        Ok(dst.put(message.as_bytes())?)
    }

    fn takes_writes(&self) -> bool {
        false
    }

    fn anonymous_name(&self) -> Option<Vec<u8>> {
        Some(b"anon_inode:[fscontext]".to_vec())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn text(cx: &TaskCx, addr: u64, max: usize) -> Result<Vec<u8>, Errno> {
    cx.memory().read_cstr(addr, max - 1)?.ok_or(Errno::EINVAL)
}

pub(crate) fn fsopen(cx: &mut TaskCx, &[name, flags, ..]: &Args) -> SysResult<u64> {
    may_mount(cx)?;
    let flags = u64::from(flags as u32);
    if flags & !CLOEXEC != 0 {
        return Err(Errno::EINVAL.into());
    }
    let name = text(cx, name, abi::page::PAGE_SIZE as usize)?;
    let kind = Services::of(cx).filesystem(&name).ok_or(Errno::ENODEV)?;
    let name = String::from_utf8_lossy(&name);
    let state = State {
        setup: Setup::new(cx, &name, Some(kind), SuperFlags::empty()),
        phase: Phase::New,
        made: None,
        superblock: None,
    };
    FsContext::open(cx, state, flags & CLOEXEC != 0)
}

pub(crate) fn fspick(cx: &mut TaskCx, &[dirfd, path, flags, ..]: &Args) -> SysResult<u64> {
    const NOFOLLOW: u64 = 2;
    const NO_AUTOMOUNT: u64 = 4;
    const EMPTY_PATH: u64 = 8;
    may_mount(cx)?;
    let flags = u64::from(flags as u32);
    if flags & !(CLOEXEC | NOFOLLOW | NO_AUTOMOUNT | EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let at = Where {
        dirfd,
        path,
        follow: flags & NOFOLLOW == 0,
        empty: flags & EMPTY_PATH != 0,
    };
    let at = at.find(cx)?;
    if !at.is_mount_root() {
        return Err(Errno::EINVAL.into());
    }
    let superblock = at.mount.superblock();
    let kind = Services::of(cx).filesystem(superblock.fstype().as_bytes());
    let state = State {
        setup: Setup::new(cx, superblock.fstype(), kind, SuperFlags::empty()),
        phase: Phase::Changing,
        made: None,
        superblock: Some(superblock.clone()),
    };
    FsContext::open(cx, state, flags & CLOEXEC != 0)
}

/// What fsconfig(2) is asked for.
enum Command {
    Flag,
    Text,
    Bytes,
    Place { empty: bool },
    File,
    Create,
    Change,
}

/// The command, with what goes with it looked at.
fn command(cmd: u32, key: u64, value: u64, aux: i32) -> Result<Command, Errno> {
    let place = key != 0 && value != 0 && (aux == abi::libc::AT_FDCWD || aux >= 0);
    let alone = key == 0 && value == 0 && aux == 0;
    let (command, fits) = match cmd {
        0 => (Command::Flag, key != 0 && value == 0 && aux == 0),
        1 => (Command::Text, key != 0 && value != 0 && aux == 0),
        2 => {
            let size = (1..=1 << 20).contains(&aux);
            (Command::Bytes, key != 0 && value != 0 && size)
        }
        3 => (Command::Place { empty: false }, place),
        4 => (Command::Place { empty: true }, place),
        5 => (Command::File, key != 0 && value == 0 && aux >= 0),
        // Every file system here is made anew, also where nobody insists on it.
        6 | 8 => (Command::Create, alone),
        7 => (Command::Change, alone),
        _ => return Err(Errno::EOPNOTSUPP),
    };
    if fits {
        Ok(command)
    } else {
        Err(Errno::EINVAL)
    }
}

pub(crate) fn fsconfig(cx: &mut TaskCx, &[fd, cmd, key, value, aux, _]: &Args) -> SysResult<u64> {
    if (fd as i32) < 0 {
        return Err(Errno::EINVAL.into());
    }
    let command = command(cmd as u32, key, value, aux as i32)?;
    let file = file(cx, fd)?;
    let context: &FsContext = file.ops_as().ok_or(Errno::EINVAL)?;
    let name = match key {
        0 => Vec::new(),
        key => text(cx, key, TEXT_MAX)?,
    };
    let value = match command {
        Command::Flag => Value::Flag,
        Command::Text => Value::Text(text(cx, value, TEXT_MAX)?),
        Command::Bytes => {
            let mut bytes = vec![0; aux as usize];
            cx.memory().read(value, &mut bytes)?;
            Value::Other
        }
        Command::Place { empty } => {
            let (_, path) = path_at(cx, aux, value)?;
            if path.is_empty() && !empty {
                return Err(Errno::ENOENT.into());
            }
            Value::Other
        }
        Command::File => {
            cx.fd_table().get_path_ok(aux as i32)?;
            Value::Other
        }
        Command::Create => {
            context.create(cx)?;
            return Ok(0);
        }
        Command::Change => {
            context.change(cx)?;
            return Ok(0);
        }
    };
    let mut state = context.state.lock();
    match state.phase {
        Phase::New | Phase::Changing => state.setup.set(&name, value)?,
        Phase::Made | Phase::Failed => return Err(Errno::EBUSY.into()),
    }
    Ok(0)
}

impl FsContext {
    /// Takes what was set up, for a step that leaves `then` behind, or `Failed` where it is not
    /// come back to.
    fn take(&self, cx: &TaskCx, phase: Phase) -> Result<Setup, Errno> {
        let mut state = self.state.lock();
        if state.phase != phase {
            return Err(Errno::EBUSY);
        }
        state.phase = Phase::Failed;
        let empty = Setup::new(cx, "", None, SuperFlags::empty());
        Ok(std::mem::replace(&mut state.setup, empty))
    }

    fn create(&self, cx: &TaskCx) -> Result<(), Errno> {
        let phase = self.state.lock().phase;
        if phase != Phase::New {
            return Err(Errno::EBUSY);
        }
        may_mount(cx)?;
        let setup = self.take(cx, Phase::New)?;
        let made = setup.mount(cx, MountFlags::empty());
        let mut state = self.state.lock();
        state.setup = setup;
        let made = made?;
        state.superblock = Some(made.superblock().clone());
        state.made = Some(made);
        state.phase = Phase::Made;
        Ok(())
    }

    fn change(&self, cx: &TaskCx) -> Result<(), Errno> {
        let setup = self.take(cx, Phase::Changing)?;
        let superblock = self.state.lock().superblock.clone();
        let changed = may_mount(cx).and_then(|()| {
            let superblock = superblock.ok_or(Errno::EINVAL)?;
            setup.change(cx, &superblock, SuperFlags::empty())
        });
        let mut state = self.state.lock();
        state.setup = setup;
        changed?;
        state.setup.clear();
        state.phase = Phase::Changing;
        Ok(())
    }
}

pub(crate) fn fsmount(cx: &mut TaskCx, &[fd, flags, attrs, ..]: &Args) -> SysResult<u64> {
    may_mount(cx)?;
    let flags = u64::from(flags as u32);
    if flags & !CLOEXEC != 0 {
        return Err(Errno::EINVAL.into());
    }
    let how = attributes(u64::from(attrs as u32))?;
    let file = file(cx, fd)?;
    let context: &FsContext = file.ops_as().ok_or(Errno::EINVAL)?;
    let mount = {
        let mut state = context.state.lock();
        if state.superblock.is_none() {
            return Err(Errno::EINVAL.into());
        }
        if state.phase != Phase::Made {
            return Err(Errno::EBUSY.into());
        }
        // From now on it is changed as by fspick(2).
        state.phase = Phase::Changing;
        state.setup.clear();
        state.made.take()
    };
    let mount = mount.ok_or(Errno::EBUSY)?;
    check_revealing(cx, &mount, how)?;
    mount.set_flags(how);
    let top = mount.root_path();
    give_tree(cx, top, cx.mounts().tree_of(&mount), flags & CLOEXEC != 0)
}
