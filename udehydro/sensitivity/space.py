"""Space: the factors that are varied in a global sensitivity analysis, each over a range, independent of each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from udehydro.balance import Balance
from udehydro.errors import ConfigError
from udehydro.parameters.transforms import from_unit
from udehydro.structure import Range, suggest


@dataclass(frozen=True)
class Space:
    """Independent factors, uniform over their ranges; over the logarithm of those that are logarithmic.

    Points are shares of the ranges, rows of the unit cube (N, K): designs are drawn there, and derivatives are taken
    by them, so that factors of different units can be compared.

    Parameters
    ----------
    ranges : name -> Range.
    """

    ranges: Mapping[str, Range]

    def __post_init__(self):
        wrong = [n for n, r in self.ranges.items() if not isinstance(r, Range)]
        if wrong or not self.ranges:
            raise ConfigError(f"A space needs a Range(low, high, unit) for every factor: {wrong or 'there is none'}.")

    @classmethod
    def of(cls, model: Balance, ranges: Mapping[str, Range] | None = None, *, without: Sequence[str] = ()) -> Space:
        """What the installed laws of a model read, over declared ranges; constants (``fixed``) are left out.

        ``ranges`` replaces declared ranges and adds factors (see :class:`~udehydro.sensitivity.Response`); ``without``
        leaves factors out.
        """
        declared = model.structure.parameters
        chosen = {n: declared[n] for n in model.parameter_names if not declared[n].fixed} | dict(ranges or {})
        for name in without:
            if name not in chosen:
                raise ConfigError(f"'{name}' is no factor that could be left out.{suggest(name, chosen)}")
        return cls({n: r for n, r in chosen.items() if n not in without})

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.ranges)

    def __len__(self) -> int:
        return len(self.ranges)

    def values(self, unit: Tensor) -> dict[str, Tensor]:
        """Points (N, K, *batch) of the unit cube as name -> values (N, *batch) in the units of the ranges."""
        columns = unit.unbind(1)
        return {n: from_unit(u, r) for u, (n, r) in zip(columns, self.ranges.items(), strict=True)}

    def sample(self, count: int, seed: int) -> Tensor:
        """Points (count, K) of a scrambled Sobol sequence; ``count`` is a power of two."""
        from scipy.stats import qmc

        check_power_of_two(count)
        return torch.from_numpy(qmc.Sobol(len(self), seed=seed).random(count))

    def coords(self) -> dict[str, object]:
        """Coordinates of a result: the factors with their ranges."""
        ranges = self.ranges.values()
        described = {"low": [r.low for r in ranges], "high": [r.high for r in ranges]}
        described |= {"unit": [r.unit for r in ranges], "logarithmic": [r.logarithmic for r in ranges]}
        return {"factor": list(self.names)} | {n: ("factor", v) for n, v in described.items()}


def check_power_of_two(samples: int) -> None:
    """The balance of Sobol sequences needs it."""
    if samples < 2 or samples & (samples - 1):
        raise ConfigError(f"Sobol sequences are balanced for 2, 4, 8, ... samples, not {samples}: take a power of two.")
