#!/bin/bash
# SPDX-License-Identifier: MIT
#
# `corral io` says and does what `qemu-io` does: the same commands on copies of the same image give the same text (but for
# the time that they took), the same status, and the same disk. What differs on purpose stands in docs/compatibility.md.
. "$(dirname "$0")/lib.sh"

# Times, rates and the program's name are not compared.
normalized() {
	sed -E 's/[0-9.:]+ sec \(.*\)/T/; s/; [0-9:.]+ \(.*sec\)$/; T/; s/^([0-9]+,[0-9]+),.*/\1,T/
		s/^(qemu-io|corral): /PROGRAM: /' "$1"
}

# run_in FOLDER PROGRAM...: on a copy of what is in images/
run_in() {
	rm -rf "$1"
	cp -r --sparse=always images "$1"
	(
		cd "$1"
		status=0
		timeout 20 "${@:2}" >../"$1.out" 2>../"$1.err" </dev/stdin || status=$?
		echo "status $status" >>../"$1.err"
	)
}

# agrees [--input FILE] ARGUMENT...: both programs
agrees() {
	local input=/dev/null file
	if [ "$1" = --input ]; then
		input=$2
		shift 2
	fi
	run_in theirs qemu-io "$@" <"$input"
	run_in ours "${OURS[@]}" "$@" <"$input"
	for file in out err; do
		normalized theirs.$file >theirs.text
		normalized ours.$file >ours.text
		cmp -s theirs.text ours.text || fail "io $*: $(diff theirs.text ours.text)"
	done
	for file in a.qcow2 over.qcow2 r.raw; do
		qemu-img compare -q theirs/$file ours/$file || fail "io $*: the disks of $file differ"
	done
	CASES=$((CASES + 1))
}
CASES=0
OURS=("$CORRAL" io)

mkdir images
create images/a.qcow2 64M
qio -f qcow2 images/a.qcow2 -- "write -P 0xcd 0 64k"
head -c 2M /dev/urandom >images/back.raw
create -b back.raw -F raw images/over.qcow2
truncate -s 64k images/r.raw
printf 'pass' >pass
create --object secret,id=s,data=pass -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 images/luks.qcow2 8M

# ---- one command each ----
for command in 'write 0 64k' 'write -C 0 64k' 'write -P 300 0 64k' 'read -P 1 0 512' 'read -q -P 1 0 512' 'read x 512' \
	'read 0 -5' 'read 0' 'read 100 512' 'read 64M 512' 'write 64M 512' foo break 'read -v 0 40' \
	'read -P 205 -s 100 -l 1000 0 512' 'read -s 100 0 512' 'read -l 5 -P 205 0 512' 'read 0 3G' \
	'read 0 99999999999999999999' 'read 1.5k 512' 'read 0x200 1k' 'read -p 1 2' 'read -b 1 512' \
	'write -z -P 1 0 512' 'write -b -z 0 512' 'write -u 0 512' 'write -n 0 512' 'write -f -c 0 64k' \
	'write -s nofile 0 512' 'write -P 1 -s f 0 512' 'write -s r.raw 0 128k' 'write -c 0 512' 'write -z -u 0 64k' \
	'write -z -n 0 64k' 'write -f 0 512' 'write -q 0 1k' 'write -P 0x51 1k 1k' 'write -P 7z 0 1' \
	'readv 0 512 512' 'readv -P 3 0 512 1k' 'readv 0 100' 'readv 0 x' 'writev 0 512 1024' 'writev -f 0 512' \
	'aio_write -z 0 512 512' 'aio_read -i 0 512' 'aio_read 64M 512' 'aio_read -P 3 0 512' 'aio_write -u 0 512' \
	flush length info map 'map x' 'alloc 0' 'alloc 0 128k' 'alloc 1M 3M' 'alloc 64M 1' 'alloc 0 1G' 'alloc x' \
	'discard 0 64k' 'discard -C 0 64k' 'discard -q 0 64k' 'discard 0 100G' 'discard 0' 'truncate -m bad 66M' \
	'truncate 100' 'truncate x' truncate close 'sleep 1' 'sleep x' 'help foo' '?' 'help length' \
	'break l2_load A' 'resume A' 'remove_break A' 'sigraise x' 'sigraise 15' 'open x' 'reopen -c foo' \
	'reopen -r -w' 'reopen foo' quit 'length x' aio_flush; do
	agrees -c "$command" a.qcow2
done

