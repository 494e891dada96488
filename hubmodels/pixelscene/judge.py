"""Does a picture show what its caption says? A small network that learned on the pictures of a training split says so.

    pictures (B, 3, 100, 160) OKLab --Judge--> logits of each place, time, weather and thing

It is trained anew for each report, in some minutes, and judges pictures that no training had: painted ones, whose
score says how well it can see, then drawn ones, and these for the captions of others. `things` counts in equal parts
the things that a caption names and those that its place never has: a picture of everything gains nothing.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset as Table
from numpy import ndarray as Array
from torch import Tensor, nn

from hubmodels.pixelscene.data import read
from hubmodels.pixelscene.palettes import oklab
from hubmodels.pixelscene.procedural import SKIES_SAID

Progress = Callable[[Iterable, str], Iterable]
SEEN = 100, 160
"""Rows and columns: half a picture's."""
WIDTHS = 16, 48, 96, 160
GROUPS = 8
KINDS = "place", "time", "weather"
EPOCHS, BATCH, LR = 6, 32, 2e-3
NEVER_RARER = 8.0
"""By how much at most a thing counts more where it is than where it is not."""


@dataclass(frozen=True)
class Facts:
    """What a caption says."""

    place: str = ""
    time: str = ""
    weather: str = ""
    things: tuple[str, ...] = ()


@dataclass(frozen=True)
class Terms:
    """All that a training split says of its pictures."""

    values: dict[str, list[str]]
    """Of each kind."""
    things: list[str]
    never: dict[str, list[str]] = field(default_factory=dict)
    """Of a place, the things that it never has."""

    @property
    def width(self) -> int:
        return sum(map(len, self.values.values())) + len(self.things)


class Judge(nn.Module):
    """Convolutions, then all that is seen anywhere."""

    def __init__(self, terms: Terms) -> None:
        super().__init__()
        self.terms = terms
        self.layers = nn.ModuleList()
        before = 3
        for width in WIDTHS:
            self.layers.append(nn.Conv2d(before, width, 5 if before == 3 else 3, 2, 1))
            before = width
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, width) for width in WIDTHS)
        self.leave = nn.Linear(2 * WIDTHS[-1], terms.width)

    def forward(self, pictures: Tensor) -> Tensor:
        x = pictures
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.silu(norm(layer(x)))
        return self.leave(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1))

    def split(self, logits: Tensor) -> dict[str, Tensor]:
        """Of each kind, and of the things."""
        sizes = [len(values) for values in self.terms.values.values()] + [len(self.terms.things)]
        return dict(zip([*self.terms.values, "things"], logits.split(sizes, -1), strict=True))


def facts(row: dict[str, Any]) -> Facts:
    """What the caption of a painted picture says: its place, its hour outside, the weather and things if it says so."""
    caption = row["caption"].lower()
    weather = any(phrase and phrase in caption for phrase in SKIES_SAID.get(row["weather"], ()))
    said = tuple(thing for thing in row["objects"] if re.search(rf"\b{re.escape(thing)}\b", caption))  # not: sunset
    return Facts(row["place"], row["time"], row["weather"] if weather else "", said)


def terms(table: Table) -> Terms:
    """Of a training split of painted pictures.

    Raises:
        ValueError: its rows do not say what they show.
    """
    rows = table.select_columns([*KINDS, "objects"])[:]
    values = {kind: sorted({value for value in rows[kind] if value}) for kind in KINDS}
    things = sorted({thing for objects in rows["objects"] for thing in objects})
    if not things or not all(values.values()):
        raise ValueError("pictures are judged by what painted ones show: build data with --source procedural")
    has: dict[str, set[str]] = {place: set() for place in values["place"]}
    for place, objects in zip(rows["place"], rows["objects"], strict=True):
        has.get(place, set()).update(objects)
    return Terms(values, things, {place: sorted(set(things) - own) for place, own in has.items()})


