"""The inverse twin in small: curves learned from sensors are as near to the truth as the data allow."""

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples" / "benchmarks"))

import _twin_case as case  # noqa: E402
import _twin_search as search  # noqa: E402

from udehydro.richards.column import Adaptive  # noqa: E402


@pytest.fixture(scope="module")
def loam():
    return case.truth("loam", cells=40, steps=Adaptive(1e-3))


def test_observations(loam):
    """Every seed has errors of its own, of the size that is said, and the same whichever seeds are beside it."""
    theta, psi = case.observe(loam, (0, 1))
    assert theta.shape == (len(loam.run.psi), 2, len(case.DEPTHS)) and psi.shape == theta.shape[:2]
    off = (theta - loam.theta.unsqueeze(1)) / case.SIGMA_THETA
    assert 0.9 < float(off.std()) < 1.1 and float(off[:, 0].ravel() @ off[:, 1].ravel()) / off[:, 0].numel() < 0.15
    assert torch.equal(case.observe(loam, (1,))[0][:, 0], theta[:, 1])


@pytest.mark.slow
def test_as_near_as_the_data_allow(loam):
    kind, how = search.KINDS["free form"], {"steps": Adaptive(3e-3), "cells": 20}
    best, found = search.limits(loam, kind, **how), search.learn(loam, kind, (0, 1, 2), **how)
    assert all(found["converged"])
    assert max(abs(v - 1.0) for v in found["chi2"]) < 0.25
    for seed in found["errors"]:
        for error, bound in zip(seed, best["bare"], strict=True):
            assert error < 2.5 * bound
