"""Nomination by PySINDy (Kaptanoglu et al. 2022): thresholded regression and its ensembles along a path."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from udehydro.discovery.library import Library
from udehydro.discovery.nominate import Columns, Nominee
from udehydro.discovery.sample import Samples
from udehydro.errors import ConfigError


@dataclass(frozen=True)
class PySINDy:
    """Engine that proposes what survives in PySINDy's STLSQ at any threshold, on all samples and on resampled ones.

    Columns and target are scaled to a weighted root mean square of one, so thresholds and ridge are numbers.

    Parameters
    ----------
    low, high, thresholds : ends and number of the thresholds, spaced evenly in the logarithm.
    ridge : penalty of the regressions.
    models : resampled regressions at every threshold; 0 for none.

    Raises ConfigError, when called, without pysindy.
    """

    low: float = 1e-3
    high: float = 3.0
    thresholds: int = 30
    ridge: float = 1e-6
    models: int = 5
    seed: int = 0

    def __call__(self, samples: Samples, law: str, library: Library, keep: int = 8) -> list[Nominee]:
        """The ``keep`` best of every number of terms among those that were proposed, best first."""
        columns = Columns.of(library, samples.inputs, samples.median(law).numpy(), samples.weights(law).numpy())
        finite = np.isfinite(columns.matrix).all(0)
        places = np.flatnonzero(finite)
        matrix, target = (
            a / np.maximum(np.sqrt(np.square(a).mean(0)), 1e-300) for a in (columns.matrix[:, finite], columns.target)
        )
        proposed = {tuple(places[c].tolist()) for c in self._supports(matrix, target)}
        found: list[Nominee] = []
        for size in range(1, library.most + 1):
            scored = sorted((columns.nominee(c) for c in proposed if len(c) == size), key=lambda s: s[0])
            found += [nominee for _, nominee in scored[:keep]]
        return found

    def _supports(self, matrix: np.ndarray, target: np.ndarray) -> Iterable[np.ndarray]:
        """Terms with a coefficient that is not zero, of every regression."""
        optimizers = _optimizers()
        before = np.random.get_state()
        np.random.seed(self.seed)  # PySINDy draws from numpy's global generator
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of thresholds that leave nothing, and of near-singular regressions
                for threshold in np.geomspace(self.low, self.high, self.thresholds):
                    single = optimizers.STLSQ(threshold=threshold, alpha=self.ridge)
                    coefficients = [single.fit(matrix, target).coef_]
                    if self.models:
                        single = optimizers.STLSQ(threshold=threshold, alpha=self.ridge)
                        ensemble = optimizers.EnsembleOptimizer(single, bagging=True, n_models=self.models)
                        coefficients += ensemble.fit(matrix, target).coef_list
                    yield from (np.flatnonzero(np.asarray(c).reshape(-1)) for c in coefficients)
        finally:
            np.random.set_state(before)


def _optimizers():
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pysindy import optimizers
    except ImportError as error:
        raise ConfigError("The engine PySINDy needs pysindy: pip install 'udehydro[discovery]'.") from error
    return optimizers
