#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Images with an external data file: what QEMU writes Corral reads and the other way round, in turn; a raw data file is,
# whoever wrote, what the guest reads. The file that a header names is opened within the policy alone, locked like the
# image, and held against the rest of the chain; --data-file names another. What can't be, is refused.
. "$(dirname "$0")/lib.sh"
needs nbdcopy jq

MIB=$((1 << 20))
SIZE=$((5 * MIB + 3 * 512))
seed=0
head -c $((2 * MIB + 512)) /dev/urandom >bottom.raw

traffic() {
	seed=$((seed + 1))
	python3 "$INTEROP/traffic.py" run "$1" --seed $seed --unit "$2" --discard-zeroes "${@:3}" ||
		fail "$1: traffic of seed $seed"
}

# agree IMAGE: no errors, and the model, for both; for a raw data file also without looking at the image
agree() {
	local image=$1
	check_status 0 qemu-img check -f qcow2 "$image"
	check_status 0 "$CORRAL" check "$image"
	qemu_reads "$image" theirs.raw
	python3 "$INTEROP/traffic.py" verify "$image.model" theirs.raw || fail "$image: QEMU reads something else"
	serve "$image" --read-only
	corral_reads ours.raw
	stop
	same ours.raw theirs.raw "$image"
	case $image in
	raw-*)
		cmp -n "$SIZE" "$image.data" theirs.raw >&2 || fail "$image: the raw data file by itself is something else"
		;;
	*)
		qemu-img map "$image" >theirs.map
		"$CORRAL" map "$image" >ours.map
		same ours.map theirs.map "map $image"
		;;
	esac
}

