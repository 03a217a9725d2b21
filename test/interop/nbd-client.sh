#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Images on NBD servers, QEMU's, nbdkit's and our own: read, written, mapped, as a backing file; encrypted connections; what
# a server can't do; what is said when there is none, and when it goes away.
. "$(dirname "$0")/lib.sh"
needs qemu-nbd nbdkit

io() { "$CORRAL" io "$@" >"$SCRATCH/output" 2>&1 || fail "io $*: $(cat "$SCRATCH/output")"; }
"$CORRAL" io -r -c length nbd:unix:nobody >output 2>&1 && fail "nobody answered"
grep -q 'built\|libnbd' output && skip "built without libnbd"

# ---- QEMU's server ----
create disk.qcow2 64M
qemu_serve disk.qcow2 -x export
socket=${QEMU_URI#*socket=}
name="nbd:unix:$socket:exportname=export"
io -f raw -c 'write -P 1 1M 3M' -c 'write -P 2 1000 1000' -c 'write -z 2M 64k' -c 'write -f -P 3 5M 4k' -c flush \
	-c 'read -P 2 1000 1000' -c 'read -P 0 2M 64k' -c 'read -P 1 1M 1M' -c 'discard 3M 64k' "$name"
io -f raw -c 'read -P 3 5M 4k' "nbd+unix:///export?socket=$socket"
io --image-opts -c 'read -P 3 5M 4k' "driver=raw,file.driver=nbd,file.server.type=unix,file.server.path=$socket,file.export=export"
"$CORRAL" map --output=json -f raw "$name" >ours
qemu-img map --output=json -f raw "nbd+unix:///export?socket=$socket" >theirs
# QEMU tells which of its zeros take no space; the content is what matters here.
python3 - <<'END' || fail "map: $(diff ours theirs)"
import json
def zeros(name):
    runs = []
    for r in json.load(open(name)):
        if runs and runs[-1][1] == r["zero"]:
            continue
        runs.append((r["start"], r["zero"]))
    return runs
assert zeros("ours") == zeros("theirs")
END
fails "Failed to connect to '$socket'.*export" "$CORRAL" io -r -c length "nbd:unix:$socket:exportname=other"
stop $QEMU_SERVER
clean disk.qcow2
fails "Failed to connect to '$socket': (No such file|Connection refused)" "$CORRAL" io -r -c length "nbd:unix:$socket"
fails "Failed to connect to 'localhost:1': Connection refused" "$CORRAL" io -r -c length nbd:localhost:1

# ---- an overlay over it, and an image inside ----
qemu_serve disk.qcow2 -r
create -F raw -b "$QEMU_URI" over.qcow2 64M
fails "isn't a local file" "$CORRAL" io -c 'read 0 512' over.qcow2
# A header's name is never followed there; who opens the image may say so.
io --image-opts -c 'read -P 3 5M 4k' -c 'write -P 9 5M 512' -c 'read -P 9 5M 512' -c 'read -P 3 5243392 512' \
	"driver=qcow2,file.filename=over.qcow2,backing.driver=raw,backing.file.driver=nbd,backing.file.path=${QEMU_URI#*socket=}"
fails 'read only' "$CORRAL" io -f raw -c 'write 0 512' "$QEMU_URI"
stop $QEMU_SERVER

truncate -s 1M inner.raw
qemu_serve inner.raw -f raw
create "$QEMU_URI" 4M
io -c 'write -P 5 0 256k' -c 'read -P 5 0 256k' -c flush "$QEMU_URI"
fails 'No space left on device' "$CORRAL" io -c 'write -P 6 1M 3M' "$QEMU_URI"
io -c 'read -P 5 0 256k' "$QEMU_URI"
stop $QEMU_SERVER
sound inner.raw

# ---- nbdkit: servers that can do less ----
nbdkit_serve() {
	SERVED=$((SERVED + 1))
	NBDKIT_SOCK=$SCRATCH/nbdkit.$SERVED.sock
	nbdkit -f -U "$NBDKIT_SOCK" -P "$NBDKIT_SOCK.pid" "$@" >"$SCRATCH/server.$SERVED.log" 2>&1 &
	NBDKIT=$!
	SERVERS[$NBDKIT]=$SCRATCH/server.$SERVED.log
	until [ -s "$NBDKIT_SOCK.pid" ]; do
		kill -0 $NBDKIT 2>/dev/null || return 1
		sleep 0.01
	done
}
for filters in "" "--filter=nozero" "--filter=fua fuamode=emulate" "--filter=blocksize-policy blocksize-minimum=4096 blocksize-maximum=65536 blocksize-error-policy=error" \
	"--filter=noparallel serialize=connections" "--filter=noextents"; do
	# shellcheck disable=SC2086 # a filter and its parameters
	nbdkit_serve ${filters%% *} memory 16M $([ "$filters" = "${filters#* }" ] || echo ${filters#* }) || fail "nbdkit $filters"
	io -f raw -c 'write -P 1 0 1M' -c 'write -P 2 100 5000' -c 'write -z 512k 128k' -c 'write -f -P 3 8M 64k' -c flush \
		-c 'aio_write -P 4 9M 1M' -c 'aio_read 0 1M' -c 'aio_write -P 5 10M 1M' -c aio_flush \
		-c 'read -P 2 100 5000' -c 'read -P 0 512k 128k' -c 'read -P 4 9M 1M' -c 'read -P 5 10M 1M' "nbd:unix:$NBDKIT_SOCK"
	stop $NBDKIT
done

# ---- encrypted ----
if nbdkit --dump-config | grep -q '^tls=yes'; then
	printf 'me:%s\n' "$(od -An -tx1 -N16 /dev/urandom | tr -d ' \n')" >keys.psk
	nbdkit_serve --tls=require --tls-psk=keys.psk memory 16M || fail "nbdkit --tls"
	io -f raw -c 'write -P 1 0 4M' -c 'aio_read 0 4M' -c 'aio_write -P 2 4M 4M' -c 'aio_read 0 4M' -c aio_flush \
		-c 'read -P 1 0 4M' -c 'read -P 2 4M 4M' "nbds+unix://me@/?socket=$NBDKIT_SOCK&tls-psk-file=$PWD/keys.psk"
	fails 'Failed to connect' "$CORRAL" io -f raw -c 'read 0 512' "nbd+unix:///?socket=$NBDKIT_SOCK"
	stop $NBDKIT
else
	say "nbdkit without TLS: not tried encrypted"
fi

# ---- our own server, which goes away and comes back ----
create ours.qcow2 16M
serve ours.qcow2
image="driver=raw,file.driver=nbd,file.path=$SOCK,file.reconnect-delay=30"
mkfifo commands
"$CORRAL" io --image-opts "$image" <commands >output 2>&1 &
client=$!
SERVERS[$client]=output
exec {COMMANDS_FD}>commands
echo 'write -P 1 0 1M' >&"$COMMANDS_FD"
until grep -q 'wrote 1048576' output; do alive; sleep 0.02; done
crash
echo 'write -P 2 1M 1M' >&"$COMMANDS_FD"
sleep 0.3
"$CORRAL" serve ours.qcow2 --nbd "unix:$SOCK" --aio "$CORRAL_AIO" >again 2>&1 &
SERVER=$!
SERVERS[$SERVER]=again
printf 'read -P 1 0 1M\nread -P 2 1M 1M\nflush\nquit\n' >&"$COMMANDS_FD"
status=0
wait $client || status=$?
unset "SERVERS[$client]"
equal $status 0 "a client whose server came back: $(cat output)"
equal "$(grep -c 'wrote 1048576' output)" 2 "writes"
stop
sound ours.qcow2

# Without the delay: errors, and no flush that says all is well.
serve ours.qcow2
exec {COMMANDS_FD}>&-
"$CORRAL" io --image-opts "driver=raw,file.driver=nbd,file.path=$SOCK" <commands >output 2>&1 &
client=$!
SERVERS[$client]=output
exec {COMMANDS_FD}>commands
echo 'write -P 1 0 1M' >&"$COMMANDS_FD"
until grep -q 'wrote 1048576' output; do sleep 0.02; done
crash
printf 'read 0 512\nflush\nquit\n' >&"$COMMANDS_FD"
status=0
wait $client || status=$?
unset "SERVERS[$client]"
equal $status 1 "a client whose server went away"
grep -q 'read failed: Input/output error' output || fail "no read error: $(cat output)"
passed
