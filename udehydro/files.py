"""Files that are either old or new, never half written.

Every output is written under a temporary name in the same folder, forced to disk, and renamed over the
target. Renaming within a folder is atomic, so a process killed at any moment leaves the old file or the new.
"""

import json
import math
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    import xarray as xr


def write_atomic(path: str | Path, content: bytes | str) -> None:
    """Write ``content`` (text as UTF-8) to ``path``, whole or not at all; missing folders are created."""
    data = content.encode() if isinstance(content, str) else content
    with _replacing(Path(path)) as temporary:
        temporary.write_bytes(data)


def write_json_atomic(path: str | Path, value: Any) -> None:
    """Write ``value`` as standard JSON to ``path``, whole or not at all.

    Non-finite numbers become ``null``, because JSON has no literal for them; NumPy and PyTorch values become
    numbers and lists, paths and dates become strings.
    """
    write_atomic(path, json.dumps(_plain(value), indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def write_netcdf_atomic(dataset: "xr.Dataset", path: str | Path) -> None:
    """Write an xarray ``dataset`` as NetCDF-4 (engine h5netcdf) to ``path``, whole or not at all."""
    with _replacing(Path(path)) as temporary:
        dataset.to_netcdf(temporary, engine="h5netcdf")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``; what was written there replaces ``path`` when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)  # gone already unless something failed
    if os.name == "posix":  # elsewhere a folder cannot be opened, and renaming is journalled
        _sync(path.parent)


def _sync(path: Path) -> None:
    """Force a file's bytes, or a folder's list of names, to disk."""
    # Windows only flushes handles opened for writing; a folder can only be opened for reading.
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _plain(value: Any) -> Any:
    """``value`` in terms of JSON's own types."""
    if isinstance(value, torch.Tensor):
        return _plain(value.detach().cpu().tolist())
    if isinstance(value, np.datetime64):
        return str(value)
    if isinstance(value, np.ndarray | np.generic):
        return [_plain(item) for item in value] if value.ndim else _plain(value.item())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, date):  # a datetime is a date
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value
