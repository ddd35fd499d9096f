"""HBV and GR4J: equations, slopes, derivatives at every kink, water, hybrids, real basins.

The right-hand sides are written here a second time, for one point, with numbers and ``if``, from the equations.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tables import MODELS, weather
from torch.fx.experimental.proxy_tensor import make_fx

from udehydro import (
    ATMOSPHERE,
    GROUNDWATER,
    Balance,
    DataError,
    Forcing,
    Fraction,
    Multiplier,
    NeuralLaw,
    Positive,
    StructureError,
    data,
    simulate,
)
from udehydro.laws import power
from udehydro.models import gr4j, gr4j_cascade, hbv
from udehydro.simulate import pose
from udehydro.solvers import BACKWARD_EULER, SDIRK2, AllAtOnce, Stepping
from udehydro.structure import reads

CASES = {c.name: c for c in MODELS}
HBV, GR4J = CASES["hbv"], CASES["gr4j"]
BOTH = pytest.mark.parametrize("structure", [hbv, gr4j], ids=lambda s: s.name)


def hbv_tendency(state, prcp, temp, pet, p):
    """dS/dt of HBV at one point [mm/d]."""
    sp, mw, sm, suz, slz = state
    if p["width"] == 0.0:
        cold = 1.0 if temp < p["tt"] else 0.0
    else:
        cold = 0.5 + 0.5 * np.tanh((p["tt"] - temp) / p["width"])
    warmth = temp - p["tt"]
    melt = min(sp / p["tau"], p["cfmax"] * max(warmth, 0.0))
    refreeze = min(mw / p["tau"], p["cfr"] * p["cfmax"] * max(-warmth, 0.0))
    to_soil = max(mw - p["cwh"] * max(sp, 0.0), 0.0) / p["tau"]
    wet = min(max(sm / p["fc"], 0.0), 1.0)
    supply = (1.0 - cold) * prcp + to_soil
    beyond = max(sm - p["fc"], 0.0) / p["tau"]
    dry = min(max(sm / (p["lp"] * p["fc"]), 0.0), 1.0)
    demand = pet * dry ** p["betaet"] if dry > 0.0 else 0.0
    evaporation = min(sm / p["tau"], demand)
    rise = p["c"] * max(slz, 0.0) * (1.0 - wet)
    down = min(suz / p["tau"], p["perc"])
    fast = p["k0"] * max(suz - p["uzl"], 0.0) + p["k1"] * suz
    return [
        cold * prcp - melt + refreeze,
        melt - refreeze - to_soil,
        supply * (1.0 - wet ** p["beta"]) - beyond - evaporation + rise,
        supply * wet ** p["beta"] + beyond - down - fast,
        down - rise - p["k2"] * slz,
    ], fast + p["k2"] * slz


def gr4j_tendency(state, prcp, pet, p):
    """dS/dt of GR4J at one point [mm/d], without interception as a flux: net rain and net PET, as published."""
    n = len(state) - 2
    s, r = state[0] / p["x1"], max(state[-1], 0.0) / p["x3"]
    pn, en = (prcp - pet, 0.0) if prcp > pet else (0.0, pet - prcp)
    if s < 0.0:
        stored, evaporation = pn, 2.0 * en * s
    elif s > 1.0:
        stored, evaporation = 0.0, en
    else:
        stored, evaporation = pn * (1.0 - s * s), en * (2.0 * s - s * s)
    percolation = p["x1"] ** -4 / 4.0 * (4.0 / 9.0) ** 4 * max(state[0], 0.0) ** 5
    out = [(n - 1) / p["x4"] * sh for sh in state[1:-1]]
    into = [pn - stored + percolation, *out[:-1]]
    exchange, drained = p["x2"] * r**3.5, p["x3"] / 4.0 * r**5
    cascade = [a - b for a, b in zip(into, out, strict=True)]
    tendency = [stored - evaporation - percolation, *cascade, 0.9 * out[-1] + exchange - drained]
    direct = 0.1 * out[-1]
    return tendency, drained + (max(direct + exchange, 0.0) if direct >= 0.0 else direct + max(exchange, 0.0))


TENDENCY = {"hbv": hbv_tendency, "gr4j": gr4j_tendency}


def draw(structure, count, seed=0, corners=False, **fixed):
    """Random parameters over their ranges, or each at one end of its range; (count,) by name."""
    rng = np.random.default_rng(seed)
    theta = {}
    for name, r in structure.parameters.items():
        share = rng.random(count)
        theta[name] = torch.tensor(r.low + (r.high - r.low) * (share.round() if corners else share))
    return theta | {n: torch.full((count,), float(v)) for n, v in fixed.items()}


def scales(structure, theta):
    """What a store holds when it is full, by name [mm]."""
    if structure is hbv:
        return {"snow": 60.0, "meltwater": 10.0, "soil": theta["fc"], "upper": 40.0, "lower": 60.0}
    return {n: 20.0 for n in structure.stores} | {"production": theta["x1"], "routing": theta["x3"]}


def points(structure, count=3000, seed=0, low=-0.3, high=1.5, **options):
    """Random states, forcing and parameters: stores from ``low`` to ``high`` of what they hold."""
    theta = draw(structure, count, seed, **options)
    rng = np.random.default_rng(seed + 1)
    full = scales(structure, theta)
    stores = [full[n] * torch.tensor(rng.uniform(low, high, count)) for n in structure.stores]
    made = {
        "prcp": rng.gamma(0.5, 12.0, count) * (rng.random(count) < 0.6),
        "temp": rng.normal(0.0, 6.0, count),
        "pet": rng.uniform(0.0, 7.0, count),
    }
    forcing = tuple(torch.tensor(made[n]) for n in structure.forcings)
    return stores, forcing, theta


def rates(structure, stores, forcing, theta):
    model = Balance(structure)
    theta = tuple(theta[n] for n in model.parameter_names)
    return model.fluxes(stores, model.prepare(forcing, theta), theta)


def jacobian(structure, stores, forcing, theta):
    """Jacobian of the tendency (S, S, points), one row per store."""
    leaves = [s.clone().requires_grad_() for s in stores]
    tendency = Balance(structure).tendency(rates(structure, leaves, forcing, theta))
    rows = [torch.autograd.grad(t.sum(), leaves, retain_graph=True, materialize_grads=True) for t in tendency]
    return torch.stack([torch.stack(row) for row in rows])


class TestEquations:
    @pytest.mark.parametrize("low, high", [(0.0, 1.0), (-0.5, 3.0)], ids=["physical range", "beyond"])
    @BOTH
    def test_tendency_and_discharge(self, structure, low, high):
        """1e-11 relative to the largest rate: the order of a few sums and powers."""
        stores, forcing, theta = points(structure, 400, low=low, high=high)
        if structure is hbv:
            theta["width"][::3] = 0.0
        found = rates(structure, stores, forcing, theta)
        tendency = torch.stack(Balance(structure).tendency(found))
        names = Balance(structure).flux_names
        discharge = sum(found[names.index(n)] for n in structure.groups["discharge"])
        for k in range(400):
            p = {n: v[k].item() for n, v in theta.items()}
            state, drivers = [s[k].item() for s in stores], [f[k].item() for f in forcing]
            expected, flow = TENDENCY[structure.name](state, *drivers, p)
            size = 1.0 + max(abs(r[k].item()) for r in found)
            assert np.allclose(tendency[:, k].numpy(), expected, rtol=0, atol=1e-11 * size)
            assert abs(discharge[k].item() - flow) <= 1e-11 * size

    @BOTH
    def test_of_a_sum_that_is_known(self, structure):
        """All rain and nothing else goes somewhere: tendencies sum to supply minus losses, at any state."""
        stores, forcing, theta = points(structure, 500, low=-1.0, high=4.0)
        model = Balance(structure)
        found = dict(zip(model.flux_names, rates(structure, stores, forcing, theta), strict=True))
        total = sum(model.tendency(tuple(found.values())))
        gain = 0.0
        for f in structure.fluxes:
            gain = gain + ((f.source not in structure.stores) - 1.0 + (f.sink in structure.stores)) * found[f.name]
        assert torch.allclose(total, gain, rtol=1e-12, atol=1e-9)

    def test_precipitation_is_what_enters_from_the_atmosphere(self):
        for structure in (hbv, gr4j):
            stores, forcing, theta = points(structure, 200)
            found = dict(zip(Balance(structure).flux_names, rates(structure, stores, forcing, theta), strict=True))
            entering = sum(found[f.name] for f in structure.fluxes if f.source == ATMOSPHERE)
            assert torch.allclose(entering, forcing[0], rtol=1e-14, atol=1e-14)

    def test_the_split_is_prepared(self):
        """What no store influences is evaluated once for all times."""
        record = weather(5)
        # snow fraction, snowfall, rainfall, melt and refreezing potential; rain, interception, net rain and net PET
        assert len(pose(Balance(hbv), record).forcing) == 3 + 5
        assert len(pose(Balance(gr4j), record).forcing) == 2 + 4

    @pytest.mark.parametrize("n", [2, 4, 11])
    def test_the_cascade_peaks_at_x4(self, n):
        """Water put into the first store leaves the last with t^(n-1) exp(-(n-1) t / x4): largest at t = x4."""
        structure, x4 = gr4j_cascade(n), 3.0
        theta = {"x1": 300.0, "x2": 0.0, "x3": 50.0, "x4": x4}
        theta = {k: torch.tensor([v]) for k, v in theta.items()}
        stores = [torch.tensor([1.0]) for _ in structure.stores]
        j = jacobian(structure, stores, (torch.zeros(1), torch.zeros(1)), theta)[1 : n + 1, 1 : n + 1, 0]
        time = torch.linspace(0.0, 12.0, 1201)
        out = (n - 1) / x4 * torch.matrix_exp(time[:, None, None] * j)[:, -1, 0]
        assert time[out.argmax()].item() == pytest.approx(x4, abs=0.011)
        mean = (time * out).sum() / out.sum()
        if n > 4:  # its tail has left within the twelve days
            assert mean.item() == pytest.approx(n * x4 / (n - 1), rel=1e-3)

    def test_the_direct_branch_loses_no_more_than_it_carries(self):
        stores, forcing, theta = points(gr4j, 500, x2=-15.0)
        found = dict(zip(Balance(gr4j).flux_names, rates(gr4j, stores, forcing, theta), strict=True))
        total = found["direct"] + found["exchange_direct"]
        expected = (found["direct"] + found["exchange_routing"]).clamp_min(0.0)
        positive = found["direct"] > 0
        assert torch.allclose(total[positive], expected[positive], atol=1e-12)
        assert int((total[positive] == 0).sum()) > 50 < int((total[positive] > 0).sum())
        assert bool((found["exchange_direct"][~positive] == 0).all())  # a store below zero draws no groundwater

    def test_hard_and_smooth_split(self):
        temp, tt = torch.tensor([-1.0, 0.499, 0.5, 2.0]), torch.full((4,), 0.5)
        share = hbv.quantities[0].law
        assert share(temp, tt, torch.zeros(4)).tolist() == [1.0, 1.0, 0.0, 0.0]
        smooth = share(temp, tt, torch.full((4,), 0.5))
        assert smooth[2] == 0.5 and bool(((smooth > 0) & (smooth < 1)).all())


class TestPower:
    @pytest.mark.parametrize("exponent", [0.0, 0.3, 1.0, 1.7, 5.0])
    def test_values_and_derivatives(self, exponent):
        base = torch.tensor([-2.0, -0.0, 0.0, 1e-300, 0.25, 1.0, 3.0], requires_grad=True)
        p = torch.full((7,), exponent, requires_grad=True)
        value = power(base, p)
        positive = base > 0
        assert torch.allclose(value[positive], base[positive] ** exponent, rtol=1e-15)
        assert bool((value[~positive] == 0).all())
        for first in torch.autograd.grad(value.sum(), [base, p], create_graph=True):
            assert bool(first.isfinite().all()) and bool((first[~positive] == 0).all())


class TestSlopes:
    """Outflows rise with their donor and fall with their receiver, also outside the physical range."""

    @pytest.mark.parametrize("corners", [False, True], ids=["inside", "corners"])
    @BOTH
    def test_of_every_flux(self, structure, corners):
        bounded = {"x2": -3.0} if structure is gr4j else {}
        stores, forcing, theta = points(structure, 4000, low=-1.0, high=4.0, corners=corners, **bounded)
        leaves = [s.clone().requires_grad_() for s in stores]
        found = rates(structure, leaves, forcing, theta)
        for f, rate in zip(structure.fluxes, found, strict=True):
            if not rate.requires_grad:
                continue
            slopes = torch.autograd.grad(rate.sum(), leaves, retain_graph=True, materialize_grads=True)
            for store, slope in zip(structure.stores, slopes, strict=True):
                if store == f.source:
                    assert slope.min() >= 0, (f.name, store)
                if store == f.sink:
                    assert slope.max() <= 0, (f.name, store)

    @pytest.mark.parametrize("corners", [False, True], ids=["inside", "corners"])
    @BOTH
    def test_of_the_tendency(self, structure, corners):
        """Water that a store loses does not come back: off-diagonals >= 0, columns sum to <= 0.

        The exception is known: release falls with the snow that retains it, so soil and upper store lose by snow.
        """
        bounded = {"x2": -3.0} if structure is gr4j else {}
        stores, forcing, theta = points(structure, 4000, low=-1.0, high=4.0, corners=corners, **bounded)
        j = jacobian(structure, stores, forcing, theta)
        names = list(structure.stores)
        largest = j.abs().amax((0, 1)) + 1.0
        assert bool((j.sum(0) <= 1e-12 * largest).all())
        broken = {
            (names[a], names[b])
            for a in range(len(names))
            for b in range(len(names))
            if a != b and bool((j[a, b] < -1e-12 * largest).any())
        }
        assert broken == ({("soil", "snow"), ("upper", "snow")} if structure is hbv else set())

    @pytest.mark.parametrize("h", [1.0, 1.0 - 0.5**0.5], ids=["backward Euler", "SDIRK2"])
    @BOTH
    def test_pivots(self, structure, h):
        """Elimination of I - h J without exchange of rows meets no pivot below one, at tau = 1 d and every corner."""
        fixed = {"x2": -3.0} if structure is gr4j else {"tau": 1.0}
        stores, forcing, theta = points(structure, 8000, low=-1.0, high=4.0, corners=True, **fixed)
        s = len(stores)
        a = torch.eye(s).unsqueeze(-1) - h * jacobian(structure, stores, forcing, theta)
        for k in range(s):
            assert a[k, k].min() >= 1.0 - 1e-12
            for i in range(k + 1, s):
                a[i, k:] = a[i, k:] - a[i, k] / a[k, k] * a[k, k:]


VALUES = {
    "prcp": (0.5, 7.0),
    "temp": (-4.1, 6.3),
    "pet": (2.4, 3.0),
    **HBV.theta,
    **GR4J.theta,
    "x2": (-1.5, 0.8),
    "width": (0.2, 0.5),
    "tau": (1.0, 0.4),
    "snow": (8.0, 35.0),
    "meltwater": (1.5, 9.0),
    "soil": (120.0, 140.3),
    "upper": (9.0, 30.0),
    "lower": (20.0, 3.0),
    "production": (120.0, 80.0),
    "routing": (30.0, 12.0),
    "snow_fraction": (0.2, 0.9),
    "melt_potential": (2.0, 11.0),
    "refreezing_potential": (0.3, 0.9),
    "rainfall": (1.0, 4.0),
    "release": (0.6, 2.0),
    "net_rain": (1.0, 4.0),
    "net_pet": (0.6, 2.0),
    "filling": (0.4, 0.8),
    "direct": (0.3, 0.9),
    "potential_exchange": (-0.1, 0.2),
    **{n: (2.0, 5.0) for n in gr4j.stores if n.startswith("nash")},
}
"""Two points away from every kink, for what a law may read."""
FORMULAS = [(s.name, i) for s in (hbv, gr4j) for i in (*s.quantities, *s.fluxes)]


@pytest.mark.parametrize("model, item", FORMULAS, ids=lambda x: getattr(x, "name", x))
def test_gradcheck_of_every_formula(model, item):
    """First and second derivatives against differences, torch's tolerances (1e-5 relative at eps 1e-6)."""
    inputs = [torch.tensor(VALUES[n], requires_grad=True) for n in reads(item.law)]
    assert torch.autograd.gradcheck(item.law, inputs)
    if item.law(*inputs).grad_fn is not None:
        assert torch.autograd.gradgradcheck(item.law, inputs, gen_non_contig_grad_outputs=False)


