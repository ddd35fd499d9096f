"""Adjoint sensitivities against central differences, for every objective and quantity, on formulas and a hybrid."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tables import weather

from udehydro import Balance, ConfigError, FormulaLaw, Multiplier, NeuralLaw, Positive, Range, simulate
from udehydro.models import exphydro_mended, gr4j
from udehydro.sensitivity import adjoint, flood_peak, low_flow_days, perturbed, score, storage_at, volume
from udehydro.solvers import AllAtOnce
from udehydro.training import nse

SOLVER = AllAtOnce(warm_start=False, tolerance=1e-12)
RECORD = weather(200, 2, seed=3)
START = {"snow": 20.0, "soil": 300.0}
THETA = {n: r.default for n, r in exphydro_mended.parameters.items()}
FIRST, LAST = (str(RECORD.time[i])[:10] for i in (20, 190))


def hybrid() -> Balance:
    scale = {"soil": (300.0, 100.0), "prcp": (3.0, 5.0)}
    return Balance(exphydro_mended, discharge=NeuralLaw("soil", "prcp", hidden=(4,), scale=scale, seed=1))


MODELS = {"M0": Balance(exphydro_mended), "hybrid": hybrid()}


def observed() -> torch.Tensor:
    flow = simulate(MODELS["M0"], RECORD, theta=THETA, storage0=START, solver=SOLVER).discharge
    return flow * (1.0 + 0.2 * torch.randn(flow.shape, generator=torch.Generator().manual_seed(0)))


OBJECTIVES = {
    "volume": volume("discharge", FIRST, LAST),
    "et": volume("et", FIRST, LAST),
    "peak": flood_peak(FIRST, LAST),
    "low flow": low_flow_days(0.5, 0.1, FIRST, LAST),
    "storage": storage_at("soil", LAST),
    "nse": score(nse, observed(), FIRST, LAST),
}


STEPS = torch.tensor([1e-3, 1e-4, 1e-5], dtype=torch.float64)
ENTRIES, KINKED = 6, 0.3
"""Intervals of every series that are moved one by one; largest share of kinks among them."""


def run_of_members(model, objective, record, theta, start, count) -> torch.Tensor:
    """Objective (members, basins), all members side by side."""
    with torch.no_grad():
        given = {n: torch.as_tensor(v).reshape(-1, 1) for n, v in theta.items()}
        stores = torch.stack([torch.as_tensor(start[n]).expand(count) for n in model.store_names], dim=-1)
        stores = stores[:, None].expand(count, record.batch[-1], -1)
        return objective(simulate(model, record, theta=given, storage0=stores, solver=SOLVER))


def differences(values: torch.Tensor, base: torch.Tensor, size) -> tuple[torch.Tensor, torch.Tensor]:
    """Central differences (steps, n, B) of values (2, steps, n, B), and whether a kink lies within them (n, B)."""
    h = (size * STEPS).reshape(-1, 1, 1)
    central, bend = (values[0] - values[1]) / (2 * h), (values[0] + values[1] - 2 * base) / h
    # a smooth function bends ten times less where the step is ten times smaller, a kink does not
    kink = (bend[-1].abs() > 0.3 * bend[-2].abs()) & (bend[-1].abs() > 1e-6 * (base.abs() + central[-1].abs()))
    return central, kink


def error(found: torch.Tensor, central: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Difference as a share of the objective or the derivative, at the best of the steps."""
    return ((found - central).abs() / (scale + central.abs())).amin(0)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("kind", MODELS)
def test_it_agrees_with_central_differences(kind, name):
    model, objective = MODELS[kind], OBJECTIVES[name]
    theta = {n: THETA[n] for n in model.parameter_names}
    found = adjoint(model, RECORD, objective, theta=theta, storage0=START, solver=SOLVER, fluxes=True)
    base, scale = found.value, found.value.abs().clamp_min(1e-3)
    named, record = perturbed(model, RECORD)
    sides = torch.stack([STEPS, -STEPS])
    worst, kinks, count = 0.0, 0, 0
    for n, v in {**theta, **START}.items():
        size = abs(v) or 1.0
        moved = (v + size * sides).flatten()
        here = {**theta, **START, n: moved}
        many = record.with_members(len(moved))
        values = run_of_members(named, objective, many, {p: here[p] for p in theta}, {s: here[s] for s in START}, 6)
        central, kink = differences(values.reshape(2, len(STEPS), 1, -1), base, size)
        gradient = (found.parameters | found.storage0)[n]
        worst = max(worst, _largest(error(size * gradient, size * central, scale), kink))
        kinks, count = kinks + int(kink.sum()), count + kink.numel()
    generator = torch.Generator().manual_seed(1)
    series = {n: found.forcing[n] for n in model.forcing_names}
    series |= {f"added_to_{n}": found.fluxes[n] for n in model.flux_names}
    for n, gradient in series.items():
        at = torch.randperm(len(record), generator=generator)[:ENTRIES]
        many = record.with_members(sides.numel() * ENTRIES)
        values = many.values[n].clone()
        shift = sides.flatten().repeat_interleave(ENTRIES)
        values[at.repeat(sides.numel()), torch.arange(len(shift))] += shift[:, None]
        many = replace(many, values={**many.values, n: values})
        found_ = run_of_members(named, objective, many, theta, START, len(shift))
        central, kink = differences(found_.reshape(2, len(STEPS), ENTRIES, -1), base, 1.0)
        worst = max(worst, _largest(error(gradient[at], central, scale), kink))
        kinks, count = kinks + int(kink.sum()), count + kink.numel()
    assert worst < 1e-6
    assert kinks <= KINKED * count, f"{kinks} kinks of {count}"
    for n in START:
        assert torch.allclose(found.storage[n][0], found.storage0[n])


