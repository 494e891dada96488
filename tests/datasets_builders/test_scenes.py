import hashlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from datasets import Image, load_dataset
from PIL import Image as Picture

from datasets_builders import folder, scenes
from datasets_builders.folder import BuildError
from datasets_builders.scenes import Config, build, main, rows, template_rows
from hubmodels.scenes import decode, masks, parse, place, render, splits, templates
from hubmodels.scenes.world import from_graph

ROWS = 90


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Cut small builds as large ones are: several blocks, row groups and shards."""
    monkeypatch.setattr(folder, "BLOCK_ROWS", 20)
    monkeypatch.setattr(folder, "GROUP_ROWS", 8)
    monkeypatch.setattr(folder, "SHARD_ROWS", 24)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A finished folder, made by this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"BLOCK_ROWS": 20, "GROUP_ROWS": 8, "SHARD_ROWS": 24}.items():
            patch.setattr(folder, name, value)
        return build(Config(tmp_path_factory.mktemp("data") / "scenes", rows=ROWS, workers=1))


def contents(root: Path) -> dict[str, str]:
    """Every file below a folder, and its hash."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def load(where, tmp_path, *args, **options):
    return load_dataset(str(where), *args, cache_dir=str(tmp_path / "cache"), **options)


# --- what a row is ------------------------------------------------------------------------------------------


def test_a_row_depends_on_seed_and_number_alone():
    whole = list(rows(3, 0, 12))
    assert [row["index"] for row in whole] == list(range(12))
    assert list(rows(3, 5, 9)) == whole[5:9]
    assert list(rows(4, 0, 1)) != whole[:1]
    sentences = list(template_rows(3, 0, 12))
    assert list(template_rows(3, 5, 9)) == sentences[5:9]


def test_rows_tell_the_truth(built, tmp_path):
    data = load(built, tmp_path)
    assert sum(len(split) for split in data.values()) == ROWS
    for name, split in data.items():
        assert split["index"][:] == sorted(split["index"][:])
        for row in split:
            scene = parse(row["caption"])
            placed = place(scene, row["layout_seed"])
            assert from_graph(json.loads(row["graph"])) == placed == parse(row["placed_caption"])
            assert decode(row["tokens"]) == row["placed_caption"]
            assert (np.asarray(row["image"]) == render([placed])[0].permute(1, 2, 0).numpy()).all()
            assert (np.asarray(row["masks"]) == masks([placed])[0].numpy()).all()
            assert splits.split(scene) == row["split"] == name
            assert splits.split(parse(row["canonical"])) == name


def test_splits_share_no_meaning(built, tmp_path):
    data = load(built, tmp_path)
    splits.assert_disjoint({name: split["canonical"] for name, split in data.items()})
    sentences = load(built, tmp_path, "templates")
    assert set(sentences) == set(templates.SPLITS)
    splits.assert_disjoint({name: split["sentence"] for name, split in sentences.items()})
    for name, split in sentences.items():
        for row in split:
            assert templates.decode(row["tokens"]) == row["sentence"]
            assert templates.fill(row["template"], json.loads(row["slots"])) == row["sentence"]
            assert templates.split_template(row["sentence"]) == row["split"] == name


def test_a_picture_has_the_resolution_asked_for():
    (row,) = rows(0, 0, 1, resolution=96)
    assert Picture.open(io.BytesIO(row["image"]["bytes"])).size == (96, 96)


# --- the folder ---------------------------------------------------------------------------------------------