@BOTH
def test_derivatives_are_finite_at_every_kink(structure):
    """Stores at zero, at capacity and far out, parameters at the ends of their ranges, weather on the thresholds."""
    stores, forcing, theta = points(structure, 6000, corners=True)
    rng = np.random.default_rng(3)
    full = scales(structure, theta)
    where = [0.0, -0.0, 1.0, -1.0, 0.5, 10.0, 1e-300, 1e-12]
    stores = [full[n] * torch.tensor(rng.choice(where, 6000)) for n in structure.stores]
    if structure is hbv:
        retained = stores[0].clamp_min(0.0) * theta["cwh"]
        stores[1] = torch.where(torch.arange(6000) % 3 == 0, retained, stores[1])
        stores[2] = torch.where(torch.arange(6000) % 5 == 0, theta["lp"] * theta["fc"], stores[2])
        stores[3] = torch.where(torch.arange(6000) % 4 == 0, theta["uzl"], stores[3])
        prcp, temp, pet = forcing
        forcing = prcp, torch.where(torch.arange(6000) % 3 == 1, theta["tt"], temp), pet
    else:
        prcp, pet = forcing
        forcing = torch.where(torch.arange(6000) % 3 == 1, pet, prcp), pet
    leaves = [v.clone().requires_grad_() for v in (*stores, *forcing, *theta.values())]
    s, f = len(stores), len(forcing)
    found = rates(structure, leaves[:s], tuple(leaves[s : s + f]), dict(zip(theta, leaves[s + f :], strict=True)))
    for name, rate in zip(Balance(structure).flux_names, found, strict=True):
        assert bool(rate.isfinite().all()), name
        for gradient in torch.autograd.grad(rate.sum(), leaves, retain_graph=True, materialize_grads=True):
            assert bool(gradient.isfinite().all()), name


