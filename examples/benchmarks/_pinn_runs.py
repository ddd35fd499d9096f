"""Settings of the forward benchmark of physics-informed networks, and how they are run: ten seeds at once, then one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from _parts import stopwatch
from _pinn_cases import Case, layers, loam, one, versatile
from _pinn_tracy import square

from udehydro.richards.pinn import Adam, Counts, Levenberg, Solution, Weights, march, solve

SEEDS = tuple(range(10))
TRIED = (100, 101, 102)
"""Seeds on which settings were chosen; none of them is judged."""


@dataclass(frozen=True)
class Setting:
    """How a case is solved; ``options`` are those of the problem."""

    case: Callable[..., Case]
    form: str
    inside: int
    wall: int
    levenberg: tuple[int, ...]
    width: int = 14
    options: dict = field(default_factory=dict)

    def said(self) -> str:
        """Form, points and stages in words."""
        stages = f"{len(self.levenberg)} x {self.levenberg[0]}"
        early = f", early {self.options['early']:g}" if "early" in self.options else ""
        return f"{self.form}, {self.inside} / {self.wall}, {stages}, width {self.width}{early}"


def bilayer(lengths: tuple[float, float], face: float) -> Setting:
    options = {"early": 10.0, "weights": Weights(face=face)}
    return Setting(lambda **o: layers(lengths, **o), "mixed", 1500, 200, (60, 60, 60, 60), 10, options)


FORMS = {
    "pointwise": Setting(one, "pointwise", 3000, 400, (100,) * 5),
    "mixed": Setting(one, "mixed", 1500, 200, (60, 60, 60)),
    "volume": Setting(one, "volume", 4800, 200, (60, 60, 60)),
}
FACES = (0.1, 1.0, 10.0)
LAYERS = {"5 + 5 cm": (5.0, 5.0), "6 + 4 cm": (6.0, 4.0)}
"""The lower layer first."""
BILAYERS = {f"{name}, face {w:g}": bilayer(lengths, w) for name, lengths in LAYERS.items() for w in FACES}
VERSATILE = {
    "C = 1.5": Setting(lambda **o: versatile(1.5, 80.0, **o), "pointwise", 2000, 300, (60, 60, 60)),
    "C = 1.02": Setting(lambda **o: versatile(1.02, 30.0, **o), "mixed", 1500, 200, (80, 80)),
}
SQUARE = {"square": Setting(square, "pointwise", 2000, 200, (60, 60))}
PLAIN = {"plain square": replace(SQUARE["square"], case=lambda **o: square(own=False, **o))}
LOAM = {"loam": Setting(loam, "mixed", 1500, 200, (80, 80))}


def trained(setting: Setting, seeds: Sequence[int]) -> tuple[Case, Solution]:
    case = setting.case(form=setting.form, **setting.options)
    stages = (Adam(300), *(Levenberg(n) for n in setting.levenberg))
    how = {"counts": Counts(setting.inside, setting.wall), "width": setting.width, "stages": stages}
    return case, (march if case.slabs else solve)(case.problem, seeds=seeds, **how)


def judge(setting: Setting, seeds: Sequence[int] = SEEDS, alone: bool = True, keep: Callable | None = None) -> dict:
    """Errors of each seed, and seconds of it, of the wall clock and of the processor; and those of one seed alone.

    ``keep`` of the case and its solution says what else is kept.
    """
    spent = stopwatch()
    case, found = trained(setting, seeds)
    result = spent(len(seeds)) | {"chi2": found.chi2.tolist()} | case.errors(found)
    if keep is not None:
        result |= keep(case, found)
    if alone:
        spent = stopwatch()
        trained(setting, seeds[:1])
        result["alone"] = spent(1)["seconds"]
    return result


def choose() -> dict[str, list[float]]:
    """For each form root mean squares of the balance, point by point, at points no stage has seen, of other seeds."""
    found = {}
    for name, setting in FORMS.items():
        solution = trained(setting, TRIED)[1]
        solution.problem = replace(solution.problem, form="pointwise")
        found[name] = solution.held_out()["balance"].tolist()
    return found


def best(choice: dict[str, list[float]]) -> str:
    return min(choice, key=lambda form: np.median(choice[form]))
