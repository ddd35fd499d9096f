"""Measured soils: retention and conductivity of Swiss forest soils, infiltration from rings in Kenya."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from _report import SHARED

LEAST = 8
"""Heads with a water content that a layer needs."""
LEAST_K = 5
"""Conductivities that a layer needs."""
CM = 100.0
PROFILES = tuple(f"CH{i}" for i in (1, 2, 4, 5, 6, 8, 9, 11, 12, 13, 15, 16, 18, 19, 21, 23))
RISE = 0.002
"""Rise of water content with suction [-] beyond which points count as not monotone."""


@dataclass(frozen=True)
class Soil:
    """A layer: heads [cm] and water contents, heads and conductivities [cm/d], saturated conductivity [cm/d] or NaN."""

    name: str
    profile: str
    psi: np.ndarray
    theta: np.ndarray
    psi_k: np.ndarray
    k: np.ndarray
    ks: float
    porosity: float
    texture: tuple[float, float, float]
    oddities: tuple[str, ...] = field(default=())

    @property
    def flows(self) -> bool:
        return len(self.k) >= LEAST_K


def swiss() -> tuple[list[Soil], Counter]:
    """Layers with enough water contents, and how many were left out, by reason."""
    table = pd.read_csv(folder("swiss-forest-soils") / "retention.csv")
    found, out = [], Counter()
    for name, rows in table.groupby("layer_id", sort=False):
        wet = rows.dropna(subset="theta").sort_values("head")
        heads = wet["head"].nunique()
        if heads < LEAST:
            out["no water content" if heads == 0 else f"5 to {LEAST - 1} heads"] += 1
            continue
        flowing, one = rows.dropna(subset="ku").sort_values("head"), rows.iloc[0]
        soil = Soil(
            name,
            one.profile_id,
            -CM * wet["head"].to_numpy(),
            wet.theta.to_numpy(),
            -CM * flowing["head"].to_numpy(),
            CM * flowing.ku.to_numpy(),
            CM * one.ksat,
            one.porosity,
            (one.clay, one.silt, one.sand),
        )
        found.append(Soil(**(vars(soil) | {"oddities": oddities(soil)})))
    return found, out


def oddities(soil: Soil) -> tuple[str, ...]:
    """What is wrong with a layer's points by themselves."""
    found = []
    content = np.array([soil.theta[soil.psi == s].mean() for s in sorted(set(soil.psi), reverse=True)])
    if (content - np.minimum.accumulate(content)).max() > RISE:
        found.append("content rises with suction")
    if (soil.theta > soil.porosity + 0.02).any():
        found.append("content above porosity")
    if len(soil.k) and (soil.k > soil.ks).any():
        found.append("conductivity above saturated")
    if len(soil.k) and (np.diff(soil.k) > 0.0).any():
        found.append("conductivity rises with suction")
    return tuple(found)


def validation(soils: list[Soil]) -> tuple[list[Soil], list[Soil]]:
    """Layers of every third profile in the order of the file, from the third on, to choose by; and all others."""
    chosen = {p for i, p in enumerate(PROFILES) if i % 3 == 2}
    return [s for s in soils if s.profile in chosen], [s for s in soils if s.profile not in chosen]


@dataclass(frozen=True)
class Ring:
    """A run of an infiltrometer: time [min] and what went in since the start [cm]; ``summed`` is the column Cumrate."""

    plot: str
    time: np.ndarray
    volume: np.ndarray
    summed: np.ndarray

    @property
    def split(self) -> float:
        """Time [min] up to which it is fitted: the last third is held out."""
        return 2.0 / 3.0 * self.time[-1]


def kenya() -> list[Ring]:
    """All runs. ``Rate`` is read as cm/min over the step that ends at ``Time``; see :func:`evidence`."""
    table, found = pd.read_csv(folder("infiltration-kenya") / "infiltration.csv"), []
    for plot, rows in table.groupby("PlotNo", sort=False):
        time, rate = rows.Time.to_numpy(), rows.Rate.to_numpy()
        found.append(Ring(plot, time, (rate * np.diff(time, prepend=0.0)).cumsum(), rows.Cumrate.to_numpy()))
    return found


def evidence() -> dict[str, float]:
    """What tells which of the two columns of infiltration is right, over all plots."""
    table = pd.read_csv(folder("infiltration-kenya") / "infiltration.csv")
    table["step"] = table.groupby("PlotNo").Time.diff().fillna(table.Time)
    added = table.groupby("PlotNo").Cumrate.diff().fillna(table.Cumrate)
    long = table.step > 1.5
    depth = table.Rate * table.step
    whole = lambda x: (x / 0.1 - (x / 0.1).round()).abs() < 0.02  # noqa: E731
    jumps, steps = [], []
    for _, rows in table.groupby("PlotNo"):
        rate, step = rows.Rate.to_numpy(), rows.step.to_numpy()
        for i in np.flatnonzero(np.diff(step) > 0.5) + 1:
            if 3 <= i <= len(rate) - 3:
                jumps.append(np.log(rate[i : i + 3].mean() / rate[i - 3 : i].mean()))
                steps.append(np.log(step[i] / step[i - 1]))
    return {
        "rows": len(table),
        "long": int(long.sum()),
        "summed without step": float(((added - table.Rate).abs() < 1e-4).mean()),
        "depth to a millimetre": float(whole(depth[long]).mean()),
        "rate to a millimetre": float(whole(table.Rate[long]).mean()),
        "jump": float(np.median(jumps)),
        "step": float(np.median(steps)),
        "jumps": len(jumps),
    }


def folder(name: str):
    path = SHARED / name
    if not path.exists():
        raise SystemExit(f"This benchmark needs the data in {path}, which are not there.")
    return path
