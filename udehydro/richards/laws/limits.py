"""What parameters of a soil law may be, and what a wrong one probably is: a value in another unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from torch import Tensor

from udehydro.structure import Range

ABOVE = {"n": 1.0, "C": 1.0}
"""What the formulas of van Genuchten, and of Broadbridge and White, need more than."""
LIKELY = {
    ("theta_r", "1"): ("", ": in per cent?"),
    ("theta_s", "1"): ("", ": in per cent?"),
    ("alpha", "1/cm"): ("", ": in 1/m?"),
    ("n", "1"): (": m = 1 - 1/n in its place?", ""),
    ("Ks", "cm/d"): (": in m/s?", ": in mm/d?"),
    ("entry", "cm"): (": a head? It is a suction, positive", ": in mm?"),
}
"""By name and unit what is likely where a value is too small, and where it is too large."""
NOTHING = ("", "")


class Wrong(NamedTuple):
    """A parameter that is not as it should be: its name, what is said of it, and where (in the shape of its values)."""

    name: str
    text: str
    where: Tensor


def impossible(ranges: Mapping[str, Range], values: Mapping[str, Tensor]) -> Iterator[Wrong]:
    """Parameters with which a law means nothing: not above the zero (or one) that their range stays away from, water
    contents that are not 0 <= theta_r < theta_s <= 1."""
    for name, value in values.items():
        low, small = ranges[name].low, LIKELY.get((name, ranges[name].unit), NOTHING)[0]
        floor = ABOVE[name] if low > ABOVE.get(name, low) else 0.0
        if low > 0.0 and bool((wrong := value <= floor).any()):
            yield Wrong(name, f"has to be above {floor:g}{small}", wrong)
        elif low == 0.0 and bool((wrong := value < 0.0).any()):
            yield Wrong(name, f"has to be zero or more{small}", wrong)
    if "theta_r" in values and "theta_s" in values:
        residual, saturated = values["theta_r"], values["theta_s"]
        if bool((wrong := saturated > 1.0).any()):
            yield Wrong("theta_s", f"has to be at most 1{LIKELY['theta_s', '1'][1]}", wrong)
        if bool((wrong := residual >= saturated).any()):
            yield Wrong("theta_r", "has to be below theta_s", wrong)


def unusual(ranges: Mapping[str, Range], values: Mapping[str, Tensor]) -> Iterator[Wrong]:
    """Parameters outside the range that their law declares."""
    for name, value in values.items():
        low, high, unit = ranges[name].low, ranges[name].high, ranges[name].unit
        below, above = (value < low - 1e-6 * abs(low), value > high + 1e-6 * abs(high))  # fits end at limits, rounded
        for wrong, likely in zip((below, above), LIKELY.get((name, unit), NOTHING), strict=True):
            if bool(wrong.any()):
                yield Wrong(name, f"is outside the usual {low:g} to {high:g} {unit}{likely}", wrong)
