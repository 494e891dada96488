"""A model goes to a folder and to the Hub and comes back; whatever is wrong on the way is one clear line.

The real clients are the oracle of the loopback Hub, and the other way round.
"""

import json
import os
import pickle
import re
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, ModelCard, close_session, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError
from loopback_hub import LoopbackHub
from safetensors.torch import load_file, save_file
from tiny import Tiny, TinyConfig
from torch import nn

from hubmodels.hub import HubError, HubModel, released

FILES = {"config.json", "model.safetensors", "README.md"}


@pytest.fixture
def model() -> Tiny:
    torch.manual_seed(0)
    return Tiny(TinyConfig(width=5, mode="mul"))


@pytest.fixture
def folder(model: Tiny, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert tensor.dtype == theirs[name].dtype and torch.equal(tensor, theirs[name]), name


@contextmanager
def refused(*words: str) -> Iterator[None]:
    """One line that holds all the words."""
    with pytest.raises(HubError) as caught:
        yield
    line = str(caught.value)
    assert "\n" not in line
    for word in words:
        assert word in line, line


def edit(folder: Path, **changes: object) -> None:
    """Change the tensors of a saved model; None takes one away."""
    file = folder / "model.safetensors"
    tensors = load_file(file) | changes
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, file)


# --- a folder


def test_a_folder_brings_the_model_back(model: Tiny, folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == FILES
    loaded = Tiny.from_pretrained(folder)
    assert_equal(model, loaded)
    assert loaded.config == model.config and not loaded.training
    config = (folder / "config.json").read_text()
    assert config == '{\n  "bias": true,\n  "mode": "mul",\n  "slope": 0.1,\n  "width": 5\n}\n'


def test_saving_twice_writes_the_same_bytes(model: Tiny, folder: Path, tmp_path: Path) -> None:
    Tiny.from_pretrained(folder).save_pretrained(tmp_path / "again")
    for name in FILES:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_in_the_file_only(model: Tiny, folder: Path, dtype: torch.dtype) -> None:
    model.save_pretrained(folder, dtype=dtype)
    stored, loaded = load_file(folder / "model.safetensors"), Tiny.from_pretrained(folder).state_dict()
    assert stored["first.weight"].dtype == dtype and stored["seen"].dtype == torch.int64
    for name, tensor in model.state_dict().items():
        expected = tensor.to(dtype).to(tensor.dtype) if tensor.is_floating_point() else tensor
        assert loaded[name].dtype == tensor.dtype and torch.equal(loaded[name], expected)


def test_a_weight_too_large_for_float16_is_not_saved_as_infinity(model: Tiny, folder: Path) -> None:
    with torch.no_grad():
        model.first.weight[0, 0] = 1e5
    with pytest.raises(ValueError, match=r"first\.weight has values too large for torch\.float16"):
        model.save_pretrained(folder, dtype=torch.float16)
    model.save_pretrained(folder, dtype=torch.bfloat16)


def test_map_location(folder: Path) -> None:
    assert Tiny.from_pretrained(folder, map_location="meta").first.weight.device.type == "meta"


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("last.bias", None, ["last.bias is missing"]),
        ("extra", torch.zeros(1), ["extra is unknown"]),
        ("last.bias", torch.zeros(4), ["last.bias is (4,) instead of (3,)"]),
        ("seen", torch.tensor(7.5), ["seen is torch.float32 instead of torch.int64"]),
    ],
)
def test_a_wrong_tensor_is_named(folder: Path, name: str, tensor: object, words: list[str]) -> None:
    edit(folder, **{name: tensor})
    with refused(*words, "another network than Tiny", "same save"):
        Tiny.from_pretrained(folder)


def test_many_wrong_tensors_are_still_one_line(folder: Path) -> None:
    edit(folder, **dict.fromkeys(["first.weight", "first.bias", "last.weight", "last.bias", "mean"]))
    with refused("first.bias is missing, first.weight is missing, last.bias is missing and 2 more"):
        Tiny.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"depth": 3}, ["depth is unknown", "TinyConfig"]),
        ({"width": None}, ["width is missing"]),
        ({"width": "5"}, ["width is '5'"]),
        ({"bias": 1}, ["bias is 1"]),
        ({"mode": "div"}, ["mode is 'div'"]),
        ({"width": 0}, ["width must be at least 1, got 0"]),
    ],
)
def test_a_wrong_configuration_is_named(folder: Path, change: dict, words: list[str]) -> None:
    values = json.loads((folder / "config.json").read_text()) | change
    values = {key: value for key, value in values.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(values))
    with refused("config.json", *words):
        Tiny.from_pretrained(folder)


