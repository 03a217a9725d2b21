#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A daemon is followed by another one under load, again and again: clients of NBD and a front end of vhost-user see no error and
# no other content, and how long the longest gap was is printed. Successors that fail at whatever step leave the daemon serving.
. "$(dirname "$0")/lib.sh"

SOCK=$SCRATCH/nbd.sock VHOST=$SCRATCH/vhost.sock CONTROL=$SCRATCH/control.sock
EXPORTS=(--nbd "unix:$SOCK" --vhost-user "$VHOST")
handover() { python3 "$INTEROP/handover.py" "$@"; }
control() { "$CORRAL" control "$CONTROL" "$@"; }

# daemon [OPTION...]: sets SERVER and LOG; with --takeover it returns when it is the one that serves
daemon() {
	local line
	SERVED=$((SERVED + 1))
	LOG=$SCRATCH/server.$SERVED.log
	rm -f ready
	mkfifo ready
	"$CORRAL" serve overlay.qcow2 --aio "$CORRAL_AIO" --sandbox require --pid-file pid --control "unix:$CONTROL" \
		"${EXPORTS[@]}" "$@" >ready 2>"$LOG" &
	SERVER=$!
	SERVERS[$SERVER]=$LOG
	exec {READY_FD}<ready
	read -r -t 20 line <&"$READY_FD" || fail "not ready: $(cat "$LOG")"
}

# succeed: another daemon takes over from the one that there is, which ends by itself
succeed() {
	local old=$SERVER old_log=$LOG status=0
	daemon --takeover "unix:$CONTROL"
	ended "$old" 20 || fail "the old daemon didn't end"
	wait "$old" || status=$?
	equal "$status" 0 "the old daemon's status: $(cat "$old_log")"
	unset "SERVERS[$old]"
	grep -o 'nobody was served for [0-9]* ms' "$old_log" >>gaps || fail "no gap is told: $(cat "$old_log")"
	equal "$(cat pid)" "$SERVER" "the pid file"
}

load() {
	rm -f stop
	handover nbd "$SOCK" stop >nbd.out 2>&1 &
	NBD=$!
	handover vhost "$VHOST" stop >vhost.out 2>&1 &
	FRONT=$!
}

load_ends() {
	touch stop
	wait $NBD || fail "the NBD clients: $(cat nbd.out "$LOG")"
	wait $FRONT || fail "the front end: $(cat vhost.out "$LOG")"
	say "$(cat nbd.out)"
	say "$(cat vhost.out)"
}

create base.qcow2 256M
qio base.qcow2 -- "write -P 9 0 200M"
create -b base.qcow2 -F qcow2 overlay.qcow2 256M

# ---- under load ----

daemon
load
for ((i = 0; i < 6; i++)); do
	sleep 0.4
	succeed
done
load_ends
say "takeovers: $(sed 's/[^0-9]*//' gaps | tr '\n' ' ')"
while read -r -a words; do
	[ "${words[4]}" -lt 5000 ] || fail "a gap of ${words[4]} ms"
done <gaps

# ---- successors that fail, under load ----

load
for step in connect takeover freeze half send ready; do
	sleep 0.2
	handover fake "$CONTROL" $step || fail "the successor that fails at $step"
	sleep 0.2
	alive
done
sleep 0.5
equal "$(grep -c 'serving on' "$LOG")" 4 "times that it was taken back: $(cat "$LOG")"
refused() { fails "$1" "$CORRAL" serve --aio "$CORRAL_AIO" --takeover "unix:$CONTROL" "${@:2}"; }
refused "also serves --vhost-user $VHOST" overlay.qcow2 --nbd "unix:$SOCK"
refused "no such file" missing.qcow2 "${EXPORTS[@]}"
refused "no such file" overlay.qcow2 "${EXPORTS[@]}" --control "unix:$SCRATCH/nowhere/control" # when all else is open
refused "no such file" overlay.qcow2 "${EXPORTS[@]}" --pid-file nowhere/pid
equal "$(cat pid)" "$SERVER" "the pid file of who goes on"
succeed
load_ends

# ---- one that hangs: the daemon waits for ten seconds, and so do its clients ----

load
sleep 0.3
handover fake "$CONTROL" -send >said
grep -q "it took too long" said || fail "the successor that hangs hears: $(cat said)"
load_ends
alive
stop
for left in "$SOCK" "$VHOST" "$CONTROL" pid; do
	[ ! -e "$left" ] || fail "$left is left behind"
done
clean overlay.qcow2
clean base.qcow2

passed
