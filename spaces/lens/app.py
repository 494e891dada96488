"""Show a picture that hides something: it is edited so that a classifier reads it, and a judge says what it thinks.

    picture --base--> edit without what was learned      picture --lens--> edit      both read by classifier and judge

Pictures go to the page as PNG inside the HTML, so nothing is written to disk but what a visitor uploads.
"""

import base64
import html
import io
import random
import sys
from dataclasses import dataclass
from typing import Any

import gradio as gr
import torch
from PIL import Image
from torch import Tensor

from hubmodels import DiffusionLens
from hubmodels.hub import HubError, released
from hubmodels.images import from_uint8, from_unit, to_pil, to_uint8, to_unit
from hubmodels.lens import camo
from hubmodels.lens.classifier import Classifier, loaded
from hubmodels.lens.data import square
from hubmodels.lens.sampler import schedule
from spaces.circular.app import number, whole
from spaces.distill.app import refusal, serve

MAX_SEED = 9999
MAX_STRENGTH = 0.6
MIN_STEPS, MAX_STEPS = 4, 50
MOST_LABELS, LONGEST = 50, 60
"""Labels at a time, and characters of one."""
LARGEST_URI = 10_000_000
SHOWN = 5
"""Bars under a picture."""
CASES, ROW = 96, 6
"""Test pictures that are looked through for cases, and cases that are shown of each kind."""
ABOUT = {
    "camouflage": "Camouflaged",
    "haze": "In haze",
    "noise": "In noise",
    "clear": "Clear",
}


@dataclass(frozen=True)
class Studio:
    """A lens and those who read what it makes."""

    lens: DiffusionLens
    reader: Classifier
    """Who gave the reward."""
    judge: Classifier
    """Who never did."""


# --- what a person asks for -----------------------------------------------------------------------------------------


def asked(studio: Studio, labels: list[str]) -> tuple[Classifier, Classifier]:
    """Classifier and judge for these labels, or a message."""
    said = [label.strip() for label in labels or []]
    if not 2 <= len(set(said)) == len(said) <= MOST_LABELS or any(not 0 < len(one) <= LONGEST for one in said):
        raise refusal(f"Choose 2 to {MOST_LABELS} different labels of at most {LONGEST} characters.")
    try:
        return studio.reader.asked(said), studio.judge.asked(said)
    except ValueError as error:
        raise refusal(f"{error}.") from None


def prepared(studio: Studio, image: Any) -> Tensor:
    """(1, 3, S, S) in [-1, 1] of what was uploaded, the square in its middle, or a message."""
    if not isinstance(image, Image.Image):
        raise refusal("Upload a picture, or have one drawn.")
    if min(image.size) < 8:
        raise refusal(f"The picture has {image.width} x {image.height} pixels: at least 8 a side are wanted.")
    return square(image, studio.lens.config.size)[None]


# --- editing --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """A picture, however it was made, and what is read of it."""

    name: str
    picture: Tensor
    """(3, S, S) uint8."""
    read: Tensor
    """(K,) chances of the labels, by the classifier; `judged` by the judge."""
    judged: Tensor


def looks(
    studio: Studio, picture: Tensor, labels: list[str], strength: float, steps: int, seed: int, gate: float
) -> tuple[list[Look], bool]:
    """The picture (1, 3, S, S) as it is, edited by the base, edited by the lens; and whether the gate held it back."""
    lens, (reader, judge) = studio.lens, asked(studio, labels)
    try:
        schedule(lens.base.scheduler, steps, strength)
    except ValueError as error:
        raise refusal(f"{error}.") from None
    with lens.as_base():
        base = lens.edit(picture, seed, strength, steps)
    edit = lens.edit(picture, seed, strength, steps)
    made = {"As it is": picture, "Base, not tuned": base.cpu(), "Tuned": edit.cpu()}
    rows = torch.cat([from_uint8(to_uint8(one)) for one in made.values()])  # what is read is what is shown
    with torch.inference_mode():
        read, judged = reader(rows).softmax(1), judge(rows).softmax(1)
    found = [Look(name, to_uint8(rows[n]), read[n], judged[n]) for n, name in enumerate(made)]
    return found, bool(read[0].max() >= gate)


