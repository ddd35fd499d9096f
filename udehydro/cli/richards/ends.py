"""What happens at the ends of a column, in its root zone, and at the start."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from udehydro.cli.richards.values import choice, number, only, profile, value
from udehydro.data.textfile import is_number
from udehydro.errors import ConfigError
from udehydro.richards import column as c
from udehydro.richards.column import Column, Grid
from udehydro.richards.column.boundary import BOTTOMS, TOPS

NAMES = {
    "head": c.Head,
    "flux": c.Flux,
    "free_drainage": c.FreeDrainage,
    "seepage_face": c.SeepageFace,
    "atmospheric": c.Atmospheric,
    "water_table": c.WaterTable,
}
STARTS = ("psi", "theta", "water_table")


def end(given: object, where: str, kinds: tuple[type, ...]):
    """A boundary, ``{kind: atmospheric, rain: rain, pond: 0.5}``: numbers in cm and d, or columns of the weather."""
    known = [n for n, kind in NAMES.items() if kind in kinds]
    given = only({"kind": given} if isinstance(given, str) else given, None, where, ("kind",))
    kind = NAMES[choice(given["kind"], known, f"{where}, kind")]
    only(given, ("kind", *kind.units), where)
    values = {n: series(v, f"{where}, {n}") for n, v in given.items() if n != "kind"}
    try:
        return kind(**values)
    except TypeError:  # of a boundary that has no default
        raise ConfigError(f"{where}: {given['kind']} needs {', '.join(kind.units)}.") from None


def series(given: object, where: str):
    """A number, a free value, or the name of a column of the weather file."""
    if isinstance(given, str) and not is_number(given):
        return given
    return value(given, where)


def top_and_bottom(given: Mapping, where: str) -> tuple:
    return end(given["top"], f"{where}, top", TOPS), end(given["bottom"], f"{where}, bottom", BOTTOMS)


def roots(given: object, where: str, grid: Grid) -> list:
    """``{transpiration:, depth:}``, with heads of Feddes et al. where they are not the usual ones. Density falls
    linearly to zero at ``depth`` (Prasad 1988)."""
    if given is None:
        return []
    heads = tuple(n for n in c.RootUptake.units if n != "transpiration")
    given = only(given, ("transpiration", "depth", *heads), where, ("transpiration", "depth"))
    depth = number(given["depth"], f"{where}, depth", 0.0)
    share = np.clip(1.0 - grid.depth / max(depth, 1e-9), 0.0, None)
    if not share.any():
        raise ConfigError(f"{where}, depth: {depth:g} cm is above the centre of the first cell, {grid.depth[0]:g} cm.")
    values = {n: series(v, f"{where}, {n}") for n, v in given.items() if n != "depth"}
    return [c.RootUptake(density=torch.as_tensor(share), **values)]


def start(given: object, where: str, column: Column):
    """Heads [cm] or water contents at the start: ``{psi: -100}``, ``{theta: [0.1, 0.3], at: [0, 60]}``, or water at
    rest over a table, ``{water_table: 80}``, its depth in cm."""
    given = only(given, (*STARTS, "at"), where)
    named = [n for n in STARTS if n in given]
    if len(named) != 1:
        raise ConfigError(f"{where}: give one of {', '.join(STARTS)}, such as start: {{psi: -100}}.")
    name = named[0]
    if name == "water_table":
        only(given, ("water_table",), where)
        return column.hydrostatic(number(given[name], f"{where}, {name}"))
    found = profile(given[name], given.get("at"), column.grid.depth, f"{where}, {name}")
    return c.WaterContent(found) if name == "theta" else found
