#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The control socket: what can be asked of a daemon that serves, in its sandbox; a guest is told of its disk's new size; snapshots of
# a served image hold what was written; who isn't its user isn't let in; nonsense is answered.
. "$(dirname "$0")/lib.sh"
needs nbdinfo

CONTROL=$SCRATCH/control.sock VHOST=$SCRATCH/vhost.sock
control() { "$CORRAL" control "$CONTROL" "$@"; }
refuses() { fails "$1" "$CORRAL" control "$CONTROL" "${@:2}"; }
raw() { # the answer to a line, whatever it is
	python3 - "$CONTROL" "$1" <<'END'
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(20)
s.connect(sys.argv[1])
s.sendall(sys.argv[2].encode() + b"\n")
print(s.makefile().readline(), end="")
END
}
says() { [[ $1 == *$2* ]] || fail "says '$1', not '$2'"; }

create image.qcow2 64M
create other.qcow2 64M
serve image.qcow2 --control "unix:$CONTROL" --vhost-user "$VHOST" --sandbox require
equal "$(stat -c %a "$CONTROL")" 600 "the mode of the control socket"
if [ "$(id -u)" = 0 ]; then
	chmod 711 .
	fails "permission denied" setpriv --reuid nobody --clear-groups "$CORRAL" control "$CONTROL" status
fi

# ---- asking ----

says "$(control status)" "file: image.qcow2"
qio -f raw "$URI" -- "write -P 1 0 1M" flush
says "$(control stats)" "requests:"
python3 - <<END || fail "statistics"
import json, subprocess
said = json.loads(subprocess.check_output(["$CORRAL", "control", "--output", "json", "$CONTROL", "stats"]))
nbd = next(e for e in said["exports"] if e["kind"] == "nbd")
assert nbd["write"]["bytes"] == 1 << 20 and nbd["flush"]["requests"] >= 1, said
END
equal "$(control log-level)" info "the log's level"
equal "$(control log-level debug)" debug "the log's level"
qio -f raw "$URI" -- "read -P 1 0 1M"
grep -q "has opened ''" "$LOG" || fail "no debugging lines: $(cat "$LOG")"
control log-level error >out

# ---- another size ----

python3 - "$VHOST" "$CORRAL" "$CONTROL" "$INTEROP" <<'END' || fail "see above"
import subprocess, sys
path, corral, control, here = sys.argv[1:]
sys.path.insert(0, here)
import vhost_user
front = vhost_user.Front(path)
assert front.capacity() == 64 << 20, front.capacity()
subprocess.check_call([corral, "control", control, "resize", "128M"], stdout=subprocess.DEVNULL)
front.config_changed()
assert front.capacity() == 128 << 20, front.capacity()
front.offer(vhost_user.OUT, (128 << 20) // 512 - 8, b"\2" * 4096)
front.wait()
END
equal "$(nbdinfo --size "$URI")" $((128 << 20)) "the size for a new client"
refuses '"shrink": true would drop' resize 64M
equal "$("$CORRAL" control --output json "$CONTROL" resize 128M)" "$(printf '{\n    "size": 134217728\n}')"
refuses "multiple of 512" resize 1000
refuses "not 'large'" resize large

# ---- snapshots ----

control snapshot-create first >out
qio -f raw "$URI" -- "write -P 3 0 1M" flush
says "$(control snapshot-list)" first
refuses "a line of more than" snapshot-create "$(printf 'x%.0s' {1..70000})"
control snapshot-create second >out
control snapshot-delete second >out
[[ $(control snapshot-list) != *second* ]] || fail "the deleted snapshot is still there"
refuses "second" snapshot-delete second

# ---- nonsense ----

says "$(raw nonsense)" '"error":"not JSON'
says "$(raw '{"status": 1}')" "a request is an object of one member"
says "$(raw '{"status": {}, "stats": {}}')" "a request is an object of one member"
says "$(raw '{"destroy": {}}')" "there is no command 'destroy'"
says "$(raw '{"resize": {"size": "1"}}')" "isn't a number of bytes"
says "$(raw '{"snapshot-create": {"name": 1}}')" "isn't a string"
says "$(raw "$(printf '[%.0s' {1..30000})")" "more than 16 levels"
says "$(raw '{"takeover": {"version": 99}}')" "a takeover of version 1"
fails "image 'nobody' is served|no image of the name 'nobody'" "$CORRAL" control -i nobody "$CONTROL" snapshot-list
refuses "there is no command" destroy
fails "no such file|No such" "$CORRAL" control nowhere status
alive

control stop >out
ended "$SERVER" 10 || fail "it doesn't end"
wait "$SERVER" || fail "ended with an error: $(cat "$LOG")"
unset "SERVERS[$SERVER]"
[ ! -e "$CONTROL" ] || fail "the control socket is left behind"
clean image.qcow2
qemu-img convert -f qcow2 -O raw -l snapshot.name=first image.qcow2 first.raw
cmp -n $((1 << 20)) first.raw <(head -c 1M /dev/zero | tr '\0' '\1') || fail "the snapshot has other content"

# ---- several images ----

"$CORRAL" serve --aio "$CORRAL_AIO" --image a=image.qcow2 --image b=other.qcow2,read-only --control "unix:$CONTROL" \
	--nbd "unix:$SCRATCH/both" >ready.both 2>both.log &
SERVER=$!
SERVERS[$SERVER]=both.log
until [ -s ready.both ]; do
	alive
	sleep 0.02
done
refuses "which one" snapshot-list
says "$("$CORRAL" control -i a "$CONTROL" snapshot-list)" first
fails "read-only" "$CORRAL" control -i b "$CONTROL" snapshot-create x
fails "read-only" "$CORRAL" control -i b "$CONTROL" resize 1G
stop
passed