def difference(before: Tensor, after: Tensor) -> tuple[Tensor, float]:
    """Of two pictures (3, S, S) uint8: (3, S, S) uint8 from black, the same, through red to white, the most that any
    pixel changed; and the mean change of a channel, in [0, 1]."""
    change = (to_unit(from_uint8(after)) - to_unit(from_uint8(before))).abs().mean(0)
    strength = change / change.max().clamp(min=1e-6)
    glow = torch.stack([(3 * strength - i).clamp(0, 1) for i in range(3)])
    return to_uint8(from_unit(glow)), float(change.mean())


def cases(studio: Studio, seed: int) -> dict[str, list[tuple[Tensor, Tensor, str, str, str]]]:
    """Of pictures that no training had: those that the lens fixed, and those that it broke. Each is the picture and its
    edit, (3, S, S) uint8, what it shows, and what was read of it before and after."""
    config, lens = studio.lens.config, studio.lens
    task = config.corruption or "camouflage"
    made = camo.scenes("test", seed, range(CASES), task if task in camo.TASKS else "clear", config.size)
    pictures = from_uint8(made.pictures)
    reader = studio.reader.asked(camo.CLASSES)
    edits = lens.edit(pictures, seed).cpu()
    with torch.inference_mode():
        before, after = (reader(rows).argmax(1) for rows in (pictures, edits))
    found: dict[str, list] = {"Fixed": [], "Broken": []}
    for row, label in enumerate(made.labels.tolist()):
        was, now = int(before[row]), int(after[row])
        kind = "Fixed" if now == label != was else "Broken" if was == label != now else ""
        if kind and len(found[kind]) < ROW:
            said = (camo.CLASSES[one] for one in (label, was, now))
            found[kind].append((made.pictures[row], to_uint8(edits[row]), *said))
    return found


# --- HTML -----------------------------------------------------------------------------------------------------------


def _uri(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _opened(uri: str) -> Image.Image:
    """The picture of a data URI, or a message."""
    try:
        if not isinstance(uri, str) or len(uri) > LARGEST_URI:
            raise ValueError("too large")
        image = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2], validate=True)))
        image.load()
        return image
    except (ValueError, OSError, Image.DecompressionBombError):
        raise refusal(f"Give a picture as a data URI of at most {LARGEST_URI // 10**6} MB.") from None


def _figure(picture: Tensor, caption: str, alt: str) -> str:
    shown = f'<img src="{_uri(to_pil(picture))}" alt="{html.escape(alt)}">'
    return f"<figure>{shown}<figcaption>{caption}</figcaption></figure>"


def bars(chances: Tensor, labels: list[str], name: str, truth: str) -> str:
    """The likeliest labels, each with a bar; the true one stands out, and is there in any case."""
    order = chances.argsort(descending=True).tolist()[:SHOWN]
    if truth in labels and labels.index(truth) not in order:
        order[-1] = labels.index(truth)
    rows = "".join(
        f'<div class="row{" truth" if labels[n] == truth else ""}" data-label="{html.escape(labels[n])}">'
        f'<span class="name">{html.escape(labels[n])}</span>'
        f'<span class="bar"><span style="width: {100 * float(chances[n]):.1f}%"></span></span>'
        f"<small>{100 * float(chances[n]):.0f} %</small></div>"
        for n in order
    )
    return f'<div class="bars" data-by="{name.lower()}"><p class="label">{name}</p>{rows}</div>'


def shown(found: list[Look], held: bool, labels: list[str], truth: str) -> str:
    """Pictures side by side, what is read of each, and where the tuned one differs."""
    columns = "".join(
        f'<article class="look" data-look="{n}"><h3>{look.name}</h3>{_figure(look.picture, "", look.name)}'
        f"{bars(look.read, labels, 'Classifier', truth)}{bars(look.judged, labels, 'Judge', truth)}</article>"
        for n, look in enumerate(found)
    )
    glow, mean = difference(found[0].picture, found[-1].picture)
    heat = _figure(glow, f"mean change {100 * mean:.1f} %", "where the tuned edit differs")
    best = [labels[int(look.read.argmax())] for look in found]
    sure = float(found[0].read.max())
    said = f"the classifier is {100 * sure:.0f} % sure of the picture as it is"
    line = f"The gate holds the edit back: {said}." if held else f"The gate lets the edit through: {said}."
    told = f" It shows {html.escape(truth)}." if truth else ""
    first = best[0] if held else best[-1]
    return (
        f'<p class="verdict" role="status">Read: <b>{html.escape(first)}</b>.{told} {line}</p>'
        f'<div class="looks">{columns}<article class="look"><h3>What changed</h3>{heat}</article></div>'
    )


