"""How fast the little world and its student are on this machine, on one thread, in CPU time.

python -m benchmarks.distill
"""

import random
import time
from collections.abc import Callable

import torch

from hubmodels import DistilledRenderer
from hubmodels.distill.data import Batch, collate, scene_of
from hubmodels.distill.model import DistilledRendererConfig
from hubmodels.hub import released
from hubmodels.images import from_uint8
from hubmodels.scenes import place, read, sample
from hubmodels.scenes.renderer import draw, pack
from hubmodels.scenes.splits import unplaced

ROWS = 512
"""Scenes to draw in a round."""
ROUNDS = 5
"""Rounds; the best counts, for the others were disturbed."""


def per_second(work: Callable[[], object], items: int, rounds: int) -> float:
    """Items in a second of CPU time, in the best of some rounds after one to warm up."""
    work()
    best = min(_seconds(work) for _ in range(rounds))
    return items / best


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def step(model: DistilledRenderer, batch: Batch) -> None:
    (model(batch["tokens"]) - from_uint8(batch["picture"])).abs().mean().backward()


def main() -> None:
    torch.set_num_threads(1)
    rng = random.Random(0)
    scenes = [place(sample(rng), seed) for seed in range(ROWS)]
    bare, packed, rows, rounds = [unplaced(scene) for scene in scenes], pack(scenes), ROWS, ROUNDS
    pictures = draw(packed)[0][:64]
    student = DistilledRenderer(DistilledRendererConfig())
    batch = collate([scene_of(row, 0) for row in range(32)], 64)
    model = DistilledRenderer.from_pretrained(released("distill"))
    one = ["The red ball is left of the blue cube."]
    table = {
        "draw packed scenes": per_second(lambda: draw(packed), rows, rounds),
        "pack and draw": per_second(lambda: draw(pack(scenes)), rows, rounds),
        "place, pack and draw": per_second(lambda: draw(pack([place(s, 0) for s in bare])), rows, 1),
        "read": per_second(lambda: read(pictures), len(pictures), 1),
        "train (forward, backward), batch 32": per_second(lambda: step(student, batch), 32, rounds),
        "generate, one caption": per_second(lambda: model.generate(one, seed=0), 1, rounds),
        "generate, 8 pictures of it": per_second(lambda: model.generate(one, seed=0, n=8), 8, rounds),
    }
    print("| one thread, 64 px | pictures a CPU second |\n|---|---|")
    for name, value in table.items():
        print(f"| {name} | {value:,.1f} |")


if __name__ == "__main__":
    main()
