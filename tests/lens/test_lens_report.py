"""What the report says, where the answer is known: counts by hand, scipy's binomial, an editor that does nothing."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor, nn

from hubmodels.lens import report as measured
from hubmodels.lens.classifier import Trained
from hubmodels.lens.data import Pictures, Row
from hubmodels.lens.filters import FILTERS
from hubmodels.lens.model import drawn

CLASSES = ("dark", "grey", "bright")


class Level(nn.Module):
    """Says how bright a picture is: three classes around -0.6, 0 and 0.6."""

    def __init__(self, sharp: float = 8.0) -> None:
        super().__init__()
        self.sharp = sharp

    def forward(self, pixels: Tensor, output_hidden_states: bool = False) -> Any:
        mean = pixels.mean((1, 2, 3))
        logits = -self.sharp * (mean[:, None] - torch.tensor([-0.6, 0.0, 0.6])).square()
        return SimpleNamespace(logits=logits, hidden_states=[pixels])


def reader(sharp: float = 8.0) -> Trained:
    return Trained(Level(sharp), CLASSES, [0, 1, 2], 16, torch.full((3,), 0.5), torch.full((3,), 0.5))


def pictures(count: int, seed: int = 0) -> Pictures:
    """Of which some are on the wrong side of where classes meet."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    means = (labels - 1) * 0.6 + 0.3 * torch.randn(count, generator=generator)
    rows = (
        means.clamp(-0.9, 0.9)[:, None, None, None] + 0.05 * torch.randn(count, 3, 16, 16, generator=generator)
    ).clamp(-1, 1)
    return Pictures(CLASSES, tuple(Row(n, int(labels[n])) for n in range(count)), lambda n: rows[int(str(n))])


class Editor:
    """A lens that shifts pictures by so much, away from the middle, and by a bit of noise."""

    def __init__(self, shift: float, noise: float = 0.0) -> None:
        self.shift, self.noise = shift, noise
        self.config: Any = SimpleNamespace(rank=4, steps=20, strength=0.15, size=16, dataset="camo", corruption="")
        self.here = shift

    def edit(self, given: Tensor, seed: int = 0) -> Tensor:
        noise = self.noise * drawn(given, seed)
        return (given + noise + self.here * given.mean((1, 2, 3), keepdim=True).sign()).clamp(-1, 1)

    def roundtrip(self, given: Tensor) -> Tensor:
        return given

    @contextmanager
    def as_base(self) -> Iterator[None]:
        self.here = 0.0
        yield
        self.here = self.shift

    def parameters(self) -> Iterator[Tensor]:
        yield torch.zeros(10)


def steps(some: Iterable, what: str) -> Iterable:
    return some


def found(shift: float, count: int = 60) -> dict:
    lens: Any = Editor(shift)
    return measured.report(lens, reader(), reader(4.0), pictures(45, 1), pictures(count), 0, steps)


def test_an_editor_that_does_nothing_changes_nothing() -> None:
    result = found(0.0)
    for name in ("vae", "base", "tuned", "ensemble", "gated", "best_of"):
        one, raw = result["ways"][name], result["ways"]["raw"]
        assert one["top1"] == raw["top1"] and one["nll"] == pytest.approx(raw["nll"], abs=1e-4), name
        assert (one["raw"]["fixed"], one["raw"]["broken"], one["raw"]["p"]) == (0, 0, 1.0)
        assert one["raw"]["gain_interval"] == (0.0, 0.0) and one["l1"] == 0 and one["ssim"] == pytest.approx(1)
    json.dumps(result)


