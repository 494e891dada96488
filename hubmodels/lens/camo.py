"""Camouflage scenes: silhouettes of animals on real textures, made as they are asked for.

    scenes("train", seed, rows) -> pictures, masks, labels

A figure and its ground are two crops of one texture, whose tints differ by a little: `alpha`. The outline is all there
is to see. Row i is a pure function of (split, seed, i); all tasks show the same scene, with its animal hidden in another
way. Splits share neither silhouettes nor textures. Sources: assets/LICENSES.md.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hubmodels.images import from_uint8, from_unit, to_uint8, to_unit

CLASSES = ("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra")
TASKS = ("camouflage", "haze", "noise", "clear")
SPLITS = ("train", "validation", "test")
SIDE = 28
"""Of silhouettes, in pixels."""
LEVELS = 4
"""Of grey in them: none, one or two thirds or all of a pixel is covered."""
ACROSS = 100
"""Silhouettes in a row of silhouettes.png."""
TEXTURE = 256
"""Side of textures, in pixels."""
ASSETS = Path(__file__).with_name("assets")


if __name__ == "__main__":
    pass
