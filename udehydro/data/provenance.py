"""The record of what was done to the data: a JSON list of sentences in ``ds.attrs["notes"]``.

A dataset travels through NetCDF, where attributes are plain text or numbers; hence JSON and not a list.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import xarray as xr


def notes(ds: xr.Dataset) -> list[str]:
    """Treatments applied to a dataset so far, oldest first.

    Parameters
    ----------
    ds : Dataset
        A dataset of the data layer; one without notes gives an empty list.

    Returns
    -------
    list of str
    """
    text = ds.attrs.get("notes", "[]")
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        return [str(text)]  # a foreign "notes" attribute: keep its words
    return [str(line) for line in found] if isinstance(found, list) else [str(found)]


def with_notes(ds: xr.Dataset, new: Iterable[str]) -> xr.Dataset:
    """A dataset with further treatments recorded (the input is left alone)."""
    lines = notes(ds)
    lines += [line for line in new if line not in lines]
    return ds.assign_attrs(notes=json.dumps(lines, ensure_ascii=False))


def merge_notes(by_basin: dict[str, list[str]]) -> list[str]:
    """One list of notes for many basins: what holds for several is said once, with the basins named.

    Parameters
    ----------
    by_basin : dict
        Basin id to its notes.

    Returns
    -------
    list of str
    """
    owners: dict[str, list[str]] = {}
    for basin, lines in by_basin.items():
        for line in dict.fromkeys(lines):
            owners.setdefault(line, []).append(basin)
    merged = []
    for line, basins in owners.items():
        if len(basins) == len(by_basin):
            merged.append(line)
        elif len(basins) <= 5:
            merged.append(f"{line} (basin {', '.join(basins)})")
        else:
            merged.append(f"{line} ({len(basins)} basins: {', '.join(basins[:5])}, ...)")
    return merged
