#!/bin/bash
# SPDX-License-Identifier: MIT
#
# One server with several images and exports: each is found by its name and nothing else is; sockets that a service manager
# passes; readiness; the log and its live level; statistics; what can't be is refused with a reason.
. "$(dirname "$0")/lib.sh"
needs nbdinfo nbdcopy

create a 32M
create b 16M
head -c 4096 /dev/urandom >c
qio -f qcow2 a -- "write -P 1 0 64k"
qio -f qcow2 b -- "write -P 2 0 64k"

# ---- two images, two addresses; the second has one of them ----

NOTIFY=$SCRATCH/notify
python3 - "$NOTIFY" >notified <<'END' &
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
s.settimeout(60)
while True:
    text = s.recv(4096).decode()
    print(text, flush=True)
    if "STOPPING" in text:
        break
END
NOTIFIED=$!
until [ -S "$NOTIFY" ]; do sleep 0.02; done

mkfifo ready
NOTIFY_SOCKET=$NOTIFY "$CORRAL" serve --aio "$CORRAL_AIO" --stats --pid-file pid \
	--image first=a --image "second=b,read-only,description=the second,, with a comma" --image raw=c,format=raw \
	--nbd "unix:$SCRATCH/all,connections=7" --nbd "unix:$SCRATCH/one,image=second" >ready 2>log &
SERVER=$!
SERVERS[$SERVER]=$SCRATCH/log
exec {READY_FD}<ready
for _ in 1 2 3 4; do
	read -r -t 20 line <&"$READY_FD" || fail "not ready: $(cat log)"
	echo "$line" >>lines
done
equal "$(cat pid)" "$SERVER" "the pid file"
equal "$(sed -n 1p lines)" "corral: serving a at nbd+unix:///first?socket=$SCRATCH/all"
equal "$(sed -n 4p lines)" "corral: serving b at nbd+unix:///second?socket=$SCRATCH/one"
nbdinfo --list "nbd+unix:///?socket=$SCRATCH/all" >list
equal "$(grep -c '^export=' list)" 3 "exports listed"
grep -q "description: the second, with a comma" list || fail "no description: $(cat list)"
equal "$(nbdinfo --size "nbd+unix:///first?socket=$SCRATCH/all")" $((32 << 20)) size
equal "$(nbdinfo --size "nbd+unix:///second?socket=$SCRATCH/all")" $((16 << 20)) size
equal "$(nbdinfo --size "nbd+unix:///?socket=$SCRATCH/one")" $((16 << 20)) "size of the only one"
fails "." nbdinfo "nbd+unix:///?socket=$SCRATCH/all"
fails "." nbdinfo "nbd+unix:///first?socket=$SCRATCH/one"
nbdcopy "nbd+unix:///raw?socket=$SCRATCH/all" c.copy
same c c.copy
qio -f raw "nbd+unix:///first?socket=$SCRATCH/all" -- "read -P 1 0 64k" "write -P 3 64k 64k" flush
qio -r -f raw "nbd+unix:///second?socket=$SCRATCH/one" -- "read -P 2 0 64k"
fails "." qemu-io -f raw -c "write 0 64k" "nbd+unix:///second?socket=$SCRATCH/all"

kill -USR1 $SERVER
kill -USR2 $SERVER
for _ in $(seq 100); do
	grep -q "level is now debug" log && break
	sleep 0.02
done
grep -q "level is now debug" log || fail "no debug on SIGUSR2: $(cat log)"
grep -qE "write: [1-9][0-9]* requests, 65536 bytes, 0 errors; us: p50 [0-9]+" log || fail "no statistics: $(cat log)"
grep -qE "event loop: [1-9][0-9]* turns" log || fail "nothing of the event loop: $(cat log)"

# The seven that are welcome, and one more.
PYTHONPATH=$INTEROP python3 - "$SCRATCH/all" <<'END' || fail "see above"
import sys, nbd
clients = [nbd.Client(sys.argv[1], handshake=False) for _ in range(7)]
for client in clients:
    client.greet()
