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
