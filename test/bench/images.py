# SPDX-License-Identifier: MIT
"""The images that are measured. qemu-img makes them, so that both sides get the same; each side has copies of its own."""

import random
import shutil

from subjects import run

GIB = 1 << 30


def create(path, size, *options, backing=None):
    arguments = [*options, *(["-b", str(backing), "-F", "qcow2"] if backing else [])]
    run(["qemu-img", "create", "-q", "-f", "qcow2", *arguments, str(path), str(size)])
    return path


class Images:
    """In a folder; made when they are first asked for."""

    def __init__(self, folder, size):
        self.folder, self.size = folder, size

    def path(self, name):
        return self.folder / f"{name}.qcow2"

    def raw(self):
        """Data that compresses to about half."""
        path = self.folder / "data.raw"
        if not path.exists():
            source = random.Random(1)
            half = source.randbytes(1 << 19)
            with open(path, "wb") as out:
                for i in range(self.size >> 20):
                    out.write(bytes(x ^ (i & 255) for x in half[:4096]) * 128 + half)
        return path

    def converted(self, name, *options):
        path = self.path(name)
        if not path.exists():
            run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, str(self.raw()), str(path)])
        return path

    def full(self):
        return self.converted("full")

    def compressed(self, kind):
        return self.converted(kind, "-c", "-o", f"compression_type={kind}")

    def chain(self, length):
        """Layers that each have every length-th cluster, over full data: reads go to all of them."""
        top = self.path(f"chain-{length}-{length}")
        if not top.exists():
            below = self.full()
            for i in range(1, length + 1):
                path = create(self.path(f"chain-{length}-{i}"), self.size, backing=below)
                step = max(length, 2) << 16
                run(["qemu-img", "bench", "-q", "-w", "-f", "qcow2", "-s", "65536", "-S", str(step), "-d", "16", "-o",
                     str((i - 1) << 16), "-c", str(self.size // step), str(path)])
                below = path
        return top

    def own(self, subject, name, source):
        """A copy to write to."""
        path = self.folder / f"{subject}-{name}.qcow2"
        if not path.exists():
            shutil.copyfile(source, path)
        return path

    def mapped(self, size):
        path = self.path("mapped")
        if not path.exists():
            create(path, size, "-o", "preallocation=metadata")
        return path
