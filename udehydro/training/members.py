"""Free tensors of a model and its parameters as one array, a row per independent member."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from udehydro.errors import ConfigError
from udehydro.laws.neural import Perceptron


class Members:
    """Reads and writes the free tensors of some modules as ``x (M, P)``.

    With M > 1 members every free tensor must carry a leading axis of size M (``Calibrated`` with batch (M, 1), networks
    with ``members=M``); with one member any shape goes.
    """

    def __init__(self, modules: Sequence[nn.Module], members: int):
        named = [(f"{i}.{n}", p) for i, m in enumerate(modules) for n, p in m.named_parameters() if p.requires_grad]
        if not named:
            raise ConfigError("Nothing to train: no free parameter and no network weight.")
        for name, p in named:
            if members > 1 and (not p.ndim or p.shape[0] != members):
                raise ConfigError(
                    f"Free tensor '{name}' of shape {tuple(p.shape)} has no leading axis for {members} members: build "
                    f"parameters with batch=({members}, 1) and networks with members={members}."
                )
        self.members = members
        self.names = [n for n, _ in named]
        self.tensors = [p for _, p in named]

    def read(self) -> Tensor:
        """Present values (M, P)."""
        return torch.cat([p.detach().reshape(self.members, -1) for p in self.tensors], dim=1)

    @torch.no_grad()
    def write(self, x: Tensor) -> None:
        """Set every free tensor from x (M, P)."""
        start = 0
        for p in self.tensors:
            stop = start + p.numel() // self.members
            p.copy_(x[:, start:stop].reshape(p.shape))
            start = stop

    def gather(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """Gradients of the tensors as (M, P), zero where there is none."""
        parts = [torch.zeros_like(p) if g is None else g for p, g in zip(self.tensors, gradients, strict=True)]
        return torch.cat([g.reshape(self.members, -1) for g in parts], dim=1)


def take(module: nn.Module, index: Sequence[int]) -> nn.Module:
    """A copy of a module with a subset of its members, in the order of ``index``.

    Raises ConfigError where a tensor has no member axis to select from.
    """
    chosen = copy.deepcopy(module)
    rows = torch.as_tensor(list(index))
    for part in chosen.modules():
        for name, p in list(part._parameters.items()):
            if p is not None:
                part._parameters[name] = nn.Parameter(_rows(name, p.detach(), rows), requires_grad=p.requires_grad)
        for name, b in list(part._buffers.items()):
            if b is not None and name.startswith(("held_", "centre", "spread")) and b.ndim > 1:
                part._buffers[name] = _rows(name, b, rows)
        if isinstance(part, Perceptron) and part.members is not None:
            part.members = len(rows)
        if hasattr(part, "batch") and isinstance(part.batch, tuple) and part.batch:
            part.batch = (len(rows), *part.batch[1:])
    return chosen


def _rows(name: str, value: Tensor, rows: Tensor) -> Tensor:
    if not value.ndim or int(rows.max()) >= value.shape[0]:
        raise ConfigError(f"'{name}' of shape {tuple(value.shape)} has no member {int(rows.max())} to take.")
    return value[rows.to(value.device)].clone()
