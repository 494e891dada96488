"""Photos of a surface become a material: outline it, wait a little, look at it under lamps, take it away.

    files --opened--> Photos --clicked--> outlined Photos --made--> maps, previews, likeness, findings and a zip

Pixels count from the top-left of a photo that is held upright.
"""

import hashlib
import html
import math
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from hubmodels import NeuroPBR, example_photos, make_material, outlined, read_photo
from hubmodels.hub import released
from hubmodels.images import from_uint8, from_unit, to_pil, to_uint8
from spaces.distill.app import refusal, serve

MAX_PHOTOS = 20
SIZES = (256, 512, 1024, 2048)
"""Texels along the longer side; the largest takes minutes on two cores, so a Hub Space leaves it out."""
MAX_STEPS = 100
KEPT_S = (600, 3600)
"""Every so many seconds, files that are so many seconds old are deleted."""
KEPT = 3072
"""Pixels a side to which larger photos are averaged down."""
SHOWN = 1024
"""Pixels a side at most of the photo that is clicked on."""
CORNERS = ("top-left", "top-right", "bottom-right", "bottom-left")
EXAMPLES = ("brick wall", "rusted metal", "leather")
EXPORTS = {
    "glTF": ("material.glb",),
    "MaterialX": ("material.mtlx",),
    "USD": ("material.usda",),
    "report": ("report.html", "preview.jpg", "sweep.gif"),
}
"""What a person may leave out of the download; pictures and material.json are always in it."""
MAPS = ("albedo", "normal", "roughness", "metallic", "height", "ao")
LIME = (190, 242, 100)


@dataclass(frozen=True, eq=False)
class Photo:
    name: str
    key: str
    """Of the file's content, so that corners outlive the list of files being sent again."""
    pixels: Tensor
    """(3, h, w) uint8."""
    corners: tuple[tuple[float, float], ...] = ()
    """In pixels, as far as clicked."""


Photos = tuple[Photo, ...]


# --- photos -----------------------------------------------------------------------------------------------------


def added(files: Sequence[str] | None, photos: Photos) -> Photos:
    """The photos in some files; those that were there keep their corners."""
    if len(files or ()) > MAX_PHOTOS:
        raise refusal(f"At most {MAX_PHOTOS} photos, got {len(files or ())}.")
    known = {photo.key: photo for photo in photos}
    keys = [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files or ()]
    return tuple(known.get(key) or opened(file, key) for file, key in zip(files or (), keys, strict=True))


def opened(file: str, key: str) -> Photo:
    """A file as a photo, or a message that names it."""
    name = Path(file).name
    try:
        pixels = read_photo(file)
    except ValueError as error:
        raise refusal(str(error).replace(str(file), name)) from None
    shrink = KEPT / max(pixels.shape[1:])
    if shrink < 1:
        sides = [max(1, round(side * shrink)) for side in pixels.shape[1:]]
        pixels = to_uint8(F.interpolate(from_uint8(pixels)[None], sides, mode="area")[0])
    return Photo(name, key, pixels)


def example(name: str) -> tuple[list[str], Photos]:
    """Files and photos of a made-up material, outlined."""
    folder, photos = Path(tempfile.mkdtemp(prefix="example-")), []
    for number, (pixels, corners) in enumerate(example_photos(name), 1):
        file = folder / f"{name.replace(' ', '_')}_{number}.png"
        to_pil(pixels).save(file)
        key = hashlib.sha256(file.read_bytes()).hexdigest()
        photos.append(Photo(file.name, key, pixels, tuple((x, y) for x, y in corners)))
    return [str(folder / photo.name) for photo in photos], tuple(photos)


def clicked(photo: Photo, x: float, y: float) -> Photo:
    """With one more corner; a click after the fourth moves the nearest. Places are in pixels of `drawn`."""
    scale = shown_scale(photo)
    place = ((x + 0.5) / scale, (y + 0.5) / scale)
    if len(photo.corners) < 4:
        return replace(photo, corners=(*photo.corners, place))
    nearest = min(range(4), key=lambda number: math.dist(place, photo.corners[number]))
    return replace(photo, corners=(*photo.corners[:nearest], place, *photo.corners[nearest + 1 :]))


