#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Encrypted images, to and fro: what Corral makes QEMU reads and writes, and the other way round, with every cipher that
# both have, every cluster size, and in backing chains. cryptsetup accepts the header. Without the passphrase there is no
# data, and passphrases come from files alone. Images of the old kind (AES) are read.
. "$(dirname "$0")/lib.sh"
needs jq cryptsetup nbdcopy cmp

printf 'correct horse\n' >pass
printf 'battery staple' >pass2
printf 'guess' >wrong
OBJECTS=(--object "secret,id=k,file=$PWD/pass" --object "secret,id=k2,file=$PWD/pass2")
KEY=("${OBJECTS[@]}" --key-secret k)
FAST=encrypt.format=luks,encrypt.key-secret=k,encrypt.iter-time=5

"$CORRAL" create -q "${OBJECTS[@]}" -o $FAST probe 1M >/dev/null 2>"$SCRATCH/output" ||
	if grep -q 'built without' "$SCRATCH/output"; then skip "Corral was built without encryption"; else fail "create"; fi

make() { "$CORRAL" create -q "${OBJECTS[@]}" "$@" || fail "corral create $*"; }

# QEMU measures how fast the processor derives keys, and sometimes gives up.
qemu_make() {
	local i
	for i in 1 2 3 4 5 6 7 8; do
		qemu-img create -q -f qcow2 "${OBJECTS[@]}" "$@" >/dev/null 2>&1 && return
	done
	fail "qemu-img create $*"
}

opts() { echo "driver=qcow2,file.filename=$1,encrypt.key-secret=${2:-k}"; }

# qemu_io IMAGE COMMAND...
qemu_io() {
	local target
	target=$(opts "$1")
	shift
	qio "${OBJECTS[@]}" --image-opts "$target" -- "$@"
}

qemu_raw() { qemu-img convert "${OBJECTS[@]}" --image-opts -O raw "$1" "$2"; }
corral_raw() {
	serve "$1" -r "${KEY[@]}" "${@:3}"
	corral_reads "$2"
	stop
}

# What both read, and that both find it sound.
agree() {
	qemu_raw "$(opts "$1")" theirs.raw
	corral_raw "$1" ours.raw
	same ours.raw theirs.raw "$1"
	check_status 0 "$CORRAL" check "$1"
	check_status 0 qemu-img check "${OBJECTS[@]}" --image-opts "$(opts "$1")"
}

# to_and_fro IMAGE: both write into it in turns, to bytes, sectors and clusters
to_and_fro() {
	local image=$1
	qemu_io "$image" "write -P 1 0 100k" "write -P 2 200001 7" "write -z 300k 64k" flush
	agree "$image"
	serve "$image" "${KEY[@]}"
	qio -f raw "$URI" -- "read -P 1 0 100k" "read -P 2 200001 7" "read -P 0 200008 1000" "write -P 3 50000 60000" \
		"write -P 4 300k 5k" "write -P 5 700001 3" "write -z -u 20k 13k" "discard 0 4k" flush
	stop
	qemu_io "$image" "read -P 3 50000 60000" "read -P 4 300k 5k" "read -P 0 305k 59k" "read -P 5 700001 3" \
		"read -P 0 20k 13k" "write -P 6 60000 3000" "write -P 7 800k 150k"
	agree "$image"
}

# The least of it, for ciphers.
back_and_forth() {
	qemu_io "$1" "write -P 1 0 100k" "write -P 2 200001 7"
	serve "$1" "${KEY[@]}"
	qio -f raw "$URI" -- "read -P 1 0 100k" "read -P 2 200001 7" "read -P 0 200008 1000" "write -P 3 50000 60000" flush
	stop
	qemu_io "$1" "read -P 1 0 50000" "read -P 3 50000 60000" "read -P 2 200001 7" "read -P 0 200008 1000"
}

info_agrees() {
	qemu-img info "$1" >theirs.info
	"$CORRAL" info "$1" >ours.info
	same ours.info theirs.info "info $1"
	qemu-img info --output=json "$1" >theirs.info
	"$CORRAL" info --output=json "$1" >ours.info
	equal "$(jq -s '.[0] == .[1]' ours.info theirs.info)" true "info --output=json $1: $(cat ours.info theirs.info)"
}

# ---- every cipher (but AES-192 in CBC: QEMU dies of key material that isn't whole sectors) ----
while read -r options; do
	make -o "$FAST,$options" image 1M
	info_agrees image
	back_and_forth image
