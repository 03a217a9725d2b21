#!/bin/bash
# SPDX-License-Identifier: MIT
#
# snapshot.sh BENCH-SNAPSHOT: a snapshot created and deleted on a disk of 64 GiB and of 1 TiB, all of it mapped, while a guest
# reads and writes; beside it qemu-img snapshot on such an image, which nobody may use meanwhile. Medians of ROUNDS.
#
# The storage's own latency: how long an fsync of a little dirty data takes there.
set -eu
bench=$1
rounds=${ROUNDS:-3}
work=$(mktemp -d "${TMPDIR:-/var/tmp}/corral-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT

fsync_ms() { # of 4 KiB, the median and the worst of 200
	python3 - "$work/fsync" <<'PY'
import os, sys, time
f = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
took = []
for i in range(200):
    os.pwrite(f, b"x" * 4096, i % 50 * 65536)
    start = time.monotonic()
    os.fsync(f)
    took.append(1000 * (time.monotonic() - start))
took.sort()
print(f"fsync {took[100]:.2f} ms\nfsync-worst {took[-1]:.2f} ms")
PY
}

now() { date +%s%N; }
qemu() { # NAME BYTES
	local start
	qemu-img create -q -f qcow2 -o preallocation=metadata "$work/q.qcow2" "$2"
	for action in -c -d; do
		start=$(now)
		qemu-img snapshot $action bench "$work/q.qcow2"
		echo "qemu-$1-$([ $action = -c ] && echo create || echo delete) $((($(now) - start) / 1000))e-3 ms"
	done
	rm -f "$work/q.qcow2"
}

for ((round = 0; round < rounds; round++)); do
	fsync_ms
	for size in 64G 1T; do
		bytes=$(numfmt --from=iec $size)
		"$bench" "$work/c.qcow2" "$bytes" | sed "s/^/$size-/"
		rm -f "$work/c.qcow2"
		command -v qemu-img >/dev/null && qemu $size "$bytes"
	done
done >"$work/figures"

/usr/bin/env python3 - "$work/figures" "${JSON:-}" <<'PY'
import json, statistics, sys
figures = {}
for line in open(sys.argv[1]):
    name, value, unit = line.split()
    figures.setdefault(name, (unit, []))[1].append(float(value))
table = {name: {"median": statistics.median(v), "min": min(v), "max": max(v), "unit": unit} for name, (unit, v) in figures.items()}
for name, f in table.items():
    print(f"{name:32} {f['median']:10.2f} {f['unit']:3}  ({f['min']:.2f} to {f['max']:.2f})")
if sys.argv[2]:
    json.dump(table, open(sys.argv[2], "w"), indent=1)
PY
