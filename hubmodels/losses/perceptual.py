"""A perceptual loss without a download: features of a convolutional network that is random and stays so.

Random filters already see edges and textures at several scales. Source: Johnson et al. 2016 (the loss, arXiv
1603.08155, equation 2), He et al. 2016 (random weights instead of VGG's, arXiv 1606.04801).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hubmodels.images import to_unit


def random_features(seed: int) -> nn.ModuleList:
    """Frozen 3 x 3 convolutions 3 -> 16 -> 32 -> 64 with strides 1, 2, 2.

    The same weights for the same seed; the global random state is neither read nor moved.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = nn.ModuleList()
    for inputs, outputs, stride in ((3, 16, 1), (16, 32, 2), (32, 64, 2)):
        # the layer initialises itself first, out of the global state
        with torch.random.fork_rng(devices=[]):
            layer = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        layers.append(layer)
    return layers.requires_grad_(False)


def perceptual(features: nn.ModuleList, prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of the activations, summed over the layers.

    Args:
        features: `random_features`, on the device of the pictures.
        prediction: (B, 3, H, W) in [-1, 1].
        target: (B, 3, H, W) in [-1, 1].
    """
    ours, theirs = to_unit(prediction), to_unit(target)
    total = prediction.new_zeros(())
    for layer in features:
        ours, theirs = F.relu(layer(ours)), F.relu(layer(theirs))
        total = total + F.mse_loss(ours, theirs)
    return total
