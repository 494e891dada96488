"""Say a scene, and a small network draws it beside the renderer that taught it; then change one word and look.

    caption --place(seed + i)--> scenes --student, teacher--> pictures --read--> verdicts

Pictures go to the page as PNG inside the HTML, so nothing is written to disk. R pixels a side.
"""

import base64
import difflib
import html
import io
import os
import random
import re
import sys
from dataclasses import dataclass, replace
from itertools import zip_longest

import gradio as gr
import torch
import torch.nn.functional as F
from torch import Tensor

from hubmodels import DistilledRenderer
from hubmodels.hub import released
from hubmodels.images import from_pil, from_uint8, from_unit, to_pil, to_uint8, to_unit
from hubmodels.scenes import (
    GrammarError,
    LayoutError,
    Scene,
    agrees,
    masks,
    parse,
    place,
    read,
    render,
    sample,
    suggestions,
)
from hubmodels.scenes import caption as say
from hubmodels.scenes.counterfactuals import KINDS, Pair, edits
from hubmodels.scenes.reader import Reading
from hubmodels.scenes.splits import unplaced
from hubmodels.scenes.world import NUMBERS, PLURALS, SHAPES

MAX_PICTURES = 8
MAX_SEED = 9999
SHOWN_PX = 256
"""Small pictures are enlarged to this, pixels staying square."""
OWN = "my own sentence"

EXAMPLES = (
    "The red ball is left of the blue cube.",
    "There are five green stars.",
    "The small yellow star is inside the large purple ball. The background is black.",
    "The orange triangle is on the red block, which is above the two cyan diamonds.",
    "The pink ring is in front of the green cross. The background is shaded.",
    "The red ball at 12 40 is left of the blue cube at 50 31.",
)

# --- sentences --------------------------------------------------------------------------------------------------


def expected(caption: str) -> tuple[int, int, list[str]]:
    """Where the sentence must change or go on, caption[start:end], and the words that fit there."""
    for word in re.finditer(r"[.,]|[^\s.,]+", caption):
        fitting = suggestions(caption[: word.start()])
        if word.group().lower() not in fitting:
            begun = [w for w in fitting if w.startswith(word.group().lower()) and word.end() == len(caption)]
            return word.start(), word.end(), begun or fitting
    return len(caption), len(caption), suggestions(caption)


def insert(caption: str, word: str) -> str:
    """The sentence with a word where `expected` says that one belongs."""
    start, end, _ = expected(caption)
    before, after = caption[:start].rstrip(), caption[end:]
    word = word.capitalize() if not before or before.endswith(".") else word
    return f"{before}{word}{after}".lstrip() if word in (".", ",") else f"{before} {word}{after}".lstrip()


def validate(caption: str) -> dict:
    """Judge a sentence while it is typed.

    Returns:
        `state` ("ok", "unfinished" or "wrong"), a `message` of one line, and the `next` words that fit.
    """
    try:
        scene = place(parse(caption), 0)
    except LayoutError as error:
        return {"state": "wrong", "message": _sentence(error), "next": []}
    except GrammarError as error:
        if not caption.strip():
            return {"state": "unfinished", "message": "Say what to draw.", "next": _words(caption)}
        start, end, words = expected(caption)
        unfinished = end == len(caption) and all(w.startswith(caption[start:end].lower()) for w in words)
        message = "Good so far. What comes next?" if unfinished else _sentence(error)
        return {"state": "unfinished" if unfinished else "wrong", "message": message, "next": _words(caption)}
    things = sum(group.count for group in scene.groups)
    message = f"Understood: {things} thing{'s' * (things > 1)} on a {scene.background} background."
    return {"state": "ok", "message": message, "next": _words(caption)}


def _words(caption: str) -> list[str]:
    """Without coordinates: 64 of them would bury the rest."""
    if len(caption) > 1000:
        return []
    return [word for word in expected(caption)[2] if not word.isdigit()]


def _sentence(error: Exception) -> str:
    return str(error)[:1].upper() + str(error)[1:] + "."


def refusal(message: str) -> gr.Error:
    """What a person did wrong: shown on the page, which takes it for HTML, and not in the server's log."""
    return gr.Error(html.escape(message), title="Not like this", print_exception=False)


def understood(caption: str, seed: int) -> Scene:
    """The placed scene of a sentence, or a message for the person who wrote it."""
    if not isinstance(caption, str):
        raise refusal("The sentence must be text.")
    if isinstance(seed, bool) or not isinstance(seed, (int, float)) or seed != int(seed) or not 0 <= seed <= MAX_SEED:
        raise refusal(f"The seed must be a whole number from 0 to {MAX_SEED}.")
    try:
        return place(parse(caption), int(seed))
    except (GrammarError, LayoutError) as error:
        raise refusal(_sentence(error)) from None


