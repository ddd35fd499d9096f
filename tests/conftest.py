"""What every test runs under: double precision, one thread, a fixed seed, no display."""

import os
import tempfile
from pathlib import Path

import hypothesis
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent

# Before anything imports matplotlib, here or in a process that a test starts.
os.environ["MPLBACKEND"] = "Agg"

# Compiled models go to a folder of this session, not into the user's; processes that tests start share it.
if "UDEHYDRO_CACHE" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="udehydro-tests-", ignore_cleanup_errors=True)
    os.environ["UDEHYDRO_CACHE"] = _cache.name

# More threads change the order of floating-point sums, and slow small problems down.
torch.set_num_threads(1)

# The same examples on every run; no deadline, because machines differ and a first call may compile.
hypothesis.settings.register_profile("udehydro", derandomize=True, deadline=None)
hypothesis.settings.load_profile("udehydro")


@pytest.fixture(autouse=True)
def double_precision():
    """Make float64 the default dtype, and restore what was there."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(autouse=True)
def seed():
    """Seed torch; numpy code takes an explicit Generator."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the repository (``../shared``), which is not part of the project."""
    path = ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"real data needed: there is no folder {path}")
    return path
