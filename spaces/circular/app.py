"""Say something: a painter puts it into a picture, and a reader who has nothing but the picture says it again.

    sentence --paint--> picture --noise--> what the reader sees --read--> words, each with how sure it is

A model that never saw a picture, and so made up its own script, stands beside one that was shown some. Pictures go to
the page as PNG inside the HTML, so nothing is written to disk. Where a word lives is shown by CSS alone.
"""

import base64
import html
import io
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import gradio as gr
import torch
from PIL import Image
from torch import Tensor

from hubmodels import CircularScene
from hubmodels.circular.model import Reading
from hubmodels.circular.sentences import (
    MAX_CHARACTERS,
    SentenceError,
    is_scene,
    joined,
    longest,
    meaning,
    swaps,
    words,
)
from hubmodels.hub import released
from hubmodels.images import from_uint8, from_unit, to_pil, to_uint8, to_unit
from spaces.distill.app import refusal, serve

MAX_SEED = 9999
MAX_NOISE = 1.0
MIN_STEPS, MAX_STEPS = 3, 12
VEIL = (51, 65, 85)
"""What covers the parts of a picture where a word does not live: no scene has this colour."""

EXAMPLES = (
    "The red ball is left of the blue cube.",
    "There are three small green stars. The background is black.",
    "The large yellow ball is around the small purple cube.",
    "a large red ball in the left",
)
OTHER = "There are two green stars."


@dataclass(frozen=True)
class Side:
    """One of the models that stand side by side."""

    name: str
    about: str
    model: CircularScene

    def knows(self, *sentences: str) -> bool:
        """Whether all of these, as `understood` gives them, are of its language."""
        language = self.model.config.language
        return language == "both" or all(is_scene(said.lower().split()) == (language == "scenes") for said in sentences)


def sides(model: CircularScene, grounded: CircularScene | None) -> list[Side]:
    """The models with what there is to say about them."""
    alone = Side("Ungrounded", "Never shown a picture: it writes in a script of its own.", model)
    if grounded is None:
        return [alone]
    shown = Side("Grounded", "Shown a renderer's picture of one sentence in a hundred.", grounded)
    return [alone, shown]


# --- what a person asks for -----------------------------------------------------------------------------------------


def _line(error: Exception) -> str:
    text = str(error).rstrip(".")
    return text[:1].upper() + text[1:] + ("" if text.endswith("?") or text.endswith("”") else ".")


def understood(model: CircularScene, sentence: str) -> str:
    """A sentence as the model writes it, or a message for the person who wrote it."""
    if not isinstance(sentence, str):
        raise refusal("The sentence must be text.")
    try:
        return joined(words(sentence, model.config.language))
    except SentenceError as error:
        raise refusal(_line(error)) from None


