"""Where the nodes of a column are, and how far apart; values of cells and of nodes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from udehydro.richards.column.column import Column


@dataclass(frozen=True)
class Geometry:
    """A column's sizes as tensors, and where its nodes are.

    Attributes
    ----------
    thickness, storage : (cell,) of cells [cm], and their specific storage [1/cm].
    distance : (segment,) between nodes [cm].
    gravity : 1, or 0 where the column lies; ``depth`` : of its bottom [cm].
    nodes, layers : the nodes of every layer, those at its ends included, and its cells.
    """

    thickness: Tensor
    storage: Tensor
    distance: Tensor
    gravity: float
    depth: Tensor
    nodes: tuple[slice, ...]
    layers: tuple[slice, ...]

    @classmethod
    def of(cls, column: Column, like: Tensor) -> Geometry:
        thickness = torch.as_tensor(column.grid.thickness, dtype=like.dtype, device=like.device)
        distance, storage, nodes = [], [], []
        for i, (layer, cells) in enumerate(zip(column.layers, column.cells_of_layers, strict=True)):
            half = 0.5 * thickness[cells]
            distance += [half[:1], half[:-1] + half[1:], half[-1:]]
            storage.append(torch.full_like(half, layer.specific_storage))
            nodes.append(slice(cells.start + i, cells.stop + i + 2))
        gravity = 0.0 if column.horizontal else 1.0
        sizes = (thickness, torch.cat(storage), torch.cat(distance))
        return cls(*sizes, gravity, thickness.sum(), tuple(nodes), column.cells_of_layers)

    def cells(self, psi: Tensor) -> Tensor:
        """Values of the cells (columns, cell) out of those of all nodes."""
        parts = [psi[:, n.start + 1 : n.stop - 1] for n in self.nodes]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def spread(self, cells: Tensor, top: Tensor | None = None) -> Tensor:
        """Values of all nodes (columns, node) from those of the cells; zero elsewhere, but for ``top`` (columns, 1)."""
        zero = torch.zeros_like(cells[:, :1])
        parts = [zero if top is None else top]
        for i, n in enumerate(self.nodes):
            parts += [cells[:, n.start - i : n.stop - i - 2], zero]
        return torch.cat(parts, dim=1)
