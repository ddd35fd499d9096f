"""Runs of the method of Bandai and Ghezzehei (2021), seed by seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from _moisture_case import DAYS, DEPTHS, Truth, observe
from _pinn_bandai import fit

EVALUATIONS, LONG = 2000, 20_000
"""Of L-BFGS-B, at most; the paper has up to 50 000 iterations. ``LONG`` for one seed of each soil, to see what more of
them are worth."""


def run(true: Truth, sigma: float, seed: int, evaluations: int = EVALUATIONS) -> dict:
    """Errors of one seed, the same for noise and for weights."""
    t, z = np.meshgrid(DAYS, -np.asarray(DEPTHS, float), indexing="ij")
    found = fit(t, z, observe(true, sigma, [seed])[:, 0].numpy(), seed, lbfgs=evaluations)
    at = true.contents
    errors = true.errors(found.diffusivity_of(at), found.conductivity_of(at))
    said = {"loss": found.losses[-1], "evaluations": found.evaluations, "message": found.message}
    return errors | said | {"seconds": found.seconds}


def all_of(true: Truth, sigma: float, seeds: Sequence[int], old: Sequence[dict]) -> list[dict]:
    """Runs of seeds, those of the first as they were."""
    found = list(old)
    for seed in seeds[len(found) :]:
        found.append(run(true, sigma, seed))
        print(true.soil, sigma, seed, found[-1], flush=True)
    return found
