"""The two training scripts of `pixelscene`, run for real on a small set with networks so small that a step is quick."""

import json
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from training_runs import SCRIPTS, checkpoints, finished, launch, log, module, refusal

from datasets_builders.pixelscene import Config as Built
from datasets_builders.pixelscene import build
from hubmodels.pixelscene import scene
from hubmodels.pixelscene.data import SHOWN, Crops, Told, opened, read, together, tokenized
from hubmodels.pixelscene.palettes import oklab
from hubmodels.pixelscene.sampling import Sampling
from hubmodels.pixelscene.shape import COLOURS
from hubmodels.pixelscene.transformer import PixelTransformer, finer, stages_of, token_colours
from hubmodels.pixelscene.vqgan import PixelVQGAN, coloured, log_shares

VQGAN, PRIOR = SCRIPTS / "pixelscene_vqgan.py", SCRIPTS / "pixelscene_transformer.py"
STEPS = 6
SHARED = [f"--run.steps={STEPS}", "--run.batch-size=2", "--run.threads=1", "--run.save-every=2", "--run.log-every=1"]
SHARED += ["--evaluate-every=3", "--evaluate-on=2", "--workers=0"]
SMALL_VQGAN = ["--model.channels=8", "--model.growth=1,1,1,1", "--model.blocks=1", "--model.levels=4,3,2", "--size=64"]
SMALL_VQGAN += ["--gan.weight=0.5", "--gan.start=3", "--gan.channels=8"]
SMALL_PRIOR = [
    "--model.text=words",
    "--model.width=32",
    "--model.layers=1",
    "--model.heads=2",
    "--model.feedforward=32",
    "--model.colours=8",
]
# a checkpoint syncs each of its files: the third one of either script is left half written
KILLER = """
import os, runpy, signal, sys
replace, left = os.rename, iter(range({left}, -1, -1))
def fatal(source, target):
    if str(source).endswith(".tmp") and "step_" in str(source) and not next(left):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.rename = fatal
import pathlib
pathlib.Path.rename = lambda self, target: fatal(self, target)
sys.argv = [{script!r}, *sys.argv[1:]]
runpy.run_path({script!r}, run_name="__main__")
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(Built(tmp_path_factory.mktemp("data") / "vga", rows=30, height=192, workers=1))


@pytest.fixture(scope="module")
def tokenizer(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the first script that was trained a little."""
    out = tmp_path_factory.mktemp("runs") / "vqgan"
    this = module(VQGAN)
    plain = this.Config(data=(str(data),), size=64, workers=0, evaluate_every=3, evaluate_on=2)
    shape = replace(plain.model, channels=8, growth="1,1,1,1", blocks=1, levels="4,3,2")
    run = replace(plain.run, out=str(out), steps=3, batch_size=2, save_every=3, log_every=1, threads=1, trackers=())
    this.main(replace(plain, model=shape, run=run))
    return out


def same(one: Path, other: Path) -> None:
    files = [*sorted((one / "checkpoints").rglob("*.safetensors")), one / "export" / "model.safetensors"]
    assert len(files) >= 4
    for file in files:
        a, b = load_file(file), load_file(other / file.relative_to(one))
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a), file
    assert log(one) == log(other)


@pytest.mark.slow
@pytest.mark.parametrize("script", ["vqgan", "prior"])
def test_killed_and_resumed_it_ends_in_the_bits_of_a_straight_run(
    data: Path, tokenizer: Path, tmp_path: Path, script: str
) -> None:
    """Three programs of some twenty seconds each."""
    path = VQGAN if script == "vqgan" else PRIOR
    options = [*SHARED, "--data", str(data)]
    options += SMALL_VQGAN if script == "vqgan" else [*SMALL_PRIOR, "--vqgan", str(tokenizer)]
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    (tmp_path / "killer.py").write_text(KILLER.format(left=1, script=str(path)))
    uninterrupted = launch(path, *options, "--run.out", straight)
    doomed = launch(tmp_path / "killer.py", *options, "--run.out", killed)
    finished(uninterrupted)
    _, errors = doomed.communicate(timeout=600)
    assert doomed.returncode != 0 and "SIGKILL" in errors, errors
    assert checkpoints(killed)[0] == "step_00000002" and len(checkpoints(killed)) == 2
    finished(launch(path, "--resume", killed))
    same(straight, killed)
    lines = log(straight)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    sheet = np.asarray(Image.open(straight / "samples" / f"samples_{STEPS:08d}.png"))
    assert sheet.shape[1] > 2 * 320 and sheet.std() > 10
    if script == "vqgan":
        assert ["discriminator" in line for line in lines] == [False] * 3 + [True] * 3


