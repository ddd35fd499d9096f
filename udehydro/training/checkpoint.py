"""Checkpoints that survive being killed: the folder holds the old one or the new one, complete.

A checkpoint is a safetensors file and a JSON manifest that names it, holds its SHA-256 and carries the
metadata. Saving writes the tensors under a new name, keeps the present manifest as the previous one, and
replaces the manifest last: that rename is the moment the new checkpoint exists. Only then are older files
removed.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from udehydro.errors import DataError
from udehydro.files import write_atomic, write_json_atomic

_LOG = logging.getLogger(__name__)
_NEWEST, _PREVIOUS = "checkpoint.json", "checkpoint.previous.json"
_FORMAT = 1


def save(folder: str | Path, step: int, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Save ``tensors`` and ``meta`` as the newest checkpoint in ``folder`` and keep the one before.

    One process writes to a folder at a time. ``meta`` must fit JSON; non-finite numbers in it come back as
    ``None``, so what matters bit for bit belongs in ``tensors``.
    """
    folder = Path(folder)
    # Cloned, because safetensors refuses tensors that share memory and views that are not contiguous.
    content = safetensors.torch.save(
        {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    )
    digest = hashlib.sha256(content).hexdigest()
    name = f"step-{step:09d}-{digest[:12]}.safetensors"
    write_atomic(folder / name, content)
    newest = folder / _NEWEST
    if _intact(newest):  # a corrupt newest must not push out the good previous one
        write_atomic(folder / _PREVIOUS, newest.read_bytes())
    manifest = {"format": _FORMAT, "step": step, "file": name, "sha256": digest, "meta": meta}
    write_json_atomic(newest, manifest)
    _prune(folder)


def load_latest(folder: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The newest checkpoint whose hash is right: ``(tensors on the CPU, meta with "step" added)``.

    Returns ``None`` where nothing was ever saved. Falls back to the previous checkpoint, with a logged
    warning, when the newest is corrupt.

    Raises
    ------
    DataError
        If there are checkpoints but none can be read.
    """
    folder = Path(folder)
    problems = []
    for path in (folder / _NEWEST, folder / _PREVIOUS):
        try:
            manifest = _manifest(path)
            tensors = safetensors.torch.load(_content(path, manifest))
        except FileNotFoundError:
            continue
        except DataError as error:
            problems.append(str(error))
            continue
        if problems:
            _LOG.warning("Resuming from the previous checkpoint, step %d: %s", manifest["step"], problems[0])
        return tensors, {**manifest["meta"], "step": manifest["step"]}
    if problems:
        raise DataError(
            f"No checkpoint in '{folder}' can be read: {' '.join(problems)} "
            "Restore the folder from a backup, or remove it to start again."
        )
    return None


def rng_state() -> Tensor:
    """State of PyTorch's CPU random generator, a uint8 tensor to be saved with the rest."""
    return torch.get_rng_state()


def set_rng_state(state: Tensor) -> None:
    """Put PyTorch's CPU random generator back to ``state`` (from `rng_state`)."""
    torch.set_rng_state(state.to("cpu", torch.uint8))


def _manifest(path: Path) -> dict[str, Any]:
    """The manifest at ``path``, checked; FileNotFoundError where there is none."""
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError as error:  # neither UTF-8 nor JSON
        raise DataError(f"Manifest '{path.name}' is not valid JSON ({error}).") from error
    expected = {"format", "step", "file", "sha256", "meta"}
    if not isinstance(manifest, dict) or set(manifest) != expected or manifest["format"] != _FORMAT:
        raise DataError(f"Manifest '{path.name}' is not a checkpoint of format {_FORMAT} with {sorted(expected)}.")
    if Path(manifest["file"]).name != manifest["file"]:
        raise DataError(f"Manifest '{path.name}' points outside its folder, to '{manifest['file']}'.")
    return manifest


def _content(path: Path, manifest: dict[str, Any]) -> bytes:
    """Bytes of the tensor file that the manifest at ``path`` names, verified against its hash."""
    name = manifest["file"]
    try:
        content = (path.parent / name).read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"'{name}', named by '{path.name}', is missing.") from error
    if hashlib.sha256(content).hexdigest() != manifest["sha256"]:
        raise DataError(f"'{name}' differs from the SHA-256 in '{path.name}': it is corrupt.")
    return content


def _intact(path: Path) -> bool:
    """Whether the manifest at ``path`` exists and its tensor file is what it says."""
    try:
        _content(path, _manifest(path))
    except (FileNotFoundError, DataError):
        return False
    return True


def _prune(folder: Path) -> None:
    """Remove tensor files that no manifest names, and what a killed process left half written."""
    kept = set()
    for path in (folder / _NEWEST, folder / _PREVIOUS):
        try:
            kept.add(_manifest(path)["file"])
        except (FileNotFoundError, DataError):
            continue
    stale = {path for path in folder.glob("step-*.safetensors") if path.name not in kept}
    stale |= set(folder.glob(".step-*.tmp")) | set(folder.glob(".checkpoint.*.tmp"))
    for path in stale:
        path.unlink(missing_ok=True)
