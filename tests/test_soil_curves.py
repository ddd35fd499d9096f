"""fit_curves: soil laws through points of their curves; planted soils, priors, and what is refused."""

import math
from functools import partial

import pytest
import torch

from udehydro.errors import ConfigError, DataError
from udehydro.richards.inversion.curve_search import Search
from udehydro.richards.inversion.curves import fit_curves
from udehydro.richards.inversion.free import Free
from udehydro.richards.inversion.points import points_of
from udehydro.richards.laws import BrooksCorey, Corrected, MonotoneNet, MonotoneSpline, VanGenuchten, soil_class
from udehydro.sensitivity.checks import differences

VG = VanGenuchten()
HEADS = -torch.logspace(0.0, 4.2, 15, dtype=torch.float64)
CLASSES = ("sand", "loam", "silt loam", "clay loam", "clay")
START = {"theta_r": 0.05, "theta_s": 0.42, "alpha": 0.03, "n": 1.6, "Ks": 20.0}
KNOTS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 8.0)


def soils():
    """Parameters of the classes (5, 1)."""
    every = [soil_class(n) for n in CLASSES]
    return {n: torch.tensor([[s[n]] for s in every], dtype=torch.float64) for n in START}


def points(sigma=(0.005, 0.1), noise=0.0):
    """Both curves of the classes; conductivity only down to 3 m of suction."""
    generator, p = torch.Generator().manual_seed(1), soils()
    random = partial(torch.randn, 5, len(HEADS), generator=generator, dtype=torch.float64)
    theta = VG.theta(HEADS, p) + noise * sigma[0] * random()
    log_k = VG.log_conductivity(HEADS, p) + noise * sigma[1] * random()
    k = torch.where(HEADS > -300.0, log_k.exp(), math.nan)
    return {"theta": (HEADS, theta, sigma[0]), "conductivity": (HEADS, k, sigma[1])}


def each(values, **more):
    """Free values of five samples."""
    return {n: Free(torch.full((5,), float(v)), **more) for n, v in values.items()}


def of_loam(given):
    """The points of the loam alone."""
    return {n: (psi, values[1], sigma) for n, (psi, values, sigma) in given.items()}


def test_planted_soils_are_found_to_rounding():
    found = fit_curves(VG, each(START), **points(), tolerance=1e-14)
    assert bool(found.converged.all())
    for name, value in soils().items():
        torch.testing.assert_close(found.p[name], value[:, 0], rtol=1e-6, atol=1e-8)


def test_errors_are_as_large_as_said():
    """Of 60 noisy copies of a loam: spread of what is found, and misfit, as Laplace's approximation has them."""
    loam, copies = soil_class("loam"), 60
    generator = torch.Generator().manual_seed(2)
    random = partial(torch.randn, copies, len(HEADS), generator=generator, dtype=torch.float64)
    theta = VG.theta(HEADS, loam) + 0.003 * random()
    k = (VG.log_conductivity(HEADS, loam) + 0.1 * random()).exp()
    p = {n: Free(torch.full((copies,), v)) for n, v in loam.items()}
    found = fit_curves(VG, p, theta=(HEADS, theta, 0.003), conductivity=(HEADS, k, 0.1))
    truth = torch.tensor([loam[n] for n in found.names], dtype=torch.float64)
    physical = torch.stack([found.p[n] for n in found.names], -1)
    searched = torch.where(found.x == physical, truth, truth.log())
    z = (found.x - searched) / found.sd
    # 60 draws: the standard deviation of a root mean square is 1 / sqrt(120) = 0.09
    assert bool(((z.square().mean(0).sqrt() - 1.0).abs() < 0.3).all())
    assert float(found.chi2.mean()) == pytest.approx(2 * len(HEADS) - 5, rel=0.1)
    bands, at = found.curves(HEADS), VG.theta(HEADS, loam)
    assert float(((bands.theta - at) / bands.theta_sd).square().mean().sqrt()) == pytest.approx(1.0, abs=0.25)
    assert bool((found.counts["theta"] == len(HEADS)).all())


