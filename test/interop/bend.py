#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Damages the metadata of a qcow2 image in one place.

    bend.py IMAGE WHERE CHANGE [WHERE CHANGE]...
    bend.py IMAGE WHERE                             prints the host cluster that an entry points to

WHERE is one of
    byte:OFFSET        eight bytes of the file          l1:I       an entry of the active L1 table
    l2:I:J             an entry of an L2 table          reftable:I an entry of the refcount table
    refcount:CLUSTER   the refcount of a host cluster   snapshot:N eight bytes, N bytes into the snapshot table
    bitmap:I           an entry of the first bitmap's table
    snapshot-l1:I      an entry of the L1 table, or of an L2 table, of the first snapshot
    snapshot-l2:I:J
    bitmaps:N          N bytes into the bitmaps extension, or into the directory that it names
    directory:N
    crypto:0           eight bytes of the extension that names the encryption header

CHANGE is =VALUE, |VALUE, &VALUE, ^VALUE or +VALUE; VALUE is a number, or l1:I, l2:I:J, reftable:I (that entry's value).

Source: QEMU's docs/interop/qcow2.rst.
"""

import struct
import sys

OFFSET_MASK = 0x00FFFFFFFFFFFE00
BITMAPS = 0x23852875
CRYPTO = 0x0537BE77
CHANGES = {
    "=": lambda old, new: new,
    "|": lambda old, new: old | new,
    "&": lambda old, new: old & new,
    "^": lambda old, new: old ^ new,
    "+": lambda old, new: old + new,
}


class Image:
    def __init__(self, path):
        self.file = open(path, "r+b")
        self.cluster_bits = self.u32(20)
        self.cluster = 1 << self.cluster_bits
        self.refcount_bits = 1 << (self.u32(96) if self.u32(4) == 3 else 4)

    def read(self, at, length):
        self.file.seek(at)
        return self.file.read(length).ljust(length, b"\0")

    def u32(self, at):
        return struct.unpack(">I", self.read(at, 4))[0]

    def u64(self, at):
        return struct.unpack(">Q", self.read(at, 8))[0]

    def put(self, at, value, length=8):
        self.file.seek(at)
        self.file.write((value & ((1 << 8 * length) - 1)).to_bytes(length, "big"))

    def extension(self, kind):
        at = self.u32(100)
        while self.u32(at) != kind:
            assert self.u32(at), "no such extension"
            at += 8 + (self.u32(at + 4) + 7) // 8 * 8
        return at + 8

    def directory(self):
        return self.u64(self.extension(BITMAPS) + 16)

    def place(self, where):
        """The offset of an eight-byte field."""
        kind, *numbers = where.split(":")
        numbers = [int(n, 0) for n in numbers]
        if kind == "byte":
            return numbers[0]
        if kind == "l1":
            return self.u64(40) + 8 * numbers[0]
        if kind == "l2":
            return (self.u64(self.u64(40) + 8 * numbers[0]) & OFFSET_MASK) + 8 * numbers[1]
        if kind == "reftable":
            return self.u64(48) + 8 * numbers[0]
        if kind == "snapshot":
            return self.u64(64) + numbers[0]
        if kind == "bitmap":
            return self.u64(self.directory()) + 8 * numbers[0]
        if kind == "snapshot-l1":
            return self.u64(self.u64(64)) + 8 * numbers[0]
        if kind == "snapshot-l2":
            return (self.u64(self.u64(self.u64(64)) + 8 * numbers[0]) & OFFSET_MASK) + 8 * numbers[1]
        if kind == "bitmaps":
            return self.extension(BITMAPS) + numbers[0]
        if kind == "directory":
            return self.directory() + numbers[0]
        if kind == "crypto":
            return self.extension(CRYPTO) + numbers[0]
        raise SystemExit(f"where is {where}?")

    def value(self, text):
        return self.u64(self.place(text)) if ":" in text else int(text, 0)

    def refcount_place(self, cluster):
        """The bytes that hold it, the lowest of its bits in them."""
        block, index = divmod(cluster, self.cluster * 8 // self.refcount_bits)
        at = self.u64(self.u64(48) + 8 * block) & ~0x1FF
        assert at, "no refcount block there"
        if self.refcount_bits >= 8:
            return at + index * self.refcount_bits // 8, self.refcount_bits // 8, 0
        per_byte = 8 // self.refcount_bits
        return at + index // per_byte, 1, index % per_byte * self.refcount_bits

    def bend_refcount(self, cluster, change):
        at, length, shift = self.refcount_place(cluster)
        word = int.from_bytes(self.read(at, length), "big")
        mask = (1 << self.refcount_bits) - 1
        value = CHANGES[change[0]](word >> shift & mask, self.value(change[1:])) & mask
        self.put(at, word & ~(mask << shift) | value << shift, length)

    def bend(self, where, change):
        if where.startswith("refcount:"):
            self.bend_refcount(int(where.split(":")[1], 0), change)
        else:
            at = self.place(where)
            self.put(at, CHANGES[change[0]](self.u64(at), self.value(change[1:])))


image = Image(sys.argv[1])
if len(sys.argv) == 3:
    print((image.value(sys.argv[2]) & OFFSET_MASK) >> image.cluster_bits)
for where, change in zip(sys.argv[2::2], sys.argv[3::2]):
    image.bend(where, change)
