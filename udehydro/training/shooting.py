"""Multiple shooting: the record is cut into segments that start where they like and are pulled together bit by bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from tqdm import tqdm

from udehydro.balance import Balance
from udehydro.errors import ConfigError
from udehydro.forcing import Forcing
from udehydro.simulate import simulate
from udehydro.simulation import Simulation
from udehydro.solvers import Solver
from udehydro.training.losses import Loss
from udehydro.training.members import Members
from udehydro.training.objective import Objective
from udehydro.training.observed import Observe, Observed, discharge
from udehydro.training.run import Run
from udehydro.training.stage import Stage

STAGE = Stage("lbfgs", 50)
"""Training at each weight of the gaps."""


def multiple_shooting(
    model: Balance,
    parameters: nn.Module,
    forcing: Forcing,
    observed: Tensor | Observed | Sequence[Observed],
    *,
    train: tuple[str, str],
    segments: int,
    states: Tensor | None = None,
    weights: Sequence[float] = (0.01, 1.0, 100.0),
    stage: Stage = STAGE,
    loss: Loss | None = None,
    observe: Observe = discharge,
    solver: Solver | None = None,
    warmup_days: int = 365,
    progress: str | None = None,
) -> Tensor:
    """Train on segments whose initial storages are free, and close the gaps between them: a start for ``fit``.

    The method of Bock and Plitt (1984, IFAC Proc. 17(2)) with the continuity conditions as a penalty. What is lowered
    is the loss of ``fit`` plus a weight times the mean square gap: that loss itself where all gaps are closed. Left in
    ``model`` and ``parameters`` is where the last weight led to, initial storages included; go on with ``fit``.

    Parameters
    ----------
    forcing, observed, train, loss, observe, solver, warmup_days : as in :func:`fit`; batch (members, 1), intervals of
        one length. The segments cover the record from its start to the end of ``train``.
    parameters : must calibrate initial storages (``initial=``).
    segments : at most so many, at least 2; of equal numbers of intervals, but that the last may be shorter.
    states : (T + 1, members or 1, 1, S) storages to start the segments from, in the units of the stores: observed
        ones, or those of another model. By default those of the run at the start values.
    weights : of the mean square gap, rising, a ``stage`` of training each. Gaps are measured in standard deviations of
        ``states`` over time.

    Returns
    -------
    Root mean square gap that is left, per member (M,), in these standard deviations.

    Raises
    ------
    ConfigError, DataError
        For settings or shapes that do not fit; as :func:`fit` for observations.
    SolverError
        Where a segment cannot be simulated from its start.
    """
    run = Run(model, parameters, forcing, observed, train, None, loss, observe, solver, warmup_days, None, 0.0)
    _check(run, segments, weights, stage)
    if hasattr(run.solver, "runs"):
        run.expect(len(weights) * stage.steps)
    if states is None:
        start = parameters.storage0(model.store_names)
        with torch.no_grad():
            first = simulate(model, run.forcing, theta=parameters(run.forcing), storage0=start, solver=run.solver)
        states = first.storage
    objective = Shooting.of(run, segments, states.to(run.forcing.like))
    with tqdm(total=len(weights) * stage.steps, desc=progress or "", disable=progress is None, leave=False) as bar:
        for objective.penalty in weights:
            optimiser, objective.safe = stage.build(), None
            state = optimiser.init(objective.members.read(), objective)
            for _ in range(stage.steps):
                if not bool(state.active.any()):
                    break
                state = optimiser.step(state, objective)
                bar.update()
            objective.members.write(state.x)
    with torch.no_grad():
        objective.simulate()
    return objective.gaps.detach().sqrt()


class Shooting(Objective):
    """The objective of a run on segments, joined to one simulation; ``penalty`` weighs ``gaps`` (M,), mean squares."""

    @classmethod
    def of(cls, run: Run, segments: int, states: Tensor) -> Shooting:
        """Segments of the record of ``run`` that start from ``states`` (T + 1, members or 1, 1, S)."""
        record, members = run.forcing, run.members.members
        needed = (len(record) + 1, members, 1, len(run.model.store_names))
        shapes = states.ndim == 4 and states.shape[0] >= needed[0] and states.shape[1] in (1, members)
        if not shapes or states.shape[2:] != needed[2:] or not bool(states.isfinite().all()):
            raise ConfigError(f"states has shape {tuple(states.shape)}, needs {needed}, and no gaps.")
        length = -(-len(record) // segments)
        segments = -(-len(record) // length)
        states = states[: len(record) + 1].expand(-1, members, -1, -1)
        spread = states.std(0).clamp_min(1e-6)  # (M, 1, S)
        guess = states[length * torch.arange(1, segments)].squeeze(2).transpose(0, 1)  # (M, K - 1, S)
        moves = nn.ParameterDict({"storage": nn.Parameter(torch.zeros_like(guess))})
        free = Members((run.model, run.parameters, moves), members)
        made = cls(run.model, run.parameters, free, record, run.targets, run.train, None, run.solver)
        made.cut = _cut(record, segments, length)
        made.guess, made.spread, made.moves = guess, spread, moves
        return made

    def simulate(self) -> Simulation:
        """All segments side by side, then one behind the other; an inner edge has the storage its segment starts at."""
        start = self.parameters.storage0(self.model.store_names)
        storage0 = torch.cat([start, self.guess + self.spread * self.moves["storage"]], dim=1)
        theta = self.parameters(self.cut)
        run = simulate(self.model, self.cut, theta=theta, storage0=storage0, solver=self.solver)
        self.gaps = ((run.storage[-1, :, :-1] - storage0[:, 1:]) / self.spread).square().mean((1, 2))
        total = len(self.forcing)
        storage = torch.cat([_joined(run.storage[:-1]), run.storage[-1:, :, -1:]])[: total + 1]
        return replace(run, forcing=self.forcing, storage=storage, volume=_joined(run.volume)[:total])

    def _penalty(self) -> Tensor:
        return self.penalty * self.gaps


def _cut(record: Forcing, segments: int, length: int) -> Forcing:
    """Batch (members, segments); the last interval is repeated where the last segment would be shorter."""
    missing = segments * length - len(record)

    def part(values: Tensor) -> Tensor:
        values = torch.cat([values, values[-1:].expand(missing, -1, -1)])
        return values.reshape(segments, length, -1).permute(1, 2, 0)

    values = {n: part(v) for n, v in record.values.items()}
    names = tuple(f"segment {k}" for k in range(segments))
    return replace(record, values=values, time_edge=record.time_edge[: length + 1], basins=names)


def _joined(series: Tensor) -> Tensor:
    """Series (n, M, K, ...) of segments one behind the other, (K n, M, 1, ...)."""
    return series.movedim(2, 0).flatten(0, 1).unsqueeze(2)


def _check(run: Run, segments: int, weights: Sequence[float], stage: Stage) -> None:
    record, days = run.forcing, run.forcing.days
    if len(record.batch) != 2 or record.batch[1] != 1:
        raise ConfigError(f"Multiple shooting takes a batch (members, 1), not {record.batch}: forcing.independent().")
    if run.parameters.storage0(run.model.store_names) is None:
        raise ConfigError("Multiple shooting needs parameters that calibrate initial storages: give them initial=.")
    if not 2 <= segments <= len(record) // 2:
        raise ConfigError(f"segments must be between 2 and half the {len(record)} intervals, got {segments}.")
    if not torch.allclose(days, days[:1].expand(len(days))):
        raise ConfigError("Multiple shooting needs intervals of one length: segments are run side by side.")
    if not weights or not all(w > 0.0 for w in weights) or stage.window is not None or stage.share != 1.0:
        raise ConfigError("Multiple shooting needs weights above zero, and a stage without window or share.")
