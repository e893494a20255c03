# Programs that some trees have.
set -euo pipefail
d=/tmp/tools.$$
mkdir $d
cd $d
export HOME=$d
if command -v git > /dev/null; then
    git init -q repo
    cd repo
    git config user.email soak@example.org
    git config user.name soak
    for n in {1..30}; do seq $n 200 > f$n; done
    git add .
    git commit -qm one
    git clone -q . ../clone
    seq 10 > f1
    git commit -qam two
    git gc -q
    git fsck 2> /dev/null
    cd ..
fi
if command -v gcc > /dev/null; then
    for n in 1 2 3; do echo "int f$n(int n) { return n + $n; }" > f$n.c; done
    echo 'int f1(int), f2(int), f3(int); int main(void) { return f1(f2(f3(1))); }' > main.c
    gcc -O1 -pthread -o program ./*.c
    ./program || [ $? = 7 ]
fi
perl -e 'my %h; $h{$_ % 1000} .= "x" for 1..100000; print scalar(keys %h), "\n"' > /dev/null
xz -k -0 < /bin/bash | xz -dc | cmp - /bin/bash
cd /
rm -rf $d
