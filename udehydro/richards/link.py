"""Recharge link: what drains from soil columns becomes a forcing of a Balance, each with a solver of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from udehydro.errors import ConfigError, DataError
from udehydro.forcing import Forcing, date
from udehydro.richards.column.result import ColumnRun

MM_PER_CM = 10.0


def recharge_forcing(
    run: ColumnRun,
    forcing: Forcing | None = None,
    *,
    share: Tensor | Sequence | None = None,
    name: str = "recharge",
) -> Forcing:
    """A forcing with the recharge of a run as one more series [mm/d], for a Balance to read.

    Parameters
    ----------
    run : what :func:`udehydro.richards.column.flow` returned.
    forcing : what else the Balance reads, T intervals and batch ``batch``; by default the forcing of the run itself.
        Its intervals have to be made of whole intervals of the run, and need not cover all of it: a run by the hour
        drains into a record by the day.
    share : share of a basin's area that each column stands for, (column,) for one basin or (column, basin); not
        negative, with a sum of one over the columns. It turns the last dimension of the run's batch from columns into
        basins, by their mean; the series of the run's own forcing likewise. Without it, the batch of columns
        broadcasts to that of the forcing.
    name : of the series.

    Returns
    -------
    Forcing
        The series is (T, *batch): water that left the columns in each interval, over its length, so that a Balance
        takes in what the columns gave. It is differentiable by all that the run is, and by ``share``.

    Raises
    ------
    ConfigError
        For shares that are negative, not finite, of a wrong shape, or whose sum is not one.
    DataError
        For a name that is taken, an interval that is not made of intervals of the run, and columns that do not fit
        the batch or are named otherwise.

    Notes
    -----
    The link is one-way: no column knows what the store below it holds. Where a column draws water up, as above a
    ``WaterTable``, the series is negative, and the flux that reads it runs from the store back into the soil: declare
    it ``signed=True``. It takes what the column has had, even from an empty store, which then goes below zero: let
    outflows stop there, and list the store in ``signed_stores`` where its zero is only a level. A law that limits the
    rise instead loses water. Columns that end in ``FreeDrainage`` or a ``SeepageFace`` let nothing in.
    """
    depth = MM_PER_CM * run.recharge
    if share is not None:
        share = _checked(share, run.forcing)
        depth = depth @ share
    if forcing is None:
        forcing = run.forcing if share is None else _averaged(run.forcing, share)
    _check_names(run.forcing, forcing, ("members", "basins") if share is None else ("members",))
    if name in forcing.values:
        raise DataError(f"The forcing has a series '{name}' already: give the recharge another name (name=).")
    depth = _gathered(depth, run.forcing.time_edge, forcing.time_edge)
    series = _spread(depth, forcing) / forcing.days.reshape(-1, *(1,) * len(forcing.batch))
    return replace(forcing, values={**forcing.values, name: series}, units={**forcing.units, name: "mm/d"})


def _checked(share, columns: Forcing) -> Tensor:
    """Shares as a tensor (column,) or (column, basin)."""
    share, batch = torch.as_tensor(share, dtype=columns.like.dtype, device=columns.like.device), columns.batch
    fits = share.ndim in (1, 2) and share.shape[0] == (batch or (0,))[-1]
    if not fits or (share.ndim == 1 and len(batch) > 1):
        raise ConfigError(
            f"share has shape {tuple(share.shape)}, the run a batch {batch}, whose last dimension are the columns: "
            "give (columns, basins), or (columns,) where all columns of a batch without members lie in one basin."
        )
    if not bool((torch.isfinite(share) & (share >= 0.0)).all()):
        raise ConfigError(f"Shares of area are finite and not negative, got {share.detach().tolist()}.")
    total = share.detach().sum(0)
    if bool(((total - 1.0).abs() > 1e-6).any()):
        raise ConfigError(
            f"The shares of the columns of a basin have to add up to one, not {total.tolist()}: divide by their sum, "
            "or add a column for what is missing."
        )
    return share


def _averaged(columns: Forcing, share: Tensor) -> Forcing:
    """The run's own forcing, averaged over the columns of each basin."""
    return replace(columns, values={n: v @ share for n, v in columns.values.items()}, basins=())


def _check_names(columns: Forcing, forcing: Forcing, along: Sequence[str]) -> None:
    """Refuse batches that are named otherwise; of basins, share says which column lies in which."""
    for what in along:
        ours, theirs = getattr(columns, what), getattr(forcing, what)
        if ours and theirs and ours != theirs:
            raise DataError(
                f"The {what} of the run are {', '.join(ours[:5])}, those of the forcing {', '.join(theirs[:5])}: put "
                f"them in one order{', or say with share which column lies in which basin' * (what == 'basins')}."
            )


def _gathered(depth: Tensor, fine: np.ndarray, coarse: np.ndarray) -> Tensor:
    """Sums (T, ...) of depths per interval of ``fine`` over the intervals of ``coarse``."""
    at = np.searchsorted(fine, coarse)
    odd = np.flatnonzero(fine[at.clip(max=len(fine) - 1)] != coarse)
    if len(odd):
        raise DataError(
            f"The forcing has an interval that starts or ends on {date(coarse[odd[0]])}, where no interval of the run "
            f"does; the run covers {date(fine[0])} to {date(fine[-1])}. Run the column over the same period, on these "
            "intervals or on parts of them."
        )
    into = np.repeat(np.arange(len(coarse) - 1), np.diff(at))
    sums = depth.new_zeros(len(coarse) - 1, *depth.shape[1:])
    return sums.index_add(0, torch.as_tensor(into, device=depth.device), depth[at[0] : at[-1]])


def _spread(depth: Tensor, forcing: Forcing) -> Tensor:
    """Depths (T, *columns) broadcast to the batch, on device and in precision of the forcing."""
    columns, batch = tuple(depth.shape[1:]), forcing.batch
    try:
        depth = depth.reshape(-1, *(1,) * (len(batch) - len(columns)), *columns).expand(-1, *batch)
    except RuntimeError:
        raise DataError(
            f"The columns have the batch {columns}, which does not broadcast to {batch} of the forcing: give share, "
            "which says how many columns make up a basin, or a forcing with that batch."
        ) from None
    return depth.to(forcing.like)
