//! System V IPC: shared memory, semaphores, and what all kinds have in common.

use super::sysv_msg::{rm_msg, send};
use crate::out::Out;
use crate::sys::{self, R, child, word};
use crate::util::{anon, as_user, in_child, now_ms, sleep_ms, wait_text};
use crate::{cases, k, say, tell};
use libc::*;
use std::sync::atomic::Ordering::SeqCst;

cases!(
    shm_life,
    shm_get_arguments,
    shm_attach_arguments,
    shm_attach_and_detach,
    shm_counts,
    shm_removed_while_attached,
    shm_between_processes,
    shm_over_fork_and_exec,
    shm_read_only,
    shm_permissions,
    shm_set,
    shm_locking,
    shm_information,
    sem_get_arguments,
    sem_values,
    sem_operations,
    sem_all_or_nothing,
    sem_waits,
    sem_waits_for_zero,
    sem_timeouts,
    sem_interrupted,
    sem_removed,
    sem_undo,
    sem_undo_is_forgotten,
    sem_undo_limits,
    sem_counts_waiters,
    sem_wakes_in_order,
    sem_set_wakes,
    sem_permissions,
    sem_status,
    sem_information,
    sem_mutex_between_processes,
    keys,
    proc_tables,
    limits_in_proc,
);

const ALL: i32 = 0o600;

fn shmget(size: usize, flags: i32) -> R {
    k!(SYS_shmget, IPC_PRIVATE, size, flags)
}

fn shmctl<T>(id: R, op: i32, buf: &mut T) -> R {
    k!(SYS_shmctl, id, op, buf)
}

fn rm_shm(id: R) -> R {
    k!(SYS_shmctl, id, IPC_RMID, 0)
}

fn shm_ds(id: R) -> shmid_ds {
    let mut ds: shmid_ds = sys::zeroed();
    shmctl(id, IPC_STAT, &mut ds);
    ds
}

fn at(id: R, addr: usize, flags: i32) -> R {
    k!(SYS_shmat, id, addr, flags)
}

/// A key that no other run uses at the same time.
pub(super) fn key() -> i32 {
    let pid = k!(SYS_getpid).int();
    0x4a00_0000 | (pid << 4) & 0xff_fff0 | (now_ms() as i32 & 0xf)
}

fn shm_life(o: Out) {
    let id = shmget(5000, ALL);
    tell!(o, "made" => id.yes());
    let ds = shm_ds(id);
    tell!(o, "size" => ds.shm_segsz, "mode" => format!("{:o}", ds.shm_perm.mode), "nattch" => ds.shm_nattch, "atime" => ds.shm_atime, "dtime" => ds.shm_dtime,
        "ctime" => ds.shm_ctime > 1_000_000, "creator" => i64::from(ds.shm_cpid) == k!(SYS_getpid).0, "last" => ds.shm_lpid);
    let a = at(id, 0, 0);
    tell!(o, "attached" => a.yes(), "zero" => sys::peek(a.addr() + 8191));
    sys::poke(a.addr(), 7);
    let b = at(id, 0, 0);
    tell!(o, "elsewhere" => a != b, "same bytes" => sys::peek(b.addr()));
    let ds = shm_ds(id);
    tell!(o, "nattch" => ds.shm_nattch, "atime" => ds.shm_atime > 0, "last" => i64::from(ds.shm_lpid) == k!(SYS_getpid).0);
    tell!(o, "detach" => k!(SYS_shmdt, a), "again" => k!(SYS_shmdt, a), "detach" => k!(SYS_shmdt, b), "nattch" => shm_ds(id).shm_nattch, "dtime" => shm_ds(id).shm_dtime > 0);
    let c = at(id, 0, 0);
    tell!(o, "kept" => sys::peek(c.addr()), "remove" => rm_shm(id));
    tell!(o, "mode" => format!("{:o}", shm_ds(id).shm_perm.mode), "key" => shm_ds(id).shm_perm.__key);
    k!(SYS_shmdt, c);
    let mut ds: shmid_ds = sys::zeroed();
    tell!(o, "gone" => shmctl(id, IPC_STAT, &mut ds), "attach" => at(id, 0, 0), "remove" => rm_shm(id));
}

