#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Programs of Debian's that call qemu-img, unchanged, with Corral in its place: they end the same way, and what they make and
# what they understand is the same. (docs/compatibility.md lists what else was tried by hand.)
. "$(dirname "$0")/lib.sh"
export CORRAL_AIO

mkdir bin
for tool in qemu-img qemu-io qemu-nbd; do
	ln -s "$CORRAL" bin/$tool
done
with_ours() { PATH=$SCRATCH/bin:$PATH "$@"; }

# both WHAT COMMAND...: the same output and status; each of them works in a folder of its own, $folder
both() {
	local what=$1 status
	shift
	for folder in real mine; do
		status=0
		if [ $folder = mine ]; then
			with_ours "$@" $folder >$folder.out 2>&1 || status=$?
		else
			"$@" $folder >$folder.out 2>&1 || status=$?
		fi
		echo "status $status" >>$folder.out
		sed -i "s/\<$folder\>/FOLDER/g; s/[0-9-]\{10\} [0-9:]\{8\}/DATE/" $folder.out
	done
	diff real.out mine.out >&2 || fail "$what: the output differs"
}
mkdir real mine
ran=0

# ---- cloud-image-utils: cloud-localds makes a disk with it ----

if command -v cloud-localds genisoimage >/dev/null; then
	printf '#cloud-config\npassword: x\n' >user-data
	localds() { cloud-localds --disk-format "$format" "$1/seed" user-data; }
	for format in qcow2 raw; do
		both "cloud-localds" localds
		equal "$(qemu-img info --output=json mine/seed | grep '"format"')" "$(qemu-img info --output=json real/seed | grep '"format"')" "$format"
		for folder in real mine; do
			qemu-img convert -O raw $folder/seed $folder.raw
			[ "$(blkid -o value -s LABEL $folder.raw 2>/dev/null || isoinfo -d -i $folder.raw | sed -n 's/^Volume id: //p')" = cidata ] ||
				fail "cloud-localds, $format: no volume cidata"
		done
	done
	ran=$((ran + 1))
fi

# ---- oslo.utils: what OpenStack makes of the output of info, as text and as JSON ----

create base.qcow2 8M
printf secret >key
create --object secret,id=k,file=key -o encrypt.format=luks,encrypt.key-secret=k,encrypt.iter-time=10 luks.qcow2 1M
for folder in real mine; do
	cp base.qcow2 $folder/base.qcow2
	create -b base.qcow2 -F qcow2 $folder/top.qcow2
	qio -f qcow2 $folder/top.qcow2 -- "write 0 1M"
	qemu-img snapshot -c one $folder/top.qcow2
	qemu-img snapshot -c "two words" $folder/top.qcow2
	create -o compat=0.10 $folder/old.qcow2 1M
	create -o extended_l2=on,lazy_refcounts=on,compression_type=zstd $folder/new.qcow2 3G
	truncate -s 3M $folder/disk.raw
	cp luks.qcow2 $folder/
	head -c 300 $folder/top.qcow2 >$folder/cut
done
if /usr/bin/python3 -c 'import oslo_utils.imageutils' 2>/dev/null; then
	cat >oslo.py <<'END'
import subprocess, sys
from oslo_utils import imageutils
for name in "top.qcow2", "old.qcow2", "new.qcow2", "disk.raw", "luks.qcow2":
    for how in "human", "json":
        out = subprocess.run(["env", "LC_ALL=C", "LANG=C", "qemu-img", "info", f"{sys.argv[1]}/{name}", "--force-share",
                              "--output=" + how], capture_output=True, text=True, check=True)
        info = imageutils.QemuImgInfo(out.stdout, format=how)
        print(name, how, info.image, info.file_format, info.virtual_size, info.cluster_size, info.backing_file,
              info.backing_file_format, info.encrypted, [s if how == "human" else s["name"] for s in info.snapshots],
              sorted((info.format_specific or {}).get("data", {}).items() if how == "json" else []))
END
	oslo() { /usr/bin/python3 -W ignore oslo.py "$1" | sed "s/'vm-clock[^,]*//"; }
	export -f oslo
	both "oslo.utils" oslo
	grep -q "top.qcow2 json mine/top.qcow2 qcow2 8388608 65536 base.qcow2\|top.qcow2 json FOLDER/top.qcow2 qcow2 8388608 65536 base.qcow2" mine.out ||
		fail "oslo.utils understands nothing: $(cat mine.out)"
	ran=$((ran + 1))
fi

# ---- sbuild-qemu's and autopkgtest's way to look for snapshots, to grow a disk and to put an overlay over it ----

debian() {
	cat >debian.py <<'END'
import json, re, subprocess, sys
image = sys.argv[1] + "/top.qcow2"
run = lambda *command: subprocess.run(command, capture_output=True, text=True)
listed = run("qemu-img", "snapshot", "-l", image)
print("tags", [line.split()[1] for line in listed.stdout.splitlines()[2:]])
print(run("qemu-img", "snapshot", "-c", "2026-01-01_000000", image).returncode)
print(run("qemu-img", "info", "--output=json", image).returncode)
print(json.loads(run("qemu-img", "info", "--output=json", image).stdout)["format"])
print(run("qemu-img", "create", "-f", "qcow2", "-F", "qcow2", "-b", "top.qcow2", sys.argv[1] + "/overlay.img").stdout)
print(run("qemu-img", "resize", "-f", "qcow2", sys.argv[1] + "/overlay.img", "+1G"))
print(run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", sys.argv[1] + "/disk.raw", sys.argv[1] + "/out.qcow2"))
print(run("qemu-img", "create", "-f", "raw", sys.argv[1] + "/vm.raw", "3G").stdout)
print(re.match(r"qemu-img version ([0-9.]*)", run("qemu-img", "--version").stdout).group(1))
print(run("qemu-img", "info", "nothing").stderr)
END
	python3 debian.py "$1"
}
both "what Debian's scripts ask for" debian
for file in top.qcow2 overlay.img out.qcow2 vm.raw; do
	qemu-img compare -q real/$file mine/$file || fail "$file differs"
done
ran=$((ran + 1))

# ---- cinder and nova: convert and resize with their options ----

openstack() {
	prlimit --as=$((4 << 30)) --cpu=30 env LC_ALL=C LANG=C qemu-img info "$1/top.qcow2" --force-share --output=json -f qcow2 >/dev/null
	qemu-img convert -t none -O raw -f qcow2 "$1/top.qcow2" "$1/nova.raw"
	qemu-img convert -c -W -O qcow2 -f raw -t none "$1/nova.raw" "$1/cinder.qcow2"
	qemu-img resize -f qcow2 "$1/cinder.qcow2" 2G
	env LC_ALL=C LANG=C qemu-img create -f qcow2 -o "backing_file=$SCRATCH/$1/top.qcow2,backing_fmt=qcow2" "$1/disk" 8388608
	qemu-img rebase -b "$SCRATCH/$1/base.qcow2" -F qcow2 "$1/disk"
	qemu-img rebase -u -b '' "$1/disk"
	qemu-img commit -q "$1/top.qcow2"
}
both "OpenStack's commands" openstack
for file in nova.raw cinder.qcow2 disk base.qcow2; do
	qemu-img compare -q real/$file mine/$file || fail "$file differs"
done
ran=$((ran + 1))

say "$ran of 4 kinds"
passed
