"""What the variables are called: here, and in the files people have.

``CANONICAL`` is the vocabulary of the data layer, ``ALIASES`` the names under which the same quantity is
met in the field. Matching ignores case and treats blanks, dots and hyphens as underscores. A unit is never
guessed from a name such as ``P_mm_h``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..errors import DataError


@dataclass(frozen=True)
class Quantity:
    """A canonical variable: unit, words, CF standard name (or None) and the kind of unit it takes."""

    units: str
    long_name: str
    standard_name: str | None
    kind: str


CANONICAL: dict[str, Quantity] = {
    "prcp": Quantity("mm/d", "precipitation rate", "lwe_precipitation_rate", "rate"),
    "temp": Quantity("degC", "mean air temperature", "air_temperature", "temperature"),
    "tmin": Quantity("degC", "minimum air temperature", "air_temperature", "temperature"),
    "tmax": Quantity("degC", "maximum air temperature", "air_temperature", "temperature"),
    "pet": Quantity("mm/d", "potential evapotranspiration rate", "water_potential_evapotranspiration_rate", "rate"),
    "dayl": Quantity("h", "day length", None, "duration"),
    "srad": Quantity(
        "W/m2",
        "short-wave radiation, mean over daylight",
        "surface_downwelling_shortwave_flux_in_air",
        "radiation",
    ),
    "vp": Quantity("Pa", "water vapour pressure", "water_vapor_partial_pressure_in_air", "pressure"),
    "discharge": Quantity("mm/d", "observed discharge per unit area", None, "flow"),
}

FORCING = ("prcp", "temp", "tmin", "tmax", "pet", "dayl", "srad", "vp")

ALIASES: dict[str, tuple[str, ...]] = {
    "prcp": (
        "prcp p prec precip precipitation rain rainfall ptot rr ppt pr pobs precipitation_rate "
        "total_precipitation total_precipitation_sum"
    ).split(),
    "temp": (
        "temp t tmean tavg tas temperature mean_temp temp_mean t_mean tair air_temperature temperature_2m "
        "temperature_2m_mean"
    ).split(),
    "tmin": "tmin tn t_min min_temp temp_min tasmin temperature_min temperature_2m_min".split(),
    "tmax": "tmax tx t_max max_temp temp_max tasmax temperature_max temperature_2m_max".split(),
    "pet": (
        "pet e ep ept evap pe et0 eto pevap turc oudin hamon hargreaves potential_evaporation "
        "potential_evapotranspiration potential_evaporation_sum"
    ).split(),
    "dayl": "dayl day_length daylength daylight daylight_hours".split(),
    "srad": "srad rsds shortwave solar_radiation shortwave_radiation".split(),
    "vp": "vp vapour_pressure vapor_pressure ea".split(),
    "discharge": ("discharge q qobs q_obs obs_runoff runoff flow streamflow discharge_obs observed_discharge").split(),
}

TIME_ALIASES = ("date", "time", "datetime", "dates", "datesr", "timestamp", "date_time", "valid_time")
YEAR, MONTH, DAY, HOUR = (
    ("year", "yr", "yyyy"),
    ("month", "mnth", "mon", "mm", "mo"),
    ("day", "dd", "dy"),
    ("hour", "hr", "hh"),
)

_BRACKET = re.compile(r"^\s*(?P<name>[^\(\[]*?)\s*[\(\[]\s*(?P<unit>[^\)\]]*?)\s*[\)\]]\s*$")


def split_unit(header: str) -> tuple[str, str | None]:
    """``prcp(mm/day)`` or ``rainfall [mm]`` as name and unit; a header without brackets has unit None."""
    match = _BRACKET.match(header)
    if match and match["name"]:
        return match["name"], match["unit"] or None
    return header.strip(), None


def key(name: str) -> str:
    """A column name as it is compared: lower case, blanks, dots and hyphens as underscores."""
    return re.sub(r"[\s.\-]+", "_", name.strip().lower())


def find_columns(
    headers: Iterable[str],
    columns: Mapping[str, str] | None,
    *,
    where: str,
    wanted: Iterable[str] = CANONICAL,
) -> dict[str, str]:
    """Which column holds which canonical variable.

    Parameters
    ----------
    headers : iterable of str
        Column names as they stand in the file, units included.
    columns : mapping, optional
        Explicit choice, canonical name to column name (with or without its unit); wins over the aliases.
        A value of ``None`` leaves the variable out.
    where : str
        File or object, for messages.

    Returns
    -------
    dict
        Canonical name to header. Empty when nothing is recognised.
    """
    headers = [str(h) for h in headers]
    chosen, dropped = _explicit(headers, columns or {}, where)
    taken = set(chosen.values())
    for name in wanted:
        if name in chosen or name in dropped:
            continue
        hits = [h for h in headers if h not in taken and key(split_unit(h)[0]) in ALIASES[name]]
        if len(hits) > 1:
            raise DataError(
                f"{where}: several columns could be '{name}': {', '.join(map(repr, hits))}. "
                f"Say which one, for example columns={{'{name}': '{hits[0]}'}}."
            )
        if hits:
            chosen[name] = hits[0]
            taken.add(hits[0])
    return chosen


def _explicit(headers: list[str], columns: Mapping[str, str], where: str) -> tuple[dict[str, str], set[str]]:
    chosen: dict[str, str] = {}
    dropped = {name for name, column in columns.items() if column is None}
    for name, column in columns.items():
        if name not in CANONICAL:
            raise DataError(
                f"{where}: columns= names an unknown variable '{name}'. Known: {', '.join(CANONICAL)}. "
                "The key is the variable, the value the column; further columns are kept with extra=[...]."
            )
        if column is None:
            continue
        hits = [h for h in headers if h == column] or [h for h in headers if split_unit(h)[0] == column]
        if not hits:
            raise DataError(
                f"{where}: columns={{'{name}': '{column}'}}, but there is no column '{column}'. "
                f"Columns found: {', '.join(headers)}."
            )
        chosen[name] = hits[0]
    return chosen, dropped


def nothing_found(headers: Iterable[str], where: str) -> DataError:
    """The error for a table in which no variable was recognised."""
    return DataError(
        f"{where}: no known variable among the columns: {', '.join(map(str, headers))}. "
        "Name them, for example columns={'prcp': 'rain_col', 'discharge': 'flow_col'}. "
        f"Variables: {', '.join(CANONICAL)}."
    )