fn shm_get_arguments(o: Out) {
    let k1 = key();
    tell!(o, "no size" => shmget(0, ALL), "huge" => shmget(usize::MAX, ALL), "missing" => k!(SYS_shmget, k1, 100, ALL));
    let id = k!(SYS_shmget, k1, 100, IPC_CREAT | ALL);
    tell!(o, "made" => id.yes(), "found" => k!(SYS_shmget, k1, 0, 0) == id, "smaller" => k!(SYS_shmget, k1, 50, 0) == id, "larger" => k!(SYS_shmget, k1, 101, 0),
        "exclusive" => k!(SYS_shmget, k1, 100, IPC_CREAT | IPC_EXCL | ALL), "exclusive alone" => k!(SYS_shmget, k1, 100, IPC_EXCL) == id, "create" => k!(SYS_shmget, k1, 100, IPC_CREAT) == id);
    rm_shm(id);
    tell!(o, "gone" => k!(SYS_shmget, k1, 100, 0));
    let mut ds: shmid_ds = sys::zeroed();
    tell!(o, "negative" => k!(SYS_shmctl, -1, IPC_STAT, &mut ds), "unknown op" => k!(SYS_shmctl, 0, 99, &mut ds), "negative op" => k!(SYS_shmctl, 0, -1, &mut ds));
    let id = shmget(4096, ALL);
    tell!(o, "bad address" => k!(SYS_shmctl, id, IPC_STAT, 16), "bad set" => k!(SYS_shmctl, id, IPC_SET, 16));
    rm_shm(id);
}

fn shm_attach_arguments(o: Out) {
    let id = shmget(8192, ALL);
    let room = anon(5 * 4096);
    k!(SYS_munmap, room + 4096, 3 * 4096);
    tell!(o, "negative" => k!(SYS_shmat, -1, 0, 0), "unaligned" => at(id, room + 4097, 0), "over something" => at(id, room, 0), "remap nowhere" => at(id, 0, SHM_REMAP),
        "rounded" => at(id, room + 4096 + 5, SHM_RND).addr() == room + 4096, "taken" => at(id, room + 8192, 0), "remapped" => at(id, room + 8192, SHM_REMAP).addr() == room + 8192,
        "nattch" => shm_ds(id).shm_nattch);
    tell!(o, "unaligned detach" => k!(SYS_shmdt, room + 4097), "not a segment" => k!(SYS_shmdt, room), "null" => k!(SYS_shmdt, 0), "first" => k!(SYS_shmdt, room + 4096), "second" => k!(SYS_shmdt, room + 8192), "nattch" => shm_ds(id).shm_nattch);
    rm_shm(id);
}

fn shm_attach_and_detach(o: Out) {
    let id = shmget(4 * 4096, ALL);
    let a = at(id, 0, 0).addr();
    tell!(o, "hole" => k!(SYS_munmap, a + 4096, 4096), "nattch" => shm_ds(id).shm_nattch, "middle" => k!(SYS_shmdt, a + 8192), "start" => k!(SYS_shmdt, a), "nattch" => shm_ds(id).shm_nattch);
    let a = at(id, 0, 0).addr();
    k!(SYS_munmap, a, 4096);
    tell!(o, "without its start" => k!(SYS_shmdt, a), "nattch" => shm_ds(id).shm_nattch);
    let a = at(id, 0, 0).addr();
    k!(SYS_mprotect, a + 4096, 4096, PROT_READ);
    tell!(o, "in parts" => k!(SYS_shmdt, a), "nattch" => shm_ds(id).shm_nattch);
    let a = at(id, 0, 0).addr();
    tell!(o, "unmapped" => k!(SYS_munmap, a, 4 * 4096), "nattch" => shm_ds(id).shm_nattch);
    rm_shm(id);
}

fn shm_counts(o: Out) {
    let id = shmget(4096, ALL);
    let a = at(id, 0, 0);
    let before = shm_ds(id).shm_nattch;
    let gone = in_child(|| {
        let n = shm_ds(id).shm_nattch as i32;
        k!(SYS_shmdt, a);
        n * 10 + shm_ds(id).shm_nattch as i32
    });
    tell!(o, "before" => before, "child" => gone, "after" => shm_ds(id).shm_nattch);
    let exits = in_child(|| 0);
    tell!(o, "exits attached" => exits, "after" => shm_ds(id).shm_nattch);
    rm_shm(id);
}

