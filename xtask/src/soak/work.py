"""Threads, processes, sockets, memory, timers, terminals: each part leaves nothing behind."""
import array, asyncio, ctypes, fcntl, mmap, multiprocessing, os, pty, select, shutil, signal
import socket, sqlite3, subprocess, sys, tempfile, threading, time

libc = ctypes.CDLL(None, use_errno=True)
here = tempfile.mkdtemp(prefix="soak.")


def threads():
    lock, total = threading.Lock(), [0]

    def add():
        for _ in range(100):
            with lock:
                total[0] += 1

    for _ in range(5):
        all = [threading.Thread(target=add) for _ in range(20)]
        for t in all: t.start()
        for t in all: t.join()
    assert total[0] == 10000
    # Some wait while their process ends.
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            for _ in range(10):
                threading.Thread(target=threading.Event().wait, daemon=True).start()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0


def processes():
    for _ in range(20):
        assert subprocess.run(["/bin/echo", "x"], capture_output=True).stdout == b"x\n"
    with multiprocessing.Pool(4) as pool:
        assert sum(pool.map(abs, range(-100, 0))) == 5050
    # Killed in the middle of all kinds of things.
    programs = ["cat", "sleep 100", "yes > /dev/null", "while :; do :; done",
                "read x < /dev/ptmx", "tail -f /dev/null", "(sleep 100 & wait) | cat"]
    for program in programs * 2:
        p = subprocess.Popen(["/bin/sh", "-c", program], stdin=subprocess.PIPE,
                             start_new_session=True)
        time.sleep(0.02)
        os.killpg(p.pid, signal.SIGKILL)
        p.wait()
        p.stdin.close()


def sockets():
    path = here + "/socket"
    for kind in socket.SOCK_STREAM, socket.SOCK_SEQPACKET:
        for name in path, "\0soak%d" % os.getpid():
            server = socket.socket(socket.AF_UNIX, kind)
            server.bind(name)
            server.listen(5)
            ends = []
            for _ in range(5):
                c = socket.socket(socket.AF_UNIX, kind)
                c.connect(name)
                ends.append(c)
            for c in ends[:3]:
                s, _ = server.accept()
                c.send(b"x" * 1000)
                assert len(s.recv(2000)) == 1000
                s.close()
            # Two are never accepted.
            server.close()
            for c in ends: c.close()
            if name == path: os.unlink(path)
    for _ in range(20):
        a, b = socket.socketpair()
        # One in flight in the other, and itself: garbage that only a collector finds.
        socket.send_fds(a, [b"x"], [a.fileno(), b.fileno()])
        socket.send_fds(b, [b"x"], [a.fileno(), b.fileno(), 0])
        a.close()
        b.close()
        r, w = os.pipe()
        a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        socket.send_fds(a, [b"x"], [r, w])
        for fd in socket.recv_fds(b, 1, 2)[1]: os.close(fd)
        socket.send_fds(a, [b"x"], [r, w])
        for fd in r, w: os.close(fd)
        a.close()
        b.close()


def memory():
    for size in 1 << 12, 1 << 16, 1 << 20, 1 << 23:
        with tempfile.TemporaryFile(dir=here) as f:
            f.truncate(size)
            m = mmap.mmap(f.fileno(), size)
            m[:] = b"y" * size
            m.flush()
            pid = os.fork()
            if pid == 0:
                m[0] = 1
                os._exit(0)
            os.waitpid(pid, 0)
            assert m[0] == 1
            m.close()
        m = mmap.mmap(-1, size)
        for at in range(0, size, 4096): m[at] = 1
        m.madvise(mmap.MADV_DONTNEED)
        m.close()
        fd = os.memfd_create("soak")
        os.ftruncate(fd, size)
        m = mmap.mmap(fd, size)
        m[size - 1] = 1
        os.close(fd)
        m.close()
    # System V: a segment that is removed while attached.
    libc.shmat.restype = ctypes.c_void_p
    id = libc.shmget(0, 1 << 16, 0o1600)
    at = libc.shmat(id, None, 0)
    ctypes.memset(at, 1, 1 << 16)
    libc.shmctl(id, 0, None)
    libc.shmdt(ctypes.c_void_p(at))
    sem = libc.semget(0, 3, 0o1600)
    libc.semctl(sem, 0, 0)
    q = libc.msgget(0, 0o1600)
    libc.msgsnd(q, ctypes.byref((ctypes.c_long * 4)(1, 2, 3, 4)), 24, 0)
    libc.msgctl(q, 0, None)