def _largest(errors: torch.Tensor, kink: torch.Tensor) -> float:
    """Largest error where there is no kink."""
    smooth = errors[~kink]
    return float(smooth.max()) if len(smooth) else 0.0


def test_a_basin_has_its_own_derivatives():
    alone = replace(RECORD, values={n: v[:, :1] for n, v in RECORD.values.items()}, basins=())
    both, one = (adjoint(MODELS["M0"], r, OBJECTIVES["volume"], storage0=START, solver=SOLVER) for r in (RECORD, alone))
    for n, g in one.parameters.items():
        assert torch.allclose(both.parameters[n][:1], g, rtol=1e-9, atol=1e-12)
    assert torch.allclose(both.forcing["prcp"][:, :1], one.forcing["prcp"], rtol=1e-9, atol=1e-12)


def test_water_added_to_a_store_that_cannot_lose_it_counts_whole():
    """Rain on soil is storage at the end plus what left: derivatives of the parts add up to one."""
    end = str(RECORD.time[-1])[:10]
    begin = str(RECORD.time[0])[:10]
    last = str((RECORD.time_edge[-1]).astype("datetime64[D]"))
    parts = [
        volume("discharge", begin, end),
        volume("et", begin, end),
        storage_at("soil", last),
        storage_at("snow", last),
    ]
    found = [adjoint(MODELS["M0"], RECORD, o, storage0=START, solver=SOLVER).forcing["prcp"] for o in parts]
    assert torch.allclose(sum(found), torch.ones_like(found[0]), atol=1e-8)


def test_the_dataset_has_units():
    found = adjoint(MODELS["hybrid"], RECORD, OBJECTIVES["volume"], storage0=START, solver=SOLVER, fluxes=True)
    ds = found.to_xarray("mm")
    assert ds["parameter_smax"].attrs["units"] == "mm per mm" and ds["forcing_temp"].attrs["units"] == "mm per degC"
    assert ds["lambda_soil"].dims == ("time_edge", "basin") and ds["flux_et"].attrs["units"] == "mm per mm/d"
    elasticity = found.elasticity()["smax"]
    assert np.allclose(ds["elasticity_smax"], elasticity)
    assert set(found.weights) == {n for n, _ in MODELS["hybrid"].named_parameters()}


def test_what_is_no_objective():
    model = MODELS["M0"]
    with pytest.raises(ConfigError, match="one number for each"):
        adjoint(model, RECORD, lambda s: s.discharge, storage0=START)
    with pytest.raises(ConfigError, match="does not depend"):
        adjoint(model, RECORD, lambda s: torch.zeros(2), storage0=START)
    with pytest.raises(ConfigError, match="no storage of snow"):
        adjoint(model, RECORD, OBJECTIVES["volume"], storage0={"soil": 1.0})
    with pytest.raises(ConfigError, match="width of the threshold"):
        low_flow_days(1.0, 0.0, FIRST, LAST)
    with pytest.raises(ConfigError, match="outside the record"):
        adjoint(model, RECORD, storage_at("soil", "1800-01-01"), storage0=START)


def test_laws_of_any_kind_can_be_perturbed():
    """Formulas with constants of their own, a factor on a formula, a group."""
    pytest.importorskip("sympy")
    rate = Range(0.01, 100.0, "mm/d", 5.0)
    formula = FormulaLaw("k*power(saturation(soil, smax), n)", {"k": rate, "n": Range(0.5, 20.0, "1", 3.0)})
    scale = {"soil": (300.0, 100.0)}
    models = [
        Balance(exphydro_mended, discharge=formula),
        Balance(exphydro_mended, et=NeuralLaw("soil", output=Multiplier(), scale=scale, seed=0)),
        Balance(gr4j),
    ]
    for model in models:
        record = weather(60, 2, seed=3)
        start = {n: 20.0 for n in model.store_names}
        found = adjoint(model, record, lambda s: s.discharge.sum(0), storage0=start, solver=SOLVER, fluxes=True)
        plain = adjoint(model, record, lambda s: s.discharge.sum(0), storage0=start, solver=SOLVER)
        assert torch.allclose(found.run.storage, plain.run.storage, rtol=1e-10)
        for n, g in plain.parameters.items():
            assert torch.allclose(found.parameters[n], g, rtol=1e-7, atol=1e-9), n
        assert set(found.fluxes) == set(model.flux_names) and all(g.isfinite().all() for g in found.fluxes.values())


def test_networks_with_frames_keep_their_weights_names():
    law = NeuralLaw("soil", output=Positive(1.0), hidden=(3,), seed=0, scale={"soil": (300.0, 100.0)})
    model = Balance(exphydro_mended, et=law)
    found = adjoint(model, RECORD, OBJECTIVES["et"], storage0=START, solver=SOLVER, fluxes=True)
    plain = adjoint(model, RECORD, OBJECTIVES["et"], storage0=START, solver=SOLVER)
    assert set(found.weights) == set(plain.weights) == {n for n, _ in model.named_parameters()}
    for n, g in plain.weights.items():
        assert torch.allclose(g, found.weights[n], rtol=1e-8)