# --- pictures ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawing:
    """A placed scene, drawn. Pictures are (3, R, R) uint8 sRGB."""

    scene: Scene
    student: Tensor
    teacher: Tensor
    reading: Reading
    """What the reader sees in the student's picture."""
    exact: bool


def drawings(model: DistilledRenderer, scenes: list[Scene]) -> list[Drawing]:
    """Placed scenes by both painters, read back by one who knows neither sentence nor network."""
    student = torch.stack([to_uint8(from_pil(picture)) for picture in model.generate([say(s) for s in scenes])])
    teacher = render(scenes, model.config.resolution)
    # the reader reads 64 x 64
    readings = read(to_uint8(F.adaptive_avg_pool2d(from_uint8(student), 64)))
    exact = [agrees(reading, scene).exact for reading, scene in zip(readings, scenes, strict=True)]
    return [Drawing(*row) for row in zip(scenes, student, teacher, readings, exact, strict=True)]


def draw(model: DistilledRenderer, caption: str, seed: int, n: int) -> list[Drawing]:
    """n pictures of a sentence, picture i with layout seed + i; a sentence that says where everything is gives one."""
    if isinstance(n, bool) or not isinstance(n, (int, float)) or n not in range(1, MAX_PICTURES + 1):
        raise refusal(f"The number of pictures must be from 1 to {MAX_PICTURES}.")
    scenes = [understood(caption, seed)]
    if not parse(caption).placed:
        scenes += [place(parse(caption), int(seed) + i) for i in range(1, int(n))]
    return drawings(model, scenes)


@dataclass(frozen=True)
class Change:
    """An edit, drawn before and after."""

    before: Drawing
    after: Drawing
    region: Tensor
    """(R, R) bool: the edited things before and after, grown by two pixels for their soft edges."""
    kept: bool
    """Whether everything else stayed in its place."""

    @property
    def energy(self) -> Tensor:
        """(R, R) squared change of the student's picture, in [0, 1]."""
        before, after = (to_unit(from_uint8(d.student)) for d in (self.before, self.after))
        return (after - before).square().mean(0)

    @property
    def inside(self) -> float:
        """Share of the energy that lies in the region; 1 where nothing changed."""
        total = self.energy.sum()
        return float((self.energy * self.region).sum() / total) if total else 1.0


def edit(model: DistilledRenderer, caption: str, seed: int, kind: str, own: str, attempt: int) -> Change:
    """Change one thing that a sentence says, at random, or everything that another sentence says differently."""
    scene, kept = understood(caption, seed), True
    if kind == OWN:
        pair, kept = rewritten(scene, own, seed)
    elif kind in KINDS:
        pair = edits(scene, kind, random.Random(f"{seed} {attempt}"))
        if pair is None:
            hint = " Say how two things stand to each other first." if kind == "relation" else ""
            raise refusal(f"This scene has no other {kind} to go to.{hint}")
    else:
        raise refusal(f"An edit is one of: {', '.join((*KINDS, OWN))}.")
    before, after = drawings(model, [pair.before, pair.after])
    ids = masks([pair.before, pair.after], model.config.resolution)
    edited = [torch.isin(i, torch.tensor(c, dtype=i.dtype)) for i, c in zip(ids, pair.changed, strict=True)]
    changed = edited[0] | edited[1] | (before.teacher != after.teacher).any(0)
    return Change(before, after, F.max_pool2d(changed[None].float(), 5, 1, 2)[0] > 0, kept)


def rewritten(before: Scene, own: str, seed: int) -> tuple[Pair, bool]:
    """The scene of another sentence with as much as possible in its old place, and whether all of it could be."""
    said = understood(own, seed) and parse(own)
    stays = [
        old is not None and new is not None and not new.places and new.count == old.count
        for old, new in zip_longest(before.groups, said.groups)
    ]
    alike = [replace(a, places=()) == b for a, b in zip(before.groups, said.groups, strict=False)]
    for chosen in (stays, [a and b for a, b in zip(stays, alike, strict=False)]):
        groups = [
            replace(group, places=before.groups[i].places) if i < len(chosen) and chosen[i] else group
            for i, group in enumerate(said.groups)
        ]
        try:
            after, kept = place(replace(said, groups=tuple(groups)), int(seed)), True
            break
        except LayoutError:
            after, kept = place(said, int(seed)), False
    old, new = _things(before), _things(after)
    gone = tuple(i for i, thing in enumerate(old, 1) if thing not in new)
    come = tuple(i for i, thing in enumerate(new, 1) if thing not in old)
    return Pair(before, after, (gone, come)), kept


