"""How fast the little world and its student are, and how much faster than the original design, in one run.

    python -m benchmarks.distill                                 # ours alone, about two minutes
    python -m benchmarks.distill --psnr 24                       # and how long it takes to learn that much
    python -m benchmarks.distill --psnr 24 --peer learning_to_see    # beside a checkout of the original

One thread, CPU time, best of some rounds. The original is github.com/jtooates/learning_to_see; nothing of it is here.
"""

# pyright: reportMissingImports=false
# (the modules of the original are there only when a checkout of it is)

import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor

from hubmodels import DistilledRenderer
from hubmodels.distill.data import collate, scene_of
from hubmodels.distill.model import DistilledRendererConfig
from hubmodels.hub import released
from hubmodels.images import from_uint8, to_unit
from hubmodels.losses import random_features
from hubmodels.metrics import psnr
from hubmodels.scenes import place, read, sample
from hubmodels.scenes.renderer import draw, pack
from hubmodels.scenes.splits import unplaced
from hubmodels.training.decay import decay_groups
from train_scripts.distill import Config, losses

ROWS = 512
"""Scenes to draw in a round."""
BATCH = 32
HELD_OUT = 64
"""Pictures on which PSNR is taken; scenes that are not trained on."""
EVERY = 20
"""Steps between two looks at PSNR, whose time does not count."""


@dataclass(frozen=True)
class Options:
    """Measure speed."""

    peer: Path | None = None
    """Checkout of the original, github.com/jtooates/learning_to_see."""
    psnr: float = 0
    """Also train from nothing until held-out pictures reach this PSNR in dB."""
    budget: float = 1200
    """CPU seconds of training after which PSNR is given up on."""
    rounds: int = 5
    """Rounds; the best counts, for the others were disturbed."""


def main(options: Options) -> None:
    torch.set_num_threads(1)
    ours = world(options.rounds) | student(options.rounds)
    if options.peer:
        sys.path.insert(0, str(options.peer))
    theirs = original(options.rounds) if options.peer else {}
    print("| pictures a CPU second, one thread, 64 px | ours | original | ratio |\n|---|---|---|---|")
    for name, speed in ours.items():
        ratio = f"{theirs[name]:,.1f} | {speed / theirs[name]:.1f}" if name in theirs else "|"
        print(f"| {name} | {speed:,.1f} | {ratio} |", flush=True)
    if options.psnr:
        print(
            f"\n| training until {options.psnr:g} dB | CPU seconds | pictures | PSNR |\n|---|---|---|---|", flush=True
        )
        runs = {"ours": learning()} | ({"original": learning_of_original()} if options.peer else {})
        for name, run in runs.items():
            print(f"| {name} | {until(run, options.psnr, options.budget)} |", flush=True)


def per_second(work: Callable[[], object], items: int, rounds: int) -> float:
    """Items in a second of CPU time, in the best of some rounds after one to warm up."""
    work()
    return items / min(_seconds(work) for _ in range(rounds))


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def until(steps: Iterator[float | None], target: float, budget: float) -> str:
    """CPU seconds, pictures and PSNR of a training when it gets to a PSNR, or when its time is over."""
    spent, best, taken = 0.0, 0.0, 0
    while spent < budget and best < target:
        start = time.process_time()
        score = next(steps)
        if score is None:
            spent, taken = spent + time.process_time() - start, taken + 1
        else:
            best = max(best, score)
    never = "" if best >= target else "not in "
    return f"{never}{spent:,.0f} | {taken * BATCH:,} | {best:.1f} dB"


# --- ours ---------------------------------------------------------------------------------------------------------

RENDER = "layout and picture"
TRAIN = f"training step, batch {BATCH}"
GENERATE = "one caption to its picture"


def world(rounds: int) -> dict[str, float]:
    """The renderer and the reader."""
    rng = random.Random(0)
    scenes = [place(sample(rng), seed) for seed in range(ROWS)]
    bare, packed = [unplaced(scene) for scene in scenes], pack(scenes)
    pictures = draw(packed)[0][:64]
    return {
        "picture of a placed scene": per_second(lambda: draw(pack(scenes)), ROWS, rounds),
        RENDER: per_second(lambda: draw(pack([place(s, 0) for s in bare])), ROWS, rounds),
        "read a picture": per_second(lambda: read(pictures), len(pictures), 1),
    }


def student(rounds: int) -> dict[str, float]:
    """The network."""
    steps = learning()
    model = DistilledRenderer.from_pretrained(released("distill"))
    one = ["The red ball is left of the blue cube."]
    while next(steps) is not None:
        pass
    return {
        TRAIN: per_second(lambda: next(steps), BATCH, rounds),
        GENERATE: per_second(lambda: model.generate(one, seed=0), 1, 4 * rounds),
        "eight pictures of it": per_second(lambda: model.generate(one, seed=0, n=8), 8, rounds),
    }


