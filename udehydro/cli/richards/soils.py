"""Layers of a soil file: laws and their parameters."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from udehydro.cli.richards.values import choice, number, numbers, only, value
from udehydro.errors import ConfigError
from udehydro.richards import laws
from udehydro.richards.column import Grid, Layer
from udehydro.richards.inversion import Free
from udehydro.settings import text

LAWS = {
    "van_genuchten": laws.VanGenuchten,
    "brooks_corey": laws.BrooksCorey,
    "gardner": laws.Gardner,
    "haverkamp": laws.Haverkamp,
    "haverkamp_log": laws.HaverkampLog,
    "broadbridge_white": laws.BroadbridgeWhite,
}
SPLINE = "spline"
KNOTS = (0.0, 1.0, 1.75, 2.25, 2.75, 3.25, 4.0, 5.0, 8.0)
"""Of a spline, as pF + 1; the first is saturation."""
PRIOR = 1.5
"""How far rises of a spline are likely to be from those of its start: standard deviation of their logarithm."""
OF_LAYER = ("law", "class", "thickness", "specific_storage")
OF_SPLINE = ("knots", "prior")


def grid(given: object, where: str) -> Grid:
    """``{depth:, cells:}``, ``{depth:, first:, ratio:}`` or ``{edges: [0, ...]}``, cm."""
    given = only(given, ("depth", "cells", "first", "ratio", "edges"), where)
    try:
        if set(given) == {"edges"}:
            return Grid(tuple(numbers(given["edges"], f"{where}, edges")))
        if set(given) == {"depth", "cells"}:
            depth, cells = (number(given[n], f"{where}, {n}") for n in ("depth", "cells"))
            return Grid.uniform(depth, cells)
        if set(given) == {"depth", "first", "ratio"}:
            return Grid.graded(*(number(given[n], f"{where}, {n}") for n in ("depth", "first", "ratio")))
    except ConfigError as error:
        raise ConfigError(str(error) if where in str(error) else f"{where}: {error}") from None
    raise ConfigError(f"{where}: give depth and cells; or depth, first and ratio; or edges alone (cm).")


def layers(given: object, where: str) -> tuple[list[Layer], list[dict]]:
    """Layers from the surface down, and the parameters of each."""
    if not isinstance(given, list) or not given:
        raise ConfigError(f"{where}: it has to be a list of layers, each beginning with '- law: van_genuchten'.")
    found = [_layer(one, f"{where}, layer {i}") for i, one in enumerate(given)]
    return [layer for layer, _ in found], [p for _, p in found]


def _layer(given: object, where: str) -> tuple[Layer, dict]:
    given = only(given, None, where)
    name = choice(given.get("law", "van_genuchten"), (*LAWS, SPLINE), f"{where}, law")
    law = laws.VanGenuchten() if name == SPLINE else LAWS[name]()
    more = OF_LAYER + (OF_SPLINE if name == SPLINE else ())
    only(given, (*law.ranges, *more), where)
    p = _class(given, name, where)
    p |= {n: value(v, f"{where}, {n}") for n, v in given.items() if n in law.ranges}
    for n, r in law.ranges.items():
        if n not in p and not r.fixed:
            raise ConfigError(f"{where}: {name} needs '{n}' [{r.unit}]: a number, or {{free: {r.default:g}}}.")
    if name == SPLINE:
        law, p = _spline(law, p, given, where)
    for n, v in p.items():
        if isinstance(v, Free):
            v.within(law.ranges[n], f"{where}, {n}")  # a start outside is said here, with its place
    extra = {n: number(given[n], f"{where}, {n}") for n in ("thickness", "specific_storage") if n in given}
    try:
        return Layer(law, **extra), p
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _class(given: Mapping, name: str, where: str) -> dict[str, float | Free]:
    """Parameters of a texture class, which what is given besides replaces."""
    if "class" not in given:
        return {}
    if name not in ("van_genuchten", SPLINE):
        raise ConfigError(f"{where}: 'class' has parameters of van_genuchten, not of {name}.")
    try:
        return laws.soil_class(text(given["class"], f"{where}, class"))
    except ConfigError as error:
        raise ConfigError(f"{where}, class: {error}") from None


def _spline(start: laws.VanGenuchten, p: Mapping, given: Mapping, where: str) -> tuple[laws.MonotoneSpline, dict]:
    """Curves without a formula that start in the shape of a van Genuchten soil; their rises are free."""
    shape = {n: float(v.start) if isinstance(v, Free) else v for n, v in p.items()}
    if free := [n for n, v in p.items() if isinstance(v, Free) and n not in laws.base.LIMITS]:
        raise ConfigError(f"{where}, {free[0]}: of a spline it is where the search for the shape begins: a number.")
    knots = [0.0, *(k + 1.0 for k in numbers(given["knots"], f"{where}, knots"))] if "knots" in given else KNOTS
    prior = number(given.get("prior", PRIOR), f"{where}, prior", 0.0)
    try:
        law = laws.MonotoneSpline(knots, free="parameters")
        rises = {n: v for n, v in law.imitate(start, shape).items() if n not in laws.base.LIMITS}
        # where the start does not rise at all, below its air entry, its curves stay flat
        flat = {n for n, v in rises.items() if float(v) <= 1.01 * law.ranges[n].low}
        free = {n: float(v) if n in flat else Free(np.asarray(v), prior=prior) for n, v in rises.items()}
    except ConfigError as error:
        raise ConfigError(f"{where}: {error} Knots are given as pF, above -1.") from None
    return law, {n: p[n] for n in laws.base.LIMITS} | free