def _things(scene: Scene) -> list[tuple]:
    """In the order of mention, which is how masks number them."""
    return [(g.color, g.shape, g.size, where) for g in scene.groups for where in g.places]


def heat(change: Change) -> Tensor:
    """(3, R, R) uint8: black where nothing changed, through red to white; the region is outlined in cyan."""
    strength = change.energy.sqrt()
    strength = strength / strength.max().clamp(min=1e-6)
    glow = torch.stack([(3 * strength - i).clamp(0, 1) for i in range(3)])
    region = change.region.float()
    outline = (F.max_pool2d(region[None], 3, 1, 1)[0] - region) > 0
    cyan = torch.tensor([0.3, 0.8, 0.95])[:, None, None]
    return to_uint8(from_unit(torch.where(outline, cyan, glow)))


# --- HTML -------------------------------------------------------------------------------------------------------


def _uri(picture: Tensor) -> str:
    """A picture (3, R, R) as a PNG that a page or a program can hold."""
    image, file = to_pil(picture), io.BytesIO()
    image.resize((SHOWN_PX, SHOWN_PX), 0).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _figure(picture: Tensor, title: str, alt: str) -> str:
    return (
        f'<figure><img src="{_uri(picture)}" alt="{html.escape(alt)}" title="{html.escape(title)}">'
        f"<figcaption>{html.escape(title)}</figcaption></figure>"
    )


def _seen(reading: Reading) -> str:
    """A reading in words: "2 red balls, 1 small blue cube; white background"."""
    kinds = [thing.kind for thing in reading.things]
    nouns = []
    for size, color, shape in dict.fromkeys(kinds):
        count = kinds.count((size, color, shape))
        noun = PLURALS[SHAPES.index(shape)] if count > 1 else shape
        number = NUMBERS[count - 1] if count <= len(NUMBERS) else str(count)
        nouns.append(" ".join([number, *([size] if size != "medium" else []), color, noun]))
    return f"{', '.join(nouns) or 'nothing'}; {reading.background} background"


def _verdict(drawing: Drawing) -> str:
    word = "The reader agrees" if drawing.exact else "The reader disagrees"
    return (
        f'<p class="verdict {"yes" if drawing.exact else "no"}"><b>{"✓" if drawing.exact else "✗"} {word}</b> '
        f"It sees {html.escape(_seen(drawing.reading))}.</p>"
    )


def _placed(scene: Scene) -> str:
    said = html.escape(say(scene))
    return f'<p class="placed">{said}</p><button data-caption="{said}">Edit this one</button>'


def cards(shown: list[Drawing]) -> str:
    """A card for each drawing: student, teacher, verdict, and the sentence with the places that were used."""
    return (
        '<div class="cards">'
        + "".join(
            f'<article class="card" data-exact="{str(d.exact).lower()}"><div class="pictures">'
            f"{_figure(d.student, 'network', say(d.scene))}{_figure(d.teacher, 'renderer', say(d.scene))}</div>"
            f"{_verdict(d)}{_placed(d.scene)}</article>"
            for d in shown
        )
        + "</div>"
    )


def _marked(before: str, after: str) -> tuple[str, str]:
    """Both sentences with the words that differ marked."""
    old, new = before.split(), after.split()
    lines: tuple[list[str], list[str]] = ([], [])
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        for line, words in zip(lines, (old[a:b], new[c:d]), strict=True):
            text = html.escape(" ".join(words))
            line += [text if kind == "equal" else f"<mark>{text}</mark>"] * bool(words)
    return " ".join(lines[0]), " ".join(lines[1])


def comparison(change: Change) -> str:
    """Before, after, and where the student's picture changed."""
    a, b = change.before, change.after
    short = [say(unplaced(d.scene)) for d in (a, b)]
    before, after = _marked(*(short if short[0] != short[1] else [say(a.scene), say(b.scene)]))
    lost = "" if change.kept else "<p>The old places do not fit the new sentence, so it got a layout of its own.</p>"
    return (
        f'<div class="change"><p class="said">{before}<br>↓<br>{after}</p><div class="pictures">'
        f"{_figure(a.student, 'before', say(a.scene))}{_figure(b.student, 'after', say(b.scene))}"
        f"{_figure(heat(change), 'what changed', 'heat map of the change')}</div>"
        f'<p class="share"><b>{change.inside:.1%}</b> of the change lies inside the edited things (outlined).</p>'
        f"{lost}{_verdict(b)}{_placed(b.scene)}</div>"
    )


