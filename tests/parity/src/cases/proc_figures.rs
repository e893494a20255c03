//! /proc: what is counted is counted, and is where programs look for it.

use crate::cases;
use crate::out::Out;
use crate::sys::{child, zeroed};
use crate::util::{anon, as_user, open, wait_text};
use crate::{k, say, tell};
use libc::*;
use std::arch::x86_64::__cpuid_count;

cases!(
    cpu_flags_are_those_of_cpuid,
    cpu_time_is_counted,
    children_that_ended_are_counted,
    faults_are_counted,
    memory_of_mappings,
    fields_of_status,
    tables_of_the_system,
    who_may_look_into_a_process,
    texts_that_change_while_they_are_read,
);

fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// What is read in pieces is one text: that of its first piece.
fn texts_that_change_while_they_are_read(o: Out) {
    let fd = open(c"/proc/self/maps", O_RDONLY, 0).int();
    for round in 0..3 {
        for i in 0..60 {
            let prot = if i % 2 == 0 { PROT_READ } else { PROT_NONE };
            k!(SYS_mmap, 0, 8192, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        }
        k!(SYS_lseek, fd, 0, SEEK_SET);
        let mut all = String::new();
        loop {
            let mut piece = [0u8; 700];
            let n = k!(SYS_read, fd, &mut piece[..], 700).int();
            if n <= 0 {
                break;
            }
            all.push_str(&String::from_utf8_lossy(&piece[..n as usize]));
        }
        let now = text("/proc/self/maps");
        let whole = |line: &str| {
            let mut words = line.split_whitespace();
            let range = words.next().and_then(|r| r.split_once('-'));
            let hex = |t: &str| u64::from_str_radix(t, 16).is_ok();
            range.is_some_and(|(a, b)| hex(a) && hex(b)) && words.count() >= 4
        };
        tell!(o, "round" => round, "broken" => all.lines().filter(|l| !whole(l)).count(), "complete" => all.lines().count().abs_diff(now.lines().count()) < 4);
    }
}

fn cpu_flags_are_those_of_cpuid(o: Out) {
    let all = text("/proc/cpuinfo");
    let field = |name: &str| {
        let mut lines = all.lines().filter_map(|l| l.split_once(':'));
        let found = lines.find(|(n, _)| n.trim() == name);
        found.map_or("absent", |(_, v)| v.trim()).to_owned()
    };
    let flags = field("flags");
    let has = |name: &str| flags.split(' ').any(|f| f == name);
    for (name, leaf, register, bit) in [
        ("fpu", 1, 3, 0),
        ("sse2", 1, 3, 26),
        ("ssse3", 1, 2, 9),
        ("sse4_2", 1, 2, 20),
        ("aes", 1, 2, 25),
        ("avx", 1, 2, 28),
        ("rdrand", 1, 2, 30),
        ("avx2", 7, 1, 5),
        ("bmi2", 7, 1, 8),
        ("avx512f", 7, 1, 16),
        ("sha_ni", 7, 1, 29),
        ("gfni", 7, 2, 8),
        ("lm", 0x8000_0001, 3, 29),
        ("rdtscp", 0x8000_0001, 3, 27),
        ("abm", 0x8000_0001, 2, 5),
    ] {
        let answer = __cpuid_count(leaf, 0);
        let words = [answer.eax, answer.ebx, answer.ecx, answer.edx];
        say!(
            o,
            "{name} {}",
            has(name) == (words[register] >> bit & 1 == 1)
        );
    }
    let version = __cpuid_count(1, 0).eax;
    let model = (version >> 16 & 0xf) << 4 | (version >> 4 & 0xf);
    tell!(o, "model" => field("model") == model.to_string(), "stepping" => field("stepping") == (version & 0xf).to_string(), "fpu" => field("fpu"), "power" => all.contains("\npower management:"));
    let processors = all
        .lines()
        .filter(|l| l.starts_with("processor\t: "))
        .count();
    let online = std::thread::available_parallelism().map_or(0, |n| n.get());
    tell!(o, "processors" => processors == online);
}

/// Ticks that all have used, from the first line of stat.
fn busy() -> (u64, u64) {
    let stat = text("/proc/stat");
    let first = stat.lines().next().unwrap_or_default();
    let words: Vec<u64> = first
        .split_whitespace()
        .skip(1)
        .map(|w| w.parse().unwrap_or(0))
        .collect();
    let used = words.first().unwrap_or(&0) + words.get(2).unwrap_or(&0);
    (used, words.get(3).copied().unwrap_or(0))
}

/// Uses so many milliseconds of CPU time.
fn burn(ms: i64) {
    loop {
        let mut t: timespec = zeroed();
        k!(SYS_clock_gettime, CLOCK_PROCESS_CPUTIME_ID, &mut t);
        if t.tv_sec * 1000 + t.tv_nsec / 1_000_000 >= ms {
            return;
        }
    }
}

fn cpu_time_is_counted(o: Out) {
    let before = busy();
    burn(300);
    let after = busy();
    tell!(o, "used" => after.0 >= before.0 + 20, "idle" => after.1 >= before.1);
    let stat = text("/proc/stat");
    for name in [
        "cpu ",
        "cpu0 ",
        "intr ",
        "ctxt ",
        "btime ",
        "processes ",
        "procs_running ",
    ] {
        say!(o, "{name}{}", stat.lines().any(|l| l.starts_with(name)));
    }
    let load = text("/proc/loadavg");
    let words: Vec<&str> = load.split_whitespace().collect();
    tell!(o, "averages" => words.iter().take(3).all(|w| w.parse::<f64>().is_ok()), "some run" => words.get(3).is_some_and(|w| !w.starts_with("0/")), "uptime" => text("/proc/uptime").split_whitespace().all(|w| w.parse::<f64>().is_ok_and(|n| n > 0.0)));
}

fn children_that_ended_are_counted(o: Out) {
    let before = busy();
    let ended = wait_text(child(|| {
        burn(300);
        0
    }));
    tell!(o, "child" => ended, "used" => busy().0 >= before.0 + 20);
}

fn faults_are_counted(o: Out) {
    let faults = || {
        let mut usage: rusage = zeroed();
        k!(SYS_getrusage, RUSAGE_SELF, &mut usage);
        usage.ru_minflt
    };
    let in_stat = || {
        let stat = text("/proc/self/stat");
        let rest = stat.rsplit_once(')').map_or("", |r| r.1).to_owned();
        rest.split_whitespace()
            .nth(7)
            .and_then(|w| w.parse::<i64>().ok())
            .unwrap_or(-1)
    };
    let (a, b) = (faults(), in_stat());
    let memory = anon(256 * 4096);
    for page in 0..256 {
        crate::sys::poke(memory + page * 4096, 1);
    }
    tell!(o, "more" => faults() > a, "in stat" => in_stat() > b);
}

fn memory_of_mappings(o: Out) {
    let memory = anon(16 * 4096);
    for page in 0..4 {
        crate::sys::poke(memory + page * 4096, 1);
    }
    k!(SYS_mlock, memory, 4096usize);
    let smaps = text("/proc/self/smaps");
    let start = format!("{memory:08x}-");
    let lines: Vec<&str> = smaps
        .lines()
        .skip_while(|l| !l.starts_with(&start))
        .skip(1)
        .take_while(|l| !l.starts_with("VmFlags"))
        .collect();
    let value = |name: &str| {
        let line = lines.iter().find(|l| l.split(':').next() == Some(name));
        line.map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    for name in [
        "Size",
        "Rss",
        "Pss",
        "Anonymous",
        "Private_Dirty",
        "Swap",
        "Locked",
    ] {
        say!(o, "{name} {:?}", value(name));
    }
    let rollup = text("/proc/self/smaps_rollup");
    tell!(o, "head" => rollup.lines().next().is_some_and(|l| l.ends_with("[rollup]")));
    for name in [
        "Rss",
        "Pss",
        "Pss_Anon",
        "Pss_File",
        "Private_Dirty",
        "Locked",
    ] {
        say!(
            o,
            "{name} {}",
            rollup.lines().any(|l| l.starts_with(&format!("{name}:")))
        );
    }
}

fn fields_of_status(o: Out) {
    let status = text("/proc/self/status");
    let mut names = status.lines().filter_map(|l| l.split(':').next());
    // In this order; others may stand between them.
    for name in [
        "Name",
        "Umask",
        "State",
        "Tgid",
        "Pid",
        "PPid",
        "TracerPid",
        "Uid",
        "Gid",
        "FDSize",
        "Groups",
        "VmPeak",
        "VmSize",
        "VmLck",
        "VmPin",
        "VmHWM",
        "VmRSS",
        "RssAnon",
        "RssFile",
        "RssShmem",
        "VmData",
        "VmStk",
        "VmExe",
        "VmLib",
        "VmPTE",
        "VmSwap",
        "Threads",
        "SigQ",
        "SigPnd",
        "CapInh",
        "NoNewPrivs",
        "Seccomp",
        "Cpus_allowed_list",
        "Mems_allowed_list",
        "voluntary_ctxt_switches",
        "nonvoluntary_ctxt_switches",
    ] {
        say!(o, "{name} {}", names.any(|n| n == name));
    }
}

fn tables_of_the_system(o: Out) {
    for name in [
        "cgroups",
        "devices",
        "diskstats",
        "filesystems",
        "partitions",
        "swaps",
        "vmstat",
        "self/schedstat",
    ] {
        say!(
            o,
            "{name} {}",
            std::fs::read(format!("/proc/{name}")).is_ok()
        );
    }
    let has = |file: &str, line: &str| text(file).lines().any(|l| l.trim() == line);
    tell!(o, "swaps" => text("/proc/swaps").lines().next().map(str::to_owned).unwrap_or_default(), "pts" => has("/proc/devices", "136 pts"), "tmpfs" => has("/proc/filesystems", "nodev\ttmpfs"), "cgroups" => text("/proc/cgroups").lines().next().map(str::to_owned).unwrap_or_default(), "vmstat" => text("/proc/vmstat").lines().all(|l| l.split(' ').count() == 2));
}

fn who_may_look_into_a_process(o: Out) {
    let parent = format!("/proc/{}", k!(SYS_getpid));
    let status = as_user(|| {
        for name in ["maps", "smaps", "smaps_rollup", "environ", "stat", "status"] {
            let file = std::fs::read(format!("{parent}/{name}"));
            say!(
                o,
                "{name} {:?}",
                file.map(|_| ()).map_err(|e| e.raw_os_error())
            );
        }
        for name in ["exe", "cwd", "root", "ns/uts", "ns/mnt"] {
            let link = std::fs::read_link(format!("{parent}/{name}"));
            say!(
                o,
                "{name} {:?}",
                link.map(|_| ()).map_err(|e| e.raw_os_error())
            );
            let opened = std::fs::File::open(format!("{parent}/{name}"));
            say!(
                o,
                "{name} {:?}",
                opened.map(|_| ()).map_err(|e| e.raw_os_error())
            );
        }
        // Itself, whatever it was.
        tell!(o, "own" => std::fs::read("/proc/self/maps").is_ok(), "own ns" => std::fs::read_link("/proc/self/ns/uts").is_ok());
    });
    tell!(o, "user" => status);
}
