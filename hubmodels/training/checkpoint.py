"""Checkpoints that are either whole or absent: `checkpoints/step_00001000/`, safetensors and JSON, no pickle.

A checkpoint is written under a `.tmp` name, synced to the disk and then renamed, so whatever kills the writer
leaves the previous one alone. Tensors are whole (gathered from FSDP2's shards), so one process can read them.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from .stop import Stop

Tensors = dict[str, Tensor]


def folder_of(root: Path, step: int) -> Path:
    return root / f"step_{step:08d}"


def steps_in(root: Path) -> list[int]:
    """The steps that have a whole checkpoint, in ascending order."""
    return sorted(int(path.name[5:]) for path in root.glob("step_*") if path.name[5:].isdigit())


def write(folder: Path, tensors: dict[str, Tensors], state: dict[str, Any]) -> None:
    """All of it, or nothing.

    Args:
        tensors: file name without its suffix -> tensors by name.
        state: JSON-native; floats keep their bits.
    """
    scratch = folder.with_name(folder.name + ".tmp")
    try:
        with on_disk(folder):
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
            for name, group in tensors.items():
                _write_synced(scratch / f"{name}.safetensors", to_bytes(group))
            _write_synced(scratch / "state.json", json.dumps(state, indent=1).encode())
            _sync(scratch)
            scratch.rename(folder)
            _sync(folder.parent)
    except Stop:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def read(folder: Path) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """What `write` was given.

    Raises:
        Stop: a file is missing or damaged, which only something other than `write` can have done.
    """
    try:
        state = json.loads((folder / "state.json").read_text())
        return {path.stem: load_file(path) for path in sorted(folder.glob("*.safetensors"))}, state
    except (OSError, ValueError, SafetensorError) as error:
        raise Stop(f"{folder} is damaged ({error}): delete it to go back to the checkpoint before it") from None


def prune(root: Path, keep: set[int]) -> None:
    """Delete the checkpoints of all other steps, and what a killed writer left."""
    for step in set(steps_in(root)) - keep:
        # Renamed first: a half-deleted folder must not pass for a checkpoint.
        folder_of(root, step).rename(folder_of(root, step).with_suffix(".tmp"))
    for scratch in root.glob("*.tmp"):
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def on_disk(path: Path) -> Iterator[None]:
    """Turns a full disk or a missing permission into one line."""
    try:
        yield
    except OSError as error:
        raise Stop(
            f"cannot write {path}: {error.strerror or error}. The checkpoints before it are whole: "
            "make room, then go on with --resume"
        ) from None


def weights(network: nn.Module) -> Tensors:
    """Copies of parameters and buffers by name; a collective call under FSDP2."""
    return whole(network.state_dict())


def whole(tensors: Tensors) -> Tensors:
    """Copies on the CPU, with all shards of each tensor; a collective call under FSDP2."""
    return {name: _whole(value) for name, value in tensors.items()}


def load_weights(network: nn.Module, tensors: Tensors, source: Path) -> None:
    """Strict: a missing, extra or misshapen tensor stops the run, and nothing is loaded."""
    own = network.state_dict()
    for name in sorted(own.keys() | tensors.keys()):
        here = tuple(own[name].shape) if name in own else "absent"
        there = tuple(tensors[name].shape) if name in tensors else "absent"
        if here != there:
            raise Stop(f"{source} holds another network: {name} is {there} there and {here} in the model")
    network.load_state_dict({name: _like(value, own[name]) for name, value in tensors.items()})


def optimizer_state(optimizer: Optimizer) -> tuple[Tensors, dict[str, Any]]:
    """An optimizer's tensors, named `parameter.key`, and the rest of its state as JSON."""
    full = optimizer.state_dict()
    tensors: Tensors = {}
    numbers: dict[str, Any] = {}
    for index, entries in full["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{key}"] = _whole(value)
            else:
                numbers[f"{index}.{key}"] = value
    return tensors, {"numbers": numbers, "groups": full["param_groups"]}


def load_optimizer(optimizer: Optimizer, tensors: Tensors, rest: dict[str, Any], source: Path) -> None:
    own = optimizer.state_dict()["param_groups"]
    if [len(group["params"]) for group in own] != [len(group["params"]) for group in rest["groups"]]:
        raise Stop(f"{source} holds another optimizer: its parameter groups are not those of this script")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for name, value in (tensors | rest["numbers"]).items():
        index, key = name.split(".", 1)
        parameter = parameters[int(index)]
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value = _like(value, parameter)
        state.setdefault(int(index), {})[key] = value
    groups = [
        {key: tuple(value) if isinstance(like.get(key), tuple) else value for key, value in group.items()}
        for group, like in zip(rest["groups"], own, strict=True)
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _whole(value: Tensor) -> Tensor:
    if isinstance(value, DTensor):
        value = value.full_tensor()
    return value.detach().to("cpu", copy=True).contiguous()


def _like(value: Tensor, own: Tensor) -> Tensor:
    if isinstance(own, DTensor):
        return distribute_tensor(value.to(own.device), own.device_mesh, own.placements)
    return value


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """A rename is only on the disk once its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
