"""Conductivity predicted from retention and saturated conductivity alone, where it was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from _soils_contest import families
from _soils_data import Soil
from _soils_laws import Points, formula, padded

from udehydro.richards.inversion.curves import CurveFit

ENTRIES = (0.1, 1.0, 2.0, 5.0, 10.0)
"""Suctions [cm] that pores wider are left out from: Mualem's integral starts there."""
BOOK, FOUND = "; l as in textbooks, no factor", "; l (or the power) and a factor found on other soils"
SPLINE = "spline about a loam"
EDGES = np.logspace(-3.0, 7.0, 2001)
TEXTBOOK = {
    "van Genuchten": "vg",
    "van Genuchten, entry 2 cm": "vg entry 2",
    "van Genuchten, entry free": "vg entry free",
    "Brooks-Corey": "bc",
}


@dataclass(frozen=True)
class Rule:
    """ln K = ``given + features @ c``, by layer (point,) and (point, F); c is shared by all soils."""

    name: str
    setting: str
    given: list[np.ndarray]
    features: list[np.ndarray]

    def fit(self, soils: list[Soil]) -> np.ndarray:
        """Coefficients c by least squares over all points of these layers."""
        target = np.concatenate([np.log(s.k) - g for s, g in zip(soils, self.given, strict=True)])
        every = np.concatenate(self.features)
        return np.linalg.lstsq(every, target, rcond=None)[0] if every.shape[1] else np.empty(0)

    def errors(self, soils: list[Soil], c: np.ndarray) -> list[np.ndarray]:
        """Of log10 K, by layer."""
        parts = zip(soils, self.given, self.features, strict=True)
        return [(g + f @ c - np.log(s.k)) / np.log(10.0) for s, g, f in parts]


def rules(soils: list[Soil], free_form: Callable[[Points, dict], CurveFit]) -> list[Rule]:
    """All rules with their features for these layers; ``free_form`` fits the spline."""
    none = torch.empty(len(soils), 0, dtype=torch.float64)
    points = Points(padded([s.psi for s in soils], -1.0), padded([s.theta for s in soils], np.nan), none, none)
    ks, zero = [np.full(len(s.k), np.log(s.ks)) for s in soils], [np.zeros(len(s.k)) for s in soils]
    found = [
        Rule("a line in pF, the same for all soils", "", zero, [pf(s) for s in soils]),
        Rule("Ks times a line in pF", "", ks, [pf(s) for s in soils]),
        Rule("a line in pF and ln Ks", "", zero, [np.c_[pf(s), k] for s, k in zip(soils, ks, strict=True)]),
    ]
    fits = {n: formula(points, k) for n, k in TEXTBOOK.items()}
    found += [Rule(f"{n}, its own formula{BOOK}", "", *textbook(fit, soils)) for n, fit in fits.items()]
    shapes = {"van Genuchten": fits["van Genuchten"], "spline": free_form(points, {})}
    for name, fit in shapes.items():
        theta = fit.curves(-torch.as_tensor(EDGES).expand(len(soils), -1)).theta.numpy()
        dry = np.asarray(fit.p["theta_r"])
        for entry in ENTRIES:
            parts = [mualem(t, d, entry, -s.psi_k) for s, t, d in zip(soils, theta, dry, strict=True)]
            given = [k + 2.0 * f[:, 1] for k, f in zip(ks, parts, strict=True)]
            free = [np.c_[f[:, 0], np.ones(len(f))] for f in parts]
            found.append(Rule(f"{name}, Mualem's integral{FOUND}", f"from {entry:g} cm", given, free))
            given = [g + 0.5 * f[:, 0] for g, f in zip(given, parts, strict=True)]
            found.append(Rule(f"{name}, Mualem's integral{BOOK}", f"from {entry:g} cm", given, none_free(soils)))
        power = [mualem(t, d, EDGES[0], -s.psi_k)[:, :1] for s, t, d in zip(soils, theta, dry, strict=True)]
        free = [np.c_[f, np.ones(len(f))] for f in power]
        found.append(Rule(f"{name}, a power of saturation{FOUND}", "", ks, free))
    return found


def textbook(fit, soils: list[Soil]) -> tuple[list, list]:
    """The formula as it is, with the saturated conductivity that was measured."""
    psi = padded([s.psi_k for s in soils], -1.0)
    relative = fit.curves(psi).log_k.numpy() - np.log(np.asarray(fit.p["Ks"]))[:, None]
    given = [r[: len(s.k)] + np.log(s.ks) for r, s in zip(relative, soils, strict=True)]
    return given, none_free(soils)


def none_free(soils: list[Soil]) -> list[np.ndarray]:
    return [np.empty((len(s.k), 0)) for s in soils]


def pf(soil: Soil) -> np.ndarray:
    return np.c_[np.log10(-soil.psi_k), np.ones(len(soil.k))]


def mualem(theta: np.ndarray, dry: float, entry: float, suction: np.ndarray) -> np.ndarray:
    """(point, 2): logarithms of S and of Mualem's integral over the pores that hold water, relative to the entry.

    By sums over the measured curve: water that leaves between two suctions counts by one over their geometric mean.
    """
    middle, left = np.sqrt(EDGES[1:] * EDGES[:-1]), -np.diff(theta)
    held = np.append((left / middle)[::-1].cumsum()[::-1], 0.0)  # at the edges
    at = lambda y, s: np.exp(np.interp(np.log(s), np.log(EDGES), np.log(np.maximum(y, 1e-300))))  # noqa: E731
    s = np.maximum(suction, entry)
    saturation = at(theta - dry, s) / at(theta - dry, entry)
    return np.c_[np.log(saturation), np.log(at(held, s) / at(held, entry))]


def predict(chosen: list[Soil], test: list[Soil], retention: dict[str, dict]) -> dict[str, dict]:
    """Every rule, with the entry that is best on the layers to choose by, and errors of log10 K in the test layers.

    Layers without a saturated conductivity are left out; ``retention`` : settings chosen by water contents alone.
    """
    chosen, test = ([s for s in soils if s.flows and np.isfinite(s.ks)] for soils in (chosen, test))
    free_form = dict(families(False)[SPLINE])[retention[SPLINE]["setting"]]
    found = {"layers": {"validation": [s.name for s in chosen], "test": [s.name for s in test]}, "rules": {}}
    for here, there in zip(rules(chosen, free_form), rules(test, free_form), strict=True):
        c = here.fit(chosen)
        own = float(np.exp(np.mean([0.5 * np.log(np.mean(e**2)) for e in here.errors(chosen, c)])))
        if own < found["rules"].get(here.name, {"validation": np.inf})["validation"]:
            errors = [e.tolist() for e in there.errors(test, c)]
            one = {"setting": here.setting, "c": c.tolist(), "validation": own, "errors": errors}
            found["rules"][here.name] = one
    return found
