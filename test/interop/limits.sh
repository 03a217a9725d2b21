#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Limits: connections, open files, regions of memory. Each is met, each has its line in the log, and who was there before is served
# as ever.
. "$(dirname "$0")/lib.sh"

said() { grep -qE -- "$1" "$LOG" || fail "the log doesn't say '$1': $(cat "$LOG")"; }

create image.qcow2 16M

# ---- connections ----

serve image.qcow2 --nbd "unix:$SCRATCH/few,connections=2"
python3 - "$INTEROP" "$SCRATCH/few" <<'END' || fail "see above"
import sys
sys.path.insert(0, sys.argv[1])
import nbd
here = [nbd.Client(sys.argv[2]) for _ in range(2)]
try:
    nbd.Client(sys.argv[2])
    sys.exit("a third client is let in")
except nbd.Gone:
    pass
for client in here:
    client.flush()
END
said "turned away: too many at once \(2 clients, at most 2\)"
stop

# ---- open files ----

mkfifo ready
LOG=$SCRATCH/limited.log
(ulimit -Sn 32 && exec "$CORRAL" serve image.qcow2 --aio "$CORRAL_AIO" --nbd "unix:$SCRATCH/nbd") >ready 2>"$LOG" &
SERVER=$!
SERVERS[$SERVER]=$LOG
exec {READY_FD}<ready
read -r -t 20 _ <&"$READY_FD" || fail "not ready: $(cat "$LOG")"
python3 - "$INTEROP" "$SCRATCH/nbd" "$LOG" <<'END' || fail "see above"
import sys, time
sys.path.insert(0, sys.argv[1])
import nbd
here = []
deadline = time.monotonic() + 20
while "too many open files" not in open(sys.argv[3]).read():
    assert time.monotonic() < deadline, "the log says nothing"
    client = nbd.Client(sys.argv[2], handshake=False)
    client.socket.settimeout(1)
    try:
        client.greet()
        client.go()
        here.append(client)
    except TimeoutError:
        client.close()
assert len(here) > 5, len(here)
waiting = nbd.Client(sys.argv[2], handshake=False)
here[0].write(0, b"x" * 512)
here.pop().disconnect()
waiting.socket.settimeout(20)
waiting.greet()  # whoever waited is let in when there is room
waiting.go()
waiting.flush()
END
[ "$(grep -c "too many open files" "$LOG")" -le 4 ] || fail "the log is full of it: $(cat "$LOG")"
stop

# ---- regions of memory ----

serve image.qcow2 --vhost-user "$SCRATCH/vhost"
python3 - "$INTEROP" "$SCRATCH/vhost" <<'END' || fail "see above"
import os, struct, sys
sys.path.insert(0, sys.argv[1])
import vhost_user
front = vhost_user.Front(sys.argv[2])
memory = os.memfd_create("more")
os.ftruncate(memory, 4096)
for i in range(509):  # one more than there may be: there is one already
    guest = (1 << 30) + i * 8192
    front.send(vhost_user.ADD_MEM_REG, struct.pack("<QQQQQ", 0, guest, 4096, (1 << 50) + guest, 0), [memory])
try:
    front.capacity()
    sys.exit("a region too many is taken")
except (AssertionError, ConnectionError):
    pass
again = vhost_user.Front(sys.argv[2])
again.offer(vhost_user.OUT, 0, b"x" * 4096)
again.wait()
END
said "ADD_MEM_REG fails: no more than 509 regions of memory"
stop
clean image.qcow2
passed
