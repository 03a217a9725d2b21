#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A server that is inside its sandbox has no privileges and can open nothing, but serves as before, reconnecting clients
# included, and tidies up at its end. One that can't have a part of it says so, and doesn't serve if it is required.
. "$(dirname "$0")/lib.sh"

needs nbdcopy

field() { awk -v name="$1:" '$1 == name { print $2 }' "/proc/$SERVER/status"; }

create base.qcow2 8M
qio base.qcow2 -- 'write -P 1 0 8M'
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 image.qcow2 64M

serve image.qcow2 --sandbox require --pid-file "$SCRATCH/pid" --stats=1
equal "$(cat pid)" "$SERVER" "the pid file"
equal "$(field CapEff)" 0000000000000000 "capabilities"
equal "$(field CapBnd)" 0000000000000000 "capabilities that could be had"
equal "$(field NoNewPrivs)" 1 "no_new_privs"
equal "$(field Seccomp)" 2 "seccomp"
for task in /proc/"$SERVER"/task/*; do
	grep -q '^Seccomp:.2' "$task/status" || fail "thread ${task##*/} is outside"
done
for i in 1 2 3; do
	qio "$URI" -- "write -P $i ${i}M 1M" "write -z -u 5M 1M" "discard 6M 1M" flush "read -P $i ${i}M 1M"
done
corral_reads got.raw
kill -USR1 "$SERVER"
stop
[ ! -e pid ] || fail "the pid file is left behind"
[ ! -e "$SOCK" ] || fail "the socket is left behind"
clean image.qcow2
qemu_reads image.qcow2 want.raw
same got.raw want.raw

# As another user, who owns the folder of the socket
if [ "$(id -u)" = 0 ]; then
	mkdir nobodys
	chown nobody nobodys
	chmod 711 .
	"$CORRAL" serve image.qcow2 --aio "$CORRAL_AIO" --user nobody --sandbox off --fork --pid-file nobodys/pid --nbd unix:nobodys/sock >out
	SERVER=$(cat nobodys/pid)
	equal "$(field Uid)" "$(id -u nobody)" "the user"
	nbdcopy "nbd+unix:///?socket=nobodys/sock" again.raw
	kill "$SERVER"
	ended "$SERVER" 10 || fail "the server didn't end"
	[ ! -e nobodys/sock ] || fail "the socket is left behind"
	same got.raw again.raw
fi
serve_fails "no user 'nobody-at-all'" image.qcow2 --user nobody-at-all

# Where a part is missing: a kernel without Landlock, as seccomp can make it look
python3 - "$CORRAL" "$CORRAL_AIO" <<'END' || fail "see above"
import ctypes, os, struct, subprocess, sys

corral, aio = sys.argv[1:]
LANDLOCK_CREATE_RULESET, ENOSYS = 444, 38
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
code = [(LOAD, 0, 0, 0), (EQUAL, 0, 1, LANDLOCK_CREATE_RULESET), (RETURN, 0, 0, 0x50000 | ENOSYS), (RETURN, 0, 0, 0x7FFF0000)]


def without_landlock():
    libc = ctypes.CDLL(None)
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    filter = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code), ctypes.addressof(program)))
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, filter):
        os._exit(99)


def serve(mode):
    return subprocess.run(["timeout", "-s", "TERM", "--preserve-status", "2", corral, "serve", "image.qcow2", "--aio", aio,
                           "--sandbox", mode, "--nbd", "unix:part.sock"], capture_output=True, text=True,
                          preexec_fn=without_landlock)  # fmt: skip


done = serve("require")
assert done.returncode == 1 and "lacks Landlock" in done.stderr and "serving" not in done.stdout, done
done = serve("auto")
assert done.returncode == 0 and "lacks Landlock" in done.stderr and "serving" in done.stdout, done
END
# Commands say the same, and are inside when they say it
for command in "info image.qcow2" "check image.qcow2" "map image.qcow2" "compare image.qcow2 image.qcow2" "inspect base.qcow2"; do
	# shellcheck disable=SC2086
	"$CORRAL" $command >plain.txt || fail "$command ended with $?"
	# shellcheck disable=SC2086
	"$CORRAL" $command --sandbox=require >inside.txt || fail "$command --sandbox=require ended with $?"
	cmp plain.txt inside.txt || fail "$command says something else in the sandbox"
	command -v strace >/dev/null || continue
	# shellcheck disable=SC2086
	strace -f -qq -o calls -e trace=openat,openat2,socket,connect,landlock_restrict_self,seccomp "$CORRAL" $command --sandbox=require >/dev/null
	grep -q 'landlock_restrict_self.* = 0' calls || fail "$command isn't restricted by Landlock"
	grep -q 'seccomp(SECCOMP_SET_MODE_FILTER.* = 0' calls || fail "$command isn't restricted by seccomp"
	! sed '1,/landlock_restrict_self/d' calls | grep -E '(open|socket|connect)' || fail "$command opens something inside"
done
passed
