"""The settings of a run, and a script's whole configuration as a file: nested dataclasses <-> config.json."""

import json
import types
import typing
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from .stop import Stop

C = TypeVar("C")


@dataclass(frozen=True)
class RunConfig:
    """How long, how big, how often; the same for every system."""

    out: str = "runs/run"
    """Folder of the run. A new run wants one without checkpoints."""
    steps: int = 10_000
    """Optimizer steps in all."""
    batch_size: int = 32
    """Rows in a micro-batch of one process. A step sees batch_size x accumulate x processes rows."""
    accumulate: int = 1
    """Micro-batches whose gradients make one optimizer step."""
    clip: float = 1.0
    """Largest gradient norm of an optimizer's parameters; 0 leaves gradients as they are."""
    ema: float = 0.999
    """Decay of the average of the weights, which is what is evaluated and exported; 0 keeps none."""
    precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """Autocast; auto is bf16 on CUDA devices that have it and no autocast elsewhere."""
    seed: int = 0
    """Decides the first weights, the order of the data and every random number of the run."""
    processes: int = 0
    """Processes that must take part, all machines together; 0 accepts as many as were launched."""
    threads: int = 0
    """CPU threads of a process; 0 shares all cores among the processes of this machine."""
    log_every: int = 50
    """Steps between lines of log.jsonl."""
    save_every: int = 1000
    """Steps between checkpoints. The last and the best are kept."""
    keep_every: int = 0
    """Checkpoints at multiples of this step are kept for good; 0 keeps none of them."""
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ("tensorboard",)
    """Where curves and samples go besides log.jsonl."""
    resume: bool = False
    """Go on from the last checkpoint in `out`; `--resume DIR` sets it, and all else as the run wrote it."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "log_every", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("clip", "seed", "processes", "threads", "keep_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must be at least 0 and below 1, got {self.ema}")


def write_config(config: Any, folder: Path) -> None:
    """Write `config.json` into the folder: every value the run used, defaults too."""
    text = json.dumps(asdict(config), indent=2, default=Path.__fspath__)  # a Path is all that JSON may lack
    scratch = folder / "config.json.tmp"  # another process may be reading, or this one be killed
    scratch.write_text(text + "\n")
    scratch.replace(folder / "config.json")


def load_config(cls: type[C], folder: str | Path) -> C:
    """The configuration that a run wrote into its folder.

    Raises:
        Stop: there is none, or its fields are not those of `cls` (another script's, or another version's).
    """
    path = Path(folder) / "config.json"
    try:
        return _build(cls, json.loads(path.read_text()), path)
    except (FileNotFoundError, NotADirectoryError):
        raise Stop(f"{path} does not exist: is {folder} the folder of a run?") from None
    except json.JSONDecodeError as error:
        raise Stop(f"{path} is not JSON ({error})") from None


def resumed(config: C) -> C:
    """The configuration to run: `config` itself, or the one in the folder that its `resume` names.

    `config` is a dataclass with the fields `resume: str = ""` and `run: RunConfig`, all with defaults.
    """
    folder = getattr(config, "resume")  # noqa: B009 - C is any dataclass with that field
    if not folder:
        return config
    if config != replace(type(config)(), resume=folder):  # pyright: ignore
        raise Stop(f"--resume {folder} takes every setting from {folder}/config.json: leave the other options out")
    saved = load_config(type(config), folder)
    run = replace(saved.run, out=str(folder), resume=True)  # pyright: ignore[reportAttributeAccessIssue]
    return replace(saved, run=run)  # pyright: ignore[reportArgumentType]


def _build(cls: Any, values: dict[str, Any], path: Path) -> Any:
    names = {field.name for field in fields(cls)}
    if names != set(values):
        odd = sorted(names ^ set(values))
        raise Stop(f"{path} was written by another script or version: {cls.__name__} differs in {', '.join(odd)}")
    hints = typing.get_type_hints(cls)
    return cls(**{name: _value(hints[name], value, path) for name, value in values.items()})


def _value(hint: Any, value: Any, path: Path) -> Any:
    """JSON knows no dataclass, tuple or Path; the annotation says which one it was."""
    if value is None:
        return None
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(kind for kind in typing.get_args(hint) if kind is not type(None))
    if is_dataclass(hint):
        return _build(hint, value, path)
    if typing.get_origin(hint) is tuple:
        return tuple(value)
    return Path(value) if hint is Path else value
