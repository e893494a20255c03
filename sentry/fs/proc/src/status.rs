//! `stat`, `status`, `limits`, and the small values of a process.

use crate::Proc;
use abi::Errno;
use auth::UserNamespace;
use ctx::{Ctx, Resource};
use std::fmt::Write;
use task::resource_from_number;
use task::{DumpFilter, IoCounts, Task};

/// Clock ticks a second, as sysconf(_SC_CLK_TCK) has it.
pub(crate) const NANOS_PER_TICK: u64 = 10_000_000;

/// `comm`
pub(crate) fn comm(_proc: &Proc, task: &Task) -> Result<Vec<u8>, Errno> {
    let mut name = task.name();
    name.push(b'\n');
    Ok(name)
}

/// `oom_score`
pub(crate) fn oom_score(_proc: &Proc, task: &Task) -> Result<Vec<u8>, Errno> {
    Ok(format!("{}\n", task.group().container().oom_score(task.group())).into_bytes())
}

/// `personality`
pub(crate) fn personality(_proc: &Proc, task: &Task) -> Result<Vec<u8>, Errno> {
    Ok(format!("{:08x}\n", task.personality()).into_bytes())
}

/// `coredump_filter`
pub(crate) fn coredump_filter(_proc: &Proc, task: &Task) -> Result<Vec<u8>, Errno> {
    Ok(format!("{:08x}\n", task.group().dump_filter()).into_bytes())
}

/// Sets it: a number as C writes them. Bits without a meaning are forgotten.
pub(crate) fn set_coredump_filter(task: &Task, data: &[u8]) -> Result<(), Errno> {
    let text = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_prefix('+').unwrap_or(text);
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(Errno::EINVAL);
    }
    let value = u32::from_str_radix(digits, radix).map_err(|_| Errno::ERANGE)?;
    task.group()
        .set_dump_filter(DumpFilter::from_bits_truncate(value));
    Ok(())
}

/// `oom_score_adj`
pub(crate) fn oom_score_adj(_proc: &Proc, task: &Task) -> Result<Vec<u8>, Errno> {
    Ok(format!("{}\n", task.group().oom_score_adj()).into_bytes())
}

/// A write to `oom_score_adj`.
pub(crate) fn set_oom_score_adj(task: &Task, cx: &dyn Ctx, data: &[u8]) -> Result<(), Errno> {
    let text = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
    let value: i32 = text.trim().parse().map_err(|_| Errno::EINVAL)?;
    if !(-1000..=1000).contains(&value) {
        return Err(Errno::EINVAL);
    }
    let privileged = cx.creds().has(auth::Capability::SysResource);
    task.group().set_oom_score_adj(value, privileged)
}

/// The numbers of a process's place among others.
struct Place {
    parent: i32,
    group: i32,
    session: i32,
    terminal: u64,
    foreground: i32,
}

fn place(proc: &Proc, task: &Task) -> Place {
    let (k, pid) = (&proc.kernel, task.tgid());
    let session = k.session(pid).unwrap_or(0);
    let terminal = k.terminal_of(session);
    let number = |id| k.number_in(&proc.pids, id);
    Place {
        parent: number(k.parent(pid)),
        group: number(k.process_group(pid).unwrap_or(0)),
        session: number(session),
        terminal: terminal.as_ref().map_or(0, |t| t.device()),
        foreground: terminal.as_ref().map_or(-1, |t| number(t.foreground())),
    }
}

