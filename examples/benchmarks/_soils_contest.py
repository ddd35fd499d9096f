"""Laws judged by points they were not fitted to: each head of a layer in turn is held out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from _soils_data import Soil
from _soils_laws import KNOTS, Points, corrected, formula, network, padded, spline
from torch import Tensor

VG = "van Genuchten"
SIGMAS_K = (0.05, 0.1, 0.2)
"""Standard deviations of ln K by which points of the two curves are weighed."""


@dataclass(frozen=True)
class Folds:
    """A sample for every head that is held out: layer ``who``, ``at`` that head [cm], ``truth`` theta or ln K there."""

    soils: list[Soil]
    points: Points
    who: np.ndarray
    at: Tensor
    truth: np.ndarray
    flows: bool

    @classmethod
    def of_theta(cls, soils: list[Soil]) -> Folds:
        held = [(i, h) for i, s in enumerate(soils) for h in sorted(set(s.psi), reverse=True)]
        theta = [np.where(soils[i].psi == h, np.nan, soils[i].theta) for i, h in held]
        truth = [soils[i].theta[soils[i].psi == h].mean() for i, h in held]
        none = torch.empty(len(held), 0, dtype=torch.float64)
        points = Points(padded([soils[i].psi for i, _ in held], -1.0), padded(theta, np.nan), none, none)
        return cls._of(soils, points, held, truth, False)

    @classmethod
    def of_k(cls, soils: list[Soil]) -> Folds:
        soils = [s for s in soils if s.flows]
        held = [(i, h) for i, s in enumerate(soils) for h in s.psi_k]
        k = [np.where(soils[i].psi_k == h, np.nan, soils[i].k) for i, h in held]
        truth = [np.log(soils[i].k[soils[i].psi_k == h]).mean() for i, h in held]
        rows = (padded([soils[i].psi for i, _ in held], -1.0), padded([soils[i].theta for i, _ in held], np.nan))
        points = Points(*rows, padded([soils[i].psi_k for i, _ in held], -1.0), padded(k, np.nan))
        return cls._of(soils, points, held, truth, True)

    @classmethod
    def _of(cls, soils, points, held, truth, flows) -> Folds:
        who, at = zip(*held, strict=True)
        return cls(soils, points, np.array(who), torch.tensor(at, dtype=torch.float64), np.array(truth), flows)

    def errors(self, fit) -> np.ndarray:
        """Of the point held out (fold,): of theta, or of log10 K."""
        curves = fit.curves(self.at.unsqueeze(1))
        found = (curves.log_k if self.flows else curves.theta)[:, 0].numpy()
        return (found - self.truth) / (np.log(10.0) if self.flows else 1.0)

    def lines(self) -> np.ndarray:
        """Errors of straight lines over pF through the points that are left."""
        psi, values = (self.points.psi_k, self.points.k.log()) if self.flows else (self.points.psi, self.points.theta)
        found = []
        for row, y, at in zip(psi.numpy(), values.numpy(), self.at.tolist(), strict=True):
            x, y = np.log10(-row[~np.isnan(y)]), y[~np.isnan(y)]
            i = int(np.clip(np.searchsorted(x, np.log10(-at)) - 1, 0, len(x) - 2))
            found.append(y[i] + (y[i + 1] - y[i]) / (x[i + 1] - x[i]) * (np.log10(-at) - x[i]))
        return (np.array(found) - self.truth) / (np.log(10.0) if self.flows else 1.0)


Setting = tuple[str, Callable[[Points, dict], object]]


def families(flows: bool) -> dict[str, list[Setting]]:
    """Laws with the settings to choose from: what they are called, and how they are fitted to points.

    The second argument holds fits of formulas to the same points, to start from.
    """
    kinds = {VG: "vg", "van Genuchten, entry 2 cm": "vg entry 2", "van Genuchten, entry free": "vg entry free"}
    kinds |= {"van Genuchten, l free": "vg l free"} if flows else {}
    kinds |= {"Brooks-Corey": "bc"}
    base = "vg l free" if flows else "vg"
    found = {n: [("", lambda q, kept, k=k: _kept(q, kept, k))] for n, k in kinds.items()}
    found["van Genuchten, priors"] = [(f"prior {s}", lambda q, _, s=s: formula(q, "vg", s)) for s in (1.0, 3.0)]
    found["two van Genuchten humps"] = [
        ("no prior" if s is None else f"prior {s}", lambda q, _, s=s: formula(q, "two", s))
        for s in (None, 0.3, 1.0, 3.0)
    ]
    ties = (None, 1.0) if flows else (None, 0.3, 1.0)
    found["spline about that fit"] = [
        (f"prior {s}, smooth {t}, {k}", lambda q, kept, s=s, t=t, k=k: spline(q, _kept(q, kept, base), s, t, k))
        for k, s, t in product(KNOTS, (1.0, 2.0) if flows else (0.3, 1.0, 2.0), ties)
    ]
    found["spline about a loam"] = [
        (f"prior {s}, smooth {t}, {k}", lambda q, _, s=s, t=t, k=k: spline(q, None, s, t, k))
        for k, s, t in product(KNOTS, (1.0, 2.0) if flows else (1.0, 2.0, 4.0), ties)
    ]
    found["van Genuchten, corrected"] = [
        (f"weights {s}", lambda q, kept, s=s: corrected(q, _kept(q, kept, base), s)) for s in (0.3, 1.0, 3.0)
    ]
    found["monotone network"] = [
        (f"weights {s}, {u} units", lambda q, _, s=s, u=u: network(q, s, u))
        for u, s in ((6, 1.0), (6, 3.0), (6, 10.0), (10, 1.0))
    ]
    return found


def _kept(points: Points, kept: dict, kind: str):
    """A fit of a formula, made once for the same points."""
    if kind not in kept:
        kept[kind] = formula(points, kind)
    return kept[kind]


def by_layer(folds: Folds, errors: np.ndarray) -> np.ndarray:
    """Root mean square (layer,)."""
    return np.array([np.sqrt(np.mean(errors[folds.who == i] ** 2)) for i in range(len(folds.soils))])


def choose(folds: Folds, progress=print) -> dict[str, dict]:
    """The best setting of every family, by the mean logarithm of layers' errors; all that was tried."""
    found: dict[str, dict] = {}
    for sigma in SIGMAS_K if folds.flows else (0.5,):
        points, kept = replace(folds.points, sigma_k=sigma), {}
        for family, settings in families(folds.flows).items():
            for name, fit in settings:
                score = float(np.exp(np.log(by_layer(folds, folds.errors(fit(points, kept)))).mean()))
                said = ", ".join(x for x in (name, f"sigma {sigma}" if folds.flows else "") if x)
                found.setdefault(family, {"tried": {}})["tried"][said] = score
                progress(f"{family}: {said} {score:.4f}")
                if score < found[family].get("score", np.inf):
                    found[family] |= {"score": score, "setting": name, "sigma": sigma, "said": said}
    return found


def judge(folds: Folds, chosen: dict[str, dict]) -> dict[str, list[float]]:
    """Errors of every fold by every family with the setting chosen, and by straight lines."""
    found, kept = {"straight lines in pF": folds.lines().tolist()}, {}
    for family, settings in families(folds.flows).items():
        best = chosen[family]
        points = replace(folds.points, sigma_k=best["sigma"])
        fit = dict(settings)[best["setting"]]
        found[family] = folds.errors(fit(points, kept.setdefault(best["sigma"], {}))).tolist()
    return found