def _status(caption: str) -> str:
    judged = validate(caption)
    message = judged["message"]
    if judged["next"]:
        message = message.partition("; expected")[0]  # the chips say it
    message = re.sub(r"\[(\S+?)\](?=[ ;.]|$)", r"<mark>\1</mark>", html.escape(message))
    sign = {"ok": "✓", "unfinished": "…", "wrong": "✗"}[judged["state"]]
    chips = "".join(f'<button data-word="{w}">{w}</button>' for w in judged["next"])
    return (
        f'<div class="status {judged["state"]}" role="status"><p>{sign} {message}</p>'
        f'<div class="chips" aria-label="words that fit">{chips}</div></div>'
    )


LARGEST_FILE = "64mb"
"""That a visitor may upload."""
CLICKS = """element.addEventListener('click', event => {
    const button = event.target.closest('button');
    if (button) trigger('click', {...button.dataset});
});"""

STYLE = """<style>
.distill .cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: 16px }
.distill .card, .distill .change { border: 1px solid var(--border-color-primary); border-radius: 14px; padding: 14px;
    background: var(--background-fill-primary) }
.distill .pictures { display: flex; gap: 10px }
.distill figure { margin: 0; flex: 1; min-width: 0; max-width: 256px; text-align: center }
.distill figure img { width: 100%; aspect-ratio: 1; image-rendering: pixelated; border-radius: 8px; margin: 0;
    border: 1px solid var(--border-color-primary) }
.distill figcaption { font-size: 13px; color: var(--body-text-color-subdued) }
.distill p { margin: 8px 0 }
.distill .verdict { font-size: 14px; line-height: 1.4 }
.distill .yes b { color: #15803d } .distill .no b { color: #b91c1c }
.dark .distill .yes b { color: #4ade80 } .dark .distill .no b { color: #f87171 }
.distill .verdict b { display: block }
.distill .placed { font-family: var(--font-mono); font-size: 12px; line-height: 1.45; user-select: all;
    color: var(--body-text-color-subdued) }
.distill button { font-size: 13px; padding: 3px 11px; border-radius: 99px; cursor: pointer; margin: 2px;
    border: 1px solid var(--border-color-primary); background: var(--background-fill-secondary);
    color: var(--body-text-color) }
.distill button:hover { border-color: var(--color-accent) }
.distill .status { border-left: 4px solid; padding: 2px 0 2px 12px; min-height: 74px }
.distill .status p { margin: 2px 0 6px; overflow-wrap: anywhere }
.distill .ok { border-color: #16a34a } .distill .unfinished { border-color: #d97706 }
.distill .wrong { border-color: #dc2626 }
.distill mark { background: #fde047; color: #111; border-radius: 4px; padding: 0 3px }
.distill .said { text-align: center; font-size: 17px; line-height: 1.5 }
.distill .change .pictures { justify-content: center }
.distill .change > p, .distill .change { text-align: center }
.distill .share b { font-size: 22px }
</style>"""

INTRO = """# Say it, see it
A network of {millions:.1f} million weights draws what a sentence says. It learned from a renderer that follows
rules; both are shown, and a reader that knows neither the sentence nor the network says what it sees in the
network's picture."""


# --- the page ---------------------------------------------------------------------------------------------------


