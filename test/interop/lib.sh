# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# What the interop tests share: a scratch directory that is gone afterwards, servers that are started and stopped, and
# assertions that say what was wrong. A test sources this file first; the scratch directory is then its working
# directory. Exit status: 0 passed, 77 skipped with the reason, else failed with the reason and the servers' last words.
#
# CORRAL is the program under test, CORRAL_AIO the I/O engine that its servers are to use.
set -Eeuo pipefail

: "${CORRAL:?the program under test}"
CORRAL=$(realpath "$CORRAL")
CORRAL_AIO=${CORRAL_AIO:-threads}
INTEROP=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
SCRATCH=$(mktemp -d "${TMPDIR:-/tmp}/corral-interop.XXXXXX")
cd "$SCRATCH"
export PYTHONDONTWRITEBYTECODE=1

declare -A SERVERS=() # the log of each process that still runs, by its id
SERVED=0
FINISHED=""

say() { echo "${0##*/}: $*"; }

fail() {
	say "FAILED: $*" >&2
	exit 1
}

skip() {
	say "skipped: $*"
	exit 77
}

cleanup() {
	local status=$? pid
	trap - EXIT
	for pid in "${!SERVERS[@]}"; do
		kill -9 "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	if [ "$status" = 0 ] && [ -z "$FINISHED" ]; then
		echo "${0##*/}: FAILED: ended early" >&2
		status=1
	fi
	if [ "$status" != 0 ] && [ "$status" != 77 ]; then
		tail -n 20 "$SCRATCH"/server.*.log 2>/dev/null >&2 || true
	fi
	if [ -z "${CORRAL_KEEP:-}" ]; then
		rm -rf "$SCRATCH"
	fi
	exit "$status"
}
trap cleanup EXIT
trap 'say "line $LINENO: $BASH_COMMAND: status $?" >&2' ERR
trap 'exit 143' TERM INT

# The last line of every test: a script that ends without it has lost its way.
passed() {
	FINISHED=yes
	say "passed ($CORRAL_AIO), ${SECONDS} s"
}

needs() {
	local tool
	for tool in "$@"; do
		command -v "$tool" >/dev/null || skip "no $tool here"
	done
}

# The kernel or the container may forbid io_uring; Corral then has only its other engine.
uring_works() {
	python3 - <<'END'
import ctypes, sys
IO_URING_SETUP = 425
fd = ctypes.CDLL(None).syscall(IO_URING_SETUP, 2, ctypes.create_string_buffer(120))
sys.exit(fd < 0)
END
}

needs python3 qemu-img qemu-io
if [ "$CORRAL_AIO" = uring ] && ! uring_works; then
	skip "no io_uring here"
fi

# ---- servers ----

# serve IMAGE [OPTION...]: sets SERVER, SOCK, URI, LOG; returns when it listens
serve() {
	local ready line
	SERVED=$((SERVED + 1))
	SOCK=$SCRATCH/nbd.$SERVED.sock
	LOG=$SCRATCH/server.$SERVED.log
	URI="nbd+unix:///?socket=$SOCK"
	ready=$SCRATCH/ready.$SERVED
	mkfifo "$ready"
	"$CORRAL" serve "$1" --nbd "unix:$SOCK" --aio "$CORRAL_AIO" "${@:2}" >"$ready" 2>"$LOG" &
	SERVER=$!
	SERVERS[$SERVER]=$LOG
	# Its output stays open: it may say more without dying of a broken pipe.
	exec {READY_FD}<"$ready"
	read -r -t 20 line <&"$READY_FD" || fail "serve $*: not ready: $(cat "$LOG")"
	[ -S "$SOCK" ] || fail "serve $*: said '$line', but there is no socket"
}

# ended PID SECONDS: whether it ends within them
ended() {
	local i
	for ((i = 0; i < $2 * 50; i++)); do
		kill -0 "$1" 2>/dev/null || return 0
		sleep 0.02
	done
	return 1
}

# stop [PID]: a clean end, which must succeed
stop() {
	local pid=${1:-$SERVER} status=0
	kill -TERM "$pid" || fail "the server had gone: $(cat "${SERVERS[$pid]}")"
	ended "$pid" 30 || fail "the server didn't end within 30 s of SIGTERM"
	wait "$pid" || status=$?
	[ $status = 0 ] || fail "the server ended with status $status: $(cat "${SERVERS[$pid]}")"
	unset "SERVERS[$pid]"
}

