# SPDX-License-Identifier: MIT
"""The parts of the benchmark: what each measures, and what it shall show."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from images import create
from rows import Goal, Row, print_row
from subjects import Failed, Raw, load, run

HERE = Path(__file__).resolve().parent
GIB = 1 << 30


# ---- over a socket ----

def served(bench, protocol, name, image, goals=(), direct=False, warm=True, note="", **settings):
    """image(subject): its file, new for each run or not. warm: reads all of it through the server first."""
    settings = {"disk": bench.images.size, **settings, "requests": bench.count(settings["requests"])}

    def sample(subject):
        with subject.serve(protocol, image(subject), bench.folder / "socket", direct) as server:
            if warm:
                load(bench.client, protocol, server, disk=settings["disk"], requests=512, depth=16, order="stride",
                     step=settings["disk"] // 512)
            return load(bench.client, protocol, server, **settings)

    bench.measure(Row(protocol, name, goals, note), [bench.corral, *bench.qemu], sample)


def copy_of(bench, name, source):
    return lambda subject: bench.images.own(subject.name, name, source())


def new(bench, size, *options, backing=None):
    def make(subject):
        path = bench.folder / f"{subject.name}-new.qcow2"
        path.unlink(missing_ok=True)
        return create(path, size, *options, backing=backing() if backing else None)
    return make


WARM = [Goal("rate", least=1.3, of="qemu"), Goal("cpu_us", most=0.7, of="qemu")]


def in_place(bench, protocol):
    full = copy_of(bench, "full", bench.images.full)
    for direct in (False, True):
        how = "O_DIRECT" if direct else "page cache"
        n = 40000 if direct else 120000
        served(bench, protocol, f"random reads 4k, depth 1, {how}", full, direct=direct, depth=1, requests=n // 4)
        served(bench, protocol, f"random reads 4k, depth 32, {how}", full, WARM, direct, depth=32, requests=n)
        served(bench, protocol, f"overwrites 4k, depth 32, {how}", full, WARM, direct, depth=32, requests=n // 3, reads=0)
    served(bench, protocol, "70 % reads, 30 % writes 4k, depth 32", full, depth=32, requests=40000, reads=70)


def allocating(bench, protocol):
    fresh = {"depth": 32, "reads": 0, "order": "stride", "warm": False}
    size = bench.images.size
    served(bench, protocol, "allocating writes 4k, depth 32", new(bench, 8 * GIB), [Goal("rate", least=3, of="qemu")],
           disk=8 * GIB, requests=40000, **fresh)
    served(bench, protocol, "allocating writes 4k, depth 32, O_DIRECT", new(bench, 8 * GIB),
           [Goal("rate", least=3, of="qemu")], True, disk=8 * GIB, requests=24000, **fresh)
    most = size >> 16
    served(bench, protocol, "allocating writes 4k over a backing file, depth 32",
           new(bench, size, backing=bench.images.full), [Goal("rate", least=1.5, of="qemu")],
           requests=min(12000, most), **fresh)
    served(bench, protocol, "allocating writes 4k with subclusters over a backing file, depth 32",
           new(bench, size, "-o", "extended_l2=on", backing=bench.images.full), [Goal("rate", least=1.5, of="qemu")],
           requests=min(16000, most), **fresh)


def syncs(bench, protocol):
    full = copy_of(bench, "full", bench.images.full)
    served(bench, protocol, "4k write + flush in place, depth 1", full, [Goal("rate", least=1.0, of="qemu")],
           depth=1, requests=4000, reads=0, sync=1)
    served(bench, protocol, "4k write + flush allocating, depth 1", new(bench, 8 * GIB),
           [Goal("rate", least=1.5, of="qemu")], depth=1, requests=2000, reads=0, sync=1, disk=8 * GIB, order="stride",
           warm=False)


def sequential(bench, protocol):
    full = copy_of(bench, "full", bench.images.full)
    big = {"bytes": 1 << 20, "depth": 16, "order": "sequential"}
    served(bench, protocol, "sequential reads 1 MiB, depth 16", full, requests=4096, **big)
    served(bench, protocol, "sequential writes 1 MiB, allocating, depth 16", new(bench, 8 * GIB), requests=2048, reads=0,
           disk=8 * GIB, warm=False, **big)


def part_nbd(bench):
    """Over NBD: reads, overwrites, allocating writes, flushes, sequential, mixed"""
    in_place(bench, "nbd")
    allocating(bench, "nbd")
    syncs(bench, "nbd")
    sequential(bench, "nbd")


def part_vhost(bench):
    """Over vhost-user-blk: the same, but for flushes, which QEMU's daemon doesn't offer there"""
    in_place(bench, "vhost")
    allocating(bench, "vhost")


def part_compressed(bench):
    """Compressed images over NBD: sequential and random reads"""
    for kind in ("zlib", "zstd"):
        def image(_, kind=kind):
            return bench.images.compressed(kind)
        served(bench, "nbd", f"{kind}: sequential reads 4k, depth 8", image, [Goal("rate", least=8, of="qemu")],
               warm=False, depth=8, requests=20000, order="sequential")
        served(bench, "nbd", f"{kind}: random reads 4k, depth 8", image,
               [Goal("rate", least=1.3, of="qemu")] if kind == "zstd" else [], warm=False, depth=8, requests=10000)


def part_chain(bench):
    """Reads through 1, 8 and 64 layers over NBD"""
    for length in (1, 8, 64):
        served(bench, "nbd", f"random reads 4k, depth 32, chain of {length}",
               lambda _, length=length: bench.images.chain(length), depth=32, requests=40000)
    one, many = bench.rows[-3], bench.rows[-1]
    compared = Row("nbd", "chain of 64 beside a chain of 1", [Goal("ratio", least=0.8)])
    for subject, figures in many.medians().items():
        if subject in one.medians():
            compared.add(subject, {"ratio": figures["rate"] / one.medians()[subject]["rate"]})
    bench.add(compared)


# ---- in process ----

def part_process(bench):
    """In process: corral bench, qemu-img bench, and fio on the raw file"""
    subjects = [bench.corral, *bench.qemu] + ([Raw()] if shutil.which("fio") else [])
    disk = bench.images.size
    step = 4096 * 100003 % disk  # odd, so that no place comes twice

    def image(subject, write):
        if subject.name == "raw":
            return bench.images.raw()
        return bench.images.own(subject.name, "full", bench.images.full()) if write else bench.images.full()

    for direct in (True, False):
        for write in (False, True):
            for depth in (1, 32):
                n = bench.count((20000 if depth == 1 else 80000) // (2 if write else 1) * (1 if direct else 2))
                what = {"requests": n, "depth": depth, "write": write, "step": step, "disk": disk}
                goals = [Goal("rate", least=0.9, of="raw")] if depth == 32 else []
                bench.measure(Row("in process", f"{'overwrites' if write else 'random reads'} 4k, depth {depth}, "
                                  f"{'O_DIRECT' if direct else 'page cache'}", goals), subjects,
                              lambda s, what=what, direct=direct, write=write: s.bench(image(s, write), what, direct))


# ---- commands ----

def part_tools(bench):
    """create and open of 1 TiB, memory of a mapped 1 TiB"""
    subjects = [bench.corral, *bench.qemu]
    path = bench.folder / "created.qcow2"

    def created(subject):
        path.unlink(missing_ok=True)
        return bench.timed(subject.tool("create", "-q", "-f", "qcow2", path, "1T"))

    bench.measure(Row("tools", "create of 1 TiB"), subjects, created)
    bench.measure(Row("tools", "create of 1 TiB, metadata preallocated", [Goal("seconds", most=1, of="qemu")]), subjects,
                  lambda s: bench.timed(s.tool("create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", path.with_suffix(
                      f".{s.name}"), "1T")))
    image = bench.images.mapped(1 << 40)
    bench.measure(Row("tools", "a process that does nothing but start and end"), subjects,
                  lambda s: bench.timed(s.tool("--version")))
    bench.measure(Row("tools", "a process that opens and closes a mapped 1 TiB image"), subjects,
                  lambda s: bench.timed(s.tool("bench", "-f", "qcow2", "-c", "0", image)))
    started, opened = (row.medians() for row in bench.rows[-2:])
    row = Row("tools", "open and close of a mapped 1 TiB image", [Goal("seconds", most=0.005), Goal("rss", most=8)],
              "the second of these less the first")
    for subject in opened.keys() & started.keys():
        row.add(subject, {f: max(opened[subject][f] - started[subject][f], 0) for f in ("seconds", "rss")})
    bench.add(row)
    served(bench, "nbd", "random reads 4k of a mapped 1 TiB, depth 32", lambda _: image, [Goal("rss", most=32)],
           depth=32, requests=100000, disk=1 << 40)


# ---- programs of their own ----

def figures_of(command, name, bench, **environment):
    """What a script writes to $JSON."""
    out = bench.folder / f"{name}.json"
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False,
                          env={**os.environ, "JSON": str(out), "ROUNDS": str(bench.rounds_now()), **environment})
    if done.returncode != 0:
        raise Failed(done.stderr[-300:] or f"status {done.returncode}")
    return json.loads(out.read_text())


def scripted(bench, part, command, table, **environment):
    """table: (name, figure, Corral's key, QEMU's key or None, goals)"""
    try:
        figures = figures_of(command, part, bench, **environment)
    except (Failed, OSError, ValueError, subprocess.TimeoutExpired) as e:
        row = Row(part, part)
        row.fail("corral", e)
        bench.add(row)
        return
    for name, figure, ours, theirs, goals in table:
        row = Row(part, name, goals)
        for subject, key in (("corral", ours), ("qemu", theirs)):
            if key and key in figures:
                row.add(subject, {figure: figures[key]["median"]})
        bench.add(row)


def part_metadata(bench):
    """Cold metadata on storage that takes 2 ms; what waits for what"""
    parked = [(f"a cached reader while another request waits 1.5 s: {name}", "ms", f"victim-{name}",
               f"qemu-victim-{name}", [Goal("ms", most=10)])
              for name in ("l2-slice-load", "refcount-block-load", "l2-table-made", "l1-growth")]
    scripted(bench, "metadata", ["bash", HERE / "metadata.sh", bench.programs / "bench-metadata"], [
        ("cold 4k reads, depth 32", "rate", "cold-reads-depth-32", "qemu-cold-reads-depth-32",
         [Goal("rate", least=10, of="qemu")]),
        ("cold 4k reads, depth 32, % of the ideal", "rate", "cold-reads-of-ideal", None, [Goal("rate", least=85)]),
        ("new L2 tables, depth 32", "rate", "new-tables-depth-32", "qemu-new-tables-depth-32",
         [Goal("rate", least=10, of="qemu")]), *parked])


def part_snapshot(bench):
    """A snapshot of a mapped 1 TiB under load, beside qemu-img's of one that nobody uses"""
    rows = [(f"{size}: {action}", "ms", f"{size}-{action}", f"qemu-{size}-{action}",
             [Goal("ms", most=0.2, of="qemu")] if size == "1T" else [])
            for size in ("64G", "1T") for action in ("create", "delete")]
    rows += [(f"1T: longest {kind} during {action}", "ms", f"1T-{action}-longest-{kind}", None, [])
             for action in ("before", "create", "delete") for kind in ("read", "write")]
    scripted(bench, "snapshot", ["bash", HERE / "snapshot.sh", bench.programs / "bench-snapshot"], rows,
             ROUNDS=str(min(bench.rounds_now(), 3)))