def test_an_editor_that_does_something_is_counted() -> None:
    result = found(0.4)
    given = pictures(60)
    seen, labels = measured.stacked(given)
    lens: Any = Editor(0.4)
    before, after = (reader()(x).argmax(1) == labels for x in (seen, lens.edit(seen)))
    tuned = result["ways"]["tuned"]
    fixed, broken = int((after & ~before).sum()), int((before & ~after).sum())
    assert fixed != broken
    assert (tuned["raw"]["fixed"], tuned["raw"]["broken"]) == (fixed, broken)
    assert tuned["raw"]["gain"] == pytest.approx((fixed - broken) / 60, abs=1e-4)
    low, high = tuned["raw"]["gain_interval"]
    assert low <= tuned["raw"]["gain"] <= high
    assert tuned["top1"] == pytest.approx(float(after.float().mean()), abs=1e-4)
    assert set(FILTERS) < set(result["ways"])
    ensemble = (reader()(seen) + reader()(lens.edit(seen))).argmax(1) == labels
    assert result["ways"]["ensemble"]["top1"] == pytest.approx(float(ensemble.float().mean()), abs=1e-4)
    sure = reader()(seen).softmax(1).amax(1) >= result["gate"]
    gated = torch.where(sure, before, after).float().mean()
    assert result["ways"]["gated"]["top1"] == pytest.approx(float(gated), abs=1e-4)


def test_the_surest_is_chosen_from_different_edits() -> None:
    lens: Any = Editor(0.4, 0.5)
    every, _ = measured.readings(lens, reader(), reader(4.0), pictures(60), 3, steps, best_of=4)
    one, _ = measured.readings(lens, reader(), reader(4.0), pictures(60), 3, steps, best_of=1)
    assert torch.equal(every["tuned"].logits, one["tuned"].logits)
    surer = every["best_of"].confidence - one["best_of"].confidence
    assert (surer >= 0).all() and 0.6 < float((surer > 0).float().mean()) < 0.9, "three of four times another is surer"


@pytest.mark.parametrize(("fixed", "broken"), [(0, 0), (1, 0), (5, 5), (3, 14), (339, 225), (735, 82)])
def test_mcnemar_is_the_binomial_test(fixed: int, broken: int) -> None:
    wanted = binomtest(fixed, fixed + broken).pvalue if fixed + broken else 1.0
    assert measured.mcnemar(fixed, broken) == pytest.approx(wanted, rel=1e-9)


def test_calibration_in_closed_form() -> None:
    sure = torch.tensor([[4.0, 0.0]]).expand(10, 2)
    confidence = float(torch.tensor([4.0, 0.0]).softmax(0)[0])
    labels = torch.tensor([0] * 7 + [1] * 3)
    assert measured.calibration_error(sure, labels) == pytest.approx(confidence - 0.7, abs=1e-6)


def test_an_interval_is_that_of_the_binomial() -> None:
    values = torch.tensor([1.0] * 300 + [0.0] * 700)
    low, high = measured.interval(values)
    assert low == pytest.approx(0.3 - 1.96 * (0.21 / 1000) ** 0.5, abs=0.004)
    assert high == pytest.approx(0.3 + 1.96 * (0.21 / 1000) ** 0.5, abs=0.004)


def test_the_verdict_is_plain_about_filters_and_the_judge() -> None:
    result = found(0.4)
    best, name = result["filter"], result["chosen"]
    assert "points to not editing" in measured.verdict(result)
    result["ways"][best]["top1"] = 0.99
    assert f"A filter that learned nothing, {best}, reads 99.0% and beats it." in measured.verdict(result)
    result["ways"][name]["judge"]["gain"] = -result["ways"][name]["raw"]["gain"]
    assert "does not agree" in measured.verdict(result)


def test_it_is_written_for_people_too(tmp_path: Path) -> None:
    result, lens, given = found(0.4), Editor(0.4), pictures(60)
    shown: Any = lens
    files = measured.publish(shown, reader(), result, given, 0, tmp_path / "deep" / "report.json")
    assert {path.name for path in files} == {"report.json", "report.html", "edits.png", "fixed.png", "broken.png"}
    assert all(path.is_file() for path in files)
    assert json.loads(files[0].read_text())["pictures"] == 60
    page = files[1].read_text()
    assert "edits.png" in page and "<b>" not in page and "**" not in page
    assert measured.table(result).count("\n") == len(result["ways"]) + 1
    card = measured.card(shown, result)
    assert "{" not in card and "Animal-MNIST" in card


def test_what_a_classifier_reads_alone() -> None:
    text = measured.recognised(reader(), pictures(60))
    seen, labels = measured.stacked(pictures(60))
    share = float((reader()(seen).argmax(1) == labels).float().mean())
    assert f"| 60 | {share:.1%} | 100.0% | 100.0% |" in text and "| bright |" in text
