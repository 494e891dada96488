"""Loads OpenBLAS, where a Linux machine has it, before MLX comes: import this first.

MLX for Linux brings along the reference BLAS, which takes ten times as long. What was loaded for all to see wins over
what a library brings along; so torch, whose own BLAS is as fast, has to be there before.
"""

import ctypes
import sys
from contextlib import suppress

import torch  # noqa: F401

if sys.platform == "linux":
    with suppress(OSError):  # not installed: the same numbers, later
        ctypes.CDLL("libopenblas.so.0", mode=ctypes.RTLD_GLOBAL)
