//! Real programs of a Debian tree: what they write and how they end is what the same command
//! writes natively in a chroot.

use crate::case::{Result, cases, equal, same};
use crate::place::Place;

cases!("programs":
    bash_pipes,
    bash_traps,
    bash_here_documents,
    bash_job_control,
    bash_arithmetic,
    bash_process_substitution,
    bash_redirections,
    bash_signals_and_status,
    bash_files,
    bash_reads_its_script_from_standard_input,
    all_of_usr_is_listed,
    all_of_usr_is_found,
    sort_with_little_memory,
    all_of_usr_is_searched,
    archives_of_many_files,
    many_files_of_the_container_itself,
    text_tools,
    packages_are_listed,
    xargs_in_parallel,
    python_threads,
    python_processes,
    python_files,
    python_sockets_and_signals,
    python_database,
    python_fails_as_it_does_natively,
    perl_text,
    perl_processes,
    perl_files,
);

fn compare(place: &Place<'_>, args: &[&str], input: &[u8]) -> Result {
    let root = place.debian()?;
    let native = place.native(root, args, input)?;
    same(&native, &place.sandboxed(root, args, input)?)
}

fn bash(place: &Place<'_>, script: &str) -> Result {
    compare(place, &["bash", "-c", script], b"")
}

fn python(place: &Place<'_>, script: &str) -> Result {
    compare(place, &["python3", "-B", "-c", script], b"")
}

fn perl(place: &Place<'_>, script: &str) -> Result {
    compare(place, &["perl", "-e", script], b"")
}

fn bash_pipes(place: &Place<'_>) -> Result {
    bash(
        place,
        r#"
seq 1 2000 | grep 7 | sort -rn | head -5
yes | head -n 3; echo "${PIPESTATUS[@]}"
set -o pipefail; false | true; echo $?
seq 100000 | while read -r n; do ((n == 500)) && { echo "at $n"; break; }; done
printf '%s\n' c a b | tee >(sort > /tmp/sorted) | tr a-c A-C
until [ -s /tmp/sorted ]; do sleep 0.05; done; cat /tmp/sorted
(echo out; echo err >&2) 2>&1 >/dev/null | sed 's/^/2: /'
head -c 3000000 /dev/zero | tr '\0' x | wc -c
mkfifo /tmp/f; (for i in 1 2 3; do echo $i; done > /tmp/f) & cat /tmp/f; wait
coproc cat; echo "through it" >&${COPROC[1]}; read -r line <&${COPROC[0]}; echo "$line"
x=$(echo one; echo two >&2; exit 3); echo "$x $?"
"#,
    )
}

fn bash_traps(place: &Place<'_>) -> Result {
    bash(
        place,
        r#"
trap 'echo usr1' USR1; kill -USR1 $$; echo after
trap 'echo term' TERM; kill -TERM $BASHPID
trap '' INT; kill -INT $$; echo ignored
trap - INT
(trap 'echo sub exit' EXIT; exit 4); echo $?
trap 'echo err at $LINENO' ERR; false; trap - ERR
trap 'echo chld' CHLD; set -m; sleep 0.05 & wait; set +m; trap - CHLD
f() { trap 'echo return' RETURN; echo in f; }; f; trap - RETURN
trap 'echo hup; exit 5' HUP
( sleep 0.2; kill -HUP $BASHPID ); echo $?
trap -p
trap 'echo alarm' ALRM; (sleep 0.1; kill -ALRM $$) & sleep 1; wait; echo woke
trap 'echo "bye $?"' EXIT
exit 7
"#,
    )
}

fn bash_here_documents(place: &Place<'_>) -> Result {
    bash(
        place,
        r#"
x=value
cat <<E
plain $x $((1+2)) `echo sub`
E
cat <<'E'
quoted $x
E
cat <<-E
	tabs go
	E
cat <<< "here string $x"
while read -r a b; do echo "$b $a"; done <<E
1 one
2 two
E
cat - /dev/fd/3 3<<A <<B
from three
A
from zero
B
big=$(seq 1 20000); wc -l <<< "$big"
"#,
    )
}

fn bash_job_control(place: &Place<'_>) -> Result {
    bash(
        place,
        r#"
set -m
sleep 0.3 & jobs; fg %1; echo "fg: $?"
state() { while [ "$(ps -o stat= -p $1 | cut -c1)" != $2 ]; do sleep 0.02; done; }
sleep 5 & jobs; kill %1; wait %1; echo $?
(state $$ S; exit 3) & wait -n; echo $?
sleep 0.1 & sleep 0.2 & wait; jobs; echo "all done"
{ sleep 0.05; exit 9; } & p=$!; wait $p; echo $?
sleep 10 & disown; kill $!
set +m; (sleep 0.05; echo child) & wait; echo "$?"
wait 999999; echo $?
timeout 0.2 sleep 5; echo $?
timeout -s INT 0.2 sleep 5; echo $?
suspended() { kill -STOP $BASHPID; echo resumed; }
suspended & p=$!; state $p T; kill -CONT $p; wait $p; echo $?
ps -o pid=,ppid=,ni= -p $$
"#,
    )
}