fn shm_removed_while_attached(o: Out) {
    let k1 = key();
    let id = k!(SYS_shmget, k1, 4096, IPC_CREAT | ALL);
    let a = at(id, 0, 0).addr();
    rm_shm(id);
    tell!(o, "by key" => k!(SYS_shmget, k1, 4096, 0), "still there" => at(id, 0, 0).yes(), "again" => rm_shm(id));
    sys::poke(a, 1);
    let kid = in_child(|| i32::from(sys::peek(a)));
    say!(o, "{kid}");
}

fn shm_between_processes(o: Out) {
    let id = shmget(4096, ALL);
    let kid = child(|| {
        let m = at(id, 0, 0).addr();
        for _ in 0..200 {
            if word(m).load(SeqCst) == 1 {
                word(m + 4).store(2, SeqCst);
                k!(SYS_futex, m + 4, FUTEX_WAKE, 1, 0, 0, 0);
                return 0;
            }
            sleep_ms(10);
        }
        1
    });
    let m = at(id, 0, 0).addr();
    word(m).store(1, SeqCst);
    let t = timespec {
        tv_sec: 5,
        tv_nsec: 0,
    };
    k!(SYS_futex, m + 4, FUTEX_WAIT, 0, &t, 0, 0);
    tell!(o, "child" => wait_text(kid), "word" => word(m + 4).load(SeqCst));
    rm_shm(id);
}

fn shm_over_fork_and_exec(o: Out) {
    let id = shmget(4096, ALL);
    at(id, 0, 0);
    let kid = child(|| {
        let argv = [
            c"x".as_ptr(),
            c"--child".as_ptr(),
            c"sleep".as_ptr(),
            std::ptr::null(),
        ];
        let env = [std::ptr::null::<c_char>()];
        k!(SYS_execve, c"/proc/self/exe", &argv, &env);
        9
    });
    sleep_ms(300);
    tell!(o, "after exec" => shm_ds(id).shm_nattch);
    k!(SYS_kill, kid, SIGKILL);
    wait_text(kid);
    rm_shm(id);
}

fn shm_read_only(o: Out) {
    let id = shmget(4096, ALL);
    let m = at(id, 0, SHM_RDONLY).addr();
    let f = sys::touch(m, sys::Access::Write);
    tell!(o, "write" => f.signal, "code" => f.code, "read" => sys::touch(m, sys::Access::Read).signal, "mprotect" => k!(SYS_mprotect, m, 4096, PROT_READ | PROT_WRITE));
    rm_shm(id);
}

fn shm_permissions(o: Out) {
    let mine = shmget(4096, 0o600);
    let read = shmget(4096, 0o644);
    let open = shmget(4096, 0o666);
    let text = as_user(|| {
        let mut ds: shmid_ds = sys::zeroed();
        tell!(o, "stat" => shmctl(mine, IPC_STAT, &mut ds), "attach" => at(mine, 0, SHM_RDONLY), "read attach" => at(read, 0, SHM_RDONLY).yes(), "write attach" => at(read, 0, 0), "exec" => at(open, 0, SHM_EXEC), "open" => at(open, 0, 0).yes(),
            "stat" => shmctl(read, IPC_STAT, &mut ds), "remove" => rm_shm(open), "set" => shmctl(open, IPC_SET, &mut ds), "lock" => k!(SYS_shmctl, open, SHM_LOCK, 0));
    });
    say!(o, "{text}");
    for id in [mine, read, open] {
        rm_shm(id);
    }
}

fn shm_set(o: Out) {
    let id = shmget(4096, 0o600);
    let mut ds = shm_ds(id);
    ds.shm_perm.mode = 0o7644;
    ds.shm_perm.uid = 1000;
    ds.shm_perm.gid = 1001;
    tell!(o, "set" => shmctl(id, IPC_SET, &mut ds));
    let now = shm_ds(id);
    tell!(o, "mode" => format!("{:o}", now.shm_perm.mode), "uid" => now.shm_perm.uid, "gid" => now.shm_perm.gid, "cuid" => now.shm_perm.cuid, "cgid" => now.shm_perm.cgid);
    let text = as_user(|| {
        let mut ds: shmid_ds = sys::zeroed();
        tell!(o, "owner attaches" => at(id, 0, 0).yes(), "owner stats" => shmctl(id, IPC_STAT, &mut ds), "owner removes" => rm_shm(id));
    });
    say!(o, "{text}");
    ds.shm_perm.uid = u32::MAX;
    let id = shmget(4096, 0o600);
    tell!(o, "no such uid" => shmctl(id, IPC_SET, &mut ds));
    rm_shm(id);
}

