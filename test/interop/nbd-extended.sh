#!/bin/bash
# SPDX-License-Identifier: MIT
#
# NBD beyond what Debian's clients speak: extended headers, block status by payload, several metadata contexts at once
# (allocation, depth, dirty bitmaps), compared with what qemu-img says of the image; old clients; every refusal.
. "$(dirname "$0")/lib.sh"
needs nbdinfo nbdcopy

create base 8G
qio -f qcow2 base -- "write -P 1 0 1M" "write -P 1 7G 1M"
create -b base -F qcow2 top
qio -f qcow2 top -- "write -P 2 512k 1M" "write -z 4G 64k"
"$CORRAL" bitmap --add top b0 || fail "no bitmap"
"$CORRAL" bitmap --add top b1 || fail "no second bitmap"
qio -f qcow2 top -- "write -P 3 5G 128k"

serve top -B b0 -B b1 -x disk --log-level debug

# The contexts as independent clients see them.
nbdinfo --map=qemu:dirty-bitmap:b0 "$URI" >map
grep -qE "^ *$((5 << 30)) +131072 +1 " map || fail "the bitmap by nbdinfo: $(cat map)"
nbdinfo --map=qemu:allocation-depth "$URI" >map
grep -qE "^ *524288 +1048576 +1 " map || fail "the depth by nbdinfo: $(cat map)"
nbdinfo --can df "$URI" || fail "no DF"
nbdinfo --json "$URI" | grep -q '"qemu:dirty-bitmap:b1"' || fail "the bitmap isn't listed"
qemu-img map --output=json --image-opts \
	"driver=nbd,server.type=unix,server.path=$SOCK,export=disk,x-dirty-bitmap=qemu:dirty-bitmap:b0" >map
python3 - <<'END' || fail "what qemu-img makes of the bitmap: $(cat map)"
import json
clean = [(e["start"], e["length"]) for e in json.load(open("map")) if e["data"]]
dirty = [(e["start"], e["length"]) for e in json.load(open("map")) if not e["data"]]
assert dirty == [(5 << 30, 128 << 10)], dirty
END

PYTHONPATH=$INTEROP python3 "$INTEROP/nbd_extended.py" "$SOCK" || fail "see above"
alive
stop
grep -q "has opened 'disk', extended headers" "$LOG" || fail "the log says: $(tail -3 "$LOG")"
grep -q "wrong magic number" "$LOG" || fail "a broken request is taken in silence"
grep -q "more than the 33554432 that are permitted" "$LOG" || fail "too much is taken in silence"
clean top
serve_fails "there is no bitmap 'nosuch'" top -B nosuch
qemu-img convert -O raw base raw
serve_fails "can't be used" raw -f raw -B b0
passed
