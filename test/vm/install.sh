#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Debian is installed on an empty disk that Corral serves over vhost-user-blk: the guest makes partition and file system, unpacks
# what debootstrap has put together, and installs the boot loader. boot.sh starts what this leaves.
#
#     test/vm/install.sh [BUILD-DIR | PROGRAM]
. "$(dirname "$0")/lib.sh"

RUN=$BUILD/vm/install
ROOT=$BUILD/vm/root
DISK_DIR=$BUILD/vm/disk
IMAGE=$DISK_DIR/debian.qcow2
GUEST_SECONDS=900
PACKAGES=systemd-sysv,udev,kmod,initramfs-tools,linux-image-cloud-amd64,grub-pc,e2fsprogs,lz4

# Where this machine's own packages come from, and how it gets there.
mirror() {
	local proxy
	MIRROR=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
		awk '$2 == "bookworm" { print $1; exit }')
	[ -n "$MIRROR" ] || give_up 77 "apt has no source of Debian 12 here"
	proxy=$(apt-config shell it Acquire::http::Proxy)
	proxy=${proxy#it=\'}
	[ -z "$proxy" ] || export http_proxy="${proxy%\'}"
}

grub_defaults() {
	cat <<-'END'
		GRUB_DEFAULT=0
		GRUB_TIMEOUT=0
		GRUB_RECORDFAIL_TIMEOUT=0
		GRUB_DISTRIBUTOR=Debian
		GRUB_CMDLINE_LINUX="console=ttyS0,115200 mitigations=off nokaslr tsc=reliable panic=-1"
		GRUB_TERMINAL=serial
		GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"
		GRUB_DISABLE_OS_PROBER=true
	END
}

# The workload is a service, which starts when the login prompt is there.
workload_unit() {
	cat <<-'END'
		[Unit]
		Description=A disk's workload
		After=multi-user.target getty.target
		[Service]
		Type=oneshot
		ExecStart=/usr/local/sbin/guest-workload
		TimeoutStartSec=infinity
		[Install]
		WantedBy=graphical.target
	END
}

configure() {
	local root=$1
	echo guest >"$root/etc/hostname"
	echo 'LABEL=root / ext4 errors=remount-ro 0 1' >"$root/etc/fstab"
	mkdir -p "$root/etc/initramfs-tools/conf.d"
	printf 'MODULES=list\nCOMPRESS=lz4\n' >"$root/etc/initramfs-tools/conf.d/small"
	printf '%s\n' virtio_pci virtio_blk ext4 >"$root/etc/initramfs-tools/modules"
	grub_defaults >"$root/etc/default/grub"
	workload_unit >"$root/etc/systemd/system/guest-workload.service"
	install -m 755 "$HERE/guest-workload.sh" "$root/usr/local/sbin/guest-workload"
	chroot "$root" systemctl -q enable guest-workload.service
	chroot "$root" systemctl -q set-default graphical.target
	chroot "$root" systemctl -q mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer
	chroot "$root" update-initramfs -u
	: >"$root/etc/apt/sources.list"
	rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale,info}/*
}

# What is to be installed, and the sums of all its files.
bootstrap() {
	if [ ! -e "$ROOT.tar" ] || [ "$HERE/guest-workload.sh" -nt "$ROOT.tar" ]; then
		needs debootstrap apt-get
		[ "$(id -u)" = 0 ] || give_up 77 "debootstrap needs root"
		mirror
		rm -rf "$ROOT"
		mkdir -p "$ROOT"
		debootstrap --variant=minbase --include=$PACKAGES bookworm "$ROOT" "${MIRROR%/}" >"$RUN/debootstrap.log" 2>&1 ||
			give_up 77 "debootstrap: $(tail -n 1 "$RUN/debootstrap.log")"
		configure "$ROOT" >"$RUN/configure.log" 2>&1
		(cd "$ROOT" && find usr boot/vmlinuz* boot/initrd* -type f -print0 | sort -z | xargs -0 sha256sum) >"$RUN/sums"
		install -m 644 "$RUN/sums" "$ROOT/usr/local/installed.sha256"
		tar -C "$ROOT" --format=gnu --numeric-owner -cf "$ROOT.part" .
		truncate -s %1M "$ROOT.part"
		mv "$ROOT.part" "$ROOT.tar"
		rm -rf "$ROOT"
	fi
	say packages "Debian 12 of $(du -m "$ROOT.tar" | cut -f 1) MiB, put together by debootstrap"
}

main() {
	[ -x "$CORRAL" ] || fail "no program at $CORRAL"
	rm -rf "$RUN"
	mkdir -p "$RUN" "$CACHE" "$DISK_DIR"
	needs qemu-img qemu-system-x86_64 busybox cpio mke2fs e2fsck sfdisk
	kernel
	bootstrap
	initramfs guest-install.sh "mke2fs e2fsck sfdisk" "virtio_pci virtio_blk ext4"
	rm -f "$IMAGE"
	"$CORRAL" create "$IMAGE" 3G >"$RUN/create.log"
	serve vhost-user
	say serve "an empty disk of 3 GiB over vhost-user-blk; installing"
	# shellcheck disable=SC2046 # many words
	emulate $(disk vhost-user 768) -kernel "$VMLINUZ" -initrd "$RUN/initramfs.cpio" \
		-drive "if=none,id=source,format=raw,readonly=on,file=$ROOT.tar" -device virtio-blk-pci,drive=source,serial=source \
		-append "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr tsc=reliable random.trust_cpu=on"
	watched 'GUEST PASSED'
	stop
	checked
	say image "$(du -m "$IMAGE" | cut -f 1) MiB in the file"
	echo PASS
}
main