@BOTH
def test_rates_are_pointwise_operations(structure):
    """Traced at some points, the rates hold at others: nothing branches on values."""
    stores, forcing, theta = points(structure, 50, low=0.0, high=1.0)
    other = points(structure, 50, seed=9, low=-1.0, high=4.0)

    def evaluate(stores, forcing, theta):
        return rates(structure, stores, forcing, theta)

    traced = make_fx(evaluate)(stores, forcing, theta)
    for a, b in zip(traced(*other), evaluate(*other), strict=True):
        assert torch.equal(a, b)


@BOTH
def test_dependence_lists_the_stores_that_matter(structure):
    """The declared sparsity has no entry that is zero everywhere, nor lacks one: solvers eliminate by it."""
    stores, forcing, theta = points(structure, 3000, low=0.0, high=1.5)
    j = jacobian(structure, stores, forcing, theta)
    used = (j != 0).any(-1)
    declared = torch.tensor(Balance(structure).dependence)
    assert torch.equal(used, declared)
    assert int(declared.sum()) == {"hbv": 15, "gr4j": 25}[structure.name]


def solve(case, solver, days=40, seed=5, **options):
    model = options.pop("model", None) or case.build()
    theta = {**case.parameters(model), **options.pop("theta", {})}
    theta = {n: v for n, v in theta.items() if n in model.parameter_names}
    return simulate(model, weather(days, seed=seed, **options), theta=theta, storage0=case.start(), solver=solver)


