# Files and names, in memory and on the host's disk. Fails at the first thing that does.
set -euo pipefail
for base in /tmp /dev/shm /srv; do
    d=$base/files.$$
    mkdir "$d"
    cd "$d"
    mkdir -p a/b/c/d
    for n in {1..200}; do echo "$n" > a/b/f$n; done
    for n in {1..100}; do mv a/b/f$n a/b/c/g$n; done
    for n in {1..50}; do ln -s ../f$n a/b/c/l$n; ln a/b/c/g$n a/b/c/d/h$n; done
    cp -a a copy
    diff -r --no-dereference a copy
    tar cf - a | tar xf - --transform 's,^a,unpacked,'
    find . -type f -exec cat {} + | sort | uniq -c | sort -rn > counts
    grep -rn 77 a > found || true
    dd if=/dev/zero of=big bs=64k count=64 status=none
    truncate -s 1M big
    gzip -k big && gzip -t big.gz
    chmod -R u=rwX,go= a
    touch -d @1000000 a/b/c/g1
    mkfifo fifo
    (cat fifo > through) & seq 10000 > fifo
    wait
    [ "$(wc -l < through)" = 10000 ]
    stat -c %n,%s,%Y a/b/c/* > stats
    ls -laR . > listing
    [ ! -e missing ] && ! cat missing 2> /dev/null
    cd /
    rm -r "$d"
done
