//! System V IPC: messages.

use super::sysv::key;
use crate::out::Out;
use crate::sys::{self, R, child};
use crate::util::{as_user, sleep_ms, wait_text};
use crate::{cases, k, say, tell};
use libc::*;

const ALL: i32 = 0o600;

cases!(
    msg_send_and_receive,
    msg_arguments,
    msg_types,
    msg_sizes,
    msg_copy,
    msg_full_queue,
    msg_waits,
    msg_interrupted,
    msg_removed,
    msg_permissions,
    msg_status,
    msg_set,
    msg_information,
);

pub(super) fn msgget(flags: i32) -> R {
    k!(SYS_msgget, IPC_PRIVATE, flags)
}

pub(super) fn rm_msg(id: R) -> R {
    k!(SYS_msgctl, id, IPC_RMID, 0)
}

pub(super) fn send(id: R, kind: i64, text: &[u8], flags: i32) -> R {
    let mut b = kind.to_ne_bytes().to_vec();
    b.extend_from_slice(text);
    k!(SYS_msgsnd, id, &b[..], text.len(), flags)
}

fn recv(id: R, size: usize, kind: i64, flags: i32) -> String {
    let mut b = vec![0u8; 8 + size];
    let r = k!(SYS_msgrcv, id, &mut b[..], size, kind, flags);
    if !r.ok() {
        return r.to_string();
    }
    let kind = b[..8].try_into().map_or(0, i64::from_ne_bytes);
    let text = String::from_utf8_lossy(&b[8..8 + r.addr()]).into_owned();
    format!("{kind} {text:?}")
}

fn msg_ds(id: R) -> msqid_ds {
    let mut ds: msqid_ds = sys::zeroed();
    k!(SYS_msgctl, id, IPC_STAT, &mut ds);
    ds
}

fn msg_send_and_receive(o: Out) {
    let id = msgget(ALL);
    tell!(o, "send" => send(id, 1, b"one", 0), "send" => send(id, 2, b"two", 0), "empty" => send(id, 3, b"", 0), "recv" => recv(id, 10, 0, 0), "recv" => recv(id, 10, 0, 0), "recv" => recv(id, 10, 0, 0), "none" => recv(id, 10, 0, IPC_NOWAIT));
    rm_msg(id);
    tell!(o, "gone" => send(id, 1, b"", 0), "gone" => recv(id, 1, 0, 0), "gone" => rm_msg(id));
}

fn msg_arguments(o: Out) {
    let id = msgget(ALL);
    tell!(o, "type zero" => send(id, 0, b"x", 0), "negative type" => send(id, -1, b"x", 0), "too long" => send(id, 1, &[0; 8193], IPC_NOWAIT), "longest" => send(id, 1, &[0; 8192], 0), "negative id" => send(R(-1), 1, b"", 0), "bad address" => k!(SYS_msgsnd, id, 16, 1, 0),
        "negative size" => k!(SYS_msgsnd, id, &1i64, -1, 0), "recv negative" => k!(SYS_msgrcv, id, &mut [0u8; 16], -1, 0, 0), "recv bad id" => recv(R(-1), 1, 0, 0), "recv bad address" => k!(SYS_msgrcv, id, 16, 9000, 0, 0), "lost" => recv(id, 9000, 0, IPC_NOWAIT), "unknown op" => k!(SYS_msgctl, id, 99, 0), "negative op" => k!(SYS_msgctl, id, -1, 0));
    rm_msg(id);
    let k1 = key();
    tell!(o, "missing" => k!(SYS_msgget, k1, 0));
    let id = k!(SYS_msgget, k1, IPC_CREAT | ALL);
    tell!(o, "made" => id.yes(), "found" => k!(SYS_msgget, k1, 0) == id, "exclusive" => k!(SYS_msgget, k1, IPC_CREAT | IPC_EXCL));
    rm_msg(id);
}