fn shm_locking(o: Out) {
    let id = shmget(4096, 0o600);
    tell!(o, "lock" => k!(SYS_shmctl, id, SHM_LOCK, 0), "mode" => format!("{:o}", shm_ds(id).shm_perm.mode), "unlock" => k!(SYS_shmctl, id, SHM_UNLOCK, 0), "mode" => format!("{:o}", shm_ds(id).shm_perm.mode));
    rm_shm(id);
}

fn shm_information(o: Out) {
    let mut info = [0u64; 9];
    let r = k!(SYS_shmctl, 0, IPC_INFO, &mut info);
    tell!(o, "result" => r.yes(), "info" => format!("{:?}", &info[1..4]), "address" => k!(SYS_shmctl, 0, IPC_INFO, 16));
    let id = shmget(4096, ALL);
    let mut used = [0u64; 6];
    const SHM_INFO: i32 = 14;
    let r = k!(SYS_shmctl, 0, SHM_INFO, &mut used);
    tell!(o, "result" => r.yes(), "some" => used[0] as u32 > 0 && used[1] > 0);
    let mut ds: shmid_ds = sys::zeroed();
    const SHM_STAT: i32 = 13;
    let found = (0..=r.0).any(|i| shmctl(R(i), SHM_STAT, &mut ds) == id);
    tell!(o, "by place" => found, "no place" => shmctl(R(32000), SHM_STAT, &mut ds), "any" => (0..=r.0).any(|i| shmctl(R(i), 15, &mut ds) == id));
    rm_shm(id);
}

fn semget(n: i32, flags: i32) -> R {
    k!(SYS_semget, IPC_PRIVATE, n, flags)
}

fn rm_sem(id: R) -> R {
    k!(SYS_semctl, id, 0, IPC_RMID, 0)
}

fn val(id: R, n: i32) -> R {
    k!(SYS_semctl, id, n, GETVAL, 0)
}

fn set(id: R, n: i32, v: i32) -> R {
    k!(SYS_semctl, id, n, SETVAL, v)
}

fn op(id: R, ops: &[(u16, i16, i32)]) -> R {
    let ops: Vec<sembuf> = bufs(ops);
    k!(SYS_semop, id, ops.as_ptr(), ops.len())
}

fn bufs(ops: &[(u16, i16, i32)]) -> Vec<sembuf> {
    ops.iter()
        .map(|(n, op, flags)| sembuf {
            sem_num: *n,
            sem_op: *op,
            sem_flg: *flags as i16,
        })
        .collect()
}

const SEM_UNDO: i32 = 0x1000;

fn sem_get_arguments(o: Out) {
    let k1 = key();
    tell!(o, "none" => semget(0, ALL), "negative" => semget(-1, ALL), "too many" => semget(32001, ALL), "missing" => k!(SYS_semget, k1, 1, 0));
    let id = k!(SYS_semget, k1, 3, IPC_CREAT | ALL);
    tell!(o, "made" => id.yes(), "found" => k!(SYS_semget, k1, 0, 0) == id, "fewer" => k!(SYS_semget, k1, 2, 0) == id, "more" => k!(SYS_semget, k1, 4, 0), "exclusive" => k!(SYS_semget, k1, 3, IPC_CREAT | IPC_EXCL));
    rm_sem(id);
    let one = sembuf {
        sem_num: 0,
        sem_op: 1,
        sem_flg: 0,
    };
    let id = semget(2, ALL);
    tell!(o, "no ops" => k!(SYS_semop, id, &one, 0), "too many ops" => k!(SYS_semop, id, &one, 501), "bad address" => k!(SYS_semop, id, 16, 1), "negative id" => k!(SYS_semop, -1, &one, 1),
        "no such" => op(id, &[(2, 1, 0)]), "unknown op" => k!(SYS_semctl, id, 0, 99, 0), "negative semctl" => k!(SYS_semctl, -1, 0, GETVAL, 0), "bad num" => val(id, 2), "bad num" => val(id, -1),
        "set bad num" => set(id, 2, 1), "set negative" => set(id, 0, -1), "set too much" => set(id, 0, 32768), "both wrong" => set(id, 9, -1));
    rm_sem(id);
    tell!(o, "gone" => val(id, 0), "gone" => op(id, &[(0, 1, 0)]));
}