fn bash_arithmetic(place: &Place<'_>) -> Result {
    bash(
        place,
        r#"
echo $((2**62)) $((2**63-1)) $((-7/2)) $((-7%3)) $((16#ff)) $((1<<40)) $((5>3?1:0))
((x=5, x++, x*=2)); echo $x; let y=x%5; echo $y
for ((i=0; i<5; i++)); do printf '%d ' $((i*i)); done; echo
(echo $((1/0))); echo "after $?"
a=(1 2 3); echo $((a[0]+a[2])) ${#a[@]} ${a[@]: -1}
declare -A m=([k]=v [x]=y); echo ${m[k]} ${#m[@]}
printf '%05.2f|%x|%o|%e|%q\n' 3.14159 255 8 12345.678 'a b'
s=abcdef; echo ${s:1:3} ${s/cd/XX} ${s^^} ${s%ef} ${#s} ${s//[ace]/_}
fib() { (($1<2)) && echo $1 || echo $(( $(fib $(($1-1))) + $(fib $(($1-2))) )); }; fib 8
[[ abc =~ a(.)c ]] && echo ${BASH_REMATCH[1]}
echo {1..5} {a..e..2} x{1,2}y
"#,
    )
}

fn bash_process_substitution(place: &Place<'_>) -> Result {
    bash(
        place,
        r#"
diff <(seq 5) <(seq 2 6); echo $?
cat <(echo a) <(echo b) | paste -s
seq 10 > >(tail -1 > /tmp/last); until [ -s /tmp/last ]; do sleep 0.1; done; cat /tmp/last
while read -r l; do last=$l; done < <(seq 100); echo $last
comm -12 <(sort <(printf '%s\n' b a c)) <(printf '%s\n' a c d)
mapfile -t lines < <(printf '%s\n' x y z); echo "${#lines[@]} ${lines[2]}"
exec 5< <(echo kept open); cat <&5; exec 5<&-
wc -c < <(head -c 200000 /dev/zero)
"#,
    )
}

fn bash_redirections(place: &Place<'_>) -> Result {
    bash(
        place,
        r#"
cd /tmp
echo one > f; echo two >> f; cat < f
exec 3<> f; read -r l <&3; echo "got $l"; echo three >&3; cat f; exec 3>&-
{ echo o; echo e >&2; } &> both; cat both
set -C; echo no > f; echo $?; echo yes >| f; cat f; set +C
cat nosuch; echo $?
echo x > /nosuch/dir; echo $?
echo x > /tmp; echo $?
exec 4>&1 1>to; echo hidden; exec 1>&4; cat to
echo > /dev/full; echo $?
: > /dev/null && head -c 8 /dev/zero | od -An -tx1
[ -t 0 ] || echo no terminal
read -t 0.1 -r x < <(sleep 1); echo "read: $?"
ulimit -n; ulimit -s; ulimit -c
"#,
    )
}

fn bash_signals_and_status(place: &Place<'_>) -> Result {
    bash(
        place,
        r#"
exec 2> >(sed -E 's/line [0-9]+: +[0-9]+/line N: N/' >&1); filter=$!
for s in HUP INT QUIT ILL ABRT FPE KILL SEGV PIPE ALRM TERM; do bash -c "kill -$s \$\$"; echo $s $?; done
exec 2>&1; wait $filter
nosuchcommand; echo $?
/etc/passwd; echo $?
/tmp; echo $?
./nosuch; echo $?
bash -c 'exit 300'; echo $?
printf '#!/nosuch/interpreter\n' > /tmp/s; chmod +x /tmp/s; /tmp/s; echo $?
printf '#!/bin/sh -e\necho "$0 $*"; false; echo no' > /tmp/s; /tmp/s a 'b c'; echo $?
printf 'echo no hash bang' > /tmp/s; /tmp/s; echo $?
: > /tmp/empty; chmod +x /tmp/empty; /tmp/empty; echo $?
head -c 100 /dev/zero > /tmp/zeros; chmod +x /tmp/zeros; /tmp/zeros; echo $?
kill -0 99999; echo $?
kill -l TERM 9 137
exec -a otherwise sh -c 'echo $0; kill -9 $$; echo the first process is not to be killed'
"#,
    )
}

fn bash_files(place: &Place<'_>) -> Result {
    bash(
        place,
        r#"
cd /tmp; umask 027
mkdir -p a/b/c; touch a/f; ln -s f a/l; ln a/f a/h; mkfifo a/p
stat -c '%n %F %a %h %u %g' a a/* ; stat -c '%n %s' a/*[!b]; readlink -f a/l
touch -d '2001-02-03 04:05:06 UTC' a/f; stat -c '%y %Y' a/f; ls -l --time-style=+%s a/f
cp -a a z; diff -r --no-dereference a/b z/b; mv z/f z/g; ls -R z
chmod u+s,g+w a/f; stat -c %A a/f; chown 1000:1001 a/f; stat -c '%u %g %A' a/f
rm a; echo $?; rmdir a; echo $?; rm -r a z
truncate -s 1G big; stat -c '%s %b' big; du -k big; dd if=/dev/urandom of=big bs=1k count=8 seek=1000 conv=notrunc status=none; stat -c %s big
mktemp -u XXXX | wc -c; mkdir d; cd d; rmdir ../d; pwd; ls; touch x; echo $?; cd ..
for i in {1..50}; do echo $i > "n $i"; done; ls | head -3; rm n*; ls
test -r /etc/shadow && echo readable; test -x /bin/sh -a ! -x /etc/passwd; echo $?
shopt -s globstar nullglob; echo /usr/lib/python3/**/*.nosuch; echo /etc/pass*
flock big -c 'echo locked'; sync; cat big | tail -c 1048576 | tr -d '\0' | wc -c
"#,
    )
}

fn bash_reads_its_script_from_standard_input(place: &Place<'_>) -> Result {
    let mut script = String::from("cat | head -1\nthis line is eaten\n");
    compare(place, &["bash", "-s", "a", "b"], script.as_bytes())?;
    script = String::new();
    for n in 0..2000 {
        script += &format!("x=$((x+{n}))\n");
    }
    script += "echo $x $0 $*; read -r y; echo \"and $?\"\nexit 4";
    compare(place, &["bash", "-s", "a", "b"], script.as_bytes())
}

fn all_of_usr_is_listed(place: &Place<'_>) -> Result {
    compare(place, &["ls", "-lR", "/usr"], b"")
}

fn all_of_usr_is_found(place: &Place<'_>) -> Result {
    bash(
        place,
        r"
cd /usr
find . -printf '%p %y %s %m %U %G %n %T@ %b %l\n' | sort | sha256sum
find . -type f -size +500k | sort
find /etc -newer /etc/debian_version -name '*.conf' | sort
find . -type l ! -exec test -e {} \; -print | sort | head -30
find lib/python3 -name '*.py' -exec wc -c {} + | tail -1
find . -inum 0; find nosuch; echo $?
du -s --apparent-size . ; du -s .
",
    )
}

fn sort_with_little_memory(place: &Place<'_>) -> Result {
    bash(
        place,
        r"
cd /tmp
seq 200000 | awk '{print ($1*7919)%200003, $1}' > n
sort -S 256k -n n | sha256sum; sort -S 1M --parallel=4 -k2,2nr n | head -2; sort -u -t' ' -k1,1.1 n | wc -l
sort -c n; echo $?; shuf --random-source=n n | sort | sha256sum
ls /tmp
",
    )
}

fn all_of_usr_is_searched(place: &Place<'_>) -> Result {
    bash(
        place,
        r"
grep -rl GPL /usr/share | sort | sha256sum; grep -rc 'the' /usr/share/perl5 | sort | tail -3
grep -rn --include='*.py' 'def main' /usr/lib/python3 /usr/lib/python3.* | sort | head -50
grep -r nosuchwordanywhere /etc; echo $?; grep x /nosuch; echo $?
grep -aob ELF /bin/true; zcat /usr/share/doc/*/changelog*.gz | wc
",
    )
}

/// 10,000 files in memory.
fn archives_of_many_files(place: &Place<'_>) -> Result {
    bash(
        place,
        r#"
cd /tmp; mkdir t; cd t
for d in {0..99}; do mkdir d$d; for f in {0..99}; do echo "file $f of $d" > d$d/f$f; done; done
find . -type f | wc -l
tar --sort=name --mtime=@0 --numeric-owner -cf ../t.tar . && sha256sum ../t.tar
gzip -n -k ../t.tar && sha256sum ../t.tar.gz; gzip -t ../t.tar.gz; echo $?
mkdir ../u; tar -xzf ../t.tar.gz -C ../u; diff -r . ../u; echo $?
bzip2 -k ../t.tar && bzip2 -dc ../t.tar.bz2 | cmp - ../t.tar; xz -0 -c ../t.tar | xz -dc | cmp - ../t.tar; echo $?
gzip -n -r d1 d2; ls d1 | head -2; cat d*/f* 2>/dev/null | sort | sha256sum
grep -r 'file 77' . | sort | sha256sum; find . -name 'f9*' -delete; find . | wc -l
head -c 100000 ../t.tar.gz > ../cut.gz; gzip -dc ../cut.gz | wc -c; tar -xzf ../cut.gz -C ../u; echo $?
cd ..; rm -rf t u; ls
"#,
    )
}

/// Files that are written through to the host.
fn many_files_of_the_container_itself(place: &Place<'_>) -> Result {
    let script = r#"
mkdir /work; cd /work; umask 022
for d in $(seq 0 19); do mkdir d$d; for f in $(seq 0 49); do echo "file $f of $d" > d$d/f$f; done; done
find . -type f | wc -l
tar -cf /t.tar d0 d7; tar -tf /t.tar | wc -l; gzip -c /t.tar | gzip -dc | cmp - /t.tar; echo $?
mkdir x; tar -xf /t.tar -C x; diff -r d7 x/d7; echo $?
grep -r "file 77" . | sort | sha256sum; find . -type f | sort | xargs cat | sha256sum
ln d0/f0 hard; ln -s d0/f1 soft; mv d1 renamed; chmod 640 d2/f*; chown 7:8 d3/f3
stat -c '%h %s' hard; find . -type f | xargs sha256sum | sort | sha256sum
rm -r d4 d5; ls | wc -l; rm /t.tar
"#;
    let args = ["/bin/sh", "-c", script];
    let root = place.tree()?;
    let listing = || -> Result<String> {
        let script = "cd /work; find . | sort | xargs ls -dln | awk '{print $1, $2, $3, $4, $NF}'";
        let out = place.native(&root, &["/bin/sh", "-c", script], b"")?.out();
        std::fs::remove_dir_all(root.join("work"))?;
        Ok(out)
    };
    let native = place.native(&root, &args, b"")?;
    let native_files = listing()?;
    same(&native, &place.sandboxed(&root, &args, b"")?)?;
    equal("the files on the host", &listing()?, &native_files)
}

fn text_tools(place: &Place<'_>) -> Result {
    bash(
        place,
        r#"
awk -F: '{n[$7]++} END {for (s in n) print n[s], s}' /etc/passwd | sort
sed -n '2,4{s/:/|/gp}' /etc/passwd; cut -d: -f1,3 /etc/group | tail -3; tac /etc/debian_version
seq 10 | paste - - | head -2; seq 5 | xargs -n2 echo; fold -w 10 <<< "a long line to be folded"
join <(printf 'a 1\nb 2\n') <(printf 'b x\nc y\n'); uniq -c <<< $'a\na\nb'; nl /etc/issue; expr 6 \* 7
od -c <<< "abc" | head -1; base64 <<< hello | base64 -d; md5sum /bin/bash | wc -c; split -b 100 /etc/passwd /tmp/x; cat /tmp/x* | cmp - /etc/passwd
date -u -d @86400 '+%F %T'; TZ=UTC date -d '2020-02-30' ; printf '%(%Y)T\n' 0; env -i A=1 env; id; whoami; hostname; pwd; tty
file /bin/bash /etc/passwd | sed 's/BuildID[^,]*//'; basename /a/b.c .c; dirname /a/b; realpath /bin/../etc; seq -s, 5; factor 1234567890
"#,
    )
}

fn packages_are_listed(place: &Place<'_>) -> Result {
    bash(
        place,
        "dpkg -l | sha256sum; dpkg-query -W | wc -l; dpkg -S /bin/bash; dpkg --verify bash; echo $?; \
         dpkg-deb --version | head -1; apt-cache --version | head -1; dpkg -s nosuch; echo $?",
    )
}

fn xargs_in_parallel(place: &Place<'_>) -> Result {
    bash(
        place,
        "seq 60 | xargs -P 8 -n 1 sh -c 'echo $(( $0 * $0 ))' | sort -n | tail -3; \
         seq 4 | xargs -P 4 -I{} sh -c 'exit $(({} == 3 ? 5 : 0))'; echo $?; \
         for i in 1 2 3 4; do (seq 20000 | md5sum) & done; wait",
    )
}

fn python_threads(place: &Place<'_>) -> Result {
    python(
        place,
        r"
import threading, queue, time, concurrent.futures as cf, sys
q, out, lock = queue.Queue(), [], threading.Lock()
def worker():
    while (n := q.get()) is not None:
        with lock: out.append(n * n)
ts = [threading.Thread(target=worker) for _ in range(8)]
[t.start() for t in ts]
for n in range(2000): q.put(n)
[q.put(None) for _ in ts]; [t.join() for t in ts]
print(sum(out), len(out), threading.active_count())
e, c, b = threading.Event(), threading.Condition(), threading.Barrier(4)
got = []
def wait(n):
    b.wait(); e.wait()
    with c: got.append(n); c.notify_all()
ts = [threading.Thread(target=wait, args=(n,)) for n in range(4)]
[t.start() for t in ts]; e.set()
with c: c.wait_for(lambda: len(got) == 4, 10)
print(sorted(got)); [t.join() for t in ts]
s = threading.Semaphore(2); print(s.acquire(), s.acquire(), s.acquire(timeout=0.05))
with cf.ThreadPoolExecutor(20) as ex: print(sum(ex.map(lambda n: len(str(2 ** n)), range(500))))
t = threading.Timer(0.05, lambda: print('timer')); t.start(); t.join()
def fail(): raise ValueError('in a thread')
threading.excepthook = lambda a: print('hook', a.exc_type.__name__, a.exc_value)
t = threading.Thread(target=fail); t.start(); t.join()
threading.stack_size(65536)
ts = [threading.Thread(target=time.sleep, args=(0.05,)) for _ in range(100)]
[t.start() for t in ts]; [t.join() for t in ts]; print('hundred')
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
sys.exit(3)
",
    )
}

fn python_processes(place: &Place<'_>) -> Result {
    python(
        place,
        r"
import subprocess as sp, os, sys, signal, multiprocessing as mp
sys.stdout.reconfigure(line_buffering=True)
print(sp.run(['sh', '-c', 'cat; echo err >&2; exit 3'], input=b'in', capture_output=True))
print(sp.check_output('echo $0 | tr a-z A-Z', shell=True))
p = sp.Popen(['sleep', '60']); p.terminate(); print(p.wait())
try: sp.run(['sleep', '60'], timeout=0.1)
except sp.TimeoutExpired as e: print(e.cmd)
try: sp.run(['/nosuch'])
except FileNotFoundError as e: print(e)
try: sp.run(['/etc/passwd'])
except PermissionError as e: print(e)
a = sp.Popen(['seq', '100000'], stdout=sp.PIPE); b = sp.Popen(['wc', '-l'], stdin=a.stdout, stdout=sp.PIPE)
a.stdout.close(); print(b.communicate(), a.wait())
print(sp.run(['pwd'], cwd='/usr', stdout=sp.PIPE, env={}, start_new_session=True).stdout)
pid = os.fork()
if pid == 0: os._exit(17)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
r, w = os.pipe()
if os.fork() == 0: os.dup2(w, 1); os.execvp('echo', ['echo', 'from exec'])
os.close(w); print(os.read(r, 100)); os.wait()
try: os.wait()
except ChildProcessError as e: print(e)
pid = os.posix_spawn('/bin/sh', ['sh', '-c', 'kill -9 $$'], {}); print(os.waitpid(pid, 0)[1])
def square(n): return n * n
def put(q): q.put(os.getpid() != 1)
mp.set_start_method('fork')
with mp.Pool(4) as pool: print(pool.map(square, range(20)))
q = mp.Queue(); p = mp.Process(target=put, args=(q,)); p.start(); print(q.get()); p.join(); print(p.exitcode)
v = mp.Value('i', 0)
def add():
    for _ in range(200):
        with v.get_lock(): v.value += 1
ps = [mp.Process(target=add) for _ in range(4)]; [p.start() for p in ps]; [p.join() for p in ps]; print(v.value)
from multiprocessing import shared_memory
s = shared_memory.SharedMemory(create=True, size=100); s.buf[0] = 7
p = mp.Process(target=lambda: s.buf.__setitem__(1, s.buf[0] + 1)); p.start(); p.join(); print(s.buf[1]); s.close(); s.unlink()
print(os.listdir('/dev/shm'), os.cpu_count() > 0)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(9)); os.kill(os.getpid(), signal.SIGTERM)
",
    )
}

fn python_files(place: &Place<'_>) -> Result {
    python(
        place,
        r"
import os, shutil, tempfile, stat, mmap, fcntl, errno, glob, zipfile, io, pathlib, json, hashlib
os.chdir('/tmp')
with tempfile.TemporaryDirectory() as d:
    p = pathlib.Path(d)
    (p / 'a/b').mkdir(parents=True); (p / 'a/f').write_text('x' * 5000); os.symlink('f', p / 'a/l'); os.link(p / 'a/f', p / 'a/h')
    shutil.copytree(p / 'a', p / 'c', symlinks=True); os.chmod(p / 'c/f', 0o751); os.utime(p / 'c/f', ns=(123456789, 987654321123456789))
    s = os.stat(p / 'c/f'); print(s.st_size, oct(s.st_mode), s.st_nlink, s.st_uid, s.st_mtime_ns, s.st_atime_ns, s.st_blocks)
    print(sorted((e.name, e.is_dir(), e.is_symlink()) for e in os.scandir(p / 'c')), os.readlink(p / 'c/l'))
    for t in sorted((r[len(d):], sorted(ds), sorted(fs)) for r, ds, fs in os.walk(d)): print(t)
    shutil.make_archive(d + '/z', 'zip', d, 'a'); print(sorted(zipfile.ZipFile(d + '/z.zip').namelist()))
    shutil.move(p / 'c', p / 'moved'); shutil.rmtree(p / 'moved'); print(sorted(os.listdir(d)), shutil.disk_usage(d)[0] > 0)
    for f in (lambda: open(p / 'no'), lambda: os.rmdir(p / 'a'), lambda: os.mkdir(p / 'a'), lambda: open(p / 'a', 'w'), lambda: os.listdir(p / 'a/f'), lambda: os.readlink(p / 'a/f'), lambda: os.rename(p / 'a', p / 'a/b/c'), lambda: os.open('x' * 256, 0), lambda: os.link(d, d + 'x')):
        try: f()
        except OSError as e: print(errno.errorcode[e.errno], e.strerror)
print(os.path.exists(d))
with tempfile.TemporaryFile() as f:
    f.write(b'abc' * 1000); f.flush(); m = mmap.mmap(f.fileno(), 0); print(len(m), m[3:6]); m[0:3] = b'XYZ'; m.flush(); f.seek(0); print(f.read(4)); m.close()
    os.ftruncate(f.fileno(), 10); f.seek(0); print(f.read()); os.lseek(f.fileno(), 1 << 20, 0); os.write(f.fileno(), b'end'); print(os.fstat(f.fileno()).st_size, os.pread(f.fileno(), 3, 1 << 20))
with open('lock', 'w') as f:
    fcntl.lockf(f, fcntl.LOCK_EX); pid = os.fork()
    if pid == 0:
        try: fcntl.lockf(open('lock', 'w'), fcntl.LOCK_EX | fcntl.LOCK_NB); os._exit(0)
        except BlockingIOError: os._exit(5)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
with open('u', 'w', encoding='utf-8') as f: f.write('größe ☃\n' * 1000)
print(os.path.getsize('u'), hashlib.sha256(open('u', 'rb').read()).hexdigest()[:16])
a, b = os.open('u', os.O_RDONLY), os.open('v', os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600); print(os.sendfile(b, a, 0, 5000), os.copy_file_range(a, b, 100, 0)); os.close(a); os.close(b)
print(oct(stat.S_IMODE(os.stat('v').st_mode)), os.access('v', os.X_OK), os.getcwd(), os.umask(0o77), sorted(glob.glob('*')))
os.mkfifo('p'); r = os.open('p', os.O_RDONLY | os.O_NONBLOCK); w = os.open('p', os.O_WRONLY); os.write(w, b'fifo'); print(os.read(r, 10))
fd = os.open('/tmp', os.O_RDONLY); print(os.stat('u', dir_fd=fd).st_size, sorted(os.listdir(fd))[:2]); os.fchdir(fd)
print(json.load(io.StringIO(json.dumps({'k': [1, 2.5, None]}))), os.path.realpath('/proc/self/cwd'), os.path.samefile('/proc/self/exe', '/usr/bin/python3'))
os.memfd_create('m'); print(open('/proc/self/comm').read(), open('/proc/self/cmdline', 'rb').read()[:12])
",
    )
}

fn python_sockets_and_signals(place: &Place<'_>) -> Result {
    python(
        place,
        r"
import socket, select, selectors, signal, os, asyncio, time, threading, resource, pty, errno
a, b = socket.socketpair(); t = threading.Thread(target=lambda: print(len(b.recv(700000, socket.MSG_WAITALL)))); t.start(); a.sendall(b'x' * 700000); t.join()
socket.send_fds(a, [b'fd'], [os.open('/etc/passwd', os.O_RDONLY)]); m, fds, _, _ = socket.recv_fds(b, 10, 1); print(m, len(fds), os.fstat(fds[0]).st_size > 0)
s = socket.socket(socket.AF_UNIX); s.bind('/tmp/s'); s.listen()
def client():
    c = socket.socket(socket.AF_UNIX); c.connect('/tmp/s'); c.sendall(b'hello'); c.shutdown(socket.SHUT_WR); print(c.recv(100)); c.close()
t = threading.Thread(target=client); t.start(); c, _ = s.accept(); print(c.recv(100, socket.MSG_WAITALL), c.recv(100)); c.sendall(b'bye'); c.close(); t.join()
try: socket.socket(socket.AF_UNIX).connect('/tmp/none')
except OSError as e: print(errno.errorcode[e.errno])
sel = selectors.DefaultSelector(); r, w = os.pipe(); sel.register(r, selectors.EVENT_READ); print(sel.select(0)); os.write(w, b'1'); print(len(sel.select(1)))
print(select.select([r], [w], [], 0)[0] == [r]); p = select.poll(); p.register(r); print(p.poll(0)[0][1] & select.POLLIN)
async def main():
    async def n(i): await asyncio.sleep(0.01 * (5 - i)); return i
    print(await asyncio.gather(*map(n, range(5))))
    p = await asyncio.create_subprocess_exec('cat', stdin=-1, stdout=-1); print(await p.communicate(b'async'), p.returncode)
    try: await asyncio.wait_for(asyncio.sleep(9), 0.05)
    except asyncio.TimeoutError: print('timeout')
asyncio.run(main())
got = []
signal.signal(signal.SIGALRM, lambda n, f: got.append(n)); signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
while len(got) < 3: time.sleep(1)
signal.setitimer(signal.ITIMER_REAL, 0); print(got[:3])
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]); os.kill(os.getpid(), signal.SIGUSR1); print(signal.sigpending(), signal.sigwait([signal.SIGUSR1])); print(signal.sigtimedwait([signal.SIGUSR1], 0.01))
print(resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0)
pid, fd = pty.fork()
if pid == 0: os.execvp('sh', ['sh', '-c', 'stty size; tty | tr -d 0-9; echo $TERM'])
out = b''
try:
    while d := os.read(fd, 100): out += d
except OSError as e: print(errno.errorcode[e.errno])
print(out, os.waitpid(pid, 0)[1])
print(socket.gethostname(), time.monotonic() > 0, time.tzname)
",
    )
}

fn python_database(place: &Place<'_>) -> Result {
    python(
        place,
        r"
import sqlite3, os, threading
db = sqlite3.connect('/tmp/db'); db.execute('pragma journal_mode=wal'); db.execute('create table t(a integer primary key, b text)')
with db: db.executemany('insert into t(b) values(?)', ((str(n) * 10,) for n in range(5000)))
print(db.execute('select count(*), sum(length(b)) from t').fetchone())
def other():
    d = sqlite3.connect('/tmp/db', timeout=10)
    for _ in range(20):
        with d: d.execute('insert into t(b) values(1)')
    d.close()
ts = [threading.Thread(target=other) for _ in range(4)]; [t.start() for t in ts]; [t.join() for t in ts]
print(db.execute('select count(*) from t').fetchone(), sorted(os.listdir('/tmp')))
db.execute('pragma journal_mode=delete'); db.close(); d = sqlite3.connect('/tmp/db'); print(d.execute('pragma integrity_check').fetchone(), os.listdir('/tmp'))
",
    )
}

fn python_fails_as_it_does_natively(place: &Place<'_>) -> Result {
    python(place, "import sys\ndef f(n): return f(n + 1)\nf(0)")?;
    python(place, "raise SystemExit('a message')")?;
    python(
        place,
        "try: b = bytearray(1 << 60)\nexcept MemoryError as e: print('no memory')\n\
         import subprocess as sp, sys\nprint(sp.run([sys.executable, '-c', 'import os; os.abort()']))\n\
         print(sp.run([sys.executable, '-c', 'import ctypes; ctypes.string_at(8)']))",
    )
}

fn perl_text(place: &Place<'_>) -> Result {
    perl(
        place,
        r#"
use strict; use warnings; use Digest::SHA 'sha256_hex'; use List::Util 'sum'; use Data::Dumper; use POSIX;
my %n; open my $f, '<', '/etc/passwd' or die; while (<$f>) { chomp; my @f = split /:/; $n{$f[6]}++ } print "$_ $n{$_}\n" for sort keys %n;
(my $s = "The quick brown fox") =~ s/(\w+)/\u\L$1/g; print "$s\n", join(',', $s =~ /\b(\w)/g), "\n", scalar reverse($s), "\n";
print sha256_hex('abc'), "\n", sum(map { $_ ** 2 } 1..100), "\n"; $Data::Dumper::Sortkeys = 1; print Dumper({a => [1, {b => undef}]});
print sprintf('%s %05d %.3e %b', 'x', 42, 1234.5, 10), "\n", join(' ', sort { $a <=> $b } 10, 9, 100), "\n", strftime('%F', gmtime(0)), "\n";
print join(',', unpack('A1 x N n', pack('A1 x N n', 'z', 7, 8))), "\n"; my $big = 'ab' x 100_000; print length($big =~ s/a//gr), "\n";
local $@; eval { die { code => 5 } }; print $@->{code}, "\n"; printf "%s\n", join '|', map { chr(ord('a') + $_) } 0..25; warn "to stderr\n"; exit 6;
"#,
    )
}

fn perl_processes(place: &Place<'_>) -> Result {
    perl(
        place,
        r#"
use strict; use warnings; no warnings 'exec'; use IPC::Open3; use Socket; use POSIX ':sys_wait_h'; use Time::HiRes 'usleep'; use threads; $| = 1;
print `echo hi; exit 3`, $? >> 8, "\n"; system('kill -TERM $$'); print $? & 127, "\n"; print system('/nosuch'), " $!\n";
my $pid = fork // die; if (!$pid) { exit 7 } waitpid $pid, 0; print $? >> 8, "\n";
open my $p, '-|', 'seq 5' or die; print map { $_ * 2, ' ' } <$p>; close $p; print "\n"; open $p, '|-', 'tr a-z A-Z' or die; print $p "loud\n"; close $p;
my $in; my $out; $pid = open3($in, $out, undef, 'sort', '-r'); print $in "a\nb\n"; close $in; print <$out>; waitpid $pid, 0;
socketpair(my $a, my $b, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die; syswrite $a, 'ping'; sysread $b, my $d, 4; print "$d\n";
$SIG{ALRM} = sub { die "alarm\n" }; eval { alarm 1; select undef, undef, undef, 30; }; print $@;
$SIG{CHLD} = sub { while ((my $k = waitpid -1, WNOHANG) > 0) { print 'reaped ', $? >> 8, "\n" } }; if (!fork) { exit 4 } usleep 300_000; $SIG{CHLD} = 'DEFAULT';
my @t = map { my $n = $_; threads->create(sub { $n * $n }) } 1..5; print join(' ', map { $_->join } @t), "\n";
pipe my $r, my $w; if (!fork) { close $r; print $w "line $_\n" for 1..1000; exit } close $w; my $n = 0; $n++ while <$r>; print "$n\n"; wait; print wait, "\n";
$SIG{INT} = sub { print "int\n"; exit 130 }; kill INT => $$; sleep 5;
"#,
    )
}

fn perl_files(place: &Place<'_>) -> Result {
    perl(
        place,
        r#"
use strict; use warnings; use File::Find; use File::Temp 'tempdir'; use File::Copy; use File::Path qw(make_path remove_tree); use Storable qw(store retrieve); use Fcntl ':flock'; use Cwd;
my $d = tempdir(CLEANUP => 1); chdir $d; make_path('a/b/c'); for my $n (1..200) { open my $f, '>', "a/b/$n" or die; print $f $n x 100 }
my $size = 0; find(sub { $size += -s if -f }, '.'); print "$size\n"; copy('a/b/7', 'seven'); print -s 'seven', ' ', (stat 'seven')[2] & 0777, "\n"; rename 'seven', 'eight'; print -e 'seven' ? 1 : 0, "\n";
symlink 'eight', 'l'; print readlink('l'), ' ', -l 'l' ? 1 : 0, "\n"; link 'eight', 'h'; print((stat 'h')[3], "\n"); utime 5, 6, 'h'; print join(' ', (stat 'eight')[8, 9]), "\n";
store({ a => [1..10] }, 's'); print "@{retrieve('s')->{a}}\n"; open my $l, '>', 'lock'; print flock($l, LOCK_EX | LOCK_NB) ? 1 : 0, "\n"; opendir my $h, 'a/b'; print scalar(grep { !/^\./ } readdir $h), "\n";
open my $rw, '+>', 'rw'; print $rw 'abcdef'; seek $rw, 2, 0; print $rw 'X'; seek $rw, 0, 0; print <$rw>, "\n"; truncate $rw, 3; print -s 'rw', "\n"; print((open(my $x, '<', 'none') ? '' : "$!"), "\n", (rmdir('a') ? '' : "$!"), "\n");
remove_tree('a'); print join(' ', sort glob '*'), "\n"; print cwd() eq $d ? 1 : 0, "\n"; printf "%o\n", umask; print join(' ', map { -d $_ ? 'd' : -e $_ ? 'e' : 'n' } '/', '/etc/passwd', '/no'), "\n"; chdir '/';
"#,
    )
}