def sheet(found: dict[str, list[tuple[Tensor, Tensor, str, str, str]]]) -> str:
    """Fixed and broken cases, both kinds."""
    parts = []
    for kind, some in found.items():
        cells = "".join(
            f'<div class="case">{_figure(before, f"read {html.escape(was)}", f"{truth}, before")}'
            f"{_figure(after, f'read {html.escape(now)}', f'{truth}, after')}<small>{html.escape(truth)}</small></div>"
            for before, after, truth, was, now in some
        )
        parts.append(f'<h3>{kind}</h3><div class="cases" data-kind="{kind.lower()}">{cells or "None here."}</div>')
    return "".join(parts)


STYLE = """<style>
.lens .looks { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 210px), 1fr)); gap: 16px }
.lens .look { min-width: 0; border: 1px solid var(--border-color-primary); border-radius: 12px; padding: 12px;
    background: var(--background-fill-primary) }
.lens h3 { margin: 0 0 8px; font-size: 16px }
.lens figure { margin: 0; text-align: center }
.lens img { width: 100%; image-rendering: pixelated; border-radius: 8px; margin: 0 }
.lens figcaption, .lens small, .lens .label { font-size: 13px; color: var(--body-text-color-subdued) }
.lens .label { margin: 10px 0 4px }
.lens .row { display: grid; grid-template-columns: 5.5em 1fr 3em; gap: 6px; align-items: center; font-size: 14px }
.lens .row .name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
.lens .row small { text-align: right; font-variant-numeric: tabular-nums }
.lens .truth .name { font-weight: 700; text-decoration: underline }
.lens .bar { display: block; height: 8px; border-radius: 4px; overflow: hidden;
    background: var(--border-color-primary) }
.lens .bar span { display: block; height: 100%; background: var(--color-accent) }
.lens .verdict { margin: 6px 0 12px; font-size: 16px }
.lens .cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(210px, 1fr)); gap: 14px;
    margin-bottom: 18px }
.lens .case { display: grid; grid-template-columns: 1fr 1fr; gap: 4px }
.lens .case small { grid-column: 1 / 3; text-align: center }
</style>"""

INTRO = """# What is hidden here?
A diffusion model edits a picture a little, and was rewarded whenever a classifier read it better afterwards. The judge
never gave a reward: if it disagrees, the edit may have fooled the classifier alone. Nothing that an edit shows is
evidence. Pictures of {size} × {size} pixels."""


# --- the page -------------------------------------------------------------------------------------------------------


