#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Images from an attacker, and what each command makes of them.

    hostile-images.py CORRAL             makes them in the current directory and tries every one
    hostile-images.py CORRAL --list      only says which there are

Each image is bent from a good one of this script's own making. For every one: `inspect` gives the verdict that the table below
says, `info` and `check` end by themselves, and all three stay below 64 MiB of memory and one second of processor time; what would
have to be trusted to serve it is refused with the reason that the table says; and nothing is opened but the image itself.
"""

import os
import re
import resource
import shutil
import struct
import subprocess
import sys

CLUSTER = 65536
MEMORY_LIMIT_KIB = 64 << 10
PROCESSOR_LIMIT = 1.0
SAFE, FAILED, REFERS, MALFORMED, FOREIGN = 0, 1, 2, 3, 4
SECRET = "/etc/passwd"

END, BACKING_FORMAT, FEATURES, BITMAPS, CRYPTO, DATA_FILE = 0, 0xE2792ACA, 0x6803F857, 0x23852875, 0x0537BE77, 0x44415441


def u32(value):
    return struct.pack(">I", value & 0xFFFFFFFF)


def u64(value):
    return struct.pack(">Q", value & (1 << 64) - 1)


class Image:
    """A qcow2 image of six clusters: header, refcount table, a refcount block, L1, an L2 table, a cluster of data."""

    FIELDS = {  # name: (offset, bytes)
        "magic": (0, 4), "version": (4, 4), "backing_offset": (8, 8), "backing_bytes": (16, 4), "cluster_bits": (20, 4),
        "size": (24, 8), "crypt": (32, 4), "l1_entries": (36, 4), "l1": (40, 8), "reftable": (48, 8),
        "reftable_clusters": (56, 4), "snapshots": (60, 4), "snapshots_at": (64, 8), "incompatible": (72, 8),
        "compatible": (80, 8), "autoclear": (88, 8), "refcount_order": (96, 4), "header_bytes": (100, 4), "compression": (104, 1),
    }  # fmt: skip

    def __init__(self, **fields):
        self.bytes = bytearray(6 * CLUSTER)
        self.extensions = b""
        good = {"magic": 0x514649FB, "version": 3, "cluster_bits": 16, "size": 1 << 30, "l1_entries": 2, "l1": 3 * CLUSTER,
                "reftable": CLUSTER, "reftable_clusters": 1, "refcount_order": 4, "header_bytes": 112}  # fmt: skip
        self.set(**good)
        self.put(CLUSTER, u64(2 * CLUSTER))
        for cluster in range(6):
            self.put(2 * CLUSTER + 2 * cluster, b"\0\1")
        self.put(3 * CLUSTER, u64(4 * CLUSTER | 1 << 63))
        self.put(4 * CLUSTER, u64(5 * CLUSTER | 1 << 63))
        self.set(**fields)

    def put(self, at, data):
        self.bytes[at : at + len(data)] = data
        return self

    def set(self, **fields):
        for name, value in fields.items():
            at, width = self.FIELDS[name]
            self.put(at, (value & (1 << 8 * width) - 1).to_bytes(width, "big"))
        return self

    def extend(self, kind, data, length=None):
        self.extensions += u32(kind) + u32(len(data) if length is None else length) + data + b"\0" * (-len(data) % 8)
        return self.put(112, self.extensions + bytes(8))

    def backing(self, name, fmt="raw"):
        if fmt:
            self.extend(BACKING_FORMAT, fmt.encode())
        name = name.encode()
        self.put(CLUSTER - 2048, name)
        return self.set(backing_offset=CLUSTER - 2048, backing_bytes=len(name))

    def data_file(self, name):
        return self.set(incompatible=4).extend(DATA_FILE, name.encode())

    def cut(self, length):
        del self.bytes[length:]
        return self

    def grow(self, length):
        """Sparse: only claimed."""
        self.claimed = length
        return self

    def save(self, path):
        with open(path, "wb") as file:
            file.write(self.bytes)
            file.truncate(max(len(self.bytes), getattr(self, "claimed", 0)))


def snapshot(id_bytes=1, name_bytes=1, extra=16, l1=3 * CLUSTER, l1_entries=2):
    return struct.pack(">QIHHIIQII", l1, l1_entries, id_bytes, name_bytes, 0, 0, 0, 0, extra)


def luks(payload=4096, iterations=1000, stripes=4000, key_offset=8, key_bytes=32):
    head = b"LUKS\xba\xbe\0\1" + b"aes".ljust(32, b"\0") + b"xts-plain64".ljust(32, b"\0") + b"sha256".ljust(32, b"\0")
    head += struct.pack(">II", payload // 512, key_bytes) + bytes(20 + 32) + u32(iterations) + b"0" * 36 + bytes(4)
    slot = struct.pack(">II", 0x00AC71F3, iterations) + bytes(32) + struct.pack(">II", key_offset, stripes)
    return head + slot * 8


def with_luks(**how):
    image = Image(crypt=2).extend(CRYPTO, u64(6 * CLUSTER) + u64(CLUSTER))
    image.bytes += luks(**how).ljust(CLUSTER, b"\0")
    return image


def with_snapshots(count, record=None, length=None):
    image = Image(snapshots=count, snapshots_at=6 * CLUSTER)
    image.bytes += (record or snapshot()).ljust(CLUSTER if length is None else length, b"\0")
    return image


def with_bitmaps(count, directory_bytes, entry=b"", at=6 * CLUSTER):
    image = Image(autoclear=1).extend(BITMAPS, u32(count) + u32(0) + u64(directory_bytes) + u64(at))
    image.bytes += entry.ljust(CLUSTER, b"\0")
    return image


def bitmap(table=5 * CLUSTER, entries=1, granularity=16, name=1, extra=0):
    return struct.pack(">QIIBBHI", table, entries, 0, 1, granularity, name, extra)


def compressed(at, sectors, content=b""):
    """Guest cluster 0 is `content`, said to be so many sectors long, with the rest of the host cluster."""
    entry = 1 << 62 | sectors << 54 | at
    return Image().put(4 * CLUSTER, u64(entry)).put(5 * CLUSTER, content)


def bomb():
    """Deflated zeros that never end."""
    import zlib

    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    return (packer.compress(bytes(64 << 20)) + packer.flush())[: CLUSTER - 512]


# name: (what it is for, image, verdict of inspect, why it isn't even served for reading; NONE: it may be)
NONE = None
IMAGES = {
    # files of the host, by name
    "backing-absolute": ("CVE-2015-5163, CVE-2024-32498", Image().backing(SECRET), REFERS, "--allow"),
    "backing-dotdot": ("CVE-2024-32498", Image().backing("../../../../../../" + SECRET), REFERS, "--allow"),
    "backing-through-link": ("CVE-2024-32498", Image().backing("link-out"), REFERS, "--allow|outside"),
    "backing-json": ("CVE-2024-4467", Image().backing('json:{"driver":"file","filename":"/etc/passwd"}'), REFERS, "json"),
    "backing-protocol": ("CVE-2024-32498", Image().backing("nbd://127.0.0.1:1/x"), REFERS, "local file"),
    "backing-device": ("CVE-2024-32498", Image().backing("/dev/zero"), REFERS, "--allow|neither"),
    "backing-fifo": ("a FIFO would block its reader", Image().backing("fifo"), REFERS, "regular file"),
    "backing-itself": ("a chain without end", Image().backing("backing-itself", "qcow2"), REFERS, "cycle|itself|twice|already"),
    "backing-circle": ("a chain without end", Image().backing("backing-circle-2", "qcow2"), REFERS, "cycle|itself|twice|already"),
    "backing-circle-2": ("a chain without end", Image().backing("backing-circle", "qcow2"), REFERS, "cycle|itself|twice|already"),
    "backing-unprobed": ("CVE-2008-2004: raw, or what its guest made of it?", Image().backing("trap", None), REFERS, "format"),
    "data-file-absolute": ("CVE-2024-4467, CVE-2024-32498", Image().data_file(SECRET), REFERS, "--allow"),
    "data-file-json": ("CVE-2024-4467", Image().data_file('json:{"driver":"file","filename":"/etc/passwd"}'), REFERS, "json"),
    "data-file-dotdot": ("CVE-2024-4467", Image().data_file("../" * 8 + SECRET[1:]), REFERS, "--allow"),
    "data-file-unnamed": ("CVE-2024-4467", Image(incompatible=4), REFERS, "data file"),
    "backing-name-long": ("CVE-2014-0143", Image(backing_offset=1024, backing_bytes=1 << 30), MALFORMED, "backing"),
    "backing-name-outside": ("CVE-2014-0143", Image(backing_offset=1 << 62, backing_bytes=16), MALFORMED, "backing"),
    # numbers in the header
    "cluster-bits-0": ("CVE-2014-0144", Image(cluster_bits=0), MALFORMED, "cluster"),
    "cluster-bits-8": ("CVE-2014-0144", Image(cluster_bits=8), MALFORMED, "cluster"),
    "cluster-bits-22": ("CVE-2014-0144", Image(cluster_bits=22), MALFORMED, "cluster"),
    "cluster-bits-64": ("CVE-2014-0144", Image(cluster_bits=64), MALFORMED, "cluster"),
    "cluster-bits-most": ("CVE-2014-0144", Image(cluster_bits=0xFFFFFFFF), MALFORMED, "cluster"),
    "l1-entries-most": ("CVE-2014-0143, CVE-2014-0144", Image(l1_entries=0xFFFFFFFF), MALFORMED, "L1"),
    "l1-too-short": ("CVE-2014-0144", Image(size=1 << 40), MALFORMED, "L1"),
    "l1-unaligned": ("CVE-2014-0144", Image(l1=3 * CLUSTER + 8), MALFORMED, "L1"),
    "l1-wraps": ("CVE-2014-0143", Image(l1=(1 << 64) - CLUSTER), MALFORMED, "L1"),
    "l1-at-the-header": ("metadata over metadata", Image(l1=0), MALFORMED, NONE),
    "size-most": ("CVE-2014-0144, CVE-2014-0223", Image(size=(1 << 64) - 1), MALFORMED, "size|large|L1"),
    "reftable-clusters-most": ("CVE-2014-0147", Image(reftable_clusters=0xFFFFFFFF), MALFORMED, "refcount"),
    "reftable-clusters-0": ("CVE-2014-0147", Image(reftable_clusters=0), MALFORMED, "refcount"),
    "reftable-wraps": ("CVE-2014-0147", Image(reftable=(1 << 64) - CLUSTER), MALFORMED, "refcount"),
    "reftable-unaligned": ("CVE-2014-0147", Image(reftable=CLUSTER + 512), MALFORMED, "refcount"),
    "reftable-at-the-l1": ("metadata over metadata", Image(reftable=3 * CLUSTER), MALFORMED, NONE),
    "refcount-order-7": ("CVE-2014-0144", Image(refcount_order=7), MALFORMED, "refcount"),
    "refcount-order-most": ("CVE-2014-0144", Image(refcount_order=0xFFFFFFFF), MALFORMED, "refcount"),
    "header-bytes-0": ("CVE-2014-0144", Image(header_bytes=0), MALFORMED, "header"),
    "header-bytes-most": ("CVE-2014-0144", Image(header_bytes=0xFFFFFFF8), MALFORMED, "header"),
    "version-4": ("a format of the future", Image(version=4), MALFORMED, "version"),
    "crypt-9": ("a method that nobody knows", Image(crypt=9), MALFORMED, "encryption"),
    "compression-255": ("a method that nobody knows", Image(incompatible=8, compression=255), MALFORMED, "compression"),
    "feature-63": ("an incompatible bit that nobody knows", Image(incompatible=1 << 63), MALFORMED, "feature"),
    "corrupt": ("marked by an earlier user", Image(incompatible=2), MALFORMED, NONE),
    # extensions
    "extension-endless": ("CVE-2014-0144", Image().extend(0x1234, b"", 0xFFFFFFFF), MALFORMED, "extension"),
    "extension-odd": ("CVE-2014-0144", Image().extend(0x1234, b"", CLUSTER - 115), MALFORMED, "extension"),
    "feature-names-odd": ("names without an end", Image(incompatible=1 << 62).extend(FEATURES, b"\0\x3e" + b"A" * 46), MALFORMED, "AAAA"),
    "backing-format-long": ("a string without an end", Image().extend(BACKING_FORMAT, b"A" * 4000), MALFORMED, "format"),
    # snapshots
    "snapshots-most": ("CVE-2014-0145", with_snapshots(0xFFFFFFFF), MALFORMED, "snapshot"),
    "snapshots-65536": ("QEMU 7.2 takes 5.5 s for info", with_snapshots(65536), MALFORMED, "snapshot"),
    "snapshots-outside": ("CVE-2014-0146", Image(snapshots=1, snapshots_at=1 << 50), MALFORMED, "snapshot"),
    "snapshots-cut": ("CVE-2014-0146", with_snapshots(1, length=20), MALFORMED, NONE),
    "snapshot-extra-most": ("CVE-2014-0145", with_snapshots(1, snapshot(extra=0xFFFFFFFF)), MALFORMED, NONE),
    "snapshot-name-outside": ("CVE-2014-0145", with_snapshots(1, snapshot(id_bytes=65535, name_bytes=65535)), MALFORMED, NONE),
    # bitmaps
    "bitmaps-most": ("claims 4 G bitmaps", with_bitmaps(0xFFFFFFFF, CLUSTER), MALFORMED, "bitmap"),
    "bitmaps-directory-most": ("claims a directory of 2^64 bytes", with_bitmaps(1, (1 << 64) - 1), MALFORMED, "bitmap"),
    "bitmap-granularity-255": ("a shift beyond the type", with_bitmaps(1, 32, bitmap(granularity=255)), MALFORMED, NONE),
    "bitmap-name-outside": ("a name longer than its entry", with_bitmaps(1, 32, bitmap(name=65535)), MALFORMED, NONE),
    # encryption
    "luks-outside": ("a header behind the end", Image(crypt=2).extend(CRYPTO, u64(1 << 50) + u64(CLUSTER)), MALFORMED, "encryption|LUKS"),
    "luks-stripes-most": ("key material of 2^32 stripes", with_luks(stripes=0xFFFFFFFF), MALFORMED, "LUKS|stripes|key slot"),
    "luks-key-most": ("a key of 4 GiB", with_luks(key_bytes=0xFFFFFFFF), MALFORMED, "LUKS|key"),
    "luks-key-outside": ("key material behind the header", with_luks(key_offset=0x7FFFFFFF), MALFORMED, "LUKS|key slot"),
    # sizes
    "empty": ("nothing at all", Image().cut(0), SAFE, NONE),
    "header-cut": ("the header ends early", Image().cut(60), MALFORMED, "header|short|small"),
    "header-only": ("the tables aren't there", Image().cut(512), MALFORMED, "L1|refcount|file"),
    "claims-a-petabyte": ("a sparse file", Image(size=1 << 50, cluster_bits=21, l1=6 << 21, reftable=2 << 21, l1_entries=2048).grow(64 << 21), SAFE, NONE),
    # below the header
    "l1-outside": ("an entry behind the end", Image().put(3 * CLUSTER, u64(1 << 50)), MALFORMED, NONE),
    "l1-reserved": ("an entry with reserved bits", Image().put(3 * CLUSTER, u64(4 * CLUSTER | 1)), MALFORMED, NONE),
    "l1-at-itself": ("the L1 table as an L2 table", Image().put(3 * CLUSTER, u64(3 * CLUSTER | 1 << 63)), MALFORMED, NONE),
    "l1-at-the-header-entry": ("the header as an L2 table", Image().put(3 * CLUSTER, u64(1 << 63) + u64(1 << 16)), MALFORMED, NONE),
    "l2-at-the-header": ("guest data over the header", Image().put(4 * CLUSTER, u64(1 << 63 | 1 << 9)), SAFE, NONE),
    "l2-at-the-reftable": ("guest data over refcounts", Image().put(4 * CLUSTER, u64(CLUSTER | 1 << 63)), SAFE, NONE),
    "l2-outside": ("guest data behind the end", Image().put(4 * CLUSTER, u64(1 << 54 | 1 << 63)), SAFE, NONE),
    "refcounts-at-themselves": ("the table as its own block", Image().put(CLUSTER, u64(CLUSTER)), MALFORMED, NONE),
    "refcounts-outside": ("a block behind the end", Image().put(CLUSTER, u64(1 << 50)), MALFORMED, NONE),
    # compressed data
    "compressed-bomb": ("64 MiB in a cluster", compressed(5 * CLUSTER, 127, bomb()), SAFE, NONE),
    "compressed-noise": ("no deflate stream", compressed(5 * CLUSTER, 1, b"\xff" * 1024), SAFE, NONE),
    "compressed-outside": ("data behind the end", compressed((1 << 50) - 512, 127), SAFE, NONE),
    # other formats
    "vmdk": ("names its extents", Image().put(0, b"# Disk DescriptorFile\nRW 1 FLAT \"/etc/passwd\" 0\n"), FOREIGN, NONE),
    "vhdx": ("names its parent", Image().put(0, b"vhdxfile"), FOREIGN, NONE),
    "qcow1": ("CVE-2014-0222, CVE-2014-0223", Image(version=1), FOREIGN, "version"),
    "qed": ("names its backing file", Image().put(0, b"QED\0"), FOREIGN, NONE),
}  # fmt: skip

corral = sys.argv[1]
failures = []


def complain(name, text):
    failures.append(f"{name}: {text}")
    print(f"  {name}: {text}")


def confined():
    """More is an attack on the host; the kernel ends it."""
    resource.setrlimit(resource.RLIMIT_CPU, (10, 10))


def run(*args):
    """Status, what it said, processor seconds, KiB of memory at most."""
    with open("said", "w+b") as said:
        process = subprocess.Popen([corral, *args], stdout=said, stderr=said, stdin=subprocess.DEVNULL, preexec_fn=confined)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        return process.returncode, said.read().decode(errors="replace"), used.ru_utime + used.ru_stime, used.ru_maxrss


def examine(name, command, *options):
    status, said, seconds, kib = run(command, *options, name)
    if status < 0 or status > 63:
        complain(name, f"{command} died with {status}: {said[-300:]}")
    for _ in range(2):  # a virtual machine counts as ours what its host took
        if seconds > PROCESSOR_LIMIT:
            seconds = run(command, *options, name)[2]
    if seconds > PROCESSOR_LIMIT:
        complain(name, f"{command} took {seconds:.2f} s of processor time")
    if kib > MEMORY_LIMIT_KIB:
        complain(name, f"{command} took {kib >> 10} MiB")
    return status, said, seconds, kib


def try_serving(name, reason):
    """Refused with its reason. One that is served after all waits for clients until it is told to stop."""
    command = ["timeout", "--preserve-status", "-s", "TERM", "1", corral, "serve", "-r", name, "--nbd", "unix:serve.sock"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, preexec_fn=confined)
    said = done.stdout + done.stderr
    if done.returncode < 0 or done.returncode > 1:
        complain(name, f"serve died with {done.returncode}: {said[-300:]}")
    elif "serving" in done.stdout:
        complain(name, "is served, though it says what it can't be")
    elif not re.search(reason, said, re.I):
        complain(name, f"serve doesn't say '{reason}' but: {said}")


LIBRARIES = re.compile(r'"(/etc/ld\.so|/lib|/usr/lib|/proc|/sys|/dev/(null|urandom|random)|/usr/share/locale)')
OPENS = re.compile(r"\b(open|openat|openat2|connect|execve|creat)\(")


def opened_by(name, command):
    """Calls that opened or connected to something that isn't the image itself."""
    log = "strace.log"
    subprocess.run(["strace", "-f", "-qq", "-s", "256", "-o", log, "-e", "trace=%file,connect,socket", corral, command, name],
                   capture_output=True)  # fmt: skip
    with open(log) as lines:
        calls = [line for line in lines if OPENS.search(line) and " execve(" not in line]
    return [c for c in calls if not LIBRARIES.search(c) and f'"{name}"' not in c]


