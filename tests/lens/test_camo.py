"""Scenes whose truth is known: whose parts they are, where animals are, what can be seen of them."""

import hashlib

import numpy as np
import pytest
import torch

from hubmodels.lens import camo


def test_a_scene_depends_on_split_seed_and_row_alone() -> None:
    many = camo.scenes("train", 3, range(40))
    some = camo.scenes("train", 3, [33, 5])
    for field in ("pictures", "masks", "labels", "alphas", "silhouettes", "textures"):
        assert torch.equal(getattr(some, field), getattr(many, field)[[33, 5]]), field
    picture, mask, label = camo.scene("train", 3, 33)
    assert torch.equal(mask, many.masks[33]) and label == 3
    assert torch.equal(((picture + 1) * 127.5).round().to(torch.uint8), many.pictures[33])
    assert not torch.equal(camo.scenes("train", 4, [5]).pictures, some.pictures[1:])


def test_the_same_bytes_on_every_machine() -> None:
    made = camo.scenes("test", 0, range(20), "noise")
    digest = hashlib.sha256(made.pictures.numpy().tobytes() + made.masks.numpy().tobytes()).hexdigest()
    assert digest == "2ec88ca8be0bc0c0a77bbdaba599710359c9bb5e10790ca38e7eeda88a815148"


def test_splits_share_neither_silhouettes_nor_textures() -> None:
    made = {split: camo.scenes(split, 0, range(300), "clear", 16) for split in camo.SPLITS}
    tiles = camo.shapes().cover
    for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not set(made[first].textures.tolist()) & set(made[second].textures.tolist())
        seen = {tiles[number].tobytes() for number in made[first].silhouettes.tolist()}
        others = [tiles[number] for number in made[second].silhouettes.tolist()]
        assert not any(tile.tobytes() in seen or tile[:, ::-1].tobytes() in seen for tile in others)


def test_all_silhouettes_are_used_and_different() -> None:
    found = camo.shapes()
    assert sum(len(numbers) for numbers in found.members.values()) == len(found.cover)
    assert len({tile.tobytes() for tile in found.cover}) == len(found.cover)
    for split, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
        count = sum(len(numbers) for (name, _), numbers in found.members.items() if name == split)
        assert count / len(found.cover) == pytest.approx(share, abs=0.02)


def test_tasks_hide_the_same_scene_in_other_ways() -> None:
    made = {task: camo.scenes("train", 1, range(50), task) for task in camo.TASKS}
    for task, scenes in made.items():
        assert torch.equal(scenes.masks, made["clear"].masks), task
        assert torch.equal(scenes.labels, torch.arange(50) % 10)
    clear, haze = (made[task].pictures.double() / 255 for task in ("clear", "haze"))
    inside = ((clear > 0.001) & (clear < 0.999)).double()
    faded = 0.5 + (clear - 0.5) * camo.HAZE
    assert float(((haze - faded) * inside).abs().max()) < 1.1 / 255
    noise = camo.scenes("train", 1, range(50), "noise", noise=0.1).pictures.double() / 255
    grey = ((clear > 0.4) & (clear < 0.6)).double()  # where noise is hardly cut off
    spread = (((noise - clear) * grey).square().sum() / grey.sum()).sqrt()
    assert float(spread) == pytest.approx(0.1, rel=0.02)


def test_tints_differ_by_alpha() -> None:
    """Texture and light leave, on the mean, what the tints differ by; the seen difference grows with alpha."""
    seen = []
    for alpha in (0.1, 0.3, 0.6):
        made = camo.scenes("train", 0, range(200), "clear", alpha=(alpha, alpha))
        assert (made.alphas == alpha).all()
        levels, masks = made.pictures.double() / 255, made.masks[:, None]
        figure = (levels * masks).sum((2, 3)) / masks.sum((2, 3))
        ground = (levels * ~masks).sum((2, 3)) / (~masks).sum((2, 3))
        seen.append(float((figure - ground).abs().mean()))
    assert seen == sorted(seen)
    assert seen[2] == pytest.approx(0.3, rel=0.15)  # half of alpha


@pytest.mark.parametrize("size", [16, 64, 200])
def test_animals_are_whole_and_of_the_size_they_should_be(size: int) -> None:
    masks = camo.scenes("validation", 0, range(60), "clear", size).masks.numpy()
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        longest = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
        assert 0.4 * size - 2 <= longest <= size, longest
        assert 0.02 < mask.mean() < 0.8


def test_a_larger_picture_shows_the_same() -> None:
    small = camo.scenes("train", 0, range(30), "clear", 64).masks.float()
    large = camo.scenes("train", 0, range(30), "clear", 128).masks.float()
    halved = torch.nn.functional.avg_pool2d(large[:, None], 2)[:, 0]
    assert float((halved.round() - small).abs().mean()) < 0.02


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "all"}, "split must be one of train, validation, test, got 'all'"),
        ({"task": "fog"}, "task must be one of camouflage, haze, noise, clear, got 'fog'"),
        ({"size": 8}, "size must be from 16 to 512 pixels, got 8"),
        ({"rows": []}, "at least one row"),
        ({"rows": [-1]}, "must not be negative"),
        ({"alpha": (0.5, 0.1)}, r"alpha must be from a number to a larger one, both in \[0, 1\], got 0.5 to 0.1"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        camo.scenes(**{"split": "train", "seed": 0, "rows": [0]} | settings)