/// `stat`
pub(crate) fn stat(proc: &Proc, task: &Task) -> Result<Vec<u8>, Errno> {
    let p = place(proc, task);
    let group = task.group();
    let (time, children) = (group.cpu_time(), group.children_time());
    let usage = task.mm().map(|m| m.usage()).unwrap_or_default();
    let info = task.mm().map(|m| m.exec_info()).unwrap_or_default();
    let ticks = |ns: u64| ns / NANOS_PER_TICK;
    let start = (task.start_time().max(0) as u64) / NANOS_PER_TICK;
    let (nice, scheduling) = (task.nice(), task.scheduling());
    let priority = match scheduling.priority {
        0 => 20 + nice,
        real_time => -1 - real_time,
    };
    let (ignored, caught) = group.actions().ignored_and_caught();
    let [ignored, caught] = [ignored, caught].map(|set| set.bits() & 0x7fff_ffff);
    let rss_limit = group.limits().get(Resource::Rss).soft;
    let mut s = format!("{} (", proc.number(task.pid())).into_bytes();
    s.extend(task.name());
    let rest = format!(
        ") {} {} {} {} {} {} 4194304 {} {} 0 0 {} {} {} {} {priority} {nice} {} 0 {start} {} {} {rss_limit} {} {} {} 0 0 {} {} {ignored} {caught} 0 0 0 17 0 {} {} 0 0 0 {} {} {} {} {} {} {} 0\n",
        char::from(task.state_letter()),
        p.parent,
        p.group,
        p.session,
        p.terminal,
        p.foreground,
        time.faults,
        children.faults,
        ticks(time.user),
        ticks(time.system),
        ticks(children.user),
        ticks(children.system),
        group.threads().len().max(1),
        usage.virtual_,
        usage.resident / 4096,
        info.code_start,
        info.code_end,
        info.stack_start,
        task.pending().bits() & 0x7fff_ffff,
        task.blocked().bits() & 0x7fff_ffff,
        scheduling.priority,
        scheduling.policy,
        info.data_start,
        info.data_end,
        info.data_end,
        info.arg_start,
        info.arg_end,
        info.env_start,
        info.env_end,
    );
    s.extend(rest.into_bytes());
    Ok(s)
}

