"""Fisher information: what a series tells about parameters, which combinations it leaves open, and when it tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from udehydro.errors import ConfigError
from udehydro.simulation import Simulation
from udehydro.structure import suggest

RTOL = 1e-12
"""Eigenvalues below this share of the largest, of the matrix with ones on the diagonal, are taken for zero."""
OPEN = 1e-8
"""Squared share of a parameter in the directions of eigenvalue zero from which it is not determined."""


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of the Fisher information of P free values, each measured by its own size.

    Attributes
    ----------
    names : of the values; ``scale`` (*batch, P) their sizes.
    eigenvalues : (*batch, P), largest first; ``vectors`` (*batch, P, P): column i belongs to eigenvalue i.
    sd : (*batch, P) standard deviation of a relative change of the values along each vector: beyond one, data say
        nothing.
    """

    names: tuple[str, ...]
    scale: Tensor
    eigenvalues: Tensor
    vectors: Tensor = field(repr=False)
    sd: Tensor

    @classmethod
    def of(cls, names: Sequence[str], matrix: Tensor, scale: Tensor, variance: float = 1.0) -> Spectrum:
        """Of an information matrix (*batch, P, P) in physical units; ``variance`` of residuals in units of sigma^2."""
        eigenvalues, vectors = torch.linalg.eigh(scale[..., :, None] * matrix * scale[..., None, :])
        eigenvalues, vectors = eigenvalues.flip(-1).clamp_min(0.0), vectors.flip(-1)
        return cls(tuple(names), scale, eigenvalues, vectors, (variance / eigenvalues).sqrt())

    def __getitem__(self, element) -> Spectrum:
        """That of one element of the batch (or of several)."""
        parts = (t[element] for t in (self.scale, self.eigenvalues, self.vectors, self.sd))
        return Spectrum(self.names, *parts)

    def sloppy(self, limit: float = 1.0) -> list[int]:
        """Directions known to no better than ``limit``."""
        self._check_one()
        return (self.sd > limit).nonzero()[:, 0].tolist()

    def direction(self, index: int, most: int = 4) -> str:
        """A direction in words, its largest shares first: ``+0.71 k -0.70 f``."""
        self._check_one()
        vector = self.vectors[:, index]
        order = vector.abs().argsort(descending=True)[:most].tolist()
        return " ".join(f"{float(vector[i]):+.2f} {self.names[i]}" for i in order if abs(float(vector[i])) >= 0.05)

    def _check_one(self) -> None:
        if self.sd.ndim != 1:
            raise ConfigError(f"This spectrum holds a batch {tuple(self.sd.shape[:-1])}: pick one, e.g. spectrum[0].")


def sizes(names: Sequence[str], values: Tensor, spans: Tensor, by: str | Mapping[str, float]) -> Tensor:
    """Sizes (*batch, P) of a change that matters: |value| (1 where that is zero), "range", or numbers by name."""
    if by == "value":
        return torch.where(values == 0.0, 1.0, values.abs())
    if by == "range":
        if lacking := [n for n, s in zip(names, spans.unbind(-1), strict=True) if bool(s.isnan().any())]:
            raise ConfigError(f"No range is known of {', '.join(lacking)}: give one (ranges=), or sizes by name.")
        return spans
    if isinstance(by, str) or set(by) != set(names):
        raise ConfigError(f"Sizes are 'value', 'range', or a number for each of {', '.join(names)}; got {by!r}.")
    return values.new_tensor([float(by[n]) for n in names]).expand(values.shape)