def assert_closed(run):
    assert bool((run.max_balance_error() <= run.balance_tolerance()).all())


class TestRuns:
    @pytest.mark.parametrize("tableau", [BACKWARD_EULER, SDIRK2], ids=lambda t: t.name)
    @pytest.mark.parametrize("case", [HBV, GR4J], ids=lambda c: c.name)
    def test_water(self, case, tableau):
        """Precipitation = evaporation + discharge - exchange + change of storage, to 1e-9 mm, with uneven steps."""
        run = solve(case, Stepping(tableau), hours=[24.0, 6.0, 36.0, 24.0] * 10)
        assert_closed(run)
        days = run.forcing.days[:, None]
        supply = (run.forcing.values["prcp"] * days).sum(0)
        spent = (run.discharge * days).sum(0) + (run.storage[-1] - run.storage[0]).sum(-1)
        for name, sign in (("et", 1.0), ("interception", 1.0), ("exchange", -1.0)):
            if name in (*run.model.flux_names, *run.model.structure.groups):
                spent = spent + sign * (run.rate(name) * days).sum(0)
        assert torch.allclose(supply, spent, rtol=0, atol=1e-9)

    @pytest.mark.parametrize("case", [HBV, GR4J], ids=lambda c: c.name)
    def test_backward_euler_keeps_stores_non_negative(self, case):
        """In weather and in a drought, at any corner of the ranges; below the residual tolerance, 1e-9 mm."""
        model, structure = case.build(), case.build().structure
        fixed = {"x2": -3.0} if structure.name == "gr4j" else {"tau": 1.0}
        theta = draw(structure, 60, 4, corners=True, **fixed)
        for record in (weather(60, 60, seed=3), weather(30, 60, seed=3, warm=12.0, rain=0.01)):
            with torch.no_grad():
                run = simulate(
                    model,
                    record,
                    theta=theta,
                    storage0={n: v[0] for n, v in case.start().items()},
                    solver=Stepping(BACKWARD_EULER),
                )
            assert run.storage.min().item() >= -1e-9
            assert run.report.min_pivot >= 1.0 - 1e-12
            assert_closed(run)

    @pytest.mark.parametrize("case", [HBV, GR4J], ids=lambda c: c.name)
    def test_gradient_all_at_once_is_that_of_stepping(self, case):
        """Stepping is checked against differences; 1e-7 relative: both to the residual tolerance."""
        gradients = []
        for solver in (Stepping(SDIRK2), AllAtOnce(SDIRK2, block=8)):
            model, record = case.build(), weather(30, seed=5)
            theta = {n: v.clone().requires_grad_() for n, v in case.parameters(model).items()}
            start = torch.stack([v.clone() for v in case.start().values()], -1).requires_grad_()
            run = simulate(model, record, theta=theta, storage0=start, solver=solver)
            loss = (run.discharge**2).sum() + run.storage[::7].sum()
            found = torch.autograd.grad(loss, [*theta.values(), start])
            gradients.append(torch.cat([g.flatten() for g in found]))
        assert bool(gradients[0].isfinite().all())
        assert torch.allclose(gradients[0], gradients[1], rtol=1e-7, atol=1e-7 * gradients[0].abs().max().item())

    def test_betaet_below_one_from_an_empty_store(self):
        """The slope of ET is infinite at zero; the limiter keeps state and gradient finite."""
        model, record = Balance(hbv), weather(25, warm=8.0)
        theta = {n: v.clone().requires_grad_() for n, v in HBV.parameters(model).items()}
        theta["betaet"] = torch.tensor([0.3, 0.5], requires_grad=True)
        start = torch.zeros(2, 5, requires_grad=True)
        run = simulate(model, record, theta=theta, storage0=start, solver=Stepping(BACKWARD_EULER))
        found = torch.autograd.grad(run.discharge.sum() + run.storage.sum(), [*theta.values(), start])
        assert all(bool(g.isfinite().all()) for g in found)
        assert run.storage.min().item() >= -1e-9

    def test_positive_exchange_adds_to_discharge(self):
        runs = {x2: solve(GR4J, Stepping(BACKWARD_EULER), theta={"x2": torch.tensor(x2)}) for x2 in (-4.0, 0.0, 4.0)}
        mean = {x2: run.discharge.mean().item() for x2, run in runs.items()}
        assert mean[-4.0] < mean[0.0] < mean[4.0]
        assert bool((runs[0.0].rate("exchange") == 0).all())
        assert runs[-4.0].rate("exchange").mean() < 0 < runs[4.0].rate("exchange").mean()

    def test_time_varying_and_default_parameters(self):
        daily = {"beta": torch.linspace(1.5, 4.0, 40).unsqueeze(-1).expand(-1, 2)}
        assert_closed(solve(HBV, None, theta=daily))
        for structure in (hbv, gr4j):
            run = simulate(Balance(structure), weather(20), storage0=None)
            assert_closed(run)