def number(value: float, least: float, most: float, name: str) -> float:
    """The value if it is a number from `least` to `most`, or a message."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise refusal(f"{name} must be a number from {least:g} to {most:g}.")
    return value


def whole(value: float, least: int, most: int, name: str) -> int:
    if number(value, least, most, name) != int(value):
        raise refusal(f"{name} must be a whole number.")
    return int(value)


def swapped(model: CircularScene, sentence: str, at: int | None, word: str | None) -> str:
    """The sentence with another word at a place, counted from 0, or a message where that makes no sentence."""
    said = words(understood(model, sentence), model.config.language)
    for place, other in swaps(joined(said), model.config.language):
        if (place, other) == (at, word):
            return joined([*said[:place], other, *said[place + 1 :]])
    raise refusal("Choose a word of this sentence and a word that can stand there.")


# --- there and back -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trip:
    """A sentence that was painted and read. Pictures are (3, 64, 64) uint8 sRGB."""

    said: list[str]
    picture: Tensor
    seen: Tensor
    """The picture as the reader got it: with noise, if there is any."""
    reading: Reading
    where: Tensor
    """(W, 64, 64) in [0, 1]: where each of the W words that were said lives."""


def arrived(pictures: Tensor, noise: float, seed: int) -> Tensor:
    """(B, 3, 64, 64) in [-1, 1] -> uint8 as the reader gets them; as `CircularScene.roundtrip` does it."""
    drawn = torch.randn(pictures.shape[1:], generator=torch.Generator().manual_seed(seed))
    return to_uint8(pictures + noise * drawn.to(pictures))


def trip(model: CircularScene, sentence: str, seed: int, noise: float) -> Trip:
    """Paint one sentence and read it back. `noise` is sigma, on a picture in [-1, 1]."""
    pictures = model.paint([sentence], seed)
    seen = arrived(pictures, noise, seed)
    (reading,) = model.read(from_uint8(seen))
    said = words(sentence, model.config.language)
    return Trip(said, to_uint8(pictures[0]), seen[0], reading, model.where(sentence, seed)[1:-1])


def walk(
    model: CircularScene, first: str, second: str, steps: int, seed: int, noise: float
) -> list[tuple[Tensor, Reading]]:
    """From one sentence to another: pictures (3, 64, 64) uint8 as the reader got them, and what it read."""
    seen = arrived(model.between(first, second, steps, seed), noise, seed)
    return list(zip(seen, model.read(from_uint8(seen)), strict=True))


def matched(said: list[str], read: list[str]) -> list[tuple[int | None, bool]]:
    """For each word that was read the place of the word that it stands for, if any, and whether it is the same.

    That is the way from one sentence to the other with the fewest edits. Source: Wagner & Fischer 1974.
    """
    edits = [[i + j if not i * j else 0 for j in range(len(read) + 1)] for i in range(len(said) + 1)]
    for i, j in product(range(1, len(said) + 1), range(1, len(read) + 1)):
        ways = edits[i - 1][j - 1] + (said[i - 1] != read[j - 1]), edits[i - 1][j] + 1, edits[i][j - 1] + 1
        edits[i][j] = min(ways)
    found: list[tuple[int | None, bool]] = [(None, False)] * len(read)
    i, j = len(said), len(read)
    while i and j:
        same = said[i - 1] == read[j - 1]
        if edits[i][j] == edits[i - 1][j - 1] + (not same):
            i, j = i - 1, j - 1
            found[j] = (i, same)
        elif edits[i][j] == edits[i - 1][j] + 1:
            i -= 1
        else:
            j -= 1
    return found


def verdict(trip: Trip) -> str:
    """One line: what became of the sentence."""
    read = [word for word, _ in trip.reading.confidence]
    if read == trip.said:
        return "✓ Every word arrived."
    if meaning(trip.reading.sentence) == meaning(joined(trip.said)):
        return "✓ Other words, the same meaning."
    right = sum(same for _, same in matched(trip.said, read))
    return f"✗ {right} of {len(trip.said)} words arrived."


def sureness(reading: Reading) -> float:
    """How sure the reader is of a word, in [0, 1]: the geometric mean over the sentence and its end."""
    return math.exp(reading.log_likelihood / (len(reading.confidence) + 1))


def difference(before: Tensor, after: Tensor) -> tuple[Tensor, float]:
    """Of two pictures (3, 64, 64) uint8: (3, 64, 64) uint8 from black, the same, through red to white, the most that
    any pixel changed; and the mean change of a channel, in [0, 1]."""
    change = (to_unit(from_uint8(after)) - to_unit(from_uint8(before))).abs().mean(0)
    strength = change / change.max().clamp(min=1e-6)
    glow = torch.stack([(3 * strength - i).clamp(0, 1) for i in range(3)])
    return to_uint8(from_unit(glow)), float(change.mean())


# --- HTML -----------------------------------------------------------------------------------------------------------


def _uri(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _veil(where: Tensor) -> Image.Image:
    """What to lay over a picture so that a word's place (64, 64) in [0, 1] shines through."""
    image = Image.new("RGB", (where.shape[1], where.shape[0]), VEIL)
    image.putalpha(Image.fromarray(to_uint8(from_unit(0.88 * (1 - where))).cpu().numpy()))
    return image


def _figure(picture: Tensor, caption: str, alt: str, where: Tensor | None = None) -> str:
    """A picture with a caption in HTML, and over it a layer for each place (W, 64, 64) where a word lives."""
    layers = (
        ""
        if where is None
        else "".join(
            f'<img class="live" data-live="{at}" src="{_uri(_veil(one))}" alt="">' for at, one in enumerate(where)
        )
    )
    shown = f'<img class="shown" src="{_uri(to_pil(picture))}" alt="{html.escape(alt)}">'
    return f'<figure><div class="frame">{shown}{layers}</div><figcaption>{caption}</figcaption></figure>'


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _said(said: list[str], marked: int | None) -> str:
    tags = [
        f'<span class="word{" marked" if at == marked else ""}" tabindex="0" data-at="{at}">{html.escape(word)}</span>'
        for at, word in enumerate(said)
    ]
    return f'<div class="words said" aria-label="words that were said">{"".join(tags)}</div>'


