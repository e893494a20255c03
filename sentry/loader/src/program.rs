//! From the file that is to be executed to the one that will be: `#!` lines and interpreters.

use crate::elf::{HEADER_LEN, Header, Segments};
use crate::script::{self, HEAD_LEN};
use crate::strings::Strings;
use abi::Errno;
use ctx::{Dst, Resource, SysErr, SysResult};
use std::sync::Arc;
use vfs::{DenyWrite, File, FsCtx, LookupFlags, Start, access};

/// `#!` lines that may lead to one another before a program must come.
const SCRIPTS_MAX: u32 = 5;

/// A program's file, which nobody may write to while it runs. [`mm::ExecInfo::exe`] holds one.
#[derive(Debug)]
pub struct Executable {
    /// The file, open for reading.
    pub file: Arc<File>,
    _deny: DenyWrite,
}

impl Executable {
    /// As vfs::open_exec gives it.
    pub fn new((file, deny): (Arc<File>, DenyWrite)) -> Executable {
        Executable { file, _deny: deny }
    }

    /// Opens `path`, relative to the working directory.
    fn open(cx: &dyn FsCtx, path: &[u8]) -> SysResult<Executable> {
        if path.is_empty() {
            // Inside Linux an empty path is the directory one stands in.
            return Err(Errno::EACCES.into());
        }
        vfs::open_exec(cx, Start::Cwd, path, LookupFlags::FOLLOW).map(Executable::new)
    }

    /// Reads up to `len` bytes from `offset` on; fewer where the file ends.
    fn read_some(&self, cx: &dyn FsCtx, offset: u64, len: usize) -> SysResult<Vec<u8>> {
        let mut buf = vec![0; len];
        let mut done = 0;
        while done < len {
            let Some(rest) = buf.get_mut(done..) else {
                break;
            };
            let at = offset.saturating_add(done as u64);
            match self.file.pread(cx, at, &mut Dst::ours(rest))? {
                0 => break,
                n => done += n,
            }
        }
        buf.truncate(done);
        Ok(buf)
    }

    /// Reads exactly `len` bytes.
    fn read(&self, cx: &dyn FsCtx, offset: u64, len: usize) -> SysResult<Vec<u8>> {
        if i64::try_from(offset).is_err() {
            return Err(Errno::EINVAL.into());
        }
        let bytes = self.read_some(cx, offset, len)?;
        if bytes.len() == len {
            Ok(bytes)
        } else {
            Err(Errno::EIO.into())
        }
    }

    /// Whether the task might have read it by itself.
    fn is_readable(&self, cx: &dyn FsCtx) -> bool {
        self.file
            .path()
            .is_some_and(|p| access::permission(cx, &cx.creds(), p, access::READ).is_ok())
    }
}

/// An ELF file and its headers.
pub(crate) struct Object {
    pub(crate) file: Executable,
    pub(crate) header: Header,
    pub(crate) segments: Segments,
}

impl Object {
    /// Reads the program headers. `bad` is what is answered for those that are none.
    fn new(cx: &dyn FsCtx, file: Executable, header: Header, bad: Errno) -> SysResult<Object> {
        let len = header.table_len().ok_or(bad)?;
        let table = file
            .read(cx, header.table_offset, len)
            .map_err(|e| match e {
                SysErr::Errno(_) => bad.into(),
                restart => restart,
            })?;
        let segments = Segments::parse(&table);
        Ok(Object {
            file,
            header,
            segments,
        })
    }

    /// Opens the interpreter that `self` names.
    fn interpreter(&self, cx: &dyn FsCtx) -> SysResult<Option<Object>> {
        let Some((offset, len)) = self.segments.interpreter()? else {
            return Ok(None);
        };
        let name = self.file.read(cx, offset, len)?;
        if name.last() != Some(&0) {
            return Err(Errno::ENOEXEC.into());
        }
        let name = name.split(|b| *b == 0).next().unwrap_or_default();
        let file = Executable::open(cx, name)?;
        let head = file.read(cx, 0, HEADER_LEN)?;
        let header = Header::parse(&head, true).ok_or(Errno::ELIBBAD)?;
        Object::new(cx, file, header, Errno::ELIBBAD).map(Some)
    }
}