def part_jitter(bench):
    """How long the event loop is busy, and what a cached reader sees, while something else goes on"""
    for _ in range(bench.rounds_now()):
        said = run([bench.programs / "bench-jitter", bench.folder / "jitter.qcow2"])
        for line in said.splitlines():
            name, loop, p50, p999, longest = line.split()
            row = next((r for r in bench.rows if r.part == "jitter" and r.name == name), None)
            if not row:
                row = Row("jitter", name, [Goal("loop_ms", most=1)])
                bench.rows.append(row)
            row.add("corral", {"loop_ms": float(loop), "p50": float(p50), "p99.9": float(p999), "max": float(longest)})
    for row in bench.rows:
        if row.part == "jitter":
            print_row(row)


def part_check(bench):
    """corral check beside qemu-img check"""
    try:
        said = figures_of([sys.executable, "-B", HERE / "check.py", bench.corral.corral], "check", bench)
    except (Failed, OSError, ValueError, subprocess.TimeoutExpired) as e:
        row = Row("check", "check of 1 TiB")
        row.fail("corral", e)
        bench.add(row)
        return
    row = Row("check", "check of a mapped 1 TiB", [Goal("seconds", most=1, of="qemu")])
    for subject, (wall, cpu, rss) in said["medians"].items():
        row.add("qemu" if subject == "qemu-img" else subject, {"seconds": wall, "cpu": cpu, "rss": rss})
    bench.add(row)


def part_convert(bench):
    """convert beside qemu-img's, if its script is there"""
    script = HERE / "convert.py"
    if script.exists():
        done = subprocess.run([sys.executable, "-B", script, bench.corral.corral], timeout=900, check=False,
                              env={**os.environ, "ROUNDS": str(bench.rounds_now()), "JSON": str(bench.folder / "convert.json")})
        row = Row("convert", "convert", note="its own table is above")
        if done.returncode != 0:
            row.fail("corral", f"status {done.returncode}")
        bench.add(row)


PARTS = {name.partition("_")[2]: function for name, function in list(globals().items()) if name.startswith("part_")}
QUICK = ("nbd", "process", "tools")
