"""Tables as text."""

from __future__ import annotations

from collections.abc import Sequence

from udehydro.report import number


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], digits: int = 3) -> str:
    """Columns as wide as they need to be; text to the left, numbers to the right."""
    cells = [[number(value, digits) for value in row] for row in rows]
    widths = [max(len(h), *(len(row[j]) for row in cells), 0) for j, h in enumerate(headers)]
    left = [all(isinstance(row[j], str) for row in rows) for j in range(len(headers))]

    def line(values: Sequence[str]) -> str:
        padded = (v.ljust(w) if text else v.rjust(w) for v, w, text in zip(values, widths, left, strict=True))
        return "  ".join(padded).rstrip()

    return "\n".join([line(headers), line(["-" * w for w in widths]), *map(line, cells)])


def scores_table(found: dict, most: int = 40) -> str:
    """The scores in the content of ``metrics.json``."""
    columns = [(s, p) for s in ("nse", "kge") for p in ("train", "valid", "test")]
    rows = [
        [basin, name, *(values[p][s] for s, p in columns), values["balance_error_mm"]]
        for basin, variants in found["basins"].items()
        for name, values in variants.items()
    ]
    headers = ["basin", "model", *(f"{s.upper()} {p}" for s, p in columns), "balance [mm]"]
    more = f"\n... and {len(rows) - most} more rows in metrics.json" if len(rows) > most else ""
    return table(headers, rows[:most]) + more
