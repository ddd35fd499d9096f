"""Peak memory of tensors, on any device: what is alive at once of all that operations made."""

from __future__ import annotations

import weakref

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):
    """Context in which ``peak`` [bytes] follows the tensors that operations return, until the last use of each.

    Forward and backward; what kernels hold within one operation, and arrays that are not torch's, is not seen.
    """

    def __init__(self):
        super().__init__()
        self.peak = self._alive = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor):
                self._follow(leaf.untyped_storage())
        return found

    def _follow(self, storage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self._alive += size
            self.peak = max(self.peak, self._alive)
            weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._alive -= size
