"""Text tables (CSV, TSV, semicolons; gzip too): find the layout, then let pandas read."""

from __future__ import annotations

import csv
import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..errors import DataError
from .units import is_unit

SEPARATORS = (",", ";", "\t")
_SNIFF_BYTES = 65536


@dataclass(frozen=True)
class Layout:
    """How a text table is laid out; ``units`` is the row of units below the header, if there is one."""

    separator: str
    skip: int
    headers: tuple[str, ...]
    units: tuple[str, ...] | None
    decimal: str
    encoding: str


def read_text(path: Path) -> tuple[pd.DataFrame, Layout]:
    """A text table as it stands: header texts as columns, nothing converted but plain numbers.

    Raises
    ------
    DataError
        Empty, header only, not text, no known separator, duplicate columns or ragged rows; names the file.
    """
    layout = sniff(path)
    first = layout.skip + 1 + (layout.units is not None)
    try:
        frame = pd.read_csv(
            path,
            sep=layout.separator,
            skiprows=first,
            header=None,
            names=list(layout.headers),
            index_col=False,
            decimal=layout.decimal,
            encoding=layout.encoding,
            low_memory=False,
        )
    except pd.errors.EmptyDataError:
        frame = pd.DataFrame(columns=list(layout.headers))
    except (pd.errors.ParserError, UnicodeDecodeError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: not a regular table: {error}. Every row needs the columns of the header.") from error
    if frame.empty:
        raise DataError(f"{path}: has a header but no rows. Columns: {', '.join(layout.headers)}.")
    return frame, layout


def sniff(path: Path) -> Layout:
    """Separator, header, unit row, decimal mark and encoding from the first lines of a file."""
    lines, encoding = _first_lines(path)
    skip = 0
    while skip < len(lines) and (not lines[skip].strip() or lines[skip].lstrip().startswith("#")):
        skip += 1
    if skip == len(lines):
        raise DataError(f"{path}: the file is empty.")
    header = lines[skip]
    separator = max(SEPARATORS, key=header.count)
    if header.count(separator) == 0:
        raise DataError(
            f"{path}: only one column found, '{header.strip()[:60]}'. "
            "Columns are separated by a comma, a semicolon or a tab; convert the file."
        )
    fields = [f.strip() for f in next(csv.reader([header], delimiter=separator))]
    while fields and fields[-1] == "" and len(fields) > 1:
        fields.pop()  # a separator at the end of the line
    twice = sorted({f for f in fields if fields.count(f) > 1})
    if twice:
        raise DataError(f"{path}: column '{twice[0]}' occurs {fields.count(twice[0])} times. Rename or remove one.")
    below = [next(csv.reader([line], delimiter=separator)) for line in lines[skip + 1 : skip + 3] if line.strip()]
    _require_same_width(path, fields, below)
    units = _unit_row(below[0], len(fields)) if below else None
    sample = below[-1] if below else []
    comma = separator != "," and any("," in f and f.replace(",", "", 1).lstrip("-").isdigit() for f in sample)
    return Layout(separator, skip, tuple(fields), units, "," if comma else ".", encoding)


def _first_lines(path: Path) -> tuple[list[str], str]:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            head = file.read(_SNIFF_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be opened or unpacked ({error}). Is the file complete?") from error
    if not head:
        raise DataError(f"{path}: the file is empty.")
    control = sum(byte < 32 and byte not in (9, 10, 12, 13) for byte in head)
    if control > 0:
        raise DataError(
            f"{path}: not a text table ({control} control bytes at its start). Known: .csv .tsv .txt "
            "(also .gz), .parquet, .nc, .zarr; the suffix has to say which."
        )
    cut = head[: head.rfind(b"\n") + 1] or head
    try:
        text, encoding = cut.decode("utf-8-sig"), "utf-8-sig"
    except UnicodeDecodeError:
        text, encoding = cut.decode("latin-1"), "latin-1"
    return text.splitlines(), encoding


def _require_same_width(path: Path, fields: list[str], below: list[list[str]]) -> None:
    """pandas would quietly drop the surplus fields, or take the first column as an index."""
    for row in below:
        while row and row[-1].strip() == "" and len(row) > len(fields):
            row.pop()
        if len(row) > len(fields):
            raise DataError(
                f"{path}: the header has {len(fields)} columns but a row has {len(row)} "
                f"({', '.join(row[:4])}, ...). "
                "Give every column a name; with decimal commas, separate columns by semicolons."
            )


def _unit_row(row: list[str], width: int) -> tuple[str, ...] | None:
    """The row as units, when most of its fields (the date's left out) are units and none is a number."""
    texts = [f.strip().strip("[]()") for f in row]
    if any(is_number(t) for t in texts):
        return None
    known = sum(is_unit(t) for t in texts)
    return tuple(texts + [""] * (width - len(texts))) if known >= max(1, (width - 1) / 2) else None


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
