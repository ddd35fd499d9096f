"""Sequentially thresholded least squares on a learned law, as the method of Brunton et al. (2016): for comparison."""

from __future__ import annotations

import numpy as np

from udehydro.discovery.library import Library
from udehydro.discovery.nominate import Columns, Nominee
from udehydro.discovery.sample import Samples
from udehydro.errors import ConfigError


def thresholded(
    samples: Samples, law: str, library: Library, *, threshold: float = 0.1, ridge: float = 1e-3, scaled: bool = False
) -> Nominee:
    """The law that thresholding makes of what networks learned: its terms and constants, without any refit.

    Not to decide with. On the benchmark of Rackauckas et al. (2020) with 0.5 % noise, polynomials to degree 5 and
    sines, it finds the terms in 0 to 12 % of sets, whatever its settings: errors of networks are smooth along a
    trajectory, and many terms fit them well. :func:`udehydro.discovery.discover` is for decisions.

    Parameters
    ----------
    threshold : terms with a smaller coefficient are dropped, until none is left to drop. In the unit of the law over
        that of the term; of the standardised regression where ``scaled``.
    ridge : penalty on squared coefficients while terms are dropped; the terms that stay are fitted without.
    scaled : whether columns and target are divided by their root mean square first.

    Raises ConfigError where terms enter without a factor, which is what this method thresholds.
    """
    target = samples.median(law).numpy()
    columns = Columns.of(library, samples.inputs, target, np.ones_like(target))
    if columns.fixed.any():
        bare = [t.text for t in library.terms if t.coefficient is None]
        raise ConfigError(f"Thresholding needs a coefficient of every term; none have {', '.join(bare)}.")
    matrix = columns.matrix
    if scaled:
        matrix, target = (a / np.maximum(np.sqrt(np.square(a).mean(0)), 1e-300) for a in (matrix, target))
    kept = np.arange(len(library))
    while len(kept):
        normal = matrix[:, kept].T @ matrix[:, kept] + ridge * np.eye(len(kept))
        large = np.abs(np.linalg.lstsq(normal, matrix[:, kept].T @ target, rcond=None)[0]) >= threshold
        if large.all():
            break
        kept = kept[large]
    return columns.nominee(tuple(kept.tolist()))[1]
