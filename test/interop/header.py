#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Looks at and changes the header of a qcow2 image, version 3.

    header.py get IMAGE FIELD             incompatible, compatible, autoclear
    header.py set IMAGE FIELD BIT...
    header.py name IMAGE BIT NAME         names an incompatible bit in the feature name table
    header.py extend IMAGE TYPE HEX       puts an extension in front of the others
    header.py extension IMAGE TYPE        its bytes, padding included, in hexadecimal

Source: QEMU's docs/interop/qcow2.rst, "Header", "Header extensions", "Feature name table".
"""

import struct
import sys

FIELDS = {"incompatible": 72, "compatible": 80, "autoclear": 88}
HEADER_BYTES_AT = 100
FEATURE_NAMES = 0x6803F857
FEATURE_ENTRY = 48


class Header:
    def __init__(self, path):
        self.file = open(path, "r+b")
        self.bytes = bytearray(self.file.read(1 << 21))
        assert self.u32(0) == 0x514649FB and self.u32(4) == 3

    def u32(self, at):
        return struct.unpack_from(">I", self.bytes, at)[0]

    def u64(self, at):
        return struct.unpack_from(">Q", self.bytes, at)[0]

    def save(self):
        self.file.seek(0)
        self.file.write(self.bytes[: 1 << self.u32(20)])

    def extensions(self):
        """(type, where, bytes of data) of each but the end."""
        at = self.u32(HEADER_BYTES_AT)
        while self.u32(at):
            yield self.u32(at), at, self.u32(at + 4)
            at += 8 + (self.u32(at + 4) + 7) // 8 * 8
        self.end = at + 8

    def insert(self, at, data):
        """Moves what follows, up to the end of the backing name; the rest of the cluster must have room."""
        list(self.extensions())
        backing, length = self.u64(8), self.u32(16)
        end = max(self.end, backing + length)
        assert not any(self.bytes[end : end + len(data)]), "no room in the header"
        self.bytes[at : end + len(data)] = data + self.bytes[at:end]
        if backing:
            struct.pack_into(">Q", self.bytes, 8, backing + len(data))

    def find(self, kind):
        for found, at, length in self.extensions():
            if found == kind:
                return at, length
        raise SystemExit(f"no extension {kind:#x}")


def get(header, field):
    print(header.u64(FIELDS[field]))


def set_bits(header, field, *bits):
    value = header.u64(FIELDS[field])
    for bit in bits:
        value |= 1 << int(bit)
    struct.pack_into(">Q", header.bytes, FIELDS[field], value)


def name(header, bit, text):
    at, length = header.find(FEATURE_NAMES)
    header.insert(at + 8, struct.pack(">BB46s", 0, int(bit), text.encode()))
    struct.pack_into(">I", header.bytes, at + 4, length + FEATURE_ENTRY)


def extend(header, kind, text):
    data = bytes.fromhex(text)
    padded = data + bytes(-len(data) % 8)
    header.insert(header.u32(HEADER_BYTES_AT), struct.pack(">II", int(kind, 0), len(data)) + padded)


def extension(header, kind):
    at, length = header.find(int(kind, 0))
    print(header.bytes[at : at + 8 + (length + 7) // 8 * 8].hex())


command, path, *arguments = sys.argv[1:]
header = Header(path)
acts = {"get": get, "set": set_bits, "name": name, "extend": extend, "extension": extension}
acts[command](header, *arguments)
if command not in ("get", "extension"):
    header.save()
