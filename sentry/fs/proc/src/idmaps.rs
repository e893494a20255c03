//! `/proc/PID/uid_map` and its kin, and `setgroups` (user_namespaces(7)).

use crate::Proc;
use crate::node::Special;
use abi::Errno;
use abi::page::PAGE_SIZE;
use auth::{Capability, Creds, IdKind, UserNamespace};
use ctx::{Ctx, Dst, Src, SysResult};
use std::any::Any;
use std::sync::Arc;
use task::Task;
use vfs::{File, FileOps, OpenFlags, Written};

/// Which of them.
#[derive(Clone, Copy)]
enum What {
    Map(IdKind),
    Setgroups,
}

const FILES: &[(&str, What)] = &[
    ("gid_map", What::Map(IdKind::Group)),
    ("projid_map", What::Map(IdKind::Project)),
    ("setgroups", What::Setgroups),
    ("uid_map", What::Map(IdKind::User)),
];

/// Their names.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// The one of a task that is called `name`.
pub(crate) fn find(task: &Arc<Task>, name: &[u8]) -> Option<Arc<dyn Special>> {
    let (_, what) = FILES.iter().find(|(n, _)| n.as_bytes() == name)?;
    Some(Arc::new(Found {
        task: task.clone(),
        what: *what,
    }))
}

struct Found {
    task: Arc<Task>,
    what: What,
}

impl Special for Found {
    fn open(
        &self,
        _proc: &Arc<Proc>,
        cx: &dyn Ctx,
        flags: OpenFlags,
    ) -> Result<Arc<dyn FileOps>, Errno> {
        let (users, opener) = (self.task.creds().user_ns.clone(), cx.creds());
        let changes = matches!(self.what, What::Setgroups) && flags.writable();
        if changes && !opener.has_in(&users, Capability::SysAdmin) {
            return Err(Errno::EACCES);
        }
        Ok(Arc::new(Open {
            what: self.what,
            users,
            opener,
        }))
    }

    fn perm(&self) -> u32 {
        0o644
    }
}

impl What {
    fn text(self, users: &UserNamespace, reader: &Creds) -> Vec<u8> {
        match self {
            What::Map(kind) => users.show_map(kind, &reader.user_ns).into_bytes(),
            What::Setgroups if users.allows_setgroups() => b"allow\n".to_vec(),
            What::Setgroups => b"deny\n".to_vec(),
        }
    }
}

/// A description: of the namespace that the task was in when it was opened, and with the
/// credentials of who opened it, which must suffice for what is written.
struct Open {
    what: What,
    users: UserNamespace,
    opener: Arc<Creds>,
}

impl FileOps for Open {
    fn read(&self, _cx: &dyn Ctx, _file: &File, offset: u64, dst: &mut Dst<'_>) -> SysResult {
        let text = self.what.text(&self.users, &self.opener);
        Ok(dst.put_from(&text, offset)?)
    }

    fn write(
        &self,
        cx: &dyn Ctx,
        _file: &File,
        offset: u64,
        _append: bool,
        src: &mut Src<'_>,
    ) -> SysResult<Written> {
        let mut data = vec![0; src.remaining().min(PAGE_SIZE as usize)];
        let count = src.take(&mut data)?;
        data.truncate(count);
        match self.what {
            What::Map(kind) => {
                let by = (&*self.opener, &*cx.creds());
                self.users.write_map(kind, by, offset, &data)?;
            }
            What::Setgroups => self.users.set_setgroups(allows(offset, &data)?)?,
        }
        Ok(Written {
            count,
            end: offset.saturating_add(count as u64),
        })
    }

    fn size(&self, _cx: &dyn Ctx) -> Result<u64, Errno> {
        Ok(0)
    }

    fn seeks_from_end(&self) -> bool {
        false
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Whether what is written to `setgroups` allows it.
fn allows(offset: u64, data: &[u8]) -> Result<bool, Errno> {
    /// Bytes, at most.
    const MOST: usize = 7;
    if offset != 0 || data.len() > MOST {
        return Err(Errno::EINVAL);
    }
    let data = data.split(|b| *b == 0).next().unwrap_or_default();
    let (allows, rest) = match (data.strip_prefix(b"allow"), data.strip_prefix(b"deny")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return Err(Errno::EINVAL),
    };
    if rest.iter().all(|b| b.is_ascii_whitespace() || *b == 0x0b) {
        Ok(allows)
    } else {
        Err(Errno::EINVAL)
    }
}
