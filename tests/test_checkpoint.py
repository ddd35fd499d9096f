"""Files replaced whole; checkpoints that survive SIGKILL, corruption and a failed write."""

import json
import math
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from udehydro.errors import DataError
from udehydro.files import write_atomic, write_json_atomic, write_netcdf_atomic
from udehydro.training.checkpoint import load_latest, rng_state, save, set_rng_state

KILLED_AGAIN_AND_AGAIN = """
import os, random, signal, sys, time
import torch
from udehydro.training.checkpoint import load_latest, save

folder, rounds, step = sys.argv[1], int(sys.argv[2]), 0
random.seed(0)
save(folder, 0, {"x": torch.zeros(20_000), "y": torch.zeros(3)}, {"value": 0})
for _ in range(rounds):
    child = os.fork()
    if child == 0:
        while True:
            step += 1
            tensors = {"x": torch.full((20_000,), float(step)), "y": torch.full((3,), float(step))}
            save(folder, step, tensors, {"value": step})
    time.sleep(random.uniform(0.001, 0.06))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    tensors, meta = load_latest(folder)
    assert meta["step"] == meta["value"] >= step, (meta, step)
    assert all((tensor == meta["step"]).all() for tensor in tensors.values())
    step = meta["step"]
print(step)
"""


def two_checkpoints(folder: Path) -> None:
    for step in (1, 2):
        save(folder, step, {"x": torch.full((4,), float(step))}, {"epoch": step})


def tensor_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def test_round_trip_is_exact(tmp_path):
    base = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tensors = {
        "view": base.T,
        "shares memory": base[:2],
        "counter": torch.tensor(3),
        "flags": torch.tensor([True, False]),
        "special": torch.tensor([math.nan, -math.inf, -0.0]),
        "empty": torch.empty(0, 3),
        "half": base.to(torch.bfloat16),
        "tracked": base.clone().requires_grad_(),
    }
    save(tmp_path, 7, tensors, {"loss": 0.1 + 0.2, "bad": math.nan, "names": ["a", "b"]})
    loaded, meta = load_latest(tmp_path)
    assert meta == {"loss": 0.1 + 0.2, "bad": None, "names": ["a", "b"], "step": 7}
    assert set(loaded) == set(tensors)
    for name, tensor in tensors.items():
        torch.testing.assert_close(loaded[name], tensor.detach(), rtol=0, atol=0, equal_nan=True)


def test_nothing_saved_is_none(tmp_path):
    assert load_latest(tmp_path) is None
    assert load_latest(tmp_path / "absent") is None


def test_two_checkpoints_are_kept_and_leftovers_removed(tmp_path):
    (tmp_path / ".step-000000009-abc.safetensors.0123.tmp").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    for step in range(5):
        save(tmp_path, step, {"x": torch.full((4,), float(step))}, {})
    assert [path.name[:14] for path in tensor_files(tmp_path)] == ["step-000000003", "step-000000004"]
    names = {path.name for path in tmp_path.iterdir() if path.suffix != ".safetensors"}
    assert names == {"checkpoint.json", "checkpoint.previous.json", "notes.txt"}


def test_a_lower_step_saved_later_is_the_newest(tmp_path):
    two_checkpoints(tmp_path)
    save(tmp_path, 0, {"x": torch.zeros(4)}, {})
    assert load_latest(tmp_path)[1]["step"] == 0


def damage_tensors(folder: Path) -> None:
    content = bytearray(tensor_files(folder)[-1].read_bytes())
    content[-1] ^= 1
    tensor_files(folder)[-1].write_bytes(content)


def remove_tensors(folder: Path) -> None:
    tensor_files(folder)[-1].unlink()


def truncate_manifest(folder: Path) -> None:
    path = folder / "checkpoint.json"
    path.write_text(path.read_text()[:40])


def escape_folder(folder: Path) -> None:
    path = folder / "checkpoint.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"file": "../step.safetensors"}))


@pytest.mark.parametrize("damage", [damage_tensors, remove_tensors, truncate_manifest, escape_folder])
def test_corrupt_newest_falls_back_with_a_warning(tmp_path, caplog, damage):
    two_checkpoints(tmp_path)
    damage(tmp_path)
    tensors, meta = load_latest(tmp_path)
    assert meta == {"epoch": 1, "step": 1} and (tensors["x"] == 1).all()
    assert "previous checkpoint, step 1" in caplog.text
    save(tmp_path, 3, {"x": torch.full((4,), 3.0)}, {})  # must not push out the one good checkpoint
    damage(tmp_path)
    assert load_latest(tmp_path)[1]["step"] == 1


def test_nothing_readable_is_an_error(tmp_path):
    two_checkpoints(tmp_path)
    for path in tensor_files(tmp_path):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="corrupt.*start again"):
        load_latest(tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes")
def test_killed_while_saving(tmp_path):
    """One import of torch, then many children that save in a loop until SIGKILL strikes."""
    command = [sys.executable, "-c", KILLED_AGAIN_AND_AGAIN, str(tmp_path), "60"]
    root = Path(__file__).resolve().parents[1]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20  # it did save, so it was killed while at it


def test_random_numbers_go_on_where_they_stopped(tmp_path):
    before = rng_state()
    try:
        save(tmp_path, 1, {"rng": before}, {})
        first = torch.rand(5)
        set_rng_state(load_latest(tmp_path)[0]["rng"])
        assert torch.equal(torch.rand(5), first)
        assert before.dtype == torch.uint8
    finally:
        set_rng_state(before)


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_atomic(path, "Größe\n")
    with pytest.raises(TypeError):
        write_atomic(path, 3)
    with pytest.raises(TypeError):
        write_json_atomic(path, {"a": object()})
    assert path.read_bytes() == "Größe\n".encode()
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_json_has_no_nan(tmp_path):
    path = tmp_path / "a.json"
    value = {
        "nan": [math.nan, (math.inf, 1.5)],
        "numpy": np.array([1.0, np.nan]),
        "scalar": np.float32(0.5),
        "nan scalar": np.float64("nan"),
        "count": np.int64(3),
        "tensor": torch.tensor([[1.0, math.inf]]),
        "day": date(2000, 2, 29),
        "numpy day": np.datetime64("2000-02-29"),
        "path": Path("a"),
        "plain": [None, True, "x"],
        5: 1,
    }
    write_json_atomic(path, value)
    loaded = json.loads(path.read_text(), parse_constant=lambda literal: pytest.fail(literal))
    assert loaded == {
        "nan": [None, [None, 1.5]],
        "numpy": [1.0, None],
        "scalar": 0.5,
        "nan scalar": None,
        "count": 3,
        "tensor": [[1.0, None]],
        "day": "2000-02-29",
        "numpy day": "2000-02-29",
        "path": "a",
        "plain": [None, True, "x"],
        "5": 1,
    }


def test_netcdf_round_trip(tmp_path):
    path = tmp_path / "a.nc"
    dataset = xr.Dataset({"discharge": ("time", [1.0, math.nan], {"units": "mm/d"})})
    write_netcdf_atomic(dataset, path)
    write_netcdf_atomic(dataset, path)  # over an existing file
    with xr.open_dataset(path, engine="h5netcdf") as loaded:
        xr.testing.assert_identical(loaded, dataset)
    assert [p.name for p in tmp_path.iterdir()] == ["a.nc"]
