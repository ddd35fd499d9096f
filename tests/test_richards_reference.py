"""The soil column against references of others: exact nonlinear infiltration, a travelling wave, a HYDRUS-1D run; and
gradients of every law. Problems and references are those of examples/benchmarks/richards_column.py."""

import sys

import numpy as np
import pytest
import torch
from conftest import ROOT

from udehydro.richards.column import Adaptive, Column, Flux, Grid, Head
from udehydro.richards.laws import VanGenuchten

sys.path.insert(0, str(ROOT / "examples" / "benchmarks"))

import _richards_cases as cases
import _richards_exact as exact
import _richards_gradient_cases as gradients
import _richards_hydrus as hydrus
from _richards_common import relative, timed, with_ends


@pytest.mark.parametrize(
    ("C", "cells", "least"), [(1.5, 40, 1.9), pytest.param(1.02, 100, 1.8, marks=pytest.mark.slow)]
)
def test_nonlinear_infiltration(monkeypatch, C, cells, least):
    """Second order on Broadbridge and White's soils; nearly so where the front is a few cells wide."""
    monkeypatch.setattr(exact, "TIGHT", Adaptive(1e-5))
    errors = [exact.versatile(C, n) for n in (cells, 2 * cells)]
    assert max(e["lost"] for e in errors) < 1e-12
    assert np.log2(errors[0]["theta"] / errors[1]["theta"]) > least
    assert errors[1]["theta"] < 5e-3


@pytest.mark.slow
def test_travelling_wave():
    found = cases.wave(150)
    assert found["speed"] == pytest.approx(cases.WAVE.speed, rel=1e-3) and found["mean off"] < 0.5


class TestHydrus:
    @pytest.fixture
    def reference(self, shared):
        folder = shared / "data" / "richards-reference"
        if not folder.exists():
            pytest.skip(f"needs {folder}")
        return hydrus.reference(folder)

    def test_loam(self, reference):
        """Half an hour of rain, which wets less than 2 cm: HYDRUS by the tables it reads, and not by the curves."""
        hours, _, theta = (v[:6] for v in reference)
        near, errors = hydrus.DEPTH[:21], []
        for law in (hydrus.Tabulated(), VanGenuchten()):
            column = Column(Grid.uniform(2.0, 80), law, Flux(-7.2), Head(hydrus.PSI0))
            run, _ = timed(column, hours / 24.0, hydrus.LOAM, hydrus.PSI0, Adaptive(1e-3))
            depth, heads = with_ends(run, np.full(2, hydrus.PSI0))
            psi = np.stack([np.interp(near, depth, h) for h in heads])
            errors.append(relative(VanGenuchten().theta(torch.as_tensor(psi), hydrus.LOAM).numpy(), theta[:, :21]))
        assert errors[0] < 1.5e-3 and errors[1] > 4e-3

    @pytest.mark.slow
    def test_two_layers(self, reference):
        """20 h on its nodes and by its tables: within the 0.001 of its iterations, but where the front changes soil."""
        _, _, theta = reference
        run, _ = hydrus.simulate(hydrus.Tabulated(), *hydrus.nodal(), 1e-4)
        off = hydrus.at_nodes(run)[1] - theta
        assert np.linalg.norm(off) < 2e-4 * np.linalg.norm(theta) and np.abs(off).max() < 2.5e-3
        assert np.quantile(np.abs(off), 0.999) < 1e-3
        assert float(run.balance_error.abs().max()) < 1e-12

    @pytest.mark.slow
    def test_finer_cells_settle_elsewhere(self, reference):
        """By the curves, to a solution that is not that of HYDRUS."""
        ours = [
            hydrus.at_nodes(hydrus.simulate(VanGenuchten(), Grid.uniform(20.0, n), 10.0, 1e-4)[0])[1]
            for n in (200, 400, 800)
        ]
        gaps = [relative(coarse, fine) for coarse, fine in zip(ours, ours[1:], strict=False)]
        assert gaps[1] < 1.5e-3 and gaps[1] < 0.6 * gaps[0] and relative(ours[-1], reference[2]) > 8e-3


TOPS, BOTTOMS = list(gradients.TOPS), list(gradients.BOTTOMS)


class TestGradients:
    """Every law, with its weights; every boundary with some law, by both schemes."""

    def check(self, law, p, top, bottom, tableau):
        case = gradients.Case(law, p, top, bottom, tableau)
        found = [case.by_inputs()] + ([case.by_weights()] if case.column.weights() else [])
        for agreement in found:
            assert agreement["error"] < 1e-6 and agreement["excluded"] <= 2 and not agreement["unseen"], agreement

    @pytest.mark.parametrize("i", range(11))
    @pytest.mark.filterwarnings("ignore:The .depth. of WaterTable")  # artesian in some
    def test_laws(self, i):
        law, p = list(gradients.soils().values())[i]
        self.check(law, p, TOPS[i % 5], BOTTOMS[(2 * i + 1) % 5], gradients.SCHEMES[i % 2])

    @pytest.mark.slow
    @pytest.mark.parametrize("i", range(11))
    @pytest.mark.parametrize("shift", range(5))
    @pytest.mark.filterwarnings("ignore:The .depth. of WaterTable")  # artesian in some
    def test_laws_between_boundaries(self, i, shift):
        law, p = list(gradients.soils().values())[i]
        for top, bottom in zip(TOPS, BOTTOMS[shift:] + BOTTOMS[:shift], strict=True):
            self.check(law, p, top, bottom, gradients.SCHEMES[(i + shift) % 2])
