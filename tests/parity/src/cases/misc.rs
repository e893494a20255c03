//! What is left: names, limits, randomness, odd calls, device files, /proc.

use crate::out::Out;
use crate::util::{anon, as_user, cat, in_child, mk, open, read, show, stat_text, write};
use crate::{cases, k, say, sys, tell};
use libc::*;

cases!(
    uname_fields,
    random_bytes,
    system_information,
    cpu_number,
    scheduling_policies,
    scheduling_priorities,
    yielding,
    personality_bits,
    personality_flags,
    working_directory,
    change_root,
    host_and_domain_name,
    descriptor_limit,
    memory_file,
    device_null,
    device_zero,
    device_full,
    device_random,
    devices_listed,
    proc_self,
    proc_stat_line,
    proc_stat_scheduling,
    proc_status_fields,
    proc_cmdline_and_environ,
    proc_fd_directory,
    proc_other_process,
    proc_namespaces,
    proc_id_maps,
    proc_io,
    proc_mounts,
    proc_system_files,
    proc_unwritable,
    absent_calls,
    membarrier_commands,
    rseq_and_friends,
    ipc_namespaces,
    name_to_handle,
    io_priority,
    reboot_and_modules_refused,
    times_and_ticks,
);

fn field(name: &[u8; 65]) -> String {
    let end = name.iter().position(|b| *b == 0).unwrap_or(65);
    show(&name[..end])
}

fn uname_fields(o: Out) {
    let mut u = [[0u8; 65]; 6];
    tell!(o, "uname" => k!(SYS_uname, &mut u), "system" => field(&u[0]), "machine" => field(&u[4]), "release has a number" => u[2][0].is_ascii_digit(), "version" => field(&u[3]).len() > 3, "null" => k!(SYS_uname, 0));
}

fn random_bytes(o: Out) {
    let (mut a, mut b) = ([0u8; 256], [0u8; 256]);
    tell!(o, "get" => k!(SYS_getrandom, &mut a, 256, 0), "again" => k!(SYS_getrandom, &mut b, 256, GRND_NONBLOCK), "differ" => a != b, "zero" => k!(SYS_getrandom, &mut a, 0, 0), "flags" => k!(SYS_getrandom, &mut a, 8, 99), "bad" => k!(SYS_getrandom, 16usize, 8, 0), "random" => k!(SYS_getrandom, &mut a, 16, GRND_RANDOM));
}

fn system_information(o: Out) {
    let mut s: sysinfo = sys::zeroed();
    tell!(o, "sysinfo" => k!(SYS_sysinfo, &mut s), "ram" => s.totalram > 0, "free less" => s.freeram <= s.totalram, "unit" => s.mem_unit > 0, "procs" => s.procs > 0, "uptime" => s.uptime >= 0, "bad" => k!(SYS_sysinfo, 16usize));
}

fn cpu_number(o: Out) {
    let (mut cpu, mut node) = (9999u32, 9999u32);
    tell!(o, "getcpu" => k!(SYS_getcpu, &mut cpu, &mut node, 0), "cpu" => cpu < 1024, "node" => node, "nulls" => k!(SYS_getcpu, 0, 0, 0), "bad" => k!(SYS_getcpu, 16usize, 0, 0));
    let mut set = [0u64; 16];
    k!(SYS_sched_getaffinity, 0, 128, &mut set);
    tell!(o, "in the set" => set[(cpu / 64) as usize] >> (cpu % 64) & 1);
}

fn scheduling_policies(o: Out) {
    let mut p = 7i32;
    tell!(o, "policy" => k!(SYS_sched_getscheduler, 0), "param" => k!(SYS_sched_getparam, 0, &mut p), "is" => p, "nobody" => k!(SYS_sched_getscheduler, 999_999), "negative" => k!(SYS_sched_getscheduler, -1), "batch" => k!(SYS_sched_setscheduler, 0, SCHED_BATCH, &0i32), "now" => k!(SYS_sched_getscheduler, 0), "idle" => k!(SYS_sched_setscheduler, 0, SCHED_IDLE, &0i32), "child" => in_child(|| k!(SYS_sched_getscheduler, 0).int()), "unknown" => k!(SYS_sched_setscheduler, 0, 77, &0i32), "bad priority" => k!(SYS_sched_setscheduler, 0, SCHED_OTHER, &5i32), "null" => k!(SYS_sched_setscheduler, 0, SCHED_OTHER, 0));
}

