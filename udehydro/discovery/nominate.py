"""Nomination: which few laws of a library come near to what networks have learned. It only proposes; data decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from scipy.optimize import least_squares
from torch import Tensor

from udehydro.discovery.library import Library, Term
from udehydro.discovery.sample import Samples
from udehydro.errors import ConfigError
from udehydro.laws import FormulaLaw

Nominee = tuple[tuple[int, ...], dict[tuple[int, str], float]]
"""Terms of a law, and start values of their constants: by (term, name), ``""`` for the factor."""


def nominate(samples: Samples, law: str, library: Library, keep: int = 8) -> list[Nominee]:
    """The ``keep`` best laws of every number of terms, and all of one term, by weighted least squares; best first.

    Shape constants are fitted to each term alone; then all subsets are tried by linear regression.
    """
    columns = Columns.of(library, samples.inputs, samples.median(law).numpy(), samples.weights(law).numpy())
    found: list[Nominee] = []
    for size in range(1, library.most + 1):
        every = [columns.nominee(c) for c in combinations(range(len(library)), size)]
        scored = sorted(every, key=lambda s: s[0])
        found += [nominee for _, nominee in (scored if size == 1 else scored[:keep])]
    return found


@dataclass(frozen=True)
class Columns:
    """A learned law as a linear regression on terms of a library, for engines.

    Attributes
    ----------
    matrix : terms at N points with shape constants ``shapes`` (N, terms), times weights; ``target`` (N,) likewise.
    fixed : whether a term enters as it is, without a factor (terms,).
    """

    matrix: np.ndarray
    target: np.ndarray
    fixed: np.ndarray
    shapes: Sequence[Mapping[str, float]]

    @classmethod
    def of(cls, library: Library, inputs: Mapping[str, Tensor], target: np.ndarray, weights: np.ndarray) -> Columns:
        """Fit shape constants of each term alone to a target (N,), weights being one over its standard deviation."""
        if not np.isfinite(target).all():
            raise ConfigError("What the networks say is not finite everywhere: look at the run they were sampled from.")
        columns, shapes = zip(*(_shaped(term, inputs, target, weights) for term in library.terms), strict=True)
        matrix = np.stack(columns, axis=1) * weights[:, None]
        return cls(matrix, target * weights, np.array([t.coefficient is None for t in library.terms]), shapes)

    def nominee(self, chosen: tuple[int, ...]) -> tuple[float, Nominee]:
        """Misfit, and start values, of the sum of some terms."""
        misfit, factors = _regression(self.matrix[:, chosen], self.target, self.fixed[list(chosen)])
        start = {(j, ""): float(f) for j, f in zip(chosen, factors, strict=True)}
        return misfit, (chosen, start | {(j, name): value for j in chosen for name, value in self.shapes[j].items()})


def _regression(matrix: np.ndarray, y: np.ndarray, fixed: np.ndarray) -> tuple[float, np.ndarray]:
    """Misfit and factors of a linear combination, factors of ``fixed`` columns being one; infinite where one is."""
    factors = np.ones(matrix.shape[1])
    if not np.isfinite(matrix).all():
        return np.inf, factors
    rest = y - matrix[:, fixed].sum(1)
    if not fixed.all():
        free = matrix[:, ~fixed]
        scale = np.linalg.norm(free, axis=0)
        scale[scale == 0.0] = 1.0
        solution = np.linalg.lstsq(free / scale, rest, rcond=1e-12)[0]
        factors[~fixed] = solution / scale
        rest = rest - free @ factors[~fixed]
    return float(rest @ rest), factors


def _shaped(term: Term, inputs: Mapping[str, Tensor], target: np.ndarray, weights: np.ndarray):
    """A term's column (N,) with its shape constants fitted, and these."""
    law = FormulaLaw(term.text, term.constants)
    given = [inputs[n] if n not in term.constants else None for n in law.reads]

    def column(constants: Sequence[float]) -> np.ndarray:
        values = iter(constants)
        filled = [torch.as_tensor(next(values), dtype=torch.float64) if g is None else g for g in given]
        value = law(*filled) if filled else torch.as_tensor(law(), dtype=torch.float64)
        return torch.broadcast_to(value, (len(target),)).numpy()

    if not term.constants:
        return column(()), {}
    ranges = list(term.constants.values())

    def residual(constants: np.ndarray) -> np.ndarray:
        values = column(constants)
        if term.coefficient is not None:
            weighted = weights * values
            size = weighted @ weighted
            values = values * ((weighted @ (weights * target)) / size if size > 0 else 0.0)
        return weights * (values - target)

    low, high = np.array([r.low for r in ranges]), np.array([r.high for r in ranges])
    start = np.clip([r.default for r in ranges], low + 1e-9 * (high - low), high - 1e-9 * (high - low))
    if not np.isfinite(residual(start)).all():
        return column(start), dict(zip(term.constants, start.tolist(), strict=True))
    best = least_squares(residual, start, bounds=(low, high), x_scale=np.maximum(np.abs(start), 1e-3)).x
    return column(best), dict(zip(term.constants, best.tolist(), strict=True))