def outline(photo: Photo) -> Tensor:
    """(3, 3) from the surface to the photo; without corners the photo shows just the surface."""
    if not photo.corners:
        return torch.eye(3)
    if len(photo.corners) < 4:
        raise refusal(f"{photo.name} has {len(photo.corners)} of 4 corners: click the others, or clear them.")
    try:
        return outlined(photo.pixels, photo.corners, photo.name)
    except ValueError as error:
        raise refusal(str(error)) from None


def shown_scale(photo: Photo) -> float:
    return min(1.0, SHOWN / max(photo.pixels.shape[1:]))


def drawn(photo: Photo) -> Image.Image:
    """The photo with its corners and what they enclose."""
    image, scale = to_pil(photo.pixels), shown_scale(photo)
    image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    draw = ImageDraw.Draw(image, "RGBA")
    points = [(x * scale, y * scale) for x, y in photo.corners]
    thick = max(2, round(max(image.size) / 300))
    if len(points) == 4:
        draw.polygon(points, fill=(*LIME, 40))
    line = [*points, points[0]] if len(points) == 4 else points
    if len(line) > 1:
        draw.line(line, fill=(0, 0, 0, 170), width=2 * thick, joint="curve")
        draw.line(line, fill=LIME, width=thick, joint="curve")
    for number, (x, y) in enumerate(points, 1):
        radius = 4.5 * thick
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=LIME, outline="black", width=thick // 2)
        draw.text((x, y), str(number), "black", anchor="mm", font_size=6 * thick)
    return image


def hint(photos: Photos, index: int) -> str:
    """What to do next, in one line of Markdown."""
    if not photos:
        return "Upload one photo or more, or take an example."
    photo = photos[index]
    place = len(photo.corners)
    if place == 0:
        return (
            f"**{photo.name}** shows just the surface, edge to edge? Then there is nothing to click. "
            "Otherwise click the four corners of a rectangle on it, **top-left** first."
        )
    if place < 4:
        return f"**{photo.name}**: now the **{CORNERS[place]}** corner ({place + 1} of 4)."
    try:
        outlined(photo.pixels, photo.corners, photo.name)
    except ValueError as error:
        return f"⚠️ {error}"
    return f"✓ **{photo.name}** is outlined. A click moves the nearest corner."


def labels(photos: Photos) -> list[tuple[str, int]]:
    """For the choice of a photo: its name, and how many corners it has."""
    signs = {0: "edge to edge", 4: "✓"}
    return [(f"{p.name} · {signs.get(len(p.corners), f'{len(p.corners)} of 4')}", i) for i, p in enumerate(photos)]


# --- the material -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Made:
    """What the page shows of a material."""

    folder: Path
    archive: Path
    lit: dict[str, tuple[Image.Image, Image.Image]]
    """Plane and ball, by the name of the light."""
    pairs: list[tuple[Image.Image, Image.Image]]
    """Each photo, rectified, and what the maps make of it."""
    verdicts: list[tuple[str, float | None, str]]
    """Name, PSNR in dB and words, for each photo."""
    findings: list[tuple[str, str]]
    """Level and sentence, the worst first."""


def made(
    model: NeuroPBR,
    photos: Photos,
    size: int,
    aspect: float | None,
    tile: bool,
    normal: str,
    steps: int,
    physical_size: float | None,
    credit: str,
    exports: Sequence[str],
    progress: gr.Progress,
) -> Made:
    """Everything, in a new folder; what a person got wrong becomes a message."""
    if not photos:
        raise refusal("Upload a photo first, or take an example.")
    if size not in offered():
        raise refusal(f"The size must be one of {', '.join(map(str, offered()))}.")
    if normal not in ("gl", "dx") or not 0 <= steps <= MAX_STEPS or set(exports) - set(EXPORTS):
        raise refusal("One of the settings is none that this page offers: reload it.")
    matrices = torch.stack([outline(photo) for photo in photos]) if any(p.corners for p in photos) else None
    folder = Path(tempfile.mkdtemp(prefix="material-"))
    try:
        material = make_material(
            model,
            [photo.pixels for photo in photos],
            folder / "material",
            matrices,
            int(size),
            aspect or None,
            "gl" if normal == "gl" else "dx",
            tile,
            int(steps),
            physical_size or None,
            credit.strip(),
            [photo.name for photo in photos],
            progress=lambda steps, what: progress.tqdm(steps, desc=what, unit=what),
        )
    except ValueError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise refusal(str(error)) from None
    left_out = {name for kind in EXPORTS if kind not in exports for name in EXPORTS[kind]}
    archive = folder / "material.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        for path in material.files:
            if path.name not in left_out:
                file.write(path, f"material/{path.name}")
    worst_first = sorted(material.findings, key=lambda one: ("fail", "warn", "ok").index(one.level))
    return Made(
        folder,
        archive,
        {name: (_picture(plane), _picture(ball)) for name, (plane, ball) in material.shown.items()},
        [(_picture(one.photo), _picture(one.made)) for one in material.comparisons],
        [(p.name, one.psnr, one.verdict) for p, one in zip(photos, material.comparisons, strict=True)],
        [(one.level, one.sentence) for one in worst_first],
    )


