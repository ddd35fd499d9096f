"""Page of the benchmark on Schwingbach."""

from __future__ import annotations

import numpy as np
from _schwingbach_column import FACES
from _schwingbach_data import LATE, PERIODS, SIGMA, SUDDEN
from _schwingbach_report import autumn, choice, filling, gauges, known, lag_table, limits, networks, unseen
from _schwingbach_runs import COLUMNS, WIDTHS, mean
from _schwingbach_scores import SKIP
from _soils_report import flowed

TITLE = "Soil curves in the field: Schwingbach"


def body(kept: dict) -> str:
    first, valid, last = (" to ".join(PERIODS[n]) for n in PERIODS)
    stored, good = kept["clock"]["as stored"]["misfit"], kept["columns"]["tried"]["two soils"]["misfit"]
    silent = ", ".join(t[:16] for t in kept["clock"]["silent"])
    faces = " and ".join(f"{d:g}" for d in FACES["three soils"])
    return flowed(f"""Curves of soils from three probes of water content and a rain gauge, with nothing else known: no
texture, no head, no state at the start. Fitted from {first}, chosen on {valid}, then fitted to both; tested on {last}.
These are autumns and winters, in which roots hardly matter. Readings are means of three hours; sigma is {SIGMA:g}. All
three years had been looked at as curves before; nothing was scored on the last autumn before every choice was made.

### The clock of a probe

Rises of water content follow those of rain by these hours (largest correlation, and without a lag):

{lag_table(kept["clock"])}

The probe at 25 cm reads what happens {LATE} hours before it does, in almost every month of three years: its clock is
put right by {LATE} hours. With the clock as stored, the same column fits with chi2 / N {stored:.2f} in place of
{good:.2f}. One hour of rain is taken out ({silent}): more than {SUDDEN / 24:g} mm between dry hours, which no probe
felt. (The rule is for all years, and finds nothing in the last autumn.)

### The column

One metre, free drainage, measured rain, PET by Priestley and Taylor, no factor on either. Soils meet midway between
probes, at {faces} cm (two soils: at the first). RMSE in 1e-3, predictions from the first readings of the validation
period on (days {SKIP} and later):

{choice(kept)}

The {kept["forms"]["class"]} is the texture class that does best there; the best column and the widths of priors are
those with the least mean error. {limits(kept)}

### What is known, and what is not

{gauges(kept)}

{known(kept)}

### Networks between the probes

{networks(kept)}

### 25 cm filled in

{filling(kept)}

### 25 cm never seen

{unseen(kept)}

### The last autumn

{autumn(kept)}

![Schwingbach](pinn_schwingbach.png)

{verdict(kept)}

Processor time: {", ".join(f"{n} {v['seconds']:.0f} s" for n, v in kept.items() if v["seconds"])}.""")


def verdict(kept: dict) -> str:
    def best(scores: dict, value) -> str:
        return min(scores, key=value)

    fill = best(kept["fill"]["scores"], lambda n: np.median([s["rmse"][0] for s in kept["fill"]["scores"][n]]))
    depths = {n: r for n, r in kept["depth"].items() if n != "seconds"}
    deep = best(depths, lambda n: depths[n]["last autumn"]["rmse"][0])
    season = best(kept["season"]["scores"], lambda n: mean(kept["season"]["scores"][n]))
    tried = len(COLUMNS) + len(WIDTHS)
    filled = {n: 1e3 * np.median([s["rmse"][0] for s in each]) for n, each in kept["fill"]["scores"].items()}
    free = min((n for n in filled if len(kept["fill"]["scores"][n]) == 1), key=filled.get)
    return f"""**Best in the last autumn**: 25 cm filled in by {fill} ({filled[fill]:.1f}; of what costs nothing {free},
{filled[free]:.1f}); 25 cm never seen by {deep}; the three probes by {season}. {tried} columns were tried on validation.
Networks were not: their window and width were taken by how well they fit probes within the first period (all of it at
once, 56 days, leaves 6 to 12 at width 16)."""