fn scheduling_priorities(o: Out) {
    for p in [
        SCHED_OTHER,
        SCHED_FIFO,
        SCHED_RR,
        SCHED_BATCH,
        SCHED_IDLE,
        99,
    ] {
        say!(
            o,
            "{p} {} {}",
            k!(SYS_sched_get_priority_min, p),
            k!(SYS_sched_get_priority_max, p)
        );
    }
    let mut t: timespec = sys::zeroed();
    tell!(o, "rr interval" => k!(SYS_sched_rr_get_interval, 0, &mut t), "nobody" => k!(SYS_sched_rr_get_interval, 999_999, &mut t));
}

fn yielding(o: Out) {
    tell!(o, "yield" => k!(SYS_sched_yield), "again" => k!(SYS_sched_yield));
}

fn personality_bits(o: Out) {
    const PER_LINUX32: i32 = 8;
    tell!(o, "get" => k!(SYS_personality, u32::MAX), "set" => k!(SYS_personality, ADDR_NO_RANDOMIZE), "now" => k!(SYS_personality, u32::MAX), "child" => in_child(|| i32::from(k!(SYS_personality, u32::MAX).0 == i64::from(ADDR_NO_RANDOMIZE))), "back" => k!(SYS_personality, 0));
    // Of 32 bits, but for the numbers and names of calls.
    let mut u = [[0u8; 65]; 6];
    tell!(o, "32 bits" => k!(SYS_personality, PER_LINUX32), "machine" => { k!(SYS_uname, &mut u); field(&u[4]) }, "with a bit" => { k!(SYS_personality, PER_LINUX32 | ADDR_NO_RANDOMIZE); k!(SYS_uname, &mut u); field(&u[4]) }, "64 again" => { k!(SYS_personality, 0); k!(SYS_uname, &mut u); field(&u[4]) });
}

fn personality_flags(o: Out) {
    const UNAME26: u32 = 0x2_0000;
    const STICKY_TIMEOUTS: u32 = 0x400_0000;
    let mut u: utsname = sys::zeroed();
    let field = |f: &[c_char]| {
        f.iter()
            .map(|c| *c as u8 as char)
            .take_while(|c| *c != '\0')
            .collect::<String>()
    };
    k!(SYS_uname, &mut u);
    let before = field(&u.release);
    k!(SYS_personality, UNAME26);
    k!(SYS_uname, &mut u);
    let after = field(&u.release);
    let minor = |r: &str, at: usize| {
        r.split(['.', '-'])
            .nth(at)
            .and_then(|n| n.parse::<u32>().ok())
    };
    tell!(o, "two" => after.starts_with("2.6."), "by sixty" => minor(&after, 2) == minor(&before, 1).map(|n| n + 60), "tail" => before.split_once('-').map(|p| p.1) == after.split_once('-').map(|p| p.1));
    tell!(o, "told" => std::fs::read_to_string("/proc/self/personality").unwrap_or_default());
    let mut left = timeval {
        tv_sec: 0,
        tv_usec: 10,
    };
    k!(SYS_personality, STICKY_TIMEOUTS);
    tell!(o, "select" => k!(SYS_select, 0, 0, 0, 0, &mut left), "left" => left.tv_usec);
    k!(SYS_personality, 0);
    tell!(o, "select" => k!(SYS_select, 0, 0, 0, 0, &mut left), "left" => left.tv_usec);
    for persona in [
        0x410_0001_u32,
        0x500_0002,
        0x700_0003,
        0x84,
        0x6,
        0xffff_fffe_u32,
    ] {
        tell!(o, "set" => k!(SYS_personality, persona).ok(), "now" => k!(SYS_personality, u32::MAX));
    }
    k!(SYS_personality, 0);
}

