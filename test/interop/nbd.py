# SPDX-License-Identifier: MIT
"""A small NBD client for the tests: it does what well-behaved clients don't, such as leaving requests unanswered.

Source: doc/proto.md of the NetworkBlockDevice project, newstyle negotiation; simple, structured
and extended replies.
"""

import socket
import struct

NBD_MAGIC, IHAVEOPT, OPTION_REPLY = b"NBDMAGIC", b"IHAVEOPT", 0x3E889045565A9
REQUEST, REPLY, CHUNK = 0x25609513, 0x67446698, 0x668E33EF
EXTENDED_REQUEST, EXTENDED_CHUNK = 0x21E41C71, 0x6E8A278C
OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_INFO, OPT_GO, OPT_STRUCTURED = 1, 2, 3, 6, 7, 8
OPT_STARTTLS, OPT_LIST_META, OPT_SET_META, OPT_EXTENDED = 5, 9, 10, 11
ERR_UNSUP, ERR_POLICY, ERR_INVALID, ERR_TLS_REQD, ERR_UNKNOWN, ERR_EXT_HEADER_REQD = (
    1 << 31 | n for n in (1, 2, 3, 5, 6, 10)
)
ACK, REPLY_INFO, INFO_EXPORT = 1, 3, 0
READ, WRITE, DISCONNECT, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS = range(8)
FLAG_FUA, FLAG_NO_HOLE, FLAG_DF, FLAG_REQ_ONE, FLAG_FAST_ZERO, FLAG_PAYLOAD = 1, 2, 4, 8, 16, 32
NONE, OFFSET_DATA, OFFSET_HOLE, STATUS, STATUS_EXT, ERROR = 0, 1, 2, 5, 6, 1 << 15 | 1
HAS_FLAGS, READ_ONLY, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES, CAN_MULTI_CONN = 1, 2, 4, 8, 32, 64, 256


class Gone(Exception):
    """The server closed the connection."""


class Client:
    def __init__(self, path, timeout=20, handshake=True):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self.handle = 0
        if handshake:
            self.greet()
            self.go()

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as e:
            raise Gone from e

    def receive(self, length):
        parts = []
        while length:
            try:
                part = self.socket.recv(length)
            except ConnectionResetError:
                part = b""
            if not part:
                raise Gone
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def close(self):
        self.socket.close()

    def greet(self):
        magic, option_magic, flags = struct.unpack(">8s8sH", self.receive(18))
        assert (magic, option_magic) == (NBD_MAGIC, IHAVEOPT), (magic, option_magic)
        assert flags & 1, "not fixed newstyle"
        self.send(struct.pack(">I", flags & 3))

    def option(self, option, data=b"", length=None):
        self.send(struct.pack(">8sII", IHAVEOPT, option, len(data) if length is None else length) + data)

    def option_reply(self):
        magic, option, kind, length = struct.unpack(">QIII", self.receive(20))
        assert magic == OPTION_REPLY, hex(magic)
        return option, kind, self.receive(length)

    def go(self, name=b""):
        self.option(OPT_GO, struct.pack(">I", len(name)) + name + struct.pack(">H", 0))
        while True:
            _, kind, data = self.option_reply()
            if kind == REPLY_INFO and struct.unpack(">H", data[:2])[0] == INFO_EXPORT:
                self.size, self.flags = struct.unpack(">QH", data[2:12])
            elif kind == ACK:
                return
            assert not kind & 1 << 31, f"refused with {kind:#x}: {data!r}"

    def submit(self, command, offset=0, length=0, data=b"", flags=0):
        """Sends a request and doesn't wait; the handle of its reply."""
        self.handle += 1
        self.send(struct.pack(">IHHQQI", REQUEST, flags, command, self.handle, offset, length or len(data)) + data)
        return self.handle

    def reply(self):
        magic, error, handle = struct.unpack(">IIQ", self.receive(16))
        assert magic == REPLY, hex(magic)
        return handle, error

    def wait(self, handles):
        """The error of each."""
        errors, handles = {}, set(handles)
        while handles:
            handle, error = self.reply()
            handles.remove(handle)
            errors[handle] = error
        return errors

    def call(self, command, offset=0, length=0, data=b"", flags=0):
        handle = self.submit(command, offset, length, data, flags)
        error = self.wait([handle])[handle]
        if error:
            raise OSError(error, f"NBD command {command} at {offset:#x}, {length or len(data)} bytes")
        if command == READ:
            return self.receive(length)
        return b""

    def read(self, offset, length):
        return self.call(READ, offset, length)

    def write(self, offset, data, flags=0):
        self.call(WRITE, offset, data=data, flags=flags)

    def flush(self):
        self.call(FLUSH)

    def disconnect(self):
        self.submit(DISCONNECT)
        self.close()