@dataclass(frozen=True)
class Information:
    """Fisher information of P values: of a series with independent Gaussian errors, J^T J by elements of the batch.

    Everything is local: of the model linearised at these values, its structure taken for true. Errors that are
    correlated, or larger than they were said to be, make every standard deviation larger.

    Attributes
    ----------
    names : of parameters, and stores for their initial storage.
    matrix : (*batch, P, P) in physical units.
    values : (*batch, P) where it was linearised.
    spans : (*batch, P) change of a value across its whole range; of one whose range is searched in the logarithm,
        value x ln(high / low); NaN of one without a range.
    """

    names: tuple[str, ...]
    matrix: Tensor
    values: Tensor
    spans: Tensor

    def spectrum(self, by: str | Mapping[str, float] = "value") -> Spectrum:
        """Eigenvalues and directions, values measured by their :func:`sizes`."""
        return Spectrum.of(self.names, self.matrix, sizes(self.names, self.values, self.spans, by))

    def _normalised(self) -> tuple[Tensor, Tensor]:
        """The matrix with ones on its diagonal (zeros of what the series does not feel), and the roots of that."""
        root = self.matrix.diagonal(dim1=-2, dim2=-1).sqrt()
        root = torch.where(root > 0.0, root, 1.0)
        return self.matrix / root[..., :, None] / root[..., None, :], root

    def _zero(self, eigenvalues: Tensor) -> Tensor:
        rtol = max(RTOL, 10.0 * len(self.names) * torch.finfo(eigenvalues.dtype).eps)
        return eigenvalues <= rtol * eigenvalues.amax(-1, keepdim=True)

    def covariance(self) -> Tensor:
        """Covariance (*batch, P, P) of an efficient estimate: the inverse of the matrix (Cramer-Rao bound).

        Where the matrix is singular, what the series determines has the variance it has whatever the rest; a value that
        it does not determine has infinite variance, and covariances of NaN.
        """
        unit, root = self._normalised()
        eigenvalues, vectors = torch.linalg.eigh(unit)
        zero = self._zero(eigenvalues)
        inverse = vectors * torch.where(zero, 0.0, 1.0 / torch.where(zero, 1.0, eigenvalues))[..., None, :]
        inverse = inverse @ vectors.mT / root[..., :, None] / root[..., None, :]
        open_ = (vectors.square() * zero[..., None, :]).sum(-1) > OPEN
        inverse = torch.where(open_[..., :, None] | open_[..., None, :], torch.nan, inverse)
        on_diagonal = torch.eye(len(self.names), dtype=torch.bool, device=inverse.device)
        return torch.where(on_diagonal & open_[..., :, None], torch.inf, inverse)

    def sd(self) -> Tensor:
        """Standard deviation of every value (*batch, P), others unknown too; infinite where it is not determined."""
        return self.covariance().diagonal(dim1=-2, dim2=-1).sqrt()

    def relative_sd(self) -> Tensor:
        """The same as a share of the value (*batch, P); infinite of a value of zero."""
        return self.sd() / self.values.abs()

    def correlation(self) -> Tensor:
        """Correlation matrix (*batch, P, P) of an estimate; NaN beside values that are not determined."""
        covariance = self.covariance()
        sd = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
        return covariance / sd[..., :, None] / sd[..., None, :]

    def content(self) -> Tensor:
        """What the series adds to knowing the range, by value (*batch, P): 0 nothing, 1 all.

        One minus the standard deviation with the series as a share of that without it, span / sqrt(12) (uniform over
        the range, taken for a Gaussian). Defined where the matrix is singular too; NaN of a value without a range,
        which is taken for known.
        """
        known = ~self.spans.isnan()
        prior = torch.where(known, self.spans, 0.0) / 12.0**0.5
        one = torch.eye(len(self.names), dtype=self.matrix.dtype, device=self.matrix.device)
        posterior = torch.linalg.inv(one + prior[..., :, None] * self.matrix * prior[..., None, :])
        return torch.where(known, 1.0 - posterior.diagonal(dim1=-2, dim2=-1).clamp(0.0, 1.0).sqrt(), torch.nan)

    def collinearity(self, names: Sequence[str] | None = None) -> Tensor:
        """Collinearity index (*batch) of some values, by default all (Brun et al. 2001, WRR 37:1015).

        1 / sqrt(smallest eigenvalue) of the products of normalised sensitivities: 1 where they are orthogonal; of an
        index of 10, others can make up for all but a tenth of what a change of one value does. Above some 10 to 15
        they are hardly told apart; infinite where they cannot be.
        """
        names = tuple(self.names if names is None else names)
        return self._collinearity(torch.tensor([[self._index(n) for n in names]], device="cpu"))[..., 0]

    def collinearities(self, count: int) -> dict[tuple[str, ...], Tensor]:
        """Collinearity index (*batch) of every subset of ``count`` values."""
        if not 2 <= count <= len(self.names):
            raise ConfigError(f"A subset has 2 to {len(self.names)} values, not {count}.")
        subsets = list(combinations(range(len(self.names)), count))
        found = self._collinearity(torch.tensor(subsets, device="cpu")).unbind(-1)
        return {tuple(self.names[i] for i in s): g for s, g in zip(subsets, found, strict=True)}

    def _collinearity(self, subsets: Tensor) -> Tensor:
        """(*batch, n) of subsets (n, k)."""
        subsets = subsets.to(self.matrix.device)
        unit = self._normalised()[0][..., subsets[:, :, None], subsets[:, None, :]]
        eigenvalues = torch.linalg.eigvalsh(unit)
        zero = self._zero(eigenvalues)[..., 0]
        return torch.where(zero, torch.inf, eigenvalues[..., 0].clamp_min(1e-300).rsqrt())

    def _index(self, name: str) -> int:
        if name not in self.names:
            raise ConfigError(f"'{name}' is none of the values moved.{suggest(name, self.names)}")
        return self.names.index(name)


@dataclass(frozen=True)
class Windows:
    """Information of W windows of a record: when does it tell what?

    In the spirit of DYNIA (Wagener et al. 2003, Hydrol. Process. 17:455), from derivatives in place of Monte Carlo
    runs: exact and cheap, but of small changes about one set of values only.

    Attributes
    ----------
    edges : (W, 2) datetime64, where each window begins and ends.
    each : information of every window alone, its batch (W, *batch); ``whole`` : of all that was scored.
    run : the simulation.
    """

    edges: np.ndarray
    each: Information
    whole: Information
    run: Simulation = field(repr=False)

    @property
    def share(self) -> Tensor:
        """Share (W, *batch, P) of a window in the information on every value, were all others known.

        Adds up to one over consecutive windows; NaN of a value that the record does not feel.
        """
        parts, whole = (i.matrix.diagonal(dim1=-2, dim2=-1) for i in (self.each, self.whole))
        return parts / whole


def fisher(jacobian: Tensor) -> Tensor:
    """J^T J (*batch, P, P) of derivatives (P, T, *batch) in units of sigma."""
    rows = jacobian.movedim((0, 1), (-2, -1))
    return rows @ rows.mT


def fisher_windows(jacobian: Tensor, width: int, step: int) -> Tensor:
    """The same of windows of ``width`` intervals, one every ``step`` (W, *batch, P, P); the last may be shorter.

    Sums over blocks of ``step``: differences of cumulative sums would lose a dry summer behind a flood.
    """
    count, intervals = jacobian.shape[:2]
    if not 1 <= step <= width <= intervals or width % step:
        raise ConfigError(
            f"Windows of {width} intervals every {step} of {intervals}: the width has to be a multiple of the step, "
            "within the record."
        )
    padding = jacobian.new_zeros(count, -intervals % step, *jacobian.shape[2:])
    blocks = torch.cat([jacobian, padding], dim=1).unflatten(1, (-1, step))
    rows = blocks.movedim((0, 2), (-2, -1))
    return (rows @ rows.mT).unfold(0, width // step, 1).sum(-1)
