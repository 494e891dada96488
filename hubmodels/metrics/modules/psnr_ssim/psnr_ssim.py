"""PSNR and SSIM of pictures, for `evaluate.load` with this folder's path or the name of its Space.

No `import a, b`: `evaluate` finds out with a regular expression what a module needs, and would read "a,".
"""

import datasets
import evaluate
import torch

from hubmodels.images import from_pil, to_unit
from hubmodels.metrics import psnr, ssim

DESCRIPTION = """\
Peak signal-to-noise ratio (dB, peak 1) and structural similarity (Gaussian window of sigma 1.5, population
covariance, borders left out; equal to scikit-image's) of sRGB pictures, one by one, and their means.
"""

INPUTS = """\
Args:
    predictions: pictures, as PIL images or uint8 arrays (H, W, 3).
    references: what they should be, each of the size of its prediction.

Returns:
    psnr, ssim: means over the pictures; psnr is infinite if a prediction equals its reference.
    psnr_of_each, ssim_of_each: lists, in order.
"""

CITATION = """\
@article{wang2004image,
  title={Image quality assessment: from error visibility to structural similarity},
  author={Wang, Zhou and Bovik, Alan C. and Sheikh, Hamid R. and Simoncelli, Eero P.},
  journal={IEEE Transactions on Image Processing}, volume={13}, number={4}, pages={600--612}, year={2004}
}
"""


class PsnrSsim(evaluate.Metric):
    """The two numbers that everyone reports, computed as scikit-image would."""

    def _info(self) -> evaluate.MetricInfo:
        picture = datasets.Image()
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": picture, "references": picture}),
        )

    def _compute(self, predictions: list, references: list) -> dict[str, float | list[float]]:
        of_each: dict[str, list[float]] = {"psnr": [], "ssim": []}
        for number, pair in enumerate(zip(predictions, references, strict=True)):
            if pair[0].size != pair[1].size:
                raise ValueError(f"picture {number} has {pair[0].size} pixels, its reference {pair[1].size}")
            prediction, reference = (to_unit(from_pil(image))[None] for image in pair)
            of_each["psnr"].append(psnr(prediction, reference).item())
            of_each["ssim"].append(ssim(prediction, reference).item())
        means = {name: torch.tensor(values).mean().item() for name, values in of_each.items()}
        return means | {f"{name}_of_each": values for name, values in of_each.items()}
