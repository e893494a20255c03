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
    for e in residency(task) {
        line(&mut out, &e);
        let _ = write!(
            out,
            "Size:           {:>8} kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\n",
            e.range.len() / 1024
        );
        Amounts::of(&e).write(&mut out, false);
        out.extend_from_slice(b"THPeligible:           0\nVmFlags: ");
        for (set, flag) in [
            (e.prot.contains(Prot::READ), "rd"),
            (e.prot.contains(Prot::WRITE), "wr"),
            (e.prot.contains(Prot::EXECUTE), "ex"),
            (e.shared, "sh"),
            (true, "mr mw me"),
            (e.shared, "ms"),
            (e.grows_down, "gd"),
            (e.locked, "lo"),
        ] {
            if set {
                let _ = write!(out, "{flag} ");
            }
        }
        out.push(b'\n');
    }
    Ok(out)
}

/// `smaps_rollup`
pub(crate) fn smaps_rollup(_proc: &Proc, task: &Task) -> Result<Vec<u8>, Errno> {
    let all = residency(task);
    let (Some(first), Some(last)) = (all.first(), all.last()) else {
        return Ok(Vec::new());
    };
    let head = format!(
        "{:08x}-{:08x} ---p 00000000 00:00 0 ",
        first.range.start, last.range.end
    );
    let mut out = format!("{head:<73}[rollup]\n").into_bytes();
    let sum = all.iter().map(Amounts::of);
    sum.fold(Amounts::default(), Amounts::and)
        .write(&mut out, true);
    Ok(out)
}

fn residency(task: &Task) -> Vec<MapsEntry> {
    task.mm()
        .map(|m| m.maps_with_residency())
        .unwrap_or_default()
}

/// Bytes of a mapping that are in memory, by kind. Who else has a page is not known: what is a
/// process's own counts as its alone, what is of a file or shared as shared with others.
#[derive(Clone, Copy, Default)]
struct Amounts {
    anonymous: u64,
    file: u64,
    shared_memory: u64,
    locked: u64,
}

impl Amounts {
    fn of(e: &MapsEntry) -> Amounts {
        let of_memory = e.shared && e.identity.as_ref().is_none_or(|i| i.dev == 0);
        let (file, shared_memory) = match of_memory {
            true => (0, e.resident_shared),
            false => (e.resident_shared, 0),
        };
        Amounts {
            anonymous: e.resident - e.resident_shared,
            file,
            shared_memory,
            locked: if e.locked { e.resident } else { 0 },
        }
    }

    fn and(self, o: Amounts) -> Amounts {
        Amounts {
            anonymous: self.anonymous + o.anonymous,
            file: self.file + o.file,
            shared_memory: self.shared_memory + o.shared_memory,
            locked: self.locked + o.locked,
        }
    }

    fn write(self, out: &mut Vec<u8>, sums: bool) {
        let all = self.anonymous + self.file + self.shared_memory;
        let mut row = |name: &str, bytes: u64| {
            let _ = writeln!(out, "{:<16}{:>8} kB", format!("{name}:"), bytes / 1024);
        };
        row("Rss", all);
        row("Pss", all);
        row("Pss_Dirty", self.anonymous + self.shared_memory);
        if sums {
            row("Pss_Anon", self.anonymous);
            row("Pss_File", self.file);
            row("Pss_Shmem", self.shared_memory);
        }
        for (name, bytes) in [
            ("Shared_Clean", self.file),
            ("Shared_Dirty", self.shared_memory),
            ("Private_Clean", 0),
            ("Private_Dirty", self.anonymous),
            ("Referenced", all),
            ("Anonymous", self.anonymous),
            ("KSM", 0),
            ("LazyFree", 0),
            ("AnonHugePages", 0),
            ("ShmemPmdMapped", 0),
            ("FilePmdMapped", 0),
            ("Shared_Hugetlb", 0),
            ("Private_Hugetlb", 0),
            ("Swap", 0),
            ("SwapPss", 0),
            ("Locked", self.locked),
        ] {
            row(name, bytes);
        }
    }
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