def offered() -> tuple[int, ...]:
    return SIZES[:-1] if "SPACE_ID" in os.environ else SIZES


def removed(result: Made | None) -> None:
    """The files of a material that nobody looks at any more."""
    if result:
        shutil.rmtree(result.folder, ignore_errors=True)


def _picture(picture: Tensor) -> Image.Image:
    return to_pil(from_unit(picture[0]))


def likeness(result: Made) -> str:
    """How well each photo is explained, as bars."""
    rows = "".join(
        f'<tr><td>{html.escape(name)}</td><td><div class="bar"><i style="width:{100 * _share(psnr):.0f}%"></i></div>'
        f"</td><td>{html.escape(verdict)}</td></tr>"
        for name, psnr, verdict in result.verdicts
    )
    return f'<table class="likeness">{rows}</table>'


def _share(psnr: float | None) -> float:
    """From 10 dB, which any grey has, to 35."""
    return 0.0 if psnr is None else min(max((psnr - 10) / 25, 0.02), 1.0)


def judged(result: Made) -> str:
    """Findings as a table; those that are fine are folded away."""
    rows = [f'<tr><td class="{level}">{level}</td><td>{html.escape(said)}</td></tr>' for level, said in result.findings]
    odd = sum(level != "ok" for level, _ in result.findings)
    first = f"<table>{''.join(rows[:odd])}</table>" if odd else '<p class="ok">Nothing unusual.</p>'
    rest = f"<table>{''.join(rows[odd:])}</table>"
    return f"{first}<details><summary>{len(rows) - odd} checks passed</summary>{rest}</details>"


# --- the page ---------------------------------------------------------------------------------------------------

STYLE = """<style>
.neuropbr table { width: 100%; border-collapse: collapse; font-size: 15px }
.neuropbr td { padding: 6px 8px; border: 0; border-bottom: 1px solid var(--border-color-primary); text-align: left;
    overflow-wrap: anywhere }
.neuropbr td:first-child { white-space: nowrap; width: 1% }
.neuropbr .likeness td:last-child { white-space: nowrap; width: 1% }
.neuropbr .bar { height: 8px; border-radius: 4px; background: var(--border-color-primary); min-width: 60px }
.neuropbr .bar i { display: block; height: 100%; border-radius: 4px; background: var(--color-accent) }
.neuropbr .ok { color: #15803d } .neuropbr .warn { color: #b45309 } .neuropbr .fail { color: #b91c1c }
.dark .neuropbr .ok { color: #4ade80 } .dark .neuropbr .warn { color: #fbbf24 } .dark .neuropbr .fail { color: #f87171 }
.neuropbr td.ok, .neuropbr td.warn, .neuropbr td.fail { font-weight: 600 }
.neuropbr summary { cursor: pointer; padding: 6px 8px; color: var(--body-text-color-subdued) }
#maps .grid-wrap { height: auto; max-height: none; min-height: 0 }
#maps .grid-container { grid-template-columns: repeat(auto-fill, minmax(130px, 1fr)) }
@media (max-width: 600px) { .neuropbr .likeness td { display: block; width: auto !important; border: 0 } }
#photo img { cursor: crosshair } #lit img, #ball img, #sweep img { border-radius: 8px }
</style>"""

INTRO = """# A surface, and what it is made of
Photos of a flat surface, one or more, become the maps of its material: colour, roughness, metal, relief. Several
photos from different sides, with the flash or a lamp held low to one side, say more than one. A network of
{millions:.1f} million weights looks at them; photos and maps are deleted after an hour."""