done <<-END
	encrypt.cipher-alg=aes-256
	encrypt.cipher-alg=aes-128,encrypt.hash-alg=sha1
	encrypt.cipher-alg=aes-192,encrypt.hash-alg=sha512
	encrypt.cipher-alg=serpent-256,encrypt.hash-alg=ripemd160
	encrypt.cipher-alg=serpent-128,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv,encrypt.ivgen-hash-alg=md5
	encrypt.cipher-alg=twofish-256,encrypt.hash-alg=sha384
	encrypt.cipher-alg=twofish-128,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=plain
	encrypt.cipher-alg=cast5-128,encrypt.cipher-mode=cbc,encrypt.hash-alg=md5
	encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv
	encrypt.cipher-alg=aes-128,encrypt.ivgen-alg=essiv,encrypt.hash-alg=sha224
	encrypt.cipher-mode=ctr
	encrypt.cipher-mode=ecb,encrypt.ivgen-hash-alg=sha256
END
fails 'XTS' "$CORRAL" create "${OBJECTS[@]}" -o $FAST,encrypt.cipher-alg=cast5-128 no 1M
fails "does not accept value 'rot13'" "$CORRAL" create "${OBJECTS[@]}" -o $FAST,encrypt.cipher-alg=rot13 no 1M
fails 'key size 20' "$CORRAL" create "${OBJECTS[@]}" -o $FAST,encrypt.ivgen-alg=essiv,encrypt.ivgen-hash-alg=sha1 no 1M

# ---- every shape ----
for options in cluster_size=512 cluster_size=4k cluster_size=2M compat=0.10 extended_l2=on preallocation=metadata \
	preallocation=full,cluster_size=16k refcount_bits=64,lazy_refcounts=off data_file=outside.raw; do
	make -o "$FAST,$options" image 1M
	to_and_fro image
done
make -o $FAST,preallocation=falloc image 1M
corral_raw image image.raw
cmp -n 1048576 image.raw /dev/zero || fail "a preallocated encrypted disk doesn't read zeros"
make -o $FAST image 1M
head -c 1000000 /dev/zero | tr '\0' Q >q
serve image "${KEY[@]}"
nbdcopy q "$URI"
stop
! grep -q QQQQ image || fail "what was written to an encrypted disk can be read in its file"
serve image "${KEY[@]}" --cache none
qio -f raw "$URI" -- "read -P 81 0 1000000" "write -P 8 512 1k" "write -P 9 1000 10"
stop
qemu_io image "read -P 81 0 512" "read -P 8 512 488" "read -P 9 1000 10" "read -P 8 1010 526" "read -P 81 1536 60k"

# ---- QEMU's ----
qemu_make -o $FAST,encrypt.iter-time=10 theirs 2M
info_agrees theirs
to_and_fro theirs
qemu_make -o $FAST,encrypt.iter-time=10,cluster_size=512,encrypt.cipher-alg=aes-128,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv theirs 1M
info_agrees theirs
to_and_fro theirs
qemu-img snapshot "${OBJECTS[@]}" --image-opts -c before "$(opts theirs)"
to_and_fro theirs
qemu-img snapshot "${OBJECTS[@]}" --image-opts -a before "$(opts theirs)"
agree theirs

# ---- chains: each layer has its own passphrase, or none ----
create plain 1M
qio -f qcow2 plain -- "write -P 11 0 1M"
make -o encrypt.format=luks,encrypt.key-secret=k2,encrypt.iter-time=5 -b plain -F qcow2 middle
make -o $FAST -b middle -F qcow2 top
serve middle "${OBJECTS[@]}" --key-secret k2
qio -f raw "$URI" -- "read -P 11 0 1M" "write -P 12 100k 300k"
stop
serve top "${OBJECTS[@]}" --key-secret k --key-secret k2
qio -f raw "$URI" -- "read -P 11 0 100k" "read -P 12 100k 300k" "write -P 13 200001 100" "write -P 14 900k 100"
corral_reads ours.raw
stop
qemu_raw "$(opts top),backing.encrypt.key-secret=k2" theirs.raw
same ours.raw theirs.raw "a chain"
make -o encrypt.format=luks,encrypt.key-secret=k,encrypt.iter-time=5 base 1M
qemu_io base "write -P 15 0 1M"
create -b base -F qcow2 over -u 1M
serve over "${KEY[@]}"
qio -f raw "$URI" -- "read -P 15 0 1M" "write -P 16 1000 1000"
stop
qio "${OBJECTS[@]}" --image-opts "driver=qcow2,file.filename=over,backing.encrypt.key-secret=k" -- "read -P 15 0 1000" \
	"read -P 16 1000 1000" "read -P 15 2000 1046576"
"$CORRAL" info --backing-chain top >said || fail "info --backing-chain wants a passphrase"

