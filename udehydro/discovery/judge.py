"""Judgement: how candidates do on years that nothing was fitted to, and whether they stay where the model went."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from udehydro.discovery.identify import run_members
from udehydro.discovery.search import Ranked, Task
from udehydro.errors import SolverError
from udehydro.simulation import Simulation
from udehydro.training.metrics import nse


def simulated(ranked: Ranked, task: Task, candidates: Sequence[int] | None = None) -> Simulation:
    """One continuous run over the whole record of a task by some candidates (all by default), batch (n, basins)."""
    fits = ranked.fits if candidates is None else ranked.fits.take(torch.tensor(list(candidates)))
    return run_members(ranked.union.model, task, fits)


def score(
    ranked: Ranked, task: Task, observed: Tensor, period: slice, metric: Callable[[Tensor, Tensor], Tensor] = nse
) -> Tensor:
    """A metric of discharge (n,) by candidate over some intervals, the mean over basins; -inf for a run that fails.

    observed : (T, basins), NaN where missing.
    """
    scores = torch.full((len(ranked.candidates),), -torch.inf, dtype=torch.float64)
    going = list(range(len(scores)))
    while going:
        try:
            flow = simulated(ranked, task, going).discharge
        except SolverError as error:
            failed = torch.ones(len(going)) if error.failed is None else error.failed.reshape(len(going), -1).any(1)
            failed = failed if bool(failed.any()) else torch.ones(len(going))
            going = [g for g, f in zip(going, failed.tolist(), strict=True) if not f]
            continue
        target = observed[period, None].expand(-1, len(going), -1)
        found = metric(flow[period], target).mean(-1)
        scores[going] = torch.where(found.isfinite(), found, -torch.inf).to(scores)
        break
    return scores


def preferred(ranked: Ranked, scores: Tensor, margin: float) -> Ranked:
    """The ranking with the decision by a score: fewest constants, then the higher score, within ``margin`` of the best.

    For records whose errors are no independent noise, where a likelihood claims more than it knows: the score is one of
    validation years.
    """
    order = torch.argsort(scores, descending=True)
    candidates = tuple(ranked.candidates[i] for i in order.tolist())
    constants = tuple(ranked.constants[i] for i in order.tolist())
    ordered = scores[order]
    within = (ordered >= ordered[0] - margin).nonzero()[:, 0].tolist()
    chosen = min(within, key=lambda i: (constants[i], -float(ordered[i])))
    return replace(
        ranked, candidates=candidates, fits=ranked.fits.take(order), criterion=-ordered, constants=constants,
        margin=margin, chosen=chosen, by_score=True,
    )  # fmt: skip


def outside(simulation: Simulation, known: slice, asked: slice) -> dict[str, Tensor]:
    """Share of the intervals ``asked`` in which each store is beyond the range it visited in ``known``, (*batch).

    What a law says there was fitted to nothing.
    """
    shares = {}
    for name in simulation.model.store_names:
        series = simulation.store(name)[1:]
        low, high = series[known].amin(0), series[known].amax(0)
        shares[name] = ((series[asked] < low) | (series[asked] > high)).double().mean(0)
    return shares
