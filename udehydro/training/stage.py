"""Stage: some steps of one optimiser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from udehydro.errors import ConfigError
from udehydro.training.optimisers import LBFGS, Adam, Cosine


@dataclass(frozen=True)
class Stage:
    """Some steps of one optimiser.

    Parameters
    ----------
    optimiser : ``"adam"`` or ``"lbfgs"``; a step is one evaluation of loss and gradient.
    steps : at most this many.
    learning_rate : of Adam, decayed by half a cosine to a tenth.
    share : of the train period, from its start: below 1 for a growing-window curriculum.
    window : intervals per Adam step; the storage is carried, detached, from one window to the next. None: the whole
        period.
    clip : largest gradient norm of a member in Adam.
    """

    optimiser: Literal["adam", "lbfgs"]
    steps: int
    learning_rate: float = 1e-2
    share: float = 1.0
    window: int | None = None
    clip: float = 1.0

    def __post_init__(self):
        if self.optimiser not in ("adam", "lbfgs"):
            raise ConfigError(f"Stage optimiser must be 'adam' or 'lbfgs', got {self.optimiser!r}.")
        if self.steps < 0 or not 0 < self.share <= 1 or not self.learning_rate > 0:
            raise ConfigError(f"Stage needs steps >= 0, 0 < share <= 1, learning_rate > 0; got {self}.")
        if self.window is not None and (self.optimiser == "lbfgs" or self.window < 2):
            raise ConfigError("Windows of at least 2 intervals go with Adam; L-BFGS needs one fixed objective.")

    def build(self):
        """The optimiser of the stage."""
        if self.optimiser == "lbfgs":
            return LBFGS(first_step=0.1, max_step=5.0, loss_tolerance=1e-7, gradient_tolerance=1e-7)
        return Adam(self.learning_rate, schedule=Cosine(max(1, self.steps), 0.1), clip=self.clip)
