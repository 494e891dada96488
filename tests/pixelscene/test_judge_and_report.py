"""The judge and the report: they must tell pictures that keep to their captions, and copies, from those that do not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset as Table
from test_scene import PALETTE, models

from datasets_builders.pixelscene import Config, build
from hubmodels.pixelscene import judge, report
from hubmodels.pixelscene.data import opened, read
from hubmodels.pixelscene.judge import Facts, Judge, Terms, agreement, facts, seen, terms
from hubmodels.pixelscene.palettes import BUILT_IN, oklab
from hubmodels.pixelscene.scene import Pair
from hubmodels.pixelscene.twins import Tokenizer, Transformer

KNOWN = Terms(
    {"place": ["cave", "wood"], "time": ["day", "night"], "weather": ["clear", "rain"]},
    ["moon", "trees", "torch"],
    {"cave": ["moon", "trees"], "wood": ["torch"]},
)


def still(rows, what: str):
    return rows


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "vga"
    build(Config(folder, rows=60, workers=1))
    return folder


class Sure(Judge):
    """It always says the same."""

    def __init__(self, said: list[float]) -> None:
        super().__init__(KNOWN)
        self.said = torch.tensor([said])

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.said.expand(len(pictures), -1)


def test_agreement_is_the_share_of_what_is_said() -> None:
    picture = (np.zeros((200, 320), np.uint8), PALETTE)
    # a wood by night, clear; it sees the moon and a torch, no trees
    sure = Sure([0, 1, 0, 1, 1, 0, 5, -5, 5])
    said = [Facts("wood", "night", "", ("moon", "trees")), Facts("cave", "day", "rain", ("torch",))]
    scores = agreement(sure, [picture] * 2, said)
    # named: moon yes, trees no, torch yes; absent: torch of the wood no; moon of the cave no, its trees yes
    assert scores == pytest.approx({
        "place": 0.5, "time": 0.5, "weather": 0, "things": (2 / 3 + 1 / 3) / 2, "all": (0.5 + 0.5 + 0 + 0.5) / 4,
    })  # fmt: skip
    everything = Sure([0, 1, 0, 1, 1, 0, 5, 5, 5])
    assert agreement(everything, [picture] * 2, said)["things"] == 0.5, "a picture of everything gains nothing"
    with pytest.raises(ValueError, match="judge painted pictures"):
        agreement(sure, [picture], [Facts()])


def test_facts_are_what_the_caption_says() -> None:
    row = {"place": "castle", "time": "night", "weather": "clear", "objects": ["moon", "lake", "hills"]}
    said = facts(row | {"caption": "A haunted castle at night: a lake and the Moon"})
    assert said == Facts("castle", "night", "", ("moon", "lake")), "neither hills nor the weather"
    assert facts(row | {"caption": "A castle under a clear sky at night"}).weather == "clear"
    assert facts(row | {"caption": "A castle at sunset", "objects": ["sun", "set"]}).things == ()


def test_a_judge_sees_the_middle_at_half_size() -> None:
    rng = np.random.default_rng(0)
    indices = rng.integers(0, 16, (200, 320), dtype=np.uint8)
    palette = BUILT_IN["ega"]
    own = seen(indices, palette)
    lab = oklab(palette)[indices]
    assert own.shape == (3, 100, 160)
    np.testing.assert_allclose(own[:, 7, 11], lab[14:16, 22:24].mean((0, 1)), atol=1e-6)
    lower = seen(indices[:192], palette)
    np.testing.assert_allclose(lower[:, 2:98], own[:, :96], atol=1e-6)
    wide = seen(rng.integers(0, 16, (240, 400), dtype=np.uint8), palette)
    assert wide.shape == (3, 100, 160)


def test_what_a_training_split_says(data: Path) -> None:
    table = opened((str(data),), "train")
    known = terms(table)
    assert "castle" in known.values["place"] and "" not in known.values["time"]
    forests = {
        thing
        for row in table.select_columns(["place", "objects"])
        if row["place"] == "forest"
        for thing in row["objects"]
    }
    assert forests and not forests & set(known.never["forest"])
    games = Table.from_list([{"place": "", "time": "", "weather": "", "objects": ["door"]}])
    with pytest.raises(ValueError, match="--source procedural"):
        terms(games)


def test_a_judge_learns_its_pictures_and_takes_shuffled_ones_for_wrong(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "EPOCHS", 30)
    table = opened((str(data),), "train").select(range(24))
    learned = judge.trained(table, 0, still)
    rows = [table[row] for row in range(len(table))]
    pictures, said = [read(row) for row in rows], [facts(row) for row in rows]
    own, other = agreement(learned, pictures, said), agreement(learned, pictures, said[5:] + said[:5])
    assert own["all"] > 0.9 > 0.6 > other["all"], (own, other)
    again = judge.trained(table, 0, still)
    assert all(torch.equal(a, b) for a, b in zip(learned.parameters(), again.parameters(), strict=True))


def test_a_copy_is_near_and_mirrored_too() -> None:
    rng = np.random.default_rng(3)
    pictures = [(rng.integers(0, len(PALETTE), (200, 320), dtype=np.uint8), PALETTE) for _ in range(3)]
    known = np.stack([report.coarse(picture) for picture in pictures])
    mirrored = pictures[2][0][:, ::-1], PALETTE
    apart, which = report.nearest([pictures[1], mirrored, (pictures[0][0] // 2, PALETTE)], known)
    assert which.tolist()[:2] == [1, 2] and apart[:2] == pytest.approx([0, 0], abs=1e-3) and apart[2] > 1


def test_copies_of_training_pictures_are_counted(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)

    def worn(vqgan, picture):
        """What a fair tokenizer gives back: some pixels are others."""
        lost = rng.random(picture[0].shape) < 0.05
        return picture[0], np.where(lost, rng.permutation(picture[0].ravel()).reshape(lost.shape), picture[0]), None

    monkeypatch.setattr(report, "rebuilt", worn)
    train = opened((str(data),), "train").select(range(12))
    indices, palette = read(train[5])
    noise = [(rng.integers(0, 256, (200, 320), dtype=np.uint8), palette) for _ in range(3)]
    made = [read(train[3]), (indices[:, ::-1], palette), *noise]
    found, near = report.remembered(models()[0], made, noise[:1] + made[:1], train, still)
    assert found["near_copies"] == 2 and found["near_by_chance"] == 1, found
    assert found["drawn"]["least"] < 1e-3 < found["copy"] < found["drawn"]["median"]
    assert (near[0][0] == made[0][0]).all() and (near[1][0] == indices).all()


def test_blank_pictures_do_not_agree(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "EPOCHS", 20)
    table = opened((str(data),), "train").select(range(24))
    learned = judge.trained(table, 0, still)
    pictures, said = [read(row) for row in table], [facts(row) for row in table]
    blank = [(np.zeros_like(indices), palette) for indices, palette in pictures]
    assert agreement(learned, blank, said)["all"] < 0.6 * agreement(learned, pictures, said)["all"]


def test_targets_are_met_and_missed() -> None:
    good = {
        "pictures": {"painted": 300, "real": 30, "drawn": 128},
        "tokenizer": {"painted": {"usage": 0.9, "psnr": 24.0}, "real": {"psnr": 21.0}},
        "exact_palette": 1.0,
        "agreement": {"painted": {"all": 1.0}, "drawn": {"all": 0.9}, "shuffled": {"all": 0.4}},
        "memory": {"near_copies": 0},
    }
    assert all(line["met"] for line in report.targets(good))
    worse = {
        "pictures": good["pictures"],
        "tokenizer": {"painted": {"usage": 0.89, "psnr": 23.9}, "real": {"psnr": 20.9}},
        "exact_palette": 0.9999,
        "agreement": {"painted": {"all": 1.0}, "drawn": {"all": 0.89}, "shuffled": {"all": 0.8}},
        "memory": {"near_copies": 1},
    }
    assert not any(line["met"] for line in report.targets(worse))


def test_exact_share_sees_colours_that_a_card_has_not() -> None:
    indices = np.arange(256, dtype=np.uint8).reshape(8, 32)
    assert report.exact_share([(indices, BUILT_IN["vga"])]) == 1
    other = BUILT_IN["vga"].copy()
    other[0] = 1, 2, 3
    assert report.exact_share([(indices, other)]) == 255 / 256


def test_a_report_says_everything(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "EPOCHS", 1)
    monkeypatch.setattr(report, "TILED", 1)
    monkeypatch.setattr(report, "TWINS", 1)
    vqgan, prior = models()
    pair = Pair(vqgan, prior, "digest", 123)
    twin = Pair(Tokenizer(vqgan), Transformer(prior), "digest", 123)
    sets = report.data_of(str(data), "")
    some = sets.painted.select(range(3))
    sets = replace(sets, train=sets.train.select(range(20)), painted=some, real=some)
    result, made = report.report(pair, twin, sets, 2, 1, still)
    assert result["exact_palette"] == 1 and len(made) == 2
    assert result["pictures"] == {"painted": 3, "real": 3, "drawn": 2}
    assert result["twin"] == {"pixels": 1.0, "colours": 1.0}
    assert result["tokenizer"]["painted"] == pytest.approx(result["tokenizer"]["real"]), "of the same pictures"
    assert {who: one["all"] for who, one in result["agreement"].items()}.keys() == {"painted", "drawn", "shuffled"}
    written = report.publish(pair, result, made, sets, tmp_path / "new" / "report.json")
    assert [path.name for path in written] == ["report.json", "drawn.png", "nearest.png", "rebuilt.png"]
    cards = report.cards(result, pair, ["How it went", ""], report.notices(sets.train), "| a | 1 dB |")
    for card in cards:
        assert report.table(result) in card and "procedural: CC0-1.0" in card
        assert "On 3 painted pictures and 3 pictures of games" in card and "captions of 2 painted" in card
        assert "{" not in card and "nan" not in card
    assert ["| a | 1 dB |" in card for card in cards] == [True, False]
