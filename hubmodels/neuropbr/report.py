"""What maps are worth, beside what one would have without a network."""

import torch
import torch.nn.functional as F
from torch import Tensor

from hubmodels.images import linear_to_srgb
from hubmodels.metrics import psnr
from hubmodels.neuropbr.data import Batch
from hubmodels.neuropbr.lights import Lights, unseen
from hubmodels.neuropbr.model import Maps, NeuroPBR, average
from hubmodels.neuropbr.shading import shade

EYE = (0.0, 0.0, 3.0)
METAL = 0.5


def relit(maps: Maps, light: Lights) -> Tensor:
    """(B, 3, H, W) sRGB pictures of maps under a light, seen from straight above."""
    radiance = shade(maps, light.to(maps["albedo"].device), maps["albedo"].new_tensor(EYE)[None])
    return linear_to_srgb(radiance.clamp(0, 1))


def rerender_psnr(made: Maps, true: Maps) -> Tensor:
    """(B,) PSNR in dB of pictures under lights that no photo and no training had, over all of them together."""
    lights = unseen(8)
    errors = [1 / 10 ** (psnr(relit(made, lights[i]), relit(true, lights[i])) / 10) for i in range(len(lights))]
    return -10 * torch.stack(errors).mean(0).clamp(min=1e-10).log10()


def angles(made: Tensor, true: Tensor) -> Tensor:
    """(B, H, W) degrees between normals."""
    return torch.rad2deg((made * true).sum(1).clamp(-1, 1).acos())


def balanced_accuracy(made: Tensor, true: Tensor) -> float:
    """Mean of the shares of metal and of other pixels that are told right, over a whole set; 0.5 is a coin."""
    metal = true > METAL
    told = made > METAL
    shares = [(told == metal)[side].float().mean() for side in (metal, ~metal) if side.any()]
    return float(torch.stack(shares).mean())


def without_a_network(batch: Batch) -> Maps:
    """What the rectified photos alone give: their mean as albedo, flat, half rough, no metal."""
    photo = average(batch["views"], batch["seen"])
    flat = torch.zeros_like(photo)
    flat[:, 2] = 1
    half = torch.full_like(photo[:, :1], 0.5)
    return {"albedo": photo, "roughness": half, "metallic": torch.zeros_like(half), "normal": flat}


@torch.no_grad()
def scores(made: Maps, true: Maps) -> dict[str, float]:
    """Means over a batch."""
    return {
        "rerender_psnr": float(rerender_psnr(made, true).mean()),
        "albedo_mae": float(F.l1_loss(made["albedo"], true["albedo"])),
        "roughness_mae": float(F.l1_loss(made["roughness"], true["roughness"])),
        "metallic_balanced_accuracy": balanced_accuracy(made["metallic"], true["metallic"]),
        "normal_degrees": float(angles(made["normal"], true["normal"]).mean()),
    }


def quick(network: NeuroPBR, batch: Batch) -> dict[str, float]:
    """The scores that choose between checkpoints, and how much better they are than without a network."""
    made = network(batch["views"], valid=batch["seen"])
    ours, none = scores(made, batch), scores(without_a_network(batch), batch)
    return ours | {
        "gain": ours["rerender_psnr"] - none["rerender_psnr"],
        "degrees_of_flat": ours["normal_degrees"] / max(none["normal_degrees"], 1e-6),
    }
