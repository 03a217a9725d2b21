#!/bin/bash
# SPDX-License-Identifier: MIT
#
# metadata.sh BENCH-METADATA: metadata concurrency of Corral and of QEMU, in one run, alternating, medians of ROUNDS.
#
# Corral runs in process over its delay node; QEMU (qemu-img bench, qemu-io) over nbdkit's file plugin with its delay filter,
# which answers every request 2 ms later with any number in flight. Needs qemu-utils, nbdkit and python3.
set -eu
bench=$1
rounds=${ROUNDS:-3}
work=$(mktemp -d "${TMPDIR:-/var/tmp}/corral-bench.XXXXXX")
nbd=
cleanup() {
	[ -z "$nbd" ] || kill "$nbd" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT

have_qemu() { command -v qemu-img >/dev/null && command -v qemu-io >/dev/null && command -v nbdkit >/dev/null; }

slow_start() { # IMAGE: serves the file, 2 ms a request
	rm -f "$work/sock" "$work/pid"
	nbdkit --filter=delay -U "$work/sock" -P "$work/pid" -t 64 file "$1" rdelay=2ms wdelay=2ms
	while [ ! -s "$work/pid" ]; do sleep 0.05; done
	nbd=$(cat "$work/pid")
}
slow_stop() {
	kill "$nbd"
	while kill -0 "$nbd" 2>/dev/null; do sleep 0.05; done
	nbd=
}

rate() { # COUNT, then a command of qemu-img bench: requests a second
	local n=$1
	shift
	"$@" | awk -v n="$n" '/Run completed in/ { print n / $4 }'
}
qemu_bench() { # COUNT DEPTH STEP [-w]: on the served image, cold
	local n=$1 depth=$2 step=$3
	shift 3
	rate "$n" qemu-img bench -c "$n" -d "$depth" -S "$step" -s 4096 "$@" -t none -f qcow2 \
		"json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"nbd\",\"server\":{\"type\":\"unix\",\"path\":\"$work/sock\"}}}"
}

qemu_cold() {
	local n=512
	qemu-img create -q -f qcow2 "$work/q.qcow2" $((n * 512))M
	seq 0 $((n - 1)) | awk '{ print "write -q " $1 * 512 "M 4k" }' | qemu-io -f qcow2 "$work/q.qcow2" >/dev/null
	slow_start "$work/q.qcow2"
	echo "qemu-cold-reads-depth-32 $(qemu_bench $n 32 512M) /s"
	slow_stop
}
qemu_tables() {
	local n=32 one many
	for depth in 1 32; do
		qemu-img create -q -f qcow2 "$work/q.qcow2" $((n * 512))M
		truncate -s 1G "$work/q.qcow2" # NBD can't grow
		slow_start "$work/q.qcow2"
		rate=$(qemu_bench $n $depth 512M -w)
		slow_stop
		echo "qemu-new-tables-depth-$depth $rate /s"
		[ $depth = 1 ] && one=$rate || many=$rate
	done
	echo "qemu-new-tables-ratio $(awk "BEGIN { printf \"%.1f\", $many / $one }") x"
}
# A read of a cached cluster while another request is parked for 1.5 s at an event of QEMU's blkdebug.
qemu_victim() { # EVENT NAME REQUEST
	qemu-img create -q -f qcow2 "$work/q.qcow2" 2G
	qemu-io -f qcow2 -c "write -q 0 4k" -c "write -q 512M 4k" "$work/q.qcow2" >/dev/null
	local file="driver=qcow2,file.driver=blkdebug,file.image.driver=file,file.image.filename=$work/q.qcow2"
	{
		echo "read -q 0 4k"
		echo "break $1 A"
		echo "$3"
		echo "wait_break A"
		echo "aio_read 0 4k"
		echo "sleep 1500"
		echo "resume A"
		echo "aio_flush"
	} >"$work/script"
	# qemu-io prints how long each request took: "1 ops; 00.00 sec" or "1 ops; 0:00:01.50"
	qemu-io --image-opts "$file" <"$work/script" 2>&1 |
		awk -v name="$2" '/read 4096\/4096 bytes at offset 0/ { seen = 1; next }
			seen && /ops;/ { sub(/.*ops; /, ""); sub(/ .*/, ""); n = split($0, part, ":")
				print "qemu-victim-" name, 1000 * (part[n] + (n > 1 ? 60 * part[n - 1] : 0)), "ms"; exit }'
}

for ((round = 0; round < rounds; round++)); do
	"$bench" "$work/c.qcow2"
	if have_qemu; then
		qemu_cold
		qemu_tables
		qemu_victim l2_load l2-slice-load "aio_read 512M 4k"
	fi
done >"$work/figures"

/usr/bin/env python3 - "$work/figures" "${1##*/}" "${JSON:-}" <<'PY'
import json, statistics, sys
figures = {}
for line in open(sys.argv[1]):
    name, value, unit = line.split()
    figures.setdefault(name, (unit, []))[1].append(float(value))
table = {name: {"median": statistics.median(v), "min": min(v), "max": max(v), "unit": unit} for name, (unit, v) in figures.items()}
for name, f in table.items():
    print(f"{name:32} {f['median']:10.2f} {f['unit']:3}  ({f['min']:.2f} to {f['max']:.2f})")
for ours, theirs in (("cold-reads-depth-32", "qemu-cold-reads-depth-32"), ("new-tables-depth-32", "qemu-new-tables-depth-32")):
    if ours in table and theirs in table:
        print(f"{ours}: {table[ours]['median'] / table[theirs]['median']:.1f} x QEMU")
if sys.argv[3]:
    json.dump(table, open(sys.argv[3], "w"), indent=1)
PY