fn working_directory(o: Out) {
    let mut b = [0u8; 256];
    k!(SYS_mkdir, c"d", 0o755);
    k!(SYS_chdir, c"d");
    let n = k!(SYS_getcwd, &mut b, 256);
    tell!(o, "ends with" => b[..n.addr().min(256)].ends_with(b"/d\0"), "small" => k!(SYS_getcwd, &mut b, 3), "zero" => k!(SYS_getcwd, &mut b, 0), "null" => k!(SYS_getcwd, 0, 100), "remove" => k!(SYS_rmdir, c"../d"), "deleted" => k!(SYS_getcwd, &mut b, 256), "create in it" => open(c"f", O_CREAT | O_RDWR, 0o644), "dot" => stat_text(c".", 0), "up" => k!(SYS_chdir, c".."), "root" => k!(SYS_chdir, c"/"), "is" => { let n = k!(SYS_getcwd, &mut b, 256); show(&b[..n.addr()]) });
}

fn change_root(o: Out) {
    k!(SYS_mkdir, c"jail", 0o755);
    mk(c"jail/inside", b"yes");
    k!(SYS_symlink, c"/inside", c"jail/link");
    let here = open(c".", O_RDONLY | O_DIRECTORY, 0).int();
    in_child(|| {
        tell!(o, "chroot" => k!(SYS_chroot, c"jail"), "absolute" => cat(c"/inside"), "link" => cat(c"/link"), "dotdot stays" => { k!(SYS_chdir, c"/"); k!(SYS_chdir, c".."); cat(c"inside") }, "outside fd" => { k!(SYS_fchdir, here); cat(c"jail/inside") }, "cwd outside" => { let mut b = [0u8; 512]; k!(SYS_getcwd, &mut b, 512); b.starts_with(b"(unreachable)") });
        0
    });
    tell!(o, "file" => k!(SYS_chroot, c"jail/inside"), "missing" => k!(SYS_chroot, c"none"));
}

fn host_and_domain_name(o: Out) {
    let mut u = [[0u8; 65]; 6];
    let name = |u: &mut [[u8; 65]; 6]| {
        k!(SYS_uname, &mut *u);
        field(&u[1])
    };
    tell!(o, "too long" => k!(SYS_sethostname, c"x", 65), "negative" => k!(SYS_sethostname, c"x", -1), "set" => k!(SYS_sethostname, c"parity", 6), "name" => name(&mut u), "domain" => k!(SYS_setdomainname, c"dom", 3), "is" => { k!(SYS_uname, &mut u); field(&u[5]) });
}

fn descriptor_limit(o: Out) {
    let l = rlimit {
        rlim_cur: 30,
        rlim_max: 4096,
    };
    k!(SYS_prlimit64, 0, RLIMIT_NOFILE, &l, 0);
    let mut last = 0;
    let e = loop {
        let r = k!(SYS_dup, 0);
        if !r.ok() {
            break r;
        }
        last = r.int();
    };
    tell!(o, "last" => last, "error" => e, "open" => open(c"/dev/null", O_RDONLY, 0), "pipe" => k!(SYS_pipe2, &mut [0i32; 2], 0), "dup2 beyond" => k!(SYS_dup2, 0, 30), "dupfd beyond" => k!(SYS_fcntl, 0, F_DUPFD, 30), "socket" => k!(SYS_socket, AF_UNIX, SOCK_STREAM, 0), "high one works" => write(200, b""));
}

fn memory_file(o: Out) {
    let fd = k!(SYS_memfd_create, c"named", MFD_ALLOW_SEALING).int();
    let p = std::ffi::CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default();
    let mut b = [0u8; 64];
    let n = k!(SYS_readlinkat, AT_FDCWD, p.as_c_str(), &mut b, 64);
    tell!(o, "link" => show(&b[..n.addr().min(64)]), "write" => write(fd, b"data"), "truncate" => k!(SYS_ftruncate, fd, 2), "seals" => k!(SYS_fcntl, fd, F_GET_SEALS), "seal" => k!(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), "shrink" => k!(SYS_ftruncate, fd, 1), "grow" => k!(SYS_ftruncate, fd, 9), "write in" => k!(SYS_pwrite64, fd, b"x".as_slice(), 1, 0), "write beyond" => k!(SYS_pwrite64, fd, b"x".as_slice(), 1, 5), "seal write" => k!(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL), "write" => k!(SYS_pwrite64, fd, b"x".as_slice(), 1, 0), "sealed" => k!(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_GROW), "flags" => k!(SYS_memfd_create, c"x", 0x4000_0000), "unsealable" => k!(SYS_fcntl, k!(SYS_memfd_create, c"x", 0), F_GET_SEALS));
}

