# SPDX-License-Identifier: MIT
"""A small front end of vhost-user-blk with a guest in it, for the tests: one split ring that is polled.

Sources: docs/interop/vhost-user.rst of QEMU; virtio 1.2, sections 2.7 and 5.2.
"""

import array
import mmap
import os
import socket
import struct
import time

GET_FEATURES, SET_FEATURES, SET_OWNER, SET_MEM_TABLE = 1, 2, 3, 5
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE, SET_VRING_KICK, SET_VRING_CALL = 8, 9, 10, 11, 12, 13
GET_PROTOCOL, SET_PROTOCOL, SET_VRING_ENABLE = 15, 16, 18
SET_BACKEND_REQ_FD, GET_CONFIG, ADD_MEM_REG = 21, 24, 37
CONFIG_CHANGE = 2
REPLY_ACK, BACKEND_REQ, CONFIG = 1 << 3, 1 << 5, 1 << 9
PROTOCOL_FEATURES, VERSION_1, BLK_FLUSH = 1 << 30, 1 << 32, 1 << 9
IN, OUT, FLUSH = 0, 1, 4

GUEST, USER = 0x100000, 0x7F0000000000
SIZE = 64  # of the ring
DESC, AVAIL, USED, HEADS, DATA = 0, 0x1000, 0x2000, 0x3000, 0x10000
SLOTS, SLOT = SIZE // 4, 256 << 10  # requests in flight, and room for the data of each
BYTES = DATA + SLOTS * SLOT


class Front:
    def __init__(self, path, timeout=20):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self.timeout = timeout
        memory = os.memfd_create("guest")
        os.ftruncate(memory, BYTES)
        self.memory = mmap.mmap(memory, BYTES)
        self.ask(GET_FEATURES)
        self.ask(GET_PROTOCOL)
        self.send(SET_PROTOCOL, struct.pack("<Q", BACKEND_REQ | CONFIG))
        self.send(SET_FEATURES, struct.pack("<Q", PROTOCOL_FEATURES | VERSION_1 | BLK_FLUSH))
        self.send(SET_OWNER)
        self.send(SET_MEM_TABLE, struct.pack("<IIQQQQ", 1, 0, GUEST, BYTES, USER, 0), [memory])
        self.back, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.send(SET_BACKEND_REQ_FD, b"", [theirs.fileno()])
        theirs.close()
        os.close(memory)
        self.kick, call = os.eventfd(0), os.eventfd(0)
        self.send(SET_VRING_NUM, struct.pack("<II", 0, SIZE))
        self.send(SET_VRING_BASE, struct.pack("<II", 0, 0))
        self.send(SET_VRING_ADDR, struct.pack("<IIQQQQ", 0, 0, USER + DESC, USER + USED, USER + AVAIL, 0))
        self.send(SET_VRING_CALL, struct.pack("<Q", 0), [call])
        self.send(SET_VRING_KICK, struct.pack("<Q", 0), [self.kick])
        self.send(SET_VRING_ENABLE, struct.pack("<II", 0, 1))
        os.close(call)
        self.offered = self.seen = 0
        self.free = list(range(SLOTS))

    def send(self, request, payload=b"", fds=()):
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.socket.sendmsg([struct.pack("<III", request, 1, len(payload)) + payload], rights)

    def ask(self, request, payload=b""):
        self.send(request, payload)
        _, _, size = struct.unpack("<III", self.receive(self.socket, 12))
        return self.receive(self.socket, size)

    @staticmethod
    def receive(sock, length):
        got = b""
        while len(got) < length:
            part = sock.recv(length - len(got))
            assert part, "the device is gone"
            got += part
        return got

    def capacity(self):
        """In bytes, as the device says now."""
        reply = self.ask(GET_CONFIG, struct.pack("<III", 0, 8, 0) + bytes(8))
        return struct.unpack_from("<Q", reply, 12)[0] * 512

    def config_changed(self):
        """Waits until it is told that the configuration has changed."""
        self.back.settimeout(self.timeout)
        request, _, size = struct.unpack("<III", self.receive(self.back, 12))
        self.receive(self.back, size)
        assert request == CONFIG_CHANGE, request

    def offer(self, kind, sector, data=b"", length=0):
        """Returns the slot of the request."""
        slot = self.free.pop()
        head, at = HEADS + slot * 64, DATA + slot * SLOT
        self.memory[head : head + 16] = struct.pack("<IIQ", kind, 0, sector)
        self.memory[head + 32] = 0xFF
        self.memory[at : at + len(data)] = data
        length = length or len(data)
        parts = [(head, 16, 0)] + ([(at, length, 2 if kind == IN else 0)] if length else []) + [(head + 32, 1, 2)]
        for i, (where, size, flags) in enumerate(parts):
            more = i + 1 < len(parts)
            entry = struct.pack("<QIHH", GUEST + where, size, flags | more, slot * 4 + i + 1 if more else 0)
            place = DESC + 16 * (slot * 4 + i)
            self.memory[place : place + 16] = entry
        place = AVAIL + 4 + 2 * (self.offered % SIZE)
        self.memory[place : place + 2] = struct.pack("<H", slot * 4)
        self.offered = self.offered + 1 & 0xFFFF
        self.memory[AVAIL + 2 : AVAIL + 4] = struct.pack("<H", self.offered)
        os.eventfd_write(self.kick, 1)
        return slot

    def wait(self):
        """The slot of the next request that is done, which must have succeeded."""
        deadline = time.monotonic() + self.timeout
        while struct.unpack_from("<H", self.memory, USED + 2)[0] == self.seen:
            assert time.monotonic() < deadline, "a request isn't answered"
            time.sleep(0.0001)
        head = struct.unpack_from("<I", self.memory, USED + 4 + 8 * (self.seen % SIZE))[0]
        self.seen = self.seen + 1 & 0xFFFF
        slot = head // 4
        assert self.memory[HEADS + slot * 64 + 32] == 0, f"status {self.memory[HEADS + slot * 64 + 32]}"
        self.free.append(slot)
        return slot

    def data(self, slot, length):
        return self.memory[DATA + slot * SLOT : DATA + slot * SLOT + length]
