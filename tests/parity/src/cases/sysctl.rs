//! /proc/sys: what is of a namespace's own can be changed, and is acted upon.

use crate::out::Out;
use crate::sys::R;
use crate::util::{as_user, cat, close, open, write};
use crate::{cases, k, say, tell};
use libc::*;
use std::ffi::CString;

cases!(
    ipc_limits_are_kept,
    ipc_limits_are_heeded,
    ipc_next_identifier,
    mqueue_limits,
    names_of_the_host,
    socket_backlog,
    numbers_read_and_written,
    who_may_write,
);

fn path(name: &str) -> CString {
    CString::new(format!("/proc/sys/{name}")).unwrap_or_default()
}

fn put(name: &str, value: &str) -> R {
    let fd = open(&path(name), O_WRONLY, 0);
    if !fd.ok() {
        return fd;
    }
    let done = write(fd.int(), value.as_bytes());
    close(fd.int());
    done
}

fn get(name: &str) -> String {
    cat(&path(name)).escape_debug().to_string()
}

fn ipc_limits_are_kept(o: Out) {
    for (name, values) in [
        ("kernel/msgmni", &["17", "0", "32768", "32769", "-1"][..]),
        ("kernel/msgmax", &["100", "-5"]),
        ("kernel/msgmnb", &["200", "\n", ""]),
        ("kernel/shmmni", &["5", "40000"]),
        ("kernel/shmmax", &["4096", "18446744073709551615", "x"]),
        ("kernel/shmall", &["12", "0x10", "010"]),
        (
            "kernel/sem",
            &["100 200 300 400", "7", "8 9", "1 2 3 99999"],
        ),
        ("kernel/msg_next_id", &["9", "-1", "-2"]),
    ] {
        let before = cat(&path(name));
        for value in values {
            let done = put(name, value);
            say!(o, "{name} {value:?} {done} {}", get(name));
        }
        let back = put(name, &before);
        // -1 cannot be written.
        say!(o, "back {}", back.ok() != before.starts_with('-'));
    }
}

fn ipc_limits_are_heeded(o: Out) {
    let names = [
        "kernel/msgmni",
        "kernel/msgmax",
        "kernel/msgmnb",
        "kernel/shmmax",
        "kernel/shmmni",
        "kernel/shmall",
        "kernel/sem",
    ];
    let before = names.map(|name| cat(&path(name)));
    let keep = |id: R, call: i64| {
        if id.ok() {
            match call {
                0 => k!(SYS_msgctl, id, IPC_RMID, 0),
                1 => k!(SYS_shmctl, id, IPC_RMID, 0),
                _ => k!(SYS_semctl, id, 0, IPC_RMID),
            };
        }
    };
    put("kernel/msgmax", "10");
    put("kernel/msgmnb", "15");
    let q = k!(SYS_msgget, IPC_PRIVATE, 0o600);
    let mut message = [0u8; 40];
    message[0] = 1;
    let mut send = |size: usize| k!(SYS_msgsnd, q, &mut message, size, IPC_NOWAIT);
    tell!(o, "too long" => send(11), "fits" => send(10), "full" => send(10));
    put("kernel/msgmni", "1");
    tell!(o, "one more" => k!(SYS_msgget, IPC_PRIVATE, 0o600).ok());
    let full = k!(SYS_msgget, IPC_PRIVATE, 0o600);
    tell!(o, "queues" => full);
    keep(q, 0);
    put("kernel/shmmax", "8192");
    for size in [8192usize, 8193] {
        let id = k!(SYS_shmget, IPC_PRIVATE, size, 0o600);
        say!(
            o,
            "shm {size} {}",
            if id.ok() {
                "made".into()
            } else {
                id.to_string()
            }
        );
        keep(id, 1);
    }
    put("kernel/shmall", "3");
    let (a, b) = (
        k!(SYS_shmget, IPC_PRIVATE, 8192usize, 0o600),
        k!(SYS_shmget, IPC_PRIVATE, 8192usize, 0o600),
    );
    tell!(o, "two pages" => a.ok(), "two more" => b);
    keep(a, 1);
    put("kernel/shmmni", "0");
    tell!(o, "segments" => k!(SYS_shmget, IPC_PRIVATE, 4096usize, 0o600));
    put("kernel/sem", "3 100 2 1");
    let s = k!(SYS_semget, IPC_PRIVATE, 3, 0o600);
    tell!(o, "set" => s.ok(), "large" => k!(SYS_semget, IPC_PRIVATE, 4, 0o600), "second" => k!(SYS_semget, IPC_PRIVATE, 1, 0o600));
    put("kernel/sem", "3 4 2 9");
    let one = k!(SYS_semget, IPC_PRIVATE, 1, 0o600);
    tell!(o, "one more" => one.ok(), "in all" => k!(SYS_semget, IPC_PRIVATE, 1, 0o600));
    keep(one, 2);
    let ops = [0u8; 18];
    tell!(o, "ops" => k!(SYS_semop, s, &ops[..], 3));
    keep(s, 2);
    for (name, value) in names.iter().zip(&before) {
        put(name, value);
    }
}

