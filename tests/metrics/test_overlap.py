import pytest
import torch

from hubmodels.metrics import iou


def test_against_sets_of_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(2, 6, 5, 7, generator=generator) < 0.4).unbind()
    for ours, here, there in zip(iou(a, b), a, b, strict=True):
        one, other = ({tuple(p) for p in mask.nonzero().tolist()} for mask in (here, there))
        assert ours.item() == pytest.approx(len(one & other) / len(one | other))


def test_empty_masks() -> None:
    empty, full = torch.zeros(1, 4, 4, dtype=torch.bool), torch.ones(1, 4, 4, dtype=torch.bool)
    assert iou(empty, empty).tolist() == [1]
    assert iou(empty, full).tolist() == iou(full, empty).tolist() == [0]
    assert iou(full, full).tolist() == [1]


def test_what_are_no_masks() -> None:
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="bool"):
        iou(mask, mask.float())
    with pytest.raises(ValueError, match=r"\(B, H, W\)"):
        iou(mask, mask[0])