def test_it_loads_and_streams_alike_with_its_features(built, tmp_path):
    loaded, streamed = load(built, tmp_path), load(built, tmp_path, streaming=True)
    assert tuple(loaded) == tuple(streamed) == splits.SPLITS
    for name in loaded:
        assert loaded[name].features == streamed[name].features == scenes.FEATURES
        plain = loaded[name].cast_column("image", Image(decode=False)).cast_column("masks", Image(decode=False))
        flowing = streamed[name].cast_column("image", Image(decode=False))
        keys = ("index", "caption", "tokens")
        assert [[row[k] for k in keys] for row in plain] == [[row[k] for k in keys] for row in flowing]
    assert streamed["train"].num_shards == -(-len(loaded["train"]) // 24) > 1
    assert load(built, tmp_path, "templates", streaming=True)["train"].features == scenes.TEMPLATE_FEATURES


def test_the_folder_holds_what_it_says_and_nothing_else(built):
    names = set(contents(built))
    assert {"README.md", "build.json", "preview.png"} == {name for name in names if "/" not in name}
    assert all(name.endswith(".parquet") for name in names if "/" in name)
    assert not built.with_name("scenes.partial").exists()
    assert json.loads((built / "build.json").read_text())["rows"] == ROWS
    card = (built / "README.md").read_text()
    assert "license: cc0-1.0" in card and str(built.parent) not in card
    assert f"--rows {ROWS} --seed 0" in card


@pytest.mark.parametrize("config", ["scenes", "templates"])
def test_one_configuration_alone_is_the_default(config, built, tmp_path):
    alone = build(Config(tmp_path / "alone", rows=ROWS, workers=1, config=config))
    assert set(load(alone, tmp_path)) == set(splits.SPLITS if config == "scenes" else templates.SPLITS)
    whole = contents(built)
    same = {name: digest for name, digest in contents(alone).items() if name.endswith(".parquet")}
    assert same == {name: digest for name, digest in whole.items() if name.startswith(config + "/")}


def test_a_split_without_rows_is_left_out(tmp_path):
    out = build(Config(tmp_path / "one", rows=1, workers=1))
    (row,) = rows(0, 0, 1)
    for streaming in (False, True):
        data = load(out, tmp_path, streaming=streaming)
        assert {name: len(list(split)) for name, split in data.items()} == {row["split"]: 1}


# --- the same bytes, whatever happens -----------------------------------------------------------------------


def test_a_ray_cluster_makes_the_same_bytes(built, tmp_path):
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        assert contents(build(Config(tmp_path / "scenes", rows=ROWS, engine="ray"))) == contents(built)
    finally:
        ray.shutdown()


COMMAND = """
import sys
from pathlib import Path
from datasets_builders import folder, scenes
folder.BLOCK_ROWS, folder.GROUP_ROWS, folder.SHARD_ROWS = 20, 8, 24
scenes.main(scenes.Config(Path(sys.argv[1]), rows=int(sys.argv[2]), workers=1))
"""


def test_a_killed_build_goes_on_and_ends_in_the_same_bytes(tmp_path):
    many = 800
    out, partial = tmp_path / "scenes", tmp_path / "scenes.partial"
    process = subprocess.Popen([sys.executable, "-c", COMMAND, str(out), str(many)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(partial.glob("blocks/*.arrow"))) < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(BuildError, match="another process is building"):
        build(Config(out, rows=many, workers=1))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    kept = {path: path.stat().st_mtime_ns for path in partial.glob("blocks/*.arrow")}
    assert 3 <= len(kept) < 2 * many // 20

    with pytest.raises(BuildError, match="not an unfinished build with these settings"):
        build(Config(out, rows=many + 1, workers=1))

    made = Counter()

    def count(jobs, workers, local=folder._local):
        for job, data in local(jobs, workers):
            made[job[0].name, job[1]] += 1
            yield job, data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "_local", count)
        build(Config(out, rows=many, workers=1))
    assert len(made) == 2 * many // 20 - len(kept)  # what was there was not made again
    assert contents(out) == contents(build(Config(tmp_path / "again", rows=many, workers=1)))
    assert not partial.exists()


def test_a_build_killed_while_assembling_goes_on(built, tmp_path, monkeypatch):
    out = tmp_path / "scenes"

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(folder, "metadata", die)
        with pytest.raises(SystemExit, match="run the same command again"):
            main(Config(out, rows=ROWS, workers=1))
    assert not out.exists() and (tmp_path / "scenes.partial/scenes").exists()
    with monkeypatch.context() as patch:  # and once more, after the card but before the folder has its name
        patch.setattr(Path, "rename", die)
        with pytest.raises(SystemExit):
            main(Config(out, rows=ROWS, workers=1))
    assert contents(build(Config(out, rows=ROWS, workers=1))) == contents(built)


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": 0}, "--rows must be at least 1, got 0"),
        ({"rows": 5, "resolution": 8}, "--resolution must be from 32 to 512, got 8"),
        ({"rows": 5, "workers": -1}, "--workers must not be negative"),
        ({"rows": 5, "push_to": "scenes"}, "org/name"),
        ({"rows": 5, "push_to": "org/sc enes"}, "--push-to"),
    ],
)
def test_settings_that_make_no_sense_are_one_line(options, message, tmp_path):
    with pytest.raises(SystemExit) as refusal:
        main(Config(tmp_path / "scenes", **options))
    assert message in str(refusal.value) and "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_what_stands_at_out_is_not_touched(built, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    (tmp_path / "file").write_text("keep")
    (tmp_path / "other.partial").mkdir()
    (tmp_path / "other.partial/notes.txt").write_text("keep")
    before, finished = contents(tmp_path), contents(built)
    for out in ("mine", "file", "other", "file/below"):
        with pytest.raises(SystemExit) as refusal:
            main(Config(tmp_path / out, rows=5, workers=1))
        assert "\n" not in str(refusal.value)
    with pytest.raises(SystemExit, match="is finished already"):
        main(Config(built, rows=ROWS))
    with pytest.raises(SystemExit, match="exists already"):
        main(Config(built, rows=ROWS + 1))
    assert contents(tmp_path) == before and contents(built) == finished


