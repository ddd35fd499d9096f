"""Value and gradient of one basin by every driver, interleaved, with the error of the gradient."""

from __future__ import annotations

import statistics
import time

import torch
from _report import camels, table, write

from udehydro import Balance, Forcing, Multiplier, NeuralLaw, simulate
from udehydro.data import read
from udehydro.models import exphydro_mended
from udehydro.solvers import HEUN, RK4, SDIRK2, AllAtOnce, Stepping, Torchdiffeq

DAYS, REPEATS = 730, 3
CONTESTANTS = [
    ("AllAtOnce, SDIRK2", AllAtOnce(Stepping(SDIRK2))),
    ("Stepping, SDIRK2, adjoint", Stepping(SDIRK2)),
    ("Stepping, SDIRK2, tape", Stepping(SDIRK2, gradient="tape")),
    ("Stepping, Heun, adjoint", Stepping(HEUN)),
    ("Stepping, Heun, tape", Stepping(HEUN, gradient="tape")),
    ("torchdiffeq rk4, one call", Torchdiffeq("rk4", span="record")),
    ("torchdiffeq rk4, one call, adjoint", Torchdiffeq("rk4", span="record", adjoint=True)),
    ("torchdiffeq dopri5 1e-6, by interval", Torchdiffeq("dopri5", rtol=1e-6, atol=1e-6)),
]


def hybrid() -> Balance:
    laws = {
        "et": NeuralLaw("soil", "temp", output=Multiplier(), seed=0),
        "discharge": NeuralLaw("soil", "prcp", output=Multiplier(), seed=1),
    }
    model = Balance(exphydro_mended, **laws)
    scales = {"soil": (500.0, 100.0), "temp": (5.0, 10.0), "prcp": (3.0, 6.0)}
    for i, law in enumerate(model.laws.values()):
        law.standardise(scales)
        with torch.no_grad():
            law.net.weights[-1].normal_(generator=torch.Generator().manual_seed(i)).mul_(0.3)
    return model


def gradient(model, forcing, solver) -> tuple[torch.Tensor, float]:
    """Gradient of a mean square of discharge to parameters and weights, and the seconds it took."""
    declared = model.structure.parameters
    theta = {
        n: torch.tensor(declared[n].default, dtype=torch.float64, requires_grad=True) for n in model.parameter_names
    }
    started = time.perf_counter()
    simulation = simulate(model, forcing, theta=theta, storage0={"snow": 0.0, "soil": 400.0}, solver=solver)
    loss = simulation.discharge.square().mean()
    parts = torch.autograd.grad(loss, [*theta.values(), *model.parameters()])
    return torch.cat([p.flatten() for p in parts]), time.perf_counter() - started


def main() -> None:
    torch.set_num_threads(1)
    dataset = read(camels(), ["01013500"])
    rows = []
    for name, model in (("EXP-HYDRO", Balance(exphydro_mended)), ("hybrid, two 16 x 16 networks", hybrid())):
        forcing = Forcing.from_dataset(dataset, model.forcing_names).isel(slice(0, DAYS))
        exact, _ = gradient(model, forcing, Stepping(RK4, substeps=24))
        seconds: dict[str, list[float]] = {label: [] for label, _ in CONTESTANTS}
        errors = {}
        for _ in range(REPEATS):
            for label, solver in CONTESTANTS:
                found, took = gradient(model, forcing, solver)
                seconds[label].append(took)
                errors[label] = float((found - exact).norm() / exact.norm())
        best = statistics.median(seconds[CONTESTANTS[0][0]])
        for label, _ in CONTESTANTS:
            took = statistics.median(seconds[label])
            rows.append([name, label, f"{took:.3f}", f"{took / best:.1f}", f"{errors[label]:.1e}"])
    body = f"""Value and gradient of {DAYS} days of one basin (01013500), float64; median of {REPEATS} interleaved
repeats. The error is that of the whole gradient against RK4 with 24 steps a day, so it includes the time
step of each scheme.

"""
    head = ["model", "driver", "seconds", "ratio to AllAtOnce", "relative gradient error"]
    write("solver_speed", "Value and gradient by driver", body + table(head, rows))


if __name__ == "__main__":
    main()
