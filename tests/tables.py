"""Models, solvers and laws, listed once: contract tests run over the product.

A new model, solver or law is one more entry here, and every contract (conservation, gradients, restart, batch
invariance, finiteness) is then tested for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from udehydro import (
    Balance,
    Forcing,
    FormulaLaw,
    Fraction,
    Multiplier,
    NeuralLaw,
    Positive,
    Range,
    SolverError,
    simulate,
)
from udehydro.models import exphydro, exphydro_mended, gr4j, hbv, linear, m50, m100
from udehydro.solvers import (
    BACKWARD_EULER,
    EXPLICIT_EULER,
    HEUN,
    RK4,
    SDIRK2,
    TR_BDF2,
    AllAtOnce,
    Stepping,
    Torchdiffeq,
)

UNITS = {"prcp": "mm/d", "temp": "degC", "dayl": "h", "pet": "mm/d"}

SCALE = {"snow": (20.0, 30.0), "soil": (200.0, 120.0), "storage": (50.0, 30.0), "temp": (2.0, 6.0), "prcp": (4.0, 6.0)}
"""Input scales (centre, spread) of the networks below: what the short records here visit."""


def weather(
    days: int = 20, basins: int = 2, seed: int = 0, hours=24.0, rain: float = 8.0, warm: float = 2.0
) -> Forcing:
    """Rain pulses on two days of five, temperature that swings through freezing, day length, PET that follows both.

    ``hours`` is the length of an interval, one number or one per interval; ``rain`` the mean depth of a pulse in mm/d.
    """
    rng = np.random.default_rng(seed)
    pulses = rng.gamma(0.7, rain / 0.7, (days, basins)) * (rng.random((days, basins)) < 0.4)
    cycle = np.sin(2 * np.pi * np.arange(days) / 11.0)[:, None]
    temp = warm + 5.0 * cycle + rng.normal(0.0, 3.0, (days, basins))
    dayl = 12.0 + 2.0 * cycle + np.zeros((days, basins))
    length = np.broadcast_to(np.asarray(hours, float), (days,)) * 3600e9
    start = np.datetime64("2001-11-25", "ns")
    edges = start + np.concatenate([[0], np.cumsum(length)]).astype("int64").astype("timedelta64[ns]")
    pet = 0.1 * dayl * np.exp(0.08 * temp)
    values = {"prcp": pulses, "temp": temp, "dayl": dayl, "pet": pet}
    values = {n: torch.as_tensor(v, dtype=torch.float64) for n, v in values.items()}
    return Forcing(values, UNITS, edges, tuple(f"b{i}" for i in range(basins)))


@dataclass(frozen=True)
class Case:
    """A model with its laws, and something to run it on.

    ``build(seed, gain)``: networks drawn from ``seed``, their weights multiplied by ``gain``.
    ``theta``, ``storage0``: per parameter or store one value per basin. ``capacity``: of every store [mm].
    """

    name: str
    build: Callable[[int, float], Balance]
    theta: dict[str, tuple[float, float]]
    storage0: dict[str, tuple[float, float]]
    capacity: dict[str, float]
    neural: bool = False
    forcing: Callable[..., Forcing] = field(default=weather)

    def parameters(self, model: Balance) -> dict[str, torch.Tensor]:
        return {n: torch.tensor(self.theta[n]) for n in model.parameter_names if n in self.theta}

    def start(self) -> dict[str, torch.Tensor]:
        return {n: torch.tensor(v) for n, v in self.storage0.items()}


def amplify(model: Balance, gain: float) -> Balance:
    """Multiply all law weights by ``gain``."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(gain)
    return model


