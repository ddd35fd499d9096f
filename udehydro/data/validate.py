"""`check`: is this dataset fit to be modelled? Findings with basin, variable, date and remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

import xarray as xr

from ..errors import DataError
from . import checks
from .axis_checks import structure

SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Attributes
    ----------
    severity : {"error", "warning", "info"}
        ``error``: do not run a model on it; ``warning``: look at it; ``info``: good to know.
    kind : str
        Short name, for example ``"gap"`` or ``"negative_rain"``.
    basin, variable : str or None
    count : int
        How many values or steps.
    first : str or None
        First date concerned.
    message, remedy : str
    """

    severity: str
    kind: str
    basin: str | None
    variable: str | None
    count: int
    first: str | None
    message: str
    remedy: str

    def __str__(self) -> str:
        """Kind, place and date, what was found, what to do."""
        place = filter(None, (self.basin and f"basin {self.basin}", self.variable, self.first and f"from {self.first}"))
        return f"[{self.kind}] {' '.join(place)}: {self.message} {self.remedy}".rstrip()


@dataclass(frozen=True)
class Report:
    """All findings of one check, errors first."""

    findings: list[Finding] = field(default_factory=list)
    source: str = ""

    @property
    def ok(self) -> bool:
        """Whether there is no error (warnings are allowed)."""
        return not any(f.severity == "error" for f in self.findings)

    def kinds(self, severity: str | None = None) -> list[str]:
        """Kinds found, each once."""
        return list(dict.fromkeys(f.kind for f in self.findings if severity in (None, f.severity)))

    def to_text(self, limit: int = 50) -> str:
        """Lines for people; findings of the same kind beyond ``limit`` lines in all are counted only."""
        counts = ", ".join(f"{sum(f.severity == s for f in self.findings)} {s}(s)" for s in SEVERITIES)
        lines = [f"{self.source or 'dataset'}: {counts}"]
        for f in self.findings[:limit]:
            lines.append(f"{f.severity.upper():7s} {f}")
        if len(self.findings) > limit:
            lines.append(f"... and {len(self.findings) - limit} more")
        return "\n".join(lines)

    def to_dict(self) -> dict:
        """For JSON."""
        return {"source": self.source, "ok": self.ok, "findings": [asdict(f) for f in self.findings]}

    def raise_if_errors(self) -> Report:
        """Raise a `DataError` with the text of all errors; otherwise return the report itself."""
        if not self.ok:
            errors = Report([f for f in self.findings if f.severity == "error"], self.source)
            raise DataError(errors.to_text())
        return self


def check(ds: xr.Dataset) -> Report:
    """Look for everything that makes a record unusable or suspicious; nothing is changed.

    Parameters
    ----------
    ds : Dataset
        Dims ``(time, basin)`` in canonical units, as the readers give it.

    Returns
    -------
    Report
        ``report.ok``, ``report.to_text()``, ``report.raise_if_errors()``.
    """
    found = list(_run(ds))
    found.sort(key=lambda f: SEVERITIES.index(f.severity))
    return Report(found, str(ds.attrs.get("source", "")))


def _run(ds: xr.Dataset) -> Iterable[Finding]:
    broken = [Finding(**f) for f in structure(ds)]
    yield from broken
    for test in () if broken else checks.TESTS:
        for found in test(ds):
            yield Finding(**found)
