#!/bin/bash
# SPDX-License-Identifier: MIT
#
# convert through pipes: what comes out is what went in, QEMU finds nothing to complain of in what was written in one go, QEMU's
# own images are read as they come where their metadata comes first, memory stays small whatever the disk's size, and an
# input that ends early, or can't be read in order, is refused.
. "$(dirname "$0")/lib.sh"
export CORRAL_AIO
set -o pipefail

MIB=$((1 << 20))
LIMIT=$((64 * 1024)) # KiB of memory

# measured FILE COMMAND...: runs it, and writes down the most memory that it had, in KiB
measured() { python3 -c '
import resource, subprocess, sys
status = subprocess.call(sys.argv[2:])
open(sys.argv[1], "w").write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(status)' "$@"; }
small() { [ "$(cat "$1")" -lt $LIMIT ] || fail "$1: took $(cat "$1") KiB"; }

seq 1 400000 >numbers
head -c $((2 * MIB)) numbers >raw
truncate -s $((6 * MIB)) raw
head -c $MIB /dev/urandom >>raw
head -c $((3 * MIB)) /dev/zero >>raw
head -c 700000 /dev/urandom >>raw
truncate -s $((20 * MIB + 1536)) raw

# ---- qcow2 out and in ----

for options in cluster_size=512 cluster_size=64k cluster_size=2M compat=0.10 lazy_refcounts=on; do
	"$CORRAL" convert -O qcow2 -o $options raw - | cat >piped.qcow2
	qemu-img compare -q raw piped.qcow2 || fail "$options: content"
	clean piped.qcow2
	"$CORRAL" convert -O qcow2 -o $options raw - | "$CORRAL" convert -O raw - out.raw
	same raw out.raw "$options"
	"$CORRAL" convert -O qcow2 -o $options raw - | "$CORRAL" convert - - | cmp - raw || fail "$options: pipe to pipe"
done
"$CORRAL" convert -O raw piped.qcow2 - | cmp - raw || fail "raw to a pipe"
"$CORRAL" convert -O qcow2 - made.qcow2 <raw
qemu-img compare -q raw made.qcow2 || fail "raw from standard input"
clean made.qcow2
"$CORRAL" convert -c -O qcow2 - made.qcow2 <piped.qcow2
qemu-img compare -q raw made.qcow2 || fail "qcow2 from standard input, compressed"
clean made.qcow2

# ---- images of QEMU's ----

for options in -c "-o cluster_size=4k" "-c -o cluster_size=512"; do
	# shellcheck disable=SC2086
	qemu-img convert -O qcow2 $options raw theirs.qcow2
	cat theirs.qcow2 | "$CORRAL" convert - out.raw
	same raw out.raw "an image made by qemu-img convert $options"
done

# ---- what was there is replaced ----

head -c $((24 * MIB)) /dev/urandom >there.raw
"$CORRAL" convert -n - there.raw <piped.qcow2
cmp -n "$(stat -c %s raw)" raw there.raw || fail "-n: content"

# ---- memory ----

truncate -s 1T huge.raw
for at in 0 1 300000 700000 1048575; do
	dd if=/dev/urandom of=huge.raw bs=1M count=1 seek=$at conv=notrunc status=none
done
head -c $((200 * MIB)) /dev/urandom | dd of=huge.raw bs=1M seek=5000 conv=notrunc status=none iflag=fullblock
measured out.kib "$CORRAL" convert -O qcow2 huge.raw - | measured in.kib "$CORRAL" convert -O qcow2 - huge.qcow2
small out.kib
small in.kib
qemu-img compare -q huge.raw huge.qcow2 || fail "a disk of 1 TiB"

# ---- refusals ----

head -c $((3 * MIB)) piped.qcow2 >short
fails 'before its end' bash -c "'$CORRAL' convert - out.raw <short"
create late.qcow2 $((20 * MIB))
qio -f qcow2 late.qcow2 -- "write 0 1M"
qemu-img snapshot -c one late.qcow2
qio -f qcow2 late.qcow2 -- "write 2M 1M"
fails "can't be read from a pipe" bash -c "'$CORRAL' convert - out.raw <late.qcow2"
create -b late.qcow2 -F qcow2 over.qcow2
fails 'stands on a backing file' bash -c "'$CORRAL' convert - out.raw <over.qcow2"
echo secret >words
fails 'only once' "$CORRAL" convert -c -O qcow2 raw -
fails "can't have encryption" "$CORRAL" convert -O qcow2 --object secret,id=k,file=words \
	-o encrypt.format=luks,encrypt.key-secret=k raw -
# Whoever reads goes away: an error, not a silent death.
status=0
"$CORRAL" convert raw - 2>words | head -c 1000 >/dev/null || status=$?
[ $status != 0 ] && grep -q 'Broken pipe' words || fail "a reader that goes away: $status $(cat words)"

passed
