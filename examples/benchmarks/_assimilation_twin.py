"""Planted storages on real weather: how much nearer to the truth an analysis is than its background."""

from __future__ import annotations

import numpy as np
import torch
from _assimilation_basins import MODEL, Basins
from _report import table
from torch import Tensor

from udehydro import simulate
from udehydro.assimilation import Background, Windows, assimilate, flow_error
from udehydro.assimilation.background import Controls

STARTS = [f"{year}-{day}" for year in range(1982, 1992) for day in ("03-01", "09-01")]
DAYS = 365
NOISE, FLOOR = 0.05, 0.01
SHARE = 0.5
"""Standard deviation of the background in units of that of the store over the years."""
LEAST_SNOW = 5.0
"""Windows with less snow [mm] than this do not count for that store."""


def twin(basins: Basins) -> dict:
    """Per store and basin: root mean square errors of background and analysis, share of windows ten times better."""
    run = basins.open_loop("refitted", "2000-09-30")
    issued = np.array(STARTS, dtype="datetime64[D]") + DAYS
    windows = Windows(run.forcing, issued, DAYS)
    generator = torch.Generator().manual_seed(0)

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=like.dtype)

    start, forcing, theta = windows.start(run.storage).clamp_min(0.0), windows.before, basins.theta("refitted")
    with torch.no_grad():
        truth = simulate(MODEL, forcing, theta=theta, storage0=start).discharge
    floor = FLOOR * truth.mean((0, 1))
    # of the true flow: a size taken from the noisy one would weigh too low values more
    errors = flow_error(truth, NOISE, floor)
    observed = truth + errors.sigma * normal(truth)
    spread = {n: SHARE * run.store(n)[365:].std(0).clamp_min(1.0) for n in MODEL.store_names}
    background = Controls.of(Background(start, spread), MODEL, forcing).storage0(normal(start))
    found = assimilate(
        MODEL, forcing, observed, Background(background, spread), errors, theta=theta, spread=True,
        progress="planted storages",
    )  # fmt: skip
    result = {"windows": len(STARTS), "converged": float(found.converged.double().mean())}
    for i, name in enumerate(MODEL.store_names):
        counts = start[..., i] > (LEAST_SNOW if name == "snow" else 0.0)
        before, after = ((b[..., i] - start[..., i]).abs() for b in (background, found.storage0))
        result[name] = {
            "count": counts.sum(0).tolist(),
            "background": _rms(before, counts),
            "analysis": _rms(after, counts),
            "expected": _rms(found.storage0_sd[..., i], counts),
            "tenfold": ((10.0 * after <= before) & counts).sum(0).tolist(),
        }
    return result


def _rms(values: Tensor, counts: Tensor) -> list[float]:
    return (torch.where(counts, values.square(), 0.0).sum(0) / counts.sum(0)).sqrt().tolist()


def section(found: dict, names: dict[str, str]) -> str:
    """What the page says of it."""
    rows, ratios = [], {n: [] for n in MODEL.store_names}
    tenfold, windows = dict.fromkeys(ratios, 0), dict.fromkeys(ratios, 0)
    for b, (gauge, name) in enumerate(names.items()):
        row = [f"{gauge} {name}"]
        for store in reversed(MODEL.store_names):
            part = {k: v[b] for k, v in found[store].items()}
            tenfold[store] += part["tenfold"]
            windows[store] += part["count"]
            if part["count"]:
                ratios[store].append(part["background"] / part["analysis"])
                row.append(f"{part['background']:.3g} / {part['analysis']:.2g} ({part['expected']:.2g})")
                row.append(f"{part['tenfold']} of {part['count']}")
            else:
                row += ["no snow", ""]
        rows.append(row)
    said = [
        f"{store}: median over {len(r)} basins {np.median(r):.0f}, worst {min(r):.1f}, at least 10 in "
        f"{sum(v >= 10 for v in r)} basins and in {tenfold[store]} of {windows[store]} windows."
        for store, r in ratios.items()
    ]
    head = ["basin", "soil [mm]: background / analysis (expected)", "tenfold", "snow [mm]", "tenfold"]
    return f"""Twin experiment on real weather: {found["windows"]} windows of {DAYS} days (from 1 March and 1 September
of ten years) for each basin, the calibrated M0 as truth, flow measured with an error of {100 * NOISE:.0f} % plus
{100 * FLOOR:.0f} % of its mean. Backgrounds are drawn around the truth with {SHARE} standard deviations of the store
over the years; an empty store is known to be empty. Root mean square errors of initial storages over the windows; in
brackets what the Gauss-Newton Hessian expects of the analysis. Windows with less than {LEAST_SNOW:.0f} mm of snow do
not count for snow.
{100 * found["converged"]:.0f} % of the windows converged.

Error of the background by that of the analysis. {" ".join(said[::-1])}

{table(head, rows)}"""
