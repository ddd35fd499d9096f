"""What the clock of the probe at 25 cm does to the measured profile, and how much of the rain probes show by hour."""

from __future__ import annotations

import numpy as np
from _schwingbach_data import DEPTHS, LATE, clocked, lags
from _schwingbach_report import lag_table
from _soil_moisture import LAYERS, METHODS, STORM, TRAIN, at_midnights, unexplained, weather

YEARS = ("2014", "2015", "2016")
LEAST, DRY = 5.0, 24
"""Rain of an event [mm], and hours without rain before and after."""


def lag_by_year() -> str:
    """Hours by which rises follow rain, of the series as stored."""
    return lag_table({"lags": {y: {f"{d:g}": r for d, r in lags(y, y).items()} for y in YEARS}})


def rises(late: int = LATE) -> list[tuple[np.datetime64, float]]:
    """Unexplained rises, the storm not among them."""
    return [(day, more) for day, more in unexplained(late) if str(day) != STORM]


def together(late: int = LATE) -> list[bool]:
    """Whether all three probes rise, on each day of :func:`rises`."""
    rise, days = at_midnights(clocked(late)[list(DEPTHS)].to_numpy()).diff(dim=0), weather(METHODS[0]).time
    on = np.searchsorted(days.astype("datetime64[D]"), [day for day, _ in rises(late)])
    return (rise[on] > 0.0).all(1).tolist()


def events(late: int = LATE) -> np.ndarray:
    """Events of 2014 and 2015 (N, 3), without the storm [mm]: rain; by how much storage by hour then rises at most,
    until half a day after; and how much of that is left one day after the end."""
    table = clocked(late)
    rain = table["rain_mmday"].to_numpy() / 24.0
    water = sum(layer * table[probe].to_numpy() for probe, layer in LAYERS.items())
    begin, end = table.index.searchsorted([TRAIN[0], f"{TRAIN[1]} 23:00"])
    wet, found = np.flatnonzero(rain > 0.0), []
    for hours in np.split(wet, np.flatnonzero(np.diff(wet) > DRY) + 1):
        first, last, total = hours[0], hours[-1], rain[hours].sum()
        stormy = STORM in table.index[hours].strftime("%Y-%m-%d")
        if total < LEAST or stormy or first <= begin or last + DRY > end:
            continue
        before, after = water[first - 1], water[first : last + DRY + 1]
        found.append((total, after[: last - first + DRY // 2 + 1].max() - before, after[-1] - before))
    kept = np.array(found)
    return kept[~np.isnan(kept).any(1)]