def test_a_full_disk_is_one_line_and_the_build_goes_on_later(built, tmp_path):
    """A limit on the size of files stands in for the disk: the kernel refuses the write just so."""
    out = tmp_path / "scenes"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        with pytest.raises(SystemExit) as refusal:
            main(Config(out, rows=ROWS, workers=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot write" in str(refusal.value) and "\n" not in str(refusal.value)
    assert not out.exists()
    assert not list(tmp_path.rglob("*.tmp"))
    assert contents(build(Config(out, rows=ROWS, workers=1))) == contents(built)


def test_the_command_as_typed_runs_two_processes_to_the_same_bytes(tmp_path, monkeypatch):
    out = tmp_path / "data/scenes"
    command = [
        sys.executable,
        "-m",
        "datasets_builders.scenes",
        "--out",
        str(out),
        "--workers",
        "2",
        "--rows",
    ]
    done = subprocess.run([*command, "30"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "row/s" in done.stderr  # the progress bar
    monkeypatch.undo()  # the sizes of blocks and shards that the command used
    assert contents(build(Config(tmp_path / "scenes", rows=30, workers=1))) == contents(out)
    refused = subprocess.run([*command, "0"], capture_output=True, text=True)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "--rows must be at least 1, got 0\n"


# --- publishing ---------------------------------------------------------------------------------------------

LOAD = """
import datasets
print(datasets.load_dataset("org/scenes"))
streamed = datasets.load_dataset("org/scenes", streaming=True)
print(next(iter(streamed["train"]))["image"].size)
print(datasets.load_dataset("org/scenes", "templates", split="train")[0]["sentence"])
"""


def test_published_once_it_loads_from_the_hub_in_a_fresh_cache(built, hub, tmp_path):
    before = contents(built)
    for _ in range(2):  # the second time there is nothing to say
        main(Config(built, rows=ROWS, push_to="org/scenes"))
    files = hub.repo("org/scenes", "datasets").at("main").files
    assert contents(built) == before == {p: blob.sha256 for p, blob in files.items() if p != ".gitattributes"}
    commits = [commit.title for commit in hub.repo("org/scenes", "datasets").history("main")]
    assert commits == ["Upload data set", "initial commit"]

    fresh = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, env=fresh)
    assert done.returncode == 0, done.stderr
    assert "DatasetDict" in done.stdout and "(64, 64)" in done.stdout
    first = next(row for row in template_rows(0, 0, ROWS) if row["split"] == "train")
    assert done.stdout.endswith(first["sentence"] + "\n")


def test_a_smaller_data_set_replaces_a_larger_one(built, hub, tmp_path):
    folder.push(built, "org/scenes")
    small = tmp_path / "small"
    main(Config(small, rows=5, workers=1, push_to="org/scenes"))
    files = hub.repo("org/scenes", "datasets").at("main").files
    assert set(files) - {".gitattributes"} == set(contents(small))


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("hf_wrong", "the Hub does not accept the token; log in with `hf auth login` or set HF_TOKEN"),
        ("hf_reader", "the token may not write there; use one with write access"),
    ],
)
def test_a_token_that_will_not_do_is_one_line_and_the_folder_stays(token, message, built, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", token)
    before = contents(built)
    with pytest.raises(SystemExit) as refusal:
        main(Config(built, rows=ROWS, push_to="org/scenes"))
    assert message in str(refusal.value) and "\n" not in str(refusal.value)
    assert contents(built) == before and not hub.repos


def test_no_network_is_one_line_and_the_folder_stays(built, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    before = contents(built)
    with pytest.raises(SystemExit) as refusal:
        main(Config(built, rows=ROWS, push_to="org/scenes"))
    assert "the Hub cannot be reached" in str(refusal.value) and "\n" not in str(refusal.value)
    assert contents(built) == before