def discrete_gr4j(prcp, pet, x1, x2, x3, x4):
    """Discharge [mm/d] of GR4J as Perrin et al. (2003) solve it, day by day with unit hydrographs; (T,) each."""
    s, r, days = 0.6 * x1, 0.5 * x3, np.arange(41.0)
    sh1 = np.clip(days / x4, 0.0, 1.0) ** 2.5
    sh2 = np.where(days < x4, 0.5 * sh1, 1.0 - 0.5 * np.clip(2.0 - days / x4, 0.0, 1.0) ** 2.5)
    uh1, uh2, slow, fast, flow = np.diff(sh1), np.diff(sh2), np.zeros(40), np.zeros(40), []
    for p, e in zip(prcp, pet, strict=True):
        rain, demand = np.tanh(max(p - e, 0.0) / x1), np.tanh(max(e - p, 0.0) / x1)
        stored = x1 * (1.0 - (s / x1) ** 2) * rain / (1.0 + s / x1 * rain)
        s += stored - s * (2.0 - s / x1) * demand / (1.0 + (1.0 - s / x1) * demand)
        percolation = s * (1.0 - (1.0 + (4.0 * s / 9.0 / x1) ** 4) ** -0.25)
        s -= percolation
        routed = percolation + max(p - e, 0.0) - stored
        slow, fast = np.append(slow[1:], 0.0) + 0.9 * routed * uh1, np.append(fast[1:], 0.0) + 0.1 * routed * uh2
        exchange = x2 * (r / x3) ** 3.5
        r = max(r + slow[0] + exchange, 0.0)
        drained = r * (1.0 - (1.0 + (r / x3) ** 4) ** -0.25)
        r -= drained
        flow.append(drained + max(fast[0] + exchange, 0.0))
    return np.array(flow)