def shake(model: Balance, seed: int, size: float = 0.3) -> Balance:
    """Move all law weights by normal noise, so that zero outputs and zero biases do not stay special."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(size * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    return model


_THETA = {
    "f": (0.015, 0.05),
    "smax": (250.0, 400.0),
    "qmax": (20.0, 12.0),
    "ddf": (2.5, 1.2),
    "tmax": (1.0, 0.3),
    "tmin": (-1.0, 0.4),
}
_START = {"snow": (12.0, 0.0), "soil": (245.0, 300.0)}
_CAPACITY = {"snow": 100.0, "soil": 400.0}

STIFF = {**_THETA, "f": (0.4, 0.4), "qmax": (50.0, 50.0)}
"""Baseflow that responds at f * Qmax = 20 per day where the bucket is full."""


def _swapped(structure, **laws: Callable[[int], NeuralLaw]):
    """Build of a balance with neural laws; each law is made from its seed."""

    def build(seed: int = 0, gain: float = 1.0) -> Balance:
        model = Balance(structure, **{n: make(seed + i) for i, (n, make) in enumerate(laws.items())})
        return amplify(shake(model, seed), gain) if laws else model

    return build


def _whole(make):
    return lambda seed=0, gain=1.0: amplify(_standardised(shake(make(seed=seed), seed, 0.1)), gain)


def _standardised(model: Balance) -> Balance:
    for law in model.laws.values():
        law.standardise(SCALE)
    return model


def law(*inputs: str, output=None, hidden=(6, 6), **options):
    """A maker of small networks, ``seed -> NeuralLaw``."""
    return lambda seed: NeuralLaw(*inputs, output=output, hidden=hidden, scale=SCALE, seed=seed, **options)


MODELS = (
    Case(
        "linear",
        _swapped(linear),
        {"k": (0.1, 0.9)},
        {"storage": (40.0, 5.0)},
        {"storage": 100.0},
    ),
    Case("exphydro", _swapped(exphydro), _THETA, _START, _CAPACITY),
    Case("exphydro_mended", _swapped(exphydro_mended), _THETA, _START, _CAPACITY),
    Case("m50", _whole(m50), _THETA, _START, _CAPACITY, neural=True),
    Case("m100", _whole(m100), _THETA, _START, _CAPACITY, neural=True),
    Case(
        "hbv",
        _swapped(hbv),
        {
            "beta": (2.0, 1.2),
            "fc": (200.0, 120.0),
            "k0": (0.4, 0.15),
            "k1": (0.15, 0.3),
            "k2": (0.02, 0.1),
            "lp": (0.8, 0.5),
            "perc": (1.5, 0.4),
            "uzl": (6.0, 25.0),
            "tt": (0.3, -0.6),
            "cfmax": (2.5, 1.2),
            "cfr": (0.08, 0.05),
            "cwh": (0.1, 0.18),
            "betaet": (1.6, 0.7),
            "c": (0.2, 0.05),
        },
        {
            "snow": (12.0, 0.0),
            "meltwater": (0.6, 0.0),
            "soil": (150.0, 118.0),
            "upper": (9.0, 3.0),
            "lower": (20.0, 45.0),
        },
        {"snow": 100.0, "meltwater": 20.0, "soil": 200.0, "upper": 60.0, "lower": 60.0},
    ),
    Case(
        "gr4j",
        _swapped(gr4j),
        {"x1": (320.0, 150.0), "x2": (-1.5, 0.8), "x3": (70.0, 40.0), "x4": (4.0, 6.5)},
        {n: (3.0 - 0.2 * i, 0.3 * i) for i, n in enumerate(gr4j.stores)}
        | {"production": (210.0, 60.0), "routing": (38.0, 25.0)},
        {n: 20.0 for n in gr4j.stores} | {"production": 320.0, "routing": 70.0},
    ),
)

LAWS = (
    Case(
        "linear outflow: Positive, rising",
        _swapped(linear, outflow=law("storage", increasing=("storage",))),
        {},
        {"storage": (40.0, 5.0)},
        {"storage": 100.0},
        neural=True,
    ),
    Case(
        "et: Positive of dayl",
        _swapped(exphydro_mended, et=law("soil", "temp", output=Positive(0.1, "dayl"))),
        _THETA,
        _START,
        _CAPACITY,
        neural=True,
    ),
    Case(
        "et: Fraction of pet",
        _swapped(exphydro_mended, et=law("snow", "soil", output=Fraction("pet"), increasing=("soil",))),
        _THETA,
        _START,
        _CAPACITY,
        neural=True,
    ),
    Case(
        "et and melt: Multiplier",
        _swapped(
            exphydro_mended,
            et=law("soil", "temp", output=Multiplier(3.0)),
            melt=law("snow", "temp", "prcp", output=Multiplier(2.0)),
        ),
        _THETA,
        _START,
        _CAPACITY,
        neural=True,
    ),
    Case(
        "discharge: Multiplier of the group",
        _swapped(exphydro_mended, discharge=law("soil", output=Multiplier(4.0), decreasing=("soil",))),
        _THETA,
        _START,
        _CAPACITY,
        neural=True,
    ),
    Case(
        "published formula with a Multiplier, partition by a Fraction",
        _swapped(
            exphydro,
            snow_fraction=law("temp", output=Fraction(), decreasing=("temp",)),
            baseflow=law("soil", "prcp", output=Multiplier(2.0)),
        ),
        _THETA,
        _START,
        _CAPACITY,
        neural=True,
    ),
    Case(
        "formulas: et, and discharge as a whole",
        _swapped(
            exphydro_mended,
            et=lambda seed: FormulaLaw("pet*(1 - exp(-a*saturation(soil, smax)))", {"a": Range(0.1, 20.0, "1")}),
            discharge=lambda seed: FormulaLaw(
                "kq*smax*power(soil/smax, b) + excess(soil, smax)/tau",
                {"kq": Range(0.001, 1.0, "1/d"), "b": Range(1.0, 6.0, "1")},
            ),
        ),
        {**_THETA, "a": (3.0, 1.2), "kq": (0.02, 0.05), "b": (2.5, 1.0)},
        _START,
        _CAPACITY,
    ),
)
"""Each output type of a neural law, with free, rising and falling inputs, and formulas, on fluxes, groups and
quantities."""

CASES = (*MODELS, *LAWS)

TABLEAUX = (EXPLICIT_EULER, HEUN, RK4, BACKWARD_EULER, SDIRK2, TR_BDF2)

STEPPING = (
    Stepping(EXPLICIT_EULER, substeps=8),
    Stepping(HEUN, substeps=4),
    Stepping(RK4, substeps=3),
    Stepping(BACKWARD_EULER),
    Stepping(BACKWARD_EULER, substeps=3),
    Stepping(SDIRK2),
    Stepping(SDIRK2, substeps=2),
    Stepping(SDIRK2, undershoot="split"),
    Stepping(TR_BDF2),
)

TORCHDIFFEQ = (
    Torchdiffeq("dopri5", rtol=1e-4, atol=1e-5),
    Torchdiffeq("bosh3", rtol=1e-3, atol=1e-4, adjoint=True),
    Torchdiffeq("rk4", step_size=0.25),
    Torchdiffeq("rk4", step_size=0.25, span="record"),
    Torchdiffeq("heun3", step_size=0.25),
    Torchdiffeq("explicit_adams", step_size=0.125),
)

ALL_AT_ONCE = (
    AllAtOnce(),
    AllAtOnce(BACKWARD_EULER, substeps=2, block=5),
    AllAtOnce(SDIRK2, undershoot="split", block=4),
    AllAtOnce(TR_BDF2, block=6),
)

SOLVERS = (*STEPPING, *ALL_AT_ONCE, *TORCHDIFFEQ)


def name_of(item) -> str:
    """Test id of a case, a solver or a tableau."""
    if isinstance(item, Stepping):
        split = ", split" if item.undershoot == "split" else ""
        return f"{item.tableau.name} x{item.substeps}{split}"
    if isinstance(item, Torchdiffeq):
        return f"torchdiffeq {item.method}, {item.span}{', adjoint' if item.adjoint else ''}"
    if isinstance(item, AllAtOnce):
        return f"all at once, {item.tableau.name}"
    return item.name


def run(case: Case, solver, *, seed: int = 0, gain: float = 1.0, theta=None, forcing: Forcing | None = None, retries=3):
    """Simulate a case. An explicit scheme that raises for stability is run again with the substeps it asks for."""
    model = case.build(seed, gain)
    forcing = forcing or case.forcing()
    theta = theta or case.parameters(model)
    theta = {n: v for n, v in theta.items() if n in model.parameter_names}
    for _ in range(retries):
        try:
            return simulate(model, forcing, theta=theta, storage0=case.start(), solver=solver)
        except SolverError as error:
            if error.substeps is None:
                raise
            solver = replace(solver, substeps=error.substeps)
    raise AssertionError(f"{name_of(solver)} asked for more substeps {retries} times in a row")