@pytest.mark.parametrize("law", ["net", "corrected", "spline", "brooks-corey"])
def test_other_laws_follow_planted_points_to_noise(law):
    given = of_loam(points(noise=1.0))
    law, p, more = {
        "net": lambda: (MonotoneNet(6), {n: Free(START[n]) for n in ("theta_r", "theta_s", "Ks")}, {"weights": 3.0}),
        "corrected": lambda: (Corrected(VG), {n: Free(v) for n, v in START.items()}, {"weights": 1.0}),
        "spline": spline,
        "brooks-corey": lambda: (
            BrooksCorey(),
            {n: Free(v) for n, v in BrooksCorey().defaults.items() if n != "l"},
            {},
        ),
    }[law]()
    before = [w.clone() for w in law.parameters()]
    found = fit_curves(law, p, **given, **more)
    count = sum(float(c) for c in found.counts.values())
    misfit = float(found.parts["theta"] + found.parts["conductivity"]) / count
    # a power law with an air entry has not the shape of the planted curve: it must be seen to miss it
    assert misfit > 4.0 if isinstance(law, BrooksCorey) else misfit < 1.3
    assert all(torch.equal(w, b) for w, b in zip(law.parameters(), before, strict=True))
    soil, numbers = found.soil()
    torch.testing.assert_close(soil.theta(HEADS, numbers), found.curves(HEADS).theta)
    torch.testing.assert_close(soil.log_conductivity(HEADS, numbers), found.curves(HEADS).log_k)


def spline(start="sandy loam"):
    law = MonotoneSpline(KNOTS, free="parameters")
    values = {n: float(v) for n, v in law.imitate(VG, soil_class(start)).items()}
    p = {n: Free(v, prior=2.0 if n[0] in "GH" else None) for n, v in values.items()}
    return law, p, {"smooth": {"G": 1.0, "H": 1.0}}


def test_samples_side_by_side_are_what_they_are_alone():
    given = points(noise=1.0)
    law, p, more = spline()
    every = {n: Free(f.start.expand(5), prior=f.prior) for n, f in p.items()}
    together = fit_curves(law, every, **given, **more)
    alone = fit_curves(law, p, **of_loam(given), **more)
    torch.testing.assert_close(together.chi2[1], alone.chi2, rtol=1e-6, atol=0.0)
    torch.testing.assert_close(together.curves(HEADS).theta[1], alone.curves(HEADS).theta, rtol=1e-4, atol=0.0)
    assert together.soil(1)[1].keys() == alone.soil()[1].keys()


@pytest.mark.parametrize("law", ["vg", "net", "corrected"])
def test_derivatives_are_those_of_differences(law):
    law = {"vg": VG, "net": MonotoneNet(4), "corrected": Corrected(VG, 3)}[law]
    p = {n: Free(v, prior=1.0) for n, v in START.items() if n in law.ranges}
    given = {n: points_of(n, v) for n, v in of_loam(points(noise=1.0)).items()}
    search = Search(law, p, given, 1.0, {})
    generator = torch.Generator().manual_seed(4)
    x = search.start + 0.01 * torch.randn(search.start.shape, generator=generator, dtype=torch.float64)
    at = lambda z: search.evaluate(z, torch.zeros(len(z), dtype=torch.long))  # noqa: E731
    assert differences(lambda z: 0.5 * at(z).chi2, x[0]).against(at(x).gradient[0]).error < 1e-6


def test_priors_hold_what_no_point_tells_of():
    given = {"theta": of_loam(points())["theta"]}
    p = {n: Free(v, prior=0.5 if n == "Ks" else None) for n, v in START.items()}
    found = fit_curves(VG, p, **given)
    at = found.names.index("Ks")
    assert float(found.p["Ks"]) == pytest.approx(START["Ks"])
    assert float(found.sd[at]) == pytest.approx(0.5)
    assert float(found.parts["prior"]) < 1e-20
    # a prior that is as good as a number
    tight = fit_curves(VG, p | {"n": Free(1.2, prior=1e-6)}, **given)
    assert float(tight.p["n"]) == pytest.approx(1.2, abs=1e-4)


def test_a_start_is_a_shape_that_smoothness_keeps():
    """No point beyond 1 m of suction: a shift that wet points ask for is taken on to the dry end."""
    law, p, _ = spline("loam")
    target = {n: float(v) for n, v in law.imitate(VG, soil_class("loam")).items()}
    target |= {n: 1.3 * v for n, v in target.items() if n[0] == "G"}
    wet = -torch.logspace(0.0, 2.0, 12, dtype=torch.float64)
    given = {"theta": (wet, law.theta(wet, target), 1e-4)}
    fixed = {n: f if n[0] == "G" else float(f.start) for n, f in p.items()}
    miss = lambda fit: float((law.theta(HEADS, fit.p) - law.theta(HEADS, target)).abs().max())  # noqa: E731
    rough, smooth = fit_curves(law, fixed, **given), fit_curves(law, fixed, **given, smooth={"G": 0.01})
    assert miss(smooth) < 0.1 * miss(rough)


