//! Trees of files that are made up.

use abi::Errno;
use abi::stat::Statfs;
use abi::time::Timespec;
use ctx::{Ctx, Dst, SysErr, SysResult};
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use time::Clocks;
use vfs::{
    Attr, DirSink, File, FileOps, FileType, Inode, Link, NewFile, NewKind, OpenFlags, SetAttr,
    VfsPath,
};

/// Makes the text of a file.
pub(crate) type Show = Arc<dyn Fn(&dyn Ctx) -> String + Send + Sync>;

/// A tree that is being put together.
#[derive(Default)]
pub(crate) struct Dir(BTreeMap<Box<[u8]>, Plan>);

enum Plan {
    Dir(Dir),
    Text(Show),
    Link(String),
}

impl Dir {
    /// The directory at `path`, made where it is missing.
    pub(crate) fn dir(&mut self, path: &str) -> &mut Dir {
        let mut at = self;
        for name in path.split('/') {
            let next =
                at.0.entry(name.as_bytes().into())
                    .or_insert_with(|| Plan::Dir(Dir::default()));
            match next {
                Plan::Dir(dir) => at = dir,
                Plan::Text(_) | Plan::Link(_) => {
                    unreachable!("trees are written down here, and none has a file in a path")
                }
            }
        }
        at
    }

    /// A file that always says the same.
    pub(crate) fn text(&mut self, name: &str, text: impl Into<String>) -> &mut Dir {
        let text = text.into();
        self.show(name, move || text.clone())
    }

    /// A file whose text is made anew at each reading.
    pub(crate) fn show(
        &mut self,
        name: &str,
        show: impl Fn() -> String + Send + Sync + 'static,
    ) -> &mut Dir {
        self.0.insert(
            name.as_bytes().into(),
            Plan::Text(Arc::new(move |_| show())),
        );
        self
    }

    /// As [`Dir::show`], of what not everybody who reads sees the same.
    pub(crate) fn show_to(
        &mut self,
        name: &str,
        show: impl Fn(&dyn Ctx) -> String + Send + Sync + 'static,
    ) -> &mut Dir {
        self.0
            .insert(name.as_bytes().into(), Plan::Text(Arc::new(show)));
        self
    }

    /// A symbolic link.
    pub(crate) fn link(&mut self, name: &str, target: impl Into<String>) -> &mut Dir {
        self.0
            .insert(name.as_bytes().into(), Plan::Link(target.into()));
        self
    }

    /// The file system with this tree.
    pub(crate) fn mount(self, magic: i64, file_size: u64, clocks: &Clocks) -> Arc<dyn Inode> {
        let fs = Arc::new(Fs {
            dev: vfs::anon::next_dev(),
            magic,
            file_size,
            made: clocks.wall(),
        });
        let mut next = 1;
        build(&fs, &mut next, Plan::Dir(self))
    }
}

struct Fs {
    dev: u64,
    magic: i64,
    /// What files say their size is.
    file_size: u64,
    made: Timespec,
}

enum Body {
    Dir(BTreeMap<Box<[u8]>, Arc<Node>>),
    Text(Show),
    Link(String),
}

struct Node {
    fs: Arc<Fs>,
    ino: u64,
    body: Body,
}

fn build(fs: &Arc<Fs>, next: &mut u64, plan: Plan) -> Arc<Node> {
    let ino = *next;
    *next += 1;
    let body = match plan {
        Plan::Text(show) => Body::Text(show),
        Plan::Link(target) => Body::Link(target),
        Plan::Dir(dir) => Body::Dir(
            dir.0
                .into_iter()
                .map(|(name, plan)| (name, build(fs, next, plan)))
                .collect(),
        ),
    };
    Arc::new(Node {
        fs: fs.clone(),
        ino,
        body,
    })
}

impl Inode for Node {
    fn attr(&self, _cx: &dyn Ctx) -> Result<Attr, Errno> {
        let (perm, nlink, size) = match &self.body {
            Body::Dir(names) => {
                let below = names.values().filter(|n| matches!(n.body, Body::Dir(_)));
                (0o555, 2 + below.count() as u64, 0)
            }
            Body::Text(_) => (0o444, 1, self.fs.file_size),
            Body::Link(_) => (0o777, 1, 0),
        };
        Ok(Attr {
            dev: self.fs.dev,
            nlink,
            size,
            ..vfs::anon::plain_attr(Inode::kind(self), perm, self.ino, self.fs.made)
        })
    }

    fn kind(&self) -> FileType {
        match self.body {
            Body::Dir(_) => FileType::Directory,
            Body::Text(_) => FileType::Regular,
            Body::Link(_) => FileType::Symlink,
        }
    }

    fn set_attr(&self, _cx: &dyn Ctx, _set: &SetAttr) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    fn lookup(&self, _cx: &dyn Ctx, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        match &self.body {
            Body::Dir(names) => Ok(names.get(name).ok_or(Errno::ENOENT)?.clone()),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn create(
        &self,
        _cx: &dyn Ctx,
        _name: &[u8],
        kind: NewKind,
        _new: &NewFile,
    ) -> Result<Arc<dyn Inode>, Errno> {
        // Each call has an error of its own for directories where it cannot be done.
        Err(match kind {
            NewKind::Regular => Errno::EACCES,
            _ => Errno::EPERM,
        })
    }

    fn readlink(&self, _cx: &dyn Ctx) -> Result<Link, Errno> {
        match &self.body {
            Body::Link(target) => Ok(Link::Path(target.as_bytes().to_vec())),
            _ => Err(Errno::EINVAL),
        }
    }

    fn open(
        self: Arc<Self>,
        _cx: &dyn Ctx,
        _at: &VfsPath,
        flags: OpenFlags,
    ) -> Result<Arc<dyn FileOps>, SysErr> {
        if flags.writable() {
            return Err(Errno::EACCES.into());
        }
        Ok(self)
    }

    fn statfs(&self, _cx: &dyn Ctx) -> Result<Statfs, Errno> {
        Ok(Statfs::simple(self.fs.magic))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl FileOps for Node {
    fn read(&self, cx: &dyn Ctx, _file: &File, offset: u64, dst: &mut Dst<'_>) -> SysResult {
        let Body::Text(show) = &self.body else {
            return Err(Errno::EISDIR.into());
        };
        let text = show(cx).into_bytes();
        Ok(dst.put_from(&text, offset)?)
    }

    fn size(&self, _cx: &dyn Ctx) -> Result<u64, Errno> {
        Ok(match self.body {
            Body::Text(_) => self.fs.file_size,
            _ => 0,
        })
    }

    fn readdir(
        &self,
        _cx: &dyn Ctx,
        _file: &File,
        from: u64,
        sink: &mut dyn DirSink,
    ) -> Result<u64, Errno> {
        let Body::Dir(names) = &self.body else {
            return Err(Errno::ENOTDIR);
        };
        let dots = [&b"."[..], b".."].map(|name| (name, self.ino, FileType::Directory));
        let below = names
            .iter()
            .map(|(name, node)| (&name[..], node.ino, Inode::kind(&**node)));
        let all = dots.into_iter().chain(below);
        Ok(vfs::list_entries(all, from, sink))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
