#!/bin/bash
# SPDX-License-Identifier: MIT
#
# `corral map` says what `qemu-img map` says: data, zeroes of either kind, holes in raw files, compressed clusters, layers
# of unlike cluster sizes and lengths, four deep.
. "$(dirname "$0")/lib.sh"
needs jq

# agrees IMAGE [OPTION...]: --output=json
agrees() {
	qemu-img map --output=json "$@" >theirs || fail "qemu-img map $*"
	"$CORRAL" map --output=json "$@" >ours || fail "corral map $*"
	equal "$(jq -s '.[0] == .[1]' ours theirs)" true "map $*: $(diff ours theirs || true)"
}

# agrees_in_print IMAGE: for people
agrees_in_print() {
	qemu-img map "$1" >theirs || fail "qemu-img map $1"
	"$CORRAL" map "$1" >ours || fail "corral map $1"
	same ours theirs "map $1"
}

qemu-img create -q -f raw base.raw 3M
qio -f raw base.raw -- "write -P 1 64k 128k" "write -P 2 1M 4k"
create -b base.raw -F raw -o cluster_size=16k one.qcow2 8M
qio -f qcow2 one.qcow2 -- "write -P 3 100k 50k" "write -z 1M 64k" "write -P 3 7M 100k"
create -b one.qcow2 -F qcow2 two.qcow2 12M
qio -f qcow2 two.qcow2 -- "write -P 4 128k 64k" "write -z -u 512k 128k" "write -P 4 11M 320k" "write -z 11M 64k"
create -b two.qcow2 -F qcow2 -o cluster_size=4k top.qcow2 16M
qio -f qcow2 top.qcow2 -- "write -P 4 12k 4k" "discard 128k 4k" "write -P 5 15M 8k"
for image in base.raw one.qcow2 two.qcow2 top.qcow2; do
	agrees $image
	agrees_in_print $image
	agrees "$PWD/$image" --start-offset=1M
	agrees $image --start-offset=64k --max-length=1M
done
agrees top.qcow2 -f raw

qio -f qcow2 two.qcow2 -- "write -c -P 7 2M 64k"
agrees two.qcow2
agrees top.qcow2
fails 'compressed clusters' "$CORRAL" map top.qcow2

create -o compat=0.10 old.qcow2 3M
qio -f qcow2 old.qcow2 -- "write -P 1 1M 64k" "write -z 2M 64k"
agrees old.qcow2

create -o cluster_size=512 tiny.qcow2 2M
for ((i = 0; i < 100; i++)); do echo "write -P 1 $((i * 7 * 1024)) 1k"; done | qemu-io -f qcow2 tiny.qcow2 >/dev/null
agrees tiny.qcow2
agrees_in_print tiny.qcow2

create empty.qcow2 0
equal "$("$CORRAL" map --output=json empty.qcow2)" '[]' "the map of nothing"
create unwritten.qcow2 5G
agrees unwritten.qcow2

fails 'allow' "$CORRAL" map --allow none top.qcow2
# ---- the picture ----

create drawn.qcow2 4M
qio -f qcow2 drawn.qcow2 -- "write 0 256k" "write 2M 128k" "write 1M 64k"
"$CORRAL" map --svg drawn.svg drawn.qcow2
python3 - <<'END' || fail "the picture isn't of that image: $(head -c 2000 drawn.svg)"
import xml.etree.ElementTree as tree

root = tree.parse("drawn.svg").getroot()
texts = [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]
said = dict(zip(texts, texts[1:]))
assert texts[0] == "drawn.qcow2" and said["disk"] == "4 MiB" and said["data"] == "448 KiB", texts
assert said["fragments of data"] == "3", texts
END
fails 'No such file' "$CORRAL" map --svg nowhere/drawn.svg drawn.qcow2

passed