# shape NAME CLUSTER OPTIONS [ARGUMENT...]: made by either, then written by both in turn
shape() {
	local image=$1 unit=$2 round raw=() options="cluster_size=$2,data_file=$1.data$3"
	shift 3
	[ $# = 0 ] || raw=(bottom.raw)
	if [ $((seed % 2)) = 0 ]; then
		"$CORRAL" create -q -o "$options" "$@" "$image" $SIZE || fail "corral create $options"
	else
		create -o "$options" "$@" "$image" $SIZE
	fi
	python3 "$INTEROP/traffic.py" new "$image.model" $SIZE "${raw[@]}"
	for ((round = 0; round < ${ROUNDS:-1}; round++)); do
		serve "$image"
		traffic "$image.model" "$unit" --ops 50 -- -f raw "$URI"
		stop
		agree "$image"
		traffic "$image.model" "$unit" --ops 25 -- -f qcow2 "$image"
		agree "$image"
	done
	say "$image: ok, $SECONDS s"
}

shape tiny 512 ""
ROUNDS=2 shape raw-tiny 512 ,data_file_raw=on
shape usual 65536 ""
ROUNDS=2 shape usual-over-raw 65536 "" -b bottom.raw -F raw
ROUNDS=2 shape raw-usual 65536 ,data_file_raw=on,lazy_refcounts=on
shape metadata 4096 ,preallocation=metadata
shape raw-falloc 16384 ,data_file_raw=on,preallocation=falloc
shape large 2097152 ""
shape extended 65536 ,extended_l2=on
shape raw-extended 16384 ,data_file_raw=on,extended_l2=on

# ---- zeros in a raw data file are there, and the space stays or goes as asked ----
space_of() { echo $(($(stat -c %b "$1") * 512)); }
"$CORRAL" create -q -o data_file=zeros.data,data_file_raw=on,preallocation=full zeros 8M
before=$(space_of zeros.data)
serve zeros
qio -f raw "$URI" -- "write -P 1 0 8M" "write -z 1M 1M" "flush"
[ "$(space_of zeros.data)" -ge "$before" ] || fail "zeros without unmapping gave space back"
qio -f raw "$URI" -- "write -z -u 2M 1M" "discard 4M 2M" "flush"
[ "$(space_of zeros.data)" -le $((before - 2 * MIB)) ] || fail "three discarded megabytes still take $(space_of zeros.data) bytes"
stop
qio -f raw zeros.data -- "read -P 1 0 1M" "read -P 0 1M 2M" "read -P 1 3M 1M" "read -P 0 4M 2M" "read -P 1 6M 2M"
qio -f qcow2 zeros -- "read -P 1 0 1M" "read -P 0 1M 2M" "read -P 1 3M 1M" "read -P 0 4M 2M" "read -P 1 6M 2M"
python3 "$INTEROP/header.py" set zeros autoclear 1 5 33
serve zeros
stop
equal "$(python3 "$INTEROP/header.py" get zeros autoclear)" 2 "the autoclear bits after writing"

# ---- a data file of another length ----
create -o data_file=short.data short 1M
qio -f qcow2 short -- "write -P 7 0 1M"
truncate -s 100000 short.data
serve short --read-only
qio -r -f raw "$URI" -- "read -P 7 0 100000" "read -P 0 100000 948576"
stop
equal "$(stat -c %s short.data)" 100000 "the length of a data file that was read"
serve short
qio -f raw "$URI" -- "read -P 0 100000 948576" "write -P 8 900000 512" "flush"
stop
qio -f qcow2 short -- "read -P 7 0 100000" "read -P 0 100000 800000" "read -P 8 900000 512"
create -o data_file=odd.data odd 1001k
serve odd
qio -f raw "$URI" -- "write -P 1 1000k 1k" "write -P 2 0 1k"
stop
equal "$(stat -c %s odd.data)" $((1001 * 1024)) "the length of the data file of a disk that ends inside a cluster"
rm short.data
serve_fails 'short.data.*--data-file.*No such file' short

# ---- the policy ----
mkdir -p images elsewhere
create -o data_file=data.raw plain 1M
qio -f qcow2 plain -- "write -P 3 0 1M"
mv plain data.raw images
cp images/data.raw elsewhere/other.raw
truncate -s 1M elsewhere/empty.raw
cd images

# names NAME: plain, with another name for its data file
names() {
	python3 - "$1" <<'END'
import struct, sys
name = sys.argv[1].encode()
old = open("plain", "rb").read()
assert struct.unpack(">II", old[112:120]) == (0x44415441, 8)
new = struct.pack(">II", 0x44415441, len(name)) + name + bytes(-len(name) % 8)
data = old[:112] + new + bytes(8) + bytes(65536 - 120 - len(new)) + old[65536:]
open("image", "wb").write(data)
END
}

# permitted [OPTION...]: and the data is there
permitted() {
	serve image --read-only "$@"
	qio -r -f raw "$URI" -- "read -P 3 0 1M"
	stop
	serve image "$@"
	qio -f raw "$URI" -- "read -P 3 0 1M" "write -P 3 64k 64k"
	stop
}

outside() {
	serve_fails 'data file.*--allow' image
	serve_fails 'data file.*--allow' image --read-only
	serve_fails 'data file.*--allow' image --allow none
	permitted --allow "$SCRATCH/elsewhere"
	permitted --data-file "$SCRATCH/elsewhere/other.raw"
	permitted --allow none --data-file ../elsewhere/other.raw
}

names data.raw
permitted
(cd / && "$CORRAL" map "$SCRATCH/images/image" >/dev/null) || fail "the name isn't relative to the image"
serve_fails 'data file.*--allow' image --allow none
ln -s data.raw inner.raw
names inner.raw
permitted
names ../elsewhere/other.raw
outside
names "$SCRATCH/elsewhere/other.raw"
outside
ln -s ../elsewhere/other.raw leak.raw
names leak.raw
outside
ln -s ../elsewhere leakdir
names leakdir/other.raw
outside
names /etc/passwd
serve_fails 'data file.*--allow' image
names 'json:{"driver":"file","filename":"data.raw"}'
serve_fails 'json' image --allow "$SCRATCH"
permitted --data-file data.raw
names nbd:unix:/run/nobody.sock
serve_fails "isn't a local file" image --allow "$SCRATCH"
names /dev/zero
serve_fails '/dev/zero' image --allow /dev
mkfifo pipe
names pipe
serve_fails 'pipe' image
names missing.raw
serve_fails 'missing.raw' image
names ''
serve_fails '--data-file' image
permitted --data-file data.raw

# Beside what the header names, nothing is opened; a data file for an image that has none is a mistake.
names data.raw
serve image --read-only --data-file ../elsewhere/empty.raw
qio -r -f raw "$URI" -- "read -P 0 0 1M"
stop
create nothing 1M
serve_fails 'has its data in itself' nothing --data-file data.raw
serve_fails 'has no data file' data.raw -f raw --data-file ../elsewhere/empty.raw

# ---- identity and locks ----
names image
serve_fails 'in use|circle' image
serve_fails 'circle' image --read-only
names data.raw
create -u -b image -F qcow2 -o data_file=over.data over 1M
serve over
qio -f raw "$URI" -- "read -P 3 0 1M" "write -P 4 0 64k"
serve_fails 'in use' image
serve_fails 'in use' over.data -f raw
fails 'lock' qemu-io -f raw -c 'write 0 512' over.data
fails 'lock' qemu-io -f raw -c 'write 0 512' data.raw
qemu-io -r -f raw -c 'read -P 3 0 1M' data.raw >/dev/null || fail "the data file of a backing file is locked against readers"
stop
create -u -b image -F qcow2 -o data_file=own.data over 1M
serve_fails 'in use|circle' over --data-file data.raw
serve_fails 'circle' over --read-only --data-file data.raw
qemu_serve image
serve_fails 'in use' image
stop "$QEMU_SERVER"

# A backing file that only looks like an image names nothing.
create -u -b image -F qcow2 unrecorded 1M
python3 - <<'END'
data = bytearray(open("unrecorded", "rb").read())
assert data[112:116] == b"\xe2\x79\x2a\xca"
data[112:116] = b"\x12\x34\x56\x78"
open("unrecorded", "wb").write(data)
END
serve_fails 'looking at it' unrecorded
cd ..

# ---- entries that say something else ----
create -o data_file=bent.data bent 1M
qio -f qcow2 bent -- "write -P 1 0 256k"
bent() {
	cp bent image
	python3 "$INTEROP/bend.py" image l2:0:1 "=$1"
	serve image --read-only
	fails 'Input/output|failed' qemu-io -r -f raw -c 'read 64k 4k' "$URI"
	qio -r -f raw "$URI" -- "read -P 1 0 64k" "read -P 1 128k 64k"
	stop
	serve image
	fails 'Input/output|failed' qemu-io -f raw -c 'write 64k 4k' "$URI"
	kill -TERM "$SERVER"
	ended "$SERVER" 20 || fail "the server doesn't end"
	wait "$SERVER" && fail "the server says that all is well with an entry of $1"
	unset "SERVERS[$SERVER]"
	equal "$(python3 "$INTEROP/header.py" get image incompatible)" 6 "features, the corrupt bit among them, with an entry of $1"
}
bent 0x8000000000020000
bent 0x8000000000010200
bent 0xc000000000010000
create -o data_file=snapshots.data snapshots 1M
python3 - <<'END'
with open("snapshots", "r+b") as f:
    f.seek(60)
    f.write((1).to_bytes(4, "big") + (0x40000).to_bytes(8, "big"))
    f.seek(0x40000)
    f.write((0x30000).to_bytes(8, "big") + (1).to_bytes(4, "big") + bytes(24) + (16).to_bytes(4, "big") + bytes(24))
END
serve_fails 'snapshots' snapshots
serve snapshots --read-only
stop
passed
