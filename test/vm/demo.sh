#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A guest lives on a disk that Corral serves: an overlay over a golden image that QEMU made, exported over NBD or vhost-user,
# seen by a Linux guest as its virtio disk. The guest checks what shows through, makes a file system, writes, trims and verifies;
# then both programs must find the image clean and read the same bytes in it, and the golden image must be as before.
#
#     test/vm/demo.sh [BUILD-DIR | PROGRAM [nbd | vhost-user | killed | followed | uml]]
#
# killed: over vhost-user, and while the guest works the server is killed (-9) again and again, and another one started; followed:
# another one takes over from it again and again. The guest must notice nothing. uml: the guest is User-mode Linux, a kernel that
# runs as a program and is itself the front end of the vhost-user device: nothing of QEMU takes part.
#
# What it downloads (a kernel, once) and its logs are below the build directory.
. "$(dirname "$0")/lib.sh"

MODE=${2:-nbd}
RUN=$BUILD/demo/run-$MODE
IMAGE=$RUN/overlay.qcow2
GUEST_SECONDS=150
DISK=$((160 * MIB))
BASE_PART=$((32 * MIB)) # the golden image's own partition; the guest makes its file system behind it
TIMES=0

# ---- the disk ----

# A disk of one partition with a file system full of files whose sums are known, and room for a second partition.
golden_image() {
	local files=$RUN/files i
	mkdir -p "$files"
	for i in 1 511 512 4096 65537 1000003 4000000; do
		head -c $i /dev/urandom >"$files/random.$i"
	done
	seq -f 'Line %g of a text of the golden image.' 20000 >"$files/text"
	(cd "$files" && sha256sum ./* >"$RUN/golden.sha256" && cp "$RUN/golden.sha256" sums)
	truncate -s $BASE_PART "$RUN/part.raw"
	mke2fs -q -F -t ext4 -L golden -d "$files" "$RUN/part.raw"
	truncate -s $((BASE_PART + MIB)) "$RUN/base.raw"
	dd if="$RUN/part.raw" of="$RUN/base.raw" bs=1M seek=1 conv=notrunc,sparse status=none
	partition_table
	qemu-img convert -f raw -O qcow2 -o cluster_size=32k "$RUN/base.raw" "$RUN/base.qcow2"
	BASE_SUM=$(sha256sum <"$RUN/base.qcow2")
	say base "base.qcow2, made by qemu-img: $(wc -l <"$RUN/golden.sha256") files in an ext4 partition"
}

# The MBR's two entries (at 446): each a flag, a unit of no use today, type 0x83, again such a unit, start, length.
partition_table() {
	python3 - "$RUN/base.raw" $((MIB / 512)) $((BASE_PART / 512)) $((DISK / 512)) <<'END'
import struct, sys
path, first, length, disk = sys.argv[1], *map(int, sys.argv[2:])
parts = [(first, length), (first + length, disk - first - length)]
with open(path, "r+b") as f:
    f.seek(446)
    for start, sectors in parts:
        f.write(struct.pack("<8B2I", 0, 0xFE, 0xFF, 0xFF, 0x83, 0xFE, 0xFF, 0xFF, start, sectors))
    f.write(bytes(32) + b"\x55\xaa")
END
}

overlay() {
	"$CORRAL" create -b base.qcow2 -F qcow2 "$RUN/overlay.qcow2" $DISK >"$RUN/create.log" 2>&1 ||
		fail "corral create: $(tail -n 1 "$RUN/create.log")"
	say overlay "overlay.qcow2, made by corral create, backed by base.qcow2"
}

# ---- the server ----

killed() {
	kill -9 "$SERVER"
	wait "$SERVER" 2>/dev/null || true
	serve vhost-user
}

followed() {
	local old=$SERVER
	serve vhost-user --control "unix:$RUN/control" --takeover "unix:$RUN/control"
	wait "$old" || fail "the server that was followed ended with an error: $(tail -n 1 "$RUN/server.log")"
}

# From when the guest has its disk until it has ended. QEMU connects again after a second, and must not be disturbed in that.
again_and_again() {
	until grep -qs '^@@ booted' "$RUN/console.log" || ! kill -0 "$QEMU" 2>/dev/null; do sleep 0.2; done
	while sleep 3.$((RANDOM % 10)) && kill -0 "$QEMU" 2>/dev/null; do
		"$MODE"
		TIMES=$((TIMES + 1))
	done
}

# ---- what is shown ----

# Its modules are in its own package; its memory is a file that the server maps.
user_mode_linux() {
	: >"$RUN/console.log"
	TMPDIR=/dev/shm timeout -k 5 $GUEST_SECONDS linux.uml mem=256M "uml_dir=$RUN/" umid=uml "initrd=$RUN/initramfs.cpio" \
		"virtio_uml.device=$RUN/vhost-user.sock:2" con0=null,fd:1 con=null ssl=null panic=-1 quiet \
		</dev/null >"$RUN/console.log" 2>"$RUN/qemu.log" &
	QEMU=$!
	# It keeps a program's floating-point state in a buffer that is too small for some processors.
	wait "$QEMU" 2>/dev/null || ! grep -aq 'ptrace set fp regs failed' "$RUN/console.log" ||
		give_up 77 "User-mode Linux runs no program on this processor: $(grep -am1 'ptrace set fp' "$RUN/console.log")"
	watched 'GUEST PASSED'
}

guest() {
	if [ "$MODE" = uml ]; then
		user_mode_linux
		return
	fi
	# shellcheck disable=SC2046 # many words
	emulate $(disk "$([ "$MODE" = nbd ] && echo nbd || echo vhost-user)" 256) -kernel "$VMLINUZ" -initrd "$RUN/initramfs.cpio" \
		-append "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr tsc=reliable random.trust_cpu=on"
	case $MODE in killed | followed) again_and_again ;; esac
	watched 'GUEST PASSED'
}

read_twice() {
	local told sum
	told=$(sed -n 's/^DISK //p' "$RUN/console.txt")
	qemu-img convert -f qcow2 -O raw "$RUN/overlay.qcow2" "$RUN/qemu.raw"
	sum=$(md5sum <"$RUN/qemu.raw" | cut -d ' ' -f 1)
	[ "$sum" = "$told" ] || fail "QEMU reads another disk (md5 $sum) than the guest did ($told)"
	serve nbd --read-only
	nbdcopy "nbd+unix:///?socket=$RUN/nbd.sock" "$RUN/corral.raw"
	stop
	cmp "$RUN/qemu.raw" "$RUN/corral.raw" >"$RUN/cmp.log" 2>&1 || fail "Corral and QEMU read different disks: $(cat "$RUN/cmp.log")"
	say content "the guest, qemu-img convert and nbdcopy from Corral read the same disk, md5 ${sum:0:12}..."
	[ "$(sha256sum <"$RUN/base.qcow2")" = "$BASE_SUM" ] || fail "the golden image changed"
	say base "base.qcow2 is what it was, byte for byte"
}

main() {
	[ -x "$CORRAL" ] || fail "no program at $CORRAL"
	rm -rf "$RUN"
	mkdir -p "$RUN" "$CACHE"
	needs qemu-img qemu-system-x86_64 nbdcopy busybox cpio python3 mke2fs e2fsck fstrim blkdiscard
	if [ "$MODE" = uml ]; then
		needs linux.uml
		KERNEL_FILES=/usr/lib/uml
	else
		kernel
	fi
	initramfs guest-init.sh "mke2fs e2fsck fstrim blkdiscard" "virtio_pci virtio_blk ext4"
	golden_image
	overlay
	case $MODE in
	nbd) serve nbd ;;
	followed) serve vhost-user --control "unix:$RUN/control" ;;
	*) serve vhost-user ;;
	esac
	say serve "corral serve, $MODE on a Unix socket; booting the guest in an emulated machine"
	guest
	case $MODE in killed | followed) [ $TIMES -gt 2 ] && say "$MODE" "the server was $MODE $TIMES times" ;; esac
	stop
	say serve "stopped by SIGTERM, status 0"
	checked
	read_twice
	rm -rf "$RUN"/*.raw "$RUN"/initramfs* "$RUN/files"
	echo PASS
}
main
