"""What a circular model is worth, from pixels alone, on sentences that it was not trained on.

    report(model, ...) -> plain JSON      card(report) -> Markdown      publish(...) -> files to look at

Everything is read from pictures of 8 bits a channel, without the channel of training. Shares are in [0, 1]. References
stand beside what is measured: `shuffled`, the pictures of other sentences; `blank`, a white picture; `noise`, noise;
`untrained`, pictures of a painter with random weights; `teacher`, what the renderer of scenes draws.
"""

import copy
import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import functional as tv

from hubmodels import hub
from hubmodels.circular import losses
from hubmodels.circular.channel import disturb
from hubmodels.circular.data import Sentences, held_out
from hubmodels.circular.model import RESOLUTION, CircularScene, Reader, likeliest
from hubmodels.circular.sentences import encode, is_scene, joined, kinds, meaning, swaps, words
from hubmodels.images import from_uint8, save_png, sheet, to_uint8
from hubmodels.losses import total_variation
from hubmodels.scenes import parse, place
from hubmodels.scenes.reader import agrees, read
from hubmodels.scenes.renderer import draw, pack
from hubmodels.scenes.splits import SPLITS

Progress = Callable[[Iterable, str], Iterable]
PARTS = (
    "round trips",
    "references",
    "swapped words",
    "noise",
    "retrieval",
    "visual words",
    "pictures",
    "language",
    "oracle",
    "another reader",
)
ROWS, AFRESH = 1000, 2000
"""Held-out sentences, and steps that another reader learns, unless others are asked for."""
PATCH = 16
"""Pixels a side of what is cut out around a word, to see what the word looks like."""


def painted(model: CircularScene, sentences: list[str], seed: int) -> Tensor:
    """Pictures (B, 3, 64, 64) in [-1, 1] as a file has them, of 8 bits a channel; every 32 have a seed of their own."""
    parts = [model.paint(sentences[i : i + 32], seed + i) for i in range(0, len(sentences), 32)]
    return from_uint8(to_uint8(torch.cat(parts))).cpu()


def read_back(model: CircularScene, pictures: Tensor) -> list[str]:
    """The sentence that is read from each picture."""
    return [reading.sentence for reading in model.read(pictures)]


def roundtrips(model: CircularScene, sentences: list[str], seed: int) -> tuple[list[str], float]:
    """What is read from the pictures of sentences, and what the pictures carry: nats a word by which their own
    sentences are likelier than those of their neighbours. 0 is a picture that says nothing."""
    chances = model.log_probabilities(painted(model, sentences, seed))
    own = torch.diagonal(_likelihoods(model, chances, sentences))
    other = torch.diagonal(_likelihoods(model, chances.roll(1, 0), sentences))
    count = sum(len(encode(said, model.config.language)) - 1 for said in sentences)
    carried = float((own.sum() - other.sum()) / count)
    return [reading.sentence for reading in likeliest(chances, model.config.language)], carried


def _likelihoods(model: CircularScene, chances: Tensor, sentences: list[str]) -> Tensor:
    """(B, N) log-likelihood in nats of N sentences, of each picture whose words have `chances` (B, T - 1, V)."""
    tokens, _ = model.tokenized(sentences)
    said = F.one_hot(tokens[:, 1:].cpu(), chances.shape[2]).to(chances)
    said[..., 0] = 0  # padding says nothing
    return chances[:, : said.shape[1]].flatten(1) @ said.flatten(1).T


def scores(said: list[str], heard: list[str], language: str) -> dict[str, float]:
    """Round trips, judged: `exact`, word for word; `meaning`, or in other words that mean the same; and of the words
    of each kind the share that was read at its place."""
    result = {
        "exact": _share(a == b for a, b in zip(said, heard, strict=True)),
        "meaning": _share(meaning(a) == meaning(b) for a, b in zip(said, heard, strict=True)),
    }
    right: dict[str, list[bool]] = {}
    for a, b in zip(said, heard, strict=True):
        own, other = words(a, language), words(b, language)  # pyright: ignore[reportArgumentType]
        for at, kind in enumerate(kinds(own)):
            if kind:
                right.setdefault(kind, []).append(other[at : at + 1] == own[at : at + 1])
    return result | {kind: _share(found) for kind, found in sorted(right.items())}