fn device_null(o: Out) {
    let fd = open(c"/dev/null", O_RDWR, 0).int();
    tell!(o, "write" => write(fd, b"gone"), "read" => read(fd, 9).0, "seek" => k!(SYS_lseek, fd, 100, SEEK_SET), "stat" => { let st = crate::util::fstat(fd); format!("{:o} {:#x}", st.st_mode, st.st_rdev) }, "truncate" => open(c"/dev/null", O_WRONLY | O_TRUNC | O_CREAT, 0o644).yes());
}

fn device_zero(o: Out) {
    let fd = open(c"/dev/zero", O_RDWR, 0).int();
    let mut b = [7u8; 64];
    tell!(o, "read" => k!(SYS_read, fd, &mut b, 64), "zeros" => b.iter().all(|x| *x == 0), "write" => write(fd, b"gone"));
    let m = crate::util::map_file(fd, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
    sys::poke(m.addr(), 5);
    let again = crate::util::map_file(fd, 4096, PROT_READ, MAP_PRIVATE, 0);
    tell!(o, "private" => sys::peek(m.addr()), "fresh" => sys::peek(again.addr()));
    let m = crate::util::map_file(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, 0).addr();
    tell!(o, "shared with a child" => in_child(|| { sys::poke(m, 9); 0 }), "seen" => sys::peek(m));
}

fn device_full(o: Out) {
    let fd = open(c"/dev/full", O_RDWR, 0).int();
    tell!(o, "write" => write(fd, b"x"), "read" => read(fd, 3).1);
}

fn device_random(o: Out) {
    for p in [c"/dev/random", c"/dev/urandom"] {
        let fd = open(p, O_RDWR, 0).int();
        let mut b = [0u8; 64];
        tell!(o, "read" => k!(SYS_read, fd, &mut b, 64), "not zeros" => b != [0; 64], "write" => write(fd, b"seed"));
    }
}

fn devices_listed(o: Out) {
    for p in [
        c"/dev/null",
        c"/dev/zero",
        c"/dev/full",
        c"/dev/random",
        c"/dev/urandom",
        c"/dev/tty",
    ] {
        let st = crate::util::stat_at(p, 0);
        say!(
            o,
            "{p:?} {}",
            st.map_or_else(
                |e| e.to_string(),
                |s| format!("{:o} {:#x}", s.st_mode, s.st_rdev)
            )
        );
    }
    for p in [c"/dev/fd", c"/dev/stdin", c"/dev/stdout", c"/dev/stderr"] {
        let mut b = [0u8; 64];
        let n = k!(SYS_readlinkat, AT_FDCWD, p, &mut b, 64);
        say!(
            o,
            "{p:?} {}",
            if n.ok() {
                show(&b[..n.addr()])
            } else {
                n.to_string()
            }
        );
    }
    let mut st: statfs = sys::zeroed();
    tell!(o, "shm" => stat_text(c"/dev/shm", 0), "shm type" => { k!(SYS_statfs, c"/dev/shm", &mut st); format!("{:#x}", st.f_type) }, "proc type" => { k!(SYS_statfs, c"/proc", &mut st); format!("{:#x}", st.f_type) });
}

fn proc_self(o: Out) {
    let mut b = [0u8; 64];
    let n = k!(SYS_readlinkat, AT_FDCWD, c"/proc/self", &mut b, 64);
    let me = k!(SYS_getpid).to_string();
    tell!(o, "self" => b[..n.addr()] == *me.as_bytes(), "kind" => stat_text(c"/proc/self/", 0), "exe" => { let n = k!(SYS_readlinkat, AT_FDCWD, c"/proc/self/exe", &mut b, 64); show(&b[..n.addr().min(64)]) }, "cwd" => { k!(SYS_chdir, c"/dev"); let n = k!(SYS_readlinkat, AT_FDCWD, c"/proc/self/cwd", &mut b, 64); show(&b[..n.addr().min(64)]) }, "root" => { let n = k!(SYS_readlinkat, AT_FDCWD, c"/proc/self/root", &mut b, 64); show(&b[..n.addr().min(64)]) }, "thread-self" => k!(SYS_readlinkat, AT_FDCWD, c"/proc/thread-self", &mut b, 64).ok());
}

fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn proc_stat_line(o: Out) {
    let s = text("/proc/self/stat");
    let (pid, rest) = s.split_once(" (").unwrap_or_default();
    let (comm, rest) = rest.rsplit_once(") ").unwrap_or_default();
    let f: Vec<&str> = rest.split_whitespace().collect();
    tell!(o, "pid" => pid == k!(SYS_getpid).to_string(), "comm" => comm, "state" => f[0], "ppid" => f[1] == k!(SYS_getppid).to_string(), "pgrp" => f[2] == k!(SYS_getpgrp).to_string(), "fields" => f.len() + 2, "threads" => f[17], "priority" => f[15], "nice" => f[16]);
    let t = text("/proc/self/statm");
    tell!(o, "statm" => t.split_whitespace().count());
}

fn proc_stat_scheduling(o: Out) {
    let told = || {
        let s = text("/proc/self/stat");
        let (_, rest) = s.rsplit_once(") ").unwrap_or_default();
        let f: Vec<&str> = rest.split_whitespace().collect();
        let signals = format!("signals {} {}", f[30], f[31]);
        format!("{signals}, {} {} {} {}", f[15], f[16], f[37], f[38])
    };
    k!(SYS_setpriority, PRIO_PROCESS, 0, 7);
    tell!(o, "nice" => told(), "batch" => k!(SYS_sched_setscheduler, 0, SCHED_BATCH, &0i32), "told" => told());
    let inherited = in_child(|| i32::from(told().ends_with(" 3")));
    tell!(o, "a child" => inherited, "real time" => k!(SYS_sched_setscheduler, 0, SCHED_FIFO, &5i32), "told" => told());
}

/// `/proc/PID/ns`: what is there, and whose is whose.
fn proc_namespaces(o: Out) {
    const NS_GET_PARENT: u64 = 0xb702;
    const NS_GET_NSTYPE: u64 = 0xb703;
    let dir = std::fs::read_dir("/proc/self/ns");
    let names: Vec<String> = dir
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    tell!(o, "names" => names.join(" "), "directory" => stat_text(c"/proc/self/ns", 0));
    let target = |path: &str| {
        let target = std::fs::read_link(path).unwrap_or_default();
        target.to_string_lossy().into_owned()
    };
    for name in &names {
        let path = format!("/proc/self/ns/{name}");
        let own = target(&path);
        let shape: String = own.chars().filter(|c| !c.is_ascii_digit()).collect();
        let digits = own.len() - shape.len();
        let c = std::ffi::CString::new(path.as_str()).unwrap_or_default();
        let fd = open(&c, O_RDONLY, 0).int();
        let opened = target(&format!("/proc/self/fd/{fd}")) == own;
        let number = own.trim_end_matches(']').rsplit('[').next();
        let ino = std::fs::metadata(&path).map_or(0, |m| std::os::unix::fs::MetadataExt::ino(&m));
        let parent = format!("/proc/{}/ns/{name}", k!(SYS_getppid));
        tell!(o, "link" => shape, "digits" => digits, "file" => stat_text(&c, 0), "link itself" => stat_text(&c, AT_SYMLINK_NOFOLLOW), "its number" => number == Some(&ino.to_string()), "of the parent" => target(&parent) == own, "descriptor" => opened);
        tell!(o, "kind" => k!(SYS_ioctl, fd, NS_GET_NSTYPE, 0), "parent" => k!(SYS_ioctl, fd, NS_GET_PARENT, 0), "other" => k!(SYS_ioctl, fd, 0xb7ff_u64, 0), "read" => read(fd, 4).0, "write" => open(&c, O_RDWR, 0), "nowhere" => k!(SYS_setns, fd, 1));
        k!(SYS_close, fd);
    }
    let before = target("/proc/self/ns/mnt");
    let child = in_child(|| {
        k!(SYS_unshare, CLONE_NEWNS);
        i32::from(target("/proc/self/ns/mnt") == before)
    });
    tell!(o, "missing" => target("/proc/self/ns/x"), "after unshare the same" => child);
}

/// `uid_map` and its like.
fn proc_id_maps(o: Out) {
    for name in ["uid_map", "gid_map", "projid_map", "setgroups"] {
        let path = format!("/proc/self/{name}");
        let c = std::ffi::CString::new(path.as_str()).unwrap_or_default();
        tell!(o, "text" => text(&path), "file" => stat_text(&c, 0));
        for what in ["", "0 0 1\n", "deny", "allow", "x\n"] {
            let file = std::fs::File::options().write(true).open(&path);
            let written = file.and_then(|mut f| std::io::Write::write(&mut f, what.as_bytes()));
            let written = written.map_err(|e| e.raw_os_error());
            tell!(o, "write" => format!("{what:?} {written:?}"));
        }
    }
}

/// `io`: what each kind of call adds.
fn proc_io(o: Out) {
    let counts = |path: &str| -> Vec<u64> {
        let text = text(path);
        let value = |l: &str| l.rsplit(' ').next().and_then(|w| w.parse().ok());
        text.lines().filter_map(value).take(4).collect()
    };
    let shape: Vec<String> = text("/proc/self/io")
        .lines()
        .map(|l| l.split(' ').next().unwrap_or_default().to_owned())
        .collect();
    tell!(o, "lines" => shape.join(" "), "file" => stat_text(c"/proc/self/io", 0));
    mk(c"f", b"twenty bytes of text");
    let f = open(c"f", O_RDWR, 0).int();
    let mut ends = [0i32; 2];
    k!(SYS_pipe2, &mut ends, 0);
    let mut buf = [0u8; 8];
    let vectors = [buf.as_mut_ptr() as usize, 4, buf.as_mut_ptr() as usize, 4];
    // Looking itself is a few reads.
    let idle = counts("/proc/self/io");
    let idle: Vec<u64> = counts("/proc/self/io")
        .iter()
        .zip(&idle)
        .map(|(a, b)| a - b)
        .collect();
    let step = |what: &str, call: &mut dyn FnMut() -> sys::R| {
        let before = counts("/proc/self/io");
        let r = call();
        let after = counts("/proc/self/io");
        let more = |i: usize| (after[i] - before[i]) as i64 - idle[i] as i64;
        // How long the text is varies, and so what looking at it reads.
        let read = more(0) / 4096;
        say!(o, "{what}: {r}, {read} {} {} {}", more(1), more(2), more(3));
    };
    step("read", &mut || k!(SYS_read, f, &mut buf, 8));
    step("read of nothing", &mut || k!(SYS_read, 99, &mut buf, 8));
    step("read to nowhere", &mut || k!(SYS_read, f, 16usize, 8));
    step("pread", &mut || k!(SYS_pread64, f, &mut buf, 8, 15));
    step("readv", &mut || k!(SYS_readv, f, &vectors, 2));
    step("readv of nothing", &mut || k!(SYS_readv, 99, &vectors, 2));
    step("write", &mut || k!(SYS_write, f, &buf, 8));
    step("pwrite", &mut || k!(SYS_pwrite64, f, &buf, 5, 3));
    step("writev", &mut || k!(SYS_writev, f, &vectors, 2));
    step("writev of nothing", &mut || k!(SYS_writev, 99, &vectors, 2));
    step("write to a reader", &mut || k!(SYS_write, ends[0], &buf, 8));
    step("to a pipe", &mut || k!(SYS_write, ends[1], &buf, 8));
    k!(SYS_lseek, f, 0, SEEK_SET);
    step("sendfile", &mut || k!(SYS_sendfile, ends[1], f, 0, 6));
    let zero = open(c"/dev/zero", O_RDONLY, 0).int();
    let mut much = vec![0u8; 3 << 12];
    step("much", &mut || k!(SYS_read, zero, &mut much[..], 3 << 12));
    step("a child", &mut || {
        in_child(|| k!(SYS_write, f, &buf, 8).int());
        sys::R(0)
    });
}

fn proc_status_fields(o: Out) {
    let s = text("/proc/self/status");
    for wanted in [
        "Name",
        "Umask",
        "State",
        "Uid",
        "Gid",
        "Groups",
        "Threads",
        "SigBlk",
        "SigIgn",
        "SigCgt",
        "NoNewPrivs",
        "Seccomp",
        "CapInh",
        "CapAmb",
    ] {
        let line = s.lines().find(|l| l.split(':').next() == Some(wanted));
        // The Rust runtime catches faults and ignores SIGPIPE on both sides.
        say!(
            o,
            "{}",
            line.unwrap_or("absent").replace('\t', " ").trim_end()
        );
    }
    for present in [
        "Pid",
        "PPid",
        "Tgid",
        "VmSize",
        "VmRSS",
        "VmPeak",
        "FDSize",
        "SigQ",
        "CapEff",
        "CapBnd",
        "Cpus_allowed",
    ] {
        say!(
            o,
            "{present} {}",
            s.lines().any(|l| l.split(':').next() == Some(present))
        );
    }
}

fn proc_cmdline_and_environ(o: Out) {
    let c = text("/proc/self/cmdline");
    tell!(o, "ends in zero" => c.ends_with('\0'), "first" => c.split('\0').next().unwrap_or_default().ends_with("probes"), "environ" => std::fs::read("/proc/self/environ").is_ok());
}

fn proc_fd_directory(o: Out) {
    let fd = open(c"/dev/null", O_RDWR | O_APPEND, 0).int();
    let listed = std::fs::read_dir("/proc/self/fd").map_or(0, |d| {
        d.flatten()
            .filter(|e| e.file_name().to_string_lossy() == fd.to_string())
            .count()
    });
    let info = text(&format!("/proc/self/fdinfo/{fd}"));
    tell!(o, "listed" => listed, "target" => std::fs::read_link(format!("/proc/self/fd/{fd}")).map_or_else(|e| e.to_string(), |p| p.display().to_string()), "position" => info.lines().next().unwrap_or_default().replace('\t', " "), "flags" => info.lines().nth(1).unwrap_or_default().replace('\t', " "), "closed" => stat_text(c"/proc/self/fd/99", 0), "link mode" => stat_text(c"/proc/self/fd/0", AT_SYMLINK_NOFOLLOW).split(" links").next().unwrap_or_default().starts_with("link"));
    mk(c"f", b"");
    let f = open(c"f", O_RDWR, 0).int();
    k!(SYS_unlink, c"f");
    tell!(o, "deleted" => std::fs::read_link(format!("/proc/self/fd/{f}")).is_ok_and(|p| p.display().to_string().ends_with("/f (deleted)")));
}

fn proc_other_process(o: Out) {
    let kid = sys::child(|| {
        k!(SYS_prctl, PR_SET_NAME, c"the-kid", 0, 0, 0);
        loop {
            k!(SYS_pause);
        }
    });
    crate::util::sleep_ms(40);
    let stat = text(&format!("/proc/{kid}/stat"));
    tell!(o, "comm" => text(&format!("/proc/{kid}/comm")).trim(), "sleeps" => stat.contains(") S "), "listed" => std::fs::read_dir("/proc").map_or(0, |d| d.flatten().filter(|e| e.file_name().to_string_lossy() == kid.to_string()).count()));
    k!(SYS_kill, kid, SIGSTOP);
    k!(SYS_wait4, kid, 0, WUNTRACED, 0);
    tell!(o, "stopped" => text(&format!("/proc/{kid}/stat")).contains(") T "));
    k!(SYS_kill, kid, SIGKILL);
    let mut i: siginfo_t = sys::zeroed();
    k!(SYS_waitid, P_PID, kid, &mut i, WEXITED | WNOWAIT, 0);
    tell!(o, "zombie" => text(&format!("/proc/{kid}/stat")).contains(") Z "), "cmdline" => text(&format!("/proc/{kid}/cmdline")).len());
    crate::util::wait_text(kid);
    tell!(o, "gone" => std::fs::metadata(format!("/proc/{kid}")).is_err(), "nobody" => std::fs::metadata("/proc/999999").is_err());
}

fn proc_mounts(o: Out) {
    let m = text("/proc/mounts");
    let at = |p: &str| m.lines().any(|l| l.split(' ').nth(1) == Some(p));
    tell!(o, "root" => at("/"), "proc" => at("/proc"), "fields" => m.lines().all(|l| l.split(' ').count() == 6), "mountinfo" => text("/proc/self/mountinfo").lines().all(|l| l.contains(" - ")));
}

fn proc_system_files(o: Out) {
    let mem = text("/proc/meminfo");
    tell!(o, "MemTotal" => mem.starts_with("MemTotal:"), "MemAvailable" => mem.contains("MemAvailable:"), "uptime" => text("/proc/uptime").split_whitespace().count(), "loadavg" => text("/proc/loadavg").split_whitespace().count(), "version" => text("/proc/version").starts_with("Linux version "), "stat" => text("/proc/stat").starts_with("cpu "), "cpuinfo" => text("/proc/cpuinfo").contains("processor\t: 0"), "filesystems" => text("/proc/filesystems").contains("tmpfs"), "pid_max" => text("/proc/sys/kernel/pid_max").trim().parse::<u64>().is_ok(), "ostype" => text("/proc/sys/kernel/osrelease").trim().len() > 2, "cmdline" => std::fs::metadata("/proc/cmdline").is_ok());
}

fn proc_unwritable(o: Out) {
    tell!(o, "create" => open(c"/proc/new", O_CREAT | O_RDWR, 0o644), "mkdir" => k!(SYS_mkdir, c"/proc/new", 0o755), "unlink" => k!(SYS_unlink, c"/proc/version"), "write" => open(c"/proc/version", O_WRONLY, 0).ok(), "rename" => k!(SYS_rename, c"/proc/version", c"/proc/v2"), "as user" => as_user(|| { tell!(o, "init's environ" => open(c"/proc/1/environ", O_RDONLY, 0)); }));
}

fn absent_calls(o: Out) {
    // Never there on x86-64, whatever the configuration.
    for nr in [
        174,
        177,
        178,
        SYS_getpmsg,
        SYS_putpmsg,
        SYS_afs_syscall,
        SYS_tuxcall,
        SYS_security,
        SYS_set_thread_area,
        SYS_get_thread_area,
        SYS_epoll_ctl_old,
        SYS_epoll_wait_old,
        SYS_vserver,
        SYS_uselib,
        SYS__sysctl,
        SYS_nfsservctl,
    ] {
        say!(o, "{nr} {}", sys::call(nr, &[]));
    }
}

fn membarrier_commands(o: Out) {
    tell!(o, "unknown" => k!(SYS_membarrier, 1 << 30, 0, 0), "flags" => k!(SYS_membarrier, 0, 99, 0), "unregistered" => k!(SYS_membarrier, 8, 0, 0));
}

fn rseq_and_friends(o: Out) {
    // Errors that hold whether or not the call is supported are not told.
    tell!(o, "set_tid_address" => k!(SYS_set_tid_address, 0) == k!(SYS_gettid), "restart" => k!(SYS_restart_syscall));
}

fn ipc_namespaces(o: Out) {
    tell!(o, "unshare nothing" => k!(SYS_unshare, 0), "bad flags" => k!(SYS_unshare, 1), "files" => in_child(|| k!(SYS_unshare, CLONE_FILES | CLONE_FS).int()), "setns" => k!(SYS_setns, 99, 0), "user without rights" => as_user(|| { tell!(o, "uts" => k!(SYS_unshare, CLONE_NEWUTS)); }));
}

fn name_to_handle(o: Out) {
    mk(c"f", b"");
    tell!(o, "flags" => k!(SYS_name_to_handle_at, AT_FDCWD, c"f", anon(4096), anon(4096), 0x4000_0000));
}

fn io_priority(o: Out) {
    tell!(o, "get" => k!(SYS_ioprio_get, 1, 0), "which" => k!(SYS_ioprio_get, 9, 0), "set" => k!(SYS_ioprio_set, 1, 0, 2 << 13 | 5), "get" => k!(SYS_ioprio_get, 1, 0), "class" => k!(SYS_ioprio_set, 1, 0, 9 << 13), "get" => k!(SYS_ioprio_get, 1, 0), "no class" => k!(SYS_ioprio_set, 1, 0, 4 << 13), "last class" => k!(SYS_ioprio_set, 1, 0, 7 << 13), "none with a level" => k!(SYS_ioprio_set, 1, 0, 3));
}

fn reboot_and_modules_refused(o: Out) {
    as_user(|| {
        tell!(o, "reboot" => k!(SYS_reboot, 0, 0, 0, 0), "swap" => k!(SYS_swapoff, c"/none"), "mount" => k!(SYS_mount, 0, c"/tmp", c"tmpfs", 0, 0), "umount" => k!(SYS_umount2, c"/proc", 0), "pivot" => k!(SYS_pivot_root, c"/", c"/"), "acct" => k!(SYS_acct, 0));
    });
}

fn times_and_ticks(o: Out) {
    let a = k!(SYS_times, 0).0;
    crate::util::sleep_ms(60);
    let d = k!(SYS_times, 0).0 - a;
    tell!(o, "hundredths" => (4..=60).contains(&d));
}
