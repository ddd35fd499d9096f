"""A soil file as a column with its weather and sensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
import typer

from udehydro.cli.richards import ends, soils
from udehydro.cli.richards.sensors import Sensor, observed, sensors
from udehydro.cli.richards.values import number, only
from udehydro.cli.richards.weather import weather
from udehydro.cli.richards.words import told
from udehydro.config import load
from udehydro.errors import ConfigError
from udehydro.forcing import Forcing
from udehydro.richards.column import Adaptive, Column
from udehydro.richards.inversion import Free, Inversion
from udehydro.richards.inversion.setting import Setting, places, setting
from udehydro.richards.inversion.unknowns import Unknowns
from udehydro.structure import suggest

NEEDED = ("grid", "soil", "top", "bottom", "start", "weather")
KNOWN = (*NEEDED, "roots", "sensors", "tolerance")
TOLERANCE = 1e-4
"""Of steps, in water content, where the file gives none."""
BEGIN = "Begin with the file that udehydro richards example DIR writes."
FILE = typer.Argument(..., metavar="SOIL.YAML", help="Soil file; udehydro richards example DIR writes one.")


@dataclass(frozen=True, eq=False)
class Case:
    """What a soil file describes.

    Attributes
    ----------
    column, p, psi0, forcing : as :func:`~udehydro.richards.column.flow` takes them, with Free values.
    sensors : those of the file, none where ``run`` alone reads it.
    notes : what was done to weather and readings.
    """

    path: Path
    column: Column
    p: list[dict]
    psi0: object
    forcing: Forcing
    steps: Adaptive
    sensors: list[Sensor] = field(repr=False)
    notes: list[str] = field(repr=False)

    @property
    def setting(self) -> Setting:
        return setting(self.column, self.p, self.psi0)

    @property
    def free(self) -> bool:
        """Whether something is to be found."""
        return any(isinstance(value, Free) for _, _, value, _, _ in places(self.setting))

    def at(self, values: Mapping[str, float] | None) -> Setting:
        """Numbers in place of what is free: ``values`` by name, by default the starts."""
        if not self.free:
            if values:
                raise ConfigError(f"--parameters: nothing in {self.path} is free: write {{free: start}} there.")
            return self.setting
        unknowns = Unknowns(self.setting, self.forcing, None)
        return unknowns.put(unknowns.start if values is None else _searched(unknowns, values))

    def inversion(self) -> Inversion:
        """What is to be found from the sensors."""
        if not self.free:
            raise ConfigError(f"{self.path}: nothing is to be found: write {{free: start}} in place of a number.")
        if not self.sensors:
            raise ConfigError(f"{self.path}: it has no 'sensors' to learn from.")
        return Inversion(self.column, self.forcing, self.p, self.psi0, observed(self.sensors), steps=self.steps)


def read_case(path: Path, *, with_sensors: bool = True) -> Case:
    """Read a soil file and what it names; nothing in it is executed.

    Raises
    ------
    ConfigError, DataError
        For settings that are unknown, missing or make no sense, and files that cannot be read; names the place.
    """
    given = only(load(path, "soil file", BEGIN), KNOWN, str(path), NEEDED)
    with told(str(path)):
        grid = soils.grid(given["grid"], "grid")
        layers, p = soils.layers(given["soil"], "soil")
        top, bottom = ends.top_and_bottom(given, "")
        column = Column(grid, layers, top, bottom, ends.roots(given.get("roots"), "roots", grid))
        psi0 = ends.start(given["start"], "start", column)
        tolerance = number(given.get("tolerance", TOLERANCE), "tolerance")
        forcing, notes = weather(given["weather"], path.parent, column, "weather")
        found: list[Sensor] = []
        if with_sensors and given.get("sensors") is not None:
            found, more = sensors(given["sensors"], path.parent, forcing.time_edge, "sensors")
            notes = notes + more
        return Case(path, column, p, psi0, forcing, Adaptive(tolerance), found, notes)


def _searched(unknowns: Unknowns, values: Mapping[str, float]) -> torch.Tensor:
    """The search vector (1, P) at values by name."""
    for name in values:
        if name not in unknowns.names:
            raise ConfigError(f"--parameters: '{name}' is nothing free.{suggest(name, unknowns.names)}")
    if missing := [n for n in unknowns.names if n not in values]:
        raise ConfigError(f"--parameters: '{missing[0]}', which is free in the soil file, has no value.")
    row = torch.tensor([values[n] for n in unknowns.names], dtype=torch.float64)
    return torch.cat([u.coordinate.forward(row[u.place]) for u in unknowns.items]).unsqueeze(0)
