"""Recipes: calibrate a formula model, then train a hybrid from it; every choice is made on the validation period.

Both follow the same protocol. Fit on the first part of the training period, choose (start, seed, number of steps) on
its last part, then refit on all of it with those choices frozen. Basins are independent and trained side by side.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from udehydro.balance import Balance
from udehydro.errors import ConfigError, DataError
from udehydro.forcing import Forcing
from udehydro.laws.neural import Multiplier, NeuralLaw
from udehydro.parameters import INITIAL, Calibrated
from udehydro.simulate import simulate
from udehydro.simulation import Simulation
from udehydro.solvers import Solver
from udehydro.structure import Range, Structure
from udehydro.training.fit import FitResult, fit
from udehydro.training.losses import Loss
from udehydro.training.members import take
from udehydro.training.observed import Observed
from udehydro.training.stage import Stage
from udehydro.training.teach import standardise, teach

VALID_SHARE = 0.2


@dataclass(frozen=True)
class Periods:
    """Inclusive dates (start, end) of training, validation and test; ``fit_on`` is training without validation."""

    train: tuple[str, str]
    valid: tuple[str, str]
    test: tuple[str, str] | None
    fit_on: tuple[str, str]

    @classmethod
    def of(cls, train, test=None, valid=None) -> Periods:
        """Periods with, by default, the last fifth of ``train`` for validation.

        A validation period given explicitly must follow the part it is to judge: at the end of ``train`` or after it.
        """
        import numpy as np

        start, end = (np.datetime64(d, "D") for d in train)
        for name, period in (("training", train), ("validation", valid)):
            if period and test and test[0] <= period[1] and test[1] >= period[0]:
                raise ConfigError(
                    f"The test period {tuple(test)} overlaps the {name} period {tuple(period)}: nothing may be learned "
                    "from the test period."
                )
        day = np.timedelta64(1, "D")
        if valid is None:
            first = end - np.timedelta64(round(VALID_SHARE * int((end - start) / day)), "D") + day
            valid = (str(first), str(end))
        first, last = (np.datetime64(d, "D") for d in valid)
        if first > end:
            if test is not None and np.datetime64(test[0], "D") <= last and np.datetime64(test[1], "D") > end:
                raise ConfigError(
                    f"The test period {test} must not overlap or lie before the validation period {valid}."
                )
            return cls(tuple(train), tuple(valid), test, tuple(train))
        if not start < first <= last <= end or last != end:
            raise ConfigError(f"The validation period {valid} must lie at the end of {train}, or after it.")
        return cls(tuple(train), tuple(valid), test, (str(start), str(first - day)))

    @property
    def refit_on(self) -> tuple[str, str]:
        """All that may be learned from: training including validation."""
        return (self.train[0], max(self.train[1], self.valid[1]))


@dataclass
class Trained:
    """A trained model, a member per basin, and how it was chosen.

    ``model`` and ``parameters`` are for ``forcing.independent()``; ``chosen`` says per basin which start or seed and
    step the validation period preferred, ``candidates`` holds all of them refitted (seeds outermost) where
    ``hybridise`` was asked for that with ``refit_all``. ``before_refit`` and ``unrefitted`` are parameters and hybrid
    as chosen: fitted without the validation period, which chose among them.
    """

    model: Balance
    parameters: nn.Module
    basins: tuple[str, ...]
    chosen: list[dict]
    history: list[dict] = field(repr=False)
    refit_history: list[dict] = field(repr=False)
    candidates: tuple[Balance, nn.Module] | None = field(repr=False, default=None)
    before_refit: nn.Module | None = field(repr=False, default=None)
    unrefitted: Balance | None = field(repr=False, default=None)
    seconds: float = 0.0

    def simulate(self, forcing: Forcing, solver: Solver | None = None) -> Simulation:
        """One continuous run over a record of the same basins."""
        record = forcing.independent() if len(forcing.batch) < 2 else forcing
        with torch.no_grad():
            theta, start = self.parameters(record), self.parameters.storage0(self.model.store_names)
            return simulate(self.model, record, theta=theta, storage0=start, solver=solver)


def calibrate(
    structure: Structure,
    forcing: Forcing,
    observed: Tensor | Observed | Sequence[Observed],
    periods: Periods,
    *,
    starts: int = 8,
    steps: int = 100,
    refit_steps: int = 40,
    seed: int = 0,
    loss: Loss | None = None,
    solver: Solver | None = None,
    initial: Mapping[str, Range] | None = None,
    warmup_days: int = 365,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Trained:
    """Calibrate parameters and initial storages of a formula model by batched L-BFGS from several starts per basin.

    Parameters
    ----------
    forcing : record with batch (basins,); observed (T, basins), NaN where missing, or one or several
        :class:`udehydro.training.Observed` with such values.
    starts : starting points per basin: the defaults, then random ones. The validation period chooses among their
        optima.
    steps, refit_steps : evaluations of loss and gradient, before and after the choice.
    """
    if not isinstance(structure, Structure):
        raise ConfigError(f"calibrate takes a Structure such as exphydro, not a {type(structure).__name__}.")
    observed = _observed(observed, forcing)
    basins, count = forcing.basins or ("basin",), math.prod(forcing.batch)
    device = forcing.like.device
    model = Balance(structure).to(device)
    initial = initial or dict.fromkeys(model.store_names, INITIAL)
    parameters = Calibrated.of(model, (starts * count, 1), initial=initial).to(device)
    parameters.scatter(torch.Generator(device="cpu").manual_seed(seed), alike=count)
    options = dict(loss=loss, solver=solver, warmup_days=warmup_days, resume=resume)
    record, target = forcing.independent(starts), _members(observed, starts)
    result = fit(
        model, parameters, record, target, train=periods.fit_on, valid=periods.valid, stages=[Stage("lbfgs", steps)],
        select="train", checkpoint=_folder(checkpoint, "choose"),
        progress=_label(progress, f"calibrate {structure.name}"), **options,
    )  # fmt: skip
    best, chosen = _choose(result, starts, count)
    parameters = take(parameters, best)
    before = copy.deepcopy(parameters)
    refit = fit(
        model, parameters, forcing.independent(), _members(observed, 1), train=periods.refit_on,
        stages=[Stage("lbfgs", refit_steps)], checkpoint=_folder(checkpoint, "refit"),
        progress=_label(progress, f"refit {structure.name}"), **options,
    )  # fmt: skip
    seconds = result.seconds + refit.seconds
    return Trained(model, parameters, basins, chosen, result.history, refit.history, None, before, None, seconds)


def default_laws(structure: Structure, names: Sequence[str], members: int | None, seed: int) -> dict[str, NeuralLaw]:
    """The usual network for each named flux or group: the formula times a learned factor of stores and weather.

    The factor starts at one and stays within [1/5, 5], so the hybrid starts as the calibrated model and keeps its
    limits. It sees all stores, rain and temperature; for ``et`` of the stores the one it leaves only.
    """
    known = {f.name: f for f in structure.fluxes} | {
        g: structure.flux(members_[0]) for g, members_ in structure.groups.items() if members_
    }
    laws = {}
    for i, name in enumerate(names):
        if name not in known:
            raise ConfigError(
                f"Model '{structure.name}' has no flux or group '{name}'; choose from {', '.join(known)}."
            )
        stores = [s for s in structure.stores if s == known[name].source] or list(structure.stores)
        weather = [n for n in ("prcp", "temp") if n in structure.forcings]
        inputs = dict.fromkeys([*structure.stores, *weather] if name != "et" else [*stores, *weather])
        laws[name] = NeuralLaw(*inputs, output=Multiplier(), members=members, seed=seed + i)
    return laws


def hybridise(
    formula: Trained,
    laws,
    forcing: Forcing,
    observed: Tensor | Observed | Sequence[Observed],
    periods: Periods,
    *,
    seeds: int = 2,
    steps: int = 150,
    learning_rate: float = 1e-2,
    penalty: float = 0.0,
    refit_all: bool = False,
    teach_steps: int = 500,
    seed: int = 0,
    loss: Loss | None = None,
    solver: Solver | None = None,
    warmup_days: int = 365,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Trained:
    """Train neural laws inside a calibrated model, starting from it.

    Parameters
    ----------
    laws : names of fluxes (the default networks), or a function ``(members, seed) -> dict of laws``. Laws that do not
        start as the formula (no Multiplier) are first taught the calibrated fluxes.
    seeds : networks per basin, started from different weights; the validation period chooses seed and number of steps.
    steps : evaluations of loss and gradient, a fifth by Adam, the others by L-BFGS.
    refit_all : refit every seed, not only the chosen ones, and return them as ``candidates`` (for spreads over seeds).
    """
    observed = _observed(observed, forcing)
    count = math.prod(forcing.batch)
    total = seeds * count
    structure = formula.model.structure
    made = laws(seeds, seed) if callable(laws) else default_laws(structure, laws, seeds, seed)
    # the same networks for every basin, so that a basin does not depend on which others are trained beside it
    each = [s for s in range(seeds) for _ in range(count)]
    model = take(Balance(structure, **made), each).to(forcing.like.device)
    # choosing starts from parameters that have not seen the validation period, the refit from those that have
    unseen = formula.before_refit or formula.parameters
    parameters = take(unseen, list(range(count)) * seeds)
    record, target = forcing.independent(seeds), _members(observed, seeds)
    visited = record.isel(slice(0, record.between(*periods.fit_on).stop))
    with torch.no_grad():
        start = parameters.storage0(model.store_names)
        teacher = simulate(formula.model, visited, theta=parameters(visited), storage0=start, solver=solver)
    teacher = teacher.between(*periods.fit_on)  # not what came before: that may be the test period
    if all(isinstance(getattr(law, "output", None), Multiplier) for law in made.values()):
        standardise(model, teacher)
    else:
        teach(model, teacher, steps=teach_steps)
    options = dict(loss=loss, solver=solver, warmup_days=warmup_days, penalty=penalty, resume=resume)
    first = steps // 5
    stages = [Stage("adam", first, learning_rate=learning_rate), Stage("lbfgs", steps - first)]
    begin = copy.deepcopy(model.state_dict())
    result = fit(
        model, parameters, record, target, train=periods.fit_on, valid=periods.valid, stages=stages,
        checkpoint=_folder(checkpoint, "choose"), progress=_label(progress, "train hybrid"), **options,
    )  # fmt: skip
    best, chosen = _choose(result, seeds, count)
    unseen = take(model, best), take(parameters, best)
    model.load_state_dict(begin)
    kept = list(range(total)) if refit_all else best
    model, parameters = take(model, kept), take(formula.parameters, [m % count for m in kept])
    refit = fit(
        model, parameters, forcing.independent(len(kept) // count), _members(observed, len(kept) // count),
        train=periods.refit_on, stages=stages, select="frozen", frozen_steps=result.steps[:, kept],
        checkpoint=_folder(checkpoint, "refit"), progress=_label(progress, "refit hybrid"), **options,
    )  # fmt: skip
    candidates = (model, parameters) if refit_all else None
    if refit_all:
        model, parameters = take(model, best), take(parameters, best)
    seconds = result.seconds + refit.seconds
    return Trained(
        model,
        parameters,
        formula.basins,
        chosen,
        result.history,
        refit.history,
        candidates,
        unseen[1],
        unseen[0],
        seconds,
    )


def _observed(observed, forcing: Forcing) -> Tensor | tuple[Observed, ...]:
    """Observed flow as a tensor (T, basins) beside the forcing; of several variables each."""
    if isinstance(observed, Observed):
        observed = (observed,)
    if isinstance(observed, tuple | list) and all(isinstance(o, Observed) for o in observed):
        for o in observed:
            if o.values.shape[1:] != forcing.batch:  # the number of intervals is checked with the model, in fit
                raise DataError(
                    f"Observed('{o.name}') has shape {tuple(o.values.shape)}, the forcing {tuple(forcing.like.shape)}: "
                    "give (time, basin)."
                )
        return tuple(replace(o, values=o.values.to(forcing.like)) for o in observed)
    if not isinstance(observed, Tensor):
        observed = torch.as_tensor(getattr(observed, "values", observed))
    observed = observed.to(dtype=forcing.like.dtype, device=forcing.like.device)
    if observed.shape != forcing.like.shape:
        raise DataError(
            f"observed has shape {tuple(observed.shape)}, the forcing {tuple(forcing.like.shape)}: give (time, basin)."
        )
    return observed


def _members(observed: Tensor | tuple[Observed, ...], starts: int) -> Tensor | tuple[Observed, ...]:
    """Observed (T, basins) for ``forcing.independent(starts)``: (T, starts * basins, 1)."""
    if not isinstance(observed, Tensor):
        return tuple(replace(o, values=_members(o.values, starts)) for o in observed)
    return observed.reshape(len(observed), -1).repeat(1, starts).unsqueeze(-1)


def _choose(result: FitResult, starts: int, count: int) -> tuple[list[int], list[dict]]:
    """Per basin the member with the lowest validation loss."""
    valid = result.valid.reshape(starts, count)
    which = torch.where(valid.isfinite(), valid, torch.inf).argmin(0)
    best = [int(w) * count + b for b, w in enumerate(which)]
    chosen = [
        {
            "candidate": int(w),
            "step": int(result.best_step[m]),
            "train_loss": float(result.train[m]),
            "valid_loss": float(result.valid[m]),
            "valid_losses": valid[:, b].tolist(),
        }
        for b, (w, m) in enumerate(zip(which, best, strict=True))
    ]
    return best, chosen


def _folder(folder: str | Path | None, name: str) -> Path | None:
    return None if folder is None else Path(folder) / name


def _label(progress: bool, text: str) -> str | None:
    return text if progress else None
