"""The reader against the renderer: what was drawn is known, so every reading can be marked."""

import io
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from hubmodels.scenes import Scene, agrees, parse, place, read, render, sample
from hubmodels.scenes.counterfactuals import KINDS, Kind, edits
from hubmodels.scenes.reader import Reading, Thing
from hubmodels.scenes.renderer import drawing_order
from hubmodels.scenes.splits import unplaced
from hubmodels.scenes.world import CONTAINERS, SHAPES

SAMPLES = 300


def marks(scenes: list[Scene], seen: list[Reading]) -> list[bool]:
    return [agrees(one, unplaced(scene)).exact for one, scene in zip(seen, scenes, strict=True)]


@pytest.fixture(scope="module")
def drawn() -> tuple[list[Scene], torch.Tensor]:
    rng = random.Random("reader")
    scenes = [place(sample(rng), seed) for seed in range(SAMPLES)]
    return scenes, render(scenes)


def test_reads_what_the_renderer_draws(drawn: tuple[list[Scene], torch.Tensor]) -> None:
    scenes, pictures = drawn
    seen = read(pictures)
    assert sum(marks(scenes, seen)) >= 0.997 * SAMPLES
    assert sum(marks(scenes, seen[1:] + seen[:1])) == 0  # nobody reads another caption into a picture
    placed = [agrees(one, scene).place_error for one, scene in zip(seen, scenes, strict=True)]
    assert sum(error == 0 for error in placed) >= 0.99 * SAMPLES


def blurred(levels: torch.Tensor, sigma: float) -> torch.Tensor:
    line = torch.exp(-torch.arange(-2, 3).square() / (2 * sigma**2))
    kernel = (line[:, None] * line / line.sum() ** 2).expand(3, 1, 5, 5)
    return F.conv2d(F.pad(levels, (2,) * 4, mode="replicate"), kernel, groups=3)


def moved(levels: torch.Tensor, dx: int, dy: int) -> torch.Tensor:
    return F.pad(levels, (1,) * 4, mode="replicate")[..., 1 - dy : 65 - dy, 1 - dx : 65 - dx]


def compressed(levels: torch.Tensor) -> torch.Tensor:
    """Through JPEG of quality 85, colours at half resolution."""
    pictures = []
    for picture in levels.to(torch.uint8).permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=85)
        pictures.append(np.array(Image.open(file)))
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()


DAMAGES = {
    "noise": lambda levels: levels + 8 * torch.randn(levels.shape, generator=torch.Generator().manual_seed(0)),
    "blur": lambda levels: blurred(levels, 0.6),
    "slight blur": lambda levels: blurred(levels, 0.4),
    "darker": lambda levels: levels * 0.9,
    "brighter": lambda levels: levels * 1.1,
    "lower": lambda levels: levels - 8,
    "higher": lambda levels: levels + 8,
    "jpeg": compressed,
    "moved right": lambda levels: moved(levels, 1, 0),
    "moved up left": lambda levels: moved(levels, -1, -1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_tolerates_what_a_good_student_gets_wrong(drawn: tuple[list[Scene], torch.Tensor], damage: str) -> None:
    scenes, pictures = drawn[0][:80], drawn[1][:80]
    seen = read(DAMAGES[damage](pictures.float()).round().clamp(0, 255).to(torch.uint8))
    assert sum(marks(scenes, seen)) >= 0.97 * len(scenes)
    assert sum(marks(scenes, seen[1:] + seen[:1])) == 0


def perfect(scene: Scene) -> Reading:
    """What a reader that errs in nothing reads."""
    groups = [scene.groups[index] for index in drawing_order(scene)]
    things = tuple(Thing(g.color, g.shape, g.size, where) for g in groups for where in g.places)
    return Reading(scene.background, things, 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_an_edit_is_seen(drawn: tuple[list[Scene], torch.Tensor], kind: Kind) -> None:
    """Neither picture of a pair is read as the other scene, unless the other sentence is true of it too."""
    rng = random.Random(f"edit {kind}")
    pairs = [pair for scene in drawn[0][:50] if (pair := edits(scene, kind, rng)) is not None]
    told = 0
    for here, there in (("before", "after"), ("after", "before")):
        scenes, others = [getattr(pair, here) for pair in pairs], [unplaced(getattr(pair, there)) for pair in pairs]
        for scene, other, seen in zip(scenes, others, read(render(scenes)), strict=True):
            assert agrees(seen, unplaced(scene)).exact
            assert agrees(seen, other).exact == agrees(perfect(scene), other).exact
            told += not agrees(perfect(scene), other).exact
    assert told >= (1.2 if kind == "relation" else 2) * len(pairs) >= 30


SAME_COLOR = ("on", "in front of", "behind", "above")


@pytest.mark.parametrize("relation", SAME_COLOR)
def test_things_of_one_colour_in_contact(relation: str) -> None:
    scenes = [place(parse(f"The red {a} is {relation} the red {b}."), 3) for a in SHAPES for b in SHAPES]
    assert sum(marks(scenes, read(render(scenes)))) >= 63  # of 64


@pytest.mark.parametrize("color", ["red", "orange", "cyan"])
def test_a_thing_inside_another_of_its_colour(color: str) -> None:
    captions = [f"The small {color} {a} is inside the large {color} {b}." for a in SHAPES for b in CONTAINERS]
    scenes = [place(parse(said), 5) for said in captions]
    assert sum(marks(scenes, read(render(scenes)))) >= 23  # of 24: small outlines are all there is to see


def test_a_relation_turned_round_is_false() -> None:
    scene = place(parse("The red ball is in front of the blue cube."), 1)
    (seen,) = read(render([scene]))
    assert agrees(seen, scene).exact
    for wrong in ("behind", "on", "under"):
        verdict = agrees(seen, parse(f"The red ball is {wrong} the blue cube."))
        assert not verdict.exact and verdict.relations == 0 and verdict.color == verdict.shape == 1


def test_attributes_are_marked_one_by_one() -> None:
    (seen,) = read(render([place(parse("There are two red balls. The background is gray."), 0)]))
    verdict = agrees(seen, parse("There are three small blue balls. The background is black."))
    assert (verdict.color, verdict.size, verdict.shape) == (0, 0, pytest.approx(2 / 3))
    assert (verdict.count, verdict.count_error, verdict.background) == (False, 1, False)


def test_nothing_is_seen_where_nothing_is() -> None:
    blank = torch.full((1, 3, 64, 64), 255, dtype=torch.uint8)
    (seen,) = read(blank)
    assert seen.things == () and seen.background == "white"
    noise = torch.randint(0, 256, (4, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert all(len(one.things) <= 8 for one in read(noise))


def test_reading_one_by_one_is_reading_together(drawn: tuple[list[Scene], torch.Tensor]) -> None:
    _, pictures = drawn
    assert read(pictures[:6]) == [read(picture[None])[0] for picture in pictures[:6]]


def test_says_what_it_can_read() -> None:
    with pytest.raises(ValueError, match=r"uint8 \(B, 3, 64, 64\)"):
        read(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(ValueError, match="float32"):
        read(torch.zeros(1, 3, 64, 64))
