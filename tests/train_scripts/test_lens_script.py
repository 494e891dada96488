"""The training script of `lens`, run for real with networks so small that a step takes milliseconds."""

import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import lens_parts
import pytest
import torch
from huggingface_hub import HfApi
from loopback_hub import LoopbackHub
from safetensors.torch import load_file
from training_runs import SCRIPTS, finished, launch, log, module, refusal

from datasets_builders.lens import Config as BuilderConfig
from datasets_builders.lens import build
from hubmodels import DiffusionLens
from hubmodels.hub import HubError
from hubmodels.lens import camo, policy
from hubmodels.lens.classifier import ZeroShot
from hubmodels.training import Stop

SCRIPT = SCRIPTS / "lens.py"
STEPS = 4


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return lens_parts.saved(tmp_path_factory.mktemp("parts"), camo.CLASSES)


@pytest.fixture(scope="module")
def script() -> Any:
    return module(SCRIPT)


def config(script: Any, parts: tuple[Path, Path], out: Path, steps: int = STEPS, **settings: Any) -> Any:
    """A small run, without TensorBoard."""
    own = {"size": 16, "chunk": 4, "ways": 4, "explore": 2, "evaluate_every": 2, "evaluate_on": 10, "rank": 2}
    base, reader = map(str, parts)
    default = script.Config(base=base, classifier=reader, **own | settings)
    run = replace(
        default.run, out=str(out), steps=steps, batch_size=8, threads=1, log_every=1, save_every=2, trackers=()
    )
    return replace(default, run=run)


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "export" / "model.safetensors")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"method": "ddpo", "explore": None},
        {"half": "bf16"},
        {"method": "ddpo", "baseline": "prompt", "prompt": "a clear photo of a {label}"},
        {"kl": 0.1, "spacing": "leading", "strength": 0.3},
        {"guidance": 3.0, "prompt": "a bear"},
        {"rank": 0},
        {"mode": "backprop", "varied": True},
        {"mode": "backprop", "truncate": 1, "checkpointing": True},
    ],
    ids=str,
)
def test_every_way_to_learn_moves_the_weights(
    script: Any, parts: tuple[Path, Path], tmp_path: Path, settings: dict
) -> None:
    script.main(config(script, parts, tmp_path / "run", **settings))
    lines = log(tmp_path / "run")
    assert lines[-1]["step"] == STEPS
    if settings.get("mode") != "backprop":
        # of the first update of what was drawn: nothing has changed yet
        assert all(line["ratio"] == 0 and line["clipped"] == 0 and line["moved"] == 0 for line in lines), lines
    lens = DiffusionLens.from_pretrained(tmp_path / "run" / "export")
    picture = lens_parts.pictures(2)
    tuned = lens.edit(picture, 1)
    assert tuned.shape == picture.shape and tuned.isfinite().all()
    if lens.config.rank:
        with lens.as_base():
            assert not torch.equal(lens.edit(picture, 1), tuned)
    assert "{label}" not in lens.config.prompt and lens.config.labels.startswith("bear; bird")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["prompt"] == settings.get("prompt", "")


def test_pictures_vary_each_in_its_own_way(script: Any) -> None:
    given = lens_parts.pictures(1, 32).expand(6, -1, -1, -1)
    torch.manual_seed(0)
    made = script.varied(given)
    assert made.shape == given.shape and float(made.min()) >= -1 and float(made.max()) <= 1
    assert all(not torch.equal(made[a], made[b]) for a in range(6) for b in range(a))
    torch.manual_seed(0)
    assert torch.equal(script.varied(given), made)


def test_the_reward_rises(script: Any, parts: tuple[Path, Path], tmp_path: Path) -> None:
    """By its gradient, and by reinforcement: that an edit should stay near its picture."""
    for mode, steps in (("backprop", 15), ("rl", 40)):
        out = tmp_path / mode
        only = script.Rewards(log_probability=0.0, l1=1.0)
        settings = {"lr": 1e-2, "rank": 0, "rows": 8, "evaluate_every": 0, "strength": 0.4, "reward": only}
        script.main(config(script, parts, out, steps, mode=mode, **settings))
        rewards = [line["reward"] for line in log(out)]
        first, last = sum(rewards[:4]) / 4, sum(rewards[-4:]) / 4
        assert last > first + 0.003, (mode, first, last)


def test_inner_epochs_are_more_updates_of_what_was_drawn(script: Any, parts: tuple[Path, Path], tmp_path: Path) -> None:
    script.main(config(script, parts, tmp_path / "run", steps=6, method="ddpo", inner_epochs=3, clip_range=1e-6))
    lines = log(tmp_path / "run")
    assert [line["step"] for line in lines] == [3, 6]
    assert all(line["ratio"] > 0 and line["clipped"] > 0 for line in lines)