@pytest.mark.parametrize("x2", [0.0, -1.0, 0.7])
@pytest.mark.parametrize("x4, cascade", [(1.7, 0.5), (2.5, 1.1)])
def test_gr4j_agrees_with_the_discrete_model(x2, x4, cascade):
    """With x4 such that the delays agree, and eight steps a day: volume to 2 %, NSE above 0.97."""
    weather = data.weather(4 * 365, seed=2)
    theta = {"x1": 350.0, "x2": x2, "x3": 90.0, "x4": cascade}
    solver = AllAtOnce(SDIRK2, substeps=8)
    with torch.no_grad():
        run = simulate(Balance(gr4j), Forcing.from_dataset(weather, gr4j.forcings), theta=theta, solver=solver)
    expected = discrete_gr4j(weather["prcp"].values[:, 0], weather["pet"].values[:, 0], 350.0, x2, 90.0, x4)[365:]
    found = run.discharge[365:, 0].numpy()
    assert found.mean() == pytest.approx(expected.mean(), rel=0.02)
    assert 1.0 - ((found - expected) ** 2).sum() / ((expected - expected.mean()) ** 2).sum() > 0.97


HYBRIDS = {
    "hbv, ET a fraction of PET": (HBV, {"et": lambda: NeuralLaw("soil", output=Fraction("pet"), increasing=("soil",))}),
    "hbv, recharge times a factor": (HBV, {"recharge": lambda: NeuralLaw("soil", "upper", output=Multiplier())}),
    "hbv, percolation and split": (
        HBV,
        {
            "percolation": lambda: NeuralLaw("upper", "lower", output=Positive(1.0)),
            "snow_fraction": lambda: NeuralLaw("temp", output=Fraction(), decreasing=("temp",)),
        },
    ),
    "gr4j, ET times a factor": (GR4J, {"et": lambda: NeuralLaw("production", "prcp", output=Multiplier())}),
    "gr4j, exchange of both branches": (
        GR4J,
        {"potential_exchange": lambda: NeuralLaw("routing", "production", output=Multiplier(3.0))},
    ),
    "gr4j, percolation": (GR4J, {"percolation": lambda: NeuralLaw("production", increasing=("production",))}),
    "gr4j, evaporation as one flux": (GR4J, {"evaporation": lambda: NeuralLaw("production", output=Fraction("pet"))}),
}


