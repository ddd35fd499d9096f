"""Contestants of solver_contest.py. Importing this package puts the process on one core, every library on one thread.

It has to come first: XLA reads its flags and counts cores when it starts, numba settles where it keeps compiled code.
"""

import os
import tempfile

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["OMP_NUM_THREADS"] = "1"
if hasattr(os, "sched_setaffinity"):
    # the threads of torch and of XLA that wait for work then never run beside the one that is timed
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
# code compiled in an earlier run would hide what compiling takes; processes started from this one share the folder
_folder = tempfile.TemporaryDirectory()
os.environ.setdefault("NUMBA_CACHE_DIR", _folder.name)
os.environ.setdefault("UDEHYDRO_CACHE", _folder.name)

import torch

torch.set_num_threads(1)