def _read(trip: Trip) -> str:
    """Words that were read: right or wrong, how sure, and, as data-at, the word that they stand for."""
    found = matched(trip.said, [word for word, _ in trip.reading.confidence])
    tags = []
    for (word, sure), (at, right) in zip(trip.reading.confidence, found, strict=True):
        meant = "" if right else f", not {trip.said[at]}" if at is not None else ", which was not said"
        label = html.escape(f"{word}{meant}; {_percent(sure)} sure")
        place = "" if at is None else f' data-at="{at}"'
        tags.append(
            f'<span class="word {"right" if right else "wrong"}" tabindex="0"{place} title="{label}" '
            f'aria-label="{label}"><b>{"✓" if right else "✗"} {html.escape(word)}</b>'
            f'<span class="bar"><span style="width: {100 * sure:.1f}%"></span></span>'
            f"<small>{_percent(sure)}</small></span>"
        )
    return f'<div class="words read" aria-label="words that were read">{"".join(tags)}</div>'


def journey(trip: Trip, title: str = "", marked: int | None = None) -> str:
    """A trip: pictures, what was said, what was read, the verdict. The word `marked` stands out."""
    said = joined(trip.said)
    figures = _figure(trip.picture, "painted", f"painting of: {said}", trip.where)
    if (trip.picture != trip.seen).any():
        figures += _figure(trip.seen, "what the reader sees", f"the painting with noise: {said}", trip.where)
    line = verdict(trip)
    head = f"<h4>{html.escape(title)}</h4>" if title else ""
    return (
        f'<section class="trip">{head}<div class="figures">{figures}</div>'
        f'<p class="label">Said (hover or tap: where a word lives)</p>{_said(trip.said, marked)}'
        f'<p class="label">Read, and how sure</p>{_read(trip)}'
        f'<p class="verdict {"yes" if line.startswith("✓") else "no"}">{line}</p></section>'
    )


def contrast(before: Trip, after: Trip, marked: int) -> str:
    """Two trips of sentences that differ in one word, and what differs between their pictures."""
    glow, mean = difference(before.picture, after.picture)
    caption = f"what changed ({100 * mean:.1f} %)"
    return (
        f'<div class="pair">{journey(before, "Before", marked)}{journey(after, "After", marked)}</div>'
        f'<div class="figures glow">{_figure(glow, caption, "where the pictures differ")}</div>'
    )


def strip(steps: list[tuple[Tensor, Reading]]) -> str:
    """A walk: each picture, and under it what was read, with the words marked that the picture before did not say."""
    cells, before = [], None
    for i, (picture, reading) in enumerate(steps):
        read = [word for word, _ in reading.confidence]
        same = [True] * len(read) if before is None else [right for _, right in matched(before, read)]
        # full stops and commas belong to the word before them
        text = "".join(
            ("" if word in ".," else " ") + (html.escape(word) if known else f"<mark>{html.escape(word)}</mark>")
            for word, known in zip(read, same, strict=True)
        )
        way = f"<b>{_percent(i / (len(steps) - 1))} of the way</b>"
        caption = (
            f'{way}<span class="text">{text.strip()}</span><small>{_percent(sureness(reading))} sure per word</small>'
        )
        cells.append(_figure(picture, caption, f"the reader reads: {reading.sentence}"))
        before = read
    return f'<div class="strip">{"".join(cells)}</div>'


SCENES_ONLY = (
    '<p class="sorry">This one knows sentences about scenes only, such as '
    f"“{EXAMPLES[0]}” This time the ungrounded one is on its own.</p>"
)


def cards(models: list[Side], sentences: tuple[str, ...], show: Callable[[CircularScene], str]) -> str:
    """A card for each model, with what `show` makes of it, or with a word about sentences that it does not know."""
    return (
        '<div class="cards">'
        + "".join(
            f'<article class="card" data-side="{side.name.lower()}"><h3>{side.name}</h3>'
            f'<p class="about">{side.about}</p>{show(side.model) if side.knows(*sentences) else SCENES_ONLY}</article>'
            for side in models
        )
        + "</div>"
    )


