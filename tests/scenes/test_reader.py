"""The reader against the renderer: what was drawn is known, so every reading can be marked."""

import random

import pytest
import torch

from hubmodels.scenes import Scene, agrees, parse, place, read, render, sample
from hubmodels.scenes.splits import unplaced

SAMPLES = 400


def marks(scenes: list[Scene], pictures: torch.Tensor) -> list[bool]:
    seen = [one for start in range(0, len(pictures), 64) for one in read(pictures[start : start + 64])]
    return [agrees(one, unplaced(scene)).exact for one, scene in zip(seen, scenes, strict=True)]


@pytest.fixture(scope="module")
def drawn() -> tuple[list[Scene], torch.Tensor]:
    rng = random.Random("reader")
    scenes = [place(sample(rng), seed) for seed in range(SAMPLES)]
    return scenes, render(scenes)


def test_reads_what_the_renderer_draws(drawn: tuple[list[Scene], torch.Tensor]) -> None:
    scenes, pictures = drawn
    assert sum(marks(scenes, pictures)) >= 0.995 * SAMPLES
    placed = [agrees(one, scene).place_error for one, scene in zip(read(pictures[:64]), scenes[:64], strict=True)]
    assert sum(error == 0 for error in placed) >= 63


def test_another_caption_is_not_read_into_a_picture(drawn: tuple[list[Scene], torch.Tensor]) -> None:
    scenes, pictures = drawn
    assert sum(marks(scenes, pictures.roll(1, 0))) == 0


@pytest.mark.parametrize(("damage", "least"), [("noise", 0.97), ("blur", 0.9), ("shift", 0.95), ("dark", 0.97)])
def test_tolerates_what_a_good_student_gets_wrong(
    drawn: tuple[list[Scene], torch.Tensor], damage: str, least: float
) -> None:
    scenes, pictures = (part[:160] for part in drawn)
    levels = pictures.float()
    if damage == "noise":
        levels += 8 * torch.randn(levels.shape, generator=torch.Generator().manual_seed(0))
    elif damage == "blur":
        kernel = torch.tensor([0.1, 0.8, 0.1])
        kernel = (kernel[:, None] * kernel).expand(3, 1, 3, 3)
        levels = torch.nn.functional.conv2d(
            torch.nn.functional.pad(levels, (1,) * 4, mode="replicate"), kernel, groups=3
        )
    elif damage == "shift":
        levels = levels + 6
    else:
        levels *= 0.94
    damaged = levels.round().clamp(0, 255).to(torch.uint8)
    assert sum(marks(scenes, damaged)) >= least * len(scenes)


SAME_COLOR = ("on", "under", "in front of", "behind", "left of", "above")


@pytest.mark.parametrize("relation", SAME_COLOR)
def test_things_of_one_colour_in_contact(relation: str) -> None:
    shapes = ("cube", "ball", "block", "triangle", "star", "diamond", "ring", "cross")
    scenes = [place(parse(f"The red {a} is {relation} the red {b}."), 3) for a in shapes for b in shapes]
    assert sum(marks(scenes, render(scenes))) >= 62  # of 64


def test_a_thing_inside_another_of_its_colour() -> None:
    shapes = ("cube", "ball", "block", "triangle", "star", "diamond", "ring", "cross")
    captions = [f"The small red {a} is inside the large red {b}." for a in shapes for b in ("ball", "cube", "diamond")]
    scenes = [place(parse(said), 5) for said in captions]
    assert sum(marks(scenes, render(scenes))) >= 20  # of 24: small outlines are all there is to see


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
