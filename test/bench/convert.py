#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""convert.py CORRAL [--json FILE] [--rounds N] [--size MIB] [--only WORD] [--dir DIR]: convert beside qemu-img's.

Each conversion is done by `qemu-img convert -W -m 16` and by `corral convert`, in turns; medians of wall clock, processor
time, largest resident set and size of the result, and how many times as much qemu-img's are. Neither waits for the disk:
that is the default of both, and what was written is on it before the next one begins. Both have read the source before. A
third of the data is text, a third is binary, the rest is noise, holes and zeros. Needs qemu-img.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

MIB = 1 << 20
ZSTD = ["-o", "compression_type=zstd"]
# Name, source, format of the target, further options.
CASES = [
    ("raw to qcow2", "raw", "qcow2", []),
    ("raw to raw", "raw", "raw", []),
    ("qcow2 to qcow2", "qcow2", "qcow2", []),
    ("qcow2 to raw", "qcow2", "raw", []),
    ("raw to zlib", "raw", "qcow2", ["-c"]),
    ("raw to zstd", "raw", "qcow2", ["-c", *ZSTD]),
    ("zlib to raw", "zlib", "raw", []),
    ("zstd to raw", "zstd", "raw", []),
    ("1 TiB with little in it, to qcow2", "sparse", "qcow2", []),
    ("1 TiB with little in it, to raw", "sparse", "raw", []),
]
FIGURES = ("seconds", "processor-seconds", "resident-mib", "result-mib")


def text(chance):
    words = [bytes(chance.choices(range(97, 123), k=chance.randint(3, 9))) for _ in range(2000)]
    return b" ".join(chance.choices(words, k=200000))[:MIB]


def binary(chance):
    noise = chance.randbytes(MIB // 2)
    return b"".join(noise[i : i + 32] + bytes(32) for i in range(0, MIB // 2, 32))


def fill(path, mebibytes):
    """The same for everybody, at any time."""
    chance = random.Random(1)
    kinds = [text, text, text, binary, binary, binary, lambda c: c.randbytes(MIB), lambda c: bytes(MIB), None]
    with open(path, "wb") as out:
        for i in range(mebibytes):
            kind = kinds[i % len(kinds)]
            if kind:
                out.seek(i * MIB)
                out.write(kind(chance))
        out.truncate(mebibytes * MIB)


def qemu(*command):
    subprocess.run(["qemu-img", *command], check=True, stdout=subprocess.DEVNULL)


def sources_make(folder, mebibytes):
    made = {name: os.path.join(folder, name) for name in ("raw", "qcow2", "zlib", "zstd", "sparse")}
    filler = os.fork()  # what is measured begins with the memory of this process
    if filler == 0:
        fill(made["raw"], mebibytes)
        os._exit(0)
    os.waitpid(filler, 0)
    qemu("convert", "-f", "raw", "-O", "qcow2", made["raw"], made["qcow2"])
    qemu("convert", "-f", "raw", "-O", "qcow2", "-c", "-W", "-m", "16", made["raw"], made["zlib"])
    qemu("convert", "-f", "raw", "-O", "qcow2", "-c", *ZSTD, "-W", "-m", "16", made["raw"], made["zstd"])
    qemu("create", "-q", "-f", "qcow2", made["sparse"], "1T")
    writes = [word for i in range(32) for word in ("-c", f"write -P {i + 1} {i * 31 + 3}G 64k")]
    subprocess.run(["qemu-io", "-f", "qcow2", *writes, made["sparse"]], check=True, stdout=subprocess.DEVNULL)
    return made


def measure(command, target):
    if os.path.exists(target):
        os.unlink(target)
    os.sync()
    begin = time.monotonic()
    child = subprocess.Popen(command)
    _, status, usage = os.wait4(child.pid, 0)
    took = time.monotonic() - begin
    if status != 0:
        sys.exit(f"{' '.join(command)} ended with status {os.waitstatus_to_exitcode(status)}")
    size = os.stat(target).st_blocks * 512 / MIB
    return took, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, size


def compare(corral, case, sources, folder, rounds):
    _, source, target_format, options = case
    target = os.path.join(folder, "target")
    common = ["-f", "raw" if source == "raw" else "qcow2", "-O", target_format, *options, sources[source], target]
    commands = {
        "qemu-img": ["qemu-img", "convert", "-W", "-m", "16", *common],
        "corral": [corral, "convert", *common],
    }
    figures = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            figures[name].append(measure(command, target))
    return {name: dict(zip(FIGURES, map(statistics.median, zip(*runs)))) for name, runs in figures.items()}


def show(name, medians):
    theirs, ours = medians["qemu-img"], medians["corral"]
    print(name)
    for who, of in medians.items():
        print(f"   {who:9} {of['seconds']:7.3f} s   {of['processor-seconds']:7.3f} s of processor"
              f"   {of['resident-mib']:6.1f} MiB resident   {of['result-mib']:8.1f} MiB written")
    times = {figure: theirs[figure] / max(ours[figure], 1e-9) for figure in FIGURES}
    print(f"   qemu-img / corral: {times['seconds']:.2f} x time, {times['processor-seconds']:.2f} x processor, "
          f"{times['resident-mib']:.2f} x memory, {times['result-mib']:.2f} x size", flush=True)
    return times


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("corral")
    parser.add_argument("--json", default=os.environ.get("JSON"))
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS", "5")))
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--only", default="")
    parser.add_argument("--dir", default=os.environ.get("TMPDIR", "/var/tmp"))
    args = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory(prefix="corral-bench.", dir=args.dir) as folder:
        sources = sources_make(folder, args.size)
        for case in CASES:
            if args.only in case[0]:
                medians = compare(os.path.abspath(args.corral), case, sources, folder, args.rounds)
                results[case[0]] = {**medians, "ratios": show(case[0], medians)}
    if args.json:
        with open(args.json, "w", encoding="utf-8") as out:
            json.dump({"cases": results, "rounds": args.rounds, "mebibytes": args.size}, out, indent=1)


if __name__ == "__main__":
    main()
