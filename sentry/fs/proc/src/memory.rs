//! What a process has in memory: arguments, environment, mappings.

use crate::Proc;
use abi::Errno;
use ctx::UserMemory;
use mm::{MapsEntry, Prot};
use std::io::Write;
use task::Task;

/// Most bytes of arguments or environment that are shown.
const MAX: u64 = 1 << 20;

fn stretch(task: &Task, pick: fn(&mm::ExecInfo) -> (u64, u64)) -> Result<Vec<u8>, Errno> {
    let Some(mm) = task.mm() else {
        return Ok(Vec::new());
    };
    let (start, end) = pick(&mm.exec_info());
    let mut bytes = vec![0; end.saturating_sub(start).min(MAX) as usize];
    let n = mm.read_some(start, &mut bytes).unwrap_or(0);
    bytes.truncate(n);
    Ok(bytes)
}

/// `cmdline`
pub(crate) fn cmdline(_proc: &Proc, task: &Task) -> Result<Vec<u8>, Errno> {
    stretch(task, |i| (i.arg_start, i.arg_end))
}

/// `environ`
pub(crate) fn environ(_proc: &Proc, task: &Task) -> Result<Vec<u8>, Errno> {
    stretch(task, |i| (i.env_start, i.env_end))
}

/// `auxv`
pub(crate) fn auxv(_proc: &Proc, task: &Task) -> Result<Vec<u8>, Errno> {
    Ok(task
        .mm()
        .map(|m| m.exec_info().auxv.clone())
        .unwrap_or_default())
}

/// `statm`
pub(crate) fn statm(_proc: &Proc, task: &Task) -> Result<Vec<u8>, Errno> {
    let u = task.mm().map(|m| m.usage()).unwrap_or_default();
    let p = |bytes: u64| bytes / 4096;
    let text = format!(
        "{} {} {} {} 0 {} 0\n",
        p(u.virtual_),
        p(u.resident),
        p(u.shared),
        p(u.text),
        p(u.data + u.stack)
    );
    Ok(text.into_bytes())
}

/// `maps`
pub(crate) fn maps(_proc: &Proc, task: &Task) -> Result<Vec<u8>, Errno> {
    let mut out = Vec::new();
    // One that has ended has no memory any more.
    for e in task.mm().map(|m| m.maps()).unwrap_or_default() {
        line(&mut out, &e);
    }
    Ok(out)
}

/// `smaps`
pub(crate) fn smaps(_proc: &Proc, task: &Task) -> Result<Vec<u8>, Errno> {
    let mut out = Vec::new();
    for e in task
        .mm()
        .map(|m| m.maps_with_residency())
        .unwrap_or_default()
    {
        line(&mut out, &e);
        let (size, rss) = (e.range.len() / 1024, e.resident / 1024);
        let _ = writeln!(
            out,
            "Size:           {size:>8} kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\nRss:            {rss:>8} kB"
        );
    }
    Ok(out)
}

fn line(out: &mut Vec<u8>, e: &MapsEntry) {
    let flag = |p: Prot, c: char| if e.prot.contains(p) { c } else { '-' };
    // What has a name of its own, as the vDSO, is no file's.
    let identity = e.identity.as_ref().filter(|_| e.name.is_none());
    let (dev, ino) = identity.map_or((0, 0), |i| (i.dev, i.ino));
    let head = format!(
        "{:08x}-{:08x} {}{}{}{} {:08x} {:02x}:{:02x} {ino} ",
        e.range.start,
        e.range.end,
        flag(Prot::READ, 'r'),
        flag(Prot::WRITE, 'w'),
        flag(Prot::EXECUTE, 'x'),
        if e.shared { 's' } else { 'p' },
        e.offset,
        abi::libc::major(dev),
        abi::libc::minor(dev),
    );
    let name: &[u8] = match (identity, e.name) {
        (Some(i), _) => &i.path,
        (None, Some(n)) => n.as_bytes(),
        (None, None) => b"",
    };
    // Names stand in column 73; lines without one end after a space.
    let _ = if name.is_empty() {
        write!(out, "{head}")
    } else {
        write!(out, "{head:<73}")
    };
    for b in name {
        match b {
            b'\n' => out.extend_from_slice(b"\\012"),
            b => out.push(*b),
        }
    }
    out.push(b'\n');
}
