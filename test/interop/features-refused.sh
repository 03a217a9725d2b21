#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What Corral doesn't know it refuses, by name, and leaves the image alone; what it may ignore it keeps. Dirty images are put
# right when they are opened for writing, corrupt ones
# can be read, not written. Autoclear bits go when somebody writes who doesn't know them, and only then.
. "$(dirname "$0")/lib.sh"

header() { python3 "$INTEROP/header.py" "$@"; }

# plain IMAGE [OPTION...]: a small image with something in it
plain() {
	rm -f "$1"
	create "$@" 2M
	qio -f qcow2 "$1" -- "write -P 1 0 1M"
}

# refused_whole REGEX IMAGE: for writing and for reading; untouched
refused_whole() {
	local before
	before=$(sha256sum "$2")
	serve_fails "$1" "$2"
	serve_fails "$1" "$2" --read-only
	equal "$(sha256sum "$2")" "$before" "$2 was refused, but changed"
}

# readable_only REGEX IMAGE
readable_only() {
	local before
	before=$(sha256sum "$2")
	serve_fails "$1" "$2"
	serve "$2" --read-only
	qio -r -f raw "$URI" -- "read -P 1 0 1M" "read -P 0 1M 1M"
	stop
	equal "$(sha256sum "$2")" "$before" "$2 was only read, but changed"
}

# ---- incompatible features ----
plain image
header set image incompatible 40
refused_whole 'bit 40' image
header name image 40 'quantum entanglement'
refused_whole 'quantum entanglement' image

plain image
header set image incompatible 62 63
refused_whole 'bit 6[23]' image

plain image
header set image incompatible 0
serve image --read-only
qio -r -f raw "$URI" -- "read -P 1 0 1M"
stop
equal "$(header get image incompatible)" 1 "a dirty image that was only read"
serve image
qio -r -f raw "$URI" -- "read -P 1 0 1M"
stop
equal "$(header get image incompatible)" 0 "a dirty image that was opened for writing"
clean image
plain image
header set image incompatible 1
readable_only 'corrupt' image

create --object secret,id=key,data=x -o encrypt.format=aes,encrypt.key-secret=key aes 2M 2>/dev/null
refused_whole 'aes|encrypt' aes

# ---- what may be ignored ----
plain image
header set image compatible 50
header set image autoclear 33 62
serve image --read-only
qio -r -f raw "$URI" -- "read -P 1 0 1M"
stop
equal "$(header get image autoclear)" $((1 << 33 | 1 << 62)) "autoclear bits after reading"
serve image
qio -f raw "$URI" -- "write -P 2 512k 64k" "flush"
stop
equal "$(header get image autoclear)" 0 "autoclear bits after writing"
equal "$(header get image compatible)" $((1 << 50)) "compatible bits after writing"
clean image

# ---- extensions that nobody knows ----
plain base
create -b base -F qcow2 -o cluster_size=4096 image 2M
header extend image 0x12345678 00112233445566778899aabbccddeeff0102030405
header extend image 0xfedcba98 ''
before=$(header extension image 0x12345678)$(header extension image 0xfedcba98)
serve image
qio -f raw "$URI" -- "read -P 1 0 1M" "write -P 3 0 1M" "discard 512k 64k" "write -z 1M 64k" "flush"
stop
after=$(header extension image 0x12345678)$(header extension image 0xfedcba98)
equal "$after" "$before" "unknown extensions after writing"
qemu-img info image | grep -qx 'backing file: base' || fail "the backing name is gone"
clean image
passed