/// `status`, as a program in `ns` reads it.
pub(crate) fn status(proc: &Proc, task: &Task, ns: &UserNamespace) -> Result<Vec<u8>, Errno> {
    let group = task.group();
    let c = task.creds();
    let letter = char::from(task.state_letter());
    let word = match letter {
        'R' => "running",
        'S' => "sleeping",
        'T' => "stopped",
        't' => "tracing stop",
        _ => "zombie",
    };
    let mut s = String::new();
    let _ = writeln!(s, "Name:\t{}", String::from_utf8_lossy(&task.name()));
    let _ = writeln!(s, "Umask:\t{:04o}", task.fs().map_or(0o22, |f| f.umask()));
    let _ = writeln!(s, "State:\t{letter} ({word})");
    let (tgid, tid) = (proc.number(group.pid()), proc.number(task.pid()));
    let _ = writeln!(s, "Tgid:\t{tgid}\nNgid:\t0\nPid:\t{tid}");
    let parent = place(proc, task).parent;
    let tracer = task.tracer().map_or(0, |t| proc.number(t.pid()));
    let _ = writeln!(s, "PPid:\t{parent}\nTracerPid:\t{tracer}");
    let [r, e, v, f] = [c.ruid, c.euid, c.suid, c.fsuid].map(|id| ns.shown_uid(id));
    let _ = writeln!(s, "Uid:\t{r}\t{e}\t{v}\t{f}");
    let [r, e, v, f] = [c.rgid, c.egid, c.sgid, c.fsgid].map(|id| ns.shown_gid(id));
    let _ = writeln!(s, "Gid:\t{r}\t{e}\t{v}\t{f}");
    let _ = writeln!(s, "FDSize:\t{}", task.fds().map_or(0, |f| f.size().max(64)));
    let groups = c.groups.iter().map(|id| ns.shown_gid(*id).to_string());
    let groups: Vec<String> = groups.collect();
    let _ = writeln!(s, "Groups:\t{} ", groups.join(" "));
    s.push_str(&numbers(proc, task));
    s.push_str("Kthread:\t0\n");
    if let Some(mm) = task.mm() {
        let (u, info) = (mm.usage(), mm.exec_info());
        let program = info.code_end.saturating_sub(info.code_start);
        let program = program.next_multiple_of(4096).min(u.text);
        for (name, bytes) in [
            ("VmPeak", u.peak_virtual),
            ("VmSize", u.virtual_),
            ("VmLck", u.locked),
            ("VmPin", 0),
            ("VmHWM", u.peak_resident),
            ("VmRSS", u.resident),
            ("RssAnon", u.resident.saturating_sub(u.shared)),
            ("RssFile", u.shared),
            ("RssShmem", 0),
            ("VmData", u.data),
            ("VmStk", u.stack),
            ("VmExe", program),
            ("VmLib", u.text - program),
            // Eight bytes a page, on the platforms that have tables.
            ("VmPTE", (u.resident / 512).next_multiple_of(4096)),
            ("VmSwap", 0),
            ("HugetlbPages", 0),
        ] {
            let _ = writeln!(s, "{name}:\t{:>8} kB", bytes / 1024);
        }
        s.push_str("CoreDumping:\t0\n");
        let huge = proc.kernel.engine().limits().populates;
        let _ = writeln!(s, "THP_enabled:\t{}", i32::from(huge));
    }
    let _ = writeln!(s, "Threads:\t{}", group.threads().len().max(1));
    let _ = writeln!(
        s,
        "SigQ:\t{}/{}",
        task.queued_signals(),
        group.limits().get(Resource::Sigpending).soft
    );
    let _ = writeln!(
        s,
        "SigPnd:\t{:016x}\nShdPnd:\t{:016x}",
        task.pending().bits(),
        group.pending().bits()
    );
    let (ignored, caught) = group.actions().ignored_and_caught();
    for (name, set) in [
        ("SigBlk", task.blocked()),
        ("SigIgn", ignored),
        ("SigCgt", caught),
    ] {
        let _ = writeln!(s, "{name}:\t{:016x}", set.bits());
    }
    for (name, set) in [
        ("CapInh", c.inheritable),
        ("CapPrm", c.permitted),
        ("CapEff", c.effective),
        ("CapBnd", c.bounding),
        ("CapAmb", c.ambient),
    ] {
        let _ = writeln!(s, "{name}:\t{:016x}", set.bits());
    }
    let _ = writeln!(
        s,
        "NoNewPrivs:\t{}\nSeccomp:\t{}\nSeccomp_filters:\t{}",
        i32::from(task.no_new_privs()),
        task.seccomp_mode(),
        task.seccomp_filters()
    );
    let cpus = task.affinity();
    let _ = writeln!(
        s,
        "Cpus_allowed:\t{}",
        mask(&cpus, proc.kernel.possible_cpus())
    );
    let _ = writeln!(s, "Cpus_allowed_list:\t{}", ranges(&cpus));
    s.push_str("Mems_allowed:\t1\nMems_allowed_list:\t0\n");
    let _ = writeln!(
        s,
        "voluntary_ctxt_switches:\t{}\nnonvoluntary_ctxt_switches:\t0",
        task.cpu_time().switches
    );
    Ok(s.into_bytes())
}

/// What it and what it belongs to is called in each PID namespace from this one on down to its
/// own.
fn numbers(proc: &Proc, task: &Task) -> String {
    let k = &proc.kernel;
    let [group, session] = [k.process_group(task.tgid()), k.session(task.tgid())];
    let [group, session] = [group, session].map(|id| k.pid(id.unwrap_or(0)));
    let all = [
        ("NStgid", task.group().pid()),
        ("NSpid", task.pid()),
        ("NSpgid", &group),
        ("NSsid", &session),
    ];
    let below = task.pid().spaces_below(proc.pids.space());
    let mut s = String::new();
    for (name, pid) in all {
        let _ = write!(s, "{name}:");
        for space in &below {
            let _ = write!(s, "\t{}", pid.seen_from(*space));
        }
        s.push('\n');
    }
    s
}

