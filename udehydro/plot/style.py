"""What all figures share: colours, labels, and figures that need no display and no global setting."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from udehydro.simulation import Simulation
from udehydro.structure import Structure

# The colours of Okabe and Ito (2008), which people with any colour vision can tell apart; black is the observation.
OBSERVED = "#000000"
LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
RAIN = "#56B4E9"
RISE, FALL = LINES[0], LINES[1]
SIGNED, COUNTED = "RdBu", "YlGnBu"
"""Colour maps of values of both signs, blue for a rise, and of values above zero."""
PERIODS = {"train": "#0072B2", "valid": "#E69F00", "test": "#009E73"}
MEANINGS = {
    "prcp": "precipitation",
    "temp": "air temperature",
    "dayl": "day length",
    "pet": "potential evapotranspiration",
    "et": "evapotranspiration",
    "soil": "soil storage",
    "snow": "snow storage",
}


def figure(width: float = 9.0, height: float = 4.0) -> Figure:
    """An empty figure, inches; made without pyplot, so that it is freed with its last reference."""
    return Figure(figsize=(width, height), layout="constrained")


def png(fig: Figure, dpi: int = 120) -> bytes:
    """The figure as a PNG image."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def tidy(axes: Axes, xlabel: str = "", ylabel: str = "", title: str = "") -> Axes:
    """Labels, a light grid, and no frame where it carries nothing."""
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    if title:
        axes.set_title(title, fontsize="medium", loc="left")
    axes.grid(True, color="0.88", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def coloured(names: Iterable[str]) -> list[tuple[str, str]]:
    """Names with a colour each, in order."""
    return [(name, LINES[i % len(LINES)]) for i, name in enumerate(names)]


def numbers(values) -> np.ndarray:
    """Tensor, xarray or array as NumPy array."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def column(values, element: int = 0) -> np.ndarray:
    """Series (T,) of one batch element of (T, *batch); elements are counted in row-major order."""
    array = numbers(values)
    return array.reshape(array.shape[0], -1)[:, element]


def label(structure: Structure, name: str) -> str:
    """``soil storage [mm]``: what a name means, with its unit."""
    units = {**structure.stores, **structure.forcings, **{n: r.unit for n, r in structure.parameters.items()}}
    units |= {f.name: "mm/d" for f in structure.fluxes} | dict.fromkeys(structure.groups, "mm/d") | {"pet": "mm/d"}
    meaning = MEANINGS.get(name, name)
    meaning = meaning if meaning == name else f"{meaning} '{name}'"
    return f"{meaning} [{units[name]}]" if name in units else meaning


def place(simulation: Simulation, element: int) -> str:
    """Name of the basin, or member, of a batch element; empty where it has no name."""
    names = simulation.forcing.basins or simulation.forcing.members
    return names[element % len(names)] if names else ""


def named(text: str, simulation: Simulation, element: int) -> str:
    """A title with the basin, or member, it is of."""
    name = place(simulation, element)
    return f"{text} ({name})" if name else text


def titled(axes: Axes, text: str, simulation: Simulation, element: int) -> None:
    axes.set_title(named(text, simulation, element), fontsize="medium", loc="left")


def rows(axes: Axes, names: Sequence[str]) -> None:
    """A heat map's rows by name, the first on top, without a frame."""
    axes.set_yticks(np.arange(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines[:].set_visible(False)


def shade(axes: Axes, periods: Mapping[str, tuple[str, str]]) -> None:
    """Train, validation and test periods as tinted bands, named at the top; both dates inclusive."""
    low, high = axes.get_xlim()
    for name, (start, end) in periods.items():
        edges = np.datetime64(start, "D"), np.datetime64(end, "D") + np.timedelta64(1, "D")
        band = axes.axvspan(*edges, color=PERIODS.get(name, "0.5"), alpha=0.09, linewidth=0)
        band.set_zorder(0)
        left, right = (axes.convert_xunits(edge) for edge in edges)
        middle = 0.5 * (max(left, low) + min(right, high))
        if low < middle < high:
            axes.text(
                middle, 0.99, name, transform=axes.get_xaxis_transform(), ha="center", va="top", fontsize="small",
                color="0.3",
            )  # fmt: skip
    axes.set_xlim(low, high)