def test_damaged_files(folder: Path) -> None:
    weights, config = folder / "model.safetensors", folder / "config.json"
    whole = weights.read_bytes()
    for size in (0, 4, 100, len(whole) - 1):
        weights.write_bytes(whole[:size])
        with refused("model.safetensors is no whole safetensors file", "download it again"):
            Tiny.from_pretrained(folder)
    weights.write_bytes(whole)
    for text in ("", "{", "[]", "\x00"):
        config.write_text(text)
        with refused("config.json", "save or download it again"):
            Tiny.from_pretrained(folder)


def test_missing_files(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with refused("has no model.safetensors", "pickled weights are never read"):
        Tiny.from_pretrained(folder)
    (folder / "config.json").unlink()
    with refused("has no config.json"):
        Tiny.from_pretrained(folder)
    with refused("neither a folder here"):
        Tiny.from_pretrained(tmp_path / "nowhere")
    with refused("is a folder and has no revisions"):
        Tiny.from_pretrained(folder, revision="main")


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("write", [pickle.dumps, lambda bomb: _torch_saved({"first.weight": bomb})])
def test_a_pickle_under_the_name_of_the_weights_is_not_run(folder: Path, monkeypatch, write) -> None:
    monkeypatch.chdir(folder)
    (folder / "model.safetensors").write_bytes(write(Bomb()))
    with refused("no whole safetensors file"):
        Tiny.from_pretrained(folder)
    assert not Path("exploded").exists()


def _torch_saved(value: object) -> bytes:
    torch.save(value, "pickled")
    return Path("pickled").read_bytes()


def test_a_full_disk_leaves_the_old_files(model: Tiny, folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with torch.no_grad():
        model.first.weight += 1
    model.card = "new"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))  # enough for the configuration, not for the weights
    try:
        with refused(f"cannot save to {folder}", "make room"):
            model.save_pretrained(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_file_where_the_folder_should_be(model: Tiny, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with refused("cannot save to"):
        model.save_pretrained(tmp_path / "file")


# --- the card


def test_the_card_says_what_it_is_and_how_to_use_it(folder: Path) -> None:
    card = ModelCard.load(folder / "README.md")
    assert (card.data.license, card.data.library_name) == ("mit", "hubmodels")
    assert card.data.pipeline_tag == "image-to-image"
    assert set(card.data.tags or []) == {"toy", "model_hub_mixin", "pytorch_model_hub_mixin"}
    assert "https://arxiv.org/abs/1234.56789" in card.text and "Two layers with dropout" in card.text
    code = re.search(r"```python\n(.*?)```", card.text, re.DOTALL)
    assert code and "from tiny import Tiny" in code[1]
    space: dict = {}
    exec(code[1].replace("PATH_OR_REPOSITORY", str(folder)), space)
    assert isinstance(space["model"], Tiny)


def test_a_card_stays_until_there_is_a_new_one(model: Tiny, folder: Path) -> None:
    (folder / "README.md").write_text("mine")
    model.save_pretrained(folder)
    assert (folder / "README.md").read_text() == "mine"
    model.card = "## Measured\n\nPSNR 30.1 dB"
    model.save_pretrained(folder)
    assert (folder / "README.md").read_text().endswith("\n## Measured\n\nPSNR 30.1 dB\n")


# --- traps of the mixin


def test_annotations_must_not_be_strings() -> None:
    source = """
from __future__ import annotations
class Model(HubModel):
    def __init__(self, config: TinyConfig):
        super().__init__()
"""
    with pytest.raises(TypeError, match="remove `from __future__ import annotations`"):
        exec(source, {"HubModel": HubModel, "TinyConfig": TinyConfig, "__name__": "model"})


def test_the_constructor_takes_one_required_configuration() -> None:
    def optional(self, config: TinyConfig | None = None): ...
    def two(self, config: TinyConfig, act: type = nn.GELU): ...
    def misnamed(self, shape: TinyConfig): ...
    def unannotated(self, config): ...
    def mapping(self, config: dict): ...

    for constructor in (optional, two, misnamed, unannotated, mapping):
        with pytest.raises(TypeError, match="must be constructed from one argument, `config"):
            type("Model", (HubModel,), {"__init__": constructor})
    with pytest.raises(TypeError, match="config"):
        Tiny()  # type: ignore


def test_the_configuration_is_flat_and_frozen() -> None:
    @dataclass(frozen=True)
    class Nested:
        inner: TinyConfig

    @dataclass(frozen=True)
    class Tuple:
        sides: tuple[int, int]

    @dataclass
    class Mutable:
        width: int

    for config, message in ((Nested, "Nested.inner"), (Tuple, "Tuple.sides"), (Mutable, "a frozen one")):

        def constructor(self, config): ...

        constructor.__annotations__["config"] = config
        with pytest.raises(TypeError, match=message):
            type("Model", (HubModel,), {"__init__": constructor})


def test_two_classes_may_share_a_list_of_tags() -> None:
    tags = ["shared"]

    class Other(Tiny, tags=tags):
        pass

    assert tags == ["shared"]
    assert Other._hub_mixin_info.model_card_data.license == "mit"


def test_a_submodule_called_module_does_not_hide_the_rest(tmp_path: Path) -> None:
    class Wrapper(HubModel):
        def __init__(self, config: TinyConfig):
            super().__init__()
            self.module, self.head = nn.Linear(2, 2), nn.Linear(2, 2)
            self.tied = self.head.weight

    model = Wrapper(TinyConfig())
    model.save_pretrained(tmp_path)
    assert_equal(model, Wrapper.from_pretrained(tmp_path))


# --- the Hub


def test_round_trip_through_the_hub(hub: LoopbackHub, model: Tiny, cache: Path) -> None:
    url = model.push_to_hub("org/tiny")
    head = hub.repo("org/tiny").at("main")
    assert url.endswith(head.oid) and set(head.files) == FILES | {".gitattributes"}
    assert head.files["model.safetensors"].is_lfs and not head.files["config.json"].is_lfs
    assert b'from_pretrained("org/tiny")' in head.files["README.md"].content
    loaded = Tiny.from_pretrained("org/tiny", cache_dir=cache)
    assert_equal(model, loaded)
    assert loaded.config == model.config and not loaded.training
    assert len([*cache.rglob("model.safetensors")]) == 1


def test_pushing_the_same_again_makes_no_commit(hub: LoopbackHub, model: Tiny) -> None:
    first = model.push_to_hub("org/tiny")
    assert model.push_to_hub("org/tiny") == first
    assert len(hub.repo("org/tiny").commits) == 2  # the one that made it and ours
    with torch.no_grad():
        model.first.weight += 1
    assert model.push_to_hub("org/tiny") != first


def test_a_card_on_the_hub_stays_until_there_is_a_new_one(hub: LoopbackHub, model: Tiny) -> None:
    model.push_to_hub("org/tiny")
    HfApi().upload_file(path_or_fileobj=b"mine", path_in_repo="README.md", repo_id="org/tiny")
    model.push_to_hub("org/tiny")
    assert hub.repo("org/tiny").at("main").files["README.md"].content == b"mine"
    model.card = "measured"
    model.push_to_hub("org/tiny")
    assert hub.repo("org/tiny").at("main").files["README.md"].content.endswith(b"measured\n")


def test_revisions(hub: LoopbackHub, model: Tiny, cache: Path) -> None:
    model.push_to_hub("org/tiny", commit_message="one")
    HfApi().create_tag("org/tiny", tag="v1")
    old = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        model.first.weight += 1
    model.push_to_hub("org/tiny", branch="exp/two", commit_message="two", dtype=torch.bfloat16)
    commits = HfApi().list_repo_commits("org/tiny", revision="exp/two")
    assert [commit.title for commit in commits] == ["two", "one", "initial commit"]
    for revision in (None, "main", "v1", commits[1].commit_id):
        loaded = Tiny.from_pretrained("org/tiny", revision=revision, cache_dir=cache)
        assert torch.equal(loaded.first.weight, old["first.weight"])
    loaded = Tiny.from_pretrained("org/tiny", revision="exp/two", cache_dir=cache)
    assert torch.equal(loaded.first.weight, model.first.weight.bfloat16().float())
    with refused("org/tiny has no branch, tag or commit 'v9'"):
        Tiny.from_pretrained("org/tiny", revision="v9", cache_dir=cache)


def test_the_weights_are_of_the_commit_of_the_configuration(hub: LoopbackHub, model: Tiny, cache: Path) -> None:
    """Somebody pushes another shape between our two downloads."""
    model.push_to_hub("org/tiny")
    repo = hub.repo("org/tiny")
    old = repo.at("main").oid

    Tiny(TinyConfig(width=9)).push_to_hub("org/tiny")
    new, repo.branches["main"] = repo.branches["main"], old
    hub.fault("HEAD .*model.safetensors", lambda: repo.branches.update(main=new))
    assert_equal(model, Tiny.from_pretrained("org/tiny", cache_dir=cache))
    assert repo.branches["main"] == new


def test_the_cache_is_used_again_and_offline(hub: LoopbackHub, model: Tiny, cache: Path) -> None:
    model.push_to_hub("org/tiny")
    with refused("config.json of org/tiny was not downloaded before"):
        Tiny.from_pretrained("org/tiny", cache_dir=cache, local_files_only=True)
    Tiny.from_pretrained("org/tiny", cache_dir=cache)
    hub.requests.clear()
    Tiny.from_pretrained("org/tiny", cache_dir=cache)
    assert hub.requests == ["HEAD /org/tiny/resolve/main/config.json"]
    hub.requests.clear()
    assert_equal(model, Tiny.from_pretrained("org/tiny", cache_dir=cache, local_files_only=True))
    assert hub.requests == []
    hub.fault("config.json", 500, times=99)
    assert_equal(model, Tiny.from_pretrained("org/tiny", cache_dir=cache))


def test_private_and_gated(hub: LoopbackHub, model: Tiny, cache: Path) -> None:
    model.push_to_hub("org/tiny", private=True)
    assert hub.repo("org/tiny").private
    assert HfApi().model_info("org/tiny").private
    with pytest.raises(RepositoryNotFoundError):
        HfApi(token=False).model_info("org/tiny")
    with refused("the Hub does not accept the token", "hf auth login"):
        Tiny.from_pretrained("org/tiny", cache_dir=cache, token="hf_wrong")
    with refused("the Hub does not accept the token", "hf auth login"):
        model.push_to_hub("org/tiny", token="hf_wrong")
    with refused("the token does not give access to org/tiny"):
        model.push_to_hub("org/tiny", token=hub.reader)
    hub.repo("org/tiny").gated = True
    with refused("org/tiny is gated: ask for access"):
        Tiny.from_pretrained("org/tiny", cache_dir=cache, token=hub.reader)
    assert_equal(model, Tiny.from_pretrained("org/tiny", cache_dir=cache))


def test_a_repository_that_is_not_there(hub: LoopbackHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir(exist_ok=True)
    monkeypatch.chdir(cache)
    with refused("org/nothing is neither a folder here nor a repository on the Hub that you may see"):
        Tiny.from_pretrained("org/nothing", cache_dir=cache)
    for name in ("a/b/c", "../x", "a b"):
        with refused("neither a folder here nor the name of a repository"):
            Tiny.from_pretrained(name, cache_dir=cache)


def test_a_repository_of_something_else(hub: LoopbackHub, folder: Path, cache: Path) -> None:
    api = HfApi()
    api.create_repo("org/pickled")
    with refused("org/pickled has no config.json"):
        Tiny.from_pretrained("org/pickled", cache_dir=cache)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    api.upload_folder(repo_id="org/pickled", folder_path=folder)
    hub.requests.clear()
    with refused("org/pickled has no model.safetensors", "pickled weights are never read"):
        Tiny.from_pretrained("org/pickled", cache_dir=cache)
    assert not [line for line in hub.requests if "pytorch_model.bin" in line]


@pytest.fixture
def hurried(monkeypatch) -> None:
    """The client waits up to 23 seconds between its tries."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


@pytest.mark.parametrize(
    ("pattern", "kind", "words"),
    [
        ("HEAD .*config.json", 401, "does not accept the token"),
        ("HEAD .*config.json", 403, "the token does not give access to org/tiny"),
        ("HEAD .*config.json", 404, "neither a folder here nor a repository"),
        ("HEAD .*config.json", 429, "fewer requests"),
        ("HEAD .*config.json", 500, "the Hub has trouble of its own (status 500)"),
        ("GET .*model.safetensors", 403, "the token does not give access to org/tiny"),
        ("GET .*config.json", "reset", "the connection broke"),
        ("GET .*config.json", "truncate", "config.json"),
        ("GET .*model.safetensors", "reset", "the connection broke"),
        ("GET .*model.safetensors", "truncate", "should be of size"),
        ("GET .*model.safetensors", "flip", "model.safetensors was damaged on its way from the Hub"),
        ("GET .*config.json", "flip", "config.json was damaged on its way from the Hub"),
    ],
)
def test_a_download_that_fails(
    hub: LoopbackHub, model: Tiny, cache: Path, hurried, pattern: str, kind: str | int, words: str
) -> None:
    model.push_to_hub("org/tiny")
    hub.fault(pattern, kind, times=99)
    with refused(words):
        Tiny.from_pretrained("org/tiny", cache_dir=cache)
    assert hub.faults[0].times < 99
    hub.faults.clear()
    assert_equal(model, Tiny.from_pretrained("org/tiny", cache_dir=cache))  # nothing bad was kept


@pytest.mark.parametrize(
    ("pattern", "kind", "words"),
    [
        ("POST /api/repos/create", 401, "does not accept the token"),
        ("POST .*/preupload/", 429, "fewer requests"),
        ("PUT /lfs/", 403, "the token does not give access"),
        ("PUT /lfs/", 500, "status 500"),
        ("POST .*/commit/", 500, "status 500"),
        ("POST .*/commit/", "reset", "the connection broke"),
    ],
)
def test_an_upload_that_fails(
    hub: LoopbackHub, model: Tiny, hurried, pattern: str, kind: str | int, words: str
) -> None:
    hub.fault(pattern, kind, times=99)
    with refused(words):
        model.push_to_hub("org/tiny")
    assert hub.faults[0].times < 99
    hub.faults.clear()
    model.push_to_hub("org/tiny")
    assert set(hub.repo("org/tiny").at("main").files) == FILES | {".gitattributes"}


def test_a_server_that_stumbles_once_is_forgiven(hub: LoopbackHub, model: Tiny, hurried, cache: Path) -> None:
    hub.fault("PUT /lfs/", 500)
    hub.fault("POST .*/preupload/", 429)
    model.push_to_hub("org/tiny")
    hub.fault("HEAD .*config.json", 500)
    assert_equal(model, Tiny.from_pretrained("org/tiny", cache_dir=cache))
    assert not any(fault.times for fault in hub.faults)


@pytest.mark.parametrize("offline", [False, True])
def test_no_network(hub: LoopbackHub, model: Tiny, tmp_path: Path, hurried, monkeypatch, offline: bool) -> None:
    model.push_to_hub("org/tiny")
    Tiny.from_pretrained("org/tiny", cache_dir=tmp_path / "warm")
    close_session()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    with hub.down():
        assert_equal(model, Tiny.from_pretrained("org/tiny", cache_dir=tmp_path / "warm"))
        with refused("the Hub cannot be reached", "HF_HUB_OFFLINE" if offline else "Connection refused"):
            Tiny.from_pretrained("org/tiny", cache_dir=tmp_path / "cold")
        with refused("the Hub cannot be reached", "HF_HUB_OFFLINE" if offline else "Connection refused"):
            model.push_to_hub("org/tiny")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    close_session()
    assert_equal(model, Tiny.from_pretrained("org/tiny", cache_dir=tmp_path / "cold"))


# --- what the other clients need of the loopback Hub


def test_datasets_with_several_configurations(hub: LoopbackHub, tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict, Features, Image, Value, load_dataset
    from PIL import Image as PIL

    features = Features({"image": Image(), "caption": Value("string")})
    picture = PIL.new("RGB", (4, 3), (10, 200, 30))
    rows = {"image": [picture] * 5, "caption": list("abcde")}
    train = Dataset.from_dict(rows, features=features)
    both = DatasetDict(train=train, test=train.select([4]))
    both.push_to_hub("org/scenes", num_shards={"train": 2, "test": 1})
    DatasetDict(train=train.select([0, 1])).push_to_hub("org/scenes", "templates")
    shards = [path for path in hub.repo("org/scenes", "datasets").at("main").files if path.endswith("parquet")]
    assert len(shards) == 4
    loaded = load_dataset("org/scenes", cache_dir=str(tmp_path / "cache"))
    assert {split: rows.num_rows for split, rows in loaded.items()} == {"train": 5, "test": 1}
    assert list(loaded["train"]["caption"]) == list("abcde")
    assert loaded["test"][0]["image"].getpixel((0, 0)) == (10, 200, 30)
    other = load_dataset("org/scenes", "templates", split="train", cache_dir=str(tmp_path / "cache"))
    assert list(other["caption"]) == ["a", "b"]
    stream = load_dataset("org/scenes", split="train", streaming=True)
    assert [row["caption"] for row in stream] == list("abcde")
    assert next(iter(stream))["image"].size == (4, 3)
    oid = hub.repo("org/scenes", "datasets").branches["main"]
    both.push_to_hub("org/scenes", num_shards={"train": 2, "test": 1})
    assert hub.repo("org/scenes", "datasets").branches["main"] == oid


def test_a_metric_from_a_space(hub: LoopbackHub, tmp_path: Path) -> None:
    metric = """
import datasets
import evaluate

class Hits(evaluate.Metric):
    def _info(self):
        number = datasets.Value("int64")
        features = datasets.Features({"predictions": number, "references": number})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references):
        return {"hits": sum(p == r for p, r in zip(predictions, references))}
"""
    (tmp_path / "hits").mkdir()
    (tmp_path / "hits/hits.py").write_text(metric)
    (tmp_path / "hits/README.md").write_text("---\ntitle: hits\nsdk: gradio\n---\n")
    api = HfApi()
    api.create_repo("org/hits", repo_type="space", space_sdk="gradio")
    api.upload_folder(repo_id="org/hits", repo_type="space", folder_path=tmp_path / "hits")
    assert api.space_info("org/hits").sha == hub.repo("org/hits", "spaces").branches["main"]
    import evaluate

    loaded = evaluate.load("org/hits", cache_dir=str(tmp_path / "cache"))
    assert loaded.compute(predictions=[1, 2, 3], references=[1, 0, 3]) == {"hits": 2}


def test_the_rest_of_the_client(hub: LoopbackHub, folder: Path, tmp_path: Path) -> None:
    api = HfApi()
    assert api.whoami()["name"] == "alice"
    api.create_repo("org/tiny")
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep/er/notes.txt").write_text("some\ntext\n" * 500)
    (folder / "deep/data.bin").write_bytes(bytes(range(256)))
    (folder / "empty.bin").touch()
    oid = api.upload_folder(repo_id="org/tiny", folder_path=folder).oid
    copy = Path(snapshot_download("org/tiny", cache_dir=tmp_path / "cache"))
    for path in folder.rglob("*"):
        if path.is_file():
            assert (copy / path.relative_to(folder)).read_bytes() == path.read_bytes()
    assert api.list_repo_refs("org/tiny").branches[0].target_commit == oid
    paths = {entry.path for entry in api.list_repo_tree("org/tiny", recursive=True)}
    assert {"deep", "deep/er", "deep/er/notes.txt", "empty.bin"} <= paths
    assert {entry.path for entry in api.list_repo_tree("org/tiny", "deep")} == {"deep/er", "deep/data.bin"}
    info = api.get_paths_info("org/tiny", ["deep", "deep/data.bin", "nothing"])
    assert [entry.path for entry in info] == ["deep", "deep/data.bin"]
    api.delete_folder("deep", repo_id="org/tiny")
    assert not api.file_exists("org/tiny", "deep/data.bin")
    api.create_branch("org/tiny", branch="exp/one", revision=oid)
    assert api.file_exists("org/tiny", "deep/data.bin", revision="exp/one")
    api.delete_branch("org/tiny", branch="exp/one")
    assert not api.revision_exists("org/tiny", "exp/one")
    api.delete_repo("org/tiny")
    assert not api.repo_exists("org/tiny")


def test_released_weights_are_told_by_the_environment_or_lie_beside_the_package_or_on_the_hub(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MODEL", raising=False)
    assert (Path(released("distill")) / "model.safetensors").is_file()
    assert released("no_such_system") == "org/no_such_system"
    monkeypatch.setenv("MODEL", "org/mine")
    assert released("distill") == "org/mine"