def waits():
    e = select.epoll()
    pairs = [os.pipe() for _ in range(50)]
    for r, _ in pairs: e.register(r, select.EPOLLIN | select.EPOLLET)
    for _, w in pairs: os.write(w, b"x")
    while e.poll(0): pass
    inner = select.epoll()
    inner.register(e.fileno(), select.EPOLLIN)
    # Closed while registered, and in either order.
    for r, w in pairs[:25]: os.close(r), os.close(w)
    e.close()
    inner.close()
    for r, w in pairs[25:]: os.close(w), os.close(r)
    fds = [os.pidfd_open(os.getpid()), libc.eventfd(1, 0), libc.timerfd_create(1, 0),
           libc.inotify_init1(0)]
    spec = (ctypes.c_long * 4)(0, 1000000, 1000, 0)
    libc.timerfd_settime(fds[2], 0, spec, None)
    libc.inotify_add_watch(fds[3], here.encode(), 0xFFF)
    open(here + "/watched", "w").close()
    os.unlink(here + "/watched")
    for fd in fds: os.close(fd)
    hits = []
    signal.signal(signal.SIGALRM, lambda *_: hits.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    while len(hits) < 20: signal.pause()
    signal.setitimer(signal.ITIMER_REAL, 0)
    # Ends with its timers armed.
    pid = os.fork()
    if pid == 0:
        signal.setitimer(signal.ITIMER_REAL, 1000)
        signal.setitimer(signal.ITIMER_PROF, 1000)
        timer = ctypes.c_void_p()
        libc.timer_create(1, None, ctypes.byref(timer))
        libc.timer_settime(timer, 0, (ctypes.c_long * 4)(1000, 0, 1000, 0), None)
        os._exit(0)
    os.waitpid(pid, 0)


def terminals():
    for _ in range(5):
        pid, fd = pty.fork()
        if pid == 0:
            os.execl("/bin/sh", "sh", "-c", "read line; echo got $line; sleep 0.05 & sleep 100")
        os.write(fd, b"hello\n")
        text = b""
        while b"got hello" not in text: text += os.read(fd, 1000)
        # Hung up.
        os.close(fd)
        os.waitpid(pid, 0)


def database():
    path = here + "/db"
    db = sqlite3.connect(path)
    db.execute("pragma journal_mode=wal")
    db.execute("create table t(a, b)")
    for _ in range(20):
        with db: db.executemany("insert into t values (?, ?)", ((n, "x" * n) for n in range(100)))
    other = sqlite3.connect(path)
    assert other.execute("select count(*) from t").fetchone() == (2000,)
    other.close()
    db.close()


async def many():
    async def one(n):
        p = await asyncio.create_subprocess_exec("/bin/cat", stdin=-1, stdout=-1)
        assert (await p.communicate(b"%d" % n))[0] == b"%d" % n

    await asyncio.gather(*map(one, range(10)))


def locks():
    with open(here + "/locked", "w+") as f:
        fcntl.lockf(f, fcntl.LOCK_EX)
        blocked = []
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                fcntl.lockf(f, fcntl.LOCK_EX)
                os._exit(0)
            blocked.append(pid)
        os.kill(blocked[0], signal.SIGKILL)
        fcntl.lockf(f, fcntl.LOCK_UN)
        for pid in blocked: os.waitpid(pid, 0)


for part in threads, processes, sockets, memory, waits, terminals, database, locks:
    part()
asyncio.run(many())
shutil.rmtree(here)