def test_both_scripts_make_a_pair_that_draws(data: Path, tokenizer: Path, tmp_path: Path) -> None:
    this = module(PRIOR)
    plain = this.Config(vqgan=str(tokenizer), data=(str(data),), evaluate_every=2, evaluate_on=2)
    shape = replace(plain.model, width=32, layers=1, heads=2, feedforward=32, colours=8)
    run = replace(plain.run, steps=2, batch_size=2, save_every=2, log_every=1, threads=1, trackers=())
    for order, group, text in (("masked", 2, "words"), ("ar", 1, "words"), ("masked", 2, "minilm")):
        out = tmp_path / f"{order}-{text}"
        own = replace(shape, order=order, group=group, text=text, thumbnails=3 if order == "masked" else 0)
        this.main(replace(plain, model=own, run=replace(run, out=str(out)), tokens=str(tmp_path)))
        pair = scene.loaded(str(tokenizer / "export"), str(out / "export"), "torch")
        ((indices, palette),) = scene.draw(pair, ["a castle"], (64, 64), None, Sampling(rounds=2))
        assert indices.shape == (64, 64) and 4 < len(palette) == len(np.unique(palette, axis=0)) <= 8
        assert ("castle" in pair.transformer.config.words) == (text == "words")
        twin = scene.loaded(str(tokenizer / "export"), str(out / "export"), "mlx")
        ((again, other),) = scene.draw(twin, ["a castle"], (64, 64), None, Sampling(rounds=2))
        assert (again == indices).all() and (other == palette).all(), "one seed, one picture"
    assert len(list(tmp_path.glob("tokens-*.safetensors"))) == 2, "made once"


@pytest.mark.parametrize("script", ["vqgan", "prior"])
def test_on_mlx_a_script_learns_what_it_learns_on_torch(
    data: Path, tokenizer: Path, tmp_path: Path, script: str
) -> None:
    """With the discriminator, which is torch's."""
    this = module(VQGAN if script == "vqgan" else PRIOR)
    if script == "vqgan":
        plain = this.Config(data=(str(data),), size=64, workers=0, gan=this.Gan(weight=0.5, start=1, channels=8))
        shape = replace(plain.model, channels=8, growth="1,1,1,1", blocks=1, levels="4,3,2")
        terms = "expected", "colour", "contrast"
    else:
        plain = this.Config(vqgan=str(tokenizer), data=(str(data),))
        shape = replace(plain.model, width=32, layers=1, heads=2, feedforward=32, colours=8, dropout=0.0)
        terms = "colours", "picture"
    plain = replace(plain, model=shape, evaluate_every=3, evaluate_on=2)
    lines = []
    for backend in ("torch", "mlx"):
        out = tmp_path / backend
        run = replace(plain.run, out=str(out), steps=3, batch_size=2, log_every=1, threads=1, trackers=())
        this.main(replace(plain, backend=backend, run=run))
        lines.append([{name: line[name] for name in terms} for line in log(out)])
    assert lines[1][0] == pytest.approx(lines[0][0], rel=5e-3)
    assert lines[1][2] == pytest.approx(lines[0][2], rel=0.1), "a number that is rounded the other way moves all"


# --- what is learned ---------------------------------------------------------------------------------------------


def test_crops_are_of_their_pictures_and_any_number_makes_batches(data: Path) -> None:
    table = opened((str(data),), "train")
    crops = Crops(table.select([0]), 64, 8, varied=False)
    assert len(crops) >= 1024
    torch.manual_seed(0)
    one = crops[5]
    colours = one["palette"][one["indices"].long()].numpy()
    indices, palette = read(table[0])
    places = [(down, across) for down in range(0, 137, 8) for across in range(0, 257, 8)]
    true = oklab(palette)[indices]
    assert any(np.allclose(true[y : y + 64, x : x + 64], colours, atol=1e-6) for y, x in places)
    apart = np.abs(one["palette"].numpy()[:, None] - oklab(palette)).max(2).min(1)
    assert apart.max() < 1e-6, "all colours are of the picture's palette"


def test_varied_crops_keep_what_is_where(data: Path) -> None:
    """Whatever happens to colours, pixels that were equal stay so, but for those that few colours bring together."""
    crops = Crops(opened((str(data),), "train"), 64, 8)
    torch.manual_seed(1)
    seen = set()
    for number in range(40):
        one = crops[number]
        assert one["indices"].shape == (64, 64) and one["palette"].shape == (SHOWN, 3)
        colours = one["palette"][one["indices"].long()]
        assert colours.isfinite().all() and colours[..., 0].min() >= 0 and colours[..., 0].max() <= 1.001
        seen.add(len(one["palette"].unique(dim=0)))
    assert min(seen) <= 32 and max(seen) > 100


