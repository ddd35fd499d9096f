"""Training in stages: a first-order phase, then Levenberg-Marquardt steps on frozen points, all members at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from udehydro.richards.pinn.system import System
from udehydro.training.levenberg import Normal, minimise


@dataclass(frozen=True)
class Adam:
    """Steps of Adam (Kingma and Ba 2015) with a rate that falls as a cosine."""

    steps: int = 300
    rate: float = 5e-3

    def __call__(self, system: System, progress: str | None = None) -> Tensor:
        """Halves of chi2 (members,) at the last step; weights of the fields and unknowns are moved.

        A member whose loss or gradient is not finite stays where it was at that step.
        """
        networks = [f.network for f in system.fields]
        extra = system.extra.values.clone().requires_grad_()
        moved = [w for n in networks for w in n.parameters() if w.requires_grad]
        optimiser = torch.optim.Adam([*moved, extra] if extra.numel() else moved, lr=self.rate)
        fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.steps)
        total = None
        for _ in tqdm(range(self.steps), desc=progress or "", disable=progress is None, leave=False):
            optimiser.zero_grad()
            weights = [n.weights() for n in networks]
            leaves = [[w.detach().requires_grad_() for w in ws] for ws in weights]
            total = system.loss(leaves, extra).sum(0)
            pairs = [(w, x.grad) for ws, xs in zip(weights, leaves, strict=True) for w, x in zip(ws, xs, strict=True)]
            torch.autograd.backward([w for w, _ in pairs], [g for _, g in pairs])
            for w in [*moved, extra]:
                if w.grad is not None:
                    w.grad.nan_to_num_(0.0, 0.0, 0.0)
            optimiser.step()
            fall.step()
        low, high = system.limits()
        system.extra.values = extra.detach().clamp(low[:, system.last], high[:, system.last])
        for n in networks:
            n.absorb()
        return total


@dataclass(frozen=True)
class Levenberg:
    """Levenberg-Marquardt steps with the damping the same for all weights.

    Weights of a network have curvatures that differ by many orders; Marquardt's scaling by them lets those that matter
    little run away, and took ten times as many steps on every problem tried.
    """

    steps: int = 100
    tolerance: float = 1e-5
    stop: float | None = None

    def __call__(self, system: System, progress: str | None = None) -> Normal:
        x = system.start()
        low, high = system.limits()
        found, now, _, _ = minimise(
            system.normal,
            x,
            low,
            high,
            torch.ones_like(x, dtype=torch.bool),
            steps=self.steps,
            tolerance=self.tolerance,
            stop=self.stop,
            isotropic=1.0,
            progress=progress,
        )
        system.load(found)
        return now
