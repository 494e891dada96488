"""Words become a pixel-art background; then repaint a part, go on beyond the edge, vary, tile, and take it away.

    caption --draw--> pictures --chosen--> one picture --edit, outpaint, vary, tile, remap--> more of them --> files

Pictures are index pictures with their palette from beginning to end; what the page shows is enlarged by whole numbers.
"""

import base64
import html
import os
import random
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from hubmodels.hub import released
from hubmodels.pixelscene import files, palettes
from hubmodels.pixelscene import scene as scenes
from hubmodels.pixelscene.sampling import PLAIN, Sampling
from hubmodels.pixelscene.scene import Pair, Picture
from spaces.distill.app import CLICKS, refusal, serve

MAX_PICTURES, MAX_SEED, MAX_CAPTION = 8, 9999, 400
KEPT_S = (600, 3600)
"""Every so many seconds, files that are so many seconds old are deleted."""
FITTING, FILE = "one that fits", "my own file"
NAMES = {"EGA": "ega", "CGA": "cga", "PICO-8": "pico8", "C64": "c64", "VGA": "vga"}
EDGES = ("right", "left", "top", "bottom")
EXAMPLES = (
    "A spooky mansion on a cliff at night",
    "A castle on a hill at sunset, with a lake in front",
    "A forest in the fog",
    "A tavern from inside, with a fireplace and barrels",
    "A beach by day, with palms",
    "A dungeon with chains and a torch",
)


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture on the page, and what it came from."""

    picture: Picture
    caption: str
    seed: int


Gallery = tuple[Shown, ...]


# --- what is asked ------------------------------------------------------------------------------------------------


def said(caption: str) -> str:
    """A caption of one line, or a message for the person who wrote it."""
    if not isinstance(caption, str) or not caption.strip():
        raise refusal("Say what is to be seen.")
    if len(caption) > MAX_CAPTION:
        raise refusal(f"At most {MAX_CAPTION} letters, got {len(caption)}.")
    return " ".join(caption.split())


def chosen_palette(name: str, file: str | None) -> np.ndarray | None:
    """Colours by the name on the page or of a file; None has them drawn."""
    if name == FITTING:
        return None
    if name == FILE:
        if not file:
            raise refusal("Upload a palette: .gpl, .hex, .pal, .act or .png.")
        try:
            return palettes.read(file)
        except ValueError as error:
            raise refusal(str(error).replace(str(file), Path(file).name)) from None
    if name not in NAMES:
        raise refusal("This palette is none that the page offers: reload it.")
    return palettes.BUILT_IN[NAMES[name]].copy()


def settings(seed: float, temperature: float, top_k: float, guidance: float, rounds: float) -> Sampling:
    try:
        if not 0 <= seed <= MAX_SEED + MAX_PICTURES or not 1 <= rounds <= 64 or not 0 <= guidance <= 10:
            raise ValueError("one of the settings is out of its range")
        return Sampling(float(temperature), int(top_k), 1.0, float(guidance), int(rounds), int(seed))
    except (ValueError, TypeError, OverflowError) as error:
        raise refusal(f"{error}.") from None


def drawn(pair: Pair, caption: str, n: int, colours: np.ndarray | None, how: Sampling, progress: Callable) -> Gallery:
    """n new pictures; picture i is that of seed + i."""
    caption = said(caption)
    if n not in range(1, MAX_PICTURES + 1):
        raise refusal(f"From 1 to {MAX_PICTURES} pictures.")
    made = scenes.draw(pair, [caption] * int(n), pair.size, colours, how, progress)
    return tuple(Shown(one, caption, how.seed + number) for number, one in enumerate(made))


def only(gallery: Gallery, index: int | None) -> Shown:
    if not gallery:
        raise refusal("Draw a picture first, or open one.")
    return gallery[min(index or 0, len(gallery) - 1)]


def repainted(pair: Pair, shown: Shown, caption: str, painted: dict | None, how: Sampling, progress: Callable) -> Shown:
    """With what was painted over drawn anew."""
    mask = brushed(painted, shown.picture[0].shape)
    made = scenes.edit(pair, shown.picture, said(caption), mask, how, progress)
    return Shown(made, shown.caption or caption, how.seed)


def brushed(painted: dict | None, size: tuple[int, ...]) -> np.ndarray:
    """(H, W) bool of an ImageEditor's layers, which may be enlarged."""
    layers = [np.asarray(layer)[..., 3] > 0 for layer in (painted or {}).get("layers") or () if layer is not None]
    if not any(layer.any() for layer in layers):
        raise refusal("Paint over what shall be drawn anew first.")
    whole = np.any(layers, axis=0)
    height, width = size
    small = Image.fromarray(whole).convert("L").resize((width, height), Image.Resampling.BOX)
    return np.asarray(small) > 0