# ---- the old kind, AES: the passphrase is the key, and nothing is there to check it ----
for shape in cluster_size=64k cluster_size=512,compat=0.10 cluster_size=2M; do
	rm -f old
	qemu-img create -q -f qcow2 "${OBJECTS[@]}" -o encrypt.format=aes,encrypt.key-secret=k2,$shape old 5M 2>/dev/null
	qio "${OBJECTS[@]}" --image-opts "$(opts old k2),encrypt.format=aes" -- "write -P 31 0 100k" "write -P 32 200001 3000" \
		"write -P 33 1M 3M" "write -z 2M 64k"
	info_agrees old
	qemu_raw "$(opts old k2),encrypt.format=aes" theirs.raw
	serve old -r "${OBJECTS[@]}" --key-secret k2
	corral_reads ours.raw
	same ours.raw theirs.raw "AES, $shape"
	qio -r -f raw "$URI" -- "read -P 31 77 3000" "read -P 32 200001 3000" "read -P 0 203001 5" "read -P 33 1048577 999999"
	stop
done
serve_fails 'read only' old "${OBJECTS[@]}" --key-secret k2
serve_fails 'key-secret' old -r
serve old -r "${KEY[@]}"
! qemu-io -r -f raw -c "read -P 31 0 64k" "$URI" | grep -q '^read' || fail "a wrong passphrase reads the data"
stop
"$CORRAL" map --output json old >said
qemu-img map --output json "${OBJECTS[@]}" --image-opts "$(opts old k2),encrypt.format=aes" >theirs.map
same said theirs.map "map of AES"
check_status 0 "$CORRAL" check old
create -b old -F qcow2 over -u 5M
serve over "${OBJECTS[@]}" --key-secret k2
qio -f raw "$URI" -- "read -P 31 0 100k" "write -P 34 1000 1000" "write -P 35 2097001 10"
stop
qio "${OBJECTS[@]}" --image-opts "driver=qcow2,file.filename=over,backing.encrypt.key-secret=k2,backing.encrypt.format=aes" -- \
	"read -P 31 0 1000" "read -P 34 1000 1000" "read -P 31 2000 98k" "read -P 33 2090000 7001" "read -P 35 2097001 10"

# ---- passphrases ----
make -o $FAST image 1M
serve_fails 'key-secret' image
serve_fails 'Invalid password, cannot unlock any keyslot' image --object "secret,id=w,file=$PWD/wrong" --key-secret w
serve_fails "No secret with id 'x'" image "${OBJECTS[@]}" --key-secret x
serve_fails 'command line' image --object secret,id=x,data=guess --key-secret x
serve_fails 'No such file' image --object "secret,id=x,file=$PWD/nowhere" --key-secret x
fails 'command line' "$CORRAL" create --object secret,id=x,data=guess -o encrypt.format=luks,encrypt.key-secret=x no 1M
fails "'encrypt.format' is missing" "$CORRAL" create -o encrypt.cipher-alg=aes-128 no 1M
fails "'encrypt.key-secret' is required" "$CORRAL" create -o encrypt.format=luks no 1M
fails 'unsafe' "$CORRAL" create "${OBJECTS[@]}" -o encrypt.format=aes,encrypt.key-secret=k no 1M
[ ! -e no ] || fail "a refused image was made"
base64 <pass >pass.64
serve image --object "secret,id=b,file=$PWD/pass.64,format=base64" --key-secret b
stop
exec {fd}<pass
serve image --object "secret,id=f,file=/dev/fd/$fd" --key-secret f
stop
exec {fd}<&-
"$CORRAL" map --output json image >said || fail "map wants a passphrase"
! grep -q offset said || fail "map tells where encrypted data lies, as if it were data"
qemu-img map --output json "${OBJECTS[@]}" --image-opts "$(opts image)" >theirs.map
same said theirs.map "map"

# ---- the header, to cryptsetup ----
# header_of IMAGE TO: the header that the extension names, as a file
header_of() {
	python3 - "$@" <<-END
		import struct, sys
		image = open(sys.argv[1], "rb").read()
		at = 112
		while (found := struct.unpack_from(">II", image, at))[0] != 0x0537BE77:
		    at += 8 + (found[1] + 7) // 8 * 8
		offset, length = struct.unpack_from(">QQ", image, at + 8)
		open(sys.argv[2], "wb").write(image[offset:offset + length])
	END
}
opens() { cryptsetup open --test-passphrase --key-file "$2" "$1" >/dev/null 2>&1; }
make -o $FAST image 1M
header_of image image.luks
cryptsetup isLuks image.luks || fail "cryptsetup doesn't take it for LUKS"
cryptsetup luksDump image.luks >dump || fail "cryptsetup can't read the header"
grep -q 'aes' dump && grep -q 'xts-plain64' dump && grep -q 'Key Slot 0: ENABLED' dump || fail "$(cat dump)"
opens image.luks pass || fail "cryptsetup can't open it"
! opens image.luks wrong || fail "any passphrase opens it"

