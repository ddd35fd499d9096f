"""The number that is differentiated, from flags."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date

import typer

from udehydro.cli.sensitivity.case import Case
from udehydro.errors import ConfigError
from udehydro.sensitivity import flood_peak, low_flow_days, score, storage_at, volume
from udehydro.sensitivity.objectives import Objective
from udehydro.structure import suggest
from udehydro.training import kge, log_nse, nse

SCORES: Mapping[str, tuple[Callable, str]] = {
    "nse": (nse, "NSE"),
    "kge": (kge, "KGE"),
    "log_nse": (log_nse, "NSE of logarithms"),
}
TAKES = {
    "flood_peak": (),
    "volume": ("name",),
    "low_flow_days": ("threshold", "width"),
    "storage_at": ("name", "date"),
    **dict.fromkeys(SCORES, ()),
}
"""Objective -> flags of its own."""
NEEDS = {"low_flow_days": ("threshold",), "storage_at": ("name", "date")}


@dataclass(frozen=True)
class Goal:
    """An objective with its unit, in words.

    Attributes
    ----------
    said : such as "the largest discharge from A to B".
    score : whether it is a score, whose changes are told in its own unit, not in percent.
    """

    name: str
    objective: Objective
    unit: str
    said: str

    @property
    def score(self) -> bool:
        return self.name in SCORES

    @property
    def shown(self) -> str:
        """The unit in figures and tables, where a score goes by its name."""
        return SCORES[self.name][1] if self.score else self.unit


@dataclass(frozen=True)
class Asked:
    """What flags ask for."""

    objective: str
    name: str | None
    date: str | None
    threshold: float | None
    width: float | None

    def __post_init__(self):
        if self.objective not in TAKES:
            raise ConfigError(f"--objective: '{self.objective}' is none of {', '.join(TAKES)}."
                              f"{suggest(self.objective, TAKES)}")  # fmt: skip
        given = [n for n in ("name", "date", "threshold", "width") if getattr(self, n) is not None]
        if wrong := [n for n in given if n not in TAKES[self.objective]]:
            of = " and ".join(k for k, flags in TAKES.items() if wrong[0] in flags)
            raise ConfigError(f"--{wrong[0]} goes with {of}, not with {self.objective}. Leave it out.")
        if lacking := [n for n in NEEDS.get(self.objective, ()) if n not in given]:
            raise ConfigError(f"--objective {self.objective} needs --{' and --'.join(lacking)}.")
        if self.threshold is not None and not self.threshold > 0.0:
            raise ConfigError(f"--threshold has to be above zero, got {self.threshold:g} mm/d.")
        if self.date is not None:
            _date(self.date)

    def goal(self, case: Case) -> Goal:
        """The objective over the period of a case."""
        (start, end), s = case.period, case.run.model.structure
        over = f"from {start} to {end}"
        if self.objective in SCORES:
            case.require_observed(f"--objective {self.objective}")
            metric, label = SCORES[self.objective]
            made = score(metric, case.observed, start, end)
            return Goal(self.objective, made, "1", f"the {label} of discharge {over}")
        if self.objective == "flood_peak":
            return Goal("flood_peak", flood_peak(start, end), "mm/d", f"the largest discharge {over}")
        if self.objective == "low_flow_days":
            width = 0.1 * self.threshold if self.width is None else self.width
            made = low_flow_days(self.threshold, width, start, end)
            words = f"the number of days with discharge below {self.threshold:g} mm/d (smoothed over {width:g} mm/d)"
            return Goal("low_flow_days", made, "d", f"{words} {over}")
        if self.objective == "storage_at":
            case.run.store(self.name)
            if not start <= self.date <= end:
                raise ConfigError(f"--date {self.date} lies outside the period that counts, {case.period} (--period).")
            return Goal("storage_at", storage_at(self.name, self.date), s.stores[self.name],
                        f"the storage of '{self.name}' on {self.date}")  # fmt: skip
        name = self.name or "discharge"
        if name != "discharge":
            case.run.rate(name)
        unit = "mm" if name == "discharge" else case.run.unit(name).removesuffix("/d")
        return Goal("volume", volume(name, start, end), unit, f"the volume of '{name}' {over}")


def read_asked(
    objective: str = typer.Option(..., "--objective", metavar="NAME", help=f"One of: {', '.join(TAKES)}."),
    name: str = typer.Option(
        None, "--name", metavar="FLUX|STORE", help="Of volume (default: discharge) and of storage_at."
    ),
    date: str = typer.Option(None, "--date", metavar="DATE", help="Of storage_at: in the morning of that day."),
    threshold: float = typer.Option(None, "--threshold", metavar="MM/D", help="Of low_flow_days."),
    width: float = typer.Option(
        None, "--width", metavar="MM/D", help="Of low_flow_days: smooths the threshold. [default: a tenth of it]"
    ),
) -> Asked:
    """The objective that flags ask for."""
    return Asked(objective, name, date, threshold, width)


def _date(text: str) -> None:
    try:
        date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--date: '{text}' is no date. Write it as 1984-02-08.") from None