def test_a_value_at_two_places_is_one_unknown():
    law, p, _ = spline()
    shared = Free(0.5, prior=1.0)
    found = fit_curves(law, p | {"H5": shared, "H6": shared}, **of_loam(points()))
    assert len(found.names) == len(p) - 1
    assert float(found.p["H5"]) == float(found.p["H6"])


PERCENT = 100.0 * VG.theta(HEADS, soil_class("loam"))
GOOD = of_loam(points())
FEW = {n: (psi[:k], values[:k], sigma) for k, (n, (psi, values, sigma)) in zip((3, 1), GOOD.items(), strict=True)}
REFUSED = {
    "suctions": (DataError, "give -psi", {"theta": (-HEADS, GOOD["theta"][1], 0.01)}),
    "offset": (DataError, "tensiometer", {"theta": (HEADS + 2.0, GOOD["theta"][1], 0.01)}),
    "per cent": (DataError, "Per cent", {"theta": (HEADS, PERCENT, 0.01)}),
    "no head": (DataError, "no head", {"theta": (HEADS * math.nan, GOOD["theta"][1], 0.01)}),
    "zero conductivity": (DataError, "above zero", {"conductivity": (HEADS, torch.zeros(15), 0.1)}),
    "sigma": (DataError, "sigma", {"theta": (HEADS, GOOD["theta"][1], 0.0)}),
    "shapes": (DataError, "do not fit", {"theta": (HEADS, GOOD["theta"][1][:7], 0.01)}),
    "two things": (DataError, "three things", {"theta": (HEADS, GOOD["theta"][1])}),
    "too few": (ConfigError, "4 points cannot tell 5 .* priors", FEW),
    "blind": (ConfigError, "no point tells of Ks", {"theta": GOOD["theta"], "conductivity": None}),
    "smooth": (ConfigError, "neighbours", {"smooth": {"G": 1.0}}),
    "smooth sd": (ConfigError, "standard deviation", {"smooth": {"G": 0.0}}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    error, words, change = REFUSED[name]
    p = {n: Free(v) for n, v in START.items()}
    with pytest.raises(error, match=words):
        fit_curves(VG, p, **(GOOD | change))


def test_refused_free_values():
    p = {n: Free(v) for n, v in START.items()}
    with pytest.raises(ConfigError, match="Nothing is to be found"):
        fit_curves(VG, START, **GOOD)
    with pytest.raises(ConfigError, match="no 'alhpa'.*alpha"):
        fit_curves(VG, p | {"alhpa": Free(0.1)}, **GOOD)
    with pytest.raises(ConfigError, match="Samples share no unknown"):
        fit_curves(VG, p, **points())
    with pytest.raises(DataError, match="Samples come first"):
        fit_curves(VG, {n: Free(torch.full((3,), v)) for n, v in START.items()}, **points())
    with pytest.raises(ConfigError, match="members"):
        fit_curves(
            MonotoneNet(4, members=2), {n: Free(START[n]) for n in ("theta_r", "theta_s", "Ks")}, **GOOD, weights=1.0
        )
    with pytest.raises(ConfigError, match="SoilLaw"):
        fit_curves("loam", p, **GOOD)
    with pytest.raises(ConfigError, match="outside its limits"):
        fit_curves(VG, p | {"n": Free(0.5)}, **GOOD)


def test_missing_values_are_left_out():
    """NaN among the values is as if the point were not there; a sample without conductivities is fitted to contents."""
    given = of_loam(points(noise=1.0))
    psi, theta, sigma = given["theta"]
    gap = theta.clone()
    gap[4:7] = math.nan
    keep = ~gap.isnan()
    p = {n: Free(v) for n, v in START.items()}
    masked = fit_curves(VG, p, **(given | {"theta": (psi, gap, sigma)}))
    cut = fit_curves(VG, p, **(given | {"theta": (psi[keep], theta[keep], sigma)}))
    torch.testing.assert_close(masked.x, cut.x)
    assert int(masked.counts["theta"]) == 12