def learning() -> Iterator[float | None]:
    """Trains from nothing as train_scripts/distill.py does, up to the peak of its rate. Yields None after a step,
    and every EVERY steps PSNR in dB."""
    torch.manual_seed(0)
    config = Config(no_perc=True)
    model, features = DistilledRenderer(DistilledRendererConfig()), random_features(seed=0)
    optimizer = torch.optim.AdamW(decay_groups(model, config.weight_decay), config.lr, betas=(0.9, 0.98))
    warmup = config.warmup * config.run.steps
    held_out = collate([scene_of(row, 0, "validation") for row in range(HELD_OUT)], 64)
    step = 0
    while True:
        if step % EVERY == 0:
            yield decibels(model.eval().draw(held_out["tokens"]), from_uint8(held_out["picture"]))
            model.train()
        for group in optimizer.param_groups:
            group["lr"] = config.lr * min(1.0, (step + 1) / warmup)
        batch = collate([scene_of(step * BATCH + i, 0) for i in range(BATCH)], 64)
        loss = sum(losses(config, model(batch["tokens"]), batch, features).values(), torch.zeros(()))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        yield None


def decibels(pictures: Tensor, truth: Tensor) -> float:
    """Mean PSNR, both in [-1, 1]."""
    return float(psnr(to_unit(pictures.clamp(-1, 1)), to_unit(truth)).mean())


# --- the original -------------------------------------------------------------------------------------------------


def original(rounds: int) -> dict[str, float]:
    """The same of the original, by its own renderer, networks and training step."""
    pictures, steps, trainer = original_pictures(1), learning_of_original(), original_trainer()
    tokens = next(pictures)[1][None]
    trainer.text_encoder.eval()
    trainer.decoder.eval()

    def generate() -> None:
        with torch.inference_mode():
            trainer.decoder(trainer.text_encoder(tokens, pad_id=trainer.vocab.pad_id))

    while next(steps) is not None:
        pass
    return {
        RENDER: per_second(lambda: [next(pictures) for _ in range(ROWS)], ROWS, rounds),
        TRAIN: per_second(lambda: next(steps), BATCH, rounds),
        GENERATE: per_second(generate, 1, 4 * rounds),
    }


def learning_of_original() -> Iterator[float | None]:
    """Trains as it does, at the peak of its rate, on its own sentences and pictures. Yields as `learning` does."""
    trainer, seen, unseen = original_trainer(), original_pictures(1), original_pictures(2)
    held_out = original_batch(unseen, HELD_OUT)
    step = 0
    while True:
        if step % EVERY == 0:
            trainer.text_encoder.eval()
            trainer.decoder.eval()
            with torch.inference_mode():
                told = trainer.text_encoder(held_out["token_ids"], pad_id=trainer.vocab.pad_id)
                yield decibels(trainer.decoder(told), held_out["image"])
        trainer.train_step(original_batch(seen, BATCH))
        step += 1
        yield None


def original_trainer() -> Any:
    """Its trainer, without the perceptual term, as ours is measured."""
    from distill_c1.decoder import build_decoder
    from distill_c1.text_encoder import build_text_encoder
    from distill_c1.trainer import DistillTrainer
    from dsl.tokens import Vocab

    torch.manual_seed(0)
    vocab = Vocab()
    reader = build_text_encoder(vocab_size=len(vocab), pad_id=vocab.pad_id)
    with tempfile.TemporaryDirectory() as scratch:
        return DistillTrainer(
            reader, build_decoder(), [], [], vocab, "cpu", use_perc=False, use_amp=False, save_dir=scratch
        )


def original_pictures(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Its pictures (3, 64, 64) uint8 of sentences drawn at random, with their tokens (32,)."""
    from dsl.canonicalize import to_canonical
    from dsl.splits import enumerate_all_samples
    from dsl.tokens import Vocab
    from render.renderer import SceneRenderer

    renderer, rng, vocab, graphs = SceneRenderer(seed=seed), random.Random(seed), Vocab(), enumerate_all_samples()
    while True:
        graph = rng.choice(graphs)
        tokens = vocab.encode(to_canonical(graph))
        try:
            image, _ = renderer.render(graph)
        except RuntimeError:  # some of its scenes find no layout; its own data generator leaves them out, too
            continue
        padded = torch.tensor(tokens + [vocab.pad_id] * (32 - len(tokens)))
        yield torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy()), padded


def original_batch(pictures: Iterator[tuple[Tensor, Tensor]], size: int) -> dict[str, Tensor]:
    image, tokens = zip(*(next(pictures) for _ in range(size)), strict=True)
    return {"image": from_uint8(torch.stack(image)), "token_ids": torch.stack(tokens)}


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
