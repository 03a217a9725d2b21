#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What a header names is opened only within the policy: the image's own directory, and what --allow adds. Everything else
# is refused with a message that says which option would permit it, or why none does.
. "$(dirname "$0")/lib.sh"

MIB=$((1 << 20))
mkdir images elsewhere other
head -c $MIB /dev/urandom >elsewhere/base.raw
cp elsewhere/base.raw images/base.raw
cd images

# names BACKING [FORMAT]: image.qcow2 names it, whether or not it is there
names() {
	qemu-img create -q -f qcow2 -u -b "$1" -F "${2:-raw}" new.qcow2 $MIB
	mv new.qcow2 image.qcow2
}

# permitted [OPTION...]: and the base shows through
permitted() {
	serve image.qcow2 --read-only "$@"
	corral_reads got.raw
	stop
	same got.raw "$SCRATCH/elsewhere/base.raw"
	serve image.qcow2 "$@"
	stop
}

# outside: refused, unless --allow says otherwise; both for reading and writing
outside() {
	serve_fails '--allow' image.qcow2
	serve_fails '--allow' image.qcow2 --read-only
	serve_fails '--allow' image.qcow2 --allow "$SCRATCH/other"
	serve_fails '--allow' image.qcow2 --allow none
	permitted --allow "$SCRATCH/elsewhere"
	permitted --allow "$SCRATCH/other" --allow "$SCRATCH/elsewhere"
}

needs nbdcopy

# ---- beside the image ----
names base.raw
permitted
serve_fails '--allow' image.qcow2 --allow none
ln -s base.raw inner.raw
names inner.raw
permitted
mkdir sub
cp base.raw sub/base.raw
names sub/base.raw
permitted

# ---- elsewhere ----
names ../elsewhere/base.raw
outside
names sub/../../elsewhere/base.raw
outside
names "$SCRATCH/elsewhere/base.raw"
outside
ln -s ../elsewhere/base.raw leak.raw
names leak.raw
outside
ln -s "$SCRATCH/elsewhere/base.raw" leak-absolute.raw
names leak-absolute.raw
outside
ln -s ../elsewhere leakdir
names leakdir/base.raw
outside
names /etc/passwd
serve_fails '--allow' image.qcow2

# The next image of a chain has a directory of its own, but no more rights than the first.
qemu-img create -q -f qcow2 -u -b base.raw -F raw "$SCRATCH/elsewhere/middle.qcow2" $MIB
names ../elsewhere/middle.qcow2 qcow2
outside
qemu-img create -q -f qcow2 -u -b ../../etc/passwd -F raw "$SCRATCH/elsewhere/middle.qcow2" $MIB
serve_fails '--allow' image.qcow2 --allow "$SCRATCH/elsewhere"

# ---- names that are no file names ----
names 'json:{"driver":"raw","file":{"driver":"file","filename":"base.raw"}}'
serve_fails 'json' image.qcow2 --allow "$SCRATCH"
names nbd:unix:/run/nobody.sock
serve_fails 'nbd:|protocol' image.qcow2 --allow "$SCRATCH"
names http://localhost/base.raw
serve_fails 'http|protocol' image.qcow2 --allow "$SCRATCH"

# ---- what is no disk ----
mkfifo pipe
names pipe
serve_fails 'pipe' image.qcow2
names /dev/zero
serve_fails '/dev/zero' image.qcow2 --allow /dev
names sub
serve_fails 'sub' image.qcow2
names missing.raw
serve_fails 'missing.raw' image.qcow2

# ---- chains that don't end ----
# circle: whoever writes meets his own lock first
circle() {
	serve_fails 'itself|cycle|circle|in use' image.qcow2
	serve_fails 'itself|cycle|circle' image.qcow2 --read-only
}
names image.qcow2 qcow2
circle
qemu-img create -q -f qcow2 -u -b image.qcow2 -F qcow2 second.qcow2 $MIB
names second.qcow2 qcow2
circle
names 0000.qcow2 qcow2
python3 - <<'END'
template = open("image.qcow2", "rb").read()
assert template.count(b"0000.qcow2") == 1
for i in range(999):
    open(f"{i:04}.qcow2", "wb").write(template.replace(b"0000.qcow2", b"%04d.qcow2" % (i + 1)))
END
cp base.raw end.raw
qemu-img create -q -f qcow2 -u -b end.raw -F raw 0999.qcow2 $MIB
serve_fails 'deep|depth|long|chain' image.qcow2
cp 0990.qcow2 image.qcow2
permitted
passed
