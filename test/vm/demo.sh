#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A guest lives on a disk that Corral serves: an overlay over a golden image that QEMU made, exported over NBD or vhost-user,
# seen by a Linux guest as its virtio disk. The guest checks what shows through, makes a file system, writes, trims and verifies;
# then both programs must find the image clean and read the same bytes in it, and the golden image must be as before.
#
#     test/vm/demo.sh [BUILD-DIR | PROGRAM [nbd | vhost-user | killed]]
#
# killed: over vhost-user, and while the guest works the server is killed (-9) again and again, and another one started; the
# guest must notice nothing.
#
# The last line is PASS, or FAIL with the reason; the status is 0, 1, or 77 if something is missing to do it with. What it
# downloads (a kernel, once) and its logs are below the build directory.
set -Eeuo pipefail

HERE=$(cd "$(dirname "$0")" && pwd)
target=$(realpath "${1:-$HERE/../../build}")
if [ -d "$target" ]; then
	BUILD=$target CORRAL=$target/corral
else
	BUILD=$(dirname "$(dirname "$target")") CORRAL=$target
fi
MODE=${2:-nbd}
CACHE=$BUILD/demo/cache
RUN=$BUILD/demo/run-$MODE
GUEST_SECONDS=150
MIB=$((1 << 20))
DISK=$((160 * MIB))
BASE_PART=$((32 * MIB)) # the golden image's own partition; the guest makes its file system behind it

SERVER="" QEMU="" KILLED=0
STARTED=$EPOCHREALTIME
umask 022
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin

seconds() { awk "BEGIN { printf \"%5.1f s\", $EPOCHREALTIME - $STARTED }"; }
say() { printf '%s  %-8s %s\n' "$(seconds)" "$1" "$2"; }

give_up() { # STATUS REASON
	echo "FAIL: $2 (logs: $RUN)"
	exit "$1"
}
fail() { give_up 1 "$1"; }
trap '[ $BASH_SUBSHELL != 0 ] || give_up 1 "line $LINENO: $BASH_COMMAND"' ERR
cleanup() {
	[ -z "$SERVER" ] || kill -9 "$SERVER" 2>/dev/null || true
	[ -z "$QEMU" ] || kill "$QEMU" 2>/dev/null || true
}
trap cleanup EXIT

needs() {
	local tool
	for tool in "$@"; do
		command -v "$tool" >/dev/null || give_up 77 "no $tool here"
	done
}

# ---- the guest: a kernel from Debian's package, which is only unpacked, and an initramfs of a few programs ----

kernel_package() {
	apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends: linux-image/ { print $2; exit }'
}

kernel_download() {
	local package
	package=$(kernel_package)
	(cd "$CACHE/deb" && rm -f ./*.deb && [ -n "$package" ] && apt-get -q download "$package") >"$RUN/apt.log" 2>&1
}

kernel() {
	if [ ! -e "$CACHE/complete" ]; then
		needs apt-get dpkg-deb
		rm -rf "$CACHE/deb" "$CACHE/root"
		mkdir -p "$CACHE/deb"
		kernel_download || { apt-get -q update >"$RUN/apt-update.log" 2>&1 && kernel_download; } ||
			give_up 77 "can't download linux-image-cloud-amd64: $(tail -n 1 "$RUN/apt.log")"
		dpkg-deb -x "$CACHE"/deb/*.deb "$CACHE/root"
		rm -r "$CACHE/deb"
		touch "$CACHE/complete"
	fi
	VMLINUZ=$(echo "$CACHE"/root/boot/vmlinuz-*)
	say kernel "Linux ${VMLINUZ##*/vmlinuz-}, from Debian's package, unpacked in ${CACHE#"$PWD"/}"
}

# A module after those it depends on, as its own file says; what is built in has no file.
module_files() {
	local name=$1 file needed
	file=$(find "$CACHE/root/lib/modules" -name "$name.ko" -o -name "${name//_/-}.ko" | head -n 1)
	[ -n "$file" ] || return 0
	for needed in $(tr '\0' '\n' <"$file" | sed -n 's/^depends=//p' | tr , ' '); do
		module_files "$needed"
	done
	echo "$file"
}

program_with_libraries() { # into the initramfs $1
	install -D "$(command -v "$2")" "$1/sbin/$2"
	{ ldd "$1/sbin/$2" || true; } | grep -o '/[^ ]*' | while read -r library; do
		[ -e "$1$library" ] || install -D "$library" "$1$library"
	done
}

initramfs() {
	local root=$RUN/initramfs name file
	mkdir -p "$root"/{bin,dev,proc,sys,tmp,mnt,modules,etc}
	install "$(command -v busybox)" "$root/bin/busybox"
	ln -s busybox "$root/bin/sh"
	install "$HERE/guest-init.sh" "$root/init"
	cp /etc/mke2fs.conf "$root/etc/"
	for name in mke2fs e2fsck fstrim blkdiscard; do
		program_with_libraries "$root" $name
	done
	for name in virtio_pci virtio_blk ext4; do module_files $name; done | awk '!seen[$0]++' | while read -r file; do
		cp "$file" "$root/modules/"
		echo "${file##*/}"
	done >"$root/modules/order"
	(cd "$root" && find . | sort | cpio -o -H newc -R 0:0 --quiet) >"$RUN/initramfs.cpio"
	say guest "an initramfs of busybox, e2fsprogs and $(wc -l <"$root/modules/order") kernel modules"
}

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

