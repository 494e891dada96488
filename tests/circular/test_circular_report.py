"""What the report of `circular` measures, against counting by hand and models whose scores are known beforehand."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

from hubmodels import CircularScene, CircularSceneConfig
from hubmodels.circular import report
from hubmodels.circular.data import held_out
from hubmodels.circular.sentences import encode, words
from hubmodels.images import from_uint8, to_uint8

SMALL = {"width": 32, "layers": 1, "heads": 2, "feedforward": 32, "painter": 16, "reader": 16, "reader_layers": 1}


@pytest.fixture(scope="module")
def model() -> CircularScene:
    torch.manual_seed(0)
    return CircularScene(CircularSceneConfig(**SMALL)).eval()


def quiet(steps: Iterable, what: str) -> Iterable:
    return steps


def test_scores_count_words_at_their_places() -> None:
    said = ["The red ball is left of the blue cube.", "a large red ball in the left"]
    heard = ["The blue cube is right of the red ball.", "a large pink ball in the left"]
    found = report.scores(said, heard, "both")
    assert found["exact"] == 0 and found["meaning"] == 0.5  # the first says the same in other words
    assert found == {
        "exact": 0.0,
        "meaning": 0.5,
        "color": 0.0,  # of red, blue, red
        "position": 1.0,
        "relation": 0.0,
        "shape": round(1 / 3, 4),
        "size": 1.0,
    }
    same = report.scores(said, said, "both")
    assert set(same.values()) == {1.0}
    # a reading that breaks off is wrong where it says nothing
    assert report.scores(said[:1], ["There is one red ball."], "both")["color"] == 0


def test_likelihoods_are_sums_over_words(model: CircularScene) -> None:
    said = held_out("both", 5, 0, "test")
    chances = model.log_probabilities(report.painted(model, said, 0))
    found = report._likelihoods(model, chances, said)
    for row in range(5):
        for column, sentence in enumerate(said):
            tokens = encode(sentence, "both")[1:]
            by_hand = sum(float(chances[row, at, token]) for at, token in enumerate(tokens))
            assert found[row, column].item() == pytest.approx(by_hand, rel=1e-5)


class Telling:
    """A model that cannot err: its picture is the number of the sentence, its reader looks that up."""

    config = CircularSceneConfig()

    def __init__(self, said: list[str]) -> None:
        self.said = list(said)

    def paint(self, sentences: list[str], seed: int | None = None) -> Tensor:
        for sentence in sentences:
            if sentence not in self.said:
                self.said.append(sentence)
        numbers = torch.tensor([self.said.index(sentence) for sentence in sentences], dtype=torch.uint8)
        return from_uint8(numbers.view(-1, 1, 1, 1).expand(-1, 3, 64, 64))

    def log_probabilities(self, pictures: Tensor) -> Tensor:
        numbers = to_uint8(pictures)[:, 0, 0, 0].tolist()
        chances = torch.full((len(numbers), 39, len(self.config.vocabulary.split())), -9.0)
        for row, number in enumerate(numbers):
            for at, token in enumerate(encode(self.said[number % len(self.said)], "both")[1:]):
                chances[row, at, token] = 0.0
        return chances

    def read(self, pictures: Tensor) -> list:
        return report.likeliest(self.log_probabilities(pictures), "both")

    def tokenized(self, sentences: list[str], seed: int = 0) -> Any:
        rows = [torch.tensor(encode(sentence, "both")) for sentence in sentences]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), None


def test_a_model_that_cannot_err_and_one_that_says_nothing() -> None:
    said = held_out("both", 40, 0, "test")
    telling: Any = Telling(said)
    heard, carried = report.roundtrips(telling, said, 0)
    assert heard == said and carried > 1
    pictures = report.painted(telling, said, 0)
    shuffled = report.scores(said, report.read_back(telling, pictures.roll(1, 0)), "both")
    assert shuffled["exact"] == 0
    swaps = report.swapped(telling, said, 0)
    assert sum(found["pairs"] for found in swaps.values()) == len(said)
    assert all(found["success"] == found["exact"] == 1 and found["same"] == 0 for found in swaps.values())

    silent: Any = Telling(said)
    silent.paint = lambda sentences, seed=None: torch.zeros(len(sentences), 3, 64, 64)
    heard, carried = report.roundtrips(silent, said, 0)
    assert len(set(heard)) == 1 and carried == 0
    swaps = report.swapped(silent, said, 0)
    assert all(found["same"] == 1 and found["changed"] == 0 for found in swaps.values())


def test_retrieval_ranks_all_pictures(model: CircularScene) -> None:
    said = held_out("both", 30, 0, "test")
    pictures = report.painted(model, said, 0)
    found = report.retrieval(model, said, pictures)
    chances = report._likelihoods(model, model.log_probabilities(pictures), said).log_softmax(1)
    first = [all(chances[other, own] <= chances[own, own] for other in range(30)) for own in range(30)]
    assert found["likelihood_first"] == pytest.approx(sum(first) / 30, abs=1e-4) and found["pictures"] == 30
    assert found["likelihood_first_5"] >= found["likelihood_first"]


def test_the_teachers_pictures_are_what_the_oracle_reads() -> None:
    said = held_out("scenes", 12, 0, "test")
    assert report.oracle(said, report.taught(said, 3))["exact"] >= 0.9
    assert report.oracle(said, report.taught(said, 3).roll(1, 0))["exact"] == 0


def test_noises_are_mild_and_not_those_of_training() -> None:
    pictures = report.taught(held_out("scenes", 4, 0, "test"), 0)
    found = report.unseen_noises(pictures, 0)
    for name, noisy in found.items():
        changed = (noisy - pictures).abs().mean()
        assert noisy.shape == pictures.shape and noisy.abs().max() <= 1 + 1e-6, name
        assert 0.01 < changed < 0.3, (name, float(changed))
    assert torch.equal(found["gamma 1.2"], report.unseen_noises(pictures, 0)["gamma 1.2"])


def test_another_reader_leaves_the_model_and_the_dice_alone(model: CircularScene) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    found = report.afresh(model, held_out("both", 4, 0, "test"), 2, 0, quiet)
    assert found["steps"] == 2 and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_patch_is_cut_around_where_a_word_lives() -> None:
    picture = torch.arange(3 * 64 * 64.0).view(3, 64, 64)
    where = torch.zeros(64, 64)
    where[40, 24] = 1.0
    assert torch.equal(report._patch(picture, where), picture[:, 32:48, 16:32])
    where = torch.zeros(64, 64)
    where[0, 63] = 1.0
    assert torch.equal(report._patch(picture, where), picture[:, :16, 48:])


def test_visual_words_that_are_always_alike(model: CircularScene) -> None:
    """Patches that depend on the word alone are perfectly consistent, and more so than shuffled ones."""
    said = held_out("scenes", 24, 0, "test")
    numbers = {word: number for number, word in enumerate(sorted({w for s in said for w in words(s, "scenes")}))}
    made = torch.Generator().manual_seed(0)
    looks = torch.rand(len(numbers), 3, generator=made) * 2 - 1

    class Painted:
        config = model.config

        def paint(self, sentences: list[str], seed: int | None = None) -> Tensor:
            rows = []
            for sentence in sentences:
                cells = torch.zeros(3, 64, 64)
                for at, word in enumerate(words(sentence, "both")[:16]):
                    y, x = divmod(at, 4)
                    cells[:, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16] = looks[numbers[word]][:, None, None]
                rows.append(cells)
            return torch.stack(rows)

        def where(self, sentence: str, seed: int | None = None) -> Tensor:
            maps = torch.zeros(len(words(sentence, "both")) + 2, 64, 64)
            for at in range(min(16, len(maps) - 2)):
                y, x = divmod(at, 4)
                maps[at + 1, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16] = 1
            return maps

    short = [sentence for sentence in said if len(words(sentence, "both")) <= 16]
    painted: Any = Painted()
    found = report.visual_words(painted, short, 0)
    assert found["consistency"] == pytest.approx(1, abs=1e-3) and found["shuffled_consistency"] < 0.6
    assert found["between"] < 0.6
