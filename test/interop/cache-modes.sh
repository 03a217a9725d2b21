#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Cache modes do what they say, as the system calls of the server show: whether the image is opened O_DIRECT, and how many
# times storage is told to make things durable for a flush, a write, a FUA write. Discards and zeroes reach the file. I/O
# limits hold.
. "$(dirname "$0")/lib.sh"
needs strace nbdinfo

# The engine of threads makes system calls, which strace sees; a ring doesn't.
[ "$CORRAL_AIO" = threads ] || skip "only system calls can be counted"

# traced MODE COMMAND...: what the server did for each qemu-io command, between two marks that it makes itself
traced() {
	local mode=$1
	shift
	create image 64M
	qio -f qcow2 image -- "write 0 8M"
	serve image --cache "$mode"
	strace -f -y -qq -p "$SERVER" -e trace=fdatasync,fsync,pwritev2,pwritev,pwrite64,fallocate,openat,sync_file_range \
		-o trace 2>/dev/null &
	STRACE=$!
	for _ in $(seq 100); do
		grep -q "TracerPid:[[:space:]]*[1-9]" "/proc/$SERVER/status" && break
		sleep 0.02
	done
	PYTHONPATH=$INTEROP python3 - "$SOCK" "$SERVER" "$@" <<'END' >counts || fail "see above"
import sys, time
import nbd
sock, server, commands = sys.argv[1], sys.argv[2], sys.argv[3:]
client = nbd.Client(sock)
def syncs():
    time.sleep(0.3)
    return sum(("fdatasync(" in l or "RWF_DSYNC" in l) and "image" in l for l in open("trace"))
for command in commands:
    before = syncs()
    if command == "write":
        client.write(1 << 20, b"w" * 65536)
    elif command == "fua":
        client.write(2 << 20, b"f" * 65536, nbd.FLAG_FUA)
    elif command == "flush":
        client.flush()
    print(command, syncs() - before)
client.disconnect()
END
	grep -l . /proc/"$SERVER"/fdinfo/* >/dev/null
	DIRECT=no
	for info in /proc/"$SERVER"/fd/*; do
		if [ "$(readlink "$info")" = "$SCRATCH/image" ]; then
			flags=$(sed -n 's/^flags:[[:space:]]*//p' "/proc/$SERVER/fdinfo/${info##*/}")
			((8#$flags & 8#40000)) && DIRECT=yes
		fi
	done
	stop
	wait $STRACE 2>/dev/null || true
	tr '\n' ' ' <counts >line
}

# In place, so that no metadata changes: a write is not durable, a flush is one sync, with nothing to flush it is none or one.
expect() { # MODE DIRECT WRITE FUA FLUSH, the last three as regular expressions
	traced "$1" write fua flush
	equal "$DIRECT" "$2" "O_DIRECT with $1"
	grep -qE "^write $3 fua $4 flush $5 $" line || fail "syncs with --cache $1: $(cat line), not write $3 fua $4 flush $5"
}
expect writeback no 0 '[12]' 1
expect none yes 0 '[12]' 1
expect writethrough no '[12]' '[12]' '[01]'
expect directsync yes '[12]' '[12]' '[01]'
expect unsafe no 0 0 0

# ---- space comes back ----

create image 64M
qio -f qcow2 image -- "write -P 1 0 32M" flush
full=$(stat -c %b image)
serve image
qio -f raw "$URI" -- "discard 0 16M" flush
stop
[ $(($(stat -c %b image) + 2 * 15 * 1024)) -le "$full" ] || fail "discarded 16 MiB, and the file still has $(stat -c %b image) of $full blocks"
serve image
qio -f raw "$URI" -- "write -z -u 16M 8M" flush
stop
[ $(($(stat -c %b image) + 2 * 23 * 1024)) -le "$full" ] || fail "zeroed 8 MiB more, and the file still has $(stat -c %b image) of $full blocks"
less=$(stat -c %b image)
serve image
qio -f raw "$URI" -- "write -z 24M 4M" flush # NO_HOLE: the space stays
stop
equal "$(stat -c %b image)" "$less" "blocks of the file after zeroes that keep their space"
serve image --discard ignore
qio -f raw "$URI" -- "read -P 1 28M 4M" "write -z -u 28M 4M" "read -P 0 28M 4M" flush
fails "." qemu-io -f raw -c "read -P 1 28M 4k" "$URI"
stop
equal "$(stat -c %b image)" "$less" "blocks of the file that ignores discards"
clean image

# The same of a raw file.
truncate -s 32M disk
head -c 16M /dev/urandom | dd of=disk conv=notrunc status=none
full=$(stat -c %b disk)
serve disk -f raw
qio -f raw "$URI" -- "discard 0 8M" "write -z -u 8M 4M" flush
stop
[ $(($(stat -c %b disk) + 2 * 11 * 1024)) -le "$full" ] || fail "a raw file keeps its blocks: $(stat -c %b disk) of $full"

# ---- limits ----

# took COMMAND...: milliseconds
took() {
	local begin
	begin=$(date +%s%N)
	qio -f raw "$URI" -- "$@"
	echo $((($(date +%s%N) - begin) / 1000000))
}
serve image --limit bps=4M,bps-total-max=8M,bps-total-max-length=1
ms=$(took "write 0 8M" "write 0 8M" "write 0 1M")
[ "$ms" -ge 1500 ] && [ "$ms" -le 8000 ] || fail "17 MiB at 4 MiB/s after a burst of 8 MiB took $ms ms"
stop
serve image --limit iops-read=20
ms=$(took "write 0 4k" "write 0 4k" "read 0 4k" "read 0 4k" "read 0 4k" "read 0 4k" "read 0 4k" "read 0 4k" "read 0 4k" "read 0 4k" \
	"read 0 4k" "read 0 4k" "read 0 4k" "read 0 4k" "read 0 4k" "read 0 4k" "read 0 4k" "read 0 4k" "read 0 4k" "read 0 4k")
[ "$ms" -ge 600 ] && [ "$ms" -le 5000 ] || fail "18 reads at 20 a second took $ms ms"
nbdinfo --map "$URI" >limited
stop
serve image
nbdinfo --map "$URI" >unlimited
stop
same limited unlimited "the map of a disk with limits"
clean image
serve_fails "there is no limit 'speed'" image --limit speed=1
serve_fails "above 0" image --limit iops=fast
serve_fails "lower than" image --limit iops=100,iops-total-max=50
passed
