"""What every model here shares: one constructor argument, three files, and a strict way back.

    model --save_pretrained--> config.json, model.safetensors, README.md --from_pretrained--> model

config.json: the fields of the model's configuration, flat.
model.safetensors: its state_dict, in float32 or, to halve the download, in bfloat16 or float16.
README.md: the card, metadata for the Hub and how to use the model; what was measured, if `card` says it.

Nothing is guessed: a file, key or tensor that is missing, extra or damaged raises `HubError`, and pickles are
never read. `PyTorchModelHubMixin` keeps the metadata of the card; its own loading forgives all of that.
"""

import copy
import hashlib
import inspect
import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

import torch
from huggingface_hub import CommitOperationAdd, HfApi, PyTorchModelHubMixin, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"


class HubError(OSError):
    """One line for a person: what is wrong with a folder or repository of a model, and what to do."""


def released(system: str, variable: str = "MODEL") -> str:
    """Where the released weights of a system are: what the variable of the environment says, else where `located` finds
    them."""
    return os.environ.get(variable) or located(f"org/{system}")


def located(repo: str) -> str:
    """Where "org/NAME" of the released weights is: in `weights/` beside the package, else on the Hub. Other names stay
    as they are."""
    owner, _, name = repo.partition("/")
    local = Path(__file__).parents[1] / "weights" / name
    return str(local) if owner == "org" and name and local.is_dir() else repo


def snapshot(
    path_or_repo: str, files: Sequence[str], revision: str = "", local_files_only: bool = False
) -> tuple[Path, str]:
    """Somebody else's model: a folder as it is, or what was downloaded of a repository of the Hub; and the commit that
    this was, "" of a folder. "org/NAME" of the released weights is looked for as `located` does.

    Args:
        files: patterns of what to download; copies of weights in other forms are left out.
        revision: branch, tag or commit on the Hub.

    Raises:
        HubError: it is not there, or holds no safetensors.
    """
    folder = Path(path_or_repo if revision else located(path_or_repo))
    commit = ""
    if not folder.is_dir():
        with _one_line(path_or_repo, revision):
            folder = Path(
                snapshot_download(
                    path_or_repo,
                    revision=revision or None,
                    allow_patterns=[*files],
                    ignore_patterns=["*.fp16.*", "*.non_ema.*"],
                    local_files_only=local_files_only,
                )
            )
        commit = folder.name
    elif revision:
        raise HubError(f"{path_or_repo} is a folder and has no revisions: leave out revision {revision!r}")
    if not any(folder.rglob("*.safetensors")):
        raise HubError(
            f"{path_or_repo} holds no safetensors, and pickles are never read: name a revision that does; on the Hub "
            "that is often the pull request of its converter, refs/pr/NUMBER"
        )
    return folder, commit


HISTORY = """
## Training

{runs}

Steps of {batch} {work}, on {threads} CPU core(s) ({machine}). These are the averaged weights
of the checkpoint that {judged}.
"""


def history(run: Path, work: str, judged: str) -> str:
    """How a training run went, for a card: commands, steps, time and machine, from the files of the run; and before
    it those of the run whose export it started from, if that is still there.

    Args:
        run: its folder.
        work: what a step takes a batch of.
        judged: how the checkpoint was chosen, after "of the checkpoint that".

    Raises:
        OSError: the folder is not that of a run.
    """
    runs = [run]
    while (before := Path(_settings(runs[0]).get("start") or ".").parent) != Path() and (before / "log.jsonl").exists():
        runs.insert(0, before)
    lines = []
    for one in runs:
        last = json.loads((one / "log.jsonl").read_text().splitlines()[-1])
        commands = dict.fromkeys((one / "command.txt").read_text().splitlines())  # a run may be resumed often
        lines += [f"    accelerate launch {command}" for command in commands]
        lines[-1] += f"    # {last['step']} steps, {last['seconds'] / 60:.0f} minutes"
    size = _settings(run)["run"]
    processes = size.get("processes") or 1
    return HISTORY.format(
        runs="\n".join(lines),
        batch=size["batch_size"] * size.get("accumulate", 1) * processes,
        work=work,
        threads=last["threads"] * processes,
        machine=platform.machine(),
        judged=judged,
    )


def _settings(run: Path) -> dict:
    return json.loads((run / "config.json").read_text())


