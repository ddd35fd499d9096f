"""Global sensitivity by sampling: Morris, Sobol, DGSM and PAWN through SALib; a whole design is one batch of runs."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch

from udehydro.errors import ConfigError
from udehydro.sensitivity.response import Function, evaluate, output_dims
from udehydro.sensitivity.space import Space, check_power_of_two

Analysis = Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]
"""Rows of a design (n, K) and results (n,) -> measures, each (K,)."""
CONFIDENCE = 0.95
ROUND_OFF = 1e-12
"""Spread of a result, as a share of its size, below which it does not vary."""
PER_RANGE, SQUARED = "unit of the result per range", "(unit of the result per range)^2"


def morris(
    function: Function, space: Space, *, trajectories: int = 32, levels: int = 4, seed: int = 0,
    progress: str | None = "runs",
):  # fmt: skip
    """Elementary effects by the share of a range (Morris 1991): their mean ``mu``, ``sigma``, and ``mu_star``.

    ``mu_star`` is the mean of absolute effects (Campolongo et al. 2007), ``mu_star_conf`` half its 95 % interval.
    Costs ``trajectories`` x (K + 1) runs. Returns, and treats failed runs, as :func:`sobol`; by trajectory.
    """
    if levels < 2 or levels % 2:
        raise ConfigError(f"Morris needs an even number of levels, not {levels}.")
    problem = _problem(space)
    unit = _salib("sample.morris").sample(problem, trajectories, num_levels=levels, seed=seed)

    def analysis(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        return _salib("analyze.morris").analyze(problem, x, y, num_levels=levels, conf_level=CONFIDENCE, seed=seed)

    units = dict.fromkeys(("mu", "mu_star", "mu_star_conf", "sigma"), PER_RANGE)
    said = {"method": "Morris", "trajectories": trajectories, "levels": levels, "seed": seed, "confidence": CONFIDENCE}
    return _screen(function, space, unit, analysis, units, len(space) + 1, said, progress)


def sobol(
    function: Function, space: Space, *, samples: int = 512, resamples: int = 100, seed: int = 0,
    progress: str | None = "runs",
):  # fmt: skip
    """Shares of variance: first order ``S1`` and total ``ST`` (estimators of Saltelli et al. 2010, tables 2b and 2f).

    ``S1_conf`` and ``ST_conf`` are half their bootstrapped 95 % intervals. Costs ``samples`` x (K + 2) runs.

    Parameters
    ----------
    function : a :class:`~udehydro.sensitivity.Response`, or any function of name -> Tensor (N,) to (N, *outputs).
    samples : rows of the design, a power of two.
    resamples : of the bootstrap.

    Returns
    -------
    xarray.Dataset
        Dims (factor, *outputs), ranges of the factors as coordinates, ``failed`` (*outputs): runs that were lost or not
        finite. They are left out with the block of the design they belong to, which says nothing of the part of the
        space where they lie; where more than half of the blocks go, or the result never varies, measures are NaN.

    Raises
    ------
    ConfigError
        Without SALib, or for ``samples`` that are no power of two.
    """
    check_power_of_two(samples)
    problem = _problem(space)
    unit = _salib("sample.sobol").sample(problem, samples, calc_second_order=False, seed=seed)

    def analysis(_: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        return _salib("analyze.sobol").analyze(
            problem, y, calc_second_order=False, num_resamples=resamples, conf_level=CONFIDENCE, seed=seed + 1
        )  # which takes a seed of zero for none

    units = dict.fromkeys(("S1", "S1_conf", "ST", "ST_conf"), "1")
    said = {"method": "Sobol", "samples": samples, "resamples": resamples, "seed": seed, "confidence": CONFIDENCE}
    return _screen(function, space, unit, analysis, units, len(space) + 2, said, progress)


def dgsm(
    function: Function, space: Space, *, samples: int = 128, step: float = 0.01, resamples: int = 100, seed: int = 0,
    progress: str | None = "runs",
):  # fmt: skip
    """``nu``, the mean square of derivatives by the share of a range, from forward differences.

    ``bound`` = nu / (pi^2 V) is an upper bound of the total Sobol index (Sobol and Kucherenko 2009), V the variance of
    the result. Halves of 95 % intervals in ``nu_conf``, ``bound_conf`` (V taken as known). The design is the same for
    every ``seed``, which is that of the bootstrap; ``step`` is a share of each value. Costs ``samples`` x (K + 1) runs;
    :func:`~udehydro.sensitivity.delsa` has exact derivatives for the price of one run and one backward pass each.
    Returns, and treats failed runs, as :func:`sobol`.
    """
    problem = _problem(space)
    unit = _salib("sample.finite_diff").sample(problem, samples, delta=step)

    def analysis(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        with _numpy_random_kept():
            found = _salib("analyze.dgsm").analyze(
                problem, x, y, num_resamples=resamples, conf_level=CONFIDENCE, seed=seed + 1
            )
        # SALib's interval is that of nu, whatever its name says
        scale = found["dgsm"] / np.where(found["vi"] > 0, found["vi"], np.nan)
        nu, nu_conf = found["vi"], found["dgsm_conf"]
        return {"nu": nu, "nu_conf": nu_conf, "bound": found["dgsm"], "bound_conf": np.nan_to_num(nu_conf * scale)}

    units = {"nu": SQUARED, "nu_conf": SQUARED, "bound": "1", "bound_conf": "1"}
    said = {"method": "DGSM", "samples": samples, "step": step, "resamples": resamples, "seed": seed}
    return _screen(function, space, unit, analysis, units, len(space) + 1, said | {"confidence": CONFIDENCE}, progress)


def pawn(
    function: Function, space: Space, *, samples: int = 1024, slices: int = 10, seed: int = 0,
    progress: str | None = "runs",
):  # fmt: skip
    """Kolmogorov-Smirnov distances between the result's distribution and those with a factor held in a slice.

    ``median``, ``mean``, ``minimum``, ``maximum`` over ``slices`` of equal probability (Pianosi and Wagener 2018).
    Independent of moments, so for skewed results; never zero, as two samples always differ. Costs ``samples`` runs, a
    power of two. Returns, and treats failed runs, as :func:`sobol`; one by one.
    """
    unit, problem = space.sample(samples, seed).numpy(), _problem(space)
    # SALib lays the edges of some numbers of slices beyond one, by round-off
    if not 2 <= slices <= samples // 8 or np.arange(0.0, 1.0 + 1.0 / slices, 1.0 / slices).max() > 1.0:
        raise ConfigError(
            f"PAWN cannot cut {samples} samples into {slices} slices: take 10, each with 8 samples or more."
        )

    def analysis(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        return _salib("analyze.pawn").analyze(problem, x, y, S=slices)

    said = {"method": "PAWN", "samples": samples, "slices": slices, "seed": seed}
    units = dict.fromkeys(("median", "mean", "minimum", "maximum"), "1")
    return _screen(function, space, unit, analysis, units, 1, said, progress)


def rank_agreement(first, second):
    """Spearman's correlation of two rankings of the factors: DataArrays (factor, *outputs) to (*outputs).

    NaN where one of them is, or ranks nothing.
    """
    import xarray as xr
    from scipy.stats import rankdata

    first, second = xr.align(first, second, join="exact")
    if "factor" not in first.dims or first.sizes["factor"] < 2:
        raise ConfigError("Rankings are compared along 'factor', of which there have to be two or more.")

    def ranks(values: np.ndarray) -> np.ndarray:
        ranked = rankdata(values, axis=-1, nan_policy="propagate")
        return ranked - ranked.mean(-1, keepdims=True)

    def agreement(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        a, b = ranks(a), ranks(b)
        product, size = (a * b).sum(-1), np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
        return product / np.where(size > 0, size, np.nan)

    return xr.apply_ufunc(agreement, first, second, input_core_dims=[["factor"]] * 2)


def _screen(
    function: Function, space: Space, unit: np.ndarray, analysis: Analysis, units: dict[str, str], block: int,
    said: dict, progress: str | None,
):  # fmt: skip
    """Run a design at once and analyse each output by itself; ``block`` rows of the design belong together."""
    import xarray as xr

    found, _ = evaluate(function, space, torch.from_numpy(unit), progress=progress)
    results, shape = found.double().cpu().numpy().reshape(len(unit), -1), found.shape[1:]
    measures = {n: np.full((len(space), results.shape[1]), np.nan) for n in units}
    finite = np.isfinite(results)
    for i, y in enumerate(results.T):
        kept = finite[:, i].reshape(-1, block).all(1)
        rows = np.repeat(kept, block)
        if kept.sum() < max(2, len(kept) / 2) or np.ptp(y[rows]) <= ROUND_OFF * np.abs(y[rows]).max():
            continue
        answer = _quietly(analysis, unit[rows], y[rows])
        for name in units:
            measures[name][:, i] = answer[name]
    dims = output_dims(function, found)
    data = {n: (("factor", *dims), v.reshape(-1, *shape), {"units": units[n]}) for n, v in measures.items()}
    data["failed"] = (dims, (~finite).sum(0).reshape(shape), {"units": "1"})
    return xr.Dataset(data, space.coords() | getattr(function, "coords", {}), said | {"runs": len(unit)})


def _problem(space: Space) -> dict:
    """The unit cube, as SALib has it told."""
    return {"num_vars": len(space), "names": list(space.names), "bounds": [[0.0, 1.0]] * len(space)}


def _salib(name: str):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(f"SALib.{name}")
    except ImportError as error:
        raise ConfigError("Morris, Sobol, DGSM and PAWN need SALib: pip install 'udehydro[sensitivity]'.") from error


def _quietly(analysis: Analysis, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Without what SALib says of samples that happen to be alike."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return analysis(x, y)


@contextlib.contextmanager
def _numpy_random_kept() -> Iterator[None]:
    """SALib seeds the generator that all of NumPy shares; it is left as it was."""
    state = np.random.get_state()
    try:
        yield
    finally:
        np.random.set_state(state)