def test_stopped_by_its_server_it_goes_on_and_ends_in_the_same_bits(
    script: Any, parts: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)

    class Answer(BaseHTTPRequestHandler):
        left = 10**6

        def do_POST(self) -> None:
            said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            Answer.left -= 1
            body = json.dumps({"rewards": [len(picture) / 1000 for picture in said["pictures"]]}).encode()
            self.send_response(200 if Answer.left >= 0 else 503)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    reward = script.Rewards(server=1.0, address=f"http://127.0.0.1:{server.server_port}")
    straight = config(script, parts, tmp_path / "straight", steps=6, reward=reward)
    script.main(straight)
    Answer.left = 2 * 3 + 1  # two chunks a step: it falls silent in the middle of the fourth
    stopped = config(script, parts, tmp_path / "stopped", steps=6, reward=reward)
    with pytest.raises(Stop, match=r"step 4: the reward server .* failed 4 times: .*503.* Go on with --resume"):
        script.main(stopped)
    assert sorted(path.name for path in (tmp_path / "stopped" / "checkpoints").iterdir())[-1] == "step_00000003"
    Answer.left = 10**6
    script.main(script.resumed(script.Config(resume=str(tmp_path / "stopped"))))
    server.shutdown()
    whole, again = weights(tmp_path / "straight"), weights(tmp_path / "stopped")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_reward_that_is_no_number_teaches_nothing(
    script: Any, parts: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hubmodels.lens import rewards

    monkeypatch.setitem(rewards.REWARDS, "margin", lambda seen: torch.full((len(seen.labels),), torch.nan))
    with pytest.raises(Stop, match="step 1: the reward margin is not a number for picture 0 .* Go on with --resume"):
        script.main(config(script, parts, tmp_path / "run", reward=script.Rewards(margin=1.0)))


def test_kept_latents_are_those_that_are_made_as_it_goes(script: Any, parts: tuple[Path, Path], tmp_path: Path) -> None:
    for name, cached in (("kept", True), ("made", False)):
        script.main(config(script, parts, tmp_path / name, rows=16, cached=cached))
    kept, made = log(tmp_path / "kept"), log(tmp_path / "made")
    for one, other in zip(kept, made, strict=True):
        assert one["reward"] == pytest.approx(other["reward"], abs=1e-4)


def test_big_parts_are_pinned_to_their_commits(script: Any, tmp_path: Path, hub: LoopbackHub) -> None:
    """A Stable Diffusion and a CLIP of the Hub, as small as they get, on a tree as COD10K is published."""
    lens_parts.pipeline(lens_parts.base()).save_pretrained(tmp_path / "sd")
    lens_parts.clip(tmp_path / "clip")
    build(BuilderConfig(tmp_path / "camo", rows=100, size=32, tree=tmp_path / "data", workers=1))
    commits = {}
    for name in ("sd", "clip"):
        HfApi().create_repo(f"big/{name}")
        commits[name] = HfApi().upload_folder(repo_id=f"big/{name}", folder_path=tmp_path / name).oid
    settings = {"dataset": "cod", "data_root": str(tmp_path / "data"), "template": "a hidden {label}", "half": "bf16"}
    settings |= {"method": "ddpo", "cached": True, "checkpointing": True, "targets": "to_q to_k to_v to_out.0"}
    script.main(config(script, (Path("big/sd"), Path("big/clip")), tmp_path / "run", **settings))
    assert all(line["ratio"] == 0 for line in log(tmp_path / "run"))
    HfApi().upload_file(repo_id="big/sd", path_or_fileobj=b"{}", path_in_repo="unet/config.json")
    lens = DiffusionLens.from_pretrained(tmp_path / "run" / "export")
    found = lens.config
    assert (found.base_revision, found.classifier_revision) == (commits["sd"], commits["clip"])
    assert lens.edit(lens_parts.pictures(1)).isfinite().all() and not lens.base.conditioned
    reader = lens.reader()
    assert isinstance(reader, ZeroShot) and reader.template == "a hidden {label}" and reader.labels == camo.CLASSES
    (tmp_path / "clip" / "model.safetensors").rename(tmp_path / "clip" / "pytorch_model.bin")
    HfApi().create_repo("big/pickled")
    HfApi().upload_folder(repo_id="big/pickled", folder_path=tmp_path / "clip")
    hub.requests.clear()
    with pytest.raises(HubError, match="big/pickled holds no safetensors.* refs/pr/NUMBER"):
        script.main(config(script, (Path("big/sd"), Path("big/pickled")), tmp_path / "other", **settings))
    assert not [line for line in hub.requests if "pytorch_model.bin" in line]


def test_a_lens_can_be_begun_with(script: Any, parts: tuple[Path, Path], tmp_path: Path) -> None:
    script.main(config(script, parts, tmp_path / "warm", mode="backprop", rank=3))
    start = str(tmp_path / "warm" / "export")
    script.main(config(script, parts, tmp_path / "run", steps=1, start=start, lr=1e-9))
    warm, on = weights(tmp_path / "warm"), weights(tmp_path / "run")
    assert all(torch.allclose(warm[name], on[name], atol=1e-6) for name in warm)
    assert DiffusionLens.from_pretrained(tmp_path / "run" / "export").config.rank == 3


def test_advantages_are_those_of_all_processes(script: Any) -> None:
    class Two:
        """This process and another, whose rewards are ten times as large."""

        rank = 1

        def gather(self, values: torch.Tensor) -> torch.Tensor:
            return torch.cat([values * 10, values])

    rewards, labels = torch.tensor([[1.0], [3.0]]), torch.tensor([0, 1])
    own = script.advantages(script.Config(method="ddpo"), Two(), policy.PromptTracker(), rewards, labels)
    every = torch.tensor([[10.0], [30.0], [1.0], [3.0]])
    torch.testing.assert_close(own, ((every - every.mean()) / every.std(correction=0))[2:])


def test_a_classifier_is_measured_alone(
    script: Any, parts: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr("hubmodels.lens.data.CAMO_ROWS", {"train": 20, "validation": 20, "test": 30})
    script.main(config(script, parts, tmp_path / "run", mode="eval_classifier", corruption="fog", severity=5))
    said = capsys.readouterr().out
    assert "| 30 | " in said and "| zebra |" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_as_a_user_launches_it(parts: tuple[Path, Path], tmp_path: Path) -> None:
    base, reader = map(str, parts)
    options = [f"--base={base}", f"--classifier={reader}", "--size=16", "--run.steps=2", "--run.batch-size=4"]
    options += ["--chunk=4", "--explore=2", "--evaluate-on=10", "--run.threads=1", f"--run.out={tmp_path / 'run'}"]
    finished(launch(SCRIPT, *options))
    assert (tmp_path / "run/export/pytorch_lora_weights.safetensors").is_file()
    assert list((tmp_path / "run/samples").glob("edits_*.png"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "backprop", "accuracy": 1.0}, "the reward accuracy has no gradient: it works in --mode rl alone"),
        ({"server": 1.0}, "--reward.server needs --reward.address"),
        ({"rank": 0, "half": "bf16"}, "rank 0 tunes the base itself"),
        ({"cached": True, "varied": True}, "leave out --cached or --varied"),
        ({"eta": 0.0}, "without chance nothing is explored"),
        ({"decay": 2.0}, "decay and eta are shares"),
        ({"chunk": 0}, "chunk, inner_epochs and evaluate_on are at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(script: Any, settings: dict, message: str) -> None:
    names = script.Rewards.__dataclass_fields__
    reward = script.Rewards(**{name: value for name, value in settings.items() if name in names})
    with pytest.raises(ValueError, match=message):
        script.Config(reward=reward, **{name: value for name, value in settings.items() if name not in names})


REFUSED: list[tuple[list[str], str]] = [
    (["--strength=0"], "strength must be above 0 and at most 1, got 0"),
    (["--strength=1.5"], "strength must be above 0 and at most 1, got 1.5"),
    (["--strength=0.01"], "20 steps at strength 0.01 leave none to run"),
    (["--strength=0.05"], "ddpo-branch explores all steps but the last, and there is only one"),
    (["--run.batch-size=12", "--chunk=8"], "must be a multiple of --chunk 8"),
    (["--corruption=smoke"], "there is no task or corruption 'smoke'"),
    (["--severity=6"], "severity must be 1, 2, 3, 4 or 5, got 6"),
    (["--dataset=cod", "--data-root=nowhere"], "nowhere/COD10K/Train/Image is not there: unpack COD10K-v3"),
    (["--base=nowhere/at-all"], "nowhere/at-all is neither a folder here nor a repository"),
    (["--classifier=nowhere/at-all"], "nowhere/at-all is neither a folder here nor a repository"),
    (["--size=17"], "sides that are multiples of"),
    (["--resume=nowhere"], "nowhere/config.json does not exist"),
]


@pytest.mark.parametrize(
    ("options", "message"), REFUSED, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_what_cannot_be_done_is_said_in_a_line(
    parts: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    own = [f"--base={parts[0]}", f"--classifier={parts[1]}", "--size=16", "--run.batch-size=16", "--run.steps=1"]
    own = [option for option in own if option.split("=")[0] not in {given.split("=")[0] for given in options}]
    if options[0].startswith("--resume"):
        own = []
    line = refusal(SCRIPT, monkeypatch, capsys, *own, *options, *([f"--run.out={tmp_path}"] if own else []))
    assert message in line