try:
    nbd.Client(sys.argv[1], handshake=False).greet()
    sys.exit("an eighth client was let in")
except nbd.Gone:
    pass
END
grep -q "turned away: too many at once" log || fail "a client is turned away in silence: $(cat log)"

stop $SERVER
wait $NOTIFIED
grep -q "READY=1" notified && grep -q "STOPPING=1" notified || fail "told the manager: $(cat notified)"
[ ! -e pid ] || fail "the pid file is still there"
clean a

# ---- sockets that were opened before ----

cat >activate.py <<'END'
import os, socket, sys
names = sys.argv[2].split(":")
for i, name in enumerate(names):
    s = socket.socket(socket.AF_UNIX if name != "tcp" else socket.AF_INET)
    s.bind(name + ".sock" if name != "tcp" else ("127.0.0.1", 0))
    if name != "deaf":
        s.listen()
    os.dup2(s.fileno(), 10 + i)
for i in range(len(names)):
    os.dup2(10 + i, 3 + i)
    os.close(10 + i)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(names)), LISTEN_FDNAMES=sys.argv[2])
os.execv(sys.argv[1], sys.argv[1:2] + sys.argv[3:])
END
python3 activate.py "$CORRAL" tcp:given serve --aio "$CORRAL_AIO" --nbd systemd:given --nbd systemd a >ready 2>log &
SERVER=$!
SERVERS[$SERVER]=$SCRATCH/log
exec {READY_FD}<ready
read -r -t 20 line <&"$READY_FD" || fail "not ready: $(cat log)"
equal "$line" "corral: serving a at nbd+unix:///?socket=given.sock"
read -r -t 20 line <&"$READY_FD"
equal "$(nbdinfo --size "${line##* }")" $((32 << 20)) "size over TCP"
equal "$(nbdinfo --size "nbd+unix:///?socket=$SCRATCH/given.sock")" $((32 << 20)) size
stop $SERVER
[ -S given.sock ] || fail "somebody else's socket was removed"
fails "no socket of that name" python3 activate.py "$CORRAL" x serve --aio "$CORRAL_AIO" --nbd systemd:y a
fails "doesn't listen" python3 activate.py "$CORRAL" deaf serve --aio "$CORRAL_AIO" --nbd systemd a
fails "no socket was passed" "$CORRAL" serve --nbd systemd a

# ---- what can't be ----

fails "which image" "$CORRAL" serve --nbd unix:x
fails "where to" "$CORRAL" serve a
fails "two images of the name 'n'" "$CORRAL" serve --nbd unix:x --image n=a --image n=b
fails "NAME=FILE" "$CORRAL" serve --nbd unix:x --image a
fails "no image of the name 'm'" "$CORRAL" serve --nbd unix:x,image=m --image n=a
fails "no option ' b'" "$CORRAL" serve --nbd unix:x --image "n=a,description=a, b"
fails "no option 'colour'" "$CORRAL" serve --nbd unix:x,colour=red a
fails "no option 'colour'" "$CORRAL" serve --nbd unix:x --image n=a,colour=red
fails "superfluous" "$CORRAL" serve --nbd unix:x a b
fails "debug" "$CORRAL" serve --nbd unix:x --log-level loud a
fails "can't write the log" "$CORRAL" serve --nbd unix:x --log /nowhere/log a
fails "nosuch" "$CORRAL" serve --nbd unix:x --image n=a --image m=nosuch

# Into the background, with the log in a file.
"$CORRAL" serve --aio "$CORRAL_AIO" --fork --pid-file pid --log biglog --nbd "unix:$SCRATCH/forked" a >/dev/null
nbdinfo "nbd+unix:///?socket=$SCRATCH/forked" >/dev/null
kill "$(cat pid)"
for _ in $(seq 200); do
	[ -e pid ] || break
	sleep 0.02
done
[ ! -e pid ] || fail "it doesn't end"
grep -q "info: ending: signal 15" biglog || fail "the log file says: $(cat biglog)"
passed
