#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Corral beside QEMU and the raw file: all take turns, ROUNDS times each; medians and ratios.

usage: bench.py CORRAL PROGRAMS [--parts PART,...] [--quick] [--rounds N] [--out DIR] [--list]

PROGRAMS is the build's folder of bench-load and others. QEMU10 in the environment names a folder in which packages of a
newer QEMU were unpacked; what Corral is held against is whichever QEMU is better. Writes report.html and report.json to
DIR, and a table to the terminal. Images lie in TMPDIR (/var/tmp), and want 12 GiB there.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import parts
from images import Images
from report import page
from rows import print_row, verdict
from subjects import Corral, Failed, Qemu, run


class Bench:
    """What the parts need."""

    def __init__(self, args, folder):
        self.quick = args.quick
        self.rounds = args.rounds or (3 if args.quick else 5)
        self.programs = Path(args.programs)
        self.client = self.programs / "bench-load"
        self.folder = folder
        self.images = Images(folder, (1 << 28) if args.quick else (1 << 30))
        self.corral = Corral(Path(args.corral).resolve())
        self.qemu = Qemu.all()
        self.rows = []
        self.begin, self.seconds = time.monotonic(), args.minutes * 60 if args.minutes else 170 if args.quick else 1200

    def rounds_now(self):
        """Fewer where the time runs out."""
        used = (time.monotonic() - self.begin) / self.seconds
        return self.rounds if used < 0.6 else min(self.rounds, 3) if used < 0.9 else 1

    def timed(self, command):
        """What a command needs: seconds, processor seconds, MiB."""
        return json.loads(run([self.programs / "bench-timed", *command]))

    def count(self, requests):
        return requests // 4 if self.quick else requests

    def measure(self, row, subjects, sample):
        """A B A B ...; sample(subject) gives its figures. One that fails isn't asked again."""
        rounds = self.rounds_now()
        if rounds < self.rounds:
            row.note += f"{'; ' if row.note else ''}of {rounds} rounds, for want of time"
        for _ in range(rounds):
            for subject in subjects:
                if subject.name in row.failures:
                    continue
                try:
                    row.add(subject.name, sample(subject))
                except (Failed, OSError, ValueError, KeyError) as e:
                    row.fail(subject.name, e)
        self.add(row)

    def add(self, row):
        self.rows.append(row)
        print_row(row)
        sys.stdout.flush()


def write_report(bench, out, seconds):
    out.mkdir(parents=True, exist_ok=True)
    names = ", ".join(s.name for s in (bench.corral, *bench.qemu))
    about = (f"{names}; Linux {platform.release()}, {os.cpu_count()} processors; medians of {bench.rounds} rounds, "
             f"taking turns{'; quick' if bench.quick else ''}; load average {os.getloadavg()[0]:.1f} at the end, "
             f"{seconds:.0f} s in all")
    (out / "report.json").write_text(json.dumps({"about": about, "rows": [r.as_json() for r in bench.rows]}, indent=1))
    (out / "report.html").write_text(page(bench.rows, about))


def print_goals(rows):
    print("\nGoals")
    for row in rows:
        for judged in row.judged():
            measured = "" if judged["measured"] is None else f"{judged['measured']:.2f}"
            print(f"  {row.part + ': ' + row.name:58} {judged['goal']:28} {measured:>9}  {verdict(judged)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corral")
    parser.add_argument("programs")
    parser.add_argument("--parts", default="")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--minutes", type=float, help="about so long, with fewer rounds towards the end (20; --quick: 3)")
    parser.add_argument("--out", type=Path, default=Path("bench"))
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    if args.list:
        for name, part in parts.PARTS.items():
            print(f"{name:10} {part.__doc__.splitlines()[0]}")
        return
    wanted = args.parts.replace(",", " ").split() or list(parts.QUICK if args.quick else parts.PARTS)
    for name in wanted:
        if name not in parts.PARTS:
            sys.exit(f"there is no part '{name}'; there are: {' '.join(parts.PARTS)}")
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="corral-bench.", dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        bench = Bench(args, Path(folder))
        for name in wanted:
            parts.PARTS[name](bench)
            write_report(bench, args.out, time.monotonic() - begin)
    print_goals(bench.rows)
    print(f"\n{args.out}/report.html, {args.out}/report.json; {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
