#!/bin/busybox sh
# SPDX-License-Identifier: MIT
#
# The first process of the guest that installs Debian on its disk. The second disk is a tar archive.
. /guest-lib.sh

# Which of both disks is which.
find_disks() {
	local disk
	for disk in vda vdb; do
		wait_for /dev/$disk 200
		if [ "$(cat /sys/block/$disk/serial)" = source ]; then SOURCE=/dev/$disk; else DISK=/dev/$disk; fi
	done
	[ -n "$SOURCE" ] && [ -n "$DISK" ] || fail "the disks aren't those that were expected"
	say "booted: $DISK, cache $(cat "/sys/block/${DISK#/dev/}/queue/write_cache")"
	[ "$(cat "/sys/block/${DISK#/dev/}/queue/write_cache")" = "write back" ] || fail "the disk promises no write cache"
}

inside() { PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C chroot /mnt "$@"; }

boot_loader() {
	local it
	for it in proc sys dev; do mount -o bind /$it /mnt/$it; done
	inside grub-install --target=i386-pc --no-floppy "$DISK" >/tmp/grub 2>&1 || fail "grub-install: $(tail -n 2 /tmp/grub)"
	inside update-grub >/tmp/grub 2>&1 || fail "update-grub: $(tail -n 2 /tmp/grub)"
	for it in proc sys dev; do umount /mnt/$it; done
	say "the boot loader is installed: $(grep -c ^menuentry /mnt/boot/grub/grub.cfg) entry"
}

load_modules
find_disks
printf 'label: dos\nstart=2048, type=83, bootable\n' | /sbin/sfdisk -q "$DISK" || fail sfdisk
wait_for "${DISK}1" 200
/sbin/mke2fs -q -F -t ext4 -L root "${DISK}1" || fail mke2fs
say "a partition and a file system"
mount -t ext4 "${DISK}1" /mnt || fail mount
tar -C /mnt -xf "$SOURCE" || fail tar
sync
say "unpacked: $(find /mnt -xdev -type f | wc -l) files"
boot_loader
umount /mnt || fail umount
/sbin/e2fsck -f -n "${DISK}1" >/tmp/fsck 2>&1 || fail "e2fsck: $(tail -n 3 /tmp/fsck)"
echo "GUEST PASSED"
finish