# crash [PID]: kill -9; a server that had gone before fails the test
crash() {
	local pid=${1:-$SERVER} status=0
	kill -9 "$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null || status=$?
	[ $status = 137 ] || fail "the server ended with status $status: $(cat "${SERVERS[$pid]}")"
	unset "SERVERS[$pid]"
}

# qemu_serve IMAGE [OPTION...]: QEMU's own server of an image; sets QEMU_SERVER and QEMU_URI. stop and crash end it too.
qemu_serve() {
	local image=$1 sock log
	shift
	SERVED=$((SERVED + 1))
	sock=$SCRATCH/qemu.$SERVED.sock log=$SCRATCH/server.$SERVED.log
	QEMU_URI="nbd+unix:///?socket=$sock"
	qemu-nbd -f qcow2 --persistent -k "$sock" --pid-file="$sock.pid" "$@" "$image" >"$log" 2>&1 &
	QEMU_SERVER=$!
	SERVERS[$QEMU_SERVER]=$log
	until [ -s "$sock.pid" ]; do
		kill -0 $QEMU_SERVER 2>/dev/null || fail "qemu-nbd $image: $(cat "$log")"
		sleep 0.01
	done
}

alive() { kill -0 "${1:-$SERVER}" 2>/dev/null || fail "the server died: $(cat "$LOG")"; }

# ---- assertions ----

# fails REGEX COMMAND...: it must fail of its own accord, and say what the extended regular expression finds (any case)
fails() {
	local regex=$1 status=0
	shift
	timeout 20 "$@" >"$SCRATCH/output" 2>&1 </dev/null || status=$?
	[ $status != 0 ] || fail "succeeded, but must not: $*"
	[ $status != 124 ] || fail "still ran after 20 s: $*"
	[ $status -lt 128 ] || fail "died with status $status: $*: $(tail -n 5 "$SCRATCH/output")"
	grep -qiE -- "$regex" "$SCRATCH/output" || fail "'$*' doesn't say '$regex' but: $(cat "$SCRATCH/output")"
}

# serve_fails REGEX IMAGE [OPTION...]
serve_fails() {
	local regex=$1 image=$2
	shift 2
	fails "$regex" "$CORRAL" serve "$image" --nbd "unix:$SCRATCH/refused.sock" --aio "$CORRAL_AIO" "$@"
}

same() { cmp "$1" "$2" >&2 || fail "$1 and $2 differ${3:+: $3}"; }

equal() { [ "$1" = "$2" ] || fail "${3:-values}: expected '$2', got '$1'"; }

# check_status ALLOWED COMMAND...: ALLOWED is a regular expression of exit statuses
check_status() {
	local allowed=$1 status=0
	shift
	"$@" >"$SCRATCH/output" 2>&1 || status=$?
	[[ $status =~ ^($allowed)$ ]] || fail "$* ended with $status: $(tail -n 15 "$SCRATCH/output")"
}

# Both checkers: no errors, no leaks.
clean() {
	check_status 0 qemu-img check -f qcow2 "$1"
	check_status 0 "$CORRAL" check "$1"
}

# Both checkers: no errors; 3 is the status of leaks.
sound() {
	check_status '0|3' qemu-img check -f qcow2 "$1"
	check_status '0|3' "$CORRAL" check "$1"
}

# ---- content ----

create() { qemu-img create -q -f qcow2 "$@" >/dev/null; }

# qio [OPTION...] TARGET -- COMMAND...: qemu-io with each COMMAND; any failure fails the test
qio() {
	local args=() commands=()
	while [ "$1" != -- ]; do
		args+=("$1")
		shift
	done
	shift
	for c in "$@"; do commands+=(-c "$c"); done
	qemu-io -d unmap "${commands[@]}" "${args[@]}" >"$SCRATCH/output" 2>&1 ||
		fail "qemu-io ${args[*]}: $(cat "$SCRATCH/output")"
	if grep -qiE 'failed|error|mismatch' "$SCRATCH/output"; then
		fail "qemu-io ${args[*]}: $(cat "$SCRATCH/output")"
	fi
}

# What QEMU reads in an image, as a raw file.
qemu_reads() { qemu-img convert -f "${3:-qcow2}" -O raw "$1" "$2"; }

# What an NBD client reads from the server that runs.
corral_reads() {
	rm -f "$1"
	nbdcopy "$URI" "$1"
}
