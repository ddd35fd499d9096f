"""Lotka-Volterra with a network for its missing term, trained from many random weights in several ways."""

from __future__ import annotations

import torch
from discovery_lotka_volterra import SOLVER, START, TRUTH, Case, begin, exact, network, observations, ude

from udehydro import Forcing, Range, simulate
from udehydro.parameters import Calibrated
from udehydro.training import Gaussian, Observed, Stage, fit, least_squares, multiple_shooting

CASE = Case(1, 0.005, 0)
ROUGH = 0.1
"""Errors that L-BFGS assumes, as a share of the mean of a state: it only scales the loss."""
DATES = ("2000-01-01", "2000-01-03")
HORIZONS = (10, 20, 30)
"""Intervals of the growing horizon."""
LM, BFGS, LONG = 150, 600, 3000
"""Runs of a start in all, whatever the recipe but for one that is given more."""
SHOOT = dict(segments=6, weights=(1.0, 30.0, 1000.0), stage=Stage("lbfgs", 100))


def weights_of(members: int) -> dict[str, torch.Tensor]:
    """Random weights (M, 1)."""
    return network().initial(torch.Generator().manual_seed(0), members)


def marquardt(members: int, horizons: tuple[int, ...] = HORIZONS[-1:]) -> dict:
    """Levenberg-Marquardt, on one horizon after the other."""
    observed, record = observations(CASE), Forcing.clock(days=CASE.times, batch=(members, 1))
    values = begin(observed) | {n: v[:, 0] for n, v in weights_of(members).items()}
    for end in horizons:
        values = marquardt_from(values, observed, record, LM // len(horizons), slice(0, end)).values
    return lv_result(values, observed)


def marquardt_from(values: dict, observed: list[Observed], record: Forcing, steps: int, score=slice(0, 30)):
    names = (*network().constants, *CASE.free)
    return least_squares(ude(), record, observed, values, names, solver=SOLVER, steps=steps, score=score, isotropic=1.0)


def lbfgs(members: int, stages: list[Stage]) -> dict:
    """L-BFGS, by ``fit``."""
    observed, record = observations(CASE), Forcing.clock(days=CASE.times, batch=(members, 1))
    parameters = lv_parameters(observed, members)
    fit(ude(), parameters, record, rough(observed), train=DATES, stages=stages, **LV)
    return lv_result(lv_values(parameters), observed)


def shot(members: int, finish: str) -> dict:
    """Multiple shooting from the samples, then all in one."""
    observed, record = observations(CASE), Forcing.clock(days=CASE.times, batch=(members, 1))
    parameters = lv_parameters(observed, members)
    states = torch.cat([o.values for o in observed], dim=-1)[:, :, None]
    multiple_shooting(ude(), parameters, record, rough(observed), train=DATES, states=states, **SHOOT, **LV)
    if finish == "lm":
        values = marquardt_from(lv_values(parameters), observed, record, LM // 3).values
        return lv_result(values, observed)
    rest = BFGS - SHOOT["stage"].steps * len(SHOOT["weights"])
    fit(ude(), parameters, record, rough(observed), train=DATES, stages=[Stage("lbfgs", rest)], **LV)
    return lv_result(lv_values(parameters), observed)


LV = dict(solver=SOLVER, warmup_days=0, progress=None)


def rough(observed: list[Observed]) -> list[Observed]:
    """The same series with a loss of order one."""
    return [Observed(o.name, o.values.expand(-1, -1, 1), Gaussian(ROUGH * float(o.values.mean()))) for o in observed]


def lv_parameters(observed: list[Observed], members: int) -> Calibrated:
    """Weights and initial states, free; the known rates are held."""
    initial = {o.name: Range(0.01, 10.0, "1", float(o.values[0])) for o in observed}
    return Calibrated.of(ude(), (members, 1), start=weights_of(members), fixed=["alpha", "delta"], initial=initial)


def lv_values(parameters: Calibrated) -> dict[str, torch.Tensor]:
    """Values and initial states by name (M,)."""
    theta, start = parameters(), parameters.storage0(tuple(START))
    return {n: v.detach()[:, 0] for n, v in theta.items()} | dict(
        zip(START, start.detach()[:, 0].unbind(-1), strict=True)
    )


def lv_result(values: dict, observed: list[Observed]) -> dict:
    """chi2 per sample, and the RMS error of the learned terms along the true trajectory, relative to their RMS."""
    members = len(values["x"])
    record = Forcing.clock(days=CASE.times, batch=(members, 1))
    theta = {n: values[n][:, None] for n in ude().parameter_names}
    start = torch.stack([values[n] for n in START], dim=-1)[:, None]
    run = simulate(ude(), record, theta=theta, storage0=start, solver=SOLVER)
    chi2 = sum(((run.store(o.name) - o.values) / o.loss.sigma).square().sum((0, 2)) for o in observed)
    x, y = (torch.from_numpy(v.copy())[:, None] for v in exact(CASE.times).T)
    learned = network()(x, y, *(values[n] for n in network().constants))
    true = (-TRUTH["beta"] * x * y, TRUTH["gamma"] * x * y)
    error = sum((u - t).square().mean(0) / t.square().mean() for u, t in zip(learned, true, strict=True))
    count = sum(len(o.values) for o in observed)
    return {"loss": (chi2 / count).tolist(), "unseen": (error / 2.0).sqrt().tolist()}


LV_RECIPES = {
    "LM": lambda m: marquardt(m),
    "LM, growing horizon": lambda m: marquardt(m, HORIZONS),
    "multiple shooting, then LM": lambda m: shot(m, "lm"),
    "L-BFGS": lambda m: lbfgs(m, [Stage("lbfgs", BFGS)]),
    f"L-BFGS, {LONG} runs": lambda m: lbfgs(m, [Stage("lbfgs", LONG)]),
    "L-BFGS, growing horizon": lambda m: lbfgs(
        m, [Stage("lbfgs", 150, share=1 / 3), Stage("lbfgs", 150, share=2 / 3), Stage("lbfgs", BFGS - 300)]
    ),
    "multiple shooting, then L-BFGS": lambda m: shot(m, "lbfgs"),
}