class HubModel(nn.Module, PyTorchModelHubMixin, library_name="hubmodels", license="mit"):
    """A network that goes to a folder or to the Hub and comes back bit for bit.

    A subclass takes one argument, `config`: a frozen dataclass of plain numbers, strings and booleans that
    says all about the shape of the network and checks itself.

        class Renderer(HubModel, pipeline_tag="text-to-image"):
            def __init__(self, config: RendererConfig):
                super().__init__()
                self.config = config
    """

    card: str | None = None
    """Markdown under the generated head of the card, such as a measured report. Loading does not restore it,
    because it was measured on the weights it was saved with."""

    _config_type: type

    def __init_subclass__(
        cls,
        *,
        pipeline_tag: str | None = None,
        paper_url: str | None = None,
        repo_url: str | None = None,
        license: str | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        """Check the contract when the class is written, not when somebody loads it.

        Raises:
            TypeError: the constructor or its configuration would not survive config.json.
        """
        super().__init_subclass__(  # the mixin appends to the list it is given
            pipeline_tag=pipeline_tag, paper_url=paper_url, repo_url=repo_url, license=license, tags=[*tags]
        )
        cls._config_type = _config_type(cls)

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write the three files, all or none; a card that lies there stays unless `card` says something new.

        Args:
            dtype: of the floating-point tensors in the file, e.g. torch.bfloat16; None keeps theirs.

        Raises:
            HubError: the disk is full or read-only; the files of before are whole.
            ValueError: a weight is too large for `dtype`.
        """
        folder = Path(folder)
        files = self._files("PATH_OR_REPOSITORY", dtype)
        if self.card is None and (folder / CARD).exists():
            del files[CARD]
        _write(folder, files)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        commit_message: str = "Upload model",
        dtype: torch.dtype | None = None,
    ) -> str:
        """Publish the three files in one commit, or in none if nothing changed.

        Repository and branch are made where they are missing. As in a folder, a card that lies there stays
        unless `card` says something new.

        Returns:
            The URL of the commit.

        Raises:
            HubError: the Hub cannot be reached or refuses; nothing was published.
        """
        files = self._files(repo_id, dtype)
        with _one_line(repo_id, branch):
            api = HfApi(token=token)
            repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            if branch:
                api.create_branch(repo_id, branch=branch, exist_ok=True)
            if self.card is None and api.file_exists(repo_id, CARD, revision=branch):
                del files[CARD]
            operations = [CommitOperationAdd(name, content) for name, content in files.items()]
            commit = api.create_commit(repo_id, operations, commit_message=commit_message, revision=branch)
        return commit.commit_url

    def save_card(self, folder: str | Path, license: str = "") -> None:
        """Write README.md alone, beside weights that stay as they are.

        Args:
            license: for the Hub, where it is another one than that of the class.

        Raises:
            HubError: the folder cannot be written.
        """
        _write(Path(folder), {CARD: self._card("PATH_OR_REPOSITORY", license).encode()})

    @classmethod
    def from_pretrained(
        cls,
        path_or_repo: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | None = None,
        local_files_only: bool = False,
        map_location: str | torch.device = "cpu",
    ) -> Self:
        """The model in eval mode and in the precision it is constructed in, whatever that of the file.

        Args:
            path_or_repo: a folder, or `owner/name` on the Hub.
            revision: branch, tag or commit on the Hub.
            local_files_only: use what was downloaded before, ask nobody.

        Raises:
            HubError: a file, key or tensor is missing, extra or damaged, or the Hub does not hand it out.
        """
        if Path(path_or_repo).is_dir():
            if revision:
                raise HubError(f"{path_or_repo} is a folder and has no revisions: leave out revision={revision!r}")
            config_file, weights_file = Path(path_or_repo, CONFIG), Path(path_or_repo, WEIGHTS)
        else:
            config_file, weights_file = _download(
                str(path_or_repo),
                revision,
                partial(hf_hub_download, cache_dir=cache_dir, token=token, local_files_only=local_files_only),
            )
        model = cls(_read_config(cls._config_type, config_file))
        _load_weights(model, weights_file)
        return model.to(map_location).eval()

    def _files(self, repo: str, dtype: torch.dtype | None) -> dict[str, bytes]:
        config: Any = self._hub_mixin_config
        tensors = {name: _stored(name, tensor, dtype) for name, tensor in self.state_dict().items()}
        return {
            CONFIG: (json.dumps(asdict(config), indent=2, sort_keys=True) + "\n").encode(),
            WEIGHTS: save(tensors, metadata={"format": "pt"}),
            CARD: self._card(repo).encode(),
        }

    def _card(self, repo: str, license: str = "") -> str:
        name, info = type(self).__name__, self._hub_mixin_info
        about = copy.copy(info.model_card_data)
        about.license = license or about.license
        package = type(self).__module__.partition(".")[0]
        usage = f'from {package} import {name}\n\nmodel = {name}.from_pretrained("{repo}")'
        sections = [
            f"---\n{about.to_yaml()}\n---",
            f"# {name}",
            inspect.cleandoc(type(self).__doc__ or "").partition("\n\n")[0],
            f"```python\n{usage}\n```",
            f"Paper: {info.paper_url}" if info.paper_url else "",
            self.card or "",
        ]
        return "\n\n".join(filter(None, sections)).rstrip() + "\n"


def _config_type(model: type[HubModel]) -> type:
    """The dataclass that the constructor takes, once it is sure to survive JSON."""
    parameters = list(inspect.signature(model.__init__).parameters.values())[1:]
    wanted = f"{model.__name__} must be constructed from one argument, `config: ADataclass`"
    if [(p.name, p.default, p.kind) for p in parameters] != [
        ("config", inspect.Parameter.empty, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    ]:
        raise TypeError(f"{wanted}, without a default")
    config = parameters[0].annotation
    if isinstance(config, str):
        raise TypeError(f"{wanted}, not {config!r}: remove `from __future__ import annotations` and quotes")
    if not (isinstance(config, type) and is_dataclass(config) and config.__dataclass_params__.frozen):  # type: ignore
        raise TypeError(f"{wanted}, a frozen one")
    for name, hint in get_type_hints(config).items():
        if hint not in (int, float, str, bool) and get_origin(hint) is not Literal:
            raise TypeError(f"{config.__name__}.{name} must be int, float, str, bool or Literal to be JSON")
    return config


def _read_config(config_type: type, file: Path) -> Any:
    try:
        values = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise HubError(f"{file.parent} has no {CONFIG}: it is not the folder of a saved model") from None
    except (OSError, ValueError) as error:
        raise HubError(f"{file} cannot be read ({error}): save or download it again") from None
    hints, name = get_type_hints(config_type), config_type.__name__
    if not isinstance(values, dict):
        raise HubError(f"{file} is not the JSON of a {name}: save or download it again")
    faults = [f"{key} is missing" for key in hints.keys() - values.keys()]
    faults += [f"{key} is unknown" for key in values.keys() - hints.keys()]
    faults += [f"{key} is {values[key]!r}" for key in hints if key in values and not _fits(values[key], hints[key])]
    if faults:
        raise HubError(f"{file} is not that of a {name} ({_some(faults)}): load it with the class that saved it")
    try:
        return config_type(**values)
    except ValueError as error:
        raise HubError(f"{file}: {error}") from None


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    return type(value) is hint or (hint is float and type(value) is int)


def _load_weights(model: nn.Module, file: Path) -> None:
    """All tensors, or none and an error that names them."""
    if not file.is_file():
        raise HubError(f"{file.parent} has no {WEIGHTS}: save the model again; pickled weights are never read")
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError) as error:
        raise HubError(f"{file} is no whole safetensors file ({_line(error)}): save or download it again") from None
    own = model.state_dict()
    faults = [f"{name} is missing" for name in own.keys() - tensors.keys()]
    faults += [f"{name} is unknown" for name in tensors.keys() - own.keys()]
    for name in own.keys() & tensors.keys():
        here, there = own[name], tensors[name]
        if there.shape != here.shape:
            faults.append(f"{name} is {tuple(there.shape)} instead of {tuple(here.shape)}")
        elif there.dtype != here.dtype and not (there.is_floating_point() and here.is_floating_point()):
            faults.append(f"{name} is {there.dtype} instead of {here.dtype}")
    if faults:
        raise HubError(
            f"{file} holds another network than {type(model).__name__} ({_some(faults)}): "
            f"take {WEIGHTS} and {CONFIG} from the same save"
        )
    model.load_state_dict(tensors)


def _stored(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A copy of its own: safetensors refuses memory that two names share."""
    tensor = tensor.detach().to("cpu", copy=True).contiguous()
    if dtype is None or not tensor.is_floating_point():
        return tensor
    cast = tensor.to(dtype)
    if (cast.isinf() & tensor.isfinite()).any():
        raise ValueError(f"{name} has values too large for {dtype}: save as torch.bfloat16 or torch.float32")
    return cast


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """All under other names first, so that a full disk or a kill leaves the files of before."""
    scratch = {name: folder / f".{name}.tmp" for name in files}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            with scratch[name].open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for name in files:
            scratch[name].replace(folder / name)
    except OSError as error:
        with suppress(OSError):
            for path in scratch.values():
                path.unlink(missing_ok=True)
        raise HubError(
            f"cannot save to {folder}: {error.strerror}. What was there is whole; make room or save elsewhere"
        ) from None


def _download(repo: str, revision: str | None, get: Callable[..., str]) -> tuple[Path, Path]:
    """Configuration and weights of one commit, whoever pushes in between."""
    with _one_line(repo, revision, CONFIG):
        config_file = Path(get(repo, CONFIG, revision=revision))
    with _one_line(repo, revision, WEIGHTS):
        weights_file = Path(get(repo, WEIGHTS, revision=config_file.parent.name))
    return _undamaged(config_file), _undamaged(weights_file)


def _undamaged(file: Path) -> Path:
    """The file, if it is what the Hub has: the cache links each to a blob named by its git or LFS hash.

    The client checks sizes, not contents. Where the disk has no links there is nothing to compare.
    """
    if not file.is_symlink():
        return file
    blob = file.parent / file.readlink()
    content = blob.read_bytes()
    digest = {64: hashlib.sha256(), 40: hashlib.sha1(b"blob %d\0" % len(content))}.get(len(blob.name))
    if digest is None:
        return file
    digest.update(content)
    if digest.hexdigest() != blob.name:
        file.unlink()
        blob.unlink()
        raise HubError(f"{file.name} was damaged on its way from the Hub and is deleted: load the model again")
    return file


@contextmanager
def _one_line(repo: str, revision: str | None, file: str = "file") -> Iterator[None]:
    """Turns the many ways in which the Hub's client fails into a `HubError`."""
    try:
        yield
    except (httpx.HTTPError, EntryNotFoundError, OSError, RuntimeError, ValueError) as error:
        raise HubError(_explained(error, repo, revision, file)) from error


def _explained(error: BaseException, repo: str, revision: str | None, file: str) -> str:
    if isinstance(error, (LocalEntryNotFoundError, RuntimeError)) and error.__cause__:
        return _explained(error.__cause__, repo, revision, file)  # the client wraps what the Hub answered
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    match error:
        case GatedRepoError():
            return f"{repo} is gated: ask for access on its page, then log in with `hf auth login`"
        case RepositoryNotFoundError():
            return (
                f"{repo} is neither a folder here nor a repository on the Hub that you may see: check the "
                "spelling, or log in with `hf auth login` if it is private"
            )
        case RevisionNotFoundError():
            return f"{repo} has no branch, tag or commit {revision!r}: check revision"
        case LocalEntryNotFoundError():
            return f"{file} of {repo} was not downloaded before: load it once without local_files_only"
        case EntryNotFoundError():
            return f"{repo} has no {file}: it is not a model saved by hubmodels; pickled weights are never read"
        case HFValidationError():
            return f"{repo} is neither a folder here nor the name of a repository (owner/name)"
        case _ if status == 401:
            return "the Hub does not accept the token: log in again with `hf auth login`"
        case _ if status == 403:
            return f"the token does not give access to {repo}: use one that may, of an account that may"
        case _ if status == 429:
            return "the Hub asks for fewer requests: wait some minutes, then try again"
        case _ if status >= 500:
            return f"the Hub has trouble of its own (status {status}): try again later"
        case OfflineModeIsEnabled() | httpx.TransportError():
            return f"the Hub cannot be reached, or the connection broke ({_line(error)}): check it and try again"
    return f"{repo}: {_line(error)}"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _some(faults: list[str]) -> str:
    more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
    return ", ".join(sorted(faults)[:3]) + more