# ---- several ----
agrees -c 'truncate 65M' -c length -c 'read -P 0 64M 1M' a.qcow2
agrees -c 'aio_read 0 512' -c aio_flush -c 'aio_write 0 512 1k' -c aio_flush -c 'aio_write -z 0 64k' -c aio_flush a.qcow2
agrees nofile
agrees -c 'open nofile' -c 'read 0 512' -c close
agrees -c 'open a.qcow2' -c 'open a.qcow2' -c length -c close -c length
agrees -c 'open -r a.qcow2' -c 'write 0 512'
agrees -r -c 'write 0 512' -c 'discard 0 512' -c 'read 0 512' a.qcow2
agrees -c 'open -o driver=qcow2,file.filename=a.qcow2' -c length
agrees --image-opts -c length driver=qcow2,file.filename=a.qcow2
agrees -c 'open -o driver=raw a.qcow2' -c 'read 0 512'
agrees -c 'reopen -r' -c 'write 0 512' -c 'reopen -w' -c 'write 0 512' -c 'read -P 205 0 512' a.qcow2
agrees -c q -c length a.qcow2
for option in '-t foo' '-t unsafe' '-d foo' -k '-i foo' -m -s '-f foo'; do
	# shellcheck disable=SC2086 # an option and its argument
	agrees $option -c 'write -P 1 0 512' -c 'read -P 1 0 512' a.qcow2
done
agrees -f raw -c 'write 60k 8k' -c 'write -P 0x51 0 512' -c 'read -v 0 16' -c map -c info -c 'alloc 0 64k' r.raw
agrees -c map -c 'alloc 0 4M' -c 'write 1M 4k' -c map -c 'write -z 0 1M' -c 'read -P 0 0 1M' -c info over.qcow2
agrees -C -c 'read 0 512' -c map over.qcow2
agrees -c 'write -c -P 7 1M 1M' -c 'read -P 7 1M 1M' -c 'write -P 9 1028k 4k' -c 'read -P 9 1028k 4k' -c flush -c map a.qcow2
agrees --object secret,id=s,file=../pass --image-opts -c 'write -P 3 0 64k' -c 'read -P 3 0 64k' -c info \
	driver=qcow2,file.filename=luks.qcow2,encrypt.key-secret=s
printf 'length\nread 0 512\n\nfoo\nread 0 512\n' >input
agrees --input input a.qcow2
printf 'length\nquit\nlength\n' >input
agrees --input input a.qcow2

# ---- blkdebug ----
cat >images/once.conf <<'END'
[inject-error]
event = "write_aio"
errno = "28"
once = "on"
END
cat >images/states.conf <<'END'
[inject-error]
event = "l2_load"
state = "1"
errno = "5"

[set-state]
state = "1"
event = "l2_load"
new_state = "2"
END
debugged=driver=raw,file.driver=blkdebug,file.image.filename=r.raw
agrees -c 'write 0 512' -c 'write 0 512' blkdebug:once.conf:a.qcow2
agrees -c 'read 0 512' -c 'read 0 512' blkdebug:states.conf:a.qcow2
agrees -c 'break foo A' -c 'resume A' -c 'remove_break A' blkdebug::a.qcow2
agrees blkdebug:nofile:a.qcow2
agrees blkdebug:a.qcow2
for event in l2_load write_aio cluster_alloc pwritev; do
	agrees -c "break $event A" -c 'aio_write 40M 4k' -c 'wait_break A' -c 'resume A' -c aio_flush blkdebug::a.qcow2
done
agrees -c 'read 0 512' -c 'write 0 4k' --image-opts $debugged,file.inject-error.0.event=write_aio,file.inject-error.0.iotype=write
agrees -c 'write 1k 20k' -c 'write -z 0 64k' -c 'discard 0 64k' --image-opts \
	$debugged,file.align=4k,file.max-transfer=8k,file.opt-write-zero=16k,file.max-write-zero=32k,file.opt-discard=4k,file.max-discard=16k
for option in align=3 max-transfer=6000 inject-error.0.errno=5 set-state.0.event=l2_load foo=1; do
	agrees -c 'read 0 512' --image-opts "$debugged,file.$option"
done

# ---- other drivers ----
agrees -r -c length -c 'read -P 0 0 4k' --image-opts driver=null-co,size=2M,read-zeroes=on
agrees -c 'read 0 1M' -c map --image-opts driver=copy-on-read,file.driver=qcow2,file.file.filename=over.qcow2
# ---- called by that name ----
mkdir as
ln -s "$CORRAL" as/qemu-io
OURS=("$PWD/as/qemu-io")
agrees -c map r.raw
agrees -c 'write 512 512' -c 'read 0 512' r.raw
agrees -c length null-co://
agrees -c 'read 0 512' nofile
create -b "$PWD/images/back.raw" -F raw images/far.qcow2
agrees -c 'read 0 64k' -c map far.qcow2
say "$CASES cases"
passed
