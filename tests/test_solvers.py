"""Schemes against closed forms: values, interval volumes, orders of convergence, tableaux, failures."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tables import MODELS, STEPPING, TABLEAUX, name_of, weather

from udehydro import (
    ATMOSPHERE,
    OUTLET,
    Balance,
    ConfigError,
    Forcing,
    NeuralLaw,
    Range,
    SolverError,
    Structure,
    flux,
    simulate,
)
from udehydro.models import exphydro_mended, linear
from udehydro.solvers import (
    BACKWARD_EULER,
    EXPLICIT_EULER,
    HEUN,
    RK4,
    SDIRK2,
    TR_BDF2,
    AllAtOnce,
    Stepping,
    Tableau,
    Torchdiffeq,
)

ORDERS = {"explicit Euler": 1, "Heun": 2, "RK4": 4, "backward Euler": 1, "SDIRK2": 2, "TR-BDF2": 2}


def closed_form(k, rain, days, start):
    """Linear reservoir under piecewise constant rain: storages at the edges and outflow volumes of the intervals [mm].

    S(t) = P / k + (S - P / k) exp(-k t); the volume follows from the balance, V = P t + S(0) - S(t).
    """
    storage, volume = [start], []
    for p, h in zip(rain, days, strict=True):
        s = storage[-1]
        end = p / k + (s - p / k) * torch.exp(-k * h)
        storage.append(end)
        volume.append(p * h + s - end)
    return torch.stack(storage), torch.stack(volume)


class TestLinearReservoir:
    """Uneven intervals of 3 h to 2 days, rain pulses, two time constants; 1e-7 mm with converged solvers."""

    forcing = weather(15, 2, seed=3, hours=[24.0, 3.0, 48.0] * 5)
    k = torch.tensor([0.1, 0.9], dtype=torch.float64)
    start = torch.tensor([40.0, 5.0], dtype=torch.float64)

    def run(self, solver):
        with torch.no_grad():
            return simulate(
                Balance(linear), self.forcing, theta={"k": self.k}, storage0={"storage": self.start}, solver=solver
            )

    @pytest.mark.parametrize(
        "solver",
        [
            Stepping(RK4, substeps=80),
            Torchdiffeq("dopri5", rtol=1e-10, atol=1e-10),
            Torchdiffeq("dopri8", rtol=1e-10, atol=1e-10),
            Torchdiffeq("rk4", step_size=0.025),
            Torchdiffeq("rk4", step_size=0.025, span="record"),
        ],
        ids=name_of,
    )
    def test_converged(self, solver):
        simulation = self.run(solver)
        storage, volume = closed_form(self.k, self.forcing.values["prcp"], self.forcing.days, self.start)
        # fourth order at h k <= 0.0225 leaves 1e-9 of 100 mm; dopri at 1e-10 the same
        assert (simulation.store("storage") - storage).abs().max().item() <= 1e-7
        days = self.forcing.days.unsqueeze(1)
        assert (simulation.rate("outflow") * days - volume).abs().max().item() <= 1e-7
        assert (simulation.rate("rain") - self.forcing.values["prcp"]).abs().max().item() <= 1e-12

    @pytest.mark.parametrize("tableau", TABLEAUX, ids=name_of)
    def test_one_step_is_the_stability_function(self, tableau):
        """Without rain a step multiplies storage by R(-k h): to round-off."""
        record = replace(self.forcing, values={n: v * 0.0 for n, v in self.forcing.values.items()})
        storage = simulate(
            Balance(linear), record, theta={"k": self.k}, storage0={"storage": self.start}, solver=Stepping(tableau)
        ).store("storage")
        for k, h in enumerate(record.days.tolist()):
            expected = [tableau.amplification(-rate * h) for rate in self.k.tolist()]
            assert torch.allclose(storage[k + 1] / storage[k], torch.tensor(expected), rtol=1e-12)


@flux(ATMOSPHERE, "upper")
def rain(prcp):
    return prcp


@flux("upper", ATMOSPHERE)
def evaporation(upper, prcp, c):
    return 0.3 * upper / (upper + c)


@flux("upper", "lower")
def percolation(upper, a):
    return a * upper**1.5


@flux("lower", "upper")
def capillary(upper, lower):
    return 0.02 * lower * torch.exp(-upper / 30.0)


@flux("lower", OUTLET)
def flow(lower, b):
    return b * lower**2


coupled = Structure(
    name="coupled",
    stores={"upper": "mm", "lower": "mm"},
    forcings={"prcp": "mm/d"},
    parameters={
        "a": Range(0.0, 1.0, "1/d", 0.05),
        "b": Range(0.0, 1.0, "1/mm/d", 0.004),
        "c": Range(0.1, 100.0, "mm", 20.0),
    },
    fluxes=(rain, evaporation, percolation, capillary, flow),
)
"""Nonlinear, smooth in each interval, coupled both ways, and forced."""


@pytest.mark.parametrize("tableau", TABLEAUX, ids=name_of)
def test_order_of_convergence(tableau):
    """Observed order within 0.15 of the scheme's, for storages and for volumes, on a forced nonlinear problem.

    Rain jumps between intervals; the scheme starts anew at each edge, so the jumps cost no order.
    """
    record = weather(6, 2, seed=1)
    record = replace(record, values={"prcp": record.values["prcp"] + 1.0})

    def run(tableau, n):
        solver = Stepping(tableau, substeps=n, tolerance=1e-12)
        with torch.no_grad():
            return simulate(Balance(coupled), record, storage0={"upper": 25.0, "lower": 15.0}, solver=solver)

    reference = run(RK4, 160)  # error below 1e-11 mm, thousand times less than the smallest error judged
    coarse = {4: 2, 2: 8, 1: 32}[ORDERS[tableau.name]]
    errors = []
    for n in (coarse, 2 * coarse):
        simulation = run(tableau, n)
        errors.append(
            [
                (simulation.storage - reference.storage).norm().item(),
                (simulation.volume - reference.volume).norm().item(),
            ]
        )
    for part in range(2):
        observed = math.log2(errors[0][part] / errors[1][part])
        assert abs(observed - ORDERS[tableau.name]) <= 0.15, (errors, observed)


@pytest.mark.parametrize("case", MODELS, ids=name_of)
@pytest.mark.parametrize("tableau", [BACKWARD_EULER, SDIRK2, TR_BDF2], ids=name_of)
@pytest.mark.parametrize("block", [1, 7, "auto"])
def test_all_at_once_gives_the_numbers_of_stepping(case, tableau, block):
    """Both solve the same equations; 1e-8 mm: the residual tolerance of 1e-9, passed on through a contraction."""
    model, record = case.build(2, 1.0), weather(20, seed=3)
    options = {"theta": case.parameters(model), "storage0": case.start()}
    stepping = Stepping(tableau, substeps=2)
    with torch.no_grad():
        a = simulate(model, record, solver=stepping, **options)
        b = simulate(model, record, solver=AllAtOnce(tableau, substeps=2, block=block), **options)
    assert (a.storage - b.storage).abs().max().item() <= 1e-8
    assert (a.volume - b.volume).abs().max().item() <= 1e-8


def test_all_at_once_refuses_explicit_tableaux():
    with pytest.raises(ConfigError, match="implicit tableau.*not 'Heun'; use Stepping"):
        AllAtOnce(HEUN)
    with pytest.raises(ConfigError, match="block must be 'auto' or at least 1"):
        AllAtOnce(block=0)


class TestTableau:
    def test_classical(self):
        for tableau in TABLEAUX:
            assert tableau.order == ORDERS[tableau.name]
        assert [t.implicit for t in TABLEAUX] == [False, False, False, True, True, True]
        assert [t.stiffly_accurate for t in TABLEAUX] == [False, False, False, True, True, True]

    def test_real_stability_limits(self):
        """2 for Euler and Heun, 2.7853 for RK4 (Hairer and Wanner 1996, IV.2), none for the implicit ones."""
        limits = [t.real_stability_limit for t in TABLEAUX]
        assert limits == pytest.approx([2.0, 2.0, 2.78529, math.inf, math.inf, math.inf], abs=2e-4)

    def test_l_stable(self):
        """The implicit ones damp fast decay fully."""
        for tableau in (BACKWARD_EULER, SDIRK2, TR_BDF2):
            assert abs(tableau.amplification(-1e9)) < 1e-8

    @pytest.mark.parametrize(
        "a, b, order, message",
        [
            (((0.0, 0.0), (1.0, 0.0)), (0.5, 0.4), 1, "not of order 1: sum b = 0.9, should be 1"),
            (((0.0, 0.0), (1.0, 0.0)), (0.6, 0.4), 2, "not of order 2: b c = 0.4, should be 0.5"),
            (((0.0, 0.0), (1.0, 0.0)), (0.5, 0.5), 3, "not of order 3: b c.2 = 0.5, should be 0.333333"),
            (((1.0,),), (1.0,), 2, "not of order 2: b c = 1, should be 0.5"),
            (((0.0, 0.5), (1.0, 0.0)), (0.5, 0.5), 2, "not diagonally implicit: entries above the diagonal"),
            (((-0.5,),), (1.0,), 1, "negative diagonal entry: the stage is not solvable"),
            (((0.0,), (1.0,)), (0.5, 0.5), 2, r"a has shape \(2, 1\), b has 2 weights"),
            (((0.0,),), (1.0,), 5, "order must be 1 to 4, got 5"),
            (((0.0,),), (1.0,), 0, "order must be 1 to 4, got 0"),
        ],
    )
    def test_errors(self, a, b, order, message):
        with pytest.raises(ConfigError, match=message):
            Tableau("mine", a, b, order)

    def test_a_wrong_node_in_a_gauss_like_tableau(self):
        """A published table of a fourth-order scheme with one digit of a node wrong passes every look but this one."""
        good = Tableau(
            "3/8", ((0,) * 4, (1 / 3, 0, 0, 0), (-1 / 3, 1, 0, 0), (1, -1, 1, 0)), (1 / 8, 3 / 8, 3 / 8, 1 / 8), 4
        )
        a = [list(row) for row in good.a]
        a[2][1] = 0.98
        with pytest.raises(ConfigError, match="'3/8' is not of order 4"):
            replace(good, a=tuple(map(tuple, a)))

    def test_gl4_is_fully_implicit(self):
        """Two-stage Gauss, order 4, has an entry above the diagonal: refused rather than solved as something else."""
        r = math.sqrt(3.0) / 6.0
        with pytest.raises(ConfigError, match="not diagonally implicit"):
            Tableau("gl4", ((0.25, 0.25 - r), (0.25 + r, 0.25)), (0.5, 0.5), 4)

    def test_unstable_implicit_tableau(self):
        """An implicit scheme that is not A-stable has no real interval to rely on."""
        theta = Tableau("theta 1/4", ((0.25,),), (1.0,), 1)
        assert theta.real_stability_limit == 0.0


class TestStepping:
    @pytest.mark.parametrize(
        "options, message",
        [
            ({"substeps": 0}, "substeps must be a whole number of at least 1, got 0"),
            ({"substeps": 1.5}, "substeps must be a whole number of at least 1, got 1.5"),
            ({"undershoot": "clamp"}, "undershoot must be 'report', 'split' or 'raise', got 'clamp'"),
            ({"gradient": "none"}, "gradient must be 'adjoint' or 'tape', got 'none'"),
            ({"tolerance": 0.0}, "tolerance must be above zero, got 0.0"),
        ],
    )
    def test_settings(self, options, message):
        with pytest.raises(ConfigError, match=message):
            Stepping(**options)

    def test_an_explosion_raises(self):
        """A store that feeds itself: explicit steps run away, and the error names the first date that is not right."""
        forcing = weather(200, 2)
        theta = {"k": torch.tensor([0.5, 60.0])}
        for solver in (Stepping(EXPLICIT_EULER), Stepping(HEUN), Stepping(RK4)):
            with pytest.raises(SolverError, match="basin b1, 2001-11-25: h x spectral radius reaches 60") as caught:
                simulate(Balance(linear), forcing, theta=theta, storage0={"storage": 10.0}, solver=solver)
            assert caught.value.failed.tolist() == [False, True]

    def test_growth_beyond_the_largest_number_raises(self):
        """Unstable growth with no steep decay: the state itself overflows, and that is an error too."""

        def outflow(storage, k):
            return -k * storage**2

        forcing = weather(60, 2)
        with pytest.raises(SolverError, match=r"basin b1, 2001-1[12]-\d\d") as caught:
            simulate(
                Balance(linear, outflow=outflow),
                forcing,
                theta={"k": torch.tensor([0.0, 0.5])},
                storage0={"storage": 10.0},
                solver=Stepping(HEUN, substeps=8),
            )
        assert bool(caught.value.failed[1]) and not bool(caught.value.failed[0])

    def test_a_step_without_solution_raises(self):
        """Backward Euler of dS/dt = S^2 from 1 mm has no real root beyond h = 1/4 d: not converged, so no number."""

        def outflow(storage, k):
            return -k * storage * storage

        with pytest.raises(SolverError, match="backward Euler failed in basin b1, 2001-11-2") as caught:
            simulate(
                Balance(linear, outflow=outflow),
                weather(5, 2),
                theta={"k": torch.tensor([0.0, 1.0])},
                storage0={"storage": 50.0},
                solver=Stepping(BACKWARD_EULER, splits=3),
            )
        assert caught.value.failed.tolist() == [False, True]
        assert "after 3 halvings" in str(caught.value)

    def test_pivots_tell_of_a_law_that_breaks_the_slope_rule(self):
        """An outflow that falls with its donor: smallest pivot below one."""

        def outflow(storage, k):
            return k * (60.0 - storage).clamp_min(0.0)

        record = weather(3, 2)
        good = simulate(Balance(linear), record, storage0={"storage": 10.0})
        bad = simulate(Balance(linear, outflow=outflow), record, storage0={"storage": 30.0})
        assert good.report.min_pivot >= 1.0 > bad.report.min_pivot

    def test_float32_by_request(self):
        """Everything follows the forcing's dtype; agreement with float64 to its round-off over 20 steps."""
        case = MODELS[2]
        model, record = case.build(), weather(20)
        single = record.to(dtype=torch.float32)
        a = simulate(model, record, theta=case.parameters(model), storage0=case.start())
        b = simulate(model, single, theta=case.parameters(model), storage0=case.start())
        assert b.storage.dtype == b.volume.dtype == torch.float32
        assert (a.storage - b.storage.double()).abs().max().item() <= 1e-2

    @pytest.mark.parametrize("solver", STEPPING, ids=name_of)
    def test_without_batch(self, solver):
        """Shapes without any batch dimension, equal to a batch of one."""
        case = MODELS[2]
        record = weather(6, 1)
        if not solver.tableau.implicit:
            solver = replace(solver, substeps=10)
        plain = replace(record, values={n: v[:, 0] for n, v in record.values.items()}, basins=())
        theta = {n: v[0] for n, v in case.parameters(case.build()).items()}
        start = {n: v[0] for n, v in case.start().items()}
        with torch.no_grad():
            a = simulate(case.build(), plain, theta=theta, storage0=start, solver=solver)
            b = simulate(case.build(), record, theta=theta, storage0=start, solver=solver)
        assert a.storage.shape == (7, 2) and a.volume.shape == (6, 6)
        assert torch.allclose(a.storage, b.storage[:, 0], rtol=0.0, atol=1e-12)

    def test_substeps_are_steps_of_a_finer_record(self):
        """Three substeps of a day are the three intervals of 8 h with the same forcing."""
        record = weather(4, 2)
        edges = record.time_edge[0] + np.arange(13) * np.timedelta64(8, "h")
        fine = Forcing(
            {n: v.repeat_interleave(3, dim=0) for n, v in record.values.items()}, record.units, edges, record.basins
        )
        case = MODELS[2]
        options = {"theta": case.parameters(case.build()), "storage0": case.start()}
        a = simulate(case.build(), record, solver=Stepping(SDIRK2, substeps=3), **options)
        b = simulate(case.build(), fine, solver=Stepping(SDIRK2), **options)
        assert torch.allclose(a.storage, b.storage[::3], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("solver", [AllAtOnce(), Stepping(), Stepping(HEUN)])
def test_a_network_that_exploded_is_named_with_basin_and_date(solver):
    """No number comes back, and the message says which law, where and in what state."""
    model = Balance(exphydro_mended, et=NeuralLaw("soil", "temp", seed=0))
    with torch.no_grad():
        model.laws["et"].net.weights[-1].fill_(float("nan"))
    edges = np.datetime64("2001-01-01") + np.arange(31)
    values = {"prcp": torch.full((30, 1), 3.0), "temp": torch.full((30, 1), 9.0), "dayl": torch.full((30, 1), 12.0)}
    forcing = Forcing(values, {}, edges, ("basin_a",))
    with pytest.raises(SolverError, match=r"flux 'et' is not finite in basin basin_a, 2001-01-01, at snow = 0 mm") as e:
        simulate(model, forcing, storage0={"snow": 0.0, "soil": 300.0}, solver=solver)
    assert e.value.failed.tolist() == [True]


def test_how_often_an_interval_is_halved_does_not_depend_on_the_neighbours():
    rng = torch.Generator().manual_seed(0)
    n = 40
    forcing = Forcing({"prcp": 5.0 * torch.rand(3, n, generator=rng)}, {}, np.datetime64("2001-01-01") + np.arange(4))
    out = flux("storage", OUTLET)(lambda storage, k, c: torch.minimum(k * storage, c))
    names = {"k": Range(0.1, 500.0, "1/d"), "c": Range(0.1, 500.0, "mm/d")}
    rain = flux(ATMOSPHERE, "storage")(lambda prcp: prcp)
    parts = (replace(rain, name="rain"), replace(out, name="outflow"))
    model = Balance(Structure("capped", {"storage": "mm"}, {"prcp": "mm/d"}, names, parts))
    theta = {name: torch.exp(scale * torch.rand(n, generator=rng)) for name, scale in (("k", 6.0), ("c", 5.0))}
    start = 30.0 * torch.rand(n, 1, generator=rng)
    solver = Stepping(SDIRK2, undershoot="split")
    together = simulate(model, forcing, theta=theta, storage0=start, solver=solver)
    halved = 0
    for i in range(n):
        one = replace(forcing, values={"prcp": forcing.values["prcp"][:, i : i + 1]})
        alone = simulate(
            model, one, theta={p: v[i : i + 1] for p, v in theta.items()}, storage0=start[i : i + 1], solver=solver
        )
        halved += alone.report.split_intervals
        assert (alone.storage[:, 0] - together.storage[:, i]).abs().max() < 1e-12
    assert halved == together.report.split_intervals > 5
