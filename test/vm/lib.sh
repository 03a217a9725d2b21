# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# What the scripts with a guest share: the program, what is said, Debian's kernel, an initramfs, the server. Whoever includes it
# sets RUN (a directory for logs and disks) and IMAGE (what is served); the last line of each is PASS, or FAIL with
# the reason; the status is 0, 1, or 77 if something is missing to do it with.
set -Eeuo pipefail

HERE=$(cd "$(dirname "$0")" && pwd)
target=$(realpath "${1:-$HERE/../../build}")
if [ -d "$target" ]; then
	BUILD=$target CORRAL=$target/corral
else
	BUILD=$(dirname "$target") CORRAL=$target
fi
CACHE=$BUILD/demo/cache
MIB=$((1 << 20))
UNDER=() # a command in front of the server's
SERVER="" QEMU=""
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
	KERNEL_FILES=$CACHE/root/lib/modules
	VMLINUZ=$(echo "$CACHE"/root/boot/vmlinuz-*)
	say kernel "Linux ${VMLINUZ##*/vmlinuz-}, from Debian's package, unpacked in ${CACHE#"$PWD"/}"
}

# A module after those it depends on, as its own file says; what is built in has no file.
module_files() {
	local name=$1 file needed
	file=$(find "$KERNEL_FILES" -name "$name.ko" -o -name "${name//_/-}.ko" | head -n 1)
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

# initramfs INIT PROGRAMS MODULES: to $RUN/initramfs.cpio
initramfs() {
	local root=$RUN/initramfs name file
	mkdir -p "$root"/{bin,dev,proc,sys,tmp,mnt,modules,etc}
	install "$(command -v busybox)" "$root/bin/busybox"
	ln -s busybox "$root/bin/sh"
	install "$HERE/$1" "$root/init"
	install -m 644 "$HERE/guest-lib.sh" "$root/guest-lib.sh"
	cp /etc/mke2fs.conf "$root/etc/"
	for name in $2; do
		program_with_libraries "$root" "$name"
	done
	for name in $3; do module_files "$name"; done | awk '!seen[$0]++' | while read -r file; do
		cp "$file" "$root/modules/"
		echo "${file##*/}"
	done >"$root/modules/order"
	(cd "$root" && find . | sort | cpio -o -H newc -R 0:0 --quiet) >"$RUN/initramfs.cpio"
	say guest "an initramfs of busybox, e2fsprogs and $(wc -l <"$root/modules/order") kernel modules"
	rm -r "$root"
}

# ---- the server ----

# serve KIND [OPTION...], at the socket KIND.sock
serve() {
	local kind=$1 line
	shift
	mkfifo "$RUN/ready"
	"${UNDER[@]}" "$CORRAL" serve "$IMAGE" "--$kind" "unix:$RUN/$kind.sock" "$@" >"$RUN/ready" 2>>"$RUN/server.log" &
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

# ---- the guest ----

# disk KIND MIB: QEMU's words for that much memory and for a disk at the socket KIND.sock
disk() {
	if [ "$1" = nbd ]; then
		echo "-m $2 -machine pc -drive file.driver=nbd,file.server.type=unix,file.server.path=$RUN/nbd.sock,format=raw,if=none,id=disk,discard=unmap
			-device virtio-blk-pci,drive=disk,bootindex=1,werror=report,rerror=report"
	else
		echo "-object memory-backend-memfd,id=ram,size=$2M,share=on -m $2 -machine pc,memory-backend=ram
			-chardev socket,id=disk,path=$RUN/vhost-user.sock,reconnect=1 -device vhost-user-blk-pci,chardev=disk,bootindex=1"
	fi
}

# emulate ARGUMENT...: a machine, in the background; its first console is $RUN/console.log
emulate() {
	: >"$RUN/console.log"
	timeout -k 5 $GUEST_SECONDS "${EMULATOR:-qemu-system-x86_64}" -accel tcg,thread=multi,tb-size=256 -cpu max \
		-nodefaults -no-user-config -no-reboot -display none -monitor none -serial "file:$RUN/console.log" "$@" \
		>"$RUN/qemu.log" 2>&1 &
	QEMU=$!
}

# watched WORDS: until the guest has ended, which must have said those, and nothing of errors
watched() {
	local status=0 line
	tail -n +1 -s 0.2 --pid=$QEMU -F "$RUN/console.log" "$RUN/marks.log" 2>/dev/null | while read -r line; do
		line=${line%$'\r'}
		case $line in @@*) say guest "${line#@@ }" ;; esac
	done
	wait $QEMU || status=$?
	QEMU=""
	[ $status != 124 ] && [ $status != 137 ] || fail "the guest took longer than $GUEST_SECONDS s"
	[ $status = 0 ] || fail "qemu ended with status $status: $(tail -n 1 "$RUN/qemu.log")"
	cat "$RUN/console.log" "$RUN/marks.log" 2>/dev/null | tr -d '\r' >"$RUN/console.txt" || true
	line=$(grep -aE -m1 '^FAILED|I/O error|EXT4-fs error|Kernel panic' "$RUN/console.txt") || true
	[ -z "$line" ] || fail "in the guest: $line"
	grep -aqx "$1" "$RUN/console.txt" || fail "the guest ended early: $(tail -n 1 "$RUN/console.txt")"
}

checked() {
	"$CORRAL" check "$IMAGE" >"$RUN/check.log" 2>&1 || fail "corral check: $(tail -n 1 "$RUN/check.log")"
	qemu-img check -f qcow2 "$IMAGE" >"$RUN/qemu-check.log" 2>&1 || fail "qemu-img check: $(tail -n 1 "$RUN/qemu-check.log")"
	say check "corral check and qemu-img check: clean, no leaks"
}