# serve KIND [OPTION...], at the socket KIND.sock
serve() {
	local kind=$1 line
	shift
	mkfifo "$RUN/ready"
	"$CORRAL" serve "$RUN/overlay.qcow2" "--$kind" "unix:$RUN/$kind.sock" "$@" >"$RUN/ready" 2>>"$RUN/server.log" &
	SERVER=$!
	exec {READY}<"$RUN/ready"
	rm "$RUN/ready"
	read -r -t 20 line <&"$READY" || fail "corral serve: $(tail -n 1 "$RUN/server.log")"
}

stop() {
	local status=0
	kill -TERM "$SERVER" || fail "the server had gone: $(tail -n 1 "$RUN/server.log")"
	wait "$SERVER" || status=$?
	SERVER=""
	[ $status = 0 ] || fail "the server ended with status $status: $(tail -n 1 "$RUN/server.log")"
}

# From when the guest has its disk until it has ended. QEMU connects again after a second, and must not be disturbed in that.
kill_again_and_again() {
	until grep -qs '^@@ booted' "$RUN/console.log" || ! kill -0 "$QEMU" 2>/dev/null; do sleep 0.2; done
	while sleep 3.$((RANDOM % 10)) && kill -0 "$QEMU" 2>/dev/null; do
		kill -9 "$SERVER"
		wait "$SERVER" 2>/dev/null || true
		KILLED=$((KILLED + 1))
		serve vhost-user
	done
}

# ---- what is shown ----

# The guest's memory, and how it sees its disk.
attach() {
	if [ "$MODE" = nbd ]; then
		echo "-m 256 -machine pc -drive file.driver=nbd,file.server.type=unix,file.server.path=$RUN/nbd.sock,format=raw,if=none,id=disk,discard=unmap
			-device virtio-blk-pci,drive=disk,werror=report,rerror=report"
	else
		echo "-object memory-backend-memfd,id=ram,size=256M,share=on -m 256 -machine pc,memory-backend=ram
			-chardev socket,id=disk,path=$RUN/vhost-user.sock,reconnect=1 -device vhost-user-blk-pci,chardev=disk"
	fi
}

guest() {
	local status=0 line
	# shellcheck disable=SC2046 # many words
	timeout -k 5 $GUEST_SECONDS qemu-system-x86_64 -accel tcg,thread=multi,tb-size=256 -cpu max $(attach) \
		-nodefaults -no-user-config -no-reboot -display none -monitor none -serial "file:$RUN/console.log" \
		-kernel "$VMLINUZ" -initrd "$RUN/initramfs.cpio" \
		-append "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr tsc=reliable random.trust_cpu=on" \
		>"$RUN/qemu.log" 2>&1 &
	QEMU=$!
	: >"$RUN/console.log"
	[ "$MODE" != killed ] || kill_again_and_again
	tail -n +1 -s 0.2 --pid=$QEMU -f "$RUN/console.log" | while read -r line; do
		line=${line%$'\r'}
		case $line in @@*) say guest "${line#@@ }" ;; esac
	done
	wait $QEMU || status=$?
	QEMU=""
	[ $status != 124 ] && [ $status != 137 ] || fail "the guest took longer than $GUEST_SECONDS s"
	[ $status = 0 ] || fail "qemu ended with status $status: $(tail -n 1 "$RUN/qemu.log")"
	tr -d '\r' <"$RUN/console.log" >"$RUN/console.txt"
	line=$(grep -aE -m1 '^FAILED|I/O error|EXT4-fs error|Kernel panic' "$RUN/console.txt") || true
	[ -z "$line" ] || fail "in the guest: $line"
	grep -aqx 'GUEST PASSED' "$RUN/console.txt" || fail "the guest ended early: $(tail -n 1 "$RUN/console.txt")"
}

checked() {
	"$CORRAL" check "$RUN/overlay.qcow2" >"$RUN/check.log" 2>&1 || fail "corral check: $(tail -n 1 "$RUN/check.log")"
	qemu-img check -f qcow2 "$RUN/overlay.qcow2" >"$RUN/qemu-check.log" 2>&1 ||
		fail "qemu-img check: $(tail -n 1 "$RUN/qemu-check.log")"
	say check "corral check and qemu-img check: clean, no leaks"
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
	kernel
	initramfs
	golden_image
	overlay
	if [ "$MODE" = nbd ]; then serve nbd; else serve vhost-user; fi
	say serve "corral serve, $MODE on a Unix socket; booting the guest in an emulated machine"
	guest
	[ "$MODE" != killed ] || { [ $KILLED -gt 2 ] && say killed "the server was killed $KILLED times"; }
	stop
	say serve "stopped by SIGTERM, status 0"
	checked
	read_twice
	rm -rf "$RUN"/*.raw "$RUN"/initramfs* "$RUN/files"
	echo PASS
}
main
