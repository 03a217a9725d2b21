#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Inside the installed guest, once it has booted: is all as it was installed; then files are written, with fsyncs, caches dropped,
# trimmed, and compared. What is said goes to the second serial port; the sums stay on the disk, to be compared from outside.
# How many flushes the disk had is counted by the kernel.
exec >/dev/ttyS1 2>&1

say() { echo "@@ $*"; }

finish() {
	systemctl poweroff
	exit
}

fail() {
	dmesg | tail -n 20
	echo "FAILED $*"
	finish
}

DISK=$(lsblk -ndo PKNAME "$(findmnt -no SOURCE /)")
WORK=/srv/work

flushes() { awk '{ print $16 }' "/sys/block/$DISK/stat"; }

# verify SUMS WHAT
verify() {
	(cd / && sha256sum --quiet -c "$1") >/run/verify 2>&1 || fail "$2: $(head -n 3 /run/verify)"
}

forget_caches() {
	sync
	echo 3 >/proc/sys/vm/drop_caches
}

write_files() {
	local n
	mkdir -p $WORK/trash
	dd if=/dev/urandom of=$WORK/sequential bs=1M count=32 conv=fsync status=none || fail "write"
	dd if=/dev/urandom of=$WORK/direct bs=256k count=32 oflag=direct status=none || fail "direct write"
	dd if=/dev/urandom of=$WORK/synced bs=4k count=100 oflag=dsync status=none || fail "synchronous write"
	dd if=/dev/urandom of=$WORK/sparse bs=4k seek=5000 count=3 conv=fsync status=none || fail "sparse write"
	for n in $(seq 200); do
		head -c $((n * 331)) $WORK/sequential >$WORK/trash/$n
	done
	sync $WORK/trash/*
	for n in $(seq 60); do # in place, anywhere
		dd if=/dev/urandom of=$WORK/sequential bs=4k seek=$((RANDOM % 8192)) count=1 conv=notrunc,fsync status=none || fail "rewrite"
	done
}

echo
say "login prompt; kernel $(uname -r), root on $(findmnt -no SOURCE /), cache $(cat "/sys/block/$DISK/queue/write_cache")"
[ "$(cat "/sys/block/$DISK/queue/write_cache")" = "write back" ] || fail "the disk promises no write cache"
verify /usr/local/installed.sha256 "what was installed"
say "$(wc -l </usr/local/installed.sha256) installed files are right"
rm -rf $WORK
before=$(flushes)
write_files
(cd / && find "${WORK#/}" -type f | sort | xargs sha256sum) >/run/sums
forget_caches
verify /run/sums "after dropping the caches"
say "$(wc -l </run/sums) files written, synced, caches dropped, verified; $(($(flushes) - before)) flushes"
rm -r $WORK/trash
fstrim / || fail "fstrim"
forget_caches
grep -v /trash/ /run/sums >/srv/sums
verify /srv/sums "after the trim"
say "half of it deleted, trimmed, the rest verified"
[ "$(dmesg | grep -cE 'I/O error|EXT4-fs error')" = 0 ] || fail "the kernel met errors"
sync
echo "FLUSHES $(flushes)"
echo "GUEST PASSED"
finish