def answered(ask: Callable[[], Any]) -> Any:
    """What the networks cannot do becomes a message on the page."""
    try:
        return ask()
    except ValueError as error:
        raise refusal(str(error)[:1].upper() + str(error)[1:] + ".") from None


def opened(file: str, pair: Pair) -> Shown:
    """A picture of one's own, cut to what the network can take."""

    def read() -> Picture:
        indices, palette = files.read(file)
        stride = pair.tokenizer.config.stride
        rows, columns = (side - side % stride for side in indices.shape)
        scenes.checked_size((columns, rows), pair)
        return indices[:rows, :columns], palette

    try:
        return Shown(read(), "", 0)
    except ValueError as error:
        raise refusal(str(error).replace(str(file), Path(file).name)) from None


def archive(shown: Shown, pair: Pair, folder: Path) -> Path:
    """All that an artist may want of a picture, in a zip in a folder."""
    indices, palette = shown.picture
    about = {"caption": shown.caption, "seed": str(shown.seed), "weights": pair.digest}
    with zipfile.ZipFile(folder / "scene.zip", "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("scene.png", files.png(indices, palette, about))
        for scale in (2, 4):
            out.writestr(f"scene-x{scale}.png", files.png(files.enlarged(indices, scale), palette, about))
        for suffix, sprite in (("aseprite", files.aseprite), ("lbm", files.lbm)):
            out.writestr(f"scene.{suffix}", sprite(indices, palette, shown.caption[:60] or "background"))
        for suffix in (".gpl", ".hex", ".pal", ".act"):
            path = folder / f"palette{suffix}"
            palettes.write(path, palette, shown.caption or "scene")
            out.write(path, path.name)
            path.unlink()
    return folder / "scene.zip"


# --- what is shown ------------------------------------------------------------------------------------------------


def _uri(picture: Picture) -> str:
    return "data:image/png;base64," + base64.b64encode(files.png(*picture)).decode()


def rgb(picture: Picture, scale: int) -> Image.Image:
    return files.index_image(files.enlarged(picture[0], scale), picture[1]).convert("RGB")


def thumbs(gallery: Gallery, index: int) -> str:
    """All pictures, the chosen one framed."""
    return (
        '<div class="thumbs">'
        + "".join(
            f'<button data-index="{number}" class="{"on" if number == index else ""}" '
            f'title="{html.escape(one.caption)}, seed {one.seed}"><img src="{_uri(one.picture)}" '
            f'alt="{html.escape(one.caption)}"></button>'
            for number, one in enumerate(gallery)
        )
        + "</div>"
    )


def large(shown: Shown, zoom: int) -> str:
    """The chosen one, every pixel a square, over its palette."""
    indices, palette = shown.picture
    used = len(np.unique(indices))
    swatches = "".join(f'<i style="background:rgb({r},{g},{b})"></i>' for r, g, b in palette.tolist())
    return (
        f'<div class="large"><img src="{_uri(shown.picture)}" style="width:{indices.shape[1] * zoom}px" '
        f'alt="{html.escape(shown.caption)}"></div><div class="palette" aria-label="palette">{swatches}</div>'
        f"<p>{indices.shape[1]} × {indices.shape[0]} pixels, {used} of {len(palette)} colours, seed {shown.seed}</p>"
    )


def wall(shown: Shown) -> str:
    """Three by three of it."""
    height, width = (3 * side for side in shown.picture[0].shape)
    return (
        f'<div class="large"><div class="wall" role="img" aria-label="three by three of it" style="width:{width}px;'
        f'height:{height}px;background-image:url({_uri(shown.picture)})"></div></div>'
    )


STYLE = """<style>
.pixelscene img, .pixelscene .wall { image-rendering: pixelated; display: block; margin: 0 }
.pixelscene .thumbs { display: grid; grid-template-columns: repeat(auto-fill, minmax(140px, 1fr)); gap: 8px }
.pixelscene .thumbs button { padding: 3px; border-radius: 8px; border: 2px solid transparent; cursor: pointer;
    background: none }
.pixelscene .thumbs button.on { border-color: var(--color-accent) }
.pixelscene .thumbs img { width: 100%; border-radius: 4px }
.pixelscene .large { overflow: auto; max-height: 640px; border-radius: 8px; background: #111 }
.pixelscene .large img { max-width: none }
.pixelscene .palette { display: flex; flex-wrap: wrap; margin-top: 6px }
.pixelscene .palette i { width: 10px; height: 14px }
.pixelscene .chips button { font-size: 13px; padding: 3px 11px; border-radius: 99px; cursor: pointer; margin: 2px;
    border: 1px solid var(--border-color-primary); background: var(--background-fill-secondary);
    color: var(--body-text-color) }
</style>"""

INTRO = """# Words, 256 colours, 1992
A tokenizer and a transformer of {millions:.1f} million weights together draw backgrounds as adventure games of the VGA
era had them: index pictures, always in exactly their palette."""


# --- the page -----------------------------------------------------------------------------------------------------


def page(pair: Pair) -> None:
    """Put the page into the `gr.Blocks` or tab that is open."""

    def look(gallery: Gallery, index: int, zoom: int) -> tuple:
        """All that shows the pictures."""
        shown = gallery[index]
        canvas: Any = {"background": rgb(shown.picture, 2), "layers": [], "composite": None}
        return (
            gallery,
            index,
            thumbs(gallery, index),
            large(shown, int(zoom)),
            wall(shown),
            gr.ImageEditor(value=canvas),
            gr.Column(visible=True),
        )

    def more(gallery: Gallery, new: Sequence[Shown], zoom: int) -> tuple:
        """With pictures that were made of others, the first of them chosen; the oldest go."""
        grown = (*gallery, *new)[-4 * MAX_PICTURES :]
        return look(grown, len(grown) - len(new), zoom)

    def rounds_of(progress: gr.Progress) -> Callable:
        return lambda steps: progress.tqdm(steps, desc="drawing", unit="rounds")

    def on_draw(
        caption: str,
        n: int,
        palette: str,
        file: str | None,
        zoom: int,
        *how: float,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  gradio finds it by its default
    ) -> tuple:
        colours = chosen_palette(palette, file)
        made = answered(lambda: drawn(pair, caption, int(n), colours, settings(*how), rounds_of(progress)))
        warning = scenes.not_read(pair, caption)
        if warning:
            gr.Warning(f"{warning[:1].upper()}{warning[1:]}.")
        return look(made, 0, zoom)

    def on_repaint(
        gallery: Gallery,
        index: int,
        caption: str,
        painted: dict,
        zoom: int,
        *how: float,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple:
        shown, rounds = only(gallery, index), rounds_of(progress)
        return more(gallery, [answered(lambda: repainted(pair, shown, caption, painted, settings(*how), rounds))], zoom)

    def on_outpaint(
        gallery: Gallery,
        index: int,
        caption: str,
        side: str,
        pixels: int,
        zoom: int,
        *how: float,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple:
        shown, rounds = only(gallery, index), rounds_of(progress)
        if side not in EDGES:
            raise refusal("A picture grows to the right, left, top or bottom.")
        wanted = {side: int(pixels)}
        made = answered(
            lambda: scenes.outpaint(
                pair, shown.picture, said(caption or shown.caption), **wanted, how=settings(*how), progress=rounds
            )
        )
        return more(gallery, [Shown(made, shown.caption, int(how[0]))], zoom)

    def on_vary(
        gallery: Gallery,
        index: int,
        count: int,
        strength: float,
        zoom: int,
        *how: float,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple:
        shown, rounds = only(gallery, index), rounds_of(progress)
        if count not in range(1, MAX_PICTURES + 1):
            raise refusal(f"From 1 to {MAX_PICTURES} variations.")
        made = answered(
            lambda: scenes.vary(pair, shown.picture, shown.caption, int(count), float(strength), settings(*how), rounds)
        )
        return more(gallery, [Shown(one, shown.caption, int(how[0]) + n) for n, one in enumerate(made)], zoom)

    def on_tile(
        gallery: Gallery,
        index: int,
        zoom: int,
        *how: float,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple:
        shown, rounds = only(gallery, index), rounds_of(progress)
        made = answered(lambda: scenes.tile(pair, shown.picture, shown.caption, settings(*how), rounds))
        return more(gallery, [Shown(made, shown.caption, int(how[0]))], zoom)

    def on_swap(
        gallery: Gallery, index: int, palette: str, file: str | None, dither: str, strength: float, zoom: int
    ) -> tuple:
        shown, colours = only(gallery, index), chosen_palette(palette, file)
        if colours is None or dither not in ("none", "bayer", "floyd-steinberg"):
            raise refusal("Choose a palette to bring the picture into.")
        indices, own = shown.picture
        swapped = answered(lambda: palettes.remapped(own[indices], colours, dither, float(strength)))
        return more(gallery, [Shown((swapped, colours), shown.caption, shown.seed)], zoom)

    def on_pack(gallery: Gallery, index: int) -> Iterator[gr.DownloadButton]:
        with tempfile.TemporaryDirectory() as folder:  # Gradio has copied the file when it asks for more
            yield gr.DownloadButton(value=str(archive(only(gallery, index), pair, Path(folder))), interactive=True)

    def on_open(gallery: Gallery, file: str, zoom: int) -> tuple:
        return more(gallery, [opened(file, pair)], zoom)

    def on_zoom(gallery: Gallery, index: int, zoom: int | None) -> str | dict:
        return large(only(gallery, index), int(zoom)) if zoom else gr.skip()  # its number is emptied while it is typed

    def on_choose(gallery: Gallery, zoom: int, event: gr.EventData) -> tuple:
        only(gallery, 0)
        number = str((event._data or {}).get("index", ""))
        index = int(number) if number.isdigit() else 0
        return look(gallery, min(index, len(gallery) - 1), zoom)

    def clicked(caption: str, event: gr.EventData) -> str:
        return (event._data or {}).get("caption", caption)

    wide: dict[str, Any] = {"elem_classes": "pixelscene", "apply_default_css": False}
    gr.HTML(STYLE, padding=False)
    gr.Markdown(INTRO.format(millions=pair.weights / 1e6))
    gallery, index = gr.State(()), gr.State(0)
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            caption = gr.Textbox(EXAMPLES[0], label="What is to be seen", lines=2, elem_id="scene-caption")
            chips = "".join(f'<button data-caption="{one}">{one}</button>' for one in EXAMPLES)
            examples = gr.HTML(f'<div class="chips">{chips}</div>', js_on_load=CLICKS, elem_id="scene-examples", **wide)
            with gr.Row():
                button = gr.Button("Draw", variant="primary", elem_id="scene-draw", min_width=120)
                lucky = gr.Button("Another seed", elem_id="scene-lucky", min_width=120)
        with gr.Column(scale=1, min_width=280):
            n = gr.Slider(1, MAX_PICTURES, 2, step=1, label="Pictures")
            seed = gr.Slider(0, MAX_SEED, 3, step=1, label="Seed")
            palette = gr.Dropdown([FITTING, *NAMES, FILE], value=FITTING, label="Palette", elem_id="scene-palette")
            own = gr.File(label=".gpl, .hex, .pal, .act, .png", visible=False, height=90, elem_id="scene-palette-file")
            with gr.Accordion("How it is drawn", open=False):
                rounds = gr.Slider(1, 32, PLAIN.rounds, step=1, label="Rounds", info="More are slower and finer.")
                temperature = gr.Slider(
                    0, 2, PLAIN.temperature, step=0.05, label="Temperature", info="0 takes the likeliest."
                )
                top_k = gr.Slider(0, 1000, PLAIN.top_k, step=10, label="Top-k", info="0 is all.")
                guidance = gr.Slider(
                    1, 6, PLAIN.guidance, step=0.25, label="Guidance", info="How much the words count."
                )
    pictures = gr.HTML("", js_on_load=CLICKS, elem_id="scene-thumbs", **wide)
    with gr.Column(visible=False) as below:
        zoom = gr.Slider(1, 6, 3, step=1, label="Zoom", elem_id="scene-zoom")
        chosen = gr.HTML("", elem_id="scene-large", **wide)
        with gr.Tab("Repaint"):
            canvas = gr.ImageEditor(
                label="Paint over what shall be drawn anew",
                type="numpy",
                image_mode="RGBA",
                sources=(),
                transforms=(),
                brush=gr.Brush(default_size=24, colors=["#ff00ffa0"], color_mode="fixed"),
                layers=False,
                format="png",
                elem_id="scene-canvas",
                canvas_size=(640, 400),
            )
            there = gr.Textbox("a fireplace", label="What is to be seen there", elem_id="scene-there")
            repaint = gr.Button("Draw it anew", variant="primary", elem_id="scene-repaint")
        with gr.Tab("Go on"):
            side = gr.Radio(EDGES, value="right", label="Beyond which edge")
            pixels = gr.Slider(16, 320, 160, step=16, label="Pixels")
            beyond = gr.Textbox("", label="What is to be seen there; the same as before if left out")
            outpaint = gr.Button("Go on", variant="primary", elem_id="scene-outpaint")
        with gr.Tab("Vary"):
            count = gr.Slider(1, MAX_PICTURES, 4, step=1, label="Variations")
            strength = gr.Slider(0.05, 1, 0.4, step=0.05, label="Strength", info="Share of it that is forgotten.")
            vary = gr.Button("Vary", variant="primary", elem_id="scene-vary")
        with gr.Tab("Tile"):
            tile = gr.Button("Make its edges meet", variant="primary", elem_id="scene-tile")
            tiles = gr.HTML("", elem_id="scene-tiles", **wide)
        with gr.Tab("Colours"):
            other = gr.Dropdown([*NAMES, FILE], value="EGA", label="Bring it into", elem_id="scene-other")
            dither = gr.Radio(["none", "bayer", "floyd-steinberg"], value="bayer", label="Dither")
            amount = gr.Slider(0, 1, 1, step=0.1, label="Strength of the dither")
            swap = gr.Button("Bring it there", variant="primary", elem_id="scene-swap")
        with gr.Tab("Take away"):
            gr.Markdown(
                "Index PNG with its exact palette (and twice and four times as large), Aseprite sprite, palettes, "
                "and an LBM whose colour ramps Deluxe Paint and GrafX2 can cycle."
            )
            take = gr.Button("Pack", variant="primary", elem_id="scene-pack")
            download = gr.DownloadButton("scene.zip", interactive=False, elem_id="scene-zip")
    with gr.Accordion("A picture of your own", open=False):
        mine = gr.File(
            label="PNG, BMP or GIF of at most 256 colours", file_types=["image"], elem_id="scene-mine", height=120
        )

    quiet = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    busy = {"concurrency_limit": 1, "concurrency_id": "pixelscene", "api_visibility": "private"}
    how = [zoom, seed, temperature, top_k, guidance, rounds]
    view = [gallery, index, pictures, chosen, tiles, canvas, below]
    drawing = {"fn": on_draw, "inputs": [caption, n, palette, own, *how], "outputs": view}
    gr.on([button.click, caption.submit], **drawing, **busy)
    lucky.click(lambda: random.SystemRandom().randrange(MAX_SEED + 1), None, seed, **quiet).then(**drawing, **busy)
    gr.on(
        [palette.change, other.change],
        lambda *names: gr.File(visible=FILE in names),
        [palette, other],
        own,
        **quiet,
    )
    examples.click(clicked, caption, caption, **quiet)
    pictures.click(on_choose, [gallery, zoom], view, **quiet)
    zoom.input(on_zoom, [gallery, index, zoom], chosen, **quiet, trigger_mode="always_last")
    repaint.click(on_repaint, [gallery, index, there, canvas, *how], view, **busy)
    outpaint.click(on_outpaint, [gallery, index, beyond, side, pixels, *how], view, **busy)
    vary.click(on_vary, [gallery, index, count, strength, *how], view, **busy)
    tile.click(on_tile, [gallery, index, *how], view, **busy)
    swap.click(on_swap, [gallery, index, other, own, dither, amount, zoom], view, **busy)
    mine.upload(on_open, [gallery, mine, zoom], view, **busy)
    take.click(on_pack, [gallery, index], download, api_visibility="private")

    def draw_api(
        caption: str,
        seed: int = 0,
        n: int = 1,
        palette: str = FITTING,
        temperature: float = PLAIN.temperature,
        rounds: int = PLAIN.rounds,
    ) -> list[dict]:
        """Index pictures of a caption as PNG data URIs."""
        colours, plain = chosen_palette(palette, None), settings(seed, temperature, PLAIN.top_k, PLAIN.guidance, rounds)
        made = answered(lambda: drawn(pair, caption, n, colours, plain, lambda steps: steps))
        return [{"picture": _uri(one.picture), "seed": one.seed, "colours": len(one.picture[1])} for one in made]

    gr.api(draw_api, api_name="scene", concurrency_limit=1, concurrency_id="pixelscene")


def demo(pair: Pair) -> gr.Blocks:
    """The page alone. Takes the networks, so that tiny ones can stand in for them."""
    with gr.Blocks(title="pixelscene", analytics_enabled=False, delete_cache=KEPT_S) as blocks:
        page(pair)
    return blocks


def released_pair() -> Pair:
    """Both networks, of $VQGAN and $PRIOR or the released ones, on $BACKEND.

    Raises:
        ValueError, OSError: there is no such backend or no such network.
    """
    backend = os.environ.get("BACKEND") or "auto"
    if backend not in ("auto", "torch", "mlx"):
        raise ValueError(f"BACKEND must be auto, torch or mlx, got {backend!r}")
    return scenes.loaded(released("pixelscene-vqgan", "VQGAN"), released("pixelscene", "PRIOR"), backend)


def main() -> None:
    """Load, build, serve; what goes wrong is one line."""
    try:
        serve(demo(released_pair()))
    except (ValueError, OSError) as error:
        sys.exit(f"pixelscene: {error}")


if __name__ == "__main__":
    main()