fn sem_values(o: Out) {
    let id = semget(3, ALL);
    tell!(o, "zero" => val(id, 0), "set" => set(id, 1, 5), "now" => val(id, 1), "pid" => k!(SYS_semctl, id, 1, GETPID, 0) == k!(SYS_getpid), "others" => k!(SYS_semctl, id, 0, GETPID, 0));
    let mut all = [7u16, 8, 9];
    tell!(o, "set all" => k!(SYS_semctl, id, 0, SETALL, &all), "second" => val(id, 1));
    op(id, &[(0, -2, 0)]);
    tell!(o, "get all" => k!(SYS_semctl, id, 0, GETALL, &mut all), "all" => format!("{all:?}"), "pid" => k!(SYS_semctl, id, 2, GETPID, 0) == k!(SYS_getpid));
    all[1] = 40000;
    tell!(o, "too much" => k!(SYS_semctl, id, 0, SETALL, &all), "unchanged" => val(id, 0), "bad address" => k!(SYS_semctl, id, 0, SETALL, 16), "bad address" => k!(SYS_semctl, id, 0, GETALL, 16));
    rm_sem(id);
}

fn sem_operations(o: Out) {
    let id = semget(2, ALL);
    tell!(o, "up" => op(id, &[(0, 3, 0)]), "down" => op(id, &[(0, -2, 0)]), "is" => val(id, 0), "too far" => op(id, &[(0, -2, IPC_NOWAIT)]), "zero" => op(id, &[(0, 0, IPC_NOWAIT)]), "down" => op(id, &[(0, -1, 0)]),
        "zero" => op(id, &[(0, 0, IPC_NOWAIT)]), "most" => op(id, &[(0, 32767, 0)]), "more" => op(id, &[(0, 1, 0)]), "is" => val(id, 0));
    rm_sem(id);
}

fn sem_all_or_nothing(o: Out) {
    let id = semget(3, ALL);
    tell!(o, "first and second" => op(id, &[(0, 1, 0), (1, -1, IPC_NOWAIT)]), "first" => val(id, 0), "up and down" => op(id, &[(0, 1, 0), (0, -1, IPC_NOWAIT), (1, 2, 0)]), "second" => val(id, 1),
        "overflow" => op(id, &[(1, 5, 0), (2, 32767, 0), (2, 1, 0)]), "second" => val(id, 1), "no such" => op(id, &[(1, 5, 0), (3, 1, 0)]), "second" => val(id, 1), "pid" => k!(SYS_semctl, id, 0, GETPID, 0) == k!(SYS_getpid));
    rm_sem(id);
}

fn sem_waits(o: Out) {
    let id = semget(2, ALL);
    let kid = child(|| {
        let r = op(id, &[(0, -2, 0), (1, 1, 0)]);
        i32::from(r.0 != 0)
    });
    sleep_ms(80);
    tell!(o, "waiting" => k!(SYS_semctl, id, 0, GETNCNT, 0), "one is not enough" => op(id, &[(0, 1, 0)]), "still" => val(id, 0), "two are" => op(id, &[(0, 1, 0)]), "taken" => val(id, 0), "given" => val(id, 1), "child" => wait_text(kid), "by the child" => k!(SYS_semctl, id, 0, GETPID, 0).0 == i64::from(kid));
    rm_sem(id);
}

fn sem_waits_for_zero(o: Out) {
    let id = semget(1, ALL);
    set(id, 0, 2);
    let kid = child(|| i32::from(op(id, &[(0, 0, 0)]).0 != 0));
    sleep_ms(80);
    tell!(o, "zero waiters" => k!(SYS_semctl, id, 0, GETZCNT, 0), "other waiters" => k!(SYS_semctl, id, 0, GETNCNT, 0));
    op(id, &[(0, -1, 0)]);
    op(id, &[(0, -1, 0)]);
    tell!(o, "child" => wait_text(kid), "zero waiters" => k!(SYS_semctl, id, 0, GETZCNT, 0));
    rm_sem(id);
}

fn timed(id: R, ops: &[(u16, i16, i32)], ms: i64) -> R {
    let t = timespec {
        tv_sec: ms / 1000,
        tv_nsec: ms % 1000 * 1_000_000,
    };
    let ops = bufs(ops);
    k!(SYS_semtimedop, id, ops.as_ptr(), ops.len(), &t)
}

