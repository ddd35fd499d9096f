"""Formulas of one curve: sums of shapes of the suction, nominated by regression, then fitted with all constants."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from scipy.optimize import least_squares
from torch import Tensor

from udehydro.discovery.library import Library, Term, renamed
from udehydro.discovery.nominate import Columns
from udehydro.laws import FormulaLaw
from udehydro.structure import Range

KEEP = 6
"""Formulas of each length, above one shape, that are fitted with all their constants."""
WITHIN = 2.0
"""Root mean square distance, in standard deviations, up to which a curve is taken to run within a band."""
_FACTOR, _RATE, _POWER = Range(-1e3, 1e3, "1", 1.0), Range(1e-4, 10.0, "1", 0.05), Range(1.05, 10.0, "1", 1.6)
SHAPES = {
    "theta": {
        "exp(-a*s)": {"a": _RATE},
        "(1 + (a*s)**n)**(1/n - 1)": {"a": _RATE, "n": _POWER},
        "1/(1 + (a*s)**n)": {"a": _RATE, "n": _POWER},
        "min(1, 1/(a*s)**b)": {"a": _RATE, "b": Range(0.05, 5.0, "1", 0.6)},
        "log(1 + a*s)": {"a": _RATE},
    },
    "log_k": {
        "s": {},
        "sqrt(s)": {},
        "log(s)": {},
        "max(0, log(a*s))": {"a": _RATE},
        "log(1 + a*s)": {"a": _RATE},
        "log(1 + (a*s)**n)": {"a": _RATE, "n": _POWER},
    },
}
"""What formulas are sums of, with a constant: shapes of the suction s [cm]."""


@dataclass(frozen=True, eq=False)
class Formula:
    """An expression of the suction s [cm] with numbers, and its root mean square distance in standard deviations."""

    text: str
    terms: tuple[str, ...]
    constants: Mapping[str, float]
    off: float

    def __str__(self) -> str:
        found = re.sub(r"\b[a-z]+\d\b", lambda m: f"{self.constants[m[0]]:.4g}", self.text)
        return found.replace("+ -", "- ")

    def __call__(self, psi: Tensor) -> Tensor:
        """At heads below zero [cm]."""
        return _of_suction(self.text, list(self.constants))(
            -torch.as_tensor(psi, dtype=torch.float64), self.constants.values()
        )


def preferred(found: Sequence[tuple[float, int]]) -> list[int]:
    """Order of (distance, size): the shortest first of what is within the bands, then the nearest."""
    key = [(0, size, off) if off <= WITHIN else (1, off, size) for off, size in found]
    return sorted(range(len(found)), key=key.__getitem__)


def formulas(shapes: Mapping, s: Tensor, values: Tensor, sd: Tensor, most: int) -> list[Formula]:
    """Sums of shapes: nominated by regression, then fitted with all their constants."""
    terms = [Term("1", {}, _FACTOR), *(Term(text, constants, _FACTOR) for text, constants in shapes.items())]
    y, weights = values.numpy(), (1.0 / sd).numpy()
    columns = Columns.of(Library(terms, most + 1), {"s": s}, y, weights)
    found = []
    for size in range(1, most + 1):
        every = [columns.nominee((0, *c)) for c in combinations(range(1, len(terms)), size)]
        for _, (chosen, start) in sorted(every, key=lambda f: f[0])[: KEEP if size > 1 else None]:
            found.append(_refitted([(j, terms[j]) for j in chosen], start, s, y, weights))
    return [found[i] for i in preferred([(f.off, len(f.constants)) for f in found])]


def _refitted(terms: Sequence, starts: Mapping[tuple[int, str], float], s: Tensor, y, weights) -> Formula:
    """A sum of terms with all constants fitted together, factors by regression at every trial of the others."""
    rows = [(i, f"{n}{i}", r, starts[j, n]) for i, (j, t) in enumerate(terms) for n, r in t.constants.items()]
    texts = [renamed(t.text, {n: f"{n}{i}" for n in t.constants}) for i, (_, t) in enumerate(terms)]
    own = [[k for k, row in enumerate(rows) if row[0] == i] for i in range(len(terms))]
    values = [_of_suction(text, [rows[k][1] for k in ks]) for text, ks in zip(texts, own, strict=True)]

    def solved(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        columns = [v(s, x[ks].tolist()).numpy() for v, ks in zip(values, own, strict=True)]
        matrix = np.nan_to_num(weights[:, None] * np.stack(columns, 1))
        factors = np.linalg.lstsq(matrix, weights * y, rcond=1e-12)[0]
        return factors, matrix @ factors - weights * y

    x = np.array([row[3] for row in rows])
    if rows:
        low, high = (np.array([getattr(row[2], end) for row in rows]) for end in ("low", "high"))
        x = least_squares(lambda x: solved(x)[1], np.clip(x, low, high), bounds=(low, high), x_scale=x, max_nfev=100).x
    factors, gap = solved(x)
    constants = {f"c{i}": float(f) for i, f in enumerate(factors)} | {
        r[1]: float(v) for r, v in zip(rows, x, strict=True)
    }
    text = " + ".join(["c0", *(f"c{i}*({t})" for i, t in enumerate(texts) if i)])
    return Formula(text, tuple(t.text for _, t in terms), constants, float(np.sqrt(np.mean(gap**2))))


def _of_suction(text: str, names: Sequence[str]) -> Callable[[Tensor, Iterable[float]], Tensor]:
    """An expression as a function of suctions and of the values of its constants."""
    law = FormulaLaw(text, dict.fromkeys(names, _FACTOR))

    def value(s: Tensor, constants: Iterable[float]) -> Tensor:
        known = dict(zip(names, constants, strict=True)) | {"s": s}
        return law(*(torch.as_tensor(known[n], dtype=s.dtype) for n in law.reads)).expand_as(s)

    return value
