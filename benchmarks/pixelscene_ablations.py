"""What each choice in the tokenizer is worth: short runs that differ in one thing, at equal steps.

    python -m benchmarks.pixelscene_ablations --data data/vga data/vga-games

What is finished is not done again, so the command can be stopped, and be given more `--seeds` later. The table is also
written to OUT/ablations.md.
"""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from statistics import mean, stdev

import tyro

from hubmodels.training.checkpoint import steps_in

SCRIPT = Path(__file__).parents[1] / "train_scripts/pixelscene_vqgan.py"
VARIANTS = {
    "pointer, FSQ, stride 8": (),
    "nearest colour instead of the pointer": ("--model.head", "nearest"),
    "regression of colours, then a snap": (
        *("--model.head", "nearest", "--loss.palette", "0", "--loss.expected", "0", "--loss.contrast", "0"),
    ),
    "VQ instead of FSQ": ("--model.quantizer", "vq", "--model.codes", "1920"),
    "1,000 codes instead of 1,920": ("--model.levels", "8,5,5,5"),
    "stride 16": ("--model.stride", "16"),
}
SCORES = {
    "psnr": "PSNR, dB",
    "index_accuracy": "exact pixels, %",
    "delta_e": "ΔE",
    "edges": "edges",
    "dither": "dither",
    "usage": "codes in use, %",
}
EVALUATED = 64
SAID = """\
After {steps} steps of 8 crops of {size} pixels, on {pictures} validation pictures, means of {seeds} runs, whose seeds
differ; after ± how far their PSNR is apart. The released tokenizer learned longer, from larger crops.

"""


@dataclass(frozen=True)
class Config:
    """Train each variant of the tokenizer for a few steps."""

    data: tuple[str, ...] = ("data/vga",)
    """As for the training script."""
    out: Path = Path("runs/ablations")
    steps: int = 600
    size: int = 64
    """Side of a crop."""
    seeds: int = 2
    """Runs of each variant."""
    jobs: int = 2
    """Runs at a time, each on one core."""


def main(config: Config) -> None:
    runs = [(name, seed) for seed in range(config.seeds) for name in VARIANTS]
    with ThreadPoolExecutor(config.jobs) as pool:
        for (name, seed), scores in zip(runs, pool.map(lambda run: trained(config, *run), runs), strict=True):
            print(f"{name}, seed {seed}: {scores['psnr']:.2f} dB", file=sys.stderr)
    rows = {name: [found(folder(config, name, seed)) for seed in range(config.seeds)] for name in VARIANTS}
    said = SAID.format(steps=config.steps, size=config.size, pictures=EVALUATED, seeds=config.seeds) + tabulated(rows)
    (config.out / "ablations.md").write_text(said + "\n")
    print(said)


def options(config: Config, name: str, seed: int) -> tuple[str, ...]:
    """Of the training script, for one run."""
    return (
        *("--data", *config.data, *VARIANTS[name], "--size", str(config.size), "--workers", "0"),
        *("--evaluate-every", str(config.steps), "--evaluate-on", str(EVALUATED)),
        *("--run.steps", str(config.steps), "--run.seed", str(seed), "--run.threads", "1"),
    )


def folder(config: Config, name: str, seed: int) -> Path:
    """Another one for other options or data, so that their runs do not share a table."""
    built = [file.read_text() for data in config.data if (file := Path(data) / "build.json").is_file()]
    return config.out / blake2b(repr((options(config, name, seed), built)).encode(), digest_size=6).hexdigest()


def trained(config: Config, name: str, seed: int) -> dict[str, float]:
    """Scores of a run, which is done unless it is there."""
    out = folder(config, name, seed)
    if not (out / "export").is_dir():
        begun = bool(steps_in(out / "checkpoints"))
        new = (*options(config, name, seed), "--run.out", str(out))
        command = [sys.executable, str(SCRIPT), *(("--resume", str(out)) if begun else new)]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise OSError(f"{name}: {done.stderr.splitlines()[-1]}")
    return found(out)


def found(out: Path) -> dict[str, float]:
    """The last scores of a run, on validation pictures."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return {name: line[name] for line in lines if "psnr" in line for name in SCORES}


def tabulated(scores: dict[str, list[dict[str, float]]]) -> str:
    """Means over seeds as Markdown, and of the PSNR how far seeds are apart."""
    lines = ["| | " + " | ".join(SCORES.values()) + " |", "|---" * (len(SCORES) + 1) + "|"]
    for name, rows in scores.items():
        means = {score: mean(row[score] for row in rows) for score in SCORES}
        apart = f" ± {stdev(row['psnr'] for row in rows):.2f}" if len(rows) > 1 else ""
        cells = [f"{means['psnr']:.2f}{apart}", f"{100 * means['index_accuracy']:.1f}"]
        cells += [*(f"{means[score]:.2f}" for score in ("delta_e", "edges", "dither")), f"{100 * means['usage']:.0f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        main(tyro.cli(Config, description=__doc__))
    except OSError as error:
        sys.exit(f"pixelscene_ablations: {error}")