def status(models: list[Side], sentence: str) -> str:
    """Judges a sentence while it is typed."""
    model = models[0].model
    try:
        said = joined(words(sentence, model.config.language))
    except SentenceError as error:
        return f'<p class="status wrong" role="status">✗ {html.escape(_line(error))}</p>'
    who = " and ".join(f"the {side.name.lower()} model" for side in models if side.knows(said))
    kind = "A scene" if is_scene(said.lower().split()) else "A sentence of the templates"
    return f'<p class="status ok" role="status">✓ {kind}, known to {who}.</p>'


CLICKS = """element.addEventListener('click', event => {
    const button = event.target.closest('button');
    if (button) trigger('click', {...button.dataset});
});"""


def _lives() -> str:
    """Rules that show where a word lives while it is hovered, or, if none is, while it has the focus."""
    rules = []
    for at in range(longest("both") - 2):
        hovered = f'.circular .trip:has([data-at="{at}"]:hover)'
        focused = f'.circular .trip:not(:has([data-at]:hover)):has([data-at="{at}"]:focus)'
        rules.append(f'{hovered} [data-live="{at}"], {focused} [data-live="{at}"] {{ opacity: 1 }}')
        word = f'.word[data-at="{at}"]'
        rules.append(
            f"{hovered} {word}, {focused} {word} {{ border-color: var(--color-accent); outline-style: solid }}"
        )
    return "\n".join(rules)


STYLE = """<style>
.circular.block .html-container { padding: 0 }
.circular .cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 16px }
.circular .card { border: 1px solid var(--border-color-primary); border-radius: 14px; padding: 16px; min-width: 0;
    background: var(--background-fill-primary) }
.circular h3 { margin: 0; font-size: 19px } .circular h4 { margin: 0 0 8px; font-size: 15px }
.circular p { margin: 6px 0 }
.circular .about { font-size: 14px; color: var(--body-text-color-subdued); margin-bottom: 12px }
.circular .figures { display: flex; flex-wrap: wrap; gap: 12px }
.circular figure { margin: 0; flex: 1 1 130px; max-width: 256px; min-width: 0; text-align: center }
.circular .pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 240px), 1fr)); gap: 16px }
.circular .pair figure { flex-basis: 120px; max-width: 200px }
.circular .glow { margin-top: 14px } .circular .glow figure { max-width: 200px }
.circular .trip { min-width: 0 }
.circular .frame { position: relative; aspect-ratio: 1; border-radius: 8px; overflow: hidden;
    border: 1px solid var(--border-color-primary) }
.circular .frame img { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0;
    image-rendering: pixelated; max-width: none }
.circular .live { opacity: 0; pointer-events: none }
.circular figcaption { font-size: 13px; margin-top: 3px; color: var(--body-text-color-subdued) }
.circular .label { font-size: 13px; margin: 12px 0 5px; color: var(--body-text-color-subdued) }
.circular .words { display: flex; flex-wrap: wrap; gap: 6px }
.circular .word { border: 1px solid var(--border-color-primary); border-radius: 8px; padding: 2px 8px; cursor: default;
    outline: 2px none var(--color-accent); background: var(--background-fill-secondary); font-size: 15px }
.circular .said .marked { background: #fde047; color: #111 }
.circular .read .word { display: inline-flex; flex-direction: column; padding: 4px 8px; font-size: 14px }
.circular .word.wrong { border: 2px dashed #dc2626; padding: 3px 7px }
.circular .right b, .circular .yes, .circular .status.ok { color: #15803d }
.circular .wrong b, .circular .no, .circular .status.wrong { color: #b91c1c }
.dark .circular .right b, .dark .circular .yes, .dark .circular .status.ok { color: #4ade80 }
.dark .circular .wrong b, .dark .circular .no, .dark .circular .status.wrong { color: #f87171 }
.circular .bar { display: block; height: 5px; border-radius: 3px; margin: 3px 0 2px; overflow: hidden;
    background: var(--border-color-primary) }
.circular .bar span { display: block; height: 100%; background: var(--color-accent) }
.circular small { font-size: 12px; color: var(--body-text-color-subdued); font-variant-numeric: tabular-nums }
.circular .verdict { font-weight: 600; margin-top: 10px }
.circular .sorry { padding: 12px; border-radius: 8px; background: var(--background-fill-secondary) }
.circular .status { min-height: 24px; overflow-wrap: anywhere }
.circular .strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(112px, 1fr)); gap: 12px }
.circular .strip figcaption { text-align: left } .circular .strip figcaption > * { display: block }
.circular .strip .text { color: var(--body-text-color); line-height: 1.35; margin: 2px 0 }
.circular mark { background: #fde047; color: #111; border-radius: 4px; padding: 0 3px }
.circular button { font-size: 13px; padding: 3px 11px; border-radius: 99px; cursor: pointer; margin: 2px;
    border: 1px solid var(--border-color-primary); background: var(--background-fill-secondary);
    color: var(--body-text-color); text-align: left }
.circular button:hover { border-color: var(--color-accent) }
LIVES
</style>"""

