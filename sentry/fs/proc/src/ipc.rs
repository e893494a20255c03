//! /proc/sysvipc: the objects of System V IPC.

use crate::node::{Directory, Entry, Text, number, text};
use crate::{Owner, Proc};
use abi::Errno;
use ctx::{Ctx, PidSpace};
use std::sync::Arc;
use vfs::{FileType, Inode};

/// `/proc/sysvipc`
pub(crate) struct SysvDir;

/// Makes the table of one kind.
type Table = fn(&ipc::Ipc, &auth::UserNamespace, PidSpace) -> String;

const FILES: &[(&str, Table)] = &[
    ("msg", |ipc, ns, space| ipc.msg.table(ns, space)),
    ("sem", |ipc, ns, _| ipc.sem.table(ns)),
    ("shm", |ipc, ns, space| ipc.shm.table(ns, space)),
];

struct File(Table);

impl Text for File {
    fn read(&self, proc: &Arc<Proc>, cx: &dyn Ctx) -> Result<Vec<u8>, Errno> {
        let ipc = proc.seen_by(cx).ipc;
        Ok((self.0)(&ipc, &cx.creds().user_ns, cx.pid_space()).into_bytes())
    }
}

impl Directory for SysvDir {
    fn find(&self, proc: &Arc<Proc>, _cx: &dyn Ctx, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let found = FILES.iter().find(|(n, _)| n.as_bytes() == name);
        let (name, table) = found.ok_or(Errno::ENOENT)?;
        let ino = number(0, format!("sysvipc/{name}").as_bytes());
        Ok(text(proc, ino, Owner::Root, Arc::new(File(*table))))
    }

    fn list(&self, _proc: &Arc<Proc>, _cx: &dyn Ctx) -> Result<Vec<Entry>, Errno> {
        let names = FILES.iter();
        Ok(names
            .map(|(n, _)| Entry::new(*n, FileType::Regular))
            .collect())
    }
}