fn sem_timeouts(o: Out) {
    let id = semget(1, ALL);
    let t = now_ms();
    tell!(o, "timed out" => timed(id, &[(0, -1, 0)], 60), "long enough" => now_ms() - t >= 60, "at once" => timed(id, &[(0, -1, 0)], 0), "fine" => timed(id, &[(0, 1, 0)], 0), "negative" => timed(id, &[(0, -1, 0)], -1000), "waiters" => k!(SYS_semctl, id, 0, GETNCNT, 0));
    let bad = timespec {
        tv_sec: 0,
        tv_nsec: 2_000_000_000,
    };
    let ops = bufs(&[(0, 1, 0)]);
    tell!(o, "bad time" => k!(SYS_semtimedop, id, ops.as_ptr(), 1, &bad), "bad address" => k!(SYS_semtimedop, id, ops.as_ptr(), 1, 16), "none" => k!(SYS_semtimedop, id, ops.as_ptr(), 1, 0), "value" => val(id, 0));
    rm_sem(id);
}

fn sem_interrupted(o: Out) {
    let id = semget(1, ALL);
    sys::on(SIGALRM, SA_RESTART);
    let it = [0i64, 0, 0, 60_000];
    k!(SYS_setitimer, ITIMER_REAL, &it, 0);
    tell!(o, "interrupted" => op(id, &[(0, -1, 0)]), "waiters" => k!(SYS_semctl, id, 0, GETNCNT, 0));
    rm_sem(id);
}

fn sem_removed(o: Out) {
    let id = semget(1, ALL);
    let kid = child(|| i32::from(op(id, &[(0, -1, 0)]).0 == i64::from(-EIDRM)) + 10);
    sleep_ms(80);
    tell!(o, "remove" => rm_sem(id), "child" => wait_text(kid), "after" => op(id, &[(0, 1, 0)]));
}

fn sem_undo(o: Out) {
    let id = semget(2, ALL);
    set(id, 0, 5);
    let text = in_child(|| {
        op(id, &[(0, -3, SEM_UNDO), (1, 2, SEM_UNDO), (1, 4, 0)]);
        val(id, 0).int() * 10 + val(id, 1).int()
    });
    tell!(o, "child" => text, "first" => val(id, 0), "second" => val(id, 1));
    let killed = child(|| {
        op(id, &[(0, -1, SEM_UNDO)]);
        k!(SYS_pause);
        0
    });
    sleep_ms(80);
    tell!(o, "taken" => val(id, 0));
    k!(SYS_kill, killed, SIGKILL);
    tell!(o, "killed" => wait_text(killed), "given back" => val(id, 0), "by it" => k!(SYS_semctl, id, 0, GETPID, 0).0 == i64::from(killed));
    let not_inherited = in_child(|| {
        op(id, &[(0, -1, SEM_UNDO)]);
        in_child(|| 0);
        val(id, 0).int()
    });
    tell!(o, "not inherited" => not_inherited, "value" => val(id, 0));
    let waiter = child(|| i32::from(op(id, &[(0, -6, 0)]).0 != 0));
    let helper = in_child(|| {
        op(id, &[(0, -1, SEM_UNDO)]);
        op(id, &[(0, 1, 0)]);
        0
    });
    tell!(o, "helper" => helper, "woken by an undo" => wait_text(waiter), "value" => val(id, 0));
    rm_sem(id);
}

fn sem_undo_is_forgotten(o: Out) {
    let id = semget(2, ALL);
    let text = in_child(|| {
        op(id, &[(0, 3, SEM_UNDO), (1, 3, SEM_UNDO)]);
        set(id, 0, 9);
        0
    });
    tell!(o, "child" => text, "set is kept" => val(id, 0), "other is undone" => val(id, 1));
    let text = in_child(|| {
        op(id, &[(0, -3, SEM_UNDO), (1, 3, SEM_UNDO)]);
        k!(SYS_semctl, id, 0, SETALL, &[4u16, 4]);
        0
    });
    tell!(o, "child" => text, "set all" => val(id, 0), "set all" => val(id, 1));
    set(id, 0, 0);
    let text = in_child(|| {
        op(id, &[(0, 5, SEM_UNDO)]);
        op(id, &[(0, -3, 0)]);
        0
    });
    tell!(o, "child" => text, "not below zero" => val(id, 0));
    rm_sem(id);
}

fn sem_undo_limits(o: Out) {
    let id = semget(1, ALL);
    let text = in_child(|| {
        for _ in 0..2 {
            let r = op(id, &[(0, 20000, SEM_UNDO)]);
            let s = op(id, &[(0, -20000, 0)]);
            tell!(o, "up" => r, "down" => s);
        }
        0
    });
    tell!(o, "child" => text, "value" => val(id, 0));
    rm_sem(id);
}

