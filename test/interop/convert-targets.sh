#!/bin/bash
# SPDX-License-Identifier: MIT
#
# corral convert writes, without a word more, to what is no file: the export of an NBD server, and a block device where there
# may be one. Both keep their size and hold anything before. A raw disk and a qcow2 image arrive there, are sound, and are
# read from there.
. "$(dirname "$0")/lib.sh"
export CORRAL_AIO

command -v qemu-nbd >/dev/null || skip "no qemu-nbd here"

BYTES=$((8 << 20))
{
	seq 1 300000
	head -c 1000000 /dev/urandom
} >raw
truncate -s $BYTES raw

# arrives TARGET: as raw and as qcow2, over whatever is there
arrives() {
	local format
	for format in raw qcow2 raw; do
		"$CORRAL" convert -f raw -O $format raw "$1" || fail "$format to $1"
		if [ $format = raw ]; then
			rm -f window
			"$CORRAL" dd -f raw bs=1M count=8 "if=$1" of=window || fail "reading $1"
			same raw window "raw in $1"
		else
			qemu-img check -q -f qcow2 "$1" || fail "qcow2 in $1 isn't sound"
			qemu-img compare -q -f raw -F qcow2 raw "$1" || fail "qcow2 in $1 holds something else"
			rm -f back
			"$CORRAL" convert -f qcow2 -O raw "$1" back || fail "reading qcow2 from $1"
			same raw back "back from $1"
		fi
	done
	"$CORRAL" convert -n -f raw -O raw raw "$1" || fail "to $1, with -n"
	head -c $((32 << 20)) /dev/zero >large
	if "$CORRAL" convert -f raw -O raw large "$1" 2>told; then
		fail "a disk of 32 MiB went into $1"
	fi
	grep -q "has $((16 << 20)) bytes, of $((32 << 20))" told || fail "told instead: $(cat told)"
}

head -c $((16 << 20)) /dev/urandom >export
qemu-nbd -t -k "$PWD/socket" -f raw export &
NBD=$!
for ((i = 0; i < 100; i++)); do
	[ -S socket ] && break
	sleep 0.1
done
arrives "nbd+unix:///?socket=$PWD/socket"
kill $NBD
wait $NBD || true

head -c $((16 << 20)) /dev/urandom >disk
if loop=$(losetup -f --show disk 2>/dev/null); then
	trap 'losetup -d "$loop"; cleanup' EXIT
	arrives "$loop"
else
	say "no loop device here"
fi

passed
