#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The Debian that install.sh put on a disk is booted from it, by firmware and boot loader, to its login prompt, and works there. Every
# flush of the guest must have reached the storage: those that its kernel counted are compared with those of the server and with
# its calls of fdatasync. Then the image is read from outside: both checks, the file system, every file.
#
#     test/vm/boot.sh [BUILD-DIR | PROGRAM [vhost-user | nbd]]
#
# EMULATOR: another qemu-system-x86_64.
. "$(dirname "$0")/lib.sh"

MODE=${2:-vhost-user}
RUN=$BUILD/vm/boot-$MODE
IMAGE=$BUILD/vm/disk/debian.qcow2
GUEST_SECONDS=600
PART=$MIB # where the file system begins

counted() {
	local guest server storage
	guest=$(sed -n 's/^FLUSHES //p' "$RUN/console.txt")
	server=$(sed -n 's/.*: flush: \([0-9]*\) requests.*/\1/p' "$RUN/server.log" | tail -n 1)
	storage=$(grep -c 'fdatasync.*= 0' "$RUN/fdatasync.log") || true
	say flushes "$guest of the guest until then, $server at the server, $storage calls of fdatasync"
	[ "$server" -ge "$guest" ] || fail "the guest flushed $guest times, the server saw $server"
	# Those that wait together share one.
	[ "$storage" -gt 0 ] && [ "$storage" -ge $((guest / 4)) ] || fail "$guest flushes came to $storage on the storage"
}

on_the_console() {
	local words
	for words in 'Booting .Debian GNU/Linux' 'Debian GNU/Linux 12 guest ttyS0' 'guest login:' 'Power down'; do
		grep -aq "$words" "$RUN/console.txt" || fail "the console never showed '$words'"
	done
	say console "boot loader, login prompt, power down"
}

# The file system and its files, by programs that know nothing of Corral.
content() {
	local raw=$RUN/disk.raw
	qemu-img convert -f qcow2 -O raw "$IMAGE" "$raw"
	e2fsck -f -n "$raw?offset=$PART" >"$RUN/fsck.log" 2>&1 || fail "e2fsck: $(tail -n 1 "$RUN/fsck.log")"
	mkdir -p "$RUN/tree"
	debugfs -R "rdump /srv /usr $RUN/tree" "$raw?offset=$PART" >"$RUN/debugfs.log" 2>&1
	grep ' usr/' "$RUN/tree/usr/local/installed.sha256" >"$RUN/usr.sha256"
	(cd "$RUN/tree" && sha256sum --quiet -c srv/sums "$RUN/usr.sha256") >"$RUN/sums.log" 2>&1 ||
		fail "from outside a file differs: $(head -n 1 "$RUN/sums.log")"
	say content "e2fsck finds nothing; $(cat "$RUN/tree/srv/sums" "$RUN/usr.sha256" | wc -l) files are right from outside"
	rm -rf "$RUN/tree" "$raw"
}

main() {
	[ -x "$CORRAL" ] || fail "no program at $CORRAL"
	[ -e "$IMAGE" ] || give_up 77 "no installed disk: run test/vm/install.sh"
	rm -rf "$RUN"
	mkdir -p "$RUN"
	needs qemu-img qemu-system-x86_64 e2fsck debugfs strace
	# Threads' calls can be seen; -D: the server remains our child.
	export CORRAL_AIO=threads
	UNDER=(strace -D -f -qq --seccomp-bpf -e trace=fdatasync -o "$RUN/fdatasync.log")
	serve "$MODE" --stats --sandbox=off
	say serve "debian.qcow2, $MODE; booting from it"
	# shellcheck disable=SC2046 # many words
	emulate $(disk "$MODE" 768) -serial "file:$RUN/marks.log"
	watched 'GUEST PASSED'
	stop
	on_the_console
	counted
	checked
	content
	echo PASS
}
main