fn sem_counts_waiters(o: Out) {
    let id = semget(2, ALL);
    set(id, 1, 1);
    let kids: Vec<i32> = [(0, -1), (0, -1), (1, 0), (1, -3)]
        .into_iter()
        .map(|(n, v)| {
            child(move || {
                op(id, &[(n, v, 0)]);
                0
            })
        })
        .collect();
    sleep_ms(120);
    let counts: Vec<String> = [(0, GETNCNT), (0, GETZCNT), (1, GETNCNT), (1, GETZCNT)]
        .iter()
        .map(|(n, c)| k!(SYS_semctl, id, *n, *c, 0).to_string())
        .collect();
    say!(o, "{counts:?}");
    rm_sem(id);
    for kid in kids {
        wait_text(kid);
    }
}

fn sem_wakes_in_order(o: Out) {
    let id = semget(2, ALL);
    let kids: Vec<i32> = [2i16, 1, 1]
        .into_iter()
        .map(|n| {
            let kid = child(move || {
                op(id, &[(0, -n, 0)]);
                op(id, &[(1, 1, 0)]);
                0
            });
            sleep_ms(50);
            kid
        })
        .collect();
    op(id, &[(0, 1, 0)]);
    sleep_ms(50);
    tell!(o, "who asks for less passes" => val(id, 1), "left" => val(id, 0));
    op(id, &[(0, 2, 0)]);
    sleep_ms(50);
    tell!(o, "then the first" => val(id, 1), "left" => val(id, 0));
    op(id, &[(0, 1, 0)]);
    for kid in kids {
        say!(o, "{}", wait_text(kid));
    }
    rm_sem(id);
}

fn sem_set_wakes(o: Out) {
    let id = semget(1, ALL);
    let kid = child(|| i32::from(op(id, &[(0, -2, 0)]).0 != 0));
    sleep_ms(60);
    set(id, 0, 3);
    tell!(o, "by SETVAL" => wait_text(kid), "left" => val(id, 0));
    let kid = child(|| i32::from(op(id, &[(0, -2, 0)]).0 != 0));
    sleep_ms(60);
    k!(SYS_semctl, id, 0, SETALL, &[2u16]);
    tell!(o, "by SETALL" => wait_text(kid), "left" => val(id, 0));
    rm_sem(id);
}

fn sem_permissions(o: Out) {
    let read = semget(1, 0o644);
    let alter = semget(1, 0o622);
    let text = as_user(|| {
        tell!(o, "get" => val(read, 0), "zero" => op(read, &[(0, 0, 0)]), "up" => op(read, &[(0, 1, 0)]), "set" => set(read, 0, 1), "get" => val(alter, 0), "up" => op(alter, &[(0, 1, 0)]), "zero" => op(alter, &[(0, 0, IPC_NOWAIT)]), "set" => set(alter, 0, 1), "remove" => rm_sem(alter), "all" => k!(SYS_semctl, alter, 0, GETALL, 16));
    });
    say!(o, "{text}");
    rm_sem(read);
    rm_sem(alter);
}

fn sem_ds(id: R) -> semid_ds {
    let mut ds: semid_ds = sys::zeroed();
    k!(SYS_semctl, id, 0, IPC_STAT, &mut ds);
    ds
}

fn sem_status(o: Out) {
    let id = semget(3, 0o640);
    let ds = sem_ds(id);
    tell!(o, "mode" => format!("{:o}", ds.sem_perm.mode), "nsems" => ds.sem_nsems, "otime" => ds.sem_otime, "ctime" => ds.sem_ctime > 0);
    op(id, &[(0, 0, 0)]);
    tell!(o, "otime" => sem_ds(id).sem_otime > 0);
    let mut ds = sem_ds(id);
    ds.sem_perm.mode = 0o777;
    ds.sem_perm.uid = 5;
    tell!(o, "set" => k!(SYS_semctl, id, 0, IPC_SET, &ds), "mode" => format!("{:o}", sem_ds(id).sem_perm.mode), "uid" => sem_ds(id).sem_perm.uid, "cuid" => sem_ds(id).sem_perm.cuid, "bad" => k!(SYS_semctl, id, 0, IPC_SET, 16));
    rm_sem(id);
}