class Chunked(Client):
    """With structured replies, or extended headers; contexts are selected before the export is opened."""

    def __init__(self, path, name=b"", contexts=(), extended=True, timeout=20):
        super().__init__(path, timeout, handshake=False)
        self.extended = extended
        self.greet()
        self.option(OPT_EXTENDED if extended else OPT_STRUCTURED)
        assert self.option_reply()[1] == ACK, "no chunks"
        self.ids = self.meta(OPT_SET_META, name, contexts) if contexts else {}
        self.go(name)

    def meta(self, option, name, queries):
        data = struct.pack(">I", len(name)) + name + struct.pack(">I", len(queries))
        for query in queries:
            data += struct.pack(">I", len(query)) + query
        self.option(option, data)
        found = {}
        while True:
            _, kind, data = self.option_reply()
            if kind == ACK:
                return found
            assert kind == 4, f"refused with {kind:#x}: {data!r}"
            found[data[4:].decode()] = struct.unpack(">I", data[:4])[0]

    def submit(self, command, offset=0, length=0, data=b"", flags=0):
        if not self.extended:
            return super().submit(command, offset, length, data, flags)
        self.handle += 1
        if data:
            flags |= FLAG_PAYLOAD
        head = struct.pack(
            ">IHHQQQ", EXTENDED_REQUEST, flags, command, self.handle, offset, len(data) if data else length
        )
        self.send(head + data)
        return self.handle

    def chunk(self):
        """(last, type, handle, payload)"""
        if self.extended:
            magic, flags, kind, handle, self.chunk_offset, length = struct.unpack(">IHHQQQ", self.receive(32))
            assert magic == EXTENDED_CHUNK, hex(magic)
        else:
            magic, flags, kind, handle, length = struct.unpack(">IHHQI", self.receive(20))
            assert magic == CHUNK, hex(magic)
        return flags & 1, kind, handle, self.receive(length)

    def chunks(self, *request, **kw):
        """All chunks of the reply: (type, payload)"""
        handle, found, last = self.submit(*request, **kw), [], False
        while not last:
            last, kind, got, payload = self.chunk()
            assert got == handle, "somebody else's reply"
            found.append((kind, payload))
            if kind == ERROR:
                raise OSError(struct.unpack(">I", payload[:4])[0], "NBD error")
        return found

    def extents(self, *request, **kw):
        """Of a BLOCK_STATUS: id -> [(length, flags)]"""
        found = {}
        for kind, payload in self.chunks(BLOCK_STATUS, *request, **kw):
            if self.extended:
                assert kind == STATUS_EXT, kind
                ident, count = struct.unpack(">II", payload[:8])
                each = list(struct.iter_unpack(">QQ", payload[8:]))
                assert count == len(each), "a wrong number of descriptors"
            else:
                assert kind == STATUS, kind
                ident = struct.unpack(">I", payload[:4])[0]
                each = list(struct.iter_unpack(">II", payload[4:]))
            assert ident not in found and each, "a context twice, or without extents"
            found[ident] = each
        return found