fn ipc_next_identifier(o: Out) {
    put("kernel/msg_next_id", "98311");
    let a = k!(SYS_msgget, IPC_PRIVATE, 0o600);
    say!(o, "{a} {}", get("kernel/msg_next_id"));
    put("kernel/msg_next_id", "98311");
    let b = k!(SYS_msgget, IPC_PRIVATE, 0o600);
    say!(o, "{b}");
    for id in [a, b] {
        k!(SYS_msgctl, id, IPC_RMID, 0);
    }
}

fn mqueue_limits(o: Out) {
    for (name, values) in [
        ("msg_max", &["20", "0", "65537"][..]),
        ("msg_default", &["5"]),
        ("msgsize_max", &["256", "100"]),
        ("msgsize_default", &["200"]),
        ("queues_max", &["1"]),
    ] {
        let name = format!("fs/mqueue/{name}");
        for value in values {
            say!(o, "{name} {value} {} {}", put(&name, value), get(&name));
        }
    }
    let status = as_user(|| {
        let name = c"sysctl-q";
        let q = k!(SYS_mq_open, name, O_CREAT | O_RDWR, 0o600, 0);
        let mut attr = [0i64; 8];
        k!(SYS_mq_getsetattr, q, 0, &mut attr);
        say!(o, "made {} {:?}", q.ok(), &attr[1..3]);
        say!(
            o,
            "second {}",
            k!(SYS_mq_open, c"sysctl-r", O_CREAT | O_RDWR, 0o600, 0)
        );
        k!(SYS_mq_unlink, name);
        let attr = [0i64, 21, 100, 0, 0, 0, 0, 0];
        say!(
            o,
            "more {}",
            k!(SYS_mq_open, name, O_CREAT | O_RDWR, 0o600, &attr)
        );
    });
    tell!(o, "user" => status);
    for (name, value) in [
        ("msg_max", "10"),
        ("msg_default", "10"),
        ("msgsize_max", "8192"),
        ("msgsize_default", "8192"),
        ("queues_max", "256"),
    ] {
        put(&format!("fs/mqueue/{name}"), value);
    }
}

fn names_of_the_host(o: Out) {
    let mut buf = [0u8; 390];
    for (name, at) in [("kernel/hostname", 65usize), ("kernel/domainname", 325)] {
        let before = cat(&path(name));
        for value in ["box\n", "a b\nc", &"x".repeat(70), ""] {
            let done = put(name, value);
            k!(SYS_uname, &mut buf);
            let text: Vec<u8> = buf[at..].iter().copied().take_while(|b| *b != 0).collect();
            say!(o, "{name} {done} {} {}", get(name), text.escape_ascii());
        }
        put(name, &before);
    }
}

fn socket_backlog(o: Out) {
    let name = "net/core/somaxconn";
    let before = cat(&path(name));
    tell!(o, "set" => put(name, "1"), "now" => get(name), "less" => put(name, "-1"));
    let s = k!(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
    let mut addr = [0u8; 12];
    addr[0] = AF_UNIX as u8;
    addr[3..].copy_from_slice(b"sysctl-bl");
    tell!(o, "bind" => k!(SYS_bind, s, &addr, 12), "listen" => k!(SYS_listen, s, 100));
    let clients: Vec<R> = (0..4)
        .map(|_| {
            let c = k!(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
            say!(o, "connect {}", k!(SYS_connect, c, &addr, 12));
            c
        })
        .collect();
    for fd in clients.into_iter().chain([s]) {
        k!(SYS_close, fd);
    }
    put(name, &before);
}

fn numbers_read_and_written(o: Out) {
    let name = "kernel/shmmni";
    let before = cat(&path(name));
    for value in [
        " 12", "12 ", "12\n\n", "\t12\t13", "12x", "0x1f", "017", "08", "+3", "- 3", "1 x", "\0",
    ] {
        let done = put(name, value);
        say!(o, "{value:?} {} {}", done.ok(), get(name));
    }
    put(name, &before);
}

fn who_may_write(o: Out) {
    for name in [
        "kernel/ostype",
        "kernel/hostname",
        "kernel/cap_last_cap",
        "kernel/random/uuid",
    ] {
        let fd = open(&path(name), O_RDWR, 0);
        say!(o, "{name} {}", fd.ok());
        if !fd.ok() {
            tell!(o, "why" => fd);
        } else {
            close(fd.int());
        }
    }
    let status = as_user(|| {
        tell!(o, "read" => open(c"/proc/sys/kernel/shmmni", O_RDONLY, 0).ok());
        tell!(o, "write" => open(c"/proc/sys/kernel/shmmni", O_WRONLY, 0));
    });
    tell!(o, "user" => status);
}