/// `schedstat`: time on a CPU, time spent waiting for one (the host's to know), and times that it
/// was given one.
pub(crate) fn schedstat(_proc: &Proc, task: &Task) -> Result<Vec<u8>, Errno> {
    let time = task.cpu_time();
    Ok(format!("{} 0 {}\n", time.total(), time.switches + 1).into_bytes())
}

fn bits(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let bit = |at: &usize| bytes[at / 8] & 1 << (at % 8) != 0;
    (0..bytes.len() * 8).filter(bit)
}

/// The lowest `len` bits in hexadecimal, with a comma between words of 32.
fn mask(bytes: &[u8], len: u32) -> String {
    let len = (len as usize).max(1);
    let digits = len.div_ceil(4);
    let mut s = String::new();
    for n in (0..digits).rev() {
        let byte = bytes.get(n / 2).copied().unwrap_or(0);
        let _ = write!(s, "{:x}", byte >> (n % 2 * 4) & 0xf);
        if n > 0 && n % 8 == 0 {
            s.push(',');
        }
    }
    s
}

/// The numbers of the bits, as `0-3,6`.
fn ranges(bytes: &[u8]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for n in bits(bytes) {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == n => *end = n,
            _ => runs.push((n, n)),
        }
    }
    let text = |(a, b): &(usize, usize)| {
        if a == b {
            a.to_string()
        } else {
            format!("{a}-{b}")
        }
    };
    runs.iter().map(text).collect::<Vec<_>>().join(",")
}

/// `io`
pub(crate) fn io(_proc: &Proc, task: &Task) -> Result<Vec<u8>, Errno> {
    Ok(io_text(task.group().io()))
}

/// The text of `io`. What reaches a disk, and when, is the host's to know.
pub(crate) fn io_text(io: IoCounts) -> Vec<u8> {
    let disk = "read_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n";
    format!(
        "rchar: {}\nwchar: {}\nsyscr: {}\nsyscw: {}\n{disk}",
        io.read, io.written, io.reads, io.writes
    )
    .into_bytes()
}

/// `limits`
pub(crate) fn limits(_proc: &Proc, task: &Task) -> Result<Vec<u8>, Errno> {
    const ROWS: &[(&str, &str)] = &[
        ("Max cpu time", "seconds"),
        ("Max file size", "bytes"),
        ("Max data size", "bytes"),
        ("Max stack size", "bytes"),
        ("Max core file size", "bytes"),
        ("Max resident set", "bytes"),
        ("Max processes", "processes"),
        ("Max open files", "files"),
        ("Max locked memory", "bytes"),
        ("Max address space", "bytes"),
        ("Max file locks", "locks"),
        ("Max pending signals", "signals"),
        ("Max msgqueue size", "bytes"),
        ("Max nice priority", ""),
        ("Max realtime priority", ""),
        ("Max realtime timeout", "us"),
    ];
    let mut s = format!(
        "{:<25} {:<20} {:<20} {:<10}\n",
        "Limit", "Soft Limit", "Hard Limit", "Units"
    );
    let shown = |v: u64| {
        if v == u64::MAX {
            "unlimited".to_owned()
        } else {
            v.to_string()
        }
    };
    for (n, (name, unit)) in (0u32..).zip(ROWS) {
        let l = task.group().limits().get(resource_from_number(n)?);
        let _ = writeln!(
            s,
            "{name:<25} {:<20} {:<20} {unit:<10}",
            shown(l.soft),
            shown(l.hard)
        );
    }
    Ok(s.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_and_lists_are_written_as_linux_does() {
        let set = [0b0100_1111, 0, 0, 0, 0b11, 0, 0, 0];
        assert_eq!(mask(&set, 34), "3,0000004f");
        assert_eq!(mask(&set, 4), "f");
        assert_eq!(ranges(&set), "0-3,6,32-33");
        assert_eq!(ranges(&[1]), "0");
    }
}