def test_adapting_to_new_pictures_lowers_their_loss(data: Path, tokenizer: Path, tmp_path: Path) -> None:
    """--start with the weights of a run, on a folder that has grown: what the design calls adding data."""
    images = tmp_path / "images"
    images.mkdir()
    lines = []
    for number in range(8):
        rng = np.random.default_rng(number)
        picture = rng.integers(0, 256, (3, 3), dtype=np.uint8)[rng.integers(0, 3, (6, 10))].repeat(32, 0).repeat(32, 1)
        Image.fromarray(picture).save(images / f"{number}.png")
        lines.append(json.dumps({"image": f"{number}.png", "caption": f"{number} blocks of colour"}))
    (tmp_path / "captions.jsonl").write_text("\n".join(lines))
    config = Built(tmp_path / "mine", source="folder", height=192, workers=1, unscale=False)
    mine = build(replace(config, images=images, captions=tmp_path / "captions.jsonl"))
    this = module(VQGAN)
    sources = (str(data), str(mine))
    plain = this.Config(data=sources, start=str(tokenizer / "export"), size=32, workers=0, evaluate_every=120, lr=3e-3)
    run = replace(plain.run, out=str(tmp_path / "run"), steps=120, batch_size=8, save_every=120, ema=0.0, trackers=())
    before = PixelVQGAN.from_pretrained(tokenizer / "export")
    this.main(replace(plain, evaluate_on=2, model=before.config, run=replace(run, threads=2)))
    after = PixelVQGAN.from_pretrained(tmp_path / "run" / "export")
    crops = Crops(opened((str(mine),), "train"), 64, 8, varied=False)
    torch.manual_seed(0)
    batch = torch.utils.data.default_collate([crops[number] for number in range(8)])
    true = coloured(batch["indices"], batch["palette"])
    losses = []
    for model in (before, after):
        with torch.no_grad():
            made = model(true, batch["palette"])
            parts = this.terms(this.Weights(), made, log_shares(made.logits, batch["palette"]), batch, true, 1.0)
        losses.append(float(sum(parts.values())))
    assert losses[1] < 0.7 * losses[0], losses