@pytest.mark.parametrize("name", HYBRIDS)
def test_hybrids(name):
    """Any flux or quantity takes a network: water closes, and every weight has a finite gradient."""
    case, laws = HYBRIDS[name]
    torch.manual_seed(1)
    model = Balance(case.build().structure, **{n: make() for n, make in laws.items()})
    for law in model.laws.values():
        law.standardise({n: (50.0, 50.0) for n in law.inputs})
    run = solve(case, Stepping(BACKWARD_EULER), 20, model=model)
    assert_closed(run)
    gradients = torch.autograd.grad(run.discharge.square().sum(), list(model.parameters()))
    assert all(bool(g.isfinite().all()) for g in gradients)
    assert any(bool((g != 0).any()) for g in gradients)


class TestBadInput:
    @pytest.mark.parametrize("n", [1, 0, -3, 2.5, "11", None])
    def test_cascade(self, n):
        with pytest.raises(StructureError, match="whole number of stores, at least 2, not"):
            gr4j_cascade(n)

    def test_missing_pet(self):
        record = weather(3)
        record = replace(record, values={n: v for n, v in record.values.items() if n != "pet"})
        for structure in (hbv, gr4j):
            with pytest.raises(DataError, match="needs forcing 'pet', which the data lack"):
                simulate(Balance(structure), record)

    def test_groups_between_different_nodes(self):
        for structure in (hbv, gr4j):
            with pytest.raises(StructureError, match="Group 'discharge' joins fluxes between different nodes"):
                Balance(structure, discharge=NeuralLaw("prcp"))

    def test_unknown_names(self):
        with pytest.raises(StructureError, match="has no parameter 'FC'. Did you mean|has no parameter 'FC'"):
            simulate(Balance(hbv), weather(3), theta={"FC": 100.0})
        with pytest.raises(StructureError, match="no flux, quantity or group 'discharg'.*Did you mean 'discharge'"):
            Balance(gr4j, discharg=NeuralLaw("prcp"))

    def test_ranges(self):
        for structure in (hbv, gr4j):
            for name, r in structure.parameters.items():
                assert r.low <= r.default <= r.high and r.unit, name
        assert gr4j.boundaries == (GROUNDWATER,) and gr4j.flux("exchange_routing").signed
        assert {n for n, r in hbv.parameters.items() if r.fixed} == {"width", "tau"}