def page(model: DistilledRenderer) -> None:
    """Put the page into the `gr.Blocks` or tab that is open."""

    def draw_api(caption: str, seed: int = 0, n: int = 1) -> list[dict]:
        """Pictures of a sentence as PNG data URIs: the network's, the renderer's, and whether the reader agrees."""
        return [
            {
                "caption": say(d.scene),
                "student": _uri(d.student),
                "teacher": _uri(d.teacher),
                "exact": d.exact,
                "seen": _seen(d.reading),
            }
            for d in draw(model, caption, seed, n)
        ]

    def edit_api(caption: str, kind: str, seed: int = 0, own: str = "", attempt: int = 0) -> dict:
        """One thing changed (color, shape, size, count, relation), or another sentence: before, after, what changed."""
        change = edit(model, caption, seed, kind, own, attempt)
        return {
            "before": {"caption": say(change.before.scene), "picture": _uri(change.before.student)},
            "after": {
                "caption": say(change.after.scene),
                "picture": _uri(change.after.student),
                "exact": change.after.exact,
            },
            "heat": _uri(heat(change)),
            "inside": round(change.inside, 4),
            "kept": change.kept,
        }

    def surprise() -> str:
        return say(sample(random.SystemRandom()))

    def clicked(caption: str, event: gr.EventData) -> str:
        """A chip adds its word, a sentence replaces the one in the box."""
        data = event._data or {}
        if "caption" in data:
            return data["caption"]
        return insert(caption, data["word"]) if "word" in data else caption

    look = {"elem_classes": "distill", "apply_default_css": False}
    gr.HTML(STYLE, padding=False)
    gr.Markdown(INTRO.format(millions=sum(p.numel() for p in model.parameters()) / 1e6))
    caption = gr.Textbox(EXAMPLES[0], label="Your sentence", lines=2, max_lines=4, elem_id="caption", autofocus=True)
    status = gr.HTML(_status(EXAMPLES[0]), js_on_load=CLICKS, elem_id="status", **look)
    with gr.Row(equal_height=True):
        seed = gr.Slider(0, MAX_SEED, 0, step=1, label="Seed", info="Another seed, another layout.", min_width=200)
        n = gr.Slider(1, MAX_PICTURES, 2, step=1, label="Pictures", info="One layout each.", min_width=200)
    with gr.Row():
        button = gr.Button("Draw", variant="primary", elem_id="draw", min_width=120)
        lucky = gr.Button("Surprise me", elem_id="surprise", min_width=120)
    with gr.Accordion("Examples", open=True):
        buttons = "".join(f'<button data-caption="{e}">{e}</button>' for e in EXAMPLES)
        examples = gr.HTML(f"<div>{buttons}</div>", js_on_load=CLICKS, elem_id="examples", **look)
    pictures = gr.HTML(cards(draw(model, EXAMPLES[0], 0, 2)), js_on_load=CLICKS, elem_id="pictures", **look)

    gr.Markdown("## Change one thing\nEverything else should stay as it is. Does it?")
    kind = gr.Radio([*KINDS, OWN], value="color", label="What changes", elem_id="kind")
    own = gr.Textbox(label="The sentence after", visible=False, elem_id="own")
    attempt = gr.State(0)
    change = gr.Button("Change it", variant="primary", elem_id="change")
    changed = gr.HTML(js_on_load=CLICKS, elem_id="changed", **look)

    quiet = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    busy = {"concurrency_limit": 1, "concurrency_id": "distill", "api_visibility": "private"}
    drawing = {"fn": lambda *said: cards(draw(model, *said)), "inputs": [caption, seed, n], "outputs": pictures}
    caption.change(_status, caption, status, trigger_mode="always_last", **quiet)
    gr.on([button.click, caption.submit], **drawing, **busy)
    lucky.click(surprise, None, caption, **quiet).then(**drawing, **busy)
    for source in (status, examples, pictures, changed):
        source.click(clicked, caption, caption, **quiet)
    kind.change(
        lambda kind, caption, own: gr.Textbox(own or caption, visible=kind == OWN), [kind, caption, own], own, **quiet
    )
    gr.on(
        [change.click, own.submit],
        lambda *said: (comparison(edit(model, *said)), said[-1] + 1),
        [caption, seed, kind, own, attempt],
        [changed, attempt],
        **busy,
    )
    gr.api(validate, api_name="validate")
    gr.api(draw_api, api_name="draw", concurrency_limit=1, concurrency_id="distill")
    gr.api(edit_api, api_name="edit", concurrency_limit=1, concurrency_id="distill")


def demo(model: DistilledRenderer) -> gr.Blocks:
    """The page alone. Takes the model, so that a tiny one can stand in for it."""
    with gr.Blocks(title="distill: say it, see it", analytics_enabled=False) as blocks:
        page(model)
    return blocks


def serve(blocks: gr.Blocks) -> None:
    """Serve on $HOST and $PORT, 127.0.0.1:7860 if they are not set; to everyone on a Hub Space.

    Raises:
        ValueError: $PORT is no port.
        OSError: it is taken.
    """
    port = os.environ.get("PORT") or "7860"
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ValueError(f"PORT must be a number from 1 to 65535, got {port!r}")
    host = os.environ.get("HOST") or ("0.0.0.0" if "SPACE_ID" in os.environ else "127.0.0.1")
    # fonts that every machine has: the default ones are fetched from elsewhere
    theme = gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    try:
        blocks.queue(max_size=32).launch(
            server_name=host, server_port=int(port), theme=theme, footer_links=["api"], max_file_size=LARGEST_FILE
        )
    except OSError as error:
        message = f"cannot listen on {host}:{port}: stop what listens there, or choose another PORT"
        raise OSError(message) from error


def main() -> None:
    """Load, build, serve; what goes wrong is one line."""
    try:
        serve(demo(DistilledRenderer.from_pretrained(released("distill"))))
    except (ValueError, OSError) as error:
        sys.exit(f"distill: {error}")


if __name__ == "__main__":
    main()
