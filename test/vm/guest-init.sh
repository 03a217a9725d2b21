#!/bin/busybox sh
# SPDX-License-Identifier: MIT
#
# The first and only process of the demo's guest. Beside what guest-lib.sh says, DISK is for the script that booted it.
. /guest-lib.sh

forget_caches() {
	sync
	echo 3 >/proc/sys/vm/drop_caches
}

# verify SUMS WHEN: in /mnt
verify() {
	(cd /mnt && sha256sum -c "$1") >/tmp/verify 2>&1 || fail "$2: $(grep -v ': OK' /tmp/verify | head -n 3)"
}

boot() {
	load_modules
	wait_for /dev/vda2 100
	say "booted: /dev/vda, $(($(cat /sys/block/vda/size) / 2048)) MiB, cache $(cat /sys/block/vda/queue/write_cache)"
	[ "$(cat /sys/block/vda/queue/discard_max_bytes)" -gt 0 ] || fail "the disk has no discard"
}

# The golden image shows through; what is changed there is copied up.
golden() {
	mount -t ext4 /dev/vda1 /mnt || fail "mount vda1"
	cp /mnt/sums /tmp/golden
	verify /tmp/golden "the golden image's files"
	say "the golden image's $(wc -l </tmp/golden) files show through, sha256 right"
	echo 'The guest was here.' >>/mnt/text
	dd if=/dev/urandom of=/mnt/random.4000000 bs=1000 seek=777 count=10 conv=notrunc,fsync 2>/dev/null
	(cd /mnt && sha256sum ./* >/tmp/changed)
	umount /mnt
}

# Zeroes are asked for, not sent; the programs of /sbin are named in full, since busybox has an own idea of some.
erase() {
	dd if=/dev/urandom of=/dev/vda2 bs=1M count=4 conv=fsync 2>/dev/null || fail "raw write"
	/sbin/blkdiscard -z -o 0 -l 4194304 /dev/vda2 || fail "blkdiscard -z"
	forget_caches
	[ "$(dd if=/dev/vda2 bs=1M count=4 2>/dev/null | tr -d '\000' | wc -c)" = 0 ] || fail "a zeroed range isn't zero"
	say "4 MiB of noise zeroed by one request"
}

fill() {
	local n
	/sbin/mke2fs -q -F -t ext4 -E discard /dev/vda2 || fail "mke2fs"
	mount -t ext4 /dev/vda2 /mnt || fail "mount vda2"
	mkdir /mnt/keep /mnt/trash
	for n in 1 3 17 64 65 256 1000 2048; do
		dd if=/dev/urandom of=/mnt/keep/$n bs=1000 count=$n conv=fsync 2>/dev/null || fail "write"
		dd if=/dev/urandom of=/mnt/trash/$n bs=1000 count=$n 2>/dev/null || fail "write"
	done
	dd if=/dev/urandom of=/mnt/keep/big bs=1M count=12 2>/dev/null || fail "write"
	dd if=/dev/urandom of=/mnt/keep/direct bs=64k count=32 oflag=direct 2>/dev/null || fail "direct write"
	dd if=/dev/urandom of=/mnt/keep/sparse bs=4k seek=3000 count=3 conv=fsync 2>/dev/null || fail "write"
	(cd /mnt && find keep trash -type f | sort | xargs sha256sum) >/tmp/all
	grep ' keep/' /tmp/all >/tmp/kept
	forget_caches
	verify /tmp/all "after dropping the caches"
	say "a fresh ext4: $(wc -l </tmp/all) files written, synced, caches dropped, verified"
}

trim() {
	rm -r /mnt/trash
	sync
	/sbin/fstrim -v /mnt >/tmp/trim 2>&1 || fail "fstrim: $(cat /tmp/trim)"
	forget_caches
	verify /tmp/kept "after the trim"
	say "deleted half of them, fstrim, verified the rest"
	umount /mnt
}

again() {
	/sbin/e2fsck -f -n /dev/vda2 >/tmp/fsck 2>&1 || fail "e2fsck: $(tail -n 3 /tmp/fsck)"
	mount -t ext4 -o ro /dev/vda2 /mnt || fail "mount vda2 again"
	verify /tmp/kept "after mounting again"
	umount /mnt
	mount -t ext4 -o ro /dev/vda1 /mnt || fail "mount vda1 again"
	verify /tmp/changed "the golden image's partition after mounting again"
	umount /mnt
	say "e2fsck finds nothing; both file systems mounted again, verified"
}

# What follows must not change the disk: the sum is compared with what is read outside.
whole_disk() {
	forget_caches
	echo "DISK $(dd if=/dev/vda bs=1M 2>/dev/null | md5sum | cut -d ' ' -f 1)"
	say "read the whole disk, powering off"
}

boot
golden
erase
fill
trim
again
whole_disk
echo "GUEST PASSED"
finish
