"""The `hubmodels` command. Each verb is a function; its arguments are the options, its docstring the help."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
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


@app.command
def roundtrip(
    sentence: Positional[str],
    output: Output = Path("scene.png"),
    seed: int | None = None,
    noise: float = 0.0,
    words: bool = False,
    scale: int = 1,
    weights: str = "",
) -> None:
    """Paint a sentence and read it back from the picture alone.

        hubmodels roundtrip "The red ball is left of the blue cube." -o scene.png --seed 3
        hubmodels roundtrip "a large red ball in the left" --noise 0.2 --words

    What the reader read is printed, word by word with its confidence; it sees nothing but the pixels of the file.

    Args:
        sentence: Of the scene language or of the templates; an unknown word is answered with those that are near it.
        output: PNG to write.
        seed: Of the noise in the painter's code, and of the layout where the weights have one; none, no noise.
        noise: Sigma of Gaussian noise on the picture before it is read, 0 to 2; the file shows it.
        words: Also write NAME-words.png: where in the picture each word lives.
        scale: Enlarge the pixels of the picture this many times.
        weights: Folder or Hub repository; the released weights if left out.
    """
    if not (0 <= noise <= 2 and 1 <= scale <= 16):
        raise ValueError("--noise goes from 0 to 2 and --scale from 1 to 16")
    if output.suffix.lower() != ".png":
        raise ValueError(f"pictures are saved as PNG, so the name must end in .png, got {output.name!r}")
    from hubmodels import CircularScene
    from hubmodels.circular.report import territories
    from hubmodels.hub import released
    from hubmodels.images import from_pil, save_png, sheet

    model = CircularScene.from_pretrained(weights or released("circular")).eval()
    image, _ = model.roundtrip(sentence, seed, noise)
    (reading,) = model.read(from_pil(image)[None])
    written = {output: image.resize((image.width * scale, image.height * scale), 0)}
    if words:
        written[output.with_stem(f"{output.stem}-words")] = sheet(*territories(model, sentence, seed), 8)
    for path, picture in written.items():
        save_png(picture, path)
        print(f"wrote {path}")
    print(f"read: {reading.sentence}")
    print("  ".join(f"{word} {sure:.0%}" for word, sure in reading.confidence))


@app.command(name="eval")
def evaluate(
    system: Positional[Literal["distill", "circular", "neuropbr", "pixelscene", "lens"]],
    weights: str = "",
    report: Path = Path("report.json"),
    run: str = "",
    data: str = "",
    real: str = "",
    vqgan: str = "",
    vqgan_run: str = "",
    ablations: Path | None = None,
    judge: str = "",
    rows: int | None = None,
    afresh: int | None = None,
    seed: int = 1,
    size: int | None = None,
    card: bool = False,
) -> None:
    """Measure a model on held-out data, beside what broken models would score.

        hubmodels eval distill --weights weights/distill --report runs/distill/report.json
        hubmodels eval circular --weights weights/circular --report runs/circular/report.json
        hubmodels eval neuropbr --weights weights/neuropbr --report runs/neuropbr/report.json --data data/pbr-real
        hubmodels eval pixelscene --report runs/pixelscene/report.json --data data/vga --real data/vga-games
        hubmodels eval lens --weights weights/lens --report runs/lens/report.json

    Writes the report as JSON and pictures next to it.

    Args:
        system: What the weights are of.
        weights: Folder or Hub repository; the released weights if left out.
        report: JSON to write.
        run: Folder of the training run that made the weights, to say in the card how it went.
        data: Folder or Hub id of a data set, whose test splits are used in full; not of circular. distill: one of
            `scenes`, instead of scenes rendered on the fly. neuropbr: one of real materials, beside those made up on
            the fly. pixelscene: the painted pictures of training, which a judge learns on; data/vga if left out. lens:
            the folder that the data set of its training lies in, data if left out; scenes of camo need none.
        real: Of pixelscene: the pictures of games of training.
        vqgan: Of pixelscene: its tokenizer; the released one if left out.
        vqgan_run: Of pixelscene: folder of the tokenizer's training run, likewise.
        ablations: Of pixelscene: table of benchmarks.pixelscene_ablations, for the tokenizer's card.
        judge: Of lens: a classifier that no reward came from, folder or Hub repository; the released one if left out.
        rows: What is made on the fly: scenes of each split for distill, 1000 if left out; sentences for circular, 1000;
            materials for neuropbr, 64; pictures that pixelscene draws, 128. Test pictures of lens, 2000.
        afresh: Of circular: steps for which another reader learns to read the pictures, 2000 if left out; 0 is none.
        seed: Of what is made on the fly.
        size: Texels a side of the maps of neuropbr, 256 if left out. Pictures of distill have the size of its network.
        card: Also rewrite the README.md in the weights' folder, and lay its pictures there, and the licences of --real.
            A lens is given the gate that was found.
    """
    import shutil
    from importlib.util import find_spec

    from tqdm import tqdm

    from hubmodels.hub import released

    if rows is not None and rows < 1:
        raise ValueError("--rows must be at least 1")
    if size is not None and system != "neuropbr":
        raise ValueError(f"--size is for neuropbr: pictures of {system} have the size of its network")
    if system != "pixelscene" and (real or vqgan or vqgan_run or ablations):
        raise ValueError("--real, --vqgan, --vqgan-run and --ablations are for pixelscene")
    if system != "lens" and judge:
        raise ValueError("--judge is for lens")
    if system != "circular" and afresh is not None:
        raise ValueError("--afresh is for circular")
    if system == "circular" and (data or (afresh or 0) < 0):
        raise ValueError("circular is measured on sentences that are made up: leave out --data; --afresh is 0 or more")
    compared = ablations.read_text() if ablations else ""
    source = weights or released(system, "PRIOR" if system == "pixelscene" else "MODEL")
    licences = sorted(Path(real).glob("LICENSE-*.txt")) if real else []

    def progress(steps: Iterable, what: str) -> Iterable:
        return tqdm(steps, what)

    if system == "distill":
        from hubmodels import DistilledRenderer
        from hubmodels.distill import report as measured

        training = measured.history(Path(run)) if run else ""
        model = DistilledRenderer.from_pretrained(source)
        scenes = measured.scenes_of(data) if data else measured.rendered(rows or 1000, seed)
        result = measured.report(model, scenes, seed, progress)
        files = measured.publish(model, result, scenes["test"], report)
        cards = {source: (model, measured.card(result, training))}
    elif system == "circular":
        from hubmodels import CircularScene
        from hubmodels.circular import report as measured

        training = measured.history(Path(run)) if run else ""
        model = CircularScene.from_pretrained(source).eval()
        steps = measured.AFRESH if afresh is None else afresh
        result = measured.report(model, rows or measured.ROWS, seed, steps, progress)
        files = measured.publish(model, result, seed, report)
        cards = {source: (model, measured.card(result, training))}
    elif system == "neuropbr":
        from hubmodels import NeuroPBR
        from hubmodels.neuropbr import report as measured

        training = measured.history(Path(run)) if run else ""
        model = NeuroPBR.from_pretrained(source)
        groups = measured.groups(data, rows or measured.ROWS, seed, measured.SIZE if size is None else size)
        result = measured.report(model, groups, seed, progress)
        files = measured.publish(model, result, groups, report)
        cards = {source: (model, measured.card(result, training))}
    elif system == "lens":
        from hubmodels import DiffusionLens
        from hubmodels.lens import report as measured
        from hubmodels.lens.classifier import loaded

        training = measured.history(Path(run)) if run else ""
        model = DiffusionLens.from_pretrained(source)
        held = measured.held_out(model, data or "data", rows or measured.ROWS, seed)
        reader = model.reader(held[1].classes)
        other = loaded(judge or "org/lens-judge", held[1].classes)
        result = measured.report(model, reader, other, *held, seed, progress)
        files = measured.publish(model, reader, result, held[1], seed, report)
        if card:  # the gate that validation pictures chose goes with the weights
            learned = model.state_dict()
            model = DiffusionLens(replace(model.config, gate=result["gate"]))
            model.load_state_dict(learned)
            model.save_pretrained(source)
        cards = {source: (model, measured.card(model, result, training))}
    else:
        from hubmodels import PixelTransformer, PixelVQGAN
        from hubmodels.pixelscene import report as measured
        from hubmodels.pixelscene import scene as pixelscene

        tokenizer = vqgan or released("pixelscene-vqgan", "VQGAN")
        steps = ((vqgan_run, "crops of pictures"), (run, "pictures as tokens"))
        training = [measured.history(Path(folder), what) if folder else "" for folder, what in steps]
        sets = measured.data_of(data or "data/vga", real)
        pair = pixelscene.loaded(tokenizer, source, "torch")
        twin = pixelscene.loaded(tokenizer, source, "mlx") if find_spec("mlx") else None  # not every machine has MLX
        result, made = measured.report(pair, twin, sets, rows or measured.ROWS, seed, progress)
        files = measured.publish(pair, result, made, sets, report)
        both = (PixelVQGAN.from_pretrained(tokenizer), PixelTransformer.from_pretrained(source))
        said = measured.cards(result, pair, training, measured.notices(sets.train), compared)
        cards = dict(zip((tokenizer, source), zip(both, said, strict=True), strict=True))
    for folder, (network, words) in cards.items() if card else ():
        network.card = words
        network.save_card(folder, "other" if licences else "")
        for text in licences:
            (Path(folder) / "licenses").mkdir(exist_ok=True)
            files.append(Path(shutil.copy(text, Path(folder) / "licenses" / text.name.removeprefix("LICENSE-"))))
        files += [Path(shutil.copy(path, folder)) for path in files if path.suffix == ".png" and path.name in words]
    print("\n".join(f"wrote {path}" for path in files))
    print(measured.table(result))


@app.command
def lens(
    photo: Positional[Path],
    output: Output = Path("edited.png"),
    label: str = "",
    labels: tuple[str, ...] = (),
    strength: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    gate: float | None = None,
    ensemble: bool = False,
    weights: str = "",
) -> None:
    """Edit a picture a little, so that a classifier reads what is hidden in it.

        hubmodels lens photo.png --label deer -o edited.png --gate 0.6 --ensemble

    The square in its middle is edited, at the size that the weights learned from. What the classifier reads before and
    after is printed.

    Args:
        photo: JPEG, PNG, TIFF or WebP.
        output: PNG to write.
        label: What it shows, if you know: how likely the classifier finds that is printed too. The edit does not
            depend on it. The released classifier knows ten animals.
        labels: What the classifier chooses from; those that the weights learned with if left out. A CLIP knows any.
        strength: Share of the sampler's steps that are executed, above 0, at most 1; that of the weights if left out.
        steps: From pure noise; those of the weights if left out.
        seed: Of the noise.
        gate: Leave the picture as it is if the classifier is at least so sure, 0 to 1; that of the weights if left out.
        ensemble: Also print what the mean of both readings says.
        weights: Folder or Hub repository; the released weights if left out.
    """
    if gate is not None and not 0 <= gate <= 1:
        raise ValueError(f"--gate goes from 0 to 1, got {gate:g}")
    if output.suffix.lower() != ".png":
        raise ValueError(f"pictures are saved as PNG, so the name must end in .png, got {output.name!r}")
    from hubmodels import DiffusionLens
    from hubmodels.hub import released
    from hubmodels.images import save_png, to_pil
    from hubmodels.lens.data import from_file
    from hubmodels.lens.report import logits_of

    model = DiffusionLens.from_pretrained(weights or released("lens"))
    reader = model.reader(labels)
    if label and label not in reader.labels:
        try:
            reader = reader.asked((*reader.labels, label))
        except ValueError as error:  # the edit does not depend on it
            print(f"{error}. So how likely it finds that is not printed")
    known = reader.labels
    picture = from_file(model.config.size, photo)[None]
    before = logits_of(reader, picture)[0]
    sure = float(before.softmax(0).max())
    held = sure >= (model.config.gate if gate is None else gate)
    edited = picture if held else model.edit(picture, seed, strength, steps).cpu()
    after = logits_of(reader, edited)[0]
    save_png(to_pil(edited[0]), output)
    if held:
        print(f"left as it is: the classifier is {sure:.0%} sure")
    readings = {"before": before, "after": after} | ({"both": (before + after) / 2} if ensemble else {})
    for name, logits in readings.items():
        chances = logits.softmax(0)
        best = chances.topk(min(3, len(known)))
        said = [f"{known[number]} {share:.1%}" for share, number in zip(*(one.tolist() for one in best), strict=True)]
        said += [f"({label} {chances[known.index(label)]:.1%})"] if label in known else []
        print(f"{name}: {'  '.join(said)}")
    print(f"wrote {output}")


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
    report: bool = True,
    weights: str = "",
) -> None:
    """Make a material of photos of a flat surface, one or more, for glTF, MaterialX, USD and any renderer.

        hubmodels pbr photo1.jpg photo2.jpg photo3.jpg -o material/ --size 2048

    Albedo, roughness, metallic, normal, height and occlusion come as PNG, and report.html shows them. Photos that were
    not taken straight from above need the corners of one and the same rectangle on the surface, for each photo, in
    pixels of the photo held upright: top-left, top-right, bottom-right, bottom-left.

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
        report: Also write report.html, with previews under several lights and each photo beside what the maps make of
            it: some seconds.
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
    from hubmodels.neuropbr.export import is_ours_to_fill
    from hubmodels.neuropbr.material import make_material
    from hubmodels.neuropbr.model import NeuroPBR
    from hubmodels.neuropbr.predict import outlined, read_photo

    if not is_ours_to_fill(output):  # before the seconds that reading takes
        raise FileExistsError(f"{output} is not a material that was saved here: name a folder that does not exist")
    pictures = [read_photo(file) for file in photos]
    outlines = [outlined(*one) for one in zip(pictures, points, photos, strict=False)]
    made = make_material(
        NeuroPBR.from_pretrained(weights or released("neuropbr")),
        pictures,
        output,
        torch.stack(outlines) if corners else None,
        size,
        aspect,
        normal,
        tile,
        refine,
        physical_size,
        credit,
        [file.name for file in photos],
        report,
        lambda steps, what: tqdm(steps, what),
    )
    if made.gain:
        before, after = made.gain
        print(f"the photos, shaded again: {before:.1f} dB before refining, {after:.1f} dB after")
    print("\n".join(f"wrote {output / file.name}" for file in made.files))
    for file, comparison in zip(photos, made.comparisons, strict=False):
        print(f"{file.name}: {comparison.verdict}")
    for finding in made.findings:
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
def scene(
    caption: Positional[str],
    output: Output = Path("scene.png"),
    temperature: Annotated[float, arg(aliases=["-t"])] = 0.9,
    top_k: Annotated[int, arg(aliases=["-k"])] = 100,
    top_p: float = 1.0,
    guidance: float = 2.0,
    rounds: int = 12,
    n: Annotated[int, arg(aliases=["-n"])] = 1,
    seed: int | None = None,
    size: str = "",
    palette: str = "",
    edit: Path | None = None,
    mask: str = "",
    outpaint: str = "",
    tile: Literal["", "x"] = "",
    variations: int = 0,
    strength: float = 0.4,
    scale: int = 1,
    export: tuple[Literal["gpl", "hex", "pal", "act", "aseprite", "lbm"], ...] = (),
    backend: Literal["auto", "torch", "mlx"] = "auto",
    vqgan: str = "",
    prior: str = "",
) -> None:
    """Draw a pixel-art background of the VGA era, or go on with one.

        hubmodels scene "A spooky mansion on a cliff at night" -o mansion.png -t 0.9 -k 100 -n 4 --seed 3
        hubmodels scene "a fireplace" --edit room.png --mask 40,60,120,80 -o out.png
        hubmodels scene "a beach by day" --edit beach.png --outpaint right=160 -o wide.png

    Pictures are index PNG files in exactly their palette; they say their caption, seed and weights (`.text` in Pillow).

    Args:
        caption: What is to be seen; of a picture that is edited, in the part that is drawn anew.
        output: PNG to write; of several pictures NAME-1.png and so on, and NAME-sheet.png with all of them.
        temperature: Of the draw: 0 takes the likeliest, above 1 is wilder.
        top_k: Draw from so many of the likeliest only; 0 is all.
        top_p: Draw from the likeliest that together have so much.
        guidance: How much the words count; 1 is as in training.
        rounds: In which a picture is drawn: more are slower and finer.
        n: Number of pictures, new ones or edits; number i is what --seed and i - 1 more draws alone.
        seed: Of the draw, the same on every backend; a random one if left out, which is printed.
        size: "320x200", multiples of 8 (or 16) pixels; the network's own if left out.
        palette: ega, cga, pico8, c64, vga or a file: .gpl, .hex, .pal, .act, .png. One that fits is drawn if left out.
        edit: Picture to go on with; it keeps its palette and all pixels that are not asked for.
        mask: Of --edit: "left,top,width,height" in pixels, or a picture that is white where to draw anew.
        outpaint: Of --edit: pixels to add, "right=160" or "left=80,right=80,top=40".
        tile: "x" makes left and right edges meet, of a new picture or of --edit; 32 columns around them are drawn anew.
        variations: Of --edit: so many pictures like it, instead of --n.
        strength: Of --variations: share of the picture that is forgotten, above 0 and at most 1.
        scale: Also write NAME-x3.png, every pixel so many times as large, 2 to 6.
        export: Also write the palette, a sprite for Aseprite, or a picture for Deluxe Paint and GrafX2 whose colour
            ramps can be cycled, beside each picture.
        backend: Library to compute with; auto is mlx on Apple silicon and torch elsewhere.
        vqgan: Tokenizer, a folder or Hub repository; the released weights if left out.
        prior: Transformer, likewise.
    """
    import random

    from hubmodels.hub import released
    from hubmodels.images import save_png
    from hubmodels.pixelscene import files, palettes
    from hubmodels.pixelscene import scene as pixelscene
    from hubmodels.pixelscene.sampling import Sampling

    asked = [name for name, value in (("mask", mask), ("outpaint", outpaint), ("variations", variations)) if value]
    if len(asked) + bool(tile) > 1:
        raise ValueError("--mask, --outpaint, --variations and --tile are different things to ask for: choose one")
    if asked and edit is None:
        raise ValueError(f"--{asked[0]} wants --edit PICTURE")
    if edit is not None and not asked and not tile:
        raise ValueError("--edit wants one of --mask, --outpaint, --variations and --tile")
    if edit is not None and (palette or size):
        raise ValueError("a picture that is edited keeps its palette and its size: leave out --palette and --size")
    if not (1 <= n <= 64 and 0 <= variations <= 64 and 1 <= scale <= 6):
        raise ValueError("--n goes from 1 to 64, --variations from 0 to 64 and --scale from 1 to 6")
    if variations and n > 1:
        raise ValueError("--variations says how many pictures are made: leave out --n")
    if output.suffix.lower() != ".png":
        raise ValueError(f"pictures are saved as PNG, so the name must end in .png, got {output.name!r}")
    if not output.parent.is_dir():
        raise ValueError(f"there is no folder {output.parent} to write to: make it first")
    if variations and not 0 < strength <= 1:
        raise ValueError(f"--strength is above 0 and at most 1, got {strength}")
    colours = palettes.named(palette) if palette else None
    picture = None if edit is None else files.read(edit)
    marked = files.mask(mask, picture[0].shape) if mask and picture else None
    sides = _sides(outpaint) if outpaint else {}
    wanted = _pair(size, "x", "--size") if size else None
    seed = random.SystemRandom().randrange(2**31) if seed is None else seed
    how = Sampling(temperature, top_k, top_p, guidance, rounds, seed)
    print(f"seed {seed}")
    pair = pixelscene.loaded(
        vqgan or released("pixelscene-vqgan", "VQGAN"), prior or released("pixelscene", "PRIOR"), backend
    )
    from tqdm import tqdm

    warning = pixelscene.not_read(pair, caption)
    if warning:
        print(warning, file=sys.stderr)
    made: list[pixelscene.Picture] = []
    count = variations or n

    def progress(steps: Sequence) -> Iterable:
        return tqdm(steps, f"drawing {len(made) + 1} of {count}", leave=False)

    def work(how: Sampling, some: int) -> list[pixelscene.Picture]:
        """Pictures of a seed and those after it."""
        if picture is None and not tile:
            return pixelscene.draw(pair, [caption] * some, wanted or pair.size, colours, how, progress)
        if variations and picture is not None:
            return pixelscene.vary(pair, picture, caption, some, strength, how, progress)
        return [one_by_one(replace(how, seed=how.seed + number)) for number in range(some)]

    def one_by_one(how: Sampling) -> pixelscene.Picture:
        if marked is not None and picture is not None:
            return pixelscene.edit(pair, picture, caption, marked, how, progress)
        if sides and picture is not None:
            return pixelscene.outpaint(pair, picture, caption, **sides, how=how, progress=progress)
        whole = picture or pixelscene.draw(pair, [caption], wanted or pair.size, colours, how, progress)[0]
        return pixelscene.tile(pair, whole, caption, how, progress)

    while len(made) < count:  # what is made is written before the next are begun
        new = work(replace(how, seed=seed + len(made)), min(pixelscene.AT_ONCE, count - len(made)))
        for number, one in enumerate(new, len(made) + 1):
            path = output if count == 1 else output.with_stem(f"{output.stem}-{number}")
            about = {"caption": caption, "seed": str(seed + number - 1), "weights": pair.digest}
            for written in _written(one, path, about, scale, export):
                print(f"wrote {written}")
        made += new
    if count > 1:
        sheet = output.with_stem(f"{output.stem}-sheet")
        save_png(files.contact_sheet(made, [f"{number}" for number in range(1, count + 1)], min(4, count)), sheet)
        print(f"wrote {sheet}")


