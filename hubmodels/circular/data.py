"""What circular learns from: sentences made up as they are asked for, or those of a built data set.

Batch: tokens (B, T) int64 padded with 0, and heard (B, T), what should be read of their pictures; layout (B, 7, 3)
int64 or None; teacher (L, 3, 64, 64) uint8, pictures of the sentences whose numbers are in `taught` (L,) int64, with
things (L, 64, 64) bool, where they show something.
"""

import random
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from hubmodels.circular.model import RESOLUTION, laid_out
from hubmodels.circular.sentences import Language, encode, is_scene, meaning, sample, split
from hubmodels.scenes import parse, place
from hubmodels.scenes.renderer import draw, pack

Batch = dict[str, Tensor | None]
Wording = Literal["said", "canonical"]
"""What should be read of a picture: the sentence as it was said, or the one that stands for all of its meaning. A scene
does not tell whether the ball was left of the cube or the cube right of the ball; a reader that says all words at once
would mix the two."""


@dataclass(frozen=True)
class Row:
    """A sentence, the seed of its layout, and whether a teacher's picture of it is known."""

    sentence: str
    seed: int
    taught: bool


class Sentences(Dataset):
    """Sentences of one split. Row i is a pure function of (seed, i): the first `grounding` of all rows have teachers.

    Rows with a teacher are few; `lessons` of the rows that training asks for are, at random, among them.
    """

    def __init__(
        self,
        language: Language,
        rows: int,
        seed: int,
        name: str = "train",
        grounding: float = 0.0,
        lessons: float = 0.0,
    ) -> None:
        self.language: Language = language
        self.rows, self.seed, self.name = rows, seed, name
        self.taught = round(grounding * rows)
        self.lessons = lessons if self.taught else 0.0

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> Row:
        if self.lessons and random.random() < self.lessons:
            row = random.randrange(self.taught)
        sentence, seed = self._made(row)
        return Row(sentence, seed, row < self.taught and is_scene(sentence.lower().split()))

    def _made(self, row: int) -> tuple[str, int]:
        rng = random.Random(f"circular {self.seed} {row}")
        while True:
            sentence = sample(self.language, rng)
            if split(sentence) == self.name:
                return sentence, rng.randrange(2**31)


class Stored(Sentences):
    """Sentences of a built data set, a folder or a Hub id: of its `scenes`, its `templates`, or both in turn."""

    def __init__(
        self,
        data: str,
        language: Language,
        seed: int,
        name: str = "train",
        grounding: float = 0.0,
        lessons: float = 0.0,
    ) -> None:
        tables = ("scenes", "templates") if language == "both" else (language,)
        columns = [_column(data, table, name) for table in tables]
        shortest = min(map(len, columns))
        self.sentences = [said for together in zip(*(c[:shortest] for c in columns), strict=True) for said in together]
        super().__init__(language, len(self.sentences), seed, name, grounding, lessons)

    def _made(self, row: int) -> tuple[str, int]:
        return self.sentences[row], random.Random(f"circular {self.seed} {row}").randrange(2**31)


def _column(data: str, table: str, split: str) -> list[str]:
    """Sentences of a table of a built data set.

    Raises:
        FileNotFoundError: there is no such data set, table or split.
    """
    from datasets import load_dataset

    try:
        return load_dataset(data, table, split=split)["caption" if table == "scenes" else "sentence"][:]
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{data} has no {split} sentences in its table {table!r} ({error}): build them with "
            f"python -m datasets_builders.scenes --out {data} --config {table}"
        ) from error


def collate(rows: list[Row], language: Language, layout: bool, wording: Wording = "said") -> Batch:
    """Rows as arrays; teachers draw their pictures now."""
    said = [row.sentence for row in rows]
    heard = said if wording == "said" else [meaning(sentence) for sentence in said]
    tokens = [torch.tensor(encode(sentence, language)) for sentence in [*said, *heard]]
    said_tokens, heard_tokens = nn.utils.rnn.pad_sequence(tokens, batch_first=True).split(len(rows))
    taught = [number for number, row in enumerate(rows) if row.taught]
    scenes = [place(parse(rows[number].sentence), rows[number].seed) for number in taught]
    pictures, instances = draw(pack(scenes), RESOLUTION) if scenes else (None, None)
    return {
        "tokens": said_tokens,
        "heard": heard_tokens,
        "layout": torch.stack([laid_out(row.sentence, row.seed) for row in rows]) if layout else None,
        "teacher": pictures,
        "things": None if instances is None else instances > 0,
        "taught": torch.tensor(taught) if scenes else None,
    }


def loader(rows: Sentences, batch: int, layout: bool, workers: int, wording: Wording = "said") -> DataLoader:
    """Batches of sentences, in an order that the run decides."""
    together = partial(collate, language=rows.language, layout=layout, wording=wording)
    return DataLoader(rows, batch, shuffle=True, collate_fn=together, num_workers=workers, drop_last=True)


def held_out(language: Language, rows: int, seed: int, name: str) -> list[str]:
    """`rows` different sentences of a split that training does not see."""
    source, found, row = Sentences(language, rows, seed, name), {}, 0
    while len(found) < rows:
        found[source._made(row)[0]] = None
        row += 1
    return list(found)
