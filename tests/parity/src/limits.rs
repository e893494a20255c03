//! What a container does that is meant to reach its limits. These are no cases: natively nobody
//! stops them.

use crate::k;
use crate::sys::{self, poke};
use crate::util::{PAGE, close, in_child, map, open, sleep_ms, wait_text, write};

const MIB: usize = 1 << 20;

/// Runs `probes --child limits WHAT [N]`.
pub fn run(args: &[String]) -> i32 {
    let n: usize = args.get(1).and_then(|a| a.parse().ok()).unwrap_or(0);
    match args.first().map_or("", String::as_str) {
        "hog" => println!("{}", in_child(|| hog(n))),
        "hog-alone" => {
            hog(n);
            println!("had it all");
        }
        "sparse" => println!("{}", in_child(|| sparse(n))),
        "tmpfs" => println!("{}", in_child(|| tmpfs(n))),
        "shared" => println!("{}", in_child(|| shared_hog(n))),
        "fork" => println!("{}", in_child(|| fork_and_write(n))),
        "adjusted" => adjusted(n),
        "forks" => forks(),
        "bomb" => bomb(),
        _ => return 2,
    }
    // Whatever happened, there is room again.
    println!("then {}", in_child(|| hog(8)));
    0
}

fn touch_all(a: usize, len: usize) {
    (0..len).step_by(PAGE).for_each(|i| poke(a + i, 1));
}

fn hog(mib: usize) -> i32 {
    for _ in 0..mib {
        touch_all(crate::util::anon(MIB), MIB);
    }
    0
}

/// A page here and there, far more addresses than memory; then all of it.
fn sparse(mib: usize) -> i32 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let a = map(0, mib * MIB, libc::PROT_READ | libc::PROT_WRITE, flags).addr();
    (0..mib * MIB)
        .step_by(64 * PAGE)
        .for_each(|i| poke(a + i, 1));
    println!("sparse");
    touch_all(a, mib * MIB);
    0
}

fn shared_hog(mib: usize) -> i32 {
    touch_all(crate::util::shared(mib * MIB), mib * MIB);
    0
}

fn tmpfs(mib: usize) -> i32 {
    let fd = open(c"/tmp/big", libc::O_CREAT | libc::O_RDWR, 0o600).int();
    k!(SYS_unlink, c"/tmp/big");
    for _ in 0..mib {
        if !write(fd, &vec![1; MIB]).ok() {
            return 1;
        }
    }
    0
}

/// Half of it, twice: the copy is one too many.
fn fork_and_write(mib: usize) -> i32 {
    let a = crate::util::anon(mib * MIB);
    touch_all(a, mib * MIB);
    println!(
        "copy {}",
        in_child(|| {
            touch_all(a, mib * MIB);
            0
        })
    );
    0
}

/// Two children, of which the smaller asks to be taken first.
fn adjusted(mib: usize) {
    let willing = sys::child(|| {
        let fd = open(c"/proc/self/oom_score_adj", libc::O_WRONLY, 0).int();
        write(fd, b"1000");
        close(fd);
        hog(4);
        loop {
            sleep_ms(1000);
        }
    });
    sleep_ms(300);
    let large = sys::child(|| hog(mib));
    println!("willing {}", wait_text(willing));
    println!("large {}", wait_text(large));
}

/// As many children as there may be.
fn forks() {
    let mut children = Vec::new();
    let error = loop {
        let pid = k!(SYS_fork);
        if pid.0 == 0 {
            loop {
                sleep_ms(1000);
            }
        }
        if !pid.ok() {
            break pid;
        }
        children.push(pid.int());
    };
    println!("{} children, then {error}", children.len());
    for pid in children {
        k!(SYS_kill, pid, libc::SIGKILL);
        wait_text(pid);
    }
}

/// Children that do nothing but fork, until somebody ends the container.
fn bomb() {
    if k!(SYS_fork).0 == 0 {
        loop {
            if !k!(SYS_fork).ok() {
                sleep_ms(10);
            }
        }
    }
    println!("bomb");
    loop {
        sleep_ms(1000);
    }
}
