"""Classifiers: a CLIP beside `transformers`' own, and trained ones by the names of their labels."""

import shutil
from pathlib import Path

import lens_parts
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor, CLIPModel

from hubmodels.hub import HubError
from hubmodels.images import from_pil, to_pil
from hubmodels.lens import tiny
from hubmodels.lens.classifier import loaded

LABELS = ("bear", "bird", "cat")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A CLIP and a residual network, both of random weights."""
    folder = tmp_path_factory.mktemp("readers")
    lens_parts.clip(folder / "clip")
    lens_parts.saved(folder, lens_parts.LABELS)
    return folder / "clip", folder / "reader"


def pictures(size: int = 32) -> torch.Tensor:
    levels = torch.randint(0, 256, (4, size, size, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return torch.stack([from_pil(Image.fromarray(one.numpy())) for one in levels])


def test_a_clip_reads_what_transformers_reads(folders: tuple[Path, Path]) -> None:
    reader = loaded(str(folders[0]), LABELS, "a photo of a {label}")
    model = CLIPModel.from_pretrained(folders[0])
    words = tiny.tokenizer(lens_parts.LABELS)
    said = words(
        [f"a photo of a {label}" for label in LABELS], padding="max_length", max_length=16, return_tensors="pt"
    )
    given = pictures()
    images = [to_pil(picture) for picture in given]
    prepared = CLIPImageProcessor.from_pretrained(folders[0])(images, return_tensors="pt")
    with torch.no_grad():
        wanted = model(pixel_values=prepared.pixel_values, **said)
        logits, features = reader.read(given)
    torch.testing.assert_close(logits, wanted.logits_per_image, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(features, torch.nn.functional.normalize(wanted.image_embeds), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(reader(given), logits)


def test_a_clip_can_be_asked_for_anything(folders: tuple[Path, Path]) -> None:
    reader = loaded(str(folders[0]), LABELS)
    other = reader.asked(["zebra", "cat"])
    assert other.labels == ("zebra", "cat") and other(pictures()).shape == (4, 2)
    torch.testing.assert_close(other(pictures())[:, 1], reader(pictures())[:, 2])


def test_a_trained_one_knows_its_labels(folders: tuple[Path, Path]) -> None:
    reader = loaded(str(folders[1]), ["cat", "bear"])
    every = lens_parts.reader(lens_parts.LABELS).eval()
    with torch.no_grad():
        wanted = every(pictures(16)).logits
    torch.testing.assert_close(reader(pictures(16)), wanted[:, [2, 0]])
    torch.testing.assert_close(reader.asked(["dog", "cat", "bird"])(pictures(16)), wanted[:, [3, 2, 1]])
    with pytest.raises(ValueError, match="'dogg' is not one of them; did you mean dog?"):
        reader.asked(["dogg", "cat"])
    with pytest.raises(ValueError, match="knows 4 labels, and 'zzz' is not one of them: bear, bird, cat, dog"):
        reader.asked(["zzz", "cat"])


@pytest.mark.parametrize("which", [0, 1])
def test_gradients_reach_the_picture_and_no_weight(folders: tuple[Path, Path], which: int) -> None:
    reader = loaded(str(folders[which]), LABELS)
    given = (0.5 * pictures(48)).requires_grad_()  # of another size than it reads
    logits, features = reader.read(given)
    (logits.sum() + features.sum()).backward()
    assert given.grad is not None and given.grad.abs().sum() > 0
    assert not any(weight.requires_grad for weight in reader.parameters())
    torch.testing.assert_close(features.norm(dim=1), torch.ones(4))


def test_what_is_wrong_is_said(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for labels, message in ((["cat", "cat"], "twice: cat"), (["cat"], "two or more")):
        with pytest.raises(ValueError, match=message):
            loaded(str(folders[0]), labels)
    with pytest.raises(ValueError, match="must have {label} in it"):
        loaded(str(folders[0]), LABELS, "a photo")
    with pytest.raises(HubError, match="holds no safetensors, and pickles are never read"):
        loaded(str(tmp_path), LABELS)
    shutil.copy(folders[0] / "model.safetensors", tmp_path)
    with pytest.raises(HubError, match="is no classifier that can be loaded"):
        loaded(str(tmp_path), LABELS)
    with pytest.raises(HubError, match="is a folder and has no revisions"):
        loaded(str(tmp_path), LABELS, revision="main")
    reader = loaded(str(folders[0]), LABELS)
    for wrong in (torch.zeros(1, 1, 32, 32), torch.zeros(1, 3, 1, 1), torch.zeros(3, 32, 32)):
        with pytest.raises(ValueError, match="a classifier reads pictures"):
            reader(wrong)