def seen(indices: Array, palette: Array) -> Array:
    """(3, 100, 160) float32 OKLab at half size: the middle of a picture, with its edges repeated if it is smaller."""
    height, width = (2 * side for side in SEEN)
    room = [(max(0, want - side), side) for want, side in zip((height, width), indices.shape, strict=True)]
    padded = np.pad(indices, [(short // 2, short - short // 2) for short, _ in room], mode="edge")
    top, left = ((side - want) // 2 for side, want in zip(padded.shape, (height, width), strict=True))
    lab = oklab(palette)[padded[top : top + height, left : left + width]]
    return lab.reshape(SEEN[0], 2, SEEN[1], 2, 3).mean((1, 3)).transpose(2, 0, 1).astype(np.float32)


def trained(table: Table, seed: int, progress: Progress) -> Judge:
    """A judge that learned on painted pictures.

    Raises:
        ValueError: their rows do not say what they show.
    """
    known = terms(table)
    rows = [table[number] for number in progress(range(len(table)), "pictures for the judge")]
    pictures = torch.from_numpy(np.stack([seen(*read(row)) for row in rows]))
    targets = torch.stack([_target(row, known) for row in rows])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        judge = Judge(known)
        optimizer = torch.optim.AdamW(judge.parameters(), LR, weight_decay=0.05)
        steps = EPOCHS * -(-len(rows) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, steps)
        present = targets[:, -len(known.things) :].mean(0)
        weight = ((1 - present) / present.clamp(min=1e-3)).clamp(max=NEVER_RARER)
        for _ in progress(range(EPOCHS), "the judge learns"):
            for numbers in torch.randperm(len(rows)).split(BATCH):
                batch = pictures[numbers]
                batch = torch.where(torch.rand(len(batch), 1, 1, 1) < 0.5, batch.flip(-1), batch)
                loss = _loss(judge, judge(batch), targets[numbers], weight)
                loss.backward()
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
    return judge.eval()


def _target(row: dict[str, Any], known: Terms) -> Tensor:
    """(width,): 1 for what is there; of a kind that is not said, nothing is."""
    there = {row[kind] for kind in KINDS} | {("thing", thing) for thing in row["objects"]}
    columns = [value in there for kind in KINDS for value in known.values[kind]]
    return torch.tensor(columns + [("thing", thing) in there for thing in known.things]).float()


def _loss(judge: Judge, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    said, wanted = judge.split(logits), judge.split(target)
    sums = [-(wanted[kind] * said[kind].log_softmax(-1)).sum(-1).mean() for kind in KINDS]
    things = F.binary_cross_entropy_with_logits(said["things"], wanted["things"], pos_weight=weight)
    return torch.stack(sums).sum() + 10 * things


@torch.inference_mode()
def agreement(judge: Judge, pictures: Sequence[tuple[Array, Array]], said: Iterable[Facts]) -> dict[str, float]:
    """Shares of what captions say that the judge sees in their pictures; `all` is their mean.

    Args:
        pictures: indices and palette of each.
        said: by the caption of each.

    Raises:
        ValueError: they say nothing that it knows.
    """
    logits = torch.cat([judge(torch.from_numpy(seen(*picture))[None]) for picture in pictures])
    told = judge.split(logits)
    places, hits = {thing: number for number, thing in enumerate(judge.terms.things)}, {kind: [] for kind in KINDS}
    named, absent = [], []
    for row, fact in enumerate(said):
        for kind in KINDS:
            value = getattr(fact, kind)
            if value in judge.terms.values[kind]:
                hits[kind].append(judge.terms.values[kind][int(told[kind][row].argmax())] == value)
        there = told["things"][row] > 0
        named += [bool(there[places[thing]]) for thing in fact.things if thing in places]
        absent += [not there[places[thing]] for thing in judge.terms.never.get(fact.place, ())]
    scores = {kind: _share(found) for kind, found in hits.items() if found}
    if named and absent:
        scores["things"] = (_share(named) + _share(absent)) / 2
    if not scores:
        raise ValueError("no caption says what the judge knows: judge painted pictures")
    return scores | {"all": float(np.mean([*scores.values()]))}


def _share(found: list[bool]) -> float:
    return float(np.mean(found))