/// How a program is called that is found from a descriptor (execveat(2)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByDescriptor {
    /// `/dev/fd/N`, or `/dev/fd/N/path`: what the program, or a script's interpreter, is told.
    pub name: Vec<u8>,
    /// The descriptor goes with the execve(2): an interpreter could not open the name.
    pub closes: bool,
}

/// A program that can be loaded.
pub struct Program {
    pub(crate) object: Object,
    pub(crate) interpreter: Option<Object>,
    pub(crate) strings: Strings,
    pub(crate) readable: bool,
    /// What the thread will be called.
    name: Vec<u8>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Program({:?})", self.file())
    }
}

impl Program {
    /// Opens `path` from `start`, finds out what it is, follows `#!` lines (which change the
    /// arguments), and reads the headers of program and interpreter. An empty path, where `lookup`
    /// allows it, is `start` itself. `by` says how it is called where it is found from a
    /// descriptor.
    ///
    /// # Errors
    /// `ENOEXEC`; `ELOOP` for too many `#!` lines; `ELIBBAD` for a bad interpreter; `ENOENT`,
    /// `EACCES`, `EIO` and others of opening and reading; `E2BIG`.
    pub fn open(
        cx: &dyn FsCtx,
        start: Start,
        path: &[u8],
        lookup: LookupFlags,
        by: Option<&ByDescriptor>,
        argv: Vec<Vec<u8>>,
        envp: Vec<Vec<u8>>,
    ) -> SysResult<Program> {
        let mut file = Executable::new(vfs::open_exec(cx, start, path, lookup)?);
        let called = by.map_or(path, |by| by.name.as_slice());
        let mut strings = Strings::new(called, argv, envp, cx.limit(Resource::Stack))?;
        let mut called = strings.filename().to_vec();
        let mut scripts = 0;
        let header = loop {
            let mut head = [0; HEAD_LEN];
            let bytes = file.read_some(cx, 0, HEAD_LEN)?;
            for (to, from) in head.iter_mut().zip(bytes) {
                *to = from;
            }
            let Some(line) = script::parse(&head) else {
                break Header::parse(&head, false).ok_or(Errno::ENOEXEC)?;
            };
            let line = line?;
            if by.is_some_and(|by| by.closes) {
                return Err(Errno::ENOENT.into());
            }
            strings.interpret(&called, &line.interpreter, line.argument.as_deref())?;
            file = Executable::open(cx, &line.interpreter)?;
            called = line.interpreter;
            scripts += 1;
            if scripts > SCRIPTS_MAX {
                return Err(Errno::ELOOP.into());
            }
        };
        let object = Object::new(cx, file, header, Errno::ENOEXEC)?;
        let interpreter = object.interpreter(cx)?;
        let readable = object.file.is_readable(cx)
            && interpreter.as_ref().is_none_or(|i| i.file.is_readable(cx));
        // Nobody knows the descriptor by a name worth showing; the file has one.
        let own_name = object.file.file.path().filter(|_| path.is_empty());
        let name = match own_name {
            Some(place) => place.dentry.name().to_vec(),
            None => strings.comm().to_vec(),
        };
        Ok(Program {
            name,
            object,
            interpreter,
            strings,
            readable,
        })
    }

    /// The file that is executed in the end: that of the last `#!` line. Its mode and owner
    /// decide on set-user-ID.
    pub fn file(&self) -> &Arc<File> {
        &self.object.file.file
    }

    /// What the thread will be called: the last component of the path, or the file's name where
    /// there is none.
    pub fn name(&self) -> &[u8] {
        &self.name
    }
}
