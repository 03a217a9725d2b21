#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The snapshot table of a qcow2 image, byte by byte (docs/interop/qcow2.rst, "Snapshots").

dump IMAGE    every record: where its L1 table lies, id, name, and all of its extra data
bend IMAGE    the first record gets extra data that nobody knows, the second one none
state IMAGE   a cluster of data is put behind the end of the disk, as the state of a virtual machine is
"""

import struct
import sys

HEAD = struct.Struct(">QIHHIIQII")


def records(data):
    (count, at) = struct.unpack_from(">IQ", data, 60)
    for _ in range(count):
        head = HEAD.unpack_from(data, at)
        extra, ids, names = head[8], head[2], head[3]
        rest = data[at + 40 : at + 40 + extra + ids + names]
        yield list(head), rest[:extra], rest[extra : extra + ids], rest[extra + ids :]
        at += (40 + extra + ids + names + 7) // 8 * 8


def dump(path):
    with open(path, "rb") as f:
        for head, extra, ident, name in records(f.read()):
            print(head, extra.hex(), ident, name)


def bend(path):
    with open(path, "r+b") as f:
        data = f.read()
        table = b""
        for i, (head, extra, ident, name) in enumerate(records(data)):
            extra = extra + b"nobody knows what this is" if i == 0 else b""
            head[8] = len(extra)
            table += HEAD.pack(*head) + extra + ident + name
            table += b"\0" * (-len(table) % 8)
        f.seek(struct.unpack_from(">Q", data, 64)[0])
        f.write(table)


def state(path):
    """QEMU puts it at the first L1 entry that no byte of the disk needs; here the L1 table has room for it."""
    with open(path, "r+b") as f:
        data = bytearray(f.read())
        bits, entries, l1 = struct.unpack_from(">I", data, 20)[0], struct.unpack_from(">I", data, 36)[0], 40
        offset = struct.unpack_from(">Q", data, l1)[0]
        cluster = 1 << bits
        reftable = struct.unpack_from(">Q", data, 48)[0]
        block = struct.unpack_from(">Q", data, reftable)[0]
        end = (len(data) + cluster - 1) // cluster
        data += b"\0" * ((end + 2) * cluster - len(data))
        struct.pack_into(">I", data, 36, entries + 1)
        struct.pack_into(">Q", data, offset + 8 * entries, 1 << 63 | end * cluster)
        struct.pack_into(">Q", data, end * cluster, 1 << 63 | (end + 1) * cluster)
        data[(end + 1) * cluster : (end + 2) * cluster] = b"state..." * (cluster // 8)
        for i in (end, end + 1):
            struct.pack_into(">H", data, block + 2 * i, 1)
        f.seek(0)
        f.write(data)


{"dump": dump, "bend": bend, "state": state}[sys.argv[1]](sys.argv[2])
