"""fit: train parameters and laws on observed flow, resumably; nothing of the test period enters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torch import Tensor, nn
from tqdm import tqdm

from udehydro.balance import Balance
from udehydro.errors import ConfigError
from udehydro.forcing import Forcing
from udehydro.solvers import Solver
from udehydro.training.losses import Loss
from udehydro.training.observed import Observe, Observed, discharge
from udehydro.training.run import Run
from udehydro.training.stage import Stage


@dataclass
class FitResult:
    """What training returns; ``model`` and ``parameters`` hold, per member, the best values met.

    ``best`` means lowest validation loss where there is a validation period, else lowest training loss.
    ``best_step`` (M,) counts steps from the start, as ``history`` does; ``steps`` (stages, M) only those of every stage
    that led to the best point, not what was thrown away when the next stage began.
    ``history`` has a row per step: stage, step, seconds, and lists per member ``train`` and ``valid``; with
    :class:`Observed` series also ``parts``: name -> ``train`` and ``valid``, unweighted, of the last point evaluated.
    """

    model: Balance
    parameters: nn.Module
    train: Tensor
    valid: Tensor | None
    best_step: Tensor
    steps: Tensor
    history: list[dict] = field(repr=False)
    storage0: Tensor | None = field(repr=False, default=None)
    failures: int = 0
    seconds: float = 0.0


def fit(
    model: Balance,
    parameters: nn.Module,
    forcing: Forcing,
    observed: Tensor | Observed | Sequence[Observed],
    *,
    train: tuple[str, str],
    valid: tuple[str, str] | None = None,
    loss: Loss | None = None,
    observe: Observe = discharge,
    solver: Solver | None = None,
    stages: Sequence[Stage] = (Stage("adam", 100), Stage("lbfgs", 60)),
    warmup_days: int = 365,
    storage0: Tensor | None = None,
    penalty: float = 0.0,
    patience: int | None = None,
    select: Literal["valid", "train", "frozen"] = "valid",
    frozen_steps: Tensor | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    progress: str | None = "fit",
) -> FitResult:
    """Train the free tensors of ``model`` and ``parameters``.

    Parameters
    ----------
    forcing, observed : record of T intervals; observed (T, *batch), NaN where missing, or one or several
        :class:`Observed` series, whose weighted losses are added. With a batch (member, basin) the members are
        independent: own curvature, own line search, own best point. A member's loss is the mean over its basins.
    train, valid : inclusive dates. The run is continuous from the start of the record to the end of the later one.
    loss, observe : of a plain tensor: :class:`NSE` and discharge by default. Scales of losses come from the whole train
        period.
    warmup_days : days from the start of the record that are simulated but not scored.
    storage0 : initial storages (*batch, S); by default those ``parameters`` calibrate, else the repeated first year
        with the values at the start of every stage.
    penalty : weight of the mean square of network weights.
    patience : stop a stage after this many steps without a better validation loss of any member (with windows, at the
        end of a pass); a frozen choice has none.
    select : which point of each member to keep: lowest validation loss (lowest training loss where there is no
        validation period), lowest training loss, or ``"frozen"``: that after ``frozen_steps`` (stages, M), the
        ``steps`` of an earlier result, each stage going on from there.
    checkpoint, resume : folder for atomic checkpoints after every step, and whether to go on from the newest. A resumed
        run ends with the same bits as an uninterrupted one (same machine and threads).
    progress : label of the progress bar, None for none.

    Raises
    ------
    ConfigError, DataError
        For periods without data, or a start that cannot be simulated; for a checkpoint of other settings.
    """
    _check_choice(model, parameters, select, frozen_steps, storage0)
    run = Run(model, parameters, forcing, observed, train, valid, loss, observe, solver, warmup_days, storage0, penalty)
    run.stages, run.patience = tuple(stages), None if select == "frozen" else patience
    if frozen_steps is not None:
        needed = (len(run.stages), run.members.members)
        if frozen_steps.shape != needed:
            raise ConfigError(f"frozen_steps {tuple(frozen_steps.shape)} must be (stages, members), here {needed}.")
        frozen_steps = frozen_steps.to(run.best_step)
    run.select, run.frozen_steps = select, frozen_steps
    run.settings |= {"select": select, "frozen_steps": None if frozen_steps is None else frozen_steps.tolist()}
    run.folder = Path(checkpoint) if checkpoint is not None else None
    total = sum(s.steps for s in run.stages)
    if hasattr(run.solver, "runs"):
        run.expect(total)
    if resume and run.folder is not None:
        run.resume()
    with tqdm(total=total, initial=run.done_steps, desc=progress or "", disable=progress is None, leave=False) as bar:
        while run.stage < len(run.stages):
            run.run_stage(bar)
    run.members.write(run.best_x)
    return FitResult(
        model,
        parameters,
        run.best_train,
        run.best_valid if valid is not None else None,
        run.best_step,
        run.kept,
        run.history,
        run.storage0,
        run.failures,
        run.spent,
    )


def _check_choice(model, parameters, select, frozen_steps, storage0) -> None:
    if select not in ("valid", "train", "frozen"):
        raise ConfigError(f"select must be 'valid', 'train' or 'frozen', got {select!r}.")
    if (select == "frozen") != (frozen_steps is not None):
        raise ConfigError("select='frozen' and frozen_steps, the steps of every stage and member, go together.")
    if storage0 is not None and parameters.storage0(model.store_names) is not None:
        raise ConfigError(
            "storage0 is given, and the parameters calibrate initial storages too: leave one of them out."
        )