fn msg_types(o: Out) {
    let id = msgget(ALL);
    for (kind, text) in [(3, b"c"), (1, b"a"), (2, b"b"), (1, b"A"), (5, b"e")] {
        send(id, kind, text, 0);
    }
    tell!(o, "exactly 2" => recv(id, 9, 2, IPC_NOWAIT), "up to 4" => recv(id, 9, -4, IPC_NOWAIT), "up to 4" => recv(id, 9, -4, IPC_NOWAIT), "up to 2" => recv(id, 9, -2, IPC_NOWAIT), "not 3" => recv(id, 9, 3, IPC_NOWAIT | MSG_EXCEPT), "no 9" => recv(id, 9, 9, IPC_NOWAIT), "any" => recv(id, 9, 0, IPC_NOWAIT | MSG_EXCEPT));
    send(id, 7, b"x", 0);
    tell!(o, "lowest of all" => recv(id, 9, i64::MIN, IPC_NOWAIT));
    rm_msg(id);
}

fn msg_sizes(o: Out) {
    let id = msgget(ALL);
    send(id, 1, b"hello", 0);
    tell!(o, "too small" => recv(id, 3, 0, 0), "still there" => msg_ds(id).msg_qnum, "cut" => recv(id, 3, 0, MSG_NOERROR), "gone" => msg_ds(id).msg_qnum);
    send(id, 1, b"x", 0);
    tell!(o, "no room at all" => recv(id, 0, 0, MSG_NOERROR));
    rm_msg(id);
}

fn msg_copy(o: Out) {
    let id = msgget(ALL);
    send(id, 1, b"a", 0);
    send(id, 2, b"b", 0);
    const COPY: i32 = 0o40000;
    tell!(o, "second" => recv(id, 9, 1, COPY | IPC_NOWAIT), "beyond" => recv(id, 9, 2, COPY | IPC_NOWAIT), "must not wait" => recv(id, 9, 0, COPY), "not with except" => recv(id, 9, 0, COPY | IPC_NOWAIT | MSG_EXCEPT), "both there" => msg_ds(id).msg_qnum);
    rm_msg(id);
}

fn msg_full_queue(o: Out) {
    let id = msgget(ALL);
    let mut n = 0;
    while send(id, 1, &[b'x'; 1000], IPC_NOWAIT).ok() {
        n += 1;
    }
    tell!(o, "sent" => n, "full" => send(id, 1, &[b'x'; 1000], IPC_NOWAIT), "bytes" => msg_ds(id).__msg_cbytes, "small fits" => send(id, 1, b"x", IPC_NOWAIT));
    let kid = child(|| i32::from(!send(id, 2, &[b'y'; 1000], 0).ok()));
    sleep_ms(60);
    tell!(o, "still waiting" => msg_ds(id).msg_qnum);
    recv(id, 1000, 0, 0);
    tell!(o, "child" => wait_text(kid), "count" => msg_ds(id).msg_qnum);
    rm_msg(id);
    let id = msgget(ALL);
    let mut n = 0;
    while n < 20000 && send(id, 1, b"", IPC_NOWAIT).ok() {
        n += 1;
    }
    tell!(o, "empty ones" => n);
    rm_msg(id);
}

fn msg_waits(o: Out) {
    let id = msgget(ALL);
    let kids = [1, 2].map(|kind| {
        child(move || {
            let got = recv(id, 10, kind, 0);
            i32::from(got != format!("{kind} \"for {kind}\""))
        })
    });
    sleep_ms(80);
    send(id, 2, b"for 2", 0);
    send(id, 1, b"for 1", 0);
    for kid in kids {
        say!(o, "{}", wait_text(kid));
    }
    let kid = child(|| {
        let got = recv(id, 2, 0, 0);
        i32::from(got != "-E2BIG")
    });
    sleep_ms(60);
    send(id, 1, b"large", 0);
    tell!(o, "told that it is too big" => wait_text(kid), "left" => msg_ds(id).msg_qnum);
    rm_msg(id);
}

fn msg_interrupted(o: Out) {
    let id = msgget(ALL);
    for flags in [0, SA_RESTART] {
        sys::on(SIGALRM, flags);
        let it = [0i64, 0, 0, 60_000];
        k!(SYS_setitimer, ITIMER_REAL, &it, 0);
        tell!(o, "interrupted" => recv(id, 9, 0, 0));
    }
    rm_msg(id);
}

