#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A client of a server that is about to be killed, and the judge of what the disk holds afterwards.

    crash.py run STATE SOCKET SEED [UNIT]   writes, flushes, writes on, and prints a line when the server may be killed
    crash.py judge STATE RAW                RAW, the disk's bytes, must be explained by what was written

Each sector that is written carries the number of its write and its own place, so a sector that holds anything else than
one version of itself is found. A sector may hold what was last flushed, or any later version; the judge then takes what
it finds as the new state.
"""

import os
import pickle
import random
import struct
import sys
import time

from nbd import FLAG_FUA, FLAG_NO_HOLE, FLUSH, TRIM, WRITE, WRITE_ZEROES, Client, Gone

SECTOR = 512
LONGEST = 192 << 10
LONGEST_WAIT = 0.01


def stamp(version, sector):
    return struct.pack("<QQ", version, sector) * (SECTOR // 16)


class State:
    """Per sector the versions that it may hold, 0 for zeros; the first is the durable one."""

    def __init__(self, path):
        self.path = path
        self.version, self.sectors = 0, {}
        if os.path.exists(path):
            self.version, self.sectors = pickle.load(open(path, "rb"))

    def save(self):
        pickle.dump((self.version, self.sectors), open(self.path, "wb"))

    def versions(self, sector):
        return self.sectors.setdefault(sector, [0])

    def write(self, sectors, version):
        for sector in sectors:
            self.versions(sector).append(version)

    def flushed(self):
        """Everything that was answered is durable; it is the caller who knows that nothing is in flight."""
        for versions in self.sectors.values():
            del versions[:-1]


class Run:
    def __init__(self, state, client, seed, unit):
        self.state, self.client, self.unit = state, client, unit
        self.random = random.Random(seed)

    def place(self):
        size, rnd = self.client.size // SECTOR, self.random
        length = rnd.choice([rnd.randint(1, 16), rnd.randint(1, LONGEST // SECTOR), self.unit // SECTOR])
        first = rnd.randrange(size - length)
        if rnd.random() < 0.5:
            first = first // (self.unit // SECTOR) * (self.unit // SECTOR)
        return range(first, min(size, first + length))

    def submit(self, sectors):
        offset, length = sectors.start * SECTOR, len(sectors) * SECTOR
        kind = self.random.choices(["write", "fua", "zero", "no-hole", "trim"], [10, 1, 2, 1, 2])[0]
        if kind in ("write", "fua"):
            self.state.version += 1
            self.state.write(sectors, self.state.version)
            data = b"".join(stamp(self.state.version, s) for s in sectors)
            return self.client.submit(WRITE, offset, data=data, flags=FLAG_FUA if kind == "fua" else 0)
        self.state.write(sectors, 0)
        if kind == "trim":
            return self.client.submit(TRIM, offset, length)
        return self.client.submit(WRITE_ZEROES, offset, length, flags=FLAG_NO_HOLE if kind == "no-hole" else 0)

    def burst(self, count):
        """Requests in flight together touch no sector twice: the last version must be known."""
        handles, taken = [], set()
        for _ in range(count):
            sectors = self.place()
            if taken.isdisjoint(sectors):
                taken.update(sectors)
                handles.append(self.submit(sectors))
        return handles

    def settle(self, handles):
        errors = [e for e in self.client.wait(handles).values() if e]
        if errors:
            sys.exit(f"requests failed: {errors}")

    def trimmed(self):
        """A trim need not zero what is less than a cluster: what such a sector holds is read back, then flushed."""
        for sector, versions in sorted(self.state.sectors.items()):
            if len(versions) > 1 and versions[-1] == 0:
                data = self.client.read(sector * SECTOR, SECTOR)
                found = [v for v in versions if data == (stamp(v, sector) if v else bytes(SECTOR))]
                if not found:
                    sys.exit(f"sector {sector:#x} reads {data[:16].hex()}, none of {versions}")
                versions.append(found[-1])


def run(path, sock, seed, unit=65536):
    state = State(path)
    client = Client(sock)
    work = Run(state, client, int(seed), int(unit))
    rnd = work.random
    for _ in range(3):
        work.settle(work.burst(24))
    work.trimmed()
    client.flush()
    state.flushed()
    # From here on nothing is promised, but everything must be explained.
    for _ in range(rnd.randint(0, 2)):
        work.settle(work.burst(24))
    work.burst(32)
    if rnd.random() < 0.5:
        client.submit(FLUSH)
    state.save()
    time.sleep(rnd.choice([0, rnd.random() * LONGEST_WAIT]))
    print("kill it", flush=True)
    try:
        while True:
            client.reply()
    except Gone:
        pass


def judge(path, raw):
    state = State(path)
    content = open(raw, "rb").read()
    written = state.sectors
    for sector in range(len(content) // SECTOR):
        data = content[sector * SECTOR : (sector + 1) * SECTOR]
        versions = written.get(sector, [0])
        if not any(data):
            found = 0
        else:
            found, where = struct.unpack("<QQ", data[:16])
            if data != stamp(found, where) or where != sector:
                sys.exit(f"sector {sector:#x} holds {data[:16].hex()}: foreign or torn")
        if found not in versions:
            sys.exit(f"sector {sector:#x} holds version {found}, none of {versions} (0: zeros; the first is durable)")
        if sector in written:
            written[sector] = [found]
    state.save()


{"run": run, "judge": judge}[sys.argv[1]](*sys.argv[2:])
