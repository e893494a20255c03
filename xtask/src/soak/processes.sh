# Forks, programs, signals, jobs and locks.
set -euo pipefail
for n in {1..100}; do /bin/true; (exit 0); done
for n in {1..20}; do seq 500 | sed s/1/one/ | sort -r | head -n 5 > /dev/null || true; done
for n in {1..30}; do sleep 1000 & done
kill $(jobs -p)
wait || true
for n in {1..10}; do
    (trap 'exit 3' USR1; kill -USR1 $BASHPID; sleep 1000) && exit 1 || [ $? = 3 ]
    (ulimit -t 100; ulimit -n 20; exec 15< /etc/passwd; read -r line <&15)
    timeout 0.05 sleep 1000 && exit 1 || [ $? = 124 ]
    sh -c 'kill -SEGV $$' 2> /dev/null && exit 1 || [ $? = 139 ]
done
# Stopped and continued.
sleep 1000 & pid=$!
kill -STOP $pid; kill -CONT $pid; kill -KILL $pid
wait $pid || [ $? = 137 ]
# Orphans of sessions of their own.
for n in {1..20}; do (setsid sleep 0.2 > /dev/null 2>&1 &); done
lock=/tmp/lock.$$
for n in {1..10}; do flock $lock sh -c 'sleep 0.01' & done
wait
rm $lock
for n in {1..5}; do
    perl -e 'for (1..20) { my $p = fork; if (!$p) { exec "/bin/true" } } 1 while wait > 0'
done
# A terminal.
for n in {1..5}; do script -qec 'tty; stty -a; ls / > /dev/null' /dev/null < /dev/null > /dev/null; done
ps -ef > /dev/null
cat /proc/[0-9]*/stat /proc/[0-9]*/maps > /dev/null 2>&1 || true
