"""The `hubmodels` command. Each verb is a function; its arguments are the options, its docstring the help."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

app = SubcommandApp()
Output = Annotated[Path, arg(aliases=["-o"])]


@app.command
def draw(
    caption: Positional[str],
    output: Output = Path("out.png"),
    seed: int | None = None,
    n: int = 1,
    scale: int = 1,
    weights: str = "",
) -> None:
    """Draw a sentence with the distilled renderer.

        hubmodels draw "The red ball is left of the blue cube." -o out.png --seed 7 --n 4

    Where things are is drawn at random from the seed, unless the sentence says it: "The red ball at 12 40 is left of
    the blue cube at 50 31." What was drawn is printed, places and all.

    Args:
        caption: A sentence of the scene language; a wrong one is answered with the words that could stand there.
        output: PNG to write; several pictures come side by side.
        seed: Of the first layout; picture i has seed + i. A random one if left out.
        n: Number of pictures, each with a layout of its own.
        scale: Enlarge pixels this many times.
        weights: Folder or Hub repository; the released weights if left out.
    """
    import random

    from hubmodels.scenes import caption as say
    from hubmodels.scenes import parse, place

    if not (1 <= n <= 64 and 1 <= scale <= 16):
        raise ValueError("--n goes from 1 to 64 and --scale from 1 to 16")
    scene = parse(caption)  # before the seconds that torch takes
    seed = random.SystemRandom().randrange(2**31) if seed is None else seed
    said = [say(place(scene, seed + i)) for i in range(n)]
    import torch

    from hubmodels import DistilledRenderer
    from hubmodels.hub import released
    from hubmodels.images import from_pil, grid, save_png, to_pil

    model = DistilledRenderer.from_pretrained(weights or released("distill"))
    pictures = torch.stack([from_pil(picture) for picture in model.generate(said)])
    image = to_pil(pictures[0] if n == 1 else grid(pictures, columns=min(n, 8)))
    save_png(image.resize((image.width * scale, image.height * scale), 0), output)
    for i, sentence in enumerate(said):
        print(f"seed {seed + i}: {sentence}")
    print(f"wrote {output}")


@app.command(name="eval")
def evaluate(
    system: Positional[Literal["distill"]],
    weights: str = "",
    report: Path = Path("report.json"),
    run: str = "",
    data: str = "",
    rows: int = 1000,
    seed: int = 1,
    card: bool = False,
) -> None:
    """Measure a model on held-out data, beside what broken models would score.

        hubmodels eval distill --weights weights/distill --report runs/distill/report.json

    Writes the report as JSON, and next to it a picture grid, before-and-after pairs and the text of the model card.

    Args:
        system: What the weights are of.
        weights: Folder or Hub repository; the released weights if left out.
        report: JSON to write.
        run: Folder of the training run that made the weights, to say in the card how it went.
        data: Folder or Hub id of a `scenes` data set, whose test splits are used in full; scenes are rendered on the
            fly if left out.
        rows: Scenes of each split where they are rendered on the fly.
        seed: Of those scenes.
        card: Also rewrite the README.md in the weights' folder, and lay its two pictures there.
    """
    import shutil

    from tqdm import tqdm

    from hubmodels import DistilledRenderer
    from hubmodels.distill import report as distill
    from hubmodels.hub import released

    if rows < 1:
        raise ValueError("--rows must be at least 1")
    source = weights or released("distill")
    model = DistilledRenderer.from_pretrained(source)
    scenes = distill.scenes_of(data) if data else distill.rendered(rows, seed)
    result = distill.report(model, scenes, seed, progress=lambda steps, what: tqdm(steps, what))
    files = distill.publish(model, result, scenes["test"], report)
    if card:
        model.card = distill.card(result, distill.history(Path(run)) if run else "")
        model.save_card(source)
        files += [Path(shutil.copy(path, source)) for path in files if path.suffix == ".png"]
    print("\n".join(f"wrote {path}" for path in files))
    print(distill.table(result))


@app.command
def pbr(
    photos: Positional[tuple[Path, ...]] = (),
    output: Output = Path("material"),
    size: int = 1024,
    corners: tuple[str, ...] = (),
    aspect: float | None = None,
    normal: Literal["gl", "dx"] = "gl",
    tile: bool = False,
    refine: int = 0,
    physical_size: float | None = None,
    credit: str = "",
    weights: str = "",
) -> None:
    """Make a material of photos of a flat surface, one or more, for glTF, MaterialX, USD and any renderer.

        hubmodels pbr photo1.jpg photo2.jpg photo3.jpg -o material/ --size 2048

    Albedo, roughness, metallic, normal, height and occlusion come as PNG. Photos that were not taken straight from
    above need the corners of one and the same rectangle on the surface, for each photo, in pixels of the photo held
    upright: top-left, top-right, bottom-right, bottom-left.

        hubmodels pbr a.jpg b.jpg --corners "210,80 1830,95 1900,1400 150,1380" "90,60 1700,20 1750,1300 120,1350"

    Args:
        photos: JPEG, PNG, TIFF or WebP, 1 to 100 of them.
        output: Folder to make, or one that was made by this.
        size: Texels along the longer side, 16 to 4096.
        corners: Four points "x,y x,y x,y x,y" for each photo; without them every photo shows all of the surface and
            nothing else.
        aspect: Height of the surface by its width; that of the first photo if left out, 1 where corners are given.
        normal: Green of the normal map is up (gl, OpenGL) or down (dx, DirectX).
        tile: The surface repeats: opposite edges of the photos meet, and so shall those of the maps.
        refine: Steps of a descent that brings the maps closer to the photos, 0 to 1000.
        physical_size: Width of the surface in metres.
        credit: Author and licence, for the descriptions.
        weights: Folder or Hub repository; the released weights if left out.
    """
    if not 1 <= len(photos) <= 100:
        raise ValueError(f"give 1 to 100 photos, got {len(photos)}")
    if corners and len(corners) != len(photos):
        raise ValueError(f"--corners needs four points for each of {len(photos)} photos, got {len(corners)}")
    if not (0 <= refine <= 1000 and 16 <= size <= 4096):
        raise ValueError("--refine goes from 0 to 1000 and --size from 16 to 4096")
    if aspect is not None and not 1 / 16 <= aspect <= 16:
        raise ValueError(f"--aspect is height by width, from 1/16 to 16, got {aspect}")
    points = [_four_points(file, said) for file, said in zip(photos, corners, strict=False)]

    import torch
    from tqdm import tqdm

    from hubmodels.hub import released
    from hubmodels.neuropbr.export import _is_ours_to_fill, save_material
    from hubmodels.neuropbr.model import NeuroPBR
    from hubmodels.neuropbr.predict import outlined, predict, read_photo
    from hubmodels.neuropbr.refine import refine as refined
    from hubmodels.neuropbr.validate import validate

    if not _is_ours_to_fill(output):  # before the minutes that the rest takes
        raise FileExistsError(f"{output} is not a material that was saved here: name a folder that does not exist")
    pictures = [read_photo(file) for file in photos]
    outlines = [outlined(*one) for one in zip(pictures, points, photos, strict=False)]
    matrices = torch.stack(outlines) if corners else None
    aspect = aspect or (1.0 if corners else pictures[0].shape[1] / pictures[0].shape[2])
    shape = round(size * min(1, aspect)), round(size * min(1, 1 / aspect))
    model = NeuroPBR.from_pretrained(weights or released("neuropbr"))
    maps = predict(model, pictures, matrices, shape, wrap=tile, progress=lambda steps, what: tqdm(steps, what))
    if refine:
        maps, before, after = refined(maps, pictures, matrices, refine, lambda steps, what: tqdm(steps, what))
        print(f"the photos, shaded again: {before:.1f} dB before refining, {after:.1f} dB after")
    files = save_material(maps, output, normal, physical_size, credit, tile)
    print("\n".join(f"wrote {output / file.name}" for file in files))
    for finding in validate(maps, tile):
        if finding.level != "ok":
            print(f"{finding.level}: {finding.sentence}")


def _four_points(file: Path, said: str) -> list[list[float]]:
    """Pixels of "x,y x,y x,y x,y"."""
    try:
        points = [[float(number) for number in point.split(",")] for point in said.split()]
    except ValueError:
        points = []
    if [len(point) for point in points] != [2, 2, 2, 2]:
        raise ValueError(f'{file}: corners are four points "x,y x,y x,y x,y" in pixels, got "{said}"')
    return points


@app.command
def demo(host: str = "", port: int = 0) -> None:
    """Open the gallery of all systems in the browser.

    Args:
        host: Address to listen on; $HOST or 127.0.0.1 if left out.
        port: Port to listen on; $PORT or 7860 if left out.
    """
    import os

    from spaces.gallery.app import main as gallery

    os.environ.update({name: value for name, value in (("HOST", host), ("PORT", str(port or ""))) if value})
    gallery()


def main() -> None:
    """Entry point: errors of the user are one line and exit code 1."""
    try:
        app.cli(prog="hubmodels", description="Compact generative-vision systems: draw, measure, play.")
    except (ValueError, OSError) as error:
        sys.exit(f"hubmodels: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()