INTRO = """# Can a picture say it?
A painter turns a sentence into a picture of 64 × 64 pixels. A reader who gets nothing but those pixels says the
sentence again, every word at once. {millions} million weights learned both, from sentences alone; {beside}."""


# --- the page -------------------------------------------------------------------------------------------------------


def page(model: CircularScene, grounded: CircularScene | None) -> None:
    """Put the page into the `gr.Blocks` or tab that is open."""
    models, language = sides(model, grounded), model.config.language

    def go(sentence: str, seed: float, noise: float) -> str:
        said = understood(model, sentence)
        seed, noise = whole(seed, 0, MAX_SEED, "The seed"), number(noise, 0, MAX_NOISE, "The noise")
        return cards(models, (said,), lambda one: journey(trip(one, said, seed, noise)))

    def slid(sentence: str, seed: float | None, noise: float | None) -> str | dict:
        """The number of a slider is emptied while it is typed, and a sentence may be unfinished."""
        if seed is None or noise is None or "wrong" in status(models, sentence):
            return gr.skip()
        return go(sentence, seed, noise)

    def on_swap(sentence: str, at: int | None, word: str | None, seed: float, noise: float) -> str:
        said, after = understood(model, sentence), swapped(model, sentence, at, word)
        seed, noise = whole(seed, 0, MAX_SEED, "The seed"), number(noise, 0, MAX_NOISE, "The noise")
        # one by one: with the same seed, so that nothing but the word makes a difference
        return cards(
            models,
            (said, after),
            lambda one: contrast(trip(one, said, seed, noise), trip(one, after, seed, noise), int(at or 0)),
        )

    def on_between(sentence: str, second: str, steps: float, seed: float, noise: float) -> str:
        ends = understood(model, sentence), understood(model, second)
        seed, noise = whole(seed, 0, MAX_SEED, "The seed"), number(noise, 0, MAX_NOISE, "The noise")
        count = whole(steps, MIN_STEPS, MAX_STEPS, "The number of pictures")
        return cards(models, ends, lambda one: strip(walk(one, *ends, count, seed, noise)))

    def places(sentence: str) -> dict[str, Any]:
        """Of a radio: words of a sentence that can be swapped."""
        try:
            said = words(sentence, language)
            free = sorted({at for at, _ in swaps(sentence, language)})
        except SentenceError:
            return {"choices": [], "value": None}
        return {"choices": [(f"{at + 1}. {said[at]}", at) for at in free], "value": free[0] if free else None}

    def fitting(sentence: str, at: int | None) -> dict[str, Any]:
        """Of a radio: words that can stand at a place."""
        try:
            free = [word for place, word in swaps(sentence, language) if place == at]
        except SentenceError:
            free = []
        return {"choices": free, "value": free[0] if free else None}

    def typed(sentence: str) -> tuple:
        where = places(sentence)
        return status(models, sentence), gr.Radio(**where), gr.Radio(**fitting(sentence, where["value"]))

    def clicked(sentence: str, event: gr.EventData) -> str:
        return (event._data or {}).get("caption", sentence)

    look: dict[str, Any] = {"elem_classes": "circular", "apply_default_css": False}
    gr.HTML(STYLE.replace("LIVES", _lives()), padding=False)
    beside = "beside it stands one that was shown some pictures" if grounded else "no picture was ever shown to it"
    gr.Markdown(INTRO.format(millions=f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f}", beside=beside))
    caption = gr.Textbox(
        EXAMPLES[0], label="Your sentence", lines=2, max_length=MAX_CHARACTERS, elem_id="circular-caption"
    )
    judged = gr.HTML(status(models, EXAMPLES[0]), elem_id="circular-status", **look)
    buttons = "".join(f'<button data-caption="{html.escape(one)}">{html.escape(one)}</button>' for one in EXAMPLES)
    examples = gr.HTML(f"<div>{buttons}</div>", js_on_load=CLICKS, elem_id="circular-examples", **look)
    with gr.Row():
        propose = gr.Button("Propose a sentence", elem_id="circular-propose", min_width=140)
        button = gr.Button("Paint and read", variant="primary", elem_id="circular-go", min_width=140)
    with gr.Row(equal_height=True):
        noise = gr.Slider(
            0,
            MAX_NOISE,
            0,
            step=0.05,
            label="Noise",
            info="Between painter and reader: its standard deviation, on pixels from -1 to 1.",
            min_width=220,
            elem_id="circular-noise",
        )
        seed = gr.Slider(
            0,
            MAX_SEED,
            0,
            step=1,
            label="Seed",
            info="Another seed: other noise, another layout.",
            min_width=220,
            elem_id="circular-seed",
        )
    with gr.Tab("Round trip"):
        back = gr.HTML(go(EXAMPLES[0], 0, 0), elem_id="circular-back", **look)
    with gr.Tab("Swap"):
        first = places(EXAMPLES[0])
        at = gr.Radio(label="This word", elem_id="circular-at", **first)
        other = gr.Radio(label="becomes", elem_id="circular-other", **fitting(EXAMPLES[0], first["value"]))
        swap = gr.Button("Swap it", variant="primary", elem_id="circular-swap")
        compared = gr.HTML(elem_id="circular-compared", **look)
    with gr.Tab("Between"):
        second = gr.Textbox(
            OTHER, label="To this sentence", lines=2, max_length=MAX_CHARACTERS, elem_id="circular-second"
        )
        steps = gr.Slider(MIN_STEPS, MAX_STEPS, 7, step=1, label="Pictures on the way", elem_id="circular-steps")
        between = gr.Button("Walk there", variant="primary", elem_id="circular-between")
        walked = gr.HTML(elem_id="circular-walked", **look)

    quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    busy: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "circular", "api_visibility": "private"}
    both = [seed, noise]
    painting: dict[str, Any] = {"fn": go, "inputs": [caption, *both], "outputs": back}
    caption.change(typed, caption, [judged, at, other], trigger_mode="always_last", **quiet)
    at.input(lambda sentence, at: gr.Radio(**fitting(sentence, at)), [caption, at], other, **quiet)
    gr.on([button.click, caption.submit], **painting, **busy)
    propose.click(lambda: model.language.sample()[0], None, caption, **busy).then(**painting, **busy)
    examples.click(clicked, caption, caption, **quiet).then(**painting, **busy)
    gr.on([noise.input, seed.input], slid, [caption, *both], back, trigger_mode="always_last", **busy)
    swap.click(on_swap, [caption, at, other, *both], compared, **busy)
    gr.on([between.click, second.submit], on_between, [caption, second, steps, *both], walked, **busy)

    def roundtrip_api(sentence: str, seed: int = 0, noise: float = 0.0) -> list[dict]:
        """By each model that knows the sentence: the picture that was read, a PNG data URI, and what was read."""
        said = understood(model, sentence)
        seed, sigma = whole(seed, 0, MAX_SEED, "The seed"), number(noise, 0, MAX_NOISE, "The noise")
        made = [(side, trip(side.model, said, seed, sigma)) for side in models if side.knows(said)]
        return [
            {
                "model": side.name.lower(),
                "picture": _uri(to_pil(one.seen)),
                "read": one.reading.sentence,
                "words": [[word, round(sure, 4)] for word, sure in one.reading.confidence],
            }
            for side, one in made
        ]

    gr.api(roundtrip_api, api_name="roundtrip", concurrency_limit=1, concurrency_id="circular")


def demo(model: CircularScene, grounded: CircularScene | None) -> gr.Blocks:
    """The page alone. Takes the models, so that tiny ones can stand in for them."""
    with gr.Blocks(title="circular: can a picture say it?", analytics_enabled=False) as blocks:
        page(model, grounded)
    return blocks


def main() -> None:
    """Load, build, serve; what goes wrong is one line."""
    try:
        model = CircularScene.from_pretrained(released("circular"))
        grounded = CircularScene.from_pretrained(released("circular-grounded", "GROUNDED"))
        serve(demo(model, grounded))
    except (ValueError, OSError) as error:
        sys.exit(f"circular: {error}")


if __name__ == "__main__":
    main()
