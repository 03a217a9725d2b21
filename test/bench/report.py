# SPDX-License-Identifier: MIT
"""The report as one HTML page: tables, bars as SVG, no script, nothing from anywhere else."""

from html import escape

from rows import COLUMNS, verdict

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62em; margin: 2em auto; padding: 0 1em; color: #222; }
h2 { margin-top: 2.2em; border-bottom: 1px solid #ccc; } h3 { margin-bottom: .2em; }
table { border-collapse: collapse; margin: .4em 0; } td, th { padding: .15em .9em .15em 0; text-align: right; }
td:first-child, th:first-child { text-align: left; } .ok { color: #17702f; } .missed { color: #b3261e; font-weight: 600; }
.note { color: #666; } svg { display: block; } svg text { font: 12px system-ui, sans-serif; fill: #222; }
"""
COLOURS = {"corral": "#2457a6", "raw": "#8a8a8a"}
QEMU_COLOUR = "#d98324"


def bars(medians, figure, title):
    """One bar for each subject."""
    values = [(name, m[figure]) for name, m in medians.items() if figure in m]
    most = max((v for _, v in values), default=0)
    if most <= 0:
        return ""
    lines = [f'<svg width="620" height="{22 * len(values) + 4}" role="img" aria-label="{escape(title)}">']
    for i, (name, value) in enumerate(values):
        width, y = 360 * value / most, 22 * i
        lines.append(f'<text x="0" y="{y + 14}">{escape(name)}</text>'
                     f'<rect x="90" y="{y + 2}" width="{width:.1f}" height="16" fill="{COLOURS.get(name, QEMU_COLOUR)}"/>'
                     f'<text x="{width + 96:.1f}" y="{y + 14}">{value:,.4g} {escape(title)}</text>')
    return "".join(lines) + "</svg>"


def table(medians):
    shown = [c for c in COLUMNS if any(c[0] in m for m in medians.values())]
    head = "".join(f"<th>{escape(title)}</th>" for _, title, _ in shown)
    body = "".join(
        f"<tr><td>{escape(name)}</td>"
        + "".join(f"<td>{form.format(m[f]) if f in m else ''}</td>" for f, _, form in shown) + "</tr>"
        for name, m in medians.items())
    return f"<table><tr><th></th>{head}</tr>{body}</table>"


def goal_line(judged):
    measured = "not measured" if judged["measured"] is None else f"{judged['measured']:.2f}"
    kind = {"ok": "ok", "MISSED": "missed"}.get(verdict(judged), "note")
    return f'<div class="{kind}">{escape(judged["goal"])}: {measured}, {verdict(judged)}</div>'


def section(row):
    medians = row.medians()
    figure, title = next(((f, t) for f, t in (("rate", "requests/s"), ("seconds", "s"), ("ms", "ms"))
                          if any(f in m for m in medians.values())), (None, None))
    parts = [f"<h3>{escape(row.name)}</h3>"]
    if row.note:
        parts.append(f'<div class="note">{escape(row.note)}</div>')
    if figure:
        parts += [bars(medians, figure, title), table(medians)]
    parts += [goal_line(j) for j in row.judged()]
    parts += [f'<div class="missed">{escape(s)} failed: {escape(w)}</div>' for s, w in row.failures.items()]
    return "".join(parts)


def summary(rows):
    lines = []
    for row in rows:
        for judged in row.judged():
            measured = "" if judged["measured"] is None else f"{judged['measured']:.2f}"
            kind = {"ok": "ok", "MISSED": "missed"}.get(verdict(judged), "note")
            lines.append(f"<tr><td>{escape(row.part)}: {escape(row.name)}</td><td>{escape(judged['goal'])}</td>"
                         f'<td>{measured}</td><td class="{kind}">{verdict(judged)}</td></tr>')
    return ("<table><tr><th>what</th><th>goal</th><th>measured</th><th></th></tr>" + "".join(lines) + "</table>"
            if lines else "")


def page(rows, about):
    body = [f"<h1>Corral beside QEMU</h1><p class=note>{escape(about)}</p><h2>Goals</h2>", summary(rows)]
    for part in dict.fromkeys(row.part for row in rows):
        body.append(f"<h2>{escape(part)}</h2>")
        body += [section(row) for row in rows if row.part == part]
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Corral: speed</title><style>{STYLE}</style>' \
           f"<body>{''.join(body)}</body></html>\n"
