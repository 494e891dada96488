"""No test speaks with the real Hub: the clients read where it is once, at import, so it is said before."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_hub import LoopbackHub

assert "huggingface_hub" not in sys.modules, "the loopback Hub comes too late"
HOME = tempfile.TemporaryDirectory(prefix="hub-home-")
HUB = LoopbackHub()
os.environ.update(HUB.env(Path(HOME.name)))


@pytest.fixture(scope="session", autouse=True)
def _hub() -> Iterator[None]:
    with HUB, HOME:
        yield


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    """An empty Hub. The client's cache is that of the session: give `cache_dir=tmp_path` for a fresh one."""
    HUB.clear()
    yield HUB


@pytest.fixture(scope="session")
def threads() -> int:
    """That torch has before any test."""
    import torch

    return torch.get_num_threads()


@pytest.fixture(autouse=True)
def _threads(threads: int) -> None:
    """Training says how many threads torch has, and that decides how sums are rounded: no test inherits it."""
    import torch

    torch.set_num_threads(threads)