def page(model: NeuroPBR) -> None:
    """Put the page into the `gr.Blocks` or tab that is open."""

    def look(photos: Photos, index: int | None) -> tuple:
        """The chosen photo, the choice and the hint."""
        index = min(index or 0, max(0, len(photos) - 1))
        image = drawn(photos[index]) if photos else None
        return (
            gr.Image(image, visible=bool(photos)),
            gr.Radio(labels(photos), value=index if photos else None, visible=len(photos) > 1),
            hint(photos, index),
            gr.Row(visible=bool(photos)),
        )

    def on_files(files: list[str] | None, photos: Photos, index: int | None) -> tuple:
        photos = added(files, photos)
        return photos, *look(photos, index)

    def on_example(name: str) -> tuple:
        files, photos = example(name)
        return files, photos, *look(photos, 0)

    def on_click(photos: Photos, index: int | None, event: gr.SelectData) -> tuple:
        return changed(photos, index, clicked(photos[index or 0], *event.index))

    def on_undo(photos: Photos, index: int | None) -> tuple:
        return changed(photos, index, replace(photos[index or 0], corners=photos[index or 0].corners[:-1]))

    def on_clear(photos: Photos, index: int | None) -> tuple:
        return changed(photos, index, replace(photos[index or 0], corners=()))

    def changed(photos: Photos, index: int | None, photo: Photo) -> tuple:
        photos = (*photos[: index or 0], photo, *photos[(index or 0) + 1 :])
        return photos, *look(photos, index)

    def on_make(
        photos: Photos,
        before: Made | None,
        size: int,
        aspect: float | None,
        tile: bool,
        normal: str,
        steps: int,
        physical_size: float | None,
        credit: str,
        exports: list[str],
        light: str | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  gradio finds it by its default
    ) -> tuple:
        result = made(model, photos, size, aspect, tile, normal, steps, physical_size, credit, exports, progress)
        removed(before)
        light = light if light in result.lit else next(iter(result.lit))
        folder = result.folder / "material"
        maps = [(str(folder / (f"normal_{normal}.png" if m == "normal" else f"{m}.png")), m) for m in MAPS]
        names = [(name, number) for number, (name, *_) in enumerate(result.verdicts)]
        return (
            result,
            gr.Column(visible=True),
            maps,
            gr.Radio(list(result.lit), value=light),
            *result.lit[light],
            str(folder / "sweep.gif"),
            gr.Radio(names, value=0, visible=len(names) > 1),
            result.pairs[0],
            likeness(result),
            judged(result),
            gr.DownloadButton(value=str(result.archive), interactive=True),
        )

    wide: dict[str, Any] = {"elem_classes": "neuropbr", "apply_default_css": False}
    gr.HTML(STYLE, padding=False)
    gr.Markdown(INTRO.format(millions=sum(p.numel() for p in model.parameters()) / 1e6))
    photos = gr.State(())
    result = gr.State(None, time_to_live=KEPT_S[1], delete_callback=removed)
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            files = gr.File(
                label=f"Photos, 1 to {MAX_PHOTOS}",
                file_count="multiple",
                file_types=["image"],
                elem_id="files",
                height=140,
            )
            with gr.Row():
                examples = [gr.Button(name, size="sm", min_width=90) for name in EXAMPLES]
            which = gr.Radio([], label="Photo", visible=False, elem_id="which")
            said = gr.Markdown(hint((), 0), elem_id="hint")
            photo = gr.Image(
                format="png",
                show_label=False,
                interactive=False,
                visible=False,
                elem_id="photo",
                buttons=[],
                height=480,
            )
            with gr.Row(visible=False) as corner_buttons:
                undo = gr.Button("Undo the last corner", size="sm", elem_id="undo")
                clear = gr.Button("Clear the corners", size="sm", elem_id="clear")
        with gr.Column(scale=2, min_width=280):
            size = gr.Radio(offered(), value=512, label="Texels a side", elem_id="size")
            with gr.Row():
                normal = gr.Radio([("OpenGL", "gl"), ("DirectX", "dx")], value="gl", label="Normal map", min_width=150)
                tile = gr.Checkbox(label="It tiles", info="Opposite edges meet.", min_width=110, elem_id="tile")
            steps = gr.Slider(
                0, MAX_STEPS, 0, step=10, label="Refine", info="Steps that bring the maps closer to the photos."
            )
            exports = gr.CheckboxGroup(list(EXPORTS), value=list(EXPORTS), label="Beside the maps", elem_id="exports")
            with gr.Accordion("About the surface", open=False):
                aspect = gr.Number(
                    None, label="Height by width", info="Left out: as the first photo, or 1 with corners."
                )
                physical_size = gr.Number(None, label="Width in metres")
                credit = gr.Textbox("", label="Author and licence", max_lines=1)
            make = gr.Button("Make the material", variant="primary", size="lg", elem_id="make")
    with gr.Column(visible=False, elem_id="result") as shown:
        gr.Markdown("## Maps")
        maps = gr.Gallery(
            columns=6, show_label=False, object_fit="contain", elem_id="maps", height="auto", buttons=["fullscreen"]
        )
        with gr.Row(equal_height=True):
            with gr.Column(min_width=300):
                gr.Markdown("## In the light")
                light = gr.Radio([], show_label=False, container=False, elem_id="light")
                with gr.Row():
                    lit = gr.Image(format="png", show_label=False, min_width=140, buttons=[], elem_id="lit")
                    ball = gr.Image(format="png", show_label=False, min_width=140, buttons=[], elem_id="ball")
            with gr.Column(min_width=300):
                gr.Markdown("## To turn, and under a lamp that goes around")
                with gr.Row():
                    solid = gr.Model3D(show_label=False, min_width=180, elem_id="solid", height=300)
                    sweep = gr.Image(show_label=False, min_width=140, buttons=[], elem_id="sweep", height=300)
        with gr.Row():
            with gr.Column(min_width=300):
                gr.Markdown("## Photo and maps\nLeft the photo, right what the maps look like in its light.")
                pair_of = gr.Radio([], show_label=False, container=False, elem_id="pair_of")
                pair = gr.ImageSlider(
                    format="png", show_label=False, interactive=False, buttons=[], height=420, elem_id="pair"
                )
            with gr.Column(min_width=300):
                gr.Markdown(
                    "## Do the maps explain the photos?\n"
                    "Little likeness: maps or corners are wrong. Much does not prove them right."
                )
                alike = gr.HTML(elem_id="alike", **wide)
                gr.Markdown("### What a look director would say")
                findings = gr.HTML(elem_id="findings", **wide)
        download = gr.DownloadButton("Download all of it", variant="primary", size="lg", elem_id="download")

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    seen = [photo, which, said, corner_buttons]
    files.change(on_files, [files, photos, which], [photos, *seen], **quiet)
    for button, name in zip(examples, EXAMPLES, strict=True):
        button.click(partial(on_example, name), None, [files, photos, *seen], api_visibility="private")
    which.input(look, [photos, which], seen, **quiet)
    photo.select(on_click, [photos, which], [photos, *seen], **quiet)
    undo.click(on_undo, [photos, which], [photos, *seen], **quiet)
    clear.click(on_clear, [photos, which], [photos, *seen], **quiet)
    make.click(
        on_make,
        [photos, result, size, aspect, tile, normal, steps, physical_size, credit, exports, light],
        [result, shown, maps, light, lit, ball, sweep, pair_of, pair, alike, findings, download],
        show_progress_on=make,
        concurrency_limit=1,
        concurrency_id="neuropbr",
        api_visibility="private",
    ).success(  # of its own: a model that arrives with others is sent twice, and Model3D of gradio 6.31 then shows none
        lambda result: str(result.folder / "material" / "material.glb"), result, solid, **quiet
    )
    light.input(lambda result, light: result.lit[light], [result, light], [lit, ball], **quiet)
    pair_of.input(lambda result, number: result.pairs[number], [result, pair_of], pair, **quiet)


def demo(model: NeuroPBR) -> gr.Blocks:
    """The page alone. Takes the model, so that a tiny one can stand in for it."""
    with gr.Blocks(
        title="neuropbr: a surface becomes a material", analytics_enabled=False, delete_cache=KEPT_S
    ) as blocks:
        page(model)
    return blocks


def main() -> None:
    """Load, build, serve; what goes wrong is one line."""
    try:
        serve(demo(NeuroPBR.from_pretrained(released("neuropbr"))))
    except (ValueError, OSError) as error:
        sys.exit(f"neuropbr: {error}")


if __name__ == "__main__":
    main()
