"""Adjoint sensitivities against central differences, for every objective and quantity, on formulas and a hybrid."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tables import weather

from udehydro import Balance, ConfigError, FormulaLaw, Multiplier, NeuralLaw, Positive, Range, simulate
from udehydro.models import exphydro_mended, gr4j, linear
from udehydro.sensitivity import (
    adjoint,
    compare_gradients,
    flood_peak,
    forward,
    low_flow_days,
    score,
    storage_at,
    verify,
    volume,
)
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


@pytest.mark.parametrize("kind", MODELS)
def test_it_agrees_with_central_differences(kind):
    """Every objective and quantity to 1e-6 in norm, best over the steps; kinks left out and counted."""
    model = MODELS[kind]
    theta = {n: THETA[n] for n in model.parameter_names}
    table = verify(model, RECORD, OBJECTIVES, theta=theta, storage0=START, days=6)
    own = ["parameters", "storage0", "lambda", *(f"forcing {n}" for n in model.forcing_names)]
    own += [f"flux {n}" for n in model.flux_names] + ["weights"] * (kind == "hybrid")
    assert set(table["quantity"]) == set(own) and len(table) == len(OBJECTIVES) * (2 * len(own) - (kind == "hybrid"))
    worst = table.loc[table["error"].idxmax()]
    assert worst["error"] < 1e-6, worst
    # daily series of melt sit at kinks most often: snow that melts out, days at the melting point
    assert table["kinks"].sum() < 0.03 * table["entries"].sum() and table["unseen"].mean() < 0.02


def test_verify_finds_what_is_wrong():
    """A law whose derivative is off by a thousandth."""

    class Off(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return 1.001 * g

    et = next(f for f in exphydro_mended.fluxes if f.name == "et")
    law = et.law

    def wrong(soil, pet, smax):
        return law(soil, Off.apply(pet), smax)

    fluxes = tuple(replace(f, law=wrong) if f.name == "et" else f for f in exphydro_mended.fluxes)
    model = Balance(replace(exphydro_mended, fluxes=fluxes))
    record = replace(RECORD, values={n: v[:60] for n, v in RECORD.values.items()}, time_edge=RECORD.time_edge[:61])
    end = {"et": volume("et", FIRST, str(record.time[-1])[:10])}
    table = verify(model, record, end, theta=THETA, storage0=START, solver=SOLVER, days=2).set_index("quantity")
    assert table.loc["forcing dayl", "error"].min() > 1e-4 and table.loc["flux melt", "error"].max() < 1e-6


def test_verify_takes_parameters_that_vary_in_time_and_no_batch():
    alone = replace(RECORD, values={n: v[:, 0] for n, v in RECORD.values.items()}, basins=())
    ddf = torch.linspace(1.0, 4.0, len(alone), dtype=torch.float64)
    objective = {"volume": OBJECTIVES["volume"]}
    table = verify(MODELS["M0"], alone, objective, theta=THETA | {"ddf": ddf}, storage0=START, solver=SOLVER, days=2)
    assert table["error"].max() < 1e-6 and set(table["basin"]) == {"all"}
    with pytest.raises(ConfigError, match="Did you mean 'weights'"):
        verify(MODELS["M0"], alone, objective, theta=THETA, storage0=START, kinds=["weight"])
    with pytest.raises(ConfigError, match="members of its own"):
        verify(MODELS["M0"], RECORD.with_members(2), objective, storage0=START)


def test_verify_a_model_without_parameters():
    """All of it a network; and all values varying in time."""
    record, objective = RECORD.isel(slice(0, 40)), {"volume": volume("outflow", FIRST, str(RECORD.time[39])[:10])}
    law = NeuralLaw("storage", output=Positive(1.0), hidden=(3,), seed=0, scale={"storage": (50.0, 20.0)})
    table = verify(Balance(linear, outflow=law), record, objective, storage0={"storage": 50.0}, days=2)
    assert set(table["quantity"]) >= {"storage0", "weights"} and table["error"].max() < 1e-6
    varying = {"k": torch.full((40, 1), 0.1, dtype=torch.float64)}
    table = verify(Balance(linear), record, objective, theta=varying, storage0={"storage": 50.0}, days=2)
    assert "parameters" not in set(table["quantity"]) and table["error"].max() < 1e-6
    with pytest.raises(ConfigError, match="round-off"):
        verify(Balance(linear), record.to(dtype=torch.float32), objective, storage0={"storage": 50.0})


@pytest.mark.parametrize("shape", [(1, 2), (200, 1)])
def test_values_in_time_that_are_alike_in_time_or_space(shape):
    """Derivatives by every interval and basin all the same, as of values written out."""
    given, whole = (THETA | {"ddf": torch.full(s, 2.5, dtype=torch.float64)} for s in (shape, (200, 2)))
    found, right = (
        adjoint(MODELS["M0"], RECORD, OBJECTIVES["volume"], theta=t, storage0=START, solver=SOLVER)
        for t in (given, whole)
    )
    assert torch.equal(found.parameters["ddf"], right.parameters["ddf"])
    assert found.to_xarray("mm")["elasticity_ddf"].shape == (200, 2)


def test_a_score_without_observations_has_no_derivatives():
    seen = observed()
    seen[:, 1] = torch.nan
    found = adjoint(MODELS["M0"], RECORD, score(nse, seen, FIRST, LAST), theta=THETA, storage0=START, solver=SOLVER)
    series = [*found.parameters.values(), *found.storage.values(), *found.forcing.values(), *found.storage0.values()]
    assert all(g[..., 0].isfinite().all() and g[..., 1].isnan().all() for g in series)


@pytest.mark.parametrize("act", [adjoint, verify, compare_gradients, forward])
def test_initial_storages_have_to_be_given(act):
    what = {forward: ["smax"], verify: {"volume": OBJECTIVES["volume"]}}.get(act, OBJECTIVES["volume"])
    with pytest.raises(ConfigError, match="spin_up"):
        act(MODELS["M0"], RECORD, what, storage0=None)


def test_volumes_are_of_intervals_of_any_length():
    edges = RECORD.time_edge[0] + np.cumsum(np.arange(41) % 5 * 7 + 1) * np.timedelta64(1, "h")
    record = replace(RECORD, values={n: v[:40] for n, v in RECORD.values.items()}, time_edge=edges)
    run = simulate(MODELS["M0"], record, theta=THETA, storage0=START)
    found = volume("et", *(str(edges[i])[:10] for i in (0, -1)))(run)
    assert torch.allclose(found, run.volume[..., run.model.flux_names.index("et")].sum(0), rtol=1e-12)


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
    assert torch.allclose(elasticity, found.parameters["smax"] * THETA["smax"] / found.value, rtol=1e-12)
    assert set(found.weights) == {n for n, _ in MODELS["hybrid"].named_parameters()}


def test_gradients_are_taken_where_the_caller_takes_none():
    right = adjoint(MODELS["M0"], RECORD, OBJECTIVES["volume"], storage0=START, solver=SOLVER).parameters
    with torch.no_grad():
        found = adjoint(MODELS["M0"], RECORD, OBJECTIVES["volume"], storage0=START, solver=SOLVER).parameters
    assert all(torch.equal(found[n], g) for n, g in right.items())


def test_what_is_no_objective():
    model = MODELS["M0"]
    with pytest.raises(ConfigError, match="one number for each"):
        adjoint(model, RECORD, lambda s: s.discharge, storage0=START)
    with pytest.raises(ConfigError, match="is a float"):
        adjoint(model, RECORD, lambda s: float(s.discharge.detach().sum()), storage0=START)
    with pytest.raises(ConfigError, match="200 observations for a record of 180"):
        adjoint(model, RECORD.isel(slice(20, 200)), OBJECTIVES["nse"], storage0=START)
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
