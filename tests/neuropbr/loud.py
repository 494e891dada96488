"""A small network whose maps show all that goes in."""

import torch

from hubmodels.neuropbr.model import NeuroPBR, NeuroPBRConfig

TINY = NeuroPBRConfig(channels=8, growth=1.5, levels=3, summary=16, heads=2, depth=1, tokens=2)


def network(config: NeuroPBRConfig = TINY, scale: float = 0.2) -> NeuroPBR:
    """With weights loud enough that nothing is as it was at the start."""
    torch.manual_seed(0)
    model = NeuroPBR(config).eval()
    with torch.no_grad():
        for name, one in model.named_parameters():
            if one.ndim > 1 and not one.any() or name.startswith("decoder.head"):
                one.normal_(0, scale)
    return model