fn msg_removed(o: Out) {
    let id = msgget(ALL);
    let kid = child(|| i32::from(recv(id, 9, 0, 0) != "-EIDRM"));
    sleep_ms(60);
    rm_msg(id);
    tell!(o, "receiver" => wait_text(kid));
    let id = msgget(ALL);
    while send(id, 1, &[b'x'; 4000], IPC_NOWAIT).ok() {}
    let kid = child(|| i32::from(send(id, 1, &[b'x'; 4000], 0).0 != i64::from(-EIDRM)));
    sleep_ms(60);
    rm_msg(id);
    tell!(o, "sender" => wait_text(kid));
}

fn msg_permissions(o: Out) {
    let read = msgget(0o644);
    let write = msgget(0o622);
    send(read, 1, b"x", 0);
    let text = as_user(|| {
        let mut ds: msqid_ds = sys::zeroed();
        tell!(o, "receive" => recv(read, 9, 0, IPC_NOWAIT), "send" => send(read, 1, b"", IPC_NOWAIT), "send" => send(write, 1, b"y", 0), "receive" => recv(write, 9, 0, IPC_NOWAIT), "stat" => k!(SYS_msgctl, write, IPC_STAT, &mut ds), "remove" => rm_msg(write));
    });
    say!(o, "{text}");
    rm_msg(read);
    rm_msg(write);
}

fn msg_status(o: Out) {
    let id = msgget(0o640);
    let ds = msg_ds(id);
    tell!(o, "mode" => format!("{:o}", ds.msg_perm.mode), "times" => format!("{} {} {}", ds.msg_stime, ds.msg_rtime, ds.msg_ctime > 0), "most" => ds.msg_qbytes, "pids" => format!("{} {}", ds.msg_lspid, ds.msg_lrpid));
    send(id, 1, b"abc", 0);
    send(id, 1, b"de", 0);
    let ds = msg_ds(id);
    tell!(o, "bytes" => ds.__msg_cbytes, "count" => ds.msg_qnum, "sender" => i64::from(ds.msg_lspid) == k!(SYS_getpid).0, "sent" => ds.msg_stime > 0);
    recv(id, 9, 0, 0);
    let ds = msg_ds(id);
    tell!(o, "bytes" => ds.__msg_cbytes, "count" => ds.msg_qnum, "receiver" => i64::from(ds.msg_lrpid) == k!(SYS_getpid).0, "received" => ds.msg_rtime > 0);
    rm_msg(id);
}

fn msg_set(o: Out) {
    let id = msgget(ALL);
    let mut ds = msg_ds(id);
    ds.msg_qbytes = 10;
    ds.msg_perm.mode = 0o666;
    ds.msg_perm.uid = 1000;
    tell!(o, "set" => k!(SYS_msgctl, id, IPC_SET, &ds), "too long" => send(id, 1, b"hello world", IPC_NOWAIT), "fits" => send(id, 1, b"hello", IPC_NOWAIT));
    let text = as_user(|| {
        let mut ds = msg_ds(id);
        ds.msg_qbytes = 20000;
        tell!(o, "more than allowed" => k!(SYS_msgctl, id, IPC_SET, &ds));
        ds.msg_qbytes = 16384;
        tell!(o, "allowed" => k!(SYS_msgctl, id, IPC_SET, &ds));
    });
    ds.msg_qbytes = 20000;
    tell!(o, "user" => text, "by root" => k!(SYS_msgctl, id, IPC_SET, &ds), "is" => msg_ds(id).msg_qbytes);
    rm_msg(id);
}

fn msg_information(o: Out) {
    let mut info = [0i32; 8];
    tell!(o, "info" => k!(SYS_msgctl, 0, IPC_INFO, &mut info).yes());
    info[7] &= 0xffff;
    say!(o, "{info:?}");
    let id = msgget(ALL);
    send(id, 1, b"abc", 0);
    let r = k!(SYS_msgctl, 0, 12, &mut info);
    tell!(o, "used" => r.yes(), "some" => info[0] > 0 && info[1] > 0 && info[6] >= 3);
    let mut ds: msqid_ds = sys::zeroed();
    tell!(o, "by place" => (0..=r.0).any(|i| k!(SYS_msgctl, i, 11, &mut ds) == id));
    rm_msg(id);
}
