# SPDX-License-Identifier: MIT
"""Rows: what was measured, of whom, and what it shall be. Pure: figures in, judgement out."""

import statistics

LOWER = {"cpu_us", "p50", "p99", "p99.9", "max", "rss", "seconds", "cpu", "ms", "loop_ms"}  # better if lower


class Goal:
    """A figure of Corral's, alone or in relation to somebody's; qemu: whichever version of it is better."""

    def __init__(self, figure, least=None, most=None, of=None):
        self.figure, self.least, self.most, self.of = figure, least, most, of

    def text(self):
        sign, bound = (">=", self.least) if self.least is not None else ("<=", self.most)
        return f"{self.figure} {sign} {bound:g}" + (f" x {self.of}" if self.of else "")

    def judge(self, medians):
        """(measured, met); None where somebody has no such figure."""
        ours = medians.get("corral", {}).get(self.figure)
        value = ours
        if self.of and ours is not None:
            theirs = [m[self.figure] for name, m in medians.items() if name.startswith(self.of) and self.figure in m]
            best = (min if self.figure in LOWER else max)(theirs) if theirs else None
            value = ours / best if best else None
        if value is None:
            return None, None
        return value, value >= self.least if self.least is not None else value <= self.most


class Row:
    def __init__(self, part, name, goals=(), note=""):
        self.part, self.name, self.goals, self.note = part, name, list(goals), note
        self.samples, self.failures = {}, {}

    def add(self, subject, figures):
        for figure, value in figures.items():
            self.samples.setdefault(subject, {}).setdefault(figure, []).append(value)

    def fail(self, subject, why):
        self.failures[subject] = str(why)

    def medians(self):
        return {s: {f: statistics.median(v) for f, v in figures.items()} for s, figures in self.samples.items()}

    def judged(self):
        medians = self.medians()
        for goal in self.goals:
            measured, met = goal.judge(medians)
            yield {"goal": goal.text(), "measured": measured, "ok": met}

    def as_json(self):
        return {"part": self.part, "name": self.name, "note": self.note, "medians": self.medians(),
                "samples": self.samples, "goals": list(self.judged()), "failures": self.failures}


# ---- on a terminal ----

COLUMNS = (("rate", "req/s", "{:,.0f}"), ("cpu_us", "CPU us", "{:.1f}"), ("p50", "p50 us", "{:,.0f}"),
           ("p99", "p99 us", "{:,.0f}"), ("p99.9", "p99.9", "{:,.0f}"), ("max", "max us", "{:,.0f}"),
           ("rss", "MiB", "{:.1f}"), ("loop_ms", "loop ms", "{:.3f}"), ("seconds", "s", "{:.4f}"), ("ms", "ms", "{:.2f}"), ("ratio", "ratio", "{:.2f}"))


def print_row(row):
    print(f"\n{row.part}: {row.name}" + (f"   ({row.note})" if row.note else ""))
    medians = row.medians()
    shown = [c for c in COLUMNS if any(c[0] in m for m in medians.values())]
    if shown:
        print(f"  {'':12}" + "".join(f"{title:>12}" for _, title, _ in shown))
    for subject, figures in medians.items():
        cells = (form.format(figures[f]) if f in figures else "" for f, _, form in shown)
        print(f"  {subject:12}" + "".join(f"{c:>12}" for c in cells))
    for subject, why in row.failures.items():
        print(f"  {subject}: failed: {why}")
    for judged in row.judged():
        measured = "not measured" if judged["measured"] is None else f"{judged['measured']:.2f}"
        print(f"  {judged['goal']:32} {measured:>12}   {verdict(judged)}")


def verdict(judged):
    return {None: "-", True: "ok", False: "MISSED"}[judged["ok"]]