fn sem_information(o: Out) {
    let mut info = [0i32; 10];
    tell!(o, "info" => k!(SYS_semctl, 0, 0, IPC_INFO, &mut info).yes());
    say!(o, "{info:?}");
    let id = semget(3, ALL);
    let r = k!(SYS_semctl, 0, 0, 19, &mut info);
    tell!(o, "used" => r.yes(), "some" => info[7] > 0 && info[9] >= 3);
    let mut ds: semid_ds = sys::zeroed();
    tell!(o, "by place" => (0..=r.0).any(|i| k!(SYS_semctl, i, 0, 18, &mut ds) == id), "no place" => k!(SYS_semctl, 31000, 0, 18, &mut ds));
    rm_sem(id);
}

fn sem_mutex_between_processes(o: Out) {
    let id = semget(1, ALL);
    set(id, 0, 1);
    let m = crate::util::shared(4096);
    let turn = || {
        for _ in 0..200 {
            op(id, &[(0, -1, SEM_UNDO)]);
            let n = word(m).load(SeqCst);
            k!(SYS_sched_yield);
            word(m).store(n + 1, SeqCst);
            op(id, &[(0, 1, SEM_UNDO)]);
        }
        0
    };
    let kids = [child(turn), child(turn), child(turn)];
    for kid in kids {
        say!(o, "{}", wait_text(kid));
    }
    tell!(o, "sum" => word(m).load(SeqCst), "value" => val(id, 0));
    rm_sem(id);
}

fn keys(o: Out) {
    let k1 = key();
    let shm = k!(SYS_shmget, k1, 10, IPC_CREAT | ALL);
    let sem = k!(SYS_semget, k1, 1, IPC_CREAT | ALL);
    let msg = k!(SYS_msgget, k1, IPC_CREAT | ALL);
    tell!(o, "kinds are apart" => shm.ok() && sem.ok() && msg.ok(), "key" => shm_ds(shm).shm_perm.__key == k1);
    let text = as_user(|| {
        tell!(o, "may not read" => k!(SYS_shmget, k1, 10, 0o400), "asks for nothing" => k!(SYS_shmget, k1, 10, 0).yes(), "sem" => k!(SYS_semget, k1, 1, 0o600), "msg" => k!(SYS_msgget, k1, 0o200), "create" => k!(SYS_msgget, k1, IPC_CREAT | 0o600));
    });
    say!(o, "{text}");
    rm_shm(shm);
    rm_sem(sem);
    rm_msg(msg);
    let private = [shmget(10, ALL), shmget(10, ALL)];
    tell!(o, "private ones differ" => private[0] != private[1]);
    for id in private {
        rm_shm(id);
    }
}

fn proc_tables(o: Out) {
    let k1 = key();
    let shm = k!(SYS_shmget, k1, 5000, IPC_CREAT | 0o640);
    let sem = k!(SYS_semget, k1, 2, IPC_CREAT | 0o640);
    let msg = k!(SYS_msgget, k1, IPC_CREAT | 0o640);
    send(msg, 1, b"abc", 0);
    for (name, id, times) in [
        ("shm", shm, 11..14),
        ("sem", sem, 8..10),
        ("msg", msg, 11..14),
    ] {
        let text = std::fs::read_to_string(format!("/proc/sysvipc/{name}")).unwrap_or_default();
        let mut lines = text.lines();
        say!(o, "{:?}", lines.next());
        let mine = lines.find(|l| l.split_whitespace().nth(1) == Some(&id.to_string()));
        let me = k!(SYS_getpid).to_string();
        let words: Vec<String> = mine
            .unwrap_or_default()
            .split_whitespace()
            .enumerate()
            .map(|(i, w)| match i {
                0 => format!("key {}", w == k1.to_string()),
                1 => "id".into(),
                _ if w == me => "pid".into(),
                _ if times.contains(&i) && w != "0" => "time".into(),
                _ => w.to_owned(),
            })
            .collect();
        tell!(o, "line" => format!("{words:?}"), "width" => mine.map_or(0, str::len) >= 60);
    }
    rm_shm(shm);
    rm_sem(sem);
    rm_msg(msg);
}

fn limits_in_proc(o: Out) {
    for name in [
        "shmmax", "shmall", "shmmni", "sem", "msgmax", "msgmnb", "msgmni",
    ] {
        let text = std::fs::read_to_string(format!("/proc/sys/kernel/{name}"));
        say!(o, "{name} {:?}", text.map_err(|e| e.kind()));
    }
}
