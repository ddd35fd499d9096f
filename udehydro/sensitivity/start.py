"""Initial storages, which derivatives need given: those of a repeated first year would move with the parameters."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from udehydro.balance import Balance
from udehydro.errors import ConfigError
from udehydro.forcing import Forcing
from udehydro.simulate import initial_storage


def given_start(model: Balance, forcing: Forcing, storage0: Tensor | Mapping[str, Tensor | float] | None) -> Tensor:
    """Initial storages (*batch, S), detached; ConfigError where those of a store are not given."""
    if storage0 is None:
        raise ConfigError(
            f"Initial storages have to be given: a value for each of {', '.join(model.store_names)}, or "
            "storage0=spin_up(model, forcing, theta=theta).storage, which holds those of the repeated first year."
        )
    if not isinstance(storage0, Tensor) and (missing := [n for n in model.store_names if n not in storage0]):
        raise ConfigError(f"The start has no storage of {', '.join(missing)}.")
    return initial_storage(model, forcing, storage0).detach()
