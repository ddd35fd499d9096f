"""A second search, in which the best formulas of the first play the part of networks."""

from __future__ import annotations

from dataclasses import replace

import torch

from udehydro.discovery.discover import Engine, discover
from udehydro.discovery.identify import run
from udehydro.discovery.nominate import nominate
from udehydro.discovery.sample import sample
from udehydro.discovery.search import Ranked, Task, ranked


def discover_again(
    found: Ranked,
    task: Task,
    *,
    engine: Engine = nominate,
    again: int = 10,
    rounds: int = 3,
) -> Ranked:
    """Search again until the best laws stay, every candidate starting as their nearest likeness.

    Refits from starts that know nothing get stuck, those of the right laws among them. Here the best laws so far are
    sampled along their own trajectory; constants of all candidates are fitted to what they say, and refits start from
    there, with the free values of the best. A law within another then begins where that one ended. The better of both
    fits of each candidate is kept.

    Parameters
    ----------
    found : a first search, which may be short: one start, ``again=0``. ``task``: what it was made with.
    engine, again : as in :func:`discover`.
    rounds : most searches.
    """
    found.decided_by_likelihood()
    for _ in range(rounds):
        best, values = found.candidates[0], found.values(0)
        samples = sample(found.union.model, run(found.union.model, task, values), tuple(found.union.libraries))
        begin = replace(task, start={**task.start, **{n: values[n] for n in task.free}})
        new = discover(
            found.union, None, begin, samples=samples, engine=engine, starts=1, again=again, gamma=found.gamma,
            margin=found.margin,
        )  # fmt: skip
        found = _better(found, new, len(task.free))
        if found.candidates[0] == best:
            break
    return found


def _better(one: Ranked, other: Ranked, shared: int) -> Ranked:
    """The better fit of every candidate of two searches, ranked."""
    owners = [*one.candidates, *other.candidates]
    candidates = list(dict.fromkeys(owners))
    owner = torch.tensor([candidates.index(o) for o in owners])
    fits = one.fits.joined(other.fits).best_by(owner, len(candidates))
    return ranked(one.union, candidates, fits, shared, one.gamma, one.margin)
