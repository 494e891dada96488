"""Train `neuropbr`: photos of a surface go in, the maps of its material come out.

    accelerate launch train_scripts/neuropbr.py --run.out runs/neuropbr
    accelerate launch train_scripts/neuropbr.py --resume runs/neuropbr      # goes on where it stopped

Materials are made up and photographed on the spot. LOG.md has the runs.
"""

import sys
from dataclasses import dataclass, field

import torch
import tyro
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from hubmodels.images import from_unit, grid, to_unit
from hubmodels.neuropbr.data import MAPS, Batch, Photographed
from hubmodels.neuropbr.lights import rendering_configurations
from hubmodels.neuropbr.losses import absolute, angular, balanced, dissimilar, rerendered
from hubmodels.neuropbr.model import Maps, NeuroPBR, NeuroPBRConfig, average
from hubmodels.neuropbr.report import quick
from hubmodels.training import Run, RunConfig, resumed, schedules
from hubmodels.training.decay import decay_groups


@dataclass(frozen=True)
class Config:
    """Learn to read materials off photos."""

    rows: int = 1_000_000
    """Different crops of materials to train on."""
    size: int = 128
    """Side of a crop in pixels."""
    views: int = 3
    """Photos of a crop, at most; each crop has from one up to these."""
    dirty: float = 0.25
    """Share of the crops that are photographed with shadows, smudges and scratches."""
    workers: int = 1
    """Processes that make crops and photograph them; it takes about as long as a step."""
    lr: float = 1e-3
    """Peak of the one-cycle schedule."""
    warmup: float = 0.05
    """Share of the steps in which the rate rises."""
    weight_decay: float = 0.01
    """On matrices only."""
    w_albedo: float = 1.0
    w_roughness: float = 1.0
    w_metallic: float = 1.0
    w_normal_map: float = 1.0
    """Weights of the mean absolute differences; that of metallic counts metal and the rest alike."""
    w_ssim: float = 0.3
    """Weight of 1 - SSIM of albedo."""
    w_normal: float = 0.5
    """Weight of 1 - cos of the angle between normals."""
    w_render: float = 1.0
    """Weight of the difference of log radiance under random and mirrored lights."""
    free: int = 1
    mirrored: int = 2
    """Lights of either kind in each step."""
    evaluate_every: int = 500
    evaluate_on: int = 48
    """Validation crops that are compared each time."""
    resume: str = ""
    """Folder of a run to go on with; its own settings are used."""
    model: NeuroPBRConfig = field(default_factory=NeuroPBRConfig)
    run: RunConfig = field(
        default_factory=lambda: RunConfig(out="runs/neuropbr", steps=6000, batch_size=6, save_every=250)
    )


def main(config: Config) -> None:
    run = Run(config.run, config)
    seed = config.run.seed
    crops = Photographed(config.rows, seed, config.size, config.views, config.dirty)
    batches = DataLoader(crops, config.run.batch_size, shuffle=True, num_workers=config.workers, drop_last=True)
    unseen = Photographed(config.evaluate_on, seed + 1, config.size, config.views, config.dirty, "validation")
    held_back = default_collate([unseen[row] for row in range(config.evaluate_on)])
    model = NeuroPBR(config.model)
    optimizer = torch.optim.AdamW(decay_groups(model, config.weight_decay), config.lr, betas=(0.9, 0.98))
    schedule = schedules.one_cycle(optimizer, config.run.steps, int(config.warmup * config.run.steps))
    model, optimizer, schedule, batches = run.prepare(model, optimizer, schedule, batches)

    for batch in run.batches(batches):
        with run.accumulate(model):
            terms = losses(config, model(batch["views"], valid=batch["seen"]), batch, seed + run.step)
            run.descend(terms, optimizer)
        run.log(**terms)
        if run.every(config.evaluate_every):
            with run.averaged(model) as network:
                scores = quick(network, held_back)
                run.log_images("samples", sheet(network, held_back))
            run.log(**scores)
            run.score(scores["rerender_psnr"])
    run.export(model)


def losses(config: Config, made: Maps, batch: Batch, seed: int) -> dict[str, Tensor]:
    """The weighted terms of the loss."""
    draw = torch.Generator().manual_seed(seed)
    seen = rendering_configurations(draw, len(batch["albedo"]), config.free, config.mirrored)
    device = batch["albedo"].device
    return {
        "albedo": config.w_albedo * absolute(made["albedo"], batch["albedo"]),
        "roughness": config.w_roughness * absolute(made["roughness"], batch["roughness"]),
        "metallic": config.w_metallic * balanced(made["metallic"], batch["metallic"]),
        "normal_map": config.w_normal_map * absolute(made["normal"], batch["normal"]),
        "ssim": config.w_ssim * dissimilar(made["albedo"], batch["albedo"]),
        "normal": config.w_normal * angular(made["normal"], batch["normal"]),
        "render": config.w_render
        * rerendered(made, batch, [(light.to(device), eye.to(device)) for light, eye in seen]),
    }


def sheet(network: NeuroPBR, batch: Batch) -> Tensor:
    """(3, H, W): a row for each of eight crops: its average photo, then each map, true beside made."""
    few = {name: part[:8] for name, part in batch.items()}
    made = network(few["views"], valid=few["seen"])
    cells = [from_unit(average(few["views"], few["seen"]))]
    for name in MAPS:
        for maps in (few, made):
            one = maps[name] if name == "normal" else from_unit(maps[name])
            cells.append(one.expand(-1, 3, -1, -1))
    return to_unit(grid(torch.stack(cells, 1).flatten(0, 1), len(cells)))


if __name__ == "__main__":
    try:
        main(resumed(tyro.cli(Config, description=__doc__)))
    except OSError as error:  # a full disk
        sys.exit(f"neuropbr: {' '.join(str(error).split())}")