@pytest.fixture(scope="module")
def basins(shared):
    """Eight years of three humid CAMELS basins, one of them with much snow, with PET after Hamon."""
    pytest.importorskip("pyet", reason="PET of real basins is computed by pyet")
    folder = shared / "data" / "camels-us"
    if not folder.is_dir():
        pytest.skip(f"real data needed: there is no folder {folder}")
    ids = ["01013500", "02479155", "03170000"]
    missing = [i for i in ids if not (folder / "daily" / f"{i}.csv.gz").exists()]
    if missing:
        pytest.skip(f"real data needed: no record of {', '.join(missing)}")
    return data.add_pet(data.read(folder, basins=ids).isel(time=slice(0, 8 * 365)), "hamon")


@pytest.mark.parametrize("solver", [None, AllAtOnce(BACKWARD_EULER)], ids=["SDIRK2", "backward Euler"])
@BOTH
def test_volumes_in_real_basins(basins, structure, solver):
    """With default parameters the water leaves by evaporation and discharge in the shares observed, within a third."""
    forcing = Forcing.from_dataset(basins, structure.forcings)
    with torch.no_grad():
        run = simulate(Balance(structure), forcing, solver=solver)
    assert_closed(run)
    last = slice(365, None)
    observed = np.nanmean(basins["discharge"].transpose("time", "basin").values[last], 0)
    ratio = run.discharge[last].mean(0).numpy() / observed
    assert ((ratio > 0.67) & (ratio < 1.5)).all(), ratio
    names = ("et", "interception") if structure is gr4j else ("et",)
    evaporation = sum(run.rate(n)[last].mean(0) for n in names)
    balance = forcing.values["prcp"][last].mean(0) - run.discharge[last].mean(0) - evaporation
    change = (run.storage[-1] - run.storage[365]).sum(-1) / (len(forcing) - 365)
    assert torch.allclose(balance, change, rtol=0, atol=1e-10)