def _written(picture: tuple, path: Path, about: dict[str, str], scale: int, export: Sequence[str]) -> Iterator[Path]:
    """Writes a picture, enlarged and exported as is asked for, and says what."""
    from hubmodels.images import save
    from hubmodels.pixelscene import files, palettes

    indices, palette = picture
    sprites = {"aseprite": files.aseprite, "lbm": files.lbm}
    save(path, files.png(indices, palette, about))
    yield path
    if scale > 1:
        large = path.with_stem(f"{path.stem}-x{scale}")
        save(large, files.png(files.enlarged(indices, scale), palette, about))
        yield large
    for kind in export:
        beside = path.with_suffix(f".{kind}")
        if kind in sprites:
            save(beside, sprites[kind](indices, palette, about["caption"][:60]))
        else:
            palettes.write(beside, palette, about["caption"])
        yield beside


def _pair(said: str, between: str, option: str) -> tuple[int, int]:
    """Two whole numbers of "320x200"."""
    try:
        first, second = (int(number) for number in said.lower().split(between))
    except ValueError:
        raise ValueError(f'{option} looks like "320{between}200", got "{said}"') from None
    return first, second


def _sides(said: str) -> dict[str, int]:
    """Pixels by side of "right=160,top=40"."""
    try:
        sides = {name.strip(): int(pixels) for name, pixels in (part.split("=") for part in said.split(","))}
    except ValueError:
        sides = {"": 0}
    if not sides.keys() <= {"left", "right", "top", "bottom"}:
        raise ValueError(f'--outpaint looks like "right=160" or "left=80,top=40", got "{said}"')
    return sides


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
