"""A report in one HTML file: text, tables and figures, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from udehydro.files import write_atomic

STYLE = """
:root { --ink: #1d2329; --soft: #5b6670; --line: #d9dee3; --tint: #f4f6f8; --accent: #0072B2; }
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; color: var(--ink); margin: 0; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--line); }
p.summary { font-size: 1.1rem; max-width: 46rem; }
p, li { max-width: 50rem; }
nav { color: var(--soft); font-size: .9rem; } nav a { color: var(--accent); margin-right: 1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .75rem 0 1rem; font-variant-numeric: tabular-nums; font-size: .95rem; }
caption { text-align: left; color: var(--soft); padding-bottom: .35rem; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child, td.text { text-align: left; }
thead th { background: var(--tint); border-bottom: 2px solid var(--line); }
td.best { font-weight: 700; }
figure { margin: 1rem 0 1.75rem; } img { max-width: 100%; height: auto; display: block; }
figcaption { color: var(--soft); font-size: .92rem; margin-top: .35rem; max-width: 50rem; }
pre { background: var(--tint); padding: .8rem 1rem; overflow-x: auto; font-size: .88rem; border-radius: 4px; }
@media print { nav { display: none; } figure, table { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str

    def html(self) -> str:
        return f"<p>{escape(self.text)}</p>"


@dataclass(frozen=True)
class Items:
    """A list of sentences."""

    items: Sequence[str]

    def html(self) -> str:
        return "<ul>" + "".join(f"<li>{escape(str(i))}</li>" for i in self.items) + "</ul>" if self.items else ""


@dataclass(frozen=True)
class Code:
    """Commands or settings, as they are."""

    text: str

    def html(self) -> str:
        return f"<pre>{escape(self.text)}</pre>"


@dataclass(frozen=True)
class Table:
    """Rows under headers; numbers are written with ``digits`` decimals, None and NaN as a dash.

    ``best`` holds (row, column) pairs, counted from 0, to be set in bold.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""
    digits: int = 3
    best: frozenset[tuple[int, int]] = frozenset()

    def html(self) -> str:
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        head = "".join(f"<th>{escape(h)}</th>" for h in self.headers)
        rows = "".join(
            "<tr>" + "".join(self._cell(value, (i, j) in self.best) for j, value in enumerate(row)) + "</tr>"
            for i, row in enumerate(self.rows)
        )
        return f'<div class="scroll"><table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'

    def _cell(self, value: object, best: bool) -> str:
        kinds = [kind for kind, on in (("text", isinstance(value, str)), ("best", best)) if on]
        attribute = f' class="{" ".join(kinds)}"' if kinds else ""
        return f"<td{attribute}>{escape(number(value, self.digits))}</td>"


@dataclass(frozen=True)
class Picture:
    """A PNG image with a caption."""

    png: bytes
    caption: str

    def html(self) -> str:
        data = base64.b64encode(self.png).decode()
        text = escape(self.caption)
        return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'


Block = Text | Items | Code | Table | Picture


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Block]


def write_report(path: str | Path, title: str, summary: str, sections: Sequence[Section]) -> Path:
    """Write a self-contained ``report.html``, whole or not at all.

    Everything that is not markup of this module is escaped, so a basin called ``<b>`` shows as such.

    Parameters
    ----------
    path : file to write.
    title, summary : what this is, and what came out, in a sentence or two.
    sections : shown in order, with links to them at the top.
    """
    links = "".join(f'<a href="#s{i}">{escape(s.title)}</a>' for i, s in enumerate(sections))
    body = "".join(
        f'<h2 id="s{i}">{escape(s.title)}</h2>{"".join(block.html() for block in s.blocks)}'
        for i, s in enumerate(sections)
    )
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f'<h1>{escape(title)}</h1><p class="summary">{escape(summary)}</p><nav>{links}</nav>'
        f"{body}</main></body></html>\n"
    )
    write_atomic(path, page)
    return Path(path)


def number(value: object, digits: int = 3) -> str:
    """A number for people: fixed decimals, small ones in powers of ten, a dash where there is none."""
    if value is None or (isinstance(value, float) and value != value):
        return "–"
    if isinstance(value, bool | int | str):
        return str(value)
    value = float(value)
    small = value != 0 and abs(value) < 0.5 * 10**-digits
    return f"{value:.1e}" if small or abs(value) >= 1e6 else f"{value:.{digits}f}"