def test_one_picture_is_enough_to_train_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Far fewer than a batch, and nothing to validate on: both scripts learn it, and say so."""
    (tmp_path / "images").mkdir()
    blocks = np.random.default_rng(0).integers(0, 255, (25, 40, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    Image.fromarray(blocks).save(tmp_path / "images" / "a.png")
    (tmp_path / "captions.jsonl").write_text('{"image": "a.png", "caption": "Many blocks of colour"}')
    config = Built(tmp_path / "mine", source="folder", height=192, workers=1, unscale=False)
    mine = build(replace(config, images=tmp_path / "images", captions=tmp_path / "captions.jsonl"))
    assert len(opened((str(mine),), "train")) == 1
    first, second = module(VQGAN).Config(size=64, workers=0), module(PRIOR).Config(vqgan=str(tmp_path / "vqgan"))
    small = replace(first.model, channels=8, growth="1,1,1,1", blocks=1, levels="4,3,2")
    tiny = replace(second.model, text="words", width=32, layers=1, heads=2, feedforward=32, colours=8)
    for script, config, shape, name in ((VQGAN, first, small, "vqgan"), (PRIOR, second, tiny, "prior")):
        run = replace(config.run, out=str(tmp_path / name), steps=2, batch_size=4, threads=1, trackers=())
        module(script).main(replace(config, data=(str(mine),), model=shape, evaluate_every=2, run=run))
        assert "no validation pictures" in capsys.readouterr().err
        assert (tmp_path / name / "export" / "model.safetensors").is_file()


def test_a_transformer_goes_on_with_new_captions(data: Path, tokenizer: Path, tmp_path: Path) -> None:
    """--start: on other pictures their tokens become likelier, those of the old ones are not forgotten for it."""
    this = module(PRIOR)
    first = this.Config(vqgan=str(tokenizer), data=(str(data),), evaluate_every=20, evaluate_on=8, lr=3e-3)
    shape = replace(first.model, text="words", width=32, layers=1, heads=2, feedforward=32, colours=8)
    run = replace(first.run, out=str(tmp_path / "first"), steps=20, batch_size=4, ema=0.0, threads=1, trackers=())
    this.main(replace(first, model=shape, run=run))
    new = build(Built(tmp_path / "new", rows=12, seed=5, height=192, workers=1))
    start = str(tmp_path / "first" / "export")
    then = replace(run, out=str(tmp_path / "then"), steps=40)
    this.main(replace(first, start=start, data=(str(new), str(data)), run=then, evaluate_every=40))
    networks = [PixelTransformer.from_pretrained(tmp_path / one / "export") for one in ("first", "then")]
    assert networks[0].config == networks[1].config, "its words and its shape stay"
    vqgan = PixelVQGAN.from_pretrained(tokenizer / "export")
    for folder in (new, data):
        table = opened((str(folder),), "train")
        parts = tokenized(table, vqgan, 8, tmp_path / f"{folder.name}-tokens.safetensors")
        told = Told(table["caption"][:], *parts)
        batch = together([told[row] for row in range(len(table))], networks[0].config)
        scores = [
            this.quick(this.Config(model=one.config), one, batch, torch.device("cpu"))["validation"] for one in networks
        ]
        assert scores[1] < scores[0], (folder, scores)


def test_presets_are_the_documented_sizes() -> None:
    this = module(VQGAN)
    for name, size, tokens in (("f8", (200, 320), 1000), ("f16", (192, 320), 240)):
        config = this.presets()[name]
        assert config.preset == name
        small = replace(config.model, channels=4, growth="1,1,1,1,1", blocks=1)
        indices, palette = torch.zeros(1, *size, dtype=torch.uint8), torch.rand(1, 4, 3)
        assert PixelVQGAN(small).encode(indices, palette).numel() == tokens


@pytest.mark.parametrize("backend", ["torch", "mlx"])
def test_kept_tokens_mean_what_they_meant_and_look_otherwise(data: Path, tmp_path: Path, backend: str) -> None:
    this = module(VQGAN)
    plain = this.Config(data=(str(data),), size=64, workers=0, evaluate_every=4, evaluate_on=2, lr=3e-3)
    shape = replace(plain.model, channels=8, growth="1,1,1,1", blocks=1, quantizer="vq", codes=16, code_width=4)
    first = replace(plain.run, out=str(tmp_path / "first"), steps=2, batch_size=2, threads=1, trackers=())
    this.main(replace(plain, model=shape, run=first))
    start = str(tmp_path / "first" / "export")
    then = replace(first, out=str(tmp_path / "then"), steps=4)
    gan = this.Gan(weight=0.5, start=1, channels=8)
    this.main(replace(plain, start=start, keep_tokens=True, gan=gan, run=then, backend=backend))
    before, after = (PixelVQGAN.from_pretrained(tmp_path / run / "export") for run in ("first", "then"))
    assert before.meaning() == after.meaning()
    for name, one in before.state_dict().items():
        same = torch.equal(one, after.state_dict()[name])
        assert same or name.startswith(("decoder.", "pointer.")), name
    assert not torch.equal(before.decoder.leave.weight, after.decoder.leave.weight)
    with pytest.raises(ValueError, match="say which with --start"):
        replace(plain, keep_tokens=True)
    shutil.rmtree(tmp_path / "first")
    export = (tmp_path / "then" / "export" / "model.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "then" / "export")
    this.main(this.resumed(this.Config(resume=str(tmp_path / "then"))))
    assert (tmp_path / "then" / "export" / "model.safetensors").read_bytes() == export, "what it began with may be gone"


def test_what_the_transformer_is_asked_for(data: Path, tokenizer: Path, tmp_path: Path) -> None:
    this = module(PRIOR)
    vqgan = PixelVQGAN.from_pretrained(tokenizer / "export")
    table = opened((str(data),), "train").select(range(4))
    palette, tokens = tokenized(table, vqgan, 8, tmp_path / "tokens.safetensors")
    assert palette.shape == (4, 8) and tokens.shape == (4, 2, 24, 40) and palette.max() < COLOURS
    assert (palette.diff(dim=1) >= 0).all()
    lab = torch.from_numpy(oklab(token_colours(palette.long()).numpy())).float()
    made = vqgan.decode(tokens[:, 1].long(), lab)
    assert made.shape == (4, 192, 320)
    for other in (table.select([1]), table.map(lambda row: {"image": row["image"].transpose(0)})):
        with pytest.raises(ValueError, match="of other pictures or of another tokenizer"):
            tokenized(other, vqgan, 8, tmp_path / "tokens.safetensors")

    shape = replace(this.Config().model, codebook_size=24, colours=8, thumbnails=2, text="words", vocabulary="a b c")
    plain = this.Config(model=shape, fine=0.25)
    rows = Told(["a"] * 4, palette, torch.nn.functional.pad(tokens, (0, 0, 0, 1), value=-1))
    batch = together([rows[number] for number in range(4)] * 50, plain.model)
    torch.manual_seed(0)
    asked, targets, there = this.told(plain, batch)
    assert [(one.stage, len(one.palette)) for one in asked] == [(0, 200), (1, 200), (2, 50), (3, 50)]
    stages = stages_of(batch["palette"], batch["tokens"], 2)
    means = 2 / torch.pi, 3 / 4, 3 / 4, 2 / torch.pi
    for one, target, true, mean in zip(asked, targets, (batch["palette"], *stages), means, strict=True):
        shown = one.palette if one.plane is None else one.plane
        shown, true = shown.flatten(1), true[: len(shown)].flatten(1)
        exists, hidden = true >= 0, target >= 0
        assert (target[hidden] == true[hidden]).all() and not (hidden & ~exists).any()
        assert (shown[hidden | ~exists] == shape.unknown[one.stage]).all(), "what is asked for is not shown"
        assert (shown[exists & ~hidden] == true[exists & ~hidden]).all()
        share = hidden.sum(1) / exists.sum(1)
        assert share.std() > 0.2 and float(share.mean()) == pytest.approx(mean, abs=0.08)
        assert one.stage == 0 or torch.equal(one.palette, batch["palette"][: len(shown)])
    assert asked[1].above is None and asked[2].above is not None and asked[3].above is not None
    for found, true in ((asked[2].above, finer(stages[0], 25, 40)), (asked[3].above, stages[1])):
        assert torch.equal(found, torch.where(true < 0, 8, true)[:50]), "all that comes before is known"
    assert 0.05 < 1 - there.any(1).float().mean() < 0.2
    # logits that know everything cost nothing, whatever the rest of them says
    right = [
        torch.nn.functional.one_hot(true[: len(target)].clamp(min=0).flatten(1), most) * 50.0
        for true, target, most in zip((batch["palette"], *stages), targets, (COLOURS, 8, 8, 24), strict=True)
    ]
    parts = this.losses(plain, tuple(right), targets)
    assert all(float(value) == pytest.approx(0, abs=1e-4) for value in parts.values())
    for number, name in enumerate(("colours", "thumbnail_1", "thumbnail_2", "picture")):
        wrong = [one.roll(1, 2) if place == number else one for place, one in enumerate(right)]
        parts = this.losses(plain, tuple(wrong), targets)
        assert float(parts.pop(name)) == pytest.approx(50, abs=1)
        assert all(float(value) == pytest.approx(0, abs=1e-4) for value in parts.values())


@pytest.mark.parametrize(
    ("script", "options", "words"),
    [
        (VQGAN, ["--size", "60"], "size must be a multiple of 8"),
        (VQGAN, ["--model.stride", "16", "--size", "72"], "size must be a multiple of 16"),
        (VQGAN, ["--gan.weight", "1", "--size", "32"], "the discriminator needs a size of 64"),
        (PRIOR, ["--model.order", "ar"], "1 for ar"),
        (PRIOR, ["--wordless", "1"], "at least 0 and below 1"),
        (PRIOR, ["--fine", "0"], "fine in (0, 1]"),
    ],
)
def test_what_cannot_be_set_is_said_by_the_command_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    script: Path,
    options: list[str],
    words: str,
) -> None:
    out = tmp_path / "run"
    monkeypatch.setattr(sys, "argv", [str(script), *options, "--run.out", str(out)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(script), run_name="__main__")
    said = " ".join("".join(capsys.readouterr()).replace("│", " ").split())
    assert stop.value.code == 2 and "Traceback" not in said and words in said
    assert not out.exists()


@pytest.mark.parametrize("script", [VQGAN, PRIOR])
def test_data_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], script: Path
) -> None:
    out = tmp_path / "run"
    line = refusal(script, monkeypatch, capsys, "--data", "nowhere", "--run.out", str(out))
    assert "nowhere has no pictures to read" in line and not out.exists()


def test_a_checkpoint_of_the_other_stage_is_refused(
    data: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export = str(tokenizer / "export")
    line = refusal(
        PRIOR,
        monkeypatch,
        capsys,
        "--vqgan",
        export,
        "--start",
        export,
        "--data",
        str(data),
        "--run.out",
        str(tmp_path),
    )
    assert "is not that of a PixelTransformerConfig" in line
