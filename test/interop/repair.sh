#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Repair of the things that only some images have: dirty and corrupt bits, compressed clusters, subclusters, data files,
# snapshots, bitmaps, encryption headers; and what must be left alone. See repair-lib.sh.
. "$(dirname "$0")/lib.sh"
. "$INTEROP/repair-lib.sh"
needs jq

# ---- bits ----
create -o lazy_refcounts=on bits 8M
qio -f qcow2 bits -- "write -P 1 0 2M"
repaired "dirty bit" bits same 0 same byte:72 '|1'
equal "$(header get bent incompatible)" 0 "the dirty bit after a repair"
repaired "corrupt bit" bits same 0 same byte:72 '|2'
equal "$(header get bent incompatible)" 0 "the corrupt bit after a repair"
repaired "both, and refcounts too low" bits same 0 same byte:72 '|3' refcount:5 =0 refcount:7 =0
equal "$(header get bent incompatible)" 0 "both bits after a repair"
repaired "dirty bit beside what can't be repaired" bits same 2 other byte:72 '|1' l2:0:3 '|2'
equal "$(header get bent incompatible)" 1 "the dirty bit, where something is left"

# ---- entries ----
create entries 8M
qio -f qcow2 entries -- "write -P 1 0 1M" "write -P 3 2M 64k" "write -z 2M 64k" "write -c -P 4 4M 64k" "write -c -P 5 4160k 64k"
repaired "reserved space unaligned" entries same 0 same l2:0:32 '|0x200'
repaired "data unaligned" entries same 2 other l2:0:0 '|0x200'
repaired "COPIED on compressed data" entries same 0 same l2:0:64 '|0x8000000000000000'
repaired "compressed data outside" entries same 2 other l2:0:64 =0x40007ffff0000000
repaired "shared refcount too low" entries same 0 same "refcount:$(bend entries l2:0:64)" =1

create -o extended_l2=on extended 8M
qio -f qcow2 extended -- "write -P 1 0 1M" "write -P 2 2M 4k" "write -z 3M 64k"
repaired "refcount too low" extended same 0 same "refcount:$(bend extended l2:0:0)" =0
repaired "bitmap contradicts itself" extended same 2 other l2:0:1 '|0x100000000'
repaired "bitmap without a cluster" extended same 2 other l2:0:61 =1
repaired "data on the L1 table" extended same 0 other l2:0:0 =byte:40

create -o data_file=data,data_file_raw=on external 8M
qio -f qcow2 external -- "write -P 1 0 1M"
repaired "no COPIED" external same 0 same l2:0:3 '&0x7fffffffffffffff'
repaired "refcount of the L2 table too low" external same 0 same "refcount:$(bend external l1:0)" =0
repaired "compressed data" external same 2 other l2:0:3 '|0x4000000000000000'