def _share(found: Iterable[bool]) -> float:
    found = list(found)
    return round(sum(found) / max(len(found), 1), 4)


def splits_of(model: CircularScene, rows: int, seed: int) -> dict[str, list[str]]:
    """Held-out sentences by split: `test`, and of a language with scenes the combinations that training never has."""
    language = model.config.language
    result = {"test": held_out(language, rows, seed, "test")}
    if language != "templates":
        others = [name for name in SPLITS if name.startswith("test_")]
        result |= {name: held_out("scenes", max(rows // 4, 2), seed, name) for name in others}
    return result


def references(model: CircularScene, said: list[str], pictures: Tensor, seed: int) -> dict[str, dict[str, float]]:
    """The scores of pictures that do not say what was said, and of the teacher's where all sentences are scenes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        untrained = CircularScene(model.config).eval()
    shown = {
        "shuffled": pictures.roll(1, 0),
        "blank": torch.ones_like(pictures),
        "noise": torch.randn(pictures.shape, generator=generator).clamp(-1, 1),
        "untrained": painted(untrained, said, seed),
    }
    if all(is_scene(sentence.lower().split()) for sentence in said):
        shown["teacher"] = taught(said, seed)
    language = model.config.language
    return {name: scores(said, read_back(model, picture), language) for name, picture in shown.items()}


def taught(said: list[str], seed: int) -> Tensor:
    """The teacher's pictures (B, 3, 64, 64) in [-1, 1] of sentences that are scenes."""
    return from_uint8(draw(pack([place(parse(sentence), seed) for sentence in said]), RESOLUTION)[0])


def swapped(model: CircularScene, said: list[str], seed: int) -> dict[str, dict[str, float]]:
    """One word changed for another of its kind. `success`: the new word is read at its place; `exact`: the new sentence
    is read; `changed`: mean absolute change of the picture in levels of 255; `same`: share of pictures unchanged."""
    rng = random.Random(seed)
    language = model.config.language
    by_kind: dict[str, list[tuple[str, str, int, str]]] = {}
    for sentence in said:
        own, options = words(sentence, language), swaps(sentence, language)
        if options:
            at, word = rng.choice(options)
            other = joined([*own[:at], word, *own[at + 1 :]])
            by_kind.setdefault(kinds(own)[at], []).append((sentence, other, at, word))
    result = {}
    for kind, pairs in sorted(by_kind.items()):
        before = painted(model, [pair[0] for pair in pairs], seed)
        after = painted(model, [pair[1] for pair in pairs], seed)
        heard = read_back(model, after)
        apart = (to_uint8(after).float() - to_uint8(before).float()).abs().mean((1, 2, 3))
        result[kind] = {
            "pairs": len(pairs),
            "success": _share(words(h, language)[p[2] : p[2] + 1] == [p[3]] for h, p in zip(heard, pairs, strict=True)),
            "exact": _share(h == p[1] for h, p in zip(heard, pairs, strict=True)),
            "changed": round(float(apart.mean()), 3),
            "same": _share((apart == 0).tolist()),
        }
    return result


def unseen_noises(pictures: Tensor, seed: int) -> dict[str, Tensor]:
    """Pictures (B, 3, 64, 64) in [-1, 1] as mild disturbances leave them that the channel of training has not."""
    generator = torch.Generator().manual_seed(seed)
    grain = torch.rand(len(pictures), 1, *pictures.shape[2:], generator=generator)
    smaller = tv.resize(pictures, [48, 48], antialias=True)
    return {
        "salt and pepper, 2 % of pixels": torch.where(grain < 0.01, -1.0, torch.where(grain > 0.99, 1.0, pictures)),
        "contrast × 0.8": pictures * 0.8,
        "brightness + 10 %": (pictures + 0.2).clamp(-1, 1),
        "gamma 1.2": tv.adjust_gamma((pictures + 1) / 2, 1.2) * 2 - 1,
        "rotated by 2°": tv.rotate(pictures, 2.0, tv.InterpolationMode.BILINEAR),
        "48 × 48 pixels and back": tv.resize(smaller, [RESOLUTION] * 2, antialias=True),
        "grey noise of 0.1": (pictures + 0.1 * torch.randn(grain.shape, generator=generator)).clamp(-1, 1),
    }


def retrieval(model: CircularScene, said: list[str], pictures: Tensor) -> dict[str, float]:
    """Of all pictures, is a sentence's own the one that makes it likeliest, by the reader; and the one nearest to it,
    by the embeddings? Chance is one in `pictures`."""
    chances = torch.cat([model.log_probabilities(part) for part in pictures.split(64)])
    likely = _likelihoods(model, chances, said)  # (pictures, sentences)
    # what a picture says of everything alike is no reason to choose it
    likely = likely - torch.logsumexp(likely, 1, keepdim=True)
    with torch.inference_mode():
        device = next(model.parameters()).device
        seen = torch.cat([model.reader(part.to(device))[1] for part in pictures.split(64)]).cpu()
        tokens, _ = model.tokenized(said)
        heard = model.language.embedded(model.language(tokens)[0], tokens).cpu()
    alike = F.normalize(seen, dim=1) @ F.normalize(heard, dim=1).T
    result: dict[str, float] = {"pictures": len(pictures)}
    for name, table in (("likelihood", likely), ("embedding", alike)):
        rank = (table > torch.diagonal(table)).sum(0)
        result |= {f"{name}_first": _share((rank == 0).tolist()), f"{name}_first_5": _share((rank < 5).tolist())}
    return result


def visual_words(model: CircularScene, said: list[str], seed: int) -> dict:
    """What words look like. Around where a word lives in a picture, a patch is cut out; patches are compared by the
    cosine of what they have beyond the mean patch of all words.

    `consistency` of a word: mean over pairs of its patches in different sentences. `between`: over pairs of different
    words of the same kind. Reference `shuffled`: the same with patches given to random words.
    """
    language = model.config.language
    patches: dict[tuple[str, str], list[Tensor]] = {}
    for sentence in said:
        own = words(sentence, language)
        picture, maps = painted(model, [sentence], seed)[0], model.where(sentence, seed)[1 : len(own) + 1].cpu()
        for word, kind, where in zip(own, kinds(own), maps, strict=True):
            if kind in ("color", "shape"):
                patches.setdefault((kind, word), []).append(_patch(picture, where))
    listed = [(key, torch.stack(found)) for key, found in sorted(patches.items()) if len(found) > 1]
    mean = torch.cat([found for _, found in listed]).mean(0)
    vectors = {key: F.normalize((found - mean).flatten(1), dim=1) for key, found in listed}
    every = torch.cat(list(vectors.values()))
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(seed))
    mixed = dict(zip(vectors, every[order].split([len(v) for v in vectors.values()]), strict=True))
    result: dict = {"words": {word: round(_within(v), 4) for (_, word), v in vectors.items()}}
    for name, table in (("", vectors), ("shuffled_", mixed)):
        result[f"{name}consistency"] = round(sum(map(_within, table.values())) / len(table), 4)
        means = {key: v.mean(0) for key, v in table.items()}
        pairs = [float(means[a] @ means[b]) for a in means for b in means if a < b and a[0] == b[0]]
        result[f"{name}between"] = round(sum(pairs) / max(len(pairs), 1), 4)
    return result


def _within(vectors: Tensor) -> float:
    """Mean cosine of pairs of unit vectors (N, D)."""
    n = len(vectors)
    return float((vectors.sum(0).square().sum() - n) / (n * (n - 1)))


def _patch(picture: Tensor, where: Tensor) -> Tensor:
    """(3, PATCH, PATCH) of a picture (3, 64, 64), around the centre of a map (64, 64)."""
    strong = where.clamp(min=0.5) - 0.5
    at = torch.arange(RESOLUTION, dtype=where.dtype)
    total = strong.sum().clamp(min=1e-6)
    y, x = (strong.sum(1) @ at / total).round().int(), (strong.sum(0) @ at / total).round().int()
    top, left = (int(v.clamp(PATCH // 2, RESOLUTION - PATCH // 2)) - PATCH // 2 for v in (y, x))
    return picture[:, top : top + PATCH, left : left + PATCH]


def looks(pictures: Tensor, said: list[str], seed: int) -> dict[str, dict[str, float]]:
    """Spatial coherence and diversity of pictures, beside those of noise and of the teacher."""
    generator = torch.Generator().manual_seed(seed)
    scenes = [sentence for sentence in said if is_scene(sentence.lower().split())]
    shown = {"painted": pictures, "noise": torch.rand(pictures.shape, generator=generator) * 2 - 1}
    if len(scenes) > 1:
        shown["teacher"] = taught(scenes, seed)
    return {
        name: {
            "total_variation": round(float(total_variation(x)), 4),
            "mumford_shah": round(float(losses.mumford_shah(x)), 4),
            "distance": round(float((x - x.roll(1, 0)).abs().mean()), 4),
        }
        for name, x in shown.items()
    }


def speech(model: CircularScene, said: list[str], seed: int) -> dict[str, float]:
    """The language model: perplexity a word on held-out sentences, and how many of its free samples are sentences."""
    tokens, _ = model.tokenized(said)
    total = sum(float(model.language.score(part).sum()) for part in tokens.split(64))
    made = model.language.sample(200, seed, constrained=False)
    good = 0
    for sentence in made:
        try:
            words(sentence, model.config.language)
            good += 1
        except ValueError:
            pass  # it is counted as what it is
    return {
        "perplexity": round(float(torch.tensor(-total / float((tokens[:, 1:] != 0).sum())).exp()), 3),
        "uniform": len(model.config.vocabulary.split()),
        "grammatical": round(good / len(made), 4),
        "different": round(len(set(made)) / len(made), 4),
    }


def oracle(said: list[str], pictures: Tensor) -> dict[str, float]:
    """What the reader of `hubmodels.scenes`, which learned nothing, sees in pictures of scenes."""
    verdicts = [agrees(one, parse(s)) for one, s in zip(read(to_uint8(pictures)), said, strict=True)]
    names = ("exact", "color", "shape", "size", "count", "background", "relations")
    values = {name: torch.tensor([float(getattr(verdict, name)) for verdict in verdicts]) for name in names}
    return {name: round(float(v[~v.isnan()].mean()), 4) if (~v.isnan()).any() else 0.0 for name, v in values.items()}


def oracle_exact(model: CircularScene, sentences: list[str], seed: int) -> float:
    """Share of the pictures of scenes in which that reader sees exactly the scene."""
    return oracle(sentences, painted(model, sentences, seed))["exact"]


def afresh(model: CircularScene, said: list[str], steps: int, seed: int, progress: Progress) -> dict[str, float]:
    """Another reader, which has never met this painter, learns to read it from pictures of training sentences; the
    painter stays as it is. Its round trips on `said`, beside the same with shuffled pictures."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = Reader(model.config).train()
        if not model.config.layout:  # no head start: where to look is for it to find out
            nn.init.zeros_(reader.near)
        optimizer = torch.optim.AdamW(reader.parameters(), 2e-3, betas=(0.9, 0.98))
        rows = Sentences(model.config.language, 10**6, seed)
        for step in progress(range(steps), "another reader learns"):
            optimizer.param_groups[0]["lr"] = 2e-3 * min(1, (step + 1) / 50) * (1 - step / steps) ** 0.5
            sentences = [rows[step * 32 + i].sentence for i in range(32)]
            tokens, _ = model.tokenized(sentences)
            pictures = model.paint(sentences, seed + step).clone()
            logits, _ = reader(disturb(pictures, 0.5))
            loss = losses.consistency(logits[:, : tokens.shape[1] - 1], tokens[:, 1:])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
            optimizer.step()
    other = copy.deepcopy(model)
    other.reader = reader.eval()
    pictures, language = painted(model, said, seed), model.config.language
    return {
        "steps": steps,
        "exact": scores(said, read_back(other, pictures), language)["exact"],
        "shuffled": scores(said, read_back(other, pictures.roll(1, 0)), language)["exact"],
    }


def report(model: CircularScene, rows: int, seed: int, steps: int, progress: Progress) -> dict:
    """Measure everything.

    Args:
        rows: held-out sentences of the test split; the other splits have a quarter of them each.
        steps: that the other reader learns; 0 leaves it out.

    Returns:
        Plain JSON: {"parameters", "language", "splits": {name: scores}, "references": {name: scores}, "swaps",
        "noises", "retrieval", "words", "looks", "speech", "oracle", "afresh"}.
    """
    model = model.eval()
    language, splits = model.config.language, splits_of(model, rows, seed)
    test = splits["test"]
    pictures = painted(model, test, seed)
    result: dict = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "language": language,
        "layout": model.config.layout,
        "bottleneck": model.config.bottleneck,
    }
    for part in progress(PARTS, "measuring"):
        if part == "round trips":
            result["splits"] = {}
            for name, said in splits.items():
                heard, carried = roundtrips(model, said, seed)
                own = {"sentences": len(said), "carried": round(carried, 3)}
                result["splits"][name] = own | scores(said, heard, language)
        elif part == "references":
            result["references"] = references(model, test, pictures, seed)
        elif part == "swapped words":
            result["swaps"] = swapped(model, test, seed)
        elif part == "noise":
            noisy = unseen_noises(pictures, seed)
            result["noises"] = {
                name: scores(test, read_back(model, from_uint8(to_uint8(x))), language)["exact"]
                for name, x in noisy.items()
            }
        elif part == "retrieval":
            many = held_out(language, 1000, seed, "test")
            result["retrieval"] = retrieval(model, many, painted(model, many, seed))
        elif part == "visual words":
            result["words"] = visual_words(model, test[:256], seed)
        elif part == "pictures":
            result["looks"] = looks(pictures, test, seed)
        elif part == "language":
            result["speech"] = speech(model, test, seed)
        elif part == "oracle" and language != "templates":
            scenes = [s for s in test if is_scene(s.lower().split())][:512]
            result["oracle"] = {
                "painted": oracle(scenes, painted(model, scenes, seed)),
                "shuffled": oracle(scenes, painted(model, scenes, seed).roll(1, 0)),
                "teacher": oracle(scenes, taught(scenes, seed)),
            }
        elif part == "another reader" and steps:
            result["afresh"] = afresh(model, test, steps, seed, progress)
    return result


# --- for people -------------------------------------------------------------------------------------------------


def table(result: dict) -> str:
    """The headline scores as Markdown: round trips on every split, then the references."""
    lines = ["| | sentences | exact | meaning | color | shape |", "|---|---|---|---|---|---|"]
    for name, own in [*result["splits"].items(), *((f"{k}, test", v) for k, v in result["references"].items())]:
        count = own.get("sentences", result["splits"]["test"]["sentences"])
        shares = " | ".join(f"{own[key]:.1%}" if key in own else "" for key in ("exact", "meaning", "color", "shape"))
        lines.append(f"| {name} | {count} | {shares} |")
    return "\n".join(lines)


CARD = """\
## What it does

A sentence is painted as a picture of 64 x 64 pixels, and read back from the pixels alone. {millions:.2f} M parameters
in three parts that can be used by themselves: `language` embeds, scores and makes up sentences; `painter` paints
them; `reader` says of a picture all words at once and never sees the sentence, so what it reads, the picture says.
{kind}

```python
image, caption = model.roundtrip("{example}")
```

![Sentences, their pictures, and what is read from them](roundtrips.png)

## Measured

Held out by meaning: no sentence below was in training, in any wording. `exact` is word for word, `meaning` in any words
that mean the same. `test_color_shape` and the others have combinations that training never had. Below them, what
pictures score that do not say the sentence: those of other sentences, a white one, noise, those of a painter with
random weights.

{table}

{others}

![The picture of a sentence, and where each of its words lives](words.png)

## Data

Sentences that are made up as training goes{data}: no texts or pictures of others, so no licence of theirs.

## Limits

It knows {words} words and the sentences that its grammar makes of them; others are refused with a hint.{limits}
{training}"""

READS_LESS = """
Its own reader gets {meaning:.1%} of meanings right, far fewer than the pictures show: things differ by little, and it
says all words at once. It was trained to say the canonical wording of a meaning, whichever was painted."""

FREE = (
    """Nobody showed it a picture: what words look like is of its own making. A page is written, not a scene drawn."""
)
TAUGHT = """Things are where a layout puts them, under a seed, and look as the teacher's pictures of a small share of
the sentences taught it."""


def card(result: dict, training: str = "") -> str:
    """The part of the model card that was measured, as Markdown."""
    swaps_ = [f"{kind} {s['success']:.1%} of {s['pairs']}" for kind, s in result["swaps"].items()]
    noises = [f"{name} {value:.1%}" for name, value in result["noises"].items()]
    found, own, seen, said = result["retrieval"], result["words"], result["looks"], result["speech"]
    kinds_ = [f"{k} {v:.1%}" for k, v in result["splits"]["test"].items() if k not in ("sentences", "carried")]
    lines = [
        f"- **By kind of word**, on `test`: {', '.join(kinds_)}.",
        f"- **A word swapped** for another: the new word is read, of {', '.join(swaps_)}; pictures that stay the same: "
        f"{sum(s['same'] * s['pairs'] for s in result['swaps'].values()):.0f}.",
        f"- **Disturbances that training has not**: read exactly under {', '.join(noises)}.",
        f"- **Retrieval** of a sentence's picture among {found['pictures']}: first by likelihood "
        f"{found['likelihood_first']:.1%}, by embedding {found['embedding_first']:.1%}.",
        f"- **Visual words**: cosine of what one word looks like in two sentences {own['consistency']:.2f} (with words "
        f"shuffled {own['shuffled_consistency']:.2f}); of two words of a kind {own['between']:.2f}.",
        "- **Looks**: total variation, Mumford-Shah, mean distance of two pictures: "
        + "; ".join(f"{name} " + ", ".join(f"{v:.3f}" for v in row.values()) for name, row in seen.items())
        + ".",
        f"- **Language**: perplexity {said['perplexity']:.2f} a word of {said['uniform']}; {said['grammatical']:.1%} "
        f"of its free samples are sentences, {said['different']:.1%} of all samples different.",
    ]
    if "oracle" in result:
        rows = {name: f"{v['exact']:.1%}" for name, v in result["oracle"].items()}
        lines.append(
            "- **The oracle**, a reader of scenes that learned nothing, sees exactly the scene in "
            f"{rows['painted']} of the pictures; in other sentences' pictures {rows['shuffled']}, in the teacher's "
            f"{rows['teacher']}."
        )
    if "afresh" in result:
        new = result["afresh"]
        lines.append(
            f"- **Another reader**, trained afresh for {new['steps']} steps of 32 on frozen pictures, reads "
            f"{new['exact']:.1%} exactly; shuffled, {new['shuffled']:.1%}."
        )
    return CARD.format(
        millions=result["parameters"] / 1e6,
        kind=TAUGHT if result["layout"] else FREE,
        example="The red ball is left of the blue cube."
        if result["language"] != "templates"
        else "a large red ball in the left",
        table=table(result),
        others="\n".join(lines),
        data=", and pictures that `hubmodels.scenes` renders" if result["layout"] else "",
        words=result["speech"]["uniform"] - 3,
        limits=READS_LESS.format(meaning=result["splits"]["test"]["meaning"]) if result["layout"] else "",
        training=training,
    )


def history(run: Path) -> str:
    """How a run went, for the card; see `hubmodels.hub.history`."""
    return hub.history(run, "sentences, made up on the fly", "read best on validation sentences")


def publish(model: CircularScene, result: dict, seed: int, path: Path) -> list[Path]:
    """Write the report and, beside it, roundtrips.png (sentences, pictures, what was read) and words.png (where words
    live).

    Returns:
        The files written.
    """
    said = held_out(model.config.language, 16, seed, "test")
    pictures = painted(model, said, seed)
    heard = read_back(model, pictures)
    lines = [a if a == b else f"{a} READ AS {b}" for a, b in zip(said, heard, strict=True)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    save_png(sheet(pictures, lines, 8), path.parent / "roundtrips.png")
    rows = [territories(model, sentence, seed) for sentence in sorted(said, key=len)[:4]]
    columns = max(len(tiles) for tiles, _ in rows)
    white = [torch.ones(columns - len(tiles), *tiles.shape[1:]) for tiles, _ in rows]
    tiles = torch.cat([part for (tiles, _), rest in zip(rows, white, strict=True) for part in (tiles, rest)])
    under = [text for tiles, texts in rows for text in [*texts, *[""] * (columns - len(tiles))]]
    save_png(sheet(tiles, under, columns), path.parent / "words.png")
    return [path, path.parent / "roundtrips.png", path.parent / "words.png"]


def territories(model: CircularScene, sentence: str, seed: int | None = None) -> tuple[Tensor, list[str]]:
    """For a sheet: the picture of a sentence, then for each of its words where in the picture it lives,
    (W + 1, 3, 64, 64) in [-1, 1]; and what to write under them."""
    said = words(sentence, model.config.language)
    picture = model.paint([sentence], seed)[0].cpu()
    maps = model.where(sentence, seed)[1 : len(said) + 1].cpu()
    return torch.stack([picture, *((picture + 1) * m - 1 for m in maps)]), [sentence, *said]