def page(studio: Studio) -> None:
    """Put the page into the `gr.Blocks` or tab that is open."""
    config = studio.lens.config
    known = config.labels.split("; ")
    task = config.corruption if config.corruption in camo.TASKS else "camouflage"

    def hidden(task: str) -> tuple[Image.Image, str]:
        if task not in camo.TASKS:
            raise refusal("Choose how it is hidden.")
        made = camo.scenes("test", 0, [random.SystemRandom().randrange(10**6)], task, config.size)
        return to_pil(made.pictures[0]), camo.CLASSES[int(made.labels[0])]

    def go(image: Any, labels: list[str], strength: float, steps: float, seed: float, gate: float, truth: str) -> str:
        picture, count = prepared(studio, image), whole(steps, MIN_STEPS, MAX_STEPS, "The number of steps")
        strength = number(strength, 0, MAX_STRENGTH, "The strength")
        seed, gate = whole(seed, 0, MAX_SEED, "The seed"), number(gate, 0, 1, "The gate")
        found, held = looks(studio, picture, labels, strength, count, seed, gate)
        return shown(found, held, [label.strip() for label in labels], truth)

    look: dict[str, Any] = {"elem_classes": "lens", "apply_default_css": False}
    gr.HTML(STYLE, padding=False)
    gr.Markdown(INTRO.format(size=config.size))
    truth = gr.State("")
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            image = gr.Image(
                label="Your picture",
                type="pil",
                sources=["upload", "clipboard"],
                height=260,
                elem_id="lens-image",
            )
        with gr.Column(scale=2, min_width=320):
            with gr.Row(equal_height=True):
                way = gr.Radio(
                    [(name, key) for key, name in ABOUT.items()], value=task, label="Hidden animal", elem_id="lens-task"
                )
                draw = gr.Button("Draw one", elem_id="lens-draw", min_width=120)
            labels = gr.Dropdown(
                known,
                value=known,
                multiselect=True,
                allow_custom_value=True,
                label="Labels",
                info="What classifier and judge choose from.",
                elem_id="lens-labels",
            )
    with gr.Row(equal_height=True):
        strength = gr.Slider(
            0.05,
            MAX_STRENGTH,
            config.strength,
            step=0.05,
            label="Strength",
            info="Share of the steps that are executed.",
            min_width=180,
            elem_id="lens-strength",
        )
        steps = gr.Slider(
            MIN_STEPS,
            MAX_STEPS,
            config.steps,
            step=1,
            label="Steps",
            info="From pure noise.",
            min_width=180,
            elem_id="lens-steps",
        )
        seed = gr.Slider(0, MAX_SEED, 0, step=1, label="Seed", info="Of the noise.", min_width=180, elem_id="lens-seed")
        gate = gr.Slider(
            0,
            1,
            config.gate,
            step=0.05,
            label="Gate",
            info="Pictures that the classifier is so sure of stay as they are.",
            min_width=180,
            elem_id="lens-gate",
        )
    button = gr.Button("Look through the lens", variant="primary", elem_id="lens-go")
    result = gr.HTML(elem_id="lens-result", **look)
    with gr.Accordion("Fixed and broken cases", open=False, elem_id="lens-accordion"):
        find = gr.Button(f"Look through {CASES} pictures that no training had", elem_id="lens-find")
        board = gr.HTML(elem_id="lens-cases", **look)

    quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    busy: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "lens", "api_visibility": "private"}
    given = [image, labels, strength, steps, seed, gate, truth]
    draw.click(hidden, way, [image, truth], **quiet).then(go, given, result, **busy)
    image.input(lambda: "", None, truth, **quiet)  # nobody knows what pictures of visitors show
    button.click(go, given, result, **busy)
    gr.on([strength.release, steps.release, seed.release, gate.release], go, given, result, **busy)

    def look_api(
        picture: str,
        labels: list[str] | None = None,
        strength: float = config.strength,
        steps: int = config.steps,
        seed: int = 0,
    ) -> list[dict]:
        """The picture as it is, edited by the base, and edited by the lens, each with the chances of the labels.

        Args:
            picture: PNG or JPEG as a data URI, as they come back.
        """
        chosen = labels or known
        strength, steps = number(strength, 0, MAX_STRENGTH, "The strength"), whole(steps, MIN_STEPS, MAX_STEPS, "steps")
        seed = whole(seed, 0, MAX_SEED, "The seed")
        found, _ = looks(studio, prepared(studio, _opened(picture)), chosen, strength, steps, seed, 1.0)
        return [
            {
                "name": look.name,
                "picture": _uri(to_pil(look.picture)),
                "classifier": dict(zip(chosen, look.read.tolist(), strict=True)),
                "judge": dict(zip(chosen, look.judged.tolist(), strict=True)),
            }
            for look in found
        ]

    gr.api(look_api, api_name="look", concurrency_limit=1, concurrency_id="lens")
    find.click(lambda: sheet(cases(studio, random.SystemRandom().randrange(10**6))), None, board, **busy)


def demo(studio: Studio) -> gr.Blocks:
    """The page alone. Takes the models, so that tiny ones can stand in for them."""
    with gr.Blocks(title="lens: what is hidden here?", analytics_enabled=False) as blocks:
        page(studio)
    return blocks


def released_studio() -> Studio:
    """The released lens, its classifier and the judge; $LENS and $JUDGE name others.

    Raises:
        HubError: one of them cannot be had.
    """
    lens = DiffusionLens.from_pretrained(released("lens", "LENS"))
    lens.base  # noqa: B018 - loaded now, not when the first visitor comes
    reader = lens.reader()
    return Studio(lens, reader, loaded(released("lens-judge", "JUDGE"), reader.labels))


def main() -> None:
    """Load, build, serve; what goes wrong is one line."""
    try:
        serve(demo(released_studio()))
    except (HubError, ValueError, OSError) as error:
        sys.exit(f"lens: {error}")


if __name__ == "__main__":
    main()