# ---- snapshots ----
create snapshots 4M
qio -f qcow2 snapshots -- "write -P 1 0 1M"
qemu-img snapshot -c first snapshots
qio -f qcow2 snapshots -- "write -P 2 0 512k"
qemu-img snapshot -c second snapshots
qio -f qcow2 snapshots -- "write -P 3 0 64k"
repaired "COPIED on shared data" snapshots same 0 same l2:0:4 '|0x8000000000000000'
repaired "shared refcount too low" snapshots same 0 same "refcount:$(bend snapshots l2:0:4)" =1
repaired "all refcounts gone" snapshots same 0 same reftable:0 =0
cp snapshots bent
NAME="incomplete snapshots"
python3 - bent <<'END'
import struct, sys
f = open(sys.argv[1], "r+b")
f.seek(60)
count, table = struct.unpack(">IQ", f.read(12))
f.seek(table)
old, new, at = f.read(65536), b"", 0
for _ in range(count):
    head = bytearray(old[at:at + 40])
    strings = struct.unpack(">HH", head[12:16])
    extra = struct.unpack(">I", head[36:40])[0]
    head[36:40] = bytes(4)
    text = old[at + 40 + extra:][:sum(strings)]
    at += (40 + extra + sum(strings) + 7) // 8 * 8
    new += (bytes(head) + text).ljust((40 + len(text) + 7) // 8 * 8, b"\0")
f.seek(table)
f.write(new.ljust(at, b"\0"))
END
for name in first second; do
	qemu-img convert -f qcow2 -O raw -l snapshot.name=$name snapshots "before-$name"
done
verdict "snapshots without extra data" snapshots same 0 same
for name in first second; do
	qemu-img convert -f qcow2 -O raw -l snapshot.name=$name bent "after-$name"
	same "before-$name" "after-$name" "snapshot $name after its table was rewritten"
done
repaired "snapshot's L1 table unaligned" snapshots same 2 same snapshot:0 '|0x200'
repaired "snapshot's L1 table outside" snapshots same 2 same snapshot:0 =0x7ffffffff0000

# ---- bitmaps ----
create bitmaps 4M
qemu-img bitmap --add -g 65536 bitmaps one
repaired "refcounts gone" bitmaps same 0 same reftable:0 =0
qemu-img bitmap --list bent >/dev/null 2>&1 || true
qemu-img info bent | grep -q 'name: one' || fail "the bitmap is gone"
repaired "bitmap data outside" bitmaps same 2 same bitmap:0 =0x7ffffffff0000
repaired "bitmap entry malformed" bitmaps other 2 other bitmap:0 =0x2

# ---- encryption header ----
made=""
for time in 20 50 100 200 500 1000; do
	if qemu-img create -q -f qcow2 --object secret,id=key,data=x \
		-o encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=$time luks 2M >/dev/null 2>&1; then
		made=yes
		break
	fi
done
if [ -n "$made" ]; then
	cp luks bent
	bend bent reftable:0 =0
	"$CORRAL" check -r all bent >repair.out 2>&1 || fail "LUKS: $(cat repair.out)"
	check_status 0 qemu-img check --object secret,id=key,data=x \
		--image-opts driver=qcow2,file.filename=bent,encrypt.key-secret=key
	cmp <(tail -c +262144 luks | head -c 1048576) <(tail -c +262144 bent | head -c 1048576) || fail "the LUKS header has changed"
	CASES=$((CASES + 1))
fi

# ---- nothing is destroyed where not all is known ----
cp snapshots bent
bend bent snapshot:36 '=0x7fffffff00000000'
before=$(sha256sum <bent)
check_status 2 "$CORRAL" check -r all bent
grep -q "Nothing is repaired" "$SCRATCH/output" || fail "a malformed snapshot table: $(cat "$SCRATCH/output")"
equal "$(sha256sum <bent)" "$before" "an image with a malformed snapshot table"
# A damaged L1 entry: what it referred to looks leaked, and is kept.
cp entries bent
bend bent l1:0 =0x7fffffff0000
check_status 2 "$CORRAL" check -r all bent
bend bent l1:0 "=$(($(bend entries l1:0) << 16 | 1 << 63))"
clean bent
qemu-img compare -q -f qcow2 -F qcow2 entries bent || fail "what a damaged L1 entry referred to was given back"

# ---- header extensions ----
cp bits bent
header extend bent 0x12345678 00112233
bend bent byte:112 '|0x7fffffff'
check_status 1 "$CORRAL" check -r all bent

# ---- only leaks ----
cp entries bent
bend bent refcount:7 =0 l2:0:1 =0
check_status 2 "$CORRAL" check -r leaks bent
grep -q '    1 leaked clusters' "$SCRATCH/output" || fail "-r leaks: $(cat "$SCRATCH/output")"
# A refcount of two with a clear flag: giving back the leak must not leave a wrong flag.
cp entries bent
bend bent refcount:6 =2 l2:0:1 '&0x7fffffffffffffff'
check_status 0 "$CORRAL" check -r leaks bent
clean bent

# ---- the summary is qemu-img's ----
cp entries bent
bend bent refcount:6 =2
cp bent theirs
"$CORRAL" check -r all bent >ours.out 2>ours.err
qemu-img check -r all theirs >theirs.out 2>theirs.err
diff theirs.out ours.out || fail "the summary differs"
diff theirs.err ours.err || fail "the messages differ"
cp entries bent
bend bent refcount:6 =2
cp bent theirs
"$CORRAL" check -r all --output=json bent 2>/dev/null | jq 'del(.filename)' >ours.json
qemu-img check -r all --output=json theirs 2>/dev/null | jq 'del(.filename)' >theirs.json
equal "$(jq -s '.[0] == .[1]' ours.json theirs.json)" true "the summary in JSON: $(cat ours.json theirs.json)"

# ---- a dirty image is put right by opening it for writing, and only then ----
cp bits bent
bend bent byte:72 '|1' refcount:5 =0 refcount:7 =3
serve bent --read-only
stop
check_status 2 qemu-img check bent
serve bent
qio -f raw "$URI" -- "read -P 1 0 2M" "write -P 9 1M 64k" "flush"
stop
clean bent
cp bits bent
bend bent byte:72 '|1' l2:0:3 '|2'
serve_fails 'corral check -r all' bent

# ---- lazy refcounts: dirty while it is written to, clean when it was closed ----
serve bits
qio -f raw "$URI" -- "write -P 7 4M 2M" "flush"
equal "$(header get bits incompatible)" 1 "the dirty bit, while refcounts are put off"
crash
cp bits bent
check_status '2' qemu-img check bent
serve bits
qio -f raw "$URI" -- "read -P 7 4M 2M" "read -P 1 0 2M" "discard 4M 1M" "flush"
stop
clean bits
equal "$(header get bits incompatible)" 0 "the dirty bit, after a clean end"

say "$CASES damaged images"
passed