def surroundings():
    """What the images name and could reach."""
    os.symlink(SECRET, "link-out")
    os.mkfifo("fifo")
    Image().backing(SECRET).save("trap")


def main():
    if "--list" in sys.argv:
        for name, (why, _, verdict, _) in IMAGES.items():
            print(f"{name:26} {verdict} {why}")
        return
    surroundings()
    for name, (_, image, _, _) in IMAGES.items():
        image.save(name)
    most_seconds = most_kib = 0
    for name, (_, _, verdict, reason) in IMAGES.items():
        status, said, *_ = examine(name, "inspect")
        if status != verdict:
            complain(name, f"inspect says {status}, not {verdict}: {said}")
        for command, options in (("inspect", ["--sandbox=auto", "--output", "json"]), ("info", []), ("check", []), ("info", ["--output", "json"])):
            _, _, seconds, kib = examine(name, command, *options)
            most_seconds, most_kib = max(most_seconds, seconds), max(most_kib, kib)
        if reason is not NONE:
            try_serving(name, reason)
        for command in ("inspect", "info", "check") if shutil.which("strace") else ():
            for call in opened_by(name, command):
                complain(name, f"{command} opens something else: {call.strip()}")
    print(f"{len(IMAGES)} images; at most {most_seconds:.2f} s and {most_kib >> 10} MiB for one command")
    sys.exit(1 if failures else 0)


main()