# ---- passphrases added and removed ----
qemu_io image "write -P 21 0 1M"
qemu_opens() { qemu-io "${OBJECTS[@]}" -c 'read -P 21 0 1M' --image-opts "$(opts image "$1")" 2>&1 | grep -q '^read'; }
slots() { qemu-img info --output=json "$1" | jq -c '[."format-specific".data.encrypt.slots[].active]'; }
words() { sed -E 's/^(qemu-img|corral): //' "$1"; }

# both OPTIONS [--force]: each program amends a copy of its own, with passphrase $NOW; status, words and slots are the same
NOW=k
both() {
	local ours=0 theirs i
	"$CORRAL" amend "${OBJECTS[@]}" --key-secret $NOW -o "$1" "${@:2}" ours >ours.out 2>&1 || ours=$?
	for i in 1 2 3 4 5 6 7 8; do
		theirs=0
		qemu-img amend "${OBJECTS[@]}" "${@:2}" --image-opts -o "$1" "$(opts theirs $NOW)" >theirs.out 2>&1 || theirs=$?
		[ $ours != $theirs ] || break
	done
	equal $ours $theirs "amend $*: status: $(cat ours.out theirs.out)"
	equal "$(words ours.out)" "$(words theirs.out)" "amend $*"
	equal "$(slots ours)" "$(slots theirs)" "amend $*: slots"
}
cp image ours
cp image theirs
ADD=encrypt.state=active,encrypt.iter-time=5,encrypt.new-secret ERASE=encrypt.state=inactive
while read -r options; do
	both "$options"
done <<-END
	encrypt.new-secret=k2
	encrypt.state=asleep,encrypt.new-secret=k2
	encrypt.state=active
	$ADD=k2,encrypt.old-secret=k
	$ADD=k9
	$ADD=k2,encrypt.keyslot=9
	$ADD=k2,encrypt.keyslot=-1
	$ADD=k2,encrypt.keyslot=x
	$ADD=k2,encrypt.keyslot=0
	$ADD=k2,encrypt.keyslot=6
	$ADD=k2
	$ADD=k2,encrypt.iter-time=0
	$ERASE
	$ERASE,encrypt.new-secret=k2
	$ERASE,encrypt.iter-time=5,encrypt.keyslot=1
	$ERASE,encrypt.keyslot=77
	$ERASE,encrypt.old-secret=k9
	$ERASE,encrypt.old-secret=k2,encrypt.keyslot=0
	$ERASE,encrypt.old-secret=k2,encrypt.keyslot=6
	$ERASE,encrypt.keyslot=6
	$ERASE,encrypt.keyslot=2
END
for i in ours theirs; do
	equal "$(slots $i)" '[true,true,false,false,false,false,false,false]' "$i: slots"
	header_of $i image.luks
	opens image.luks pass && opens image.luks pass2 || fail "cryptsetup can't open a slot of $i"
done
cp ours image
qemu_opens k && qemu_opens k2 || fail "QEMU can't open a slot"
info_agrees image
serve theirs -r "${OBJECTS[@]}" --key-secret k2
qio -r -f raw "$URI" -- "read -P 21 0 1M"
stop
both $ERASE,encrypt.old-secret=k2
both $ERASE,encrypt.old-secret=k2
both $ERASE,encrypt.old-secret=k
both $ERASE,encrypt.keyslot=0
cp ours image
qemu_opens k && ! qemu_opens k2 || fail "a removed passphrase opens the image"
header_of image image.luks
opens image.luks pass && ! opens image.luks pass2 || fail "cryptsetup opens a removed slot"
both $ADD=k2,encrypt.keyslot=0 --force
serve_fails 'Invalid password' ours "${KEY[@]}"
NOW=k2
both $ADD=k,lazy_refcounts=on
both $ERASE,encrypt.keyslot=0,refcount_bits=64
NOW=k
cp ours image
qemu_opens k && ! qemu_opens k2 || fail "the passphrase that is left doesn't open it"
agree image
both $ERASE,encrypt.old-secret=k --force
equal "$(slots ours)" '[false,false,false,false,false,false,false,false]' "the last passphrase"

# Zeros over a backing file become encrypted zeros where version 2 can't say it otherwise.
make -o $FAST -b plain -F qcow2 over
qemu_io over "write -P 22 0 300k" "write -z 100k 500k" "write -z 700k 5k"
serve over -r "${KEY[@]}"
corral_reads before.raw
stop
"$CORRAL" amend "${KEY[@]}" -o compat=0.10 over
agree over
same ours.raw before.raw "an encrypted image as version 2"
fails 'key-secret' "$CORRAL" amend -o refcount_bits=64 image
passed
